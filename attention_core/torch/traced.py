"""Calls in compiled code, as `torch.compile` traces them.

While code is traced, objects are replaced by the name of a `Template`. The arguments that select
them are guarded, strings and numbers by value and objects by identity, so a change is traced again.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any

import numpy as np
import torch

from attention_core.arrays.adapters import TERMS
from attention_core.attention import Attention, resolve_normalizer, resolve_scorer
from attention_core.errors import OptionError
from attention_core.libraries.cores import Core, has_log_normalizer
from attention_core.multihead.layer import MultiHeadAttention
from attention_core.options import OPTIONS
from attention_core.torch.ops import attend
from attention_core.torch.templates import Template, template_named, template_of

__all__ = ["TracedHeadsResult", "TracedResult", "trace"]

_FIELDS = ("normalizer", "bias", *OPTIONS)
_LITERALS = (str, int, float, tuple, dict, NoneType)

_kept: dict[str, Template] = {}
"""Templates that compiled functions refer to."""


class TracedResult:
    """The result of a call in compiled code: context, log-normalizer and weights.

    Gradients flow through all of them. Weights are computed by a second call of the operator.
    """

    def __init__(self, call: tuple[Any, ...], has_log_normalizer: bool) -> None:
        self._call = call
        self._has_log_normalizer = has_log_normalizer
        self.context, self._log_normalizer, _ = attend(*call, False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({tuple(self.context.shape)}, {self.context.dtype})"

    @property
    def log_normalizer(self) -> Any:
        """``log sum_j exp(score_ij)`` over the allowed keys: (..., L)."""
        if not self._has_log_normalizer:
            raise OptionError(
                "this normalizer has no log_normalizer: its weights are not exponentials divided "
                "by a sum"
            )
        return self._log_normalizer

    @property
    def weights(self) -> Any:
        """The weights: (..., L, S)."""
        return attend(*self._call, True)[2]


class TracedHeadsResult(TracedResult):
    """The result of a layer in compiled code, with its output."""

    @property
    def output(self) -> Any:
        """``sum_h context_h W^O_h + b^O``: (..., L, Eo)."""
        return self.context


def trace(
    core: Core | str,
    inputs: tuple[Any, Any, Any],
    terms: tuple[Any, ...],
    query_offset: Any,
    parameters: Sequence[Any] = (),
) -> Any:
    """Trace a call of an attention or a layer, or of a template by its name.

    `parameters` are those of the template, in its order.
    """
    names, tensors, bias, object_names, objects = [], [], None, [], []
    for name, term in zip((*TERMS, "query_offset"), (*terms, query_offset), strict=True):
        if isinstance(term, (bool, int, list, np.ndarray)):
            term = torch.as_tensor(term)
        if isinstance(term, torch.Tensor):
            if name == "bias":
                bias = term
            else:
                names.append(name)
                tensors.append(term)
        elif term is not None:
            object_names.append(name)
            objects.append(term)
    if isinstance(core, str):
        parts: tuple[Any, ...] = (core,)
    elif isinstance(core, MultiHeadAttention):
        parts = (core,)
    else:
        parts = (core.scorer, *[getattr(core, name) for name in _FIELDS])
    guards = [0 if isinstance(part, _LITERALS) else id(part) for part in (*parts, *objects)]
    template = _template(" ".join(object_names), *parts, *objects, *guards)
    call = (*inputs, bias, tensors, list(parameters), template, " ".join(names))
    kind = TracedHeadsResult if _is_layer(template) else TracedResult
    return kind(call, _has_log_normalizer(template))


@torch.compiler.assume_constant_result
def _template(names: str, *given: Any) -> str:
    """The name of the template of some objects: parts, then named arguments, then guards.

    The guards are unused, but make torch watch the values that they are computed from.
    """
    given = given[: len(given) // 2]
    count = len(given) - len(names.split())
    parts, arguments = given[:count], dict(zip(names.split(), given[count:], strict=True))
    first, *others = parts
    if others:
        fields = dict(zip(_FIELDS, others, strict=True))
        made = template_of(Attention(first, **fields), arguments, is_fixed=True)
    elif isinstance(first, MultiHeadAttention):
        made = template_of(first, arguments, is_fixed=True)
    elif arguments:
        made = template_of(template_named(first).core, arguments)
    else:
        return str(first)
    _kept[made.name] = made
    return made.name


@torch.compiler.assume_constant_result
def _is_layer(template: str) -> bool:
    return isinstance(template_named(template).core, MultiHeadAttention)


@torch.compiler.assume_constant_result
def _has_log_normalizer(template: str) -> bool:
    return has_log_normalizer(template_named(template).core)


# Names are resolved when a template is made, since torch must not trace the look-up.


@torch.compiler.substitute_in_graph(resolve_scorer)
def _resolve_scorer(scorer: Any) -> Any:
    return scorer


@torch.compiler.substitute_in_graph(resolve_normalizer)
def _resolve_normalizer(normalizer: Any) -> Any:
    return normalizer
