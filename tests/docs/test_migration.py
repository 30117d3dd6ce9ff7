"""The claims of the migration page, compared with torch and Keras if they are installed."""

import os

import numpy as np
import pytest
from projects import ROOT
from site_extensions import run_pages

import attention_core as ac

PAGE = ROOT / "docs" / "how-to" / "migrate.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The variables of the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("migrate"))
        return run_pages.run_page(PAGE)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    return pytest.importorskip("keras")


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


PADDING = np.array([[False] * 4, [False, False, True, True]])  # (batch, S), True = padding


def close(found, expected):
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------------- torch


def test_masks_of_torch_sdpa(torch):
    query, key, value = map(torch.from_numpy, arrays((2, 3, 5), (2, 4, 5), (2, 4, 6)))
    mask = torch.from_numpy(~PADDING[:, None, :]).expand(2, 3, 4)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    for name, given in ("mask", mask), ("bias", torch.randn(2, 3, 4)):
        ours = ac.attend(query, key, value, scorer="scaled_dot", **{name: given.numpy()}).context
        close(ours, sdpa(query, key, value, attn_mask=given))
    ours = ac.attend(query, key, value, scorer="scaled_dot", is_causal=True).context
    close(ours, sdpa(query, key, value, is_causal=True))
    ours = ac.attend(query, key, value, scorer="dot").context
    close(ours, sdpa(query, key, value, scale=1.0))
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    assert not sdpa(query, key, value, attn_mask=nothing).any()


def test_grouped_queries_of_torch(page, torch):
    query, key, value = (torch.from_numpy(page[name]) for name in ("query", "key", "value"))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    close(
        page["grouped"](*map(np.asarray, (query, key, value))),
        sdpa(query, key, value, enable_gqa=True),
    )


@pytest.mark.parametrize("kind", ["none", "attn_mask", "key_padding_mask"])
def test_multi_head_attention_of_torch(torch, kind):
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    torch.nn.init.normal_(layer.in_proj_bias)
    torch.nn.init.normal_(layer.out_proj.bias)
    query, key, value = arrays((2, 3, 8), (2, 4, 8), (2, 4, 8))
    forbidden = np.triu(np.ones((3, 4), dtype=bool), 1)
    theirs, ours = {
        "none": ({}, {}),
        "attn_mask": ({"attn_mask": torch.from_numpy(forbidden)}, {"mask": ~forbidden}),
        "key_padding_mask": (
            {"key_padding_mask": torch.from_numpy(PADDING)},
            {"mask": ~PADDING[:, None, None, :]},
        ),
    }[kind]
    with torch.no_grad():
        expected, _ = layer(*map(torch.from_numpy, (query, key, value)), **theirs)
    weights = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    found = ac.MultiHeadAttention.from_torch(weights, heads=2)(query, key, value, **ours)
    close(found.output, expected)


def test_a_row_of_nothing_in_multi_head_attention_of_torch(torch):
    (x,) = map(torch.from_numpy, arrays((1, 3, 8)))
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    context, _ = layer(x, x, x, key_padding_mask=torch.ones(1, 3, dtype=torch.bool))
    assert context.isnan().all()


def test_additive_attention_of_allennlp(page, torch):
    """The forward pass of its source: tanh(vector W + matrix U) V."""
    names = ("_w_matrix", "_u_matrix", "_v_vector")
    weights = dict(zip(names, arrays((5, 5), (6, 5), (5, 1)), strict=True))
    vector, matrix = arrays((2, 5), (2, 4, 6))
    w, u, v = (torch.from_numpy(weights[name]) for name in names)
    hidden = torch.from_numpy(vector).matmul(w).unsqueeze(1) + torch.from_numpy(matrix).matmul(u)
    scores = torch.tanh(hidden).matmul(v).squeeze(2)
    expected = scores.masked_fill(torch.from_numpy(PADDING), -torch.inf).softmax(-1)
    scorer = page["from_allennlp_additive"](weights)
    close(page["allennlp_weights"](scorer, vector, matrix, ~PADDING), expected)


# -------------------------------------------------------------------------------------- Keras


def test_additive_attention_of_keras(page, keras):
    query, key, value = arrays((2, 3, 5), (2, 4, 5), (2, 4, 6))
    (scale,) = arrays((5,))
    layer = keras.layers.AdditiveAttention()
    layer.build([query.shape, value.shape, key.shape])
    layer.set_weights([scale])
    expected = layer([query, value, key], mask=[None, ~PADDING])
    scorer = page["from_keras_additive"](scale)
    close(ac.attend(query, key, value, scorer=scorer, mask=~PADDING[:, None, :]).context, expected)


def test_dot_attention_of_keras(keras):
    query, key, value = arrays((2, 3, 5), (2, 4, 5), (2, 4, 6))
    layer = keras.layers.Attention(use_scale=True)
    layer.build([query.shape, value.shape, key.shape])
    layer.set_weights([np.float32(0.3)])
    scorer = {"name": "scaled_dot", "scale": 0.3}
    ours = ac.attend(query, key, value, scorer=scorer, is_causal=True).context
    close(ours, layer([query, value, key], use_causal_mask=True))
    ours = ac.attend(query, key, value, scorer="dot").context
    close(ours, keras.layers.Attention()([query, value, key]))


def test_multi_head_attention_of_keras(keras):
    query, key, value = arrays((2, 3, 8), (2, 4, 8), (2, 4, 8))
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=5)
    layer(query, value, key)
    names = ["query/kernel", "query/bias", "key/kernel", "key/bias", "value/kernel", "value/bias"]
    names += ["attention_output/kernel", "attention_output/bias"]
    assert [weight.path.split("/", 1)[1] for weight in layer.weights] == names
    weights = arrays(*(weight.shape for weight in layer.weights))
    layer.set_weights(weights)
    mask = np.random.default_rng(0).random((2, 3, 4)) < 0.7
    ours = ac.MultiHeadAttention.from_keras(weights)(query, key, value, mask=mask[:, None])
    close(ours.output, layer(query, value, key, attention_mask=mask))


def test_rows_of_nothing_in_keras(keras):
    (x,) = arrays((1, 3, 8))
    for layer in (keras.layers.Attention(), keras.layers.AdditiveAttention()):
        close(layer([x, x], mask=[None, np.zeros((1, 3), bool)])[0], np.tile(x[0].mean(0), (3, 1)))
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=5, use_bias=False)
    nothing = np.zeros((1, 3, 3), bool)
    context, _ = layer(x, x, attention_mask=nothing, return_attention_scores=True)
    assert not np.asarray(context).any()
    if keras.backend.backend() == "numpy":
        close(layer(x, x, attention_mask=nothing), layer(x, x.mean(axis=1, keepdims=True)))


def test_axes_of_keras_and_jax(keras):
    query, key, value = arrays((2, 3, 4, 5), (2, 6, 4, 5), (2, 6, 4, 5))  # (batch, L, heads, D)
    ours = ac.attend(*(x.swapaxes(1, 2) for x in (query, key, value)), scorer="scaled_dot")
    expected = ours.context.swapaxes(1, 2)
    close(keras.ops.dot_product_attention(query, key, value), expected)
    jax = pytest.importorskip("jax")
    close(jax.nn.dot_product_attention(query, key, value), expected)
    nothing = np.zeros((1, 1, 3, 6), bool)
    mean = np.broadcast_to(value.mean(axis=1, keepdims=True), query.shape)
    for attend in (keras.ops.dot_product_attention, jax.nn.dot_product_attention):
        close(attend(query, key, value, mask=nothing), mean)
