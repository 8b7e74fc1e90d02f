"""How accurate each exp in use is declared to be, and what that rests on.

    exp_of("cpu", "float64").eps        # Fraction: |y / e^x - 1| is at most this for low <= x <= high

=============  ==================================================================================================
backend        its exp
=============  ==================================================================================================
cpu            that of ``cpu_float64`` and ``cpu_float32``: a polynomial in IEEE additions and products
cuda           libdevice's, by ``cuda_float64`` and ``cuda_float32``
torch-cpu      ``torch.exp`` on the CPU
torch-cuda     ``torch.exp`` on a GPU
=============  ==================================================================================================

=============  ==================================================================================================
kind           what the declaration rests on
=============  ==================================================================================================
argument       a proof by exact rationals for every x of the domain (``polynomial``, docs/exp.md), and what was observed
exhaustive     every number of the dtype was tried; ``worst`` is the greatest error of them all
vendor         what its makers state, and what was observed
=============  ==================================================================================================

``worst`` is the greatest error observed, rounded up, in the file of evidence; where there is none nothing was observed.
An ulp of a result is between u and 2u of it, so that 1 ulp is declared as 2u.  Nothing here is imported that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ...errors import NotCovered

__all__ = ["EXPS", "Exp", "exp_of"]

ROUNDOFF: Final = {"float64": Fraction(1, 2**53), "float32": Fraction(1, 2**24)}
DOMAIN: Final = {"float64": (-708, 709), "float32": (-87, 88)}
FLUSHED: Final = {"float64": Fraction(1, 2**1021), "float32": Fraction(1, 2**125)}  # above e^-708, above e^-87
CPU: Final = "evidence/exp-cpu.json"
CUDA: Final = "evidence/exp-cuda.json"
ABOUT: Final = "docs/exp.md"


@dataclass(frozen=True, slots=True)
class Exp:
    """One exp: y for e^x.  ``in_u`` is its declared relative error in units of the unit roundoff."""

    backend: str
    dtype: str
    in_u: Fraction
    kind: str
    worst: str  # relative, as float.hex() writes it; "" if nothing was observed
    evidence: str  # the file, or ""
    argument: str = ABOUT

    @property
    def u(self) -> Fraction:
        return ROUNDOFF[self.dtype]

    @property
    def eps(self) -> Fraction:
        """|y / e^x - 1| is at most this for ``low`` <= x <= ``high``."""
        return self.in_u * self.u

    @property
    def low(self) -> int:
        return DOMAIN[self.dtype][0]

    @property
    def high(self) -> int:
        return DOMAIN[self.dtype][1]

    @property
    def flushed(self) -> Fraction:
        """|y - e^x| is at most this for x below ``low``, minus infinity included."""
        return FLUSHED[self.dtype]


EXPS: Final = (
    Exp("cpu", "float64", Fraction(17, 10), "argument", "0x1.574767ecbb514p-53", CPU),
    Exp("cpu", "float32", Fraction(17, 10), "exhaustive", "0x1.6fe5e330284bcp-24", CPU),
    # NVIDIA: 1 ulp and 2 ulp from the correctly rounded result, which is itself half an ulp from e^x
    Exp("cuda", "float64", Fraction(3), "vendor", "0x1.33cfa62c4a4a8p-53", CUDA),
    Exp("cuda", "float32", Fraction(5), "exhaustive", "0x1.4766406525ee7p-23", CUDA),
    # SLEEF states 1.0 ulp for the functions that torch.exp calls, MKL less than 1
    Exp("torch-cpu", "float64", Fraction(2), "vendor", "0x1.1fd1acfff5fedp-53", CPU),
    Exp("torch-cpu", "float32", Fraction(2), "exhaustive", "0x1.0a55dbc01ae40p-24", CPU),
    Exp("torch-cuda", "float64", Fraction(3), "vendor", "0x1.33cfa62c4a4a8p-53", CUDA),
)


def exp_of(backend: str, dtype: str) -> Exp:
    """The declaration; ``NotCovered`` where there is none."""
    for e in EXPS:
        if (e.backend, e.dtype) == (backend, dtype):
            return e
    known = ", ".join(f"{e.backend}/{e.dtype}" for e in EXPS)
    raise NotCovered(f"exp of {backend}/{dtype}: no accuracy is declared; there are {known}")
