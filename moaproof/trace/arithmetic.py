"""Arithmetic and reductions.  Trusted for claim (a).

A masked score, less its row maximum, exponentiated, over its row sum stays masked; anything else refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from ..shapes import product
from ..term import ONE, TRUE, ZERO, Mul, Term, Var
from .builder import EMPTY_ROW, Builder, axes_of, cells_of, flag, no_cast, number, op, scores_of, whole
from .values import (
    Cells,
    Real,
    array_of,
    cells,
    cellwise,
    checked,
    evident,
    index,
    lookup,
    mapped,
    minus,
    plus,
    pointwise,
    real,
    reduced,
    refuse,
    without,
)


def fold_row(b: Builder, monoid: str, x: Real, keepdim: bool) -> Real:
    """The fold of the last axis, over the visible cells if x is masked."""
    last = len(x.shape) - 1
    if not x.role:
        return reduced(monoid, x, [last], keepdim)
    t = Term("reduce", (monoid, len(x.core) - 1), (x.term, array_of(x.visible, x.shape)))
    return checked(t, without(x.shape, [last], keepdim), role="row", origin=(monoid, x))


@op("aten.exp.default")
def exp(b: Builder, x: Any) -> Real:
    if scores_of(x, "score"):
        return replace(mapped("exp", x), seen=x.seen, role="weight")
    return mapped("exp", real(x))


def arithmetic(b: Builder, f: str, x: Any, y: Any) -> Real:
    """x f y; a masked score less its row maximum is a score, a weight over its row sum is a weight."""
    for role, name, monoid in (("score", "sub", "max"), ("weight", "div", "add")):
        if scores_of(x, role) and scores_of(y, "row") and f == name and y.origin == (monoid, x):
            if y.shape != (*x.shape[:-1], ONE):
                refuse("a row's maximum or sum does not stand at its own row; use keepdim=True")
            if not always_visible(x):
                b.deviations[EMPTY_ROW] = None
            plain, row = replace(x, role=""), replace(y, role="")
            return replace(pointwise(f, plain, row), seen=x.seen, role=role)
    return pointwise(f, real(x), real(y))


def always_visible(x: Real) -> bool:
    """Is key 0 visible in each row, as under a causal mask?  (A row of no keys is 0 in PyTorch too.)"""
    vs = [Var(k) for k in range(len(x.shape) - 1)]
    g = lookup(x.visible, [*vs, ZERO])
    return g is TRUE or (g.op == "lt" and evident(*g.args))


def integers(f: Callable[[Term, Term], Term], x: Any, y: Any) -> Cells:
    return cellwise("index", f, cells(x, "index"), cells(y, "index"))


@op("aten.add.Tensor", "operator.add")
def add(b: Builder, x: Any, y: Any, alpha: Any = 1) -> Any:
    if alpha != 1:
        refuse("alpha other than 1")
    return integers(plus, x, y) if whole(x) and whole(y) else arithmetic(b, "add", x, y)


@op("aten.sub.Tensor", "operator.sub")
def sub(b: Builder, x: Any, y: Any, alpha: Any = 1) -> Any:
    if alpha != 1:
        refuse("alpha other than 1")
    return integers(minus, x, y) if whole(x) and whole(y) else arithmetic(b, "sub", x, y)


@op("aten.rsub.Scalar")
def rsub(b: Builder, x: Any, y: Any, alpha: Any = 1) -> Any:
    return sub(b, y, x, alpha)


@op("aten.mul.Tensor", "operator.mul")
def mul(b: Builder, x: Any, y: Any) -> Any:
    return integers(Mul, x, y) if whole(x) and whole(y) else arithmetic(b, "mul", x, y)


@op("aten.div.Tensor", "operator.truediv")
def div(b: Builder, x: Any, y: Any) -> Real:
    if isinstance(y, (int, Fraction)) and y == 0:
        refuse("a division by 0")
    if number(y) or (isinstance(y, Real) and not y.core):
        b.positive(real(y).term)
    if whole(x) and not number(x):
        refuse("a division of an array of indices")
    return arithmetic(b, "div", x, y)


@op("operator.floordiv")
def floordiv(b: Builder, x: Any, y: Any) -> Cells:
    return cells_of(b.divided(index(x), index(y)))


@op("aten.reciprocal.default")
def reciprocal(b: Builder, x: Any) -> Real:
    return arithmetic(b, "div", 1, x)


@op("aten.neg.default", "operator.neg")
def neg(b: Builder, x: Any) -> Any:
    return integers(minus, 0, x) if whole(x) else mapped("neg", real(x))


@op("aten.sqrt.default", "sym.sqrt")
def sqrt(b: Builder, x: Any) -> Real:
    return mapped("sqrt", real(x))


@op("aten.rsqrt.default")
def rsqrt(b: Builder, x: Any) -> Real:
    return power(b, x, Fraction(-1, 2))


@op("aten.pow.Tensor_Scalar", "operator.pow")
def power(b: Builder, x: Any, exponent: Any) -> Real:
    """x to the power 2, 1, -1, 1/2 or -1/2."""
    positive = abs(exponent) if isinstance(exponent, (int, Fraction)) else exponent
    y = real(x)
    match positive:
        case 1:
            root = y
        case 2 if exponent == 2:
            root = pointwise("mul", y, y)
        case Fraction(numerator=1, denominator=2):
            root = mapped("sqrt", y)
        case _:
            refuse("a power; covered are 2, 1, -1, 0.5 and -0.5")
    if positive == exponent:
        return root
    b.positive(y.term)
    return pointwise("div", real(1), root)


@op("sym.float")
def sym_float(b: Builder, x: Any) -> Real:
    return real(x)


@op("aten.maximum.default")
def maximum(b: Builder, x: Any, y: Any) -> Real:
    return arithmetic(b, "max", x, y)


@op("aten.sum.dim_IntList", "aten.sum.default")
def sum_(b: Builder, x: Any, dim: Any = None, keepdim: Any = False, dtype: Any = None) -> Real:
    no_cast(dtype)
    return fold_axes(b, "add", x, dim, keepdim)


@op("aten.prod.dim_int")
def prod(b: Builder, x: Any, dim: Any, keepdim: Any = False, dtype: Any = None) -> Real:
    no_cast(dtype)
    return fold_axes(b, "mul", x, dim, keepdim)


@op("aten.amax.default")
def amax(b: Builder, x: Any, dim: Any = (), keepdim: Any = False) -> Real:
    return fold_axes(b, "max", x, dim, keepdim)


@op("aten.max.dim")
def max_dim(b: Builder, x: Any, dim: Any, keepdim: Any = False) -> tuple[Real, None]:
    return fold_axes(b, "max", x, dim, keepdim), None


@op("operator.getitem")
def getitem(b: Builder, x: Any, k: Any) -> Any:
    if not isinstance(x, tuple) or k != 0:
        refuse("only the values of max(dim) are covered, not where they are")
    return x[0]


@op("aten.mean.dim")
def mean(b: Builder, x: Any, dim: Any, keepdim: Any = False, dtype: Any = None) -> Real:
    no_cast(dtype)
    y = real(x)
    total = fold_axes(b, "add", y, dim, keepdim)
    return div(b, total, cells_of(product([y.shape[k] for k in axes_of(dim, len(y.shape))])))


def fold_axes(b: Builder, monoid: str, x: Any, dim: Any, keepdim: Any) -> Real:
    due = {"max": "score", "add": "weight"}.get(monoid)
    if isinstance(x, Real) and x.role and x.role == due and axes_of(dim, len(x.shape)) == [len(x.shape) - 1]:
        return fold_row(b, monoid, x, flag(keepdim))
    y = real(x)
    return reduced(monoid, y, axes_of(dim, len(y.shape)), flag(keepdim))


@op("aten.dropout.default")
def dropout(b: Builder, x: Any, p: Any, train: Any) -> Any:
    if p != 0 and flag(train):
        refuse("dropout is random; call it with p=0.0 or training=False")
    return x
