'''The source reader of CUDA texts: launches over blocks of threads to the ONF that they compute.  Trusted.

It says what value each cell holds; that accesses are in bounds, initialised, ordered by barriers and free of races, and
that each output cell is written once, is proved on the same text by ``safety.py``.

    Module  ::= """docstring, one line of it is 'core: <sha256>'"""
                from moaproof.instructions.cuda_<dtype> import LOWEST, ONE, ... (the one line of IMPORTS)
                Launch*                                                          the last is kernel, and writes out
    Launch  ::= @launch(grid=("e0*..*ek", 1, 1), block=B, constants=(size, ..), index="int64", makes=M)
                def NAME(<made here, or out>, <made before>, <inputs>, <sizes that are no constants>): Top
                e is a size; M is () of the kernel, else ((m, e, ..), (l, e, ..), (o, e, .., "F*tx")): states
    Top     ::= Alloc*  Place  Let*  Store+                                      B is ("tx", "ty", 1): tiles of rows
              | Place  for c in span(x, E, tx): Let*  out[gamma] = E             B is ("tx", 1, 1): columns
    Alloc   ::= r = cuda.local.array(size, real) | r = cuda.local.array((size, size), real)      registers
              | pool = cuda.shared.array(0, real)                                                once, before views
              | p = q + E0 * E1   s = view(pool, q, p, (E0, E1))                 q the p before; at first E0 * E1, and 0
    Place   ::= x = cuda.threadIdx.x   (y = cuda.threadIdx.y)   w = cuda.blockIdx.x
                i0 = w // (e1 * .. ek)   i1 = w // (e2 * .. ek) % e1  ..   ik = w % ek           not of one e
    Nest S  ::= for e in span(ri): r = e * ty + y  S                             over rows; of columns S alone
    Wide S  ::= Nest for f in span(F): c = f * tx + x  S                         over rows and columns, F a size;
              | Nest if G: for f in span(F): c = f * tx + x  S                   as if G stood around S
    Let     ::= Nest x = E  |  Fold of Nest                                      x is r[e], of columns a scalar
              | Fold of Wide *   Wide x = E                                      an array: x is r[e, f] or s[c, r]
              | for r in span(y, ri * ty, ty): for c in span(x, E, tx): s[c, r] = E              each row's array
              | for u in span(y, E, ty): for c in span(x, E, tx): s[u, c] = E  or  s[c, u] = E   an array of no row
              | Nest m = LOWEST   Nest l = ZERO   Wide o = ZERO   for k in span(E): (if G:) Let* Merge
    Fold of N ::= N x = ZERO|ONE|LOWEST   for k in span(E): (if G:) N (if G:) x = x + E          one if at most;
                                                                                 or x = x * E, x = fmax(x, E)
    Merge   ::= Nest d = E; t = fmax(m, d); a = rescale(m, t); b = rescale(d, t); m = t; l = l * a + E * b
                Wide o = o * a + E * b                                           of columns o is a scalar, and the E may
                                                                                 be m[..], l[..], o[..] of a made state
    Store   ::= Wide if r < min(ri * ty, n - ik * (ri * ty)) and c < E: out[gamma] = E           kernel
              | Nest if r < min(..) and x < 1: m[gamma] = m9, and l   Wide if r < min(..) (and c < E): o[gamma] = o11

E, G and Index are those of ``expressions.py``; a quotient is of the o and l of one fold.  Registers are read as they
are written; shared memory as s[Index, r] of each row's array and s[Index, Index] of one of no row.
``cuda.syncthreads()`` may stand between any two statements, and says nothing here.

The term is a row program: each let stands under the row r (or column c), the axis of threads.  Rows at and beyond
n - ik * (ri * ty), which the text computes and throws away, are not in the term.  Why cells hold what the term says,
given what the audit proves of the text:

- Memory.  Each array, a view or registers, is filled by one let alone, over all rows and columns at hand: whatever a
  read finds is a value of that let, of some iteration, row and column.
- Iteration.  A let is readable after it in its own block alone, an accumulator after its loop.  The audit proves that a
  write of the same iteration of each loop around both put the value there, and that none came between.
- Row.  By induction over the text, r[e] of thread (x, y) holds the value of row e * ty + y, whatever x is, and s[.., r]
  that of row r.  Outside of nests no name depends on the thread, so extents, guards around nests and arrays of no row
  cannot either.  Inside, e and r are of one row; the row's registers are indexed by e itself, its cells by r itself.
  So no row sees another, and nothing sees those thrown away.
- Column.  r[e, f] of thread (x, y) holds column f * tx + x of its row, and only the f of a nest indexes it; any thread
  may read s[c, r].  Outside of wide nests no name depends on x, so r[e] is the same in all threads of the row.
- Cover.  span(ri) with e * ty + y, and span(y, ri * ty, ty), deal each row to one y, and so with columns and x: each
  element of a let is computed, once for each cell, or by all x alike.
- Names.  Each is bound once in a launch, and readable in the block that binds it.
- Output.  The address is gamma of the indices of grid, row and column over the extents that the term has, and for
  states those that the header says; a later launch reads a state at gamma of one index in all three arrays.
'''

from __future__ import annotations

import ast
import keyword
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from ..shapes import gamma, product
from ..term import TRUE, Add, Build, Fold, Let, Lt, Mul, Psi, Size, Term, Tiles, Var, tile_extent, up
from .expressions import (
    INIT,
    Entry,
    Expressions,
    Names,
    args_of,
    call_of,
    dtype_of,
    goal,
    imports_of,
    name_of,
    need,
    parts_of,
    refuse,
    same,
    says,
    value,
)  # fmt: skip
from .onf import require_onf
from .text import bare

NAMES: Final = (
    "LOWEST", "ONE", "ZERO", "cuda", "exp", "fmax", "launch", "quotient", "real", "rescale", "span", "sqrt", "view",
)  # fmt: skip
IMPORTS: Final = imports_of("cuda", NAMES)
HEADER: Final = ["grid", "block", "constants", "index", "makes"]
RESERVED: Final = frozenset({*NAMES, "min", "max", "__debug__"})
PARTS: Final = ("maximum", "weight", "state")  # m, l and o of a state
Axes = tuple[int | None, ...]  # the level of the binder whose index is at hand, or none where any index may stand


@dataclass(frozen=True, slots=True)
class Launch:
    """What a launch's header says.

    ``grid`` are the factors of its one axis; ``block`` is (tx, ty) or (tx,); ``makes`` has a name and extents each.
    """

    name: str
    grid: tuple[Term, ...]
    block: tuple[str, ...]
    constants: tuple[str, ...]
    makes: tuple[tuple[str, tuple[Term, ...]], ...]


@dataclass(slots=True)
class Array:
    """Registers of a thread, or shared memory of a block.  One let fills it."""

    rank: int
    shared: bool
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Place(Names):
    """The names readable here; where nests are wide, ``count`` columns for each thread, under the binder ``level``."""

    count: str = ""
    level: int = -1

    def wide(self, count: str) -> Self:
        return replace(self.deeper(), count=count, level=self.depth)


def dtype_of_launches(module: ast.Module) -> str | None:
    """The dtype of a CUDA text; nothing if the text is none."""
    return dtype_of(module.body[1], IMPORTS) if len(module.body) > 1 else None


def read_launches(module: ast.Module, inputs: Sequence[Term], sizes: Sequence[str]) -> tuple[Term, tuple[Launch, ...]]:
    """The ONF, and what the headers say, in order."""
    scope, launches, values = Place(), list[Launch](), list[Term]()
    made: dict[str, tuple[Term, ...]] = {}
    for f in module.body[2:]:
        if not isinstance(f, ast.FunctionDef):
            refuse(f, "a launch is due")
        launch = header_of(f, sizes)
        last = f is module.body[-1]
        need((launch.name == "kernel") == last == (not launch.makes), f, "the last launch is kernel, and makes nothing")
        values.append(_Reader(inputs, sizes, launch, made).launched(f, scope))
        launches.append(launch)
        level = scope.depth
        scope = scope if last else scope.deeper()
        for part, (name, extents) in zip(PARTS, launch.makes, strict=False):
            made[name], scope = extents, scope.know(name, Entry(f"made {part}", level))
    need(bool(launches), module.body[-1], "a launch is due")
    every = [*(x.name for x in launches), *made, "out", *(t.data[0] for t in inputs), *sizes]
    need(len({*every, *RESERVED}) == len(every) + len(RESERVED), module.body[-1], "two things have one name")
    term = bound(values)
    require_onf(term)
    return term, tuple(launches)


def header_of(f: ast.FunctionDef, sizes: Sequence[str]) -> Launch:
    def factors(text: Any) -> tuple[Term, ...]:
        names = text.split("*") if isinstance(text, str) else []
        need(bool(names) and set(names) <= set(sizes), f, "an extent is 1 or a product of names of sizes")
        return tuple(map(Size, names))

    call = f.decorator_list[0] if len(f.decorator_list) == 1 else ast.Constant(None)
    keywords = call.keywords if isinstance(call, ast.Call) and says(call.func, "launch") and not call.args else []
    need([k.arg for k in keywords] == HEADER, f, f"one decorator, launch({'=, '.join(HEADER)}=), is due")
    match [literal(k.value) for k in keywords]:
        case [(grid, 1, 1), (*block, 1), tuple(constants), "int64", tuple(makes)] if len(block) == 2:
            block = block[: 1 if block[1] == 1 else 2]
            plain = {*block, *constants} <= set(sizes) and len(set(constants)) == len(constants)
            need(plain, f, "the axes of a block are sizes, and so are constants")
            named = all(isinstance(x, tuple) and x and isinstance(x[0], str) for x in makes)
            need(named and len(makes) in (0, len(PARTS)), f, "a launch makes nothing, or m, l and o of states")
            made = tuple((name, tuple(product(factors(e)) for e in extents)) for name, *extents in makes)
            return Launch(f.name, factors(grid), tuple(block), constants, made)
    return refuse(f, "the header says another grid, block, index dtype or kind of data")


def literal(node: ast.expr) -> Any:
    """A string, an integer, or a tuple of these."""
    if isinstance(node, ast.Tuple):
        return tuple(literal(x) for x in node.elts)
    if isinstance(node, ast.Constant) and type(node.value) in (str, int):
        return node.value
    return refuse(node, "strings, integers and tuples stand in a header")


def bound(values: Sequence[Term]) -> Term:
    """The last value, under lets of those before it."""
    term = values[-1]
    for v in reversed(values[:-1]):
        term = Let(v, term)
    return term


def body_of(s: ast.For | ast.If | ast.FunctionDef) -> list[ast.stmt]:
    """The statements inside, but for barriers."""
    return [x for x in s.body if not (isinstance(x, ast.Expr) and says(x.value, "cuda.syncthreads()"))]


def constant(s: ast.stmt) -> str:
    """The constant that an accumulator begins with, or nothing."""
    while isinstance(s, ast.For) and body_of(s):
        s = body_of(s)[-1]
    found = name_of(s.value) if isinstance(s, ast.Assign) else ""
    return found if found in INIT else ""


def guarded(body: list[ast.stmt]) -> tuple[ast.expr | None, list[ast.stmt]]:
    """The condition of the ``if`` that is all of the body, and what stands under it."""
    (s, *more) = body or [ast.Pass()]
    if isinstance(s, ast.If):
        need(not s.orelse and not more, s, "a guard without else, around all of its loop, is due")
        return s.test, body_of(s)
    return None, body


def conjuncts_of(test: ast.expr | None) -> list[ast.expr]:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return test.values
    return [] if test is None else [test]


class _Reader(Expressions[Place]):
    """Reads one launch; ``made`` are the extents of the arrays that earlier launches left."""

    def __init__(
        self, inputs: Sequence[Term], sizes: Sequence[str], launch: Launch, made: dict[str, tuple[Term, ...]]
    ) -> None:
        super().__init__(inputs, sizes)
        self.launch, self.made = launch, made
        written = [name for name, _ in launch.makes] or ["out"]
        self.parameters = [*written, *made, *self.inputs, *(s for s in sizes if s not in launch.constants)]
        self.seen |= {*self.parameters, *sizes, *RESERVED}
        self.arrays: dict[str, Array] = {}
        self.tiled = len(launch.block) == 2
        self.steps = dict(zip("xy", launch.block, strict=False))  # how many threads each axis has
        self.threads: dict[str, str] = {}  # the name of the thread's index on each axis
        self.grid: list[tuple[int, Term]] = []  # the level of the binder and the extent of each axis
        self.ri = ""  # of a tile: the rows of a thread
        self.rows = self.whole = Var(0)  # its length, and how many rows there are in all
        self.row = -1  # the level of the row's binder

    # --- the frame ---------------------------------------------------------------------------------------

    def launched(self, f: ast.FunctionDef, scope: Place) -> Term:
        """The launch's term, under the states of the launches before it."""
        self.signature(f)
        queue = deque(body_of(f))
        self.allocations(queue)
        for name, extent in self.places(f, queue):
            self.grid.append((scope.depth, extent))
            scope = scope.index(name)
        self.next(queue)
        term = self.tile(list(queue), scope) if self.tiled else self.column(list(queue), scope)
        need(all(a.filled for a in self.arrays.values()), f, "memory is allocated that nothing fills")
        for _, extent in reversed(self.grid[:-1] if self.tiled else self.grid):
            term = Build(extent, term, "grid")
        return term

    def signature(self, f: ast.FunctionDef) -> None:
        plain = all(p.isidentifier() and not keyword.iskeyword(p) for p in self.parameters)
        need(plain and not RESERVED & {f.name, *self.parameters}, f, "a name is not one that can be bound")
        due = ast.parse(f"def {f.name}({', '.join(dict.fromkeys(self.parameters))}):\n    pass").body[0]
        need(ast.dump(bare(f)) == ast.dump(due), f, "the parameters differ from those due")

    def allocations(self, queue: deque[ast.stmt]) -> None:
        """Registers, and views that lie side by side in the one pool of shared memory."""
        pool, stop = "", ""
        while queue:
            v = queue[0].value if isinstance(queue[0], ast.Assign) else queue[0]
            if not pool and says(v, "cuda.shared.array(0, real)"):
                pool = self.target(queue.popleft())
            elif isinstance(v, ast.Call) and says(v.func, "cuda.local.array"):
                self.registers(queue.popleft(), v)
            elif pool and isinstance(v, ast.BinOp):
                stop = self.view(pool, stop, queue.popleft(), self.take(queue))
            else:
                return

    def registers(self, s: ast.stmt, call: ast.Call) -> None:
        match call:
            case ast.Call(args=[shape, ast.Name(id="real")], keywords=[]):
                extents = shape.elts if isinstance(shape, ast.Tuple) else [shape]
                need(1 <= len(extents) <= 2, s, "registers have one or two axes")
                need({name_of(e) for e in extents} <= self.sizes, s, "the extents of registers are sizes")
                self.arrays[self.target(s)] = Array(len(extents), shared=False)
            case _:
                refuse(s, "registers are cuda.local.array(extents, real)")

    def view(self, pool: str, before: str, s: ast.stmt, t: ast.stmt) -> str:
        """Where a view stops: p of ``p = q + e0 * e1`` and ``view(pool, q, p, (e0, e1))``, q the p ``before``."""
        stop, size = self.target(s), value(s)
        if before and isinstance(size, ast.BinOp):
            need(isinstance(size.op, ast.Add) and says(size.left, before), s, f"{before} + its length is due")
            size = size.right
        match size, value(t):
            case (
                ast.BinOp(left=left, op=ast.Mult(), right=right),
                ast.Call(func=ast.Name(id="view"), args=[p, q, r, ast.Tuple(elts=[a, b])], keywords=[]),
            ) if same(left, a) and same(right, b) and [name_of(p), name_of(r)] == [pool, stop]:
                need(says(q, before or "0"), t, f"the view begins at {before or 0}")
                for e in (a, b):
                    self.index(e, Place())
                self.arrays[self.target(t)] = Array(2, shared=True)
                return stop
        return refuse(t, f"a view of {pool} up to {stop}, as long as its two axes, is due")

    def places(self, f: ast.FunctionDef, queue: deque[ast.stmt]) -> list[tuple[str, Term]]:
        """The thread's indices, which are kept, and the axes of the grid."""

        def place(text: str) -> str:
            s = self.take(queue)
            need(says(value(s), text), s, f"{text} is due")
            return self.target(s)

        self.threads = {axis: place(f"cuda.threadIdx.{axis}") for axis in self.steps}
        w = place("cuda.blockIdx.x")
        decoding: list[ast.Assign] = []
        while queue and isinstance(s := queue[0], ast.Assign) and self.decodes(s.value):
            decoding.append(s)
            queue.popleft()
        names, extents = self.cores(f, decoding, w, product(self.launch.grid), Place())
        need(len(names) == len(self.launch.grid), f, "each factor of the grid is an axis")
        return list(zip(names, extents, strict=True))

    def tile(self, body: list[ast.stmt], scope: Place) -> Term:
        """The last axis of the grid as tiles of ri * ty rows, a row program for each."""
        match body[-1]:
            case ast.For(iter=ast.Call(args=[ast.Name(id=name)])):
                self.ri, self.rows, self.row = name, Mul(Size(name), Size(self.steps["y"])), scope.depth
            case _:
                refuse(body[-1], "a store in a nest of rows and columns is due")
        values, tail, inside = self.lets(body, len(self.launch.makes) or 1, scope.deeper())
        if self.launch.makes:
            for s, (name, extents), part in zip(tail, self.launch.makes, PARTS, strict=True):
                e, z, axes = self.stored(s, inside, name)
                need(extents == tuple(a for _, a in axes), s, f"{name} is made with other extents")
                due = (Var(z.depth - inside.depth), *(i for i, _ in axes[len(self.grid) :]))
                need(self.element(e, z, part) == due, s, f"the {part} of the last let is due")
            element = Var(0)
        else:
            e, z, axes = self.stored(tail[0], inside, "out")
            need(z.count != "", tail[0], "the output has columns")
            element = Build(axes[-1][1], self.real(e, z))
        whole, tiles = self.whole, self.grid[-1][1]
        rows = Build(tile_extent(whole, self.rows, Var(0)), bound([*values, element]), "thread")
        return Tiles(whole, tiles, self.rows, rows, "grid")

    def column(self, body: list[ast.stmt], scope: Place) -> Term:
        """A row program for each column, all of it in scalars of one thread."""
        plain = not self.launch.makes and not self.arrays
        need(plain, body[0], "a launch over columns writes out, and has no memory of its own")
        body, c, extent = self.dealt(body, "x", Place())
        values, (t,), z = self.lets(body, 1, scope.index(self.fresh(c)))
        self.grid.append((scope.depth, extent))
        self.written(t, "out", self.axes(z), z)
        self.grid.pop()
        return Build(extent, bound([*values, self.real(value(t), z)]), "thread")

    # --- stores ------------------------------------------------------------------------------------------

    def stored(self, s: ast.stmt, scope: Place, name: str) -> tuple[ast.expr, Place, list[tuple[Term, Term]]]:
        """What a nest stores to ``name``, the place there, and the axes of ``name``: index and extent."""
        count = self.width(s)
        body, z = self.nest([s], scope.wide(count) if count else scope)
        test, body = guarded(body)
        (t,) = self.exactly(body, 1)
        tests = conjuncts_of(test)
        need(bool(tests), t, "a store is guarded by the row")
        self.within(tests[0], z)
        axes = self.axes(z)
        match tests[1:]:
            case [x] if not count and says(x, f"{self.threads['x']} < 1"):
                pass  # one thread of each row
            case [] if count:
                axes.append((Var(0), self.extent(count)))
            case [ast.Compare(left=c, ops=[ast.Lt()], comparators=[e])] if count and self.index(c, z) is Var(0):
                axes.append((Var(0), self.index(e, Place())))
            case _:
                refuse(t, "beside the row, a guard says which columns there are, or that the first thread stores")
        self.written(t, name, axes, z)
        return value(t), z, axes

    def within(self, test: ast.expr, z: Place) -> None:
        """The row is one of the tile's: r < min(t, n - i * t), of n rows in all, the same n in all stores."""
        inside = self.guard(test, z)
        tile, row = (Var(z.depth - 1 - level) for level in (self.grid[-1][0], self.row))
        match inside.args:
            case [_, Term(op="imin", args=[_, Term(op="iadd", args=[whole, _])])] if whole.free == 0:
                fits = inside is Lt(row, tile_extent(whole, self.rows, tile)) and self.whole in (Var(0), whole)
                need(fits, test, "the rows of a tile are min(t, n - i * t), t = ri * ty, in each store")
                self.whole = whole
            case _:
                refuse(test, "a store is guarded by r < min(t, n - i * t)")

    def axes(self, z: Place) -> list[tuple[Term, Term]]:
        """Index and extent of each axis of the grid; the last may be one of tiles, and then is that of rows."""
        axes = [(Var(z.depth - 1 - level), extent) for level, extent in self.grid]
        if self.tiled:
            axes[-1] = (Add(Mul(axes[-1][0], self.rows), Var(z.depth - 1 - self.row)), self.whole)
        return axes

    def written(self, s: ast.stmt, name: str, axes: Sequence[tuple[Term, Term]], z: Place) -> None:
        """The statement writes ``name`` at gamma of the axes."""
        found, at = parts_of(goal(s))
        due = gamma([i for i, _ in axes], [e for _, e in axes])
        fits = found == name and len(at) == 1 and self.index(at[0], z) is due
        need(fits, s, f"{name} is due, at gamma of the indices over its extents")

    # --- nests -------------------------------------------------------------------------------------------

    def nest(self, body: list[ast.stmt], scope: Place) -> tuple[list[ast.stmt], Place]:
        """The statements for the row, and the column where nests are wide; in a launch over columns the body itself."""
        if self.tiled:
            body, scope = self.registered(body, scope, "row", self.ri, self.row, "y")
        if scope.count:
            test, body = guarded(body)
            if test is not None:  # around the columns: it names none of them, and says of each what it says inside
                self.guard(test, scope)
            body, scope = self.registered(body, scope, "column", scope.count, scope.level, "x")
            if test is not None:
                body = [ast.copy_location(ast.If(test, body, []), test)]
        return body, scope

    def registered(
        self, body: list[ast.stmt], scope: Place, kind: str, count: str, level: int, thread: str
    ) -> tuple[list[ast.stmt], Place]:
        """Inside ``for e in span(count): r = e * t + thread``: e is the index of registers, r that of the axis."""
        (s,) = self.exactly(body, 1)
        if not (isinstance(s, ast.For) and says(s.iter, f"span({count})") and not s.orelse):
            refuse(s, f"a loop over the registers of a {kind} is due")
        e, body = self.fresh(s.target), body_of(s)
        text = f"{e} * {self.steps[thread]} + {self.threads[thread]}"
        need(bool(body) and says(value(body[0]), text), s, f"the index {text} of the {kind} is due")
        r = self.target(body[0])
        return body[1:], scope.know(e, Entry(kind, level)).know(r, Entry("index", level))

    def dealt(self, body: list[ast.stmt], thread: str, scope: Place) -> tuple[list[ast.stmt], ast.expr, Term]:
        """``for c in span(thread, extent, threads)``: what is inside, c and the extent."""
        (s,) = self.exactly(body, 1)
        if not (isinstance(s, ast.For) and call_of(s.iter, 3) == "span" and not s.orelse):
            refuse(s, f"a loop that is dealt to the threads of {thread} is due")
        start, stop, step = args_of(s.iter)
        need(says(start, self.threads[thread]) and says(step, self.steps[thread]), s, "each index to one thread is due")
        return body_of(s), s.target, self.index(stop, scope)

    def width(self, s: ast.stmt) -> str:
        """How many columns each thread has in a nest; nothing if the nest is over rows alone."""
        match body_of(s)[-1:] if self.tiled and isinstance(s, ast.For) else []:
            case [ast.For(iter=ast.Call(args=[ast.Name(id=name)]))] if name in self.sizes:
                return name
        return ""

    def extent(self, count: str) -> Term:
        """All columns, of so many for each thread."""
        return Mul(Size(count), Size(self.steps["x"]))

    # --- memory ------------------------------------------------------------------------------------------

    def claim(self, s: ast.stmt, z: Place, shared: bool = False) -> str:
        """The name whose cells at hand a statement begins to fill: memory that nothing else fills."""
        if not self.tiled:
            return self.target(s)
        value(s)
        name = self.own(goal(s), z)
        array = self.arrays[name]
        need(not array.filled and array.shared <= shared, s, f"{name} is filled already, or is not of registers")
        array.filled = True
        return name

    def own(self, e: ast.expr, z: Place) -> str:
        """The name, where an expression is the scalar, register or cell of the row and column at hand."""
        name, nodes = parts_of(e)
        array = self.arrays.get(name)
        need((array is not None) == self.tiled, e, "memory that is allocated is due")
        self.indices(e, name, nodes, self.of_each(name, z), z)
        return name

    def of_each(self, name: str, z: Place) -> Axes:
        """The axes of memory with one value for each row, or row and column."""
        if not self.tiled:
            return ()
        columns = [z.level] if z.count else []
        return (*columns, self.row) if self.arrays[name].shared else (self.row, *columns)

    def indices(self, e: ast.expr, name: str, nodes: list[ast.expr], axes: Axes, z: Place) -> list[Term]:
        """The indices of the axes without a level; along the others the row or column at hand is indexed."""
        array, found = self.arrays.get(name), []
        due = (array.rank if array else 0) == len(axes) == len(nodes)
        need(due, e, f"{ast.unparse(e):.60} has another rank")
        for node, level in zip(nodes, axes, strict=True):
            register = z.names.get(name_of(node), Entry("none"))
            if array and array.shared:
                index = self.index(node, z)
            else:
                kinds = ("row", "column") if level is not None else ("column",)
                need(register.kind in kinds, node, f"{ast.unparse(node):.60} is no index of such registers here")
                index = Var(z.depth - 1 - register.level)
            if level is None:
                found.append(index)
            else:
                need(index is Var(z.depth - 1 - level), node, "the row or column at hand is due")
        return found

    def element(self, e: ast.expr, scope: Place, kind: str) -> tuple[Term, ...]:
        """The variable that a name means, and the indices after it."""
        name, nodes = parts_of(e)
        entry = scope.names.get(name)
        if entry is None or entry.kind != kind:
            refuse(e, f"{ast.unparse(e):.60} is no {kind} here")
        return Var(scope.depth - 1 - entry.level), *self.indices(e, name, nodes, entry.axes, scope)

    def cell(self, e: ast.expr, scope: Place, kind: str) -> Term:
        return Psi(*self.element(e, scope, kind))

    def quotient(self, e: ast.expr, scope: Place) -> Term:
        o, l = args_of(e)
        w, *index = self.element(o, scope, "state")
        need(self.element(l, scope, "weight") == (w,), e, "o and l are of two states")
        return Psi(Term("quotient", None, (w,)), *index)

    # --- lets --------------------------------------------------------------------------------------------

    def lets(self, body: list[ast.stmt], count: int, scope: Place) -> tuple[list[Term], list[ast.stmt], Place]:
        """The values of the lets; the last ``count`` statements, which are none; and the place there."""
        need(len(body) >= count, [*body, ast.Pass()][0], f"{count} statements are due at the end")
        queue, values = deque(body[: len(body) - count]), []
        while queue:
            v, scope = self.let(queue, scope)
            values.append(v)
        return values, body[len(body) - count :], scope

    def let(self, queue: deque[ast.stmt], scope: Place) -> tuple[Term, Place]:
        """One binding: its value, and the scope of what follows."""
        s = queue[0]
        if constant(s) == "LOWEST" and len(queue) > 1 and constant(queue[1]) == "ZERO":
            return self.softmax(queue, scope)
        if self.tiled and isinstance(s, ast.For) and call_of(s.iter, 3):
            name, term, axes = self.staged(queue.popleft(), scope)
        elif self.width(s):
            name, term, axes = self.array(queue, scope)
        else:
            name, term = self.scalar(queue, scope)
            axes = self.of_each(name, scope)
        return term, scope.bind(name, Entry("value", scope.depth, axes=axes))

    def scalar(self, queue: deque[ast.stmt], scope: Place, shared: bool = False) -> tuple[str, Term]:
        """One value for each row, or row and column: an expression, which may be in ``shared`` memory, or a fold."""
        s = self.take(queue)
        start = constant(s)
        body, z = self.nest([s], scope)
        (t,) = self.exactly(body, 1)
        name = self.claim(t, z, shared and not start)
        return name, self.fold(self.take(queue), scope, INIT[start], name) if start else self.real(value(t), z)

    def fold(self, s: ast.stmt, scope: Place, monoid: str, name: str) -> Term:
        inside, n, outer, body = self.loop(s, scope)
        body, z = self.nest(body, inside)
        test, body = guarded(body)
        need(outer is TRUE or test is None, s, "a fold has one guard")
        (t,) = self.exactly(body, 1)
        match monoid, value(t):
            case "add", ast.BinOp(left=left, op=ast.Add(), right=right):
                pass
            case "mul", ast.BinOp(left=left, op=ast.Mult(), right=right):
                pass
            case "max", ast.Call(args=[left, right]) if call_of(value(t), 2) == "fmax":
                pass
            case _:
                refuse(t, f"the accumulator combined by {monoid} with an element is due")
        fits = self.own(goal(t), z) == name and same(left, goal(t))
        need(fits, t, f"{name} is the accumulator, and stands first")
        return Fold(monoid, n, self.real(right, z), outer if test is None else self.guard(test, z))

    def loop(self, s: ast.stmt, scope: Place) -> tuple[Place, Term, Term, list[ast.stmt]]:
        """The loop of a fold: the place inside, its extent, its guard outside of nests, and what stands there."""
        if not isinstance(s, ast.For):
            refuse(s, "the loop of an accumulator is due")
        k, n = self.header(s, scope, "span")
        test, body = guarded(body_of(s))
        inside = scope.index(k)
        return inside, n, TRUE if test is None else self.guard(test, inside), body

    def array(self, queue: deque[ast.stmt], scope: Place) -> tuple[str, Term, Axes]:
        """Folds over rows and the same columns, then the element, which alone may fill shared memory."""
        inner, values = scope.wide(self.width(queue[0])), list[Term]()
        while True:
            last = not constant(self.next(queue))
            name, v = self.scalar(queue, inner, shared=True)
            values.append(v)
            inner = inner.bind(name, Entry("value", inner.depth, axes=self.of_each(name, inner)))
            if last:
                axes = (None, self.row) if self.arrays[name].shared else (self.row, None)
                return name, Build(self.extent(inner.count), bound(values)), axes

    def staged(self, s: ast.stmt, scope: Place) -> tuple[str, Term, Axes]:
        """Cells of shared memory, dealt to all threads: a row's array of one axis, or an array of no row, of two."""
        body, u, height = self.dealt([s], "y", scope)
        body, c, width = self.dealt(body, "x", scope)
        (t,) = self.exactly(body, 1)
        name, nodes = parts_of(goal(t))
        array = self.arrays.get(name)
        need(array is not None and array.shared and not array.filled, t, "shared memory, not yet filled, is due")
        self.arrays[name].filled = True
        order, loops = [name_of(n) for n in nodes], {name_of(c): (c, width), name_of(u): (u, height)}
        need(len(order) == 2 and set(order) == set(loops), t, f"the cell of {name} of this iteration is due")
        of_row = height is self.rows
        if of_row:
            need(order.pop() == name_of(u), t, "the last index is that of the row")
            scope = scope.know(self.fresh(u), Entry("index", self.row))
        z = scope
        for x in order:
            z = z.index(self.fresh(loops[x][0]))
        term = self.real(value(t), z)
        for k, x in reversed([*enumerate(order)]):
            term = Build(up(loops[x][1], k), term)
        return name, term, (None, self.row) if of_row else (None, None)

    # --- states ------------------------------------------------------------------------------------------

    def softmax(self, queue: deque[ast.stmt], scope: Place) -> tuple[Term, Place]:
        """The fold of states m, l, o with the merge written out."""
        count = self.width(queue[2]) if len(queue) > 2 else ""
        need(bool(count) == self.tiled, queue[0], "a state has all columns, or in scalars one")
        wide = scope.wide(count) if count else scope
        places = (("LOWEST", scope), ("ZERO", scope), ("ZERO", wide))
        names = [self.initial(self.take(queue), start, place) for start, place in places]
        inside, n, guard, body = self.loop(self.take(queue), scope)
        values, tail, inside = self.lets(body, 2 if self.tiled else 7, inside)
        term = Fold("softmax", n, bound([*values, self.merge(tail, inside, names, count)]), guard)
        level, scope = scope.depth, scope.deeper()
        for part, name in zip(PARTS, names, strict=True):
            free = (None,) if count and part == "state" else ()
            scope = scope.know(name, Entry(part, level, axes=(*self.of_each(name, scope), *free)))
        return term, scope

    def initial(self, s: ast.stmt, start: str, scope: Place) -> str:
        need(constant(s) == start, s, f"a part of a state begins with {start}")
        body, z = self.nest([s], scope)
        (t,) = self.exactly(body, 1)
        return self.claim(t, z)

    def merge(self, tail: list[ast.stmt], scope: Place, names: list[str], count: str) -> Term:
        """The state that a step of the fold merges: written out, or one that an earlier launch left."""
        body, z = self.nest(tail[:1], scope) if self.tiled else (tail[:6], scope)
        new, greatest, a, b, highest, weight = self.exactly(body, 6)
        body, y = self.nest(tail[-1:], scope.wide(count) if count else scope)
        (part,) = self.exactly(body, 1)
        need(self.own(goal(highest), z) == names[0], highest, f"{names[0]} is due")
        old, d, t = ast.unparse(goal(highest)), self.target(new), self.target(greatest)
        for s, text in (
            (greatest, f"fmax({old}, {d})"), (a, f"rescale({old}, {t})"), (b, f"rescale({d}, {t})"), (highest, t),
        ):  # fmt: skip
            need(says(value(s), text), s, f"{text} is due")
        factors = [self.claim(s, z) for s in (a, b)]
        m, l, o = value(new), self.merged(weight, z, names[1], factors), self.merged(part, y, names[2], factors)
        if not self.tiled and parts_of(m)[0] in self.made:
            return self.made_state((m, l, o), z)
        columns = self.real(o, y)
        columns = Build(self.extent(count), columns) if count else columns
        return Term("state", None, (self.real(m, z), self.real(l, z), columns))

    def merged(self, s: ast.stmt, z: Place, name: str, factors: list[str]) -> ast.expr:
        """E of x = x * a + E * b, for the row and column at hand."""
        match value(s):
            case ast.BinOp(
                left=ast.BinOp(left=x, op=ast.Mult(), right=a),
                op=ast.Add(),
                right=ast.BinOp(left=element, op=ast.Mult(), right=b),
            ) if same(x, goal(s)):
                row = replace(z, count="")
                need([self.own(e, y) for e, y in ((x, z), (a, row), (b, row))] == [name, *factors], s, "other factors")
                return element
        return refuse(s, f"{name} * {factors[0]} + E * {factors[1]} is due")

    def made_state(self, parts: Sequence[ast.expr], z: Place) -> Term:
        """The state at one column that three reads are of: in each array at the offset of the one index."""
        names, at = zip(*map(parts_of, parts), strict=True)
        entries = [z.names.get(name, Entry("none")) for name in names]
        level = entries[0].level
        fits = entries == [Entry(f"made {part}", level) for part in PARTS] and all(len(nodes) == 1 for nodes in at)
        need(fits, parts[0], "m, l and o of the states of one launch are due")
        m, l, rest = (self.index(nodes[0], z) for nodes in at)
        index, extents = list[Term](), self.made[names[-1]]
        for s in reversed(extents[1:]):
            horner = rest.op == "iadd" and rest.args[0].op == "imul" and rest.args[0].args[1] is s
            need(horner, parts[-1], f"the offset is not gamma of indices over the extents of {names[-1]}")
            (rest, _), last = rest.args[0].args, rest.args[1]
            index.insert(0, last)
        index.insert(0, rest)
        need(m is l is gamma(index[:-1], extents[:-1]), parts[0], "the three reads are of different states")
        return Psi(Var(z.depth - 1 - level), *index)
