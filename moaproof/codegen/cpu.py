"""The ONF as a function for CPU cores and their lanes.

Two modes.  *Plain*: a scalar let is a name, an array is scratch.  *Lanes*, under build[lane]: every let has one more
axis at the end, and every scalar statement stands in a loop over the lanes; so the innermost loop is always over the
lanes and LLVM vectorises it.  Three rules serve that loop:

- a read of an input that no lane decides (its offset does not mention the lane, and each lane makes it) goes before it;
- scratch is allocated in the outermost block where its extents are known, so that no inner loop allocates;
- a sum without a guard or a let is printed four elements at a time, in the same order: four products for one load and
  one store of the accumulator, and every bit as before.

The grammar of the text is that of ``reader/reader.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..shapes import gamma, product
from ..term import Add, Mul, Term, Var, mentions, up
from .expressions import PRODUCT, START, UPDATE, Block, Env, Name, Printer, Write, merged, rescaled

NAMES = "LOWEST, ONE, ZERO, empty, exp, fmax, njit, prange, quotient, real, rescale, sqrt"


def print_kernel(onf: Term, inputs: Sequence[Term], sizes: Sequence[str]) -> Iterator[str]:
    """The lines of the one function.  ``inputs`` and ``sizes`` in the order of the parameters."""
    printer = _Printer([t.data[0] for t in inputs], sizes)
    body = printer.kernel(onf)
    yield from ("", "", '@njit(parallel=True, error_model="numpy")')
    yield f"def kernel({', '.join(['out', *printer.parameters])}):"
    yield from body.text(1)


Cell = tuple[str, ...]  # the indices of the loops around a cell


def extents_of(t: Term, depth: int) -> list[Term]:
    """The extents of the array that a Block under ``depth`` binders ends in, moved out of all of them."""
    found: list[Term] = []
    while t.op in ("let", "build"):
        if t.op == "build":
            found.append(up(t.args[0], -depth))
        depth, t = depth + 1, t.args[1]
    if t.op == "state":
        return found + extents_of(t.args[2], depth)
    return found


class _Printer(Printer):
    def __init__(self, inputs: Sequence[str], sizes: Sequence[str]) -> None:
        super().__init__([*inputs, *sizes])
        self.lane: tuple[str, str, int] | None = None  # the names of index and number, the binder's level
        self.stack: list[Block] = []  # the open blocks, outermost first
        self.guards: list[str] = []  # of lanes, in force
        self.output: list[tuple[Term, int, Term]] = []  # index, its depth, extent

    # --- the frame ---------------------------------------------------------------------------------------

    def kernel(self, t: Term) -> Block:
        root = Block(-1)
        axes: list[Term] = []  # extents; of tiles the count
        tile: Term | None = None
        while tile is None and t.op in ("build", "tiles") and t.data == "core":
            tile = t if t.op == "tiles" else None
            axes.append(t.args[0] if tile is None else t.args[1])
            self.output.append((Var(0), len(axes), t.args[0]))
            t = t.args[-1]
        body, env = self.cores(root, axes)
        self.stack = [body]
        if tile is None:
            self.row(t, env, body)
            return root
        self.output[-1] = (Add(Mul(Var(1), tile.args[2]), Var(0)), len(axes) + 1, tile.args[0])
        rows, row = t.args
        if t.data == "lane":
            lanes, r = self.fresh("lanes"), self.fresh("r")
            body.lines.append(f"{lanes} = {self.index(rows, env)}")
            body = body.open(f"if 0 < {lanes}:", len(axes))
            self.lane, self.stack = (r, lanes, len(axes)), [body]
            self.row(row, (*env, Name(r)), body)
        else:
            with self.loop(body, "r", rows, env) as (r, inner):
                self.row(row, (*env, Name(r)), inner)
        return root

    def cores(self, root: Block, axes: Sequence[Term]) -> tuple[Block, Env]:
        """One prange over all core axes; their indices by // and % from the right."""
        if not axes:
            return root, ()
        w = self.fresh("w" if len(axes) > 1 else "i")
        body = root.open(f"for {w} in prange({self.index(product(axes), ())}):", len(axes) - 1)
        if len(axes) == 1:
            return body, (Name(w),)
        env: Env = ()
        for i, value in self.decoded(w, axes):
            body.head.append(f"{i} = {value}")
            env += (Name(i),)
        return body, env

    def row(self, t: Term, env: Env, body: Block) -> None:
        env, t = self.lets(t, env, body)
        if t.op == "build":
            with self.loop(body, "c", t.args[0], env) as (c, inner):
                self.output.append((Var(0), len(env) + 1, t.args[0]))
                self.row(t.args[1], (*env, Name(c)), inner)
            return
        address = gamma([up(i, len(env) - d) for i, d, _ in self.output], [e for _, _, e in self.output])
        with self.unit(body, [t], env) as (inner, (x,)):
            inner.lines.append(f"out[{self.index(address, env)}] = {x}")

    # --- lets --------------------------------------------------------------------------------------------

    def lets(self, t: Term, env: Env, body: Block) -> tuple[Env, Term]:
        """Print the leading lets of a block; what follows them."""
        while t.op == "let":
            name = self.bind(t.args[0], env, body)
            env, t = (*env, name), t.args[1]
        return env, t

    def bind(self, v: Term, env: Env, body: Block) -> Name:
        """Print the value of a let; what its variable is."""
        if v.op != "fold":
            name = self.allocate("x", extents_of(v, 0), env)
            self.cells(v, env, body, name.text, lambda cell, x: f"{cell} = {x}")
            return name
        if v.data == "softmax":
            return self.softmax(v, env, body)
        letter, start = START[v.data]
        name = self.initial(letter, start, extents_of(v.args[2], 1), env, body)
        self.fold(v, name.text, env, body)
        return name

    def initial(self, letter: str, start: str, extents: Sequence[Term], env: Env, body: Block) -> Name:
        """An accumulator and the loops that begin it."""
        name = self.allocate(letter, extents, env)

        def go(k: int, inner: Block, cell: tuple[str, ...]) -> None:
            if k < len(extents):
                with self.loop(inner, "c", up(extents[k], k), (*env, *map(Name, cell))) as (c, deeper):
                    go(k + 1, deeper, (*cell, c))
                return
            with self.unit(inner, [], env) as (last, _):
                last.lines.append(f"{self.cell(name.text, cell)} = {start}")

        go(0, body, ())
        return name

    def allocate(self, letter: str, extents: Sequence[Term], env: Env) -> Name:
        """A new name; its scratch in the outermost block where the extents are known (none for a plain scalar)."""
        name = self.fresh(letter)
        shape = [self.natural(e, env) for e in extents] + ([self.lane[1]] if self.lane else [])
        if shape:
            levels = [len(env) - 1 - k for e in extents for k in range(e.free) if mentions(e, k)]
            block = next(b for b in self.stack if b.level >= max(levels, default=-1))
            due = shape[0] if len(shape) == 1 else f"({', '.join(shape)})"
            block.head.append(f"{name} = empty({due}, real)")
        return Name(name)

    def natural(self, extent: Term, env: Env) -> str:
        """An extent for ``empty``: an extent below 0, of a tile beyond the end, is one of no cells."""
        text = self.index(extent, env)
        return text if extent.op == "size" else f"max(0, {text})"

    def cells(self, t: Term, env: Env, body: Block, name: str, write: Write, tight: int = 0, cell: Cell = ()) -> None:
        """Loops over the cells of an array, a statement for each; the element binds at least ``tight``ly."""
        env, t = self.lets(t, env, body)
        if t.op == "build":
            with self.loop(body, "c", t.args[0], env) as (c, inner):
                self.cells(t.args[1], (*env, Name(c)), inner, name, write, tight, (*cell, c))
            return
        with self.unit(body, [t], env, tight) as (inner, (x,)):
            inner.lines.append(write(self.cell(name, cell), x))

    # --- folds -------------------------------------------------------------------------------------------

    def fold(self, v: Term, name: str, env: Env, body: Block) -> None:
        n, guard, element = v.args
        write, tight = UPDATE[v.data]
        inmost = element
        while inmost.op == "build":
            inmost = inmost.args[1]
        if self.lane and v.data == "add" and guard.op == "true" and inmost.op != "let" and not self.guards:
            self.four(n, element, name, env, body)
            return
        with self.loop(body, "k", n, env, guard) as (k, inner):
            self.cells(element, (*env, Name(k)), inner, name, write, tight)

    def four(self, n: Term, element: Term, name: str, env: Env, body: Block) -> None:
        """A sum, four elements at a time and then the rest."""
        write, tight = UPDATE["add"]
        k, copies = self.fresh("k"), [self.fresh("k") for _ in range(3)]
        inner = body.open(f"for {k} in range(0, {self.index(n, env)} - 3, 4):", len(env))
        inner.lines += [f"{copy} = {k} + {u}" for u, copy in enumerate(copies, 1)]
        t, at = element, inner
        cell: Cell = ()
        outer: Env = ()
        while t.op == "build":
            c = self.fresh("c")
            at = at.open(f"for {c} in range({self.index(t.args[0], (*env, Name(k), *outer))}):", len(env) + 1)
            t, cell, outer = t.args[1], (*cell, c), (*outer, Name(c))
        views = [(*env, Name(x), *outer) for x in (k, *copies)]
        early = [self.early(at, [t], view) for view in views]
        loop = self.lanes(at)
        parts = [self.real(t, view, tight, known) for view, known in zip(views, early, strict=True)]
        x = self.cell(name, cell)
        loop.lines.append(f"{x} = {x} + {' + '.join(parts)}")
        whole, each = self.index(n, env), self.index(n, env, PRODUCT)
        k = self.fresh("k")
        rest = body.open(f"for {k} in range(max(0, {whole} - {each} % 4), {whole}):", len(env))
        self.cells(element, (*env, Name(k)), rest, name, write, tight)

    def softmax(self, v: Term, env: Env, body: Block) -> Name:
        n, guard, element = v.args
        extents = extents_of(element, 1)
        m = self.initial("m", "LOWEST", (), env, body)
        l = self.initial("l", "ZERO", (), env, body)
        o = self.initial("o", "ZERO", extents, env, body)
        a, c = (self.allocate(letter, (), env) for letter in "ab")
        e, t = self.fresh("e"), self.fresh("t")
        old, weight, before, after = (self.cell(x.text, ()) for x in (m, l, a, c))
        with self.loop(body, "k", n, env, guard) as (k, inner):
            view, state = self.lets(element, (*env, Name(k)), inner)
            with self.unit(inner, list(state.args[:2]), view, 0, PRODUCT) as (unit, (highest, weights)):
                unit.lines += rescaled(old, highest, e, t, before, after)
                unit.lines.append(merged(weight, before, weights, after))
            write: Write = lambda cell, x: merged(cell, before, x, after)  # noqa: E731
            self.cells(state.args[2], view, inner, o.text, write, PRODUCT)
        return Name(o.text, l.text)

    # --- loops, lanes ------------------------------------------------------------------------------------

    @contextmanager
    def loop(
        self, body: Block, letter: str, extent: Term, env: Env, guard: Term | None = None
    ) -> Iterator[tuple[str, Block]]:
        """A loop, and the guard of a fold: an ``if`` around its body, or in each loop over the lanes."""
        name = self.fresh(letter)
        inner = body.open(f"for {name} in range({self.index(extent, env)}):", len(env))
        lanes = 0
        if guard is not None and guard.op != "true":
            text = self.guard(guard, (*env, Name(name)))
            if self.lane and mentions(guard, len(env) - self.lane[2]):
                self.guards.append(text)
                lanes = 1
            else:
                inner = inner.open(f"if {text}:", len(env))
        self.stack.append(inner)
        yield name, inner
        self.stack.pop()
        if lanes:
            self.guards.pop()

    @contextmanager
    def unit(self, body: Block, elements: Sequence[Term], env: Env, *tight: int) -> Iterator[tuple[Block, list[str]]]:
        """Where statements about one cell go, and the texts of the elements there."""
        early = self.early(body, elements, env)
        inner = self.lanes(body)
        binding = (*tight, *[0] * len(elements))
        yield inner, [self.real(x, env, p, early) for x, p in zip(elements, binding, strict=False)]

    def lanes(self, body: Block) -> Block:
        """In lane mode the loop over the lanes, under the guards in force."""
        if self.lane:
            body = body.open(f"for {self.lane[0]} in range({self.lane[1]}):")
            for guard in self.guards:
                body = body.open(f"if {guard}:")
        return body

    def early(self, body: Block, elements: Sequence[Term], env: Env) -> dict[Term, str]:
        """Reads that no lane decides, printed before the loop over the lanes."""
        known: dict[Term, str] = {}
        if self.lane is None or self.guards:
            return known
        lane = len(env) - 1 - self.lane[2]

        def go(t: Term) -> None:
            if t.op == "flat":
                if not mentions(t.args[1], lane) and t not in known:
                    known[t] = self.fresh("y")
                    body.lines.append(f"{known[t]} = {self.real(t, env)}")
            elif t.op == "f":
                for x in t.args:
                    go(x)

        for t in elements:
            go(t)
        return known

    def cell(self, name: str, at: Sequence[str]) -> str:
        inside = [*at, *([self.lane[0]] if self.lane else [])]
        return f"{name}[{', '.join(inside)}]" if inside else name

    def element(self, name: Name, at: Sequence[Term], env: Env) -> str:
        return self.cell(name.text, [self.index(x, env) for x in at])

    def weight(self, state: Name, env: Env) -> str:
        return self.cell(state.weights, ())
