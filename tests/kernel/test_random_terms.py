"""The judge against the evaluator on random terms: what is called equal has equal values, what is defined has one.

A term is made well-typed and defined by construction, then changed by laws, most of them true and some of them false.
Whenever the kernel accepts the pair, both are evaluated at several points, at sizes 0 and 1 too: in Python's floats
("bits": the very same floats) and in the finite fields (exactly).  Any difference would be a hole.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from moaproof.errors import IllFormed, JudgesDisagree, MoaproofError
from moaproof.kernel.certificate import Tiling
from moaproof.kernel.checker import tiling_facts
from moaproof.kernel.defined import Position
from moaproof.kernel.integers import Integers
from moaproof.kernel.step import Checker
from moaproof.semantics import Fields, Numbers, evaluate
from moaproof.term import (
    ONE,
    TRUE,
    ZERO,
    Add,
    And,
    Build,
    Div,
    F,
    Fold,
    In,
    Int,
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
    Tiles,
    Var,
    Where,
    instantiate,
    mentions,
    replace_at,
    tile_extent,
    up,
)

n, m, s, b, t = map(Size, ("n", "m", "s", "b", "t"))
INPUTS = {"x": (), "y": (), "A": (n,), "B": (m,), "C": (s,), "D": (n, m), "E": (n, n), "G": (n, s), "mask": (n, s)}
TILING = Tiling("s", "t", "b")
Path = tuple[int, ...]


def array(name: str) -> Term:
    return In(name, *INPUTS[name], sort="bool" if name == "mask" else "real")


class Maker:
    """Random terms in a context: the extents of the index binders in scope, innermost last (None: a tile's rows)."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    def index(self, extent: Term, ctx: tuple[Term, ...]) -> Term | None:
        """An index expression within 0..extent-1, or None."""
        found = []
        for k, e in enumerate(reversed(ctx)):
            if up(e, 0) is extent:
                found += [Var(k), Sub(Sub(extent, ONE), Var(k))]
            if extent is s and e.op == "imin" and k + 1 < len(ctx) and ctx[-2 - k] is b:
                found += [Add(Mul(Var(k + 1), t), Var(k))]
        return self.rng.choice(found) if found else None

    def read(self, ctx: tuple[Term, ...]) -> Term:
        for name in self.rng.sample(sorted(INPUTS), len(INPUTS)):
            at = [self.index(e, ctx) for e in INPUTS[name]]
            if name != "mask" and None not in at:
                return Psi(array(name), *[i for i in at if i is not None])
        return Real(2)

    def guard(self, ctx: tuple[Term, ...]) -> Term:
        kind = self.rng.randrange(6)
        if not ctx or kind == 0:
            return Lt(self.rng.choice((n, m, ONE)), self.rng.choice((n, m, Int(2))))
        i, j = Var(self.rng.randrange(len(ctx))), Var(self.rng.randrange(len(ctx)))
        if kind == 1:
            return And(self.guard(ctx), self.guard(ctx))
        if kind == 2:
            return Not(Lt(i, j))
        at = [self.index(n, ctx), self.index(s, ctx)]
        if kind == 3 and None not in at:
            return Psi(array("mask"), *[k for k in at if k is not None])
        return Lt(i, Add(j, Int(self.rng.randrange(2))))

    def fold(self, monoid: str, ctx: tuple[Term, ...], depth: int) -> Term:
        guard = lambda inner: TRUE if self.rng.random() < 0.6 else self.guard(inner)  # noqa: E731
        if self.rng.random() < 0.25:
            tile = tile_extent(s, t, Var(0))
            inside = (*ctx, b, tile)
            inner = Fold(monoid, tile, self.real(inside, depth - 1), guard(inside))
            return Fold(monoid, b, inner)
        extent = self.rng.choice((n, n, m, s, Int(2), ONE, ZERO))
        inside = (*ctx, extent)
        return Fold(monoid, extent, self.real(inside, depth - 1), guard(inside))

    def real(self, ctx: tuple[Term, ...], depth: int) -> Term:
        rng, sub = self.rng, lambda: self.real(ctx, depth - 1)
        if depth <= 0:
            return rng.choice([self.read(ctx), self.read(ctx), Real(rng.randrange(3))])
        match rng.randrange(15):
            case 0 | 1:
                return F("mul", sub(), sub())
            case 2:
                return F("add", sub(), sub())
            case 3:
                return F("sub", sub(), sub())
            case 4:
                return F("exp", sub())
            case 5:
                return F("div", sub(), F("exp", sub()))
            case 6 | 7 | 8:
                return self.fold("add", ctx, depth)
            case 9:
                return F("max", self.read(ctx), self.fold("max", ctx, depth))
            case 10:
                return Where(self.guard(ctx), sub(), sub())
            case 11:
                return Let(sub(), F(rng.choice(("add", "mul")), Var(0), up(sub())))
            case 12:
                return F("sqrt", F("exp", sub()))
            case 13:
                return self.softmax(ctx, depth)
        return F("div", sub(), F("add", Real(1), F("exp", self.read(ctx))))

    def softmax(self, ctx: tuple[Term, ...], depth: int) -> Term:
        """The quotient of a fold of states, or its value by hand."""
        extent = self.rng.choice((n, m, s))
        inside = (*ctx, extent)
        score, value = self.real(inside, depth - 2), self.real(inside, depth - 2)
        guard = TRUE if self.rng.random() < 0.5 else self.guard(inside)
        if self.rng.random() < 0.5:
            weight = self.rng.choice((Real(1), F("exp", self.read(inside))))
            one = state(score, weight, value)
            kept = self.rng.random() < 0.4  # in an array, and merged when they are read
            return (
                kept_states(Build(extent, one), extent, guard)
                if kept
                else quotient(Fold("softmax", extent, one, guard))
            )
        if extent is s and self.rng.random() < 0.5:
            return self.chunks(ctx, depth)
        return state_of(extent, guard, score, value)

    def chunks(self, ctx: tuple[Term, ...], depth: int) -> Term:
        """The state of each tile, kept in an array; then their merge."""
        tile = tile_extent(s, t, Var(0))
        inside = (*ctx, b, tile)
        score, value = self.real(inside, depth - 2), self.real(inside, depth - 2)
        guard = TRUE if self.rng.random() < 0.5 else self.guard(inside)
        chunk = Fold("softmax", tile, state(score, Real(1), value), guard)
        return kept_states(Build(b, chunk), b, self.rng.choice((TRUE, Lt(Mul(Var(0), t), s))))


def state(m_: Term, l_: Term, o: Term) -> Term:
    return Term("state", None, (m_, l_, o))


def quotient(x: Term) -> Term:
    return Term("quotient", None, (x,))


def kept_states(states: Term, extent: Term, guard: Term) -> Term:
    """The quotient of an array of states, merged; the guard is under the index of its rows."""
    return Let(states, quotient(Fold("softmax", up(extent), Psi(Var(1), Var(0)), up(guard, 1, 1))))


def state_of(extent: Term, guard: Term, score: Term, value: Term) -> Term:
    """quotient(state(max, sum, weighted sum)) over one range."""
    top = Fold("max", extent, score, guard)
    shifted = F("exp", F("sub", score, up(top)))
    total = Fold("add", extent, shifted, guard)
    return quotient(state(top, total, Fold("add", extent, F("mul", shifted, value), guard)))


def positions(t_: Term, path: Path = ()) -> Iterator[tuple[Path, Term]]:
    yield path, t_
    for k, a in enumerate(t_.args):
        yield from positions(a, (*path, k))


def swapped(t_: Term, cut: int = 0) -> Term:
    """``t_`` with variables 0 and 1 exchanged."""
    if t_.op == "var":
        k = t_.data - cut
        return Var({0: 1, 1: 0}.get(k, k) + cut) if k >= 0 else t_
    return (
        Term(t_.op, t_.data, [swapped(a, cut + k) for a, k in zip(t_.args, t_.binds, strict=True)]) if t_.args else t_
    )


def changes(u: Term, rng: random.Random) -> Iterator[Term]:  # noqa: C901
    """Terms that may equal ``u``: by laws that hold, by laws whose condition nobody looks at, by plain errors."""
    a = u.args
    head = (u.op, u.data)
    if head in (("f", "add"), ("f", "mul"), ("f", "max"), ("f", "sub")):
        yield F(u.data, a[1], a[0])
    if head == ("f", "mul"):
        for x, y in (a, a[::-1]):
            if y.op == "f" and y.data in ("add", "sub", "mul", "max", "div"):
                yield F(y.data, F("mul", x, y.args[0]), F("mul", x, y.args[1]))
                yield F(y.data, F("mul", x, y.args[0]), y.args[1])
            if (y.op, y.data) == ("fold", "add"):
                yield Fold("add", y.args[0], F("mul", up(x), y.args[2]), y.args[1])
            if x.op == y.op == "f" and x.data == y.data == "exp":
                yield F("exp", F("add", x.args[0], y.args[0]))
            if x.op == y.op == "f" and x.data == y.data == "sqrt":
                yield F("sqrt", F("mul", x.args[0], y.args[0]))
    if head in (("f", "add"), ("f", "sub")) and a[0].op == a[1].op == "fold" and a[0].args[0] is a[1].args[0]:
        yield Fold("add", a[0].args[0], F(u.data, a[0].args[2], a[1].args[2]), a[0].args[1])
    if head == ("f", "exp") and a[0].op == "f" and a[0].data in ("add", "sub", "mul"):
        parts = [F("exp", x) for x in a[0].args]
        yield F({"add": "mul", "sub": "div", "mul": "mul"}[a[0].data], *parts)
    if head == ("f", "div"):
        yield F("mul", a[0], F("div", Real(1), a[1]))
        yield F("div", F("mul", a[0], a[1]), F("mul", a[1], a[1]))
        if a[0].op == "fold" and a[0].data in ("add", "max"):
            yield Fold(a[0].data, a[0].args[0], F("div", a[0].args[2], up(a[1])), a[0].args[1])
        if a[1].op == "f" and a[1].data == "exp":
            yield F("mul", a[0], F("exp", F("neg", a[1].args[0])))
    if u.op == "fold":
        yield from fold_changes(u, rng)
    if u.op == "where":
        yield Where(Not(a[0]), a[2], a[1])
        yield a[1]
        yield F("add", Where(a[0], a[1], Real(0)), Where(a[0], Real(0), a[2]))
    if u.op == "let":
        yield instantiate(a[1], [a[0]])
    if u.op == "quotient":
        yield from quotient_changes(a[0])
    if u.op == "state":
        seen_from_0 = F("exp", a[0])
        yield state(Real(0), F("mul", a[1], seen_from_0), F("mul", a[2], seen_from_0))
        yield state(Real(0), a[1], a[2])
    if u.op == "lt":
        yield Not(Lt(a[1], Add(a[0], ONE)))
        yield Not(Lt(a[1], a[0]))
        yield Lt(Mul(a[0], Int(2)), Sub(Mul(a[1], Int(2)), ONE))
    if u.op == "and":
        yield And(a[1], a[0])
        yield a[0]
    if u.op == "var" and rng.random() < 0.5:
        yield Var(rng.randrange(3))
    if u.op == "psi" and len(a) == 2:
        yield Psi(a[0], Sub(Add(a[1], ONE), ONE))
        yield Psi(a[0], Min(a[1], Add(a[1], Int(rng.randrange(2)))))
        yield Psi(a[0], Div(Add(Mul(a[1], Int(2)), Int(rng.randrange(3))), Int(2)))
        if a[0].op == "in":
            yield Psi(Build(a[0].args[0], Psi(up(a[0]), Var(0))), a[1])
    if u.op in ("f", "psi", "quotient"):
        i = Var(rng.randrange(2))
        yield Where(rng.choice((Lt(i, n), Lt(i, s), Lt(i, b), Lt(Int(-1), i), Lt(ZERO, i))), u, Real(0))
        yield F("add", u, Real(0))
        yield F("mul", u, F("div", F("exp", u), F("exp", u)))
        yield F("sub", F("add", u, u), u)
        yield Let(u, Var(0))


def fold_changes(u: Term, rng: random.Random) -> Iterator[Term]:
    extent, guard, body = u.args
    monoid = u.data
    if body.op == "f" and body.data in ("add", "sub", "mul"):
        x, y = body.args
        if monoid == "add":
            if body.data != "mul":
                yield F(body.data, Fold("add", extent, x, guard), Fold("add", extent, y, guard))
            elif not mentions(x, 0):
                yield F("mul", up(x, -1), Fold("add", extent, y, guard))
                yield F("mul", up(x, -1), Fold("add", extent, y))
            else:
                yield F("mul", Fold("add", extent, x, guard), Fold("add", extent, y, guard))
    if not mentions(body, 0):
        yield up(body, -1)
        if monoid == "add":
            yield F("mul", Fold("add", extent, Real(1), guard), up(body, -1))
    if body.op == "fold" and body.data == monoid and guard is TRUE and not mentions(body.args[0], 0):
        yield Fold(monoid, up(body.args[0], -1), Fold(monoid, up(extent), swapped(body.args[2]), swapped(body.args[1])))
        yield Fold(monoid, up(body.args[0], -1), Fold(monoid, up(extent), body.args[2], body.args[1]))
    if extent is s:
        k = Add(Mul(Var(1), t), Var(0))
        k = rng.choice((k, k, k, Add(Mul(Var(0), t), Var(1)), Var(0)))
        tile = rng.choice((tile_extent(s, t, Var(0)), tile_extent(s, t, Var(0)), t, Min(t, s)))
        split = [instantiate(up(x, 2, 1), [k]) for x in (guard, body)]
        yield Fold(monoid, b, Fold(monoid, tile, split[1], split[0]))
        yield Fold(monoid, b, Fold(monoid, tile, split[1], split[0]), Lt(Mul(Var(0), t), s))
    if body.op == "fold" and body.args[0].op == "imin":
        yield Fold(monoid, s, instantiate(body.args[2], [Var(0), ZERO]), instantiate(body.args[1], [Var(0), ZERO]))
        yield Fold(monoid, b, body, Lt(Var(0), Sub(b, ONE)))
    yield Fold(monoid, extent, Where(guard, body, Real(0)), guard)
    if monoid == "add":
        yield Fold("add", extent, Where(guard, body, Real(0)))
    yield Fold(monoid, extent, body, And(guard, Lt(Int(-1), Var(0))))
    yield Fold(monoid, Add(extent, ONE), body, And(guard, Lt(Var(0), extent)) if rng.random() < 0.5 else guard)


def quotient_changes(v: Term) -> Iterator[Term]:
    if v.op == "fold":
        extent, guard, one = v.args
        if one.op == "state":
            m_, l_, o = one.args
            weight = F("exp", m_)
            over, under = (Fold("add", extent, F("mul", x, weight), guard) for x in (o, l_))
            yield F("div", over, under)
            yield Where(Lt(ZERO, extent), F("div", over, under), Real(0))
            if l_.op == "real":
                yield state_of(extent, guard, m_, o)
                yield state_of(extent, guard, o, m_)
    elif v.op == "state":
        top, total, value = v.args
        yield F("div", value, total)
        if top.op == value.op == "fold" and value.args[2].op == "f":
            weigh = value.args[2].args[1]
            yield quotient(Fold("softmax", top.args[0], state(top.args[2], Real(1), weigh), top.args[1]))
            yield quotient(Fold("softmax", top.args[0], state(top.args[2], Real(1), weigh)))


def changed(u: Term, rng: random.Random) -> Term:
    """One or more changes at random positions."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = [(p, x) for p, x in positions(u) if x.op not in ("in", "size", "int", "true")]
        for _ in range(20):
            path, x = rng.choice(places)
            options = list(changes(x, rng))
            if options:
                u = replace_at(u, path, rng.choice(options))
                break
    return u


def points(rng: random.Random) -> Iterator[dict[str, int]]:
    for sizes in (
        (2, 3, 5, 2),
        (1, 1, 1, 1),
        (0, 2, 3, 2),
        (3, 0, 4, 3),
        (2, 2, 0, 1),
        (rng.randrange(4), rng.randrange(4), rng.randrange(5), rng.randrange(1, 4)),
    ):
        given = dict(zip("nmst", sizes, strict=True))
        yield {**given, "b": -(-given["s"] // given["t"])}


def data(sizes: dict[str, int], rng: random.Random, number) -> dict[str, list]:
    made = {}
    for name, extents in INPUTS.items():
        total = math.prod(sizes[e.data] for e in extents)
        made[name] = [rng.random() < 0.5 if name == "mask" else number() for _ in range(total)]
    return made


def value(u: Term, algebra) -> object:
    try:
        return evaluate(u, algebra)
    except (ZeroDivisionError, OverflowError):
        return None
    except IllFormed as e:
        if "stands in an exponent" in str(e):
            return None
        raise


def compare(old: Term, new: Term, kind: str, rng: random.Random) -> None:
    """The two terms have the same values, or the kernel has a hole."""
    for sizes in points(rng):
        floats = Numbers(sizes, data(sizes, rng, lambda: rng.choice((0.0, -0.5, 0.25, 1.0, rng.uniform(-1, 1)))))
        left, right = value(old, floats), value(new, floats)
        if left is not None and right is not None:
            if kind == "bits":
                assert repr(left) == repr(right), (sizes, left, right)
            else:
                assert left[0] == right[0]
                assert all(
                    math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-6) for x, y in zip(left[1], right[1], strict=True)
                ), (sizes, left, right)
        fields = Fields(sizes, data(sizes, rng, lambda: (rng.randrange(Fields.P), rng.randrange(Fields.Q))))
        left, right = value(old, fields), value(new, fields)
        if left is not None and right is not None:
            assert left[0] == right[0]
            assert all(x[0] == y[0] for x, y in zip(left[1], right[1], strict=True)), (sizes, left, right)


def campaign(seed: int, count: int) -> dict[str, int]:
    """Judge ``count`` random pairs; how many were undefined, refused, and accepted."""
    rng = random.Random(seed)
    checker = Checker(tiling_facts(TILING))
    tally = {"undefined": 0, "refused": 0, "bits": 0, "reals": 0}
    for _ in range(count):
        core = Maker(rng).real((n,), 4)
        old = (
            Build(n, core)
            if rng.random() < 0.7
            else Tiles(s, b, t, Build(tile_extent(s, t, Var(0)), Maker(rng).real((b, tile_extent(s, t, Var(0))), 3)))
        )
        new = changed(old, rng)
        if new is old:
            continue
        where = Position((), checker.facts)
        try:
            checker.check_defined(old)
        except JudgesDisagree:
            raise
        except MoaproofError:
            tally["undefined"] += 1
            continue
        try:
            kind = "reals" if checker.judge(old, (), old, new, where).kind == "R" else "bits"
        except JudgesDisagree:
            raise
        except MoaproofError:
            tally["refused"] += 1
            continue
        tally[kind] += 1
        try:
            compare(old, new, kind, rng)
        except (AssertionError, IllFormed) as e:
            raise AssertionError(f"{kind}\n{old!r}\n{new!r}\n{e}") from e
    return tally


def campaigns(count: int) -> None:
    for seed in range(count):
        campaign(seed, 40)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_the_kernel_accepts_has_equal_values(seed: int) -> None:
    tally = campaign(seed, 45)
    assert tally["bits"] >= 3
    assert tally["reals"] >= 3
    assert tally["refused"] >= 10


@pytest.mark.parametrize("lie", ["every guard is proved", "guards of sums are dropped"])
def test_the_campaign_notices_a_broken_kernel(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A harness that finds nothing is worth what it finds when there is something."""
    if lie == "every guard is proved":
        monkeypatch.setattr(Integers, "holds", lambda *_: True)
    else:
        monkeypatch.setattr("moaproof.kernel.reals.truth", lambda t: t if t.op == "flat" else TRUE)
    with pytest.raises((AssertionError, JudgesDisagree)):
        campaigns(8)
