"""The kinds of components that have names, with one mechanism for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from attention_core.components.bias import Bias
from attention_core.hookspecs import BiasSpec, NormalizerSpec, ScorerSpec, Spec
from attention_core.normalizing.normalizer import Normalizer
from attention_core.registry.infos import BiasInfo, Info, NormalizerInfo, ScorerInfo
from attention_core.scoring.scorer import Scorer

__all__ = ["BIAS", "KINDS", "NORMALIZER", "SCORER", "Kind", "kind_of"]


T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Kind(Generic[T]):
    """A kind of component; each has a name space of its own."""

    name: str
    """Its name in errors."""
    hook: str
    """The hook by which plugins offer components."""
    spec: type[Spec]
    """The class of the descriptions that the hook yields."""
    info: type[Info]
    """The class of descriptions of components that are not made yet."""
    base: Any
    """The class that a component is an instance of."""

    def __str__(self) -> str:
        return self.name

    @property
    def plural(self) -> str:
        """The plural of the name."""
        return f"{self.name}es" if self.name.endswith("s") else f"{self.name}s"

    def __reduce__(self) -> Any:  # copies and pickles are the same object
        return _named, (self.name,)


SCORER = Kind[Scorer]("scorer", "attention_core_scorers", ScorerSpec, ScorerInfo, Scorer)

NORMALIZER = Kind[Normalizer](
    "normalizer", "attention_core_normalizers", NormalizerSpec, NormalizerInfo, Normalizer
)

BIAS = Kind[Bias]("bias", "attention_core_biases", BiasSpec, BiasInfo, Bias)

KINDS: list[Kind[Any]] = [SCORER, NORMALIZER, BIAS]
"""Every kind. A new one needs a line here, a spec and a hook in `hookspecs`, and functions."""


def _named(name: str) -> Kind[Any]:
    return next(kind for kind in KINDS if kind.name == name)


def kind_of(spec: object) -> Kind[Any]:
    """The kind of component that an object describes; scorer for any other object."""
    return next((kind for kind in KINDS if isinstance(spec, kind.spec)), SCORER)
