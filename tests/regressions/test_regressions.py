"""Every case in this folder, on the kernel that ``attention`` chooses, judged by both oracles.

A file is written by hand, or by ``moaproof fuzz --promote FAILURE.json`` when a campaign has found a failure.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moaproof.runtime.attention import Call
from moaproof.testing.store import read
from moaproof.testing.trial import BALLS, TORCH, attempt

FILES = sorted(Path(__file__).parent.glob("*.json"))
# Their elements are due to be 0 or within what underflow may cost, or there are none.
ZERO = {"no-keys", "no-queries", "mask-hides-all", "subnormal-values"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    stored = read(path)
    result = attempt(stored.inputs, stored.tq, stored.tk)
    assert result.accepted, f"{stored.why}\n{result.reason()}\nmoaproof fuzz --replay {path}"
    assert [j.oracle for j in result.judged] == [TORCH, BALLS]
    if stored.tk is not None:
        assert result.sizes["tk"] == stored.tk


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_kernel_of_zeros_is_refuted_by(path: Path) -> None:
    """Else the file says nothing of what the kernel computes."""
    stored = read(path)
    result = attempt(stored.inputs, stored.tq, stored.tk, zeros)
    assert result.accepted == (path.stem in ZERO)


def zeros(call: Call, _: dict[str, int]) -> torch.Tensor:
    return torch.zeros(call.shape, dtype=getattr(torch, call.dtype))


def test_there_are_cases() -> None:
    assert len(FILES) >= 18
