"""The demonstration as a page: some digits, and the digits they attend to."""

from __future__ import annotations

import os

import numpy as np

from attention_core.demo.classify import Outcome
from attention_core.demo.digits import KEYS, Digits
from attention_core.plot import page

__all__ = ["digits_page"]

QUERIES, STRONGEST = 10, 3


def digits_page(
    outcome: Outcome, digits: Digits, query: int, path: str | os.PathLike[str] | None = None
) -> str:
    """A page of one query (an index from 0 to 596) and a few others, with their strongest keys."""
    queries = [query, *(n for n in range(QUERIES) if n != query)][:QUERIES]
    keys = np.unique(outcome.result.top_k(STRONGEST).indices[queries])
    answers = outcome.result.context.argmax(axis=-1)
    return page(
        outcome.result,
        path,
        queries=queries,
        keys=keys,
        query_labels=[f"read as {answer}" for answer in answers],
        key_labels=[f"a {label}" for label in digits.labels[:KEYS]],
        images=(digits.images[KEYS:], digits.images[:KEYS]),
        title=f"Handwritten digits, and those that {outcome.title} attends to",
        xlabel="known digit",
        ylabel="unknown digit",
    )
