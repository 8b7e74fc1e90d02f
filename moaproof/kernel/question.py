"""An integer question in the form that every judge reads: clauses over polynomials, and their SMT-LIB text.  Trusted.

A question asks whether a goal follows from facts; its clauses are the facts and the negated goal, so the answer "yes"
is that no integers satisfy them.  The form is canonical: judges that ask the same question print the same text.

Variables: ``s.n`` a size, ``x.0`` a free index, ``u.0`` a minimum, ``q.0`` a floor quotient, ``m.0`` a read of a truth
value (true is m.0 >= 1).  A literal is a polynomial p with integer coefficients, read p >= 0.  Clauses, beside what is
asked, define the variables:

    s.n                 s.n >= 0
    u = min(a, b)       u <= a,  u <= b,  u >= a or u >= b
    q = floor(a / b)    b*q <= a < b*q + b, if b > 0; without a claim where b <= 0

There is no division, minimum or truth value left.  Variables u, q and m are numbered in the order of their terms'
digests; clauses are sorted by their text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ..errors import IllFormed
from ..shapes import normal, polynomial
from ..term import Term

Poly = tuple[tuple[tuple[str, ...], int], ...]  # ((variables with repetition, sorted), coefficient), sorted
FALSE: Poly = (((), -1),)
MAX_DIGITS = 100  # of a coefficient; a certificate's have a few
KINDS = {"imin": "u", "idiv": "q", "flat": "m"}


@dataclass(frozen=True, slots=True)
class Every:
    """All of the parts hold."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of the parts holds."""

    parts: tuple[Formula, ...]


Formula = Poly | Every | Some


@dataclass(frozen=True)
class Question:
    """Clauses that no integers satisfy, if the goal follows; in the order of their text."""

    clauses: tuple[Poly | Some, ...]

    @cached_property
    def text(self) -> str:
        """The question in SMT-LIB 2: ``unsat`` says that the goal follows."""
        names = sorted({v for c in self.clauses for v in _variables(c)})
        lines = ["(set-logic QF_NIA)", *(f"(declare-const {v} Int)" for v in names)]
        lines += [f"(assert {show(c)})" for c in self.clauses]
        return "\n".join([*lines, "(check-sat)", ""])

    @cached_property
    def key(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@lru_cache(maxsize=50_000)
def question(facts: frozenset[Term], goal: Term) -> Question:
    """Does ``goal`` follow from ``facts``?  Terms of sort Bool over sizes and free indices."""
    names = _Names((*facts, goal))
    asked = [names.formula(f, True) for f in facts] + [names.formula(goal, False)]
    clauses = {show(c): c for f in (*names.definitions(), *asked) for c in _split(f)}
    return Question(tuple(clauses[text] for text in sorted(clauses)))


def _split(f: Formula) -> Iterable[Poly | Some]:
    if isinstance(f, Every):
        for part in f.parts:
            yield from _split(part)
    else:
        yield f


def every(parts: Iterable[Formula]) -> Formula:
    """A conjunction; what is true is left out."""
    kept = tuple(p for p in parts if p != Every(()))
    return kept[0] if len(kept) == 1 else Every(kept)


def some(parts: Iterable[Formula]) -> Formula:
    """A disjunction; true if a part is; what is false is left out."""
    kept = tuple(p for p in parts if p != FALSE)
    if Every(()) in kept:
        return Every(())
    return FALSE if not kept else kept[0] if len(kept) == 1 else Some(kept)


def literal(p: Poly) -> Formula:
    """p >= 0; true or false if p is a constant."""
    if p and p[-1][0]:
        return p
    return Every(()) if not p or p[0][1] >= 0 else FALSE


def plus(*rows: tuple[int, Poly]) -> Poly:
    """The sum of polynomials times integers."""
    out: dict[tuple[str, ...], int] = {}
    for factor, p in rows:
        for names, c in p:
            out[names] = out.get(names, 0) + factor * c
    return tuple(sorted((names, c) for names, c in out.items() if c))


def times(a: Poly, b: Poly) -> Poly:
    """The product of two polynomials."""
    out: dict[tuple[str, ...], int] = {}
    for m, c in a:
        for n, d in b:
            key = tuple(sorted(m + n))
            out[key] = out.get(key, 0) + c * d
    return tuple(sorted((names, c) for names, c in out.items() if c))


def constant(c: int) -> Poly:
    return (((), c),) if c else ()


class _Names:
    """Names for the atoms of a question's terms, and what they stand for."""

    def __init__(self, terms: Iterable[Term]):
        self.atoms: dict[Term, str] = {}
        found: set[Term] = set()
        for t in terms:
            self._collect(t, found)
        count = dict.fromkeys(KINDS.values(), 0)
        for t in sorted(found, key=lambda t: t.digest):
            match t.op:
                case "size":
                    self.atoms[t] = f"s.{t.data}"
                case "x":
                    self.atoms[t] = f"x.{t.data}"
                case _:
                    kind = KINDS[t.op]
                    self.atoms[t] = f"{kind}.{count[kind]}"
                    count[kind] += 1

    def _collect(self, t: Term, found: set[Term]) -> None:
        match t.op:
            case "true":
                return
            case "and" | "not":
                for a in t.args:
                    self._collect(a, found)
            case "flat":
                found.add(Term("flat", None, (t.args[0], normal(t.args[1]))))
            case "lt":
                for a in t.args:
                    self._collect_index(a, found)
            case _:
                raise IllFormed(f"{t.op} is no integer question")

    def _collect_index(self, t: Term, found: set[Term]) -> None:
        for atoms, _ in polynomial(t):
            for a, _ in atoms:
                if a in found:
                    continue
                if a.op not in ("size", "x", "imin", "idiv"):
                    raise IllFormed(f"{a.op} is no integer question")
                found.add(a)
                for b in a.args:
                    self._collect_index(b, found)

    def poly(self, t: Term) -> Poly:
        """An index term as a polynomial over the names."""
        out: dict[tuple[str, ...], int] = {}
        for atoms, c in polynomial(t):
            if abs(c) >= 10**MAX_DIGITS:
                raise IllFormed(f"a coefficient of more than {MAX_DIGITS} digits")
            out[tuple(sorted(self.atoms[a] for a, n in atoms for _ in range(n)))] = c
        return tuple(sorted(out.items()))

    def formula(self, t: Term, holds: bool) -> Formula:
        """The truth-valued term, or its negation, in clauses over literals."""
        match t.op:
            case "true":
                return Every(()) if holds else FALSE
            case "not":
                return self.formula(t.args[0], not holds)
            case "and":
                parts = [self.formula(a, holds) for a in t.args]
                return every(parts) if holds else some(parts)
            case "lt":
                a, b = self.poly(t.args[0]), self.poly(t.args[1])
                return literal(plus((1, b), (-1, a), (-1, constant(1))) if holds else plus((1, a), (-1, b)))
        m = (((self.atoms[Term("flat", None, (t.args[0], normal(t.args[1])))],), 1),)
        return plus((1, m), (-1, constant(1))) if holds else plus((-1, m))

    def definitions(self) -> Iterable[Formula]:
        """What the variables stand for."""
        for t, name in self.atoms.items():
            v = (((name,), 1),)
            if t.op == "size":
                yield v
            elif t.op == "imin":
                gaps = [plus((1, self.poly(x)), (-1, v)) for x in t.args]
                yield from (literal(g) for g in gaps)
                yield some(literal(plus((-1, g))) for g in gaps)
            elif t.op == "idiv":
                a, b = (self.poly(x) for x in t.args)
                below = plus((1, a), (-1, times(b, v)))
                bounds = every([literal(below), literal(plus((1, b), (-1, below), (-1, constant(1))))])
                yield some([literal(plus((-1, b))), bounds])


def _variables(f: Formula) -> Iterable[str]:
    if isinstance(f, Every | Some):
        for part in f.parts:
            yield from _variables(part)
    else:
        for names, _ in f:
            yield from names


def show(f: Formula) -> str:
    """A formula in SMT-LIB."""
    match f:
        case Every(parts):
            return f"(and {' '.join(map(show, parts))})" if parts else "true"
        case Some(parts):
            return f"(or {' '.join(map(show, parts))})"
    terms = [_monomial(names, c) for names, c in f]
    return f"(>= {terms[0] if len(terms) == 1 else '(+ ' + ' '.join(terms) + ')' if terms else '0'} 0)"


def _monomial(names: tuple[str, ...], c: int) -> str:
    number = str(c) if c >= 0 else f"(- {-c})"
    factors = [*([] if c == 1 and names else [number]), *names]
    return factors[0] if len(factors) == 1 else f"(* {' '.join(factors)})"
