"""Ordered replay: the shipped bytes of a kernel, run over the reals that they name.  Exact, and decidable.

A value is a quotient of sums q1 e^r1 + q2 e^r2 + .. with rational q and r.  Powers of e with distinct rational
exponents are linearly independent over the rationals (Lindemann and Weierstrass), so such a sum is 0 exactly when it
has no term, and its sign is found by enclosing it in intervals of integers that shrink until they exclude 0.  So
``max`` is the true maximum, and beside what ``replay`` demands, with the same cases, each run of a text is held to
what keeps floating point from overflow and from 0/0, whatever rules of algebra led to it:

- the argument of each exp, those of ``rescale`` included, is at most a bound (0 unless the caller says otherwise);
- a divisor that is a sum of exponentials has the term e^0, with a factor of at least 1, and no negative one: the shift
  is attained, the sum is at least 1.  So has the l of ``quotient``, unless it is 0; another divisor is not 0;
- Empty is never subtracted from Empty.

Only the text is held to that: a Spec may take exp of anything.  Not covered: an exponential in an exponent or under a
root, and numbers of thousands of digits.  The square root of a rational that is no square is a fixed rational near it,
the same for text and Spec.  Status of what it concludes: *tested*, at the sizes and the seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ..errors import IllFormed, NotCovered
from ..kernel.certificate import Certificate
from ..semantics import EMPTY, Concrete, Scalar
from ..term import subterms
from .cases import cases_of
from .replay import Method, replay
from .translate import Launch

Rational = int | Fraction
Sum = dict[Rational, Rational]  # exponent -> factor, none of them 0

ONE: Final[Sum] = {0: 1}
MAX_BITS: Final = 4_096  # of a numerator and denominator
MAX_TERMS: Final = 100_000  # products of terms in one run
MAX_PRECISION: Final = 2**13  # bits of an enclosure
ORDERED_CASES: Final = 4
ORDERED_WORK: Final = 120  # of the product of a case's sizes
ENOUGH: Final = 12  # different sums of exponentials that a replay divides by
ROUNDS: Final = 4


# --- values ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ratio:
    """``num / den``, not both without exponentials; ``den`` is 1 or has two terms at least."""

    num: Sum
    den: Sum


Value = Rational | Ratio


def _sum(x: Value) -> Sum:
    return x.num if isinstance(x, Ratio) else {0: x} if x else {}


def _den(x: Value) -> Sum:
    return x.den if isinstance(x, Ratio) else ONE


def _plus(x: Sum, y: Sum, sign: int = 1) -> Sum:
    found = dict(x)
    for r, q in y.items():
        total = found.get(r, 0) + sign * q
        if total:
            found[r] = total
        else:
            del found[r]
    return found


def _times(x: Sum, y: Sum) -> Sum:
    if y is ONE:
        return x
    found: Sum = {}
    for r, q in x.items():
        for s, p in y.items():
            found[r + s] = found.get(r + s, 0) + q * p
    return {r: q for r, q in found.items() if q}


def _quotient(num: Sum, den: Sum) -> Value:
    """The quotient of two sums in its form: a divisor of one term is divided by."""
    if len(den) == 1 and den is not ONE:
        ((s, p),) = den.items()
        num, den = {r - s: Fraction(q) / p for r, q in num.items()}, ONE
    if not num:
        return 0
    return num[0] if den is ONE and num.keys() == {0} else Ratio(num, den)


def equal(x: Value, y: Value) -> bool:
    """Equality of values, exact."""
    if _den(x) == _den(y):
        return _sum(x) == _sum(y)
    return _times(_sum(x), _den(y)) == _times(_sum(y), _den(x))


# --- order -----------------------------------------------------------------------------------------------


def sign(x: Value) -> int:
    """-1, 0 or 1.  Raises ``NotCovered`` where ``MAX_PRECISION`` bits do not tell."""
    if isinstance(x, Ratio):
        return _sign(x.num) * _sign(x.den)
    return (x > 0) - (x < 0)


def _sign(x: Sum) -> int:
    signs = {q > 0 for q in x.values()}
    if len(signs) < 2:
        return 0 if not x else 1 if True in signs else -1
    top = max(x)
    bits = 64
    while bits <= MAX_PRECISION:
        low = high = Fraction(0)
        for r, q in x.items():
            a, b = enclosure(r - top, bits)
            low, high = low + q * (a if q > 0 else b), high + q * (b if q > 0 else a)
        if low > 0 or high < 0:
            return 1 if low > 0 else -1
        bits *= 2
    raise NotCovered(f"ordered replay: a sum of exponentials has no sign within {MAX_PRECISION} bits")


def enclosure(r: Rational, bits: int) -> tuple[int, int]:
    """Integers a, b with a <= 2^bits e^r <= b, for r <= 0: Taylor's sums of e^(r / 2^j), squared j times."""
    a, b = -r.numerator, r.denominator
    halvings = max(0, a.bit_length() - b.bit_length() + 2)
    if halvings > bits:
        return 0, 1  # r is below -(2^(bits - 3)), so e^r below 2^-bits
    b <<= halvings  # now 0 <= a / b <= 1/2, and the terms fall in absolute value while their signs alternate
    one = low = high = 1 << bits
    term_low = term_high = one
    k = 0
    while term_high > 1:
        k += 1
        term_low, term_high = term_low * a // (b * k), -(-term_high * a // (b * k))
        low, high = (low - term_high, high - term_low) if k % 2 else (low + term_low, high + term_high)
    low, high = max(0, low - term_high), high + term_high
    for _ in range(halvings):
        low, high = low * low >> bits, -(-high * high >> bits)
    return low, min(high, one)


# --- the algebra -----------------------------------------------------------------------------------------


class Ordered(Concrete):
    """The algebra of these values.  ``work`` counts products of terms and long numbers; there may not be too many."""

    def __init__(self, sizes: Mapping[str, int]):
        super().__init__(sizes, {})
        self.work = 0

    def rational(self, value: Fraction) -> Value:
        return value.numerator if value.denominator == 1 else value

    def function(self, name: str, args: Sequence[Value]) -> Value:
        x = args[0]
        match name:
            case "exp":
                return self.exp(x)
            case "sqrt":
                return _root(x)
            case "max":
                return _greater(x, args[1])
            case "neg":
                return Ratio({r: -q for r, q in x.num.items()}, x.den) if isinstance(x, Ratio) else -x
        y = args[1]
        if not isinstance(x, Ratio) and not isinstance(y, Ratio):
            return self.small(_plain(name, x, y))
        self.count((len(_sum(x)) + len(_den(x))) * (len(_sum(y)) + len(_den(y))))
        found = _mixed(name, x, y)
        if isinstance(found, Ratio):
            for q in (*found.num.values(), *found.num):
                self.small(q)
        return found

    def exp(self, x: Value) -> Value:
        if isinstance(x, Ratio):
            raise NotCovered("ordered replay: an exponential stands in an exponent")
        return Ratio({x: 1}, ONE) if x else 1

    def count(self, products: int) -> None:
        self.work += products
        if self.work > MAX_TERMS:
            raise NotCovered(f"ordered replay: more than {MAX_TERMS} products of terms, or of words of numbers")

    def small(self, x: Rational) -> Rational:
        bits = x.numerator.bit_length() + x.denominator.bit_length()
        if bits > MAX_BITS:
            raise NotCovered(f"ordered replay: a number has more than {MAX_BITS} bits")
        self.count(bits >> 6)
        return x


def _plain(name: str, x: Rational, y: Rational) -> Rational:
    match name:
        case "add":
            return x + y
        case "sub":
            return x - y
        case "mul":
            return x * y
    return Fraction(x) / y


def _mixed(name: str, x: Value, y: Value) -> Value:
    a, b, c, d = _sum(x), _den(x), _sum(y), _den(y)
    match name:
        case "mul":
            return _quotient(_times(a, c), _times(b, d))
        case "div":
            if not c:
                raise ZeroDivisionError
            return _quotient(_times(a, d), _times(c, b))
    opposite = -1 if name == "sub" else 1
    if b == d:
        return _quotient(_plus(a, c, opposite), b)
    return _quotient(_plus(_times(a, d), _times(c, b), opposite), _times(b, d))


def _greater(x: Value, y: Value) -> Value:
    if isinstance(x, Ratio) or isinstance(y, Ratio):
        return x if sign(_mixed("sub", x, y)) >= 0 else y
    return max(x, y)


def _root(x: Value) -> Value:
    """The square root of a square; of another rational that is not negative, one near it."""
    if isinstance(x, Ratio):
        raise NotCovered("ordered replay: an exponential stands under a root")
    if x < 0:
        raise IllFormed("the square root of a negative number")
    n, d = x.numerator, x.denominator
    found = Fraction(math.isqrt(n * d << 40), d << 20)  # the root of a square is found exactly
    return found.numerator if found.denominator == 1 else found


class Judged(Ordered):
    """The algebra of a text, which is held to the bound of its exponents and to divisors of attained shift.

    ``sums`` gathers the sums of exponentials that were divided by: rows of which not all scores are equal.
    """

    def __init__(self, sizes: Mapping[str, int], bound: Rational, sums: set[frozenset[tuple[Rational, Rational]]]):
        super().__init__(sizes)
        self.bound, self.sums = bound, sums

    def exp(self, x: Value) -> Value:
        found = super().exp(x)
        if not isinstance(x, Ratio) and x > self.bound:
            raise IllFormed(f"the argument of exp is {x}, above {self.bound}")
        return found

    def function(self, name: str, args: Sequence[Value]) -> Value:
        if name == "div":
            self.divisor(args[1])
        return super().function(name, args)

    def divisor(self, x: Value) -> None:
        if not isinstance(x, Ratio):
            if not x:
                raise IllFormed("a divisor is 0")
        elif x.den is ONE and (min(x.num.values()) < 0 or x.num.get(0, 0) < 1):
            raise IllFormed("a divisor is a sum of exponentials without e^0: the shift is not attained")
        elif x.den is not ONE and sign(_mixed("sub", x, 1)) < 0:
            raise IllFormed("a divisor is below 1")
        if isinstance(x, Ratio):
            self.sums.add(frozenset(x.num.items()))

    def quotient(self, state: Scalar) -> Value:
        """o / l of a state (m, l, o) that is not Empty."""
        l = EMPTY if state is EMPTY else state[1]
        if isinstance(l, int | Fraction) and l < 1:
            raise IllFormed(f"the sum of a state's weights is {l}, below 1")
        return super().quotient(state)  # type: ignore[no-any-return]


# --- the replay ------------------------------------------------------------------------------------------


def _draw(rng: random.Random) -> Value:
    """Halves between -3 and 3 without 0: few distinct exponents, ties among them, and no scale that hides all."""
    x = Fraction(rng.choice((-1, 1)) * rng.randint(1, 6), 2)
    return x.numerator if x.denominator == 1 else x


def ordered(bound: Rational = 0, sums: set[frozenset[tuple[Rational, Rational]]] | None = None) -> Method:
    """The method of ``replay`` that is ordered; no argument of exp may be above ``bound``."""
    found = set() if sums is None else sums
    return Method(lambda sizes, seed: (Ordered(sizes), Judged(sizes, bound, found)), _draw, equal)


def ordered_replay(
    data: bytes, c: Certificate, seed: int = 0, launch: Launch | None = None, bound: Rational = 0
) -> int:
    """Replay a text of a certificate over ordered numbers at a few small sizes; the number of cells compared.

    More rounds of cases are run where a text with exponentials divided by few sums that differ.
    """
    sums: set[frozenset[tuple[Rational, Rational]]] = set()
    cells = 0
    for k in range(ROUNDS if any(t.op == "f" and t.data == "exp" for t in subterms(c.onf)) else 1):
        cases = cases_of(c, seed + k, ORDERED_CASES, ORDERED_WORK)
        cells += replay(data, c.spec, c.inputs, cases, seed + k, launch, ordered(bound, sums)).elements
        if len(sums) >= ENOUGH:
            break
    return cells
