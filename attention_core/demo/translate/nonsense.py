"""Texts that are not dates, so that the network learns when to be unsure.

A network that has only seen dates reads anything as a date, and is as certain of "May 97" as of
"12 June 2024". Therefore one training text in fifty is not a date and has the label of another
example, from which the network can only learn to be unsure (Hendrycks, Mazeika and Dietterich 2019,
arXiv:1812.04606). More such texts would make it less sure of dates, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from attention_core.demo.translate.alphabet import LONGEST, READ
from attention_core.demo.translate.dates import Example

__all__ = ["nonsense", "with_nonsense"]

SHARE = 0.02
"""The share of training texts that are not dates."""
SIGNS = READ[1:]
LETTERS = "".join(filter(str.isalpha, SIGNS))
BETWEEN = "".join(sign for sign in SIGNS if not sign.isalnum())
DIGITS = "".join(filter(str.isdigit, SIGNS))


def with_nonsense(dates: Iterator[Example], rng: np.random.Generator) -> Iterator[Example]:
    """The same examples, except that some texts are not dates and have the label of the next."""
    for date in dates:
        if rng.random() < SHARE:
            yield Example(nonsense(date.text, rng), next(dates).iso)
        else:
            yield date


def nonsense(date: str, rng: np.random.Generator) -> str:
    """A text that is not a date: a number is missing, words are replaced, or all is random.

    Examples
    --------
    >>> rng = np.random.default_rng(33)
    >>> for _ in range(5):
    ...     print(nonsense("mardi 3 juin 1997", rng))
    aiuz64gj49zrvha2mg
    nbb 3 zj 1997
    mardi 3 juin
    850
    mardi juin
    """
    # parts of dates are listed twice: people write them, and they look most like dates
    ways = (_part, _part, _with_other_words, _words, _number, _signs)
    text = ""
    while not text:
        text = " ".join(ways[rng.integers(len(ways))](date, rng).split())[:LONGEST].strip()
    return text


def _part(date: str, rng: np.random.Generator) -> str:
    """Remove numbers from a date, as in June 2024, 12 June, 6/2024 or 2024."""
    for _ in range(rng.integers(1, 3)):
        numbers = list(re.finditer(r"\d+(st|nd|rd|th|er)?", date))
        if not numbers:
            break
        gone = numbers[rng.integers(len(numbers))]
        before, after = date[: gone.start()].rstrip(BETWEEN), date[gone.end() :].lstrip(BETWEEN)
        between = date[gone.start() - 1 : gone.start()]
        date = f"{before}{between}{after}".strip(BETWEEN)
    return date


def _with_other_words(date: str, rng: np.random.Generator) -> str:
    """Replace the words of a date; return nothing for a date in numbers."""
    found, changes = re.subn(r"[^\W\d]+", lambda _: _some(LETTERS, 2, 9, rng), date)
    return found if changes else ""


def _words(_: str, rng: np.random.Generator) -> str:
    return " ".join(_some(LETTERS, 1, 9, rng) for _ in range(rng.integers(1, 6)))


def _number(_: str, rng: np.random.Generator) -> str:
    """Draw a number, or nothing if it is about as long as a date such as 19970603."""
    digits = _some(DIGITS, 1, 14, rng)
    return "" if abs(len(digits) - len("19970603")) < 2 else digits


def _signs(_: str, rng: np.random.Generator) -> str:
    return _some(SIGNS, 1, LONGEST, rng)


def _some(signs: str, least: int, most: int, rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(signs), rng.integers(least, most + 1)))
