"""Attention for PyTorch: tensors in, tensors out, with autograd (extra ``torch``).

`attention_core.attend`, `attention_core.Attention` and `attention_core.MultiHeadAttention` take
tensors, and their results hold tensors. `Attention` and `MultiHeadAttention` here are modules, with
their parameters registered. Import this module before you compile functions that attend.
"""

try:
    import torch as _torch
except ImportError as error:
    from attention_core.errors import MissingExtraError

    raise MissingExtraError(
        "attention_core.torch needs PyTorch: pip install 'attention-core[torch]'"
    ) from error

from attention_core.arrays.adapters import adapter_of as _adapter_of
from attention_core.torch.memory import TensorMemory
from attention_core.torch.modules import Attention, MultiHeadAttention
from attention_core.torch.results import TensorHeadsResult, TensorResult
from attention_core.torch.traced import TracedHeadsResult, TracedResult

__all__ = [
    "Attention",
    "MultiHeadAttention",
    "TensorHeadsResult",
    "TensorMemory",
    "TensorResult",
    "TracedHeadsResult",
    "TracedResult",
]

_adapter_of(_torch.empty(0), None, None)  # torch.compile does not trace imports
