"""Facts about the project agree in all files that state them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
GATE = (ROOT / ".ci" / "run").read_text("utf-8")
STEPS = re.findall(r"^step_(\w+)\(\)", GATE, re.MULTILINE)
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]


def workflow(name):
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8"))


def test_the_oldest_dependencies_that_ci_installs_are_the_lower_bounds():
    lines = (ROOT / ".ci" / "oldest.txt").read_text().splitlines()
    pins = dict(line.removesuffix(".*").split("==") for line in lines if not line.startswith("#"))
    needed = [Requirement(line) for line in PROJECT["dependencies"]]
    assert pins == {need.name: str(need.specifier).removeprefix(">=") for need in needed}


def test_users_see_no_tools_of_developers_among_the_extras():
    tools = {"dev", "test", "lint", "docs", "bench", "peers", "browser"}
    assert tools == set(PYPROJECT["dependency-groups"])
    assert not tools & set(PROJECT["optional-dependencies"])


# ------------------------------------------------------------------------------ versions of Python


def test_the_versions_of_python_are_the_same_everywhere():
    classifiers = [
        found[1]
        for line in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    ]
    assert classifiers == VERSIONS
    matrix = workflow("tests")["jobs"]["suite"]["strategy"]["matrix"]
    assert matrix["python"] == VERSIONS
    assert matrix["include"] == [{"python": f"{VERSIONS[-1]}t", "system": "ubuntu-latest"}]
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(f">={VERSIONS[0]}")
    assert f"python{VERSIONS[-1]}" in GATE


def test_a_python_that_is_too_old_is_told_before_anything_is_resolved(tmp_path):
    hook = (ROOT / "hatch_build.py").read_text("utf-8")
    assert f"OLDEST = ({VERSIONS[0].replace('.', ', ')})\n" in hook
    assert "custom" in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]
    # an interpreter older than the required version
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "a"\nversion = "1"\n[tool.hatch.metadata.hooks.custom]\n'
    )
    (tmp_path / "hatch_build.py").write_text(hook.replace("(3, 11)", "(4, 0)"))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("attention-core needs Python 4.0 or newer; this is Python 3.")


# ---------------------------------------------------------------------------------------- the gate


def test_the_steps_of_the_gate_are_named_once_and_run_by_all():
    listed = subprocess.run(
        ["bash", ROOT / ".ci" / "run", "--list"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert sorted(listed) == sorted(STEPS)
    recipes = re.findall(r"^(\w+):\n    (.*)$", (ROOT / "justfile").read_text(), re.MULTILINE)
    assert {name for name, _ in recipes} == {"all", *STEPS}
    for name, command in recipes[1:]:
        assert command.split("bash ")[1] == f".ci/run {name}"
    steps = workflow("tests")["jobs"]["gate"]["strategy"]["matrix"]["step"]
    assert {*steps, "newest", "suite"} == set(STEPS)


def test_a_step_that_is_not_there_is_an_error():
    done = subprocess.run(["bash", ROOT / ".ci" / "run", "lnit"], capture_output=True, text=True)
    assert (done.returncode, "no step 'lnit'" in done.stdout) == (2, True)


def test_a_step_that_cannot_run_here_says_so():
    done = subprocess.run(
        ["bash", ROOT / ".ci" / "run", "newest"],
        env={"NEWEST": "python3.999", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "SKIPPED: there is no python3.999 here" in done.stdout


@pytest.mark.parametrize("name", ["tests", "docs", "release"])
def test_workflows_run_steps_that_exist(name):
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8")
    for job in workflow(name)["jobs"].values():
        assert {"runs-on", "steps"} <= set(job)
    called = re.findall(r"bash \.ci/run (\w+)", text)
    assert set(called) <= set(STEPS)
    assert "bash .ci/run" in text


def test_a_test_skipped_in_every_environment_fails_the_gate(tmp_path):
    (tmp_path / "test_a.py").write_text(
        "import pytest\n"
        "def test_runs(): pass\n"
        "@pytest.mark.slow\ndef test_slow(): pass\n"
        "def test_needs(): pytest.importorskip('no_such_package')\n"
    )
    (tmp_path / "test_b.py").write_text(
        "import pytest\nno = pytest.importorskip('no_such_package')\ndef test_it(): pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    names = tmp_path / "skipped"

    def run(*options):
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "skips", *options],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT / ".ci"), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )

    assert run("-m", "not slow", f"--skips-to={names}").returncode == 0
    assert names.read_text().split() == ["test_a.py::test_needs", "test_b.py"]
    failed = run(f"--slow-and={names}", "--no-skips")
    assert failed.returncode == 1
    assert "skipped in every environment" in failed.stdout
    assert "test_b.py: " in failed.stdout
    (tmp_path / "no_such_package.py").touch()
    passed = run(f"--slow-and={names}", "--no-skips")
    assert passed.returncode == 0, passed.stdout
    assert "3 passed, 1 deselected" in passed.stdout


# ------------------------------------------------------------------------------- files for others


def test_the_citation_has_the_version_and_the_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["title"] == PROJECT["name"]


def test_a_report_of_a_bug_asks_for_the_installed_scorers():
    form = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text("utf-8")
    assert "attention-core scorers --json" in form
    fields = [field["id"] for field in yaml.safe_load(form)["body"]]
    assert fields == ["example", "seen", "scorers", "system"]


def test_hooks_before_a_commit_are_tools_of_the_group_lint():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    tools = {hook["entry"].split()[0] for repo in config["repos"] for hook in repo["hooks"]}
    lint = {Requirement(line).name for line in PYPROJECT["dependency-groups"]["lint"]}
    assert tools == {"ruff", "mypy", "codespell"}
    assert tools <= lint
