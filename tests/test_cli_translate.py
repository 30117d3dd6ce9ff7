"""``attention-core demo translate``: what it answers, draws and refuses."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

from attention_core.cli.app import app
from attention_core.demo.translate.picture import as_text, draw, is_day
from attention_core.demo.translate.read import Translation, translate
from attention_core.demo.translate.store import load_trained


@pytest.fixture(scope="module")
def found():
    (found,) = translate(load_trained(), ["mardi 3 juin 1997"])
    return found


def run(*arguments, code=0, **env):
    result = CliRunner().invoke(app, ["demo", *map(str, arguments)], env=env)
    assert result.exit_code == code, result.output
    return result


# --- in the terminal ---


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_answer_and_its_alignment(width):
    lines = run("translate", "12 juin  2024", COLUMNS=str(width)).stdout.splitlines()
    assert lines[0] == "12 juin 2024 = 2024-06-12"
    assert "".join(lines[2].split()) == "12␣juin␣2024"
    rows = [line for line in lines if "│" in line]
    assert [row.split()[0] for row in rows] == list("2024-06-12")
    assert all(len(line) <= width for line in lines)
    # the first digit was read from the first of the year
    start, place = rows[0].index("│") + 1, lines[2].index("2", 15)
    assert rows[0][start:].index("█") == place - start == 8 * (1 if width < 80 else 2)
    assert "it learned that with the dates" in " ".join(" ".join(lines).split())


def test_without_the_signs_of_unicode(found):
    plain = as_text(found, ascii_only=True)
    assert "@@" in plain
    assert "█" not in plain


def test_a_day_that_is_not_there():
    output = run("translate", "31 février 2024").stdout
    assert output.startswith("31 février 2024 = 2024-02-31: there is no such day\n")


@pytest.mark.parametrize(("iso", "there_is"), [("2024-02-29", True), ("1997-19-17", False)])
def test_days(iso, there_is):
    assert is_day(iso) == there_is


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to read: give a date, such as '12 juin 2024'"),
        ("9" * 41, "cannot read 41 characters: a date has up to 40, such as '12 juin 2024'"),
        (
            "12 июня 2024",
            "cannot read 'и' in '12 июня 2024'; dates are written in English, French or German",
        ),
    ],
)
def test_what_it_cannot_read(text, message):
    result = run("translate", text, code=2)
    assert result.stderr == f"error: {message}\n"
    assert result.stdout == ""


def test_the_digits_keep_their_options_to_themselves():
    result = run("--json", "translate", "12 juin 2024", code=2)
    assert result.stderr == (
        "error: --save and --json belong to the digits; "
        "see `attention-core demo translate --help`\n"
    )
    assert "translate" in run("--help").stdout
    assert run("read", "12 juin 2024", code=2).stderr


def test_it_answers_at_once():
    """No plugin of the digits, no optimizer and no matplotlib is imported for an answer."""
    code = (
        "import sys; from attention_core.cli.app import app\n"
        "try: app(['demo', 'translate', '12 juin 2024'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'matplotlib', 'scipy.optimize', 'attention_core.demo.translate.train'}"
        " & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "2024-06-12" in done.stdout


# --- as a picture ---


def test_the_picture_has_characters_on_both_axes(found):
    figure = draw(found)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list("1997-06-03")
    assert "".join(label.get_text() for label in axes.get_xticklabels()) == "mardi␣3␣juin␣1997"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("read", "written")
    (mesh,) = (each for each in axes.collections if each.get_array() is not None)
    np.testing.assert_allclose(np.ravel(mesh.get_array()), found.weights.ravel(), rtol=1e-6)
    assert mesh.get_clim() == (0, 1)  # so that pictures of two dates can be compared
    assert axes.get_title(loc="left") == "" or "1997-06-03" in axes.get_title(loc="left")


@pytest.mark.parametrize("text", ["3.6.97", "Wednesday, the 23rd of September, 1997"])
def test_nothing_in_the_picture_is_cut(text):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    (found,) = translate(load_trained(), [text])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(found)
        figure.savefig(io.BytesIO())
    FigureCanvasAgg(figure).draw()
    texts = [each for each in figure.findobj(Text) if each.get_text() and each.get_visible()]
    assert any(each.get_text() == f"{text} = {found.iso}" for each in texts)
    for each in texts:
        box = each.get_window_extent()
        assert figure.bbox.x0 <= box.x0, each.get_text()
        assert box.x1 <= figure.bbox.x1, each.get_text()
        assert figure.bbox.y0 <= box.y0, each.get_text()
        assert box.y1 <= figure.bbox.y1, each.get_text()


def test_the_picture_on_the_command_line(tmp_path):
    path = tmp_path / "alignment.svg"
    output = run("translate", "mardi 3 juin 1997", "--plot", path).stdout
    assert output.endswith(f"The picture is in {path}.\n")
    assert "mardi 3 juin 1997 = 1997-06-03" in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xyz", "cannot write 'a.xyz': the name must end in .png or .svg or .pdf"),
        ("no/a.png", "cannot write 'no/a.png': there is no folder 'no'"),
    ],
)
def test_a_picture_that_cannot_be_written(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    assert run("translate", "3.6.97", "--plot", name, code=2).stderr == f"error: {message}\n"


def test_a_picture_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("translate", "3.6.97", "--plot", tmp_path / "a.png", code=2)
    assert result.stderr == (
        "error: drawing needs matplotlib: pip install 'attention-core[plot]'\n"
    )
    assert run("translate", "3.6.97").stdout.startswith("3.6.97 = 1997-06-03")


def test_any_alignment_can_be_drawn():
    one = Translation("3", "1997-06-03", np.ones((10, 1), np.float32), 0.5)
    assert draw(one).axes
    assert as_text(one)
