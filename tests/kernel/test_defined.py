"""Definedness: each clause of the table with what satisfies it and what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moaproof.errors import MoaproofError, Refuted, Unknown
from moaproof.kernel.certificate import Tiling
from moaproof.kernel.checker import tiling_facts
from moaproof.term import (
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
    tile_extent,
    up,
)

n, m, s, b, t = map(Size, ("n", "m", "s", "b", "t"))
x, V, A = In("x"), In("V", n), In("A", n, m)
mask = In("mask", n, n, sort="bool")
k = Var(0)
v = Psi(V, k)
one = Real(1)
Check = Callable[..., None]


def add(element: Term, guard: Term = TRUE, extent: Term = n) -> Term:
    return Fold("add", extent, element, guard)


def top(element: Term = v, guard: Term = TRUE, extent: Term = n) -> Term:
    return Fold("max", extent, element, guard)


def state(m_: Term, l_: Term, o: Term) -> Term:
    return Term("quotient", None, (Term("state", None, (m_, l_, o)),))


COLUMN = Var(1)  # of a merge, under the index of its rows


def rows(count: Term, score: Term, weight: Term, value: Term) -> Term:
    """An array of states, each with m columns; the parts are of the row (the value's Var 0 is its column)."""
    return Build(count, Term("state", None, (score, weight, Build(m, value))))


def merged(states: Term, row: Term = k, column: Term = COLUMN) -> Term:
    """The m columns of the merge of n rows of an array of states."""
    return Let(states, Build(m, Term("quotient", None, (Fold("softmax", n, Psi(Var(2), row, column)),))))


def over(divisor: Term) -> Term:
    return F("div", one, divisor)


def rescaled(guard: Term = TRUE) -> Term:
    return F("exp", F("sub", v, up(top(v, guard))))


causal = Lt(k, Add(Var(1), ONE))  # key k up to query i
DEFINED = {
    "a read in range": Build(n, v),
    "a read that the branch guards": Build(m, Where(Lt(k, n), v, x)),
    "a read that the guard guards": add(v, Lt(k, n), m),
    "the second conjunct under the first": add(one, And(Lt(k, n), Psi(mask, k, k)), m),
    "the last element of a row": Build(n, Psi(V, Sub(n, Add(k, ONE)))),
    "a flat read by gamma": Build(n, Build(m, Flat(A, Add(Mul(Var(1), m), k)))),
    "a division under its guard": add(Psi(V, Div(k, m)), And(Lt(ZERO, m), Lt(Div(k, m), n)), n),
    "a maximum of at least one": Build(n, F("exp", top())),
    "a maximum under the range of another fold": add(F("exp", F("sub", v, up(top())))),
    "a maximum up to the diagonal": Build(n, F("exp", top(v, causal))),
    "a maximum or a real": F("exp", F("max", top(), x)),
    "a maximum in both branches": Where(Lt(ZERO, n), F("exp", top()), x),
    "a maximum of maxima": Build(n, F("neg", top(top(Psi(In("B", n, n), Var(1), k))))),
    "a sum of exponentials": Build(n, over(add(F("exp", v)))),
    "one more than a sum of exponentials": over(F("add", one, add(F("exp", v)))),
    "a positive constant": over(Real(1, 3)),
    "a root": F("sqrt", F("add", F("exp", x), Real(0))),
    "a size": Where(Lt(ZERO, n), over(Term("cast", None, (n,))), x),
    "a divisor that is positive in both branches": over(Where(Lt(n, m), F("exp", x), one)),
    "a divisor whose other branch is never taken": Build(n, over(Where(Lt(k, n), F("exp", v), Real(0)))),
    "a divisor that its test makes positive": over(Where(Lt(ZERO, n), Term("cast", None, (n,)), one)),
    "a divisor that its failing test makes positive": over(Where(Lt(n, ONE), one, Term("cast", None, (n,)))),
    "a root of 0 in one branch": F("sqrt", Where(Lt(n, m), F("exp", x), Real(0))),
    "a sum of padded weights": Build(n, over(add(Where(Lt(k, n), F("exp", v), Real(0))))),
    "a state that may be empty": state(top(), add(rescaled()), add(F("mul", rescaled(), v))),
    "a state under a mask": Build(
        n,
        state(
            *(
                f(g(Psi(mask, Var(1), k)), Psi(mask, Var(1), k))
                for f, g in ((top, lambda _: v), (add, rescaled), (add, rescaled))
            )
        ),
    ),
    "a state of a real": state(x, one, x),
    "a state of a real, of one weight or another": state(x, Where(Lt(n, m), one, F("exp", x)), x),
    "a state of padded weights": state(top(), *(add(Where(Lt(k, n), rescaled(), Real(0))) for _ in "lo")),
    "an array of states": merged(rows(n, v, one, Psi(A, Var(1), k))),
    "an array of more states than are read": merged(rows(Add(n, ONE), x, one, x)),
    "an array of states that may be empty": merged(
        rows(n, top(Psi(A, Var(1), k), TRUE, m), *(add(one, TRUE, m), add(x, TRUE, m)))
    ),
    "a let under a branch": Where(Lt(ZERO, n), Let(Psi(V, ZERO), Var(0)), x),
    "tiles": Tiles(s, b, t, Build(tile_extent(s, t, k), Psi(In("S", s), Add(Mul(Var(1), t), k)))),
    "a reshape": Term("reshape", None, (In("B", n, m), m, n)),
    "a lift": Term("lift", 0, (In("B", Mul(n, m)), n, m)),
    "an omega": Term("omega", (1,), (A, add(Psi(Var(1), k), TRUE, m))),
}
TILES = (Lt(ZERO, t), Lt(Mul(Sub(b, ONE), t), s), Le(s, Mul(b, t)))


@pytest.mark.parametrize("name", DEFINED)
def test_what_is_defined_is_seen_to_be(name: str, defined: Check) -> None:
    defined(DEFINED[name], TILES if name == "tiles" else ())


UNDEFINED = {
    "a read beyond the end": Build(n, Psi(V, Add(k, ONE))),
    "a read before the start": Build(n, Psi(V, Sub(k, ONE))),
    "a read along the wrong axis": Build(n, Build(m, Psi(A, k, Var(1)))),
    "a read of nothing": Psi(V, ZERO),
    "a read in the wrong branch": Build(m, Where(Lt(k, n), x, v)),
    "a read under a guard that is too weak": add(v, Lt(k, Add(n, ONE)), m),
    "a guard that reads beyond the end": add(one, Psi(mask, k, n)),
    "a first conjunct that needs the second": add(one, And(Psi(mask, k, k), Lt(k, n)), m),
    "a guard that needs itself": add(one, Psi(mask, k, k), m),
    "a mask that nobody has proved visible": Build(n, F("exp", top(v, Psi(mask, Var(1), k)))),
    "a flat read beyond the end": Build(n, Build(m, Flat(A, Add(Mul(Var(1), n), k)))),
    "a flat read of the next row": Build(n, Build(n, Flat(A, Add(Mul(Var(1), m), k)))),
    "a division by what may be 0": Build(Div(n, m), x),
    "a division by what may be 0, in a guard": add(one, Lt(Div(k, m), n)),
    "an extent that may be negative": Build(Sub(n, ONE), x),
    "a range that may be negative": add(one, TRUE, Sub(n, m)),
    "a tile that may be empty": Tiles(s, b, t, Build(tile_extent(s, t, k), x)),
    "a maximum of nothing": F("exp", top()),
    "a maximum that the guard may empty": Build(n, F("exp", top(v, Lt(k, Var(1))))),
    "a maximum over another extent": Build(n, F("exp", top(Psi(In("M", m), k), TRUE, m))),
    "a maximum of nothing in a branch": F("exp", Where(Lt(n, m), x, top())),
    "a maximum of maxima of nothing": Build(n, F("exp", top(top(Psi(A, Var(1), k), TRUE, m)))),
    "a shift that is empty where the sum is not": add(F("exp", F("sub", v, up(top(v, Psi(mask, ZERO, k)), 1)))),
    "a divisor that is an input": over(x),
    "a divisor that may be negative": over(F("sub", F("exp", x), one)),
    "a divisor that is 0": over(Real(0)),
    "a negative divisor is not proved either": over(Real(-1)),
    "a divisor that is 0 in the first branch": over(Where(Lt(n, m), Real(0), one)),
    "a divisor that is 0 in the second branch": over(Where(Lt(n, m), one, Real(0))),
    "a divisor that is an input in one branch": over(Where(Lt(n, m), x, one)),
    "a divisor that is 0 where the test fails once": Build(n, over(Where(Lt(Add(k, ONE), n), one, Real(0)))),
    "a divisor that the opposite of its test makes positive": over(Where(Lt(n, ONE), Term("cast", None, (n,)), one)),
    "a root of an input in one branch": F("sqrt", Where(Lt(n, m), F("exp", x), x)),
    "a root of a negative constant in one branch": F("sqrt", Where(Lt(n, m), Real(-1), one)),
    "a sum of nothing as a divisor": over(add(F("exp", v))),
    "a sum that a mask may empty": Build(n, over(add(F("exp", v), Psi(mask, Var(1), k)))),
    "a sum with a negative term": Build(n, over(add(F("sub", F("exp", v), one)))),
    "a product with a sign": over(F("mul", x, x)),
    "a size as a divisor": over(Term("cast", None, (n,))),
    "a root of an input": F("sqrt", x),
    "a state of nothing with weight": state(top(), one, one),
    "a state of another range": state(top(), add(rescaled(), Lt(k, m)), add(rescaled())),
    "a state of another guard": state(top(v, Lt(k, m)), add(rescaled()), add(rescaled())),
    "a state whose value has another guard": state(top(), add(rescaled()), add(rescaled(), Lt(k, m))),
    "a state whose weights may be 0": state(top(), add(v), add(rescaled())),
    "a state of a real with no weight": state(x, x, x),
    "a state of a real with weight 0": state(x, Real(0), x),
    "a state of a real with weight 0 in one branch": state(x, Where(Lt(n, m), one, Real(0)), x),
    "a state of weights that padding hides": state(
        top(), *(add(Where(Lt(Add(k, ONE), n), rescaled(), Real(0))) for _ in "lo")
    ),
    "an array of states, read beyond its rows": merged(rows(n, v, one, x), Add(k, ONE)),
    "an array of states, read beyond its columns": merged(rows(n, v, one, x), k, Add(COLUMN, ONE)),
    "an array of states, read by column and row": merged(rows(n, v, one, x), COLUMN, k),
    "an array of states of no weight": merged(rows(n, v, Real(0), x)),
    "an array of states whose values may not be read": merged(rows(n, v, one, Psi(A, k, Var(1)))),
    "an array of states whose maxima may be empty": merged(rows(n, top(Psi(A, Var(1), k), TRUE, m), one, x)),
    "an array of states that nobody reads, of no weight": Let(rows(n, v, Real(0), x), x),
    "an array of states of no weight, of which one cell is read": Where(
        Lt(ZERO, n), Where(Lt(ZERO, m), Term("quotient", None, (Psi(rows(n, v, x, x), ZERO, ZERO),)), x), x
    ),
    "a dead let": Let(Psi(V, n), x),
    "a let that is hoisted over its branch": Let(Psi(V, ZERO), Where(Lt(ZERO, n), Var(0), x)),
    "a let that is hoisted over its guard": Let(Build(m, v), add(Psi(Var(1), k), Lt(k, n), m)),
    "a divisor that is hoisted over its guard": Let(over(add(F("exp", v))), Where(Lt(ZERO, n), Var(0), x)),
    "a reshape of other size": Term("reshape", None, (A, m, m)),
    "a reshape of two sizes that multiply to more": Term("reshape", None, (V, n, n)),
    "a lift of other size": Term("lift", 0, (V, b, t)),
    "a take of too many": Term("take", (1,), (V, Add(n, ONE))),
    "a take of a negative count": Term("take", (1,), (V, Int(-1))),
    "a drop of too many": Term("drop", (1,), (V, m)),
    "a function of cells that does not look at them": Term("omega", (0,), (V, Psi(V, n))),
    "a function of cells that divides by them": Term("omega", (0,), (V, over(Var(0)))),
    "a maximum along an axis that may be empty": Term("map", "exp", (Term("reduce", ("max", 1), (A,)),)),
    "an extent that divides by 0, never looked at": Psi(Build(Add(ONE, Mul(ZERO, Div(ONE, ZERO))), x), ZERO),
    "a count of tiles that divides by 0": Psi(
        Tiles(ONE, Add(ONE, Mul(ZERO, Div(ONE, ZERO))), ONE, Build(tile_extent(ONE, ONE, k), x)), ZERO
    ),
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_what_is_not_defined_is_refused(name: str, defined: Check) -> None:
    with pytest.raises((Refuted, Unknown)):
        defined(UNDEFINED[name])


@pytest.mark.parametrize("missing", range(3))
def test_tiles_owe_their_cover(missing: int, defined: Check) -> None:
    term = DEFINED["tiles"]
    facts = [f for j, f in enumerate(TILES) if j != missing]
    if missing == 0:
        defined(term, facts)  # (b-1)*t < s <= b*t says that t > 0
        return
    with pytest.raises((Refuted, Unknown)):
        defined(term, facts)


def test_each_factor_of_a_tile_is_positive(defined: Check) -> None:
    """Rows in registers times rows on threads: one factor of 0 makes an empty tile."""
    a, c = Size("a"), Size("c")
    facts = tiling_facts(Tiling("s", "a*c", "b"))
    assert facts[:2] == [Lt(ZERO, a), Lt(ZERO, c)]
    tile = Mul(a, c)
    cells = Build(tile_extent(s, tile, k), Psi(In("S", s), Add(Mul(Var(1), tile), k)))
    whole = Tiles(s, b, tile, cells, "grid")
    defined(whole, facts)
    for known in ((), facts[:1], facts[1:2]):
        with pytest.raises(Refuted, match="a tile is not empty"):
            defined(whole, [*known, Le(s, Mul(b, tile))])
    inside = Build(a, Build(c, over(Term("cast", None, (Mul(a, c),)))))
    defined(inside, facts)
    for known in facts[:1], facts[1:2]:
        defined(inside, known)  # within both ranges both factors are positive
        with pytest.raises((Refuted, Unknown)):
            defined(over(Term("cast", None, (tile,))), known)
    defined(over(Term("cast", None, (tile,))), facts[:2])


def test_tiles_of_a_negative_extent(defined: Check) -> None:
    lost = Sub(s, Int(9))
    with pytest.raises(MoaproofError):
        defined(Tiles(lost, b, t, Build(tile_extent(lost, t, k), x)), TILES)


def test_no_tiles_of_a_negative_extent(defined: Check) -> None:
    """Not even where there is no tile that could notice."""
    lost = Sub(n, Int(9))
    with pytest.raises(Refuted):
        defined(Tiles(lost, ZERO, ONE, Build(tile_extent(lost, ONE, k), x)), [Lt(n, Int(9))])


def test_what_was_seen_under_a_fact_is_not_taken_for_granted_without_it(defined: Check) -> None:
    read = Psi(V, ZERO)
    defined(read, [Lt(ZERO, n)])
    with pytest.raises(Refuted):
        defined(read)


@pytest.mark.parametrize("depth", range(1, 6))
def test_the_index_of_an_outer_sum_is_not_that_of_an_inner_one(depth: int, defined: Check) -> None:
    """sum over i, k of 1 + i - k: positive on the diagonal only."""
    inner = add(Term("cast", None, (Sub(Add(Var(1), ONE), k),)))
    total = add(inner, Lt(ZERO, n))
    for _ in range(depth - 1):
        inner = F("add", inner, Real(0))
    with pytest.raises((Refuted, Unknown)):
        defined(Build(n, over(total)))
    with pytest.raises((Refuted, Unknown)):
        defined(state(top(), add(inner), add(v)))
    with pytest.raises((Refuted, Unknown)):
        defined(Let(top(), Let(add(up(inner, 1, 1)), state(Var(1), Var(0), add(v)))))


def test_a_guard_that_is_never_true_owes_nothing(defined: Check) -> None:
    defined(add(Psi(V, n), Not(TRUE)))
    defined(Where(Lt(n, ZERO), F("exp", top()), x))
