"""Definedness: what each node owes so that its meaning exists.  Trusted; a table, one clause for each node kind.

| node | owes |
|---|---|
| psi, flat | every index within its extent, an offset within the ravel |
| idiv | a positive divisor |
| build, fold, tiles | extents not negative; tiles: t > 0 and b*t >= s |
| reshape, lift | as many elements as before |
| f | no argument is the maximum of nothing; div: a divisor that is not 0; sqrt: an argument that is not negative |
| state | m Empty only together with l and o: l and o are sums over the range and guard of the maximum m, l's terms > 0 |

``where`` and guards short-circuit: what they exclude owes nothing.  A fold of a hidden argument (under ``let``) owes what
it owes where it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import Refuted, Unknown
from ..operators import MOA, Context, Index, definition, opened, typeof
from ..shapes import normal, product
from ..term import ONE, TRUE, ZERO, Add, Int, Lt, Not, Term, instantiate, up
from .bits import in_range
from .free import X, conjuncts, symbolic
from .integers import Integers


class Position:
    """Where a term stands: its context, and the facts that hold there (ranges, guards, branches)."""

    def __init__(self, ctx: Context = (), facts: Sequence[Term] = ()):
        self.ctx, self.facts = ctx, list(facts)

    def meaning(self, t: Term, at: Sequence[Term] = ()) -> Term:
        return symbolic(t, self.ctx, at)

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

    def check(self, t: Term, here: Position, known: frozenset[Term] = frozenset()) -> None:
        """Return if ``t`` is defined at the position; else ``Refuted`` with a witness, or ``Unknown``.

        ``known`` are terms already proved defined further out; they are not entered again.
        """
        key = (t, here.ctx, frozenset(here.facts))
        if t in known or key in self.done:
            return
        if t.op in ("reshape", "lift"):
            self._same_total(t, here)
        if t.op in MOA:
            for a in t.args[:-1] if t.op == "omega" else t.args:
                self.check(a, here, known)
            self.check(definition(t, here.ctx), here, known.union(t.args))
        elif t.op != "in":
            self._node(t, here)
            for k, (a, n) in enumerate(zip(t.args, t.binds, strict=True)):
                self.check(a, here.under(t, k), frozenset(up(x, n) for x in known))
        self.done.add(key)

    def _prove(self, here: Position, goal: Term, what: str) -> None:
        self.integers.prove(here.facts, goal, what)

    def _node(self, t: Term, here: Position) -> None:
        a, at = t.args, here.meaning
        match t.op:
            case "psi":
                extents = typeof(a[0], here.ctx).shape
                for i, s in zip(a[1:], extents, strict=True):
                    self._within(at(i), at(s), here, "an index")
            case "flat":
                self._within(at(a[1]), at(product(typeof(a[0], here.ctx).shape)), here, "an offset")
            case "idiv":
                self._prove(here, Lt(ZERO, at(a[1])), "a divisor of an index is positive")
            case "build" | "fold":
                self._prove(here, Lt(Int(-1), at(a[0])), f"the extent of a {t.op} is not negative")
            case "tiles":
                s, b, tile = (at(x) for x in a[:3])
                self._prove(here, Lt(ZERO, tile), "a tile is not empty")
                self._prove(here, Lt(s, Add(Term("imul", None, (b, tile)), ONE)), "the tiles cover the axis")
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

    def _within(self, i: Term, extent: Term, here: Position, what: str) -> None:
        self._prove(here, Lt(Int(-1), i), f"{what} is not negative")
        self._prove(here, Lt(i, extent), f"{what} is below its extent")

    def _same_total(self, t: Term, here: Position) -> None:
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
        """Find an index of the fold's range that passes its guard and satisfies ``then``: the candidates are the free
        indices in sight, innermost first, and 0."""
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
        both = lambda: all(self._positive(x, here, or_zero) for x in v.args)  # noqa: E731
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
                return both()
            case "f", "add":
                a, b = v.args
                weak = self._positive(a, here, True) and self._positive(b, here, True)
                return weak and (or_zero or self._positive(a, here, False) or self._positive(b, here, False))
            case "fold", "add":
                return self._positive_sum(v, here, or_zero)
        return False

    def _positive_sum(self, v: Term, here: Position, or_zero: bool) -> bool:
        """A sum of positive elements over at least one: every element is judged at a fresh index of the range."""
        x = X(2 * 10**6 + v.depth)
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
        m, l = here.meaning(t.args[0]), here.meaning(t.args[1])  # noqa: E741
        if typeof(t.args[0], here.ctx).sort == "real":
            self.positive(l, here)
            return
        cells = [X(10**6 + k) for k in range(len(typeof(t.args[2], here.ctx).shape))]
        o = here.meaning(t.args[2], cells)
        if not (m.op == l.op == o.op == "fold" and m.data == "max" and l.data == o.data == "add"):
            raise Unknown("state: m is no maximum with l and o sums beside it")
        same = all(normal(x.args[0]) is normal(m.args[0]) and x.args[1] is m.args[1] for x in (l, o))
        if not same:
            raise Unknown("state: m, l and o are not over the same range and guard")
        x = X(2 * 10**6 + t.depth)
        extent, guard, element = l.args
        inside = Position(here.ctx, [*here.facts, *in_range(x, extent), *conjuncts(instantiate(guard, [x]))])
        self.positive(instantiate(element, [x]), inside)
        self.attained(instantiate(m.args[2], [x]), inside)
