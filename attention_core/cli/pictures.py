"""Pictures that commands draw: in files, on pages, and in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console

from attention_core import AttentionResult
from attention_core.cli.outputs import check_output
from attention_core.cli.values import indices
from attention_core.errors import (
    OptionError,
    ParameterFileError,
    ShapeError,
    file_error,
    printable,
    shown,
)
from attention_core.plot import heatmap, page, save, text
from attention_core.plot.files import SUFFIXES
from attention_core.plot.picture import batch_items
from attention_core.plot.style import need_matplotlib
from attention_core.plot.web.page import SUFFIXES as PAGE_SUFFIXES
from attention_core.typing import Array

__all__ = ["Drawing", "drawing"]

LEAST_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Drawing:
    """The pictures of a result that were requested: in a file, on a page, in the terminal."""

    path: Path | None
    page: Path | None
    in_terminal: bool
    query_labels: list[str] | None
    key_labels: list[str] | None
    batch: tuple[int, ...] | None

    def __bool__(self) -> bool:
        return self.path is not None or self.page is not None or self.in_terminal

    def check(self, query: Array, key: Array, value: Array) -> None:
        """Raise unless there is a label for each query and each key, and something to draw.

        Raises
        ------
        ShapeError, OptionError
        """
        counts = {
            name: array.shape[-2] if array.ndim > 1 else 1
            for name, array in (("query", query), ("key", key))
        }
        for name, labels in (("query", self.query_labels), ("key", self.key_labels)):
            if labels is not None and len(labels) != counts[name]:
                raise ShapeError(
                    f"{name}_labels must have one label per {name}, {counts[name]}; "
                    f"got {len(labels)}"
                )
        if self:
            try:
                axes = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
            except ValueError:
                return  # `attend` reports arrays that do not broadcast
            batch_items(axes, self.batch)

    def draw(self, result: AttentionResult) -> None:
        """Print the result as text, and save it as a picture and as a page."""
        options: dict[str, Any] = {
            "query_labels": self.query_labels,
            "key_labels": self.key_labels,
            "batch": self.batch,
        }
        if self.in_terminal:
            console = Console()
            is_plain = not console.encoding.lower().startswith("utf")
            width = max(console.width, LEAST_WIDTH)
            typer.echo(text(result, width=width, ascii_only=is_plain, **options))
        if self.path is not None:
            save(heatmap(result, **options), self.path)
            typer.echo(f"drawn in {self.path}")
        if self.page is not None:
            page(result, self.page, **options)
            typer.echo(printable(f"the page is {self.page}"))


def drawing(
    path: Path | None,
    page: Path | None,
    in_terminal: bool,
    query_labels: Path | None,
    key_labels: Path | None,
    batch: str | None,
    inputs: Iterable[Path],
) -> Drawing:
    """Check the options for pictures before any work starts.

    Raises
    ------
    OptionError
        For labels or a batch item without a picture.
    ParameterFileError
        For labels that cannot be read, and a picture or page that cannot be written.
    MissingExtraError
        When matplotlib is needed and not installed.
    """
    if path is not None:
        check_output(path, SUFFIXES, inputs)
        need_matplotlib()
    if page is not None:
        check_output(page, PAGE_SUFFIXES, inputs)
    if path is None and page is None and not in_terminal:
        options = {"--query-labels": query_labels, "--key-labels": key_labels, "--batch": batch}
        for option, given in options.items():
            if given is not None:
                raise OptionError(f"{option} is for pictures; add --plot, --html or --show")
    return Drawing(
        path, page, in_terminal, _lines(query_labels), _lines(key_labels), indices("--batch", batch)
    )


def _lines(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors write a byte order mark
    except OSError as error:
        raise file_error("read", path, error) from error
    except UnicodeDecodeError as error:
        raise ParameterFileError(
            f"{shown(str(path), 300)} is not text in UTF-8: {error}"
        ) from error
    # not splitlines, which also splits at characters that occur within words
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return lines if text else []
