"""The checker runs where torch and numba are not installed, so importing it must not load them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numba", "torch")
TRUSTED = ("moaproof.kernel.checker", "moaproof.reader", "moaproof.trace.table")


def _heavy_after(statement: str) -> list[str]:
    show = f"import sys; print(*sorted(sys.modules.keys() & {set(HEAVY)}))"
    done = subprocess.run([sys.executable, "-c", f"{statement}\n{show}"], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("module", ["moaproof", *TRUSTED])
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert _heavy_after(f"import {module}") == []


@pytest.mark.parametrize("module", HEAVY)
def test_a_heavy_import_would_be_seen(module: str) -> None:
    assert module in _heavy_after(f"import {module}")
