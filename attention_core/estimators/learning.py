"""How the estimators learn a scorer: by leaving one row out, in batches, with early stopping."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from attention_core import Attention, Scorer
from attention_core.errors import OptionError
from attention_core.fitting import Fit, Loss, fit
from attention_core.leave_one_out import Measure, leave_one_out
from attention_core.typing import Array

__all__ = ["Batches", "learned"]


# Iterations on a batch: enough for L-BFGS to learn how its loss is curved.
_ITERATIONS = 10


class Batches:
    """The losses of one batch of rows after the other, each drawn when its turn comes.

    Rows are drawn without replacement until all have had their turn, then anew.
    """

    def __init__(
        self,
        key: Array,
        value: Array,
        measure: Measure,
        *,
        size: int,
        count: int,
        random_state: np.random.RandomState,
        workers: int | None,
    ) -> None:
        self._arrays = key, value, measure
        self._size = size
        self._count = count
        self._random_state = random_state
        self._workers = workers

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Loss[Scorer]]:
        waiting = np.empty(0, np.intp)
        for _ in range(self._count):
            if len(waiting) < self._size:
                waiting = self._random_state.permutation(len(self._arrays[0]))
            rows, waiting = np.split(waiting, [self._size])
            yield leave_one_out(*self._arrays, rows=np.sort(rows), workers=self._workers)


def learned(
    scorer: Scorer,
    key: Array,
    value: Array,
    measure: Measure,
    *,
    max_iter: int,
    tol: float,
    penalty: float,
    batch_size: int,
    validation_fraction: float | None,
    patience: int,
    random_state: np.random.RandomState,
    workers: int | None,
    progress: bool,
) -> Fit[Scorer]:
    """The scorer with parameters learned from rows (n, D) and their values (n, Dv).

    With a `validation_fraction`, so many of the rows are left out of learning altogether: they are
    predicted from the others after every iteration.
    """
    validation = None
    if validation_fraction is not None:
        order = random_state.permutation(len(key))
        held, rest = np.split(order, [max(1, round(validation_fraction * len(key)))])
        if len(rest) < 2:  # one row alone has no others to be predicted from
            raise OptionError(  # in the words that scikit-learn looks for
                f"n_samples = {len(key)} leaves {len(rest)} to learn from at validation_fraction="
                f"{validation_fraction!r}, and it takes 2: give more rows, a smaller fraction, or "
                f"early_stopping=False"
            )
        held_key, held_value = key[held], value[held]
        key, value = key[rest], value[rest]

        def validation(scorer: Scorer) -> float:
            context = Attention(scorer, workers=workers)(held_key, key, value).context
            return measure(context, held_value)[0]

    losses: Loss[Scorer] | Batches = leave_one_out(key, value, measure, workers=workers)
    if len(key) > batch_size:
        losses = Batches(
            key,
            value,
            measure,
            size=batch_size,
            count=max(1, round(max_iter / _ITERATIONS)),
            random_state=random_state,
            workers=workers,
        )
        max_iter = min(max_iter, _ITERATIONS)
    return fit(
        scorer,
        losses,
        max_iter=max_iter,
        tol=tol,
        penalty=penalty,
        validation=validation,
        patience=patience,
        progress=progress,
    )
