"""What the printers of all targets share: blocks of statements, names, and one text for each scalar of the ONF."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import NotCovered
from ..shapes import product
from ..term import Int, Term

SYMBOL = {"add": ("+", 10), "sub": ("-", 10), "mul": ("*", 20), "div": ("/", 20)}
SUM, PRODUCT, SIGN, ATOM = 10, 20, 30, 40  # how tightly an expression binds

Write = Callable[[str, str], str]  # the cell, the element: a statement
START = {"add": ("s", "ZERO"), "mul": ("p", "ONE"), "max": ("m", "LOWEST")}  # of an accumulator: letter, first value
UPDATE: dict[str, tuple[Write, int]] = {  # and its statement, with how tightly the element must bind
    "add": (lambda cell, x: f"{cell} = {cell} + {x}", SUM + 1),
    "mul": (lambda cell, x: f"{cell} = {cell} * {x}", PRODUCT + 1),
    "max": (lambda cell, x: f"{cell} = fmax({cell}, {x})", 0),
}


def rescaled(old: str, highest: str, e: str, t: str, before: str, after: str) -> list[str]:
    """``old`` becomes the greater of two maxima; ``before`` and ``after`` are the factors of the two states in it."""
    return [
        f"{e} = {highest}",
        f"{t} = fmax({old}, {e})",
        f"{before} = rescale({old}, {t})",
        f"{after} = rescale({e}, {t})",
        f"{old} = {t}",
    ]


def merged(cell: str, before: str, x: str, after: str) -> str:
    """A weight or value of a state, with that of another added."""
    return f"{cell} = {cell} * {before} + {x} * {after}"


@dataclass(slots=True)
class Block:
    """The statements of a loop body: allocations first.  ``level`` is the number of the binder that the loop opens."""

    level: int
    head: list[str] = field(default_factory=list)
    lines: list[str | Block] = field(default_factory=list)

    def open(self, line: str, level: int | None = None) -> Block:
        """A new statement with a body."""
        inner = Block(self.level if level is None else level)
        self.lines += [line, inner]
        return inner

    def text(self, indent: int) -> Iterator[str]:
        for line in self.head:
            yield "    " * indent + line
        for part in self.lines:
            if isinstance(part, str):
                yield "    " * indent + part
            else:
                yield from part.text(indent + 1)


@dataclass(frozen=True, slots=True)
class Name:
    """What a bound variable is in the text: an index, a value (scalar or cells), or a state with its o and l."""

    text: str
    weights: str = ""


Env = tuple[Name, ...]


class Printer(ABC):
    """Scalars as text.  ``parameters`` are names that no new name may be."""

    def __init__(self, parameters: Sequence[str]) -> None:
        self.parameters = list(parameters)
        self.count = 0

    @abstractmethod
    def element(self, name: Name, at: Sequence[Term], env: Env) -> str:
        """The value of a let, or its cell at an index."""

    @abstractmethod
    def weight(self, state: Name, env: Env) -> str:
        """l of a state."""

    def fresh(self, letter: str) -> str:
        while True:
            self.count += 1
            name = f"{letter}{self.count}"
            if name not in self.parameters:
                return name

    def decoded(self, w: str, extents: Sequence[Term]) -> Iterator[tuple[str, str]]:
        """New names and values of the indices that ``w`` is gamma of, by // and % from the right."""
        for k, extent in enumerate(extents):
            later = extents[k + 1 :]
            div = f" // {self.index(product(later), (), PRODUCT + 1)}" if later else ""
            mod = f" % {self.index(extent, (), PRODUCT + 1)}" if k else ""
            yield self.fresh("i"), f"{w}{div}{mod}"

    def index(self, t: Term, env: Env, tight: int = 0) -> str:
        a = t.args
        match t.op:
            case "var":
                name: Name = env[-1 - t.data]
                return name.text
            case "int":
                return str(t.data) if t.data >= 0 else wrap(str(t.data), SIGN, tight)
            case "size":
                return str(t.data)
            case "imin":
                return f"min({self.index(a[0], env)}, {self.index(a[1], env)})"
            case "iadd" if a[1].op == "imul" and a[1].args[0] is Int(-1):
                text = f"{self.index(a[0], env, SUM)} - {self.index(a[1].args[1], env, SUM + 1)}"
                return wrap(text, SUM, tight)
        symbol, own = {"iadd": ("+", SUM), "imul": ("*", PRODUCT), "idiv": ("//", PRODUCT)}[t.op]
        return wrap(f"{self.index(a[0], env, own)} {symbol} {self.index(a[1], env, own + 1)}", own, tight)

    def guard(self, t: Term, env: Env) -> str:
        a = t.args
        match t.op:
            case "true":
                return "True"
            case "lt":
                return f"{self.index(a[0], env)} < {self.index(a[1], env)}"
            case "and":
                x, y = (f"({self.guard(u, env)})" if u.op == "and" else self.guard(u, env) for u in a)
                return f"{x} and {y}"
            case "not":
                return f"not ({self.guard(a[0], env)})"
        return f"{a[0].data[0]}[{self.index(a[1], env)}]"

    def real(self, t: Term, env: Env, tight: int = 0, early: Mapping[Term, str] | None = None) -> str:
        a, known = t.args, early or {}
        match t.op:
            case "flat":
                return known.get(t) or f"{a[0].data[0]}[{self.index(a[1], env)}]"
            case "in":
                return str(t.data[0])
            case "var":
                return self.element(env[-1 - t.data], (), env)
            case "psi" if a[0].op == "var":
                return self.element(env[-1 - a[0].data], a[1:], env)
            case "psi" | "quotient":
                state = env[-1 - (a[0].args[0] if t.op == "psi" else a[0]).data]
                return f"quotient({self.element(state, a[1:], env)}, {self.weight(state, env)})"
            case "real":
                p, q = t.data
                return "ZERO" if p == "0" else "ONE" if p == q == "1" else f"real({p} / {q})"
            case "cast":
                return f"real({self.index(a[0], env)})"
            case "where":
                yes, no = self.real(a[1], env), self.real(a[2], env)
                return f"({yes} if {self.guard(a[0], env)} else {no})"
            case "f" if t.data == "neg":
                return wrap(f"-{self.real(a[0], env, SIGN, known)}", SIGN, tight)
            case "f" if t.data in SYMBOL:
                symbol, own = SYMBOL[t.data]
                left, right = self.real(a[0], env, own, known), self.real(a[1], env, own + 1, known)
                return wrap(f"{left} {symbol} {right}", own, tight)
            case "f":
                name = "fmax" if t.data == "max" else str(t.data)
                return f"{name}({', '.join(self.real(x, env, 0, known) for x in a)})"
        raise NotCovered(f"printer: {t.op} is no scalar of the ONF")


class _Extents(Printer):
    """Extents alone: no value is in sight."""

    def element(self, name: Name, at: Sequence[Term], env: Env) -> str:
        raise NotCovered("printer: an extent depends on a value")

    def weight(self, state: Name, env: Env) -> str:
        raise NotCovered("printer: an extent depends on a value")


def extents(t: Term) -> str:
    """The shape of an input."""
    found = [_Extents(()).index(e, ()) for e in t.args]
    return f"({', '.join(found)})" if found else "scalar"


def wrap(text: str, own: int, tight: int) -> str:
    return f"({text})" if own < tight else text
