"""The figures of the lesson: the displayed numbers, and every control."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from site_extensions import DOCS, figures

import attention_core as ac

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if find_spec("attention_core_kernels") is None:  # imported, a broken one would be skipped, too
        pytest.skip("needs the distribution attention-core-kernels")
    folder = tmp_path_factory.mktemp("figures")
    for name, html in figures.figures().items():
        (folder / Path(name).name).write_text(html, "utf-8")
    return folder


def number(text):
    return float(text.replace("\u2212", "-"))


def test_a_step_shows_scores_weights_and_context_of_the_library(opened, made):
    example = figures.one_step_data()
    keys, states = np.array(example["annotations"]), np.array(example["states"])
    with opened(made / "step-figure.html") as page:
        for name, heat, step in [("dot", 4, 1), ("general", 0, 6), ("additive", 8, 3)]:
            page.check(f"input[value={name}]")
            page.fill("#temperature", str(heat))
            page.fill("#step", str(step))
            temperature = number(page.inner_text("#degree"))
            assert temperature == figures.TEMPERATURES[heat]
            scorer = figures.scorers()[name]
            scores = ac.attend(states[step], keys, keys, scorer=scorer).scores
            exponentials = np.exp(scores / temperature)
            weights = exponentials / exponentials.sum()
            for column, numbers in ((2, scores), (3, weights)):
                cells = page.locator(f"#words tr > :nth-child({column + 1}) .number")
                shown = [number(text) for text in cells.all_inner_texts()]
                np.testing.assert_allclose(shown, numbers, atol=0.0051)
            context = page.inner_text("#context .number").strip("()").split(", ")
            np.testing.assert_allclose([*map(number, context)], weights @ keys, atol=0.051)
            assert f"“{example['source'][weights.argmax()]}”" in page.inner_text("#said")


def test_a_step_is_moved_with_buttons_and_keys(opened, made):
    with opened(made / "step-figure.html") as page:
        page.click("#on")
        assert page.inner_text("#said").startswith("Step 3 of 7: the decoder has written “le chat”")
        page.click("#back")
        page.click("#back")
        assert page.locator("#back").is_disabled()
        page.focus("#step")
        page.keyboard.press("End")
        assert page.inner_text("#said").startswith("Step 7 of 7")
        assert page.locator("#on").is_disabled()
        page.focus("input[value=dot]")
        page.keyboard.press("ArrowRight")
        assert "q · k / √4" in page.inner_text("#score")
        page.hover("#words tr:nth-child(2)")
        assert page.inner_text("#score").endswith("for “cat”")
        page.locator("#words button").nth(3).focus()
        assert page.inner_text("#score").endswith("for “on”")


def test_pointing_at_a_member_shows_whom_it_attends_to(opened, made):
    edges = figures.karate_data()["edges"]
    with opened(made / "karate-figure.html") as page:
        page.hover("#graph > g.instructor >> nth=0")
        own = [edge for edge in edges if edge[0] == 0]
        assert page.inner_text("#said").startswith(f"Member 1 has {len(own) - 1} friends")
        assert page.locator("#graph g line").count() == len(own) - 1
        assert page.locator("#graph .heard").count() == len(own)
        page.select_option("#member", "9")
        weights = {other: weight for member, other, weight in edges if member == 8}
        assert sum(weights.values()) == pytest.approx(1, abs=1e-3)
        assert f"itself {weights[8]:.3f}" in page.inner_text("#said")


@pytest.mark.parametrize("name", ["step-figure.html", "karate-figure.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_fit_a_phone_and_everybody(opened, made, serious, name, scheme):
    with opened(made / name, width=328, color_scheme=scheme) as page:  # in a frame
        assert page.evaluate("document.documentElement.scrollWidth") <= 328
        for table in page.locator(".wide").all():
            assert table.evaluate("e => e.scrollWidth <= e.clientWidth")
    with opened(made / name, width=390, color_scheme=scheme, check=False) as page:
        assert serious(page) == []


def test_without_scripts_a_figure_says_so(opened, made):
    with opened(made / "step-figure.html", java_script_enabled=False) as page:
        assert "needs scripts" in page.inner_text("noscript")
        assert page.locator("#figure").is_hidden()


def test_pages_show_each_figure_in_a_frame():
    shown = "".join(page.read_text("utf-8") for page in DOCS.rglob("*.md"))
    for name in figures.figures():
        assert f'src="{Path(name).name}"' in shown
