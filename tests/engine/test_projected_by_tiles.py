"""Queries projected tile by tile: the same numbers, without a projected copy."""

import numpy as np
import pytest

import attention_core as ac
from attention_core.compiled.switch import is_switched_on
from attention_core.scoring.inner_product import InnerProductScorer


class Halved(InnerProductScorer):
    """``score = q . k / 2``"""

    def project_query(self, query):
        self.__dict__.setdefault("projected", []).append(query.shape)
        return query * query.dtype.type(0.5)

    def project_query_vjp(self, query, grad):
        return grad * grad.dtype.type(0.5), {}


@pytest.fixture
def arrays(rng):
    return rng.normal(size=(2, 700, 32)), rng.normal(size=(2, 600, 32)), rng.normal(size=(600, 16))


OPTIONS = [{}, {"is_causal": True}, {"tile": (64, 100)}, {"softcap": 2.0}, {"window": (40, 10)}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_everything_equals_what_projected_queries_give(arrays, options):
    query, key, value = arrays
    result = ac.attend(query, key, value, scorer=Halved(), **options)
    expected = ac.attend(query * 0.5, key, value, scorer="dot", **options)
    assert result._answer.problem.projects_tiles
    np.testing.assert_allclose(result.context, expected.context, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.weights, expected.weights, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.entropy, expected.entropy, rtol=1e-12, atol=1e-13)
    rows = slice(333, 350)
    np.testing.assert_allclose(result.rows(rows), expected.weights[:, rows], rtol=1e-12)
    grad = np.cos(np.arange(result.context.size)).reshape(result.context.shape)
    own, other = result.vjp(grad), expected.vjp(grad)
    np.testing.assert_allclose(own.query, other.query * 0.5, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(own.key, other.key, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(own.value, other.value, rtol=1e-11, atol=1e-14)


def test_no_copy_of_all_queries_is_made(arrays):
    query, key, value = arrays
    scorer = Halved()
    result = ac.attend(query, key, value, scorer=scorer)
    assert max(np.prod(shape[:-1]) for shape in scorer.projected) <= 700
    assert result._answer.problem.query.base is query or result._answer.problem.query is query


class Doubled(InnerProductScorer):
    """``score = 2 q . k``"""

    def query_scale(self, features):
        return 2

    def project_query(self, query):
        return query * 2

    def project_query_vjp(self, query, grad):
        return grad * 2, {}


class DoubledOtherwise(Doubled):
    """``score = 3 q . k``: the inherited number belongs to another projection."""

    def project_query(self, query):
        return query * 3

    def project_query_vjp(self, query, grad):
        return grad * 3, {}


@pytest.mark.parametrize("shape", [(3, 400, 64), (8, 300, 64)])  # few and many batch items
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"softcap": 4.0}], ids=str)
@pytest.mark.parametrize(("scorer", "scale"), [(Doubled(), 2), (DoubledOtherwise(), 3)])
def test_a_number_that_multiplies_queries(rng, shape, options, scorer, scale):
    query, key, value, grad = rng.normal(size=(4, *shape)) / 4
    result = ac.attend(query, key, value, scorer=scorer, **options)
    expected = ac.attend(query * scale, key, value, scorer="dot", **options)
    np.testing.assert_allclose(result.context, expected.context, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.weights, expected.weights, rtol=1e-12, atol=1e-14)
    own, other = result.vjp(grad), expected.vjp(grad)
    np.testing.assert_allclose(own.query, other.query * scale, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(own.key, other.key, rtol=1e-11, atol=1e-14)


def test_a_scale_that_is_no_number(rng):
    class Worded(Doubled):
        def query_scale(self, features):
            return "2"

    if not is_switched_on():
        pytest.skip("only compiled code asks for it")
    query = rng.normal(size=(2, 700, 32))
    with pytest.raises(ac.ScorerContractError) as caught:
        ac.attend(query, query, query, scorer=Worded())
    assert str(caught.value) == (
        "scorer Worded returned '2' from query_scale; expected a real number"
    )


@pytest.mark.parametrize("shape", [(700, 32), (1, 700, 32), (3, 1, 700, 32)])
def test_queries_that_are_broadcast(rng, shape):
    query, key = rng.normal(size=shape), rng.normal(size=(5, 600, 32))
    result = ac.attend(query, key, key, scorer=Halved())
    expected = ac.attend(query * 0.5, key, key, scorer="dot")
    assert result._answer.problem.projects_tiles
    np.testing.assert_allclose(result.context, expected.context, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        result.vjp(result.context).query,
        expected.vjp(expected.context).query / 2,
        rtol=1e-11,
        atol=1e-14,
    )


def test_a_projection_with_parameters_is_made_once(rng):
    query, key = rng.normal(size=(2, 700, 32)), rng.normal(size=(2, 600, 32))
    general = ac.attend(query, key, key, scorer={"name": "general", "weight": np.eye(32)})
    assert not general._answer.problem.projects_tiles
