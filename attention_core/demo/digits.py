"""The handwritten digits of the demonstration (see ``data/LICENSE-digits.md``)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEYS", "Digits", "load_digits"]

KEYS = 1_200
"""The number of images that are keys; the other 597 are queries."""


@dataclass(frozen=True, slots=True)
class Digits:
    """The images and their labels, in the order of the UCI test set.

    Examples
    --------
    >>> digits = load_digits()
    >>> digits.images.shape, digits.labels[:4]
    ((1797, 8, 8), array([0, 1, 2, 3], dtype=uint8))
    >>> digits.keys().shape, digits.values().shape, digits.queries(centered=True).shape
    ((1200, 64), (1200, 10), (597, 64))
    """

    images: NDArray[np.uint8]
    """(1797, 8, 8): ink from 0 to 16."""
    labels: NDArray[np.uint8]
    """(1797,): the digits."""
    known: int = KEYS
    """The number of keys; they come first."""

    def keys(self, *, centered: bool = False) -> NDArray[Any]:
        """The known images, pixels scaled to [0, 1]: (known, 64) float32."""
        return self._pixels(centered)[: self.known]

    def queries(self, *, centered: bool = False) -> NDArray[Any]:
        """The other images, pixels scaled to [0, 1]: (1797 - known, 64) float32."""
        return self._pixels(centered)[self.known :]

    def values(self) -> NDArray[Any]:
        """The labels of the keys, one-hot: (known, 10) float32."""
        return np.eye(10, dtype=np.float32)[self.labels[: self.known]]

    def _pixels(self, centered: bool) -> NDArray[Any]:
        pixels = self.images.reshape(-1, 64).astype(np.float32) / 16  # (1797, 64)
        return pixels - pixels[: self.known].mean(axis=0) if centered else pixels


def load_digits() -> Digits:
    """Load the 1,797 digits of the package."""
    with (files("attention_core.demo") / "data" / "digits.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        return Digits(images=arrays["images"], labels=arrays["labels"])
