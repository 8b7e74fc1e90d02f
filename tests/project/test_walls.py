"""The walls between packages hold, and each of them catches a forbidden import.

import-linter runs in a process of its own: in this one `moaproof` is already the tree under test,
and the planted copy would not be looked at.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
WALLS = {wall["id"]: wall["name"] for wall in CONFIG["tool"]["importlinter"]["contracts"]}

# Written out again, not read from the contracts: a line dropped there is to be noticed here.
LANGUAGE = ("errors", "operators", "semantics", "shapes", "term")
TRUSTED = (*LANGUAGE, "kernel", "reader", "trace.table")
NEVER_TRUSTED = ("assess", "cli", "codegen", "derive", "runtime", "testing")
ABOVE_THE_READER = (*NEVER_TRUSTED, "certs", "instructions", "kernels", "rewrite_rules", "trace")
HEAVY = ("hypothesis", "numba", "rich", "torch", "typer")


class Plant(NamedTuple):
    """A forbidden line, and the import that has to be reported for it."""

    module: str
    line: str
    target: str


def _plant(module: str, target: str) -> Plant:
    return Plant(module, f"import {target}", target)


def _inside(module: str) -> str:
    """The module to plant in; a package gets a new one."""
    return f"{module}.planted" if module in {"kernel", "reader", "rewrite_rules", "standalone"} else module


def _plants_for_layers() -> list[Plant]:
    forbidden = {
        "kernel.planted": ("reader", *ABOVE_THE_READER),
        "reader.planted": ABOVE_THE_READER,
        **dict.fromkeys(LANGUAGE, ("kernel", "reader", *ABOVE_THE_READER)),
    }
    return [_plant(m, f"moaproof.{t}") for m, targets in forbidden.items() for t in targets]


def _plants_for_trusted() -> list[Plant]:
    targets = (*HEAVY, *(f"moaproof.{name}" for name in NEVER_TRUSTED))
    return [
        *(_plant(_inside(module), target) for module in TRUSTED for target in targets),
        Plant("kernel.late", "def late():\n    import torch", "torch"),
        Plant("reader.typed", "if TYPE_CHECKING:\n    from numba import njit", "numba"),
        Plant("kernel.relative", "from ..derive import search", "moaproof.derive"),
    ]


def _plants_for_front_door() -> list[Plant]:
    return [
        Plant(_inside(module), "from moaproof import attention", "moaproof")
        for module in (*TRUSTED, "rewrite_rules", "standalone")
    ]


def _plants_for_rules() -> list[Plant]:
    forbidden = ("kernel", "kernel.checker", "reader", "errors", "semantics", "operators", "derive")
    return [_plant("rewrite_rules.planted", f"moaproof.{name}") for name in forbidden]


def _plants_for_kernels() -> list[Plant]:
    forbidden = ("term", "kernel", "runtime", "codegen", "rewrite_rules")
    return [_plant("kernels.planted", f"moaproof.{name}") for name in forbidden]


def _plants_for_standalone() -> list[Plant]:
    ours = ("term", "shapes", "semantics", "kernel.question", "reader", "rewrite_rules")
    engines = ("cvc5", "flint", "islpy", "numpy", "sympy", "z3")
    return [_plant("standalone.planted", t) for t in (*(f"moaproof.{name}" for name in ours), *engines, *HEAVY)]


PLANTS = {
    "layers": _plants_for_layers(),
    "trusted": _plants_for_trusted(),
    "front-door": _plants_for_front_door(),
    "rules": _plants_for_rules(),
    "kernels": _plants_for_kernels(),
    "standalone": _plants_for_standalone(),
}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the packages, laid out as a wheel installs them."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "moaproof", tmp_path / "moaproof", ignore=skip)
    for name, folder in CONFIG["tool"]["setuptools"]["package-dir"].items():
        shutil.copytree(ROOT / folder, tmp_path / name.replace(".", "/"), ignore=skip)
    return tmp_path


def _append(tree: Path, module: str, line: str) -> None:
    file = tree / "moaproof" / f"{module.replace('.', '/')}.py"
    with file.open("a") as text:
        text.write(f"\n{line}\n")


def _lint(tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    run = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    config = ("--config", str(ROOT / "pyproject.toml"), "--no-cache", "--no-logo")
    return subprocess.run(
        [sys.executable, "-c", run, *config, *options],
        cwd=tree,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tree_keeps_every_wall(installed: Path) -> None:
    found = _lint(installed)
    assert f"{len(WALLS)} kept, 0 broken" in found.stdout, found.stdout
    assert found.returncode == 0


def test_every_wall_has_its_plants() -> None:
    assert PLANTS.keys() == WALLS.keys()


@pytest.mark.parametrize("wall", PLANTS)
def test_forbidden_imports_are_caught(wall: str, installed: Path) -> None:
    for plant in PLANTS[wall]:
        _append(installed, plant.module, plant.line)

    found = _lint(installed, "--contract", wall)

    assert found.returncode == 1
    assert f"{WALLS[wall]} BROKEN" in found.stdout, found.stdout
    reported = " ".join(found.stdout.split())
    missed = [p for p in PLANTS[wall] if f"moaproof.{p.module} -> {p.target} (l." not in reported]
    assert not missed, found.stdout


def test_a_module_without_a_place_is_caught(installed: Path) -> None:
    _append(installed, "newcomer", "")
    found = _lint(installed, "--contract", "layers")
    assert found.returncode == 1
    assert "moaproof.newcomer" in found.stdout


def test_a_heavy_library_behind_a_chain_is_caught(installed: Path) -> None:
    _append(installed, "trace.between", "import torch")
    _append(installed, "trace.table", "from . import between")
    found = _lint(installed, "--contract", "trusted")
    assert found.returncode == 1
    assert "moaproof.trace.between -> torch (l." in found.stdout
