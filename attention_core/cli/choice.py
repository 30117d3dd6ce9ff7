"""The scorer and the options that the command line asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attention_core import (
    Attention,
    AttentionCoreError,
    OptionError,
    Scorer,
    ScorerConfigError,
    make_scorer,
)
from attention_core.config import read_config
from attention_core.errors import printable, shown

__all__ = ["choose"]


def choose(
    scorer: str | None,
    config: Path | None,
    settings: Mapping[str, Any],
    parameters: Path | None,
    options: Mapping[str, Any],
) -> Attention:
    """Make the attention of a scorer with its parameters, or of a config.

    `options` override those of the config.
    """
    if config is not None and scorer is None:
        if settings or parameters is not None:
            raise OptionError(
                "--set and --parameters go with --scorer; with --config, write them in its [scorer]"
            )
        configured, defaults = read_config(config)
        return Attention(configured, **{**defaults, **options})
    if scorer is None or config is not None:
        raise OptionError("give --scorer NAME or --config FILE, one of the two")
    if parameters is None:
        return Attention(_made(scorer, settings), **options)
    section = {"name": scorer, "parameters": parameters, **settings}
    return Attention(read_config({"scorer": section})[0], **options)


def _made(name: str, settings: Mapping[str, Any]) -> Scorer:
    try:
        return make_scorer(name, **settings)
    except AttentionCoreError:
        raise
    except Exception as error:  # a factory may raise anything
        raise ScorerConfigError(
            f"scorer {shown(name)} failed with {type(error).__name__}: {printable(str(error), 300)}"
        ) from error
