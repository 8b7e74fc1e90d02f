"""Measure an exp: all float32 numbers against a float64 exp whose error is proved, float64 samples against balls.

A float32 result is compared with ``cpu_float64.exp`` of the same number, which is within ``REFERENCE`` of e^x by
the argument of ``polynomial``; that, and the rounding of the comparison, are added to what is observed.  A float64
one is compared with a 256-bit ball by python-flint, or without it with mpmath's value, which is no proved enclosure.

``relative``: the worst |y / e^x - 1| on the domain that is declared; ``absolute``: the worst |y - e^x| below it; both
rounded up.  ``above``: how many numbers above 88.72284, where e^x is beyond float32, do not give infinity; ``nan``: how
many NaN do not give NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numba import njit, prange

from .. import cpu_float64
from . import DOMAIN, FLUSHED, ROUNDOFF, exp_of

Array = np.ndarray[Any, Any]
Function = Callable[[Array], Array]

REFERENCE: Final = 2.0**-52
CHUNK: Final = 2**22
LANES: Final = 64
BITS: Final = 256
LOW, HIGH = (np.float32(x) for x in DOMAIN["float32"])
OVERFLOW = np.float32(88.72284)
_reference = cpu_float64.exp


# --- float32: every pattern -------------------------------------------------------------------------


@njit(parallel=True, error_model="numpy")
def compare(x: Any, y: Any, worst: Any, at: Any, count: Any) -> None:
    """For each lane: the worst relative and absolute error, where, and counts: domain, below, above, NaN, wrong ones.

    x and y are flat float32; worst and at (LANES, 2) float64; count (LANES, 6).
    """
    size = (len(x) + LANES - 1) // LANES
    for lane in prange(LANES):
        relative, absolute = -1.0, -1.0
        for i in range(lane * size, min(len(x), (lane + 1) * size)):
            e = _reference(np.float64(x[i]))
            if x[i] != x[i]:
                count[lane, 3] += 1
                count[lane, 5] += 1 if y[i] == y[i] else 0
            elif x[i] < LOW:
                d = abs(np.float64(y[i]) - e)
                d = d if d == d else np.inf  # noqa: PLR0124
                count[lane, 1] += 1
                if d > absolute:
                    absolute = d
                    at[lane, 1] = x[i]
            elif x[i] <= HIGH:
                d = abs(np.float64(y[i]) - e) / e
                d = d if d == d else np.inf  # noqa: PLR0124
                count[lane, 0] += 1
                if d > relative:
                    relative = d
                    at[lane, 0] = x[i]
            elif x[i] > OVERFLOW:
                count[lane, 2] += 1
                count[lane, 4] += 0 if y[i] == np.inf else 1
        worst[lane, 0], worst[lane, 1] = relative, absolute


def scan(function: Function, chunks: Iterable[Array]) -> dict[str, Any]:
    """All that is in the chunks, each a flat array of float32."""
    worst, at, count = [-1.0, -1.0], [0.0, 0.0], np.zeros(6, dtype=np.int64)
    for x in chunks:
        found, place, counted = np.zeros((LANES, 2)), np.zeros((LANES, 2)), np.zeros((LANES, 6), dtype=np.int64)
        compare(x, function(x), found, place, counted)
        count += counted.sum(axis=0)
        for kind in (0, 1):
            lane = int(np.argmax(found[:, kind]))
            if found[lane, kind] > worst[kind]:
                worst[kind], at[kind] = float(found[lane, kind]), float(place[lane, kind])
    relative = worst[0] * (1 + 2.0**-50) + 2 * REFERENCE
    absolute = worst[1] * (1 + 2.0**-50) + float(FLUSHED["float32"]) * REFERENCE + float(FLUSHED["float64"])
    return {
        "numbers": int(count[:4].sum()),
        "domain": {"from": float(LOW), "to": float(HIGH), "numbers": int(count[0])},
        "relative": _error(relative, "float32", at[0]),
        "absolute": {"worst": absolute.hex(), "at": at[1].hex(), "numbers": int(count[1])},
        "above": {"numbers": int(count[2]), "wrong": int(count[4])},
        "nan": {"numbers": int(count[3]), "wrong": int(count[5])},
    }


def _error(relative: float, dtype: str, at: float) -> dict[str, Any]:
    return {"worst": relative.hex(), "in_u": float(f"{relative / float(ROUNDOFF[dtype]):.4f}"), "at": at.hex()}


def patterns(step: int = 1) -> Iterator[Array]:
    """Every float32, or every ``step``-th, by pattern."""
    for first in range(0, 2**32, CHUNK * step):
        yield np.arange(first, min(2**32, first + CHUNK * step), step, dtype=np.uint32).view(np.float32)


# --- what is above its declaration ------------------------------------------------------------------


def excess(exps: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each error observed that is above the declared one, and for each wrong infinity or NaN."""
    found = []
    for backend, dtypes in exps.items():
        for dtype, seen in dtypes.items():
            declared, where = exp_of(backend, dtype), f"exp of {backend}/{dtype}"
            for kind, most in (("relative", declared.eps), ("absolute", declared.flushed)):
                worst = seen[kind]["worst"]
                if not math.isfinite(float.fromhex(worst)) or Fraction(float.fromhex(worst)) > most:
                    found.append(
                        f"{where}: at {seen[kind]['at']} the {kind} error is {worst}; {float(most).hex()} is declared"
                    )
            found += [
                f"{where}: {seen[k]['wrong']} numbers {k} are wrong"
                for k in ("above", "nan")
                if seen.get(k, {}).get("wrong")
            ]
    return found


# --- float64: samples -------------------------------------------------------------------------------


def points(count: int, seed: int = 0) -> Array:
    """Float64 numbers from -745 to 709: around each odd and even multiple of (ln 2)/2, of all magnitudes, at random."""
    rng = np.random.default_rng(seed)
    low, high = DOMAIN["float64"]
    middles = np.arange(-2150, 2046) * (math.log(2) / 2)
    middles = middles[(middles > -745) & (middles < high)]
    near = [middles * (1 + s) for s in (-1e-13, -1e-15, -2e-16, 0, 2e-16, 4e-16, 1e-15, 1e-13)]
    edges = np.array([0.0, -0.0, low, high, np.nextafter(low, 0), np.nextafter(low, -745), -745.0])
    few = max(count // 10, 8)
    small = np.exp(rng.uniform(math.log(1e-320), 0, few)) * rng.choice([-1.0, 1.0], few)
    below = rng.uniform(-745, low, few)
    chosen = np.concatenate([*near, edges, small, below])
    found: Array = np.concatenate([chosen, rng.uniform(low, high, max(0, count - len(chosen)))])
    return found


def sample(function: Function, x: Array) -> dict[str, Any]:
    """The errors at these float64 points, each against e^x in 256 bits."""
    oracle, error = _oracle()
    worst, at, count = [0.0, 0.0], [0.0, 0.0], [0, 0]
    low, high = DOMAIN["float64"]
    for a, b in zip(x.tolist(), function(x).tolist(), strict=True):
        kind = 0 if low <= a <= high else 1
        found = error(a, b, kind == 0) if math.isfinite(b) else math.inf
        count[kind] += 1
        if found > worst[kind]:
            worst[kind], at[kind] = found, a
    relative, absolute = worst[0] * (1 + 2.0**-50), worst[1] * (1 + 2.0**-50) + 2.0**-1074
    return {
        "oracle": oracle,
        "numbers": len(x),
        "domain": {"from": float(low), "to": float(high), "numbers": count[0]},
        "relative": _error(relative, "float64", at[0]),
        "absolute": {"worst": absolute.hex(), "at": at[1].hex(), "numbers": count[1]},
    }


def _oracle() -> tuple[str, Callable[[float, float, bool], float]]:
    """Its name, and the error of b for e^a: relative or not."""
    try:
        import flint
    except ImportError:
        import mpmath  # type: ignore[import-untyped]

        def error(a: float, b: float, relative: bool) -> float:
            with mpmath.workprec(BITS):
                e = mpmath.exp(a)
                return float(abs(b - e) / (e if relative else 1))

        return f"mpmath {mpmath.__version__}", error

    def enclosed(a: float, b: float, relative: bool) -> float:
        with flint.ctx.workprec(BITS):
            e = flint.arb(a).exp()
            return float((abs(b - e) / (e if relative else 1)).upper())

    return f"python-flint {flint.__version__}", enclosed
