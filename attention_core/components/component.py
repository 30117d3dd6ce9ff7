"""The base of scorers, normalizers and biases, which their constructor arguments define."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np

from attention_core.components.markup import table
from attention_core.components.parameters import Origin, Parameterized, about
from attention_core.components.values import brief, is_plain, same_value, to_plain
from attention_core.errors import ScorerConfigError, ScorerContractError
from attention_core.typing import Array

__all__ = ["Component"]


class Component(Parameterized):
    """An object that its constructor arguments define, and that can be chosen by name.

    Arguments are stored as attributes of the same name; those that are arrays are the parameters.
    `parameters`, `with_parameters`, `to_config`, ``repr`` and ``==`` follow from that convention:
    components are equal if their classes and arguments are, arrays bit for bit. A class that cannot
    follow the convention overrides `parameters`, `with_parameters` and `to_config`; its instances
    are equal only to themselves.
    """

    kind: ClassVar[str]
    """The kind of the component in messages: scorer, normalizer or bias."""

    name: ClassVar[str | None] = None
    """The registered name, for components constructed directly and saved to a config."""

    _origin: Origin | None = None

    @property
    def origin(self) -> Origin | None:
        """Name, distribution and version of a component that was made by name; None for others."""
        return self._origin

    @property
    def parameters(self) -> dict[str, Array]:
        """The arrays that define this component, by name; empty if there are none."""
        return {
            name: value
            for name, value in self._arguments().items()
            if isinstance(value, np.ndarray)
        }

    def to_config(self) -> dict[str, Any]:
        """The mapping that makes this component again: its name and its parameters.

        The values are those of a JSON document; arrays are nested lists, exactly.

        Raises
        ------
        ScorerConfigError
            For a component that was constructed directly and whose class has no registered `name`.
        """
        name = self._origin.name if self._origin else self.name
        if name is None:
            raise ScorerConfigError(
                f"{self} was constructed directly and its class names no registered {self.kind}; "
                f"make it with make_{self.kind}(name, ...) or set {type(self).__name__}.name"
            )
        settings = self._origin.settings if self._origin else None
        if settings is None or not all(map(is_plain, settings.values())):
            settings = {k: v for k, v in self._arguments().items() if v is not None}
        return {"name": name, **{k: to_plain(v) for k, v in settings.items()}}

    def __str__(self) -> str:
        return f"{self.kind} {self._origin or type(self).__name__}"

    def __repr__(self) -> str:
        """The class and those arguments that differ from their defaults, arrays by shape."""
        kind = type(self)
        if not self._keeps_its_arguments():
            return f"{kind.__name__}(...)"
        given = [
            f"{name}={brief(value)}"
            for name, value in self._arguments().items()
            if not same_value(value, _signature(kind)[name].default)
        ]
        return f"{kind.__name__}({', '.join(given)})"

    def _repr_html_(self) -> str:
        """The name and the arguments, for notebooks."""
        arguments = self._arguments() if self._keeps_its_arguments() else {}
        return table(self, [(name, brief(value)) for name, value in arguments.items()])

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other) or not isinstance(other, Component):
            return NotImplemented
        if not (self._keeps_its_arguments() and other._keeps_its_arguments()):
            return False
        return same_value(self._arguments(), other._arguments())

    def __hash__(self) -> int:
        """Hash of the class and the shapes of arrays, which no write to an array changes."""
        if not self._keeps_its_arguments():
            return object.__hash__(self)
        shapes = ((k, v.shape) for k, v in self._arguments().items() if isinstance(v, np.ndarray))
        return hash((type(self), *shapes))

    def __dask_tokenize__(self) -> Any:
        """The class and the arguments, from which Dask names results in every process."""
        from dask.base import normalize_token  # the caller has imported it

        arguments = self._arguments() if self._keeps_its_arguments() else vars(self)
        return normalize_token((type(self), arguments))

    def _adopt(self, origin: Origin) -> None:
        object.__setattr__(self, "_origin", origin)  # frozen dataclasses are components too

    def _replaced(self, parameters: Mapping[str, Array]) -> Self:
        with about(self):
            changed = type(self)(**{**self._arguments(), **parameters})
        if self._origin is not None:
            origin = self._origin
            changed._adopt(Origin(origin.name, origin.distribution, origin.version))
        return changed

    def _keeps_its_arguments(self) -> bool:
        return all(hasattr(self, name) for name in _signature(type(self)))

    def _arguments(self) -> dict[str, Any]:
        """The constructor's arguments, read back from the attributes of the same name."""
        names = _signature(type(self))
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise ScorerContractError(
                f"{self} keeps no attribute {missing[0]!r} for its constructor argument; keep it, "
                f"or override parameters, with_parameters and to_config"
            )
        return {name: getattr(self, name) for name in names}


@lru_cache(maxsize=256)
def _signature(component: type[Component]) -> Mapping[str, inspect.Parameter]:
    """The constructor's parameters by name."""
    return {} if component.__init__ is object.__init__ else inspect.signature(component).parameters
