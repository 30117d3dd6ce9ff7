"""A process forked while another thread is in its first call can attend."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

SCRIPT = """
import os, signal, sys, threading, time, warnings
import numpy as np
import attention_core as ac

class Slow:
    # finds no module, but takes its time for one of them
    def find_spec(name, path=None, target=None):
        if name == sys.argv[1]:
            is_searched.set()
            time.sleep(1)

def attend():
    found.append(ac.attend(x, x, x, scorer="scaled_dot", is_causal=True, workers=2).context)

x, found, is_searched = np.ones((600, 8)), [], threading.Event()
sys.meta_path.insert(0, Slow)
thread = threading.Thread(target=attend)
thread.start()
assert is_searched.wait(30)
warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where there are threads
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    attend()
    os._exit(0 if np.allclose(found[-1], 1) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
thread.join()
assert np.allclose(found[-1], 1)
"""


@pytest.mark.parametrize(
    "module", ["attention_core.registry.default", "attention_core.masking.band"]
)
def test_a_fork_waits_for_the_imports_of_other_threads(module):
    command = [sys.executable, "-W", "error", "-c", SCRIPT, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
