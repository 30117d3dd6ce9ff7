"""Gradients through attention, against differences of the context."""

import attention_core as ac
import numpy as np
import pytest
from scipy.sparse import csr_array

RNG = np.random.default_rng(2022)
SCORERS = {
    "cosine": {"temperature": 0.3},
    "gatv2": {"query_dim": 4, "key_dim": 4, "hidden_dim": 6, "rng": 0},
    "laplacian": {"gamma": 0.7},
    "polynomial-even": {"degree": 2, "gamma": 0.5, "coef0": 0},
    "polynomial-odd": {"degree": 3, "gamma": 0.5, "coef0": 0.2},
    "rbf": {"gamma": 0.7},
}


@pytest.fixture(params=SCORERS)
def scorer(request):
    return ac.make_scorer(request.param.partition("-")[0], **SCORERS[request.param])


@pytest.mark.parametrize("make_mask", [None, csr_array], ids=["tiles", "edges"])
def test_gradients_are_the_slopes_of_the_context(scorer, make_mask):
    query, key, value = RNG.standard_normal((3, 30, 4))
    options = {}
    if make_mask is not None:  # few edges, so that they are computed as pairs
        options["mask"] = make_mask(RNG.random((30, 30)) < 0.15)
    grad = RNG.standard_normal((30, 4))
    gradients = ac.attend(query, key, value, scorer=scorer, **options).vjp(grad)

    def loss(query, key, scorer):
        return (grad * ac.attend(query, key, value, scorer=scorer, **options).context).sum()

    def derivative(move):
        return (loss(*move(1e-6)) - loss(*move(-1e-6))) / 2e-6

    along = RNG.standard_normal((30, 4))
    assert derivative(lambda step: (query + step * along, key, scorer)) == pytest.approx(
        (gradients.query * along).sum(), rel=1e-6
    )
    assert derivative(lambda step: (query, key + step * along, scorer)) == pytest.approx(
        (gradients.key * along).sum(), rel=1e-6
    )
    for name, array in scorer.parameters.items():
        along = RNG.standard_normal(array.shape)
        assert derivative(
            lambda step, name=name, array=array, along=along: (
                query, key, scorer.with_parameters({name: array + step * along}),
            )
        ) == pytest.approx((gradients.parameters[name] * along).sum(), rel=1e-6)  # fmt: skip


def test_where_there_is_no_slope_gradients_are_finite(scorer):
    """Queries and keys of zeros, and queries that are equal to keys."""
    query = RNG.standard_normal((5, 4))
    query[0] = 0
    gradients = ac.attend(query, query, query, scorer=scorer).vjp(np.ones((5, 4)))
    assert np.isfinite(gradients.query).all()
    assert np.isfinite(gradients.key).all()


def test_a_score_without_weight_has_no_slope():
    """Small changes of a query or a key have no effect where an odd kernel is not positive."""
    scorer = ac.make_scorer("polynomial", degree=3, coef0=0)
    query, key = np.array([[1.0], [0.0]]), np.array([[-2.0], [0.0]])
    for grads in (
        scorer.score_vjp(query, key, np.ones((2, 2))),
        scorer.score_pairs_vjp(query, key, np.ones(2)),
    ):
        assert not any(grad.any() for grad in grads[:2])


def test_parameters_of_graph_attention_can_be_learned():
    """Gradient descent recovers a teacher's weights on a graph."""
    x = RNG.standard_normal((40, 3))
    mask = csr_array(RNG.random((40, 40)) < 0.2)
    sizes = {"query_dim": 3, "key_dim": 3, "hidden_dim": 4}
    teacher, pupil = (ac.make_scorer("gatv2", **sizes, rng=rng) for rng in (1, 2))
    target = ac.attend(x, x, x, scorer=teacher, mask=mask).context

    def error(scorer):
        result = ac.attend(x, x, x, scorer=scorer, mask=mask)
        return result, result.context - target

    first = np.square(error(pupil)[1]).sum()
    for _ in range(200):
        result, residual = error(pupil)
        steps = result.vjp(residual).parameters
        pupil = pupil.with_parameters(
            {name: array - 0.1 * steps[name] for name, array in pupil.parameters.items()}
        )
    assert np.square(error(pupil)[1]).sum() < 0.1 * first
