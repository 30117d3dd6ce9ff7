"""The architecture page names existing files and functions, and describes every package."""

import ast
import re

import pytest
from projects import ROOT
from site_extensions import DOCS, architecture

PAGE = (DOCS / "explanation" / "architecture.md").read_text("utf-8")
PACKAGE = ROOT / "attention_core"
PATHS = sorted(set(re.findall(r"`([\w./-]+/|[\w/.-]+\.(?:py|json|md))`", PAGE)))
NAMED = sorted(set(re.findall(r"`([\w.]+)`\s+in\s+`([\w/]+\.py)`", PAGE)))
PACKAGES = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}


def located(path):
    """Resolve a path on the page, in the package or in the repository."""
    return next((base / path for base in (PACKAGE, ROOT) if (base / path).exists()), None)


def section(heading):
    return PAGE.split(f"\n### `{heading}/`\n")[1].split("\n##")[0]


def test_the_scan_found_what_is_named():
    assert len(PATHS) > 30
    assert len(NAMED) > 15


@pytest.mark.parametrize("path", PATHS)
def test_files_and_folders_exist(path):
    packages = [package for package in PACKAGES if f"`{path}`" in section(package)]
    assert located(path) or any((PACKAGE / package / path).exists() for package in packages), path


@pytest.mark.parametrize(("name", "path"), NAMED)
def test_functions_and_classes_are_where_the_page_says(name, path):
    tree = ast.parse(located(path).read_text("utf-8"))
    defined = {node.name for node in tree.body if hasattr(node, "name")}
    assert name in defined, f"docs/explanation/architecture.md: no {name} in {path}"


def test_every_package_has_a_paragraph():
    described = re.findall(r"^### `(\w+)/`$", PAGE, flags=re.MULTILINE)
    assert set(described) == PACKAGES


def test_at_least_five_changes_are_walked_through():
    changes = PAGE.split("## Common changes")[1].split("\n## ")[0]
    assert changes.count("\n### ") >= 5


def test_the_picture_has_a_box_for_every_package_and_file():
    drawn = architecture.picture()
    boxes = set(re.findall(r"<text[^>]*>([\w./]+)</text>", drawn))
    files = {path.name for path in PACKAGE.glob("*.py")} - {
        "arguments.py",
        "errors.py",
        "typing.py",
    }
    assert boxes == {f"{package}/" for package in PACKAGES} | files
    assert drawn.count("marker-end") == sum(
        map(len, architecture.needed(architecture.imports()).values())
    )


def test_arrows_go_down():
    graph = architecture.imports()
    depth = {row: level for level, rows in enumerate(architecture.layers(graph)) for row in rows}
    assert all(depth[other] < depth[row] for row, found in graph.items() for other in found)
    assert "registry" not in graph["engine"]
    assert "engine" not in graph["registry"]
