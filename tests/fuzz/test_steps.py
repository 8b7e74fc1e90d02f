"""Wrong steps for the checker: whatever is accepted is equal.

A step of a committed derivation is moved to another place, given another law, other parameters or choices, or another
term altogether, mostly well-typed.  Where the checker accepts it all the same, the terms before and after are evaluated
at several sizes, in finite fields exactly, and, where every bit is said to be kept, in Python's floats bit by bit.
"""

from __future__ import annotations

import dataclasses
import random
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moaproof.rewrite_rules import lookup, rules

from moaproof.errors import MoaproofError
from moaproof.kernel.bits import Deciders
from moaproof.kernel.certificate import Certificate, Step
from moaproof.kernel.checker import apply, facts_of, replay
from moaproof.kernel.points import draw_sizes, random_inputs
from moaproof.kernel.step import Checker, locate
from moaproof.semantics import MAX_CELLS, Fields, Numbers, evaluate
from moaproof.term import Term, replace_at
from tests.fuzz.damage import changed, pool_of, random_path
from tests.fuzz.effort import effort
from tests.fuzz.targets import certificate_of

NAMES = ("one-head-online", "causal-rows", "gqa-masked-online")
numbers = st.integers(0, 2**64 - 1)


@lru_cache(maxsize=4)
def chain(name: str) -> tuple[Certificate, list[Term], Checker]:
    """A committed derivation: every whole term of it, and a checker under its facts."""
    c = certificate_of(name)
    terms = [c.spec]
    for s in c.steps:
        terms.append(replace_at(terms[-1], s.path, s.after))
    assert terms[-1] is c.onf
    deciders = Deciders()
    deciders.integers.witnesses = c.witnesses
    return c, terms, Checker(facts_of(c), deciders)


def wrong_step(c: Certificate, terms: list[Term], rng: random.Random) -> tuple[Term, Step]:
    """A whole term of the chain, and a step from it that nobody derived."""
    number = rng.randrange(len(c.steps))
    s, whole = c.steps[number], terms[number]
    kind = rng.randrange(5)
    if kind == 0:  # the step of another place
        s = rng.choice(c.steps)
    if kind <= 1:
        s = dataclasses.replace(s, path=random_path(whole, rng, 25))
    if kind == 2:
        s = dataclasses.replace(s, params=other(s.params, rng), backwards=bool(rng.randrange(2)))
    if kind == 3:
        law = rng.choice(list(rules().values()))
        s = dataclasses.replace(s, rule=law.id, params=rng.choice(law.samples), choose=(), restated=False)
    old, _ = locate(whole, s.path, ())
    pool = pool_of(whole, old, s.after)
    if kind == 4 or rng.randrange(2):  # no law: what stood or should stand there, one node changed
        after = changed(rng.choice((old, old, s.after)), pool, rng)
        s = dataclasses.replace(s, after=after, restated=True, params=(), choose=(), backwards=False)
    elif s.choose and rng.randrange(2):
        name, count, body = s.choose[0]
        s = dataclasses.replace(s, choose=((name, count, changed(body, pool, rng)), *s.choose[1:]))
    return whole, dataclasses.replace(s, before=whole.digest, kind="R")


def other(params: Any, rng: random.Random) -> Any:
    if isinstance(params, tuple):
        return tuple(other(x, rng) for x in params)
    return params + rng.choice((-1, 0, 1)) if type(params) is int else params


def equal(c: Certificate, a: Term, b: Term, rng: random.Random, bits: bool) -> bool:
    """Do two whole terms have the same elements, at some small sizes that the hypotheses allow?"""
    for values in ((1, 2, 3), (0, 1, 2), (1, 2), (1, 3), (2, 3)):
        sizes = draw_sizes(c, rng, values)
        if max(sizes.values()) > 9:
            continue  # the witness, where no small sizes were found: too many elements
        exact = Fields(sizes, random_inputs(c.inputs, sizes, rng))
        exact.budget = MAX_CELLS
        try:
            (shape, left), (other_shape, right) = evaluate(a, exact), evaluate(b, exact)
        except ZeroDivisionError:
            continue  # a sum of exponentials may vanish in a finite field
        if shape != other_shape or not all(map(Fields.same, left, right)):
            return False
        if bits:
            floats = {
                name: [x if isinstance(x, bool) else x[0] / Fields.P - 0.5 for x in cells]
                for name, cells in exact.inputs.items()
            }
            found = [[x.hex() for x in evaluate(t, Numbers(sizes, floats))[1]] for t in (a, b)]
            if found[0] != found[1]:
                return False
    return True


@pytest.mark.parametrize("name", NAMES)
@effort(25)
@given(number=numbers)
def test_a_wrong_step_is_refused_unless_it_is_right(name: str, number: int) -> None:
    rng = random.Random(number)
    c, terms, checker = chain(name)
    try:
        whole, s = wrong_step(c, terms, rng)
        judged = apply(checker, s, whole, lookup)
    except (MoaproofError, RecursionError):
        return  # of a recursion too deep the replay makes a refusal
    assert equal(c, whole, judged.after, rng, bits=judged.kind != "R"), (s.rule, s.path)


@effort(40)
@given(number=numbers)
def test_the_comparison_sees_a_difference(number: int) -> None:
    """A changed term that has another value somewhere is told from the first: else the test above would be empty."""
    rng = random.Random(number)
    c, terms, _ = chain("one-head-online")
    whole = terms[0]
    scaled = Term("pointwise", "add", (whole, Term("real", ("1", str(1 + number % 1000)))))
    assert equal(c, whole, whole, rng, bits=True)
    assert not equal(c, whole, scaled, rng, bits=bool(number % 2))


@effort(12)
@given(number=numbers)
def test_a_chain_with_a_wrong_step_ends_nowhere_else(number: int) -> None:
    """The whole replay, of a short chain: Spec, one wrong step, and what it gives as the ONF."""
    rng = random.Random(number)
    c, terms, _ = chain("one-head-online")
    try:
        whole, s = wrong_step(c, terms, rng)
        onf = replace_at(whole, s.path, s.after)
        short = dataclasses.replace(c, spec=whole, dnf=whole, onf=onf, steps=(s,), kernels=())
        replay(short, lookup)
    except MoaproofError:
        return
    assert equal(c, whole, onf, rng, bits=False)
