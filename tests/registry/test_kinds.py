"""One mechanism for every kind of component, tested with a kind defined here."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import fakes
import pytest

import attention_core as ac
from attention_core import PluginError, PluginWarning, Registry, ScorerSpec, hookspecs
from attention_core.registry import kinds
from attention_core.registry.infos import Info
from attention_core.registry.kinds import Kind

install = fakes.install


class Rounder:
    """The base class of the kind."""

    def __init__(self, digits=1):
        if digits < 0:
            raise ValueError(f"digits must not be negative, got {digits}")
        self.digits = digits

    def _adopt(self, origin):
        self.origin = origin


@dataclass(frozen=True, slots=True, kw_only=True)
class RounderSpec(hookspecs.Spec):
    """The spec that a plugin yields for one."""


def hook():
    """Yield one `RounderSpec` for each rounder."""


@pytest.fixture
def rounder(monkeypatch):
    """The kind, declared like the others."""
    kind = Kind[Rounder]("rounder", "attention_core_rounders", RounderSpec, Info, Rounder)
    hook.__name__ = kind.hook
    monkeypatch.setattr(hookspecs, kind.hook, hookspecs.hookspec(hook), raising=False)
    monkeypatch.setattr(hookspecs, "RounderSpec", RounderSpec, raising=False)
    kinds.KINDS.append(kind)
    yield kind
    kinds.KINDS.remove(kind)


def source(*yields):
    """A hooks module with a scorer and some rounders."""
    lines = "\n".join(f"    yield {each}" for each in yields)
    return (
        "from attention_core import ScorerSpec, hookimpl\n"
        "from attention_core.hookspecs import RounderSpec\n"
        "@hookimpl\ndef attention_core_scorers():\n"
        "    yield ScorerSpec(name='dot2', factory='a:b')\n"
        f"@hookimpl\ndef attention_core_rounders():\n{lines}\n"
    )


def make(digits=2):
    return Rounder(digits)


def test_a_plugin_offers_two_kinds_in_two_name_spaces(rounder, install):
    install(hooks=source("RounderSpec(name='dot', factory='acme_attention.it:make')"), it="")
    registry = Registry.from_entry_points()
    assert [info.name for info in registry.of(rounder).claims.infos()] == ["dot"]
    assert registry.of(rounder).info("dot").distribution == "acme-attention"
    assert registry.info("dot").distribution == "attention-core"
    assert repr(registry) == "<Registry: 6 scorers, 4 normalizers, 3 biases, 1 rounder>"
    assert not registry.conflicts


def test_a_component_is_made_by_name_mapping_or_object(rounder):
    registry = Registry()
    spec = RounderSpec(name="half_up", factory=make, aliases=("up",))
    registry.register(spec, distribution="acme-attention", version="0.3")
    names = registry.of(rounder)
    made = names.resolve("up")
    assert made is names.resolve("up")
    assert made is names.resolve(made)
    assert made.origin.name == "half_up"
    assert names.resolve({"name": "acme-attention/half_up", "digits": 3}).digits == 3
    assert names.info("up").parameters["digits"].default == 2


def test_errors_say_the_kind(rounder):
    registry = Registry()
    registry.register(RounderSpec(name="half_up", factory=make), distribution="acme", version="1")
    names = registry.of(rounder)
    with pytest.raises(ac.UnknownScorerError, match=r"^no rounder named 'half_pu'; did you mean"):
        names.make("half_pu", {})
    with pytest.raises(ac.ScorerConfigError, match=r"^rounder 'half_up' \(acme 1\) has no param"):
        names.make("half_up", {"digit": 1})
    with pytest.raises(ac.ScorerConfigError, match=r"^rounder 'half_up' .*: digits must not be"):
        names.make("half_up", {"digits": -1})
    with pytest.raises(ac.OptionTypeError, match=r"^rounder must be a name, .* or a Rounder, got"):
        names.resolve(3)
    with pytest.raises(ac.ScorerConfigError, match="describes a rounder needs its 'name'"):
        names.resolve({})
    registry.register(RounderSpec(name="half_up", factory=make), distribution="other", version="1")
    with pytest.raises(ac.AmbiguousScorerError, match=r"^rounder name 'half_up' is ambiguous"):
        registry.of(rounder).make("half_up", {})
    registry.register(RounderSpec(name="none", factory=lambda: None))
    with pytest.raises(ac.ScorerContractError, match="its factory returned None"):
        registry.of(rounder).make("none", {})


@pytest.mark.parametrize(
    "bad", ["3", "ScorerSpec(name='x', factory='a:b')", "RounderSpec(name='X', factory='a:b')"]
)
def test_a_broken_component_of_one_kind_costs_the_plugin(rounder, install, bad):
    install(hooks=source("RounderSpec(name='up', factory='a:b')", bad))
    with pytest.warns(PluginWarning) as caught:
        registry = Registry.from_entry_points()
    (warning,) = caught
    assert "attention_core_rounders()" in str(warning.message) or "rounder name 'X'" in str(
        warning.message
    )
    assert registry.of(rounder).claims.infos() == ()
    assert "dot2" not in [info.name for info in registry.scorers()]


def test_all_or_nothing_across_kinds(rounder):
    registry = Registry()
    registry.register(RounderSpec(name="up", factory=make))
    with pytest.raises(PluginError, match=r"^rounder name 'up' is already taken by rounder 'up'"):
        registry.register(RounderSpec(name="down", factory=make, aliases=("up",)))
    registry.register(ScorerSpec(name="up", factory="a:b"))  # another name space
    assert registry.info("up").name == registry.of(rounder).info("up").name == "up"


def test_kinds_stay_themselves_in_copies(rounder):
    registry = Registry()
    registry.register(RounderSpec(name="up", factory=make))
    assert pickle.loads(pickle.dumps(rounder)) is rounder
    again = pickle.loads(pickle.dumps(registry))
    assert again.of(rounder).make("up", {}).digits == 2
