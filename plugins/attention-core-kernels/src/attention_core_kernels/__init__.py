"""Scorers for attention-core: kernels and graph attention.

Once installed, they are available by name:

>>> import attention_core as ac
>>> x = [[0.0, 0.0], [1.0, 1.0]]
>>> ac.attend(x, x, x, scorer={"name": "rbf", "gamma": 2.0}).weights.round(2)
array([[0.98, 0.02],
       [0.02, 0.98]])
"""

__all__: list[str] = []
