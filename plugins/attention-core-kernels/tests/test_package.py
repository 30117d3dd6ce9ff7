"""The package as users see it: errors, its README, and the cost of listing its scorers."""

import doctest
import subprocess
import sys
from pathlib import Path

import attention_core as ac
import numpy as np
import pytest

DISTRIBUTION = "attention-core-kernels"
README = Path(__file__).parents[1] / "README.md"
SCORERS = [info for info in ac.scorers() if info.distribution == DISTRIBUTION]
OTHERS = [info for info in (*ac.normalizers(), *ac.biases()) if info.distribution == DISTRIBUTION]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("cosine", {"temperature": 0}, "temperature must be above 0, got 0"),
        ("rbf", {"gamma": -2.0}, "gamma must be above 0, got -2.0"),
        ("rbf", {"gamma": "2"}, "gamma must be a finite number, got '2'"),
        ("laplacian", {"gamma": np.inf}, "gamma must be a finite number, got inf"),
        ("laplacian", {"gamma": True}, "gamma must be a finite number, got True"),
        ("polynomial", {"degree": 2.5}, "degree must be an integer, got 2.5"),
        ("polynomial", {"coef0": None}, "coef0 must be a finite number, got None"),
        (
            "gatv2", {},
            "a learned scorer needs its parameters; give query_weight, key_weight and score_weight "
            "(and optionally bias), "
            "or query_dim, key_dim, hidden_dim and rng; got nothing",
        ),
        (
            "gatv2", {"query_dim": 3, "key_dim": 3, "hidden_dim": 4},
            "a learned scorer needs its parameters; give query_weight, key_weight and score_weight "
            "(and optionally bias), "
            "or query_dim, key_dim, hidden_dim and rng; got query_dim, key_dim, hidden_dim",
        ),
        (
            "gatv2", {"query_dim": 3, "key_dim": 0, "hidden_dim": 4, "rng": 0},
            "key_dim must be at least 1, got 0",
        ),
        (
            "gatv2", {"query_weight": [[1.0]], "key_weight": [[1.0, 2.0]], "score_weight": [1.0]},
            "the parameters must agree on H, their last axis, got "
            "query_weight with 1, key_weight with 2, score_weight with 1",
        ),
        (
            "gatv2", {"query_weight": [1.0], "key_weight": [[1.0]], "score_weight": [1.0]},
            "parameter 'query_weight' must have shape (Dq, H), got shape (1,)",
        ),
        (
            "gatv2", {"query_weight": [["a"]], "key_weight": [[1.0]], "score_weight": [1.0]},
            "parameter 'query_weight' must hold real numbers (float16, bfloat16, float32, float64 "
            "or integers), got dtype <U1; convert it with numpy.asarray(..., dtype=float)",
        ),
        (
            "gatv2",
            {"query_weight": [[1]], "key_weight": [[1]], "score_weight": [1], "negative_slope": 2},
            "negative_slope must be at most 1, got 2",
        ),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused_by_name(name, parameters, message):
    with pytest.raises(ac.ScorerConfigError) as caught:
        ac.make_scorer(name, **parameters)
    version = next(info.version for info in SCORERS)
    assert str(caught.value) == f"scorer {name!r} ({DISTRIBUTION} {version}): {message}"


@pytest.mark.parametrize("name", ["cosine", "laplacian", "polynomial", "rbf"])
def test_queries_and_keys_of_different_spaces_are_refused(name):
    with pytest.raises(ac.ShapeError, match=rf"scorer '{name}' .* L, 3\) and key \(\.\.\., S, 4\)"):
        ac.attend(np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 1)), scorer=name)


def test_arrays_that_do_not_fit_the_weights_are_refused():
    scorer = ac.make_scorer("gatv2", query_dim=3, key_dim=4, hidden_dim=2, rng=0)
    with pytest.raises(ac.ShapeError, match=r"has weights for \(Dq, Dk\) = \(3, 4\), got"):
        ac.attend(np.ones((2, 4)), np.ones((2, 4)), np.ones((2, 1)), scorer=scorer)


def test_the_readme_runs():
    assert doctest.testfile(str(README), module_relative=False).failed == 0


def test_the_readme_lists_everything_as_it_is_registered():
    rows = [
        [cell.strip(" `") for cell in row.replace(r"\|", "¦").strip("|").split("|")]
        for row in README.read_text().splitlines()
        if row.startswith("| `")
    ]
    assert [[row[0], row[1].replace("¦", "|")] for row in rows] == [
        ["` = `".join([info.name, *info.aliases]), info.formula] for info in (*SCORERS, *OTHERS)
    ]
    for row, info in zip(rows, (*SCORERS, *OTHERS), strict=True):
        authors, _, identifier = info.reference.rpartition(", ")
        assert row[3].startswith(f"{authors}, [{identifier}]")


def test_listing_the_scorers_imports_no_mathematics():
    code = """
import sys, attention_core
before = set(sys.modules)
attention_core.scorers()
print(*sorted(name for name in sys.modules if "kernels" in name))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["attention_core_kernels", "attention_core_kernels.hooks"]
