"""Dates as people write them in English, French and German, and in ISO form.

One day in ten is held out: none of its strings is used for training. The day comes before the month
in numbers, as in "03/06/1997" for the third of June, and a year of two digits is between 1950 and
2049, so every string has one meaning.
"""

from __future__ import annotations

import datetime
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

__all__ = ["LANGUAGES", "Example", "Language", "examples", "is_held_out", "samples", "write"]

WITHOUT_ACCENTS = 0.2
"""The probability that accents are left out: fevrier, Marz."""
ANY_YEAR = datetime.date(1000, 1, 1), datetime.date(2999, 12, 31)
SHORT_YEAR = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)


class Example(NamedTuple):
    """A date as text, and in ISO form."""

    text: str
    iso: str


@dataclass(frozen=True, slots=True)
class Language:
    """The words of a language, and the forms of its dates."""

    months: tuple[str, ...]
    short_months: tuple[str, ...]
    weekdays: tuple[str, ...]
    """From Monday on."""
    short_weekdays: tuple[str, ...]
    ordinal: Callable[[int], str]
    forms: tuple[str, ...]
    """Templates with the fields of `write`; those of `NUMBERS` occur in every language."""


NUMBERS = (
    *("{dd}/{mm}/{y}", "{d}/{m}/{y}", "{dd}/{mm}/{yy}", "{d}/{m}/{yy}", "{wd} {dd}/{mm}/{y}"),
    *("{dd}.{mm}.{y}", "{d}.{m}.{y}", "{dd}.{mm}.{yy}", "{d}.{m}.{yy}", "{wd} {d}.{m}.{yy}"),
    *("{dd}-{mm}-{y}", "{d}-{m}-{y}", "{y}-{mm}-{dd}", "{y}/{mm}/{dd}", "{y}{mm}{dd}"),
    *("{dd} / {mm} / {y}", "{d}. {m}. {y}", "{d}. {m}. {yy}"),
)


def _english_ordinal(day: int) -> str:
    suffix = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ENGLISH = Language(
    months=_words(
        "January February March April May June July August September October November December"
    ),
    short_months=_words("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"),
    weekdays=_words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    short_weekdays=_words("Mon Tue Wed Thu Fri Sat Sun"),
    ordinal=_english_ordinal,
    forms=(
        *("{month} {d}, {y}", "{month} {d} {y}", "{mon} {d}, {y}", "{mon} {d}, {yy}"),
        *("{month} {nth}, {y}", "{mon} {d} '{yy}", "{mon}. {d}, {y}", "{d}-{mon}-{y}"),
        *("{d} {month} {y}", "{d} {mon} {y}", "{d} {mon} {yy}", "{dd} {mon} {y}"),
        *("{nth} {month} {y}", "{nth} of {month} {y}", "the {nth} of {month}, {y}"),
        *("{weekday}, {month} {d}, {y}", "{weekday} {nth} {month} {y}", "{wd}, {d} {mon} {y}"),
        *("{wd} {mon} {d} {y}", "{weekday}, {d} {month} {y}", "{d}-{mon}-{yy}"),
        *("{mon} {nth}, {y}", "{weekday}, {month} {nth}, {y}"),
    ),
)

LANGUAGES = {
    "English": ENGLISH,
    "English, less short": replace(
        ENGLISH,
        short_months=_words("Jan Feb Mar Apr May June July Aug Sept Oct Nov Dec"),
        short_weekdays=_words("Mon Tues Wed Thurs Fri Sat Sun"),
    ),
    "French": Language(
        months=_words(
            "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"
        ),
        short_months=_words("janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc."),
        weekdays=_words("lundi mardi mercredi jeudi vendredi samedi dimanche"),
        short_weekdays=_words("lun. mar. mer. jeu. ven. sam. dim."),
        ordinal=lambda day: "1er" if day == 1 else str(day),
        forms=(
            *("{nth} {month} {y}", "{d} {month} {y}", "{nth} {month} {yy}", "{d} {month} {yy}"),
            *("le {nth} {month} {y}", "{weekday} {nth} {month} {y}", "{weekday} {d} {month} {yy}"),
            *("le {weekday} {nth} {month} {y}", "{wd} {nth} {mon} {y}", "{nth} {mon} {y}"),
            *("{d} {mon} {yy}", "{dd} {month} {y}", "{weekday}, le {nth} {month} {y}"),
        ),
    ),
    "German": Language(
        months=_words(
            "Januar Februar März April Mai Juni Juli August September Oktober November Dezember"
        ),
        short_months=_words("Jan Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez"),
        weekdays=_words("Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag"),
        short_weekdays=_words("Mo Di Mi Do Fr Sa So"),
        ordinal=lambda day: f"{day}.",
        forms=(
            *("{nth} {month} {y}", "{nth} {month} {yy}", "{dd}. {month} {y}", "{nth} {mon} {y}"),
            *("{nth} {mon}. {y}", "{nth} {mon}. {yy}", "{weekday}, {nth} {month} {y}"),
            *("{weekday}, den {nth} {month} {y}", "den {nth} {month} {y}", "{wd}, {nth} {mon} {y}"),
            *("{weekday}, der {nth} {month} {y}", "am {nth} {month} {y}", "{wd} {nth} {mon} {yy}"),
        ),
    ),
}

SAMPLES = {
    "English": ("{month} {d}, {y}", "{nth} of {month} {y}", "{wd}, {d} {mon} {y}"),
    "French": ("{d} {month} {y}", "{weekday} {d} {month} {y}", "{d} {mon} {yy}"),
    "German": ("{nth} {month} {y}", "{weekday}, den {nth} {month} {y}", "{nth} {mon} {yy}"),
}


def write(date: datetime.date, language: Language, form: str) -> str:
    """A date in words and numbers.

    Examples
    --------
    >>> date = datetime.date(1997, 6, 3)
    >>> write(date, LANGUAGES["French"], "{weekday} {d} {month} {y}")
    'mardi 3 juin 1997'
    >>> write(date, LANGUAGES["English"], "{wd}, {mon} {nth} '{yy}; {dd}/{mm}/{yy}; {d}.{m}.{y}")
    "Tue, Jun 3rd '97; 03/06/97; 3.6.1997"
    """
    day, month, year = date.day, date.month, date.year
    return form.format(
        d=day,
        dd=f"{day:02}",
        nth=language.ordinal(day),
        m=month,
        mm=f"{month:02}",
        mon=language.short_months[month - 1],
        month=language.months[month - 1],
        y=year,
        yy=f"{year % 100:02}",
        wd=language.short_weekdays[date.weekday()],
        weekday=language.weekdays[date.weekday()],
    )


def samples(date: datetime.date) -> dict[str, list[str]]:
    """A day in some formats of each language, and in numbers, as examples for users.

    Examples
    --------
    >>> samples(datetime.date(2024, 6, 12))["numbers"]
    ['12/06/2024', '12.6.24', '2024-06-12']
    """
    found = {
        name: [write(date, LANGUAGES[name], form) for form in forms]
        for name, forms in SAMPLES.items()
    }
    numbers = ("{dd}/{mm}/{y}", "{d}.{m}.{yy}", "{y}-{mm}-{dd}")
    return found | {"numbers": [write(date, LANGUAGES["English"], form) for form in numbers]}


def is_held_out(iso: str) -> bool:
    """Whether a day is held out from training: one in ten, by its checksum."""
    return zlib.crc32(iso.encode()) % 10 == 0


def examples(rng: np.random.Generator, *, held_out: bool) -> Iterator[Example]:
    """An endless iterator of random days in random formats, for training or held out.

    Examples
    --------
    >>> from itertools import islice
    >>> for text, iso in islice(examples(np.random.default_rng(1), held_out=True), 3):
    ...     print(iso, "=", text)
    1606-05-23 = May 23, 1606
    1563-10-04 = vendredi, le 4 octobre 1563
    2007-07-22 = 22-July-07
    """
    languages = list(LANGUAGES.values())
    while True:
        language = languages[rng.integers(len(languages))]
        # numbers once in five times, since there is less to learn from them
        forms = NUMBERS if rng.random() < 0.2 else language.forms
        form = forms[rng.integers(len(forms))]
        first, last = SHORT_YEAR if "{yy}" in form else ANY_YEAR
        day = int(rng.integers(first.toordinal(), last.toordinal() + 1))
        date = datetime.date.fromordinal(day)
        if is_held_out(date.isoformat()) == held_out:
            text = write(date, language, form)
            if rng.random() < WITHOUT_ACCENTS:
                text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
            yield Example(text, date.isoformat())
