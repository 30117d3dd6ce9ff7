"""Scorers at compiled speed, with the optional extra ``numba``."""
