"""An axis of a heat map: the queries or keys it shows, their labels, and how they form cells."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import to_numpy
from attention_core.errors import OptionError, OptionTypeError, ShapeError, shown
from attention_core.typing import Array

__all__ = [
    "Axis",
    "Tick",
    "as_names",
    "as_sequence",
    "checked_image",
    "has_no_glyph",
    "make_axis",
    "plural",
    "visible",
]

Tick = tuple[float, str]
"""The position of a label, counted from the start of the axis, and its text."""

LONGEST = 20  # characters of a label


@dataclass(frozen=True, slots=True)
class Axis:
    """The queries or the keys that are shown."""

    name: str
    places: Array
    """(n,): their positions in the result."""
    step: int
    """Positions in a cell."""
    labels: list[str] | None = None
    images: list[Array] | None = None

    @property
    def cells(self) -> int:
        """Number of cells."""
        return -(-len(self.places) // self.step)

    @property
    def index(self) -> slice | Array:
        """Index of the positions in an array; a slice, without a copy, if they are consecutive."""
        first, last = int(self.places[0]), int(self.places[-1])
        is_run = bool((np.diff(self.places) == 1).all())
        return slice(first, last + 1) if is_run else self.places

    @property
    def is_alone(self) -> bool:
        """Whether there is a single position without a label, which needs no number."""
        return self.labels is None and self.places.tolist() == [0]

    @property
    def edges(self) -> Array:
        """Edges of the cells, (cells + 1,); the last cell may be smaller."""
        return np.minimum(np.arange(self.cells + 1) * self.step, len(self.places))

    def ticks(self, most: int) -> list[Tick]:
        """At most `most` labels, evenly spread; without labels, round positions."""
        count = len(self.places)
        every = max(1, -(-count // max(most, 1)))
        if self.labels is not None:
            return [(i + 0.5, self.labels[i]) for i in range(0, count, every)]
        round_step = next(n * 10**e for e in range(20) for n in (1, 2, 5) if n * 10**e >= every)
        shown = np.arange(0, count, every)
        if isinstance(self.index, slice):
            shown = np.flatnonzero(self.places % round_step == 0)
        return [(int(i) + 0.5, str(self.places[i])) for i in shown]


def make_axis(
    name: str,
    length: int,
    labels: Iterable[Any] | None,
    chosen: slice | ArrayLike | None,
    most: int,
    longest: int = LONGEST,
) -> Axis:
    """Make the axis of all queries or keys, or of the chosen ones, in at most `most` cells.

    Raises
    ------
    OptionError
        For positions that do not exist, and when none is chosen.
    ShapeError
        When the number of labels differs from the number of positions.
    """
    places = np.arange(length)
    if chosen is not None:
        places = _chosen(places, plural(name), chosen)
    if not len(places):
        raise OptionError(f"nothing to draw: there is no {name}")
    step = -(-len(places) // most)
    if labels is None:
        return Axis(name, places, step)
    labels = as_sequence(f"{name}_labels", labels, f"labels, one per {name}")
    if len(labels) != length:
        raise ShapeError(
            f"{name}_labels must have one label per {name}, {length}; got {len(labels)}"
        )
    kept = [labels[place] for place in places]
    if np.ndim(kept[0]) >= 2:
        return Axis(
            name, places, step, images=[checked_image(f"{name}_labels", image) for image in kept]
        )
    return Axis(name, places, step, labels=visible(kept, longest))


def as_sequence(option: str, labels: Iterable[Any], expected: str) -> list[Any] | Array:
    """The labels of an axis, or names or images, as what can be counted.

    Raises
    ------
    OptionTypeError
        For anything that is not iterable.
    """
    if isinstance(labels, np.ndarray) and labels.ndim:
        return labels
    try:
        return list(labels)
    except TypeError:
        raise OptionTypeError(
            f"{option} must be a list of {expected}, got {shown(labels)}"
        ) from None


def as_names(names: Iterable[Any]) -> list[str]:
    """The names of panels as text; raises as `as_sequence`."""
    every = as_sequence("names", names, "names, one per panel")
    return [name if isinstance(name, str) else shown(name) for name in every]


def plural(name: str) -> str:
    """The plural of the name of an axis: "queries", "keys"."""
    return "queries" if name == "query" else f"{name}s"


def _chosen(places: Array, name: str, chosen: Any) -> Array:
    index = chosen if isinstance(chosen, slice) else np.atleast_1d(to_numpy(name, chosen))
    if not isinstance(index, slice) and (index.ndim != 1 or index.dtype.kind not in "iu"):
        raise OptionTypeError(f"{name} must be a slice or integers, got {shown(chosen)}")
    try:
        kept: Array = places[index]
    except IndexError:
        raise OptionError(
            f"{name}: {shown(chosen)} is out of bounds for {len(places)} positions"
        ) from None
    return kept


def checked_image(name: str, image: Any) -> Array:
    """An image (height, width) or (height, width, 3).

    Raises
    ------
    ShapeError
        For anything else; the message names the argument.
    """
    array = np.asarray(image)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ShapeError(
            f"{name}: an image must have shape (height, width), or (height, width, 3) "
            f"in color, got {array.shape}"
        )
    return array


def visible(labels: Iterable[Any], longest: int = LONGEST) -> list[str]:
    """Labels as one short line each; in a label of spaces only, they are made visible.

    Joiners (ZWJ, ZWNJ) stay, since Persian, Hindi and emoji need them. All other format characters
    are dropped: soft hyphens, byte order marks, direction controls.

    >>> visible(["a", " ", 7, "co\u00adop"])
    ['a', '␣', '7', 'coop']
    """
    return [_visible(str(label), longest) for label in labels]


def _visible(label: str, longest: int) -> str:
    text = unicodedata.normalize("NFC", label)
    if text and not text.strip(" \u00a0"):
        return "\u2423" * min(len(text), 3)  # an open box
    text = "".join(map(_shown, text))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _shown(c: str) -> str:
    if unicodedata.category(c) == "Cf":
        return c if c in _JOINERS else ""
    return _SIGNS.get(c, c if c.isprintable() else "\ufffd")


def has_no_glyph(c: str) -> bool:
    """Whether a character only changes its neighbors: a joiner or a variation selector."""
    return c in _JOINERS or "\ufe00" <= c <= "\ufe0f"


_JOINERS = "\u200c\u200d"
_SIGNS = {"\n": "↵", "\r": "↵", "\t": "⇥", "\u00a0": " "}
