"""The ways to make a layer: from counts, other libraries, and configs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.arrays.scalars import check_flag
from attention_core.components.bias import Bias
from attention_core.components.parameters import Parameterized
from attention_core.multihead.heads import AttentionOptions, checked_options
from attention_core.multihead.interop import from_torch_module, from_torch_state, keras_arrays
from attention_core.multihead.parameters import initial_arrays
from attention_core.typing import NormalizerLike, ScorerLike

if TYPE_CHECKING:
    from pathlib import Path

    from attention_core.registry.registry import Registry

__all__ = ["LayerMakers"]


class LayerMakers(Parameterized):
    """Base of `MultiHeadAttention`: class methods that make a layer."""

    @classmethod
    @abstractmethod
    def _made(cls, arrays: Mapping[str, Any], **others: Any) -> Self:
        """Construct a layer from arrays by name, and other arguments."""

    @classmethod
    @checked_arguments
    def initialize(
        cls,
        query_dim: int,
        *,
        heads: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        output_dim: int | None = None,
        head_dim: int | None = None,
        key_heads: int | None = None,
        biases: bool = False,
        scorer: ScorerLike | Sequence[ScorerLike] = "scaled_dot",
        normalizer: NormalizerLike | Sequence[NormalizerLike] = "softmax",
        bias: str | Mapping[str, Any] | Bias | None = None,
        rng: int | np.random.Generator,
        **options: Unpack[AttentionOptions],
    ) -> Self:
        """Make a layer with Glorot-uniform weights, and biases of 0 if `biases` is true.

        Parameters
        ----------
        query_dim, key_dim, value_dim, output_dim
            Eq, Ek, Ev and Eo. Ek and Eo are Eq by default, and Ev is Ek.
        heads, key_heads
            N and M. M is N by default.
        head_dim
            Dq = Dk = Dv, by default Eq / N.
        rng
            A seed or a generator.

        Raises
        ------
        OptionError, OptionTypeError
            For counts that are not positive integers or do not divide each other, and impossible
            seeds.

        Examples
        --------
        >>> from attention_core import MultiHeadAttention
        >>> layer = MultiHeadAttention.initialize(8, heads=4, key_heads=2, rng=0)
        >>> [array.shape for array in layer.parameters.values()]
        [(8, 4, 2), (8, 2, 2), (8, 2, 2), (4, 2, 8)]
        """
        chosen = checked_options(cls.initialize, options)
        counts = {
            "query_dim": query_dim,
            "heads": heads,
            "key_dim": key_dim,
            "value_dim": value_dim,
            "output_dim": output_dim,
            "head_dim": head_dim,
            "key_heads": key_heads,
        }
        arrays = initial_arrays(counts, rng, biases=check_flag("biases", biases))
        return cls._made(arrays, scorer=scorer, normalizer=normalizer, bias=bias, **chosen)

    @classmethod
    @checked_arguments
    def from_torch(
        cls,
        module: Any,
        *,
        heads: int | None = None,
        add_zero_attn: bool | None = None,
        scorer: ScorerLike | Sequence[ScorerLike] = "scaled_dot",
        normalizer: NormalizerLike | Sequence[NormalizerLike] = "softmax",
        bias: str | Mapping[str, Any] | Bias | None = None,
        **options: Unpack[AttentionOptions],
    ) -> Self:
        """Make the layer that computes the same as a ``torch.nn.MultiheadAttention``.

        Parameters
        ----------
        module
            The module, with any of its arguments; or its ``state_dict()``; or arrays of the same
            names: ``in_proj_weight`` (3 E, E), or ``q_proj_weight`` (E, E), ``k_proj_weight``
            (E, Ek) and ``v_proj_weight`` (E, Ev); ``out_proj.weight`` (E, E); and optionally
            ``in_proj_bias`` (3 E), ``out_proj.bias`` (E), ``bias_k`` and ``bias_v`` (1, 1, E).
            Arrays are copied; bfloat16 becomes float32.
        heads, add_zero_attn
            Arguments of the module, which its state does not contain. Wrong values give a layer
            that computes other numbers, without an error.

        Raises
        ------
        OptionError, OptionTypeError, ShapeError
            For names that are missing or unexpected, such as those of a whole encoder, and arrays
            that do not fit.
        DTypeError
            For tensors that are not dense arrays of real numbers.

        Notes
        -----
        In torch, a boolean mask is **True where a query may not attend**: pass
        ``mask=~attn_mask``, or ``mask=~key_padding_mask[:, None, None, :]``, and a float mask as
        ``bias``. Inputs of the layer are always (B, L, E), as with ``batch_first``. Torch returns
        the mean of the weights, ``weights.mean(axis=-3)``. There is no dropout, as in
        ``module.eval()``.

        Examples
        --------
        >>> from attention_core import MultiHeadAttention
        >>> state = {"in_proj_weight": np.ones((12, 4)), "out_proj.weight": np.eye(4)}
        >>> MultiHeadAttention.from_torch(state, heads=2).heads
        2
        """
        chosen = checked_options(cls.from_torch, options)
        read = from_torch_module if hasattr(module, "state_dict") else from_torch_state
        found = read(module, heads, add_zero_attn)
        components: dict[str, Any] = {"scorer": scorer, "normalizer": normalizer, "bias": bias}
        return cls._made(found.arrays, zero_key=found.zero_key, **components, **chosen)

    @classmethod
    @checked_arguments
    def from_keras(
        cls,
        weights: Sequence[ArrayLike],
        *,
        scorer: ScorerLike | Sequence[ScorerLike] = "scaled_dot",
        normalizer: NormalizerLike | Sequence[NormalizerLike] = "softmax",
        bias: str | Mapping[str, Any] | Bias | None = None,
        **options: Unpack[AttentionOptions],
    ) -> Self:
        """Make a layer from the weights of a Keras ``MultiHeadAttention``.

        The weights of a ``GroupQueryAttention``, with fewer key heads, are accepted too.

        Parameters
        ----------
        weights
            The list ``layer.get_weights()``: the kernels of query (Eq, N, Dk), key, value and
            output (N, Dv, Eo), each followed by its bias if the layer has biases.

        Raises
        ------
        OptionError, OptionTypeError, ShapeError
            For a wrong number of arrays, and arrays that do not fit.

        Notes
        -----
        A Keras layer is called with (query, **value**, key); this one with (query, key, value).
        True means "may attend" in both, but an ``attention_mask`` (B, L, S) needs an axis for the
        heads: ``mask=attention_mask[:, None]``.

        Examples
        --------
        >>> from attention_core import MultiHeadAttention
        >>> kernels = [np.ones((4, 2, 3))] * 3 + [np.ones((2, 3, 4))]
        >>> MultiHeadAttention.from_keras(kernels).key_heads
        2
        """
        chosen = checked_options(cls.from_keras, options)
        return cls._made(
            keras_arrays(weights), scorer=scorer, normalizer=normalizer, bias=bias, **chosen
        )

    @classmethod
    @checked_arguments
    def from_config(
        cls, source: str | Path | Mapping[str, Any], registry: Registry | None = None
    ) -> Self:
        """Make the layer that a TOML or JSON file, or an equivalent mapping, describes.

        The section ``multi_head`` has the arguments of `initialize`, or arrays by name, or a file
        of arrays as ``parameters``. ``scorer`` and ``normalizer`` are one table for all heads, or a
        list of one for each head, where equal entries are shared. ``attention`` has the options.

        Raises
        ------
        ConfigError
            Lists every problem of the configuration with its location.

        Examples
        --------
        >>> from attention_core import MultiHeadAttention
        >>> config = {
        ...     "multi_head": {"query_dim": 8, "heads": 4, "rng": 0},
        ...     "scorer": ["dot", "dot", "dot", {"name": "scaled_dot", "scale": 0.5}],
        ...     "attention": {"is_causal": True},
        ... }
        >>> layer = MultiHeadAttention.from_config(config)
        >>> layer == MultiHeadAttention.from_config(layer.to_config())
        True
        """
        from attention_core.multihead.configured import read_layer_config  # reads scorers by name

        return read_layer_config(source, registry).make(cls)
