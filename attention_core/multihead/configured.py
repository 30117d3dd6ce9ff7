"""Configurations of layers: reading their arguments, and writing those of a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from attention_core.components.bias import Bias
from attention_core.components.component import Component
from attention_core.config import LAYER, SECTIONS, Reader
from attention_core.errors import (
    AttentionCoreError,
    ConfigError,
    MissingExtraError,
    ParameterFileError,
    shown,
)
from attention_core.files.saved_parameters import describe, read_named
from attention_core.multihead.layout import LAYOUT
from attention_core.multihead.parameters import initial_arrays
from attention_core.normalizing.normalizer import Normalizer
from attention_core.registry.kinds import BIAS, NORMALIZER, SCORER, Kind
from attention_core.registry.registry import Registry
from attention_core.scoring.scorer import Scorer

__all__ = ["LayerConfig", "config_of_heads", "read_layer_config"]

T = TypeVar("T")

COUNTS = ("query_dim", "heads", "key_dim", "value_dim", "output_dim", "head_dim", "key_heads")
DRAWN = (*COUNTS, "biases", "rng")
"""Keys for drawing initial weights instead of giving them."""
NEEDED = ("query_dim", "heads", "rng")
WEIGHTS = tuple(name for name in LAYOUT if name.endswith("_weight"))


class LayerConfig(NamedTuple):
    """The arguments of a layer, and the reader that found them."""

    reader: Reader
    arrays: dict[str, Any]
    zero_key: bool
    scorers: Scorer | list[Scorer]
    normalizers: Normalizer | list[Normalizer]
    bias: Bias | None
    options: dict[str, Any]

    def make(self, layer: Callable[..., T]) -> T:
        """Make the layer, with this class.

        Raises
        ------
        ConfigError
            For arguments that do not fit together.
        """
        components = {"scorer": self.scorers, "normalizer": self.normalizers, "bias": self.bias}
        try:
            return layer(**self.arrays, zero_key=self.zero_key, **components, **self.options)
        except AttentionCoreError as error:
            self.reader.report(LAYER, error)
            self.reader.finish()
            raise


def read_layer_config(
    source: str | Path | Mapping[str, Any], registry: Registry | None
) -> LayerConfig:
    """Read the layer that a configuration with a section ``multi_head`` describes.

    Raises
    ------
    ConfigError
        Listing every problem on a line; also for a configuration without that section.
    """
    reader = Reader.of(source, registry)
    if LAYER not in reader.content:
        raise ConfigError(
            f"{reader.title} describes no layer: it has no [{LAYER}]; use Attention.from_config"
        )
    reader.check_sections((LAYER, *SECTIONS))
    section = reader.content[LAYER]
    arrays, zero_key = {}, False
    if isinstance(section, Mapping):
        for key in ("zero_key", "biases"):
            if not isinstance(section.get(key, False), bool):
                reader.report(f"{LAYER}.{key}", f"must be true or false, got {shown(section[key])}")
        arrays, zero_key = _arrays(reader, section), section.get("zero_key", False)
    else:
        reader.report(LAYER, f"must be a table, got {shown(section)}")
    scorers = _of_heads(reader, SCORER, reader.content.get("scorer", "scaled_dot"))
    normalizers = _of_heads(reader, NORMALIZER, reader.content.get("normalizer", "softmax"))
    given = reader.content.get("bias")
    bias = None if given is None else reader.component(given, BIAS, "bias")
    options = reader.options(reader.content.get("attention", {}))
    reader.finish()
    return LayerConfig(reader, arrays, zero_key, scorers, normalizers, bias, options)


def _arrays(reader: Reader, section: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a layer: given, from a file, or drawn from counts and a seed."""
    drawn = {key: section[key] for key in DRAWN if key in section}
    arrays = {key: section[key] for key in LAYOUT if key in section}
    known = (*DRAWN, *LAYOUT, "zero_key", "parameters")
    for key in section:
        if key not in known:
            reader.report_unknown(f"{LAYER}.", key, known)
    if "parameters" in section:
        found = _from_file(reader, section["parameters"])
        for key in found.keys() & arrays.keys():
            reader.report(f"{LAYER}.{key}", "given here and in the file; give only one")
        arrays |= found
    if drawn and (arrays or "parameters" in section):
        reader.report(LAYER, f"gives arrays and {', '.join(drawn)}; give only one")
    elif drawn:
        for key in NEEDED:
            if key not in drawn:
                reader.report(f"{LAYER}.{key}", "missing")
        try:
            if not reader.problems:
                counts = {key: drawn.get(key) for key in COUNTS}
                arrays = initial_arrays(counts, drawn["rng"], biases=drawn.get("biases", False))
        except AttentionCoreError as error:
            reader.report(LAYER, error)
    elif not arrays and "parameters" not in section:
        ways = f"{', '.join(NEEDED)}, or the arrays {', '.join(WEIGHTS)}, or a file as parameters"
        reader.report(LAYER, f"give {ways}")
    elif arrays:
        for key in WEIGHTS:
            if key not in arrays:
                reader.report(f"{LAYER}.{key}", "missing")
    return arrays


def _from_file(reader: Reader, file: Any) -> dict[str, Any]:
    place = f"{LAYER}.parameters"
    if not isinstance(file, str):
        reader.report(place, f"must be the path of a file of arrays, got {shown(file)}")
        return {}
    path = reader.folder / file
    try:
        described = describe(path)
        if described.layer is not None or described.scorer is not None:
            raise ParameterFileError(
                f"{shown(str(path), 300)} describes its own contents; use load(path)"
            )
        unknown = [name for name in described.shapes if name not in LAYOUT]
        for name in unknown:
            reader.report_unknown(f"{place}: ", name, LAYOUT)
        return dict.fromkeys(described.shapes) if unknown else {**read_named(path)}
    except (ParameterFileError, MissingExtraError) as error:
        reader.report(place, error)
        return {}


def _of_heads(reader: Reader, kind: Kind[Any], section: Any) -> Any:
    """One component for all heads, or one for each; equal entries are one component."""
    if not isinstance(section, list):
        return reader.component(section, kind, kind.name)
    made: list[tuple[Any, Any]] = []
    for head, entry in enumerate(section):
        same = [component for other, component in made if other == entry]
        place = f"{kind.name}[{head}]"
        made.append((entry, same[0] if same else reader.component(entry, kind, place)))
    return [component for _, component in made]


def config_of_heads(components: Sequence[Component]) -> Any:
    """The config of the component of all heads, or one for each head."""
    configs = [component.to_config() for component in components]
    is_one = all(component is components[0] for component in components)
    return configs[0] if is_one else configs
