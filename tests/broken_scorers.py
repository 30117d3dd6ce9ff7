"""A scorer that satisfies every rule of the kit, and one violation of each rule."""

from __future__ import annotations

import threading
import time

import numpy as np

import attention_core as ac

WEIGHT = np.random.default_rng(0).normal(size=(4, 3))


class Honest(ac.Scorer):
    """score = q . W k, and every method that a scorer may have."""

    name = "honest"

    def __init__(self, weight):
        self.weight = np.asarray(weight)

    def check_features(self, query_dim, key_dim):
        if (query_dim, key_dim) != self.weight.shape:
            raise ac.ShapeError(f"honest takes (Dq, Dk) = {self.weight.shape}")

    def project_query(self, query):
        return query @ self.weight.astype(query.dtype)

    def project_key(self, key):
        return key.copy()

    def score(self, query, key):
        return query @ key.swapaxes(-1, -2)

    def score_pairs(self, query, key):
        return np.vecdot(query, key)

    def project_query_vjp(self, query, grad):
        rows, grads = (array.reshape(-1, array.shape[-1]) for array in (query, grad))
        return grad @ self.weight.T.astype(grad.dtype), {"weight": rows.T @ grads}

    def project_key_vjp(self, key, grad):
        return grad, {}

    def score_vjp(self, query, key, grad):
        return grad @ key, grad.swapaxes(-1, -2) @ query, {}

    def score_pairs_vjp(self, query, key, grad):
        return grad[..., None] * key, grad[..., None] * query, {}

    def score_bound(self, query, key):
        norms = [np.sqrt(np.vecdot(x, x)).max(initial=0) for x in (query, key)]
        return float(norms[0] * norms[1])


class LosesAnAxis(Honest):
    """Drops the axis of queries if there is only one."""

    def score(self, query, key):
        scores = super().score(query, key)
        return scores.squeeze(-2) if scores.shape[-2] == 1 else scores


class CountsAxesFromTheFront(Honest):
    """Works only with no or one batch axis."""

    def score(self, query, key):
        if query.ndim == key.ndim == 3:
            return np.einsum("bld,bsd->bls", query, key)
        return np.einsum("ld,sd->ls", query, key)


class NeedsAKey(Honest):
    """Takes a maximum over keys, which fails without keys."""

    def score(self, query, key):
        key.max(axis=-2)
        return super().score(query, key)


class TakesAnyFeatures(Honest):
    """Does not check features, so users see NumPy's error."""

    def check_features(self, query_dim, key_dim):
        pass


class WidensToItsParameters(Honest):
    """float32 @ float64 is float64."""

    def project_query(self, query):
        return query @ self.weight


class WritesTheSame(Honest):
    """Writes to the input, with the same values."""

    def score(self, query, key):
        key[...] = key
        return super().score(query, key)


class CountsItsCalls(Honest):
    """Keeps a running statistic among the parameters."""

    def __init__(self, weight, calls=0.0):
        super().__init__(weight)
        self.calls = np.array(calls)

    def score(self, query, key):
        self.calls += 1
        return super().score(query, key)


class ReadsBytes(Honest):
    """Reads arrays through a view, which needs contiguous memory."""

    def score(self, query, key):
        query.view(np.uint8)
        return super().score(query, key)


class KnowsPlaces(Honest):
    """Adds a bias for the position of a key in its tile."""

    def score(self, query, key):
        return super().score(query, key) + 0.1 * np.arange(key.shape[-2], dtype=key.dtype)


class EncodesPlaces(Honest):
    """Projects a key depending on the number of keys before it in the call."""

    def project_key(self, key):
        return key + np.arange(key.shape[-2], dtype=key.dtype)[:, None]


class CentersBatches(Honest):
    """Subtracts the mean of all batch items."""

    def project_query(self, query):
        mean = query.mean(axis=0) if query.ndim == 3 else 0
        return super().project_query(query - mean)


class ScalesPairsOtherwise(Honest):
    """score_pairs was not updated when score changed."""

    def score_pairs(self, query, key):
        return 2 * super().score_pairs(query, key)


class SpreadsNaN(Honest):
    """0 * NaN is NaN."""

    def score(self, query, key):
        return super().score(query, key) + 0 * key.sum(axis=-2, keepdims=True).sum(-1)[..., None]


class AddsNoise(Honest):
    """Adds noise in the last bits."""

    random = np.random.default_rng(0)

    def score(self, query, key):
        scores = super().score(query, key)
        return scores * (1 + 1e-14 * self.random.random(scores.shape)).astype(scores.dtype)


class ReusesItsResult(Honest):
    """Returns the same memory each time, in each thread."""

    memory = threading.local()

    def score(self, query, key):
        scores = super().score(query, key)
        memory = self.memory.__dict__.setdefault((scores.shape, scores.dtype), scores)
        memory[...] = scores
        return memory


class SharesScratch(Honest):
    """All threads write to the same memory."""

    def score(self, query, key):
        self._scratch = super().score(query, key)
        time.sleep(0.001)
        return self._scratch


class Overflows(Honest):
    """Returns exponentials of scores."""

    def score(self, query, key):
        return np.exp(10 * super().score(query, key))

    def score_pairs(self, query, key):
        return np.exp(10 * super().score_pairs(query, key))

    def score_bound(self, query, key):
        return float("inf")


class DividesByNorms(Honest):
    """Cosine without a guard."""

    def project_key(self, key):
        return key / np.linalg.norm(key, axis=-1, keepdims=True)


class PromisesTooMuch(Honest):
    """A bound that does not hold."""

    def score_bound(self, query, key):
        return super().score_bound(query, key) / 10


class SaysItMultiplies(ac.InnerProductScorer):
    """Says that its projection multiplies by 2."""

    name = "honest"
    __init__ = Honest.__init__
    check_features = Honest.check_features
    project_query = Honest.project_query
    project_query_vjp = Honest.project_query_vjp

    def query_scale(self, features):
        return 2.0


class TurnsUphill(Honest):
    """The gradient has the wrong sign."""

    def project_query_vjp(self, query, grad):
        grad_query, grads = super().project_query_vjp(query, grad)
        return grad_query, {"weight": -grads["weight"]}


class TurnsPairsUphill(Honest):
    """score_pairs_vjp was not updated when score_vjp changed."""

    def score_pairs_vjp(self, query, key, grad):
        return grad[..., None] * query, grad[..., None] * key, {}


class HasAnotherPair(Honest, ac.PairScorer):
    """The function of two rows was not updated when score changed."""

    @staticmethod
    def pair(q, k):
        total = 0.0
        for d in range(len(q)):
            total += q[d] + k[d]
        return total

    score_vjp = Honest.score_vjp


class Undocumented(Honest):
    __doc__ = None


class TakesAnything(Honest):
    """Ignores misspelt keys of a config."""

    name = None

    def __init__(self, weight, **options):
        super().__init__(weight)
        self.options = options


class ReplacesNothing(Honest):
    """with_parameters returns the scorer itself."""

    def with_parameters(self, parameters):
        return self


class ForgetsItsWeight(Honest):
    """The config lacks the parameters."""

    def to_config(self):
        return {"name": "honest", "weight": np.ones((4, 3)).tolist()}
