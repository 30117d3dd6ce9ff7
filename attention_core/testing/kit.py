"""The checks of a scorer: one for each rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from attention_core import OptionTypeError, Registry, Scorer
from attention_core.registry.default import default_registry
from attention_core.testing.report import Check, CheckError, Report, run_checks
from attention_core.testing.rules import arrays, contract, gradients, independence, numbers, shapes
from attention_core.testing.subject import Rule, Subject, find_features

__all__ = ["check_gradients", "check_scorer", "scorer_checks"]

RULES = (
    *shapes.RULES,
    *arrays.RULES,
    *independence.RULES,
    *numbers.RULES,
    *gradients.RULES,
    *contract.RULES,
)


def scorer_checks(
    scorer: Scorer,
    *,
    query_dim: int | None = None,
    key_dim: int | None = None,
    seed: int = 0,
    registry: Registry | None = None,
) -> Iterator[Check]:
    """The checks of a scorer, to run one by one.

    Parameters
    ----------
    scorer
        An instance; a learned one with small parameters.
    query_dim, key_dim
        How many features queries and keys have, Dq and Dk. Left out, what the other one is, 4,
        and the lengths of the axes of its parameters are tried, and the first that the scorer
        scores is taken.
    seed
        Of the arrays it is tried with.
    registry
        Where its name is known; by default what is installed.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import scorer_checks
    >>> for check in scorer_checks(ac.make_scorer("scaled_dot", scale=0.1)):
    ...     note = check()
    """
    if not isinstance(scorer, Scorer):
        hint = "; call the class to make one" if isinstance(scorer, type) else ""
        raise OptionTypeError(f"scorer must be a Scorer, got {scorer!r}{hint}")
    dims = find_features(scorer, query_dim, key_dim)
    for rule in RULES:
        yield _check(rule, scorer, dims, seed, registry)


def check_gradients(
    scorer: Scorer, *, query_dim: int | None = None, key_dim: int | None = None, seed: int = 0
) -> Report:
    """Compare the gradients of a scorer with finite differences: only these checks of the kit.

    With respect to queries, keys and every parameter, along random directions in float64; and the
    gradients of pairs with those of tiles.

    Parameters
    ----------
    scorer, query_dim, key_dim, seed
        As for `scorer_checks`.

    Raises
    ------
    NotDifferentiableError
        For a scorer that lacks a vector-Jacobian product; the message says which to write.
    CheckError
        When gradients differ; the message is the report.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import check_gradients
    >>> scorer = ac.make_scorer("additive", query_dim=3, key_dim=4, hidden_dim=5, rng=0)
    >>> print(check_gradients(scorer).summary())
    2 passed
    """
    checks = scorer_checks(scorer, query_dim=query_dim, key_dim=key_dim, seed=seed)
    chosen = [check for check in checks if check.name in {rule.name for rule in gradients.RULES}]
    scorer.check_differentiable()
    return passed(run_checks(chosen))


def _check(
    rule: Rule, scorer: Scorer, dims: tuple[int, int], seed: int, registry: Registry | None
) -> Check:
    def run() -> str | None:
        known = registry or default_registry()
        return rule.holds(Subject(scorer, *dims, known, np.random.default_rng(seed)))

    about = f"{scorer} with query_dim={dims[0]}, key_dim={dims[1]}"
    return Check(rule.name, about, rule.claim, rule.fix, run)


def check_scorer(
    scorer: Scorer,
    *,
    query_dim: int | None = None,
    key_dim: int | None = None,
    seed: int = 0,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Report:
    """Run every check of a scorer.

    Parameters
    ----------
    scorer, query_dim, key_dim, seed, registry
        As for `scorer_checks`.
    expected_failures
        Names of checks that are known to fail, and the reason of each. One that passes after all
        counts as a failure, so that reasons do not outlive what they explain.

    Returns
    -------
    Report
        What came of each check; print it.

    Raises
    ------
    CheckError
        When a check fails; the message is the report.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import check_scorer
    >>> class Taxicab(ac.Scorer):
    ...     "score = -sum_d |q_d - k_d|"
    ...
    ...     def check_features(self, query_dim, key_dim):
    ...         if query_dim != key_dim:
    ...             raise ac.ShapeError("taxicab needs queries and keys with equal features")
    ...
    ...     def score(self, query, key):  # (..., L, D), (..., S, D) -> (..., L, S)
    ...         return -abs(query[..., :, None, :] - key[..., None, :, :]).sum(-1)
    >>> check_scorer(Taxicab()).ok
    True
    """
    checks = scorer_checks(
        scorer, query_dim=query_dim, key_dim=key_dim, seed=seed, registry=registry
    )
    return passed(run_checks(checks, expected_failures=expected_failures))


def passed(report: Report) -> Report:
    """The report itself, when there are no failures."""
    if not report.ok:
        raise CheckError(f"\n{report}")
    return report
