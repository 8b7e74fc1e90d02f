"""Sharing: let, hoisting, staging, and the order of independent iterations.  Class S: every bit kept, the cost changed.

Psi-reduction says nothing of cost.  One law does most of the work: naming a value, wherever in a term its copies
stand, hoists it, stages it, or only names it; used from right to left it inlines.  What it mentions must be bound
outside, or it could not be written.
"""

from __future__ import annotations

from moaproof.kernel.rules import Generic, M, Pair, Rule
from moaproof.term import MONOIDS, And, Build, F, Fold, Let, Psi, Real, Size, Term, Var, Where

from ._generic import array, function, owed

N, V = M("n"), M("V")


def _swap(monoid: str) -> Pair:
    rows, guard = M("s"), M("g", Var(0))
    inside = Build(rows, Fold(monoid, N, M("X", Var(0), Var(1)), guard))
    return inside, Fold(monoid, N, Build(rows, M("X", Var(1), Var(0))), guard)


def _swap_generic(monoid: str) -> Generic:
    n, s = Size("n"), Size("s")
    metas = {"s": (0, s), "n": (0, n), "g": function("G", (n,), "bool"), "X": function("F", (n, s))}
    return Generic(metas=metas)


def _guard_where(monoid: str) -> Pair:
    guard = M("g", Var(0))
    return Fold(monoid, N, M("X", Var(0)), guard), Fold(monoid, N, Where(guard, M("X", Var(0)), M("Z", Var(0))), guard)


def _guard_where_generic(monoid: str) -> Generic:
    n = Size("n")
    metas = {"n": (0, n), "g": function("G", (n,), "bool"), "X": function("F", (n,)), "Z": (1, Real(0))}
    return Generic(metas=metas)


def _let_generic() -> Generic:
    n = Size("n")
    total = Fold("add", n, Psi(array("F", (n,))[1], Var(0)))
    use = Build(n, F("sub", Psi(array("F", (n,))[1], Var(0)), Var(1)))
    return Generic(metas={"V": (0, total), "X": (1, use)})


def _skip(monoid: str) -> Pair:
    guard = M("g", Var(0))
    return Fold(monoid, N, M("X", Var(0)), guard), Fold(monoid, N, M("X", Var(0)), And(M("h", Var(0)), guard))


def _element(monoid: str, n: Term) -> tuple[int, Term]:
    """Any element k of a fold over n; of states, any score and value of weight 1."""
    count, x = function("F", (n,))
    return count, Term("state", None, (x, Real(1), x)) if monoid == "softmax" else x


def _skip_generic(monoid: str) -> Generic:
    """Any g that implies h is h and some other guard."""
    n = Size("n")
    h = function("H", (n,), "bool")
    g = (1, And(function("G", (n,), "bool")[1], h[1]))
    return Generic(metas={"n": (0, n), "g": g, "h": h, "X": _element(monoid, n)})


RULES = (
    Rule(
        id="let",
        law="X(V)  ==>  let x = V in X(x)",
        source="a name means its definition; right to left it is inlining",
        kind="S",
        schema=lambda: (M("X", V), Let(V, M("X", Var(0)))),
        generic=_let_generic,
    ),
    Rule(
        id="swap-build-fold",
        law="[c < s] fold k < n (g) of X(k, c)  ==>  fold k < n (g) of [c < s] X(k, c)",
        source="a fold of arrays acts cell by cell; the cells are independent",
        kind="I",
        schema=_swap,
        samples=tuple((f,) for f in MONOIDS[:3]),
        generic=_swap_generic,
    ),
    Rule(
        id="guard-where",
        law="fold k < n (g) of X(k)  ==>  fold k < n (g) of where(g, X(k), Z(k))",
        source="the guard holds wherever the element is used",
        kind="I",
        schema=_guard_where,
        samples=tuple((f,) for f in MONOIDS[:3]),
        generic=_guard_where_generic,
    ),
    Rule(
        id="narrow-guard",
        law="fold k < n (g) of X(k)  ==>  fold k < n (h and g) of X(k)",
        source="elements that the guard excludes anyway",
        when=(owed("g implies h"),),
        kind="I",
        schema=_skip,
        samples=tuple((f,) for f in MONOIDS),
        generic=_skip_generic,
    ),
)
