"""Is the text safe to run?  Obligations from the access tables, proved for all sizes.  Trusted; claim (c).

The meaning of memory, in small steps.  A state maps cells (array, instance, index) to a value or to *nothing*; an
allocation makes a new instance of its array whose cells hold nothing; a write puts a value, a read takes it.  The
instance of an array is fixed by the indices of its home (``access.Array``): scratch by the block of the text where it
stands, shared memory by the block of threads, scratch declared before ``prange`` by nothing, so that all share it.
A thread steps through its statements in order; threads, and iterations of ``prange``, step in any interleaving, except
that no thread passes a barrier before all threads of its block have reached it.  The text is safe if no step reads
nothing, leaves an array, or divides an index by what is not positive, if every interleaving leaves the same values,
and if each cell of the output is written once.  Owed, one kind each, all sizes symbolic:

| kind | obligation |
|---|---|
| bounds | an index of an access is in 0..extent-1, an offset that is no Horner form in 0..cells-1; extents >= 0 |
| divisor, step | what an index is divided by, and what a loop steps by, is positive |
| gamma | the store's offset is gamma of an index over the output's extents; one to one and onto, a level at a time |
| once | two instances of stores to an output, not the same one, differ in an index |
| cover | each index of an output is that of an instance of one store, which is executed |
| initialised | each read of scratch or shared memory takes what an earlier write *of its tile* put there |
| race | two threads, no barrier between, one of them writes: they touch different cells |
| barrier | what decides whether and how often a barrier is reached is equal for two threads of a block |
| width | index dtype int32: each integer that is computed is below 2^31, under ``limits`` |

*Tile.* A read's cell must be an index of a write that stands before it in the text, in the same iteration of each loop
around both, whose guards and ranges hold; the witness (which iteration, which thread) is solved for and then proved,
never trusted; one that is guessed in part and fails refutes nothing.  A loop around the read and not around the write
must contain no other kind of write to that array than *updates*, whose value comes from the array itself (an
accumulator).  Otherwise the loop's iteration is the tile, and what an earlier tile left is nothing: the read of a tail
row that this tile did not stage is refused.  So each read returns the last write of the tile that the text names,
which in a text that the reader accepts is that of the ONF.

*Threads.*  The write that initialises a shared cell may be another thread's.  It stands before the read in the text,
and is not of the same epoch, or the pair would race; barriers being uniform, it is of an earlier epoch.  An epoch is
what a block does between two barriers.  Two accesses may be of one epoch if (a) the iterations of all loops with
barriers around both are the same and no statement between them in the text is a barrier; or (b) one is in an earlier
iteration of such a loop, no barrier follows it there, and none precedes the other in its iteration; then the second is
in the next iteration if each iteration meets a barrier, else in any later one.  A barrier under a guard or in a loop
may not be met, so it separates only what stands beside it there.  This is the parity 2k, 2k+1 of two barriers a tile.
Iterations of ``prange`` are threads without barriers.  Race freedom makes every interleaving equal the one in which
each thread runs to the next barrier alone: each read has one last write.

*Launches* of a text run one after the other, each when the one before has ended and all that it wrote is seen.  The
arrays that a launch makes are outputs of it, so each of their cells is written, once; later launches read them as
inputs, of which nothing but bounds is owed.  *Views* of the pool of shared memory lie side by side (``access.py``), so
they are arrays like others.

*Argued, not asked of the decider*: that an offset whose Horner levels are each proved one to one and onto is so as a
whole (induction over the levels); that equal indices of loops with uniform bounds mean the same epoch in all threads;
that inputs are not written and do not overlap the output (the grammar, and the launcher at each call); for int64, that
every integer fits: ``runtime/widths.py`` computes the ranges of all index terms of the ONF, guards and bounds included,
at each call, and a launcher of CUDA texts owes the same.  Atomics, warps and asynchronous copies are outside
the grammar and so are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import combinations_with_replacement
from typing import Final

from ..errors import MoaproofError, NotCovered, Refuted, Unknown
from ..kernel.free import X, conjuncts
from ..kernel.integers import Integers
from ..shapes import normal, polynomial, product, same_index, term_of
from ..term import ONE, ZERO, Add, And, Div, Int, Le, Lt, Mul, Not, Size, Sub, Term, subterms
from .access import Array, Barrier, Frame, Node, Row, Table, read_table

LIMIT: Final = 2**31
CONSTANT: Final = 2**12
MAX_PAIRS: Final = 1000
JUDGED: Final = frozenset({"input", "output"})  # spaces that need no initialising and cannot race


@dataclass(frozen=True, slots=True)
class Obligation:
    """One proved statement: its kind, what it says, the lines, and how.

    ``decided``: ``form``, it is one of the facts or plain from its normal form; ``level``, a level of gamma says it;
    ``integers``, the decider proved it.
    """

    kind: str
    what: str
    lines: tuple[int, ...]
    decided: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows of a launch (by number) that were proved not to race, and where they may meet."""

    launch: str
    array: str
    first: int
    second: int
    lines: tuple[int, int]
    meets: str  # never; in one epoch; with the next iteration of line 26; ..


@dataclass(frozen=True, slots=True)
class SafetyReport:
    """What was proved of a text.  Made only if everything was."""

    target: str
    dtype: str
    width: int
    rows: int
    obligations: tuple[Obligation, ...]
    pairs: tuple[Pair, ...]

    def counts(self) -> dict[str, int]:
        """Obligations by kind."""
        found: dict[str, int] = {}
        for o in self.obligations:
            found[o.kind] = found.get(o.kind, 0) + 1
        return found


def check_text(
    data: bytes, inputs: Sequence[Term], sizes: Sequence[str], facts: Sequence[Term], out_shape: Sequence[Term],
    integers: Integers,
) -> SafetyReport:  # fmt: skip
    """Prove that a text is safe for all sizes that satisfy ``facts`` (hypotheses and tilings).

    ``inputs`` are the In nodes and ``sizes`` the names of the sizes, in order; ``out_shape`` the output's extents.
    Raises ``CertificateInvalid`` for text outside the grammar, ``Refuted`` with a witness, or ``Unknown``.
    """
    tables = read_table(data, inputs, sizes, out_shape)
    judges = [_Judge(table, facts, integers, sizes) for table in tables]
    try:
        judges[0].levels()
        for judge in judges:
            judge.run()
    except (RecursionError, MemoryError):
        raise Unknown("kernel: expressions nest too deeply to be judged") from None
    obligations = tuple(o for j in judges for o in j.obligations)
    pairs = tuple(p for j in judges for p in j.pairs)
    last = tables[-1]
    report = SafetyReport(last.target, last.dtype, last.width, sum(len(t.rows) for t in tables), obligations, pairs)
    for table in tables:
        require_pairs(report, table)
    return report


def limits(table: Table, sizes: Iterable[str]) -> list[Term]:
    """The stated bound for int32, which a launcher has to check.

    Sizes are up to 2^30, constants of the launch (tiles, blocks, heads) up to 2^12; each global and shared array, the
    pool and the grid have fewer than 2^30 cells.
    """
    bounds = [Le(Size(s), Int(CONSTANT if s in table.constants else LIMIT // 2)) for s in sizes]
    arrays = {r.array for r in table.rows if r.array.extents and r.array.space != "scratch"}
    cells = [product(a.extents) for a in sorted(arrays, key=lambda a: a.name)]
    return bounds + [Lt(c, Int(LIMIT // 2)) for c in (*cells, table.pool, *table.grid)]


# --- pairs that may race ------------------------------------------------------------------------------


def sharers(row: Row) -> Frame | None:
    """The frame of threads that share the instance of the row's array, if any."""
    return next((f for f in row.path[len(row.array.home) :] if f.kind == "threads"), None)


def pairs_due(table: Table) -> set[tuple[int, int]]:
    """The numbers of all pairs of rows that could race, from the table alone.

    Both touch one array that threads share, and one writes.  The output is not among them: no two instances of its
    stores meet at all (once), and it is never read.
    """
    shared = [r for r in table.rows if r.array.space not in JUDGED and sharers(r) is not None]
    return {
        (a.number, b.number)
        for a, b in combinations_with_replacement(shared, 2)
        if a.array is b.array and (a.write or b.write)
    }


def require_pairs(report: SafetyReport, table: Table) -> None:
    """Every pair of the launch that could race is in the report, and no other; else ``Unknown``."""
    found = {(p.first, p.second) for p in report.pairs if p.launch == table.name}
    missing = pairs_due(table) ^ found
    if missing:
        a, b = min(missing)
        raise Unknown(
            f"kernel, lines {table.rows[a].line} and {table.rows[b].line}: race: a pair of accesses was not judged"
        )


# --- tiles ----------------------------------------------------------------------------------------------


class Tile:
    """Which writes may initialise a read: those of its tile."""

    def __init__(self, table: Table) -> None:
        self.written: dict[Array, list[Row]] = {}
        for r in table.rows:
            if r.write:
                self.written.setdefault(r.array, []).append(r)

    def writes(self, r: Row) -> list[Row]:
        """Writes that stand before the read in the text, with nothing but updates in the loops around it alone."""
        return [w for w in self.written.get(r.array, []) if w.number < r.number and self._of(w, r)]

    def _of(self, w: Row, r: Row) -> bool:
        loops = [f for f in r.path if f.kind == "loop" and f not in w.path]
        return all(self.updates(x) for x in self.written[r.array] for f in loops if f in x.path)

    def updates(self, w: Row) -> bool:
        """Does the written value come from the array itself, perhaps by way of scalars that hold nothing else?"""
        through = {a for a in self.written if a.space == "scratch" and not a.extents}
        while lost := {a for a in through if not all(self._from(w.array, x, through) for x in self.written[a])}:
            through -= lost
        return self._from(w.array, w, through)

    @staticmethod
    def _from(array: Array, w: Row, through: set[Array]) -> bool:
        return array in w.sources or not through.isdisjoint(w.sources)


# --- substitution, forms --------------------------------------------------------------------------------


def put(t: Term, values: Mapping[Term, Term]) -> Term:
    """``t`` with free indices replaced."""
    if t.op == "x":
        return values.get(t, t)
    if not t.fresh or not t.args or t.op == "in":
        return t
    return Term(t.op, t.data, [put(a, values) for a in t.args])


def renamed(frames: Iterable[Frame], by: int, keep: Iterable[Frame] = ()) -> dict[Term, Term]:
    """The indices of the frames, but of those kept, moved up by ``by``."""
    same = {i for f in keep for i in f.indices}
    return {i: X(i.data + by) for f in frames for i in f.indices if i not in same}


@lru_cache(maxsize=100_000)
def _literals(t: Term) -> tuple[Term, ...]:
    """Terms p with p >= 0, that a truth-valued term implies; ``min(a, b) > c`` gives both."""
    match t.op:
        case "and":
            return tuple(p for c in conjuncts(t) for p in _literals(c))
        case "lt":
            a, b = t.args
        case "not" if t.args[0].op == "lt":
            a, b = Sub(t.args[0].args[1], ONE), t.args[0].args[0]
        case _:
            return ()
    found = [normal(Sub(Sub(b, a), ONE))]
    if b.op == "imin":
        found += [p for side in b.args for p in _literals(Lt(a, side))]
    return tuple(found)


@lru_cache(maxsize=100_000)
def _constant(p: Term) -> tuple[Term, int]:
    """A polynomial as one without a constant, and its constant."""
    c = dict(polynomial(p)).get((), 0)
    return normal(Sub(p, Int(c))), c


@lru_cache(maxsize=100_000)
def _named(t: Term) -> frozenset[Term]:
    """The sizes and free indices of a term."""
    return frozenset(u for u in subterms(t) if u.op in ("size", "x"))


def near(facts: Iterable[Term], goal: Term) -> list[Term]:
    """What facts say of nothing but the names of the goal: often enough, a smaller question, and one asked before."""
    every = dict.fromkeys(p for f in facts for p in _literals(f))
    return [Lt(Int(-1), p) for p in every if _named(p) <= _named(goal)]


def equal(a: Term, b: Term) -> list[Term]:
    """Statements that together say a = b; none if the forms are the same."""
    return [] if same_index(a, b) else [Le(a, b), Le(b, a)]


# --- solving for a witness -------------------------------------------------------------------------------


def solve(equations: Sequence[tuple[Term, Term]], unknowns: Mapping[Term, Sequence[Term]]) -> dict[Term, Term]:
    """A guess of values of the unknown free indices for which each left side is the right side.

    ``unknowns`` maps each to the extents that it may be below.  Untrusted: what it proposes is proved.  Two ways, again
    and again: an unknown that stands alone with a known factor is divided out; u + s*(rest), 0 <= u < s, is split into
    remainder and quotient by s.  Divisions that hold unknowns are unknowns of their own until they are solved.
    """
    values: dict[Term, Term] = {}
    todo = [normal(Sub(left, right)) for left, right in equations]
    moved = True
    while todo and moved:
        moved = False
        for k, p in enumerate(todo):
            step = _alone(p, unknowns) or _split(p, unknowns)
            if step is None:
                continue
            atom, value, rest = step
            del todo[k]
            todo = [normal(replaced(q, {atom: value})) for q in ([*todo, rest] if rest is not None else todo)]
            values = {u: normal(replaced(v, {atom: value})) for u, v in values.items()}
            if atom.op == "x":
                values[atom] = value
            moved = True
            break
    return values


def replaced(t: Term, values: Mapping[Term, Term]) -> Term:
    """``t`` with whole subterms replaced."""
    if t in values:
        return values[t]
    return Term(t.op, t.data, [replaced(a, values) for a in t.args]) if t.args and t.op != "in" else t


def _unknown_atoms(p: Term, unknowns: Mapping[Term, Sequence[Term]]) -> dict[Term, Term]:
    """Each atom that holds an unknown, with the polynomial that multiplies it; nothing if one is not linear."""
    found: dict[Term, list[tuple[tuple[tuple[Term, int], ...], int]]] = {}
    for m, c in polynomial(p):
        live = [(a, n) for a, n in m if any(u in unknowns for u in subterms(a))]
        if len(live) > 1 or any(n > 1 for _, n in live):
            return {}
        if live:
            found.setdefault(live[0][0], []).append((tuple(x for x in m if x[0] is not live[0][0]), c))
    return {a: term_of(rows) for a, rows in found.items()}


Step = tuple[Term, Term, Term | None]


def _alone(p: Term, unknowns: Mapping[Term, Sequence[Term]]) -> Step | None:
    """c*u + known = 0."""
    atoms = _unknown_atoms(p, unknowns)
    if len(atoms) != 1:
        return None
    ((u, c),) = atoms.items()
    rest = normal(Sub(p, Mul(c, u)))
    if c is ONE:
        return u, normal(Mul(Int(-1), rest)), None
    negative = normal(Mul(Int(-1), c))
    if negative is ONE:
        return u, rest, None
    if u.op != "x":
        return None
    if all(k > 0 for _, k in polynomial(c)):
        return u, normal(Div(Mul(Int(-1), rest), c)), None
    return u, normal(Div(rest, negative)), None


def _split(p: Term, unknowns: Mapping[Term, Sequence[Term]]) -> Step | None:
    """u + s*(unknown) = known, 0 <= u < s: u is the remainder of the known part by s."""
    for sign in (1, -1):
        q = normal(Mul(Int(sign), p))
        atoms = _unknown_atoms(q, unknowns)
        for u, c in atoms.items():
            if c is not ONE or u not in unknowns:
                continue
            others = term_of(polynomial(_sum(Mul(f, a) for a, f in atoms.items() if a is not u)))
            for s in unknowns[u]:
                quotient = normal(Div(others, s))
                if any(x.op == "idiv" and x not in set(subterms(others)) for x in subterms(quotient)):
                    continue  # s does not divide it
                target = normal(Mul(Int(-1), Sub(q, Add(u, others))))
                whole = Div(target, s)
                return u, normal(Sub(target, Mul(s, whole))), normal(Sub(quotient, whole))
    return None


def _sum(terms: Iterable[Term]) -> Term:
    total = ZERO
    for t in terms:
        total = Add(total, t)
    return total


def _unwound(t: Term, steps: Mapping[Term, Term]) -> Term:
    """The term with what loops with a step count in its divisions, so that these go out."""
    if not steps or not any(u.op == "idiv" for u in subterms(t)):
        return t
    shorter = normal(replaced(t, steps))
    return t if any(u.op == "idiv" for u in subterms(shorter)) else shorter


def _below(frame: Frame) -> dict[Term, list[Term]]:
    """For each index of a frame the extents that it is below."""
    found: dict[Term, list[Term]] = {i: [] for i in frame.indices}
    for i, extent in zip(frame.indices, frame.extents, strict=False):
        stack = [extent]
        while stack:
            e = stack.pop()
            if e.op == "imin":
                stack += e.args
            else:
                found[i].append(e)
    return found


def _two_atoms(d: Term) -> tuple[Term, Term] | None:
    """a and b of a - b, the one made last replaced by the other; or nothing."""
    rows = polynomial(d)
    if len(rows) != 2 or sorted(c for _, c in rows) != [-1, 1] or any(len(m) != 1 or m[0][1] != 1 for m, _ in rows):
        return None
    a, b = sorted((m[0][0] for m, _ in rows), key=lambda t: t.fresh)
    return (a, b) if b.fresh else None


@dataclass(frozen=True, slots=True)
class Twins:
    """Two instances of accesses: each index and its twin, what it is ``below``, and pairs ``given`` as equal."""

    of: dict[Term, Term]
    below: dict[Term, list[Term]]
    given: list[tuple[Term, Term]]


def twins(a: Row, b: Row, new: Mapping[Term, Term]) -> Twins:
    """The instances ``a`` and ``b`` renamed by ``new``; they have one index, and each loop its equation."""
    shared = [f for f in a.path if f in b.path]
    given = [(i, put(j, new)) for i, j in zip(a.index, b.index, strict=True)]
    for f in shared:
        if f.kind == "loop" and len(f.indices) == 2:
            over = Sub(f.indices[0], walked(f))
            given.append((over, put(over, new)))
    below = {i: e for f in shared for i, e in _below(f).items() if i in new}
    return Twins({i: new[i] for f in shared for i in f.indices if i in new}, below, given)


def walked(loop: Frame) -> Term:
    """What the index of a loop with a step is: start + step * count."""
    start, _, step = loop.decides
    return Add(start, Mul(step, loop.indices[1]))


# --- the judge -------------------------------------------------------------------------------------------


@dataclass
class _Judge:
    table: Table
    facts: Sequence[Term]
    integers: Integers
    sizes: Sequence[str]
    obligations: list[Obligation] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    inside: dict[tuple[Frame, ...], list[Term]] = field(default_factory=dict)
    forms: dict[frozenset[Term], dict[Term, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tile = Tile(self.table)

    def run(self) -> None:
        """Prove all that the launch owes."""
        for o in self.table.owed:
            kind, _, what = o.what.partition(": ")
            self.prove(kind, self.within(o.path), o.goal, what, (o.line,))
        for r in self.table.rows:
            self.bounds(r)
        self.uniform()
        self.races()
        for r in self.table.rows:
            if not r.write and r.array.space not in JUDGED:
                self.initialised(r)
        for output in self.table.outputs:
            stores = [r for r in self.table.rows if r.write and r.array is output]
            self.once(stores)
            self.cover(output, stores)
        if self.table.width == 32:
            self.widths()

    def within(self, path: tuple[Frame, ...]) -> list[Term]:
        """The facts that hold inside the frames."""
        if path not in self.inside:
            self.inside[path] = [*self.facts, *(f for frame in path for f in frame.facts)]
        return self.inside[path]

    def prove(self, kind: str, facts: Sequence[Term], goal: Term, what: str, lines: tuple[int, ...]) -> None:
        """Enter one obligation, proved; or raise, naming the place first."""
        parts = conjuncts(goal)
        if all(self.plain(facts, g) for g in parts):
            self.obligations.append(Obligation(kind, what, lines, "form"))
            return
        where = f"line {lines[0]}" if len(set(lines)) == 1 else "lines " + " and ".join(map(str, lines))
        place = f"kernel, {where}: {kind}: {what}"
        try:
            self.integers.prove(near(facts, goal), goal, place)
        except (Refuted, Unknown):
            self.integers.prove(facts, goal, place)
        self.obligations.append(Obligation(kind, what, lines, "integers"))

    def plain(self, facts: Sequence[Term], goal: Term) -> bool:
        """Is the goal, in normal form, a fact, or weaker by a constant, or a sum of products of what is natural?"""
        if goal in facts:
            return True
        due = () if goal.op == "and" else _literals(goal)
        if not due:
            return False
        key = frozenset(facts)
        if key not in self.forms:
            known: dict[Term, int] = {}
            for body, c in (_constant(p) for f in key for p in _literals(f)):
                known[body] = min(c, known.get(body, c))
            self.forms[key] = known
        known = self.forms[key]  # body + c >= 0, by body
        natural = all(
            c > 0 and all(atom.op == "size" or known.get(atom, 1) <= 0 for atom, _ in m) for m, c in polynomial(due[0])
        )
        body, c = _constant(due[0])
        return natural or (body in known and known[body] <= c)

    def attempt(self, act: Callable[[], None]) -> MoaproofError | None:
        """Run ``act``; if it fails, drop what it entered and give the error."""
        mark = len(self.obligations)
        try:
            act()
        except (Refuted, Unknown) as error:
            del self.obligations[mark:]
            return error
        return None

    # --- gamma, bounds ---------------------------------------------------------------------------------

    def levels(self) -> None:
        """One level of gamma, once for all: s*a + i with 0 <= i < s is one to one and onto."""
        i, k, w, s, a, p = (X(n) for n in range(6))
        ranges = [Lt(Int(-1), i), Lt(i, s), Lt(Int(-1), k), Lt(k, s)]
        for goal in equal(w, ZERO):
            same = equal(Add(Sub(i, k), Mul(s, w)), ZERO)
            self.prove("gamma", [*ranges, *same], goal, "a level of gamma is one to one", (1,))
        q = Div(a, s)
        onto = [Lt(ZERO, s), Lt(Int(-1), a), Lt(a, Mul(p, s))]
        rest = Sub(a, Mul(s, q))
        for goal in (Lt(Int(-1), q), Lt(q, p), Lt(Int(-1), rest), Lt(rest, s)):
            self.prove("gamma", onto, goal, "each offset is that of an index, its quotient and remainder", (1,))

    def hoisted(self, r: Row) -> bool:
        """May Numba move the read in front of ``prange``, and out of its guards?  If no index moves its address."""
        inside = self.table.target == "cpu" and sharers(r) is not None
        return inside and not r.write and bool(r.index) and not any(i.fresh for i in r.index)

    def bounds(self, r: Row) -> None:
        """Every index in range; an offset without levels within the cells."""
        name, facts = r.array.name, list(self.facts) if self.hoisted(r) else self.within(r.path)
        verb = "written" if r.write else "read"
        if r.flat and r.array.space == "output":
            raise Unknown(f"kernel, line {r.line}: gamma: the offset is not gamma over the extents of {name}")
        extents = (product(r.array.extents),) if r.flat else r.array.extents
        for axis, (i, e) in enumerate(zip(r.index, extents, strict=True)):
            where = f"{name} is {verb} " + ("at an offset" if r.flat else f"at an index of axis {axis}")
            self.prove("bounds", facts, Lt(Int(-1), i), f"{where} that is not negative", (r.line,))
            self.prove("bounds", facts, Lt(i, e), f"{where} below its extent", (r.line,))

    # --- initialised, covered ----------------------------------------------------------------------------

    def initialised(self, r: Row) -> None:
        """Some write of the tile put a value into the cell that is read."""
        found = self.tile.writes(r)
        what = f"{r.array.name} is read where its tile has written"
        if not found:
            raise Refuted(f"kernel, line {r.line}: initialised: {what}; no write of the tile precedes the read")
        self.some("initialised", found, r.index, r.path, self.within(r.path), what, (r.line,))

    def cover(self, output: Array, stores: Sequence[Row]) -> None:
        """Each index of an output is written by an instance of one store that is executed."""
        index = [X(3 * self.table.indices + k) for k in range(len(output.extents))]
        ranges = [f for i, e in zip(index, output.extents, strict=True) for f in (Lt(Int(-1), i), Lt(i, e))]
        if not stores:
            raise Refuted(f"kernel, line {self.table.body.line}: cover: {output.name} is never written")
        self.some("cover", stores, index, (), [*self.facts, *ranges], f"each cell of {output.name} is written", ())

    def some(
        self, kind: str, writes: Sequence[Row], index: Sequence[Term], path: tuple[Frame, ...],
        facts: Sequence[Term], what: str, lines: tuple[int, ...],
    ) -> None:  # fmt: skip
        """One of the writes has an instance at the index, executed at the place with that path."""
        first: MoaproofError | None = None
        for w in writes:
            act = partial(self.instance, kind, w, index, path, facts, what, (*lines, w.line))
            error = self.attempt(act)
            if error is None:
                return
            first = first or error
        if first is not None and len(writes) == 1:
            raise first
        raise Unknown(f"{first}; and no other write covers it alone")

    def instance(
        self, kind: str, w: Row, index: Sequence[Term], path: tuple[Frame, ...], facts: Sequence[Term], what: str,
        lines: tuple[int, ...],
    ) -> None:  # fmt: skip
        """Solve for the iteration and the thread of the write, and prove that it is executed and hits the index."""
        team = sharers(w)
        own = [f for f in w.path if f not in path or (f is team and w.array.space != "output")]
        new = renamed(own, self.table.indices)
        unknowns = {new[i]: [put(e, new) for e in below] for f in own for i, below in _below(f).items()}
        equations = [(put(a, new), b) for a, b in zip(w.index, index, strict=True)]
        stepped = [f for f in own if f.kind == "loop" and len(f.indices) == 2]
        equations += [(put(f.indices[0], new), put(walked(f), new)) for f in stepped]
        found = solve(equations, unknowns)
        back = {x: i for i, x in new.items()}
        guessed = [x for x in unknowns if x not in found]  # the index leaves it open: the same thread, iteration 0
        found |= {x: back[x] if any(back[x] in f.indices for f in path) else ZERO for x in guessed}
        steps = {f.indices[0]: walked(f) for f in path if f.kind == "loop" and len(f.indices) == 2}
        at = {i: self.shortened(facts, _unwound(put(found[x], found), steps)) for i, x in new.items()}
        executed = [(put(f, at), "the write is executed") for frame in w.path for f in frame.facts]
        pairs = [(put(a, at), b) for a, b in zip(w.index, index, strict=True)]
        there = [(goal, "the write is at that index") for a, b in pairs for goal in equal(a, b)]
        for goal, said in (*executed, *there):
            try:
                self.prove(kind, facts, goal, f"{what}: {said}", lines)
            except Refuted as error:
                if not guessed:
                    raise
                raise Unknown(f"{error.args[0]}; another thread or iteration may write it") from None

    def shortened(self, facts: Sequence[Term], t: Term) -> Term:
        """The term without its quotients that are 0: those of what is below the divisor, by the facts."""
        divided = [u for u in subterms(t) if u.op == "idiv"]
        small = [u for u in divided if all(self.plain(facts, g) for g in (Lt(Int(-1), u.args[0]), Lt(*u.args)))]
        return normal(replaced(t, dict.fromkeys(small, ZERO))) if small else t

    # --- the output is written once ------------------------------------------------------------------------

    def once(self, stores: Sequence[Row]) -> None:
        """Two instances of stores to an output that have one index are the same instance."""
        for a, b in combinations_with_replacement(stores, 2):
            new = renamed(b.path, self.table.indices)
            facts = self.two(a, b, new)
            same = [g for i, j in zip(a.index, b.index, strict=True) for g in equal(i, put(j, new))]
            what = f"two stores to {a.array.name} that are not the same write different cells"
            if a is not b:
                clash = _conjunction(same)
                self.prove("once", facts, Not(clash), what, (a.line, b.line))
            else:
                self.agree("once", [*facts, *same], list(new), twins(a, b, new), what, (a.line,))

    def two(self, a: Row, b: Row, new: Mapping[Term, Term]) -> list[Term]:
        """The facts at both places, the second renamed."""
        second = [put(f, new) for frame in b.path for f in frame.facts]
        return list(dict.fromkeys([*self.within(a.path), *second]))

    def agree(
        self, kind: str, facts: Sequence[Term], due: Sequence[Term], twins: Twins, what: str, lines: tuple[int, ...]
    ) -> None:
        """Each index that is due equals its twin: by levels of gamma, else by the decider, each with the last."""
        equalities = [Sub(x, y) for x, y in twins.given]
        learned = self.learn(facts, equalities, twins)
        facts = [*facts, *(g for x in learned for g in equal(x, twins.of[x]))]
        todo = [x for x in due if x not in learned]
        self.obligations += [Obligation(kind, what, lines, "level") for x in due if x in learned]
        while todo:
            left = [x for x in todo if not self.one_agrees(kind, facts, x, twins, what, lines)]
            if len(left) == len(todo):
                self.both(kind, facts, (left[0], twins.of[left[0]]), what, lines)
            todo = left

    def one_agrees(
        self, kind: str, facts: list[Term], x: Term, twins: Twins, what: str, lines: tuple[int, ...]
    ) -> bool:
        """Is the index proved equal to its twin?  Then that is a fact from here on.  A refutation is raised."""
        error = self.attempt(lambda: self.both(kind, facts, (x, twins.of[x]), what, lines))
        if isinstance(error, Refuted):
            raise error
        if error is None:
            facts += equal(x, twins.of[x])
        return error is None

    def both(
        self, kind: str, facts: Sequence[Term], pair: tuple[Term, Term], what: str, lines: tuple[int, ...]
    ) -> None:
        for goal in equal(*pair):
            self.prove(kind, facts, goal, what, lines)

    def learn(self, facts: Sequence[Term], differences: Sequence[Term], twins: Twins) -> set[Term]:
        """The indices that equal their twins because the differences are 0: the level of gamma, again and again.

        A difference a - b of two atoms replaces b by a everywhere.  One of the form (u - u') + s*w, with 0 <= u, u' < s
        by the facts, says u = u' and w = 0 (``levels``).
        """
        todo = [normal(d) for d in differences]
        image = {x: x for pair in twins.of.items() for x in pair}
        moved = True
        while moved:
            moved = False
            for k, d in enumerate(todo):
                atoms = _two_atoms(d)
                if atoms is not None:
                    a, b = atoms
                    todo = [normal(replaced(e, {b: a})) for e in (*todo[:k], *todo[k + 1 :])]
                    image = {x: normal(replaced(t, {b: a})) for x, t in image.items()}
                else:
                    parts = self.level(facts, d, twins)
                    if parts is None:
                        continue
                    todo = [*todo[:k], *parts, *todo[k + 1 :]]
                moved = True
                break
        return {x for x, y in twins.of.items() if image[x] is image[y]}

    def level(self, facts: Sequence[Term], d: Term, twins: Twins) -> tuple[Term, Term] | None:
        """u - u' and w of a difference (u - u') + s*w whose ranges are facts; or nothing."""
        for index, extents in twins.below.items():
            u, v = index, twins.of[index]
            if (((u, 1),), -1) in polynomial(d):
                u, v = v, u
            others = normal(Sub(d, Sub(u, v)))
            if {u, v} & set(subterms(others)):
                continue
            for s in extents:
                w = normal(Div(others, s))
                ranges = (Lt(Int(-1), u), Lt(u, s), Lt(Int(-1), v), Lt(v, s))
                if same_index(Mul(s, w), others) and all(self.plain(facts, g) for g in ranges):
                    return normal(Sub(u, v)), w
        return None

    # --- races, barriers -------------------------------------------------------------------------------------

    def races(self) -> None:
        """Every pair of accesses to an array that threads share: where they may meet, they touch different cells."""
        places = places_of(self.table.body)
        due = sorted(pairs_due(self.table))
        if len(due) > MAX_PAIRS:
            raise NotCovered(f"kernel: race: {len(due)} pairs of accesses; at most {MAX_PAIRS} are judged")
        for first, second in due:
            a, b = self.table.rows[first], self.table.rows[second]
            meets = list(meetings(a, b, places))
            for m in meets:
                self.apart(m)
            said = "; ".join(m.what for m in meets) or "never"
            self.pairs.append(Pair(self.table.name, a.array.name, first, second, (a.line, b.line), said))

    def apart(self, m: Meeting) -> None:
        """Two threads at a meeting that touch the same cell are the same thread."""
        a, b, team = m.first, m.second, sharers(m.first)
        new = renamed(b.path, self.table.indices, keep=m.same)
        facts = [*self.two(a, b, new), *m.relation(new)]
        facts += [g for i, j in zip(a.index, b.index, strict=True) for g in equal(i, put(j, new))]
        what = f"two threads that touch one cell of {a.array.name} {m.what} are the same thread"
        self.agree("race", facts, team.indices if team else (), twins(a, b, new), what, (a.line, b.line))

    def uniform(self) -> None:
        """Every frame with a barrier inside is entered equally often by all threads of a block."""
        for path in barriers_of(self.table.body):
            *outer, frame = path
            team = next((f for f in outer if f.kind == "threads"), None)
            if team is None:
                continue
            synced = [f for f in outer if f is not team]
            new = renamed(outer, self.table.indices, keep=synced)
            first = [*self.facts, *(f for g in outer for f in g.facts)]
            facts = list(dict.fromkeys([*first, *(put(f, new) for g in outer for f in g.facts)]))
            what = "what leads to a barrier is the same for two threads of a block"
            if frame.kind == "guard":
                goals = [(g, put(g, new)) for g in conjuncts(frame.decides[0])]
                facts = [*facts, *frame.facts]
                due = [second for g, second in goals if second is not g]
            else:
                due = [g for t in frame.decides for g in equal(t, put(t, new))]
            for goal in due or [Lt(Int(-1), ZERO)]:
                self.prove("barrier", facts, goal, what, (frame.line,))

    # --- width ------------------------------------------------------------------------------------------------

    def widths(self) -> None:
        """Every integer of the text is in -2^31 .. 2^31 - 1, under ``limits``.

        What a Horner form meets on its way is between 0 and the cells, because each level's extent is at least 1.
        """
        bounds = limits(self.table, self.sizes)
        limited = [r for r in self.table.rows if not r.flat and r.index and r.array.space != "scratch"]
        met = {(t, r.path) for r in limited for t in _on_the_way(r)}
        for v in dict.fromkeys((v.term, v.path, v.line) for v in self.table.values):
            term, path, line = v
            facts, what = [*self.within(path), *bounds], "an index fits 32 bits"
            if (term, path) in met:
                self.obligations.append(Obligation("width", what, (line,), "form"))
                continue
            self.prove("width", facts, Lt(Int(-LIMIT - 1), term), what, (line,))
            self.prove("width", facts, Lt(term, Int(LIMIT)), what, (line,))


def _conjunction(parts: Sequence[Term]) -> Term:
    total = parts[0] if parts else Term("true")
    for p in parts[1:]:
        total = And(total, p)
    return total


def _on_the_way(r: Row) -> Iterator[Term]:
    """The offset of a row and the terms inside that are its levels and their products."""
    offset, *_ = r.index
    yield offset
    for i, s in zip(r.index[1:], r.array.extents[1:], strict=True):
        yield Mul(offset, s)
        offset = Add(Mul(offset, s), i)
        yield offset


# --- where two threads may meet --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two accesses that no barrier need separate.

    The indices of ``same`` frames are equal.  If there is a ``loop``, the first access is in an earlier iteration of
    it than the second: in the one before, if ``next``.
    """

    first: Row
    second: Row
    same: tuple[Frame, ...]
    what: str
    loop: Frame | None = None
    next: bool = False

    def relation(self, new: Mapping[Term, Term]) -> list[Term]:
        """How the iterations of the loop are related."""
        if self.loop is None:
            return []
        i = self.loop.indices[-1]
        j = new[i]
        return equal(Add(i, ONE), j) if self.next else [Lt(i, j)]


Places = Mapping[Node, int]  # of each frame, barrier and row, its number in the frame around it


def places_of(frame: Frame) -> dict[Node, int]:
    found: dict[Node, int] = {}
    for k, node in enumerate(frame.inside):
        found[node] = k
        if isinstance(node, Frame):
            found |= places_of(node)
    return found


def has_barrier(node: Node) -> bool:
    return isinstance(node, Barrier) or (isinstance(node, Frame) and any(map(has_barrier, node.inside)))


def _between(frame: Frame, low: int, high: int) -> bool:
    """Does a barrier stand in the frame, between the places?"""
    return any(isinstance(node, Barrier) for node in frame.inside[low + 1 : high])


def _leaves(r: Row, depth: int, places: Places) -> bool:
    """May a thread go from the row to the end of the frame at that depth without a barrier?"""
    chain: list[Node] = [*r.path, r]
    return not any(_between(r.path[d], places[chain[d + 1]], len(r.path[d].inside)) for d in range(depth, len(r.path)))


def _reaches(r: Row, depth: int, places: Places) -> bool:
    """May a thread come from the start of the frame at that depth to the row without a barrier?"""
    chain: list[Node] = [*r.path, r]
    return not any(_between(r.path[d], -1, places[chain[d + 1]]) for d in range(depth, len(r.path)))


def meetings(a: Row, b: Row, places: Places) -> Iterator[Meeting]:
    """All ways in which two threads of a block may be at ``a`` and ``b`` in one epoch; ``a`` is first in the text."""
    common = [f for f, g in zip(a.path, b.path, strict=False) if f is g]
    depth = len(common)
    home = common[: len(a.array.home)]
    synced = [f for f in common if f.kind == "loop" and has_barrier(f)]
    chain_a: list[Node] = [*a.path, a]
    chain_b: list[Node] = [*b.path, b]
    if sharers(a) is not sharers(b):
        return
    x, y = places[chain_a[depth]], places[chain_b[depth]]
    if a is b or (not _between(common[-1], x, y) and _leaves(a, depth, places) and _reaches(b, depth, places)):
        yield Meeting(a, b, (*home, *synced), "in one epoch")
    for k, loop in enumerate(synced):
        level = common.index(loop)
        following = _between(loop, -1, len(loop.inside))
        same = (*home, *synced[:k])
        when = "the next" if following else "a later"
        for p, q in ((a, b),) if a is b else ((a, b), (b, a)):
            if _leaves(p, level, places) and _reaches(q, level, places):
                what = f"with {when} iteration of line {loop.line}"
                yield Meeting(p, q, same, what, loop, following)


def barriers_of(frame: Frame, path: tuple[Frame, ...] = ()) -> Iterator[tuple[Frame, ...]]:
    """The path of every loop and guard with a barrier inside."""
    for node in frame.inside:
        if isinstance(node, Frame) and has_barrier(node):
            if node.kind in ("loop", "guard"):
                yield (*path, node)
            yield from barriers_of(node, (*path, node))
