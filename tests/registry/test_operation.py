"""Running with plugins: selection, locations of warnings, and changes at run time."""

from __future__ import annotations

import copy
import linecache
import logging
import os
import pickle
import subprocess
import sys
import threading

import fakes
import numpy as np
import pytest
from bundled import SCORERS
from fakes import SCORER, hooks

import attention_core as ac
from attention_core import PluginError, PluginWarning, Registry, ScorerSpec
from attention_core.registry import default

install = fakes.install
RBF = "name='rbf', factory='acme_attention.rbf:FakeScorer'"


def names(registry):
    return [info.name for info in registry.scorers()]


@pytest.fixture
def no_default(monkeypatch):
    monkeypatch.setattr(default, "_default", None)


@pytest.fixture
def two(install):
    """Two distributions that work."""
    install(hooks=hooks(RBF), rbf=SCORER)
    install("other", "1", plugin="other", hooks=hooks("name='two', factory='other.it:FakeScorer'"))


# --- selection ---


@pytest.mark.parametrize("allow", ["acme", "Acme_Attention", "missing, acme", ["acme-attention"]])
def test_only_what_is_allowed_is_loaded(two, allow):
    registry = Registry.from_entry_points(allow=allow)
    assert names(registry) == sorted([*SCORERS, "rbf"])
    assert "other.hooks" not in sys.modules
    with pytest.raises(ac.UnknownScorerError, match=r"\n  blocked: other \(other 1\)$"):
        registry.make("two")


@pytest.mark.parametrize("allow", [(), "attention-core", "standard", "nothing-like-it"])
def test_the_bundled_scorers_are_always_allowed(two, allow):
    assert names(Registry.from_entry_points(allow=allow)) == SCORERS


def test_the_bundled_scorers_can_be_blocked(two):
    registry = Registry.from_entry_points(block="standard")
    assert names(registry) == ["rbf", "two"]
    assert repr(registry) == "<Registry: 2 scorers, 1 blocked plugin>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("other", ["two"]), (" ", ["rbf", "two"]), ("", ["rbf", "two"]), (None, ["rbf", "two"])],
)
def test_the_environment_may_say_what_is_allowed(two, monkeypatch, value, expected):
    monkeypatch.delenv("ATTENTION_CORE_ALLOW", raising=False)
    if value is not None:
        monkeypatch.setenv("ATTENTION_CORE_ALLOW", value)
    assert sorted(set(names(Registry.from_entry_points())) - set(SCORERS)) == expected


def test_block_wins(two):
    registry = Registry.from_entry_points(allow="acme, other", block="other")
    assert names(registry) == sorted([*SCORERS, "rbf"])


def test_blocked_plugins_cannot_register():
    registry = Registry(allow="acme-attention")
    spec = ScorerSpec(name="rbf", factory="a:b")
    registry.register(spec, distribution="acme-attention")
    registry.register(ScorerSpec(name="mine", factory="a:b"))
    with pytest.raises(PluginError, match=r"^distribution 'other' is blocked"):
        registry.register(spec, distribution="other")
    with pytest.raises(ac.OptionTypeError, match=r"^distribution must be text, got 3$"):
        registry.register(spec, distribution=3)


@pytest.mark.parametrize("wrong", [[1], [None], [b"acme"], 3])
@pytest.mark.parametrize("argument", ["block", "allow"])
def test_invalid_names(argument, wrong):
    with pytest.raises(ac.OptionTypeError, match=rf"^{argument} must be names of plugins, got "):
        Registry(**{argument: wrong})


@pytest.mark.parametrize("argument", ["block", "allow"])
def test_a_misspelt_name_is_told(two, argument):
    with pytest.warns(PluginWarning) as caught:
        Registry.from_entry_points(**{argument: "acme-atention, other"})
    (warning,) = caught
    assert str(warning.message) == (
        f"{argument}: no plugin is called 'acme-atention'; did you mean 'acme-attention'?"
    )
    with pytest.raises(PluginError, match="no plugin is called 'acme-atention'"):
        Registry.from_entry_points(**{argument: "acme-atention"}, strict=True)


def test_a_name_of_what_is_not_installed_is_not_told(two):
    for name in ("torch_scorers_of_the_lab", "attention-core-ard", "lab-attention", "core"):
        Registry.from_entry_points(block=name, allow=f"acme, {name}")


def test_the_name_of_an_unreadable_distribution_is_not_misspelt(install, tmp_path):
    install()
    (file,) = tmp_path.glob("acme_attention-*/*.dist-info/entry_points.txt")
    file.write_bytes(b"\xff")
    registry = Registry.from_entry_points(block="acme_attention")
    assert [str(plugin) for plugin in registry.blocked] == ["acme_attention (acme_attention 0.3)"]


# --- warnings and their locations ---


def test_strict_mode_refuses_an_ambiguous_name_at_the_start(install):
    install(hooks=hooks(RBF))
    install("other", "1", plugin="other", hooks=hooks("name='rbf', factory='a:b'"))
    assert "rbf" not in names(Registry.from_entry_points())
    with pytest.raises(PluginError, match=r"^scorer name 'rbf' is ambiguous; use 'acme-attention/"):
        Registry.from_entry_points(strict=True)


CALLS = {
    "attend": "ac.attend([[1.0]], [[1.0]], [[1.0]], scorer='dot')  # here",
    "attention": "ac.Attention('dot')  # here",
    "config": "ac.Attention.from_config({'scorer': 'dot'})  # here",
    "layer": "ac.MultiHeadAttention.initialize(2, heads=1, rng=0)  # here",
    "make": "ac.make_scorer('dot')  # here",
    "list": "ac.scorers()  # here",
    "registry": "ac.Registry.from_entry_points()  # here",
    "refresh": "ac.Registry().refresh()  # here",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_warning_points_at_the_line_that_asked(install, no_default, tmp_path, call):
    install(hooks="import no_such_module")
    script = tmp_path / "script.py"
    script.write_text(f"import attention_core as ac\n\n{call}\n")
    with pytest.warns(PluginWarning) as caught:
        exec(compile(script.read_text(), script, "exec"), {})
    assert linecache.getline(caught[0].filename, caught[0].lineno).endswith("# here\n")


def test_a_rival_is_told_at_the_line_that_registers_it():
    registry = Registry()
    spec = ScorerSpec(name="dot", factory="a:b")
    registry.register(spec, distribution="attention-core")
    with pytest.warns(PluginWarning) as caught:
        registry.register(spec, distribution="other")
    assert caught[0].filename == __file__


def test_loading_is_logged(two, caplog):
    with caplog.at_level(logging.DEBUG, "attention_core"):
        registry = Registry.from_entry_points()
    messages = [record.getMessage() for record in caplog.records]
    assert "acme (acme-attention 0.3) offers rbf" in messages
    assert messages[-1] == "<Registry: 7 scorers, 4 normalizers, 3 biases>" == repr(registry)
    assert {record.levelname for record in caplog.records} == {"DEBUG", "INFO"}
    assert {record.name for record in caplog.records} == {"attention_core"}


def test_without_a_handler_nothing_is_logged(no_default):
    code = "import attention_core as ac; ac.scorers(); ac.refresh()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


# --- changes at run time ---


def test_a_package_that_is_installed_meanwhile_is_found(install, no_default):
    ac.register_scorer(ScorerSpec(name="mine", factory="a:b"))
    assert "rbf" not in [info.name for info in ac.scorers()]
    install(hooks=hooks(RBF), rbf=SCORER)
    ac.refresh()
    assert ac.make_scorer("rbf").gamma == 1.0
    assert "mine" in [info.name for info in ac.scorers()]


def test_a_package_that_is_uninstalled_is_forgotten(install, tmp_path):
    install(hooks=hooks(RBF), rbf=SCORER)
    registry = Registry.from_entry_points()
    (folder,) = tmp_path.glob("acme_attention-*")
    sys.path.remove(str(folder))
    registry.refresh()
    assert names(registry) == SCORERS


def test_a_plugin_that_failed_is_tried_again(install, tmp_path):
    install(hooks="import no_such_module_of_acme\n" + hooks(RBF))
    with pytest.warns(PluginWarning):
        registry = Registry.from_entry_points()
    (hook,) = tmp_path.glob("acme_attention-*/acme_attention/hooks.py")
    hook.with_name("late.py").write_text("")
    sys.modules["no_such_module_of_acme"] = sys
    try:
        registry.refresh()
    finally:
        del sys.modules["no_such_module_of_acme"]
    assert registry.failures == ()
    assert "rbf" in names(registry)


def test_registered_scorers_come_before_later_installations(install):
    registry = Registry.from_entry_points()
    registry.register(ScorerSpec(name="rbf", factory="a:b"))
    install(hooks=hooks(RBF, "name='other', factory='a:b'"))
    with pytest.warns(PluginWarning, match=r"scorer name 'rbf' is already taken by scorer 'rbf'"):
        registry.refresh()
    assert registry.info("rbf").distribution is None
    assert "other" not in names(registry)


def test_a_refresh_that_fails_changes_nothing(install):
    registry = Registry(strict=True)
    registry.refresh()
    install(hooks="import no_such_module")
    with pytest.raises(PluginError):
        registry.refresh()
    assert names(registry) == SCORERS
    registry = Registry()
    registry.register(ScorerSpec(name="dot", factory="a:b"))
    with pytest.raises(PluginError, match="'dot' is already taken by scorer 'dot' "):
        registry.refresh()
    assert names(registry) == ["dot"]


def test_many_threads_may_ask_while_it_refreshes(install):
    install(hooks=hooks(RBF), rbf=SCORER)
    registry = Registry.from_entry_points()
    stop, failed = threading.Event(), []

    def ask():
        while not stop.is_set():
            try:
                assert registry.make("rbf").gamma == 1.0
                registry.resolve("dot")
            except BaseException as error:
                failed.append(error)
                raise

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(10):
        registry.refresh()
        registry.register(ScorerSpec(name=f"mine{number}", factory="a:b"))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(names(registry)) == 16


FORK = """
import os, threading
import attention_core as ac
from attention_core.registry import loading

def fork():
    global code
    pid = os.fork()
    if pid == 0:
        os._exit(ac.make_scorer("dot") is None)
    code = os.waitpid(pid, 0)[1]

with loading.alone():
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
os._exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_is_forked_while_another_thread_loads_works():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=60)
    assert done.returncode == 0


# --- copies ---


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda registry: pickle.loads(pickle.dumps(registry))]
)
def test_a_copy_goes_its_own_way(two, copied):
    registry = Registry.from_entry_points(block="other")
    registry.register(ScorerSpec(name="mine", factory=ac.InnerProductScorer))
    registry.resolve("rbf")
    again = copied(registry)
    assert again.scorers() == registry.scorers()
    assert again.blocked == registry.blocked
    assert again.make("rbf") == registry.make("rbf")
    again.register(ScorerSpec(name="later", factory="a:b"))
    assert "later" not in names(registry)
    registry.register(ScorerSpec(name="mine", factory="a:b"))
    again.register(ScorerSpec(name="mine", factory="a:c"))
    assert (registry.info("mine").factory, again.info("mine").factory) == ("a:b", "a:c")
    again.refresh()
    assert "later" in names(again)


def test_reprs():
    assert repr(Registry()) == "<Registry: empty>"
    assert "0x" not in repr(Registry.from_entry_points())


def test_the_parameters_of_a_scorer_are_known_before_it_is_made(two):
    info = Registry.from_entry_points().info("rbf")
    assert "acme_attention.rbf" not in sys.modules
    assert {name: each.default for name, each in info.parameters.items()} == {
        "gamma": 1.0,
        "scale": 1.0,
    }
    assert pickle.loads(pickle.dumps(info)) == info
    with pytest.raises(PluginError, match=r"^.other/two.: its factory .* cannot be imported"):
        _ = Registry.from_entry_points().info("two").parameters


# --- factories ---


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("import sys\n    sys.exit(0)", PluginError, r"^scorer 'rbf' \(.*\): SystemExit: 0$"),
        ("raise KeyboardInterrupt", KeyboardInterrupt, None),
        ("raise Panic('rust')", BaseException, None),
        ("raise Silent", Exception, None),
    ],
)
def test_a_factory_that_ends_badly(install, source, error, message):
    module = (
        "class Panic(BaseException): pass\n"
        "class Silent(Exception):\n    def __str__(self): raise RuntimeError\n"
        f"def FakeScorer():\n    {source}\n"
    )
    install(hooks=hooks(RBF), rbf=module)
    with pytest.raises(error, match=message) as raised:
        Registry.from_entry_points().make("rbf")
    if error is BaseException:
        assert raised.value.__notes__ == [
            "raised by the factory of scorer 'rbf' (acme-attention 0.3)"
        ]


@pytest.mark.parametrize(
    "source", ["raise SystemExit", "class P(BaseException): pass\nraise P('no')", "raise E"]
)
def test_a_factory_whose_import_ends_badly(install, source):
    silent = "class E(Exception):\n    def __str__(self): raise RuntimeError\n"
    install(hooks=hooks(RBF), rbf=silent + source)
    with pytest.raises(PluginError, match=r"^scorer 'rbf' \(.*\): its factory .* cannot be imp"):
        Registry.from_entry_points().make("rbf")


def test_a_module_may_implement_hooks_of_later_versions(install):
    source = hooks(RBF) + (
        "@hookimpl(optionalhook=True)\ndef attention_core_rounders():\n    yield 1\n"
    )
    install(hooks=source, rbf=SCORER)
    registry = Registry.from_entry_points()
    assert ac.attend(np.eye(2), np.eye(2), np.eye(2), scorer=registry.make("rbf"))
