"""The kit's rules, each with a component that breaks only that rule."""

from __future__ import annotations

from fnmatch import fnmatchcase

import broken_components as broken
import broken_scorers as scorers
import pytest

import attention_core as ac
from attention_core.testing import (
    CheckError,
    bias_checks,
    check_bias,
    check_normalizer,
    normalizer_checks,
    run_checks,
)
from attention_core.testing.kit import RULES

# The broken component of each check, its evidence (* for numbers), and the other checks that
# necessarily fail with it.
BROKEN = {
    "scorer": {
        "shape": (
            scorers.LosesAnAxis,
            "score returned shape (7,), expected (1, 7), for projected query (1, 3) and key (7, 3)",
            "pairs tiles",
        ),
        "batch_axes": (
            scorers.CountsAxesFromTheFront,
            "ValueError: operand has more dimensions *",
            "no_mutation pairs read_only",
        ),
        "empty": (
            scorers.NeedsAKey,
            "ValueError: zero-size array to reduction operation maximum *",
            "bound",
        ),
        "features": (
            scorers.TakesAnyFeatures,
            "check_features accepts (Dq, Dk) = (5, 3), but scoring raised ValueError: matmul: *",
        ),
        "dtype": (scorers.WidensToItsParameters, "project_query returned float64 for float32"),
        "read_only": (scorers.WritesTheSame, "ValueError: assignment destination is read-only"),
        "no_mutation": (scorers.CountsItsCalls, "score changed parameter 'calls'"),
        "strided": (scorers.ReadsBytes, "ValueError: * the last axis must be contiguous"),
        "tiles": (
            scorers.KnowsPlaces,
            "scores of queries 0:3 and keys 4:8 alone differ at (0, 0, 0): *, expected *",
            "pairs",
        ),
        "projection": (
            scorers.EncodesPlaces,
            "results of project_key for rows 3:7 alone differ at (0, 0, 0): *, expected *",
        ),
        "batch": (
            scorers.CentersBatches,
            "scores of batch item 0 alone differ at (0, 0): *, expected *",
        ),
        "pairs": (
            scorers.ScalesPairsOtherwise,
            "scores of 6 pairs differ at (0, 0): *, expected *",
        ),
        "nan": (
            scorers.SpreadsNaN,
            "scores beside a query and a key with nan differ at (0, 0): nan, expected *",
        ),
        "deterministic": (scorers.AddsNoise, "scores changed by *e-1? from call to call"),
        "stateless": (
            scorers.ReusesItsResult,
            "scores after another call differ at (0, 0): *, expected *",
        ),
        "threads": (
            scorers.SharesScratch,
            "scores computed while other threads score differ at (0, 0, 0): *, expected *",
        ),
        "finite": (
            scorers.Overflows,
            "normal arrays times 10 (float32): the score at (0, 0) is inf",
        ),
        "zeros": (scorers.DividesByNorms, "zeros as key (float64): the score at (0, 0) is nan"),
        "bound": (
            scorers.PromisesTooMuch,
            "score_bound returned * for projected query (5, 3) and key (7, 3), "
            "but a score has magnitude *",
        ),
        "query_scale": (
            scorers.SaysItMultiplies,
            "projected queries have shape (5, 3), expected (5, 4)",
        ),
        "gradients": (
            scorers.TurnsUphill,
            "with respect to parameter 'weight', the derivative along a random direction is *; "
            "finite differences give *",
        ),
        "pair_gradients": (
            scorers.TurnsPairsUphill,
            "gradients of pairs with respect to queries differ at (0, 0): *, expected *",
        ),
        "compiled": (
            scorers.HasAnotherPair,
            "float64 scores of score differ at (0, 0): *, expected *",
        ),
        "documented": (scorers.Undocumented, "class Undocumented has none"),
        "summary": ("without a formula", "its formula is ''"),
        "signature": (
            scorers.TakesAnything,
            "PluginError: scorer TakesAnything: its factory takes (**options); name every *",
        ),
        "parameters": (
            scorers.ReplacesNothing,
            "values of parameter 'weight' after replacing it differ at (0, 0): *, expected *",
            "gradients",
        ),
        "config": (
            scorers.ForgetsItsWeight,
            "scores of the scorer recreated from its config differ at (0, 0): *, expected *",
        ),
    },
    "normalizer": {
        "statistics": (
            broken.DropsTheLastAxis,
            "statistics returned shapes [(5,), (5,)] for scores (5, 7); `empty` has 2",
            "config edge_gradients edges gradients no_keys parameters shape tiles",
        ),
        "shape": (broken.NeedsTiles, "AssertionError:", "edges"),
        "dtype": (broken.WidensWeights, "weights returned float64 for float32"),
        "no_mutation": (
            broken.WritesInStatistics,
            "statistics changed the scores",
            "config edges gradients no_keys parameters tiles",  # the engine's are read-only
        ),
        "masked": (
            broken.CountsMaskedKeys,
            "weights beside masked keys differ at (0, 0): *, expected *",
            "edges gradients",
        ),
        "no_keys": (broken.DividesByNothing, "weights of a row without keys: nan"),
        "rows": (
            broken.SubtractsTheLargestOfAll,
            "weights of a batch item alone differ at (0, 0): *, expected *",
            "tiles edges gradients",
        ),
        "tiles": (
            broken.ForgetsEarlierTiles,
            "weights of tiles (3, 4) differ at (0, 0): *, expected *",
            "gradients",
        ),
        "edges": (broken.HalvesEdges, "weights of edges in rows differ at (0,): *, expected *"),
        "finite": (broken.SubtractsNothing, "scores of 10000 s + 0 (float32): not finite"),
        "stateless": (
            broken.KeepsItsTotal,
            "weights after another call differ at (0, 0): *, expected *",
            "tiles",
        ),
        "threads": (
            broken.SharesScratch,
            "weights computed while other threads normalize differ at (0, 0): *, expected *",
        ),
        "gradients": (
            broken.TurnsUphill,
            "with respect to scores, the derivative along a random direction is *; finite "
            "differences give *",
        ),
        "edge_gradients": (
            broken.SumsTheLastAxis,
            "gradients of edges differ at (0,): *, expected *",
        ),
        "documented": (broken.UndocumentedNormalizer, "class UndocumentedNormalizer has none"),
        "summary": ("without a formula", "its formula is ''"),
        "signature": (
            broken.NormalizerOfAnything,
            "PluginError: normalizer NormalizerOfAnything: its factory takes (**options); name *",
        ),
        "parameters": (
            broken.KeepsItsShare,
            "values of parameter 'share' after replacing it differ at (): *, expected *",
            "gradients",
        ),
        "config": (
            broken.ForgetsItsShare,
            "weights of the normalizer recreated from its config differ at (0, 0): *, expected *",
        ),
    },
    "bias": {
        "shape": (
            broken.SwapsAxes,
            ("tile returned shape (2, 7, 5) for query positions (5, 1) and key positions (1, 7)"),
            "tiles pairs offsets finite no_mutation stateless threads gradients",
        ),
        "tiles": (
            broken.CountsFromTheTile,
            "values of queries 0:3 and keys 4:8 alone differ at (0, 0, 0): *, expected *",
        ),
        "pairs": (
            broken.AssumesATile,
            "values of 6 pairs differ at (0, 1): *, expected *",
            "gradients",
        ),
        "offsets": (
            broken.AssumesOneOffset,
            "values of queries shifted by 9 differ at (0, 0, 0): *, expected *",
        ),
        "finite": (broken.TakesLogarithms, "queries from position 0 on have inf", "gradients"),
        "no_mutation": (broken.WritesToPositions, "ValueError: output array is read-only"),
        "stateless": (
            broken.ReusesItsResult,
            "values after another call differ at (0, 0, 0): *, expected *",
        ),
        "threads": (
            broken.SharesItsScratch,
            "values computed while other threads call differ at (0, 0, 0): *, expected *",
        ),
        "gradients": (
            broken.ForgetsTheBatch,
            "with respect to parameter 'slope', the derivative along a random direction is *; "
            "finite differences give *",
        ),
        "documented": (broken.UndocumentedBias, "class UndocumentedBias has none"),
        "summary": ("without a formula", "its formula is ''"),
        "signature": (
            broken.BiasOfAnything,
            "PluginError: bias BiasOfAnything: its factory takes (**options); name every *",
        ),
        "parameters": (
            broken.KeepsItsSlope,
            "values of parameter 'slope' after replacing it differ at (0,): *, expected *",
            "gradients",
        ),
        "config": (
            broken.ForgetsItsSlope,
            "values of the bias recreated from its config differ at (0, 0, 1): *",
        ),
    },
}


@pytest.mark.parametrize("kind", BROKEN)
def test_every_rule_has_a_broken_component(kind):
    assert list(BROKEN[kind]) == [rule.name for rule in RULES[kind]]


@pytest.mark.parametrize(
    ("kind", "honest"),
    [
        ("scorer", scorers.Honest),
        ("normalizer", broken.HonestNormalizer),
        ("bias", broken.HonestBias),
    ],
)
def test_honest_components_pass(kind, honest):
    report = run_checks(broken.checks_of(kind, honest))
    assert report.summary() == f"{len(RULES[kind])} passed"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("kind", "name"), [(k, name) for k in BROKEN for name in BROKEN[k]])
def test_each_check_finds_its_broken_component(kind, name, request):
    if name == "compiled":
        request.getfixturevalue("compiled")
    component, seen, *others = BROKEN[kind][name]
    report = run_checks(broken.checks_of(kind, component))
    failures = {outcome.check.name: outcome.check for outcome in report.failures}
    assert failures.keys() == {name, *" ".join(others).split()}
    with pytest.raises(CheckError) as error:
        failures[name]()
    head, first, *detail = str(error.value).splitlines()
    assert head.startswith(f"check {name!r} of {kind} ")
    assert fnmatchcase(first, f"  seen: {seen}".replace("[", "[[]"))
    assert detail[-1:] == [f"  fix:  {failures[name].fix}"]


def test_the_gradient_of_a_parameter_may_not_be_forgotten():
    report = run_checks(broken.checks_of("normalizer", broken.GradesNoShare))
    assert [failure.check.name for failure in report.failures] == ["gradients"]


@pytest.mark.parametrize(
    "normalizer",
    [
        ac.Softmax(),
        ac.Softmax(sink=0.3),
        ac.Softmax(sink=[0.3, -1.0]),
        ac.Softmax(sink=[[0.3], [-1.0]]),
        ac.make_normalizer("sigmoid", offset=-1.0),
        ac.make_normalizer("sparsemax"),
        ac.make_normalizer("entmax", alpha=1.2),
        ac.make_normalizer("entmax", alpha=3.0),
    ],
    ids=repr,
)
def test_bundled_normalizers_pass(normalizer):
    assert check_normalizer(normalizer).ok


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("alibi", {"heads": 3}),
        ("alibi", {"slopes": 0.5}),
        ("relative", {"table": [[0.1, 0.2, 0.3], [3.0, 2.0, 1.0]]}),
        ("relative", {"table": [0.5, 1.5, -1.0]}),
        ("t5", {"table": [0.5, 1.5, -1.0, 2.0], "max_distance": 9, "is_bidirectional": False}),
    ],
)
def test_bundled_biases_pass(name, parameters):
    assert check_bias(ac.make_bias(name, **parameters)).ok


@pytest.mark.parametrize(
    ("checks", "text"),
    [
        (lambda: normalizer_checks("softmax"), "normalizer must be a Normalizer, got 'softmax'"),
        (
            lambda: bias_checks(broken.HonestBias),
            f"bias must be a Bias, got {broken.HonestBias!r}; call the class to make one",
        ),
    ],
)
def test_only_instances_can_be_checked(checks, text):
    with pytest.raises(ac.OptionTypeError) as error:
        checks()
    assert str(error.value) == text


def test_without_gradients_there_is_nothing_to_compare():
    class Half(broken.HonestNormalizer):
        """Half of softmax."""

        name = None
        scores_vjp = ac.Normalizer.scores_vjp

    report = run_checks(normalizer_checks(Half()))
    assert report.ok
    assert str(report).count("(none are defined)") == 2
