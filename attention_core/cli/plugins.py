"""Protection of the output of commands from plugins that print."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

__all__ = ["stdout_for_us"]


@contextmanager
def stdout_for_us() -> Iterator[None]:
    """Send everything that plugins print while they are loaded to stderr, even from C.

    The output of a command can then be pure JSON.
    """
    with redirect_stdout(sys.stderr):
        try:
            kept = os.dup(1)
        except OSError:  # stdout is closed
            yield
            return
        try:
            _flush()
            os.dup2(2, 1)
            yield
        finally:
            _flush()
            os.dup2(kept, 1)
            os.close(kept)


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.__stdout__.flush()  # type: ignore[union-attr]  # None where there is no console
