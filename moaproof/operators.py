"""What a term is (its sort and shape) and what each MoA operator means over the core.  Trusted.

``definition`` has one clause for each operator of the calculus; every other part of moaproof knows only the core.
Shape rules and index laws are those of TR94 (Mullin & Thibault 1994), with the two known misprints mended: ``take``
allows a full take, and the dyadic ``Omega`` indexes by its own shape rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self, cast

from .errors import IllFormed
from .shapes import gamma, product, same_index
from .term import (
    ONE,
    ZERO,
    Add,
    Build,
    Div,
    F,
    Flat,
    Fold,
    Int,
    Lt,
    Mul,
    Psi,
    Sub,
    Term,
    Var,
    Where,
    instantiate,
    tile_extent,
    up,
)  # fmt: skip


class _Entry:
    """Equal entries are one object, so that contexts are cheap to compare and to look up."""

    __slots__ = ("_term",)
    _pool: ClassVar[dict[tuple[type, Term], Any]] = {}
    _term: Term

    def __new__(cls, term: Term) -> Self:
        entry = cls._pool.get((cls, term))
        if entry is None:
            entry = object.__new__(cls)
            entry._term = term
            cls._pool[cls, term] = entry
        return cast("Self", entry)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._term!r})"


class Index(_Entry):
    """A context entry: an index 0 <= x < extent."""

    __slots__ = ()

    @property
    def extent(self) -> Term:
        return self._term


class Value(_Entry):
    """A context entry: a variable that means its definition."""

    __slots__ = ()

    @property
    def term(self) -> Term:
        return self._term


Context = tuple[Index | Value, ...]  # outermost first; each entry lives in the context before it


@dataclass(frozen=True, slots=True)
class Type:
    """A sort (index, bool, real, opt or state) and a shape; a scalar has the empty shape."""

    sort: str
    shape: tuple[Term, ...] = ()


MOA = frozenset(
    [
        "transpose",
        "reshape",
        "ravel",
        "take",
        "drop",
        "cat",
        "reverse",
        "rotate",
        "iota",
        "rho",
        "delta",
        "tau",
        "lift",
        "broadcast",
        "map",
        "pointwise",
        "omega",
        "reduce",
        "outer",
        "inner",
    ]
)
INDEX_SORTED = frozenset({"int", "size", "x", "iadd", "imul", "idiv", "imin"})


def opened(t: Term, k: int) -> Context:
    """The context entries that argument ``k`` of ``t`` stands under, beyond ``t``'s own."""
    match t.op, k:
        case ("build", 1) | ("fold", 1) | ("fold", 2):
            return (Index(t.args[0]),)
        case ("tiles", 3):
            return (Index(t.args[1]),)
        case ("let", 1):
            return (Value(t.args[0]),)
        case ("omega", _) if k == len(t.args) - 1:
            raise IllFormed("omega: its function has no context of its own; unfold the operator first")
        case _:
            return ()


def need(condition: bool, why: str) -> None:
    if not condition:
        raise IllFormed(why)


def typeof(t: Term, ctx: Context = ()) -> Type:
    """The sort and shape of a term, or ``IllFormed``.  Extents are index terms in ``ctx``."""
    return _typeof(t, ctx if t.free else ())


@lru_cache(maxsize=200_000)
def _typeof(t: Term, ctx: Context) -> Type:  # noqa: C901  one clause a node
    a = t.args
    if t.op in MOA:
        return typeof(definition(t, ctx), ctx)
    if t.op in INDEX_SORTED:
        for x in a:
            scalar(x, ctx, "index")
        return Type("index")
    match t.op:
        case "var":
            need(t.data < len(ctx), f"variable {t.data} is not bound")
            entry = ctx[-1 - t.data]
            if isinstance(entry, Index):
                return Type("index")
            inner = typeof(entry.term, ctx[: len(ctx) - 1 - t.data])
            return Type(inner.sort, tuple(up(s, t.data + 1) for s in inner.shape))
        case "true" | "lt" | "and" | "not":
            for x in a:
                scalar(x, ctx, "index" if t.op == "lt" else "bool")
            return Type("bool")
        case "real":
            return Type("real")
        case "cast":
            scalar(a[0], ctx, "index")
            return Type("real")
        case "f":
            sorts = [scalar(x, ctx, "real", "opt").sort for x in a]
            return Type("opt" if t.data == "max" and set(sorts) == {"opt"} else "real")
        case "where":
            scalar(a[0], ctx, "bool")
            yes, no = typeof(a[1], ctx), typeof(a[2], ctx)
            need(not yes.shape and not no.shape, "where: both branches are scalars")
            need(yes.sort == no.sort or {yes.sort, no.sort} == {"real", "opt"}, "where: the branches differ in sort")
            return Type(yes.sort if yes.sort == no.sort else "opt")
        case "let":
            return _outside(typeof(a[1], (*ctx, Value(a[0]))))
        case "in":
            for x in a:
                scalar(x, (), "index")
            return Type(t.data[1], a)
        case "psi":
            array = typeof(a[0], ctx)
            need(len(array.shape) == len(a) - 1, f"psi: a full index of {len(array.shape)} is due, not {len(a) - 1}")
            for x in a[1:]:
                scalar(x, ctx, "index")
            return Type(array.sort)
        case "flat":
            array = typeof(a[0], ctx)
            need(bool(array.shape) and array.sort != "state", "flat: an array is due")
            scalar(a[1], ctx, "index")
            return Type(array.sort)
        case "build":
            scalar(a[0], ctx, "index")
            body = typeof(a[1], (*ctx, Index(a[0])))
            return Type(body.sort, (a[0], *_outside(body).shape))
        case "tiles":
            for x in a[:3]:
                scalar(x, ctx, "index")
            body = typeof(a[3], (*ctx, Index(a[1])))
            due = tile_extent(up(a[0]), up(a[2]), Var(0))
            need(bool(body.shape) and same_index(body.shape[0], due), "tiles: a tile has min(t, s - q*t) rows")
            return Type(body.sort, (a[0], *_outside(Type("real", body.shape[1:])).shape))
        case "fold":
            scalar(a[0], ctx, "index")
            inner_ctx = (*ctx, Index(a[0]))
            scalar(a[1], inner_ctx, "bool")
            body = typeof(a[2], inner_ctx)
            allowed = {"softmax": ("state",), "max": ("real", "opt")}.get(t.data, ("real",))
            need(body.sort in allowed, f"fold {t.data}: its element is a {body.sort}")
            return Type({"softmax": "state", "max": "opt"}.get(t.data, "real"), _outside(body).shape)
        case "state":
            scalar(a[0], ctx, "real", "opt")
            scalar(a[1], ctx, "real")
            o = typeof(a[2], ctx)
            need(o.sort == "real", "state: its value is real")
            return Type("state", o.shape)
        case "quotient":
            state = typeof(a[0], ctx)
            need(state.sort == "state", "quotient: a state is due")
            return Type("real", state.shape)
    raise IllFormed(f"{t.op} has no type outside a rule")


def scalar(t: Term, ctx: Context, *sorts: str) -> Type:
    found = typeof(t, ctx)
    if found.shape or found.sort not in sorts:
        raise IllFormed(f"a scalar {' or '.join(sorts)} is due, not {found.sort}: {t!r:.80}")
    return found


def _outside(inner: Type) -> Type:
    """The type one binder further out; its extents must not mention the variable."""
    return Type(inner.sort, tuple(up(s, -1) for s in inner.shape))


def tabulate(extents: Sequence[Term], element: Callable[[Sequence[Term], int], Term]) -> Term:
    """``build`` over all axes: ``element(index, r)`` lives under ``r`` binders, outer terms moved by ``up(x, r)``."""
    r = len(extents)
    t = element([Var(r - 1 - k) for k in range(r)], r)
    for k in reversed(range(r)):
        t = Build(up(extents[k], k), t)
    return t


def definition(t: Term, ctx: Context = ()) -> Term:
    """The core term that an operator of the calculus abbreviates."""
    return _definition(t, ctx if t.free else ())


@lru_cache(maxsize=100_000)
def _definition(t: Term, ctx: Context) -> Term:
    return _DEFINITIONS[t.op](t, [typeof(x, ctx).shape for x in t.args[: _arrays(t)]])


def _arrays(t: Term) -> int:
    """How many leading arguments are arrays (the others are extents, counts, or a function)."""
    fixed = {"iota": 0, "omega": len(t.args) - 1, "pointwise": 2, "outer": 2, "cat": 2}
    if t.op in ("reduce", "inner"):
        return len(t.args)
    return fixed.get(t.op, 1)


Shapes = list[tuple[Term, ...]]


def _transpose(t: Term, shapes: Shapes) -> Term:
    """i psi (v transpose A) = i[v] psi A: argument axis k becomes result axis v[k]."""
    (s,), v = shapes, t.data
    need(len(v) == len(s), "transpose: the permutation has another length than the shape")
    extents = [s[v.index(axis)] for axis in range(len(v))]
    return tabulate(extents, lambda i, r: Psi(up(t.args[0], r), *[i[axis] for axis in v]))


def _reshape(t: Term, shapes: Shapes) -> Term:
    a, *extents = t.args
    if not shapes[0]:
        return tabulate(extents, lambda i, r: up(a, r))
    return tabulate(extents, lambda i, r: Flat(up(a, r), gamma(i, [up(e, r) for e in extents])))


def _ravel(t: Term, shapes: Shapes) -> Term:
    if not shapes[0]:
        return Build(ONE, up(t.args[0]))
    return Build(product(shapes[0]), Flat(up(t.args[0]), Var(0)))


def _take(t: Term, shapes: Shapes) -> Term:
    return _section(t, shapes[0], lambda s, n: n, lambda s, n, sign: Sub(s, n) if sign < 0 else ZERO)


def _drop(t: Term, shapes: Shapes) -> Term:
    return _section(t, shapes[0], Sub, lambda s, n, sign: n if sign > 0 else ZERO)


def _section(
    t: Term, s: tuple[Term, ...], extent: Callable[[Term, Term], Term], start: Callable[[Term, Term, int], Term]
) -> Term:
    a, *counts = t.args
    need(len(counts) <= len(s), f"{t.op}: more counts than axes")
    extents = [extent(s[k], counts[k]) if k < len(counts) else s[k] for k in range(len(s))]

    def element(i: Sequence[Term], r: int) -> Term:
        moved = [Add(i[k], up(start(s[k], n, t.data[k]), r)) for k, n in enumerate(counts)]
        return Psi(up(a, r), *moved, *i[len(counts) :])

    return tabulate(extents, element)


def _cat(t: Term, shapes: Shapes) -> Term:
    (s, z), (a, b) = shapes, t.args
    need(bool(s) and len(s) == len(z), "cat: two arrays of the same rank, at least 1")
    need(all(map(same_index, s[1:], z[1:])), "cat: the tails of the shapes differ")

    def element(i: Sequence[Term], r: int) -> Term:
        first = Psi(up(a, r), *i)
        second = Psi(up(b, r), Sub(i[0], up(s[0], r)), *i[1:])
        return Where(Lt(i[0], up(s[0], r)), first, second)

    return tabulate((Add(s[0], z[0]), *s[1:]), element)


def _reverse(t: Term, shapes: Shapes) -> Term:
    (s,) = shapes
    need(bool(s), "reverse: rank 0")
    return tabulate(s, lambda i, r: Psi(up(t.args[0], r), Sub(Sub(up(s[0], r), ONE), i[0]), *i[1:]))


def _rotate(t: Term, shapes: Shapes) -> Term:
    s, (a, by) = shapes[0], t.args
    need(bool(s), "rotate: rank 0")

    def element(i: Sequence[Term], r: int) -> Term:
        n, moved = up(s[0], r), Add(i[0], up(by, r))
        return Psi(up(a, r), Sub(moved, Mul(n, Div(moved, n))), *i[1:])

    return tabulate(s, element)


def _iota(t: Term, shapes: Shapes) -> Term:
    extents = t.args
    if len(extents) == 1:
        return Build(extents[0], Var(0))
    return tabulate((*extents, Int(len(extents))), lambda i, r: _select(i[:-1], i[-1]))


def _select(items: Sequence[Term], k: Term) -> Term:
    chosen = items[-1]
    for position in reversed(range(len(items) - 1)):
        chosen = Where(Lt(k, Int(position + 1)), items[position], chosen)
    return chosen


def _rho(t: Term, shapes: Shapes) -> Term:
    s = shapes[0]
    return Build(Int(len(s)), _select([up(e) for e in s], Var(0)) if s else ZERO)


def _lift(t: Term, shapes: Shapes) -> Term:
    s, axis, (a, b, tile) = shapes[0], t.data, t.args
    need(axis < len(s), "lift: no such axis")

    def element(i: Sequence[Term], r: int) -> Term:
        joined = Add(Mul(i[axis], up(tile, r)), i[axis + 1])
        return Psi(up(a, r), *i[:axis], joined, *i[axis + 2 :])

    return tabulate((*s[:axis], b, tile, *s[axis + 1 :]), element)


def _broadcast(t: Term, shapes: Shapes) -> Term:
    s, (a, *extents) = shapes[0], t.args
    lead = len(extents) - len(s)
    need(lead >= 0, "broadcast: the new shape has fewer axes")
    for own, new in zip(s, extents[lead:], strict=True):
        need(own is ONE or same_index(own, new), "broadcast: an axis is neither 1 nor the new extent")
    return tabulate(
        extents, lambda i, r: Psi(up(a, r), *[ZERO if e is ONE else x for e, x in zip(s, i[lead:], strict=True)])
    )


def _map(t: Term, shapes: Shapes) -> Term:
    return tabulate(shapes[0], lambda i, r: F(t.data, Psi(up(t.args[0], r), *i)))


def _pointwise(t: Term, shapes: Shapes) -> Term:
    (s, z), (a, b) = shapes, t.args
    need(not s or not z or (len(s) == len(z) and all(map(same_index, s, z))), "pointwise: the shapes differ")
    return tabulate(s or z, lambda i, r: F(t.data, Psi(up(a, r), *(i if s else ())), Psi(up(b, r), *(i if z else ()))))


def _omega(t: Term, shapes: Shapes) -> Term:
    """Apply the function to cells: the last ``rank`` axes of each argument.

    Trailing frames agree; the extra leading frame of one argument repeats the other (TR94's shape rule; its printed
    reduction rule picks other cells).
    """
    *arrays, function = t.args
    ranks = t.data
    for s, rank in zip(shapes, ranks, strict=True):
        need(rank <= len(s), "omega: a cell has more axes than its array")
    frames = [s[: len(s) - rank] for s, rank in zip(shapes, ranks, strict=True)]
    cells = [s[len(s) - rank :] for s, rank in zip(shapes, ranks, strict=True)]
    frame = max(frames, key=len)
    for f in frames:
        need(all(map(same_index, frame[len(frame) - len(f) :], f)), "omega: the frames differ")

    def element(i: Sequence[Term], r: int) -> Term:
        def cell(k: int) -> Term:
            own = i[len(i) - len(frames[k]) :] if frames[k] else []
            inside = lambda j, q: Psi(up(arrays[k], r + q), *[up(x, q) for x in own], *j)  # noqa: E731
            return tabulate([up(e, r) for e in cells[k]], inside)

        count = len(arrays)
        return instantiate(up(function, r, count), [cell(k) for k in reversed(range(count))])

    return tabulate(frame, element)


def _reduce(t: Term, shapes: Shapes) -> Term:
    s, (monoid, axis) = shapes[0], t.data
    need(0 <= axis < len(s), "reduce: no such axis")
    need(len(shapes) == 1 or (len(shapes[1]) == len(s) and all(map(same_index, s, shapes[1]))),
         "reduce: the visibility has another shape")  # fmt: skip

    def element(i: Sequence[Term], r: int) -> Term:
        at = [*[up(x) for x in i[:axis]], Var(0), *[up(x) for x in i[axis:]]]
        read = [Psi(up(x, r + 1), *at) for x in t.args]
        return Fold(monoid, up(s[axis], r), *read)

    return tabulate(s[:axis] + s[axis + 1 :], element)


def _outer(t: Term, shapes: Shapes) -> Term:
    (s, z), (a, b) = shapes, t.args
    return tabulate((*s, *z), lambda i, r: F(t.data, Psi(up(a, r), *i[: len(s)]), Psi(up(b, r), *i[len(s) :])))


def _inner(t: Term, shapes: Shapes) -> Term:
    s, z = shapes[:2]
    plus, times = t.data
    need(bool(s) and bool(z) and same_index(s[-1], z[0]), "inner: the last extent is not the first extent")
    need(len(shapes) == 2 or (len(shapes[2]) == len(s) and all(map(same_index, s, shapes[2]))),
         "inner: the visibility has another shape than the left argument")  # fmt: skip

    def element(i: Sequence[Term], r: int) -> Term:
        left = [*[up(x) for x in i[: len(s) - 1]], Var(0)]
        right = [Var(0), *[up(x) for x in i[len(s) - 1 :]]]
        pair = F(times, Psi(up(t.args[0], r + 1), *left), Psi(up(t.args[1], r + 1), *right))
        seen = [Psi(up(v, r + 1), *left) for v in t.args[2:]]
        return Fold(plus, up(z[0], r), pair, *seen)

    return tabulate((*s[:-1], *z[1:]), element)


_DEFINITIONS: dict[str, Callable[[Term, Shapes], Term]] = {
    "transpose": _transpose, "reshape": _reshape, "ravel": _ravel, "take": _take, "drop": _drop, "cat": _cat,
    "reverse": _reverse, "rotate": _rotate, "iota": _iota, "rho": _rho,
    "delta": lambda t, shapes: Int(len(shapes[0])), "tau": lambda t, shapes: product(shapes[0]),
    "lift": _lift, "broadcast": _broadcast, "map": _map, "pointwise": _pointwise, "omega": _omega,
    "reduce": _reduce, "outer": _outer, "inner": _inner,
}  # fmt: skip
