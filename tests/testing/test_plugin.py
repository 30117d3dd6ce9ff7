"""The kit's checks of a plugin, each with a plugin that fails it."""

from __future__ import annotations

import importlib

import fakes
import pytest
from fakes import DESCRIBED, HOOKS, MATHS, hooks

import attention_core as ac
from attention_core.registry import default
from attention_core.testing import CheckError, check_plugin, plugin_checks, run_checks

install = fakes.install


@pytest.fixture(autouse=True)
def fresh_registry(install, monkeypatch):
    monkeypatch.setattr(default, "_default", None)


def failures(module="acme_attention.hooks"):
    """The failed checks and their evidence."""
    report = run_checks(plugin_checks(module))
    return {
        outcome.check.name: outcome.detail.splitlines()[0].removeprefix("seen: ")
        for outcome in report.failures
    }


def test_a_plugin_that_passes(install):
    install(hooks=hooks(DESCRIBED), rbf=MATHS)
    text = str(check_plugin("acme_attention.hooks"))
    assert "plugin 'acme_attention.hooks'\n" in text
    assert "scorer 'rbf' (acme-attention 0.3) with query_dim=4, key_dim=4\n" in text
    assert "passed   rbf.tiles " in text


def test_a_module_serves_as_well_as_its_name(install):
    install(hooks=hooks(DESCRIBED), rbf=MATHS)
    assert check_plugin(importlib.import_module("acme_attention.hooks")).ok


def test_a_plugin_that_is_not_installed_is_said_to_be(install):
    install(hooks=hooks(DESCRIBED), rbf=MATHS, entry_points="")
    text = str(check_plugin("acme_attention.hooks"))
    assert "describes its components (no installed entry point names it)" in text
    assert "scorer 'rbf' with query_dim=4, key_dim=4\n" in text


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("import cupy_of_acme", "ModuleNotFoundError: No module named 'cupy_of_acme'"),
        (
            "",
            (
                "PluginError: 'acme_attention.hooks' implements no hook; decorate a function "
                "attention_core_scorers() with @hookimpl"
            ),
        ),
        (
            hooks("name='RBF', factory='a:b'"),
            (
                "PluginError: scorer name 'RBF' must be lower-case letters, digits and "
                "underscores, beginning with a letter"
            ),
        ),
        (
            f"{HOOKS}@hookimpl\ndef attention_core_scorers(): return []",
            "its hooks yield nothing",
        ),
    ],
)
def test_hooks(install, source, seen):
    install(hooks=source, rbf=MATHS)
    found = failures()
    assert found["hooks"] == seen
    assert set(found) <= {"hooks", "light"}


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("import acme_attention.rbf", "it also imports acme_attention.rbf"),
        ("import scipy.sparse", "it also imports scipy"),
        (
            "import acme_attention.rbf, scipy",
            "it also imports acme_attention.rbf, scipy",
        ),
    ],
)
def test_light(install, line, seen):
    install(hooks=f"{line}\n{hooks(DESCRIBED)}", rbf=MATHS)
    found = failures()
    assert list(found) == ["light"]
    assert f"{found['light']}, ".startswith(f"{seen}, ")


@pytest.mark.parametrize("line", ["import json, numpy.fft", "import attention_core.testing"])
def test_light_allows_what_costs_nothing_or_is_loaded_anyway(install, line):
    install(hooks=f"{line}\n{hooks(DESCRIBED)}", rbf=MATHS)
    assert failures() == {}


def test_light_in_a_fresh_interpreter(install):
    source = "import sys\nif 'pytest' not in sys.modules: raise OSError('no such luck')\n"
    install(hooks=source + hooks(DESCRIBED), rbf=MATHS)
    assert failures() == {"light": "in a fresh interpreter: OSError: no such luck"}


@pytest.mark.parametrize(
    ("name", "aliases", "seen"),
    [
        ("dot", (), "'dot' is bundled with attention-core"),
        ("rbf", ("mlp", "luong"), "'luong', 'mlp' is bundled with attention-core"),
    ],
)
@pytest.mark.filterwarnings("ignore::attention_core.PluginWarning")
def test_reserved(install, name, aliases, seen):
    install(hooks=hooks(f"{DESCRIBED.replace('rbf', name, 1)}, aliases={aliases}"), rbf=MATHS)
    assert failures() == {f"{name}.reserved": seen}


@pytest.mark.parametrize(
    ("maths", "seen"),
    [
        (
            MATHS.replace("gain=1.0", "gain"),
            (
                "ScorerConfigError: scorer 'rbf' (acme-attention 0.3) needs parameter 'gain'; "
                "accepts: gain"
            ),
        ),
        (
            MATHS.replace("gain=1.0", "**options"),
            (
                "PluginError: scorer 'rbf' (acme-attention 0.3): its factory takes (**options); "
                "name every parameter, so that a config can give it and a typo is noticed"
            ),
        ),
    ],
)
def test_example(install, maths, seen):
    install(hooks=hooks(DESCRIBED), rbf=maths)
    assert failures() == {"rbf.example": seen}


def test_an_example_makes_what_needs_parameters(install):
    install(
        hooks=hooks(f"{DESCRIBED}, example={{'gain': 0.5}}"), rbf=MATHS.replace("gain=1.0", "gain")
    )
    assert failures() == {}


def test_a_failure_of_one_scorer_is_under_its_name(install):
    broken = MATHS.replace("query * self.gain", "query.astype('float64')")
    install(
        hooks=hooks(DESCRIBED, DESCRIBED.replace("rbf", "bad", 1).replace("rbf:", "bad:")),
        rbf=MATHS,
        bad=broken,
    )
    assert list(failures()) == ["bad.dtype"]
    with pytest.raises(CheckError, match=r"FAILED   bad.dtype "):
        check_plugin("acme_attention.hooks")
    report = check_plugin("acme_attention.hooks", expected_failures={"bad.dtype": "in float64"})
    assert report.ok


def test_an_expected_failure_needs_the_name_of_its_scorer(install):
    install(hooks=hooks(DESCRIBED), rbf=MATHS)
    with pytest.raises(ac.OptionError, match=r"no check 'dtype'; did you mean"):
        check_plugin("acme_attention.hooks", expected_failures={"dtype": "in float64"})
