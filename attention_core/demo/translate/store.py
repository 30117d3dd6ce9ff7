"""Networks in folders: the attention config, its parameters, and the other arrays."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path

from attention_core import Attention
from attention_core.demo.translate.model import Translator
from attention_core.parameter_files import read_arrays, write_arrays

__all__ = ["load", "load_trained", "save"]

CONFIG, SCORER, NETWORK = "attention.json", "scorer.npz", "network.npz"


def save(translator: Translator, folder: Path) -> None:
    """Write a network to a folder, which is created if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    scorer = translator.attention.scorer
    config = translator.attention.to_config()
    for name in scorer.parameters:
        del config["scorer"][name]
    if scorer.parameters:
        write_arrays(folder / SCORER, scorer.parameters)
        config["scorer"]["parameters"] = SCORER
    write_arrays(folder / NETWORK, translator.arrays)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def load(folder: Path) -> Translator:
    """Load the network that `save` wrote.

    Raises
    ------
    ConfigError, ParameterFileError
        For a folder without a network.
    """
    attention = Attention.from_config(folder / CONFIG)
    return Translator(attention, read_arrays(folder / NETWORK))


def load_trained() -> Translator:
    """Load the network of the package: additive attention, 54,203 parameters."""
    with as_file(files("attention_core.demo.translate") / "trained") as folder:
        return load(folder)
