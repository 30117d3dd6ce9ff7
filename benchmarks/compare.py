"""Compare attention-core with its peers and write the page: ``python -m benchmarks.compare``.

With ``--case NAME`` or ``--quick`` the tables are printed and nothing is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from benchmarks import report
from benchmarks.cases import CASES, Case
from benchmarks.machine import describe_machine
from benchmarks.measure import measure, pin


def main() -> None:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument(
        "--case", action="append", choices=names, help="measure only this case; repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="fewer turns, noisier numbers")
    options = parser.parse_args()
    pin()
    cases = [case for case in CASES if not options.case or case.name in options.case]
    results = run(cases, seconds=3 if options.quick else 20)
    if options.quick or options.case:
        print(report.comparison(results))
    else:
        report.save("compare", results)
        report.write_page()


def run(cases: Iterable[Case], *, seconds: float) -> dict[str, Any]:
    """The results to store: the machine, and the outcome of each peer in each case."""
    results: dict[str, Any] = {"machine": describe_machine(), "cases": {}}
    for case in cases:
        print(case.title, flush=True)
        outcomes = measure(case.problem, case.peers, seconds=seconds)
        results["cases"][case.name] = outcomes
        for name, outcome in outcomes.items():
            print(f"  {name:14} {report.summary(outcome)}", flush=True)
    return results


if __name__ == "__main__":
    main()
