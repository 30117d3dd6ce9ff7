"""attention-core, called as a user would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

import attention_core as ac
from benchmarks.problems import Inputs, Problem
from benchmarks.third_party import THIRD_PARTY


def version() -> str:
    return str(ac.__version__)


def prepare(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    query, key, value = inputs[:3]
    scorer: Any = problem.scorer
    if problem.scorer == "additive":
        scorer = ac.make_scorer(
            "additive",
            query_weight=inputs.query_weight,
            key_weight=inputs.key_weight,
            score_weight=inputs.score_weight,
        )
    if problem.scorer in THIRD_PARTY:
        scorer = THIRD_PARTY[problem.scorer](inputs)
    options: dict[str, Any] = {"is_causal": problem.is_causal, "window": problem.window}
    if problem.edges:
        stored = (inputs.edges[0] >= 0, inputs.edges)
        options["mask"] = csr_array(stored, shape=(problem.L, problem.S))
    if problem.grid:
        options["mask"] = ac.Neighborhood(problem.grid, problem.radius)
    if problem.is_prepared:
        memory = ac.Attention(scorer).memory(key, value)
        return lambda: ac.attend(query, memory, scorer=scorer, **options).context
    if problem.is_training:
        from benchmarks.peers import ours_torch  # the other problems do not need torch

        return ours_torch.prepare(scorer, inputs)
    if problem.is_backward:
        result = ac.attend(query, key, value, scorer=scorer, **options)
        return lambda: gradients(result.vjp(inputs.grad))
    return lambda: ac.attend(query, key, value, scorer=scorer, **options).context


def gradients(found: ac.Gradients) -> tuple[Any, ...]:
    names = ("query_weight", "key_weight", "score_weight")
    parameters = [found.parameters[name] for name in names if name in found.parameters]
    return (found.query, found.key, found.value, *parameters)


def to_numpy(result: Any) -> Any:
    if isinstance(result, tuple):
        return np.concatenate([np.ravel(array) for array in result])
    return result
