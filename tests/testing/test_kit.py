"""The kit apart from its rules: dimensions, reports, expected failures, pytest."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
from broken_scorers import WEIGHT, Honest, PromisesTooMuch

import attention_core as ac
from attention_core import testing
from attention_core.testing import (
    Check,
    CheckError,
    Status,
    check_plugin,
    check_scorer,
    kit,
    parametrize_scorers,
    run_checks,
    scorer_checks,
)

RULES = kit.RULES["scorer"]


class Handmade(Honest):
    """Without a registered name."""

    name = None


class Timid(PromisesTooMuch):
    """Breaks only the rule of bounds."""

    name = None


# --- subjects of checks ---


def subject(scorer, **options):
    return next(scorer_checks(scorer, **options)).subject


@pytest.mark.parametrize(
    ("scorer", "options", "dims"),
    [
        (ac.make_scorer("dot"), {}, (4, 4)),
        (ac.make_scorer("dot"), {"query_dim": 7}, (7, 7)),
        (ac.make_scorer("dot"), {"key_dim": 2, "query_dim": 2}, (2, 2)),
        (Handmade(np.ones((6, 2))), {}, (6, 2)),
        (ac.make_scorer("additive", query_dim=9, key_dim=5, hidden_dim=3, rng=0), {}, (9, 5)),
        (
            ac.make_scorer("additive", query_dim=9, key_dim=5, hidden_dim=3, rng=0),
            {"key_dim": 8},
            (4, 8),
        ),
    ],
)
def test_features_are_found_or_given(scorer, options, dims):
    assert subject(scorer, **options) == f"{scorer} with query_dim={dims[0]}, key_dim={dims[1]}"


def test_learned_scorers_need_no_check_features_to_be_found():
    class Unchecked(Handmade):
        check_features = ac.Scorer.check_features

    assert subject(Unchecked(np.ones((6, 2)))).endswith("with query_dim=6, key_dim=2")


def test_dimensions_that_do_not_fit_are_reported():
    (check,) = [c for c in scorer_checks(Handmade(WEIGHT), query_dim=9) if c.name == "features"]
    with pytest.raises(CheckError) as error:
        check()
    assert str(error.value).splitlines()[1:] == [
        "  seen: check_features rejects (Dq, Dk) = (9, 4): honest takes (Dq, Dk) = (4, 3)",
        "  fix:  pass numbers of features that the scorer accepts: query_dim= and key_dim=",
    ]


def test_a_scorer_that_only_raises_is_reported():
    class Hopeless(ac.Scorer):
        """score = ?"""

        def score(self, query, key):
            raise RuntimeError("not today")

    with pytest.raises(CheckError, match="seen: RuntimeError: not today"):
        check_scorer(Hopeless())


@pytest.mark.parametrize(
    ("scorer", "text"),
    [
        ("dot", "scorer must be a Scorer, got 'dot'"),
        (Honest, f"scorer must be a Scorer, got {Honest!r}; call the class to make one"),
    ],
)
def test_only_instances_can_be_checked(scorer, text):
    for use in (check_scorer, parametrize_scorers):
        with pytest.raises(ac.OptionTypeError) as error:
            use(scorer)
        assert str(error.value) == text


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (
            lambda: check_scorer(Honest(WEIGHT), query_dims=3),
            "check_scorer: unexpected argument 'query_dims'; did you mean 'query_dim'?",
        ),
        (
            lambda: check_scorer(Honest(WEIGHT), key_dim=[3]),
            "key_dim must be an integer from 1 to 1048576, got [3]",
        ),
        (
            lambda: check_scorer(Honest(WEIGHT), seed="a"),
            "seed must be an integer of at least 0, got 'a'",
        ),
        (
            lambda: run_checks([check_scorer]),
            "checks must be those of scorer_checks or plugin_checks, got <function check_scorer>",
        ),
        (
            lambda: run_checks(None),
            "checks must be those of scorer_checks or plugin_checks, got None",
        ),
        (lambda: check_plugin(None), "module must be a module or its name, got None"),
    ],
)
def test_arguments_that_cannot_be(use, text):
    with pytest.raises(ac.OptionTypeError) as error:
        use()
    assert str(error.value) == text


def test_a_name_that_nothing_installed_has():
    report = run_checks(scorer_checks(Honest(WEIGHT)))
    (failure,) = report.failures
    assert failure.check.name == "config"
    assert failure.detail.splitlines() == [
        "seen: no installed scorer is named 'honest'",
        (
            "fix:  install the plugin (pip install -e .), or pass the registry that holds it: "
            "registry="
        ),
    ]


# --- reports ---


def fails():
    raise ValueError("too bad")


def checks(**runs):
    return [Check(name, "scorer x", f"{name} holds", f"fix {name}", runs[name]) for name in runs]


PASSES = checks(first=lambda: None, second=lambda: "nothing there")
MIXED = checks(good=lambda: None, bad=fails, known=fails, gone=lambda: None)


def test_a_report_of_passes():
    report = run_checks(PASSES)
    assert report.ok
    assert report.failures == ()
    assert str(report).splitlines() == [
        "scorer x",
        "  passed   first   first holds",
        "  passed   second  second holds (nothing there)",
        "",
        "2 passed",
    ]


def test_a_report_of_everything():
    report = run_checks(MIXED, expected_failures={"known": "a bug", "gone": "was a bug"})
    assert not report.ok
    assert [outcome.status for outcome in report.outcomes] == list(Status)
    assert [outcome.check.name for outcome in report.failures] == ["bad", "gone"]
    assert str(report).splitlines() == [
        "scorer x",
        "  passed   good   good holds",
        "  FAILED   bad    bad holds",
        "           seen: ValueError: too bad",
        "           fix:  fix bad",
        "  xfailed  known  known holds",
        "           expected: a bug",
        "  XPASSED  gone   gone holds",
        "           expected to fail: was a bug",
        "           fix:  remove it from expected_failures",
        "",
        "1 passed, 1 failed, 1 xfailed, 1 xpassed",
    ]


def test_the_cause_is_kept_for_debugging():
    with pytest.raises(CheckError) as error:
        MIXED[1]()
    assert str(error.value) == (
        "check 'bad' of scorer x\n  seen: ValueError: too bad\n  fix:  fix bad"
    )
    assert isinstance(error.value.__cause__, ValueError)
    assert isinstance(error.value, AssertionError)


def test_an_empty_report():
    assert str(run_checks([])) == "no checks"


# --- expected failures ---


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (
            {"bonud": "slow"},
            (
                "expected_failures: there is no check 'bonud'; did you mean 'bound'?; "
                "the checks are: shape, "
            ),
        ),
        ({"bound": " "}, "expected_failures: 'bound' needs a reason, as text, got "),
        ({"bound": None}, "expected_failures: 'bound' needs a reason, as text, got "),
        (["bound"], "expected_failures must be a mapping of checks to reasons, got ['bound']"),
    ],
)
@pytest.mark.parametrize("use", [check_scorer, parametrize_scorers])
def test_an_expected_failure_is_of_a_check_and_has_a_reason(use, expected, text):
    with pytest.raises(ac.OptionError) as error:
        use(Timid(WEIGHT), expected_failures=expected)
    assert str(error.value).startswith(text)


def test_an_expected_failure_fails_nothing():
    report = check_scorer(Timid(WEIGHT), expected_failures={"bound": "a bound in progress"})
    assert [o.detail for o in report.outcomes if o.status is Status.XFAILED] == [
        "expected: a bound in progress"
    ]


def test_an_expected_failure_that_passes_is_a_failure():
    with pytest.raises(CheckError, match="XPASSED  bound"):
        check_scorer(Handmade(WEIGHT), expected_failures={"bound": "a bound in progress"})


# --- check_scorer ---


def test_check_scorer_raises_the_whole_report():
    with pytest.raises(CheckError) as error:
        check_scorer(Timid(WEIGHT))
    assert "  passed   shape " in str(error.value)
    assert "  FAILED   bound " in str(error.value)
    assert str(error.value).endswith(f"{len(RULES) - 1} passed, 1 failed")


def test_other_seeds_try_other_arrays():
    seen = {}

    class Watching(Handmade):
        """score = q . W k"""

        def project_query(self, query):
            seen[run].append(query.tobytes())
            return super().project_query(query)

    for run, seed in enumerate((0, 0, 1)):
        seen[run] = []
        check_scorer(Watching(WEIGHT), seed=seed)
    first, again, other = (sorted(arrays) for arrays in seen.values())  # threads come in any order
    assert first == again
    assert first != other


# --- documentation ---


@pytest.mark.parametrize("name", testing.__all__)
def test_every_public_object_is_documented(name):
    value = getattr(testing, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        assert "\nExamples\n" in inspect.getdoc(value)


# --- pytest ---

TESTS = """
import numpy as np
import attention_core as ac
from attention_core.testing import parametrize_scorers

class Good(ac.InnerProductScorer):
    "score = q . W k"

    def __init__(self, weight):
        self.weight = weight

    def check_features(self, query_dim, key_dim):
        if (query_dim, key_dim) != self.weight.shape:
            raise ac.ShapeError("no")

    def project_query(self, query):
        return query @ self.weight.astype(query.dtype)

class Bad(Good):
    "score = q . W k"

    def score_bound(self, query, key):
        return 0.0

@parametrize_scorers(Good(np.ones((4, 3))), Good(np.ones((2, 3))), ac.make_scorer("dot"))
def test_good(check):
    check()

@parametrize_scorers(Bad(np.ones((4, 3))))
def test_bad(check):
    check()

@parametrize_scorers(Bad(np.ones((4, 3))), expected_failures={"bound": "in progress"})
def test_known(check):
    check()

@parametrize_scorers(Good(np.ones((4, 3))), expected_failures={"bound": "in progress"})
def test_gone(check):
    check()
"""


def test_parametrized_checks_are_tests_of_their_own(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    for line in (
        "::test_good[Good-tiles] PASSED",
        "::test_good[Good2-tiles] PASSED",
        "::test_good[dot-tiles] PASSED",
        "::test_bad[Bad-bound] FAILED",
        "::test_known[Bad-bound] XFAIL (in progress)",
        "::test_gone[Good-bound] FAILED",
        "fix:  return an upper bound of |score|",
        f" 2 failed, {6 * len(RULES) - 3} passed, 1 xfailed ",
    ):
        assert line in done.stdout
