# ruff: noqa: E501  a statement of a text is one line
"""Hand-written CUDA kernel texts in the grammar of ``moaproof/reader/access.py``, and mutants of them, as data.

A text is one launch, or several in turn.  ``grid`` and ``block`` in the decorator name sizes or give literals, for the
axes x, y, z; ``grid`` also products of names.  The sizes named in ``constants`` are no parameters: the loader binds them
in the text's module before it is compiled, because the extents of local arrays are constants to the compiler.  All other
sizes are parameters, in order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from moaproof.kernel.certificate import Tiling
from moaproof.kernel.checker import tiling_facts
from moaproof.term import (
    ONE,
    TRUE,
    ZERO,
    Add,
    Build,
    F,
    Fold,
    In,
    Le,
    Lt,
    Psi,
    Real,
    Size,
    Term,
    Var,
)

B, H, N, M, DK, DV = (Size(s) for s in ("b", "h", "n", "m", "dk", "dv"))
SCALE = In("scale")


@dataclass(frozen=True)
class CudaText:
    """One kernel: its text, and what its launcher promises.

    ``inputs`` in the order of the parameters, ``sizes`` all names in order (constants included), ``facts`` about the
    sizes, ``out`` the shape of the output, ``spec`` the term that it computes, and ``example`` sizes for a run.
    ``constants`` are those of any launch, and of ``tilings`` each row is an extent, a tile and how many of it there are.
    """

    name: str
    text: str
    inputs: tuple[Term, ...]
    sizes: tuple[str, ...]
    constants: tuple[str, ...]
    facts: tuple[Term, ...]
    out: tuple[Term, ...]
    spec: Term
    example: dict[str, int] = field(default_factory=dict)
    tilings: tuple[tuple[str, str, str], ...] = ()

    def sized(self, **changed: int) -> dict[str, int]:
        """The example's sizes with some of them changed, and the counts of tiles that follow."""
        found = {**self.example, **changed}
        for extent, tile, count in self.tilings:
            found[count] = -(-found[extent] // math.prod(found[f] for f in tile.split("*")))
        return found

    @property
    def data(self) -> bytes:
        return self.text.encode("ascii")


@dataclass(frozen=True)
class CudaMutant:
    """``base`` with ``old`` replaced by ``new`` (each pair once, and it must occur once); ``kind`` of error is due."""

    name: str
    base: str
    kind: str  # bounds, initialised, race, barrier, once, cover, gamma, name, view
    edits: tuple[tuple[str, str], ...]
    dynamic: bool = True  # a run at the example's sizes can see it

    def data(self) -> bytes:
        text = TEXTS[self.base].text
        for old, new in self.edits:
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} occurs {text.count(old)} times")
            text = text.replace(old, new)
        return text.encode("ascii")


def _module(about: str, *launches: str) -> str:
    return f'''"""{about}

core: {"0" * 64}
"""

from moaproof.instructions.cuda_float32 import LOWEST, ONE, ZERO, cuda, exp, fmax, launch, quotient, real, rescale, span, sqrt, view


''' + "\n\n".join(launches)


def _launch(header: str, parameters: str, body: str, name: str = "kernel", makes: str = "()") -> str:
    return f"@launch({header}, makes={makes})\ndef {name}({parameters}):\n{body}"


def _tiled(*tilings: tuple[str, str, str]) -> list[Term]:
    """Facts of (extent, tile, count), each once."""
    return list(dict.fromkeys(f for t in tilings for f in tiling_facts(Tiling(*t))))


def _attention(rows: bool = True, causal: bool = False) -> Term:
    """softmax(scale q k') v, by the fold of states: a row without keys is 0."""
    lead = (B, H, N) if rows else (B, H)
    depth = len(lead)  # indices before the column; then the column, then the key
    outer = [Var(depth + 1 - axis) for axis in range(depth)]  # inside the fold over keys
    q, k, v = _inputs(rows)[:3]
    dot = Fold("add", DK, F("mul", Psi(q, *map(_up, outer), Var(0)), Psi(k, *map(_up, outer[:2]), Var(1), Var(0))))
    score = F("mul", dot, SCALE)
    guard = Lt(Var(0), Add(outer[-1], ONE)) if causal else TRUE
    state = Term("state", None, (score, Real(1), Psi(v, *outer[:2], Var(0), Var(1))))
    t = Build(DV, Term("quotient", None, (Fold("softmax", M, state, guard),)))
    for extent in reversed(lead):
        t = Build(extent, t)
    return t


def _up(v: Term) -> Term:
    return Var(v.data + 1)


def _inputs(rows: bool = True) -> tuple[Term, ...]:
    q = In("q", B, H, N, DK) if rows else In("q", B, H, DK)
    return (q, In("k", B, H, M, DK), In("v", B, H, M, DV), SCALE)


TILED = """\
    pool = cuda.shared.array(0, real)
    p1 = tk * dk
    ks = view(pool, 0, p1, (tk, dk))
    p2 = p1 + tk * dv
    vs = view(pool, p1, p2, (tk, dv))
    x = cuda.local.array(dk, real)
    o = cuda.local.array(dv, real)
    t = cuda.threadIdx.x
    i = cuda.blockIdx.z
    j = cuda.blockIdx.y
    row = cuda.blockIdx.x * tq + t
    if row < n:
        for c in span(dk):
            x[c] = q[((i * h + j) * n + row) * dk + c]
    top = LOWEST
    l = ZERO
    for c in span(dv):
        o[c] = ZERO
    for kb in span(bk):
        for e in span(t, tk * dk, cuda.blockDim.x):
            r = e // dk
            d = e % dk
            if kb * tk + r < m:
                ks[r, d] = k[((i * h + j) * m + (kb * tk + r)) * dk + d]
        for e in span(t, tk * dv, cuda.blockDim.x):
            r = e // dv
            d = e % dv
            if kb * tk + r < m:
                vs[r, d] = v[((i * h + j) * m + (kb * tk + r)) * dv + d]
        cuda.syncthreads()
        if row < n:
            for u in span(min(tk, m - kb * tk)):
                s = ZERO
                for c in span(dk):
                    s = s + x[c] * ks[u, c]
                s = s * scale
                new = fmax(top, s)
                f = rescale(top, new)
                p = rescale(s, new)
                top = new
                l = l * f + p
                for c in span(dv):
                    o[c] = o[c] * f + p * vs[u, c]
        cuda.syncthreads()
    if row < n:
        for c in span(dv):
            out[((i * h + j) * n + row) * dv + c] = quotient(o[c], l)
"""

CAUSAL = TILED.replace("span(bk)", "span(min(bk, (cuda.blockIdx.x * tq + tq + tk - 1) // tk))").replace(
    "            for u in span(min(tk, m - kb * tk)):",
    "            for u in span(min(min(tk, m - kb * tk), row + 1 - kb * tk)):",
)

# A guard instead of a bound; the tail of a tile is filled with zeros and hidden by the guard of the score.
GUARDED = """\
    pool = cuda.shared.array(0, real)
    p1 = tk * dk
    ks = view(pool, 0, p1, (tk, dk))
    p2 = p1 + tk * dv
    vs = view(pool, p1, p2, (tk, dv))
    o = cuda.local.array(dv, real)
    t = cuda.threadIdx.x
    i = cuda.blockIdx.z
    j = cuda.blockIdx.y
    row = cuda.blockIdx.x * tq + t
    top = LOWEST
    l = ZERO
    for c in span(dv):
        o[c] = ZERO
    for kb in span(bk):
        if kb * tk < cuda.blockIdx.x * tq + tq:
            for e in span(t, tk * dk, tq):
                r = e // dk
                d = e - r * dk
                ks[r, d] = (k[((i * h + j) * m + (kb * tk + r)) * dk + d] if kb * tk + r < m else ZERO)
            for e in span(t, tk * dv, tq):
                r = e // dv
                d = e - r * dv
                vs[r, d] = (v[((i * h + j) * m + (kb * tk + r)) * dv + d] if kb * tk + r < m else ZERO)
            cuda.syncthreads()
            for u in span(tk):
                if row < n and kb * tk + u < m and kb * tk + u < row + 1:
                    s = ZERO
                    for c in span(dk):
                        s = s + q[((i * h + j) * n + row) * dk + c] * ks[u, c]
                    s = s * scale
                    new = fmax(top, s)
                    f = rescale(top, new)
                    p = rescale(s, new)
                    top = new
                    l = l * f + p
                    for c in span(dv):
                        o[c] = o[c] * f + p * vs[u, c]
            cuda.syncthreads()
    for c in span(dv):
        if row < n:
            out[((i * h + j) * n + row) * dv + c] = quotient(o[c], l)
"""

# One query a head; thread t folds the keys t*tk .. t*tk + tk - 1, then all merge: column c by thread c mod ts.
DECODE = """\
    pool = cuda.shared.array(0, real)
    ms = view(pool, 0, ts, (ts, 1))
    p2 = ts + ts
    ls = view(pool, ts, p2, (ts, 1))
    p3 = p2 + ts * dv
    os = view(pool, p2, p3, (ts, dv))
    t = cuda.threadIdx.x
    j = cuda.blockIdx.x
    i = cuda.blockIdx.y
    top = LOWEST
    l = ZERO
    for c in span(dv):
        os[t, c] = ZERO
    for u in span(min(tk, m - t * tk)):
        s = ZERO
        for c in span(dk):
            s = s + q[(i * h + j) * dk + c] * k[((i * h + j) * m + (t * tk + u)) * dk + c]
        s = s * scale
        new = fmax(top, s)
        f = rescale(top, new)
        p = rescale(s, new)
        top = new
        l = l * f + p
        for c in span(dv):
            os[t, c] = os[t, c] * f + p * v[((i * h + j) * m + (t * tk + u)) * dv + c]
    ms[t, 0] = top
    ls[t, 0] = l
    cuda.syncthreads()
    all = LOWEST
    for u in span(ts):
        all = fmax(all, ms[u, 0])
    w = ZERO
    for u in span(ts):
        w = w + ls[u, 0] * rescale(ms[u, 0], all)
    for c in span(t, dv, ts):
        y = ZERO
        for u in span(ts):
            y = y + os[u, c] * rescale(ms[u, 0], all)
        out[(i * h + j) * dv + c] = quotient(y, w)
"""

# Threads in two axes: y is the row of the tile, x shares the keys for the scores and the columns for the output.
PLANE = """\
    pool = cuda.shared.array(0, real)
    p1 = tk * dk
    ks = view(pool, 0, p1, (tk, dk))
    p2 = p1 + tq * tk
    ps = view(pool, p1, p2, (tq, tk))
    o = cuda.local.array(dv, real)
    x = cuda.threadIdx.x
    y = cuda.threadIdx.y
    t = y * tx + x
    i = cuda.blockIdx.z
    j = cuda.blockIdx.y
    row = cuda.blockIdx.x * tq + y
    top = LOWEST
    l = ZERO
    for c in span(x, dv, tx):
        o[c] = ZERO
    for kb in span(bk):
        for e in span(t, tk * dk, tq * tx):
            r = e // dk
            d = e % dk
            if kb * tk + r < m:
                ks[r, d] = k[((i * h + j) * m + (kb * tk + r)) * dk + d]
        cuda.syncthreads()
        if row < n:
            for u in span(x, min(tk, m - kb * tk), tx):
                s = ZERO
                for c in span(dk):
                    s = s + q[((i * h + j) * n + row) * dk + c] * ks[u, c]
                ps[y, u] = s * scale
        cuda.syncthreads()
        if row < n:
            new = top
            for u in span(min(tk, m - kb * tk)):
                new = fmax(new, ps[y, u])
            f = rescale(top, new)
            l = l * f
            for c in span(x, dv, tx):
                o[c] = o[c] * f
            top = new
            for u in span(min(tk, m - kb * tk)):
                p = rescale(ps[y, u], new)
                l = l + p
                for c in span(x, dv, tx):
                    o[c] = o[c] + p * v[((i * h + j) * m + (kb * tk + u)) * dv + c]
        cuda.syncthreads()
    if row < n:
        for c in span(x, dv, tx):
            out[((i * h + j) * n + row) * dv + c] = quotient(o[c], l)
"""

# Queries and keys in tiles, of which each thread has ri*rj scores in registers: row e6*ty + y and key e7*tx + x.  A row
# of a shared array is one cell longer than it needs, so that the rows begin in different banks.
_ARRAYS = """\
    pool = cuda.shared.array(0, real)
    p1 = dk * (ri * ty + 1)
    z5 = view(pool, 0, p1, (dk, ri * ty + 1))
    p2 = p1 + dk * (rj * tx + 1)
    k18 = view(pool, p1, p2, (dk, rj * tx + 1))
    p3 = p2 + (rj * tx) * (ri * ty + 1)
    x18 = view(pool, p2, p3, (rj * tx, ri * ty + 1))
    p4 = p3 + (rj * tx) * (ri * ty + 1)
    x33 = view(pool, p3, p4, (rj * tx, ri * ty + 1))
    p5 = p4 + (rj * tx) * (rc * tx + 1)
    v18 = view(pool, p4, p5, (rj * tx, rc * tx + 1))
    m9 = cuda.local.array(ri, real)
    l10 = cuda.local.array(ri, real)
    o11 = cuda.local.array((ri, rc), real)
    s20 = cuda.local.array((ri, rj), real)
    m31 = cuda.local.array(ri, real)
    s37 = cuda.local.array((ri, rc), real)
    s39 = cuda.local.array(ri, real)
    a13 = cuda.local.array(ri, real)
    b14 = cuda.local.array(ri, real)
    x = cuda.threadIdx.x
    y = cuda.threadIdx.y
"""
_QUERIES = """\
    for r6 in span(y, ri * ty, ty):
        for c8 in span(x, dk, tx):
            z5[c8, r6] = (q[((i2 * h + i3) * n + (i4 * (ri * ty) + r6)) * dk + c8] if i4 * (ri * ty) + r6 < n else ZERO)
    for e6 in span(ri):
        m9[e6] = LOWEST
    for e6 in span(ri):
        l10[e6] = ZERO
    for e6 in span(ri):
        for e7 in span(rc):
            o11[e6, e7] = ZERO
"""
_TILE = """\
            for u in span(y, rj * tx, ty):
                for c in span(x, dk, tx):
                    k18[c, u] = (k[((i2 * h + i3) * m + (FIRST + u)) * dk + c] if u < LIMIT else ZERO)
            for u in span(y, rj * tx, ty):
                for c in span(x, rc * tx, tx):
                    v18[u, c] = (v[((i2 * h + i3) * m + (FIRST + u)) * dv + c] if u < LIMIT and c < dv else ZERO)
            cuda.syncthreads()
            for e6 in span(ri):
                for e7 in span(rj):
                    s20[e6, e7] = ZERO
            for k21 in span(dk):
                for e6 in span(ri):
                    r6 = e6 * ty + y
                    for e7 in span(rj):
                        c7 = e7 * tx + x
                        s20[e6, e7] = s20[e6, e7] + z5[k21, r6] * k18[k21, c7]
            for e6 in span(ri):
                r6 = e6 * ty + y
                for e7 in span(rj):
                    c7 = e7 * tx + x
                    x18[c7, r6] = s20[e6, e7] * scale
            cuda.syncthreads()
            for e6 in span(ri):
                m31[e6] = LOWEST
            for k32 in span(LIMIT):
                for e6 in span(ri):
                    r6 = e6 * ty + y
                    m31[e6] = fmax(m31[e6], x18[k32, r6])
            for e6 in span(ri):
                r6 = e6 * ty + y
                for e7 in span(rj):
                    c7 = e7 * tx + x
                    x33[c7, r6] = (exp(x18[c7, r6] - m31[e6]) if c7 < LIMIT else ZERO)
            cuda.syncthreads()
            for e6 in span(ri):
                for e7 in span(rc):
                    s37[e6, e7] = ZERO
            for k38 in span(LIMIT):
                for e6 in span(ri):
                    r6 = e6 * ty + y
                    for e7 in span(rc):
                        c7 = e7 * tx + x
                        s37[e6, e7] = s37[e6, e7] + x33[k38, r6] * v18[k38, c7]
            for e6 in span(ri):
                s39[e6] = ZERO
            for k40 in span(LIMIT):
                for e6 in span(ri):
                    r6 = e6 * ty + y
                    s39[e6] = s39[e6] + x33[k40, r6]
            for e6 in span(ri):
                e15 = m31[e6]
                t16 = fmax(m9[e6], e15)
                a13[e6] = rescale(m9[e6], t16)
                b14[e6] = rescale(e15, t16)
                m9[e6] = t16
                l10[e6] = l10[e6] * a13[e6] + s39[e6] * b14[e6]
            for e6 in span(ri):
                for e7 in span(rc):
                    o11[e6, e7] = o11[e6, e7] * a13[e6] + s37[e6, e7] * b14[e6]
            cuda.syncthreads()
"""


def _tile(first: str, limit: str, causal: str = "") -> str:
    """One tile of keys, from the key ``first`` on and of ``limit`` keys; the others are filled with zeros."""
    text = _TILE
    for key, taken in (
        (("k32", "m31[e6] = fmax"), ("k38", "s37[e6, e7] = s37"), ("k40", "s39[e6] = s39")) if causal else ()
    ):
        line = next(x for x in text.splitlines(keepends=True) if x.strip().startswith(taken))
        indent = line[: -len(line.lstrip())]
        text = text.replace(line, f"{indent}if {causal.replace('KEY', key)}:\n    {line}")
    if causal:
        text = text.replace(" if c7 < LIMIT", f" if c7 < LIMIT and {causal.replace('KEY', 'c7')}")
    return text.replace("FIRST", first).replace("LIMIT", limit)


_ONLINE_TILE = _tile("k17 * (rj * tx)", "min(rj * tx, m - k17 * (rj * tx))", "FIRST + KEY < i4 * (ri * ty) + r6 + 1")
ONLINE = f"""\
{_ARRAYS}    w1 = cuda.blockIdx.x
    i2 = w1 // (h * bq)
    i3 = w1 // bq % h
    i4 = w1 % bq
{_QUERIES}    for k17 in span(bk):
        if k17 * (rj * tx) < i4 * (ri * ty) + ri * ty:
{_ONLINE_TILE}\
    for e6 in span(ri):
        r6 = e6 * ty + y
        for e7 in span(rc):
            c7 = e7 * tx + x
            if r6 < min(ri * ty, n - i4 * (ri * ty)) and c7 < dv:
                out[((i2 * h + i3) * n + (i4 * (ri * ty) + r6)) * dv + c7] = quotient(o11[e6, e7], l10[e6])
"""

_PARTIAL_TILE = _tile(
    "i1 * (bk * rj * tx) + k17 * (rj * tx)",
    "min(rj * tx, min(bk * rj * tx, m - i1 * (bk * rj * tx)) - k17 * (rj * tx))",
)
PARTIAL = f"""\
{_ARRAYS}    w0 = cuda.blockIdx.x
    i1 = w0 // (b * h * bq)
    i2 = w0 // (h * bq) % b
    i3 = w0 // bq % h
    i4 = w0 % bq
{_QUERIES}    for k17 in span(bk):
        if k17 * (rj * tx) < min(bk * rj * tx, m - i1 * (bk * rj * tx)):
{_PARTIAL_TILE}\
    for e6 in span(ri):
        r6 = e6 * ty + y
        if r6 < min(ri * ty, n - i4 * (ri * ty)) and x < 1:
            m50[((i1 * b + i2) * h + i3) * n + (i4 * (ri * ty) + r6)] = m9[e6]
    for e6 in span(ri):
        r6 = e6 * ty + y
        if r6 < min(ri * ty, n - i4 * (ri * ty)) and x < 1:
            l51[((i1 * b + i2) * h + i3) * n + (i4 * (ri * ty) + r6)] = l10[e6]
    for e6 in span(ri):
        r6 = e6 * ty + y
        for e7 in span(rc):
            c7 = e7 * tx + x
            if r6 < min(ri * ty, n - i4 * (ri * ty)):
                o52[(((i1 * b + i2) * h + i3) * n + (i4 * (ri * ty) + r6)) * (rc * tx) + c7] = o11[e6, e7]
"""

MERGE = """\
    x = cuda.threadIdx.x
    w60 = cuda.blockIdx.x
    i61 = w60 // (h * n)
    i62 = w60 // n % h
    i63 = w60 % n
    for c66 in span(x, dv, tx):
        m64 = LOWEST
        l65 = ZERO
        o62 = ZERO
        for k68 in span(bp):
            e69 = m50[((k68 * b + i61) * h + i62) * n + i63]
            t70 = fmax(m64, e69)
            a71 = rescale(m64, t70)
            b72 = rescale(e69, t70)
            m64 = t70
            l65 = l65 * a71 + l51[((k68 * b + i61) * h + i62) * n + i63] * b72
            o62 = o62 * a71 + o52[(((k68 * b + i61) * h + i62) * n + i63) * (rc * tx) + c66] * b72
        out[((i61 * h + i62) * n + i63) * dv + c66] = quotient(o62, l65)
"""

_TILES = (("n", "ri*ty", "bq"), ("m", "rj*tx", "bk"), ("dv", "tx", "rc"))
_CHUNKS = (("n", "ri*ty", "bq"), ("m", "bk*rj*tx", "bp"), ("dv", "tx", "rc"))

_GRID = 'grid=("bq", "h", "b"), block=("tq", 1, 1), constants=("dk", "dv", "tq", "tk"), index="int64"'
_SIZES = ("b", "h", "n", "dk", "m", "dv", "bq", "tq", "bk", "tk")
_PARAMETERS = "out, q, k, v, scale, b, h, n, m, bq, bk"
_ROWS = (("n", "tq", "bq"), ("m", "tk", "bk"))
_FACTS = tuple(_tiled(*_ROWS))
_EXAMPLE = {"b": 2, "h": 2, "n": 5, "dk": 3, "m": 7, "dv": 2, "bq": 3, "tq": 2, "bk": 3, "tk": 3}


def _rows(name: str, about: str, body: str, causal: bool = False) -> CudaText:
    return CudaText(
        name, _module(about, _launch(_GRID, _PARAMETERS, body)), _inputs(), _SIZES, ("dk", "dv", "tq", "tk"), _FACTS,
        (B, H, N, DV), _attention(causal=causal), _EXAMPLE, _ROWS,
    )  # fmt: skip


TEXTS: dict[str, CudaText] = {
    t.name: t
    for t in (
        _rows("tiled", "Attention, a row a thread, K and V staged in shared memory.", TILED),
        _rows("causal", "Causal attention; the bound of the tiles is that of the block.", CAUSAL, causal=True),
        _rows("guarded", "Causal attention; tiles beyond the block are guarded out.", GUARDED, causal=True),
        CudaText(
            "decode",
            _module(
                "Attention of one query a head; the keys are split over the threads of a block.",
                _launch(
                    'grid=("h", "b", 1), block=("ts", 1, 1), constants=("dk", "dv", "ts", "tk"), index="int64"',
                    "out, q, k, v, scale, b, h, m",
                    DECODE,
                ),
            ),
            _inputs(rows=False), ("b", "h", "dk", "m", "dv", "ts", "tk"), ("dk", "dv", "ts", "tk"),
            (Lt(ZERO, Size("ts")), Lt(ZERO, Size("tk")), Le(M, Term("imul", None, (Size("ts"), Size("tk"))))),
            (B, H, DV), _attention(rows=False),
            {"b": 2, "h": 2, "dk": 3, "m": 7, "dv": 5, "ts": 4, "tk": 2},
        ),
        CudaText(
            "plane",
            _module(
                "Attention; the keys and the columns of a row are shared by tx threads.",
                _launch(
                    'grid=("bq", "h", "b"), block=("tx", "tq", 1), constants=("dk", "dv", "tq", "tk", "tx"), '
                    'index="int64"',
                    _PARAMETERS,
                    PLANE,
                ),
            ),
            _inputs(), (*_SIZES, "tx"), ("dk", "dv", "tq", "tk", "tx"), (*_FACTS, Lt(ZERO, Size("tx"))),
            (B, H, N, DV), _attention(), {**_EXAMPLE, "tx": 2}, _ROWS,
        ),
        CudaText(
            "online",
            _module(
                "Causal attention; tiles of queries and keys in registers and shared memory, dead tiles skipped.",
                _launch(
                    'grid=("b*h*bq", 1, 1), block=("tx", "ty", 1), constants=("dk", "ri", "ty", "rj", "tx", "rc"), '
                    'index="int64"',
                    "out, q, k, v, scale, b, h, n, m, dv, bq, bk",
                    ONLINE,
                ),
            ),
            _inputs(), ("b", "h", "n", "dk", "m", "dv", "bq", "bk", "ri", "ty", "rj", "tx", "rc"),
            ("dk", "ri", "ty", "rj", "tx", "rc"), tuple(_tiled(*_TILES)), (B, H, N, DV), _attention(causal=True),
            {"b": 2, "h": 2, "n": 5, "dk": 2, "m": 7, "dv": 4, "bq": 2, "bk": 3, "ri": 2, "ty": 2, "rj": 1, "tx": 3, "rc": 2},
            _TILES,
        ),
        CudaText(
            "split",
            _module(
                "Attention; the states of chunks of keys, then their merge.",
                _launch(
                    'grid=("bp*b*h*bq", 1, 1), block=("tx", "ty", 1), constants=("dk", "ri", "ty", "rj", "tx", "rc"), '
                    'index="int64"',
                    "m50, l51, o52, q, k, v, scale, b, h, n, m, dv, bq, bp, bk",
                    PARTIAL,
                    "partial",
                    '(("m50", "bp", "b", "h", "n"), ("l51", "bp", "b", "h", "n"), ("o52", "bp", "b", "h", "n", "rc*tx"))',
                ),
                _launch(
                    'grid=("b*h*n", 1, 1), block=("tx", 1, 1), constants=("tx",), index="int64"',
                    "out, m50, l51, o52, q, k, v, scale, b, h, n, dk, m, dv, bq, bp, bk, ri, ty, rj, rc",
                    MERGE,
                ),
            ),
            _inputs(), ("b", "h", "n", "dk", "m", "dv", "bq", "bp", "bk", "ri", "ty", "rj", "tx", "rc"),
            ("dk", "ri", "ty", "rj", "tx", "rc"), tuple(_tiled(*_CHUNKS)), (B, H, N, DV), _attention(),
            {"b": 2, "h": 2, "n": 5, "dk": 3, "m": 9, "dv": 3, "bq": 2, "bp": 3, "bk": 2, "ri": 2, "ty": 2, "rj": 1, "tx": 2, "rc": 2},
            _CHUNKS,
        ),
    )
}  # fmt: skip

_FIRST = "        cuda.syncthreads()\n        if row < n:\n            for u in span(min(tk"
_LAST = "        cuda.syncthreads()\n    if row < n:\n        for c in span(dv):\n            out"
_LOAD = "for e in span(t, tk * dk, cuda.blockDim.x):"
_STORE = "    if row < n:\n        for c in span(dv):\n            out"


def _without_barriers() -> Iterator[CudaMutant]:
    """Texts of tiles on threads and registers with each barrier left out in turn."""
    barrier = "            cuda.syncthreads()\n"
    rows = "            for e6 in span(ri):\n"
    for base in ("online", "split"):
        for before, following in (
            ("scores", rows + "                for e7 in span(rj):\n                    s20[e6, e7] = ZERO"),
            ("maximum", rows + "                m31"),
            ("sums", rows + "                for e7 in span(rc):\n                    s37[e6, e7] = ZERO"),
            ("next-tile", "    for e6 in span(ri):\n        r6 = e6 * ty + y\n"),
        ):
            yield CudaMutant(f"{base}-no-barrier-before-{before}", base, "race", ((barrier + following, following),))


_AFTER_TILES = "    for e6 in span(ri):\n        r6 = e6 * ty + y\n        for e7 in span(rc):\n            c7 = e7 * tx + x\n            if"
_STORE_OUT = "            if r6 < min(ri * ty, n - i4 * (ri * ty)) and c7 < dv:\n                out"
_STORE_M = "        if r6 < min(ri * ty, n - i4 * (ri * ty)) and x < 1:\n            m50"
_STORE_L = "        if r6 < min(ri * ty, n - i4 * (ri * ty)) and x < 1:\n            l51"
_STORE_O = "            if r6 < min(ri * ty, n - i4 * (ri * ty)):\n                o52"
_STAGE_Q = "    for r6 in span(y, ri * ty, ty):\n"
_ZERO_O = "    for e6 in span(ri):\n        for e7 in span(rc):\n            o11[e6, e7] = ZERO\n"
_WRITE_S = "                    x18[c7, r6] = s20[e6, e7] * scale\n"
_QUERY = "if i4 * (ri * ty) + r6 < n else ZERO"
_KEY = "* dk + c] if u < min(rj * tx, m - k17 * (rj * tx)) else ZERO"
_COLUMN = " and c < dv else ZERO"

TILE_MUTANTS: Sequence[CudaMutant] = (
    *_without_barriers(),
    CudaMutant(
        "barrier-for-rows-alone",
        "online",
        "barrier",
        ((_AFTER_TILES, "    if i4 * (ri * ty) + y < n:\n        cuda.syncthreads()\n" + _AFTER_TILES),),
    ),
    CudaMutant(
        "tiles-of-the-thread",
        "online",
        "barrier",
        (("if k17 * (rj * tx) < i4 * (ri * ty) + ri * ty:", "if k17 * (rj * tx) < i4 * (ri * ty) + ri * y + 1:"),),
    ),
    CudaMutant("query-not-padded", "online", "bounds", ((_QUERY, "if 0 < n else ZERO"),)),
    CudaMutant("key-not-padded", "online", "bounds", ((_KEY, "* dk + c] if u < rj * tx else ZERO"),)),
    CudaMutant("column-not-padded", "online", "bounds", ((_COLUMN, " else ZERO"),)),
    CudaMutant(
        "row-stored-past-the-last",
        "online",
        "bounds",
        ((_STORE_OUT, _STORE_OUT.replace("r6 < min(ri * ty, n - i4 * (ri * ty)) and ", "")),),
    ),
    CudaMutant(
        "column-stored-past-the-last", "online", "bounds", ((_STORE_OUT, _STORE_OUT.replace(" and c7 < dv", "")),)
    ),
    CudaMutant(
        "one-query-not-staged", "online", "initialised", ((_STAGE_Q, _STAGE_Q.replace("ri * ty,", "ri * ty - 1,")),)
    ),
    CudaMutant("two-queries-too-many", "online", "bounds", ((_STAGE_Q, _STAGE_Q.replace("ri * ty,", "ri * ty + 2,")),)),
    CudaMutant(
        "queries-by-another-stride", "online", "initialised", ((_STAGE_Q, _STAGE_Q.replace(", ty)", ", ty + 1)")),)
    ),
    CudaMutant("queries-by-all-threads", "online", "race", ((_STAGE_Q, "    for r6 in span(ri * ty):\n"),)),
    CudaMutant(
        "rows-without-room",
        "online",
        "bounds",
        (
            ("    p1 = dk * (ri * ty + 1)\n", "    p1 = dk * (ri * ty - 1)\n"),
            ("view(pool, 0, p1, (dk, ri * ty + 1))", "view(pool, 0, p1, (dk, ri * ty - 1))"),
        ),
    ),
    CudaMutant(
        "rows-by-another-stride",
        "online",
        "bounds",
        ((_WRITE_S, _WRITE_S.replace("x18[c7, r6]", "x18[c7, e6 * (ty + 1) + y]")),),
    ),
    CudaMutant("rows-that-meet", "online", "race", ((_WRITE_S, _WRITE_S.replace("x18[c7, r6]", "x18[c7, e6 + y]")),)),
    CudaMutant(
        "rows-and-keys-swapped", "online", "bounds", ((_WRITE_S, _WRITE_S.replace("x18[c7, r6]", "x18[r6, c7]")),)
    ),
    CudaMutant(
        "weights-of-another-thread",
        "online",
        "race",
        (
            ("s39[e6] = s39[e6] + x33[k40, r6]", "s39[e6] = s39[e6] + x18[k40, r6]"),
            ("x33[c7, r6] = (exp(x18", "x18[c7, r6] = (exp(x18"),
        ),
    ),
    CudaMutant("accumulator-not-cleared", "online", "initialised", ((_ZERO_O, ""),)),
    CudaMutant("pool-begins-again", "online", "view", (("k18 = view(pool, p1,", "k18 = view(pool, 0,"),)),
    CudaMutant(
        "views-that-overlap",
        "online",
        "view",
        (("p3 = p2 + ", "p3 = p1 + "), ("x18 = view(pool, p2,", "x18 = view(pool, p1,")),
    ),
    CudaMutant(
        "a-stop-too-soon",
        "online",
        "view",
        (("    p5 = p4 + (rj * tx) * (rc * tx + 1)\n", "    p5 = p4 + (rj * tx) * (rc * tx)\n"),),
    ),
    CudaMutant(
        "a-view-larger-than-its-slice",
        "online",
        "view",
        (("view(pool, p4, p5, (rj * tx, rc * tx + 1))", "view(pool, p4, p5, (rj * tx + 1, rc * tx + 1))"),),
    ),
    CudaMutant("half-the-tiles-twice", "online", "once", (("    i4 = w1 % bq\n", "    i4 = w1 % bq // 2\n"),)),
    CudaMutant("tile-past-the-last", "online", "cover", (("    i4 = w1 % bq\n", "    i4 = w1 % bq + 1\n"),)),
    CudaMutant("state-by-all-columns", "split", "once", ((_STORE_M, _STORE_M.replace(" and x < 1", "")),)),
    CudaMutant("sum-by-all-columns", "split", "once", ((_STORE_L, _STORE_L.replace(" and x < 1", "")),)),
    CudaMutant("state-by-no-column", "split", "cover", ((_STORE_M, _STORE_M.replace("x < 1", "x < 0")),)),
    CudaMutant(
        "state-by-a-column-that-may-lack", "split", "cover", ((_STORE_M, _STORE_M.replace("x < 1", "0 < x and x < 2")),)
    ),
    CudaMutant("state-never-stored", "split", "cover", ((_STORE_M, _STORE_M.replace("ri * ty, n", "0, n")),)),
    CudaMutant("state-but-the-last-row", "split", "cover", ((_STORE_L, _STORE_L.replace("r6 < min", "r6 + 1 < min")),)),
    CudaMutant(
        "state-but-the-last-column",
        "split",
        "cover",
        (
            (
                "        for e7 in span(rc):\n            c7 = e7 * tx + x\n" + _STORE_O,
                "        for e7 in span(rc - 1):\n            c7 = e7 * tx + x\n" + _STORE_O,
            ),
        ),
    ),
    CudaMutant(
        "state-past-the-last-row", "split", "bounds", ((_STORE_O, "            if 0 < n:\n                o52"),)
    ),
    CudaMutant("first-chunk-alone", "split", "once", (("l51[((i1 * b + i2)", "l51[((0 * i1 * b + i2)"),)),
    CudaMutant("chunk-of-a-neighbour", "split", "bounds", (("m50[((i1 * b + i2)", "m50[(((i1 + 1) * b + i2)"),)),
    CudaMutant(
        "chunk-axis-forgotten", "split", "gamma", (("m50[((i1 * b + i2) * h + i3) * n", "m50[(i2 * h + i3) * n"),)
    ),
    CudaMutant(
        "made-smaller",
        "split",
        "bounds",
        (
            ('("o52", "bp", "b", "h", "n", "rc*tx")', '("o52", "bp", "b", "h", "n", "tx")'),
            ("* (rc * tx) + c7]", "* tx + c7]"),
            ("* (rc * tx) + c66]", "* tx + c66]"),
        ),
    ),
    CudaMutant(
        "made-larger",
        "split",
        "cover",
        (
            ('("l51", "bp", "b", "h", "n")', '("l51", "bp", "b", "h", "n*ty")'),
            ("l51[((i1 * b + i2) * h + i3) * n +", "l51[((i1 * b + i2) * h + i3) * (n * ty) +"),
            ("l51[((k68 * b + i61) * h + i62) * n +", "l51[((k68 * b + i61) * h + i62) * (n * ty) +"),
        ),
        dynamic=False,
    ),
    CudaMutant("a-chunk-too-many", "split", "bounds", (("for k68 in span(bp):", "for k68 in span(bp + 1):"),)),
    CudaMutant(
        "made-row-of-a-neighbour",
        "split",
        "bounds",
        (
            (
                "e69 = m50[((k68 * b + i61) * h + i62) * n + i63]",
                "e69 = m50[((k68 * b + i61) * h + i62) * n + (i63 + 1)]",
            ),
        ),
    ),
    CudaMutant("made-column-past-the-last", "split", "bounds", (("* (rc * tx) + c66]", "* (rc * tx) + (c66 + 1)]"),)),
    CudaMutant("merge-of-all-columns", "split", "bounds", (("span(x, dv, tx)", "span(x, rc * tx, tx)"),)),
    CudaMutant("merge-by-all-threads", "split", "once", (("span(x, dv, tx)", "span(dv)"),)),
    CudaMutant("merge-but-the-last-column", "split", "cover", (("span(x, dv, tx)", "span(x, dv - 1, tx)"),)),
)

MUTANTS: Sequence[CudaMutant] = (
    *TILE_MUTANTS,
    CudaMutant("no-first-barrier", "tiled", "race", ((_FIRST, _FIRST.split("\n", 1)[1]),)),
    CudaMutant("no-second-barrier", "tiled", "race", ((_LAST, _LAST.split("\n", 1)[1]),)),
    CudaMutant("stride-short", "tiled", "race", ((_LOAD, "for e in span(t, tk * dk, tq - 1 + min(1, 2 - tq)):"),)),
    CudaMutant("stride-long", "tiled", "initialised", ((_LOAD, "for e in span(t, tk * dk, tq + 1):"),)),
    CudaMutant(
        "load-guard-le",
        "tiled",
        "bounds",
        (
            (
                "            if kb * tk + r < m:\n                ks",
                "            if kb * tk + r < m + 1:\n                ks",
            ),
        ),
    ),
    CudaMutant("load-past-tile", "tiled", "bounds", ((_LOAD, "for e in span(t, (tk + 1) * dk, cuda.blockDim.x):"),)),
    CudaMutant("store-guard-le", "tiled", "bounds", ((_STORE, _STORE.replace("row < n", "row < n + 1")),)),
    CudaMutant(
        "no-store-guard",
        "guarded",
        "bounds",
        (("        if row < n:\n            out", "        if 0 < tq:\n            out"),),
    ),
    CudaMutant(
        "floor-grid", "tiled", "cover", (("row = cuda.blockIdx.x * tq + t", "row = cuda.blockIdx.x * tq + tq + t"),)
    ),
    CudaMutant(
        "thread-bound",
        "causal",
        "barrier",
        (("span(min(bk, (cuda.blockIdx.x * tq + tq + tk - 1) // tk))", "span(min(bk, (row + tk) // tk))"),),
    ),
    CudaMutant(
        "barrier-under-guard",
        "tiled",
        "barrier",
        (("    for kb in span(bk):", "    for kb in span(min(bk, n - row)):"),),
    ),
    CudaMutant("same-cells", "tiled", "race", ((_LOAD, "for e in span(tk * dk):"),)),
    CudaMutant(
        "gamma-swapped",
        "tiled",
        "gamma",
        (("out[((i * h + j) * n + row) * dv + c]", "out[((i * h + j) * dv + c) * n + row]"),),
    ),
    CudaMutant("heads-swapped", "tiled", "bounds", (("out[((i * h + j)", "out[((j * h + i)"),)),
    CudaMutant("tail-row", "tiled", "initialised", (("for u in span(min(tk, m - kb * tk)):", "for u in span(tk):"),)),
    CudaMutant(
        "small-stage",
        "tiled",
        "bounds",
        (("p2 = p1 + tk * dv", "p2 = p1 + tk * dk"), ("p2, (tk, dv))", "p2, (tk, dk))")),
    ),
    CudaMutant("no-accumulator", "tiled", "initialised", (("    for c in span(dv):\n        o[c] = ZERO\n", ""),)),
    CudaMutant(
        "shared-accumulator",
        "tiled",
        "race",
        (
            ("    o = cuda.local.array(dv, real)\n", ""),
            ("    x = cuda.local", "    p3 = p2 + dv\n    o = view(pool, p2, p3, (1, dv))\n    x = cuda.local"),
            ("o[c] = ZERO", "o[0, c] = ZERO"),
            ("o[c] = o[c] * f", "o[0, c] = o[0, c] * f"),
            ("quotient(o[c], l)", "quotient(o[0, c], l)"),
        ),
    ),
    CudaMutant("twice", "decode", "once", (("for c in span(t, dv, ts):", "for c in span(dv):"),)),
    CudaMutant("negative", "tiled", "bounds", (("s = s + x[c] * ks[u, c]", "s = s + x[c - 1] * ks[u, c]"),)),
    CudaMutant("no-split-barrier", "decode", "race", (("    cuda.syncthreads()\n", ""),)),
    CudaMutant("split-short", "decode", "bounds", (("for u in span(min(tk, m - t * tk)):", "for u in span(tk):"),)),
    CudaMutant(
        "no-middle-barrier",
        "plane",
        "race",
        (
            (
                "                ps[y, u] = s * scale\n        cuda.syncthreads()\n",
                "                ps[y, u] = s * scale\n",
            ),
        ),
    ),
    CudaMutant("flat-thread", "plane", "race", (("t = y * tx + x", "t = y + x"),)),
    CudaMutant("scores-one-row", "plane", "race", (("ps[y, u] = s * scale", "ps[0, u] = s * scale"),)),
    CudaMutant(
        "columns-shared",
        "plane",
        "initialised",
        (("        for c in span(x, dv, tx):\n            out", "        for c in span(dv):\n            out"),),
    ),
    CudaMutant(
        "name-hides",
        "tiled",
        "name",
        (
            (
                "                s = ZERO\n                for c in span(dk):\n                    s = s + x",
                "                x = ZERO\n                for c in span(dk):\n                    s = s + x",
            ),
        ),
    ),
)
