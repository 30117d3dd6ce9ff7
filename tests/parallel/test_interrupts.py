"""An interrupt at any line leaves NumPy's error settings, BLAS and later results as they were."""

import subprocess
import sys

import pytest

INTERRUPTED = """
import sys, threading
import numpy as np, threadpoolctl
import attention_core as ac
from attention_core.arrays import quiet
from attention_core.engine import dispatch
from attention_core.parallel import blas, helpers, threads
from attention_core.plot.web.data import _fits_float32
from numpy._core import _ufunc_config

MODULES = _ufunc_config, blas, dispatch, helpers, quiet, threading, threads
FILES = {module.__file__ for module in MODULES}

class Interrupt(BaseException):
    pass

def interrupted(function, at):
    # in the main thread, before the line or the call of this number, or after NumPy changed a
    # setting; False when it ends before
    passed = 0

    def trace(frame, event, arg):
        nonlocal passed
        if frame.f_code.co_filename not in FILES:
            return None
        if event != "return" or frame.f_code.co_filename == _ufunc_config.__file__:
            passed += 1
            if passed > at:
                raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        function()
        return False
    except Interrupt:
        return True
    finally:
        sys.settrace(None)

x = np.random.default_rng(0).normal(size=(4, 6))
half = x.astype(np.float16)
layer = ac.MultiHeadAttention.initialize(6, heads=2, rng=0, scorer=["dot", "scaled_dot"])
given = layer(x, x, x)
result = ac.attend(half, half, half, scorer="dot")
parts = [ac.attend(x, part, part, scorer="dot") for part in (x[:2], x[2:])]

def append():
    memory = ac.Attention("dot").memory(x, x)
    memory.append(x, x)
    return memory.key

def remember():
    memory = layer.memory(x, x)
    memory.append(x, x)
    return memory.memories[0].key

def hold():
    with blas.blas_on_one_thread() as again, again:
        pass

def calm():
    with blas.numerics() as again, again:
        np.setbufsize(32)

def search():
    blas._libraries.cache_clear()
    return len(blas._libraries())

def share():
    return threads.map_blocks(lambda i: i * i, range(5), cost=1e9, workers=3)

def start():
    helpers._helpers.cache_clear()
    return share()

CALLS = {
    "weights": lambda: ac.attend(half, half, half, scorer="dot").weights,
    "vjp": lambda: parts[0].vjp(x).query,
    "layer": lambda: layer(x, x, x).output,
    "layer's vjp": lambda: given.vjp(x).query,
    "memory": append,
    "layer's memory": remember,
    "merge": lambda: ac.merge(parts).context,
    "rows": lambda: result.rows(0),
    "text": lambda: ac.plot.text(result),
    "data of a page": lambda: _fits_float32(np.array([1e300])),
    "BLAS on one thread": hold,
    "settings": calm,
    "libraries": search,
    "threads": share,
    "new threads": start,
}

threadpoolctl.threadpool_limits(2, user_api="blas")
had = [each.get_num_threads() for each in blas._libraries()]
np.seterr(over="raise", under="ignore", divide="warn", invalid="warn")
settings = np.geterr(), np.getbufsize()
function = CALLS[sys.argv[1]]
expected, squares = function(), share()
at = 0
while interrupted(function, at):
    assert (np.geterr(), np.getbufsize()) == settings, at
    assert [each.get_num_threads() for each in blas._libraries()] == had, at
    assert not blas._hold.calls and not blas._hold.is_set, at
    assert not blas.this_thread.flag.locked(), at
    assert not threads._stops.get(), at
    assert share() == squares, at
    np.testing.assert_array_equal(function(), expected)
    at += 1
print(at)
"""
CALLS = [line.split('"')[1] for line in INTERRUPTED.splitlines() if line.startswith('    "')]


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_before_any_line_leaves_everything_as_it_was(call):
    command = [sys.executable, "-c", INTERRUPTED, call]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 2
