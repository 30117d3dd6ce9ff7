"""Polynomial `exp` and `tanh` for compiled code.

Each function is inlined into the loop that calls it. It has no branch, no conversion to an integer
and no table, so the loop vectorizes. With ``n`` the integer nearest to ``x / log 2`` and
``r = x - n log 2``, ``exp(x) = 2^n (1 + p)``, where ``p = expm1(r)`` is a polynomial fitted at
Chebyshev nodes of ``|r| <= log(2) / 2``. Adding ``1.5 * 2^23`` (``1.5 * 2^52`` in float64) rounds a
number to an integer in its last bits, which a shift turns into ``2^n``. The clamps keep NaN.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["EXP_CONSTANTS", "exp_float32", "exp_float64", "tanh_float32", "tanh_float64"]

_F = np.float32
_D = np.float64

_F_ROUND, _D_ROUND = _F(1.5 * 2**23), _D(1.5 * 2**52)
_F_PER_LOG2, _D_PER_LOG2 = _F(1.4426950408889634), _D(1.4426950408889634)
# log 2 in two parts; the first has few enough digits that its product with n is exact
_F_LOG2, _F_LOG2_REST = _F(0.693359375), _F(-2.12194440054690583e-4)
_D_LOG2, _D_LOG2_REST = _D(0.693147180369123816490), _D(1.90821492927058770002e-10)
# beyond these the result is inf or 0, without a branch that would prevent vectorization
_F_LOWEST, _F_HIGHEST = _F(-87.3), _F(89.0)
_D_LOWEST, _D_HIGHEST = _D(-708.3), _D(709.9)
# tanh is 1 beyond these
_F_STEEPEST, _D_STEEPEST = _F(20.0), _D(40.0)

_F1, _F2 = _F(1), _F(2)
_D1, _D2 = _D(1), _D(2)
_F_SHIFT, _F_BIAS, _F_LESS = np.int32(23), np.int32(127 << 23), np.int32(126 << 23)
_D_SHIFT, _D_BIAS, _D_LESS = np.int64(52), np.int64(1023 << 52), np.int64(1022 << 52)

_FA = _F(0.5000000014291087)
_FB = _F(0.16666573358081646)
_FC = _F(0.041666456777921176)
_FD = _F(0.008363776466628834)
_FE = _F(0.0013934544520278684)

_DA = _D(0.5000000000000001)
_DB = _D(0.16666666666666702)
_DC = _D(0.04166666666667558)
_DD = _D(0.00833333333329259)
_DE = _D(0.0013888888883092404)
_DF = _D(0.00019841269961802687)
_DG = _D(2.4801601604744708e-05)
_DH = _D(2.7557169226648424e-06)
_DI = _D(2.754260303242586e-07)
_DJ = _D(2.5134356553887526e-08)
_DK = _D(2.619974474013432e-09)


class _ExpConstants(NamedTuple):
    """The numbers of an `exp`."""

    per_log2: Any
    round: Any
    log2: Any
    log2_rest: Any
    shift: Any
    bias: Any
    coefficients: tuple[Any, ...]


EXP_CONSTANTS = {
    "float32": _ExpConstants(
        _F_PER_LOG2, _F_ROUND, _F_LOG2, _F_LOG2_REST, _F_SHIFT, _F_BIAS, (_FA, _FB, _FC, _FD, _FE)
    ),
    "float64": _ExpConstants(
        _D_PER_LOG2,
        _D_ROUND,
        _D_LOG2,
        _D_LOG2_REST,
        _D_SHIFT,
        _D_BIAS,
        (_DA, _DB, _DC, _DD, _DE, _DF, _DG, _DH, _DI, _DJ, _DK),
    ),
}
"""For `attention_core.compiled.products.registers`, which generates single instructions."""


def exp_float32(x: Any) -> Any:
    """``exp(x)`` in float32: relative error below 1.2e-7, 0 below -87.

    >>> float(exp_float32(np.float32(1)))
    2.7182817
    """
    y = min(x, _F_HIGHEST)
    y = max(y, _F_LOWEST)
    shifted = np.float32(y * _F_PER_LOG2 + _F_ROUND)
    n = shifted - _F_ROUND
    r = y - n * _F_LOG2 - n * _F_LOG2_REST
    p = r + r * r * (_FA + r * (_FB + r * (_FC + r * (_FD + r * _FE))))
    half = np.int32((shifted.view(np.int32) << _F_SHIFT) + _F_LESS).view(
        np.float32
    )  # 2^(n - 1), 0 for -126
    return (p + _F1) * half * _F2  # 2^128 would be inf


def tanh_float32(x: Any) -> Any:
    """``tanh(x)`` in float32, relative error below 2.5e-7: ``e / (e + 2)`` for ``expm1(2 x)``.

    >>> float(tanh_float32(np.float32(0.5)))
    0.46211717
    """
    y = x + x
    y = min(y, _F_STEEPEST)
    y = max(y, -_F_STEEPEST)
    shifted = np.float32(y * _F_PER_LOG2 + _F_ROUND)
    n = shifted - _F_ROUND
    r = y - n * _F_LOG2 - n * _F_LOG2_REST
    p = r + r * r * (_FA + r * (_FB + r * (_FC + r * (_FD + r * _FE))))
    scale = np.int32((shifted.view(np.int32) << _F_SHIFT) + _F_BIAS).view(np.float32)  # 2^n
    e = p * scale + (scale - _F1)
    return e / (e + _F2)


def exp_float64(x: Any) -> Any:
    """``exp(x)`` in float64: relative error below 4e-16, 0 below -708.1.

    >>> float(exp_float64(np.float64(1)))
    2.718281828459045
    """
    y = min(x, _D_HIGHEST)
    y = max(y, _D_LOWEST)
    shifted = np.float64(y * _D_PER_LOG2 + _D_ROUND)
    n = shifted - _D_ROUND
    r = y - n * _D_LOG2 - n * _D_LOG2_REST
    high = _DF + r * (_DG + r * (_DH + r * (_DI + r * (_DJ + r * _DK))))
    p = r + r * r * (_DA + r * (_DB + r * (_DC + r * (_DD + r * (_DE + r * high)))))
    half = np.int64((shifted.view(np.int64) << _D_SHIFT) + _D_LESS).view(
        np.float64
    )  # 2^(n - 1), 0 for -1022
    return (p + _D1) * half * _D2  # 2^1024 would be inf


def tanh_float64(x: Any) -> Any:
    """``tanh(x)`` in float64, relative error below 7e-16.

    >>> float(tanh_float64(np.float64(0.5)))
    0.46211715726000973
    """
    y = x + x
    y = min(y, _D_STEEPEST)
    y = max(y, -_D_STEEPEST)
    shifted = np.float64(y * _D_PER_LOG2 + _D_ROUND)
    n = shifted - _D_ROUND
    r = y - n * _D_LOG2 - n * _D_LOG2_REST
    high = _DF + r * (_DG + r * (_DH + r * (_DI + r * (_DJ + r * _DK))))
    p = r + r * r * (_DA + r * (_DB + r * (_DC + r * (_DD + r * (_DE + r * high)))))
    scale = np.int64((shifted.view(np.int64) << _D_SHIFT) + _D_BIAS).view(np.float64)  # 2^n
    e = p * scale + (scale - _D1)
    return e / (e + _D2)
