"""Random generators from seeds."""

from __future__ import annotations

import numpy as np

from attention_core.errors import OptionError, OptionTypeError, shown

__all__ = ["random_generator"]


def random_generator(
    rng: object,
    *,
    error: type[Exception] = OptionError,
    type_error: type[Exception] = OptionTypeError,
) -> np.random.Generator:
    """Return the generator of a seed, or the generator itself.

    None is an error, since NumPy would choose a seed that cannot be repeated.

    Raises
    ------
    error, type_error
        For an invalid seed, and for anything that is not a seed.

    Examples
    --------
    >>> random_generator(0).integers(10)
    np.int64(8)
    """
    message = (
        f"rng must be a seed, an integer of at least 0, or a numpy.random.Generator, "
        f"got {shown(rng)}"
    )
    if rng is None or isinstance(rng, (bool, np.timedelta64)):
        raise type_error(message)
    try:
        return np.random.default_rng(rng)  # type: ignore[arg-type]  # or raises
    except TypeError:
        raise type_error(message) from None
    except ValueError:
        raise error(message) from None
