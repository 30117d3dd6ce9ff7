"""Calls on dask arrays, drawn by Hypothesis, and the expected results without dask."""

import numpy as np
from hypothesis import strategies as st

import attention_core as ac


def chunks_of(draw, length):
    """Any chunks of an axis: (n, ...)."""
    cuts = draw(st.lists(st.integers(1, max(1, length - 1)), max_size=3, unique=True))
    ends = sorted({0, length, *(cut for cut in cuts if cut < length)})
    return tuple(np.diff(ends).tolist()) or (0,)


def lazy(draw, array):
    """A dask array in random chunks on all axes."""
    import dask.array as da

    return da.from_array(array, chunks=tuple(chunks_of(draw, n) for n in array.shape))


def broadcast(draw, shape):
    """A shape that broadcasts to another: axes of length 1, and leading axes omitted."""
    own = [1 if draw(st.integers(0, 3)) == 0 else n for n in shape]
    return tuple(own[draw(st.integers(0, len(own))) :])


def far(queries, keys):
    return abs(keys - queries) % 3 != 1


def slope(queries, keys):
    return -0.1 * abs(keys - queries)


SCORERS = {
    "dot": lambda: ac.make_scorer("scaled_dot"),
    "additive": lambda: ac.make_scorer("additive", query_dim=3, key_dim=3, hidden_dim=4, rng=0),
    "general": lambda: ac.make_scorer("general", query_dim=3, key_dim=3, rng=1),
}


@st.composite
def calls(draw):
    """Arguments as NumPy arrays, and the same as dask arrays."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch = draw(st.sampled_from([(), (3,), (2, 3)]))
    length, keys = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    tails = (length, 3), (keys, 3), (keys, 2)
    outer = [batch if draw(st.booleans()) else broadcast(draw, batch) for _ in tails]
    outer[draw(st.integers(0, 2))] = batch  # one of them has all axes
    arrays = [rng.normal(size=(*own, *tail)) for own, tail in zip(outer, tails, strict=True)]
    for array in arrays:
        if draw(st.integers(0, 5)) == 0:
            array[tuple(rng.integers(0, array.shape))] = draw(st.sampled_from([np.nan, np.inf]))
    shape = (*batch, length, keys)
    here, there = {}, {}
    here["scorer"] = there["scorer"] = SCORERS[draw(st.sampled_from(list(SCORERS)))]()

    match draw(st.sampled_from(["none", "array", "numpy", "function", "packing"])):
        case "array" | "numpy" as kind:
            mask = rng.random(broadcast(draw, shape)) < 0.6
            here["mask"], there["mask"] = mask, lazy(draw, mask) if kind == "array" else mask
        case "function":
            here["mask"] = there["mask"] = far
        case "packing":
            cut, other = draw(st.integers(0, length)), draw(st.integers(0, keys))
            packing = ac.Packing([0, cut, length], [0, other, keys])
            here["mask"] = there["mask"] = packing
    match draw(st.sampled_from(["none", "array", "function", "named", "per head"])):
        case "array":
            bias = rng.normal(size=broadcast(draw, shape))
            here["bias"], there["bias"] = bias, lazy(draw, bias)
        case "function":
            here["bias"] = there["bias"] = slope
        case "named":
            here["bias"] = there["bias"] = ac.make_bias("relative", max_distance=3)
        case "per head" if batch:
            heads = batch[-1]
            here["bias"] = there["bias"] = ac.make_bias("relative", max_distance=2, heads=heads)
    match draw(st.sampled_from(["none", "array", "function", "dropout"])):
        case "array":
            factors = rng.normal(size=broadcast(draw, shape))
            here["weight_factors"], there["weight_factors"] = factors, lazy(draw, factors)
        case "function":
            here["weight_factors"] = there["weight_factors"] = slope
        case "dropout":
            here["weight_factors"] = there["weight_factors"] = ac.Dropout(0.3, seed=1)
    match draw(st.sampled_from(["softmax", "softmax", "sink", "sinks", "sigmoid"])):
        case "sink":
            here["normalizer"] = there["normalizer"] = ac.Softmax(sink=0.5)
        case "sinks" if batch:
            here["normalizer"] = there["normalizer"] = ac.Softmax(rng.normal(size=batch))
        case "sigmoid":
            here["normalizer"] = there["normalizer"] = "sigmoid"
    options = {
        "is_causal": draw(st.booleans()),
        "query_offset": draw(st.sampled_from([0, 2, "end"])),
        "window": draw(st.sampled_from([None, (2, 1), (None, 0)])),
        "softcap": draw(st.sampled_from([None, 2.0])),
    }
    if not isinstance(here.get("mask"), ac.Packing):
        if draw(st.booleans()):
            options["key_lengths"] = rng.integers(0, keys + 1, size=batch[:1])
        if draw(st.integers(0, 3)) == 0:
            options["query_lengths"] = rng.integers(0, length + 1, size=batch[:1])
        if batch and draw(st.integers(0, 3)) == 0:
            options["query_offset"] = rng.integers(0, 4, size=batch[:1])
    return arrays, [lazy(draw, a) for a in arrays], {**here, **options}, {**there, **options}
