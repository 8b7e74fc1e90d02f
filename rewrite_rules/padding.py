"""Padding: a tile in fast memory is filled whole; what lies beyond the array is 0 there, and is thrown away.  Class I.

A test that holds wherever a value is used says nothing of the value.  It says where the value may be computed: with
it, all threads of a block compute their element, and those beyond the end read nothing.
"""

from __future__ import annotations

from moaproof.kernel.rules import Generic, M, Pair, Rule
from moaproof.term import And, Build, Fold, Le, Lt, Psi, Real, Size, Term, Var, Where

from ._generic import array, function, index, owed
from .online import ONE_REAL, D, G, N, Quotient, S, State

X, Z, TEST, MORE = M("X"), M("Z"), M("g"), M("h")


def _element() -> dict[str, tuple[int, Term]]:
    """An element of an array at a generic index i < n, and the test i < n."""
    n = Size("n")
    return {"X": (0, Psi(array("F", (n,))[1], Var(0))), "Z": (0, Real(0)), "h": (0, Lt(Var(0), n))}


def _generic() -> Generic:
    return Generic(extents=(Size("n"),), metas=_element())


def _generic_more() -> Generic:
    test = Psi(array("G", (Size("n"),), "bool")[1], Var(0))
    return Generic(extents=(Size("n"),), metas={**_element(), "g": (0, test)})


def _pad_state() -> Pair:
    """The columns of a state, d of them, as the first of e columns."""

    def at_column(columns: Term) -> Term:
        return Psi(Quotient(Fold("softmax", N, State(S, M("L", Var(0)), columns), G)), M("c"))

    value = M("W", Var(1), Var(0))
    return at_column(Build(D, value)), at_column(Build(M("e"), Where(Lt(Var(0), D), value, Real(0))))


def _pad_state_generic() -> Generic:
    n, d, e = Size("n"), Size("d"), Size("e")
    states = {"n": (0, n), "g": function("G", (n,), "bool"), "S": function("S", (n,)), "L": (1, ONE_REAL)}
    columns = {"d": (0, d), "W": function("W", (n, d)), "c": index(0, 1), "e": (0, e)}
    return Generic(extents=(d,), metas={**states, **columns}, conditions=(Le(d, e),))


RULES = (
    Rule(
        id="pad",
        law="X  ==>  where(h, X, Z)",
        source="the test holds wherever the value is used",
        when=(owed("h holds here"),),
        kind="I",
        schema=lambda: (X, Where(MORE, X, Z)),
        generic=_generic,
    ),
    Rule(
        id="pad-more",
        law="where(g, X, Z)  ==>  where(h and g, X, Z)",
        source="the test holds wherever the value is used",
        when=(owed("h holds here"),),
        kind="I",
        schema=lambda: (Where(TEST, X, Z), Where(And(MORE, TEST), X, Z)),
        generic=_generic_more,
    ),
    Rule(
        id="pad-state",
        law="<c> psi quotient of fold (+) of (S, L, [c < d] W(k, c))  ==>  .. (S, L, [c < e] where(c < d, W(k, c), 0))",
        source="a state's value is an array, cell by cell; nobody looks at the cells beyond",
        when=("d <= e",),
        kind="I",
        schema=_pad_state,
        generic=_pad_state_generic,
    ),
)
