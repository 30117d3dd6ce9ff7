"""One broken plugin of each kind: every other name works, and there is one warning."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import textwrap

import fakes
import numpy as np
import pytest
from bundled import SCORERS
from fakes import HOOKS, SCORER, hooks

import attention_core as ac
from attention_core import PluginError, PluginWarning, Registry
from attention_core.registry import default, loading

install = fakes.install
RBF = "name='rbf', factory='acme_attention.rbf:FakeScorer'"
HOOK = f"{HOOKS}@hookimpl\ndef attention_core_scorers():\n"
EVIL = """
class Evil(str):
    def __repr__(self): raise RuntimeError("repr")
    def __str__(self): raise RuntimeError("str")
class Silent(Exception):
    def __str__(self): raise RuntimeError("no words")
class Panic(BaseException): pass
class Trap(dict):
    def __iter__(self): raise Panic("read")
    def keys(self): raise Panic("read")
class Late(ScorerSpec):
    @property
    def example(self): raise Panic("read")
"""


def body(text):
    """A hooks module whose hook does something."""
    return EVIL.join([HOOKS, HOOK.removeprefix(HOOKS)]) + textwrap.indent(text, "    ") + "\n"


FAULTS = {
    # when it is imported
    "imports what is not there": "import no_such_module",
    "imports itself in a circle": "from acme_attention.hooks import nothing",
    "is no Python": "def",
    "is not UTF-8": b"x = '\xff'",
    "holds a null byte": b"x = 1\0",
    "raises": "raise RuntimeError('no GPU')",
    "raises an error without words": f"{HOOKS}{EVIL}raise Silent",
    "raises a BaseException": "class Panic(BaseException): pass\nraise Panic('rust')",
    "is cancelled": "import asyncio\nraise asyncio.CancelledError",
    "ends a generator": "raise GeneratorExit",
    "exits": "raise SystemExit(0)",
    "exits with words": "import sys\nsys.exit('bye')",
    "recurses": "def f(): f()\nf()",
    "runs out of memory": "raise MemoryError",
    "raises a group": "raise ExceptionGroup('many', [ValueError('a'), TypeError('b')])",
    "warns where warnings are errors": "import warnings\nwith warnings.catch_warnings():\n"
    "    warnings.simplefilter('error')\n    warnings.warn('old', DeprecationWarning)",
    "looks a name up": "import attention_core\nattention_core.scorers()",
    "makes a registry": "import attention_core\nattention_core.Registry.from_entry_points()",
    "refreshes": "import attention_core\nattention_core.Registry().refresh()",
    # when its hook is called
    "has no hook": "x = 1",
    "forgets the decorator": hooks(RBF).replace("@hookimpl\n", ""),
    "misspells the hook": hooks(RBF).replace("core_scorers", "core_scorer"),
    "asks for arguments": hooks(RBF).replace("scorers()", "scorers(config)"),
    "wraps others": body("return (yield)").replace("@hookimpl", "@hookimpl(wrapper=True)"),
    "has attributes that raise": "def __getattr__(name): raise SystemExit(name)\n"
    "def __dir__(): return ['attention_core_scorers']",
    "raises when asked": body("raise Silent"),
    "fails half-way": body(f"yield ScorerSpec({RBF})\nraise Panic('rust')"),
    "looks a name up when asked": body("import attention_core\nattention_core.make_scorer('dot')"),
    "returns nothing": body("return None"),
    "returns a spec": body(f"return ScorerSpec({RBF})"),
    "yields junk": body("yield 'rbf'"),
    "yields junk that cannot be shown": body("yield Evil()"),
    "yields a class": body("yield ScorerSpec"),
    "yields without end": body(f"while True: yield ScorerSpec({RBF})"),
    # its descriptions
    "misses an argument": body("yield ScorerSpec(name='rbf')"),
    "has a name that cannot be typed": body("yield ScorerSpec(name='a\\x1b[2J\\n', factory='a:b')"),
    "has a name of 60,000 letters": body("yield ScorerSpec(name='a' * 60_000, factory='a:b')"),
    "has a name that cannot be shown": body("yield ScorerSpec(name=Evil('A'), factory='a:b')"),
    "has one string of aliases": body(f"yield ScorerSpec({RBF}, aliases='gauss')"),
    "says nothing in words": body(f"yield ScorerSpec({RBF}, summary=None)"),
    "has an example that cannot be read": body(f"yield ScorerSpec({RBF}, example=Trap(a=1))"),
    "has an example that raises later": body(f"yield Late({RBF})"),
    "has an array in its example": body(
        f"import numpy\nyield ScorerSpec({RBF}, example={{'w': numpy.ones(2)}})"
    ),
    "has an example without end": body(f"a = {{}}\na['a'] = a\nyield ScorerSpec({RBF}, example=a)"),
    "has a factory that is not one": body("yield ScorerSpec(name='rbf', factory=3)"),
    "has a factory nowhere": body("yield ScorerSpec(name='rbf', factory='rm -rf')"),
    "has a factory without names": body("yield ScorerSpec(name='rbf', factory=lambda *a: 1)"),
    "uses one name twice": hooks(RBF, "name='early', factory='a:b'", RBF),
    "repeats a name in its aliases": hooks("name='early', factory='a:b', aliases=('early',)"),
}


def write(folder, source):
    file = next(folder.glob("acme_attention-*/acme_attention/hooks.py"))
    file.write_bytes(source if isinstance(source, bytes) else source.encode())


@pytest.fixture
def good(install):
    """A plugin that works, on the path before the broken one."""
    install(
        "good",
        "1.0",
        plugin="good",
        hooks=hooks("name='fine', factory='good.it:FakeScorer'"),
        it=SCORER,
    )


@pytest.mark.parametrize("source", FAULTS.values(), ids=FAULTS)
def test_a_broken_plugin_costs_one_warning_and_no_other_name(install, good, tmp_path, source):
    install(hooks="")
    write(tmp_path, source)
    with pytest.warns(PluginWarning) as caught:
        registry = Registry.from_entry_points()
    (message,) = [str(warning.message) for warning in caught]
    (failure,) = registry.failures
    assert message == (
        f"plugin not loaded: {failure}; ATTENTION_CORE_BLOCK=acme blocks it without a warning"
    )
    assert message.isprintable()
    assert len(message) < 800
    names = sorted([*SCORERS, "fine"])
    assert [info.name for info in registry.scorers()] == names
    for info in registry.scorers():
        scorer = registry.make(info.name, **info.example)
        assert ac.attend(np.eye(4), np.eye(4)[:, : 4 - (info.name in ("additive", "general"))],
                         np.eye(4), scorer=scorer).context.shape == (4, 4)  # fmt: skip
    with pytest.raises(ac.UnknownScorerError) as error:
        registry.make("early")
    assert f"\n  not loaded: {failure}" in str(error.value)
    with pytest.raises(PluginError, match=r"^plugin not loaded: acme \(acme-attention 0\.3\) - "):
        Registry.from_entry_points(strict=True)
    assert repr(registry) == "<Registry: 6 scorers, 4 normalizers, 3 biases, 1 failure>"
    for again in (copy.copy(registry), pickle.loads(pickle.dumps(registry))):
        assert repr(again) == repr(registry)


def test_there_are_many_kinds_of_faults():
    assert len(FAULTS) >= 40


def test_all_of_them_at_once(install, good, tmp_path):
    """There is one warning for each broken plugin, and it names the plugin."""
    for number, source in enumerate(FAULTS.values()):
        name = f"bad{number}"
        text = source.decode("latin-1") if isinstance(source, bytes) else source
        install(name, plugin=name, hooks=text.replace("acme_attention", name))
    with pytest.warns(PluginWarning) as caught:
        registry = Registry.from_entry_points()
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == len(registry.failures)
    assert len(messages) >= len(FAULTS) - 2  # the bytes alone break one or two
    assert registry.make("fine").gamma == 1.0
    assert ac.attend(np.eye(2), np.eye(2), np.eye(2), scorer=registry.make("dot"))


def test_an_interrupt_is_nobodys_fault(install):
    install(hooks="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry.from_entry_points()


# --- in another thread ---

THREADS = {
    "its own function": "def ask():\n    attention_core.make_scorer('dot')\nstart(ask)",
    "one of ours": "start(attention_core.scorers)",
    "a pool": "import concurrent.futures\n"
    "with concurrent.futures.ThreadPoolExecutor() as pool:\n"
    "    pool.submit(attention_core.scorers).result()",
}


@pytest.mark.parametrize("when", ["imported", "asked"])
@pytest.mark.parametrize("source", THREADS.values(), ids=THREADS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_plugin_that_waits_for_a_thread_that_looks_a_name_up_ends(
    install, good, monkeypatch, source, when
):
    monkeypatch.setattr(loading, "PATIENCE", 0.1)
    monkeypatch.setattr(default, "_default", None)
    start = """
import attention_core, threading
def start(target):
    failed = []
    def run():
        try:
            target()
        except BaseException as error:
            failed.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise failed[0]
"""
    if when == "imported":
        text = f"{start}\n{source}"
    else:
        text = f"{HOOK}{textwrap.indent(start + source, '    ')}\n    yield"
    install(hooks=text)
    with pytest.warns(PluginWarning, match="makes no progress; a plugin cannot look up scorers"):
        assert ac.make_scorer("fine").gamma == 1.0


# --- printed output ---


NOISE = """
import os, sys
print('hello')
sys.stdout.write('again')
sys.__stdout__.write('past every redirection')
os.write(1, b'not from Python')
os.system('echo from a child')
"""


@pytest.mark.parametrize("command", [["scorers", "--json"], ["config", "schema"]])
def test_output_of_a_plugin_is_not_in_the_json(install, tmp_path, command):
    install(hooks=NOISE + hooks(RBF), rbf=NOISE + textwrap.dedent(SCORER))
    code = f"import sys; sys.path[:0] = {sys.path[:1]!r}\nimport attention_core.cli as c; c.main()"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "rbf" in str(json.loads(done.stdout))
    assert done.stderr.count("not from Python") == 2
