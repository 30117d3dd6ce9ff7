"""``attention-core attend``: attention over arrays in files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from attention_core import AttentionResult, OptionError
from attention_core.arrays.inputs import is_sparse
from attention_core.cli.arrays import SUFFIXES, read_array, read_mask, split_reference
from attention_core.cli.blocks import attend_in_blocks
from attention_core.cli.choice import choose
from attention_core.cli.outputs import check_distinct, check_output, workspace
from attention_core.cli.pictures import drawing
from attention_core.cli.values import integers, pair, settings
from attention_core.config import config_files
from attention_core.errors import printable
from attention_core.files.saved_parameters import describe
from attention_core.fitting.progress import progress_line
from attention_core.typing import Array

__all__ = ["attend"]

FILE = "FILE[:NAME]"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arrays to take from a result besides its context."""

    weights: bool
    top_k: int | None
    log_normalizer: bool
    entropy: bool

    @property
    def count(self) -> int:
        """The number of arrays, with the context."""
        return 1 + self.weights + 2 * (self.top_k is not None) + self.log_normalizer + self.entropy

    def __call__(self, result: AttentionResult) -> Mapping[str, Any]:
        """The arrays by the names in the output; weights are sparse with a sparse mask."""
        found: dict[str, Any] = {"context": result.context}
        if self.weights:
            found["weights"] = result.weights
        if self.top_k is not None:
            top = result.top_k(self.top_k)
            found |= {"top_k_indices": top.indices, "top_k_weights": top.weights}
        if self.log_normalizer:
            found["log_normalizer"] = result.log_normalizer
        if self.entropy:
            found["entropy"] = result.entropy
        return found


def attend(
    arrays: Annotated[
        Path | None,
        typer.Argument(metavar="ARRAYS", help="A .npz or .safetensors with query, key and value."),
    ] = None,
    query: Annotated[str | None, typer.Option(metavar=FILE, help="(..., L, Dq) or (Dq,)")] = None,
    key: Annotated[str | None, typer.Option(metavar=FILE, help="(..., S, Dk)")] = None,
    value: Annotated[str | None, typer.Option(metavar=FILE, help="(..., S, Dv)")] = None,
    scorer: Annotated[
        str | None, typer.Option(metavar="NAME", help="The scorer; see `attention-core scorers`.")
    ] = None,
    normalizer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="softmax by default; see `attention-core normalizers`."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Scorer and options from .toml or .json.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A parameter of the scorer, or normalizer.NAME, bias.NAME; repeatable.",
        ),
    ] = None,
    parameters: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The scorer's arrays from .npz or .safetensors."),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar=FILE, help="Booleans, True = may attend; or a sparse matrix saved by SciPy."
        ),
    ] = None,
    bias: Annotated[
        str | None,
        typer.Option(
            metavar=f"NAME|{FILE}",
            help="Added to the scores: a name as `attention-core biases` lists, or an array.",
        ),
    ] = None,
    key_lengths: Annotated[
        str | None, typer.Option(metavar="N,...|FILE", help="Keys at or beyond are masked.")
    ] = None,
    query_lengths: Annotated[
        str | None, typer.Option(metavar="N,...|FILE", help="Queries at or beyond are masked.")
    ] = None,
    is_causal: Annotated[
        bool | None,
        typer.Option("--causal/--no-causal", "--is-causal", help="Key j only if j <= i + offset."),
    ] = None,
    query_offset: Annotated[
        str | None,
        typer.Option(
            metavar="N,...|FILE|end", help="The position of the first query; end aligns the last."
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="LEFT,RIGHT", help="Keys around each query; an empty side is open."),
    ] = None,
    softcap: Annotated[float | None, typer.Option(help="c * tanh(score / c)")] = None,
    tile: Annotated[
        str | None, typer.Option(metavar="QUERIES,KEYS", help="Scored together.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads; every core by default.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help=".npy, .npz or .safetensors; printed by default."
        ),
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Also the weights (..., L, S).")
    ] = False,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", help="Also the N strongest keys of each query.")
    ] = None,
    log_normalizer: Annotated[
        bool, typer.Option("--log-normalizer", help="Also the log-sum-exp of the scores (..., L).")
    ] = False,
    entropy: Annotated[
        bool, typer.Option("--entropy", help="Also the entropy of the weights (..., L).")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the weights: .png, .svg or .pdf.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A page to explore the weights in a browser: .html."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Draw the weights here, as text.")] = False,
    query_labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels of the queries in a picture, one per line."),
    ] = None,
    key_labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels of the keys.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="N,...", help="The batch item to draw, such as 0,3.")
    ] = None,
) -> None:
    """Attend to arrays in files: score, normalize, and sum the values by weight.

    attention-core attend arrays.npz --scorer scaled_dot --causal -o out.npy

    attention-core attend arrays.npz --scorer general --parameters w.npz --top-k 5

    attention-core attend arrays.npz --scorer dot --normalizer entmax --set normalizer.alpha=1.3

    attention-core attend arrays.npz --scorer dot --bias alibi --set bias.heads=8

    attention-core attend arrays.npz --scorer dot --key-labels words.txt --plot weights.svg

    attention-core attend arrays.npz --scorer dot --html weights.html
    """
    wanted = Wanted(weights, top_k, log_normalizer, entropy)
    bias_name, bias_file = (None, bias) if bias is None or _is_file(bias) else (bias, None)
    references = {"query": query, "key": key, "value": value, "mask": mask, "bias": bias_file}
    texts = (*references.values(), query_offset, key_lengths, query_lengths)
    files = [split_reference(text)[0] for text in texts if text]
    files += filter(None, (arrays, parameters, query_labels, key_labels))
    files += [] if config is None else config_files(config)
    picture = drawing(plot, html, show, query_labels, key_labels, batch, files)
    check_distinct({"--output": output, "--plot": plot, "--html": html})
    if output is not None:
        check_output(output, SUFFIXES, files)
        if output.suffix == ".npy" and wanted.count > 1:
            raise OptionError(
                f"{str(output)!r} holds one array, not {wanted.count}; write .npz or .safetensors"
            )
    options = {
        "is_causal": is_causal,
        "query_offset": (
            "end" if query_offset == "end" else integers("--query-offset", query_offset)
        ),
        "window": pair("--window", window),
        "softcap": softcap,
        "tile": pair("--tile", tile),
        "workers": workers,
    }
    given = {name: option for name, option in options.items() if option is not None}
    chosen = (scorer, normalizer, bias_name, config)
    attention = choose(*chosen, settings(setting or []), parameters, given)
    inputs = _inputs(arrays, references)
    picture.check(*inputs)
    rows = [array.shape[-2] if array.ndim > 1 else 1 for array in inputs]
    call = {
        "mask": None if mask is None else read_mask(mask, (rows[0], rows[1])),
        "bias": None if bias_file is None else read_array(bias_file, "bias"),
        "key_lengths": integers("--key-lengths", key_lengths),
        "query_lengths": integers("--query-lengths", query_lengths),
    }
    held = workspace(output) if output else nullcontext()
    with held as space, progress_line("attending") as progress:
        found = attend_in_blocks(
            attention,
            *inputs,
            **call,
            extract=wanted,
            allocate=space.allocate if space else lambda _, shape, dtype: np.empty(shape, dtype),
            progress=progress,
        )
        if space:
            space.save(found)
    _print(found, output)
    if picture:
        picture.draw(attention(*inputs, **call))


def _is_file(reference: str) -> bool:
    """Whether this is ``FILE[:NAME]`` rather than the name of a component."""
    path, _ = split_reference(reference)
    return path.suffix in SUFFIXES or path.exists()


def _inputs(arrays: Path | None, references: Mapping[str, str | None]) -> list[Array]:
    """Query, key and value, each from its own file or from one file for all."""
    if arrays is not None:
        describe(arrays)  # its errors name the file as given
    inputs = []
    for role in ("query", "key", "value"):
        reference = references[role]
        if reference is not None:
            inputs.append(read_array(reference, role))
        elif arrays is not None:
            inputs.append(read_array(f"{arrays}:{role}", role))
        else:
            raise OptionError(f"no {role}: give --{role}, or one file of query, key and value")
    return inputs


def _print(found: Mapping[str, Any], output: Path | None) -> None:
    """Print the shape and dtype of each array, and its numbers if no file has them."""
    for name, array in found.items():
        edges = f", {array.nnz} edges" if is_sparse(array) else ""
        typer.echo(f"{name} {array.shape} {array.dtype}{edges}")
        if output is None:
            typer.echo(str(array) if edges else np.array2string(array, threshold=200))
    if output is not None:
        typer.echo(printable(f"written to {output}"))
