"""Heat maps in plain text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.arrays.scalars import check_flag, is_integer
from attention_core.errors import OptionError, OptionTypeError, shown
from attention_core.plot.axis import LONGEST, as_names, as_sequence, visible
from attention_core.plot.cells import Summary
from attention_core.plot.picture import Panel, Picture, make_picture
from attention_core.plot.source import Drawn, What

__all__ = ["text"]


LEAST_WIDTH = 40
MOST_ROWS = 48
RIGHT = len("  max 1.23e-05")
LONGEST_LEFT = 16
LONGEST_UPRIGHT = 10  # letters of a vertical label of a key
MASS = "key mass"


@checked_arguments
def text(
    result: Drawn,
    *,
    query_labels: Iterable[Any] | None = None,
    key_labels: Iterable[Any] | None = None,
    what: What = "weights",
    batch: Any = None,
    names: Sequence[str] | None = None,
    queries: slice | ArrayLike | None = None,
    keys: slice | ArrayLike | None = None,
    summary: Summary = "max",
    width: int = 80,
    ascii_only: bool = False,
) -> str:
    r"""A heat map in plain text, for terminals, logs and e-mail.

    Each cell is shaded by its weight. The last line gives the least weight of each shade. The scale
    is linear for scores; for weights it is a square root, which shows small ones.
    Masked cells are dots. Each row ends with its entropy ``-sum_j w_ij log w_ij`` in nats; below
    each column is a bar as tall as its mass ``sum_i w_ij``.

    Parameters
    ----------
    result, query_labels, key_labels, what, batch, names, queries, keys, summary
        As in `attention_core.plot.heatmap`; positions replace images as labels.
    width
        Columns of the terminal, at least 40. Keys that do not fit are summarized, and so are more
        than 48 queries.
    ascii_only
        Use ASCII only; other characters of labels and names are escaped, as in ``\xe9``.

    Returns
    -------
    str
        Lines without a newline at the end.

    Raises
    ------
    OptionError, ShapeError, DTypeError
        As `attention_core.plot.heatmap`.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> x = np.eye(4)
    >>> result = ac.attend(3 * x, x, x, scorer="dot", is_causal=True)
    >>> print(ac.plot.text(result, query_labels="abcd", key_labels="wxyz"))
              w x y z
           a │██······│ 0.00 nats
           b │░░██····│ 0.19
           c │░░░░██··│ 0.37
           d │░░░░░░██│ 0.53
    key mass  ████▇▇▆▆  max 1.14
    ░ 0.04  ▒ 0.16  ▓ 0.36  █ 0.64 and more  · masked
    """
    if not is_integer(width):
        raise OptionTypeError(f"width must be an integer, got {shown(width)}")
    if width < LEAST_WIDTH:
        raise OptionError(f"width must be at least {LEAST_WIDTH} columns, got {shown(width)}")
    check_flag("ascii_only", ascii_only)
    query_labels, key_labels = _words("query", query_labels), _words("key", key_labels)
    names = None if names is None else as_names(names)
    if ascii_only:
        query_labels, key_labels, names = map(_in_ascii, (query_labels, key_labels, names))
    left = max([len(MASS), *(columns_of(label) for label in query_labels or ())])
    left = min(left, LONGEST_LEFT)
    room = width - left - len("  ") - RIGHT
    picture = make_picture(
        result,
        query_labels=query_labels,
        key_labels=key_labels,
        what=what,
        batch=batch,
        names=names,
        queries=queries,
        keys=keys,
        summary=summary,
        most=(MOST_ROWS, room),
    )
    writer = _Writer(picture, left, room, _ASCII if ascii_only else _BLOCKS)
    return "\n".join(line.rstrip() for line in writer.lines())


class _Signs(NamedTuple):
    shades: str
    masked: str
    nan: str
    bars: str
    side: str
    more: str
    """End of a shortened label."""


_BLOCKS = _Signs(" ░▒▓█", "·", "?", " ▁▂▃▄▅▆▇█", "│", "…")
_ASCII = _Signs(" .+#@", "-", "?", " 123456789", "|", "~")


class _Writer:
    """Writes a picture, with one or two columns for each cell."""

    def __init__(self, picture: Picture, left: int, room: int, signs: _Signs) -> None:
        self.picture = picture
        self.left = left
        self.signs = signs
        self.columns = 2 if 2 * picture.keys.cells <= room else 1
        self.low, self.high = picture.limits
        self.is_linear = picture.what == "scores"  # small weights matter too

    def lines(self) -> Iterator[str]:
        """All lines, some with trailing blanks."""
        for panel in self.picture.panels:
            if panel.name:
                yield panel.name
            yield from self._header()
            yield from self._rows(panel)
            yield self._mass(panel)
            if panel is not self.picture.panels[-1]:
                yield ""
        yield self._legend()
        if self.picture.note:
            yield self.picture.note

    def _header(self) -> Iterator[str]:
        keys = self.picture.keys
        indent = " " * (self.left + 2)
        if keys.labels is not None and keys.step == 1:
            letters = [_letters(label) for label in keys.labels]
            if all(columns_of(label) <= self.columns for label in keys.labels):
                yield indent + "".join(map(self._fitted, keys.labels))
                return
            if all(columns_of(letter) <= self.columns for label in letters for letter in label):
                upright = [self._shortened(label, LONGEST_UPRIGHT)[::-1] for label in letters]
                for row in reversed(list(zip_longest(*upright, fillvalue=" "))):
                    yield indent + "".join(map(self._fitted, row))
                return
        line = ""
        longest = max(map(columns_of, keys.labels or [str(keys.places.max())]))
        for place, label in keys.ticks(keys.cells * self.columns // (longest + 1)):
            start = int(place) // keys.step * self.columns
            line += " " * (start - columns_of(line)) + label
        yield indent + line

    def _rows(self, panel: Panel) -> Iterator[str]:
        queries, side = self.picture.queries, self.signs.side
        unit = " nats"
        for row, (cells, entropy) in enumerate(zip(panel.cells, panel.entropy, strict=True)):
            place = row * queries.step
            if queries.labels is not None:
                label = queries.labels[place]
            else:
                label = "query" if queries.is_alone else str(queries.places[place])
            label = "".join(self._shortened(_letters(label), self.left))
            pad = " " * (self.left - columns_of(label))
            shades = "".join(self._shade(cell) * self.columns for cell in cells)
            yield f"{pad}{label} {side}{shades}{side} {entropy:.2f}{unit}"
            unit = ""

    def _shade(self, cell: Any) -> str:
        if cell is np.ma.masked:
            return self.signs.masked
        if np.isnan(cell):
            return self.signs.nan
        part = (cell - self.low) / (self.high - self.low)
        return self.signs.shades[_level(part if self.is_linear else np.sqrt(max(part, 0)), 5)]

    def _mass(self, panel: Panel) -> str:
        finite = panel.key_mass[np.isfinite(panel.key_mass)]
        top = float(finite.max(initial=0)) or 1.0
        count = len(self.signs.bars)
        bars = "".join(
            self.columns
            * (self.signs.nan if np.isnan(mass) else self.signs.bars[_level(mass / top, count)])
            for mass in panel.key_mass
        )
        return f"{MASS:>{self.left}}  {bars}  max {top:.3g}"

    def _legend(self) -> str:
        shades = []
        for level, shade in enumerate(self.signs.shades[1:], start=1):
            part = level / 5 if self.is_linear else (level / 5) ** 2
            shades.append(f"{shade} {self.low + part * (self.high - self.low):.2g}")
        line = "  ".join(shades) + " and more"
        line += f"  {self.signs.masked} masked" * self.picture.has_masked
        return line + f"  {self.signs.nan} not a number" * self.picture.has_nan

    def _shortened(self, letters: list[str], columns: int) -> list[str]:
        if columns_of("".join(letters)) <= columns:
            return letters
        while columns_of("".join(letters)) >= columns:
            letters = letters[:-1]
        return [*letters, self.signs.more]

    def _fitted(self, letter: str) -> str:
        return letter + " " * (self.columns - columns_of(letter))


def columns_of(label: str) -> int:
    """Columns that a label takes in a terminal: two for East Asian letters, none for marks.

    >>> columns_of("été"), columns_of("夏"), columns_of("a\u200cb"), columns_of("\u0e01\u0e34")
    (3, 2, 2, 1)
    """
    return sum(map(_columns, label))


def _columns(c: str) -> int:
    if unicodedata.category(c) in ("Mn", "Me", "Cf") or "\u1160" <= c <= "\u11ff":
        return 0  # accents, joiners; vowels and finals of Korean syllables
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def _words(name: str, labels: Iterable[Any] | None) -> list[str] | None:
    """Labels as text; images have none."""
    found = (
        None if labels is None else as_sequence(f"{name}_labels", labels, f"labels, one per {name}")
    )
    return None if found is None or any(np.ndim(label) for label in found) else visible(found)


def _letters(label: str) -> list[str]:
    """Letters, each with the accents and joiners that follow it."""
    letters: list[str] = []
    for c in label:
        if letters and not _columns(c):
            letters[-1] += c
        else:
            letters.append(c)
    return letters


def _in_ascii(labels: Sequence[str] | None) -> list[str] | None:
    r"""Labels with other characters escaped and our own signs replaced.

    >>> print(*_in_ascii(["a", "\u2423", "\u00e9"]))
    a _ \xe9
    """
    if labels is None:
        return None
    signs: dict[str, str | int | None] = {
        "\u2423": "_",
        "\u2026": "~",
        "\u21b5": "\\n",
        "\u21e5": "\\t",
    }
    plain = (label.translate(str.maketrans(signs)) for label in labels)
    escaped = (label.encode("ascii", "backslashreplace").decode() for label in plain)
    return [label if len(label) <= LONGEST else label[: LONGEST - 1] + "~" for label in escaped]


def _level(part: float, count: int) -> int:
    """The level, from 0 to `count` - 1, of a fraction, which is clipped to [0, 1]."""
    return int(np.clip(part, 0, 1) * count) - (part >= 1)
