"""Who may import whom.

Each row of the table is a module and what it imports of this package. Rows import only from rows
above, so nothing is circular and the code can be read in this order. The engine is given a
`Scorer`; strings that name one belong to the rows below it.
"""

import ast
import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "attention_core"
PLUGINS = ROOT / "plugins"

ENGINE = {
    # what everything shares
    "errors": "",
    "configured": "errors",
    "scorer": "configured errors",
    "contract": "errors scorer",
    "hookspecs": "scorer",
    "options": "errors",
    "checks": "errors",
    "inputs": "errors",
    "learned": "errors inputs",
    "files": "",
    # the mathematics
    "products": "",
    "softmax": "products",
    "bands": "",
    "masks": "errors inputs",
    "masking": "bands inputs masks",
    "packing": "errors masking",
    "tiles": "",
    "parallel": "",
    "scratch": "",
    "scoring": "contract errors products scorer",
    "at_once": "products scorer scoring softmax tiles",
    "engine": "at_once masking parallel scorer scoring scratch softmax tiles",
    "sparse": "contract engine errors masking parallel scorer scoring softmax",
    "tile_gradients": "contract engine masking scorer scoring scratch softmax tiles",
    "edge_gradients": "contract masking scorer sparse tile_gradients",
    # before and after a call
    "memory": "contract errors inputs scorer",
    "readout": "engine masking tiles",
    "gradients": (
        "configured contract edge_gradients engine errors inputs masking parallel readout scorer "
        "tile_gradients"
    ),
    "plot": "errors files inputs masks readout",
    "result": "errors gradients inputs masks plot readout softmax",
    "call": (
        "at_once contract engine errors inputs masking memory parallel readout result scorer sparse"
    ),
}
NAMES = {
    "offers": "configured errors hookspecs scorer",
    "claims": "errors offers",
    "distributions": "",
    "loading": "distributions errors hookspecs offers",
    "registry": "claims distributions errors hookspecs loading offers scorer",
    "installed": "claims errors hookspecs registry scorer",
    "array_files": "errors files",
    "saved_parameters": "array_files errors options",
    "config": "errors installed options registry saved_parameters scorer",
    "attention": (
        "call config installed masking masks memory options packing registry result scorer"
    ),
    # learning
    "progress": "",
    "fitting": "checks errors progress",
    "leave_one_out": "attention errors fitting gradients scorer",
    # layers
    "heads": "errors inputs masks packing parallel",
    "layouts": "checks errors inputs",
    "head_parameters": "attention configured errors inputs layouts options scorer",
    "multihead_memory": "head_parameters heads inputs memory scorer",
    "multihead_call": (
        "errors gradients head_parameters heads inputs masks multihead_memory packing result"
    ),
    "multihead": "checks errors head_parameters layouts masks multihead_call multihead_memory",
    "parameter_files": (
        "array_files errors installed layouts multihead registry saved_parameters scorer"
    ),
}
PUBLIC = "attention_core"
EDGES = {
    PUBLIC: (
        "attention claims errors gradients hookspecs installed memory multihead multihead_call "
        "multihead_memory packing registry result scorer"
    ),
    "demo": f"{PUBLIC} errors fitting leave_one_out options parallel parameter_files plot",
    "estimators": f"{PUBLIC} checks errors fitting installed leave_one_out",
    "testing": f"{PUBLIC} contract errors installed loading offers",
    "cli": (
        f"{PUBLIC} config demo errors inputs installed masking masks parameter_files plot testing"
    ),
    "__main__": "cli",
}
TABLE = {row: set(cell.split()) for row, cell in (ENGINE | NAMES | EDGES).items()}

# Imported when the module is; all else waits in the function that needs it.
THIRD_PARTY = {
    "numpy": set(TABLE),
    "pluggy": {"hookspecs", "loading"},
    "rich": {"cli"},
    "sklearn": {"estimators"},
    "typer": {"cli"},
}
# Imported by functions and for type checkers.
LAZY = {
    "matplotlib": {"demo", "plot", "result"},
    "ml_dtypes": {"array_files"},
    "pytest": {"testing"},
    "rich": {"cli", "progress"},
    "safetensors": {"array_files"},
    "scipy": {"cli", "edge_gradients", "fitting", "plot", "sparse"},
    "threadpoolctl": {"parallel"},
}


def row_of(path):
    """The row of a file: its module, or the sub-package it is in."""
    first = path.relative_to(PACKAGE).parts[0]
    return PUBLIC if first == "__init__.py" else first.removesuffix(".py")


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
    return rest.split(".")[0] or PUBLIC


def test_every_module_has_a_row():
    assert {row_of(path) for path in FILES} == set(TABLE)
    assert len(TABLE) == len(ENGINE) + len(NAMES) + len(EDGES)


@pytest.mark.parametrize("row", TABLE)
def test_each_module_imports_what_its_row_says(row):
    files = [path for path in FILES if row_of(path) == row]
    found = {
        row_named(name) for path in files for name in imports(path) if name.split(".")[0] == PUBLIC
    }
    assert found - {row} == TABLE[row]


@pytest.mark.parametrize("row", TABLE)
def test_rows_import_only_from_rows_above(row):
    above = list(TABLE)[: list(TABLE).index(row)]
    assert TABLE[row] <= set(above)


@pytest.mark.parametrize("row", ENGINE)
def test_the_engine_knows_no_names(row):
    assert not TABLE[row] & set(NAMES | EDGES)


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


# what plugins ship; their tests may use the kit and the demo's data
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
