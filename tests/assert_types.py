"""Types of the public names, as a type checker sees them; mypy checks this file in the lint step.

`test_typing.py` runs it, so the calls are valid too.
"""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import eye_array

import attention_core as ac
from attention_core.typing import Array, BiasLike, MaskLike, ScorerLike, Weights

x = np.eye(3)

result = ac.attend(x, x, x, scorer="dot")
assert_type(result, ac.AttentionResult)
assert_type(result.context, Array)
assert_type(result.log_normalizer, Array)
assert_type(result.entropy, Array)
assert_type(result.weights, Weights)
assert_type(result.scores, Weights)
assert_type(result.rows(0), Weights)
assert_type(result.top_k(1), ac.TopK)
assert_type(result.top_k(1).indices, NDArray[np.intp])
assert_type(result.vjp(x), ac.Gradients)
assert_type(result.to_text(), str)

masks: list[MaskLike] = [
    True,
    [[True, False, True]],
    x > 0,
    eye_array(3, dtype=np.bool_),
    lambda i, j: j <= i,
    ac.Packing.from_lengths([1, 2]),
]
biases: list[BiasLike] = [1.0, x, lambda i, j: -abs(i - j)]
scorers: list[ScorerLike] = ["dot", {"name": "scaled_dot", "scale": 1}, ac.make_scorer("dot")]
for mask, bias, scorer in zip(masks, [*biases, *biases], [*scorers, *scorers], strict=True):
    ac.attend(x, x, x, scorer=scorer, mask=mask, bias=bias)
    attention = ac.Attention(scorer, softcap=30)
    assert_type(attention(x, x, x, mask=mask), ac.AttentionResult)

assert_type(attention.memory(x, x), ac.Memory)
assert_type(attention.to_config(), dict[str, Any])
assert_type(ac.Attention.from_config({"scorer": "dot"}), ac.Attention)
assert_type(ac.make_scorer("dot"), ac.Scorer)
assert_type(ac.make_scorer("dot").parameters, dict[str, Array])
assert_type(ac.scorers(), tuple[ac.ScorerInfo, ...])
assert_type(ac.Registry.from_entry_points(), ac.Registry)

layer = ac.MultiHeadAttention.initialize(4, heads=2, scorer=["dot", {"name": "dot"}], rng=0)
assert_type(layer, ac.MultiHeadAttention)
y = np.ones((2, 4))
heads = layer(y, y, y, mask=lambda i, j: j <= i)
assert_type(heads, ac.MultiHeadResult)
assert_type(heads.output, Array)
assert_type(heads.weights, Weights)
assert_type(heads.vjp(y), ac.Gradients)
assert_type(layer.memory(y, y), ac.MultiHeadMemory)
assert_type(layer.parameters, dict[str, Array])


def on_dask_arrays(x: Any) -> None:
    from attention_core.dask import DaskGradients, DaskResult, DaskTopK, attend

    result = attend(x, x, x, scorer="dot", mask=lambda i, j: j <= i, bias="alibi")
    assert_type(result, DaskResult)
    assert_type(result.top_k(2), DaskTopK)
    assert_type(result.vjp(x, grad_log_normalizer=x), DaskGradients)
    assert_type(result.task_count, int)


def on_tensors(x: Any) -> None:
    from attention_core import torch

    attention = torch.Attention("dot", normalizer="sparsemax", is_causal=True)
    assert_type(attention.forward(x, x, x), torch.TensorResult | torch.TracedResult)
    assert_type(attention.memory(x, x), torch.TensorMemory)
    assert_type(torch.Attention.from_numpy(ac.Attention("dot")), torch.Attention)
    layer = torch.MultiHeadAttention(4, heads=2, rng=0)
    assert_type(layer.forward(x, x, x), torch.TensorHeadsResult | torch.TracedHeadsResult)
    assert_type(torch.MultiHeadAttention.from_torch(x), torch.MultiHeadAttention)


def on_jax_arrays(x: Any) -> None:
    from attention_core import jax

    function = jax.attention("dot", normalizer={"name": "softmax", "sink": 0.0})
    assert_type(function, jax.AttentionFunction)
    assert_type(function.parameters, dict[str, Any])
    assert_type(function(function.parameters, x, x, x), jax.Attended)
