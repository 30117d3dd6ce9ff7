"""The documentation is complete, and every page runs as shown.

`.ci/run` builds the site, where a warning, such as that of a broken link, is an error.
"""

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec

import pytest
from projects import ROOT
from site_extensions import DOCS, run_pages, tables

import attention_core as ac
import attention_core.plot
import attention_core.testing
from attention_core import fitting, hookspecs, learned, leave_one_out, parameter_files
from attention_core.options import OPTIONS

PAGES = run_pages.pages()
REFERENCE = {page.stem: page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md")}
DOCUMENTED = set(
    re.findall(r"^\.\. auto\w+:: ([\w.]+)(?:\(\))?$", "".join(REFERENCE.values()), re.MULTILINE)
)


def names(module):
    return {f"{module.__name__}.{name}" for name in module.__all__}


# ---------------------------------------------------------------------- complete documentation


EXTRAS = {"dask": "dask", "estimators": "sklearn", "jax": "jax", "torch": "torch"}
"""Public submodules, and the packages they need."""


@pytest.mark.parametrize(
    "module",
    [*(ac, ac.plot, ac.testing, fitting, leave_one_out, learned, parameter_files), *EXTRAS],
    ids=lambda module: getattr(module, "__name__", module),
)
def test_every_public_name_is_in_the_reference(module):
    if isinstance(module, str):
        pytest.importorskip(EXTRAS[module])
        module = getattr(ac, module)
    assert len(module.__all__) >= 2
    assert names(module) - DOCUMENTED == set()


def test_the_reference_has_nothing_that_is_not_there():
    assert len(DOCUMENTED) > 60
    for name in DOCUMENTED:
        module, _, attribute = name.rpartition(".")
        if (package := EXTRAS.get(module.rpartition(".")[2])) and not find_spec(package):
            continue
        assert hasattr(importlib.import_module(module), attribute), name


def test_every_hook_is_in_the_reference():
    hooks = [
        name
        for name in hookspecs.__all__
        if hasattr(getattr(hookspecs, name), f"{hookspecs.GROUP}_spec")
    ]
    assert hooks == [
        "attention_core_biases",
        "attention_core_normalizers",
        "attention_core_scorers",
    ]
    for hook in hooks:
        assert f"\n.. autofunction:: attention_core.hookspecs.{hook}\n" in REFERENCE["plugins"]


def test_every_error_is_in_the_table_and_says_when():
    rows = re.findall(
        r"^\| \{py:exc\}`~attention_core\.(\w+)` \| `\w+.*` \| .+ \|$",
        tables.errors(),
        re.MULTILINE,
    )
    errors = [
        name
        for name in ac.__all__
        if inspect.isclass(getattr(ac, name)) and issubclass(getattr(ac, name), Exception)
    ]
    assert len(errors) >= 15
    assert rows == errors
    assert "OptionTypeError` | `ValueError`, `TypeError` |" in tables.errors()


def test_the_texts_of_errors_can_be_found():
    text = tables.messages()
    for said in (
        "## ShapeError",
        "`…_labels must have one label per …, …; got …`",
        "`… must hold real numbers, got dtype …`",
    ):
        assert said in text
    assert text.count("\n- ") > 200


def test_every_config_key_is_in_the_table_and_says_what_it_means():
    schema = json.loads((files("attention_core") / "config.schema.json").read_text("utf-8"))
    rows = dict(
        re.findall(r"^\| `([\w.]+)` \| .+? \| .*? \| (.*) \|$", tables.config(), re.MULTILINE)
    )
    said = set(re.findall(r'"(\w+)": \{', json.dumps(schema["properties"])))
    assert {f"attention.{name}" for name in OPTIONS} <= set(rows)
    assert {name.rsplit(".", 1)[-1] for name in rows} == said - {"items", "properties"}
    assert [name for name, meaning in rows.items() if len(meaning) < 10] == []


def test_every_command_option_and_argument_is_documented():
    from typer.main import get_command

    from attention_core.cli.app import app

    text = tables.commands()
    found = list(tables.walk("attention-core", get_command(app)))
    assert len(found) >= 8
    parameters = 0
    for name, command in found:
        assert command.help, name
        section = text.split(f"## `{name}`\n")[1].split("\n## ")[0]
        for each in command.params:
            parameters += 1
            assert each.help, f"{name}: {each.name} has no help"
            for spelling in tables.spellings(each):
                (row,) = [
                    row
                    for row in section.splitlines()
                    if f"`{spelling}`" in row.replace(r"\|", "|").split(" | ")[0]
                ]
                assert each.help in row
    assert parameters >= 35


@pytest.mark.parametrize("kind", ["scorers", "normalizers", "biases"])
def test_every_component_is_in_its_table(kind):
    table = tables.TABLES[kind]().splitlines()
    rows = {row.split("`")[1]: row for row in table if row.startswith("| `")}
    infos = getattr(ac, kind)()
    assert len(infos) >= 3
    assert len(rows) == len(infos)
    for info in infos:
        row = rows[info.name]
        assert all(f"`{alias}`" in row for alias in info.aliases)
        assert info.formula.replace("|", r"\|") in row
        assert info.summary in row
    if kind == "scorers":
        assert "`hidden_dim`" in rows["additive"]
        assert "[arXiv:1409.0473](https://arxiv.org/abs/1409.0473)" in rows["additive"]


def test_every_table_has_its_place():
    places = {name for text in REFERENCE.values() for name in tables.PLACE.findall(text)}
    assert places == set(tables.TABLES)
    assert "| `scaled_dot` |" in tables.expand("<!-- table: scorers -->\n")


def test_every_environment_variable_is_in_the_reference():
    sources = [path.read_text("utf-8") for path in (ROOT / "attention_core").rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'environ\.get\("(\w+)"', text)}
    assert {name for name in read if name.startswith("ATTENTION_CORE")} == {
        "ATTENTION_CORE_ALLOW",
        "ATTENTION_CORE_BLOCK",
        "ATTENTION_CORE_CACHE",
        "ATTENTION_CORE_COMPILED",
        "ATTENTION_CORE_STRICT",
    }
    assert [name for name in read if f"| `{name}` |" not in REFERENCE["environment"]] == []


# ----------------------------------------------------------------------------- the pages run


def test_the_scan_found_the_pages():
    assert len(PAGES) >= 15
    assert {page.parent.name for page in PAGES} == {
        "docs", "explanation", "how-to", "reference", "tutorial",
    }  # fmt: skip
    for page in DOCS.rglob("*.md"):
        assert page.read_text("utf-8").count("\n```") % 2 == 0, page


def test_no_file_of_a_page_replaces_another():
    made = [page.parent / name for page in PAGES for name in run_pages.pictures(page)]
    pages = [
        page.with_suffix(".html") for kind in ("md", "ipynb") for page in DOCS.rglob(f"*.{kind}")
    ]
    assert len({*made}) == len(made)
    assert not {*made} & {*pages}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_every_page_runs_as_it_says(page, kernels, tmp_path):
    for package in run_pages.needs(page):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-W", "error", run_pages.__file__, page, tmp_path],
        env=kernels | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in run_pages.pictures(page):
        assert (tmp_path / name).stat().st_size > 5_000


# ---------------------------------------------------------------------- errors of a page are found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "```python\nprint(1)\n```\n\n```text\n2\n```\n",
            "page.md:5 says\n2\n\nbut this was printed:\n1\n",
        ),
        ("```python\nprint(1)\n```\n", "but this was printed:\n1\n"),
        ("\n```python\n1 / 0\n```\n", 'page.md", line 3, in <module>'),
        ("```console\n$ echo 1\n2\n```\n", "but this was printed:\n$ echo 1\n1\n"),
        ("![A picture.](lost.png)\n", "shows ['lost.png'], but it made []"),
    ],
)  # fmt: skip
def test_a_page_that_is_wrong(text, message, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    command = [sys.executable, run_pages.__file__, page]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr


def test_a_page_has_its_files_and_its_pictures(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```toml\n# a.toml\nb = 1\n```\n\n```python\nprint(open('a.toml').read())\n"
        "open('c.png', 'w').close()\n```\n\n```text\n# a.toml\nb = 1\n\n```\n\n![C.](c.png)\n"
    )
    subprocess.run([sys.executable, run_pages.__file__, page, tmp_path], check=True)
    assert (tmp_path / "c.png").exists()
    shutil.rmtree(tmp_path)
