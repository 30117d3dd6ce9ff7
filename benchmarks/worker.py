"""One peer and one problem in a separate process, which `measure` starts.

``python -m benchmarks.worker PEER OUTPUT`` reads a problem as one line of JSON, computes it once,
saves the result in the file OUTPUT and prints a line about it. Then it reads numbers of calls and
prints the seconds of each call.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.peers import PEERS, UnsupportedError
from benchmarks.problems import Problem, make_inputs

_WARM = 0.1  # seconds
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def main(name: str, output: Path) -> None:
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # keeps the output of libraries apart from the answers
        for answer in serve(name, output):
            answers.write(json.dumps(answer) + "\n")


def serve(name: str, output: Path) -> Iterator[Any]:
    problem = Problem(**json.loads(sys.stdin.readline()))
    try:
        function, result, facts = prepare(name, problem)
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("attention_core", "benchmarks"):
            raise  # our own, which is a fault
        yield {"absent": str(error)}
        return
    except UnsupportedError as error:
        yield {"unsupported": str(error)}
        return
    np.save(output, result)
    yield facts
    for line in sys.stdin:
        warm_up(function)
        yield [seconds(function) for _ in range(int(line))]


def prepare(name: str, problem: Problem) -> tuple[Callable[[], Any], Any, dict[str, Any]]:
    """The function to time, its result, and its memory in addition to inputs and output."""
    peer = PEERS[name]
    module = importlib.import_module(f"benchmarks.peers.{peer.module}")
    if peer.instead is not None:
        problem = peer.instead(problem)
    warm = problem.shrunk()
    module.prepare(warm, make_inputs(warm))()  # loads modules and starts threads
    function = module.prepare(problem, make_inputs(problem))
    if peer.is_compiled:
        function()
    gc.collect()
    before = peak_bytes(reset=True)
    result = function()
    after = peak_bytes()
    array = getattr(module, "to_numpy", np.asarray)(result)
    extra = None if before is None or after is None else max(0, after - before - array.nbytes)
    return function, array, {"version": module.version(), "extra_bytes": extra}


def warm_up(function: Callable[[], Any]) -> None:
    """Call the function without timing until its threads run on different cores."""
    start = perf_counter()
    while perf_counter() - start < _WARM:
        function()


def seconds(function: Callable[[], Any]) -> float:
    """The seconds of a call."""
    start = perf_counter()
    function()
    return perf_counter() - start


def peak_bytes(*, reset: bool = False) -> int | None:
    """The peak memory of this process since the last reset; None if unknown."""
    with suppress(OSError, StopIteration):
        if reset:
            _CLEAR.write_text("5")
        lines = _STATUS.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return None


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
