"""Finding and loading plugins: a failure of one does not affect others."""

import math
import sys

import fakes
import numpy as np
import pytest
from bundled import BIASES, NORMALIZERS, SCORERS
from fakes import HOOKS, SCORER, hooks

from attention_core import PluginError, Scorer, ScorerSpec
from attention_core.registry.discovery import discover
from attention_core.registry.loading import check_spec, load_specs

install = fakes.install
RBF = "name='rbf', factory='acme_attention.rbf:FakeScorer'"


def found(distribution):
    return [plugin for plugin in discover().plugins if plugin.distribution == distribution]


class Plain(Scorer):
    def score(self, query, key):
        return query @ key.swapaxes(-1, -2)


# --- finding ---


def test_the_bundled_plugin_comes_by_the_same_road():
    (plugin,) = found("attention-core")
    assert plugin.name == "standard"
    assert [spec.name for spec in load_specs(plugin)] == [*SCORERS, *NORMALIZERS, *BIASES]


def test_finding_imports_nothing(install):
    install(hooks=hooks(RBF))
    (plugin,) = found("acme-attention")
    assert str(plugin) == "acme (acme-attention 0.3)"
    assert "acme_attention" not in sys.modules


def test_asking_imports_hooks_only(install):
    install(hooks=hooks(RBF), rbf=SCORER)
    (spec,) = load_specs(*found("acme-attention"))
    assert spec == ScorerSpec(name="rbf", factory="acme_attention.rbf:FakeScorer")
    assert "acme_attention.hooks" in sys.modules
    assert "acme_attention.rbf" not in sys.modules


@pytest.mark.parametrize(
    ("blocked", "expected"),
    [
        (["acme"], True),
        (["acme-attention"], True),
        (["Acme_Attention"], True),
        (["other", "acme"], True),
        (["acm"], False),
        ([], False),
    ],
)
def test_a_plugin_is_named_by_its_entry_point_or_its_distribution(install, blocked, expected):
    install()
    (plugin,) = found("acme-attention")
    assert plugin.is_named_in(blocked) is expected


# --- calling hooks ---

FAULTS = {
    "fails at import": ("import no_such_module", ModuleNotFoundError, "no_such_module"),
    "leaves at import": ("raise SystemExit(3)", SystemExit, "3"),
    "is not Python": ("def", SyntaxError, "invalid syntax"),
    "fails when asked": (
        HOOKS + "@hookimpl\ndef attention_core_scorers():\n    raise RuntimeError('no GPU')",
        RuntimeError,
        "no GPU",
    ),
    "fails half-way": (
        hooks(RBF) + "    raise RuntimeError('no GPU')\n",
        RuntimeError,
        "no GPU",
    ),
    "yields junk": (
        HOOKS + "@hookimpl\ndef attention_core_scorers():\n    yield 'rbf'",
        PluginError,
        r"^attention_core_scorers\(\) yielded 'rbf'; expected a ScorerSpec$",
    ),
    "yields nothing iterable": (
        HOOKS + "@hookimpl\ndef attention_core_scorers():\n    pass",
        PluginError,
        (
            r"^attention_core_scorers\(\) returned None; "
            r"it must yield a ScorerSpec for each scorer$"
        ),
    ),
    "returns a spec": (
        HOOKS + f"@hookimpl\ndef attention_core_scorers():\n    return ScorerSpec({RBF})",
        PluginError,
        r"returned ScorerSpec\(name='rbf'.*\); it must yield",
    ),
    "misspells the hook": (
        hooks(RBF).replace("attention_core_scorers", "attention_core_scorer"),
        Exception,
        "unknown hook 'attention_core_scorer'",
    ),
    "forgets the decorator": (
        hooks(RBF).replace("@hookimpl\n", ""),
        PluginError,
        (
            r"^'acme_attention.hooks' implements no hook; decorate a function "
            r"attention_core_scorers\(\) with @hookimpl$"
        ),
    ),
    "asks for arguments": (
        hooks(RBF).replace("scorers()", "scorers(config)"),
        Exception,
        r"Argument\(s\) \{'config'\}",
    ),
    "wraps others": (
        HOOKS + "@hookimpl(wrapper=True)\ndef attention_core_scorers():\n    return (yield)",
        PluginError,
        "yielded None",
    ),
}


@pytest.mark.parametrize(("source", "error", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_raised_as_it_is(install, source, error, message):
    install(hooks=source)
    (plugin,) = found("acme-attention")
    with pytest.raises(error, match=message):
        load_specs(plugin)


def test_an_attribute_that_is_not_there(install):
    install(entry_points="[attention_core]\nacme = acme_attention:hooks\n")
    with pytest.raises(AttributeError, match="hooks"):
        load_specs(*found("acme-attention"))


def test_an_entry_point_may_name_extras(install):
    install(entry_points="[attention_core]\nacme = acme_attention.hooks [gpu]\n", hooks=hooks(RBF))
    assert load_specs(*found("acme-attention"))


def test_a_plugin_may_offer_nothing(install):
    install(hooks=HOOKS + "@hookimpl\ndef attention_core_scorers():\n    return []")
    assert load_specs(*found("acme-attention")) == ()


# --- checking ---


def with_args(*args): ...
def with_kwargs(gamma=1.0, **kwargs): ...
def with_positional(gamma, /): ...
def with_name(name): ...


class Unfinished(Scorer):
    pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Rbf"}, "scorer name 'Rbf' must be lower-case letters, digits and underscores"),
        ({"name": "acme/rbf"}, "scorer name 'acme/rbf' must be"),
        ({"name": "2d"}, "scorer name '2d' must be"),
        ({"name": "rbf\n"}, r"scorer name 'rbf\\n' must be"),
        ({"name": None}, "scorer name None must be"),
        ({"aliases": "gauss"}, "scorer 'rbf': aliases must be a tuple, got 'gauss'"),
        (
            {"example": ["gamma"]},
            r"scorer 'rbf': example must be a mapping of parameters, got \['gamma'\]",
        ),
        (
            {"example": {"gamma": np.ones(2)}},
            r"scorer 'rbf': example must hold JSON values, got {'gamma': array\(\[1., 1.\]\)}",
        ),
        ({"example": {"gamma": math.inf}}, "example must hold JSON values, got {'gamma': inf}"),
        ({"example": {"n": 10**5000}}, "example must hold JSON values, got <dict>"),
        ({"name": "r" * 101}, "scorer name 'rrr.* is longer than 100 letters"),
        ({"example": {1: 2}}, "scorer 'rbf': example must be a mapping of parameters, got {1: 2}"),
        ({"aliases": ("Gauss",)}, "scorer name 'Gauss' must be"),
        ({"aliases": (1,)}, "scorer name 1 must be"),
        ({"summary": None}, "scorer 'rbf': summary must be a string, got None"),
        ({"formula": 1}, "scorer 'rbf': formula must be a string, got 1"),
        ({"reference": b""}, "scorer 'rbf': reference must be a string, got b''"),
        (
            {"factory": "acme"},
            "factory must be a callable or 'package.module:attribute', got 'acme'",
        ),
        ({"factory": ":rbf"}, "factory must be a callable"),
        ({"factory": "acme rbf:x"}, "factory must be a callable"),
        ({"factory": None}, "its factory must be callable with a signature, got None"),
        ({"factory": with_args}, r"its factory takes \(\*args\); name every parameter"),
        ({"factory": with_kwargs}, r"its factory takes \(\*\*kwargs\); name every parameter"),
        ({"factory": with_positional}, r"its factory takes \(gamma, /\); name every parameter"),
        ({"factory": with_name}, "its factory has a parameter 'name', which a config uses"),
        ({"factory": Unfinished}, "Unfinished does not implement score"),
    ],
)
def test_a_spec_that_cannot_be_used(changes, message):
    with pytest.raises(PluginError, match=message):
        check_spec(ScorerSpec(**{"name": "rbf", "factory": Plain, **changes}))


@pytest.mark.parametrize("factory", [Plain, lambda gamma, *, scale=1.0: Plain(), "a.b:C.d"])
def test_a_spec_that_can_be_used(factory):
    spec = ScorerSpec(name="rbf2_x", factory=factory, aliases=("gauss",), example={"a": [1, None]})
    assert check_spec(spec) == spec


def test_a_checked_spec_holds_plain_values_on_one_line():
    class Example(dict):
        """An instance of a subclass, which might behave differently later."""

    spec = ScorerSpec(
        name="rbf",
        factory=Plain,
        summary="one\n two\x1b[2J" + "a" * 60_000,
        aliases=["gauss"],
        example=Example(gamma=(1.0, True)),
    )
    checked = check_spec(spec)
    assert type(checked.example) is dict
    assert checked.example == {"gamma": [1.0, True]}
    assert checked.aliases == ("gauss",)
    assert checked.summary.startswith("one two\\x1b[2Ja")
    assert len(checked.summary) < 600
