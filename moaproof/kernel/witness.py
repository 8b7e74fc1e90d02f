"""Witnesses: why no integers satisfy a question's clauses, checked without search.  Trusted.

A witness is a tree, after Handelman (1988) and the Positivstellensatz.  Its nodes are JSON lists:

    ["sum", [c, i, j, ..], ..]          closes a branch: the sum of c * fact_i * fact_j * .. is a negative constant,
                                        though every fact is >= 0 and every c > 0
    ["or", k, tree, ..]                 one tree for each part of disjunction k
    ["cut", [[c, name, ..], ..], tree, tree]    the first assumes p >= 0, the second -p - 1 >= 0; p has integer values

Facts are the plain literals of the question in their order, disjunctions the others; what a branch assumes is appended
to both lists, parts of a conjunction in order, and no number ever changes.
"""

from __future__ import annotations

from typing import Any

from ..term import MAX_INT
from .question import Every, Formula, Poly, Question, Some, constant, plus, times

MAX_WORK = 200_000  # products of monomials for one witness
MAX_DEPTH = 60
MAX_FACTORS = 8  # of a product of facts, or of a monomial of a cut


class NoWitness(Exception):
    """The tree does not close the question; says where."""


def closes(question: Question, tree: Any) -> bool:
    """Does the witness (JSON, untrusted) prove that the question's clauses cannot hold together?"""
    try:
        facts: list[Poly] = []
        pending: list[Some] = []
        for c in question.clauses:
            _assume(c, facts, pending)
        _Walk().close(tree, facts, pending, 0)
    except NoWitness:
        return False
    return True


def _assume(f: Formula, facts: list[Poly], pending: list[Some]) -> None:
    match f:
        case Every(parts):
            for part in parts:
                _assume(part, facts, pending)
        case Some():
            pending.append(f)
        case _:
            facts.append(f)


class _Walk:
    """One witness; its work is limited."""

    def __init__(self) -> None:
        self.work = 0

    def close(self, tree: Any, facts: list[Poly], pending: list[Some], depth: int) -> None:
        if depth > MAX_DEPTH or not isinstance(tree, list) or not tree:
            raise NoWitness("nested too deep, or no node")
        match tree:
            case ["sum", *rows]:
                self._negative(rows, facts)
            case ["or", k, *kids]:
                parts = pending[_number(k, len(pending))].parts
                if len(parts) != len(kids):
                    raise NoWitness("one tree for each part is due")
                for part, kid in zip(parts, kids, strict=True):
                    more, other = list(facts), list(pending)
                    _assume(part, more, other)
                    self.close(kid, more, other, depth + 1)
            case ["cut", rows, yes, no]:
                p = _polynomial(rows)
                self.close(yes, [*facts, p], pending, depth + 1)
                self.close(no, [*facts, plus((-1, p), (-1, constant(1)))], pending, depth + 1)
            case _:
                raise NoWitness("a node is a sum, an or with a tree for each part, or a cut with two")

    def _negative(self, rows: list[Any], facts: list[Poly]) -> None:
        total: Poly = ()
        for row in rows:
            if not _is_row(row) or row[0] <= 0:
                raise NoWitness("a row is [positive integer, fact, ..]")
            product = constant(row[0])
            for k in row[1:]:
                fact = facts[_number(k, len(facts))]
                self._spend(len(product) * len(fact))
                product = times(product, fact)
            self._spend(len(total) + len(product))
            total = plus((1, total), (1, product))
        if len(total) != 1 or total[0][0] != () or total[0][1] >= 0:
            raise NoWitness("the sum is no negative constant")

    def _spend(self, work: int) -> None:
        self.work += work
        if self.work > MAX_WORK:
            raise NoWitness("too much work for one witness")


def _is_row(row: Any) -> bool:
    """A list of an integer and at most ``MAX_FACTORS`` more; without the limits one short row makes endless work."""
    if not isinstance(row, list) or not 0 < len(row) <= 1 + MAX_FACTORS:
        return False
    return type(row[0]) is int and abs(row[0]) <= MAX_INT


def _number(k: Any, count: int) -> int:
    if type(k) is not int or not 0 <= k < count:
        raise NoWitness("there is no fact or disjunction of that number")
    return k


def _polynomial(rows: Any) -> Poly:
    """A polynomial with integer coefficients over any names: one that no clause has is an integer without a claim."""
    if not isinstance(rows, list) or len(rows) > 50:
        raise NoWitness("a cut is a list of [coefficient, name, ..]")
    total: Poly = ()
    for row in rows:
        if not _is_row(row) or not all(isinstance(v, str) for v in row[1:]):
            raise NoWitness("a cut is a list of [coefficient, name, ..]")
        total = plus((1, total), (row[0], ((tuple(sorted(row[1:])), 1),)))
    return total
