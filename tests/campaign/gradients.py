"""Gradients of every input and parameter, compared with finite differences of the oracle's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import reference

import attention_core as ac
from campaign.calls import Rng, random_call

QUICK = 40
FORMULAS = {
    "additive": reference.additive,
    "dot": lambda: reference.dot,
    "gaussian": reference.gaussian,
    "general": reference.general,
    "scaled_dot": lambda: reference.scaled_dot(),
}


def check(rng: Rng) -> None:
    call = random_call(rng, scorers=FORMULAS)
    inputs = {"query": call.query, "key": call.key, "value": call.value}
    if isinstance(call.options.get("bias"), np.ndarray):
        inputs["bias"] = call.options["bias"]
    parameters = {f"parameters.{name}": a for name, a in call.case.scorer.parameters.items()}
    result = ac.attend(call.query, call.key, call.value, scorer=call.case.scorer, **call.options)
    grad = rng.standard_normal(result.context.shape)
    found = result.vjp(grad)
    slopes = {name: getattr(found, name) for name in inputs}
    slopes |= {f"parameters.{name}": array for name, array in found.parameters.items()}
    options = {k: v for k, v in call.options.items() if k not in {"tile", "workers"}}

    def loss(moved: dict[str, Any]) -> float:
        arrays = {name: moved[name] for name in inputs}
        given = {name.removeprefix("parameters."): moved[name] for name in parameters}
        score = FORMULAS[call.case.name](**given)
        context = reference.attend(**{**options, **arrays}, score=score).context
        return float((context * grad).sum())

    assert_slopes(slopes, loss, inputs | parameters, rng)


def assert_slopes(
    slopes: dict[str, Any], loss: Callable[[dict[str, Any]], float], at: dict[str, Any], rng: Rng
) -> None:
    """Compare gradients with differences of a loss, along a direction that changes some inputs.

    If all changed, the gradient of a large input could hide that of another.
    """
    direction = {n: rng.standard_normal(np.shape(a)) * (rng.random() < 0.5) for n, a in at.items()}
    step = 1e-3

    def moved(steps: int) -> float:
        return loss({name: array + steps * step * direction[name] for name, array in at.items()})

    odd = [moved(n) - moved(-n) for n in (1, 2, 3)]  # sixth-order differences
    theirs = (45 * odd[0] - 9 * odd[1] + odd[2]) / (60 * step)
    parts = [slopes[name] * d for name, d in direction.items()]
    scale = sum(float(abs(part).sum()) for part in parts)
    ours = sum(float(part.sum()) for part in parts)
    assert abs(ours - theirs) <= 1e-6 * scale + 1e-6, (ours, theirs)


def wrong(name: str) -> mock.mock._patch:
    """A library whose gradient of one input is wrong by a part in ten thousand."""
    vjp = ac.AttentionResult.vjp

    def off(self, grad, *args, **options):
        gradients = vjp(self, grad, *args, **options)
        if name == "parameters":
            parameters = {key: array * (1 + 1e-4) for key, array in gradients.parameters.items()}
            return mock.Mock(wraps=gradients, **{**vars_of(gradients), name: parameters})
        array = getattr(gradients, name, None)
        changed = {} if array is None else {name: array * (1 + 1e-4)}
        return mock.Mock(wraps=gradients, **{**vars_of(gradients), **changed})

    return mock.patch.object(ac.AttentionResult, "vjp", off)


def vars_of(gradients: ac.Gradients) -> dict[str, object]:
    return {name: getattr(gradients, name) for name in ("query", "key", "value", "bias",
                                                        "parameters")}  # fmt: skip


FAULTS = {
    f"is wrong for {name}": lambda name=name: wrong(name)
    for name in ("query", "key", "value", "bias", "parameters")
}
