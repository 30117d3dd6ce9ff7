"""The scorer, normalizer, bias and options chosen on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attention_core import Attention, AttentionCoreError, OptionError, ScorerConfigError
from attention_core.config import read_config
from attention_core.errors import printable, shown
from attention_core.registry.default import default_registry
from attention_core.registry.kinds import BIAS, NORMALIZER, SCORER, Kind

__all__ = ["choose"]


def choose(
    scorer: str | None,
    normalizer: str | None,
    bias: str | None,
    config: Path | None,
    settings: Mapping[str, Any],
    parameters: Path | None,
    options: Mapping[str, Any],
) -> Attention:
    """Make the attention of a scorer with its parameters, or from a config.

    `options`, a normalizer and a bias override those of the config. Settings are parameters of the
    scorer, or have the prefix ``normalizer.`` or ``bias.``.
    """
    own, parts = _by_component(settings)
    chosen = dict(options)
    for kind, name in ((NORMALIZER, normalizer), (BIAS, bias)):
        given = parts[kind.name]
        if name is not None:
            chosen[kind.name] = _made(kind, name, given)
        elif given:
            raise OptionError(
                f"--set {kind}.{next(iter(given))} needs the name of a {kind}: give --{kind} NAME"
            )
    if config is not None and scorer is None:
        if own or parameters is not None:
            raise OptionError(
                "--set and --parameters go with --scorer; with --config, write them in its [scorer]"
            )
        configured, defaults = read_config(config)
        return Attention(configured, **{**defaults, **chosen})
    if scorer is None or config is not None:
        raise OptionError("give either --scorer NAME or --config FILE")
    if parameters is None:
        return Attention(_made(SCORER, scorer, own), **chosen)
    section = {"name": scorer, "parameters": parameters, **own}
    return Attention(read_config({"scorer": section})[0], **chosen)


def _by_component(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Settings of the scorer, and those of the normalizer and the bias."""
    own: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {NORMALIZER.name: {}, BIAS.name: {}}
    for key, value in settings.items():
        kind, dot, name = key.partition(".")
        if dot and kind not in parts:
            raise OptionError(f"--set {shown(key)}: the prefix must be 'normalizer.' or 'bias.'")
        (parts[kind] if dot else own)[name if dot else key] = value
    return own, parts


def _made(kind: Kind[Any], name: str, settings: Mapping[str, Any]) -> Any:
    try:
        return default_registry().of(kind).make(name, settings)
    except AttentionCoreError:
        raise
    except Exception as error:  # a factory may raise anything
        raise ScorerConfigError(
            f"{kind} {shown(name)} failed with {type(error).__name__}: {printable(str(error), 300)}"
        ) from error
