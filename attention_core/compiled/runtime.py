"""Decorators and pointers for generated modules; the only file that imports numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.core.compiler import Compiler
from numba.extending import intrinsic

__all__ = [
    "called",
    "compiled",
    "exactly",
    "inlined",
    "kernel",
    "next_of",
    "pointer",
    "room",
    "without_wrapper",
]


class _NoAlias(Compiler):  # type: ignore[misc]  # numba has no types
    """A compiler that assumes arrays do not overlap; otherwise loops stay scalar."""

    def __init__(self, *state: Any) -> None:
        flags = state[5]
        flags.noalias = True
        super().__init__(*state)


def inlined(function: Callable[..., Any]) -> Any:
    """Inline a pair function into the loop that calls it.

    Sums may be reordered and fused with products; otherwise they would not vectorize. Nothing is
    assumed about NaN, Inf or the range of numbers.
    """
    return njit(
        forceinline=True,
        error_model="numpy",
        fastmath={"reassoc", "contract", "nsz"},
        pipeline_class=_NoAlias,
    )(function)


def exactly(function: Callable[..., Any]) -> Any:
    """Inline a function of one number, whose sums keep their order."""
    return njit(forceinline=True, error_model="numpy", fastmath={"contract"})(function)


def called(function: Callable[..., Any]) -> Any:
    """Compile a loop that others call: once, however many they are."""
    return njit(error_model="numpy", fastmath={"contract"}, pipeline_class=_NoAlias)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function of an address; it releases the GIL and starts no threads."""
    is_cached = function.__globals__["__cached_on_disk__"]
    return njit(nogil=True, error_model="numpy", cache=is_cached)(function)


def without_wrapper(function: Any) -> Any:
    """A kernel without the code that takes its argument from Python."""
    return njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(
        function.py_func
    )


def compiled(function: Any) -> Any:
    """The kernel itself, compiled now."""
    function.compile((types.int64,))
    return function


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def room(_: Any) -> Any:
    """The address of 4 KiB of memory that the call of a kernel has for itself."""
    return types.int64(), _generate_room


def _generate_room(_: Any, builder: Any, __: Any, ___: Any) -> Any:
    memory = cgutils.alloca_once(builder, cgutils.int8_t, size=4096)
    memory.align = 64
    return builder.ptrtoint(memory, cgutils.intp_t)


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def pointer(_: Any, __: Any) -> Any:
    """An address as a pointer that `numba.carray` takes."""
    return types.voidptr(types.int64), _generate_pointer


def _generate_pointer(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
    return builder.inttoptr(arguments[0], cgutils.voidptr_t)


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def next_of(_: Any, __: Any) -> Any:
    """Add 1 to the integer at an address; the integer before, which no other thread gets."""
    return types.int64(types.int64), _generate_next


def _generate_next(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
    integer = arguments[0].type
    place = builder.inttoptr(arguments[0], integer.as_pointer())
    return builder.atomic_rmw("add", place, integer(1), "acq_rel")
