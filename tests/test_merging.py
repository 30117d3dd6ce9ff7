"""Merged parts equal the whole: contexts, log-normalizers and gradients."""

import numpy as np
import pytest

import attention_core as ac


def cut(rng, keys, count):
    """Split keys into parts of unequal size, some of them without allowed keys."""
    ends = np.sort(rng.integers(0, keys + 1, count - 1))
    return list(zip([0, *ends], [*ends, keys], strict=True))


@pytest.mark.parametrize("count", [2, 3, 7, 64])
@pytest.mark.parametrize("scorer", ["dot", "additive"])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_parts_of_any_number_and_size(rng, count, scorer, batch):
    query, (key, value) = rng.normal(size=(*batch, 9, 4)), rng.normal(size=(2, *batch, 80, 4))
    if scorer == "additive":
        scorer = ac.make_scorer("additive", query_dim=4, key_dim=4, hidden_dim=5, rng=0)
    mask = rng.random((9, 80)) < 0.5
    mask[3] = False
    mask[4, :40] = False
    whole = ac.attend(query, key, value, scorer=scorer, mask=mask)
    spans = cut(rng, 80, count)
    parts = [
        ac.attend(query, key[..., a:b, :], value[..., a:b, :], scorer=scorer, mask=mask[:, a:b])
        for a, b in spans
    ]
    merged = ac.merge(parts)
    np.testing.assert_allclose(merged.context, whole.context, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(merged.log_normalizer, whole.log_normalizer, rtol=1e-12)
    assert not merged.context[..., 3, :].any()

    grad, of_log = (
        rng.normal(size=whole.context.shape),
        rng.normal(size=merged.log_normalizer.shape),
    )
    expected = whole.vjp(grad, grad_log_normalizer=of_log)
    found = [
        part.vjp(g, grad_log_normalizer=log)
        for part, (g, log) in zip(parts, merged.part_grads(grad, of_log), strict=True)
    ]
    close = {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(sum(each.query for each in found), expected.query, **close)
    for name in ("key", "value"):
        joined = np.concatenate([getattr(each, name) for each in found], axis=-2)
        np.testing.assert_allclose(joined, getattr(expected, name), **close)
    for name, array in expected.parameters.items():
        np.testing.assert_allclose(sum(each.parameters[name] for each in found), array, **close)


def test_any_grouping_gives_the_same(rng):
    x = rng.normal(size=(12, 3))
    parts = [ac.attend(x, x[i : i + 3], x[i : i + 3], scorer="dot") for i in range(0, 12, 3)]
    one = ac.merge(parts)
    other = ac.merge([ac.merge(parts[:1])[:2], ac.merge(parts[1:])[:2]])
    np.testing.assert_allclose(one.context, other.context, rtol=1e-13)
    np.testing.assert_allclose(one.log_normalizer, other.log_normalizer, rtol=1e-13)


def test_scores_of_any_size_and_single_queries(rng):
    x = 300 * rng.normal(size=(8, 3))
    parts = [
        ac.attend(x[0], x[:5], x[:5], scorer="dot"),
        ac.attend(x[0], x[5:], x[5:], scorer="dot"),
    ]
    whole = ac.attend(x[0], x, x, scorer="dot")
    np.testing.assert_allclose(ac.merge(parts).context, whole.context, rtol=1e-12)


def test_nan_reaches_its_own_rows_only():
    context, log = np.ones((2, 3)), np.zeros(2)
    other = np.array([[np.nan] * 3, [2.0] * 3])
    merged = ac.merge([(context, log), (other, log)])
    assert np.isnan(merged.context[0]).all()
    assert merged.context[1].tolist() == [1.5] * 3
    hidden = ac.merge([(context, log), (other, np.array([-np.inf, 0.0]))])
    assert hidden.context[0].tolist() == [1.0] * 3


X = np.zeros((2, 3))
ERRORS = [
    ([], ac.OptionError, "merge needs at least one part"),
    (3, ac.OptionTypeError, "parts must be a list of results, or of pairs"),
    ([3], ac.OptionTypeError, "part 0 must be an AttentionResult, or a pair"),
    ([(X, [0.0, 0.0]), (X[:1], [0.0])], ac.ShapeError, r"part 1 must have context \(2, 3\)"),
    ([(X, [0.0])], ac.ShapeError, r"log_normalizer \(2,\)"),
    ([("a", [0.0])], ac.DTypeError, "the context of part 0"),
]


@pytest.mark.parametrize(("parts", "error", "text"), ERRORS)
def test_errors(parts, error, text):
    with pytest.raises(error, match=text):
        ac.merge(parts)


@pytest.mark.parametrize("normalizer", ["sigmoid", "entmax", {"name": "softmax", "sink": 0.0}])
def test_normalizers_that_do_not_merge_are_rejected(normalizer):
    result = ac.attend(X, X, X, scorer="dot", normalizer=normalizer)
    with pytest.raises(ac.OptionError, match="only a softmax without sink can be merged"):
        ac.merge([result])


def test_gradients_must_fit():
    merged = ac.merge([ac.attend(X, X, X, scorer="dot")])
    with pytest.raises(ac.ShapeError, match="grad_context must have the shape"):
        merged.part_grads(X[:1])
    with pytest.raises(ac.ShapeError, match="grad_log_normalizer must have the shape"):
        merged.part_grads(X, [0.0])


def test_they_show_dtypes_and_shapes():
    merged = ac.merge([ac.attend(np.eye(3), np.eye(3), np.ones((3, 2)), scorer="dot")])
    assert repr(merged) == (
        "Merged(context=float64[3, 2], log_normalizer=float64[3], shares=float64[1, 3], "
        "contexts=(float64[3, 2],))"
    )
    assert repr(merged.part_grads(np.ones((3, 2)))) == (
        "[PartGrads(grad_context=float64[3, 2], grad_log_normalizer=float64[3])]"
    )
