"""A term at all of its cells at once, in float64 arrays: what the sizes of an error bound are evaluated by.

The evaluator is ``moaproof.semantics`` over another algebra: an index is an array that broadcasts over the cells, and a
fold opens one more axis in front.  A long fold goes in pieces.  Of an element that a guard excludes nothing is kept,
and the maximum of nothing is minus infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import NotCovered
from ..semantics import meaning
from ..term import Term

Array = np.ndarray[Any, Any]
PIECE = 2**21  # elements that one step may hold


class Cells:
    """The algebra.  ``inputs``: flat, row-major, by name; ``shape``: of the cells, for free indices X(0), X(1).."""

    cells = None

    def __init__(self, sizes: Mapping[str, int], inputs: Mapping[str, Array], shape: Sequence[int]):
        self.sizes, self.inputs, self.shape = sizes, inputs, tuple(shape)
        self.open: list[int] = []  # lengths of the folds that are open
        rank = len(self.shape)
        self.at = [np.arange(s).reshape([-1 if k == j else 1 for j in range(rank)]) for k, s in enumerate(self.shape)]

    def integer(self, value: int) -> Any:
        return value

    def size(self, name: str) -> Any:
        return self.sizes[name]

    def index(self, op: str, a: Any, b: Any) -> Any:
        match op:
            case "iadd":
                return a + b
            case "imul":
                return a * b
            case "imin":
                return np.minimum(a, b)
        return a // b

    def symbol(self, x: Term) -> Any:
        return self.at[x.data]

    def true(self) -> Any:
        return True

    def lt(self, a: Any, b: Any) -> Any:
        return np.less(a, b)

    def both(self, a: Any, b: Callable[[], Any]) -> Any:
        return np.logical_and(a, b())

    def negate(self, a: Any) -> Any:
        return np.logical_not(a)

    def rational(self, value: Fraction) -> Any:
        return float(value)

    def cast(self, index: Any) -> Any:
        return np.asarray(index, dtype=np.float64)

    def apply(self, function: str, args: Sequence[Any]) -> Any:
        return _FUNCTIONS[function](*args)

    def where(self, c: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        return np.where(c, yes(), no())

    def read(self, name: str, sort: str, offset: Any, total: Any) -> Any:
        values = self.inputs[name]
        if not len(values):
            return np.zeros((), dtype=values.dtype)  # no index is in range, so nobody asks for it
        return values[np.clip(offset, 0, len(values) - 1)]

    def within(self, index: tuple[Any, ...], shape: Callable[[], tuple[Any, ...]]) -> None:
        """Proved for the term; where a guard excludes an element its indices may be anything."""

    def fold(self, monoid: str, extent: Any, guard: Callable[[Any], Any], element: Callable[[Any], Any]) -> Any:
        if monoid not in _FOLDS:
            raise NotCovered(f"error bound: a size has a fold of {monoid}")
        combine, nothing = _FOLDS[monoid]
        longest = int(np.max(extent, initial=0))
        step = max(1, PIECE // max(1, math.prod(self.shape) * math.prod(self.open)))
        total: Any = nothing
        for first in range(0, longest, step):
            k = np.arange(first, min(longest, first + step)).reshape(-1, *[1] * (len(self.open) + len(self.shape)))
            self.open.append(len(k))
            kept = np.where(np.logical_and(np.less(k, extent), guard(k)), element(k), nothing)
            self.open.pop()
            total = combine(total, combine.reduce(kept, axis=0))
        return total

    def state(self, m: Any, l: Any, o: Any) -> Any:
        raise NotCovered("error bound: a size has a softmax state")

    def quotient(self, state: Any) -> Any:
        raise NotCovered("error bound: a size has a softmax state")


_FOLDS: dict[str, tuple[np.ufunc, float]] = {"add": (np.add, 0.0), "max": (np.maximum, -math.inf)}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "neg": np.negative,
    "exp": np.exp, "sqrt": np.sqrt,
}  # fmt: skip


def evaluate(t: Term, sizes: Mapping[str, int], inputs: Mapping[str, Array], shape: Sequence[int]) -> Array:
    """The value of ``t`` at every cell of the shape; its free indices are those of the axes."""
    with np.errstate(all="ignore"):
        found = meaning(t, (), (), (), Cells(sizes, inputs, shape))
    return np.broadcast_to(np.asarray(found, dtype=np.float64), tuple(shape))
