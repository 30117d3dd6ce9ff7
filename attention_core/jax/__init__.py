"""Attention for JAX: arrays in, arrays out, under ``jit``, ``grad`` and ``vmap`` (extra ``jax``).

`attention_core.attend`, `attention_core.Attention` and `attention_core.MultiHeadAttention` take
JAX arrays, and their results hold JAX arrays. `attention` makes pure functions of parameters.
"""

try:
    import jax as _jax  # noqa: F401 - the modules below need it
except ImportError as error:
    from attention_core.errors import MissingExtraError

    raise MissingExtraError(
        "attention_core.jax needs JAX: pip install 'attention-core[jax]'"
    ) from error

from attention_core.jax.functions import Attended, AttentionFunction, attention
from attention_core.jax.memory import JaxMemory
from attention_core.jax.results import JaxResult, TracedResult

__all__ = ["Attended", "AttentionFunction", "JaxMemory", "JaxResult", "TracedResult", "attention"]
