"""Pictures: their contents, not their pixels. People inspect each kind when it changes."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from cases import dense, make_case
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.figure import Figure
from typer.testing import CliRunner

import attention_core as ac
from attention_core.cli.app import app
from attention_core.parameter_files import read_arrays
from attention_core.plot import heatmap, save, text
from attention_core.plot.axis import make_axis
from attention_core.plot.fonts import families
from attention_core.plot.layout import LINE
from attention_core.plot.style import MASKED, NAN, color_map

NAN_, INF = float("nan"), float("inf")
ENGLISH = ["the", "agreement", "on", "the", "European", "Economic", "Area"]
FRENCH = ["l'", "accord", "sur", "la", "zone"]

# Letters that no installed font has are drawn as boxes, and older matplotlib warns.
no_such_letters = pytest.mark.filterwarnings("ignore:Glyph:UserWarning", "ignore:no installed")


def attended(rng, batch=(), *, queries=5, keys=7, dtype=np.float64, **options):
    case = make_case("scaled_dot")
    arrays = case.arrays(rng, batch, queries=queries, keys=keys, dtype=dtype)
    return case.attend(*arrays, **options)


def cells(axes):
    (mesh,) = (each for each in axes.collections if isinstance(each, QuadMesh))
    return mesh.get_array()


def part(axes, label):
    """The axes next to a panel: its entropy, key mass, or scale."""
    (found,) = (each for each in axes.child_axes if each.get_label() == label)
    return found


def bars(axes, label):
    return [
        bar.get_width() if label == "entropy" else bar.get_height()
        for bar in part(axes, label).patches
    ]


def ticks(axes, which):
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


def hatched(axes, label):
    """The number of cells hatched like a label, from the areas of the shapes."""
    shapes = [each for each in axes.collections if isinstance(each, PolyCollection)]
    areas = [
        np.ptp(path.vertices[:, 0]) * np.ptp(path.vertices[:, 1])
        for each in shapes
        if each.get_label() == label
        for path in each.get_paths()
    ]
    return sum(areas)


def legend(axes):
    found = axes.get_legend()
    return [] if found is None else [each.get_text() for each in found.get_texts()]


# ------------------------------------------------------------------------------------ the numbers


def test_cells_margins_and_labels_are_those_of_the_result(rng):
    result = attended(rng, is_causal=True)
    figure = heatmap(result, query_labels=FRENCH, key_labels=ENGLISH, title="A title")
    (axes,) = figure.axes
    allowed = np.tri(5, 7, dtype=bool)
    np.testing.assert_array_equal(np.ma.getmaskarray(cells(axes)), ~allowed)
    np.testing.assert_allclose(cells(axes).filled(0), result.weights)
    np.testing.assert_allclose(bars(axes, "entropy"), result.entropy)
    np.testing.assert_allclose(bars(axes, "key mass"), result.key_mass)
    assert ticks(axes, "x") == ENGLISH
    assert ticks(axes, "y") == FRENCH
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("key", "query")
    assert [each.get_text() for each in figure.texts] == ["A title"]
    assert hatched(axes, "masked") == (~allowed).sum()
    assert legend(axes) == ["masked"]
    assert part(axes, "scale").get_ylabel() == "weight"
    assert axes.yaxis_inverted()  # the first query is at the top


def test_scores_are_what_the_softmax_sees(rng):
    result = attended(rng, is_causal=True, softcap=2.0)
    (axes,) = heatmap(result, what="scores").figure.axes
    scores = np.where(np.tri(5, 7, dtype=bool), result.scores, 0)
    np.testing.assert_allclose(cells(axes).filled(0), scores)
    (mesh,) = (each for each in axes.collections if isinstance(each, QuadMesh))
    finite = result.scores[np.isfinite(result.scores)]
    assert mesh.get_clim() == pytest.approx((finite.min(), finite.max()))
    assert part(axes, "scale").get_ylabel() == "score"
    np.testing.assert_allclose(bars(axes, "entropy"), result.entropy)


def test_an_allowed_place_with_a_score_of_minus_infinity_is_not_masked(rng):
    bias = np.zeros((5, 7))
    bias[:, 2] = -INF
    result = attended(rng, bias=bias)
    least = result.scores[np.isfinite(result.scores)].min()
    for what, shown in (("weights", 0), ("scores", least)):
        (axes,) = heatmap(result, what=what).axes
        np.testing.assert_array_equal(cells(axes)[:, 2], [shown] * 5)
        assert not np.ma.getmaskarray(cells(axes)).any()
        assert legend(axes) == []
        assert heatmap(result, what=what).canvas.print_to_buffer()  # drawn without a warning


def test_weights_share_one_scale_that_begins_at_zero(rng):
    result = attended(rng, (2, 3))
    figure = heatmap(result)
    limits = {axes.collections[0].get_clim() for axes in figure.axes}
    assert limits == {(0.0, result.weights.max())}
    limits = {a.collections[0].get_clim() for a in heatmap(result, limits=(0, 1)).axes}
    assert limits == {(0, 1)}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("sparse", [False, True])
def test_every_dtype_can_be_drawn(rng, dtype, sparse):
    mask = rng.random((5, 7)) < 0.6
    result = attended(rng, dtype=dtype, mask=scipy.sparse.csr_array(mask) if sparse else mask)
    (axes,) = heatmap(result).axes
    np.testing.assert_array_equal(np.ma.getmaskarray(cells(axes)), ~mask)
    weights = dense(result.weights).astype(float)
    np.testing.assert_allclose(cells(axes).filled(0), weights, atol=0.01)
    assert len(text(result).splitlines()) == 8


MASKS = {
    "array": lambda rng: {"mask": rng.random((5, 7)) < 0.5},
    "sparse": lambda rng: {"mask": scipy.sparse.csr_array(rng.random((5, 7)) < 0.5)},
    "function": lambda rng: {"mask": lambda i, j: (i + j) % 3 != 0},
    "lengths": lambda rng: {"key_lengths": [4, 0], "query_lengths": [5, 2]},
    "window": lambda rng: {"window": (1, 1), "query_offset": np.array([0, 3])},
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("what", ["weights", "scores"])
def test_masked_cells_are_those_of_the_mask(rng, mask, what):
    result = attended(rng, (2,), **MASKS[mask](rng))
    expected = dense(result.weights) == 0  # no weight of these is so small
    for axes, masked in zip(heatmap(result, what=what).axes, expected, strict=True):
        np.testing.assert_array_equal(np.ma.getmaskarray(cells(axes)), masked)
        assert hatched(axes, "masked") == masked.sum()


def test_rows_of_nan_are_seen_and_told_from_masked_ones(rng):
    query = rng.standard_normal((4, 3))
    query[1] = NAN_
    mask = np.ones((4, 3), bool)
    mask[2] = False
    mask[1, 0] = False
    result = ac.attend(query, np.eye(3), np.eye(3), scorer="dot", mask=mask)
    (axes,) = heatmap(result).axes
    assert (hatched(axes, "masked"), hatched(axes, "NaN")) == (4, 2)
    assert legend(axes) == ["masked", "not a number"]
    (cross,) = part(axes, "entropy").lines
    assert cross.get_ydata().tolist() == [1.5]
    (crosses,) = part(axes, "key mass").lines
    assert crosses.get_xdata().tolist() == [1.5, 2.5]


def test_one_query_has_one_row(rng):
    case = make_case("scaled_dot")
    query, key, value = case.arrays(rng)
    result = case.attend(query[0], key, value)
    (axes,) = heatmap(result, key_labels=ENGLISH).axes
    np.testing.assert_allclose(cells(axes), result.weights[None])
    np.testing.assert_allclose(bars(axes, "key mass"), result.weights)
    assert bars(axes, "entropy") == [pytest.approx(float(result.entropy))]
    assert ticks(axes, "y") == []


# ----------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("kind", ["array", "list", "masked", "sparse", "bfloat16"])
def test_weights_from_elsewhere_are_drawn_like_those_of_a_result(rng, kind):
    mask = rng.random((5, 7)) < 0.7
    result = attended(rng, mask=mask)
    made = {
        "array": lambda w: w,
        "list": lambda w: w.tolist(),
        "masked": lambda w: np.ma.MaskedArray(w, ~mask),
        "sparse": scipy.sparse.csr_array,
        "bfloat16": lambda w: w.astype(ml_dtypes.bfloat16),
    }[kind](result.weights)
    close = {"atol": 0.01 if kind == "bfloat16" else 1e-12}
    (axes,) = heatmap(made).axes
    np.testing.assert_allclose(cells(axes).filled(0), result.weights, **close)
    np.testing.assert_allclose(bars(axes, "entropy"), result.entropy, atol=0.03)
    np.testing.assert_allclose(bars(axes, "key mass"), result.key_mass, atol=0.03)
    is_masked = kind in ("masked", "sparse")
    assert np.ma.getmaskarray(cells(axes)).sum() == (~mask).sum() * is_masked
    assert "entropy" not in text(made)


def test_sparse_weights_with_batch_axes_are_drawn_item_by_item(rng):
    mask = scipy.sparse.csr_array(rng.random((5, 7)) < 0.5)
    result = attended(rng, (2, 2), mask=mask)
    for drawn in (result, result.weights):
        figure = heatmap(drawn, batch=(1,))
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["[1, 0]", "[1, 1]"]
        for axes, weights in zip(figure.axes, dense(result.weights)[1], strict=True):
            np.testing.assert_allclose(cells(axes).filled(0), weights)
            np.testing.assert_allclose(bars(axes, "key mass"), weights.sum(0), atol=1e-15)


# -------------------------------------------------------------------------------------- summaries


def summarized(values, allowed, step, summary):
    """Cells of `step` queries by `step` keys, one at a time."""
    queries, keys = (range(0, n, step) for n in values.shape)
    found = np.ma.masked_all((len(queries), len(keys)))
    for i, top in enumerate(queries):
        for j, left in enumerate(keys):
            block = np.s_[top : top + step, left : left + step]
            if allowed[block].any():
                kept = values[block][allowed[block]]
                found[i, j] = kept.max() if summary == "max" else kept.mean()
    return found


@pytest.mark.parametrize("summary", ["max", "mean"])
@pytest.mark.parametrize("what", ["weights", "scores"])
@pytest.mark.parametrize("sparse", [False, True])
def test_large_matrices_are_summarized(rng, summary, what, sparse):
    mask = rng.random((530, 700)) < 0.02
    mask[:, 600:] = False
    mask[40:50] = False
    result = attended(
        rng, queries=530, keys=700, mask=scipy.sparse.csr_array(mask) if sparse else mask
    )
    figure = heatmap(result, what=what, summary=summary)
    (axes,) = figure.axes
    expected = summarized(dense(getattr(result, what)), mask, 3, summary)
    np.testing.assert_array_equal(np.ma.getmaskarray(cells(axes)), np.ma.getmaskarray(expected))
    np.testing.assert_allclose(cells(axes).filled(0), expected.filled(0), rtol=1e-9)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("key (3 in a cell)", "query (3 in a cell)")
    name = {"max": "largest", "mean": "mean"}[summary]
    assert part(axes, "scale").get_ylabel() == f"{name} {what[:-1]}\nin a cell"
    means = [result.entropy[i : i + 3].mean() for i in range(0, 530, 3)]
    np.testing.assert_allclose(bars(axes, "entropy"), means)
    means = [result.key_mass[i : i + 3].mean() for i in range(0, 700, 3)]
    np.testing.assert_allclose(bars(axes, "key mass"), means, atol=1e-12)
    assert part(axes, "entropy").get_xlabel() == "entropy\n(nats, mean)"
    # the axes count queries and keys, not cells
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 700), (530, 0))
    assert ticks(axes, "x")[:3] == ["0", "50", "100"]


def test_a_nan_is_not_lost_in_a_summary(rng):
    weights = rng.random((600, 300))
    weights[7, 8] = NAN_
    (axes,) = heatmap(weights).axes
    assert np.argwhere(np.ma.getmaskarray(cells(axes))).tolist() == [[7 // 3, 8 // 2]]
    assert hatched(axes, "NaN") == 6
    assert hatched(axes, "masked") == 0


def test_large_weights_are_never_whole_in_memory(rng):
    queries = keys = 4000  # 61 MiB of float32 weights
    result = attended(rng, queries=queries, keys=keys, dtype=np.float32, is_causal=True)
    heatmap(result.weights[:2, :2])  # imports matplotlib
    tracemalloc.start()
    try:
        (axes,) = heatmap(result).axes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert cells(axes).shape == (250, 250)
    assert peak < 32 << 20


def test_many_cells_become_pixels_in_vector_files(rng, tmp_path):
    sizes = {}
    for n in (40, 250):
        figure = heatmap(rng.random((n, n)))
        assert figure.axes[0].collections[0].get_rasterized() == (n == 250)
        save(figure, tmp_path / "weights.svg")
        sizes[n] = (tmp_path / "weights.svg").stat().st_size
    assert (
        sizes[250] < 600_000
    )  # noise does not compress; vector shapes would be ten times as large


# ----------------------------------------------------------------------------- choosing items


def test_heads_side_by_side(rng):
    result = attended(rng, (2, 6), is_causal=True)
    names = [f"head {n}" for n in range(6)]
    figure = heatmap(result, batch=1, names=names, query_labels=FRENCH, key_labels=ENGLISH)
    assert [axes.get_title(loc="left") for axes in figure.axes] == names
    for axes, weights in zip(figure.axes, result.weights[1], strict=True):
        np.testing.assert_allclose(cells(axes).filled(0), weights)
        assert ticks(axes, "x") == ENGLISH
    named = [bool(ticks(axes, "y")) for axes in figure.axes]
    assert named == [True, False, False, False, True, False]  # rows of four
    scales = [
        axes for axes in figure.axes if any(c.get_label() == "scale" for c in axes.child_axes)
    ]
    assert scales == [figure.axes[3]]
    tops = {part(axes, "entropy").get_xlim() for axes in figure.axes}
    assert tops == {(0, np.log(7))}


@pytest.mark.parametrize(
    ("batch", "items"),
    [
        (None, [(b, h) for b in range(2) for h in range(3)]),
        (1, [(1, 0), (1, 1), (1, 2)]),
        ((0, 2), [(0, 2)]),
        ((slice(None), [2, 0]), [(0, 2), (0, 0), (1, 2), (1, 0)]),
    ],
)
def test_batch_items_are_chosen_like_in_an_array(rng, batch, items):
    result = attended(rng, (2, 3))
    for axes, item in zip(heatmap(result, batch=batch).axes, items, strict=True):
        np.testing.assert_allclose(cells(axes), result.weights[item])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("queries", "keys"), [(slice(1, 4), [6, 0, 2]), ([3, 1], slice(None, None, 2)), ([-1], None)]
)
def test_some_queries_and_keys(rng, sparse, queries, keys):
    mask = rng.random((5, 7)) < 0.7
    result = attended(rng, mask=scipy.sparse.csr_array(mask) if sparse else mask)
    options = {"queries": queries, "keys": keys, "query_labels": FRENCH}
    (axes,) = heatmap(result, **options).axes
    rows = np.arange(5)[queries]
    columns = np.arange(7)[slice(None) if keys is None else keys]
    np.testing.assert_allclose(
        cells(axes).filled(0), dense(result.weights)[np.ix_(rows, columns)], atol=1e-15
    )
    np.testing.assert_allclose(bars(axes, "entropy"), result.entropy[rows])
    np.testing.assert_allclose(bars(axes, "key mass"), result.key_mass[columns])
    assert ticks(axes, "x") == [str(key) for key in columns]
    assert ticks(axes, "y") == [FRENCH[query] for query in rows]


def test_a_given_ax_is_drawn_into(rng):
    figure = Figure(layout="constrained")
    first, second = figure.subplots(1, 2)
    result = attended(rng)
    assert heatmap(result, ax=second, title="Here", margins=False) is figure
    assert not first.collections
    assert second.get_title(loc="left") == "Here"
    assert [each.get_label() for each in second.child_axes] == ["scale"]
    np.testing.assert_allclose(cells(second), result.weights)
    part_of = Figure().subfigures(1, 2)[0]
    assert heatmap(result, ax=part_of.subplots()) is part_of.figure


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 2)])
def test_nothing_hangs_out_of_plain_subplots(rng, grid):
    figure = Figure(figsize=(9, 7))
    axes = np.atleast_1d(figure.subplots(*grid)).ravel()
    areas = [ax.get_window_extent().frozen() for ax in axes]
    for ax in axes:
        heatmap(attended(rng, is_causal=True), ax=ax, query_labels=FRENCH, key_labels=ENGLISH)
    for ax, area in zip(axes, areas, strict=True):
        assert {each.get_label() for each in ax.child_axes} == {"entropy", "key mass", "scale"}
        drawn = ax.get_tightbbox()
        assert area.x0 - 1 <= drawn.x0
        assert drawn.x1 <= area.x1 + 1
        assert area.y0 - 1 <= drawn.y0
        assert drawn.y1 <= area.y1 + 1
        assert ax.get_window_extent().width > area.width / 4


# ------------------------------------------------------------------------------------ chosen items


def test_titles_of_axes_are_chosen(rng):
    (axes,) = heatmap(attended(rng), xlabel="source $x$", ylabel="").axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("source $x$", "")
    (axes,) = heatmap(np.eye(600), xlabel="source").axes
    assert axes.get_xlabel() == "source (3 in a cell)"


def test_colors_are_chosen(rng):
    from matplotlib import colormaps

    for cmap in ("viridis", colormaps["viridis"]):
        (axes,) = heatmap(attended(rng, is_causal=True), cmap=cmap).axes
        (mesh,) = (each for each in axes.collections if isinstance(each, QuadMesh))
        assert mesh.cmap(0.5) == colormaps["viridis"](0.5)
        assert mesh.cmap.get_bad() == pytest.approx((*of_hex(MASKED), 1))


@pytest.mark.parametrize(("annotate", "shown"), [(True, "0.25"), (".0%", "25%")])
def test_numbers_are_written_into_the_cells(annotate, shown):
    weights = np.ma.masked_equal([[0.25, 0.75], [-1, 1]], -1)
    (axes,) = heatmap(weights, annotate=annotate).axes
    written = [each.get_text() for each in axes.texts]
    assert (len(written), written[0]) == (3, shown)
    assert {each.get_color() for each in axes.texts} == {"#222222", "white"}
    widths = [each.get_window_extent().width for each in axes.texts]
    assert max(widths) < axes.get_window_extent().width / 2


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("figsize", [(8, 6), (12.5, 5)])
def test_the_size_of_a_figure_is_chosen(rng, batch, figsize):
    figure = heatmap(
        attended(rng, batch), figsize=figsize, query_labels=FRENCH, key_labels=ENGLISH, title="T"
    )
    assert figure.get_size_inches() == pytest.approx(figsize)
    drawn = figure.get_tightbbox()
    assert drawn.x0 > -0.05
    assert drawn.y0 > -0.05
    assert drawn.x1 < figsize[0] + 0.05
    assert drawn.y1 < figsize[1] + 0.05
    assert drawn.width > figsize[0] * 0.85


def test_the_scale_of_entropy_is_the_same_in_all_pictures():
    for peak in (0.0, 5.0):
        result = ac.attend(peak * np.eye(7), np.eye(7), np.eye(7), scorer="dot")
        (axes,) = heatmap(result).axes
        assert part(axes, "entropy").get_xlim() == pytest.approx((0, np.log(7)))
    (axes,) = heatmap(np.ones((2, 1))).axes
    assert part(axes, "entropy").get_xlim() == (0, 1)


# --------------------------------------------------------------------------- notebooks and scripts


def test_a_notebook_shows_a_figure_that_is_the_last_line(rng):
    figure = attended(rng).plot()
    png, shown = figure._repr_png_()
    assert png.startswith(b"\x89PNG")
    width, height = (int.from_bytes(png[n : n + 4], "big") for n in (16, 20))
    assert (shown["width"], shown["height"]) == (round(width / 2), round(height / 2))


@pytest.mark.parametrize(("backend", "known"), [("agg", []), ("QtAgg", [1]), ("inline", [])])
def test_pyplot_knows_figures_where_it_opens_windows(backend, known):
    code = f"""
import matplotlib, matplotlib.pyplot as plt
matplotlib.get_backend = lambda: {backend!r}  # as far as we are told: this machine has no screen
import attention_core as ac
figure = ac.plot.heatmap([[0.5, 0.5]], figsize=(5, 4))
assert plt.get_fignums() == {known}, plt.get_fignums()
assert not {known} or plt.figure(1) is figure
"""
    env = os.environ | {"MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


# ----------------------------------------------------------------------------------------- labels


@no_such_letters
def test_labels_are_short_visible_and_literal():
    labels = ["a" * 40, "$x_1$", " ", "\n", "\t", "a\x07b", "e\u0301", "夏", 7, ""]
    axis = make_axis("key", 10, labels=labels, chosen=None, most=10)
    assert axis.labels == ["a" * 19 + "…", "$x_1$", "␣", "↵", "⇥", "a\ufffdb", "é", "夏", "7", ""]
    (axes,) = heatmap(np.eye(10), query_labels=[*labels[:9], "x"], key_labels=labels).axes
    assert ticks(axes, "x") == axis.labels
    assert not axes.get_xticklabels()[1].get_parse_math()


def test_joiners_stay_and_other_characters_without_width_go():
    labels = [
        "\u0646\u200c\u0627",
        "\U0001f468\u200d\U0001f469",
        "co\u00adop",
        "\ufeffeins",
        "a\u200bb\u2060",
    ]
    axis = make_axis("key", 5, labels=labels, chosen=None, most=5)
    assert axis.labels == [*labels[:2], "coop", "eins", "ab"]


class FakeFonts:
    """Fonts that matplotlib finds: names and letters."""

    def __init__(self, monkeypatch, fonts):
        from matplotlib import font_manager

        from attention_core.plot import fonts as module

        entry = font_manager.FontEntry
        entries = [entry(fname=name, name=name, style="normal", weight=400) for name in fonts]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
        real = module._letters
        monkeypatch.setattr(
            module,
            "_letters",
            lambda path, index: {*map(ord, fonts[path])} if path in fonts else real(path, index),
        )


def test_letters_are_drawn_with_the_font_that_has_them(monkeypatch):
    FakeFonts(
        monkeypatch,
        {
            "Last Resort High-Efficiency": "你好a夏",
            "A Partial Serif": "你",
            "Z Sans": "你好",
            "B Serif": "你好",
        },
    )
    assert families(["你好", "a"]) == ["DejaVu Sans", "Z Sans"]


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_letters_that_no_font_has_are_named(monkeypatch):
    FakeFonts(monkeypatch, {"Last Resort": "夏你", "Z Sans": "你"})
    with pytest.warns(
        UserWarning, match=r"no installed font has '夏' \(U\+590F\); they are"
    ) as seen:
        heatmap(np.eye(2), key_labels=["夏", "你"])
    assert seen[0].filename == __file__


def test_the_letters_of_a_string_are_labels():
    (axes,) = heatmap(np.eye(3), query_labels="abc", key_labels="1 2").axes
    assert (ticks(axes, "y"), ticks(axes, "x")) == (["a", "b", "c"], ["1", "␣", "2"])
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {0}


@pytest.mark.parametrize(("count", "most", "expected"), [(7, 7, 7), (100, 30, 25), (100, 99, 50)])
def test_labels_that_do_not_fit_are_thinned_out(count, most, expected):
    labels = [f"word {n}" for n in range(count)]
    axis = make_axis("key", count, labels=labels, chosen=None, most=count)
    found = axis.ticks(most)
    assert len(found) == expected
    assert all(label == labels[int(place)] for place, label in found)


PICTURES = {
    "words": (5, 7, {"query_labels": FRENCH, "key_labels": ENGLISH, "title": "Words"}),
    "many words": (60, 50, {"query_labels": ["longer words"] * 60, "key_labels": ["words"] * 50}),
    "too many words": (300, 200, {"query_labels": ["w"] * 300, "key_labels": ["word"] * 200}),
    "one query": (1, 40, {"title": "A title that is longer than the picture is wide, by a lot"}),
    "one key": (40, 1, {}),
    "a column of words": (60, 2, {"query_labels": ["word"] * 60, "key_labels": ["a", "b"]}),
    "large": (600, 900, {"title": "Large"}),
    "far": (3, 100_000, {}),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("heads", [1, 3])
def test_labels_keep_apart_and_inside(rng, name, heads):
    queries, keys, options = PICTURES[name]
    result = ac.attend(
        rng.standard_normal((heads, queries, 4)),
        rng.standard_normal((heads, keys, 4)),
        np.ones((keys, 1)),
        scorer="dot",
        is_causal=True,
    )
    figure = heatmap(result, **options)
    figure.draw_without_rendering()
    dpi = figure.dpi
    width, height = figure.get_size_inches()
    assert 1 < width < 24
    assert 1 < height < 14
    box = figure.get_tightbbox()  # inches
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    for axes in figure.axes:
        name_of_bars = part(axes, "entropy").xaxis.label.get_window_extent()
        assert name_of_bars.x0 >= part(axes, "key mass").get_window_extent().x1
        for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
            places = [axis.get_transform().transform(tick) for tick in axis.get_majorticklocs()]
            labels = axis.get_majorticklabels()
            if not labels or labels[0].get_rotation():
                scale = np.ptp(axes.get_window_extent().get_points()[:, side]) / dpi
                gaps = np.diff(places) * scale / (keys if side == 0 else queries)
                assert (gaps >= LINE - 1e-6).all()
            else:
                boxes = [label.get_window_extent() for label in labels]
                assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


# ------------------------------------------------------------------------------------- thumbnails


def test_images_stand_on_the_axes(rng):
    images = rng.integers(0, 17, (7, 8, 8)).astype(np.uint8)
    images[0, 0, 0], images[1, 0, 0] = 0, 16
    colors = rng.integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
    (axes,) = heatmap(attended(rng), query_labels=colors, key_labels=list(images)).axes
    assert ticks(axes, "x") == ticks(axes, "y") == []
    (keys,) = part(axes, "key images").images
    mosaic = keys.get_array()
    assert mosaic.shape == (10, 70, 3)  # 8 and a border
    assert mosaic[1, 1].tolist() == [1, 1, 1]  # no ink is white
    assert mosaic[1, 11].tolist() == [0, 0, 0]  # the most ink is black
    for n, image in enumerate(images):
        ink = mosaic[1:9, 10 * n + 1 : 10 * n + 9, 0]
        np.testing.assert_allclose(ink, 1 - image / 16)
    (queries,) = part(axes, "query images").images
    mosaic = queries.get_array()
    assert mosaic.shape == (40, 8, 3)
    np.testing.assert_allclose(mosaic[2:6, 1:7], colors[0] / 255)
    assert part(axes, "key images").get_xlim() == (0, 7)


def test_the_keys_a_query_attends_to_most(rng):
    images = rng.random((200, 8, 8))
    result = attended(rng, queries=2, keys=200)
    (axes,) = heatmap(result, key_labels=images, keys=result.top_k(6).indices[0]).axes
    assert np.all(np.diff(cells(axes)[0]) <= 0)
    assert part(axes, "key images").images[0].get_array().shape == (10, 60, 3)
    assert ticks(axes, "y") == ["0", "1"]
    assert text(result, key_labels=images)  # images become positions


# ----------------------------------------------------------------------------------------- colors


def oklab(rgb):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.transpose(to_cones)) @ np.transpose(to_lab)


# Machado, Oliveira and Fernandes (2009), doi:10.1109/TVCG.2009.113: severity 1, on linear RGB
VISION = {
    "full": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
    "none": [[0.2126, 0.7152, 0.0722]] * 3,
}


def seen(rgb, vision):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.transpose(VISION[vision])).clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def of_hex(color):
    return np.array([int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)])


def test_equal_differences_look_equal():
    colors = oklab(color_map()(np.arange(0, 256, 3))[:, :3])
    steps = np.linalg.norm(np.diff(colors, axis=0), axis=1)
    assert steps.max() / steps.min() < 1.2


@pytest.mark.parametrize("vision", VISION)
def test_the_order_of_the_colors_is_seen_with_every_kind_of_vision(vision):
    lightness = oklab(seen(color_map()(np.arange(0, 256, 3))[:, :3], vision))[:, 0]
    assert (np.diff(lightness) < -0.003).all()
    assert lightness[0] - lightness[-1] > 0.7


@pytest.mark.parametrize("vision", [name for name in VISION if name != "none"])
@pytest.mark.parametrize("color", [MASKED, NAN])
def test_colors_outside_the_scale_are_distinct_from_it(color, vision):
    scale = oklab(seen(color_map()(np.arange(0, 256, 3))[:, :3], vision))
    other = oklab(seen(of_hex(color), vision))
    assert np.linalg.norm(scale - other, axis=1).min() > 0.02  # and it is hatched


# ------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_picture_is_the_same_file(rng, tmp_path, kind):
    result = attended(rng, (2,), is_causal=True)
    paths = [tmp_path / f"{n}.{kind}" for n in range(2)]
    for path in paths:
        result.plot(path, query_labels=FRENCH)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert len(first) > 5000
    assert not re.search(rb"<dc:date>|CreationDate", first)
    assert sorted(tmp_path.iterdir()) == paths


@no_such_letters
def test_text_stays_text_in_svg(rng, tmp_path):
    labels = ["naïve", "日本語", "<&>"]
    figure = heatmap(np.eye(3), query_labels=labels, key_labels=labels, title="A title")
    save(figure, str(tmp_path / "weights.svg"))
    svg = (tmp_path / "weights.svg").read_text("utf-8")
    for words in ("naïve", "日本語", "&lt;&amp;&gt;", "A title", "query", "key mass", "entropy"):
        assert f">{words}</text>" in svg or f">{words}</tspan>" in svg, words


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    figure = heatmap(np.eye(2))
    path = tmp_path / "weights.png"
    path.write_text("before")

    def fail(place, **_):
        place.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(ac.ParameterFileError, match="No space left on device"):
        save(figure, path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights.jpg", "'weights.jpg': the name must end in .png or .svg or .pdf"),
        ("no/weights.png", "'no/weights.png': No such file or directory"),
    ],
)
def test_places_that_cannot_be_written(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ac.ParameterFileError) as caught:
        save(heatmap(np.eye(2)), name)
    assert str(caught.value) == f"cannot write {message}"


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"what": "weight"}, ac.OptionError, "what must be 'weights' or 'scores', got 'weight'"),
        ({"summary": "sum"}, ac.OptionError, "summary must be 'max' or 'mean', got 'sum'"),
        (
            {"key_labels": "abc"},
            ac.ShapeError,
            "key_labels must have one label per key, 7; got 3",
        ),
        ({"queries": [5]}, ac.OptionError, "queries: [5] is out of bounds for 5 positions"),
        ({"keys": [0.5]}, ac.OptionTypeError, "keys must be a slice or integers, got [0.5]"),
        ({"queries": slice(5, 9)}, ac.OptionError, "nothing to draw: there is no query"),
        (
            {"what": ["weights"]},
            ac.OptionError,
            "what must be 'weights' or 'scores', got ['weights']",
        ),
        (
            {"key_labels": 7},
            ac.OptionTypeError,
            "key_labels must be a list of labels, one per key, got 7",
        ),
        (
            {"batch": 0, "names": 1},
            ac.OptionTypeError,
            "names must be a list of names, one per panel, got 1",
        ),
        (
            {"batch": [[0], [1, 2]]},
            ac.OptionError,
            "batch: [[0], [1, 2]] does not index batch axes (3, 6)",
        ),
        ({"batch": 3}, ac.OptionError, "batch: 3 does not index batch axes (3, 6)"),
        ({"batch": slice(0)}, ac.OptionError, "nothing to draw: there is no batch item"),
        (
            {},
            ac.OptionError,
            "18 batch items are too many for one picture, which has up to 16; "
            "choose some with batch=, an index into axes (3, 6)",
        ),
        (
            {"batch": 0, "names": ["a"]},
            ac.ShapeError,
            "names must have one name per panel, 6; got 1",
        ),
    ],
)
def test_invalid_pictures(rng, options, error, message):
    result = attended(rng, (3, 6))
    for draw in (heatmap, text):
        with pytest.raises(error) as caught:
            draw(result, **options)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones((0, 3)), ac.OptionError, "nothing to draw: there is no query"),
        (np.ones((3, 0)), ac.OptionError, "nothing to draw: there is no key"),
        (np.ones((0, 2, 2)), ac.OptionError, "nothing to draw: there is no batch item"),
        (1.0, ac.ShapeError, "weights must have shape (..., L, S) or (S,), got ()"),
        ([["a"]], ac.DTypeError, "weights must be real numbers, got dtype <U1"),
        (None, ac.DTypeError, "weights must be an array, got None"),
        (
            [[1.0], [1.0, 2.0]],
            ac.ShapeError,
            "weights must be an array, got nested lists of different lengths",
        ),
    ],
)
def test_arrays_that_cannot_be_drawn(weights, error, message):
    for draw in (heatmap, text):
        with pytest.raises(error) as caught:
            draw(weights)
        assert str(caught.value) == message


def test_other_errors_of_pictures(rng):
    with pytest.raises(ac.OptionError, match="scores can be drawn from a result only"):
        heatmap(np.eye(3), what="scores")
    with pytest.raises(ac.OptionError, match=r"ax has room for one panel, not 2; choose one"):
        heatmap(attended(rng, (2,)), ax=Figure().subplots())
    with pytest.raises(ac.OptionTypeError, match=r"ax must be one matplotlib Axes, got \[3\]"):
        heatmap(np.eye(2), ax=[3])
    with pytest.raises(ac.OptionTypeError, match="figure must be a matplotlib figure, got 3"):
        save(3, "weights.png")
    images = rng.random((60, 4, 4))
    with pytest.raises(ac.OptionError, match=r"60 images are too many .* at most 48 with keys="):
        heatmap(np.eye(60), key_labels=images)
    with pytest.raises(ac.ShapeError, match=r"query_labels: an image must have shape"):
        heatmap(np.eye(2), query_labels=[np.ones((2, 2, 2, 2))] * 2)
    for limits in [(1, 0), (NAN_, 1), (0, INF), (1, 1)]:
        with pytest.raises(ac.OptionError, match="limits must be two increasing finite numbers"):
            heatmap(np.eye(2), limits=limits)
    for limits in [(0,), 1, ("0", 1), (False, True)]:
        with pytest.raises(ac.OptionTypeError, match="limits must be two increasing finite num"):
            heatmap(np.eye(2), limits=limits)
    for figsize in [(0, 3), (3, -1), (NAN_, 3)]:
        with pytest.raises(ac.OptionError, match="figsize must be two positive finite numbers"):
            heatmap(np.eye(2), figsize=figsize)
    with pytest.raises(ac.OptionError, match="figsize must be at most 400 inches"):
        heatmap(np.eye(2), figsize=(3, 500))
    with pytest.raises(ac.OptionError, match=r"figsize \(1, 1\) leaves no room for the cells"):
        heatmap(np.eye(2), figsize=(1, 1))
    with pytest.raises(ac.OptionError, match=r"figsize cannot be given with ax"):
        heatmap(np.eye(2), figsize=(3, 3), ax=Figure().subplots())
    with pytest.raises(ac.OptionError, match=r"no color map 'virids'; did you mean 'viridis'\?"):
        heatmap(np.eye(2), cmap="virids")
    with pytest.raises(ac.OptionTypeError, match="cmap must be a name or a matplotlib Colormap"):
        heatmap(np.eye(2), cmap=["red", "blue"])
    with pytest.raises(
        ac.OptionError, match=r"annotate must be True or a number format .* got '2g%'"
    ):
        heatmap(np.eye(2), annotate="2g%")
    with pytest.raises(
        ac.OptionError, match="annotate has room for 40 queries and 40 keys, not 41"
    ):
        heatmap(np.eye(41), annotate=True)
    with pytest.raises(ac.OptionError, match="width must be at least 40 columns, got 20"):
        text(np.eye(2), width=20)


def test_without_matplotlib_the_error_says_what_to_install(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = attended(rng)
    with pytest.raises(ac.MissingExtraError) as caught:
        result.plot()
    assert str(caught.value) == "drawing needs matplotlib: pip install 'attention-core[plot]'"
    assert result.to_text()


# ----------------------------------------------------------------------------------- environments


def test_nothing_is_imported_before_it_is_needed():
    code = """
import json, sys
def has(*names): return [name in sys.modules for name in names]
import attention_core as ac
found = [has("attention_core.plot")]
result = ac.attend([[1.0]], [[1.0]], [[1.0]], scorer="dot")
result.to_text()
found.append(has("attention_core.plot", "matplotlib"))
ac.plot.heatmap(result)
found.append(has("matplotlib", "matplotlib.pyplot", "scipy"))
print(json.dumps(found))
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(run.stdout) == [[False], [True, False], [True, False, False]]


def test_settings_of_the_program_neither_change_nor_matter(rng, tmp_path):
    import matplotlib

    result = attended(rng)
    result.plot(tmp_path / "plain.svg")
    loud = {"font.size": 30, "axes.grid": True, "text.usetex": False, "image.cmap": "jet"}
    with matplotlib.rc_context(loud):
        before = dict(matplotlib.rcParams)
        result.plot(tmp_path / "loud.svg")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "loud.svg").read_bytes()


# -------------------------------------------------------------------------------------- plain text


def three_letters(**options):
    x = 3 * np.eye(4)
    return ac.attend(x, np.eye(4), np.eye(4), scorer="dot", **options)


def test_text_of_letters():
    assert three_letters(is_causal=True).to_text(query_labels="ab c", key_labels="wxyz") == (
        """\
          w x y z
       a │██······│ 0.00 nats
       b │░░██····│ 0.19
       ␣ │░░░░██··│ 0.37
       c │░░░░░░██│ 0.53
key mass  ████▇▇▆▆  max 1.14
░ 0.04  ▒ 0.16  ▓ 0.36  █ 0.64 and more  · masked"""
    )


def test_text_in_ascii():
    query = 3 * np.eye(4)
    query[1] = NAN_
    mask = np.tri(4, dtype=bool)
    mask[2] = False
    result = ac.attend(query, np.eye(4), np.eye(4), scorer="dot", mask=mask)
    drawn = text(result, ascii_only=True, key_labels=["one", "two", "three", "four"])
    assert drawn == (
        """\
              t
              h f
          o t r o
          n w e u
          e o e r
       0 |@@------| 0.00 nats
       1 |????----| nan
       2 |--------| 0.00
       3 |......@@| 0.53
key mass  ????  99  max 0.87
. 0.04  + 0.16  # 0.36  @ 0.64 and more  - masked  ? not a number"""
    )


def test_text_of_scores_and_wide_letters():
    drawn = text(three_letters(), what="scores", query_labels=["夏の", "b", "c", "d"], keys=[0, 1])
    assert drawn == (
        """\
          0 1
    夏の │██  │ 0.53 nats
       b │  ██│ 0.53
       c │    │ 0.53
       d │    │ 0.53
key mass  ████  max 1
░ 0.6  ▒ 1.2  ▓ 1.8  █ 2.4 and more"""
    )


def test_text_of_one_query():
    result = ac.attend([1.0, 0.0], np.eye(2), np.eye(2), scorer="dot")
    assert result.to_text() == (
        """\
          0 1
   query │██▓▓│ 0.58 nats
key mass  ██▃▃  max 0.731
░ 0.029  ▒ 0.12  ▓ 0.26  █ 0.47 and more"""
    )


def test_text_of_what_is_too_large_is_summarized():
    drawn = text(np.eye(500), width=60).splitlines()
    assert max(map(len, drawn)) <= 90
    assert max(map(len, drawn[:-2])) <= 60
    assert drawn[-1] == (
        "Each cell is the largest of the weights of 11 queries by 14 keys; margins are means."
    )
    rows = [line for line in drawn if "│" in line]
    assert len(rows) == 46
    assert all("█" in row for row in rows)


def test_text_of_heads(rng):
    drawn = attended(rng, (2,)).to_text(names=["first", "second"]).split("\n\n")
    assert [part.splitlines()[0] for part in drawn] == ["first", "second"]


@pytest.mark.parametrize("width", [40, 60, 79, 120])
def test_no_line_of_cells_is_wider_than_the_terminal(rng, width):
    labels = ["a very long label of a query"] * 5
    drawn = attended(rng, keys=300).to_text(width=width, query_labels=labels)
    assert max(len(line) for line in drawn.splitlines()[:-2]) <= width


# ------------------------------------------------------------------------------------ command line


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    arrays = {"query": (2, 5, 4), "key": (2, 7, 4), "value": (2, 7, 3)}
    np.savez("qkv.npz", **{name: rng.standard_normal(shape) for name, shape in arrays.items()})
    (tmp_path / "french.txt").write_text("\n".join(FRENCH))
    (tmp_path / "english.txt").write_text("\n".join(ENGLISH) + "\n")
    return tmp_path


def run(*arguments, code=0):
    arguments = ["attend", "qkv.npz", "--scorer", "dot", "--causal", *arguments]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("name", ["weights.svg", "weights.png", "weights.pdf"])
def test_attend_draws_in_a_file(folder, name):
    labels = ["--query-labels", "french.txt", "--key-labels", "english.txt"]
    output = run("--plot", name, "--batch", "1", *labels, "-o", "out.npy").stdout
    assert output.endswith(f"drawn in {name}\n")
    found = (folder / name).read_bytes()
    assert len(found) > 5000
    assert (folder / "out.npy").exists()
    result = ac.attend(*read_arrays("qkv.npz").values(), scorer="dot", is_causal=True)
    result.plot("same" + name[-4:], batch=1, query_labels=FRENCH, key_labels=ENGLISH)
    assert found == (folder / f"same{name[-4:]}").read_bytes()


def test_attend_draws_in_the_terminal(folder):
    output = run("--show", "--batch", "0", "--query-labels", "french.txt", "-o", "out.npy").stdout
    result = ac.attend(*read_arrays("qkv.npz").values(), scorer="dot", is_causal=True)
    assert result.to_text(batch=0, query_labels=FRENCH) in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "w.jpg"], "'w.jpg': the name must end in .png or .svg or .pdf"),
        (["--plot", "no/w.png"], "cannot write 'no/w.png': there is no folder 'no'"),
        (["--batch", "0"], "--batch is for pictures; add --plot, --html or --show"),
        (["--key-labels", "english.txt"], "--key-labels is for pictures"),
        (["--show", "--batch", "x"], "--batch: 'x' is not integers such as 0,3"),
        (["--show", "--key-labels", "no.txt"], "cannot read 'no.txt': No such file"),
        (["--show", "--key-labels", "qkv.npz"], "'qkv.npz' is not text in UTF-8"),
        (["--show", "--key-labels", "french.txt"], "must have one label per key, 7; got 5"),
    ],
)
def test_attend_says_what_is_wrong_with_a_picture(folder, arguments, message):
    assert message in run(*arguments, code=2).stderr


# ------------------------------------------------------------------------------------ the how-to


@pytest.mark.slow
def test_the_page_on_pictures_runs_as_it_says(tmp_path, monkeypatch, capsys):
    """The Python of the page, one block after the other, prints the page's text."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "pictures.md").read_text("utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    code = "".join(body for language, body in blocks if language == "python")
    exec(compile(code, "pictures.md", "exec"), {})
    printed = "".join(body for language, body in blocks if language == "text")
    assert capsys.readouterr().out == printed
    shown = re.findall(r"\]\((\w+\.png)\)", page)
    assert sorted(shown) == sorted(path.name for path in tmp_path.iterdir())
