"""``attention-core new-plugin``: the project works unchanged, and nothing is overwritten."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import time
import tomllib

import fakes
import numpy as np
import pytest
from fakes import SCORER, hooks
from projects import ROOT, Environment, build
from typer.testing import CliRunner

import attention_core as ac
from attention_core.cli.app import app
from attention_core.fitting import fit
from attention_core.registry import default
from attention_core.testing import check_gradients, check_plugin

install = fakes.install
FILES = [
    "README.md",
    "pyproject.toml",
    "src/attention_core_city_block/__init__.py",
    "src/attention_core_city_block/hooks.py",
    "src/attention_core_city_block/py.typed",
    "src/attention_core_city_block/scorer.py",
    "tests/test_city_block.py",
]


@pytest.fixture
def run(install, tmp_path, monkeypatch):
    """Run the command in an empty folder, with a separate registry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default, "_default", None)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, ["new-plugin", *arguments])
        assert result.exit_code == code, result.output
        return result

    yield run
    for name in [name for name in sys.modules if name.startswith("attention_core_city_block")]:
        del sys.modules[name]


def written(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_it_writes_a_project_and_says_what_is_next(run, tmp_path):
    output = run("city_block").stdout
    project = tmp_path / "attention-core-city-block"
    assert written(project) == FILES
    first, *rest = output.splitlines()
    assert sorted(first.partition(": ")[2].split(", ")) == FILES
    assert rest == [
        "next:",
        "  cd attention-core-city-block",
        "  python -m pip install -e '.[test]'",
        "  python -m pytest",
        "  attention-core check attention_core_city_block.hooks",
    ]


def test_names_are_as_the_conventions_say(run, tmp_path):
    run("city_block")
    project = tmp_path / "attention-core-city-block"
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["name"] == "attention-core-city-block"
    assert metadata["entry-points"] == {
        "attention_core": {"city_block": "attention_core_city_block.hooks"}
    }
    assert f"attention-core>={'.'.join(ac.__version__.split('.')[:2])}" in metadata["dependencies"]
    assert "\nclass CityBlockScorer(Scorer):" in (project / FILES[5]).read_text()
    assert not [p for p in FILES if re.search(r"\$\w", (project / p).read_text())]
    assert all(len(line) <= 100 for p in FILES for line in (project / p).read_text().splitlines())


def test_it_overwrites_nothing(run, tmp_path):
    (tmp_path / "attention-core-city-block").mkdir()
    assert run("city_block", code=2).stderr == (
        "error: 'attention-core-city-block' already exists; nothing was written\n"
    )
    assert written(tmp_path) == []


@pytest.mark.parametrize("name", ["City", "city-block", "2d", "city block", "", "../city", "é"])
def test_names_that_cannot_be_used(run, tmp_path, name):
    assert run(name, code=2).stderr == (
        f"error: scorer name {name!r} must be lower-case letters, digits and underscores, "
        "beginning with a letter; the package will be called attention-core-NAME\n"
    )
    assert written(tmp_path) == []


@pytest.mark.parametrize("kind", ["normalizer", "bias"])
def test_normalizers_and_biases_pass_the_kit(run, tmp_path, monkeypatch, kind):
    run("city_block", "--kind", kind)
    project = tmp_path / "attention-core-city-block"
    names = [name.replace("/scorer.py", f"/{kind}.py") for name in FILES]
    assert written(project) == sorted(names)
    texts = [(project / name).read_text() for name in names]
    assert not [text for text in texts if re.search(r"\$\w", text)]
    lines = [text.splitlines() for name, text in zip(names, texts, strict=True) if ".py" in name]
    assert all(len(line) <= 100 for own in lines for line in own)
    monkeypatch.syspath_prepend(project / "src")
    report = check_plugin("attention_core_city_block.hooks")
    assert f"\n{kind} 'city_block'\n" in str(report)


def test_kinds_that_cannot_be_written(run):
    assert run("fade", "--kind", "mask", code=2).stderr == (
        "error: --kind must be scorer, normalizer or bias, got 'mask'\n"
    )
    assert run("fade", "--kind", "bias", "--trainable", code=2).stderr == (
        "error: --trainable goes with scorers; the bias of the template has gradients\n"
    )
    assert run("alibi", "--kind", "bias", code=2).stderr == (
        f"error: bias name 'alibi' is taken by attention-core {ac.__version__}; choose another\n"
    )


@pytest.mark.parametrize("name", ["dot", "luong"])
def test_bundled_names_are_taken(run, tmp_path, name):
    assert run(name, code=2).stderr == (
        f"error: scorer name {name!r} is taken by attention-core {ac.__version__}; choose another\n"
    )
    assert written(tmp_path) == []


def test_the_names_of_other_plugins_are_taken(run, install):
    install(hooks=hooks("name='rbf', factory='acme_attention.rbf:FakeScorer'"), rbf=SCORER)
    assert run("rbf", code=2).stderr == (
        "error: scorer name 'rbf' is taken by acme-attention 0.3; choose another\n"
    )


def test_a_trainable_scorer_passes_the_kit_and_learns(run, tmp_path, monkeypatch):
    output = run("city_block", "--trainable").stdout
    assert output.splitlines()[-1] == "  attention-core check attention_core_city_block.hooks"
    project = tmp_path / "attention-core-city-block"
    assert written(project) == FILES
    assert not [p for p in FILES if re.search(r"\$\w", (project / p).read_text())]
    assert all(len(line) <= 100 for p in FILES for line in (project / p).read_text().splitlines())
    monkeypatch.syspath_prepend(project / "src")
    scorer = importlib.import_module("attention_core_city_block.scorer").make_city_block(dim=3)
    check_gradients(scorer)
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 40, 3))
    target = ac.attend(query, key, key, scorer=scorer.with_parameters({"scale": [2.0, 0.5, 0.0]}))

    def loss(scorer):
        result = ac.attend(query, key, key, scorer=scorer)
        difference = result.context - target.context
        return (difference**2).sum() / 2, result.vjp(difference)

    fitted = fit(scorer, loss, tol=1e-9).scorer
    np.testing.assert_allclose(abs(fitted.scale), [2.0, 0.5, 0.0], atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [[], ["--trainable"], ["--kind", "normalizer"], ["--kind", "bias"]]
)
def test_the_project_passes_untouched_in_a_fresh_environment(run, tmp_path, options):
    started = time.perf_counter()
    run("city_block", *options)
    project = tmp_path / "attention-core-city-block"
    for source in (ROOT, project):
        build(source, tmp_path / "wheels", "-t", "wheel")
    environment = Environment(tmp_path)
    environment.install(*(tmp_path / "wheels").glob("*.whl"))

    tests = environment.run("python", "-m", "pytest", "-c", project / "pyproject.toml", project)
    assert re.search(r"= \d+ passed in ", tests)
    for subject in ("attention_core_city_block.hooks", "city_block"):
        report = environment.run("attention-core", "check", subject)
        assert re.search(r"\n\d+ passed\n$", report)
        assert "(attention-core-city-block 0.1.0)" in report
    readme = (project / "README.md").read_text()
    environment.run("python", "-W", "error", "-m", "doctest", project / "README.md")
    (attend,) = re.findall(r"^attention-core (attend .*)$", readme, flags=re.MULTILINE)
    environment.run("python", "-c", """
import numpy as np
np.savez("arrays.npz", query=np.eye(3), key=np.eye(3), value=np.eye(3))
""")  # fmt: skip
    environment.run("attention-core", *shlex.split(attend))
    assert (environment.folder / "context.npy").exists()
    assert time.perf_counter() - started < 120
