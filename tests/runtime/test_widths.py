"""No index of a kernel leaves 64 bits: the analysis against texts that are run with integers that watch themselves."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from moaproof.codegen import print_kernel
from moaproof.errors import NotCovered
from moaproof.runtime import widths
from moaproof.runtime.launch import launch, planned
from moaproof.runtime.loader import Loaded, load
from moaproof.runtime.widths import WORD, exceeds, programme
from moaproof.term import Add as Plus
from moaproof.term import (
    And,
    Build,
    Div,
    F,
    Flat,
    Fold,
    In,
    Int,
    Let,
    Lt,
    Min,
    Mul,
    Psi,
    Size,
    Sub,
    Term,
    Tiles,
    Var,
    Where,
    tile_extent,
)  # fmt: skip

n, m, p = map(Size, ("n", "m", "p"))
A, SCALAR = In("a", n), In("s")
BIG = 2**62


def far(onf: Term, dtype: str = "float64", **sizes: int) -> str | None:
    return exceeds(programme(onf), sizes, dtype)


def at(index: Term) -> Term:
    """A kernel over m that reads its input at an index of k < m."""
    return Build(m, Flat(A, index), "core")


# --- each operation, at the edge ---------------------------------------------------------------------

EDGES: dict[str, tuple[Term, dict[str, int], dict[str, int]]] = {
    "sum": (at(Plus(Size("x"), Size("y"))), {"x": BIG, "y": BIG - 1}, {"y": BIG}),
    "difference": (at(Sub(Sub(Var(0), Size("x")), Size("y"))), {"x": WORD - 1, "y": 1}, {"y": 2}),
    "product": (at(Mul(Size("x"), Size("y"))), {"x": BIG, "y": 1}, {"y": 2}),
    "product of negatives": (
        at(Mul(Sub(Int(0), Size("x")), Sub(Int(0), Size("y")))),
        {"x": 2**31, "y": 2**31},
        {"y": 2**32},
    ),
    "index times size": (at(Mul(Var(0), Size("x"))), {"m": 3, "x": BIG - 1}, {"m": 4}),
    "quotient": (at(Mul(Div(Size("x"), Size("y")), Int(2))), {"x": WORD - 1, "y": 2}, {"y": 1}),
    "quotient by what may be less": (at(Mul(Div(Size("x"), Min(Size("y"), Int(2))), Int(2))), {"x": WORD - 1, "y": 2}, {"y": 1}),  # noqa: E501
    "minimum": (at(Mul(Min(Size("x"), Size("y")), Int(2))), {"x": WORD - 1, "y": BIG - 1}, {"y": BIG}),
    "minimum of a range": (at(Mul(Min(Int(9), Var(0)), Size("x"))), {"m": 3, "x": BIG - 1}, {"m": 4}),
    "product of ranges": (at(Mul(Sub(Var(0), Size("x")), Var(0))), {"m": 3, "x": BIG}, {"x": BIG + 1}),
    "quotient of ranges": (
        at(Mul(Div(Sub(Var(0), Size("x")), Plus(Var(0), Int(1))), Int(2))),
        {"m": 3, "x": BIG},
        {"x": BIG + 1},
    ),
    "under a fold": (
        Build(m, Let(Fold("add", p, Flat(A, Mul(Var(0), Size("x")))), Var(0)), "core"),
        {"p": 3, "x": BIG - 1},
        {"p": 4},
    ),
    "in a guard": (
        Build(m, Let(Fold("add", p, SCALAR, Lt(Mul(Var(0), Size("x")), n)), Var(0)), "core"),
        {"p": 3, "x": BIG - 1},
        {"p": 4},
    ),
    "behind a guard that is false": (
        Build(m, Where(Lt(n, Int(0)), Flat(A, Mul(Size("x"), Int(2))), SCALAR), "core"),
        {"x": BIG - 1},
        {"x": BIG},
    ),
    "behind a conjunction": (
        Build(m, Where(And(Lt(n, Int(0)), Lt(Mul(Size("x"), Int(2)), n)), SCALAR, SCALAR), "core"),
        {"x": BIG - 1},
        {"x": BIG},
    ),
    "in a loop without iterations": (
        Build(m, Let(Fold("add", Size("zero"), Flat(A, Mul(Size("x"), Int(2)))), Var(0)), "core"),
        {"zero": 0, "x": BIG - 1},
        {"x": BIG},
    ),
    "cores": (Build(Size("x"), Build(Size("y"), SCALAR, "core"), "core"), {"x": BIG, "y": 1}, {"y": 2}),
    "cores hidden by an empty one": (
        Build(Size("zero"), Build(Size("x"), Build(Size("y"), SCALAR, "core"), "core"), "core"),
        {"zero": 0, "x": BIG, "y": 1},
        {"y": 2},
    ),
    "address": (Build(Size("x"), Build(Size("y"), SCALAR), "core"), {"x": 2, "y": BIG - 1}, {"x": 3}),
    "address through a let": (
        Build(Size("x"), Let(SCALAR, Build(Size("y"), Var(1))), "core"),
        {"x": 2, "y": BIG - 1},
        {"x": 3},
    ),
    "address of a row in a tile": (
        Tiles(m, Size("b"), Size("t"), Build(tile_extent(m, Size("t"), Var(0)), Build(Size("x"), SCALAR)), "core"),
        {"m": 2, "b": 1, "t": 2, "x": BIG},
        {"x": BIG + 1},
    ),
    "loop that goes by fours": (
        Build(m, Let(Fold("add", Sub(Int(0), Size("x")), SCALAR), Var(0)), "core"),
        {"x": WORD - 3},
        {"x": WORD - 2},
    ),
    "scratch": (
        Build(m, Let(Build(Size("x"), Build(Size("y"), SCALAR)), Psi(Var(0), Int(0), Int(0))), "core"),
        {"x": 2**59, "y": 1},
        {"y": 2},
    ),
    "scratch of lanes": (
        Tiles(
            m, Size("b"), Size("t"),
            Build(
                tile_extent(m, Size("t"), Var(0)),
                Let(Build(Size("x"), SCALAR), Psi(Var(0), Int(0))),
                "lane",
            ),
            "core",
        ),
        {"m": 2, "b": 1, "t": 2, "x": 2**59 - 1},
        {"x": 2**59},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EDGES)
def test_the_edge(case: str) -> None:
    onf, inside, outside = EDGES[case]
    common = {"n": 1, "m": 1, "p": 1}
    assert far(onf, **common | inside) is None
    assert far(onf, **common | inside | outside) is not None


@pytest.mark.parametrize(("dtype", "limit"), [("float64", 2**53), ("float32", 2**24)])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_index_as_a_real_is_exact(dtype: str, limit: int, sign: int) -> None:
    cast = Term("cast", None, (Mul(Int(sign), Size("x")),))
    onf = Build(m, F("mul", SCALAR, cast), "core")
    assert far(onf, dtype, m=1, x=limit) is None
    found = far(onf, dtype, m=1, x=limit + 1)
    assert found is not None
    assert dtype in found


def test_the_words_name_the_expression_and_how_far_it_goes() -> None:
    onf = at(Sub(Mul(Var(0), Size("x")), Plus(n, Int(-3))))
    assert far(onf, n=1, m=2**40, x=2**40) == "([index below m] * x) is 2**79 or beyond, more than 64 bits hold"
    assert widths.words(programme(onf), len(programme(onf)) - 1) == "(([index below m] * x) - (n - 3))"


# --- the texts, run with integers that watch themselves -----------------------------------------------


class Watched(int):
    """An integer that remembers the farthest that any integer got."""

    farthest = 0

    def _seen(self, value: int) -> Watched:
        Watched.farthest = max(Watched.farthest, value if value >= 0 else -value - 1)
        return Watched(value)

    def __add__(self, other: int) -> Watched:
        return self._seen(int(self) + int(other))

    def __sub__(self, other: int) -> Watched:
        return self._seen(int(self) - int(other))

    def __rsub__(self, other: int) -> Watched:
        return self._seen(int(other) - int(self))

    def __mul__(self, other: int) -> Watched:
        return self._seen(int(self) * int(other))

    def __floordiv__(self, other: int) -> Watched:
        return self._seen(int(self) // int(other))

    def __mod__(self, other: int) -> Watched:
        return self._seen(int(self) % int(other))

    __radd__, __rmul__ = __add__, __mul__


def watched_range(*bounds: int) -> Iterator[Watched]:
    return (Watched(k) for k in range(*map(int, bounds)))


def farthest(text: bytes, arguments: list[Any]) -> int:
    """Run a text on plain floats; the farthest integer that it computes."""
    function = ast.parse(text).body[-1]
    assert isinstance(function, ast.FunctionDef)
    function.decorator_list = []
    scope: dict[str, Any] = {
        "LOWEST": -math.inf, "ZERO": 0.0, "ONE": 1.0, "real": float, "empty": lambda shape, real: np.zeros(shape),
        "fmax": max, "exp": math.exp, "sqrt": math.sqrt, "range": watched_range, "prange": watched_range,
        "quotient": lambda o, l: o / l if l else 0.0,
        "rescale": lambda a, t: math.exp(a - t) if a > -math.inf else 0.0,
    }  # fmt: skip
    exec(compile(ast.fix_missing_locations(ast.Module([function], [])), "<text>", "exec"), scope)  # noqa: S102
    Watched.farthest = 0
    scope["kernel"](*arguments)
    return Watched.farthest


GROUPED = {
    "b": 2, "h": 4, "g": 2, "r": 2, "n": 5, "m": 7, "dk": 6, "dv": 3, "tq": 2, "bq": 3, "tk": 4, "bk": 2,
    "mb": 2, "mh": 4, "mn": 5, "mm": 7, "sb": 1, "sh": 1, "sn": 1, "sm": 1,
}  # fmt: skip
ALONE = GROUPED | {"h": 3, "g": 3, "r": 1, "mh": 3}
CASES = {
    "attention-online": ALONE, "causal-online": ALONE, "masked-online": ALONE, "scaled-online": ALONE,
    "gqa-online": GROUPED, "gqa-causal-online": GROUPED, "gqa-masked-online": GROUPED, "unshifted-online": ALONE,
    "attention-rows": ALONE, "causal-rows": ALONE, "masked-rows": ALONE, "one-head-online": ALONE,
}  # fmt: skip


def arguments_of(kernel: Loaded, sizes: dict[str, int]) -> tuple[np.ndarray, dict[str, Any]]:
    plan = planned(kernel, sizes)
    given: dict[str, Any] = {}
    for t, extents in zip(kernel.certificate.inputs, plan.inputs, strict=True):
        name, sort = t.data
        cells = np.ones(math.prod(extents), bool if sort == "bool" else np.float64)
        given[name] = cells if t.args else np.float64(0.5)
    return np.zeros(math.prod(plan.out)), given


@pytest.mark.parametrize("name", CASES)
def test_what_a_shipped_text_computes_stays_within_what_is_foreseen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a word as long as the farthest integer of a run the sizes are refused, with one of twice that they run."""
    kernel = load(name, "float64")
    sizes = {s: CASES[name][s] for s in kernel.sizes}
    out, given = arguments_of(kernel, sizes | CASES[name])
    order = [given[t.data[0]] for t in kernel.certificate.inputs]
    top = farthest(kernel.source, [out, *order, *(Watched(sizes[s]) for s in kernel.sizes)])
    assert top >= 2 * 3 * 5 if name != "one-head-online" else 5 * 6 - 1
    monkeypatch.setattr(widths, "NARROW", 0)
    monkeypatch.setattr(widths, "BYTES", 1)
    monkeypatch.setattr(widths, "WORD", top)
    assert exceeds(programme(kernel.certificate.onf), sizes, "float64") is not None
    monkeypatch.setattr(widths, "WORD", 2 * top + 8)
    assert exceeds(programme(kernel.certificate.onf), sizes, "float64") is None


def test_what_a_printed_text_computes_beside_its_term() -> None:
    """The product of the cores and the address in the output are in the text alone: the analysis has both."""
    onf = Build(n, Build(m, Build(p, Flat(In("a", p), Var(0))), "core"), "core")
    text = print_kernel(
        onf, (In("a", p),), ("n", "m", "p"), "cpu", "float64", {"name": "test", "core": "0" * 64}
    ).encode()
    sizes = {"n": 5, "m": 7, "p": 3}
    top = farthest(text, [np.zeros(105), np.ones(3), *map(Watched, sizes.values())])
    assert top == 104  # the last address
    rows = programme(onf)
    assert ("imul", None, rows.index(("size", "n", 0, 0)), rows.index(("size", "m", 0, 0))) in rows
    assert not any(u.op in ("imul", "iadd") for u in _inside(onf))


def _inside(t: Term) -> Iterator[Term]:
    yield t
    for x in t.args:
        yield from _inside(x)


# --- at the launcher ----------------------------------------------------------------------------------

HOSTILE = {
    "the product of the cores": ({"b": 0, "h": BIG, "bq": 4, "n": 4, "tq": 1}, "h"),
    "a batch of nothing": ({"b": 0, "h": 2**32, "n": 2**31, "bq": 2**31, "tq": 1, "dk": 0, "dv": 0}, r"h\] \* bq|h"),
    "keys without components": ({"m": 2**40, "dk": 0, "dv": 0, "b": 2**24, "tk": 1, "bk": 2**40}, "beyond"),
    "components of nothing": ({"n": 0, "bq": 0, "m": 16, "tk": 16, "bk": 1, "dk": BIG}, "beyond"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_empty_axis_hides_no_huge_one(case: str) -> None:
    sizes, message = HOSTILE[case]
    kernel = load("attention-online", "float64")
    full = {"b": 1, "h": 1, "n": 1, "m": 1, "dk": 1, "dv": 1, "tq": 8, "bq": 1, "tk": 8, "bk": 1} | sizes
    arrays = {
        "q": full["b"] * full["h"] * full["n"] * full["dk"],
        "k": full["b"] * full["h"] * full["m"] * full["dk"],
        "v": full["b"] * full["h"] * full["m"] * full["dv"],
    }
    out = full["b"] * full["h"] * full["n"] * full["dv"]
    cells = {name: np.zeros(count if count < 100 else 0) for name, count in arrays.items()}
    with pytest.raises(NotCovered, match=message):
        launch(kernel, np.zeros(out if out < 100 else 0), cells | {"scale": np.float64(1)}, full)


def test_the_sizes_of_a_call_that_could_ever_be_are_covered() -> None:
    """A terabyte of keys and a long sequence: nothing of that is refused for its width."""
    kernel = load("causal-online", "float64")
    sizes = {"b": 64, "h": 128, "n": 2**20, "m": 2**20, "dk": 256, "dv": 256, "tq": 256, "tk": 64}
    assert planned(kernel, sizes | {"bq": 2**12, "bk": 2**14}).out == (64, 128, 2**20, 256)


def test_known_sizes_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = load("attention-online", "float64")
    sizes = {"b": 1, "h": 1, "n": 3, "m": 1, "dk": 1, "dv": 77, "tq": 8, "bq": 1, "tk": 8, "bk": 1}
    first = planned(kernel, sizes)

    def again(*_: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr("moaproof.runtime.launch.exceeds", again)
    assert planned(kernel, dict(reversed(sizes.items()))) is first
    with pytest.raises(AssertionError, match="asked again"):
        planned(kernel, sizes | {"dv": 78})
