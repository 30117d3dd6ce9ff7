"""Reading digits by attention: the rows of the table, and one query in detail."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core import Attention, AttentionResult, scorers
from attention_core.demo.digits import KEYS, Digits

__all__ = ["ROWS", "Look", "Outcome", "Row", "classify", "look"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: a file in ``configs``, and the preparation of the images for it."""

    config: str
    centered: bool = False
    learned: bool = False


ROWS = (
    Row("dot.toml"),
    Row("scaled_dot.toml"),
    Row("general.toml", centered=True),
    Row("additive.toml"),
    Row("general_learned.toml", centered=True, learned=True),
    Row("additive_learned.toml", learned=True),
)
"""The rows, from the simplest measure of similarity to the trained ones."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The predictions of one scorer for the queries."""

    scorer: str
    formula: str
    accuracy: float
    milliseconds: float
    """The median time of a pass over all queries."""
    result: AttentionResult
    learned: bool = False

    @property
    def title(self) -> str:
        """The scorer, and whether its parameters were learned."""
        return f"{self.scorer}, learned" if self.learned else self.scorer


@dataclass(frozen=True, slots=True)
class Look:
    """A query, its strongest keys, and its context."""

    query: NDArray[np.uint8]
    """(8, 8)"""
    truth: int
    keys: NDArray[np.uint8]
    """(n, 8, 8), by decreasing weight"""
    labels: NDArray[np.uint8]
    """(n,)"""
    weights: NDArray[Any]
    """(n,)"""
    context: NDArray[Any]
    """(10,): the total weight of each label"""

    @property
    def answer(self) -> int:
        """The label with the largest weight."""
        return int(self.context.argmax())


def classify(row: Row, digits: Digits, *, runs: int = 5) -> Outcome:
    """Attend from the last 597 images to the first 1,200, and compare answers and labels."""
    with as_file(files("attention_core.demo") / "configs") as configs:
        attention = Attention.from_config(configs / row.config)
    query = digits.queries(centered=row.centered)  # (597, 64)
    key, value = digits.keys(centered=row.centered), digits.values()  # (1200, 64), (1200, 10)
    result = attention(query, key, value)
    answers = result.context.argmax(axis=-1)  # (597,)
    name = attention.to_config()["scorer"]["name"]
    (formula,) = (info.formula for info in scorers() if info.name == name)
    return Outcome(
        scorer=name,
        formula=formula,
        accuracy=float((answers == digits.labels[KEYS:]).mean()),
        milliseconds=1000 * median(_seconds(attention, query, key, value) for _ in range(runs)),
        result=result,
        learned=row.learned,
    )


def look(outcome: Outcome, digits: Digits, query: int, *, keys: int = 5) -> Look:
    """The attention of one query (an index from 0 to 596)."""
    top = outcome.result.top_k(keys)
    index = top.indices[query]  # (n,)
    return Look(
        query=digits.images[KEYS + query],
        truth=int(digits.labels[KEYS + query]),
        keys=digits.images[index],
        labels=digits.labels[index],
        weights=top.weights[query],
        context=outcome.result.context[query],
    )


def _seconds(attention: Attention, *arrays: NDArray[Any]) -> float:
    start = perf_counter()
    attention(*arrays)
    return perf_counter() - start
