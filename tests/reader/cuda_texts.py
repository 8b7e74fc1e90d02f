"""Hand-written CUDA kernel texts in the grammar of ``moaproof/reader/access.py``, and mutants of them, as data.

A text is one launch.  ``grid`` and ``block`` in the decorator name sizes or give literals, for the axes x, y, z.  The
sizes named in ``constants`` are no parameters: the loader binds them in the text's module before it is compiled,
because the extents of shared and local arrays are constants to the compiler.  All other sizes are parameters, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """One kernel: its text, and what its launch promises.

    ``inputs`` in the order of the parameters, ``sizes`` all names in order (constants included), ``facts`` about the
    sizes, ``out`` the shape of the output, ``spec`` the term that it computes, and ``example`` sizes for a run.
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

    @property
    def data(self) -> bytes:
        return self.text.encode("ascii")


@dataclass(frozen=True)
class CudaMutant:
    """``base`` with ``old`` replaced by ``new`` (each pair once, and it must occur once); ``kind`` of error is due."""

    name: str
    base: str
    kind: str  # bounds, initialised, race, barrier, once, cover, gamma, name
    edits: tuple[tuple[str, str], ...]
    dynamic: bool = True  # a run at the example's sizes can see it

    def data(self) -> bytes:
        text = TEXTS[self.base].text
        for old, new in self.edits:
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} occurs {text.count(old)} times")
            text = text.replace(old, new)
        return text.encode("ascii")


def _module(about: str, launch: str, parameters: str, body: str) -> str:
    return f'''"""{about}

core: {"0" * 64}
"""

from moaproof.instructions.cuda_float32 import LOWEST, ONE, ZERO, cuda, exp, fmax, launch, quotient, real, rescale, sqrt


@launch({launch})
def kernel({parameters}):
{body}'''


def _tiled(*tilings: tuple[str, str, str]) -> list[Term]:
    """Facts of (extent, tile, count)."""
    return [f for extent, tile, count in tilings for f in tiling_facts(Tiling(extent, tile, count))]


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
    ks = cuda.shared.array((tk, dk), real)
    vs = cuda.shared.array((tk, dv), real)
    x = cuda.local.array(dk, real)
    o = cuda.local.array(dv, real)
    t = cuda.threadIdx.x
    i = cuda.blockIdx.z
    j = cuda.blockIdx.y
    row = cuda.blockIdx.x * tq + t
    if row < n:
        for c in range(dk):
            x[c] = q[((i * h + j) * n + row) * dk + c]
    top = LOWEST
    l = ZERO
    for c in range(dv):
        o[c] = ZERO
    for kb in range(bk):
        for e in range(t, tk * dk, cuda.blockDim.x):
            r = e // dk
            d = e % dk
            if kb * tk + r < m:
                ks[r, d] = k[((i * h + j) * m + (kb * tk + r)) * dk + d]
        for e in range(t, tk * dv, cuda.blockDim.x):
            r = e // dv
            d = e % dv
            if kb * tk + r < m:
                vs[r, d] = v[((i * h + j) * m + (kb * tk + r)) * dv + d]
        cuda.syncthreads()
        if row < n:
            for u in range(min(tk, m - kb * tk)):
                s = ZERO
                for c in range(dk):
                    s = s + x[c] * ks[u, c]
                s = s * scale
                new = fmax(top, s)
                f = rescale(top, new)
                p = rescale(s, new)
                top = new
                l = l * f + p
                for c in range(dv):
                    o[c] = o[c] * f + p * vs[u, c]
        cuda.syncthreads()
    if row < n:
        for c in range(dv):
            out[((i * h + j) * n + row) * dv + c] = quotient(o[c], l)
"""

CAUSAL = TILED.replace("range(bk)", "range(min(bk, (cuda.blockIdx.x * tq + tq + tk - 1) // tk))").replace(
    "            for u in range(min(tk, m - kb * tk)):",
    "            for u in range(min(min(tk, m - kb * tk), row + 1 - kb * tk)):",
)

# A guard instead of a bound; the tail of a tile is filled with zeros and hidden by the guard of the score.
GUARDED = """\
    ks = cuda.shared.array((tk, dk), real)
    vs = cuda.shared.array((tk, dv), real)
    o = cuda.local.array(dv, real)
    t = cuda.threadIdx.x
    i = cuda.blockIdx.z
    j = cuda.blockIdx.y
    row = cuda.blockIdx.x * tq + t
    top = LOWEST
    l = ZERO
    for c in range(dv):
        o[c] = ZERO
    for kb in range(bk):
        if kb * tk < cuda.blockIdx.x * tq + tq:
            for e in range(t, tk * dk, tq):
                r = e // dk
                d = e - r * dk
                ks[r, d] = (k[((i * h + j) * m + (kb * tk + r)) * dk + d] if kb * tk + r < m else ZERO)
            for e in range(t, tk * dv, tq):
                r = e // dv
                d = e - r * dv
                vs[r, d] = (v[((i * h + j) * m + (kb * tk + r)) * dv + d] if kb * tk + r < m else ZERO)
            cuda.syncthreads()
            for u in range(tk):
                if row < n and kb * tk + u < m and kb * tk + u < row + 1:
                    s = ZERO
                    for c in range(dk):
                        s = s + q[((i * h + j) * n + row) * dk + c] * ks[u, c]
                    s = s * scale
                    new = fmax(top, s)
                    f = rescale(top, new)
                    p = rescale(s, new)
                    top = new
                    l = l * f + p
                    for c in range(dv):
                        o[c] = o[c] * f + p * vs[u, c]
            cuda.syncthreads()
    for c in range(dv):
        if row < n:
            out[((i * h + j) * n + row) * dv + c] = quotient(o[c], l)
"""

# One query a head; thread t folds the keys t*tk .. t*tk + tk - 1, then all merge: column c by thread c mod ts.
DECODE = """\
    ms = cuda.shared.array(ts, real)
    ls = cuda.shared.array(ts, real)
    os = cuda.shared.array((ts, dv), real)
    t = cuda.threadIdx.x
    j = cuda.blockIdx.x
    i = cuda.blockIdx.y
    top = LOWEST
    l = ZERO
    for c in range(dv):
        os[t, c] = ZERO
    for u in range(min(tk, m - t * tk)):
        s = ZERO
        for c in range(dk):
            s = s + q[(i * h + j) * dk + c] * k[((i * h + j) * m + (t * tk + u)) * dk + c]
        s = s * scale
        new = fmax(top, s)
        f = rescale(top, new)
        p = rescale(s, new)
        top = new
        l = l * f + p
        for c in range(dv):
            os[t, c] = os[t, c] * f + p * v[((i * h + j) * m + (t * tk + u)) * dv + c]
    ms[t] = top
    ls[t] = l
    cuda.syncthreads()
    all = LOWEST
    for u in range(ts):
        all = fmax(all, ms[u])
    w = ZERO
    for u in range(ts):
        w = w + ls[u] * rescale(ms[u], all)
    for c in range(t, dv, ts):
        y = ZERO
        for u in range(ts):
            y = y + os[u, c] * rescale(ms[u], all)
        out[(i * h + j) * dv + c] = quotient(y, w)
"""

# Threads in two axes: y is the row of the tile, x shares the keys for the scores and the columns for the output.
PLANE = """\
    ks = cuda.shared.array((tk, dk), real)
    ps = cuda.shared.array((tq, tk), real)
    o = cuda.local.array(dv, real)
    x = cuda.threadIdx.x
    y = cuda.threadIdx.y
    t = y * tx + x
    i = cuda.blockIdx.z
    j = cuda.blockIdx.y
    row = cuda.blockIdx.x * tq + y
    top = LOWEST
    l = ZERO
    for c in range(x, dv, tx):
        o[c] = ZERO
    for kb in range(bk):
        for e in range(t, tk * dk, tq * tx):
            r = e // dk
            d = e % dk
            if kb * tk + r < m:
                ks[r, d] = k[((i * h + j) * m + (kb * tk + r)) * dk + d]
        cuda.syncthreads()
        if row < n:
            for u in range(x, min(tk, m - kb * tk), tx):
                s = ZERO
                for c in range(dk):
                    s = s + q[((i * h + j) * n + row) * dk + c] * ks[u, c]
                ps[y, u] = s * scale
        cuda.syncthreads()
        if row < n:
            new = top
            for u in range(min(tk, m - kb * tk)):
                new = fmax(new, ps[y, u])
            f = rescale(top, new)
            l = l * f
            for c in range(x, dv, tx):
                o[c] = o[c] * f
            top = new
            for u in range(min(tk, m - kb * tk)):
                p = rescale(ps[y, u], new)
                l = l + p
                for c in range(x, dv, tx):
                    o[c] = o[c] + p * v[((i * h + j) * m + (kb * tk + u)) * dv + c]
        cuda.syncthreads()
    if row < n:
        for c in range(x, dv, tx):
            out[((i * h + j) * n + row) * dv + c] = quotient(o[c], l)
"""

_GRID = 'grid=("bq", "h", "b"), block=("tq", 1, 1), constants=("dk", "dv", "tq", "tk"), index="int64"'
_SIZES = ("b", "h", "n", "dk", "m", "dv", "bq", "tq", "bk", "tk")
_PARAMETERS = "out, q, k, v, scale, b, h, n, m, bq, bk"
_FACTS = tuple(_tiled(("n", "tq", "bq"), ("m", "tk", "bk")))
_EXAMPLE = {"b": 2, "h": 2, "n": 5, "dk": 3, "m": 7, "dv": 2, "bq": 3, "tq": 2, "bk": 3, "tk": 3}


def _rows(name: str, about: str, body: str, causal: bool = False) -> CudaText:
    return CudaText(
        name, _module(about, _GRID, _PARAMETERS, body), _inputs(), _SIZES, ("dk", "dv", "tq", "tk"), _FACTS,
        (B, H, N, DV), _attention(causal=causal), _EXAMPLE,
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
                'grid=("h", "b", 1), block=("ts", 1, 1), constants=("dk", "dv", "ts", "tk"), index="int64"',
                "out, q, k, v, scale, b, h, m",
                DECODE,
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
                'grid=("bq", "h", "b"), block=("tx", "tq", 1), constants=("dk", "dv", "tq", "tk", "tx"), '
                'index="int64"',
                _PARAMETERS,
                PLANE,
            ),
            _inputs(), (*_SIZES, "tx"), ("dk", "dv", "tq", "tk", "tx"), (*_FACTS, Lt(ZERO, Size("tx"))),
            (B, H, N, DV), _attention(), {**_EXAMPLE, "tx": 2},
        ),
    )
}  # fmt: skip

_FIRST = "        cuda.syncthreads()\n        if row < n:\n            for u in range(min(tk"
_LAST = "        cuda.syncthreads()\n    if row < n:\n        for c in range(dv):\n            out"
_LOAD = "for e in range(t, tk * dk, cuda.blockDim.x):"
_STORE = "    if row < n:\n        for c in range(dv):\n            out"

MUTANTS: Sequence[CudaMutant] = (
    CudaMutant("no-first-barrier", "tiled", "race", ((_FIRST, _FIRST.split("\n", 1)[1]),)),
    CudaMutant("no-second-barrier", "tiled", "race", ((_LAST, _LAST.split("\n", 1)[1]),)),
    CudaMutant("stride-short", "tiled", "race", ((_LOAD, "for e in range(t, tk * dk, tq - 1 + min(1, 2 - tq)):"),)),
    CudaMutant("stride-long", "tiled", "initialised", ((_LOAD, "for e in range(t, tk * dk, tq + 1):"),)),
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
    CudaMutant("load-past-tile", "tiled", "bounds", ((_LOAD, "for e in range(t, (tk + 1) * dk, cuda.blockDim.x):"),)),
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
        (("range(min(bk, (cuda.blockIdx.x * tq + tq + tk - 1) // tk))", "range(min(bk, (row + tk) // tk))"),),
    ),
    CudaMutant(
        "barrier-under-guard",
        "tiled",
        "barrier",
        (("    for kb in range(bk):", "    for kb in range(min(bk, n - row)):"),),
    ),
    CudaMutant("same-cells", "tiled", "race", ((_LOAD, "for e in range(tk * dk):"),)),
    CudaMutant(
        "gamma-swapped",
        "tiled",
        "gamma",
        (("out[((i * h + j) * n + row) * dv + c]", "out[((i * h + j) * dv + c) * n + row]"),),
    ),
    CudaMutant("heads-swapped", "tiled", "bounds", (("out[((i * h + j)", "out[((j * h + i)"),)),
    CudaMutant("tail-row", "tiled", "initialised", (("for u in range(min(tk, m - kb * tk)):", "for u in range(tk):"),)),
    CudaMutant(
        "small-stage",
        "tiled",
        "bounds",
        (("vs = cuda.shared.array((tk, dv), real)", "vs = cuda.shared.array((tk, dk), real)"),),
    ),
    CudaMutant("no-accumulator", "tiled", "initialised", (("    for c in range(dv):\n        o[c] = ZERO\n", ""),)),
    CudaMutant(
        "shared-accumulator", "tiled", "race", (("o = cuda.local.array(dv, real)", "o = cuda.shared.array(dv, real)"),)
    ),
    CudaMutant("twice", "decode", "once", (("for c in range(t, dv, ts):", "for c in range(dv):"),)),
    CudaMutant("negative", "tiled", "bounds", (("s = s + x[c] * ks[u, c]", "s = s + x[c - 1] * ks[u, c]"),)),
    CudaMutant("no-split-barrier", "decode", "race", (("    cuda.syncthreads()\n", ""),)),
    CudaMutant("split-short", "decode", "bounds", (("for u in range(min(tk, m - t * tk)):", "for u in range(tk):"),)),
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
        (("        for c in range(x, dv, tx):\n            out", "        for c in range(dv):\n            out"),),
    ),
    CudaMutant(
        "name-hides",
        "tiled",
        "name",
        (
            (
                "                s = ZERO\n                for c in range(dk):\n                    s = s + x",
                "                x = ZERO\n                for c in range(dk):\n                    s = s + x",
            ),
        ),
    ),
)
