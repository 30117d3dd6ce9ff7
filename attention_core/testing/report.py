"""Checks that have a name, and the report of what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from textwrap import dedent, indent

from attention_core.errors import AttentionCoreError, OptionError, did_you_mean

__all__ = ["Check", "CheckError", "Outcome", "Report", "Status", "Violation", "run_checks"]


class Violation(Exception):
    """Evidence that a rule is broken, and the fix where it differs from the check's own."""

    def __init__(self, seen: str, fix: str | None = None) -> None:
        super().__init__(seen)
        self.fix = fix


class CheckError(AttentionCoreError, AssertionError):
    """A check that failed, or a report with failures; the message says what to fix."""


@dataclass(frozen=True, slots=True)
class Check:
    """One claim about a scorer or a plugin; calling it finds out whether it is true.

    Raises
    ------
    CheckError
        When it is not: with the name of the check, what was seen, and the fix.

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
    """The scorer or plugin that is checked, for messages."""
    claim: str
    """The rule, in one line."""
    fix: str
    """The fix where it is broken."""
    run: Callable[[], str | None] = field(repr=False)
    """Raises when the claim is not true; may return a note."""

    def __call__(self) -> str:
        """Check, and return a note on what there was to see, mostly an empty one."""
        try:
            return self.run() or ""
        except Violation as violation:
            raise self._error(str(violation), violation.fix) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also SystemExit: a scorer may raise anything
            notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
            raise self._error(f"{type(error).__name__}: {error}".strip() + notes) from error

    def _error(self, seen: str, fix: str | None = None) -> CheckError:
        seen = seen.replace("\n", "\n        ")
        return CheckError(
            f"check {self.name!r} of {self.subject}\n  seen: {seen}\n  fix:  {fix or self.fix}"
        )


class Status(StrEnum):
    """The end of a check, in the words of pytest."""

    PASSED = "passed"
    FAILED = "failed"
    XFAILED = "xfailed"
    """As was expected."""
    XPASSED = "xpassed"
    """Though it was expected to fail: the reason has gone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check."""

    check: Check
    status: Status
    detail: str = ""
    """A note, or the evidence and the fix, or the reason it was expected."""

    @property
    def is_failure(self) -> bool:
        """Whether somebody has to do something about it."""
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
        """The outcomes that need somebody: failures, and passes that were to be failures."""
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


def run_checks(
    checks: Iterable[Check], *, expected_failures: Mapping[str, str] | None = None
) -> Report:
    """Run every check, also after one has failed.

    Parameters
    ----------
    checks
        From `scorer_checks` or `plugin_checks`.
    expected_failures
        Names of checks that are known to fail, and the reason of each.

    Raises
    ------
    OptionError
        For an expected failure of no check, or without a reason.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import run_checks, scorer_checks
    >>> run_checks(scorer_checks(ac.make_scorer("dot"))).failures
    ()
    """
    chosen = tuple(checks)
    reasons = dict(expected_failures or {})
    check_reasons(reasons, [check.name for check in chosen])
    return Report(tuple(_outcome(check, reasons.get(check.name)) for check in chosen))


def check_reasons(reasons: Mapping[str, object], names: Iterable[str]) -> None:
    """Refuse expected failures that name no check, or give no reason."""
    known = list(names)
    for name, reason in reasons.items():
        if name not in known:
            raise OptionError(
                f"expected_failures: there is no check {name!r}{did_you_mean(name, known)}; "
                f"the checks are: {', '.join(known)}"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise OptionError(
                f"expected_failures: {name!r} needs a reason, a text for whoever reads it, "
                f"got {reason!r}"
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
    gone = f"expected to fail: {reason}\nfix:  take it out of expected_failures"
    return Outcome(check, Status.XPASSED, gone)
