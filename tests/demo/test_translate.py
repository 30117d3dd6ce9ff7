"""Translation of dates: strings, network, gradients, training and accuracy."""

from __future__ import annotations

import datetime
import json
import re
from importlib.resources import files
from itertools import islice

import numpy as np
import pytest

from attention_core import Attention, Scorer, ScorerSpec, register_scorer
from attention_core.demo.translate import train as training
from attention_core.demo.translate.alphabet import (
    LONGEST,
    READ,
    SHORTEST,
    UnreadableError,
    padded,
    read_codes,
    readable,
    written_codes,
)
from attention_core.demo.translate.dates import LANGUAGES, NUMBERS, examples, is_held_out, write
from attention_core.demo.translate.layers import cross_entropy, lookup_vjp, windows, windows_vjp
from attention_core.demo.translate.model import Sizes, Translator
from attention_core.demo.translate.nonsense import nonsense, with_nonsense
from attention_core.demo.translate.read import accuracy, translate
from attention_core.demo.translate.store import load, load_trained, save
from attention_core.demo.translate.train import Adam, held_out_examples, main, train
from attention_core.registry import default

TRAINED = files("attention_core.demo.translate") / "trained"
ADDITIVE = {"name": "additive", "query_dim": 64, "key_dim": 64, "hidden_dim": 8, "rng": 0}


@pytest.fixture(scope="module")
def trained():
    return load_trained()


def some(count, *, held_out=False, seed=0):
    return list(islice(examples(np.random.default_rng(seed), held_out=held_out), count))


# --- the strings ---


@pytest.mark.slow
def test_no_string_to_learn_from_is_one_to_be_tested_on():
    learned = some(40_000)
    tested = held_out_examples()
    assert not {iso for _, iso in learned} & {iso for _, iso in tested}
    assert not {text.lower() for text, _ in learned} & {text.lower() for text, _ in tested}
    assert all(is_held_out(iso) for _, iso in tested)
    assert len({text for text, _ in tested}) >= 2000


def test_a_tenth_of_all_days_is_held_out():
    first = datetime.date(2000, 1, 1)
    days = [(first + datetime.timedelta(n)).isoformat() for n in range(3653)]
    assert sum(map(is_held_out, days)) == pytest.approx(365, abs=50)


@pytest.mark.slow
def test_a_string_means_one_date():
    meanings = {}
    for text, iso in some(40_000, seed=1):
        assert meanings.setdefault(text.lower(), iso) == iso
    assert len(meanings) > 35_000


def test_every_form_of_every_language_is_made_and_can_be_read():
    made = {text for text, _ in some(20_000)}
    for language in LANGUAGES.values():
        for form in (*language.forms, *NUMBERS):
            assert len(readable(write(datetime.date(2013, 9, 25), language, form))) <= LONGEST
    assert min(map(len, made)) == SHORTEST
    characters = {character.lower() for text in made for character in text}
    assert characters == set(READ[1:])
    for sign in ("février", "fevrier", "März", "Marz", "1er ", "22nd", "'97", ". Mai "):
        assert any(sign in text for text in made), sign


@pytest.mark.parametrize(
    ("language", "form", "text"),
    [
        ("English", "{weekday}, {month} {nth}, {y}", "Monday, March 1st, 2021"),
        ("French", "le {weekday} {nth} {month} {y}", "le lundi 1er mars 2021"),
        ("German", "{weekday}, den {nth} {month} {y}", "Montag, den 1. März 2021"),
    ],
)
def test_written_dates(language, form, text):
    assert write(datetime.date(2021, 3, 1), LANGUAGES[language], form) == text


# --- texts that are not dates ---


def test_one_text_in_fifty_is_no_date():
    dates = some(20_000)
    known = dict(dates)
    mixed = list(islice(with_nonsense(iter(dates), np.random.default_rng(0)), 18_000))
    spoiled = [example for example in mixed if known.get(example.text) != example.iso]
    assert len(spoiled) == pytest.approx(360, abs=60)
    assert {iso for _, iso in spoiled} <= set(known.values())
    assert not {text for text, _ in spoiled} & known.keys()
    assert not {text for text, _ in spoiled} & {text for text, _ in held_out_examples()}
    for text, _ in spoiled:
        assert readable(text) == text


@pytest.mark.parametrize(
    ("date", "parts"),
    [
        ("03/06/1997", {"06/1997", "03/1997", "03/06"}),
        ("June 3rd, 1997", {"June 1997", "June 3rd"}),
        ("le 1er juin 97", {"le juin 97", "le 1er juin"}),
        ("3. Juni 97", {"Juni 97", "3. Juni"}),
        ("19970603", set()),
    ],
)
def test_less_than_a_day(date, parts):
    rng = np.random.default_rng(0)
    made = {nonsense(date, rng) for _ in range(300)}
    assert parts <= made
    assert date not in made
    assert date not in made


def test_a_date_with_other_words():
    rng = np.random.default_rng(0)
    made = {nonsense("3. Juni 97", rng) for _ in range(300)}
    others = [text for text in made if re.fullmatch(r"3\. \w{2,9} 97", text)]
    assert len(others) == pytest.approx(50, abs=20)


# --- characters ---


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("  3\t juin \n1997 ", "3 juin 1997"),
        ("fe\N{COMBINING ACUTE ACCENT}vrier", "février"),
        ("Jun 3 \N{RIGHT SINGLE QUOTATION MARK}97", "Jun 3 '97"),
        ("3\N{NON-BREAKING HYPHEN}6\N{EN DASH}97", "3-6-97"),
        ("\N{FULLWIDTH DIGIT THREE}\N{NO-BREAK SPACE}juin 1997", "3 juin 1997"),
        ("1\N{MODIFIER LETTER SMALL E}\N{MODIFIER LETTER SMALL R} mai 97", "1er mai 97"),
    ],
)
def test_readable_texts(given, found):
    assert readable(given) == found
    assert len(read_codes(readable(given))) == len(found)


UNKNOWN = (
    "dates in English, French, German or numbers, such as '12 juin 2024', have no such character"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ", "nothing to read: give a date, such as '12 juin 2024'"),
        ("1" * 41, "cannot read 41 characters: a date has up to 40, such as '12 juin 2024'"),
        ("1997年", f"cannot read '年' in '1997年': {UNKNOWN}"),
        ("Qix 3, Q", f"cannot read 'Q', 'x' in 'Qix 3, Q': {UNKNOWN}"),
        ("3\0", f"cannot read '\\x00' in '3\\x00': {UNKNOWN}"),
        ("İ", f"cannot read 'İ' in 'İ': {UNKNOWN}"),
    ],
)
def test_unreadable_texts(text, message):
    with pytest.raises(UnreadableError) as error:
        readable(text)
    assert str(error.value) == message


def test_padding():
    codes, lengths = padded(["1 Mai", "3"])
    assert codes.shape == (2, 5)
    assert codes[1].tolist() == [READ.index("3"), 0, 0, 0, 0]
    assert lengths.tolist() == [5, 1]


# --- the network ---


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_gradients_of_windows(radius):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 5, 3))
    grad = rng.normal(size=windows(rows, radius).shape)
    # a linear map and its transpose
    assert (windows(rows, radius) * grad).sum() == pytest.approx(
        (rows * windows_vjp(grad, radius)).sum()
    )


def test_gradients_of_a_table():
    codes = np.array([[0, 2], [2, 2]])
    grad = np.arange(8.0).reshape(2, 2, 2)
    np.testing.assert_array_equal(lookup_vjp(codes, grad, 3), [[0, 1], [0, 0], [12, 15]])


def test_the_loss_of_a_sure_network_is_0():
    loss, grad = cross_entropy(np.array([[50.0, 0, 0]]), np.array([0]))
    assert loss == pytest.approx(0)
    np.testing.assert_allclose(grad, 0, atol=1e-12)
    loss, _ = cross_entropy(np.zeros((2, 4)), np.array([0, 3]))
    assert loss == pytest.approx(np.log(4))


@pytest.mark.parametrize("name", ["additive", "general", "scaled_dot"])
def test_gradients_of_the_whole_network(name):
    features = {"additive": {"hidden_dim": 3}, "general": {}, "scaled_dot": None}[name]
    config = {"name": name}
    if features is not None:
        config |= {"query_dim": 6, "key_dim": 6, "rng": 1, **features}
    attention = Attention(config, softcap=5.0)
    rng = np.random.default_rng(2)
    network = Translator.new(attention, rng, sizes=Sizes(4, 5, 6, 7), dtype=np.float64)
    texts, dates = zip(*some(3), strict=True)
    batch = *padded(texts), written_codes(dates)
    _, gradients = network.loss(*batch)
    assert gradients.keys() == network.parameters.keys()
    for parameter, array in network.parameters.items():
        direction = rng.normal(size=array.shape)
        there, back = (
            network.with_parameters({parameter: array + step * direction}).loss(*batch)[0]
            for step in (1e-5, -1e-5)
        )
        derivative = float((gradients[parameter] * direction).sum())
        assert derivative == pytest.approx((there - back) / 2e-5, rel=1e-6, abs=1e-9), parameter


def test_padding_changes_nothing(trained):
    texts = ["3/6/97", "Donnerstag, den 23. September 1999"]
    together = translate(trained, texts)
    for text, one in zip(texts, together, strict=True):
        (alone,) = translate(trained, [text])
        assert alone.iso == one.iso
        np.testing.assert_allclose(one.weights, alone.weights, atol=1e-5)


def test_written_step_by_step_is_written_at_once(trained):
    """Decoding one query at a time equals one call with teacher forcing."""
    (found,) = translate(trained, ["mardi 3 juin 1997"])
    encoded = trained.encode(padded([found.text])[0])
    query = trained.queries(written_codes([found.iso])[:, :-1])
    result = trained.attention(query, encoded.key, encoded.value)
    np.testing.assert_allclose(result.weights[0], found.weights, atol=1e-5)


def test_other_parameters_leave_a_network_as_it_was():
    network = Translator.new(Attention(ADDITIVE, softcap=9.0), np.random.default_rng(0))
    before = {name: array.copy() for name, array in network.parameters.items()}
    other = network.with_parameters({n: a + 1 for n, a in before.items()})
    for name, array in before.items():
        np.testing.assert_array_equal(network.parameters[name], array)
        np.testing.assert_array_equal(other.parameters[name], array + 1)
    assert other.attention.softcap == 9


# --- learning ---


def test_adam_finds_the_least_of_a_parabola():
    adam, point = Adam(), {"x": np.array([3.0, -200.0])}
    first = adam.step(point, {"x": 2 * point["x"]}, 0.5)
    np.testing.assert_allclose(first["x"], [2.5, -199.5])  # the rate times the gradient's sign
    for _ in range(2000):
        point = adam.step(point, {"x": 2 * point["x"] * [1, 10]}, 0.5)
    np.testing.assert_allclose(point["x"], 0, atol=0.1)


def learned(config, steps=40, **options):
    losses = []
    network = train(
        Attention(config), steps=steps, report=lambda _, loss: losses.append(loss), **options
    )
    return network, losses


@pytest.mark.slow
def test_learning_is_reproducible_and_lowers_the_loss():
    network, losses = learned(ADDITIVE)
    again, _ = learned(ADDITIVE)
    other, _ = learned(ADDITIVE, steps=1, seed=1)
    for name, array in network.parameters.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, again.parameters[name])
    assert (network.arrays["key"] != other.arrays["key"]).any()
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])


class Nearness(Scorer):
    """-|q - k|_1, of a third party."""

    def score(self, query, key):
        return -np.abs(query[..., :, None, :] - key[..., None, :, :]).sum(axis=-1)

    def score_vjp(self, query, key, grad):
        sign = np.sign(query[..., :, None, :] - key[..., None, :, :])
        pairs = -sign * grad[..., None]
        return pairs.sum(axis=-2), -pairs.sum(axis=-3), {}


@pytest.fixture
def nearness(monkeypatch):
    monkeypatch.setattr(default, "_default", None)
    register_scorer(ScorerSpec(name="nearness", factory=Nearness, summary="of a third party"))


@pytest.mark.usefixtures("nearness")
@pytest.mark.parametrize("name", ["dot", "general", "nearness"])
def test_any_scorer_learns_by_its_name(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "HELD_OUT", 20)
    dims = "\nquery_dim = 64\nkey_dim = 64\nrng = 0" * (name == "general")
    config = tmp_path / "config.toml"
    config.write_text(f'[scorer]\nname = "{name}"{dims}\n[attention]\nsoftcap = 50\n')
    main(["--config", str(config), "--steps", "2", "--output", str(tmp_path / "out")])
    assert "strings of held-out days" in capsys.readouterr().out
    loaded = load(tmp_path / "out")
    assert loaded.attention.to_config()["scorer"]["name"] == name
    assert loaded.attention.softcap == 50
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record.keys() == {"accuracy", "strings", "steps", "seed"}


def test_saved_parameters_are_loaded_unchanged(trained, tmp_path):
    save(trained, tmp_path / "new" / "folder")
    loaded = load(tmp_path / "new" / "folder")
    assert loaded.attention.to_config() == trained.attention.to_config()
    for name, array in trained.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], array)


@pytest.mark.slow
def test_the_program_learns_what_is_claimed():
    network, losses = learned({**ADDITIVE, "hidden_dim": 64}, steps=400)
    assert np.mean(losses[-100:]) < 0.1  # of which 0.03 are from texts that are not dates
    assert accuracy(network, held_out_examples()) >= 0.99


# --- shipped parameters ---


def test_the_shipped_parameters_reach_the_accuracy_that_is_recorded(trained):
    record = json.loads((TRAINED / "record.json").read_text())
    assert record["strings"] == len(held_out_examples()) >= 2000
    found = accuracy(trained, held_out_examples())
    assert found >= 0.99
    assert found == pytest.approx(record["accuracy"], abs=1e-3)  # the last bits may differ


def test_the_shipped_parameters_are_small(trained):
    assert sum(len(path.read_bytes()) for path in TRAINED.iterdir()) < 300_000
    assert {array.dtype for array in trained.parameters.values()} == {np.dtype(np.float32)}
    assert sum(array.size for array in trained.parameters.values()) == 54_203


def test_dates_by_other_people(trained):
    known = {
        "mardi 3 juin 1997": "1997-06-03",
        "Jun 3, 97": "1997-06-03",
        "03/06/1997": "1997-06-03",
        "3. Juni 1997": "1997-06-03",
        "12 juin 2024": "2024-06-12",
        "14 JUILLET 1789": "1789-07-14",
        "9 November 1989": "1989-11-09",
        "Mittwoch, den 3. Oktober 1990": "1990-10-03",
        "July 4th, 1776": "1776-07-04",
    }
    found = translate(trained, list(known))
    assert [each.iso for each in found] == list(known.values())
    assert min(each.certainty for each in found) > 0.95


def test_dates_in_known_forms_are_hardly_ever_called_guesses(trained):
    found = translate(trained, [text for text, _ in held_out_examples()[:2000]])
    assert sum(not each.is_sure for each in found) < 0.002 * len(found)


NO_DATES = (
    *("hello", "the meaning of life", "three days ago", "morgen", "avant-hier", "July", "mardi"),
    *("2024", "1789", "99999", "12.30", "9/11", "'97", "0123456789", "192.168.0.1"),
    *("June 2024", "12 June", "le 1er juin", "3. Juni", "mardi 12", "06/2024", "03/06"),
)


def test_answers_to_other_texts_are_called_guesses(trained):
    rng = np.random.default_rng(3)
    rows = ["".join(rng.choice(list("abcdefghij 0123.,-/"), 12)).strip(" ") for _ in range(500)]
    found = translate(trained, [*NO_DATES, *rows])
    assert [each.text for each in found if each.is_sure] == []


def test_one_character_is_too_little(trained):
    """With a single character, its weight is 1."""
    (found,) = translate(trained, ["1"])
    assert found.certainty > 0.9
    assert not found.is_sure


def test_each_digit_is_read_where_it_stands(trained):
    for text, _ in some(200, held_out=True, seed=5):
        (found,) = translate(trained, [text])
        assert found.weights.sum(axis=1) == pytest.approx(np.ones(10), abs=1e-5)
        if text[-4:].isdigit() and text[-5] in " /.-":  # a year at the end
            places = [len(text) - n for n in (4, 3, 2, 1)]
            assert found.weights[:4].argmax(axis=1).tolist() == places, text
