"""Arguments that a function does not have, or needs: errors that name the one that is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from types import FunctionType, MethodType
from typing import Any, TypeVar

from attention_core.errors import OptionTypeError, did_you_mean, listed, shown

__all__ = ["checked_arguments", "unexpected_argument"]

F = TypeVar("F", bound=Callable[..., Any])

_SERVES = {
    **dict.fromkeys(
        ("attn_mask", "attention_mask", "block_mask"),
        "mask= (True = may attend; nn.MultiheadAttention's is the opposite, mask=~attn_mask), or "
        "bias= for numbers to add to the scores",
    ),
    **dict.fromkeys(
        ("key_padding_mask", "src_key_padding_mask", "padding_mask"),
        "mask=~key_padding_mask with axes for heads and queries (ours: True = may attend), or "
        "key_lengths=",
    ),
    **dict.fromkeys(
        ("dropout", "dropout_p", "dropout_rate"),
        "weight_factors=attention_core.Dropout(rate, seed)",
    ),
    **dict.fromkeys(
        ("scale", "temperature", "softmax_scale", "sm_scale"),
        'scorer={"name": "scaled_dot", "scale": ...}',
    ),
    **dict.fromkeys(("causal", "use_causal_mask"), "is_causal="),
    "score_mod": "bias=, softcap=, or a scorer of your own",
    "attn_bias": "bias=",
    "window_size": "window=(left, right)",
    "logits_soft_cap": "softcap=",
    **dict.fromkeys(("embed_dim", "d_model"), "query_dim="),
    **dict.fromkeys(("num_heads", "nhead"), "heads="),
    "kdim": "key_dim=",
    "vdim": "value_dim=",
    "use_bias": "biases=",
    **dict.fromkeys(("num_kv_heads", "num_key_value_heads"), "key_heads="),
    "add_zero_attn": "zero_key=",
}
"""For arguments of other libraries, the one of ours that serves, and how to use it."""

_NEEDLESS = {
    **dict.fromkeys(
        ("need_weights", "average_attn_weights", "return_weights", "return_attention_scores"),
        "use the result's weights, which are computed when asked for",
    ),
    **dict.fromkeys(("dim", "axis"), "weights are normalized over the keys, the last axis"),
    "batch_first": "arrays are always (..., length, features)",
    "enable_gqa": "keys and values broadcast over the batch axes",
}
"""Advice for arguments of other libraries that have no counterpart."""

_PLACES = {
    **dict.fromkeys(("mask", "key_lengths", "query_lengths", "weight_factors"), "in the call"),
    **dict.fromkeys(
        ("scorer", "normalizer", "is_causal", "window", "softcap", "tile", "workers"),
        "where the attention is made",
    ),
}
"""The places of arguments that some functions do not have."""


def unexpected_argument(
    function: Callable[..., Any], unknown: Iterable[str], options: Iterable[str] = ()
) -> OptionTypeError:
    """Return the error for an argument that a function does not have.

    `options` are the names that its ``**options`` accept.

    >>> def attend(query, *, softcap=None, **unknown): ...
    >>> unexpected_argument(attend, ["soft_cap"])
    OptionTypeError("attend: unexpected argument 'soft_cap'; did you mean 'softcap'?")
    >>> unexpected_argument(attend, ["logits_soft_cap"])
    OptionTypeError("attend: unexpected argument 'logits_soft_cap'; use softcap=")
    >>> unexpected_argument(attend, ["mask"])
    OptionTypeError("attend: unexpected argument 'mask'; it belongs in the call")
    """
    from inspect import signature  # only errors need it

    name = next(iter(unknown))
    names = [*signature(function).parameters, *options]
    known = [name for name in names if name not in ("self", "unknown", "options")]
    usage, ours = _SERVES.get(name, ""), _ours(name)
    here = {_PLACES[name] for name in known if name in _PLACES}
    places = {name: own for name, own in _PLACES.items() if here and own not in here}
    place = None if ours in known else places.get(ours)
    if name in _NEEDLESS:
        hint = f"; {_NEEDLESS[name]}"
    elif usage and (place or ours in known):
        hint = f"; {f'{place}, ' if place else ''}use {usage}"
    else:
        hint = f"; it belongs {place}" if place else did_you_mean(name, [*known, *places])
        hint = hint or f"; it takes {', '.join(known)}" * (0 < len(known) <= 8)
    return OptionTypeError(f"{_called(function)}: unexpected argument {shown(name)}{hint}")


def checked_arguments(function: F, hint: str = "") -> F:
    """Have a call without an argument, or with one too many, raise an error that says so.

    `hint` follows the names of missing arguments. Of a class, the constructor is meant. The
    smallest calls are not wrapped; they collect ``**unknown`` for `unexpected_argument`.

    >>> @checked_arguments
    ... def draw(result, *, title=None): ...
    >>> draw()
    Traceback (most recent call last):
    attention_core.errors.OptionTypeError: draw: missing 'result'; call draw(result)
    """
    if isinstance(function, type):
        setattr(function, "__init__", checked_arguments(vars(function)["__init__"]))  # noqa: B010 - for mypy
        return function
    explained = _wrong_arguments

    def call(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # from inside the function
            raise explained(function, given, named, hint) from None

    # doctest leaves out functions with the globals of another module
    own = FunctionType(call.__code__, function.__globals__, closure=call.__closure__)
    return wraps(function)(own)  # type: ignore[return-value]  # same signature


def _wrong_arguments(
    function: Callable[..., Any], given: Sequence[Any], named: Mapping[str, Any], hint: str
) -> OptionTypeError:
    """The error for arguments with which Python does not call a function."""
    from inspect import signature  # only errors need it

    if given and next(iter(signature(function).parameters), "") in ("self", "cls"):
        function, given = MethodType(function, given[0]), given[1:]
    parameters, called = signature(function).parameters.values(), _called(function)
    positional = [own.name for own in parameters if own.kind is own.POSITIONAL_OR_KEYWORD]
    others = [own.name for own in parameters if own.kind is own.KEYWORD_ONLY]
    required = [own.name for own in parameters if own.default is own.empty]
    missing = [
        name
        for name in (*positional[len(given) :], *others)
        if name in required and name not in named
    ]
    unknown = [name for name in named if name not in (*positional, *others)]
    if any(own.kind is own.VAR_KEYWORD for own in parameters):  # the function checks the rest
        unknown = [n for n in unknown if _ours(n) in missing or did_you_mean(n, missing)]
    if unknown:
        return unexpected_argument(function, unknown)
    if len(given) > len(positional):
        names = listed(sorted(others, key=lambda name: name not in required), 6)
        way_out = f"; give the others by name: {names}" if names else ""
        most = f"{len(positional)} argument{'s' * (len(positional) != 1)}"
        return OptionTypeError(f"{called}: takes {most} by position, got {len(given)}{way_out}")
    if missing:
        form = [*positional, *(f"{name}=..." for name in others)]
        form = [part for part in form if part.removesuffix("=...") in required]
        return OptionTypeError(
            f"{called}: missing {', '.join(map(repr, missing))}; call "
            f"{called}({', '.join(form)}){hint}"
        )
    twice = next(name for name in positional if name in named)
    return OptionTypeError(f"{called}: {twice!r} is given by position and by name")


def _called(function: Callable[..., Any]) -> str:
    """The name of a function, that of a method after that of the class it was called on."""
    owner, name = getattr(function, "__self__", None), function.__qualname__
    if owner is not None:
        owner = owner if isinstance(owner, type) else type(owner)
        name = f"{owner.__name__}.{function.__name__}"
    return name.removesuffix(".__call__").removesuffix(".__init__")


def _ours(name: str) -> str:
    """The argument of ours that serves as one of another library."""
    return _SERVES.get(name, "").partition("=")[0] or name
