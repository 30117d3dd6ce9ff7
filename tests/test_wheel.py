"""Distributions: the files of the wheel and of the source archive, and the wheel's metadata."""

import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from projects import ROOT, build

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = f"attention_core-{PROJECT['version']}"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the source archive, built from the working tree."""
    target = tmp_path_factory.mktemp("dist")
    build(ROOT, target)
    return target


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as archive:
        yield archive


def shipped(package):
    """The files of a package in the working tree, as the wheel should name them."""
    return {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_top_level_is_the_two_packages_and_the_metadata(wheel):
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == {"attention_core", "attention_core_standard", f"{NAME}.dist-info"}


@pytest.mark.parametrize("package", ["attention_core", "plugins/attention_core_standard"])
def test_every_file_of_a_package_is_in_the_wheel(wheel, package):
    expected = shipped(ROOT / package)
    assert f"{Path(package).name}/py.typed" in expected
    prefix = Path(package).name + "/"
    assert {name for name in wheel.namelist() if name.startswith(prefix)} == expected


def test_the_metadata_says_what_the_project_says(wheel):
    metadata = Parser().parsestr(wheel.read(f"{NAME}.dist-info/METADATA").decode())
    assert metadata["Name"] == PROJECT["name"]
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == PROJECT["license"]
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(required) == sorted(PROJECT["dependencies"])
    assert metadata.get_payload().startswith("# attention-core")


def test_the_wheel_carries_the_licence(wheel):
    text = wheel.read(f"{NAME}.dist-info/licenses/LICENSE").decode()
    assert text == (ROOT / "LICENSE").read_text()


def test_the_source_archive_holds_only_what_is_listed(built):
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        names = [Path(name).relative_to(NAME) for name in archive.getnames()]
    assert {name.parts[0] for name in names} <= {
        # hatchling adds the last line to every source archive
        *(".ci", "attention_core", "plugins", "tests", "docs"),
        *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"),
        *(".gitignore", "hatch_build.py", "pyproject.toml", "PKG-INFO"),
    }
    assert {name.parts[1] for name in names if name.parts[0] == "plugins"} == {
        "attention_core_standard",
        "attention-core-kernels",  # the tests install it
        "README.md",  # and its steps
    }
    assert Path("tests/test_wheel.py") in names
