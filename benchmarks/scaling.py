"""Growth of time and memory with L, S and H; ``python -m benchmarks.scaling`` adds it to the page.

With ``--quick``, the table is printed and nothing is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import report
from benchmarks.machine import describe_machine
from benchmarks.measure import measure, pin
from benchmarks.problems import Problem

__all__ = ["SERIES", "Series", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A problem that grows in some of its sizes."""

    title: str
    problem: Problem
    axis: str
    """Sizes that grow together, such as ``L=S``."""
    sizes: tuple[int, ...]
    peers: tuple[str, ...]


_ADDITIVE = Problem(scorer="additive", L=512, S=512, D=64, H=64)
_SCALED_DOT = Problem(scorer="scaled_dot", L=2048, S=2048, D=64)

SERIES = (
    Series(
        title="additive, H=64",
        problem=_ADDITIVE,
        axis="L=S",
        sizes=(128, 256, 512, 1024, 2048, 4096),
        peers=("numpy", "torch", "torch_compile", "jax"),
    ),
    Series(
        title="additive, L=512, H=64",
        problem=_ADDITIVE,
        axis="S",
        sizes=(256, 512, 1024, 2048, 4096, 8192),
        peers=("numpy", "torch", "torch_compile", "jax"),
    ),
    Series(
        title="additive, L=S=512",
        problem=_ADDITIVE,
        axis="H",
        sizes=(16, 32, 64, 128, 256, 512),
        peers=("numpy", "torch", "torch_compile", "jax"),
    ),
    Series(
        title="scaled_dot",
        problem=_SCALED_DOT,
        axis="L=S",
        sizes=(256, 1024, 4096, 16384),
        peers=("numpy", "torch", "jax"),
    ),
    Series(
        title="scaled_dot, window (512, 0)",
        problem=replace(_SCALED_DOT, window=(512, 0)),
        axis="L=S",
        sizes=(1024, 4096, 16384, 65536),
        peers=(),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns, noisier numbers")
    options = parser.parse_args()
    pin()
    results = run(SERIES, seconds=0.5 if options.quick else 3)
    if options.quick:
        print(report.growth(results))
    else:
        report.save("scaling", results)
        report.write_page()


def run(series: Iterable[Series], *, seconds: float) -> dict[str, Any]:
    """The results to store: the machine and every point of every series."""
    results: dict[str, Any] = {"machine": describe_machine(), "series": []}
    for each in series:
        points = []
        for size in each.sizes:
            print(f"{each.title}, {each.axis}={size}", flush=True)
            sizes: dict[str, Any] = dict.fromkeys(each.axis.split("="), size)
            problem = replace(each.problem, **sizes)
            outcomes = measure(problem, each.peers, seconds=seconds)
            points.append({"size": size, "outcomes": outcomes})
        results["series"].append(
            {"title": each.title, "axis": each.axis, "peers": each.peers, "points": points}
        )
    return results


if __name__ == "__main__":
    main()
