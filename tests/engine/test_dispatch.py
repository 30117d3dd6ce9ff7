"""Dispatch of a call: the few files and functions it enters, and the arrays it keeps."""

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import attention_core as ac

PACKAGE = str(Path(ac.__file__).parent)
EYE = np.eye(4)


def entered(call):
    """The files and the number of functions of the package that a call enters."""
    call()  # fills the caches
    seen = []

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            seen.append(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return len(set(seen)), len(seen)


@pytest.mark.parametrize(
    ("options", "files", "calls"), [({}, 9, 24), ({"is_causal": True}, 12, 50)], ids=str
)
def test_small_calls_enter_few_files_and_functions(options, files, calls):
    found = entered(lambda: ac.attend(EYE, EYE, EYE, scorer="scaled_dot", **options))
    assert found <= (files, calls)


def test_a_buffer_that_is_used_again_changes_no_result():
    keys, buffer, results = 5 * EYE, np.empty((1, 4)), []
    for row in keys[:3]:
        buffer[:] = row
        results.append(ac.attend(buffer, EYE, EYE, scorer="dot"))
    assert [result.weights.argmax() for result in results] == [0, 1, 2]
    gradients = [result.vjp(EYE[:1]).key for result in results]
    assert not np.array_equal(gradients[0], gradients[1])


def large(rng, name):
    arrays = {
        "query": rng.standard_normal((150, 64)),
        "key": rng.standard_normal((150, 64)),
        "value": rng.standard_normal((150, 64)),
        "bias": rng.standard_normal((150, 150)),
        "mask": rng.random((300, 300)) < 0.5,
    }
    if name == "mask":
        arrays |= {
            "query": rng.standard_normal((300, 2)),
            "key": rng.standard_normal((300, 2)),
            "value": rng.standard_normal((300, 2)),
            "bias": None,
        }
    else:
        arrays["mask"] = None
    return arrays


@pytest.mark.parametrize("name", ["query", "key", "value", "bias", "mask"])
@pytest.mark.parametrize("question", ["weights", "scores", "entropy", "vjp"])
def test_a_large_array_that_changes_is_noticed(rng, name, question):
    arrays = large(rng, name)
    result = ac.attend(scorer="dot", **arrays)
    array = arrays[name]
    array[7, 1] = ~array[7, 1] if name == "mask" else array[7, 1] + 1
    with pytest.raises(ac.ChangedInputError, match=f"^{name} was written to after the call"):
        result.vjp(result.context) if question == "vjp" else getattr(result, question)


def test_rows_that_change_places_are_noticed(rng):
    key = rng.standard_normal((3, 500, 64))[:, :400]  # not contiguous
    result = ac.attend(key[:, :100], key, key, scorer="dot")
    key[1, [3, 200]] = key[1, [200, 3]]
    with pytest.raises(ac.ChangedInputError):
        _ = result.weights


@pytest.mark.parametrize("batch", [(), (8,)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_few_queries_keep_their_scores_instead(rng, batch, is_causal):
    query = rng.standard_normal((*batch, 1, 64))
    key, value = rng.standard_normal((2, *batch, 600, 64))
    options = {"scorer": "scaled_dot", "is_causal": is_causal, "query_offset": 400}
    expected = ac.attend(query, key, value, **options)
    result = ac.attend(query, key, value, **options)
    weights, top, gradients = expected.weights, expected.top_k(3), expected.vjp(expected.context)
    for got, wanted in zip(result.vjp(result.context)[:3], gradients[:3], strict=True):
        np.testing.assert_array_equal(got, wanted)
    key += 1
    np.testing.assert_array_equal(result.weights, weights)
    np.testing.assert_array_equal(result.top_k(3).indices, top.indices)
    with pytest.raises(ac.ChangedInputError, match=r"^key was written"):
        result.vjp(result.context)
    key -= 1
    value[..., :300, :] += 1
    with pytest.raises(ac.ChangedInputError, match=r"^(value|key) was written"):
        result.vjp(result.context)


def test_a_memory_may_change_afterwards(rng):
    attention = ac.Attention("dot")
    key, value = rng.standard_normal((2, 300, 64))
    expected = ac.attend(key[:100].copy(), key.copy(), value.copy(), scorer="dot").weights
    memory = attention.memory(key, value)
    result = attention(key[:100].copy(), memory)
    memory.append(key, value)
    memory.clear()
    key[:] = 0
    np.testing.assert_array_equal(result.weights, expected)


@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"mask": EYE > 0}, {"bias": EYE, "softcap": 2.0}, {"tile": (2, 3)}],
    ids=str,
)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_results_can_be_copied_and_pickled(options, copied):
    result = ac.attend(EYE, EYE, EYE, scorer="scaled_dot", **options)
    again = copied(result)
    for name in ("context", "weights", "scores", "entropy", "key_mass", "log_normalizer"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    np.testing.assert_array_equal(again.vjp(EYE).key, result.vjp(EYE).key)


def test_a_result_with_a_sparse_mask_can_be_pickled():
    from scipy.sparse import csr_array

    result = ac.attend(EYE, EYE, EYE, scorer="dot", mask=csr_array(EYE))
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.weights.toarray(), EYE)


def test_a_result_shows_its_shapes():
    result = ac.attend(np.zeros((2, 3, 4)), np.zeros((5, 4)), np.zeros((5, 6)), scorer="dot")
    assert repr(result) == (
        "AttentionResult(context (2, 3, 6), weights (2, 3, 5), float64, scorer 'dot' "
        f"(attention-core {ac.__version__}))"
    )


def test_gradients_show_their_shapes():
    scorer = ac.make_scorer("general", weight=np.eye(4))
    result = ac.attend(np.zeros((2, 3, 4)), np.zeros((5, 4)), np.zeros((5, 6)), scorer=scorer)
    assert repr(result.vjp(np.ones((2, 3, 6)))) == (
        "Gradients(query=float64[2, 3, 4], key=float64[5, 4], value=float64[5, 6], bias=None, "
        "parameters={'weight': float64[4, 4]}, normalizer={})"
    )


class Boastful(ac.InnerProductScorer):
    """A scorer whose bound is far too small."""

    def score(self, query, key):
        return np.matmul(query, key.swapaxes(-1, -2))

    def score_bound(self, query, key):
        return 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bound_that_is_wrong_gives_right_numbers(dtype):
    key = 40 * np.eye(64, dtype=dtype)
    result = ac.attend(key, key, key, scorer=Boastful(), tile=(16, 16))
    np.testing.assert_allclose(result.weights, np.eye(64), atol=1e-12)
    np.testing.assert_allclose(result.context, key, atol=1e-5)


@pytest.mark.parametrize(("dtype", "softcap"), [(np.float32, 1e-60), (np.float64, 5e-324)])
@pytest.mark.parametrize("tile", [None, (2, 2)])
def test_a_softcap_of_almost_nothing_makes_weights_equal(dtype, softcap, tile):
    x = np.arange(4, dtype=dtype)[:, None]
    result = ac.attend(x, x, x, scorer="dot", softcap=softcap, tile=tile)
    np.testing.assert_allclose(result.weights, np.full((4, 4), 0.25))
    assert all(np.isfinite(array).all() for array in result.vjp(x)[:3])
