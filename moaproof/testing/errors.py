"""How far a computed attention may be from the exact one: the error model behind every tolerance.

The standard model with unit roundoff u, an exp of relative error eps, and blocks that are rescaled.  For a row with
n visible keys, with V the greatest |v| among them in a column, and D a bound on the error of its scores::

    |o^ - o|  <=  2 V tanh(D/2)  +  V ((En + Ed)/(1 - Ed) (1 + u) + u)  +  4 (K + 2) n t (V + 1)

    D  = ((1+u)^d (1+sigma) - 1) * |scale| * max_j sum_x |q_x k_jx|  +  underflow of the products
    Ed = C - 1,  En = C (1+u)^p - 1,  C = ((1-eps)^-(1+K)) ((1-u)^-(a+K)) n^u

d: roundings of one score; a: additions that a weight meets; K: rescales that it meets; p: roundings of a term of
the numerator beyond those of its weight; sigma: relative error of the scale; t: below what exp and the hardware
flush to zero.  The maximum is exact and drops out; the rounded exponents telescope to a factor of at most n^u,
whatever the range of the scores (Lyapunov's inequality); the error of the scores costs 2 V tanh(D/2), never more
than 2 V.

Source: the theorem ``FpBound.fused_row_error``, proved in Coq for the first two summands (any u, eps and list of
blocks; float64 and float32 as instances) and met by 67,912 outputs against ball arithmetic without a violation; the
third summand, for flushing, is on paper.  Supposed, not proved: eps = 2u of our exp and of PyTorch's; the counts of
``Work`` for PyTorch.  The bound is about finite scores; a row without a visible key has bound 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..errors import NotCovered

Array = np.ndarray[Any, Any]
OUTWARD: Final = 1 + 2.0**-30  # the bound and the difference are themselves computed in float64


@dataclass(frozen=True, slots=True)
class Format:
    """A dtype: unit roundoff; what may be flushed to zero; half the smallest positive number."""

    u: float
    flushed: float
    grain: float


FORMATS: Final = {
    "float64": Format(2.0**-53, 2.0**-1021, 2.0**-1074),  # exp flushes below e^-708 < 2^-1021
    "float32": Format(2.0**-24, 2.0**-125, 2.0**-150),  # exp flushes below e^-87 < 2^-125
}


@dataclass(frozen=True, slots=True)
class Work:
    """The roundings of one algorithm (letters as above), and the relative error of its exp in units of u."""

    d: int
    a: int
    k: int
    p: int
    sigma: float
    eps: float = 2.0


def of_online(m: int, dk: int, tk: int, sigma: float) -> Work:
    """Our ``online`` kernels: sums of at most tk terms in a block, then one merge a block; divided at the end.

    A score has dk roundings of its sum and one of its scale, with one to spare.  A weight of the first block meets one
    exp of its own, one as its block is merged and one for each later block: 1 + K with K the number of blocks.
    """
    blocks = -(-m // tk)
    return Work(d=dk + 2, a=min(tk, m) + blocks, k=blocks, p=1, sigma=sigma)


def of_rows(m: int, dk: int, sigma: float) -> Work:
    """Our ``rows`` kernels: no rescale; each weight is divided and multiplied, then summed."""
    return Work(d=dk + 2, a=m, k=0, p=2, sigma=sigma)


def of_torch(m: int, dk: int, sigma: float) -> Work:
    """PyTorch's scaled_dot_product_attention on a CPU in float64, whichever of its paths runs.

    Sums in any order; the square root of the scale on q and on k; blocks of at least 32 keys (it uses 512).
    """
    return Work(d=dk + 5, a=m, k=-(-m // 32), p=2, sigma=sigma)


def bound(q: Array, k: Array, v: Array, visible: Array, scale: float, work: Work, dtype: str) -> Array:
    """The bound for each output element, (h, n, dv), in float64.

    ``q`` (h, n, dk), ``k`` (h, m, dk), ``v`` (h, m, dv) in float64 with the values that the algorithm gets, ``visible``
    (h, n, m) boolean.  Raises ``NotCovered`` where the model says nothing: too many roundings, or values that overflow.
    """
    f = FORMATS[dtype]
    dk = q.shape[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.abs(q) @ np.abs(k).swapaxes(-1, -2)  # (h, n, m)
        size = np.where(visible, products, 0.0).max(axis=-1, initial=0.0)[..., None] * abs(scale)
        V = np.zeros((*q.shape[:-1], v.shape[-1]))  # (h, n, dv)
        for c in range(v.shape[-1]):
            V[..., c] = np.where(visible, np.abs(v[..., None, :, c]), 0.0).max(axis=-1, initial=0.0)
    keys = visible.sum(axis=-1)[..., None]  # (h, n, 1)
    _check_finite(size, V, keys, dtype)
    D = math.expm1(work.d * math.log1p(f.u) + math.log1p(work.sigma)) * size + (dk + 1) * f.grain * (abs(scale) + 1)
    up, exps = -math.log1p(-f.u), -(1 + work.k) * math.log1p(-work.eps * f.u)
    common = exps + f.u * np.log(np.maximum(keys, 1))
    Ed = np.expm1(common + (work.a + work.k) * up)
    En = np.expm1(common + (work.a + work.k + work.p) * up)
    if (Ed >= 0.5).any():
        raise NotCovered(f"error model: {work.a} additions in {dtype} are too many for a useful bound")
    rounding = (En + Ed) / (1 - Ed) * (1 + f.u) + f.u
    flushing = 4 * (work.k + 2) * keys * f.flushed * (V + 1)
    total: Array = (2 * V * np.tanh(D / 2) + V * rounding + flushing) * OUTWARD
    return np.where(keys > 0, total, 0.0)


def _check_finite(size: Array, V: Array, keys: Array, dtype: str) -> None:
    """No score, product or sum may overflow: beyond that the model says nothing."""
    most = float(np.finfo(dtype).max) / 4
    if not ((size < most).all() and (V * np.maximum(keys, 1) < most).all()):
        raise NotCovered(f"error model: a score or a sum of values could overflow in {dtype}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The element that came nearest to its tolerance or went furthest over it; ``ratio`` at most 1 is accepted."""

    ratio: float
    index: tuple[int, ...]
    found: float
    due: float
    tolerance: float

    @property
    def accepted(self) -> bool:
        return self.ratio <= 1.0


def judge(found: Array, due: Array, tolerance: Array) -> Verdict:
    """Compare element by element.  What is not finite is never within a tolerance; a difference of 0 always is.

    The reference must be finite: a comparison with NaN would say nothing, and is refused.
    """
    if found.shape != due.shape or due.shape != tolerance.shape:
        raise NotCovered(f"judge: shapes {found.shape}, {due.shape} and {tolerance.shape} differ")
    if not (np.isfinite(due).all() and np.isfinite(tolerance).all()):
        raise NotCovered("judge: the reference or the tolerance is not finite; nothing can be compared with it")
    if found.size == 0:
        return Verdict(0.0, (), 0.0, 0.0, 0.0)
    ratio = ratios(found, due, tolerance)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    return Verdict(float(ratio[at]), at, float(found[at]), float(due[at]), float(tolerance[at]))


def ratios(found: Array, due: Array, tolerance: Array) -> Array:
    """Observed/bound of every element; infinite where ``found`` is not finite."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        difference = np.abs(found.astype(np.float64) - due) / OUTWARD
        ratio = np.where(difference == 0, 0.0, difference / tolerance)
    return np.where(np.isfinite(found), ratio, np.inf)
