"""A small program for compute-sanitizer: every CUDA text, at ragged shapes, in blocks of an odd number of threads.

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 9 --report-api-errors no \
        python tests/gpu/sanitize.py [--only LABEL] [--plant KIND]

Without PyTorch's own allocator each array is an allocation of its own, so that a neighbour is not mistaken for it.
``--plant`` runs instead a kernel with that fault (memcheck, racecheck, initcheck, synccheck): the tool must find it.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch

from moaproof.runtime.attention import run
from moaproof.testing import gpu
from moaproof.testing.gpu import Block

# n, m, dk, dv, block, tiles of a chunk
SHAPES = ((7, 11, 5, 3, Block(2, 2, 2, 4), 1), (5, 13, 5, 3, Block(2, 2, 2, 4), 2), (1, 1, 5, 3, Block(2, 2, 2, 4), 1))


def texts(only: str | None) -> None:
    for text in gpu.texts():
        if only is not None and only not in text.label:
            continue
        worst = 0.0
        for n, m, dk, dv, block, bk in SHAPES:
            case = gpu.case_of(text, b=2, n=n, m=m, dk=dk, dv=dv, steps=(1, 0, 1, 1), seed=n)
            x = gpu.tensors(case, "cuda")
            call = gpu.named(x.prepared(case), text.certificate)
            found = run(call, call.sizes | gpu.tiles_of(text, call.sizes, block, bk)).cpu()
            due = gpu.reference(gpu.tensors(case, "cpu"), case, float(call.inputs["scale"]))
            worst = max(worst, float((found.double() - due).abs().max()))
        good = worst < (1e-12 if text.dtype == "float64" else 1e-4)
        print(f"{text.label:36} largest difference {worst:.1e}{'' if good else '  WRONG'}", flush=True)
        if not good:
            sys.exit(1)


def planted(kind: str) -> None:
    """A kernel that the tool must refuse."""
    from numba import types

    from moaproof.instructions.cuda_float64 import cuda, real

    def past_the_end(out: Any, n: int) -> None:
        out[cuda.threadIdx.x + n] = 1.0

    def race(out: Any, n: int) -> None:
        pool = cuda.shared.array(64, real)
        x = cuda.threadIdx.x
        pool[x] = x
        out[x] = pool[(x + 33) % n]  # no barrier before

    def unwritten(out: Any, n: int) -> None:
        x = cuda.threadIdx.x
        out[x] = out[(x + 1) % n]

    def divergent(out: Any, n: int) -> None:
        x = cuda.threadIdx.x
        if x < n - 40:
            cuda.syncthreads()
        out[x] = 1.0

    function = {"memcheck": past_the_end, "racecheck": race, "initcheck": unwritten, "synccheck": divergent}[kind]
    kernel = cuda.jit([(types.Array(types.float64, 1, "C"), types.int64)])(function)
    kernel[1, 64](torch.empty(64, dtype=torch.float64, device="cuda"), 64)
    torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only")
    parser.add_argument("--plant", choices=("memcheck", "racecheck", "initcheck", "synccheck"))
    args = parser.parse_args()
    if args.plant:
        planted(args.plant)
    else:
        texts(args.only)


if __name__ == "__main__":
    main()
