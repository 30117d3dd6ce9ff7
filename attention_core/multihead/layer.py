"""Multi-head attention: heads that attend to their own projections, with any scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike

from attention_core.errors import OptionError
from attention_core.masking.arguments import PairFunction
from attention_core.multihead.call import MultiHeadResult, attend_heads
from attention_core.multihead.layout import first_arrays, keras_arrays, torch_arrays
from attention_core.multihead.memory import MultiHeadMemory
from attention_core.multihead.parameters import AttentionOptions, HeadParameters, ScorerLike
from attention_core.options import check_count

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(HeadParameters):
    """Several heads attend, each to its own projection, and their contexts are projected back.

    ``output = sum_h context_h W^O_h + b^O``, where
    ``context_h = attend(query W^Q_h + b^Q_h, key W^K_g + b^K_g, value W^V_g + b^V_g)`` with the
    scorer of head h, and g is the key head that query head h shares: ``g = h // (N / M)``.

    Parameters
    ----------
    query_weight : (Eq, N, Dq)
        W^Q, for N heads.
    key_weight : (Ek, M, Dk)
        W^K. With M < N, a divisor of N, heads are grouped: N / M neighbors share keys and values.
    value_weight : (Ev, M, Dv)
        W^V.
    output_weight : (N, Dv, Eo)
        W^O.
    query_bias, key_bias, value_bias, output_bias : (N, Dq), (M, Dk), (M, Dv), (Eo,), optional
        b^Q, b^K, b^V and b^O, where there are any.
    scorer
        A name, a mapping or a `Scorer`, as for `attend`, for all heads; or a sequence of N of them,
        one for each head. It scores the projected query (Dq) and key (Dk). A name, or one `Scorer`
        object, given to several heads is one scorer for them, whose parameters they share.
    **options
        Those of `Attention`: is_causal, query_offset, window, softcap, tile and workers.

    Raises
    ------
    ShapeError, DTypeError
        For arrays that do not fit together, or that the scorers cannot score.
    OptionError, OptionTypeError
        For another number of scorers than heads, and impossible options.
    UnknownScorerError, AmbiguousScorerError, ScorerConfigError
        For scorers that cannot be made.

    Notes
    -----
    Heads with the same scorer are one call with an axis for the heads; each further scorer is one
    call more. A query that may attend to nothing gets the output bias. Half precision computes in
    float32; parameters are cast to the dtype of the inputs, whatever they are kept in.

    `parameters` holds copies of the arrays given here, and those of the scorers as
    ``heads.0.weight``, under the first head that has the scorer.

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
        """A layer with Glorot-uniform first weights, and biases of 0 if it has any.

        Parameters
        ----------
        query_dim, key_dim, value_dim, output_dim
            Eq, Ek, Ev and Eo. Keys are as queries when left out, values as keys, and the output as
            the queries.
        heads, key_heads
            N and M; M is N when left out.
        head_dim
            Dq = Dk = Dv; when left out Eq / N, which must be whole.
        rng
            A seed or a generator.

        Raises
        ------
        OptionError, OptionTypeError
            For numbers that are not positive integers, or do not divide, and what is no seed.

        Examples
        --------
        >>> from attention_core import MultiHeadAttention
        >>> layer = MultiHeadAttention.initialize(8, heads=4, key_heads=2, rng=0)
        >>> [array.shape for array in layer.parameters.values()]
        [(8, 4, 2), (8, 2, 2), (8, 2, 2), (4, 2, 8)]
        """
        check_count("query_dim", query_dim)
        check_count("heads", heads)
        optional = {
            "key_dim": key_dim,
            "value_dim": value_dim,
            "output_dim": output_dim,
            "head_dim": head_dim,
            "key_heads": key_heads,
        }
        for name, count in optional.items():
            if count is not None:
                check_count(name, count)
        if head_dim is None:
            if query_dim % heads:
                raise OptionError(
                    f"query_dim must be a multiple of heads, or give head_dim; "
                    f"got query_dim {query_dim} and {heads} heads"
                )
            head_dim = query_dim // heads
        key_dim = query_dim if key_dim is None else key_dim
        sizes = {
            "Eq": query_dim,
            "Ek": key_dim,
            "Ev": key_dim if value_dim is None else value_dim,
            "Eo": query_dim if output_dim is None else output_dim,
            "N": heads,
            "M": heads if key_heads is None else key_heads,
            **dict.fromkeys(("Dq", "Dk", "Dv"), head_dim),
        }
        arrays = first_arrays(sizes, rng, biases=biases)
        return cls(**arrays, scorer=scorer, **options)

    @classmethod
    def from_torch(
        cls,
        state: Mapping[str, ArrayLike],
        *,
        heads: int,
        scorer: ScorerLike | Sequence[ScorerLike] = "scaled_dot",
        **options: Unpack[AttentionOptions],
    ) -> Self:
        """The layer that has the weights of a ``torch.nn.MultiheadAttention``.

        Parameters
        ----------
        state
            Its ``state_dict()``, or arrays of the same names: ``in_proj_weight`` (3 E, E), or
            ``q_proj_weight`` (E, E), ``k_proj_weight`` (E, Ek) and ``v_proj_weight`` (E, Ev);
            ``out_proj.weight`` (E, E); ``in_proj_bias`` (3 E) and ``out_proj.bias`` (E) if it has
            them. They are copied; bfloat16 becomes float32.
        heads
            Its ``num_heads``, which the state does not tell.

        Raises
        ------
        OptionError, OptionTypeError, ShapeError
            For names that are missing, given in both ways, or that have no counterpart here, such
            as ``bias_k``, and arrays that do not fit.
        DTypeError
            For tensors that are no dense arrays of real numbers, such as sparse ones.

        Notes
        -----
        In torch, a boolean mask is **True where a query may not attend**: pass
        ``mask=~attn_mask``, or ``mask=~key_padding_mask[:, None, None, :]``. A mask of floats is
        added to the scores: pass it as ``bias``. Its inputs are (L, B, E) unless ``batch_first``;
        ours are (B, L, E). Its weights are averaged over the heads: ``weights.mean(axis=-3)``.

        Examples
        --------
        >>> from attention_core import MultiHeadAttention
        >>> state = {"in_proj_weight": np.ones((12, 4)), "out_proj.weight": np.eye(4)}
        >>> MultiHeadAttention.from_torch(state, heads=2).heads
        2
        """
        return cls(**torch_arrays(state, heads), scorer=scorer, **options)

    @classmethod
    def from_keras(
        cls,
        weights: Sequence[ArrayLike],
        *,
        scorer: ScorerLike | Sequence[ScorerLike] = "scaled_dot",
        **options: Unpack[AttentionOptions],
    ) -> Self:
        """The layer that has the weights of a Keras ``MultiHeadAttention``.

        Or of a ``GroupQueryAttention``, whose key and value kernels have fewer heads.

        Parameters
        ----------
        weights
            What ``layer.get_weights()`` returns: the kernels of query (Eq, N, Dk), key, value and
            output (N, Dv, Eo), each followed by its bias if the layer has biases.

        Raises
        ------
        OptionError, OptionTypeError, ShapeError
            For another number of arrays, and arrays that do not fit.

        Notes
        -----
        A Keras layer is called with (query, **value**, key); this one with (query, key, value).
        Masks mean the same, True where a query may attend, but an ``attention_mask`` (B, L, S)
        needs an axis for the heads here: ``mask=attention_mask[:, None]``.

        Examples
        --------
        >>> from attention_core import MultiHeadAttention
        >>> kernels = [np.ones((4, 2, 3))] * 3 + [np.ones((2, 3, 4))]
        >>> MultiHeadAttention.from_keras(kernels).key_heads
        2
        """
        return cls(**keras_arrays(weights), scorer=scorer, **options)

    def memory(self, key: ArrayLike, value: ArrayLike) -> MultiHeadMemory:
        """Keys (..., S, Ek) and values (..., S, Ev), projected into the heads once, for many calls.

        Raises
        ------
        ShapeError, DTypeError
            For arrays that do not fit the layer, or each other.
        """
        return MultiHeadMemory(self.arrays, self.groups, key, value)

    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike | MultiHeadMemory,
        value: ArrayLike | None = None,
        *,
        mask: Any = None,
        bias: ArrayLike | PairFunction | None = None,
        key_lengths: ArrayLike | None = None,
        query_lengths: ArrayLike | None = None,
        query_offset: ArrayLike | None = None,
    ) -> MultiHeadResult:
        """Attend with every head.

        Parameters
        ----------
        query : (..., L, Eq)
        key : (..., S, Ek)
            Or a `MultiHeadMemory` of prepared keys and values.
        value : (..., S, Ev)
            Batch axes broadcast.
        mask, bias
            As for `attend`, where the heads are the last batch axis: what broadcasts to
            (..., N, L, S), so one matrix per batch item needs an axis, ``mask[:, None]``.
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
            self.arrays,
            self.groups,
            (query, key, value),
            pairs={"mask": mask, "bias": bias},
            numbers={
                "key_lengths": key_lengths,
                "query_lengths": query_lengths,
                "query_offset": query_offset,
            },
        )
