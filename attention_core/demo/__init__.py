"""Attention reads handwritten digits: a demonstration on real data.

The keys are known images, and the values are their labels. A new image is a query, and its context
is a weight for each label. Each file in ``configs`` chooses a scorer by name.
"""

__all__: list[str] = []
