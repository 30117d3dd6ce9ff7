"""What the project says about itself in several places stays the same in all of them."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_oldest_dependencies_that_ci_installs_are_the_lower_bounds():
    lines = (ROOT / ".ci" / "oldest.txt").read_text().splitlines()
    pins = dict(line.removesuffix(".*").split("==") for line in lines if not line.startswith("#"))
    needed = [Requirement(line) for line in PROJECT["dependencies"]]
    assert pins == {need.name: str(need.specifier).removeprefix(">=") for need in needed}
