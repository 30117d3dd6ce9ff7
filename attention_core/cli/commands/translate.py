"""``attention-core demo translate``: attention reads a date and shows its weights."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attention_core.cli.outputs import check_distinct, check_output
from attention_core.demo.translate.dates import samples
from attention_core.demo.translate.picture import as_page, as_text, draw, is_day
from attention_core.demo.translate.read import Translation
from attention_core.demo.translate.read import translate as read
from attention_core.demo.translate.store import load_trained
from attention_core.plot import save
from attention_core.plot.files import SUFFIXES
from attention_core.plot.style import need_matplotlib
from attention_core.plot.web.page import SUFFIXES as PAGE_SUFFIXES

__all__ = ["translate"]

LEAST_WIDTH = 40
EXPLANATION = (
    "Each row is a character that was written, and its weights show which characters it was read "
    "from. The network was not told where to look: it learned that with the dates."
)
UNSURE = (
    "This does not look like a date in a format that the network has learned, such as these; "
    "in numbers, the day comes before the month."
)
DAY = datetime.date(2024, 6, 12)


def translate(
    words: Annotated[
        list[str], typer.Argument(metavar="DATE", help="In English, French, German or numbers.")
    ],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it too: .png, .svg or .pdf.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A page to walk through the steps in a browser: .html."),
    ] = None,
) -> None:
    """Translate a date into ISO form, and show the attention of each character.

    The exit code is 1 if the result is a guess, or not a day of the calendar.

    attention-core demo translate "mardi 3 juin 1997"
    """
    if plot is not None:
        check_output(plot, SUFFIXES)
        need_matplotlib()
    if html is not None:
        check_output(html, PAGE_SUFFIXES)
    check_distinct({"--plot": plot, "--html": html})
    (found,) = read(load_trained(), [" ".join(words)])
    console = Console(highlight=False)
    typer.echo(f"{found.text} = {found.iso} ({_certainty(found)}){_doubt(found)}\n")
    width = max(console.width, LEAST_WIDTH)
    is_plain = not console.encoding.lower().startswith("utf")
    typer.echo(as_text(found, width=width, ascii_only=is_plain) + "\n")
    if found.is_sure:
        console.print(EXPLANATION)
    else:
        console.print(UNSURE + "\n")
        for language, dates in samples(DAY).items():
            typer.echo(f"  {language:9}{'; '.join(dates)}")
    if plot is not None:
        save(draw(found), plot)
        typer.echo(f"\nThe picture is in {plot}.")
    if html is not None:
        as_page(found, html)
        typer.echo(f"\nThe page is {html}.")
    if _doubt(found):
        raise typer.Exit(1)


def _certainty(found: Translation) -> str:
    """The certainty in percent, rounded down to at most 99."""
    return f"{min(int(100 * found.certainty), 99)}% certain"


def _doubt(found: Translation) -> str:
    """The reason to doubt an answer, or an empty string."""
    if not found.is_sure:
        return ": a guess"
    if is_day(found.iso):
        return ""
    swapped = f"{found.iso[:5]}{found.iso[8:]}-{found.iso[5:7]}"
    if not is_day(swapped):
        return ": there is no such day"
    year, day, month = found.iso[:4], found.iso[5:7], found.iso[8:]
    return f": there is no such day; {swapped} is written {day}/{month}/{year}"
