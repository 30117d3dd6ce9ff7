"""Load a scorer or a layer from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attention_core.arguments import checked_arguments
from attention_core.components.bias import Bias
from attention_core.errors import (
    DTypeError,
    OptionError,
    OptionTypeError,
    ParameterFileError,
    ScorerConfigError,
    ShapeError,
    listed,
    shown,
)
from attention_core.files.saved_parameters import describe, describe_scorer, read_named
from attention_core.multihead.layout import LAYOUT
from attention_core.multihead.parameters import BIAS_PREFIX
from attention_core.normalizing.normalizer import Normalizer
from attention_core.normalizing.softmax import SOFTMAX
from attention_core.parameter_files.saved_components import SavedComponents, ScorerMaker
from attention_core.registry.kinds import BIAS, NORMALIZER, SCORER, Kind
from attention_core.scoring.scorer import Scorer

if TYPE_CHECKING:
    from attention_core.multihead.layer import MultiHeadAttention
    from attention_core.registry.registry import Registry

__all__ = ["load", "load_layer", "load_scorer"]

T = TypeVar("T", Scorer, Normalizer, Bias)


@checked_arguments
def load(
    path: str | Path,
    registry: Registry | None = None,
    *,
    scorer: ScorerMaker | Sequence[ScorerMaker] | None = None,
) -> Scorer | MultiHeadAttention:
    """Load the scorer or the layer that `save` wrote.

    Parameters
    ----------
    path, registry, scorer
        As for `load_scorer` and `load_layer`.

    Raises
    ------
    ParameterFileError, MissingExtraError, ScorerLookupError
        As `load_scorer` and `load_layer`.

    See Also
    --------
    save : Save a scorer or a layer.

    Examples
    --------
    >>> import tempfile, attention_core as ac
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ac.save(f"{folder}/scale.npz", ac.make_scorer("scaled_dot", scale=0.5))
    ...     ac.load(f"{folder}/scale.npz").scale
    0.5
    """
    if describe(path).layer is not None:
        return load_layer(path, registry, scorer=scorer)
    if scorer is not None and not isinstance(scorer, str) and isinstance(scorer, Sequence):
        raise OptionTypeError(
            f"scorer must be a name, a class or a function for the file of one scorer, "
            f"got {shown(scorer)}"
        )
    return load_scorer(path, registry, scorer=scorer)


@checked_arguments
def load_scorer(
    path: str | Path, registry: Registry | None = None, *, scorer: ScorerMaker | None = None
) -> Scorer:
    """Load the scorer that `save` wrote.

    Parameters
    ----------
    path
        The file.
    registry
        The registry in which to look up its name; the installed scorers by default.
    scorer
        A name, or a class or function that takes the arrays and settings, to use instead of the
        scorer that the file names.

    Raises
    ------
    ParameterFileError
        For a file that cannot be read, does not name its scorer, or does not fit it.
    ScorerLookupError
        For a scorer that is not installed.

    Examples
    --------
    >>> import tempfile, attention_core as ac
    >>> scorer = ac.make_scorer("general", query_dim=3, key_dim=4, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ac.save(f"{folder}/general.npz", scorer)
    ...     loaded = load_scorer(f"{folder}/general.npz")
    >>> bool((loaded.weight == scorer.weight).all())
    True
    """
    described = describe_scorer(path)
    if described.scorer is None and scorer is None:
        raise ParameterFileError(
            f"{shown(str(path), 300)} does not say which scorer its arrays belong to; "
            f"use make_scorer(name, **read_arrays(path))"
        )
    settings = described.scorer or {}
    saved = SavedComponents(path, registry, described.versions)
    return saved.make(SCORER, settings, described.shapes, lambda: read_named(path), scorer)


@checked_arguments
def load_layer(
    path: str | Path,
    registry: Registry | None = None,
    *,
    scorer: ScorerMaker | Sequence[ScorerMaker] | None = None,
) -> MultiHeadAttention:
    """Load the layer that `save` wrote, with all its components and options.

    Parameters
    ----------
    path, registry
        As for `load_scorer`.
    scorer
        As for `load_scorer`, for every head; or a sequence of one for each head.

    Raises
    ------
    ParameterFileError
        For a file that cannot be read, does not hold a layer, or does not fit it.
    ScorerLookupError
        For a scorer or a normalizer that is not installed.

    Examples
    --------
    >>> import tempfile, attention_core as ac
    >>> layer = ac.MultiHeadAttention.initialize(
    ...     4, heads=2, scorer=["dot", "scaled_dot"], is_causal=True, rng=0
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ac.save(f"{folder}/layer.npz", layer)
    ...     loaded = load_layer(f"{folder}/layer.npz")
    >>> [scorer.name for scorer in loaded.scorers], loaded.groups[0].attention.is_causal
    (['dot', 'scaled_dot'], True)
    >>> bool((loaded.parameter_vector == layer.parameter_vector).all())
    True
    """
    from attention_core.multihead.layer import MultiHeadAttention  # scorers need no layers

    described = describe(path)
    layer, subject = described.layer, shown(str(path), 300)
    if layer is None:
        said = "does not say which layer its arrays belong to"
        way_out = "use layer.with_parameters(read_arrays(path))"
        if described.scorer is not None:
            said = f"holds scorer {shown(described.scorer['name'])}, not a layer"
            way_out = "use load_scorer(path)"
        raise ParameterFileError(f"{subject} {said}; {way_out}")
    count = sum(len(group["heads"]) for group in layer["groups"])
    is_sequence = isinstance(scorer, Sequence) and not isinstance(scorer, str)
    chosen: Any = scorer if is_sequence else [scorer] * count
    if len(chosen) != count:
        raise OptionError(
            f"scorer must be one for all {count} heads, or {count} of them, got {len(chosen)}"
        )
    saved = SavedComponents(path, registry, described.versions, "layer")
    rest = dict(described.shapes)

    def made(kind: Kind[T], config: Mapping[str, Any], prefix: str, chosen: Any = None) -> T:
        """A component of the layer; its arrays are taken from the rest."""
        own = {name: rest.pop(name) for name in list(rest) if name.startswith(prefix)}
        return saved.make(
            kind,
            config,
            {name.removeprefix(prefix): shape for name, shape in own.items()},
            lambda: {
                name.removeprefix(prefix): array
                for name, array in read_named(path, list(own)).items()
            },
            chosen,
        )

    normalizers: list[Normalizer] = [SOFTMAX] * count
    for group in layer["normalizers"]:  # first, since they share prefixes with the scorers
        prefix = f"heads.{group['heads'][0]}.normalizer."
        normalizer = made(NORMALIZER, group["normalizer"], prefix)
        for head in group["heads"]:
            normalizers[head] = normalizer
    scorers: dict[int, Scorer] = {}
    for group in layer["groups"]:
        first = group["heads"][0]
        one = made(SCORER, group["scorer"], f"heads.{first}.", chosen[first])
        scorers |= dict.fromkeys(group["heads"], one)
    bias = None if layer["bias"] is None else made(BIAS, layer["bias"], BIAS_PREFIX)
    weights = [name for name in LAYOUT if name.endswith("_weight")]
    if not set(weights) <= rest.keys() <= LAYOUT.keys():
        raise ParameterFileError(
            f"{subject} does not fit its layer: besides those of its scorers it must hold "
            f"the arrays {', '.join(weights)}, with biases or without, got {listed(rest)}"
        )
    try:
        arguments: dict[str, Any] = {**read_named(path, list(rest)), **layer["attention"]}
        return MultiHeadAttention(
            **arguments,
            zero_key=layer["zero_key"],
            scorer=[scorers[head] for head in range(count)],
            normalizer=normalizers,
            bias=bias,
        )
    except (DTypeError, OptionError, ScorerConfigError, ShapeError) as error:
        raise ParameterFileError(f"{subject} does not fit its layer: {error}") from error
