"""Run the pages of the documentation: check their output, and draw their pictures.

A page is one program, and runs as a reader would run it, in a separate folder next to the data:

- `python` blocks run in order;
- a `text` block is the output since the last one;
- a `toml` block whose first line is `# NAME.toml` is written to that file;
- a `console` block is commands, after `$`, and their output.

A line ``<!-- needs: torch -->`` names a package. The site can be built without it: then the page
does not run. The tests run it where the package is installed.

As a Sphinx extension it runs every page before any is read, and puts the pictures and framed pages
of a page next to it. As a command it runs one page:
``python docs/extensions/run_pages.py PAGE [FOLDER]`` puts them into the folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["Block", "blocks", "needs", "pages", "pictures", "run_page", "setup"]

DOCS = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.*)$", flags=re.MULTILINE)
NEEDS = re.compile(r"^<!-- needs: (\w+) -->$", flags=re.MULTILINE)
PICTURE = re.compile(r"\]\(([\w-]+\.png)\)|<iframe class=\"page\" src=\"([\w-]+\.html)\"")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    body: str
    line: int
    """The number of lines before the body of the page."""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)))
        for found in BLOCK.finditer(text)
    ]


def pictures(page: Path) -> list[str]:
    """The pictures next to the page that it shows, and the pages in its frames."""
    return [image or framed for image, framed in PICTURE.findall(page.read_text("utf-8"))]


def pages(docs: Path = DOCS) -> list[Path]:
    """The pages that have something to run."""
    return [
        page
        for page in sorted(docs.rglob("*.md"))
        if "_build" not in page.parts
        and any(block.language in {"python", "console"} for block in blocks(page))
    ]


def needs(page: Path) -> list[str]:
    """The packages that a page needs beyond those of the documentation."""
    return NEEDS.findall(page.read_text("utf-8"))


def run_page(page: Path) -> dict[str, Any]:
    """Run the blocks of a page in the current folder; return its variables.

    Raises
    ------
    AssertionError
        When something else was printed than the page says.
    """
    names: dict[str, Any] = {"__name__": page.stem}
    printed = ""
    for language, body, line in blocks(page):
        if language == "python":
            output = StringIO()
            with redirect_stdout(output):
                # errors then show the lines of the page
                exec(compile("\n" * line + body, str(page), "exec"), names)
            printed += output.getvalue()
        elif language == "text":
            _compare(page, line, body, printed)
            printed = ""
        elif language == "toml" and (found := re.match(r"# (\S+\.toml)\n", body)):
            Path(found[1]).write_text(body, "utf-8")
        elif language == "console":
            _compare(page, line, body, "".join(map(_session, COMMAND.findall(body))))
    _compare(page, 0, "", printed)
    return names


def _compare(page: Path, line: int, said: str, printed: str) -> None:
    if said != printed:
        raise AssertionError(f"{page}:{line} says\n{said}\nbut this was printed:\n{printed}")


def _session(command: str) -> str:
    """A command, and everything that it printed."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    done = subprocess.run(
        command,
        shell=True,
        env=os.environ | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return f"$ {command}\n{done.stdout}"


def _run_alone(page: Path, target: Path) -> str:
    """Run a page in its own process; return the error, if there is one."""
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, page, target],
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    return done.stderr if done.returncode else ""


def _run_all(app: Sphinx) -> None:
    from sphinx.errors import ExtensionError

    found = [p for p in pages(Path(app.srcdir)) if all(map(find_spec, needs(p)))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = [each for each in pool.map(_run_alone, found, [p.parent for p in found]) if each]
    if failures:
        raise ExtensionError("pages that do not run:\n\n" + "\n".join(failures))


def _copy_frames(app: Sphinx, error: Exception | None) -> None:
    """Put the pages in frames beside the pages that show them."""
    if error is not None or app.builder.format != "html":
        return
    for page in pages(Path(app.srcdir)):
        target = Path(app.outdir) / page.parent.relative_to(app.srcdir)
        for name in pictures(page):
            if name.endswith(".html"):
                shutil.copy(page.parent / name, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.connect("builder-inited", _run_all)
    app.connect("build-finished", _copy_frames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main(page: str, target: str | None = None) -> None:
    """Run one page, in a folder like its own."""
    source = Path(page).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(DOCS / "data", Path(scratch) / "data")
        folder = Path(scratch) / "page"
        folder.mkdir()
        os.chdir(folder)
        run_page(source)
        made = {path.name for kind in ("png", "html") for path in folder.glob(f"*.{kind}")}
        if made != set(pictures(source)):
            raise AssertionError(f"{source} shows {pictures(source)}, but it made {sorted(made)}")
        if target is not None:
            for name in made:
                shutil.copy(name, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
