"""Results equal numbers published by other systems. See corpus/PROVENANCE.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import ml_dtypes
import numpy as np
import pytest
import reference
from numpy.typing import NDArray

import attention_core as ac

Array = NDArray[Any]

CORPUS = Path(__file__).parents[1] / "corpus"
SOURCES = {
    "allennlp",
    "d2l",
    "jax",
    "joeynmt",
    "keras",
    "onnx",
    "openvino",
    "pytorch",
    "sockeye",
    "tensorflow",
}
FORMULAS = {
    "additive": reference.additive,
    "dot": lambda: reference.dot,
    "general": reference.general,
    "scaled_dot": reference.scaled_dot,
}
FIXED = ("is_causal", "softcap", "window")  # options that an `Attention` keeps


@dataclass(frozen=True)
class Case:
    """One call, and its result according to the source."""

    id: str
    scorer: dict[str, Any]
    query: Array
    key: Array
    value: Array
    past: int  # the number of keys in the first part
    options: dict[str, Any]
    expected: dict[str, Array]
    tolerance: dict[str, float]
    differs: tuple[str, Array] | None

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: value for name, value in self.scorer.items() if name != "name"}

    def arrays(self, dtype: Any = None) -> tuple[Array, Array, Array, dict[str, Any]]:
        """Query, key, value and options, in the source's dtype or another."""
        options = dict(self.options)
        if "bias" in options:
            options["bias"] = options["bias"].astype(dtype or self.query.dtype)
        arrays = (self.query, self.key, self.value)
        query, key, value = arrays if dtype is None else (a.astype(dtype) for a in arrays)
        return query, key, value, options

    def check(self, result: Any) -> None:
        """Compare the context, weights and scores with the expected ones."""
        for name, expected in self.expected.items():
            actual = np.asarray(getattr(result, name)).astype(np.float64)
            assert actual.shape == expected.shape, name
            np.testing.assert_allclose(actual, expected, **self.tolerance, err_msg=name)


def files() -> list[Path]:
    return sorted(path for path in CORPUS.glob("*.json") if path.name != "schema.json")


def read(path: Path) -> Iterator[Case]:
    document = json.loads(path.read_text(encoding="utf-8"))
    shared = document.get("arrays", {})

    def array(spec: Any, dtype: Any) -> Array:
        if isinstance(spec, dict):
            spec = {**shared[spec["array"]], **spec} if "array" in spec else spec
            return array(spec["data"], dtype).reshape(spec["shape"])
        if isinstance(spec, list):
            return np.array([array(item, dtype) for item in spec], dtype)
        return np.asarray(float(spec)).astype(dtype)  # numbers, true and false, "-inf"

    for case in document["cases"]:
        dtype = np.dtype(ml_dtypes.bfloat16 if case["dtype"] == "bfloat16" else case["dtype"])
        key = array(case["key"], dtype)
        value = array(case["value"], dtype) if "value" in case else key
        past = 0
        if "past_key" in case:
            before = array(case["past_key"], dtype), array(case["past_value"], dtype)
            past = before[0].shape[-2]
            key, value = (np.concatenate(p, -2) for p in zip(before, (key, value), strict=True))
        options = dict(case.get("options", {}))
        for extra, kind in (("mask", np.bool_), ("bias", np.float64)):
            if extra in options:
                options[extra] = array(options[extra], kind)
        for numbers in ("key_lengths", "query_lengths", "query_offset"):
            if numbers in options:
                options[numbers] = np.array(options[numbers], np.int64)
        if "window" in options:
            options["window"] = tuple(options["window"])
        other = case.get("differs")
        yield Case(
            id=f"{path.stem}-{case['id']}",
            scorer={
                name: array(given, np.float64) if isinstance(given, (list, dict)) else given
                for name, given in case["scorer"].items()
            },
            query=array(case["query"], dtype),
            key=key,
            value=value,
            past=past,
            options=options,
            expected={name: array(spec, np.float64) for name, spec in case["expect"].items()},
            tolerance=case["tolerance"],
            differs=other and (other["field"], array(other["published"], np.float64)),
        )


CASES = [case for path in files() for case in read(path)]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def attend(case: Case, dtype: Any = None, **how: Any) -> ac.AttentionResult:
    query, key, value, options = case.arrays(dtype)
    scorer = ac.make_scorer(case.scorer["name"], **case.parameters)
    result = ac.attend(query, key, value, scorer=scorer, **options, **how)
    assert result.context.dtype == query.dtype
    return result


@every_case
def test_published_numbers(case: Case) -> None:
    case.check(attend(case))


@every_case
def test_in_float64(case: Case) -> None:
    case.check(attend(case, np.float64))


@every_case
def test_in_small_tiles(case: Case) -> None:
    case.check(attend(case, tile=(2, 3)))


@every_case
def test_through_a_memory(case: Case) -> None:
    """The keys are given in two parts, as from a cache."""
    query, key, value, options = case.arrays()
    fixed = {name: options.pop(name) for name in FIXED if name in options}
    attention = ac.Attention(ac.make_scorer(case.scorer["name"], **case.parameters), **fixed)
    first = case.past or key.shape[-2] // 2
    memory = attention.memory(key[..., :first, :], value[..., :first, :])
    memory.append(key[..., first:, :], value[..., first:, :])
    case.check(attention(query, memory, **options))


@every_case
def test_the_oracle_agrees(case: Case) -> None:
    """The oracle of the other tests gives the same numbers."""
    query, key, value, options = case.arrays(np.float64)
    score = FORMULAS[case.scorer["name"]](**case.parameters)
    case.check(reference.attend(query, key, value, score=score, **options))


@pytest.mark.parametrize("case", [c for c in CASES if c.differs], ids=lambda case: case.id)
def test_marked_differences_are_real(case: Case) -> None:
    """A case that is marked as different from its source differs from it."""
    assert case.differs is not None
    field, published = case.differs
    actual = np.asarray(getattr(attend(case), field)).astype(np.float64)
    assert actual.shape == published.shape
    assert not np.allclose(actual, published, **case.tolerance)
    assert case.id in (CORPUS / "PROVENANCE.md").read_text(encoding="utf-8")


# The corpus itself is checked: every number is read, run and compared.


def test_every_source_is_there() -> None:
    assert {path.stem for path in files()} == SOURCES


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_a_file_is_well_formed(path: Path) -> None:
    schema = json.loads((CORPUS / "schema.json").read_text(encoding="utf-8"))
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)
    ids = [case["id"] for case in document["cases"]]
    assert len(set(ids)) == len(ids)
    assert [case.id for case in CASES if case.id.startswith(f"{path.stem}-")] == [
        f"{path.stem}-{name}" for name in ids
    ]
    for name in document.get("arrays", {}):
        assert f'{{"array": "{name}"' in text, f"nobody uses {name}"


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_provenance_names_every_source(path: Path) -> None:
    source = json.loads(path.read_text(encoding="utf-8"))["source"]
    provenance = (CORPUS / "PROVENANCE.md").read_text(encoding="utf-8")
    for fact in (path.name, source["repository"], source["licence"]):
        assert fact in provenance


def test_every_scorer_is_tried_with_and_without_masks() -> None:
    tried = {
        (case.scorer["name"], bool({"mask", "key_lengths", "is_causal"} & set(case.options)))
        for case in CASES
    }
    assert tried == {(name, masked) for name in FORMULAS for masked in (False, True)}


def test_every_option_and_dtype_is_tried() -> None:
    assert {option for case in CASES for option in case.options} == {
        "bias",
        "is_causal",
        "key_lengths",
        "mask",
        "query_lengths",
        "query_offset",
        "softcap",
        "window",
    }
    assert {case.query.dtype.name for case in CASES} >= {"bfloat16", "float16", "float32"}
    assert any(case.past for case in CASES)
    assert {name for case in CASES for name in case.expected} == {"context", "scores", "weights"}


def test_a_wrong_number_is_noticed() -> None:
    case = next(case for case in CASES if case.id == "joeynmt-bahdanau")
    for name, expected in case.expected.items():
        wrong = expected.copy()
        wrong.flat[0] += 2e-4  # two units in the last printed digit
        with pytest.raises(AssertionError, match=name):
            replace(case, expected={name: wrong}).check(attend(case))
