"""Terms of the Mathematics of Arrays: immutable, shared, nameless.  Trusted.

Glossary.  A *term* is an operation, its data and its arguments.  ``n, m`` are sizes, ``i, k`` indices, ``A, B``
arrays.  Bound variables are de Bruijn indices (0 is the innermost), so no name is ever compared, sorted or captured.
Equal terms are one object: equality is ``is``.

One table, ``OPS``, says for each operation what its data may be, how many arguments it takes, and how many variables
each argument binds.  Shifting, substitution, matching, paths and the file format are all driven by that table.

Sorts: Index (integers, extents included), Bool, Real, Opt (Empty or a Real: the value of a maximum), State (the
online-softmax monoid), and arrays of the first four.  An array of rank 0 is its only element.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from .errors import CertificateInvalid, IllFormed

Data = Any  # None, a string, an integer, or a nested tuple of these

MAX_NODES: Final = 50_000
MAX_DEPTH: Final = 200
MAX_WEIGHT: Final = 500_000  # nodes of a term when nothing is shared: what walks may have to visit
MAX_INT: Final = 2**53 - 1

MONOIDS: Final = ("add", "mul", "max", "softmax")
REAL_FUNCTIONS: Final = {
    "add": 2, "sub": 2, "mul": 2, "div": 2, "max": 2, "neg": 1, "exp": 1, "sqrt": 1,
}  # fmt: skip
AXES: Final = ("seq", "core", "lane", "grid", "thread")
INPUT_SORTS: Final = ("real", "bool")


# --- the table of operations ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Op:
    """What one operation may look like.

    ``data`` accepts or refuses the node's data given its number of arguments; ``arity`` is exact, or a minimum when
    ``open_ended``; ``binds`` gives the number of variables that each argument binds (the last entry repeats).
    """

    data: Callable[[Data, int], bool]
    arity: int
    binds: tuple[int, ...] = (0,)
    open_ended: bool = False


def _nothing(d: Data, n: int) -> bool:
    return d is None


def _is_int(d: Data) -> bool:
    return type(d) is int and abs(d) <= MAX_INT


def _is_name(d: Data) -> bool:
    return isinstance(d, str) and d.isascii() and d.isidentifier() and len(d) <= 40


def _one_of(names: Iterable[str]) -> Callable[[Data, int], bool]:
    allowed = frozenset(names)
    return lambda d, n: isinstance(d, str) and d in allowed


def _is_fraction(d: Data, n: int) -> bool:
    """A rational as a pair of decimal strings in lowest terms, the denominator positive."""
    if not (isinstance(d, tuple) and len(d) == 2 and all(isinstance(x, str) for x in d)):
        return False
    if not all(len(x) <= 400 and x.lstrip("-").isascii() and x.lstrip("-").isdigit() for x in d):
        return False
    num, den = int(d[0]), int(d[1])
    from math import gcd

    return den > 0 and gcd(num, den) == 1 and (str(num), str(den)) == d


def _is_signs(d: Data, n: int) -> bool:
    return isinstance(d, tuple) and len(d) == n - 1 and all(x in (1, -1) and _is_int(x) for x in d)


def _is_permutation(d: Data, n: int) -> bool:
    return isinstance(d, tuple) and all(map(_is_int, d)) and sorted(d) == list(range(len(d)))


def _is_ranks(d: Data, n: int) -> bool:
    return isinstance(d, tuple) and len(d) == n - 1 and all(_is_int(x) and 0 <= x <= 8 for x in d)


def _is_reduction(d: Data, n: int) -> bool:
    return isinstance(d, tuple) and len(d) == 2 and d[0] in MONOIDS[:3] and _is_int(d[1])


def _is_product(d: Data, n: int) -> bool:
    return isinstance(d, tuple) and len(d) == 2 and d[0] in MONOIDS[:3] and REAL_FUNCTIONS.get(d[1]) == 2


def _is_input(d: Data, n: int) -> bool:
    return isinstance(d, tuple) and len(d) == 2 and _is_name(d[0]) and d[1] in INPUT_SORTS


OPS: Final[dict[str, Op]] = {
    # indices
    "var": Op(lambda d, n: _is_int(d) and d >= 0, 0),
    "int": Op(lambda d, n: _is_int(d), 0),
    "size": Op(lambda d, n: _is_name(d), 0),
    "iadd": Op(_nothing, 2),
    "imul": Op(_nothing, 2),
    "idiv": Op(_nothing, 2),  # floor division by a positive divisor
    "imin": Op(_nothing, 2),
    # truth values
    "true": Op(_nothing, 0),
    "lt": Op(_nothing, 2),
    "and": Op(_nothing, 2),
    "not": Op(_nothing, 1),
    # reals
    "real": Op(_is_fraction, 0),
    "cast": Op(_nothing, 1),  # an index as a real
    "f": Op(lambda d, n: isinstance(d, str) and REAL_FUNCTIONS.get(d) == n, 1, (0,), True),
    # any sort
    "where": Op(_nothing, 3),
    "let": Op(_nothing, 2, (0, 1)),
    "psi": Op(_nothing, 2, (0,), True),  # a full index
    "flat": Op(_nothing, 2),  # an offset into the row-major ravel
    "in": Op(_is_input, 0, (0,), True),  # (name, sort); the arguments are the extents
    "build": Op(_one_of(AXES), 2, (0, 1)),  # extent, element
    "tiles": Op(_one_of(AXES), 4, (0, 0, 0, 1)),  # extent s, count b, tile t, one tile of min(t, s - q*t) rows
    "fold": Op(_one_of(MONOIDS), 3, (0, 1, 1)),  # extent, guard, element
    "state": Op(_nothing, 3),  # (m, l, o): of weight l*e^m and value o*e^m
    "quotient": Op(_nothing, 1),  # o/l of a state; 0 of Empty
    # the MoA operators: definitions over the above (semantics.py)
    "transpose": Op(_is_permutation, 1),
    "reshape": Op(_nothing, 1, (0,), True),  # array, new extents
    "ravel": Op(_nothing, 1),
    "take": Op(_is_signs, 2, (0,), True),  # array, counts along the first axes; a sign -1 takes from the end
    "drop": Op(_is_signs, 2, (0,), True),
    "cat": Op(_nothing, 2),
    "reverse": Op(_nothing, 1),
    "rotate": Op(_nothing, 2),
    "iota": Op(_nothing, 1, (0,), True),
    "rho": Op(_nothing, 1),
    "delta": Op(_nothing, 1),
    "tau": Op(_nothing, 1),
    "lift": Op(lambda d, n: _is_int(d) and d >= 0, 3),  # axis; array, count, tile
    "broadcast": Op(_nothing, 1, (0,), True),  # array, new extents
    "map": Op(lambda d, n: isinstance(d, str) and REAL_FUNCTIONS.get(d) == 1, 1),
    "pointwise": Op(lambda d, n: isinstance(d, str) and REAL_FUNCTIONS.get(d) == 2, 2),
    "omega": Op(_is_ranks, 2, (0,), True),  # ranks; arrays, then a function of their cells
    "reduce": Op(_is_reduction, 1, (0,), True),  # (monoid, axis); array [, visibility]
    "outer": Op(lambda d, n: isinstance(d, str) and REAL_FUNCTIONS.get(d) == 2, 2),
    "inner": Op(_is_product, 2, (0,), True),  # (fold, product); left, right [, visibility of left]
    # the judge's free symbols, and patterns of rules; never in a certificate's terms
    "x": Op(lambda d, n: _is_int(d) and d >= 0, 0),
    "meta": Op(lambda d, n: _is_name(d), 0, (0,), True),
    "dim": Op(lambda d, n: _is_int(d), 1),  # an extent of an array
}
MAX_ARITY: Final = {"reduce": 2, "inner": 3, "omega": 3}
PATTERN_ONLY: Final = frozenset({"x", "meta", "dim"})


def binds_of(op: str, count: int) -> tuple[int, ...]:
    """How many variables each of ``count`` arguments of ``op`` binds."""
    if op == "omega":
        return (0,) * (count - 1) + (count - 1,)
    row = OPS[op].binds
    return (row + (row[-1],) * (count - len(row)))[:count]


# --- terms ---------------------------------------------------------------------------------------


class Term:
    """One shared, immutable node.  Build it with the functions below or with ``Term(op, data, args)``.

    Attributes: ``op``; ``data``; ``args``; ``free``, the number of enclosing binders that it may refer to (0 is
    closed); ``depth``; ``weight``, its nodes when nothing is shared; ``fresh``, a number above those of all free
    symbols ``x`` in it.
    """

    __slots__ = ("__weakref__", "_digest", "args", "data", "depth", "free", "fresh", "op", "weight")
    _pool: ClassVar[weakref.WeakValueDictionary[tuple[Any, ...], Term]] = weakref.WeakValueDictionary()
    op: str
    data: Data
    args: tuple[Term, ...]
    free: int
    depth: int
    fresh: int
    weight: int
    _digest: str | None

    def __new__(cls, op: str, data: Data = None, args: Iterable[Term] = ()) -> Term:
        children = tuple(args)
        key = (op, type(data), data, children)
        found = cls._pool.get(key)
        if found is not None:
            return found
        row = OPS.get(op)
        if row is None:
            raise IllFormed(f"{op!r} is no operation of the language")
        n = len(children)
        if n < row.arity or (not row.open_ended and n != row.arity) or n > MAX_ARITY.get(op, 16):
            raise IllFormed(f"{op} takes {row.arity} arguments, not {n}")
        if not row.data(data, n):
            shown = f"{data!r:.80}" if not isinstance(data, int) or _is_int(data) else "an integer above 2^53"
            raise IllFormed(f"{op} cannot carry {shown}")
        self = object.__new__(cls)
        fill = object.__setattr__
        fill(self, "op", op)
        fill(self, "data", data)
        fill(self, "args", children)
        fill(self, "_digest", None)
        free = data + 1 if op == "var" else 0
        fresh = data + 1 if op == "x" else 0
        depth, weight = 0, 1
        for child, bound in zip(children, binds_of(op, n), strict=True):
            free = max(free, child.free - bound)
            fresh = max(fresh, child.fresh)
            depth = max(depth, child.depth)
            weight += child.weight
        if weight > MAX_WEIGHT:
            raise IllFormed(f"a term of more than {MAX_WEIGHT} nodes")
        if op == "in" and (free or fresh):
            raise IllFormed("the extents of an input depend on sizes alone")
        fill(self, "free", free)
        fill(self, "fresh", fresh)
        fill(self, "weight", weight)
        fill(self, "depth", depth + 1)
        cls._pool[key] = self
        return self

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("terms are immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Term, (self.op, self.data, self.args))

    def __repr__(self) -> str:
        head = self.op if self.data is None else f"{self.op}[{self.data}]"
        return head + (f"({', '.join(map(repr, self.args))})" if self.args else "")

    @property
    def binds(self) -> tuple[int, ...]:
        """How many variables each argument binds."""
        return binds_of(self.op, len(self.args))

    @property
    def digest(self) -> str:
        """SHA-256 of the operation, the data and the arguments' digests."""
        found = self._digest
        if found is None:
            row = [self.op, _to_json(self.data), [a.digest for a in self.args]]
            found = hashlib.sha256(canonical(row)).hexdigest()
            object.__setattr__(self, "_digest", found)
        return found


def canonical(document: Any) -> bytes:
    """The one byte form of a JSON document: RFC 8785 for strings, integers, lists and objects with ASCII keys."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


# --- constructors, spelled as the calculus spells them -------------------------------------------


def Var(k: int) -> Term:
    return Term("var", k)


def Int(c: int) -> Term:
    return Term("int", c)


def Size(name: str) -> Term:
    return Term("size", name)


def Real(numerator: int, denominator: int = 1) -> Term:
    from fractions import Fraction

    q = Fraction(numerator, denominator)
    return Term("real", (str(q.numerator), str(q.denominator)))


ZERO, ONE, TRUE = Int(0), Int(1), Term("true")


def Add(a: Term, b: Term) -> Term:
    return Term("iadd", None, (a, b))


def Mul(a: Term, b: Term) -> Term:
    return Term("imul", None, (a, b))


def Sub(a: Term, b: Term) -> Term:
    return Add(a, Mul(Int(-1), b))


def Div(a: Term, b: Term) -> Term:
    return Term("idiv", None, (a, b))


def Min(a: Term, b: Term) -> Term:
    return Term("imin", None, (a, b))


def Lt(a: Term, b: Term) -> Term:
    return Term("lt", None, (a, b))


def Le(a: Term, b: Term) -> Term:
    return Lt(a, Add(b, ONE))


def And(a: Term, b: Term) -> Term:
    return Term("and", None, (a, b))


def Not(a: Term) -> Term:
    return Term("not", None, (a,))


def In(name: str, *extents: Term, sort: str = "real") -> Term:
    return Term("in", (name, sort), extents)


def F(function: str, *args: Term) -> Term:
    return Term("f", function, args)


def Psi(array: Term, *index: Term) -> Term:
    return Term("psi", None, (array, *index)) if index else array


def Flat(array: Term, offset: Term) -> Term:
    return Term("flat", None, (array, offset))


def Build(extent: Term, element: Term, axis: str = "seq") -> Term:
    return Term("build", axis, (extent, element))


def Tiles(extent: Term, count: Term, tile: Term, body: Term, axis: str = "seq") -> Term:
    return Term("tiles", axis, (extent, count, tile, body))


def Fold(monoid: str, extent: Term, element: Term, guard: Term = TRUE) -> Term:
    return Term("fold", monoid, (extent, guard, element))


def Let(value: Term, body: Term) -> Term:
    return Term("let", None, (value, body))


def Where(condition: Term, yes: Term, no: Term) -> Term:
    return Term("where", None, (condition, yes, no))


def tile_extent(extent: Term, tile: Term, q: Term) -> Term:
    """Rows of tile ``q``: min(t, s - q*t).  The last tile is shorter when t does not divide s."""
    return Min(tile, Sub(extent, Mul(q, tile)))


# --- binding: shift, substitute ------------------------------------------------------------------


def up(t: Term, by: int = 1, cut: int = 0) -> Term:
    """``t`` moved under ``by`` more binders (negative: out of binders that it does not mention)."""
    if by == 0 or t.free <= cut:
        return t
    if t.op == "var":
        if t.data + by < cut:
            raise IllFormed("a variable would leave its binder")
        return Var(t.data + by)
    return Term(t.op, t.data, [up(a, by, cut + n) for a, n in zip(t.args, t.binds, strict=True)])


def instantiate(t: Term, values: Sequence[Term], cut: int = 0) -> Term:
    """Replace variables ``cut .. cut+len(values)-1`` (0 innermost) by values that live outside those binders."""
    if t.free <= cut:
        return t
    if t.op == "var":
        k = t.data - cut
        return up(values[k], cut) if k < len(values) else Var(t.data - len(values))
    return Term(t.op, t.data, [instantiate(a, values, cut + n) for a, n in zip(t.args, t.binds, strict=True)])


def mentions(t: Term, k: int) -> bool:
    """Does ``t`` mention variable ``k``?"""
    if t.free <= k:
        return False
    if t.op == "var":
        return bool(t.data == k)
    return any(mentions(a, k + n) for a, n in zip(t.args, t.binds, strict=True))


def subterms(*roots: Term) -> Iterator[Term]:
    """Every distinct node of the terms, arguments first."""
    seen: set[Term] = set()

    def go(u: Term) -> Iterator[Term]:
        if u not in seen:
            seen.add(u)
            for a in u.args:
                yield from go(a)
            yield u

    for root in roots:
        yield from go(root)


def replace_at(t: Term, path: Sequence[int], new: Term) -> Term:
    """``t`` with the subterm at ``path`` (argument numbers from the root) replaced."""
    if not path:
        return new
    args = list(t.args)
    args[path[0]] = replace_at(args[path[0]], path[1:], new)
    return Term(t.op, t.data, args)


# --- the file form: a shared graph ---------------------------------------------------------------


def _to_json(data: Data) -> Any:
    return [_to_json(x) for x in data] if isinstance(data, tuple) else data


def _from_json(data: Any, level: int = 0) -> Data:
    if isinstance(data, list):
        if level > 2 or len(data) > 32:
            raise CertificateInvalid("terms: data is nested too deep or too long")
        return tuple(_from_json(x, level + 1) for x in data)
    if data is None or isinstance(data, str) or type(data) is int:
        return data
    raise CertificateInvalid(f"terms: {type(data).__name__} is no data of a term")


def dump(roots: Sequence[Term]) -> dict[str, Any]:
    """A JSON graph of the terms; every distinct node once, arguments before their users."""
    number: dict[Term, int] = {}
    rows: list[list[Any]] = []
    for t in subterms(*roots):
        number[t] = len(rows)
        rows.append([t.op, _to_json(t.data), [number[a] for a in t.args]])
    return {"nodes": rows, "roots": [number[r] for r in roots]}


def load(graph: Any) -> list[Term]:
    """The terms of a JSON graph.  Untrusted input: anything unexpected is ``CertificateInvalid``."""
    if not isinstance(graph, dict) or set(graph) != {"nodes", "roots"}:
        raise CertificateInvalid("terms: exactly the fields nodes and roots are expected")
    rows, roots = graph["nodes"], graph["roots"]
    if not isinstance(rows, list) or not isinstance(roots, list) or len(rows) > MAX_NODES or len(roots) > MAX_NODES:
        raise CertificateInvalid(f"terms: nodes and roots are lists of at most {MAX_NODES}")
    done: list[Term] = []
    for at, row in enumerate(rows):
        if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and isinstance(row[2], list)):
            raise CertificateInvalid(f"terms: node {at} is not [operation, data, arguments]")
        op, data, args = row
        if op in PATTERN_ONLY:
            raise CertificateInvalid(f"terms: node {at}: {op} belongs to rules, not to terms")
        if not all(type(k) is int and 0 <= k < at for k in args):
            raise CertificateInvalid(f"terms: node {at} refers to a node that is not before it")
        try:
            t = Term(op, _from_json(data), [done[k] for k in args])
        except (IllFormed, TypeError, ValueError) as e:
            raise CertificateInvalid(f"terms: node {at}: {e}") from None
        if t.depth > MAX_DEPTH:
            raise CertificateInvalid(f"terms: node {at} is nested more than {MAX_DEPTH} deep")
        done.append(t)
    if not all(type(k) is int and 0 <= k < len(done) for k in roots):
        raise CertificateInvalid("terms: a root is no node")
    return [done[k] for k in roots]
