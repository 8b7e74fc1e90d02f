"""False steps that an earlier kernel accepted, kept so that none comes back; and honest ones that it refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moaproof.errors import IllFormed, Refuted, Unknown
from moaproof.kernel.bits import Deciders
from moaproof.kernel.defined import Position
from moaproof.kernel.free import X, new_index, symbolic
from moaproof.kernel.integers import Integers
from moaproof.kernel.reals import Own, Ring, Values
from moaproof.kernel.step import Checker
from moaproof.kernel.sympy_ring import BySympy
from moaproof.operators import typeof
from moaproof.semantics import Numbers, evaluate
from moaproof.term import (
    ONE,
    ZERO,
    Add,
    Build,
    F,
    Fold,
    In,
    Le,
    Let,
    Lt,
    Mul,
    Psi,
    Real,
    Size,
    Sub,
    Term,
    Var,
    tile_extent,
)  # fmt: skip

n, b, t, p, m = map(Size, ("n", "b", "t", "p", "m"))
TILING = (Lt(ZERO, t), Le(n, Mul(b, t)), Lt(Mul(Sub(b, ONE), t), n))


def exp(x: Term) -> Term:
    return F("exp", x)


def nested(monoid: str, element: Term) -> Term:
    """fold i < p of fold J < b of fold r < min(t, n - J*t) of the element (of i: 2, J: 1, r: 0)."""
    return Fold(monoid, p, Fold(monoid, b, Fold(monoid, tile_extent(n, t, Var(0)), element)))


# --- a free index chosen for a tile was the one that already stood for the outer sum ------------------


@pytest.mark.parametrize("monoid", ["add", "max", "mul"])
def test_the_outer_index_is_not_taken_for_the_tiles_number(monoid: str, deciders: Deciders) -> None:
    """e[i + J*t] under i < p: not the fold of e[k], though it looks like k = J*t + r if i is taken for r."""
    e = In("e", Add(p, Mul(b, t)))
    left = nested(monoid, Psi(e, Add(Var(2), Mul(Var(1), t))))
    right = Fold(monoid, p, Fold(monoid, n, Psi(e, Var(0))))
    checker = Checker(TILING, deciders)
    for side in (left, right):
        checker.check_defined(side)
    with pytest.raises(Refuted, match="two indices differ"):
        checker.judge(left, [], left, right, Position((), TILING))
    algebra = Numbers({"n": 4, "b": 2, "t": 2, "p": 1}, {"e": [1.0, 1000.0, 10.0, 100.0, 10000.0]})
    assert evaluate(left, algebra) != evaluate(right, algebra)


@pytest.mark.parametrize(("monoid", "kind"), [("add", "R"), ("max", "I")])
def test_an_honest_split_under_an_outer_fold_is_accepted(monoid: str, kind: str, deciders: Deciders) -> None:
    y, z = In("y", n), In("z", p, n)
    k = Add(Mul(Var(1), t), Var(0))
    left = nested(monoid, F("mul", Psi(y, k), Psi(z, Var(2), k)))
    right = Fold(monoid, p, Fold(monoid, n, F("mul", Psi(y, Var(0)), Psi(z, Var(1), Var(0)))))
    checker = Checker(TILING, deciders)
    checker.check_defined(left)
    assert checker.judge(left, [], left, right, Position((), TILING)).kind == kind


def test_the_summed_index_is_not_confused_with_one_of_the_context(deciders: Deciders) -> None:
    """Under [x < n]: the sum over k of A[x] is not the sum over k of A[k]."""
    A = In("A", n)
    whole = Build(n, Fold("add", n, Psi(A, Var(1))))
    here = Position((), ()).under(whole, 1)
    with pytest.raises(Refuted, match="two indices differ"):
        Checker((), deciders).judge(whole, [1], whole.args[1], Fold("add", n, Psi(A, Var(0))), here)


def test_a_new_index_is_above_all_in_use() -> None:
    used = [Psi(In("A", n), X(7)), Fold("add", n, Add(X(3), Var(0)))]
    fresh = new_index(used, [X(11)], [])
    assert fresh.data > 11
    assert new_index([], []) is X(0)


# --- a ring lost all but one of the exponentials of a product -------------------------------------------

x, y, z = (In(name) for name in "xyz")
PRODUCTS = {  # two values that are equal, and what is left of the first if an exponential is lost
    "two exponentials": (F("mul", exp(x), exp(y)), exp(F("add", x, y)), exp(y)),
    "a sum times an exponential": (
        F("mul", F("add", exp(x), exp(y)), exp(F("sub", z, x))),
        F("add", exp(z), exp(F("add", y, F("sub", z, x)))),
        F("add", exp(z), exp(y)),
    ),
    "a sum over its largest": (
        F("mul", F("add", exp(x), exp(y)), exp(F("neg", x))),
        F("add", Real(1), exp(F("sub", y, x))),
        F("add", Real(1), exp(F("neg", x))),
    ),
}


@pytest.mark.parametrize("ring", [Own, BySympy])
@pytest.mark.parametrize("name", PRODUCTS)
def test_each_ring_alone_keeps_every_exponential(name: str, ring: Callable[[], Ring]) -> None:
    walk = Values(ring(), Integers())
    product, equal, less = (walk.canonical(symbolic(side, ()), []) for side in PRODUCTS[name])
    assert product is equal
    assert product is not less
    assert equal is not less


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_rings_agree_on_products_of_exponentials(name: str, deciders: Deciders) -> None:
    product, equal, less = PRODUCTS[name]
    checker, here = Checker((), deciders), Position((), ())
    assert checker.judge(product, [], product, equal, here).kind == "R"
    with pytest.raises(Refuted, match="not equal over the reals"):
        checker.judge(product, [], product, less, here)


# --- a closed function of Omega was not looked at ---------------------------------------------------

CLOSED = {
    "a read out of range": Psi(In("B", m), m),
    "a division by zero": F("div", Real(1), In("z")),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_function_of_omega_is_checked(name: str, deciders: Deciders) -> None:
    term = Term("omega", (0,), (In("A", n), CLOSED[name]))
    with pytest.raises((Refuted, Unknown)) as by_omega:
        Checker((), deciders).check_defined(term)
    with pytest.raises((Refuted, Unknown)) as by_build:
        Checker((), deciders).check_defined(Build(n, CLOSED[name]))
    assert str(by_omega.value).split(";")[0] == str(by_build.value).split(";")[0]


def test_an_undefined_function_of_omega_may_not_come_in_by_a_step(deciders: Deciders) -> None:
    """0/z * 1 is 0 in the ring, and undefined at z = 0."""
    old = Build(n, Real(0))
    new = Term("omega", (0,), (In("A", n), F("mul", F("div", Real(0), In("z")), Real(1))))
    with pytest.raises(Unknown, match="a divisor is not 0"):
        Checker((), deciders).judge(old, [], old, new, Position((), ()))


# --- sums and products of maxima of nothing --------------------------------------------------------


@pytest.mark.parametrize("monoid", ["add", "mul"])
def test_a_sum_is_of_reals(monoid: str, deciders: Deciders) -> None:
    """The sum of maxima, each possibly of nothing."""
    sums = Fold(monoid, n, Fold("max", m, Psi(In("A", n, m), Var(1), Var(0))))
    with pytest.raises(IllFormed, match=f"fold {monoid}: its element is a opt"):
        typeof(sums)
    with pytest.raises(IllFormed):
        Checker((), deciders).check_defined(sums)
    with pytest.raises(IllFormed):
        evaluate(sums, Numbers({"n": 1, "m": 0}, {"A": []}))


def test_a_difference_of_such_sums_may_not_come_in_by_a_step(deciders: Deciders) -> None:
    sums = Fold("add", n, Fold("max", m, Psi(In("A", m), Var(0))))
    with pytest.raises(IllFormed):
        Checker((), deciders).judge(Real(0), [], Real(0), F("sub", sums, sums), Position((), ()))


# --- an index named by a term's depth, which a let makes another one ---------------------------------


@pytest.mark.parametrize("extra", range(8))
def test_a_weight_that_may_be_zero_is_refused_at_every_depth(extra: int, deciders: Deciders) -> None:
    """The weight of key k is the one-term sum m - k: not positive at k = m.  The score is negated ``extra`` times."""
    score = Psi(In("S", n), Var(0))
    for _ in range(extra):
        score = F("neg", score)
    weight = Fold("add", m, Term("cast", None, (Sub(m, Var(1)),)), Le(Var(0), ZERO))
    value = Fold("add", n, Psi(In("S", n), Var(0)))

    def term(weights: Term) -> Term:
        return Term("quotient", None, (Term("state", None, (Fold("max", n, score), weights, value)),))

    named = Let(Build(n, weight), term(Fold("add", n, Psi(Var(1), Var(0)))))
    for whole in (term(Fold("add", n, weight)), named):
        with pytest.raises(Unknown, match="a divisor is not 0"):
            Checker((Lt(ZERO, m), Lt(ZERO, n)), deciders).check_defined(whole)
    with pytest.raises(ZeroDivisionError):
        evaluate(_at_zero(), Numbers({"n": 1, "m": 0}, {"S": [1.0]}))


def _at_zero() -> Term:
    """A state of weight 0: what the refusals above are about."""
    zero = Fold("add", n, Term("cast", None, (m,)))
    s = Psi(In("S", n), Var(0))
    return Term("quotient", None, (Term("state", None, (Fold("max", n, s), zero, Fold("add", n, s))),))
