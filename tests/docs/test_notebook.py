"""The notebook of the tutorial runs from beginning to end, and hides its solutions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from site_extensions import DOCS

NOTEBOOK = json.loads((DOCS / "tutorial" / "theory-to-practice.ipynb").read_text("utf-8"))
CELLS = [("".join(cell["source"]), cell) for cell in NOTEBOOK["cells"]]


def test_every_exercise_has_a_hidden_solution():
    exercises = [place for place, (text, _) in enumerate(CELLS) if "**Exercise" in text]
    assert len(exercises) == 5
    for number, place in enumerate(exercises, start=1):
        assert f"**Exercise {number}.**" in CELLS[place][0]
        assert CELLS[place + 1][0].strip() == "# your turn"
        assert CELLS[place + 2][1]["metadata"] == {
            "tags": ["hide-cell"],
            "jupyter": {"source_hidden": True, "outputs_hidden": True},
        }


def test_no_output_is_kept_in_it():
    for _, cell in CELLS:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_formulas_need_no_network():
    """The site would load a TeX renderer from another server."""
    assert [text for text, cell in CELLS if cell["cell_type"] == "markdown" and "$" in text] == []


@pytest.mark.slow
def test_it_runs(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names = {"__name__": "__main__"}
    with np.printoptions():  # which it sets for itself
        for text, cell in CELLS:
            if cell["cell_type"] == "code":
                exec(compile(text, cell["id"], "exec"), names)
    printed = capsys.readouterr().out
    assert "general before 0.15, learned 1.00" in printed
    assert "mardi 3 juin 1997 -> 1997-06-03" in printed
