"""The Operational Normal Form: the terms that a kernel's text can say.  Trusted.

    Text  ::= Top | Launches
    Launches ::= Launch of Row | let(Launch of Left, Launches)            the last, or one and what comes after it
    Launch of X ::= build[grid](e, Launch of X) | build[grid](e, build[thread](e, X))
            | tiles[grid](s, b, t, build[thread](min(t, s-q*t), X))
    Left  ::= let(V, Left) | var of a state                               states that a launch leaves for later ones
    Top   ::= build[core](e, Top) | tiles[core](s, b, t, Tile) | Nest     e, s, b, t of cores and grid without variables
    Tile  ::= build[lane](min(t, s-q*t), Row) | build[seq](min(t, s-q*t), Row)
    Nest  ::= build[seq](e, Nest) | Row
    Row   ::= let(V, Row) | build[seq](e, Row) | E
    V     ::= E | Array | fold[add|mul|max](n, G, Block of E or Array) | fold[softmax](n, G, Block of State)
    Array ::= build[seq](e, Block of E or Array)
    State ::= state(E, E, E or pure Array)                                pure: builds and then E, without lets
            | psi(var of states, Index...)                                a state at one column
    Block of X ::= let(V, Block of X) | X
    E     ::= var | flat(in, Index) | in of rank 0 | psi(var, Index...) | quotient(var) | psi(quotient(var), Index...)
            | f(E..) | where(G, E, E) | real | cast(Index)
    G     ::= true | lt(Index, Index) | and(G, G) | not(G) | flat(bool in, Index)
    Index ::= var | int | size | iadd | imul | idiv | imin

``psi(var, ..)`` indexes an array in full.  The value of a let, and the element of an Array, is never the bare constant
0 or 1 (those begin an accumulator); constants are quotients of integers below 2^53, so that the text says them exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import IllFormed
from ..operators import INDEX_SORTED, typeof
from ..term import MAX_INT, Real, Term, Var, tile_extent, up

UNITS = (Real(0), Real(1))


@dataclass(frozen=True, slots=True)
class _At:
    """Where the walk is; the kind of each variable: ``index``, or a value, state or array of states, and a rank."""

    kinds: tuple[tuple[str, int], ...] = ()
    path: tuple[str, ...] = ()

    def under(self, name: str, kind: str, rank: int = 0) -> _At:
        return _At((*self.kinds, (kind, rank)), (*self.path, name))

    def at(self, name: str) -> _At:
        return replace(self, path=(*self.path, name))

    def need(self, condition: bool, why: str) -> None:
        if not condition:
            raise IllFormed(f"ONF, at {' > '.join(self.path) or 'the root'}: {why}")


def is_onf(t: Term) -> bool:
    """Is the closed term in Operational Normal Form?"""
    try:
        require_onf(t)
    except IllFormed:
        return False
    return True


def require_onf(t: Term) -> None:
    """``IllFormed`` with the place and the reason unless ``t`` is a closed, well-typed real array in ONF."""
    root = _At()
    root.need(t.free == 0, "a kernel's term is closed")
    root.need(typeof(t).sort == "real", "a kernel computes reals")
    _text(t, root)


def _text(t: Term, at: _At) -> None:
    """The launches of a text in order, or what is no launch."""
    while t.op == "let" and _is_launch(t.args[0]):
        at = at.under("launch", "states", _launch(t.args[0], at.at("states"), left=True))
        t = t.args[1]
        after = t.args[0] if t.op == "let" else t
        at.need(_is_launch(after), "after a launch that leaves states comes another launch")
    if _is_launch(t):
        _launch(t, at, left=False)
    else:
        _top(t, at)


def _is_launch(t: Term) -> bool:
    return t.op in ("build", "tiles") and t.data == "grid"


def _launch(t: Term, at: _At, left: bool) -> int:
    """Check a grid, its threads, and the row below, which ends in a state if ``left``; the rank of all."""
    for x in t.args[:-1]:
        at.need(x.free == 0, "the extents of grid and threads mention no variable")
        _index(x, at)
    inside = at.under(t.data, "index")
    if t.op == "tiles":
        rows, inside = _rows(t, inside, ("thread",))
        return 1 + _threads(rows, inside, left)
    below = t.args[1]
    if t.data == "thread":
        return 1 + _threads(below, inside, left)
    inside.need(_is_launch(below) or (below.op == "build" and below.data == "thread"), "a grid ends in threads")
    return 1 + _launch(below, inside, left)


def _threads(t: Term, at: _At, left: bool) -> int:
    """The row of a thread; the rank of the state that it ends in."""
    if not left:
        _row(t, at)
        return 0
    while t.op == "let":
        at, t = _bind(t.args[0], at), t.args[1]
    at.need(t.op == "var", "a launch before the last leaves a state")
    kind, rank = at.kinds[-1 - int(t.data)]
    at.need(kind == "state", "a launch before the last leaves a state")
    return rank


def _rows(t: Term, at: _At, axes: tuple[str, ...]) -> tuple[Term, _At]:
    """What the rows of a tile are, each min(t, s - q*t) of them; ``at`` is under the tile's index."""
    tile = t.args[3]
    at.need(tile.op == "build" and tile.data in axes, f"a tile is build[{'] or build['.join(axes)}]")
    due = tile_extent(up(t.args[0]), up(t.args[2]), Var(0))
    at.need(tile.args[0] is due, "a tile has min(t, s - q*t) rows, written so")
    return tile.args[1], at.under("row", "index")


def _top(t: Term, at: _At) -> None:
    a = t.args
    if t.op in ("build", "tiles") and t.data == "core":
        here = at.at("cores")
        for x in a[:-1]:
            here.need(x.free == 0, "the extents of cores and tiles mention no variable")
            _index(x, here)
        if t.op == "build":
            _top(a[1], at.under("core", "index"))
            return
        _row(*_rows(t, at.under("tile", "index"), ("lane", "seq")))
        return
    at.need(t.op != "tiles", "only tiles[core] is covered")
    _row(t, at)


def _row(t: Term, at: _At) -> None:
    match t.op:
        case "let":
            _row(t.args[1], _bind(t.args[0], at))
        case "build":
            at.need(t.data == "seq", f"build[{t.data}] stands outside the prefix of cores and tiles")
            _index(t.args[0], at)
            _row(t.args[1], at.under("build", "index"))
        case _:
            _scalar(t, at)


def _bind(v: Term, at: _At) -> _At:
    """Check the value of a let; the place inside its body."""
    here = at.at("let")
    here.need(v not in UNITS, "a let of the constant 0 or 1; write the constant where it is used")
    if v.op == "build":
        return at.under("let", "value", _block(v, here, ("real",)))
    if v.op != "fold":
        _scalar(v, here)
        return at.under("let", "value")
    _index(v.args[0], here)
    inside = here.under(f"fold {v.data}", "index")
    if v.args[1].op != "true":
        _guard(v.args[1], inside)
    state = v.data == "softmax"
    rank = _block(v.args[2], inside, ("state",) if state else ("real", "accumulator"))
    return at.under("let", "state" if state else "value", rank)


def _block(t: Term, at: _At, due: tuple[str, ...]) -> int:
    """Check a Block; the rank of what it ends in."""
    while t.op == "let":
        at, t = _bind(t.args[0], at), t.args[1]
    if due == ("state",):
        if t.op == "psi" and t.args[0].op == "var":
            for x in t.args[1:]:
                _index(x, at)
            known = at.kinds[-1 - t.args[0].data] == ("states", len(t.args) - 1)
            at.need(known, "psi indexes an array of states in full")
            return 0
        at.need(t.op == "state", "the element of a softmax fold is a state")
        for x in t.args[:2]:
            _scalar(x, at.at("state"))
        return _pure(t.args[2], at.at("state"))
    if t.op == "build":
        at.need(t.data == "seq", f"build[{t.data}] inside a row")
        _index(t.args[0], at)
        return 1 + _block(t.args[1], at.under("build", "index"), due)
    at.need(
        "accumulator" in due or t not in UNITS,
        "an array of the constant 0 or 1; write the constant where it is used",
    )
    _scalar(t, at)
    return 0


def _pure(t: Term, at: _At) -> int:
    if t.op != "build":
        _scalar(t, at)
        return 0
    at.need(t.data == "seq", f"build[{t.data}] inside a state")
    _index(t.args[0], at)
    return 1 + _pure(t.args[1], at.under("build", "index"))


def _scalar(t: Term, at: _At) -> None:
    a = t.args
    match t.op:
        case "var":
            at.need(
                at.kinds[-1 - t.data] == ("value", 0),
                "a variable that is no scalar value stands for a scalar",
            )
        case "flat":
            at.need(a[0].op == "in" and a[0].data[1] == "real", "flat reads an input of reals")
            _index(a[1], at)
        case "in":
            at.need(t.data[1] == "real" and not a, "an input is read by flat, one of rank 0 by name")
        case "quotient":
            _quotient(t, 0, at)
        case "psi":
            for x in a[1:]:
                _index(x, at)
            if a[0].op == "quotient":
                _quotient(a[0], len(a) - 1, at)
                return
            at.need(
                a[0].op == "var" and at.kinds[-1 - a[0].data] == ("value", len(a) - 1),
                "psi indexes a let in full",
            )
        case "f":
            for x in a:
                _scalar(x, at)
        case "where":
            _guard(a[0], at)
            _scalar(a[1], at)
            _scalar(a[2], at)
        case "real":
            numerator, denominator = (int(x) for x in t.data)
            at.need(
                max(abs(numerator), denominator) <= MAX_INT,
                "a constant is no quotient of integers below 2^53",
            )
        case "cast":
            _index(a[0], at)
        case _:
            at.need(
                False,
                f"{t.op} is no scalar of a kernel" + (": bind the fold by a let" if t.op == "fold" else ""),
            )


def _quotient(t: Term, rank: int, at: _At) -> None:
    s = t.args[0]
    at.need(
        s.op == "var" and at.kinds[-1 - s.data] == ("state", rank),
        "quotient is of a let of a state, indexed in full",
    )


def _guard(t: Term, at: _At) -> None:
    match t.op:
        case "true":
            return
        case "lt":
            _index(t.args[0], at)
            _index(t.args[1], at)
        case "and" | "not":
            for x in t.args:
                _guard(x, at)
        case "flat":
            at.need(t.args[0].op == "in" and t.args[0].data[1] == "bool", "a guard reads an input of truth values")
            _index(t.args[1], at)
        case _:
            at.need(False, f"{t.op} is no guard of a kernel")


def _index(t: Term, at: _At) -> None:
    if t.op == "var":
        at.need(at.kinds[-1 - t.data][0] == "index", "a variable that is no index stands in an index")
        return
    at.need(t.op in INDEX_SORTED, f"{t.op} is no index of a kernel")
    for x in t.args:
        _index(x, at)
