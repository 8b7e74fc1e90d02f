"""What a term means, over any algebra.  Trusted.

``meaning`` is the one semantic function: the scalar of a term at a full index, with one clause for each node of the
core.  An *algebra* says what indices, truth values and reals are: Python numbers (``Numbers``), a pair of finite
fields (``Fields``), or free symbols (``kernel.free``), over which the same function is the symbolic meaning.

Fixed here: a fold goes in increasing order of the index from the identity and skips what the guard excludes; the
maximum of nothing is Empty; a softmax state is Empty or (m, l, o); a quotient of Empty is 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any, Protocol

from .errors import IllFormed
from .operators import MOA, Context, Index, Value, definition, typeof
from .term import Term

Scalar = Any
MAX_CELLS = 1_000_000  # the budget of an evaluation whose terms are untrusted
EMPTY: None = None  # the maximum of nothing, and the state of no keys


class Algebra(Protocol):
    """The interpretation of scalars.  ``fold`` gets the guard and the element as functions of the index.

    ``cells`` keeps the cells of closed arrays, for algebras whose scalars are values; None where they are terms.
    """

    @property
    def cells(self) -> dict[tuple[Term, tuple[Scalar, ...]], Scalar] | None: ...
    def integer(self, value: int) -> Scalar: ...
    def size(self, name: str) -> Scalar: ...
    def index(self, op: str, a: Scalar, b: Scalar) -> Scalar: ...
    def symbol(self, x: Term) -> Scalar: ...
    def true(self) -> Scalar: ...
    def lt(self, a: Scalar, b: Scalar) -> Scalar: ...
    def both(self, a: Scalar, b: Callable[[], Scalar]) -> Scalar: ...
    def negate(self, a: Scalar) -> Scalar: ...
    def rational(self, value: Fraction) -> Scalar: ...
    def cast(self, index: Scalar) -> Scalar: ...
    def apply(self, function: str, args: Sequence[Scalar]) -> Scalar: ...
    def where(self, c: Scalar, yes: Callable[[], Scalar], no: Callable[[], Scalar]) -> Scalar: ...
    def read(self, name: str, sort: str, offset: Scalar, total: Scalar) -> Scalar: ...
    def within(self, index: tuple[Scalar, ...], shape: Callable[[], tuple[Scalar, ...]]) -> None: ...
    def fold(
        self, monoid: str, extent: Scalar, guard: Callable[[Scalar], Scalar], element: Callable[[Scalar], Scalar]
    ) -> Scalar: ...
    def state(self, m: Scalar, l: Scalar, o: Scalar) -> Scalar: ...
    def quotient(self, state: Scalar) -> Scalar: ...


class Bound:
    """A variable that means its definition; cells already evaluated are kept."""

    def __init__(self, term: Term, ctx: Context, env: Env, algebra: Algebra):
        self.term, self.ctx, self.env, self.algebra = term, ctx, env, algebra
        self.cells: dict[tuple[Scalar, ...], Scalar] = {}

    def cell(self, index: tuple[Scalar, ...]) -> Scalar:
        if index not in self.cells:
            self.cells[index] = meaning(self.term, index, self.ctx, self.env, self.algebra)
        return self.cells[index]


Env = tuple[Any, ...]  # a scalar index for each Index entry of the context, a Bound for each Value


def environment(ctx: Context, indices: Sequence[Scalar], algebra: Algebra) -> Env:
    """Values for a context, given one scalar for each of its Index entries, outermost first."""
    env: Env = ()
    given = iter(indices)
    for depth, entry in enumerate(ctx):
        env += (next(given) if isinstance(entry, Index) else Bound(entry.term, ctx[:depth], env, algebra),)
    return env


def meaning(t: Term, at: tuple[Scalar, ...], ctx: Context, env: Env, algebra: Algebra) -> Scalar:
    """The scalar of ``t`` at the full index ``at`` (of a state: its value part at ``at``)."""
    if (
        at and not t.free and algebra.cells is not None
    ):  # a cell of a closed array is the same wherever the array stands
        if (t, at) not in algebra.cells:
            algebra.cells[t, at] = _meaning(t, at, (), (), algebra)
        return algebra.cells[t, at]
    return _meaning(t, at, ctx, env, algebra)


def _meaning(  # noqa: C901  one clause a node
    t: Term, at: tuple[Scalar, ...], ctx: Context, env: Env, algebra: Algebra
) -> Scalar:
    A, a = algebra, t.args

    def here(u: Term, i: tuple[Scalar, ...] = ()) -> Scalar:
        return meaning(u, i, ctx, env, A)

    match t.op:
        case "var":
            found = env[-1 - t.data]
            return found.cell(at) if isinstance(found, Bound) else found
        case "int":
            return A.integer(t.data)
        case "size":
            return A.size(t.data)
        case "iadd" | "imul" | "idiv" | "imin":
            return A.index(t.op, here(a[0]), here(a[1]))
        case "true":
            return A.true()
        case "lt":
            return A.lt(here(a[0]), here(a[1]))
        case "and":
            return A.both(here(a[0]), lambda: here(a[1]))
        case "not":
            return A.negate(here(a[0]))
        case "real":
            return A.rational(Fraction(int(t.data[0]), int(t.data[1])))
        case "x":
            return A.symbol(t)
        case "cast":
            return A.cast(here(a[0]))
        case "f":
            return A.apply(t.data, [here(x) for x in a])
        case "where":
            return A.where(here(a[0]), lambda: here(a[1], at), lambda: here(a[2], at))
        case "let":
            return meaning(a[1], at, (*ctx, Value(a[0])), (*env, Bound(a[0], ctx, env, A)), A)
        case "psi":
            index = tuple(here(x) for x in a[1:])
            A.within(index, lambda: tuple(here(s) for s in typeof(a[0], ctx).shape))
            return here(a[0], index)
        case "flat":
            offset = here(a[1])
            if a[0].op == "in":
                name, sort = a[0].data
                return A.read(name, sort, offset, _total(a[0], A))
            shape = [here(s) for s in typeof(a[0], ctx).shape]
            return here(a[0], _unflatten(offset, shape, A))
        case "in":
            offset = A.integer(0)
            for k, (i, s) in enumerate(zip(at, a, strict=True)):
                extent = meaning(s, (), (), (), A)
                offset = i if k == 0 else A.index("iadd", A.index("imul", offset, extent), i)
            name, sort = t.data
            return A.read(name, sort, offset, _total(t, A))
        case "build":
            return meaning(a[1], at[1:], (*ctx, Index(a[0])), (*env, at[0]), A)
        case "tiles":
            tile = here(a[2])
            q = A.index("idiv", at[0], tile)
            row = A.index("iadd", at[0], A.index("imul", A.integer(-1), A.index("imul", q, tile)))
            return meaning(a[3], (row, *at[1:]), (*ctx, Index(a[1])), (*env, q), A)
        case "fold":
            inside = (*ctx, Index(a[0]))
            return A.fold(
                t.data,
                here(a[0]),
                lambda k: meaning(a[1], (), inside, (*env, k), A),
                lambda k: meaning(a[2], at, inside, (*env, k), A),
            )
        case "state":
            return A.state(here(a[0]), here(a[1]), here(a[2], at))
        case "quotient":
            return A.quotient(here(a[0], at))
    if t.op in MOA:
        return here(definition(t, ctx), at)
    raise IllFormed(f"{t.op} has no meaning")


def _total(t: Term, A: Algebra) -> Scalar:
    extents = [meaning(s, (), (), (), A) for s in t.args]
    return reduce(lambda x, y: A.index("imul", x, y), extents, A.integer(1))


def _unflatten(offset: Scalar, shape: Sequence[Scalar], A: Algebra) -> tuple[Scalar, ...]:
    """gamma_inverse on values: floor divisions from the right."""
    index: list[Scalar] = []
    for s in reversed(shape[1:]):
        q = A.index("idiv", offset, s)
        index.append(A.index("iadd", offset, A.index("imul", A.integer(-1), A.index("imul", q, s))))
        offset = q
    return (offset, *reversed(index))


# --- algebras of values --------------------------------------------------------------------------


class Concrete(ABC):
    """What the algebras of values share: integers are Python's, a fold is a loop, reads are checked.

    ``sizes`` maps names to integers; ``inputs`` maps names to flat row-major sequences (a rank-0 input to a
    sequence of one element).
    """

    def __init__(self, sizes: Mapping[str, int], inputs: Mapping[str, Sequence[Scalar]]):
        self.sizes, self.inputs = sizes, inputs
        self.cells: dict[tuple[Term, tuple[Scalar, ...]], Scalar] | None = {}
        self.budget = math.inf  # elements of folds and results that may still be evaluated

    def spend(self, elements: int) -> None:
        """Count elements against the budget; ``IllFormed`` when it is used up."""
        self.budget -= max(elements, 0)
        if self.budget < 0:
            raise IllFormed("too many elements to evaluate")

    def integer(self, value: int) -> int:
        return value

    def size(self, name: str) -> int:
        return self.sizes[name]

    def index(self, op: str, a: int, b: int) -> int:
        match op:
            case "iadd":
                return a + b
            case "imul":
                return a * b
            case "imin":
                return min(a, b)
        if b <= 0:
            raise IllFormed("floor division by a divisor that is not positive")
        return a // b

    def symbol(self, x: Term) -> int:
        return self.sizes[f"x{x.data}'"]

    def true(self) -> bool:
        return True

    def lt(self, a: int, b: int) -> bool:
        return a < b

    def both(self, a: bool, b: Callable[[], bool]) -> bool:
        return a and b()

    def negate(self, a: bool) -> bool:
        return not a

    def where(self, c: bool, yes: Callable[[], Scalar], no: Callable[[], Scalar]) -> Scalar:
        return yes() if c else no()

    def read(self, name: str, sort: str, offset: int, total: int) -> Scalar:
        if not 0 <= offset < total:
            raise IllFormed(f"{name}: offset {offset} is outside 0..{total - 1}")
        return self.inputs[name][offset]

    def within(self, index: tuple[int, ...], shape: Callable[[], tuple[int, ...]]) -> None:
        for i, extent in zip(index, shape(), strict=True):
            if not 0 <= i < extent:
                raise IllFormed(f"index {i} is outside 0..{extent - 1}")

    def fold(self, monoid: str, extent: int, guard: Callable[[int], bool], element: Callable[[int], Scalar]) -> Scalar:
        self.spend(extent)
        total = self.identity(monoid)
        for k in range(extent):
            if guard(k):
                total = self.combine(monoid, total, element(k))
        return total

    def identity(self, monoid: str) -> Scalar:
        return {"add": self.rational(Fraction(0)), "mul": self.rational(Fraction(1))}.get(monoid, EMPTY)

    def combine(self, monoid: str, x: Scalar, y: Scalar) -> Scalar:
        return self.merge(x, y) if monoid == "softmax" else self.apply(monoid, (x, y))

    def apply(self, function: str, args: Sequence[Scalar]) -> Scalar:
        """Empty is the identity of ``max``; any other function of Empty is undefined."""
        if function == "max" and EMPTY in args:
            return args[1] if args[0] is EMPTY else args[0]
        if EMPTY in args:
            raise IllFormed(f"{function} of the maximum of nothing")
        return self.function(function, args)

    def merge(self, s: Scalar, t: Scalar) -> Scalar:
        """(m, l, o) + (m', l', o') = (M, l e^(m-M) + l' e^(m'-M), o e^(m-M) + o' e^(m'-M)), M the greater of m, m'."""
        if s is EMPTY or t is EMPTY:
            return t if s is EMPTY else s
        f = self.apply
        top = f("max", (s[0], t[0]))
        a, b = (f("exp", (f("sub", (x[0], top)),)) for x in (s, t))
        sums = [f("add", (f("mul", (s[k], a)), f("mul", (t[k], b)))) for k in (1, 2)]
        return (top, *sums)

    def state(self, m: Scalar, l: Scalar, o: Scalar) -> Scalar:
        return EMPTY if m is EMPTY else (m, l, o)

    def quotient(self, state: Scalar) -> Scalar:
        return self.rational(Fraction(0)) if state is EMPTY else self.apply("div", (state[2], state[1]))

    @abstractmethod
    def rational(self, value: Fraction) -> Scalar: ...

    def cast(self, index: int) -> Scalar:
        return self.rational(Fraction(index))

    @abstractmethod
    def function(self, name: str, args: Sequence[Scalar]) -> Scalar: ...


class Numbers(Concrete):
    """Float64, by Python's own operations: the reference in the order of the term."""

    def rational(self, value: Fraction) -> float:
        return float(value)

    def function(self, name: str, args: Sequence[float]) -> float:
        return _FLOAT[name](*args)


_FLOAT: dict[str, Callable[..., float]] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y, "div": lambda x, y: x / y,
    "max": max, "neg": lambda x: -x, "exp": math.exp, "sqrt": math.sqrt,
}  # fmt: skip


class Fields(Concrete):
    """Exact algebra: pairs (value mod p, value mod q) with primes q | p-1, and exp(x) = w^x.

    So exp(a+b) = exp(a) exp(b) holds exactly.  A result of exp has no residue mod q: it may not be an exponent.
    ``sqrt`` is an arbitrary but fixed function of its argument, and so is ``max`` of its two when a seed is given: the
    algebra must not care which.  Without a seed ``max`` is the greater residue, a total order.
    """

    Q = 1_000_003
    P = 36 * Q + 1
    W = pow(2, 36, P)  # of order Q

    def __init__(self, sizes: Mapping[str, int], inputs: Mapping[str, Sequence[Scalar]], seed: int | None = None):
        super().__init__(sizes, inputs)
        self.seed = seed

    def element(self, value: int) -> tuple[int, int | None]:
        return value % self.P, value % self.Q

    @staticmethod
    def same(x: Scalar, y: Scalar) -> bool:
        """Equal mod p, and mod q where both have that residue."""
        return bool(x[0] == y[0] and (None in (x[1], y[1]) or x[1] == y[1]))

    def rational(self, value: Fraction) -> Scalar:
        n, d = value.numerator, value.denominator
        if d % self.P == 0:
            raise ZeroDivisionError("a constant has no value in this field")
        return n * pow(d, -1, self.P) % self.P, self._divide(n, d % self.Q)

    def function(self, name: str, args: Sequence[Scalar]) -> Scalar:
        match name:
            case "exp":
                if args[0][1] is None:
                    raise IllFormed("an exponential stands in an exponent")
                return pow(self.W, args[0][1], self.P), None
            case "div":
                if args[1][0] == 0:
                    raise ZeroDivisionError("a divisor is 0 in this field")
                return args[0][0] * pow(args[1][0], -1, self.P) % self.P, self._divide(args[0][1], args[1][1])
            case "max":
                return max(args, key=lambda x: x[0]) if self.seed is None else args[self._mix(*args) & 1]
            case "sqrt":
                root = 1 + self._mix(args[0]) % (self.Q - 1)
                return root, root
            case "neg":
                return self._both(lambda x: -x, args)
        act = {"add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y}[name]
        return self._both(act, args)

    def _divide(self, x: int | None, y: int | None) -> int | None:
        return None if x is None or not y else x * pow(y, -1, self.Q) % self.Q

    def _both(self, act: Callable[..., int], args: Sequence[Scalar]) -> Scalar:
        second = None if any(x[1] is None for x in args) else act(*(x[1] for x in args)) % self.Q
        return act(*(x[0] for x in args)) % self.P, second

    def _mix(self, *args: Scalar) -> int:
        """A fixed function of the seed and the arguments mod p (never of the residue mod q, which may be absent)."""
        h = (self.seed or 0) + 0x9E3779B9
        for x in args:
            h = (h ^ x[0]) * 0x01000193 % 2**61
            h ^= h >> 17
        return h >> 5


def evaluate(t: Term, algebra: Concrete) -> tuple[tuple[int, ...], list[Scalar]]:
    """All elements of a closed term: its shape and its row-major ravel, in an algebra of values."""
    shape = tuple(meaning(s, (), (), (), algebra) for s in typeof(t).shape)
    total = math.prod(shape)
    algebra.spend(total)
    cells = [meaning(t, _unflatten(x, shape, algebra) if shape else (), (), (), algebra) for x in range(total)]
    return shape, cells
