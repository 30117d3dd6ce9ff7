"""PyTorch tensors: results are tensors, with gradients."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse

import attention_core as ac

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow  # to import torch

rng = np.random.default_rng(12)
Q, K, V = (rng.normal(size=shape) for shape in [(2, 4, 3), (2, 5, 3), (2, 5, 2)])
LAYER = ac.MultiHeadAttention.initialize(3, heads=3, value_dim=2, rng=0)
SCORER = ac.make_scorer("additive", query_dim=3, key_dim=3, hidden_dim=4, rng=0)


def tensors(dtype=torch.float64, **options):
    return [torch.tensor(array, dtype=dtype, **options) for array in (Q, K, V)]


def test_every_field_is_a_tensor_of_the_same_numbers():
    result = ac.attend(*tensors(), scorer=SCORER, is_causal=True, softcap=3.0)
    expected = ac.attend(Q, K, V, scorer=SCORER, is_causal=True, softcap=3.0)
    for name in ("context", "weights", "scores", "log_normalizer", "entropy", "key_mass"):
        tensor = getattr(result, name)
        assert type(tensor) is torch.Tensor
        np.testing.assert_array_equal(tensor.numpy(), getattr(expected, name))
    np.testing.assert_array_equal(result.rows(slice(1, 3)), expected.rows(slice(1, 3)))
    np.testing.assert_array_equal(result.top_k(2).weights.numpy(), expected.top_k(2).weights)
    np.testing.assert_array_equal(result.top_k(2).indices.numpy(), expected.top_k(2).indices)
    grad = rng.normal(size=expected.context.shape)
    pulled = result.vjp(torch.tensor(grad))
    np.testing.assert_array_equal(pulled.query.numpy(), expected.vjp(grad).query)
    assert {type(grad) for grad in pulled.parameters.values()} == {torch.Tensor}
    assert repr(result) == f"TensorResult({expected!r})"
    assert repr(result.vjp(torch.tensor(grad))).startswith("Gradients(query=torch.float64[")
    assert result._repr_html_() == expected._repr_html_()
    assert type(result.numpy()) is ac.AttentionResult


def test_a_sparse_mask_gives_sparse_tensors():
    mask = scipy.sparse.random_array((4, 5), density=0.5, rng=0) > 0
    result = ac.attend(*tensors(), scorer="dot", mask=mask)
    expected = ac.attend(Q, K, V, scorer="dot", mask=mask)
    assert result.weights.is_sparse
    np.testing.assert_array_equal(result.weights.to_dense(), expected.weights.toarray())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int64"])
def test_results_and_gradients_have_the_dtype_of_the_tensors(dtype):
    dtype = getattr(torch, dtype)
    inputs = tensors(dtype)
    if dtype.is_floating_point:
        inputs = [tensor.requires_grad_() for tensor in inputs]
    result = ac.attend(*inputs, scorer="scaled_dot")
    wanted = dtype if dtype.is_floating_point else torch.float64
    assert result.context.dtype is result.weights.dtype is result.key_mass.dtype is wanted
    rounded = [tensor.detach().double().numpy() for tensor in inputs]
    expected = ac.attend(*rounded, scorer="scaled_dot")
    tolerance = torch.finfo(wanted).eps * 4
    np.testing.assert_allclose(
        result.context.detach().double(), expected.context, rtol=tolerance, atol=tolerance
    )
    if dtype.is_floating_point:
        result.context.sum().backward()
        gradients = expected.vjp(np.ones((2, 4, 2)))
        for tensor, wanted in zip(inputs, gradients[:3], strict=True):
            assert tensor.grad.dtype is dtype
            np.testing.assert_allclose(
                tensor.grad.double(), wanted, rtol=8 * tolerance, atol=8 * tolerance
            )


def test_half_precisions_together_are_float32():
    query, key, value = tensors(torch.bfloat16)
    assert ac.attend(query, key.half(), value, scorer="dot").context.dtype is torch.float32


def test_the_log_normalizer_of_half_precision_is_float32():
    result = ac.attend(*tensors(torch.bfloat16), scorer="dot")
    assert result.log_normalizer.dtype is torch.float32


def test_views_of_all_kinds_are_read_and_get_gradients():
    base = torch.tensor(rng.normal(size=(6, 8, 2)), requires_grad=True)
    query = base.transpose(0, 2)[:, ::2, ::2]  # (2, 4, 3), strides of every kind
    key = base[:5, 0, None].transpose(0, 1).expand(2, 5, 2)[..., :1].expand(2, 5, 3)
    value = torch.ones(5, 2, dtype=torch.float64, requires_grad=True)
    (ac.attend(query, key, value, scorer="dot").context ** 2).sum().backward()
    grad = ac.attend(*(t.detach().numpy() for t in (query, key, value)), scorer="dot")
    found = grad.vjp(2 * grad.context)
    np.testing.assert_allclose(value.grad, found.value, rtol=1e-12)
    wanted = np.zeros((6, 8, 2))
    wanted.transpose(2, 1, 0)[:, ::2, ::2] += found.query
    wanted[:5, 0, 0] += found.key.sum(axis=(0, 2))
    np.testing.assert_allclose(base.grad, wanted, rtol=1e-12, atol=1e-14)


def test_a_single_query_and_empty_inputs():
    query, key, value = (torch.tensor(array[0]) for array in (Q, K, V))
    assert ac.attend(query[0], key, value, scorer="dot").context.shape == (2,)
    key = key[:0].requires_grad_()
    result = ac.attend(query, key, value[:0], scorer="dot")
    assert not result.context.any()
    result.context.sum().backward()
    assert key.grad.shape == (0, 3)


def test_nothing_is_recorded_without_gradients():
    query, key, value = tensors(requires_grad=True)
    with torch.no_grad():
        assert not ac.attend(query, key, value, scorer="dot").context.requires_grad
    with torch.inference_mode():
        assert not ac.attend(query, key, value, scorer="dot").context.requires_grad
    assert not ac.attend(*tensors(), scorer="dot").context.requires_grad
    frozen = ac.attend(query, key.detach(), value.detach(), scorer="dot")
    frozen.context.sum().backward()
    assert query.grad is not None
    assert key.grad is None


def test_a_second_derivative_is_an_error():
    query, key, value = tensors(requires_grad=True)
    context = ac.attend(query, key, value, scorer="dot").context
    (grad,) = torch.autograd.grad(context.sum(), query, create_graph=True)
    with pytest.raises(ac.NotDifferentiableError) as caught:
        (context.sum() + grad.square().sum()).backward()
    assert str(caught.value) == (
        "attention has first derivatives only: its gradients, taken with create_graph=True, "
        "cannot be differentiated again"
    )


@pytest.mark.parametrize("allow_unused", [False, True])
@pytest.mark.parametrize("other", ["query", "key"])
def test_a_second_derivative_is_not_taken_for_zero(allow_unused, other):
    query, key, value = tensors(requires_grad=True)
    context = ac.attend(query, key, value, scorer="dot").context
    (grad,) = torch.autograd.grad(context.sum(), query, create_graph=True)
    with pytest.raises(ac.NotDifferentiableError, match="first derivatives only"):
        torch.autograd.grad(
            grad.square().sum(), {"query": query, "key": key}[other], allow_unused=allow_unused
        )


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch itself
def test_forward_mode_is_an_error():
    query, key, value = tensors()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(query, query)
        with pytest.raises(ac.NotDifferentiableError, match="use backward"):
            ac.attend(dual, key, value, scorer="dot")


def test_a_tensor_that_was_changed_is_noticed():
    query, key, value = (torch.zeros(6000, 8, requires_grad=True) for _ in range(3))
    context = ac.attend(query, key, value, scorer="dot").context
    with torch.no_grad():
        key += 1
    with pytest.raises(ac.ChangedInputError, match="key was written to after the call"):
        context.sum().backward()


def test_masks_lengths_and_biases_may_be_tensors_arrays_or_functions():
    mask, lengths = rng.random((2, 4, 5)) < 0.7, np.array([3, 5])
    expected = ac.attend(Q, K, V, scorer="dot", mask=mask, key_lengths=lengths, bias=mask * 0.5)
    for convert in (torch.tensor, np.asarray, lambda array: array.tolist()):
        found = ac.attend(
            *tensors(),
            scorer="dot",
            mask=convert(mask),
            key_lengths=convert(lengths),
            bias=convert(mask * 0.5),
        )
        np.testing.assert_array_equal(found.context, expected.context)
    causal = ac.attend(*tensors(), scorer="dot", mask=lambda i, j: j <= i)
    np.testing.assert_array_equal(
        causal.context, ac.attend(Q, K, V, scorer="dot", is_causal=True).context
    )


ERRORS = {
    "key must be an array, got None": lambda q, k, v: (
        ac.torch.Attention("dot").memory(k, v).append(None, v)
    ),
    "key is on device 'meta', and attention needs numbers, which a tensor on 'meta' does not have":
        lambda q, k, v: ac.attend(q, k.to("meta"), v, scorer="dot"),
    "value must be a dense tensor, got a nested one; call .to_padded_tensor(0) and give the "
    "lengths as key_lengths and query_lengths":
        lambda q, k, v: ac.attend(
            q, k, torch.nested.nested_tensor([v[0], v[1]], layout=torch.jagged), scorer="dot"
        ),
    "value must be a dense tensor, got torch.sparse_coo; call .to_dense()":
        lambda q, k, v: ac.attend(q, k, v.to_sparse(), scorer="dot"),
    "query must hold real numbers (float16, bfloat16, float32, float64 or integers), "
    "got dtype complex128; take its .real or its .imag":
        lambda q, k, v: ac.attend(q + 0j, k, v, scorer="dot"),
    "key is a numpy array and query a torch array: the arrays of a call must come from one "
    "library; convert it with torch.as_tensor(key)":
        lambda q, k, v: ac.attend(q, K, v, scorer="dot"),
    "mask must be a dense tensor, got torch.sparse_coo; call .to_dense()":
        lambda q, k, v: ac.attend(q, k, v, scorer="dot", mask=torch.eye(4).to_sparse()),
    "weight_factors has no gradients; call .detach()":
        lambda q, k, v: ac.attend(
            q, k, v, scorer="dot", weight_factors=torch.ones(4, 5, requires_grad=True)
        ),
    "value must be omitted: the memory holds the values":
        lambda q, k, v: ac.Attention("dot")(q, ac.Attention("dot").memory(k, v), v),
    "this memory holds NumPy arrays, and query is a tensor; make it from tensors":
        lambda q, k, v: ac.Attention("dot")(q, ac.Attention("dot").memory(K, V)),
    "query has no values inside torch.func and torch.vmap: use torch.autograd.grad, and batch "
    "axes in place of vmap":
        lambda q, k, v: torch.vmap(lambda q: ac.attend(q, k, v, scorer="dot").context)(q[None]),
    "key must be a tensor that NumPy can read: Got unsupported ScalarType Float8_e4m3fn; "
    "call .float()":
        lambda q, k, v: ac.attend(q, k.to(torch.float8_e4m3fn), v, scorer="dot"),
    "value is missing: give it after key, or a memory as key":
        lambda q, k, v: ac.attend(q, k, scorer="dot"),
    "key is a numpy array and the memory a torch array: the arrays of a call must come from one "
    "library; convert it with torch.as_tensor(key)":
        lambda q, k, v: ac.Attention("dot").memory(k, v).append(K, V),
}  # fmt: skip


@pytest.mark.parametrize("text", ERRORS)
def test_errors_say_what_to_do(text):
    with pytest.raises(ac.AttentionCoreError) as caught:
        ERRORS[text](*tensors())
    assert str(caught.value) == text


def test_scorers_without_gradients_compute_and_say_so_when_asked():
    class Taxicab(ac.Scorer):
        def score(self, query, key):
            return -abs(query[..., :, None, :] - key[..., None, :, :]).sum(-1)

    query, key, value = tensors(requires_grad=True)
    context = ac.attend(query, key, value, scorer=Taxicab()).context
    with pytest.raises(ac.NotDifferentiableError, match="Taxicab"):
        context.sum().backward()


# ----------------------------------------------------------------------------------------- memory


def test_a_memory_of_tensors_grows_with_gradients():
    query, key, value = tensors(requires_grad=True)
    attention = ac.Attention(SCORER)
    memory = attention.memory(key[:, :2], value[:, :2])
    early = copy.copy(memory)
    memory.append(key[:, 2:], value[:, 2:])
    assert len(memory) == 5
    assert len(early) == 2
    result = attention(query, memory)
    (result.context**2).sum().backward()
    expected = ac.attend(Q, K, V, scorer=SCORER)
    wanted = expected.vjp(2 * expected.context)
    np.testing.assert_allclose(result.context.detach(), expected.context, rtol=1e-12)
    for tensor, grad in zip((query, key, value), wanted[:3], strict=True):
        np.testing.assert_allclose(tensor.grad, grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("make", [
    lambda: ac.Attention("dot"),
    lambda: ac.MultiHeadAttention.initialize(3, heads=3, value_dim=2, rng=0),
])  # fmt: skip
def test_a_memory_of_tensors_does_what_one_of_arrays_does(make, requires_grad):
    owner = make()
    _, key, value = tensors(requires_grad=requires_grad)
    memory, plain = owner.memory(key, value), owner.memory(K, V)
    changes = [
        lambda m, k, v: m.append(k[..., :1, :], v[..., :1, :]),
        lambda m, k, v: m.append(k[0, 0, None], v[0, 0, None]),
        lambda m, k, v: m.truncate(4),
    ]
    for change in changes:
        change(memory, key, value)
        change(plain, K, V)
        assert len(memory) == len(plain)
        np.testing.assert_array_equal(memory.value.detach(), plain.value)
    taken, wanted = memory.take([1, 0, 1]), plain.take([1, 0, 1])
    np.testing.assert_array_equal(taken.value.detach(), wanted.value)
    np.testing.assert_array_equal(taken.key.detach(), getattr(wanted, "given_key", wanted.key))
    found = owner(torch.tensor(Q[:1]), taken).numpy()
    same = owner(Q[:1], wanted)
    what = "output" if hasattr(same, "output") else "context"
    np.testing.assert_array_equal(getattr(found, what), getattr(same, what))
    memory.clear()
    assert len(memory) == 0
    assert memory.key.shape[-2] == 0


def traced(function):
    """The result of a function in compiled code."""
    return torch.compile(function, backend="eager", fullgraph=True)(*tensors())


# class -> an instance and a function of it; every class has a case
CASES = {
    ac.torch.Attention: (
        lambda: ac.torch.Attention(SCORER, dtype=torch.float64),
        lambda module: [module(*tensors()).context.detach(), *module.state_dict().values()],
    ),
    ac.torch.MultiHeadAttention: (
        lambda: ac.torch.MultiHeadAttention(3, heads=3, dtype=torch.float64, rng=0),
        lambda module: [module(*tensors()[:1] * 3).output.detach()],
    ),
    ac.torch.TracedHeadsResult: (
        lambda: traced(lambda q, k, v: LAYER(k, k, v)),
        lambda result: [result.output, result.weights],
    ),
    ac.torch.TracedResult: (
        lambda: traced(lambda q, k, v: ac.attend(q, k, v, scorer=SCORER)),
        lambda result: [result.context, result.weights],
    ),
    ac.torch.TensorHeadsResult: (
        lambda: ac.MultiHeadAttention.initialize(3, heads=3, rng=0)(*tensors()[:1] * 3),
        lambda result: [result.output, result.weights, result.vjp(result.output).query],
    ),
    ac.torch.TensorMemory: (
        lambda: ac.Attention(SCORER).memory(*tensors()[1:]),
        lambda memory: [ac.Attention(SCORER)(tensors()[0], memory).context, memory.key],
    ),
    ac.torch.TensorResult: (
        lambda: ac.attend(*tensors(), scorer=SCORER),
        lambda result: [result.context, result.weights, result.vjp(result.context).query],
    ),
}


def test_every_public_class_has_a_case():
    assert {getattr(ac.torch, name) for name in ac.torch.__all__} == {*CASES}


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
def test_a_copy_shows_itself_and_does_the_same(kind, way):
    make, behavior = CASES[kind]
    made = make()
    copied = way(made)
    assert type(copied) is kind
    assert repr(copied) == repr(made)
    assert " at 0x" not in repr(made)
    for found, expected in zip(behavior(copied), behavior(make()), strict=True):
        np.testing.assert_array_equal(found, expected)


# ----------------------------------------------------------------------------------------- layers


def test_a_layer_takes_tensors():
    layer = ac.MultiHeadAttention.initialize(3, heads=3, value_dim=2, scorer="dot", rng=0)
    query, key, value = tensors(requires_grad=True)
    result = layer(query, key, value, key_lengths=torch.tensor([5, 3]))
    expected = layer(Q, K, V, key_lengths=[5, 3])
    (result.output**2).sum().backward()
    found = expected.vjp(2 * expected.output)
    np.testing.assert_array_equal(query.grad, found.query)
    np.testing.assert_array_equal(result.vjp(2 * result.output).value.numpy(), found.value)
    for name in ("output", "weights", "scores", "log_normalizer", "entropy", "key_mass"):
        tensor = getattr(result, name).detach()
        np.testing.assert_array_equal(tensor, getattr(expected, name))
    np.testing.assert_array_equal(result.attention[0].weights, expected.attention[0].weights)
    assert result.groups == expected.groups


class Elsewhere(torch.Tensor):
    """A tensor that claims to be on a GPU."""

    @staticmethod
    def __new__(cls, tensor):
        return torch.Tensor._make_wrapper_subclass(cls, tensor.shape, device="cuda:0")

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return args[0]  # detach


def test_a_tensor_on_an_accelerator_is_never_copied_silently():
    query, key, value = tensors()
    with pytest.raises(ac.DTypeError) as caught:
        ac.attend(query, Elsewhere(key), value, scorer="dot")
    assert str(caught.value) == (
        "key is on device 'cuda:0', and attention is computed in main memory: call .cpu()"
    )
