"""The demonstration as a picture (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attention_core.demo.classify import Look, Outcome
from attention_core.plot.style import need_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

INK = "#222222"
QUIET = "#8a8a8a"
# the blue and vermilion of Okabe and Ito, which are safe for color blindness
STRONG = "#0072b2"
OTHER = "#d55e00"
GROUND = "#e8e8e8"
WIDTH, HEIGHT = 10.0, 6.0  # inches


def draw(outcomes: Sequence[Outcome], chosen: Outcome, look: Look) -> Figure:
    """Draw the query, its strongest keys, the weight of each label, and the accuracies.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    need_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.family": "sans-serif", "font.size": 10, "text.color": INK}):
        figure = Figure(figsize=(WIDTH, HEIGHT), dpi=160, facecolor="white")
        figure.text(0.05, 0.915, "Attention reads a digit", fontsize=19, weight="bold")
        figure.text(
            0.05,
            0.86,
            "A query is compared with 1,200 keys. The more similar, the larger the weight; "
            "the weights add up to 1.",
            fontsize=11,
        )
        _digits(figure, look, chosen)
        _context(figure, look)
        _accuracies(figure, outcomes, chosen)
    return figure


def _digits(figure: Figure, look: Look, chosen: Outcome) -> None:
    _heading(figure, 0.05, 0.785, "query")
    _image(figure, (0.05, 0.575), 0.115, look.query, INK)
    title = f"the five keys with the largest weights (scorer: {chosen.scorer})"
    _heading(figure, 0.27, 0.785, title)
    for place, (image, label, weight) in enumerate(
        zip(look.keys, look.labels, look.weights, strict=True)
    ):
        color = STRONG if label == look.answer else OTHER
        x = 0.27 + place * 0.1413
        _image(figure, (x, 0.575), 0.115, image, color)
        _weight_bar(figure, (x, 0.55), 0.115, float(weight), color)
        figure.text(x, 0.503, f"{weight:.3f}", fontsize=13, weight="bold", color=color)
        figure.text(x + 0.115, 0.503, f"a {label}", fontsize=11, color=color, ha="right")


def _heading(figure: Figure, x: float, y: float, text: str) -> None:
    figure.text(x, y, text, fontsize=12, weight="bold")


def _weight_bar(
    figure: Figure, corner: tuple[float, float], width: float, weight: float, color: str
) -> None:
    """Draw a bar whose length is the weight, on a background whose length is 1."""
    from matplotlib.patches import Rectangle

    figure.add_artist(Rectangle(corner, width, 0.013, color=GROUND))
    figure.add_artist(Rectangle(corner, width * weight, 0.013, color=color))


def _image(
    figure: Figure, corner: tuple[float, float], width: float, image: NDArray[np.uint8], color: str
) -> None:
    axes = figure.add_axes((*corner, width, width * WIDTH / HEIGHT))
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=16, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=1.8)


def _context(figure: Figure, look: Look) -> None:
    axes = figure.add_axes((0.05, 0.105, 0.48, 0.265))
    colors = [STRONG if label == look.answer else OTHER for label in range(10)]
    bars = axes.bar(range(10), look.context, width=0.72, color=colors)
    labels = [f"{share:.2f}" if share >= 0.005 else "" for share in look.context]
    axes.bar_label(bars, labels, padding=2, fontsize=10)
    axes.set(xticks=range(10), yticks=[], ylim=(0, 1.1))
    _plain(axes)
    axes.set_xlabel("label", color=INK)
    axes.set_title(
        f"context: the weights of all keys, added up by label. It reads {look.answer}.",
        loc="left",
        fontsize=12,
        weight="bold",
        pad=10,
    )


def _accuracies(figure: Figure, outcomes: Sequence[Outcome], chosen: Outcome) -> None:
    axes = figure.add_axes((0.685, 0.105, 0.265, 0.265))
    places = range(len(outcomes))
    colors = [STRONG if outcome is chosen else QUIET for outcome in outcomes]
    bars = axes.barh(places, [outcome.accuracy for outcome in outcomes], color=colors, height=0.6)
    axes.bar_label(bars, [f"{outcome.accuracy:.3f}" for outcome in outcomes], padding=4)
    axes.set(yticks=places, xticks=[], xlim=(0, 1.15))
    axes.set_yticklabels([outcome.title for outcome in outcomes])
    axes.invert_yaxis()
    _plain(axes)
    axes.set_title("accuracy on 597 queries", loc="left", fontsize=12, weight="bold", pad=10)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(length=0, colors=INK)
