"""Laws of real algebra for softmax: they keep the value over the reals and change bits.  Class R.

A(k) stands for a summand, S(k) for a score, g(k) for the visibility of key k.  A softmax state (m, l, o) has the
weight l*e^m and the value o*e^m; states merge by adding both (Milakov & Gimelshein 2018; FlashAttention, Dao et al.
2022).  A row with no visible key is Empty, and its quotient is 0.
"""

from __future__ import annotations

from moaproof.kernel.rules import Generic, M, Pair, Rule
from moaproof.term import (
    TRUE,
    Add,
    Build,
    F,
    Fold,
    Le,
    Lt,
    Mul,
    Psi,
    Real,
    Size,
    Term,
    Var,
    Where,
    tile_extent,
)  # fmt: skip

from ._generic import IMPLIED, function, owed, tiling

N, D = M("n"), M("d")
G = M("g", Var(0))
S, W, E = M("S", Var(0)), M("W", Var(0)), M("E", Var(0))
ONE_REAL = Real(1)


def State(m: Term, l: Term, o: Term) -> Term:
    return Term("state", None, (m, l, o))


def Quotient(state: Term) -> Term:
    return Term("quotient", None, (state,))


def _distribute() -> Pair:
    z = M("Z")
    weighted = Fold("add", N, F("mul", F("div", E, z), W), G)
    return weighted, F("div", Fold("add", N, F("mul", E, W), G), z)


def _shift() -> Pair:
    top = M("T")

    def weighted(s: Term) -> Term:
        total = Fold("add", N, F("exp", s), G)
        return Fold("add", N, F("mul", F("div", F("exp", s), total), W), G)

    return weighted(S), weighted(F("sub", S, top))


def _softmax_row(o: Term) -> Pair:
    """One row times one column of V: the two passes over the keys that softmax asks for, as one fold of states."""
    top = Fold("max", N, S, G)
    moved = F("sub", S, top)
    total = Fold("add", N, F("exp", moved), G)
    weights = F("div", F("exp", moved), total)
    return Fold("add", N, F("mul", weights, W), G), Quotient(Fold("softmax", N, State(S, ONE_REAL, o), G))


def _state_rows() -> Pair:
    """[c < d] of a quotient whose states differ in o alone: the states share m and l."""
    each = Quotient(Fold("softmax", N, State(S, M("L", Var(0)), M("W", Var(0), Var(1))), G))
    row = State(S, M("L", Var(0)), Build(D, M("W", Var(1), Var(0))))
    shared = Quotient(Fold("softmax", N, row, G))
    return Build(D, each), shared


def _tiled(monoid: str, guard: Term) -> Pair:
    b, t = M("b"), M("t")
    k = Add(Mul(Var(1), t), Var(0))
    inner = Fold(monoid, tile_extent(N, t, Var(0)), M("X", k), M("g", k))
    return Fold(monoid, N, M("X", Var(0)), G), Fold(monoid, b, inner, guard)


def _split(monoid: str) -> Pair:
    return _tiled(monoid, TRUE)


def _split_more(monoid: str) -> Pair:
    """As ``_split``, by more tiles than are needed: one that starts beyond the end is passed over."""
    return _tiled(monoid, Lt(Mul(Var(0), M("t")), N))


def _tile_state(guarded: bool) -> Pair:
    """A tile of keys: its maximum, then its sums: two passes over scores that are in reach.

    ``guarded``: a weight that the guard hides is written as 0, so that the weights may be named before the sums.
    """
    top = Fold("max", N, S, G)
    weight = F("exp", F("sub", S, top))
    if guarded:
        weight = Where(G, weight, Real(0))
    sums = Build(D, Fold("add", N, F("mul", weight, M("W", Var(0), Var(1))), G))
    left = Fold("softmax", N, State(S, ONE_REAL, Build(D, M("W", Var(1), Var(0)))), G)
    return left, State(top, Fold("add", N, weight, G), sums)


def _psi_quotient() -> Pair:
    row, c = M("X", Var(0)), M("c")
    left = Psi(Quotient(Fold("softmax", N, row, G)), c)
    return left, Quotient(Fold("softmax", N, Psi(row, c), G))


def _skip_tiles(monoid: str) -> Pair:
    return Fold(monoid, N, M("X", Var(0))), Fold(monoid, N, M("X", Var(0)), M("h", Var(0)))


# --- the instances in which they are proved --------------------------------------------------------


def _row_metas() -> dict[str, tuple[int, Term]]:
    n = Size("n")
    return {"n": (0, n), "g": function("G", (n,), "bool"), "S": function("S", (n,)), "W": function("W", (n,))}


def _distribute_generic() -> Generic:
    n, z = Size("n"), F("exp", Term("in", ("z", "real")))
    metas = {"n": (0, n), "g": function("G", (n,), "bool"), "E": function("E", (n,)), "W": function("W", (n,))}
    return Generic(metas={**metas, "Z": (0, z)})


def _psi_quotient_generic() -> Generic:
    metas = _with_columns()
    d, w = metas.pop("d")[1], metas.pop("W")[1]
    row = State(metas.pop("S")[1], ONE_REAL, Build(d, w))
    return Generic(extents=(d,), metas={**metas, "X": (1, row), "c": (0, Var(0))})


def _with_columns() -> dict[str, tuple[int, Term]]:
    n, d = Size("n"), Size("d")
    return {**_row_metas(), "d": (0, d), "W": function("W", (n, d))}


def _split_generic(monoid: str) -> Generic:
    n, b, t = Size("n"), Size("b"), Size("t")
    element = function("F", (n,))[1]
    x = State(element, ONE_REAL, element) if monoid == "softmax" else element
    metas = {"n": (0, n), "b": (0, b), "t": (0, t), "g": function("G", (n,), "bool"), "X": (1, x)}
    return Generic(metas=metas, conditions=tiling(n, b, t), needless=IMPLIED)


def _split_more_generic(monoid: str) -> Generic:
    positive, enough, _ = tiling(Size("n"), Size("b"), Size("t"))
    why = "0 < T or there is no element, as J*T < n and n <= b*T say; the checker alone needs it, to see one fold"
    return Generic(metas=_split_generic(monoid).metas, conditions=(positive, enough), needless={0: why})


def _skip_generic(monoid: str) -> Generic:
    """Tiles of keys under a causal mask: a tile that starts after row i has no visible key."""
    b, t, i, n = Size("b"), Size("t"), Size("i"), Size("n")
    k = Add(Mul(Var(1), t), Var(0))
    read = Psi(Term("in", ("F", "real"), (n,)), k)
    leaf = State(read, ONE_REAL, read) if monoid == "softmax" else read
    tile = Fold(monoid, tile_extent(n, t, Var(0)), leaf, Le(k, i))
    metas = {"n": (0, b), "h": (1, Le(Mul(Var(0), t), i)), "X": (1, tile)}
    uncovered = (
        "no tile means more or less for it; the checker alone needs it, to see both sides as folds over the axis"
    )
    return Generic(metas=metas, conditions=tiling(n, b, t), needless={**IMPLIED, 1: uncovered})


RULES = (
    Rule(
        id="distribute-division",
        law="sum_k (E(k) / Z) * W(k)  ==>  (sum_k E(k) * W(k)) / Z, Z free of k",
        source="field; FlashAttention's deferred normalisation",
        when=(owed("Z is not 0"),),
        kind="R",
        schema=_distribute,
        generic=_distribute_generic,
        library=True,
    ),
    Rule(
        id="softmax-shift",
        law="sum_k e^S(k) / (sum_k e^S(k)) * W(k)  ==>  sum_k e^(S(k)-T) / (sum_k e^(S(k)-T)) * W(k), T free of k",
        source="e^(x-T) = e^x e^-T; for any T, the maximum is one choice",
        kind="R",
        schema=_shift,
        generic=lambda: Generic(metas={**_row_metas(), "T": (0, Term("in", ("t", "real")))}),
    ),
    Rule(
        id="softmax-online",
        law="sum_k e^(S-M) / (sum_k e^(S-M)) * W, M = max_k S  ==>  quotient of fold (+) over k of (S(k), 1, W(k))",
        source="Milakov & Gimelshein 2018: the online normaliser",
        kind="R",
        schema=lambda: _softmax_row(W),
        generic=lambda: Generic(metas=_row_metas()),
    ),
    Rule(
        id="share-state",
        law="[c < d] quotient of fold (+) of (S, L, W(k, c))  ==>  quotient of fold (+) of (S, L, [c < d] W(k, c))",
        source="the columns share m and l; a state's value is an array, cell by cell",
        kind="I",
        schema=_state_rows,
        generic=lambda: Generic(metas={**_with_columns(), "L": (1, ONE_REAL)}),
    ),
    Rule(
        id="psi-quotient",
        law="<c> psi quotient of fold (+) of X(k)  ==>  quotient of fold (+) of <c> psi X(k)",
        source="a state's value is an array, cell by cell; its columns share m and l",
        kind="I",
        schema=_psi_quotient,
        generic=_psi_quotient_generic,
    ),
    Rule(
        id="split-fold",
        law="fold k < n (g) of X(k)  ==>  fold J < b of fold t < min(T, n - J*T) (g) of X(J*T + t)",
        source="associativity; the elements keep their order (of max every bit is kept)",
        when=("T > 0", "n <= b*T", "(b-1)*T < n"),
        kind="R",
        schema=_split,
        samples=(("add",), ("max",), ("softmax",)),
        generic=_split_generic,
    ),
    Rule(
        id="split-fold-more",
        law="fold k < n (g) of X(k)  ==>  fold J < b (J*T < n) of fold t < min(T, n - J*T) (g) of X(J*T + t)",
        source="associativity; the elements keep their order (of max every bit is kept)",
        when=("T > 0", "n <= b*T"),
        kind="R",
        schema=_split_more,
        samples=(("add",), ("max",), ("softmax",)),
        generic=_split_more_generic,
    ),
    Rule(
        id="tile-state",
        law="fold (+) t < n (g) of (S, 1, W)  ==>  (M, sum_t e^(S-M), [c] sum_t e^(S-M) W), M = max_t S",
        source="Milakov & Gimelshein 2018, merging: two passes inside a tile, one merge outside",
        kind="R",
        schema=_tile_state,
        samples=((False,), (True,)),
        generic=lambda guarded: Generic(metas=_with_columns()),
    ),
    Rule(
        id="skip-tiles",
        law="fold J < b of X(J)  ==>  fold J < b (h(J)) of X(J), X(J) the fold of tile J",
        source="a tile without a visible key is the identity of the monoid",
        when=("T > 0", "n <= b*T", "(b-1)*T < n", owed("a tile that h excludes has no visible key")),
        kind="R",
        schema=_skip_tiles,
        samples=(("add",), ("max",), ("softmax",)),
        generic=_skip_generic,
    ),
)
