"""Equality in every bit: what the walk accepts, what it must refuse, and tiles as the whole range."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from moaproof.errors import BackendMissing, DigestMismatch, IllFormed, JudgesDisagree, MoaproofError, Refuted
from moaproof.kernel.bits import Deciders, same_bits
from moaproof.kernel.free import X, assume, close, conjuncts, new_index, symbolic
from moaproof.kernel.integers import Integers
from moaproof.operators import Index, Value
from moaproof.term import (
    AXES,
    ONE,
    TRUE,
    ZERO,
    Add,
    And,
    Build,
    Div,
    F,
    Flat,
    Fold,
    In,
    Int,
    Le,
    Let,
    Lt,
    Min,
    Mul,
    Not,
    Psi,
    Real,
    Size,
    Sub,
    Term,
    Tiles,
    Var,
    Where,
    instantiate,
    tile_extent,
)

n, m, s, b, t = map(Size, ("n", "m", "s", "b", "t"))
x, y, V, A, W = In("x"), In("y"), In("V", n), In("A", n, n), In("W", s)
D = In("D", Mul(b, t))
mask = In("mask", n, sort="bool")
k = Var(0)
TILES = (Lt(ZERO, t), Lt(Mul(Sub(b, ONE), t), s), Le(s, Mul(b, t)))
Judge = Callable[..., str]


def add(element: Term, guard: Term = TRUE, extent: Term = n) -> Term:
    return Fold("add", extent, element, guard)


SAME = {
    "an index rewritten": (add(Psi(V, k)), add(Psi(V, Sub(Add(k, ONE), ONE)))),
    "row-major offsets": (Build(n, Build(n, Psi(A, Var(1), k))), Build(n, Build(n, Flat(A, Add(Mul(Var(1), n), k))))),
    "transposed twice": (A, Term("transpose", (1, 0), (Term("transpose", (1, 0), (A,)),))),
    "a let": (F("mul", x, x), Let(x, F("mul", Var(0), Var(0)))),
    "guards that are equivalent": (add(Psi(V, k), Lt(k, ONE)), add(Psi(V, k), Not(Lt(ZERO, k)))),
    "a guard beyond the range": (add(Psi(V, k)), add(Psi(V, k), Lt(k, n))),
    "a branch that the guard decides": (add(Psi(V, k), Lt(k, ONE)), add(Where(Lt(k, ONE), Psi(V, k), x), Lt(k, ONE))),
    "a mask at equal offsets": (add(x, Psi(mask, k)), add(x, Psi(mask, Sub(Add(k, n), n)))),
    "conjuncts in another order": (add(x, And(Psi(mask, k), Lt(k, m))), add(x, And(Lt(k, m), Psi(mask, k)))),
    "the least of equal extents": (add(x), add(x, extent=Min(n, Add(n, ONE)))),
    "a choice whose test holds in the range": (Build(n, Psi(V, k)), Build(n, Where(Lt(k, n), Psi(V, k), x))),
    "a choice whose test follows from the guard": (
        add(Psi(V, k), Lt(k, ONE)),
        add(Where(Lt(k, Int(2)), Psi(V, k), x), Lt(k, ONE)),
    ),
    "a choice whose test is half of the guard": (
        add(x, And(Lt(k, m), Psi(mask, k))),
        add(Where(Psi(mask, k), x, y), And(Lt(k, m), Psi(mask, k))),
    ),
    "a choice in a choice": (Build(n, x), Build(n, Where(Lt(k, n), Where(Lt(k, Add(n, ONE)), x, y), y))),
    "a choice in a branch": (
        Where(Lt(n, m), x, y),
        Where(Lt(n, m), Where(Lt(n, Add(m, ONE)), x, y), Where(Lt(m, Add(n, ONE)), y, x)),
    ),
    "a choice beside a fold": (
        Build(n, add(Psi(V, k))),
        Build(n, Where(Lt(k, n), add(Psi(V, k)), x)),
    ),
    "tiles of a build": (
        Build(s, Psi(W, k)),
        Tiles(s, b, t, Build(tile_extent(s, t, k), Psi(W, Add(Mul(Var(1), t), k)))),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_keeps_every_bit_is_accepted(name: str, judge: Judge) -> None:
    old, new = SAME[name]
    facts = TILES if name.startswith("tiles") else ()
    assert judge(old, new, facts) != "R"
    assert judge(new, old, facts) != "R"


DIFFERENT = {
    "another element": (add(Psi(V, k)), add(Psi(V, ZERO), Lt(ZERO, n))),
    "the transpose": (A, Term("transpose", (1, 0), (A,))),
    "column-major offsets": (
        Build(n, Build(n, Psi(A, Var(1), k))),
        Build(n, Build(n, Flat(A, Add(Mul(k, n), Var(1))))),
    ),
    "another input": (x, y),
    "a guard off by one": (add(Psi(V, k), Lt(k, ONE)), add(Psi(V, k), Lt(k, Int(2)))),
    "a guard dropped": (add(Psi(V, k), Lt(k, ONE)), add(Psi(V, k))),
    "a mask dropped": (add(x, Psi(mask, k)), add(x)),
    "a mask negated": (add(x, Psi(mask, k)), add(x, Not(Psi(mask, k)))),
    "a mask reversed": (add(x, Psi(mask, k)), add(x, Psi(mask, Sub(Sub(n, ONE), k)))),
    "another mask": (add(x, Psi(mask, k)), add(x, Psi(In("seen", n, sort="bool"), k))),
    "a mask of the same name and another size": (
        add(x, Psi(mask, k)),
        add(x, Psi(In("mask", Add(n, ONE), sort="bool"), k)),
    ),
    "another extent": (add(x), add(x, extent=m)),
    "another monoid": (add(x), Fold("mul", n, x)),
    "the order of a sum": (add(Psi(V, k)), add(Psi(V, Sub(Sub(n, ONE), k)))),
    "an input of another sort of index": (Build(n, Psi(A, k, ZERO)), Build(n, Psi(A, ZERO, k))),
    "outer and inner index": (add(add(Psi(A, Var(1), k))), add(add(Psi(A, Var(1), Var(1))))),
    "branches exchanged": (Where(Lt(n, m), x, y), Where(Lt(n, m), y, x)),
    "a branch decided by the opposite guard": (add(Where(Lt(k, ONE), x, y), Not(Lt(k, ONE))), add(x, Not(Lt(k, ONE)))),
    "a branch under a fold that shadows the guard": (
        add(add(Where(Lt(k, ONE), x, y)), Lt(k, ONE)),
        add(add(x), Lt(k, ONE)),
    ),
    "a cast of another index": (add(Term("cast", None, (k,))), add(Term("cast", None, (Add(k, ONE),)))),
    "a choice whose test fails at the end": (Build(n, x), Build(n, Where(Lt(Add(k, ONE), n), x, y))),
    "a choice whose test fails at the start": (Build(n, x), Build(n, Where(Lt(ZERO, k), x, y))),
    "a choice whose test is of another axis": (Build(n, x), Build(n, Where(Lt(k, m), x, y))),
    "a choice whose guard says less": (add(x, Lt(k, m)), add(Where(Lt(k, ONE), x, y), Lt(k, m))),
    "a choice whose test holds, of the other branch": (Build(n, x), Build(n, Where(Lt(k, n), y, x))),
    "a choice by a mask": (add(x), add(Where(Psi(mask, k), x, y))),
    "a choice by a mask, of the row before": (
        add(x, Psi(mask, k)),
        add(Where(Psi(mask, Sub(Sub(n, ONE), k)), x, y), Psi(mask, k)),
    ),
    "a choice under the test's opposite": (
        Where(Lt(n, m), y, x),
        Where(Lt(n, m), y, Where(Lt(n, m), x, y)),
    ),
    "a choice whose test holds in the inner range alone": (
        Build(m, add(x, extent=n)),
        Build(m, Where(Lt(k, n), add(x, extent=n), y)),
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_not_equal_is_refused(name: str, judge: Judge) -> None:
    old, new = DIFFERENT[name]
    if name == "the order of a sum":
        with pytest.raises(Refuted):  # over the reals it is equal, but no method for it is trusted
            judge(old, new)
        return
    for pair in ((old, new), (new, old)):
        with pytest.raises(MoaproofError):
            judge(*pair)


@pytest.mark.parametrize("axis", AXES[1:])
def test_an_axis_bound_to_the_machine_is_a_label(axis: str, judge: Judge) -> None:
    plain, bound = (Build(n, Psi(V, k), on) for on in ("seq", axis))
    assert judge(plain, bound) == judge(bound, plain) == "S"
    assert judge(bound, bound) == "I"
    rows = Build(tile_extent(s, t, k), Psi(W, Add(Mul(Var(1), t), k)))
    assert judge(Tiles(s, b, t, rows), Tiles(s, b, t, rows, axis), TILES) == "S"
    for other in set(AXES) - {axis}:
        assert judge(bound, Build(n, Psi(V, k), other)) == "S"
        with pytest.raises(Refuted):
            judge(bound, Build(n, Psi(V, Sub(Sub(n, ONE), k)), other))
    with pytest.raises(IllFormed):
        Build(n, x, "block")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (F("add", x, y), F("add", y, x)),
        (F("sub", x, y), F("add", x, F("neg", y))),
        (F("mul", x, Real(2)), F("add", x, x)),
    ],
)
def test_what_changes_bits_is_class_r(old: Term, new: Term, judge: Judge) -> None:
    assert judge(old, new) == "R"


UNASKED = Lt(Where(Lt(n, m), ZERO, ONE), n)  # a choice of indices is no integer question
WITH_CHOICES = {
    "a test that is none": (Where(UNASKED, x, y), TRUE),
    "a test under a test that is none": (Where(Lt(n, m), x, y), UNASKED),
}


@pytest.mark.parametrize("name", WITH_CHOICES)
def test_a_choice_that_no_engine_is_asked_about_is_itself(name: str, judge: Judge) -> None:
    """It is not taken for its first branch; what has it on both sides is compared over the reals."""
    choice, under = WITH_CHOICES[name]
    whole = (Where(under, F("add", *pair), y) for pair in ((choice, x), (x, choice)))
    assert judge(*whole) == "R"
    for other in (x, y):
        for one, another in ((choice, other), (other, choice)):
            with pytest.raises(Refuted):
                judge(Where(under, one, y), Where(under, another, y))


@pytest.mark.parametrize("error", [DigestMismatch, JudgesDisagree, BackendMissing])
def test_a_fault_in_an_engine_is_no_answer_about_a_choice(error: type[MoaproofError]) -> None:
    class Faulty(Integers):
        def holds(self, facts: Sequence[Term], goal: Term) -> bool:
            raise error("a test")

    with pytest.raises(error):
        same_bits(x, Where(Lt(n, m), x, y), [], Deciders(Faulty()))


@pytest.mark.parametrize(
    "pair", [(F("max", x, y), F("max", y, x)), (F("sqrt", F("exp", x)), F("exp", F("div", x, Real(2))))]
)
def test_laws_that_nobody_trusts(pair: tuple[Term, Term], judge: Judge) -> None:
    with pytest.raises(Refuted):
        judge(*pair)


# --- tiles as the whole range --------------------------------------------------------------------------


def tiled(
    monoid: str,
    tile: Term | None = None,
    at: Term | None = None,
    outer: Term = TRUE,
    inner: Term = TRUE,
    count: Term = b,
) -> Term:
    rows = tile_extent(s, t, Var(0)) if tile is None else tile
    where = Add(Mul(Var(1), t), k) if at is None else at
    return F("max", x, Fold(monoid, count, Fold(monoid, rows, Psi(D, where), inner), outer))


def whole(monoid: str, guard: Term = TRUE, extent: Term = s) -> Term:
    return F("max", x, Fold(monoid, extent, Psi(D, k), guard))


causal, causal_tiled = Lt(k, m), Lt(Add(Mul(Var(1), t), k), m)
EQUAL_TILES = {
    "as it is": (tiled, {}, {}),
    "min the other way round": (tiled, {"tile": Min(Sub(s, Mul(Var(0), t)), t)}, {}),
    "skipping what is empty": (tiled, {"outer": Lt(Mul(k, t), s)}, {}),
    "with a guard": (tiled, {"inner": causal_tiled}, {"guard": causal}),
    "with a guard, skipping dead tiles": (tiled, {"inner": causal_tiled, "outer": Lt(Mul(k, t), m)}, {"guard": causal}),
}


@pytest.mark.parametrize("monoid", ["max", "add", "mul"])
@pytest.mark.parametrize("name", EQUAL_TILES)
def test_tiles_are_the_whole_range(name: str, monoid: str, judge: Judge) -> None:
    _, left, right = EQUAL_TILES[name]
    assert judge(whole(monoid, **right), tiled(monoid, **left), TILES) == ("I" if monoid == "max" else "R")


UNEQUAL_TILES = {
    "a full last tile": ({"tile": t}, {}),
    "column-major": ({"at": Add(Mul(k, b), Var(1))}, {}),
    "the first tile again and again": ({"at": k}, {}),
    "the last tile skipped": ({"outer": Lt(k, Sub(b, ONE))}, {}),
    "a tile skipped that has a visible row": (
        {"inner": causal_tiled, "outer": Lt(Add(Mul(k, t), ONE), m)},
        {"guard": causal},
    ),
    "a guard on the row of the tile": ({"inner": Lt(k, m)}, {"guard": causal}),
    "no guard": ({}, {"guard": causal}),
    "a guard on one side of the tile": ({"inner": Lt(Mul(Var(1), t), m)}, {"guard": causal}),
    "tiles of all rows": ({"tile": Min(t, s)}, {}),
    "one row too few": ({"tile": Min(t, Sub(Sub(s, ONE), Mul(Var(0), t)))}, {}),
    "too few tiles": ({"count": ONE}, {}),
}


@pytest.mark.parametrize("monoid", ["max", "add"])
@pytest.mark.parametrize("name", UNEQUAL_TILES)
def test_tiles_that_are_not_the_whole_range(name: str, monoid: str, judge: Judge) -> None:
    left, right = UNEQUAL_TILES[name]
    with pytest.raises(MoaproofError):
        judge(whole(monoid, **right), tiled(monoid, **left), TILES)


@pytest.mark.parametrize("missing", [1, 2])  # (b-1)*t < s <= b*t says that t > 0
def test_tiles_need_to_cover_and_not_to_be_empty(missing: int, judge: Judge) -> None:
    facts = [f for j, f in enumerate(TILES) if j != missing]
    C = In("C", Add(s, Mul(b, t)))
    old = F("max", x, Fold("max", s, Psi(C, k)))
    new = F("max", x, Fold("max", b, Fold("max", tile_extent(s, t, k), Psi(C, Add(Mul(Var(1), t), k)))))
    assert judge(old, new, TILES) == "I"
    with pytest.raises(MoaproofError):
        judge(old, new, facts)


# --- free symbols --------------------------------------------------------------------------------------


def test_a_closed_symbol_is_the_variable_again() -> None:
    inside = add(F("mul", Psi(V, k), Psi(V, X(3))), Lt(k, X(3)))
    assert instantiate(close(inside, X(3)), [X(3)]) is inside
    assert close(X(3), X(3)) is Var(0)
    assert close(Var(0), X(3)) is Var(1)
    assert close(X(2), X(3)) is X(2)


def test_a_new_index_is_new() -> None:
    assert new_index([Add(X(4), X(2))], [Lt(X(9), n)]).data > 9


def test_conjuncts_and_what_they_decide() -> None:
    c, d = Lt(X(0), n), Lt(X(0), m)
    assert conjuncts(And(And(c, TRUE), d)) == [c, d]
    assert assume(Where(And(c, d), x, y), frozenset([c, d])) is x
    assert assume(Where(And(c, d), x, y), frozenset([c])) is Where(And(c, d), x, y)
    assert assume(Where(Not(c), x, y), frozenset([c])) is Where(Not(c), x, y)
    bound = add(Where(Lt(k, n), x, y))
    assert assume(bound, frozenset([Lt(k, n)])) is bound


def test_a_meaning_has_neither_arrays_nor_lets_nor_operators() -> None:
    t_ = Psi(Term("inner", ("add", "mul"), (Term("transpose", (1, 0), (A,)), Build(n, Let(Psi(V, k), Var(0))))), ZERO)
    meaning = symbolic(t_, ())
    assert repr(meaning).count("fold") == 1
    assert not any(op in repr(meaning) for op in ("psi", "build", "let", "inner", "transpose"))


def test_variables_of_a_context_mean_what_they_stand_for() -> None:
    ctx = (Index(n), Value(F("exp", Psi(V, Var(0)))), Index(m))
    assert symbolic(Var(0), ctx) is X(2)
    assert symbolic(Var(1), ctx) is F("exp", Flat(In("V", n), X(0)))
    assert symbolic(Div(Var(2), m), ctx) is Div(X(0), m)
