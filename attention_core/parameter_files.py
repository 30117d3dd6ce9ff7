"""The arrays of scorers and layers in files, ``.npz`` or ``.safetensors``, never pickled.

A file that `save` writes says which scorer or layer its arrays belong to; any other file of arrays
by name is read as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_core.errors import (
    AttentionCoreError,
    DTypeError,
    OptionError,
    OptionTypeError,
    ParameterFileError,
    ScorerConfigError,
    ScorerLookupError,
    ShapeError,
    listed,
    printable,
    shown,
)
from attention_core.files.array_files import write_file
from attention_core.files.saved_parameters import (
    Parameters,
    describe,
    read_named,
    read_parameters,
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

ScorerMaker = str | Callable[..., Scorer]
"""A registered name, or a class or function that makes a scorer from its arrays and settings."""


def save(path: str | Path, owner: Scorer | MultiHeadAttention) -> None:
    """Write a scorer or a layer: its arrays, and what else makes it.

    The same as `save_parameters`. A scorer is named by its distribution too, so that a package
    installed later cannot make the file mean something else.

    Raises
    ------
    ParameterFileError, MissingExtraError
        As `write_arrays`.
    ScorerConfigError
        For a scorer that was constructed directly and has no registered name.
    OptionTypeError
        For anything else than a scorer or a layer.

    Examples
    --------
    >>> import tempfile, attention_core as ac
    >>> layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ac.save(f"{folder}/layer.npz", layer)
    ...     ac.load(f"{folder}/layer.npz").heads
    2
    """
    save_parameters(path, owner)


def load(
    path: str | Path,
    registry: Registry | None = None,
    *,
    scorer: ScorerMaker | Sequence[ScorerMaker] | None = None,
) -> Scorer | MultiHeadAttention:
    """Read the scorer or the layer that `save` wrote.

    Parameters
    ----------
    path, registry, scorer
        As for `load_scorer` and `load_layer`.

    Raises
    ------
    ParameterFileError, MissingExtraError, ScorerLookupError
        As those.

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


def read_arrays(path: str | Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Read arrays of an ``.npz`` or ``.safetensors`` file, by name; never unpickles.

    Parameters
    ----------
    path
        The file.
    names
        The arrays that are wanted; the others stay unread. All of them when left out.

    Raises
    ------
    ParameterFileError
        For a file that is missing, damaged, of another kind, or holds Python objects, and an array
        that it does not hold.
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
    describe(path)
    return read_named(path, None if names is None else list(names))


def write_arrays(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name; the file appears whole, or stays as it was.

    Raises
    ------
    ParameterFileError
        For another extension than ``.npz`` or ``.safetensors``, a dtype or a name that such a file
        cannot hold, or a path that cannot be written.
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
        For a scorer that was constructed directly and has no registered name.
    OptionTypeError
        For anything else than a scorer or a layer.
    """
    scorers = [owner] if isinstance(owner, Scorer) else _scorers(owner)
    origins = [scorer.origin for scorer in scorers if scorer.origin is not None]
    note = {
        **_described(owner),
        "shapes": {name: array.shape for name, array in owner.parameters.items()},
        "versions": {o.distribution: o.version for o in origins if o.distribution is not None},
    }
    write_file(Path(path), owner.parameters, json.dumps(note))


def load_scorer(
    path: str | Path, registry: Registry | None = None, *, scorer: ScorerMaker | None = None
) -> Scorer:
    """Read the scorer that `save_parameters` wrote.

    Parameters
    ----------
    path
        The file.
    registry
        The registry of its name; the installed scorers when left out.
    scorer
        A name, or a class or function that takes the arrays and settings, to use instead of the
        scorer that the file names.

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
    described = describe(path)
    if described.layer is not None:
        raise ParameterFileError(
            f"{shown(str(path), 300)} holds multi-head attention, not a scorer; "
            f"use load_layer(path)"
        )
    if described.scorer is None and scorer is None:
        raise ParameterFileError(
            f"{shown(str(path), 300)} does not say which scorer its arrays belong to; "
            f"use make_scorer(name, **read_arrays(path))"
        )
    settings = described.scorer or {}
    maker = _Maker(path, registry, described.versions)
    return maker.make(settings, described.shapes, lambda: read_named(path), scorer)


def load_layer(
    path: str | Path,
    registry: Registry | None = None,
    *,
    scorer: ScorerMaker | Sequence[ScorerMaker] | None = None,
) -> MultiHeadAttention:
    """Read the layer that `save_parameters` wrote, with the scorer of each head and its options.

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
    chosen = [scorer] * count if isinstance(scorer, str) or callable(scorer) else scorer
    if chosen is not None and len(chosen) != count:
        raise OptionError(
            f"scorer must be one for all {count} heads, or {count} of them, got {len(chosen)}"
        )
    maker = _Maker(path, registry, described.versions, "layer")
    rest = dict(described.shapes)
    scorers: dict[int, Scorer] = {}
    for group in layer["groups"]:
        prefix = f"heads.{group['heads'][0]}."
        own = {name: rest.pop(name) for name in list(rest) if name.startswith(prefix)}
        made = maker.make(
            group["scorer"],
            {name.removeprefix(prefix): shape for name, shape in own.items()},
            lambda own=own, prefix=prefix: {  # type: ignore[misc]
                name.removeprefix(prefix): array
                for name, array in read_named(path, list(own)).items()
            },
            None if chosen is None else chosen[group["heads"][0]],
        )
        scorers |= dict.fromkeys(group["heads"], made)
    weights = [name for name in LAYOUT if name.endswith("_weight")]
    if not set(weights) <= rest.keys() <= LAYOUT.keys():
        raise ParameterFileError(
            f"{subject} does not fit its layer: beside those of its scorers it must hold "
            f"the arrays {', '.join(weights)}, with biases or without, got {listed(rest)}"
        )
    try:
        arguments: dict[str, Any] = {**read_named(path, list(rest)), **layer["attention"]}
        return MultiHeadAttention(
            **arguments,
            zero_key=layer["zero_key"],
            scorer=[scorers[head] for head in range(count)],
        )
    except (DTypeError, OptionError, ScorerConfigError, ShapeError) as error:
        raise ParameterFileError(f"{subject} does not fit its layer: {error}") from error


class _Maker:
    """Makes the scorers of a file, which must have the arrays that it holds, and no others."""

    def __init__(
        self,
        path: str | Path,
        registry: Registry | None,
        versions: Mapping[str, str],
        owner: str = "scorer",
    ) -> None:
        self.path = path
        self.subject = shown(str(path), 300)
        self.registry = _names(registry)
        self.versions = versions
        self.owner = owner

    def make(
        self,
        saved: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        read: Callable[[], dict[str, Array]],
        chosen: ScorerMaker | None,
    ) -> Scorer:
        """Make the scorer that was saved, or the chosen one, once its arrays' names are right."""
        settings = {name: value for name, value in saved.items() if name != "name"}
        try:
            if callable(chosen):
                made = chosen(**settings, **read())
            else:
                name = self._name(saved["name"] if chosen is None else chosen)
                given = {**settings, **shapes}
                problems = self.registry.problems(name, given)
                if problems:
                    raise ScorerConfigError("\n".join(problems.values()))
                made = self.registry.make(name, **settings, **read())
        except (ScorerConfigError, DTypeError, OptionError, ShapeError) as error:
            raise ParameterFileError(
                f"{self.subject} does not fit its {self.owner}: {error}"
            ) from error
        except AttentionCoreError:
            raise
        except Exception as error:  # a factory may raise anything
            raise ParameterFileError(
                f"{self.subject} does not fit its {self.owner}: {type(error).__name__}: "
                f"{printable(str(error), 300)}"
            ) from error
        if not isinstance(made, Scorer):
            raise OptionTypeError(f"scorer must make an attention_core.Scorer, got {shown(made)}")
        found = {name: array.shape for name, array in made.parameters.items()}
        if found != dict(shapes):
            raise ParameterFileError(
                f"{self.subject} does not fit its {self.owner}: {made} has the arrays "
                f"{listed(found) or 'none'}, the file {listed(shapes) or 'none'}, or other shapes"
            )
        return made

    def _name(self, saved: str) -> str:
        """The name that a saved name has now: the plain one, if nobody else has it."""
        try:
            return self.registry.info(saved).name
        except ScorerLookupError as error:
            distribution = saved.partition("/")[0]
            version = self.versions.get(distribution)
            if version is None:
                raise
            raise type(error)(
                f"{error}\n  {self.subject} was saved with {shown(distribution)} "
                f"{printable(version)}; install it, or choose another with scorer="
            ) from error


def _scorers(owner: object) -> tuple[Scorer, ...]:
    return tuple(getattr(owner, "scorers", ()))


def _described(owner: Scorer | MultiHeadAttention) -> dict[str, Any]:
    """Describe whose arrays a file holds, as `Parameters` has it."""
    if isinstance(owner, Scorer):
        return {"scorer": _config_without_arrays(owner)}
    from attention_core.multihead.layer import MultiHeadAttention

    if not isinstance(owner, MultiHeadAttention):
        raise OptionTypeError(
            f"a file of parameters is that of a Scorer or a MultiHeadAttention, "
            f"got {shown(owner)}; write_arrays(path, arrays) writes arrays by name"
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
    origin = scorer.origin
    if origin is not None and origin.distribution is not None and "/" not in config["name"]:
        config["name"] = f"{origin.distribution}/{config['name']}"
    return {name: value for name, value in config.items() if name not in arrays}


def _names(registry: Registry | None) -> Registry:
    if registry is not None:
        return registry
    from attention_core.registry.default import default_registry  # reading arrays needs no names

    return default_registry()
