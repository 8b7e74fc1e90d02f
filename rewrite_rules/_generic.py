"""Building blocks of the generic instances in which laws are proved: arrays and functions of symbolic shape."""

from __future__ import annotations

from collections.abc import Sequence

from moaproof.term import ONE, ZERO, And, In, Le, Lt, Mul, Psi, Size, Sub, Term, Var

OWED = "owed by the terms: "


def owed(words: str) -> str:
    """A side condition that speaks of more than sizes.

    The checker computes it on the two terms of each step, and the generic instance realises it by construction.  In
    ``when`` it stands after the conditions that are data of the generic instance.
    """
    return OWED + words


def tiling(n: Term, b: Term, t: Term) -> tuple[Term, Term, Term]:
    """``b`` tiles of ``t`` cover the extent ``n``, none of them empty: t > 0, n <= b*t and (b-1)*t < n."""
    return Lt(ZERO, t), Le(n, Mul(b, t)), Lt(Mul(Sub(b, ONE), t), n)


IMPLIED = {0: "follows from the other two: t = 0 gives n = 0 by the second, and then 0 < 0 by the third"}


def every(first: Term, *others: Term) -> Term:
    """The conjunction: one condition on several axes."""
    for c in others:
        first = And(first, c)
    return first


def sizes(prefix: str, rank: int) -> tuple[Term, ...]:
    """``rank`` symbolic extents."""
    return tuple(Size(f"{prefix}{k}") for k in range(rank))


def array(name: str, extents: Sequence[Term], sort: str = "real") -> tuple[int, Term]:
    """A metavariable that stands for an input of these extents."""
    return 0, In(name, *extents, sort=sort)


def function(name: str, extents: Sequence[Term], sort: str = "real") -> tuple[int, Term]:
    """A metavariable of ``len(extents)`` arguments that stands for any function of them: an input's elements."""
    r = len(extents)
    return r, Psi(In(name, *extents, sort=sort), *[Var(r - 1 - k) for k in range(r)])


def index(k: int, total: int) -> tuple[int, Term]:
    """A metavariable that stands for the ``k``-th (from outside) of ``total`` generic indices."""
    return 0, Var(total - 1 - k)


def indices(names: Sequence[str], first: int, total: int) -> dict[str, tuple[int, Term]]:
    """Consecutive generic indices, starting with number ``first``."""
    return {name: index(first + k, total) for k, name in enumerate(names)}
