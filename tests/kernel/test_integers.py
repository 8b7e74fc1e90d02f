"""Integer questions: what Z3 is asked, how its answer is read, and names that must not meet."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from moaproof.errors import IllFormed, JudgesDisagree, Refuted, Unknown
from moaproof.kernel import integers
from moaproof.kernel.free import X
from moaproof.kernel.integers import Integers, decide, lean
from moaproof.kernel.question import question
from moaproof.semantics import Numbers, meaning
from moaproof.term import (
    ONE,
    TRUE,
    ZERO,
    Add,
    And,
    Div,
    Flat,
    In,
    Int,
    Le,
    Lt,
    Min,
    Mul,
    Not,
    Size,
    Sub,
    Term,
    Where,
)

n, m, r = map(Size, ("n", "m", "r"))
i, j = X(0), X(1)


def prove(facts: list[Term], goal: Term) -> None:
    Integers().prove(facts, goal, "goal")


@pytest.mark.parametrize(
    ("facts", "goal"),
    [
        ([], Lt(Int(-1), n)),
        ([Lt(i, n)], Lt(i, Add(n, ONE))),
        ([Lt(ZERO, m)], Lt(Mul(Div(n, m), m), Add(n, ONE))),
        ([Lt(ZERO, m), Lt(Int(-1), i), Lt(i, Mul(n, m))], Lt(Div(i, m), n)),
        ([], Not(Lt(Min(n, m), Min(m, n)))),
        ([And(Lt(n, m), Lt(m, r))], Lt(n, r)),
        ([Lt(n, ZERO)], Lt(ONE, ZERO)),
        ([Not(Lt(n, m))], Le(m, n)),
        ([], TRUE),
    ],
)
def test_what_follows_is_proved(facts: list[Term], goal: Term) -> None:
    prove(facts, goal)


@pytest.mark.parametrize(
    ("facts", "goal"),
    [
        ([], Lt(ZERO, n)),
        ([], Lt(Int(-1), i)),
        ([Lt(i, n)], Lt(i, Sub(n, ONE))),
        ([], Lt(Div(n, Int(2)), n)),
        ([Lt(ZERO, m)], Le(n, Mul(Div(n, m), m))),
        ([Lt(n, m)], Lt(m, n)),
        ([And(Lt(n, m), Lt(m, r))], Lt(r, n)),
        ([], Not(TRUE)),
    ],
)
def test_what_does_not_follow_is_refuted_with_a_witness(facts: list[Term], goal: Term) -> None:
    with pytest.raises(Refuted, match="goal") as caught:
        prove(facts, goal)
    assert all(v >= 0 for name, v in caught.value.witness.items() if "'" not in name)


@pytest.mark.parametrize("name", ["q0", "q1", "x0", "mask0", "r", "k0"])
def test_a_size_may_have_any_name(name: str) -> None:
    """The judge's own quotients, indices and masks have names that no size can have."""
    size, mask = Size(name), In("mask", n, sort="bool")
    for goal in (Lt(size, Add(Div(n, m), Int(4))), Lt(Div(n, m), Add(size, Int(4))), Lt(size, i)):
        with pytest.raises(Refuted):
            prove([Lt(ZERO, m), Lt(Int(-1), i), Flat(mask, i)], goal)


def test_no_idea_of_division_by_what_is_not_positive_is_used() -> None:
    for goal in (Lt(Div(n, ZERO), ONE), Le(ZERO, Div(n, ZERO)), Not(Lt(Div(n, m), ZERO)), Lt(Div(n, Int(-1)), ONE)):
        with pytest.raises((Refuted, Unknown)):
            prove([], goal)
    prove([], Not(Lt(Div(n, ZERO), Div(n, ZERO))))


def test_a_mask_is_one_unknown_truth_value_for_each_offset() -> None:
    mask = In("mask", n, sort="bool")
    prove([Flat(mask, Add(i, ONE))], Flat(mask, Add(ONE, i)))
    for other in (
        Flat(mask, i),
        Not(Flat(mask, Add(i, ONE))),
        Flat(In("mask", m, sort="bool"), Add(i, ONE)),
        Flat(In("seen", n, sort="bool"), Add(i, ONE)),
    ):
        with pytest.raises(Refuted):
            prove([Flat(mask, Add(i, ONE))], other)


def test_only_statements_about_indices_are_questions() -> None:
    for goal in (Lt(Where(Lt(n, m), n, m), n), Lt(Term("tau", None, (In("A", n),)), m)):
        with pytest.raises(IllFormed, match="no integer question"):
            prove([], goal)


def test_a_question_beyond_the_limit_is_unknown_and_soon(deadline: Callable[[float], Any]) -> None:
    """x^3 + y^3 = z^3 with x, y > 0: Z3 will not find out; nothing is concluded."""
    cube = lambda t: Mul(t, Mul(t, t))  # noqa: E731
    left, right = Add(cube(n), cube(m)), cube(r)
    with deadline(30), pytest.raises(Unknown, match="goal"):
        prove([Lt(ZERO, n), Lt(ZERO, m), Le(left, right), Le(right, left)], Lt(n, n))


@pytest.mark.parametrize("answer", ["sat", "unknown", "UNSAT", ""])
def test_only_unsat_proves(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integers, "decide", lambda q: (answer, {"n": 0, "m": 0}))
    with pytest.raises((Refuted, Unknown)):
        prove([], Lt(n, m))
    assert not Integers().holds([], Lt(n, m))


def test_a_witness_that_is_none_is_a_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integers, "decide", lambda q: ("sat", {"n": 1, "m": 2}))
    with pytest.raises(JudgesDisagree):
        prove([], Lt(n, m))
    with pytest.raises(JudgesDisagree):
        prove([Lt(m, n)], Lt(r, n))


def test_lean_keeps_what_is_connected_and_renames() -> None:
    facts = [Lt(X(5), n), Lt(X(5), X(7)), Lt(X(8), n), Lt(n, m)]
    kept, goal = lean(facts, Lt(X(7), n), 0)
    assert kept == {Lt(X(0), n), Lt(X(0), X(1)), Lt(n, m)}
    assert goal is Lt(X(1), n)
    assert Lt(X(2), n) in lean(facts, Lt(X(7), n), 1)[0]
    mask = Flat(In("mask", n, sort="bool"), X(7))
    assert lean([mask], Lt(X(7), n), 3)[0] == frozenset()
    assert lean([mask], Not(mask), 0)[0] == {Flat(In("mask", n, sort="bool"), X(0))}


def test_what_was_proved_is_remembered_with_its_facts_only() -> None:
    engine = Integers()
    engine.prove([Lt(X(3), n)], Lt(X(3), Add(n, ONE)), "")
    engine.prove([Lt(X(9), n)], Lt(X(9), Add(n, ONE)), "")
    assert engine.tally.row() == [0, 1, 1]
    with pytest.raises(Refuted):
        engine.prove([Lt(X(9), m)], Lt(X(9), Add(n, ONE)), "")


def random_index(rng: random.Random, depth: int) -> Term:
    if depth == 0:
        return rng.choice([n, m, i, j, Int(rng.randrange(-2, 3))])
    a, b = (random_index(rng, depth - 1) for _ in range(2))
    return rng.choice([Add(a, b), Sub(a, b), Mul(a, b), Min(a, b), Div(a, Int(rng.randrange(1, 4)))])


@pytest.mark.parametrize("seed", range(25))
def test_z3_and_the_evaluator_agree(seed: int) -> None:
    """A proved goal holds at every small point that satisfies the facts; a refuted one fails at its witness."""
    rng = random.Random(seed)
    facts = [Lt(random_index(rng, 1), random_index(rng, 1)) for _ in range(2)]
    goal = rng.choice(
        [Lt(random_index(rng, 2), random_index(rng, 2)), Not(Lt(random_index(rng, 2), random_index(rng, 1)))]
    )
    answer, witness = decide(question(frozenset(facts), goal))
    points = [
        {"n": a, "m": b, "x0'": c, "x1'": d}
        for a, b in itertools.product(range(3), repeat=2)
        for c, d in itertools.product(range(-2, 3), repeat=2)
    ]
    broken = [
        p
        for p in points
        if all(meaning(f, (), (), (), Numbers(p, {})) for f in facts) and not meaning(goal, (), (), (), Numbers(p, {}))
    ]
    if answer == "unsat":
        assert not broken
    elif answer == "sat":
        full = {"n": 0, "m": 0, "x0'": 0, "x1'": 0, **witness}
        assert all(meaning(f, (), (), (), Numbers(full, {})) for f in facts)
        assert not meaning(goal, (), (), (), Numbers(full, {}))
