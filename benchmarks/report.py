"""Write the performance page from stored results: ``python -m benchmarks.report``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, Case
from benchmarks.peers import PEERS

__all__ = ["PAGE", "comparison", "filled", "growth", "save", "summary", "write_page"]

_ROOT = Path(__file__).parents[1]
_RESULTS = _ROOT / "benchmarks" / "results"
PAGE = _ROOT / "docs" / "performance.md"
_IMAGES = _ROOT / "docs" / "images"

Results = dict[str, Any]
Outcome = dict[str, Any]


def save(name: str, results: Results) -> None:
    """Store results, so that the page can be written without new measurements."""
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")


def load(name: str) -> Results | None:
    path = _RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_page() -> None:
    """Replace the text between the page's markers, and its pictures."""
    from benchmarks import plots  # needs matplotlib

    PAGE.write_text(filled(PAGE.read_text()))
    if results := load("compare"):
        plots.draw_comparison(results, _IMAGES / "performance.png")
    if results := load("scaling"):
        plots.draw_scaling(results, _IMAGES / "performance-scaling.png")


def filled(page: str) -> str:
    """The page with the stored results between its markers."""
    for name, text in (("compare", comparison), ("scaling", growth)):
        if results := load(name):
            page = _between(page, name, text(results))
    return page


def _between(page: str, name: str, text: str) -> str:
    pattern = rf"(<!-- {name}: begin.*?-->\n).*?(<!-- {name}: end -->)"
    return re.sub(pattern, lambda found: f"{found[1]}\n{text}\n{found[2]}", page, flags=re.DOTALL)


def comparison(results: Results) -> str:
    """The tables of a run of `benchmarks.compare`, in Markdown."""
    cases = [(case, results["cases"][case.name]) for case in CASES if case.name in results["cases"]]
    return "\n\n".join(
        section
        for section in (
            machine(results),
            "### Limits\n\n" + table(_promises(cases)),
            "### Times\n\n" + table(_grid(cases, "median")),
            "### Memory beyond inputs and output\n\n" + table(_grid(cases, "extra_bytes")),
        )
    )


def machine(results: Results) -> str:
    """The machine, and the versions of the peers."""
    facts = [f"- {name}: {fact}" for name, fact in results["machine"].items()]
    versions: dict[str, str | None] = {}
    missing: dict[str, str | None] = {}
    for outcomes in results["cases"].values():
        for name, outcome in outcomes.items():
            if PEERS[name].instead is None:
                versions[name] = outcome.get("version", versions.get(name))
                missing[name] = outcome.get("absent")
    for name, version in versions.items():
        facts.append(f"- {PEERS[name].title}: {version or f'absent ({missing[name]})'}")
    return "\n".join(facts)


def _promises(cases: Iterable[tuple[Case, Results]]) -> Iterator[list[str]]:
    yield ["case", "against", "ours", "theirs", "ours / theirs", "at most", ""]
    for case, outcomes in cases:
        ours = outcomes["ours"]
        for limit in case.limits:
            times = {
                name: outcomes[name]["median"]
                for name in limit.peers
                if "median" in outcomes.get(name, {})
            }
            if "median" not in ours or not times:
                yield [case.title, *["-"] * 4, f"{limit.at_most}", "not measured"]
                continue
            fastest = min(times, key=lambda name: times[name])
            ratio = ours["median"] / times[fastest]
            yield [
                case.title,
                PEERS[fastest].title,
                duration(ours["median"]),
                duration(times[fastest]),
                f"{ratio:.2f}",
                f"{limit.at_most:.2f}",
                "met" if ratio <= limit.at_most else "**missed**",
            ]
        if case.memory_limit is not None and ours.get("extra_bytes") is not None:
            yield [
                f"{case.title}: extra memory",
                "",
                size(ours["extra_bytes"]),
                "",
                "",
                f"{case.memory_limit:.0f} MiB",
                "met" if ours["extra_bytes"] <= case.memory_limit * 2**20 else "**missed**",
            ]


def _grid(cases: Iterable[tuple[Case, Results]], what: str) -> Iterator[list[str]]:
    """The rows of the cases, with a column for each peer; the best is bold."""
    cases = [(case, outcomes) for case, outcomes in cases if _others(case)]
    names = [
        name
        for name in PEERS
        if any(name in outcomes for _, outcomes in cases) and PEERS[name].instead is None
    ]
    yield ["", *(PEERS[name].title for name in names)]
    for case, outcomes in cases:
        known = [o[what] for o in outcomes.values() if o.get(what) is not None]
        row = []
        for name in names:
            outcome = outcomes.get(name, {})
            value = outcome.get(what)
            if value is None:
                row.append(problem(outcome))
                continue
            text = duration(value) if what == "median" else size(value)
            row.append(f"**{text}**" if what == "median" and value == min(known) else text)
        yield [case.title + (f" ({case.remark})" if case.remark else ""), *row]


def _others(case: Case) -> bool:
    return any(PEERS[name].instead is None for name in case.peers)


def growth(results: Results) -> str:
    """The table of a run of `benchmarks.scaling`."""
    rows = [["", "size", "time", "extra memory"]]
    for series in results["series"]:
        for point in series["points"]:
            ours = point["outcomes"]["ours"]
            rows.append(
                [
                    series["title"],
                    f"{series['axis']}={point['size']:,}",
                    duration(ours["median"]) if "median" in ours else problem(ours),
                    size(ours["extra_bytes"]) if ours.get("extra_bytes") is not None else "-",
                ]
            )
    return table(rows)


def summary(outcome: Outcome) -> str:
    """The outcome of one peer in one case, as short text."""
    if "median" not in outcome:
        return problem(outcome)
    memory = outcome.get("extra_bytes")
    return f"{duration(outcome['median'])}" + ("" if memory is None else f", {size(memory)}")


def problem(outcome: Outcome) -> str:
    """The reason for a missing number."""
    for reason in ("absent", "failed", "disagrees"):
        if reason in outcome:
            return reason
    return "-"


def duration(seconds: float) -> str:
    """A duration with three digits and a unit."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError("unreachable")


def size(count: float) -> str:
    """A size in MiB, or in GiB if it is large."""
    mebibytes = count / 2**20
    if mebibytes < 0.1:
        return "< 0.1 MiB"
    return f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:.3g} MiB"


def table(rows: Iterable[list[str]]) -> str:
    """Rows as a Markdown table; the first is the heading."""
    first, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (first, ["---"] * len(first), *rest))


if __name__ == "__main__":
    write_page()
