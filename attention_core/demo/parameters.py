"""Untrained parameters in ``configs``; ``python -m attention_core.demo.parameters`` writes them.

They do not depend on labels: those of `general` come from the covariance of the pixels, those of
`additive` are random. They show how the scorers perform before any training.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core.demo.digits import Digits, load_digits
from attention_core.parameter_files import write_arrays

__all__ = ["additive_parameters", "bumps", "general_parameters"]


def general_parameters(digits: Digits) -> dict[str, NDArray[Any]]:
    """Half the inverse covariance of the keys, so that scores compare whitened images.

    A ridge of 0.05 keeps the covariance invertible, since some pixels are always white.
    """
    keys = digits.keys(centered=True).astype(np.float64)  # (n, 64)
    covariance = np.cov(keys, rowvar=False) + 0.05 * np.eye(64)  # (64, 64)
    return {"weight": (0.5 * np.linalg.inv(covariance)).astype(np.float32)}


def additive_parameters(seed: int = 0) -> dict[str, NDArray[Any]]:
    """128 pairs of hidden units with random directions; see `bumps`."""
    directions = np.random.default_rng(seed).standard_normal((64, 128)).astype(np.float16)
    return bumps(directions)


def bumps(directions: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Pairs of hidden units, each a bump around q = k along a direction: (D, pairs).

    With a direction w and d = w . (q - k), half of tanh(d + 1) - tanh(d - 1) is largest at d = 0,
    where query and key agree along w. The score counts the directions along which they agree.
    """
    weight = np.concatenate([directions, directions], axis=1)  # (D, 2 pairs)
    sign = np.repeat(np.array([1, -1], directions.dtype), directions.shape[1])  # (2 pairs,)
    return {"query_weight": weight, "key_weight": -weight, "bias": sign, "score_weight": sign / 2}


def _write(folder: Path) -> None:
    write_arrays(folder / "general.npz", general_parameters(load_digits()))
    write_arrays(folder / "additive.npz", additive_parameters())


if __name__ == "__main__":
    _write(Path(str(files("attention_core.demo") / "configs")))
