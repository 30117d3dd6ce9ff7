"""The checks as tests of pytest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from attention_core import Registry, Scorer
from attention_core.testing.kit import scorer_checks
from attention_core.testing.report import CheckError, check_reasons

__all__ = ["parametrize_scorers"]


def parametrize_scorers(
    *scorers: Scorer,
    query_dim: int | None = None,
    key_dim: int | None = None,
    seed: int = 0,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Any:
    """Decorate a test that takes a `check`, to run it for each check of each scorer.

    Parameters
    ----------
    *scorers
        Instances.
    query_dim, key_dim, seed, registry
        As for `scorer_checks`; for every scorer.
    expected_failures
        The checks that are known to fail, and the reason of each, for all scorers. They are marked
        ``xfail(strict=True)``.

    Examples
    --------
    >>> import attention_core as ac
    >>> from attention_core.testing import parametrize_scorers
    >>> @parametrize_scorers(ac.make_scorer("dot"), ac.make_scorer("scaled_dot", scale=0.1))
    ... def test_scorer(check):
    ...     check()
    """
    import pytest  # the kit works without it

    reasons = dict(expected_failures or {})
    names: Counter[str] = Counter()
    params = []
    for scorer in scorers:
        label = scorer.origin.name if scorer.origin else type(scorer).__name__
        names[label] += 1
        if names[label] > 1:
            label += str(names[label])
        checks = list(
            scorer_checks(
                scorer, query_dim=query_dim, key_dim=key_dim, seed=seed, registry=registry
            )
        )
        check_reasons(reasons, [check.name for check in checks])
        for check in checks:
            marks = (
                [pytest.mark.xfail(reason=reasons[check.name], raises=CheckError, strict=True)]
                if check.name in reasons
                else []
            )
            params.append(pytest.param(check, id=f"{label}-{check.name}", marks=marks))
    return pytest.mark.parametrize("check", params)
