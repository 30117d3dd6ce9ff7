"""The checks as pytest tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from attention_core import Bias, Normalizer, Registry, Scorer
from attention_core.arguments import checked_arguments
from attention_core.testing.checks import bias_checks, normalizer_checks, scorer_checks
from attention_core.testing.report import Check, CheckError, check_reasons

__all__ = ["parametrize_biases", "parametrize_normalizers", "parametrize_scorers"]


@checked_arguments
def parametrize_scorers(
    *scorers: Scorer,
    query_dim: int | None = None,
    key_dim: int | None = None,
    seed: int = 0,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Any:
    """Decorate a test with an argument `check`: it runs for each check of each scorer.

    Parameters
    ----------
    *scorers
        Instances.
    query_dim, key_dim, seed, registry
        As for `scorer_checks`; they apply to every scorer.
    expected_failures
        The checks that are known to fail, with a reason for each, for all scorers. They are marked
        ``xfail(strict=True)``.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import parametrize_scorers
    >>> @parametrize_scorers(ac.make_scorer("dot"), ac.make_scorer("scaled_dot", scale=0.1))
    ... def test_scorer(check):
    ...     check()
    """
    checks = partial(
        scorer_checks, query_dim=query_dim, key_dim=key_dim, seed=seed, registry=registry
    )
    return _parametrized(scorers, checks, expected_failures)


@checked_arguments
def parametrize_normalizers(
    *normalizers: Normalizer,
    seed: int = 0,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Any:
    """Decorate a test with an argument `check`, as `parametrize_scorers`, for normalizers.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import parametrize_normalizers
    >>> @parametrize_normalizers(ac.Softmax(), ac.Softmax(sink=[0.5, -1.0]))
    ... def test_normalizer(check):
    ...     check()
    """
    checks = partial(normalizer_checks, seed=seed, registry=registry)
    return _parametrized(normalizers, checks, expected_failures)


@checked_arguments
def parametrize_biases(
    *biases: Bias,
    seed: int = 0,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Any:
    """Decorate a test with an argument `check`, as `parametrize_scorers`, for biases.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import parametrize_biases
    >>> @parametrize_biases(ac.make_bias("alibi", heads=4))
    ... def test_bias(check):
    ...     check()
    """
    checks = partial(bias_checks, seed=seed, registry=registry)
    return _parametrized(biases, checks, expected_failures)


def _parametrized(
    components: Iterable[Any],
    checks_of: Callable[[Any], Iterator[Check]],
    expected_failures: Mapping[str, str] | None,
) -> Any:
    import pytest  # the kit works without it

    reasons = {} if expected_failures is None else expected_failures
    names: Counter[str] = Counter()
    params = []
    for component in components:
        checks = list(checks_of(component))
        label = component.origin.name if component.origin else type(component).__name__
        names[label] += 1
        if names[label] > 1:
            label += str(names[label])
        check_reasons(reasons, [check.name for check in checks])
        for check in checks:
            marks = (
                [pytest.mark.xfail(reason=reasons[check.name], raises=CheckError, strict=True)]
                if check.name in reasons
                else []
            )
            params.append(pytest.param(check, id=f"{label}-{check.name}", marks=marks))
    return pytest.mark.parametrize("check", params)
