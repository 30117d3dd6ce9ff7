"""Two workers in separate processes: equal results, even if a worker dies."""

import os
import signal
import sys
import textwrap
import time

import numpy as np
import pytest

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")

import attention_core as ac
import attention_core.dask

pytestmark = pytest.mark.slow
attend = attention_core.dask.attend


def start(**options):
    return distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", **options
    )


@pytest.fixture(scope="module")
def client():
    with start() as cluster, distributed.Client(cluster) as client:
        yield client


def test_results_and_gradients_are_those_of_one_machine(client, rng):
    query, key, value = rng.normal(size=(3, 2, 120, 8))
    scorer = ac.make_scorer("additive", query_dim=8, key_dim=8, hidden_dim=6, rng=0)
    bias = ac.make_bias("relative", max_distance=7, heads=2)
    options = {
        "scorer": scorer,
        "bias": bias,
        "mask": lambda i, j: (i * j) % 5 > 0,  # cannot be pickled by name
        "is_causal": True,
        "normalizer": ac.Softmax([0.1, 0.2]),
    }
    grad = rng.normal(size=query.shape)
    whole = ac.attend(query, key, value, **options)
    lazy = [da.from_array(array, chunks=(1, 25, 8)) for array in (query, key, value)]
    result = attend(*lazy, **options)
    found, grads = dask.compute(result.context, result.vjp(da.from_array(grad, chunks=(2, 40, 8))))
    np.testing.assert_allclose(found, whole.context, rtol=1e-12, atol=1e-13)
    expected = whole.vjp(grad)
    close = {"rtol": 1e-11, "atol": 1e-12}
    for name in ("query", "key", "value"):
        np.testing.assert_allclose(getattr(grads, name), getattr(expected, name), **close)
    for name in ("bias", "parameters", "normalizer"):
        for each, other in getattr(expected, name).items():
            np.testing.assert_allclose(getattr(grads, name)[each], other, **close)
    assert {
        worker for held in client.who_has(list(client.who_has())).values() for worker in held
    } <= {*client.scheduler_info()["workers"]}


def slowly(block):
    time.sleep(0.1)
    return block


def test_a_killed_worker_changes_no_digit(rng):
    x = rng.normal(size=(160, 8))
    lazy = da.from_array(x, chunks=(10, 8)).map_blocks(slowly, meta=np.empty((0, 0)))
    result = attend(lazy, lazy, lazy, scorer="dot", is_causal=True)
    grads = result.vjp(lazy)
    with dask.config.set(scheduler="synchronous"):
        calm = dask.compute(result.context, grads.key)
    # give up soon on a worker that does not answer
    quick = dask.config.set({"distributed.comm.timeouts.connect": "5s"})
    with quick, start() as cluster, distributed.Client(cluster) as client:
        futures = client.compute([result.context, grads.key])
        while not client.run(lambda dask_worker: len(dask_worker.data)).popitem()[1]:
            time.sleep(0.05)  # so that its results are lost
        worker = next(iter(cluster.workers.values()))
        os.kill(worker.pid, signal.SIGKILL)
        found = client.gather(futures)
    for own, other in zip(found, calm, strict=True):
        np.testing.assert_array_equal(own, other)


def test_keys_larger_than_the_memory_of_a_worker():
    # 400 MB of keys and values, for workers of 300 MB each, which need half of that themselves
    rows, features = 800_000, 32
    keys = da.random.default_rng(0).normal(size=(rows, features), chunks=(50_000, features))
    values = da.ones((rows, 32), chunks=(50_000, 32))
    assert keys.nbytes + values.nbytes > 400e6
    result = attend(np.ones((4, features)), keys, values, scorer="scaled_dot")
    with start(memory_limit="300MB") as cluster, distributed.Client(cluster):
        np.testing.assert_allclose(result.context.compute(), 1, rtol=1e-12)


def test_a_plugin_that_a_worker_lacks_is_named_with_the_worker(client, tmp_path, monkeypatch):
    code = """
        import attention_core as ac

        class Strange(ac.Scorer):
            def score(self, query, key):
                return query @ key.swapaxes(-1, -2)
    """
    (tmp_path / "strange_scorers.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(tmp_path)  # of this process only
    factory = "strange_scorers:Strange"
    monkeypatch.setattr("attention_core.registry.default._default", None)
    ac.register_scorer(ac.ScorerSpec(name="strange", factory=factory))
    x = da.ones((8, 2), chunks=(4, 2))
    result = attend(x, x, x, scorer="strange")
    with pytest.raises(ac.UnknownScorerError) as raised:
        result.context.compute()
    first, *_, last = str(raised.value).splitlines()
    workers = client.scheduler_info()["workers"]
    assert first in {f"on worker {each}: no scorer named 'strange'" for each in workers}
    assert last == "  it was sent as scorer 'strange'; install it there"

    from strange_scorers import Strange

    with pytest.raises(ac.PluginError) as raised:
        attend(x, x, x, scorer=Strange()).context.compute()
    assert str(raised.value) in {
        f"on worker {each}: cannot load the scorer Strange: ModuleNotFoundError: No module named "
        f"'strange_scorers'; install the same packages on every worker"
        for each in workers
    }
    assert sys.modules.pop("strange_scorers")
