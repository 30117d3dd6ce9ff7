"""Properties of attention that hold for every input, with a search for counterexamples.

For more examples: ``HYPOTHESIS_PROFILE=thorough pytest tests/engine/test_properties.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import hypothesis.extra.numpy as arrays_of
import numpy as np
import scipy.sparse
from cases import SCORERS, Case, dense, make_case
from hypothesis import assume, given
from hypothesis import strategies as st

import attention_core as ac

CLOSE = {"rtol": 1e-10, "atol": 1e-11}

cases = st.sampled_from(SCORERS).map(cache(make_case))
tiles = st.none() | st.tuples(st.integers(1, 6), st.integers(1, 6))
batches = st.sampled_from([(), (1,), (2,), (2, 2)])
lengths = st.integers(0, 6)
seeds = st.integers(0, 2**32 - 1)
numbers = st.floats(-4, 4, width=32)  # short decimals make short counterexamples


@dataclass
class Problem:
    """A scorer and arrays that fit it."""

    case: Case
    query: Any
    key: Any
    value: Any
    tile: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.query.shape[:-1], self.key.shape[-2])

    def attend(self, **changes: Any) -> ac.AttentionResult:
        given = {"query": self.query, "key": self.key, "value": self.value, "tile": self.tile}
        return self.case.attend(**{**given, **changes})


def array(draw: st.DrawFn, *shape: int, elements: Any = numbers, dtype: Any = np.float64) -> Any:
    return draw(arrays_of.arrays(dtype, shape, elements=elements, fill=st.nothing()))


@st.composite
def problems(draw: st.DrawFn, queries: Any = lengths, keys: Any = lengths) -> Problem:
    case, batch = draw(cases), draw(batches)
    n_queries, n_keys, n_values = draw(queries), draw(keys), draw(st.integers(1, 3))
    return Problem(
        case,
        array(draw, *batch, n_queries, case.query_dim),
        array(draw, *batch, n_keys, case.key_dim),
        array(draw, *batch, n_keys, n_values),
        draw(tiles),
    )


@st.composite
def restrictions(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, Any]:
    """Any combination of the options, for weights of this shape."""
    *batch, n_queries, n_keys = shape
    offsets = st.integers(-3, 6)
    open_side = st.none() | st.integers(0, 4)

    def per_item(integers: Any) -> Any:
        leading = st.sampled_from([tuple(batch[:n]) for n in range(len(batch) + 1)])
        return integers | leading.flatmap(
            lambda axes: arrays_of.arrays(np.int64, axes, elements=integers)
        )

    mask = arrays_of.arrays(np.bool_, tuple(shape))
    choices = {
        "mask": mask
        | arrays_of.arrays(np.bool_, (n_queries, n_keys)).map(scipy.sparse.csr_array)
        | st.just(lambda i, j: (2 * i + j) % 3 != 0),
        "bias": arrays_of.arrays(np.float64, (n_queries, n_keys), elements=numbers)
        | st.just(lambda i, j: 0.25 * (i - j)),
        "key_lengths": per_item(st.integers(0, n_keys)),
        "query_lengths": per_item(st.integers(0, n_queries)),
        "is_causal": st.booleans(),
        "query_offset": per_item(offsets),
        "window": st.tuples(open_side, open_side),
        "softcap": st.floats(0.5, 50.0),
    }
    return draw(st.fixed_dictionaries({}, optional=choices))


def allowed_places(problem: Problem, **options: Any) -> Any:
    """The pairs that the oracle allows."""
    return problem.case.expect(problem.query, problem.key, problem.value, **options).allowed


# ------------------------------------------------------------------------------ against the oracle


@given(st.data(), problems())
def test_everything_combined_agrees_with_the_oracle(data, problem):
    options = data.draw(restrictions(problem.shape))
    # products of features up to 4, twice projected, stay within this
    problem.case.check(
        problem.query, problem.key, problem.value, tile=problem.tile, scale=500.0, **options
    )


@given(st.data(), problems())
def test_everything_combined_agrees_with_the_oracle_in_float32(data, problem):
    options = data.draw(restrictions(problem.shape))
    narrow = (a.astype(np.float32) for a in (problem.query, problem.key, problem.value))
    problem.case.check(*narrow, tile=problem.tile, scale=500.0, **options)


# ------------------------------------------------------------------------------------- the weights


@given(st.data(), problems())
def test_weights_are_at_least_zero_and_rows_sum_to_one_or_are_exactly_zero(data, problem):
    options = data.draw(restrictions(problem.shape))
    weights = dense(problem.attend(**options).weights)
    assert (weights >= 0).all()
    may_attend = allowed_places(problem, **options).any(-1)
    np.testing.assert_allclose(weights.sum(-1)[may_attend], 1.0, rtol=1e-12)
    assert (weights[~may_attend] == 0).all()


@given(st.data(), problems())
def test_adding_a_constant_to_the_scores_of_a_query_changes_no_weight(data, problem):
    shift = data.draw(arrays_of.arrays(np.float64, (*problem.shape[:-1], 1), elements=numbers))
    shifted = problem.attend(bias=100 * shift)
    plain = problem.attend()
    np.testing.assert_allclose(shifted.weights, plain.weights, **CLOSE)
    np.testing.assert_allclose(shifted.context, plain.context, **CLOSE)
    if problem.shape[-1]:
        moved = plain.log_normalizer + 100 * shift[..., 0]
        np.testing.assert_allclose(shifted.log_normalizer, moved, **CLOSE)


@given(st.data(), problems(keys=st.integers(1, 6)))
def test_permuting_the_keys_permutes_the_weights_and_keeps_the_context(data, problem):
    order = np.array(data.draw(st.permutations(range(problem.shape[-1]))))
    mask = data.draw(arrays_of.arrays(np.bool_, problem.shape))
    plain = problem.attend(mask=mask)
    permuted = problem.attend(
        key=problem.key[..., order, :], value=problem.value[..., order, :], mask=mask[..., order]
    )
    np.testing.assert_allclose(permuted.weights, plain.weights[..., order], **CLOSE)
    np.testing.assert_allclose(permuted.context, plain.context, **CLOSE)
    np.testing.assert_allclose(permuted.entropy, plain.entropy, **CLOSE)


# ------------------------------------------------------------------------------------ independence


@given(st.data(), problems(queries=st.integers(1, 6)))
def test_a_query_knows_nothing_of_the_others(data, problem):
    row = data.draw(st.integers(0, problem.shape[-2] - 1))
    whole = problem.attend(is_causal=True)
    alone = problem.attend(
        query=problem.query[..., row : row + 1, :], is_causal=True, query_offset=row
    )
    np.testing.assert_allclose(alone.context[..., 0, :], whole.context[..., row, :], **CLOSE)
    np.testing.assert_allclose(alone.weights[..., 0, :], whole.weights[..., row, :], **CLOSE)


@given(st.data(), problems())
def test_a_batch_item_knows_nothing_of_the_others(data, problem):
    batch = problem.shape[:-2]
    assume(batch)
    item = tuple(data.draw(st.integers(0, n - 1)) for n in batch)
    mask = data.draw(arrays_of.arrays(np.bool_, problem.shape))
    whole = problem.attend(mask=mask)
    alone = problem.attend(
        query=problem.query[item], key=problem.key[item], value=problem.value[item], mask=mask[item]
    )
    np.testing.assert_allclose(alone.context, whole.context[item], **CLOSE)
    np.testing.assert_allclose(alone.weights, whole.weights[item], **CLOSE)


GARBAGE = st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1e300])


@given(st.data(), problems())
def test_garbage_at_masked_places_never_leaks(data, problem):
    options = data.draw(restrictions(problem.shape))
    clean = problem.attend(**options)
    allowed = allowed_places(problem, **options)
    unseen_keys, unseen_queries = ~allowed.any(-2), ~allowed.any(-1)
    query, key, value = problem.query.copy(), problem.key.copy(), problem.value.copy()
    query[unseen_queries] = data.draw(GARBAGE)
    key[unseen_keys], value[unseen_keys] = data.draw(GARBAGE), data.draw(GARBAGE)
    if not callable(options.get("bias")):
        options["bias"] = np.where(allowed, options.get("bias", 0.0), data.draw(GARBAGE))
    dirty = problem.attend(query=query, key=key, value=value, **options)
    np.testing.assert_allclose(dirty.context, clean.context, **CLOSE)
    np.testing.assert_allclose(dense(dirty.weights), dense(clean.weights), **CLOSE)
    np.testing.assert_allclose(dirty.entropy, clean.entropy, **CLOSE)
    np.testing.assert_allclose(dirty.key_mass, clean.key_mass, **CLOSE)


@given(st.data(), problems())
def test_a_bad_value_reaches_only_the_rows_that_may_attend_to_it(data, problem):
    options = data.draw(restrictions(problem.shape))
    bad = data.draw(arrays_of.arrays(np.bool_, problem.value.shape))
    value = np.where(bad, np.nan, problem.value)
    allowed = allowed_places(problem, **options)
    reached = (allowed[..., None] & bad[..., None, :, :]).any(-2)  # (..., L, Dv)
    result = problem.attend(value=value, **options)
    np.testing.assert_array_equal(np.isnan(result.context), reached)


# ----------------------------------------------------------------------------- equivalent arguments


@given(st.data(), problems())
def test_tiled_is_untiled(data, problem):
    options = data.draw(restrictions(problem.shape))
    untiled = problem.attend(**options, tile=(100, 100))
    tiled = problem.attend(**options, tile=data.draw(tiles.filter(bool)))
    np.testing.assert_allclose(tiled.context, untiled.context, **CLOSE)
    np.testing.assert_allclose(dense(tiled.weights), dense(untiled.weights), **CLOSE)
    np.testing.assert_allclose(tiled.log_normalizer, untiled.log_normalizer, **CLOSE)
    np.testing.assert_allclose(tiled.entropy, untiled.entropy, **CLOSE)
    np.testing.assert_allclose(tiled.key_mass, untiled.key_mass, **CLOSE)


def same(ours: ac.AttentionResult, theirs: ac.AttentionResult) -> None:
    np.testing.assert_allclose(ours.context, theirs.context, **CLOSE)
    np.testing.assert_allclose(dense(ours.weights), dense(theirs.weights), **CLOSE)
    np.testing.assert_array_equal(dense(ours.weights) == 0, dense(theirs.weights) == 0)
    np.testing.assert_allclose(ours.log_normalizer, theirs.log_normalizer, **CLOSE)


def positions(problem: Problem, offset: int) -> Any:
    *_, n_queries, n_keys = problem.shape
    return np.arange(n_queries)[:, None] + offset, np.arange(n_keys)[None, :]


@given(problems(), st.integers(-8, 8))
def test_causal_is_an_explicit_mask(problem, offset):
    i, j = positions(problem, offset)
    same(problem.attend(is_causal=True, query_offset=offset), problem.attend(mask=j <= i))


@given(problems(), st.integers(-8, 8), st.none() | st.integers(0, 5), st.none() | st.integers(0, 5))
def test_window_is_an_explicit_mask(problem, offset, left, right):
    i, j = positions(problem, offset)
    mask = np.ones(np.broadcast_shapes(i.shape, j.shape), bool)
    if left is not None:
        mask &= j >= i - left
    if right is not None:
        mask &= j <= i + right
    same(problem.attend(window=(left, right), query_offset=offset), problem.attend(mask=mask))


@given(st.data(), problems())
def test_lengths_are_an_explicit_mask(data, problem):
    *batch, n_queries, n_keys = problem.shape
    batch = tuple(batch)
    keys = data.draw(arrays_of.arrays(np.int64, batch, elements=st.integers(0, n_keys)))
    queries = data.draw(arrays_of.arrays(np.int64, batch, elements=st.integers(0, n_queries)))
    i, j = positions(problem, 0)
    mask = (j < keys[..., None, None]) & (i < queries[..., None, None])
    same(problem.attend(key_lengths=keys, query_lengths=queries), problem.attend(mask=mask))


@given(st.data(), problems(), st.sampled_from(["csr", "csc", "coo"]))
def test_a_sparse_mask_is_a_dense_mask(data, problem, form):
    mask = data.draw(arrays_of.arrays(np.bool_, problem.shape[-2:]))
    edges = scipy.sparse.coo_array(mask).asformat(form)
    same(problem.attend(mask=edges), problem.attend(mask=mask))


@given(problems(), st.integers(-3, 3))
def test_a_function_is_the_array_of_its_numbers(problem, offset):
    i, j = positions(problem, offset)

    def mask(i, j):
        return (3 * i + j) % 4 != 1

    def bias(i, j):
        return 0.5 * i - 0.25 * j

    same(
        problem.attend(mask=mask, bias=bias, query_offset=offset),
        problem.attend(mask=mask(i, j), bias=bias(i, j)),
    )


@given(problems(queries=st.integers(1, 6)))
def test_one_query_is_a_block_of_one(problem):
    step = problem.attend(query=problem.query[..., 0, :][(0,) * (problem.query.ndim - 2)])
    first = problem.query[(0,) * (problem.query.ndim - 2)][:1]
    block = problem.attend(query=first)
    np.testing.assert_allclose(step.context, block.context[..., 0, :], **CLOSE)
    np.testing.assert_allclose(step.weights, block.weights[..., 0, :], **CLOSE)
    np.testing.assert_allclose(step.log_normalizer, block.log_normalizer[..., 0], **CLOSE)


@given(st.data(), problems())
def test_a_memory_grown_in_pieces_is_the_whole(data, problem):
    cut = data.draw(st.integers(0, problem.shape[-1]))
    attention = ac.Attention(problem.case.scorer, tile=problem.tile, is_causal=True)
    memory = attention.memory(problem.key[..., :cut, :], problem.value[..., :cut, :])
    memory.append(problem.key[..., cut:, :], problem.value[..., cut:, :])
    same(attention(problem.query, memory), problem.attend(is_causal=True))


# ----------------------------------------------------------------------------------------- algebra


@given(problems(), st.floats(0.25, 20.0))
def test_softcap_bounds_the_scores_and_keeps_their_order(problem, cap):
    capped, free = problem.attend(softcap=cap).scores, problem.attend().scores
    assert (abs(capped) <= cap).all()
    assert (abs(capped) <= abs(free) * (1 + 1e-12)).all()
    np.testing.assert_allclose(capped, cap * np.tanh(free / cap), rtol=1e-9, atol=1e-10)


@given(st.data(), problems(), numbers, numbers)
def test_the_context_is_linear_in_the_values(data, problem, a, b):
    other = data.draw(arrays_of.arrays(np.float64, problem.value.shape, elements=numbers))
    mixed = problem.attend(value=a * problem.value + b * other)
    parts = a * problem.attend().context + b * problem.attend(value=other).context
    np.testing.assert_allclose(mixed.context, parts, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(mixed.weights, problem.attend().weights)


@given(problems(keys=st.integers(1, 6)))
def test_the_context_stays_within_the_values(problem):
    context = problem.attend().context
    slack = 1e-12 * (1 + abs(problem.value).max())
    assert (context <= problem.value.max(-2, keepdims=True) + slack).all()
    assert (context >= problem.value.min(-2, keepdims=True) - slack).all()


@given(problems(keys=st.integers(1, 6)))
def test_entropy_lies_between_certainty_and_the_logarithm_of_the_keys(problem):
    result = problem.attend()
    assert (result.entropy >= -1e-12).all()
    assert (result.entropy <= np.log(problem.shape[-1]) + 1e-12).all()
    np.testing.assert_allclose(
        result.key_mass.sum(-1), np.full(problem.shape[:-2], float(problem.shape[-2])), rtol=1e-12
    )


# -------------------------------------------------------------------------------------- magnitudes


@st.composite
def rows_of_scores(draw: st.DrawFn, largest: float) -> Any:
    exact = st.floats(-largest, largest, width=32)
    near = draw(exact)  # far from zero and near to each other, the common offset matters
    close = st.floats(-2, 2, width=32).map(lambda s: float(np.float32(near + s)))
    return array(draw, draw(st.integers(1, 8)), elements=draw(st.sampled_from([exact, close])),
                 dtype=np.float32)  # fmt: skip


@given(rows_of_scores(1e4), st.sampled_from([np.float32, np.float64]), tiles, st.integers(1, 20))
def test_scores_of_any_size_never_overflow(scores, dtype, tile, queries):
    key = scores.astype(dtype)[:, None]
    result = ac.attend(
        np.ones((queries, 1), dtype), key, np.eye(len(key), dtype=dtype), scorer="dot", tile=tile
    )
    wide = scores.astype(np.float64)
    weights = np.exp(wide - wide.max()) / np.exp(wide - wide.max()).sum()
    # the scores are exact; their difference from the largest is rounded, and its exponential
    tolerance = 1e-6 + 2 * float(np.finfo(dtype).eps) * abs(wide - wide.max())
    tiny = float(np.finfo(dtype).tiny)
    assert (abs(result.weights - weights) <= tolerance * weights + tiny).all()
    assert np.isfinite(result.log_normalizer).all()
    np.testing.assert_allclose(result.context, result.weights, rtol=1e-5, atol=1e-30)


@given(
    rows_of_scores(60.0),
    st.sampled_from([1e-30, 1e-20, 1.0, 1e20, 1e30]),
    tiles,
    st.sampled_from([1, 20]),
)
def test_values_of_any_size_keep_their_digits(scores, size, tile, queries):
    # exp(60) * 1e30 is beyond float32, and exp(-60) * 1e-30 underflows it
    key = scores[:, None]
    value = (size * np.arange(1, len(key) + 1, dtype=np.float64)[:, None]).astype(np.float32)
    result = ac.attend(np.ones((queries, 1), np.float32), key, value, scorer="dot", tile=tile)
    wide = scores.astype(np.float64)
    weights = np.exp(wide - wide.max()) / np.exp(wide - wide.max()).sum()
    expected = weights @ value.astype(np.float64)
    # every value is positive, so nothing cancels: eps times the span of the scores, twice
    np.testing.assert_allclose(result.context, [expected] * queries, rtol=4e-5)


@given(problems(), st.sampled_from([1e-3, 1e-1, 10.0, 1e3]))
def test_float32_agrees_with_the_oracle_at_any_size(problem, size):
    narrow = [a.astype(np.float32) for a in (problem.query, problem.key, problem.value)]
    narrow[0] *= np.float32(size)
    problem.case.check(*narrow, tile=problem.tile, scale=500.0 * max(1.0, size))
