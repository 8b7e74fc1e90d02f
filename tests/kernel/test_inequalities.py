"""The real inequalities of softmax: every committed ONF has them, and every way to lose one is refused.

Each mutant is a term that valid steps lead to (the kernel's own judge says so, class R and all), which is why the last
term itself must owe them; and for each a point is found at which floats go wrong or would: an exponent above 0, a
divisor below 1, a difference of nothing and nothing.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moaproof import term as term_module
from moaproof.derive.chain import Chain
from moaproof.derive.schedules.cpu import rows
from moaproof.errors import IllFormed, Refuted, Unknown
from moaproof.kernel.bits import Deciders
from moaproof.kernel.certificate import Certificate, parse, sizes_of
from moaproof.kernel.checker import facts_of
from moaproof.kernel.defined import Position
from moaproof.kernel.inequalities import check_inequalities
from moaproof.kernel.points import draw_sizes, random_inputs
from moaproof.kernel.step import Checker, locate
from moaproof.semantics import Numbers, evaluate
from moaproof.term import (
    ONE,
    TRUE,
    ZERO,
    Add,
    And,
    Build,
    F,
    Fold,
    In,
    Int,
    Le,
    Let,
    Lt,
    Min,
    Mul,
    Not,
    Psi,
    Real,
    Size,
    Sub,
    Term,
    Var,
    Where,
    subterms,
    tile_extent,
    up,
)
from moaproof.testing.profiles import profile

h, n, m, dk, dv, b, t = map(Size, ("h", "n", "m", "dk", "dv", "bk", "tk"))
Q, K, V, MASK = In("q", h, n, dk), In("k", h, m, dk), In("v", h, m, dv), In("mask", h, n, m, sort="bool")
SCALE = In("scale")
INPUTS = (Q, K, V, SCALE, MASK)
TILES = (Lt(ZERO, t), Lt(Mul(Sub(b, ONE), t), m), Le(m, Mul(b, t)))  # b tiles of t cover the keys
CERTIFICATES = sorted(
    entry.name.removesuffix(".json") for entry in files("moaproof.certs").iterdir() if entry.name.endswith(".json")
)


def certificate(name: str) -> Certificate:
    return parse(files("moaproof.certs").joinpath(f"{name}.json").read_bytes())


def places(t_: Term, wanted: Callable[[Term], bool], path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    if wanted(t_):
        yield path
    for k, a in enumerate(t_.args):
        yield from places(a, wanted, (*path, k))


def is_f(name: str) -> Callable[[Term], bool]:
    return lambda u: u.op == "f" and bool(u.data == name)


# --- the committed certificates -------------------------------------------------------------------


def test_the_certificates_are_here() -> None:
    assert {"attention-online", "attention-rows", "masked-rows", "scaled-online", "unshifted-online"} <= set(
        CERTIFICATES
    )
    assert len(CERTIFICATES) >= 12


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_committed_onf_owes_nothing_more(name: str) -> None:
    """Every exponential, division, root, state, quotient, merge and cast of the term has its record, at its path."""
    c, deciders = certificate(name), Deciders()
    deciders.integers.witnesses = c.witnesses
    found = check_inequalities(c.onf, facts_of(c), deciders)
    due: dict[str, list[tuple[int, ...]]] = {
        "exponent": list(places(c.onf, is_f("exp"))),
        "divisor": list(places(c.onf, lambda u: is_f("div")(u) or u.op == "quotient")),
        "root": list(places(c.onf, is_f("sqrt"))),
        "weight": list(places(c.onf, lambda u: u.op == "state")),
        "merge": list(places(c.onf, lambda u: u.op == "fold" and u.data == "softmax")),
        "cast": list(places(c.onf, lambda u: u.op == "cast")),
    }
    for kind, paths in due.items():
        assert sorted(o.path for o in found.obligations if o.kind == kind) == sorted(paths), kind
    assert due["exponent"]
    assert all(o.bound == 0 for o in found.obligations if o.kind == "exponent")
    assert all(o.bound == 1 for o in found.obligations if o.kind in ("divisor", "weight"))
    assert found.count("not empty") == found.count("exponent")
    assert len(found.casts) == found.count("cast")
    asked = deciders.integers.tally.row()[1:]
    assert asked == [0, 0] or "cuda" in name  # rows of padding are asked for: is there a key that they see?
    assert not deciders.integers.on_word  # what is asked has a witness in the certificate


def test_the_shifted_onf_of_an_unshifted_spec_is_fine_and_its_own_dnf_is_not() -> None:
    c = certificate("unshifted-online")
    facts = facts_of(c)
    assert check_inequalities(c.onf, facts).count("exponent") == 1
    with pytest.raises(Unknown, match=r"^node 1\.1\.1\.1\.2\.0\.0 \(f exp\): no upper bound is seen: it is a f mul"):
        check_inequalities(c.dnf, facts)


# --- by rows: an R step to another shift, then a schedule of I and S steps -------------------------


def score(i: Term, k: Term, head: Term) -> Term:
    """The score of a query and a key, in a context of head, i, column, ..; the indices live where it stands."""
    j = Var(0)
    read = F("mul", Psi(Q, up(head), up(i), j), Psi(K, up(head), up(k), j))
    return F("mul", Fold("add", dk, read), SCALE)


def top(guard: Term = TRUE, extent: Term = m, element: Term | None = None) -> Term:
    """The maximum over the keys, where an element of the result stands (head, i, column)."""
    return Fold("max", extent, score(Var(2), Var(0), Var(3)) if element is None else element, guard)


def attention(guard: Term, shift: Term | None) -> Term:
    """The DNF of a softmax: sum_k e^(s-T) / (sum_k e^(s-T)) * v, T the shift."""

    def weight(depth: int) -> Term:
        s = score(Var(1 + depth), Var(0), Var(2 + depth))
        return F("exp", s if shift is None else F("sub", s, up(shift, depth)))

    total = Fold("add", m, weight(2), up(guard, 1, 1))
    weighted = F("mul", F("div", weight(1), total), Psi(V, Var(3), Var(0), Var(1)))
    return Build(h, Build(n, Build(dv, Fold("add", m, weighted, guard))))


CAUSAL = Le(Var(0), Var(2))  # under the fold over the keys of an element: key k, column, query i
MASKED = Psi(MASK, Var(3), Var(2), Var(0))
S = score(Var(2), Var(0), Var(3))
UP_TO_LAST = Not(And(Lt(ONE, m), Lt(Sub(m, Int(2)), Var(0))))  # all keys but the last, if there are two

# name: (guard of the softmax, the shift or None, the place, the reason)
EXPONENT, DIVISOR = r"\(f exp\)", r"\(f div\)"
NO_ELEMENT, BEYOND, HIDDEN, NO_MAXIMUM, NOT_ATTAINED = (
    "no element of the maximum is seen to be this score",
    "the score is an element beyond the maximum's range; it fails at ",
    "the score is an element that the maximum's guard hides",
    "what is subtracted is no maximum of the score",
    "the shift is not seen to be attained by a score of the sum",
)
ROWS: dict[str, tuple[Term, Term | None, str, str]] = {
    "no shift": (TRUE, None, EXPONENT, "no upper bound is seen: it is a f mul, no score minus its maximum"),
    "no shift, causal": (CAUSAL, None, EXPONENT, "no upper bound is seen"),
    "plus the maximum": (TRUE, F("neg", top()), EXPONENT, f"{NO_MAXIMUM}: it is a f neg"),
    "the minimum": (TRUE, F("neg", top(element=F("neg", S))), EXPONENT, NO_MAXIMUM),
    "the maximum of the negated scores": (TRUE, top(element=F("neg", S)), EXPONENT, NO_ELEMENT),
    "the maximum of the first row": (TRUE, top(element=score(ZERO, Var(0), Var(3))), EXPONENT, NO_ELEMENT),
    "the maximum of the first head": (TRUE, top(element=score(Var(2), Var(0), ZERO)), EXPONENT, NO_ELEMENT),
    "the maximum of the first tile": (TRUE, top(extent=Min(Int(4), m)), EXPONENT, BEYOND),
    "one key less": (TRUE, top(UP_TO_LAST), EXPONENT, HIDDEN),
    "a stronger guard": (TRUE, top(CAUSAL), EXPONENT, HIDDEN),
    "a strictly causal shift": (CAUSAL, F("max", top(Lt(Var(0), Var(2))), Real(-1)), EXPONENT, NO_MAXIMUM),
    "twice the maximum": (TRUE, F("mul", Real(2), top()), EXPONENT, f"{NO_MAXIMUM}: it is a f mul"),
    "half the maximum": (TRUE, F("mul", Real(1, 2), top()), EXPONENT, f"{NO_MAXIMUM}: it is a f mul"),
    "the scale twice": (TRUE, top(element=F("mul", S, SCALE)), EXPONENT, NO_ELEMENT),
    "the scale forgotten": (TRUE, top(element=S.args[0]), EXPONENT, NO_ELEMENT),
    "the score of the first key": (TRUE, score(Var(1), ZERO, Var(2)), EXPONENT, NO_MAXIMUM),
    "a constant": (TRUE, Real(50), EXPONENT, "what is subtracted is no maximum"),
    "the maximum of all keys under a causal guard": (CAUSAL, top(), DIVISOR, f"{NOT_ATTAINED}: {HIDDEN}"),
    "the maximum of all keys under a mask": (MASKED, top(), DIVISOR, f"{NOT_ATTAINED}: {HIDDEN}"),
    "the maximum of all rows": (
        TRUE,
        Fold("max", n, Fold("max", m, score(Var(1), Var(0), Var(4)))),
        DIVISOR,
        f"{NOT_ATTAINED}: {NO_ELEMENT}",
    ),
    "the maximum or 0": (TRUE, F("max", top(), Real(0)), DIVISOR, NOT_ATTAINED),
    "the maximum and one": (TRUE, F("add", top(), Real(1)), EXPONENT, f"{NO_MAXIMUM}: it is a f add"),
}


def valid(old: Term, new: Term, deciders: Deciders, facts: Sequence[Term] = ()) -> str:
    """The class that the kernel gives to the step from one whole term to the other, and to nothing undefined."""
    checker = Checker(facts, deciders)
    checker.check_defined(new)
    return checker.judge(old, (), old, new, Position((), facts)).kind


@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_shift_by_a_valid_step_dies_here(name: str, deciders: Deciders) -> None:
    guard, shift, place, reason = ROWS[name]
    old, new = attention(guard, top(guard)), attention(guard, shift)
    assert valid(old, new, deciders) == "R"
    check_inequalities(old, ())
    with pytest.raises(Unknown, match=rf"^node [\d.]+ {place}: .*{reason}"):
        check_inequalities(new, ())
    assert goes_wrong(new)


@pytest.mark.parametrize("name", ["no shift", "the maximum of the first tile", "the maximum of all keys under a mask"])
def test_a_schedule_does_not_hide_it(name: str) -> None:
    """Rule by rule: an R step away from the maximum, one to another shift, then ``rows``, of I and S steps."""
    guard, shift, _, reason = ROWS[name]
    chain = Chain(attention(guard, top(guard)))
    element = (1, 1, 1)
    chain.do("softmax-shift", element, backwards=True, T=(0, top(guard)))
    if shift is not None:
        chain.do("softmax-shift", element, T=(0, shift))
    assert {line.kind for line in chain.lines} == {"R"}
    assert chain.term is attention(guard, shift)
    done = len(chain.lines)
    rows(chain)
    assert {line.kind for line in chain.lines[done:]} == {"I", "S"}
    chain.checker.check_defined(chain.term)
    with pytest.raises(Unknown, match=reason):
        check_inequalities(chain.term, chain.checker.facts)
    assert goes_wrong(chain.term)


KEY = Add(Mul(Var(1), t), Var(0))  # key Var(0) of tile Var(1)
RIGHT: dict[str, tuple[Term, Term]] = {
    "the maximum": (TRUE, top()),
    "under a causal guard": (CAUSAL, top(CAUSAL)),
    "under a mask": (MASKED, top(MASKED)),
    "under both": (And(MASKED, CAUSAL), top(And(CAUSAL, MASKED))),
    "the keys from the end": (TRUE, top(element=score(Var(2), Sub(Sub(m, ONE), Var(0)), Var(3)))),
    "the maximum of two maxima": (TRUE, F("max", top(UP_TO_LAST), top())),
    "an equivalent guard": (CAUSAL, top(Not(Lt(Var(2), Var(0))))),
    "tiles of tiles": (TRUE, Fold("max", b, Fold("max", tile_extent(m, t, Var(0)), score(Var(3), KEY, Var(4))))),
    "the greater of a maximum and its own first element": (
        TRUE,
        F("max", top(), ROWS["the score of the first key"][1]),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_another_way_to_the_same_maximum_is_fine(name: str) -> None:
    guard, shift = RIGHT[name]
    term = attention(guard, shift)
    assert check_inequalities(term, TILES).count("exponent") == 2
    assert not goes_wrong(term, points=12)


# --- by states: a tile's maximum, replaced by a valid R step ----------------------------------------


def tile_shifts(c: Certificate) -> dict[str, tuple[tuple[int, ...], Term, Term, str]]:
    """name: (path of the tile's maximum in the ONF, the maximum, what replaces it, the reason)."""
    (path,) = places(c.onf, lambda u: u.op == "fold" and bool(u.data == "max"))
    own = locate(c.onf, path, facts_of(c))[0]
    assert own.op == "fold"
    scores = own.args[2].args[0]  # the tile's scores, under the fold: a variable
    assert scores.op == "var"
    extent, guard, element = own.args
    here = Psi(up(scores, -1), ZERO)
    # the score of key u, not of key J*tk + u: what tile 0 has in this place
    whole = locate(c.onf, (*path[:-2], 0), facts_of(c))[0].args[1]
    stale = up(replaced(whole), 1, 1)
    return {
        "plus the maximum": (path, own, F("neg", own), NO_MAXIMUM),
        "twice the maximum": (path, own, F("mul", Real(2), own), NO_MAXIMUM),
        "half the maximum": (path, own, F("mul", Real(1, 2), own), NO_MAXIMUM),
        "the minimum": (path, own, F("neg", Fold("max", extent, F("neg", element), guard)), NO_MAXIMUM),
        "the tile's first score": (path, own, here, NO_MAXIMUM),
        "the maximum of the negated scores": (path, own, Fold("max", extent, F("neg", element), guard), NO_ELEMENT),
        "the maximum of the first tile": (path, own, Fold("max", extent, stale, guard), BEYOND),
        "the maximum or 0": (path, own, F("max", own, Real(0)), NOT_ATTAINED),
    }


def replaced(t_: Term) -> Term:
    """A key's offset without the tiles before it."""
    if t_.op == "iadd" and t_.args[0].op == "imul" and t_.args[0].args[1] is Size("tk"):
        return t_.args[1]
    return Term(t_.op, t_.data, [replaced(a) for a in t_.args]) if t_.args else t_


@pytest.mark.parametrize(
    "name",
    [
        "plus the maximum", "twice the maximum", "half the maximum", "the minimum", "the tile's first score",
        "the maximum of the negated scores", "the maximum of the first tile", "the maximum or 0",
    ],
)  # fmt: skip
def test_a_wrong_maximum_of_a_tile_dies_here(name: str, by_states: Certificate, deciders: Deciders) -> None:
    facts = facts_of(by_states)
    path, old, new, reason = tile_shifts(by_states)[name]
    whole = path[:-1]  # the let of the maximum: all that reads it changes with it
    state, here = locate(by_states.onf, whole, facts)
    checker = Checker(facts, deciders)
    assert state.args[0] is old
    judged = checker.judge(by_states.onf, whole, state, Let(new, state.args[1]), here)
    assert judged.kind == "R"
    check_inequalities(by_states.onf, facts)
    with pytest.raises(Unknown, match=rf"^node [\d.]+ \((f exp|state)\): .*{reason}"):
        check_inequalities(judged.after, facts)
    assert goes_wrong(judged.after)


# --- floats that go wrong --------------------------------------------------------------------------


class Wrong(Exception):
    """An exponent above 0 or a divisor below 1, beyond rounding; or a difference of nothing and nothing."""


class Watching(Numbers):
    """The evaluator, which notices what an ONF owes.  Merges and quotients of states go through it too."""

    def function(self, name: str, args: Sequence[float]) -> float:
        if name == "exp" and args[0] > 1e-9:
            raise Wrong(f"e^{args[0]}")
        if name == "div" and args[1] < 1 - 1e-9:
            raise Wrong(f"a division by {args[1]}")
        return super().function(name, args)


def tiled(sizes: dict[str, int]) -> dict[str, int]:
    return {**sizes, "bk": -(-sizes["m"] // sizes["tk"]), "bq": -(-sizes["n"] // sizes["tq"])}


def goes_wrong(onf: Term, points: int = 60, seed: int = 0) -> str:
    """What goes wrong at one of some random points; nothing of a term that is right."""
    rng = random.Random(seed)
    inputs = sorted({u for u in subterms(onf) if u.op == "in"}, key=lambda u: u.digest)
    for _ in range(points):
        most = {"h": 2, "n": 3, "m": 5, "dk": 2, "dv": 1, "tk": 3, "tq": 3}
        sizes = tiled({name: rng.randint(1, size) for name, size in most.items()})
        try:
            evaluate(onf, Watching(sizes, data(inputs, sizes, rng)))
        except Wrong as e:
            return str(e)
        except IllFormed as e:  # a function of the maximum of nothing
            return str(e)
    return ""


def data(inputs: Sequence[Term], sizes: dict[str, int], rng: random.Random) -> dict[str, list[Any]]:
    size = rng.choice((0.1, 1.0, 4.0))
    drawn = random_inputs(inputs, sizes, rng)
    return {name: [x if isinstance(x, bool) else rng.gauss(0, size) for x in row] for name, row in drawn.items()}


# --- each clause: what satisfies it and what does not ----------------------------------------------

x, y = In("x"), In("y")
A, M2 = In("a", m), In("seen", m, sort="bool")
k = Var(0)
a, seen = Psi(A, k), Psi(M2, k)
BIG = Fold("max", m, a)
FIRST = Lt(k, ONE)
ONE_REAL = Real(1)
TILED = tile_extent(m, t, Var(0))  # rows of tile Var(0)


def exp_of(element: Term, guard: Term = TRUE) -> Term:
    return Fold("add", m, F("exp", element), guard)


def minus_top(guard: Term = TRUE, inside: Term = a) -> Term:
    return F("sub", a, up(Fold("max", m, inside, guard)))


def weights(guard: Term = TRUE) -> Term:
    return exp_of(minus_top(guard), guard)


def over(divisor: Term) -> Term:
    """A division under a key that is visible."""
    return Fold("add", m, F("div", a, up(divisor)))


def state(top_: Term, l: Term, o: Term | None = None) -> Term:
    return Term("quotient", None, (Term("state", None, (top_, l, l if o is None else o)),))


def of_tiles(element: Term, guard: Term = TRUE) -> Term:
    """The fold of states of the tiles' sums of e^(a - max), merged: what a kernel does."""
    return Term("quotient", None, (Fold("softmax", b, element, guard),))


def tile_sum(shift: Term, guard: Term = TRUE, weight_guard: Term | None = None) -> Term:
    """A tile's state; the shift under tile and key."""
    read = Psi(A, KEY)
    e = F("exp", F("sub", read, up(shift)))
    if weight_guard is not None:
        e = Where(weight_guard, e, Real(0))
    l = Fold("add", TILED, e, TRUE if weight_guard is not None else guard)
    return Term("state", None, (shift, l, Fold("add", TILED, F("mul", e, read), guard)))


TILE_TOP = Fold("max", TILED, Psi(A, KEY))
SEEN_TOP = Fold("max", TILED, Psi(A, KEY), Psi(M2, KEY))
ALL_TOP = Fold("max", b, Fold("max", up(TILED, 1, 1), Psi(A, KEY)))
POSITIVE = Term("cast", None, (Add(m, ONE),))

FINE: dict[str, Term] = {
    "a score less its maximum": weights(),
    "plus its negation": exp_of(F("add", a, F("neg", up(BIG)))),
    "the other way round": exp_of(F("add", F("neg", up(BIG)), a)),
    "the negation of the maximum less the score": exp_of(F("neg", F("sub", up(BIG), a))),
    "at a temperature": exp_of(F("div", minus_top(), F("sqrt", POSITIVE))),
    "times a constant": exp_of(F("mul", minus_top(), Real(1, 2))),
    "minus a square": exp_of(F("neg", F("mul", a, a))),
    "less what is not negative": exp_of(F("sub", minus_top(), F("mul", a, a))),
    "a constant": F("exp", Real(3)),
    "a distance": exp_of(F("neg", Term("cast", None, (k,)))),
    "a distance and a score": exp_of(F("sub", minus_top(), Term("cast", None, (k,)))),
    "a maximum in a branch": exp_of(F("sub", a, Where(seen, up(BIG), up(Fold("max", m, a))))),
    "a score in a branch": exp_of(Where(seen, minus_top(), Real(0))),
    "a tile's maximum less the maximum": Fold("add", b, F("exp", F("sub", TILE_TOP, up(ALL_TOP))), Lt(Mul(k, t), m)),
    "a tile's maximum less the maximum of the whole": Fold(
        "add", b, F("exp", F("sub", TILE_TOP, up(BIG))), Lt(Mul(k, t), m)
    ),
    "a quotient of a visible row": over(weights()),
    "a quotient at a temperature": over(exp_of(F("div", minus_top(), F("sqrt", POSITIVE)))),
    "a quotient of the first key": over(Fold("add", m, Where(FIRST, F("exp", minus_top(FIRST)), Real(0)))),
    "a quotient of halves": over(exp_of(F("mul", minus_top(), Real(1, 2)))),
    "a quotient of the other way round": over(exp_of(F("mul", Real(1, 2), F("neg", F("sub", up(BIG), a))))),
    "a quotient under a mask": Fold("add", m, F("div", a, up(weights(seen))), seen),
    "a quotient and a stabiliser": F("div", x, F("add", exp_of(F("neg", F("mul", a, a))), Real(1, 1000))),
    "the greater of a sum and a constant": F("div", x, F("max", exp_of(F("neg", F("mul", a, a))), Real(1, 1000))),
    "a sum of ones": over(Fold("add", m, Real(1))),
    "a sum over tiles": over(Fold("add", b, Fold("add", TILED, F("exp", F("sub", Psi(A, KEY), up(BIG, 2)))))),
    "a size as a divisor": F("div", x, POSITIVE),
    "a root of a size": F("sqrt", Term("cast", None, (m,))),
    "a root of a square": F("sqrt", F("mul", x, x)),
    "a root of a sum of squares": F("sqrt", Fold("add", m, F("mul", a, a))),
    "states of the keys": Term("quotient", None, (Fold("softmax", m, Term("state", None, (a, Real(1), a))),)),
    "states of the tiles": of_tiles(tile_sum(TILE_TOP)),
    "states of masked tiles": of_tiles(tile_sum(SEEN_TOP, Psi(M2, KEY))),
    "states of masked tiles, hidden weights 0": of_tiles(tile_sum(SEEN_TOP, Psi(M2, KEY), Psi(M2, KEY))),
    "a state of its own": state(BIG, weights()),
    "a difference of scores": F("sub", x, y),
}


@pytest.mark.parametrize("name", FINE)
def test_what_holds_is_seen(name: str) -> None:
    term = FINE[name]
    found = check_inequalities(term, TILES)
    assert found.nodes >= len({u for u in subterms(term) if u.op in ("f", "fold", "state", "quotient", "cast")})
    assert not [o for o in found.obligations if not (o.goal and o.how)]
    assert name == "a difference of scores" or found.obligations


REFUSED: dict[str, tuple[Term, str]] = {
    "an exponential of an input": (F("exp", x), r"^node root \(f exp\): no upper bound is seen: it is a flat"),
    "a score plus the maximum": (exp_of(F("add", a, up(BIG))), r"\(f exp\): no upper bound"),
    "the maximum less a score": (exp_of(F("sub", up(BIG), a)), r"\(f exp\): what is subtracted is no maximum"),
    "times a constant below 0": (exp_of(F("mul", minus_top(), Real(-1, 2))), r"\(f exp\): no upper bound"),
    "times an input": (exp_of(F("mul", minus_top(), x)), r"\(f exp\): no upper bound"),
    "over an input": (
        exp_of(F("div", minus_top(), F("exp", F("neg", F("mul", x, x))))),
        r"\(f div\): the divisor is only",
    ),
    "a square": (exp_of(F("mul", a, a)), r"\(f exp\): no upper bound"),
    "a product of two that are not the same": (exp_of(F("neg", F("mul", a, x))), r"\(f exp\)"),
    "a constant too great": (F("exp", Real(65)), r"the exponent is at most 65, which is no bound"),
    "a constant too great in a branch": (
        exp_of(Where(seen, Real(65), Real(1))),
        r"the exponent is at most 65, which is no bound",
    ),
    "the greater of two constants, too great": (
        F("exp", F("max", Real(65), Real(1))),
        r"the exponent is at most 65, which is no bound",
    ),
    "the negation of a constant": (F("exp", F("neg", Real(-65))), r"the exponent is at most 65, which is no bound"),
    "less a root, which may be smaller than its square": (
        F("exp", F("sub", Real(70), F("sqrt", Real(100)))),
        r"the exponent is at most 69, which is no bound",
    ),
    "less what is small in a branch": (
        exp_of(F("sub", ONE_REAL, Where(seen, ONE_REAL, Real(-65)))),
        r"the exponent is at most 66, which is no bound",
    ),
    "the same element under a guard and without": (
        F("add", weights(seen), exp_of(minus_top(seen))),
        r"no index in sight is in range and passes the guard",
    ),
    "a divisor that is 0 in a branch": (over(Fold("add", m, Where(seen, Real(1), Real(0)))), r"\(f div\): "),
    "a distance that grows": (exp_of(Term("cast", None, (k,))), r"\(f exp\): no upper bound"),
    "one branch without a shift": (exp_of(Where(seen, minus_top(), a)), r"\(f exp\): no upper bound"),
    "a branch with another maximum": (
        exp_of(F("sub", a, Where(seen, up(BIG), up(Fold("max", m, Psi(A, ZERO)))))),
        NO_ELEMENT,
    ),
    "a mask in the shift alone": (exp_of(minus_top(seen), Lt(ZERO, m)), r"no index in sight is in range and passes"),
    "the maximum less a tile's": (
        Fold("add", b, F("exp", F("sub", up(ALL_TOP), TILE_TOP)), Lt(Mul(k, t), m)),
        r"\(f exp\): ",
    ),
    "empty less empty": (
        Fold("add", b, F("exp", F("sub", SEEN_TOP, up(Fold("max", m, a, seen))))),
        r"\(f sub\): the maximum is of at least one element: no index in sight is in range and passes the guard",
    ),
    "empty less a number": (
        F("sub", Fold("max", m, a, seen), x),
        r"^node root \(f sub\): the maximum is of at least one",
    ),
    "empty negated": (
        F("neg", BIG),
        r"^node root \(f neg\): the maximum is of at least one element: no index in sight",
    ),
    "empty scaled": (F("mul", BIG, x), r"^node root \(f mul\): the maximum is of at least one"),
    "a divisor that is an input": (F("div", x, y), r"^node root \(f div\): no lower bound of the flat is seen"),
    "a divisor that is 0": (F("div", x, Real(0)), r"\(f div\): the divisor is only seen to be at least 0"),
    "a divisor below the smallest float32": (
        F("div", x, Term("real", ("1", str(2**127)))),
        r"the divisor is only seen to be at least 1/17014118346",
    ),
    "an unshifted sum of small exponentials": (
        over(exp_of(F("neg", F("mul", a, a)))),
        r"\(f div\): a weight that is no e\^\(s - M\)",
    ),
    "one weight as a divisor": (
        Fold("add", m, F("div", x, F("exp", minus_top()))),
        r"\(f div\): the divisor is only seen to be at least 0",
    ),
    "a sum of no visible key": (F("div", x, weights(seen)), r"\(f div\): the divisor is only seen to be at least 0"),
    "a shift that is not of the sum": (
        Fold("add", m, F("div", a, up(exp_of(F("sub", minus_top(), F("mul", x, x)))))),
        rf"\(f div\): {NOT_ATTAINED}",
    ),
    "a sum with a negative weight beyond the first": (
        over(Fold("add", m, Where(FIRST, F("exp", minus_top(FIRST)), Real(-1)))),
        r"\(f div\): a sum of what may be negative",
    ),
    "a maximum of all, a sum of the first": (
        over(Fold("add", m, Where(FIRST, F("exp", minus_top()), Real(0)))),
        rf"\(f div\): {NOT_ATTAINED}: {HIDDEN}",
    ),
    "a sum of powers that may be negative": (
        over(Fold("add", m, Where(Lt(k, ONE), F("exp", F("mul", Real(-1), F("neg", F("mul", a, a)))), Real(1)))),
        r"\(f exp\): no upper bound",
    ),
    "a shift from term to term": (
        over(exp_of(F("sub", a, Fold("max", Add(k, ONE), Psi(A, k))))),
        r"\(f div\): the shift changes from term to term",
    ),
    "a sum with a negative weight": (
        over(Fold("add", m, Where(seen, F("exp", minus_top()), Real(-1)))),
        r"\(f div\): a sum of what may be negative",
    ),
    "a sum of ones that may be none": (F("div", x, Fold("add", m, Real(1), seen)), r"\(f div\): "),
    "a size that may be 0": (F("div", x, Term("cast", None, (m,))), "the divisor is only seen to be at least 0"),
    "a root of an input": (F("sqrt", x), r"^node root \(f sqrt\): no lower bound"),
    "a root of a negative constant": (F("sqrt", Real(-1)), r"the argument of sqrt is only seen to be at least -1"),
    "a state without weight": (state(x, y), r"\(state\): no lower bound of the flat is seen"),
    "a state of weight 0": (state(x, Real(0), y), r"\(state\): the divisor is only seen to be at least 0"),
    "a state of another maximum": (state(Fold("max", n, Psi(In("z", n), k)), weights()), rf"\(state\): {NO_ELEMENT}"),
    "a state whose sum is masked and whose maximum is not": (
        state(BIG, weights(seen)),
        r"\(state\): .*that the maximum's guard hides",
    ),
    "l without the guard": (
        of_tiles(Term("state", None, (SEEN_TOP, tile_sum(SEEN_TOP).args[1], tile_sum(SEEN_TOP, Psi(M2, KEY)).args[2]))),
        r"no index in sight is in range and passes the guard",
    ),
    "l without the guard, where the maximum is of something": (
        exp_of(minus_top(Lt(k, ONE))),
        "that the maximum's guard hides",
    ),
    "a tile with the maximum of the last tile": (
        of_tiles(tile_sum(Fold("max", TILED, Psi(A, Sub(Sub(m, ONE), KEY))))),
        r"\(f exp\): ",
    ),
    "a tile with the keys of the first": (of_tiles(tile_sum(Fold("max", TILED, a))), r"\(f exp\): "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_fail_is_refused(name: str) -> None:
    term, reason = REFUSED[name]
    with pytest.raises((Refuted, Unknown), match=reason):
        check_inequalities(term, TILES)


def test_a_fold_of_states_keeps_the_least_bound() -> None:
    """Nested too, and with the reasons on record."""
    half = Term("state", None, (a, Real(1, 2), a))
    nest = Term("quotient", None, (Fold("softmax", n, Fold("softmax", m, half)),))
    found = check_inequalities(nest, ())
    assert [(o.kind, o.path, o.bound) for o in found.obligations if o.kind != "merge"] == [
        ("weight", (0, 2, 2), Fraction(1, 2)),
        ("divisor", (), Fraction(1, 2)),
    ]
    assert [o.path for o in found.obligations if o.kind == "merge"] == [(0, 2), (0,)]
    shifted = check_inequalities(of_tiles(tile_sum(TILE_TOP)), TILES)
    assert {o.kind: o.how for o in shifted.obligations} == {
        "exponent": "the score is an element of the maximum that is subtracted",
        "not empty": "an index in sight is in its range and visible",
        "weight": "a sum of e^(s - M), M attained by one of the s: one term is 1, none is negative",
        "merge": "M is the greater of m and m'",
        "divisor": "merging keeps the bound of the states",
    }


def test_a_node_without_a_clause_is_an_error() -> None:
    """No operator of the calculus, and no kind that the language may get one day, goes by without being looked at."""
    for term in (Term("map", "exp", (A,)), Fold("add", m, Psi(Term("reverse", None, (A,)), k)), Term("x", 0)):
        with pytest.raises(Unknown, match="no clause says what a node of this kind owes"):
            check_inequalities(term, ())


def test_every_function_of_the_language_has_a_clause(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = dict(term_module.REAL_FUNCTIONS)
    monkeypatch.setitem(term_module.REAL_FUNCTIONS, "log", 1)
    with pytest.raises(Unknown, match=r"^node root \(f log\): no clause says what this function owes"):
        check_inequalities(F("log", x), ())
    for name, arity in functions.items():
        check_inequalities(F(name, *[Real(1)] * arity), ())


def test_what_is_bound_and_never_used_owes_too() -> None:
    """A let is computed; a hidden exponential in an index, a guard's let or a dead value is not skipped."""
    for term in (
        Let(F("exp", x), y),
        Build(n, Let(Build(m, F("exp", a)), Real(0))),
        Term("cast", None, (Let(F("exp", x), ZERO),)),
        Fold("add", m, a, Let(F("exp", x), TRUE)),
    ):
        with pytest.raises(Unknown, match=r"\(f exp\): no upper bound"):
            check_inequalities(term, ())


def test_a_cast_owes_a_bound_in_sizes() -> None:
    index = Sub(Add(Mul(Var(1), dk), Var(0)), Term("idiv", None, (m, Int(2))))
    found = check_inequalities(Build(n, Build(dk, Term("cast", None, (index,)))), ())
    (cast,) = found.casts
    assert cast.path == (1, 1)
    assert not cast.most.free
    assert sizes_of([cast.most]) == {"n", "dk", "m"}
    sizes = {"n": 2**13, "dk": 2**11, "m": 8}
    assert cast.exact(sizes, "float64")
    assert not cast.exact(sizes, "float32")  # the bound is 2^24 + 2^11 + 8
    assert cast.exact({**sizes, "n": 2**12}, "float32")
    for n_, dk_, m_ in itertools.product((1, 2, 3), (1, 2, 3), (0, 1, 9)):
        most = evaluate(cast.most, Numbers({"n": n_, "dk": dk_, "m": m_}, {}))[1][0]
        assert all(abs(i * dk_ + j - m_ // 2) <= most for i in range(n_) for j in range(dk_))


def test_a_cast_in_a_tile_has_a_bound_too() -> None:
    key = Term("cast", None, (KEY,))
    found = check_inequalities(Fold("add", b, Fold("add", TILED, key)), TILES)
    assert [c.exact({"m": 100, "tk": 7, "bk": 15}, "float32") for c in found.casts] == [True]
    assert not found.casts[0].exact({"m": 2**25, "tk": 2, "bk": 2**24}, "float32")


def nested(depth: int) -> Term:
    """Many ways to look for a bound, none of which leads to one."""
    v = F("sub", x, y)
    for _ in range(depth):
        v = F("mul", F("neg", v), F("add", Real(1), Real(1)))
    return v


def greatest(of: Term, count: int) -> Term:
    v = of
    for j in range(count):
        v = F("max", F("mul", Real(j), of), v)
    return v


@pytest.mark.parametrize(
    "term",
    [
        F("exp", nested(60)), F("sqrt", nested(60)), F("div", x, nested(60)),
        F("exp", F("sub", greatest(x, 40), greatest(y, 40))),
    ],
)  # fmt: skip
def test_a_search_ends(term: Term, deadline: Callable[[float], Any]) -> None:
    with deadline(5), pytest.raises(Unknown, match="too many ways in which it might be bounded"):
        check_inequalities(term, ())


def test_a_shared_term_is_walked_once(deadline: Callable[[float], Any]) -> None:
    v = x
    for _ in range(17):
        v = F("add", v, v)
    with deadline(5):
        assert check_inequalities(v, ()).nodes == 18


# --- random softmaxes: what passes never goes wrong --------------------------------------------------


GUARDS = st.sampled_from([TRUE, TRUE, CAUSAL, MASKED, And(CAUSAL, MASKED), Lt(Var(0), Int(2))])


@st.composite
def softmaxes(draw: Any) -> Term:
    """A softmax by rows or by tiles of states, with shifts, guards and signs that fit or do not."""
    guard = draw(GUARDS)
    other = draw(st.one_of(st.just(guard), GUARDS))
    element = draw(
        st.sampled_from(
            [S, S, S, F("neg", S), score(ZERO, Var(0), Var(3)), score(Var(2), Sub(Sub(m, ONE), Var(0)), Var(3))]
        )
    )
    shift: Term = Fold("max", draw(st.sampled_from([m, m, m, Min(Int(2), m)])), element, other)
    shift = draw(
        st.sampled_from(
            [shift, shift, shift, F("neg", shift), F("mul", Real(2), shift), F("max", shift, Real(0)),
             F("max", score(Var(1), ZERO, Var(2)), shift), F("max", shift, top(guard))]
        )
    )  # fmt: skip
    power = draw(st.sampled_from([1, 1, 1, -1, 2]))
    weigh = draw(st.sampled_from([lambda s: F("sub", s[0], s[1]), lambda s: F("add", F("neg", s[1]), s[0])]))

    def weight(depth: int) -> Term:
        e = weigh((score(Var(1 + depth), Var(0), Var(2 + depth)), up(shift, depth)))
        return F("exp", e if power == 1 else F("mul", Real(power), e))

    summed = draw(st.one_of(st.just(guard), GUARDS))
    read = Psi(V, Var(3), Var(0), Var(1))
    if draw(st.booleans()):
        l = Fold("add", m, weight(1), summed)
        cell = Term(
            "quotient", None, (Term("state", None, (shift, l, Fold("add", m, F("mul", weight(1), read), guard))),)
        )
    else:
        l = Fold("add", m, weight(2), up(summed, 1, 1))
        cell = Fold("add", m, F("mul", F("div", weight(1), l), read), guard)
    return Build(h, Build(n, Build(dv, cell)))


def test_what_passes_never_goes_wrong() -> None:
    answers = {True: 0, False: 0}

    @profile("quick", 60)
    @given(softmaxes(), st.integers(0, 2**32))
    def holds(term: Term, seed: int) -> None:
        try:
            check_inequalities(term, ())
        except (Refuted, Unknown):
            answers[False] += 1
        else:
            answers[True] += 1
            assert not goes_wrong(term, points=4, seed=seed)

    holds()
    assert min(answers.values()) >= 6  # neither answer is rare, so the property says something


@pytest.mark.parametrize("name", CERTIFICATES)
@profile("quick", 6)
@given(seed=st.integers(0, 2**32))
def test_no_committed_onf_goes_wrong(name: str, seed: int) -> None:
    c = certificate(name)
    rng = random.Random(seed)
    sizes = draw_sizes(c, rng, (1, 2, 2, 3))
    evaluate(c.onf, Watching(sizes, data(c.inputs, sizes, rng)))
