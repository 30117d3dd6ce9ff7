"""The network: an encoder of characters, attention, and a decoder of digits.

    key_i     = tanh(W2 [near_{i-4} ... near_{i+4}] + b2),  near_i = tanh(W1 [char_{i-2} ...] + b1)
    value_i   = char_i
    query_t   = position_t + last_{t-1} + last_{t-2}
    context_t = softmax(score(query_t, key)) @ value
    digit_t   = softmax(W4 tanh(W3 [context_t, query_t] + b3) + b4)

A key depends on the neighborhood of its character, a value on the character alone. To write a 7,
the decoder has to attend to a 7, so the weights are an alignment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attention_core import Attention, AttentionResult, Scorer
from attention_core.demo.translate.aligned import alignment_loss
from attention_core.demo.translate.alphabet import LENGTH, READ, START, WRITTEN
from attention_core.demo.translate.layers import cross_entropy, lookup_vjp, windows, windows_vjp
from attention_core.options import OPTIONS
from attention_core.typing import Array

__all__ = ["KEY_DIM", "QUERY_DIM", "Sizes", "Translator"]

Codes = NDArray[np.intp]
Arrays = dict[str, Array]

NEAR, FAR = 2, 4
"""The number of neighbors on each side that each of the encoder's two layers sees."""
LOOK_BACK = 2
"""The number of previously written characters in a query."""
QUERY_DIM = KEY_DIM = 64


class Sizes(NamedTuple):
    """Features of the parts of the network."""

    character: int = 32
    near: int = 48
    key: int = KEY_DIM
    hidden: int = 64


class Encoded(NamedTuple):
    """The output of the encoder for a batch of texts."""

    inside: Array
    """(B, S, 1): 1 where there is a character, 0 beyond the end"""
    value: Array
    """(B, S, C)"""
    near: Array
    """(B, S, N)"""
    key: Array
    """(B, S, K)"""


class Decoded(NamedTuple):
    """The output of the decoder for queries."""

    query: Array
    """(B, L, Q)"""
    result: AttentionResult
    hidden: Array
    """(B, L, H)"""
    logits: Array
    """(B, L, 11)"""


@dataclass(frozen=True, slots=True)
class Translator:
    """The network: attention with its scorer, and the arrays of the other layers.

    The scorer must accept `QUERY_DIM` and `KEY_DIM` features; nothing else depends on it.
    """

    attention: Attention
    arrays: Arrays

    @classmethod
    def new(
        cls,
        attention: Attention,
        rng: np.random.Generator,
        *,
        sizes: Sizes = Sizes(),  # noqa: B008 - a tuple cannot change
        dtype: type[np.floating[Any]] = np.float32,
    ) -> Translator:
        """Make an untrained network."""
        character, near, key, hidden = sizes
        shapes = {
            "character": (len(READ), character),
            "near": ((2 * NEAR + 1) * character, near),
            "near_bias": (near,),
            "key": ((2 * FAR + 1) * near, key),
            "key_bias": (key,),
            "position": (LENGTH, key),
            "last": (LOOK_BACK, START + 1, key),
            "context": (character, hidden),
            "query": (key, hidden),
            "hidden_bias": (hidden,),
            "digit": (hidden, len(WRITTEN)),
            "digit_bias": (len(WRITTEN),),
        }
        # small queries give uniform weights at first; with large ones, an inner product attends to
        # a few random characters and learns little about others
        scale = {"character": 1.0, "position": 0.25, "last": 0.1}
        arrays = {
            name: scale.get(name, shape[0] ** -0.5) * rng.standard_normal(shape)
            if len(shape) > 1
            else np.zeros(shape)
            for name, shape in shapes.items()
        }
        return cls(attention, {}).with_parameters(
            {name: array.astype(dtype) for name, array in arrays.items()}
            | {
                f"scorer.{name}": array.astype(dtype)
                for name, array in attention.scorer.parameters.items()
            }
        )

    @property
    def parameters(self) -> Arrays:
        """All parameters by name; those of the scorer have the prefix ``scorer.``."""
        own = {f"scorer.{name}": a for name, a in self.attention.scorer.parameters.items()}
        return self.arrays | own

    def with_parameters(self, parameters: Arrays) -> Translator:
        """The same network with other parameters."""
        split: dict[bool, Arrays] = {True: {}, False: {}}
        for name, array in parameters.items():
            split[name.startswith("scorer.")][name.removeprefix("scorer.")] = array
        scorer = self.attention.scorer.with_parameters(split[True])
        return Translator(_with_scorer(self.attention, scorer), self.arrays | split[False])

    def encode(self, codes: Codes) -> Encoded:
        """Values and keys of padded texts: (B, S)."""
        own = self.arrays
        inside = (codes != 0)[..., None].astype(own["character"].dtype)  # (B, S, 1)
        value = own["character"][codes] * inside
        near = np.tanh(windows(value, NEAR) @ own["near"] + own["near_bias"]) * inside
        key = np.tanh(windows(near, FAR) @ own["key"] + own["key_bias"])
        return Encoded(inside, value, near, key)

    def queries(self, written: Codes) -> Array:
        """The queries of the characters written so far and of the next one: (B, l) -> l + 1."""
        before = _before(written)  # (B, l + 1, LOOK_BACK)
        query: Array = self.arrays["position"][: before.shape[1]] + sum(
            self.arrays["last"][n][before[..., n]] for n in range(LOOK_BACK)
        )
        return query

    def answer(self, query: Array, context: Array) -> tuple[Array, Array]:
        """The hidden units and the logits of the next character: (..., Q), (..., C)."""
        own = self.arrays
        hidden = np.tanh(context @ own["context"] + query @ own["query"] + own["hidden_bias"])
        return hidden, hidden @ own["digit"] + own["digit_bias"]

    def loss(
        self,
        codes: Codes,
        lengths: Codes,
        target: Codes,
        *,
        where: Array | None = None,
        strength: float = 1.0,
    ) -> tuple[float, Arrays]:
        """The cross-entropy of the dates (B, 10) given their texts (B, S), and its gradients.

        The queries use the correct previous characters (teacher forcing), so that all ten steps are
        one call. With `where` (B, 10, S), the loss of `alignment_loss` times a strength is added.
        """
        encoded = self.encode(codes)
        query = self.queries(target[:, :-1])
        result = self.attention(query, encoded.key, encoded.value, key_lengths=lengths)
        decoded = Decoded(query, result, *self.answer(query, result.context))
        loss, grad = cross_entropy(decoded.logits, target)
        grad_weights = None
        if where is not None:
            found, slope = alignment_loss(np.asarray(result.weights), where)
            loss, grad_weights = loss + strength * found, strength * slope
        return loss, self._gradients(codes, target, encoded, decoded, grad, grad_weights)

    def _gradients(
        self,
        codes: Codes,
        target: Codes,
        encoded: Encoded,
        decoded: Decoded,
        grad: Array,
        grad_weights: Array | None,
    ) -> Arrays:
        """Backpropagate through the decoder, attention and the encoder."""
        own = self.arrays
        found: Arrays = {}
        found["digit"], found["digit_bias"] = _of_weights(decoded.hidden, grad)
        grad = grad @ own["digit"].T * (1 - decoded.hidden**2)  # (B, L, H)
        found["context"], found["hidden_bias"] = _of_weights(decoded.result.context, grad)
        found["query"], _ = _of_weights(decoded.query, grad)

        of_attention = decoded.result.vjp(grad @ own["context"].T, grad_weights=grad_weights)
        found |= {f"scorer.{name}": array for name, array in of_attention.parameters.items()}
        of_query = grad @ own["query"].T + of_attention.query  # (B, L, Q)
        found["position"] = of_query.sum(axis=0)
        before = _before(target[:, :-1])
        found["last"] = np.stack(
            [lookup_vjp(before[..., n], of_query, START + 1) for n in range(LOOK_BACK)]
        )

        grad = of_attention.key * (1 - encoded.key**2)  # (B, S, K)
        found["key"], found["key_bias"] = _of_weights(windows(encoded.near, FAR), grad)
        grad = windows_vjp(grad @ own["key"].T, FAR) * (1 - encoded.near**2) * encoded.inside
        found["near"], found["near_bias"] = _of_weights(windows(encoded.value, NEAR), grad)
        of_value = of_attention.value + windows_vjp(grad @ own["near"].T, NEAR)
        found["character"] = lookup_vjp(codes, of_value * encoded.inside, len(READ))
        return found


def _with_scorer(attention: Attention, scorer: Scorer) -> Attention:
    options = {name: getattr(attention, name) for name in OPTIONS}
    return Attention(scorer, normalizer=attention.normalizer, **options)


def _before(written: Codes) -> Codes:
    """The last characters before each step, the nearest first: (B, l) -> (B, l + 1, LOOK_BACK)."""
    wide = np.pad(written, ((0, 0), (LOOK_BACK, 0)), constant_values=START)
    steps = written.shape[1] + 1
    return np.stack([wide[:, LOOK_BACK - n - 1 :][:, :steps] for n in range(LOOK_BACK)], axis=-1)


def _of_weights(rows: Array, grad: Array) -> tuple[Array, Array]:
    """Gradients of W and b in ``rows @ W + b``: (B, n, D), (B, n, H) -> (D, H), (H,)."""
    flat = grad.reshape(-1, grad.shape[-1])
    return rows.reshape(-1, rows.shape[-1]).T @ flat, flat.sum(axis=0)
