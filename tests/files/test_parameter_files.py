"""Arrays in files: exact round trips, no unpickling, no partially written files."""

import io
import json
import os
import pickle
import stat
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import attention_core as ac
from attention_core import ParameterFileError
from attention_core.parameter_files import (
    load_layer,
    load_scorer,
    read_arrays,
    read_parameters,
    save_parameters,
    write_arrays,
)

SUFFIXES = [".npz", ".safetensors"]
suffixes = pytest.mark.parametrize("suffix", SUFFIXES)

SCORERS = {
    "dot": {"name": "dot"},
    "scaled": {"name": "scaled_dot", "scale": 0.1},
    "seeded": {"name": "additive", "query_dim": 3, "key_dim": 2, "hidden_dim": 4, "rng": 0},
    "low rank": {"name": "general", "query_dim": 3, "key_dim": 2, "rank": 1, "rng": 0},
    "arrays": {"name": "luong", "weight": [[0.1, 0.2]]},
}


def make(config):
    return ac.make_scorer(config["name"], **{k: v for k, v in config.items() if k != "name"})


def same(a, b):
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name], equal_nan=True)
        for name in a
    )


# --- round trips ---


@given(
    arrays=st.dictionaries(
        st.sampled_from(["weight", "file", "self", "name", "allow_pickle", "ü", "a.b", "a/b"]),
        npst.arrays(
            st.sampled_from(["f8", "f4", "f2", "i8", "u1", "?"]),
            npst.array_shapes(min_dims=0, min_side=0, max_side=4),
        ),
    ),
    suffix=st.sampled_from(SUFFIXES),
)
def test_written_arrays_are_read_unchanged(tmp_path_factory, arrays, suffix):
    path = tmp_path_factory.mktemp("arrays") / f"w{suffix}"
    write_arrays(path, arrays)
    assert same(read_arrays(path), arrays)
    assert read_parameters(path).scorer is None


@suffixes
def test_layout_does_not_matter(tmp_path, suffix):
    base = np.arange(24.0).reshape(4, 6)
    arrays = {
        "fortran": np.asfortranarray(base),
        "strided": base[::2, ::-3],
        "swapped": base.astype(">f8"),
        "broadcast": np.broadcast_to(base[0], (3, 6)),
        "mapped": np.memmap(tmp_path / "map", dtype="f8", mode="w+", shape=(2, 2)),
    }
    write_arrays(tmp_path / f"w{suffix}", arrays)
    found = read_arrays(tmp_path / f"w{suffix}")
    for name, array in arrays.items():
        assert np.array_equal(found[name], array), name


def test_bfloat16_is_for_safetensors(tmp_path):
    array = np.arange(4).astype(ml_dtypes.bfloat16)
    write_arrays(tmp_path / "w.safetensors", {"x": array})
    assert same(read_arrays(tmp_path / "w.safetensors"), {"x": array})
    with pytest.raises(
        ParameterFileError,
        match=r"array 'x' has dtype bfloat16; write .safetensors, or convert it to float32$",
    ):
        write_arrays(tmp_path / "w.npz", {"x": array})


def test_a_dtype_that_safetensors_does_not_know(tmp_path):
    with pytest.raises(ParameterFileError, match=r"cannot write .*w.safetensors.*str"):
        write_arrays(tmp_path / "w.safetensors", {"x": np.array(["text"])})


def test_numpy_reads_and_writes_the_same_files(tmp_path):
    arrays = {"weight": np.eye(2), "bias": np.ones(2, "f4")}
    write_arrays(tmp_path / "ours.npz", arrays)
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as theirs:
        assert same(dict(theirs), arrays)
    np.savez_compressed(tmp_path / "theirs.npz", **arrays)
    assert same(read_arrays(tmp_path / "theirs.npz"), arrays)


def test_safetensors_reads_and_writes_the_same_files(tmp_path):
    from safetensors.numpy import load_file, save_file

    arrays = {"weight": np.eye(2), "bias": np.ones(2, "f4")}
    write_arrays(tmp_path / "ours.safetensors", arrays)
    assert same(load_file(tmp_path / "ours.safetensors"), arrays)
    save_file(arrays, tmp_path / "theirs.safetensors", metadata={"format": "np"})
    assert same(read_arrays(tmp_path / "theirs.safetensors"), arrays)


@suffixes
def test_the_same_arrays_are_the_same_bytes(tmp_path, suffix):
    for name in ("a", "b"):
        save_parameters(tmp_path / f"{name}{suffix}", make(SCORERS["seeded"]))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_an_archive_does_not_tell_when_it_was_written(tmp_path):
    save_parameters(tmp_path / "w.npz", make(SCORERS["seeded"]))
    with zipfile.ZipFile(tmp_path / "w.npz") as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


# --- scorers ---


@suffixes
@pytest.mark.parametrize("config", SCORERS.values(), ids=SCORERS)
def test_a_saved_scorer_is_the_same_scorer(tmp_path, suffix, config):
    scorer = make(config)
    path = tmp_path / f"scorer{suffix}"
    save_parameters(path, scorer)
    loaded = load_scorer(path)
    assert type(loaded) is type(scorer)
    assert same(loaded.parameters, scorer.parameters)
    assert loaded.origin.name == scorer.origin.name
    assert loaded.to_config() == scorer.with_parameters(scorer.parameters).to_config()
    described = read_parameters(path).scorer
    assert described["name"] == f"attention-core/{scorer.origin.name}"
    assert not described.keys() & scorer.parameters.keys()


def test_a_scorer_with_other_arrays_is_saved_with_those(tmp_path):
    scorer = make(SCORERS["seeded"])
    trained = scorer.with_parameters({"score_weight": np.arange(4.0)})
    save_parameters(tmp_path / "w.npz", trained)
    assert load_scorer(tmp_path / "w.npz").score_weight.tolist() == [0, 1, 2, 3]


def test_a_scorer_built_by_hand_has_the_name_of_its_class(tmp_path):
    from attention_core_standard.inner_product import ScaledDotScorer

    save_parameters(tmp_path / "w.npz", ScaledDotScorer(scale=0.5))
    assert load_scorer(tmp_path / "w.npz").scale == 0.5


def test_a_scorer_without_a_name_cannot_be_saved(tmp_path):
    class Nameless(ac.InnerProductScorer):
        pass

    with pytest.raises(ac.ScorerConfigError, match="names no registered scorer"):
        save_parameters(tmp_path / "w.npz", Nameless())
    assert not list(tmp_path.iterdir())


class Seeded(ac.InnerProductScorer):
    """A scorer whose array is drawn from a seed and is not one of its parameters."""

    name = "seeded"

    def __init__(self, rng=0):
        self.rng = rng
        self._weight = np.random.default_rng(rng).normal(size=(2, 2))

    def project_query(self, query):
        return query @ self._weight.astype(query.dtype)


@suffixes
@pytest.mark.parametrize("is_layer", [False, True])
def test_parameters_that_could_not_be_loaded_are_not_saved(tmp_path, suffix, is_layer):
    owner = Seeded(3)
    if is_layer:
        owner = ac.MultiHeadAttention.initialize(4, heads=2, scorer=["dot", owner], rng=0)
    with pytest.raises(ac.ScorerConfigError) as error:
        ac.save(tmp_path / f"w{suffix}", owner)
    assert str(error.value) == (
        "scorer Seeded draws arrays from its setting 'rng', so a file could not hold them; make "
        "the arrays arguments of Seeded, and draw them in a factory"
    )
    assert not list(tmp_path.iterdir())


def test_a_scorer_is_looked_up_where_one_says(tmp_path):
    save_parameters(tmp_path / "w.npz", make(SCORERS["scaled"]))
    with pytest.raises(ac.UnknownScorerError):
        load_scorer(tmp_path / "w.npz", ac.Registry())


@pytest.mark.parametrize("owner", [
    make(SCORERS["scaled"]), ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
])  # fmt: skip
@pytest.mark.parametrize(("given", "text"), [
    ({"registry": "dot"},
     "registry must be an attention_core.Registry, or None for the installed plugins, got 'dot'"),
    ({"scorer": 3},
     "scorer must be a name, or a class or function that makes it from its arrays and settings, "
     "got 3"),
])  # fmt: skip
def test_what_no_scorer_can_be_made_with(tmp_path, owner, given, text):
    ac.save(tmp_path / "w.npz", owner)
    with pytest.raises(ac.OptionTypeError) as caught:
        ac.load(tmp_path / "w.npz", **given)
    assert str(caught.value) == text


EYE = np.eye(2)


@pytest.mark.parametrize(("use", "text"), [
    (lambda path: write_arrays(path, EYE),
     "arrays must be a mapping of arrays by name, got array([[1., 0.], [0., 1.]])"),
    (lambda path: write_arrays(path, {"a": EYE}, note=3), "note must be a text or None, got 3"),
    (lambda path: write_arrays(path, {"a": [1, 2]}),
     "array 'a' must be a NumPy array with a text as name, got a list"),
    (lambda path: write_arrays(path, {3: EYE}),
     "array 3 must be a NumPy array with a text as name, got a ndarray"),
    (lambda path: read_arrays(path, "weight"),
     "names must be a list of names of arrays, got 'weight'"),
    (lambda path: read_arrays(path, 3), "names must be a list of names of arrays, got 3"),
    (lambda path: ac.save(path, ac.MultiHeadAttention),
     "only a Scorer or a MultiHeadAttention can be saved, got <class "),
])  # fmt: skip
def test_what_is_no_named_array(tmp_path, use, text):
    with pytest.raises(ac.AttentionCoreError) as caught:
        use(tmp_path / "w.npz")
    assert text in str(caught.value)
    assert not list(tmp_path.iterdir())


# --- layers ---


def additive(**options):
    return ac.make_scorer("additive", query_dim=2, key_dim=2, hidden_dim=3, rng=1, **options)


LAYERS = {
    "plain": {},
    "biases, grouped": {"biases": True, "key_heads": 2},
    "one learned": {"scorer": additive()},
    "one for each": {
        "scorer": [
            "dot",
            ac.make_scorer("general", query_dim=2, key_dim=2, rng=2),
            {"name": "scaled_dot", "scale": 0.5},
            ac.make_scorer("general", query_dim=2, key_dim=2, rank=1, rng=3),
        ]
    },
    "some shared": {"scorer": [(shared := additive()), "dot", additive(), shared]},
    "options": {
        "is_causal": True, "query_offset": np.array([1, 0]), "window": (3, None), "softcap": 5.0,
        "tile": (4, 4), "workers": 1,
    },
}  # fmt: skip


@suffixes
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_a_saved_layer_is_the_same_layer(tmp_path, suffix, options, rng):
    layer = ac.MultiHeadAttention.initialize(8, heads=4, rng=0, **options)
    path = tmp_path / f"layer{suffix}"
    save_parameters(path, layer)
    loaded = load_layer(path)
    assert same(loaded.parameters, layer.parameters)
    assert list(loaded.parameters) == list(layer.parameters)
    assert str(loaded) == str(layer)
    assert repr(loaded) == repr(layer)
    for one, other in zip(loaded.groups, layer.groups, strict=True):
        assert one[1:] == other[1:]
        given = other.attention.scorer
        as_saved = ac.Attention(given.with_parameters(given.parameters), **layer._options)
        assert one.attention.to_config() == as_saved.to_config()
    x = rng.standard_normal((2, 5, 8))
    result, wanted = loaded(x, x, x), layer(x, x, x)
    assert np.array_equal(result.output, wanted.output)
    one, other = (each.vjp(x).parameters for each in (result, wanted))
    assert same(one, other)
    assert same(read_arrays(path), layer.parameters)
    assert read_parameters(path).scorer is None
    assert [group["heads"] for group in read_parameters(path).layer["groups"]] == [
        list(group.heads) for group in layer.groups
    ]


def test_a_layer_keeps_the_keys_of_its_own(tmp_path):
    arrays = ac.MultiHeadAttention.initialize(4, heads=2, rng=0).parameters
    extra = {"extra_key": np.ones((2, 2)), "extra_value": np.full((2, 2), 3.0)}
    layer = ac.MultiHeadAttention(**arrays, **extra, zero_key=True)
    save_parameters(tmp_path / "w.npz", layer)
    assert load_layer(tmp_path / "w.npz") == layer


def test_more_than_ten_heads_have_their_own_scorers(tmp_path):
    scorers = [ac.make_scorer("general", weight=[[float(head)]]) for head in range(12)]
    layer = ac.MultiHeadAttention.initialize(12, heads=12, scorer=scorers, rng=0)
    save_parameters(tmp_path / "w.npz", layer)
    found = [scorer.weight.item() for scorer in load_layer(tmp_path / "w.npz").scorers]
    assert found == list(range(12))


def test_a_layer_keeps_its_dtypes(tmp_path):
    layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
    narrow = ac.MultiHeadAttention(
        **{name: array.astype(ml_dtypes.bfloat16) for name, array in layer.parameters.items()}
    )
    save_parameters(tmp_path / "w.safetensors", narrow)
    assert same(load_layer(tmp_path / "w.safetensors").parameters, narrow.parameters)


def test_a_layer_with_a_scorer_without_a_name_cannot_be_saved(tmp_path):
    class Nameless(ac.InnerProductScorer):
        pass

    layer = ac.MultiHeadAttention.initialize(4, heads=2, scorer=["dot", Nameless()], rng=0)
    with pytest.raises(ac.ScorerConfigError, match="names no registered scorer"):
        save_parameters(tmp_path / "w.npz", layer)
    assert not list(tmp_path.iterdir())


def test_scorers_of_a_layer_are_looked_up_where_one_says(tmp_path):
    save_parameters(tmp_path / "w.npz", ac.MultiHeadAttention.initialize(4, heads=2, rng=0))
    with pytest.raises(ac.UnknownScorerError):
        load_layer(tmp_path / "w.npz", ac.Registry())


# --- damage ---


@suffixes
def test_every_truncation_is_noticed(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    save_parameters(path, make(SCORERS["arrays"]))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ParameterFileError, match=r"^'.*' is damaged or not an? \.\w+ file: |cannot"
        ):
            read_arrays(path)


@suffixes
@given(data=st.data())
def test_no_damage_raises_anything_else(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.mktemp("damage")
    path = folder / f"w{suffix}"
    save_parameters(path, make(SCORERS["arrays"]))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        arrays = read_arrays(path)
    except ParameterFileError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps({"weight": 1})])
@suffixes
def test_another_kind_of_file(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(ParameterFileError, match=rf"is damaged or not an? {suffix} file"):
        read_arrays(path)


def test_a_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "w.npy", np.eye(2))
    (tmp_path / "w.npy").rename(tmp_path / "w.npz")
    with pytest.raises(ParameterFileError, match="is damaged or not"):
        read_arrays(tmp_path / "w.npz")


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_nothing_is_ever_unpickled(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    array = io.BytesIO()
    np.save(array, np.array([Bomb()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("weight.npy", array.getvalue())
        archive.writestr("note.pkl", pickle.dumps(Bomb()))
    with pytest.raises(ParameterFileError, match="cannot read array 'weight': it holds Python"):
        read_arrays(tmp_path / "w.npz")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.npy", "w.pkl", "w"])
def test_other_endings(tmp_path, name):
    for use in (read_arrays, lambda path: write_arrays(path, {})):
        with pytest.raises(ParameterFileError, match=r"has the extension .*; named arrays must be"):
            use(tmp_path / name)


@suffixes
def test_a_file_that_is_missing(tmp_path, suffix):
    with pytest.raises(ParameterFileError, match=r"^cannot read '.*': No such file or directory$"):
        read_arrays(tmp_path / f"w{suffix}")


@suffixes
def test_a_folder(tmp_path, suffix):
    (tmp_path / f"w{suffix}").mkdir()
    with pytest.raises(ParameterFileError, match=r"^cannot read '.*': Is a directory$"):
        read_arrays(tmp_path / f"w{suffix}")


def test_the_note_of_a_file_is_json_in_the_archive(tmp_path):
    save_parameters(tmp_path / "w.npz", make(SCORERS["arrays"]))
    with zipfile.ZipFile(tmp_path / "w.npz") as archive:
        assert json.loads(archive.read("attention_core.json")) == {
            "scorer": {"name": "attention-core/general"},
            "shapes": {"weight": [1, 2]},
            "versions": {"attention-core": ac.__version__},
        }


# --- atomic writing ---


@pytest.fixture(params=SUFFIXES)
def interrupted(request, tmp_path, monkeypatch):
    """The path of a valid file; the next time it is written, writing is interrupted halfway."""
    path = tmp_path / f"w{request.param}"
    write_arrays(path, {"old": np.ones(3)})

    def stop(*args, **kwargs):
        assert len(list(tmp_path.iterdir())) == 2  # writing has begun, in a temporary file
        raise KeyboardInterrupt

    def begin_and_stop(arrays, file, **kwargs):
        file.write_bytes(b"half")
        stop()

    monkeypatch.setattr(np.lib.format, "write_array", stop)
    monkeypatch.setattr("safetensors.numpy.save_file", begin_and_stop)
    return path


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(interrupted):
    with pytest.raises(KeyboardInterrupt):
        write_arrays(interrupted, {"new": np.zeros(3)})
    assert list(interrupted.parent.iterdir()) == [interrupted]
    assert same(read_arrays(interrupted), {"old": np.ones(3)})


@suffixes
def test_a_place_that_cannot_be_written(tmp_path, suffix):
    with pytest.raises(ParameterFileError, match=r"^cannot write '.*': .*No such file"):
        write_arrays(tmp_path / "nowhere" / f"w{suffix}", {"x": np.ones(2)})
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(ParameterFileError, match=r"^cannot write '.*': Is a directory$"):
        write_arrays(tmp_path / f"folder{suffix}", {"x": np.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == [f"folder{suffix}"]


@suffixes
def test_a_link_stays_a_link(tmp_path, suffix):
    target = tmp_path / f"target{suffix}"
    link = tmp_path / f"link{suffix}"
    write_arrays(target, {"x": np.ones(2)})
    link.symlink_to(target)
    write_arrays(link, {"x": np.zeros(2)})
    assert link.is_symlink()
    assert same(read_arrays(target), {"x": np.zeros(2)})


def test_a_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").touch()
    write_arrays(tmp_path / "w.npz", {})
    plain, ours = (stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("plain", "w.npz"))
    assert ours == plain
