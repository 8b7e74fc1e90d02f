"""The text of a kernel as Python that runs on the simulator's machine: a closed set of nodes, or a refusal.

A text is one function, or several that are launched in turn: all but the last, which is called ``kernel``, say in
their header which arrays of global memory they make, and these are parameters of the launches after them.

A text that is not refused cannot do more than arithmetic, reads and writes of arrays, and counted loops.  Each loop is
given the number of nodes that one round of it evaluates, so that the machine can refuse what takes too long before it
runs; an expression is short, and an integer that a name keeps is looked at, so that none grows without bound.  In a
text for CUDA each access of memory that other threads may reach is a ``yield`` of (array, index) or (array, index,
value), and each barrier a ``yield`` of its line and of how often the loops around it have gone round.

Names that begin with a colon are the machine's: no text can say them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from types import CodeType
from typing import Any, Final, NoReturn

from ..errors import CertificateInvalid
from ..reader.text import bare, tree_of
from ..term import Term

FILE: Final = "<kernel>"  # what a traceback calls the text
MAX_NODES: Final = 2_000  # of one statement
MAX_PRODUCTS: Final = 200  # in one statement: what an integer can grow to before it is looked at
MAX_INTEGER: Final = 2**63 - 1
CONSTANTS: Final = ("ZERO", "ONE", "LOWEST")
FUNCTIONS: Final = {"exp": 1, "sqrt": 1, "fmax": 2, "rescale": 2, "quotient": 2, "real": 1, "min": 2, "max": 2}
RESERVED: Final = frozenset(
    {*CONSTANTS, *FUNCTIONS, "range", "prange", "span", "view", "empty", "njit", "cuda", "launch"}
)
BINARY: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
UNARY: Final = (ast.USub, ast.Not)
COMPARING: Final = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
PLACE: Final = re.compile(r"cuda\.(threadIdx|blockIdx|blockDim|gridDim)\.[xyz]")
PRODUCT: Final = re.compile(r"[A-Za-z_]\w*(\*[A-Za-z_]\w*)*")  # of sizes: an extent of a launch or of an array
PLACES: Final = tuple(
    f":cuda.{what}.{axis}" for what in ("threadIdx", "blockIdx", "blockDim", "gridDim") for axis in "xyz"
)
Extents = tuple[int | str, ...]  # literals, and products of names of sizes
Launch = Mapping[str, Sequence[int | str | Term]]  # "grid", "block": up to three extents, x first, or terms


@dataclass(frozen=True, slots=True)
class Function:
    """A translated function: its target (cpu or cuda), code and parameters, and the nodes of its body.

    Of a launch: ``constants`` are sizes that are no parameters, ``launch`` is what the header says of grid and block
    (``None`` if nothing), and ``makes`` are the arrays that it writes for later launches, with their extents.
    """

    name: str
    target: str
    code: CodeType
    parameters: tuple[str, ...]
    nodes: int
    constants: tuple[str, ...]
    launch: Launch | None
    makes: tuple[tuple[str, Extents], ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A translated text: its functions, in the order in which they run; the last one writes the output."""

    functions: tuple[Function, ...]

    @property
    def target(self) -> str:
        return self.functions[-1].target

    def arrays(self) -> list[int]:
        """How many parameters of each function are arrays that the text writes, the output or arrays made before."""
        made = [0, *accumulate(len(f.makes) for f in self.functions)]
        return [before + (len(f.makes) or 1) for before, f in zip(made, self.functions, strict=False)]

    def sizes(self, inputs: int) -> set[str]:
        """The sizes that the text takes, where it has so many inputs."""
        rest = [{*f.constants, *f.parameters[k + inputs :]} for k, f in zip(self.arrays(), self.functions, strict=True)]
        return set().union(*rest)


@lru_cache(maxsize=8)  # both replays run a text
def compile_text(data: bytes) -> Text:
    """Translate a kernel's bytes.  Raises ``CertificateInvalid`` for what is no text of the language."""
    try:
        text = Text(tuple(map(_function, _functions_of(tree_of(data)))))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CertificateInvalid(f"replay: not Python that can be run: {error}") from None
    _in_turn(text.functions)
    return text


def _function(f: ast.FunctionDef) -> Function:
    target, header = _target(f)
    constants = tuple(str(x) for x in header.get("constants", ()))
    launch: Launch = {x: header[x] for x in ("grid", "block") if x in header}
    parameters = _parameters(f)
    made = _Translator(f, parameters, constants, target, bool(header)).function()
    module = ast.fix_missing_locations(ast.Module([ast.copy_location(made, f)], []))
    code = compile(module, FILE, "exec", dont_inherit=True)
    makes = _makes(header.get("makes", ()), f)
    return Function(f.name, target, code, parameters, _nodes(f.body), constants, launch or None, makes)


def _in_turn(functions: Sequence[Function]) -> None:
    """Launches that make arrays, then ``kernel``; first parameters are what is made here, then what was made before."""
    *launches, last = functions
    if last.name != "kernel" or last.makes:
        raise CertificateInvalid("replay: the last function is called kernel, and makes nothing but the output")
    if any(f.target != "cuda" or not f.makes for f in launches) or (launches and last.target != "cuda"):
        raise CertificateInvalid("replay: before kernel there are only launches, of which each makes an array")
    made: tuple[str, ...] = ()
    for f in functions:
        own = tuple(name for name, _ in f.makes)
        if f.parameters[: len(own)] != own or (made and f.parameters[len(own) or 1 :][: len(made)] != made):
            raise CertificateInvalid(f"replay: {f.name}: first the arrays made here are due, then those made before")
        made += own
    names = (*made, *(f.name for f in functions))
    taken = RESERVED.union(*(f.constants for f in functions))
    bound = {x for f in functions for x in f.parameters} & {f.name for f in functions}
    if len({*names}) < len(names) or taken & {*names} or bound:
        raise CertificateInvalid("replay: a launch, or an array that one makes, has a name that is taken")


def refuse(node: ast.AST, why: str) -> NoReturn:
    raise CertificateInvalid(f"replay, line {getattr(node, 'lineno', 1)}: {why}")


def _functions_of(module: ast.Module) -> list[ast.FunctionDef]:
    """The functions of a module: before them stand a docstring and imports alone, none of them renamed."""
    functions = [s for s in module.body if isinstance(s, ast.FunctionDef)]
    if not functions or module.body[-len(functions) :] != functions:
        refuse(module, "a function named kernel is due, last, after the docstring and the import")
    for s in module.body[: -len(functions)]:
        match s:
            case ast.Expr(ast.Constant(str())):
                pass
            case ast.ImportFrom(names=names) if all(x.asname is None and x.name in RESERVED for x in names):
                pass
            case _:
                refuse(s, "what stands before the functions is no docstring and no import of known names")
    return functions


def _target(f: ast.FunctionDef) -> tuple[str, dict[str, tuple[Any, ...]]]:
    """The target, and of a launch what its header says."""
    match f.decorator_list:
        case [ast.Call(func=head) | head] if _spelled(head) == "njit":
            return "cpu", {}
        case [ast.Call(func=head) | head] if _spelled(head) == "cuda.jit":
            return "cuda", {}
        case [ast.Call(func=ast.Name(id="launch"), args=[], keywords=options)]:
            found = {o.arg or "": _words(o.value) for o in options if o.arg != "index"}
            if set(found) <= {"grid", "block", "constants", "makes"}:
                return "cuda", found
    refuse(f, "one decorator is due: njit, cuda.jit, or launch with grid, block, constants, index and makes")


def _words(e: ast.expr) -> tuple[Any, ...]:
    """A tuple of integers, products of names, and such tuples."""
    found: list[Any] = []
    for x in e.elts if isinstance(e, ast.Tuple) else [None]:
        match x:
            case ast.Tuple():
                found.append(_words(x))
            case ast.Constant(value=int() as value) if type(value) is int:
                found.append(value)
            case ast.Constant(value=str() as value) if PRODUCT.fullmatch(value):
                found.append(value)
            case _:
                refuse(e, "names of sizes, products of them, and integers are due")
    return tuple(found)


def _makes(rows: tuple[Any, ...], f: ast.FunctionDef) -> tuple[tuple[str, Extents], ...]:
    found: list[tuple[str, Extents]] = []
    for row in rows:
        match row:
            case (str() as name, *extents) if name.isidentifier() and not any(isinstance(x, tuple) for x in extents):
                found.append((name, tuple(extents)))
            case _:
                refuse(f, "makes: the name of an array and its extents are due")
    return tuple(found)


def _parameters(f: ast.FunctionDef) -> tuple[str, ...]:
    a = f.args
    if a.posonlyargs or a.kwonlyargs or a.defaults or a.vararg or a.kwarg:
        refuse(f, "plain parameters are due")
    return tuple(x.arg for x in a.args)


def _nodes(body: Sequence[ast.AST]) -> int:
    """Nodes that one pass over statements evaluates: what is inside a further loop is that loop's to count."""
    total, todo = 0, list(body)
    while todo:
        node = todo.pop()
        total += 1
        todo.extend([node.target, node.iter] if isinstance(node, ast.For) else ast.iter_child_nodes(node))
    return total


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _call(name: str, *args: ast.expr) -> ast.expr:
    return ast.Call(_name(name), list(args), [])


def _assign(names: Sequence[str], value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Name(x, ast.Store()) for x in names], value)


class _Translator:
    """The text's function as Python that runs on a ``Machine``.  Our own names have a colon: no text can say them."""

    def __init__(
        self, f: ast.FunctionDef, parameters: tuple[str, ...], constants: tuple[str, ...], target: str, header: bool
    ):
        self.f, self.parameters, self.cuda = f, parameters, target == "cuda"
        self.constants = frozenset(constants) if header else None  # all that the extents of arrays may name
        bound = {n.id for n in ast.walk(f) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        hidden = {*RESERVED, *constants} & {*parameters, *bound} | RESERVED & {*constants}
        self.known = frozenset({*parameters, *bound, *constants, *CONSTANTS})
        if hidden:
            refuse(f, f"{', '.join(sorted(hidden))}: a known name is bound anew")
        kinds: dict[str, set[bool]] = {}
        for s in ast.walk(f):
            if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name):
                kinds.setdefault(s.targets[0].id, set()).add(_spelled(s.value) == "cuda.local.array")
        self.private = {x for x, local in kinds.items() if local == {True}} - set(parameters)
        self.parallel = False  # inside prange

    def function(self) -> ast.FunctionDef:
        names = [*(PLACES if self.cuda else ()), *self.parameters]
        body = self.statements(self.f.body, ())
        if self.cuda:  # a generator also where nothing is read
            body = [ast.If(ast.Constant(False), [ast.Expr(ast.Yield(None))], []), *body]
        arguments = ast.arguments([], [ast.arg(x) for x in names], None, [], [], None, [])
        made = bare(self.f)
        made.name, made.args, made.body = ":kernel", arguments, body
        return made

    # --- statements --------------------------------------------------------------------------------------

    def statements(self, body: Sequence[ast.stmt], loops: tuple[str, ...]) -> list[ast.stmt]:
        """``loops`` are the counters of the loops around, kept where a barrier stands inside them."""
        return [ast.copy_location(x, s) for s in body for x in self.statement(s, loops)]

    def statement(self, s: ast.stmt, loops: tuple[str, ...]) -> list[ast.stmt]:
        match s:
            case ast.For(target=ast.Name(id=x), iter=ast.Call(func=ast.Name(id=kind), args=bounds), orelse=[]):
                self.limit(s.iter)
                return self.loop(s, x, kind, bounds, loops)
            case ast.If(test=test, body=yes, orelse=no):
                self.limit(test)
                return [ast.If(self.value(test), self.statements(yes, loops), self.statements(no, loops))]
            case ast.Assign(targets=[ast.Name(id=x)], value=value):
                self.limit(s)
                return [_assign([x], self.scratch(value) or self.kept(value))]
            case ast.Assign(targets=[ast.Subscript() as cell], value=value):
                self.limit(s)
                return [self.store(cell, value)]
            case ast.Expr(value=ast.Call(args=[], keywords=[]) as call) if _spelled(call) == "cuda.syncthreads":
                where = [ast.Constant(s.lineno), *map(_name, loops)]
                return [ast.Expr(ast.Yield(_call(":barrier", *where)))]
            case ast.Return(value=None) if self.cuda:
                return [ast.Return(None)]
        refuse(s, f"{type(s).__name__} is not run here, or not in this form")

    def limit(self, node: ast.AST) -> None:
        inside = list(ast.walk(node))
        if len(inside) > MAX_NODES or sum(isinstance(n, ast.Mult) for n in inside) > MAX_PRODUCTS:
            refuse(node, "the expression is too long")

    def loop(self, s: ast.For, x: str, kind: str, bounds: list[ast.expr], loops: tuple[str, ...]) -> list[ast.stmt]:
        parallel = kind == "prange"
        few = {"range": (1, 2, 3), "span": (1, 2, 3) if self.cuda else (), "prange": () if self.cuda else (1,)}
        if len(bounds) not in few.get(kind, ()):
            refuse(s, "a loop over range is due, or over prange on the CPU or span on a GPU")
        if parallel and self.parallel:
            refuse(s, "prange inside prange")
        args = [ast.Constant(_nodes(s.body)), *map(self.value, self.plain(s.iter))]
        self.parallel |= parallel
        barrier = any(_spelled(n) == "cuda.syncthreads" for n in ast.walk(s) if isinstance(n, ast.Call))
        counter = f":{len(loops)}"
        body = self.statements(s.body, (*loops, counter) if barrier else loops)
        self.parallel &= not parallel
        target: ast.expr = ast.Name(x, ast.Store())
        if barrier:
            target = ast.Tuple([ast.Name(counter, ast.Store()), target], ast.Store())
            return [ast.For(target, _call(":enumerate", _call(f":{kind}", *args)), body, [])]
        if not parallel:
            return [ast.For(target, _call(f":{kind}", *args), body, [])]
        inside = {n.id for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        stale = _name(":stale")
        own = [_assign(sorted(inside - {x}), stale)] if inside - {x} else []
        return [ast.For(target, _call(":prange", *args), [*own, *body], []), _assign(sorted(inside), stale)]

    def scratch(self, value: ast.expr) -> ast.expr | None:
        """The allocation of an array or a view of the pool, if the value is one."""
        what = _spelled(value)
        site = ast.Constant(f"{value.lineno}:{value.col_offset}")
        match value:
            case ast.Call(ast.Name("view"), [pool, start, stop, ast.Tuple(shape)], []) if self.cuda:
                return _call(":view", site, *map(self.value, (pool, start, stop, *shape)))
        if what not in (("cuda.shared.array", "cuda.local.array") if self.cuda else ("empty",)):
            return None
        args = self.plain(value)
        if len(args) != 2 or _spelled(args[1]) != "real":
            refuse(value, f"{what}(shape, real) is due")
        shape = args[0].elts if isinstance(args[0], ast.Tuple) else [args[0]]
        named = {n.id for x in shape for n in ast.walk(x) if isinstance(n, ast.Name)}
        if self.constants is not None and not named <= self.constants:
            refuse(value, "an extent of an array is no constant of the launch")
        extents = [self.value(x) for x in shape]
        if what == "cuda.shared.array" and isinstance(args[0], ast.Constant) and args[0].value == 0:
            return _call(":pool")
        if what == "cuda.shared.array":
            return _call(":shared", site, *extents)
        return _call(":empty", *extents)

    def kept(self, value: ast.expr) -> ast.expr:
        """The value of a name: an integer that it may have grown to is looked at."""
        made = self.value(value)
        return _call(":kept", made) if isinstance(value, ast.BinOp | ast.UnaryOp | ast.IfExp | ast.BoolOp) else made

    def store(self, cell: ast.Subscript, value: ast.expr) -> ast.stmt:
        array, index = self.cell(cell)
        if self.switches(cell):
            return ast.Expr(ast.Yield(ast.Tuple([array, index, self.value(value)], ast.Load())))
        return ast.Assign([ast.Subscript(array, index, ast.Store())], self.value(value))

    # --- expressions -------------------------------------------------------------------------------------

    def value(self, e: ast.expr) -> ast.expr:
        return ast.copy_location(self._value(e), e)

    def _value(self, e: ast.expr) -> ast.expr:
        match e:
            case ast.Name(id=x) if x in self.known:
                return _name(x)
            case ast.Name(id=x):
                refuse(e, f"{x} has no value")
            case ast.Constant(value=x) if isinstance(x, int) and x <= MAX_INTEGER:  # True and False included
                return e
            case ast.Subscript():
                array, index = self.cell(e)
                if self.switches(e):
                    return ast.Yield(ast.Tuple([array, index], ast.Load()))
                return ast.Subscript(array, index, ast.Load())
            case ast.Attribute() if self.cuda and PLACE.fullmatch(_spelled(e)):
                return _name(":" + _spelled(e))
            case ast.Call():
                return self.call(e)
            case ast.BinOp(left=a, op=op, right=b) if isinstance(op, BINARY):
                return ast.BinOp(self.value(a), op, self.value(b))
            case ast.UnaryOp(op=op, operand=a) if isinstance(op, UNARY):
                return ast.UnaryOp(op, self.value(a))
            case ast.BoolOp(op=op, values=parts):
                return ast.BoolOp(op, [self.value(x) for x in parts])
            case ast.Compare(left=a, ops=ops, comparators=rest) if all(isinstance(op, COMPARING) for op in ops):
                return ast.Compare(self.value(a), ops, [self.value(x) for x in rest])
            case ast.IfExp(test=g, body=yes, orelse=no):
                return ast.IfExp(self.value(g), self.value(yes), self.value(no))
        refuse(e, f"{type(e).__name__} is not run here, or not in this form")

    def call(self, e: ast.Call) -> ast.expr:
        args, name = self.plain(e), _spelled(e)
        match name, args:
            case "real", [ast.BinOp(left=p, op=ast.Div(), right=q)] if _is_literal(p) and _is_literal(q):
                return _call(":constant", self.value(p), self.value(q))  # that rational, not Python's rounded quotient
        if name not in FUNCTIONS or len(args) != FUNCTIONS[name]:
            refuse(e, f"{name or 'a call'} is not run here, or not with {len(args)} arguments")
        return _call(f":{name}", *map(self.value, args))

    def plain(self, e: ast.expr) -> list[ast.expr]:
        if not isinstance(e, ast.Call) or e.keywords or any(isinstance(x, ast.Starred) for x in e.args):
            refuse(e, "a call with plain arguments is due")
        return e.args

    def cell(self, e: ast.Subscript) -> tuple[ast.expr, ast.expr]:
        if not isinstance(e.value, ast.Name):
            refuse(e, "what is indexed is no name")
        if isinstance(e.slice, ast.Tuple):
            return self.value(e.value), ast.Tuple([self.value(x) for x in e.slice.elts], ast.Load())
        return self.value(e.value), self.value(e.slice)

    def switches(self, e: ast.Subscript) -> bool:
        """May other threads reach the array?"""
        return self.cuda and not (isinstance(e.value, ast.Name) and e.value.id in self.private)


def _spelled(e: ast.expr) -> str:
    """Dotted names as they stand; of a call its function; nothing of anything else."""
    match e:
        case ast.Call(func=f):
            return "" if isinstance(f, ast.Call) else _spelled(f)
        case ast.Name(id=x):
            return x
        case ast.Attribute(value=v, attr=a):
            return f"{_spelled(v)}.{a}"
    return ""


def _is_literal(e: ast.expr) -> bool:
    inner = e.operand if isinstance(e, ast.UnaryOp) and isinstance(e.op, ast.USub) else e
    return isinstance(inner, ast.Constant) and type(inner.value) is int
