"""Configurations: TOML, JSON and mappings mean the same, and the schema agrees with the code."""

import json
from pathlib import Path

import jsonschema
import ml_dtypes
import numpy as np
import pytest

import attention_core as ac
from attention_core import Attention, ConfigError, Registry, ScorerSpec
from attention_core.config import read_config
from attention_core.options import OPTIONS, options_schema
from attention_core.parameter_files import save_parameters, write_arrays

SCHEMA = json.loads(Path(ac.__file__).with_name("config.schema.json").read_text())

TOML = """
# the one of the design
[scorer]
name = "additive"
query_dim = 4
key_dim = 3
hidden_dim = 8
rng = 0

[attention]
is_causal = true
window = [512, 0]
"""
CONFIG = {
    "scorer": {"name": "additive", "query_dim": 4, "key_dim": 3, "hidden_dim": 8, "rng": 0},
    "attention": {"is_causal": True, "window": [512, 0]},
}


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


# --- arrays ---


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("general", {"weight": np.eye(2)}),
        ("general", {"query_factor": np.ones((2, 1)), "key_factor": np.ones((2, 1))}),
        (
            "additive",
            {
                **dict.fromkeys(["query_weight", "key_weight"], np.ones((2, 3))),
                **dict.fromkeys(["score_weight", "bias"], np.ones(3)),
            },
        ),
    ],
)
def test_a_scorer_copies_what_it_is_given(name, arrays):
    given = {name: array.copy() for name, array in arrays.items()}
    scorer = ac.make_scorer(name, **given)
    replaced = scorer.with_parameters(given)
    for array in given.values():
        array += 1
    for name, array in arrays.items():
        assert np.array_equal(scorer.parameters[name], array)
        assert np.array_equal(replaced.parameters[name], array)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *((dtype, dtype) for dtype in ("f2", "f4", "f8", ">f4", ml_dtypes.bfloat16)),
        *((dtype, "f8") for dtype in ("i1", "u8", "?")),
    ],
)
def test_a_learned_scorer_keeps_its_dtype(given, kept):
    scorer = ac.make_scorer("general", weight=np.eye(2).astype(given))
    assert scorer.weight.dtype == kept


# --- one meaning ---


def test_toml_json_and_mappings_mean_the_same(write):
    sources = [write("a.toml", TOML), write("a.json", json.dumps(CONFIG)), CONFIG]
    for source in [*sources, str(sources[0])]:
        attention = Attention.from_config(source)
        assert attention.to_config() == CONFIG
        assert attention.window == (512, 0)
        scorer, options = read_config(source)
        assert options == {"is_causal": True, "window": (512, 0)}
        assert np.array_equal(scorer.key_weight, attention.scorer.key_weight)


@pytest.mark.parametrize(
    "config",
    [
        {"scorer": {"name": "dot"}},
        {"scorer": {"name": "scaled_dot", "scale": 0.25}},
        {"scorer": {"name": "general", "weight": [[1.0, 2.0]]}},
        {"scorer": {"name": "general", "query_dim": 2, "key_dim": 2, "rank": 1, "rng": 7}},
        {"scorer": {"name": "dot"}, "attention": {"window": [None, 0], "softcap": 30.0}},
        {"scorer": {"name": "dot"}, "attention": {"query_offset": [1, -2], "tile": [8, 16]}},
        {"scorer": {"name": "dot"}, "attention": {"query_offset": -3, "workers": 1}},
    ],
)
def test_a_config_is_what_its_attention_writes(config, write):
    assert Attention.from_config(config).to_config() == config
    path = write("a.json", json.dumps(config))
    assert Attention.from_config(path).to_config() == config
    jsonschema.validate(config, SCHEMA)


def test_defaults_are_not_written():
    config = {"scorer": "dot", "attention": {**OPTIONS, "window": None}}
    assert Attention.from_config(config).to_config() == {"scorer": {"name": "dot"}}


def test_an_alias_is_written_as_its_name():
    weight = {"weight": [[1.0]]}
    attention = Attention.from_config({"scorer": {"name": "luong", **weight}})
    assert attention.to_config() == {"scorer": {"name": "general", **weight}}


def test_toml_opens_a_window_with_infinity(write):
    path = write("a.toml", "scorer = 'dot'\n[attention]\nwindow = [inf, 3]\n")
    assert Attention.from_config(path).window == (None, 3)


def test_a_config_is_left_as_it_is():
    config = {"scorer": {"name": "scaled_dot", "scale": 0.5}, "attention": {"softcap": 1}}
    read_config(config)
    assert config == {"scorer": {"name": "scaled_dot", "scale": 0.5}, "attention": {"softcap": 1}}


def test_an_editor_may_leave_its_marks(write):
    config = json.dumps({"$schema": "config.schema.json", "scorer": "dot"})
    path = write("A.JSON", "\ufeff" + config)
    assert read_config(path)[0].to_config() == {"name": "dot"}
    path = write("a.toml", "\ufeff[scorer]\r\nname = 'dot'\r\n")
    assert read_config(path)[0].to_config() == {"name": "dot"}


def test_names_are_looked_up_where_one_says():
    registry = Registry()
    registry.register(ScorerSpec(name="mine", factory=lambda: ac.make_scorer("dot")))
    assert read_config({"scorer": "mine"}, registry)[0].to_config() == {"name": "mine"}
    with pytest.raises(ConfigError, match="no scorer named 'dot'"):
        read_config({"scorer": "dot"}, registry)
    with pytest.raises(ConfigError, match="no scorer named 'mine'"):
        read_config({"scorer": "mine"})


# --- files of parameters ---


def test_a_file_of_parameters_is_beside_the_config(tmp_path, write, monkeypatch):
    (tmp_path / "sub").mkdir()
    write_arrays(tmp_path / "sub" / "w.npz", {"weight": np.eye(2)})
    path = write("sub/a.toml", "[scorer]\nname = 'general'\nparameters = 'w.npz'\n")
    assert np.array_equal(read_config(path)[0].weight, np.eye(2))
    monkeypatch.chdir(tmp_path / "sub")
    assert np.array_equal(read_config("a.toml")[0].weight, np.eye(2))
    mapping = {"scorer": {"name": "general", "parameters": "w.npz"}}
    assert np.array_equal(read_config(mapping)[0].weight, np.eye(2))
    mapping["scorer"]["parameters"] = tmp_path / "sub" / "w.npz"
    assert np.array_equal(read_config(mapping)[0].weight, np.eye(2))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("name", ["general", "luong", "attention-core/general"])
def test_a_saved_scorer_is_known_by_any_of_its_names(tmp_path, suffix, name):
    path = tmp_path / f"w{suffix}"
    save_parameters(path, ac.make_scorer("bilinear", weight=[[1.0, 2.0]]))
    scorer, _ = read_config({"scorer": {"name": name, "parameters": path}})
    assert scorer.weight.tolist() == [[1.0, 2.0]]


def test_a_saved_scorer_brings_its_settings(tmp_path):
    path = tmp_path / "w.npz"
    save_parameters(path, ac.make_scorer("scaled_dot", scale=0.125))
    scorer, _ = read_config({"scorer": {"name": "scaled_dot", "parameters": path}})
    assert scorer.scale == 0.125


def test_a_file_and_the_config_may_share_the_work(tmp_path):
    write_arrays(tmp_path / "u.npz", {"query_factor": np.ones((2, 1))})
    config = {
        "scorer": {"name": "general", "parameters": tmp_path / "u.npz", "key_factor": [[1], [2]]}
    }
    assert read_config(config)[0].key_factor.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"wieght": np.eye(2)}, "scorer.parameters: .* has no parameter 'wieght'; did you mean"),
        ({"name": np.eye(2)}, "scorer.parameters: .* has no parameter 'name'"),
        ({"weight": np.ones(2)}, "scorer: scorer .*: parameter 'weight' must have shape"),
        ({}, "scorer: scorer 'general' .*: a learned scorer needs its parameters; give"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path, arrays, problem):
    write_arrays(tmp_path / "w.npz", arrays)
    with pytest.raises(ConfigError, match=problem):
        read_config({"scorer": {"name": "general", "parameters": tmp_path / "w.npz"}})


def test_a_file_that_cannot_be_read_hides_no_other_problem(tmp_path):
    registry = Registry()
    registry.register(ScorerSpec(name="needy", factory=lambda weight, gamma, rng=0: None))
    config = {"scorer": {"name": "needy", "parameters": "none.npz", "gama": 1, "rng": -1}}
    with pytest.raises(ConfigError) as error:
        read_config(config, registry)
    places = [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]]
    assert places == ["scorer.rng", "scorer.parameters", "scorer.gama"]


# --- every problem ---


@pytest.mark.parametrize("seed", ["0", 0.0, True, -1, None, np.random.default_rng(0)])
def test_a_seed_is_an_integer(seed):
    config = {"scorer": {"name": "general", "query_dim": 2, "key_dim": 2, "rng": seed}}
    with pytest.raises(ConfigError, match=r"\n  scorer\.rng: must be a seed"):
        read_config(config)


def test_scorers_that_cannot_be_made_are_problems_too():
    config = {"scorer": {"name": "scaled_dot", "scale": "big"}, "attention": {"workers": 0}}
    with pytest.raises(ConfigError) as error:
        read_config(config)
    first, *problems = str(error.value).splitlines()
    assert first == "2 problems in the configuration"
    assert [problem.split(":")[0] for problem in problems] == ["  scorer", "  attention.workers"]
    assert isinstance(error.value.__cause__, ac.ScorerConfigError)


def test_a_scorer_that_cannot_be_imported_is_a_problem_like_others():
    registry = Registry()
    registry.register(ScorerSpec(name="gone", factory="no_such_module:Scorer"))
    with pytest.raises(ConfigError, match=r"scorer\.name: .* cannot be imported") as error:
        read_config({"scorer": {"name": "gone"}, "attention": {"tile": 3}}, registry)
    assert "attention.tile: tile must be" in str(error.value)
    assert isinstance(error.value.__cause__, ac.PluginError)


def test_problems_come_in_the_order_of_the_file():
    config = {
        "first": 1,
        "attention": {"zeta": 1, "tile": 0, "alpha": 1},
        "scorer": {"name": "scaled_dot", "z": 1, "a": 1},
    }
    with pytest.raises(ConfigError) as error:
        read_config(config)
    places = [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]]
    assert places == [
        "first",
        "scorer.z",
        "scorer.a",
        "attention.zeta",
        "attention.tile",
        "attention.alpha",
    ]


def test_deep_nesting_is_bad_syntax(write):
    with pytest.raises(ConfigError, match="is not valid JSON"):
        read_config(write("a.json", "[" * 100_000))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"query_dim": -1, "key_dim": "x", "hidden_dim": 0, "rng": 0},
            [
                "scorer: ADDITIVE: query_dim must be at least 1, got -1",
                "scorer.key_dim: ADDITIVE: key_dim must be an integer, got 'x'",
                "scorer.hidden_dim: ADDITIVE: hidden_dim must be at least 1, got 0",
            ],
        ),
        (
            {"query_dim": 2, "hidden_dim": 0, "rng": -3, "wieght": 1},
            [
                "scorer.rng: must be a seed, an integer of at least 0, got -3",
                "scorer.wieght: ADDITIVE has no parameter 'wieght'; accepts: query_weight, "
                "key_weight, score_weight, bias, query_dim, key_dim, hidden_dim, rng",
                "scorer.hidden_dim: ADDITIVE: hidden_dim must be at least 1, got 0",
            ],
        ),
        (  # a message about several parameters is reported once
            {"hidden_dim": 3},
            [
                "scorer: ADDITIVE: a learned scorer needs its parameters; give query_weight, "
                "key_weight and score_weight (and optionally bias), or query_dim, key_dim, "
                "hidden_dim and rng; got hidden_dim"
            ],
        ),
    ],
)
def test_the_problems_of_a_scorer_itself_are_told_at_once(section, expected):
    additive = f"scorer 'additive' (attention-core {ac.__version__})"
    with pytest.raises(ConfigError) as error:
        read_config({"scorer": {"name": "additive", **section}})
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        line.replace("ADDITIVE", additive) for line in expected
    ]


def test_each_value_is_tried_beside_those_of_the_example():
    """Any error of a factory; an error about two parameters is not assigned to one of them."""
    tried = []

    def make(rows, columns, *, gain=1.0, mode="a"):
        tried.append((rows, columns, gain, mode))
        if mode not in ("a", "b"):
            raise KeyError(mode)
        if rows % columns:
            raise ValueError(f"rows must be a multiple of columns, got {rows} and {columns}")
        if gain < 0:
            raise ValueError(f"gain must not be negative, got {gain}")
        return ac.make_scorer("dot")

    registry = Registry()
    example = {"rows": 6, "columns": 3}
    registry.register(ScorerSpec(name="mine", factory=make, example=example))
    config = {"scorer": {"name": "mine", "rows": 7, "columns": 2, "gain": -1.0, "mode": "c"}}
    with pytest.raises(ConfigError) as error:
        read_config(config, registry)
    assert str(error.value).splitlines() == [
        "2 problems in the configuration",
        "  scorer: 'mine' failed with KeyError: 'c'",
        "  scorer.gain: scorer 'mine': gain must not be negative, got -1.0",
    ]
    assert (6, 3, -1.0, "a") in tried
    assert (7, 3, 1.0, "a") in tried


# --- the schema ---


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_of_options_is_derived_from_the_code():
    assert SCHEMA["properties"]["attention"]["properties"] == options_schema()


def test_the_schema_has_the_options_of_the_code():
    options = SCHEMA["properties"]["attention"]["properties"]
    assert list(options) == list(OPTIONS)
    assert {name: option["default"] for name, option in options.items()} == dict(OPTIONS)


GOOD = [
    CONFIG,
    {"scorer": "dot"},
    {"$schema": "x", "scorer": {"name": "dot"}},
    {"scorer": "attention-core/dot", "attention": {}},
    {"scorer": "dot", "normalizer": {"name": "entmax", "alpha": 1.2}},
    {"scorer": "dot", "normalizer": "sigmoid", "bias": {"name": "alibi", "heads": 2}},
    {"scorer": {"name": "scaled_dot", "scale": None}},
    *(
        {"scorer": "dot", "attention": {name: value}}
        for name, values in {
            "is_causal": [True, False],
            "query_offset": [0, -3, [1, 2], [[1], [2]]],
            "window": [None, [0, 0], [None, 0], [3, None]],
            "softcap": [None, 1, 0.5],
            "tile": [None, [1, 1]],
            "workers": [None, 1],
        }.items()
        for value in values
    ),
]
BAD = [
    {},
    [],
    {"scorer": None},
    {"scorer": 3},
    {"scorer": "Dot"},
    {"scorer": {}},
    {"scorer": {"name": None}},
    {"scorer": {"name": "dot", "parameters": 3}},
    {"scorer": {"name": "dot", "parameters": "w.pkl"}},
    {"scorer": {"name": "general", "query_dim": 2, "key_dim": 2, "rng": -1}},
    {"scorer": {"name": "general", "query_dim": 2, "key_dim": 2, "rng": "0"}},
    {"scorer": {"name": "general", "query_dim": 2, "key_dim": 2, "rng": None}},
    {"scorer": "dot", "attenton": {}},
    {"scorer": "dot", "attention": None},
    {"scorer": "dot", "attention": {"windw": [1, 0]}},
    *(
        {"scorer": "dot", "attention": {name: value}}
        for name, values in {
            "is_causal": [0, 1, "true", None],
            "query_offset": [0.5, "0", None, True],
            "window": [3, [1], [1, 2, 3], [-1, 0], [0.5, 0], ["1", 0], [True, 0]],
            "softcap": [0, -1, "1", True],
            "tile": [8, [8], [0, 8], [8, 8, 8], [1.5, 2], [None, 8]],
            "workers": [0, -1, 1.5, "2", True],
        }.items()
        for value in values
    ),
]


@pytest.mark.parametrize("config", GOOD, ids=str)
def test_configs_that_the_code_accepts_are_valid_by_the_schema(config, write):
    jsonschema.validate(config, SCHEMA)
    read_config(write("a.json", json.dumps(config)))


@pytest.mark.parametrize("config", BAD, ids=str)
def test_configs_that_the_code_rejects_are_invalid_by_the_schema(config, write):
    with pytest.raises(ConfigError):
        read_config(write("a.json", json.dumps(config)))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, SCHEMA)
