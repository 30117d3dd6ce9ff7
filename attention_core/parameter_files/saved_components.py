"""Make the components of a file, which must have the arrays that the file holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attention_core.components.component import Component
from attention_core.errors import (
    AttentionCoreError,
    DTypeError,
    OptionError,
    OptionTypeError,
    ParameterFileError,
    ScorerConfigError,
    ScorerLookupError,
    ShapeError,
    listed,
    printable,
    shown,
)
from attention_core.registry.kinds import SCORER, Kind
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

if TYPE_CHECKING:
    from attention_core.registry.registry import Registry

__all__ = ["SavedComponents", "ScorerMaker"]

T = TypeVar("T", bound=Component)

ScorerMaker = str | Callable[..., Scorer]
"""A registered name, or a class or function that makes a scorer from its arrays and settings."""


class SavedComponents:
    """The scorers and normalizers of one file, or of the layer in it."""

    def __init__(
        self,
        path: str | Path,
        registry: Registry | None,
        versions: Mapping[str, str],
        owner: str = "scorer",
    ) -> None:
        self.path = path
        self.subject = shown(str(path), 300)
        from attention_core.registry.default import registry_or_default  # arrays need no names

        self.registry = registry_or_default(registry)
        self.versions = versions
        self.owner = owner

    def make(
        self,
        kind: Kind[T],
        saved: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        read: Callable[[], dict[str, Array]],
        chosen: ScorerMaker | None = None,
    ) -> T:
        """Make a saved component, or the chosen one; arrays are read after their names are checked.

        Raises
        ------
        ParameterFileError
            For settings or arrays that do not fit the component.
        ScorerLookupError
            For a component that is not installed.
        OptionTypeError
            For anything but a name or a function, and a function that returns something else.
        """
        if not (chosen is None or isinstance(chosen, str) or callable(chosen)):
            raise OptionTypeError(
                f"{kind} must be a name, or a class or function that makes it from its arrays and "
                f"settings, got {shown(chosen)}"
            )
        names = self.registry.of(kind)
        settings = {name: value for name, value in saved.items() if name != "name"}
        try:
            if callable(chosen):
                made: Any = chosen(**settings, **read())
            else:
                name = self._name(kind, saved["name"] if chosen is None else chosen)
                given = {**settings, **shapes}
                problems = names.problems(name, given)
                if problems:
                    raise ScorerConfigError("\n".join(problems.values()))
                made = names.make(name, {**settings, **read()})
        except (ScorerConfigError, DTypeError, OptionError, ShapeError) as error:
            raise ParameterFileError(
                f"{self.subject} does not fit its {self.owner}: {error}"
            ) from error
        except AttentionCoreError:
            raise
        except Exception as error:  # a factory may raise anything
            raise ParameterFileError(
                f"{self.subject} does not fit its {self.owner}: {type(error).__name__}: "
                f"{printable(str(error), 300)}"
            ) from error
        if not isinstance(made, kind.base):
            raise OptionTypeError(
                f"{kind} must make an attention_core.{kind.base.__name__}, got {shown(made)}"
            )
        component: T = made
        found = {name: array.shape for name, array in component.parameters.items()}
        if found != dict(shapes):
            raise ParameterFileError(
                f"{self.subject} does not fit its {self.owner}: {made} has the arrays "
                f"{listed(found) or 'none'}, the file {listed(shapes) or 'none'}, or other shapes"
            )
        return component

    def _name(self, kind: Kind[Any], saved: str) -> str:
        """The current name of a saved component: the plain name, if it is unambiguous."""
        try:
            name: str = self.registry.of(kind).info(saved).name
            return name
        except ScorerLookupError as error:
            distribution = saved.partition("/")[0]
            version = self.versions.get(distribution)
            if version is None:
                raise
            raise type(error)(
                f"{error}\n  {self.subject} was saved with {shown(distribution)} "
                f"{printable(version)}; install it"
                + (", or choose another with scorer=" if kind is SCORER else "")
            ) from error
