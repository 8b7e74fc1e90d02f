"""Definedness: what each node owes so that its meaning exists.  Trusted; a table, one clause for each node kind.

| node | owes |
|---|---|
| psi, flat | every index within its extent, an offset within the ravel |
| idiv | a positive divisor |
| build, fold, tiles | extents not negative; tiles: t > 0 and b*t >= s |
| reshape, lift | as many elements as before |
| f | no argument is the maximum of nothing; div: a divisor that is not 0; sqrt: an argument that is not negative |
| state | m Empty only with l and o: these are sums over the range and guard of the maximum m, and l's terms > 0 |

``where`` and guards short-circuit: what they exclude owes nothing.  A fold of a hidden argument (under ``let``) owes
what it owes where it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import Refuted, Unknown
from ..operators import MOA, Context, Index, definition, opened, typeof
from ..shapes import normal, product
from ..term import ONE, TRUE, ZERO, Add, Div, Int, Lt, Mul, Not, Term, instantiate, up
from .bits import in_range
from .free import X, conjuncts, indices, new_index, symbolic
from .integers import Integers


class Position:
    """Where a term stands: its context, and the facts that hold there (ranges, guards, branches)."""

    def __init__(self, ctx: Context = (), facts: Sequence[Term] = ()):
        self.ctx, self.facts = ctx, list(facts)

    def meaning(self, t: Term, at: Sequence[Term] = ()) -> Term:
        return symbolic(t, self.ctx, at)

    def new_index(self, *terms: Term) -> Term:
        """A free index that is not in use here, nor in these terms."""
        return new_index(terms, self.facts, indices(self.ctx))

    def under(self, t: Term, k: int) -> Position:
        """The position of argument ``k`` of ``t``."""
        ctx, facts = self.ctx, list(self.facts)
        for entry in opened(t, k):
            if isinstance(entry, Index):
                facts += in_range(X(len(ctx)), symbolic(entry.extent, ctx))
            ctx = (*ctx, entry)
        inside = Position(ctx, facts)
        if t.op == "fold" and k == 2:
            inside.facts += conjuncts(inside.meaning(t.args[1]))
        if t.op == "where" and k > 0:
            c = self.meaning(t.args[0])
            inside.facts += conjuncts(c) if k == 1 else [Not(c)]
        if t.op == "and" and k == 1:
            inside.facts += conjuncts(self.meaning(t.args[0]))
        return inside


class Defined:
    """Proves what terms owe.  What was proved once in the same place is not asked again."""

    def __init__(self, integers: Integers):
        self.integers = integers
        self.done: set[tuple[Term, Context, frozenset[Term]]] = set()

    def check(self, t: Term, here: Position) -> None:
        """Return if every cell of ``t`` is defined at the position; else ``Refuted`` with a witness, or ``Unknown``."""
        key = (t, here.ctx, frozenset(here.facts))
        if key in self.done:
            return
        if t.op in MOA:
            self._same_total(t, here)
            self.check(definition(t, here.ctx), here)
        elif t.op == "psi":
            array, *index = t.args
            for i, s in zip(index, typeof(array, here.ctx).shape, strict=True):
                self.check(i, here)
                self.check(s, here)
                self._within(i, s, here)
            self.cell(array, index, here)
        elif t.op != "in":
            self._node(t, here)
            for k, a in enumerate(t.args):
                self.check(a, here.under(t, k))
        self.done.add(key)

    def cell(self, t: Term, index: Sequence[Term], here: Position) -> None:
        """The cell of an array at a full index in range is defined.

        Arrays are by name: other cells owe nothing here.  But the value of a ``let`` is computed, so it owes all of
        its cells where it is bound.
        """
        a = t.args
        match t.op:
            case "in" | "var":
                return
            case _ if not index:
                self.check(t, here)
            case "build":
                self._node(t, here)
                self.check(a[0], here)
                self.cell(instantiate(a[1], [index[0]]), index[1:], here)
            case "tiles":
                self._node(t, here)
                for x in a[:3]:
                    self.check(x, here)
                q = Div(index[0], a[2])
                row = Add(index[0], Mul(Int(-1), Mul(q, a[2])))
                self.cell(instantiate(a[3], [q]), [row, *index[1:]], here)
            case "let":
                self.check(a[0], here)
                self.cell(a[1], [up(i) for i in index], here.under(t, 1))
            case "fold":
                self._node(t, here)
                self.check(a[0], here)
                self.check(a[1], here.under(t, 1))
                self.cell(a[2], [up(i) for i in index], here.under(t, 2))
            case _ if t.op in MOA:
                self._same_total(t, here)
                self.cell(definition(t, here.ctx), index, here)
            case _:
                self.check(t, here)

    def _prove(self, here: Position, goal: Term, what: str) -> None:
        self.integers.prove(here.facts, goal, what)

    def _node(self, t: Term, here: Position) -> None:
        a, at = t.args, here.meaning
        match t.op:
            case "flat":
                self._offset(a[1], typeof(a[0], here.ctx).shape, here)
            case "idiv":
                self._prove(here, Lt(ZERO, at(a[1])), "a divisor of an index is positive")
            case "build" | "fold":
                self._prove(here, Lt(Int(-1), at(a[0])), f"the extent of a {t.op} is not negative")
            case "tiles":
                s, b, tile = (at(x) for x in a[:3])
                self._prove(here, Lt(Int(-1), s), "the extent of tiles is not negative")
                self._prove(here, Lt(ZERO, tile), "a tile is not empty")
                self._prove(here, Lt(s, Add(Mul(b, tile), ONE)), "the tiles cover the axis")
            case "f":
                for x in a:
                    if t.data != "max" and typeof(x, here.ctx).sort == "opt":
                        self.attained(at(x), here)
                if t.data == "div":
                    self.positive(at(a[1]), here)
                if t.data == "sqrt":
                    self.positive(at(a[0]), here, or_zero=True)
            case "state":
                self._state(t, here)

    def _within(self, i: Term, extent: Term, here: Position) -> None:
        i, extent = here.meaning(i), here.meaning(extent)
        self._prove(here, Lt(Int(-1), i), "an index is not negative")
        self._prove(here, Lt(i, extent), "an index is below its extent")

    def _offset(self, offset: Term, shape: Sequence[Term], here: Position) -> None:
        """0 <= offset < product of the shape.

        A Horner form owes it level by level, which is more and easier: 0 <= i < s and 0 <= A < P give
        0 <= A*s + i < P*s.
        """
        if len(shape) > 1 and offset.op == "iadd" and offset.args[0].op == "imul":
            (rest, s), i = offset.args[0].args, offset.args[1]
            if normal(here.meaning(s)) is normal(here.meaning(shape[-1])):
                self._within(i, shape[-1], here)
                return self._offset(rest, shape[:-1], here)
        return self._within(offset, product(shape), here)

    def _same_total(self, t: Term, here: Position) -> None:
        """reshape and lift keep the number of elements."""
        if t.op not in ("reshape", "lift"):
            return
        new = t.args[1:] if t.op == "reshape" else t.args[1:3]
        shape = typeof(t.args[0], here.ctx).shape
        a = here.meaning(product(new))
        b = here.meaning(product(shape) if t.op == "reshape" else shape[t.data])
        if normal(a) is not normal(b):
            self._prove(here, Lt(a, Add(b, ONE)), f"{t.op} keeps the number of elements")
            self._prove(here, Lt(b, Add(a, ONE)), f"{t.op} keeps the number of elements")

    # --- maxima of something, divisors that are not 0 -------------------------------------------

    def attained(self, m: Term, here: Position) -> None:
        """The maximum ``m`` (a meaning) is of something: some index in sight is in its range and passes its guard."""
        if m.op == "fold" and m.data == "max":
            self._some(m, here, "the maximum is of at least one element", self.attained)
        elif m.op == "f" and m.data == "max":
            try:
                self.attained(m.args[0], here)
            except (Refuted, Unknown):
                self.attained(m.args[1], here)
        elif m.op == "where":
            self.attained(m.args[1], Position(here.ctx, [*here.facts, m.args[0]]))
            self.attained(m.args[2], Position(here.ctx, [*here.facts, Not(m.args[0])]))

    def _some(self, fold: Term, here: Position, what: str, then: Callable[[Term, Position], None]) -> None:
        """Find an index of the fold's range that passes its guard and satisfies ``then``.

        The candidates are the free indices in sight, innermost first, and 0.
        """
        extent, guard, element = fold.args
        candidates = [X(k) for k in reversed(range(len(here.ctx))) if isinstance(here.ctx[k], Index)] + [ZERO]
        for w in candidates:
            goals = [Lt(Int(-1), w), Lt(w, extent), *conjuncts(instantiate(guard, [w]))]
            if all(self.integers.holds(here.facts, g) for g in goals):
                then(instantiate(element, [w]), here)
                return
        why = "no index in sight is in range" if guard is TRUE else "no index in sight is in range and passes the guard"
        raise Unknown(f"{what}: {why}")

    def positive(self, v: Term, here: Position, or_zero: bool = False) -> None:
        """The real ``v`` (a meaning) is > 0, or >= 0."""
        if not self._positive(v, here, or_zero):
            raise Unknown(f"{'an argument of sqrt is not negative' if or_zero else 'a divisor is not 0'}: {v!r:.120}")

    def _positive(self, v: Term, here: Position, or_zero: bool) -> bool:
        match v.op, v.data:
            case "f", "exp":
                return True
            case "real", (numerator, _):
                return int(numerator) > 0 or (or_zero and int(numerator) == 0)
            case "cast", _:
                return self.integers.holds(here.facts, Lt(Int(-1) if or_zero else ZERO, v.args[0]))
            case "f", "sqrt":
                return or_zero or self._positive(v.args[0], here, or_zero)
            case "f", "mul" | "div":
                return all(self._positive(x, here, or_zero) for x in v.args)
            case "f", "add":
                weak = all(self._positive(x, here, or_zero=True) for x in v.args)
                return weak and (or_zero or any(self._positive(x, here, or_zero=False) for x in v.args))
            case "fold", "add":
                return self._positive_sum(v, here, or_zero)
            case "where", _:
                test, yes, no = v.args
                if not self._positive(yes, Position(here.ctx, [*here.facts, test]), or_zero):
                    return False
                other = Position(here.ctx, [*here.facts, Not(test)])
                return self.integers.holds(here.facts, test) or self._positive(no, other, or_zero)
        return False

    def _positive_sum(self, v: Term, here: Position, or_zero: bool) -> bool:
        """A sum of positive elements over at least one: every element is judged at a fresh index of the range."""
        x = here.new_index(v)
        extent, guard, element = v.args
        inside = Position(here.ctx, [*here.facts, *in_range(x, extent), *conjuncts(instantiate(guard, [x]))])
        if not self._positive(instantiate(element, [x]), inside, or_zero):
            return False
        if or_zero:
            return True
        try:
            self._some(v, here, "the sum is of at least one element", lambda element, at: None)
        except Unknown:
            return False
        return True

    def _state(self, t: Term, here: Position) -> None:
        """m and l and o are empty together, and l > 0 where m is not Empty."""
        m, l = here.meaning(t.args[0]), here.meaning(t.args[1])
        if typeof(t.args[0], here.ctx).sort == "real":
            self.positive(l, here)
            return
        first = here.new_index(m, l).data
        o = here.meaning(t.args[2], [X(first + k) for k in range(len(typeof(t.args[2], here.ctx).shape))])
        if not (m.op == l.op == o.op == "fold" and m.data == "max" and l.data == o.data == "add"):
            raise Unknown("state: m is no maximum with l and o sums beside it")
        same = all(normal(x.args[0]) is normal(m.args[0]) and x.args[1] is m.args[1] for x in (l, o))
        if not same:
            raise Unknown("state: m, l and o are not over the same range and guard")
        x = here.new_index(m, l)
        extent, guard, element = l.args
        inside = Position(here.ctx, [*here.facts, *in_range(x, extent), *conjuncts(instantiate(guard, [x]))])
        self.positive(instantiate(element, [x]), inside)
        self.attained(instantiate(m.args[2], [x]), inside)
