"""What the final ONF owes over the reals, node by node, whatever rules led there.  Trusted; a table, as in ``defined``.

Every law of class R keeps the value over the reals, also one that turns a softmax into e^s over its sum, which is
infinity over infinity on a machine.  So no step is asked: each node of the last term owes what keeps it in range.

| node | owes |
|---|---|
| f exp | an argument that is at most 0, or at most a stated constant |
| f div | a divisor that is at least a stated constant > 0: 1, if it is a sum of softmax weights |
| f sqrt | an argument that is not negative |
| f, but max | no argument is Empty: minus infinity is never subtracted from itself |
| state | l >= 1, or a stated constant > 0, unless m is Empty |
| quotient | the same of every state that is merged into it; of Empty it is 0 and divides nothing |
| fold softmax | nothing beyond its states, by the law of the monoid below |
| cast | an index that a float says exactly: a bound in sizes, which the launcher evaluates at every call |
| any other node of an ONF | nothing of its own |

A node of any other kind is an error, so none is skipped.

*Shift.*  s - M <= 0 if s is an element of the maximum M: at an index that the facts put in its range and through its
guard, the element keeps every bit of s, so that the difference is at most 0 in floating point too.

*Attained.*  The sum of e^(s(k) - M) over a range and guard is at least 1 if M is at most the maximum of these s(k), and
that is of something: one term is then e^0 or more, and no other is negative.  If M is of more than the sum is of,
each exponent is at most 0 and the divisor may still be as small as one likes; so these are two obligations.

*Merging* (m, l, o) and (m', l', o') subtracts M = max(m, m') from m and m': both are at most M, so both exponents are
at most 0, and one of them is 0.  So the merged l e^(m-M) + l' e^(m'-M) is at least the smaller of l and l': a fold of
states keeps a lower bound of its elements' l.  Empty is its identity and is never subtracted.

Sizes, guards and scores are arbitrary here, scores finite; how large they may be is the business of the error bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ..errors import Refuted, Unknown
from ..operators import INDEX_SORTED, Context, Index, typeof
from ..semantics import Numbers, meaning
from ..shapes import normal, polynomial, term_of
from ..term import ONE, TRUE, ZERO, Add, And, Fold, Int, Lt, Mul, Not, Sub, Term, instantiate, subterms
from .bits import Deciders, Different, flatten, in_range, same_bits
from .defined import Defined, Position
from .free import X, close, conjuncts, symbolic
from .reals import mentions_index

Path = tuple[int, ...]

HIGHEST: Final = Fraction(64)  # of an exponent: 10^10 terms of e^64 still add up to a float32
SMALLEST: Final = Fraction(1, 2**126)  # of a divisor: the smallest normal float32
EXACT: Final = {"float64": 2**53, "float32": 2**24}  # every integer up to here is a float
MAX_TRIES = 200  # bounds and comparisons that are looked for, for one node; a certificate's need fewer than ten
OWES_NOTHING: Final = INDEX_SORTED - {"x"} | {
    "var", "true", "lt", "and", "not", "real", "in", "psi", "flat", "let", "where", "build", "tiles",
}  # fmt: skip
OWES: Final = frozenset({"f", "fold", "state", "quotient", "cast"})


@dataclass(frozen=True, slots=True)
class Obligation:
    """What one node owed, and how it was seen to hold.  ``bound``: of the exponent, divisor or argument of sqrt."""

    kind: str  # exponent, divisor, weight, root, not empty, merge or cast
    path: Path
    goal: str
    how: str
    bound: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Cast:
    """An index that becomes a float at ``path``; ``most`` (over sizes alone) bounds its absolute value."""

    path: Path
    most: Term

    def exact(self, sizes: Mapping[str, int], dtype: str) -> bool:
        """Is every index that is cast here a float of this dtype, at these sizes?"""
        return bool(meaning(self.most, (), (), (), Numbers(sizes, {})) <= EXACT[dtype])


@dataclass(frozen=True, slots=True)
class Inequalities:
    """What an ONF owed; made only by ``check_inequalities``, and only when all of it holds."""

    obligations: tuple[Obligation, ...]
    casts: tuple[Cast, ...]  # to be evaluated by the launcher
    nodes: int  # that were visited: all, one and the same node in one and the same place once

    def count(self, kind: str) -> int:
        return sum(o.kind == kind for o in self.obligations)


def check_inequalities(onf: Term, facts: Sequence[Term], deciders: Deciders | None = None) -> Inequalities:
    """Return if every node has what it owes; else ``Unknown`` (or ``Refuted``), the node's path and kind first."""
    judge = _Judge(deciders or Deciders())
    judge.walk(onf, Position((), facts), ())
    return Inequalities(tuple(judge.obligations), tuple(judge.casts), len(judge.done))


class _Judge:
    def __init__(self, deciders: Deciders):
        self.deciders, self.integers = deciders, deciders.integers
        self.defined = Defined(deciders.integers)
        self.obligations: list[Obligation] = []
        self.casts: list[Cast] = []
        self.done: set[tuple[Term, Context, frozenset[Term]]] = set()
        self.tries, self.how = 0, ""  # of the node that is judged

    def walk(self, t: Term, here: Position, path: Path) -> None:
        key = (t, here.ctx, frozenset(here.facts))
        if key in self.done:
            return
        self.done.add(key)
        place = f"node {'.'.join(map(str, path)) or 'root'} ({_head(t)})"
        if t.op not in OWES_NOTHING | OWES:
            raise Unknown(f"{place}: no clause says what a node of this kind owes")
        for k, a in enumerate(t.args):
            self.walk(a, here.under(t, k), (*path, k))
        self.tries, self.how = 0, _PARTS
        try:
            self.node(t, here, path)
        except (Refuted, Unknown) as e:
            why = _TOO_MANY if self.tries > MAX_TRIES else e.args[0]
            e.args = (f"{place}: {why}", *e.args[1:])
            raise

    def node(self, t: Term, here: Position, path: Path) -> None:
        def owed(kind: str, goal: str, how: str, bound: Fraction | None = None) -> None:
            self.obligations.append(Obligation(kind, path, goal, how, bound))

        match t.op:
            case "f":
                self.function(t, here, owed)
            case "fold" if t.data == "softmax":
                owed("merge", "the exponents m - M and m' - M are at most 0", _MERGE, Fraction(0))
            case "state":
                bound = self.weight(_cell(t, here), here)
                owed("weight", f"l is at least {bound} unless m is Empty", self.how, bound)
            case "quotient":
                bound = self.weight(_cell(t.args[0], here), here)
                how = "merging keeps the bound of the states"
                owed("divisor", f"the divisor l is at least {bound} unless the state is Empty", how, bound)
            case "cast":
                most = magnitude(here.meaning(t.args[0]), here.ctx)
                self.casts.append(Cast(path, most))
                owed("cast", "the index is a float exactly", "its bound in sizes is evaluated at every call")

    def function(self, t: Term, here: Position, owed: Callable[..., None]) -> None:
        for x in t.args:
            if t.data != "max" and typeof(x, here.ctx).sort == "opt":
                self.defined.attained(here.meaning(x), here)
                owed("not empty", "an operand is not the maximum of nothing", _SEEN)
        match t.data:
            case "exp":
                bound = self.at_most(here.meaning(t.args[0]), here)
                if bound > HIGHEST:
                    raise Unknown(f"the exponent is at most {bound}, which is no bound: e^{HIGHEST} is")
                owed("exponent", f"the exponent is at most {bound}", self.how, bound)
            case "div":
                divisor = here.meaning(t.args[1])
                bound = self.at_least(divisor, here)
                if bound < SMALLEST:
                    self.too_small(divisor, bound, here)
                owed("divisor", f"the divisor is at least {bound}", self.how, bound)
            case "sqrt":
                bound = self.at_least(here.meaning(t.args[0]), here)
                if bound < 0:
                    raise Unknown(f"the argument of sqrt is only seen to be at least {bound}")
                owed("root", "the argument of sqrt is not negative", self.how, bound)
            case "add" | "sub" | "mul" | "neg" | "max":
                return
            case _:
                raise Unknown("no clause says what this function owes")

    def too_small(self, v: Term, bound: Fraction, here: Position) -> None:
        """Say why the divisor has no better bound."""
        if _is_sum(v):
            self.shifted(v, here)
        raise Unknown(f"the divisor is only seen to be at least {bound}")

    def spend(self) -> None:
        self.tries += 1
        if self.tries > MAX_TRIES:
            raise Unknown(_TOO_MANY)

    # --- constants that bound a real, which is a meaning ----------------------------------------

    def at_most(self, v: Term, here: Position) -> Fraction:
        """A constant that v is never above, or ``Unknown``."""
        self.spend()
        a = v.args
        match v.op, v.data:
            case "real", (numerator, denominator):
                return Fraction(int(numerator), int(denominator))
            case "cast", _ if self.integers.holds(here.facts, Lt(a[0], ONE)):
                return Fraction(0)
            case "f", "neg":
                return -self.at_least(a[0], here)
            case "f", "add" | "sub":
                return self.difference_at_most(v, here)
            case "f", "mul" | "div":
                for x, y in _factors(v):
                    if self.known(self.at_least, x, here, -1) >= 0 >= self.known(self.at_most, y, here, 1):
                        return Fraction(0)
            case "f", "max":
                return max(self.at_most(x, here) for x in a)
            case "where", _:
                return max(self.at_most(x, inside) for x, inside in _branches(v, here))
            case "fold", "max":
                _, element, inside = _opened(v, here)
                return self.at_most(element, inside)
        raise Unknown(f"no upper bound is seen: it is a {_head(v)}, no score minus its maximum")

    def difference_at_most(self, v: Term, here: Position) -> Fraction:
        pair = _difference(v)
        if pair is not None:
            try:
                self.under(*pair, here)
            except Unknown as e:
                why = e
            else:
                self.how = _SHIFT
                return Fraction(0)
        try:
            first, second = v.args
            rest = self.at_most(second, here) if v.data == "add" else -self.at_least(second, here)
            return self.at_most(first, here) + rest
        except Unknown:
            if pair is None:
                raise
            raise why from None

    def at_least(self, v: Term, here: Position) -> Fraction:
        """A constant that v is never below, or ``Unknown``."""
        self.spend()
        a = v.args
        match v.op, v.data:
            case "real", (numerator, denominator):
                return Fraction(int(numerator), int(denominator))
            case "cast", _:
                for least in (1, 0):
                    if self.integers.holds(here.facts, Lt(Int(least - 1), a[0])):
                        return Fraction(least)
            case ("f", "exp") | ("fold", "add"):
                return self.sum_at_least(v, here)
            case "f", "sqrt":
                return min(self.at_least(a[0], here), Fraction(1))  # of x in 0..1 the root is at least x
            case "f", "neg":
                return -self.at_most(a[0], here)
            case "f", "add":
                return self.at_least(a[0], here) + self.at_least(a[1], here)
            case "f", "sub":
                return -self.difference_at_most(Term("f", "sub", (a[1], a[0])), here)
            case "f", "mul" | "div":
                low = [Fraction(0)] if a[0] is a[1] else [self.at_least(x, here) for x in a]
                if min(low) >= 0:
                    return low[0] * low[-1] if v.data == "mul" else Fraction(0)
            case "f", "max":
                low = [self.known(self.at_least, x, here, -1) for x in a]
                if max(low) >= 0:
                    return max(low)
            case "where", _:
                return min(self.at_least(x, inside) for x, inside in _branches(v, here))
        raise Unknown(f"no lower bound of the {_head(v)} is seen")

    def known(self, find: Callable[[Term, Position], Fraction], v: Term, here: Position, otherwise: int) -> Fraction:
        """The bound that is found; ``otherwise``, which helps nobody, if there is none."""
        try:
            return find(v, here)
        except Unknown:
            return Fraction(otherwise)

    def sum_at_least(self, v: Term, here: Position) -> Fraction:
        """1 of softmax weights whose shift is attained; else the least element, if there is one; else 0."""
        try:
            self.defined.attained(self.flat(self.shifted(v, here), here), here)
        except (Refuted, Unknown):
            if v.op == "f":
                return Fraction(0)
        else:
            self.how = _WEIGHTS
            return Fraction(1)
        extent, guard, _ = v.args
        _, element, inside = _opened(v, here)
        least = self.at_least(element, inside)
        if least > 0:
            try:
                self.defined.attained(Fold("max", extent, Term("cast", None, (ZERO,)), guard), here)
            except (Refuted, Unknown):
                return Fraction(0)
        if least < 0:
            raise Unknown("a sum of what may be negative")
        return least

    # --- softmax weights ------------------------------------------------------------------------

    def shifted(self, v: Term, here: Position) -> Term:
        """The maximum of the scores of a sum of e^(s - M), after seeing that M is not above it."""
        scores, shift = self.scores(v, here)
        try:
            self.under(shift, scores, here)
        except Unknown as e:
            raise Unknown(f"the shift is not seen to be attained by a score of the sum: {e.args[0]}") from None
        return scores

    def scores(self, v: Term, here: Position) -> tuple[Term, Term]:
        """(the maximum of s, M) of a sum, or sum of sums, of e^(s - M), 0 where a ``where`` says so."""
        if v.op == "f" and v.data == "exp":
            pair = _difference(self.unscaled(v.args[0], here))
            if pair is not None:
                return pair
        if not _is_sum(v):
            raise Unknown("a weight that is no e^(s - M)")
        x, element, inside = _opened(v, here)
        guard = instantiate(v.args[1], [x])
        if element.op == "where":
            (yes, visible), (no, hidden) = _branches(element, inside)
            if self.at_least(no, hidden) < 0:
                raise Unknown("a weight may be negative")
            guard = element.args[0] if guard is TRUE else And(guard, element.args[0])
            element, inside = yes, visible
        top, shift = self.scores(element, inside)
        if mentions_index(shift, x):
            raise Unknown("the shift changes from term to term of the sum")
        return Fold("max", v.args[0], close(top, x), close(guard, x)), shift

    def unscaled(self, v: Term, here: Position) -> Term:
        """An exponent without factors that are not negative: where s - M is at least 0, so is the exponent."""
        while v.op == "f" and v.data in ("mul", "div"):
            rest = next((y for x, y in _factors(v) if self.known(self.at_least, x, here, -1) >= 0), None)
            if rest is None:
                break
            v = rest
        return v

    def weight(self, state: Term, here: Position) -> Fraction:
        """A lower bound > 0 of l wherever m is not Empty; of a fold of states, that of its elements."""
        if state.op == "fold" and state.data == "softmax":
            _, element, inside = _opened(state, here)
            return self.weight(element, inside)
        if state.op != "state":
            raise Unknown(f"a {_head(state)} is no state that could be looked into")
        m, l, _ = state.args
        if typeof(m).sort == "opt" and _is_sum(l):
            self.under(m, self.shifted(l, here), here)  # so the sum is of something if m is
            self.how = _WEIGHTS
            return Fraction(1)
        bound = self.at_least(l, here)
        if bound < SMALLEST:
            self.too_small(l, bound, here)
        return bound

    # --- a score and its maximum ----------------------------------------------------------------

    def under(self, s: Term, top: Term, here: Position) -> None:
        """If ``s`` is not Empty then ``top`` is not, and s <= top; else ``Unknown``."""
        self.spend()
        if self.same(s, top, here):
            return
        if top.op == "where" or s.op == "where":
            both = top if top.op == "where" else s
            for branch, inside in _branches(both, here):
                self.under(*((s, branch) if both is top else (branch, top)), inside)
        elif s.op == "f" and s.data == "max":
            for x in s.args:
                self.under(x, top, here)
        elif top.op == "f" and top.data == "max":
            self.first_of([lambda x=x: self.under(s, x, here) for x in top.args])  # type: ignore[misc]
        elif _is_top(top) and _is_top(s):
            self.first_of([lambda: self.element(s, top, here), lambda: self.each(s, top, here)])
        elif _is_top(top):
            self.element(s, top, here)
        elif _is_top(s):
            self.each(s, top, here)
        else:
            raise Unknown(f"what is subtracted is no maximum of the score: it is a {_head(top)}")

    def first_of(self, ways: Sequence[Callable[[], None]]) -> None:
        """One of the ways succeeds; else the reason of the last."""
        for way in ways[:-1]:
            try:
                return way()
            except Unknown:
                continue
        return ways[-1]()

    def each(self, s: Term, top: Term, here: Position) -> None:
        """Every element of the maximum ``s`` is under ``top``."""
        _, element, inside = _opened(s, here, top)
        self.under(element, top, inside)

    def element(self, s: Term, top: Term, here: Position) -> None:
        """``s`` is under an element of the maximum ``top``."""
        top = self.flat(top, here)
        extent, guard, element = top.args
        x = here.new_index(s, top)
        why = "no element of the maximum is seen to be this score"
        for w in dict.fromkeys(candidates(instantiate(element, [x]), s, x)):
            try:
                self.under(s, instantiate(element, [w]), here)
            except Unknown:
                continue
            try:
                for goal in in_range(w, extent):
                    self.integers.prove(here.facts, goal, "the score is an element beyond the maximum's range")
                for goal in conjuncts(instantiate(guard, [w])):
                    self.integers.prove(here.facts, goal, "the score is an element that the maximum's guard hides")
            except (Refuted, Unknown) as e:
                why = str(e)
                continue
            return
        raise Unknown(why)

    def same(self, a: Term, b: Term, here: Position) -> bool:
        try:
            same_bits(a, b, here.facts, self.deciders)
        except Different:
            return False
        return True

    def flat(self, top: Term, here: Position) -> Term:
        """A maximum over tiles of tiles as one over the whole range."""
        while _is_top(top) and (flat := flatten(top, here.facts, self.integers)) is not top:
            top = flat
        return top


_SHIFT = "the score is an element of the maximum that is subtracted"
_WEIGHTS = "a sum of e^(s - M), M attained by one of the s: one term is 1, none is negative"
_PARTS = "by the bounds of its parts"
_TOO_MANY = "too many ways in which it might be bounded"
_MERGE = "M is the greater of m and m'"
_SEEN = "an index in sight is in its range and visible"


def _head(t: Term) -> str:
    return t.op if t.data is None or t.op == "real" else f"{t.op} {t.data}"


def _is_top(t: Term) -> bool:
    return t.op == "fold" and bool(t.data == "max")


def _is_sum(t: Term) -> bool:
    return t.op == "fold" and bool(t.data == "add")


def _difference(v: Term) -> tuple[Term, Term] | None:
    """(s, M) of s - M, s + -M, -M + s or -(M - s)."""
    if v.op == "f" and v.data == "neg" and (pair := _difference(v.args[0])):
        return pair[1], pair[0]
    if v.op != "f" or v.data not in ("add", "sub"):
        return None
    s, top = v.args
    if v.data == "sub":
        return s, top
    if s.op == "f" and s.data == "neg":
        s, top = top, s
    return (s, top.args[0]) if top.op == "f" and top.data == "neg" else None


def _factors(v: Term) -> tuple[tuple[Term, ...], ...]:
    """(x, y) with v = x*y or y*x or y/x."""
    return (v.args, v.args[::-1]) if v.data == "mul" else (v.args[::-1],)


def _cell(state: Term, here: Position) -> Term:
    """The meaning of a state, its value at fresh indices."""
    first = here.new_index().data
    return here.meaning(state, [X(first + k) for k in range(len(typeof(state, here.ctx).shape))])


def _opened(fold: Term, here: Position, *others: Term) -> tuple[Term, Term, Position]:
    """A fresh index of the fold's range and guard, the element there, and the position there."""
    x = here.new_index(fold, *others)
    extent, guard, element = fold.args
    facts = [*here.facts, *in_range(x, extent), *conjuncts(instantiate(guard, [x]))]
    return x, instantiate(element, [x]), Position(here.ctx, facts)


def _branches(t: Term, here: Position) -> tuple[tuple[Term, Position], tuple[Term, Position]]:
    """The two branches of a ``where``, each with its position."""
    c, yes, no = t.args
    return (
        (yes, Position(here.ctx, [*here.facts, *conjuncts(c)])),
        (no, Position(here.ctx, [*here.facts, Not(c)])),
    )


def candidates(pattern: Term, s: Term, x: Term) -> Iterator[Term]:
    """Index terms at which the pattern, a term in the free index ``x``, may be ``s``.  A search: nothing rests on it.

    Where the two differ first in an index expression, a*x + b against p, the index is (p - b) / a.  Where a maximum
    stands in the pattern, any free index of ``s`` may do.
    """
    if pattern is s:
        return
    if pattern.op in INDEX_SORTED and s.op in INDEX_SORTED:
        w = _solved(pattern, s, x)
        if w is not None and w.free == 0:
            yield w
    elif pattern.op == s.op and pattern.data == s.data and len(pattern.args) == len(s.args):
        for p, u in zip(pattern.args, s.args, strict=True):
            yield from candidates(p, u, x)
    elif _is_top(pattern):
        yield from sorted((u for u in subterms(s) if u.op == "x"), key=lambda u: -u.data)


def _solved(pattern: Term, p: Term, x: Term) -> Term | None:
    """(p - b) / a for a pattern a*x + b, if a is one monomial that divides what remains."""
    rows = polynomial(pattern)
    with_x = [(dict(atoms), c) for atoms, c in rows if any(mentions_index(atom, x) for atom, _ in atoms)]
    if len(with_x) != 1 or with_x[0][0].get(x) != 1:
        return None
    factor, a = with_x[0]
    del factor[x]
    b = term_of([row for row in rows if not any(mentions_index(atom, x) for atom, _ in row[0])])
    divided = []
    for atoms, c in polynomial(Sub(p, b)):
        powers = dict(atoms)
        for atom, n in factor.items():
            powers[atom] = powers.get(atom, 0) - n
        if c % a or any(n < 0 for n in powers.values()):
            return None
        divided.append((tuple((atom, n) for atom, n in powers.items() if n), c // a))
    return normal(term_of(divided))


def magnitude(i: Term, ctx: Context) -> Term:
    """An index term over sizes alone that bounds the absolute value of the index ``i`` (a meaning in ``ctx``).

    A free index stays below its extent; |min(a, b)| <= |a| + |b|, and |a div b| <= |a| for b > 0.
    """
    match i.op:
        case "int":
            return Int(abs(i.data))
        case "size":
            return i
        case "x" if i.data < len(ctx) and isinstance(entry := ctx[i.data], Index):
            outside = ctx[: i.data]
            return magnitude(symbolic(entry.extent, outside), outside)
        case "iadd" | "imin":
            return Add(magnitude(i.args[0], ctx), magnitude(i.args[1], ctx))
        case "imul":
            return Mul(magnitude(i.args[0], ctx), magnitude(i.args[1], ctx))
        case "idiv":
            return magnitude(i.args[0], ctx)
    raise Unknown(f"the index that is cast has no bound in sizes: it is a {_head(i)}")
