"""Attention in a cluster of workers on this machine: memory, time, tasks, and bytes that travel.

``python -m benchmarks.beyond_one_machine CASE`` runs one of the cases of the page "Beyond one
machine" and prints its rows: ``keys``, ``speed``, ``tasks`` or ``costs``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np

from attention_core.dask import attend

__all__ = ["CASES"]

GIB = 1 << 30


def random(length: int, features: int, rows: int, seed: int) -> da.Array:
    """Normal float32 numbers (length, features), made by the tasks that need them.

    As from a file, every chunk is read where it is needed.
    """
    chunks = da.core.normalize_chunks((rows, features), (length, features))
    meta = np.empty((0, 0), np.float32)
    return da.map_blocks(normal, seed, chunks=chunks, meta=meta)


def normal(seed: int, block_info: Any = None) -> np.ndarray[Any, Any]:
    """One chunk of such numbers."""
    place, shape = block_info[None]["chunk-location"], block_info[None]["chunk-shape"]
    return np.random.default_rng([seed, *place]).standard_normal(shape, np.float32)


@contextmanager
def cluster(workers: int, memory: float) -> Iterator[distributed.Client]:
    """Workers of one thread each, limited to some GiB of memory."""
    started = distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=int(memory * GIB),
        dashboard_address=":0",
    )
    with started, distributed.Client(started) as client:
        yield client


def measure(client: distributed.Client, *arrays: Any) -> dict[str, Any]:
    """Seconds of a computation, its tasks, bytes between workers, and the largest worker."""
    before = sent(client)
    start = time.perf_counter()
    futures = client.compute(list(arrays))
    distributed.wait(futures)
    seconds = time.perf_counter() - start
    peaks = client.run(peak)
    (graph,) = dask.optimize(list(arrays))
    tasks = {key for array in graph for key in array.dask}
    client.gather(futures)
    return {
        "seconds": round(seconds, 1),
        "tasks": len(tasks),
        "MiB sent": round((sent(client) - before) / 2**20, 1),
        "GiB of a worker": round(max(peaks.values()) / GIB, 2),
    }


def sent(client: distributed.Client) -> int:
    """Bytes that went from one worker to another so far."""
    found = client.run(
        lambda dask_worker: sum(each["total"] for each in dask_worker.transfer_incoming_log)
    )
    return sum(found.values())


def peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def keys() -> None:
    """4 GiB of keys, and as much of values, on two workers of 1 GiB each."""
    length, features, rows = 16_777_216, 64, 131_072
    key, value = (random(length, features, rows, seed) for seed in (1, 2))
    query = random(64, features, 64, 0)
    assert key.nbytes == 4 * GIB
    result = attend(query, key, value, scorer="scaled_dot")
    with cluster(2, 1.0) as client:
        print("keys of 4 GiB, values of 4 GiB:", measure(client, result.context))
        print("their gradients for query:", measure(client, result.vjp(query).query))


def speed() -> None:
    """A case of about 20 seconds on one worker, and on two."""
    key, value = (random(1_310_720, 64, 65_536, seed) for seed in (1, 2))
    query = random(4096, 64, 2048, 0)
    result = attend(query, key, value, scorer="scaled_dot")
    found = {}
    for workers in (1, 2):
        with cluster(workers, 4.0) as client:
            found[workers] = measure(client, result.context)
            print(workers, "workers:", found[workers])
    print("ratio", round(found[2]["seconds"] / found[1]["seconds"], 2))


def tasks() -> None:
    """Tasks and bytes for some lengths and chunks, forward and backward."""
    for length, keys, chunk, is_causal in (
        (4096, 4096, 512, False),
        (4096, 4096, 512, True),
        (256, 65_536, 4096, False),
        (8192, 65_536, 2048, False),
    ):
        query = random(length, 64, min(chunk, length), 0)
        key, value = (random(keys, 64, chunk, seed) for seed in (1, 2))
        result = attend(query, key, value, scorer="scaled_dot", is_causal=is_causal)
        with cluster(2, 2.0) as client:
            name = f"L {length}, S {keys}, chunks {chunk}, causal {is_causal}"
            print(name, result.task_count, "blocks; forward:", measure(client, result.context))
            gradients = result.vjp(query)[:3]
            print(name, "backward:", measure(client, *gradients))


def costs() -> None:
    """The cost of a task that does nothing, of a merge, and of a block of each size."""
    tiny = random(64, 4, 1, 0)
    result = attend(tiny, tiny, tiny, scorer="dot")
    with cluster(2, 2.0) as client:
        found = measure(client, result.context)
        print("a task:", round(1e3 * found["seconds"] / found["tasks"], 2), "ms", found)
    with dask.config.set(scheduler="synchronous"):
        for rows in (512, 1024, 2048, 4096):
            query, key, value = (np.ones((rows, 64), np.float32) for _ in range(3))
            block = attend(query, key, value, scorer="scaled_dot")
            start = time.perf_counter()
            block.context.compute()
            middle = time.perf_counter()
            dask.compute(block.vjp(query)[:3])
            end = time.perf_counter()
            print(rows, "x", rows, round(1e3 * (middle - start), 1), "ms forward,", end=" ")
            print(round(1e3 * (end - middle), 1), "ms backward with forward")


CASES = {"costs": costs, "keys": keys, "speed": speed, "tasks": tasks}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("case", choices=sorted(CASES))
    CASES[parser.parse_args().case]()
