"""Training rows, and the units that their features are measured in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from attention_core.leave_one_out import Others, shares
from attention_core.typing import Array

__all__ = ["Rows", "Units", "equal_rows", "relevance"]


@dataclass(frozen=True)
class Rows:
    """Training rows with their values, weights and groups."""

    key: Array
    """(n, D)"""
    value: Array
    """(n, Dv): one-hot labels, or targets."""
    weight: Array | None = None
    """(n,): how often each row counts; None if each counts once."""
    group: Array | None = None
    """(n,): equal rows have equal numbers; None if all rows differ."""

    def __len__(self) -> int:
        return len(self.key)

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return float(len(self) if self.weight is None else self.weight.sum())

    @property
    def bias(self) -> Array | None:
        """The bias by which weights affect scores: their logarithms, (1, n)."""
        if self.weight is None:
            return None
        return np.log(self.weight)[None].astype(self.value.dtype)

    def others(self, chosen: Array, workers: int | None) -> Others:
        """Some of the rows, to be predicted from all others."""
        return Others(self.key, self.value, None, chosen, self.group, self.weight, workers)

    def with_key(self, key: Array) -> Self:
        """The same rows with other keys."""
        return replace(self, key=key)

    def lengthened(self, factor: float) -> Self:
        """The same rows, scaled by a factor."""
        return self.with_key(self.key * self.key.dtype.type(factor))

    def take(self, index: Array) -> Self:
        """Some of the rows."""
        return replace(
            self,
            key=self.key[index],
            value=self.value[index],
            weight=None if self.weight is None else self.weight[index],
            group=None if self.group is None else self.group[index],
        )


@dataclass(frozen=True)
class Units:
    """A shift and a factor for each feature: ``z = factor (x - mean)``."""

    mean: Array
    """(D,)"""
    factor: Array
    """(D,)"""

    @classmethod
    def standardizing(cls, key: Array, weight: Array | None) -> Self:
        """Means of 0 and deviations of 1; constant features are 0 everywhere."""
        share = shares(len(key), weight)  # (n,)
        mean = share @ key.astype(np.float64, copy=False)  # (D,)
        deviation = np.sqrt(share @ (key - mean) ** 2)  # (D,)
        # rounding alone changes a constant feature by some units in the last place
        is_constant = deviation <= 10 * np.finfo(key.dtype).eps * np.abs(mean)
        return cls(mean, np.where(is_constant, 0.0, 1 / np.where(is_constant, 1, deviation)))

    @classmethod
    def of(cls, features: int) -> Self:
        """Units that change nothing."""
        return cls(np.zeros(features), np.ones(features))

    def times(self, factor: Array | float) -> Self:
        """The same units with features multiplied by a factor."""
        return replace(self, factor=self.factor * factor)

    def measured(self, key: Array) -> Array:
        """Rows (n, D) in these units, in their dtype."""
        return ((key - self.mean) * self.factor).astype(key.dtype, copy=False)


def equal_rows(key: Array) -> Array | None:
    """Return a number for each row (n,), equal for equal rows; None if all rows differ."""
    unique, number = np.unique(key, axis=0, return_inverse=True)
    return None if len(unique) == len(key) else number.reshape(-1)


def relevance(key: Array, label: Array, weight: Array | None) -> Array:
    """Return a factor for each standardized feature that measures its difference between classes.

    The root of the share of a feature's variance (n, D) that lies between the means of the classes
    of one-hot labels (n, classes), which is the correlation ratio. A tenth of the mean share is
    added, so that features that matter only together with others are kept. The root mean square of
    the factors is 1.

    Examples
    --------
    >>> key = np.array([[-1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    >>> relevance(key, np.repeat(np.eye(2), 2, axis=0), None).round(2)
    array([1.38, 0.3 ])
    """
    share = shares(len(key), weight)[:, None] * label  # (n, classes)
    count = share.sum(axis=0)  # (classes,)
    between = count @ ((share.T @ key) / count[:, None]) ** 2  # (D,)
    floored = between + between.mean() / 10
    root: Array = np.sqrt(floored)
    scale = max(float(np.sqrt((root**2).mean())), np.finfo(float).tiny)
    return root / scale
