"""Instructions of the CUDA target, float32: what a generated kernel may call.  Hand-written, tested, not proved.

Meaning of each name over the reals, and its rule in floating point:

==================  =====================  ==================================================================
name                means                  in floating point
==================  =====================  ==================================================================
ZERO, ONE           0, 1                   constants of type ``real``
LOWEST              Empty                  minus infinity; no datum may hold it
real(x)             x                      rounds a quotient of two integer literals, or an index, to ``real``
fmax(a, b)          max; Empty is neutral  a on a tie, so also of two zeros; NaN if either is NaN
exp(x)              e^x                    2 ulp at most
sqrt(x)             square root            correctly rounded
rescale(m, t)       0 of Empty, e^(m-t)    the factor of a softmax state of maximum m in one of maximum t
quotient(o, l)      0 of Empty, o/l        l = 0 exactly when the state is Empty (else l >= 1); correctly rounded
span, view          as in ``cuda.py``      the loop of a text, and two axes over cells of shared memory
==================  =====================  ==================================================================

``exp`` is that of NVIDIA's libdevice.  NVIDIA states that error from wide, not exhaustive, tests (CUDA C++ Programming
Guide, mathematical functions); ``tests/gpu`` measures it.  A result below the normal range is subnormal, not 0.
No fastmath anywhere: nothing is reassociated, divisions and roots are IEEE's, and subnormal numbers are kept.  But
libNVVM contracts ``a * b + c`` to one fused multiply-add where it likes.  The error bound holds with and without; bits
are claimed for one build on one device alone, and differ from the CPU's.

``cuda`` is Numba's; a text names of it ``shared.array``, ``local.array``, ``syncthreads``, ``threadIdx`` and
``blockIdx``.  ``launch`` keeps what a text says of its launch.
"""

from __future__ import annotations

import math
from typing import Any

from numpy import float32 as real

from .cuda import cuda, instruction, launch, span, view

__all__ = [
    "LOWEST", "ONE", "ZERO", "cuda", "exp", "fmax", "launch", "quotient", "real", "rescale", "span", "sqrt", "view",
]  # fmt: skip

ZERO = real(0)
ONE = real(1)
LOWEST = real("-inf")


@instruction
def exp(x: Any) -> Any:
    """e^x; 0 of minus infinity, infinity where it would not be finite, NaN of NaN."""
    return math.exp(x)


@instruction
def sqrt(x: Any) -> Any:
    """The square root."""
    return math.sqrt(x)


@instruction
def fmax(a: Any, b: Any) -> Any:
    """The greater of two; LOWEST is neutral; NaN if either is NaN; ``a`` on a tie."""
    return b if b > a or b != b else a  # noqa: PLR0124  NaN is not itself


@instruction
def rescale(m: Any, t: Any) -> Any:
    """e^(m - t), and 0 of Empty: minus infinity is never subtracted from itself."""
    return ZERO if m == LOWEST else exp(m - t)


@instruction
def quotient(o: Any, l: Any) -> Any:
    """o / l, and 0 of the Empty state."""
    return ZERO if l == ZERO else o / l
