"""Blocks of numbers that stay in vector registers, for products in compiled code.

A block has a few lines of numbers. Adding products to it costs a load for each row of the
one factor and for each vector of the other, and one instruction for each vector of the block. That
is what matrix products at full speed are made of (Van Zee and van de Geijn 2015, "BLIS", ACM
Transactions on Mathematical Software 41(3), doi:10.1145/2764454). Compilers do not find it by
themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import Parameter, Signature
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel, register_default
from numba.extending import intrinsic

from attention_core.compiled.polynomials import EXP_CONSTANTS

__all__ = ["Blocks", "at", "blocks", "is_any_above", "transpose_square"]

_SCALARS = {"float32": ir.FloatType(), "float64": ir.DoubleType(), "uint8": ir.IntType(8)}
_BYTES = {"float32": 4, "float64": 8, "uint8": 1}
_INT, _LONG = ir.IntType(32), ir.IntType(64)

Generator = Callable[[Any, Any, Any, Any], Any]
"""A function that generates code, given numba's context, a builder, the types and the arguments."""


class Blocks(NamedTuple):
    """The operations on blocks of one dtype and number of rows.

    Addresses are pointers, steps between rows in memory are bytes, and a line is a block of one
    row. A block in memory is not aligned further than its numbers.
    """

    spread: Any
    """``spread(number)``: a block of one number."""
    load: Any
    """``load(address, step)``: a block from memory."""
    store: Any
    """``store(block, address, step)``: a block to memory."""
    multiply_add: Any
    """``multiply_add(block, column, step, line)``: the block plus the outer product of a number in
    memory for each row, and a line in memory."""
    masked: Any
    """``masked(block, address, step, number)``: the block with the number where bytes are 0."""
    add: Any
    """``add(block, block)``"""
    subtract: Any
    """``subtract(block, block)``"""
    multiply: Any
    """``multiply(block, block)``"""
    divide: Any
    """``divide(block, block)``"""
    larger: Any
    """``larger(block, other)``: the larger numbers of both; NaN in the other is passed over."""
    exponential: Any
    """``exponential(block)``: of numbers up to 1, and 0 where faint."""


class _Block(types.Type):  # type: ignore[misc]  # numba has no types
    def __init__(self, dtype: str, lanes: int, rows: int) -> None:
        super().__init__(f"Block({dtype}, {lanes}, {rows})")
        self.vector = ir.VectorType(_SCALARS[dtype], lanes)
        self.rows = rows


@register_default(_Block)
class _BlockModel(PrimitiveModel):  # type: ignore[misc]  # numba has no types
    def __init__(self, manager: Any, block: _Block) -> None:
        super().__init__(manager, block, ir.ArrayType(block.vector, block.rows))


@cache
def blocks(dtype: str, lanes: int, rows: int) -> Blocks:
    """The operations on blocks of a dtype, with lines of `lanes` numbers, and a number of rows."""
    block, scalar = _Block(dtype, lanes, rows), _SCALARS[dtype]
    vector, number_type = block.vector, getattr(types, dtype)
    address = types.voidptr

    def each_row(function: Callable[..., Any]) -> Generator:
        """Generate a block, row by row, from blocks."""

        def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
            found = given[0]
            for row in range(rows):
                own = function(builder, *[builder.extract_value(each, row) for each in given])
                found = builder.insert_value(found, own, row)
            return found

        return generate

    def load(_: Any, builder: Any, __: Any, given: Any) -> Any:
        found = ir.Constant(ir.ArrayType(vector, rows), None)
        for row in range(rows):
            own = _load(builder, vector, given[0], given[1], row)
            found = builder.insert_value(found, own, row)
        return found

    def spread(_: Any, builder: Any, __: Any, given: Any) -> Any:
        found = ir.Constant(ir.ArrayType(vector, rows), None)
        for row in range(rows):
            found = builder.insert_value(found, _spread(builder, vector, given[0]), row)
        return found

    def store(context: Any, builder: Any, __: Any, given: Any) -> Any:
        for row in range(rows):
            own = builder.extract_value(given[0], row)
            builder.store(own, _place(builder, vector, given[1], given[2], row)).align = _BYTES[
                dtype
            ]
        return context.get_dummy_value()

    def multiply_add(_: Any, builder: Any, __: Any, given: Any) -> Any:
        found, column, step, second = given
        factor = _load(builder, vector, second, step, 0)
        for row in range(rows):
            number = _spread(builder, vector, _load(builder, scalar, column, step, row))
            own = _fused(builder, number, factor, builder.extract_value(found, row))
            found = builder.insert_value(found, own, row)
        return found

    def masked(_: Any, builder: Any, __: Any, given: Any) -> Any:
        found, start, step, number = given
        bytes_ = ir.VectorType(_SCALARS["uint8"], vector.count)
        for row in range(rows):
            own = _load(builder, bytes_, start, step, row)
            is_allowed = builder.icmp_unsigned("!=", own, ir.Constant(bytes_, None))
            number_line = _spread(builder, vector, number)
            own = builder.select(is_allowed, builder.extract_value(found, row), number_line)
            found = builder.insert_value(found, own, row)
        return found

    return Blocks(
        spread=_operation(block(number_type), spread),
        load=_operation(block(address, types.int64), load),
        store=_operation(types.void(block, address, types.int64), store),
        multiply_add=_operation(block(block, address, types.int64, address), multiply_add),
        masked=_operation(block(block, address, types.int64, number_type), masked),
        add=_operation(block(block, block), each_row(lambda b, x, y: b.fadd(x, y))),
        subtract=_operation(block(block, block), each_row(lambda b, x, y: b.fsub(x, y))),
        multiply=_operation(block(block, block), each_row(lambda b, x, y: b.fmul(x, y))),
        divide=_operation(block(block, block), each_row(lambda b, x, y: b.fdiv(x, y))),
        larger=_operation(block(block, block), each_row(_larger)),
        exponential=_operation(block(block), each_row(_exponential)),
    )


@cache
def is_any_above(dtype: str, lanes: int) -> Any:
    """``is_any_above(line, other)``: whether a number is larger than that of another line."""
    line = _Block(dtype, lanes, 1)

    def generate(_: Any, builder: Any, __: Any, given: Any) -> Any:
        own, other = (builder.extract_value(each, 0) for each in given)
        bits = builder.fcmp_ordered(">", own, other)
        integer = ir.IntType(line.vector.count)
        return builder.icmp_unsigned("!=", builder.bitcast(bits, integer), integer(0))

    return _operation(types.boolean(line, line), generate)


@cache
def transpose_square(dtype: str) -> tuple[Any, int]:
    """``transpose(address, step, out, out_step)``: columns of n rows of n numbers as rows; and n.

    Every stage interleaves the first half of the vectors with the second.
    """
    count = 64 // max(_BYTES[dtype], 4)
    vector = ir.VectorType(_SCALARS[dtype], count)
    halves = [
        ir.Constant(
            ir.VectorType(_INT, count),
            [n // 2 + start + (n % 2) * count for n in range(count)],
        )
        for start in (0, count // 2)
    ]

    def generate(context: Any, builder: Any, __: Any, given: Any) -> Any:
        address, step, out, out_step = given
        rows = [_load(builder, vector, address, step, row) for row in range(count)]
        for _ in range(count.bit_length() - 1):
            pairs = zip(rows[: count // 2], rows[count // 2 :], strict=True)
            rows = [builder.shuffle_vector(a, b, half) for a, b in pairs for half in halves]
        for row, own in enumerate(rows):
            place = _place(builder, vector, out, out_step, row)
            builder.store(own, place).align = _BYTES[dtype]
        return context.get_dummy_value()

    kind = types.void(types.voidptr, types.int64, types.voidptr, types.int64)
    return _operation(kind, generate), count


def _operation(signature: Any, generate: Generator) -> Any:
    """The function of compiled code with these types, and with the code that is generated."""

    def template(*_: Any) -> Any:
        return signature, generate

    names = [f"_{n}" for n in range(len(signature.args) + 1)]  # of the context and the arguments
    parameters = [Parameter(name, Parameter.POSITIONAL_ONLY) for name in names]
    template.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # numba reads it
    return intrinsic(template)


at = _operation(
    types.voidptr(types.voidptr, types.int64),
    lambda _, builder, __, given: builder.gep(given[0], [given[1]]),
)
"""``at(address, offset)``: a pointer some bytes after another."""


def _place(builder: Any, kind: Any, address: Any, step: Any, row: int) -> Any:
    offset = builder.mul(step, ir.Constant(_LONG, row))
    return builder.bitcast(builder.gep(address, [offset]), kind.as_pointer())


def _load(builder: Any, kind: Any, address: Any, step: Any, row: int) -> Any:
    found = builder.load(_place(builder, kind, address, step, row))
    scalar = getattr(kind, "element", kind)
    found.align = {"float": 4, "double": 8}.get(str(scalar), 1)
    return found


def _spread(builder: Any, vector: Any, number: Any) -> Any:
    """A vector of one number."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
    everywhere = ir.Constant(ir.VectorType(_INT, vector.count), None)
    return builder.shuffle_vector(first, undefined, everywhere)


def _fused(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """``x * y + z``, rounded once."""
    kind = ir.FunctionType(x.type, [x.type] * 3)
    bits = {"float": 32, "double": 64}[str(x.type.element)]
    name = f"llvm.fma.v{x.type.count}f{bits}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [x, y, z])


def _larger(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", y, x), y, x)


def _exponential(builder: Any, x: Any) -> Any:
    """``exp(x)`` of numbers up to 1, with 0 where it is faint: below the smallest normal / eps.

    The polynomial is that of `polynomials.exp_float32` and `exp_float64`, without their clamps.
    """
    vector = x.type
    dtype = {"float": "float32", "double": "float64"}[str(vector.element)]
    info, constants = np.finfo(dtype), EXP_CONSTANTS[dtype]
    integers = ir.VectorType(ir.IntType(info.bits), vector.count)

    def spread(number: Any, kind: Any = vector) -> Any:
        return ir.Constant(kind, [number.item()] * vector.count)

    shifted = _fused(builder, x, spread(constants.per_log2), spread(constants.round))
    n = builder.fsub(shifted, spread(constants.round))
    r = _fused(builder, n, spread(-constants.log2), x)
    r = _fused(builder, n, spread(-constants.log2_rest), r)
    p = spread(constants.coefficients[-1])
    for coefficient in constants.coefficients[-2::-1]:
        p = _fused(builder, p, r, spread(coefficient))
    p = _fused(builder, builder.fmul(r, r), p, r)
    power = builder.shl(builder.bitcast(shifted, integers), spread(constants.shift, integers))
    power = builder.bitcast(builder.add(power, spread(constants.bias, integers)), vector)  # 2^n
    found = _fused(builder, p, power, power)
    faint = spread(np.log(info.tiny / info.eps))
    return builder.select(builder.fcmp_ordered("<", x, faint), spread(info.dtype.type(0)), found)
