"""The bundled components; listing them imports only this module, so it stays light."""

from __future__ import annotations

from collections.abc import Iterator

from attention_core import BiasSpec, NormalizerSpec, ScorerSpec, hookimpl

__all__ = ["attention_core_biases", "attention_core_normalizers", "attention_core_scorers"]


@hookimpl
def attention_core_biases() -> Iterator[BiasSpec]:
    """Yield biases of relative positions."""
    yield BiasSpec(
        name="alibi",
        factory="attention_core_standard.biases:make_alibi",
        summary="a penalty linear in the distance, with a slope for each head",
        formula="-slope |j - i|",
        reference="Press, Smith and Lewis 2022, arXiv:2108.12409",
        example={"heads": 1},
    )
    yield BiasSpec(
        name="relative",
        factory="attention_core_standard.biases:make_relative",
        summary="a learned number for each clipped distance",
        formula="table[clip(j - i, -K, K) + K]",
        reference="Shaw, Uszkoreit and Vaswani 2018, arXiv:1803.02155",
        example={"max_distance": 4},
    )
    yield BiasSpec(
        name="t5",
        factory="attention_core_standard.biases:make_t5",
        summary="a learned number for each bucket of distances; buckets grow logarithmically",
        formula="table[bucket(j - i)]",
        reference="Raffel et al. 2020, arXiv:1910.10683",
        example={"buckets": 8, "max_distance": 16},
    )


@hookimpl
def attention_core_normalizers() -> Iterator[NormalizerSpec]:
    """Yield softmax, sigmoid, and the normalizers with exact zeros."""
    yield NormalizerSpec(
        name="entmax",
        factory="attention_core_standard.normalizers:Entmax",
        summary="weights that sum to 1, exactly 0 far below the best; alpha=1.5 by default",
        formula="max((alpha - 1) s - tau, 0) ^ (1 / (alpha - 1))",
        reference="Peters, Niculae and Martins 2019, arXiv:1905.05702",
    )
    yield NormalizerSpec(
        name="sigmoid",
        factory="attention_core_standard.normalizers:Sigmoid",
        summary="an independent weight for each key, without a sum",
        formula="1 / (1 + exp(-(s + offset)))",
        reference="Ramapuram et al. 2024, arXiv:2409.04431",
    )
    yield NormalizerSpec(
        name="softmax",
        factory="attention_core:Softmax",
        summary="exponentials divided by their sum, with an optional learnable sink",
        formula="exp(s) / (sum exp(s) + exp(sink))",
        reference="Xiao et al. 2024 for the sink, arXiv:2309.17453",
    )
    yield NormalizerSpec(
        name="sparsemax",
        factory="attention_core_standard.normalizers:Sparsemax",
        summary="projection of the scores onto the simplex, with exact zeros",
        formula="max(s - tau, 0)",
        reference="Martins and Astudillo 2016, arXiv:1602.02068",
    )


@hookimpl
def attention_core_scorers() -> Iterator[ScorerSpec]:
    """Yield the classic alignment functions and the Gaussian kernel."""
    yield ScorerSpec(
        name="additive",
        factory="attention_core_standard.additive:make_additive",
        summary="a small feed-forward network scores each query-key pair",
        formula="v . tanh(W_q q + W_k k + b)",
        aliases=("bahdanau", "mlp"),
        reference="Bahdanau, Cho and Bengio 2015, arXiv:1409.0473",
        example={"query_dim": 4, "key_dim": 3, "hidden_dim": 5, "rng": 0},
    )
    yield ScorerSpec(
        name="dot",
        factory="attention_core_standard.inner_product:DotScorer",
        summary="inner product of query and key",
        formula="q . k",
        reference="Luong, Pham and Manning 2015, doi:10.18653/v1/D15-1166",
    )
    yield ScorerSpec(
        name="gaussian",
        factory="attention_core_standard.gaussian:make_gaussian",
        summary="squared distance with a learned scale for each feature",
        formula="-sum_d (a_d (q_d - k_d))^2",
        aliases=("ard",),
        reference="Neal 1996, doi:10.1007/978-1-4612-0745-0",
        example={"dim": 4},
    )
    yield ScorerSpec(
        name="general",
        factory="attention_core_standard.inner_product:make_general",
        summary="bilinear form between query and key, optionally of low rank",
        formula="q . W k",
        aliases=("bilinear", "luong"),
        reference="Luong, Pham and Manning 2015, doi:10.18653/v1/D15-1166",
        example={"query_dim": 4, "key_dim": 3, "rng": 0},
    )
    yield ScorerSpec(
        name="scaled_dot",
        factory="attention_core_standard.inner_product:ScaledDotScorer",
        summary="inner product divided by the square root of the key's features",
        formula="q . k / sqrt(D)",
        reference="Vaswani et al. 2017, arXiv:1706.03762",
    )
