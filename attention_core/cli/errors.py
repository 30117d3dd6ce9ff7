"""How the command line fails: one message on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from attention_core.errors import AttentionCoreError

__all__ = ["Commands", "reported"]


class Commands(TyperGroup):
    """A group whose commands report expected errors; all others stay tracebacks, as bugs should."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        with reported():
            return super().invoke(ctx)


@contextmanager
def reported() -> Iterator[None]:
    """Turn bad input into ``error: ...`` and exit code 2, and warnings into ``warning: ...``."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # restored by the context
        try:
            yield
        except BrokenPipeError:
            raise  # whoever read our output has left: no error of ours
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), error)
        except (AttentionCoreError, MemoryError) as error:
            _fail(str(error), error)
        except Exception as error:
            if not (notes := getattr(error, "__notes__", None)):
                raise
            _fail(f"{notes[0]}: {error}", error)  # raised by a scorer or factory, which it names


def _fail(message: str, error: BaseException) -> None:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2) from error


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    sys.stderr.write(f"warning: {message}\n")
