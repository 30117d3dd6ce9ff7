"""Attention for arrays of other libraries: shared parts of their adapters."""
