"""Training the parameters of a scorer: flatten them, minimize a loss, keep the best.

    parameters* = argmin loss(scorer with parameters)

The loss is any function of a scorer that also returns its gradients, which `AttentionResult.vjp`
computes exactly. SciPy's L-BFGS-B minimizes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from attention_core.arguments import checked_arguments
from attention_core.arrays.scalars import check_amount, check_count, check_flag
from attention_core.errors import OptionError, OptionTypeError, ScorerConfigError, shown
from attention_core.fitting.objective import Learnable, Loss, Objective, S, Vector
from attention_core.fitting.progress import progress_line

__all__ = ["Fit", "Learnable", "Loss", "fit"]

_MAX_ITER = 1  # the status of `OptimizeResult` of L-BFGS-B when iterations ran out


@dataclass(frozen=True, slots=True)
class Fit(Generic[S]):
    """The result of `fit`."""

    scorer: S
    """The scorer of the iteration with the lowest validation loss, or lowest loss without one."""
    losses: tuple[float, ...]
    """The loss with the penalty, at the start and after every iteration."""
    validation_losses: tuple[float, ...]
    """The validation loss at the start and after every iteration; empty if there is none."""
    message: str
    """The reason for the end, as text."""
    is_converged: bool
    """Whether it ended before `max_iter` iterations, or by `patience`."""

    @property
    def n_iter(self) -> int:
        """The number of iterations."""
        return len(self.losses) - 1


@checked_arguments
def fit(
    scorer: S,
    loss: Loss[S] | Iterable[Loss[S]],
    *,
    max_iter: int = 100,
    tol: float = 1e-5,
    penalty: float = 0.0,
    validation: Callable[[S], float] | None = None,
    patience: int = 10,
    progress: bool = False,
) -> Fit[S]:
    """Learn the parameters of a scorer with L-BFGS-B.

    Parameters
    ----------
    scorer
        The start: a `Scorer`, a `MultiHeadAttention`, or anything else that is `Learnable`. It is
        not changed.
    loss
        A function of a scorer that returns the loss and its gradients; or several of them, such
        as the losses of mini-batches, each minimized from the end of the one before.
    max_iter
        Maximum of iterations for each loss. Most iterations call the loss once, some more often.
    tol
        A loss is done when an iteration improves it by less than this fraction of it (of 1, for
        losses below 1), or when no gradient exceeds it.
    penalty
        Adds ``penalty * |p - start|^2`` for the vector p of parameters, which keeps them near their
        start.
    validation
        The loss of a scorer on other data; the scorer with the lowest one is returned.
    patience
        With `validation`: stop after this many iterations without improvement.
    progress
        Whether to show progress on stderr: a bar in a terminal, otherwise a line per iteration.

    Returns
    -------
    Fit

    Raises
    ------
    OptionError
        For invalid options or without a loss; for a loss that is not finite at the start, or whose
        gradients are not; for a validation loss that is NaN there.
    OptionTypeError
        For options of the wrong type, a loss that is not a function or does not return a number and
        gradients, and a scorer without a `parameter_vector`, such as a name.
    ScorerConfigError
        For a scorer without parameters.
    ShapeError
        For gradients whose shape differs from that of the parameters.
    NotDifferentiableError
        If the loss requires gradients that the scorer does not have.

    Notes
    -----
    The parameters keep their dtype; the optimized vector is float64. A step to a point where the
    loss or its gradients are not finite is replaced by a shorter one.

    References
    ----------
    Byrd, Lu, Nocedal and Zhu 1995, doi:10.1137/0916069 (L-BFGS-B). Le et al. 2011, "On optimization
    methods for deep learning", ICML (on mini-batches). Prechelt 1998, doi:10.1007/3-540-49430-8_3
    (early stopping).

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> rng = np.random.default_rng(0)
    >>> query, key, value = rng.normal(size=(3, 20, 2))
    >>> truth = ac.make_scorer("general", weight=[[1.0, -0.5], [0.0, 2.0]])
    >>> target = ac.attend(query, key, value, scorer=truth).context
    >>> def squared_error(scorer):
    ...     result = ac.attend(query, key, value, scorer=scorer)
    ...     error = result.context - target
    ...     return (error**2).sum(), result.vjp(2 * error)
    >>> start = ac.make_scorer("general", query_dim=2, key_dim=2, rng=0)
    >>> found = fit(start, squared_error, tol=1e-9)
    >>> found.scorer.weight.round(2)
    array([[ 1. , -0.5],
           [ 0. ,  2. ]])
    """
    from scipy.optimize import minimize  # only training needs it

    _check_scorer(scorer)
    check_count("max_iter", max_iter)
    check_count("patience", patience)
    check_amount("tol", tol)
    check_amount("penalty", penalty)
    check_flag("progress", progress)
    if validation is not None and not callable(validation):
        raise OptionTypeError(f"validation must be a function of a scorer, got {shown(validation)}")
    losses = [loss] if callable(loss) else loss
    if not isinstance(losses, Iterable):
        raise OptionTypeError(_no_loss(losses))
    total = max_iter * len(losses) if isinstance(losses, Sized) else None
    line = progress_line("learning", in_lines=True) if progress else nullcontext(_say_nothing)
    start = scorer.parameter_vector
    run = _Run(scorer, start, validation, patience)
    message, is_converged = "", False
    with line as report:
        for each in losses:
            if not callable(each):
                raise OptionTypeError(_no_loss(each))
            run.begin(Objective(each, scorer, run.vector, start, penalty))

            def after(intermediate_result: Any) -> None:
                run.note(intermediate_result.x, float(intermediate_result.fun))
                run.objective.begin_iteration(run.vector, run.losses[-1])
                report(len(run.losses) - 1, total, f"loss {run.losses[-1]:.4g}")
                if run.is_stale:
                    raise StopIteration

            found = minimize(
                run.objective,
                run.vector,
                jac=True,
                method="L-BFGS-B",
                callback=after,
                options={"maxiter": max_iter, "ftol": tol, "gtol": tol},
            )
            message = str(found.message)
            is_converged = run.is_stale or found.status != _MAX_ITER
            if run.is_stale:
                message = f"no better validation loss for {patience} iterations"
                break
    if not run.losses:
        raise OptionError("loss must be a function of a scorer, or several of them, got none")
    return Fit(
        run.best_scorer, tuple(run.losses), tuple(run.validation_losses), message, is_converged
    )


class _Run(Generic[S]):
    """The points tried so far, and the best of them."""

    def __init__(
        self, scorer: S, start: Vector, validation: Callable[[S], float] | None, patience: int
    ) -> None:
        self.scorer = self.best_scorer = scorer
        self.validation = validation
        self.patience = patience
        self.vector = start
        self.losses: list[float] = []
        self.validation_losses: list[float] = []
        self._best = np.inf
        self._best_at = 0

    def begin(self, objective: Objective[S]) -> None:
        """Start on a loss; without validation, earlier losses no longer matter."""
        self.objective = objective
        if self.validation is None:
            self._best = np.inf
        if not self.losses:
            self.note(self.vector, objective.value)

    def note(self, vector: Vector, loss: float) -> None:
        """Record the point of an iteration and its loss."""
        self.vector = vector.copy()  # SciPy overwrites it
        scorer = self.scorer.with_parameter_vector(self.vector)
        self.losses.append(loss)
        if self.validation is not None:
            loss = float(self.validation(scorer))
            if not self.validation_losses and np.isnan(loss):
                raise OptionError(
                    f"validation must not be NaN at the start: its arrays hold NaN or Inf, "
                    f"or {scorer} gives them such scores"
                )
            self.validation_losses.append(loss)
        if loss < self._best:
            self._best, self._best_at, self.best_scorer = loss, len(self.losses), scorer

    @property
    def is_stale(self) -> bool:
        """Whether the validation loss has not improved for too long."""
        return self.validation is not None and len(self.losses) - self._best_at >= self.patience


def _check_scorer(scorer: Any) -> None:
    vector = getattr(scorer, "parameter_vector", None)
    if not isinstance(vector, np.ndarray):  # a property, for a class
        hint = "; call the class to make one" if isinstance(scorer, type) else ""
        if isinstance(scorer, str):
            hint = f"; make_scorer({scorer!r}, ...) makes one"
        raise OptionTypeError(
            f"scorer must be a Scorer, a MultiHeadAttention or another object with a "
            f"parameter_vector, got {shown(scorer)}{hint}"
        )
    if not vector.size:
        raise ScorerConfigError(f"{scorer} has no parameters to learn")


def _say_nothing(done: int, total: int | None = None, note: str = "") -> None:
    """Report nothing."""


def _no_loss(loss: Any) -> str:
    return f"loss must be a function of a scorer, or several of them, got {shown(loss)}"
