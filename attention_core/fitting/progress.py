"""A progress line on stderr, for training and for the command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Report", "progress_line"]

_WIDTH = 30  # of the bar


class Report(Protocol):
    """A function of the amount done, the total if known, and a note."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        """Show it."""


@contextmanager
def progress_line(label: str, *, in_lines: bool = False) -> Iterator[Report]:
    """Yield a `Report`.

    A terminal shows one line, which is overwritten. Elsewhere, as in notebooks, pipes and log
    files, each report is a separate line with `in_lines`, and not shown without. Work that is done
    at its first report shows nothing.

    Examples
    --------
    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout), progress_line("learning", in_lines=True) as report:
    ...     report(1, 2, "loss 0.5")
    ...     report(2, 2, "loss 0.25")
    learning 1/2  loss 0.5
    learning 2/2  loss 0.25
    """
    stream = sys.stderr
    is_terminal = stream is not None and stream.isatty()  # None in windowed programs
    began, longest = time.monotonic(), 0

    def report(done: int, total: int | None = None, note: str = "") -> None:
        nonlocal longest
        if done == total and not longest:
            return
        count = f"{done}" if total is None else f"{done}/{total}"
        if not is_terminal:
            longest = 1
            if in_lines and stream is not None:
                stream.write(f"{label} {count}  {note}".rstrip() + "\n")
            return
        bar = "" if total is None else f" [{'#' * (_WIDTH * done // total):<{_WIDTH}}]"
        line = f"{label}{bar} {count}  {time.monotonic() - began:.0f} s  {note}".rstrip()
        longest = max(longest, len(line))
        stream.write(f"\r{line:<{longest}}")
        stream.flush()

    try:
        yield report
    finally:
        if is_terminal and longest:
            stream.write("\n")
