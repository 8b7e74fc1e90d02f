"""Hypothesis strategies for attention: what is drawn jointly, and how a drawn case becomes tensors.

    @given(cases())                                     # or cases(kinds=("causal",), dtypes=("float64",), ...)
    def test_mine(case: Case) -> None:
        x = expand(case)                                # x.q, x.k, x.v, x.mask, x.causal, x.scale

A ``Case`` is small (sizes and names), so that it shrinks and prints well; its numbers are expanded from its seed, the
same ones on every machine.  The simplest case is ``Case()``.

``b`` batches, ``g`` key heads and ``r`` query heads for each of them (h = g*r), ``n`` queries, ``m`` keys, ``dk`` and
``dv`` components; q is (b, h, n, dk), k is (b, g, m, dk), v is (b, g, m, dv), the mask broadcasts to (b, h, n, m).

*Jointly* means that what is interesting together is likely together.  The relation of n to m is drawn before the two
extents; tiles for the extents that they meet, and one alone of those that are longer; a mask is never broadcast along
an axis that its pattern needs; a scale has any sign only where the regime leaves it open; special values are drawn
only where there is a place for them.

==============  ====================================================================================================
kind            which keys query i sees
==============  ====================================================================================================
plain           all
causal          j <= i, aligned top left
masked          those of the pattern, by a boolean mask
==============  ====================================================================================================

==============  ====================================================================================================
relation        queries and keys
==============  ====================================================================================================
same            n = m
fewer           n < m: fewer queries than keys
more            n > m
==============  ====================================================================================================

==============  ====================================================================================================
fit             how a tile t fits its extent e (``tq`` that of n, ``tk`` that of m)
==============  ====================================================================================================
chosen          no tile is given: the kernel chooses
whole           t divides e
short           the last tile is one short: t divides e + 1
over            the last tile holds one: t divides e - 1
ragged          another remainder
beyond          t > e
==============  ====================================================================================================

==============  ====================================================================================================
pattern         what a mask shows
==============  ====================================================================================================
random          each place with probability 1/2
sparse          each place with probability 1/50
none, all       nothing; everything
first, last     the first key alone; the last key alone
rows            every second query sees all keys, the others none
keys            keys 1, 4, 7, ..
block           no key of the first tile that ``attention`` chooses, all others
tiles           no key of every second tile (``tk`` or 64 keys), the first among them
banded          a sliding window: i - w < j <= i with w of 1 to 8
lower           j - i <= m - n: causal, but aligned bottom right, so that with n > m some rows see nothing
upper           j >= i
padding         in each batch the keys before some length, 0 and m included
==============  ====================================================================================================

==============  ====================================================================================================
regime          scores, before the scale
==============  ====================================================================================================
normal          those of standard normal q and k
tiny, zero      q times 1e-9; q = 0 with both signs
ties            q and k rounded to integers: equal scores, and exact ones
x30             q times 30
x1000           k times 1000
one-hot         q times 1000
spike           one key of each head far above all others, for every query
negative        all below 0, down to hundreds
rising          each key above the one before it: every tile brings a new maximum
falling         each key below the one before it
==============  ====================================================================================================

==============  ====================================================================================================
pool            values v
==============  ====================================================================================================
normal          standard normal
zeros           zeros of both signs
subnormal       small multiples of the smallest positive number
large           normal, times 1e-8 of the largest number
huge            of both signs; a sum over all keys comes near the largest number, on both sides of what may overflow
wide            magnitudes from the square root of the smallest normal number to that of the largest
alternating     +1000 and -1000 in turn, plus normal
one-sign        normal, without its sign: nothing cancels
constant        0.7
==============  ====================================================================================================

==============  ====================================================================================================
layout          how q, k, v lie in memory
==============  ====================================================================================================
contiguous      row-major
transposed      (b, n, h, d), as a projection leaves them; so is the mask, in its last two axes
columns         (b, h, d, n)
sliced          every second component of a wider tensor, whose others are NaN
expanded        one batch, repeated with stride 0
offset          row-major, one element into a storage that has NaN before and after
==============  ====================================================================================================

==============  ====================================================================================================
special         NaN, infinity and the largest number
==============  ====================================================================================================
none            nowhere
masked          in every key that no query sees (its rows of k and v), and in every query that sees no key
visible         NaN or infinity in one to three places of q, k or v that count for some row
==============  ====================================================================================================

The policy on NaN and infinity is that of ``attention``:

- A key has no influence on a row that does not see it, whatever k and v hold there; a query that sees no key gives 0,
  whatever it holds.  So with ``masked`` every output is due as if those places held 0: ``sanitised`` gives the inputs
  that a reference, which has no such policy, must be asked about.
- A visible NaN of q or k makes its output rows NaN, one of v its column in the rows that see it: ``due_nan``.
- Where an infinity is visible nothing is claimed.  ``touched`` are the elements that a visible NaN or infinity reaches;
  all others keep their claim, and ``sanitised`` gives their reference.

Whether finite values overflow on the way is not said here but by the bound, which refuses them (``NotCovered``).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
import torch
from hypothesis import strategies as st

from ..errors import CertificateInvalid
from ..runtime.attention import KEYS

Array = np.ndarray[Any, Any]

KINDS: Final = ("plain", "causal", "masked")
RELATIONS: Final = ("same", "fewer", "more")
FITS: Final = ("chosen", "whole", "short", "over", "ragged", "beyond")
REGIMES: Final = ("normal", "tiny", "zero", "ties", "x30", "negative", "one-hot", "rising", "falling", "x1000", "spike")
POOLS: Final = (
    "normal", "zeros", "subnormal", "large", "alternating", "constant", "huge", "wide", "one-sign",
)  # fmt: skip
LAYOUTS: Final = ("contiguous", "transposed", "sliced", "expanded", "columns", "offset")
PATTERNS: Final = (
    "random", "sparse", "none", "all", "first", "last", "rows", "keys", "block",
    "tiles", "banded", "lower", "upper", "padding",
)  # fmt: skip
SPECIALS: Final = ("none", "masked", "visible")
BATCHES: Final = (1, 2, 1, 2, 1, 2, 3, 0)  # an empty batch compares nothing: one case in eight
QUERIES: Final = (3, 0, 1, 2, 5, 7, 8, 9, 16, 17, 31, 64, 67)
KEYS_DRAWN: Final = (3, 0, 1, 2, 5, 8, 13, KEYS - 1, KEYS, KEYS + 1, 2 * KEYS, 2 * KEYS + 1, 131)
HEADS: Final = (2, 1, 3, 5, 8, 13, 16)
TILES: Final = (None, None, 1, 2, 3, 4, 5, 7, 8, 16, 64)  # None: what ``attention`` chooses
SCALES: Final = (None, 1.0, 0.1)
SIGNED: Final = (*SCALES, None, 1.0, -0.5, 0.0)
DIRECTED: Final = ("negative", "rising", "falling", "spike")  # regimes that another sign of the scale would undo
# Axes (b, h, n, m) of a mask along which its pattern says something: there it is never broadcast.
NEEDED: Final[Mapping[str, tuple[int, ...]]] = {
    "first": (3,), "last": (3,), "keys": (3,), "block": (3,), "tiles": (3,), "padding": (3,),
    "rows": (2,), "banded": (2, 3), "lower": (2, 3), "upper": (2, 3),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One case: sizes, kind (plain, causal, masked), names of how its numbers are made, tiles of the kernel."""

    b: int = 1
    g: int = 1
    r: int = 1
    n: int = 3
    m: int = 3
    dk: int = 2
    dv: int = 2
    kind: str = "plain"
    pattern: str = "random"
    steps: tuple[int, int, int, int] = (1, 1, 1, 1)  # 0: the mask is broadcast along that axis
    regime: str = "normal"
    pool: str = "normal"
    layout: str = "contiguous"
    dtype: str = "float64"
    scale: float | None = None
    tq: int | None = None
    tk: int | None = None
    seed: int = 0
    special: str = "none"

    @property
    def h(self) -> int:
        return self.g * self.r

    @property
    def relation(self) -> str:
        """Of n to m: same, fewer, more."""
        return "same" if self.n == self.m else "fewer" if self.n < self.m else "more"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"steps": list(self.steps), "scale": None if self.scale is None else self.scale.hex()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Case:
        """The case that ``to_json`` wrote; a field that was not there yet has its default."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(document) - known):
            raise CertificateInvalid(f"case: unknown fields {', '.join(unknown)}; was it stored by a newer moaproof?")
        found = dict(document)
        if "steps" in found:
            found["steps"] = tuple(found["steps"])
        if found.get("scale") is not None:
            found["scale"] = float.fromhex(found["scale"])
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The tensors of a case, with its keyword arguments for ``attention``."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None
    causal: bool
    scale: float | None


# --- drawing ---------------------------------------------------------------------------------------


@st.composite
def cases(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = KINDS,
    dtypes: tuple[str, ...] = ("float64", "float32"),
    groups: tuple[int, ...] = (1, 2, 3),
    layouts: tuple[str, ...] = LAYOUTS,
    tiles: tuple[int | None, ...] = TILES,
    queries: tuple[int, ...] = QUERIES,
    keys: tuple[int, ...] = KEYS_DRAWN,
    heads: tuple[int, ...] = HEADS,
    relations: tuple[str, ...] = RELATIONS,
    specials: tuple[str, ...] = SPECIALS,
) -> Case:
    """A case; the simplest one is ``Case()``.  Each argument narrows what is drawn; its first entry is the simplest.

    ``queries`` and ``keys`` are extents, ``heads`` numbers of components (dk and dv), ``groups`` query heads for each
    key head.  With the relation ``same`` both extents are one of ``queries``.
    """
    n, m = _extents(draw, relations, queries, keys)
    # masked twice, for its many patterns
    kind = _one(draw, "kind", [*kinds, *(k for k in kinds if k == "masked")])
    shown, steps = "random", [1, 1, 1, 1]
    if kind == "masked":
        shown = _one(draw, "pattern", PATTERNS)
        steps = [1 if axis in NEEDED.get(shown, ()) else _one(draw, axis, (1, 0)) for axis in range(4)]
    regime = _one(draw, "regime", REGIMES)
    return Case(
        b=_one(draw, "b", BATCHES),
        g=_one(draw, "g", (1, 2, 3)),
        r=_one(draw, "r", groups),
        n=n,
        m=m,
        dk=_one(draw, "dk", heads),
        dv=_one(draw, "dv", heads),
        kind=kind,
        pattern=shown,
        steps=(steps[0], steps[1], steps[2], steps[3]),
        regime=regime,
        pool=_one(draw, "pool", POOLS),
        layout=_one(draw, "layout", layouts),
        dtype=_one(draw, "dtype", dtypes),
        scale=_one(draw, "scale", SCALES if regime in DIRECTED else SIGNED),
        tq=_one(draw, "tq", tiles, _one_beyond(n, tiles)),
        tk=_one(draw, "tk", tiles, _one_beyond(m, tiles)),
        seed=draw(st.integers(0, 2**32 - 1), label="seed"),
        special=_one(draw, "special", _places(kind, shown, n, m, specials)),
    )


def _one(draw: st.DrawFn, name: Any, options: Sequence[Any], allowed: Callable[[Any], bool] = lambda _: True) -> Any:
    """One of the options that are allowed, drawn under a name.

    The name keeps the lists apart: where two of them are equal, Hypothesis makes up to five cases of each new one by
    copying a draw from the one to the other, and 300 cases do not see every pattern.  And always one draw from the
    whole list: a place in it means the same option wherever that is allowed, as shrinking supposes.
    """
    _, place = draw(st.sampled_from([(name, place) for place in range(len(options))]), label=str(name))
    if allowed(options[place]):
        return options[place]
    rest = [x for x in options if allowed(x)]
    return rest[place % len(rest)]


def _extents(
    draw: st.DrawFn, relations: tuple[str, ...], queries: tuple[int, ...], keys: tuple[int, ...]
) -> tuple[int, int]:
    """The relation of n to m first, among those that the extents allow."""
    related = {"same": operator.eq, "fewer": operator.lt, "more": operator.gt}

    def allowed(relation: str, n: int) -> bool:
        return relation == "same" or any(related[relation](n, m) for m in keys)

    relation = _one(draw, "relation", relations, lambda r: any(allowed(r, n) for n in queries))
    n = _one(draw, "n", queries, lambda n: allowed(relation, n))
    return n, n if relation == "same" else _one(draw, "m", keys, lambda m: related[relation](n, m))


def fit(extent: int, tile: int | None) -> str:
    """How a tile fits an extent: one of ``FITS``; 2 in an odd extent is short rather than over."""
    if tile is None:
        return "chosen"
    if tile > extent:
        return "beyond"
    left = extent % tile
    return "whole" if left == 0 else "short" if left == tile - 1 else "over" if left == 1 else "ragged"


def _one_beyond(extent: int, tiles: tuple[int | None, ...]) -> Callable[[int | None], bool]:
    """Of the tiles that are longer than the extent, which all do the same, the smallest alone is allowed."""
    beyond = sorted({t for t in tiles if t is not None and t > extent})
    return lambda t: t not in beyond[1:]


def _places(kind: str, shown: str, n: int, m: int, specials: tuple[str, ...]) -> list[str]:
    """The specials that can have a place, as often as they are to be drawn."""
    hidden = (kind == "masked" and shown != "all") or (kind == "causal" and n < m)
    seen = n > 0 and m > 0 and not (kind == "masked" and shown == "none")
    often = {"none": 3, "masked": 2 if hidden else 0, "visible": 1 if seen else 0}
    return [s for s in specials for _ in range(often[s])] or ["none"]


# --- numbers ---------------------------------------------------------------------------------------


def expand(case: Case) -> Inputs:
    """The tensors of a case: the same ones on every machine."""
    rng = np.random.default_rng(case.seed)
    q, k = scores(case, rng)
    v = values(case, rng)
    shown = pattern(case, rng) if case.kind == "masked" else None
    if case.special != "none":
        q, k, v = poisoned(case, q, k, v, shown)
    Q, K, V = (laid_out(x, case, rng) for x in (q, k, v))
    mask = None
    if shown is not None:
        full = torch.from_numpy(shown)
        mask = full.transpose(-1, -2).contiguous().transpose(-1, -2) if case.layout == "transposed" else full
    return Inputs(Q, K, V, mask, case.kind == "causal", case.scale)


def scores(case: Case, rng: np.random.Generator) -> tuple[Array, Array]:
    """q (b, h, n, dk) and k (b, g, m, dk) whose scores are as the regime says."""
    q = rng.standard_normal((case.b, case.h, case.n, case.dk))
    k = rng.standard_normal((case.b, case.g, case.m, case.dk))
    ramp = np.linspace(0.0, 1.0, case.m)[:, None]  # (m, 1)
    match case.regime:
        case "tiny":
            return q * 1e-9, k
        case "zero":
            return q * 0.0, k
        case "ties":
            return np.rint(q), np.rint(k)
        case "x30":
            return q * 30.0, k
        case "x1000":
            return q, k * 1e3
        case "negative":
            return np.abs(q) * 20.0, -np.abs(k) - 5.0
        case "one-hot":
            return q * 1e3, k
        case "spike":
            one = np.arange(case.m) == (case.seed % max(1, case.m))
            return np.abs(q) * 100.0 + 100.0, np.where(one[:, None], 1.0, 0.01 * k)
        case "rising":
            return np.abs(q) * 10.0, 4.0 * ramp + 0.01 * k
        case "falling":
            return np.abs(q) * 10.0, 4.0 * (1.0 - ramp) + 0.01 * k
    return q, k


def values(case: Case, rng: np.random.Generator) -> Array:
    """v (b, g, m, dv) of the pool."""
    shape = (case.b, case.g, case.m, case.dv)
    v = rng.standard_normal(shape)
    info = np.finfo(case.dtype)
    match case.pool:
        case "zeros":
            return np.where(v < 0, -0.0, 0.0)
        case "subnormal":
            return np.rint(v * 3) * float(info.smallest_subnormal)
        case "large":
            return v * (float(info.max) * 1e-8)
        case "huge":
            return np.clip(v, -3.0, 3.0) * (float(info.max) / (12 * max(1, case.m)))
        case "wide":
            return v * np.exp2(rng.uniform(int(info.minexp) / 2, int(info.maxexp) / 2 - 4, shape))
        case "alternating":
            return v + 1e3 * (-1.0) ** np.arange(case.m)[:, None]
        case "one-sign":
            return np.abs(v)
        case "constant":
            return np.full(shape, 0.7)
    return v


def pattern(case: Case, rng: np.random.Generator) -> Array:
    """A mask whose axes are those of (b, h, n, m), or 1 where its step is 0."""
    full = (case.b, case.h, case.n, case.m)
    shape = tuple(e if s else 1 for e, s in zip(full, case.steps, strict=True))
    i, j = np.indices(shape)[2:]
    match case.pattern:
        case "none":
            return np.zeros(shape, dtype=bool)
        case "all":
            return np.ones(shape, dtype=bool)
        case "first":
            return np.asarray(j == 0)
        case "last":
            return np.asarray(j == shape[3] - 1)
        case "rows":
            return np.asarray(i % 2 == 0)
        case "keys":
            return np.asarray(j % 3 == 1)
        case "sparse":
            return rng.random(shape) < 0.02
        case "block" | "tiles" | "banded" | "lower" | "upper" | "padding":
            return _shaped(case, i, j, rng)
    return rng.random(shape) < 0.5


def _shaped(case: Case, i: Array, j: Array, rng: np.random.Generator) -> Array:
    """The patterns that masks of real programs have."""
    match case.pattern:
        case "block":
            return np.asarray(j >= KEYS)
        case "tiles":
            return np.asarray(j // (case.tk or KEYS) % 2 == 1)
        case "banded":
            return np.asarray((j <= i) & (j > i - int(rng.integers(1, 9))))
        case "lower":
            return np.asarray(j - i <= case.m - case.n)
        case "upper":
            return np.asarray(j >= i)
    return np.asarray(j < rng.integers(0, case.m + 1, (i.shape[0], 1, 1, 1)))  # padding


def laid_out(x: Array, case: Case, rng: np.random.Generator) -> torch.Tensor:
    """The values (or, expanded, those of the first batch) in memory as the layout says; same shape."""
    t = torch.from_numpy(x.astype(case.dtype))
    match case.layout:
        case "transposed":
            return t.transpose(1, 2).contiguous().transpose(1, 2)
        case "columns":
            return t.transpose(2, 3).contiguous().transpose(2, 3)
        case "sliced":
            wide = torch.full((*t.shape[:2], t.shape[2] + 2, 2 * t.shape[3] + 1), float("nan"), dtype=t.dtype)
            view = wide[:, :, 1 : t.shape[2] + 1, 1::2]
            view.copy_(t)
            return view
        case "expanded":
            return t[:1].expand(t.shape)
        case "offset":
            flat = torch.full((t.numel() + 2,), float("nan"), dtype=t.dtype)
            view = flat[1:-1].view(t.shape)
            view.copy_(t)
            return view
    return t


# --- NaN and infinity ------------------------------------------------------------------------------


def poisoned(case: Case, q: Array, k: Array, v: Array, shown: Array | None) -> tuple[Array, Array, Array]:
    """q, k, v of the case with NaN, infinity and the largest number where ``case.special`` says.

    ``shown``: the mask, broadcastable to (b, h, n, m), of a masked case.  The numbers come from a generator of their
    own, so that all others are those of the same case without special values.
    """
    rng = np.random.default_rng([case.seed, 1])
    see = _seen((case.b, case.h, case.n, case.m), shown, case.kind == "causal")
    if case.layout == "expanded":  # one batch is read for all: a place counts if it does in any of them
        see = np.broadcast_to(see.any(axis=0, keepdims=True), see.shape)
    rows, keys = counted(see, case.g)
    q, k, v = q.copy(), k.copy(), v.copy()
    if case.special == "masked":
        bad = np.array([np.nan, np.inf, -np.inf, float(np.finfo(case.dtype).max)])
        for x, counts in ((q, rows), (k, keys), (v, keys)):
            x[~counts] = rng.choice(bad, (int((~counts).sum()), 1))
    else:
        which, counts = [(q, rows), (k, keys), (v, keys)][int(rng.integers(3))]
        places = np.argwhere(np.broadcast_to(counts[..., None], which.shape))
        for at in rng.permutation(places)[: int(rng.integers(1, 4))]:
            which[tuple(at)] = rng.choice([np.nan, np.nan, np.inf, -np.inf])
    return q, k, v


def seen(x: Inputs) -> Array:
    """Which keys each query sees: (b, h, n, m), boolean."""
    shape = (*x.q.shape[:3], x.k.shape[2])
    return _seen(shape, None if x.mask is None else x.mask.numpy(), x.causal)


def counted(see: Array, g: int) -> tuple[Array, Array]:
    """Of (b, h, n, m) and g key heads: the queries that see a key, (b, h, n), and the keys that one sees, (b, g, m)."""
    b, h, n, m = see.shape
    heads = see.reshape(b, g, h // g if g else 1, n, m)
    return np.asarray(see.any(axis=3)), np.asarray(heads.any(axis=(2, 3)))


def touched(x: Inputs) -> Array:
    """Which output elements a visible NaN or infinity reaches: (b, h, n, dv), boolean.  Nothing finite is due there."""
    return _reached(x, lambda t: ~torch.isfinite(t))


def due_nan(x: Inputs) -> Array:
    """Which output elements must be NaN: rows of a visible NaN of q or k, columns of one of v; (b, h, n, dv)."""
    return _reached(x, torch.isnan)


def sanitised(x: Inputs) -> Inputs:
    """What a reference is asked about: the same attention without anything that only ``attention``'s policy covers.

    Keys that no query sees and queries that see no key are 0, and so is each NaN and infinity.  Outside ``touched``
    what is due of ``x`` is what is due of these inputs.  Contiguous.
    """
    rows, keys = counted(seen(x), x.k.shape[1])
    clean = []
    for t, counts in ((x.q, rows), (x.k, keys), (x.v, keys)):
        keep = torch.from_numpy(counts[..., None]) & torch.isfinite(t)
        clean.append(torch.where(keep, t, torch.zeros((), dtype=t.dtype)).contiguous())
    return Inputs(clean[0], clean[1], clean[2], x.mask, x.causal, x.scale)


def _reached(x: Inputs, bad: Any) -> Array:
    """Elements of rows that see a key, and there a place for which ``bad`` is true."""
    see = seen(x)
    q, k, v = (bad(t).numpy() for t in (x.q, x.k, x.v))
    group = see.shape[1] // k.shape[1] if k.shape[1] else 1
    k, v = (np.repeat(t, group, axis=1) for t in (k, v))
    seeing, _ = counted(see, 1)
    rows: Array = (seeing & q.any(axis=3)) | (see & np.asarray(k.any(axis=3))[:, :, None, :]).any(axis=3)
    columns: Array = see.astype(np.float32) @ v.astype(np.float32)
    return np.asarray(rows[..., None] | (columns > 0))


def _seen(shape: tuple[int, ...], mask: Array | None, causal: bool) -> Array:
    full: Array = np.ones(shape, dtype=bool)
    if causal:
        return np.tril(full)
    return full if mask is None else full & mask
