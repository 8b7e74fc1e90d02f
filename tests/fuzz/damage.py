"""Damage, from a source of random numbers: to bytes, to JSON documents, to the text of kernels, to terms."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tokenize
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from moaproof.errors import IllFormed
from moaproof.term import MONOIDS, REAL_FUNCTIONS, Int, Size, Term, Var, canonical, replace_at, subterms

Path = tuple[Any, ...]

STRANGE: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2, 7, 19, 20, 59, 2**31, 2**53 - 1, 2**53, 2**64, -(2**63), 10**400, 10**4000,
    "", "a", "n", "q", "é", "\u2029", "\x00", "\ud800", "\udfff\ud800", "\ufeff", "\x1b[2J", "def", "None", "__debug__",
    "out", "exp", "kernel", "0", "-0", "00", "1e5", "NaN", "Infinity", "-inf", "0x1p+3", "0x1.8p+1", "x" * 41,
    "9" * 500,
    "A" * 64, "0" * 64, "a-b", "../a", "/", ".", "I", "S", "R", [], {}, [[]], [None], [0], [True], [-1], ["a"],
    [[[[[]]]]],
    {"": 0}, {"a": 1}, {"\ud800": 1}, ["n", "t", "b"], ["add", "mul"], ["node", 0], ["input", "q"], ["int", 10**400],
    ["float", "inf"], ["list", []], ["none"], ["str", "\ud800"], [1, 0], list(range(33)), list(range(9)), [0] * 600,
    ["1", "0"], ["1", "-1"], ["2", "4"], ["+1", "1"], ["1" * 400, "1"], ["q", "real"], ["q", "state"],
)  # fmt: skip
BYTES: Final = (
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\t", b" ", b"\n", b'"', b"\\", b"\\u0061",
    b"\\ud800",
    b"{", b"}", b"[", b"]", b",", b":", b"-", b"+1", b"0", b"00", b"-0", b"1.0", b"1e3", b"NaN", b"Infinity", b"null",
    b"true", b"[" * 70, b"]" * 70, b"9" * 5000, b'{"a":1,"a":2}', b"#", b"/**/", b"'", b"0x10", b"1_000",
    b"\xe2\x80\xa8",
)  # fmt: skip
TOKENS: Final = (
    "0", "1", "-1", "00", "0x10", "1_0", "1.0", "1e3", "1j", "9" * 30, "9" * 5000, "True", "None", "...", "''", "f''",
    "b''", "out", "q", "lanes5", "i2", "n", "zz", "__debug__", "exp", "min", "max", "abs", "range", "prange", "real",
    "empty", "quotient", "ZERO", "LOWEST", "+", "-", "*", "/", "//", "%", "**", "@", "<", "<=", "==", "is", "in", "not",
    "and", "or", "if", "else", "lambda: 0", "yield", "await", "(", ")", "[", "]", "{", "}", ",", ":", ":=", "=",
    "+=", ";",
    ".", "->", "~", "~0", "*q", "**q", "[0]", "[-1]", "[0, 0]", "[0:1]", "(0, 1)", "for", "pass", "return", "del q",
    "global q", "import os", "nonlocal n", "while 1: pass", "\n", "    ", "\x0c", "1if 1else 1", "print", "_",
)  # fmt: skip
LINES: Final = (
    "", "pass", "return", "q = q", "x99 = ZERO", "out[0] = ZERO", "x99 = empty(n, real)", "if True:",
    "for z9 in range(n):",
    "for z9 in prange(n):", "while True:", "try:", "else:", "x98 = x98", "y99 = q[0]", "assert n", "del out",
    "global n",
    "x97: real = ZERO", "x96 = x95 = ZERO", "x94 += ONE", "lanes5 = 1", "out = q", "(q)", "@njit", "def f(): pass",
    "x93 = real(1 / 3)", "x92 = real(0 / 1)", "x91 = quotient(ONE, ZERO)", "x90 = exp(exp(exp(real(10 / 1))))",
)  # fmt: skip


# --- bytes ---------------------------------------------------------------------------------------------


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to four edits of bytes."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, max(0, len(data) - 1))
        size = rng.choice((1, 1, 2, 7, 40, 500))
        match rng.randrange(7):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if data else data
            case 2:
                data = data[:at] + rng.choice(BYTES) + data[at + rng.choice((0, 1, 1, 2, 30)) :]
            case 3:
                data = data[: at + size] + data[at:]
            case 4:
                data = data[:at] + data[at + size :]
            case 5:
                there = rng.randint(0, max(0, len(data) - 1))
                data = data[:at] + data[there : there + size] + data[at + size :]
            case 6:
                data = rng.choice(BYTES) + data if rng.randrange(2) else data + rng.choice(BYTES)
    return data


# --- documents -----------------------------------------------------------------------------------------


def places(d: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    for k, v in d.items() if isinstance(d, dict) else enumerate(d) if isinstance(d, list) else ():
        yield from places(v, (*path, k))


def at(d: Any, path: Path) -> Any:
    for k in path:
        d = d[k]
    return d


def put(d: Any, path: Path, value: Any) -> Any:
    """A document with another value at a place; ``GONE`` takes the place away."""
    if not path:
        return value
    k, rest = path[0], path[1:]
    if value is GONE and not rest:
        return {a: b for a, b in d.items() if a != k} if isinstance(d, dict) else [*d[:k], *d[k + 1 :]]
    copy = dict(d) if isinstance(d, dict) else list(d)
    copy[k] = put(d[k], rest, value)
    return copy


GONE: Final = object()


@lru_cache(maxsize=64)
def _read(data: bytes) -> tuple[Any, tuple[Path, ...]]:
    document = json.loads(data)
    return document, tuple(places(document))


def edited(data: bytes, rng: random.Random, finish: Callable[[Any], Any] = lambda d: d) -> bytes:
    """One to three values of a document changed; ``finish`` may mend it, and it is printed canonically if it can be."""
    document, where = _read(data)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(where)
        try:
            old = at(document, path)
            document = put(document, path, _other(document, old, path, where, rng))
        except (KeyError, IndexError, TypeError):
            continue  # an earlier edit took the place away
    return encoded(finish(document))


def _other(document: Any, old: Any, path: Path, where: Sequence[Path], rng: random.Random) -> Any:
    match rng.randrange(8):
        case 0:
            return GONE if path else {}
        case 1 | 2:
            return at(document, rng.choice(where))
        case 3 if isinstance(old, list) and old:
            return rng.choice(([*old, old[-1]], old[::-1], old[1:], old * 2, [old]))
        case 3 if isinstance(old, dict):
            return {**old, rng.choice(("a", "", "after", "terms", "\ud800")): rng.choice(STRANGE)}
        case 4 | 5 if type(old) is int:
            return old + rng.choice((-1, 1, 2, 10**6, 2**53))
        case 4 if isinstance(old, str):
            return rng.choice((old + " ", old[1:], old.upper(), old * 2, old[::-1]))
    return rng.choice(STRANGE)


def encoded(document: Any) -> bytes:
    try:
        return canonical(document) + b"\n"
    except (ValueError, TypeError):
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def with_its_digest(document: Any) -> Any:
    """What a forger would send: the stated digest is that of the changed core."""
    if not isinstance(document, dict):
        return document
    core = {k: v for k, v in document.items() if k in CORE}
    try:
        return {**document, "core": hashlib.sha256(canonical(core)).hexdigest()}
    except (ValueError, TypeError):
        return document


CORE: Final = frozenset({
    "schema", "name", "trace", "spec", "dnf", "onf", "inputs", "hypotheses", "tilings", "witness", "steps", "rulebook",
    "terms",
})  # fmt: skip


# --- the text of a kernel ------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _tokens(data: bytes) -> tuple[tuple[int, int, int], ...]:
    """Line, start and end of each name, number and operator."""
    found = tokenize.generate_tokens(io.StringIO(data.decode()).readline)
    return tuple((t.start[0] - 1, t.start[1], t.end[1]) for t in found if t.type in (1, 2, 54))


def rewritten(data: bytes, rng: random.Random) -> bytes:
    """One to three tokens or lines changed, copied, moved or dropped."""
    lines = data.decode().split("\n")
    for _ in range(rng.randint(1, 3)):
        row, start, end = rng.choice(_tokens(data))
        line = lines[row] if row < len(lines) else ""
        match rng.randrange(8):
            case 0 | 1 | 2:
                other, a, b = rng.choice(_tokens(data))
                new = rng.choice(TOKENS) if rng.randrange(2) or other >= len(lines) else lines[other][a:b]
                lines[row : row + 1] = [line[:start] + new + line[end:]]
            case 3:
                lines[row : row + 1] = [line, line]
            case 4:
                del lines[row : row + rng.choice((1, 1, 2, 5))]
            case 5:
                lines.insert(rng.choice(_tokens(data))[0], line)
            case 6:
                indent = len(line) - len(line.lstrip())
                lines.insert(row, " " * (indent + rng.choice((0, 0, 0, 4, -4, 1))) + rng.choice(LINES))
            case 7:
                depth = rng.choice((1, 2, 30, 99, 101, 2000))
                lines[row : row + 1] = [line[:start] + "(" * depth + line[start:end] + ")" * depth + line[end:]]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


# --- terms ---------------------------------------------------------------------------------------------


def random_path(t: Term, rng: random.Random, depth: int = 12) -> tuple[int, ...]:
    """A path into a term, biased to go deep."""
    path: list[int] = []
    while t.args and len(path) < depth and rng.randrange(6):
        path.append(rng.randrange(len(t.args)))
        t = t.args[path[-1]]
    return tuple(path)


def changed(t: Term, pool: Sequence[Term], rng: random.Random) -> Term:
    """A term with one node changed, more often than not still well-typed; ``t`` itself where that is refused."""
    path = random_path(t, rng, 40)
    u = t
    for k in path:
        u = u.args[k]
    try:
        return replace_at(t, path, _changed_node(u, pool, rng))
    except IllFormed:
        return t


def _changed_node(u: Term, pool: Sequence[Term], rng: random.Random) -> Term:
    kind = rng.randrange(4)
    if kind == 0 and u.args:
        return rng.choice(u.args)
    if kind == 1:
        like = [x for x in pool if x.op == u.op and x is not u] or list(pool)
        return rng.choice(like)
    match u.op:
        case "var":
            return Var(max(0, u.data + rng.choice((-1, 1, 2))))
        case "int":
            return Int(u.data + rng.choice((-1, 1, -u.data)))
        case "size":
            return rng.choice([x for x in pool if x.op == "size"] or [Size("n")])
        case "fold":
            return Term("fold", rng.choice(MONOIDS), u.args)
        case "f" | "map" | "pointwise" | "outer":
            arity = REAL_FUNCTIONS[u.data]
            return Term(u.op, rng.choice([f for f, n in REAL_FUNCTIONS.items() if n == arity]), u.args)
        case "iadd" | "imul" | "idiv" | "imin":
            op = rng.choice(("iadd", "imul", "idiv", "imin"))
            return Term(op, None, u.args if rng.randrange(2) else u.args[::-1])
        case "build" | "tiles":
            return Term(u.op, rng.choice(("seq", "core", "lane")), u.args)
        case "true":
            return Term("not", None, (u,))
    args = list(u.args)
    rng.shuffle(args)
    return Term(u.op, u.data, args)


def pool_of(*roots: Term) -> list[Term]:
    return list(subterms(*roots))
