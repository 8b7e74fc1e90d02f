"""Metamorphic laws of attention: properties of any callable that computes it, without a reference value.

    verdict = LAWS[0](kernel, expand(case))             # kernel(q, k, v, mask=None, causal=False, scale=None) -> tensor
    broken(kernel, expand(case))                        # {} if every law holds

Each law changes the inputs in a way whose effect on exact attention is known, runs the kernel on both, and compares.
The changes themselves are exact in floating point, so that no tolerance is owed to them.

==============  =====  =============================================================================================
law             exact  says
==============  =====  =============================================================================================
key-order       no     another order of the keys, with their values and mask, changes nothing
score-shift     no     a number added to all scores of a row changes nothing (one more component: c in q, 1 in k)
hull            no     an output is within the least and the greatest visible value of its column; 0 if none is visible
linearity       no     attention of v = y + z is that of y, minus that of -z
split-merge     no     the parts of the keys, merged with the share of the weights of each part, give the whole
queries         no     a row is the same in any company of rows, heads and batches
hidden-keys     yes    what k and v hold for keys that a row does not see has no influence on it, NaN and infinity too
query-bits      yes    ``queries``, bit for bit
repeatability   yes    the same inputs give the same bits, and are not changed
threads         yes    the number of threads (Numba's and PyTorch's) changes no bit
==============  =====  =============================================================================================

An *exact* law compares bits.  ``hidden-keys`` is the stated policy of ``attention`` (``strategies``); ``query-bits``,
``repeatability`` and ``threads`` are laws only where they are claimed: ``attention`` claims all three on the CPU, and
on a GPU, where sizes decide the tiles, not ``query-bits``.  Inputs are on the CPU, of rank 4: a kernel for a device
moves them itself.

All others compare with a tolerance, which is never a constant: the kernel's error bounds for the inputs of both sides,
added.  ``bounds(x)`` gives two arrays (b, h, n, dv): the bound of the kernel, and that of PyTorch's attention in
float64, by which ``split-merge`` weighs its parts.  For a kernel of your own pass your own; ``certified`` is that of
``attention``.  These laws are about finite numbers: they take the inputs ``sanitised``.

A causal case is given as a mask where a law moves keys (``key-order``, ``split-merge``), and a case without a mask gets
one where it hides keys (``hidden-keys``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numba
import numpy as np
import torch

from ..errors import NotCovered
from ..runtime.attention import attention, prepare, tiles
from .errors import Verdict, judge
from .oracles import sdpa
from .strategies import Inputs, sanitised, seen
from .trial import tensors_of, tolerances

Array = np.ndarray[Any, Any]
Bounds = Callable[[Inputs], tuple[Array, Array]]

SHIFTS: Final = (1.0, 32.0, 1024.0)  # of the scores: the last one overflows an exp that is not stabilised
ULP: Final = 2.0**-52


class Kernel(Protocol):
    """Attention with the shapes, the mask and the scale of ``moaproof.attention``; grouped heads where they differ."""

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        scale: float | None = None,
    ) -> Any: ...


Check = Callable[[Kernel, Inputs, Bounds, np.random.Generator], Verdict]


@dataclass(frozen=True, slots=True)
class Law:
    """A law and its check.  Called with a kernel and inputs it gives the worst element, as any other judgement does."""

    name: str
    exact: bool
    check: Check

    def __call__(self, kernel: Kernel, x: Inputs, bounds: Bounds | None = None, seed: int = 0) -> Verdict:
        """Whether the law holds of the kernel on ``x``; ``seed`` is of what the law draws (an order, a cut, ..).

        An exact law that is broken has ratio infinity and tolerance 0.  Raises ``NotCovered`` where the bounds do.
        """
        given, rng = x if self.exact else sanitised(x), np.random.default_rng(seed)
        with np.errstate(over="ignore", invalid="ignore"):  # a kernel may give anything
            return self.check(kernel, given, bounds or certified, rng)


def shipped(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """``moaproof.attention`` as a ``Kernel``."""
    return attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=q.shape[-3] != k.shape[-3])


def certified(x: Inputs) -> tuple[Array, Array]:
    """The bounds of ``attention`` with the tiles that it chooses, and of PyTorch in float64."""
    grouped = x.q.shape[-3] != x.k.shape[-3]
    call = prepare(x.q, x.k, x.v, attn_mask=x.mask, is_causal=x.causal, scale=x.scale, enable_gqa=grouped)
    return tolerances(x, call, call.sizes | tiles(call.sizes, call.dtype))


def broken(kernel: Kernel, x: Inputs, bounds: Bounds | None = None, seed: int = 0) -> dict[str, Verdict]:
    """The laws that the kernel breaks on these inputs."""
    verdicts = {law.name: law(kernel, x, bounds, seed) for law in LAWS}
    return {name: verdict for name, verdict in verdicts.items() if not verdict.accepted}


# --- running and comparing -------------------------------------------------------------------------


def _run(kernel: Kernel, x: Inputs) -> Array:
    """The kernel's output, in its own dtype."""
    out = kernel(x.q, x.k, x.v, mask=x.mask, causal=x.causal, scale=x.scale)
    due = (*x.q.shape[:3], x.v.shape[3])
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != due or not out.is_floating_point():
        what = f"{out.dtype} of shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise NotCovered(f"law: the kernel returned {what}; a floating-point tensor of shape {due} is due")
    found: Array = out.detach().cpu().numpy()
    return found


def _near(left: Array, right: Array, tolerance: Array) -> Verdict:
    """Two outputs of the kernel, of which neither is a reference: what is not finite in either is refused.

    The tolerance may hold the kernel's own numbers, for the rounding of a sum of them: it is none where they are bad.
    """
    bad = ~np.isfinite(right)
    due, allowed = np.where(bad, 0.0, right).astype(np.float64), np.where(bad, 0.0, tolerance)
    return judge(np.where(bad, np.nan, left), due, allowed)


def _same(left: Array, right: Array, where: Array | None = None) -> Verdict:
    """Bit for bit, in all elements or where it is said."""
    word = np.dtype(f"u{left.dtype.itemsize}")
    differ = np.ascontiguousarray(left).view(word) != np.ascontiguousarray(right).view(word)
    if where is not None:
        differ &= where
    if left.dtype != right.dtype or not differ.any():
        return Verdict(0.0 if left.dtype == right.dtype else math.inf, (), 0.0, 0.0, 0.0)
    at = tuple(int(i) for i in np.argwhere(differ)[0])
    return Verdict(math.inf, at, float(left[at]), float(right[at]), 0.0)


# --- changes of the inputs, each exact -------------------------------------------------------------


def _by_mask(x: Inputs) -> Inputs:
    """A causal case with its mask written out; any other as it is."""
    return replace(x, mask=torch.from_numpy(seen(x).copy()), causal=False) if x.causal else x


def _keys(x: Inputs, keys: Any) -> Inputs:
    """Of a case that is not causal: these keys alone, in this order."""
    mask = x.mask if x.mask is None or x.mask.shape[3] == 1 else x.mask[..., keys]
    return replace(x, k=x.k[:, :, keys], v=x.v[:, :, keys], mask=mask)


def _company(x: Inputs, rng: np.random.Generator) -> tuple[Inputs, tuple[Any, ...]]:
    """Some rows of the query heads of one key head of one batch, and where they stand in the output.

    Of a causal case the first rows, in order: others would see other keys.
    """
    (b, h, n), g = x.q.shape[:3], x.k.shape[1]
    batch, group = int(rng.integers(b)), int(rng.integers(g))
    count = int(rng.integers(1, n + 1))
    rows = np.arange(count) if x.causal else rng.permutation(n)[:count]
    heads = slice(group * (h // g), (group + 1) * (h // g))
    batches = slice(batch, batch + 1)
    mask = x.mask
    if mask is not None:
        mask = mask[batches] if mask.shape[0] > 1 else mask
        mask = mask[:, heads] if mask.shape[1] > 1 else mask
        mask = mask[:, :, rows] if mask.shape[2] > 1 else mask
    keys = slice(group, group + 1)
    few = replace(x, q=x.q[batches, heads][:, :, rows], k=x.k[batches, keys], v=x.v[batches, keys], mask=mask)
    return few, (batches, heads, rows)


def _scale(x: Inputs) -> float:
    """The scale as a number of the inputs' dtype, which is what a kernel gets."""
    exact = 1 / math.sqrt(x.q.shape[3]) if x.scale is None else float(x.scale)
    return float(torch.tensor(exact, dtype=x.q.dtype))


# --- the laws --------------------------------------------------------------------------------------


def _key_order(kernel: Kernel, x: Inputs, bounds: Bounds, rng: np.random.Generator) -> Verdict:
    y = _keys(_by_mask(x), rng.permutation(x.k.shape[2]))
    return _near(_run(kernel, x), _run(kernel, y), bounds(x)[0] + bounds(y)[0])


def _score_shift(kernel: Kernel, x: Inputs, bounds: Bounds, rng: np.random.Generator) -> Verdict:
    """Powers of two near +-1, +-32, +-1024 over the scale, one for each row."""
    scale = abs(_scale(x)) or 1.0
    shift = rng.choice([-1.0, 1.0], x.q.shape[:3]) * np.exp2(
        np.rint(np.log2(rng.choice(SHIFTS, x.q.shape[:3]) / scale))
    )
    q = torch.cat([x.q, torch.from_numpy(shift[..., None]).to(x.q.dtype)], dim=3)
    k = torch.cat([x.k, torch.ones((*x.k.shape[:3], 1), dtype=x.k.dtype)], dim=3)
    y = replace(x, q=q, k=k, scale=_scale(x))
    return _near(_run(kernel, x), _run(kernel, y), bounds(x)[0] + bounds(y)[0])


def _hull(kernel: Kernel, x: Inputs, bounds: Bounds, _: np.random.Generator) -> Verdict:
    found, see = _run(kernel, x), seen(x)
    group = x.q.shape[1] // x.k.shape[1] if x.k.shape[1] else 1
    v = np.repeat(x.v.numpy().astype(np.float64), group, axis=1)  # (b, h, m, dv)
    due = np.zeros(found.shape)
    for c in range(v.shape[3]):
        column = v[:, :, None, :, c]
        least = np.where(see, column, np.inf).min(axis=3, initial=np.inf)
        greatest = np.where(see, column, -np.inf).max(axis=3, initial=-np.inf)
        within = np.clip(np.nan_to_num(found[..., c].astype(np.float64)), least, greatest)
        due[..., c] = np.where(see.any(axis=3), within, 0.0)
    return judge(found, due, bounds(x)[0])


def _linearity(kernel: Kernel, x: Inputs, bounds: Bounds, rng: np.random.Generator) -> Verdict:
    """v = y + z, where each element of y is 0, 1/2, 1 or -1 times that of v: the difference v - y is exact.

    With 0 and 1 alone, any odd function of each value would pass.
    """
    some = torch.from_numpy(rng.choice([0.0, 0.5, 1.0, -1.0], tuple(x.v.shape))).to(x.v.dtype)
    y = replace(x, v=x.v * some)
    z = replace(x, v=y.v - x.v)
    whole, one, other = (_run(kernel, t).astype(np.float64) for t in (x, y, z))
    rounded = ULP * (np.abs(one) + np.abs(other))  # of the difference below
    return _near(whole, one - other, sum((bounds(t)[0] for t in (x, y, z)), rounded))


def _split_merge(kernel: Kernel, x: Inputs, bounds: Bounds, rng: np.random.Generator) -> Verdict:
    """The share of a part is attention itself, of values that are 1 on its keys and 0 on the others."""
    y, m = _by_mask(x), x.k.shape[2]
    used = np.flatnonzero(seen(x).any(axis=(0, 1, 2)))
    cut = int(used[rng.integers(1, used.size)]) if used.size > 1 else m  # with keys that count on both sides
    parts = [_keys(y, slice(0, cut)), _keys(y, slice(cut, m))]
    of_part = torch.zeros((*y.v.shape[:3], 2), dtype=torch.float64)
    of_part[:, :, :cut, 0] = of_part[:, :, cut:, 1] = 1.0
    weighed = replace(y, q=y.q.double(), k=y.k.double(), v=of_part, scale=_scale(x))
    shares = sdpa(weighed.q, weighed.k, weighed.v, weighed.mask, weighed.causal, weighed.scale)
    doubts = bounds(weighed)[1]
    merged = np.zeros((*x.q.shape[:3], x.v.shape[3]))
    tolerance = bounds(x)[0].copy()
    for part, share, doubt in zip(parts, np.split(shares, 2, axis=3), np.split(doubts, 2, axis=3), strict=True):
        out = _run(kernel, part).astype(np.float64)
        merged += share * out
        tolerance += (share + doubt) * bounds(part)[0] + (doubt + 2 * ULP * share) * np.abs(out)
    return _near(_run(kernel, x), merged, tolerance)


def _queries(kernel: Kernel, x: Inputs, bounds: Bounds, rng: np.random.Generator) -> Verdict:
    if 0 in (*x.q.shape[:3], x.k.shape[1]):
        return Verdict(0.0, (), 0.0, 0.0, 0.0)
    few, at = _company(x, rng)
    return _near(
        _run(kernel, x)[at[:2]][:, :, at[2]], _run(kernel, few), bounds(x)[0][at[:2]][:, :, at[2]] + bounds(few)[0]
    )


def _query_bits(kernel: Kernel, x: Inputs, _: Bounds, rng: np.random.Generator) -> Verdict:
    if 0 in (*x.q.shape[:3], x.k.shape[1]):
        return Verdict(0.0, (), 0.0, 0.0, 0.0)
    few, at = _company(x, rng)
    return _same(_run(kernel, x)[at[:2]][:, :, at[2]], _run(kernel, few))


def _hidden_keys(kernel: Kernel, x: Inputs, _: Bounds, rng: np.random.Generator) -> Verdict:
    """In each key head all that one row does not see is overwritten; so are other rows that see none of it."""
    if x.mask is None and not x.causal:
        x = replace(x, mask=torch.from_numpy(rng.random((1, 1, x.q.shape[2], x.k.shape[2])) < 0.5))
    see = seen(x)
    (b, h, n, m), g = see.shape, x.k.shape[1]
    if 0 in (b, g, n, m):
        return Verdict(0.0, (), 0.0, 0.0, 0.0)
    r = h // g
    rows = see.reshape(b, g, r * n, m)
    hidden = ~np.take_along_axis(rows, rng.integers(r * n, size=(b, g, 1, 1)), axis=2)[:, :, 0]  # (b, g, m)
    bad = np.array([np.nan, np.inf, -np.inf, float(torch.finfo(x.k.dtype).max)])
    k, v = x.k.clone(memory_format=torch.contiguous_format), x.v.clone(memory_format=torch.contiguous_format)
    for t in (k, v):
        written = torch.from_numpy(rng.choice(bad, (b, g, m, 1))).to(t.dtype)
        t.copy_(torch.where(torch.from_numpy(hidden[..., None]), written, t))
    free = ~(rows & hidden[:, :, None, :]).any(axis=3).reshape(b, h, n, 1)
    return _same(_run(kernel, x), _run(kernel, replace(x, k=k, v=v)), free)


def _repeatability(kernel: Kernel, x: Inputs, _: Bounds, __: np.random.Generator) -> Verdict:
    before = [t.clone() for t in tensors_of(x)]
    runs = [_run(kernel, x) for _ in range(3)]
    for t, was in zip(tensors_of(x), before, strict=True):
        changed = _same(_bytes(t), _bytes(was))
        if not changed.accepted:
            return changed
    return max((_same(runs[0], again) for again in runs[1:]), key=lambda verdict: verdict.ratio)


def _threads(kernel: Kernel, x: Inputs, _: Bounds, __: np.random.Generator) -> Verdict:
    """With one core there is one thread in Numba, and this says less."""
    outputs = []
    for ours, theirs in ((1, 1), (numba.config.NUMBA_NUM_THREADS, 2)):  # type: ignore[attr-defined]
        with _set(ours, theirs):
            outputs.append(_run(kernel, x))
    return _same(outputs[0], outputs[1])


def _bytes(t: torch.Tensor) -> Array:
    found: Array = np.frombuffer(t.contiguous().numpy().tobytes(), dtype=np.uint8)
    return found


@contextmanager
def _set(ours: int, theirs: int) -> Iterator[None]:
    """Numbers of threads, Numba's and PyTorch's, within the block."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(ours)
    torch.set_num_threads(theirs)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])


LAWS: Final = (
    Law("key-order", exact=False, check=_key_order),
    Law("score-shift", exact=False, check=_score_shift),
    Law("hull", exact=False, check=_hull),
    Law("linearity", exact=False, check=_linearity),
    Law("split-merge", exact=False, check=_split_merge),
    Law("queries", exact=False, check=_queries),
    Law("hidden-keys", exact=True, check=_hidden_keys),
    Law("query-bits", exact=True, check=_query_bits),
    Law("repeatability", exact=True, check=_repeatability),
    Law("threads", exact=True, check=_threads),
)
