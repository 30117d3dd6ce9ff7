"""Scorers as values: shown, compared, copied and pickled."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import attention_core as ac

COPIES = {
    "pickle": lambda scorer: pickle.loads(pickle.dumps(scorer)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def additive(rng: int = 0) -> Any:
    return ac.make_scorer("additive", query_dim=3, key_dim=4, hidden_dim=5, rng=rng)


class Forgetful(ac.InnerProductScorer):
    """Stores its argument under another name."""

    def __init__(self, size: int) -> None:
        self._size = size


@dataclass(frozen=True)
class Frozen(ac.InnerProductScorer):
    scale: float = 1.0


@pytest.mark.parametrize(
    ("scorer", "text"),
    [
        (
            additive(),
            "AdditiveScorer(query_weight=float64[3, 5], key_weight=float64[4, 5], "
            "score_weight=float64[5])",
        ),
        (ac.make_scorer("dot"), "DotScorer()"),
        (ac.make_scorer("scaled_dot", scale=0.5), "ScaledDotScorer(scale=0.5)"),
        (ac.make_scorer("scaled_dot"), "ScaledDotScorer()"),
        (Forgetful(3), "Forgetful(...)"),
        (Frozen(2.0), "Frozen(scale=2.0)"),
    ],
)
def test_a_scorer_shows_its_arguments(scorer, text):
    assert repr(scorer) == text


def test_scorers_with_the_same_arguments_are_equal():
    assert additive() == additive()
    assert hash(additive()) == hash(additive())
    assert additive() != additive(1)
    assert ac.make_scorer("scaled_dot", scale=0.5) == type(ac.make_scorer("scaled_dot"))(0.5)
    assert ac.make_scorer("scaled_dot", scale=0.5) != ac.make_scorer("scaled_dot")
    assert ac.make_scorer("dot") != ac.make_scorer("scaled_dot")
    assert ac.make_scorer("dot") != "dot"


def test_arrays_are_compared_bit_by_bit():
    nan = ac.make_scorer("general", weight=[[np.nan]])
    assert nan == ac.make_scorer("general", weight=[[np.nan]])
    single = ac.make_scorer("general", weight=np.ones((1, 1), np.float32))
    assert single != ac.make_scorer("general", weight=np.ones((1, 1)))


def test_writing_to_an_array_keeps_the_hash():
    scorer = additive()
    before = hash(scorer)
    scorer.query_weight[0] = 7
    assert hash(scorer) == before
    assert scorer != additive()


def test_a_scorer_that_keeps_no_arguments_is_equal_to_itself_only():
    scorer = Forgetful(3)
    assert scorer == scorer
    assert scorer != Forgetful(3)
    assert len({scorer, scorer, Forgetful(3)}) == 2


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(
    "scorer",
    [additive(), ac.make_scorer("scaled_dot", scale=0.5), Forgetful(3), Frozen(2.0)],
    ids=repr,
)
def test_copies_score_the_same_and_remember_their_origin(scorer, copied):
    found = copied(scorer)
    assert type(found) is type(scorer)
    assert found.origin == scorer.origin
    assert str(found) == str(scorer)
    if scorer.origin:
        assert found.to_config() == scorer.to_config()
    query, key = np.ones((2, 3)), np.eye(3, 4 if hasattr(scorer, "key_weight") else 3)
    np.testing.assert_array_equal(
        ac.attend(query, key, key, scorer=found).context,
        ac.attend(query, key, key, scorer=scorer).context,
    )
    if type(scorer) is not Forgetful:
        assert found == scorer
