"""Layout: the row-major offset gamma, dimension lifting of a map axis, and the axes of the machine.

Class I, or S for a binding.

Lifting splits an axis of extent s into b tiles of t rows; the last tile is shorter when t does not divide s, so
nothing is padded and no guard is needed.  That the tiles cover the axis is an obligation of the new term, not of the
law.
"""

from __future__ import annotations

from moaproof.kernel.rules import Dim, Generic, M, Pair, Rule
from moaproof.shapes import gamma, product
from moaproof.term import AXES, Add, Build, Flat, Mul, Psi, Size, Term, Tiles, Var, tile_extent

from ._generic import IMPLIED, array, function, indices, sizes, tiling
from .indexing import full, names

A = M("A")


def _gamma(rank: int) -> Pair:
    i = full(rank)
    return Psi(A, *i), Flat(A, gamma(i, [Dim(k, A) for k in range(rank)]))


def _gamma_generic(rank: int) -> Generic:
    s = sizes("s", rank)
    return Generic(extents=s, metas={"A": array("A", s), **indices(names(rank), 0, rank)})


def _split_build() -> Pair:
    n, b, t = M("n"), M("b"), M("t")
    rows = Build(tile_extent(n, t, Var(0)), M("X", Add(Mul(Var(1), t), Var(0))))
    return Build(n, M("X", Var(0))), Tiles(n, b, t, rows)


def _split_generic() -> Generic:
    n, b, t = Size("n"), Size("b"), Size("t")
    metas = {"n": (0, n), "b": (0, b), "t": (0, t), "X": function("F", (n,))}
    return Generic(metas=metas, conditions=tiling(n, b, t), needless=IMPLIED)


def _bind_generic(axis: str) -> Generic:
    return Generic(metas={"n": (0, Size("n")), "X": function("F", (Size("n"),))})


def _bind_tiles(axis: str) -> Pair:
    n, b, t = M("n"), M("b"), M("t")
    return Tiles(n, b, t, M("X", Var(0))), Tiles(n, b, t, M("X", Var(0)), axis)


def _bind_tiles_generic(axis: str) -> Generic:
    n, b, t = Size("n"), Size("b"), Size("t")
    rows = Build(tile_extent(n, t, Var(0)), Psi(array("F", (n,))[1], Add(Mul(Var(1), t), Var(0))))
    metas = {"n": (0, n), "b": (0, b), "t": (0, t), "X": (1, rows)}
    return Generic(metas=metas, conditions=tiling(n, b, t), needless=IMPLIED)


RULES = (
    Rule(
        id="gamma",
        law="i psi A  ==>  (rav A)[gamma(i; rho A)]",
        source="Psi Correspondence Theorem (Mullin & Jenkins); SM, Definition 1",
        kind="I",
        schema=_gamma,
        samples=((1,), (2,), (3,), (4,)),
        generic=_gamma_generic,
    ),
    Rule(
        id="flat-ravel",
        law="(rav A)[q]  ==>  <q> psi (rav A)",
        source="SM, Definition 1",
        kind="I",
        schema=lambda: (Flat(A, M("q")), Psi(Term("ravel", None, (A,)), M("q"))),
        generic=lambda: Generic(
            extents=(product(sizes("s", 2)),), metas={"A": array("A", sizes("s", 2)), **indices(["q"], 0, 1)}
        ),
        library=True,
    ),
    Rule(
        id="split-build",
        law="[x < n] X(x)  ==>  [q < b] [r < min(t, n - q*t)] X(q*t + r), joined",
        source="dimension lifting (PAD, SM), ragged",
        when=("t > 0", "n <= b*t", "(b-1)*t < n"),
        kind="I",
        schema=_split_build,
        generic=_split_generic,
    ),
    Rule(
        id="bind-axis",
        law="[x < n] X(x)  ==>  [x < n on an axis of the machine] X(x)",
        source="elements of a build are independent",
        kind="S",
        schema=lambda axis: (Build(M("n"), M("X", Var(0))), Build(M("n"), M("X", Var(0)), axis)),
        samples=tuple((a,) for a in AXES if a != "seq"),
        generic=_bind_generic,
    ),
    Rule(
        id="bind-tiles",
        law="[q < b] tile(q), joined  ==>  [q < b on an axis of the machine] tile(q), joined",
        source="tiles of a map axis are independent",
        when=("t > 0", "n <= b*t", "(b-1)*t < n"),
        kind="S",
        schema=_bind_tiles,
        samples=(("core",), ("grid",)),
        generic=_bind_tiles_generic,
    ),
)
