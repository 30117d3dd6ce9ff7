"""The benchmarks run on small sizes; times are not checked."""

import io
import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def _importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)  # the benchmarks are not installed
        yield


@pytest.fixture(scope="module")
def results(_importable, tmp_path_factory):
    """One small case, as if torch were not installed and JAX were broken."""
    from benchmarks import compare
    from benchmarks.cases import CASES

    fakes = tmp_path_factory.mktemp("fakes")
    (fakes / "torch.py").write_text("raise ImportError(\"No module named 'torch'\")")
    (fakes / "jax.py").write_text("raise RuntimeError('no such device')")
    case = next(case for case in CASES if case.name == "additive-512")
    case = replace(case, problem=case.problem.shrunk(), peers=("numpy", "torch", "jax"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(fakes), prepend=":")
        return compare.run([case], seconds=0)


@pytest.mark.slow
def test_numpy_and_ours_agree_on_every_case():
    from benchmarks.cases import CASES
    from benchmarks.worker import prepare

    for case in CASES:
        problem = case.problem.shrunk()
        if problem.is_training:
            pytest.importorskip("torch")
        _, ours, facts = prepare("ours", problem)
        assert facts["version"]
        if "numpy" in case.peers:
            _, theirs, _ = prepare("numpy", problem)
            np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3, err_msg=case.name)
        for name in {"ours_full", "ours_half"}.intersection(case.peers):
            prepare(name, problem)


def test_a_peer_of_ours_that_cannot_be_imported_is_no_absent_one(monkeypatch, tmp_path):
    from benchmarks import worker
    from benchmarks.cases import CASES

    def broken(*_):
        from attention_core.attention import attend_plainly  # noqa: F401

    monkeypatch.setattr(worker, "prepare", broken)
    problem = json.dumps(asdict(CASES[0].problem))
    monkeypatch.setattr("sys.stdin", io.StringIO(problem))
    with pytest.raises(ImportError, match="attend_plainly"):
        next(worker.serve("ours", tmp_path / "result.npy"))


def test_a_run_has_times_for_those_who_took_part(results):
    outcomes = results["cases"]["additive-512"]
    assert outcomes["ours"]["median"] > 0
    assert outcomes["numpy"]["median"] > 0
    assert outcomes["numpy"]["difference"] < 1e-5
    assert outcomes["torch"] == {"absent": "No module named 'torch'"}
    assert outcomes["jax"] == {"failed": "RuntimeError: no such device"}


def test_a_run_becomes_tables(results):
    from benchmarks import report

    text = report.comparison(results)
    assert "- torch: absent (No module named 'torch')" in text
    times = next(line for line in text.splitlines() if line.startswith("| additive, L=S=512"))
    assert times.endswith("| not measured |")  # the limit refers to an absent peer
    assert "| absent | failed |" in text


def test_a_run_becomes_a_picture(results, tmp_path):
    from benchmarks import plots

    plots.draw_comparison(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.slow
def test_growth_becomes_a_table_and_a_picture(tmp_path):
    from benchmarks import plots, report, scaling

    (series,) = (each for each in scaling.SERIES if "window" in each.title)
    results = scaling.run([replace(series, sizes=(8, 16), peers=("numpy",))], seconds=0)
    assert "| L=S=16 |" in report.growth(results)
    plots.draw_scaling(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_other_numbers_than_ours_are_not_timed(tmp_path):
    from benchmarks.measure import compare

    ours, theirs = tmp_path / "ours.npy", tmp_path / "theirs.npy"
    np.save(ours, np.ones(3))
    np.save(theirs, np.array([1, 1, 1.5]))
    assert compare(ours, theirs, "float32")["disagrees"] == "differs from ours by 5.0e-01"
    np.save(theirs, np.array([1, 1, np.nan]))
    assert "disagrees" in compare(ours, theirs, "float32")
    np.save(theirs, np.array([1, 1, 1.00001]))
    assert "disagrees" not in compare(ours, theirs, "float32")


def test_the_page_shows_the_kept_results():
    from benchmarks import report

    page = report.PAGE.read_text()
    assert report.filled(page) == page, "run python -m benchmarks.report"


def test_small_calls_agree_with_numpy_and_become_a_table(capsys):
    from benchmarks import small_calls

    cases = small_calls.make_cases()
    assert len(cases) == 10
    for case in cases:
        np.testing.assert_allclose(case.ours(), case.plain(), rtol=1e-4, atol=1e-5)
    with suppress(SystemExit):  # a time from one turn is not reliable
        small_calls.main(["--turns", "1"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {case.name}" for case in cases]


def test_small_calls_fail_for_a_case_above_its_limit(monkeypatch):
    from benchmarks import small_calls

    first, second, *_ = small_calls.make_cases()
    cases = [first._replace(at_most=1e9), second._replace(at_most=1e-9)]
    monkeypatch.setattr(small_calls, "make_cases", lambda: cases)
    with pytest.raises(SystemExit, match=f"^above their limits: {second.name}$"):
        small_calls.main(["--turns", "1"])


def test_components_are_measured(capsys, monkeypatch):
    from benchmarks import components

    with suppress(SystemExit):  # a time from one turn is not reliable
        components.main(["--length", "64", "--long", "128", "--turns", "1"])
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row[:20].strip() for row in rows] == list(components.CASES)
    monkeypatch.setattr(components, "MOST_MEMORY", 0.0)
    with pytest.raises(SystemExit, match=r"above its limit: softmax, .*, t5$"):
        components.main(["--length", "64", "--long", "128", "--turns", "1"])
