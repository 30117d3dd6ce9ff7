"""Attention with a pluggable alignment function.

``score(query, key) -> softmax -> weighted sum of values = context``, where the score is chosen by
name, installed as a package, or written as a class of a few lines.

>>> import numpy as np
>>> import attention_core as ac
>>> result = ac.attend(np.eye(2), np.eye(2), np.eye(2), scorer="scaled_dot")
>>> result.context.round(2)
array([[0.67, 0.33],
       [0.33, 0.67]])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attention_core._version import __version__
from attention_core.attention import Attention, attend
from attention_core.components.bias import Bias
from attention_core.engine.memory import Memory
from attention_core.errors import (
    AmbiguousScorerError,
    AttentionCoreError,
    ChangedInputError,
    ConfigError,
    DTypeError,
    MissingExtraError,
    NotDifferentiableError,
    OptionError,
    OptionTypeError,
    ParameterFileError,
    PluginError,
    PluginWarning,
    ScorerConfigError,
    ScorerContractError,
    ScorerLookupError,
    ShapeError,
    UnknownScorerError,
)
from attention_core.normalizing.normalizer import Normalizer
from attention_core.normalizing.softmax import Softmax
from attention_core.result import AttentionResult, TopK
from attention_core.scoring.scorer import Scorer

if TYPE_CHECKING:
    from attention_core import dask as dask
    from attention_core import estimators as estimators
    from attention_core import fitting as fitting
    from attention_core import hookspecs as hookspecs
    from attention_core import jax as jax
    from attention_core import learned as learned
    from attention_core import leave_one_out as leave_one_out
    from attention_core import parameter_files as parameter_files
    from attention_core import plot as plot
    from attention_core import testing as testing
    from attention_core import torch as torch
    from attention_core import typing as typing
    from attention_core.engine.gradients import Gradients
    from attention_core.hookspecs import BiasSpec, NormalizerSpec, ScorerSpec, hookimpl
    from attention_core.masking.factors import Dropout
    from attention_core.masking.neighborhood import Neighborhood
    from attention_core.masking.packing import Packing
    from attention_core.merging import Merged, PartGrads, merge
    from attention_core.multihead.layer import MultiHeadAttention
    from attention_core.multihead.memory import MultiHeadMemory
    from attention_core.multihead.result import MultiHeadResult
    from attention_core.parameter_files.loading import load
    from attention_core.parameter_files.saving import save
    from attention_core.registry.default import (
        biases,
        make_bias,
        make_normalizer,
        make_scorer,
        normalizers,
        refresh,
        register_bias,
        register_normalizer,
        register_scorer,
        scorers,
    )
    from attention_core.registry.infos import BiasInfo, NormalizerInfo, ScorerInfo
    from attention_core.registry.registry import Registry
    from attention_core.scoring.inner_product import InnerProductScorer
    from attention_core.scoring.pair_scorer import PairScorer

__all__ = [
    "AmbiguousScorerError",
    "Attention",
    "AttentionCoreError",
    "AttentionResult",
    "Bias",
    "BiasInfo",
    "BiasSpec",
    "ChangedInputError",
    "ConfigError",
    "DTypeError",
    "Dropout",
    "Gradients",
    "InnerProductScorer",
    "Memory",
    "Merged",
    "MissingExtraError",
    "MultiHeadAttention",
    "MultiHeadMemory",
    "MultiHeadResult",
    "Neighborhood",
    "Normalizer",
    "NormalizerInfo",
    "NormalizerSpec",
    "NotDifferentiableError",
    "OptionError",
    "OptionTypeError",
    "Packing",
    "PairScorer",
    "ParameterFileError",
    "PartGrads",
    "PluginError",
    "PluginWarning",
    "Registry",
    "Scorer",
    "ScorerConfigError",
    "ScorerContractError",
    "ScorerInfo",
    "ScorerLookupError",
    "ScorerSpec",
    "ShapeError",
    "Softmax",
    "TopK",
    "UnknownScorerError",
    "__version__",
    "attend",
    "biases",
    "hookimpl",
    "load",
    "make_bias",
    "make_normalizer",
    "make_scorer",
    "merge",
    "normalizers",
    "refresh",
    "register_bias",
    "register_normalizer",
    "register_scorer",
    "save",
    "scorers",
]


_ON_DEMAND = {
    name: module
    for module, names in {
        "engine.gradients": "Gradients",
        "hookspecs": "BiasSpec NormalizerSpec ScorerSpec hookimpl",
        "masking.factors": "Dropout",
        "masking.neighborhood": "Neighborhood",
        "masking.packing": "Packing",
        "merging": "Merged PartGrads merge",
        "multihead.layer": "MultiHeadAttention",
        "multihead.memory": "MultiHeadMemory",
        "multihead.result": "MultiHeadResult",
        "parameter_files.loading": "load",
        "parameter_files.saving": "save",
        "registry.default": "biases make_bias make_normalizer make_scorer normalizers refresh "
        "register_bias register_normalizer register_scorer scorers",
        "registry.infos": "BiasInfo NormalizerInfo ScorerInfo",
        "registry.registry": "Registry",
        "scoring.inner_product": "InnerProductScorer",
        "scoring.pair_scorer": "PairScorer",
    }.items()
    for name in names.split()
}
"""The modules of names that a plain call does not need, which are imported on first use."""

_SUBMODULES = (
    "dask",
    "estimators",
    "fitting",
    "hookspecs",
    "jax",
    "learned",
    "leave_one_out",
    "parameter_files",
    "plot",
    "testing",
    "torch",
    "typing",
)
"""The public submodules, which are imported on first use."""


def __getattr__(name: str) -> Any:
    """Import a name or a submodule on first use."""
    if name in _SUBMODULES:
        return import_module(f"attention_core.{name}")
    if name in _ON_DEMAND:
        found = getattr(import_module(f"attention_core.{_ON_DEMAND[name]}"), name)
        globals()[name] = found  # later look-ups skip this function
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names and submodules, whether they are imported yet or not."""
    return sorted([*__all__, *_SUBMODULES])
