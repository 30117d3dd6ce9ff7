"""attention-core as a module of PyTorch, for a step of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import attention_core as ac
from benchmarks.peers.torch_eager import training
from benchmarks.problems import Inputs


def prepare(scorer: ac.Scorer, inputs: Inputs) -> Callable[[], Any]:
    module = ac.torch.Attention(scorer)
    names = ["scorer.query_weight", "scorer.key_weight", "scorer.score_weight"]

    def context(query: Any, key: Any, value: Any, *weights: Any) -> Any:
        parameters = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(module, parameters, (query, key, value)).context

    step = training(context, inputs)
    step()  # compiles, as the peers do before their memory is measured
    return step
