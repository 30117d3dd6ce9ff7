"""The demonstration: its data, accuracies, output and pictures."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import struct
import subprocess
import sys
import warnings
from importlib.resources import files

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from attention_core import Attention, MissingExtraError, make_scorer
from attention_core.cli.app import app
from attention_core.cli.commands import demo
from attention_core.cli.commands import digits as terminal
from attention_core.demo import choose, parameters, train
from attention_core.demo.classify import ROWS, classify, look
from attention_core.demo.digits import Digits, load_digits
from attention_core.fitting import Fit
from attention_core.parameter_files import read_arrays

DEMO = files("attention_core.demo")
LEAST = {
    "dot": 0.82,
    "scaled_dot": 0.87,
    "general": 0.955,
    "additive": 0.945,
    "general_learned": 0.968,
    "additive_learned": 0.958,
}
LEARNED = ["general", "additive"]


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def outcomes(digits):
    return {row.config: classify(row, digits, runs=1) for row in ROWS}


@pytest.fixture(scope="module")
def closer(digits, outcomes):
    return look(outcomes["additive.toml"], digits, 372)


@pytest.fixture
def measured(outcomes, monkeypatch):
    """Show outcomes that are already computed."""
    monkeypatch.setattr(demo, "classify", lambda row, _: outcomes[row.config])


def run(*arguments, code=0, **env):
    result = CliRunner().invoke(app, ["demo", *map(str, arguments)], env=env)
    assert result.exit_code == code, result.output
    return result


# --- the data ---


def test_the_digits_are_those_of_the_published_file(digits):
    assert digits.images.shape == (1797, 8, 8)
    assert digits.images.dtype == digits.labels.dtype == np.uint8
    assert (digits.images.min(), digits.images.max()) == (0, 16)
    # the first and the last line of optdigits.tes
    assert digits.images[0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert digits.images[-1, -1].tolist() == [0, 1, 8, 12, 14, 12, 1, 0]
    assert (digits.labels[0], digits.labels[-1]) == (0, 8)
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as its description says
    assert np.bincount(digits.labels).tolist() == counts


def test_the_data_comes_with_its_license_and_is_small():
    assert len((DEMO / "data" / "digits.npz").read_bytes()) < 60_000
    text = (DEMO / "data" / "LICENSE-digits.md").read_text()
    for words in ("E. Alpaydin", "C. Kaynak", "10.24432/C50P49", "CC BY 4.0", "Changes:"):
        assert words in text
    assert "https://creativecommons.org/licenses/by/4.0/" in text


def test_keys_values_and_queries(digits):
    assert digits.keys().max() == digits.queries().max() == 1
    assert digits.values().sum(axis=1).tolist() == [1] * 1200
    centered = digits.keys(centered=True)
    np.testing.assert_allclose(centered.mean(axis=0), 0, atol=1e-6)
    difference = digits.queries() - digits.queries(centered=True)
    np.testing.assert_allclose(difference, np.tile(digits.keys().mean(axis=0), (597, 1)), atol=1e-6)


# --- the scorers ---


@pytest.mark.parametrize("name", LEAST)
def test_accuracies(outcomes, name):
    outcome = outcomes[f"{name}.toml"]
    assert outcome.scorer == name.removesuffix("_learned")
    assert outcome.learned == name.endswith("_learned")
    assert outcome.accuracy >= LEAST[name]
    assert outcome.milliseconds > 0


def test_every_row_is_a_shipped_config_and_every_bundled_scorer_is_a_row(outcomes):
    configs = {path.name for path in (DEMO / "configs").iterdir() if path.name.endswith(".toml")}
    assert {row.config for row in ROWS} == configs
    assert {outcome.scorer for outcome in outcomes.values()} == set(LEAST) - {
        f"{name}_learned" for name in LEARNED
    }


@pytest.mark.parametrize("name", LEARNED)
def test_learning_helps(outcomes, name):
    assert outcomes[f"{name}_learned.toml"].accuracy > outcomes[f"{name}.toml"].accuracy


@pytest.mark.parametrize("name", ["general", pytest.param("additive", marks=pytest.mark.slow)])
def test_the_learned_parameters_are_what_the_program_learns(digits, name):
    # iterations amplify rounding, so another BLAS gives slightly different parameters
    learned = getattr(train, f"learn_{name}")(digits).scorer
    shipped = read_arrays(str(DEMO / "configs" / f"{name}_learned.npz"))
    assert shipped.keys() == learned.parameters.keys()
    for key, array in learned.parameters.items():
        away = np.linalg.norm(shipped[key] - array) / np.linalg.norm(array)
        assert away < 0.05, key
    centered = name == "general"
    context = Attention(learned)(
        digits.queries(centered=centered), digits.keys(centered=centered), digits.values()
    ).context
    right = (context.argmax(axis=-1) == digits.labels[1200:]).sum()
    # additive is at its limit, and a borderline image may go either way
    assert right + 1 >= LEAST[f"{name}_learned"] * 597


@pytest.mark.slow
def test_nothing_is_learned_from_the_queries(digits):
    blank = np.concatenate([digits.images[:1200], np.zeros((597, 8, 8), np.uint8)])
    other = dataclasses.replace(digits, images=blank, labels=digits.labels[:1200])
    first, second = (train.learn_general(each).scorer.weight for each in (digits, other))
    np.testing.assert_array_equal(first, second)


# --- choosing the recipes ---


def test_quarters_are_of_the_keys_alone(digits):
    numbered = digits.images.copy()
    numbered[:, 0, 0], numbered[:, 0, 1] = np.divmod(np.arange(1797), 256)  # each holds its index
    parts = list(choose.quarters(dataclasses.replace(digits, images=numbered)))
    held_out = []
    for part in parts:
        index = part.images[:, 0, 0].astype(int) * 256 + part.images[:, 0, 1]
        assert sorted(index) == list(range(1200))
        np.testing.assert_array_equal(part.labels, digits.labels[index])
        assert len(part.keys()) == len(part.values()) == 900
        assert len(part.queries()) == 300
        held_out += index[900:].tolist()
    assert held_out == list(range(1200))


def test_cross_validation_counts_what_is_read_wrongly():
    asked = []

    def learn(part, **recipe):
        asked.append((len(part.keys()), recipe))
        return Fit(make_scorer("dot"), (), (), "", True)

    # images that encode one of three labels; seven of them encode the next label
    labels = (np.arange(1797) % 3).astype(np.uint8)
    said = labels.copy()
    said[[0, 5, 299, 300, 601, 900, 1199]] += 1
    images = np.zeros((1797, 8, 8), np.uint8)
    images[np.arange(1797), 0, said % 3] = 255
    wrong, loss = choose.cross_validate(learn, Digits(images, labels), penalty=0.5)
    assert wrong == 7
    assert 0 < loss < 1
    assert asked == [(900, {"penalty": 0.5})] * 4


@pytest.mark.parametrize("learn", choose.RECIPES)
def test_the_recipe_is_one_of_those_that_were_tried(learn):
    signature = inspect.signature(learn).parameters
    for name, tried in choose.RECIPES[learn].items():
        assert signature[name].default in tried
    assert signature["seed"].default == 0


@pytest.mark.parametrize("name", ["general", "additive"])
def test_the_shipped_parameters_are_what_the_program_makes(digits, name):
    shipped = read_arrays(str(DEMO / "configs" / f"{name}.npz"))
    make = getattr(parameters, f"{name}_parameters")
    made = make(digits) if name == "general" else make()
    assert shipped.keys() == made.keys()
    for key, array in made.items():
        assert shipped[key].dtype == array.dtype
        np.testing.assert_allclose(shipped[key].astype(float), array.astype(float), rtol=1e-4)


@pytest.mark.parametrize("seed", [1, 2])
def test_other_random_directions_do_as_well(digits, seed):
    attention = Attention({"name": "additive", **parameters.additive_parameters(seed)})
    context = attention(digits.queries(), digits.keys(), digits.values()).context
    assert (context.argmax(axis=-1) == digits.labels[1200:]).mean() >= LEAST["additive"]


def test_a_closer_look(digits, outcomes, closer):
    weights = outcomes["additive.toml"].result.weights[372]
    best = np.argsort(-weights)[:5]
    np.testing.assert_array_equal(closer.keys, digits.images[best])
    np.testing.assert_array_equal(closer.labels, digits.labels[best])
    np.testing.assert_allclose(closer.weights, weights[best], rtol=1e-4)
    assert closer.context.sum() == pytest.approx(1, abs=1e-5)
    assert closer.answer == closer.truth == 9


# --- printed output ---


def test_json_is_the_table_and_nothing_else():
    rows = json.loads(run("--json").stdout)
    names = [row["scorer"] + row["learned"] * "_learned" for row in rows]
    assert names == list(LEAST)
    for name, row in zip(names, rows, strict=True):
        assert row.keys() == {"scorer", "learned", "accuracy", "milliseconds"}
        assert row["accuracy"] >= LEAST[name]
        assert 0 < row["milliseconds"] < 60_000


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("width", [60, 80, 120])
def test_in_a_pipe(width):
    output = run(COLUMNS=str(width)).stdout
    assert "\x1b" not in output
    assert all(len(line) <= width for line in output.splitlines())
    for word in ("keys", "values", "queries", "weights", "context", "softmax"):
        assert word in output.lower()
    for name in LEAST:
        assert f"\n{name.removesuffix('_learned')} " in output
    assert output.count("the same, learned") == len(LEARNED)
    assert "v . tanh(W_q q + W_k k + b)" in output
    assert "0.951" in output
    assert output.rstrip().endswith("So the query is read as a 9, and is one.")


def printed(closer, **options):
    file = io.TextIOWrapper(io.BytesIO(), encoding=options.pop("encoding", "utf-8"))
    console = Console(file=file, **options)
    terminal.show_look(console, closer)
    file.flush()
    return file.buffer.getvalue().decode(file.encoding)


def test_a_digit_without_color(closer):
    lines = printed(closer, width=120).splitlines()
    assert lines[0].startswith("      ▒▒▓▓██████")
    assert lines[8].split() == ["query", "0.557", "0.181", "0.158", "0.074", "0.010"]
    assert lines[9].split() == ["a", "9", "a", "5", *["a", "9"] * 3]


def test_a_digit_in_ascii(closer):
    output = printed(closer, width=60, encoding="ascii")
    assert output.isascii()
    assert output.startswith("      ++##@@@@@@")


def test_a_digit_in_color_takes_half_the_height(closer):
    color = {"force_terminal": True, "color_system": "truecolor", "width": 60}
    lines = printed(closer, **color).splitlines()
    assert lines[0].count("▀") == 6 * 8
    assert "query" in lines[4]
    black, white = "38;2;24;24;24", "38;2;255;255;255"
    assert black in lines[0]
    assert white in lines[0]


@pytest.mark.parametrize(
    "options", [{"color_system": "standard"}, {"color_system": "truecolor", "no_color": True}]
)
def test_shades_where_there_are_no_grays(closer, options):
    lines = printed(closer, force_terminal=True, width=120, **options).splitlines()
    assert lines[0].startswith("      ▒▒▓▓██████")


def test_a_wrong_answer_says_so(closer):
    output = printed(dataclasses.replace(closer, truth=4), width=80)
    assert output.rstrip().endswith("So the query is read as a 9, but is a 4.")


@pytest.mark.parametrize("width", [1, 20, 40, 60, 300])
def test_any_width_prints(closer, width):
    assert printed(closer, width=width)


# --- pictures ---


@pytest.mark.usefixtures("measured")
def test_the_picture(tmp_path):
    picture = tmp_path / "demo.png"
    result = run("--save", picture)
    assert str(picture) in result.stdout
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 1200
    assert height >= 700
    assert [path.name for path in tmp_path.iterdir()] == ["demo.png"]


def test_the_picture_says_what_the_table_says(outcomes, closer):
    from attention_core.demo.picture import draw

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(list(outcomes.values()), outcomes["additive.toml"], closer)
        figure.savefig(io.BytesIO())
    texts = {text.get_text() for text in figure.findobj() if hasattr(text, "get_text")}
    assert {f"{outcome.accuracy:.3f}" for outcome in outcomes.values()} <= texts
    assert {f"{weight:.3f}" for weight in closer.weights} <= texts
    assert {"query", "a 9", "a 5", *(outcome.title for outcome in outcomes.values())} <= texts
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(images, [closer.query, *closer.keys])


def test_nothing_in_the_picture_overlaps_or_is_cut(outcomes, closer):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    from attention_core.demo.picture import draw

    figure = draw(list(outcomes.values()), outcomes["additive.toml"], closer)
    FigureCanvasAgg(figure).draw()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) > 30
    for text, box in zip(texts, boxes, strict=True):
        inside = figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert inside, text.get_text()
        assert figure.bbox.y0 <= box.y0, text.get_text()
        assert box.y1 <= figure.bbox.y1, text.get_text()
    for i, box in enumerate(boxes):
        for j in range(i):
            overlap = [texts[i].get_text(), texts[j].get_text()]
            assert not box.overlaps(boxes[j]), overlap


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demo.xyz", "cannot write 'demo.xyz': the name must end in .png or .svg or .pdf"),
        ("no/demo.png", "cannot write 'no/demo.png': there is no folder 'no'"),
    ],
)
def test_a_picture_that_cannot_be_written(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    assert run("--save", name, code=2).stderr == f"error: {message}\n"


@pytest.mark.usefixtures("measured")
def test_a_picture_without_matplotlib(tmp_path, outcomes, closer, monkeypatch):
    from attention_core.demo.picture import draw

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError) as error:
        draw(list(outcomes.values()), outcomes["additive.toml"], closer)
    assert str(error.value) == "drawing needs matplotlib: pip install 'attention-core[plot]'"
    result = run("--save", tmp_path / "demo.png", code=2)
    assert result.stderr == f"error: {error.value}\n"
    assert not list(tmp_path.iterdir())


def test_the_program_that_makes_the_parameters(tmp_path):
    code = (
        "from pathlib import Path; from attention_core.demo import parameters; "
        "parameters._write(Path('.'))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["additive.npz", "general.npz"]
