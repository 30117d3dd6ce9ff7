"""The static SVG picture of a page, for browsers without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from attention_core.plot.axis import Axis
from attention_core.plot.picture import Panel, Picture
from attention_core.plot.style import INK, MASKED, MASKED_HATCH, QUIET
from attention_core.plot.terminal import columns_of
from attention_core.plot.web.codes import coarser, encode, palette
from attention_core.plot.web.data import Images, names_of
from attention_core.plot.web.png import data_uri, png

__all__ = ["static_picture"]

SIDE = 420  # pixels of one panel; several share a row
LEAST, MOST = 3, 24  # pixels of a cell
LINE = 12  # pixels between labels
LETTER = 6.6
LONGEST = 18
GAP = 24
COLUMNS = 4

_HATCH = (
    '<pattern id="masked" width="5" height="5" patternUnits="userSpaceOnUse">'
    f'<rect width="5" height="5" fill="{MASKED}"/>'
    f'<path d="M0 5L5 0" stroke="{MASKED_HATCH}" stroke-width=".8"/></pattern>'
)


def static_picture(picture: Picture, title: str, images: Images) -> str:
    """Panels with their labels, as one `<svg>` element on white."""
    columns = min(COLUMNS, len(picture.panels))
    side = SIDE / columns**0.5
    most = max(picture.queries.cells, picture.keys.cells)
    cell = max(min(MOST, side / most), 1.0 if most > side / LEAST else LEAST)
    left = _room(picture.queries, images[0], cell)
    above = _room(picture.keys, images[1], cell)
    width, height = picture.keys.cells * cell, picture.queries.cells * cell
    step_x, step_y = left + width + GAP, above + height + GAP
    parts = [_text(GAP / 2, 20, title, size=15, weight="bold")]
    for place, panel in enumerate(picture.panels):
        x = GAP / 2 + (place % columns) * step_x + left
        y = 40 + (place // columns) * step_y + above
        parts.append(_panel(picture, panel, (x, y, width, height)))
        parts += _labels(picture, images, (x, y), cell)
    full = max(GAP + columns * step_x, GAP + LETTER * 1.4 * columns_of(title))
    tall = 40 + -(-len(picture.panels) // columns) * step_y
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full:g} {tall:g}" '
        f'width="{full:g}" height="{tall:g}" role="img" aria-label="{escape(title)}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}">'
        f'<defs>{_HATCH}</defs><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>"
    )


def _panel(picture: Picture, panel: Panel, box: tuple[float, ...]) -> str:
    """Cells as one small image, in which masked ones are transparent over a hatching."""
    x, y, width, height = box
    codes = coarser(encode(picture, panel.cells), 128 if len(picture.panels) == 1 else 48)
    address = data_uri(png(codes, palette()))
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return (
        f'<rect {place} fill="url(#masked)" stroke="{QUIET}"/><image {place} '
        f'href="{address}" preserveAspectRatio="none" image-rendering="pixelated"/>'
        f"{_text(x, y + height + 15, panel.name, color=QUIET) if panel.name else ''}"
    )


def _labels(
    picture: Picture, images: Images, corner: tuple[float, float], cell: float
) -> list[str]:
    x, y = corner
    parts = []
    for axis, own, is_across in (
        (picture.keys, images[1], True),
        (picture.queries, images[0], False),
    ):
        names = names_of(axis)
        every = next(n for n in (1, 2, 5, 10, 20, 50) if n * cell >= LINE)
        for place in range(0, len(names), every):
            middle = (place + 0.5) * cell
            if own is not None and cell >= LINE:
                at = (
                    (x + middle - cell / 2, y - cell - 2)
                    if is_across
                    else (x - cell - 2, y + middle - cell / 2)
                )
                parts.append(
                    f'<image x="{at[0]:g}" y="{at[1]:g}" width="{cell:g}" height="{cell:g}" '
                    f'href="{own[place]}" image-rendering="pixelated"/>'
                )
            elif is_across:
                parts.append(_text(x + middle + 4, y - 4, _cut(names[place]), turned=True))
            else:
                parts.append(_text(x - 4, y + middle + 4, _cut(names[place]), anchor="end"))
    return parts


def _room(axis: Axis, images: Sequence[str] | None, cell: float) -> float:
    """Pixels for the labels of an axis."""
    if images is not None and cell >= LINE:
        return cell + 4
    return 6 + LETTER * max(columns_of(_cut(name)) for name in names_of(axis))


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    color: str = INK,
    size: int = 11,
    weight: str = "normal",
    turned: bool = False,
) -> str:
    turn = f' transform="rotate(-90 {x:g} {y:g})"' if turned else ""
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}" font-size="{size}" '
        f'font-weight="{weight}"{turn}>{escape(text)}</text>'
    )
