"""Polynomials in place of exp and tanh: as accurate as documented over the whole range."""

import numpy as np
import pytest

from attention_core.compiled import polynomials

PROMISED = {("exp", "f"): 1.2e-7, ("tanh", "f"): 2.5e-7, ("exp", "d"): 4e-16, ("tanh", "d"): 7e-16}
ENDS = {"f": (-86.9, 88.72), "d": (-708.0, 709.78)}


def applied(name, numbers):
    function = getattr(polynomials, f"{name}_{numbers.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array([function(number) for number in numbers])


@pytest.mark.parametrize(("name", "code"), PROMISED)
def test_errors_stay_within_what_is_promised(name, code):
    small = np.geomspace(1e-30, 1, 500)
    numbers = np.concatenate([np.linspace(*ENDS[code], 3000), small, -small]).astype(code)
    expected = getattr(np, name)(numbers.astype(np.longdouble))
    found = applied(name, numbers)
    assert found.dtype == numbers.dtype
    assert (np.abs(found - expected) / np.abs(expected)).max() < PROMISED[name, code]
    assert np.abs(applied("tanh", numbers)).max() <= 1


@pytest.mark.parametrize("code", "fd")
def test_ends_of_the_range(code):
    numbers = np.array([np.nan, np.inf, 1e30, 0.0, -1e30, -np.inf], code)
    np.testing.assert_array_equal(applied("exp", numbers), [np.nan, np.inf, np.inf, 1, 0, 0])
    np.testing.assert_array_equal(applied("tanh", numbers), [np.nan, 1, 1, 0, -1, -1])
