"""Integer width: no index that a kernel computes leaves a 64-bit integer, at the sizes of a call.  Trusted (claim d).

The proof is about integers; the machine has 64 bits.  ``programme`` turns an ONF into straight-line code over
intervals: every index term of it, and what the text computes beside it (the product of the core extents, the address
in ``out``, the cells of scratch, the end of a loop that goes by fours).  ``exceeds`` runs that code in Python's own
integers, and names the first value that could leave its range.

A CUDA text has more than its ONF: it decodes block indices, deals axes to threads, pads rows.  ``programme_of`` makes
the same straight-line code of all integers that the text itself computes, as the access table lists them.

It is stricter than need be: a guard or an empty loop hides nothing, because a compiler may compute before it looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from ..operators import INDEX_SORTED
from ..reader.access import Table
from ..term import ZERO, Term

WORD: Final = 2**63
BYTES: Final = 8  # of a cell of scratch, at most
NARROW: Final = 2**24  # below this nothing leaves any range
EXACT: Final = {"float64": 2**53, "float32": 2**24}  # integers up to here are numbers of the dtype

Row = tuple[str, Any, int, int]  # operation, data, and the numbers of two earlier rows
Interval = tuple[int, int]
Env = tuple[int | None, ...]  # for each variable in scope the row of an index; None for a value


class _Writer:
    """Rows, each once; the methods return the number of the row that holds a term."""

    def __init__(self) -> None:
        self.rows: dict[Row, int] = {}
        self.done: set[tuple[Term, Env, int]] = set()
        self.free: dict[Term, int] = {}  # of a text's free indices, the rows

    def row(self, op: str, data: Any = None, a: int = 0, b: int = 0) -> int:
        return self.rows.setdefault((op, data, a, b), len(self.rows))

    def product(self, extents: Sequence[int]) -> int:
        total = extents[0]
        for e in extents[1:]:
            total = self.row("imul", None, total, e)
        return total

    def index(self, t: Term, env: Env) -> int:
        if t.op == "var":
            found = env[-1 - t.data]
            return self.row("int", 0) if found is None else found
        if t.op == "x":
            return self.free[t]
        a, b = (self.index(x, env) for x in t.args) if t.args else (0, 0)
        return self.row(t.op, t.data, a, b)

    def walk(self, t: Term, env: Env, cells: int) -> None:
        """Every index term under ``t``; ``cells`` is the row of the number of cells of the array that it fills."""
        if (t, env, cells) in self.done:
            return
        self.done.add((t, env, cells))
        if t.op in INDEX_SORTED or t.op == "var":
            if t.op != "var":
                self.index(t, env)
            return
        inside: Env = env
        match t.op:
            case "cast":
                self.row("cast", None, self.index(t.args[0], env))
            case "build":
                extent = self.index(t.args[0], env)
                cells = self.row("imul", None, cells, self.row("natural", None, extent))
                self.row("cells", None, cells)
                inside = (*env, self.row("below", None, extent))
            case "tiles":
                inside = (*env, self.row("below", None, self.index(t.args[1], env)))
            case "fold":
                extent = self.index(t.args[0], env)
                self.row("iadd", None, extent, self.row("int", -3))  # the loop that goes by fours
                inside = (*env, self.row("below", None, extent))
            case "let":
                inside = (*env, None)
        for x, bound in zip(t.args, t.binds, strict=True):
            self.walk(x, inside if bound else env, cells)


@lru_cache(maxsize=256)
def programme(onf: Term) -> tuple[Row, ...]:
    """The rows of an ONF: its frame of cores and of the output's axes, and all that stands inside."""
    w = _Writer()
    one = w.row("int", 1)
    cores: list[int] = []
    axes: list[tuple[int, int]] = []  # of the output: index and extent
    lanes, t = one, onf
    env: Env = ()
    while t.op in ("build", "tiles", "let"):
        a = t.args
        if t.op == "let":
            w.walk(a[0], env, lanes)
            env, t = (*env, None), a[1]
            continue
        extents = [w.index(x, env) for x in a[:-1]]
        count = extents[1] if t.op == "tiles" else extents[0]
        inside = (*env, w.row("below", None, count))
        if t.data == "core":
            cores.append(count)
        if t.op == "tiles" and a[3].op == "build":
            tile, rows = extents[2], w.index(a[3].args[0], inside)
            lanes = w.row("natural", None, rows) if a[3].data == "lane" else lanes
            env = (*inside, w.row("below", None, rows))
            start = w.row("imul", None, w.row("below", None, count), tile)
            axes.append((w.row("iadd", None, start, w.row("below", None, rows)), extents[0]))
            t = a[3].args[1]
            continue
        axes.append((w.row("below", None, count), count))
        env, t = inside, a[-1]
    w.walk(t, env, lanes)
    for first in range(len(cores)):
        w.product(cores[first:])
    address = None
    for i, extent in axes:  # gamma, by Horner's rule
        address = i if address is None else w.row("iadd", None, w.row("imul", None, address, extent), i)
    return tuple(w.rows)


def programme_of(table: Table) -> tuple[Row, ...]:
    """The rows of one launch: every integer that its text computes, for all blocks, threads and iterations.

    In Numba a block or thread index has 32 bits, which the limits of a launch respect, and all that is computed from
    it has 64.
    """
    w = _Writer()
    for frame in table.frames:
        if frame.kind == "loop":
            start, stop, _ = frame.decides
            first, end = w.index(start, ()), w.index(stop, ())
            w.free[frame.indices[0]] = (
                w.row("between", None, first, end) if start is not ZERO else w.row("below", None, end)
            )
        else:
            w.free.update(
                (i, w.row("below", None, w.index(e, ()))) for i, e in zip(frame.indices, frame.extents, strict=True)
            )
    for value in table.values:
        w.index(value.term, ())
    for extents in ((*table.grid, *table.block), *(a.extents for a in table.outputs)):
        w.product([w.index(e, ()) for e in extents])
    w.row("cells", None, w.index(table.pool, ()))
    return tuple(w.rows)


def exceeds(rows: Sequence[Row], sizes: Mapping[str, int], dtype: str) -> str | None:
    """Which value leaves its range at these sizes, and how far, in words; None if none does."""
    values: list[Interval] = []
    for number, row in enumerate(rows):
        low, high = found = _interval(row, values, sizes)
        values.append(found)
        if low > -NARROW and high < NARROW:
            continue
        if row[0] == "cast":
            if max(-low, high) > EXACT[dtype]:
                return f"{words(rows, row[2])}, which is made a real, is {_far(found)}, and {dtype} would round it"
        elif low < -WORD or high >= (WORD // BYTES if row[0] == "cells" else WORD):
            return f"{words(rows, number)} is {_far(found)}, more than 64 bits hold"
    return None


def _interval(row: Row, values: Sequence[Interval], sizes: Mapping[str, int]) -> Interval:
    """The least and the greatest value of a row.  An empty range counts as its one index 0."""
    op, data, a, b = row
    if op == "size":
        return sizes[data], sizes[data]
    if op == "int":
        return data, data
    (p, q), (r, s) = values[a], values[b]
    match op:
        case "iadd":
            return p + r, q + s
        case "imul" if p >= 0 and r >= 0:
            return p * r, q * s
        case "imul":
            corners = (p * r, p * s, q * r, q * s)
        case "below":
            return 0, max(0, q - 1)
        case "between":
            return p, max(q, s - 1)
        case "natural":
            return max(0, p), max(0, q)
        case "imin":
            return min(p, r), min(q, s)
        case "idiv":  # a divisor is positive, or nothing is computed with the quotient
            r, s = max(1, r), max(1, s)
            corners = (p // r, p // s, q // r, q // s)
        case _:  # cast, cells: the row that they judge
            return p, q
    return min(corners), max(corners)


def _far(x: Interval) -> str:
    return f"{'-' if -x[0] > x[1] else ''}2**{max(-x[0], x[1]).bit_length() - 1} or beyond"


def words(rows: Sequence[Row], number: int) -> str:
    """A row as a reader writes it; an index is named by its range."""
    op, data, a, b = rows[number]
    match op:
        case "int" | "size":
            return str(data)
        case "below":
            return f"[index below {words(rows, a)}]"
        case "between":
            return f"[index from {words(rows, a)} to {words(rows, b)}]"
        case "natural":
            return f"max(0, {words(rows, a)})"
        case "cells":
            return f"the bytes of scratch for {words(rows, a)} cells"
        case "imin":
            return f"min({words(rows, a)}, {words(rows, b)})"
        case "cast":
            return words(rows, a)
    if op == "iadd" and rows[b][0] == "int" and rows[b][1] < 0:
        return f"({words(rows, a)} - {-rows[b][1]})"
    if op == "iadd" and rows[b][0] == "imul" and rows[rows[b][2]][:2] == ("int", -1):
        return f"({words(rows, a)} - {words(rows, rows[b][3])})"
    return f"({words(rows, a)} {SIGNS[op]} {words(rows, b)})"


SIGNS: Final = {"iadd": "+", "imul": "*", "idiv": "div"}
