"""Certified kernels against ``torch.nn.functional.scaled_dot_product_attention``: times, ratios and memory, as JSON.

    python benchmarks/attention.py [--rounds N] [--case NAME ...] > result.json

Both run in this process on the same tensors, in alternating rounds, so that what else the machine does hits both; a
ratio is the median of the rounds' ratios.  Memory is measured in a process of its own: the growth of its peak
resident size over the inputs, output included and compiling not (the kernel is called once before, on short inputs).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from moaproof import attention

# name: (dtype, (b, h, n, m, d), keyword arguments)
CASES: dict[str, tuple[torch.dtype, tuple[int, int, int, int, int], dict[str, Any]]] = {
    "full-float64": (torch.float64, (1, 8, 2048, 2048, 64), {}),
    "causal-float64": (torch.float64, (1, 8, 2048, 2048, 64), {"is_causal": True}),
    "full-float32": (torch.float32, (1, 8, 2048, 2048, 64), {}),
    "causal-float32": (torch.float32, (1, 8, 2048, 2048, 64), {"is_causal": True}),
}
LONG = 32768
MIB = 2**20


def inputs(dtype: torch.dtype, sizes: tuple[int, int, int, int, int]) -> list[torch.Tensor]:
    b, h, n, m, d = sizes
    torch.manual_seed(0)
    return [torch.randn(b, h, rows, d, dtype=dtype) for rows in (n, m, m)]


def seconds(f: Callable[[], object]) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def compare(name: str, rounds: int) -> dict[str, Any]:
    dtype, sizes, options = CASES[name]
    q, k, v = inputs(dtype, sizes)

    def ours() -> torch.Tensor:
        return attention(q, k, v, **options)

    def theirs() -> torch.Tensor:
        return scaled_dot_product_attention(q, k, v, **options)

    error = float((ours() - theirs()).abs().max())  # also compiles, and warms both up
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    return {
        "case": name,
        "sizes": dict(zip(("b", "h", "n", "m", "d"), sizes, strict=True)),
        "moaproof_s": statistics.median(a for a, _ in pairs),
        "torch_s": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
        "rounds": [[a, b] for a, b in pairs],
        "max_difference": error,
    }


def memory() -> dict[str, Any]:
    """Peak resident size over that of the inputs (so the output counts): one head, LONG keys and queries, float64."""
    attention(*inputs(torch.float64, (1, 1, 8, 8, 64)))
    q, k, v = inputs(torch.float64, (1, 1, LONG, LONG, 64))
    _forget_peak()
    before = _status("VmRSS")
    start = time.perf_counter()
    out = attention(q, k, v)
    took = time.perf_counter() - start
    over = _status("VmHWM") - before
    return {"case": "memory", "n": LONG, "d": 64, "peak_over_inputs_mib": over / MIB, "output_mib": out.nbytes / MIB,
            "quadratic_mib": LONG * LONG * 8 / MIB, "moaproof_s": took}  # fmt: skip


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM begins anew


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", action="append", choices=[*CASES, "memory"], help="default: all")
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_only:
        json.dump(memory(), sys.stdout)
        return
    chosen = args.case or [*CASES, "memory"]
    rows = [compare(name, args.rounds) for name in chosen if name != "memory"]
    if "memory" in chosen:
        child = subprocess.run([sys.executable, __file__, "--memory-only"], capture_output=True, text=True, check=True)
        rows.append(json.loads(child.stdout))
    machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "torch_threads": torch.get_num_threads(),
               "numba_threads": numba.get_num_threads(), "torch": torch.__version__, "numba": numba.__version__,
               "numpy": np.__version__, "python": platform.python_version()}  # fmt: skip
    json.dump({"schema": "moaproof/bench/1", "environment": machine, "rows": rows}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
