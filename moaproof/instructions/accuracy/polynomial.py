"""How far the CPU's ``exp`` can be from e^x: a bound that is proved by exact rationals, for either dtype.

The argument is that of docs/exp.md, step by step in the same order.  It is about these lines, which both instruction
files have (a test compares them), with the constants of the module that is given:

    t = x * _LOG2E + _MAGIC;  k = t - _MAGIC;  r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _C7 (or _C13);  p = p * r + _C6;  ..;  p = p * r + _C2;  p = (r * r * p + r) + ONE;  times 2^k

Only IEEE 754's addition and multiplication are used, to nearest, without contraction.  ``u`` is the unit roundoff.  A
result z is rounded by at most u 2^e, where 2^e <= |z| < 2^(e+1): half a unit in its last place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from ...errors import Unknown

PIECES: Final = 64  # of the range of r on each side of 0
TERMS: Final = 14  # of e^b, where it only scales an error
GRID: Final = 2**160  # error bounds are rounded up to multiples of 1/GRID, so that fractions stay short


@dataclass(frozen=True, slots=True)
class Proved:
    """The bound of the relative error, and where: the parts are those at the worst r, each relative to the result."""

    eps: Fraction
    r: Fraction  # that end of the worst piece which is farther from 0
    reduction: Fraction
    truncation: Fraction
    rounding: Fraction


@lru_cache(maxsize=1)
def ln2() -> tuple[Fraction, Fraction]:
    """Two rationals around ln 2, 2^-200 apart: the series of 2 atanh(1/3)."""
    terms = 63
    low = sum((Fraction(2, (2 * i + 1) * 3 ** (2 * i + 1)) for i in range(terms)), Fraction(0))
    return low, low + Fraction(1, 3 ** (2 * terms + 1))


def bound_of_polynomial(module: Any, low: int, high: int) -> Proved:
    """|exp(x) / e^x - 1| for every x of the dtype with low <= x <= high, by the constants of an instruction module.

    Raises ``Unknown`` where a step of the argument does not hold for these constants or this range.
    """
    given = vars(module)
    digits = 53 if given["_LN2_HIGH"].dtype.itemsize == 8 else 24
    u = Fraction(1, 2**digits)
    names = sorted((name for name in given if name[:2] == "_C" and name[2:].isdigit()), key=lambda name: int(name[2:]))
    if names != [f"_C{j}" for j in range(2, len(names) + 2)] or given["ONE"] != 1:
        raise Unknown(f"exp: the coefficients are {', '.join(names)}; all from _C2 on are due, beside ONE")
    coefficients = [Fraction(float(given[name])) for name in names]
    far, shared = _reduction(given, digits, max(-low, high))
    ends = [Fraction(math.ceil(far * i / PIECES * 2**40), 2**40) for i in range(PIECES + 1)]  # short, and 0 first
    pieces = [_piece(sign, a, b, coefficients, u, shared) for a, b in pairwise(ends) for sign in (-1, 1)]
    worst = max(pieces, key=lambda p: p.eps)
    # 2^k p is exact where it is normal, and it is: it is within eps of e^x
    least, most = (-1022, 1024) if digits == 53 else (-126, 128)
    if not (least * ln2()[0] + 2 * worst.eps < low and high < most * ln2()[0] - 2 * worst.eps):
        raise Unknown(f"exp: e^{low} or e^{high} is not normal there, so that 2^k p may be rounded")
    return worst


def _reduction(given: Mapping[str, Any], digits: int, big: int) -> tuple[Fraction, Fraction]:
    """For |x| <= big: a bound of |r| as computed, and one of what r is off by before its last rounding."""
    u, two = Fraction(1, 2**digits), ln2()
    log2e, magic, head, tail = (Fraction(float(given[n])) for n in ("_LOG2E", "_MAGIC", "_LN2_HIGH", "_LN2_LOW"))
    slip = big * (max(abs(log2e - 1 / t) for t in two) + u * log2e)  # of the product from x / ln 2
    count = math.floor(big / two[0] + slip + Fraction(1, 2))  # |k| at most
    # t = M + k with an integer k: numbers in [2^(digits-1), 2^digits) are integers.  So t - M is exact, and the last
    # bits of t are those of k.
    if magic != 3 * 2 ** (digits - 2) or count + 1 >= 2 ** (digits - 2) or given["_SHIFT"] != digits - 1:
        raise Unknown(f"exp: adding {magic} does not leave k in the last bits, up to {count} with {digits} bits")
    reach = two[1] * (Fraction(1, 2) + slip)  # |x - k ln 2|
    # k * head is exact, and so is its difference from x: both are multiples of one power of two, and it is small.
    near = two[0] / 2 - two[1] * slip  # |x| at least, unless k = 0
    tiny = max(abs(t - head - tail) for t in two)
    apart = reach + count * (abs(tail) + tiny)  # |x - k head|
    grain = min(Fraction(1, head.denominator), _power(near) * 2 * u)
    if count * head.numerator >= 2**digits or apart >= 2**digits * grain:
        raise Unknown(f"exp: k times the upper part of ln 2, {float(head).hex()}, or x minus that, is not exact")
    shared = count * (tiny + u * abs(tail))
    return _up((reach + shared) * (1 + u)), _up(shared)


def _piece(sign: int, a: Fraction, b: Fraction, coefficients: list[Fraction], u: Fraction, shared: Fraction) -> Proved:
    """The bound for the computed r between sign*a and sign*b, 0 <= a < b."""
    moved = shared + u * _power(b)  # r computed is so far from x - k ln 2
    reduction = moved / (1 - moved)  # e^moved - 1 at most
    degree = len(coefficients) + 1
    least, greatest = (_exp_below(a), _exp_above(b)) if sign > 0 else (1 / _exp_above(b), 1 / _exp_below(a))
    rest = b ** (degree + 1) / (math.factorial(degree + 1) * (1 - b))  # of Taylor's series
    # e^r = 1 + r + r^2 S(r) + rest: S by Horner's rule, ``value`` at least |S|, ``error`` what it is off by.
    value = Fraction(1, math.factorial(degree))
    error = abs(coefficients[-1] - value)
    for j in range(degree - 1, 1, -1):
        c = Fraction(1, math.factorial(j))
        product = (value + error) * b
        error = error * b + u * _power(product) + abs(coefficients[j - 2] - c)
        value = c + value * b if sign > 0 else c  # all S are positive, so r S has the sign of r
        error = _up(error + u * _power(value + error))
    square = b * b + u * _power(b * b)  # fl(r r)
    product = square * (value + error)
    error = u * _power(b * b) * value + square * error + u * _power(product)
    inner = (greatest - 1 if sign > 0 else 1 - least) + rest  # |r + r^2 S|
    error += u * _power(inner + error)
    error += u * _power(greatest + rest + error)
    truncation, rounding = rest / least, error / least
    eps = (1 + truncation + rounding) * (1 + reduction) - 1
    return Proved(_up(eps), sign * b, _up(reduction), _up(truncation), _up(rounding))


def _exp_above(b: Fraction) -> Fraction:
    """At least e^b, for 0 <= b < 1: the rest of the series is below a geometric one."""
    return _up(_exp_below(b) + b**TERMS / (math.factorial(TERMS) * (1 - b)))


def _exp_below(a: Fraction) -> Fraction:
    """At most e^a, for a >= 0."""
    return sum((a**j / math.factorial(j) for j in range(TERMS)), Fraction(0))


def _power(x: Fraction) -> Fraction:
    """The greatest power of two that is at most x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    found = Fraction(2) ** e
    return found if found <= x else found / 2


def _up(x: Fraction) -> Fraction:
    return Fraction(math.ceil(x * GRID), GRID)
