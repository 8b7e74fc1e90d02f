"""How far a computed result may be from the exact one, and how far it is.

The tolerance of a kernel is the error bound of its certificate (``kernel.rounding``, rebuilt here from the ONF and
compared with what the certificate states), evaluated at the call's sizes for the call's data, cell by cell.  The bound
of PyTorch's own operations is that of the Spec, which is the traced function as it stands, with ``SLACK`` for what
PyTorch does otherwise: another order of sums, which costs nothing, a scale that is split, blocks that are rescaled.

A bound speaks of the values that the kernel gets: a scale that was rounded to float32 before is the exact scale here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

import numpy as np

from ..assess.arithmetic import arithmetic_of
from ..errors import DigestMismatch, NotCovered, Unknown
from ..kernel.bits import Deciders
from ..kernel.bound import NONE, Arithmetic, Evaluation, Exact, Slack
from ..kernel.certificate import Certificate
from ..kernel.checker import facts_of, rounding_of
from ..kernel.rounding import Bound, bound_of
from ..runtime.loader import load
from ..semantics import Numbers, meaning
from ..term import Term, subterms
from .vector import evaluate

Array = np.ndarray[Any, Any]
OUTWARD: Final = 1 + 2.0**-30  # bounds and differences are themselves computed in float64
TORCH_BLOCK: Final = 32  # keys; PyTorch's flash attention for the CPU uses 512 or more


class _Arrays(Exact):
    """Sizes as arrays over the cells; each distinct one is evaluated once."""

    def __init__(self, sizes: Mapping[str, int], inputs: Mapping[str, Array], shape: Sequence[int]):
        super().__init__(self._of)
        self.sizes, self.inputs, self.shape = sizes, inputs, shape
        self.known: dict[Term, Array] = {}

    def _of(self, t: Term) -> Any:
        if t not in self.known:
            self.known[t] = evaluate(t, self.sizes, self.inputs, self.shape)
        return self.known[t]

    def number(self, x: Fraction) -> Any:
        return float(x)

    def least(self, x: Any, most: int) -> Any:
        return np.minimum(x, float(most))

    def all_below(self, x: Any, limit: Fraction) -> bool:
        return bool(np.all(np.less(x, float(limit))))


def tolerance(
    bound: Bound, arithmetic: Arithmetic, sizes: Mapping[str, int], inputs: Mapping[str, Array], slack: Slack = NONE
) -> Array:
    """The bound of each cell of the result, in float64 and rounded outwards.

    ``inputs``: the values that the program gets, by name, as float64 or boolean arrays of any shape.  Raises
    ``NotCovered`` outside the bound's domain: too many operations, what might overflow, what is not finite.
    """
    flat = {name: np.ravel(x) for name, x in inputs.items()}
    for name, x in flat.items():
        if not np.isfinite(x).all():
            raise NotCovered(f"error bound: {name} holds what is not finite")
    flat = {name: x if x.dtype == bool else x.astype(np.float64) for name, x in flat.items()}
    numbers = Numbers(sizes, {})
    shape = tuple(meaning(s, (), (), (), numbers) for s in bound.shape)
    with np.errstate(all="ignore"):
        evaluation = Evaluation(arithmetic, sizes, _Arrays(sizes, flat, shape), slack)
        found = evaluation.bound(bound.near)
        if _has_exp(bound):  # float64 evaluates such a size as a program does, with a u that is no greater
            found = found * evaluation.grown(bound.near.growth)
    return np.broadcast_to(np.asarray(found * OUTWARD, dtype=np.float64), shape)


def _has_exp(bound: Bound) -> bool:
    near = bound.near  # scores are among the peaks
    return any(u.op == "f" and u.data == "exp" for u in subterms(near.size, *near.peaks, *(s for _, s in near.lost)))


@lru_cache(maxsize=64)
def bounds_of(certificate: str, dtype: str, target: str = "cpu") -> tuple[Bound, Bound]:
    """The bounds of a committed kernel's ONF and of its Spec.

    ``Unknown`` if there is none, ``DigestMismatch`` if the first is not what the certificate states.
    """
    c: Certificate = load(certificate, dtype, target=target).certificate
    deciders = Deciders()
    deciders.integers.witnesses = c.witnesses
    facts = facts_of(c)
    ours = rounding_of(c, facts, deciders)
    if ours is None:
        raise Unknown(f"{certificate}: no error bound is proved")
    if ours.document() != c.rounding:
        raise DigestMismatch(f"{certificate}: the error bound that is stated is not the one that the ONF has")
    return ours, bound_of(c.spec, facts, deciders)


def kernel_tolerance(
    certificate: str, dtype: str, sizes: Mapping[str, int], inputs: Mapping[str, Array], target: str = "cpu"
) -> Array:
    """The bound of a committed kernel for each cell of its result."""
    ours, _ = bounds_of(certificate, dtype, target)
    return tolerance(ours, arithmetic_of(target, dtype), sizes, inputs)


def torch_tolerance(
    certificate: str, dtype: str, sizes: Mapping[str, int], inputs: Mapping[str, Array], target: str = "cpu"
) -> Array:
    """The bound of PyTorch's scaled_dot_product_attention of the same inputs in float64, on any of its paths."""
    _, theirs = bounds_of(certificate, dtype, target)
    return tolerance(theirs, arithmetic_of(f"torch-{target}", "float64"), sizes, inputs, torch_slack(sizes["m"]))


def torch_slack(keys: int) -> Slack:
    """What PyTorch's attention rounds more than its definition, supposed from its source.

    The square root of the scale is taken, and multiplied to q and to k; flash attention rescales in blocks.
    """
    blocks = -(-keys // TORCH_BLOCK)
    return Slack(score=6, rounds=4 * blocks + 2, exps=blocks)


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
