"""Codes of the characters that can be read, and of those that are written."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attention_core.errors import AttentionCoreError

__all__ = [
    "LENGTH",
    "LONGEST",
    "READ",
    "SHORTEST",
    "START",
    "WRITTEN",
    "UnreadableError",
    "padded",
    "read_codes",
    "readable",
    "written_codes",
]

READ = "\0 ',-./0123456789abcdefghijklmnoprstuvwyzäéû"
"""The characters of the training texts; code 0 is padding."""
WRITTEN = "0123456789-"
START = len(WRITTEN)
"""The code before the first character."""
LENGTH = len("YYYY-MM-DD")
"""The number of characters in an ISO date."""
SHORTEST, LONGEST = len("3.6.97"), 40
"""The numbers of characters in a text."""
APOSTROPHES = "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}\N{ACUTE ACCENT}`"
HYPHENS = "\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}"
ALIKE = str.maketrans(dict.fromkeys(APOSTROPHES, "'") | dict.fromkeys(HYPHENS, "-"))
"""Characters that are used as an apostrophe or a hyphen, and the ones they stand for."""

Codes = NDArray[np.intp]


class UnreadableError(AttentionCoreError, ValueError):
    """A text that is empty, too long, or has characters that the network does not know."""


def readable(text: str) -> str:
    """Normalize a text: accents are joined to their letters, and blanks are single.

    Compatibility characters are replaced, such as full-width digits.

    Raises
    ------
    UnreadableError
        For a text that cannot be read.

    Examples
    --------
    >>> readable("  12   juin 2024 ")
    '12 juin 2024'
    >>> readable("Q1 2024")
    Traceback (most recent call last):
    ...
    attention_core.demo.translate.alphabet.UnreadableError: cannot read 'Q' in 'Q1 2024': dates in \
English, French, German or numbers, such as '12 juin 2024', have no such character
    """
    found = " ".join(unicodedata.normalize("NFKC", text.translate(ALIKE)).split())
    if not found:
        raise UnreadableError("nothing to read: give a date, such as '12 juin 2024'")
    if len(found) > LONGEST:
        raise UnreadableError(
            f"cannot read {len(found)} characters: a date has up to {LONGEST}, "
            "such as '12 juin 2024'"
        )
    unknown = dict.fromkeys(sign for sign in found if sign.lower() not in READ[1:])  # in order
    if unknown:
        raise UnreadableError(
            f"cannot read {', '.join(map(repr, unknown))} in {found!r}: dates in English, French, "
            "German or numbers, such as '12 juin 2024', have no such character"
        )
    return found


def read_codes(text: str) -> list[int]:
    """One code for each character of a readable text; capitals are read as small letters."""
    return [READ.index(character.lower()) for character in text]


def padded(texts: Sequence[str]) -> tuple[Codes, Codes]:
    """Codes (B, S) of readable texts, 0 beyond the end of each, and their lengths (B,)."""
    lengths = np.array([len(text) for text in texts], np.intp)
    codes = np.zeros((len(texts), lengths.max(initial=0)), np.intp)
    for row, text in zip(codes, texts, strict=True):
        row[: len(text)] = read_codes(text)
    return codes, lengths


def written_codes(dates: Sequence[str]) -> Codes:
    """Codes (B, 10) of dates in ISO form."""
    return np.array([[WRITTEN.index(c) for c in date] for date in dates], np.intp)
