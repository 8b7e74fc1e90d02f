"""Instructions of the CPU target, float32: what a generated kernel may call.  Hand-written, tested, not proved.

Meaning of each name over the reals, and its rule in floating point:

==================  =====================  ==================================================================
name                means                  in floating point
==================  =====================  ==================================================================
ZERO, ONE           0, 1                   constants of type ``real``
LOWEST              Empty                  minus infinity; no datum may hold it
real(x)             x                      rounds a quotient of two integer literals, or an index, to ``real``
empty(shape, real)  scratch                cells have no value before they are written
fmax(a, b)          max; Empty is neutral  a on a tie, so also of two zeros; NaN if either is NaN
exp(x)              e^x                    1.0 ulp at most where the result is normal; 0 below -87.0
sqrt(x)             square root            correctly rounded
rescale(m, t)       0 of Empty, e^(m-t)    the factor of a softmax state of maximum m in one of maximum t
quotient(o, l)      0 of Empty, o/l        l = 0 exactly when the state is Empty (else l >= 1)
==================  =====================  ==================================================================

``exp`` is a polynomial in plain additions and products, without a branch, a table or a fused product: the lane loop
is vectorised, and the bits are the same on every machine (a C library's are not).  Reduction: x = k ln 2 + r with
|r| <= (ln 2)/2 and ln 2 in two parts (Cody and Waite), k by adding and subtracting 1.5 * 2^23; then Taylor to degree
7, and 2^k by adding k to the exponent field.  No fastmath anywhere: nothing is reassociated or contracted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy import empty
from numpy import float32 as real
from numpy import int32 as _bits

__all__ = ["LOWEST", "ONE", "ZERO", "empty", "exp", "fmax", "njit", "prange", "quotient", "real", "rescale", "sqrt"]

ZERO = real(0)
ONE = real(1)
LOWEST = real("-inf")

_HIGHEST = real("inf")
_LOG2E = real(float.fromhex("0x1.71547652b82fep+0"))
_MAGIC = real(3 * 2**22)
_LN2_HIGH = real(float.fromhex("0x1.62e400p-1"))
_LN2_LOW = real(float.fromhex("0x1.7f7d1cf79abcap-20"))
_SHIFT = _bits(23)
_UNDERFLOW, _OVERFLOW = real(-87.0), real(88.72283)
_C2 = real(1 / 2)
_C3 = real(1 / 6)
_C4 = real(1 / 24)
_C5 = real(1 / 120)
_C6 = real(1 / 720)
_C7 = real(1 / 5040)


@njit(error_model="numpy")
def exp(x: Any) -> Any:
    """e^x; 0 where the result would not be normal, infinity where it would not be finite, NaN of NaN."""
    t = x * _LOG2E + _MAGIC
    k = t - _MAGIC
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _C7
    p = p * r + _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    p = (r * r * p + r) + ONE
    y = _bits(real(p).view(_bits) + _bits(real(t).view(_bits) << _SHIFT)).view(real)
    y = ZERO if x < _UNDERFLOW else y
    y = _HIGHEST if x > _OVERFLOW else y
    return y if x == x else x  # noqa: PLR0124  NaN is not itself


@njit(error_model="numpy")
def sqrt(x: Any) -> Any:
    """The square root."""
    return np.sqrt(x)


@njit(error_model="numpy")
def fmax(a: Any, b: Any) -> Any:
    """The greater of two; LOWEST is neutral; NaN if either is NaN; ``a`` on a tie."""
    return b if b > a or b != b else a  # noqa: PLR0124  NaN is not itself


@njit(error_model="numpy")
def rescale(m: Any, t: Any) -> Any:
    """e^(m - t), and 0 of Empty: minus infinity is never subtracted from itself."""
    return ZERO if m == LOWEST else exp(m - t)


@njit(error_model="numpy")
def quotient(o: Any, l: Any) -> Any:
    """o / l, and 0 of the Empty state."""
    return ZERO if l == ZERO else o / l
