"""Every installed scorer keeps the contract, and the bundled scorers keep it in every form."""

import numpy as np
import pytest

import attention_core as ac
from attention_core.registry.discovery import discover
from attention_core.testing import parametrize_scorers, plugin_checks

INSTALLED = [check for plugin in discover().plugins for check in plugin_checks(plugin.value)]
rng = np.random.default_rng(0)
FORMS = [
    ac.make_scorer("additive", query_dim=3, key_dim=6, hidden_dim=1, rng=0),
    ac.make_scorer(
        "additive",
        query_weight=rng.normal(size=(4, 5)).astype(np.float32),
        key_weight=rng.normal(size=(3, 5)).astype(np.float16),
        score_weight=100 * rng.normal(size=5),  # too steep for a useful bound
        bias=rng.normal(size=5),
    ),
    ac.make_scorer("gaussian", scale=np.array([0.5, 0.0, -3.0], np.float32)),
    ac.make_scorer("general", weight=rng.normal(size=(1, 6))),
    ac.make_scorer("general", query_dim=4, key_dim=3, rank=2, rng=0),
    ac.make_scorer("general", query_factor=np.ones((2, 1)), key_factor=np.ones((2, 1))),
    ac.make_scorer("scaled_dot", scale=-0.5),
]


def test_the_scan_found_the_scorers():
    names = {check.name for check in INSTALLED}
    scorers = [info.name for info in ac.scorers() if info.distribution == "attention-core"]
    assert {"hooks", "light", *(f"{name}.tiles" for name in scorers)} <= names


@pytest.mark.parametrize("check", INSTALLED, ids=lambda check: check.name)
def test_installed_scorers(check):
    check()


@parametrize_scorers(*FORMS)
def test_the_bundled_scorers_in_other_forms(check):
    check()
