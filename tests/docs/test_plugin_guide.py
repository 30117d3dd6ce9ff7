"""`plugins/README.md` is complete, and its steps work in a fresh environment.

Commands run in order, each in the folder that the last one changed to. A block whose first line is
the path of a file is written there or appended to it; in TOML, it is a part of an existing file.
Examples with prompts are one Python session. Text is the output of the commands before it.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
from fnmatch import fnmatchcase

import pytest
from projects import ROOT, Environment, build

from attention_core import Scorer, ScorerSpec, hookspecs
from attention_core.testing import kit

GUIDE = (ROOT / "plugins" / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
SESSION = "".join(body for language, body in BLOCKS if body.startswith(">>> "))


def test_the_scan_found_the_blocks():
    assert GUIDE.count("```") == 2 * len(BLOCKS)
    assert {language for language, _ in BLOCKS} == {"python", "sh", "text", "toml"}
    for language, body in BLOCKS:
        assert language in {"sh", "text"} or body.startswith(("# ", ">>> "))


def test_every_hook_is_there_with_its_signature():
    hooks = [getattr(hookspecs, name) for name in hookspecs.__all__]
    hooks = [hook for hook in hooks if hasattr(hook, f"{hookspecs.GROUP}_spec")]
    assert hooks
    for hook in hooks:
        signature = str(inspect.signature(hook)).replace("'", "")
        assert f"\n    def {hook.__name__}{signature}\n" in GUIDE


def test_every_field_of_a_description_is_used():
    (hooks_module,) = [body for _, body in BLOCKS if "/hooks.py\n" in body]
    for field in ScorerSpec.__dataclass_fields__:
        assert f"        {field}=" in hooks_module


def test_everything_a_scorer_may_define_is_there():
    methods = {name for name in vars(Scorer) if not name.startswith("_")} - {"kind"}
    assert {"score", "score_pairs", "score_vjp"} <= methods
    assert [name for name in sorted(methods) if not re.search(rf"[`.]{name}\b", GUIDE)] == []


def test_the_table_of_checks_is_that_of_the_kit():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", GUIDE, flags=re.MULTILINE)
    claims = {k: [(rule.name, rule.claim) for rule in rules] for k, rules in kit.RULES.items()}
    found = dict.fromkeys(row for row in rows if row in claims["scorer"])  # kinds share some
    assert list(found) == claims["scorer"]
    for kind in ("normalizer", "bias"):  # which share those of objects
        assert [own for own in claims[kind] if own not in rows] == []


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh environment with our wheel, where pip needs no network."""
    folder = tmp_path_factory.mktemp("guide")
    build(ROOT, folder, "-t", "wheel")
    environment = Environment(folder)
    environment.install(*folder.glob("*.whl"))
    return environment


class Reader:
    """Follows the guide and its changes of folder."""

    def __init__(self, environment):
        self.folder = environment.folder
        path = os.pathsep.join([str(environment.scripts), os.environ["PATH"]])
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ATTENTION"))}
        self.variables = kept | {
            "PATH": path,
            "COLUMNS": "100",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # 0 disables the index in this variable
        }
        self.printed = ""

    def sh(self, commands):
        script = f"set -euo pipefail\n{commands}\npwd > .pwd"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.printed = done.stdout
        (here,) = self.folder.rglob(".pwd")
        self.folder = type(self.folder)(here.read_text().strip())
        here.unlink()

    def text(self, expected):
        pattern = "*" + expected.replace("[", "[[]").replace("...\n", "*") + "*"
        assert fnmatchcase(self.printed, pattern), self.printed

    def python(self, body):
        if body.startswith(">>> "):
            return  # the session has a test of its own
        head, _, text = body.partition("\n")
        name, _, place = head.removeprefix("# ").partition(", ")
        path = self.folder / name
        assert path.exists()  # as new-plugin wrote it
        if place:
            assert place == "at the end of the class"
            path.write_text(f"{path.read_text()}\n{text}")
        else:
            path.write_text(text)

    def toml(self, body):
        head, _, text = body.partition("\n")
        path = self.folder / head.removeprefix("# ")
        if path.exists():
            assert text in path.read_text()
        else:
            path.write_text(text)
            self.sh(f"attention-core config check {path.name}")


@pytest.mark.slow
def test_the_guide_can_be_followed(environment):
    reader = Reader(environment)
    for language, body in BLOCKS:
        getattr(reader, language)(body)
    assert sorted(path.suffix for path in (reader.folder / "dist").iterdir()) == [".gz", ".whl"]


@pytest.mark.slow
def test_the_session_runs_as_it_says(environment):
    (environment.folder / "session.txt").write_text(SESSION)
    environment.run("python", "-W", "error", "-m", "doctest", "session.txt")
