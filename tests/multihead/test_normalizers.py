"""Layers with their own normalizers: results, gradients, files and configs."""

import copy
import json
import pickle
import re

import numpy as np
import pytest

import attention_core as ac
from attention_core import MultiHeadAttention, OptionError, ScorerConfigError, Softmax
from attention_core.files.array_files import open_file, write_arrays
from attention_core.fitting import fit

N = 4
SCORERS = ["dot", "scaled_dot", "dot", "scaled_dot"]
SINKS = [0.3, -0.2, 1.1, 0.7]


def sinks():
    return Softmax(SINKS)


def layer_of(normalizer, scorer="scaled_dot", **options):
    return MultiHeadAttention.initialize(
        8, heads=N, key_heads=2, biases=True, rng=0, scorer=scorer, normalizer=normalizer, **options
    )


KINDS = {
    "one name": lambda: layer_of("entmax"),
    "one sink": lambda: layer_of(Softmax(0.4), SCORERS),
    "a sink for each head": lambda: layer_of(sinks()),
    "sinks of heads with several scorers": lambda: layer_of(sinks(), SCORERS),
    "different": lambda: layer_of(["softmax", "entmax", {"name": "sigmoid", "offset": -1.0},
                                   "softmax"], SCORERS),
    "a scorer with several normalizers": lambda: layer_of(
        ["softmax", "sparsemax", Softmax(0.2), "softmax"],
        ac.make_scorer("general", query_dim=2, key_dim=2, rng=1),
    ),
    "with keys of its own": lambda: MultiHeadAttention(
        **layer_of("softmax").arrays, extra_key=np.ones((2, 2)), extra_value=np.ones((2, 2)),
        zero_key=True, normalizer=sinks(), is_causal=True,
    ),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def layer(request):
    return KINDS[request.param]()


def by_head(layer, query, key, value):
    """The output, from one call of `attend` for each head."""
    p, together = layer.parameters, layer.heads // layer.key_heads
    output = p["output_bias"]
    for head, (scorer, normalizer) in enumerate(zip(layer.scorers, layer.normalizers, strict=True)):
        g = head // together
        q = query @ p["query_weight"][:, head] + p["query_bias"][head]
        k = key @ p["key_weight"][:, g] + p["key_bias"][g]
        v = value @ p["value_weight"][:, g] + p["value_bias"][g]
        sink = getattr(normalizer, "sink", None)
        if sink is not None and sink.ndim:
            normalizer = Softmax(sink[head])
        mask = np.tri(len(q), len(k), dtype=bool) if layer.groups[0].attention.is_causal else None
        if "extra_key" in p:
            k = np.concatenate([k, p["extra_key"][None, g]])
            v = np.concatenate([v, p["extra_value"][None, g]])
        if layer.zero_key:
            k, v = (np.concatenate([a, np.zeros((1, a.shape[1]))]) for a in (k, v))
        if mask is not None and len(k) > mask.shape[1]:
            mask = np.pad(mask, ((0, 0), (0, len(k) - mask.shape[1])), constant_values=True)
        own = ac.attend(q, k, v, scorer=scorer, normalizer=normalizer, mask=mask)
        output = output + own.context @ p["output_weight"][head]
    return output


def test_each_head_has_its_normalizer(layer, rng):
    inputs = rng.normal(size=(3, 2, 5, 8))
    result = layer(*inputs)
    for item in range(2):
        expected = by_head(layer, *inputs[:, item])
        np.testing.assert_allclose(result.output[item], expected, rtol=1e-12, atol=1e-12)
    again = layer(inputs[0], layer.memory(*inputs[1:]))
    np.testing.assert_allclose(again.output, result.output, rtol=1e-12, atol=1e-12)


def test_gradients_are_finite_differences(layer, rng):
    query, key, value = rng.normal(size=(3, 2, 5, 8))
    grad = rng.normal(size=(2, 5, 8))
    found = layer(query, key, value).vjp(grad)
    assert list(found.parameters) == list(layer.parameters)
    vector = layer.parameter_vector
    direction = rng.normal(size=vector.shape)

    def loss(step):
        moved = layer.with_parameter_vector(vector + step)
        return (moved(query, key, value).output * grad).sum()

    slope = (loss(1e-6 * direction) - loss(-1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(found.parameter_vector @ direction, slope, rtol=1e-6)
    sizes = {name: array.size for name, array in layer.parameters.items()}
    first = 0
    for name, size in sizes.items():
        if name.startswith("heads."):  # each number is distinct
            for entry in range(size):
                step = np.zeros_like(vector)
                step[first + entry] = 1e-6
                slope = (loss(step) - loss(-step)) / 2e-6
                got = found.parameters[name].reshape(-1)[entry]
                np.testing.assert_allclose(got, slope, rtol=1e-5, atol=1e-8)
        first += size


def test_parameters_of_normalizers_are_parameters_of_the_layer():
    names = {
        "a sink for each head": {"heads.0.normalizer.sink": (N,)},
        "sinks of heads with several scorers": {"heads.0.normalizer.sink": (N,)},
        "one sink": {"heads.0.normalizer.sink": ()},
        "a scorer with several normalizers": {
            "heads.0.weight": (2, 2),
            "heads.2.normalizer.sink": (),
        },
        "different": {},
    }
    for kind, expected in names.items():
        found = KINDS[kind]().parameters
        own = {name: a.shape for name, a in found.items() if name.startswith("heads.")}
        assert own == expected


def test_one_scorer_of_heads_with_other_normalizers_is_one(rng):
    layer = KINDS["a scorer with several normalizers"]()
    changed = layer.with_parameters({"heads.0.weight": np.eye(2)})
    assert len({id(scorer) for scorer in changed.scorers}) == 1
    assert [group.heads for group in changed.groups] == [group.heads for group in layer.groups]


def test_sinks_are_learned_with_the_rest(rng):
    x = rng.normal(size=(2, 5, 8))
    target = layer_of(Softmax([2.0, 1.0, -1.0, 0.0]))(x, x, x).output
    start = layer_of(Softmax(np.zeros(N)))

    def loss(layer):
        result = layer(x, x, x)
        error = result.output - target
        return (error**2).sum(), result.vjp(2 * error)

    learned = fit(start, loss, max_iter=60, tol=1e-12)
    assert learned.losses[-1] < learned.losses[0] / 100
    assert learned.scorer.parameters["heads.0.normalizer.sink"].any()


def test_layers_stay_what_they_are(layer, tmp_path, rng):
    x = rng.normal(size=(5, 8))
    ac.save(tmp_path / "layer.npz", layer)
    for other in (
        pickle.loads(pickle.dumps(layer)),
        copy.deepcopy(layer),
        layer.with_parameter_vector(layer.parameter_vector),
        MultiHeadAttention.from_config(json.loads(json.dumps(layer.to_config()))),
        ac.load(tmp_path / "layer.npz"),
    ):
        assert other == layer
        assert list(other.parameters) == list(layer.parameters)
        assert repr(other).count("normalizer") == repr(layer).count("normalizer")
        assert np.array_equal(other(x, x, x).output, layer(x, x, x).output)
    assert layer != layer_of("softmax", [scorer.to_config()["name"] for scorer in layer.scorers]
                             if len(set(layer.scorers)) > 1 else "scaled_dot")  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_equal_sinks_that_are_learned_apart_are_saved_apart(tmp_path, suffix):
    layer = layer_of([Softmax(0.0) for _ in range(N)])
    ac.save(tmp_path / f"layer{suffix}", layer)
    loaded = ac.load(tmp_path / f"layer{suffix}")
    assert len(loaded.groups) == N
    assert loaded == layer
    assert layer != layer_of(Softmax(0.0))


def test_a_normalizer_that_could_not_be_loaded_again_is_not_saved(tmp_path):
    class Own(Softmax):
        name = None

    with pytest.raises(ScorerConfigError, match="constructed directly and its class names no"):
        ac.save(tmp_path / "layer.npz", layer_of(Own()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("heads", [[0, 1, 2], [0, 1, 2, 3, 3], []])
def test_a_note_of_other_heads_is_refused(tmp_path, heads):
    ac.save(tmp_path / "layer.npz", layer_of("entmax"))
    with open_file(tmp_path / "layer.npz") as file:
        note = json.loads(file.note)
    note["layer"]["normalizers"][0]["heads"] = heads
    write_arrays(tmp_path / "other.npz", layer_of("entmax").parameters, note=json.dumps(note))
    with pytest.raises(ac.ParameterFileError, match="cannot read its note"):
        ac.load(tmp_path / "other.npz")


def test_a_config_has_a_table_or_an_array_of_tables(tmp_path):
    head = "[multi_head]\nquery_dim = 8\nheads = 2\nrng = 0\n"
    (tmp_path / "one.toml").write_text(f'{head}[normalizer]\nname = "entmax"\nalpha = 1.7\n')
    tables = '[[normalizer]]\nname = "softmax"\nsink = 0.5\n[[normalizer]]\nname = "sparsemax"\n'
    (tmp_path / "each.toml").write_text(head + tables)
    one = MultiHeadAttention.from_config(tmp_path / "one.toml")
    assert {normalizer.alpha for normalizer in one.normalizers} == {1.7}
    each = MultiHeadAttention.from_config(tmp_path / "each.toml")
    assert [str(normalizer.to_config()) for normalizer in each.normalizers] == [
        "{'name': 'softmax', 'sink': 0.5}",
        "{'name': 'sparsemax'}",
    ]


def test_the_log_normalizer_is_that_of_softmax(rng):
    x = rng.normal(size=(5, 8))
    assert layer_of(sinks(), SCORERS)(x, x, x).log_normalizer.shape == (N, 5)
    with pytest.raises(OptionError, match="has no log_normalizer"):
        _ = KINDS["different"]()(x, x, x).log_normalizer


def test_layers_of_torch_and_keras_take_one():
    state = {"in_proj_weight": np.ones((12, 4)), "out_proj.weight": np.eye(4)}
    layer = MultiHeadAttention.from_torch(state, heads=2, normalizer="entmax")
    kernels = [np.ones((4, 2, 3))] * 3 + [np.ones((2, 3, 4))]
    other = MultiHeadAttention.from_keras(kernels, normalizer=["softmax", "entmax"])
    assert [n.to_config()["name"] for n in layer.normalizers] == ["entmax", "entmax"]
    assert [n.to_config()["name"] for n in other.normalizers] == ["softmax", "entmax"]


ERRORS = [
    (["softmax"], OptionError, "normalizer must be one for all 4 heads, or 4 of them, got 1"),
    (
        3,
        ac.OptionTypeError,
        "normalizer must be a name, a mapping with a 'name', a Normalizer, or a sequence of one "
        "for each head, got 3",
    ),
    (Softmax([1.0, 2.0, 3.0]), ac.ShapeError, "sink must have one entry, or one for each of 4 "
     "heads, along its last axis, got (3,)"),
    ("sofmax", ac.UnknownScorerError, "no normalizer named 'sofmax'; did you mean 'softmax'"),
]  # fmt: skip


@pytest.mark.parametrize(("normalizer", "error", "text"), ERRORS, ids=str)
def test_errors(normalizer, error, text):
    with pytest.raises(error, match=re.escape(text)):
        layer_of(normalizer)


def test_sinks_agree_with_autograd(rng):
    torch = pytest.importorskip("torch")
    layer = layer_of(sinks(), SCORERS, is_causal=True)
    x, grad = rng.normal(size=(2, 6, 8)), rng.normal(size=(2, 6, 8))
    p = {name: torch.tensor(a, requires_grad=True) for name, a in layer.parameters.items()}
    t = torch.tensor(x, requires_grad=True)
    q, k, v = (
        torch.einsum("ble,ehd->bhld", t, p[f"{name}_weight"]) + p[f"{name}_bias"][:, None]
        for name in ("query", "key", "value")
    )
    k, v = (a.repeat_interleave(2, dim=1) for a in (k, v))
    scale = torch.tensor([1.0, 2**-0.5, 1.0, 2**-0.5], dtype=torch.float64)[:, None, None]
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~torch.ones(6, 6).tril().bool(), -np.inf)
    extra = p["heads.0.normalizer.sink"][:, None, None].expand(2, N, 6, 1)
    weights = torch.cat([scores, extra], -1).softmax(-1)[..., :6]
    output = torch.einsum("bhld,hde->ble", weights @ v, p["output_weight"]) + p["output_bias"]
    output.backward(torch.tensor(grad))
    result = layer(x, x, x)
    found = result.vjp(grad)
    np.testing.assert_allclose(result.output, output.detach(), rtol=1e-10)
    np.testing.assert_allclose(found.query + found.key + found.value, t.grad, atol=1e-10)
    for name, tensor in p.items():
        np.testing.assert_allclose(found.parameters[name], tensor.grad, atol=1e-10)
