"""Random calls to differentiate, and their gradients by two independent methods.

One is dense attention in a few lines of torch, with autograd. The other does not need torch:
the derivative of the loss along a random direction, by finite differences of high order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import reference
import scipy.sparse
from hypothesis import strategies as st
from numpy.typing import NDArray

import attention_core as ac
from attention_core.engine import edges

__all__ = ["SCORERS", "Metric", "Problem", "make_scorer", "problems"]

Array = NDArray[Any]

SCORERS = ("additive", "additive_biased", "dot", "gaussian", "general", "general_low_rank",
           "metric", "scaled_dot")  # fmt: skip
DIMS = {"dot": (3, 3), "gaussian": (3, 3), "scaled_dot": (3, 3), "metric": (3, 3)}


class Metric(ac.Scorer):
    """A third-party scorer with gradients: ``-sum_r w_r ((q M)_r - (k M)_r)^2``.

    M is used on both sides, so its gradients have two parts.
    """

    def __init__(self, matrix: Array, weight: Array) -> None:
        self.matrix, self.weight = np.asarray(matrix), np.asarray(weight)

    def project_query(self, query: Array) -> Array:
        return query @ self.matrix.astype(query.dtype)

    project_key = project_query

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        rows, grads = query.reshape(-1, query.shape[-1]), grad.reshape(-1, grad.shape[-1])
        return grad @ self.matrix.T.astype(grad.dtype), {"matrix": rows.T @ grads}

    project_key_vjp = project_query_vjp

    def score(self, query: Array, key: Array) -> Array:
        difference = query[..., :, None, :] - key[..., None, :, :]  # (..., L, S, R)
        return -(difference**2 @ self.weight.astype(query.dtype))

    def score_vjp(self, query: Array, key: Array, grad: Array) -> tuple[Array, Array, Any]:
        difference = query[..., :, None, :] - key[..., None, :, :]  # (..., L, S, R)
        gradient = -2 * grad[..., None] * difference * self.weight.astype(query.dtype)
        square = grad[..., None] * difference**2
        grads = {"weight": -square.reshape(-1, square.shape[-1]).sum(axis=0)}
        return gradient.sum(axis=-2), -gradient.sum(axis=-3), grads


def make_scorer(name: str, rng: np.random.Generator) -> ac.Scorer:
    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape)

    if name.startswith("additive"):
        bias = {"bias": normal(5)} if name == "additive_biased" else {}
        return ac.make_scorer("additive", query_weight=normal(4, 5), key_weight=normal(3, 5),
                              score_weight=normal(5), **bias)  # fmt: skip
    if name == "general":
        return ac.make_scorer("general", weight=normal(4, 3))
    if name == "general_low_rank":
        return ac.make_scorer("general", query_factor=normal(4, 2), key_factor=normal(3, 2))
    if name == "gaussian":
        return ac.make_scorer(name, scale=normal(3))
    if name == "metric":
        return Metric(normal(3, 2), normal(2))
    return ac.make_scorer(name)


@dataclass
class Problem:
    """A call, and the gradient of a loss with respect to its context."""

    name: str
    scorer: ac.Scorer
    query: Array
    key: Array
    value: Array
    grad: Array
    options: dict[str, Any] = field(default_factory=dict)
    on_edges: bool = False
    """Whether the pairs of a sparse mask are computed one by one."""

    def attend(self, **changes: Any) -> ac.AttentionResult:
        given = {"query": self.query, "key": self.key, "value": self.value, "scorer": self.scorer}
        with mock.patch.object(edges, "prefers_edges", return_value=self.on_edges):
            return ac.attend(**{**given, **self.options, **changes})

    def gradients(self, **changes: Any) -> ac.Gradients:
        return self.attend(**changes).vjp(self.grad)

    @property
    def inputs(self) -> dict[str, Array]:
        """All arrays with a gradient, by name; parameters as ``parameters.name``."""
        inputs = {"query": self.query, "key": self.key, "value": self.value}
        if isinstance(self.options.get("bias"), np.ndarray):
            inputs["bias"] = self.options["bias"]
        return inputs | {f"parameters.{k}": v for k, v in self.scorer.parameters.items()}

    def context(self, inputs: dict[str, Array]) -> Array:
        """The context for other inputs."""
        plain = {k: v for k, v in inputs.items() if not k.startswith("parameters.")}
        arrays = {k.removeprefix("parameters."): v for k, v in inputs.items() if k not in plain}
        return self.attend(**plain, scorer=self.scorer.with_parameters(arrays)).context

    def allowed_and_bias(self) -> tuple[Array, Any]:
        """The pairs that the oracle allows, (..., L, S), and the bias as an array or number."""
        options = {k: v for k, v in self.options.items() if k not in {"tile", "workers"}}
        zero = reference.attend(self.query, self.key, self.value, score=lambda q, k: 0.0, **options)
        bias = options.get("bias", 0.0)
        if callable(bias):
            offset = np.asarray(options.get("query_offset", 0))
            batch = zero.allowed.shape[: -1 if self.query.ndim == 1 else -2]
            offset = offset.reshape(offset.shape + (1,) * (len(batch) - offset.ndim))
            rows = np.arange(1 if self.query.ndim == 1 else self.query.shape[-2])
            positions = rows[:, None] + offset[..., None, None]
            bias = bias(positions, np.arange(self.key.shape[-2])[None, :])
            bias = bias[..., 0, :] if self.query.ndim == 1 else bias
        return zero.allowed, bias

    def by_torch(self) -> dict[str, Array]:
        """The gradients by autograd, through dense attention."""
        import torch

        tensors = {
            name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
            for name, array in self.inputs.items()
        }
        allowed, bias = self.allowed_and_bias()
        bias = tensors["bias"] if "bias" in tensors else torch.as_tensor(bias)
        query = tensors["query"][None] if self.query.ndim == 1 else tensors["query"]
        scores = torch_scores(self.name, query, tensors)
        if self.query.ndim == 1:
            scores = scores[..., 0, :]
        cap = self.options.get("softcap")
        if cap is not None:
            scores = cap * torch.tanh(scores / cap)
        scores = torch.where(torch.as_tensor(allowed), scores + bias, -torch.inf)
        shift = scores.detach().logsumexp(-1, keepdim=True).clamp(min=-1e300)
        weights = torch.where(torch.as_tensor(allowed), torch.exp(scores - shift), 0.0)
        total = weights.sum(-1, keepdim=True)
        weights = weights / torch.where(total == 0, 1.0, total)
        if self.query.ndim == 1:
            context = (weights[..., None, :] @ tensors["value"])[..., 0, :]
        else:
            context = weights @ tensors["value"]
        context.backward(torch.as_tensor(self.grad))
        return {
            name: np.zeros(t.shape) if t.grad is None else t.grad.numpy()
            for name, t in tensors.items()
        }

    def derivative(self, direction: dict[str, Array], step: float = 2e-4) -> float:
        """The derivative of ``sum(grad * context)`` in a direction, by differences of order six."""

        def loss(distance: float) -> float:
            moved = {k: v + distance * direction[k] for k, v in self.inputs.items()}
            return float((self.context(moved) * self.grad).sum())

        odd = [loss(n * step) - loss(-n * step) for n in (1, 2, 3)]
        return float((45 * odd[0] - 9 * odd[1] + odd[2]) / (60 * step))


def torch_scores(name: str, query: Any, tensors: dict[str, Any]) -> Any:
    """The formulas of the scorers, for tensors."""
    import torch

    key = tensors["key"]
    parameter = {k.removeprefix("parameters."): v for k, v in tensors.items()}
    if name.startswith("additive"):
        hidden = (query @ parameter["query_weight"])[..., :, None, :]
        hidden = hidden + (key @ parameter["key_weight"])[..., None, :, :]
        hidden = hidden + parameter["bias"] if name == "additive_biased" else hidden
        return torch.tanh(hidden) @ parameter["score_weight"]
    if name == "gaussian":
        difference = (query[..., :, None, :] - key[..., None, :, :]) * parameter["scale"]
        return -(difference**2).sum(-1)
    if name == "metric":
        difference = (query[..., :, None, :] - key[..., None, :, :]) @ parameter["matrix"]
        return -(difference**2) @ parameter["weight"]
    if name == "general":
        query = query @ parameter["weight"]
    elif name == "general_low_rank":
        query, key = query @ parameter["query_factor"], key @ parameter["key_factor"]
    scores = query @ key.transpose(-1, -2)
    return scores / key.shape[-1] ** 0.5 if name == "scaled_dot" else scores


@st.composite
def problems(draw: st.DrawFn, scorers: Any = SCORERS) -> Problem:
    """Any scorer, any shapes that broadcast, any combination of options."""
    name, rng = draw(st.sampled_from(scorers)), np.random.default_rng(draw(st.integers(0, 2**32)))
    query_dim, key_dim = DIMS.get(name, (4, 3))
    batch = draw(st.sampled_from([(), (2,), (2, 3), (3, 1, 2)]))
    length, keys, values = draw(st.integers(0, 5)), draw(st.integers(0, 6)), draw(st.integers(1, 3))
    is_single = draw(st.integers(0, 7)) == 0

    def shared(*shape: int) -> tuple[int, ...]:
        """A shape with some batch axes omitted or broadcast."""
        axes = tuple(1 if draw(st.integers(0, 3)) == 0 else n for n in batch)
        return (*axes[draw(st.integers(0, len(axes))) :], *shape)

    query = (query_dim,) if is_single else shared(length, query_dim)
    key, value = shared(keys, key_dim), shared(keys, values)
    arrays = [rng.standard_normal(shape) for shape in (query, key, value)]
    batch = np.broadcast_shapes(query[:-2], key[:-2], value[:-2])
    rows = () if is_single else (length,)

    def per_item(low: int, high: int) -> Any:
        if draw(st.booleans()):
            return draw(st.integers(low, high))
        return rng.integers(low, high + 1, batch[: draw(st.integers(0, len(batch)))])

    def spread(*shape: int) -> tuple[int, ...]:
        """A shape that broadcasts to another."""
        shape = tuple(1 if draw(st.integers(0, 2)) == 0 else n for n in shape)
        return shape[draw(st.integers(0, len(shape))) :]

    masks = {
        "array": lambda: rng.random(spread(*batch, *rows, keys)) < 0.7,
        "function": lambda: lambda i, j: (2 * i + j) % 3 != 0,
        "sparse": lambda: scipy.sparse.csr_array(rng.random((*(rows or (1,)), keys)) < 0.6),
    }
    biases = {
        "array": lambda: rng.standard_normal(spread(*batch, *rows, keys)),
        "function": lambda: lambda i, j: 0.25 * (i - j),
    }
    side = st.none() | st.integers(0, 4)
    makers = {
        "mask": lambda: masks[draw(st.sampled_from(sorted(masks)))](),
        "bias": lambda: biases[draw(st.sampled_from(sorted(biases)))](),
        "key_lengths": lambda: per_item(0, keys),
        "query_lengths": lambda: per_item(0, length),
        "is_causal": lambda: True,
        "query_offset": lambda: per_item(-2, 4),
        "window": lambda: (draw(side), draw(side)),
        "softcap": lambda: draw(st.floats(0.5, 20.0)),
        "tile": lambda: (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
    }
    options = {option: make() for option, make in makers.items() if draw(st.integers(0, 2)) == 0}
    grad = rng.standard_normal((*batch, *rows, values))
    on_edges = draw(st.booleans())
    return Problem(name, make_scorer(name, rng), *arrays, grad, options, on_edges)
