"""The parameters in ``configs``, made again by ``python -m attention_core.demo.parameters``.

Nothing here is learned from labels: `general` is told how pixels vary together, `additive` is
random. The scorers show what they can do before any training.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core.demo.digits import Digits, load_digits
from attention_core.parameter_files import write_arrays

__all__ = ["additive_parameters", "general_parameters"]


def general_parameters(digits: Digits) -> dict[str, NDArray[Any]]:
    """Half the inverse covariance of the keys, so that scores compare whitened images.

    The ridge of 0.05 keeps pixels that are always white from dividing by zero.
    """
    keys = digits.keys(centered=True).astype(np.float64)  # (n, 64)
    covariance = np.cov(keys, rowvar=False) + 0.05 * np.eye(64)  # (64, 64)
    return {"weight": (0.5 * np.linalg.inv(covariance)).astype(np.float32)}


def additive_parameters(seed: int = 0) -> dict[str, NDArray[Any]]:
    """Pairs of hidden units that together are a bump around q = k in a random direction.

    With w a direction and d = w . (q - k), half of tanh(d + 1) - tanh(d - 1) is largest at d = 0:
    the query and the key look alike along w. The score counts the directions along which they do.
    """
    directions = np.random.default_rng(seed).standard_normal((64, 128)).astype(np.float16)
    weight = np.concatenate([directions, directions], axis=1)  # (64, 256)
    sign = np.repeat(np.array([1, -1], np.float16), 128)  # (256,)
    return {
        "query_weight": weight,
        "key_weight": -weight,
        "bias": sign,
        "score_weight": sign / 2,
    }


def _write(folder: Path) -> None:
    write_arrays(folder / "general.npz", general_parameters(load_digits()))
    write_arrays(folder / "additive.npz", additive_parameters())


if __name__ == "__main__":
    _write(Path(str(files("attention_core.demo") / "configs")))
