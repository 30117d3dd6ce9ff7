"""Train the network: ``python -m attention_core.demo.translate.train --config FILE``.

The config chooses the scorer by name. The dates, the network and the optimizer (Adam, with one step
for each batch of new strings) are always the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib.resources import as_file, files
from itertools import islice
from pathlib import Path

import numpy as np

from attention_core import Attention
from attention_core.demo.translate.aligned import year_alignment
from attention_core.demo.translate.alphabet import padded, written_codes
from attention_core.demo.translate.dates import Example, examples
from attention_core.demo.translate.model import Arrays, Translator
from attention_core.demo.translate.nonsense import with_nonsense
from attention_core.demo.translate.read import accuracy
from attention_core.demo.translate.store import save
from attention_core.parallel.blas import blas_on_one_thread

__all__ = ["Adam", "held_out_examples", "main", "train"]

STEPS = 1_500
BATCH = 128
RATE = 3e-3
HELD_OUT = 5_000


class Adam:
    """The Adam optimizer.

    m = 0.9 m + 0.1 g,  v = 0.99 v + 0.01 g^2,  p = p - rate m' / (sqrt(v') + 1e-8), where m' and
    v' correct the bias of initial values of 0.

    References
    ----------
    Kingma and Ba 2015, arXiv:1412.6980.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._first: Arrays = {}
        self._second: Arrays = {}

    def step(self, parameters: Arrays, gradients: Arrays, rate: float) -> Arrays:
        """Return the parameters after one step; the arguments are not changed."""
        self.steps += 1
        changed = {}
        for name, array in parameters.items():
            grad = gradients[name]
            self._first[name] = 0.9 * self._first.get(name, 0) + 0.1 * grad
            self._second[name] = 0.99 * self._second.get(name, 0) + 0.01 * grad**2
            pace = np.sqrt(self._second[name] / (1 - 0.99**self.steps)) + 1e-8
            changed[name] = array - rate * self._first[name] / (1 - 0.9**self.steps) / pace
        return changed


def train(
    attention: Attention,
    *,
    steps: int = STEPS,
    seed: int = 0,
    strength: float = 0.0,
    report: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Translator:
    """Train a network on `steps` batches of strings, none of a held-out day.

    Parameters
    ----------
    attention
        Attention with any differentiable scorer for queries and keys of 64 features.
    strength
        Strength of a loss on the weights, which teaches where the digits of years are; 0 for none.
    report
        Called after each step with its number and its loss.
    """
    for_network, for_dates, for_nonsense = np.random.default_rng(seed).spawn(3)
    translator = Translator.new(attention, for_network)
    stream = with_nonsense(examples(for_dates, held_out=False), for_nonsense)
    adam = Adam()
    with blas_on_one_thread() as again, again:  # small products are slower on several threads
        for step in range(steps):
            texts, dates = zip(*islice(stream, BATCH), strict=True)
            where = year_alignment(texts, dates) if strength else None
            loss, gradients = translator.loss(
                *padded(texts), written_codes(dates), where=where, strength=strength
            )
            rate = RATE * min(1.0, 2 * (1 - step / steps))  # to zero in the second half
            translator = translator.with_parameters(
                adam.step(translator.parameters, gradients, rate)
            )
            report(step + 1, loss)
    return translator


def held_out_examples() -> list[Example]:
    """The fixed strings of held-out days on which the accuracy is measured."""
    return list(islice(examples(np.random.default_rng(0), held_out=True), HELD_OUT))


def main(arguments: list[str] | None = None) -> None:
    """Train a network, measure its accuracy, and save it."""
    parser = argparse.ArgumentParser(
        prog="python -m attention_core.demo.translate.train",
        description="Train the translation of dates with any scorer, and measure its accuracy.",
    )
    parser.add_argument(
        "--config", type=Path, help="config of the attention; by default that of the package"
    )
    parser.add_argument("--output", type=Path, help="folder for the trained network")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    def report(step: int, loss: float) -> None:
        if step % 100 == 0:
            sys.stdout.write(f"step {step}: loss {loss:.5f}\n")
            sys.stdout.flush()

    with as_file(files("attention_core.demo.translate") / "configs") as configs:
        attention = Attention.from_config(options.config or configs / "additive.toml")
    translator = train(attention, steps=options.steps, seed=options.seed, report=report)
    found = accuracy(translator, held_out_examples())
    sys.stdout.write(f"accuracy {found:.4f} on {HELD_OUT} strings of held-out days\n")
    if options.output is not None:
        save(translator, options.output)
        record = {
            "accuracy": found,
            "strings": HELD_OUT,
            "steps": options.steps,
            "seed": options.seed,
        }
        (options.output / "record.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
