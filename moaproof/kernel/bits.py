"""Equality that keeps every bit: two meanings walked in parallel over the free algebra.  Trusted.

Scalar functions and folds stay free: the same operations, in the same order, on the same data.  Only where the walk
meets *index* expressions is there something to decide, one polynomial equality each: our normal form and SymPy must
answer alike, else the judges disagree; where both say no, Z3 may still prove it from the ranges.  Guards that differ
must be proved equivalent.  A nested fold of ``max`` over tiles is the fold over the whole range (every bit kept on data
without NaN).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import IllFormed, JudgesDisagree, MoaproofError
from ..operators import INDEX_SORTED
from ..shapes import normal, same_index
from ..term import ONE, TRUE, ZERO, Add, Int, Lt, Mul, Not, Sub, Term, instantiate
from .free import X, close, conjuncts, new_index
from .integers import Integers, Tally
from .sympy_index import sympy_equal

TRUTHS = frozenset({"true", "lt", "and", "not"})


class Different(MoaproofError):
    """The two meanings differ, or are not seen to be equal: says where."""


@dataclass
class Deciders:
    """The engines that a check uses, each with its tally, and the caches that they share between steps."""

    integers: Integers = field(default_factory=Integers)
    normaliser: Tally = field(default_factory=Tally)
    sympy: Tally = field(default_factory=Tally)
    compared: set[tuple[Term, Term]] = field(default_factory=set)

    def index_equal(self, a: Term, b: Term, facts: list[Term]) -> None:
        """Two index terms are equal, or ``Different``."""
        if a is b:
            self.normaliser.trivial += 1
            self.sympy.trivial += 1
            return
        if (a, b) in self.compared:
            self.normaliser.repeated += 1
            self.sympy.repeated += 1
            return
        ours, theirs = same_index(a, b), sympy_equal(a, b)
        if ours != theirs:
            raise JudgesDisagree(f"index equality of {a!r:.120} and {b!r:.120}: normaliser {ours}, SymPy {theirs}")
        if ours:
            self.normaliser.substantive += 1
            self.sympy.substantive += 1
            self.compared.add((a, b))
        elif not (self.integers.holds(facts, Lt(a, Add(b, ONE))) and self.integers.holds(facts, Lt(b, Add(a, ONE)))):
            raise Different(f"two indices differ: {normal(a)!r:.160} and {normal(b)!r:.160}")


def same_bits(a: Term, b: Term, facts: list[Term], deciders: Deciders) -> None:
    """Return if the meanings ``a`` and ``b`` compute the same bits under the facts; else ``Different``."""
    if a is b:
        deciders.normaliser.trivial += 1
        return None
    if a.op in INDEX_SORTED and b.op in INDEX_SORTED:
        return deciders.index_equal(a, b, facts)
    if a.op in TRUTHS or b.op in TRUTHS or (a.op == b.op == "flat" and a.args[0].data[1] == "bool"):
        return same_truth(a, b, facts, deciders)
    if a.op == "fold" == b.op and a.data == b.data:
        return _same_fold(a, b, facts, deciders)
    if (a.op == "where") != (b.op == "where"):
        test, *branches = (a if a.op == "where" else b).args
        if _holds(test, facts, deciders.integers):  # padding: the test holds wherever the value is used
            a, b = (branches[0] if t.op == "where" else t for t in (a, b))
            return same_bits(a, b, facts, deciders)
    if a.op != b.op or a.data != b.data or len(a.args) != len(b.args):
        raise Different(f"different operations: {a!r:.120} and {b!r:.120}")
    if a.op == "where":
        same_truth(a.args[0], b.args[0], facts, deciders)
        same_bits(a.args[1], b.args[1], [*facts, a.args[0]], deciders)
        return same_bits(a.args[2], b.args[2], [*facts, Not(a.args[0])], deciders)
    if any(a.binds):
        raise Different(f"{a.op} stands in a meaning")
    for x, y in zip(a.args, b.args, strict=True):
        same_bits(x, y, facts, deciders)
    return None


def _holds(test: Term, facts: list[Term], integers: Integers) -> bool:
    """Is the test of a choice proved?  No, if it is no integer question, or stands among such facts."""
    try:
        return integers.holds(facts, test)
    except IllFormed:
        return False


def _same_fold(a: Term, b: Term, facts: list[Term], deciders: Deciders) -> None:
    try:
        deciders.index_equal(a.args[0], b.args[0], facts)
    except Different:
        flat_a, flat_b = (flatten(t, facts, deciders.integers) for t in (a, b))
        if a.data != "max" or (flat_a is a and flat_b is b):
            raise
        return same_bits(flat_a, flat_b, facts, deciders)
    x = new_index([a, b], facts)
    inside = [*facts, *in_range(x, a.args[0])]
    guard_a, guard_b = (instantiate(t.args[1], [x]) for t in (a, b))
    same_truth(guard_a, guard_b, inside, deciders)
    body_a, body_b = (instantiate(t.args[2], [x]) for t in (a, b))
    return same_bits(body_a, body_b, [*inside, *conjuncts(guard_a)], deciders)


def same_truth(a: Term, b: Term, facts: list[Term], deciders: Deciders) -> None:
    """Two truth values agree: the same tree up to index equality, or Z3 proves each from the other."""
    if a is b:
        deciders.normaliser.trivial += 1
        return
    if a.op == b.op and a.op != "flat" and len(a.args) == len(b.args):
        try:
            for x, y in zip(a.args, b.args, strict=True):
                same_bits(x, y, facts, deciders)
            return
        except Different:
            pass  # the trees differ: the guards may still be equivalent
    prove = deciders.integers.holds
    if not (prove([*facts, a], b) and prove([*facts, b], a)):
        raise Different(f"two guards are not seen to be equivalent: {a!r:.120} and {b!r:.120}")


def in_range(x: Term, extent: Term) -> list[Term]:
    """0 <= x < extent, as facts."""
    return [Lt(Int(-1), x), Lt(x, extent)]


def flatten(t: Term, facts: list[Term], integers: Integers) -> Term:
    """A fold over tiles of a fold over a tile's rows, as one fold over the whole range; ``t`` itself if it is none.

    fold J<b (gJ) fold t<min(t0, s - J*t0) (g) e   ==>   fold k<s (g) e   with k = J*t0 + t,
    if b*t0 >= s and t0 > 0, if e and g mention J and t through k alone, and if g implies gJ.  For an associative monoid
    the value is the same; the elements and their order are the same, only the brackets move.
    """
    b, outer_guard, inner = t.args
    if inner.op != "fold" or inner.data != t.data or inner.args[0].op != "imin":
        return t
    big = new_index([t], facts)  # J
    small = X(big.data + 1)  # t
    extent, guard, body = (instantiate(u, [small]) if k else u for k, u in enumerate(inner.args))
    extent, guard, body = (instantiate(u, [big]) for u in (extent, guard, body))
    for tile, rest in (extent.args, extent.args[::-1]):
        whole = normal(Add(rest, Mul(big, tile)))
        if _occurs(whole, big) or _occurs(tile, big):
            continue
        k_minus = Sub(small, Mul(big, tile))  # t in terms of k, whose name is ``small`` from here on
        new_guard, new_body = (_renormal(_put(u, small, k_minus)) for u in (guard, body))
        if _occurs(new_guard, big) or _occurs(new_body, big):
            continue
        covered = [Lt(ZERO, tile), Lt(whole, Add(Mul(b, tile), ONE))]
        if not all(integers.holds(facts, c) for c in covered):
            continue
        implied = instantiate(outer_guard, [big])
        inside = [*facts, *in_range(big, b), *in_range(small, extent), *conjuncts(guard)]
        if implied is not TRUE and not integers.holds(inside, implied):
            continue
        return Term("fold", t.data, (whole, close(new_guard, small), close(new_body, small)))
    return t


def _occurs(t: Term, x: Term) -> bool:
    return t is x or any(_occurs(a, x) for a in t.args)


def _put(t: Term, x: Term, value: Term) -> Term:
    return instantiate(close(t, x), [value])


def _renormal(t: Term) -> Term:
    """Every outermost index expression of ``t`` in normal form."""
    if t.op in INDEX_SORTED or t.op == "var":
        return normal(t)
    return Term(t.op, t.data, [_renormal(a) for a in t.args]) if t.args else t
