"""attention-core, called as anyone would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scipy.sparse import csr_array

import attention_core as ac
from benchmarks.cases import Inputs, Problem


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
    options: dict[str, Any] = {"is_causal": problem.is_causal, "window": problem.window}
    if problem.edges:
        stored = (inputs.edges[0] >= 0, inputs.edges)
        options["mask"] = csr_array(stored, shape=(problem.L, problem.S))
    if problem.is_prepared:
        memory = ac.Attention(scorer).memory(key, value)
        return lambda: ac.attend(query, memory, scorer=scorer, **options).context
    return lambda: ac.attend(query, key, value, scorer=scorer, **options).context
