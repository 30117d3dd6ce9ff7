"""A pytest plugin that finds tests that are skipped in every environment.

One run records the tests that it skips, with ``--skips-to FILE``. A run in a complete environment
then runs slow tests and those, with ``--slow-and FILE``, and fails if it skips one, with
``--no-skips``.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the three options."""
    group = parser.getgroup("skips")
    group.addoption("--skips-to", type=Path, help="write the names of skipped tests to a file")
    group.addoption("--slow-and", type=Path, help="run slow tests and those named in a file")
    group.addoption("--no-skips", action="store_true", help="fail when a test is skipped")


def pytest_configure(config: pytest.Config) -> None:
    """Collect skipped tests, in the process that sees every test."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Skips(config), "gathered-skips")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that are neither slow nor named."""
    path = config.getoption("--slow-and")
    if path is None:
        return
    named = set(path.read_text("utf-8").splitlines())
    kept, left_out = [], []
    for item in items:
        file = item.nodeid.partition("::")[0]  # a file that is skipped as a whole is named alone
        is_kept = item.get_closest_marker("slow") or {item.nodeid, file} & named
        (kept if is_kept else left_out).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


class _Skips:
    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._hear(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._hear(report)

    def _hear(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            why = report.longrepr
            self.skipped[report.nodeid] = str(why[2] if isinstance(why, tuple) else why)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        path = self.config.getoption("--skips-to")
        if path is not None:
            path.write_text("".join(f"{name}\n" for name in sorted(self.skipped)), "utf-8")
        if self.config.getoption("--no-skips") and self.skipped:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.config.getoption("--no-skips") and self.skipped:
            terminalreporter.section("skipped in every environment")
            for name, why in sorted(self.skipped.items()):
                terminalreporter.line(f"{name}: {why}")
