"""Equality over the reals: the laws that both rings have, and those that they must not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from moaproof.errors import JudgesDisagree, MoaproofError, Refuted
from moaproof.kernel import reals
from moaproof.kernel.free import symbolic
from moaproof.kernel.integers import Integers
from moaproof.kernel.reals import Own, Values
from moaproof.kernel.sympy_ring import BySympy
from moaproof.term import (
    ONE,
    TRUE,
    ZERO,
    Add,
    And,
    Build,
    F,
    Fold,
    In,
    Let,
    Lt,
    Min,
    Not,
    Psi,
    Real,
    Size,
    Sub,
    Term,
    Var,
    Where,
    tile_extent,
    up,
)

n, m = Size("n"), Size("m")
x, y, z, V, W, A = In("x"), In("y"), In("z"), In("V", n), In("W", n), In("A", n, n)
mask = In("mask", n, sort="bool")
k = Var(0)
v, w = Psi(V, k), Psi(W, k)
one, two = Real(1), Real(2)
Judge = Callable[..., str]


def exp(t: Term) -> Term:
    return F("exp", t)


def add(*ts: Term) -> Term:
    return F("add", *ts)


def mul(*ts: Term) -> Term:
    return F("mul", *ts)


def div(*ts: Term) -> Term:
    return F("div", *ts)


def total(element: Term, guard: Term = TRUE, extent: Term = n) -> Term:
    return Fold("add", extent, element, guard)


def top(element: Term, guard: Term = TRUE) -> Term:
    return Fold("max", n, element, guard)


def quotient(state: Term) -> Term:
    return Term("quotient", None, (state,))


def state(*parts: Term) -> Term:
    return Term("state", None, parts)


def states(score: Term, weight: Term, value: Term, guard: Term = TRUE) -> Term:
    return quotient(Fold("softmax", n, state(score, weight, value), guard))


def shifted(guard: Term = TRUE, score: Term = v) -> Term:
    return exp(F("sub", score, up(top(score, guard))))


def lazy(guard: Term = TRUE) -> Term:
    """sum_k e^(v - M) w over sum_k e^(v - M), as a state."""
    return quotient(state(top(v, guard), total(shifted(guard), guard), total(mul(shifted(guard), w), guard)))


def online(guard: Term = TRUE) -> Term:
    return states(v, one, w, guard)


def kept(score: Term, weight: Term, value: Term, row: Term = k) -> Term:
    """As ``states``, but the states stand in an array first, and are merged when they are read."""
    rows = Build(n, state(score, weight, value))
    return Let(rows, quotient(Fold("softmax", n, Psi(Var(1), row))))


positive = add(one, exp(y))
lower = exp(F("sub", v, x))  # the weight of a state whose score is v, seen from x

LAWS = {
    "commutes": (mul(x, add(y, z)), add(mul(z, x), mul(x, y))),
    "distributes over a sum": (total(add(v, w)), add(total(v), total(w))),
    "a factor comes out": (total(mul(x, v)), mul(total(v), x)),
    "a factor that is a sum comes out": (total(mul(up(total(w)), v)), mul(total(w), total(v))),
    "a constant is counted": (total(x), mul(total(one), x)),
    "a sum of sums": (total(total(Psi(A, Var(1), k))), total(add(total(Psi(A, Var(1), k)), Real(0)))),
    "exp of a sum": (exp(add(x, y)), mul(exp(x), exp(y))),
    "exp of a difference": (exp(F("sub", x, y)), div(exp(x), exp(y))),
    "exp of 0": (exp(F("sub", x, x)), one),
    "exp of 1": (mul(exp(one), x), mul(x, exp(one))),
    "exp of 1 inverted": (div(x, mul(exp(one), exp(one))), div(div(x, exp(one)), exp(one))),
    "exp of 1 out of a sum": (total(exp(add(v, one))), mul(exp(one), total(exp(v)))),
    "exponentials cancel": (mul(exp(add(x, one)), exp(F("sub", F("neg", x), one))), one),
    "exponentials of exponentials": (exp(add(exp(one), one)), mul(exp(exp(one)), exp(one))),
    "a quotient of a product": (div(x, mul(exp(z), exp(y))), div(div(x, exp(z)), exp(y))),
    "a quotient of a quotient": (div(x, div(one, positive)), div(x, div(one, positive))),
    "division out of a sum": (total(div(v, up(positive))), div(total(v), positive)),
    "the shift of a softmax": (
        div(total(mul(exp(v), w)), total(exp(v))),
        div(total(mul(exp(F("sub", v, x)), w)), total(exp(F("sub", v, x)))),
    ),
    "online softmax": (lazy(), online()),
    "online softmax under a mask": (lazy(Psi(mask, k)), online(Psi(mask, k))),
    "states of any weight": (states(x, exp(v), mul(exp(v), w)), states(v, exp(x), mul(w, exp(x)))),
    "states kept in an array": (kept(v, one, w), online()),
    "states of other maxima in an array": (kept(v, one, w), kept(x, lower, mul(w, lower))),
    "states of another weight and value in an array": (
        kept(x, exp(v), mul(exp(v), w)),
        kept(v, exp(x), mul(w, exp(x))),
    ),
    "constants": (mul(Real(1, 3), add(x, add(x, x))), x),
    "under a root": (F("sqrt", exp(add(x, y))), F("sqrt", mul(exp(y), exp(x)))),
    "under a maximum": (F("max", add(x, y), top(mul(v, two))), F("max", add(y, x), top(add(v, v)))),
    "in a branch": (Where(Lt(n, m), add(x, y), z), Where(Lt(n, m), add(y, x), z)),
}
NEEDS_KEYS = ("the shift of a softmax",)


@pytest.mark.parametrize("name", LAWS)
def test_laws_of_the_reals(name: str, judge: Judge) -> None:
    old, new = LAWS[name]
    facts = [Lt(ZERO, n)] if name in NEEDS_KEYS else []
    assert judge(old, new, facts) in ("R", "S", "I")
    assert judge(new, old, facts) in ("R", "S", "I")


FALSE = {
    "exp of a product": (exp(mul(x, y)), mul(exp(x), exp(y))),
    "a product of sums": (total(mul(v, w)), mul(total(v), total(w))),
    "a factor that is summed over": (total(mul(v, w)), mul(Fold("add", ONE, Psi(V, ZERO), Lt(ZERO, n)), total(w))),
    "a constant not counted": (total(x), x),
    "a guard lost": (total(mul(x, v), Psi(mask, k)), mul(x, total(v))),
    "a count without its guard": (total(x, Psi(mask, k)), mul(total(one), x)),
    "another guard": (total(v, Psi(mask, k)), total(v, Not(Psi(mask, k)))),
    "a division by a sum": (div(x, add(one, exp(y))), add(x, div(x, exp(y)))),
    "a sum of quotients": (div(one, add(exp(x), exp(y))), add(div(one, exp(x)), div(one, exp(y)))),
    "max through a factor": (F("max", y, top(mul(x, v))), F("max", y, mul(x, F("max", y, top(v))))),
    "the max of a sum": (F("max", x, top(add(v, w))), F("max", x, F("max", x, top(v)))),
    "no rescale": (lazy(), quotient(state(top(v), total(shifted()), total(mul(exp(v), w))))),
    "the rescale inverted": (online(), states(F("neg", v), one, w)),
    "the mask only above": (
        online(Psi(mask, k)),
        quotient(state(top(v), total(shifted()), total(mul(shifted(), w), Psi(mask, k)))),
    ),
    "weight and value exchanged": (states(v, exp(w), exp(x)), states(v, exp(x), exp(w))),
    "weights forgotten": (states(v, exp(w), x), states(v, one, x)),
    "other maxima in an array": (kept(v, one, w), kept(x, one, w)),
    "other maxima in an array, the weights unmoved": (kept(v, one, w), kept(x, one, mul(w, lower))),
    "other maxima in an array, the values unmoved": (kept(v, one, w), kept(x, lower, w)),
    "the weight moved the wrong way": (kept(v, one, w), kept(x, exp(F("sub", x, v)), mul(w, exp(F("sub", x, v))))),
    "one state of an array for all": (kept(v, one, w), kept(v, one, w, Sub(k, k))),
    "a root of a product": (F("sqrt", exp(x)), exp(div(x, two))),
    "branches merged": (Where(Lt(n, m), x, y), add(x, y)),
    "a sum over the other axis": (
        total(total(Psi(A, Var(1), k), Lt(k, Var(1)))),
        total(total(Psi(A, k, Var(1)), Lt(k, Var(1)))),
    ),
    "the outer index for the inner": (total(total(Psi(A, Var(1), k))), total(total(Psi(A, Var(1), Var(1))))),
    "zero times the count": (total(one), mul(Real(0), total(one))),
    "a sign": (F("sub", x, y), F("sub", y, x)),
}


@pytest.mark.parametrize("name", FALSE)
def test_what_is_false_over_the_reals_is_refused(name: str, judge: Judge) -> None:
    old, new = FALSE[name]
    for pair in ((old, new), (new, old)):
        with pytest.raises(MoaproofError) as caught:
            judge(*pair)
        assert not isinstance(caught.value, JudgesDisagree)


@pytest.mark.parametrize("columns", [False, True])
def test_states_are_equal_when_weight_and_value_are(columns: bool, judge: Judge) -> None:
    """Whatever their maxima are: nothing that a state can meet tells two maxima apart."""

    def rows(score: Term, weight: Term, value: Term) -> Term:
        return Build(n, state(score, weight, Build(m, up(value)) if columns else value))

    plain = rows(v, one, w)
    seen = rows(x, lower, mul(w, lower))
    of_columns = Build(n, Build(m, state(Psi(V, Var(1)), one, Psi(W, Var(1)))))  # each column with a maximum of its own
    assert judge(plain, seen) == judge(seen, plain) == "R"
    assert judge(plain, plain) == "I"
    if columns:
        assert judge(plain, of_columns) == judge(of_columns, plain) == "I"
        assert judge(seen, of_columns) == "R"
    for wrong in (rows(x, one, w), rows(v, one, mul(w, lower)), rows(v, lower, w), rows(F("max", v, x), one, w)):
        for pair in ((plain, wrong), (wrong, plain)):
            with pytest.raises(Refuted, match="not equal over the reals"):
                judge(*pair)
    with pytest.raises(Refuted, match="sort or rank changes"):
        judge(plain, Build(n, Build(m, w) if columns else w))


def test_a_state_that_is_empty_is_the_state_of_weight_0_and_no_other(judge: Judge) -> None:
    """A chunk without a visible key: its merge with any state is that state."""
    chunk = Fold("softmax", n, state(v, one, w), Psi(mask, k))
    tile = state(top(v, Psi(mask, k)), *(total(mul(shifted(Psi(mask, k)), u), Psi(mask, k)) for u in (one, w)))
    kept_chunks = [Let(Build(m, c), quotient(Fold("softmax", m, Psi(Var(1), k)))) for c in (up(chunk), up(tile))]
    assert judge(*kept_chunks) == judge(*kept_chunks[::-1]) == "R"
    everything = up(Fold("softmax", n, state(v, one, w)))
    with pytest.raises(Refuted):
        judge(kept_chunks[0], Let(Build(m, everything), quotient(Fold("softmax", m, Psi(Var(1), k)))))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (x, div(mul(x, y), y)),
        (one, div(y, y)),
        (Real(0), F("sub", div(one, x), div(one, x))),
        (one, mul(total(v), div(one, total(v)))),
    ],
)
def test_a_divisor_that_may_be_0_is_refused_wherever_it_comes_from(old: Term, new: Term, judge: Judge) -> None:
    with pytest.raises(MoaproofError, match="divisor"):
        judge(old, new)


def test_nothing_is_cancelled_against_its_inverse(judge: Judge) -> None:
    """Even where the divisor is positive: 1/0 = 0 in the ring, so x/x = 1 is no law of it."""
    with pytest.raises(Refuted):
        judge(one, div(positive, positive))


# --- each ring alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [Own, BySympy])
@pytest.mark.parametrize("name", LAWS)
def test_each_ring_has_the_law_by_itself(ring: Callable[[], Any], name: str) -> None:
    walk = Values(ring(), Integers())
    left, right = (walk.canonical(symbolic(t, ()), []) for t in LAWS[name])
    assert left is right


@pytest.mark.parametrize("ring", [Own, BySympy])
@pytest.mark.parametrize("name", FALSE)
def test_each_ring_refuses_by_itself(ring: Callable[[], Any], name: str) -> None:
    walk = Values(ring(), Integers())
    left, right = (walk.canonical(symbolic(t, ()), []) for t in FALSE[name])
    assert left is not right


ROOTS = [
    exp(add(x, one)),
    exp(F("sub", F("neg", x), one)),
    exp(F("sub", add(x, x), y)),
    exp(F("sub", y, add(x, x))),
    exp(z),
    exp(one),
    x,
]


@pytest.mark.parametrize("ring", [Own, BySympy])
@pytest.mark.parametrize("seed", range(6))
def test_no_factor_of_a_product_is_lost(ring: Callable[[], Any], seed: int) -> None:
    """Products of the same factors, in another order and bracketing, have one term; one factor more, another."""
    rng = __import__("random").Random(seed)
    walk = Values(ring(), Integers())
    factors = [rng.choice(ROOTS) for _ in range(4)]

    def product(order: list[Term]) -> Term:
        while len(order) > 1:
            at = rng.randrange(len(order) - 1)
            order = [*order[:at], mul(order[at], order[at + 1]), *order[at + 2 :]]
        return walk.canonical(symbolic(order[0], ()), [])

    first = product(factors)
    assert all(product(rng.sample(factors, 4)) is first for _ in range(4))
    assert product([*factors, exp(mul(z, z))]) is not first
    assert product([*factors, x]) is not first


def test_inverses_of_inverses_and_of_zero() -> None:
    for ring in (Own(), BySympy()):
        a, zero = ring.atom(x), ring.const(0)
        assert ring.term(ring.inverse(ring.inverse(a))) is ring.term(a)
        assert ring.term(ring.inverse(zero)) is Real(0)
        assert ring.term(ring.mul(a, ring.inverse(a))) is not Real(1)
        square = ring.mul(a, a)
        assert ring.term(ring.mul(square, ring.inverse(a))) is not ring.term(a)


def test_rings_that_disagree_are_an_error(monkeypatch: pytest.MonkeyPatch, judge: Judge) -> None:
    monkeypatch.setattr(reals.Own, "mul", Own.add)
    with pytest.raises(JudgesDisagree):
        judge(mul(x, y), mul(y, mul(x, one)))


# --- binders -------------------------------------------------------------------------------------------


def test_three_sums_with_one_extent_do_not_share_an_index(judge: Judge) -> None:
    nest = lambda e: total(total(total(e)))  # noqa: E731
    i, j, l = Var(2), Var(1), Var(0)
    right = mul(total(v), mul(total(v), total(v)))
    assert judge(nest(mul(Psi(V, i), mul(Psi(V, j), Psi(V, l)))), right) == "R"
    for wrong in (mul(Psi(V, i), mul(Psi(V, j), Psi(V, j))), mul(Psi(V, l), mul(Psi(V, l), Psi(V, l)))):
        with pytest.raises(Refuted):
            judge(nest(wrong), right)


def test_a_tile_is_not_flattened_into_an_index_of_an_outer_sum(judge: Judge) -> None:
    """The outer index i stands where the row of the tile should: i + J*t."""
    s, b, t = map(Size, "sbt")
    facts = [Lt(ZERO, t), Lt(s, Add(Term("imul", None, (b, t)), ONE))]
    D = In("D", Term("imul", None, (b, t)))
    at = Add(Term("imul", None, (Var(1), t)), Var(2))
    old = total(total(total(Psi(D, at), extent=tile_extent(s, t, Var(0))), extent=b), extent=t)
    with pytest.raises(MoaproofError):
        judge(old, total(total(Psi(D, k), extent=s), extent=t), facts)


def test_what_is_proved_under_a_guard_is_not_used_outside(judge: Judge) -> None:
    """The inner sum is over min(n, m); it is one over n only where the guard says n < m."""
    inner = lambda e: total(Psi(V, k), extent=e)  # noqa: E731
    guarded = total(inner(Min(n, m)), And(Lt(n, m), Lt(k, n)), extent=m)
    assert judge(guarded, total(inner(n), And(Lt(n, m), Lt(k, n)), extent=m)) != "R"
    with pytest.raises(MoaproofError):
        judge(total(inner(Min(n, m)), extent=m), total(inner(n), extent=m))
    with pytest.raises(MoaproofError):
        judge(guarded, mul(total(one, And(Lt(n, m), Lt(k, n)), extent=m), add(inner(n), Sub(n, n) and one)))


@pytest.mark.parametrize("times", [7, 12])
def test_powers_of_sums_do_not_explode(times: int, judge: Judge, deadline: Callable[[float], Any]) -> None:
    t = add(x, add(y, z))
    for _ in range(times):
        t = mul(t, t)
    with deadline(10), pytest.raises(MoaproofError):
        judge(t, mul(one, mul(t, two)))
