"""The kit's rules, each proven on a scorer that breaks it and is right in everything else."""

from __future__ import annotations

import threading
import time
from fnmatch import fnmatchcase

import numpy as np
import pytest

import attention_core as ac
from attention_core.testing import CheckError, run_checks, scorer_checks
from attention_core.testing.kit import RULES

WEIGHT = np.random.default_rng(0).normal(size=(4, 3))


class Honest(ac.Scorer):
    """score = q . W k, and every method that a scorer may have."""

    name = "honest"

    def __init__(self, weight):
        self.weight = np.asarray(weight)

    def check_features(self, query_dim, key_dim):
        if (query_dim, key_dim) != self.weight.shape:
            raise ac.ShapeError(f"honest takes (Dq, Dk) = {self.weight.shape}")

    def project_query(self, query):
        return query @ self.weight.astype(query.dtype)

    def project_key(self, key):
        return key.copy()

    def score(self, query, key):
        return query @ key.swapaxes(-1, -2)

    def score_pairs(self, query, key):
        return np.vecdot(query, key)

    def score_bound(self, query, key):
        norms = [np.sqrt(np.vecdot(x, x)).max(initial=0) for x in (query, key)]
        return float(norms[0] * norms[1])


class LosesAnAxis(Honest):
    """One query gives scores without an axis for it."""

    def score(self, query, key):
        scores = super().score(query, key)
        return scores.squeeze(-2) if scores.shape[-2] == 1 else scores


class CountsAxesFromTheFront(Honest):
    """Works without batch axes, and with one."""

    def score(self, query, key):
        if query.ndim == key.ndim == 3:
            return np.einsum("bld,bsd->bls", query, key)
        return np.einsum("ld,sd->ls", query, key)


class NeedsAKey(Honest):
    """A maximum over no keys."""

    def score(self, query, key):
        key.max(axis=-2)
        return super().score(query, key)


class TakesAnyFeatures(Honest):
    """NumPy's error is what a user sees."""

    def check_features(self, query_dim, key_dim):
        pass


class WidensToItsParameters(Honest):
    """float32 @ float64 is float64."""

    def project_query(self, query):
        return query @ self.weight


class WritesTheSame(Honest):
    """A harmless write is a write."""

    def score(self, query, key):
        key[...] = key
        return super().score(query, key)


class CountsItsCalls(Honest):
    """A running statistic among the parameters."""

    def __init__(self, weight, calls=0.0):
        super().__init__(weight)
        self.calls = np.array(calls)

    def score(self, query, key):
        self.calls += 1
        return super().score(query, key)


class ReadsBytes(Honest):
    """Looks at the bits of numbers, which must lie side by side."""

    def score(self, query, key):
        query.view(np.uint8)
        return super().score(query, key)


class KnowsPlaces(Honest):
    """A bias for the place of a key in its tile."""

    def score(self, query, key):
        return super().score(query, key) + 0.1 * np.arange(key.shape[-2], dtype=key.dtype)


class EncodesPlaces(Honest):
    """Another key, depending on how many came before in the same call."""

    def project_key(self, key):
        return key + np.arange(key.shape[-2], dtype=key.dtype)[:, None]


class CentersBatches(Honest):
    """Subtracts the mean of all batch items."""

    def project_query(self, query):
        mean = query.mean(axis=0) if query.ndim == 3 else 0
        return super().project_query(query - mean)


class ScalesPairsOtherwise(Honest):
    """score_pairs was forgotten when score was changed."""

    def score_pairs(self, query, key):
        return 2 * super().score_pairs(query, key)


class SpreadsNaN(Honest):
    """0 * NaN is NaN."""

    def score(self, query, key):
        return super().score(query, key) + 0 * key.sum(axis=-2, keepdims=True).sum(-1)[..., None]


class AddsNoise(Honest):
    """Too little to see, but not the same bits."""

    random = np.random.default_rng(0)

    def score(self, query, key):
        scores = super().score(query, key)
        return scores * (1 + 1e-14 * self.random.random(scores.shape)).astype(scores.dtype)


class ReusesItsResult(Honest):
    """Returns the same memory each time, in each thread."""

    memory = threading.local()

    def score(self, query, key):
        scores = super().score(query, key)
        memory = self.memory.__dict__.setdefault((scores.shape, scores.dtype), scores)
        memory[...] = scores
        return memory


class SharesScratch(Honest):
    """Threads write to the same memory."""

    def score(self, query, key):
        self._scratch = super().score(query, key)
        time.sleep(0.001)
        return self._scratch


class Overflows(Honest):
    """Exponentials of scores."""

    def score(self, query, key):
        return np.exp(10 * super().score(query, key))

    def score_pairs(self, query, key):
        return np.exp(10 * super().score_pairs(query, key))

    def score_bound(self, query, key):
        return float("inf")


class DividesByNorms(Honest):
    """Cosine without a guard."""

    def project_key(self, key):
        return key / np.linalg.norm(key, axis=-1, keepdims=True)


class PromisesTooMuch(Honest):
    """A bound that does not hold."""

    def score_bound(self, query, key):
        return super().score_bound(query, key) / 10


class Undocumented(Honest):
    __doc__ = None


class TakesAnything(Honest):
    """Typing errors in a config are silently ignored."""

    name = None

    def __init__(self, weight, **options):
        super().__init__(weight)
        self.options = options


class ReplacesNothing(Honest):
    """with_parameters is the scorer itself."""

    def with_parameters(self, parameters):
        return self


class ForgetsItsWeight(Honest):
    """A config without the parameters."""

    def to_config(self):
        return {"name": "honest", "weight": np.ones((4, 3)).tolist()}


# The broken scorer of each check, what is seen of it (* for numbers), and the other checks that
# cannot but fail with it.
BROKEN = {
    "shape": (
        LosesAnAxis,
        "score returned shape (7,), expected (1, 7), for prepared query (1, 3) and key (7, 3)",
        "tiles",
    ),
    "batch_axes": (CountsAxesFromTheFront, "ValueError: operand has more dimensions *", ""),
    "empty": (NeedsAKey, "ValueError: zero-size array to reduction operation maximum *", "bound"),
    "features": (
        TakesAnyFeatures,
        "check_features accepts (Dq, Dk) = (5, 3), but scoring raised ValueError: matmul: *",
        "",
    ),
    "dtype": (WidensToItsParameters, "project_query returned float64 for float32", ""),
    "read_only": (WritesTheSame, "ValueError: assignment destination is read-only", ""),
    "no_mutation": (CountsItsCalls, "score changed parameter 'calls'", ""),
    "strided": (ReadsBytes, "ValueError: * the last axis must be contiguous", ""),
    "tiles": (
        KnowsPlaces,
        "scores of queries 0:3 and keys 4:8 alone differ at (0, 0, 0): *, expected *",
        "pairs bound",
    ),
    "projection": (
        EncodesPlaces,
        "results of project_key for rows 3:7 alone differ at (0, 0, 0): *, expected *",
        "",
    ),
    "batch": (CentersBatches, "scores of batch item 0 alone differ at (0, 0): *, expected *", ""),
    "pairs": (ScalesPairsOtherwise, "scores of 6 pairs differ at (0, 0): *, expected *", ""),
    "nan": (
        SpreadsNaN,
        "scores beside a query and a key with nan differ at (0, 0): nan, expected *",
        "",
    ),
    "deterministic": (AddsNoise, "scores changed by *e-1? from call to call", ""),
    "stateless": (
        ReusesItsResult,
        "scores after another call differ at (0, 0): *, expected *",
        "",
    ),
    "threads": (
        SharesScratch,
        "scores computed while other threads score differ at (0, 0, 0): *, expected *",
        "",
    ),
    "finite": (Overflows, "normal arrays times 10 (float32): the score at (0, 0) is inf", ""),
    "zeros": (DividesByNorms, "zeros as key (float64): the score at (0, 0) is nan", ""),
    "bound": (
        PromisesTooMuch,
        (
            "score_bound returned * for prepared query (5, 3) and key (7, 3), "
            "but a score has magnitude *"
        ),
        "",
    ),
    "documented": (Undocumented, "class Undocumented has none", ""),
    "summary": ("without a formula", "its formula is ''", ""),
    "signature": (
        TakesAnything,
        "PluginError: scorer TakesAnything: its factory takes (**options); name every parameter, *",
        "",
    ),
    "parameters": (
        ReplacesNothing,
        "values of parameter 'weight' after replacing it differ at (0, 0): *, expected *",
        "",
    ),
    "config": (
        ForgetsItsWeight,
        "scores of the scorer made again from its config as it is differ at (0, 0): *, expected *",
        "",
    ),
}


def checks_of(scorer):
    """The checks of a scorer that was made by name, if its class can be registered."""
    if scorer is TakesAnything:
        return list(scorer_checks(TakesAnything(WEIGHT)))
    registry = ac.Registry()
    formula, factory = ("", Honest) if scorer == "without a formula" else ("q . W k", scorer)
    registry.register(
        ac.ScorerSpec(name="honest", factory=factory, summary="bilinear form", formula=formula)
    )
    return list(scorer_checks(registry.make("honest", weight=WEIGHT), registry=registry))


def test_every_rule_has_a_broken_scorer():
    assert list(BROKEN) == [rule.name for rule in RULES]


def test_an_honest_scorer_passes():
    assert run_checks(checks_of(Honest)).summary() == f"{len(RULES)} passed"


@pytest.mark.parametrize("name", BROKEN)
def test_each_check_finds_its_broken_scorer(name):
    scorer, seen, others = BROKEN[name]
    failures = {outcome.check: outcome for outcome in run_checks(checks_of(scorer)).failures}
    assert {check.name for check in failures} == {name, *others.split()}
    (check,) = [check for check in failures if check.name == name]
    with pytest.raises(CheckError) as error:
        check()
    head, *detail = str(error.value).splitlines()
    assert head.startswith(f"check {name!r} of scorer ")
    assert fnmatchcase(detail[0], f"  seen: {seen}".replace("[", "[[]"))
    assert detail[1:] == [f"  fix:  {check.fix}"]
