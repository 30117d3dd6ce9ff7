"""The reference evaluator of ONNX, running its Attention operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from benchmarks.peers import UnsupportedError
from benchmarks.problems import Inputs, Problem

_OPSET = 23  # the first with Attention


def version() -> str:
    return onnx.__version__


def prepare(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    if problem.scorer != "scaled_dot":
        raise UnsupportedError("ONNX has no additive attention")
    names = ["query", "key", "value"]
    node = helper.make_node("Attention", names, ["context"], is_causal=int(problem.is_causal))
    graph = helper.make_graph(
        [node],
        "attention",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [helper.make_tensor_value_info("context", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    evaluator = ReferenceEvaluator(model)
    heads = [array.reshape(1, -1, *array.shape[-2:]) for array in inputs[:3]]
    feeds = dict(zip(names, heads, strict=True))
    return lambda: evaluator.run(["context"], feeds)
