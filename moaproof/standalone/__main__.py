"""A checker of certificates that stands alone.

    python -I -S moaproof/standalone certs/NAME.json [more ..]

It needs CPython 3.11 or newer and nothing that is installed.  It is a second writing: it shares no line with the rest
of moaproof, and knows no rule.  From top to bottom: terms, polynomials, sorts and shapes, operators, meaning,
questions, witnesses, definedness, equality in every bit, equality over the reals, certificates, claims, replay.

Exit codes: 0 accepted; 1 refuted; 2 usage, no file, or no certificate of a known schema; 3 something is not proved;
4 a digest, a witness or a term of the chain is not what it is said to be.  Of several the first of 4, 1, 2, 3.

Proved means claim (b): for all sizes under the hypotheses, and finite inputs, the ONF is defined and has the value of
the Spec.  Not looked at here:
- (a) that the Spec is the traced function (the trace in the certificate is not read);
- that a step is an instance of the rule that it names (names, parameters and the rulebook's digest are labels);
- (c) the texts of the kernels, their digests, and whether they are the ONF; offsets' width, races, launchers;
- (d) compilers and hardware; rounding, error bounds, overflow of exp, and the real inequalities of softmax;
- evaluation at random points, SymPy's answers, and any solver's;
- that the sizes which satisfy the hypotheses are distinct and at least 2 where these allow it.
Extents and counts that are computed by more than arithmetic are not covered: they are "not proved".

Letters: t u terms, x free indices, i at index tuples, s z shapes, p q polynomials, m l o a softmax state.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache, partial, reduce
from typing import Any

REFUTED, MALFORMED, UNPROVED, TAMPERED = 1, 2, 3, 4


class Refusal(Exception):
    """Why a certificate is not accepted: the code that the process answers; the place, then the reason."""


def need(condition: object, why: str, code: int = MALFORMED) -> None:
    if not condition:
        raise Refusal(code, why)


# === Terms ================================================================================================
# A node is an operation, its data and its arguments; equal nodes are one object.  Bound variables are nameless:
# ``var k`` is the k-th binder outwards.  ``x k`` is a free index of the checker's own, never in a certificate.

LARGEST, MOST_ARGUMENTS = 2**53 - 1, 16
HEAVIEST = 500_000  # nodes of a term when nothing is shared
BUDGET = 1_000_000, 200_000  # terms that the check of one certificate may make, and products that it may expand
MACHINE = ("core", "lane", "grid", "thread")  # what an axis may be bound to
SCALAR = {"add": 2, "sub": 2, "mul": 2, "div": 2, "max": 2, "neg": 1, "exp": 1, "sqrt": 1}
FOLDS = ("add", "mul", "max", "softmax")
BINDERS = {"let": (0, 1), "build": (0, 1), "tiles": (0, 0, 0, 1), "fold": (0, 1, 1)}  # variables that arguments bind
Check = Callable[[Any, int], bool]  # of a node's data, given the number of its arguments


def is_int(d: Any) -> bool:
    return type(d) is int and abs(d) <= LARGEST


def is_name(d: Any) -> bool:
    return isinstance(d, str) and d.isascii() and d.isidentifier() and len(d) <= 40


def _ints(d: Any, count: int) -> bool:
    return isinstance(d, tuple) and len(d) == count and all(map(is_int, d))


def _is_fraction(d: Any) -> bool:
    """Two decimal numerals, in lowest terms, the denominator positive."""
    good = isinstance(d, tuple) and len(d) == 2 and all(isinstance(x, str) and len(x) <= 400 for x in d)
    good = good and all(x.isascii() and x.removeprefix("-").isdigit() for x in d) and int(d[1]) != 0
    return good and real(Fraction(*map(int, d))).data == d


def _pair(first: Callable[[Any], bool], second: Callable[[Any], bool]) -> Check:
    return lambda d, n: isinstance(d, tuple) and len(d) == 2 and first(d[0]) and second(d[1])


def _rows(names: str, least: int, most: int, good: Check = lambda d, n: d is None) -> dict[str, tuple[int, int, Check]]:
    return dict.fromkeys(names.split(), (least, most, good))


_axis: Check = lambda d, n: d in ("seq", *MACHINE)  # noqa: E731
_natural: Check = lambda d, n: is_int(d) and d >= 0  # noqa: E731
_function: Check = lambda d, n: isinstance(d, str) and SCALAR.get(d) == n  # noqa: E731

# operation: the fewest and the most arguments, and what its data may be
OPERATIONS: dict[str, tuple[int, int, Check]] = {
    **_rows("true", 0, 0), **_rows("not cast quotient ravel reverse rho delta tau", 1, 1),
    **_rows("iadd imul idiv imin lt and let flat cat rotate", 2, 2), **_rows("where state", 3, 3),
    **_rows("psi", 2, MOST_ARGUMENTS), **_rows("reshape iota broadcast", 1, MOST_ARGUMENTS),
    **_rows("var", 0, 0, _natural), **_rows("int", 0, 0, lambda d, n: is_int(d)),
    **_rows("size", 0, 0, lambda d, n: is_name(d)), **_rows("real", 0, 0, lambda d, n: _is_fraction(d)),
    **_rows("f", 1, 2, _function), **_rows("map", 1, 1, _function), **_rows("pointwise outer", 2, 2, _function),
    **_rows("in", 0, MOST_ARGUMENTS, _pair(is_name, lambda d: d in ("real", "bool"))),
    **_rows("lift", 3, 3, _natural), **_rows("build", 2, 2, _axis), **_rows("tiles", 4, 4, _axis),
    **_rows("fold", 3, 3, lambda d, n: d in FOLDS), **_rows("reduce", 1, 2, _pair(lambda d: d in FOLDS[:3], is_int)),
    **_rows("transpose", 1, 1, lambda d, n: isinstance(d, tuple) and _ints(d, len(d)) and {*d} == {*range(len(d))}),
    **_rows("take drop", 2, MOST_ARGUMENTS, lambda d, n: _ints(d, n - 1) and {*d} <= {1, -1}),
    **_rows("omega", 2, 3, lambda d, n: _ints(d, n - 1) and all(0 <= r <= 8 for r in d)),
    **_rows("inner", 2, 3, _pair(lambda d: d in FOLDS[:3], lambda d: _function(d, 2))),
}  # fmt: skip


def binds(t: Term) -> tuple[int, ...]:
    """How many variables each argument binds.  The function of ``omega`` binds one for each array before it."""
    n = len(t.args)
    return (0,) * (n - 1) + (n - 1,) if t.op == "omega" else BINDERS.get(t.op) or (0,) * n


class Term:
    """One node, made by ``make`` alone.

    ``free``: how many enclosing binders it may refer to.  ``fresh``: above the number of every free index in it.
    ``serial``: its number, in the order of making.  ``weight``: its nodes when nothing is shared.
    """

    __slots__ = ("args", "data", "depth", "free", "fresh", "op", "serial", "weight")

    def __init__(self, op: str, data: Any, args: tuple[Term, ...]):
        self.op, self.data, self.args, self.serial = op, data, args, len(_made)
        self.free = data + 1 if op == "var" else 0
        self.fresh = data + 1 if op == "x" else 0
        self.depth = self.weight = 1
        for a, n in zip(args, binds(self), strict=True):
            self.free, self.fresh = max(self.free, a.free - n), max(self.fresh, a.fresh)
            self.depth, self.weight = max(self.depth, a.depth + 1), self.weight + a.weight
        need(self.weight <= HEAVIEST, f"a term of more than {HEAVIEST} nodes")
        spend(0, 1)


_made: dict[tuple[str, Any, tuple[Term, ...]], Term] = {}
_left = [*BUDGET]


def spend(which: int, work: int) -> None:
    _left[which] -= work
    need(_left[which] >= 0, "more work than one check may do", UNPROVED)


def make(op: str, data: Any = None, args: tuple[Term, ...] = ()) -> Term:
    """The node; the same object for the same operation, data and arguments."""
    key = (op, data, args)
    if key not in _made:
        _made[key] = Term(op, data, args)
    return _made[key]


def admit(op: Any, data: Any, args: tuple[Term, ...]) -> Term:
    """A node of a certificate: what the table allows."""
    need(isinstance(op, str) and op in OPERATIONS, f"{op!a:.40} is no operation")
    fewest, most, good = OPERATIONS[op]
    need(fewest <= len(args) <= most and good(data, len(args)), f"{op} of {len(args)} arguments with {data!a:.60}")
    t = make(op, data, args)
    need(op != "in" or not t.free, "the extents of an input depend on sizes alone")
    return t


def encoded(document: Any) -> bytes:
    """Canonical JSON: sorted keys, no white space."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@cache
def digest(t: Term) -> str:
    """The SHA-256 of [operation, data, [digests of the arguments]]."""
    data = b"null" if t.data is None else encoded(t.data)
    return sha256(b'["%b",%b,[%b]]' % (t.op.encode(), data, ",".join([f'"{digest(a)}"' for a in t.args]).encode()))


def subterms(*roots: Term) -> set[Term]:
    """All nodes of the terms."""
    found, todo = set[Term](), list(roots)
    while todo:
        t = todo.pop()
        if t not in found:
            found.add(t)
            todo.extend(t.args)
    return found


@cache
def leaves(t: Term) -> frozenset[Term]:
    """The sizes and free indices in ``t``."""
    return frozenset((t,)) if t.op in ("size", "x") else frozenset().union(*map(leaves, t.args))


def rewritten(t: Term, change: Callable[[Term, int], Term | None]) -> Term:
    """``t`` with each node, under so many binders, changed; where the change is None, its arguments are looked at."""
    seen: dict[tuple[Term, int], Term] = {}

    def go(u: Term, level: int) -> Term:
        new = change(u, level)
        if new is None and (u, level) not in seen:
            args = [go(a, level + n) for a, n in zip(u.args, binds(u), strict=True)]
            seen[u, level] = make(u.op, u.data, tuple(args))
        return new or seen[u, level]

    return go(t, 0)


@cache
def bind(t: Term, *xs: Term) -> Term:
    """Free indices become variables, the last of them the innermost."""
    need(not t.free, "a variable is open where an index is bound")
    least, last = min(x.data for x in xs), len(xs) - 1
    place = {x: last - k for k, x in enumerate(xs)}
    return rewritten(t, lambda u, n: u if u.fresh <= least else make("var", n + place[u]) if u in place else None)


@cache
def unbind(t: Term, x: Term) -> Term:
    """The body of a binder, all outer ones of which have been entered, at an index."""
    need(t.free <= 1 and not x.free, "a variable is open where a binder is entered")
    return rewritten(t, lambda u, n: u if u.free <= n else x if u.op == "var" else None)


def _pair_of(op: str) -> Callable[[Term, Term], Term]:
    return lambda a, b: make(op, None, (a, b))


index, number, size = (partial(make, op) for op in ("x", "int", "size"))
add, mul, less = map(_pair_of, ("iadd", "imul", "lt"))


def sub(a: Term, b: Term) -> Term:
    return add(a, mul(number(-1), b))


def at_most(a: Term, b: Term) -> Term:
    return less(a, add(b, ONE))


def negated(a: Term) -> Term:
    return make("not", None, (a,))


def where(c: Term, yes: Term, no: Term) -> Term:
    return make("where", None, (c, yes, no))


def f(name: str, *args: Term) -> Term:
    return make("f", name, args)


ZERO, ONE, TRUE, FALSE = number(0), number(1), make("true"), negated(make("true"))
INDEX_SORTED = frozenset(("int", "size", "x", "iadd", "imul", "idiv", "imin"))
TRUTHS = frozenset(("true", "lt", "and", "not"))
Index = tuple[Term, ...]  # of index expressions: a full index, or a shape


def product(extents: Iterable[Term]) -> Term:
    return reduce(lambda a, b: b if a is ONE else mul(a, b), extents, ONE)


def gamma(at: Index, extents: Index) -> Term:
    """The row-major offset of an index, by Horner's rule."""
    pairs = zip(at[1:], extents[1:], strict=True)
    return reduce(lambda offset, i: add(mul(offset, i[1]), i[0]), pairs, at[0] if at else ZERO)


def tile_and_row(i: Term, tile: Term) -> tuple[Term, Term]:
    """i = q*tile + row."""
    q = make("idiv", None, (i, tile))
    return q, sub(i, mul(q, tile))


def within(i: Term, extent: Term) -> Index:
    """0 <= i < extent."""
    return less(number(-1), i), less(i, extent)


@cache
def conjuncts(c: Term) -> Index:
    parts = (c,) if c.op != "and" else conjuncts(c.args[0]) + conjuncts(c.args[1])
    return tuple(dict.fromkeys(u for u in parts if u is not TRUE))


# === Polynomials ==========================================================================================
# A sum of products: atoms, with repetition in the order of their digests -> coefficient.  An index expression is one
# with integer coefficients over sizes, indices, minima and quotients; equal polynomials are equal for all values.
# The spelling of a polynomial as a term is fixed, because the names of atoms in a question depend on it.

Polynomial = dict[Index, int]


def plus(p: dict[Any, Any], q: dict[Any, Any], times: int = 1) -> dict[Any, Any]:
    """p + times*q."""
    out = dict(p)
    for m, c in q.items():
        out[m] = out.get(m, 0) + times * c
    return {m: c for m, c in out.items() if c}


def times(p: dict[Any, Any], q: dict[Any, Any], join: Callable[[Any, Any], Any]) -> dict[Any, Any]:
    """p*q, where ``join`` multiplies monomials."""
    spend(1, len(p) * len(q))
    out: dict[Any, Any] = {}
    for m, c in p.items():
        for n, d in q.items():
            key = join(m, n)
            out[key] = out.get(key, 0) + c * d
    return {m: c for m, c in out.items() if c}


def _join(m: Index, n: Index) -> Index:
    need(len(m) + len(n) <= 40, "an index expression of a degree above 40", UNPROVED)
    return tuple(sorted(m + n, key=digest)) if m and n else m or n


@cache
def normal(t: Term) -> Term:
    """The term of an index term's polynomial."""
    return spelled(polynomial(t))


@cache
def polynomial(t: Term) -> Polynomial:
    """The polynomial of an index term; not to be changed."""
    return ARITHMETIC[t.op](*t.args) if t.op in ARITHMETIC else {(t,): 1} if t.op != "int" else plus({}, {(): t.data})


def _minimum(a: Term, b: Term) -> Polynomial:
    a, b = sorted((normal(a), normal(b)), key=digest)
    return polynomial(a) if a is b else {(make("imin", None, (a, b)),): 1}


ARITHMETIC: dict[str, Callable[[Term, Term], Polynomial]] = {
    "iadd": lambda a, b: plus(polynomial(a), polynomial(b)), "imin": _minimum,
    "imul": lambda a, b: times(polynomial(a), polynomial(b), _join), "idiv": lambda a, b: _floor(polynomial(a), b),
}  # fmt: skip


def _floor(p: Polynomial, b: Term) -> Polynomial:
    """floor(p/b).  What a positive monomial b divides leaves the floor: floor(b*x + r over b) = x + floor(r/b)."""
    b, whole, rest = normal(b), Polynomial(), dict(p)
    ((atoms, c), *others) = polynomial(b).items() or [((), 0)]
    if c > 0 and not others:
        for m, d in p.items():
            left = list(m)
            if d % c == 0 and all(a in left and not left.remove(a) for a in atoms):  # type: ignore[func-returns-value]
                whole = plus(whole, {tuple(left): d // c})
                del rest[m]
    return plus(whole, {(make("idiv", None, (spelled(rest), b)),): 1}) if rest else whole


def spelled(p: Polynomial) -> Term:
    """Monomials in the order of their atoms' digests and powers; in each the coefficient first, unless it is 1."""
    rows = []
    for m, c in sorted(p.items(), key=lambda row: [(digest(a), row[0].count(a)) for a in dict.fromkeys(row[0])]):
        rows.append(reduce(mul, [*([] if c == 1 and m else [number(c)]), *m]))
    return reduce(add, rows) if rows else ZERO


def same_index(a: Term, b: Term) -> bool:
    """Equal for all values of the variables: True is a proof, False says nothing."""
    return a is b or polynomial(a) == polynomial(b)


def agree(s: Index, z: Index) -> bool:
    return len(s) == len(z) and all(map(same_index, s, z))


# === Sorts and shapes =====================================================================================
# An *environment* gives each open variable, outermost first, an index expression or a *thunk*: a term in its own
# environment, perhaps with its first indices fixed.  Nothing is ever shifted: extents are meanings, and an operator of
# the calculus is a core term in an environment that holds its arguments and their extents.
#
# Sorts: index, bool, real, opt (Empty or a real: the value of a maximum), state (of online softmax).


class Thunk:
    """A variable's definition.  ``owed``: a let's, all of whose cells are proved to be defined where it is bound."""

    def __init__(self, term: Term, env: Env, at: Index = (), owed: bool = False):
        self.term, self.env, self.at, self.owed, self.fresh = term, env, at, owed, fresh_above(env, at)


thunk = cache(Thunk)
Env = tuple["Term | Thunk", ...]
Kind = tuple[str, Index]  # sort and shape
INDEX, BOOL, REAL, OPT = ("index", ()), ("bool", ()), ("real", ()), ("opt", ())


def fresh_above(env: Env, at: Index = ()) -> int:
    """A number for a free index that is not in use."""
    return max([e.fresh for e in (*env, *at)], default=0)


def seen_by(t: Term, env: Env) -> Env:
    """The part of an environment that the term can mention."""
    need(t.free <= len(env), "a variable is not bound")
    return env[len(env) - t.free :]


def named(t: Term, env: Env) -> Env:
    """The environment of a let's body."""
    return (*env, thunk(t, seen_by(t, env), owed=True))


def extent(t: Term, env: Env) -> Term:
    """The value of an extent or count, which must be arithmetic: of other terms a value does not say all they owe."""
    good = kind(t, env) == INDEX and all(u.op in INDEX_SORTED or u.op == "var" for u in subterms(t))
    bound = [env[~u.data] for u in subterms(t) if good and u.op == "var"]
    good = good and all(isinstance(e, Term) or e.owed for e in bound)
    need(good, "an extent or count is more than arithmetic of indices", UNPROVED)
    return value(t, env)


def kind(t: Term, env: Env) -> Kind:
    """Sort and shape, if the term has them."""
    return _kind(t, seen_by(t, env))


# the kind of the arguments, and of the node, where all are scalars
PLAIN: dict[str, tuple[Kind, Kind]] = {
    **dict.fromkeys(INDEX_SORTED, (INDEX, INDEX)), **dict.fromkeys(("true", "lt"), (INDEX, BOOL)),
    **dict.fromkeys(("and", "not"), (BOOL, BOOL)), "cast": (INDEX, REAL), "real": (INDEX, REAL),
}  # fmt: skip


FOLDED = {"softmax": ("state", {"state"}), "max": ("opt", {"real", "opt"})}  # sorts of a fold, and of its element


@cache
def _kind(t: Term, env: Env) -> Kind:
    a, op = t.args, t.op
    if op == "var":
        e = env[0]
        sort, shape = INDEX if isinstance(e, Term) else kind(e.term, e.env)
        return sort, shape if isinstance(e, Term) else shape[len(e.at) :]
    if op in OPERATORS or op == "call":
        return kind(*unfolded(t, env))
    if op == "let":
        kind(a[0], env)
        return kind(a[1], named(a[0], env))
    good, found = (_kind_of_loop if op in ("build", "tiles", "fold") else _kind_of_node)(t, env)
    need(good, f"{op}: arguments of other sorts or shapes are due")
    return found


def _kind_of_node(t: Term, env: Env) -> tuple[object, Kind]:
    """The kind, and whether the arguments are as they should be."""
    k = [kind(u, env) for u in t.args]
    match t.op, k:
        case "in", _:
            return all(e == INDEX for e in k), (t.data[1], tuple(value(u, ()) for u in t.args))
        case "f", _:
            return {*k} <= {REAL, OPT}, OPT if t.data == "max" and {*k} == {OPT} else REAL
        case "where", [c, yes, no]:
            good = c == BOOL and not yes[1] and (yes == no or {yes, no} == {REAL, OPT})
            return good, yes if yes == no else OPT
        case "psi" | "flat", [(sort, shape), *at]:
            full = len(shape) == len(at) if t.op == "psi" else shape and sort != "state"
            return full and all(e == INDEX for e in at), (sort, ())
        case "state", [m, l, (sort, shape)]:
            return m in (REAL, OPT) and l == REAL and sort == "real", ("state", shape)
        case "quotient", [(sort, shape)]:
            return sort == "state", ("real", shape)
    good = t.op in PLAIN and all(e == PLAIN[t.op][0] for e in k)
    return good, PLAIN[t.op][1] if good else INDEX


def _kind_of_loop(t: Term, env: Env) -> tuple[object, Kind]:
    """Of build, tiles and fold: by the body at a new index, on which no extent may depend."""
    a, x = t.args, index(fresh_above(env))
    s, *tiling = [extent(u, env) for u in a[: 3 if t.op == "tiles" else 1]]
    sort, shape = kind(a[-1], (*env, x))
    good, whole = True, (sort, (s, *shape))
    if t.op == "fold":
        result, allowed = FOLDED.get(t.data, ("real", {"real"}))
        good, whole = kind(a[1], (*env, x)) == BOOL and sort in allowed, (result, shape)
    elif t.op == "tiles":
        rows = make("imin", None, (tiling[1], sub(s, mul(x, tiling[1]))))
        good, whole = bool(shape) and same_index(shape[0], rows), (sort, (s, *shape[1:]))
    return good and all(e.fresh <= x.data for e in whole[1]), whole


# === Operators of the calculus ============================================================================
# A row says how many arguments are arrays (None: all), what is asked of their shapes, and the core term.  A: the
# arrays, S: their shapes, C: the counts (or the function of omega), d: the data; in the core term these are names.

_ticket = itertools.count()


def over(extents: Iterable[Term], element: Callable[[Index], Term]) -> Term:
    """An array by its index function."""
    extents = tuple(extents)
    at = tuple(index(next(_ticket)) for _ in extents)
    t = element(at)
    for x, e in zip(reversed(at), reversed(extents), strict=True):
        t = make("build", "seq", (e, bind(t, x)))
    return t


def folded(monoid: str, extent: Term, parts: Callable[[Term], list[Term]]) -> Term:
    """A fold; its parts at an index are the element, and perhaps the guard."""
    x = index(next(_ticket))
    element, *guard = [bind(u, x) for u in parts(x)]
    return make("fold", monoid, (extent, *(guard or [TRUE]), element))


def psi(array: Term, at: Iterable[Term]) -> Term:
    args = (array, *at)
    return make("psi", None, args) if len(args) > 1 else array


def flat(array: Term, shape: Index, offset: Term) -> Term:
    return make("flat", None, (array, offset)) if shape else array


def section(A: Index, s: Index, extents: Index, starts: Index) -> Term:
    return over((*extents, *s[len(starts) :]), lambda i: psi(A[0], (*map(add, i, starts), *i[len(starts) :])))


def choice(items: Index, k: Term, first: int = 1) -> Term:
    return items[0] if len(items) == 1 else where(less(k, number(first)), items[0], choice(items[1:], k, first + 1))


def frames(S: list[Index], ranks: tuple[int, ...]) -> list[Index]:
    """What is left of the shapes without the axes of the cells; the longest first."""
    return sorted((s[: len(s) - r] for s, r in zip(S, ranks, strict=True)), key=len, reverse=True)


OPERATORS: dict[str, tuple[int | None, Callable[..., Any], Callable[..., Term]]] = {
    # axis k of the argument is axis d[k] of the result
    "transpose": (1, lambda S, C, d: len(d) == len(S[0]), lambda A, S, C, d:
        over((S[0][d.index(k)] for k in range(len(d))), lambda i: psi(A[0], (i[k] for k in d)))),
    "reshape": (1, lambda S, C, d: True, lambda A, S, C, d: over(C, lambda i: flat(A[0], S[0], gamma(i, C)))),
    "ravel": (1, lambda S, C, d: True, lambda A, S, C, d: over([product(S[0])], lambda i: flat(A[0], S[0], i[0]))),
    "take": (1, lambda S, C, d: len(C) <= len(S[0]), lambda A, S, C, d:
        section(A, S[0], C, tuple(sub(s, c) if e < 0 else ZERO for s, c, e in zip(S[0], C, d)))),  # noqa: B905
    "drop": (1, lambda S, C, d: len(C) <= len(S[0]), lambda A, S, C, d:
        section(A, S[0], tuple(map(sub, S[0], C)), tuple(c if e > 0 else ZERO for c, e in zip(C, d, strict=True)))),
    "cat": (2, lambda S, C, d: S[0] and S[1] and agree(S[0][1:], S[1][1:]), lambda A, S, C, d:
        over((add(S[0][0], S[1][0]), *S[0][1:]), lambda i:
             where(less(i[0], S[0][0]), psi(A[0], i), psi(A[1], (sub(i[0], S[0][0]), *i[1:]))))),
    "reverse": (1, lambda S, C, d: S[0], lambda A, S, C, d:
        over(S[0], lambda i: psi(A[0], (sub(sub(S[0][0], ONE), i[0]), *i[1:])))),
    "rotate": (1, lambda S, C, d: S[0], lambda A, S, C, d:
        over(S[0], lambda i: psi(A[0], (tile_and_row(add(i[0], C[0]), S[0][0])[1], *i[1:])))),
    "iota": (0, lambda S, C, d: True, lambda A, S, C, d:
        over(C, lambda i: i[0]) if len(C) == 1 else over((*C, number(len(C))), lambda i: choice(i[:-1], i[-1]))),
    "rho": (1, lambda S, C, d: True, lambda A, S, C, d:
        over([number(len(S[0]))], lambda i: choice(S[0], i[0]) if S[0] else ZERO)),
    "delta": (1, lambda S, C, d: True, lambda A, S, C, d: number(len(S[0]))),
    "tau": (1, lambda S, C, d: True, lambda A, S, C, d: product(S[0])),
    "lift": (1, lambda S, C, d: d < len(S[0]), lambda A, S, C, d:
        over((*S[0][:d], *C, *S[0][d + 1:]), lambda i:
             psi(A[0], (*i[:d], add(mul(i[d], C[1]), i[d + 1]), *i[d + 2:])))),
    # the last axes keep their extents, or are 1 and repeat
    "broadcast": (1, lambda S, C, d: len(S[0]) <= len(C) and all(
            s is ONE or same_index(s, c) for s, c in zip(S[0], C[len(C) - len(S[0]):], strict=True)),
        lambda A, S, C, d: over(C, lambda i: psi(A[0], (
            ZERO if s is ONE else x for s, x in zip(S[0], i[len(C) - len(S[0]):], strict=True))))),
    "map": (1, lambda S, C, d: True, lambda A, S, C, d: over(S[0], lambda i: f(d, psi(A[0], i)))),
    "pointwise": (2, lambda S, C, d: not S[0] or not S[1] or agree(*S), lambda A, S, C, d:
        over(S[0] or S[1], lambda i: f(d, *(psi(a, i if s else ()) for a, s in zip(A, S, strict=True))))),
    "outer": (2, lambda S, C, d: True, lambda A, S, C, d:
        over(S[0] + S[1], lambda i: f(d, psi(A[0], i[:len(S[0])]), psi(A[1], i[len(S[0]):])))),
    "reduce": (None, lambda S, C, d: 0 <= d[1] < len(S[0]) and agree(S[0], S[-1]), lambda A, S, C, d:
        over(S[0][:d[1]] + S[0][d[1] + 1:], lambda i:
             folded(d[0], S[0][d[1]], lambda x: [psi(a, (*i[:d[1]], x, *i[d[1]:])) for a in A]))),
    "inner": (None, lambda S, C, d:
            S[0] and S[1] and same_index(S[0][-1], S[1][0]) and (len(S) == 2 or agree(S[0], S[2])),
        lambda A, S, C, d: over(S[0][:-1] + S[1][1:], lambda i: folded(d[0], S[1][0], lambda x: [
            f(d[1], psi(A[0], (*i[:len(S[0]) - 1], x)), psi(A[1], (x, *i[len(S[0]) - 1:]))),
            *(psi(seen, (*i[:len(S[0]) - 1], x)) for seen in A[2:])]))),
    # a function of cells: the last d[k] axes of array k; where frames differ in rank, the shorter one repeats
    "omega": (-1, lambda S, C, d: all(r <= len(s) for s, r in zip(S, d, strict=True)) and agree(
            frames(S, d)[0][len(frames(S, d)[0]) - len(frames(S, d)[-1]):], frames(S, d)[-1]),
        lambda A, S, C, d: over(frames(S, d)[0], lambda i:
            make("call", tuple(len(s) - r for s, r in zip(S, d, strict=True)), (C[0], *A, *i)))),
}  # fmt: skip


@cache
def unfolded(t: Term, env: Env) -> tuple[Term, Env]:
    """The core term that an operator stands for, with its environment: arrays, then extents, then counts."""
    if t.op == "call":
        return entered(t, env)
    count, fits, _ = OPERATORS[t.op]
    arrays, counts = t.args[:count], t.args[len(t.args[:count]) :]
    shapes = [kind(u, env)[1] for u in arrays]
    given = [thunk(u, env) if t.op == "omega" else extent(u, env) for u in counts]
    need(fits(shapes, given, t.data), f"{t.op} of arrays that do not fit it")
    pattern = _pattern(t.op, t.data, tuple(tuple(s is ONE for s in shape) for shape in shapes), len(given))
    return pattern, (*(thunk(u, seen_by(u, env)) for u in arrays), *(s for shape in shapes for s in shape), *given)


@cache
def _pattern(op: str, data: Any, ones: tuple[tuple[bool, ...], ...], counts: int) -> Term:
    """The operator's core term.  An extent that is 1 stays 1: ``broadcast`` looks at it."""
    names = [index(next(_ticket)) for _ in range(len(ones) + sum(map(len, ones)) + counts)]
    rest = iter(names)
    A = [next(rest) for _ in ones]
    S = [tuple(ONE if one else x for one, x in [(one, next(rest)) for one in row]) for row in ones]
    return bind(OPERATORS[op][2](A, S, tuple(rest), data), *names)


def entered(t: Term, env: Env) -> tuple[Term, Env]:
    """The function that ``omega`` calls, in its environment with the cells."""
    function, *arrays = [e for e in (env[-1 - v.data] for v in t.args[: len(t.data) + 1]) if isinstance(e, Thunk)]
    at = tuple(value(i, env) for i in t.args[len(t.data) + 1 :])
    cells = [thunk(a.term, a.env, a.at + at[len(at) - frame :]) for a, frame in zip(arrays, t.data, strict=True)]
    return function.term, (*function.env, *cells)


# === Meaning ==============================================================================================
# A term over free symbols without arrays, lets or operators.  A fold goes in increasing order from the identity and
# skips what its guard excludes.  The maximum of nothing is Empty; a softmax state is Empty or (m, l, o), of weight
# l*e^m and value o*e^m; the quotient of Empty is 0.


def value(t: Term, env: Env, at: Index = ()) -> Term:
    """The meaning of ``t`` at a full index; of a state, with the value part at the index."""
    return _value(t, env if t.free == len(env) else seen_by(t, env), at)


@cache
def _value(t: Term, env: Env, at: Index) -> Term:
    if t.op in OPERATORS or t.op == "call":
        return value(*unfolded(t, env), at)
    if t.op in MEANINGS:
        return MEANINGS[t.op](t, env, at, *t.args)
    places = [()] * (len(t.args) - 1) + [at if t.op in ("quotient", "state") else ()]
    return make(t.op, t.data, tuple([value(u, env, i) for u, i in zip(t.args, places)]))  # noqa: B905  none of none


def _chosen(c: Term, env: Env, at: Index, yes: Term, no: Term) -> Term:
    if c in (TRUE, FALSE):
        return value(yes if c is TRUE else no, env, at)
    return where(c, value(yes, env, at), value(no, env, at))


def _compared(a: Term, b: Term) -> Term:
    return less(a, b) if not a.op == b.op == "int" else TRUE if a.data < b.data else FALSE


def _both(a: Term, b: Term) -> Term:
    return b if a is TRUE else a if b is TRUE else make("and", None, (a, b))


def _tile(env: Env, at: Index, tile: Term, body: Term) -> Term:
    q, row = tile_and_row(at[0], tile)
    return value(body, (*env, q), (row, *at[1:]))


def _fold(t: Term, env: Env, at: Index, extent: Term, guard: Term, element: Term) -> Term:
    x = index(fresh_above(env, at))
    seen = value(guard, (*env, x))
    body = _assuming(value(element, (*env, x), at), frozenset(conjuncts(seen)))
    return make("fold", t.data, (value(extent, env), bind(seen, x), bind(body, x)))


# node, environment, index, arguments; what is not here keeps its form
MEANINGS: dict[str, Callable[..., Term]] = {
    "var": lambda t, env, at: env[0] if isinstance(env[0], Term) else value(env[0].term, env[0].env, env[0].at + at),
    "lt": lambda t, env, at, a, b: _compared(value(a, env), value(b, env)),
    "and": lambda t, env, at, a, b: _both(value(a, env), value(b, env)),
    "where": lambda t, env, at, c, yes, no: _chosen(value(c, env), env, at, yes, no),
    "let": lambda t, env, at, a, body: value(body, named(a, env), at),
    "psi": lambda t, env, at, a, *i: value(a, env, tuple([value(u, env) for u in i])),
    "flat": lambda t, env, at, a, i: _flat(a, env, value(i, env)),
    "in": lambda t, env, at, *s: _read(t, gamma(at, kind(t, ())[1])),
    "build": lambda t, env, at, s, body: value(body, (*env, at[0]), at[1:]),
    "tiles": lambda t, env, at, s, b, tile, body: _tile(env, at, value(tile, env), body),
    "fold": _fold,
}  # fmt: skip


def _flat(a: Term, env: Env, offset: Term) -> Term:
    return _read(a, offset) if a.op == "in" else value(a, env, _unravel(offset, kind(a, env)[1]))


def _read(t: Term, offset: Term) -> Term:
    """A cell of an input, by its offset; of the extents only the number of cells is kept."""
    return make("flat", None, (make("in", t.data, (normal(reduce(mul, kind(t, ())[1], ONE)),)), offset))


def _unravel(offset: Term, shape: Index) -> Index:
    """The index of an offset: floor divisions from the right."""
    at: Index = ()
    for s in reversed(shape[1:]):
        offset, row = tile_and_row(offset, s)
        at = (row, *at)
    return (offset, *at)


def _assuming(t: Term, known: frozenset[Term]) -> Term:
    """``t`` where each ``where`` on what the guard of the fold says takes its first branch; not inside other folds."""

    def change(u: Term, level: int) -> Term | None:
        chosen = u.op == "where" and known.issuperset(conjuncts(u.args[0]))
        return u if level else _assuming(u.args[1], known) if chosen else None

    return rewritten(t, change) if known else t


# === Questions ============================================================================================
# An integer question is whether a goal follows from facts.  Its clauses are the facts and the negated goal; a literal p
# says p >= 0.  The goal follows if no integers satisfy the clauses.  Names: s.n a size, x.k a free index, u.k a
# minimum, q.k a floor quotient, m.k a read of a truth value (true if m.k >= 1).  Beside what is asked, the clauses say
#
#     s.n >= 0        u <= a, u <= b, u >= a or u >= b        b <= 0, or b*q <= a < b*q + b
#
# The key of a question is the SHA-256 of its text in SMT-LIB, clauses sorted.  All judges ask in this form.

Clause = Any  # a literal: a polynomial over atoms; or ("and", [clause, ..]) or ("or", [clause, ..])
ALWAYS: Clause = ("and", [])
UNIT: Polynomial = {(): 1}
NEVER: Clause = {(): -1}


def literal(p: Polynomial) -> Clause:
    return p if any(p) else ALWAYS if p.get((), 0) >= 0 else NEVER


def every(parts: Iterable[Clause]) -> Clause:
    kept = [p for p in parts if p != ALWAYS]
    return kept[0] if len(kept) == 1 else ("and", kept)


def some(parts: Iterable[Clause]) -> Clause:
    kept = [p for p in parts if p != NEVER]
    return ALWAYS if ALWAYS in kept else NEVER if not kept else kept[0] if len(kept) == 1 else ("or", kept)


def split(c: Clause) -> list[Clause]:
    """The parts of a conjunction."""
    return [q for p in c[1] for q in split(p)] if isinstance(c, tuple) and c[0] == "and" else [c]


def clause(t: Term, holds: bool) -> Clause:
    """A truth value, or its negation."""
    if t.op == "not":
        return clause(t.args[0], not holds)
    if t.op == "and":
        return (every if holds else some)(clause(a, holds) for a in t.args)
    if t.op == "lt":
        a, b = map(polynomial, t.args)
        return literal(plus(plus(b, a, -1), UNIT, -1) if holds else plus(a, b, -1))
    if t.op == "flat":
        m = {(settled(t),): 1}
        return plus(m, UNIT, -1) if holds else plus({}, m, -1)
    need(t.op == "true", f"{t.op} is no integer question")
    return ALWAYS if holds else NEVER


def meaning_of(atom: Term) -> list[Clause]:
    """What is true of an atom by itself."""
    v: Polynomial = {(atom,): 1}
    p, q = map(polynomial, atom.args) if atom.op in ("imin", "idiv") else ({}, {})
    if atom.op == "imin":
        below = plus(p, v, -1), plus(q, v, -1)
        return [*map(literal, below), some(literal(plus({}, g, -1)) for g in below)]
    if atom.op == "idiv":
        rest = plus(p, times(q, v, _join), -1)
        return [some([literal(plus({}, q, -1)), every([literal(rest), literal(plus(plus(q, rest, -1), UNIT, -1))])])]
    return [v] if atom.op == "size" else []


def settled(t: Term) -> Term:
    """A truth value or a read with its index expressions in normal form; a < b as 0 < b - a."""
    if t.op == "lt":
        return less(ZERO, normal(sub(t.args[1], t.args[0])))
    if t.op in ("flat", "cast"):
        return make(t.op, t.data, (*t.args[:-1], normal(t.args[-1])))
    return make(t.op, t.data, tuple(map(settled, t.args))) if t.op in ("and", "not") else t


def atoms_of(t: Term, found: set[Term]) -> None:
    """The atoms of a truth value, and of the index expressions in atoms."""
    if t.op in TRUTHS:
        for a in t.args:
            atoms_of(a, found)
    elif t.op == "flat":
        found.add(settled(t))
    else:
        for a in {a for m in polynomial(t) for a in m} - found:
            need(a.op in ("size", "x", "imin", "idiv"), f"{a.op} is no integer")
            found.add(a)
            for b in a.args:
                atoms_of(b, found)


def names_of(atoms: set[Term]) -> dict[Term, str]:
    """Sizes and free indices keep their names; the other atoms of a kind are numbered in the order of their digests."""
    names = {a: f"{a.op[0]}.{a.data}" for a in atoms if a.op in ("size", "x")}
    for op, letter in (("imin", "u"), ("idiv", "q"), ("flat", "m")):
        names |= {a: f"{letter}.{k}" for k, a in enumerate(sorted((a for a in atoms if a.op == op), key=digest))}
    return names


class Question:
    """Does the goal follow from the facts?"""

    def __init__(self, facts: frozenset[Term], goal: Term):
        atoms: set[Term] = set()
        for t in (*facts, goal):
            atoms_of(t, atoms)
        self.names = names_of(atoms)
        asked = [*(clause(t, True) for t in facts), clause(goal, False), *(c for a in atoms for c in meaning_of(a))]
        self.used: set[str] = set()
        clauses = {self.spelled(c): c for whole in asked for c in split(whole)}
        self.clauses = [clauses[text] for text in sorted(clauses)]
        lines = [f"(declare-const {v} Int)" for v in sorted(self.used)]
        lines += [f"(assert {text})" for text in sorted(clauses)]
        self.text = "\n".join(["(set-logic QF_NIA)", *lines, "(check-sat)", ""])
        self.key = sha256(self.text.encode())

    def spelled(self, c: Clause) -> str:
        """A clause in SMT-LIB."""
        if isinstance(c, tuple):
            return f"({c[0]} {' '.join(map(self.spelled, c[1]))})" if c[1] else "true"
        rows = []
        for m, n in sorted((sorted(self.names[a] for a in m), n) for m, n in c.items()):
            self.used.update(m)
            factors = [*([] if n == 1 and m else [str(n) if n >= 0 else f"(- {-n})"]), *m]
            rows.append(factors[0] if len(factors) == 1 else f"(* {' '.join(factors)})")
        return f"(>= {rows[0] if len(rows) == 1 else '(+ ' + ' '.join(rows) + ')' if rows else '0'} 0)"


@cache
def reads(t: Term) -> bool:
    """Does a truth value speak of what is in a mask?"""
    return any(u.op == "flat" for u in subterms(t))


def related(facts: Iterable[Term], goal: Term, reach: int) -> frozenset[Term]:
    """The facts that may matter: what shares an index with the goal or with such a fact, and what of the sizes is seen.

    In ``reach`` more rounds sharing a size is enough.  What is in a mask is left out unless the goal reads one.
    """
    pool = {t: leaves(t) for t in facts if reads(goal) or not reads(t)}
    seen, kept = set(leaves(goal)), set[Term]()
    for turn in range(reach + 1):
        sharing = set(seen) if turn else {a for a in seen if a.op == "x"}
        while grown := [t for t, own in pool.items() if t.fresh and t not in kept and not sharing.isdisjoint(own)]:
            kept.update(grown)
            seen.update(*(pool[t] for t in grown))
            sharing |= {a for a in seen if a.op == "x"}
        fixed = [t for t, own in pool.items() if not t.fresh and not seen.isdisjoint(own)]
        kept.update(fixed)
        seen.update(*(pool[t] for t in fixed))
    return frozenset(kept)


question = cache(Question)


@cache
def renumbered(facts: frozenset[Term], goal: Term) -> Question:
    """The question with its free indices numbered from 0, in their own order: so equal questions become one."""
    xs = sorted({x for t in (*facts, goal) for x in leaves(t) if x.op == "x"}, key=lambda x: int(x.data))
    rank = {x: index(k) for k, x in enumerate(xs)}
    first, *rest = [rewritten(t, lambda u, n: rank.get(u) if u.fresh else u) for t in (goal, *facts)]
    return question(frozenset(rest), first)


class Place:
    """Facts that hold somewhere: hypotheses, ranges, guards and branches.

    ``sight``: the indices of enclosing binders, innermost first.  ``fresh`` is above every free index in use.
    """

    def __init__(self, facts: Index, sight: Index = ()):
        self.facts, self.known, self.sight = facts, frozenset(facts), sight
        self.fresh = fresh_above((), facts + sight)

    @cache  # noqa: B019  a place is kept as long as its question
    def given(self, *facts: Term, sees: Index = ()) -> Place:
        """The place with more facts, and perhaps more indices in sight."""
        return Place(self.facts + facts, sees + self.sight)

    @cache  # noqa: B019
    def question(self, goal: Term, turn: int) -> Question:
        """The question with near facts, with those beyond them, and with all."""
        return renumbered(related(self.facts, goal, turn) if turn < 2 else self.known, goal)


# === Witnesses ============================================================================================
# No solver: a goal is proved by a tree that the certificate carries under the key of its question.
#
#     ["sum", [c, i, j, ..], ..]      the sum of c * fact_i * fact_j * .. is a negative constant, every c > 0
#     ["or", k, tree, ..]             a tree for each part of disjunction k
#     ["cut", [[c, name, ..], ..], tree, tree]    p >= 0 in the first, -p - 1 >= 0 in the second
#
# Facts are the literals in the order of the clauses, then what the branches assume; disjunctions likewise.

MOST_WORK, DEEPEST_TREE = 200_000, 60  # products of monomials for one witness; its nesting


class Witnessed:
    """The witnesses of one certificate, and what they have answered."""

    def __init__(self, witnesses: dict[str, Any]):
        self.witnesses = witnesses
        self.proved: set[str] = set()
        self.asked = self.open = 0

    def holds(self, place: Place, goal: Term) -> bool:
        """Is the goal proved at the place?  A witness that does not prove its question is an error."""
        self.asked += 1
        if goal is TRUE or goal in place.known:
            return True
        for turn in range(3):
            q = place.question(goal, turn)
            if q.key in self.witnesses:
                if q.key not in self.proved:
                    Tree(q).close(self.witnesses[q.key], *assumed(q.clauses), 0)
                    self.proved.add(q.key)
                return True
        self.open += 1
        return False

    def prove(self, place: Place, goal: Term, what: str) -> None:
        if not self.holds(place, goal):
            raise Refusal(UNPROVED, f"{what}: no witness of question {place.question(goal, 0).key[:12]}")


def assumed(clauses: list[Clause]) -> tuple[list[Polynomial], list[list[Clause]]]:
    """The literals, and the parts of the disjunctions."""
    parts = [p for c in clauses for p in split(c)]
    return [p for p in parts if isinstance(p, dict)], [p[1] for p in parts if isinstance(p, tuple)]


class Tree:
    """A walk over one witness of a question; its work is limited."""

    def __init__(self, question: Question):
        self.question, self.work = question, MOST_WORK
        self.atoms = {name: a for a, name in question.names.items()}

    def must(self, condition: object) -> None:
        need(condition, f"witness {self.question.key[:12]} does not prove its question", TAMPERED)

    def close(self, tree: Any, facts: list[Polynomial], choices: list[list[Clause]], depth: int) -> None:
        """Return if the tree shows that the facts and choices cannot hold together."""
        self.must(isinstance(tree, list) and depth <= DEEPEST_TREE)
        match tree:
            case ["sum", *rows]:
                total = reduce(plus, [self.product(row, facts) for row in rows], Polynomial())
                self.must(set(total) == {()} and total[()] < 0)
            case ["or", k, *kids]:
                self.must(type(k) is int and 0 <= k < len(choices) and len(kids) == len(choices[k]))
                for part, kid in zip(choices[k], kids, strict=True):
                    more, others = assumed([part])
                    self.close(kid, facts + more, choices + others, depth + 1)
            case ["cut", rows, yes, no]:
                p = self.cut(rows)
                self.close(yes, [*facts, p], choices, depth + 1)
                self.close(no, [*facts, plus(plus({}, p, -1), UNIT, -1)], choices, depth + 1)
            case _:
                self.must(False)

    def product(self, row: Any, facts: list[Polynomial]) -> Polynomial:
        self.must(isinstance(row, list) and 0 < len(row) <= 9 and type(row[0]) is int and row[0] > 0)
        p: Polynomial = {(): row[0]}
        for k in row[1:]:
            self.must(type(k) is int and 0 <= k < len(facts))
            self.work -= len(p) * len(facts[k])
            self.must(self.work >= 0)
            p = times(p, facts[k], _join)
        self.work -= len(p)
        return p

    def cut(self, rows: Any) -> Polynomial:
        """Any polynomial with integer coefficients, for its value is an integer."""
        self.must(isinstance(rows, list) and len(rows) <= 50)
        p: Polynomial = {}
        for row in rows:
            self.must(isinstance(row, list) and row and type(row[0]) is int and len(row) <= 9)
            self.must(all(isinstance(v, str) and v in self.atoms for v in row[1:]))
            p = plus(p, {tuple(sorted((self.atoms[v] for v in row[1:]), key=digest)): row[0]})
        return p


# === Definedness ==========================================================================================
# | node | owes |
# |---|---|
# | psi, flat | an index within each extent; an offset within the ravel, level by level where it is a Horner form |
# | idiv | a positive divisor |
# | build, fold, tiles | no negative extent; tiles: t > 0, and b*t >= s |
# | reshape, lift | as many elements as before |
# | f | no argument is the maximum of nothing; div: a positive divisor; sqrt: an argument that is not negative |
# | state | m Empty only with l and o: sums over the range and guard of the maximum m, l's terms positive |
#
# ``where``, guards and conjunctions short-circuit: what they exclude owes nothing.  An array is by name, and owes at
# the cells that are read; a ``let`` computes its value, and owes for all cells.


def under(t: Term, k: int, env: Env, place: Place) -> tuple[Env, Place]:
    """Where argument ``k`` of ``t`` stands; a binder's index becomes a new free index."""
    a = t.args
    match t.op, k:
        case ("build", 1) | ("tiles", 3) | ("fold", 1) | ("fold", 2):
            x = index(place.fresh)
            place = place.given(*within(x, value(a[t.op == "tiles"], env)), sees=(x,))
            if (t.op, k) == ("fold", 2):
                place = place.given(*conjuncts(value(a[1], (*env, x))))
            return (*env, x), place
        case "let", 1:
            return named(a[0], env), place
        case ("where", 1) | ("and", 1):
            return env, place.given(*conjuncts(value(a[0], env)))
        case "where", 2:
            return env, place.given(negated(value(a[0], env)))
    return env, place


def branches(t: Term, place: Place) -> list[tuple[Term, Place]]:
    """The two branches of a ``where``, each with the place where it is taken."""
    test, yes, no = t.args
    return [(yes, place.given(test)), (no, place.given(negated(test)))]


class Defined:
    """Proves what terms owe."""

    def __init__(self, witnessed: Witnessed):
        self.holds, self.prove = witnessed.holds, witnessed.prove

    def check(self, t: Term, env: Env, place: Place, at: Index = ()) -> None:
        """The cell of ``t`` at an index in range is defined; without an index, every cell is.  Else a refusal."""
        self._check(t, seen_by(t, env), place, at)

    @cache  # noqa: B019  what was proved at a place is not looked at again there
    def _check(self, t: Term, env: Env, place: Place, at: Index) -> None:
        a, op = t.args, t.op
        if op in OPERATORS or op == "call":
            self._same_count(t, env, place)
            self.check(*unfolded(t, env), place, at)
        elif op == "var":
            e = env[0]
            if isinstance(e, Term):
                for u in subterms(e):
                    self._own(u, (), place)
            elif not e.owed:
                self.check(e.term, e.env, place, e.at + at)
        elif op == "psi":
            i = tuple([value(u, env) for u in a[1:]])
            for u, x, s in zip(a[1:], i, kind(a[0], env)[1], strict=True):
                self.check(u, env, place)
                self._within(x, s, place)
            self.check(a[0], env, place, i)
        elif op != "in":
            self._own(t, env, place)
            for k, u in enumerate(a[:-1]):
                self.check(u, *under(t, k, env, place))
            self._last(t, env, place, at)

    def _last(self, t: Term, env: Env, place: Place, at: Index) -> None:
        """The last argument: of an array by its index function, at the index that is given or at a new one."""
        a = t.args
        if t.op == "build" and at:
            self.check(a[1], (*env, at[0]), place, at[1:])
        elif t.op == "tiles" and at:
            q, row = tile_and_row(at[0], value(a[2], env))
            self.check(a[3], (*env, q), place, (row, *at[1:]))
        elif a:
            self.check(a[-1], *under(t, len(a) - 1, env, place), at if t.op in ("fold", "let") else ())

    def _own(self, t: Term, env: Env, place: Place) -> None:
        """What the node itself owes."""
        a = t.args
        match t.op:
            case "flat":
                self._offset(value(a[1], env), kind(a[0], env)[1], place)
            case "idiv":
                self.prove(place, less(ZERO, value(a[1], env)), "a divisor of an index is positive")
            case "build" | "fold" | "tiles":
                self.prove(place, less(number(-1), value(a[0], env)), "an extent is not negative")
                if t.op == "tiles":
                    s, b, tile = (value(u, env) for u in a[:3])
                    self.prove(place, less(ZERO, tile), "a tile is not empty")
                    self.prove(place, at_most(s, mul(b, tile)), "the tiles cover the axis")
            case "f":
                for u in a if t.data != "max" else ():
                    if kind(u, env)[0] == "opt":
                        need(self.attained(value(u, env), place), "a maximum is of at least one element", UNPROVED)
                if t.data in ("div", "sqrt"):
                    good = self.positive(value(a[-1], env), place, t.data == "sqrt")
                    need(good, "a divisor is positive, what is under a root not negative", UNPROVED)
            case "state":
                need(self._state(t, env, place), "l and o of a state are sums beside its maximum m", UNPROVED)

    def _within(self, i: Term, extent: Term, place: Place) -> None:
        for goal in within(i, extent):
            self.prove(place, goal, "an index is within its extent")

    def _offset(self, offset: Term, shape: Index, place: Place) -> None:
        """0 <= offset < product of the shape.  0 <= i < s and 0 <= A < P give 0 <= A*s + i < P*s."""
        if len(shape) > 1 and offset.op == "iadd" and offset.args[0].op == "imul":
            (rest, s), i = offset.args[0].args, offset.args[1]
            if same_index(s, shape[-1]):
                self._within(i, shape[-1], place)
                return self._offset(rest, shape[:-1], place)
        return self._within(offset, product(shape), place)

    def _same_count(self, t: Term, env: Env, place: Place) -> None:
        if t.op in ("reshape", "lift"):
            shape = kind(t.args[0], env)[1]
            new = product(value(u, env) for u in t.args[1:])
            old = product(shape) if t.op == "reshape" else shape[t.data]
            for goal in (at_most(new, old), at_most(old, new)) if not same_index(new, old) else ():
                self.prove(place, goal, f"{t.op} keeps the number of elements")

    # Maxima of something, and signs: seen from meanings.

    def attained(self, m: Term, place: Place) -> bool:
        """The maximum is of something."""
        if (m.op, m.data) == ("fold", "max"):
            w = self._some(m, place)
            return w is not None and self.attained(unbind(m.args[2], w), place)
        if (m.op, m.data) == ("f", "max"):
            return any(self.attained(u, place) for u in m.args)
        return m.op != "where" or all(self.attained(u, inside) for u, inside in branches(m, place))

    def _some(self, fold: Term, place: Place) -> Term | None:
        """An index in sight, or 0, that is in the fold's range and passes its guard."""
        for w in (*place.sight, ZERO):
            goals = (*within(w, fold.args[0]), *conjuncts(unbind(fold.args[1], w)))
            if all(self.holds(place, g) for g in goals):
                return w
        return None

    def positive(self, v: Term, place: Place, zero: bool = False) -> bool:
        """The real value is seen to be > 0; or, if ``zero``, >= 0."""
        a, what, p = v.args, (v.op, v.data), self.positive
        if v.op == "where":
            (yes, chosen), (no, other) = branches(v, place)
            return p(yes, chosen, zero) and (self.holds(place, a[0]) or p(no, other, zero))
        return (
            what == ("f", "exp")
            or (v.op == "real" and int(v.data[0]) >= (not zero))
            or (v.op == "cast" and self.holds(place, less(number(-1) if zero else ZERO, a[0])))
            or (what == ("f", "sqrt") and (zero or p(a[0], place)))
            or (what in (("f", "mul"), ("f", "div")) and all(p(u, place, zero) for u in a))
            or (what == ("f", "add") and all(p(u, place, True) for u in a) and (zero or any(p(u, place) for u in a)))
            or (what == ("fold", "add") and p(*self._inside(v, place), zero) and (zero or bool(self._some(v, place))))
        )

    def _inside(self, fold: Term, place: Place) -> tuple[Term, Place]:
        """The element of a fold at a new index in its range that passes its guard."""
        x = index(place.fresh)
        extent, guard, element = fold.args
        return unbind(element, x), place.given(*within(x, extent), *conjuncts(unbind(guard, x)))

    def _state(self, t: Term, env: Env, place: Place) -> bool:
        """m, l and o are Empty together, and the weight is positive where m is not."""
        m, l = value(t.args[0], env), value(t.args[1], env)
        if kind(t.args[0], env)[0] == "real":
            return self.positive(l, place)
        at = tuple(index(place.fresh + k) for k in range(len(kind(t.args[2], env)[1])))
        o = value(t.args[2], env, at)
        folds = [(u.op, u.data) for u in (m, l, o)] == [("fold", "max"), ("fold", "add"), ("fold", "add")]
        if not folds or not all(same_index(u.args[0], m.args[0]) and u.args[1] is m.args[1] for u in (l, o)):
            return False
        weight, inside = self._inside(l, place)
        return self.positive(weight, inside) and self.attained(self._inside(m, place)[0], inside)


# === Equality in every bit ================================================================================
# Two meanings are walked in parallel.  Functions and folds stay free: the same operations in the same order on the same
# data.  Index expressions are compared as polynomials, and else asked for witnesses of both directions; guards that
# differ must imply each other.  A choice whose test holds is its first branch (so is padding, where it is used).  A
# maximum over tiles is the maximum over the whole range.


class Different(Exception):
    """Two meanings differ, or are not seen to be equal: says where."""


def brief(t: Term) -> str:
    """The start of a term, for a message."""
    head = t.op if t.data is None else f"{t.op} {t.data}"
    return f"{head}({', '.join(brief(a) if a.depth < 3 else a.op for a in t.args)})" if t.args else head


class Bits:
    """Compares meanings at places; counts what it compared."""

    def __init__(self, holds: Callable[[Place, Term], bool]):
        self.holds, self.compared = holds, 0

    def same_index(self, a: Term, b: Term, place: Place) -> None:
        self.compared += a is not b
        if not (same_index(a, b) or all(self.holds(place, goal) for goal in (at_most(a, b), at_most(b, a)))):
            raise Different(f"two indices differ: {brief(normal(a))} and {brief(normal(b))}")

    def same(self, a: Term, b: Term, place: Place) -> None:
        """Return if the meanings are the same in every bit; else ``Different``."""
        if a is b:
            return
        if a.op in INDEX_SORTED and b.op in INDEX_SORTED:
            self.same_index(a, b, place)
        elif a.op in TRUTHS or b.op in TRUTHS or (a.op == b.op == "flat" and a.args[0].data[1] == "bool"):
            self.same_truth(a, b, place)
        elif a.op == b.op == "fold" and a.data == b.data:
            self._same_fold(a, b, place)
        elif (a.op, a.data, len(a.args)) != (b.op, b.data, len(b.args)) or a.op in BINDERS:
            try:
                chosen = [t.args[1] if t.op == "where" and self.holds(place, t.args[0]) else t for t in (a, b)]
            except Refusal as e:
                need(e.args[0] == MALFORMED, e.args[1], e.args[0])  # what is no integer question is not proved
                chosen = [a, b]
            if chosen == [a, b]:
                raise Different(f"different operations: {brief(a)} and {brief(b)}")
            self.same(chosen[0], chosen[1], place)
        elif a.op == "where":
            self.same_truth(a.args[0], b.args[0], place)
            for (u, inside), v in zip(branches(a, place), b.args[1:], strict=True):
                self.same(u, v, inside)
        else:
            for u, v in zip(a.args, b.args, strict=True):
                self.same(u, v, place)

    def _same_fold(self, a: Term, b: Term, place: Place) -> None:
        try:
            self.same_index(a.args[0], b.args[0], place)
        except Different:
            whole = [self.untiled(t, place) for t in (a, b)] if a.data == "max" else [a, b]
            if whole == [a, b]:
                raise
            return self.same(whole[0], whole[1], place)
        x = index(max(place.fresh, a.fresh, b.fresh))
        inside = place.given(*within(x, a.args[0]))
        guard = unbind(a.args[1], x)
        self.same_truth(guard, unbind(b.args[1], x), inside)
        return self.same(unbind(a.args[2], x), unbind(b.args[2], x), inside.given(*conjuncts(guard)))

    def same_truth(self, a: Term, b: Term, place: Place) -> None:
        """The same tree up to equal indices, or each implies the other."""
        if a.op == b.op != "flat" and len(a.args) == len(b.args):
            try:
                for u, v in zip(a.args, b.args, strict=True):
                    self.same(u, v, place)
                return
            except Different:
                pass  # other trees may still be equivalent
        self.compared += a is not b
        if not (a is b or (self.holds(place.given(a), b) and self.holds(place.given(b), a))):
            raise Different(f"two guards are not seen to be equivalent: {brief(a)} and {brief(b)}")

    def untiled(self, t: Term, place: Place) -> Term:
        """A fold over tiles of a fold over a tile's rows, as one fold over the whole range; else ``t`` itself.

        fold J < b (g') fold r < min(tile, s - J*tile) (g) e  =  fold k < s (g) e,  k = J*tile + r,  where b*tile >= s
        and tile > 0, g and e mention J and r through k alone, and g implies g'.  The elements and their order stay;
        only brackets move, so the monoid must be associative.
        """
        count, outer, rows = t.args
        if rows.op != "fold" or rows.data != t.data or rows.args[0].op != "imin":
            return t
        big = index(max(place.fresh, t.fresh))
        row = index(big.fresh)
        extent, *bodies = unbind(rows, big).args
        guard, element = (unbind(u, row) for u in bodies)
        for tile, rest in (extent.args, extent.args[::-1]):
            whole = normal(add(rest, mul(big, tile)))
            # k is called ``row`` from here on
            moved = [settle_all(unbind(bind(u, row), sub(row, mul(big, tile)))) for u in (guard, element)]
            if any(big in leaves(u) for u in (whole, tile, *moved)):
                continue
            if not all(self.holds(place, g) for g in (less(ZERO, tile), at_most(whole, mul(count, tile)))):
                continue
            implied = unbind(outer, big)
            inside = place.given(*within(big, count), *within(row, extent), *conjuncts(guard))
            if implied is TRUE or self.holds(inside, implied):
                return make("fold", t.data, (whole, *(bind(u, row) for u in moved)))
        return t


def settle_all(t: Term) -> Term:
    """Every outermost index expression in normal form."""
    return rewritten(t, lambda u, n: normal(u) if u.op in INDEX_SORTED or u.op == "var" else None)


# === Equality over the reals ==============================================================================
# A value is a sum of  c * atoms * e^h,  c rational, h again such a sum.  Atoms are reads, maxima, roots, inverses,
# choices, and sums from which all has been moved that does not depend on the summed index:
#
#     sum_k (u + v) = sum_k u + sum_k v        sum_k a*b(k) = a * sum_k b(k)        e^(x - M) = e^x * e^-M
#
# A sum over tiles is the sum over the whole range.  A softmax state (m, l, o) is the pair (l e^m, o e^m); merging adds
# pairs, so a fold of states is the pair of the sums, and a quotient the second over the first: the online softmax of
# Milakov & Gimelshein (2018), without induction.
#
# Division is total: 1/0 = 0, and nothing is cancelled against its inverse.  Then every law above holds for all values,
# the quotient of Empty included; that a program's divisors are not 0 is an obligation of definedness.

SUMMED = 1_000_000  # numbers of the indices of sums: SUMMED + nesting of folds, the same wherever the sum stands
Product = tuple[Index, frozenset[Any]]  # atoms with repetition, by serial number; the rows of the exponent h
Value = dict[Product, Fraction]
NOTHING: frozenset[Any] = frozenset()
UNITY = Fraction(1)


def atom(t: Term) -> Value:
    return {((t,), NOTHING): UNITY}


def serial(t: Term) -> int:
    return t.serial


def joined(m: Product, n: Product) -> Product:
    (a, g), (b, h) = m, n
    return tuple(sorted(a + b, key=serial)), frozenset(plus(dict(g), dict(h)).items()) if g and h else g or h


def power_of_e(h: Value) -> Value:
    return {((), frozenset(h.items())): UNITY}


def inverse(p: Value) -> Value:
    """1/p: factor by factor of one product; of a sum, an atom.  1/0 = 0, 1/(1/x) = x; e^h and constants are not 0."""
    if len(p) > 1:
        return atom(one_over(said(p)))
    for (atoms, h), c in p.items():
        turned = sorted((a.args[1] if (a.op, a.data) == ("f", "div") else one_over(a) for a in atoms), key=serial)
        return {(tuple(turned), frozenset((row, -d) for row, d in h)): 1 / c}
    return {}


def real(c: Fraction) -> Term:
    return make("real", (str(c.numerator), str(c.denominator)))


def one_over(t: Term) -> Term:
    return f("div", real(UNITY), t)


def said(p: Value) -> Term:
    """A value as a term; equal values are one term."""
    rows = []
    for (atoms, h), c in p.items():
        factors = [*atoms, *([f("exp", said(dict(h)))] if h else [])]
        rows.append(reduce(lambda u, v: f("mul", u, v), [real(c), *factors] if c != 1 or not factors else factors))
    return reduce(lambda u, v: f("add", u, v), sorted(rows, key=serial)) if rows else real(Fraction(0))


def moves(row: Product, x: Term) -> bool:
    """Does a product depend on a free index?"""
    return any(x in leaves(a) for a in row[0]) or any(moves(r, x) for r, _ in row[1])


@cache
def nesting(t: Term) -> int:
    """How deep folds are nested."""
    return max(map(nesting, t.args), default=0) + (t.op == "fold")


class Reals:
    """Values of meanings, at places that say when tiles cover a range."""

    def __init__(self, bits: Bits):
        self.bits = bits

    def same(self, a: Term, b: Term, place: Place) -> None:
        """Return if the meanings are equal over the reals; else ``Different``."""
        self.bits.compared += 1
        states = a.op == "state" or (a.op, a.data) == ("fold", "softmax")
        left, right = (self.pair(t, place) if states else self.value(t, place) for t in (a, b))
        if left != right:
            raise Different(f"neither in every bit nor over the reals: {brief(a)} and {brief(b)}")

    def said(self, t: Term, place: Place) -> Term:
        return said(self.value(t, place))

    @cache  # noqa: B019
    def value(self, t: Term, place: Place) -> Value:
        a = t.args
        match t.op, t.data:
            case "real", (numerator, denominator):
                return plus({}, {((), NOTHING): Fraction(int(numerator), int(denominator))})
            case "f", "max" | "sqrt":
                return atom(f(t.data, *(self.said(u, place) for u in a)))
            case "f", _:
                return FUNCTIONS[t.data](*(self.value(u, place) for u in a))
            case "where", _:
                return atom(where(settled(a[0]), *(self.said(u, inside) for u, inside in branches(t, place))))
            case "fold", "add" | "max" | "mul":
                whole = self.bits.untiled(t, place)
                if whole is not t:
                    return self.value(whole, place)
                x, guard, element, inside = self._entered(t, place)
                if t.data == "add":
                    return self._sum(t, self.value(element, inside), x, guard, place)
                seen, body = bind(settled(guard), x), bind(self.said(element, inside), x)
                return atom(make("fold", t.data, (normal(t.args[0]), seen, body)))
            case "quotient", _:
                weight, total = self.pair(a[0], place)
                return times(total, inverse(weight), joined)
            case "flat" | "cast", _:
                return atom(settled(t))
        raise Different(f"{brief(t)} has no value over the reals")

    def pair(self, state: Term, place: Place) -> tuple[Value, Value]:
        """(l e^m, o e^m) of a state; of a fold of states, the sums of the pairs."""
        if state.op == "state":
            m, l, o = (self.value(u, place) for u in state.args)
            return times(l, power_of_e(m), joined), times(o, power_of_e(m), joined)
        if (state.op, state.data) != ("fold", "softmax"):
            raise Different(f"{state.op} is no state")
        x, guard, element, inside = self._entered(state, place)
        l, o = (self._sum(state, p, x, guard, place) for p in self.pair(element, inside))
        return l, o

    def _sum(self, t: Term, element: Value, x: Term, guard: Term, place: Place) -> Value:
        """The sum of a value over the range and guard of the fold ``t``.  A new sum is looked at again."""
        total: Value = {}
        for (atoms, h), c in element.items():
            still = frozenset(row for row in h if not moves(row[0], x))
            outer: Value = {(tuple(a for a in atoms if x not in leaves(a)), still): c}
            inner: Value = {(tuple(a for a in atoms if x in leaves(a)), h - still): UNITY}
            emptied = make("fold", "add", (normal(t.args[0]), bind(settled(guard), x), bind(said(inner), x)))
            total = plus(total, times(outer, atom(t) if emptied is t else self.value(emptied, place), joined))
        return total

    def _entered(self, t: Term, place: Place) -> tuple[Term, Term, Term, Place]:
        """The index of a fold, its guard and element at the index, and the place inside."""
        x = index(SUMMED + nesting(t))
        if any(x in leaves(u) for u in (t, *place.facts)):
            raise Different("an index of a sum is in use outside")
        guard, element = (unbind(u, x) for u in t.args[1:])
        return x, guard, element, place.given(*within(x, t.args[0]), *conjuncts(guard))


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "add": plus, "sub": lambda p, q: plus(p, q, -1), "neg": lambda p: plus({}, p, -1), "exp": power_of_e,
    "mul": lambda p, q: times(p, q, joined), "div": lambda p, q: times(p, inverse(q), joined),
}  # fmt: skip


# === Certificates =========================================================================================
# The bytes must be the canonical JSON of what they say: sorted keys, no white space, one line end, every node of the
# terms once and in the order of first use, roots in the order of the fields.  Unknown fields and versions are refused,
# and what is too large or nested too deep.  Nothing read here is evaluated, or shown as a claim.

SCHEMA = "moaproof/certificate/3"
MOST_BYTES, MOST_NODES, DEEPEST_TERM = 4 * 2**20, 50_000, 200
Form = Callable[[Any], bool]


def is_small(most: int) -> Form:
    """A natural number up to ``most``."""
    return lambda d: type(d) is int and 0 <= d <= most


def is_list(each: Form, most: int) -> Form:
    return lambda d: isinstance(d, list) and len(d) <= most and all(map(each, d))


def is_row(*each: Form) -> Form:
    return lambda d: isinstance(d, list) and len(d) == len(each) and all(g(u) for g, u in zip(each, d, strict=True))


def is_object(fields: dict[str, Form]) -> Form:
    return lambda d: isinstance(d, dict) and set(d) == set(fields) and all(good(d[k]) for k, good in fields.items())


def is_tree(d: Any, leaf: Form) -> bool:
    """Lists of lists of what ``leaf`` accepts."""
    return all(is_tree(u, leaf) for u in d) if isinstance(d, list) else leaf(d)


def is_label(d: Any) -> bool:
    return isinstance(d, str) and d.isascii() and d.replace("-", "_").isidentifier() and len(d) <= 60


def is_digest(d: Any) -> bool:
    return isinstance(d, str) and len(d) == 64 and set(d) <= set("0123456789abcdef")


def is_file(d: Any) -> bool:
    return isinstance(d, str) and d[-3:] == ".py" and d[:-3].isidentifier() and d.isascii() and d[0] != "_"


def is_tile(d: Any) -> bool:
    """A product of at most four names, ``ri*ty``, no two of them the same."""
    names = d.split("*") if isinstance(d, str) else []
    return is_list(is_name, 4)(names) and 0 < len(names) == len({*names})


def is_step(d: Any) -> bool:
    """A restatement, or an application of a law; how the law applies is read and not used."""
    return is_object(STEP)(d) or is_object(STEP | LAW)(d)


is_root = is_small(MOST_NODES)
anything: Form = lambda d: True  # noqa: E731
LAW: dict[str, Form] = {
    "backwards": lambda d: isinstance(d, bool),
    "params": lambda d: is_list(anything, 8)(d) and is_tree(d, lambda u: u is None or isinstance(u, str | int)),
    "choose": lambda d: is_list(is_row(is_label, is_small(16), is_root), 16)(d) and len({u[0] for u in d}) == len(d),
}
STEP: dict[str, Form] = {
    "path": is_list(is_small(19), 200), "before": is_digest, "class": lambda d: d in ("I", "S", "R"),
    "rule": is_label, "after": is_root,
}  # fmt: skip
KERNEL: dict[str, Form] = {
    "file": is_file, "target": lambda d: d in ("cpu", "cuda"), "dtype": lambda d: d in ("float64", "float32"),
    "sha256": is_digest, "instructions": is_digest,
}  # fmt: skip
CORE: dict[str, Form] = {
    "schema": lambda d: d == SCHEMA, "name": is_label, "trace": anything, "spec": is_root, "dnf": is_root,
    "onf": is_root, "inputs": is_list(is_root, 16), "hypotheses": is_list(is_root, 32),
    "tilings": is_list(is_row(is_name, is_tile, is_name), 8),
    "witness": lambda d: isinstance(d, dict) and len(d) <= 64 and all(map(is_small(10**6), d.values())),
    "steps": is_list(is_step, 500), "rulebook": is_digest, "terms": is_object({
        "nodes": is_list(is_row(anything, anything, is_list(is_root, MOST_ARGUMENTS)), MOST_NODES),
        "roots": is_list(is_root, MOST_NODES),
    }),
}  # fmt: skip
CARRIED: dict[str, Form] = {
    "core": is_digest, "rounding": anything,
    "kernels": lambda d: is_list(is_object(KERNEL), 16)(d) and len({k["file"] for k in d}) == len(d),
    "witnesses": lambda d: isinstance(d, dict) and len(d) <= 2000 and all(map(is_digest, d))
    and all(isinstance(u, list) and is_tree(u, lambda v: isinstance(v, str) or is_int(v)) for u in d.values()),
}  # fmt: skip


def read(data: bytes) -> dict[str, Any]:
    """The fields of the certificate in these bytes, with terms in place of the numbers of roots."""
    need(len(data) <= MOST_BYTES, f"more than {MOST_BYTES} bytes")
    try:
        d = json.loads(data.decode())
        canonical = encoded(d) + b"\n" == data  # no field twice, no other spelling
    except (ValueError, RecursionError):
        raise Refusal(MALFORMED, "no JSON") from None
    need(isinstance(d, dict) and d.get("schema") == SCHEMA, f"an object of schema {SCHEMA} is due")
    for field, good in (CORE | CARRIED).items():
        need(field in d and good(d[field]), f"{field}: missing, or not of the form that it has in {SCHEMA}")
    need(set(d) == set(CORE | CARRIED), "an unknown field")
    core = sha256(encoded({k: d[k] for k in CORE}))
    need(d["core"] == core, "core: the derivation is not the one whose digest is stated", TAMPERED)
    need(canonical, "the bytes are not canonical JSON", TAMPERED)
    nodes = terms_of(**d["terms"])
    roots = enumerate(d["terms"]["roots"])

    def root(k: int) -> Term:
        """The term that a field names by the number of a root: the next one."""
        due, node = next(roots, (-1, 0))
        need(k == due, "terms: roots are not numbered in the order of their use", TAMPERED)
        return nodes[node]

    d |= {field: root(d[field]) for field in ("spec", "dnf", "onf")}
    d |= {field: [root(k) for k in d[field]] for field in ("inputs", "hypotheses")}
    for s in d["steps"]:
        s["after"] = root(s["after"])
        for row in s.get("choose", ()):
            root(row[2])
    need(next(roots, None) is None, "terms: a root is not used", TAMPERED)
    return dict(d)


def terms_of(nodes: list[list[Any]], roots: list[int]) -> list[Term]:
    """The shared graph: every node used, once, and in the order of first use from the roots, arguments first."""

    def data(d: Any, level: int = 0) -> Any:
        if isinstance(d, list):
            need(level <= 2 and len(d) <= 32, "terms: data nested too deep or too long")
            return tuple(data(u, level + 1) for u in d)
        need(d is None or isinstance(d, str) or is_int(d), "terms: data of another type")
        return d

    made: list[Term] = []

    def visit(k: int, depth: int) -> None:
        if k >= len(made):
            op, given, args = nodes[k]
            need(depth <= DEEPEST_TERM and all(j < k for j in args), "terms: nested too deep, or in circles")
            for j in args:
                visit(j, depth + 1)
            need(k == len(made), "terms: nodes are not in the order of first use", TAMPERED)
            made.append(admit(op, data(given), tuple(made[j] for j in args)))
            need(made[k].depth <= DEEPEST_TERM, "terms: nested too deep")

    need(all(k < len(nodes) for k in roots), "terms: a root is no node")
    for k in roots:
        visit(k, 1)
    need(len({*made}) == len(nodes), "terms: a node stands twice, or is not used", TAMPERED)
    return made


# === Named claims =========================================================================================
# Which Spec, under exactly which hypotheses, may be called attention.  A certificate's own name says nothing.
# n queries, m keys, dk the length of a key; b batches; h query heads = g key heads times r.


def _broadcast(extent: Term) -> Term:
    """An axis of a mask, read at steps of 0 or 1: step*extent < its own extent + step."""
    step = size(f"s{extent.data}")
    return less(mul(step, extent), add(size(f"m{extent.data}"), step))


_heads = size("h"), mul(size("g"), size("r"))
GROUPS = (at_most(*_heads), at_most(*_heads[::-1]), less(ZERO, size("g")))
MASK = tuple(_broadcast(size(name)) for name in ("b", "h", "n", "m"))
BOTH, KEYS = GROUPS + MASK, (less(ZERO, size("dk")),)
CLAIMS = (
    ("495fe222e65fdc65cd6b432ae0f1eb94637066a2656cd1f14d893c6dce6935c4", (), "attention"),
    ("9e16b389abe6c9a7c96ca1d203c25d742233b743bc8c2247527fa4a6ca4c5edc", (), "causal attention"),
    ("fc177b35b9b5150ac3ce507f30b357596d66ee5fb4bb6eaa83ed85f83a63b77a", MASK, "masked attention"),
    ("601a808a00e0284fb8b17b76d6179110f41044138f41dd5647600e0dba4fc79d", GROUPS, "grouped-query attention"),
    ("0e19c20c29999209abd76eff4ba18414c7ec2c84297a976736df612b8d31a2a8", GROUPS, "causal grouped-query attention"),
    ("399e3725be62ac253d588828a19c53e1a1a109548ac3cdb806a314c232794176", BOTH, "masked grouped-query attention"),
    ("23e962c84777cfd517c2486ad0709f65f736aaa1533fdc871c2e97761d969736", KEYS, "attention with scale 1/sqrt(dk)"),
    ("2ce12c6167b1b87ae3e517ac822446d70b37e4296988e4e19090331975158003", (), "attention by an unshifted softmax"),
    ("e3b29b4110086c125ad5d2e9118ccca7514956af9fd2fae7676cf802090fe394", (), "one masked head"),
)


# === Replay ===============================================================================================
# A step is judged by its two terms alone: the subterm that its path finds, and the one that it says takes its place.
# They must have one sort and shape, the new one must be defined where it stands, and their meanings must agree, in
# every bit if possible, else over the reals.  The class is computed: R, equal over the reals only; S, equal in every
# bit, with another number of lets or of axes bound to the machine; I, else.


def at_place(place: str, act: Callable[..., Any], *given: Any) -> Any:
    """What ``act`` answers; a refusal names the place."""
    try:
        return act(*given)
    except Refusal as e:
        raise Refusal(e.args[0], f"{place}: {e.args[1]}") from None


def sizes_in(*terms: Term) -> set[str]:
    return {u.data for u in subterms(*terms) if u.op == "size"}


def consistent_inputs(c: dict[str, Any]) -> None:
    """Every input has one sort and one shape, of sizes, everywhere; no input has the name of a size."""
    listed = {t.data[0]: t for t in c["inputs"] if t.op == "in"}
    need(len(listed) == len(c["inputs"]), "distinct inputs are due")
    good = all(u.op in ("size", "int", "iadd", "imul") for t in c["inputs"] for u in subterms(*t.args))
    need(good, "the extents of an input are not sizes")
    need(not set(listed) & sizes_in(c["spec"], c["onf"]), "an input and a size have the same name")
    for u in subterms(c["spec"], c["dnf"], c["onf"], *(s["after"] for s in c["steps"])):
        need(u.op != "in" or listed.get(u.data[0]) is u, "an input is not listed, or has another sort or shape")


def facts_of(c: dict[str, Any]) -> Index:
    """The hypotheses and what the tilings define, after seeing that they can hold.

    A tiling (s, t, b) defines new sizes: the factors of t are any positive numbers, whichever tiles they are of, and
    then (b-1)*t < s <= b*t is true of one b.  So it is possible for every s.
    """
    own, facts = sizes_in(c["spec"], *c["inputs"], *c["hypotheses"]), list(c["hypotheses"])
    for h in facts:
        good = all(u.op in {"int", "size", "iadd", "imul", "imin", "idiv", *TRUTHS} for u in subterms(h))
        need(good and kind(h, ()) == BOOL, "a hypothesis is no statement about sizes")
    new = {name for _, tile, _ in c["tilings"] for name in tile.split("*")}
    for extent, tile, count in c["tilings"]:
        good = extent in own and own.isdisjoint(new) and count not in own | new
        need(good, "a tiling names one of the Spec's sizes, new factors, and a new count")
        new.add(count)
        s, b, *factors = map(size, (extent, count, *tile.split("*")))
        t = product(factors)
        facts += [*(less(ZERO, x) for x in factors), less(mul(sub(b, ONE), t), s), at_most(s, mul(b, t))]
    need(not sizes_in(c["onf"], c["dnf"]) - own - new, "a size of the ONF or DNF has no meaning")
    need(set(c["witness"]) == own | new, "witness: one value for each size is due")
    known: dict[Term, int] = {}
    for fact in facts:
        need(at_sizes(fact, c["witness"], known), "witness: a hypothesis does not hold at its sizes", REFUTED)
    return tuple(facts)


def at_sizes(t: Term, sizes: dict[str, int], known: dict[Term, int]) -> int:
    """A statement about sizes at given sizes: an integer, or 0 or 1."""
    if t not in known:
        a, b, *_ = [*(at_sizes(u, sizes, known) for u in t.args), 0, 0]
        need(t.op != "idiv" or b > 0, "a division by what is not positive")
        known[t] = int({
            "true": True, "int": t.data, "size": sizes.get(t.data), "iadd": a + b, "imul": a * b, "imin": min(a, b),
            "idiv": a // (b or 1), "lt": a < b, "and": a and b, "not": not a,
        }[t.op])  # fmt: skip
    return known[t]


def is_dnf(t: Term) -> bool:
    """A nest of builds over one scalar in which arrays are inputs: no operator of the calculus, no let."""
    while t.op == "build":
        t = t.args[1]
    arrays = {"build", "tiles", "let", *OPERATORS}
    return all(u.op not in arrays and (u.op != "psi" or u.args[0].op == "in") for u in subterms(t))


@cache
def structure(t: Term) -> tuple[int, ...]:
    """What sharing changes: the numbers of lets, and of axes bound to each part of the machine."""
    own = t.data if t.op in ("build", "tiles") else t.op
    return tuple(map(sum, zip((own == kind for kind in ("let", *MACHINE)), *map(structure, t.args), strict=True)))


def replaced(t: Term, path: list[int], new: Term) -> Term:
    args = [replaced(a, path[1:], new) if path[:1] == [k] else a for k, a in enumerate(t.args)]
    return make(t.op, t.data, tuple(args)) if path else new


class Judge:
    """Judges terms and steps under the facts of one certificate."""

    def __init__(self, facts: Index, witnesses: dict[str, Any]):
        self.place, self.witnessed = Place(facts), Witnessed(witnesses)
        self.defined, self.bits = Defined(self.witnessed), Bits(self.witnessed.holds)
        self.reals = Reals(self.bits)

    def whole(self, t: Term) -> None:
        """A closed term is an array of reals, all of whose cells are defined."""
        need(kind(t, ())[0] == "real", "an array of reals is due")
        self.defined.check(t, (), self.place)

    def step(self, s: dict[str, Any], term: Term) -> tuple[Term, str]:
        """The next term, and the class."""
        need(s["before"] == digest(term), "it starts from another term than the chain has reached", TAMPERED)
        old, env, place = self.locate(term, s["path"])
        missing = self.witnessed.open
        found = self.judge(old, s["after"], env, place)
        code = UNPROVED if self.witnessed.open > missing else REFUTED
        need(found != "R" or s["class"] == "R", f"class {s['class']} is stated, and R was found", code)
        return replaced(term, s["path"], s["after"]), found

    def locate(self, t: Term, path: list[int]) -> tuple[Term, Env, Place]:
        """The subterm at a path, its environment, and the facts that hold there."""
        env, place = Env(), self.place
        for k in path:
            good = t.op != "in" and k < len(t.args) and (t.op, k) != ("omega", len(t.args) - 1)
            need(good, f"the path leaves the term at {t.op}")
            env, place = under(t, k, env, place)
            t = t.args[k]
        return t, env, place

    def judge(self, old: Term, new: Term, env: Env, place: Place) -> str:
        """The class of the step from one term to another, or a refusal."""
        (sort, s), (sort_, z) = kind(old, env), kind(new, env)
        need(sort == sort_ and len(s) == len(z), "the sort or the rank changes", REFUTED)
        missing = self.witnessed.open
        try:
            for e, e_ in zip(s, z, strict=True):
                self.bits.same_index(e, e_, place)
            self.defined.check(new, env, place)
            at = tuple(index(place.fresh + k) for k in range(len(s)))
            inside = place.given(*(fact for x, e in zip(at, s, strict=True) for fact in within(x, e)))
            a, b = value(old, env, at), value(new, env, at)
            try:
                self.bits.same(a, b, inside)
            except Different:
                self.reals.same(a, b, inside)
                return "R"
        except Different as e:
            code = UNPROVED if self.witnessed.open > missing else REFUTED
            raise Refusal(code, f"the two terms are not seen to be equal: {e}") from None
        return "I" if structure(old) == structure(new) else "S"


def replay(c: dict[str, Any]) -> str:
    """The verdict on a certificate, or a refusal that names the place."""
    at_place("inputs", consistent_inputs, c)
    judge = Judge(at_place("hypotheses", facts_of, c), c["witnesses"])
    at_place("Spec", judge.whole, c["spec"])
    term, through = c["spec"], c["spec"] is c["dnf"]
    classes = dict.fromkeys("ISR", 0)
    for k, s in enumerate(c["steps"]):
        where = f"step {k} ({s['rule']})"
        term, found = at_place(where, judge.step, s, term)
        classes[found] += 1
        need(through or found == "I", f"{where}: class {found} before the DNF, where all steps are I", REFUTED)
        through = through or term is c["dnf"]
    need(through and is_dnf(c["dnf"]), "dnf: the chain does not pass it, or it is no normal form", TAMPERED)
    need(term is c["onf"], "onf: the chain ends at another term", TAMPERED)
    at_place("ONF", judge.whole, c["onf"])
    w, value = judge.witnessed, "over the reals" if classes["R"] else "in every bit"
    stated = digest(c["spec"]), sorted(map(digest, c["hypotheses"]))
    claims = (name for spec, facts, name in CLAIMS if (spec, sorted(map(digest, facts))) == stated)
    return (
        f"proved: {next(claims, 'another specification')}: ONF and Spec are equal {value}"
        f" (steps: {', '.join(f'{n} {name}' for name, n in classes.items())}; {w.asked} integer obligations, by"
        f" {len(w.proved)} of {len(c['witnesses'])} witnesses; {judge.bits.compared} equalities; core {c['core'][:12]})"
    )


# === Verdict ==============================================================================================

DEEPEST = 3000  # Python's own recursion
WORDS = {REFUTED: "refuted", MALFORMED: "no certificate", UNPROVED: "not proved", TAMPERED: "not intact"}


def check(path: str) -> tuple[int, str]:
    """The exit code and the line for one file."""
    _left[:] = BUDGET
    try:
        with open(path, "rb") as file:  # noqa: PTH123  loading pathlib takes as long as a check
            return 0, replay(read(file.read(2 * MOST_BYTES)))
    except Refusal as e:
        return e.args[0], f"{WORDS[e.args[0]]}: {e.args[1]}"
    except (RecursionError, MemoryError):
        return UNPROVED, "not proved: nested too deep, or too large"
    except (OSError, ValueError) as e:
        return MALFORMED, f"cannot be read: {e}"


def main(paths: list[str]) -> int:
    if not paths or any(p.startswith("-") for p in paths):
        print("usage: python -I -S moaproof/standalone certs/NAME.json [more ..]", file=sys.stderr)
        return MALFORMED
    sys.setrecursionlimit(DEEPEST)
    found = [check(p) for p in paths]
    for path, (_, line) in zip(paths, found, strict=True):
        print(f"{path}: {line}".encode("ascii", "backslashreplace").decode())
    print("\nProved means" + (__doc__ or "").partition("Proved means")[2].partition("\n\n")[0])
    return next((k for k in (TAMPERED, REFUTED, MALFORMED, UNPROVED) if k in {code for code, _ in found}), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
