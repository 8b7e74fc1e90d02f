"""Questions are the same bytes as the kernel's, and trees are read alike: what else is a key of a witness worth?"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moaproof.errors import IllFormed
from moaproof.kernel.integers import lean
from moaproof.kernel.question import question
from moaproof.kernel.witness import closes
from moaproof.standalone import __main__ as alone
from moaproof.term import TRUE, Add, And, Div, Flat, In, Int, Lt, Min, Mul, Not, Size, Term

ROOT = Path(__file__).parents[2]
MASK = In("mask", Size("n"), sort="bool")
LEAVES = [Int(0), Int(1), Int(-1), Int(3), *map(Size, "nmt"), *(Term("x", k) for k in (0, 2, 5, 1_000_001))]

indices = st.recursive(
    st.sampled_from(LEAVES),
    lambda each: st.builds(lambda op, a, b: op(a, b), st.sampled_from([Add, Mul, Div, Min]), each, each),
    max_leaves=6,
)
truths = st.recursive(
    st.builds(Lt, indices, indices) | st.builds(lambda i: Flat(MASK, i), indices) | st.just(TRUE),
    lambda each: st.builds(And, each, each) | st.builds(Not, each),
    max_leaves=4,
)


def translated(t: Term) -> alone.Term:
    return alone.make(t.op, t.data, tuple(map(translated, t.args)))


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(st.lists(truths, max_size=6), truths)
def test_every_question_has_one_text(facts: list[Term], goal: Term) -> None:
    place = alone.Place(tuple(map(translated, facts)))
    for turn, reach in enumerate((0, 1, None)):
        try:
            theirs = question(*lean(facts, goal, reach))
        except IllFormed:
            continue  # a degree above the limit
        ours = place.question(translated(goal), turn)
        assert ours.text == theirs.text
        assert ours.key == theirs.key
        assert [ours.spelled(c) for c in ours.clauses] == [ours.spelled(c) for c in sorted_by_text(ours)]


def sorted_by_text(q: alone.Question) -> list[Any]:
    return sorted(q.clauses, key=q.spelled)


def accepted(q: alone.Question, tree: Any) -> bool:
    try:
        alone.Tree(q).close(tree, *alone.assumed(q.clauses), 0)
    except alone.Refusal:
        return False
    return True


def numbers(tree: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if isinstance(tree, list):
        return [p for k, u in enumerate(tree) for p in numbers(u, (*path, k))]
    return [path] if type(tree) is int else []


@pytest.mark.parametrize("name", ["gqa-masked-online", "causal-online"])
def test_every_tree_is_read_as_the_kernel_reads_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed witnesses, and each with one number changed: the two answers are the same."""
    data = (ROOT / "certs" / f"{name}.json").read_bytes()
    asked: dict[str, tuple[alone.Question, Any]] = {}
    plain = alone.Question.__init__

    def noted(self: alone.Question, facts: frozenset[alone.Term], goal: alone.Term) -> None:
        plain(self, facts, goal)
        asked[self.key] = (self, question(frozenset(map(back, facts)), back(goal)))

    monkeypatch.setattr(alone.Question, "__init__", noted)
    alone.question.cache_clear()
    alone.renumbered.cache_clear()
    alone.replay(alone.read(data))
    rng, refused = random.Random(0), 0
    trees = json.loads(data)["witnesses"]
    for key in sorted(set(trees) & set(asked)):
        tree, (own, kernels) = trees[key], asked[key]
        assert (own.key, accepted(own, tree), closes(kernels, tree)) == (kernels.key, True, True)
        for path in rng.sample(numbers(tree), min(6, len(numbers(tree)))):
            other = copy.deepcopy(tree)
            at = other
            for k in path[:-1]:
                at = at[k]
            at[path[-1]] += rng.choice([-1, 1, 7])
            assert accepted(own, other) == closes(kernels, other)
            refused += not accepted(own, other)
    assert refused > 50


def back(t: alone.Term) -> Term:
    """A question's term as one of moaproof, its indices numbered as they are there."""
    return Term(t.op, t.data, tuple(map(back, t.args)))
