"""Tools for authors of scorers: checked parameters, initial values, projections, reused memory.

The bundled scorers use them, and all of them are optional. Error texts begin with the parameter.
When a scorer is made by name, its name and distribution are prepended.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core.arrays.buffers import buffer
from attention_core.arrays.inputs import as_array
from attention_core.arrays.scalars import LARGEST_SIZE, as_float, is_integer
from attention_core.arrays.seeds import random_generator
from attention_core.errors import DTypeError, ScorerConfigError, ShapeError, shown
from attention_core.typing import Array

__all__ = [
    "LARGEST_SIZE",
    "Form",
    "buffer",
    "check_agreement",
    "check_dims",
    "choose_form",
    "glorot_uniform",
    "number",
    "parameter",
    "project",
    "project_vjp",
    "whole_number",
]


def parameter(name: str, value: ArrayLike, axes: str) -> Array:
    """Convert a parameter to a float array with one axis for each name in `axes`: ``"Dq, Dk"``.

    The array is a copy, so later writes by the caller do not change the scorer. Floats keep
    their dtype, and integers become float64.

    Raises
    ------
    ScorerConfigError
        For an array of another dtype or number of axes.

    Examples
    --------
    >>> parameter("weight", [[1, 2]], "Dq, Dk")
    array([[1., 2.]])
    >>> parameter("weight", [1, 2], "Dq, Dk")
    Traceback (most recent call last):
    attention_core.errors.ScorerConfigError: parameter 'weight' must have shape (Dq, Dk), got \
shape (2,)
    """
    try:
        array = np.array(as_array(f"parameter {name!r}", value))
    except (DTypeError, ShapeError) as error:
        raise ScorerConfigError(str(error)) from None
    expected = axes.split(",") if axes else []
    if array.ndim != len(expected):
        shape = f"({axes},)" if len(expected) == 1 else f"({axes})"
        raise ScorerConfigError(
            f"parameter {name!r} must have shape {shape}, got shape {array.shape}"
        )
    return array


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    """Convert a scalar parameter to a finite Python float within some bounds.

    Raises
    ------
    ScorerConfigError
        For anything else, including booleans and strings.

    Examples
    --------
    >>> number("gamma", 2, above=0)
    2.0
    >>> number("gamma", "2", above=0)
    Traceback (most recent call last):
    attention_core.errors.ScorerConfigError: gamma must be a finite number, got '2'
    """
    given = value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    found = as_float(value)
    if found is None or not isfinite(found):
        raise ScorerConfigError(f"{name} must be a finite number, got {shown(given)}")
    if above is not None and not found > above:
        raise ScorerConfigError(f"{name} must be above {above}, got {shown(given)}")
    if at_least is not None and not found >= at_least:
        raise ScorerConfigError(f"{name} must be at least {at_least}, got {shown(given)}")
    if at_most is not None and not found <= at_most:
        raise ScorerConfigError(f"{name} must be at most {at_most}, got {shown(given)}")
    return found


def whole_number(name: str, value: Any, *, at_least: int, at_most: int | None = None) -> int:
    """Convert a scalar parameter to a Python int within some bounds.

    Raises
    ------
    ScorerConfigError
        For anything else, including booleans.

    Examples
    --------
    >>> whole_number("degree", 0, at_least=1)
    Traceback (most recent call last):
    attention_core.errors.ScorerConfigError: degree must be at least 1, got 0
    """
    if not is_integer(value):
        raise ScorerConfigError(f"{name} must be an integer, got {shown(value)}")
    if value < at_least:
        raise ScorerConfigError(f"{name} must be at least {at_least}, got {shown(value)}")
    if at_most is not None and value > at_most:
        raise ScorerConfigError(f"{name} must be at most {at_most}, got {shown(value)}")
    return int(value)


def check_agreement(axis: str, /, **arrays: Array | None) -> None:
    """Raise `ScorerConfigError` unless the last axes of some parameters have the same length.

    Parameters that are None are ignored.

    >>> check_agreement("H", query_weight=np.ones((2, 3)), bias=np.ones(4))
    Traceback (most recent call last):
    attention_core.errors.ScorerConfigError: the parameters must agree on H, their last axis, got \
query_weight with 3, bias with 4
    """
    given = {name: array for name, array in arrays.items() if array is not None}
    lengths = {name: array.shape[-1] for name, array in given.items()}
    if len(set(lengths.values())) > 1:
        raise ScorerConfigError(
            f"the parameters must agree on {axis}, their last axis, got "
            f"{', '.join(f'{name} with {length}' for name, length in lengths.items())}"
        )


def check_dims(scorer: object, expected: tuple[int, int], query_dim: int, key_dim: int) -> None:
    """Raise `ShapeError` unless queries and keys have the expected numbers of features, (Dq, Dk).

    Call it in `Scorer.check_features` with the lengths of the parameters' axes.

    >>> check_dims("scorer 'general'", (2, 3), query_dim=2, key_dim=4)
    Traceback (most recent call last):
    attention_core.errors.ShapeError: scorer 'general' has weights for (Dq, Dk) = (2, 3), got \
query (..., L, 2) and key (..., S, 4)
    """
    if (query_dim, key_dim) != expected:
        raise ShapeError(
            f"{scorer} has weights for (Dq, Dk) = {expected}, got query (..., L, {query_dim}) "
            f"and key (..., S, {key_dim})"
        )


class Form(NamedTuple):
    """A set of arguments from which a scorer can be made.

    A form with ``rng`` draws initial values: its other arguments are sizes, integers from 1 to
    `LARGEST_SIZE`. Other settings are not part of a form; the factory handles them itself.
    """

    required: tuple[str, ...]
    """The names of the required arguments."""
    optional: tuple[str, ...] = ()
    """The names of the optional arguments."""

    def __str__(self) -> str:
        *first, last = self.required
        text = f"{', '.join(first)} and {last}" if first else last
        return text + "".join(f" (and optionally {name})" for name in self.optional)


def choose_form(arguments: Mapping[str, Any], *forms: Form) -> dict[str, Any]:
    """Return the given arguments if they match one of the forms.

    Parameters
    ----------
    arguments
        The arguments of the factory; None if not given.
    forms
        The possible forms; the first that matches is taken. A seed is converted to a
        `numpy.random.Generator`.

    Raises
    ------
    ScorerConfigError
        For arguments that match none of the forms, including no arguments at all.

    Examples
    --------
    >>> forms = Form(("weight",)), Form(("query_dim", "key_dim", "rng"))
    >>> choose_form({"weight": [[1.0]], "query_dim": None}, *forms)
    {'weight': [[1.0]]}
    >>> choose_form({"query_dim": 3}, *forms)
    Traceback (most recent call last):
    attention_core.errors.ScorerConfigError: a learned scorer needs its parameters; give \
weight, or query_dim, key_dim and rng; got query_dim
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    for form in forms:
        if set(form.required) <= set(given) <= {*form.required, *form.optional}:
            if "rng" in {*form.required, *form.optional}:
                return {name: _drawn_with(name, value) for name, value in given.items()}
            return given
    raise ScorerConfigError(
        f"a learned scorer needs its parameters; give {', or '.join(map(str, forms))}; "
        f"got {', '.join(given) or 'nothing'}"
    )


def _drawn_with(name: str, value: Any) -> Any:
    if name == "rng":
        return random_generator(value, error=ScorerConfigError, type_error=ScorerConfigError)
    return whole_number(name, value, at_least=1, at_most=LARGEST_SIZE)


def glorot_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Draw initial values (fan_in, fan_out), uniform in ``+-sqrt(6 / (fan_in + fan_out))``.

    Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html

    >>> glorot_uniform(np.random.default_rng(0), 2, 4).shape
    (2, 4)
    """
    limit = (6.0 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-limit, limit, size=(fan_in, fan_out))


def project(array: Array, weight: Array) -> Array:
    """``array @ weight`` in the dtype of the array: (..., n, D), (D, H) -> (..., n, H).

    All rows are one product, which is faster in NumPy than many batch items with few rows each.

    >>> project(np.ones((2, 3), np.float32), np.ones((3, 1)))
    array([[3.],
           [3.]], dtype=float32)
    """
    *outer, features = array.shape
    rows = array.reshape(prod(outer), features) @ weight.astype(array.dtype, copy=False)
    projected: Array = rows.reshape(*outer, weight.shape[-1])
    return projected


def project_vjp(array: Array, weight: Array, grad: Array) -> tuple[Array, Array]:
    """Gradients through `project`, for array and weight: (..., n, D), (D, H), (..., n, H).

    >>> project_vjp(np.ones((2, 3)), np.ones((3, 1)), np.array([[1.0], [2.0]]))[1]
    array([[3.],
           [3.],
           [3.]])
    """
    count, (features, hidden) = prod(array.shape[:-1]), weight.shape
    grad_weight: Array = array.reshape(count, features).T @ grad.reshape(count, hidden)
    return project(grad, weight.T), grad_weight
