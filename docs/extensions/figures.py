"""Interactive figures of the lesson, with numbers computed by the library as the site is built.

`figures` makes each of them as one file, with its data, script and style, and a policy that lets
the browser load nothing else. As a Sphinx extension it puts them next to the pages that show them
in a frame: ``<iframe class="figure" src="step-figure.html">``.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array, eye_array
from scipy.sparse.csgraph import shortest_path

import attention_core as ac
from attention_core.demo.translate.picture import as_page
from attention_core.demo.translate.read import translate
from attention_core.demo.translate.store import load_trained

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["figures", "karate_data", "one_step_data", "setup"]

DOCS = Path(__file__).parents[1]
TEMPERATURES = [0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0]
FORMULAS = {
    "dot": "q · k",
    "scaled_dot": "q · k / √4",
    "general": "q · W k",
    "additive": "v · tanh(W q + U k + b)",
}


def scorers() -> dict[str, ac.Scorer]:
    """The four scorers of the lesson; parameters that are usually learned are given.

    `general` gives the first feature more weight and the last one less. `additive` has two hidden
    units for each feature, which differ most where query and key are close.
    """
    eye = np.eye(4)
    return {
        "dot": ac.make_scorer("dot"),
        "scaled_dot": ac.make_scorer("scaled_dot"),
        "general": ac.make_scorer("general", weight=np.diag([1.5, 1.0, 1.0, 0.5])),
        "additive": ac.make_scorer(
            "additive",
            query_weight=np.hstack([eye, eye]),
            key_weight=np.hstack([-eye, -eye]),
            score_weight=[1.0] * 4 + [-1.0] * 4,
            bias=[1.0] * 4 + [-1.0] * 4,
        ),
    }


def one_step_data() -> dict[str, Any]:
    """Scores, weights and contexts of every step, for each scorer and temperature.

    The softmax of scores at a temperature is that of a call whose scores are given as a bias.
    """
    example = json.loads((DOCS / "data" / "one-step.json").read_text("utf-8"))
    keys, states = np.array(example["annotations"]), np.array(example["states"])
    found = {}
    for name, scorer in scorers().items():
        scores = ac.attend(states, keys, keys, scorer=scorer).scores  # (steps, words)
        heated = [
            ac.attend(0 * states, keys, keys, scorer="dot", bias=scores / temperature)
            for temperature in TEMPERATURES
        ]
        found[name] = {
            "formula": FORMULAS[name],
            "scores": scores.round(6).tolist(),
            "weights": [each.weights.round(6).tolist() for each in heated],
            "sums": [np.exp(each.log_normalizer).round(6).tolist() for each in heated],
            "contexts": [each.context.round(6).tolist() for each in heated],
        }
    return {**example, "temperatures": TEMPERATURES, "scorers": found}


def karate_data() -> dict[str, Any]:
    """Zachary's club: positions of the members, and their attention to friends."""
    pairs = np.loadtxt(DOCS / "data" / "karate.csv", delimiter=",", skiprows=1, dtype=int) - 1
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    friends = coo_array((np.ones(len(rows)), (rows, columns)), shape=(34, 34)).tocsr()
    steps = shortest_path(friends, unweighted=True, indices=[0, 33]).T  # (34, 2)
    side = np.array([[1.0, -1.0], [-1.0, 1.0]])
    scorer = ac.make_scorer(
        "gatv2", query_weight=side, key_weight=-side, score_weight=[-1.0, -1.0], negative_slope=0.2
    )
    mask = friends + eye_array(34, format="csr")
    weights = ac.attend(steps, steps, steps, scorer=scorer, mask=mask).weights.tocoo()
    members = np.loadtxt(DOCS / "data" / "karate-members.csv", delimiter=",", skiprows=1, dtype=str)
    return {
        "joined": members[:, 1].tolist(),
        "places": members[:, 2:].astype(float).tolist(),
        "edges": [
            [int(row), int(column), round(float(weight), 4)]
            for row, column, weight in zip(*weights.coords, weights.data, strict=True)
        ],
    }


def figures() -> dict[str, str]:
    """Every figure by its place in the site."""
    (found,) = translate(load_trained(), ["mardi 3 juin 1997"])
    return {
        "live.html": as_page(found),
        "tutorial/step-figure.html": _figure(
            "One decoder step", "one-step", one_step_data(), "scores, weights and context"
        ),
        "tutorial/karate-figure.html": _figure(
            "Zachary's karate club", "karate", karate_data(), "a graph"
        ),
    }


def _figure(title: str, name: str, data: dict[str, Any], what: str) -> str:
    folder = DOCS / "figures"
    body, script, style, template = (
        (folder / each).read_text("utf-8")
        for each in (f"{name}.html", f"{name}.js", "figure.css", "figure.html")
    )
    return Template(template).substitute(
        title=escape(title),
        what=escape(what),
        body=body,
        data=json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def _hash(source: str) -> str:
    return f"sha256-{b64encode(sha256(source.encode()).digest()).decode()}"


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for name, html in figures().items():
            (Path(app.outdir) / name).write_text(html, "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    for name, html in figures().items():
        (Path(sys.argv[1]) / Path(name).name).write_text(html, "utf-8")
