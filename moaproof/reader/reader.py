'''The source reader: the bytes of a kernel to the ONF that they compute, or a refusal with a line number.  Trusted.

It shares no code with the printer, and knows this grammar alone; whatever is outside is refused, never skipped.  Bytes
are ASCII without ``#``, backslash, brace, tab or carriage return (so no comment, coding cookie, escape or f-string).
This is the grammar of CPU texts; a text with the import line of CUDA is read by ``blocks.py``.

    Module  ::= """docstring, one line of it is 'core: <sha256>'"""
                from moaproof.instructions.cpu_<dtype> import LOWEST, ONE, ... (the one line of IMPORTS)
                @njit(parallel=True, error_model="numpy")
                def kernel(out, <inputs in order>, <sizes in order>): Top
    Top     ::= Row
              | for i in prange(e): Rest
              | for w in prange(e0 * e1 * .. ek): i0 = w // (e1 * .. ek);  i1 = w // (e2 * .. ek) % e1;  ..
                                                  ik = w % ek;  Rest
    Rest    ::= Row                                                                  the last core axis is a build
              | Scratch*  for r in range(min(t, s - q * t)): Row                     .. is tiles, rows in sequence
              | lanes = min(t, s - q * t);  if 0 < lanes: Row in lane mode           .. is tiles, rows in lanes
    Row     ::= Scratch* Let* Cells with  out[gamma] = E
    Cells   ::= for c in range(e): Scratch* Let* Cells  |  Unit
    Scratch ::= x = empty(e, real) | x = empty((e1, .. ek), real)    each a size or max(0, Index); lane mode: and then
                                                                     ``lanes``, the last extent
    Unit    ::= statements (plain)  |  y = input[..] ..  for r in range(lanes): (if G:)* statements      (lane mode)
    Let     ::= Unit with  x = E                                                     a scalar
              | Cells with  x[c..] = E                                               an array: fills scratch
              | Init  for k in range(n): (if G:) Scratch* Let* Cells with  x[c..] = x[c..] + E      add; for mul *,
                                                                                     for max fmax(x[c..], E)
              | Init  Four  Tail                                                     add, lane mode: four at a time
              | Init Init Init  for k in range(n): (if G:) Scratch* Let* Merge       softmax: states m, l, o
    Init    ::= a pure nest of Cells with  x[c..] = ZERO | ONE | LOWEST
    Four    ::= for k in range(0, n - 3, 4): k1 = k + 1  k2 = k + 2  k3 = k + 3  Cells with x = x + E + E1 + E2 + E3
    Tail    ::= for k in range(max(0, n - n % 4), n): Cells with x = x + E           E, E1.. at k, k + 1..: one term
    Merge   ::= Unit with  e = E;  t = fmax(m, e);  a = rescale(m, t);  c = rescale(e, t);  m = t;  l = l * a + E * c
                pure Cells with  o[c..] = o[c..] * a + E * c
    E       ::= x | x[Index..] | input[Index] | scalar input | quotient(o[Index..], l) | E + E | E - E | E * E | E / E
              | -E | exp(E) | sqrt(E) | fmax(E, E) | (E if G else E) | ZERO | ONE | real(int / int) | real(Index) | y
    G       ::= True | Index < Index | G and G | not G | input[Index]
    Index   ::= i | size | int | Index + Index | Index - Index | Index * Index | Index // Index | min(Index, Index)

In lane mode a scalar ``x`` is the cell ``x[r]`` and a cell ``x[c]`` is ``x[c, r]``; the innermost loop is always over
the lanes, and a guard that mentions the lane is the ``if`` inside it, repeated at each statement that it covers.

Why a text that is read is safe, given Def of the term that it reads to (every read in range where the term reads):
- every name is bound once (the lane index once a loop); a name is readable only inside the block that binds it;
- scratch is allocated inside the iteration of ``prange`` that uses it, filled by exactly one let over its whole extent,
  and readable only in the body of that let; an accumulator is readable only after its loop;
- ``y = input[..]`` runs before a loop over at least one lane (``0 < lanes``), names a read that each lane makes
  unconditionally (not under a guard of lanes or a ``where``), and is used: the text reads no address that the term
  does not;
- the store address is gamma of the loop indices over the output's extents, term for term.  gamma is injective on
  indices in range, so each cell is written once, by one iteration, and iterations of ``prange`` share no cell.
'''

from __future__ import annotations

import ast
import keyword
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

from ..errors import CertificateInvalid
from ..shapes import gamma
from ..term import TRUE, Build, Fold, Int, Let, Min, Mul, Psi, Sub, Term, Tiles, Var, up
from ..term import Add as Plus
from .blocks import Launch, dtype_of_launches, read_launches
from .expressions import (
    INIT,
    Entry,
    Expressions,
    Names,
    args_of,
    call_of,
    core_of,
    dtype_of,
    goal,
    imports_of,
    name_of,
    need,
    refuse,
    says,
    value,
)
from .onf import require_onf
from .text import bare, tree_of

NAMES: Final = (
    "LOWEST",
    "ONE",
    "ZERO",
    "empty",
    "exp",
    "fmax",
    "njit",
    "prange",
    "quotient",
    "real",
    "rescale",
    "sqrt",
)
IMPORTS: Final = imports_of("cpu", NAMES)
MAX_SCRATCH: Final = 500  # arrays; a kernel that is shipped has a dozen
RESERVED: Final = frozenset({*NAMES, "kernel", "range", "min", "max"})


@dataclass(frozen=True, slots=True)
class Reading:
    """What the bytes say: the ONF, the dtype, the digest of the derivation core that the docstring names.

    ``launches`` are what the headers of a CUDA text say, in order.
    """

    term: Term
    dtype: str
    core_digest: str
    name: str
    launches: tuple[Launch, ...] = ()


@dataclass(slots=True)
class Array:
    """Scratch or an accumulator: its extents, as terms under ``depth`` binders.  One let fills scratch."""

    name: str
    extents: tuple[Term, ...]
    depth: int
    line: int = 0
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Scope(Names):
    """The names readable here, under ``depth`` binders, with the scratch, and how it stands with the lanes."""

    scratch: dict[str, Array] = field(default_factory=dict)
    guards: tuple[tuple[Term, int], ...] = ()  # of lanes: each with the depth where it was read
    in_lane: bool = False
    certain: bool = True  # not under a guard of lanes, nor under a branch of a where

    def lift(self, t: Term, depth: int) -> Term:
        """A term read under ``depth`` binders, here."""
        return up(t, self.depth - depth)

    def is_index(self, entry: Entry) -> bool:
        return entry.kind == "index" or (entry.kind == "lane" and self.in_lane)

    def branch(self) -> Self:
        return replace(self, certain=False)

    def before_lanes(self) -> Self:
        """The same place, where the lane has no value yet."""
        return replace(self, in_lane=False)


Cell = tuple[tuple[str, Term, int], ...]  # the loops around a cell: name, extent, the depth where it was read
Leaf = Callable[[list[ast.stmt], Scope, Cell], Term]


def read_kernel(data: bytes, inputs: Sequence[Term], sizes: Sequence[str]) -> Reading:
    """The reading of a kernel's bytes.  ``inputs`` are the In nodes and ``sizes`` the names of the sizes, in order.

    Raises ``CertificateInvalid`` with the line for text outside the grammar, ``IllFormed`` for text that says a term
    that is not well-formed.
    """
    try:
        module = tree_of(data)
        if (dtype := dtype_of_launches(module)) is None:
            return _Reader(inputs, sizes).module(module)
        term, launches = read_launches(module, inputs, sizes)
        return Reading(term, dtype, core_of(module.body[0]), launches[-1].name, launches)
    except (RecursionError, ValueError):  # an integer too long to be shown
        raise CertificateInvalid("kernel: expressions nest too deeply, or an integer is too long") from None


def over(s: ast.AST, lanes: str) -> bool:
    """Is it a loop over the lanes?"""
    return isinstance(s, ast.For) and says(s.iter, f"range({lanes})")


def walk(s: ast.stmt) -> list[ast.stmt]:
    """The statement and those inside it, in the order of the text."""
    inside = s.body if isinstance(s, ast.For | ast.If) else []
    return [s, *(y for x in inside for y in walk(x))]


def constant(s: ast.stmt) -> str:
    """The constant that an Init writes, or nothing if the statement is no Init."""
    while isinstance(s, ast.For | ast.If) and len(s.body) == 1:
        s = s.body[0]
    found = name_of(s.value) if isinstance(s, ast.Assign) else ""
    return found if found in INIT else ""


def extents_of(cell: Cell) -> tuple[Term, ...]:
    """The extents of the loops around a cell, moved out of those loops."""
    return tuple(up(extent, -k) for k, (_, extent, _) in enumerate(cell))


class _Reader(Expressions[Scope]):
    def __init__(self, inputs: Sequence[Term], sizes: Sequence[str]) -> None:
        super().__init__(inputs, sizes)
        self.parameters = ["out", *(t.data[0] for t in inputs), *sizes]
        self.seen |= {*self.parameters, *RESERVED}
        self.every: list[Array] = []
        self.parallel = False  # inside prange
        self.lane: tuple[str, str] | None = None  # the names of the lane's index and of their number
        self.output: list[tuple[Term, int, Term]] = []  # index term, its depth, closed extent

    # --- the frame ---------------------------------------------------------------------------------------

    def module(self, module: ast.Module) -> Reading:
        body = module.body
        need(len(body) == 3, module, "a docstring, one import and one function are due")
        doc, imports, function = body
        digest = core_of(doc)
        dtype = dtype_of(imports, IMPORTS)
        if dtype is None:
            refuse(imports, "this import is not one of the known lines")
        if not isinstance(function, ast.FunctionDef):
            refuse(function, "one function is due")
        self.signature(function)
        term = self.top(function.body)
        for array in self.every:
            need(
                array.filled,
                function,
                f"scratch {array.name}, allocated in line {array.line}, is never filled",
            )
        require_onf(term)
        return Reading(term, dtype, digest, function.name)

    def signature(self, f: ast.FunctionDef) -> None:
        taken = [p for p in self.parameters if keyword.iskeyword(p) or p == "__debug__"]
        need(not taken, f, f"no parameter may be called {', '.join(taken)}")
        line = f'@njit(parallel=True, error_model="numpy")\ndef kernel({", ".join(self.parameters)}):\n    pass'
        due = ast.parse(line).body[0]
        need(len(set(self.parameters)) == len(self.parameters), f, "a parameter's name is used twice")
        need(not RESERVED & set(self.parameters), f, "a parameter hides a known name")
        found = bare(f)
        found.decorator_list = f.decorator_list
        need(
            ast.dump(found) == ast.dump(due),
            f,
            "the function's name, decorator or parameters differ from those due",
        )

    def top(self, body: list[ast.stmt]) -> Term:
        loop = body[0]
        if not (isinstance(loop, ast.For) and call_of(loop.iter, 1) == "prange"):
            return self.row(body, Scope())
        need(len(body) == 1, body[-1], "a statement beside the prange loop")
        w, total = self.header(loop, Scope(), "prange")
        self.parallel = True
        decoding = [s for s in loop.body if isinstance(s, ast.Assign) and self.decodes(s.value)]
        names, extents = self.cores(loop, decoding, w, total, Scope())
        rest = deque(loop.body[len(decoding) :])
        need(loop.body[: len(decoding)] == decoding, loop, "the decoding of core axes stands first")
        scope = Scope()
        for name, extent in zip(names, extents, strict=True):
            scope = scope.index(name)
            self.output.append((Var(0), scope.depth, extent))
        scope = self.allocations(rest, scope)
        self.next(rest)
        term = self.tiles(list(rest), scope, extents[-1]) or Build(extents[-1], self.row(list(rest), scope), "core")
        for extent in reversed(extents[:-1]):
            term = Build(extent, term, "core")
        return term

    def tiles(self, rest: list[ast.stmt], scope: Scope, count: Term) -> Term | None:
        """The last core axis as tiles, if the body says so."""
        s = rest[0]
        if isinstance(s, ast.Assign) and call_of(s.value, 2) == "min":
            rows, lanes = self.index(s.value, scope), self.target(s)
            inside = rest[-1]
            if not (isinstance(inside, ast.If) and not inside.orelse and says(inside.test, f"0 < {lanes}")):
                refuse(inside, f"'if 0 < {lanes}:' around all that follows is due")
            need(len(rest) == 2 and not scope.scratch, s, "a statement beside the lanes")
            loop = next((x for x in walk(inside) if over(x, lanes)), None)
            if not isinstance(loop, ast.For):
                refuse(inside, "no loop over the lanes")
            self.lane = (self.fresh(loop.target), lanes)
            return self.tile(s, rows, "lane", inside.body, scope.bind(self.lane[0], Entry("lane", scope.depth)), count)
        if (
            isinstance(s, ast.For)
            and len(rest) == 1
            and call_of(args_of(s.iter)[0] if args_of(s.iter) else s, 2) == "min"
        ):
            r, rows = self.header(s, scope)
            return self.tile(s, rows, "seq", s.body, scope.index(r), count)
        return None

    def tile(self, s: ast.stmt, rows: Term, axis: str, body: list[ast.stmt], scope: Scope, count: Term) -> Term:
        """The tile of rows = min(t, s - q*t), q the innermost core index; ``scope`` has the row's index."""
        whole = rows.args[1].args[0] if rows.op == "imin" and rows.args[1].op == "iadd" else Var(0)
        size = rows.args[0] if rows.op == "imin" else Var(0)
        need(
            whole.free == size.free == 0,
            s,
            "the rows of a tile are min(t, s - q * t), s and t without variables",
        )
        need(rows is Min(size, Sub(whole, Mul(Var(0), size))), s, "the rows of a tile are min(t, s - q * t)")
        self.output[-1] = (Plus(Mul(Var(1), size), Var(0)), scope.depth, whole)
        return Tiles(whole, count, size, Build(rows, self.row(body, scope), axis), "core")

    # --- blocks ------------------------------------------------------------------------------------------

    def row(self, body: list[ast.stmt], scope: Scope) -> Term:
        return self.block(body, scope, lambda queue, inside: self.cells(queue, inside, (), self.store, True))

    def store(self, statements: list[ast.stmt], scope: Scope, cell: Cell) -> Term:
        (s,) = self.exactly(statements, 1)
        target = goal(s)
        if not (isinstance(target, ast.Subscript) and name_of(target.value) == "out"):
            refuse(s, "a store to the output is due")
        address = gamma([scope.lift(i, d) for i, d, _ in self.output], [e for _, _, e in self.output])
        need(
            self.index(target.slice, scope) is address,
            s,
            "the output's address is not gamma of the loop indices",
        )
        return self.real(value(s), scope)

    def block(
        self, body: list[ast.stmt], scope: Scope, last: Callable[[deque[ast.stmt], Scope], Term],
        plain: int = 1, lane: int = 1,
    ) -> Term:  # fmt: skip
        """Scratch, lets, and what the block ends in: so many statements of plain text, or units of lanes."""
        queue = deque(body)
        scope = self.allocations(queue, scope)
        values: list[Term] = []
        while len(queue) > (self.units(queue, lane) if self.lane else plain):
            v, scope = self.let(queue, scope)
            values.append(v)
        term = last(queue, scope)
        need(not queue, body[-1], "a statement after the end of its block")
        for v in reversed(values):
            term = Let(v, term)
        return term

    def allocations(self, queue: deque[ast.stmt], scope: Scope) -> Scope:
        while queue and call_of(getattr(queue[0], "value", queue[0]), 2) == "empty":
            s = queue.popleft()
            shape, dtype = args_of(value(s))
            nodes = list(shape.elts) if isinstance(shape, ast.Tuple) and len(shape.elts) > 1 else [shape]
            need(name_of(dtype) == "real", s, "scratch is of type real")
            if self.lane:
                need(
                    name_of(nodes.pop()) == self.lane[1],
                    s,
                    "the last extent of scratch is the number of lanes",
                )
            need(bool(nodes) or self.lane is not None, s, "scratch without extents")
            array = Array(self.target(s), tuple(self.natural(e, scope) for e in nodes), scope.depth, s.lineno)
            self.every.append(array)
            need(len(self.every) <= MAX_SCRATCH, s, f"more than {MAX_SCRATCH} arrays of scratch")
            scope = replace(scope, scratch={**scope.scratch, array.name: array})
        return scope

    def natural(self, e: ast.expr, scope: Scope) -> Term:
        """An extent of scratch: a size as it is; any other may be below 0, where ``range`` is empty, so max(0, e)."""
        if name_of(e) in self.sizes:
            return self.index(e, scope)
        need(call_of(e, 2) == "max" and says(args_of(e)[0], "0"), e, "an extent of scratch is a size or max(0, extent)")
        return self.index(args_of(e)[1], scope)

    def units(self, queue: Sequence[ast.stmt], count: int) -> int:
        """How many statements the last ``count`` units are: the reads before a loop over lanes belong to it."""
        k = len(queue)
        for _ in range(count):
            if k == 0:
                break
            k -= 1
            if self.lane and over(queue[k], self.lane[1]):
                while k > 0 and name_of(goal(queue[k - 1])):
                    k -= 1
        return len(queue) - k

    def cells(self, queue: deque[ast.stmt], scope: Scope, cell: Cell, leaf: Leaf, stores: bool = False) -> Term:
        """Loops around one unit: an array given by its cells."""
        s = self.next(queue)
        if not isinstance(s, ast.For) or (self.lane and over(s, self.lane[1])):
            return self.unit(queue, scope, lambda body, inside: leaf(body, inside, cell))
        queue.popleft()
        c, extent = self.header(s, scope)
        inner = scope.index(c)
        if stores:
            need(extent.free == 0, s, "an extent of the output mentions a variable")
            self.output.append((Var(0), inner.depth, extent))
        longer: Cell = (*cell, (c, extent, scope.depth))
        return Build(extent, self.block(s.body, inner, lambda q, z: self.cells(q, z, longer, leaf, stores)))

    def unit(
        self,
        queue: deque[ast.stmt],
        scope: Scope,
        leaf: Callable[[list[ast.stmt], Scope], Term],
        count: int = 1,
    ) -> Term:
        """The statements for one cell: ``count`` bare ones, or a loop over the lanes under the guards in force."""
        if not self.lane:
            return leaf([self.take(queue) for _ in range(count)], scope)
        r, lanes = self.lane
        early: dict[str, Entry] = {}
        while isinstance(self.next(queue), ast.Assign):
            s = queue.popleft()
            node = value(s)
            source = name_of(node.value) if isinstance(node, ast.Subscript) else ""
            need(source in self.inputs, s, "before a loop over the lanes stand reads of inputs alone")
            early[self.target(s)] = Entry("early", node=node)
        s = self.take(queue)
        if not (isinstance(s, ast.For) and over(s, lanes) and name_of(s.target) == r and not s.orelse):
            refuse(s, f"'for {r} in range({lanes})' is due")
        inside = replace(scope, in_lane=True, certain=not scope.guards, names={**scope.names, **early})
        body = s.body
        for guard, depth in scope.guards:
            (s,) = self.exactly(body, 1)
            if not (isinstance(s, ast.If) and not s.orelse):
                refuse(s, "a guard in force is not repeated")
            need(self.guard(s.test, inside) is scope.lift(guard, depth), s, "another guard is in force")
            body = s.body
        term = leaf(body, inside)
        used = {x.id for b in body for x in ast.walk(b) if isinstance(x, ast.Name)}
        need(early.keys() <= used, s, "a read before the loop is not used in it")
        return term

    # --- lets --------------------------------------------------------------------------------------------

    def let(self, queue: deque[ast.stmt], scope: Scope) -> tuple[Term, Scope]:
        """One binding: its value, and the scope of what follows."""
        start = constant(queue[0])
        if start == "LOWEST" and len(queue) > 1 and constant(queue[1]) == "ZERO":
            return self.softmax(queue, scope)
        if start:
            array = self.initial(queue, scope, start)
            term = self.fold(queue, scope, INIT[start], array)
            return term, scope.bind(array.name, Entry("value", scope.depth, len(array.extents)))
        found: list[tuple[str, int]] = []

        def fill(statements: list[ast.stmt], inside: Scope, cell: Cell) -> Term:
            (s,) = self.exactly(statements, 1)
            element = self.real(value(s), inside)
            found.append((self.first(s, inside, cell), len(cell)))
            return element

        term = self.cells(queue, scope, (), fill)
        ((name, rank),) = found
        return term, scope.bind(name, Entry("value", scope.depth, rank))

    def initial(self, queue: deque[ast.stmt], scope: Scope, start: str) -> Array:
        """x[c..] = constant over all cells, a pure nest: the accumulator."""
        found: list[Array] = []

        def fill(statements: list[ast.stmt], inside: Scope, cell: Cell) -> Term:
            (s,) = self.exactly(statements, 1)
            need(says(value(s), start), s, f"an accumulator begins with {start}")
            found.append(Array(self.first(s, inside, cell), extents_of(cell), scope.depth))
            return Int(0)

        s = self.next(queue)
        need(constant(s) == start, s, f"an accumulator begins with {start}, in a nest of loops alone")
        self.cells(queue, scope, (), fill)
        need(len(found) == 1, s, "not an accumulator")
        return found[0]

    def first(self, s: ast.stmt, scope: Scope, cell: Cell) -> str:
        """The name that a first assignment to a cell binds.  An array fills its scratch, over the whole extent."""
        if not self.lane and not cell:
            return self.target(s)
        target = goal(s)
        name = name_of(target.value) if isinstance(target, ast.Subscript) else ""
        array = scope.scratch.get(name)
        if array is None or array.filled:
            refuse(s, "a cell of scratch that is allocated and not yet filled is due")
        self.covers(s, array, scope, cell)
        array.filled = True
        return name

    def covers(self, s: ast.stmt, array: Array, scope: Scope, cell: Cell) -> None:
        """The statement writes the array's cell of this iteration, and the loops around it cover the whole array."""
        need(
            says(goal(s), self.spell(array.name, cell)),
            s,
            f"the cell of {array.name} of this iteration is due",
        )
        need(len(array.extents) == len(cell), s, f"{array.name} has another rank")
        for (_, extent, depth), due in zip(cell, array.extents, strict=True):
            need(
                extent is up(due, depth - array.depth),
                s,
                f"{array.name} is not written over its whole extent",
            )

    def spell(self, name: str, cell: Cell) -> str:
        """The text of the cell of ``name`` in this iteration."""
        inside = [c for c, _, _ in cell] + ([self.lane[0]] if self.lane else [])
        return f"{name}[{', '.join(inside)}]" if inside else name

    # --- folds -------------------------------------------------------------------------------------------

    def fold(self, queue: deque[ast.stmt], scope: Scope, monoid: str, array: Array) -> Term:
        s = self.take(queue)
        if not isinstance(s, ast.For):
            refuse(s, "the loop of an accumulator is due")
        if call_of(s.iter, 3):
            need(monoid == "add" and self.lane is not None and not scope.guards, s, "four at a time: not here")
            return self.four(s, queue, scope, array)
        k, n = self.header(s, scope)
        guard, body, inside = self.guarded(s.body, scope.index(k))
        leaf = self.accumulate(monoid, array)
        return Fold(monoid, n, self.block(body, inside, lambda q, z: self.cells(q, z, (), leaf)), guard)

    def guarded(self, body: list[ast.stmt], scope: Scope) -> tuple[Term, list[ast.stmt], Scope]:
        """The guard of a fold: the only statement of its loop, or repeated in its loops over the lanes."""
        s = body[0]
        if isinstance(s, ast.If):
            need(not s.orelse and len(body) == 1, s, "a guard without else, around all of its loop, is due")
            return self.guard(s.test, scope), s.body, scope
        tests: list[ast.expr] = []
        if self.lane:
            loop = next((x for b in body for x in walk(b) if over(x, self.lane[1])), None)
            inner = loop.body[0] if isinstance(loop, ast.For) else s
            while isinstance(inner, ast.If):
                tests.append(inner.test)
                inner = inner.body[0]
        if len(tests) <= len(scope.guards):
            return TRUE, body, scope
        guard = self.guard(tests[len(scope.guards)], replace(scope, in_lane=True))
        return guard, body, replace(scope, guards=(*scope.guards, (guard, scope.depth)))

    def accumulate(self, monoid: str, array: Array) -> Leaf:
        def leaf(statements: list[ast.stmt], scope: Scope, cell: Cell) -> Term:
            (s,) = self.exactly(statements, 1)
            self.covers(s, array, scope, cell)
            v = value(s)
            if monoid == "max":
                need(call_of(v, 2) == "fmax", s, "fmax of the accumulator and an element is due")
                left, right = args_of(v)
            else:
                operator = ast.Add if monoid == "add" else ast.Mult
                if not (isinstance(v, ast.BinOp) and isinstance(v.op, operator)):
                    refuse(s, f"the accumulator combined by {monoid} with an element is due")
                left, right = v.left, v.right
            need(says(left, self.spell(array.name, cell)), s, "the accumulator stands first")
            return self.real(right, scope)

        return leaf

    def four(self, s: ast.For, queue: deque[ast.stmt], scope: Scope, array: Array) -> Term:
        """Four elements in order at a time, and the rest one by one: the same additions in the same order."""
        k = self.fresh(s.target)
        bound = self.index(args_of(s.iter)[1], scope)
        n = bound.args[0] if bound.op == "iadd" else bound
        need(bound is Sub(n, Int(3)) and not s.orelse, s, "range(0, n - 3, 4) is due")
        need(
            call_of(s.iter, 3) == "range" and says(args_of(s.iter)[0], "0") and says(args_of(s.iter)[2], "4"),
            s,
            "range(0, n - 3, 4) is due",
        )
        names, queued = [k], deque(s.body)
        for u in (1, 2, 3):
            copy = self.take(queued)
            names.append(self.target(copy))
            need(says(value(copy), f"{k} + {u}"), copy, f"{k} + {u} is due")
        blind = replace(scope, depth=scope.depth + 1)  # under the index, which each copy names in its own way

        def leaf(statements: list[ast.stmt], inside: Scope, cell: Cell) -> Term:
            (t,) = self.exactly(statements, 1)
            self.covers(t, array, inside, cell)
            v, elements = value(t), []
            for name in reversed(names):
                if not (isinstance(v, ast.BinOp) and isinstance(v.op, ast.Add)):
                    refuse(t, "the accumulator and four elements are due")
                elements.append(self.real(v.right, inside.know(name, Entry("index", scope.depth))))
                v = v.left
            need(says(v, self.spell(array.name, cell)), t, "the accumulator stands first")
            need(all(e is elements[0] for e in elements), t, "the four elements differ in more than the index")
            return elements[0]

        element = self.pure(queued, blind, leaf)
        rest = self.take(queue)
        if not (isinstance(rest, ast.For) and call_of(rest.iter, 2) == "range" and not rest.orelse):
            refuse(rest, "the loop over the rest is due")
        start, end = args_of(rest.iter)
        whole = ast.unparse(end)
        plain = whole if isinstance(end, ast.Name | ast.Call) else f"({whole})"
        need(self.index(end, scope) is n, rest, "the rest ends where the four at a time end")
        need(says(start, f"max(0, {whole} - {plain} % 4)"), rest, "range(max(0, n - n % 4), n) is due")
        tail = self.pure(deque(rest.body), scope.index(self.fresh(rest.target)), self.accumulate("add", array))
        need(tail is element, rest, "the element of the rest differs")
        return Fold("add", n, element)

    def pure(self, queue: deque[ast.stmt], scope: Scope, leaf: Leaf) -> Term:
        last = queue[-1] if queue else None
        term = self.cells(queue, scope, (), leaf)
        need(not queue and last is not None, last or ast.Pass(), "a statement after the end of its block")
        return term

    def softmax(self, queue: deque[ast.stmt], scope: Scope) -> tuple[Term, Scope]:
        """The fold of states m, l, o with the merge written out."""
        m, l, o = (self.initial(queue, scope, start) for start in ("LOWEST", "ZERO", "ZERO"))
        s = self.take(queue)
        if not isinstance(s, ast.For) or m.extents or l.extents:
            refuse(s, "the loop of a softmax state is due")
        k, n = self.header(s, scope)
        guard, body, inside = self.guarded(s.body, scope.index(k))
        old, weight = self.spell(m.name, ()), self.spell(l.name, ())
        factors: list[str] = []

        def top(statements: list[ast.stmt], z: Scope) -> Term:
            e, t, a, c, m1, l1 = self.exactly(statements, 6)
            new, highest = self.target(e), self.real(value(e), z)
            greatest = self.target(t)
            need(says(value(t), f"fmax({old}, {new})"), t, "the greater maximum is due")
            for x, start in ((a, old), (c, new)):
                need(says(value(x), f"rescale({start}, {greatest})"), x, f"rescale({start}, {greatest}) is due")
                factors.append(self.spell(self.first(x, z, ()), ()))
            need(says(goal(m1), old) and says(value(m1), greatest), m1, "the new maximum is due")
            return Term("state", None, (highest, self.merged(l1, weight, factors, z), Int(0)))

        def part(statements: list[ast.stmt], z: Scope, cell: Cell) -> Term:
            (x,) = self.exactly(statements, 1)
            self.covers(x, o, z, cell)
            return self.merged(x, self.spell(o.name, cell), factors, z)

        def merge(q: deque[ast.stmt], z: Scope) -> Term:
            state = self.unit(q, z, top, 6)
            return Term("state", None, (*state.args[:2], self.cells(q, z, (), part)))

        term = Fold("softmax", n, self.block(body, inside, merge, 7, 2), guard)
        return term, scope.bind(o.name, Entry("state", scope.depth, len(o.extents), weights=l.name))

    def merged(self, s: ast.stmt, cell: str, factors: list[str], scope: Scope) -> Term:
        """E of cell = cell * a + E * c."""
        a, c = factors
        v = value(s)
        right = v.right if isinstance(v, ast.BinOp) and isinstance(v.op, ast.Add) else None
        if not (isinstance(v, ast.BinOp) and isinstance(right, ast.BinOp) and isinstance(right.op, ast.Mult)):
            refuse(s, f"{cell} * {a} + E * {c} is due")
        fits = says(goal(s), cell) and says(v.left, f"{cell} * {a}") and says(right.right, c)
        need(fits, s, f"{cell} = {cell} * {a} + E * {c} is due")
        return self.real(right.left, scope)

    # --- expressions -------------------------------------------------------------------------------------

    def read(self, e: ast.expr, name: str, at: ast.expr, scope: Scope) -> Term:
        """A read of an input.  Inside prange its offset mentions an index, or is in range whatever the sizes are.

        Numba moves a read whose operands do not change out of the loop, also from under a guard, a branch or a loop
        without iterations: the text would read where the term does not.
        """
        found = super().read(e, name, at, scope)
        array, offset = found.args
        cells = math.prod(x.data if x.op == "int" else 0 for x in array.args)
        literal = offset.op == "int" and 0 <= offset.data < cells
        need(not self.parallel or offset.free > 0 or literal, e, "a read that no index moves; Numba hoists it")
        return found

    def name(self, e: ast.expr, name: str, scope: Scope) -> Term:
        entry = scope.names.get(name)
        if entry is not None and entry.kind == "early" and entry.node is not None:
            need(scope.certain, e, f"{name} was read before it is known whether this lane reads it")
            return self.real(entry.node, scope.before_lanes())
        return super().name(e, name, scope)

    def cell(self, e: ast.expr, scope: Scope, kind: str) -> Term:
        """An element of a let: its variable, or psi of it."""
        base, at = (e.value, e.slice) if isinstance(e, ast.Subscript) else (e, None)
        entry = scope.names.get(name_of(base))
        if entry is None or entry.kind != kind:
            refuse(e, f"{ast.unparse(base)} is no {kind} here")
        nodes = [] if at is None else list(at.elts) if isinstance(at, ast.Tuple) else [at]
        if self.lane:
            here = scope.in_lane and bool(nodes) and name_of(nodes.pop()) == self.lane[0]
            need(here, e, "the last index is the lane")
        need(len(nodes) == entry.rank and (bool(nodes) or bool(self.lane) or at is None), e, "another rank")
        head = Var(scope.depth - 1 - entry.level)
        if kind == "state":
            head = Term("quotient", None, (head,))
        return Psi(head, *(self.index(x, scope) for x in nodes))

    def quotient(self, e: ast.expr, scope: Scope) -> Term:
        o, l = args_of(e)
        found = self.cell(o, scope, "state")
        base = name_of(o.value) if isinstance(o, ast.Subscript) else name_of(o)
        need(says(l, self.spell(scope.names[base].weights, ())), e, "o and l are of two states")
        return found
