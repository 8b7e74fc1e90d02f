"""Matching and filling, and rules that lie: nothing that a rule proposes is believed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from moaproof.rewrite_rules import lookup, rules

from moaproof.errors import IllFormed, MoaproofError, RuleDoesNotApply
from moaproof.kernel.bits import Deciders
from moaproof.kernel.certificate import Step
from moaproof.kernel.checker import apply
from moaproof.kernel.rules import Dim, M, Pair, abstract, match, rewrite
from moaproof.kernel.step import Checker
from moaproof.operators import Index
from moaproof.term import ONE, TRUE, ZERO, Add, Build, F, Fold, In, Int, Let, Lt, Psi, Real, Size, Term, Var, up

n, m = Size("n"), Size("m")
x, V, A = In("x"), In("V", n), In("A", n, m)
k = Var(0)

FACTOR: Pair = (
    Fold("add", M("n"), F("mul", M("a"), M("B", Var(0))), M("G", Var(0))),
    F("mul", M("a"), Fold("add", M("n"), M("B", Var(0)), M("G", Var(0)))),
)


def total(element: Term) -> Term:
    return Fold("add", n, element)


def test_a_metavariable_matches_what_it_may_mention() -> None:
    out = rewrite(FACTOR, total(F("mul", x, Psi(V, k))), (), {})
    assert out is F("mul", x, total(Psi(V, k)))
    with pytest.raises(RuleDoesNotApply, match="does not allow"):
        rewrite(FACTOR, total(F("mul", Psi(V, k), x)), (), {})
    inside = (Index(n),)
    assert rewrite(FACTOR, total(F("mul", Psi(V, Var(1)), x)), inside, {}) is F("mul", Psi(V, Var(0)), total(x))


@pytest.mark.parametrize(
    ("pattern", "term"),
    [
        (M("a"), Var(0)),
        (F("add", M("a"), M("a")), F("add", x, Real(1))),
        (F("exp", M("a")), F("neg", x)),
        (F("exp", M("a")), x),
        (M("B", Int(0)), x),
        (M("B", Var(0), Var(0)), x),
        (Psi(M("a"), M("i")), Psi(A, ZERO, ZERO)),
        (TRUE, Lt(n, m)),
    ],
)
def test_what_does_not_match(pattern: Term, term: Term) -> None:
    with pytest.raises(RuleDoesNotApply):
        match(Build(M("n"), pattern), Build(n, term), {})


def test_what_a_step_must_choose_and_how() -> None:
    pair = (M("X", M("v")), Let(M("v"), M("X", Var(0))))
    good = {"v": (0, x), "X": (1, F("mul", Var(0), Var(0)))}
    assert rewrite(pair, F("mul", x, x), (), good) is Let(x, F("mul", Var(0), Var(0)))
    for bad in ({}, {"v": (0, x)}, {**good, "X": (0, x)}, {**good, "X": (2, x)}, {**good, "v": (0, Real(1))}):
        with pytest.raises(RuleDoesNotApply):
            rewrite(pair, F("mul", x, x), (), bad)


def test_a_missing_metavariable_on_the_right_is_refused() -> None:
    with pytest.raises(RuleDoesNotApply, match="must choose"):
        rewrite((M("a"), F("add", M("a"), M("b"))), x, (), {})


def test_dim_is_an_extent_in_its_context() -> None:
    pair = (M("a"), Build(M("n"), Term("cast", None, (Dim(1, M("A")),))))
    chosen = {"n": (0, n), "A": (0, Build(Var(0), Build(Add(Var(1), ONE), x)))}
    assert rewrite(pair, x, (Index(m),), chosen) is Build(n, Term("cast", None, (Add(Var(1), ONE),)))
    with pytest.raises(RuleDoesNotApply, match="no axis"):
        rewrite((M("a"), Dim(2, A)), x, (), {})
    with pytest.raises(IllFormed, match="right side"):
        match(Dim(0, M("A")), n, {})


def test_abstraction_moves_outer_variables() -> None:
    t = F("add", Psi(V, Var(0)), Psi(V, Var(3)))
    assert abstract(t, [0], 2, "B") is F("add", Psi(V, Var(0)), Psi(V, Var(2)))
    assert abstract(total(Psi(A, Var(1), k)), [0], 1, "B") is total(Psi(A, Var(1), k))
    with pytest.raises(RuleDoesNotApply):
        abstract(t, [1], 2, "B")


# --- rules that lie --------------------------------------------------------------------------------


def proposes(new: Term) -> Callable[..., Pair]:
    return lambda rule, params: (M("a"), new)


def step(old: Term, new: Term, path: tuple[int, ...], deciders: Deciders) -> Term:
    judged = apply(Checker((), deciders), Step(path, old.digest, "R", "lie", new), old, proposes(new))
    after: Term = judged.after
    return after


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ((1,), Psi(V, Var(1))),  # a variable that is not bound there
        ((1,), Psi(V, Add(k, ONE))),
        ((1,), x),
        ((1,), V),
        ((), x),
        ((), Build(n, x)),
        ((0,), m),
        ((0,), Add(n, ONE)),
        ((1,), M("X")),
        ((1,), Psi(V, M("i"))),
        ((1,), Let(Psi(V, n), Psi(V, Var(1)))),
        ((1, 0), In("V", m)),
        ((1, 0), In("W", n)),
        ((1, 0, 0), m),
        ((1,), Fold("max", n, Psi(V, Var(1)))),
        ((1, 1), ZERO),
        ((1, 1), Term("cast", None, (k,))),
        ((1,), Term("state", None, (x, x, x))),
    ],
)
def test_a_false_proposal_is_refused(path: tuple[int, ...], new: Term, deciders: Deciders) -> None:
    with pytest.raises(MoaproofError):
        step(Build(n, Psi(V, k)), new, path, deciders)


def test_a_rule_cannot_use_the_judges_symbols(deciders: Deciders) -> None:
    """x0 stands for k in one context and for another index in the next: it comes in, then is taken for the other."""
    B = In("B", n, n)
    old = Fold("add", n, Build(n, Psi(B, Var(1), Var(0))))
    new = Fold("add", n, Build(n, Psi(B, Var(0), Var(0))))
    with pytest.raises(MoaproofError):
        step(step(old, Psi(B, Term("x", 0), Var(0)), (2, 1), deciders), new, (), deciders)


def test_an_extent_of_an_input_stays_closed(deciders: Deciders) -> None:
    """n = n + k where the guard says k < 1; but the size of an input depends on no loop."""
    mask = In("mask", n, sort="bool")
    old = Fold("add", ONE, Fold("add", n, Psi(V, k), Psi(mask, k)))
    with pytest.raises(MoaproofError):
        step(old, Add(n, Var(1)), (2, 1, 0, 0), deciders)


def test_the_honest_step_is_accepted(deciders: Deciders) -> None:
    assert step(Build(n, Psi(V, k)), Psi(V, Add(ZERO, k)), (1,), deciders) is Build(n, Psi(V, Add(ZERO, k)))


# --- parameters come from a certificate ------------------------------------------------------------

PARAMETERS = [
    (),
    (10**15,),
    (2**53,),
    (-1,),
    ("a",),
    (None,),
    ((),),
    ((10**15,),),
    ((0,) * 8, 10**15),
    (True,),
    (("a", None), 1),
    (1, 2, 3, 4, 5),
]


@pytest.mark.parametrize("rule", sorted(rules()))
def test_parameters_that_do_not_fit_are_refused(rule: str, deadline: Callable) -> None:
    with deadline(10):
        for params in PARAMETERS:
            for more in ((), (2,), (2, 2), ("add", 10**15)):
                try:
                    lookup(rule, (*params, *more))
                except MoaproofError:
                    continue


def test_a_rule_of_no_name_is_refused() -> None:
    with pytest.raises(RuleDoesNotApply, match="no law"):
        lookup("no-such-law", ())


def test_bodies_of_choices_are_moved_not_captured() -> None:
    pair = (M("a"), Build(M("n"), F("add", M("b"), M("B", Var(0)))))
    chosen = {"n": (0, n), "b": (0, Psi(V, Var(0))), "B": (1, F("mul", Psi(V, Var(0)), Psi(V, Var(1))))}
    new = rewrite(pair, x, (Index(n),), chosen)
    assert new is Build(n, F("add", Psi(V, Var(1)), F("mul", Psi(V, Var(0)), Psi(V, Var(1)))))
    assert up(new) is not new
