"""Modules: parameters, states, files, training with scorers of other packages."""

import copy
import os
import pickle
import sys
import tracemalloc

import numpy as np
import pytest
from fakes import install as install  # a fixture

import attention_core as ac
from attention_core.registry import default

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow  # to import torch

ADDITIVE = {"name": "additive", "query_dim": 4, "key_dim": 4, "hidden_dim": 5, "rng": 0}
X = torch.tensor(np.random.default_rng(3).normal(size=(2, 6, 4)))


def attention(**options):
    return ac.torch.Attention(
        ADDITIVE,
        normalizer={"name": "softmax", "sink": 0.5},
        bias={"name": "alibi", "heads": 2},
        dtype=torch.float64,
        **options,
    )


def layer(**options):
    given = {"scorer": ["dot", {**ADDITIVE, "query_dim": 2, "key_dim": 2}]} | options
    return ac.torch.MultiHeadAttention(4, heads=2, dtype=torch.float64, rng=0, **given)


def output(module, x=X):
    result = module(x, x, x)
    return result.output if hasattr(result, "output") else result.context


# ------------------------------------------------------------------------------------- parameters


def test_parameters_have_the_names_of_their_components():
    assert {name: p.shape for name, p in attention().named_parameters()} == {
        "scorer.query_weight": (4, 5),
        "scorer.key_weight": (4, 5),
        "scorer.score_weight": (5,),
        "normalizer.sink": (),
        "bias.slopes": (2,),
    }
    assert [*layer().state_dict()] == [*layer().numpy().parameters]


def test_parameters_have_the_default_dtype_of_torch():
    module = ac.torch.Attention(ADDITIVE)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert {p.dtype for p in module.double().parameters()} == {torch.float64}
    assert module.bfloat16()(*[X.bfloat16()] * 3).context.dtype is torch.bfloat16


@pytest.mark.parametrize("make", [attention, layer])
def test_the_module_is_its_numpy_form(make):
    module = make(is_causal=True)
    plain = module.numpy()
    np.testing.assert_array_equal(output(module).detach(), output(plain, X.numpy()))
    again = type(module).from_numpy(plain, dtype=torch.float64)
    torch.testing.assert_close(output(again), output(module), rtol=0, atol=0)
    with torch.no_grad():
        next(module.parameters()).mul_(2.0)
    assert not torch.equal(output(module), output(again))
    again.load_state_dict(module.state_dict())
    torch.testing.assert_close(output(again), output(module), rtol=0, atol=0)


def test_a_seed_of_torch_decides_where_none_is_given():
    first, second = (torch.manual_seed(4) and ac.torch.MultiHeadAttention(4, heads=2) for _ in "ab")
    assert first.numpy() == second.numpy() != ac.torch.MultiHeadAttention(4, heads=2).numpy()


def test_only_what_is_asked_for_learns():
    module = attention()
    module.scorer.key_weight.requires_grad_(False)
    output(module).square().sum().backward()
    assert module.scorer.key_weight.grad is None
    assert all(p.grad.any() for p in module.parameters() if p.requires_grad)


def test_another_bias_of_a_call_leaves_that_of_the_module_alone():
    module = attention()
    bias = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)
    module(X, X, X, bias=bias).context.square().sum().backward()
    assert bias.grad.any()
    assert not module.bias.slopes.grad.any()


def test_gradients_of_a_memory_reach_the_parameters():
    module, same = attention(), attention()
    memory = module.memory(X[:, :4], X[:, :4])
    memory.append(X[:, 4:], X[:, 4:])
    module(X, memory).context.square().sum().backward()
    output(same).square().sum().backward()
    for one, other in zip(module.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    with torch.no_grad():
        module.scorer.key_weight.mul_(2.0)
    with pytest.raises(ac.OptionError, match="was made for another scorer"):
        module(X, memory)


def test_results_keep_the_parameters_of_their_call():
    module = attention()
    result, expected = module(X, X, X), module(X, X, X).weights
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    torch.testing.assert_close(result.weights, expected, rtol=0, atol=0)


@pytest.mark.parametrize("make", [attention, layer])
@pytest.mark.parametrize("way", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy])
def test_modules_can_be_copied_and_pickled(make, way):
    module = make(is_causal=True)
    copied = way(module)
    torch.testing.assert_close(output(copied), output(module), rtol=0, atol=0)
    with torch.no_grad():
        next(copied.parameters()).zero_()
    assert next(module.parameters()).any()
    assert repr(copied) == repr(module)


def test_a_module_shows_itself():
    assert repr(ac.torch.Attention("scaled_dot", is_causal=True)) == (
        "Attention(Attention(ScaledDotScorer(), is_causal=True))"
    )


# ------------------------------------------------------------------------------ files and configs


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_files_of_parameters_are_states_and_states_are_files(tmp_path, suffix):
    module = layer(normalizer={"name": "softmax", "sink": [0.5, 1.0]})
    path = tmp_path / f"layer.{suffix}"
    ac.save(path, module.numpy())
    loaded = ac.torch.MultiHeadAttention.from_numpy(ac.load(path), dtype=torch.float64)
    torch.testing.assert_close(output(loaded), output(module), rtol=0, atol=0)
    arrays = ac.parameter_files.read_parameters(path).arrays
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    assert module.load_state_dict(state).missing_keys == []
    scorer = attention().numpy().scorer
    ac.save(path, scorer)
    again = ac.torch.Attention(ac.load(path), dtype=torch.float64)
    torch.testing.assert_close(
        output(again), output(ac.torch.Attention(scorer, dtype=torch.float64)), rtol=0, atol=0
    )


def test_a_layer_of_torch_is_taken_over():
    peer = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    module = ac.torch.MultiHeadAttention.from_torch(peer, dtype=torch.float64)
    wanted, weights = peer(X, X, X, average_attn_weights=False)
    result = module(X, X, X)
    torch.testing.assert_close(result.output, wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(result.weights, weights, rtol=1e-12, atol=1e-14)


RBF = """
    import numpy as np
    from attention_core import Scorer

    class Rbf(Scorer):
        "score = -sum_d gamma_d (q_d - k_d)^2"

        def __init__(self, gamma):
            self.gamma = np.asarray(gamma, float)

        def score(self, query, key):
            return -(self._differences(query, key) ** 2 @ self.gamma.astype(query.dtype))

        def score_vjp(self, query, key, grad):
            apart = self._differences(query, key)
            shared = -2 * grad[..., None] * apart * self.gamma.astype(query.dtype)
            axes = tuple(range(grad.ndim))
            gamma = -(grad[..., None] * apart**2).sum(axis=axes)
            return shared.sum(-2), -shared.sum(-3), {"gamma": gamma}

        @staticmethod
        def _differences(query, key):
            return query[..., :, None, :] - key[..., None, :, :]
    """
HOOKS = """
    from attention_core import ScorerSpec, hookimpl

    @hookimpl
    def attention_core_scorers():
        yield ScorerSpec(name="rbf", factory="acme_attention.rbf:Rbf", summary="Gaussian")
    """
TOML = """
[scorer]
name = "rbf"
gamma = [1.0, 0.5, 0.25, 2.0]
[attention]
is_causal = true
"""


def test_a_scorer_of_another_package_trains_by_its_name(install, tmp_path, monkeypatch):
    install(hooks=HOOKS, rbf=RBF)
    monkeypatch.setattr(default, "_default", None)
    path = tmp_path / "attention.toml"
    path.write_text(TOML)

    def make():
        torch.manual_seed(0)
        return torch.nn.ModuleDict(
            {
                "attention": ac.torch.Attention.from_config(path, dtype=torch.float64),
                "readout": torch.nn.Linear(4, 1, dtype=torch.float64),
            }
        )

    def predict(model):
        return model["readout"](model["attention"](X, X, X).context)

    model = make()
    truth = make()
    with torch.no_grad():
        truth["attention"].scorer.gamma.copy_(torch.tensor([0.0, 4.0, 0.0, 0.0]))
        target = predict(truth)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (predict(model) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    before = ac.torch.Attention.from_config(path, dtype=torch.float64).scorer.gamma
    assert not torch.equal(model["attention"].scorer.gamma, before)

    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = make()
    loaded.load_state_dict(torch.load(tmp_path / "model.pt"))
    torch.testing.assert_close(predict(loaded), predict(model), rtol=0, atol=0)
    ac.save(tmp_path / "rbf.npz", model["attention"].numpy().scorer)
    found = ac.load(tmp_path / "rbf.npz")
    np.testing.assert_array_equal(found.gamma, model["attention"].scorer.gamma.detach())


# -------------------------------------------------------------------------------------- processes


class Attended(torch.utils.data.Dataset):
    """Items that a worker attends to."""

    def __init__(self, module):
        self.module = module

    def __len__(self):
        return 4

    def __getitem__(self, index):
        with torch.no_grad():
            return self.module(X[:, index], X, X).context, os.getpid()


# JAX, which another test may have imported, warns about forks
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_workers_of_a_data_loader_attend(context):
    module = ac.torch.Attention("scaled_dot")
    output(module)  # our threads are running
    loader = torch.utils.data.DataLoader(
        Attended(module),
        batch_size=None,
        num_workers=2,
        multiprocessing_context=context,
        timeout=300,
    )
    with torch.no_grad():
        expected = [module(X[:, index], X, X).context for index in range(4)]
    found = list(loader)
    assert os.getpid() not in {process for _, process in found}
    for (context, _), wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(context, wanted, rtol=0, atol=0)


def test_distributed_training_averages_gradients(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        module = attention()
        parallel = torch.nn.parallel.DistributedDataParallel(attention())
        for made in (module, parallel):
            output(made).square().sum().backward()
        for one, other in zip(module.parameters(), parallel.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)
    finally:
        torch.distributed.destroy_process_group()


def test_large_calls_need_the_memory_of_a_few_tiles():
    module = ac.torch.Attention({**ADDITIVE, "hidden_dim": 64})
    x = torch.randn(2048, 4, requires_grad=True)
    output(module, x[:8]).sum().backward()
    tracemalloc.start()
    try:
        output(module, x).sum().backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20  # a hidden layer of all pairs takes 1 GiB


@pytest.mark.parametrize(
    "make", [lambda: ac.torch.Attention("dot"), lambda: ac.torch.MultiHeadAttention(4, heads=2)]
)
def test_arrays_of_numpy_are_refused_by_name(make):
    module, array, tensor = make(), np.ones((3, 4), np.float32), torch.ones(3, 4)
    with pytest.raises(ac.DTypeError, match=r"^query must be a torch tensor, got a ndarray; "):
        module(array, array, array)
    with pytest.raises(ac.DTypeError, match=r"^key is a numpy array and query a torch array: "):
        module(tensor, array, array)
    with pytest.raises(ac.DTypeError, match=r"^value is a numpy array and query a torch array: "):
        module(tensor, tensor, array)


@pytest.mark.parametrize(("call", "text"), [
    (lambda: ac.torch.Attention.from_numpy(ac.torch.Attention("dot")),
     "Attention.from_numpy takes an attention_core.Attention, got "
     "Attention(Attention(DotScorer()))"),
    (lambda: ac.torch.MultiHeadAttention.from_numpy(ac.Attention("dot")),
     "MultiHeadAttention.from_numpy takes an attention_core.MultiHeadAttention, got "
     "Attention(DotScorer())"),
    *((lambda dtype=dtype: ac.torch.MultiHeadAttention(4, heads=2, dtype=dtype),
       f"dtype must be a floating-point dtype of torch, such as torch.float32, got {dtype!r}")
      for dtype in (torch.int32, torch.complex64, "float32", np.float32)),
    (ac.torch.Attention, "Attention: missing 'scorer'; call Attention(scorer)"),
    (ac.torch.MultiHeadAttention,
     "MultiHeadAttention: missing 'query_dim', 'heads'; call "
     "MultiHeadAttention(query_dim, heads=...)"),
    (lambda: ac.torch.MultiHeadAttention(4, 2),
     "MultiHeadAttention: takes 1 argument by position, got 2; give the others by name: heads, "
     "rng, dtype"),
    (lambda: ac.torch.MultiHeadAttention(4, num_heads=2),
     "MultiHeadAttention: unexpected argument 'num_heads'; use heads="),
    (ac.torch.MultiHeadAttention.from_torch,
     "MultiHeadAttention.from_torch: missing 'module'; call MultiHeadAttention.from_torch(module)"),
])  # fmt: skip
def test_what_makes_no_module_is_an_error(call, text):
    with pytest.raises(ac.OptionTypeError) as caught:
        call()
    assert str(caught.value) == text


def test_a_memory_of_other_arrays_is_an_error():
    with pytest.raises(ac.DTypeError, match=r"^value must be a torch tensor, got a ndarray; "):
        ac.torch.Attention("dot").memory(torch.eye(3), np.eye(3))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is")  # deprecated in some versions
def test_a_call_is_never_traced_as_a_constant():
    module = ac.torch.MultiHeadAttention(4, heads=2)
    with pytest.raises(ac.DTypeError) as caught:
        torch.jit.trace(lambda x: module(x, x, x).output, torch.ones(3, 4), check_trace=False)
    assert str(caught.value).endswith(
        "has values that torch.jit.trace would record as constants: use torch.compile or "
        "torch.export"
    )


@pytest.mark.parametrize(("make", "name"), [
    (lambda **given: ac.torch.Attention("dot", **given), "Attention"),
    (lambda **given: ac.torch.MultiHeadAttention(4, heads=2, **given),
     "MultiHeadAttention.initialize"),
])  # fmt: skip
def test_arguments_of_torch_are_errors_that_say_what_serves(make, name):
    with pytest.raises(ac.OptionTypeError) as caught:
        make(dropout=0.1)
    hint = "use weight_factors=attention_core.Dropout(rate, seed)"
    assert str(caught.value) == f"{name}: unexpected argument 'dropout'; in the call, {hint}"
    with pytest.raises(
        ac.OptionTypeError, match=r"forward: unexpected argument .dropout.; use weig"
    ):
        make()(*torch.ones(3, 2, 4), dropout=0.1)
