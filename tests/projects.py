"""Projects built into distributions, and fresh environments to install them in, offline."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

__all__ = ["ROOT", "Environment", "build"]

ROOT = Path(__file__).parents[1]
OURS = ("attention_core", "attention-core")


def build(project: Path, target: Path, *options: str) -> None:
    """Build a project that uses hatchling: a wheel and a source archive, in the folder `target`."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", target, *options]
    subprocess.run(command, cwd=project, check=True, capture_output=True)


class Environment:
    """A virtual environment with its own pip, without any of our distributions.

    It links to all other packages of this interpreter. So installing needs no network, and pip
    finds the required dependencies, or names the missing ones.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "env", with_pip=True)
        self.folder = folder
        self.scripts = folder / "env" / "bin"
        (site,) = (folder / "env").glob("lib/python*/site-packages")
        others = folder / "others"
        others.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            is_ours = any(name in path.name for name in OURS)
            if not is_ours and path.suffix != ".pth":
                (others / path.name).symlink_to(path)
        (site / "others.pth").write_text(f"{others}\n")

    def run(self, command: str, *arguments: object, fails: bool = False) -> str:
        """The standard output of a script of this environment, or its errors if it should fail."""
        done = subprocess.run(
            [self.scripts / command, *map(str, arguments)],
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
            capture_output=True,
            text=True,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    def install(self, *wheels: Path) -> None:
        self.run("pip", "install", "--no-index", "--disable-pip-version-check", *wheels)
