"""``attention-core demo translate``: answers, pictures and errors."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

from attention_core.cli.app import app
from attention_core.cli.commands.translate import _certainty
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
    assert re.fullmatch(r"12 juin 2024 = 2024-06-12 \(9\d% certain\)", lines[0])
    assert "".join(lines[2].split()) == "12␣juin␣2024"
    rows = [line for line in lines if "│" in line]
    assert [row.split()[0] for row in rows] == list("2024-06-12")
    assert all(len(line) <= width for line in lines)
    # the first digit comes from that of the year
    start, place = rows[0].index("│") + 1, lines[2].index("2", 15)
    assert rows[0][start:].index("█") == place - start == 8 * (1 if width < 80 else 2)
    assert "it learned that with the dates" in " ".join(" ".join(lines).split())


def test_without_the_signs_of_unicode(found):
    plain = as_text(found, ascii_only=True)
    assert "@@" in plain
    assert "█" not in plain


def test_a_date_needs_no_quotes():
    quoted = run("translate", "Jun 3, 97").stdout
    assert run("translate", "Jun", "3,", "97").stdout == quoted


@pytest.mark.parametrize(
    ("text", "iso", "doubt"),
    [
        ("31 février 2024", "2024-02-31", ""),
        ("06/13/1997", "1997-13-06", "; 1997-06-13 is written 13/06/1997"),
        ("2024-13-01", "2024-13-01", "; 2024-01-13 is written 13/01/2024"),
    ],
)
def test_a_day_that_is_not_there(text, iso, doubt):
    lines = run("translate", text, code=1).stdout.splitlines()
    answer, what = lines[0].split(": ")
    assert re.fullmatch(rf"{text} = {iso} \(\d\d% certain\)", answer)
    assert what == "there is no such day" + doubt
    assert lines[-1].endswith("the dates.")


FORMS = """\
  English  June 12, 2024; 12th of June 2024; Wed, 12 Jun 2024
  French   12 juin 2024; mercredi 12 juin 2024; 12 juin 24
  German   12. Juni 2024; Mittwoch, den 12. Juni 2024; 12. Jun 24
  numbers  12/06/2024; 12.6.24; 2024-06-12
"""


@pytest.mark.parametrize("text", ["hello", "the meaning of life", "mardi", "2024", "May 97"])
def test_answers_to_other_texts_are_called_guesses(text):
    result = run("translate", text, code=1)
    answer, *_ = result.stdout.splitlines()
    found = re.fullmatch(rf"{text} = [\d-]{{10}} \((\d+)% certain\): a guess", answer)
    assert found, answer
    assert int(found[1]) < 75
    assert "│" in result.stdout  # the alignment
    assert result.stdout.endswith(
        "\n\nThis does not look like a date in a format that the network has learned, such as\n"
        "these; in numbers, the day comes before the month.\n\n" + FORMS
    )
    assert result.stderr == ""


def test_the_forms_that_are_named_are_known():
    texts = [text.strip() for line in FORMS.splitlines() for text in line[11:].split(";")]
    found = translate(load_trained(), texts)
    assert len(texts) == 12
    assert {each.iso for each in found} == {"2024-06-12"}
    assert all(each.is_sure for each in found)


def test_nothing_is_certain():
    assert _certainty(Translation("3", "1997-06-03", np.ones((10, 1)), 1.0)) == "99% certain"
    assert _certainty(Translation("3", "1997-06-03", np.ones((10, 1)), 0.8999)) == "89% certain"


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
            "cannot read 'и', 'ю', 'н', 'я' in '12 июня 2024': dates in English, French, German "
            "or numbers, such as '12 juin 2024', have no such character",
        ),
    ],
)
def test_unreadable_texts(text, message):
    result = run("translate", text, code=2)
    assert result.stderr == f"error: {message}\n"
    assert result.stdout == ""


def test_the_digits_keep_their_options_to_themselves():
    result = run("--json", "translate", "12 juin 2024", code=2)
    assert result.stderr == (
        "error: --save, --html and --json before translate belong to the digits; "
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


@pytest.mark.parametrize("text", ["3.6.97", "hi", "Wednesday, the 23rd of September, 1997"])
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
    doubt = "" if found.is_sure else "?"
    assert any(each.get_text() == f"{text} = {found.iso}{doubt}" for each in texts)
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


def test_the_picture_of_a_guess(tmp_path):
    path = tmp_path / "guess.svg"
    output = run("translate", "hello", "--plot", path, code=1).stdout
    assert output.endswith(f"The picture is in {path}.\n")
    assert re.search(r"hello = [\d-]{10}\?", path.read_text("utf-8"))


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
