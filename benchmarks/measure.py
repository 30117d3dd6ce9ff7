"""Interleaved measurements: every peer computes the same problem in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.problems import Problem

__all__ = ["THREADS", "measure", "pin"]

THREADS = 2
_ROOT = Path(__file__).parents[1]
_ENVIRONMENT = {
    name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
}
# The largest tolerated difference from our result, relative to its largest number.
_TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2}
# Seconds of calls in a turn, and of rest before it, since threads of the last turn may still spin.
_TURN, _REST = 0.1, 0.06

Outcome = dict[str, Any]


def pin() -> None:
    """Restrict this process and its children to one core for each thread."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:THREADS]))


def measure(
    problem: Problem, peers: Iterable[str], *, seconds: float, rounds: int = 3
) -> dict[str, Outcome]:
    """Measure the times and memory of each peer, or the reason for their absence.

    Parameters
    ----------
    seconds
        The duration of all turns together.
    rounds
        The minimum number of turns of each peer.
    """
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        workers = {}
        for name in ("ours", *peers):
            worker = stack.enter_context(Worker(name, problem, folder / f"{name}.npy"))
            outcome = worker.answer()
            if name == "ours" and "extra_bytes" not in outcome:
                raise RuntimeError(f"attention-core itself cannot solve {problem}: {outcome}")
            if "extra_bytes" in outcome and PEERS[name].instead is None:
                outcome |= compare(folder / "ours.npy", worker.output, problem.dtype)
            outcomes[name] = outcome
            if "extra_bytes" in outcome and "disagrees" not in outcome:
                workers[name] = worker
        for name, turns in take_turns(workers, seconds, rounds).items():
            outcomes[name] |= {"median": median(turns), "fastest": min(turns), "turns": len(turns)}
    return outcomes


class Worker:
    """A connection to a process of `benchmarks.worker`."""

    def __init__(self, name: str, problem: Problem, output: Path) -> None:
        self.output = output
        self._error_log = output.with_suffix(".log")
        with self._error_log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", name, str(output)],
                cwd=_ROOT,
                env={**os.environ, **_ENVIRONMENT, **PEERS[name].environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._ask(json.dumps(asdict(problem)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def answer(self) -> Any:
        """Read the next line of the process, or report the last line of its errors."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._process.wait()
        words = self._error_log.read_text().strip().splitlines()
        return {"failed": words[-1] if words else "the process was killed"}

    def turn(self, calls: int) -> float:
        """The median seconds of some calls."""
        time.sleep(_REST)
        self._ask(str(calls))
        return float(median(self.answer()))

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def take_turns(workers: dict[str, Worker], seconds: float, rounds: int) -> dict[str, list[float]]:
    """The median of each turn; a round has a turn of every peer, in alternating order."""
    calls = {
        name: min(max(round(_TURN / worker.turn(1)), 1), 500) for name, worker in workers.items()
    }
    turns: dict[str, list[float]] = {name: [] for name in workers}
    start, order = time.monotonic(), list(workers)
    while rounds > 0 or time.monotonic() - start < seconds:
        for name in order:
            turns[name].append(workers[name].turn(calls[name]))
        order.reverse()
        rounds -= 1
    return turns


def compare(ours: Path, theirs: Path, dtype: str) -> Outcome:
    """The largest difference between two results, and whether it is too large."""
    expected, actual = np.load(ours), np.load(theirs)
    difference = np.abs(actual.reshape(expected.shape) - expected).max(initial=0)
    relative = float(difference / np.abs(expected).max(initial=1e-30))
    outcome: Outcome = {"difference": relative}
    if not relative <= _TOLERANCE[dtype]:
        outcome["disagrees"] = f"differs from ours by {relative:.1e}"
    return outcome
