"""The errors of the library, and helpers for their texts.

An error names its subject, says what is known, and how to fix it. All errors derive from
`AttentionCoreError` and from a built-in class (`ValueError` for values, `TypeError` for types,
`LookupError` for names).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

__all__ = [
    "INTERRUPTS",
    "AmbiguousScorerError",
    "AttentionCoreError",
    "ChangedInputError",
    "ConfigError",
    "DTypeError",
    "MissingExtraError",
    "NotDifferentiableError",
    "OptionError",
    "OptionTypeError",
    "ParameterFileError",
    "PluginError",
    "PluginWarning",
    "ScorerConfigError",
    "ScorerContractError",
    "ScorerLookupError",
    "ShapeError",
    "Stopped",
    "UnknownScorerError",
    "did_you_mean",
    "file_error",
    "how_to_make",
    "listed",
    "message_of",
    "note_call",
    "one_line",
    "printable",
    "said",
    "shown",
    "unexpected_argument",
]


class AttentionCoreError(Exception):
    """Base of every error raised by attention-core."""


class ShapeError(AttentionCoreError, ValueError):
    """Arrays whose shapes do not fit each other."""


class DTypeError(AttentionCoreError, TypeError):
    """An array of an unsupported dtype, such as complex numbers or objects."""


class OptionError(AttentionCoreError, ValueError):
    """An attention option with an impossible value, such as a negative window."""


class OptionTypeError(OptionError, TypeError):
    """An attention option of the wrong type, such as ``is_causal="yes"``."""


class ChangedInputError(AttentionCoreError):
    """An array that was written to after a call, and before its result used it again."""

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"{self.args[0]} was written to after the call, so its result can no longer be "
            f"computed; request weights and gradients before that, or attend to a copy"
        )


class ScorerLookupError(AttentionCoreError, LookupError):
    """Base of the errors about scorer names."""


class UnknownScorerError(ScorerLookupError):
    """A name that no installed scorer has."""


class AmbiguousScorerError(ScorerLookupError):
    """A name that two distributions claim."""


class ScorerConfigError(AttentionCoreError, ValueError):
    """Parameters that a scorer does not accept, or a learned scorer without any."""


class ConfigError(AttentionCoreError, ValueError):
    """A configuration with problems; the message lists all of them with their locations."""


class ParameterFileError(AttentionCoreError, ValueError):
    """A file of parameters or arrays that cannot be read safely or does not fit."""


class ScorerContractError(AttentionCoreError):
    """A scorer that broke its contract in use: wrong shape, wrong dtype, or an exception."""


class NotDifferentiableError(AttentionCoreError, TypeError):
    """A request for gradients of a scorer that has none."""


class PluginError(AttentionCoreError):
    """A plugin that cannot be used; raised in strict mode and by `register_scorer`."""


class PluginWarning(UserWarning):
    """A plugin that was not loaded; everything else works."""


class Stopped(SystemExit):
    """The end of the command line on a signal."""


INTERRUPTS = (KeyboardInterrupt, Stopped)
"""Exceptions that come from outside, never from the running code."""


class MissingExtraError(AttentionCoreError, ImportError):
    """An optional dependency that is not installed; the message names the extra."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return a clause that suggests a similar name, or an empty string.

    >>> did_you_mean("scaled_dto", ["dot", "scaled_dot"])
    "; did you mean 'scaled_dot'?"
    >>> did_you_mean("fourier", ["dot", "scaled_dot"])
    ''
    """
    from difflib import get_close_matches  # only errors need it

    normal = {candidate.replace("-", "_").lower(): candidate for candidate in candidates}
    close = get_close_matches(name.replace("-", "_").lower(), normal, n=1, cutoff=0.6)
    return f"; did you mean {normal[close[0]]!r}?" if close else ""


_SERVES = {
    **dict.fromkeys(
        ("attn_mask", "attention_mask", "block_mask"),
        "mask= (True = may attend; nn.MultiheadAttention's is the opposite, mask=~attn_mask), or "
        "bias= for numbers to add to the scores",
    ),
    **dict.fromkeys(
        ("key_padding_mask", "src_key_padding_mask", "padding_mask"),
        "mask=~key_padding_mask with axes for heads and queries (ours: True = may attend), or "
        "key_lengths=",
    ),
    **dict.fromkeys(
        ("dropout", "dropout_p", "dropout_rate"),
        "weight_factors=attention_core.Dropout(rate, seed)",
    ),
    **dict.fromkeys(
        ("scale", "temperature", "softmax_scale", "sm_scale"),
        'scorer={"name": "scaled_dot", "scale": ...}',
    ),
    **dict.fromkeys(("causal", "use_causal_mask"), "is_causal="),
    "score_mod": "bias=, softcap=, or a scorer of your own",
    "attn_bias": "bias=",
    "window_size": "window=(left, right)",
    "logits_soft_cap": "softcap=",
    "kdim": "key_dim=",
    "vdim": "value_dim=",
    "use_bias": "biases=",
    **dict.fromkeys(("num_kv_heads", "num_key_value_heads"), "key_heads="),
    "add_zero_attn": "zero_key=",
}
"""For arguments of other libraries, the one of ours that serves, and how to use it."""

_NEEDLESS = {
    **dict.fromkeys(
        ("need_weights", "average_attn_weights", "return_weights", "return_attention_scores"),
        "use the result's weights, which are computed when asked for",
    ),
    **dict.fromkeys(("dim", "axis"), "weights are normalized over the keys, the last axis"),
    "batch_first": "arrays are always (..., length, features)",
    "enable_gqa": "keys and values broadcast over the batch axes",
}
"""Advice for arguments of other libraries that have no counterpart."""

_PLACES = {
    **dict.fromkeys(("mask", "key_lengths", "query_lengths", "weight_factors"), "in the call"),
    **dict.fromkeys(
        ("scorer", "normalizer", "is_causal", "window", "softcap", "tile", "workers"),
        "where the attention is made",
    ),
}
"""The places of arguments that some functions do not have."""


def unexpected_argument(
    function: Callable[..., Any], unknown: Iterable[str], options: Iterable[str] = ()
) -> OptionTypeError:
    """Return the error for an argument that a function does not have.

    `options` are the names that its ``**options`` accept.

    >>> def attend(query, *, softcap=None, **unknown): ...
    >>> unexpected_argument(attend, ["soft_cap"])
    OptionTypeError("attend: unexpected argument 'soft_cap'; did you mean 'softcap'?")
    >>> unexpected_argument(attend, ["logits_soft_cap"])
    OptionTypeError("attend: unexpected argument 'logits_soft_cap'; use softcap=")
    >>> unexpected_argument(attend, ["mask"])
    OptionTypeError("attend: unexpected argument 'mask'; it belongs in the call")
    """
    from inspect import signature  # only errors need it

    name = next(iter(unknown))
    called = function.__qualname__.removesuffix(".__call__")
    if isinstance(owner := getattr(function, "__self__", None), type):  # inherited class methods
        called = f"{owner.__name__}.{function.__name__}"
    known = {*signature(function).parameters, *options} - {"self", "unknown", "options"}
    usage = _SERVES.get(name, "")
    ours = usage.partition("=")[0] or name
    place = None if ours in known else _PLACES.get(ours)
    if name in _NEEDLESS:
        hint = f"; {_NEEDLESS[name]}"
    elif usage and (place or ours in known):
        hint = f"; {f'{place}, ' if place else ''}use {usage}"
    else:
        hint = f"; it belongs {place}" if place else did_you_mean(name, known | _PLACES.keys())
    return OptionTypeError(f"{called}: unexpected argument {shown(name)}{hint}")


def shown(value: object, most: int = 80) -> str:
    r"""Return the `repr` of a value for a message: printable, on one line, and truncated.

    Addresses in memory are omitted.

    >>> print(shown("\x1b[2J"), shown("a" * 60_000, most=12), shown(shown))
    '\x1b[2J' 'aaaaaaaa... <function shown>
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - integers of 5,000 digits, and anything a repr may raise
        text = f"<{type(value).__name__}>"
    if not isinstance(value, str):
        text = re.sub(" at 0x[0-9A-Fa-f]+", "", " ".join(text.split()))
    text = printable(text, most + 1)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def how_to_make(base: type, given: object) -> str:
    """Return a clause that says how to make a component from what was given in its place.

    >>> how_to_make(list, list), how_to_make(list, print), how_to_make(list, 3)
    ('; call the class to make one', '; derive a class from attention_core.list to use it', '')
    """
    if isinstance(given, type) and issubclass(given, base):
        return "; call the class to make one"
    return f"; derive a class from attention_core.{base.__name__} to use it" * callable(given)


def file_error(verb: str, path: str | os.PathLike[str], error: Exception) -> ParameterFileError:
    """The error of a file that cannot be read or written.

    >>> file_error("read", "w.npz", FileNotFoundError(2, "No such file or directory"))
    ParameterFileError("cannot read 'w.npz': No such file or directory")
    """
    reason = getattr(error, "strerror", None) or str(error)
    return ParameterFileError(f"cannot {verb} {shown(str(path), 300)}: {reason}")


def one_line(text: str, most: int = 200) -> str:
    r"""Return external text for a message: printable, on one line, and truncated.

    >>> one_line("Gaussian\n  kernel")
    'Gaussian kernel'
    """
    return printable(" ".join(text.split()), most)


def said(error: BaseException, most: int = 500) -> str:
    """The type and the message of an exception on one line, truncated if long.

    >>> said(ValueError("gamma must be positive"))
    'ValueError: gamma must be positive'
    """
    return one_line(": ".join(filter(None, [type(error).__name__, message_of(error)])), most)


def note_call(
    error: BaseException, subject: object, method: str, shapes: Iterable[tuple[int, ...]]
) -> None:
    """Add a note to an exception of a scorer or a bias: the method and the shapes of arguments.

    Raises
    ------
    ScorerContractError
        In place of a `SystemExit`, since a plugin must not end the process.
    """
    note = (
        f"{subject} raised {type(error).__name__} in {method} for arrays of shape "
        f"{', '.join(map(str, shapes))}"
    )
    if isinstance(error, SystemExit):
        raise ScorerContractError(note) from error
    error.add_note(note)


def message_of(error: BaseException) -> str:
    """The message of an exception of any class.

    >>> message_of(ValueError("gamma must be positive"))
    'gamma must be positive'
    """
    try:
        return str(error)
    except INTERRUPTS:
        raise
    except BaseException:  # noqa: BLE001 - its __str__ may raise anything
        return "its message cannot be read"


def listed(names: Iterable[object], most: int = 20) -> str:
    r"""Join at most `most` names for a message; unusual names appear as in `shown`.

    >>> print(listed(["weight", "a\nb"]))
    weight, 'a\nb'
    """
    every = list(names)
    plain = [
        name if isinstance(name, str) and len(name) <= 60 and name.isprintable() else shown(name)
        for name in every[:most]
    ]
    return ", ".join(plain) + (f" and {len(every) - most} more" if len(every) > most else "")


def printable(text: str, most: int = 10_000) -> str:
    r"""Escape control characters, which could affect a terminal, and truncate long texts.

    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    safe = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text[:most])
    return safe if len(text) <= most else f"{safe}..."
