"""The form of an integer question: what its clauses say, and that its text says the same in the same bytes."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from typing import Any

import pytest
import z3

from moaproof.errors import IllFormed
from moaproof.kernel.free import X
from moaproof.kernel.question import (
    FALSE,
    Every,
    Formula,
    Poly,
    Question,
    Some,
    every,
    literal,
    plus,
    question,
    show,
    some,
    times,
)
from moaproof.semantics import Numbers, meaning
from moaproof.term import ONE, TRUE, ZERO, Add, And, Div, Flat, In, Int, Lt, Min, Mul, Not, Size, Sub, Term, Where

n, m = Size("n"), Size("m")
i, j = X(0), X(1)
POINTS = [
    {"n": a, "m": b, "x0'": c, "x1'": d}
    for a, b in itertools.product(range(3), repeat=2)
    for c, d in itertools.product(range(-2, 3), repeat=2)
]


class Point(Numbers):
    """The evaluator, where free indices have values too."""

    def __init__(self, values: dict[str, int]):
        super().__init__(values, {})

    def symbol(self, x: Term) -> int:
        return self.sizes[f"x{x.data}'"]


def truth(t: Term, point: dict[str, int]) -> bool:
    return bool(meaning(t, (), (), (), Point(point)))


def value(p: Poly, at: dict[str, int]) -> int:
    total = 0
    for names, c in p:
        for v in names:
            c *= at[v]  # noqa: PLW2901
        total += c
    return total


def holds(f: Formula, at: dict[str, int]) -> bool:
    match f:
        case Every(parts):
            return all(holds(part, at) for part in parts)
        case Some(parts):
            return any(holds(part, at) for part in parts)
    return value(f, at) >= 0


def variables(q: Question) -> set[str]:
    def go(f: Formula) -> set[str]:
        if isinstance(f, Every | Some):
            return set().union(*map(go, f.parts))
        return {v for names, _ in f for v in names}

    return set().union(*map(go, q.clauses))


def models(q: Question, fixed: dict[str, int], box: range) -> list[dict[str, int]]:
    """All values of the variables that are not fixed, from a box, at which every clause holds."""
    free = sorted(variables(q) - set(fixed))
    rows = (fixed | dict(zip(free, row, strict=True)) for row in itertools.product(box, repeat=len(free)))
    return [at for at in rows if all(holds(c, at) for c in q.clauses)]


def random_index(rng: random.Random, depth: int) -> Term:
    if depth == 0:
        return rng.choice([n, m, i, j, Int(rng.randrange(-2, 3))])
    a, b = (random_index(rng, depth - 1) for _ in range(2))
    return rng.choice(
        [Add(a, b), Sub(a, b), Mul(a, b), Min(a, b), Div(a, Int(rng.randrange(1, 4))), Div(a, Add(n, ONE))]
    )


def random_truth(rng: random.Random, depth: int) -> Term:
    if depth == 0:
        return Lt(random_index(rng, 1), random_index(rng, 1))
    a, b = (random_truth(rng, depth - 1) for _ in range(2))
    return rng.choice([And(a, b), Not(a), Not(And(a, b)), And(a, Not(b))])


def asked(seed: int) -> tuple[list[Term], Term, Question]:
    rng = random.Random(seed)
    facts, goal = [random_truth(rng, 1) for _ in range(2)], random_truth(rng, 2)
    return facts, goal, question(frozenset(facts), goal)


@pytest.mark.parametrize("seed", range(60))
def test_clauses_say_that_the_facts_hold_and_the_goal_does_not(seed: int) -> None:
    """At every point: there are values of the minima and quotients that satisfy all clauses, or there are none."""
    rng = random.Random(seed)
    facts, goal = [random_truth(rng, 0)], random_truth(rng, seed % 2)
    q = question(frozenset(facts), goal)
    defined = [v for v in variables(q) if v[0] in "uq"]
    if len(defined) > 3:
        facts, q = [], question(frozenset(), goal)
    for point in rng.sample(POINTS, 20 if len(defined) < 3 else 2):
        fixed = {"s.n": point["n"], "s.m": point["m"], "x.0": point["x0'"], "x.1": point["x1'"]}
        broken = all(truth(f, point) for f in facts) and not truth(goal, point)
        assert len(models(q, fixed, range(-7, 8))) == broken  # no other values of minima and quotients either


@pytest.mark.parametrize("seed", range(60))
def test_the_text_says_what_the_clauses_say(seed: int) -> None:
    *_, q = asked(seed)
    rng = random.Random(seed)
    clauses = z3.parse_smt2_string(q.text)
    assert len(clauses) == len(q.clauses)
    names = sorted(variables(q))
    for _ in range(25):
        at = {v: rng.randrange(-4, 5) for v in names}
        swap = [(z3.Int(v), z3.IntVal(c)) for v, c in at.items()]
        for mine, theirs in zip(q.clauses, clauses, strict=True):
            assert z3.is_true(z3.simplify(z3.substitute(theirs, *swap))) == holds(mine, at)


TEXT = """(set-logic QF_NIA)
(declare-const m.0 Int)
(declare-const q.0 Int)
(declare-const s.m Int)
(declare-const s.n Int)
(declare-const u.0 Int)
(declare-const x.0 Int)
(declare-const x.1 Int)
(assert (>= (+ (* (- 1) u.0) x.0) 0))
(assert (>= (+ (* (- 1) u.0) x.1) 0))
(assert (>= (+ (- 1) (* 3 s.n) (* (- 1) u.0)) 0))
(assert (>= (+ (- 1) s.m) 0))
(assert (>= (+ q.0 (* (- 1) s.n) x.1) 0))
(assert (>= s.m 0))
(assert (>= s.n 0))
(assert (or (>= (* (- 1) s.m) 0) (and (>= (+ (* (- 1) q.0 s.m) x.0) 0) (>= (+ (- 1) (* q.0 s.m) s.m (* (- 1) x.0)) 0))))
(assert (or (>= (+ (* (- 1) s.n) x.0) 0) (>= (* (- 1) m.0) 0)))
(assert (or (>= (+ u.0 (* (- 1) x.1)) 0) (>= (+ u.0 (* (- 1) x.0)) 0)))
(check-sat)
"""


def test_the_text_is_this() -> None:
    mask = In("mask", n, sort="bool")
    facts = [Lt(ZERO, m), Not(And(Lt(i, n), Flat(mask, Add(i, ONE)))), Lt(Min(i, j), Mul(Int(3), n))]
    q = question(frozenset(facts), Lt(Div(i, m), Sub(n, j)))
    assert q.text == TEXT


MANY = """
n, m, i, j = Size("n"), Size("m"), X(0), X(1)
divisions = [Lt(Div(Add(i, Int(k)), m), Min(Div(j, Int(k + 2)), Mul(Int(k + 1), n))) for k in range(4)]
"""


def test_a_question_has_one_text_whatever_the_order_and_the_hash_seed() -> None:
    names: dict[str, Any] = {"Size": Size, "X": X, "Lt": Lt, "Add": Add, "Mul": Mul, "Min": Min, "Div": Div, "Int": Int}
    exec(MANY, names)  # noqa: S102
    goal = Lt(Add(Mul(i, m), j), Mul(n, m))
    texts = {question(frozenset(row), goal).text for row in itertools.permutations(names["divisions"])}
    assert len(texts) == 1
    code = (
        "from moaproof.kernel.free import X; from moaproof.kernel.question import question;"
        f"from moaproof.term import *; exec({MANY!r});"
        "print(question(frozenset(reversed(divisions)), Lt(Add(j, Mul(m, i)), Mul(m, n))).text, end='')"
    )
    for seed in ("0", "1", "77"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
        assert {out.stdout} == texts


def test_what_is_equal_for_all_values_is_one_question() -> None:
    facts = frozenset({Lt(i, n)})
    goals = [
        Lt(Add(i, Mul(n, m)), j),
        Lt(Add(Mul(m, n), i), Add(j, ZERO)),
        Lt(Add(ONE, Add(i, Mul(m, n))), Add(j, ONE)),
    ]
    assert len({question(facts, g).key for g in goals}) == 1
    others = [Lt(Add(i, Mul(n, n)), j), Lt(Add(i, Mul(n, m)), Add(j, ONE)), Not(Lt(Add(i, Mul(n, m)), j))]
    assert len({question(facts, g).key for g in (*goals, *others)}) == 4


def test_a_divisor_that_is_not_positive_promises_nothing() -> None:
    for divisor in (ZERO, Int(-2)):
        q = question(frozenset(), Lt(Div(n, divisor), ONE))
        assert [show(c) for c in q.clauses] == ["(>= (+ (- 1) q.0) 0)", "(>= s.n 0)"]
    q = question(frozenset(), Lt(Div(n, m), ONE))
    assert [at["q.0"] for at in models(q, {"s.n": 1, "s.m": 0}, range(4))] == [1, 2, 3]
    assert not models(q, {"s.n": 1, "s.m": 2}, range(-4, 5))


def test_a_size_is_natural_and_an_index_is_not() -> None:
    assert not models(question(frozenset(), Lt(Int(-1), n)), {}, range(-3, 3))
    assert models(question(frozenset(), Lt(Int(-1), i)), {}, range(-3, 3))


def test_reads_of_one_mask_at_one_offset_are_one_variable() -> None:
    mask, other = In("mask", n, sort="bool"), In("seen", n, sort="bool")
    same = question(frozenset({Flat(mask, Add(i, ONE))}), Flat(mask, Add(ONE, i)))
    assert not models(same, {"x.0": 0, "s.n": 1}, range(-2, 3))
    for read in (Flat(mask, i), Flat(other, Add(i, ONE)), Flat(In("mask", m, sort="bool"), Add(i, ONE))):
        q = question(frozenset({Flat(mask, Add(i, ONE))}), read)
        assert models(q, {v: 1 for v in variables(q) if v[0] in "sx"}, range(-2, 3))


def test_constants_are_decided_and_nothing_is_lost() -> None:
    assert literal(()) == literal((((), 3),)) == Every(())
    assert literal((((), -3),)) == FALSE
    p: Poly = ((("x.0",), 1),)
    assert literal(p) == p
    assert some([]) == FALSE
    assert some([FALSE, p]) == p
    assert some([p, Every(()), FALSE]) == Every(())
    assert every([]) == Every(())
    assert every([Every(()), p]) == p
    assert every([p, FALSE]) == Every((p, FALSE))
    assert [show(c) for c in question(frozenset(), Lt(ZERO, ONE)).clauses] == ["(>= (- 1) 0)"]
    assert question(frozenset(), Lt(ONE, ZERO)).clauses == ()
    assert [show(c) for c in question(frozenset({TRUE}), TRUE).clauses] == ["(>= (- 1) 0)"]
    assert [show(c) for c in question(frozenset({Not(TRUE)}), Lt(ONE, ZERO)).clauses] == ["(>= (- 1) 0)"]


def test_sums_and_products_of_polynomials() -> None:
    x: Poly = ((("x.0",), 1),)
    y: Poly = (((), 2), (("x.1",), -1))
    assert plus((3, x), (-3, x)) == ()
    assert plus((1, y), (2, x)) == (((), 2), (("x.0",), 2), (("x.1",), -1))
    assert times(y, y) == (((), 4), (("x.1",), -4), (("x.1", "x.1"), 1))
    assert times(x, y) == ((("x.0",), 2), (("x.0", "x.1"), -1))
    assert times(x, ()) == ()


@pytest.mark.parametrize(
    "goal",
    [Lt(Where(Lt(n, m), n, m), n), Lt(Term("tau", None, (In("A", n),)), m), Term("var", 0), Lt(Term("var", 0), n)],
)
def test_what_is_no_integer_question_is_refused(goal: Term) -> None:
    with pytest.raises(IllFormed, match="no integer question"):
        question(frozenset(), goal)


def test_a_coefficient_without_bound_is_refused() -> None:
    """Python prints no integer of more than 4300 digits; the limit is of ours, and comes first."""
    big = Int(2**53 - 1)
    for _ in range(9):
        big = Mul(big, big)
    with pytest.raises(IllFormed, match="more than 100 digits"):
        question(frozenset(), Lt(big, n))
