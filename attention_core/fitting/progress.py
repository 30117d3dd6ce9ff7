"""A progress bar on stderr for what takes many iterations: with rich, or plainly without it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["iterations"]

Report = Callable[[int, float], None]


@contextmanager
def iterations(label: str, total: int | None) -> Iterator[Report]:
    """Yield a function to call with the number of an iteration and the loss after it.

    Nothing is shown where stderr is neither a terminal nor a notebook.
    """
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )
    except ImportError:
        with _plainly(label, total) as report:
            yield report
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
    )
    is_shown = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, disable=not is_shown) as bar:
        task = bar.add_task(label, total=total, loss="-")

        def report_to_bar(done: int, loss: float) -> None:
            bar.update(task, completed=done, loss=f"{loss:.4g}")

        yield report_to_bar


@contextmanager
def _plainly(label: str, total: int | None) -> Iterator[Report]:
    """One line that is written over."""
    is_shown = sys.stderr.isatty()
    of = "" if total is None else f"/{total}"

    def report(done: int, loss: float) -> None:
        if is_shown:
            sys.stderr.write(f"\r{label} {done}{of}  loss {loss:<12.4g}")
            sys.stderr.flush()

    try:
        yield report
    finally:
        if is_shown:
            sys.stderr.write("\n")
