"""Threads for blocks of work, with BLAS limited to one thread."""
