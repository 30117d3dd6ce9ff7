"""Normalizers: from scores to weights, in tiles, on edges, and back."""
