"""The arrays of scorers and layers in files, ``.npz`` or ``.safetensors``, never pickled.

A file that `save_parameters` writes says which scorer or layer its arrays belong to; any other file
of arrays by name is read as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_core.errors import (
    DTypeError,
    OptionError,
    OptionTypeError,
    ParameterFileError,
    ScorerConfigError,
    ShapeError,
)
from attention_core.files.array_files import write_file
from attention_core.files.saved_parameters import (
    Parameters,
    read_parameters,
    read_scorer_parameters,
)
from attention_core.multihead.layout import LAYOUT
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

if TYPE_CHECKING:
    from attention_core.multihead.layer import MultiHeadAttention
    from attention_core.registry.registry import Registry

__all__ = [
    "Parameters",
    "load_layer",
    "load_scorer",
    "read_arrays",
    "read_parameters",
    "save_parameters",
    "write_arrays",
]


def read_arrays(path: str | Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` or ``.safetensors`` file, by name; never unpickles.

    Raises
    ------
    ParameterFileError
        For a file that is missing, damaged, of another kind, or holds Python objects.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/weights.npz", weight=np.eye(2))
    ...     read_arrays(f"{folder}/weights.npz")
    {'weight': array([[1., 0.],
           [0., 1.]])}
    """
    return read_parameters(path).arrays


def write_arrays(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name; the file appears whole, or stays as it was.

    Raises
    ------
    ParameterFileError
        For another ending than ``.npz`` or ``.safetensors``, a dtype that such a file cannot
        hold, or a place that cannot be written.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.
    """
    write_file(Path(path), arrays)


def save_parameters(path: str | Path, owner: Scorer | MultiHeadAttention) -> None:
    """Write the arrays of a scorer or a layer, and what else makes it.

    A scorer is read by `load_scorer` or a config, a layer by `load_layer`: with the scorer of each
    head and the attention options.

    Raises
    ------
    ParameterFileError, MissingExtraError
        As `write_arrays`.
    ScorerConfigError
        For a scorer that was built by hand and has no registered name.
    OptionTypeError
        For anything else than a scorer or a layer.
    """
    note = {
        **_described(owner),
        "shapes": {name: array.shape for name, array in owner.parameters.items()},
    }
    write_file(Path(path), owner.parameters, json.dumps(note))


def load_scorer(path: str | Path, registry: Registry | None = None) -> Scorer:
    """The scorer that `save_parameters` wrote.

    Raises
    ------
    ParameterFileError
        For a file that cannot be read, does not name its scorer, or does not fit it.
    ScorerLookupError
        When no such scorer is installed.

    Examples
    --------
    >>> import tempfile, attention_core as ac
    >>> scorer = ac.make_scorer("general", query_dim=3, key_dim=4, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_parameters(f"{folder}/general.npz", scorer)
    ...     loaded = load_scorer(f"{folder}/general.npz")
    >>> bool((loaded.weight == scorer.weight).all())
    True
    """
    arrays, scorer = read_scorer_parameters(path)
    if scorer is None:
        raise ParameterFileError(
            f"{str(path)!r} does not say which scorer its arrays belong to; "
            f"use make_scorer(name, **read_arrays(path))"
        )
    try:
        return _names(registry).resolve({**scorer, **arrays})
    except ScorerConfigError as error:
        raise ParameterFileError(f"{str(path)!r} does not fit its scorer: {error}") from error


def load_layer(path: str | Path, registry: Registry | None = None) -> MultiHeadAttention:
    """The layer that `save_parameters` wrote, with the scorer of each head and its options.

    Raises
    ------
    ParameterFileError
        For a file that cannot be read, does not hold a layer, or does not fit it.
    ScorerLookupError
        When a scorer of its heads is not installed.

    Examples
    --------
    >>> import tempfile, attention_core as ac
    >>> layer = ac.MultiHeadAttention.initialize(
    ...     4, heads=2, scorer=["dot", "scaled_dot"], is_causal=True, rng=0
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_parameters(f"{folder}/layer.npz", layer)
    ...     loaded = load_layer(f"{folder}/layer.npz")
    >>> [scorer.name for scorer in loaded.scorers], loaded.groups[0].attention.is_causal
    (['dot', 'scaled_dot'], True)
    >>> bool((loaded.parameter_vector == layer.parameter_vector).all())
    True
    """
    from attention_core.multihead.layer import MultiHeadAttention  # reading arrays needs no layers

    arrays, scorer, layer = read_parameters(path)
    if layer is None:
        said = "does not say which layer its arrays belong to"
        way_out = "use layer.with_parameters(read_arrays(path))"
        if scorer is not None:
            said, way_out = f"holds scorer {scorer['name']!r}, not a layer", "use load_scorer(path)"
        raise ParameterFileError(f"{str(path)!r} {said}; {way_out}")
    names = _names(registry)
    scorers: dict[int, Scorer] = {}
    try:
        for group in layer["groups"]:
            prefix = f"heads.{group['heads'][0]}."
            own = {
                name.removeprefix(prefix): arrays.pop(name)
                for name in list(arrays)
                if name.startswith(prefix)
            }
            scorers |= dict.fromkeys(group["heads"], names.resolve({**group["scorer"], **own}))
        weights = [name for name in LAYOUT if name.endswith("_weight")]
        if not set(weights) <= arrays.keys() <= LAYOUT.keys():
            raise ParameterFileError(
                f"{str(path)!r} does not fit its layer: beside those of its scorers it must hold "
                f"the arrays {', '.join(weights)}, with biases or without, got {', '.join(arrays)}"
            )
        rest = {**arrays, **layer["attention"]}
        in_order = [scorers[head] for head in range(len(scorers))]
        return MultiHeadAttention(**rest, zero_key=layer["zero_key"], scorer=in_order)
    except (DTypeError, OptionError, ScorerConfigError, ShapeError) as error:
        raise ParameterFileError(f"{str(path)!r} does not fit its layer: {error}") from error


def _described(owner: Scorer | MultiHeadAttention) -> dict[str, Any]:
    """Whose arrays a file holds, as `Parameters` has it."""
    if isinstance(owner, Scorer):
        return {"scorer": _config_without_arrays(owner)}
    from attention_core.multihead.layer import MultiHeadAttention

    if not isinstance(owner, MultiHeadAttention):
        raise OptionTypeError(
            f"a file of parameters is that of a Scorer or a MultiHeadAttention, got {owner!r}; "
            f"write_arrays(path, arrays) writes arrays by name"
        )
    groups = [
        {"heads": group.heads, "scorer": _config_without_arrays(group.attention.scorer)}
        for group in owner.groups
    ]
    options = owner.groups[0].attention.to_config().get("attention", {})
    return {"layer": {"groups": groups, "attention": options, "zero_key": owner.zero_key}}


def _config_without_arrays(scorer: Scorer) -> dict[str, Any]:
    arrays = scorer.parameters
    # with_parameters forgets dimensions and seeds: the arrays say it all
    config = scorer.with_parameters(arrays).to_config()
    return {name: value for name, value in config.items() if name not in arrays}


def _names(registry: Registry | None) -> Registry:
    if registry is not None:
        return registry
    from attention_core.registry.default import default_registry  # reading arrays needs no names

    return default_registry()
