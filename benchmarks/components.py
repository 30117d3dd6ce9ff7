"""Normalizers and biases compared with plain softmax: time, and memory of long calls.

``python -m benchmarks.components`` prints a table, and fails if a ratio or the memory is above its
limit. Softmax and the others take turns, and each time is the best of several, so ratios are more
reliable than times. Memory is the peak of Python's allocations, including the results.
"""

from __future__ import annotations

import argparse
import sys
import tracemalloc
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

import attention_core as ac

__all__ = ["CASES", "Case", "main", "memory", "times"]

FEATURES = 64
MOST_MEMORY = 64.0  # MiB


class Case(NamedTuple):
    """Options of a call, and the largest allowed ratio of its forward time to that of softmax."""

    options: dict[str, Any]
    at_most: float = float("inf")


CASES = {
    "softmax": Case({}, 1.0),
    "softmax with a sink": Case({"normalizer": {"name": "softmax", "sink": 0.5}}, 1.02),
    "sigmoid": Case({"normalizer": {"name": "sigmoid", "offset": -7.6}}, 1.1),
    "sparsemax": Case({"normalizer": "sparsemax"}, 4.0),
    "entmax": Case({"normalizer": "entmax"}, 4.0),
    "alibi": Case({"bias": {"name": "alibi", "slopes": 0.1}}),
    "relative": Case({"bias": {"name": "relative", "max_distance": 64}}),
    "t5": Case({"bias": "t5"}),
}


def arrays(length: int) -> Any:
    """Query, key and value in float32: (3, L, 64)."""
    return np.random.default_rng(0).standard_normal((3, length, FEATURES), np.float32)


def times(length: int, turns: int) -> dict[str, tuple[float, float]]:
    """The seconds of each case, forward and backward."""
    inputs = arrays(length)
    best = dict.fromkeys(CASES, (np.inf, np.inf))
    for _ in range(turns):
        for name, case in CASES.items():
            start = perf_counter()
            result = ac.attend(*inputs, scorer="scaled_dot", **case.options)
            middle = perf_counter()
            result.vjp(inputs[2])
            forward, backward = best[name]
            best[name] = min(forward, middle - start), min(backward, perf_counter() - middle)
    return best


def memory(length: int, name: str) -> tuple[float, float]:
    """The peak memory of a case in MiB, forward and backward."""
    inputs = arrays(length)
    tracemalloc.start()
    try:
        result = ac.attend(*inputs, scorer="scaled_dot", **CASES[name].options)
        forward = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        result.vjp(inputs[2])
        return forward / 2**20, tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def main(arguments: list[str] | None = None) -> None:
    """Measure every case, and print a table."""
    parser = argparse.ArgumentParser(description="Normalizers and biases compared with softmax.")
    parser.add_argument("--length", type=int, default=2048, help="L and S, for times")
    parser.add_argument("--long", type=int, default=16384, help="L and S, for memory")
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args(arguments)
    found = times(options.length, options.turns)
    base, above = found["softmax"], []
    print(f"{'':<20} forward backward   (times of softmax)      MiB forward backward")
    for name, (forward, backward) in found.items():
        ratios = forward / base[0], backward / base[1]
        peaks = memory(options.long, name)
        if ratios[0] > CASES[name].at_most or max(peaks) > MOST_MEMORY:
            above.append(name)
        print(
            f"{name:<20} {ratios[0]:7.2f} {ratios[1]:8.2f} {'':28} {peaks[0]:11.1f} {peaks[1]:8.1f}"
        )
    if above:
        sys.exit(f"above its limit: {', '.join(above)}")


if __name__ == "__main__":
    main()
