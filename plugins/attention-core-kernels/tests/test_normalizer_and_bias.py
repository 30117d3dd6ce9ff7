"""Scalable softmax and KERPLE against their formulas, written out for one query and one key."""

from math import exp, fsum, inf, log

import attention_core as ac
import numpy as np
import pytest
from attention_core.testing import parametrize_biases, parametrize_normalizers
from scipy.sparse import csr_array

from attention_core_kernels.kerple import KerpleBias
from attention_core_kernels.scalable_softmax import ScalableSoftmax

RNG = np.random.default_rng(2025)


@parametrize_normalizers(ScalableSoftmax(), ScalableSoftmax(0.3), ScalableSoftmax(5))
def test_the_normalizer_keeps_the_contract(check):
    check()


@parametrize_biases(
    KerpleBias(), KerpleBias([0.5, -2.0, 0.1], 0.3), KerpleBias(2.0, [1.0, -3.0]), KerpleBias([1.0])
)
def test_the_bias_keeps_the_contract(check):
    check()


def row_of_weights(scores, scale):
    allowed = [score for score in scores if score > -inf]
    if not allowed:
        return [0.0] * len(scores)
    top, n = max(allowed), len(allowed)
    terms = [n ** (scale * (s - top)) if s > -inf else 0.0 for s in scores]
    return [term / fsum(terms) for term in terms]


@pytest.mark.parametrize("way", ["one tile", "tiles", "edges"])
@pytest.mark.parametrize("scale", [1.0, 0.43])
def test_weights_are_powers_of_the_number_of_keys(way, scale):
    scores, value = RNG.normal(size=(9, 30)), RNG.normal(size=(30, 2))
    mask = RNG.random((9, 30)) < 0.2
    mask[3], mask[4] = False, np.arange(30) == 7  # no key, and one
    options = {"mask": csr_array(mask) if way == "edges" else mask}
    if way == "tiles":
        options["tile"] = (4, 7)
    normalizer = {"name": "scalable_softmax", "scale": scale}
    result = ac.attend(scores, np.eye(30), value, scorer="dot", normalizer=normalizer, **options)
    rows = np.where(mask, scores, -inf).tolist()
    expected = np.array([row_of_weights(row, scale) for row in rows])
    weights = result.weights.toarray() if way == "edges" else result.weights
    np.testing.assert_allclose(weights, expected, atol=1e-12)
    np.testing.assert_allclose(result.context, expected @ value, atol=1e-12)


def test_with_two_keys_it_is_softmax_of_scores_times_log_two():
    query, key, value = RNG.normal(size=(3, 2, 4))
    found = ac.attend(query, key, value, scorer="dot", normalizer="scalable_softmax")
    expected = ac.attend(query * log(2), key, value, scorer="dot")
    np.testing.assert_allclose(found.context, expected.context, rtol=1e-12)


@pytest.mark.parametrize(
    ("amplitude", "rate"),
    [(1.0, 1.0), ([0.5, 2.0, 1.0], 0.3), ([0.5, -2.0, 1.0], [0.1, 1.0, -4.0])],
)
@pytest.mark.parametrize("way", ["one tile", "tiles", "edges"])
def test_kernels_of_distances_multiply_exponentials(amplitude, rate, way):
    query, key, value = (RNG.normal(size=(3, n, 4)) for n in (20, 25, 25))
    mask = RNG.random((20, 25)) < 0.15
    options = {"mask": csr_array(mask) if way == "edges" else mask}
    if way == "tiles":
        options["tile"] = (4, 7)
    bias = {"name": "kerple", "amplitude": amplitude, "rate": rate}
    found = ac.attend(query, key, value, scorer="dot", bias=bias, query_offset=3, **options)
    expected = np.zeros((3, 20, 4))
    for head in range(3):
        a, r = (abs(np.broadcast_to(own, 3)[head]) for own in (amplitude, rate))
        for i in range(20):
            kernels = [
                exp(query[head, i] @ key[head, j]) * (1 + r * abs(j - i - 3)) ** -a
                if mask[i, j]
                else 0
                for j in range(25)
            ]
            expected[head, i] = kernels @ value[head] / (fsum(kernels) or 1)
    np.testing.assert_allclose(found.context, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "name", "parameters", "message"),
    [
        (ac.make_normalizer, "scalable_softmax", {"scale": 0}, "scale must be above 0, got 0"),
        (
            ac.make_bias,
            "kerple",
            {"rate": [[1.0]]},
            "parameter 'rate' must have shape (heads,), got shape (1, 1)",
        ),
    ],
)
def test_wrong_parameters_are_refused_by_name(make, name, parameters, message):
    with pytest.raises(ac.ScorerConfigError) as caught:
        make(name, **parameters)
    assert str(caught.value).endswith(f"(attention-core-kernels 0.1.0): {message}")


def test_a_layer_learns_how_far_to_look():
    """A bias per head is recovered from the outputs of a layer with a known one."""
    x = RNG.normal(size=(40, 6))
    layer = ac.MultiHeadAttention.initialize(6, heads=2, rng=0)
    target = layer(x, x, x, bias=KerpleBias([3.0, 0.5])).output
    bias, first = KerpleBias([1.0, 1.0]), None
    for _ in range(200):
        result = layer(x, x, x, bias=bias)
        residual = result.output - target
        first = first or float((residual**2).sum())
        bias = bias.with_parameters(
            {k: bias.parameters[k] - 0.02 * g for k, g in result.vjp(residual).bias.items()}
        )
    assert (residual**2).sum() < 0.1 * first
