"""The values that the operator table computes with.  Trusted for claim (a).

A *real* is an array of reals as a MoA term; an axis of extent 1 that PyTorch made (``keepdim``, ``unsqueeze``) is a
*unit axis*: it is in the shape, not in the term.  *Cells* are an array of truth values or indices given by its index
function: masks and ``arange`` are read, never stored.

Visibility.  A score that was masked with -inf carries ``seen``, its visible cells, and the role "score": the term
gives the visible cells only.  exp of a score has role "weight" (invisible cells are 0), a maximum of scores or sum of
weights along the last axis has role "row".  The guards stand in the maximum, in the sum, and in the product with the
values; a value with a role has no other use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, NoReturn

from .. import term
from ..errors import CertificateInvalid, NotCovered
from ..operators import tabulate, typeof
from ..shapes import polynomial, same_index
from ..term import (
    MAX_ARITY,
    MAX_DEPTH,
    ONE,
    TRUE,
    ZERO,
    Add,
    And,
    F,
    In,
    Int,
    Lt,
    Mul,
    Not,
    Psi,
    Size,
    Term,
    Var,
    subterms,
    up,
)  # fmt: skip

Shape = tuple[Term, ...]
Index = Sequence[Term]


@dataclass(frozen=True, slots=True)
class Real:
    """An array of reals: the term's shape is ``shape`` without its unit axes."""

    term: Term
    shape: Shape = ()
    seen: Cells | None = None
    role: str = ""  # "", "score", "weight" or "row"
    origin: tuple[str, Real] | None = None  # of a row: its monoid and what it folds

    @property
    def visible(self) -> Cells:
        """The visible cells of a score or a weight."""
        return self.seen if self.seen is not None else refuse("no visibility is pending", CertificateInvalid)

    @property
    def core(self) -> Shape:
        return core(self.shape)


@dataclass(frozen=True, slots=True)
class Cells:
    """An array of truth values ("bool") or indices ("index"): its element at a full index of ``shape``."""

    sort: str
    shape: Shape
    at: Callable[[Index], Term]


MINUS_INFINITY: Final = object()  # the literal that masks


class Refusal(Exception):
    """Why a node is refused; the table adds the place."""

    def __init__(self, kind: type[Exception], why: str):
        self.kind, self.why = kind, why
        super().__init__(why)


def refuse(why: str, kind: type[Exception] = NotCovered) -> NoReturn:
    raise Refusal(kind, why)


# --- shapes --------------------------------------------------------------------------------------


def core(shape: Shape) -> Shape:
    """The axes that a term has: all but unit axes."""
    return tuple(e for e in shape if e is not ONE)


def joined(*shapes: Shape) -> Shape:
    """PyTorch's broadcasting: aligned at the right, each axis equal or 1."""
    rank = max(map(len, shapes))
    out: list[Term] = []
    for k in range(rank):
        extents = [s[k - rank + len(s)] for s in shapes if k - rank + len(s) >= 0]
        real = [e for e in extents if e is not ONE]
        if any(not same_index(real[0], e) for e in real[1:]):
            refuse(f"extents {real[0]!r} and {real[1]!r} meet; broadcasting is covered for equal extents and for 1")
        out.append(real[0] if real else ONE)
    return tuple(out)


def plus(i: Term, d: Term | int) -> Term:
    """i + d, with literals added up."""
    d = Int(d) if isinstance(d, int) else d
    if d.op == "int":
        if i.op == "int":
            return Int(i.data + d.data)
        if i.op == "iadd" and i.args[1].op == "int":
            return plus(i.args[0], i.args[1].data + d.data)
    return i if d is ZERO else d if i is ZERO else Add(i, d)


def minus(a: Term, b: Term) -> Term:
    """a - b, written as a literal or as a when it can be."""
    if b.op == "int":
        return plus(a, -b.data)
    return ZERO if a is b else Add(a, Mul(Int(-1), b))


def modest(t: Term) -> Term:
    """An index term whose polynomial is small enough to be computed; a hostile graph is refused here."""
    sizes: dict[Term, tuple[int, int]] = {}  # a bound on the monomials and on the degree

    for u in subterms(t):
        (m, d), (n, e) = ([sizes[x] for x in u.args] + [(0, 0), (0, 0)])[:2]
        sizes[u] = {"iadd": (m + n, max(d, e)), "imul": (m * n, d + e)}.get(u.op, (1, 1))
        if max(sizes[u]) > 256:
            refuse("a size is too large an expression", CertificateInvalid)
    return t


def evident(a: Term, b: Term) -> bool:
    """Is a < b for all natural numbers, because b - a has no negative coefficient and a positive constant?"""
    rows = polynomial(modest(minus(b, a)))
    return all(c > 0 for _, c in rows) and any(not m for m, _ in rows)


# --- truth values --------------------------------------------------------------------------------


def negated(g: Term) -> Term:
    """not g; of a comparison of integers the opposite comparison, so that not (i < k) is k <= i."""
    if g.op == "not":
        return g.args[0]
    if g.op == "lt":
        a, b = g.args
        if b.op == "iadd" and b.args[1] is ONE:
            return Lt(b.args[0], a)
        return Lt(b, Add(a, ONE))
    return Not(g)


def both(g: Term, h: Term) -> Term:
    return h if g is TRUE else g if h is TRUE or g is h else And(g, h)


def either(g: Term, h: Term) -> Term:
    return Not(And(negated(g), negated(h)))


def lookup(x: Cells, index: Index) -> Term:
    """The element of cells that are broadcast to ``index``: aligned at the right, 0 at unit axes."""
    own = index[len(index) - len(x.shape) :]
    return x.at([ZERO if e is ONE else i for e, i in zip(x.shape, own, strict=True)])


def cellwise(sort: str, f: Callable[..., Term], *xs: Cells) -> Cells:
    """A function of the elements; each element is made once."""
    made: dict[Index, Term] = {}

    def at(i: Index) -> Term:
        key = tuple(i)
        if key not in made:
            made[key] = f(*(lookup(x, i) for x in xs))
        return made[key]

    return Cells(sort, joined(*(x.shape for x in xs)), at)


def array_of(x: Cells, shape: Shape) -> Term:
    """Cells as a term over ``shape``; an input that is read as it stands stays the input."""
    axes = [k for k, e in enumerate(shape) if e is not ONE]

    def element(i: Index, r: int) -> Term:
        full = [ZERO] * len(shape)
        for k, v in zip(axes, i, strict=True):
            full[k] = v
        return lookup(x, full)

    t = tabulate(core(shape), element)
    body, r = t, len(axes)
    for _ in range(r):
        body = body.args[1]
    if body.op == "psi" and body.args[0].op == "in" and list(body.args[1:]) == [Var(r - 1 - k) for k in range(r)]:
        return body.args[0]
    return t


# --- reals ---------------------------------------------------------------------------------------


def real(x: Any) -> Real:
    """A value as reals without pending visibility: an array, a Python number, or a size."""
    if isinstance(x, Real):
        if x.role:
            refuse(
                f"a masked {x.role} is used otherwise than in the softmax and its product with the values;"
                " mask the scores last, take the softmax over the last axis, multiply by the values"
            )
        return x
    if isinstance(x, bool):
        refuse("a truth value stands where a number is due")
    if isinstance(x, int):
        return Real(term.Real(x))
    if isinstance(x, Fraction):
        return Real(term.Real(x.numerator, x.denominator))
    if isinstance(x, Cells) and x.sort == "index" and not x.shape:
        return Real(Term("cast", None, (x.at(()),)))
    if isinstance(x, Cells):
        refuse("a mask or an array of indices is used in real arithmetic; only boolean masks are covered")
    if x is MINUS_INFINITY:
        refuse("-inf stands in arithmetic; only masked_fill and where put -inf where a boolean mask says so")
    refuse(f"{type(x).__name__} stands where an array is due")


def cells(x: Any, sort: str) -> Cells:
    if isinstance(x, Cells) and x.sort == sort:
        return x
    if sort == "index" and type(x) is int:
        return Cells("index", (), lambda i: Int(x))
    if sort == "bool" and isinstance(x, bool):
        return Cells("bool", (), lambda i: TRUE if x else Not(TRUE))
    refuse(f"a boolean mask is due, not {_kind(x)}" if sort == "bool" else f"an integer is due, not {_kind(x)}")


def _kind(x: Any) -> str:
    return {Real: "real values (a float mask is not covered)"}.get(type(x), type(x).__name__)


def index(x: Any) -> Term:
    """A Python integer or an expression of sizes."""
    c = cells(x, "index")
    if c.shape:
        refuse("an array of indices stands where one integer is due")
    return modest(c.at(()))


def literal(x: Any, what: str) -> int:
    if type(x) is not int:
        refuse(f"{what} is due as a literal integer")
    return int(x)


def axis(x: Any, rank: int) -> int:
    """A literal axis, counted from the front."""
    k = literal(x, "the axis")
    if not -rank <= k < rank:
        refuse(f"there is no axis {k} in an array of rank {rank}")
    return k % rank


def checked(t: Term, shape: Shape, **fields: Any) -> Real:
    """A real whose term is well formed and has the shape; a failure is a bad graph, not a refusal of the table."""
    if t.depth > MAX_DEPTH:
        refuse(f"the term is nested more than {MAX_DEPTH} deep")
    found = typeof(t).shape
    if len(found) != len(core(shape)) or not all(map(same_index, found, core(shape))):
        refuse("the operator's shape is not what its definition gives")
    return Real(t, shape, **fields)


def positions(shape: Shape, result: Shape) -> list[int]:
    """Where the axes of a broadcast argument stand among the axes of the result's term."""
    kept = [k for k, e in enumerate(result) if e is not ONE]
    lead = len(result) - len(shape)
    return [kept.index(k + lead) for k, e in enumerate(shape) if e is not ONE]


def omega(ranks: tuple[int, ...], arrays: Sequence[Term], function: Callable[..., Term]) -> Term:
    """The function on cells of these ranks.  Three arrays are more than the operator takes: then its definition."""
    if len(arrays) < MAX_ARITY["omega"]:
        slots = [Var(len(arrays) - 1 - k) for k in range(len(arrays))]
        return Term("omega", ranks, (*arrays, function(*slots)))
    shapes = [typeof(a).shape for a in arrays]
    frames = [s[: len(s) - rank] for s, rank in zip(shapes, ranks, strict=True)]
    frame = max(frames, key=len)

    def element(i: Index, r: int) -> Term:
        def cell(a: Term, s: Shape, own: int) -> Term:
            return tabulate(s[own:], lambda j, q: Psi(a, *[up(x, q) for x in i[r - own :]], *j))

        return function(*map(cell, arrays, shapes, map(len, frames)))

    return tabulate(frame, element)


def pointwise(f: str, x: Real, y: Real) -> Real:
    """x f y with PyTorch's broadcasting, as the most telling MoA operator that says it."""
    shape = joined(x.shape, y.shape)
    hx, hy = positions(x.shape, shape), positions(y.shape, shape)
    whole = list(range(len(core(shape))))
    a, b = x.term, y.term

    def on_cells(u: Term, v: Term) -> Term:
        return Term("pointwise", f, (u, v))

    if not whole:
        t = F(f, a, b)
    elif hx == hy or not hx or not hy:
        t = on_cells(a, b)
    elif hx == whole and hy == whole[: len(hy)]:
        t = omega((len(hx) - len(hy), 0), (a, b), on_cells)
    elif hy == whole and hx == whole[: len(hx)]:
        t = omega((0, len(hy) - len(hx)), (a, b), on_cells)
    elif (hx == whole and hy == whole[len(whole) - len(hy) :]) or (hy == whole and hx == whole[len(whole) - len(hx) :]):
        rank = min(len(hx), len(hy))
        t = omega((rank, rank), (a, b), on_cells)
    elif hx + hy == whole:
        t = Term("outer", f, (a, b))
    else:
        t = tabulate(core(shape), lambda i, r: F(f, Psi(a, *[i[k] for k in hx]), Psi(b, *[i[k] for k in hy])))
    return checked(t, shape)


def mapped(f: str, x: Real) -> Real:
    return checked(Term("map", f, (x.term,)) if x.core else F(f, x.term), x.shape)


def gathered(x: Real, shape: Shape, source: Callable[[Index], Index]) -> Real:
    """The array of ``shape`` whose element at i is that of x at ``source(i)``; both are full indices of the terms."""
    return checked(tabulate(core(shape), lambda i, r: Psi(x.term, *source(i))), shape)


def permuted(x: Real | Cells, order: Sequence[int]) -> Real | Cells:
    """Result axis j is argument axis order[j].  MoA's permutation is the inverse: argument axis k becomes v[k]."""
    shape = tuple(x.shape[k] for k in order)
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda i: x.at([i[order.index(k)] for k in range(len(order))]))
    kept = [k for k in order if x.shape[k] is not ONE]
    ranked = sorted(kept)
    v = tuple(kept.index(k) for k in ranked)
    if v == tuple(range(len(v))):
        return replace(real(x), shape=shape)
    return checked(Term("transpose", v, (real(x).term,)), shape)


def reduced(monoid: str, x: Real, dims: Sequence[int], keepdim: bool) -> Real:
    """The fold of plain values along some axes, the last one first."""
    t = x.term
    for k in sorted(dims, reverse=True):
        if x.shape[k] is not ONE:
            t = Term("reduce", (monoid, len(core(x.shape[:k]))), (t,))
    return checked(t, without(x.shape, dims, keepdim))


def without(shape: Shape, dims: Sequence[int], keepdim: bool) -> Shape:
    return tuple(ONE if k in dims else e for k, e in enumerate(shape) if keepdim or k not in dims)


def input_value(name: str, extents: Sequence[str], sort: str) -> Real | Cells:
    shape = tuple(map(Size, extents))
    t = In(name, *shape, sort=sort)
    return Real(t, shape) if sort == "real" else Cells("bool", shape, lambda i: Psi(t, *i))
