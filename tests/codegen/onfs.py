# ruff: noqa: E731  the terms are short functions of the variables in scope
"""ONFs written by hand, for the tests of the printer, the reader and the replay.

Letters: b batch, h query heads, n queries, m keys, dk and dv head sizes; bq tiles of tq queries, bk blocks of tk keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moaproof.shapes import gamma
from moaproof.term import (
    TRUE,
    Add,
    And,
    Build,
    Div,
    F,
    Flat,
    Fold,
    In,
    Let,
    Lt,
    Mul,
    Not,
    Psi,
    Real,
    Size,
    Term,
    Tiles,
    Var,
    Where,
    tile_extent,
)  # fmt: skip

n, m, dk, dv, bq, tq, bk, tk, g, r = (Size(name) for name in ("n", "m", "dk", "dv", "bq", "tq", "bk", "tk", "g", "r"))
SCALE = In("scale")
QUOTIENT = lambda x: Term("quotient", None, (x,))


@dataclass(frozen=True)
class Kernel:
    """An ONF, its inputs and sizes in order, and the Spec that it computes."""

    onf: Term
    inputs: tuple[Term, ...]
    sizes: tuple[str, ...]
    spec: Term


class Names:
    """Terms with named variables: ``bind`` opens a binder, and ``v`` finds the index that a name has here."""

    def __init__(self) -> None:
        self.open: list[str] = []

    def v(self, name: str) -> Term:
        return Var(len(self.open) - 1 - max(k for k, x in enumerate(self.open) if x == name))

    def under(self, name: str, body: Callable[[], Term]) -> Term:
        self.open.append(name)
        try:
            return body()
        finally:
            self.open.pop()

    def build(self, extent: Term, name: str, body: Callable[[], Term], axis: str = "seq") -> Term:
        return Build(extent, self.under(name, body), axis)

    def fold(
        self, monoid: str, extent: Term, name: str, body: Callable[[], Term], guard: Callable[[], Term] | None = None
    ) -> Term:
        return Fold(monoid, extent, self.under(name, body), TRUE if guard is None else self.under(name, guard))

    def let(self, name: str, value: Term, body: Callable[[], Term]) -> Term:
        return Let(value, self.under(name, body))

    def tiles(self, name: str, row: str, body: Callable[[], Term], axis: str) -> Term:
        inner = lambda: self.build(tile_extent(n, tq, self.v(name)), row, body, axis)
        return Tiles(n, bq, tq, self.under(name, inner), "core")


def flat(array: Term, *index: Term) -> Term:
    return Flat(array, gamma(index, array.args))


def attention(
    cores: Sequence[str] = ("b", "h"),
    schedule: str = "online",
    axis: str = "lane",
    causal: bool = False,
    masked: bool = False,
    grouped: bool = False,
) -> Kernel:
    """Attention over any number of leading axes; the last of them is the head, over ``h div r`` when ``grouped``.

    ``rows``: per row the maximum, the sum, and the weighted sum; ``online``: softmax states over blocks of keys.
    """
    x = Names()
    lead = [Size(name) for name in cores]
    kv = [*lead[:-1], g] if grouped else lead
    q, k, v = In("q", *lead, n, dk), In("k", *kv, m, dk), In("v", *kv, m, dv)
    mask = In("mask", n, m, sort="bool")
    at = lambda: [x.v(name) for name in cores]
    at_kv = lambda: [*at()[:-1], Div(at()[-1], r)] if grouped else at()
    row = lambda: Add(Mul(x.v("q"), tq), x.v("i"))

    def seen(i: Term, key: Term) -> Term:
        guards = ([Not(Lt(i, key))] if causal else []) + ([flat(mask, i, key)] if masked else [])
        return TRUE if not guards else guards[0] if len(guards) == 1 else And(*guards)

    def rows() -> Term:
        def score(name: str, body: Callable[[], Term]) -> Term:
            dot = x.fold(
                "add",
                dk,
                "j",
                lambda: F("mul", flat(q, *at(), row(), x.v("j")), flat(k, *at_kv(), x.v(name), x.v("j"))),
            )
            return x.let("dot", dot, lambda: x.let("s", F("mul", x.v("dot"), SCALE), body))

        visible = lambda: seen(row(), x.v("k"))
        weight = lambda: F("exp", F("sub", x.v("s"), x.v("M")))
        top = lambda: x.fold("max", m, "k", lambda: score("k", lambda: x.v("s")), visible)
        total = lambda: x.fold("add", m, "k", lambda: score("k", weight), visible)
        part = lambda: F("mul", F("div", x.v("p"), x.v("l")), flat(v, *at_kv(), x.v("k"), x.v("c")))
        sums = lambda: x.fold(
            "add", m, "k", lambda: score("k", lambda: x.let("p", weight(), lambda: x.build(dv, "c", part))), visible
        )
        store = lambda: x.build(dv, "c", lambda: Psi(x.v("o"), x.v("c")))
        return x.let("M", top(), lambda: x.let("l", total(), lambda: x.let("o", sums(), store)))

    def online() -> Term:
        key = lambda: Add(Mul(x.v("K"), tk), x.v("k"))
        size = lambda: tile_extent(m, tk, x.v("K"))
        visible = (lambda: seen(row(), key())) if causal or masked else None
        dot = lambda: x.fold(
            "add", dk, "j", lambda: F("mul", Psi(x.v("x"), x.v("j")), flat(k, *at_kv(), key(), x.v("j")))
        )
        scores = lambda: x.build(size(), "k", lambda: x.let("dot", dot(), lambda: F("mul", x.v("dot"), SCALE)))
        top = lambda: x.fold("max", size(), "k", lambda: Psi(x.v("S"), x.v("k")), visible)
        weight = lambda: F("exp", F("sub", Psi(x.v("S"), x.v("k")), x.v("M")))
        shown = lambda: weight() if visible is None else Where(visible(), weight(), Real(0))
        weights = lambda: x.build(size(), "k", shown)
        total = lambda: x.fold("add", size(), "k", lambda: Psi(x.v("P"), x.v("k")))
        part = lambda: F("mul", Psi(x.v("P"), x.v("k")), flat(v, *at_kv(), key(), x.v("c")))
        sums = lambda: x.fold("add", size(), "k", lambda: x.build(dv, "c", part))
        state = lambda: Term("state", None, (x.v("M"), x.v("L"), x.build(dv, "c", lambda: Psi(x.v("O"), x.v("c")))))

        def chain(values: Sequence[tuple[str, Callable[[], Term]]], body: Callable[[], Term]) -> Term:
            if not values:
                return body()
            (name, value), *rest = values
            return x.let(name, value(), lambda: chain(rest, body))

        block = lambda: chain([("S", scores), ("M", top), ("P", weights), ("L", total), ("O", sums)], state)
        last = lambda: Add(Mul(x.v("q"), tq), tq)
        guard = (lambda: Lt(Mul(x.v("K"), tk), last())) if causal else None
        states = lambda: x.fold("softmax", bk, "K", block, guard)
        row_q = lambda: x.build(dk, "j", lambda: flat(q, *at(), row(), x.v("j")))
        store = lambda: x.build(dv, "c", lambda: Psi(QUOTIENT(x.v("s")), x.v("c")))
        return x.let("x", row_q(), lambda: x.let("s", states(), store))

    def nest(rest: Sequence[str]) -> Term:
        if not rest:
            return x.tiles("q", "i", rows if schedule == "rows" else online, axis)
        name, *more = rest
        return x.build(Size(name), name, lambda: nest(more), "core")

    def spec() -> Term:
        def leaf(i: str) -> Term:
            score = lambda key: F(
                "mul",
                x.fold(
                    "add",
                    dk,
                    "j",
                    lambda: F("mul", Psi(q, *at(), x.v(i), x.v("j")), Psi(k, *at_kv(), x.v(key), x.v("j"))),
                ),
                SCALE,
            )
            visible = lambda: seen(x.v(i), x.v("k"))
            weight = lambda: F("exp", F("sub", score("k"), x.v("M")))
            top = x.fold("max", m, "k", lambda: score("k"), visible)
            part = lambda: F("mul", F("div", weight(), x.v("l")), Psi(v, *at_kv(), x.v("k"), x.v("c")))
            out = lambda: x.build(dv, "c", lambda: x.fold("add", m, "k", part, visible))
            return x.let("M", top, lambda: x.let("l", x.fold("add", m, "k", weight, visible), out))

        def go(rest: Sequence[str]) -> Term:
            if not rest:
                return x.build(n, "i", lambda: leaf("i"))
            name, *more = rest
            return x.build(Size(name), name, lambda: go(more))

        return go(list(cores))

    inputs = (q, k, v, SCALE, *([mask] if masked else []))
    groups = ("g", "r") if grouped else ()
    blocks = ("bk", "tk") if schedule == "online" else ()
    sizes = (*cores, *groups, "n", "m", "dk", "dv", "bq", "tq", *blocks)
    return Kernel(nest(list(cores)), inputs, sizes, spec())


VARIANTS = {
    "online": attention(),
    "online-causal": attention(causal=True),
    "online-masked": attention(causal=True, masked=True),
    "online-grouped": attention(grouped=True),
    "online-in-sequence": attention(causal=True, masked=True, axis="seq"),
    "online-rank-2": attention(cores=()),
    "online-rank-3": attention(cores=("h",)),
    "online-rank-5": attention(cores=("a", "b", "h")),
    "rows": attention(schedule="rows"),
    "rows-masked": attention(schedule="rows", causal=True, masked=True),
    "rows-in-sequence": attention(schedule="rows", causal=True, axis="seq"),
}


def sizes_for(batch: int, heads: int, *rest: int, groups: int = 1) -> dict[str, int]:
    """Sizes from (b, h, n, m, dk, dv, tq, tk), with the numbers of tiles that cover."""
    queries, keys, width, values, tile, block = rest
    return {
        "a": 2, "b": batch, "h": heads, "g": groups, "r": heads // groups, "n": queries, "m": keys, "dk": width,
        "dv": values, "tq": tile, "tk": block, "bq": -(-queries // tile), "bk": -(-keys // block),
    }  # fmt: skip


CASES = [
    sizes_for(1, 2, 3, 4, 7, 2, 2, 3),
    sizes_for(2, 1, 2, 5, 5, 3, 4, 2),  # n < m, a tile longer than n
    sizes_for(1, 1, 1, 1, 1, 1, 1, 1),
    sizes_for(1, 2, 4, 1, 7, 1, 3, 5),
    sizes_for(1, 1, 2, 0, 1, 2, 2, 2),  # no keys
    sizes_for(1, 1, 0, 3, 2, 2, 4, 4),  # no queries
    sizes_for(1, 4, 3, 2, 5, 2, 8, 8, groups=2),
]
CASES.append({**CASES[0], "bq": CASES[0]["bq"] + 2, "bk": CASES[0]["bk"] + 2})  # more tiles than are needed
CORE = "0123456789abcdef" * 4
