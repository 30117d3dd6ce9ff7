"""The learned parameters in ``configs``, made again by ``python -m attention_core.demo.train``.

Learned from the keys alone, the first 1,200 images: each is read by attending to the 1,199 others,
and the log loss of these readings is minimized. Images to read are seen with noise, which with the
penalty keeps a scorer from learning them by heart (Bishop 1995, doi:10.1162/neco.1995.7.1.108).
The 597 queries have no part in that, nor in the choice of a recipe: see `choose`.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core import Scorer, make_scorer
from attention_core.demo.digits import Digits, load_digits
from attention_core.demo.parameters import general_parameters
from attention_core.fitting import Fit, fit
from attention_core.leave_one_out import leave_one_out, log_loss
from attention_core.parameter_files import write_arrays

__all__ = ["learn_additive", "learn_general"]


def learn_general(
    digits: Digits,
    *,
    penalty: float = 1e-5,
    noise: float = 0.2,
    seed: int = 0,
    progress: bool = False,
) -> Fit[Scorer]:
    """`general`, from half the inverse covariance of the keys; a few seconds."""
    random = np.random.default_rng(seed)
    start = make_scorer("general", **general_parameters(digits))
    keys = digits.keys(centered=True)
    return _learn(start, keys, digits.values(), penalty, noise, random, progress)


def learn_additive(
    digits: Digits,
    *,
    penalty: float = 1e-3,
    noise: float = 0.1,
    length: float = 0.25,
    seed: int = 0,
    progress: bool = False,
) -> Fit[Scorer]:
    """`additive`, from pairs of hidden units along random directions; less than a minute."""
    random = np.random.default_rng(seed)
    start = make_scorer("additive", **_random_pairs(digits, length, random))
    return _learn(start, digits.keys(), digits.values(), penalty, noise, random, progress)


def _learn(
    start: Scorer,
    keys: NDArray[Any],
    values: NDArray[Any],
    penalty: float,
    noise: float,
    random: np.random.Generator,
    progress: bool,
) -> Fit[Scorer]:
    """Ten iterations with noise of this deviation, on pixels from 0 to 1; ten more with other."""
    noisy = [keys + noise * random.standard_normal(keys.shape, np.float32) for _ in range(2)]
    losses = [leave_one_out(keys, values, log_loss, query=query) for query in noisy]
    return fit(start, losses, max_iter=10, penalty=penalty, progress=progress)


def _random_pairs(
    digits: Digits, length: float, random: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """As `additive_parameters`, but half as many pairs, wider, and in whitened images.

    Directions are random where pixels do not vary together, with a ridge of 0.2 for those that
    hardly vary. With a length of 1 they are on average as long as those; the shorter they are, the
    less near and far differ at first.
    """
    covariance = np.cov(digits.keys().astype(np.float64), rowvar=False)  # (64, 64)
    variances, axes = np.linalg.eigh(covariance + 0.2 * np.eye(64))
    whitening = (axes * variances**-0.5) @ axes.T  # (64, 64)
    directions = whitening @ random.standard_normal((64, 64))  # (64, 64 pairs)
    directions *= length * 64 / np.linalg.norm(directions)
    weight = np.concatenate([directions, directions], axis=1).astype(np.float32)  # (64, 128)
    sign = np.repeat(np.array([1, -1], np.float32), 64)  # (128,)
    return {
        "query_weight": weight,
        "key_weight": -weight,
        "bias": sign,
        "score_weight": sign / 2,
    }


def _write(folder: Path) -> None:
    digits = load_digits()
    for name, learn in [("general", learn_general), ("additive", learn_additive)]:
        scorer = learn(digits, progress=True).scorer
        write_arrays(folder / f"{name}_learned.npz", scorer.parameters)


if __name__ == "__main__":
    _write(Path(str(files("attention_core.demo") / "configs")))
