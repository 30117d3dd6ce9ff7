"""The errors of the library, and helpers for their texts.

An error names its subject, says what is known, and how to fix it. All errors derive from
`AttentionCoreError` and from a built-in class (`ValueError` for values, `TypeError` for types,
`LookupError` for names).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

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
