"""``attention-core demo``: attention reads handwritten digits; ``demo translate`` reads dates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attention_core.cli.commands.digits import show_look, show_table
from attention_core.cli.commands.translate import translate
from attention_core.cli.outputs import check_distinct, check_output
from attention_core.cli.plugins import stdout_for_us
from attention_core.demo.classify import ROWS, Look, Outcome, classify, look
from attention_core.demo.digits import load_digits
from attention_core.demo.page import digits_page
from attention_core.errors import OptionError
from attention_core.files.atomic import replacing
from attention_core.plot.web.page import SUFFIXES as PAGE_SUFFIXES

__all__ = ["app", "demo"]

app = typer.Typer()
app.command("translate")(translate)

SCORER, QUERY = "additive", 372
"""The query shown in detail: a 9 that attends to a 5 as well."""

INTRODUCTION = (
    "1,200 images with known labels are the [bold]keys[/], their labels the [bold]values[/]; "
    "597 other images are the [bold]queries[/]. A scorer measures the similarity of a query and "
    "a key. Softmax turns the 1,200 scores of a query into [bold]weights[/] that add up to 1. "
    "The sum of the values, each times its weight, is the [bold]context[/]: the total weight of "
    "each label. The label with the largest weight is the answer."
)
NOTE = (
    "Pixels range from 0 to 1. The matrix of general is half the inverse covariance of the keys, "
    "whose mean is subtracted; the units of additive are random directions. The learned rows were "
    "trained on the keys alone, by reading each with all others; nothing else was trained."
)


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    save: Annotated[
        Path | None, typer.Option(help="Draw it as a picture too: .png, .svg or .pdf.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="A page to explore some digits in a browser: .html.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the table as JSON, and nothing else.")
    ] = False,
) -> None:
    """Read handwritten digits by attention, with four scorers; `translate` reads dates."""
    if context.invoked_subcommand is not None:
        if save is not None or html is not None or as_json:
            raise OptionError(
                "--save, --html and --json before translate belong to the digits; "
                "see `attention-core demo translate --help`"
            )
        return
    if save is not None:
        check_output(save, (".png", ".svg", ".pdf"))
    if html is not None:
        check_output(html, PAGE_SUFFIXES)
    check_distinct({"--save": save, "--html": html})
    digits = load_digits()
    with stdout_for_us():  # the first name loads the plugins
        outcomes = [classify(row, digits) for row in ROWS]
    chosen = next(outcome for outcome in outcomes if outcome.scorer == SCORER)
    closer = look(chosen, digits, QUERY)
    if save is not None:
        _save(save, outcomes, chosen, closer)
    if html is not None:
        digits_page(chosen, digits, QUERY, html)
    if as_json:
        typer.echo(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2))
        return
    console = Console(highlight=False)
    console.print("[bold]Attention reads handwritten digits[/]\n")
    console.print(INTRODUCTION + "\n")
    show_table(console, outcomes)
    console.print("\n" + NOTE)
    console.print(
        f"\nA closer look at one query, with the scorer [bold]{SCORER}[/]: the five keys with the "
        f"largest weights.\n"
    )
    show_look(console, closer)
    if save is not None:
        console.print(f"\nThe picture is in {save}.", soft_wrap=True)
    if html is not None:
        console.print(f"\nThe page is {html}.", soft_wrap=True, markup=False)


def _as_json(outcome: Outcome) -> dict[str, str | float]:
    return {
        "scorer": outcome.scorer,
        "learned": outcome.learned,
        "accuracy": round(outcome.accuracy, 4),
        "milliseconds": round(outcome.milliseconds, 3),
    }


def _save(path: Path, outcomes: list[Outcome], chosen: Outcome, closer: Look) -> None:
    from attention_core.demo.picture import draw  # only pictures need matplotlib

    figure = draw(outcomes, chosen, closer)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])
