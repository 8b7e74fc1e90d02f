"""What a judgement of ``rounding`` comes to, at sizes, for magnitudes, in an arithmetic.  Trusted; exact rationals.

    (1-u)^-k      <=  1 / (1 - k u)          Bernoulli's inequality
    e^d           <=  1 / (1 - d)            for 0 <= d < 1/2
    2 (r-1)/(r+1) <=  min(ln r, 2)           tanh x <= min(x, 1)

Numbers are exact where only sizes matter.  Where magnitudes of data come in they are of the caller's kind: fractions
(``Exact``), or arrays of float64 whose own rounding the caller owes; as nothing here is negative and only 1 - d is a
difference, that is a relative error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from ..errors import NotCovered
from ..semantics import Numbers, meaning
from ..term import Term
from .rounding import Distance, Growth, Lost, Near

Number = Any  # a Fraction, or what the caller's ``number`` makes of one
MOST: Final = Fraction(1, 4)  # of k u + j eps: (1-u)^-k (1-eps)^-j is below 2, as the lemma ``mean`` supposes


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What the operations of a machine are supposed to be.

    ``u``: unit roundoff; ``eps``: relative error of exp; ``tiny``: t, by which what underflows may be off, what exp
    flushes to 0 included; ``largest``: the greatest number.
    """

    name: str
    u: Fraction
    eps: Fraction
    tiny: Fraction
    largest: Fraction


@dataclass(frozen=True, slots=True)
class Slack:
    """A program that is not the one judged, but does the same in another order: what it may round more.

    ``score``: roundings on a score; ``rounds``: on a weight of a mean, in l and o together; ``exps``: on a weight.
    """

    score: int = 0
    rounds: int = 0
    exps: int = 0


NONE: Final = Slack()


class Exact:
    """Fractions; ``value`` gives the magnitude of a size."""

    def __init__(self, value: Callable[[Term], Fraction]):
        self.value = value

    def number(self, x: Fraction) -> Number:
        return x

    def least(self, x: Number, most: int) -> Number:
        return min(x, Fraction(most))

    def all_below(self, x: Number, limit: Fraction) -> bool:
        return bool(x < limit)


class Evaluation:
    """The bound of a judgement.  ``NotCovered`` outside its domain: too many operations, or what might overflow."""

    def __init__(self, arithmetic: Arithmetic, sizes: Mapping[str, int], kind: Exact, slack: Slack = NONE):
        a = arithmetic
        if a.tiny * a.largest > 8 or a.tiny > a.u or max(a.u, a.eps) > Fraction(1, 8):
            raise NotCovered(
                f"error bound: {a.name} is too coarse for the lemmas, or underflows too early for its range"
            )
        self.a, self.kind, self.slack = arithmetic, kind, slack
        self.sizes = Numbers(sizes, {})

    def bound(self, near: Near) -> Number:
        """|x^ - x| is at most this, if the operations are as the arithmetic says and all inputs are finite."""
        most = self.grown(near.growth)
        for peak in near.peaks:  # with t times the greatest number at most 8, what is lost is then below 1
            if not self.kind.all_below(most * self.kind.value(peak), self.a.largest / 4):
                raise NotCovered(f"error bound: a value on the way could overflow in {self.a.name}")
        return self.distance(near.distance)

    def count(self, t: Term) -> int:
        return int(meaning(t, (), (), (), self.sizes))

    def distance(self, d: Distance, more: int = 0) -> Number:
        """(P - 1) A + P t Z."""
        e = self.excess(d.growth, more)
        return e * self.kind.value(d.size) + (1 + e) * self.lost(d.lost)

    def lost(self, rows: Lost) -> Number:
        total = self.kind.number(Fraction(0))
        for count, size in rows:
            total = total + self.kind.number(self.count(count) * self.a.tiny) * self.kind.value(size)
        return total

    def plain(self, g: Growth, rounds: int, exps: int) -> Fraction:
        """(1-u)^-rounds (1-eps)^-exps - 1, at most."""
        k, j = self.count(g.rounds) + rounds, self.count(g.exps) + exps
        if k * self.a.u + j * self.a.eps > MOST:
            raise NotCovered(f"error bound: {k} roundings and {j} exps in {self.a.name} are too many")
        return 1 / ((1 - k * self.a.u) * (1 - j * self.a.eps)) - 1

    def excess(self, g: Growth, more: int = 0) -> Number:
        """P - 1, at most, with so many more roundings."""
        total = self.kind.number(self.plain(g, more + self.slack.rounds * len(g.means), 0))
        for shift in g.shifts:
            d = self.distance(shift, self.slack.score)
            if not self.kind.all_below(d, Fraction(1, 2)):
                raise NotCovered(f"error bound: the error of an exponent is above 1/2 in {self.a.name}")
            total = both(total, d / (1 - d))
        for mean in g.means:
            total = both(total, self.kind.least(self.logarithm(mean), 2))
        return total

    def grown(self, g: Growth) -> Number:
        """The product of all growths on the way: what is computed is at most that times its size, and what is lost."""
        total = 1 + self.excess(g)
        for shift in (*g.shifts, *(s for mean in g.means for s in mean.shifts)):
            total = total * self.grown(shift.growth)
        return total

    def logarithm(self, g: Growth) -> Number:
        """ln P, at most, of the errors that the weights of a mean share."""
        total = self.kind.number(self.plain(g, 0, self.slack.exps))
        for shift in g.shifts:
            total = total + self.distance(shift, self.slack.score)
        return total


def both(a: Number, b: Number) -> Number:
    """(1 + a)(1 + b) - 1."""
    return a + b + a * b
