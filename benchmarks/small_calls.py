"""Ten small calls compared with plain NumPy: the overhead of a call.

``python -m benchmarks.small_calls`` prints a table, and fails if a ratio is above its limit, which
is about 1.7 times the measured one: where other machines share the caches of a core, Python takes
up to 1.6 times as long, for minutes, and NumPy's few operations as long as before. Our calls and
NumPy's take turns in one process, and each time is the best of many short turns, so ratios are more
reliable than times. A case above its limit is measured up to twice again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

import attention_core as ac

__all__ = ["Case", "main", "make_cases", "measured"]

Call = Callable[[], Any]

TURNS, LEAST_TURN = 30, 2e-3  # seconds
TRIES = 3


class Case(NamedTuple):
    """Two calls with the same result, and their limit."""

    name: str
    ours: Call
    plain: Call
    at_most: float
    """The largest allowed ratio of our time to NumPy's."""


def plain(query: Any, key: Any, value: Any, mask: Any = None, scale: float = 1.0) -> Any:
    """Attention in a line of NumPy."""
    scores = query @ key.swapaxes(-1, -2) * scale  # (..., L, S)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights @ value


def arrays(*shape: int, queries: int = 1, keys: int = 64, dim: int = 64) -> tuple[Any, Any, Any]:
    """A query, keys and values in float32."""
    rng = np.random.default_rng(0)
    query = rng.standard_normal((*shape, queries, dim), np.float32)
    key, value = rng.standard_normal((2, *shape, keys, dim), np.float32)
    return query, key, value


def make_cases() -> list[Case]:
    """All cases, with their arrays."""
    step, tiny, heads = arrays(), arrays(queries=4, keys=4, dim=4), arrays(8, queries=16, keys=16)
    batch = arrays(4, queries=1, keys=32)
    causal = ac.Attention("scaled_dot", is_causal=True)
    configured = ac.Attention("scaled_dot")
    query, key, value = step
    memory = configured.memory(key, value)
    mask = np.arange(64) < 40
    lower = np.tri(16, dtype=bool)
    first = np.tri(1, 64, dtype=bool)
    result = ac.attend(*tiny, scorer="dot")
    grad = np.ones_like(result.context)
    scale, small_scale = 0.125, 0.5

    def plain_gradients() -> Any:
        q, k, v = tiny
        scores = q @ k.T
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        grad_weights = grad @ v.T
        grad_scores = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdims=True))
        return grad_scores @ k, grad_scores.T @ q, weights.T @ grad

    return [
        Case("4 x 4, by name", lambda: ac.attend(*tiny, scorer="scaled_dot").context,
             lambda: plain(*tiny, scale=small_scale), 4.6),
        Case("1 x 64, by name", lambda: ac.attend(*step, scorer="scaled_dot").context,
             lambda: plain(*step, scale=scale), 5.0),
        Case("1 x 64, configured", lambda: configured(*step).context,
             lambda: plain(*step, scale=scale), 4.6),
        Case("1 x 64, causal", lambda: causal(*step).context,
             lambda: plain(*step, mask=first, scale=scale), 6.5),
        Case("1 x 64, masked", lambda: configured(*step, mask=mask).context,
             lambda: plain(*step, mask=mask, scale=scale), 8.0),
        Case("1 x 64, from a memory", lambda: configured(query, memory).context,
             lambda: plain(*step, scale=scale), 4.2),
        Case("4 x 1 x 32, a batch of steps", lambda: configured(*batch).context,
             lambda: plain(*batch, scale=scale), 5.2),
        Case("8 x 16 x 16, heads", lambda: configured(*heads).context,
             lambda: plain(*heads, scale=scale), 3.5),
        Case("8 x 16 x 16, causal heads", lambda: causal(*heads).context,
             lambda: plain(*heads, mask=lower, scale=scale), 5.0),
        Case("4 x 4, gradients", lambda: result.vjp(grad).query,
             lambda: plain_gradients()[0], 22.0),
    ]  # fmt: skip


def measured(case: Case, turns: int = TURNS) -> tuple[float, float]:
    """The seconds of one call of ours and of one call of NumPy's."""
    best = []
    counts = []
    for call in (case.ours, case.plain):
        call()
        start = perf_counter()
        call()
        counts.append(max(1, int(LEAST_TURN / (perf_counter() - start))))
        best.append(float("inf"))
    for _ in range(turns):
        for index, call in enumerate((case.ours, case.plain)):
            start = perf_counter()
            for _ in range(counts[index]):
                call()
            best[index] = min(best[index], (perf_counter() - start) / counts[index])
    return best[0], best[1]


def main(arguments: list[str] | None = None) -> None:
    """Print the table.

    Raises
    ------
    SystemExit
        If cases are above their limits; the message names them.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS)
    turns = parser.parse_args(arguments).turns
    print("| call | ours | NumPy | ratio | at most |\n| --- | --- | --- | --- | --- |")
    slower = []
    for case in make_cases():
        for _ in range(TRIES):
            ours, numpy = measured(case, turns)
            if ours <= case.at_most * numpy:
                break
        else:
            slower.append(case.name)
        times = f"{ours * 1e6:.1f} µs | {numpy * 1e6:.1f} µs | {ours / numpy:.2f}"
        print(f"| {case.name} | {times} | {case.at_most} |")
    if slower:
        sys.exit(f"above their limits: {'; '.join(slower)}")


if __name__ == "__main__":
    main()
