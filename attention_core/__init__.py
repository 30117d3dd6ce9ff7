"""Attention with a pluggable alignment function.

``score(query, key) -> softmax -> weighted sum of values = context``, where the score is chosen by
name, installed as a package, or written as a class of a few lines.
"""
