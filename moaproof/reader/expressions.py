"""What both readers of texts share: names and their scopes, expressions, small questions to Python's tree.  Trusted.

    E     ::= x | x[..] | input[Index] | scalar input | quotient(o, l) | E + E | E - E | E * E | E / E | -E
            | exp(E) | sqrt(E) | fmax(E, E) | (E if G else E) | ZERO | ONE | real(int / int) | real(Index)
    G     ::= True | Index < Index | G and G | not G | input[Index]
    Index ::= i | size | int | Index + Index | Index - Index | Index * Index | Index // Index | min(Index, Index)

What ``x``, ``x[..]`` and a quotient mean is the reader's own.  An expression outside the grammar is refused by line.
"""

from __future__ import annotations

import ast
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic, NoReturn, Self, TypeVar

from ..errors import CertificateInvalid
from ..shapes import product
from ..term import (
    MAX_DEPTH,
    MAX_INT,
    TRUE,
    And,
    Div,
    F,
    Flat,
    Int,
    Lt,
    Min,
    Mul,
    Not,
    Real,
    Size,
    Sub,
    Term,
    Var,
    Where,
)
from ..term import Add as Plus

DTYPES: Final = ("float64", "float32")
BINARY: Final[dict[type[ast.operator], str]] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
}
INIT: Final = {"ZERO": "add", "ONE": "mul", "LOWEST": "max"}  # what an accumulator begins with, and its monoid


# --- names ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name means: ``kind`` is index, value, state and so on, ``level`` its binder, counted from outside.

    CPU: ``rank`` of a value or state; the read ``node`` if early; ``weights``, the name of a state's l.
    CUDA: ``axes`` of the memory, see ``blocks.py``.
    """

    kind: str
    level: int = 0
    rank: int = 0
    node: ast.expr | None = None
    weights: str = ""
    axes: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """The names readable here, under ``depth`` binders."""

    depth: int = 0
    names: dict[str, Entry] = field(default_factory=dict)

    def deeper(self, name: str = "an element") -> Self:
        """Under one more binder."""
        if self.depth >= MAX_DEPTH:  # no certificate has such a term
            raise CertificateInvalid(f"kernel: {name} would be more than {MAX_DEPTH} names deep")
        return replace(self, depth=self.depth + 1)

    def know(self, name: str, entry: Entry) -> Self:
        return replace(self, names={**self.names, name: entry})

    def bind(self, name: str, entry: Entry) -> Self:
        return self.deeper(name).know(name, entry)

    def index(self, name: str) -> Self:
        return self.bind(name, Entry("index", self.depth))

    def is_index(self, entry: Entry) -> bool:
        """Has the name the value of an index here?"""
        return entry.kind == "index"

    def branch(self) -> Self:
        """The same place, in a branch of a ``where``."""
        return self


# --- Python's tree ----------------------------------------------------------------------------------------


def refuse(node: ast.AST, why: str) -> NoReturn:
    raise CertificateInvalid(f"kernel, line {getattr(node, 'lineno', 1)}: {why}")


def need(condition: bool, node: ast.AST, why: str) -> None:
    if not condition:
        refuse(node, why)


def same(a: ast.AST, b: ast.AST) -> bool:
    """Are two expressions, read or written, the same token for token?"""
    return ast.dump(a).replace("ctx=Store()", "ctx=Load()") == ast.dump(b).replace("ctx=Store()", "ctx=Load()")


def says(node: ast.AST, text: str) -> bool:
    """Is the expression, read or written, the given one token for token?"""
    return same(node, ast.parse(text, mode="eval").body)


def name_of(node: ast.AST) -> str:
    """The identifier, or nothing if the node is no name."""
    return node.id if isinstance(node, ast.Name) else ""


def call_of(node: ast.AST, count: int) -> str:
    """The function of a call with ``count`` plain arguments, or nothing."""
    plain = isinstance(node, ast.Call) and not node.keywords and len(node.args) == count
    return name_of(node.func) if plain and isinstance(node, ast.Call) else ""


def args_of(node: ast.AST) -> list[ast.expr]:
    return node.args if isinstance(node, ast.Call) else []


def parts_of(node: ast.AST) -> tuple[str, list[ast.expr]]:
    """The name and the indices of x, x[i] or x[i, j]; no name for any other."""
    if not isinstance(node, ast.Subscript):
        return name_of(node), []
    return name_of(node.value), list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def goal(s: ast.stmt) -> ast.expr:
    """The only target of an assignment; a constant of any other statement."""
    return s.targets[0] if isinstance(s, ast.Assign) and len(s.targets) == 1 else ast.Constant(None)


def value(s: ast.stmt) -> ast.expr:
    return s.value if isinstance(s, ast.Assign) else refuse(s, "an assignment is due")


def core_of(doc: ast.stmt) -> str:
    """The digest of the derivation core that a docstring names."""
    text = doc.value.value if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) else None
    if not isinstance(text, str):
        refuse(doc, "a docstring is due")
    digests: list[str] = re.findall(r"^core: ([0-9a-f]{64})$", text, re.MULTILINE)
    need(len(digests) == 1, doc, "the docstring has one line 'core: <digest>'")
    return digests[0]


def imports_of(target: str, names: Sequence[str]) -> dict[str, str]:
    """The one import line of a text, by dtype."""
    return {d: f"from moaproof.instructions.{target}_{d} import {', '.join(names)}" for d in DTYPES}


def dtype_of(node: ast.stmt, lines: dict[str, str]) -> str | None:
    """The dtype of the import line that a statement is, or nothing."""
    known = {ast.dump(ast.parse(line).body[0]): dtype for dtype, line in lines.items()}
    return known.get(ast.dump(node))


# --- expressions ------------------------------------------------------------------------------------------

S = TypeVar("S", bound=Names)


class Expressions(ABC, Generic[S]):
    """Reads E, G and Index to terms, and what else is the same in every text."""

    def __init__(self, inputs: Sequence[Term], sizes: Sequence[str]) -> None:
        self.inputs = {t.data[0]: t for t in inputs}
        self.sizes = frozenset(sizes)
        self.seen: set[str] = set()  # names that are bound, or known

    @abstractmethod
    def cell(self, e: ast.expr, scope: S, kind: str) -> Term:
        """An element of a let of this kind: its variable, or psi of it."""

    @abstractmethod
    def quotient(self, e: ast.expr, scope: S) -> Term:
        """The element of ``quotient(o, l)``."""

    def index(self, e: ast.expr, scope: S) -> Term:
        match e:
            case ast.Constant(value=int(c)) if type(c) is int and c <= MAX_INT:
                return Int(c)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(c))) if type(c) is int and 0 < c <= MAX_INT:
                return Int(-c)
            case ast.Name(id=name):
                if name in self.sizes:
                    return Size(name)
                entry = scope.names.get(name)
                if entry is None or not scope.is_index(entry):
                    refuse(e, f"{name} is no index here")
                return Var(scope.depth - 1 - entry.level)
            case ast.BinOp(left=x, op=ast.Add(), right=y):
                return Plus(self.index(x, scope), self.index(y, scope))
            case ast.BinOp(left=x, op=ast.Sub(), right=y):
                return Sub(self.index(x, scope), self.index(y, scope))
            case ast.BinOp(left=x, op=ast.Mult(), right=y):
                return Mul(self.index(x, scope), self.index(y, scope))
            case ast.BinOp(left=x, op=ast.FloorDiv(), right=y):
                return Div(self.index(x, scope), self.index(y, scope))
            case ast.Call() if call_of(e, 2) == "min":
                return Min(self.index(e.args[0], scope), self.index(e.args[1], scope))
        refuse(e, f"{ast.unparse(e):.60} is no index expression")

    def guard(self, e: ast.expr, scope: S) -> Term:
        match e:
            case ast.Constant(value=bool(c)) if c:
                return TRUE
            case ast.Compare(left=x, ops=[ast.Lt()], comparators=[y]):
                return Lt(self.index(x, scope), self.index(y, scope))
            case ast.BoolOp(op=ast.And(), values=[x, y]):
                return And(self.guard(x, scope), self.guard(y, scope))
            case ast.UnaryOp(op=ast.Not(), operand=x):
                return Not(self.guard(x, scope))
            case ast.Subscript(value=ast.Name(id=name), slice=x) if name in self.inputs:
                return self.read(e, name, x, scope)
        refuse(e, f"{ast.unparse(e):.60} is no guard")

    def real(self, e: ast.expr, scope: S) -> Term:
        match e:
            case ast.Name(id=name):
                return self.name(e, name, scope)
            case ast.Subscript(value=ast.Name(id=name), slice=x):
                if name in self.inputs:
                    return self.read(e, name, x, scope)
                return self.cell(e, scope, "value")
            case ast.BinOp(left=x, op=op, right=y) if type(op) in BINARY:
                return F(BINARY[type(op)], self.real(x, scope), self.real(y, scope))
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return F("neg", self.real(x, scope))
            case ast.IfExp(test=c, body=x, orelse=y):
                return Where(self.guard(c, scope), self.real(x, scope.branch()), self.real(y, scope.branch()))
            case ast.Call() if call_of(e, 1) in ("exp", "sqrt"):
                return F(call_of(e, 1), self.real(e.args[0], scope))
            case ast.Call() if call_of(e, 2) == "fmax":
                return F("max", *(self.real(x, scope) for x in e.args))
            case ast.Call() if call_of(e, 2) == "quotient":
                return self.quotient(e, scope)
            case ast.Call(args=[ast.BinOp(left=p, op=ast.Div(), right=q)]) if call_of(e, 1) == "real":
                n, d = self.index(p, scope), self.index(q, scope)
                need(n.op == d.op == "int" and d.data > 0, e, "a constant is a quotient of two integers")
                found = Real(n.data, d.data)
                need(found.data == (str(n.data), str(d.data)), e, "a constant is a quotient in lowest terms")
                return found
            case ast.Call() if call_of(e, 1) == "real":
                return Term("cast", None, (self.index(e.args[0], scope),))
        refuse(e, f"{ast.unparse(e):.60} is outside the grammar")

    def read(self, e: ast.expr, name: str, at: ast.expr, scope: S) -> Term:
        """A read of an input."""
        return Flat(self.inputs[name], self.index(at, scope))

    def name(self, e: ast.expr, name: str, scope: S) -> Term:
        if name in ("ZERO", "ONE"):
            return Real(0 if name == "ZERO" else 1)
        if name in self.inputs:
            need(not self.inputs[name].args, e, f"{name} is an array")
            return self.inputs[name]
        return self.cell(e, scope, "value")

    # --- axes that share one loop or one axis of the grid --------------------------------------------------

    def decodes(self, node: ast.expr) -> bool:
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv | ast.Mod)

    def cores(
        self, loop: ast.stmt, decoding: list[ast.Assign], w: str, total: Term, scope: S
    ) -> tuple[list[str], list[Term]]:
        """The axes of a collapsed loop: w = gamma(i0 .. ik; e0 .. ek), decoded by // and % from the right."""
        need(total.free == 0, loop, "an extent of cores mentions a variable")
        if not decoding:
            return [w], [total]
        last = len(decoding) - 1
        need(last > 0, loop, "one core axis needs no decoding")
        names: list[str] = []
        moduli: list[Term] = []
        divisors: list[Term] = []
        for k, s in enumerate(decoding):
            names.append(self.target(s))
            node = s.value
            if k > 0:
                node, modulus = self.split(node, ast.Mod, scope)
                moduli.append(modulus)
            if k < last:
                node, divisor = self.split(node, ast.FloorDiv, scope)
                divisors.append(divisor)
            need(name_of(node) == w, s, "not the decoding of a core axis")
        for e in reversed(moduli):
            need(
                total.op == "imul" and total.args[1] is e,
                loop,
                "prange is not over the product of the core extents",
            )
            total = total.args[0]
        extents = [total, *moduli]
        for k, found in enumerate(divisors):
            need(found is product(extents[k + 1 :]), decoding[k], "not the product of the extents that follow")
        return names, extents

    def split(self, node: ast.expr, operator: type[ast.operator], scope: S) -> tuple[ast.expr, Term]:
        if not (isinstance(node, ast.BinOp) and isinstance(node.op, operator)):
            refuse(node, "not the decoding of a core axis")
        return node.left, self.index(node.right, scope)

    # --- small things ------------------------------------------------------------------------------------

    def fresh(self, node: ast.expr) -> str:
        name = name_of(node)
        need(bool(name), node, "a name is due")
        need(name not in self.seen, node, f"{name} is bound a second time")
        self.seen.add(name)
        return name

    def target(self, s: ast.stmt) -> str:
        """The new name that an assignment binds."""
        need(isinstance(s, ast.Assign) and len(s.targets) == 1, s, "an assignment to one name is due")
        return self.fresh(goal(s))

    def header(self, s: ast.For, scope: S, function: str = "range") -> tuple[str, Term]:
        """The index and the extent of a loop."""
        need(call_of(s.iter, 1) == function and not s.orelse, s, f"a loop over {function}(extent) is due")
        extent = self.index(args_of(s.iter)[0], scope)
        return self.fresh(s.target), extent

    def exactly(self, statements: list[ast.stmt], count: int) -> list[ast.stmt]:
        where = statements[0] if statements else ast.Pass()
        need(len(statements) == count, where, f"{count} statements are due, not {len(statements)}")
        return statements

    def next(self, queue: deque[ast.stmt]) -> ast.stmt:
        return queue[0] if queue else refuse(ast.Pass(), "the text ends where a statement is due")

    def take(self, queue: deque[ast.stmt]) -> ast.stmt:
        self.next(queue)
        return queue.popleft()
