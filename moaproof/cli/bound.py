"""The error bound of a certificate as ``moaproof explain --bound`` prints it.

The bound is built anew from the ONF, as the checker does; that it is the one that the certificate states is said, and
judged by ``moaproof check``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import NotCovered
from ..term import ZERO, Add, Term

if TYPE_CHECKING:
    from ..kernel.bound import Arithmetic
    from ..kernel.certificate import Certificate
    from ..kernel.rounding import Bound, Growth, Lemma, Lost, Near


def lines(c: Certificate, at: Mapping[str, Fraction] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Titles with their lines; ``at``: sizes and magnitudes by name, at which it is evaluated too."""
    from ..kernel.bits import Deciders
    from ..kernel.checker import facts_of, rounding_of
    from ..kernel.lemmas import FACTS, prove_all

    facts = facts_of(c)
    deciders = Deciders()
    deciders.integers.witnesses = c.witnesses
    bound = rounding_of(c, facts, deciders)
    if bound is None:
        yield "error bound", ["none: no lemma covers the ONF, or a kernel could compute one value twice"]
        return
    same = bound.document() == c.rounding
    yield "the certificate states", ["this bound" if same else "ANOTHER BOUND than the ONF has: it will be refused"]
    names = _names(bound.near)
    yield "error bound, for each element of the result", _formula(bound.near, names)
    yield "where", [f"{name} = {_text(t)}" for t, name in names.items()] + _LETTERS
    limits = [f"{_text(t, names)} <= a quarter of the greatest number" for t in bound.near.peaks]
    yield (
        "domain, outside of which nothing is said",
        ["all inputs that are read are finite", "k u + j eps <= 1/4 for each (1-u)^-k (1-eps)^-j", *limits],
    )
    yield "machines", [_machine(k.file, k.target, k.dtype) for k in c.kernels]
    yield "lemmas, each of those under it", list(_tree(bound.near.by))
    yield (
        f"facts under the lemmas, {prove_all()} in all, proved by Z3 just now for all real numbers",
        [f"{name}: {fact.says}" for name, facts in FACTS.items() for fact in facts],
    )
    yield (
        "assumed",
        ["sums are linear, a fold is by induction, e^(a+b) = e^a e^b, e^x is monotone; eps, as stated above"],
    )
    if at:
        yield "evaluated in exact rationals", _evaluated(c, bound, names, at)


_LETTERS = [
    "u: unit roundoff; eps: relative error of exp; t: what an underflow may cost, and below which exp may give 0",
    "r: the factor by which errors that numerator and denominator share may change a weight",
]


def _names(near: Near) -> dict[Term, str]:
    """V of a mean's values, S of its scores; A, B, .. of other sizes."""
    from ..kernel.rounding import UNIT

    found: dict[Term, str] = {}

    def name(t: Term, wish: str) -> None:
        if t is not UNIT and t not in found:
            free = wish if wish not in found.values() else f"A{len(found)}"
            found[t] = free

    def walk(g: Growth, wish: str) -> None:
        for shift in g.shifts:
            name(shift.size, wish)
            walk(shift.growth, "A")
        for mean in g.means:
            walk(mean, "S")

    name(near.size, "V" if near.growth.means else "A")
    walk(near.growth, "A")
    for rows in _losses(near):
        for _, size in rows:
            name(size, "B")
    return found


def _losses(near: Near) -> Iterator[Lost]:
    yield near.lost

    def walk(g: Growth) -> Iterator[Lost]:
        for shift in g.shifts:
            yield shift.lost
            yield from walk(shift.growth)
        for mean in g.means:
            yield from walk(mean)

    yield from walk(near.growth)


def _formula(near: Near, names: Mapping[Term, str]) -> list[str]:
    said: list[str] = []
    factor = _growth(near.growth, names, said)
    A = names[near.size]
    return [f"|computed - exact|  <=  {A}·(P - 1) + P·t·{_lost(near.lost, names)}", f"P = {factor}", *said]


def _growth(g: Growth, names: Mapping[Term, str], said: list[str]) -> str:
    from ..kernel.rounding import words

    parts = [f"({base})^-({words(n)})" for base, n in (("1-u", g.rounds), ("1-eps", g.exps)) if words(n) != "0"]
    for s in g.shifts:
        inner = _growth(s.growth, names, said)
        lost = f" + t·{_lost(s.lost, names)}" if s.lost else ""
        parts.append(f"e^(({inner} - 1)·{names[s.size]}{lost})")
    for k, mean in enumerate(g.means):
        r = "r" + "'" * k
        parts.append(f"(1 + 2({r}-1)/({r}+1))")
        said.append(f"{r} = {_growth(mean, names, said)}")
    return " · ".join(parts) or "1"


def _lost(rows: Lost, names: Mapping[Term, str]) -> str:
    from ..kernel.rounding import words
    from ..shapes import normal

    total: dict[Term, Term] = {}
    for c, s in rows:
        total[s] = normal(Add(total.get(s, ZERO), c))
    return "(" + " + ".join(f"({words(c)}){'·' + names[s] if s in names else ''}" for s, c in total.items()) + ")"


def _text(t: Term, names: Mapping[Term, str] | None = None) -> str:
    """A size in short: what an input is read at is left out."""
    from ..show import index

    if names and t in names:
        return names[t]
    a = [_text(x, names) for x in t.args] if t.op in ("f", "where") else []
    match t.op, t.data:
        case "flat", _:
            return str(t.args[0].data[0])
        case "f", "max" if t.args[1].op == "f" and t.args[1].data == "neg" and t.args[1].args[0] is t.args[0]:
            return f"|{a[0]}|"
        case "f", "max" if t.args[0].op == "real" and t.args[1].op == "fold":
            return a[1]
        case "f", ("add" | "mul" | "sub" | "div") as op:
            sign = {"add": " + ", "mul": "·", "sub": " - ", "div": " / "}[op]
            return sign.join(f"({x})" if op != "add" and " + " in x else x for x in a)
        case "f", function:
            return f"{function}({', '.join(a)})"
        case "fold", monoid:
            seen = "" if t.args[1].op == "true" else ", visible"
            return f"{'Σ' if monoid == 'add' else 'max'}_(<{index(t.args[0])}{seen}) {_text(t.args[2], names)}"
        case "real", (n, d):
            return n if d == "1" else f"{n}/{d}"
        case "cast", _:
            return f"({index(t.args[0])})"
        case "where", _:
            return f"({a[1]} or {a[2]})"
    return index(t)


def _machine(file: str, target: str, dtype: str) -> str:
    from ..instructions.accuracy import exp_of

    e = exp_of(target, dtype)
    seen = f", {float.fromhex(e.worst) / float(e.u):.3f} u at worst in {e.evidence}" if e.worst else ""
    return f"{file}: u = 2^{1 - e.u.denominator.bit_length()}, eps = {float(e.in_u):g} u ({e.kind}{seen}; {e.argument})"


def _tree(lemma: Lemma, depth: int = 0) -> Iterator[str]:
    from ..kernel.rounding import words

    counts = ", ".join(f"{name} {words(t)}" for name, t in lemma.counts)
    yield f"{'  ' * depth}{lemma.name}{': ' if counts else ''}{counts}"
    for part in lemma.parts:
        yield from _tree(part, depth + 1)


def _evaluated(c: Certificate, bound: Bound, names: Mapping[Term, str], at: Mapping[str, Fraction]) -> list[str]:
    from ..assess.arithmetic import arithmetic_of

    found = []
    for k in c.kernels:
        try:
            value = _value(bound, names, at, arithmetic_of(k.target, k.dtype))
        except NotCovered as e:
            found.append(f"{k.file}: outside: {e}")
        else:
            found.append(f"{k.file}: {float(value):.4e}")
    return found


def _value(bound: Bound, names: Mapping[Term, str], at: Mapping[str, Fraction], arithmetic: Arithmetic) -> Fraction:
    from ..kernel.bound import Evaluation, Exact
    from ..kernel.rounding import UNIT

    sizes = {name: int(x) for name, x in at.items() if x.denominator == 1}

    def value(t: Term) -> Fraction:
        if t in names:
            if names[t] in at:
                return at[names[t]]
            if names[t] in ("V", "S", "A"):
                raise NotCovered(f"--at: {names[t]} is missing")
        match t.op, t.data:
            case "f", "max" if t.args[0].op == "flat":  # |scale|, say
                return at.get(t.args[0].args[0].data[0], Fraction(1))
            case "real", (n, d):
                return Fraction(int(n), int(d))
            case "cast", _:
                return Fraction(Evaluation(arithmetic, sizes, Exact(value)).count(t.args[0]))
            case "f", "add":
                return value(t.args[0]) + value(t.args[1])
            case "f", "mul":
                return value(t.args[0]) * value(t.args[1])
        return Fraction(1) if t is UNIT else Fraction(0)  # of the domain alone, which then is not said to hold

    try:
        return Fraction(Evaluation(arithmetic, sizes, Exact(value)).bound(bound.near))
    except KeyError as e:
        raise NotCovered(f"--at: the size {e.args[0]} is missing") from None
