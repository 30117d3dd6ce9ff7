"""Save a scorer or a layer: its arrays, and a note that describes the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_core.arguments import checked_arguments
from attention_core.components.bias import Bias
from attention_core.components.component import Component
from attention_core.errors import OptionTypeError, ScorerConfigError, shown
from attention_core.files.array_files import write_arrays
from attention_core.files.paths import as_path
from attention_core.normalizing.softmax import SOFTMAX
from attention_core.scoring.scorer import Scorer

if TYPE_CHECKING:
    from attention_core.multihead.layer import MultiHeadAttention

__all__ = ["save"]


@checked_arguments
def save(path: str | Path, owner: Scorer | MultiHeadAttention) -> None:
    """Save a scorer or a layer to an ``.npz`` or ``.safetensors`` file.

    The file holds the arrays and a note: the names and settings of the scorers, and the
    normalizers, the bias and the options of a layer. It names each with its distribution, so that a
    package that is installed later cannot change its meaning. The file is written atomically.

    Parameters
    ----------
    path
        The file, which is replaced if it exists.
    owner
        The scorer or the layer.

    Raises
    ------
    ParameterFileError
        For an unsupported extension, dtype or name, or a path that cannot be written.
    MissingExtraError
        For a ``.safetensors`` file without the extra `safetensors`.
    ScorerConfigError
        For a scorer or a normalizer that was constructed directly and has no registered name, or
        whose settings draw its arrays from a seed.
    OptionTypeError
        For anything but a scorer or a layer.

    See Also
    --------
    load : Load the scorer or the layer.

    Examples
    --------
    >>> import tempfile, attention_core as ac
    >>> layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ac.save(f"{folder}/layer.npz", layer)
    ...     ac.load(f"{folder}/layer.npz").heads
    2
    """
    path, described = as_path(path), _described(owner)
    if isinstance(owner, Scorer):
        components: list[Component] = [owner]
    else:
        components = [*getattr(owner, "scorers", ()), *getattr(owner, "normalizers", ())]
        bias = getattr(owner, "bias", None)
        components += [bias] if isinstance(bias, Bias) else []
    origins = [component.origin for component in components if component.origin is not None]
    note = {
        **described,
        "shapes": {name: array.shape for name, array in owner.parameters.items()},
        "versions": {o.distribution: o.version for o in origins if o.distribution is not None},
    }
    write_arrays(path, owner.parameters, note=json.dumps(note))


def _described(owner: Scorer | MultiHeadAttention) -> dict[str, Any]:
    """Describe the scorer or the layer, in the form of `Parameters`."""
    if isinstance(owner, Scorer):
        return {"scorer": _config_without_arrays(owner)}
    from attention_core.multihead.layer import MultiHeadAttention  # scorers need no layers

    if not isinstance(owner, MultiHeadAttention):
        raise OptionTypeError(
            f"only a Scorer or a MultiHeadAttention can be saved, "
            f"got {shown(owner)}; write_arrays(path, arrays) writes named arrays"
        )
    options = owner.groups[0].attention.to_config().get("attention", {})
    layer = {"groups": _grouped(owner.scorers), "attention": options, "zero_key": owner.zero_key}
    if any(normalizer != SOFTMAX for normalizer in owner.normalizers):
        layer["normalizers"] = _grouped(owner.normalizers)
    if owner.bias is not None:
        layer["bias"] = _config_without_arrays(owner.bias)
    return {"layer": layer}


def _grouped(components: Sequence[Component]) -> list[dict[str, Any]]:
    """The config of each component of a layer, with its heads, in order of the first."""
    heads: dict[int, list[int]] = {}
    for head, component in enumerate(components):
        heads.setdefault(id(component), []).append(head)
    kind = components[0].kind
    return [
        {"heads": own, kind: _config_without_arrays(components[own[0]])} for own in heads.values()
    ]


def _config_without_arrays(component: Component) -> dict[str, Any]:
    arrays = component.parameters
    # with_parameters forgets dimensions and seeds, which the arrays replace
    config = component.with_parameters(arrays).to_config()
    if "rng" in config:  # a file that asks for random arrays is refused by `load`
        raise ScorerConfigError(
            f"{component} draws arrays from its setting 'rng', so a file could not hold them; make "
            f"the arrays arguments of {type(component).__name__}, and draw them in a factory"
        )
    origin = component.origin
    if origin is not None and origin.distribution is not None and "/" not in config["name"]:
        config["name"] = f"{origin.distribution}/{config['name']}"
    return {name: value for name, value in config.items() if name not in arrays}
