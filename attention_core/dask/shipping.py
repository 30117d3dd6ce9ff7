"""Scorers and functions sent to workers, which may lack the packages they come from."""

from __future__ import annotations

from typing import Any

import cloudpickle

from attention_core.components.component import Component
from attention_core.errors import PluginError, UnknownScorerError, said
from attention_core.registry.default import default_registry
from attention_core.registry.kinds import KINDS

__all__ = ["Shipped"]


class Shipped:
    """An object as bytes, which a worker unpickles when a task needs it.

    A worker that cannot do so raises an error that says what is missing and where.

    Parameters
    ----------
    what
        Its name in messages, such as ``"mask"``; a component names itself.
    value
        Anything that cloudpickle can write, including functions and classes of a notebook.

    Examples
    --------
    >>> Shipped("mask", lambda i, j: j <= i).value(1, 2)
    False
    """

    def __init__(self, what: str, value: Any) -> None:
        component = getattr(value, "bias", value)
        self._origin: Any = None
        self._kind = ""
        if isinstance(component, Component):
            what, self._kind, self._origin = str(component), component.kind, component.origin
        self._what, self._bytes = what, cloudpickle.dumps(value)

    @property
    def value(self) -> Any:
        """The object, unpickled once in each process.

        Raises
        ------
        UnknownScorerError
            On a worker that does not have the plugin, with the worker's address.
        PluginError
            On a worker that lacks another module, or has another version of it.
        """
        if "_value" not in self.__dict__:
            self._value = self._opened()
        return self._value

    def __getstate__(self) -> dict[str, Any]:
        """The state without the unpickled object, which is in the bytes."""
        return {name: own for name, own in self.__dict__.items() if name != "_value"}

    def _opened(self) -> Any:
        try:
            return cloudpickle.loads(self._bytes)
        except (ImportError, AttributeError) as error:
            place = _place()
            kind = next((kind for kind in KINDS if kind.name == self._kind), None)
            if kind is not None and self._origin is not None:
                try:
                    default_registry().of(kind).parameters(self._origin.name)
                except UnknownScorerError as unknown:
                    raise UnknownScorerError(
                        f"on {place}: {unknown}\n  it was sent as {self._what}; install it there"
                    ) from error
            raise PluginError(
                f"on {place}: cannot load the {self._what}: {said(error)}; install the same "
                f"packages on every worker"
            ) from error


def _place() -> str:
    """The worker that runs the task."""
    try:
        from distributed import get_worker  # other schedulers work without it

        return f"worker {get_worker().address}"
    except (ImportError, ValueError):
        return "this machine"
