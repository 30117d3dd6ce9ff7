"""Single numbers are checked in the same way wherever they are an argument."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import attention_core as ac
from attention_core.arrays.scalars import (
    as_float,
    check_amount,
    check_count,
    check_fraction,
    is_integer,
)

X = np.random.default_rng(0).standard_normal((5, 3))
RESULT = ac.attend(X, X, X, scorer="dot")
HUGE = {
    "10**400": 10**400,
    "-10**400": -(10**400),
    "10**5000": 10**5000,  # whose repr is refused by Python
    "a fraction": Fraction(10**400, 3),
    "a small fraction": Fraction(1, 10**400),
    "a decimal": Decimal("1e400"),
    "inf": float("inf"),
    "nan": np.float64("nan"),
    "2**64": 2**64,
    "a duration": np.timedelta64(3, "s"),  # an `Integral` with a unit
    "a date": np.datetime64(3, "s"),
    "True": True,
    "True of NumPy": np.bool_(True),
    "text": "1",
    "bytes": b"1",
    "a complex number": 1j,
    "an array": np.array([2.0]),
    "a list of a list": [[]],
    "an object": object(),
}


def attend(**options):
    return ac.attend(X, X, X, scorer="dot", **options)


def make_and_attend(kind, name, **parameters):
    made = getattr(ac, f"make_{kind}")(name, **parameters)
    return ac.attend(X, X, X, **({"scorer": "dot"} | {kind: made}))


DOORS = {
    "softcap": lambda n: attend(softcap=n),
    "query_offset": lambda n: attend(query_offset=n, is_causal=True),
    "window": lambda n: attend(window=n),
    "window's left": lambda n: attend(window=(n, 0)),
    "tile": lambda n: attend(tile=n),
    "tile's queries": lambda n: attend(tile=(n, 1)),
    "workers": lambda n: attend(workers=n),
    "is_causal": lambda n: attend(is_causal=n),
    "key_lengths": lambda n: attend(key_lengths=n),
    "query_lengths": lambda n: attend(query_lengths=n),
    "rows": RESULT.rows,
    "top_k": RESULT.top_k,
    "Dropout's rate": lambda n: ac.Dropout(n, seed=0),
    "Dropout's seed": lambda n: ac.Dropout(0.5, seed=n),
    "Neighborhood's radius": lambda n: attend(mask=ac.Neighborhood((5,), n)),
    "Neighborhood's grid": lambda n: attend(mask=ac.Neighborhood((n, 1), 1)),
    "Neighborhood's dilation": lambda n: attend(mask=ac.Neighborhood((5,), 1, n)),
    "Neighborhood's is_causal": lambda n: attend(mask=ac.Neighborhood((5,), 1, 1, n)),
    "scale": lambda n: make_and_attend("scorer", "scaled_dot", scale=n),
    "gaussian's dim": lambda n: ac.make_scorer("gaussian", dim=n),
    "general's query_dim": lambda n: ac.make_scorer("general", query_dim=n, key_dim=3, rng=0),
    "additive's rng": lambda n: ac.make_scorer(
        "additive", query_dim=3, key_dim=3, hidden_dim=2, rng=n
    ),
    "entmax's alpha": lambda n: make_and_attend("normalizer", "entmax", alpha=n),
    "sigmoid's offset": lambda n: make_and_attend("normalizer", "sigmoid", offset=n),
    "softmax's sink": lambda n: make_and_attend("normalizer", "softmax", sink=n),
    "t5's max_distance": lambda n: make_and_attend("bias", "t5", table=np.ones(8), max_distance=n),
    "a count": lambda n: check_count("heads", n),
    "an amount": lambda n: check_amount("alpha", n),
    "a share": lambda n: check_fraction("validation_fraction", n),
    "truncate": lambda n: ac.Attention("dot").memory(X, X).truncate(n),
    "take's axis": lambda n: ac.Attention("dot").memory(X[None], X[None]).take([0], axis=n),
    "limits": lambda n: ac.plot.heatmap(RESULT, limits=(0, n)),
    "figsize": lambda n: ac.plot.heatmap(RESULT, figsize=(n, 3)),
    "width": lambda n: ac.plot.text(RESULT, width=n),
    "queries": lambda n: ac.plot.text(RESULT, queries=n),
    "title": lambda n: ac.plot.heatmap(RESULT, title=n),
    "a page's title": lambda n: ac.plot.page(RESULT, title=n),
    "summary": lambda n: ac.plot.text(RESULT, summary=n),
    "annotate": lambda n: ac.plot.heatmap(RESULT, annotate=n),
    "margins": lambda n: ac.plot.heatmap(RESULT, margins=n),
    "ascii_only": lambda n: ac.plot.text(RESULT, ascii_only=n),
    "biases": lambda n: ac.MultiHeadAttention.initialize(2, heads=1, rng=0, biases=n),
    "cmap": lambda n: ac.plot.heatmap(RESULT, cmap=n),
}


@pytest.mark.filterwarnings("error", "ignore:no installed font")
@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("door", DOORS)
def test_a_number_is_taken_or_refused_by_an_error_of_ours(door, number):
    text = ""
    try:
        DOORS[door](HUGE[number])
    except ac.AttentionCoreError as error:
        text = str(error)
    assert len(text) < 600
    assert text.isprintable()


def test_the_largest_numbers_mean_the_same_as_infinite_ones():
    with pytest.raises(ac.OptionError, match=r"^softcap must be positive and finite, or None"):
        attend(softcap=10**400)
    far = make_and_attend("bias", "t5", table=np.arange(8.0), max_distance=10**400)
    near = make_and_attend("bias", "t5", table=np.arange(8.0), max_distance=2**60)
    np.testing.assert_array_equal(far.context, near.context)
    check_amount("alpha", Fraction(1, 3))
    with pytest.raises(ac.OptionError, match=r"^alpha must be a finite number of at least 0"):
        check_amount("alpha", 10**400)


@pytest.mark.parametrize("flag", ["is_causal", "margins", "ascii_only", "biases", "annotate"])
@pytest.mark.parametrize("given", ["no", 0, 1.0, None, [True]])
def test_a_flag_is_true_or_false(flag, given):
    if flag == "annotate" and isinstance(given, str):
        return  # a format
    with pytest.raises(ac.OptionTypeError, match=rf"^{flag} must be True or False, got "):
        DOORS[flag](given)
    DOORS[flag](np.True_)


def test_valid_numbers():
    assert [is_integer(n) for n in (3, np.uint8(3), 3.0, True, np.timedelta64(3, "s"))] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert [as_float(n) for n in (2, np.float16(0.5), Fraction(1, 4), -(10**400), True, "1")] == [
        2.0, 0.5, 0.25, -np.inf, None, None,
    ]  # fmt: skip
