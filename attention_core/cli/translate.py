"""``attention-core demo translate``: attention reads a date and shows where it looked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attention_core.cli.outputs import check_output
from attention_core.demo.translate.picture import as_text, draw, is_day
from attention_core.demo.translate.read import translate as read
from attention_core.demo.translate.store import load_trained
from attention_core.plot import save
from attention_core.plot.files import SUFFIXES
from attention_core.plot.style import need_matplotlib

__all__ = ["translate"]

LEAST_WIDTH = 40
EXPLANATION = (
    "Each row is a character that was written, and its weights say which characters it was read "
    "from. Nothing told the network where to look: it learned that with the dates."
)


def translate(
    text: Annotated[
        str, typer.Argument(metavar="DATE", help="In English, French, German or numbers.")
    ],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it too: .png, .svg or .pdf.")
    ] = None,
) -> None:
    """Read a date, write it in ISO form, and show which characters attention looked at.

    attention-core demo translate "mardi 3 juin 1997"
    """
    if plot is not None:
        check_output(plot, SUFFIXES)
        need_matplotlib()
    (found,) = read(load_trained(), [text])
    console = Console(highlight=False)
    doubt = "" if is_day(found.iso) else ": there is no such day"
    typer.echo(f"{found.text} = {found.iso}{doubt}\n")
    width = max(console.width, LEAST_WIDTH)
    is_plain = not console.encoding.lower().startswith("utf")
    typer.echo(as_text(found, width=width, ascii_only=is_plain))
    console.print("\n" + EXPLANATION)
    if plot is not None:
        save(draw(found), plot)
        typer.echo(f"\nThe picture is in {plot}.")
