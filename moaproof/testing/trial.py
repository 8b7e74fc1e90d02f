"""One trial: a case, the kernel run on it twice, and every element judged by two oracles.

An element is accepted if it is within the kernel's bound and PyTorch's own of PyTorch's float64 result, *and* within
the kernel's bound of the enclosure of the exact value.  Beside that both runs must have the same bits, and no input may
have changed.  Without python-flint the first oracle judges alone, and the result says so.

Where the case has NaN or infinity the oracles are asked about the inputs without them (``strategies.sanitised``).  An
element that a visible NaN reaches must be NaN; of one that only an infinity reaches nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from ..errors import BackendMissing, NotCovered
from ..runtime.attention import Call, prepare, tiles
from ..runtime.attention import run as run_kernel
from .errors import Verdict, judge, kernel_tolerance, ratios, torch_tolerance
from .oracles import enclosures, sdpa
from .strategies import Inputs, due_nan, sanitised, touched

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
    poisoned: bool  # every element is NaN that a visible NaN reaches

    @property
    def accepted(self) -> bool:
        return all(j.verdict.accepted for j in self.judged) and self.repeatable and self.untouched and self.poisoned

    @property
    def worst(self) -> Judged:
        """The oracle that is least content."""
        return max(self.judged, key=lambda j: j.verdict.ratio)

    def reason(self) -> str:
        if not self.repeatable:
            return "two runs gave different bits"
        if not self.untouched:
            return "an input was changed"
        if not self.poisoned:
            return "a visible NaN did not make its row or column NaN"
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
    clean, outside = sanitised(x), touched(x)
    ours, theirs = tolerances(clean, call, sizes)
    before = [t.numpy().tobytes() for t in tensors_of(x)]
    found, again = (runner(call, sizes).numpy() for _ in range(2))
    if found.shape != call.shape or found.dtype != np.dtype(call.dtype):
        due_is = f"{call.dtype} of shape {call.shape} is due"
        raise NotCovered(f"trial: the kernel gave {found.dtype} of shape {found.shape}; {due_is}")
    untouched = before == [t.numpy().tobytes() for t in tensors_of(x)]
    repeatable = found.tobytes() == again.tobytes()
    poisoned = bool(np.isnan(found[due_nan(x)]).all())
    exact = replace(clean, scale=float(call.inputs["scale"]))  # as the kernel gets it
    due = sdpa(exact.q, exact.k, exact.v, exact.mask, exact.causal, exact.scale)
    judged = [_judged(TORCH, np.where(outside, due, found), due, ours + theirs)]
    try:
        middle, radius = enclosures(exact)
    except BackendMissing:
        pass
    else:
        judged.append(_judged(BALLS, np.where(outside, middle, found), middle, ours + radius))
    return Result(call, sizes, found, tuple(judged), repeatable, untouched, poisoned)


def _judged(oracle: str, found: Array, due: Array, tolerance: Array) -> Judged:
    return Judged(oracle, judge(found, due, tolerance), due, tolerance, ratios(found, due, tolerance))


def tensors_of(x: Inputs) -> list[torch.Tensor]:
    return [t for t in (x.q, x.k, x.v, x.mask) if t is not None]


def tolerances(x: Inputs, call: Call, sizes: dict[str, int]) -> tuple[Array, Array]:
    """The kernel's own bound and PyTorch's, each (b, h, n, dv), for the scale as the kernel gets it."""
    q, k, v = (t.detach().to(torch.float64).numpy() for t in (x.q, x.k, x.v))
    values: dict[str, Array] = {"q": q, "k": k, "v": v, "scale": np.asarray(call.inputs["scale"])}
    if "mask" in call.inputs:
        values["mask"] = call.inputs["mask"]
    parts = (call.certificate, call.dtype, sizes, values)
    return kernel_tolerance(*parts), torch_tolerance(*parts)
