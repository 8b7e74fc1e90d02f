"""How far each exp on a GPU is from e^x: every float32, and samples of float64.

    python tests/gpu/exp.py FOLDER [--step 1] [--samples 300000]

The exps are ``cuda`` (moaproof.instructions.cuda_float32 and cuda_float64, which is libdevice's, in a kernel of Numba)
and ``torch-cuda`` (torch.exp).  What the device gives is compared on the host, as benchmarks/exp_accuracy.py does it:
float32 with moaproof's float64 exp for the CPU, whose error is proved; float64 with 256-bit balls of python-flint, or
with mpmath where that is missing, and the file says which.  All 2^32 float32 numbers take minutes.

Writes FOLDER/exp-cuda.json.  Exit code 1 if an error is above the one that is declared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moaproof.instructions.accuracy.measure import Array, excess, patterns, points, sample, scan
from moaproof.testing import gpu

THREADS = 256
SAMPLES = 300_000


def ours(dtype: str) -> Callable[[Array], Array]:
    """The exp of the CUDA instructions of a dtype, on the device (or in Numba's simulator)."""
    global cuda  # noqa: PLW0603  the simulator looks for it among a kernel's globals
    from moaproof.instructions import cuda_float32, cuda_float64
    from moaproof.instructions.cuda import cuda

    exp = {"float32": cuda_float32, "float64": cuda_float64}[dtype].exp

    @cuda.jit
    def each(x: Any, y: Any) -> None:
        i = cuda.grid(1)
        if i < x.shape[0]:
            y[i] = exp(x[i])

    def function(x: Array) -> Array:
        y = cuda.device_array(x.shape, x.dtype)
        each[-(-len(x) // THREADS), THREADS](cuda.to_device(x), y)
        found: Array = y.copy_to_host()
        return found

    return function


def by_torch(x: Array, device: str = "cuda") -> Array:
    found: Array = torch.exp(torch.from_numpy(x).to(device)).cpu().numpy()
    return found


def measured(step: int, samples: int) -> dict[str, Any]:
    x = points(samples)
    return {
        "cuda": {"float64": sample(ours("float64"), x), "float32": scan(ours("float32"), patterns(step))},
        "torch-cuda": {"float64": sample(by_torch, x)},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure every exp on a GPU.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--step", type=int, default=1, help="every how many-th float32")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    given = parser.parse_args()
    with np.errstate(all="ignore"):
        exps = measured(given.step, given.samples)
    wrong = excess(exps)
    gpu.write(given.folder, "exp-cuda", {"step": given.step, "exps": exps, "above_declared": wrong})
    for backend, dtypes in exps.items():
        for dtype, seen in dtypes.items():
            worst = seen["relative"]
            print(f"{backend}/{dtype}: {seen['numbers']} numbers, worst {worst['in_u']} u at {worst['at']}")
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
