"""Multi-head attention: projections into heads, attention with any scorer, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Never, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments, unexpected_argument
from attention_core.arrays.adapters import adapter_of
from attention_core.arrays.inputs import as_array
from attention_core.arrays.scalars import check_flag
from attention_core.components.bias import Bias
from attention_core.multihead.call import attend_heads
from attention_core.multihead.configured import config_of_heads
from attention_core.multihead.heads import (
    AttentionOptions,
    HeadGroup,
    checked_options,
    group_heads,
    normalizers_of_heads,
    scorers_of_heads,
)
from attention_core.multihead.layout import LAYOUT, checked_sizes
from attention_core.multihead.makers import LayerMakers
from attention_core.multihead.memory import MultiHeadMemory
from attention_core.multihead.parameters import LayerParameters
from attention_core.multihead.result import MultiHeadResult
from attention_core.normalizing.normalizer import Normalizer
from attention_core.normalizing.softmax import SOFTMAX
from attention_core.registry.resolution import default_bias, resolve_bias
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array, BiasLike, FactorsLike, MaskLike, NormalizerLike, ScorerLike

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(LayerMakers):
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
    normalizer
        Likewise a name, a mapping or a `Normalizer` for all heads, or a sequence of N of them. A
        parameter whose last axis has one entry for each head, such as the ``sink`` of `Softmax`,
        is split.
    bias
        The default bias of calls: a name, a mapping or a `Bias`, with parameters for each head.
    **options
        The options of `Attention`: is_causal, query_offset, window, softcap, tile and workers.

    Raises
    ------
    ShapeError, DTypeError
        For arrays that do not fit each other or the scorers.
    OptionError, OptionTypeError
        For a sequence of scorers or normalizers whose length is not N, an extra key without a
        value, and impossible options.
    UnknownScorerError, AmbiguousScorerError, ScorerConfigError
        For scorers and normalizers that cannot be made.

    Notes
    -----
    Heads with the same scorer and normalizer are computed in one call. The output of a fully
    masked query is the output bias. Half precision computes in float32; parameters are cast to the
    dtype of the inputs. With an extra key or a zero key, masks are expanded to arrays of all pairs,
    so a sparse mask saves no work.

    Layers are equal if their arrays, components and options are. They can be copied and
    pickled.

    `parameters` has copies of these arrays, those of the scorers as ``heads.0.weight``, where 0 is
    the first head with that scorer, those of the normalizers as ``heads.0.normalizer.sink``, and
    those of the bias as ``bias.table``.

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

    @partial(checked_arguments, hint="; MultiHeadAttention.initialize makes them from sizes")
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
        normalizer: NormalizerLike | Sequence[NormalizerLike] = "softmax",
        bias: str | Mapping[str, Any] | Bias | None = None,
        **options: Unpack[AttentionOptions],
    ) -> None:
        weights = query_weight, key_weight, value_weight, output_weight
        biases = query_bias, key_bias, value_bias, output_bias
        given: tuple[Any, ...] = (*weights, *biases, extra_key, extra_value)
        arrays = {
            name: as_array(name, array).copy()  # the caller may write to it later
            for name, array in zip(LAYOUT, given, strict=True)
            if array is not None or name.endswith("_weight")
        }
        sizes = checked_sizes(arrays)
        self._options = checked_options(type(self), options)
        scorers = scorers_of_heads(scorer, sizes["N"])
        normalizers = normalizers_of_heads(normalizer, sizes["N"])
        groups = group_heads(scorers, normalizers, sizes["M"], self._options)
        for group in groups:
            group.attention.scorer.check_features(sizes["Dq"], sizes["Dk"])
        has_zero_key, own_bias = check_flag("zero_key", zero_key), default_bias("a layer", bias)
        self._own = LayerParameters(arrays, groups, tuple(normalizers), has_zero_key, own_bias)

    @classmethod
    def _made(cls, arrays: Mapping[str, Any], **others: Any) -> Self:
        return cls(**arrays, **others)

    def to_config(self) -> dict[str, Any]:
        """The mapping from which `from_config` makes this layer again, as JSON types."""
        arrays = {name: array.tolist() for name, array in self.arrays.items()}
        config: dict[str, Any] = {
            "multi_head": {**arrays, **({"zero_key": True} if self.zero_key else {})},
            "scorer": config_of_heads(self.scorers),
        }
        if any(normalizer != SOFTMAX for normalizer in self.normalizers):
            config["normalizer"] = config_of_heads(self.normalizers)
        if self.bias is not None:
            config["bias"] = self.bias.to_config()
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
        """The groups of heads with the same scorer and normalizer."""
        return self._own.groups

    @property
    def scorers(self) -> tuple[Scorer, ...]:
        """The scorer of each head."""
        return self._own.scorers

    @property
    def normalizers(self) -> tuple[Normalizer, ...]:
        """The normalizer of each head."""
        return self._own.normalizers

    @property
    def bias(self) -> Bias | None:
        """The default bias of calls."""
        return self._own.bias

    @property
    def parameters(self) -> dict[str, Array]:
        """The arrays of the layer, then those of the scorers, normalizers and the bias."""
        return self._own.parameters

    @checked_arguments
    def memory(self, key: ArrayLike, value: ArrayLike) -> MultiHeadMemory:
        """Project keys (..., S, Ek) and values (..., S, Ev) once, for many calls.

        Raises
        ------
        ShapeError, DTypeError
            For arrays that do not fit the layer or each other.
        """
        adapter = adapter_of(key, value)
        if adapter is not None:
            memory: MultiHeadMemory = adapter.memory(self, key, value)
            return memory
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
        weight_factors: FactorsLike | None = None,
        **unknown: Never,
    ) -> MultiHeadResult:
        """Attend with every head.

        Parameters
        ----------
        query : (..., L, Eq)
        key : (..., S, Ek)
            Or a `MultiHeadMemory` of projected keys and values, made by this layer or an equal one.
        value : (..., S, Ev)
            Batch axes broadcast.
        mask, bias, weight_factors
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
        if unknown:
            raise unexpected_argument(MultiHeadAttention.__call__, unknown)
        if query_offset is None:
            query_offset = self._options.get("query_offset")
        if not (
            type(query) is np.ndarray
            and (type(key) is type(value) is np.ndarray or type(key) is MultiHeadMemory)
        ):
            adapter = adapter_of(query, key, value)
            if adapter is not None:
                terms = mask, bias, key_lengths, query_lengths, weight_factors
                found: MultiHeadResult = adapter.attend(
                    self, query, key, value, terms, query_offset
                )
                return found
        return attend_heads(
            self._own,
            (query, key, value),
            pairs={"mask": mask, "bias": resolve_bias(bias), "weight_factors": weight_factors},
            numbers={
                "key_lengths": key_lengths,
                "query_lengths": query_lengths,
                "query_offset": query_offset,
            },
        )

    def __eq__(self, other: object) -> bool:
        """Compare arrays, components and options."""
        if not isinstance(other, MultiHeadAttention):
            return NotImplemented
        return self._plain_options() == other._plain_options() and self._own == other._own

    def __hash__(self) -> int:
        return hash(self._own)

    def __str__(self) -> str:
        return "multi-head attention"

    def __repr__(self) -> str:
        parts = [f"heads={self.heads}", f"key_heads={self.key_heads}"]
        parts += [*map(str, self.groups), *([] if self.bias is None else [str(self.bias)])]
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
        components = self._own.components_with(parameters)
        return type(self)(**arrays, zero_key=self.zero_key, **components, **self._options)
