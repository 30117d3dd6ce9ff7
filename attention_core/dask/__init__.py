"""Attention over Dask arrays: keys, queries and batches in chunks, on one machine or many.

Nothing is computed before ``.compute()``. Each task attends to one chunk of keys, and the results
of all chunks are merged exactly.

>>> import dask.array as da
>>> import attention_core.dask
>>> x = da.ones((8, 2), chunks=(2, 2))
>>> result = attention_core.dask.attend(x, x, x, scorer="dot")
>>> result.context
dask.array<attend-context, shape=(8, 2), dtype=float64, chunksize=(2, 2), chunktype=numpy.ndarray>
>>> result.context[:1].compute()
array([[1., 1.]])
"""

try:
    import dask.array as _array  # noqa: F401 - the modules below need it
except ImportError as error:
    from attention_core.errors import MissingExtraError

    raise MissingExtraError(
        "attention_core.dask needs Dask and its arrays: pip install 'attention-core[dask]'"
    ) from error

from attention_core.dask.attending import attend
from attention_core.dask.result import DaskGradients, DaskResult, DaskTopK

__all__ = ["DaskGradients", "DaskResult", "DaskTopK", "attend"]
