"""Gradients of a call: correct, exact where documented, and in bounded memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from attention_core_standard.additive_gradient import hidden_gradients
from gradient_cases import SCORERS, Metric, Problem, make_scorer, problems
from hypothesis import given, settings
from hypothesis import strategies as st

import attention_core as ac
from attention_core.parallel.threads import fold_blocks

FAST, THOROUGH = 40, 600


def named(gradients: ac.Gradients) -> dict[str, Any]:
    """Gradients by the names of `Problem.inputs`."""
    found = {name: getattr(gradients, name) for name in ("query", "key", "value", "bias")}
    found |= {f"parameters.{name}": array for name, array in gradients.parameters.items()}
    return {name: array for name, array in found.items() if array is not None}


def assert_close(actual: dict[str, Any], wanted: dict[str, Any], tolerance: float = 1e-9) -> None:
    """Compare names, shapes and numbers; errors are relative to the largest number."""
    assert set(actual) == set(wanted)
    scale = max((float(np.abs(array).max(initial=0)) for array in wanted.values()), default=0.0)
    for name, array in wanted.items():
        assert actual[name].shape == array.shape, name
        np.testing.assert_allclose(
            actual[name], array, rtol=tolerance, atol=tolerance * scale, err_msg=name
        )


def case(name: str, rng: Any, batch: tuple[int, ...] = (), n: int = 5, **options: Any) -> Problem:
    """A call of a scorer with standard normal numbers: n queries, n + 2 keys."""
    scorer = make_scorer(name, rng)
    q, k = (3, 3) if name in {"dot", "gaussian", "scaled_dot", "metric"} else (4, 3)
    shapes = (n, q), (n + 2, k), (n + 2, 2), (n, 2)
    arrays = [rng.standard_normal((*batch, *shape)) for shape in shapes]
    return Problem(name, scorer, *arrays, options)


# ------------------------------------------------------------------------------------- correctness


def check_against_torch(problem: Problem) -> None:
    pytest.importorskip("torch")
    assert_close(named(problem.gradients()), problem.by_torch())


def check_against_differences(problem: Problem, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = named(problem.gradients())
    direction = {k: rng.standard_normal(v.shape) for k, v in problem.inputs.items()}
    terms = [(found[name] * direction[name]).sum() for name in direction]
    size = sum(np.abs(found[name] * direction[name]).sum() for name in direction)
    assert abs(sum(terms) - problem.derivative(direction)) <= 1e-7 * (size + 1)


@settings(max_examples=FAST)
@given(problems())
def test_gradients_are_those_of_torch(problem):
    check_against_torch(problem)


@pytest.mark.slow
@settings(max_examples=THOROUGH)
@given(problems())
def test_gradients_are_those_of_torch_on_many_configurations(problem):
    check_against_torch(problem)


@settings(max_examples=FAST)
@given(problems(), st.integers(0, 2**32))
def test_gradients_agree_with_finite_differences(problem, seed):
    check_against_differences(problem, seed)


@pytest.mark.slow
@settings(max_examples=THOROUGH)
@given(problems(), st.integers(0, 2**32))
def test_gradients_agree_with_finite_differences_on_many_configurations(problem, seed):
    check_against_differences(problem, seed)


@pytest.mark.parametrize("name", SCORERS)
def test_gradients_of_several_tiles_are_those_of_torch(name, rng):
    # enough work for threads
    options = {"is_causal": True, "softcap": 5.0, "key_lengths": [110, 73], "tile": (32, 48)}
    problem = case(name, rng, (2,), 120, **options)
    check_against_torch(problem)


@pytest.mark.parametrize("size", [10.0, 60.0, 1e3])
@pytest.mark.parametrize("name", ["additive", "scaled_dot"])
def test_scores_of_any_size_have_gradients(name, size, rng):
    # beyond the range of the additive score's exponentials, and of scores without a shift
    problem = case(name, rng, n=20)
    problem.query *= size
    check_against_torch(problem)


# ------------------------------------------------------------------------------- shapes and dtypes


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("name", SCORERS)
def test_gradients_come_in_the_dtypes_of_what_was_given(name, dtype, rng):
    problem = case(name, rng, bias=rng.standard_normal((1, 7)))
    wanted = named(problem.gradients())
    narrow = {k: getattr(problem, k).astype(dtype) for k in ("query", "key", "value")}
    found = named(problem.gradients(**narrow))
    eps = float(ml_dtypes.finfo(dtype).eps)
    for key, array in found.items():
        assert array.dtype == (dtype if key in narrow else np.float64)
    found = {key: array.astype(np.float64) for key, array in found.items()}
    assert_close(found, wanted, tolerance=300 * eps)


def test_each_gradient_has_its_own_dtype(rng):
    problem = case("dot", rng)
    result = ac.attend(
        problem.query.astype(np.float32), [[1, 2, 3]] * 7, problem.value, scorer="dot",
        bias=np.ones((1, 7), np.int8),
    )  # fmt: skip
    gradients = result.vjp(problem.grad)
    assert [gradients.query.dtype, gradients.key.dtype, gradients.value.dtype] == ["f4", "f8", "f8"]
    assert gradients.bias.dtype == np.float64


def test_parameters_in_float32_have_gradients_in_float32(rng):
    scorer = ac.make_scorer("general", weight=rng.standard_normal((4, 3)).astype(np.float32))
    problem = case("general", rng)
    gradients = problem.gradients(scorer=scorer)
    assert gradients.parameters["weight"].dtype == np.float32
    assert gradients.parameter_vector.dtype == np.float64


def test_gradients_beyond_float16_are_infinite_without_a_word(rng):
    problem = case("dot", rng)
    narrow = {k: getattr(problem, k).astype(np.float16) for k in ("query", "key", "value")}
    problem.grad *= 1e6
    assert np.isinf(problem.gradients(**narrow).value).any()


@pytest.mark.parametrize("bias", [None, lambda i, j: i + j])
def test_only_a_bias_that_is_an_array_has_a_gradient(bias, rng):
    assert case("dot", rng, bias=bias).gradients().bias is None


@pytest.mark.parametrize("shape", [(), (1, 1), (7,), (5, 1), (2, 1, 1, 7), (3, 5, 7)])
def test_the_gradient_of_a_bias_has_its_shape(shape, rng):
    bias = rng.standard_normal(shape)
    assert case("dot", rng, (2, 3), bias=bias).gradients().bias.shape == shape


@pytest.mark.parametrize(("queries", "keys"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("name", SCORERS)
def test_nothing_has_gradients_of_zero(name, queries, keys, rng):
    problem = case(name, rng)
    gradients = ac.attend(
        problem.query[:queries], problem.key[:keys], problem.value[:keys], scorer=problem.scorer
    ).vjp(problem.grad[:queries])
    for array in named(gradients).values():
        assert not array.any()
    assert gradients.query.shape == problem.query[:queries].shape


@pytest.mark.parametrize("shape", [(5, 3), (4, 2), (2,), (1, 5, 2)])
def test_a_gradient_of_another_shape_is_refused(shape, rng):
    with pytest.raises(ac.ShapeError) as caught:
        case("dot", rng).attend().vjp(np.ones(shape))
    assert str(caught.value) == (
        f"grad_context must have the shape of the context, (5, 2), got {shape}"
    )


def test_a_complex_gradient_is_refused(rng):
    with pytest.raises(ac.DTypeError, match=r"^grad_context must hold real numbers"):
        case("dot", rng).attend().vjp(np.ones((5, 2), complex))


def test_inputs_are_not_written_to(rng):
    problem = case("additive", rng, bias=rng.standard_normal((5, 7)), softcap=2.0)
    for array in (*problem.inputs.values(), problem.grad):
        array.setflags(write=False)
    problem.gradients()


# -------------------------------------------------------------------------------------- exact zeros


GARBAGE = st.sampled_from([np.nan, np.inf, -np.inf, 1e150])


@settings(max_examples=2 * FAST)
@given(st.data(), problems())
def test_garbage_at_masked_places_never_leaks(data, problem):
    clean = problem.gradients()
    allowed, _ = problem.allowed_and_bias()
    if problem.query.ndim == 1:
        allowed = allowed[..., None, :]
    batch = allowed.shape[:-2]
    unseen = ~allowed.any(-1), ~allowed.any(-2)  # (..., L), (..., S)

    def spoilt(array, unseen_rows):
        """Write NaN and Inf into the rows that no batch item uses."""
        *axes, _, _ = (1,) * (len(batch) + 2 - array.ndim) + array.shape
        shared = tuple(i for i, (n, own) in enumerate(zip(batch, axes, strict=True)) if own < n)
        rows = unseen_rows.all(axis=shared, keepdims=True).reshape(array.shape[:-1])
        return np.where(rows[..., None], data.draw(GARBAGE), array)

    query = problem.query[None] if problem.query.ndim == 1 else problem.query
    query = spoilt(query, unseen[0]).reshape(problem.query.shape)
    key, value = spoilt(problem.key, unseen[1]), spoilt(problem.value, unseen[1])
    grad = problem.grad[..., None, :] if problem.query.ndim == 1 else problem.grad
    problem.grad = spoilt(grad, unseen[0]).reshape(problem.grad.shape)
    dirty = problem.gradients(query=query, key=key, value=value)
    assert_close(named(dirty), named(clean), tolerance=1e-12)
    for array, spoilt_array, original in (
        (dirty.query, query, problem.query),
        (dirty.key, key, problem.key),
        (dirty.value, value, problem.value),
    ):
        assert not array[spoilt_array != original].any()


@pytest.mark.parametrize("mask", ["dense", "sparse"])
@pytest.mark.parametrize("name", SCORERS)
def test_a_row_that_may_attend_to_nothing_has_no_gradient(name, mask, rng):
    allowed = np.ones((5, 7), bool)
    allowed[2], allowed[:, 4] = False, False
    problem = case(name, rng, mask=scipy.sparse.csr_array(allowed) if mask == "sparse" else allowed)
    for on_edges in (True, False):
        problem.on_edges = on_edges
        gradients = problem.gradients()
        assert not gradients.query[2].any()
        assert not gradients.key[4].any()
        assert not gradients.value[4].any()
        assert gradients.query.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["query", "key", "value", "grad"])
@pytest.mark.parametrize("name", SCORERS)
def test_nan_reaches_what_its_rows_may_attend_to_and_no_more(name, which, bad, rng):
    # two groups of queries and keys that never meet
    groups = np.arange(5) < 3, np.arange(7) < 4
    problem = case(name, rng, mask=groups[0][:, None] == groups[1])
    clean = problem.gradients()
    getattr(problem, which)[0, 0] = bad
    dirty = problem.gradients()
    for found, wanted, group in (
        (dirty.query, clean.query, groups[0]),
        (dirty.key, clean.key, groups[1]),
        (dirty.value, clean.value, groups[1]),
    ):
        np.testing.assert_allclose(found[~group], wanted[~group], rtol=1e-12)
    if np.isnan(bad):  # an infinite score may give finite weights
        assert np.isnan(dirty.query[0]).any()


@pytest.mark.parametrize("name", SCORERS)
def test_a_score_of_minus_infinity_at_an_allowed_place_has_no_gradient(name, rng):
    bias = np.zeros((5, 7))
    bias[1], bias[:, 3] = -np.inf, -np.inf
    gradients = case(name, rng, bias=bias).gradients()
    for array in named(gradients).values():
        assert np.isfinite(array).all()
    assert not gradients.query[1].any()
    assert not gradients.key[3].any()
    assert not gradients.bias[np.isinf(bias)].any()


@pytest.mark.parametrize("mask", ["dense", "sparse"])
def test_a_key_that_is_out_of_the_question_has_no_gradient(mask, rng):
    problem = case("dot", rng)
    problem.query, problem.on_edges = abs(problem.query), mask == "sparse"
    problem.key[3] = -np.inf
    allowed = np.ones((5, 7), bool)
    gradients = problem.gradients(
        mask=scipy.sparse.csr_array(allowed) if mask == "sparse" else allowed
    )
    for array in named(gradients).values():
        assert np.isfinite(array).all()
    assert not gradients.key[3].any()


def test_masked_scores_beyond_all_numbers_do_not_pass_the_softcap(rng):
    query, key, value = rng.standard_normal((3, 6, 64))
    mask = np.arange(6)[:, None] * np.arange(6) > 0
    clean = ac.attend(query, key, value, scorer="dot", mask=mask, softcap=2.0).vjp(value)
    query[0], key[0] = 1e200 * query[0], 1e200 * key[0]  # as in memory that was never written
    assert not np.isfinite(ac.attend(query, key, value, scorer="dot").scores[0, 0])
    dirty = ac.attend(query, key, value, scorer="dot", mask=mask, softcap=2.0).vjp(value)
    assert_close(named(dirty), named(clean), tolerance=1e-12)


# ------------------------------------------------------------------------------------- one meaning


@pytest.mark.parametrize("workers", [2, 3, 7])
@pytest.mark.parametrize("name", SCORERS)
def test_the_number_of_workers_changes_no_bit(name, workers, rng):
    problem = case(name, rng, (2,), 400, window=(100, 50), bias=rng.standard_normal((400, 1)))
    alone, together = problem.gradients(workers=1), problem.gradients(workers=workers)
    for one, other in zip(named(alone).values(), named(together).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_number_of_workers_changes_no_bit_on_edges(rng):
    mask = scipy.sparse.random_array((3000, 3000), density=0.03, rng=rng)
    query, key, value = rng.standard_normal((3, 3000, 8))
    found = [
        ac.attend(query, key, value, scorer="dot", mask=mask, workers=workers).vjp(query)
        for workers in (1, 4)
    ]
    for one, other in zip(*map(named, found), strict=True):
        np.testing.assert_array_equal(named(found[0])[one], named(found[1])[other])


@pytest.mark.parametrize("name", SCORERS)
def test_edges_and_tiles_agree(name, rng):
    mask = scipy.sparse.csr_array(rng.random((50, 52)) < 0.3)
    problem = case(name, rng, (2,), 50, mask=mask, softcap=3.0, bias=rng.standard_normal((1, 52)))
    on_tiles = problem.gradients()
    problem.on_edges = True
    assert_close(named(problem.gradients()), named(on_tiles), tolerance=1e-12)


@pytest.mark.parametrize("name", SCORERS)
def test_packed_sequences_have_the_gradients_of_each_alone(name, rng):
    problem = case(name, rng, n=9, is_causal=True)
    packing = ac.Packing([0, 4, 4, 9], [0, 3, 5, 11])
    packed = problem.gradients(mask=packing)
    parameters = dict.fromkeys(problem.scorer.parameters, 0.0)
    for rows, keys in ((slice(0, 4), slice(0, 3)), (slice(4, 9), slice(5, 11))):
        alone = problem.attend(
            query=problem.query[rows], key=problem.key[keys], value=problem.value[keys]
        ).vjp(problem.grad[rows])
        np.testing.assert_allclose(packed.query[rows], alone.query, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(packed.key[keys], alone.key, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(packed.value[keys], alone.value, rtol=1e-10, atol=1e-12)
        parameters = {k: v + alone.parameters[k] for k, v in parameters.items()}
    assert not packed.key[3:5].any()
    assert_close(packed.parameters, parameters)


@pytest.mark.parametrize("name", SCORERS)
def test_one_query_is_a_block_of_one(name, rng):
    problem = case(name, rng)
    step = problem.attend(query=problem.query[0]).vjp(problem.grad[0])
    block = problem.attend(query=problem.query[:1]).vjp(problem.grad[:1])
    np.testing.assert_allclose(step.query, block.query[0], rtol=1e-12)
    assert_close(
        {k: v for k, v in named(step).items() if k != "query"},
        {k: v for k, v in named(block).items() if k != "query"},
    )


@pytest.mark.parametrize("name", SCORERS)
def test_a_memory_has_the_gradients_of_its_keys(name, rng):
    problem = case(name, rng, (2,))
    attention = ac.Attention(problem.scorer)
    memory = attention.memory(problem.key[:, :4], problem.value[:, :4])
    memory.append(problem.key[:, 4:], problem.value[:, 4:])
    result = attention(problem.query, memory)
    memory.append(problem.key, problem.value)  # results keep their inputs
    assert_close(named(result.vjp(problem.grad)), named(problem.gradients()))


def test_the_gradient_of_a_memory_has_the_dtype_of_what_was_given(rng):
    problem = case("additive", rng)
    attention = ac.Attention(problem.scorer)
    memory = attention.memory(problem.key.astype(np.float16), problem.value.astype(np.float16))
    gradients = attention(problem.query.astype(np.float16), memory).vjp(problem.grad)
    assert gradients.key.dtype == gradients.value.dtype == np.float16


def test_gradients_are_linear_in_that_of_the_context(rng):
    problem = case("additive", rng, is_causal=True)
    result, other = problem.attend(), rng.standard_normal((5, 2))
    mixed = result.vjp(2 * problem.grad + other)
    one, two = named(result.vjp(problem.grad)), named(result.vjp(other))
    wanted = {name: 2 * one[name] + two[name] for name in one}
    assert_close(named(mixed), wanted, tolerance=1e-12)


# ----------------------------------------------------------------------------------------- scorers


class Recorded(ac.Scorer):
    """The dot score, which counts its calls."""

    asked = 0

    def score(self, query: Any, key: Any) -> Any:
        Recorded.asked += 1
        return query @ key.swapaxes(-1, -2)


def refusal(scorer: Any, kind: Any = ac.NotDifferentiableError) -> str:
    result = ac.attend(np.ones((2, 3)), np.ones((4, 3)), np.ones((4, 1)), scorer=scorer)
    with pytest.raises(kind) as caught:
        result.vjp(np.ones((2, 1)))
    assert type(caught.value) is kind
    return str(caught.value)


def test_a_scorer_without_gradients_says_so_before_any_work():
    Recorded.asked = 0
    assert refusal(Recorded()) == (
        "scorer Recorded has no gradients: class Recorded defines score without score_vjp; for "
        "gradients, define\n"
        "  def score_vjp(self, query, key, grad) -> grad_query, grad_key, parameter_grads\n"
        "where parameter_grads is a dict of arrays by name, as the plugin guide shows in 'Give it "
        "gradients', and check with attention_core.testing.check_gradients(scorer)"
    )
    assert Recorded.asked == 1  # for the context


def test_a_projection_without_gradients_is_named():
    class Shifted(ac.InnerProductScorer):
        def project_key(self, key: Any) -> Any:
            return key + 1

    text = refusal(Shifted())
    assert "class Shifted defines project_key without project_key_vjp; " in text
    assert "\n  def project_key_vjp(self, key, grad) -> grad_key, parameter_grads\n" in text


def test_gradients_of_another_method_are_not_inherited():
    class Squared(type(ac.make_scorer("scaled_dot"))):
        def project_query(self, query: Any) -> Any:
            return query**2

    assert "class Squared defines project_query without project_query_vjp; " in refusal(Squared())


def test_projections_that_are_not_overridden_need_no_gradients(rng):
    class Plain(ac.InnerProductScorer):
        pass

    problem = case("dot", rng)
    assert_close(named(problem.gradients(scorer=Plain())), named(problem.gradients()))


def test_the_base_methods_say_what_is_missing():
    query, key, grad = np.ones((2, 3)), np.ones((4, 3)), np.ones((2, 4))
    with pytest.raises(ac.NotDifferentiableError, match="without score_vjp"):
        Recorded().project_query_vjp(query, query)
    with pytest.raises(ac.NotDifferentiableError, match="def score_vjp"):
        Recorded().score_vjp(query, key, grad)


class Wrong(Metric):
    """A scorer with wrong gradients."""

    def __init__(self, matrix: Any, weight: Any, method: str = "", does: Any = None) -> None:
        super().__init__(matrix, weight)
        self.method, self.does = method, does

    def _answer(self, method: str, *arrays: Any) -> Any:
        answer = getattr(super(), method)(*arrays)
        return self.does(answer) if self.method == method else answer

    def score(self, query: Any, key: Any) -> Any:
        return super().score(query, key)

    def score_vjp(self, query: Any, key: Any, grad: Any) -> Any:
        return self._answer("score_vjp", query, key, grad)

    def project_key_vjp(self, key: Any, grad: Any) -> Any:
        return self._answer("project_key_vjp", key, grad)


@pytest.mark.parametrize(
    ("method", "does", "text"),
    [
        ("score_vjp", lambda a: a[0],
         "returned ndarray from score_vjp; expected a tuple of 2 gradients of inputs and a dict of "
         "parameters' gradients"),
        ("score_vjp", lambda a: (a[0], a[1][:1], a[2]),
         "returned shape (1, 2) from score_vjp, position 1; expected (4, 2), the shape of the "
         "array it is the gradient of"),
        ("score_vjp", lambda a: (a[0].astype("f4"), *a[1:]),
         "returned dtype float32 from score_vjp, position 0; expected float64, the dtype it was "
         "given; cast parameters, as in weight.astype(query.dtype, copy=False), and multiply by "
         "Python numbers, not NumPy scalars"),
        ("score_vjp", lambda a: (*a[:2], {"gamma": a[0]}),
         "returned a gradient of 'gamma' from score_vjp, which is not one of its parameters: "
         "matrix, weight"),
        ("score_vjp", lambda a: (*a[:2], {"weight": a[0]}),
         "returned shape (2, 2) from score_vjp, parameter 'weight'; expected (2,), the shape of "
         "the array it is the gradient of"),
        ("project_key_vjp", lambda a: (a[0], {"matrix": 1.0}),
         "returned float from project_key_vjp, parameter 'matrix'; expected an array"),
        ("project_key_vjp", lambda a: (a[0].T, a[1]),
         "returned shape (3, 4) from project_key_vjp, position 0; expected (4, 3), the shape "
         "of the array it is the gradient of"),
        ("project_key_vjp", lambda a: sys.exit(1),
         "raised SystemExit in project_key_vjp for arrays of shape (4, 3), (4, 2)"),
    ],
)  # fmt: skip
def test_a_scorer_answers_for_its_gradients(method, does, text):
    scorer = Wrong(np.ones((3, 2)), np.ones(2), method, does)
    assert refusal(scorer, ac.ScorerContractError) == f"scorer Wrong {text}"


def test_a_parameter_may_be_a_number(rng):
    class Warm(ac.Scorer):
        def __init__(self, heat: Any = 1.0) -> None:
            self.heat = np.asarray(heat)

        def score(self, query: Any, key: Any) -> Any:
            return self.heat * (query @ key.swapaxes(-1, -2))

        def score_vjp(self, query: Any, key: Any, grad: Any) -> Any:
            heat = (grad * (query @ key.swapaxes(-1, -2))).sum()
            return self.heat * grad @ key, self.heat * grad.swapaxes(-1, -2) @ query, {"heat": heat}

    problem = case("dot", rng)
    problem.scorer = Warm(0.7)
    check_against_differences(problem, 0)
    assert problem.gradients().parameters["heat"].shape == ()


def test_a_scorer_may_return_the_gradients_it_was_given(rng):
    class Fixed(ac.Scorer):
        """Scores taken from the features of a query, one for each key of a tile."""

        def score(self, query: Any, key: Any) -> Any:
            return query + 0 * key.sum()

        def score_vjp(self, query: Any, key: Any, grad: Any) -> Any:
            return grad, np.zeros_like(key), {}

    query, grad = rng.standard_normal((2, 128, 128))  # large enough for memory to be used again
    key = value = rng.standard_normal((256, 128))
    tiled = ac.attend(query, key, value, scorer=Fixed(), tile=(128, 128)).vjp(grad)
    scores = np.concatenate([query, query], axis=-1)
    wanted = ac.attend(scores, np.eye(256), value, scorer="dot").vjp(grad).query
    np.testing.assert_allclose(tiled.query, wanted[:, :128] + wanted[:, 128:], rtol=1e-9)


@pytest.mark.parametrize("use_exponentials", [True, False])
@pytest.mark.parametrize(
    ("batch", "queries", "keys", "hidden"),
    [((), 300, 200, 5), ((), 3, 400, 130), ((2, 1, 3), 90, 80, 40), ((4,), 2, 5, 3), ((), 0, 3, 2)],
)
def test_hidden_units_are_summed_in_blocks(batch, queries, keys, hidden, use_exponentials, rng):
    query = rng.standard_normal((*batch[1:], queries, hidden))
    key = rng.standard_normal((*batch[:1], *(1 for _ in batch[1:]), keys, hidden))
    grad = rng.standard_normal((*batch, queries, keys))
    found = hidden_gradients(query, key, grad, use_exponentials=use_exponentials)
    units = np.tanh(query[..., :, None, :] + key[..., None, :, :])
    inside = grad[..., None] * (1 - units**2)
    every = tuple(range(grad.ndim))
    np.testing.assert_allclose(found.units, (grad[..., None] * units).sum(every), atol=1e-9)
    np.testing.assert_allclose(found.query, inside.sum(-2), atol=1e-11)
    np.testing.assert_allclose(found.key, inside.sum(-3), atol=1e-11)


# -------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("name", SCORERS)
def test_parameters_go_into_a_vector_and_back(name, rng):
    scorer = make_scorer(name, rng)
    vector = scorer.parameter_vector
    assert vector.shape == (sum(array.size for array in scorer.parameters.values()),)
    changed = scorer.with_parameter_vector(vector + 1)
    for key, array in scorer.parameters.items():
        np.testing.assert_array_equal(changed.parameters[key], array + 1)
        assert changed.parameters[key].dtype == array.dtype


def test_gradients_go_into_a_vector_of_the_same_order(rng):
    problem = case("additive_biased", rng)
    gradients, scorer = problem.gradients(), problem.scorer
    assert list(gradients.parameters) == list(scorer.parameters)
    step = scorer.with_parameter_vector(gradients.parameter_vector)
    for name, array in gradients.parameters.items():
        np.testing.assert_array_equal(step.parameters[name], array)


def test_a_vector_of_another_length_is_refused():
    scorer = ac.make_scorer("general", weight=np.eye(2))
    with pytest.raises(ac.ScorerConfigError) as caught:
        scorer.with_parameter_vector(np.ones(3))
    assert str(caught.value) == (
        "scorer 'general' (attention-core 0.1.0) has 4 numbers in its parameters, "
        "got a vector of shape (3,)"
    )


# ------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", ["{}", "{'is_causal': True, 'softcap': 30.0}"])
def test_a_backward_pass_needs_little_memory(dtype, options):
    # the weights alone have 256 or 512 MiB
    code = f"""
        import resource
        import numpy as np
        import attention_core as ac
        x = np.random.default_rng(0).standard_normal((4, 8192, 64)).astype({dtype!r})
        ac.attend(x[0, :8], x[1, :8], x[2, :8], scorer="scaled_dot").vjp(x[3, :8])
        result = ac.attend(*x[:3], scorer="scaled_dot", workers=2, **{options})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        gradients = result.vjp(x[3])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB
    assert int(run.stdout) * unit < 128 * 2**20


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_added_as_they_come_in_one_order(workers):
    # a late tile would make all others wait, and keep them in memory
    alive, most, added = set(), 0, []

    def work(item):
        nonlocal most
        time.sleep(0.001)
        alive.add(item)
        most = max(most, len(alive))
        return -item

    def add(item, result):
        assert result == -item
        alive.remove(item)
        added.append(item)

    fold_blocks(work, add, range(100), cost=1e9, workers=workers)
    assert added == sorted(added, reverse=True)
    assert len(added) == 100
    assert most <= (1 if workers == 1 else 50)
