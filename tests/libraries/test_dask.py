"""Attention on dask arrays equals attention on NumPy arrays, for any chunks of any axis."""

import numpy as np
import pytest

dask = pytest.importorskip("dask")
pytest.importorskip("dask.array")

from dask_cases import calls, lazy
from hypothesis import given, settings
from hypothesis import strategies as st

import attention_core as ac
import attention_core.dask


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    finite = np.abs(expected)[np.isfinite(expected)]
    scale = max(
        1, finite.max(initial=0)
    )  # sums of large and small terms have the rounding error of the large
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.slow
@given(calls(), st.data())
@settings(max_examples=150)
def test_any_chunks_give_the_result_and_the_gradients_of_one_machine(call, data):
    arrays, chunked, options, lazy_options = call
    whole = ac.attend(*arrays, **options)
    result = attention_core.dask.attend(*chunked, **lazy_options)
    found = {"context": result.context, "weights": result.weights, "top": result.top_k(2)}
    grad = np.random.default_rng(0).normal(size=whole.context.shape)
    of_log = {}, {}
    if options.get("normalizer") != "sigmoid":
        found["log"] = result.log_normalizer
        own = np.random.default_rng(1).normal(size=whole.log_normalizer.shape)
        of_log = {"grad_log_normalizer": own}, {"grad_log_normalizer": lazy(data.draw, own)}
    found["grads"] = result.vjp(lazy(data.draw, grad), **of_log[1])
    (found,) = dask.compute(found)
    same(found["context"], whole.context)
    same(found["weights"], whole.weights)
    if "log" in found:
        same(found["log"], whole.log_normalizer)
    top = whole.top_k(2)
    same(found["top"].weights, top.weights)
    indices = found["top"].indices  # the last bit may swap keys of equal weight
    assert ((indices < 0) == (top.indices < 0)).all()
    chosen = np.take_along_axis(whole.weights, np.maximum(indices, 0), -1)
    same(np.where(indices < 0, 0, chosen), top.weights)
    expected, grads = whole.vjp(grad, **of_log[0]), found["grads"]
    for name in ("query", "key", "value"):
        same(getattr(grads, name), getattr(expected, name))
    for name in ("bias", "parameters", "normalizer"):
        own, other = getattr(grads, name), getattr(expected, name)
        if isinstance(other, dict):
            assert own.keys() == other.keys()
            for each in other:
                same(own[each], other[each])
        elif other is None:
            assert own is None
        else:
            same(own, other)
