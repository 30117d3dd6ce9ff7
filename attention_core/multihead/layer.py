"""Multi-head attention: heads that attend to their own projections, with any scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array
from attention_core.components.parameters import Parameterized
from attention_core.errors import OptionTypeError
from attention_core.multihead.call import attend_heads
from attention_core.multihead.heads import AttentionOptions, HeadGroup, group_heads
from attention_core.multihead.interop import from_torch_module, from_torch_state, keras_arrays
from attention_core.multihead.layout import LAYOUT, checked_sizes
from attention_core.multihead.memory import MultiHeadMemory
from attention_core.multihead.parameters import LayerParameters, initial_arrays
from attention_core.multihead.result import MultiHeadResult
from attention_core.options import OPTIONS, check_option
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array, BiasLike, MaskLike, ScorerLike

if TYPE_CHECKING:
    from pathlib import Path

    from attention_core.registry.registry import Registry

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(Parameterized):
    """Multi-head attention with any scorer, or a different scorer for each head.

    ``output = sum_h context_h W^O_h + b^O``, where
    ``context_h = attend(query W^Q_h + b^Q_h, key W^K_g + b^K_g, value W^V_g + b^V_g)`` with the
    scorer of head h, and g is the key head that query head h shares: ``g = h // (N / M)``.

    Parameters
    ----------
    query_weight : (Eq, N, Dq)
        W^Q, for N heads.
    key_weight : (Ek, M, Dk)
        W^K, for M heads, where M divides N. With M < N, N / M neighboring heads share keys and
        values.
    value_weight : (Ev, M, Dv)
        W^V.
    output_weight : (N, Dv, Eo)
        W^O.
    query_bias, key_bias, value_bias, output_bias : (N, Dq), (M, Dk), (M, Dv), (Eo,), optional
        b^Q, b^K, b^V and b^O.
    extra_key, extra_value : (M, Dk), (M, Dv), optional
        A projected key and its value, which are appended to those of every call and never masked.
    zero_key
        Whether to append a key of zeros with a value of zeros, too.
    scorer
        A name, a mapping or a `Scorer`, as for `attend`, for all heads; or a sequence of N of them.
        It scores the projected query (Dq) and key (Dk). Heads with the same name, or the same
        `Scorer` object, share its parameters.
    **options
        The options of `Attention`: is_causal, query_offset, window, softcap, tile and workers.

    Raises
    ------
    ShapeError, DTypeError
        For arrays that do not fit each other or the scorers.
    OptionError, OptionTypeError
        For a sequence of scorers whose length is not N, an extra key without a value, and
        impossible options.
    UnknownScorerError, AmbiguousScorerError, ScorerConfigError
        For scorers that cannot be made.

    Notes
    -----
    Heads with the same scorer are computed in one call. The output of a fully masked query is the
    output bias. Half precision computes in float32; parameters are cast to the dtype of the inputs.
    With an extra key or a zero key, masks are expanded to arrays of all pairs, so a sparse mask
    saves no work.

    Layers are equal if their arrays, scorers and options are. They can be copied and pickled.

    `parameters` has copies of these arrays, and those of the scorers as ``heads.0.weight``, where
    0 is the first head with that scorer.

    References
    ----------
    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2. Grouped heads: Shazeer 2019,
    arXiv:1911.02150; Ainslie et al. 2023, arXiv:2305.13245.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> layer = ac.MultiHeadAttention.initialize(
    ...     8, heads=4, scorer=["scaled_dot", "scaled_dot", "dot", "dot"], is_causal=True, rng=0
    ... )
    >>> x = np.random.default_rng(0).normal(size=(2, 5, 8))
    >>> result = layer(x, x, x, key_lengths=[5, 3])
    >>> result.output.shape, result.weights.shape
    ((2, 5, 8), (2, 4, 5, 5))
    >>> gradients = result.vjp(np.ones((2, 5, 8)))
    >>> gradients.query.shape, gradients.parameters["key_weight"].shape
    ((2, 5, 8), (8, 4, 2))
    """

    def __init__(
        self,
        query_weight: ArrayLike,
        key_weight: ArrayLike,
        value_weight: ArrayLike,
        output_weight: ArrayLike,
        *,
        query_bias: ArrayLike | None = None,
        key_bias: ArrayLike | None = None,
        value_bias: ArrayLike | None = None,
        output_bias: ArrayLike | None = None,
        extra_key: ArrayLike | None = None,
        extra_value: ArrayLike | None = None,
        zero_key: bool = False,
        scorer: ScorerLike | Sequence[ScorerLike] = "scaled_dot",
        **options: Unpack[AttentionOptions],
    ) -> None:
        weights = query_weight, key_weight, value_weight, output_weight
        biases = query_bias, key_bias, value_bias, output_bias
        arrays = {
            name: as_array(name, array).copy()  # the caller may write to it later
            for name, array in zip(LAYOUT, (*weights, *biases, extra_key, extra_value), strict=True)
            if array is not None
        }
        sizes = checked_sizes(arrays)
        checked = {name: check_option(name, value) for name, value in options.items()}
        self._options: dict[str, Any] = {
            name: value
            for name, value in checked.items()
            if not np.array_equal(value, OPTIONS[name])
        }
        if not isinstance(zero_key, bool):
            raise OptionTypeError(f"zero_key must be True or False, got {zero_key!r}")
        groups = group_heads(scorer, sizes["N"], sizes["M"], self._options)
        for group in groups:
            group.attention.scorer.check_features(sizes["Dq"], sizes["Dk"])
        self._own = LayerParameters(arrays, groups, zero_key)

    @classmethod
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
        counts = {
            "query_dim": query_dim,
            "heads": heads,
            "key_dim": key_dim,
            "value_dim": value_dim,
            "output_dim": output_dim,
            "head_dim": head_dim,
            "key_heads": key_heads,
        }
        arrays: dict[str, Any] = initial_arrays(counts, rng, biases=biases)
        return cls(**arrays, scorer=scorer, **options)

    @classmethod
    def from_torch(
        cls,
        module: Any,
        *,
        heads: int | None = None,
        add_zero_attn: bool | None = None,
        scorer: ScorerLike | Sequence[ScorerLike] = "scaled_dot",
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
        read = from_torch_module if hasattr(module, "state_dict") else from_torch_state
        found = read(module, heads, add_zero_attn)
        arrays: dict[str, Any] = found.arrays
        return cls(**arrays, zero_key=found.zero_key, scorer=scorer, **options)

    @classmethod
    def from_keras(
        cls,
        weights: Sequence[ArrayLike],
        *,
        scorer: ScorerLike | Sequence[ScorerLike] = "scaled_dot",
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
        arrays: dict[str, Any] = keras_arrays(weights)
        return cls(**arrays, scorer=scorer, **options)

    @classmethod
    def from_config(
        cls, source: str | Path | Mapping[str, Any], registry: Registry | None = None
    ) -> Self:
        """The layer that a TOML or JSON file, or a mapping of the same shape, describes.

        Its section ``multi_head`` has the arguments of `initialize`, or arrays by name, or a file
        of them as ``parameters``; ``scorer`` is one for all heads, or a list of one for each, of
        which equal ones are one; ``attention`` has the options.

        Raises
        ------
        ConfigError
            With every problem of the configuration and its place.

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
        from attention_core.multihead.configured import read_layer_config

        return read_layer_config(source, registry).make(cls)

    def to_config(self) -> dict[str, Any]:
        """The mapping from which `from_config` makes this layer again, ready for JSON."""
        scorers = [scorer.to_config() for scorer in self.scorers]
        one = len(self.groups) == 1
        arrays = {name: array.tolist() for name, array in self.arrays.items()}
        config: dict[str, Any] = {
            "multi_head": {**arrays, **({"zero_key": True} if self.zero_key else {})},
            "scorer": scorers[0] if one else scorers,
        }
        options = self._plain_options()
        return {**config, "attention": options} if options else config

    @property
    def arrays(self) -> dict[str, Array]:
        """Copies of the weights and biases by name."""
        return self._own.arrays

    @property
    def heads(self) -> int:
        """N, the number of heads."""
        return self._own.heads

    @property
    def key_heads(self) -> int:
        """M, the number of heads of keys and values."""
        return self._own.key_heads

    @property
    def zero_key(self) -> bool:
        """Whether a key of zeros is appended in every call."""
        return self._own.zero_key

    @property
    def groups(self) -> tuple[HeadGroup, ...]:
        """The groups of heads with the same scorer."""
        return self._own.groups

    @property
    def scorers(self) -> tuple[Scorer, ...]:
        """The scorer of each head."""
        return self._own.scorers

    @property
    def parameters(self) -> dict[str, Array]:
        """The arrays of the layer, then those of the scorers."""
        return self._own.parameters

    def memory(self, key: ArrayLike, value: ArrayLike) -> MultiHeadMemory:
        """Project keys (..., S, Ek) and values (..., S, Ev) once, for many calls.

        Raises
        ------
        ShapeError, DTypeError
            For arrays that do not fit the layer or each other.
        """
        return MultiHeadMemory(self._own, key, value)

    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike | MultiHeadMemory,
        value: ArrayLike | None = None,
        *,
        mask: MaskLike | None = None,
        bias: BiasLike | None = None,
        key_lengths: ArrayLike | None = None,
        query_lengths: ArrayLike | None = None,
        query_offset: ArrayLike | None = None,
    ) -> MultiHeadResult:
        """Attend with every head.

        Parameters
        ----------
        query : (..., L, Eq)
        key : (..., S, Ek)
            Or a `MultiHeadMemory` of projected keys and values, made by this layer or an equal one.
        value : (..., S, Ev)
            Batch axes broadcast.
        mask, bias
            As for `attend`, where the heads are the last batch axis: arrays, and results of
            functions, broadcast to (..., N, L, S). With batched rows, pass (1, N, L, S) for one
            matrix per head, or (B, 1, L, S), ``mask[:, None]``, for one per batch item. Three
            axes are ambiguous and an error.
        key_lengths, query_lengths, query_offset
            As for `attend`: one per batch item, or one per batch item and head. With a `Packing`
            as mask, the offset is one integer, or one for each sequence.

        Raises
        ------
        ShapeError, DTypeError, OptionError, ScorerContractError
            As for `attend`.
        """
        if query_offset is None:
            query_offset = self._options.get("query_offset")
        return attend_heads(
            self._own,
            (query, key, value),
            pairs={"mask": mask, "bias": bias},
            numbers={
                "key_lengths": key_lengths,
                "query_lengths": query_lengths,
                "query_offset": query_offset,
            },
        )

    def __eq__(self, other: object) -> bool:
        """Compare arrays, scorers and options."""
        if not isinstance(other, MultiHeadAttention):
            return NotImplemented
        return self._plain_options() == other._plain_options() and self._own == other._own

    def __hash__(self) -> int:
        return hash(self._own)

    def __str__(self) -> str:
        return "multi-head attention"

    def __repr__(self) -> str:
        parts = [f"heads={self.heads}", f"key_heads={self.key_heads}"]
        parts += [f"{group.attention.scorer} for {group.heads}" for group in self.groups]
        parts += ["extra_key"] * ("extra_key" in self.arrays) + ["zero_key"] * self.zero_key
        parts += [f"{name}={value!r}" for name, value in self._plain_options().items()]
        return f"MultiHeadAttention({', '.join(parts)})"

    def _plain_options(self) -> dict[str, Any]:
        """The options that differ from the defaults, with lists for arrays."""
        plain = {name: np.asarray(value).tolist() for name, value in self._options.items()}
        return dict(sorted(plain.items()))

    def _replaced(self, parameters: Mapping[str, Array]) -> Self:
        arrays: dict[str, Any] = {
            name: parameters.get(name, array) for name, array in self.arrays.items()
        }
        scorers = self._own.scorers_with(parameters)
        return type(self)(**arrays, zero_key=self.zero_key, scorer=scorers, **self._options)
