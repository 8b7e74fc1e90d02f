"""Small inputs that unfold: every one ends, within the memory and the processor time that ``bombs`` allows itself."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.bombs import BOMBS, MEMORY, PEAK, TooLong, explode, limited

pytestmark = pytest.mark.xdist_group("bombs")  # they are exploded once, by one worker

PROGRAM = Path(__file__).with_name("bombs.py")
ACCEPTED = {  # large, and well-formed all the same
    "certificate/long trace", "certificate/wide trace", "certificate/huge axis", "certificate/huge lift",
    "kernel/lets that double", "kernel/a deep sum", "kernel/powers of a sum", "kernel/sums of powers",
    "run/a long docstring",
    "trace/hypotheses", "trace/factors", "checker/a sum of sums", "checker/powers of an extent", "checker/minima",
    "checker/folds in folds",
}  # fmt: skip


@lru_cache(maxsize=1)
def exploded() -> dict[str, dict[str, str]]:
    """What became of every bomb, in a process of its own: its limits and its peak of memory are not ours."""
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, Any]] = {}
    for target, name, end in map(json.loads, done.stdout.splitlines()):
        found.setdefault(target, {})[name] = end
    return found


@pytest.mark.parametrize("target", BOMBS)
def test_a_bomb_is_refused_or_read(target: str) -> None:
    found = exploded()[target]
    assert list(found) == list(BOMBS[target])
    for name, end in found.items():
        assert end == ("accepted" if f"{target}/{name}" in ACCEPTED else "refused"), (name, end)


def test_no_bomb_needs_much_memory() -> None:
    assert 0 < int(exploded()["peak"]["megabytes"]) < PEAK


def test_the_limits_bite() -> None:
    """What loops or fills the memory is seen: the harness is not blind."""

    def endless(data: bytes) -> bytes:
        while True:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.fuzz.bombs.SECONDS", 0.2)
        patch.setitem(explode.__globals__["TARGETS"], "endless", endless)
        assert explode("endless", bytes).startswith("TooLong")
        patch.setitem(explode.__globals__["TARGETS"], "endless", lambda data: data[9])
        assert explode("endless", bytes).startswith("IndexError")
        with pytest.raises(TooLong), limited():
            endless(b"")
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))\n"
        "try:\n    bytearray(2**33)\nexcept MemoryError:\n    print('bounded')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "bounded"
