"""Failures of the command line: one message on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from typer.core import TyperGroup

from attention_core.errors import INTERRUPTS, AttentionCoreError, Stopped, message_of, printable

__all__ = ["Commands", "Stopped", "reported"]


class Commands(TyperGroup):
    """A group whose commands report expected errors; others are bugs and stay tracebacks."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, and flush its output."""
        with reported():
            try:
                return super().main(*args, **kwargs)
            finally:
                sys.stdout.flush()  # here, where a full disk can still be reported

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        with reported():
            try:
                return super().invoke(ctx)
            except Stopped:
                raise
            except SystemExit as error:  # commands end with typer.Exit
                _fail(f"a scorer or a plugin ended the process: sys.exit({error.code!r})")


@contextmanager
def reported() -> Iterator[None]:
    """Turn bad input into ``error: ...`` and exit code 2, and warnings into ``warning: ...``."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # restored by the context
        try:
            yield
        except BrokenPipeError:  # the reader of our output has exited, which is not an error
            _discard_output()
            sys.exit(1)
        except OSError as error:
            _discard_output()
            _fail(
                f"{printable(str(error.filename), 300)}: {error.strerror}"
                if error.filename
                else str(error)
            )
        except (AttentionCoreError, MemoryError) as error:
            _fail(str(error) or type(error).__name__)
        except (*INTERRUPTS, SystemExit):
            raise
        except BaseException as error:
            if not (notes := getattr(error, "__notes__", None)):
                raise
            _fail(f"{notes[0]}: {message_of(error)}")  # raised by a scorer or factory


def _fail(message: str) -> NoReturn:
    _write_error(f"error: {printable(message)}\n")
    sys.exit(2)


def _write_error(text: str) -> None:
    with suppress(OSError):  # stderr may be full, too
        sys.stderr.write(text)
        sys.stderr.flush()


def _discard_output() -> None:
    """Discard further output to stdout, which would fail again as Python exits."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _write_error(f"warning: {printable(str(message))}\n")
