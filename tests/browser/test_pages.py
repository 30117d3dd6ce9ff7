"""Pages in a browser: display, pointer and keyboard."""

from __future__ import annotations

import numpy as np
import pytest

import attention_core as ac
from attention_core.plot import page

pytestmark = pytest.mark.slow

WORDS = ["the", "agreement", "on", "the", "European", "Economic", "Area"]
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<b>bold</b>",
    "שלום",
    "日本語の長いラベル" * 5,
    "a b",
]


def attended(rng, *shape, dtype=np.float64, **options):
    query, key = rng.normal(size=(2, *shape, 4)).astype(dtype)
    return ac.attend(query, key, key, scorer="dot", **options)


@pytest.fixture
def written(tmp_path):
    def write(results, **options):
        path = tmp_path / "a page.html"
        page(results, path, **options)
        return path

    return write


def frame(page):
    """Wait until a change is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown(page):
    """The query, key and number in the sentence above the picture."""
    frame(page)
    return [page.inner_text(f"#{name}") for name in ("query-name", "key-name", "number")]


def until(page, condition):
    """Wait for a change; the content policy of pages blocks Playwright's own function."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(condition)


def centre(page, query, key):
    """The point on the canvas at the center of a cell."""
    box = page.evaluate("box")
    x = box["left"] + (key + 0.5) * box["wide"]
    return {"x": x, "y": box["above"] + (query + 0.5) * box["high"]}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_pointing_at_a_cell_reads_its_exact_weight(opened, written, rng, dtype):
    result = attended(rng, 7, dtype=dtype)
    with opened(written(result, query_labels="abcdefg", key_labels=WORDS)) as page:
        for query, key in [(0, 0), (2, 5), (6, 6), (6, 1)]:
            page.hover("#matrix", position=centre(page, query, key))
            name, other, number = shown(page)
            assert (name, other) == ("abcdefg"[query], WORDS[key])
            assert dtype(number) == result.weights[query, key]


def test_pointing_at_a_query_or_a_key_draws_its_lines(opened, written, rng):
    result = attended(rng, 7, is_causal=True)
    with opened(written(result)) as page:
        frame(page)
        every = page.locator("#threads path").count()
        for side, weights in (("query", result.weights), ("key", result.weights.T)):
            page.hover(f"#{side}-4")
            frame(page)
            part = weights[4] / result.weights.max()
            lines = page.locator("#threads path")
            widths = [float(line.get_attribute("stroke-width")) for line in lines.all()]
            assert lines.count() == (part >= 0.004).sum() < every
            np.testing.assert_allclose(widths, 1 + 5 * part[part >= 0.004], atol=0.05)
            other = {"query": "key", "key": "query"}[side]
            strongest = weights[4].argmax()
            assert page.get_attribute(f"#{other}-{strongest}", "aria-selected") == "true"
            assert page.inner_text(f"#{other}-{strongest} small") != ""


def test_masked_cells_and_nan_are_told_apart_from_small_weights(opened, written):
    weights = np.ma.MaskedArray([[0.0, 1.0, 0.0], [np.nan, 0.0, 0.5]], [[0, 0, 1], [0, 0, 0]])
    with opened(written(weights)) as page:
        read = {}
        for place in [(0, 0), (0, 2), (1, 0)]:
            page.hover("#matrix", position=centre(page, *place))
            read[place] = shown(page)[2]
        assert list(read.values()) == ["0", "masked", "not a number"]
        assert page.inner_text("#entropy") == "not a number"
        page.hover("h1")
        page.focus("#matrix")
        page.keyboard.press("ArrowDown")
        frame(page)
        pixel = "(i, j) => [...pixels().getContext('2d').getImageData(j, i, 1, 1).data]"
        colors = [page.evaluate(f"({pixel})({i}, {j})") for i, j in read]
        assert colors[1][3] == 0  # the hatching shows through
        assert [color[3] for color in (colors[0], colors[2])] == [255, 255]
        assert "repeating-linear-gradient" in page.evaluate(
            "getComputedStyle(canvas).backgroundImage"
        )
        assert page.inner_text("#legend").split("\n")[-2:] == ["masked", "not a number"]


def test_the_strongest_of_a_row_is_never_masked(opened, written, rng):
    key = rng.normal(size=(4, 3))
    result = ac.attend(key - 9, key + 9, key, scorer="dot", is_causal=True)
    assert result.scores.max() < 0  # less than 0, the value of masked entries
    with opened(written(result, what="scores")) as page:
        page.hover("#query-1")
        name, key, number = shown(page)
        assert (name, key) == ("1", str(result.scores[1].argmax()))
        assert float(number) == result.scores[1].max()


def test_the_keyboard_walks_cells_and_lists(opened, written, rng):
    result = attended(rng, 5)
    with opened(written(result)) as page:
        page.keyboard.press("Tab")  # the slider
        page.keyboard.press("ArrowRight")
        assert shown(page)[0] == "1"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "matrix"
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        query, key, number = shown(page)
        assert (query, key, float(number)) == ("2", "1", result.weights[2, 1])
        for _ in range(9):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("End")
        assert shown(page)[:2] == ["4", "4"]
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "query"
        page.keyboard.press("ArrowUp")
        assert shown(page)[0] == "3"
        assert page.get_attribute("#query", "aria-activedescendant") == "query-3"
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        frame(page)
        chosen = page.get_attribute("#key", "aria-activedescendant")
        assert page.get_attribute(f"#{chosen}", "aria-selected") == "true"


def test_heads_are_chosen_from_a_list(opened, written, rng):
    layer = ac.MultiHeadAttention.initialize(6, heads=3, rng=0)
    x = rng.normal(size=(4, 6))
    result = layer(x, x, x)
    with opened(written(result)) as page:
        page.hover("#matrix", position=centre(page, 1, 2))
        for head in (2, 0, 1):
            page.select_option("#panel", label=f"head {head}")
            assert float(shown(page)[2]) == result.weights[head, 1, 2]


def test_a_slider_steps_the_decoder(opened, written, rng):
    attention = ac.Attention("dot")
    memory = attention.memory(*rng.normal(size=(2, 2, 4)))
    steps = []
    for _ in range(4):
        memory.append(*rng.normal(size=(2, 1, 4)))
        steps.append(attention(rng.normal(size=4), memory))
    with opened(written(steps, query_labels="wxyz", title="Steps")) as page:
        paper = "pen.getImageData(box.left + 5, box.above + 3.5 * box.high, 1, 1).data.join()"
        for step in (3, 1):
            page.fill("#row", str(step))
            name, key, number = shown(page)
            strongest = steps[step].weights.argmax()
            assert (name, key) == ("wxyz"[step], str(strongest))
            assert float(number) == steps[step].weights[strongest]
            assert (page.evaluate(paper) == "255,255,255,255") == (step == 1)
        page.hover("#matrix", position=centre(page, 0, 4))
        assert shown(page)[2] == "masked"


def test_steps_can_be_played(opened, written, rng):
    weights = [np.array([0.5, 0.5]), np.array([0.2, 0.3, 0.5]), np.array([0.1, 0.2, 0.3, 0.4])]
    with opened(written(weights, query_labels="xyz")) as page:
        assert shown(page)[0] == "z"
        page.click("#play")  # from the first step on
        assert shown(page)[0] == "x"
        assert page.inner_text("#play") == "Pause"
        until(page, "state.query === 1")
        page.click("#play")
        page.wait_for_timeout(1000)
        assert (shown(page)[0], page.inner_text("#play")) == ("y", "Play")
        page.press("#play", "Enter")  # continues, and stops at the last step
        until(page, "state.query === 2 && play.textContent === 'Play'")
    with opened(written(rng.random((3, 3)))) as page:
        assert page.is_hidden("#play")  # not steps


def test_pages_with_the_same_limits_have_the_same_shades(opened, written):
    strong, weak = np.array([[0.8, 0.2]]), np.array([[0.2, 0.05]])
    codes = "Array.from(panels[0].codes).join()"
    with opened(written(strong, limits=(0, 1))) as page:
        strong_codes = page.evaluate(codes).split(",")
        assert page.inner_text("#legend span >> nth=0").split() == ["weight", "0", "1"]
    with opened(written(weak, limits=(0, 1))) as page:
        assert page.evaluate(codes).split(",")[0] == strong_codes[1]
    with opened(written(strong, limits=(0, 0.5))) as page:
        assert shown(page)[2] == "0.8"  # outside the scale, and still exact
        assert page.evaluate(codes).split(",")[0] == "254"


def test_labels_are_text(opened, written, rng):
    labels = HOSTILE
    with opened(written(attended(rng, 5), query_labels=labels, key_labels=labels)) as page:
        for n, label in enumerate(labels):
            page.hover(f"#query-{n}")
            assert shown(page)[0] == label
        assert page.locator("script").count() == 2
        assert page.locator("li b").count() == 0


def test_the_policy_is_enforced(opened, written, rng):
    with opened(written(attended(rng, 3)), check=False) as page:
        blocked = page.evaluate(
            """async () => {
                const blocked = [];
                addEventListener("securitypolicyviolation", e => blocked.push(e.violatedDirective));
                const script = document.createElement("script");
                script.textContent = "window.evil = 1";
                document.body.append(script);
                new Image().src = "http://127.0.0.1:1/a.png";
                await fetch("http://127.0.0.1:1/a").catch(() => 0);
                const style = document.createElement("style");
                style.textContent = "body { display: none }";
                document.body.append(style);
                await new Promise(done => setTimeout(done, 200));
                return [...blocked, String(window.evil)];
            }"""
        )
        assert sorted(blocked) == [
            "connect-src", "img-src", "script-src-elem", "style-src-elem", "undefined",
        ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1366])
def test_every_width_and_theme_can_be_read(opened, written, rng, serious, scheme, width):
    result = attended(rng, 3, 30, window=(5, 5))
    path = written(result, query_labels=[f"a long word {n}" for n in range(30)])
    with opened(path, width=width, color_scheme=scheme) as page:
        frame(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        least = page.evaluate("pixels().getContext('2d').getImageData(0, 0, 30, 30).data")
        assert len(least) == 3600
    with opened(path, width=width, color_scheme=scheme, check=False) as page:
        frame(page)
        assert serious(page) == []


def test_words_fit_the_lists(opened, written, rng):
    path = written(
        rng.random((9, 9)), key_labels=["agreement"] * 9, query_labels=["économique"] * 9
    )
    cut = "[...document.querySelectorAll('li bdi')].some(e => e.scrollWidth > e.clientWidth)"
    with opened(path, width=800) as page:
        assert not page.evaluate(cut)


def test_a_finger_chooses_too(opened, written, rng):
    result = attended(rng, 5)
    with opened(written(result), width=390, has_touch=True) as page:
        page.tap("#matrix", position=centre(page, 3, 1))
        assert shown(page)[:2] == ["3", "1"]
        page.tap("#key-4")
        assert shown(page)[:2] == [str(result.weights[:, 4].argmax()), "4"]


def test_a_page_of_a_million_weights_opens_in_two_seconds(opened, written, rng):
    result = attended(rng, 1000)
    path = written(result)
    times = []
    for _ in range(3):
        with opened(path) as page:
            page.wait_for_function("document.getElementById('number').textContent !== ''")
            times.append(page.evaluate("performance.now()"))
            for place in [(0, 0), (500, 321)]:
                page.evaluate("place => choose({ query: place[0], key: place[1] })", place)
                number = shown(page)[2]
                if number.startswith(("about ", "below ")):
                    exact = result.weights[place]
                    assert abs(float(number[6:]) - exact) < 0.01 * result.weights.max()
                else:
                    assert float(number) == result.weights[place]
            strongest = result.top_k(12).indices[7]
            page.evaluate("chooseSide('query', 7)")
            frame(page)
            listed = [item.get_attribute("id") for item in page.locator("#key li").all()]
            assert listed == [f"key-{key}" for key in strongest]
            assert float(shown(page)[2]) == result.weights[7].max()
            page.focus("#matrix")
            page.keyboard.press("End")
            assert page.evaluate("document.getElementById('scroller').scrollLeft") > 0
        if times[-1] < 2000:
            break
    assert min(times) < 2000


def test_without_scripts_a_page_is_a_picture(opened, written, rng):
    with opened(written(attended(rng, 5), key_labels="vwxyz"), java_script_enabled=False) as page:
        assert page.locator("noscript svg").is_visible()
        assert page.locator("#figure").is_hidden()
        assert page.locator("noscript svg text").all_text_contents()[1:6] == [*"vwxyz"]
