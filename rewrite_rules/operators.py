"""Scalar functions, reduction, products and the rank operator Omega.  Class I throughout.

Scalar extension means *any* argument of rank 0, not only a literal.  A reduction may carry a visibility array: what
it hides is skipped by the fold, so a mask never puts minus infinity into data.
"""

from __future__ import annotations

from moaproof.kernel.rules import Dim, Generic, M, Pair, Rule
from moaproof.term import MONOIDS, REAL_FUNCTIONS, Build, F, Fold, Psi, Size, Term, Var

from ._generic import array, indices, sizes
from .indexing import full, names

A, B, V = M("A"), M("B"), M("V")
BINARY = tuple(f for f, n in REAL_FUNCTIONS.items() if n == 2)
UNARY = tuple(f for f, n in REAL_FUNCTIONS.items() if n == 1)
SAFE = tuple(f for f in BINARY if f != "div")  # x / 0 is not defined: division is proved with a divisor e^x


def _map(f: str, rank: int) -> Pair:
    i = full(rank)
    return Psi(Term("map", f, (A,)), *i), F(f, Psi(A, *i))


def _map_generic(f: str, rank: int) -> Generic:
    s = sizes("s", rank)
    a = array("A", s)[1]
    whole = Term("map", "exp", (a,)) if f == "sqrt" else a
    return Generic(extents=s, metas={"A": (0, whole), **indices(names(rank), 0, rank)})


def _pointwise(f: str, rank: int) -> Pair:
    i = full(rank)
    return Psi(Term("pointwise", f, (A, B)), *i), F(f, Psi(A, *i), Psi(B, *i))


def _scalar_left(f: str, rank: int) -> Pair:
    i = full(rank)
    return Psi(Term("pointwise", f, (A, B)), *i), F(f, A, Psi(B, *i))


def _scalar_right(f: str, rank: int) -> Pair:
    i = full(rank)
    return Psi(Term("pointwise", f, (A, B)), *i), F(f, Psi(A, *i), B)


def _two(f: str, left: int, right: int) -> Generic:
    rank = max(left, right)
    s = sizes("s", rank)
    b = array("B", s[:right])[1]
    divisor = (Term("map", "exp", (b,)) if right else F("exp", b)) if f == "div" else b
    return Generic(extents=s, metas={"A": array("A", s[:left]), "B": (0, divisor), **indices(names(rank), 0, rank)})


def _cell(array_: Term, frame: list[Term], rank: int) -> Term:
    """The cell of an array at a frame index: the build of its last ``rank`` axes."""
    element: Term = Psi(array_, *frame, *[Var(rank - 1 - k) for k in range(rank)])
    for k in reversed(range(rank)):
        element = Build(Dim(len(frame) + k, array_), element)
    return element


def _omega(rank: int, cell: int, result: int) -> Pair:
    frame, q = full(rank - cell), full(result, "q")
    return Psi(Term("omega", (cell,), (A, M("f", Var(0)))), *frame, *q), Psi(M("f", _cell(A, frame, cell)), *q)


def _omega2(left: int, right: int, cell_left: int, cell_right: int, result: int) -> Pair:
    frame = full(max(left - cell_left, right - cell_right))
    q = full(result, "q")
    a = _cell(A, frame[len(frame) - (left - cell_left) :], cell_left)
    b = _cell(B, frame[len(frame) - (right - cell_right) :], cell_right)
    whole = Term("omega", (cell_left, cell_right), (A, B, M("f", Var(1), Var(0))))
    return Psi(whole, *frame, *q), Psi(M("f", a, b), *q)


def _omega_generic(rank: int, cell: int, result: int) -> Generic:
    s = sizes("s", rank)
    f: Term = Term("reduce", ("add", 0), (Var(0),)) if result == cell - 1 else Term("map", "neg", (Var(0),))
    f = F("neg", Var(0)) if cell == 0 else f
    extents = (*s[: rank - cell], *(s[rank - cell + 1 :] if result == cell - 1 else s[rank - cell :]))
    return Generic(extents=extents, metas={"A": array("A", s), "f": (1, f), **_both_indices(rank - cell, result)})


def _both_indices(frame: int, result: int) -> dict[str, tuple[int, Term]]:
    total = frame + result
    return {**indices(names(frame), 0, total), **indices(names(result, "q"), frame, total)}


def _omega2_generic(left: int, right: int, cell_left: int, cell_right: int, result: int) -> Generic:
    """The function is A - B by scalar extension for cells of ranks (1, 0), else the cells' inner product."""
    frame = max(left - cell_left, right - cell_right)
    f, own = sizes("f", frame), Size("x")
    cells_a: tuple[Term, ...]
    cells_b: tuple[Term, ...]
    out: tuple[Term, ...]
    if (cell_left, cell_right) == (1, 0):
        body, cells_a, cells_b, out = Term("pointwise", "sub", (Var(1), Var(0))), (own,), (), (own,)
    else:
        y, z = Size("y"), Size("z")
        body, cells_a, cells_b, out = Term("inner", ("add", "mul"), (Var(1), Var(0))), (own, y), (y, z), (own, z)
    a = array("A", (*f[frame - (left - cell_left) :], *cells_a))
    b = array("B", (*f[frame - (right - cell_right) :], *cells_b))
    return Generic(extents=(*f, *out), metas={"A": a, "B": b, "f": (2, body), **_both_indices(frame, result)})


def _reduce(monoid: str, axis: int, rank: int, masked: bool) -> Pair:
    j = full(rank - 1, "j")
    at = [*j[:axis], Var(0), *j[axis:]]
    arrays = (A, V) if masked else (A,)
    fold = Fold(monoid, Dim(axis, A), *[Psi(x, *at) for x in arrays])
    return Psi(Term("reduce", (monoid, axis), arrays), *j), fold


def _reduce_generic(monoid: str, axis: int, rank: int, masked: bool) -> Generic:
    s = sizes("s", rank)
    left = s[:axis] + s[axis + 1 :]
    masks = {"V": array("V", s, "bool")} if masked else {}
    return Generic(extents=left, metas={"A": array("A", s), **masks, **indices(names(rank - 1, "j"), 0, rank - 1)})


def _outer(f: str, left: int, right: int) -> Pair:
    i, j = full(left), full(right, "j")
    return Psi(Term("outer", f, (A, B)), *i, *j), F(f, Psi(A, *i), Psi(B, *j))


def _outer_generic(f: str, left: int, right: int) -> Generic:
    s, z = sizes("s", left), sizes("z", right)
    metas = {"A": array("A", s), "B": array("B", z), **indices(names(left), 0, left + right)}
    return Generic(extents=(*s, *z), metas={**metas, **indices(names(right, "j"), left, left + right)})


def _inner(plus: str, times: str, left: int, right: int, masked: bool) -> Pair:
    i, j = full(left - 1), full(right - 1, "j")
    pair = F(times, Psi(A, *i, Var(0)), Psi(B, Var(0), *j))
    seen = [Psi(V, *i, Var(0))] if masked else []
    whole = Term("inner", (plus, times), (A, B, V) if masked else (A, B))
    return Psi(whole, *i, *j), Fold(plus, Dim(0, B), pair, *seen)


def _inner_generic(plus: str, times: str, left: int, right: int, masked: bool) -> Generic:
    s, z, k = sizes("s", left - 1), sizes("z", right - 1), Size("k")
    masks = {"V": array("V", (*s, k), "bool")} if masked else {}
    metas = {"A": array("A", (*s, k)), "B": array("B", (k, *z)), **masks}
    total = left + right - 2
    at = {**indices(names(left - 1), 0, total), **indices(names(right - 1, "j"), left - 1, total)}
    return Generic(extents=(*s, *z), metas={**metas, **at})


RULES = (
    Rule(
        id="psi-map",
        law="i psi f(A)  ==>  f(i psi A)",
        source="TR94, unary scalar functions",
        kind="I",
        schema=_map,
        samples=tuple((f, r) for f in UNARY for r in (1, 2, 4)),
        generic=_map_generic,
    ),
    Rule(
        id="psi-pointwise",
        law="i psi (A f B)  ==>  (i psi A) f (i psi B)",
        source="TR94",
        kind="I",
        schema=_pointwise,
        samples=tuple((f, r) for f in BINARY for r in (1, 2)),
        generic=lambda f, r: _two(f, r, r),
    ),
    Rule(
        id="psi-scalar-left",
        law="i psi (a f B)  ==>  a f (i psi B), a of rank 0",
        source="TR94, scalar extension",
        kind="I",
        schema=_scalar_left,
        samples=tuple((f, r) for f in BINARY for r in (1, 2)),
        generic=lambda f, r: _two(f, 0, r),
    ),
    Rule(
        id="psi-scalar-right",
        law="i psi (A f b)  ==>  (i psi A) f b, b of rank 0",
        source="TR94, scalar extension",
        kind="I",
        schema=_scalar_right,
        samples=tuple((f, r) for f in BINARY for r in (1, 2, 4)),
        generic=lambda f, r: _two(f, r, 0),
    ),
    Rule(
        id="psi-omega",
        law="(i ++ q) psi (f Omega<c> A)  ==>  q psi f(i psi A), the cell of rank c",
        source="TR94, Omega, unary",
        kind="I",
        schema=_omega,
        samples=((1, 1, 0), (2, 1, 0), (3, 1, 0), (4, 1, 0), (3, 2, 1), (2, 1, 1), (2, 0, 0)),
        generic=_omega_generic,
    ),
    Rule(
        id="psi-omega2",
        law="(i ++ j ++ k ++ q) psi (A f Omega<c d> B)  ==>  q psi (((i ++ k) psi A) f ((j ++ k) psi B))",
        source="TR94, Omega, by its shape rule: trailing frames agree, an extra leading frame repeats the other",
        kind="I",
        schema=_omega2,
        samples=((2, 1, 1, 0, 1), (3, 2, 1, 0, 1), (4, 3, 1, 0, 1), (4, 4, 2, 2, 2), (3, 3, 2, 2, 2), (3, 2, 2, 2, 2)),
        generic=_omega2_generic,
    ),
    Rule(
        id="psi-reduce",
        law="j psi (f red_a A)  ==>  fold f over k < s_a of (j[:a] ++ <k> ++ j[a:]) psi A [where V shows it]",
        source="UG, TR94; the order is part of the law: a left fold in increasing k",
        kind="I",
        schema=_reduce,
        samples=tuple((f, a, r, v) for f in MONOIDS[:3] for a, r in ((0, 1), (1, 2), (1, 3)) for v in (False, True)),
        generic=_reduce_generic,
    ),
    Rule(
        id="psi-outer",
        law="(i ++ j) psi (A outer f B)  ==>  (i psi A) f (j psi B)",
        source="TR94",
        kind="I",
        schema=_outer,
        samples=(*((f, 1, 1) for f in SAFE), ("mul", 2, 1), ("mul", 1, 2)),
        generic=_outer_generic,
    ),
    Rule(
        id="psi-inner",
        law="(i ++ j) psi (A f.g B)  ==>  fold f over k of ((i ++ <k>) psi A) g ((<k> ++ j) psi B) [where V shows it]",
        source="TR94",
        kind="I",
        schema=_inner,
        samples=(
            ("add", "mul", 1, 1, False),
            ("add", "mul", 2, 2, False),
            ("add", "mul", 2, 1, False),
            ("add", "mul", 1, 3, False),
            ("max", "add", 2, 2, False),
            ("add", "mul", 2, 2, True),
        ),
        generic=_inner_generic,
    ),
)
