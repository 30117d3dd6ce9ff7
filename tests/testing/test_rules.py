"""The kit's rules, each proven on a scorer that breaks it and is right in everything else."""

from __future__ import annotations

from fnmatch import fnmatchcase

import broken_scorers as broken
import pytest

from attention_core.testing import CheckError, kit, run_checks

RULES = kit.RULES["scorer"]

# The broken scorer of each check, what is seen of it (* for numbers), and the other checks that
# cannot but fail with it.
BROKEN = {
    "shape": (
        broken.LosesAnAxis,
        "score returned shape (7,), expected (1, 7), for prepared query (1, 3) and key (7, 3)",
        "pairs tiles",
    ),
    "batch_axes": (
        broken.CountsAxesFromTheFront,
        "ValueError: operand has more dimensions *",
        "no_mutation pairs read_only",
    ),
    "empty": (
        broken.NeedsAKey,
        "ValueError: zero-size array to reduction operation maximum *",
        "bound",
    ),
    "features": (
        broken.TakesAnyFeatures,
        "check_features accepts (Dq, Dk) = (5, 3), but scoring raised ValueError: matmul: *",
        "",
    ),
    "dtype": (broken.WidensToItsParameters, "project_query returned float64 for float32", ""),
    "read_only": (broken.WritesTheSame, "ValueError: assignment destination is read-only", ""),
    "no_mutation": (broken.CountsItsCalls, "score changed parameter 'calls'", ""),
    "strided": (broken.ReadsBytes, "ValueError: * the last axis must be contiguous", ""),
    "tiles": (
        broken.KnowsPlaces,
        "scores of queries 0:3 and keys 4:8 alone differ at (0, 0, 0): *, expected *",
        "pairs",
    ),
    "projection": (
        broken.EncodesPlaces,
        "results of project_key for rows 3:7 alone differ at (0, 0, 0): *, expected *",
        "",
    ),
    "batch": (
        broken.CentersBatches,
        "scores of batch item 0 alone differ at (0, 0): *, expected *",
        "",
    ),
    "pairs": (broken.ScalesPairsOtherwise, "scores of 6 pairs differ at (0, 0): *, expected *", ""),
    "nan": (
        broken.SpreadsNaN,
        "scores beside a query and a key with nan differ at (0, 0): nan, expected *",
        "",
    ),
    "deterministic": (broken.AddsNoise, "scores changed by *e-1? from call to call", ""),
    "stateless": (
        broken.ReusesItsResult,
        "scores after another call differ at (0, 0): *, expected *",
        "",
    ),
    "threads": (
        broken.SharesScratch,
        "scores computed while other threads score differ at (0, 0, 0): *, expected *",
        "",
    ),
    "finite": (
        broken.Overflows,
        "normal arrays times 10 (float32): the score at (0, 0) is inf",
        "",
    ),
    "zeros": (broken.DividesByNorms, "zeros as key (float64): the score at (0, 0) is nan", ""),
    "bound": (
        broken.PromisesTooMuch,
        (
            "score_bound returned * for prepared query (5, 3) and key (7, 3), "
            "but a score has magnitude *"
        ),
        "",
    ),
    "gradients": (
        broken.TurnsUphill,
        (
            "with respect to parameter 'weight', the derivative along a random direction is *; "
            "finite differences give *"
        ),
        "",
    ),
    "pair_gradients": (
        broken.TurnsPairsUphill,
        "gradients of pairs with respect to queries differ at (0, 0): *, expected *",
        "",
    ),
    "compiled": (
        broken.HasAnotherPair,
        "float64 scores of score differ at (0, 0): *, expected *",
        "",
    ),
    "documented": (broken.Undocumented, "class Undocumented has none", ""),
    "summary": ("without a formula", "its formula is ''", ""),
    "signature": (
        broken.TakesAnything,
        "PluginError: scorer TakesAnything: its factory takes (**options); name every parameter, *",
        "",
    ),
    "parameters": (
        broken.ReplacesNothing,
        "values of parameter 'weight' after replacing it differ at (0, 0): *, expected *",
        "gradients",
    ),
    "config": (
        broken.ForgetsItsWeight,
        "scores of the scorer made again from its config as it is differ at (0, 0): *, expected *",
        "",
    ),
}


def test_every_rule_has_a_broken_scorer():
    assert list(BROKEN) == [rule.name for rule in RULES]


def test_an_honest_scorer_passes():
    assert run_checks(broken.checks_of(broken.Honest)).summary() == f"{len(RULES)} passed"


@pytest.mark.parametrize("name", BROKEN)
def test_each_check_finds_its_broken_scorer(name):
    if name == "compiled":
        pytest.importorskip("numba")
    scorer, seen, others = BROKEN[name]
    failures = {outcome.check: outcome for outcome in run_checks(broken.checks_of(scorer)).failures}
    assert {check.name for check in failures} == {name, *others.split()}
    (check,) = [check for check in failures if check.name == name]
    with pytest.raises(CheckError) as error:
        check()
    head, *detail = str(error.value).splitlines()
    assert head.startswith(f"check {name!r} of scorer ")
    assert fnmatchcase(detail[0], f"  seen: {seen}".replace("[", "[[]"))
    assert detail[1:] == [f"  fix:  {check.fix}"]
