"""Threads for blocks of work, and BLAS held to one thread meanwhile."""
