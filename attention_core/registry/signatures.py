"""Factories: imported by reference, with their signatures checked."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from attention_core.errors import INTERRUPTS, PluginError, listed, said, shown

__all__ = ["checked_signature", "import_object", "imported"]

CONFIG_KEYS = ("name", "parameters")
"""Keys of a configured component that are not parameters of its factory."""


def imported(factory: str | Callable[..., Any], subject: str) -> Callable[..., Any]:
    """Return a factory, imported if it is given as ``"package.module:attribute"``.

    Raises
    ------
    PluginError
        Beginning with `subject`, if it cannot be imported.
    """
    if not isinstance(factory, str):
        return factory
    try:
        found: Callable[..., Any] = import_object(factory)
    except INTERRUPTS:
        raise
    except BaseException as error:
        raise PluginError(
            f"{subject}: its factory {shown(factory)} cannot be imported - {said(error)}"
        ) from error
    return found


def import_object(reference: str) -> Any:
    """The object of an entry point: ``package.module``, or ``package.module:attribute``.

    >>> import_object("math:tau.real")
    6.283185307179586
    """
    path = reference.partition("[")[0].strip()  # extras may follow
    return pkgutil.resolve_name(path if ":" in path else f"{path}:")


def checked_signature(factory: Any, subject: str) -> inspect.Signature:
    """Return the signature of a factory, in which each parameter must have a name.

    Raises
    ------
    PluginError
        Beginning with `subject`, for a factory that cannot be called like that.
    """
    if inspect.isclass(factory) and factory.__init__ is object.__init__:
        signature = inspect.Signature()  # inspect would first compile a tokenizer
    else:
        try:
            signature = inspect.signature(factory)
        except INTERRUPTS:
            raise
        except BaseException:  # noqa: BLE001 - a factory may have its own `__signature__`
            raise PluginError(
                f"{subject}: its factory must be callable with a signature, got {shown(factory)}"
            ) from None
    parameters = signature.parameters.values()
    unnamed = [str(p) for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unnamed += [f"{p.name}, /" for p in parameters if p.kind is p.POSITIONAL_ONLY]
    if unnamed:
        raise PluginError(
            f"{subject}: its factory takes ({listed(unnamed)}); name every parameter, "
            f"so that a config can give it and a typo is noticed"
        )
    for name in signature.parameters:
        if name in CONFIG_KEYS:
            raise PluginError(
                f"{subject}: its factory has a parameter {name!r}, which a config "
                f"uses for something else; rename it"
            )
    missing = sorted(getattr(factory, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"{subject}: {factory.__name__} does not implement {listed(missing)}")
    return signature
