"""Witnesses of integer questions: no tree, however it is made, closes a question that some integers satisfy."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from moaproof.kernel.question import Every, Formula, Poly, Question, Some, plus
from moaproof.kernel.witness import closes
from tests.fuzz.damage import STRANGE
from tests.fuzz.effort import effort

numbers = st.integers(0, 2**64 - 1)
NAMES = ("s.n", "s.m", "x.0", "q.0")


def polynomial(rng: random.Random) -> Poly:
    rows: list[tuple[int, Poly]] = []
    for _ in range(rng.randint(1, 3)):
        monomial = tuple(sorted(rng.choice(NAMES) for _ in range(rng.randint(0, 2))))
        rows.append((rng.choice((-2, -1, 1, 2)), ((monomial, 1),)))
    return plus(*rows)


def value(p: Poly, point: dict[str, int]) -> int:
    total = 0
    for monomial, c in p:
        for name in monomial:
            c *= point[name]  # noqa: PLW2901
        total += c
    return total


def raised(p: Poly, point: dict[str, int], rng: random.Random) -> Poly:
    """The polynomial, so far up that it is not negative at the point."""
    return plus((1, p), (max(0, -value(p, point)) + rng.choice((0, 0, 1)), (((), 1),)))


def satisfied(rng: random.Random, point: dict[str, int]) -> Formula:
    match rng.randrange(4):
        case 0:
            parts: list[Formula] = [polynomial(rng) for _ in range(rng.randint(0, 2))]
            holds: Formula = raised(polynomial(rng), point, rng)
            if rng.randrange(2):
                holds = Every((holds, raised(polynomial(rng), point, rng)))
            parts.insert(rng.randint(0, len(parts)), holds)
            return Some(tuple(parts))
        case _:
            return raised(polynomial(rng), point, rng)


def question(rng: random.Random) -> Question:
    """Clauses that hold together at some point."""
    point = {name: rng.randint(0, 4) for name in NAMES}
    return Question(tuple(satisfied(rng, point) for _ in range(rng.randint(1, 6))))  # type: ignore[arg-type]


def tree(rng: random.Random, depth: int = 0) -> Any:
    """A witness that is mostly well-formed."""
    kind = rng.randrange(10 if depth < 4 else 4)
    if not rng.randrange(25):
        return rng.choice(STRANGE)
    if kind < 4:
        rows = [
            [rng.choice((1, 1, 2, 3, 0, -1)), *(rng.randint(0, 8) for _ in range(rng.randint(0, 3)))] for _ in range(3)
        ]
        return ["sum", *rows[: rng.randint(0, 3)]]
    if kind < 7:
        return ["or", rng.randint(0, 2), *(tree(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 2, 3))))]
    if kind < 9:
        rows = [[rng.choice((-1, 1, 2)), *rng.sample(NAMES, rng.randint(0, 2))] for _ in range(rng.randint(0, 3))]
        return ["cut", rows, tree(rng, depth + 1), tree(rng, depth + 1)]
    return [rng.choice(("sum", "or", "cut", "", 1, None, [])), *rng.sample(STRANGE, rng.randint(0, 3))]


@effort(400)
@given(number=numbers)
def test_nothing_closes_what_can_be_satisfied(number: int) -> None:
    rng = random.Random(number)
    q = question(rng)
    for _ in range(10):
        assert closes(q, tree(rng)) is False


def test_the_same_trees_do_close_what_cannot() -> None:
    """Else the test above would be empty: n >= 0 and -n - 1 >= 0, in a sum, under an or, and after a cut."""
    n, below = ((("s.n",), 1),), (((), -1), (("s.n",), -1))
    plain = ["sum", [1, 0], [1, 1]]
    assert closes(Question((n, below)), plain)
    assert closes(Question((n, Some((below, below)))), ["or", 0, plain, plain])
    assert closes(Question((n, below)), ["cut", [[1, "x.0"]], plain, plain])
    assert not closes(Question((n, Some((below, n)))), ["or", 0, plain, plain])
