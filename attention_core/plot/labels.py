"""Labels on the axes of a heat map: text, positions or images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attention_core.errors import OptionError
from attention_core.plot.axis import Axis, plural
from attention_core.plot.layout import LINE, Neighbors
from attention_core.plot.options import Look
from attention_core.plot.style import QUIET
from attention_core.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["in_colors", "label_axes"]


SIZE = 9  # points
LETTER = 0.078  # inches; width of a letter at the font size of labels
SLANTED = 0.2  # inches between lines at 45 degrees
MOST_IMAGES = 48
GAP = 0.05  # inches between images and cells


def label_axes(
    axes: Axes,
    queries: Axis,
    keys: Axis,
    size: tuple[float, float],
    neighbors: Neighbors,
    look: Look,
) -> None:
    """Label the keys above the cells, and the queries to the left of the first panel of a row."""
    axes.tick_params(length=0, pad=3, labelsize=SIZE)  # also in a figure with other settings
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    _label_keys(axes, keys, size)
    if not neighbors.above:
        axes.set_xlabel(_name(keys, look.xlabel), color=QUIET, fontsize=SIZE, parse_math=False)
    if neighbors.left:
        axes.set_yticks([])
    else:
        _label_queries(axes, queries, size)
        axes.set_ylabel(_name(queries, look.ylabel), color=QUIET, fontsize=SIZE, parse_math=False)


def _name(axis: Axis, given: str | None) -> str:
    name = axis.name if given is None else given
    return f"{name} ({axis.step} in a cell)".lstrip() if axis.step > 1 else name


def _label_keys(axes: Axes, keys: Axis, size: tuple[float, float]) -> None:
    width, height = size
    if keys.images is not None:
        side = width / len(keys.places)
        strip = axes.inset_axes((0, 1 + GAP / height, 1, side / height))
        _draw_images(strip, keys, along=1)
        axes.set_xticks([])
        axes.xaxis.labelpad = (GAP + side) * 72 + 4
        return
    longest = max(map(len, keys.labels or [str(keys.places.max())]))
    level = (longest + 1) * LETTER
    ticks = keys.ticks(int(width / level) or 1)
    turned: dict[str, Any] = {}
    if keys.labels is not None and len(ticks) < len(keys.places):
        ticks = keys.ticks(int(width / LINE + 1e-9) or 1)
        is_loose = width / len(ticks) >= SLANTED
        turned = {"rotation": 45 if is_loose else 90, "rotation_mode": "anchor"}
        turned |= {"ha": "left", "va": "baseline" if is_loose else "center"}
    axes.set_xticks([place for place, _ in ticks])
    axes.set_xticklabels([text for _, text in ticks], parse_math=False, **turned)


def _label_queries(axes: Axes, queries: Axis, size: tuple[float, float]) -> None:
    width, height = size
    if queries.images is not None:
        side = height / len(queries.places)
        strip = axes.inset_axes((-(GAP + side) / width, 0, side / width, 1))
        _draw_images(strip, queries, along=0)
        axes.set_yticks([])
        axes.yaxis.labelpad = (GAP + side) * 72 + 4
        return
    if queries.is_alone:
        axes.set_yticks([])
        return
    room = LINE if queries.labels is not None else 2 * LINE
    ticks = queries.ticks(int(height / room + 1e-9) or 1)
    axes.set_yticks([place for place, _ in ticks])
    axes.set_yticklabels([text for _, text in ticks], parse_math=False)


def _draw_images(strip: Axes, axis: Axis, along: int) -> None:
    """Draw the images of an axis as one strip, each as wide as its cells."""
    images = axis.images or []
    if len(images) > MOST_IMAGES:
        raise OptionError(
            f"{len(images)} images are too many to show side by side; "
            f"choose at most {MOST_IMAGES} with {plural(axis.name)}="
        )
    tiles = in_colors(images)  # (n, side, side, 3)
    mosaic = np.concatenate(list(tiles), axis=along)
    ends = (0, len(images), 1, 0) if along else (0, 1, len(images), 0)
    strip.imshow(mosaic, extent=ends, aspect="auto", interpolation="nearest")
    strip.set(xticks=[], yticks=[])
    strip.set_label(f"{axis.name} images")
    for spine in strip.spines.values():
        spine.set_visible(False)


def in_colors(images: list[Array]) -> Array:
    """Images as square tiles on white, with colors from 0 to 1: (n, side, side, 3).

    Grayscale images are ink on paper: the least value of all is white, the largest is black.
    """
    plain = [image for image in images if image.ndim == 2]
    low = min((float(image.min()) for image in plain), default=0.0)
    high = max((float(image.max()) for image in plain), default=1.0)
    side = max(max(image.shape[:2]) for image in images)
    border = max(1, round(0.06 * side))
    tiles = np.ones((len(images), side + 2 * border, side + 2 * border, 3))
    for tile, image in zip(tiles, images, strict=True):
        height, width = image.shape[:2]
        top, left = ((side - n) // 2 + border for n in (height, width))
        if image.ndim == 2:
            ink = (image.astype(np.float64) - low) / (high - low or 1)
            colors = 1 - np.repeat(ink[..., None], 3, axis=-1)  # (height, width, 3)
        else:
            scale = 255 if image.dtype == np.uint8 else 1
            colors = np.clip(image[..., :3].astype(np.float64) / scale, 0, 1)
        tile[top : top + height, left : left + width] = colors
    return tiles
