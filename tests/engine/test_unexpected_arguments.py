"""Arguments of other libraries, and misspelt ones: the error names what serves."""

import numpy as np
import pytest

import attention_core as ac

X = np.eye(3)
ATTENTION = ac.Attention("dot")
LAYER = ac.MultiHeadAttention.initialize(3, heads=1, scorer="dot", rng=0)
CALLS = {
    "attend": lambda **given: ac.attend(X, X, X, scorer="dot", **given),
    "Attention": lambda **given: ac.Attention("dot", **given) if given else ATTENTION(X, X, X),
    "Attention()": lambda **given: ATTENTION(X, X, X, **given),
    "MultiHeadAttention()": lambda **given: LAYER(X, X, X, **given),
}
MASK = "use mask= (True = may attend; nn.MultiheadAttention's is the opposite, mask=~attn_mask), "
TEXTS = {
    "attn_mask": f"; {MASK}or bias= for numbers to add to the scores",
    "key_padding_mask": "; use mask=~key_padding_mask with axes for heads and queries (ours: True "
    "= may attend), or key_lengths=",
    "dropout_p": "; use weight_factors=attention_core.Dropout(rate, seed)",
    "scale": '; it belongs to the scorer: scorer={"name": "scaled_dot", "scale": ...}',
    "need_weights": "; use the result's weights, which are computed when asked for",
    "causal": "; use is_causal=",
    "unheard_of": "",
    "unknown": "",
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("call", CALLS)
def test_an_argument_of_another_library_is_an_error_that_says_what_serves(call, name):
    CALLS[call]()
    with pytest.raises(ac.OptionTypeError) as caught:
        CALLS[call](**{name: X > 0})
    assert str(caught.value) == f"{call.strip('()')}: unexpected argument {name!r}{TEXTS[name]}"


@pytest.mark.parametrize(("call", "given", "meant"), [
    ("attend", "is_casual", "is_causal"),
    ("attend", "soft_cap", "softcap"),
    ("Attention", "windows", "window"),
    ("Attention()", "masks", "mask"),
    ("MultiHeadAttention()", "key_length", "key_lengths"),
])  # fmt: skip
def test_a_misspelt_argument_is_an_error_that_says_what_is_meant(call, given, meant):
    with pytest.raises(
        TypeError, match=rf": unexpected argument '{given}'; did you mean '{meant}'\?$"
    ):
        CALLS[call](**{given: True})
