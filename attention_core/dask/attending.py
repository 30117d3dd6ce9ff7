"""`attend` on dask arrays: the same checks as on NumPy arrays, and a graph instead of a result."""

from __future__ import annotations

from typing import Any, Literal

import dask.array as da
import numpy as np
from dask.base import is_dask_collection, tokenize
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import as_array, computing_dtype, is_sparse
from attention_core.attention import resolve_normalizer, resolve_scorer
from attention_core.components.bias import Bias
from attention_core.dask.call import LazyCall
from attention_core.dask.grid import as_dask, make_grid
from attention_core.dask.result import DaskResult
from attention_core.dask.shipping import Shipped
from attention_core.dask.work import Work, is_mergeable
from attention_core.engine.memory import Memory
from attention_core.engine.prepare import prepare
from attention_core.errors import OptionError, OptionTypeError
from attention_core.masking.arguments import make_terms
from attention_core.masking.bias import ArrayBias
from attention_core.masking.condition import MaskObject
from attention_core.masking.factors import Dropout
from attention_core.masking.masking import Masking
from attention_core.masking.patterns import ArrayMask, EdgeMask
from attention_core.normalizing.normalizer import Normalizer
from attention_core.options import make_options
from attention_core.registry.resolution import resolve_bias
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array, BiasLike, FactorsLike, MaskLike, NormalizerLike, ScorerLike

__all__ = ["attend"]


@checked_arguments
def attend(
    query: da.Array | ArrayLike,
    key: da.Array | ArrayLike,
    value: da.Array | ArrayLike,
    *,
    scorer: ScorerLike,
    normalizer: NormalizerLike = "softmax",
    mask: MaskLike | da.Array | None = None,
    bias: BiasLike | da.Array | None = None,
    key_lengths: ArrayLike | None = None,
    query_lengths: ArrayLike | None = None,
    is_causal: bool = False,
    query_offset: ArrayLike | Literal["end"] = 0,
    window: tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    tile: tuple[int, int] | None = None,
    weight_factors: FactorsLike | da.Array | None = None,
) -> DaskResult:
    """Attend over dask arrays lazily, with a task for each pair of chunks of queries and keys.

    Arguments have the meaning that they have for `attention_core.attend`. The result equals that of
    one machine, except for the last bits of sums.

    Parameters
    ----------
    query : (..., L, Dq) or (Dq,)
    key : (..., S, Dk)
    value : (..., S, Dv)
        Dask arrays with any chunks along batch axes, queries and keys, which are split further
        where they disagree. Features are rechunked to one chunk. NumPy arrays are one chunk.
    scorer, normalizer
        They are sent to the workers by pickle. A normalizer that needs all scores of a row,
        such as ``"sparsemax"``, needs all keys in one chunk.
    mask, bias, weight_factors
        A dask array, anything that `attention_core.attend` takes, or a function of positions in the
        whole call. Biases and weight factors may not be sparse.
    key_lengths, query_lengths, is_causal, query_offset, window, softcap, tile
        Causal order, windows and lengths skip the tasks of chunks that no query can reach.

    Returns
    -------
    DaskResult
        With lazy `context` (..., L, Dv), `log_normalizer`, weights, strongest keys and gradients.

    Raises
    ------
    ShapeError, DTypeError, OptionError, OptionTypeError, ...
        As `attention_core.attend`, before any work starts; ShapeError also for chunks of unknown
        size, and OptionError for several chunks of keys and a normalizer that cannot merge them.

    Notes
    -----
    A task uses one thread. With n chunks of queries and m of keys there are at most n m tasks, and
    trees that merge their results: the context and two numbers for each query.

    References
    ----------
    Merging: Milakov and Gimelshein 2018, arXiv:1805.02867.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import attention_core as ac
    >>> import attention_core.dask
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> lazy = da.from_array(x, chunks=(8, 4))
    >>> result = attention_core.dask.attend(lazy, lazy, lazy, scorer="dot", is_causal=True)
    >>> result.task_count  # of 8 x 8 pairs of chunks
    36
    >>> whole = ac.attend(x, x, x, scorer="dot", is_causal=True)
    >>> bool(np.allclose(result.context.compute(), whole.context, rtol=1e-12))
    True
    """
    given = {
        "is_causal": is_causal,
        "query_offset": query_offset,
        "window": window,
        "softcap": softcap,
        "tile": tile,
    }
    counted = {"key_lengths": key_lengths, "query_lengths": query_lengths}
    _check_known({**counted, "query_offset": query_offset})
    options = {**given, **make_options(given)}
    parts = resolve_scorer(scorer), resolve_normalizer(normalizer)
    if isinstance(key, Memory):
        raise OptionTypeError("key must be an array: a Memory is in the memory of one machine")
    named = {"query": query, "key": key, "value": value}
    inputs = [as_dask(name, array) for name, array in named.items()]
    pairs = {
        "mask": _term("mask", mask),
        "bias": _term("bias", resolve_bias(bias)),
        "weight_factors": _term("weight_factors", weight_factors),
    }
    token = tokenize(*parts, *inputs, list(pairs.items()), list(counted.items()), options)
    return DaskResult(_lazy_call(*parts, inputs, pairs, {**counted, **options}, token))


def _lazy_call(
    scorer: Scorer,
    normalizer: Normalizer,
    inputs: list[da.Array],
    pairs: dict[str, Any],
    options: dict[str, Any],
    token: str,
) -> LazyCall:
    """The call, checked like one on NumPy arrays of the same shapes."""
    dtypes = [
        as_array(name, np.empty(0, array.dtype)).dtype
        for name, array in zip(("query", "key", "value"), inputs, strict=True)
    ]
    call = prepare(scorer, *(_stand_in(array.shape, np.float64) for array in inputs))
    dtype, result_dtype = computing_dtype(*dtypes)
    softcap, tile = options.pop("softcap"), options.pop("tile")
    length, key_length = call.query.shape[-2], call.key.shape[-2]
    given = options | {
        name: _stand_in(term.shape, term.dtype) if isinstance(term, da.Array) else term
        for name, term in pairs.items()
    }
    single: dict[str, Any] = {"single_query": call.is_single}
    terms = make_terms(call.batch, length, key_length, **single, **given)
    normalizer.check_batch(call.batch)
    conditions = [] if terms.masking is None else terms.masking.conditions
    by_position = [c for c in conditions if not isinstance(c, (ArrayMask, EdgeMask))]
    edges = next((c.edges for c in conditions if isinstance(c, EdgeMask)), None)
    terms_of_pairs = [t if isinstance(t, da.Array) else None for t in pairs.values()]
    if call.is_single:
        inputs = [inputs[0][None], *inputs[1:]]
        terms_of_pairs = [_with_queries(term) for term in terms_of_pairs]
    masking = Masking(by_position) if by_position else None
    grid = make_grid([*inputs, *terms_of_pairs], len(call.batch), masking, edges)
    if len(grid.keys) > 1 and not is_mergeable(normalizer):
        raise OptionError(
            f"{normalizer} needs all scores of a query together, and the keys are in "
            f"{len(grid.keys)} chunks; make it one: key.rechunk({{-2: -1}}), likewise for value, "
            f"and for a mask or bias rechunk({{-1: -1}})"
        )
    if softcap is not None and softcap > np.finfo(dtype).max:
        softcap = None  # it has no effect, and scores could not be divided by it
    work = Work(
        Shipped("scorer", scorer),
        Shipped("normalizer", normalizer),
        Shipped("mask", by_position),
        _shipped("bias", terms.bias),
        _shipped("weight_factors", terms.factors),
        softcap,
        tile,
        dtype,
    )
    bias = pairs["bias"] if isinstance(pairs["bias"], Bias) else None
    dtypes_of_call = call.is_single, result_dtype, tuple(dtypes)
    return LazyCall(scorer, normalizer, bias, work, grid, token, *dtypes_of_call)


def _shipped(name: str, term: Any) -> Shipped | None:
    """A term that follows from positions; arrays are sent separately."""
    return None if term is None or isinstance(term, ArrayBias) else Shipped(name, term)


def _check_known(arrays: dict[str, Any]) -> None:
    """Require known lengths and offsets, since they decide which tasks there are."""
    for name, array in arrays.items():
        if is_dask_collection(array):
            raise OptionTypeError(
                f"{name} must be known before any task is made, got a dask collection; "
                f"give {name}.compute()"
            )


def _term(name: str, term: Any) -> Any:
    """A mask, bias or weight factors: a dask array for any array, other values unchanged."""
    if is_sparse(term) and name != "mask":
        raise OptionTypeError(
            f"{name} must not be sparse on dask arrays, got {type(term).__name__}; give a dask "
            f"array, or a function of (query_positions, key_positions)"
        )
    kinds = MaskObject, Dropout, Bias
    if term is None or is_sparse(term) or callable(term) or isinstance(term, kinds):
        return term
    return as_dask(name, term)


def _stand_in(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of any size in the memory of one element."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _with_queries(array: da.Array | None) -> da.Array | None:
    """The array with the axis of a single query."""
    if array is None or not array.ndim:
        return array
    return array[..., None, :]
