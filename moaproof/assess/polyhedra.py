"""Is the text of a shipped configuration safe?  A second, complete engine: integer polyhedra (islpy).  Untrusted.

``reader/safety.py`` proves a text for all sizes by one decider.  Here the sizes that stand in products (heads, tiles,
blocks) are numbers, all others stay symbols; then every address and guard is affine, and each question is whether a
set of integer points is empty, which isl decides.  Nothing is solved for and nothing is guessed: initialised is one
inclusion of sets, exactly once is injectivity and equality of sets.  The access table is the same, and so is the list
of places where two threads may meet; the meaning of each answer is a point of the set, shown when there is one.

Facts about sizes that are not affine are left out (a weaker assumption).  A guard that reads a mask may go either way:
it is left out where that asks for more, and a write under it initialises nothing outside of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BackendMissing, NotCovered, Refuted
from ..reader.access import Array, Frame, Row, Table, read_table
from ..reader.safety import JUDGED, Tile, barriers_of, meetings, pairs_due, places_of, put, renamed, sharers
from ..shapes import normal, polynomial, product
from ..term import Int, Lt, Term, subterms


@dataclass
class PolyhedraReport:
    """How many sets were decided, by kind, and the sizes that were numbers."""

    fixed: dict[str, int]
    decided: dict[str, int] = field(default_factory=dict)

    def enter(self, kind: str) -> None:
        self.decided[kind] = self.decided.get(kind, 0) + 1


def check_polyhedra(
    data: bytes, inputs: Sequence[Term], sizes: Sequence[str], facts: Sequence[Term], out_shape: Sequence[Term],
    fixed: Mapping[str, int],
) -> PolyhedraReport:  # fmt: skip
    """Decide the safety of a text where the sizes in ``fixed`` are numbers; arguments as of ``safety.check_text``.

    Raises ``Refuted`` with a point, ``NotCovered`` where an address is not affine (fix more sizes), ``BackendMissing``
    without islpy.
    """
    try:
        import islpy
    except ImportError:
        raise BackendMissing("the check by polyhedra needs islpy: pip install islpy") from None
    report = PolyhedraReport(dict(fixed))
    symbols = [s for s in sizes if s not in fixed]
    for table in read_table(data, inputs, sizes, out_shape):
        _Engine(islpy, table, facts, report.fixed, symbols, report).run()
    return report


class NotAffine(Exception):
    """A term has no affine form."""


def affine(t: Term, fixed: Mapping[str, int]) -> str:
    """An index term in isl's syntax, its free index k as ``xk``; ``NotAffine`` if it is none."""
    numbers = {u: Int(fixed[u.data]) for u in subterms(t) if u.op == "size" and u.data in fixed}
    parts: list[str] = []
    for m, c in polynomial(_put_sizes(t, numbers)):
        if len(m) > 1 or any(n > 1 for _, n in m):
            raise NotAffine
        parts.append(f"{c}" if not m else f"{c}*{_atom(m[0][0], fixed)}")
    return "(" + " + ".join(parts or ["0"]) + ")"


def _atom(a: Term, fixed: Mapping[str, int]) -> str:
    match a.op:
        case "x":
            return f"x{a.data}"
        case "size":
            return str(a.data)
        case "imin":
            return f"min({affine(a.args[0], fixed)}, {affine(a.args[1], fixed)})"
        case "idiv" if a.args[1].op == "int" and a.args[1].data > 0:
            return f"floor({affine(a.args[0], fixed)}/{a.args[1].data})"
    raise NotAffine


def _put_sizes(t: Term, numbers: Mapping[Term, Term]) -> Term:
    if t.op == "size":
        return numbers.get(t, t)
    if not t.args or t.op == "in":
        return t
    a = [_put_sizes(x, numbers) for x in t.args]
    if t.op in ("imin", "idiv"):
        a = [normal(x) for x in a]
        if all(x.op == "int" for x in a) and (t.op == "imin" or a[1].data > 0):
            return Int(min(a[0].data, a[1].data) if t.op == "imin" else a[0].data // a[1].data)
    return Term(t.op, t.data, a)


def _reads_mask(t: Term) -> bool:
    return any(u.op == "flat" for u in subterms(t))


@dataclass
class _Engine:
    isl: Any
    table: Table
    facts: Sequence[Term]
    fixed: dict[str, int]
    symbols: list[str]
    found: PolyhedraReport

    def __post_init__(self) -> None:
        self.offset = self.table.indices
        self.tile = Tile(self.table)
        self.names = {i.data: n for f in self.table.frames for i, n in zip(f.indices, f.names, strict=False)}
        self.base = self.sizes()

    def run(self) -> None:
        self.bounds()
        self.uniform()
        self.races()
        for r in self.table.rows:
            if not r.write and r.array.space not in JUDGED:
                self.initialised(r)
        for output in self.table.outputs:
            self.exactly_once(output)

    # --- sets ------------------------------------------------------------------------------------------------

    def sizes(self) -> list[str]:
        """Sizes are natural, and the facts about them; those that are not affine are left out."""
        said = [f"{s} >= 0" for s in self.symbols]
        for f in self.facts:
            try:
                said.append(self.truth(f))
            except NotAffine:
                continue
        return said

    def truth(self, t: Term) -> str:
        match t.op:
            case "true":
                return "0 = 0"
            case "lt":
                return f"{affine(t.args[0], self.fixed)} < {affine(t.args[1], self.fixed)}"
            case "and":
                return f"({self.truth(t.args[0])} and {self.truth(t.args[1])})"
            case "not":
                return f"not ({self.truth(t.args[0])})"
        raise NotAffine

    def within(self, frames: Iterable[Frame], new: Mapping[Term, Term] | None = None) -> list[str]:
        """What holds inside the frames; guards that read masks are left out."""
        facts = [put(f, new or {}) for frame in frames for f in frame.facts]
        return [self.truth(f) for f in facts if not _reads_mask(f)]

    def set(self, dims: Sequence[str], said: Iterable[str], hidden: Iterable[str] = ()) -> Any:
        body = " and ".join([*self.base, *said]) or "0 = 0"
        exists = f"exists {', '.join(hidden)} : " if (hidden := list(hidden)) else ""
        return self.isl.Set(f"[{', '.join(self.symbols)}] -> {{ [{', '.join(dims)}] : {exists}{body} }}")

    def empty(self, kind: str, what: str, line: int, dims: Sequence[str], said: Iterable[str]) -> None:
        """No point satisfies all that is said; else ``Refuted`` with one."""
        self.nothing(kind, what, line, dims, self.set(dims, said))

    def nothing(self, kind: str, what: str, line: int, dims: Sequence[str], points: Any) -> None:
        self.found.enter(kind)
        if points.is_empty():
            return
        point, dim = points.sample_point(), self.isl.dim_type
        values = {s: int(str(point.get_coordinate_val(dim.param, k))) for k, s in enumerate(self.symbols)}
        for k, d in enumerate(dims):
            values[self.shown(d)] = int(str(point.get_coordinate_val(dim.set, k)))
        raise Refuted(f"kernel, line {line}: {kind}: {what}", {**self.fixed, **values})

    def shown(self, dim: str) -> str:
        """The text's name of a free index; of the second instance with an apostrophe."""
        number = int(dim[1:]) if dim[0] == "x" else -1
        name = self.names.get(number % self.offset if self.offset else number) if number >= 0 else None
        return dim if name is None else name + ("'" if number >= self.offset else "")

    def guarded(self, line: int, act: Any) -> None:
        try:
            act()
        except NotAffine:
            raise NotCovered(f"kernel, line {line}: an address or a guard is not affine; fix more sizes") from None

    # --- the questions -----------------------------------------------------------------------------------------

    def bounds(self) -> None:
        for o in self.table.owed:
            dims = _dims(o.path)
            self.guarded(o.line, lambda o=o, dims=dims: self.empty(
                o.what.partition(":")[0], o.what.partition(": ")[2], o.line, dims,
                [*self.within(o.path), f"not ({self.truth(o.goal)})"],
            ))  # fmt: skip
        for r in self.table.rows:
            self.guarded(r.line, lambda r=r: self.inside(r))

    def inside(self, r: Row) -> None:
        extents = (product(r.array.extents),) if r.flat else r.array.extents
        for axis, (i, e) in enumerate(zip(r.index, extents, strict=True)):
            out = f"not ({self.truth(Lt(Int(-1), i))} and {self.truth(Lt(i, e))})"
            what = f"index of axis {axis} of {r.array.name} is in range"
            self.empty("bounds", what, r.line, _dims(r.path), [*self.within(r.path), out])

    def uniform(self) -> None:
        for path in barriers_of(self.table.body):
            *outer, frame = path
            team = next((f for f in outer if f.kind == "threads"), None)
            if team is not None:
                self.guarded(frame.line, lambda outer=outer, frame=frame, team=team: self.same(outer, frame, team))

    def same(self, outer: Sequence[Frame], frame: Frame, team: Frame) -> None:
        new = renamed(outer, self.offset, keep=[f for f in outer if f is not team])
        said = [*self.within(outer), *self.within(outer, new)]
        dims = [*_dims(outer), *_second(new)]
        what = "what leads to a barrier is the same for two threads of a block"
        for t in frame.decides:
            if put(t, new) is t:
                self.found.enter("barrier")
                continue
            if _reads_mask(t):
                raise NotAffine
            if frame.kind == "guard":
                differ = f"({self.truth(t)}) and not ({self.truth(put(t, new))})"
            else:
                differ = self.differ([(t, put(t, new))])
            self.empty("barrier", what, frame.line, dims, [*said, differ])

    def differ(self, pairs: Sequence[tuple[Term, Term]]) -> str:
        """Some pair differs."""
        parts = [f"{affine(a, self.fixed)} {sign} {affine(b, self.fixed)}" for a, b in pairs for sign in "<>"]
        return "(" + " or ".join(parts or ["1 = 0"]) + ")"

    def equal(self, pairs: Iterable[tuple[Term, Term]]) -> list[str]:
        return [f"{affine(a, self.fixed)} = {affine(b, self.fixed)}" for a, b in pairs]

    def races(self) -> None:
        places = places_of(self.table.body)
        for first, second in sorted(pairs_due(self.table)):
            a, b = self.table.rows[first], self.table.rows[second]
            for m in meetings(a, b, places):
                self.guarded(a.line, lambda m=m: self.apart(m))

    def apart(self, m: Any) -> None:
        a, b, team = m.first, m.second, sharers(m.first)
        new = renamed(b.path, self.offset, keep=m.same)
        said = [*self.within(a.path), *self.within(b.path, new), *map(self.truth, m.relation(new))]
        said += self.equal((i, put(j, new)) for i, j in zip(a.index, b.index, strict=True))
        said.append(self.differ([(i, new[i]) for i in team.indices] if team else []))
        dims = list(dict.fromkeys([*_dims(a.path), *_dims([f for f in b.path if f in m.same]), *_second(new)]))
        what = f"two threads that touch one cell of {a.array.name} {m.what} are the same thread"
        self.empty("race", what, a.line, dims, said)

    def initialised(self, r: Row) -> None:
        """The cells that an iteration reads are among those that the writes of its tile fill, as sets."""
        self.guarded(r.line, lambda: self.filled(r))

    def filled(self, r: Row) -> None:
        team = sharers(r)
        cells = [f"c{k}" for k in range(len(r.index))]
        keys = _dims([f for f in r.path if f is not team])
        hidden = _dims([team]) if team else []
        at = [f"{c} = {affine(i, self.fixed)}" for c, i in zip(cells, r.index, strict=True)]
        dims = [*keys, *cells]
        missing = self.set(dims, [*self.within(r.path), *at], hidden)
        for w in self.tile.writes(r):
            if any(_reads_mask(f) for frame in w.path if frame not in r.path for f in frame.facts):
                continue
            own = [f for f in w.path if f not in r.path or f is team]
            new = renamed(own, self.offset)
            at = [f"{c} = {affine(put(i, new), self.fixed)}" for c, i in zip(cells, w.index, strict=True)]
            missing = missing.subtract(self.set(dims, [*self.within(w.path, new), *at], _second(new)))
        what = f"{r.array.name} is read where its tile has written"
        self.nothing("initialised", what, r.line, dims, missing)

    def exactly_once(self, output: Array) -> None:
        stores = [r for r in self.table.rows if r.write and r.array is output]
        for r in stores:
            self.guarded(r.line, lambda r=r: self.unique(r, stores))
        self.guarded(self.table.body.line, lambda: self.whole(output, stores))

    def unique(self, r: Row, stores: Sequence[Row]) -> None:
        """No two instances of stores, this one first, write one index."""
        what = f"two stores to {r.array.name} that are not the same write different cells"
        for s in (s for s in stores if s.number >= r.number):
            new = renamed(s.path, self.offset)
            said = [*self.within(r.path), *self.within(s.path, new)]
            said += self.equal((i, put(j, new)) for i, j in zip(r.index, s.index, strict=True))
            if s is r:
                said.append(self.differ(list(new.items())))
            self.empty("once", what, r.line, [*_dims(r.path), *_second(new)], said)

    def whole(self, output: Array, stores: Sequence[Row]) -> None:
        """The indices that are written are those of the output."""
        cells = [f"c{k}" for k in range(len(output.extents))]
        box = [f"0 <= {c} < {affine(e, self.fixed)}" for c, e in zip(cells, output.extents, strict=True)]
        missing = self.set(cells, box)
        for r in (r for r in stores if not any(_reads_mask(f) for frame in r.path for f in frame.facts)):
            at = [f"{c} = {affine(i, self.fixed)}" for c, i in zip(cells, r.index, strict=True)]
            missing = missing.subtract(self.set(cells, [*self.within(r.path), *at], _dims(r.path)))
        self.nothing("cover", f"each cell of {output.name} is written", self.table.body.line, cells, missing)


def _dims(frames: Iterable[Frame]) -> list[str]:
    return [f"x{i.data}" for f in frames for i in f.indices]


def _second(new: Mapping[Term, Term]) -> list[str]:
    return [f"x{j.data}" for j in new.values()]
