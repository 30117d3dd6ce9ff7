"""Layers from configurations, and configurations of layers."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import attention_core as ac
from attention_core import Attention, ConfigError, MultiHeadAttention
from attention_core.config import config_files
from attention_core.parameter_files import save_parameters, write_arrays

SCHEMA = json.loads(Path(ac.__file__).with_name("config.schema.json").read_text())
WEIGHTS = ["query_weight", "key_weight", "value_weight", "output_weight"]
DRAWN = {"query_dim": 6, "heads": 3, "rng": 0}
TOML = """
[multi_head]
query_dim = 6
heads = 3
rng = 0

[[scorer]]
name = "general"
query_dim = 2
key_dim = 2
rng = 1

[[scorer]]
name = "general"
query_dim = 2
key_dim = 2
rng = 1

[[scorer]]
name = "dot"

[attention]
window = [2, inf]
"""


def problems(config):
    with pytest.raises(ConfigError) as error:
        MultiHeadAttention.from_config(config)
    return str(error.value).splitlines()


@pytest.fixture
def arrays():
    return MultiHeadAttention.initialize(6, heads=3, biases=True, rng=0).arrays


# --- one meaning ---


def test_a_file_a_mapping_and_arguments_mean_the_same(tmp_path):
    path = tmp_path / "layer.toml"
    path.write_text(TOML)
    general = ac.make_scorer("general", query_dim=2, key_dim=2, rng=1)
    expected = MultiHeadAttention.initialize(
        6, heads=3, rng=0, scorer=[general, general, ac.make_scorer("dot")], window=(2, None)
    )
    config = json.loads(json.dumps(MultiHeadAttention.from_config(path).to_config()))
    for source in (path, str(path), config):
        layer = MultiHeadAttention.from_config(source)
        assert layer == expected
        assert [group.heads for group in layer.groups] == [(0, 1), (2,)]
    x = np.random.default_rng(0).normal(size=(4, 6))
    np.testing.assert_array_equal(layer(x, x, x).output, expected(x, x, x).output)
    jsonschema.validate(config, SCHEMA)


@pytest.mark.parametrize(
    "layer",
    [
        MultiHeadAttention.initialize(4, heads=2, rng=0),
        MultiHeadAttention.initialize(4, heads=4, key_heads=2, biases=True, rng=0, is_causal=True),
        MultiHeadAttention.initialize(4, heads=2, rng=0, scorer="dot", query_offset=[1, -2]),
        MultiHeadAttention.from_torch(
            {"in_proj_weight": np.ones((12, 4)), "out_proj.weight": np.eye(4)},
            heads=2,
            add_zero_attn=True,
        ),
        MultiHeadAttention(
            **MultiHeadAttention.initialize(4, heads=2, rng=0).arrays,
            extra_key=np.ones((2, 2)),
            extra_value=np.ones((2, 2)),
        ),
    ],
    ids=str,
)
def test_a_layer_writes_what_makes_it_again(layer):
    config = json.loads(json.dumps(layer.to_config()))
    assert MultiHeadAttention.from_config(config) == layer
    assert MultiHeadAttention.from_config(config).to_config() == config
    jsonschema.validate(config, SCHEMA)


def test_the_scorer_may_be_left_out():
    layer = MultiHeadAttention.from_config({"multi_head": DRAWN})
    assert layer == MultiHeadAttention.initialize(6, heads=3, rng=0)
    jsonschema.validate({"multi_head": DRAWN}, SCHEMA)


def test_arrays_may_be_in_a_file_beside_the_config(tmp_path, arrays):
    write_arrays(tmp_path / "w.npz", arrays)
    path = tmp_path / "layer.json"
    path.write_text(json.dumps({"multi_head": {"parameters": "w.npz"}, "scorer": "dot"}))
    layer = MultiHeadAttention.from_config(path)
    assert layer.arrays.keys() == arrays.keys()
    assert layer == MultiHeadAttention(**arrays, scorer="dot")
    assert config_files(path) == [path, tmp_path / "w.npz"]


def test_parameters_of_the_scorer_of_one_head_may_be_in_a_file(tmp_path):
    scorer = ac.make_scorer("general", weight=np.eye(2))
    save_parameters(tmp_path / "s.npz", scorer)
    path = tmp_path / "layer.json"
    section = {"name": "general", "parameters": "s.npz"}
    path.write_text(json.dumps({"multi_head": DRAWN, "scorer": [section, "dot", section]}))
    layer = MultiHeadAttention.from_config(path)
    assert [group.heads for group in layer.groups] == [(0, 2), (1,)]
    assert layer.scorers[2] == scorer
    assert config_files(path) == [path, *[tmp_path / "s.npz"] * 2]


# --- selection of a config ---


def test_attention_says_which_to_use_for_a_layer(tmp_path):
    with pytest.raises(ConfigError) as error:
        Attention.from_config({"multi_head": DRAWN})
    assert str(error.value) == (
        "the configuration describes a layer, in [multi_head]; use MultiHeadAttention.from_config"
    )


def test_a_layer_says_which_to_use_for_attention():
    with pytest.raises(ConfigError) as error:
        MultiHeadAttention.from_config({"scorer": "dot"})
    assert str(error.value) == (
        "the configuration describes no layer: it has no [multi_head]; use Attention.from_config"
    )


def test_a_saved_layer_needs_no_config(tmp_path):
    path = tmp_path / "layer.npz"
    save_parameters(path, MultiHeadAttention.initialize(4, heads=2, rng=0))
    assert problems({"multi_head": {"parameters": str(path)}}) == [
        "1 problem in the configuration",
        f"  multi_head.parameters: {str(path)!r} describes its own contents; use load(path)",
    ]


# --- problems ---


def test_all_problems_are_told_at_once():
    config = {
        "multi_head": {"query_dim": 6, "haeds": 3, "rng": 0, "biases": 1},
        "scorer": ["dot", {"name": "general", "query_dim": 0, "key_dim": 2, "rank": "x", "rng": 0}],
        "attention": {"softcap": -1},
        "layer": 3,
    }
    general = f"scorer 'general' (attention-core {ac.__version__})"
    assert (
        problems(config)
        == [
            "7 problems in the configuration",
            "  layer: unknown key; known keys: multi_head, scorer, normalizer, attention",
            "  multi_head.biases: must be true or false, got 1",
            "  multi_head.haeds: unknown key; did you mean 'heads'?",
            "  multi_head.heads: missing",
            f"  scorer[1]: {general}: query_dim must be at least 1, got 0",
            f"  scorer[1].rank: {general}: rank must be an integer, got 'x'",
            "  attention.softcap: softcap must be positive and finite, or None for no cap, got -1",
        ]
        or len(problems(config)) == 8
    )


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (3, "multi_head: must be a table, got 3"),
        (
            {},
            "multi_head: give query_dim, heads, rng, or the arrays query_weight, key_weight, "
            "value_weight, output_weight, or a file as parameters",
        ),
        ({"heads": 2, "rng": 0}, "multi_head.query_dim: missing"),
        ({**DRAWN, "heads": 4}, "multi_head: "),
        ({**DRAWN, "heads": "3"}, "multi_head: heads must be an integer"),
        ({**DRAWN, "rng": -1}, "multi_head: rng must be a seed"),
        ({**DRAWN, "zero_key": "yes"}, "multi_head.zero_key: must be true or false, got 'yes'"),
        (
            {**DRAWN, "query_bias": [[0.0]]},
            "multi_head: gives arrays and query_dim, heads, rng; give only one",
        ),
        (
            {key: [[[1.0]]] for key in WEIGHTS[:3]},
            "multi_head.output_weight: missing",
        ),
        (
            {key: [[1.0]] for key in WEIGHTS},
            "multi_head: query_weight must have shape (Eq, N, Dq), got (1, 1)",
        ),
        ({"parameters": 3}, "multi_head.parameters: must be the path of a file of arrays, got 3"),
        ({"parameters": "no.npz"}, "multi_head.parameters: "),
    ],
)
def test_a_section_that_makes_no_layer(section, expected):
    first, problem = problems({"multi_head": section})
    assert first == "1 problem in the configuration"
    assert problem.startswith(f"  {expected}")


def test_a_file_that_holds_other_arrays(tmp_path, arrays):
    path = tmp_path / "w.npz"
    write_arrays(path, {**arrays, "query_weigth": np.ones(3)})
    assert problems({"multi_head": {"parameters": str(path)}}) == [
        "1 problem in the configuration",
        "  multi_head.parameters: query_weigth: unknown key; did you mean 'query_weight'?",
    ]


def test_an_array_that_is_given_twice(tmp_path, arrays):
    path = tmp_path / "w.npz"
    write_arrays(path, arrays)
    section = {"parameters": str(path), "query_bias": [[0.0]]}
    assert problems({"multi_head": section}) == [
        "1 problem in the configuration",
        "  multi_head.query_bias: given here and in the file; give only one",
    ]


def test_another_number_of_scorers_than_heads():
    assert problems({"multi_head": DRAWN, "scorer": ["dot"]}) == [
        "1 problem in the configuration",
        "  multi_head: scorer must be one for all 3 heads, or 3 of them, got 1",
    ]


@pytest.mark.parametrize("scorer", [["dot"], [], 3])
def test_the_schema_allows_lists_of_scorers_for_layers_only(scorer):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"scorer": scorer}, SCHEMA)
    with pytest.raises(ConfigError):
        Attention.from_config({"scorer": scorer})
