"""The README is correct: its files work, its examples run, its tables agree.

A block whose first line is `# some/path` is written to that file. All other Python blocks
are run as doctests, each in a separate interpreter, so each can be pasted alone.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from projects import ROOT, build

import attention_core as ac

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
FILES = {
    found[1]: body
    for language, body in BLOCKS
    if (found := re.match(r"# (\S+\.(?:toml|json|py))\n", body))
}
EXAMPLES = [
    body for language, body in BLOCKS if language == "python" and body not in FILES.values()
]
COMMANDS = dict(re.findall(r"^<!-- ci: (\w+) -->\n```sh\n(.*)\n```$", README, flags=re.MULTILINE))
SHELL = [body for language, body in BLOCKS if language == "sh" and "python3" not in body]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The README's files, and its package as an installed distribution in `site`."""
    folder = tmp_path_factory.mktemp("readme")
    for name, body in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    assert "an empty `acme_attention/__init__.py`" in README
    (folder / "acme-attention" / "acme_attention" / "__init__.py").touch()
    build(folder / "acme-attention", folder, "-t", "wheel")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder


def test_the_scan_found_the_blocks():
    assert {language for language, _ in BLOCKS} == {"python", "sh", "toml"}
    assert README.count("```") == 2 * len(BLOCKS)
    assert len(FILES) >= 4
    assert len(EXAMPLES) >= 4
    assert all(">>>" in example for example in EXAMPLES)
    assert set(COMMANDS) == {"demo", "test"}
    assert len(SHELL) == 1


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_runs(folder, example):
    script = folder / "example.txt"
    script.write_text(example)
    path = [str(folder / "site")] if "rbf" in example else []
    path += filter(None, [os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "doctest", script],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("line", "".join(SHELL).splitlines())
def test_every_command_runs(folder, line):
    x = np.random.default_rng(0).normal(size=(3, 4, 8))
    np.savez(folder / "arrays.npz", query=x[0], key=x[1], value=x[2])
    command, *arguments = shlex.split(line)
    script = Path(sysconfig.get_path("scripts")) / command
    done = subprocess.run([script, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if "--output" in arguments:
        assert (folder / arguments[-1]).stat().st_size > 0


def test_the_set_up_commands_ask_for_extras_and_groups_that_exist():
    (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", README)
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    groups = re.findall(r"--group (\S+)", README)
    assert groups == ["test", "docs"]
    assert set(groups) <= set(PROJECT["dependency-groups"])


def test_the_table_of_scorers_is_what_is_registered():
    section = README.split("## Bundled scorers")[1].split("\n## ")[0]
    rows = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    assert rows == [
        [info.name, ", ".join(info.aliases), info.formula, info.reference]
        for info in ac.scorers()
        if info.distribution == "attention-core"
    ]


def test_the_accuracies_are_those_of_the_demo(folder):
    script = Path(sysconfig.get_path("scripts")) / "attention-core"
    demo = subprocess.run([script, "demo", "--json"], cwd=folder, check=True, capture_output=True)
    said = dict(re.findall(r"(\w+)\s(0\.\d{3})", README.split("Accuracy on 597")[1].split("]")[0]))
    measured = {row["scorer"]: row["accuracy"] for row in json.loads(demo.stdout)}
    assert {name: float(number) for name, number in said.items()} == pytest.approx(
        measured, abs=6e-4
    )


def test_every_attention_option_is_named():
    from attention_core.options import OPTIONS

    assert [name for name in OPTIONS if f"`{name}`" not in README] == []


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert "LICENSE" in targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
