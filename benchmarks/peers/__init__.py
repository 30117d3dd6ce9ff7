"""The peers, one module each, with the code that their users would write.

A module has ``prepare(problem, inputs)``, which does all work that is done once and returns the
function to time; ``version()``; and ``to_numpy(result)`` where `numpy.asarray` does not do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from benchmarks.problems import Problem

__all__ = ["PEERS", "Peer", "UnsupportedError"]


class UnsupportedError(Exception):
    """A problem that a peer cannot compute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The module of a peer and its name in the tables."""

    title: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)
    is_compiled: bool = False
    """Whether the first call compiles, which is neither timed nor counted as memory."""
    instead: Callable[[Problem], Problem] | None = None
    """A function to another problem, if the peer is attention-core itself with other options."""


PEERS = {
    "ours": Peer(title="attention-core", module="ours", is_compiled=True),
    "numpy": Peer(title="NumPy", module="plain_numpy"),
    "torch": Peer(title="torch", module="torch_eager"),
    "torch_compile": Peer(title="torch.compile", module="torch_compiled", is_compiled=True),
    "jax": Peer(title="JAX", module="jax_jit", is_compiled=True),
    "keras_numpy": Peer(
        title="Keras (NumPy)", module="keras_ops", environment={"KERAS_BACKEND": "numpy"}
    ),
    "keras_torch": Peer(
        title="Keras (torch)", module="keras_ops", environment={"KERAS_BACKEND": "torch"}
    ),
    "onnx": Peer(title="ONNX reference", module="onnx_reference"),
    "cdist": Peer(title="torch.cdist", module="torch_cdist"),
    "flex": Peer(title="FlexAttention", module="torch_flex", is_compiled=True),
    "ours_numpy": Peer(
        title="ours, without numba", module="ours", environment={"ATTENTION_CORE_COMPILED": "0"}
    ),
    "ours_full": Peer(
        title="ours, all pairs",
        module="ours",
        instead=lambda problem: replace(problem, is_causal=False, grid=()),
    ),
    "ours_half": Peer(
        title="ours, half as long",
        module="ours",
        instead=lambda problem: replace(problem, L=problem.L // 2, S=problem.S // 2),
    ),
}
