"""The trained parameters in ``configs``; ``python -m attention_core.demo.train`` writes them.

Training uses the keys only, the first 1,200 images: each attends to the other 1,199, and the log
loss of the predictions is minimized. Noise is added to the queries, which together with the penalty
prevents overfitting (Bishop 1995, doi:10.1162/neco.1995.7.1.108). The 597 test images are used
neither for training nor for the choice of a recipe: see `choose`.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core import Scorer, make_scorer
from attention_core.demo.digits import Digits, load_digits
from attention_core.demo.parameters import bumps, general_parameters
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
    """Train `general`, from half the inverse covariance of the keys, in a few seconds."""
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
    """Train `additive`, from hidden units with random directions, in less than a minute."""
    random = np.random.default_rng(seed)
    start = make_scorer("additive", **bumps(_directions(digits, length, random)))
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
    """Make ten iterations with noise of this standard deviation, and ten more with other noise."""
    noisy = [keys + noise * random.standard_normal(keys.shape, np.float32) for _ in range(2)]
    losses = [leave_one_out(keys, values, log_loss, query=query) for query in noisy]
    return fit(start, losses, max_iter=10, penalty=penalty, progress=progress)


def _directions(digits: Digits, length: float, random: np.random.Generator) -> NDArray[Any]:
    """Random directions of whitened images: (64, 64 pairs), float32.

    The covariance has a ridge of 0.2 for pixels that hardly vary. With a length of 1 the directions
    are about as long as those of `additive_parameters`. Shorter ones give wider bumps.
    """
    covariance = np.cov(digits.keys().astype(np.float64), rowvar=False)  # (64, 64)
    variances, axes = np.linalg.eigh(covariance + 0.2 * np.eye(64))
    whitening = (axes * variances**-0.5) @ axes.T  # (64, 64)
    directions = whitening @ random.standard_normal((64, 64))  # (64, 64 pairs)
    directions *= length * 64 / np.linalg.norm(directions)
    drawn: NDArray[Any] = directions.astype(np.float32)
    return drawn


def _write(folder: Path) -> None:
    digits = load_digits()
    for name, learn in [("general", learn_general), ("additive", learn_additive)]:
        scorer = learn(digits, progress=True).scorer
        write_arrays(folder / f"{name}_learned.npz", scorer.parameters)


if __name__ == "__main__":
    _write(Path(str(files("attention_core.demo") / "configs")))
