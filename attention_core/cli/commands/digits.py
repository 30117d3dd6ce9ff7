"""The digits of the demonstration in a terminal: a table, and the attention of one query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from attention_core.demo.classify import Look, Outcome

__all__ = ["draw_digit", "show_look", "show_table"]

SHADES = " ░▒▓█"
ASCII_SHADES = " .+#@"
BAR = 24


def show_table(console: Console, outcomes: Iterable[Outcome]) -> None:
    """Print one line per scorer."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("scorer", no_wrap=True)
    table.add_column("formula")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    for outcome in outcomes:
        table.add_row(
            Text(outcome.scorer, style="bold"),
            Text("the same, learned" if outcome.learned else outcome.formula),
            f"{outcome.accuracy:.3f}",
            f"{outcome.milliseconds:.1f}",
        )
    console.print(table)


def show_look(console: Console, look: Look) -> None:
    """Print the query next to the keys it attends to most, then the context: one bar per label."""
    cells = [_cell(console, look.query, "query", "", is_bold=True)]
    for image, label, weight in zip(look.keys, look.labels, look.weights, strict=True):
        cells.append(
            _cell(console, image, f"{weight:.3f}", f"a {label}", is_bold=label == look.answer)
        )
    console.print(_grid(console, cells))
    console.print("The weights of all 1,200 keys, added up by label, are the context:\n")
    console.print(_bars(console, look.context))
    verdict = "and is one" if look.answer == look.truth else f"but is a {look.truth}"
    console.print(f"\nSo the query is read as a [bold]{look.answer}[/], {verdict}.")


def draw_digit(console: Console, image: NDArray[np.uint8]) -> Text:
    """An image of ink from 0 to 16 as text: half blocks in grays, or shades without color."""
    if _has_grays(console):
        return Text("\n").join(map(_half_blocks, image[::2], image[1::2]))
    shades = SHADES if _has_blocks(console) else ASCII_SHADES
    level = (image.astype(int) * len(shades) - 1).clip(0) // 16  # (8, 8): 0 .. len(shades) - 1
    # a character is about twice as tall as wide: two of them make a square pixel
    return Text("\n".join("".join(shades[i] * 2 for i in row) for row in level))


def _half_blocks(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> Text:
    line = Text()
    for top, bottom in zip(upper, lower, strict=True):
        line.append("▀", Style(color=_gray(top), bgcolor=_gray(bottom)))
    return line


def _gray(ink: int) -> Color:
    level = round(24 + 231 * int(ink) / 16)
    return Color.from_rgb(level, level, level)


def _cell(
    console: Console, image: NDArray[np.uint8], *captions: str, is_bold: bool
) -> RenderableType:
    lines = [Text(caption, "bold" if is_bold else "") for caption in captions]
    return Group(draw_digit(console, image), *lines, "")


def _grid(console: Console, cells: Sequence[RenderableType]) -> Table:
    """All cells in one row if they fit, and in equal rows if not."""
    width = 8 if _has_grays(console) else 16
    gap = 2
    fit = max(1, (console.width + gap) // (width + gap))
    columns = next(n for n in (6, 3, 2, 1) if n <= fit)
    grid = Table.grid(padding=(0, gap, 0, 0))
    for _ in range(columns):
        grid.add_column(width=width)
    for start in range(0, len(cells), columns):
        grid.add_row(*cells[start : start + columns])
    return grid


def _bars(console: Console, context: NDArray[np.floating]) -> Table:
    """The context: one bar per label."""
    full = "█" if _has_blocks(console) else "#"
    grid = Table.grid(padding=(0, 2, 0, 0))
    answer = int(context.argmax())
    for label, share in enumerate(context):
        style = "bold" if label == answer else "dim"
        bar = full * round(BAR * float(share))
        grid.add_row(*(Text(t, style) for t in (str(label), f"{share:.3f}", bar)))
    return grid


def _has_grays(console: Console) -> bool:
    return console.color_system in ("256", "truecolor") and not console.no_color


def _has_blocks(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
