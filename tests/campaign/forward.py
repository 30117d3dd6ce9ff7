"""Results of `attend` against the oracle: contexts, weights, scores and all other fields."""

from __future__ import annotations

from unittest import mock

import ml_dtypes
import numpy as np
from cases import assert_agrees, float64, largest

import attention_core as ac
from campaign.calls import Rng, chance, random_call

DTYPES = (np.float64, np.float64, np.float32, np.float16, ml_dtypes.bfloat16)
QUICK = 60


def check(rng: Rng) -> None:
    call = random_call(rng, dtypes=DTYPES)
    if chance(rng, 0.15) and call.value.size:  # must affect only the rows that may attend to it
        call.value[*(rng.integers(n) for n in call.value.shape)] = np.nan
    expected = call.case.expect(call.query, call.key, call.value, **call.options)
    result = ac.attend(call.query, call.key, call.value, scorer=call.case.scorer, **call.options)
    assert_agrees(result, expected, scale=500.0, value_scale=largest(call.value))
    if call.query.ndim > 1 and call.query.shape[-2]:
        row = int(rng.integers(call.query.shape[-2]))
        whole = float64(result.weights)[..., row, :]
        np.testing.assert_allclose(float64(result.rows(row)), whole, rtol=1e-2, atol=1e-6)


def without(option: str) -> mock.mock._patch:
    """A library that ignores an option."""
    attend = ac.attend

    def ignorant(query, key, value, **options):
        options.pop(option, None)
        return attend(query, key, value, **options)

    return mock.patch.object(ac, "attend", ignorant)


def slightly_off() -> mock.mock._patch:
    """A library with an error in the seventh digit, in float64."""
    attend = ac.attend

    def inaccurate(query, key, value, **options):
        scale = 1 + 3e-7 if value.dtype == np.float64 else 1
        return attend(query, key, value * scale, **options)

    return mock.patch.object(ac, "attend", inaccurate)


FAULTS = {
    **{
        f"ignores {option}": lambda option=option: without(option)
        for option in ("mask", "bias", "key_lengths", "query_lengths", "is_causal", "query_offset",
                       "window", "softcap")
    },
    "is slightly off": slightly_off,
}  # fmt: skip
