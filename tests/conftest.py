"""Shared by every test: a seeded generator, and the profiles of Hypothesis."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bundled import SCORERS
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from cases import Case

# "fast" has the same examples on every machine; "thorough" draws new ones on each run:
#   HYPOTHESIS_PROFILE=thorough pytest tests/engine/test_properties.py
settings.register_profile(
    "fast",
    max_examples=50,
    derandomize=True,
    deadline=None,  # the oracle is slow on purpose
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", max_examples=500, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


# A background job ignores Ctrl-C, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20140901)


@pytest.fixture
def compiled() -> None:
    """For tests of compiled code: they are skipped where the product does without it."""
    from attention_core.compiled.switch import is_switched_on

    if not is_switched_on():
        pytest.skip("needs numba, and ATTENTION_CORE_COMPILED must not be 0")


@pytest.fixture(params=[*SCORERS, "taxicab"])
def case(request: pytest.FixtureRequest) -> Case:
    """Every scorer in turn: the bundled ones, and a third-party one."""
    from cases import make_case  # if the engine cannot be imported, only this fails

    return make_case(request.param)
