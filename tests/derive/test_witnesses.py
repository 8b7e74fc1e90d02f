"""The search for witnesses: what tiled kernels ask, what must stay open, and the same bytes everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from moaproof.derive import pipeline, witnesses
from moaproof.derive.witnesses import Effort, search, witnesses_for
from moaproof.kernel.certificate import parse
from moaproof.kernel.free import X
from moaproof.kernel.integers import decide
from moaproof.kernel.question import Question, question
from moaproof.kernel.witness import closes
from moaproof.shapes import gamma, product
from moaproof.term import ONE, ZERO, Add, And, Div, Int, Le, Lt, Min, Mul, Not, Size, Sub, Term

n, m, d, t, u, g, r, h, b, c, w = map(Size, ("n", "m", "d", "t", "u", "g", "r", "h", "b", "c", "w"))
S = tuple(Size(f"s{k}") for k in range(5))
x = tuple(map(X, range(10)))
Family = dict[str, tuple[list[Term], Term]]


def within(i: Term, extent: Term) -> list[Term]:
    return [Le(ZERO, i), Lt(i, extent)]


def inside(index: Sequence[Term], extents: Sequence[Term]) -> list[Term]:
    return [f for i, e in zip(index, extents, strict=True) for f in within(i, e)]


def equal(a: Term, b: Term) -> Term:
    return And(Le(a, b), Le(b, a))


def tile(q: Term) -> Term:
    """Rows of tile q of n rows, t a tile."""
    return Min(t, Sub(n, Mul(q, t)))


TILED = [Lt(ZERO, t), Le(n, Mul(c, t)), Lt(Mul(c, t), Add(n, t))]  # c tiles of t rows cover n
ROW, OTHER_ROW = Add(Mul(x[0], t), x[1]), Add(Mul(x[2], t), x[3])
IN_TILE = [*TILED, *within(x[0], c), *within(x[1], tile(x[0]))]
IN_OTHER = [*within(x[2], c), *within(x[3], tile(x[2]))]


def offsets(rank: int) -> Family:
    """Row-major offsets: in range, and one to one in the first index."""
    index, other, extents = x[:rank], x[5 : 5 + rank], S[:rank]
    offset, facts = gamma(index, extents), inside(index, extents)
    both = [*facts, *inside(other, extents), equal(offset, gamma(other, extents))]
    return {
        f"gamma {rank} not negative": (facts, Le(ZERO, offset)),
        f"gamma {rank} below": (facts, Lt(offset, product(extents))),
        f"gamma {rank} first": (both, equal(x[0], x[5])),
    }


LAYERED = [*IN_TILE, *within(x[4], d), *within(x[5], b), *within(x[6], h)]
LAYERS = gamma([x[5], x[6], ROW, x[4]], [b, h, n, d])
TILES: Family = {
    "layers not negative": (LAYERED, Le(ZERO, LAYERS)),
    "layers below": (LAYERED, Lt(LAYERS, product([b, h, n, d]))),
    "a row of a tile": (IN_TILE, Lt(ROW, n)),
    "a tile has rows": ([*TILED, *within(x[0], c)], Lt(ZERO, tile(x[0]))),
    "the last tile": (
        [*TILED, Lt(ZERO, n)],
        equal(tile(Sub(c, ONE)), Sub(n, Mul(Sub(c, ONE), t))),
    ),
    "the other tiles are full": ([*TILED, *within(x[0], Sub(c, ONE))], equal(tile(x[0]), t)),
    "each row is in a tile": ([*TILED, *within(x[0], n)], And(Le(ZERO, Div(x[0], t)), Lt(Div(x[0], t), c))),
    "at a row of it": (
        [*TILED, *within(x[0], n)],
        Lt(Sub(x[0], Mul(Div(x[0], t), t)), tile(Div(x[0], t))),
    ),
    "in one tile": ([*IN_TILE, *IN_OTHER, equal(ROW, OTHER_ROW)], equal(x[0], x[2])),
    "in one row of it": ([*IN_TILE, *IN_OTHER, equal(ROW, OTHER_ROW)], equal(x[1], x[3])),
    "tiles write apart": (
        [*IN_TILE, *IN_OTHER, *within(x[4], d), *within(x[5], d), Not(equal(x[0], x[2]))],
        Not(equal(gamma([ROW, x[4]], [n, d]), gamma([OTHER_ROW, x[5]], [n, d]))),
    ),
    "rounded up": ([Lt(ZERO, t)], Le(n, Mul(Div(Add(n, Sub(t, ONE)), t), t))),
    "offsets of 32 bits": (
        [Lt(Mul(n, d), Int(2**31)), *IN_TILE, *within(x[2], d)],
        Lt(gamma([ROW, x[2]], [n, d]), Int(2**31)),
    ),
}
KEYS = Div(Add(Mul(Add(x[0], ONE), t), Sub(u, ONE)), u)  # tiles of u keys up to the last query of tile x0
QUOTIENTS: Family = {
    "causal tiles left out": (
        [Lt(ZERO, t), Lt(ZERO, u), Le(ZERO, x[0]), *within(x[2], t), *within(x[3], u), Le(KEYS, x[1])],
        Lt(Add(Mul(x[0], t), x[2]), Add(Mul(x[1], u), x[3])),
    ),
    "head of a group": ([equal(h, Mul(g, r)), *within(x[0], h)], And(Le(ZERO, Div(x[0], r)), Lt(Div(x[0], r), g))),
    "offset of a group": (
        [equal(h, Mul(g, r)), *inside(x[:4], [h, b, m, d])],
        Lt(gamma([x[1], Div(x[0], r), x[2], x[3]], [b, g, m, d]), product([b, g, m, d])),
    ),
    "quotient of q*b+r": ([*within(x[1], b), Le(ZERO, x[0])], equal(Div(Add(Mul(x[0], b), x[1]), b), x[0])),
    "quotient of a quotient": ([Lt(ZERO, b), Lt(ZERO, t)], equal(Div(Div(x[0], b), t), Div(x[0], Mul(b, t)))),
    "an index from its offset": (
        inside(x[:3], S[:3]),
        equal(Div(Div(gamma(x[:3], S[:3]), S[2]), S[1]), x[0]),
    ),
    "an index in its extent": (within(x[0], product(S[:3])), Lt(Div(Div(x[0], S[2]), S[1]), S[0])),
    "a product of a quotient": ([*within(x[0], d), Lt(ZERO, d)], Lt(Int(-1), Mul(Div(x[0], d), d))),
}
APART = Not(equal(x[0], x[1]))
THREADS: Family = {  # two threads x0, x1 of t
    "stride": (
        [*within(x[0], t), *within(x[1], t), APART],
        Not(equal(Add(x[0], Mul(x[2], t)), Add(x[1], Mul(x[3], t)))),
    ),
    "rows": (
        [*within(x[0], t), *within(x[1], t), *within(x[2], d), *within(x[3], d), APART],
        Not(equal(Add(Mul(x[0], d), x[2]), Add(Mul(x[1], d), x[3]))),
    ),
    "a plane": (
        [*inside(x[:4], [t, t, w, w]), Not(And(equal(x[0], x[1]), equal(x[2], x[3])))],
        Not(equal(Add(Mul(x[0], w), x[2]), Add(Mul(x[1], w), x[3]))),
    ),
    "blocks and threads": (
        [*inside(x[:6], [t, t, b, b, d, d]), Not(And(equal(x[0], x[1]), equal(x[2], x[3])))],
        Not(equal(gamma([Add(Mul(x[2], t), x[0]), x[4]], [n, d]), gamma([Add(Mul(x[3], t), x[1]), x[5]], [n, d]))),
    ),
    "barriers": ([], Not(equal(Mul(Int(2), x[0]), Add(Mul(Int(2), x[1]), ONE)))),
    "barriers of two loops": ([], Not(equal(Add(Mul(Int(6), x[0]), Int(2)), Add(Mul(Int(9), x[1]), Int(4))))),
    "a square": ([], Le(ZERO, Mul(Sub(x[0], x[1]), Sub(x[0], x[1])))),
    "an integer and its square": ([], Le(x[0], Mul(x[0], x[0]))),
}
FAMILIES: Family = {k: v for f in (*map(offsets, (2, 3, 4)), TILES, QUOTIENTS, THREADS) for k, v in f.items()}

WRONG: Family = {
    "tiles rounded down": ([Lt(ZERO, t), equal(c, Div(n, t)), *within(x[0], n)], Lt(Div(x[0], t), c)),
    "guard <=": ([Le(ZERO, x[0]), Le(x[0], n), *within(x[1], d)], Lt(gamma(x[:2], [n, d]), Mul(n, d))),
    "gamma of swapped extents": (inside(x[:2], [n, d]), Lt(Add(Mul(x[0], n), x[1]), Mul(n, d))),
    "offsets of 32 bits for all sizes": (inside(x[:2], [n, d]), Lt(gamma(x[:2], [n, d]), Int(2**31))),
    "stride t - 1": (
        [*within(x[0], t), *within(x[1], t), APART],
        Not(equal(Add(x[0], Mul(x[2], Sub(t, ONE))), Add(x[1], Mul(x[3], Sub(t, ONE))))),
    ),
    "all threads write": ([*within(x[0], t), *within(x[1], t), APART], Not(equal(x[2], x[3]))),
    "a head beyond the last": ([equal(h, Mul(g, r)), *within(x[0], Add(h, ONE))], Lt(Div(x[0], r), g)),
    "a divisor that may be zero": ([], equal(Mul(Div(x[0], d), d), x[0])),
    "causal, a tile too few": (
        [Lt(ZERO, t), Lt(ZERO, u), Le(ZERO, x[0]), *within(x[2], t), *within(x[3], u), Le(Sub(KEYS, ONE), x[1])],
        Lt(Add(Mul(x[0], t), x[2]), Add(Mul(x[1], u), x[3])),
    ),
}


def asked(row: tuple[list[Term], Term]) -> Question:
    return question(frozenset(row[0]), row[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_what_follows_has_a_small_witness(name: str) -> None:
    q = asked(FAMILIES[name])
    tree = search(q)
    assert closes(q, tree)
    assert len(json.dumps(tree)) < 600


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_follow_has_none(name: str) -> None:
    assert search(asked(WRONG[name])) is None


def test_the_shortest_reasons_are_the_ones_that_a_reader_would_give() -> None:
    below = search(asked(FAMILIES["gamma 2 below"]))
    assert below == ["sum", [1, 0], [1, 1, 4], [1, 2]]
    odd = ["cut", [[-1], [1, "x.0"], [-1, "x.1"]], ["sum", [1, 1], [2, 2]], ["sum", [1, 0], [2, 2]]]
    assert search(asked(FAMILIES["barriers"])) == odd


def test_what_a_branch_does_not_use_is_not_split() -> None:
    """The minima have nothing to do with it."""
    facts = [Lt(x[0], Min(n, m)), Lt(x[1], Min(d, t)), Lt(x[2], n), Lt(n, Min(x[2], w))]
    tree = search(question(frozenset(facts), Lt(x[1], ZERO)))
    assert tree is not None
    assert tree[0] == "sum"


def test_witnesses_by_key_and_what_is_missing() -> None:
    good, bad = asked(FAMILIES["stride"]), asked(WRONG["guard <="])
    found, missing = witnesses_for([good, bad, good, bad])
    assert list(found) == [good.key]
    assert closes(good, found[good.key])
    assert missing == [bad]
    assert witnesses_for([]) == ({}, [])


def test_a_search_that_errs_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the checker refuses is not handed on."""
    q = asked(FAMILIES["gamma 2 below"])
    monkeypatch.setattr(witnesses._Search, "run", lambda self, q: ["sum", [1, 0], [1, 1, 3], [1, 2]])
    assert search(q) is None
    assert witnesses_for([q]) == ({}, [q])


def test_limits_are_counts_and_end_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    q = asked(FAMILIES["blocks and threads"])
    for effort in (Effort(40, 6, nodes=2), Effort(40, 6, work=5), Effort(0, 6), Effort(40, 0)):
        monkeypatch.setattr(witnesses, "EFFORTS", (effort,))
        assert search(q) is None


def test_the_same_bytes_for_every_hash_seed_and_order() -> None:
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import test_witnesses as w;"
        "names = sys.argv[2:];"
        "print(json.dumps(w.witnesses_for([w.asked(w.FAMILIES[k]) for k in names])[0]))"
    )
    names = ["stride", "a plane", "head of a group", "at a row of it", "gamma 3 first", "offset of a group", "barriers"]
    here = json.dumps(witnesses_for(asked(FAMILIES[k]) for k in reversed(names))[0])
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code, str(Path(__file__).parent), *names]
        out = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
        assert out.stdout.strip() == here


def test_the_sizes_of_a_witness_do_not_depend_on_what_was_asked_before() -> None:
    """Z3 takes another of many models after other questions; a certificate must be the same on every machine."""
    data = (Path(__file__).parents[2] / "certs" / "gqa-masked-cuda-split.json").read_bytes()
    c = parse(data)
    chain: Any = type("Chain", (), {"hypotheses": c.hypotheses, "tilings": c.tilings, "spec": c.spec})
    for bound in range(20):
        decide(question(frozenset(c.hypotheses), Le(Size("h"), Int(bound))))
    assert pipeline.witness(chain, c.inputs) == dict(c.witness)
