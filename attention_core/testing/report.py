"""Checks, and the report of their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from textwrap import dedent, indent
from typing import Any

from attention_core.arguments import checked_arguments
from attention_core.errors import (
    INTERRUPTS,
    AttentionCoreError,
    OptionError,
    OptionTypeError,
    did_you_mean,
    message_of,
    shown,
)

__all__ = ["Check", "CheckError", "Outcome", "Report", "Status", "Violation", "run_checks"]


class Violation(Exception):
    """Evidence of a violated rule, and the fix if it differs from that of the check."""

    def __init__(self, seen: str, fix: str | None = None) -> None:
        super().__init__(seen)
        self.fix = fix


class CheckError(AttentionCoreError, AssertionError):
    """A failed check, or a report with failures; the message says what to fix."""


@dataclass(frozen=True, slots=True)
class Check:
    """A claim about a component or a plugin, and a function that checks it.

    Raises
    ------
    CheckError
        If the claim is false; the message has the name of the check, the evidence and the fix.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import scorer_checks
    >>> check, *_ = scorer_checks(ac.make_scorer("dot"))
    >>> check.name, check.claim
    ('shape', 'scores have shape (..., L, S), also for one query or one key')
    >>> check()
    ''
    """

    name: str
    """The name, such as ``tiles``; ``rbf.tiles`` in the checks of a plugin."""
    subject: str
    """The component or plugin that is checked, for messages."""
    claim: str
    """The rule, in one line."""
    fix: str
    """The fix for a violation."""
    run: Callable[[], str | None] = field(repr=False)
    """A function that raises if the claim is false, and may return a note."""

    def __call__(self) -> str:
        """Check the claim, and return a note, which is usually empty."""
        try:
            return self.run() or ""
        except Violation as violation:
            raise self._error(str(violation), violation.fix) from None
        except INTERRUPTS:
            raise
        except BaseException as error:  # even SystemExit: a scorer may raise anything
            notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
            raise self._error(
                f"{type(error).__name__}: {message_of(error)}".strip() + notes
            ) from error

    def _error(self, seen: str, fix: str | None = None) -> CheckError:
        seen = seen.replace("\n", "\n        ")
        return CheckError(
            f"check {self.name!r} of {self.subject}\n  seen: {seen}\n  fix:  {fix or self.fix}"
        )


class Status(StrEnum):
    """The status of a check, named as in pytest."""

    PASSED = "passed"
    FAILED = "failed"
    XFAILED = "xfailed"
    """Failed, as expected."""
    XPASSED = "xpassed"
    """Passed, but was expected to fail."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check."""

    check: Check
    status: Status
    detail: str = ""
    """A note, or the evidence and the fix, or the reason for an expected failure."""

    @property
    def is_failure(self) -> bool:
        """Whether the check failed, or passed unexpectedly."""
        return self.status in (Status.FAILED, Status.XPASSED)

    def line(self, width: int) -> str:
        """The outcome with its detail, the name of the check padded to a width."""
        status = self.status.upper() if self.is_failure else self.status
        line = f"  {status:<8} {self.check.name:<{width}}  {self.check.claim}"
        if self.status is Status.PASSED:
            return line + (f" ({self.detail})" if self.detail else "")
        return f"{line}\n{indent(self.detail, ' ' * 11)}"


@dataclass(frozen=True, slots=True)
class Report:
    """The outcomes of some checks, readable when printed.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import run_checks, scorer_checks
    >>> report = run_checks(scorer_checks(ac.make_scorer("dot")))
    >>> report.ok
    True
    """

    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The failures, and the unexpected passes."""
        return tuple(outcome for outcome in self.outcomes if outcome.is_failure)

    @property
    def ok(self) -> bool:
        """Whether there are no failures."""
        return not self.failures

    def summary(self) -> str:
        """The number of checks for each status, in one line."""
        statuses = [outcome.status for outcome in self.outcomes]
        counts = [(statuses.count(status), status) for status in Status]
        return ", ".join(f"{count} {status}" for count, status in counts if count) or "no checks"

    def __str__(self) -> str:
        width = max((len(outcome.check.name) for outcome in self.outcomes), default=0)
        lines: list[str] = []
        for subject, outcomes in groupby(self.outcomes, lambda outcome: outcome.check.subject):
            lines += [subject, *(outcome.line(width) for outcome in outcomes), ""]
        return "\n".join([*lines, self.summary()])


@checked_arguments
def run_checks(
    checks: Iterable[Check], *, expected_failures: Mapping[str, str] | None = None
) -> Report:
    """Run all checks, even if some fail.

    Parameters
    ----------
    checks
        From `scorer_checks` or `plugin_checks`.
    expected_failures
        The checks that are known to fail, with a reason for each.

    Raises
    ------
    OptionError
        If an expected failure has no reason, or its check is unknown.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import run_checks, scorer_checks
    >>> run_checks(scorer_checks(ac.make_scorer("dot"))).failures
    ()
    """
    chosen: tuple[Any, ...] = tuple(checks) if hasattr(checks, "__iter__") else (checks,)
    for check in chosen:
        if not isinstance(check, Check):
            raise OptionTypeError(
                f"checks must be those of scorer_checks or plugin_checks, got {shown(check)}"
            )
    reasons = {} if expected_failures is None else expected_failures
    check_reasons(reasons, [check.name for check in chosen])
    return Report(tuple(_outcome(check, reasons.get(check.name)) for check in chosen))


def check_reasons(reasons: Mapping[str, object], names: Iterable[str]) -> None:
    """Refuse expected failures of unknown checks, or without a reason."""
    known = list(names)
    if not isinstance(reasons, Mapping):
        raise OptionTypeError(
            f"expected_failures must be a mapping of checks to reasons, got {shown(reasons)}"
        )
    for name, reason in reasons.items():
        if name not in known:
            raise OptionError(
                f"expected_failures: there is no check {name!r}{did_you_mean(name, known)}; "
                f"the checks are: {', '.join(known)}"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise OptionError(
                f"expected_failures: {name!r} needs a reason, as text, got {reason!r}"
            )


def _outcome(check: Check, reason: str | None) -> Outcome:
    try:
        note = check()
    except CheckError as error:
        if reason is None:
            return Outcome(check, Status.FAILED, dedent(str(error).partition("\n")[2]))
        return Outcome(check, Status.XFAILED, f"expected: {reason}")
    if reason is None:
        return Outcome(check, Status.PASSED, note)
    gone = f"expected to fail: {reason}\nfix:  remove it from expected_failures"
    return Outcome(check, Status.XPASSED, gone)
