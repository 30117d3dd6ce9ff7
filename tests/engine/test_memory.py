"""Attending to a memory of projected keys equals attending to the keys themselves."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from cases import Taxicab, assert_agrees, dense, largest, make_case

import attention_core as ac

PARTS = ("context", "weights", "scores", "log_normalizer", "entropy", "key_mass")


def agree(ours, theirs):
    for name in PARTS:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def come_close(ours, theirs):
    """The last bits may depend on the number of rows that are projected together."""
    for name in PARTS:
        one, other = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13, err_msg=name)


def test_a_memory_needs_a_scorer():
    with pytest.raises(ac.OptionTypeError) as caught:
        ac.Memory("dot", np.eye(2), np.eye(2))
    assert str(caught.value) == (
        "scorer must be a Scorer, got 'dot'; memories by name are made by "
        "Attention(scorer).memory(key, value)"
    )


def test_a_memory_stands_for_its_keys_and_values(case, rng):
    query, key, value = case.arrays(rng, (2,))
    attention = ac.Attention(case.scorer)
    memory = attention.memory(key, value)
    assert len(memory) == 7
    agree(attention(query, memory), attention(query, key, value))


def test_attend_takes_a_memory_too(case, rng):
    query, key, value = case.arrays(rng)
    memory = ac.Attention(case.scorer).memory(key, value)
    result = ac.attend(query, memory, scorer=case.scorer, is_causal=True, query_offset=2)
    agree(result, case.attend(query, key, value, is_causal=True, query_offset=2))


def test_a_memory_takes_every_option(case, rng):
    query, key, value = case.arrays(rng, (2,))
    attention = ac.Attention(case.scorer, is_causal=True, window=(4, 1), softcap=3.0, tile=(2, 3))
    options = {
        "mask": rng.random((5, 7)) < 0.8,
        "bias": rng.standard_normal((5, 7)),
        "key_lengths": [6, 7],
        "query_lengths": [5, 4],
        "query_offset": np.array([1, 3]),
    }
    agree(
        attention(query, attention.memory(key, value), **options),
        attention(query, key, value, **options),
    )


def test_a_memory_takes_a_sparse_mask(rng):
    case = make_case("additive")
    query, key, value = case.arrays(rng)
    mask = scipy.sparse.csr_array(rng.random((5, 7)) < 0.5)
    memory = ac.Attention(case.scorer).memory(key, value)
    ours = ac.attend(query, memory, scorer=case.scorer, mask=mask)
    theirs = case.attend(query, key, value, mask=mask)
    np.testing.assert_array_equal(ours.context, theirs.context)
    np.testing.assert_array_equal(dense(ours.weights), dense(theirs.weights))


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("sizes", [(7, 0, 0), (1, 6), (0, 3, 4), (2, 2, 2, 1)], ids=str)
def test_appending_piece_by_piece_makes_the_whole(case, rng, batch, sizes):
    query, key, value = case.arrays(rng, batch)
    attention = ac.Attention(case.scorer)
    cuts = np.cumsum(sizes)[:-1]
    (first_key, *keys), (first_value, *values) = (np.split(a, cuts, axis=-2) for a in (key, value))
    memory = attention.memory(first_key, first_value)
    for more_keys, more_values in zip(keys, values, strict=True):
        memory.append(more_keys, more_values)
    assert len(memory) == 7
    expected = case.expect(query, key, value)
    assert_agrees(attention(query, memory), expected, value_scale=largest(value))


def test_one_key_and_value_may_be_appended_without_their_axis(case, rng):
    query, key, value = case.arrays(rng)
    memory = ac.Attention(case.scorer).memory(key[:6], value[:6])
    memory.append(key[6], value[6])
    assert_agrees(
        ac.attend(query, memory, scorer=case.scorer),
        case.expect(query, key, value),
        value_scale=largest(value),
    )


def test_decoder_steps_make_the_causal_whole(case, rng):
    # self-attention: at each step one more key, and one query at that position
    query, key, value = case.arrays(rng, queries=9, keys=9)
    attention = ac.Attention(case.scorer, is_causal=True, window=(4, 0))
    whole = attention(query, key, value)
    memory = attention.memory(key[:0], value[:0])
    for step in range(9):
        memory.append(key[step : step + 1], value[step : step + 1])
        one = attention(query[step], memory, query_offset=step)
        np.testing.assert_allclose(one.context, whole.context[step], rtol=1e-11, atol=1e-12)
        seen = whole.weights[step, : step + 1]
        np.testing.assert_allclose(one.weights, seen, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(one.log_normalizer, whole.log_normalizer[step], rtol=1e-11)


def test_several_queries_per_step_with_a_query_offset(case, rng):
    query, key, value = case.arrays(rng, (2,), queries=8, keys=8)
    attention = ac.Attention(case.scorer, is_causal=True)
    whole = attention(query, key, value)
    memory = attention.memory(key[:, :4], value[:, :4])
    first = attention(query[:, :4], memory)
    memory.append(key[:, 4:], value[:, 4:])
    second = attention(query[:, 4:], memory, query_offset=4)
    steps = np.concatenate([first.context, second.context], axis=-2)
    np.testing.assert_allclose(steps, whole.context, rtol=1e-11, atol=1e-12)


def test_many_queries_may_share_one_memory(case, rng):
    # a batch of queries against the keys of one sentence
    query, key, value = case.arrays(rng, (3,))
    memory = ac.Attention(case.scorer).memory(key[0], value[0])
    result = ac.attend(query, memory, scorer=case.scorer)
    assert_agrees(result, case.expect(query, key[0], value[0]), value_scale=largest(value))


def test_keys_are_projected_once(rng):
    class Counting(Taxicab):
        def __init__(self):
            self.projected = 0

        def project_key(self, key):
            self.projected += key.shape[-2]
            return super().project_key(key)

    scorer = Counting()
    query, key, value = make_case("taxicab").arrays(rng)
    attention = ac.Attention(scorer)
    memory = attention.memory(key, value)
    memory.append(key[:2], value[:2])
    for _ in range(3):
        attention(query, memory).weights
    assert scorer.projected == 9


@pytest.mark.parametrize("cut", [7, 4, 0])
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_a_memory_never_changes_with_the_arrays_it_was_made_of(case, rng, cut, dtype):
    query, key, value = case.arrays(rng, dtype=dtype)
    expected = case.expect(query, key, value)
    given = [array.copy() for array in (key[:cut], value[:cut], key[cut:], value[cut:])]
    memory = ac.Attention(case.scorer).memory(*given[:2])
    if cut < 7:  # otherwise the first arrays are never moved to larger ones
        memory.append(*given[2:])
    for array in given:
        array[...] = np.nan
    result = ac.attend(query, memory, scorer=case.scorer)
    assert_agrees(result, expected, value_scale=largest(value))


def test_the_arrays_a_memory_is_made_of_are_never_written_to(case, rng):
    query, key, value = case.arrays(rng)
    for array in (key, value):
        array.flags.writeable = False
    memory = ac.Attention(case.scorer).memory(key[:3], value[:3])
    memory.append(key[3:], value[3:])
    assert_agrees(
        ac.attend(query, memory, scorer=case.scorer),
        case.expect(query, key, value),
        value_scale=largest(value),
    )


@pytest.mark.parametrize("is_read_before", [True, False])
def test_results_taken_before_an_append_keep_what_they_saw(case, rng, is_read_before):
    query, key, value = case.arrays(rng)
    attention = ac.Attention(case.scorer)
    memory = attention.memory(key[:4], value[:4])
    before = attention(query, memory)
    if is_read_before:
        before.weights
    for n in range(4, 7):  # far enough for the memory to move to larger arrays
        memory.append(key[n : n + 1], value[n : n + 1])
        memory.append(100 * key[:3], 100 * value[:3])
    assert_agrees(before, case.expect(query, key[:4], value[:4]), value_scale=largest(value))


def test_garbage_beyond_the_end_of_a_memory_never_arrives(case, rng):
    query, key, value = case.arrays(rng)
    attention = ac.Attention(case.scorer)
    memory = attention.memory(key[:4], value[:4])
    memory.append(np.full_like(key[4:], np.nan), np.full_like(value[4:], np.inf))
    result = attention(query, memory, key_lengths=4)
    expected = case.expect(query, key[:4], value[:4])
    np.testing.assert_allclose(result.context, expected.context, rtol=1e-12, atol=1e-13)


def test_appending_stays_cheap():
    # amortized: doubling the memory n times moves each key a bounded number of times
    memory = ac.Attention("dot").memory(np.ones((1, 2)), np.ones((1, 2)))
    moves = 0
    for _ in range(1000):
        before = memory.key
        memory.append(np.ones((1, 2)), np.ones((1, 2)))
        moves += not np.shares_memory(before, memory.key)
    assert len(memory) == 1001
    assert moves <= 20


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_memory_keeps_its_dtype(case, rng, dtype):
    query, key, value = case.arrays(rng, (2,), dtype=dtype)
    attention = ac.Attention(case.scorer)
    memory = attention.memory(key[:, :4], value[:, :4])
    memory.append(key[:, 4:], value[:, 4:])
    result = attention(query, memory)
    assert result.context.dtype == dtype
    assert_agrees(result, case.expect(query, key, value), value_scale=largest(value))


@pytest.mark.parametrize(
    ("query", "key", "value", "expected"),
    [
        (np.float64, np.float32, np.float32, np.float64),
        (np.float32, np.float64, np.float64, np.float64),
        (np.float16, np.float32, np.float32, np.float32),
        (np.float32, np.float16, np.float16, np.float32),
        (np.float32, np.float16, np.float32, np.float32),
        (np.float32, np.int64, np.float32, np.float64),
    ],
)
def test_query_and_memory_meet_in_the_wider_dtype(rng, query, key, value, expected):
    case = make_case("additive")
    dtypes = (query, key, value)
    arrays = [(3 * a).astype(t) for a, t in zip(case.arrays(rng), dtypes, strict=True)]
    attention = ac.Attention(case.scorer)
    result = attention(arrays[0], attention.memory(*arrays[1:]))
    assert result.context.dtype == expected
    direct = attention(*arrays)
    assert direct.context.dtype == expected
    # a memory projects its keys in its own dtype, which may be float32
    np.testing.assert_allclose(result.context, direct.context, rtol=2e-5, atol=2e-6)


def test_keys_are_projected_in_the_precision_they_came_in(case, rng):
    query, key, value = case.arrays(rng, dtype=np.float32)
    query = query.astype(np.float64)
    attention = ac.Attention(case.scorer)
    direct = attention(query, key, value).context
    wide = attention(query, attention.memory(key.astype(np.float64), value)).context
    np.testing.assert_array_equal(wide, direct)
    narrow = attention(query, attention.memory(key, value)).context
    assert narrow.dtype == np.float64
    if not case.scorer.traits.projects_key:
        np.testing.assert_array_equal(narrow, direct)
    else:
        np.testing.assert_allclose(narrow, direct, rtol=2e-5, atol=2e-6)


def test_a_memory_serves_equal_scorers_alone(case, rng):
    query, key, value = case.arrays(rng)
    memory = ac.Attention(case.scorer).memory(key, value)
    wanted = ac.attend(query, memory, scorer=case.scorer).context
    twin = copy.deepcopy(case.scorer)
    np.testing.assert_array_equal(ac.attend(query, memory, scorer=twin).context, wanted)
    np.testing.assert_array_equal(ac.attend(query, memory, scorer=case.scorer).context, wanted)
    others = [ac.InnerProductScorer()]
    if twin.parameters:
        others.append(twin.with_parameter_vector(twin.parameter_vector + 1))
    for other in others:
        with pytest.raises(ac.OptionError, match=r"^this memory was made for another scorer"):
            ac.attend(query, memory, scorer=other)


def test_scorers_that_cannot_be_compared_are_served_by_their_own_memory_alone():
    @dataclass(frozen=True)
    class Kept(ac.InnerProductScorer):
        weight: np.ndarray  # comparing such dataclasses with == raises ValueError

        def project_key(self, key):
            return key * self.weight

    class Forgetful(ac.InnerProductScorer):
        def __init__(self, scale):
            self._scale = scale

    x = np.eye(2)
    memory = ac.Attention(Kept(np.ones(2))).memory(x, x)
    assert ac.attend(x, memory, scorer=Kept(np.ones(2))).context.shape == (2, 2)
    for other in (Kept(np.zeros(2)), Kept(np.ones(2, np.float32)), Forgetful(1)):
        with pytest.raises(ac.OptionError, match="another scorer"):
            ac.attend(x, memory, scorer=other)
    forgetful = Forgetful(2)
    memory = ac.Attention(forgetful).memory(x, x)
    assert ac.attend(x, memory, scorer=forgetful).context.shape == (2, 2)
    with pytest.raises(ac.OptionError, match="another scorer"):
        ac.attend(x, memory, scorer=Forgetful(2))


WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda memory: pickle.loads(pickle.dumps(memory)),
    "take": lambda memory: memory.take([0, 1]),
}


@pytest.mark.parametrize("way", WAYS)
def test_branches_of_a_memory_never_see_each_other(case, way, rng):
    query, key, value = case.arrays(rng, (2,), keys=9)
    attention = ac.Attention(case.scorer)
    memory = attention.memory(key[:, :2], value[:, :2])
    memory.append(key[:, 2:3], value[:, 2:3])  # the arrays now have spare rows
    before = attention(query, memory)
    branches = {start: WAYS[way](memory) for start in (3, 5, 7)}
    for step in (0, 1):
        for start, branch in branches.items():
            rows = slice(start + step, start + step + 1)
            branch.append(key[:, rows], value[:, rows])
    for start, branch in branches.items():
        rows = [0, 1, 2, start, start + 1]
        assert len(branch) == 5
        come_close(attention(query, branch), attention(query, key[:, rows], value[:, rows]))
    assert len(memory) == 3
    come_close(attention(query, memory), before)
    if not isinstance(case.scorer, Taxicab):
        grad = rng.standard_normal(before.context.shape)
        wanted = attention(query, key[:, :3], value[:, :3]).vjp(grad)
        np.testing.assert_allclose(before.vjp(grad).key, wanted.key, rtol=1e-12, atol=1e-13)


def test_a_copy_costs_nothing_and_one_branch_appends_in_place():
    memory = ac.Attention("dot").memory(np.ones((4, 2)), np.ones((4, 2)))
    memory.append([1.0, 1.0], [1.0, 1.0])
    branch = copy.copy(memory)
    assert np.shares_memory(branch.key, memory.key)
    branch.append([2.0, 2.0], [2.0, 2.0])
    assert np.shares_memory(branch.key, memory.key)
    memory.append([3.0, 3.0], [3.0, 3.0])
    assert not np.shares_memory(branch.key, memory.key)
    assert (branch.key[-1].tolist(), memory.key[-1].tolist()) == ([2, 2], [3, 3])


def test_threads_that_append_to_copies_stay_apart():
    memory = ac.Attention("dot").memory(np.zeros((1, 1)), np.zeros((1, 1)))
    memory.append(np.zeros((30, 1)), np.zeros((30, 1)))

    def grown(number):
        own = copy.copy(memory)
        for _ in range(40):
            own.append([number], [number])
        return own

    with ThreadPoolExecutor(8) as pool:
        for number, own in enumerate(pool.map(grown, range(1, 33)), 1):
            assert (own.value[31:] == number).all()
            assert len(own) == 71


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_pickle_holds_no_room_and_nothing_of_other_branches(way):
    memory = ac.Attention("dot").memory(np.ones((100, 8)), np.ones((100, 8)))
    branch = copy.copy(memory)
    branch.append(np.full((1, 8), 7.0), np.full((1, 8), 7.0))
    assert memory.nbytes == 2 * 100 * 8 * 8
    assert branch.nbytes == 2 * 202 * 8 * 8
    twin = WAYS[way](branch)
    assert twin.nbytes == 2 * 101 * 8 * 8
    shorter = copy.copy(branch)
    shorter.truncate(2)
    assert len(pickle.dumps(shorter)) < 2000


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize("indices", [[2, 0, 0, -1], [], [1]])
def test_take_makes_a_memory_of_some_batch_items(case, axis, indices, rng):
    query, key, value = case.arrays(rng, (3, 3))
    attention = ac.Attention(case.scorer)
    memory = attention.memory(key[:, :, :5], value[:, :, :5])
    memory.append(key[:, :, 5:], value[:, :, 5:])
    taken = memory.take(indices, axis=axis)
    own = [0, 1][axis]
    q, k, v = (array.take(np.asarray(indices, int), own) for array in (query, key, value))
    come_close(attention(q, taken), attention(q, k, v))
    taken.append(k[:, :, :1], v[:, :, :1])
    again = (np.concatenate([array, array[:, :, :1]], axis=2) for array in (k, v))
    come_close(attention(q, taken), attention(q, *again))
    come_close(attention(query, memory), attention(query, key, value))


@pytest.mark.parametrize(
    ("key_batch", "value_batch"),
    [((), (3,)), ((3,), ()), ((1,), (3,)), ((3, 1), (2,)), ((1,), (1,)), ((1, 1), (1,))],
)
def test_items_of_broadcast_arrays_still_broadcast(key_batch, value_batch, rng):
    case = make_case("additive")
    key, value = case.arrays(rng, key_batch)[1], case.arrays(rng, value_batch)[2]
    query = case.arrays(rng)[0]
    batch = np.broadcast_shapes(key_batch, value_batch)
    attention = ac.Attention(case.scorer)
    memory = attention.memory(key, value)
    whole = attention(query, key, value).context  # (*batch, L, Dv)
    for axis in range(len(batch)):
        indices = [batch[axis] - 1, 0, 0, 0]
        found = attention(query, memory.take(indices, axis)).context
        np.testing.assert_array_equal(found, whole.take(indices, axis))
        assert memory.take(indices, axis).nbytes <= 4 * memory.nbytes


@pytest.mark.parametrize("length", [0, 1, 4, 7])
def test_truncated_guesses_are_gone(case, length, rng):
    query, key, value = case.arrays(rng)
    attention = ac.Attention(case.scorer)
    memory = attention.memory(key, value)
    before = attention(query, memory)
    memory.truncate(length)
    assert len(memory) == length
    come_close(attention(query, memory), attention(query, key[:length], value[:length]))
    memory.append(9 * key[:2], 9 * value[:2])
    again = (np.concatenate([array[:length], 9 * array[:2]]) for array in (key, value))
    come_close(attention(query, memory), attention(query, *again))
    come_close(before, attention(query, key, value))


def test_a_cleared_memory_can_be_filled_again(case, rng):
    query, key, value = case.arrays(rng, (2,))
    attention = ac.Attention(case.scorer)
    memory = attention.memory(9 * key, 9 * value)
    before = attention(query, memory)
    memory.clear()
    assert (len(memory), memory.nbytes) == (0, 0)
    memory.append(key, value)
    come_close(attention(query, memory), attention(query, key, value))
    come_close(before, attention(query, 9 * key, 9 * value))


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (
            lambda m: m.take([0, 3]),
            ac.OptionError,
            "indices: batch item 3 is out of bounds for 3 items",
        ),
        (
            lambda m: m.take([-4]),
            ac.OptionError,
            "indices: batch item -4 is out of bounds for 3 items",
        ),
        (lambda m: m.take(1), ac.ShapeError, "indices must have shape (n,), got ()"),
        (lambda m: m.take([[0]]), ac.ShapeError, "indices must have shape (n,), got (1, 1)"),
        (
            lambda m: m.take([[0], [0, 1]]),
            ac.ShapeError,
            "indices must be an array, got nested lists of different lengths",
        ),
        (
            lambda m: m.take([True, False, True]),
            ac.OptionTypeError,
            "indices must be integers, got dtype bool",
        ),
        (
            lambda m: m.take([0.0]),
            ac.OptionTypeError,
            "indices must be integers, got dtype float64",
        ),
        (
            lambda m: m.take([0], axis=1),
            ac.OptionError,
            "axis must be one of the 1 batch axes of the memory, got 1",
        ),
        (lambda m: m.take([0], axis=None), ac.OptionTypeError, "axis must be an integer, got None"),
        (
            lambda m: m.truncate(5),
            ac.OptionError,
            "length must be from 0 to the number of keys, 4, got 5",
        ),
        (
            lambda m: m.truncate(-1),
            ac.OptionError,
            "length must be from 0 to the number of keys, 4, got -1",
        ),
        (lambda m: m.truncate(1.0), ac.OptionTypeError, "length must be an integer, got 1.0"),
        (lambda m: m.truncate(True), ac.OptionTypeError, "length must be an integer, got True"),
    ],
)
def test_errors_of_memories(act, kind, text):
    memories = [
        ac.Attention("dot").memory(np.ones((3, 4, 2)), np.ones((3, 4, 2))),
        ac.MultiHeadAttention.initialize(2, heads=2, rng=0).memory(*np.ones((2, 3, 4, 2))),
    ]
    for memory in memories:
        with pytest.raises(kind) as caught:
            act(memory)
        assert type(caught.value) is kind
        assert str(caught.value) == text
        assert (len(memory), memory.key.shape) == (4, (3, 4, 2))


def test_a_memory_without_batch_axes_has_nothing_to_take():
    with pytest.raises(ac.OptionError, match=r"^take needs a batch axis, and the memory has none$"):
        ac.Attention("dot").memory(np.ones((4, 2)), np.ones((4, 2))).take([0])


def test_an_empty_memory_is_a_fully_masked_row(case, rng):
    query, key, value = case.arrays(rng, keys=0)
    memory = ac.Attention(case.scorer).memory(key, value)
    result = ac.attend(query, memory, scorer=case.scorer)
    assert len(memory) == 0
    np.testing.assert_array_equal(result.context, np.zeros((5, 3)))
    assert np.isneginf(result.log_normalizer).all()


def test_an_append_that_does_not_fit_leaves_the_memory_as_it_was(case, rng):
    query, key, value = case.arrays(rng)
    attention = ac.Attention(case.scorer)
    memory = attention.memory(key, value)
    expected = attention(query, memory).context
    bad = [
        (key, value[:, :2]),
        (key[:3], value),
        (key[:, :2], value),
        (key[None].repeat(2, 0), value[None].repeat(2, 0)),
        (key.astype(complex), value),
        (key, value.astype(object)),
    ]
    for more_keys, more_values in bad:
        with pytest.raises((ac.ShapeError, ac.DTypeError)):
            memory.append(more_keys, more_values)
        assert len(memory) == 7
        np.testing.assert_array_equal(attention(query, memory).context, expected)
