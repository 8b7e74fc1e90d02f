"""How far each exp on the CPU is from e^x: every float32, and samples of float64.  Run by hand; minutes on two cores.

    python benchmarks/exp_accuracy.py evidence/exp-cpu.json

The exps are ``cpu`` (moaproof.instructions.cpu_float32 and cpu_float64, compiled) and ``torch-cpu`` (torch.exp).  What
is measured and how, and what the fields mean, is said in moaproof/instructions/accuracy/measure.py.  Exit code 1 if an
error is above the one that is declared.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numba import njit, prange

from moaproof.instructions import cpu_float32, cpu_float64
from moaproof.instructions.accuracy.measure import Array, excess, patterns, points, sample, scan

SAMPLES = 200_000


def ours(module: ModuleType) -> Callable[[Array], Array]:
    """The exp of an instruction module, compiled."""
    exp = module.exp

    @njit(parallel=True, error_model="numpy")
    def each(x: Any, y: Any) -> None:
        for i in prange(len(x)):
            y[i] = exp(x[i])

    def function(x: Array) -> Array:
        y = np.empty_like(x)
        each(x, y)
        return y

    return function


def by_torch(x: Array) -> Array:
    found: Array = torch.exp(torch.from_numpy(x)).numpy()
    return found


def source_digest(module: ModuleType) -> str:
    """SHA-256 of the lines of ``exp`` and of every constant of the module: what its values depend on."""
    numbers = {n: float(v).hex() for n, v in vars(module).items() if isinstance(v, np.number)}
    lines = inspect.getsource(module.exp.py_func)
    return hashlib.sha256(json.dumps([numbers, lines], sort_keys=True).encode()).hexdigest()


def document(step: int, samples: int) -> dict[str, Any]:
    """Everything, with every ``step``-th float32 and so many samples of float64."""
    x = points(samples)
    return {
        "schema": "moaproof/exp/1",
        "command": "python benchmarks/exp_accuracy.py evidence/exp-cpu.json",
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in ("torch", "numba", "llvmlite", "numpy", "python-flint")},
        "machine": {"processor": platform.machine(), "torch": torch.backends.cpu.get_cpu_capability()},
        "source": {"float64": source_digest(cpu_float64), "float32": source_digest(cpu_float32)},
        "exps": {
            "cpu": {"float64": sample(ours(cpu_float64), x), "float32": scan(ours(cpu_float32), patterns(step))},
            "torch-cpu": {"float64": sample(by_torch, x), "float32": scan(by_torch, patterns(step))},
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure every exp on the CPU.")
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    found = document(1, SAMPLES)
    file.write_text(json.dumps(found, indent=1) + "\n")
    wrong = excess(found["exps"])
    sys.stderr.writelines(line + "\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
