"""Dispatch of a call: projected, then computed in one tile, on tiles, or on edges."""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod

import numpy as np

from attention_core.arrays.batch import Shape, with_batch_axes
from attention_core.arrays.quiet import IGNORING
from attention_core.arrays.snapshots import SMALL, Snapshot, checksum, parts_of
from attention_core.engine.base import Engine, Problem
from attention_core.engine.plan import fits_one_tile, shapes_fit_one_tile
from attention_core.engine.prepare import Call
from attention_core.engine.single_tile import attend_single_tile
from attention_core.engine.tiles import TileEngine
from attention_core.masking.bias import ArrayBias, BiasTerm
from attention_core.masking.factors import Factors
from attention_core.masking.masking import Masking
from attention_core.masking.patterns import ArrayMask
from attention_core.masking.positions import UNSHIFTED, Positions
from attention_core.normalizing.normalizer import Normalizer, Statistics
from attention_core.parallel.blas import numerics
from attention_core.parallel.jobs import Jobs
from attention_core.scoring.contract import project
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["Answer", "attend_call", "choose_engine", "compute"]


@dataclass(slots=True, eq=False, repr=False)
class Answer:
    """A computed call, and everything that readouts of it need."""

    call: Call
    problem: Problem
    context: Array
    """(..., L, Dv), in the computing dtype."""
    statistics: Statistics
    """(..., L, 1) each."""
    kept: Array | None
    """The masked scores (..., L, S), if they are far smaller than the keys."""
    snapshot: Snapshot | None
    """Snapshot of the caller's arrays that are read again."""


def attend_call(
    scorer: Scorer,
    call: Call,
    normalizer: Normalizer,
    masking: Masking | None = None,
    bias: BiasTerm | None = None,
    softcap: float | None = None,
    tile: tuple[int, int] | None = None,
    workers: int | None = None,
    positions: Positions = UNSHIFTED,
    factors: Factors | None = None,
) -> Answer:
    """Compute a call, without warnings of NumPy, and with BLAS on one thread if it needs BLAS."""
    query, key, value, batch = call.query, call.key, call.value, call.batch
    options = normalizer, masking, bias, softcap, tile, workers, positions, factors
    problem = Problem(scorer, query, key, value, batch, *options)
    kind, itemsize = type(scorer), call.dtype.itemsize
    # NaN and Inf in the inputs are results, not accidents
    is_tiny = _is_tiny(
        kind, query.shape, key.shape, value.shape, batch, itemsize, call.is_projected
    )
    if is_tiny or (key.nbytes + value.nbytes >= _LONG and _needs_no_blas(problem, call)):
        quiet = copy_context()  # like `quiet_context`, without the cost of a call
        for variable, setting in IGNORING:
            quiet.run(variable.set, setting)
        return quiet.run(_answer, problem, call, is_tiny)
    with numerics() as again, again:  # twice, as its docstring says
        return _answer(problem, call)


def _answer(problem: Problem, call: Call, is_tiny: bool = False) -> Answer:
    """Project the inputs of a problem, compute it, and store what readouts need."""
    if problem.softcap is not None and problem.softcap > np.finfo(call.dtype).max:
        problem.softcap = None  # it has no effect, and scores could not be divided by it
    kept = None if call.is_owned or call.is_projected else _room_for_scores(problem)
    watched, checksums = _project_inputs(problem, call, kept)
    if call.batch:
        problem.query, problem.key, problem.value = (
            with_batch_axes(each, call.batch)
            for each in (problem.query, problem.key, problem.value)
        )
    context, statistics = compute(problem, kept, is_tiny=is_tiny)
    if problem.readings is not None:
        problem.readings.finish(problem.workers)
    snapshot = Snapshot(watched, checksums) if watched else None
    return Answer(call, problem, context, statistics, kept, snapshot)


def compute(
    problem: Problem, kept: Array | None, *, is_tiny: bool = False
) -> tuple[Array, Statistics]:
    """Compute the context and the statistics; masked scores are also written to `kept`.

    A tiny problem is known to fit one tile.
    """
    masking = problem.masking
    if masking is not None and masking.is_sparse:
        return choose_engine(problem).attend()
    found = None
    if not is_tiny and problem.key.nbytes + problem.value.nbytes >= _LONG:
        from attention_core.engine.few_queries import attend_few_queries  # other calls do without

        found = attend_few_queries(problem, kept)
    is_simple = problem.tile is None and problem.factors is None
    if found is None and is_simple and (is_tiny or fits_one_tile(problem)):
        found = attend_single_tile(problem, kept)
    if found is not None:
        return found
    if kept is not None:
        kept.fill(-np.inf)
    return TileEngine(problem).attend(kept)


def choose_engine(problem: Problem) -> Engine:
    """The engine that computes a problem: the edges of a mask that stores few pairs, or tiles."""
    if problem.masking is not None and problem.masking.is_sparse:
        from attention_core.engine.edges import EdgeEngine, prefers_edges  # only edges need SciPy

        if prefers_edges(problem):
            return EdgeEngine(problem)
    return TileEngine(problem)


def _project_inputs(
    problem: Problem, call: Call, kept: Array | None
) -> tuple[dict[str, Array], list[int] | None]:
    """Project the queries and keys of a problem; find the arrays to watch, and their checksums.

    Each is read from memory once, on several threads if it is large. The checksums may be yet to
    come, as readings of the problem.
    """
    scorer, query, key = problem.scorer, call.query, call.key
    projects_key = scorer.traits.projects_key and not call.is_projected
    if call.is_owned:
        problem.query = project(scorer, "project_query", query)
        if projects_key:
            problem.key = project(scorer, "project_key", key)
        if problem.masking is None and problem.bias is None and problem.factors is None:
            return {}, None
        return _watched(problem, call, kept), None
    projections = {"query": query} if scorer.traits.projects_query else {}
    if projections and query.nbytes > SMALL and _is_projected_by_tiles(problem):
        problem.projects_tiles = True
        projections = {}
    if projects_key:
        projections["key"] = key
    watched = _watched(problem, call, kept)
    parts = [part for array in watched.values() for part in parts_of(array)]
    checksums = [0] * len(parts)

    def read(index: int) -> None:
        checksums[index] = checksum(parts[index])

    def prepare(name: str) -> None:
        setattr(problem, name, project(scorer, f"project_{name}", projections[name]))

    jobs = [partial(read, index) for index in range(len(parts))]
    jobs += [partial(prepare, name) for name in projections]
    cost = sum(part.nbytes * _READING_COST for part in parts)
    cost += sum(array.size * array.shape[-1] / 32 for array in projections.values())
    problem.readings = Jobs(jobs, cost)
    if projections:
        problem.readings.finish(problem.workers)
    return watched, checksums


def _is_projected_by_tiles(problem: Problem) -> bool:
    """Whether projecting queries is little enough work that tiles repeat it.

    A projected copy of all queries would have to come from the system, page by page, and that takes
    longer than the arithmetic.
    """
    masking, scorer = problem.masking, problem.scorer
    return (
        scorer.traits.is_inner_product
        and not scorer.parameters  # products with matrices are work
        and not (masking is not None and masking.is_sparse)
        and not fits_one_tile(problem)
    )


@lru_cache(maxsize=1024)
def _is_tiny(
    scorer: type[Scorer],
    query: Shape,
    key: Shape,
    value: Shape,
    batch: Shape,
    itemsize: int,
    is_projected: bool,
) -> bool:
    """Whether a call fits one tile, with products so small that BLAS uses one thread.

    Larger calls limit BLAS to one thread, so that other work in the process cannot change a bit.
    """
    length, key_length = query[-2], key[-2]
    widest = max(query[-1], key[-1], value[-1])
    if not 0 < prod(batch) * length * key_length * widest <= _BLAS_MATRIX:
        return False
    if length == 1 and key_length * widest > _BLAS_VECTOR:
        return False
    projects_query = scorer.traits.projects_query
    projects_key = scorer.traits.projects_key and not is_projected
    if (projects_query or projects_key) and not scorer.traits.is_inner_product:
        return False  # hidden units may be far more than features
    rows = max(length * projects_query, key_length * projects_key)
    if not _is_small_product(rows, widest):
        return False
    return shapes_fit_one_tile(scorer, batch, query, value[-2:], itemsize)


def _needs_no_blas(problem: Problem, call: Call) -> bool:
    """Whether compiled code does all products of a call but small ones."""
    masking, traits = problem.masking, problem.scorer.traits
    is_sparse = masking is not None and masking.is_sparse
    if is_sparse or (traits.projects_key and not call.is_projected):
        return False
    widest = max(call.query.shape[-1], call.key.shape[-1], 1)
    if not _is_small_product(call.query.size // widest, widest):
        return False
    from attention_core.engine.few_queries import is_one_pass

    return is_one_pass(problem)


def _is_small_product(rows: int, width: int) -> bool:
    """Whether OpenBLAS multiplies rows of this width and a square matrix on one thread."""
    return rows * width**2 <= (_BLAS_MATRIX if rows > 1 else _BLAS_VECTOR)


_READING_COST = 0.1  # nanoseconds to read a byte from memory
# Bytes of keys and values from which on reading them may take most of a call.
_LONG = 1 << 21
# Multiply-adds up to which OpenBLAS uses one thread, for two matrices and for a row and a matrix.
_BLAS_MATRIX, _BLAS_VECTOR = 1 << 18, 9216


def _room_for_scores(problem: Problem) -> Array | None:
    """Memory for the scores of few queries, if they are far smaller than keys and values.

    Checking keys and values for changes would take as long as attending to them.
    """
    is_sparse = problem.masking is not None and problem.masking.is_sparse
    pairs = prod(problem.batch) * problem.query.shape[-2] * problem.key.shape[-2]
    if is_sparse or 8 * pairs > problem.key.size + problem.value.size:
        return None
    return np.empty(problem.shape, problem.dtype)


def _watched(problem: Problem, call: Call, kept: Array | None) -> dict[str, Array]:
    """Arrays that are read again, and that the caller may write to: those too large to copy."""
    masking = problem.masking
    arrays: dict[str, Array] = {}
    if call.query.nbytes > SMALL:
        arrays["query"] = call.query
    if not call.is_projected and kept is None:
        if call.key.nbytes > SMALL:
            arrays["key"] = call.key
        if call.value.nbytes > SMALL:
            arrays["value"] = call.value
    for name, term in (("bias", problem.bias), ("weight_factors", problem.factors)):
        if isinstance(term, ArrayBias) and term.array.nbytes > SMALL:
            arrays[name] = term.array
    if masking is not None:
        for condition in masking.conditions:
            if isinstance(condition, ArrayMask) and condition.array.nbytes > SMALL:
                arrays["mask"] = condition.array
    return arrays
