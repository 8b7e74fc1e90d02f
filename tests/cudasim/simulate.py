"""Every committed CUDA kernel, run by Numba's CUDA simulator on small ragged shapes: a program of its own.

Numba looks at NUMBA_ENABLE_CUDASIM when it is imported, and the simulator wants a thread of Python for each thread of
a block; so neither can be had inside a test.  Prints a JSON list: one row a run, with the largest error against
attention in NumPy's float64, and the bound that it is held to, or what was raised.  The first rows of a kernel are of
its very bytes; then come texts that were damaged, which must be far off in one case at least.

The simulator has Python's floating point, and real barriers.  It does not see a race, a barrier that not all threads
reach, nor a negative index (it wraps): those are for ``moaproof.assess.simulator``.
"""

from __future__ import annotations

import os

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # before anything imports numba

import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numba
import numpy as np
from numba import cuda

from moaproof.instructions.cuda import Launch
from moaproof.kernel.certificate import sizes_of
from moaproof.runtime import cuda_tiles
from moaproof.runtime.cuda import shapes
from moaproof.runtime.cuda_tiles import Block
from moaproof.runtime.loader import Loaded, load, package_folder

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """Sizes, tiles, and of a mask which axes it has (the others are broadcast)."""

    n: int
    m: int
    dk: int
    dv: int
    block: Block
    bk: int = 1  # tiles of keys in a chunk
    b: int = 1
    g: int = 1
    r: int = 1
    steps: tuple[int, int, int, int] = (1, 1, 1, 1)
    scale: float = 0.7


CASES = (
    Case(5, 7, 3, 3, Block(2, 2, 2, 2), g=2),  # several of all, tails everywhere
    Case(3, 11, 4, 5, Block(1, 2, 2, 3), bk=2, b=2, r=2, steps=(0, 1, 0, 1)),
    Case(7, 5, 5, 4, Block(3, 2, 1, 2), bk=2, r=2, steps=(0, 0, 1, 1), scale=400.0),  # fewer keys than queries
    Case(2, 2, 1, 2, Block(3, 2, 2, 3), g=2, steps=(1, 0, 1, 0), scale=-1.0),  # tiles longer than their axes
    Case(6, 9, 2, 1, Block(1, 4, 1, 4), bk=3, steps=(0, 0, 0, 1)),
    Case(3, 0, 2, 3, Block(1, 2, 1, 2)),  # no keys
    Case(9, 8, 3, 2, Block(2, 1, 3, 1), r=3),
)
FLOAT32 = CASES[:3]  # the texts of two dtypes differ in their import
DAMAGED = CASES[:3]

DAMAGE = {  # pattern and replacement, everywhere
    "no scale": (r" \* scale\b", ""),
    "another head": (r"% h\n", "% h // 2\n"),
    "no maximum": (r"fmax\((\w+(\[\w+\])?), (.*)\)\n", r"\1 if \1 > -1 else ZERO\n"),
    "a sum that is not rescaled": (r"(\bl\d+(?:\[\w+\])?) = \1 \* \w+(\[\w+\])?", r"\1 = \1"),
    "columns that are not rescaled": (r"(\bo\d+(?:\[\w+, \w+\])?) = \1 \* \w+(\[\w+\])?", r"\1 = \1"),
    "a key too few": (r"\bm - ", "m - 1 - "),
    "no quotient": (r"quotient\((.*), .*\)\n", r"\1\n"),
    "nothing is stored": (r" out\[.*\n", " pass\n"),
}


def sized(kernel: Loaded, case: Case) -> dict[str, int]:
    """The sizes of a call; a mask has extent 1 where it is broadcast."""
    steps = dict(zip(("sb", "sh", "sn", "sm"), case.steps, strict=True))
    h = case.g * case.r
    sizes = {"b": case.b, "g": case.g, "r": case.r, "h": h, "n": case.n, "m": case.m, "dk": case.dk, "dv": case.dv}
    sizes |= steps | {f"m{x}": sizes[x] if steps[f"s{x}"] else 1 for x in ("b", "h", "n", "m")}
    split = kernel.certificate.name.endswith("split")
    return sizes | (cuda_tiles.split(sizes, case.block, case.bk) if split else cuda_tiles.online(sizes, case.block))


def drawn(kernel: Loaded, case: Case, sizes: Mapping[str, int]) -> tuple[dict[str, Any], Array, float]:
    """The inputs of the kernel, flat; what is due, where a row that sees no key is 0; and how far off it may be."""
    rng = np.random.default_rng(case.n)
    heads = case.g if "g" in sizes_of(kernel.certificate.inputs) else case.g * case.r
    b, h, n, m, dk, dv = (sizes[x] for x in ("b", "h", "n", "m", "dk", "dv"))
    real = np.dtype(kernel.dtype).type
    q, k, v = (rng.standard_normal(s).astype(real) for s in ((b, h, n, dk), (b, heads, m, dk), (b, heads, m, dv)))
    scale = real(case.scale)
    mask = rng.random([sizes[f"m{x}"] for x in ("b", "h", "n", "m")]) < 0.5
    seen = np.ones((1, 1, n, m), dtype=bool)
    if "causal" in kernel.certificate.name:
        seen = np.tril(seen[0, 0])[None, None]
    if "masked" in kernel.certificate.name:
        seen = mask
    keys, values = (np.repeat(x.astype(np.float64), h // heads, axis=1) for x in (k, v))
    scores = np.einsum("bhid,bhjd->bhij", q.astype(np.float64), keys) * float(scale)
    shown = np.where(seen, scores, -np.inf)
    top = shown.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(shown - np.where(np.isfinite(top), top, 0.0))
    total = weights.sum(-1, keepdims=True)
    due = np.where(total > 0, weights @ values / np.where(total > 0, total, 1.0), 0.0)
    u = float(np.finfo(real).eps) / 2
    bound = 8 * u * (1 + np.abs(scores).max(initial=0.0)) * np.abs(v).max(initial=1.0)
    return {"q": q.ravel(), "k": k.ravel(), "v": v.ravel(), "mask": mask.ravel(), "scale": scale}, due, float(bound)


def simulate(kernel: Loaded, text: bytes, inputs: Mapping[str, Any], sizes: Mapping[str, int], cells: int) -> Array:
    """Run the launches of a text as the launcher would those of the kernel; what is not written is NaN."""
    module = ModuleType("text")
    exec(compile(text, kernel.file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    module.__dict__["real"] = getattr(numba, kernel.dtype)  # the simulator asks it how large it is
    values = {"out": np.full(cells, np.nan, kernel.dtype), **inputs, **sizes}
    for shape in shapes(kernel, sizes):
        module.__dict__.update(shape.constants)
        values |= {name: np.full(made, np.nan, kernel.dtype) for name, made in shape.makes}
        found = module.__dict__[shape.name]
        assert isinstance(found, Launch)
        if 0 not in shape.grid:
            arguments = [values[name] for name in shape.parameters]
            cuda.jit(found.function)[shape.grid, shape.block, 0, shape.shared](*arguments)
    return values["out"]  # type: ignore[return-value]


def run(kernel: Loaded, case: Case, text: bytes, damage: str = "") -> dict[str, Any]:
    """One row of the result."""
    sizes = sized(kernel, case)
    inputs, due, bound = drawn(kernel, case, sizes)
    row = {"certificate": kernel.certificate.name, "dtype": kernel.dtype, "damage": damage, "case": repr(case)}
    start = time.process_time()
    try:
        with np.errstate(all="ignore"):  # as on a GPU
            out = simulate(kernel, text, inputs, sizes, due.size)
        error = np.abs(out - due.ravel()).max(initial=0.0)
        row |= {"error": float(error) if math.isfinite(error) else math.inf}
    except Exception as e:  # noqa: BLE001  a text may fail in any way
        row |= {"error": math.inf, "raised": f"{type(e).__name__}: {e}"[:300]}
    return row | {"bound": bound, "seconds": time.process_time() - start}


def kernels() -> Iterator[Loaded]:
    for path in sorted(package_folder("certs").glob("*-cuda-*.json")):
        for k in json.loads(path.read_bytes())["kernels"]:
            if k["target"] == "cuda":
                yield load(path.stem, k["dtype"], target="cuda")


def rows(found: Iterator[Loaded]) -> Iterator[dict[str, Any]]:
    for kernel in found:
        for case in CASES if kernel.dtype == "float64" else FLOAT32:
            yield run(kernel, case, kernel.source)
        if kernel.dtype == "float64" and kernel.certificate.name.startswith("attention"):
            for name, (pattern, new) in DAMAGE.items():
                text, count = re.subn(pattern, new, kernel.source.decode())
                for case in DAMAGED if count else ():
                    yield run(kernel, case, text.encode(), name)


def main(found: Iterator[Loaded]) -> None:
    sys.setswitchinterval(5e-5)  # the simulator polls its threads: with Python's own 5 ms it takes ten times as long
    json.dump(list(rows(found)), sys.stdout)


if __name__ == "__main__":
    main(kernels())
