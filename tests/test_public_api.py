"""The public surface: complete, documented, and consistent with the installation."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import attention_core_standard
import pytest

import attention_core

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = [attention_core, attention_core_standard]
MODULES = [
    name
    for package in PACKAGES
    for _, name, _ in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not name.endswith("__main__")
]
PUBLIC = [(name, getattr(attention_core, name)) for name in attention_core.__all__]
OBJECTS = {
    name: value for name, value in PUBLIC if inspect.isfunction(value) or inspect.isclass(value)
}
USED = {  # names that need examples; errors do not
    name
    for name, value in OBJECTS.items()
    if not (inspect.isclass(value) and issubclass(value, Exception | tuple))
}


def test_the_scan_found_the_package():
    assert "attention_core.scoring.scorer" in MODULES
    assert {"Attention", "Scorer", "attend"} <= USED


def need(name):
    """Skip if an optional package is missing that a module imports."""
    if name in ("attention_core.compiled.products.registers", "attention_core.compiled.runtime"):
        pytest.importorskip("numba")
    library = name.split(".")[1]
    if library in ("dask", "jax", "torch"):
        pytest.importorskip(library)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_and_lists_its_names(name):
    need(name)
    module = importlib.import_module(name)
    assert module.__doc__
    if not hasattr(module, "__all__"):  # a folder with only a docstring, so nothing to import
        assert [type(node) for node in ast.parse(inspect.getsource(module)).body] == [ast.Expr]
        return
    assert len(module.__all__) == len(set(module.__all__))  # ruff keeps them sorted
    for public in module.__all__:
        assert hasattr(module, public)


def test_every_error_is_public():
    from attention_core import errors

    raised = {
        name
        for name in errors.__all__
        if inspect.isclass(value := getattr(errors, name)) and issubclass(value, Exception)
    }
    assert raised <= set(attention_core.__all__)


SUBMODULES = [name for name in dir(attention_core) if name not in attention_core.__all__]


def test_dir_lists_public_names_only_before_they_are_imported():
    code = "import attention_core; print(*dir(attention_core))"
    names = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert names == dir(attention_core)
    assert {*attention_core.__all__} < {*names}
    assert {"fitting", "learned", "plot", "testing", "typing"} < {*SUBMODULES}


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_are_imported_on_first_use(name):
    need(f"attention_core.{name}")
    assert getattr(attention_core, name) is importlib.import_module(f"attention_core.{name}")


def test_the_reference_lists_the_submodules_that_dir_does():
    pages = "".join(p.read_text("utf-8") for p in (ROOT / "docs" / "reference").glob("*.md"))
    named = re.findall(r"^\.\. auto\w+:: attention_core\.([a-z]\w+)(?:\.\w|$)", pages, re.MULTILINE)
    assert {*named} - {*attention_core.__all__} == {*SUBMODULES}


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="attention_core"):
        attention_core.no_such_name


@pytest.mark.parametrize("name", OBJECTS)
def test_every_public_object_is_documented(name):
    assert inspect.getdoc(OBJECTS[name])


@pytest.mark.parametrize("name", sorted(USED))
def test_public_objects_show_an_example(name):
    assert "\nExamples\n" in inspect.getdoc(OBJECTS[name])


@pytest.mark.parametrize("name", OBJECTS)
def test_public_methods_are_documented(name):
    value = OBJECTS[name]
    if not inspect.isclass(value):
        return
    for method, member in vars(value).items():
        if not method.startswith("_") and (callable(member) or isinstance(member, property)):
            assert inspect.getdoc(getattr(value, method)), f"{name}.{method}"


def test_the_version_is_that_of_the_installation():
    assert attention_core.__version__ == metadata.version("attention-core") == PROJECT["version"]


def test_the_installation_declares_what_the_project_does():
    installed = metadata.distribution("attention-core").entry_points
    declared = {
        "console_scripts": PROJECT["scripts"],
        **PROJECT["entry-points"],
    }
    found = {
        group: {ep.name: ep.value for ep in installed.select(group=group)} for group in declared
    }
    assert found == declared


def test_the_changelog_has_the_version():
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
