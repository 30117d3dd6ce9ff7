"""The components of this distribution; listing them imports only this module, so it stays light."""

from __future__ import annotations

from collections.abc import Iterator

from attention_core import BiasSpec, NormalizerSpec, ScorerSpec, hookimpl

__all__ = ["attention_core_biases", "attention_core_normalizers", "attention_core_scorers"]


@hookimpl
def attention_core_biases() -> Iterator[BiasSpec]:
    """Yield a kernel of distances."""
    yield BiasSpec(
        name="kerple",
        factory="attention_core_kernels.kerple:KerpleBias",
        summary="a logarithmic kernel of the distance, learned for each head",
        formula="-|amplitude| log(1 + |rate| |j - i|)",
        reference="Chi et al. 2022, arXiv:2205.09921",
        example={"amplitude": [1.0, 0.5], "rate": [0.5, 2.0]},
    )


@hookimpl
def attention_core_normalizers() -> Iterator[NormalizerSpec]:
    """Yield a softmax that scales with the number of keys."""
    yield NormalizerSpec(
        name="scalable_softmax",
        factory="attention_core_kernels.scalable_softmax:ScalableSoftmax",
        summary="a softmax that does not flatten over many keys",
        formula="n^(scale s) / sum n^(scale s)",
        reference="Nakanishi 2025, arXiv:2501.19399",
    )


@hookimpl
def attention_core_scorers() -> Iterator[ScorerSpec]:
    """Yield four kernels, and graph attention."""
    yield ScorerSpec(
        name="cosine",
        factory="attention_core_kernels.cosine:CosineScorer",
        summary="cosine of the angle between query and key, sharpened by a temperature",
        formula="q . k / (|q| |k| temperature)",
        reference="Graves, Wayne and Danihelka 2014, arXiv:1410.5401",
    )
    yield ScorerSpec(
        name="gatv2",
        factory="attention_core_kernels.gatv2:make_gatv2",
        summary="graph attention in which the ranking of keys depends on the query",
        formula="a . LeakyReLU(W_q q + W_k k + b)",
        reference="Brody, Alon and Yahav 2022, arXiv:2105.14491",
        example={"query_dim": 4, "key_dim": 3, "hidden_dim": 5, "rng": 0},
    )
    yield ScorerSpec(
        name="laplacian",
        factory="attention_core_kernels.laplacian:LaplacianScorer",
        summary="Laplace kernel: closeness in the sum of absolute differences",
        formula="-gamma |q - k|_1",
        reference="Kim et al. 2019, arXiv:1901.05761",
    )
    yield ScorerSpec(
        name="polynomial",
        factory="attention_core_kernels.polynomial:PolynomialScorer",
        summary="weights in proportion to a polynomial kernel",
        formula="degree log(gamma q . k + coef0)",
        reference="Tsai et al. 2019, doi:10.18653/v1/D19-1443",
    )
    yield ScorerSpec(
        name="rbf",
        factory="attention_core_kernels.rbf:RBFScorer",
        summary="Gaussian kernel: the context is the Nadaraya-Watson estimate",
        formula="-gamma |q - k|^2",
        aliases=("nadaraya_watson",),
        reference="Nadaraya 1964, doi:10.1137/1109020",
    )
