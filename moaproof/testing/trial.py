"""One trial: a case, the kernel run on it twice, and every element judged by two oracles.

An element is accepted if it is within the kernel's bound and PyTorch's own of PyTorch's float64 result, *and* within
the kernel's bound of the enclosure of the exact value.  Beside that both runs must have the same bits, and no input may
have changed.  Without python-flint the first oracle judges alone, and the result says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from ..errors import BackendMissing
from ..runtime.attention import KEYS, Call, prepare, tiles
from ..runtime.attention import run as run_kernel
from .errors import OUTWARD, Verdict, bound, judge, of_online, of_torch, ratios
from .oracles import enclosures, sdpa, visible
from .strategies import Inputs

Array = np.ndarray[Any, Any]
Runner = Callable[[Call, dict[str, int]], torch.Tensor]

TORCH: Final = "PyTorch float64"
BALLS: Final = "python-flint enclosure"


@dataclass(frozen=True, slots=True)
class Judged:
    """What one oracle says of an output: the worst element, and observed/bound of all of them (b, h, n, dv)."""

    oracle: str
    verdict: Verdict
    due: Array
    tolerance: Array
    ratios: Array


@dataclass(frozen=True, slots=True)
class Result:
    """What one case gave; ``found`` has the shape (b, h, n, dv)."""

    call: Call
    sizes: dict[str, int]
    found: Array
    judged: tuple[Judged, ...]  # PyTorch float64 first
    repeatable: bool
    untouched: bool

    @property
    def accepted(self) -> bool:
        return all(j.verdict.accepted for j in self.judged) and self.repeatable and self.untouched

    @property
    def worst(self) -> Judged:
        """The oracle that is least content."""
        return max(self.judged, key=lambda j: j.verdict.ratio)

    def reason(self) -> str:
        if not self.repeatable:
            return "two runs gave different bits"
        if not self.untouched:
            return "an input was changed"
        v = self.worst.verdict
        return (
            f"element {v.index}: {v.found!r} for {v.due!r} of {self.worst.oracle}, "
            f"{v.ratio:.3g} times the tolerance {v.tolerance:.3g}"
        )


def attempt(x: Inputs, tq: int | None = None, tk: int | None = None, runner: Runner = run_kernel) -> Result:
    """Run and judge one case; ``runner`` (for tests of the harness) replaces the kernel.

    Raises ``NotCovered`` where the bound says nothing.
    """
    call = prepare(
        x.q, x.k, x.v, attn_mask=x.mask, is_causal=x.causal, scale=x.scale,
        enable_gqa=x.q.shape[-3] != x.k.shape[-3],
    )  # fmt: skip
    sizes = call.sizes | tiles(call.sizes, call.dtype)
    for tile, count, extent, wanted in (("tq", "bq", "n", tq), ("tk", "bk", "m", tk)):
        if wanted is not None:
            sizes |= {tile: wanted, count: -(-sizes[extent] // wanted)}
    ours, theirs = tolerances(x, call, sizes)
    before = [t.numpy().tobytes() for t in tensors_of(x)]
    found, again = (runner(call, sizes).numpy() for _ in range(2))
    untouched = before == [t.numpy().tobytes() for t in tensors_of(x)]
    repeatable = found.tobytes() == again.tobytes()
    due = sdpa(x.q, x.k, x.v, x.mask, x.causal, x.scale)
    judged = [_judged(TORCH, found, due, (ours + theirs) * OUTWARD)]
    try:
        middle, radius = enclosures(x)
    except BackendMissing:
        pass
    else:
        judged.append(_judged(BALLS, found, middle, (ours + radius) * OUTWARD))
    return Result(call, sizes, found, tuple(judged), repeatable, untouched)


def _judged(oracle: str, found: Array, due: Array, tolerance: Array) -> Judged:
    return Judged(oracle, judge(found, due, tolerance), due, tolerance, ratios(found, due, tolerance))


def tensors_of(x: Inputs) -> list[torch.Tensor]:
    return [t for t in (x.q, x.k, x.v, x.mask) if t is not None]


def tolerances(x: Inputs, call: Call, sizes: dict[str, int]) -> tuple[Array, Array]:
    """The kernel's own bound and PyTorch's, each (b, h, n, dv)."""
    n, m, dk = (sizes[s] for s in ("n", "m", "dk"))
    exact = 1 / math.sqrt(dk) if x.scale is None else float(x.scale)
    half = 2.0**-52 if x.scale is None else 0.0  # 1/sqrt(dk) is itself rounded, twice
    sigma = half + (2.0**-24 if call.dtype == "float32" else 0.0)
    ours, theirs = of_online(m, dk, sizes.get("tk", KEYS), sigma), of_torch(m, dk, half)
    q, k, v = (t.detach().to(torch.float64).numpy() for t in (x.q, x.k, x.v))
    group = sizes["r"] if sizes["h"] != sizes["g"] else 1
    seen = np.broadcast_to(visible(n, m, None if x.mask is None else x.mask.numpy(), x.causal), (*q.shape[:2], n, m))
    found = np.zeros((2, *q.shape[:3], v.shape[-1]))
    for batch in range(len(q)):
        kk, vv = (np.repeat(t[batch], group, axis=0) for t in (k, v))
        found[0, batch] = bound(q[batch], kk, vv, seen[batch], exact, ours, call.dtype)
        found[1, batch] = bound(q[batch], kk, vv, seen[batch], exact, theirs, "float64")
    return found[0], found[1]
