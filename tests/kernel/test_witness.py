"""The checker of witnesses: what it accepts is a proof, and nothing that it is given makes it stumble."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moaproof.derive.witnesses import search
from moaproof.kernel.free import X
from moaproof.kernel.question import Every, Formula, Poly, Question, Some, literal, plus, question, some
from moaproof.kernel.witness import MAX_DEPTH, MAX_FACTORS, closes
from moaproof.term import MAX_INT, ONE, ZERO, Add, And, Div, Int, Le, Lt, Min, Mul, Not, Size, Sub, Term

n, m, d, t = map(Size, ("n", "m", "d", "t"))
i, j, k, l = map(X, range(4))


def within(x: Term, extent: Term) -> list[Term]:
    return [Le(ZERO, x), Lt(x, extent)]


def equal(a: Term, b: Term) -> Term:
    return And(Le(a, b), Le(b, a))


PROVED: dict[str, tuple[list[Term], Term]] = {
    "linear": ([Lt(i, n)], Lt(i, Add(n, ONE))),
    "gamma": ([*within(i, n), *within(j, d)], Lt(Add(Mul(i, d), j), Mul(n, d))),
    "not negative": ([*within(i, n), *within(j, d)], Le(ZERO, Add(Mul(i, d), j))),
    "minimum": ([Lt(ZERO, t), Lt(i, Min(t, Sub(n, Mul(j, t))))], Lt(Add(Mul(j, t), i), n)),
    "quotient": ([*within(i, Mul(n, m))], Lt(Div(i, m), n)),
    "quotient and remainder": ([*within(j, m), Le(ZERO, i)], equal(Div(Add(Mul(i, m), j), m), i)),
    "unique": ([*within(i, d), *within(j, d), equal(Add(Mul(k, d), i), Add(Mul(l, d), j))], equal(k, l)),
    "parity": ([], Not(equal(Mul(Int(2), i), Add(Mul(Int(2), j), ONE)))),
    "square": ([], Le(ZERO, Mul(Sub(i, j), Sub(i, j)))),
}


def asked(name: str) -> Question:
    facts, goal = PROVED[name]
    return question(frozenset(facts), goal)


@pytest.fixture(scope="module")
def proved() -> dict[str, tuple[Question, list[Any]]]:
    found = {}
    for name in PROVED:
        tree = search(asked(name))
        assert tree is not None
        found[name] = asked(name), tree
    return found


X0: Poly = ((("x.0",), 1),)
X1: Poly = ((("x.1",), 1),)


def poly(c: int, **terms: int) -> Poly:
    """``poly(-1, x=2, xy=1)`` is -1 + 2 x + x y."""
    names = {"x": "x.0", "y": "x.1", "z": "x.2"}
    rows = {tuple(sorted(names[v] for v in word)): a for word, a in terms.items()}
    return plus((1, tuple(sorted(({(): c} | rows).items()))))


def asks(*clauses: Formula) -> Question:
    return Question(tuple(c for c in clauses if not isinstance(c, Every)))


# --- what is accepted ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clauses", "tree"),
    [
        ([poly(-1, x=1), poly(0, x=-1)], ["sum", [1, 0], [1, 1]]),
        ([poly(-1, x=2), poly(0, x=-1)], ["sum", [1, 0], [2, 1]]),
        ([poly(0, x=1), poly(0, y=1), poly(-1, xy=-1)], ["sum", [1, 0, 1], [1, 2]]),
        ([poly(0, x=1), poly(-1, xx=-1)], ["sum", [1, 0, 0], [1, 1]]),
        ([poly(-5)], ["sum", [1, 0]]),
        ([poly(-5)], ["sum", [1, 0], [4]]),
        (
            [poly(-1, x=1), Some((poly(0, x=-1), poly(-1, x=-2)))],
            ["or", 0, ["sum", [1, 0], [1, 1]], ["sum", [2, 0], [1, 1]]],
        ),
        (
            [poly(-1, x=1), Some((poly(0, x=-1), Every((poly(0, y=1), poly(0, x=-1, y=-1)))))],
            ["or", 0, ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1], [1, 2]]],
        ),
        ([poly(-1, x=2), poly(1, x=-2)], ["cut", [[1, "x.0"], [-1]], ["sum", [2, 2], [1, 1]], ["sum", [2, 2], [1, 0]]]),
        (
            [poly(-1, xx=-1)],
            ["cut", [[1, "x.0"]], ["sum", [1, 0], [1, 1, 1]], ["sum", [1, 0], [1, 1, 1], [2, 1]]],
        ),
        (
            [Some((poly(-1), Every((Some((poly(-2), poly(-3))), poly(0, x=1)))))],
            ["or", 0, ["sum", [1, 0]], ["or", 1, ["sum", [1, 1]], ["sum", [1, 1]]]],
        ),
        ([poly(-1)], ["cut", [[1, "no such name"]], ["sum", [1, 0]], ["sum", [1, 0]]]),
    ],
)
def test_a_witness_by_hand(clauses: list[Any], tree: list[Any]) -> None:
    assert closes(Question(tuple(clauses)), tree)
    for at in range(len(clauses)):
        assert not closes(Question(tuple(clauses[:at] + clauses[at + 1 :])), tree)


# --- what is not ---------------------------------------------------------------------------------

ONE_SHORT = (poly(-1, x=1), poly(0, x=-1), Some((poly(-1), poly(-2))))  # x >= 1, x <= 0, or ..


@pytest.mark.parametrize(
    "tree",
    [
        ["sum"],
        ["sum", [1, 0]],
        ["sum", [1, 1]],
        ["sum", [1]],
        ["sum", []],
        ["sum", [1, 0], [2, 1]],
        ["sum", [1, 0], [1, 1], [1]],  # 0 is not negative
        ["sum", [0, 0], [0, 1]],
        ["sum", [1, 0], [1, 1], [0, 1]],
        ["sum", [-1, 0], [-1, 1]],
        ["sum", [1, 0], [1, 1], [-5]],
        ["sum", [1, 0], [1, 1, 1]],
        ["sum", [1, 0], [1, 2]],
        ["sum", [1, 0], [1, -1]],
        ["sum", [1, 0], [1, True]],
        ["sum", [True, 0], [1, 1]],
        ["sum", [1.0, 0], [1, 1]],
        ["sum", [1, 0], [1, 1.0]],
        ["sum", [1, 0], [1, "1"]],
        ["sum", [1, 0], [1, [1]]],
        ["sum", [1, 0], [1, None]],
        ["sum", (1, 0), (1, 1)],
        ["sum", [[1, 0], [1, 1]]],
        ["sum", {"1": 0}, [1, 1]],
        ("sum", [1, 0], [1, 1]),
        {"sum": [[1, 0], [1, 1]]},
        [["sum", [1, 0], [1, 1]]],
        ["Sum", [1, 0], [1, 1]],
        ["", [1, 0], [1, 1]],
        [b"sum", [1, 0], [1, 1]],
        [None],
        [],
        "sum",
        None,
        0,
        True,
        ["or", 0, ["sum", [1, 2]]],
        ["or", 0, ["sum", [1, 2]], ["sum", [1, 2]], ["sum", [1, 2]]],
        ["or", 0, ["sum", [1, 2]], ["sum", [1, 3]]],
        ["or", 0, ["sum", [1, 2]], []],
        ["or", 0, ["sum", [1, 2]], None],
        ["or", 1, ["sum", [1, 2]], ["sum", [1, 2]]],
        ["or", -1, ["sum", [1, 2]], ["sum", [1, 2]]],
        ["or", False, ["sum", [1, 2]], ["sum", [1, 2]]],
        ["or", "0", ["sum", [1, 2]], ["sum", [1, 2]]],
        ["or", 0],
        ["or"],
        ["cut", [[1, "x.0"]], ["sum", [1, 0], [1, 1]]],
        ["cut", [[1, "x.0"]], ["sum", [1, 0], [1, 1]], ["sum", [1, 0]]],
        ["cut", [[1, "x.0"]], ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]],
        ["cut", [[1.5, "x.0"]], ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]],
        ["cut", [["x.0"]], ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]],
        ["cut", [[1, 0]], ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]],
        ["cut", [[]], ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]],
        ["cut", [1], ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]],
        ["cut", "x.0", ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]],
        ["cut", {}, ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]],
        ["cut", [[MAX_INT + 1]], ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]],
        ["sum", [MAX_INT + 1, 0], [MAX_INT + 1, 1]],
        ["sum", [1, 0], [1, 1], [10**5000]],
        ["sum", [1, 0], [1, 1], [1, 10**5000]],
        ["sum", [1, 0], [1, 1], [1, *[0] * (MAX_FACTORS + 1)]],
    ],
    ids=lambda tree: None,
)
def test_what_is_no_witness(tree: Any) -> None:
    question = Question(ONE_SHORT[:2]) if isinstance(tree, list) and tree[:1] != ["or"] else Question(ONE_SHORT[2:])
    assert closes(Question(ONE_SHORT[:2]), ["sum", [1, 0], [1, 1]])
    assert closes(Question(ONE_SHORT[2:]), ["or", 0, ["sum", [1, 0]], ["sum", [1, 0]]])
    assert not closes(question, tree)
    assert not closes(Question(ONE_SHORT), tree) or tree[:1] == ["or"]


def test_what_a_branch_assumes_is_gone_in_the_next() -> None:
    """x >= 1 or y >= 1: the second branch may not use the first one's fact."""
    clauses = (poly(0, x=-1), Some((poly(-1, x=1), poly(-1, y=1))))
    assert not closes(Question(clauses), ["or", 0, ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 1]]])
    both = ["cut", [[1, "x.1"]], ["sum", [1, 0], [1, 1]], ["sum", [1, 0], [1, 2]]]
    assert not closes(Question(clauses), both)


def test_the_two_sides_of_a_cut_leave_no_gap_and_every_cut_is_whole() -> None:
    clauses = (poly(-1, x=2), poly(1, x=-2))  # 2x = 1
    right = ["cut", [[1, "x.0"], [-1]], ["sum", [2, 2], [1, 1]], ["sum", [2, 2], [1, 0]]]
    assert closes(Question(clauses), right)
    for rows in ([[2, "x.0"], [-2]], [[1, "x.0"]], [[1, "x.0"], [-2]], [[1, "x.1"], [-1]], [[2, "x.0"], [-1]]):
        assert not closes(Question(clauses), ["cut", rows, *right[2:]])
    real = (poly(-2, xx=1), poly(2, xx=-1))  # x x = 2 has no integers, but no cut at a root of 2
    assert not closes(Question(real), ["cut", [[1, "x.0"], [-1]], ["sum", [1, 0], [1, 2]], ["sum", [1, 1], [1, 2]]])


# --- what is altered -----------------------------------------------------------------------------


def assume(f: Formula, facts: list[Poly], pending: list[Some]) -> None:
    if isinstance(f, Every):
        for part in f.parts:
            assume(part, facts, pending)
    elif isinstance(f, Some):
        pending.append(f)
    else:
        facts.append(f)


def value(p: Poly, at: dict[str, int]) -> int:
    total = 0
    for names, c in p:
        for v in names:
            c *= at[v]  # noqa: PLW2901
        total += c
    return total


def true_at_random(clauses: tuple[Formula, ...], tree: list[Any], rng: random.Random) -> bool:
    """A second opinion on a tree, by numbers: a sum that is one negative number at points far apart is a constant."""
    facts: list[Poly] = []
    pending: list[Some] = []
    for c in clauses:
        assume(c, facts, pending)

    def go(tree: list[Any], facts: list[Poly], pending: list[Some]) -> bool:
        if tree[0] == "sum":
            if not all(row[0] > 0 and all(0 <= k < len(facts) for k in row[1:]) for row in tree[1:]):
                return False
            sums = set()
            for _ in range(4):
                at = {v: rng.randrange(-(10**12), 10**12) for p in facts for names, _ in p for v in names}
                total = 0
                for c, *row in tree[1:]:
                    for k in row:
                        c *= value(facts[k], at)  # noqa: PLW2901
                    total += c
                sums.add(total)
            return len(sums) == 1 and max(sums) < 0
        if tree[0] == "or":
            parts: tuple[Formula, ...] = pending[tree[1]].parts
            kids = tree[2:]
        else:
            p: Poly = plus(*((c, ((tuple(sorted(names)), 1),)) for c, *names in tree[1]))
            parts, kids = (p, plus((-1, p), (-1, (((), 1),)))), tree[2:]
        if len(parts) != len(kids):
            return False
        for part, kid in zip(parts, kids, strict=True):
            more, other = list(facts), list(pending)
            assume(part, more, other)
            if not go(kid, more, other):
                return False
        return True

    return go(tree, facts, pending)


def altered(tree: Any) -> Iterator[Any]:
    """Every tree with one number changed, one item left out, repeated, or put in the next one's place."""
    if type(tree) is int:
        yield from (tree + 1, tree - 1, 2 * tree, -tree, 0)
    if isinstance(tree, str):
        yield from ("sum", "or", "cut", "x.1", "s.n", "")
    if isinstance(tree, list):
        for k in range(len(tree)):
            yield tree[:k] + tree[k + 1 :]
            yield [*tree[:k], tree[k], *tree[k:]]
            yield tree[:k] + tree[k : k + 2][::-1] + tree[k + 2 :]
            for new in altered(tree[k]):
                yield [*tree[:k], new, *tree[k + 1 :]]


@pytest.mark.parametrize("name", PROVED)
def test_an_altered_tree_is_refused_or_proves_all_the_same(name: str, proved: dict[str, Any]) -> None:
    question, tree = proved[name]
    rng = random.Random(0)
    assert closes(question, tree)
    assert true_at_random(question.clauses, tree, rng)
    refused = accepted = 0
    for other in altered(tree):
        if closes(question, other):
            accepted += other != tree
            assert true_at_random(question.clauses, other, rng)
        else:
            refused += 1
    assert refused > 2 * accepted  # a row that is repeated, or a sum that is doubled, is accepted with right


def weakened(clauses: tuple[Formula, ...]) -> Iterator[tuple[Formula, ...]]:
    """Every question with one literal easier to meet, turned round or left out."""

    def go(f: Formula) -> Iterator[Formula]:
        if isinstance(f, Every | Some):
            for k, part in enumerate(f.parts):
                yield from (type(f)((*f.parts[:k], new, *f.parts[k + 1 :])) for new in go(part))
            if isinstance(f, Some):
                yield Some((*f.parts, f.parts[0]))
        else:
            yield plus((1, f), (1, (((), 1),)))
            yield plus((-1, f))

    for k, c in enumerate(clauses):
        yield clauses[:k] + clauses[k + 1 :]
        yield from ((*clauses[:k], new, *clauses[k + 1 :]) for new in go(c))


def holds(f: Formula, at: dict[str, int]) -> bool:
    if isinstance(f, Every):
        return all(holds(part, at) for part in f.parts)
    if isinstance(f, Some):
        return any(holds(part, at) for part in f.parts)
    return value(f, at) >= 0


def names_in(f: Formula) -> set[str]:
    if isinstance(f, Every | Some):
        return set().union(*map(names_in, f.parts))
    return {v for names, _ in f for v in names}


@pytest.mark.parametrize("name", PROVED)
def test_a_witness_of_another_question_is_refused_where_integers_satisfy_it(
    name: str, proved: dict[str, tuple[Question, list[Any]]]
) -> None:
    question, tree = proved[name]
    names = sorted(set().union(*map(names_in, question.clauses)))
    box = range(-2, 4) if len(names) < 5 else range(-1, 3)
    points = [dict(zip(names, row, strict=True)) for row in itertools.product(box, repeat=len(names))]
    satisfied = 0
    for clauses in weakened(question.clauses):
        if any(all(holds(c, at) for c in clauses) for at in points):
            satisfied += 1
            assert not closes(Question(clauses), tree)
    assert satisfied
    for other, _ in proved.values():
        if other != question and closes(other, tree):
            assert true_at_random(other.clauses, tree, random.Random(1))


# --- random questions with a known model -----------------------------------------------------------

POLYS = st.lists(
    st.tuples(st.lists(st.sampled_from(["x.0", "x.1", "x.2"]), max_size=2), st.integers(-3, 3)), min_size=1, max_size=4
).map(lambda rows: plus(*((c, ((tuple(sorted(names)), 1),)) for names, c in rows)))
MODELS = st.fixed_dictionaries({f"x.{v}": st.integers(-3, 3) for v in range(3)})
ROWS = st.lists(st.integers(0, 6), min_size=1, max_size=4)
TREES = st.recursive(
    st.lists(ROWS, max_size=4).map(lambda rows: ["sum", *rows]),
    lambda kid: (
        st.tuples(st.integers(0, 2), kid, kid).map(lambda row: ["or", *row])
        | st.tuples(POLYS.map(lambda p: [[c, *names] for names, c in p]), kid, kid).map(lambda row: ["cut", *row])
    ),
    max_leaves=5,
)


@st.composite
def satisfied(draw: Callable[..., Any]) -> Question:
    """Clauses that hold at one point; of a disjunction, one part does."""
    at = draw(MODELS)
    slack = st.integers(0, 1)

    def true_here(p: Poly) -> Formula:
        return literal(plus((1, p), (-1, (((), value(p, at) - draw(slack)),))))

    clauses = [true_here(draw(POLYS)) for _ in range(draw(st.integers(1, 4)))]
    clauses += [some([literal(draw(POLYS)), true_here(draw(POLYS))]) for _ in range(draw(st.integers(0, 2)))]
    kept = asks(*clauses)
    assert all(holds(c, at) for c in kept.clauses)
    return kept


@given(satisfied(), TREES)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_tree_closes_a_question_that_integers_satisfy(question: Question, tree: list[Any]) -> None:
    assert not closes(question, tree)


@given(satisfied())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_no_search_closes_a_question_that_integers_satisfy(question: Question) -> None:
    assert search(question) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["sum", "or", "cut", 0, 1]),
    lambda kid: st.lists(kid, max_size=4) | st.dictionaries(st.text(max_size=2), kid, max_size=2),
    max_leaves=20,
)


@given(JSON, st.sampled_from(["sum", "or", "cut", None]))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_garbage_is_an_answer_and_no_error(garbage: Any, head: str | None) -> None:
    satisfiable = asks(poly(0, x=1), some([poly(0, y=1), poly(-1, x=1)]))
    assert not closes(satisfiable, garbage)
    assert not closes(satisfiable, [head, *garbage] if isinstance(garbage, list) else [head, garbage])


# --- bombs ---------------------------------------------------------------------------------------


def nested(depth: int, build: Callable[[Any], Any]) -> Any:
    tree: Any = ["sum", [1, 0], [1, 1]]
    for _ in range(depth):
        tree = build(tree)
    return tree


WIDE: Poly = tuple(sorted(((f"x.{v}",), 1) for v in range(200)))
BOMBS: dict[str, tuple[Question, Callable[[], Any]]] = {
    "deep cuts": (asks(*ONE_SHORT[:2]), lambda: nested(400, lambda kid: ["cut", [[1, "x.0"]], kid, kid])),
    "deep cuts within the limit": (asks(*ONE_SHORT[1:2]), lambda: nested(50, lambda kid: ["cut", [], kid, kid])),
    "deeper cuts": (asks(*ONE_SHORT[:2]), lambda: nested(5000, lambda kid: ["cut", [[1, "x.0"]], kid, kid])),
    "deep lists": (asks(*ONE_SHORT[:2]), lambda: nested(5000, lambda kid: [kid])),
    "deep in a row": (asks(*ONE_SHORT[:2]), lambda: ["sum", [1, nested(5000, lambda kid: [kid])]]),
    "deep in the head": (asks(*ONE_SHORT[:2]), lambda: [nested(5000, lambda kid: [kid])]),
    "many factors": (asks(*ONE_SHORT[:2]), lambda: ["sum", [1, *[0] * 100_000]]),
    "powers": (asks(poly(0, x=1)), lambda: ["sum", [1, *[0] * 190_000]]),
    "many rows": (asks(*ONE_SHORT[:2]), lambda: ["sum", *[[1, 0]] * 1_000_000]),
    "many rows that do nothing": (asks(*ONE_SHORT[:2]), lambda: ["sum", *[[1]] * 1_000_000]),
    "huge integers": (asks(*ONE_SHORT[:2]), lambda: ["sum", *[[10**4000, 0]] * 1000]),
    "a cut of huge integers": (
        asks(poly(0, x=1)),
        lambda: nested(50, lambda kid: ["cut", [[10**4000, "x.0"]], ["sum", *[[1, *range(1, 9)]] * 1000], kid]),
    ),
    "powers of a cut": (
        asks(poly(0, x=1)),
        lambda: ["cut", [[MAX_INT, *["x.0"] * 8]] * 50, ["sum", *[[MAX_INT, *[1] * 8]] * 20_000], ["sum"]],
    ),
    "wide polynomials": (asks(WIDE, plus((-1, WIDE))), lambda: ["sum", *[[1, *[0] * 8]] * 100]),
    "a wide cut": (asks(*ONE_SHORT[:2]), lambda: ["cut", [[1, f"x.{v}"] for v in range(100_000)], ["sum"], ["sum"]]),
    "a long monomial": (asks(*ONE_SHORT[:2]), lambda: ["cut", [[1, *["x.0"] * 1_000_000]], ["sum"], ["sum"]]),
    "many kids": (asks(ONE_SHORT[2]), lambda: ["or", 0, *[["sum", [1, 0]]] * 1_000_000]),
}


def test_the_limits_are_where_they_are_said_to_be() -> None:
    chain = lambda depth: nested(depth, lambda kid: ["cut", [], kid, ["sum", [1, 0], [1, 1]]])  # noqa: E731
    assert closes(asks(*ONE_SHORT[:2]), chain(MAX_DEPTH))
    assert not closes(asks(*ONE_SHORT[:2]), chain(MAX_DEPTH + 1))
    for factors, within_limits in ((MAX_FACTORS, True), (MAX_FACTORS + 1, False)):
        power = asks(poly(0, x=1), plus((1, poly(-1)), (-1, ((("x.0",) * factors, 1),))))
        assert closes(power, ["sum", [1, *[0] * factors], [1, 1]]) == within_limits
    assert closes(asks(*ONE_SHORT[:2]), ["sum", [MAX_INT, 0], [MAX_INT, 1]])


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_soon(name: str, deadline: Callable[[float], Any]) -> None:
    question, build = BOMBS[name]
    tree = build()
    with deadline(5):
        assert not closes(question, tree)


def test_a_search_ends_where_there_is_little_hope(deadline: Callable[[float], Any]) -> None:
    """x^3 + y^3 = z^3 is out of reach; then many facts, and one with many terms."""
    cube = lambda v: Mul(v, Mul(v, v))  # noqa: E731
    fermat = frozenset({Lt(ZERO, n), Lt(ZERO, m), equal(Add(cube(n), cube(m)), cube(d))})
    sizes = [Size(f"a{v}") for v in range(60)]
    wide: Term = ZERO
    for v, size in enumerate(sizes):
        wide = Add(wide, Mul(size, X(v % 10)))
    chain = frozenset(Lt(a, b) for a, b in itertools.pairwise(sizes))
    with deadline(20):
        assert search(question(fermat, Lt(n, n))) is None
        assert search(question(chain | {Lt(ZERO, wide)}, Lt(wide, n))) is None
        assert search(question(chain | {Lt(ZERO, wide)}, Lt(sizes[0], Sub(sizes[-1], Int(50))))) is not None
