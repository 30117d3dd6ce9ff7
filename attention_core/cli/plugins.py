"""Plugins, kept from writing into the output of commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

__all__ = ["stdout_for_us"]


@contextmanager
def stdout_for_us() -> Iterator[None]:
    """Send to stderr what plugins print as they are loaded, whether from Python or not.

    Only then is the output of a command JSON and nothing else.
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
