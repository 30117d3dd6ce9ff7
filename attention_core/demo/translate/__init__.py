"""Attention reads dates: an encoder and a decoder that write "mardi 3 juin 1997" as 1997-06-03.

`dates` makes strings to learn from, `alphabet` makes numbers of them, `layers` and `model` are the
network, `train` teaches it, and `read` answers with the parameters in ``trained``.
"""

__all__: list[str] = []
