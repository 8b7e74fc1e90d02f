"""The evaluator: the order of folds, Empty, states, reads out of range, and the exact fields."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

from moaproof.errors import IllFormed
from moaproof.semantics import EMPTY, Fields, Numbers, evaluate
from moaproof.term import (
    ONE,
    TRUE,
    ZERO,
    Add,
    Build,
    Div,
    F,
    Flat,
    Fold,
    In,
    Int,
    Let,
    Lt,
    Mul,
    Not,
    Psi,
    Real,
    Size,
    Term,
    Var,
    Where,
)

n = Size("n")
V = In("V", n)
k = Var(0)


def at(t: Term, *values: float, **sizes: int) -> object:
    return evaluate(t, Numbers({"n": len(values), **sizes}, {"V": values, "x": [2.0]}))[1][0]


def test_a_sum_goes_from_0_in_increasing_order() -> None:
    values = (1e16, 1.0, -1e16, 1.0)
    assert at(Fold("add", n, Psi(V, k)), *values) == ((((0.0 + 1e16) + 1.0) - 1e16) + 1.0)
    assert at(Fold("add", n, Psi(V, k)), *values) != math.fsum(values)


def test_what_a_guard_excludes_is_not_evaluated() -> None:
    t = Fold("add", n, F("div", Real(1), Psi(V, k)), Lt(ZERO, k))
    assert at(t, 0.0, 2.0, 4.0) == 0.75
    assert at(Where(Lt(n, ZERO), Psi(V, n), Real(3)), 1.0) == 3.0


def test_folds_of_nothing() -> None:
    assert at(Fold("add", ZERO, Psi(V, k)), 1.0) == 0.0
    assert at(Fold("mul", n, Psi(V, k), Not(TRUE)), 1.0) == 1.0
    assert at(Fold("max", n, Psi(V, k)), n=0) is EMPTY
    assert at(Fold("max", Int(-2), Psi(V, k)), 1.0) is EMPTY


def test_empty_is_the_identity_of_max_and_of_nothing_else() -> None:
    nothing = Fold("max", ZERO, Psi(V, k))
    assert at(F("max", nothing, Psi(V, ZERO)), 5.0) == 5.0
    assert at(F("max", Psi(V, ZERO), nothing), 5.0) == 5.0
    assert at(F("max", nothing, nothing), 5.0) is EMPTY
    for u in (F("exp", nothing), F("neg", nothing), F("add", nothing, Psi(V, ZERO)), F("mul", Real(0), nothing)):
        with pytest.raises(IllFormed, match="maximum of nothing"):
            at(u, 5.0)


def softmax(extent: Term, guard: Term = TRUE) -> Term:
    return Term(
        "quotient", None, (Fold("softmax", extent, Term("state", None, (Psi(V, k), Real(1), Psi(V, k))), guard),)
    )


def test_states_merge_to_the_softmax_and_of_no_keys_to_0() -> None:
    values = (0.5, -1.0, 3.0)
    weights = [math.exp(v) for v in values]
    expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert at(softmax(n), *values) == pytest.approx(expected, rel=1e-15)
    assert at(softmax(n), n=0) == 0.0
    assert at(softmax(n, Not(TRUE)), *values) == 0.0
    empty = Term("state", None, (Fold("max", ZERO, Psi(V, k)), Real(0), Real(0)))
    assert at(Term("quotient", None, (empty,)), 1.0) == 0.0


def test_states_may_be_kept_in_an_array_and_merged_later() -> None:
    """Two chunks of keys, then their merge: <chunk, column> psi W is a state, Empty where the chunk has no key."""
    values = (0.5, -1.0, 3.0)
    key = Add(Mul(Var(1), Int(2)), k)
    state = Term("state", None, (Psi(V, key), Real(1), Build(Int(2), Psi(V, Add(Mul(Var(2), Int(2)), Var(1))))))
    chunks = Build(Int(3), Fold("softmax", Int(2), state, Lt(key, n)))
    merged = Build(Int(2), Term("quotient", None, (Fold("softmax", Int(3), Psi(Var(2), k, Var(1))),)))
    due = at(softmax(n), *values)
    assert evaluate(Let(chunks, merged), Numbers({"n": 3}, {"V": values})) == ((2,), [pytest.approx(due)] * 2)
    shape, cells = evaluate(chunks, Numbers({"n": 3}, {"V": values}))
    assert shape == (3, 2)
    assert cells[4:] == [EMPTY, EMPTY]
    assert cells[2] == (3.0, 1.0, 3.0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_merging_is_associative_and_has_an_identity_in_the_fields(order: tuple[int, ...]) -> None:
    F_ = Fields({}, {})
    element = lambda v: F_.rational(Fraction(v))  # noqa: E731
    states = [(element(i), element(i + 2), element(7 * i)) for i in order]
    a, b, c = states
    pair = lambda s: tuple(F_.apply("mul", (y, F_.apply("exp", (s[0],)))) for y in s[1:])  # noqa: E731
    left, right = F_.merge(F_.merge(a, b), c), F_.merge(a, F_.merge(b, c))
    assert [x[0] for x in pair(left)] == [x[0] for x in pair(right)]
    assert F_.merge(EMPTY, a) == a == F_.merge(a, EMPTY)
    assert F_.merge(EMPTY, EMPTY) is EMPTY


@pytest.mark.parametrize(
    "t",
    [
        Psi(V, n),
        Psi(V, Int(-1)),
        Flat(V, n),
        Flat(V, Int(-1)),
        Flat(Build(n, Psi(V, k)), n),
        Psi(Build(n, Psi(V, ZERO)), n),
    ],
)
def test_a_read_out_of_range_is_an_error_and_never_wraps(t: Term) -> None:
    with pytest.raises(IllFormed):
        at(t, 1.0, 2.0)


@pytest.mark.parametrize("divisor", [ZERO, Int(-2)])
def test_floor_division_needs_a_positive_divisor(divisor: Term) -> None:
    with pytest.raises(IllFormed, match="not positive"):
        at(Term("cast", None, (Div(ONE, divisor),)), 1.0)
    assert at(Term("cast", None, (Div(Int(-1), Int(2)),)), 1.0) == -1.0


def test_a_let_is_its_definition() -> None:
    row = Build(n, F("mul", Psi(V, k), Real(2)))
    assert at(Let(row, F("add", Psi(Var(0), ZERO), Psi(Var(0), ONE))), 1.0, 2.0) == 6.0
    assert at(Let(n, Term("cast", None, (Add(Var(0), ONE),))), 1.0, 2.0) == 3.0


# --- the fields --------------------------------------------------------------------------------------


def test_the_fields_obey_the_laws_of_exp() -> None:
    f = Fields({}, {})
    rng = random.Random(0)
    assert pow(f.W, f.Q, f.P) == 1 != f.W
    for _ in range(50):
        a, b = (f.element(rng.randrange(10**9)) for _ in range(2))
        exp = lambda v: f.apply("exp", (v,))  # noqa: E731
        assert exp(f.apply("add", (a, b)))[0] == f.apply("mul", (exp(a), exp(b)))[0]
        assert f.apply("mul", (exp(a), exp(f.apply("neg", (a,)))))[0] == 1


def test_an_exponential_may_not_be_an_exponent() -> None:
    f = Fields({}, {})
    once = f.apply("exp", (f.element(3),))
    for u in (once, f.apply("mul", (once, f.element(2))), f.apply("div", (f.element(2), once))):
        with pytest.raises(IllFormed, match="exponent"):
            f.apply("exp", (u,))


def test_a_seeded_maximum_is_one_of_its_arguments_and_always_the_same() -> None:
    f = Fields({}, {}, seed=1)
    pairs = [(f.element(i), f.element(3 * i + 1)) for i in range(40)]
    picks = [f.apply("max", p) for p in pairs]
    assert all(u in p for u, p in zip(picks, pairs, strict=True))
    assert picks == [f.apply("max", p) for p in pairs]
    assert {p.index(u) for u, p in zip(picks, pairs, strict=True)} == {0, 1}


@pytest.mark.parametrize("denominator", [Fields.P, Fields.Q, 3 * Fields.Q])
def test_a_constant_that_the_fields_do_not_have_is_no_crash(denominator: int) -> None:
    """A denominator divisible by p has no value mod p (another point is taken); by q, none as an exponent."""
    f = Fields({}, {})
    if denominator % Fields.P == 0:
        with pytest.raises(ZeroDivisionError):
            f.rational(Fraction(1, denominator))
    else:
        assert f.rational(Fraction(1, denominator))[0] * denominator % f.P == 1
        assert f.rational(Fraction(1, denominator))[1] is None
