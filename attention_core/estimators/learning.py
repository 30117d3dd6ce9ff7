"""Training of a model by leaving one row out: units, batches, early stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from attention_core.errors import OptionError
from attention_core.estimators.model import Model
from attention_core.estimators.rows import Rows
from attention_core.fitting import Loss, fit
from attention_core.typing import Array

__all__ = ["Batches", "Learned", "Settings", "learn"]


# Iterations on a batch: enough for L-BFGS to estimate the curvature of its loss.
_ITERATIONS = 10
# Consecutive batches whose first loss does not improve on an earlier one.
_PATIENCE = 2


@dataclass(frozen=True)
class Settings:
    """Options of learning, named as the parameters of the estimators."""

    max_iter: int
    tol: float
    alpha: float
    batch_size: int
    validation_fraction: float | None
    n_iter_no_change: int
    workers: int | None
    progress: bool


class Batches:
    """The losses of consecutive batches of rows, each drawn when it is needed.

    Rows are drawn without replacement until all have been used, then again. A batch is new when it
    starts, so its first loss is unbiased: when first losses stop falling, there are no more
    batches. They are exhausted if the next might take more than `max_iter` iterations in all.
    """

    def __init__(
        self,
        loss: Callable[[Any, Array], tuple[float, Array]],
        rows: int,
        *,
        size: int,
        max_iter: int,
        tol: float,
        random_state: np.random.RandomState,
    ) -> None:
        self._loss = loss
        self._rows = rows
        self._size = size
        self._max_iter = max_iter
        self._tol = tol
        self._random_state = random_state
        self.is_exhausted = False

    def __len__(self) -> int:
        return max(1, self._max_iter // _ITERATIONS)

    def __iter__(self) -> Iterator[Loss[Any]]:
        waiting = np.empty(0, np.intp)
        best, stale, used = np.inf, 0, 0
        while used == 0 or used + _ITERATIONS <= self._max_iter:
            if len(waiting) < self._size:
                waiting = self._random_state.permutation(self._rows)
            chosen, waiting = np.split(waiting, [self._size])
            batch = _Batch(self._loss, np.sort(chosen))
            yield batch
            used += max(1, batch.calls - 1)  # the first call is not an iteration
            stale = 0 if batch.first < best * (1 - self._tol) else stale + 1
            best = min(best, batch.first)
            if stale == _PATIENCE:
                return
        self.is_exhausted = True


class _Batch:
    """The loss on some rows; remembers its first value, and counts calls."""

    def __init__(self, loss: Callable[[Any, Array], tuple[float, Array]], rows: Array) -> None:
        self._loss = loss
        self._rows = rows
        self.first, self.calls = np.nan, 0

    def __call__(self, model: Any) -> tuple[float, Array]:
        self.calls += 1
        found = self._loss(model, self._rows)
        if np.isnan(self.first):
            self.first = found[0]
        return found


@dataclass(frozen=True)
class Learned:
    """The result of `learn`."""

    model: Model
    length: float
    """The factor by which rows are scaled."""
    losses: tuple[float, ...] = ()
    validation_losses: tuple[float, ...] = ()
    is_converged: bool = True

    @property
    def n_iter(self) -> int:
        """The number of iterations, or 1 if there were none, since scikit-learn forbids 0."""
        return max(1, len(self.losses) - 1)


def learn(
    model: Model,
    rows: Rows,
    lengths: tuple[float, ...],
    settings: Settings,
    random_state: np.random.RandomState,
) -> Learned:
    """Learn the parameters of a model from rows.

    Rows are first scaled by the number of `lengths` with the lowest loss: longer rows sharpen
    attention. A `validation_fraction` of the rows is held out from learning, and predicted from the
    others after every iteration.
    """
    penalty = settings.alpha / rows.total
    held = None
    if settings.validation_fraction is not None:
        rows, held = _split(rows, settings.validation_fraction, random_state)
    model, length = _begin(model, rows, lengths, settings, random_state)
    if not model.is_learnable:
        return Learned(model, length)
    rows = rows.lengthened(length)
    validation = None
    if held is not None:
        left_out = held.lengthened(length)

        def validation(model: Model) -> float:
            return model.loss_on(left_out, rows, settings.workers)

    def loss(model: Model, chosen: Array) -> tuple[float, Array]:
        return model.loss(rows, chosen, settings.workers)

    def loss_of_all(model: Model) -> tuple[float, Array]:
        return loss(model, np.arange(len(rows)))

    batches, max_iter = None, settings.max_iter
    if len(rows) > settings.batch_size:
        batches = Batches(
            loss,
            len(rows),
            size=settings.batch_size,
            max_iter=max_iter,
            tol=settings.tol,
            random_state=random_state,
        )
        max_iter = min(max_iter, _ITERATIONS)
    found = fit(
        model,
        loss_of_all if batches is None else batches,
        max_iter=max_iter,
        tol=settings.tol,
        penalty=penalty,
        validation=validation,
        patience=settings.n_iter_no_change,
        progress=settings.progress,
    )
    is_converged = found.is_converged if batches is None else not batches.is_exhausted
    return Learned(found.scorer, length, found.losses, found.validation_losses, is_converged)


def _begin(
    model: Model,
    rows: Rows,
    lengths: tuple[float, ...],
    settings: Settings,
    random_state: np.random.RandomState,
) -> tuple[Model, float]:
    """Return the initial model, and the factor by which to scale all rows."""
    chosen = np.arange(len(rows))
    if len(rows) > settings.batch_size:
        chosen = np.sort(random_state.permutation(len(rows))[: settings.batch_size])
    begun = []
    for length in lengths:
        longer = rows.lengthened(length)
        start = model.begun(longer, chosen, settings.alpha, settings.workers)
        if len(lengths) == 1:
            return start, length
        begun.append((start.loss_alone(longer, chosen, settings.workers), length, start))
    _, length, start = min(begun, key=itemgetter(0))
    return start, length


def _split(rows: Rows, fraction: float, random_state: np.random.RandomState) -> tuple[Rows, Rows]:
    """Return the rows to learn from, and the held-out rows."""
    order = random_state.permutation(len(rows))
    held, rest = np.split(order, [max(1, round(fraction * len(rows)))])
    if len(rest) < 2:  # a single row has no others to be predicted from
        raise OptionError(  # with the phrase that scikit-learn's checks require
            f"n_samples = {len(rows)} leaves {len(rest)} to learn from at validation_fraction="
            f"{fraction!r}, but learning needs 2: give more rows, a smaller fraction, or "
            f"early_stopping=False"
        )
    return rows.take(rest), rows.take(held)
