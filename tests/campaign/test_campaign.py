"""A short campaign: a few cases of each kind, and a check that they find planted faults."""

from importlib import import_module

import numpy as np
import pytest

import attention_core as ac
from campaign import NAMES

MODULES = {name: import_module(f"campaign.{name}") for name in NAMES}


def run(name, cases):
    for seed in range(cases):
        MODULES[name].check(np.random.default_rng(seed))


# a signal may come in a callback of another library, such as JAX's at garbage collection
of_other_libraries = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@of_other_libraries
@pytest.mark.parametrize("name", NAMES)
def test_a_few_cases(name):
    run(name, MODULES[name].QUICK)


@of_other_libraries
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_cases(name):
    run(name, 10 * MODULES[name].QUICK)


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name in NAMES for fault in MODULES[name].FAULTS]
)
def test_a_planted_fault_is_found(name, fault):
    # results of a scorer of another thread may raise
    found = AssertionError, KeyError, ValueError, ac.AttentionCoreError
    with MODULES[name].FAULTS[fault](), pytest.raises(found):
        run(name, 300)
