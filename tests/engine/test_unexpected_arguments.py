"""Arguments of other libraries, and misspelt ones: the error names the one to use."""

from inspect import signature

import numpy as np
import pytest

import attention_core as ac
from attention_core import arguments
from attention_core.multihead.heads import AttentionOptions

X = np.eye(3)
ATTENTION = ac.Attention("dot")
Layer = ac.MultiHeadAttention
LAYER = Layer.initialize(3, heads=1, scorer="dot", rng=0)
STATE = {"in_proj_weight": np.ones((12, 4)), "out_proj.weight": np.eye(4)}
KERNELS = [np.ones((4, 2, 3))] * 3 + [np.ones((2, 3, 4))]
CALLS = {
    "attend": lambda **given: ac.attend(X, X, X, scorer="dot", **given),
    "Attention()": lambda **given: ATTENTION(X, X, X, **given),
    "MultiHeadAttention()": lambda **given: LAYER(X, X, X, **given),
}
MAKERS = {
    "Attention": lambda **given: ac.Attention("dot", **given),
    "MultiHeadAttention": lambda **given: Layer(*KERNELS, **given),
    "MultiHeadAttention.initialize": lambda **given: Layer.initialize(4, heads=2, rng=0, **given),
    "MultiHeadAttention.from_torch": lambda **given: Layer.from_torch(STATE, heads=2, **given),
    "MultiHeadAttention.from_keras": lambda **given: Layer.from_keras(KERNELS, **given),
}
MASK = "use mask= (True = may attend; nn.MultiheadAttention's is the opposite, mask=~attn_mask), "
IN_CALLS = {
    "attn_mask": f"{MASK}or bias= for numbers to add to the scores",
    "key_padding_mask": "use mask=~key_padding_mask with axes for heads and queries (ours: True "
    "= may attend), or key_lengths=",
    "dropout_p": "use weight_factors=attention_core.Dropout(rate, seed)",
}
WHERE_MADE = {
    "scale": 'use scorer={"name": "scaled_dot", "scale": ...}',
    "causal": "use is_causal=",
    "logits_soft_cap": "use softcap=",
}
ANYWHERE = {
    "need_weights": "; use the result's weights, which are computed when asked for",
    "dim": "; weights are normalized over the keys, the last axis",
    "unheard_of": "",
    "unknown": "",
}


def check(call, name, hint):
    use = {**CALLS, **MAKERS}[call]
    use()
    with pytest.raises(ac.OptionTypeError) as caught:
        use(**{name: X > 0})
    assert str(caught.value) == f"{call.strip('()')}: unexpected argument {name!r}{hint}"


@pytest.mark.parametrize("name", IN_CALLS)
@pytest.mark.parametrize("call", [*CALLS, *MAKERS])
def test_an_argument_of_another_librarys_call_is_an_error_that_says_what_serves(call, name):
    check(call, name, f"; {'in the call, ' if call in MAKERS else ''}{IN_CALLS[name]}")


@pytest.mark.parametrize("name", WHERE_MADE)
@pytest.mark.parametrize("call", [*CALLS, *MAKERS])
def test_an_argument_that_belongs_to_the_attention_is_an_error_that_says_so(call, name):
    where = "where the attention is made, " if call.endswith("()") else ""
    check(call, name, f"; {where}{WHERE_MADE[name]}")


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.parametrize("call", [*CALLS, *MAKERS])
def test_an_argument_without_a_counterpart_is_an_error_of_ours(call, name):
    check(call, name, ANYWHERE[name])


@pytest.mark.parametrize(("call", "name", "hint"), [
    ("Attention", "mask", "it belongs in the call"),
    ("MultiHeadAttention.initialize", "key_lengths", "it belongs in the call"),
    ("Attention()", "is_causal", "it belongs where the attention is made"),
    ("MultiHeadAttention()", "scorer", "it belongs where the attention is made"),
    ("MultiHeadAttention.initialize", "num_kv_heads", "use key_heads="),
    ("MultiHeadAttention", "add_zero_attn", "use zero_key="),
    ("MultiHeadAttention.initialize", "use_bias", "use biases="),
    ("attend", "is_casual", "did you mean 'is_causal'?"),
    ("attend", "soft_cap", "did you mean 'softcap'?"),
    ("Attention", "windows", "did you mean 'window'?"),
    ("Attention()", "masks", "did you mean 'mask'?"),
    ("Attention()", "is_casual", "did you mean 'is_causal'?"),
    ("MultiHeadAttention()", "key_length", "did you mean 'key_lengths'?"),
    ("MultiHeadAttention", "query_wieght", "did you mean 'query_weight'?"),
    ("MultiHeadAttention.initialize", "keyheads", "did you mean 'key_heads'?"),
    ("MultiHeadAttention.from_keras", "is_casual", "did you mean 'is_causal'?"),
])  # fmt: skip
def test_arguments_that_belong_elsewhere_or_are_misspelt_say_what_is_meant(call, name, hint):
    check(call, name, f"; {hint}")


RESULT, HEADS = ATTENTION(X, X, X), LAYER(X, X, X)
BY_NAME = "give the others by name: "
GRADS = "grad_weights, grad_log_normalizer"


@pytest.mark.parametrize(("call", "text"), [
    (Layer, "MultiHeadAttention: missing 'query_weight', 'key_weight', 'value_weight', "
    "'output_weight'; call MultiHeadAttention(query_weight, key_weight, value_weight, "
    "output_weight); MultiHeadAttention.initialize makes them from sizes"),
    (lambda: Layer(*KERNELS[:3], output_wieght=X),
    "MultiHeadAttention: unexpected argument 'output_wieght'; did you mean 'output_weight'?"),
    (lambda: Layer.initialize(8), "MultiHeadAttention.initialize: missing 'heads', 'rng'; call "
    "MultiHeadAttention.initialize(query_dim, heads=..., rng=...)"),
    (lambda: Layer.initialize(8, 2), "MultiHeadAttention.initialize: takes 1 argument by position, "
    f"got 2; {BY_NAME}heads, rng, key_dim, value_dim, output_dim, head_dim and 5 more"),
    (lambda: Layer.initialize(8, head=2, rng=0),
    "MultiHeadAttention.initialize: unexpected argument 'head'; did you mean 'heads'?"),
    (lambda: Layer.initialize(embed_dim=8, num_heads=2),
    "MultiHeadAttention.initialize: unexpected argument 'embed_dim'; use query_dim="),
    (lambda: Layer.initialize(8, num_heads=2, rng=0),
    "MultiHeadAttention.initialize: unexpected argument 'num_heads'; use heads="),
    (lambda: Layer.initialize(8, query_dim=8, heads=2, rng=0),
    "MultiHeadAttention.initialize: 'query_dim' is given by position and by name"),
    (Layer.from_torch, "MultiHeadAttention.from_torch: missing 'module'; call "
    "MultiHeadAttention.from_torch(module)"),
    (lambda: LAYER.memory(X), "MultiHeadAttention.memory: missing 'value'; call "
    "MultiHeadAttention.memory(key, value)"),
    (ac.Attention, "Attention: missing 'scorer'; call Attention(scorer)"),
    (lambda: ac.Attention(scoer="dot"),
    "Attention: unexpected argument 'scoer'; did you mean 'scorer'?"),
    (lambda: ac.Attention("dot", "softmax"), "Attention: takes 1 argument by position, got 2; "
    f"{BY_NAME}normalizer, bias, is_causal, query_offset, window, softcap and 2 more"),
    (lambda: RESULT.vjp(X, X),
    f"AttentionResult.vjp: takes 1 argument by position, got 2; {BY_NAME}{GRADS}"),
    (lambda: RESULT.vjp(grad=X),
    f"AttentionResult.vjp: unexpected argument 'grad'; it takes grad_context, {GRADS}"),
    (lambda: HEADS.vjp(grad_context=X),
    "MultiHeadResult.vjp: unexpected argument 'grad_context'; did you mean 'grad_output'?"),
    (lambda: RESULT.top_k(k=2), "AttentionResult.top_k: unexpected argument 'k'; it takes n"),
    (ac.AttentionResult.top_k,
    "AttentionResult.top_k: missing 'self', 'n'; call AttentionResult.top_k(self, n)"),
    (HEADS.rows, "MultiHeadResult.rows: missing 'rows'; call MultiHeadResult.rows(rows)"),
    (lambda: RESULT.to_html(nope=1), "page: unexpected argument 'nope'"),
    (lambda: HEADS.to_html("a.html", title="a", titel="b"),
    "page: unexpected argument 'titel'; did you mean 'title'?"),
    (lambda: RESULT.to_text(ascii=True),
    "text: unexpected argument 'ascii'; did you mean 'ascii_only'?"),
    (lambda: RESULT.plot(querylabels="abc"),
    "heatmap: unexpected argument 'querylabels'; did you mean 'query_labels'?"),
    (lambda: RESULT.plot("a.svg", "b.svg"),
    "AttentionResult.plot: takes 1 argument by position, got 2"),
    (ac.Dropout, "Dropout: missing 'rate', 'seed'; call Dropout(rate, seed)"),
    (lambda: ac.Dropout(p=0.5), "Dropout: unexpected argument 'p'; it takes rate, seed"),
    (lambda: ac.Neighborhood(gird=(3,), radius=1),
    "Neighborhood: unexpected argument 'gird'; did you mean 'grid'?"),
    (ac.Packing.from_lengths,
    "Packing.from_lengths: missing 'query_lengths'; call Packing.from_lengths(query_lengths)"),
    (lambda: ac.Softmax(sinks=0), "Softmax: unexpected argument 'sinks'; did you mean 'sink'?"),
    (lambda: ac.merge([RESULT], [RESULT]), "merge: takes 1 argument by position, got 2"),
    (lambda: ac.ScorerSpec(nam="a", factory="a:b"),
    "ScorerSpec: unexpected argument 'nam'; did you mean 'name'?"),
    (lambda: ac.BiasSpec(name="a"), "BiasSpec: missing 'factory'; call BiasSpec(name=..., "
    "factory=...)"),
    (ac.make_scorer, "make_scorer: missing 'name'; call make_scorer(name)"),
    (lambda: ac.Registry(blocks="a"), "Registry: unexpected argument 'blocks'; did you mean "
    "'block'?"),
    (lambda: ac.load("a.npz", scorers="dot"),
    "load: unexpected argument 'scorers'; did you mean 'scorer'?"),
    (lambda: ac.save("a.npz"), "save: missing 'owner'; call save(path, owner)"),
    (lambda: LAYER.with_parameters(), "MultiHeadAttention.with_parameters: missing 'parameters'; "
    "call MultiHeadAttention.with_parameters(parameters)"),
    (lambda: LAYER.memory(X, X).append(X),
    "MultiHeadMemory.append: missing 'value'; call MultiHeadMemory.append(key, value)"),
    (ac.plot.save, "save: missing 'figure', 'path'; call save(figure, path)"),
])  # fmt: skip
def test_arguments_with_which_nothing_can_be_called_are_errors_that_name_them(call, text):
    with pytest.raises(ac.OptionTypeError) as caught:
        call()
    assert str(caught.value) == text


def test_a_type_error_from_inside_a_function_stays_as_it_is():
    class Unfit(ac.Scorer):
        def score(self, query, key):
            return query @ key

        def score_vjp(self, query, key, grad, extra):
            raise NotImplementedError

    with pytest.raises(TypeError, match="'extra'"):
        ac.attend(X, X, X, scorer=Unfit()).vjp(X)


def test_the_places_of_arguments_are_those_of_the_signatures():
    called = set(signature(ac.Attention.__call__).parameters)
    made = {*signature(ac.Attention).parameters, *AttentionOptions.__annotations__}
    for name, place in arguments._PLACES.items():
        assert (name in called, name in made) == (place == "in the call", place != "in the call")
    layers = {*signature(Layer).parameters, *signature(Layer.initialize).parameters}
    ours = {usage.partition("=")[0] for usage in arguments._SERVES.values()}
    assert ours <= called | made | layers
