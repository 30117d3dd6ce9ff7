"""Calls of a scorer's methods, with checks of results and notes on failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from attention_core.arrays.batch import summed_to
from attention_core.arrays.matmul import inner_products
from attention_core.arrays.scalars import as_float
from attention_core.errors import AttentionCoreError, ScorerContractError, Stopped, note_call, shown
from attention_core.scoring.compiled_forms import compiled_result
from attention_core.scoring.scorer import ParameterGrads, Scorer
from attention_core.typing import Array

__all__ = [
    "checked_bound",
    "checked_call",
    "checked_scale",
    "checked_vjp",
    "method_of",
    "project",
    "score_tile",
    "served",
]

Shape = tuple[int, ...]


def checked_call(scorer: Scorer, method: str, *arrays: Array) -> Array:
    """Call a method of a scorer, which must return an array of the dtype it was given.

    Raises
    ------
    ScorerContractError
        If it returns anything else, or exits. Exceptions that it raises keep their type and get
        a note that names the scorer, the method and the shapes.
    """
    return _checked_array(scorer, method, _called(scorer, method, *arrays), arrays[0].dtype)


def checked_bound(scorer: Scorer, query: Array, key: Array) -> float:
    """An upper bound of ``|score|`` of these projected arrays; NaN and inf mean there is none.

    Raises
    ------
    ScorerContractError
        For a `score_bound` that returns anything but a real number.
    """
    bound = _called(scorer, "score_bound", query, key)
    number = as_float(bound)
    if number is None:
        raise ScorerContractError(
            f"{scorer} returned {shown(bound)} from score_bound; expected a real number, or inf"
        )
    return number


def checked_scale(scorer: Scorer, features: int) -> float:
    """The number that queries with this many features are multiplied by.

    Raises
    ------
    ScorerContractError
        For a `query_scale` that returns anything but a real number.
    """
    scale = method_of(scorer, "query_scale")(features)
    number = as_float(scale)
    if number is None:
        raise ScorerContractError(
            f"{scorer} returned {shown(scale)} from query_scale; expected a real number"
        )
    return number


def checked_vjp(
    scorer: Scorer,
    method: str,
    inputs: tuple[Array, ...],
    grad: Array,
    parameters: Mapping[str, Shape],
    batch: Shape | None = None,
) -> tuple[list[Array], ParameterGrads]:
    """Call a vector-Jacobian product: a gradient for each input, and for parameters.

    Parameters
    ----------
    method
        The name of the product, such as ``"score_vjp"``.
    grad
        The gradient with respect to the result of the method itself.
    parameters
        The shapes of the scorer's parameters.
    batch
        The batch axes that gradients of inputs may have instead of the input's own.

    Returns
    -------
    grads
        Each in the shape of its input: other batch axes are summed over.
    parameter_grads
        Gradients of some of the parameters.

    Raises
    ------
    ScorerContractError
        If it returns other shapes or dtypes, or unknown names; see `checked_call`.
    """
    answer = _called(scorer, method, *inputs, grad)
    if (
        not isinstance(answer, tuple)
        or len(answer) != len(inputs) + 1
        or not isinstance(answer[-1], Mapping)
    ):
        raise ScorerContractError(
            f"{scorer} returned {type(answer).__name__} from {method}; expected a tuple of "
            f"{len(inputs)} gradients of inputs and a dict of parameters' gradients"
        )
    grads = []
    for position, (own, array) in enumerate(zip(answer, inputs, strict=False)):
        wider = array.shape if batch is None else (*batch, *array.shape[-2:])
        source = f"{method}, position {position}"
        found = _checked_grad(scorer, source, own, grad.dtype, array.shape, wider)
        grads.append(summed_to(found, array.shape))
    parameter_grads = {}
    for name, own in answer[-1].items():
        if name not in parameters:
            raise ScorerContractError(
                f"{scorer} returned a gradient of {name!r} from {method}, which is not one of its "
                f"parameters: {', '.join(parameters) or 'none'}"
            )
        own = np.asarray(own) if isinstance(own, np.generic) else own  # a full sum
        source = f"{method}, parameter {name!r}"
        parameter_grads[name] = _checked_grad(scorer, source, own, grad.dtype, parameters[name])
    return grads, parameter_grads


def project(scorer: Scorer, method: str, array: Array) -> Array:
    """Project queries or keys by the scorer's method of that name: (..., n, D) -> (..., n, H).

    Raises
    ------
    ScorerContractError
        If it returns another dtype or other axes before the last; see `checked_call`.
    """
    traits = scorer.traits
    if not (traits.projects_query if method == "project_query" else traits.projects_key):
        return array
    projected = checked_call(scorer, method, array)
    if projected.shape[:-1] != array.shape[:-1]:
        raise ScorerContractError(
            f"{scorer} returned shape {projected.shape} from {method} for {array.shape}; "
            f"expected ({', '.join(map(str, array.shape[:-1]))}, H)"
        )
    return projected


def score_tile(scorer: Scorer, query: Array, key: Array, out: Array) -> None:
    """Write the scores of projected queries (..., l, H) and keys (..., s, H) to out (..., l, s).

    Raises
    ------
    ScorerContractError
        If the scorer fails, or returns another shape or dtype.
    """
    if scorer.traits.is_inner_product:
        inner_products(query, key, out)
        return
    scores = checked_call(scorer, "score", query, key)
    expected = (*np.broadcast_shapes(query.shape[:-2], key.shape[:-2]), *out.shape[-2:])
    if scores.shape != expected:
        raise ScorerContractError(
            f"{scorer} returned shape {scores.shape}; expected (..., L, S) = {expected} "
            f"for query {query.shape}, key {key.shape}"
        )
    out[...] = scores  # a copy: the array belongs to the scorer


def method_of(scorer: Scorer, method: str) -> Callable[..., Any]:
    """The method of that name, or the default that its traits require."""
    if method in scorer.traits.defaults:
        return partial(getattr(Scorer, method), scorer)
    own: Callable[..., Any] = getattr(scorer, method)
    return own


def served(scorer: Scorer, method: str, *arrays: Array) -> Any:
    """Call a method, or compiled code in its place where that is faster."""
    traits = scorer.traits
    if method in traits.compiled:
        found = compiled_result(scorer, method, arrays)
        if found is not None:
            return found
    if method in traits.defaults:
        return method_of(scorer, method)(*arrays)
    return getattr(scorer, method)(*arrays)


def _called(scorer: Scorer, method: str, *arrays: Array) -> Any:
    """Call a method with read-only arrays; exceptions keep their type, and get a note."""
    try:
        return served(scorer, method, *map(_read_only, arrays))
    except (AttentionCoreError, Stopped):
        raise
    except BaseException as error:
        note_call(error, scorer, method, [array.shape for array in arrays])
        raise


def _read_only(array: Array) -> Array:
    view: Array = array[...]
    view.flags.writeable = False
    return view


def _checked_grad(
    scorer: Scorer, source: str, grad: Any, dtype: np.dtype[Any], *shapes: Shape
) -> Array:
    found = _checked_array(scorer, source, grad, dtype)
    if found.shape not in shapes:
        raise ScorerContractError(
            f"{scorer} returned shape {found.shape} from {source}; expected {shapes[0]}, "
            f"the shape of the array it is the gradient of"
        )
    return found


def _checked_array(scorer: Scorer, source: str, result: Any, dtype: np.dtype[Any]) -> Array:
    if type(result) is not np.ndarray:
        if not isinstance(result, np.ndarray) or isinstance(result, np.ma.MaskedArray):
            raise ScorerContractError(
                f"{scorer} returned {type(result).__name__} from {source}; expected an array"
            )
        result = np.asarray(result)
    if result.dtype != dtype:
        raise ScorerContractError(
            f"{scorer} returned dtype {result.dtype} from {source}; expected {dtype}, the dtype "
            f"it was given; cast parameters, as in weight.astype(query.dtype, copy=False), and "
            f"multiply by Python numbers, not NumPy scalars"
        )
    array: Array = result
    return array
