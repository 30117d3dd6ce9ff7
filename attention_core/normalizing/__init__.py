"""Normalizers: from scores to weights, on tiles and on edges, and their gradients."""
