"""Positions of the digits of a year in a text, to teach a network where to look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attention_core.demo.translate.alphabet import LENGTH
from attention_core.typing import Array

__all__ = ["alignment_loss", "share_on_years", "year_alignment"]

DIGITS = 4  # of a year, with which an ISO date begins


def year_alignment(texts: Sequence[str], dates: Sequence[str]) -> Array:
    """1 at the character that each digit of a year is read from: (B, 10, S).

    Rows are 0 if the character is unknown: those of months, days and hyphens, and of years that are
    not in the text, or occur twice.

    Examples
    --------
    >>> year_alignment(["3/6/1997", "3.6.97"], ["1997-06-03", "1997-06-03"])[:, :5].argmax(axis=-1)
    array([[4, 5, 6, 7, 0],
           [0, 0, 0, 0, 0]])
    """
    found = np.zeros((len(texts), LENGTH, max(map(len, texts))), np.float32)
    for item, (text, iso) in enumerate(zip(texts, dates, strict=True)):
        year = iso[:DIGITS]
        if text.count(year) == 1:
            first = text.index(year)
            for digit in range(DIGITS):
                found[item, digit, first + digit] = 1
    return found


def alignment_loss(weights: Array, where: Array) -> tuple[float, Array]:
    """``mean -log p`` for the weight p at the right character, and its gradient.

    Parameters
    ----------
    weights, where : (B, L, S)
        The weights of attention, and 1 at the right character of the rows that have one.

    Examples
    --------
    >>> loss, grad = alignment_loss(np.array([[[0.5, 0.5]]]), np.array([[[1.0, 0.0]]]))
    >>> round(loss, 3), grad.round(3)
    (0.693, array([[[-2., -0.]]]))
    """
    share = (weights * where).sum(axis=-1, keepdims=True) + 1e-6  # (B, L, 1)
    is_known = where.any(axis=-1, keepdims=True)
    count = max(1, int(is_known.sum()))
    loss = -float(np.log(share, where=is_known, out=np.zeros_like(share)).sum()) / count
    return loss, -where / share / count


def share_on_years(weights: Array, where: Array) -> float:
    """The mean weight at the right character, of the rows that have one."""
    share = (weights * where).sum(axis=-1)
    return float(share[where.any(axis=-1)].mean())
