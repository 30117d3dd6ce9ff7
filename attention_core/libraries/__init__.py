"""Attention for arrays of other libraries: what their adapters share."""
