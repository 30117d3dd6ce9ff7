"""Sparsemax and entmax on thousands of rows, against sorting algorithms and bisection."""

import numpy as np
import pytest

import attention_core as ac

CASES = 2000


def sparsemax(row):
    """Martins and Astudillo 2016, algorithm 1."""
    ordered = np.sort(row)[::-1]
    sums = np.cumsum(ordered) - 1
    size = np.count_nonzero(ordered * np.arange(1, len(row) + 1) > sums)
    return np.maximum(row - sums[size - 1] / size, 0)


def entmax15(row):
    """Peters et al. 2019, algorithm 2: with means and variances of the largest scores."""
    halves = (row - row.max()) / 2
    ordered = np.sort(halves)[::-1]
    counts = np.arange(1, len(row) + 1)
    mean = np.cumsum(ordered) / counts
    square = np.cumsum(ordered**2) / counts
    delta = (1 - counts * (square - mean**2)) / counts
    taus = mean - np.sqrt(np.maximum(delta, 0))
    size = np.count_nonzero(taus <= ordered)
    return np.maximum(halves - taus[size - 1], 0) ** 2


def bisected(alpha):
    def weights(row):
        z = (alpha - 1) * (row - row.max())
        low, high = -1.0, 0.0
        for _ in range(60):
            middle = (low + high) / 2
            is_low = (np.maximum(z - middle, 0) ** (1 / (alpha - 1))).sum() >= 1
            low, high = (middle, high) if is_low else (low, middle)
        return np.maximum(z - low, 0) ** (1 / (alpha - 1))

    return weights


ORACLES = {
    "sparsemax": (ac.make_normalizer("sparsemax"), sparsemax),
    "entmax 1.5": (ac.make_normalizer("entmax"), entmax15),
    "entmax 1.25": (ac.make_normalizer("entmax", alpha=1.25), bisected(1.25)),
    "entmax 1.9": (ac.make_normalizer("entmax", alpha=1.9), bisected(1.9)),
}


def random_row(rng):
    """Scores of one query: few or many keys, spread or close, with ties, some of them masked."""
    length = rng.choice([1, 2, 3, 9, 64, 255, 256, 300, 1000])
    row = rng.normal(0, rng.choice([0.0, 1e-3, 0.1, 1.0, 10.0]), length)
    row += rng.choice([0.0, 100.0, -100.0])
    if rng.random() < 0.3:
        row = np.round(row * 4) / 4
    row[rng.random(length) < rng.choice([0.0, 0.5, 0.95, 1.0], p=[0.5, 0.3, 0.15, 0.05])] = -np.inf
    return row


def expected_weights(oracle, row):
    allowed = row > -np.inf
    found = np.zeros_like(row)
    if allowed.any():
        found[allowed] = oracle(row[allowed])
    return found


@pytest.mark.parametrize("name", ORACLES)
def test_thousands_of_rows(name):
    normalizer, oracle = ORACLES[name]
    rng = np.random.default_rng(1602)
    for case in range(CASES):
        row = random_row(rng)
        scores = np.tile(row, (3, 1))  # three rows, of which the second has no keys
        scores[1] = -np.inf
        scores[2] = row[::-1]
        weights = normalizer.weights(scores.copy(), normalizer.statistics(scores))
        expected = expected_weights(oracle, row)
        assert not weights[1].any()
        for found, wanted in ((weights[0], expected), (weights[2], expected[::-1])):
            # differences of scores near 100 are accurate to 1e-14
            assert abs(found - wanted).max() < 1e-10, (case, row)
            assert abs(found.sum() - (row > -np.inf).any()) < 1e-10


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.3, 5.0])
def test_edges_are_rows_of_their_own(name, spread):
    normalizer, oracle = ORACLES[name]
    rng = np.random.default_rng(1905)
    rows = [rng.normal(0, spread, n) for n in (0, 1, 400, 3, 700, 0, 256)]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    scores = np.concatenate(rows)
    statistics = normalizer.of_edges(scores.copy(), starts, ())
    own = tuple(np.repeat(each[:, 0], np.diff(starts)) for each in statistics)
    weights = normalizer.weights(scores.copy(), own)
    expected = np.concatenate([expected_weights(oracle, row) for row in rows])
    np.testing.assert_allclose(weights, expected, atol=1e-10)


@pytest.mark.parametrize("name", ["sparsemax", "entmax 1.5"])
@pytest.mark.parametrize("spread", [0.05, 1.0])
@pytest.mark.parametrize("tile", [None, (64, 128)])
def test_gradients_are_those_of_autograd(name, spread, tile):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    query, key, value = (spread * rng.normal(size=(n, 8)) for n in (70, 300, 300))
    grad, grad_weights = rng.normal(size=(70, 8)), rng.normal(size=(70, 300))
    q, k, v = (torch.tensor(array, requires_grad=True) for array in (query, key, value))
    scores = q @ k.T
    ordered = scores.sort(descending=True).values
    counts = torch.arange(1, 301, dtype=torch.float64)
    if name == "sparsemax":
        size = (ordered * counts > ordered.cumsum(-1) - 1).sum(-1, keepdim=True)
        weights = (scores - ((ordered.cumsum(-1) - 1) / counts).gather(-1, size - 1)).clamp(min=0)
    else:
        halves = ordered / 2
        mean, square = halves.cumsum(-1) / counts, (halves**2).cumsum(-1) / counts
        delta = (1 - counts * (square - mean**2)) / counts
        taus = mean - delta.clamp(min=1e-300).sqrt()
        size = (taus <= halves).sum(-1, keepdim=True)
        weights = (scores / 2 - taus.gather(-1, size - 1)).clamp(min=0) ** 2
    ((weights @ v) * torch.tensor(grad)).sum().add(
        (weights * torch.tensor(grad_weights)).sum()
    ).backward()
    normalizer = ORACLES[name][0]
    result = ac.attend(query, key, value, scorer="dot", normalizer=normalizer, tile=tile)
    np.testing.assert_allclose(result.weights, weights.detach(), atol=1e-12)
    found = result.vjp(grad, grad_weights=grad_weights)
    for own, other in zip(found[:3], (q, k, v), strict=True):
        np.testing.assert_allclose(own, other.grad, rtol=1e-8, atol=1e-10)
