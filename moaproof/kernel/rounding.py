"""How far floating point may take a program from its value over the reals: a lemma for each kind of node.  Trusted.

Every operation is supposed to be rounded to nearest with unit roundoff u, exp to have relative error eps, and what
underflows to be off by at most t.  A judgement about a node of value x and computed value x^ is

    |x^ - x|  <=  (P - 1) A  +  P t Z        |x| <= A

A, the *size*, is a term of the language, without rounding, and |x| itself where the judgement is *tight*.  P, the
*growth*, is (1-u)^-rounds (1-eps)^-exps, times e^d for each *shift*, an error d of an exponent, and times
1 + 2 (r-1)/(r+1) for each *mean* of growth r.  Z counts what may underflow, each count with a size of its own.
To round once takes P to P/(1-u), whatever was computed.

| lemma | of a node | says |
|---|---|---|
| input, constant, cast | in, real, cast | exact; a constant that is no small integer is rounded |
| add, product, quotient | f add sub, mul, div | sizes add, multiply, divide; growths join, or multiply; rounds once |
| maximum, sign, choice | f max neg, fold max, where | selects; rounds nothing |
| root | f sqrt | of what is tight and not negative |
| exponential | f exp | an error of the exponent is a shift |
| sum | fold add | in the order of the fold: as many roundings as elements |
| weights | (m, l, o) of a tile | p = e^(s-m) is computed once for l and o: its error is shared |
| state | (s, 1, v) of a key | exact but for s and v |
| merge | fold softmax | each weight meets one exp, one product and one addition more, in l and o alike |
| mean | o/l; sum of (p/l) v | shared errors move it by at most 2 max|v| (r-1)/(r+1) |
| softmax | p/l | the error of its own weight, and that of the others |

*Shared.*  Errors that l and o have in common are a factor between 1/r and r on each weight.  That moves a weighted mean
of v by at most (r-1)/(r+1) of the range of v, and never by more than that range.  Errors of scores, of every exp and of
every rescale are of this kind.  *Telescoping.*  The exponents s - m, m - m', m' - m'', .. of a weight that is rescaled
again and again have one sign, so their roundings together are at most u (M - s): three roundings of a score, for any
number of blocks.  The maxima themselves are selected, never rounded.

A fused multiply-add is an addition whose product was not rounded: the judgements cover it where what is meant to be one
value is computed once, and ``computed_once`` says whether it is.

The scalar facts under these lemmas are in ``lemmas``, where Z3 proves them.  Counting roundings is Wilkinson's and
Higham's way (Accuracy and Stability of Numerical Algorithms, 2002, chapters 2 to 4); shared, merge and telescoping are
ours, and the Coq theorem that they sharpen is described in ``docs/rounding.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from ..errors import IllFormed, Unknown
from ..operators import typeof
from ..shapes import normal, polynomial, product, term_of
from ..term import ONE, ZERO, Add, F, Fold, Int, Lt, Min, Mul, Real, Sub, Term, Where, instantiate
from .bits import Deciders, Different, flatten, in_range, same_bits
from .defined import Position
from .free import X, close, conjuncts, symbolic
from .inequalities import EXACT
from .reals import mentions_index

NOTHING, UNIT = Real(0), Real(1)


@dataclass(frozen=True, slots=True)
class Growth:
    """(1-u)^-rounds (1-eps)^-exps, e^d for each shift d, and 2r/(r+1) for each growth r among the means."""

    rounds: Term = ZERO
    exps: Term = ZERO
    shifts: tuple[Distance, ...] = ()
    means: tuple[Growth, ...] = ()

    def rounded(self, times: Term = ONE) -> Growth:
        return replace(self, rounds=normal(Add(self.rounds, times)))

    def times(self, other: Growth) -> Growth:
        rounds, exps = (normal(Add(getattr(self, k), getattr(other, k))) for k in ("rounds", "exps"))
        return Growth(rounds, exps, self.shifts + other.shifts, self.means + other.means)

    def join(self, other: Growth) -> Growth:
        """At least both."""
        rounds, exps = (_greater(getattr(self, k), getattr(other, k)) for k in ("rounds", "exps"))
        shifts, means = (tuple(dict.fromkeys(getattr(self, k) + getattr(other, k))) for k in ("shifts", "means"))
        return Growth(rounds, exps, shifts, means)


Lost = tuple[tuple[Term, Term], ...]  # (count, size): what may underflow, in units of t


@dataclass(frozen=True, slots=True)
class Distance:
    """(P - 1) A + P t Z."""

    growth: Growth
    size: Term
    lost: Lost = ()


@dataclass(frozen=True, slots=True)
class Lemma:
    """Which lemma gave a judgement, of which others, and what it concluded in counts."""

    name: str
    parts: tuple[Lemma, ...] = ()
    counts: tuple[tuple[str, Term], ...] = ()


@dataclass(frozen=True, slots=True)
class Near:
    """The judgement of a real.  ``peaks``: sizes of what is computed on the way, which must not overflow."""

    growth: Growth
    size: Term
    lost: Lost
    peaks: tuple[Term, ...]
    by: Lemma
    tight: bool = False
    positive: bool = False

    @property
    def distance(self) -> Distance:
        return Distance(self.growth, self.size, self.lost)


@dataclass(frozen=True, slots=True)
class State:
    """The judgement of a softmax state over at most ``keys`` keys with scores like ``score`` and values like ``value``.

    l is the sum of the weights with ``over`` roundings on each, o that of weights times values with ``under``; ``exps``
    are on both.  ``lost``: in units of t, what l, o in terms of max|v|, and o by itself may lack.
    """

    over: Term
    under: Term
    exps: Term
    keys: Term
    lost: tuple[Term, Term, Term]
    score: Near
    value: Near
    by: Lemma


@dataclass(frozen=True, slots=True)
class Bound:
    """The judgement of a whole program at the free indices X(0), X(1).. of its result."""

    near: Near
    shape: tuple[Term, ...]

    def document(self) -> Any:
        """The tree of lemmas as a certificate carries it: [lemma, counts, parts]."""
        tree = _tree(self.near.by)
        return {"size": self.near.size.digest, "peaks": sorted(t.digest for t in self.near.peaks), "tree": tree}


def _tree(lemma: Lemma) -> list[Any]:
    return [lemma.name, {name: words(t) for name, t in lemma.counts}, [_tree(p) for p in lemma.parts]]


def words(t: Term) -> str:
    """An index term over sizes in one line; the canonical one of its polynomial."""
    terms = []
    for atoms, c in polynomial(t):
        parts = [
            f"min({words(a.args[0])}, {words(a.args[1])})" if a.op == "imin" else str(a.data)
            for a, n in atoms
            for _ in range(n)
        ]
        terms.append("*".join(([str(c)] if c != 1 or not parts else []) + sorted(parts)))
    return " + ".join(sorted(terms)) or "0"


def _word(atom: Term) -> str:
    return f"min({words(atom.args[0])}, {words(atom.args[1])})" if atom.op == "imin" else str(atom.data)


def bound_of(t: Term, facts: Sequence[Term], deciders: Deciders | None = None) -> Bound:
    """The bound of a closed term's cells under the facts; ``Unknown`` says which node has none."""
    shape = typeof(t).shape
    at = [X(k) for k in range(len(shape))]
    known = [f for x, s in zip(at, shape, strict=True) for f in in_range(x, symbolic(s, ()))]
    return Bound(_Judge(deciders or Deciders()).near(symbolic(t, (), at), Position((), [*facts, *known])), shape)


def computed_once(onf: Term) -> bool:
    """Is a weight's exp evaluated in one place, and kept, of a kept score less the maximum of these very scores?

    Where a product may be contracted into an addition, the same expression in two places may have two values.  So
    there is one exp at most, the element of an array that a let binds; its exponent is s[..] - M, s bound so too, M by
    a let to the maximum of s; and M is the m of every state.  That what is kept is memory is for the text to show.
    """
    shifts: list[int | None] = []  # of each exp and state, the level of the let that binds its maximum

    def level(t: Term, bound: tuple[Term | None, ...]) -> int | None:
        """Of the let that binds a variable."""
        at = len(bound) - 1 - t.data if t.op == "var" else -1
        return at if at >= 0 and bound[at] is not None else None

    def array(t: Term, bound: tuple[Term | None, ...]) -> int | None:
        """The level of a kept array of which ``t`` is an element."""
        at = level(t.args[0], bound) if t.op == "psi" else None
        return at if at is not None and (value := bound[at]) is not None and value.op == "build" else None

    def maximum(t: Term, bound: tuple[Term | None, ...]) -> tuple[int | None, int | None]:
        """The levels of M and of the kept array that it is the maximum of."""
        at = level(t, bound)
        value = bound[at] if at is not None else None
        if at is None or value is None or value.op != "fold" or value.data != "max":
            return None, None
        return at, array(value.args[2], (*bound[:at], None))

    def walk(u: Term, bound: tuple[Term | None, ...], kept: bool) -> None:
        if u.op == "f" and u.data == "exp":
            pair = _exponent(u)
            top, scores = maximum(pair[1], bound) if pair else (None, None)
            of = array(pair[0], bound) if pair else None
            shifts.append(top if kept and of is not None and of == scores else None)
        if u.op == "state":
            shifts.append(maximum(u.args[0], bound)[0])
        for k, (a, n) in enumerate(zip(u.args, u.binds, strict=True)):
            stays = (kept and u.op in ("build", "where")) or (u.op == "let" and k == 0 and a.op == "build")
            inside = (*bound, u.args[0]) if u.op == "let" and k == 1 else (*bound, *([None] * n))
            walk(a, inside, stays)

    walk(onf, (), kept=False)
    exps = sum(u.op == "f" and u.data == "exp" for u in _occurrences(onf))
    return exps <= 1 and None not in shifts and len(set(shifts)) <= 1


def _occurrences(t: Term) -> Iterator[Term]:
    """Every place of a term."""
    yield t
    for a in t.args:
        yield from _occurrences(a)


class _Judge:
    def __init__(self, deciders: Deciders):
        self.deciders, self.integers = deciders, deciders.integers
        self.known: dict[tuple[Term, frozenset[Term]], Near] = {}

    def near(self, v: Term, here: Position) -> Near:
        """The judgement of a real, which is a meaning."""
        key = (v, frozenset(here.facts))
        if key not in self.known:
            self.known[key] = self._near(v, here)
        return self.known[key]

    def _near(self, v: Term, here: Position) -> Near:
        a = v.args
        match v.op, v.data:
            case "flat", _:
                size = F("max", v, F("neg", v))
                return Near(Growth(), size, (), (), Lemma("input"), tight=True)
            case "real", (numerator, denominator):
                size, positive = Real(abs(int(numerator)), int(denominator)), int(numerator) >= 0
                if denominator == "1" and abs(int(numerator)) <= EXACT["float32"]:
                    return Near(Growth(), size, (), (), Lemma("constant"), tight=True, positive=positive)
                # twice: a float32 is rounded from a float64
                return Near(
                    Growth(Int(2)), size, ((ONE, UNIT),), (size,), Lemma("constant"), tight=True, positive=positive
                )
            case "cast", _:
                positive = self.holds(Lt(Int(-1), a[0]), here)
                size = v if positive else F("max", v, F("neg", v))
                return Near(Growth(), size, (), (), Lemma("cast"), tight=True, positive=positive)
            case "where", _:
                return self.choice(v, here)
            case "quotient", _:
                return self.mean(self.state(a[0], here))
            case "fold", "max":
                x, element, inside = self.opened(v, here)
                e = self.near(element, inside)
                return self.outside(v, x, here, replace(e, by=Lemma("maximum", (e.by,)), tight=False))
            case "fold", "add":
                return self.sum(v, here)
            case "f", "div":
                return self.quotient(v, here)
            case "f", "exp":
                return self.exponential(v, here)
            case "f", _:
                return self.function(v, [self.near(x, here) for x in a])
        raise Unknown(f"rounding: no lemma for {_head(v)}")

    def function(self, v: Term, parts: Sequence[Near]) -> Near:
        x, y = parts[0], parts[-1]
        peaks, positive = _peaks(*parts), all(p.positive for p in parts)
        by = tuple(p.by for p in parts)
        match v.data:
            case "neg":
                return replace(x, by=Lemma("sign", by), positive=False)
            case "max":
                size = F("max", x.size, y.size)
                return Near(
                    x.growth.join(y.growth), size, x.lost + y.lost, peaks, Lemma("maximum", by), positive=positive
                )
            case "add" | "sub":
                size, growth = F("add", x.size, y.size), x.growth.join(y.growth).rounded()
                kind = v.data == "add" and positive
                tight = kind and x.tight and y.tight
                return _concluded(
                    "add", Near(growth, size, x.lost + y.lost, (*peaks, size), Lemma("", by), tight, kind)
                )
            case "mul":
                size, growth = F("mul", x.size, y.size), x.growth.times(y.growth).rounded()
                lost = (*_scaled(x.lost, y.size), *_scaled(y.lost, x.size), (ONE, UNIT))
                square = v.args[0] is v.args[1]
                tight, peaks = x.tight and y.tight, (*peaks, size, *_limits(x.lost), *_limits(y.lost))
                near = Near(growth, size, lost, peaks, Lemma("", by), tight, positive or square)
                return _concluded("product", near)
            case "sqrt" if x.tight and x.positive and not x.lost:
                near = Near(x.growth.rounded(), F("sqrt", x.size), (), peaks, Lemma("", by), tight=True, positive=True)
                return _concluded("root", near)
        raise Unknown(f"rounding: no lemma for {_head(v)} of such arguments")

    def quotient(self, v: Term, here: Position) -> Near:
        top, bottom = v.args
        weights = self.weights(bottom, here)
        if weights is not None:
            if found := self.values(top, bottom, weights, here):
                return self.mean(found)
            pair = _exponent(top)
            if pair is not None and self.same(pair[1], weights.maximum, here):
                return self.softmax(self.near(pair[0], here), weights.state, v)
        x, y = self.near(top, here), self.near(bottom, here)
        if not y.tight or y.lost:
            raise Unknown("rounding: a divisor with an error that is not relative")
        growth, size = x.growth.times(y.growth).rounded(), F("div", x.size, y.size)
        lost = (*((c, F("div", s, y.size)) for c, s in x.lost), (ONE, UNIT))
        positive, by = x.positive and y.positive, Lemma("", (x.by, y.by))
        peaks = (*_peaks(x, y), size, *_limits(lost))
        return _concluded("quotient", Near(growth, size, lost, peaks, by, x.tight, positive))

    def exponential(self, v: Term, here: Position) -> Near:
        x = self.near(v.args[0], here)
        growth = Growth(exps=ONE, shifts=(x.distance,))
        near = Near(growth, v, ((ONE, UNIT),), (*_peaks(x), v), Lemma("", (x.by,)), tight=True, positive=True)
        return _concluded("exponential", near)

    def choice(self, v: Term, here: Position) -> Near:
        test, yes, no = v.args
        if self.holds(test, here):
            return self.near(yes, here)
        x = self.near(yes, Position(here.ctx, [*here.facts, *conjuncts(test)]))
        y = self.near(no, here)
        size, lost = Where(test, x.size, y.size), (*x.lost, *y.lost)
        tight, positive = x.tight and y.tight, x.positive and y.positive
        return Near(x.growth.join(y.growth), size, lost, _peaks(x, y), Lemma("choice", (x.by, y.by)), tight, positive)

    def sum(self, v: Term, here: Position) -> Near:
        state = self.normalised(v, here)
        if state is not None:
            return self.mean(state)
        x, element, inside = self.opened(v, here)
        e = self.near(element, inside)
        extent = self.most(v.args[0], here)
        size = Fold("add", v.args[0], close(e.size, x), v.args[1])
        peaks = tuple(p for p in e.peaks if p is not e.size)  # the sum's is greater
        grown = replace(
            e, growth=e.growth.rounded(extent), peaks=peaks, by=Lemma("", (e.by,)), tight=e.tight and e.positive
        )
        near = self.outside(v, x, here, grown, size, extent)
        return _concluded("sum", replace(near, peaks=(*near.peaks, size)))

    # --- softmax states -------------------------------------------------------------------------

    def state(self, v: Term, here: Position) -> State:
        if v.op == "fold" and v.data == "softmax":
            x, element, inside = self.opened(v, here)
            return self.merged(
                self.state(element, inside), self.most(v.args[0], here), lambda p: self.outside(v, x, here, p)
            )
        if v.op != "state":
            raise Unknown(f"rounding: no lemma for a state that is a {_head(v)}")
        m, l, o = v.args
        if l is UNIT:
            score, value = self.near(m, here), self.near(o, here)
            by = Lemma("state", (score.by, value.by))
            return State(ZERO, ZERO, ZERO, ONE, (ZERO, ZERO, ZERO), score, value, by)
        weights = self.weights(l, here)
        if weights is None or not self.same(m, weights.maximum, here):
            raise Unknown("rounding: l is no sum of e^(s - m), m the maximum of s over the same keys")
        found = self.values(o, l, weights, here)
        if found is None:
            raise Unknown("rounding: o is no sum of l's weights times values")
        return found

    def merged(self, e: State, times: Term, outside: Callable[[Near], Near]) -> State:
        """``times`` states like ``e``, one after the other.

        A weight meets a product and an addition in each merge, and so does what was lost before; a rescale that
        underflows loses t of all that was merged until then, and each product loses t.
        """
        keys = normal(Mul(times, e.keys))
        over, under = (normal(Add(c, Mul(Int(2), times))) for c in (e.over, e.under))
        rest = Add(Mul(Int(2), keys), Int(4))
        l, v, o = (normal(Mul(times, Add(c, more))) for c, more in zip(e.lost, (rest, rest, Int(4)), strict=True))
        exps, score, value = normal(Add(e.exps, times)), outside(e.score), outside(e.value)
        return _stated("merge", State(over, under, exps, keys, (l, v, o), score, value, e.by))

    def weights(self, l: Term, here: Position) -> _Weights | None:
        """What is known of l, if it is the sum of e^(s - M) with M the maximum of s over the same range and guard."""
        if l.op != "fold" or l.data != "add":
            return None
        x, element, inside = self.opened(l, here)
        while element.op == "where" and self.holds(element.args[0], inside):
            element = element.args[1]
        pair = _exponent(element)
        if pair is None:
            return None
        score, shift = pair
        due = Fold("max", l.args[0], close(score, x), close(instantiate(l.args[1], [x]), x))
        if mentions_index(shift, x) or not self.same(shift, due, inside):
            return None
        s = self.near(score, inside)
        keys = self.most(l.args[0], here)
        near = self.outside(l, x, here, s)
        nothing = Near(Growth(), NOTHING, (), (), Lemma("constant"), tight=True, positive=True)
        by = Lemma("", (s.by,))
        state = State(keys, ZERO, ONE, keys, (keys, ZERO, ZERO), near, nothing, by)
        return _Weights(state, due, close(element, x))

    def values(self, o: Term, l: Term, w: _Weights, here: Position) -> State | None:
        """The state (m, l, o) if o is the sum of l's weights times values, over the same range and guard."""
        if o.op != "fold" or o.data != "add" or not self.same(_range(o), _range(l), here):
            return None
        x, element, inside = self.opened(o, here)
        if element.op != "f" or element.data != "mul":
            return None
        weight = instantiate(w.body, [x])
        for p, v in (element.args, element.args[::-1]):
            if self.same(p, weight, inside):
                value = self.near(v, inside)
                keys, outer = w.state.keys, self.outside(o, x, here, value)
                by = Lemma("", (*w.state.by.parts, value.by))
                lost, under = (keys, keys, keys), normal(Add(keys, ONE))
                return _stated("weights", replace(w.state, under=under, lost=lost, value=outer, by=by))
        return None

    def normalised(self, v: Term, here: Position) -> State | None:
        """The state whose mean ``v`` is, if it is the sum of (p / l) v over l's keys."""
        x, element, _ = self.opened(v, here)
        if element.op != "f" or element.data != "mul":
            return None
        for p, value in (element.args, element.args[::-1]):
            if p.op == "f" and p.data == "div" and not mentions_index(p.args[1], x):
                l = p.args[1]
                weights = self.weights(l, here)
                o = Fold("add", v.args[0], close(F("mul", p.args[0], value), x), v.args[1])
                found = self.values(o, l, weights, here) if weights else None
                if found:
                    return replace(found, under=normal(Add(found.under, ONE)))
        return None

    def mean(self, s: State) -> Near:
        """o / l, or the sum of (p / l) v."""
        V, S = s.value, s.score
        shared = Growth(exps=s.exps, shifts=(_shift(S),))
        rounds = normal(Add(Add(s.over, s.under), ONE))
        growth = V.growth.rounded(rounds).times(Growth(means=(shared,)))
        l, v, o = s.lost
        eight = Int(8 * 3 ** (len(V.growth.shifts) + len(V.growth.means)))  # a computed v is within 2 * 3 * .. V
        unit = (normal(Add(Mul(eight, Add(l, Add(v, o))), ONE)), UNIT)
        lost = (*V.lost, (normal(Mul(eight, Add(l, v))), V.size), unit)
        keys = Term("cast", None, (s.keys,))
        peaks = (*_peaks(V, S), *_limits((unit,)), F("add", S.size, S.size), F("mul", keys, F("add", V.size, UNIT)))
        return _concluded("mean", Near(growth, V.size, lost, peaks, Lemma("", (s.by,))))

    def softmax(self, own: Near, s: State, v: Term) -> Near:
        """p / l: the error of its own weight, and that of all of them."""
        growth = Growth(normal(Add(s.over, ONE)), Int(2), (_shift(own), _shift(s.score)))
        keys = normal(Mul(Int(8), s.keys))
        lost = ((normal(Add(keys, Int(9))), UNIT), (keys, v))  # p itself may be above 1 if its score is not of the sum
        peaks = (*_peaks(own, s.score), F("add", own.size, s.score.size), v.args[0], *_limits(lost))
        by = Lemma("", (own.by, *s.by.parts))
        return _concluded("softmax", Near(growth, v, lost, peaks, by, positive=True))

    # --- folds ----------------------------------------------------------------------------------

    def opened(self, fold: Term, here: Position) -> tuple[Term, Term, Position]:
        """A fresh index of the fold's range and guard, the element there, and the position there."""
        x = here.new_index(fold)
        extent, guard, element = fold.args
        facts = [*here.facts, *in_range(x, extent), *conjuncts(instantiate(guard, [x]))]
        return x, instantiate(element, [x]), Position(here.ctx, facts)

    def outside(
        self, fold: Term, x: Term, here: Position, near: Near, size: Term | None = None, times: Term = ONE
    ) -> Near:
        """``near`` after the fold's index x is bound, of the size given; others that mention x become their greatest.

        What may underflow is counted ``times`` as often.
        """

        def most(t: Term) -> Term:
            return self.greatest(t, fold, x, here)

        def distance(d: Distance) -> Distance:
            return Distance(growth(d.growth), most(d.size), lost(d.lost))

        def growth(g: Growth) -> Growth:
            return replace(g, shifts=tuple(map(distance, g.shifts)), means=tuple(map(growth, g.means)))

        def lost(row: Lost) -> Lost:
            return tuple((normal(Mul(times, c)), most(s)) for c, s in row)

        peaks = tuple(dict.fromkeys(map(most, near.peaks)))
        return replace(
            near, growth=growth(near.growth), size=size or most(near.size), lost=lost(near.lost), peaks=peaks
        )

    def greatest(self, t: Term, fold: Term, x: Term, here: Position) -> Term:
        """The greatest value of a size over a fold's range and guard; 0 of nothing."""
        if not mentions_index(t, x):
            return t
        extent, guard, _ = fold.args
        if t.op == "f" and t.data == "max" and t.args[0] is NOTHING:
            t = t.args[1]  # the greatest of greatests
        return F("max", NOTHING, flatten(Fold("max", extent, close(t, x), guard), here.facts, self.integers))

    def most(self, i: Term, here: Position) -> Term:
        """An index term over sizes alone that is at least ``i`` and at least 0: what may lower it is left out."""
        total: list[Any] = []
        for atoms, c in polynomial(i):
            if c > 0:
                least = [atom for atom, n in atoms for _ in range(n) if atom.op == "imin"]
                if len(least) > 1 and not all(self.holds(Lt(Int(-1), atom), here) for atom in least):
                    raise Unknown("rounding: a number of operations that is a product of what may be negative")
                above = [self.atom(atom, here) for atom, n in atoms for _ in range(n)]
                total.append(polynomial(product([Int(c), *above])))
            elif not all(atom.op in ("size", "x") for atom, _ in atoms):
                raise Unknown("rounding: a number of operations that is no sum of products of sizes")
        return normal(reduce(Add, map(term_of, total), ZERO))

    def atom(self, t: Term, here: Position) -> Term:
        match t.op:
            case "size":
                return t
            case "imin":
                return Min(self.most(t.args[0], here), self.most(t.args[1], here))
            case "x":
                for f in here.facts:
                    if f.op == "lt" and f.args[0] is t and not mentions_index(f.args[1], t):
                        return self.most(f.args[1], here)
        raise Unknown("rounding: a number of operations that is no sum of products of sizes")

    # --- the same -------------------------------------------------------------------------------

    def same(self, a: Term, b: Term, here: Position) -> bool:
        try:
            same_bits(a, b, here.facts, self.deciders)
        except Different:
            return False
        return True

    def holds(self, test: Term, here: Position) -> bool:
        try:
            return self.integers.holds(here.facts, test)
        except IllFormed:
            return False


@dataclass(frozen=True, slots=True)
class _Weights:
    """A state whose values are still to come, the maximum of its scores, and the weight of key variable 0."""

    state: State
    maximum: Term
    body: Term


def _exponent(v: Term) -> tuple[Term, Term] | None:
    """(s, M) of e^(s - M)."""
    if v.op == "f" and v.data == "exp" and v.args[0].op == "f" and v.args[0].data == "sub":
        return v.args[0].args[0], v.args[0].args[1]
    return None


def _shift(score: Near) -> Distance:
    """What a score's own error and all differences of maxima do to an exponent: three roundings of it (telescoping)."""
    return Distance(score.growth.rounded(Int(3)), score.size, score.lost + score.lost)


def _range(fold: Term) -> Term:
    """A fold's range and guard alone."""
    return Fold("max", fold.args[0], NOTHING, fold.args[1])


def _greater(a: Term, b: Term) -> Term:
    """A count that is at least both."""
    for x, y in ((a, b), (b, a)):
        if all(c > 0 and all(atom.op == "size" for atom, _ in atoms) for atoms, c in polynomial(Sub(x, y))):
            return x
    return normal(Add(a, b))


def _scaled(lost: Lost, size: Term) -> Lost:
    """What a factor of that size makes of it, its own loss below 1 included."""
    return tuple((c, F("add", s, size if s is UNIT else F("mul", s, size))) for c, s in lost)


def _limits(lost: Lost) -> tuple[Term, ...]:
    """Peaks that keep what is lost below 1 (``bound``): t is at most 8 over the greatest number."""
    counts = [Term("cast", None, (normal(Mul(Int(2 * len(lost)), c)),)) for c, _ in lost]
    return tuple(c if s is UNIT else F("mul", c, s) for c, (_, s) in zip(counts, lost, strict=True))


def _peaks(*parts: Near) -> tuple[Term, ...]:
    return tuple(dict.fromkeys(p for part in parts for p in part.peaks))


def _concluded(name: str, near: Near) -> Near:
    """The judgement with the lemma's name and what it concluded."""
    g = near.growth
    return replace(near, by=Lemma(name, near.by.parts, (("rounds", g.rounds), ("exps", g.exps))))


def _stated(name: str, s: State) -> State:
    counts = {"over": s.over, "under": s.under, "exps": s.exps, "keys": s.keys}
    lost = {f"lost {k}": c for k, c in zip(("l", "v", "o"), s.lost, strict=True)}
    return replace(s, by=Lemma(name, s.by.parts if name == "weights" else (s.by,), tuple((counts | lost).items())))


def _head(t: Term) -> str:
    return t.op if t.data is None else f"{t.op} {t.data}"
