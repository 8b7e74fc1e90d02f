"""Index algebra: two terms with one normal form have one value, and normal forms stay small."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from moaproof.errors import IllFormed, MoaproofError
from moaproof.kernel.sympy_index import sympy_equal
from moaproof.semantics import Numbers, meaning
from moaproof.shapes import gamma, gamma_column, gamma_inverse, normal, polynomial, product, same_index
from moaproof.term import ONE, ZERO, Add, Div, Int, Min, Mul, Size, Sub, Term

SIZES = [Size(c) for c in "abc"]
a, b, c = SIZES


def random_index(rng: random.Random, depth: int) -> Term:
    if depth == 0:
        return rng.choice([*SIZES, Int(rng.randrange(-3, 4))])
    x, y = (random_index(rng, depth - 1) for _ in range(2))
    divisor = rng.choice([Int(rng.randrange(1, 4)), a, Mul(a, b), Mul(Int(2), c), y])
    return rng.choice([Add(x, y), Sub(x, y), Mul(x, y), Min(x, y), Div(x, divisor)])


def value(t: Term, sizes: dict[str, int]) -> int | None:
    try:
        return meaning(t, (), (), (), Numbers(sizes, {}))
    except IllFormed:  # a divisor that is not positive
        return None


POINTS = [dict(zip("abc", p, strict=True)) for p in itertools.product((1, 2, 5), repeat=3)]


@pytest.mark.parametrize("seed", range(60))
def test_the_normal_form_has_the_same_value(seed: int) -> None:
    rng = random.Random(seed)
    t = random_index(rng, 4)
    assert normal(normal(t)) is normal(t)
    assert polynomial(normal(t)) == polynomial(t)
    for sizes in POINTS:
        here = value(t, sizes)
        if here is not None:
            assert value(normal(t), sizes) == here


@pytest.mark.parametrize("seed", range(40))
def test_equal_by_either_decider_is_equal_in_value(seed: int) -> None:
    rng = random.Random(seed)
    t = random_index(rng, 3)
    for u in (random_index(rng, 3), normal(t), Add(t, Sub(b, b)), Add(t, Int(rng.randrange(2)))):
        ours = same_index(t, u)
        assert ours == sympy_equal(t, u)
        if ours:
            for sizes in POINTS:
                x, y = value(t, sizes), value(u, sizes)
                assert x is None or y is None or x == y


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Div(a, b), Div(b, a)),
        (Div(Add(a, ONE), Int(2)), Div(a, Int(2))),
        (Div(Mul(a, b), Mul(b, b)), Div(a, b)),
        (Min(a, b), a),
        (Div(Sub(ZERO, a), Int(2)), Sub(ZERO, Div(a, Int(2)))),
        (Mul(Div(a, b), b), a),
        (Div(Add(a, b), c), Add(Div(a, c), Div(b, c))),
        (Min(a, Min(b, c)), Min(a, b)),
    ],
)
def test_what_is_not_equal_is_not_called_equal(left: Term, right: Term) -> None:
    assert not same_index(left, right)
    assert not sympy_equal(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Div(Add(Mul(a, b), c), b), Add(a, Div(c, b))),
        (Div(Mul(Int(6), a), Int(3)), Mul(Int(2), a)),
        (Min(a, b), Min(b, a)),
        (Min(a, a), a),
        (Mul(Add(a, b), Add(a, b)), Add(Add(Mul(a, a), Mul(Mul(Int(2), a), b)), Mul(b, b))),
    ],
)
def test_what_is_equal_is_seen_to_be(left: Term, right: Term) -> None:
    assert same_index(left, right)
    assert sympy_equal(left, right)


@pytest.mark.parametrize("extents", list(itertools.product((1, 2, 3), repeat=3)))
def test_gamma_counts_row_major_and_its_inverse_undoes_it(extents: tuple[int, ...]) -> None:
    shape = [Int(e) for e in extents]
    offsets = []
    for i in itertools.product(*map(range, extents)):
        offset = value(gamma([Int(k) for k in i], shape), {})
        offsets.append(offset)
        assert [value(k, {}) for k in gamma_inverse(Int(offset or 0), shape)] == list(i)
        assert value(gamma_column([Int(k) for k in i], shape), {}) == i[0] + extents[0] * (i[1] + extents[1] * i[2])
    assert offsets == list(range(value(product(shape), {}) or 0))


def test_gamma_needs_as_many_indices_as_extents() -> None:
    with pytest.raises(IllFormed):
        gamma([a], [a, b])


def squared(t: Term, times: int) -> Term:
    for _ in range(times):
        t = Mul(t, t)
    return t


@pytest.mark.parametrize(("start", "times"), [(a, 14), (Add(a, ONE), 12), (Add(Add(a, b), c), 12)])
def test_powers_do_not_explode(start: Term, times: int, deadline: Callable[[float], Any]) -> None:
    with deadline(5), pytest.raises(MoaproofError):
        normal(squared(start, times))
