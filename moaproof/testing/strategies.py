"""Hypothesis strategies for attention: what is drawn jointly, and how a drawn case becomes tensors.

A ``Case`` is small (sizes and names), so that it shrinks and prints well; its numbers are expanded from a seed.  It
is drawn from edges: extents 0, 1, a tile less one, a tile, a tile and one, primes; fewer, as many and more keys
than queries.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from hypothesis import strategies as st

from ..runtime.attention import KEYS

Array = np.ndarray[Any, Any]

KINDS: Final = ("plain", "causal", "masked")
REGIMES: Final = ("normal", "tiny", "zero", "ties", "x30", "negative", "one-hot", "rising", "falling")
POOLS: Final = ("normal", "zeros", "subnormal", "large", "alternating", "constant")
LAYOUTS: Final = ("contiguous", "transposed", "sliced", "expanded")
PATTERNS: Final = ("random", "sparse", "none", "all", "first", "last", "rows", "keys", "block")
QUERIES: Final = (3, 0, 1, 2, 5, 7, 8, 9, 16, 17, 31, 64, 67)
KEYS_DRAWN: Final = (3, 0, 1, 2, 5, 8, 13, KEYS - 1, KEYS, KEYS + 1, 2 * KEYS, 2 * KEYS + 1, 131)
HEADS: Final = (1, 2, 3, 5, 8, 13)
TILES: Final = (None, 1, 2, 3, 7, 8, 64)  # None: what ``attention`` chooses


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

    @property
    def h(self) -> int:
        return self.g * self.r

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"steps": list(self.steps), "scale": None if self.scale is None else self.scale.hex()}


@dataclass(frozen=True, slots=True)
class Inputs:
    """The tensors of a case, with its keyword arguments for ``attention``."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None
    causal: bool
    scale: float | None


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
) -> Case:
    """A case; the simplest one is 3 queries and 3 keys of 2 components, standard normal."""
    n = draw(st.sampled_from(queries), label="n")
    m = draw(st.one_of(st.sampled_from(keys), st.just(n)), label="m")
    return Case(
        b=draw(st.sampled_from((1, 2, 0))),
        g=draw(st.sampled_from((1, 2, 3))),
        r=draw(st.sampled_from(groups)),
        n=n,
        m=m,
        dk=draw(st.sampled_from(heads)),
        dv=draw(st.sampled_from(heads)),
        kind=draw(st.sampled_from(kinds)),
        pattern=draw(st.sampled_from(PATTERNS)),
        steps=draw(st.tuples(*[st.sampled_from((1, 0))] * 4)),
        regime=draw(st.sampled_from(REGIMES)),
        pool=draw(st.sampled_from(POOLS)),
        layout=draw(st.sampled_from(layouts)),
        dtype=draw(st.sampled_from(dtypes)),
        scale=draw(st.sampled_from((None, 1.0, 0.1, -0.5, 0.0))),
        tq=draw(st.sampled_from(tiles)),
        tk=draw(st.sampled_from(tiles)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def expand(case: Case) -> Inputs:
    """The tensors of a case: the same ones on every machine."""
    rng = np.random.default_rng(case.seed)
    q, k = scores(case, rng)
    v = values(case, rng)
    Q, K, V = (laid_out(x, case, rng) for x in (q, k, v))
    mask = None
    if case.kind == "masked":
        full = torch.from_numpy(pattern(case, rng))
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
        case "negative":
            return np.abs(q) * 20.0, -np.abs(k) - 5.0
        case "one-hot":
            return q * 1e3, k
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
        case "alternating":
            return v + 1e3 * (-1.0) ** np.arange(case.m)[:, None]
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
        case "block":
            return np.asarray(j >= KEYS)
        case "sparse":
            return rng.random(shape) < 0.02
    return rng.random(shape) < 0.5


def laid_out(x: Array, case: Case, rng: np.random.Generator) -> torch.Tensor:
    """The values (or, expanded, those of the first batch) in memory as the layout says; same shape."""
    t = torch.from_numpy(x.astype(case.dtype))
    match case.layout:
        case "transposed":
            return t.transpose(1, 2).contiguous().transpose(1, 2)
        case "sliced":
            wide = torch.full((*t.shape[:2], t.shape[2] + 2, 2 * t.shape[3] + 1), float("nan"), dtype=t.dtype)
            view = wide[:, :, 1 : t.shape[2] + 1, 1::2]
            view.copy_(t)
            return view
        case "expanded":
            return t[:1].expand(t.shape)
    return t
