"""Equality over the reals: sums of exponential polynomials with sums as atoms.  Trusted; class R rests on this file.

A value is a sum of terms  c * (product of atoms) * e^h,  c rational, h again such a value.  Atoms are reads, maxima,
square roots, inverses, and sums that have been *emptied*: what does not mention the summed index is moved out,

    sum_k (u + v) = sum_k u + sum_k v        sum_k a*b(k) = a * sum_k b(k)        e^(x - M) = e^x * e^-M

and a sum over tiles is the sum over the whole range (``bits.flatten``).  A softmax state (m, l, o) *is* the pair
(l e^m, o e^m); merging adds the pairs, so a fold of states is the pair of the sums, and its quotient is o e^m over
l e^m.  This is the online softmax in the form of Milakov & Gimelshein (2018): no induction is left to do.

Division is total here: 1/0 = 0, and nothing is ever cancelled against its inverse.  Every law above then holds for all
values, the quotient of Empty included, so this file needs no side condition but those of ``flatten``; that divisors are
not 0 where the program divides is an obligation of ``kernel.defined``.

The walk is written once; the ring is an argument.  ``Own`` (standard library) and ``BySympy`` must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol

from ..errors import JudgesDisagree
from ..shapes import normal
from ..term import F, Term, instantiate
from .bits import Deciders, Different, flatten, in_range, same_bits
from .free import X, close, conjuncts
from .integers import Integers

MAX_TERMS = 300  # of one value; a certificate's have a dozen
BOUND = 1_000_000  # numbers of free indices that stand for a bound variable: BOUND + height of its fold


class Ring(Protocol):
    """Exponential polynomials over atoms.  ``outside`` splits a value by what mentions a free index."""

    def const(self, c: Fraction) -> Any: ...
    def atom(self, t: Term) -> Any: ...
    def add(self, a: Any, b: Any) -> Any: ...
    def mul(self, a: Any, b: Any) -> Any: ...
    def exp(self, a: Any) -> Any: ...
    def inverse(self, a: Any) -> Any: ...
    def outside(self, a: Any, x: Term) -> list[tuple[Any, Any]]: ...
    def term(self, a: Any) -> Term: ...


class Values:
    """The walk from meanings to ring values, under facts for the side conditions of ``flatten``."""

    def __init__(self, ring: Ring, integers: Integers):
        self.ring, self.integers = ring, integers
        self.known: dict[tuple[Term, frozenset[Term]], Any] = {}

    def value(self, t: Term, facts: list[Term]) -> Any:
        key = (t, frozenset(facts))
        if key not in self.known:
            self.known[key] = self._value(t, facts)
        return self.known[key]

    def canonical(self, t: Term, facts: list[Term]) -> Term:
        return self.ring.term(self.value(t, facts))

    def _value(self, t: Term, facts: list[Term]) -> Any:
        R, a = self.ring, t.args
        match t.op:
            case "real":
                return R.const(Fraction(int(t.data[0]), int(t.data[1])))
            case "f":
                return self._function(t, facts)
            case "where":
                yes = self.canonical(a[1], [*facts, a[0]])
                no = self.canonical(a[2], [*facts, Term("not", None, (a[0],))])
                return R.atom(Term("where", None, (truth(a[0]), yes, no)))
            case "fold" if t.data == "add":
                return self.total(t, facts)
            case "fold":
                return R.atom(self._canonical_fold(t, facts))
            case "quotient":
                weight, value = self.pair(a[0], facts)
                return R.mul(value, R.inverse(weight))
        return R.atom(truth(t))

    def _function(self, t: Term, facts: list[Term]) -> Any:
        R = self.ring
        if t.data in ("max", "sqrt"):
            return R.atom(F(t.data, *[self.canonical(x, facts) for x in t.args]))
        args = [self.value(x, facts) for x in t.args]
        match t.data:
            case "add":
                return R.add(*args)
            case "sub":
                return R.add(args[0], R.mul(R.const(Fraction(-1)), args[1]))
            case "neg":
                return R.mul(R.const(Fraction(-1)), args[0])
            case "mul":
                return R.mul(*args)
            case "div":
                return R.mul(args[0], R.inverse(args[1]))
            case "exp":
                return R.exp(args[0])
        raise Different(f"{t.data} has no value in the ring")

    def pair(self, state: Term, facts: list[Term]) -> tuple[Any, Any]:
        """(l e^m, o e^m) of a state; of a fold of states, the sums of the pairs."""
        R = self.ring
        if state.op == "state":
            m, l, o = (self.value(x, facts) for x in state.args)
            return R.mul(l, R.exp(m)), R.mul(o, R.exp(m))
        if state.op != "fold" or state.data != "softmax":
            raise Different(f"{state.op} is no state")
        halves: tuple[Any, Any] = self._sums(state, facts, self.pair)
        return halves

    def total(self, t: Term, facts: list[Term]) -> Any:
        """The value of a sum."""
        flat = flatten(t, facts, self.integers)
        if flat is not t:
            return self.total(flat, facts)
        return self._sums(t, facts, lambda u, inside: (self.value(u, inside),))[0]

    def _sums(
        self, t: Term, facts: list[Term], parts: Callable[[Term, list[Term]], tuple[Any, ...]]
    ) -> tuple[Any, ...]:
        """Sum each part of the element over the fold's range: what does not mention the index moves out."""
        R, extent = self.ring, normal(t.args[0])
        x, guard, element, inside = self._open(t, facts)
        sums = []
        for p in parts(element, inside):
            whole = R.const(Fraction(0))
            for out, rest in R.outside(p, x):
                body = R.term(rest)
                emptied = Term("fold", "add", (extent, close(truth(guard), x), close(body, x)))
                # A sum that has changed is looked at again, until it is its own normal form.
                settled = R.atom(emptied) if emptied is t else self.value(emptied, facts)
                whole = R.add(whole, R.mul(out, settled))
            sums.append(whole)
        return tuple(sums)

    def _canonical_fold(self, t: Term, facts: list[Term]) -> Term:
        flat = flatten(t, facts, self.integers)
        if flat is not t:
            return self._canonical_fold(flat, facts)
        x, guard, element, inside = self._open(t, facts)
        if element.op == "state":
            raise Different("a fold of states outside a quotient")
        body = close(self.canonical(element, inside), x)
        return Term("fold", t.data, (normal(t.args[0]), close(truth(guard), x), body))

    def _open(self, t: Term, facts: list[Term]) -> tuple[Term, Term, Term, list[Term]]:
        x = X(BOUND + _height(t))
        if any(mentions_index(u, x) for u in (t, *facts)):  # heights make this impossible; capture would be unsound
            raise Different("an index of a sum is in use outside")
        guard, element = (instantiate(u, [x]) for u in t.args[1:])
        return x, guard, element, [*facts, *in_range(x, t.args[0]), *conjuncts(guard)]


@lru_cache(maxsize=100_000)
def _height(t: Term) -> int:
    """Nesting of folds: the same wherever the fold stands, so the order of factors does not depend on context."""
    return max((_height(a) for a in t.args), default=0) + (t.op == "fold")


def truth(t: Term) -> Term:
    """A truth value or a read with its index terms in normal form; a < b as 0 < b - a."""
    if t.op == "lt":
        less = normal(Term("iadd", None, (t.args[1], Term("imul", None, (Term("int", -1), t.args[0])))))
        return Term("lt", None, (Term("int", 0), less))
    if t.op in ("flat", "cast"):
        return Term(t.op, t.data, (*t.args[:-1], normal(t.args[-1])))
    return Term(t.op, t.data, [truth(a) for a in t.args]) if t.op in ("and", "not") else t


def mentions_index(t: Term, x: Term) -> bool:
    return t is x or (t.fresh > x.data and any(mentions_index(a, x) for a in t.args))


def term_from(sum_of: list[tuple[Fraction, list[tuple[Term, int]], Term | None]]) -> Term:
    """The canonical term of a sum of c * atoms^n * e^h, whatever the order in which a ring keeps them."""
    rows = []
    for c, atoms, h in sum_of:
        factors = [a for a, n in sorted(atoms, key=lambda p: p[0].digest) for _ in range(n)]
        if h is not None:
            factors.append(F("exp", h))
        product: Term | None = None
        for f in factors:
            product = f if product is None else F("mul", product, f)
        number = Term("real", (str(c.numerator), str(c.denominator)))
        rows.append(number if product is None else product if c == 1 else F("mul", number, product))
    rows.sort(key=lambda t: t.digest)
    total = rows[0] if rows else Term("real", ("0", "1"))
    for r in rows[1:]:
        total = F("add", total, r)
    return total


def one_over(t: Term) -> Term:
    return F("div", Term("real", ("1", "1")), t)


# --- our ring: a value is a dict from (atoms with powers, exponent) to a coefficient ----------------


Key = tuple[frozenset[tuple[Term, int]], frozenset[Any]]
Poly = dict[Key, Fraction]
UNIT: Key = (frozenset(), frozenset())


class Own:
    """Exponential polynomials in the standard library."""

    def const(self, c: Fraction) -> Poly:
        return {UNIT: c} if c else {}

    def atom(self, t: Term) -> Poly:
        return {(frozenset([(t, 1)]), frozenset()): Fraction(1)}

    def add(self, a: Poly, b: Poly) -> Poly:
        out = dict(a)
        for k, c in b.items():
            out[k] = out.get(k, Fraction(0)) + c
        return {k: c for k, c in out.items() if c}

    def mul(self, a: Poly, b: Poly) -> Poly:
        out: Poly = {}
        for (p, g), c in a.items():
            for (q, h), d in b.items():
                powers = dict(p)
                for atom, n in q:
                    powers[atom] = powers.get(atom, 0) + n
                key = (frozenset(powers.items()), frozenset(self.add(dict(g), dict(h)).items()))
                out[key] = out.get(key, Fraction(0)) + c * d
            if len(out) > MAX_TERMS:
                raise Different(f"a value of more than {MAX_TERMS} terms")
        return {k: c for k, c in out.items() if c}

    def exp(self, a: Poly) -> Poly:
        return {(frozenset(), frozenset(a.items())): Fraction(1)}

    def inverse(self, a: Poly) -> Poly:
        if not a:
            return {}
        if len(a) > 1:
            return self.atom(one_over(self.term(a)))
        (((atoms, h), c),) = a.items()
        minus = frozenset((k, -v) for k, v in h)
        return {(frozenset((invert(t), n) for t, n in atoms), minus): 1 / c}

    def outside(self, a: Poly, x: Term) -> list[tuple[Poly, Poly]]:
        split = []
        for (atoms, h), c in a.items():
            own = frozenset(p for p in atoms if mentions_index(p[0], x))
            moving = frozenset(row for row in h if self._mentions(row[0], x))
            split.append(({(atoms - own, h - moving): c}, {(own, moving): Fraction(1)}))
        return split

    def _mentions(self, key: Key, x: Term) -> bool:
        return any(mentions_index(t, x) for t, _ in key[0]) or any(self._mentions(k, x) for k, _ in key[1])

    def term(self, a: Poly) -> Term:
        return term_from([(c, list(atoms), self.term(dict(h)) if h else None) for (atoms, h), c in a.items()])


def invert(t: Term) -> Term:
    """1/t; of an inverse, what it inverts."""
    if t.op == "f" and t.data == "div":
        return t.args[1]
    return one_over(t)


def same_value(a: Term, b: Term, facts: list[Term], deciders: Deciders) -> None:
    """Return if the meanings are equal over the reals, by both rings; else ``Different``."""
    from .sympy_ring import BySympy

    answers = []
    for ring, tally in ((Own(), deciders.normaliser), (BySympy(), deciders.sympy)):
        walk = Values(ring, deciders.integers)
        if a.op == "state" or (a.op == "fold" and a.data == "softmax"):
            left, right = (tuple(map(ring.term, walk.pair(t, facts))) for t in (a, b))
        else:
            left, right = ((walk.canonical(t, facts),) for t in (a, b))
        answers.append(all(x is y for x, y in zip(left, right, strict=True)))
        tally.substantive += 1
    if answers[0] != answers[1]:
        raise JudgesDisagree(
            f"equality over the reals: our ring says {answers[0]}, SymPy {answers[1]}: {a!r:.200} and {b!r:.200}"
        )
    if not answers[0]:
        raise Different(f"not equal over the reals: {left!r:.200} and {right!r:.200}")


def judge(a: Term, b: Term, facts: list[Term], deciders: Deciders) -> str:
    """Say "bits" if the two meanings agree in every bit, "reals" if over the reals; else ``Different``."""
    try:
        same_bits(a, b, facts, deciders)
    except Different as bits:
        try:
            same_value(a, b, facts, deciders)
        except Different as reals:
            raise Different(f"{bits}; and over the reals: {reals}") from None
        return "reals"
    return "bits"
