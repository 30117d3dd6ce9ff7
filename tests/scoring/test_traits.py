"""Traits of a class of scorers: found once, for any bases."""

from __future__ import annotations

from typing import Any

import pytest

import attention_core as ac
from attention_core.scoring.traits import MissingVJP

FORMS = frozenset({"score_bound", "score_pairs", "score_pairs_vjp"})


class Inner(ac.InnerProductScorer):
    pass


class Own(ac.Scorer):
    def score(self, query: Any, key: Any) -> Any: ...
    def score_pairs(self, query: Any, key: Any) -> Any: ...
    def score_vjp(self, query: Any, key: Any, grad: Any) -> Any: ...


class Another(Own):
    def score(self, query: Any, key: Any) -> Any: ...


class OnlyPairs(Own):
    def score_pairs(self, query: Any, key: Any) -> Any: ...


class ScoreMixin:
    """Not a scorer itself, so `Scorer.__init_subclass__` does not see it."""

    def score(self, query: Any, key: Any) -> Any: ...


class Mixed(ScoreMixin, ac.InnerProductScorer):
    pass


class Projecting(ac.InnerProductScorer):
    def project_key(self, key: Any) -> Any: ...


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        (Inner, frozenset()),
        (Own, FORMS - {"score_pairs"}),
        (Another, FORMS),
        (OnlyPairs, FORMS - {"score_pairs"}),
        (Mixed, FORMS),
    ],
)
def test_forms_belong_to_the_class_of_the_score(kind, defaults):
    assert kind.traits.defaults == defaults


@pytest.mark.parametrize(
    ("kind", "is_inner"),
    [(Inner, True), (Projecting, True), (Own, False), (Mixed, False)],
)
def test_an_inner_product_is_one_while_its_score_is_inherited(kind, is_inner):
    assert kind.traits.is_inner_product is is_inner


def test_projections_that_are_overridden():
    assert not Inner.traits.projects_query
    assert not Inner.traits.projects_key
    assert not Projecting.traits.projects_query
    assert Projecting.traits.projects_key


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        (Inner, ()),
        (Own, ()),
        (Another, (MissingVJP("score", "Another"),)),
        (Mixed, (MissingVJP("score", "ScoreMixin"),)),
        (Projecting, (MissingVJP("project_key", "Projecting"),)),
    ],
)
def test_products_belong_to_the_class_of_their_method(kind, missing):
    assert kind.traits.missing_vjps == missing


def test_a_class_may_take_keywords_of_other_bases():
    class Named:
        def __init_subclass__(cls, label: str = "", **keywords: Any) -> None:
            super().__init_subclass__(**keywords)
            cls.label = label

    class Both(ac.InnerProductScorer, Named, label="x"):
        pass

    assert Both.label == "x"
    assert Both.traits.is_inner_product
