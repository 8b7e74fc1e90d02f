"""One step: apply it, then judge the two terms.  Trusted; the name of the rule plays no part in the judgement.

The checker asks of the replaced subterm and its replacement, in the context that it derives from the path: the same
sort and shape, that the replacement is defined, and that the meanings agree, in every bit if possible, else over the
reals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import CertificateInvalid, IllFormed, Refuted
from ..operators import typeof
from ..term import AXES, Term, replace_at
from .bits import Deciders, Different, in_range
from .defined import Defined, Position
from .free import X
from .reals import judge


@dataclass(frozen=True, slots=True)
class Judged:
    """The outcome of a step: the next whole term and the class that was computed (I, S or R)."""

    after: Term
    kind: str


def locate(t: Term, path: Sequence[int], facts: Sequence[Term]) -> tuple[Term, Position]:
    """The subterm at a path, and its position under the global facts."""
    here = Position((), facts)
    for k in path:
        if t.op == "in" or not (type(k) is int and 0 <= k < len(t.args)):
            raise CertificateInvalid(f"the path leaves the term at {t.op}")
        try:
            here = here.under(t, k)
        except IllFormed as e:
            raise CertificateInvalid(f"the path enters {t.op}: {e}") from None
        t = t.args[k]
    return t, here


class Checker:
    """Judges steps under the hypotheses of one certificate; deciders and their caches may be shared."""

    def __init__(self, facts: Sequence[Term], deciders: Deciders | None = None):
        self.facts = list(facts)
        self.deciders = deciders or Deciders()
        self.defined = Defined(self.deciders.integers)

    def check_defined(self, t: Term) -> None:
        """A whole term is well-formed and defined."""
        typeof(t)
        self.defined.check(t, Position((), self.facts))

    def judge(self, whole: Term, path: Sequence[int], old: Term, new: Term, here: Position) -> Judged:
        """Replace ``old`` at ``path`` by ``new``: the next term and its class, or an error that says why not."""
        before, after = typeof(old, here.ctx), typeof(new, here.ctx)
        if before.sort != after.sort or len(before.shape) != len(after.shape):
            raise Refuted(
                f"sort or rank changes: {before.sort} of rank {len(before.shape)}"
                f" becomes {after.sort} of rank {len(after.shape)}"
            )
        for s, z in zip(before.shape, after.shape, strict=True):
            try:
                self.deciders.index_equal(here.meaning(s), here.meaning(z), here.facts)
            except Different as e:
                raise Refuted(f"the shape changes: {e}") from None
        self.defined.check(new, here)
        facts, at = list(here.facts), []
        first = here.new_index().data
        for k, s in enumerate(before.shape):
            at.append(X(first + k))
            facts += in_range(at[-1], here.meaning(s))
        try:
            agreement = judge(here.meaning(old, at), here.meaning(new, at), facts, self.deciders)
        except Different as e:
            raise Refuted(f"the two terms are not seen to be equal: {e}") from None
        kind = "R" if agreement == "reals" else "S" if structure(old) != structure(new) else "I"
        return Judged(replace_at(whole, path, new), kind)


def structure(t: Term) -> tuple[int, ...]:
    """What sharing changes: the numbers of lets and of axes bound to the machine (a label, without consequences)."""
    lets = int(t.op == "let")
    bound = [int(t.op in ("build", "tiles") and t.data == axis) for axis in AXES[1:]]
    parts = [structure(a) for a in t.args]
    return tuple(own + sum(p[k] for p in parts) for k, own in enumerate((lets, *bound)))
