"""Spec to Denotational Normal Form by psi-reduction: class I only, for any array program.

Extensionality gives the root a full index; then the index is pushed inwards, outermost redex first, until every array
that is indexed is an input.  Nothing here knows of attention.
"""

from __future__ import annotations

from typing import Any

from ..errors import NotCovered
from ..kernel.checker import is_dnf
from ..operators import MOA, Context, typeof
from ..term import Term
from .chain import Chain

Redex = tuple[str, tuple[Any, ...]]


def redex(t: Term, ctx: Context) -> Redex | None:
    """The law that fits at this node, if any: an element of a comprehension or of an operator's result."""
    if t.op in ("delta", "tau"):
        return t.op, (len(typeof(t.args[0], ctx).shape),)
    if t.op == "flat" and t.args[0].op != "in":
        return "flat-ravel", ()
    rank = len(t.args) - 1 if t.op == "psi" else 0
    array = t.args[0] if t.op == "psi" else t
    if array.op == "build" and rank:
        return "psi-build", (rank,)
    if array.op not in MOA or (not rank and typeof(array, ctx).shape):
        return None
    return _operator(array, t, rank, ctx)


def _operator(a: Term, whole: Term, rank: int, ctx: Context) -> Redex | None:  # noqa: C901  one clause an operator
    ranks = [len(typeof(x, ctx).shape) for x in (a.args[:-1] if a.op == "omega" else a.args)]
    match a.op:
        case "transpose":
            return "psi-transpose", (a.data,)
        case "take" | "drop":
            return f"psi-{a.op}", (a.data, rank)
        case "cat" | "reverse" | "rotate":
            return f"psi-{a.op}", (rank,)
        case "reshape":
            return ("psi-reshape", (ranks[0], rank)) if ranks[0] else None
        case "ravel":
            return "psi-ravel", (ranks[0],)
        case "lift":
            return "psi-lift", (a.data, rank - 1)
        case "broadcast":
            own = tuple(int(s.op == "int" and s.data == 1) for s in typeof(a.args[0], ctx).shape)
            return "psi-broadcast", (own, rank - len(own))
        case "iota":
            if len(a.args) == 1:
                return "psi-iota", ()
            return ("psi-iota-vector", (len(a.args), whole.args[-1].data)) if whole.args[-1].op == "int" else None
        case "rho":
            return ("psi-rho", (ranks[0], whole.args[1].data)) if whole.args[1].op == "int" else None
        case "map":
            return "psi-map", (a.data, rank)
        case "pointwise":
            if ranks[0] == ranks[1]:
                return "psi-pointwise", (a.data, rank)
            return ("psi-scalar-left" if ranks[0] == 0 else "psi-scalar-right"), (a.data, rank)
        case "omega":
            frame = max(r - c for r, c in zip(ranks, a.data, strict=True))
            return ("psi-omega" if len(ranks) == 1 else "psi-omega2"), (*ranks, *a.data, rank - frame)
        case "reduce":
            return "psi-reduce", (*a.data, ranks[0], len(ranks) == 2)
        case "outer":
            return "psi-outer", (a.data, *ranks)
        case "inner":
            return "psi-inner", (*a.data, ranks[0], ranks[1], len(ranks) == 3)
    return None


def _leading_builds(t: Term) -> int:
    return 1 + _leading_builds(t.args[1]) if t.op == "build" else 0


def to_dnf(chain: Chain) -> Term:
    """Reduce the chain's term to its DNF, and return it."""
    rank = len(typeof(chain.term).shape)
    if _leading_builds(chain.term) < rank:
        chain.do("extensionality", (), rank)
    chain.everywhere(redex)
    if not is_dnf(chain.term):
        raise NotCovered("to_dnf: no law reduces what is left of the Spec; moaproof rules lists the laws")
    return chain.term
