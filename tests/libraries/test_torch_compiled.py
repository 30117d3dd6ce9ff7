"""Compiled code: one graph without breaks, the same numbers and gradients, no stale state."""

import subprocess
import sys

import numpy as np
import pytest

import attention_core as ac

torch = pytest.importorskip("torch")
testing = pytest.importorskip("torch._dynamo.testing")
from attention_core.torch.ops import attend, attend_vjp
from attention_core.torch.templates import template_named, template_of

pytestmark = [
    pytest.mark.slow,  # to import and compile
    # a compiler that is imported for the first time
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
]

SCORER = ac.make_scorer("additive", query_dim=3, key_dim=3, hidden_dim=5, rng=0)
ATTENTION = ac.Attention("dot", softcap=3.0)
LAYER = ac.MultiHeadAttention.initialize(3, heads=3, rng=0)
MASK = torch.tensor(np.random.default_rng(0).random((4, 4)) < 0.7)
PACKING = ac.Packing.from_lengths([1, 3])
MODULE = ac.torch.Attention(SCORER, normalizer=ac.Softmax(sink=[0.1, 0.2]), dtype=torch.float64)
HEADS = ac.torch.MultiHeadAttention(3, heads=3, normalizer="sparsemax", dtype=torch.float64, rng=0)


def causal(queries, keys):
    return keys <= queries


CALLS = {
    "a name": lambda x: ac.attend(x, x, x, scorer="dot", is_causal=True).context,
    "a mapping": lambda x: (
        ac.attend(
            x, x, x, scorer={"name": "scaled_dot", "scale": 0.3}, query_offset="end", is_causal=True
        ).context
    ),
    "a scorer": lambda x: (
        ac.attend(
            x, x, x, scorer=SCORER, softcap=2.0, window=(1, None), key_lengths=[3, 4]
        ).log_normalizer
    ),
    "a normalizer": lambda x: (
        ac.attend(
            x, x, x, scorer="dot", normalizer={"name": "softmax", "sink": 0.0}, mask=MASK
        ).weights
    ),
    "no log-normalizer": lambda x: ac.attend(x, x, x, scorer="dot", normalizer="sparsemax").context,
    "a bias by name": lambda x: (
        ac.attend(x, x, x, scorer="dot", bias={"name": "alibi", "heads": 2}).context
    ),
    "a bias that is a tensor": lambda x: ATTENTION(x, x, x, bias=x @ x.mT).context,
    "an attention": lambda x: ATTENTION(x, x, x, query_offset=1).context,
    "a layer": lambda x: LAYER(x, x, x, mask=MASK).output,
    "a function": lambda x: ac.attend(x, x, x, scorer="dot", mask=causal).context,
    "a lambda": lambda x: ac.attend(x, x, x, scorer="dot", mask=lambda i, j: j <= i).context,
    "a packing": lambda x: ac.attend(x, x, x, scorer="dot", mask=PACKING).context,
    "a single query": lambda x: ac.attend(x[0, 0], x[0], x[0], scorer="dot").weights,
    "a module": lambda x: MODULE(x, x, x, key_lengths=torch.tensor([4, 2])).context,
    "weights of a module": lambda x: MODULE(x, x, x).weights,
    "a module of heads": lambda x: HEADS(x, x, x, mask=MASK).output,
    "weights of heads": lambda x: HEADS(x, x, x, mask=causal).weights,
}


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 3, dtype=torch.float64, generator=generator, requires_grad=True)


def gradients(call, x):
    found = call(x)
    parameters = [x, *MODULE.parameters(), *HEADS.parameters()]
    grads = torch.autograd.grad(found.square().sum(), parameters, allow_unused=True)
    return [found.detach(), *(grad for grad in grads if grad is not None)]


@pytest.mark.parametrize("name", CALLS)
def test_compiled_calls_are_one_graph_with_the_same_numbers(name):
    torch._dynamo.reset()
    compiled = torch.compile(CALLS[name], fullgraph=True, backend="aot_eager")
    found, expected = gradients(compiled, inputs()), gradients(CALLS[name], inputs())
    assert len(found) == len(expected) >= 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    assert not torch._dynamo.explain(CALLS[name])(inputs()).graph_break_count


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_default_compiler_trains(dtype):
    torch._dynamo.reset()
    module = ac.torch.Attention(SCORER, dtype=dtype)

    def loss(x):
        return (module(x.relu(), x.sin(), x).context * 2).float().square().sum()

    x = inputs().detach().to(dtype)
    (expected,) = torch.autograd.grad(loss(x), module.scorer.key_weight)
    (found,) = torch.autograd.grad(torch.compile(loss, fullgraph=True)(x), module.scorer.key_weight)
    assert found.dtype is dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=16 * eps, atol=16 * eps)


def test_shapes_may_be_dynamic():
    torch._dynamo.reset()
    counter = testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(CALLS["a module"], fullgraph=True, backend=counter, dynamic=True)
    for count in (5, 7, 9):
        x = torch.randn(2, count, 3, dtype=torch.float64, requires_grad=True)
        for one, other in zip(gradients(compiled, x), gradients(CALLS["a module"], x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    assert counter.frame_count == 1


def test_another_object_is_traced_again():
    torch._dynamo.reset()
    chosen = type("Choice", (), {})()

    def call(x):
        return ac.attend(x, x, x, scorer=chosen.scorer, mask=chosen.mask).context

    compiled = torch.compile(call, fullgraph=True, backend="eager")
    for scale, reach in [(0.1, 0), (0.3, 0), (0.3, 1), (0.1, 0)]:
        chosen.scorer = ac.make_scorer("scaled_dot", scale=scale)
        chosen.mask = lambda i, j, reach=reach: j <= i + reach
        torch.testing.assert_close(compiled(inputs()), call(inputs()))


class Block(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return x + self.layer(x, x, x).output


def test_layers_of_one_kind_share_their_code_and_others_do_not():
    torch._dynamo.reset()
    counter = testing.CompileCounter()
    for seed in range(4):
        block = Block(ac.torch.MultiHeadAttention(4, heads=2, rng=seed))
        x = torch.randn(3, 4)
        torch.testing.assert_close(torch.compile(block, backend=counter)(x), block(x))
    assert counter.frame_count == 1
    block = Block(ac.torch.MultiHeadAttention(4, heads=2, is_causal=True, rng=0))
    torch.testing.assert_close(torch.compile(block, backend=counter)(x), block(x))
    assert counter.frame_count == 2


def test_a_missing_log_normalizer_is_an_error():
    result = torch.compile(
        lambda x: ac.attend(x, x, x, scorer="dot", normalizer="sparsemax"), backend="eager"
    )(inputs())
    assert type(result) is ac.torch.TracedResult
    with pytest.raises(ac.OptionError) as caught:
        result.log_normalizer
    assert str(caught.value) == (
        "this normalizer has no log_normalizer: its weights are not exponentials divided by a sum"
    )
    assert result.weights.shape == (2, 4, 4)


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_operators_keep_their_contract(with_bias):
    module = ac.torch.Attention(SCORER)
    x = torch.randn(2, 4, 3)
    key = torch.randn(4, 3).requires_grad_()
    bias = torch.randn(4, 1, requires_grad=True) if with_bias else None
    mask = torch.ones(4, 4, dtype=torch.bool)
    parameters = list(module.parameters())
    call = [x, key, x[:, :, 1:], bias, [mask], parameters, module._template.name, "mask", True]
    done = torch.library.opcheck(attend, call)
    assert set(done.values()) == {"SUCCESS"}
    call[1], call[3] = key.detach(), bias.detach() if with_bias else None
    call[5] = [parameter.detach() for parameter in parameters]
    done = torch.library.opcheck(attend_vjp, [torch.ones(2, 4, 2), None, None, *call])
    assert set(done.values()) == {"SUCCESS"}


def test_the_operators_of_a_layer_keep_their_contract():
    call = [inputs(), inputs(), inputs(), None, [], list(HEADS.parameters())]
    done = torch.library.opcheck(attend, [*call, HEADS._template.name, "", True])
    assert set(done.values()) == {"SUCCESS"}


# -------------------------------------------------------------------------------------- templates


def test_a_template_is_known_by_everything_but_the_values_of_its_parameters():
    first, second = (ac.make_scorer("general", query_dim=2, key_dim=2, rng=r) for r in (0, 1))
    one = template_of(ac.Attention(first))
    assert one is template_of(ac.Attention(second)) is template_named(one.name)
    wider = ac.make_scorer("general", query_dim=2, key_dim=3, rng=0)
    others = [
        template_of(ac.Attention(wider)),
        template_of(ac.Attention(first, is_causal=True)),
        template_of(ac.Attention(first, query_offset=[0, 1])),
        template_of(ac.Attention(first, normalizer="sparsemax")),
        template_of(ac.Attention(first), {"mask": causal}),
        template_of(ac.Attention(first), is_fixed=True),
        template_of(ac.Attention(second), is_fixed=True),
        template_of(LAYER),
    ]
    assert len({one.name, *(other.name for other in others)}) == 9
    unnamed = [template_of(ac.Attention(first), {"mask": lambda i, j: j <= i}) for _ in range(2)]
    assert unnamed[0].name != unnamed[1].name


def test_the_name_of_a_template_is_the_same_in_every_process():
    code = (
        "import attention_core as ac; from attention_core.torch.templates import template_of\n"
        "scorer = ac.make_scorer('general', query_dim=2, key_dim=2, rng=5)\n"
        "print(template_of(ac.Attention(scorer, is_causal=True)).name)"
    )
    names = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    scorer = ac.make_scorer("general", query_dim=2, key_dim=2, rng=0)
    assert names == {template_of(ac.Attention(scorer, is_causal=True)).name + "\n"}


def test_templates_do_not_outlive_their_modules():
    name = template_of(ac.Attention("dot", softcap=1.25)).name
    with pytest.raises(ac.OptionError) as caught:
        template_named(name)
    assert str(caught.value) == (
        f"compiled code refers to attention {name!r}, which this process does not have: make the "
        f"module, or compile the function, in this process first"
    )
