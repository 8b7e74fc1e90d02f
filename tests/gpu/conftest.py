"""Without a GPU nothing here is skipped: the run ends at once, and says why."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch


def pytest_sessionstart() -> None:
    if not torch.cuda.is_available():
        pytest.exit("tests/gpu: PyTorch sees no GPU here; `moaproof doctor` says what is missing", returncode=3)
    if find_spec("numba_cuda") is None:
        pytest.exit("tests/gpu: numba-cuda is missing; `moaproof doctor` says how to get it", returncode=3)
