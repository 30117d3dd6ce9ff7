"""The names of the bundled components; tests list them only here."""

__all__ = ["BIASES", "NORMALIZERS", "SCORERS"]

SCORERS = ["additive", "dot", "gaussian", "general", "scaled_dot"]
NORMALIZERS = ["entmax", "sigmoid", "softmax", "sparsemax"]
BIASES = ["alibi", "relative", "t5"]
