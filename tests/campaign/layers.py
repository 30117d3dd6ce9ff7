"""Layers of several heads and their memories, compared with the oracle for each head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import reference

import attention_core as ac
from campaign.calls import Rng, chance
from campaign.gradients import assert_slopes

QUICK = 25
SCORERS = ("scaled_dot", "dot", "general", "gaussian", "additive")
FEATURES = 3


@dataclass
class Problem:
    arrays: dict[str, Any]
    names: list[str]
    parameters: list[dict[str, Any]]
    zero_key: bool
    options: dict[str, Any]
    inputs: tuple[Any, Any, Any]

    def layer(self) -> ac.MultiHeadAttention:
        scorers = [
            ac.make_scorer(name, **given)
            for name, given in zip(self.names, self.parameters, strict=True)
        ]
        return ac.MultiHeadAttention(**self.arrays, scorer=scorers, zero_key=self.zero_key)

    def output(self, arrays: dict[str, Any], query: Any, key: Any, value: Any) -> Any:
        """The oracle's output, (B, L, Eo), for other arrays of the layer."""
        total = np.zeros((*query.shape[:-1], arrays["output_weight"].shape[-1]))
        total += arrays.get("output_bias", 0.0)
        per_group = len(self.names) // arrays["key_weight"].shape[1]
        options = dict(self.options)
        mask, bias = options.pop("mask", True), options.pop("bias", 0.0)
        for head, (name, given) in enumerate(zip(self.names, self.parameters, strict=True)):
            group = head // per_group
            rows = [
                array @ arrays[f"{side}_weight"][:, h] + arrays.get(f"{side}_bias", zeros)[h]
                for side, array, h, zeros in (
                    ("query", query, head, np.zeros((len(self.names), 1))),
                    ("key", key, group, np.zeros((len(self.names), 1))),
                    ("value", value, group, np.zeros((len(self.names), 1))),
                )
            ]
            of_head = [
                np.broadcast_to(pairs, (len(query), len(self.names), query.shape[1], key.shape[1]))
                for pairs in (mask, bias)
            ]
            allowed = reference.attend(
                *rows, score=lambda q, k: 0.0, mask=of_head[0][:, head], **options
            ).allowed
            added = of_head[1][:, head]
            extra = [arrays[f"extra_{side}"][group] for side in ("key", "value")
                     if f"extra_{side}" in arrays]  # fmt: skip
            for never_masked in (extra, [0.0, 0.0] if self.zero_key else []):
                if never_masked:
                    for side, row in zip((1, 2), never_masked, strict=True):
                        last = np.broadcast_to(row, (len(key), 1, rows[side].shape[-1]))
                        rows[side] = np.concatenate([rows[side], last], axis=1)
                    is_query = np.arange(query.shape[1]) < np.reshape(
                        options.get("query_lengths", query.shape[1]), (-1, 1)
                    )
                    last = np.broadcast_to(is_query[..., None], (*allowed.shape[:-1], 1))
                    allowed = np.concatenate([allowed, last], axis=-1)
                    added = np.pad(added, ((0, 0), (0, 0), (0, 1)))
            formula = getattr(reference, name)
            score = formula if name == "dot" else formula(**given)
            context = reference.attend(*rows, score=score, mask=allowed, bias=added).context
            total += context @ arrays["output_weight"][head]
        return total


def random_problem(rng: Rng) -> Problem:
    groups = int(rng.integers(1, 3))
    heads = groups * int(rng.integers(1, 3))
    sizes = dict(zip("qkvo", rng.integers(1, 5, 4), strict=True))
    shapes = {
        "query_weight": (sizes["q"], heads, FEATURES),
        "key_weight": (sizes["k"], groups, FEATURES),
        "value_weight": (sizes["v"], groups, 2),
        "output_weight": (heads, 2, sizes["o"]),
        "query_bias": (heads, FEATURES),
        "key_bias": (groups, FEATURES),
        "value_bias": (groups, 2),
        "output_bias": (sizes["o"],),
        "extra_key": (groups, FEATURES),
        "extra_value": (groups, 2),
    }
    has_extra = chance(rng, 0.2)
    kept = {
        name
        for name in shapes
        if name.endswith("weight")
        or (name.endswith("bias") and chance(rng, 0.5))
        or (name.startswith("extra") and has_extra)
    }
    arrays = {name: rng.standard_normal(shapes[name]) for name in shapes if name in kept}
    names = [str(name) for name in rng.choice(list(SCORERS), heads)]
    makers = {
        "general": lambda: {"weight": rng.standard_normal((FEATURES, FEATURES))},
        "gaussian": lambda: {"scale": rng.standard_normal(FEATURES)},
        "additive": lambda: {
            "query_weight": rng.standard_normal((FEATURES, 4)),
            "key_weight": rng.standard_normal((FEATURES, 4)),
            "score_weight": rng.standard_normal(4),
        },
    }
    parameters = [makers.get(name, dict)() for name in names]
    batch, length, keys = int(rng.integers(1, 4)), int(rng.integers(1, 5)), int(rng.integers(1, 6))
    inputs = tuple(
        rng.standard_normal((batch, n, sizes[side]))
        for side, n in zip("qkv", (length, keys, keys), strict=True)
    )
    options: dict[str, Any] = {}
    if chance(rng, 0.4):
        options["mask"] = rng.random((batch, 1 if chance(rng, 0.5) else heads, length, keys)) < 0.7
    if chance(rng, 0.4):
        options["bias"] = rng.standard_normal((1, heads, length, keys))
    if chance(rng, 0.4):
        options["key_lengths"] = rng.integers(0, keys + 1, batch)
    if chance(rng, 0.3):
        options["query_lengths"] = rng.integers(0, length + 1, batch)
    return Problem(arrays, names, parameters, chance(rng, 0.2), options, inputs)


def check(rng: Rng) -> None:
    problem = random_problem(rng)
    layer = problem.layer()
    query, key, value = problem.inputs
    expected = problem.output(problem.arrays, *problem.inputs)
    result = layer(*problem.inputs, **problem.options)
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(result.output, expected, **close)

    cut = int(rng.integers(key.shape[1] + 1))
    memory = layer.memory(key[:, :cut], value[:, :cut])
    memory.append(key[:, cut:], value[:, cut:])
    np.testing.assert_allclose(layer(query, memory, **problem.options).output, expected, **close)

    grad = rng.standard_normal(result.output.shape)
    found = result.vjp(grad)
    everything = dict(zip(("query", "key", "value"), problem.inputs, strict=True)) | problem.arrays
    slopes = {name: getattr(found, name) for name in ("query", "key", "value")}
    slopes |= {name: found.parameters[name] for name in problem.arrays}

    def loss(moved: dict[str, Any]) -> float:
        arrays = {name: moved[name] for name in problem.arrays}
        output = problem.output(arrays, moved["query"], moved["key"], moved["value"])
        return float((output * grad).sum())

    assert_slopes(slopes, loss, everything, rng)


def without(option: str) -> mock.mock._patch:
    call = ac.MultiHeadAttention.__call__

    def ignorant(self, *args, **options):
        options.pop(option, None)
        return call(self, *args, **options)

    return mock.patch.object(ac.MultiHeadAttention, "__call__", ignorant)


def forgets_on_append() -> mock.mock._patch:
    append = ac.MultiHeadMemory.append

    def forgetful(self, key, value):
        append(self, np.roll(key, 1, axis=0), value)

    return mock.patch.object(ac.MultiHeadMemory, "append", forgetful)


def one_gradient_is_off() -> mock.mock._patch:
    vjp = ac.MultiHeadResult.vjp

    def off(self, grad):
        gradients = vjp(self, grad)
        gradients.parameters["key_weight"][..., 0] *= 1 + 1e-4
        return gradients

    return mock.patch.object(ac.MultiHeadResult, "vjp", off)


FAULTS = {
    **{
        f"ignores {option}": lambda option=option: without(option)
        for option in ("mask", "bias", "key_lengths", "query_lengths")
    },
    "appends the keys of another item": forgets_on_append,
    "is wrong for key_weight": one_gradient_is_off,
}
