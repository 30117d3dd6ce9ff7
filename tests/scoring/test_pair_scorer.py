"""Scorers defined by a function of two rows: in NumPy, and compiled."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

import attention_core as ac
from attention_core.engine import edges
from attention_core.scoring import compiled_forms
from attention_core.scoring.contract import served
from attention_core.testing import check_gradients

FACTOR = 0.5


def bent(x):
    return np.tanh(FACTOR * x)


class Bent(ac.PairScorer):
    """score = -scale sum_d weight_d tanh(|q_d - k_d| / 2) - shift."""

    def __init__(self, weight, shift=0.25, scale=2):
        self.weight, self.shift, self.scale = np.asarray(weight), np.asarray(shift), scale

    @staticmethod
    def pair(q, k, weight, shift, scale):
        total = 0
        for d in range(len(q)):
            total += weight[d] * bent(abs(q[d] - k[d]))
        return -scale * total - shift

    @staticmethod
    def pair_vjp(q, k, weight, shift, scale, grad, grad_q, grad_k, grad_weight, grad_shift):
        for d in range(q.shape[0]):
            unit = bent(abs(q[d] - k[d]))
            slope = -scale * weight[d] * (1 - unit**2) / 2 * np.sign(q[d] - k[d]) * grad
            grad_q[d] += slope
            grad_k[d] -= slope
            grad_weight[d] -= scale * unit * grad
        grad_shift[0] -= grad


class OnlyNumbers(ac.PairScorer):
    """score = max_d q_d k_d, with a branch, and a form in NumPy."""

    @staticmethod
    def pair(q, k):
        largest = q[0] * k[0]
        for d in range(1, len(q)):
            if q[d] * k[d] > largest:
                largest = q[d] * k[d]
        return largest

    def score(self, query, key):
        return (query[..., :, None, :] * key[..., None, :, :]).max(-1)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def scorer(rng):
    return Bent(rng.uniform(0.5, 1, 9))


def loops(scorer, query, key, grad):
    """Scores and gradients of (L, H), (S, H), (L, S) in plain Python and float64."""
    weight, shift, scale = scorer.weight, float(scorer.shift), scorer.scale
    scores, sums = np.empty(grad.shape), [np.zeros(a.shape) for a in (query, key, weight)]
    total = np.zeros(1)
    for i, q in enumerate(query.astype(np.float64)):
        for j, k in enumerate(key.astype(np.float64)):
            scores[i, j] = scorer.pair(q, k, weight, shift, scale)
            given = q, k, weight, shift, scale, grad[i, j], sums[0][i], sums[1][j], sums[2], total
            scorer.pair_vjp(*given)
    return scores, *sums, total[0]


def agree(actual, expected, dtype):
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    for found, wanted in zip(actual, expected, strict=True):
        assert found.dtype == dtype
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * scale)


def flat(answer):
    return answer[0], answer[1], *answer[2].values()


# ---------------------------------------------------------------------------------------- NumPy


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_runs_a_function_of_rows_on_tiles(rng, scorer, dtype):
    query, key = rng.normal(size=(5, 9)).astype(dtype), rng.normal(size=(7, 9)).astype(dtype)
    grad = rng.normal(size=(5, 7)).astype(dtype)
    found = scorer.score(query, key), *flat(scorer.score_vjp(query, key, grad))
    agree(found, loops(scorer, query, key, grad), dtype)


def test_numpy_takes_batches_that_broadcast(rng, scorer):
    query, key = rng.normal(size=(3, 1, 5, 9)), rng.normal(size=(2, 7, 9))
    grad = rng.normal(size=(3, 2, 5, 7))
    scores, (by_query, by_key, parameters) = (
        scorer.score(query, key),
        scorer.score_vjp(query, key, grad),
    )
    assert scores.shape == (3, 2, 5, 7)
    assert by_query.shape == (3, 2, 5, 9)
    assert by_key.shape == (3, 2, 7, 9)
    assert {name: array.shape for name, array in parameters.items()} == {
        "weight": (9,),
        "shift": (),
    }
    np.testing.assert_allclose(scores[2, 1], scorer.score(query[2, 0], key[1]))


def test_gradients_are_those_of_finite_differences(scorer):
    check_gradients(scorer, query_dim=9, key_dim=9)


def test_a_function_of_single_numbers_says_what_to_write_instead():
    class Branching(ac.PairScorer):
        pair = OnlyNumbers.__dict__["pair"]

    with pytest.raises(ac.ScorerContractError) as caught:
        ac.attend(np.eye(3), np.eye(3), np.eye(3), scorer=Branching())
    assert str(caught.value) == (
        "scorer Branching: pair takes single numbers only, so NumPy cannot run it for a tile (The "
        "truth value of an array with more than one element is ambiguous. Use a.any() or a.all()); "
        "use numpy.where, numpy.maximum and functions of numpy in place of if, max and math, or "
        "define score in NumPy too"
    )


def test_a_pair_scorer_without_a_pair_cannot_be_made():
    class Empty(ac.PairScorer):
        pass

    with pytest.raises(TypeError, match=r"abstract method '?pair'?"):
        Empty()


def test_functions_with_other_arguments_are_refused_when_the_class_is_made():
    with pytest.raises(ac.ScorerContractError) as caught:

        class Method(ac.PairScorer):
            def pair(self, q, k):
                return 0.0

    assert str(caught.value) == (
        "class Method: pair must be a static method; write @staticmethod above it"
    )
    with pytest.raises(ac.ScorerContractError) as caught:

        class Gradient(ac.PairScorer):
            @staticmethod
            def pair(q, k, weight):
                return 0.0

            @staticmethod
            def pair_vjp(q, k, grad, grad_q, grad_k):
                pass

    assert str(caught.value) == (
        "class Gradient: pair_vjp must be a static method pair_vjp(q, k, weight, grad, grad_q, "
        "grad_k[, grad_weight]), got pair_vjp(q, k, grad, grad_q, grad_k)"
    )


def test_a_pair_serves_the_score_of_its_own_class_and_no_other():
    class OtherScore(Bent):
        def score(self, query, key):
            return np.zeros((len(query), len(key)), query.dtype)

    class OtherPair(Bent):
        @staticmethod
        def pair(q, k, weight, shift, scale):
            return q[0] * k[0]

    class Cheap(Bent):
        cost_per_feature = 1 / 32  # of a matrix product

    tiles, gradients = {"score", "score_pairs"}, {"score_vjp", "score_pairs_vjp"}
    assert Bent.traits.compiled == tiles | gradients
    assert OtherScore.traits.compiled == set()
    assert OtherPair.traits.compiled == tiles
    assert Cheap.traits.compiled == {"score_pairs"}
    assert [each.method for each in OtherScore.traits.missing_vjps] == ["score"]
    assert [each.method for each in OtherPair.traits.missing_vjps] == ["pair"]
    with pytest.raises(ac.NotDifferentiableError, match="defines pair without pair_vjp"):
        OtherPair([1.0]).check_differentiable()


# ------------------------------------------------------------------------------------- compiled


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_code_gives_the_same_scores_and_gradients(compiled, rng, scorer, dtype):
    query, key = rng.normal(size=(70, 9)).astype(dtype), rng.normal(size=(80, 9)).astype(dtype)
    grad = rng.normal(size=(70, 80)).astype(dtype)
    found = (
        served(scorer, "score", query, key),
        *flat(served(scorer, "score_vjp", query, key, grad)),
    )
    agree(found, loops(scorer, query, key, grad), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_code_gives_the_same_for_pairs(compiled, rng, scorer, dtype):
    shape = (2, 2000, 9)
    query, key = rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    grad = rng.normal(size=shape[:-1]).astype(dtype)
    agree(
        (
            served(scorer, "score_pairs", query, key),
            *flat(served(scorer, "score_pairs_vjp", query, key, grad)),
        ),
        (
            scorer.score_pairs(query, key),
            *flat(scorer.score_pairs_vjp(query, key, grad)),
        ),
        dtype,
    )


@pytest.mark.parametrize(
    "arranged",
    [
        lambda array: array[:, ::-1],
        lambda array: np.asfortranarray(array),
        lambda array: np.concatenate([array, array], axis=-1)[..., ::2],
        lambda array: np.concatenate([array, array], axis=-2)[..., 3 : 3 + array.shape[-2], :],
        lambda array: array[:1],
        lambda array: np.broadcast_to(array[:1, :1], array.shape),
    ],
    ids=[
        "reversed",
        "fortran",
        "every other feature",
        "a part of the rows",
        "broadcast",
        "strides 0",
    ],
)
def test_compiled_code_takes_arrays_of_any_layout(compiled, rng, scorer, arranged):
    query, key = arranged(rng.normal(size=(3, 40, 9))), arranged(rng.normal(size=(3, 50, 9)))
    query, key = query[..., :9], key[..., :9]
    grad = arranged(rng.normal(size=(len(query), 40, 50)))[:, :40, :50]
    grad = np.broadcast_to(grad, (3, *grad.shape[1:])) if len(key) == 3 != len(grad) else grad
    found = served(scorer, "score", query, key)
    np.testing.assert_allclose(found, scorer.score(query, key), rtol=1e-12)
    if grad.shape == found.shape:
        agree(
            flat(served(scorer, "score_vjp", query, key, grad)),
            flat(scorer.score_vjp(query, key, grad)),
            np.float64,
        )


@pytest.mark.parametrize("name", ["bent", "additive", "additive of few queries", "scaled_dot"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_code_scores_edges_where_their_ends_lie(
    compiled, rng, scorer, monkeypatch, dtype, name
):
    length = 300 if name != "additive of few queries" else 12
    query, key = rng.normal(size=(2, length, 9)), rng.normal(size=(2, 50, 18))[..., ::2]
    query, key = query.astype(dtype), key.astype(dtype)
    if name == "scaled_dot":
        scorer = ac.make_scorer("scaled_dot")
    elif name != "bent":
        scorer = ac.make_scorer("additive", query_dim=9, key_dim=9, hidden_dim=40, rng=0)
    mask = csr_array(rng.random((length, 50)) < (0.3 if name == "bent" else 0.4))
    call = {"scorer": scorer, "mask": mask, "is_causal": True}
    monkeypatch.setattr(edges, "prefers_edges", lambda _: True)
    monkeypatch.setattr(compiled_forms, "FEWEST_NUMBERS", 1)
    with monkeypatch.context() as patch:
        patch.setenv("ATTENTION_CORE_COMPILED", "0")
        expected = ac.attend(query, key, key, **call)
        expected.scores
    monkeypatch.setattr(
        edges.EdgeEngine, "_score_pairs", lambda *_: pytest.fail("their ends were gathered")
    )
    found = ac.attend(query, key, key, **call)
    agree((found.scores.data,), (expected.scores.data,), dtype)
    agree((found.context,), (expected.context,), dtype)


def test_a_branch_is_compiled_where_numpy_has_a_score_of_its_own(compiled, rng, monkeypatch):
    query, key = rng.normal(size=(64, 9)), rng.normal(size=(64, 9))
    scorer = OnlyNumbers()
    expected = scorer.score(query, key)
    monkeypatch.setattr(OnlyNumbers, "score", lambda *_: pytest.fail("NumPy was asked"))
    np.testing.assert_array_equal(served(scorer, "score", query, key), expected)


def test_little_work_is_left_to_numpy(compiled, rng, scorer, monkeypatch):
    monkeypatch.setattr(compiled_forms, "_pairs", lambda *_: pytest.fail("it was compiled"))
    served(scorer, "score", rng.normal(size=(8, 9)), rng.normal(size=(8, 9)))


def test_compiling_is_switched_off_by_a_variable(rng, scorer, monkeypatch):
    monkeypatch.setattr(compiled_forms, "_pairs", lambda *_: pytest.fail("it was compiled"))
    monkeypatch.setenv("ATTENTION_CORE_COMPILED", "0")
    served(scorer, "score", rng.normal(size=(80, 9)), rng.normal(size=(80, 9)))


@pytest.mark.parametrize("where", ["query", "key"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_reach_the_scores_of_their_row_and_no_other(compiled, rng, where, value):
    scorer = ac.make_scorer("additive", query_dim=4, key_dim=4, hidden_dim=64, rng=0)
    query, key = rng.normal(size=(40, 64)), rng.normal(size=(50, 64))
    expected = scorer.score(query, key)
    (query if where == "query" else key)[3, 5] = value
    found = served(scorer, "score", query, key)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(found, scorer.score(query, key), rtol=1e-10, atol=1e-12)
    others = np.ones(found.shape, bool)
    others[(3, slice(None)) if where == "query" else (slice(None), 3)] = False
    np.testing.assert_allclose(found[others], expected[others], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 30, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_additive_is_exact_to_rounding_for_rows_of_any_size(compiled, rng, scale, dtype):
    scorer = ac.make_scorer("additive", query_dim=4, key_dim=4, hidden_dim=33, rng=0)
    query = (scale * rng.normal(size=(40, 33))).astype(dtype)
    key = (scale * rng.normal(size=(50, 33)) - query[:1]).astype(dtype)
    grad = rng.normal(size=(40, 50)).astype(dtype)
    hidden = np.tanh(query.astype("d")[:, None] + key.astype("d")[None])
    by_pair = grad[..., None] * scorer.score_weight * (1 - hidden**2)
    expected = (
        hidden @ scorer.score_weight,
        by_pair.sum(1),
        by_pair.sum(0),
        (grad[..., None] * hidden).sum((0, 1)),
    )
    agree(
        (served(scorer, "score", query, key), *flat(served(scorer, "score_vjp", query, key, grad))),
        expected,
        dtype,
    )


def test_a_row_that_is_too_short_is_an_error_and_no_wrong_number(compiled, rng):
    scorer = Bent(np.ones(9))
    with pytest.raises(IndexError) as caught:
        served(scorer, "score", rng.normal(size=(80, 12)), rng.normal(size=(80, 12)))
    assert "index 9 is out of bounds" in str(caught.value)


def test_the_same_bits_whatever_the_number_of_workers(compiled, rng):
    scorer = ac.make_scorer("additive", query_dim=8, key_dim=8, hidden_dim=64, rng=0)
    query, key = rng.normal(size=(600, 8)).astype("f"), rng.normal(size=(700, 8)).astype("f")
    one, two = (ac.attend(query, key, key, scorer=scorer, workers=n) for n in (1, 3))
    np.testing.assert_array_equal(one.context, two.context)
    grad = np.ones_like(one.context)
    for first, second in zip(
        one.vjp(grad).parameters.values(), two.vjp(grad).parameters.values(), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_many_threads_may_be_the_first_to_ask(compiled, rng):
    class Fresh(ac.PairScorer):
        @staticmethod
        def pair(q, k):
            total = 1.5
            for d in range(len(q)):
                total += np.exp(-abs(q[d] - k[d]))
            return total

    query, key = rng.normal(size=(70, 9)), rng.normal(size=(70, 9))
    expected, found = Fresh().score(query, key), []
    threads = [
        threading.Thread(target=lambda: found.append(served(Fresh(), "score", query, key)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for scores in found:
        np.testing.assert_allclose(scores, expected, rtol=1e-12)


# ------------------------------------------------------------------- functions that do not compile


class Unknown:
    factor = 2.0


class NotCompiled(ac.PairScorer):
    @staticmethod
    def pair(q, k):
        total = 0.0
        for d in range(len(q)):
            total += Unknown.factor * q[d] * k[d]
        return total


class Writing(ac.PairScorer):
    @staticmethod
    def pair(q, k):
        total = 0.0
        for d in range(len(q)):
            q[d] = 0.0
            total += k[d]
        return total

    def score(self, query, key):
        return query[..., :1] * 0.0 + key.sum(-1)


class NotTyped(ac.PairScorer):
    @staticmethod
    def pair(q, k):
        total = 0.0
        for d in range(len(q)):
            total += np.heaviside(q[d] * k[d], 0.5)
        return total

    def score(self, query, key):
        return query @ key.swapaxes(-1, -2)


class Picky(ac.PairScorer):
    @staticmethod
    def pair(q, k):
        assert q[0] < 10
        return q[0] * k[0]

    def score(self, query, key):
        return query[..., :1] * key[..., None, :, 0]


def test_an_error_within_compiled_code_is_raised(compiled):
    query, key = np.zeros((300, 9)), np.ones((50, 9))
    served(Picky(), "score", query, key)
    query[7, 0] = 11
    with pytest.raises(AssertionError):
        served(Picky(), "score", query, key)


@pytest.mark.parametrize(
    ("value", "kind"), [("relu", "str"), (1 << 70, "int of more than 64 bits")]
)
def test_arguments_that_compiled_code_cannot_take_are_named(compiled, rng, value, kind):
    class Optioned(ac.PairScorer):
        def __init__(self, option):
            self.option = option

        @staticmethod
        def pair(q, k, option):
            return q[0] * k[0]

    query = rng.normal(size=(80, 9))
    with pytest.warns(
        ac.PluginWarning, match=f"'option' must be an array, a number or None, got {kind}"
    ):
        found = served(Optioned(value), "score", query, query)
    np.testing.assert_array_equal(found, np.outer(query[:, 0], query[:, 0]))


@pytest.mark.parametrize(
    ("kind", "line", "cause"),
    [
        (
            NotCompiled,
            "total += Unknown.factor",
            "'Unknown' is a type; only numbers and functions may come from the module",
        ),
        (Writing, "q[d] = 0.0", "it writes to 'q'; only gradients may be written to"),
        (NotTyped, "total += np.heaviside", ""),
    ],
)
def test_scorers_that_cannot_be_compiled_warn_once_and_use_numpy(compiled, rng, kind, line, cause):
    query, key = rng.normal(size=(70, 9)), rng.normal(size=(70, 9))
    expected = kind().score(query, key)
    with pytest.warns(ac.PluginWarning) as caught:
        found = served(kind(), "score", query, key)
    np.testing.assert_array_equal(found, expected)
    lines = Path(__file__).read_text("utf-8").splitlines()
    number = next(n for n, text in enumerate(lines, 1) if text.strip().startswith(line))
    place = f"{__file__}, line {number}: "
    start = f"scorer {kind.__name__} is not compiled; NumPy is used instead: {place}"
    message = str(caught[0].message)
    assert message.startswith(start)
    assert message.endswith(cause)
    assert len(message.splitlines()) == 1
    served(kind(), "score", query, key)  # in silence


# ----------------------------------------------------------------------------- files, processes

SCRIPT = """
import sys
import numpy as np
import attention_core as ac
assert "numba" not in sys.modules
scorer = ac.make_scorer("additive", query_dim=4, key_dim=4, hidden_dim=64, rng=0)
x = np.linspace(-1, 1, 160).reshape(40, 4)
ac.attend(x[:2], x[:2], x[:2], scorer=scorer).context
assert "numba" not in sys.modules
print(ac.attend(x, x, x, scorer=scorer).context.sum().hex())
from attention_core.compiled.pairs import compiled_pairs
assert compiled_pairs.cache_info().currsize == 1
"""


def run(script, **variables):
    environment = {**os.environ, **variables}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_code_is_kept_in_the_cache_and_found_by_the_next_process(compiled, tmp_path):
    first = run(SCRIPT, ATTENTION_CORE_CACHE=str(tmp_path))
    (file,) = tmp_path.iterdir()
    script = f"{SCRIPT}assert 'numba' not in sys.modules\n"
    assert run(script, ATTENTION_CORE_CACHE=str(tmp_path)) == first
    file.write_bytes(file.read_bytes()[:-1])  # written again, not run
    assert run(SCRIPT, ATTENTION_CORE_CACHE=str(tmp_path)) == first
    assert run(script, ATTENTION_CORE_CACHE=str(tmp_path)) == first


NEEDS_NUMBA = """
import math, sys
import numpy as np
import attention_core as ac
class Erf(ac.PairScorer):
    @staticmethod
    def pair(q, k):
        total = 0.0
        for d in range(len(q)):
            total += math.erf(q[d] * k[d])
        return total
    def score(self, query, key):
        raise AssertionError("NumPy was asked")
x = np.linspace(-1, 1, 800).reshape(200, 4)
scores = ac.attend(x, x, x, scorer=Erf()).scores
assert np.allclose(scores[3, 5], sum(map(math.erf, x[3] * x[5])), atol=1e-14)
"""


@pytest.mark.slow
def test_code_that_only_numba_can_run_is_kept_as_numba_keeps_it(compiled, tmp_path):
    file, cache = tmp_path / "script.py", tmp_path / "cache"
    file.write_text(NEEDS_NUMBA)
    script = f"import runpy; runpy.run_path({str(file)!r})"
    run(script, ATTENTION_CORE_CACHE=str(cache))
    (module,) = cache.glob("*.py")
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*.nb*")}
    assert kept
    run(script, ATTENTION_CORE_CACHE=str(cache))
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.nb*")} == kept
    module.write_text("raise SystemExit('not ours')")  # written again, not run
    run(script, ATTENTION_CORE_CACHE=str(cache))


@pytest.mark.slow
def test_a_cache_that_cannot_be_used_is_done_without(compiled, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)  # others could write code there
    results = {run(SCRIPT, ATTENTION_CORE_CACHE=str(path)) for path in (file / "cache", shared)}
    assert len(results) == 1
    assert list(shared.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_forked_while_another_thread_compiles_can_compile(compiled, tmp_path):
    run(
        """
import os, threading, warnings
import numpy as np
import attention_core as ac
from attention_core.parallel.forks import COMPILING
warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where there are threads
scorer = ac.make_scorer("additive", query_dim=4, key_dim=4, hidden_dim=64, rng=0)
x = np.linspace(-1, 1, 160).reshape(40, 4)
thread = threading.Thread(target=lambda: ac.attend(x, x, x, scorer=scorer).context)
thread.start()
while COMPILING.acquire(blocking=False):  # not yet held by the thread
    COMPILING.release()
    assert thread.is_alive()
pid = os.fork()
context = ac.attend(x.astype("f"), x.astype("f"), x.astype("f"), scorer=scorer).context
if pid == 0:
    os._exit(0 if np.isfinite(context).all() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
thread.join()
""",
        ATTENTION_CORE_CACHE=str(tmp_path),
    )
