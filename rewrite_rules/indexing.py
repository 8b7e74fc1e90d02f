"""Indexing: what an array is, and what an element of a comprehension is.

Two arrays are equal if their shapes are and their elements at every valid full index are (SM, Definition 1; TR94).  So
every array is the build of its elements, and every law below this file needs full indices only.
"""

from __future__ import annotations

from moaproof.kernel.rules import Dim, Generic, M, Pair, Rule
from moaproof.term import Build, Psi, Term, Var

from ._generic import array, indices, sizes

A = M("A")


def names(r: int, letter: str = "i") -> list[str]:
    return [f"{letter}{k}" for k in range(r)]


def full(r: int, letter: str = "i") -> list[Term]:
    """A full index of metavariables."""
    return [M(name) for name in names(r, letter)]


def _extensionality(r: int) -> Pair:
    element: Term = Psi(A, *[Var(r - 1 - k) for k in range(r)])
    for k in reversed(range(r)):
        element = Build(Dim(k, A), element)
    return A, element


def _psi_build(r: int) -> Pair:
    i = full(r)
    element = M("X", i[0])
    return Psi(Build(M("n"), M("X", Var(0))), *i), Psi(element, *i[1:])


def _psi_build_generic(r: int) -> Generic:
    s = sizes("s", r)
    return Generic(
        extents=s, metas={"n": (0, s[0]), "X": (1, _rows(array("F", s)[1], r, s)), **indices(names(r), 0, r)}
    )


def _rows(row: Term, r: int, s: tuple[Term, ...]) -> Term:
    """The function i0 -> (the rest of F at i0), as nested builds under the argument."""
    element: Term = Psi(row, Var(r - 1), *[Var(r - 2 - k) for k in range(r - 1)])
    for k in reversed(range(1, r)):
        element = Build(s[k], element)
    return element


RULES = (
    Rule(
        id="extensionality",
        law="A  ==>  [i < rho A] (i psi A)",
        source="SM, Definition 1; TR94, R*",
        kind="I",
        schema=_extensionality,
        samples=tuple((r,) for r in range(1, 5)),
        generic=lambda r: Generic(metas={"A": array("A", sizes("s", r))}),
    ),
    Rule(
        id="psi-build",
        law="(i ++ r) psi [x < n] X(x)  ==>  r psi X(i)",
        source="SM, Definition 1",
        kind="I",
        schema=_psi_build,
        samples=tuple((r,) for r in range(1, 5)),
        generic=_psi_build_generic,
    ),
)
