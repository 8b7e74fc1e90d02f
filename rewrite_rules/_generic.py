"""Building blocks of the generic instances in which laws are proved: arrays and functions of symbolic shape."""

from __future__ import annotations

from collections.abc import Sequence

from moaproof.term import In, Psi, Size, Term, Var


def sizes(prefix: str, rank: int) -> tuple[Term, ...]:
    """``rank`` symbolic extents."""
    return tuple(Size(f"{prefix}{k}") for k in range(rank))


def array(name: str, extents: Sequence[Term], sort: str = "real") -> tuple[int, Term]:
    """A metavariable that stands for an input of these extents."""
    return 0, In(name, *extents, sort=sort)


def function(name: str, extents: Sequence[Term], sort: str = "real") -> tuple[int, Term]:
    """A metavariable of ``len(extents)`` arguments that stands for an arbitrary function of them, as the elements of an input."""
    r = len(extents)
    return r, Psi(In(name, *extents, sort=sort), *[Var(r - 1 - k) for k in range(r)])


def index(k: int, total: int) -> tuple[int, Term]:
    """A metavariable that stands for the ``k``-th (from outside) of ``total`` generic indices."""
    return 0, Var(total - 1 - k)


def indices(names: Sequence[str], first: int, total: int) -> dict[str, tuple[int, Term]]:
    """Consecutive generic indices, starting with number ``first``."""
    return {name: index(first + k, total) for k, name in enumerate(names)}
