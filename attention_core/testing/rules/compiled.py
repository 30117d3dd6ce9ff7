"""Rules about scorers defined by a function of two rows: compiled code agrees with NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from attention_core import PluginWarning
from attention_core.compiled.switch import is_switched_on
from attention_core.scoring.compiled_forms import FEWEST_NUMBERS, compiled_result
from attention_core.scoring.contract import method_of
from attention_core.testing.report import Violation
from attention_core.testing.scorer_subject import ScorerSubject
from attention_core.testing.subject import require_equal, rule
from attention_core.typing import Array

__all__ = ["RULES"]

FIX = "use only what can be compiled; the how-to guide 'Compile your scorer' lists it"


@rule(fix="make pair and pair_vjp compute the same as score and score_vjp")
def compiled(subject: ScorerSubject) -> str | None:
    """Compiled code gives the scores and gradients of NumPy."""
    methods = sorted(subject.scorer.traits.compiled)
    if not methods:
        return "pair is not defined"
    if not is_switched_on():
        return "numba is not installed, or compiling is switched off"
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginWarning)
        for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 2e-4)):
            for method in methods:
                _compare(subject, method, np.dtype(dtype), tolerance)
    method = "score" if "score" in methods else "score_pairs"
    return f"{_speed(subject, method):.1f} times the speed of NumPy"


def _compare(
    subject: ScorerSubject, method: str, dtype: np.dtype[np.floating], tolerance: float
) -> None:
    arrays = _arrays(subject, method, dtype)
    try:
        found = compiled_result(subject.scorer, method, arrays)
    except PluginWarning as warning:
        raise Violation(str(warning), FIX) from None
    if found is None:
        raise Violation("it was not compiled; an earlier PluginWarning says why", FIX)
    with np.errstate(all="ignore"):
        expected = method_of(subject.scorer, method)(*arrays)
    results, wanted = _named(method, found), _named(method, expected)
    if results.keys() != wanted.keys():
        raise Violation(f"pair_vjp gives {', '.join(results)}; {method} gives {', '.join(wanted)}")
    for name, result in results.items():
        require_equal(f"{dtype} {name} of {method}", result, wanted[name], tolerance=tolerance)


def _named(method: str, results: Any) -> dict[str, Array]:
    """The results of a method, by name."""
    if not method.endswith("vjp"):
        return {"scores": results}
    query, key, parameters = results
    named = {f"gradients for parameter {name!r}": grad for name, grad in parameters.items()}
    return {"gradients for queries": query, "gradients for keys": key, **named}


def _arrays(subject: ScorerSubject, method: str, dtype: np.dtype[np.floating]) -> tuple[Array, ...]:
    """Projected arrays that are large enough for compiled code; for gradients, also `grad`."""
    features = subject.project(subject.queries(1), subject.keys(1))[0].shape[-1]
    if "pairs" in method:
        count = FEWEST_NUMBERS // max(features, 1) + 1
        lengths, shape = (count, count), [count]
    else:
        side = int((FEWEST_NUMBERS / max(features, 1)) ** 0.5) + 2
        lengths, shape = (side, side + 1), [side, side + 1]
    query, key = subject.project(
        subject.queries(lengths[0], dtype=dtype), subject.keys(lengths[1], dtype=dtype)
    )
    grad = subject.rng.standard_normal(shape).astype(dtype)
    return (query, key, grad) if method.endswith("vjp") else (query, key)


def _speed(subject: ScorerSubject, method: str) -> float:
    """The time of NumPy over that of compiled code, in float32."""
    arrays = _arrays(subject, method, np.dtype(np.float32))

    def fastest(function: Callable[..., Any]) -> float:
        times = []
        for _ in range(5):
            start = perf_counter()
            function(*arrays)
            times.append(perf_counter() - start)
        return min(times)

    with np.errstate(all="ignore"):
        plain = fastest(method_of(subject.scorer, method))
        own = fastest(lambda *given: compiled_result(subject.scorer, method, given))
    return plain / own


RULES = (compiled,)
