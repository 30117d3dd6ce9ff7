"""What the learned scorers share: checked parameter arrays and their first values."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core import ScorerConfigError

__all__ = ["Form", "choose_form", "glorot_uniform", "parameter", "project", "project_vjp"]


_FLOATS = ("float16", "bfloat16", "float32", "float64")


def parameter(scorer: str, name: str, value: ArrayLike, axes: str) -> NDArray[Any]:
    """A parameter as a floating-point array with one axis per letter group in `axes`.

    It is a copy, as scorers are pure: whoever gave it may go on writing to it.

    >>> parameter("general", "weight", [[1, 2]], "Dq, Dk")
    array([[1., 2.]])
    """
    try:
        array = np.array(value)
    except ValueError:
        raise ScorerConfigError(
            f"{scorer}: parameter {name!r} must be an array, got nested lists of different lengths"
        ) from None
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.name not in _FLOATS:  # of packages, too: bfloat16 is of kind V
        raise ScorerConfigError(
            f"{scorer}: parameter {name!r} must hold real numbers (float16, bfloat16, float32, "
            f"float64 or integers), got dtype {array.dtype}"
        )
    if array.ndim != len(axes.split(",")):
        raise ScorerConfigError(
            f"{scorer}: parameter {name!r} must have shape ({axes}), got shape {array.shape}"
        )
    return array


class Form(NamedTuple):
    """One way to give a scorer its parameters: what it needs, and what it may also take."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def __str__(self) -> str:
        *first, last = self.required
        text = f"{', '.join(first)} and {last}" if first else last
        return text + "".join(f" (and {name}, if you like)" for name in self.optional)


def choose_form(scorer: str, arguments: Mapping[str, Any], *forms: Form) -> dict[str, Any]:
    """The arguments that were given, when they make up exactly one of the forms.

    >>> choose_form("general", {"weight": 1, "rng": None}, Form(("weight",)))
    {'weight': 1}
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    for form in forms:
        if set(form.required) <= set(given) <= {*form.required, *form.optional}:
            for name in {"query_dim", "key_dim", "hidden_dim", "rank"} & set(given):
                if isinstance(given[name], bool) or not isinstance(given[name], Integral):
                    raise ScorerConfigError(
                        f"{scorer}: {name} must be an integer, got {given[name]!r}"
                    )
                if given[name] < 1:
                    raise ScorerConfigError(
                        f"{scorer}: {name} must be at least 1, got {given[name]!r}"
                    )
            return given
    raise ScorerConfigError(
        f"{scorer} is a learned scorer: give {', or '.join(map(str, forms))}; "
        f"got {', '.join(given) or 'nothing'}"
    )


def project(array: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """``array @ weight`` in the dtype of the array: (..., n, D), (D, H) -> (..., n, H).

    One product of all rows, which many batch items of few rows each are not for NumPy.
    """
    *outer, features = array.shape
    rows = array.reshape(prod(outer), features) @ weight.astype(array.dtype, copy=False)
    projected: NDArray[Any] = rows.reshape(*outer, weight.shape[-1])
    return projected


def project_vjp(
    array: NDArray[Any], weight: NDArray[Any], grad: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gradients through `project`, for array and weight: (..., n, D), (D, H), (..., n, H).

    >>> project_vjp(np.ones((2, 3)), np.ones((3, 1)), np.array([[1.0], [2.0]]))[1]
    array([[3.],
           [3.],
           [3.]])
    """
    count, (features, hidden) = prod(array.shape[:-1]), weight.shape
    grad_weight: NDArray[Any] = array.reshape(count, features).T @ grad.reshape(count, hidden)
    return project(grad, weight.T), grad_weight


def glorot_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Uniform in ``+-sqrt(6 / (fan_in + fan_out))``, shape (fan_in, fan_out).

    Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html
    """
    limit = (6.0 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-limit, limit, size=(fan_in, fan_out))
