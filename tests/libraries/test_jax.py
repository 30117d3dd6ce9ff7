"""JAX arrays: results are JAX arrays, and calls can be transformed."""

import copy
import pickle
from functools import partial

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse

import attention_core as ac
from attention_core.registry.discovery import BUNDLED
from attention_core.registry.loading import load_specs

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
pytestmark = pytest.mark.slow  # to import JAX and torch

rng = np.random.default_rng(12)
Q, K, V = (rng.normal(size=shape) for shape in [(2, 4, 3), (2, 5, 3), (5, 2)])
MASK = rng.random((2, 4, 5)) < 0.7
MASK[0, 1] = False  # a query that may attend to nothing
SCORER = ac.make_scorer("additive", query_dim=3, key_dim=3, hidden_dim=4, rng=0)
LAYER = ac.MultiHeadAttention.initialize(
    3, heads=3, key_heads=1, value_dim=2, biases=True, scorer=["dot", "scaled_dot", "dot"], rng=0
)
SPECS = load_specs(BUNDLED)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def arrays(dtype=np.float64):
    return [jnp.asarray(np.asarray(array, dtype)) for array in (Q, K, V)]


def close(found, expected, tolerance=1e-10):
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


# ------------------------------------------------------------------------------------ with numbers


def test_every_field_is_an_array_of_jax_with_the_same_numbers():
    result = ac.attend(*arrays(), scorer=SCORER, is_causal=True, softcap=3.0)
    expected = ac.attend(Q, K, V, scorer=SCORER, is_causal=True, softcap=3.0)
    for name in ("context", "weights", "scores", "log_normalizer", "entropy", "key_mass"):
        assert isinstance(getattr(result, name), jax.Array)
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    np.testing.assert_array_equal(result.rows(0), expected.rows(0))
    assert isinstance(result.top_k(2).indices, jax.Array)
    np.testing.assert_array_equal(result.top_k(2).weights, expected.top_k(2).weights)
    grad = rng.normal(size=expected.context.shape)
    for name, found in result.vjp(jnp.asarray(grad))._asdict().items():
        close(found, getattr(expected.vjp(grad), name), 0)
    assert repr(result) == f"JaxResult({expected!r})"
    assert repr(result.vjp(jnp.asarray(grad))).startswith("Gradients(query=float64[")
    assert result._repr_html_() == expected._repr_html_()
    assert type(result.numpy()) is ac.AttentionResult


def test_a_layer_takes_arrays_of_jax():
    result, expected = LAYER(*arrays()), LAYER(Q, K, V)
    for name in ("output", "weights", "scores", "log_normalizer", "entropy", "key_mass"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    np.testing.assert_array_equal(result.attention[0].weights, expected.attention[0].weights)
    assert result.groups == expected.groups


def test_masks_may_be_arrays_of_either_library_sparse_or_functions():
    sparse = scipy.sparse.random_array((4, 5), density=0.5, rng=0) > 0
    found = ac.attend(*arrays(), scorer="dot", mask=sparse).weights
    wanted = ac.attend(Q, K, V, scorer="dot", mask=sparse).weights.toarray()
    np.testing.assert_array_equal(found, wanted)
    for mask in (MASK, jnp.asarray(MASK), MASK.tolist()):
        found = ac.attend(*arrays(), scorer="dot", mask=mask).context
        np.testing.assert_array_equal(found, ac.attend(Q, K, V, scorer="dot", mask=MASK).context)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32"])
@pytest.mark.parametrize("wide", [False, True])
def test_dtypes_follow_the_inputs_and_the_switch_of_jax(dtype, wide):
    with jax.enable_x64(wide):
        inputs = arrays(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        eager = ac.attend(*inputs, scorer="dot")
        compiled = jax.jit(lambda q, k, v: ac.attend(q, k, v, scorer="dot").context)(*inputs)
        weights = jax.jit(lambda q, k, v: ac.attend(q, k, v, scorer="dot").log_normalizer)(*inputs)
        if dtype == "int32":
            dtype = "float64"
        if dtype == "float64" and not wide:
            dtype = "float32"
        assert eager.context.dtype.name == compiled.dtype.name == dtype
        np.testing.assert_array_equal(eager.context, compiled)
        assert weights.dtype.name == ("float64" if dtype == "float64" else "float32")


# ------------------------------------------------------------------------------------------ traced


def torch_gradients(function, parameters, *inputs):
    """Gradients of a sum of squares of outputs, by the modules of torch."""
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    for parameter in parameters:
        parameter.grad = None
    found = [torch.where(o.isfinite(), o, 0.0).square().sum() for o in function(*tensors)]
    sum(found).backward()
    return [p.grad.numpy() for p in parameters], [tensor.grad.numpy() for tensor in tensors]


def check(core, *inputs, make, **options):
    """Compare gradients of parameters and inputs with those of torch, compiled and not."""
    attend = ac.jax.attention(core)

    def outputs(parameters, *given):
        found = attend(parameters, *given, **options)
        weights = attend.weights(parameters, *given, **options)
        return [each for each in (*found, weights) if each is not None]

    def loss(parameters, *given):
        found = outputs(parameters, *given)
        return sum((jnp.where(jnp.isfinite(own), own, 0.0) ** 2).sum() for own in found)

    module = make(core)
    names = ["output" if hasattr(core, "heads") else "context", "weights"]
    if len(outputs(attend.parameters, *inputs)) == 3:
        names.append("log_normalizer")
    parameters = dict(module.named_parameters())

    def call(*given):
        result = module(*given, **options)
        return [getattr(result, name) for name in names]

    assert {*parameters} == {*attend.parameters}
    of_parameters, of_inputs = torch_gradients(call, parameters.values(), *inputs)
    every = tuple(range(1 + len(inputs)))
    for transform in (lambda f: f, jax.jit):
        gradient = transform(jax.grad(loss, argnums=every))
        found, *given = gradient(attend.parameters, *map(jnp.asarray, inputs))
        close(list(given), of_inputs)
        close(found, dict(zip(parameters, of_parameters, strict=True)))


def of_kind(kind):
    return [pytest.param(spec, id=spec.name) for spec in SPECS if isinstance(spec, kind)]


def module_of(core):
    torch = pytest.importorskip("torch")
    return ac.torch.Attention.from_numpy(core, dtype=torch.float64)


@pytest.mark.parametrize("spec", of_kind(ac.ScorerSpec))
def test_scorers_have_the_gradients_of_torch(spec):
    scorer = ac.make_scorer(spec.name, **(spec.example or {}))
    dims = {"additive": (4, 3), "general": (4, 3)}.get(spec.name, (4, 4))
    inputs = rng.normal(size=(2, 4, dims[0])), rng.normal(size=(5, dims[1])), V
    core = ac.Attention(scorer, softcap=2.0, window=(2, 1))
    check(core, *inputs, make=module_of, mask=MASK, key_lengths=[5, 3])


@pytest.mark.parametrize("spec", of_kind(ac.NormalizerSpec))
def test_normalizers_have_the_gradients_of_torch(spec):
    core = ac.Attention("dot", normalizer=ac.make_normalizer(spec.name, **(spec.example or {})))
    check(core, Q, K, V, make=module_of, mask=MASK)


@pytest.mark.parametrize("spec", of_kind(ac.BiasSpec))
def test_biases_have_the_gradients_of_torch(spec):
    core = ac.Attention(SCORER, bias=ac.make_bias(spec.name, **(spec.example or {})))
    check(core, Q, K, V, make=module_of, mask=MASK)


def test_layers_have_the_gradients_of_torch():
    torch = pytest.importorskip("torch")
    check(
        LAYER,
        Q,
        K,
        V,
        make=lambda core: ac.torch.MultiHeadAttention.from_numpy(core, dtype=torch.float64),
        mask=MASK[:, None],
        key_lengths=[5, 3],
    )


def test_a_bias_and_a_single_query_have_gradients():
    def loss(attend):
        def of(query, key, value, bias):
            result = attend(query, key, value, bias)
            return (result.context**2).sum() + (result.weights**2).sum() + result.log_normalizer

        return of

    inputs = Q[0, 0], K[0], V, rng.normal(size=5)
    traced = loss(lambda q, k, v, b: ac.attend(q, k, v, scorer=SCORER, bias=b))
    found = jax.jit(jax.grad(traced, argnums=(0, 1, 2, 3)))(*map(jnp.asarray, inputs))
    plain = ac.attend(*inputs[:3], scorer=SCORER, bias=inputs[3])
    expected = plain.vjp(
        2 * plain.context, grad_weights=2 * plain.weights, grad_log_normalizer=np.array(1.0)
    )
    close(list(found), [expected.query, expected.key, expected.value, expected.bias])


def test_functions_and_other_objects_are_arguments_too():
    options = [{"mask": lambda i, j: j <= i}, {"mask": ac.Neighborhood(grid=(1, 4), radius=1)}]
    options += [{"weight_factors": ac.Dropout(0.5, seed=1)}, {"query_offset": "end"}]
    for option in options:
        key = K[:, :4] if "mask" in option else K
        value = V[: key.shape[1]]
        found = jax.jit(lambda q, k, v, o=option: ac.attend(q, k, v, scorer="dot", **o).context)(
            *map(jnp.asarray, (Q, key, value))
        )
        close(found, ac.attend(Q, key, value, scorer="dot", **option).context, 0)


# -------------------------------------------------------------------------------------------- vmap


def attended(query, key, value, lengths=None):
    options = {"is_causal": True, "key_lengths": lengths}
    return ac.attend(query, key, value, scorer=SCORER, **options).context


AXES = {
    "queries": (0, None, None, None),
    "keys": (None, 0, None, None),
    "queries and keys": (0, 0, None, None),
    "lengths": (0, 0, None, 0),
    "only lengths": (None, None, None, 0),
}


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_vmap_is_a_loop(axes):
    whole = *map(jnp.asarray, (Q, K, V)), jnp.array([5, 2])
    picked = [array if axis == 0 else array[0] for array, axis in zip(whole, axes, strict=True)]
    picked[2] = whole[2]  # values have no batch

    def item(index):
        return [
            array[index] if axis == 0 else array for array, axis in zip(picked, axes, strict=True)
        ]

    for function in (attended, jax.grad(lambda *a: (attended(*a) ** 2).sum(), argnums=(0, 1, 2))):
        expected = [function(*item(index)) for index in range(2)]
        for transform in (lambda f: f, jax.jit):
            found = transform(jax.vmap(function, in_axes=axes))(*picked)
            for index in range(2):
                close(jax.tree.map(lambda a, i=index: a[i], found), expected[index], 1e-12)


def test_vmap_may_be_nested_and_over_parameters():
    attend = ac.jax.attention(SCORER)
    many = jax.tree.map(lambda array: jnp.stack([array, 2 * array, -array]), attend.parameters)

    def loss(parameters, query):
        return (attend(parameters, query, K[0], V).context ** 2).sum()

    gradient = jax.grad(loss)
    found = jax.jit(jax.vmap(jax.vmap(gradient, in_axes=(None, 0)), in_axes=(0, None)))(many, Q)
    for i in range(3):
        for j in range(2):
            own = jax.tree.map(lambda array, i=i: array[i], many)
            wanted = gradient(own, jnp.asarray(Q[j]))
            close(jax.tree.map(lambda array, i=i, j=j: array[i, j], found), wanted, 1e-12)


def test_batches_of_different_ranks_stay_apart():
    query, key = rng.normal(size=(3, 2, 4, 3)), rng.normal(size=(3, 5, 3))
    found = jax.vmap(attended)(jnp.asarray(query), jnp.asarray(key), jnp.asarray([V] * 3))
    for index in range(3):
        close(
            found[index],
            ac.attend(query[index], key[index], V, scorer=SCORER, is_causal=True).context,
        )


# ---------------------------------------------------------------------------------------- training


def test_descent_with_parameters_as_a_pytree():
    attend = ac.jax.attention(
        {"name": "additive", "query_dim": 3, "key_dim": 3, "hidden_dim": 4, "rng": 0}
    )
    truth = {name: 2 * array for name, array in attend.parameters.items()}
    target = attend(truth, Q, K, V).context

    @jax.jit
    def step(parameters):
        def loss(parameters):
            return ((attend(parameters, Q, K, V).context - target) ** 2).mean()

        value, gradient = jax.value_and_grad(loss)(parameters)
        return value, jax.tree.map(lambda p, g: p - 5.0 * g, parameters, gradient)

    parameters, losses = attend.parameters, []
    for _ in range(60):
        value, parameters = step(parameters)
        losses.append(float(value))
    assert losses[-1] < 0.05 * losses[0]
    learned = attend.numpy(parameters)
    close(learned(Q, K, V).context, attend(parameters, Q, K, V).context, 0)


# -------------------------------------------------------------------------------- memory and errors


@pytest.mark.parametrize("make", [lambda: ac.Attention(SCORER), lambda: LAYER])
def test_a_memory_does_what_one_of_numpy_does(make):
    owner = make()
    _, key, value = arrays()
    value, many = jnp.broadcast_to(value, (2, 5, 2)), np.broadcast_to(V, (2, 5, 2))
    memory, plain = owner.memory(key, value), owner.memory(K, many)
    early = copy.copy(memory)
    memory.append(key[:, :1], value[:, :1])
    plain.append(K[:, :1], many[:, :1])
    memory.truncate(5)
    plain.truncate(5)
    memory.append(key[:, 1:2], value[:, 1:2])
    plain.append(K[:, 1:2], many[:, 1:2])
    assert (len(memory), len(early)) == (6, 5)
    memory, plain = memory.take(jnp.array([1, 0, 1])), plain.take([1, 0, 1])
    query = Q[:1]
    found, expected = owner(jnp.asarray(query), memory), owner(query, plain)
    name = "output" if hasattr(expected, "output") else "context"
    close(getattr(found, name), getattr(expected, name), 1e-12)
    traced = jax.jit(lambda q: getattr(owner(q, memory), name))(jnp.asarray(query))
    close(traced, getattr(expected, name), 1e-12)
    np.testing.assert_array_equal(memory.value, plain.value)
    assert memory.key.shape == (3, 6, 3)
    memory.clear()
    assert len(memory) == 0


def jitted(**options):
    def call(query, key, value):
        return ac.attend(query, key, value, scorer="dot", **options).context

    return lambda q, k, v: jax.jit(call)(q, k, v)


ERRORS = {
    "scorer 'dot' (attention-core 0.1.0) needs queries and keys with the same number of features, "
    "got query (..., L, 2) and key (..., S, 3); scorer 'general' accepts different ones":
        lambda q, k, v: jitted()(q[..., :2], k, v),
    "mask must broadcast to (2, 4, 5), got (4, 4)":
        lambda q, k, v: jitted(mask=jnp.ones((4, 4), bool))(q, k, v),
    "a memory holds concrete arrays: make it outside jax.jit, jax.grad and jax.vmap; inside, give "
    "keys and values to the call":
        lambda q, k, v: jax.jit(lambda k: len(ac.Attention("dot").memory(k, k)))(k),
    "value must be omitted: the memory holds the values":
        lambda q, k, v: ac.Attention("dot")(q, ac.Attention("dot").memory(k, v), v),
    "this memory holds NumPy arrays, and query is a JAX array; make it from JAX arrays":
        lambda q, k, v: ac.Attention("dot")(q, ac.Attention("dot").memory(K, V)),
    "value is missing: give it after key, or a memory as key":
        lambda q, k, v: ac.attend(q, k, scorer="dot"),
    "value is missing: give it after key":
        lambda q, k, v: jax.jit(lambda q: ac.attend(q, k, scorer="dot").context)(q),
    "key is a numpy array and query a jax array: the arrays of a call must come from one library; "
    "convert it with jax.numpy.asarray(key)":
        lambda q, k, v: ac.attend(q, K, v, scorer="dot"),
    "key is a numpy array and the memory a jax array: the arrays of a call must come from one "
    "library; convert it with jax.numpy.asarray(key)":
        lambda q, k, v: ac.Attention("dot").memory(k, v).append(K, V),
    "this normalizer has no log_normalizer: its weights are not exponentials divided by a sum":
        lambda q, k, v: jax.jit(
            lambda q: ac.attend(q, k, v, scorer="dot", normalizer="sparsemax").log_normalizer
        )(q),
    "mask must be boolean (True = may attend), got dtype float32; to add numbers to the scores use "
    "bias=, to keep nonzero entries use mask != 0":
        lambda q, k, v: jax.jit(
            lambda mask: ac.attend(q, k, v, scorer="dot", mask=mask).context
        )(jnp.ones((4, 5), jnp.float32)),
    "bias must hold real numbers to add to the scores, got a boolean array; use mask=":
        lambda q, k, v: jax.jit(
            lambda bias: ac.attend(q, k, v, scorer="dot", bias=bias).context
        )(jnp.ones((4, 5), bool)),
    "key_lengths must be integers, one per batch item, got dtype float32; convert it with "
    "numpy.asarray(..., dtype=int)":
        lambda q, k, v: jax.jit(
            lambda lengths: ac.attend(q, k, v, scorer="dot", key_lengths=lengths).context
        )(jnp.ones((), jnp.float32)),
    "key (..., S, Dk) and value (..., S, Dv) must agree on S, got key (2, 4, 3) and value (1, 5, "
    "2)":
        lambda q, k, v: jax.jit(lambda q: LAYER(q, k[:, :4], v[None]).output)(q),
    "batch axes (all but the last two) must broadcast, got query (2, 4, 3), key (3, 5, 3), value "
    "(3, 5, 2)":
        lambda q, k, v: jax.jit(
            lambda q: LAYER(q, k[jnp.array([0, 1, 1])], jnp.stack([v] * 3)).output
        )(q),
    "key must be an array of JAX or NumPy, got a list; convert it with jax.numpy.asarray(key)":
        lambda q, k, v: ac.jax.attention("dot")({}, q, k.tolist(), v),
    "query must hold real numbers, got dtype key<fry>":
        lambda q, k, v: ac.jax.attention("dot")({}, jax.random.split(jax.random.key(0)), k, v),
    "value has masked entries (numpy.ma), which would be read as numbers: exclude keys with mask= "
    "(True = may attend), and fill the entries with .filled(0)":
        lambda q, k, v: ac.jax.attention("dot")({}, q, k, np.ma.masked_less(V, 0)),
    "mask must be an array, got nested lists of different lengths":
        lambda q, k, v: ac.jax.attention("dot")({}, q, k, v, mask=[[True], [True, False]]),
    "mask must be boolean (True = may attend), got dtype <U6; to add numbers to the scores use "
    "bias=, to keep nonzero entries use mask != 0":
        lambda q, k, v: jitted(mask="causal")(q, k, v),
    "no bias named 'aliby'; did you mean 'alibi'?\n"
    f"  available: alibi, relative, t5 (attention-core {ac.__version__})":
        lambda q, k, v: jitted(bias="aliby")(q, k, v),
    "key_lengths must hold one integer, or one per batch item along the leading batch axes (2,), "
    "got shape (3,)":
        lambda q, k, v: jitted(key_lengths=jnp.array([1, 2, 3]))(q, k, v),
    "key_lengths must be integers, one per batch item, got dtype object":
        lambda q, k, v: jitted(key_lengths=[1, None])(q, k, v),
    "query_offset must be an integer, an integer array, one per batch item, or 'end', got 'start'":
        lambda q, k, v: ac.jax.attention("dot")({}, q, k, v, query_offset="start"),
    "parameters must be a mapping of arrays by name, got None. They must be: none":
        lambda q, k, v: ac.jax.attention("dot")(None, q, k, v),
    "parameters: 'scorer.scale' is missing. They must be: scorer.scale":
        lambda q, k, v: ac.jax.attention({"name": "gaussian", "dim": 3})({}, q, k, v),
    "parameters: unknown 'scorer.scales'; did you mean 'scorer.scale'? They must be: scorer.scale":
        lambda q, k, v: jax.jit(ac.jax.attention({"name": "gaussian", "dim": 3}).weights)(
            {"scorer.scales": jnp.ones(3)}, q, k, v
        ),
    "parameters: 'scorer.scale' must have shape (3,), got (4,)":
        lambda q, k, v: ac.jax.attention({"name": "gaussian", "dim": 3}).numpy(
            {"scorer.scale": jnp.ones(4)}
        ),
    "AttentionFunction: unexpected argument 'dropout_p'; use "
    "weight_factors=attention_core.Dropout(rate, seed)":
        lambda q, k, v: ac.jax.attention("dot")({}, q, k, v, dropout_p=0.1),
    "AttentionFunction.weights: unexpected argument 'key_length'; did you mean 'key_lengths'?":
        lambda q, k, v: ac.jax.attention("dot").weights({}, q, k, v, key_length=3),
    "AttentionFunction: unexpected argument 'is_causal'; it belongs where the attention is made":
        lambda q, k, v: jax.jit(partial(ac.jax.attention("dot"), is_causal=True))({}, q, k, v),
    "Attention: unexpected argument 'causal'; use is_causal=":
        lambda q, k, v: ac.jax.attention("dot", causal=True),
    "mask must be an array, got {}": lambda q, k, v: ac.jax.attention("dot")({}, q, k, v, mask={}),
    "key_lengths must be at least 0, got -1":
        lambda q, k, v: ac.jax.attention("dot")({}, q, k, v, key_lengths=[3, -1]),
    "query_offset must be between -2**61 and 2**61, got 2305843009213693952":
        lambda q, k, v: ac.jax.attention("dot")({}, q, k, v, query_offset=1 << 61),
    "attention: missing 'scorer'; call attention(scorer)": lambda q, k, v: ac.jax.attention(),
    "AttentionFunction: missing 'value'; call AttentionFunction(parameters, query, key, value)":
        lambda q, k, v: ac.jax.attention("dot")(q, k, v),
    "attention takes options together with a scorer, got Attention(DotScorer()), which has its "
    "own; make that with these options":
        lambda q, k, v: ac.jax.attention(ac.Attention("dot"), is_causal=True),
}  # fmt: skip


@pytest.mark.parametrize("text", ERRORS)
def test_errors_say_what_to_do(text):
    with pytest.raises(ac.AttentionCoreError) as caught:
        ERRORS[text](*arrays())
    assert str(caught.value) == text


def test_integers_that_jax_cannot_hold_keep_their_value():
    with jax.enable_x64(False):
        query, key, value = arrays(np.float32)
        expected = ac.attend(query, key, value, scorer="dot").context
        for length in (2**32 + 1, 10**30, np.array(2**32 + 1), [2**32 + 1, 2**33]):
            found = ac.jax.attention("dot")({}, query, key, value, key_lengths=length).context
            close(found, expected, 1e-6)


class Broken(ac.Scorer):
    def score(self, query, key):
        raise RuntimeError("the sensor is off")


class WrongShape(ac.Scorer):
    def score(self, query, key):
        return query[..., :1]


class WithoutGradient(ac.Scorer):
    def score(self, query, key):
        return query @ key.swapaxes(-1, -2)


@pytest.mark.parametrize(("scorer", "texts"), [
    (Broken(), [
        "in score\n",  # the line of the scorer
        "ScorerContractError: scorer Broken raised RuntimeError in score for arrays of shape "
        "(2, 4, 3), (2, 5, 3): the sensor is off",
    ]),
    (WrongShape(), [
        "ScorerContractError: scorer WrongShape returned shape (2, 4, 1); expected (..., L, S) = "
        "(2, 4, 5) for query (2, 4, 3), key (2, 5, 3)",
    ]),
    (WithoutGradient(), [
        "NotDifferentiableError: scorer WithoutGradient has no gradients: class WithoutGradient "
        "defines score without score_vjp",
        "check with attention_core.testing.check_gradients(scorer)",
    ]),
])  # fmt: skip
def test_errors_of_a_traced_call_are_the_end_of_the_message(scorer, texts):
    def loss(query):
        return ac.attend(query, *arrays()[1:], scorer=scorer).context.sum()

    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.jit(jax.grad(loss))(arrays()[0]).block_until_ready()
    said = str(caught.value)
    places = [said.find(text) for text in texts]
    assert -1 not in places
    assert places == sorted(places)
    assert said.endswith(texts[-1])


def test_an_array_on_an_accelerator_is_never_copied_silently():
    device = type("Device", (), {"platform": "gpu", "__str__": lambda self: "cuda:0"})()
    elsewhere = type("Array", (), {"__module__": "jax", "devices": lambda self: {device}})()
    with pytest.raises(ac.DTypeError) as caught:
        ac.attend(elsewhere, elsewhere, elsewhere, scorer="dot")
    assert str(caught.value) == (
        "query is on device 'cuda:0', and attention is computed in main memory: call "
        "jax.device_put(query, jax.devices('cpu')[0])"
    )


def test_ambiguous_masks_of_a_layer_are_errors_while_traced():
    with pytest.raises(ac.ShapeError, match="mask is ambiguous where rows are batched"):
        jax.jit(lambda q, k, v: LAYER(q, k, v, mask=jnp.ones((3, 4, 5), bool)).output)(*arrays())


# class -> an instance and a function of it; every class has a case
CASES = {
    ac.jax.Attended: (
        lambda: ac.jax.attention("dot")({}, *arrays()),
        lambda found: [found.context, found.log_normalizer],
    ),
    ac.jax.AttentionFunction: (
        lambda: ac.jax.attention(SCORER),
        lambda function: [function(function.parameters, *arrays()).context],
    ),
    ac.jax.JaxMemory: (
        lambda: ac.Attention(SCORER).memory(*arrays()[1:]),
        lambda memory: [memory.key, ac.Attention(SCORER)(arrays()[0], memory).context],
    ),
    ac.jax.JaxResult: (
        lambda: ac.attend(*arrays(), scorer=SCORER),
        lambda result: [result.context, result.weights],
    ),
}


def test_every_public_class_has_a_case():
    classes = {own for name in ac.jax.__all__ if isinstance(own := getattr(ac.jax, name), type)}
    assert classes == {*CASES, ac.jax.TracedResult}  # which exists during tracing


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
def test_a_copy_shows_itself_and_does_the_same(kind, way):
    make, behavior = CASES[kind]
    made = make()
    copied = way(made)
    assert type(copied) is kind
    assert repr(copied) == repr(made)
    assert " at 0x" not in repr(made)
    close(behavior(copied), behavior(make()), 0)
