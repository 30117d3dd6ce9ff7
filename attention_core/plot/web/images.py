"""Images as labels of a page: small PNG files in the page itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from attention_core.errors import OptionError, ShapeError
from attention_core.plot.axis import Axis, as_sequence, checked_image, plural
from attention_core.plot.labels import in_colors
from attention_core.plot.web.png import data_uri, png
from attention_core.typing import Array

__all__ = ["addresses"]

SIDE = 64  # pixels


def addresses(axis: Axis, given: Iterable[Any] | None) -> list[str] | None:
    """Data URIs of the images of an axis: those given, or its labels if they are images.

    Raises
    ------
    OptionError
        For images where a cell is a block.
    ShapeError
        When their number differs from that of positions, and for anything but images.
    """
    images = axis.images
    if given is not None:
        every = as_sequence("images", given, f"images, one per {axis.name}")
        if len(every) <= int(axis.places.max()):
            raise ShapeError(
                f"images must have one image per {axis.name}, got {len(every)} for position "
                f"{axis.places.max()}"
            )
        images = [checked_image("images", every[place]) for place in axis.places]
    if images is None:
        return None
    if axis.step > 1:
        raise OptionError(
            f"{len(images)} images are too many to show side by side; choose some with "
            f"{plural(axis.name)}="
        )
    colors = np.rint(255 * in_colors([_small(image) for image in images])).astype(np.uint8)
    return [data_uri(png(image)) for image in colors]


def _small(image: Array) -> Array:
    """Means of blocks of an image, in about `SIDE` pixels.

    >>> _small(np.ones((200, 100, 3), np.uint8)).shape
    (50, 25, 3)
    """
    step = -(-max(image.shape[:2]) // SIDE)
    if step == 1:
        return image
    height, width = (max(1, length // step) for length in image.shape[:2])
    cut = image[: height * step, : width * step].astype(np.float64)
    rows = min(step, len(cut)), min(step, cut.shape[1])
    blocks = cut.reshape(height, rows[0], width, rows[1], *image.shape[2:])
    means: Array = blocks.mean(axis=(1, 3))
    return means.astype(image.dtype) if image.dtype == np.uint8 else means
