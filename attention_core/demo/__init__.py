"""Attention reads handwritten digits: a demonstration on real data.

Known images are the keys, their labels the values; a new image is a query, and its context is
the label it is read as. Each scorer is chosen by name from a file in ``configs``.
"""

__all__: list[str] = []
