"""The machines of the error bounds: IEEE 754 with the exp that a backend has."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from ..instructions.accuracy import exp_of
from ..kernel.bound import Arithmetic

EMAX: Final = {"float64": 1024, "float32": 128}


def arithmetic_of(backend: str, dtype: str) -> Arithmetic:
    """Rounding to nearest in that dtype; ``backend``: cpu, cuda, torch-cpu or torch-cuda, for its exp.

    What underflows is off by at most what exp may flush to 0, which is more than half the smallest number.
    """
    e = exp_of(backend, dtype)
    return Arithmetic(dtype, e.u, e.eps, e.flushed, Fraction(2) ** EMAX[dtype] * (1 - e.u))
