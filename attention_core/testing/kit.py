"""The checks of a scorer: one for each rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from attention_core import OptionTypeError, Registry, Scorer
from attention_core.registry.default import default_registry
from attention_core.testing.report import Check, CheckError, Report, run_checks
from attention_core.testing.rules import (
    arrays,
    compiled,
    contract,
    gradients,
    independence,
    numbers,
    shapes,
)
from attention_core.testing.subject import Rule, Subject, find_features

__all__ = ["check_gradients", "check_scorer", "scorer_checks"]

RULES = (
    *shapes.RULES,
    *arrays.RULES,
    *independence.RULES,
    *numbers.RULES,
    *gradients.RULES,
    *compiled.RULES,
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
    """Yield the checks of a scorer.

    Parameters
    ----------
    scorer
        An instance; a learned one with small parameters.
    query_dim, key_dim
        The numbers of features of queries and keys, Dq and Dk. By default the other number, 4, and
        the lengths of the axes of its parameters are tried, and the first that the scorer accepts
        is used.
    seed
        The seed of the random arrays.
    registry
        The registry of its name; the installed scorers by default.

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
    """Compare the gradients of a scorer with finite differences.

    The gradients with respect to queries, keys and every parameter are compared along random
    directions in float64, and the gradients of pairs with those of tiles.

    Parameters
    ----------
    scorer, query_dim, key_dim, seed
        As for `scorer_checks`.

    Raises
    ------
    NotDifferentiableError
        For a scorer that lacks a vector-Jacobian product; the message says which to write.
    CheckError
        For gradients that differ; the message is the report.

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
    about = f"{scorer} with query_dim={dims[0]}, key_dim={dims[1]}"
    run = partial(_run, rule.name, scorer, dims, seed, registry)  # can be pickled
    return Check(rule.name, about, rule.claim, rule.fix, run)


def _run(
    name: str, scorer: Scorer, dims: tuple[int, int], seed: int, registry: Registry | None
) -> str | None:
    (rule,) = (rule for rule in RULES if rule.name == name)
    known = registry or default_registry()
    return rule.holds(Subject(scorer, *dims, known, np.random.default_rng(seed)))


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
        The checks that are known to fail, and the reason of each. One that passes counts as a
        failure, so that excuses do not outlive their reasons.

    Returns
    -------
    Report
        The outcome of each check, readable when printed.

    Raises
    ------
    CheckError
        For a check that fails; the message is the report.

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
    """Return the report, or raise it as an error if there are failures."""
    if not report.ok:
        raise CheckError(f"\n{report}")
    return report
