"""A normalizer and a bias that satisfy every rule of the kit, and one violation of each rule."""

from __future__ import annotations

import threading
import time

import numpy as np
from broken_scorers import WEIGHT, Honest, TakesAnything

import attention_core as ac
from attention_core.testing import bias_checks, normalizer_checks, scorer_checks


class HonestNormalizer(ac.Normalizer):
    """weights = share * softmax(s), with a trainable share."""

    name = "honest"
    empty = (-np.inf, 0.0)

    def __init__(self, share=0.5):
        self.share = np.asarray(share, float)

    def statistics(self, scores):
        largest = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        return largest, self.exponentials(scores, largest).sum(axis=-1, keepdims=True)

    def exponentials(self, scores, largest):
        return np.exp(scores - np.where(largest == -np.inf, 0, largest))

    def weights(self, scores, statistics):
        largest, total = statistics
        found = self.exponentials(scores, largest) * self.share.astype(scores.dtype)
        return np.divide(found, np.where(total > 0, total, 1), out=scores)

    def scores_vjp(self, weights, statistics, grad_weights, dot, row_sums):
        share = float(self.share)
        return np.multiply(weights, grad_weights - dot / share, out=grad_weights)

    def parameter_grads(self, statistics, dot, dtype):
        return {"share": (dot.sum() / self.share).astype(dtype)}


class DropsTheLastAxis(HonestNormalizer):
    """Sums without keepdims."""

    def statistics(self, scores):
        return tuple(own[..., 0] for own in super().statistics(scores))

    def weights(self, scores, statistics):
        return super().weights(scores, tuple(own[..., None] for own in statistics))


class NeedsTiles(HonestNormalizer):
    """Rows of edges have no axis of keys."""

    def weights(self, scores, statistics):
        assert scores.ndim > 1
        return super().weights(scores, statistics)


class WidensWeights(HonestNormalizer):
    """float32 times an array of float64 is float64."""

    def weights(self, scores, statistics):
        return super().weights(scores, statistics) * np.ones(1)


class WritesInStatistics(HonestNormalizer):
    """Writes exponentials over the scores, which `weights` reads again."""

    def statistics(self, scores):
        found = super().statistics(scores)
        scores[...] = np.where(scores > -np.inf, scores + 1e-3, scores)
        return found


class CountsMaskedKeys(HonestNormalizer):
    """Divides by the number of all keys."""

    def statistics(self, scores):
        largest, total = super().statistics(scores)
        return largest, total * (1 + scores.shape[-1])


class DividesByNothing(HonestNormalizer):
    """0 / 0 in rows without keys."""

    def weights(self, scores, statistics):
        largest, total = statistics
        with np.errstate(invalid="ignore"):
            return self.exponentials(scores, largest) / total * scores.dtype.type(self.share)


class SubtractsTheLargestOfAll(HonestNormalizer):
    """One maximum for all rows."""

    def statistics(self, scores):
        largest, total = super().statistics(scores)
        return largest, np.broadcast_to(total.mean(), total.shape).astype(total.dtype)


class ForgetsEarlierTiles(HonestNormalizer):
    """Uses the statistics of the last tile as those of the row."""

    whole_rows = False


class HalvesEdges(HonestNormalizer):
    """of_edges was not updated when the formula changed."""

    def of_edges(self, scores, starts, batch):
        largest, total = super().of_edges(scores, starts, batch)
        return largest, 2 * total


class SubtractsNothing(HonestNormalizer):
    """exp(1e4) is infinite."""

    def exponentials(self, scores, largest):
        return np.exp(scores)


class KeepsItsTotal(HonestNormalizer):
    """Keeps the input of `weights` on the object, for each thread."""

    kept = threading.local()

    def statistics(self, scores):
        found = super().statistics(scores)
        self.kept.total = found[1]
        return found

    def weights(self, scores, statistics):
        largest, total = statistics
        kept = self.kept.total if self.kept.total.shape == total.shape else total
        return super().weights(scores, (largest, kept))


class SharesScratch(HonestNormalizer):
    """All threads write to the same memory."""

    def exponentials(self, scores, largest):
        self._scratch = super().exponentials(scores, largest)
        time.sleep(0.001)
        return self._scratch


class TurnsUphill(HonestNormalizer):
    """The gradient has the wrong sign."""

    def scores_vjp(self, weights, statistics, grad_weights, dot, row_sums):
        return -super().scores_vjp(weights, statistics, grad_weights, dot, row_sums)


class GradesNoShare(HonestNormalizer):
    """The gradient of the parameter is missing."""

    def parameter_grads(self, statistics, dot, dtype):
        return {}


class SumsTheLastAxis(HonestNormalizer):
    """Sums over the last axis, which on edges contains all rows."""

    def scores_vjp(self, weights, statistics, grad_weights, dot, row_sums):
        dot = (weights * grad_weights).sum(axis=-1, keepdims=True)
        return super().scores_vjp(weights, statistics, grad_weights, dot, row_sums)


class UndocumentedNormalizer(HonestNormalizer):
    __doc__ = None


class NormalizerOfAnything(HonestNormalizer):
    """Ignores misspelt keys of a config."""

    name = None

    def __init__(self, share=0.5, **options):
        super().__init__(share)
        self.options = options


class KeepsItsShare(HonestNormalizer):
    """with_parameters returns the normalizer itself."""

    def with_parameters(self, parameters):
        return self


class ForgetsItsShare(HonestNormalizer):
    """The config lacks the parameters."""

    def to_config(self):
        return {"name": "honest"}


class HonestBias(ac.Bias):
    """bias = -slope |j - i|, for each head."""

    name = "honest"

    def __init__(self, slope=(0.5, 0.25)):
        self.slope = np.asarray(slope, float)  # (heads,)

    def distances(self, query_positions, key_positions):
        return abs(key_positions - query_positions)

    def tile(self, query_positions, key_positions):
        return -self.slope[:, None, None] * self.distances(query_positions, key_positions)

    def tile_vjp(self, query_positions, key_positions, grad):
        products = self.distances(query_positions, key_positions) * grad  # (..., heads, l, s)
        return {"slope": -products.sum(axis=(-2, -1)).reshape(-1, len(self.slope)).sum(axis=0)}


class SwapsAxes(HonestBias):
    """Keys before queries."""

    def tile(self, query_positions, key_positions):
        return super().tile(query_positions, key_positions).swapaxes(-1, -2)


class CountsFromTheTile(HonestBias):
    """Measures distances from the first position of the tile."""

    def tile(self, query_positions, key_positions):
        return super().tile(query_positions, key_positions - key_positions.min(initial=10**9))


class AssumesATile(HonestBias):
    """Uses the first row of keys for all rows."""

    def tile(self, query_positions, key_positions):
        return super().tile(query_positions, key_positions[:1])


class AssumesOneOffset(HonestBias):
    """Uses the positions of the first batch item for all."""

    def tile(self, query_positions, key_positions):
        return super().tile(query_positions[(0,) * (query_positions.ndim - 2)], key_positions)


class TakesLogarithms(HonestBias):
    """Takes the logarithm of 0 if key and query have the same position."""

    def distances(self, query_positions, key_positions):
        with np.errstate(divide="ignore"):
            return np.log(super().distances(query_positions, key_positions))


class WritesToPositions(HonestBias):
    """Writes to the positions, with the same values."""

    def tile(self, query_positions, key_positions):
        key_positions += 0
        return super().tile(query_positions, key_positions)


class ReusesItsResult(HonestBias):
    """Returns the same memory each time, in each thread."""

    memory = threading.local()

    def tile(self, query_positions, key_positions):
        found = super().tile(query_positions, key_positions)
        kept = self.memory.__dict__.setdefault("kept", np.empty(10_000))
        memory = kept[: found.size].reshape(found.shape)
        memory[...] = found
        return memory


class SharesItsScratch(HonestBias):
    """All threads write to the same memory."""

    def tile(self, query_positions, key_positions):
        self._scratch = super().tile(query_positions, key_positions)
        time.sleep(0.001)
        return self._scratch


class ForgetsTheBatch(HonestBias):
    """Returns the gradient of the first batch item in place of the sum."""

    def tile_vjp(self, query_positions, key_positions, grad):
        first = grad.reshape(-1, *grad.shape[-3:])[0]
        return super().tile_vjp(query_positions, key_positions, first)


class UndocumentedBias(HonestBias):
    __doc__ = None


class BiasOfAnything(HonestBias):
    """Ignores misspelt keys of a config."""

    name = None

    def __init__(self, slope=(0.5, 0.25), **options):
        super().__init__(slope)
        self.options = options


class KeepsItsSlope(HonestBias):
    """with_parameters returns the bias itself."""

    def with_parameters(self, parameters):
        return self


class ForgetsItsSlope(HonestBias):
    """The config lacks the parameters."""

    def to_config(self):
        return {"name": "honest", "slope": [0.0, 0.0]}


KINDS = {
    "scorer": (ac.ScorerSpec, Honest, {"weight": WEIGHT}, scorer_checks),
    "normalizer": (ac.NormalizerSpec, HonestNormalizer, {"share": 0.25}, normalizer_checks),
    "bias": (ac.BiasSpec, HonestBias, {"slope": [1.0, 0.5]}, bias_checks),
}


def checks_of(kind, component):
    """The checks of a component made by name, if its class can be registered."""
    spec, honest, parameters, checks = KINDS[kind]
    if component in (TakesAnything, NormalizerOfAnything, BiasOfAnything):
        return list(checks(component(**parameters)))
    registry = ac.Registry()
    formula, factory = ("", honest) if component == "without a formula" else ("f", component)
    registry.register(spec(name="honest", factory=factory, summary="honest", formula=formula))
    made = registry.names[next(k for k in registry.names if k.name == kind)]
    return list(checks(made.make("honest", parameters), registry=registry))
