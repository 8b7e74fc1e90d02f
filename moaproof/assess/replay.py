"""Exact replay: the shipped bytes of a kernel, run over finite fields and compared with the Spec.  No tolerance.

The very text that ships is executed, without its import and decorator, on stand-ins for what it imports: a number is
a pair of residues (``semantics.Fields``), so exp(a + b) = exp(a) exp(b) exactly; ``max`` is an arbitrary but fixed
function of its arguments; minus infinity is Empty.  Arrays refuse a negative index, one out of range, and a cell read
before it is written; each cell of the output is written exactly once; the iterations of ``prange`` are shuffled.

What it cannot see: the size of an exponent (e^(s+M)/e^(s+M) passes, rightly, for e^(s-M)/e^(s-M)), rounding, and
scratch left from an earlier iteration; the first and the last are the reader's to decide.  Status of what it
concludes: *tested*, at the sizes and the seed of the report.
"""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from ..errors import CertificateInvalid, IllFormed, NotCovered, Refuted
from ..kernel.certificate import Certificate, sizes_of
from ..kernel.points import draw_sizes
from ..semantics import EMPTY, MAX_CELLS, Fields, Scalar, evaluate, meaning
from ..term import Term

ALLOWED = (
    ast.arguments, ast.arg, ast.FunctionDef, ast.For, ast.If, ast.Assign, ast.Name, ast.Load, ast.Store, ast.Constant,
    ast.Subscript, ast.Tuple, ast.Call, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp, ast.Lt, ast.LtE,
    ast.Gt, ast.GtE, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.And, ast.Not,
)  # fmt: skip


MAX_WORK = 400  # of the product of a case's sizes, so that it is quick


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What agreed exactly: the sizes of each case, and how many elements of outputs were compared."""

    cases: tuple[Mapping[str, int], ...]
    elements: int
    seed: int


def replay(
    data: bytes, spec: Term, inputs: Sequence[Term], cases: Sequence[Mapping[str, int]], seed: int
) -> ReplayReport:
    """Run the kernel in each case (sizes by name) on random inputs and compare with the Spec, exactly.

    Raises ``Refuted`` with the sizes where text and Spec differ or the text breaks a rule of memory, and
    ``CertificateInvalid`` for text that cannot be run here.
    """
    code, parameters = _compiled(data)
    elements = 0
    for number, sizes in enumerate(cases):
        missing = [p for p in parameters[1 + len(inputs) :] if p not in sizes]
        if missing or len(parameters) < 1 + len(inputs):
            raise NotCovered(f"replay, case {number}: no value for {', '.join(missing) or 'the inputs'}")
        elements += _case(code, parameters, spec, inputs, sizes, random.Random(f"{seed}/{number}"))
    return ReplayReport(tuple(MappingProxyType(dict(c)) for c in cases), elements, seed)


def exact_replay(data: bytes, c: Certificate, seed: int = 0) -> int:
    """Replay a text of a certificate at a few ragged sizes within its hypotheses; the number of cells compared."""
    return replay(data, c.spec, c.inputs, cases_of(c, seed), seed).elements


def cases_of(c: Certificate, seed: int, count: int = 6) -> list[dict[str, int]]:
    """Small sizes within the hypotheses, tiles longer and shorter than what they cover; two with empty axes."""
    rng = random.Random(f"sizes/{seed}")
    arrays = [t for t in c.inputs if t.data[1] == "real"]
    found: list[dict[str, int]] = []
    while len(found) < count:
        sizes = draw_sizes(c, rng, (1, 2, 3, 4) if len(found) < count - 2 else (0, 1, 2))
        work = math.prod(max(1, sizes[s]) for s in sizes_of(arrays))
        if work <= MAX_WORK:
            found.append(sizes)
    return found


def _compiled(data: bytes) -> tuple[Any, list[str]]:
    """The function of the text, without its decorator, and its parameters.  Only harmless nodes are executed."""
    try:
        module = ast.parse(data.decode("ascii"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CertificateInvalid(f"replay: not Python: {error}") from None
    functions = [s for s in module.body if isinstance(s, ast.FunctionDef)]
    if len(functions) != 1 or not isinstance(module.body[-1], ast.FunctionDef):
        raise CertificateInvalid("replay: one function is due, after the docstring and the import")
    function = functions[0]
    function.decorator_list = []
    for node in ast.walk(function):
        if not isinstance(node, ALLOWED):
            raise CertificateInvalid(
                f"replay, line {getattr(node, 'lineno', 1)}: {type(node).__name__} is not run here"
            )
    tree = ast.fix_missing_locations(ast.Module([_Constants().visit(function)], []))
    return compile(tree, "<kernel>", "exec"), [a.arg for a in function.args.args]


class _Constants(ast.NodeTransformer):
    """``real(p / q)`` of two literals is that rational: the pair is passed, not Python's rounded quotient."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id="real"), args=[ast.BinOp(left=p, op=ast.Div(), right=q)]):
                node.args = [ast.Tuple([p, q], ast.Load())]
        return self.generic_visit(node)


def _case(
    code: Any,
    parameters: Sequence[str],
    spec: Term,
    inputs: Sequence[Term],
    sizes: Mapping[str, int],
    rng: random.Random,
) -> int:
    algebra = Fields(sizes, {}, seed=rng.randrange(2**32))
    algebra.inputs = {t.data[0]: _random(t, algebra, rng) for t in inputs}
    algebra.budget = MAX_CELLS
    shape, expected = evaluate(spec, algebra)
    stand = _Stand(algebra, rng)
    out = Cells((len(expected),), once=True)
    scope = stand.names()
    exec(code, scope)  # noqa: S102  only the nodes of ALLOWED, and no builtins
    given = [stand.given(t, algebra.inputs[t.data[0]]) for t in inputs]
    where = {name: value for name, value in sizes.items() if name in parameters}
    try:
        scope["kernel"](out, *given, *(sizes[p] for p in parameters[1 + len(inputs) :]))
    except (IllFormed, ZeroDivisionError, TypeError, NameError, AttributeError, ValueError) as error:
        raise Refuted(f"replay: the text fails: {error}", where) from None
    for offset, due in enumerate(expected):
        found = out.cells.get((offset,))
        if not isinstance(found, Number) or not _agree(found.value, due):
            what = "is not written" if found is None else "differs from the Spec"
            raise Refuted(f"replay: element {offset} of shape {shape} {what}", where)
    return len(expected)


def _random(t: Term, algebra: Fields, rng: random.Random) -> list[Scalar]:
    total = math.prod(meaning(e, (), (), (), algebra) for e in t.args)
    if t.data[1] == "bool":
        return [rng.random() < 0.6 for _ in range(total)]
    return [algebra.element(rng.randrange(Fields.P * Fields.Q)) for _ in range(total)]


def _agree(found: Scalar, due: Scalar) -> bool:
    """Equal mod p; equal mod q where both have that residue."""
    return bool(found[0] == due[0] and (None in (found[1], due[1]) or found[1] == due[1]))


class Number:
    """A value of the fields with the operators of the text; ``None`` inside is Empty."""

    __slots__ = ("algebra", "value")

    def __init__(self, algebra: Fields, value: Scalar):
        self.algebra, self.value = algebra, value

    def _with(self, function: str, other: object) -> Number:
        if not isinstance(other, Number):
            raise IllFormed(f"{function} of a number and what is no number")
        return Number(self.algebra, self.algebra.apply(function, (self.value, other.value)))

    def __add__(self, other: object) -> Number:
        return self._with("add", other)

    def __sub__(self, other: object) -> Number:
        return self._with("sub", other)

    def __mul__(self, other: object) -> Number:
        return self._with("mul", other)

    def __truediv__(self, other: object) -> Number:
        return self._with("div", other)

    def __neg__(self) -> Number:
        return Number(self.algebra, self.algebra.apply("neg", (self.value,)))


class Cells:
    """An array of cells that begin without a value.  ``once``: each is written at most once and never read."""

    def __init__(self, shape: tuple[int, ...], once: bool = False):
        self.shape, self.once = shape, once
        self.cells: dict[tuple[int, ...], object] = {}

    def _at(self, index: object) -> tuple[int, ...]:
        at = index if isinstance(index, tuple) else (index,)
        if len(at) != len(self.shape):
            raise IllFormed(f"{len(at)} indices for an array of rank {len(self.shape)}")
        for i, extent in zip(at, self.shape, strict=True):
            if type(i) is not int or not 0 <= i < extent:
                raise IllFormed(f"index {i} is outside 0..{extent - 1}")
        return at

    def __getitem__(self, index: object) -> object:
        at = self._at(index)
        if at not in self.cells or self.once:
            raise IllFormed("a cell is read before it is written" if not self.once else "the output is read")
        return self.cells[at]

    def __setitem__(self, index: object, value: object) -> None:
        at = self._at(index)
        if self.once and at in self.cells:
            raise IllFormed(f"element {at[0]} of the output is written twice")
        if not isinstance(value, Number):
            raise IllFormed("what is no number is written")
        self.cells[at] = value


class Given(Cells):
    """An input: read only."""

    def __setitem__(self, index: object, value: object) -> None:
        raise IllFormed("an input is written")


class _Stand:
    """The stand-ins for what a kernel imports, over one algebra."""

    def __init__(self, algebra: Fields, rng: random.Random):
        self.algebra, self.rng = algebra, rng

    def number(self, value: Scalar) -> Number:
        return Number(self.algebra, value)

    def given(self, t: Term, values: Sequence[Scalar]) -> object:
        """The argument for an input: a number if it has rank 0, else its flat cells."""
        wrapped = list(values) if t.data[1] == "bool" else [self.number(v) for v in values]
        if not t.args:
            return wrapped[0]
        array = Given((len(wrapped),))
        array.cells = {(i,): v for i, v in enumerate(wrapped)}
        return array

    def names(self) -> dict[str, Any]:
        one, zero = self.algebra.element(1), self.algebra.element(0)
        found: dict[str, Any] = {
            "ZERO": self.number(zero), "ONE": self.number(one), "LOWEST": self.number(EMPTY), "real": self.real,
            "empty": self.empty, "prange": self.prange, "range": range, "min": min, "max": max, "exp": self.exp,
            "sqrt": self.sqrt, "fmax": self.fmax, "rescale": self.rescale, "quotient": self.quotient,
            "__builtins__": {},
        }  # fmt: skip
        return found

    def real(self, x: object) -> Number:
        """An index, or a pair that stands for a quotient of integers."""
        pair = x if isinstance(x, tuple) else (x, 1)
        if len(pair) != 2 or not all(type(c) is int for c in pair):
            raise IllFormed("real of what is no integer")
        return self.number(self.algebra.rational(Fraction(*pair)))

    def empty(self, shape: object, dtype: object) -> Cells:
        extents = shape if isinstance(shape, tuple) else (shape,)
        if dtype != self.real or not all(type(e) is int and e >= 0 for e in extents):
            raise IllFormed(f"scratch of shape {shape}")
        return Cells(extents)

    def prange(self, count: int) -> list[int]:
        order = list(range(count))
        self.rng.shuffle(order)
        return order

    def _apply(self, function: str, *args: object) -> Number:
        if not all(isinstance(x, Number) for x in args):
            raise IllFormed(f"{function} of what is no number")
        return self.number(self.algebra.apply(function, [x.value for x in args if isinstance(x, Number)]))

    def exp(self, x: object) -> Number:
        return self._apply("exp", x)

    def sqrt(self, x: object) -> Number:
        return self._apply("sqrt", x)

    def fmax(self, a: object, b: object) -> Number:
        return self._apply("max", a, b)

    def rescale(self, m: Number, t: Number) -> Number:
        return self.number(self.algebra.element(0)) if m.value is EMPTY else self.exp(m - t)

    def quotient(self, o: Number, l: Number) -> Number:
        return self.number(self.algebra.element(0)) if l.value[0] == 0 else o / l
