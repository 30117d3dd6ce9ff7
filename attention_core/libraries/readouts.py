"""NumPy results whose fields are arrays of another library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from attention_core.arguments import checked_arguments
from attention_core.engine.gradients import Gradients
from attention_core.result import TopK

__all__ = ["Readouts"]


class Readouts(ABC):
    """Base of results of another library: fields that are computed on first access."""

    def __init__(self, result: Any) -> None:
        self._result = result

    @abstractmethod
    def _array(self, name: str, array: Any) -> Any:
        """Convert an array of the library to NumPy."""

    @abstractmethod
    def _converted(self, found: Any) -> Any:
        """Convert a NumPy array to the library, in its dtype."""

    def _field(self, found: Any) -> Any:
        """Convert a field of the result to the library."""
        return self._converted(found)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._result!r})"

    def numpy(self) -> Any:
        """The result with NumPy arrays, for plots and other uses that need them."""
        return self._result

    @cached_property
    def scores(self) -> Any:
        """The input of the normalizer, after softcap and bias; -inf where masked: (..., L, S)."""
        return self._field(self._result.scores)

    @cached_property
    def entropy(self) -> Any:
        """The entropy of each row of weights, in nats: (..., L)."""
        return self._field(self._result.entropy)

    @cached_property
    def key_mass(self) -> Any:
        """The weight each key receives from all queries: (..., S)."""
        return self._field(self._result.key_mass)

    @checked_arguments
    def rows(self, rows: slice | int) -> Any:
        """The weights of some queries: (..., l, S), or (..., S) for one query."""
        return self._field(self._result.rows(rows))

    @checked_arguments
    def top_k(self, n: int) -> TopK:
        """The n keys with the largest weights for each query, and these weights: (..., L, n)."""
        return TopK(*map(self._field, self._result.top_k(n)))

    def vjp(self, *grads: Any, **named: Any) -> Gradients:
        """Gradients as arrays of the library, from the `vjp` of the NumPy result."""
        arrays = [self._array("the gradient", grad) for grad in grads]
        by_name = {name: self._array(name, grad) for name, grad in named.items()}
        return Gradients(*map(self._gradient, self._result.vjp(*arrays, **by_name)))

    def _gradient(self, part: Any) -> Any:
        if isinstance(part, dict):
            return {name: self._converted(own) for name, own in part.items()}
        return None if part is None else self._converted(part)

    def _repr_html_(self) -> str:
        """The page of the result, for notebooks."""
        page: str = self._result._repr_html_()
        return page
