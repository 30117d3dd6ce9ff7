"""The cases of the comparison: problems, peers, and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.problems import Problem

__all__ = ["CASES", "Case", "Limit"]


class Limit(NamedTuple):
    """The largest allowed ratio of our time to that of the fastest of some peers."""

    peers: tuple[str, ...]
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row of the tables."""

    name: str
    title: str
    problem: Problem
    peers: tuple[str, ...]
    limits: tuple[Limit, ...] = ()
    memory_limit: float | None = None
    """The largest allowed MiB beyond inputs and output."""
    remark: str = ""


_COMPILERS = ("torch_compile", "jax", "torch")
_FEW_LINES = ("ours_numpy", "numpy", "torch", "torch_compile")
_ADDITIVE = ("ours_numpy", "numpy", *_COMPILERS, "keras_numpy", "keras_torch")
_INNER = ("numpy", "torch", "flex", "jax", "keras_numpy", "keras_torch", "onnx")


def _additive(**shape: Any) -> Problem:
    return Problem(scorer="additive", **shape)


def _scaled_dot(**shape: Any) -> Problem:
    return Problem(scorer="scaled_dot", **shape)


CASES = (
    Case(
        name="additive-512",
        title="additive, L=S=512, D=128, H=128",
        problem=_additive(L=512, S=512, D=128, H=128),
        peers=_ADDITIVE,
        limits=(Limit(_COMPILERS, 0.15),),
    ),
    Case(
        name="additive-1024",
        title="additive, L=S=1024, D=64, H=64",
        problem=_additive(L=1024, S=1024, D=64, H=64),
        peers=_ADDITIVE,
        limits=(Limit(_COMPILERS, 0.15),),
    ),
    Case(
        name="additive-batch",
        title="additive, batch 8, L=S=64, D=256, H=256",
        problem=_additive(batch=(8,), L=64, S=64, D=256, H=256),
        peers=_ADDITIVE,
        limits=(Limit(_COMPILERS, 0.25),),
    ),
    Case(
        name="additive-step",
        title="additive decoder step, batch 32, L=1, S=64, D=256, H=256, keys prepared",
        problem=_additive(batch=(32,), L=1, S=64, D=256, H=256, is_prepared=True),
        peers=_ADDITIVE,
        limits=(Limit(_COMPILERS, 0.75),),
    ),
    Case(
        name="additive-2048",
        title="additive, L=S=2048, D=64, H=256",
        problem=_additive(L=2048, S=2048, D=64, H=256),
        peers=("numpy", *_COMPILERS),
        memory_limit=64,
        remark="the tensor of hidden units has 4 GiB",
    ),
    Case(
        name="scaled-dot-2048",
        title="scaled_dot, 8 heads, L=S=2048, D=64",
        problem=_scaled_dot(batch=(8,), L=2048, S=2048, D=64),
        peers=_INNER,
        limits=(
            Limit(("torch",), 1.2),
            Limit(("numpy",), 0.5),
            Limit(("jax",), 0.45),
            Limit(("onnx",), 0.45),
        ),
    ),
    Case(
        name="scaled-dot-causal",
        title="scaled_dot, 8 heads, L=S=1024, D=64, causal",
        problem=_scaled_dot(batch=(8,), L=1024, S=1024, D=64, is_causal=True),
        peers=_INNER,
        limits=(Limit(("torch",), 1.2),),
    ),
    Case(
        name="scaled-dot-one-query",
        title="scaled_dot, 8 heads, one query, S=4096, D=64",
        problem=_scaled_dot(batch=(8,), L=1, S=4096, D=64),
        peers=_INNER,
        limits=(
            Limit(("torch",), 1.2),
            Limit(("numpy",), 1.0),
        ),
    ),
    Case(
        name="scaled-dot-smallest",
        title="scaled_dot, L=1, S=64, D=64",
        problem=_scaled_dot(L=1, S=64, D=64),
        peers=_INNER,
        limits=(Limit(("numpy",), 2.5),),
    ),
    Case(
        name="scaled-dot-small-heads",
        title="scaled_dot, 64 heads, L=S=128, D=64",
        problem=_scaled_dot(batch=(64,), L=128, S=128, D=64),
        peers=_INNER,
        limits=(Limit(("torch",), 1.2),),
    ),
    Case(
        name="scaled-dot-float16",
        title="scaled_dot, 8 heads, L=S=512, D=64, float16",
        problem=_scaled_dot(batch=(8,), L=512, S=512, D=64, dtype="float16"),
        peers=("numpy", "torch", "jax"),
        remark="computed in float32 by us, in float16 by NumPy",
    ),
    Case(
        name="scaled-dot-float64",
        title="scaled_dot, 8 heads, L=S=512, D=64, float64",
        problem=_scaled_dot(batch=(8,), L=512, S=512, D=64, dtype="float64"),
        peers=("numpy", "torch"),
    ),
    Case(
        name="causal-saves",
        title="scaled_dot, L=S=4096, D=64: causal against full",
        problem=_scaled_dot(L=4096, S=4096, D=64, is_causal=True),
        peers=("ours_full",),
        limits=(Limit(("ours_full",), 0.62),),
    ),
    Case(
        name="neighborhood-saves",
        title="scaled_dot on an image of 128 x 128, D=64: 7 x 7 neighbors against all",
        problem=_scaled_dot(L=128**2, S=128**2, D=64, grid=(128, 128), radius=3),
        peers=("ours_full",),
        limits=(Limit(("ours_full",), 0.12),),
    ),
    *(
        Case(
            name=f"window-{length}",
            title=f"scaled_dot, window (512, 0), D=64: L=S={length:,} against {length // 2:,}",
            problem=_scaled_dot(L=length, S=length, D=64, window=(512, 0)),
            peers=("ours_half",),
            limits=(Limit(("ours_half",), 2.2),),
        )
        for length in (32768, 65536)
    ),
    Case(
        name="scaled-dot-32768",
        title="scaled_dot, L=S=32,768, D=64",
        problem=_scaled_dot(L=32768, S=32768, D=64),
        peers=("numpy", "torch"),
        memory_limit=64,
        remark="the weights have 4 GiB",
    ),
    Case(
        name="laplacian-1024",
        title="laplacian in a few lines, L=S=1024, D=64",
        problem=Problem(scorer="laplacian", L=1024, S=1024, D=64),
        peers=(*_FEW_LINES, "cdist"),
        limits=(Limit(("torch_compile",), 1.0),),
    ),
    Case(
        name="gatv2-1024",
        title="gatv2 in a few lines, L=S=1024, D=64, H=64",
        problem=Problem(scorer="gatv2", L=1024, S=1024, D=64, H=64),
        peers=_FEW_LINES,
        limits=(Limit(("torch_compile",), 0.7),),
    ),
    Case(
        name="rbf-1024",
        title="rbf in a few lines, L=S=1024, D=64",
        problem=Problem(scorer="rbf", L=1024, S=1024, D=64),
        peers=(*_FEW_LINES, "cdist"),
    ),
    Case(
        name="additive-backward",
        title="gradients of additive, L=S=512, D=128, H=128",
        problem=_additive(L=512, S=512, D=128, H=128, is_backward=True),
        peers=("ours_numpy", "torch", "jax"),
        limits=(Limit(("torch",), 0.25),),
    ),
    Case(
        name="additive-training",
        title="a training step of additive in PyTorch, L=S=512, D=128, H=128",
        problem=_additive(L=512, S=512, D=128, H=128, is_training=True),
        peers=("torch", "torch_compile"),
        limits=(Limit(("torch_compile",), 0.30),),
    ),
    Case(
        name="additive-training-batch",
        title="a training step of additive in PyTorch, batch 8, L=S=64, D=256, H=256",
        problem=_additive(batch=(8,), L=64, S=64, D=256, H=256, is_training=True),
        peers=("torch", "torch_compile"),
        limits=(Limit(("torch_compile",), 0.60),),
    ),
    Case(
        name="additive-training-2048",
        title="a training step of additive in PyTorch, L=S=2048, D=64, H=256",
        problem=_additive(L=2048, S=2048, D=64, H=256, is_training=True),
        peers=("torch_compile",),
        memory_limit=64,
        remark="the tensor of hidden units has 4 GiB",
    ),
    Case(
        name="scaled-dot-backward",
        title="gradients of scaled_dot, 8 heads, L=S=1024, D=64",
        problem=_scaled_dot(batch=(8,), L=1024, S=1024, D=64, is_backward=True),
        peers=("torch", "jax"),
        limits=(Limit(("torch",), 1.1),),
    ),
    Case(
        name="backward-8192",
        title="gradients of scaled_dot, L=S=8,192, D=64",
        problem=_scaled_dot(L=8192, S=8192, D=64, is_backward=True),
        peers=("torch", "jax"),
        memory_limit=128,
        remark="the weights have 256 MiB",
    ),
    Case(
        name="sparse-50000",
        title="additive on a graph, 50,000 nodes, 16 edges each, D=64, H=64",
        problem=_additive(L=50_000, S=50_000, D=64, H=64, edges=16),
        peers=("ours_numpy", "numpy", "torch"),
        limits=(Limit(("numpy",), 0.25),),
        memory_limit=400,
        remark="the peers gather the ends of every edge; a dense mask would need 2.5 GB, "
        "dense hidden units 640 GB",
    ),
)
