"""Many threads attend, differentiate and read results: the same bits as in one thread."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import numpy as np
from cases import dense, make_case

import attention_core as ac
from campaign.calls import Call, Rng, random_call

QUICK = 1
THREADS = 64


def everything(call: Call, grad: Any, memory: ac.Memory) -> list[Any]:
    result = ac.attend(call.query, call.key, call.value, scorer=call.case.scorer, **call.options)
    found = [result.context, dense(result.weights), result.log_normalizer, result.entropy]
    if call.case.name != "taxicab":
        gradients = result.vjp(grad)
        found += [gradients.query, gradients.key, gradients.value, *gradients.parameters.values()]
    found.append(ac.attend(call.query, memory, scorer=call.case.scorer).context)
    return found


def large_call(rng: Rng) -> Call:
    """A call that is large enough for helper threads."""
    case = make_case(str(rng.choice(["additive", "scaled_dot", "general"])))
    query, key, value = case.arrays(rng, (2,), queries=150, keys=200, dtype=np.float32)
    options = {"workers": int(rng.integers(1, 4)), "is_causal": bool(rng.integers(2))}
    return Call(case, query, key, value, options)


def check(rng: Rng) -> None:
    calls = [random_call(rng) for _ in range(6)] + [large_call(rng) for _ in range(3)]
    prepared = []
    for call in calls:
        memory = ac.Memory(call.case.scorer, call.key, call.value)
        grad = rng.standard_normal(
            ac.attend(call.query, call.key, call.value, scorer=call.case.scorer).context.shape
        )
        prepared.append((call, grad, memory))
    expected = [everything(*each) for each in prepared]
    start = threading.Barrier(THREADS)

    def work(order: Any) -> None:
        start.wait(600)
        for index in order:
            for ours, theirs in zip(everything(*prepared[index]), expected[index], strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=repr(prepared[index][0]))

    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [pool.submit(work, rng.permutation(len(prepared))) for _ in range(THREADS)]
        for job in jobs:
            job.result(timeout=600)


def shares_a_result() -> mock.mock._patch:
    """Share the result of a call between threads until it is returned."""
    attend, place = ac.attend, {}

    def hasty(*args, **options):
        place["result"] = attend(*args, **options)
        time.sleep(1e-4)
        return place["result"]

    return mock.patch.object(ac, "attend", hasty)


FAULTS = {"shares a result among threads": shares_a_result}
