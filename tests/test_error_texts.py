"""The exact text of every error about names, plugins, configs and files.

Each names the subject, the facts and the way out.
"""

import sys
import textwrap
import zipfile

import fakes
import ml_dtypes
import numpy as np
import pytest
from bundled import SCORERS
from fakes import hooks

import attention_core as ac
from attention_core import Registry, Scorer, ScorerSpec
from attention_core.config import read_config
from attention_core.parameter_files import (
    load_layer,
    load_scorer,
    read_arrays,
    save_parameters,
    write_arrays,
)

install = fakes.install
CORE = f"attention-core {ac.__version__}"


class RBFScorer(Scorer):
    def __init__(self, gamma=1.0, scale=1.0):
        self.gamma = gamma
        self.scale = scale

    def score(self, query, key):
        return query @ key.swapaxes(-1, -2)


def spec(name, **rest):
    return ScorerSpec(**{"name": name, "factory": RBFScorer, **rest})


@pytest.fixture
def registry():
    """Four bundled scorers, and one of a package."""
    registry = Registry()
    for name in ("additive", "dot", "gaussian", "general", "scaled_dot"):
        registry.register(spec(name), distribution="attention-core", version="0.1")
    registry.register(spec("rbf"), distribution="acme-attention", version="0.3")
    return registry


def says(error, expected):
    """Compare an error with the expected text, which is indented for readability."""
    assert str(error.value) == textwrap.dedent(expected).strip()


# --- names ---


def test_an_unknown_name(registry):
    with pytest.raises(ac.UnknownScorerError) as error:
        registry.make("scaled_dto")
    says(
        error,
        """
        no scorer named 'scaled_dto'; did you mean 'scaled_dot'?
          available: additive, dot, gaussian, general, scaled_dot (attention-core 0.1), rbf (acme-attention 0.3)
        """,
    )
    assert isinstance(error.value, LookupError)
    assert not isinstance(error.value, KeyError)


def test_an_unknown_name_and_what_was_not_loaded(install):
    install(hooks=hooks("name='rbf', factory='acme_attention.rbf:FakeScorer'"))
    install("acme-gpu", "2.1", plugin="acme_gpu", hooks="import cupy_of_acme")
    install("acme-old", "0.1", plugin="acme_old", hooks="import acme_old.engine")
    with pytest.warns(ac.PluginWarning):
        registry = Registry.from_entry_points(block="acme_old")
    registry.register(spec("mine"))
    with pytest.raises(ac.UnknownScorerError) as error:
        registry.make("fourier")
    says(
        error,
        f"""
        no scorer named 'fourier'
          available: {", ".join(SCORERS)} ({CORE}), rbf (acme-attention 0.3), mine (run time)
          not loaded: acme_gpu (acme-gpu 2.1) - ModuleNotFoundError: No module named 'cupy_of_acme'
          blocked: acme_old (acme-old 0.1)
        """,
    )


def test_an_ambiguous_name(registry):
    registry.register(spec("rbf"), distribution="other-attention", version="1.0")
    with pytest.raises(ac.AmbiguousScorerError) as error:
        registry.make("rbf")
    says(
        error,
        """
        scorer name 'rbf' is ambiguous; use 'acme-attention/rbf' or 'other-attention/rbf'
          offered by: acme-attention 0.3, other-attention 1.0
        """,
    )
    assert isinstance(error.value, LookupError)


def test_a_rival_of_a_bundled_name(registry):
    with pytest.warns(ac.PluginWarning) as caught:
        registry.register(spec("dot"), distribution="acme-attention", version="0.3")
    assert str(caught[0].message) == (
        "scorer name 'dot' is reserved for attention-core 0.1; "
        "use 'acme-attention/dot' for the scorer of acme-attention 0.3"
    )


def test_a_name_that_is_taken(registry):
    with pytest.raises(ac.PluginError) as error:
        registry.register(spec("dot"))
    says(error, "scorer name 'dot' is already taken by scorer 'dot' (attention-core 0.1)")


def score(query, key):
    return query @ key.T


SCORER = "scorer must be a name, a mapping with a 'name', or a Scorer, got"
BIAS = "the bias of an Attention must be a name, a mapping with a 'name', or a Bias, got"
IN_CALLS = "pass arrays and functions to its calls"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda registry: registry.resolve(3), f"{SCORER} 3"),
        (
            lambda registry: registry.resolve(RBFScorer),
            f"{SCORER} {RBFScorer!r}; call the class to make one",
        ),
        (
            lambda registry: registry.resolve(score),
            f"{SCORER} <function score>; derive a class from attention_core.Scorer to use it",
        ),
        (
            lambda _: ac.MultiHeadAttention.initialize(4, heads=2, rng=0, normalizer=np.tanh),
            "normalizer must be a name, a mapping with a 'name', a Normalizer, or a sequence of "
            "one for each head, got <ufunc 'tanh'>; derive a class from attention_core.Normalizer "
            "to use it",
        ),
        (
            lambda _: ac.Attention("dot", normalizer=np.eye(1)),
            "normalizer must be a name, a mapping with a 'name', or a Normalizer, "
            "got array([[1.]])",
        ),
        (lambda registry: registry.make(3), "the name of a scorer must be text, got 3"),
        (lambda _: ac.make_bias(None), "the name of a bias must be text, got None"),
        (lambda _: ac.Attention("dot", bias=3), f"{BIAS} 3; {IN_CALLS}"),
        (lambda _: ac.Attention("dot", bias=np.eye(1)), f"{BIAS} array([[1.]]); {IN_CALLS}"),
        (lambda _: ac.Attention("dot", bias=abs), f"{BIAS} <built-in function abs>; {IN_CALLS}"),
    ],
)
def test_objects_that_are_not_components(registry, make, expected):
    with pytest.raises(ac.OptionTypeError) as error:
        make(registry)
    says(error, expected)
    assert isinstance(error.value, TypeError)
    assert isinstance(error.value, ValueError)


def test_a_mapping_without_a_name(registry):
    with pytest.raises(ac.ScorerConfigError) as error:
        registry.resolve({"nmae": "rbf", "gamma": 1.0})
    says(error, "a mapping that describes a scorer needs its 'name'; got the keys: nmae, gamma")


# --- parameters ---

GENERAL = ac.make_scorer("general", weight=np.eye(2))


def test_an_unknown_parameter(registry):
    with pytest.raises(ac.ScorerConfigError) as error:
        registry.make("rbf", gama=2.0)
    says(
        error,
        "scorer 'rbf' (acme-attention 0.3) has no parameter 'gama'; did you mean 'gamma'? "
        "accepts: gamma, scale",
    )
    assert isinstance(error.value, ValueError)


def test_an_unknown_parameter_like_no_other(registry):
    with pytest.raises(ac.ScorerConfigError) as error:
        registry.make("rbf", temperature=2.0)
    says(
        error,
        "scorer 'rbf' (acme-attention 0.3) has no parameter 'temperature'; accepts: gamma, scale",
    )


def test_a_parameter_of_a_scorer_without_any(registry):
    registry.register(spec("plain", factory=lambda: RBFScorer()))
    with pytest.raises(ac.ScorerConfigError) as error:
        registry.make("plain", gamma=1.0)
    says(error, "scorer 'plain' has no parameter 'gamma'; accepts: no parameters")


@pytest.mark.parametrize("bare", ["general", {"name": "general"}])
def test_a_bare_name_of_a_learned_scorer(bare):
    with pytest.raises(ac.ScorerConfigError) as error:
        ac.Attention(bare)
    says(
        error,
        f"""
        scorer 'general' ({CORE}): a learned scorer needs its parameters; give weight, or query_factor and key_factor, or query_dim, key_dim and rng (and optionally rank); got nothing
          for example: scorer={{'name': 'general', 'query_dim': 4, 'key_dim': 3, 'rng': 0}}
        """,
    )
    ac.Attention({"name": "general", "query_dim": 4, "key_dim": 3, "rng": 0})


def test_a_missing_parameter(registry):
    registry.register(spec("needy", factory=lambda gamma, scale=1.0: RBFScorer(gamma)))
    with pytest.raises(ac.ScorerConfigError) as error:
        registry.make("needy", scael=2.0)
    says(
        error,
        """
        scorer 'needy' has no parameter 'scael'; did you mean 'scale'? accepts: gamma, scale
        scorer 'needy' needs parameter 'gamma'; accepts: gamma, scale
        """,
    )


@pytest.mark.parametrize(
    "dtype",
    [
        "V2", "V8", "c16", "U1", "O", "M8[s]", ml_dtypes.int4, ml_dtypes.float8_e4m3fn,
        [("x", "f8")],
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "make",
    [
        lambda weight: ac.make_scorer("general", weight=weight),
        lambda weight: GENERAL.with_parameters({"weight": weight}),
    ],
)
def test_a_parameter_that_holds_no_real_numbers(make, dtype):
    weight = np.zeros((2, 2), dtype)
    hint = {
        "|V2": "; bfloat16 saved by NumPy needs .view(ml_dtypes.bfloat16)",
        "|V8": "",
        "complex128": "; take its .real or its .imag",
        "datetime64[s]": "; convert it with numpy.asarray(..., dtype='int64')",
        "[('x', '<f8')]": "; call numpy.lib.recfunctions.structured_to_unstructured",
    }.get(str(weight.dtype), "; convert it with numpy.asarray(..., dtype=float)")
    with pytest.raises(ac.ScorerConfigError) as error:
        make(weight)
    says(
        error,
        f"scorer 'general' ({CORE}): parameter 'weight' must hold real numbers (float16, bfloat16, "
        f"float32, float64 or integers), got dtype {weight.dtype}{hint}",
    )


def test_ragged_lists_in_the_place_of_a_parameter():
    scorer = ac.make_scorer("general", weight=[[1.0, 2.0]])
    with pytest.raises(ac.ScorerConfigError) as error:
        scorer.with_parameters({"weight": [[1.0], [2.0, 3.0]]})
    says(
        error,
        f"scorer 'general' ({CORE}): parameter 'weight' has shape (1, 2), "
        f"got nested lists of different lengths",
    )


@pytest.mark.parametrize("seed", ["a", -1, 2.5, True])
def test_a_seed_that_is_none(seed):
    with pytest.raises(ac.ScorerConfigError) as error:
        ac.make_scorer("general", query_dim=2, key_dim=2, rng=seed)
    says(
        error,
        f"scorer 'general' ({CORE}): rng must be a seed, an integer of at least 0, or a "
        f"numpy.random.Generator, got {seed!r}",
    )


def test_a_parameter_of_ragged_lists():
    with pytest.raises(ac.ScorerConfigError) as error:
        ac.make_scorer("general", weight=[[1.0], [2.0, 3.0]])
    says(
        error,
        f"scorer 'general' ({CORE}): parameter 'weight' must be an array, got nested lists of "
        f"different lengths",
    )


# --- plugins ---


def test_a_plugin_that_was_not_loaded(install):
    install("acme-gpu", "2.1", plugin="acme_gpu", hooks="import cupy_of_acme")
    text = (
        "plugin not loaded: acme_gpu (acme-gpu 2.1) - "
        "ModuleNotFoundError: No module named 'cupy_of_acme'; "
        "ATTENTION_CORE_BLOCK=acme_gpu blocks it without a warning"
    )
    with pytest.warns(ac.PluginWarning) as caught:
        Registry.from_entry_points(strict=False)
    assert str(caught[0].message) == text
    with pytest.raises(ac.PluginError) as error:
        Registry.from_entry_points(strict=True)
    says(error, text)


def test_a_long_reason_is_one_line(install):
    install(hooks="raise ImportError('''one\n\n   two''')")
    with pytest.warns(ac.PluginWarning):
        (failure,) = Registry.from_entry_points().failures
    assert str(failure) == "acme (acme-attention 0.3) - ImportError: one two"
    assert failure.reason == "ImportError: one two"


def test_an_exception_without_a_message(install):
    install(hooks="raise SystemExit")
    with pytest.warns(ac.PluginWarning):
        (failure,) = Registry.from_entry_points().failures
    assert str(failure) == "acme (acme-attention 0.3) - SystemExit"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "import no_such_module",
            (
                "its factory 'acme_attention.rbf:FakeScorer' cannot be imported - "
                "ModuleNotFoundError: No module named 'no_such_module'"
            ),
        ),
        (
            "def FakeScorer(*, gamma=1.0, **rest): ...",
            (
                "its factory takes (**rest); name every parameter, so that a config can give it "
                "and a typo is noticed"
            ),
        ),
        (
            "def FakeScorer(parameters): ...",
            (
                "its factory has a parameter 'parameters', which a config uses for something else; "
                "rename it"
            ),
        ),
        ("FakeScorer = 3", "its factory must be callable with a signature, got 3"),
        (
            "from attention_core import Scorer\nclass FakeScorer(Scorer): ...",
            "FakeScorer does not implement score",
        ),
    ],
)
def test_a_factory_that_cannot_be_used(install, source, expected):
    install(hooks=hooks("name='rbf', factory='acme_attention.rbf:FakeScorer'"), rbf=source)
    with pytest.raises(ac.PluginError) as error:
        Registry.from_entry_points().make("rbf")
    says(error, f"scorer 'rbf' (acme-attention 0.3): {expected}")


def test_a_factory_that_makes_something_else(install):
    source = "def FakeScorer(): return 'rbf'"
    install(hooks=hooks("name='rbf', factory='acme_attention.rbf:FakeScorer'"), rbf=source)
    with pytest.raises(ac.ScorerContractError) as error:
        Registry.from_entry_points().make("rbf")
    says(
        error,
        "scorer 'rbf' (acme-attention 0.3): its factory returned 'rbf'; "
        "expected an attention_core.Scorer",
    )


# --- configurations ---


def test_every_problem_of_a_config(registry, tmp_path):
    path = tmp_path / "attention.toml"
    path.write_text(
        """
        extra = 1
        [scorer]
        name = "scaled_dto"
        parameters = "weights.npz"
        rng = "zero"
        [attention]
        windw = [1, 0]
        softcap = -1
        tilt = 3
        """
    )
    with pytest.raises(ac.ConfigError) as error:
        read_config(path, registry)
    says(
        error,
        f"""
        7 problems in {str(path)!r}
          extra: unknown key; known keys: scorer, normalizer, bias, attention
          scorer.name: no scorer named 'scaled_dto'; did you mean 'scaled_dot'?
              available: additive, dot, gaussian, general, scaled_dot (attention-core 0.1), rbf (acme-attention 0.3)
          scorer.rng: must be a seed, an integer of at least 0, got 'zero'
          scorer.parameters: cannot read {str(tmp_path / "weights.npz")!r}: No such file or directory
          attention.windw: unknown key; did you mean 'window'?
          attention.softcap: softcap must be positive and finite, or None for no cap, got -1
          attention.tilt: unknown key; did you mean 'tile'?
        """,
    )
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "scorer: missing; give a table with the name of a scorer"),
        ({"scorer": 3}, "scorer: got 3; give a table with the name of a scorer"),
        (
            {"scorer": {}},
            "scorer.name: missing; give one of: additive, dot, gaussian, general, rbf, scaled_dot",
        ),
        (
            {"scorer": {"name": 3}},
            "scorer.name: got 3; give one of: additive, dot, gaussian, general, rbf, scaled_dot",
        ),
        (
            {"scorer": {"name": "rbf", "gama": 3}},
            (
                "scorer.gama: scorer 'rbf' (acme-attention 0.3) has no parameter 'gama'; "
                "did you mean 'gamma'? accepts: gamma, scale"
            ),
        ),
        (
            {"scorer": {"name": "rbf", "parameters": 3}},
            "scorer.parameters: must be the path of an .npz or .safetensors file, got 3",
        ),
        (
            {"scorer": {"name": "rbf", "parameters": "weights.pt"}},
            (
                "scorer.parameters: 'weights.pt' has the extension '.pt'; "
                "named arrays must be in .npz or .safetensors files"
            ),
        ),
        ({"scorer": "dot", "attention": 3}, "attention: must be a table of options, got 3"),
        (
            {"scorer": "dot", "attention": {"zebra": 3}},
            (
                "attention.zebra: unknown key; known keys: "
                "is_causal, query_offset, window, softcap, tile, workers"
            ),
        ),
    ],
)
def test_a_problem_of_a_config(registry, config, expected):
    with pytest.raises(ac.ConfigError) as error:
        read_config(config, registry)
    assert str(error.value) == f"1 problem in the configuration\n  {expected}"


def test_a_learned_scorer_without_parameters():
    with pytest.raises(ac.ConfigError) as error:
        read_config({"scorer": "general"})
    says(
        error,
        f"""
        1 problem in the configuration
          scorer: scorer 'general' ({CORE}): a learned scorer needs its parameters; give weight, or query_factor and key_factor, or query_dim, key_dim and rng (and optionally rank); got nothing
        """,
    )


def test_a_factory_that_fails(registry):
    def factory():
        raise TypeError("unsupported operand")

    registry.register(spec("mine", factory=factory))
    with pytest.raises(ac.ConfigError) as error:
        read_config({"scorer": "mine"}, registry)
    says(
        error,
        """
        1 problem in the configuration
          scorer: 'mine' failed with TypeError: unsupported operand
        """,
    )
    assert isinstance(error.value.__cause__, TypeError)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.yaml", b"", "config file {path} has the extension '.yaml'; use .toml or .json"),
        ("a", b"", "config file {path} has the extension ''; use .toml or .json"),
        ("a.toml", None, "cannot read config file {path}: No such file or directory"),
        (
            "a.toml",
            b"[scorer]\nname = dot\n",
            "config file {path} is not valid TOML: Invalid value (at line 2, column 8)",
        ),
        (
            "a.json",
            b'{\n"scorer": dot}',
            "config file {path} is not valid JSON: Expecting value: line 2 column 11 (char 12)",
        ),
        (
            "a.json",
            b'{"scorer": "dot", "scorer": "rbf"}',
            "config file {path} is not valid JSON: key 'scorer' is given twice",
        ),
        (
            "a.json",
            b'{"attention": {"window": [Infinity, 0]}}',
            (
                "config file {path} is not valid JSON: "
                "Infinity is not a JSON number; an open side of a window is null"
            ),
        ),
        (
            "a.json",
            b"[1]",
            "config file {path} must hold an object with the keys scorer, normalizer, bias, "
            "attention, got [1]",
        ),
        (
            "a.toml",
            b"[scorer]\nname = 'd\xf6t'",
            "config file {path} is not UTF-8: byte 0xf6 in line 2",
        ),
    ],
)
def test_a_config_file_that_cannot_be_read(tmp_path, name, content, expected):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ac.ConfigError) as error:
        read_config(path)
    says(error, expected.format(path=repr(str(path))))


def test_objects_that_are_not_configs():
    with pytest.raises(ac.ConfigError) as error:
        read_config(3)
    says(error, "a configuration is a path or a mapping, got 3")


# --- parameter files ---


def saved(path):
    save_parameters(path, ac.make_scorer("general", weight=[[1.0, 2.0]]))
    return path


def rewritten(path, note, **arrays):
    """A file whose arrays do not match its note."""
    write_arrays(path, arrays, note=note)
    return path


NOTE = '{"scorer": {"name": "general"}, "shapes": {"weight": [1, 2]}}'
WEIGHT = np.ones((1, 2))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("arrays", "note", "expected"),
    [
        ({}, NOTE, "array 'weight' of scorer 'general' is missing"),
        (
            {"weight": WEIGHT, "bias": WEIGHT},
            NOTE,
            "array 'bias' is not one of scorer 'general', which was saved with: weight",
        ),
        (
            {"weight": WEIGHT.T},
            NOTE,
            "array 'weight' has shape (2, 1), but was saved with shape (1, 2)",
        ),
        ({"weight": WEIGHT}, "{", "cannot read its note about its parameters: '{'"),
        ({"weight": WEIGHT}, "{}", "cannot read its note about its parameters: '{}'"),
        pytest.param(
            {"weight": WEIGHT},
            "[" * 200_000,
            f"cannot read its note about its parameters: {'[' * 80!r}",
            id="deep",
        ),
    ],
)
def test_a_file_that_is_not_as_it_was_saved(tmp_path, suffix, arrays, note, expected):
    path = rewritten(tmp_path / f"w{suffix}", note, **arrays)
    with pytest.raises(ac.ParameterFileError) as error:
        load_scorer(path)
    says(error, f"{str(path)!r}: {expected}")


def test_a_file_that_does_not_fit_its_scorer(tmp_path):
    note = NOTE.replace('"weight": [1, 2]', '"wieght": [1, 2]')
    path = rewritten(tmp_path / "w.npz", note, wieght=WEIGHT)
    with pytest.raises(ac.ParameterFileError) as error:
        load_scorer(path)
    says(
        error,
        f"{str(path)!r} does not fit its scorer: scorer 'general' ({CORE}) has no parameter "
        f"'wieght'; did you mean 'weight'? accepts: weight, query_factor, key_factor, query_dim, "
        f"key_dim, rank, rng",
    )


LAYER_NOTE = """{"layer": {"groups": [
  {"heads": [0], "scorer": {"name": "general"}}, {"heads": [1], "scorer": {"name": "dot"}}
], "attention": {}}, "shapes": {
  "query_weight": [2, 2, 1], "key_weight": [2, 2, 1], "value_weight": [2, 2, 1],
  "output_weight": [2, 1, 2], "heads.0.weight": [1, 1]
}}"""
LAYER = {
    **dict.fromkeys(["query_weight", "key_weight", "value_weight"], np.ones((2, 2, 1))),
    "output_weight": np.ones((2, 1, 2)),
    "heads.0.weight": np.ones((1, 1)),
}


def without(name):
    return {key: array for key, array in LAYER.items() if key != name}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("arrays", "replaced", "expected"),
    [
        (without("key_weight"), (), ": array 'key_weight' of multi-head attention is missing"),
        (
            without("heads.0.weight"),
            (),
            ": array 'heads.0.weight' of multi-head attention is missing",
        ),
        (
            LAYER | {"heads.1.weight": WEIGHT},
            (),
            (
                ": array 'heads.1.weight' is not one of multi-head attention, which was saved "
                "with: query_weight, key_weight, value_weight, output_weight, heads.0.weight"
            ),
        ),
        (
            LAYER | {"key_weight": np.ones((2, 1, 2))},
            (),
            ": array 'key_weight' has shape (2, 1, 2), but was saved with shape (2, 2, 1)",
        ),
        (
            LAYER,
            ('"general"', '"dot"'),
            (
                f" does not fit its layer: scorer 'dot' ({CORE}) has no parameter 'weight'; "
                f"accepts: no parameters"
            ),
        ),
        (
            LAYER | {"output_weight": np.ones((3, 1, 2))},
            ("[2, 1, 2]", "[3, 1, 2]"),
            (
                " does not fit its layer: output_weight must have shape (N, Dv, Eo) = (2, 1, Eo), "
                "got (3, 1, 2)"
            ),
        ),
        (
            without("key_weight"),
            ('"key_weight": [2, 2, 1],', ""),
            (
                " does not fit its layer: besides those of its scorers it must hold the arrays "
                "query_weight, key_weight, value_weight, output_weight, with biases or without, "
                "got query_weight, value_weight, output_weight"
            ),
        ),
        (
            LAYER,
            ('"attention": {}', '"attention": {"softcap": -1}'),
            (
                " does not fit its layer: softcap must be positive and finite, or None for no "
                "cap, got -1"
            ),
        ),
    ],
)  # fmt: skip
def test_a_layer_that_is_not_as_it_was_saved(tmp_path, suffix, arrays, replaced, expected):
    note = LAYER_NOTE.replace(*replaced) if replaced else LAYER_NOTE
    path = rewritten(tmp_path / f"w{suffix}", note, **arrays)
    with pytest.raises(ac.ParameterFileError) as error:
        load_layer(path)
    text = str(error.value)
    if suffix == ".safetensors":  # which has its arrays in the order of their names
        text = text.replace(
            "output_weight, query_weight, value_weight", "query_weight, value_weight, output_weight"
        )
    assert text == f"{str(path)!r}{expected}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"heads": [1]', '"heads": [0]'),
        ('"heads": [1]', '"heads": [2]'),
        ('"heads": [1]', '"heads": []'),
        ('"heads": [1]', '"heads": 1'),
        ('"scorer": {"name": "dot"}', '"scorer": "dot"'),
        ('"attention": {}', '"attention": 3'),
        ('"attention": {}', '"attention": {"scorer": "dot"}'),
    ],
)
def test_invalid_notes_of_layers(tmp_path, old, new):
    note = LAYER_NOTE.replace(old, new)
    path = rewritten(tmp_path / "w.npz", note, **LAYER)
    with pytest.raises(ac.ParameterFileError) as error:
        load_layer(path)
    says(error, f"{str(path)!r}: cannot read its note about its parameters: {note[:80]!r}")


def test_a_file_of_a_layer_where_that_of_a_scorer_belongs(tmp_path):
    path = rewritten(tmp_path / "w.npz", LAYER_NOTE, **LAYER)
    text = f"{str(path)!r} holds multi-head attention, not a scorer; use load_layer(path)"
    with pytest.raises(ac.ParameterFileError) as error:
        load_scorer(path)
    says(error, text)
    with pytest.raises(ac.ConfigError) as error:
        read_config({"scorer": {"name": "additive", "parameters": str(path)}})
    assert str(error.value) == f"1 problem in the configuration\n  scorer.parameters: {text}"


def test_a_file_of_something_else_where_that_of_a_layer_belongs(tmp_path):
    path = saved(tmp_path / "w.npz")
    with pytest.raises(ac.ParameterFileError) as error:
        load_layer(path)
    says(
        error,
        f"{str(path)!r} holds scorer 'attention-core/general', not a layer; use load_scorer(path)",
    )
    write_arrays(path, LAYER)
    with pytest.raises(ac.ParameterFileError) as error:
        load_layer(path)
    says(
        error,
        f"{str(path)!r} does not say which layer its arrays belong to; "
        f"use layer.with_parameters(read_arrays(path))",
    )


def test_objects_that_are_neither_scorer_nor_layer(tmp_path):
    with pytest.raises(ac.OptionTypeError) as error:
        save_parameters(tmp_path / "w.npz", "dot")
    says(
        error,
        "only a Scorer or a MultiHeadAttention can be saved, got 'dot'; "
        "write_arrays(path, arrays) writes named arrays",
    )


def test_bfloat16_that_numpy_wrote_without_its_name(tmp_path):
    path = tmp_path / "w.npz"
    saved(path)
    with zipfile.ZipFile(path) as archive:
        note = archive.read("attention_core.json").decode()
    np.savez(path, weight=WEIGHT.astype(ml_dtypes.bfloat16))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("attention_core.json", note)
    with pytest.raises(ac.ParameterFileError) as error:
        load_scorer(path)
    says(
        error,
        f"{str(path)!r}: cannot read array 'weight': it has dtype |V2, which NumPy writes "
        f"for bfloat16 and float8; save it as float32, or in a .safetensors file",
    )


def test_a_file_that_names_no_scorer(tmp_path):
    path = tmp_path / "w.npz"
    write_arrays(path, {"weight": WEIGHT})
    with pytest.raises(ac.ParameterFileError) as error:
        load_scorer(path)
    says(
        error,
        f"{str(path)!r} does not say which scorer its arrays belong to; "
        f"use make_scorer(name, **read_arrays(path))",
    )


def test_a_file_of_another_scorer(tmp_path):
    saved(tmp_path / "w.npz")
    config = {"scorer": {"name": "additive", "parameters": str(tmp_path / "w.npz")}}
    with pytest.raises(ac.ConfigError) as error:
        read_config(config)
    says(
        error,
        f"""
        1 problem in the configuration
          scorer.parameters: {str(tmp_path / "w.npz")!r} holds parameters of 'attention-core/general', not 'additive'
        """,
    )


def test_a_parameter_given_twice(tmp_path):
    saved(tmp_path / "w.npz")
    config = {"scorer": {"name": "luong", "parameters": str(tmp_path / "w.npz"), "weight": [[1.0]]}}
    with pytest.raises(ac.ConfigError) as error:
        read_config(config)
    says(
        error,
        f"""
        1 problem in the configuration
          scorer.weight: given here and in {str(tmp_path / "w.npz")!r}; give only one
        """,
    )


def test_an_array_of_python_objects(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, good=WEIGHT, bad=np.array([{}]))
    with pytest.raises(ac.ParameterFileError) as error:
        read_arrays(path)
    says(error, f"{str(path)!r}: cannot read array 'bad': it holds Python objects")
    with pytest.raises(ac.ParameterFileError) as error:
        write_arrays(path, {"bad": np.array([{}])})
    says(error, f"cannot write {str(path)!r}: array 'bad' holds Python objects")


def test_a_masked_array_to_write(tmp_path):
    path = tmp_path / "w.npz"
    with pytest.raises(ac.ParameterFileError) as error:
        write_arrays(path, {"bad": np.ma.masked_equal([1.0, 9.0], 9)})
    says(
        error,
        f"cannot write {str(path)!r}: array 'bad' has masked entries, which would be written as "
        f"numbers; fill them first",
    )
    write_arrays(path, {"good": np.ma.array([1.0, 9.0])})
    assert read_arrays(path)["good"].tolist() == [1.0, 9.0]


def test_safetensors_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = tmp_path / "w.safetensors"
    for use in (lambda: read_arrays(path), lambda: write_arrays(path, {})):
        with pytest.raises(ac.MissingExtraError) as error:
            use()
        says(
            error,
            f"{str(path)!r} needs the package safetensors; "
            f"pip install 'attention-core[safetensors]'",
        )
    assert isinstance(error.value, ImportError)
