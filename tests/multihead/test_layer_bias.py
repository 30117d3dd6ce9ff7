"""The bias of a layer, and losses on the weights of its heads."""

import copy
import pickle

import numpy as np
import pytest
from attention_core_standard.biases import AlibiBias, RelativeBias

import attention_core as ac
from attention_core.fitting import fit

HEADS = 4


def layer_with(bias, scorer="scaled_dot", **options):
    return ac.MultiHeadAttention.initialize(
        8, heads=HEADS, scorer=scorer, bias=bias, rng=0, **options
    )


@pytest.fixture
def table(rng):
    return rng.normal(size=(HEADS, 5))


SCORERS = ["scaled_dot", ["dot", "scaled_dot", "dot", "scaled_dot"]]


@pytest.mark.parametrize("scorer", SCORERS, ids=["one", "two"])
def test_it_is_the_bias_of_calls_that_give_none(rng, table, scorer):
    x, grad = rng.normal(size=(2, 2, 6, 8))
    plain = layer_with(None, scorer)
    layer = layer_with({"name": "relative", "table": table}, scorer)
    expected = plain(x, x, x, bias=RelativeBias(table))
    result = layer(x, x, x)
    np.testing.assert_array_equal(result.output, expected.output)
    found, wanted = result.vjp(grad), expected.vjp(grad)
    np.testing.assert_allclose(found.parameters["bias.table"], wanted.bias["table"], atol=1e-12)
    assert found.bias is None
    np.testing.assert_array_equal(found.query, wanted.query)
    assert list(layer.parameters)[-1] == "bias.table"
    assert found.parameters.keys() == layer.parameters.keys()
    memory = layer.memory(x, x)
    np.testing.assert_array_equal(layer(x, memory).output, result.output)


def test_a_call_may_replace_it(rng, table):
    x = rng.normal(size=(6, 8))
    layer = layer_with(RelativeBias(table))
    other = rng.normal(size=(HEADS, 6, 6))
    result = layer(x, x, x, bias=other)
    expected = layer_with(None)(x, x, x, bias=other)
    np.testing.assert_array_equal(result.output, expected.output)
    found = result.vjp(result.output)
    assert not found.parameters["bias.table"].any()
    np.testing.assert_array_equal(found.bias, expected.vjp(result.output).bias)


def test_it_belongs_to_the_value_of_a_layer(table):
    layer = layer_with({"name": "relative", "table": table})
    assert layer != layer_with(None)
    assert layer != layer_with({"name": "relative", "table": table + 1})
    assert layer == layer_with(RelativeBias(table))
    for other in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        ac.MultiHeadAttention.from_config(layer.to_config()),
        layer.with_parameters(layer.parameters),
    ):
        assert other == layer
    assert "bias 'relative'" in repr(layer)
    changed = layer.with_parameters({"bias.table": 2 * table})
    np.testing.assert_array_equal(changed.bias.table, 2 * table)
    np.testing.assert_array_equal(layer.bias.table, table)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_files_keep_it(tmp_path, table, suffix):
    layer = layer_with({"name": "relative", "table": table}, is_causal=True)
    ac.save(tmp_path / f"layer.{suffix}", layer)
    assert ac.load(tmp_path / f"layer.{suffix}") == layer


def test_a_config_file_names_it(tmp_path):
    path = tmp_path / "layer.toml"
    path.write_text(
        "scorer = 'dot'\n[multi_head]\nquery_dim = 8\nheads = 4\nrng = 0\n"
        "[bias]\nname = 'alibi'\nheads = 4\n"
    )
    layer = ac.MultiHeadAttention.from_config(path)
    assert layer.bias == ac.make_bias("alibi", heads=4)
    path.write_text(
        path.read_text().replace("heads = 4\n[bias]", "heads = 4\n[bias]") + "head = 1\n"
    )
    with pytest.raises(ac.ConfigError, match=r"bias.head: .*did you mean 'heads'"):
        ac.MultiHeadAttention.from_config(path)


def test_fitting_learns_it(rng, table):
    x = rng.normal(size=(3, 12, 8))
    teacher = layer_with({"name": "relative", "table": 2 * table})
    target = teacher(x, x, x).output

    def loss(layer):
        result = layer(x, x, x)
        return ((result.output - target) ** 2).mean(), result.vjp(
            2 * (result.output - target) / target.size
        )

    start = layer_with({"name": "relative", "max_distance": 2, "heads": HEADS})
    first, _ = loss(start)
    fitted = fit(start, loss, max_iter=60)
    assert loss(fitted.scorer)[0] < 0.05 * first


@pytest.mark.parametrize(
    ("bias", "error", "text"),
    [
        (np.zeros((4, 6, 6)), ac.OptionTypeError, "the bias of a layer must be a name"),
        (True, ac.OptionTypeError, "the bias of a layer .* got True; biases of projections are bi"),
        (lambda i, j: i - j, ac.OptionTypeError, "pass arrays and functions to its calls"),
        ("alibbi", ac.UnknownScorerError, "did you mean 'alibi'"),
    ],
)
def test_biases_that_a_layer_rejects(bias, error, text):
    with pytest.raises(error, match=text):
        layer_with(bias)


def test_a_bias_of_another_number_of_heads(rng):
    x = rng.normal(size=(6, 8))
    with pytest.raises(ac.ShapeError, match="do not fit"):
        layer_with(AlibiBias([1.0, 2.0, 3.0]))(x, x, x)


# --- losses on the weights ---


@pytest.mark.parametrize("scorer", SCORERS, ids=["one", "two"])
def test_gradients_of_weights_are_finite_differences(rng, scorer):
    x, of_weights = rng.normal(size=(2, 6, 8)), rng.normal(size=(2, HEADS, 6, 6))
    grad, along = rng.normal(size=(2, 2, 6, 8))
    layer = layer_with("t5", scorer, is_causal=True)

    def loss(x, layer=layer):
        result = layer(x, x, x)
        return (result.output * grad).sum() + (result.weights * of_weights).sum()

    found = layer(x, x, x).vjp(grad, grad_weights=of_weights)
    slope = (loss(x + 1e-6 * along) - loss(x - 1e-6 * along)) / 2e-6
    total = sum((part * along).sum() for part in found[:3])
    np.testing.assert_allclose(total, slope, rtol=1e-6)
    for name, array in layer.parameters.items():
        step = rng.normal(size=array.shape)
        ahead, behind = (
            loss(x, layer.with_parameters({name: array + size * step})) for size in (1e-6, -1e-6)
        )
        derivative = (found.parameters[name] * step).sum()
        np.testing.assert_allclose(derivative, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)


def test_calls_take_names_and_mappings(rng):
    layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
    x = rng.normal(size=(3, 5, 4))
    given = {"name": "alibi", "heads": 2}
    expected = layer(x, x, x, bias=ac.make_bias(**given)).output
    np.testing.assert_array_equal(layer(x, x, x, bias=given).output, expected)
    with pytest.raises(ac.ScorerLookupError, match="no bias named 'alibbi'"):
        layer(x, x, x, bias="alibbi")
