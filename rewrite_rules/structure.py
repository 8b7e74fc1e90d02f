"""Structural operations: transpose, take, drop, cat, reverse, rotate, iota, reshape, shape.  Class I throughout.

Laws for a full index i, or i = <i0> ++ r where the operation is on axis 0.
"""

from __future__ import annotations

from itertools import permutations

from moaproof.kernel.rules import Dim, Generic, M, Pair, Rule
from moaproof.shapes import gamma, gamma_inverse, product
from moaproof.term import ONE, Add, Div, In, Int, Le, Lt, Mul, Psi, Size, Sub, Term, Where

from ._generic import array, every, indices, sizes
from .indexing import full, names

A, B, N = M("A"), M("B"), M("N")


def _transpose(v: tuple[int, ...]) -> Pair:
    i = full(len(v))
    return Psi(Term("transpose", v, (A,)), *i), Psi(A, *[i[axis] for axis in v])


def _transpose_generic(v: tuple[int, ...]) -> Generic:
    s = sizes("s", len(v))
    result = tuple(s[v.index(axis)] for axis in range(len(v)))
    return Generic(extents=result, metas={"A": array("A", s), **indices(names(len(v)), 0, len(v))})


def _compose(v: tuple[int, ...], w: tuple[int, ...]) -> Pair:
    inner = Term("transpose", w, (A,))
    return Term("transpose", v, (inner,)), Term("transpose", tuple(v[axis] for axis in w), (A,))


def _section(op: str, signs: tuple[int, ...], rank: int) -> Pair:
    i, counts = full(rank), [M(f"n{k}") for k in range(len(signs))]
    moved = []
    for k, (n, sign) in enumerate(zip(counts, signs, strict=True)):
        if op == "take":
            moved.append(i[k] if sign > 0 else Add(i[k], Sub(Dim(k, A), n)))
        else:
            moved.append(Add(i[k], n) if sign > 0 else i[k])
    return Psi(Term(op, signs, (A, *counts)), *i), Psi(A, *moved, *i[len(signs) :])


def _section_generic(op: str, signs: tuple[int, ...], rank: int) -> Generic:
    s, n = sizes("s", rank), sizes("n", len(signs))
    cut = [x if op == "take" else Sub(s[k], x) for k, x in enumerate(n)]
    metas = {"A": array("A", s), **{f"n{k}": (0, x) for k, x in enumerate(n)}, **indices(names(rank), 0, rank)}
    conditions = (every(*[Le(x, s[k]) for k, x in enumerate(n)]),)
    needless = {0: "i < s - n is possible for no other count"} if op == "drop" else {}
    return Generic(extents=(*cut, *s[len(signs) :]), metas=metas, conditions=conditions, needless=needless)


def _cat(rank: int) -> Pair:
    i = full(rank)
    first = Psi(A, *i)
    second = Psi(B, Sub(i[0], Dim(0, A)), *i[1:])
    return Psi(Term("cat", None, (A, B)), *i), Where(Lt(i[0], Dim(0, A)), first, second)


def _cat_generic(rank: int) -> Generic:
    tail = sizes("s", rank - 1)
    a, b = Size("a"), Size("b")
    metas = {"A": array("A", (a, *tail)), "B": array("B", (b, *tail)), **indices(names(rank), 0, rank)}
    return Generic(extents=(Add(a, b), *tail), metas=metas)


def _reverse(rank: int) -> Pair:
    i = full(rank)
    return Psi(Term("reverse", None, (A,)), *i), Psi(A, Sub(Sub(Dim(0, A), ONE), i[0]), *i[1:])


def _rotate(rank: int) -> Pair:
    i = full(rank)
    moved, n = Add(i[0], N), Dim(0, A)
    return Psi(Term("rotate", None, (A, N)), *i), Psi(A, Sub(moved, Mul(n, Div(moved, n))), *i[1:])


def _on_axis_0(rank: int) -> Generic:
    s = sizes("s", rank)
    return Generic(extents=s, metas={"A": array("A", s), **indices(names(rank), 0, rank)})


def _rotate_generic(rank: int) -> Generic:
    g = _on_axis_0(rank)
    return Generic(extents=g.extents, metas={**g.metas, "N": (0, Size("by"))})


def _reshape(old: int, new: int) -> Pair:
    i, v = full(new), [M(f"v{k}") for k in range(new)]
    back = gamma_inverse(gamma(i, v), [Dim(k, A) for k in range(old)])
    return Psi(Term("reshape", None, (A, *v)), *i), Psi(A, *back)


def _reshape_generic(old: int, new: int) -> Generic:
    s, v = sizes("s", old), sizes("v", new)
    a, b = product(s), product(v)
    metas = {"A": array("A", s), **{f"v{k}": (0, x) for k, x in enumerate(v)}, **indices(names(new), 0, new)}
    return Generic(extents=v, metas=metas, conditions=(Lt(a, Add(b, ONE)), Lt(b, Add(a, ONE))))


def _ravel(rank: int) -> Pair:
    return Psi(Term("ravel", None, (A,)), M("i")), Psi(A, *gamma_inverse(M("i"), [Dim(k, A) for k in range(rank)]))


def _ravel_generic(rank: int) -> Generic:
    s = sizes("s", rank)
    return Generic(extents=(product(s),), metas={"A": array("A", s), **indices(["i"], 0, 1)})


def _lift(axis: int, rank: int) -> Pair:
    i, b, t = full(rank + 1), M("b"), M("t")
    joined = Add(Mul(i[axis], t), i[axis + 1])
    return Psi(Term("lift", axis, (A, b, t)), *i), Psi(A, *i[:axis], joined, *i[axis + 2 :])


def _lift_generic(axis: int, rank: int) -> Generic:
    s, b, t = sizes("s", rank), Size("b"), Size("t")
    total = Mul(b, t)
    metas = {"A": array("A", s), "b": (0, b), "t": (0, t), **indices(names(rank + 1), 0, rank + 1)}
    conditions = (Lt(total, Add(s[axis], ONE)), Lt(s[axis], Add(total, ONE)))
    return Generic(extents=(*s[:axis], b, t, *s[axis + 1 :]), metas=metas, conditions=conditions)


def _broadcast(own: tuple[int, ...], lead: int) -> Pair:
    """``own``: 1 for an axis that is repeated, 0 for one that is kept."""
    i = full(lead + len(own))
    extents = [M(f"v{k}") for k in range(lead + len(own))]
    at = [Int(0) if one else i[lead + k] for k, one in enumerate(own)]
    return Psi(Term("broadcast", None, (A, *extents)), *i), Psi(A, *at)


def _broadcast_generic(own: tuple[int, ...], lead: int) -> Generic:
    v = sizes("v", lead + len(own))
    s = [ONE if one else v[lead + k] for k, one in enumerate(own)]
    metas = {"A": array("A", s), **{f"v{k}": (0, x) for k, x in enumerate(v)}, **indices(names(len(v)), 0, len(v))}
    return Generic(extents=v, metas=metas)


CYCLES = (*((v,) for r in (1, 2, 3) for v in permutations(range(r))), ((1, 2, 3, 0),), ((0, 1, 3, 2),))
SECTIONS = (((1,), 1), ((-1,), 2), ((1, -1), 2), ((1, -1), 3), ((-1, 1, 1), 4))

RULES = (
    Rule(
        id="psi-transpose",
        law="i psi (v transpose A)  ==>  i[v] psi A",
        source="APL dyadic transpose, shape (rho A)[gu v] (Mullin 1988); index law checked for all of rank 3, 4",
        kind="I",
        schema=_transpose,
        samples=CYCLES,
        generic=_transpose_generic,
    ),
    Rule(
        id="transpose-compose",
        law="v transpose (w transpose A)  ==>  v[w] transpose A",
        source="follows from psi-transpose",
        kind="I",
        schema=_compose,
        samples=(((1, 0), (1, 0)), ((1, 2, 0), (1, 2, 0)), ((0, 2, 1), (1, 2, 0)), ((3, 0, 2, 1), (1, 2, 3, 0))),
        generic=lambda v, w: Generic(metas={"A": array("A", sizes("s", len(w)))}),
        library=True,
    ),
    Rule(
        id="psi-take",
        law="i psi (n take A)  ==>  (i + (n < 0) * (s - |n|)) psi A, on each taken axis",
        source="TR94 (printed with |n| < s; a full take is allowed here)",
        when=("each count is at most its extent",),
        kind="I",
        schema=lambda signs, rank: _section("take", signs, rank),
        samples=SECTIONS,
        generic=lambda signs, rank: _section_generic("take", signs, rank),
    ),
    Rule(
        id="psi-drop",
        law="i psi (n drop A)  ==>  (i + max(n, 0)) psi A, on each dropped axis",
        source="TR94 (printed v[n+1] for v[n+i])",
        when=("each count is at most its extent",),
        kind="I",
        schema=lambda signs, rank: _section("drop", signs, rank),
        samples=SECTIONS,
        generic=lambda signs, rank: _section_generic("drop", signs, rank),
    ),
    Rule(
        id="psi-cat",
        law="(<i> ++ r) psi (A ++ B)  ==>  i < a ? (<i> ++ r) psi A : (<i - a> ++ r) psi B, a = first extent of A",
        source="TR94, Cat",
        kind="I",
        schema=_cat,
        samples=((1,), (2,), (3,)),
        generic=_cat_generic,
    ),
    Rule(
        id="psi-reverse",
        law="(<i> ++ r) psi (reverse A)  ==>  (<s - 1 - i> ++ r) psi A",
        source="SM",
        kind="I",
        schema=_reverse,
        samples=((1,), (2,), (3,)),
        generic=_on_axis_0,
    ),
    Rule(
        id="psi-rotate",
        law="(<i> ++ r) psi (n rotate A)  ==>  (<(i + n) mod s> ++ r) psi A",
        source="SM, Pull rotate; mod is mathematical, and s > 0 because i < s",
        kind="I",
        schema=_rotate,
        samples=((1,), (2,), (3,)),
        generic=_rotate_generic,
    ),
    Rule(
        id="psi-reshape",
        law="i psi (v reshape A)  ==>  gamma'(gamma(i; v); rho A) psi A",
        source="TR94",
        when=("tau A <= pi v", "pi v <= tau A"),
        kind="I",
        schema=_reshape,
        samples=((1, 2), (2, 1), (2, 2), (2, 3), (3, 2)),
        generic=_reshape_generic,
        library=True,
    ),
    Rule(
        id="psi-ravel",
        law="<q> psi (rav A)  ==>  gamma'(q; rho A) psi A",
        source="TR94, UG",
        kind="I",
        schema=_ravel,
        samples=((1,), (2,), (3,)),
        generic=_ravel_generic,
        library=True,
    ),
    Rule(
        id="psi-lift",
        law="(.. <I> ++ <r> ..) psi (lift A)  ==>  (.. <I*t + r> ..) psi A",
        source="PAD; dimension lifting of an axis of extent b*t",
        when=("b*t <= s", "s <= b*t"),
        kind="I",
        schema=_lift,
        samples=((0, 1), (0, 2), (1, 2), (1, 3)),
        generic=_lift_generic,
        library=True,
    ),
    Rule(
        id="psi-broadcast",
        law="i psi (v broadcast A)  ==>  i' psi A, i' = 0 on the axes of A of extent 1 and i (right-aligned) elsewhere",
        source="NumPy's broadcasting rule; not in MoA, where it is scalar extension and Omega",
        kind="I",
        schema=_broadcast,
        samples=(((0,), 1), ((1, 0), 0), ((0, 1), 1), ((1, 1, 0, 0), 0)),
        generic=_broadcast_generic,
    ),
    Rule(
        id="psi-iota",
        law="<i> psi (iota n)  ==>  i",
        source="TR94",
        kind="I",
        schema=lambda: (Psi(Term("iota", None, (M("n"),)), M("i")), M("i")),
        generic=lambda: Generic(extents=(Size("n"),), metas={"n": (0, Size("n")), **indices(["i"], 0, 1)}),
    ),
    Rule(
        id="psi-iota-vector",
        law="(i ++ <k>) psi (iota v)  ==>  i[k], k a number",
        source="TR94, UG",
        kind="I",
        schema=lambda rank, k: (
            Psi(Term("iota", None, tuple(M(f"v{j}") for j in range(rank))), *full(rank), Int(k)),
            M(f"i{k}"),
        ),
        samples=((2, 0), (2, 1), (3, 1)),
        generic=lambda rank, k: Generic(
            extents=sizes("v", rank),
            metas={**{f"v{j}": (0, x) for j, x in enumerate(sizes("v", rank))}, **indices(names(rank), 0, rank)},
        ),
        library=True,
    ),
    Rule(
        id="psi-rho",
        law="<k> psi (rho A)  ==>  extent k of A, k a number",
        source="TR94: shapes are constants of the derivation",
        kind="I",
        schema=lambda rank, k: (Psi(Term("rho", None, (A,)), Int(k)), Dim(k, A)),
        samples=((1, 0), (3, 1), (3, 2)),
        generic=lambda rank, k: Generic(metas={"A": array("A", sizes("s", rank))}),
        library=True,
    ),
    Rule(
        id="delta",
        law="delta A  ==>  the rank of A",
        source="TR94",
        kind="I",
        schema=lambda rank: (Term("delta", None, (A,)), Int(rank)),
        samples=((0,), (2,), (4,)),
        generic=lambda rank: Generic(metas={"A": (0, In("A", *sizes("s", rank)))}),
        library=True,
    ),
    Rule(
        id="tau",
        law="tau A  ==>  pi (rho A)",
        source="TR94; pi <> = 1",
        kind="I",
        schema=lambda rank: (Term("tau", None, (A,)), product([Dim(k, A) for k in range(rank)])),
        samples=((0,), (1,), (3,)),
        generic=lambda rank: Generic(metas={"A": (0, In("A", *sizes("s", rank)))}),
        library=True,
    ),
)
