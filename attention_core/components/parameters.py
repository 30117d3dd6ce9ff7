"""Parameters of objects: read, replaced, and written to configs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import to_numpy
from attention_core.errors import (
    AttentionCoreError,
    DTypeError,
    ScorerConfigError,
    ShapeError,
    did_you_mean,
    shown,
)
from attention_core.typing import Array

__all__ = ["Origin", "Parameterized", "about", "flattened"]


class Origin(NamedTuple):
    """The registered name of a component, the distribution that ships it, and its settings."""

    name: str
    distribution: str | None = None
    """The distribution; None when it was registered at run time."""
    version: str | None = None
    settings: Mapping[str, Any] | None = None
    """The parameters that it was made with; None after its arrays were replaced."""

    def __str__(self) -> str:
        if self.distribution is None:
            return repr(self.name)
        return f"{self.name!r} ({self.distribution} {self.version})"


class Parameterized(ABC):
    """Base of objects that arrays define: read and replaced by name or as one vector."""

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Array]:
        """The arrays, by name."""

    @abstractmethod
    def _replaced(self, parameters: Mapping[str, Array]) -> Self:
        """A copy with these arrays, whose names and shapes are checked."""

    @checked_arguments
    def with_parameters(self, parameters: Mapping[str, Array]) -> Self:
        """A copy with some arrays replaced by others of the same shape.

        Raises
        ------
        ScorerConfigError
            For a name it does not have, or a value that is not an array of the same shape.
        """
        present = self.parameters
        if not isinstance(parameters, Mapping):
            raise ScorerConfigError(
                f"{self}: parameters must be a mapping of arrays by name, got {shown(parameters)}"
            )
        for name, value in parameters.items():
            if name not in present:
                raise ScorerConfigError(
                    f"{self} has no parameter {name!r}{did_you_mean(name, present)}"
                    f"; it has: {', '.join(present) or 'none'}"
                )
            try:
                shape: Any = np.shape(value)
            except ValueError:
                shape = "nested lists of different lengths"
            if shape != present[name].shape:
                raise ScorerConfigError(
                    f"{self}: parameter {name!r} has shape {present[name].shape}, got {shape}"
                )
        return self._replaced(parameters)

    @property
    def parameter_vector(self) -> NDArray[np.float64]:
        """All parameters in one vector (n,), in order, for optimizers.

        Examples
        --------
        >>> import attention_core as ac
        >>> scorer = ac.make_scorer("general", weight=[[1.0, 2.0], [3.0, 4.0]])
        >>> scorer.parameter_vector
        array([1., 2., 3., 4.])
        >>> scorer.with_parameter_vector(2 * scorer.parameter_vector).weight
        array([[2., 4.],
               [6., 8.]])
        """
        return flattened(self.parameters)

    @checked_arguments
    def with_parameter_vector(self, vector: ArrayLike) -> Self:
        """A copy with all parameters replaced by the numbers of a vector (n,).

        Raises
        ------
        ScorerConfigError
            For a vector of another length, or of anything but real numbers.
        """
        present = self.parameters
        count = sum(array.size for array in present.values())
        try:
            numbers = to_numpy("the vector", vector)
        except (DTypeError, ShapeError) as error:
            raise ScorerConfigError(f"{self}: {error}") from None
        if numbers.dtype.kind not in "iubf" and numbers.dtype.name != "bfloat16":
            raise ScorerConfigError(
                f"{self} has real numbers in its parameters, got a vector of dtype {numbers.dtype}"
            )
        if numbers.shape != (count,):
            raise ScorerConfigError(
                f"{self} has {count} numbers in its parameters, got a vector of shape "
                f"{numbers.shape}"
            )
        changed, first = {}, 0
        for name, array in present.items():
            part = numbers[first : first + array.size]
            changed[name] = part.reshape(array.shape).astype(array.dtype)
            first += array.size
        return self.with_parameters(changed)


@contextmanager
def about(component: object) -> Iterator[None]:
    """Prepend the component to a `ValueError` about its parameters, except to our other errors."""
    try:
        yield
    except AttentionCoreError as error:
        if type(error) is not ScorerConfigError:
            raise
        raise ScorerConfigError(f"{component}: {error}") from error
    except ValueError as error:
        raise ScorerConfigError(f"{component}: {error}") from error


def flattened(arrays: Mapping[str, Array]) -> NDArray[np.float64]:
    """All numbers of some arrays in one vector (n,), in order."""
    parts = [array.astype(np.float64).reshape(-1) for array in arrays.values()]
    return np.concatenate([np.empty(0), *parts])
