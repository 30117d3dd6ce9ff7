"""The attention options, each declared once with its check."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from attention_core.arrays.inputs import as_integers
from attention_core.arrays.scalars import OFFSET, as_float, check_flag, is_end, is_integer
from attention_core.errors import (
    DTypeError,
    OptionError,
    OptionTypeError,
    ShapeError,
    shown,
)

__all__ = [
    "DEFAULTS",
    "OPTIONS",
    "Options",
    "check_option",
    "make_options",
    "options_schema",
]


def _is_causal(value: Any) -> bool:
    return value if type(value) is bool else check_flag("is_causal", value)


def _query_offset(value: Any) -> Any:
    # arrays, one offset per batch item, are checked against the batch when a call has one
    if is_integer(value):
        return int(value)
    if is_end(value):
        return value
    is_array = isinstance(value, (list, tuple)) or hasattr(value, "__array__")
    if is_array and _holds_integers(value):
        # the caller may write to it; masked entries stay, and are refused when called
        return np.array(value, subok=True)
    raise OptionTypeError(f"{OFFSET}, got {shown(value)}")


def _window(value: Any) -> tuple[int | None, int | None] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise OptionTypeError(
            f"window must be a pair (left, right) of key counts, None for an open side, "
            f"got {shown(value)}"
        )
    left, right = (_window_side(side, value) for side in value)
    return left, right


def _window_side(side: Any, window: Any) -> int | None:
    if side is None or (isinstance(side, float) and side == math.inf):
        return None
    if not is_integer(side):
        raise OptionTypeError(
            f"window must hold integers, or None for an open side, "
            f"got {shown(side)} in {shown(window)}"
        )
    if side < 0:
        raise OptionError(
            f"window must hold counts of at least 0, got {shown(side)} in {shown(window)}"
        )
    return int(side)


def _softcap(value: Any) -> float | None:
    if value is None:
        return None
    cap = as_float(value)
    if cap is None:
        raise OptionTypeError(f"softcap must be a positive number or None, got {shown(value)}")
    if not 0 < cap < math.inf:
        raise OptionError(
            f"softcap must be positive and finite, or None for no cap, got {shown(value)}"
        )
    return cap


def _tile(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(map(is_integer, value)):
        raise OptionTypeError(
            f"tile must be a pair of integers (queries, keys), or None to choose, "
            f"got {shown(value)}"
        )
    if min(value) < 1:
        raise OptionError(f"tile must hold counts of at least 1, got {shown(value)}")
    return int(value[0]), int(value[1])


def _workers(value: Any) -> int | None:
    if value is None:
        return None
    if not is_integer(value):
        raise OptionTypeError(
            f"workers must be an integer, or None for every core, got {shown(value)}"
        )
    if value < 1:
        raise OptionError(f"workers must be at least 1, got {shown(value)}")
    return int(value)


def _holds_integers(value: Any) -> bool:
    array = np.asarray(value) if isinstance(value, np.ndarray) else value  # unmasked until called
    try:
        as_integers("query_offset", array)
    except (DTypeError, ShapeError):
        return False
    return True


_POSITIVE = {"type": "integer", "minimum": 1}
_SIDE = {"type": ["integer", "null"], "minimum": 0}


def _pair(items: Mapping[str, Any]) -> Mapping[str, Any]:
    pair = {"type": "array", "minItems": 2, "maxItems": 2, "items": items}
    return {"oneOf": [{"type": "null"}, pair]}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Options:
    """The options of `attend` that a configuration may set.

    Each field declares its default, its check, and its entry in the JSON Schema of configurations.
    Values are not checked here: see `check_option`.
    """

    is_causal: bool = field(
        default=False,
        metadata={
            "check": _is_causal,
            "description": "Whether key j is allowed only if j <= i + query_offset.",
            "schema": {"type": "boolean"},
        },
    )
    query_offset: Any = field(
        default=0,
        metadata={
            "check": _query_offset,
            "description": "The position of the first query among the keys; an array gives one "
            "for each batch item; 'end' aligns the last query with the last key.",
            "schema": {
                "oneOf": [
                    {"type": "integer"},
                    {"type": "string", "const": "end"},
                    {"$ref": "#/$defs/integers"},
                ]
            },
        },
    )
    window: tuple[int | None, int | None] | None = field(
        default=None,
        metadata={
            "check": _window,
            "description": "The number of keys to the left and to the right of a query's position "
            "that are allowed; null (in TOML, inf) leaves a side open.",
            "schema": _pair(_SIDE),
        },
    )
    softcap: float | None = field(
        default=None,
        metadata={
            "check": _softcap,
            "description": "A c that bounds scores to (-c, c), as c * tanh(score / c).",
            "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
        },
    )
    tile: tuple[int, int] | None = field(
        default=None,
        metadata={
            "check": _tile,
            "description": "The number of queries and keys to score together; null chooses.",
            "schema": _pair(_POSITIVE),
        },
    )
    workers: int | None = field(
        default=None,
        metadata={
            "check": _workers,
            "description": "The number of threads to use on large calls; null is every core.",
            "schema": {"type": ["integer", "null"], "minimum": 1},
        },
    )


def make_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in their normal form, without those equal to the default.

    Raises
    ------
    OptionTypeError, OptionError
        As `check_option`.

    Examples
    --------
    >>> make_options({"is_causal": True, "softcap": None})
    {'is_causal': True}
    """
    found = {}
    for name, value in options.items():
        if value is not OPTIONS.get(name, options):
            found[name] = check_option(name, value)
    return found


def options_schema() -> dict[str, Any]:
    """The JSON Schema of a table of options."""
    return {
        each.name: {
            "description": each.metadata["description"],
            "default": each.default,
            **each.metadata["schema"],
        }
        for each in fields(Options)
    }


DEFAULTS = Options()
OPTIONS: Mapping[str, Any] = MappingProxyType({each.name: each.default for each in fields(Options)})
"""Each option that a config may set, with its default."""
_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    each.name: each.metadata["check"] for each in fields(Options)
}


def check_option(name: str, value: Any) -> Any:
    """The value of an option in its normal form.

    Raises
    ------
    OptionTypeError
        For a value of the wrong type.
    OptionError
        For an impossible value.

    Examples
    --------
    >>> check_option("window", [512, float("inf")])
    (512, None)
    """
    return _CHECKS[name](value)
