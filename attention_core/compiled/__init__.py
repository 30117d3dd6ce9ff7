"""Compiled scorers, with the optional extra ``numba``."""
