"""Rearrangements: axes moved, cut, joined, repeated.  Trusted for claim (a)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..errors import CertificateInvalid
from ..shapes import gamma, gamma_inverse, normal, product
from ..term import ONE, ZERO, Add, Div, Int, Le, Lt, Mul, Term
from .builder import Builder, arrays, axes_of, cells_of, listed, op, scores_of, swapped
from .values import (
    Cells,
    Index,
    Real,
    Shape,
    axis,
    checked,
    core,
    gathered,
    index,
    joined,
    lookup,
    minus,
    omega,
    permuted,
    plus,
    real,
    refuse,
)


@op("aten.sym_size.int")
def sym_size(b: Builder, x: Any, dim: Any) -> Cells:
    shape = shaped(x).shape
    return cells_of(shape[axis(dim, len(shape))])


def shaped(x: Any) -> Real | Cells:
    return x if isinstance(x, (Real, Cells)) else real(x)


@op(
    "aten.contiguous.default",
    "aten.clone.default",
    "aten.detach.default",
    "aten.alias.default",
    "aten.lift_fresh_copy.default",
)
def same(b: Builder, x: Any, memory_format: Any = None) -> Any:
    return x


@op("aten.to.dtype", "aten._to_copy.default", "aten.to.dtype_layout")
def to_dtype(b: Builder, x: Any, dtype: Any = None, **options: Any) -> Any:
    kept = {Real: "float64", Cells: "bool" if isinstance(x, Cells) and x.sort == "bool" else "int64"}.get(type(x))
    if dtype is not None and dtype != kept:
        refuse(f"a conversion to {dtype}; covered are float64 values, boolean masks and int64 indices")
    return x


@op("aten.transpose.int", "aten.swapaxes.default")
def transpose(b: Builder, x: Any, j: Any, k: Any) -> Any:
    x = arrays(x)
    return permuted(x, swapped(len(x.shape), j, k))


@op("aten.mT.default", "aten.adjoint.default")
def matrix_transpose(b: Builder, x: Any) -> Any:
    return transpose(b, x, -2, -1)


@op("aten.t.default", "aten.numpy_T.default")
def reversed_axes(b: Builder, x: Any) -> Any:
    x = arrays(x)
    return permuted(x, list(reversed(range(len(x.shape)))))


@op("aten.permute.default")
def permute(b: Builder, x: Any, dims: Any) -> Any:
    x = arrays(x)
    order = axes_of(dims, len(x.shape))
    if len(order) != len(x.shape):
        refuse("a permutation of other axes than the array's", CertificateInvalid)
    return permuted(x, order)


@op("aten.unsqueeze.default")
def unsqueeze(b: Builder, x: Any, dim: Any) -> Any:
    x = x if scores_of(x, "row") else arrays(x)
    k = axis(dim, len(x.shape) + 1)
    shape = (*x.shape[:k], ONE, *x.shape[k:])
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda i: x.at([*i[:k], *i[k + 1 :]]))
    return replace(x, shape=shape)


@op("aten.squeeze.dim")
def squeeze(b: Builder, x: Any, dim: Any) -> Any:
    x = arrays(x)
    k = axis(dim, len(x.shape))
    if x.shape[k] is not ONE:
        refuse("squeeze of an axis that is not 1 for all sizes")
    shape = (*x.shape[:k], *x.shape[k + 1 :])
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda i: x.at([*i[:k], ZERO, *i[k:]]))
    return replace(x, shape=shape)


@op("aten.expand.default", "aten.broadcast_to.default")
def expand(b: Builder, x: Any, sizes: Any, implicit: Any = False) -> Any:
    x = arrays(x)
    lead = len(listed(sizes)) - len(x.shape)
    if lead < 0:
        refuse("expand to fewer axes", CertificateInvalid)
    own = (ONE,) * lead + x.shape
    shape = joined(
        own,
        tuple(e if type(s) is int and s == -1 else b.named(index(s)) for s, e in zip(sizes, own, strict=True)),
    )
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda i: lookup(x, i))
    if core(shape) == x.core:
        return replace(x, shape=shape)
    axes = [k for k, e in zip(range(len(shape)), shape, strict=True) if e is not ONE]
    held = [n for n, k in enumerate(axes) if own[k] is not ONE]
    return gathered(x, shape, lambda i: [i[n] for n in held])


@op("aten.slice.Tensor")
def slice_(b: Builder, x: Any, dim: Any = 0, start: Any = None, end: Any = None, step: Any = 1) -> Any:
    x = x if isinstance(x, Real) and x.role in ("row", "score") and start in (None, 0) and end is None else arrays(x)
    k = axis(dim, len(x.shape))
    n = x.shape[k]
    first = ZERO if start is None else bound(b, start, n)
    last = n if end is None else bound(b, end, n)
    if step != 1:
        refuse("a slice with a step")
    b.assume(Le(first, last))
    return section(b, x, k, first, minus(last, first) if last is not n or first is not ZERO else n)


def bound(b: Builder, x: Any, extent: Term) -> Term:
    """An end of a slice; a negative literal counts from the back.  Owes that PyTorch does not clamp it."""
    i = index(x)
    if i.op == "int" and i.data < 0:
        b.assume(Le(Int(-i.data), extent))
        return plus(extent, i)
    if i is not extent:
        b.assume(Le(ZERO, i))
        b.assume(Le(i, extent))
    return i


@op("aten.narrow.default")
def narrow(b: Builder, x: Any, dim: Any, start: Any, length: Any) -> Any:
    x = arrays(x)
    k = axis(dim, len(x.shape))
    first, count = bound(b, start, x.shape[k]), index(length)
    b.assume(Le(ZERO, count))
    b.assume(Le(plus(first, count), x.shape[k]))
    return section(b, x, k, first, count)


def section(b: Builder, x: Any, k: int, first: Term, count: Term) -> Any:
    """``count`` rows of axis k from ``first`` on: drop, then take."""
    n, count = x.shape[k], b.named(count)
    if first is ZERO and b.same(count, n):
        return x
    shape = (*x.shape[:k], count, *x.shape[k + 1 :])
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda i: x.at([*i[:k], plus(i[k], first), *i[k + 1 :]]))
    if n is ONE or count is ONE:
        p = len(core(x.shape[:k]))
        return (
            gathered(x, shape, lambda i: [*i[:p], first, *i[p:]])
            if n is not ONE
            else refuse("a section of a unit axis")
        )
    t, rest = x, minus(n, first)
    if first is not ZERO:
        t = on_axis(x, k, lambda c: Term("drop", (1,), (c, first)), (*x.shape[:k], rest, *x.shape[k + 1 :]))
    if b.same(rest, count):
        return replace(t, shape=t.shape)
    return on_axis(t, k, lambda c: Term("take", (1,), (c, shape[k])), shape)


def on_axis(x: Real, k: int, f: Callable[[Term], Term], shape: Shape) -> Real:
    """A function of the first axis, applied at axis k: on the cells that begin there."""
    before = len(core(x.shape[:k]))
    return checked(omega((len(x.core) - before,), [x.term], f) if before else f(x.term), shape)


@op("aten.select.int")
def select(b: Builder, x: Any, dim: Any, at: Any) -> Any:
    x = arrays(x)
    k = axis(dim, len(x.shape))
    n, i = x.shape[k], index(at)
    if i.op == "int" and i.data < 0:
        b.assume(Le(Int(-i.data), n))
        i = plus(n, i)
    else:
        b.assume(Le(ZERO, i))
        b.assume(Lt(i, n))
    shape = (*x.shape[:k], *x.shape[k + 1 :])
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda j: x.at([*j[:k], i, *j[k:]]))
    if n is ONE:
        return replace(x, shape=shape)
    p = len(core(x.shape[:k]))
    return gathered(x, shape, lambda j: [*j[:p], i, *j[p:]])


@op("aten.flip.default")
def flip(b: Builder, x: Any, dims: Any) -> Real:
    y = real(x)
    for k in axes_of(dims, len(y.shape)):
        if y.shape[k] is not ONE:
            y = on_axis(y, k, lambda c: Term("reverse", None, (c,)), y.shape)
    return y


@op("aten.roll.default")
def roll(b: Builder, x: Any, shifts: Any, dims: Any = ()) -> Real:
    """Element i is that at (i - shift) mod n: MoA's rotate by -shift."""
    y = real(x)
    shifts, dims = (s if isinstance(s, tuple) else (s,) for s in (shifts, dims))
    if not dims or len(shifts) != len(dims):
        refuse("roll without an axis for each shift")
    for s, k in zip(shifts, axes_of(dims, len(y.shape)), strict=True):
        if y.shape[k] is not ONE:
            y = on_axis(y, k, _rotated(minus(ZERO, index(s))), y.shape)
    return y


def _rotated(by: Term) -> Callable[[Term], Term]:
    return lambda c: Term("rotate", None, (c, by))


def _joint(x: Term, y: Term) -> Term:
    return Term("cat", None, (x, y))


@op("aten.cat.default", "aten.concat.default")
def cat(b: Builder, tensors: Any, dim: Any = 0) -> Real:
    if not isinstance(tensors, tuple) or not tensors:
        refuse("a list of arrays is due", CertificateInvalid)
    total, *others = map(real, tensors)
    k = axis(dim, len(total.shape))
    for x in others:
        if len(x.shape) != len(total.shape) or ONE in (*x.shape, *total.shape):
            refuse("catenation of arrays of one rank, without unit axes")
        rank = len(x.shape) - k
        shape = (*total.shape[:k], Add(total.shape[k], x.shape[k]), *total.shape[k + 1 :])
        t = omega((rank, rank), (total.term, x.term), _joint) if k else _joint(total.term, x.term)
        total = checked(t, shape)
    return total


@op("aten.outer.default")
def outer(b: Builder, x: Any, y: Any) -> Real:
    x, y = real(x), real(y)
    return checked(Term("outer", "mul", (x.term, y.term)), (*x.shape, *y.shape))


@op("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default")
def reshape(b: Builder, x: Any, sizes: Any) -> Any:
    x = arrays(x)
    total = product(x.shape)
    known = [index(s) for s in listed(sizes) if not (type(s) is int and s == -1)]
    if len(known) < len(sizes) - 1:
        refuse("more than one -1", CertificateInvalid)
    missing = b.named(normal(Div(b.expand(total), b.expand(product(known)))))
    shape = tuple(b.named(index(s)) if not (type(s) is int and s == -1) else missing for s in sizes)
    if not b.same(product(shape), total):
        refuse("a reshape whose extents are not seen to have the same product for all sizes")
    return reshaped(b, x, shape)


@op("aten.flatten.using_ints")
def flatten(b: Builder, x: Any, start_dim: Any = 0, end_dim: Any = -1) -> Any:
    x = arrays(x)
    j, k = axis(start_dim, len(x.shape)), axis(end_dim, len(x.shape))
    return reshaped(b, x, (*x.shape[:j], b.named(product(x.shape[j : k + 1])), *x.shape[k + 1 :]))


def reshaped(b: Builder, x: Real | Cells, shape: Shape) -> Any:
    """Row-major regrouping of axes: each shortest run of old axes with the product of a run of new ones."""
    old, new = core(x.shape), core(shape)
    runs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        options = [
            (p, q)
            for n in range(2, 12)
            for p in range(1, n)
            if (q := n - p) and i + p <= len(old) and j + q <= len(new)
        ]
        found = [(p, q) for p, q in options if b.same(product(old[i : i + p]), product(new[j : j + q]))]
        if not found:
            refuse("a reshape whose axes are not regrouped for all sizes")
        runs.append(found[0])
        i, j = i + found[0][0], j + found[0][1]
    if all(run == (1, 1) for run in runs) and isinstance(x, Real):
        return replace(x, shape=shape)
    if isinstance(x, Cells):
        refuse("a reshape of a mask; use unsqueeze or expand")

    def source(at: Index) -> Index:
        out: list[Term] = []
        i = j = 0
        for p, q in runs:
            offset = gamma(at[j : j + q], new[j : j + q])
            out += gamma_inverse(offset, old[i : i + p])
            i, j = i + p, j + q
        return out

    return gathered(x, shape, source)


@op("aten.repeat_interleave.self_int")
def repeat_interleave(b: Builder, x: Any, repeats: Any, dim: Any = None, output_size: Any = None) -> Real:
    """Each row r times: row h reads row h div r."""
    x, r = real(x), index(repeats)
    k = axis(dim, len(x.shape))
    if x.shape[k] is ONE:
        refuse("repeat_interleave along a unit axis; use expand")
    shape = (*x.shape[:k], b.named(Mul(x.shape[k], r)), *x.shape[k + 1 :])
    p = len(core(x.shape[:k]))
    return gathered(x, shape, lambda i: [*i[:p], Div(i[p], r), *i[p + 1 :]])
