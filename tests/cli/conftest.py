"""A copy of the committed certificates and kernels, to tamper with, and a process-wide memory of the engines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moaproof.assess.verify import Job, Known, Outcome, folder, judge
from moaproof.kernel.certificate import Certificate, parse

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """certs/ and kernels/ as committed."""
    for name in ("certs", "kernels"):
        shutil.copytree(folder(name), tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def certificate(tree: Path) -> Certificate:
    return parse((tree / "certs" / "attention-rows.json").read_bytes())


@pytest.fixture(scope="session")
def known() -> Known:
    return Known()


@pytest.fixture
def judged(tree: Path, known: Known) -> Callable[[bytes | Certificate], Outcome]:
    """Judge these bytes in this process, with the kernels of the tree."""

    def act(what: bytes | Certificate) -> Outcome:
        path = tree / "certs" / "tampered.json"
        path.write_bytes(what if isinstance(what, bytes) else what.to_bytes())
        return judge(Job(path, tree / "kernels"), known)

    return act


@pytest.fixture(scope="session")
def moaproof() -> Run:
    """The command line in a process of its own; ``path`` goes before everything else on the import path."""

    def act(*args: str, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, ROOT)))), "NO_COLOR": "1"}
        command = [sys.executable, "-m", "moaproof", *args]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=120, check=False)

    return act
