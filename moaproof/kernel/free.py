"""The free algebra: the meaning of a term as a term in psi-normal form.  Trusted.

The evaluator over free symbols leaves a core term in which there is no array, no ``let`` and no operator of the
calculus: reads of inputs at an offset, scalar functions, folds, and the judge's free indices ``x``.  Alpha-equal
meanings are one object, because folds are nameless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache

from ..operators import Context, Index
from ..semantics import environment, meaning
from ..shapes import normal
from ..term import TRUE, And, F, Flat, Fold, In, Int, Lt, Not, Size, Term, Var, Where

FALSE = Not(TRUE)


def X(number: int) -> Term:
    """A free index."""
    return Term("x", number)


def new_index(*groups: Iterable[Term]) -> Term:
    """A free index that none of the terms mentions.

    Its number depends on them alone, so equal questions stay equal.
    """
    return X(max((t.fresh for group in groups for t in group), default=0))


def close(t: Term, x: Term, level: int = 0) -> Term:
    """Bind the free index ``x``: it becomes variable 0, and outer variables move out by one."""
    seen: dict[tuple[Term, int], Term] = {}

    def go(u: Term, cut: int) -> Term:
        if u is x:
            return Var(cut)
        if u.fresh <= x.data and u.free <= cut:
            return u  # it mentions neither x nor a variable that would move
        if u.op == "var":
            return Var(u.data + 1)
        key = (u, cut)
        if key not in seen:
            seen[key] = Term(u.op, u.data, [go(a, cut + n) for a, n in zip(u.args, u.binds, strict=True)])
        return seen[key]

    return go(t, level)


def conjuncts(guard: Term) -> list[Term]:
    """The parts of a conjunction, each once."""
    if guard.op == "and":
        return list(dict.fromkeys(conjuncts(guard.args[0]) + conjuncts(guard.args[1])))
    return [] if guard is TRUE else [guard]


def assume(t: Term, known: frozenset[Term]) -> Term:
    """``t`` where each ``where`` on a known condition takes its first branch."""
    if not known or not t.args:
        return t
    if t.op == "where" and known.issuperset(conjuncts(t.args[0])):
        return assume(t.args[1], known)
    return Term(t.op, t.data, [a if n else assume(a, known) for a, n in zip(t.args, t.binds, strict=True)])


class Free:
    """The algebra whose scalars are terms.  ``depth`` is the number of the next free index."""

    cells = None

    def __init__(self, depth: int = 0):
        self.depth = depth

    def integer(self, value: int) -> Term:
        return Int(value)

    def size(self, name: str) -> Term:
        return Size(name)

    def index(self, op: str, a: Term, b: Term) -> Term:
        return Term(op, None, (a, b))

    def symbol(self, x: Term) -> Term:
        return x

    def true(self) -> Term:
        return TRUE

    def lt(self, a: Term, b: Term) -> Term:
        if a.op == b.op == "int":
            return TRUE if a.data < b.data else FALSE
        return Lt(a, b)

    def both(self, a: Term, b: Callable[[], Term]) -> Term:
        right = b()
        return right if a is TRUE else a if right is TRUE else And(a, right)

    def negate(self, a: Term) -> Term:
        return Not(a)

    def rational(self, value: Fraction) -> Term:
        return Term("real", (str(value.numerator), str(value.denominator)))

    def cast(self, index: Term) -> Term:
        return Term("cast", None, (index,))

    def apply(self, function: str, args: Sequence[Term]) -> Term:
        return F(function, *args)

    def where(self, c: Term, yes: Callable[[], Term], no: Callable[[], Term]) -> Term:
        if c in (TRUE, FALSE):
            return yes() if c is TRUE else no()
        return Where(c, yes(), no())

    def read(self, name: str, sort: str, offset: Term, total: Term) -> Term:
        return Flat(In(name, normal(total), sort=sort), offset)

    def within(self, index: tuple[Term, ...], shape: Callable[[], tuple[Term, ...]]) -> None:
        """Ranges are obligations of ``kernel.defined``."""

    def fold(self, monoid: str, extent: Term, guard: Callable[[Term], Term], element: Callable[[Term], Term]) -> Term:
        x = X(self.depth)
        self.depth += 1
        try:
            seen = guard(x)
            body = assume(element(x), frozenset(conjuncts(seen)))
        finally:
            self.depth -= 1
        return Fold(monoid, extent, close(body, x), close(seen, x))

    def state(self, m: Term, l: Term, o: Term) -> Term:
        return Term("state", None, (m, l, o))

    def quotient(self, state: Term) -> Term:
        return Term("quotient", None, (state,))


def indices(ctx: Context) -> list[Term]:
    """The free indices that stand for the Index entries of a context, outermost first."""
    return [X(k) for k, entry in enumerate(ctx) if isinstance(entry, Index)]


def symbolic(t: Term, ctx: Context, at: Sequence[Term] = ()) -> Term:
    """The meaning of ``t`` in its context at a full index, each Index entry standing for its own free index."""
    return _symbolic(t, ctx, tuple(at))


@lru_cache(maxsize=100_000)
def _symbolic(t: Term, ctx: Context, at: tuple[Term, ...]) -> Term:
    algebra = Free(max(len(ctx), *(i.fresh for i in at), 0))
    env = environment(ctx, indices(ctx), algebra)
    found: Term = meaning(t, at, ctx, env, algebra)
    return found
