"""Pages: their numbers, their text and their errors. `test_in_a_browser` opens them."""

from __future__ import annotations

import base64
import json
import re
import zlib
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from cases import make_case
from typer.testing import CliRunner

import attention_core as ac
from attention_core.cli.app import app
from attention_core.parameter_files import write_arrays
from attention_core.plot import heatmap, page, text
from attention_core.plot.web.codes import MASKED_CODE, NAN_CODE, coarser
from attention_core.plot.web.png import png

WEB = Path(ac.plot.__file__).parent / "web"


def attended(rng, batch=(), *, queries=5, keys=7, dtype=np.float64, **options):
    case = make_case("scaled_dot")
    arrays = case.arrays(rng, batch, queries=queries, keys=keys, dtype=dtype)
    return case.attend(*arrays, **options)


def data_of(html):
    """The data of a page, as its script reads it."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(found)


def codes(data, panel=0):
    raw = base64.b64decode(data["panels"][panel]["codes"])
    return np.frombuffer(raw, np.uint8).reshape(len(data["query"]["names"]), -1)


def values(data, panel=0):
    raw = base64.b64decode(data["panels"][panel]["values"])
    return np.frombuffer(raw, f"<f{data['bits'] // 8}").reshape(len(data["query"]["names"]), -1)


# ------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_numbers_are_those_of_the_result_bit_for_bit(rng, dtype):
    result = attended(rng, (2,), dtype=dtype, is_causal=True)
    data = data_of(result.to_html())
    assert data["bits"] == (64 if dtype == np.float64 else 32)
    for panel in range(2):
        weights = np.asarray(result.weights[panel], np.float64)
        np.testing.assert_array_equal(values(data, panel), weights)
        np.testing.assert_array_equal(codes(data, panel) == MASKED_CODE, ~np.tri(5, 7, dtype=bool))
        entropy = np.asarray(data["panels"][panel]["entropy"])
        np.testing.assert_allclose(entropy, np.asarray(result.entropy[panel], float), rtol=1e-2)
    if dtype == np.float64:
        np.testing.assert_array_equal(data["panels"][1]["mass"], result.key_mass[1])


def test_scores_too(rng):
    result = attended(rng, is_causal=True)
    data = data_of(result.to_html(what="scores"))
    allowed = np.tri(5, 7, dtype=bool)
    np.testing.assert_array_equal(values(data)[allowed], result.scores[allowed])
    assert (data["low"], data["high"]) == (result.scores[allowed].min(), result.scores.max())


def test_more_distinct_numbers_than_codes_stay_distinct(rng):
    weights = rng.random((290, 300)).astype(np.float32)
    data = data_of(page(weights))
    assert len(np.unique(weights)) > 65_535
    np.testing.assert_array_equal(values(data), weights)


def test_a_page_with_too_many_numbers_says_which_are_exact(rng):
    result = attended(rng, queries=500, keys=400)
    html = result.to_html()
    data = data_of(html)
    n = data["strongest"]
    assert f"Numbers of the {n} strongest keys of each query are exact; others are" in html
    top = result.top_k(n)
    places = np.frombuffer(base64.b64decode(data["panels"][0]["places"]), "<u2").reshape(500, n)
    np.testing.assert_array_equal(places, top.indices)
    np.testing.assert_array_equal(values(data), top.weights)
    part = (codes(data) - 1.0) / 253
    np.testing.assert_allclose(part**2 * data["high"], result.weights, atol=data["high"] / 250)


def test_the_strongest_keys_of_a_row_with_few(rng):
    weights = np.ma.MaskedArray(rng.random((400, 400)), ~np.tri(400, dtype=bool))
    weights[3, 1] = np.nan
    data = data_of(page(weights))
    places = np.frombuffer(base64.b64decode(data["panels"][0]["places"]), "<u2").reshape(400, -1)
    assert (places[0, 1:] == 65_535).all()
    assert sorted(places[3, :3].tolist()) == [0, 2, 3]
    assert codes(data)[3, 1] == NAN_CODE


def test_blocks_and_what_they_stand_for_are_said(rng):
    x = rng.normal(size=(2600, 4)).astype(np.float32)
    result = ac.attend(x[:1500], x, x, scorer="dot")
    html = result.to_html()
    data = data_of(html)
    assert "1,500 queries, 2,600 keys." in html
    assert "Each cell is the largest of the weights of 2 queries by 3 keys" in html
    assert data["query"]["names"][:2] == ["0 to 1", "2 to 3"]
    assert data["key"]["names"][-1] == "2598 to 2599"
    blocks = np.pad(result.weights, ((0, 0), (0, 1))).reshape(750, 2, 867, 3).max(axis=(1, 3))
    assert codes(data).shape == blocks.shape
    n = data["strongest"]
    np.testing.assert_array_equal(values(data), -np.sort(-blocks, axis=1)[:, :n])


def test_all_panels_together_have_at_most_a_million_cells(rng):
    data = data_of(page(rng.random((16, 600, 700), dtype=np.float32)))
    assert sum(codes(data, panel).size for panel in range(16)) <= 1_000_000


def test_a_page_of_a_million_weights_is_below_two_mebibytes(rng):
    assert len(page(rng.random((1000, 1000))).encode()) < 2 << 20


def test_labels_have_their_page_in_which_nothing_is_cut_short(rng):
    label = "a" * 150
    data = data_of(attended(rng).to_html(query_labels=[label, *"bcde"], key_labels="tuvwxyz"))
    assert data["query"]["names"] == [label, *"bcde"]
    assert data["key"]["names"] == [*"tuvwxyz"]


def test_sparse_weights(rng):
    mask = scipy.sparse.csr_array(rng.random((5, 7)) < 0.5)
    result = attended(rng, mask=mask)
    data = data_of(result.to_html())
    np.testing.assert_array_equal(values(data), result.weights.toarray())
    np.testing.assert_array_equal(codes(data) != MASKED_CODE, mask.toarray())


# ------------------------------------------------------------------------------ layers and steps


def layered(rng, **options):
    layer = ac.MultiHeadAttention.initialize(
        12, heads=3, scorer=["dot", "scaled_dot", "dot"], rng=0, **options
    )
    x = rng.normal(size=(6, 12))
    return layer(x, x, x, mask=np.tri(6, dtype=bool))


def test_heads_of_a_layer_come_in_their_order(rng):
    result = layered(rng)
    data = data_of(result.to_html())
    assert [panel["name"] for panel in data["panels"]] == ["head 0", "head 1", "head 2"]
    for head in range(3):
        np.testing.assert_array_equal(values(data, head), result.weights[head])
        np.testing.assert_array_equal(codes(data, head) == 0, ~np.tri(6, dtype=bool))
        np.testing.assert_array_equal(data["panels"][head]["mass"], result.key_mass[head])
    figure = result.plot()
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == [
        "head 0", "head 1", "head 2",
    ]  # fmt: skip
    assert result.to_text(batch=1).count("│") == 12
    assert data_of(result.to_html(batch=1))["panels"][0]["codes"] == data["panels"][1]["codes"]


def test_heads_with_a_sparse_mask(rng):
    layer = ac.MultiHeadAttention.initialize(8, heads=2, scorer=["dot", "scaled_dot"], rng=0)
    x = rng.normal(size=(5, 8))
    result = layer(x, x, x, mask=scipy.sparse.csr_array(np.eye(5, dtype=bool)))
    data = data_of(result.to_html())
    for head in range(2):
        np.testing.assert_array_equal(values(data, head), np.eye(5))


def decoded(rng, attention, steps=4):
    """Steps of a decoder whose memory grows by one key per step."""
    keys = rng.normal(size=(2, 3, 8))
    memory = attention.memory(*keys)
    results = []
    for _ in range(steps):
        memory.append(*rng.normal(size=(2, 1, 8)))
        results.append(attention(rng.normal(size=8), memory))
    return results


def test_steps_with_growing_keys_are_one_alignment(rng):
    steps = decoded(rng, ac.Attention("dot"))
    data = data_of(page(steps))
    assert data["steps"]
    assert values(data).shape == (4, 7)
    for step, result in enumerate(steps):
        keys = 4 + step
        np.testing.assert_array_equal(values(data)[step, :keys], result.weights)
        assert (codes(data)[step, :keys] != MASKED_CODE).all()
        assert (codes(data)[step, keys:] == MASKED_CODE).all()
    mass = sum(np.pad(result.weights, (0, 7 - len(result.weights))) for result in steps)
    np.testing.assert_allclose(data["panels"][0]["mass"], mass)
    np.testing.assert_allclose(data["panels"][0]["entropy"], [step.entropy for step in steps])
    (axes,) = heatmap(steps).axes
    assert axes.get_ylabel() == "step"
    assert text(steps).splitlines()[1].endswith("nats")
    alike = page([step.weights for step in steps], title="Attention weights")
    assert data_of(alike) == data


def test_steps_of_a_layer_have_heads(rng):
    layer = ac.MultiHeadAttention.initialize(8, heads=2, rng=0)
    memory = layer.memory(rng.normal(size=(2, 8)), rng.normal(size=(2, 8)))
    steps = []
    for _ in range(3):
        memory.append(*rng.normal(size=(2, 1, 8)))
        steps.append(layer(rng.normal(size=(1, 8)), memory))
    data = data_of(page(steps))
    assert [panel["name"] for panel in data["panels"]] == ["head 0", "head 1"]
    for head in range(2):
        np.testing.assert_array_equal(values(data, head)[2], steps[2].weights[head, 0])
        assert (codes(data, head)[0, 3:] == MASKED_CODE).all()


def test_steps_that_do_not_fit_each_other(rng):
    steps = [attended(rng, (2,)), attended(rng, (3,))]
    with pytest.raises(ac.ShapeError, match=re.escape("batch axes, got (2,) and (3,)")):
        page(steps)


def test_steps_of_sparse_weights(rng):
    masks = [scipy.sparse.csr_array(rng.random((1, n)) < 0.6) for n in (4, 5)]
    steps = [
        ac.attend(rng.normal(size=(1, 3)), *rng.normal(size=(2, n, 3)), scorer="dot", mask=mask)
        for n, mask in zip((4, 5), masks, strict=True)
    ]
    data = data_of(page(steps))
    np.testing.assert_array_equal(values(data)[0, :4], steps[0].weights.toarray()[0])
    np.testing.assert_array_equal(codes(data)[1] != MASKED_CODE, masks[1].toarray()[0])


# ---------------------------------------------------------------------------------- the document


class _Parts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_script_and_style_are_hand_written_and_small():
    assert sum((WEB / name).stat().st_size for name in ("page.js", "page.css")) <= 15_000
    script = (WEB / "page.js").read_text("utf-8")
    assert max(map(len, script.splitlines())) <= 110
    assert not re.search(r"\b(fetch|XMLHttpRequest|import|eval|WebSocket|sendBeacon)\b", script)


HOSTILE = "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\u202eevil", "a\0b"


def test_labels_and_titles_are_text(rng):
    weights = rng.random((4, 4))
    html = page(weights, query_labels=HOSTILE, key_labels=HOSTILE, title=f"</title>{HOSTILE[1]}")
    parts = _Parts()
    parts.feed(html)
    tags = [tag for tag, _ in parts.tags]
    assert tags.count("script") == 2
    assert "onerror" not in {name for _, attributes in parts.tags for name in attributes}
    names = data_of(html)["query"]["names"]
    assert names == [*HOSTILE[:2], "evil", "a\ufffdb"]
    assert escape(HOSTILE[0][:17]) in html  # in the picture


def test_the_policy_names_the_only_script_and_style_there_are(rng):
    html = page(rng.random((2, 3)))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "://" not in html.replace("http://www.w3.org/2000/svg", "")
    parts = _Parts()
    parts.feed(html)
    for _, attributes in parts.tags:
        assert not {"style", "onclick", "onload"} & set(attributes)
        assert attributes.get("src", "data:").startswith("data:")


def test_the_same_page_is_the_same_file(rng):
    result = attended(rng)
    assert result.to_html() == result.to_html()


def test_images_are_small_files_in_the_page(rng):
    pictures = rng.random((7, 200, 100))
    data = data_of(page(rng.random((5, 7)), images=(None, pictures), key_labels="abcdefg"))
    assert data["query"]["images"] is None
    address = data["key"]["images"][0]
    assert address.startswith("data:image/png;base64,")
    assert len(address) < 20_000
    assert data["key"]["names"] == [*"abcdefg"]
    labels = data_of(page(rng.random((5, 7)), key_labels=pictures[:, :8, :8]))
    assert labels["key"]["names"] == [*"0123456"]
    assert len(labels["key"]["images"]) == 7


def test_a_png_holds_its_pixels():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    file = png(pixels)
    start = file.index(b"IDAT") + 4
    raw = zlib.decompress(file[start : file.index(b"IEND") - 8])
    assert raw == bytes([0, *range(6), 0, *range(6, 12)])


def test_blocks_of_codes_are_masked_only_where_all_are():
    grid = np.array([[0, 0, 7, 0], [0, 0, 0, 255]], np.uint8)
    np.testing.assert_array_equal(coarser(grid, 2), [[0, 255]])


# --------------------------------------------------------------------------- rejected arguments


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": "a.svg"}, ac.ParameterFileError, "'a.svg': the name must end in .html or .htm"),
        ({"path": "no/a.html"}, ac.ParameterFileError, "cannot write 'no/a.html'"),
        ({"images": 3}, ac.OptionTypeError, "of the queries and of the keys, got 3"),
        (
            {"images": (3, None)},
            ac.OptionTypeError,
            "images must be a list of images, one per",
        ),
        ({"images": 3 * [None]}, ac.OptionTypeError, "images must be a pair: images of the"),
        ({"images": ([1], None)}, ac.ShapeError, "images must have one image per query, got 1"),
        ({"images": ([1] * 5, None)}, ac.ShapeError, "images: an image must have shape (height"),
        ({"query_labels": "ab"}, ac.ShapeError, "query_labels must have one label per query, 5"),
        ({"what": "values"}, ac.OptionError, "what must be 'weights' or 'scores'"),
        ({"batch": 1}, ac.OptionError, "batch: 1 does not index batch axes ()"),
    ],
)
def test_invalid_pages(rng, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        page(attended(rng), **options)


def test_images_where_a_cell_is_a_block(rng):
    with pytest.raises(ac.OptionError, match=r"1500 images are too many .* choose some with keys="):
        page(rng.random((2, 1500)), images=(None, np.zeros((1500, 2, 2))))


def test_a_page_is_written_whole_or_not_at_all(rng, tmp_path, monkeypatch):
    path = tmp_path / "a.html"
    html = attended(rng).to_html(path)
    assert path.read_text("utf-8") == html

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ac.ParameterFileError, match="No space left"):
        attended(rng).to_html(path)
    assert path.read_bytes() == html.encode()
    assert [each.name for each in tmp_path.iterdir()] == ["a.html"]


# ---------------------------------------------------------------------------------- notebooks


def test_a_notebook_shows_a_page_in_a_sandbox_over_a_picture(rng):
    for result in (attended(rng, (2,)), layered(rng)):
        html = result._repr_html_()
        parts = _Parts()
        parts.feed(html)
        tags = dict(parts.tags)
        assert list(tags) == ["div", "img", "iframe"]
        assert tags["iframe"]["sandbox"] == "allow-scripts"
        data = data_of(tags["iframe"]["srcdoc"])
        np.testing.assert_array_equal(values(data), result.weights[0])
        kind, _, picture = tags["img"]["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert base64.b64decode(picture).startswith(b"<svg xmlns=")
        assert len(html) < 150_000


def test_a_notebook_shows_something_of_any_result(rng):
    many = attended(rng, (5, 5), queries=3, keys=3)
    assert "item [0, 0] of 25" in many._repr_html_()
    x = rng.normal(size=(5000, 2))
    large = ac.attend(x, x, x, scorer="dot")
    assert "5000 x 5000 weights are too many to show" in large._repr_html_()
    none = ac.attend(x[:0], x, x, scorer="dot")
    assert "there is no query" in none._repr_html_()


def test_scorers_attention_and_registries_show_themselves():
    scorer = ac.make_scorer("general", weight=[[1.0, 2.0]])
    html = unescape(scorer._repr_html_())
    assert "scorer 'general'" in html
    assert "<td>weight</td><td>float64[1, 2]</td>" in html
    html = ac.Attention("dot", window=(1, 0))._repr_html_()
    assert "<td>window</td><td>[1, 0]</td>" in html
    assert "</div><b>options</b>" in html
    assert "normalizer" not in html
    html = unescape(ac.Attention("dot", normalizer="entmax", bias="t5")._repr_html_())
    assert "normalizer 'entmax'" in html
    assert "bias 't5'" in html
    registry = ac.Registry()
    assert registry._repr_html_() == "<b>0 scorers</b>"
    registry.register(ac.ScorerSpec(name="mine", factory=type(scorer), formula="<q, k>"))
    assert "<b>1 scorer</b>" in registry._repr_html_()
    assert "&lt;q, k&gt;" in registry._repr_html_()


# ------------------------------------------------------------------------------- command line


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def arrays(rng, tmp_path):
    path = tmp_path / "arrays.npz"
    query, key, value = rng.normal(size=(3, 6, 4))
    write_arrays(path, {"query": query, "key": key, "value": value})
    return path


def test_attend_writes_a_page(arrays, tmp_path):
    page_path = tmp_path / "weights.html"
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\ne\nf\n")
    out = run("attend", arrays, "--scorer", "dot", "--html", page_path, "--key-labels", labels)
    assert f"the page is {page_path}" in out.output
    assert data_of(page_path.read_text("utf-8"))["key"]["names"] == [*"abcdef"]


@pytest.mark.parametrize("name", ["w.svg", "no/w.html"])
def test_attend_refuses_a_page_before_any_work(arrays, tmp_path, name, monkeypatch):
    monkeypatch.setattr("attention_core.cli.commands.attend.attend_in_blocks", None)
    run("attend", arrays, "--scorer", "dot", "--html", tmp_path / name, code=2)


def test_attend_refuses_a_page_that_is_an_input_or_another_output(arrays, tmp_path):
    labels = tmp_path / "labels.html"
    labels.write_text("a\nb\nc\nd\ne\nf\n")
    options = ("--scorer", "dot", "--html", labels)
    out = run("attend", arrays, *options, "--key-labels", labels, code=2)
    assert "labels.html': it is an input" in out.output
    other = tmp_path / "w.svg"
    other.symlink_to(labels)
    out = run("attend", arrays, *options, "--plot", other, code=2)
    assert "--plot and --html are the same file" in out.output


@pytest.mark.slow
def test_the_demo_writes_pages(tmp_path):
    run("demo", "--html", tmp_path / "digits.html")
    data = data_of((tmp_path / "digits.html").read_text("utf-8"))
    assert data["query"]["names"][0] == "read as 9"
    assert len(data["query"]["images"]) == 10
    run("demo", "translate", "mardi 3 juin 1997", "--html", tmp_path / "date.html")
    data = data_of((tmp_path / "date.html").read_text("utf-8"))
    assert data["steps"]
    assert "".join(data["query"]["names"]) == "1997-06-03"
    run("demo", "translate", "3.6.97", "--html", tmp_path / "date.txt", code=2)


@pytest.mark.parametrize("draw", [page, text, heatmap])
def test_labels_that_are_no_list(rng, draw):
    with pytest.raises(ac.OptionTypeError) as caught:
        draw(attended(rng), key_labels=3)
    assert str(caught.value) == "key_labels must be a list of labels, one per key, got 3"


@pytest.mark.parametrize("title", ["\ud800", "\x00", "a\u2028b", "\x1b[31m", "\u202e"])
def test_titles_hold_what_every_file_can_hold(rng, tmp_path, title):
    html = page(attended(rng), tmp_path / "a.html", title=title, xlabel=title, ylabel=title)
    assert title not in html
    assert (tmp_path / "a.html").read_text("utf-8") == html


def test_an_attention_with_a_scorer_of_ones_own_has_a_page():
    class Own(ac.Scorer):
        def score(self, query, key):
            return query @ key.swapaxes(-1, -2)

    html = ac.Attention(Own(), is_causal=True)._repr_html_()
    assert "Own" in html
    assert "is_causal" in html
