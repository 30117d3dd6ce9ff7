"""Public objects have readable reprs, and can be copied and pickled."""

import copy
import inspect
import pickle
import re

import numpy as np
import pytest
from attention_core_standard.biases import AlibiBias

import attention_core as ac
from attention_core.fitting import Fit
from attention_core.hookspecs import ScorerSpec, Spec
from attention_core.learned import Form
from attention_core.parameter_files import Parameters
from attention_core.testing import Check, Outcome, Report, Status, run_checks, scorer_checks

X = np.random.default_rng(0).normal(size=(3, 4))


class Taxicab(ac.PairScorer):
    """score = -scale sum_d |q_d - k_d|"""

    def __init__(self, scale=1.0):
        self.scale = scale

    @staticmethod
    def pair(q, k, scale):
        total = 0.0
        for d in range(len(q)):
            total += abs(q[d] - k[d])
        return -scale * total


def layer():
    return ac.MultiHeadAttention.initialize(4, heads=2, scorer=["dot", "scaled_dot"], rng=0)


def learned():
    return ac.make_scorer("additive", query_dim=4, key_dim=4, hidden_dim=2, rng=0)


def fitted(name):
    pytest.importorskip("sklearn")
    target = np.array([0, 1, 1])
    return getattr(ac.estimators, name)(scorer="dot").fit(X, target)


def attended(attention):
    return attention(X, X, X).context


def grown(memory):
    """The context from a memory after another row was appended to it."""
    memory.append(X[:1], X[:1])
    return ac.Attention(memory.scorer)(X, memory).context


def grown_layer(memory):
    memory.append(X[:1], X[:1])
    return layer()(X, memory).output


def checks():
    return [*scorer_checks(ac.make_scorer("dot"))][:2]


def spec():
    return ScorerSpec(name="rbf", factory="acme.rbf:RBF", summary="a kernel", example={"gamma": 1})


# class -> an instance and a function of it; equal objects give the same result
CASES = {
    ac.Attention: (lambda: ac.Attention(learned(), is_causal=True, window=(2, 0)), attended),
    ac.AttentionResult: (
        lambda: ac.attend(X, X, X, scorer=learned(), is_causal=True),
        lambda result: (result.context, result.weights, result.vjp(X).query),
    ),
    ac.Bias: (
        lambda: AlibiBias(0.5),
        lambda it: ac.attend(X, X, X, scorer="dot", bias=it).weights,
    ),
    ac.BiasInfo: (lambda: ac.biases()[0], lambda info: info.distribution),
    ac.BiasSpec: (
        lambda: ac.BiasSpec(name="fade", factory="acme.fade:Fade"),
        lambda made: made.factory,
    ),
    ac.Dropout: (
        lambda: ac.Dropout(0.5, seed=1),
        lambda it: ac.attend(X, X, X, scorer="dot", weight_factors=it).weights,
    ),
    ac.Gradients: (lambda: ac.attend(X, X, X, scorer=learned()).vjp(X), None),
    ac.InnerProductScorer: (ac.InnerProductScorer, lambda s: s.score(X, X)),
    ac.Memory: (lambda: ac.Memory(learned(), X, X), grown),
    ac.MultiHeadAttention: (layer, lambda made: made(X, X, X).output),
    ac.MultiHeadMemory: (lambda: layer().memory(X, X), grown_layer),
    ac.MultiHeadResult: (
        lambda: layer()(X, X, X),
        lambda result: (result.output, result.weights, result.vjp(X).query),
    ),
    ac.Merged: (
        lambda: ac.merge([ac.attend(X, X, X, scorer="dot")]),
        lambda it: it.part_grads(X)[0].grad_context,
    ),
    ac.Neighborhood: (
        lambda: ac.Neighborhood(grid=(1, len(X)), radius=1),
        lambda hood: ac.attend(X, X, X, scorer="dot", mask=hood).weights.toarray(),
    ),
    ac.Normalizer: (
        lambda: ac.make_normalizer("entmax", alpha=1.7),
        lambda it: ac.attend(X, X, X, scorer="dot", normalizer=it).weights,
    ),
    ac.NormalizerInfo: (lambda: ac.normalizers()[0], lambda info: info.distribution),
    ac.NormalizerSpec: (
        lambda: ac.NormalizerSpec(name="plus_one", factory="acme.plus:PlusOne"),
        lambda made: made.factory,
    ),
    ac.Packing: (
        lambda: ac.Packing.from_lengths([1, 2]),
        lambda packing: ac.attend(X, X, X, scorer="dot", mask=packing).weights,
    ),
    ac.PartGrads: (
        lambda: ac.merge([ac.attend(X, X, X, scorer="dot")]).part_grads(X)[0],
        None,
    ),
    ac.PairScorer: (lambda: Taxicab(2.0), lambda scorer: scorer.score(X, X)),
    ac.Registry: (
        ac.Registry.from_entry_points,
        lambda registry: [info.name for info in registry.scorers()],
    ),
    ac.Scorer: (learned, lambda scorer: ac.attend(X, X, X, scorer=scorer).scores),
    ac.ScorerInfo: (lambda: ac.scorers()[0], lambda info: info.distribution),
    ac.ScorerSpec: (spec, lambda made: made.example),
    ac.Softmax: (
        lambda: ac.Softmax(sink=0.5),
        lambda it: ac.attend(X, X, X, scorer="dot", normalizer=it).weights,
    ),
    ac.TopK: (lambda: ac.attend(X, X, X, scorer="dot").top_k(2), None),
    ac.estimators.AttentionClassifier: (
        lambda: fitted("AttentionClassifier"),
        lambda model: model.predict_proba(X),
    ),
    ac.estimators.AttentionRegressor: (
        lambda: fitted("AttentionRegressor"),
        lambda model: model.predict(X),
    ),
    Spec: (lambda: Spec(name="a", factory="b:C"), lambda made: made.factory),
    Fit: (lambda: Fit(learned(), (2.0, 1.0), (), "done", True), lambda fit: fit.n_iter),
    Form: (lambda: Form(("weight",), ("bias",)), str),
    Parameters: (lambda: Parameters({"weight": X}, {"name": "general"}, None), None),
    Check: (lambda: checks()[0], lambda check: check()),
    Report: (lambda: run_checks(checks()), str),
    Outcome: (lambda: run_checks(checks()).outcomes[0], str),
    Status: (lambda: Status.PASSED, str),
}
# a protocol, and a block of a `with` statement
LEFT_OUT = {"Learnable", "buffer"}
LIBRARIES = {"dask", "jax", "torch"}  # optional; tests/libraries has the cases of their classes
NAMES = [name for name in dir(ac) if name not in LIBRARIES]
MODULES = [ac, *filter(inspect.ismodule, (getattr(ac, name) for name in NAMES))]
CLASSES = {
    value
    for module in MODULES
    if module is not ac.typing  # annotations
    for name in getattr(module, "__all__", ())
    if inspect.isclass(value := getattr(module, name)) and name not in LEFT_OUT
}
ERRORS = sorted((c for c in CLASSES if issubclass(c, Exception)), key=lambda c: c.__name__)
ROUNDS = {
    "pickle": lambda made: pickle.loads(pickle.dumps(made)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
objects = pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)


def same(one, other):
    """Whether two objects are equal, with arrays compared by value."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def test_every_public_class_has_a_case():
    assert {*CLASSES} - {*ERRORS} == {*CASES}


@objects
def test_it_shows_itself_without_an_address(kind):
    shown = repr(CASES[kind][0]())
    assert re.match(r"<?\w", shown)
    assert " at 0x" not in shown
    assert len(shown) < 1000


@objects
@pytest.mark.parametrize("way", ROUNDS)
def test_a_copy_does_the_same(kind, way):
    make, behaviour = CASES[kind]
    behaviour = behaviour or (lambda made: made)
    made = make()
    copied = ROUNDS[way](made)
    assert type(copied) is type(made)
    assert repr(copied) == repr(made)
    assert same(behaviour(copied), behaviour(make()))
    assert same(behaviour(made), behaviour(make()))  # no mutable state is shared


@pytest.mark.parametrize("way", ROUNDS)
@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_keep_their_text(kind, way):
    error = kind("what is wrong")
    copied = ROUNDS[way](error)
    assert "what is wrong" in str(error)
    assert (type(copied), str(copied)) == (kind, str(error))


def test_objects_that_are_values_are_equal():
    assert ac.make_scorer("dot") == ac.make_scorer("dot")
    assert layer() == layer()
    assert spec() == spec()
    assert hash(ac.make_scorer("dot")) == hash(ac.make_scorer("dot"))
