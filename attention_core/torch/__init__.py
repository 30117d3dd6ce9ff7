"""Attention for PyTorch: tensors in, tensors out, with autograd (extra ``torch``).

`attention_core.attend`, `attention_core.Attention` and `attention_core.MultiHeadAttention` take
tensors, and their results hold tensors.
"""

try:
    import torch as _torch  # noqa: F401 - the modules below need it at once
except ImportError as error:
    from attention_core.errors import MissingExtraError

    raise MissingExtraError(
        "attention_core.torch needs PyTorch: pip install 'attention-core[torch]'"
    ) from error

from attention_core.torch.memory import TensorMemory
from attention_core.torch.results import TensorHeadsResult, TensorResult

__all__ = ["TensorHeadsResult", "TensorMemory", "TensorResult"]
