"""The pictures of the performance page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.cases import CASES
from benchmarks.peers import PEERS

__all__ = ["draw_comparison", "draw_scaling"]

_NAMES = [name for name, peer in PEERS.items() if peer.instead is None]
_COLORS = dict(zip(_NAMES, [*mpl.color_sequences["tab10"], "black"], strict=True))
_MARKERS = dict(zip(_NAMES, "osPXD^v*<>p", strict=True))


def draw_comparison(results: dict[str, Any], path: Path) -> None:
    """Draw the time of each peer relative to ours, one line for each case."""
    rows = [
        (case, results["cases"][case.name])
        for case in CASES
        if case.name in results["cases"] and any(name in _NAMES for name in case.peers)
    ]
    figure = Figure(figsize=(9, 0.42 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color=_COLORS["ours"], linewidth=2, label="attention-core")
    for name in _NAMES[1:]:
        points = [
            (outcomes[name]["median"] / outcomes["ours"]["median"], place)
            for place, (_, outcomes) in enumerate(rows)
            if "median" in outcomes.get(name, {}) and "median" in outcomes["ours"]
        ]
        if points:
            style: dict[str, Any] = {"color": _COLORS[name], "marker": _MARKERS[name]}
            axes.plot(
                *zip(*points, strict=True), linestyle="none", **style, label=PEERS[name].title
            )
    axes.set_yticks(range(len(rows)), [case.title for case, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("time, as a multiple of attention-core's; to the left of the line is faster")
    axes.grid(axis="both", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def draw_scaling(results: dict[str, Any], path: Path) -> None:
    """Draw a column for each series, with time above memory."""
    series = results["series"]
    figure = Figure(figsize=(3 * len(series), 6), layout="constrained")
    grid = figure.subplots(2, len(series), sharex="col", sharey="row", squeeze=False)
    for column, each in zip(grid.T, series, strict=True):
        for name in ("ours", *each["peers"]):
            for axes, what, factor in zip(
                column, ("median", "extra_bytes"), (1e3, 2**-20), strict=True
            ):
                points = [
                    (point["size"], max(point["outcomes"][name][what] * factor, 0.1 * (factor < 1)))
                    for point in each["points"]
                    if point["outcomes"].get(name, {}).get(what) is not None
                ]
                if points:
                    style: dict[str, Any] = {"color": _COLORS[name], "marker": _MARKERS[name]}
                    axes.loglog(
                        *zip(*points, strict=True), **style, markersize=4, label=PEERS[name].title
                    )
        sizes = [point["size"] for point in each["points"]]
        for axes in column:
            axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=7)
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        column[0].set_title(each["title"], fontsize=8)
        column[1].set_xlabel(each["axis"])
    grid[0, 0].set_ylabel("ms")
    grid[1, 0].set_ylabel("MiB beyond inputs and output")
    lines = {line.get_label(): line for axes in grid[0] for line in axes.lines}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})
