"""`attend` and `Attention`: they resolve names, check a call, and hand it to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from operator import is_
from typing import TYPE_CHECKING, Any, Literal, Never

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments, unexpected_argument
from attention_core.arrays.adapters import adapter_of
from attention_core.components.bias import Bias
from attention_core.components.component import Component
from attention_core.components.markup import table
from attention_core.engine.dispatch import attend_call
from attention_core.engine.memory import Memory
from attention_core.engine.prepare import prepare
from attention_core.masking.positions import UNSHIFTED
from attention_core.normalizing.normalizer import Normalizer
from attention_core.normalizing.softmax import SOFTMAX
from attention_core.options import DEFAULTS, OPTIONS, Options, make_options
from attention_core.registry.resolution import default_bias, resolve_bias
from attention_core.result import AttentionResult
from attention_core.scoring.scorer import Scorer
from attention_core.typing import BiasLike, FactorsLike, MaskLike, NormalizerLike, ScorerLike

if TYPE_CHECKING:
    from pathlib import Path

    from attention_core.registry.registry import Registry

__all__ = ["Attention", "attend", "resolve_normalizer", "resolve_scorer"]

_DEFAULT_VALUES = tuple(OPTIONS.values())
_Terms = tuple[Any, Any, ArrayLike | None, ArrayLike | None, Any]
"""The arguments `TERMS` of `arrays/adapters.py`, in that order."""


def attend(
    query: ArrayLike,
    key: ArrayLike | Memory,
    value: ArrayLike | None = None,
    *,
    scorer: ScorerLike,
    normalizer: NormalizerLike = "softmax",
    mask: MaskLike | None = None,
    bias: BiasLike | None = None,
    key_lengths: ArrayLike | None = None,
    query_lengths: ArrayLike | None = None,
    is_causal: bool = False,
    query_offset: ArrayLike | Literal["end"] = 0,
    window: tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    tile: tuple[int, int] | None = None,
    workers: int | None = None,
    weight_factors: FactorsLike | None = None,
    **unknown: Never,
) -> AttentionResult:
    """Attend: ``context = softmax(score(query, key)) @ value``, for any scorer.

    In order: score, softcap ``c tanh(s / c)``, bias, mask, normalizer (softmax unless another is
    chosen), weight factors, weighted sum of values.

    Parameters
    ----------
    query : (..., L, Dq) or (Dq,)
        Without the L axis it is a single decoder step, and results have no L axis either.
    key : (..., S, Dk)
        Or a `Memory` of projected keys and values.
    value : (..., S, Dv)
        The leading axes of query, key and value are batch and heads, and broadcast.
    scorer
        A name (``"scaled_dot"``), a mapping of a name and parameters
        (``{"name": "general", "weight": w}``), or a `Scorer`.
    normalizer
        Likewise: ``"softmax"``, which may have a learnable ``sink``, ``"sigmoid"``,
        ``"sparsemax"``, ``"entmax"``, any other that is installed, or a `Normalizer`.
    mask
        **True = may attend**: a boolean array that broadcasts to (..., L, S); a 2-D `scipy.sparse`
        array, whose stored entries (if it is boolean, whose True entries) may attend; a function of
        (query_positions, key_positions), which is evaluated tile by tile; a `Packing` of
        concatenated sequences; or a `Neighborhood` on a grid.
    bias
        Added to the scores: an array of real numbers that broadcasts to (..., L, S), a function of
        positions, or a `Bias`, also by name or as a mapping, whose parameters have gradients. With
        a sparse mask also a sparse array of its pattern: one number for each edge. Functions have
        no gradients.
    key_lengths, query_lengths
        One integer per batch item, along the leading batch axes. Keys (queries) at or beyond the
        length are masked.
    is_causal
        Whether key j is allowed only if ``j <= i + query_offset``.
    query_offset
        The position of the first query among the keys; one integer, or one per batch item. 0 aligns
        the first query with the first key (top-left); ``"end"`` aligns the last query with the last
        key, per batch item if there are lengths, and so follows a growing `Memory`.
    window
        (left, right): key j is allowed only if
        ``i + query_offset - left <= j <= i + query_offset + right``; None leaves a side open.
    softcap
        A positive number c, which bounds scores to ``(-c, c)`` smoothly.
    tile
        The numbers of (queries, keys) that are scored together; chosen by default.
    workers
        The number of threads for large calls, by default one per core. The result does not depend
        on it.
    weight_factors
        Multiplied to the finished weights, which are not normalized again: an array of real numbers
        that broadcasts to (..., L, S), a sparse array (L, S) that stands for 0 where nothing is
        stored, a function of (query_positions, key_positions), or a `Dropout`.

    Returns
    -------
    AttentionResult
        With `context` (..., L, Dv), and weights, scores, entropy and more on demand.

    Raises
    ------
    ShapeError, DTypeError
        For arrays that do not fit each other, before any work starts.
    OptionError, OptionTypeError
        For impossible options.
    UnknownScorerError, AmbiguousScorerError, ScorerConfigError
        For scorers that cannot be made.
    ScorerContractError
        For a scorer that returns a wrong shape or dtype.

    Notes
    -----
    In addition to inputs, outputs and projections, a call needs the memory of a few tiles. float64
    computes in float64, and float32 in float32. Half precision computes in float32 and is returned
    in its own dtype. Integers become float64. A fully masked row has weights and a context of
    exactly 0, and a log-normalizer of -inf. NaN and Inf at masked positions do not affect the
    result; at allowed positions they affect only their own rows.

    References
    ----------
    Bahdanau, Cho and Bengio 2015, arXiv:1409.0473. Luong, Pham and Manning 2015,
    doi:10.18653/v1/D15-1166. Vaswani et al. 2017, arXiv:1706.03762. Streaming softmax: Milakov and
    Gimelshein 2018, arXiv:1805.02867; Rabe and Staats 2021, arXiv:2112.05682.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> query = np.array([[1.0, 0.0]])
    >>> key = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> value = np.array([[1.0], [2.0], [3.0]])
    >>> result = ac.attend(query, key, value, scorer="scaled_dot", mask=[[True, True, False]])
    >>> result.weights.round(3)
    array([[0.67, 0.33, 0.  ]])
    >>> result.context.round(3)
    array([[1.33]])
    """
    if unknown:
        raise unexpected_argument(attend, unknown)
    options = DEFAULTS
    given = is_causal, query_offset, window, softcap, tile, workers
    if not all(map(is_, given, _DEFAULT_VALUES)):
        options = Options(**make_options(dict(zip(OPTIONS, given, strict=True))))
    terms = mask, bias, key_lengths, query_lengths, weight_factors
    chosen, normalizer = resolve_scorer(scorer), resolve_normalizer(normalizer)
    return _attend(chosen, normalizer, options, query, key, value, terms)


def _attend(
    scorer: Scorer,
    normalizer: Normalizer,
    options: Options,
    query: ArrayLike,
    key: ArrayLike | Memory,
    value: ArrayLike | None,
    terms: _Terms,
    query_offset: ArrayLike | str | None = None,
) -> AttentionResult:
    """Check one call, make its mask and its bias if it has any, and compute it.

    `options` are the `Attention` itself where one is called. Arrays of other libraries are left to
    their adapters, which call it again with arrays of NumPy.
    """
    if not (
        type(query) is np.ndarray
        and (type(key) is type(value) is np.ndarray or type(key) is Memory)
    ):
        adapter = adapter_of(query, key, value)
        if adapter is not None:
            core = options
            if not isinstance(core, Attention):
                core = Attention(scorer, normalizer=normalizer, **vars(options))
            found: AttentionResult = adapter.attend(core, query, key, value, terms, query_offset)
            return found
    call = prepare(scorer, query, key, value)
    mask, bias, key_lengths, query_lengths, weight_factors = terms
    bias = bias if bias is None else resolve_bias(bias)
    offset = options.query_offset if query_offset is None else query_offset
    masking, added, factors, positions = None, None, None, UNSHIFTED
    if not (
        mask is None
        and bias is None
        and key_lengths is None
        and query_lengths is None
        and weight_factors is None
        and options.is_causal is False
        and options.window is None
        and type(offset) is int
        and offset == 0
    ):
        from attention_core.masking.arguments import make_terms  # most calls mask nothing

        masking, added, factors, positions = make_terms(
            call.batch,
            call.query.shape[-2],
            call.key.shape[-2],
            single_query=call.is_single,
            mask=mask,
            bias=bias,
            key_lengths=key_lengths,
            query_lengths=query_lengths,
            is_causal=options.is_causal,
            query_offset=offset,
            window=options.window,
            weight_factors=weight_factors,
        )
    if normalizer is not SOFTMAX:
        normalizer.check_batch(call.batch)
    softcap, tile, workers = options.softcap, options.tile, options.workers
    return AttentionResult(
        attend_call(
            scorer, call, normalizer, masking, added, softcap, tile, workers, positions, factors
        )
    )


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Attention(Options):
    """A scorer and its attention options, ready to be called.

    Immutable and safe to call from many threads. The options are those of `attend`. Two are equal
    when their scorers and options are.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> attention = ac.Attention("scaled_dot", is_causal=True, window=(1, 0))
    >>> attention
    Attention(ScaledDotScorer(), is_causal=True, window=(1, 0))
    >>> attention(np.eye(3), np.eye(3), np.eye(3)).weights.round(2)
    array([[1.  , 0.  , 0.  ],
           [0.36, 0.64, 0.  ],
           [0.  , 0.36, 0.64]])
    >>> attention.to_config()
    {'scorer': {'name': 'scaled_dot'}, 'attention': {'is_causal': True, 'window': [1, 0]}}
    """

    scorer: Scorer
    normalizer: Normalizer
    bias: Bias | None

    @checked_arguments
    def __init__(
        self,
        scorer: ScorerLike,
        *,
        normalizer: NormalizerLike = "softmax",
        bias: str | Mapping[str, Any] | Bias | None = None,
        is_causal: bool = False,
        query_offset: ArrayLike | Literal["end"] = 0,
        window: tuple[int | None, int | None] | None = None,
        softcap: float | None = None,
        tile: tuple[int, int] | None = None,
        workers: int | None = None,
    ) -> None:
        given = is_causal, query_offset, window, softcap, tile, workers
        options = make_options(dict(zip(OPTIONS, given, strict=True)))
        # frozen: attributes cannot be set one by one
        self.__dict__.update(
            {**OPTIONS, **options},
            scorer=resolve_scorer(scorer),
            normalizer=resolve_normalizer(normalizer),
            bias=default_bias("an Attention", bias),
        )

    @classmethod
    @checked_arguments
    def from_config(
        cls, source: str | Path | Mapping[str, Any], registry: Registry | None = None
    ) -> Attention:
        """Make the attention that a TOML or JSON file, or an equivalent mapping, describes.

        Raises
        ------
        ConfigError
            With every problem of the configuration and its place.

        Examples
        --------
        >>> import attention_core as ac
        >>> config = {"scorer": {"name": "scaled_dot", "scale": 0.5}, "attention": {"softcap": 30}}
        >>> ac.Attention.from_config(config).scorer.scale
        0.5
        """
        from attention_core.config import read_config  # imported only if used

        scorer, options = read_config(source, registry)
        return cls(scorer, **options)

    def to_config(self) -> dict[str, Any]:
        """The mapping from which `from_config` makes this attention again, as JSON types."""
        options = self._plain_options()
        config: dict[str, Any] = {"scorer": self.scorer.to_config()}
        if self.normalizer != SOFTMAX:
            config["normalizer"] = self.normalizer.to_config()
        if self.bias is not None:
            config["bias"] = self.bias.to_config()
        return {**config, "attention": options} if options else config

    def _plain_options(self) -> dict[str, Any]:
        """The options that differ from the defaults, as JSON has them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self._chosen().items()
        }

    def _chosen(self) -> dict[str, Any]:
        """The options that differ from the defaults, with lists for arrays."""
        options = {name: getattr(self, name) for name in OPTIONS}
        options["query_offset"] = np.asarray(self.query_offset).tolist()
        return {name: own for name, own in options.items() if own != OPTIONS[name]}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Attention):
            return NotImplemented
        return (
            self.scorer == other.scorer
            and self.normalizer == other.normalizer
            and self.bias == other.bias
            and self._chosen() == other._chosen()
        )

    def __hash__(self) -> int:
        return hash(self.scorer)

    def __repr__(self) -> str:
        chosen = self._chosen()
        if self.normalizer != SOFTMAX:
            chosen = {"normalizer": self.normalizer, **chosen}
        if self.bias is not None:
            chosen = {"bias": self.bias, **chosen}
        options = [f"{name}={value!r}" for name, value in chosen.items()]
        return f"Attention({', '.join([repr(self.scorer), *options])})"

    def _repr_html_(self) -> str:
        """The components and the options, for notebooks."""
        components: list[Component] = [self.scorer]
        if self.normalizer != SOFTMAX:
            components.append(self.normalizer)
        if self.bias is not None:
            components.append(self.bias)
        options = table("options", self._plain_options().items() or [("all", "default")])
        return "".join([f"<div>{each._repr_html_()}</div>" for each in components] + [options])

    @checked_arguments
    def memory(self, key: ArrayLike, value: ArrayLike) -> Memory:
        """Keys (..., S, Dk), projected once, and their values (..., S, Dv), for many calls."""
        if type(key) is not np.ndarray or type(value) is not np.ndarray:
            adapter = adapter_of(key, value)
            if adapter is not None:
                memory: Memory = adapter.memory(self, key, value)
                return memory
        return Memory(self.scorer, key, value)

    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike | Memory,
        value: ArrayLike | None = None,
        *,
        mask: MaskLike | None = None,
        bias: BiasLike | None = None,
        key_lengths: ArrayLike | None = None,
        query_lengths: ArrayLike | None = None,
        query_offset: ArrayLike | Literal["end"] | None = None,
        weight_factors: FactorsLike | None = None,
        **unknown: Never,
    ) -> AttentionResult:
        """Attend with this scorer and these options; arguments and errors are those of `attend`."""
        if unknown:
            raise unexpected_argument(Attention.__call__, unknown)
        bias = self.bias if bias is None else bias
        terms = mask, bias, key_lengths, query_lengths, weight_factors
        return _attend(self.scorer, self.normalizer, self, query, key, value, terms, query_offset)


def resolve_scorer(scorer: ScorerLike) -> Scorer:
    """Resolve a name or a mapping to a scorer; return a scorer itself."""
    if isinstance(scorer, Scorer):
        return scorer
    found: Scorer = _resolve()(scorer)
    return found


def resolve_normalizer(normalizer: NormalizerLike) -> Normalizer:
    """Resolve a name or a mapping to a normalizer; return a normalizer itself."""
    if isinstance(normalizer, str) and normalizer == "softmax":
        return SOFTMAX
    if isinstance(normalizer, Normalizer):
        return normalizer
    from attention_core.registry.kinds import NORMALIZER  # imported only if used

    found: Normalizer = _resolve()(normalizer, NORMALIZER)
    return found


@cache  # an import statement costs the smallest calls a microsecond
def _resolve() -> Callable[..., Any]:
    """The `resolve` of `registry/default.py`; components that are given need no registry."""
    from attention_core.registry.default import resolve

    return resolve
