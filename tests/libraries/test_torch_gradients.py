"""Gradients of tensors by finite differences, for every bundled component."""

import numpy as np
import pytest

import attention_core as ac
from attention_core.registry.discovery import BUNDLED
from attention_core.registry.loading import load_specs

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow  # to import torch

rng = np.random.default_rng(4)
SPECS = load_specs(BUNDLED)
SCORERS = [spec for spec in SPECS if isinstance(spec, ac.ScorerSpec)]
NORMALIZERS = [spec for spec in SPECS if isinstance(spec, ac.NormalizerSpec)]
BIASES = [spec for spec in SPECS if isinstance(spec, ac.BiasSpec)]
MASK = torch.tensor(rng.random((2, 3, 4)) < 0.7)
MASK[0, 1] = False  # a query that may attend to nothing


def tensor(*shape):
    return torch.tensor(rng.normal(size=shape), requires_grad=True)


def check(module, *inputs, outputs=("context", "weights", "log_normalizer"), **options):
    """Compare gradients of inputs and parameters with finite differences."""
    names = [name for name, _ in module.named_parameters()]

    def outputs_of(*tensors):
        parameters = dict(zip(names, tensors[len(inputs) :], strict=True))
        result = torch.func.functional_call(module, parameters, tensors[: len(inputs)], options)
        return tuple(
            torch.where(o.isfinite(), o, 0.0) for o in (getattr(result, n) for n in outputs)
        )

    parameters = [p.detach().clone().requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradcheck(outputs_of, (*inputs, *parameters), eps=1e-6, atol=1e-6)


def made(spec, make):
    return make(spec.name, **(spec.example or {}))


def test_the_scan_found_the_components():
    assert len(SCORERS) >= 5
    assert len(NORMALIZERS) >= 4
    assert len(BIASES) >= 3


@pytest.mark.parametrize("spec", SCORERS, ids=lambda spec: spec.name)
def test_every_scorer(spec):
    scorer = made(spec, ac.make_scorer)
    dims = {"additive": (4, 3), "general": (4, 3)}.get(spec.name, (4, 4))
    module = ac.torch.Attention(scorer, softcap=2.0, window=(2, 1), dtype=torch.float64)
    check(module, tensor(2, 3, dims[0]), tensor(2, 4, dims[1]), tensor(2, 4, 2), mask=MASK)


@pytest.mark.parametrize("spec", NORMALIZERS, ids=lambda spec: spec.name)
def test_every_normalizer(spec):
    normalizer = made(spec, ac.make_normalizer)
    module = ac.torch.Attention("scaled_dot", normalizer=normalizer, dtype=torch.float64)
    outputs = ["context", "weights"]
    check(module, tensor(2, 3, 4), tensor(2, 4, 4), tensor(4, 2), outputs=outputs, mask=MASK)


def test_a_sink_for_each_head():
    normalizer = ac.Softmax(sink=[0.5, -0.5])
    module = ac.torch.Attention("dot", normalizer=normalizer, is_causal=True, dtype=torch.float64)
    check(module, tensor(2, 3, 4), tensor(2, 4, 4), tensor(4, 2))


@pytest.mark.parametrize("spec", BIASES, ids=lambda spec: spec.name)
def test_every_bias(spec):
    bias = made(spec, ac.make_bias)
    module = ac.torch.Attention("dot", bias=bias, dtype=torch.float64)
    assert any(name.startswith("bias.") for name, _ in module.named_parameters())
    check(module, tensor(2, 3, 4), tensor(4, 4), tensor(2, 4, 2), mask=MASK)


def test_a_bias_that_is_a_tensor_and_lengths():
    module = ac.torch.Attention("dot", dtype=torch.float64)
    query, key, value, bias = tensor(2, 3, 4), tensor(2, 4, 4), tensor(2, 4, 2), tensor(3, 1)

    def outputs_of(query, key, value, bias):
        result = module(query, key, value, bias=bias, key_lengths=torch.tensor([4, 2]))
        return result.context, result.weights, result.log_normalizer

    assert torch.autograd.gradcheck(outputs_of, (query, key, value, bias))


def test_every_output_of_a_layer_with_different_heads():
    layer = ac.torch.MultiHeadAttention(
        4,
        heads=4,
        key_heads=2,
        biases=True,
        scorer=["dot", {"name": "general", "query_dim": 1, "key_dim": 1, "rng": 0}, "dot", "dot"],
        normalizer={"name": "softmax", "sink": [0.1, 0.2, 0.3, 0.4]},
        dtype=torch.float64,
        rng=0,
    )
    with torch.no_grad():
        layer.output_bias.normal_()
    outputs = "output", "weights", "log_normalizer"
    lengths = torch.tensor([4, 2])
    check(
        layer,
        tensor(2, 3, 4),
        tensor(2, 4, 4),
        tensor(2, 4, 4),
        outputs=outputs,
        key_lengths=lengths,
    )


def test_added_keys_of_a_layer():
    peer = torch.nn.MultiheadAttention(
        4, 2, add_bias_kv=True, add_zero_attn=True, dtype=torch.float64
    )
    layer = ac.torch.MultiHeadAttention.from_torch(peer, dtype=torch.float64)
    x = tensor(3, 4)
    check(layer, x, x, x, outputs=["output", "weights"])
