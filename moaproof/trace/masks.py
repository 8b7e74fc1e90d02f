"""Masks and indices: arrays of truth values that are read, not stored.  Trusted for claim (a)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from ..errors import CertificateInvalid
from ..operators import tabulate
from ..term import ONE, TRUE, ZERO, Le, Lt, Not, Psi, Term, Where
from .builder import Builder, Handler, op
from .values import (
    MINUS_INFINITY,
    Cells,
    Index,
    Real,
    Shape,
    both,
    cells,
    cellwise,
    checked,
    core,
    either,
    index,
    joined,
    lookup,
    minus,
    negated,
    plus,
    real,
    refuse,
)


def masked(x: Any, seen: Cells) -> Real:
    """Scores that are -inf where not seen."""
    if isinstance(x, Real) and x.role == "score":
        return replace(x, seen=cellwise("bool", both, x.visible, seen))
    plain = real(x)
    if joined(plain.shape, seen.shape) != plain.shape:
        refuse("a mask has more axes than the scores")
    if not plain.shape or plain.shape[-1] is ONE:
        refuse("scores of one key only; the last axis is the axis of the keys")
    return replace(plain, seen=seen, role="score")


@op("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(b: Builder, x: Any, mask: Any, value: Any) -> Real:
    return where(b, mask, value, x)


@op("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def where(b: Builder, condition: Any, x: Any, y: Any) -> Real:
    c = cells(condition, "bool")
    if x is MINUS_INFINITY:
        return masked(y, cellwise("bool", negated, c))
    if y is MINUS_INFINITY:
        return masked(x, c)
    yes, no = real(x), real(y)
    shape = joined(c.shape, yes.shape, no.shape)

    def element(i: Index, r: int) -> Term:
        full = iter(i)
        at = [ZERO if e is ONE else next(full) for e in shape]
        return Where(lookup(c, at), _read(yes, at), _read(no, at))

    return checked(tabulate(core(shape), element), shape)


def _read(x: Real, at: Index) -> Term:
    """The element of a real that is broadcast to ``at``."""
    own = at[len(at) - len(x.shape) :]
    return Psi(x.term, *[i for i, e in zip(own, x.shape, strict=True) if e is not ONE])


def causal(shape: Shape, diagonal: Term = ZERO) -> Cells:
    """Key k is visible to query i when k <= i + diagonal: the lower triangle, aligned top left."""
    return Cells("bool", shape, lambda i: Le(i[-1], plus(i[-2], diagonal)))


@op("aten.arange.default", "aten.arange.start")
def arange(b: Builder, *bounds: Any, **options: Any) -> Cells:
    plain_options(options)
    if len(bounds) not in (1, 2):
        refuse("arange takes an end, or a start and an end")
    if options.get("dtype") not in (None, "int64"):
        refuse("arange of other numbers than int64")
    start, end = (ZERO, index(bounds[0])) if len(bounds) == 1 else (index(bounds[0]), index(bounds[1]))
    b.assume(Le(start, end))
    return Cells("index", (b.named(minus(end, start)),), lambda i: plus(i[0], start))


@op("aten.ones.default")
def ones(b: Builder, sizes: Any, **options: Any) -> Cells:
    return constant(sizes, 1, options)


@op("aten.zeros.default")
def zeros(b: Builder, sizes: Any, **options: Any) -> Cells:
    return constant(sizes, 0, options)


@op("aten.full.default")
def full(b: Builder, sizes: Any, fill_value: Any, **options: Any) -> Cells:
    return constant(sizes, fill_value, options)


def constant(sizes: Any, value: Any, options: dict[str, Any]) -> Cells:
    """A mask of one truth value, to be cut to a triangle; of numbers 0 and 1 it is an indicator, to be compared."""
    plain_options(options)
    if value not in (0, 1) or not isinstance(sizes, tuple):
        refuse("a constant array of other values than 0, 1, False and True")
    sort = "bool" if options.get("dtype") == "bool" or isinstance(value, bool) else "indicator"
    return Cells(sort, tuple(map(index, sizes)), lambda i: TRUE if value == 1 else Not(TRUE))


def plain_options(options: dict[str, Any]) -> None:
    """The keywords of a factory: only dtype means anything."""
    if set(options) - {"dtype", "device", "pin_memory", "layout"}:
        refuse("unknown keywords of a factory", CertificateInvalid)


@op("aten.tril.default")
def tril(b: Builder, x: Any, diagonal: Any = 0) -> Any:
    return triangle(x, causal(last_two(x), index(diagonal)))


@op("aten.triu.default")
def triu(b: Builder, x: Any, diagonal: Any = 0) -> Any:
    return triangle(x, cellwise("bool", negated, causal(last_two(x), minus(index(diagonal), ONE))))


def last_two(x: Any) -> Shape:
    shape: Shape = x.shape if isinstance(x, (Real, Cells)) else ()
    if len(shape) < 2 or ONE in shape[-2:]:
        refuse("a triangle of an array with at least two axes, none of them a unit axis")
    return shape[-2:]


def triangle(x: Any, inside: Cells) -> Any:
    if isinstance(x, Cells):
        return cellwise(x.sort, both, x if x.sort == "indicator" else cells(x, "bool"), inside)
    return where(Builder(), inside, real(x), 0)


@op("aten.logical_not.default", "aten.bitwise_not.default")
def not_(b: Builder, x: Any) -> Cells:
    return cellwise("bool", negated, cells(x, "bool"))


@op("aten.logical_and.default", "aten.bitwise_and.Tensor", "aten.__and__.Tensor")
def and_(b: Builder, x: Any, y: Any) -> Cells:
    return cellwise("bool", both, cells(x, "bool"), cells(y, "bool"))


@op("aten.logical_or.default", "aten.bitwise_or.Tensor", "aten.__or__.Tensor")
def or_(b: Builder, x: Any, y: Any) -> Cells:
    return cellwise("bool", either, cells(x, "bool"), cells(y, "bool"))


def comparison(f: Callable[[Term, Term], Term]) -> Handler:
    def compare(b: Builder, x: Any, y: Any) -> Cells:
        if isinstance(x, Cells) and x.sort in ("bool", "indicator"):
            return _with_bit(f, x, y)
        if isinstance(x, Real) or isinstance(y, Real):
            refuse("a comparison of real values; visibility depends on positions and boolean masks only")
        return cellwise("bool", f, cells(x, "index"), cells(y, "index"))

    return compare


def _with_bit(f: Callable[[Term, Term], Term], x: Cells, y: Any) -> Cells:
    """A mask of 0 and 1 compared with 0 or 1: ``tril(ones(n, m)) == 0``."""
    if f not in (_eq, _ne) or not isinstance(y, (int, Fraction)) or y not in (0, 1):
        refuse("a mask is compared otherwise than for equality with 0 or 1")
    return cellwise("bool", (lambda g: g) if (f is _eq) == (y == 1) else negated, x)


def _eq(x: Term, y: Term) -> Term:
    return both(Le(x, y), Le(y, x))


def _ne(x: Term, y: Term) -> Term:
    return Not(_eq(x, y))


for _name, _compare in {
    "le": Le, "lt": Lt, "ge": lambda x, y: Le(y, x), "gt": lambda x, y: Lt(y, x), "eq": _eq, "ne": _ne,
}.items():  # fmt: skip
    op(f"aten.{_name}.Tensor", f"aten.{_name}.Scalar")(comparison(_compare))
