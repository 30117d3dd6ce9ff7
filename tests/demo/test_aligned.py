"""Training of the alignment of translated dates."""

import numpy as np
import pytest

import attention_core as ac
from attention_core.demo.translate.aligned import (
    alignment_loss,
    share_on_years,
    year_alignment,
)
from attention_core.demo.translate.alphabet import padded, written_codes
from attention_core.demo.translate.model import Sizes, Translator
from attention_core.demo.translate.train import held_out_examples, train

TEXTS = ["mardi 3 juin 1997", "3.6.97", "1997-06-03", "19971997", "12/12/1212 1"]
DATES = ["1997-06-03", "1997-06-03", "1997-06-03", "1997-01-09", "1212-12-12"]


def test_the_digits_of_years_are_found():
    where = year_alignment(TEXTS, DATES)
    assert where.shape == (5, 10, 17)
    places = [[int(row.argmax()) for row in item if row.any()] for item in where]
    assert places == [[13, 14, 15, 16], [], [0, 1, 2, 3], [], [6, 7, 8, 9]]


def test_the_gradient_is_that_of_the_loss(rng):
    where = year_alignment(TEXTS, DATES).astype(float)
    weights, along = rng.random((2, *where.shape))
    loss, grad = alignment_loss(weights, where)
    ahead, behind = (alignment_loss(weights + s * along, where)[0] for s in (1e-6, -1e-6))
    np.testing.assert_allclose((grad * along).sum(), (ahead - behind) / 2e-6, rtol=1e-6)
    assert loss > alignment_loss(where, where)[0] == pytest.approx(0, abs=1e-5)
    assert share_on_years(where, where) == 1
    assert alignment_loss(weights, 0 * where) == (0, pytest.approx(0 * where))


def test_the_network_passes_it_on(rng):
    sizes = Sizes(character=3, near=4, key=64, hidden=5)
    attention = ac.Attention("scaled_dot")
    network = Translator.new(attention, rng, sizes=sizes, dtype=np.float64)
    batch = (*padded(TEXTS), written_codes(DATES))
    where = year_alignment(TEXTS, DATES)

    def loss(network):
        return network.loss(*batch, where=where, strength=0.7)[0]

    _, gradients = network.loss(*batch, where=where, strength=0.7)
    assert loss(network) > network.loss(*batch)[0]
    for name in ("key", "position", "character", "last", "near"):
        array = network.parameters[name]
        along = rng.standard_normal(array.shape)
        ahead, behind = (
            loss(network.with_parameters({name: array + step * along})) for step in (1e-6, -1e-6)
        )
        slope = (ahead - behind) / 2e-6
        np.testing.assert_allclose((gradients[name] * along).sum(), slope, rtol=1e-5)


@pytest.mark.slow
def test_taught_networks_look_where_years_are():
    texts, dates = zip(*held_out_examples()[:200], strict=True)
    codes, lengths = padded(texts)
    where = year_alignment(texts, dates)
    shares = []
    for strength in (0.0, 0.3):
        network = train(ac.Attention("scaled_dot"), steps=80, strength=strength)
        encoded = network.encode(codes)
        queries = network.queries(written_codes(dates)[:, :-1])
        result = network.attention(queries, encoded.key, encoded.value, key_lengths=lengths)
        shares.append(share_on_years(result.weights, where))
    assert shares[1] > shares[0] + 0.15
