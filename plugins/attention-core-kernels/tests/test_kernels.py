"""Properties of each kernel: its precision, its zeros, its meaning as a smoother."""

import attention_core as ac
import numpy as np
import pytest

RNG = np.random.default_rng(1964)


def scores(scorer, query, key):
    return scorer.score(scorer.project_query(query), scorer.project_key(key))


class TestCosine:
    @pytest.mark.parametrize("length", [1e-44, 1e-30, 1e30])
    def test_no_length_is_too_short_or_too_long(self, length):
        x = np.array([[3, 4], [-4, 3]], np.float32) * np.float32(length)
        np.testing.assert_allclose(
            scores(ac.make_scorer("cosine"), x, x), np.eye(2), rtol=0, atol=0.02
        )  # 1e-44 is seven times the smallest float32

    def test_zeros_have_no_direction(self):
        x = np.array([[0.0, 0.0], [1.0, 1.0]])
        np.testing.assert_allclose(scores(ac.make_scorer("cosine"), x, x), [[0, 0], [0, 1]])


class TestRBF:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("distance", [0, 1, 100, 10_000])
    def test_rounding_is_as_large_as_documented_and_no_larger(self, dtype, distance):
        """Sixteen features, all shifted: the error of a score is about eps gamma (|q| + |k|)^2."""
        gamma, eps = 0.5, float(np.finfo(dtype).eps)
        query, key = (RNG.standard_normal((2, 50, 16)) + distance).astype(dtype)
        wide = query[:, None].astype(np.longdouble) - key.astype(np.longdouble)
        error = np.abs(
            scores(ac.make_scorer("rbf", gamma=gamma), query, key) + gamma * (wide**2).sum(-1)
        )
        scale = (
            gamma * (np.linalg.norm(query, axis=-1)[:, None] + np.linalg.norm(key, axis=-1)) ** 2
        )
        assert (error <= 2 * eps * scale).all()
        if distance >= 100:  # the warning is justified
            assert error.max() > 0.01 * eps * scale.max()

    def test_a_common_center_can_be_taken_away_first(self):
        near = RNG.integers(-128, 128, (2, 50, 16)).astype(np.float32) / 64
        far = near + np.float32(1024)  # exact
        center = far[1].mean(axis=-2, keepdims=True)
        scorer = ac.make_scorer("rbf", gamma=0.5)
        exact = scores(scorer, *near.astype(np.float64))
        assert np.abs(scores(scorer, *far) - exact).max() > 0.5
        assert np.abs(scores(scorer, *(far - center)) - exact).max() < 1e-4

    def test_the_context_is_the_nadaraya_watson_estimate(self):
        x, y = np.linspace(0, 3, 30)[:, None], np.sin(np.linspace(0, 3, 30))
        at = np.array([[0.5], [2.2]])
        kernel = np.exp(-((at - x.T) ** 2) / (2 * 0.1**2))
        result = ac.attend(at, x, y[:, None], scorer={"name": "rbf", "gamma": 1 / (2 * 0.1**2)})
        np.testing.assert_allclose(result.context[:, 0], kernel @ y / kernel.sum(axis=1))
        np.testing.assert_allclose(result.log_normalizer, np.log(kernel.sum(axis=1)))


class TestLaplacian:
    def test_it_is_exact_far_from_the_origin(self):
        near = RNG.integers(-8, 8, (2, 20, 5)).astype(np.float32)
        scorer = ac.make_scorer("laplacian", gamma=0.25)
        np.testing.assert_array_equal(scores(scorer, *near), scores(scorer, *(near + 2**20)))


class TestPolynomial:
    def test_weights_are_in_proportion_to_the_kernel(self):
        query, key, value = RNG.standard_normal((3, 6, 4))
        kernel = (0.5 * query @ key.T + 1) ** 2
        scorer = {"name": "polynomial", "degree": 2, "gamma": 0.5, "coef0": 1}
        result = ac.attend(query, key, value, scorer=scorer)
        np.testing.assert_allclose(result.weights, kernel / kernel.sum(axis=1, keepdims=True))

    def test_where_an_odd_kernel_is_not_positive_there_is_no_weight(self):
        query, key = np.array([[1.0], [-1.0]]), np.array([[-3.0], [0.0], [1.0], [2.0]])
        scorer = {"name": "polynomial", "degree": 3, "gamma": 1, "coef0": 0}
        np.testing.assert_allclose(
            ac.attend(query, key, key, scorer=scorer).weights, [[0, 0, 1 / 9, 8 / 9], [1, 0, 0, 0]]
        )
        nowhere = ac.attend(query[:1], key[:2], key[:2], scorer=scorer)
        assert not nowhere.weights.any()
        assert not nowhere.context.any()

    def test_large_degrees_overflow_nothing(self):
        query, key = 100 * RNG.standard_normal((2, 5, 4)).astype(np.float32)
        assert np.isfinite(scores(ac.make_scorer("polynomial", degree=64), query, key)).all()


class TestGATv2:
    def test_each_query_ranks_the_keys_its_own_way(self):
        """Dynamic attention, which the first version of GAT cannot do (Brody et al., section 3)."""
        rank = np.eye(4)
        scorer = ac.make_scorer(
            "gatv2", query_weight=rank, key_weight=rank, score_weight=np.ones(4), negative_slope=0
        )
        nearest = scores(scorer, -rank, rank)  # relu(k - q) counts the entries that differ
        assert sorted(set(nearest.argmin(axis=1))) == [0, 1, 2, 3]

    def test_two_units_for_each_feature_make_it_the_laplacian(self):
        """|x| is (LeakyReLU(x) + LeakyReLU(-x)) / (1 - slope)."""
        both = np.hstack([np.eye(3), -np.eye(3)])
        weight = np.full(6, -0.7 / (1 - 0.2))
        scorer = ac.make_scorer("gatv2", query_weight=both, key_weight=-both, score_weight=weight)
        query, key = RNG.standard_normal((2, 8, 3))
        np.testing.assert_allclose(
            scores(scorer, query, key),
            scores(ac.make_scorer("laplacian", gamma=0.7), query, key),
            rtol=0, atol=1e-14,
        )  # fmt: skip

    def test_it_agrees_with_the_layer_of_torch(self):
        """The layer of PyTorch Geometric in a few lines, for a graph given by its edges."""
        torch = pytest.importorskip("torch")
        source, target = torch.tensor([[0, 1, 2, 3, 3], [1, 1, 0, 0, 2]])
        left, right = torch.nn.Linear(4, 6), torch.nn.Linear(4, 6)
        att, x = torch.randn(6), torch.randn(4, 4)
        hidden = torch.nn.functional.leaky_relu(left(x)[source] + right(x)[target], 0.2)
        expected = hidden @ att
        scorer = ac.make_scorer(
            "gatv2",
            query_weight=right.weight.T.detach().numpy(),
            key_weight=left.weight.T.detach().numpy(),
            bias=(left.bias + right.bias).detach().numpy(),
            score_weight=att.numpy(),
        )
        query, key = scorer.project_query(x.numpy()), scorer.project_key(x.numpy())
        found = scorer.score_pairs(query[target], key[source])
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-5)

    def test_a_seed_makes_the_same_scorer_again(self):
        sizes = {"query_dim": 3, "key_dim": 4, "hidden_dim": 5}
        first, same, other = (ac.make_scorer("gatv2", **sizes, rng=rng) for rng in (0, 0, 1))
        for name, array in first.parameters.items():
            np.testing.assert_array_equal(array, same.parameters[name])
            assert not np.array_equal(array, other.parameters[name])

    def test_parameters_keep_their_names_and_slope_when_they_are_replaced(self):
        scorer = ac.make_scorer(
            "gatv2", query_dim=3, key_dim=4, hidden_dim=5, rng=0, negative_slope=0.5
        )
        doubled = {name: 2 * array for name, array in scorer.parameters.items()}
        again = ac.Attention(scorer.with_parameters(doubled).to_config()).scorer
        assert again.negative_slope == 0.5
        np.testing.assert_array_equal(again.score_weight, 2 * scorer.score_weight)
