# ruff: noqa: E501  a case is one line
"""The ordered replay: its numbers, and the texts that agree over finite fields and must die here."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest

from moaproof.assess.ordered import Judged, Ordered, Ratio, Value, enclosure, equal, ordered, ordered_replay, sign
from moaproof.assess.replay import exact_replay
from moaproof.errors import IllFormed, NotCovered, Refuted
from moaproof.kernel.certificate import Certificate, parse
from moaproof.term import subterms
from tests.replay.texts import COPY, cpu, run_over

ROOT = Path(__file__).resolve().parents[2]
A = Ordered({})


def f(name: str, *args: Value) -> Value:
    A.work = 0
    return A.apply(name, args)


def e(r: int | Fraction) -> Value:
    return f("exp", r)


# --- numbers -----------------------------------------------------------------------------------------------


def test_exponentials_of_distinct_rationals_are_independent() -> None:
    assert equal(f("mul", e(2), e(Fraction(-3, 2))), e(Fraction(1, 2)))
    assert equal(f("mul", e(2), e(-2)), 1)
    assert equal(f("sub", f("add", e(1), 3), e(1)), 3)
    assert not equal(e(1), Fraction(2718281828459045, 10**15))
    assert not equal(f("add", e(1), e(-1)), f("add", e(2), e(-2)))
    assert isinstance(e(1), Ratio)
    assert e(0) == 1


def test_the_laws_of_a_field_hold_at_random_values() -> None:
    rng = random.Random(5)

    def value() -> Value:
        x: Value = rng.randint(-3, 3)
        for _ in range(rng.randint(0, 3)):
            x = f("add", x, f("mul", Fraction(rng.randint(-4, 4), rng.randint(1, 3)), e(rng.randint(-3, 3))))
        return x

    divided = 0
    for _ in range(200):
        x, y, z = value(), value(), value()
        assert equal(f("add", x, y), f("add", y, x))
        assert equal(f("mul", x, f("sub", y, z)), f("sub", f("mul", x, y), f("mul", x, z)))
        assert equal(f("add", x, f("neg", x)), 0)
        assert sign(f("sub", x, y)) == -sign(f("sub", y, x))
        assert (sign(f("sub", x, y)) == 0) == equal(x, y)
        assert sign(f("mul", x, y)) == sign(x) * sign(y)
        if sign(z):
            divided += 1
            assert equal(f("mul", f("div", x, z), z), x)
            assert equal(f("add", f("div", x, z), f("div", y, z)), f("div", f("add", x, y), z))
            assert sign(f("div", x, z)) == sign(x) * sign(z)
    assert divided > 100


def test_the_greater_is_the_greater_however_close() -> None:
    below, above = Fraction(2718281828459045235, 10**18), Fraction(2718281828459045236, 10**18)
    for x, y in ((e(1), below), (above, e(1)), (e(1), e(Fraction(999999, 10**6))), (3, e(1)), (e(-5000), e(-5001))):
        assert f("max", x, y) is x
        assert f("max", y, x) is x
        assert sign(f("sub", x, y)) == 1
    assert sign(f("sub", f("add", e(1), e(-1)), 2)) == 1  # cosh 1 > 1
    assert f("max", None, e(3)) == e(3)


def test_an_enclosure_holds_the_exponential() -> None:
    rng = random.Random(1)
    with localcontext() as context:
        context.prec = 120
        for _ in range(300):
            r = -Fraction(rng.randint(0, 10 ** rng.randint(0, 4)), rng.randint(1, 30))
            bits = rng.choice((8, 64, 200))
            low, high = enclosure(r, bits)
            scaled = (Decimal(r.numerator) / Decimal(r.denominator)).exp() * 2**bits
            assert low <= scaled <= high
            assert bits == 8 or r < -100 or high - low <= 2 ** (bits // 2)
    assert enclosure(-(10**40), 64) == (0, 1)


def test_the_root_of_a_square_is_exact_and_another_is_near() -> None:
    assert f("sqrt", Fraction(9, 4)) == Fraction(3, 2)
    assert f("sqrt", 0) == 0
    assert 0 < 2 - f("sqrt", 2) ** 2 < Fraction(1, 10**5)
    assert f("sqrt", Fraction(1, 10**30)) > 0
    with pytest.raises(IllFormed):
        f("sqrt", -1)


def test_what_is_not_covered_is_said() -> None:
    with pytest.raises(NotCovered, match="stands in an exponent"):
        f("exp", e(1))
    with pytest.raises(NotCovered, match="under a root"):
        f("sqrt", e(1))
    with pytest.raises(ZeroDivisionError):
        f("div", e(1), f("sub", e(1), e(1)))


def test_a_text_is_held_to_bounds_that_a_spec_is_not() -> None:
    judged, sums = Judged({}, 0, set()), [1, e(-1), f("add", 1, e(-1)), f("add", Fraction(1, 2), e(-1))]
    assert equal(judged.apply("exp", (-1,)), e(-1))
    with pytest.raises(IllFormed, match="argument of exp is 1, above 0"):
        judged.apply("exp", (1,))
    assert Judged({}, 2, set()).apply("exp", (2,)) == e(2)
    assert equal(judged.apply("div", (1, sums[2])), f("div", 1, sums[2]))
    for bad in (0, sums[1], sums[3], f("sub", 2, e(-1)), f("div", sums[1], sums[2])):
        with pytest.raises(IllFormed, match="divisor"):
            judged.apply("div", (1, bad))
    assert judged.quotient((None, 2, 4)) == 2
    with pytest.raises(IllFormed, match="weights is 1/2, below 1"):
        judged.quotient((None, Fraction(1, 2), 1))


# --- texts -------------------------------------------------------------------------------------------------


def shipped(name: str) -> tuple[str, Certificate]:
    c = parse((ROOT / "certs" / f"{name}.json").read_bytes())
    return (ROOT / "kernels" / c.kernels[0].file).read_text(), c


def changed(text: str, *edits: tuple[str, str]) -> bytes:
    """The text with each pattern replaced everywhere; each must occur."""
    for old, new in edits:
        text, count = re.subn(old, new, text)
        assert count, old
    return text.encode()


TOP = r"(m\d+) = fmax\(\1, (s\d+ \* scale)\)"  # of a row, in attention-rows
STEP = r"t(\d+) = fmax\((m\d+\[r\d+\]), e(\d+)\)"  # of the states, in attention-online
TILE = r"for (k\d+) in range\(min\(tk, m - k(\d+) \* tk\)\):(\s+for r\d+ in range\(\w+\):\s+m\d+\[r\d+\] = fmax)"
WEIGHT = r" - (m\d+)\)"

SAME_OVER_FIELDS: dict[str, tuple[str, tuple[tuple[str, str], ...], str]] = {
    "unshifted": ("attention-rows", ((WEIGHT, ")"),), "argument of exp|attained"),
    "shifted-the-wrong-way": ("attention-rows", ((WEIGHT, r" + \1)"),), "argument of exp|attained"),
    "shifted-by-the-minimum": (
        "attention-rows", ((TOP, r"\1 = fmax(\1, -(\2))"), (WEIGHT, r" + \1)")), "argument of exp"),
    "shifted-by-the-first-score": (
        "attention-rows", ((r"(m\d+ = LOWEST\s+for k\d+ in range\()m\):", r"\1min(1, m)):"),), "argument of exp"),
    "shifted-above-the-maximum": ("attention-rows", ((WEIGHT, r" - (\1 + ONE))"),), "shift is not attained"),
    "one-row-shifted-above-the-maximum": (
        "attention-rows", ((TOP, r"\1 = fmax(\1, \2) + (ONE if k7 == 1 else ZERO)"), ("k7", "k7")), "not attained|of exp"),
    "first-score-of-a-tile": ("attention-online", ((TILE, r"for \1 in range(min(1, m - k\2 * tk)):\3"),), "argument of exp"),
    "latest-tile's-maximum": ("attention-online", ((STEP, r"t\1 = e\3"),), "argument of exp"),
    "first-tile's-maximum": ("attention-online", ((STEP, r"t\1 = (e\3 if k17 < 1 else \2)"), ("k17", "k17")), "argument of exp"),
    "maximum-of-the-last-state": (
        "gqa-online", ((STEP, r"t\1 = (e\3 if k17 < 2 else fmax(\2, e\3))"), ("k17", "k17")), "argument of exp|attained"),
    "shift-added-twice": ("attention-online", ((r"exp\((x\d+\[c\d+, r\d+\]) - (m\d+\[r\d+\])\)", r"exp(\1 - \2) * exp(\2) / exp(\2)"),), "argument of exp|divisor"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME_OVER_FIELDS)
def test_a_softmax_that_overflows_dies_here_and_not_over_finite_fields(name: str) -> None:
    kernel, edits, why = SAME_OVER_FIELDS[name]
    text, c = shipped(kernel)
    bad = changed(text, *edits)
    assert exact_replay(bad, c) > 20
    with pytest.raises(Refuted, match=why):
        ordered_replay(bad, c)


def test_a_spec_may_take_exp_of_anything() -> None:
    text, c = shipped("unshifted-online")
    assert not any(t.data == "max" for t in subterms(c.spec))
    assert ordered_replay(text.encode(), c) > 20


@pytest.mark.parametrize("run", [exact_replay, ordered_replay])
@pytest.mark.parametrize(
    ("kernel", "edits"),
    [
        ("causal-online", ((r"a(\d+)\[r6\] = rescale\((m\d+\[r6\]), (t\d+)\)", r"a\1[r6] = exp(\2 - \3)"),)),
        ("masked-online", ((r"b(\d+)\[r6\] = rescale\((e\d+), (t\d+)\)", r"b\1[r6] = exp(\2 - \3)"),)),
        ("masked-online", ((r"quotient\((o\d+\[\w+, r6\]), (l\d+\[r6\])\)", r"\1 / \2"),)),
    ],
)
def test_a_guard_against_empty_states_that_is_dropped_dies_in_both(
    run: Callable[[bytes, Certificate], int], kernel: str, edits: tuple[tuple[str, str], ...]
) -> None:
    text, c = shipped(kernel)
    with pytest.raises(Refuted, match=r"of the maximum of nothing|divisor is 0"):
        run(changed(text, *edits), c)


def test_the_bound_is_the_callers() -> None:
    text = cpu("for i in prange(n):\n    out[i] = q[i] * exp(ONE) * exp(-ONE)")
    with pytest.raises(Refuted, match="argument of exp is 1, above 0"):
        run_over(ordered(), text)
    assert run_over(ordered(bound=1), text) == 7


def test_the_true_maximum_is_taken() -> None:
    """Over finite fields max(a, b) is a or b, whichever; here it is the greater."""
    text = cpu("for i in prange(n):\n    out[i] = fmax(q[i], q[i] - ONE)")
    assert run_over(ordered(), text) == 7
    with pytest.raises(Refuted, match="differs"):
        run_over(ordered(), cpu("for i in prange(n):\n    out[i] = fmax(q[i], q[i] + ONE)"))


def test_long_arithmetic_ends() -> None:
    assert COPY.op == "build"
    for grows in ("y * y", "y * (ONE + exp(-real(k)))", "(y + ONE) / (y * y + ONE)"):
        text = cpu(
            f"for i in prange(n):\n    y = q[i] + real(1 / 3)\n    for k in range(60):\n        y = {grows}\n    out[i] = y"
        )
        with pytest.raises(NotCovered, match=r"bits|products"):
            run_over(ordered(), text)
