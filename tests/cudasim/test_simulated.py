"""Every committed CUDA kernel computes attention in Numba's CUDA simulator; what is damaged does not."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from moaproof.kernel.certificate import parse

pytestmark = pytest.mark.xdist_group("cudasim")  # one run, by one worker

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("simulate.py")
CUDA = [
    f"{p.stem}/{k.dtype}"
    for p in sorted((ROOT / "certs").glob("*.json"))
    for k in parse(p.read_bytes()).kernels
    if k.target == "cuda"
]
WRONG = 1e-6  # how far off a damaged text is at least
DAMAGES = (
    "no scale", "another head", "no maximum", "a sum that is not rescaled", "columns that are not rescaled",
    "a key too few", "no quotient", "nothing is stored",
)  # fmt: skip


@lru_cache(maxsize=1)
def simulated() -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_there_are_kernels_of_both_schedules_and_dtypes() -> None:
    assert len(CUDA) == len(set(CUDA)) > 3
    for part in ("-cuda-online", "-cuda-split", "/float64", "/float32"):
        assert any(part in name for name in CUDA)


@pytest.mark.parametrize("name", CUDA)
def test_a_kernel_is_attention(name: str) -> None:
    rows = [r for r in simulated() if not r["damage"] and f"{r['certificate']}/{r['dtype']}" == name]
    assert len(rows) >= 3
    assert all(0 < r["bound"] < 1e-2 for r in rows)
    assert [r for r in rows if not r["error"] <= r["bound"]] == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_text_is_seen(damage: str) -> None:
    """Each damage was possible in both schedules, and is far above the bound of what is whole in some case."""
    worst: dict[str, float] = {}
    for r in simulated():
        if r["damage"] == damage:
            worst[r["certificate"]] = max(worst.get(r["certificate"], 0.0), r["error"])
            assert not math.isnan(r["error"])
    assert set(worst) == {"attention-cuda-online", "attention-cuda-split"}
    assert min(worst.values()) > WRONG
