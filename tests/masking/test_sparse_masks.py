"""Sparse masks in every format: booleans, numbers, and inconsistent arrays."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import attention_core as ac
from attention_core.cli.app import app
from attention_core.masking.sparse_masks import checked_edges

FORMATS = ["csr", "csc", "bsr", "coo", "dok", "lil", "dia"]
Q, K, V = np.ones((4, 3)), np.ones((6, 3)), np.arange(6.0)[:, None]
CHECKERED = np.indices((4, 6)).sum(axis=0) % 2 == 0


def attend(mask):
    return ac.attend(Q, K, V, scorer="dot", mask=mask)


def made(layout, kind="array", dtype=bool):
    """A valid mask (4, 6) in a format."""
    return getattr(sp, f"{layout}_{kind}")(CHECKERED.astype(dtype))


# -------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("dtype", [bool, float, np.int8])
@pytest.mark.parametrize("layout", FORMATS)
def test_every_layout_has_the_edges_of_its_dense_array(layout, dtype, kind):
    edges = checked_edges(made(layout, kind, dtype), (4, 6))
    assert edges.format == "csr"
    assert edges.dtype == np.bool_
    assert edges.has_canonical_format
    np.testing.assert_array_equal(edges.toarray(), CHECKERED)
    assert edges.nnz == CHECKERED.sum()


def test_a_stored_false_is_no_edge():
    mask = sp.csr_array(np.ones((2, 2), bool))
    mask[0, 1] = False
    assert mask.nnz == 4
    x = np.eye(2)
    result = ac.attend(0 * x, x, x, scorer="dot", mask=mask)
    np.testing.assert_array_equal(result.weights.toarray(), [[1, 0], [0.5, 0.5]])
    dense = ac.attend(0 * x, x, x, scorer="dot", mask=mask.toarray())
    np.testing.assert_array_equal(result.context, dense.context)


PLACES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from([0, 1])), max_size=12
)


@given(PLACES, st.sampled_from(["coo", "csr", "csc"]))
def test_places_stored_more_than_once(places, layout):
    rows, columns, data = np.array(places, int).reshape(-1, 3).T
    for dtype in (bool, float):
        mask = sp.coo_array((data.astype(dtype), (rows, columns)), shape=(4, 6))
        if layout != "coo":  # SciPy's conversions would add them up
            along = rows if layout == "csr" else columns
            order = np.argsort(along, kind="stable")
            starts = np.searchsorted(along[order], np.arange((4 if layout == "csr" else 6) + 1))
            across = (columns if layout == "csr" else rows)[order]
            make = getattr(sp, f"{layout}_array")
            mask = make((data[order].astype(dtype), across, starts), shape=(4, 6))
        expected = np.zeros((4, 6), bool)
        for row, column, value in places:
            expected[row, column] |= bool(value) or dtype is float
        np.testing.assert_array_equal(checked_edges(mask, (4, 6)).toarray(), expected)


@pytest.mark.parametrize("layout", FORMATS)
def test_masks_are_never_written_to(layout):
    mask = made(layout, dtype=float)
    before = mask.toarray()
    checked_edges(mask, (4, 6)).data[:] = False
    np.testing.assert_array_equal(mask.toarray(), before)


def test_indices_changed_behind_scipys_back_are_seen():
    mask = made("csr")
    assert mask.has_canonical_format
    mask.indices[:] = 0  # the same key several times
    edges = checked_edges(mask, (4, 6))
    assert edges.indices.tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(attend(mask).weights.toarray()[:, 0], 1)


# --------------------------------------------------------------------------------- malformed masks


def broken(layout, name, place, value):
    """A mask whose array `name` has one wrong number."""
    mask = made(layout, dtype=float)
    getattr(mask, name)[place] = value
    return mask


WRONG = [("csr", 6, "column"), ("csc", 4, "row"), ("bsr", 6, "block column")]
INDICES = [-1, -2000, 10**6, 2**31 - 1, -(2**31)]


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize(("layout", "size", "axis"), WRONG)
def test_indices_outside(layout, size, axis, index):
    for wrong in (index, size):
        mask = broken(layout, "indices", -1, wrong)
        with pytest.raises(ac.ShapeError) as caught:
            attend(mask)
        assert str(caught.value) == (
            f"the sparse mask is malformed: its {axis} indices must be from 0 to {size - 1}, "
            f"got {wrong}"
        )


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize(("coordinate", "axis", "most"), [(0, "row", 3), (1, "column", 5)])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_coordinates_outside(coordinate, axis, most, index, kind):
    mask = made("coo", kind)
    mask.coords[coordinate][0] = index
    with pytest.raises(
        ac.ShapeError, match=f"{axis} indices must be from 0 to {most}, got {index}"
    ):
        attend(mask)


def lil(columns):
    mask = made("lil")
    mask.rows[1] = columns
    return mask


def dok(place):
    mask = made("dok")
    mask._dict[place] = True
    return mask


def replaced(layout, **arrays):
    mask = made(layout, dtype=float)
    for name, array in arrays.items():
        setattr(mask, name, array(getattr(mask, name)))
    return mask


MALFORMED = {
    "lil: negative": lambda: lil([-1, 2, 4]),
    "lil: too large": lambda: lil([0, 2, 10**9]),
    "lil: as many": lambda: lil([0]),
    "dok: negative": lambda: dok((-1, 0)),
    "dok: too large": lambda: dok((0, 10**9)),
    "coo: lengths": lambda: replaced("coo", coords=lambda c: (c[0], c[1][:-1])),
    "coo: floats": lambda: replaced("coo", coords=lambda c: (c[0], c[1] + 0.5)),
    "coo: one axis": lambda: replaced("coo", coords=lambda c: c[:1]),
    "dia: offsets": lambda: replaced("dia", offsets=lambda o: o[:-1]),
    "dia: twice": lambda: replaced("dia", offsets=lambda o: 0 * o),
    "dia: data": lambda: replaced("dia", data=lambda d: d[0]),
    "bsr: blocks": lambda: replaced("bsr", data=lambda d: np.ones((len(d), 3, 5))),
    "bsr: no blocks": lambda: replaced("bsr", data=lambda d: d[:, :0]),
    "bsr: data": lambda: replaced("bsr", data=lambda d: d[:, 0]),
}
for _layout in ("csr", "csc", "bsr"):
    for _what, _changes in {
        "falls": {"indptr": lambda p: np.concatenate([[0, p[2] + 1], p[2:]])},
        "unsigned falls": {"indptr": lambda p: np.r_[0, p[2] + 1, p[2:]].astype(np.uint32)},
        "begins": {"indptr": lambda p: np.maximum(p, 1)},
        "begins below": {"indptr": lambda p: np.concatenate([[-5], p[1:]])},
        "short": {"indptr": lambda p: p[:-1]},
        "empty": {"indptr": lambda p: p[:0]},
        "long": {"indptr": lambda p: np.append(p, p[-1])},
        "beyond": {"indptr": lambda p: np.append(p[:-1], 10**6)},
        "floats": {"indptr": lambda p: p * 1.0},
        "two axes": {"indices": lambda i: i[None]},
        "indices": {"indices": lambda i: i[:-1]},
        "float indices": {"indices": lambda i: i * 1.0},
        "entries": {"data": lambda d: d[:-1]},
    }.items():
        MALFORMED[f"{_layout}: {_what}"] = lambda f=_layout, c=_changes: replaced(f, **c)


@pytest.mark.parametrize("name", MALFORMED)
def test_arrays_that_do_not_belong_together(name):
    mask = MALFORMED[name]()
    with pytest.raises(ac.ShapeError) as caught:
        attend(mask)
    assert str(caught.value).startswith("the sparse mask is malformed: ")


def holding(layout, **attributes):
    """A mask with some attributes replaced."""
    mask = made(layout, dtype=float)
    for name, value in attributes.items():
        setattr(mask, name, value)
    return mask


ANYTHING = {
    "nothing": lambda: holding("csr", indptr=None),
    "lists": lambda: holding("csc", indices=[0, 1]),
    "numbers of two axes": lambda: holding("csr", data=np.ones((12, 2))),
    "a dictionary of words": lambda: holding("dok", _dict={("a", 1): 1.0}),
    "a dictionary of fractions": lambda: holding("dok", _dict={(0.5, 1): 1.0}),
    "rows of fractions": lambda: holding("lil", rows=np.array([[0.5], [], [], []], object)),
    "coordinates of three axes": lambda: holding("coo", coords=(np.zeros(12, int),) * 3),
}


@pytest.mark.parametrize("name", ANYTHING)
def test_arrays_that_hold_anything(name):
    with pytest.raises(ac.ShapeError, match=r"^the sparse mask is malformed: "):
        attend(ANYTHING[name]())


@pytest.mark.parametrize(
    "make", [*ANYTHING.values(), *(partial(broken, each[0], "indices", 0, -1) for each in WRONG)]
)
def test_every_door_for_sparse_arrays_checks_them(make):
    array = make()
    mask = made("csr", dtype=float)
    for argument, option in {
        "bias": {"bias": array, "mask": mask},
        "weight_factors": {"weight_factors": array},
    }.items():
        with pytest.raises(ac.ShapeError, match=f"^the sparse {argument} is malformed: "):
            ac.attend(Q, K, V, scorer="dot", **option)
    for draw in (ac.plot.heatmap, ac.plot.text, ac.plot.page):
        with pytest.raises(ac.ShapeError, match=r"^the sparse weights is malformed: "):
            draw(array)


def test_pictures_check_sparse_weights_with_batch_axes():
    weights = sp.coo_array(np.ones((2, 3, 3)))
    assert ac.plot.text(weights, batch=1) == ac.plot.text(np.ones((3, 3)))
    weights.coords[0][0] = 7
    with pytest.raises(ac.ShapeError, match="its batch indices must be from 0 to 1, got 7"):
        ac.plot.text(weights)


def test_layers_check_sparse_masks_too():
    layer = ac.MultiHeadAttention.initialize(3, heads=3, rng=0)
    with pytest.raises(ac.ShapeError, match="the sparse mask is malformed"):
        layer(Q, K, K, mask=broken("csr", "indices", 0, -1))


def test_diagonals_outside_store_nothing():
    mask = sp.dia_array((np.ones((3, 6)), [-9, 0, 50]), shape=(4, 6))
    np.testing.assert_array_equal(checked_edges(mask, (4, 6)).toarray(), np.eye(4, 6, dtype=bool))


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", [(0, 6), (4, 0), (0, 0)], ids=str)
def test_masks_without_places(layout, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edges = checked_edges(getattr(sp, f"{layout}_array")(shape, dtype=bool), shape)
    assert edges.shape == shape
    assert edges.nnz == 0


def test_one_axis_is_too_few():
    with pytest.raises(ac.ShapeError, match=r"must have shape \(L, S\) = \(4, 6\), got \(6,\)"):
        attend(sp.coo_array(np.ones(6)))


class Foreign:
    """A sparse array of another package."""

    shape = (4, 6)

    def __init__(self, mask):
        self.mask = mask

    def tocsr(self):
        return self.mask


def test_arrays_of_other_packages_are_checked_once_converted():
    np.testing.assert_array_equal(attend(Foreign(made("csr"))).weights.toarray() > 0, CHECKERED)
    with pytest.raises(ac.ShapeError, match="malformed"):
        attend(Foreign(broken("csr", "indices", 0, 6)))


# ------------------------------------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", query=Q, key=K, value=V)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["attend", "x.npz", "--scorer", "dot", *arguments])


HOSTILE = {
    "far": {"indices": [0, 1, 2, 10**6], "indptr": [0, 1, 2, 3, 4]},
    "next": {"indices": [0, 1, 2, 6], "indptr": [0, 1, 2, 3, 4]},
    "negative": {"indices": [0, 1, 2, -1], "indptr": [0, 1, 2, 3, 4]},
    "very negative": {"indices": [0, 1, 2, -2000], "indptr": [0, 1, 2, 3, 4]},
    "falling": {"indices": [0, 1, 2, 3], "indptr": [0, 3, 1, 3, 4]},
    "beyond": {"indices": [0, 1, 2, 3], "indptr": [0, 1, 2, 3, 10**6]},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("layout", ["csr", "csc", "bsr"])
def test_hostile_files(folder, layout, name):
    arrays = {key: np.array(value, np.int32) for key, value in HOSTILE[name].items()}
    data = np.ones((4, 1, 1)) if layout == "bsr" else np.ones(4)
    shape = (6, 4) if layout == "csc" else (4, 6)
    if layout == "csc":
        np.savez("x.npz", query=K, key=Q, value=V[:4])
    np.savez("m.npz", format=layout.encode(), shape=shape, data=data, **arrays)
    result = run("--mask", "m.npz", "-o", "o.npy")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: 'm.npz' does not hold a two-dimensional sparse mask: ")
    assert not (folder / "o.npy").exists()


@pytest.mark.parametrize("layout", ["csr", "csc", "bsr", "coo", "dia"])
def test_files_of_every_layout(folder, layout):
    sp.save_npz("m.npz", made(layout))
    result = run("--mask", "m.npz", "-o", "o.npy")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_allclose(np.load("o.npy"), attend(CHECKERED).context)


def test_a_file_with_a_stored_false(folder):
    mask = sp.csr_array(np.ones((4, 6), bool))
    mask[:, 1:] = False
    sp.save_npz("m.npz", mask)
    assert run("--mask", "m.npz", "-o", "o.npy").exit_code == 0
    np.testing.assert_array_equal(np.load("o.npy"), np.zeros((4, 1)))
