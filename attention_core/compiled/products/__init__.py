"""Attention by inner products as compiled loops.

`loops` has one for tiles of many queries and one for their gradients, and `one_pass` one for few
queries. `operands` describes arrays to them; `registers` is what their products are made of.
"""
