'''The access table of a kernel's text: who touches which cell, when, and under which facts.  Trusted; the second look.

It shares no code with ``reader.py`` and knows nothing of terms of values: it looks at memory alone.  The grammar is
closed; whatever is outside is refused with its line.  Bytes are ASCII without ``#``, backslash, tab or carriage return.

    Module ::= """docstring"""  Import  Launch+       CPU: one launch
    Launch ::= Decorator  def NAME(<written>, <made before>, <inputs>, <sizes that are no constants>): Body
    CPU        from moaproof.instructions.cpu_<dtype> import <all of CPU_NAMES, sorted>
               @njit(parallel=True, error_model="numpy")
    CUDA       from moaproof.instructions.cuda_<dtype> import <all of CUDA_NAMES, sorted>
               @launch(grid=(G, G, G), block=(X, X, X), constants=("size", ..), index="int64" | "int32",
                       makes=((NAME, G, ..), ..))
               G is a literal above 0 or a product of names of sizes, "b*h*bq"; X is a literal or one name.  The axes
               are x, y, z.  ``constants`` are sizes that are no parameters: the loader binds them in the text's module
               before the text is compiled
    The last launch is ``kernel``, writes ``out`` and makes nothing.  Those before it have other names and write the
    arrays that they make (name and extents), which are inputs of all later launches: flat, row-major, global.
    Body   ::= Stmt*
    Stmt   ::= for i in range(Index) | range(Index, Index) | range(Index, Index, Index): Body      CUDA: span(..)
             | for w in prange(e0 * .. * ek): Body        CPU, once, the last statement of the kernel; e a size
             | if G: Body  |  i = Index  |  x = E  |  x[Index, ..] = E
             | x = empty(Shape, real)                     CPU: scratch of the block where it stands
             | x = cuda.local.array(Shape, real)          CUDA: scratch of the thread, of the block where it stands
             | pool = cuda.shared.array(0, real)          CUDA, once, outside of loops and guards: the launcher says how
                                                          long it is; nothing but views is made of it
             | x = view(pool, Index, Index, Shape)        CUDA: two axes over the cells from a start up to a stop, of
                                                          the block of threads; outside of loops and guards
             | cuda.syncthreads()                         CUDA
    Shape  ::= Index | (Index, ..);  of local arrays literals and constants alone; of views + - * of these
    E      ::= x | x[Index, ..] | scalar input | ZERO | ONE | LOWEST | real(int / int) | real(Index) | E + - * / E
             | -E | exp(E) | sqrt(E) | fmax(E, E) | rescale(E, E) | quotient(E, E) | (E if G else E)
    G      ::= True | Index < Index | G and G | not G | input[Index]
    Index  ::= i | size | int | Index + - * // % Index | min(Index, Index) | max(Index, Index)
             | cuda.blockIdx.A | cuda.threadIdx.A | cuda.blockDim.A | cuda.gridDim.A       CUDA; A is x, y or z

Names.  A name has one kind in the whole text (size, input, index, scalar, array), is readable in the block that binds
it alone, and an index or array is bound once where it is visible.  So an index is a *term* over sizes and free
indices ``x.K``, one for each loop, grid axis and thread axis: no flow of values is followed.  A scalar is an array of
rank 0.

``prange(e0 * .. * ek)`` and a grid axis ``"e0*..*ek"``: the free indices are i0 .. ik with 0 <= ik < ek, and w (the
loop's name, or one bound to ``cuda.blockIdx.A``) is gamma(i; e): the same set of iterations, once each.  So
``w // (e1 * .. * ek)``, ``w // (..) % ej`` and ``w % ek`` are read as i0, ij, ik, because gamma's inverse is unique
(``safety.py`` proves that level by level).

Views.  Each begins where the one before it stops, the first at 0, and is as long as the product of its extents, which
owe that they are not negative: so views lie side by side, and the last stop is the number of cells of the pool.

One table a launch: frames (grid, threads, iterations of prange, loops, guards) with the facts that hold inside;
barriers; rows (array, its memory space and home, index, path of frames, epoch, read or write, line).  A row of a flat
global array has one index an axis of its extents where the offset is a Horner form over them, else the offset alone.
'''

from __future__ import annotations

import ast
import keyword
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from ..errors import CertificateInvalid
from ..kernel.free import X, conjuncts
from ..shapes import gamma, product, same_index
from ..term import MAX_INT, ONE, TRUE, ZERO, Add, And, Div, Flat, Int, Le, Lt, Min, Mul, Not, Size, Sub, Term, subterms
from .text import bare, tree_of

SHARED_NAMES: Final = ("LOWEST", "ONE", "ZERO", "exp", "fmax", "quotient", "real", "rescale", "sqrt")
CPU_NAMES: Final = tuple(sorted((*SHARED_NAMES, "empty", "njit", "prange")))
CUDA_NAMES: Final = tuple(sorted((*SHARED_NAMES, "cuda", "launch", "span", "view")))
NAMES: Final = {"cpu": CPU_NAMES, "cuda": CUDA_NAMES}
DTYPES: Final = ("float64", "float32", "float16")
CPU_DECORATOR: Final = '@njit(parallel=True, error_model="numpy")'
MAX_ROWS: Final = 1000
MAX_LAUNCHES: Final = 8
MAX_AXES: Final = 8  # of an array, and factors of an axis
VALUES: Final = {"exp": 1, "sqrt": 1, "fmax": 2, "rescale": 2, "quotient": 2}
CONSTANTS: Final = frozenset({"ZERO", "ONE", "LOWEST"})
RESERVED: Final = frozenset({*CPU_NAMES, *CUDA_NAMES, "kernel", "range", "min", "max"})
AXES: Final = ("x", "y", "z")
POOL: Final = "pool = cuda.shared.array(0, real)"
FIXED: Final = frozenset({"int", "iadd", "imul"})  # beside constants, of an extent of shared memory


@dataclass(frozen=True, eq=False, slots=True)
class Barrier:
    """All threads of a block wait for each other."""

    line: int


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """What encloses statements: ``kind`` is grid, threads, loop or guard.

    ``names`` are for messages alone.  ``indices`` are the free indices that it opens; for a loop the last one counts
    its iterations from the first by ones (so the only one if the step is 1).  ``facts`` hold inside.  ``decides`` are
    the terms that say how often it runs: start, stop and step, or the condition.  ``inside`` are the frames, barriers
    and rows, in order.
    """

    kind: str
    line: int
    indices: tuple[Term, ...] = ()
    extents: tuple[Term, ...] = ()
    facts: tuple[Term, ...] = ()
    decides: tuple[Term, ...] = ()
    names: tuple[str, ...] = ()
    inside: list[Node] = field(default_factory=list, repr=False)


@dataclass(frozen=True, eq=False, slots=True)
class Array:
    """An array: ``space`` is input, output, scratch or shared; ``home`` the frames where it is declared.

    Instances that agree on the indices of ``home`` mean the same memory.  Extents of scratch may be negative in
    ``max(0, e)``; then ``e`` stands here, and no cell exists where it is below 0.
    """

    name: str
    space: str
    extents: tuple[Term, ...]
    home: tuple[Frame, ...] = ()
    line: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """One access.  ``number`` is its order in the text; ``sources`` the arrays that a written value comes from."""

    number: int
    array: Array
    index: tuple[Term, ...]
    flat: bool  # the index is an offset into the ravel, and no Horner form over the extents
    write: bool
    path: tuple[Frame, ...]
    epoch: int  # barriers before it in the text
    line: int
    sources: frozenset[Array] = frozenset()


@dataclass(frozen=True, eq=False, slots=True)
class Owed:
    """A side condition of a term of the text: ``goal`` holds inside ``path``."""

    what: str
    goal: Term
    path: tuple[Frame, ...]
    line: int


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """An integer that the text computes, for its width."""

    term: Term
    path: tuple[Frame, ...]
    line: int


Node = Frame | Barrier | Row


@dataclass(frozen=True, slots=True)
class Table:
    """What a launch does to memory.

    ``target`` is cpu or cuda; ``width`` the bits of an index, 64 or 32.  ``parameters`` are names in order; ``grid``
    and ``block`` the extents of x, y and z, empty for cpu.  ``outputs`` are the arrays that it writes: ``out``, or
    those that it makes for later launches.  ``pool`` is the number of cells of its shared memory.
    """

    target: str
    dtype: str
    width: int
    name: str
    parameters: tuple[str, ...]
    constants: tuple[str, ...]
    grid: tuple[Term, ...]
    block: tuple[Term, ...]
    outputs: tuple[Array, ...]
    pool: Term
    body: Frame
    rows: tuple[Row, ...]
    owed: tuple[Owed, ...]
    values: tuple[Value, ...]
    frames: tuple[Frame, ...]
    indices: int


@dataclass(frozen=True, slots=True)
class Name:
    """What a name means here: a size or index is ``term``, an array or scalar is ``array``."""

    kind: str
    term: Term = ZERO
    array: Array | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that are readable here, and the frames around."""

    path: tuple[Frame, ...]
    names: dict[str, Name]

    def enter(self, frame: Frame) -> Scope:
        return Scope((*self.path, frame), dict(self.names))


def read_table(
    data: bytes, inputs: Sequence[Term], sizes: Sequence[str], out_shape: Sequence[Term]
) -> tuple[Table, ...]:
    """The access tables of a text, one a launch; the last is that of ``kernel``.

    ``inputs`` are the In nodes and ``sizes`` the names of the sizes, in order.  Raises ``CertificateInvalid`` with the
    line for text outside the grammar.
    """
    try:
        return _module(tree_of(data), inputs, tuple(sizes), Array("out", "output", tuple(out_shape)))
    except (RecursionError, ValueError):
        raise CertificateInvalid("kernel: expressions nest too deeply") from None


def _module(module: ast.Module, inputs: Sequence[Term], sizes: tuple[str, ...], out: Array) -> tuple[Table, ...]:
    need(len(module.body) >= 3, module, "a docstring, one import and a function are due")
    doc, imports, *functions = module.body
    stated = isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)
    need(stated, doc, "a docstring is due")
    target, dtype = _imports(imports)
    most = MAX_LAUNCHES if target == "cuda" else 1
    need(len(functions) <= most, functions[-1], f"at most {most} functions are due")
    tables: list[Table] = []
    made: list[Array] = []
    for f in functions:
        if not isinstance(f, ast.FunctionDef):
            refuse(f, "a function is due")
        last = f is functions[-1]
        need((f.name == "kernel") == last, f, "the last function, and no other, is kernel")
        tables.append(_Launch(target, dtype, inputs, sizes, tuple(made)).table(f, out if last else None))
        made += tables[-1].outputs
    names = [*(t.name for t in tables), *sizes, *(t.data[0] for t in inputs), "out", *(a.name for a in made[:-1])]
    need(len(set(names)) == len(names), module, "names: two of launches, sizes, inputs and made arrays have one name")
    return tuple(tables)


def _imports(node: ast.stmt) -> tuple[str, str]:
    """The target and the dtype that the import names."""
    known = ((target, dtype) for target in NAMES for dtype in DTYPES)
    found = next((k for k in known if ast.dump(node) == ast.dump(ast.parse(import_line(*k)).body[0])), None)
    if found is None:
        refuse(node, "this import is not one of the known lines")
    return found


def import_line(target: str, dtype: str) -> str:
    """The one import of a text."""
    return f"from moaproof.instructions.{target}_{dtype} import {', '.join(NAMES[target])}"


def refuse(node: ast.AST, why: str) -> NoReturn:
    raise CertificateInvalid(f"kernel, line {getattr(node, 'lineno', 1)}: {why}")


def need(condition: bool, node: ast.AST, why: str) -> None:
    if not condition:
        refuse(node, why)


def layers(offset: Term, extents: Sequence[Term]) -> tuple[Term, ...] | None:
    """The full index of a Horner form over the extents, or nothing.

    ((i0*s1 + i1)*s2 + i2).. gives (i0, i1, i2 ..): only the factors are compared, so the offset *is* gamma of it.
    """
    if not extents:
        return () if offset is ZERO else None
    index: list[Term] = []
    for s in reversed(extents[1:]):
        if not (offset.op == "iadd" and offset.args[0].op == "imul" and same_index(offset.args[0].args[1], s)):
            return None
        index.append(offset.args[1])
        offset = offset.args[0].args[0]
    return (offset, *reversed(index))


def _called(node: ast.AST, *counts: int) -> str:
    """The plain name that is called with so many plain arguments, or nothing."""
    good = isinstance(node, ast.Call) and not node.keywords and len(node.args) in counts
    return node.func.id if good and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _args(node: ast.AST) -> list[ast.expr]:
    return node.args if isinstance(node, ast.Call) else []


def _dotted(node: ast.AST) -> str:
    """``a.b.c`` of nested attributes of a name, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def _integer(node: ast.AST) -> int | None:
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None


def _string(node: ast.AST) -> str:
    """The string that a node is, or the empty one."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _view(node: ast.expr) -> tuple[ast.expr, ast.expr, ast.Tuple] | None:
    """The start, the stop and the shape of view(pool, start, stop, (rows, columns)), or nothing."""
    if _called(node, 4) != "view":
        return None
    match _args(node):
        case [ast.Name(id="pool"), start, stop, ast.Tuple(elts=[_, _]) as shape]:
            return start, stop, shape
    return None


def _numbered(name: str, count: int) -> list[str]:
    """Names, for messages, of the indices of an axis."""
    return [name] if count == 1 else [f"{name}.{k}" for k in range(count)]


class _Launch:
    """One launch of a text; ``made`` are the arrays that earlier ones wrote."""

    def __init__(
        self, target: str, dtype: str, inputs: Sequence[Term], sizes: tuple[str, ...], made: tuple[Array, ...]
    ) -> None:
        self.cuda, self.dtype = target == "cuda", dtype
        self.inputs, self.sizes = inputs, sizes
        self.made = tuple(Array(a.name, "input", a.extents) for a in made)
        self.width = 64
        self.constants: tuple[str, ...] = ()
        self.grid: list[tuple[Term, ...]] = []  # the factors of each axis
        self.block: list[tuple[Term, ...]] = []
        self.pool: Term | None = None  # the cells of the views so far
        self.place: dict[str, Term] = {}  # cuda.threadIdx.x and so on
        self.kinds: dict[str, str] = {}  # the one kind of each name
        self.rows: list[Row] = []
        self.owed: list[Owed] = []
        self.values: list[Value] = []
        self.frames: list[Frame] = []
        self.indices = 0
        self.barriers = 0
        self.decoding: dict[Term, list[tuple[Term, Term]]] = {}  # w -> terms of w and the index that each is

    # --- the head of the launch -------------------------------------------------------------------------

    def table(self, f: ast.FunctionDef, out: Array | None) -> Table:
        """The table of the launch, which writes ``out``, or what it makes."""
        makes = self.decorator(f)
        need((out is None) == bool(makes), f, "a launch makes arrays, or it is kernel and makes none")
        outputs = makes if out is None else (out,)
        parameters, names = self.signature(f, outputs)
        body = Frame("body", f.lineno)
        scope = Scope((), names)
        if self.cuda:
            scope = self.launched(body, scope)
        self.body(f.body, scope, scope.path[-1] if scope.path else body, top=True)
        return Table(
            "cuda" if self.cuda else "cpu", self.dtype, self.width, f.name, parameters, self.constants,
            tuple(map(product, self.grid)), tuple(map(product, self.block)), outputs, self.pool or ZERO, body,
            tuple(self.rows), tuple(self.owed), tuple(self.values), tuple(self.frames), self.indices,
        )  # fmt: skip

    def decorator(self, f: ast.FunctionDef) -> tuple[Array, ...]:
        """The arrays that the launch makes; its grid, block and constants are kept."""
        if not self.cuda:
            expected = ast.parse(CPU_DECORATOR[1:], mode="eval").body
            need([ast.dump(d) for d in f.decorator_list] == [ast.dump(expected)], f, "the decorator is not the one due")
            return ()
        need(len(f.decorator_list) == 1, f, "one decorator, launch(..), is due")
        call = f.decorator_list[0]
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "launch"):
            refuse(f, "one decorator, launch(..), is due")
        given = {k.arg: k.value for k in call.keywords}
        order = [k.arg for k in call.keywords]
        due = ["grid", "block", "constants", "index", "makes"]
        need(not call.args and order == due, call, "launch(grid=, block=, constants=, index=, makes=) is due")
        found = [_string(e) for e in self.tuple_of(given["constants"])]
        need(len(found) == len(set(found)), call, "constants: a name is given twice")
        need(set(found) <= set(self.sizes), call, "constants: a tuple of names of sizes is due")
        self.constants = tuple(found)
        width = {"int64": 64, "int32": 32}.get(_string(given["index"]))
        need(width is not None, call, 'index is "int64" or "int32"')
        self.width = width or 64
        self.grid = [self.factors_of(e) for e in self.tuple_of(given["grid"])]
        self.block = [self.factors_of(e) for e in self.tuple_of(given["block"])]
        need(len(self.grid) == len(self.block) == 3, call, "three extents, of x, y and z, are due")
        need(all(len(e) <= 1 for e in self.block), call, "an axis of the block is one size or a literal")
        return tuple(self.make(e) for e in self.tuple_of(given["makes"]))

    def tuple_of(self, node: ast.expr) -> list[ast.expr]:
        if not isinstance(node, ast.Tuple):
            refuse(node, "a tuple is due")
        return node.elts

    def factors_of(self, node: ast.expr) -> tuple[Term, ...]:
        """The factors of an extent, none of the literal 1."""
        value = _integer(node)
        if value is not None:
            need(0 < value <= MAX_INT, node, "a literal extent is above 0")
            return (Int(value),) if value > 1 else ()
        names = _string(node).split("*")
        known = set(names) <= set(self.sizes) and len(names) <= MAX_AXES
        need(known, node, "an extent is a literal above 0 or a product of names of sizes")
        return tuple(map(Size, names))

    def make(self, node: ast.expr) -> Array:
        """An array that the launch makes: its name and extents."""
        parts = self.tuple_of(node)
        need(2 <= len(parts) <= 1 + MAX_AXES, node, f"a made array is a name and 1 to {MAX_AXES} extents")
        name = _string(parts[0])
        need(name.isidentifier() and not keyword.iskeyword(name), node, f"{name:.40} is no name of an array")
        return Array(name, "output", tuple(product(self.factors_of(e)) for e in parts[1:]))

    def signature(self, f: ast.FunctionDef, outputs: tuple[Array, ...]) -> tuple[tuple[str, ...], dict[str, Name]]:
        """The parameters, in order, and what the names mean at the start of the function."""
        arrays = [*outputs, *self.made]
        kept = [s for s in self.sizes if s not in self.constants]
        parameters = [*(a.name for a in arrays), *(t.data[0] for t in self.inputs), *kept]
        every = [*parameters, *self.constants]
        clean = len(set(every)) == len(every) and not RESERVED & set(every)
        need(clean, f, "names: a parameter is used twice or hides a known name")
        plain = not f.name.startswith("_") and f.name not in RESERVED - {"kernel"}
        need(plain, f, f"names: a launch is not called {f.name:.40}")
        due = ast.parse(f"def {f.name}({', '.join(parameters)}):\n    pass").body[0]
        need(ast.dump(bare(f)) == ast.dump(due), f, "the function's name or parameters differ from those due")
        names = {a.name: Name("array", array=a) for a in arrays}
        for t in self.inputs:
            array = Array(t.data[0], "input", t.args)
            kind = "mask" if t.data[1] == "bool" else "array" if t.args else "input"
            names[t.data[0]] = Name(kind, array=array)
        names |= {s: Name("size", Size(s)) for s in self.sizes}
        self.kinds = {name: entry.kind for name, entry in names.items()}
        return tuple(parameters), names

    def launched(self, body: Frame, scope: Scope) -> Scope:
        """The frames of the grid and of the threads of a block."""
        inside = body
        for kind, axes, here, dim in (
            ("grid", self.grid, "blockIdx", "gridDim"),
            ("threads", self.block, "threadIdx", "blockDim"),
        ):
            live: list[tuple[Term, Term]] = []
            names: list[str] = []
            for axis, extents in zip(AXES, axes, strict=True):
                indices, w = self.lifted(extents)
                self.place[f"cuda.{here}.{axis}"] = w
                self.place[f"cuda.{dim}.{axis}"] = product(extents)
                live += zip(indices, extents, strict=True)
                names += _numbered(f"{here}.{axis}", len(extents))
            frame = self.frame(kind, body, live, names)
            inside.inside.append(frame)
            scope, inside = scope.enter(frame), frame
        return scope

    def lifted(self, extents: Sequence[Term]) -> tuple[list[Term], Term]:
        """An axis of a product of extents: a free index for each, and w, gamma of them, from which a text decodes."""
        indices = [self.fresh() for _ in extents]
        w = gamma(indices, extents)
        if len(extents) > 1:
            self.decoding[w] = [self._decode(w, k, extents, indices) for k in range(len(extents))]
        return indices, w

    @staticmethod
    def _decode(w: Term, k: int, extents: Sequence[Term], indices: Sequence[Term]) -> tuple[Term, Term]:
        """w // (e_{k+1} * ..) % e_k, without what is 1 or needs no remainder; and the index that it is."""
        rest = extents[k + 1 :]
        t = Div(w, product(rest)) if rest else w
        return (t if k == 0 else Sub(t, Mul(extents[k], Div(t, extents[k])))), indices[k]

    def frame(self, kind: str, node: ast.AST | Frame, live: Sequence[tuple[Term, Term]], names: Sequence[str]) -> Frame:
        """A frame of parallel indices with their extents."""
        facts = tuple(f for i, e in live for f in (Lt(Int(-1), i), Lt(i, e)))
        line = node.line if isinstance(node, Frame) else getattr(node, "lineno", 1)
        made = Frame(kind, line, tuple(i for i, _ in live), tuple(e for _, e in live), facts, names=tuple(names))
        self.frames.append(made)
        return made

    def fresh(self) -> Term:
        self.indices += 1
        return X(self.indices - 1)

    # --- names ------------------------------------------------------------------------------------------

    def bind(self, node: ast.AST, target: str, name: Name, scope: Scope) -> None:
        """A new name; the block that binds it alone may read it."""
        need(target not in RESERVED, node, f"name {target} is taken")
        kind = self.kinds.setdefault(target, name.kind)
        need(kind == name.kind, node, f"name {target} is the {kind} of another line, not also the {name.kind} of this")
        need(target not in scope.names, node, f"name {target} is bound already")
        scope.names[target] = name

    def look(self, node: ast.Name, scope: Scope) -> Name:
        found = scope.names.get(node.id)
        if found is None:
            refuse(node, f"name {node.id} is not bound here")
        return found

    # --- statements -------------------------------------------------------------------------------------

    def body(self, statements: list[ast.stmt], scope: Scope, frame: Frame, top: bool = False) -> None:
        for k, s in enumerate(statements):
            match s:
                case ast.For():
                    if _called(s.iter, 1) == "prange":
                        last = top and not self.cuda and k == len(statements) - 1
                        need(last, s, "prange is the last statement of a CPU kernel")
                        self.prange(s, scope, frame)
                    else:
                        self.loop(s, scope, frame)
                case ast.If(test=test, body=inside, orelse=[]):
                    condition = self.guard(test, scope, frame)
                    made = Frame("guard", s.lineno, facts=tuple(conjuncts(condition)), decides=(condition,))
                    self.open(made, frame)
                    self.body(inside, scope.enter(made), made)
                case ast.Expr(value=ast.Call() as call) if _dotted(call.func) == "cuda.syncthreads":
                    need(self.cuda and not call.args and not call.keywords, s, "cuda.syncthreads() has no arguments")
                    self.barriers += 1
                    frame.inside.append(Barrier(s.lineno))
                case ast.Assign(targets=[target]):
                    self.assign(s, target, scope, frame, top)
                case _:
                    refuse(s, "this statement is outside the grammar")

    def open(self, made: Frame, frame: Frame) -> None:
        self.frames.append(made)
        frame.inside.append(made)

    def target(self, s: ast.For) -> str:
        if not isinstance(s.target, ast.Name) or s.orelse:
            refuse(s, "a loop has one name and no else")
        return s.target.id

    def loop(self, s: ast.For, scope: Scope, frame: Frame) -> None:
        loop = "span" if self.cuda else "range"
        need(_called(s.iter, 1, 2, 3) == loop, s, f"a loop is over {loop}(..)")
        name = self.target(s)
        bounds = [self.index(a, scope) for a in _args(s.iter)]
        start, stop = (ZERO, bounds[0]) if len(bounds) == 1 else (bounds[0], bounds[1])
        step = bounds[2] if len(bounds) == 3 else ONE
        self.values.append(Value(Sub(stop, start), scope.path, s.lineno))  # how far it goes
        i = self.fresh()
        facts = [Le(start, i), Lt(i, stop)] if start is not ZERO else [Lt(Int(-1), i), Lt(i, stop)]
        indices = [i]
        if step is not ONE:
            count = self.fresh()  # i = start + step * count; step > 0 is owed, and start <= i follows
            self.owe(s, "step: a loop's step is positive", Lt(ZERO, step), scope)
            walked = Add(start, Mul(step, count))
            facts += [Lt(Int(-1), count), Le(walked, i), Le(i, walked)]
            indices.append(count)
        extents = (stop,) if start is ZERO and step is ONE else ()
        made = Frame(
            "loop", s.lineno, tuple(indices), extents, tuple(facts), (start, stop, step), (name, f"{name}.count")
        )
        self.open(made, frame)
        inside = scope.enter(made)
        self.values.append(Value(Add(i, step), inside.path, s.lineno))  # where the last iteration ends
        self.bind(s, name, Name("index", i), inside)
        self.body(s.body, inside, made)

    def prange(self, s: ast.For, scope: Scope, frame: Frame) -> None:
        factors = self.factors(_args(s.iter)[0])
        extents = [self.index(e, scope) for e in factors]
        good = all(e.op == "size" for e in extents) and len(extents) <= MAX_AXES
        need(good, s, "prange is over a product of sizes")
        indices, w = self.lifted(extents)
        names = _numbered(self.target(s), len(extents))
        made = self.frame("threads", s, list(zip(indices, extents, strict=True)), names)
        frame.inside.append(made)
        inside = scope.enter(made)
        self.bind(s, self.target(s), Name("index", w), inside)
        self.body(s.body, inside, made)

    def factors(self, node: ast.expr) -> list[ast.expr]:
        """The factors of a product, from the left."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return [*self.factors(node.left), node.right]
        return [node]

    def assign(self, s: ast.Assign, target: ast.expr, scope: Scope, frame: Frame, top: bool) -> None:
        kind = _dotted(s.value.func) if isinstance(s.value, ast.Call) else ""
        if kind in ("empty", "cuda.local.array"):
            return self.allocate(s, target, kind, scope)
        if kind == "cuda.shared.array":
            return self.share(s, target, scope, top)
        view = _view(s.value)
        if view is not None:
            return self.view(s, target, *view, scope, top)
        if isinstance(target, ast.Name) and self.indexical(s.value, scope):
            return self.bind(s, target.id, Name("index", self.index(s.value, scope)), scope)
        sources = self.value(s.value, scope, frame)
        if isinstance(target, ast.Subscript):
            array = self.named(target.value, scope, "array")
            need(array.space != "input", s, f"{array.name} is an input: it is not written")
            return self.row(target, array, self.subscript(target, scope), True, scope, frame, sources)
        if not isinstance(target, ast.Name):
            refuse(s, "a name or a cell is assigned to")
        if target.id not in scope.names:
            array = Array(target.id, "scratch", (), scope.path, s.lineno)
            self.bind(s, target.id, Name("scalar", array=array), scope)
        return self.row(target, self.named(target, scope, "scalar"), (), True, scope, frame, sources)

    def allocate(self, s: ast.Assign, target: ast.expr, kind: str, scope: Scope) -> None:
        """Scratch of the block where it stands."""
        call = s.value
        good = isinstance(call, ast.Call) and len(call.args) == 2 and not call.keywords
        good = good and _dotted(_args(call)[1]) == "real"
        need(good, s, "an allocation is x = empty(shape, real) or x = cuda.local.array(shape, real)")
        need(self.cuda == (kind != "empty"), s, f"{kind} is of the other target")
        self.array(s, target, "scratch", _args(call)[0], scope)

    def share(self, s: ast.Assign, target: ast.expr, scope: Scope, top: bool) -> None:
        """The pool of shared memory.  There is one: all dynamic shared memory of a launch is the same."""
        need(ast.unparse(s) == POOL, s, f"shared memory is {POOL}")
        need(self.cuda and top and self.pool is None, s, "the pool is declared once, outside of loops and guards")
        self.pool = ZERO
        self.bind(s, "pool", Name("pool"), scope)

    def view(
        self, s: ast.Assign, target: ast.expr, low: ast.expr, high: ast.expr, shape: ast.Tuple, scope: Scope, top: bool
    ) -> None:
        """The next view of the pool."""
        need(top and self.pool is not None, s, "a view of the pool is made outside of loops and guards")
        start, stop = self.index(low, scope), self.index(high, scope)
        need(same_index(start, self.pool or ZERO), s, "a view begins where the one before it stops, the first at 0")
        extents = self.array(s, target, "shared", shape, scope)
        need(same_index(Sub(stop, start), product(extents)), s, "a view is as long as the product of its extents")
        self.pool = stop

    def array(self, s: ast.Assign, target: ast.expr, space: str, shape: ast.expr, scope: Scope) -> tuple[Term, ...]:
        """A new array; its extents."""
        if not isinstance(target, ast.Name):
            refuse(s, "an array has a name")
        parts = shape.elts if isinstance(shape, ast.Tuple) else [shape]
        need(0 < len(parts) <= MAX_AXES, s, f"an array has 1 to {MAX_AXES} axes")
        extents = tuple(self.extent(p, space, scope) for p in parts)
        home = scope.path[:-1] if space == "shared" else scope.path  # at the top: the grid, without the threads
        array = Array(target.id, space, extents, home, s.lineno)
        self.bind(s, target.id, Name("array", array=array), scope)
        return extents

    def extent(self, node: ast.expr, space: str, scope: Scope) -> Term:
        """The extent of an axis; of ``max(0, e)`` it is ``e``, and no cell exists where that is negative."""
        if not self.cuda and _called(node, 2) == "max" and _integer(_args(node)[0]) == 0:
            return self.index(_args(node)[1], scope)
        if self.cuda and space == "scratch":
            fixed = _integer(node) is not None or (isinstance(node, ast.Name) and node.id in self.constants)
            need(fixed, node, "an extent of local memory is a literal or a constant of the launch")
        found = self.index(node, scope)
        if space == "shared":
            fixed = all(u.op in FIXED or (u.op == "size" and u.data in self.constants) for u in subterms(found))
            need(fixed, node, "an extent of shared memory is + - * of literals and constants of the launch")
        if found.op != "size":
            self.owe(node, "bounds: an extent is not negative", Lt(Int(-1), found), scope)
        return found

    # --- expressions ------------------------------------------------------------------------------------

    def named(self, node: ast.expr, scope: Scope, kind: str) -> Array:
        if not isinstance(node, ast.Name):
            refuse(node, "a name is due")
        found = self.look(node, scope)
        if found.kind != kind or found.array is None:
            refuse(node, f"name {node.id} is the {found.kind} of another line; {kind} is due here")
        return found.array

    def subscript(self, node: ast.Subscript, scope: Scope) -> list[Term]:
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return [self.index(p, scope) for p in parts]

    def row(
        self,
        node: ast.AST,
        array: Array,
        index: Sequence[Term],
        write: bool,
        scope: Scope,
        frame: Frame,
        sources: frozenset[Array] = frozenset(),
    ) -> None:
        """One more row of the table."""
        flat = False
        if array.space in ("input", "output"):
            need(len(index) == 1, node, f"{array.name} is flat: it has one offset")
            full = layers(index[0], array.extents)
            flat, index = full is None, tuple(index) if full is None else full
        else:
            need(len(index) == len(array.extents), node, f"{array.name} has {len(array.extents)} axes")
        need(len(self.rows) < MAX_ROWS, node, f"more than {MAX_ROWS} accesses")
        line = getattr(node, "lineno", 1)
        made = Row(len(self.rows), array, tuple(index), flat, write, scope.path, self.barriers, line, sources)
        self.rows.append(made)
        frame.inside.append(made)

    def read(self, node: ast.AST, array: Array, index: Sequence[Term], scope: Scope, frame: Frame) -> frozenset[Array]:
        need(array.space != "output", node, f"{array.name} is an output: it is not read")
        self.row(node, array, index, False, scope, frame)
        return frozenset((array,))

    def value(self, node: ast.expr, scope: Scope, frame: Frame) -> frozenset[Array]:
        """Enter the reads of a real expression, in order; the arrays that its value comes from."""
        match node:
            case ast.Name(id=name) if name in CONSTANTS:
                return frozenset()
            case ast.Name():
                found = self.look(node, scope)
                if found.kind == "input":
                    return frozenset()
                return self.read(node, self.named(node, scope, "scalar"), (), scope, frame)
            case ast.Subscript(value=base):
                return self.read(node, self.named(base, scope, "array"), self.subscript(node, scope), scope, frame)
            case ast.BinOp(left=a, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=b):
                return self.value(a, scope, frame) | self.value(b, scope, frame)
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return self.value(a, scope, frame)
            case ast.IfExp(test=test, body=yes, orelse=no):
                condition = self.guard(test, scope, frame)
                branches: list[frozenset[Array]] = []
                for part, facts, c in ((yes, conjuncts(condition), condition), (no, [Not(condition)], Not(condition))):
                    made = Frame("guard", node.lineno, facts=tuple(facts), decides=(c,))
                    self.open(made, frame)
                    branches.append(self.value(part, scope.enter(made), made))
                return branches[0] & branches[1]  # what it comes from, whichever branch is taken
            case ast.Call() if _called(node, 1) == "real":
                return self.literal(_args(node)[0], scope)
            case ast.Call() if VALUES.get(_called(node, 1, 2)) == len(node.args):
                return frozenset[Array]().union(*[self.value(a, scope, frame) for a in node.args])
        refuse(node, "this expression is outside the grammar")

    def literal(self, node: ast.expr, scope: Scope) -> frozenset[Array]:
        """real(int / int), real(-int / int) or real(Index): no memory is touched."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            left = node.left
            if isinstance(left, ast.UnaryOp) and isinstance(left.op, ast.USub):
                left = left.operand
            need(_integer(left) is not None and bool(_integer(node.right)), node, "real(int / int) is due")
        else:
            self.index(node, scope)
        return frozenset()

    def guard(self, node: ast.expr, scope: Scope, frame: Frame) -> Term:
        """The truth value; reads of masks are entered, those of a right side under the left."""
        match node:
            case ast.Constant(value=True):
                return TRUE
            case ast.Compare(left=a, ops=[ast.Lt()], comparators=[b]):
                return Lt(self.index(a, scope), self.index(b, scope))
            case ast.UnaryOp(op=ast.Not(), operand=a):
                return Not(self.guard(a, scope, frame))
            case ast.BoolOp(op=ast.And(), values=parts):
                total = self.guard(parts[0], scope, frame)
                for part in parts[1:]:
                    made = Frame("guard", node.lineno, facts=tuple(conjuncts(total)), decides=(total,))
                    self.open(made, frame)
                    total = And(total, self.guard(part, scope.enter(made), made))
                return total
            case ast.Subscript(value=base):
                array = self.named(base, scope, "mask")
                offset = self.subscript(node, scope)
                self.read(node, array, offset, scope, frame)
                return Flat(next(t for t in self.inputs if t.data[0] == array.name), offset[0])
        refuse(node, "this guard is outside the grammar")

    def indexical(self, node: ast.expr, scope: Scope) -> bool:
        """Is it of the form of an index?"""
        match node:
            case ast.Name(id=name):
                return name in scope.names and scope.names[name].kind in ("index", "size")
            case ast.BinOp(left=a, op=ast.Add() | ast.Sub() | ast.Mult() | ast.FloorDiv() | ast.Mod(), right=b):
                return self.indexical(a, scope) and self.indexical(b, scope)
            case ast.Call() if _called(node, 2) in ("min", "max"):
                return all(self.indexical(a, scope) for a in node.args)
        return _integer(node) is not None or _dotted(node) in self.place

    def index(self, node: ast.expr, scope: Scope) -> Term:
        """The term of an index expression, after its decoding if it is one of a lifted axis."""
        t = self._index(node, scope)
        self.values.append(Value(t, scope.path, node.lineno))
        return t

    def _index(self, node: ast.expr, scope: Scope) -> Term:
        match node:
            case ast.Name():
                found = self.look(node, scope)
                need(found.kind in ("index", "size"), node, f"name {node.id} is no index but {found.kind}")
                return found.term
            case ast.Constant(value=c) if type(c) is int and 0 <= c <= MAX_INT:
                return Int(c)
            case ast.Attribute() if _dotted(node) in self.place:
                return self.place[_dotted(node)]
            case ast.BinOp(left=left, op=op, right=right):
                decoded = self.decoded(node, scope)
                if decoded is not None:
                    return decoded
                return self.arithmetic(node, op, self.index(left, scope), self.index(right, scope), scope)
            case ast.Call() if _called(node, 2) in ("min", "max"):
                a, b = (self.index(x, scope) for x in node.args)
                return Min(a, b) if _called(node, 2) == "min" else Sub(Add(a, b), Min(a, b))
        refuse(node, "this index is outside the grammar")

    def arithmetic(self, node: ast.AST, op: ast.operator, a: Term, b: Term, scope: Scope) -> Term:
        match op:
            case ast.Add():
                return Add(a, b)
            case ast.Sub():
                return Sub(a, b)
            case ast.Mult():
                return Mul(a, b)
            case ast.FloorDiv() | ast.Mod():
                if not (b.op == "int" and b.data > 0):
                    self.owe(node, "divisor: a divisor of an index is positive", Lt(ZERO, b), scope)
                return Div(a, b) if isinstance(op, ast.FloorDiv) else Sub(a, Mul(b, Div(a, b)))
        refuse(node, "this operator is outside the grammar of an index")

    def decoded(self, node: ast.BinOp, scope: Scope) -> Term | None:
        """The index of a lifted axis that the expression decodes from w, or nothing.

        Inside every extent of the axis is positive, so no divisor is owed.
        """
        base: ast.expr = node
        while isinstance(base, ast.BinOp) and isinstance(base.op, ast.FloorDiv | ast.Mod):
            base = base.left
        if base is node or not (isinstance(base, ast.Name) and base.id in scope.names):
            return None
        w = scope.names[base.id].term
        if w not in self.decoding:
            return None
        t = self._plain(node, scope)
        found = [i for pattern, i in self.decoding[w] if t is not None and same_index(t, pattern)]
        return found[0] if found else None

    def _plain(self, node: ast.expr, scope: Scope) -> Term | None:
        """The term of w // a % b as it stands, of names and products of names; or nothing."""
        match node:
            case ast.Name(id=name) if name in scope.names and scope.names[name].kind in ("index", "size"):
                return scope.names[name].term
            case ast.BinOp(left=left, op=ast.FloorDiv() | ast.Mod() | ast.Mult() as op, right=right):
                a, b = self._plain(left, scope), self._plain(right, scope)
                if a is None or b is None:
                    return None
                match op:
                    case ast.Mult():
                        return Mul(a, b)
                    case ast.FloorDiv():
                        return Div(a, b)
                return Sub(a, Mul(b, Div(a, b)))
        return None

    def owe(self, node: ast.AST, what: str, goal: Term, scope: Scope) -> None:
        self.owed.append(Owed(what, goal, scope.path, getattr(node, "lineno", 1)))
