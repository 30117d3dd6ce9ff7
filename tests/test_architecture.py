"""The table of imports.

Each row of the table is a folder or a file at the top of the package, with its imports from the
package. Rows import only from rows above, so nothing is circular and the code can be read in this
order. The engine takes a `Scorer`; the registry handles names.
"""

import ast
import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "attention_core"
PLUGINS = ROOT / "plugins"

WORDS = {"_version", "arguments", "errors", "typing"}  # all use them, so rows do not list them
NUMBERS = {
    # the computation
    "arrays": "",
    "components": "arrays",
    "options": "arrays",
    "parallel": "",
    "compiled": "arrays parallel",
    "scoring": "arrays compiled components parallel",
    "normalizing": "arrays components",
    "masking": "arrays components",
    "engine": "arrays compiled components masking normalizing parallel scoring",
}
NAMES = {
    "hookspecs": "components normalizing scoring",
    "registry": "arrays components hookspecs normalizing scoring",
}
PUBLIC = "attention_core"
REST = {
    # the entry point
    "merging": "arrays components normalizing",
    "files": "options",
    "config": "arrays files options registry scoring",
    "plot": "arrays engine files",
    "pictures": "plot",
    "result": "arrays engine pictures",
    "attention": (
        "arrays components config engine masking normalizing options registry result scoring"
    ),
    # learning and layers
    "learned": "arrays",
    "fitting": "arrays",
    "leave_one_out": "arrays attention engine result scoring",
    "multihead": (
        "arrays attention components config engine files learned masking normalizing options "
        "parallel pictures registry result scoring"
    ),
    "libraries": (
        "arrays attention components engine masking multihead normalizing options parallel "
        "registry result scoring"
    ),
    "parameter_files": "components files multihead normalizing registry scoring",
    # built on the public names
    PUBLIC: (
        "attention components engine hookspecs masking merging multihead normalizing "
        "parameter_files registry result scoring"
    ),
    "demo": f"{PUBLIC} fitting leave_one_out options parallel parameter_files plot",
    "estimators": f"{PUBLIC} arrays fitting leave_one_out registry",
    "testing": f"{PUBLIC} arrays compiled components hookspecs registry scoring",
    "cli": (
        f"{PUBLIC} arrays compiled config demo files fitting masking parameter_files plot registry "
        "scoring testing"
    ),
    "__main__": "cli",
}
TABLE = {row: set(cell.split()) for row, cell in (NUMBERS | NAMES | REST).items()}

# Imported with the module; functions import all others when they need them.
THIRD_PARTY = {
    "matplotlib": {"plot"},  # in a file of its own, which a function imports
    "cloudpickle": {"libraries"},  # comes with Dask
    "dask": {"libraries"},
    "llvmlite": {"compiled"},  # comes with numba
    "numba": {"compiled"},  # in files that generated modules import
    "numpy": set(TABLE) | WORDS,
    "pluggy": {"hookspecs", "registry"},
    "rich": {"cli"},
    "sklearn": {"estimators"},
    "jax": {"libraries"},
    "torch": {"libraries"},
    "typer": {"cli"},
}
# Imported by functions and for type checkers.
LAZY = {
    "dask": {"components", "libraries"},  # where Dask itself asks
    "distributed": {"libraries"},
    "llvmlite": {"compiled"},  # comes with numba
    "matplotlib": {"demo", "pictures", "plot"},
    "ml_dtypes": {"files"},
    "pytest": {"testing"},
    "safetensors": {"files"},
    "scipy": {"arrays", "cli", "engine", "fitting", "masking", "plot", "typing"},
    "threadpoolctl": {"parallel"},
}


LIBRARIES = {
    "dask",
    "jax",
    "libraries",
    "torch",
}  # each has its own folder; they form one row because they do the same


def row_of(path):
    """The row of a file: its module, or the sub-package it is in."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return row_of_part("" if first == "__init__" else first)


def row_of_part(part):
    return "libraries" if part in LIBRARIES else part or PUBLIC


def imports(path, *, eager=False):
    """The absolute names a file imports from; with `eager`, those imported when it is."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body if eager else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module)
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def row_named(name):
    """The row an absolute module name of this package belongs to."""
    _, _, rest = name.partition(f"{PUBLIC}.")
    return row_of_part(rest.split(".")[0])


def test_every_module_has_a_row():
    assert {row_of(path) for path in FILES} == set(TABLE) | WORDS
    assert len(TABLE) == len(NUMBERS) + len(NAMES) + len(REST) <= 30


@pytest.mark.parametrize("row", TABLE)
def test_each_module_imports_what_its_row_says(row):
    files = [path for path in FILES if row_of(path) == row]
    found = {
        row_named(name) for path in files for name in imports(path) if name.split(".")[0] == PUBLIC
    }
    assert found - {row} - WORDS == TABLE[row]


@pytest.mark.parametrize("row", TABLE)
def test_rows_import_only_from_rows_above(row):
    above = list(TABLE)[: list(TABLE).index(row)]
    assert TABLE[row] <= set(above)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_words_import_words_only_but_for_type_checkers(word):
    found = imports(PACKAGE / f"{word}.py", eager=True)
    assert {row_named(name) for name in found if name.startswith(PUBLIC)} <= WORDS


def test_names_and_numbers_never_import_each_other():
    for row in NUMBERS:
        assert not TABLE[row] & set(NAMES | REST)
    for row in NAMES:
        assert not TABLE[row] & {"engine", "masking", "parallel"}


def test_folders_are_small_enough_to_read_at_a_glance():
    assert len(list(PACKAGE.glob("*.py"))) <= 16
    for folder in {path.parent for path in FILES}:
        assert len(list(folder.glob("*.py"))) <= 16, folder


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_other_packages_are_imported_where_they_are_needed(path):
    for eager, allowed in [(True, THIRD_PARTY), (False, THIRD_PARTY | LAZY)]:
        others = {name.split(".")[0] for name in imports(path, eager=eager)}
        others -= {*sys.stdlib_module_names, PUBLIC}
        assert {name for name in others if row_of(path) not in allowed.get(name, ())} == set()


@pytest.mark.parametrize("name", sorted({*THIRD_PARTY, *LAZY} - {"numpy"}))
def test_other_packages_are_still_needed_where_they_are_allowed(name):
    rows = {
        row_of(path)
        for path in FILES
        for imported in imports(path)
        if imported.split(".")[0] == name
    }
    assert rows == (THIRD_PARTY | LAZY)[name]


# modules of plugins; their tests may use the kit and the demo's data
SHIPPED = sorted(
    path for path in PLUGINS.rglob("*.py") if "tests" not in path.relative_to(PLUGINS).parts
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_plugins_use_public_names_only(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith(f"{PUBLIC}.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == PUBLIC:
            assert node.module in {PUBLIC, f"{PUBLIC}.learned", f"{PUBLIC}.testing"}
            public = importlib.import_module(node.module).__all__
            assert {alias.name for alias in node.names} <= set(public)


def test_nothing_in_the_package_knows_the_bundled_plugin():
    assert not [
        path
        for path in FILES
        if any(name.split(".")[0] == "attention_core_standard" for name in imports(path))
    ]
