"""The search for witnesses of integer questions.  Untrusted: ``kernel.witness.closes`` judges each tree.

A branch is closed by linear arithmetic over monomials: each monomial is a rational unknown of its own, each fact a row.
``Tableau`` is the general simplex of Dutertre and de Moura (CAV 2006), exact; where no point satisfies the rows, one
row of it is the sum that a witness lists.  Where a point does:

1. products of facts that it breaks become rows (Handelman), those first that put a monomial of the facts in place;
2. a disjunction is split, first one that it breaks;
3. a cut is made, best one of which a side closes at once: the other side is then a lemma.  Cuts compare what is
   multiplied by the same (a*c with b*c) or with 0 and 1, round facts to integers, and part fractions.

A branch that does without its assumption takes the place of the split.  There is no clock and no chance in it, and no
order but that of names, so every machine finds the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations, combinations_with_replacement
from math import gcd, lcm
from typing import Any

from ..kernel.question import Every, Formula, Poly, Question, Some, constant, plus, times
from ..kernel.witness import closes

Tree = list[Any]
Monomial = tuple[str, ...]
Label = tuple[int, ...]  # the facts whose product a row of the tableau is, by their names in the search

BATCH = 6  # products added before the next solution
PROBE = 20  # products added to see whether one side of a cut closes
PAIRED, SHORT = 80, 12  # facts of which products of two are looked at, and their terms
CUTS = 30  # candidates for one cut


@dataclass(frozen=True)
class Effort:
    """How hard to try, in counts that mean the same on every machine."""

    products: int  # of facts, added at one node
    cuts: int  # on a path
    wide: bool = False  # aim at the monomials of products too
    nodes: int = 60  # of the tree, with those that led nowhere
    work: int = 100_000  # entries of tableaus that pivots change, and products that are looked at


EFFORTS = (
    Effort(products=0, cuts=0),
    Effort(products=40, cuts=0),
    Effort(products=40, cuts=6),
    Effort(products=40, cuts=6, wide=True),
    Effort(products=120, cuts=12, nodes=300, work=400_000),
)


def search(question: Question) -> Tree | None:
    """A witness of the question, or None; the shortest of those that a fixed list of efforts finds."""
    best: Tree | None = None
    for k, effort in enumerate(EFFORTS):
        tree = _Search(effort).run(question)
        if tree is not None and closes(question, tree):
            best = min((t for t in (best, tree) if t is not None), key=_bytes)
            if k or best[0] == "sum":
                return best
    return best


def witnesses_for(questions: Iterable[Question]) -> tuple[dict[str, Tree], list[Question]]:
    """Witnesses by the keys of their questions, and the questions without one."""
    found: dict[str, Tree] = {}
    missing: dict[str, Question] = {}
    for q in sorted(questions, key=lambda q: q.key):
        if q.key not in found and q.key not in missing:
            tree = search(q)
            if tree is None:
                missing[q.key] = q
            else:
                found[q.key] = tree
    return found, list(missing.values())


def _bytes(tree: Tree) -> tuple[int, str]:
    text = json.dumps(tree, separators=(",", ":"))
    return len(text), text


# --- exact linear arithmetic -----------------------------------------------------------------------

ONE = 0  # the unknown of the monomial (), whose value is 1


@dataclass
class Tableau:
    """Rows ``p >= 0`` over monomials, and a point that satisfies them or a row that shows there is none.

    Unknowns are numbered: monomials, and one slack for each row, whose value is that of its polynomial.  ``rows`` gives
    each basic unknown as a combination of unknowns that are not basic; ``users`` of these names the rows that use them.
    """

    number: dict[Monomial, int] = field(default_factory=lambda: {(): ONE})
    label: dict[int, Label] = field(default_factory=dict)  # of slacks
    value: dict[int, Fraction] = field(default_factory=lambda: {ONE: Fraction(1)})
    rows: dict[int, dict[int, Fraction]] = field(default_factory=dict)
    users: dict[int, set[int]] = field(default_factory=lambda: {ONE: set()})
    work: int = 0

    def copy(self) -> Tableau:
        return Tableau(
            dict(self.number),
            dict(self.label),
            dict(self.value),
            {b: dict(r) for b, r in self.rows.items()},
            {x: set(u) for x, u in self.users.items()},
            self.work,
        )

    def at(self, m: Monomial) -> Fraction:
        """The value of a monomial; of one that no row has, the product of its variables'."""
        if m in self.number:
            return self.value[self.number[m]]
        out = Fraction(1)
        for v in m:
            out *= self.value[self.number[v,]] if (v,) in self.number else 0
        return out

    def of(self, p: Poly) -> Fraction:
        return sum((c * self.at(m) for m, c in p), Fraction())

    def add(self, p: Poly, label: Label) -> None:
        """One more row p >= 0."""
        row: dict[int, Fraction] = {}
        for m, c in p:
            if m not in self.number:
                x = len(self.value)
                value = self.at(m)
                self.number[m], self.value[x], self.users[x] = x, value, set()
            x = self.number[m]
            for y, d in self.rows.get(x, {x: Fraction(1)}).items():
                row[y] = row.get(y, Fraction()) + c * d
        slack = len(self.value)
        self.label[slack] = label
        self.value[slack] = self.of(p)
        self.rows[slack] = {y: d for y, d in row.items() if d}
        for y in self.rows[slack]:
            self.users[y].add(slack)

    def conflict(self, room: int) -> list[tuple[Fraction, Label]] | None:
        """Move to a point of all rows: None.  If there is none: rows with positive factors, of negative sum.

        ``room`` is the work that may be done.
        """
        while True:
            low = min((b for b in self.rows if b in self.label and self.value[b] < 0), default=None)
            if low is None:
                return None
            row = self.rows[low]
            free = [y for y in row if y != ONE and y not in self.label]
            y = min(free, default=None)
            if y is None:
                y = min((y for y, d in row.items() if y != ONE and (d > 0 or self.value[y] > 0)), default=None)
            if y is None:
                return [(Fraction(1), self.label[low]), *((-d, self.label[y]) for y, d in row.items() if y != ONE)]
            if self.work > room:
                raise _TooMuch
            self._pivot(low, y)

    def _pivot(self, low: int, y: int) -> None:
        """Raise the basic unknown ``low`` to 0 by moving ``y``, which takes its place."""
        row = self.rows.pop(low)
        d = row.pop(y)
        step = -self.value[low] / d
        self.value[low] = Fraction()
        self.value[y] += step
        back = {z: -e / d for z, e in row.items()}
        back[low] = 1 / d
        for z in row:
            self.users[z].discard(low)
        others = self.users.pop(y)
        others.discard(low)
        self.users[low] = set()
        self.work += len(others) * len(back)
        for b in sorted(others):
            r = self.rows[b]
            e = r.pop(y)
            self.value[b] += e * step
            for z, f in back.items():
                new = r.get(z, 0) + e * f
                if new:
                    r[z] = new
                    self.users[z].add(b)
                else:
                    r.pop(z, None)
                    self.users[z].discard(b)
        self.rows[y] = back
        for z in back:
            self.users[z].add(y)


class _Near:
    """The point of a tableau in fixed-point numbers: products are many, and a value that is nearly right will do."""

    BITS = 40
    ERROR = 2**20

    def __init__(self, tableau: Tableau):
        self.value: dict[Monomial, int] = {}
        for m, x in tableau.number.items():
            v = tableau.value[x]
            self.value[m] = (v.numerator << self.BITS) // v.denominator

    def of(self, p: Poly) -> int:
        return sum(c * (self.value[m] if m in self.value else self._product(m)) for m, c in p)

    def _product(self, m: Monomial) -> int:
        out = 1 << self.BITS
        for v in m:
            out = (out * self.value.get((v,), 0)) >> self.BITS
        self.value[m] = out
        return out


class _TooMuch(Exception):
    """A limit of the search is reached."""


# --- the tree --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Node:
    """A tree whose facts and disjunctions go by names, which are the same wherever it stands.

    ``kids`` come with the names of the facts and of the disjunctions that their branch assumes.
    """

    rows: tuple[tuple[int, Label], ...] = ()
    split: int | None = None
    cut: Poly | None = None
    kids: tuple[tuple[tuple[int, ...], tuple[int, ...], _Node], ...] = ()

    def uses(self) -> frozenset[int]:
        """The names of all that the tree uses."""
        own = {k for _, label in self.rows for k in label} | ({self.split} if self.split is not None else set())
        return frozenset(own).union(*(kid.uses() for _, _, kid in self.kids))

    def json(self, facts: tuple[int, ...], pending: tuple[int, ...]) -> Tree:
        """The file form, where facts and disjunctions go by their places."""
        kids = [kid.json(facts + more, pending + other) for more, other, kid in self.kids]
        if self.split is not None:
            return ["or", pending.index(self.split), *kids]
        if self.cut is not None:
            return ["cut", [[c, *m] for m, c in self.cut], *kids]
        return ["sum", *sorted([c, *sorted(map(facts.index, label))] for c, label in self.rows)]


@dataclass
class _Branch:
    """What a branch assumes: facts and disjunctions by name, and the tableau of its facts and of their products."""

    facts: dict[int, Poly] = field(default_factory=dict)
    pending: dict[int, Some] = field(default_factory=dict)
    tableau: Tableau = field(default_factory=Tableau)
    split: frozenset[int] = frozenset()  # disjunctions that are dealt with
    products: frozenset[Label] = frozenset()  # that the tableau has

    def copy(self) -> _Branch:
        return _Branch(dict(self.facts), dict(self.pending), self.tableau.copy(), self.split, self.products)


class _Search:
    """One search; facts and disjunctions are named in the order in which they come up."""

    def __init__(self, effort: Effort):
        self.effort = effort
        self.names = 0
        self.nodes = 0
        self.work = 0
        self.polys: dict[Label, Poly] = {}

    def run(self, question: Question) -> Tree | None:
        start = _Branch()
        for c in question.clauses:
            self._assume(c, start)
        try:
            node = self._close(start, self.effort.cuts)
        except _TooMuch:
            return None
        return node.json(tuple(start.facts), tuple(start.pending)) if node else None

    def _assume(self, f: Formula, to: _Branch) -> None:
        if isinstance(f, Every):
            for part in f.parts:
                self._assume(part, to)
            return
        self.names += 1
        if isinstance(f, Some):
            to.pending[self.names] = f
        else:
            to.facts[self.names] = self.polys[self.names,] = f
            to.tableau.add(f, (self.names,))

    def _close(self, at: _Branch, cuts: int) -> _Node | None:
        tried = at.copy()  # the branches begin without the products that did not help
        rows = self._sum(tried, self.effort.products)
        if rows is not None:
            return _Node(rows=rows)
        waiting = [k for k in at.pending if k not in at.split]
        if waiting:  # first what the point breaks, and what has few parts
            k = min(waiting, key=lambda k: (_holds(at.pending[k], tried.tableau), len(at.pending[k].parts), k))
            return self._branch(at, k, None, at.pending[k].parts, cuts)
        return self._cut(at, tried.tableau, cuts) if cuts else None

    def _cut(self, at: _Branch, point: Tableau, cuts: int) -> _Node | None:
        """A cut with a side that closes at once, first one that the point is on; else one that it is between."""
        known = set(at.facts.values())
        candidates = [(p, _negated(p)) for p in _cuts(at, point)]
        sides = [(p, yes) for p, no in candidates for yes, other in ((p, no), (no, p)) if other not in known]
        for p, side in sorted(sides, key=lambda row: point.of(row[1]) < 0):
            probe = at.copy()
            self._assume(side, probe)
            if self._sum(probe, PROBE) is not None:
                return self._branch(at, None, p, (p, _negated(p)), cuts - 1)
        between = (p for p, no in candidates if point.of(p) < 0 and point.of(no) < 0)
        middle: Poly | None = next(between, None)
        return None if middle is None else self._branch(at, None, middle, (middle, _negated(middle)), cuts // 2)

    def _branch(
        self, at: _Branch, split: int | None, cut: Poly | None, parts: tuple[Formula, ...], cuts: int
    ) -> _Node | None:
        """One tree for each part; a kid that does without its assumption is the whole tree."""
        kids = []
        for part in parts:
            kid = at.copy()
            if split is not None:
                kid.split |= {split}
            self._assume(part, kid)
            more = tuple(k for k in kid.facts if k not in at.facts)
            other = tuple(k for k in kid.pending if k not in at.pending)
            node = self._close(kid, cuts)
            if node is None:
                return None
            if node.uses().isdisjoint({*more, *other}):
                return node
            kids.append((more, other, node))
        return _Node(split=split, cut=cut, kids=tuple(kids))

    def _sum(self, at: _Branch, room: int) -> tuple[tuple[int, Label], ...] | None:
        """Rows of a negative sum, or None; up to ``room`` products are added where the point breaks them."""
        self.nodes += 1
        while True:
            if self.nodes > self.effort.nodes or self.work > self.effort.work:
                raise _TooMuch
            at.tableau.work = 0
            rows = at.tableau.conflict(self.effort.work - self.work)
            self.work += at.tableau.work
            if rows is not None:
                scale = lcm(*(c.denominator for c, _ in rows))
                whole = [(int(c * scale), label) for c, label in rows]
                common = gcd(*(c for c, _ in whole))
                return tuple((c // common, label) for c, label in whole)
            broken = self._broken(at)[: min(BATCH, room)] if room else []
            if not broken:
                return None
            room -= len(broken)
            for label in broken:
                at.tableau.add(self.polys[label], label)
            at.products |= set(broken)

    def _broken(self, at: _Branch) -> list[Label]:
        """Products of facts that the point breaks; of few monomials that no fact has, few factors, few terms first."""
        own = {m for p in at.facts.values() for m, _ in p}
        near = _Near(at.tableau)
        aims = set(at.tableau.number) if self.effort.wide else own
        short = [k for k, p in at.facts.items() if len(p) <= SHORT][:PAIRED]
        for labels in (self._aimed(at, aims), combinations_with_replacement(short, 2)):
            new = [(k, self._poly(k)) for k in labels if k not in at.products]
            self.work += len(new)
            found = [(sum(m not in own for m, _ in p), len(k), len(p), k) for k, p in new if near.of(p) < -near.ERROR]
            if found:
                return [row[-1] for row in sorted(found)]
        return []

    def _poly(self, label: Label) -> Poly:
        if label not in self.polys:
            self.polys[label] = times(self._poly(label[:-1]), self.polys[label[-1:]])
        return self.polys[label]

    def _aimed(self, at: _Branch, own: set[Monomial]) -> set[Label]:
        """Facts times variables that are facts themselves, such that a monomial of the product is one of the facts'."""
        natural = {p[0][0][0]: k for k, p in at.facts.items() if len(p) == 1 and p[0][1] == 1 == len(p[0][0])}
        found = set()
        for k, p in at.facts.items():
            for m, _ in p:
                for target in own:
                    rest = _over(target, m) if m else None
                    if rest and all(v in natural for v in rest):
                        found.add(tuple(sorted((k, *(natural[v] for v in rest)))))
        return found


def _negated(p: Poly) -> Poly:
    """p < 0, as what is >= 0."""
    return plus((-1, p), (-1, constant(1)))


def _over(m: Monomial, by: Monomial) -> Monomial | None:
    """The monomial divided by another, if it is a multiple of it."""
    rest = list(m)
    for v in by:
        if v not in rest:
            return None
        rest.remove(v)
    return tuple(rest)


def _holds(f: Formula, tableau: Tableau) -> bool:
    match f:
        case Every(parts):
            return all(_holds(part, tableau) for part in parts)
        case Some(parts):
            return any(_holds(part, tableau) for part in parts)
    return tableau.of(f) >= 0


def _cuts(at: _Branch, point: Tableau) -> list[Poly]:
    """Polynomials to cut at: facts that integers sharpen, and comparisons of what is multiplied by the same."""
    found: dict[Poly, None] = {}
    for p in at.facts.values():
        content = gcd(*(c for m, c in p if m))
        if content > 1 and p[0][0] == () and p[0][1] % content:
            found[tuple((m, c // content) for m, c in p)] = None  # content * r + c >= 0 says r + c // content >= 0
    known = sorted({m for p in at.facts.values() for m, _ in p if len(m) > 1})
    natural = {p[0][0] for p in at.facts.values() if len(p) == 1 and p[0][1] > 0}
    for v in sorted({v for m in known for v in m} - {v for m in natural for v in m if len(m) == 1}):
        for c in (0, 1):
            found[plus((1, (((v,), 1),)), (-1, constant(c)))] = None
    pairs = set()
    for m, n in combinations(known, 2):
        common = tuple((Counter(m) & Counter(n)).elements())
        a, b = _over(m, common), _over(n, common)
        if common and a and b and min(len(a), len(b)) == 1:
            pairs.add((len(a + b), a[0][0] != b[0][0], a, b))  # of one kind first: two sizes, two indices
    for _, _, a, b in sorted(pairs):
        for sign in (1, -1):
            for c in (0, 1):
                found[plus((sign, ((a, 1),)), (-sign, ((b, 1),)), (-1, constant(c)))] = None
    for v in sorted(m[0] for m in point.number if len(m) == 1):
        value = point.at((v,))
        if value.denominator > 1:
            found[plus((1, (((v,), 1),)), (-1, constant(-(-value.numerator // value.denominator))))] = None
    return list(found)[:CUTS]
