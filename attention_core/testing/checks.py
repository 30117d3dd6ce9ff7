"""The checks of scorers, normalizers and biases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from attention_core import Bias, Normalizer, Registry, Scorer
from attention_core.arguments import checked_arguments
from attention_core.arrays.scalars import check_size
from attention_core.registry.kinds import BIAS, NORMALIZER, SCORER, Kind
from attention_core.testing.bias_subject import BiasSubject
from attention_core.testing.kit import checks_of, passed, require_instance
from attention_core.testing.normalizer_subject import NormalizerSubject, find_batch
from attention_core.testing.report import Check, Report, run_checks
from attention_core.testing.rules import gradients
from attention_core.testing.scorer_subject import ScorerSubject, find_features

__all__ = [
    "bias_checks",
    "check_bias",
    "check_gradients",
    "check_normalizer",
    "check_scorer",
    "component_checks",
    "normalizer_checks",
    "scorer_checks",
]


@checked_arguments
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
        An instance; if it is trainable, with small parameters.
    query_dim, key_dim
        The numbers of features of queries and keys, Dq and Dk. By default the first that the
        scorer accepts of these: the other number, 4, and the lengths of the axes of its parameters.
    seed
        The seed of the random arrays.
    registry
        The registry that holds its name; by default that of the installed scorers.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import scorer_checks
    >>> for check in scorer_checks(ac.make_scorer("scaled_dot", scale=0.1)):
    ...     note = check()
    """
    require_instance(SCORER, scorer)
    for name, dim in (("query_dim", query_dim), ("key_dim", key_dim)):
        if dim is not None:
            check_size(name, dim)
    dims = find_features(scorer, query_dim, key_dim)
    make = partial(ScorerSubject, scorer, query_dim=dims[0], key_dim=dims[1])
    about = f"{scorer} with query_dim={dims[0]}, key_dim={dims[1]}"
    return checks_of(SCORER, about, make, seed, registry)


@checked_arguments
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
        If the scorer lacks a vector-Jacobian product; the message says which to write.
    CheckError
        If gradients differ; the message is the report.

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


@checked_arguments
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
        The checks that are known to fail, with a reason for each. If such a check passes, that is
        a failure too, so that outdated entries are noticed.

    Returns
    -------
    Report
        The outcome of each check, readable when printed.

    Raises
    ------
    CheckError
        If a check fails; the message is the report.

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


@checked_arguments
def normalizer_checks(
    normalizer: Normalizer, *, seed: int = 0, registry: Registry | None = None
) -> Iterator[Check]:
    """Yield the checks of a normalizer; the parameters are those of `scorer_checks`.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import normalizer_checks
    >>> [check.name for check in normalizer_checks(ac.Softmax())][:3]
    ['statistics', 'shape', 'dtype']
    """
    require_instance(NORMALIZER, normalizer)
    make = partial(NormalizerSubject, normalizer, batch=find_batch(normalizer))
    return checks_of(NORMALIZER, str(normalizer), make, seed, registry)


@checked_arguments
def check_normalizer(
    normalizer: Normalizer,
    *,
    seed: int = 0,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Report:
    """Run every check of a normalizer; parameters and errors are those of `check_scorer`.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> from attention_core.testing import check_normalizer
    >>> class Share(ac.Normalizer):
    ...     "weights = 1 / number of keys"
    ...
    ...     empty = (0.0,)
    ...
    ...     def statistics(self, scores):  # (..., l, s) -> (..., l, 1)
    ...         return ((scores > -np.inf).sum(axis=-1, keepdims=True, dtype=scores.dtype),)
    ...
    ...     def weights(self, scores, statistics):
    ...         return np.divide(scores > -np.inf, np.maximum(statistics[0], 1), dtype=scores.dtype)
    >>> check_normalizer(Share()).ok
    True
    """
    checks = normalizer_checks(normalizer, seed=seed, registry=registry)
    return passed(run_checks(checks, expected_failures=expected_failures))


@checked_arguments
def bias_checks(bias: Bias, *, seed: int = 0, registry: Registry | None = None) -> Iterator[Check]:
    """Yield the checks of a bias; the parameters are those of `scorer_checks`.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import bias_checks
    >>> [check.name for check in bias_checks(ac.make_bias("alibi", heads=2))][:3]
    ['shape', 'tiles', 'pairs']
    """
    require_instance(BIAS, bias)
    return checks_of(BIAS, str(bias), partial(BiasSubject, bias), seed, registry)


@checked_arguments
def check_bias(
    bias: Bias,
    *,
    seed: int = 0,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Report:
    """Run every check of a bias; parameters and errors are those of `check_scorer`.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import check_bias
    >>> check_bias(ac.make_bias("relative", max_distance=3, heads=2)).ok
    True
    """
    checks = bias_checks(bias, seed=seed, registry=registry)
    return passed(run_checks(checks, expected_failures=expected_failures))


def component_checks(kind: Kind[Any], component: Any, **options: Any) -> Iterator[Check]:
    """The checks of a component of any kind; the options are those of its function."""
    functions: dict[Kind[Any], Callable[..., Iterator[Check]]] = {
        SCORER: scorer_checks,
        NORMALIZER: normalizer_checks,
        BIAS: bias_checks,
    }
    return functions[kind](component, **options)
