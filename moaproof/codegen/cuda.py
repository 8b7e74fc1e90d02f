"""The ONF as launches of a CUDA grid: one for each array of states that is named first, and the kernel's own.

A launch is a row program.  Grid axes are the blocks.  Under build[thread] inside tiles the rows of a tile are *lifted*
onto registers and threads, r = e*ty + y, and so is the axis of an array whose elements hold folds, c = e*tx + x: every
statement stands in a nest over the lanes in force, and what it computes is a cell of a register array.  Where values
go, the storage plan:

- a scalar of a row is in registers, one a row; so are cells that no fold runs over;
- an array that a fold runs over is in shared memory, the row last; one more row than there are, so that threads next to
  each other write to different banks;
- an array without folds that no register decides is filled by all threads, their x along what is contiguous in memory;
- a barrier stands before a read of what was written since the last one, before a write of what was read, and at the
  end of a loop's body that writes shared memory.

Under build[thread] without tiles (columns, in the merge of states) each thread takes its columns one after the other,
in plain scalars.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ..errors import NotCovered
from ..shapes import gamma
from ..term import ONE, TRUE, Add, Mul, Size, Term, Var, mentions, subterms, up
from .expressions import PRODUCT, START, UPDATE, Block, Env, Name, Printer, merged, rescaled

NAMES = "LOWEST, ONE, ZERO, cuda, exp, fmax, launch, quotient, real, rescale, span, sqrt, view"


@dataclass(frozen=True, slots=True)
class Lane:
    """A lifted axis: its index is e*dim + thread, e below ``count``; ``level`` is the number of its binder."""

    level: int
    count: str
    dim: str
    thread: str


@dataclass(frozen=True, slots=True)
class Value(Name):
    """A name and where it is kept: over ``lanes`` in registers, or shared, with the row as last index if ``rows``."""

    lanes: tuple[Lane, ...] = ()
    shared: bool = False
    rows: bool = False
    register: str = ""  # of a lane's index, the number of its register
    parts: tuple[str, ...] = ()  # of an array of states in global memory: m, l and o
    extents: tuple[Term, ...] = ()
    top: str = ""  # of a state in registers, its m
    columns: str = ""  # and how many columns a thread has


@dataclass(slots=True)
class Launch:
    """One launch of the text."""

    name: str
    grid: str
    block: tuple[str, str]
    makes: tuple[tuple[str, ...], ...]
    outputs: tuple[str, ...]
    body: Block
    views: list[tuple[str, Term, Term]] = field(default_factory=list)
    local: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)


def print_launches(onf: Term, inputs: Sequence[Term], sizes: Sequence[str]) -> Iterator[str]:
    """The lines of all launches.  ``inputs`` and ``sizes`` in the order of the parameters."""
    names = [t.data[0] for t in inputs]
    made: tuple[Value, ...] = ()
    count = 0
    while onf.op == "let":
        stage = _Launch([*names, *sizes], made, count)
        launch = stage.states(onf.args[0])
        yield from _lines(launch, [p for w in made for p in w.parts], names, sizes)
        made, onf, count = (*made, stage.made), onf.args[1], stage.count
    launch = _Launch([*names, *sizes], made, count).kernel(onf)
    yield from _lines(launch, [p for w in made for p in w.parts], names, sizes)


def _lines(launch: Launch, made: Sequence[str], inputs: Sequence[str], sizes: Sequence[str]) -> Iterator[str]:
    text = _Expressions(())
    fixed = {s for _, shape in launch.local for s in shape} | set(launch.block)
    fixed |= {u.data for _, *view in launch.views for e in view for u in subterms(e) if u.op == "size"}
    constants = [s for s in sizes if s in fixed]
    quoted = [f'"{s}"' if s != "1" else "1" for s in launch.block]
    makes = ", ".join(f"({', '.join(map(_quote, row))})" for row in launch.makes)
    yield from ("", "")
    yield (
        f"@launch(grid=({_quote(launch.grid)}, 1, 1), block=({', '.join(quoted)}, 1), "
        f"constants=({_tuple(map(_quote, constants))}), "
        f'index="int64", makes=({_tuple([makes]) if makes else ""}))'
    )
    free = [s for s in sizes if s not in constants]
    yield f"def {launch.name}({', '.join([*launch.outputs, *made, *inputs, *free])}):"
    if launch.views:
        views = {"pool", *(f"p{k}" for k in range(1, len(launch.views) + 1))}
        if taken := sorted(views & {*inputs, *sizes}):
            raise NotCovered(f"printer: {taken[0]} names a part of shared memory; call the tensor or size otherwise")
        yield "    pool = cuda.shared.array(0, real)"
    end = "0"
    for k, (name, rows, width) in enumerate(launch.views, 1):
        cells = f"{text.index(rows, (), PRODUCT)} * {text.index(width, (), PRODUCT + 1)}"
        yield f"    p{k} = {cells if end == '0' else f'{end} + {cells}'}"
        yield f"    {name} = view(pool, {end}, p{k}, ({text.index(rows, ())}, {text.index(width, ())}))"
        end = f"p{k}"
    for name, shape in launch.local:
        cells = shape[0] if len(shape) == 1 else f"({', '.join(shape)})"
        yield f"    {name} = cuda.local.array({cells}, real)"
    yield from launch.body.text(1)


def _quote(s: str) -> str:
    return f'"{s}"'


def _tuple(items: Iterator[str] | Sequence[str]) -> str:
    """The inside of the parentheses of a tuple."""
    parts = list(items)
    return f"{parts[0]}," if len(parts) == 1 else ", ".join(parts)


class _Expressions(Printer):
    """Scalars of a launch."""

    def element(self, name: Name, at: Sequence[Term], env: Env) -> str:
        if not isinstance(name, Value):
            raise NotCovered(f"printer: {name.text} is no value")
        if name.parts:
            raise NotCovered("printer: a state is merged, not read")
        if name.shared:
            row = [self.row(env).text] if name.rows else []
            return f"{name.text}[{', '.join([*(self.index(x, env) for x in at), *row])}]"
        own = [_at(env, lane) for lane in name.lanes]
        for x in at:
            index = env[-1 - x.data] if x.op == "var" else None
            if not isinstance(index, Value) or not index.register:
                raise NotCovered(f"printer: {name.text} is in registers; the index of a lane is due")
            own.append(index)
        return f"{name.text}[{', '.join(i.register for i in own)}]" if own else name.text

    def weight(self, state: Name, env: Env) -> str:
        lanes = state.lanes if isinstance(state, Value) else ()
        own = [_at(env, lane).register for lane in lanes]
        return f"{state.weights}[{', '.join(own)}]" if own else state.weights

    def row(self, env: Env) -> Value:
        found = [v for v in env if isinstance(v, Value) and v.register]
        if not found:
            raise NotCovered("printer: no row is at hand")
        return found[0]


def _at(env: Env, lane: Lane) -> Value:
    index = env[lane.level]
    if not isinstance(index, Value) or not index.register:
        raise NotCovered("printer: a register array outside of its lanes")
    return index


class _Launch(_Expressions):
    def __init__(self, parameters: Sequence[str], made: Sequence[Value], count: int) -> None:
        super().__init__(parameters)
        self.count = count
        self.x, self.y = (axis if axis not in self.parameters else self.fresh(axis) for axis in "xy")
        self.env: Env = tuple(made)
        self.launch = Launch("kernel", "", ("tx", "1"), (), ("out",), Block(-1))
        self.rows: tuple[Lane, ...] = ()
        self.output: list[tuple[Term, int, Term]] = []  # index, its depth, extent
        self.within: Term | None = None  # rows of the tile, at the depth of the row
        self.dirty: set[str] = set()  # shared arrays written since the last barrier
        self.used: set[str] = set()  # and those read
        self.made = Value("")

    # --- the frame ---------------------------------------------------------------------------------------

    def kernel(self, t: Term) -> Launch:
        """The launch that writes the output."""
        t, env = self.frame(t)
        body = self.launch.body
        if t.op == "build" and t.data == "thread":
            c = self.fresh("c")
            inner = body.open(f"for {c} in span({self.x}, {self.index(t.args[0], env)}, tx):")
            self.output.append((Var(0), len(env) + 1, t.args[0]))
            env, t = self.lets(t.args[1], (*env, Value(c)), inner)
            inner.lines.append(f"out[{self.address(env)}] = {self.real(t, env)}")
            return self.launch
        env, t = self.lets(t, env, body)
        if t.op != "build":
            raise NotCovered("printer: a row of columns is due")
        self.output.append((Var(0), len(env) + 1, t.args[0]))
        lane = self.column(self.state_of(t.args[1], len(env) + 1, env).columns, len(env))
        with self.nest(body, (*self.rows, lane), (*env, Value(""))) as (inner, view):
            test = f"if {self.there(view)}{self.index(Var(0), view)} < {self.index(up(t.args[0]), view)}:"
            inner.open(test).lines.append(f"out[{self.address(view)}] = {self.real(t.args[1], view)}")
        return self.launch

    def states(self, t: Term) -> Launch:
        """A launch that leaves the state of each row."""
        t, env = self.frame(t)
        body = self.launch.body
        env, t = self.lets(t, env, body)
        if t.op != "var":
            raise NotCovered("printer: the row of a first launch is a state")
        state = env[-1 - t.data]
        if not isinstance(state, Value) or not state.columns:
            raise NotCovered("printer: the row of a first launch is a state")
        names = tuple(self.fresh(letter) for letter in "mlo")
        extents = [self.extent(e) for _, _, e in self.output]
        width = f"{state.columns}*tx"
        self.launch.name, self.launch.outputs = self.fresh("partial"), names
        self.launch.makes = tuple((p, *extents, *([width] if k == 2 else [])) for k, p in enumerate(names))
        wide = Mul(Size(state.columns), Size("tx"))
        self.made = Value(names[2], parts=names, extents=(*(e for _, _, e in self.output), wide))
        for part, name in zip(names[:2], (state.top, state.weights), strict=True):
            with self.nest(body, self.rows, env) as (inner, view):
                kept = self.weight(replace(state, weights=name), view)
                inner.open(f"if {self.there(view)}{self.x} < 1:").lines.append(f"{part}[{self.address(view)}] = {kept}")
        lane = self.column(state.columns, len(env))
        with self.nest(body, (*self.rows, lane), (*env, Value(""))) as (inner, view):
            test = f"if {self.there(view).removesuffix(' and ')}:"
            at = f"{self.address(view, PRODUCT)} * ({width.replace('*', ' * ')}) + {self.index(Var(0), view)}"
            inner.open(test).lines.append(f"{names[2]}[{at}] = {self.element(state, [Var(0)], view)}")
        return self.launch

    def frame(self, t: Term) -> tuple[Term, Env]:
        """Grid axes, then the rows of the last one's tiles; the row's term and what it stands under."""
        axes: list[Term] = []
        outside = len(self.env)
        tile: Term | None = None
        while tile is None and t.op in ("build", "tiles") and t.data == "grid":
            tile = t if t.op == "tiles" else None
            axes.append(t.args[0] if tile is None else t.args[1])
            self.output.append((Var(0), outside + len(axes), t.args[0]))
            t = t.args[-1]
        body = self.launch.body
        body.lines.append(f"{self.x} = cuda.threadIdx.x")
        if tile is not None:
            body.lines.append(f"{self.y} = cuda.threadIdx.y")
        env = self.blocks(axes)
        if tile is None:
            return t, env
        if not (t.op == "build" and t.data == "thread" and tile.args[2].op == "imul"):
            raise NotCovered("printer: the rows of a tile are given to registers by threads")
        self.launch.block = ("tx", "ty")
        self.output[-1] = (Add(Mul(Var(1), up(tile.args[2])), Var(0)), len(env) + 1, tile.args[0])
        self.within = t.args[0]
        self.rows = (Lane(len(env), self.extent(tile.args[2].args[0]), "ty", self.y),)
        return t.args[1], (*env, Value(""))

    def blocks(self, axes: Sequence[Term]) -> Env:
        """The block's index as those of the grid axes."""
        self.launch.grid = "*".join(map(self.extent, axes))
        lines = self.launch.body.lines
        if len(axes) == 1:
            i = self.fresh("i")
            lines.append(f"{i} = cuda.blockIdx.x")
            return (*self.env, Value(i))
        w, env = self.fresh("w"), self.env
        lines.append(f"{w} = cuda.blockIdx.x")
        for i, value in self.decoded(w, axes):
            lines.append(f"{i} = {value}")
            env = (*env, Value(i))
        return env

    def extent(self, e: Term) -> str:
        """The extent of an axis of the machine: a size, or a product of sizes."""
        if e.op not in ("size", "imul"):
            raise NotCovered("printer: an extent of the grid is a product of sizes")
        return str(e.data) if e.op == "size" else "*".join(map(self.extent, e.args))

    def address(self, env: Env, tight: int = 0) -> str:
        """gamma of the output's indices that are in sight."""
        seen = [(i, d, e) for i, d, e in self.output if d <= len(env)]
        offset = gamma([up(i, len(env) - d) for i, d, _ in seen], [e for _, _, e in seen])
        return self.index(offset, env, tight)

    def there(self, env: Env) -> str:
        """The test that the row is one of the tile's."""
        if self.within is None:
            return ""
        level = self.rows[0].level
        rows = self.index(up(self.within, len(env) - level), env)
        return f"{env[level].text} < {rows} and "

    # --- lanes -------------------------------------------------------------------------------------------

    def column(self, count: str, level: int) -> Lane:
        return Lane(level, count, "tx", self.x)

    @contextmanager
    def nest(self, body: Block, lanes: Sequence[Lane], env: Env, guard: Term = TRUE) -> Iterator[tuple[Block, Env]]:
        """Loops over the lanes, the guard as far outside as it can be, and what is in sight in them."""
        for k, lane in enumerate(lanes):
            if guard is not TRUE and not any(mentions(guard, len(env) - 1 - x.level) for x in lanes[k:]):
                body, guard = body.open(f"if {self.guard(guard, env)}:"), TRUE
            e, i = self.fresh("e"), self.fresh("r" if lane.dim == "ty" else "c")
            body = body.open(f"for {e} in span({lane.count}):")
            body.lines.append(f"{i} = {e} * {lane.dim} + {lane.thread}")
            env = (*env[: lane.level], Value(i, register=e), *env[lane.level + 1 :])
        if guard is not TRUE:
            body = body.open(f"if {self.guard(guard, env)}:")
        yield body, env

    def registers(self, letter: str, lanes: Sequence[Lane]) -> str:
        """A new register array over the lanes; a plain scalar without any."""
        name = self.fresh(letter)
        if lanes:
            self.launch.local.append((name, tuple(lane.count for lane in lanes)))
        return name

    # --- lets --------------------------------------------------------------------------------------------

    def lets(self, t: Term, env: Env, body: Block) -> tuple[Env, Term]:
        while t.op == "let":
            value, t = t.args
            name = self.bind(value, t, self.rows, env, body)
            env = (*env, name)
        return env, t

    def bind(self, v: Term, uses: Term, lanes: tuple[Lane, ...], env: Env, body: Block) -> Value:
        """Print the value of a let whose body is ``uses``; what its variable is."""
        match v.op:
            case "fold" if v.data == "softmax":
                return self.softmax(v, lanes, env, body)
            case "fold":
                return self.fold(v, lanes, env, body)
            case "build" if v.args[1].op == "let" or self.decided(v, env):
                return self.lifted(v, uses, lanes, env, body)
            case "build":
                return self.staged(v, env, body)
        self.before(v, env, body)
        name = self.registers("x", lanes)
        kept = Value(name, lanes=lanes)
        with self.nest(body, lanes, env) as (inner, view):
            inner.lines.append(f"{self.element(kept, (), view)} = {self.real(v, view)}")
        return kept

    def decided(self, v: Term, env: Env) -> bool:
        """Does a register other than the row's index decide the value?"""
        return any(
            isinstance(name, Value) and name.lanes and mentions(v, len(env) - 1 - k) for k, name in enumerate(env)
        )

    def fold(self, v: Term, lanes: tuple[Lane, ...], env: Env, body: Block) -> Value:
        extent, guard, element = v.args
        letter, start = START[v.data]
        kept = Value(self.registers(letter, lanes), lanes=lanes)
        with self.nest(body, lanes, env) as (inner, view):
            inner.lines.append(f"{self.element(kept, (), view)} = {start}")
        self.before(element, (*env, Value("")), body)
        k = self.fresh("k")
        loop = body.open(f"for {k} in span({self.index(extent, env)}):")
        with self.nest(loop, lanes, (*env, Value(k)), guard) as (inner, view):
            write, tight = UPDATE[v.data]
            inner.lines.append(write(self.element(kept, (), view), self.real(element, view, tight)))
        return kept

    def lifted(self, v: Term, uses: Term, lanes: tuple[Lane, ...], env: Env, body: Block) -> Value:
        """An array whose axis is given to registers by threads."""
        extent, element = v.args
        lane = self.column(by_threads(extent), len(env))
        inside = (*lanes, lane)
        env = (*env, Value(""))
        while element.op == "let":
            env = (*env, self.bind(element.args[0], element.args[1], inside, env, body))
            element = element.args[1]
        if folded(uses, 0):
            kept = Value(self.fresh("x"), shared=True, rows=bool(lanes))
            width = Add(Mul(Size(lanes[0].count), Size(lanes[0].dim)), ONE) if lanes else ONE
            self.launch.views.append((kept.text, extent, width))
        else:
            kept = Value(self.registers("x", inside), lanes=lanes)
        self.before(element, env, body, kept)
        with self.nest(body, inside, env) as (inner, view):
            at = up(Var(0), len(env) - 1 - lane.level)
            inner.lines.append(f"{self.element(kept, [at], view)} = {self.real(element, view)}")
        self.after(kept)
        return kept

    def staged(self, v: Term, env: Env, body: Block) -> Value:
        """An array that all threads fill together."""
        axes: list[Term] = []
        t = v
        while t.op == "build":
            axes.append(up(t.args[0], -len(axes)))
            t = t.args[1]
        rows = any(mentions(v, len(env) - 1 - lane.level) for lane in self.rows)
        if len(axes) + rows != 2:
            raise NotCovered("printer: a staged array has two axes, that of the rows included")
        kept = Value(self.fresh("x"), shared=True, rows=rows)
        view = (*env, *(Value(self.fresh("c")) for _ in axes))
        loops = [(name.text, self.index(e, env)) for name, e in zip(view[len(env) :], axes, strict=True)]
        if rows:
            (lane,) = self.rows
            r = self.fresh("r")
            view = (*view[: lane.level], Value(r, register="-"), *view[lane.level + 1 :])
            loops.insert(0, (r, f"{lane.count} * {lane.dim}"))
            width: Term = Mul(Size(lane.count), Size(lane.dim))
        else:
            width = axes[1]
            if contiguous(t) == 1:  # the first axis is
                loops.reverse()
        self.launch.views.append((kept.text, axes[0], Add(width, ONE)))
        self.before(t, view, body, kept)
        for (name, extent), thread, dim in zip(loops, (self.y, self.x), ("ty", "tx"), strict=True):
            body = body.open(f"for {name} in span({thread}, {extent}, {dim}):")
        at = [Var(len(axes) - 1 - k) for k in range(len(axes))]
        body.lines.append(f"{self.element(kept, at, view)} = {self.real(t, view)}")
        self.after(kept)
        return kept

    # --- states ------------------------------------------------------------------------------------------

    def state_of(self, t: Term, depth: int, env: Env) -> Value:
        """The state whose quotient the term takes."""
        for u in subterms(t):
            if u.op == "quotient" and u.args[0].op == "var" and u.args[0].data < depth:
                found = (*env, Value(""))[depth - 1 - u.args[0].data]
                if isinstance(found, Value) and found.columns:
                    return found
        raise NotCovered("printer: the columns of a row are those of a state")

    def softmax(self, v: Term, lanes: tuple[Lane, ...], env: Env, body: Block) -> Value:
        extent, guard, element = v.args
        t = element
        while t.op == "let":
            t = t.args[1]
        wide = t.op == "state" and t.args[2].op == "build"
        count = by_threads(t.args[2].args[0]) if wide else ""
        m, l = (self.registers(letter, lanes) for letter in "ml")
        lane = self.column(count, -1)
        o = self.registers("o", (*lanes, lane) if wide else lanes)
        top, weight = Value(m, lanes=lanes), Value(l, lanes=lanes)
        state = Value(o, weights=l, lanes=lanes, top=m, columns=count)
        for name, start in ((top, "LOWEST"), (weight, "ZERO")):
            with self.nest(body, lanes, env) as (inner, view):
                inner.lines.append(f"{self.element(name, (), view)} = {start}")
        columns = (*lanes, replace(lane, level=len(env))) if wide else lanes
        with self.nest(body, columns, (*env, Value("")) if wide else env) as (inner, view):
            inner.lines.append(f"{self.cell(o, lanes, wide, view)} = ZERO")
        k = self.fresh("k")
        loop = body.open(f"for {k} in span({self.index(extent, env)}):")
        inside: Env = (*env, Value(k))
        if guard.op != "true":
            loop = loop.open(f"if {self.guard(guard, inside)}:")
        inside, t = self.lets(element, inside, loop)
        self.merge(t, (m, l, o), lanes, self.column(count, len(inside)) if wide else None, inside, loop)
        if self.dirty or self.used:
            self.barrier(loop)
        return state

    def merge(
        self, t: Term, names: tuple[str, str, str], lanes: tuple[Lane, ...], lane: Lane | None, env: Env, body: Block
    ) -> None:
        """The state ``t`` merged into m, l and o."""
        m, l, o = names
        before, after = (self.registers(letter, lanes) for letter in "ab")
        a, b = Value(before, lanes=lanes), Value(after, lanes=lanes)
        e, new = self.fresh("e"), self.fresh("t")
        with self.nest(body, lanes, env) as (inner, view):
            highest, weights, value = self.parts(t, view)
            old, sums = self.element(Value(m, lanes=lanes), (), view), self.element(Value(l, lanes=lanes), (), view)
            x, y = self.element(a, (), view), self.element(b, (), view)
            inner.lines += rescaled(old, highest, e, new, x, y)
            inner.lines.append(merged(sums, x, weights, y))
            if lane is None:
                inner.lines.append(merged(o, x, value, y))
                return
        with self.nest(body, (*lanes, lane), (*env, Value(""))) as (inner, view):
            cell = self.cell(o, lanes, True, view)
            x, y = self.element(a, (), view), self.element(b, (), view)
            value = self.real(t.args[2].args[1], view, PRODUCT)
            inner.lines.append(merged(cell, x, value, y))

    def parts(self, t: Term, env: Env) -> tuple[str, str, str]:
        """m, l and o of a state: of its terms, or as an earlier launch left them."""
        if t.op == "state":
            wide = t.args[2].op == "build"
            value = "" if wide else self.real(t.args[2], env, PRODUCT)
            return self.real(t.args[0], env), self.real(t.args[1], env, PRODUCT), value
        array = env[-1 - t.args[0].data] if t.op == "psi" and t.args[0].op == "var" else None
        if not isinstance(array, Value) or len(array.parts) != 3:
            raise NotCovered("printer: a state, or one of an earlier launch, is due")
        at, extents = list(t.args[1:]), list(array.extents)
        row = self.index(gamma(at[:-1], extents[:-1]), env)
        m, l, o = array.parts
        return f"{m}[{row}]", f"{l}[{row}]", f"{o}[{self.index(gamma(at, extents), env)}]"

    def cell(self, o: str, lanes: tuple[Lane, ...], wide: bool, env: Env) -> str:
        """o at the lanes, and the column that is innermost in sight."""
        return self.element(Value(o, lanes=lanes), [Var(0)] if wide else (), env)

    # --- barriers ----------------------------------------------------------------------------------------

    def before(self, t: Term, env: Env, body: Block, target: Value | None = None) -> None:
        """A barrier if the statements that follow read what was written since the last, or write what was read."""
        shared = [(k, n.text) for k, n in enumerate(env) if isinstance(n, Value) and n.shared]
        reads = {name for k, name in shared if mentions(t, len(env) - 1 - k)}
        if reads & self.dirty or (target is not None and target.text in self.used | self.dirty):
            self.barrier(body)
        self.used |= reads

    def after(self, target: Value) -> None:
        if target.shared:
            self.dirty.add(target.text)

    def barrier(self, body: Block) -> None:
        body.lines.append("cuda.syncthreads()")
        self.dirty, self.used = set(), set()


def by_threads(extent: Term) -> str:
    """How many registers a thread has of an axis that is given to registers by threads."""
    if not (extent.op == "imul" and extent.args[0].op == "size" and extent.args[1] is Size("tx")):
        raise NotCovered("printer: the axis of an array of folds, or of a state, is registers by threads")
    return str(extent.args[0].data)


def folded(t: Term, k: int) -> bool:
    """Is the array that is variable ``k`` read at the index of a fold?"""

    def go(u: Term, depth: int, folds: frozenset[int]) -> bool:
        if u.op == "psi" and u.args[0].op == "var" and u.args[0].data == k + depth:
            return any(i.op != "var" or depth - 1 - i.data in folds for i in u.args[1:])
        return any(
            go(a, depth + n, folds | {depth} if u.op == "fold" and n else folds)
            for a, n in zip(u.args, u.binds, strict=True)
        )

    return go(t, 0, frozenset())


def contiguous(t: Term) -> int:
    """The variable at the end of the offset of the first read of an input; 0 if there is none."""
    for u in subterms(t):
        if u.op == "flat" and u.args[1].op == "iadd" and u.args[1].args[1].op == "var":
            return int(u.args[1].args[1].data)
    return 0
