"""The library of an array, and calls that mix libraries."""

import sys
import types

import numpy as np
import pytest

import attention_core as ac
from attention_core.arrays import adapters
from attention_core.arrays.adapters import adapter_of, library_of

X = np.eye(3)


class Tensor:
    """A class with the name and the package of another library's."""

    __module__ = "torch"


class Child(Tensor):
    __module__ = "mine"


def fake(package, name):
    return type(name, (), {"__module__": f"{package}.inner"})()


@pytest.mark.parametrize(
    ("array", "library"),
    [
        (X, None),
        ([1.0], None),
        (None, None),
        (Tensor(), "torch"),
        (Child(), "torch"),
        (fake("jax", "Tracer"), "jax"),
        (fake("jaxlib", "ArrayImpl"), "jax"),
        (fake("dask", "Array"), "dask"),
        (fake("dask", "DataFrame"), None),
        (fake("torch", "Size"), None),
    ],
)
def test_the_library_of_an_array_is_that_of_its_class(array, library):
    assert library_of(array) == library
    assert library_of(array) == library  # remembered


MIXED = "the arrays of a call must come from one library; convert it with "


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ((X, Tensor(), X), f"key is a torch array and query a numpy array: {MIXED}key.numpy()"),
        ((X, fake("dask", "Array"), fake("dask", "Array")),
         f"key is a dask array and query a numpy array: {MIXED.removesuffix('convert it with ')}"
         "convert query with dask.array.from_array(query)"),
        ((X, X, Tensor()), f"value is a torch array and query a numpy array: {MIXED}value.numpy()"),
        ((Tensor(), X, X),
         f"key is a numpy array and query a torch array: {MIXED}torch.as_tensor(key)"),
        ((Tensor(), [[1.0]], X),
         f"key is a numpy array and query a torch array: {MIXED}torch.as_tensor(key)"),
        ((fake("dask", "Array"), fake("dask", "Array"), X),
         f"value is a numpy array and query a dask array: {MIXED}dask.array.from_array(value)"),
        ((fake("jax", "Array"), Tensor(), X),
         f"key is a torch array and query a jax array: {MIXED}jax.numpy.asarray(key.numpy())"),
        ((Tensor(), fake("dask", "Array"), X),
         f"key is a dask array and query a torch array: {MIXED}torch.as_tensor(key.compute())"),
    ],
)  # fmt: skip
def test_arrays_of_two_libraries_are_an_error_that_says_how_to_convert(arrays, text):
    layer = ac.MultiHeadAttention.initialize(3, heads=1, rng=0)
    for call in (ac.Attention("dot"), layer, lambda *a: ac.attend(*a, scorer="dot")):
        with pytest.raises(ac.DTypeError) as caught:
            call(*arrays)
        assert str(caught.value) == text


def test_keys_of_a_memory_lead_their_values():
    for owner in (ac.Attention("dot"), ac.MultiHeadAttention.initialize(3, heads=1, rng=0)):
        with pytest.raises(ac.DTypeError, match="value is a torch array and key a numpy array"):
            owner.memory(X, Tensor())


def test_adapters_are_imported_by_the_first_array_of_their_library(monkeypatch):
    monkeypatch.setattr(adapters, "_adapters", {})
    for name in ("attention_core.torch", "attention_core.torch.adapter"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    adapter = sys.modules["attention_core.torch.adapter"]
    assert adapter_of(Tensor(), Tensor(), Tensor()) is adapter
    assert adapter_of(X, X, X) is None
    assert adapter_of(X, ac.Attention("dot").memory(X, X), None) is None
