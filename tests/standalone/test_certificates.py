"""The committed certificates are proved in a process that has nothing but CPython; the file is what it says it is."""

from __future__ import annotations

import ast
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from moaproof.rewrite_rules import lookup

from moaproof.assess.trusted import code_lines
from moaproof.kernel.certificate import parse
from moaproof.kernel.checker import replay
from moaproof.kernel.claims import CLAIMS, claim_of
from moaproof.standalone import __main__ as alone

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "moaproof" / "standalone" / "__main__.py"
CERTIFICATES = sorted((ROOT / "certs").glob("*.json"))


def limited() -> None:
    """20 s of processor time and 2 GiB: an order of magnitude more than is needed."""
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "-B", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limited)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checker alone in a folder, far from the rest."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copy(SOURCE, folder)
    return folder


def test_every_committed_certificate_is_proved(elsewhere: Path) -> None:
    assert CERTIFICATES
    done = run(elsewhere, *map(str, CERTIFICATES))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for path, line in zip(CERTIFICATES, lines, strict=False):
        c = parse(path.read_bytes())
        assert line.startswith(f"{path}: proved: {claim_of(c.spec, c.hypotheses)}: ")
        used, carried = map(int, re.search(r"by (\d+) of (\d+) witnesses", line).groups())  # type: ignore[union-attr]
        assert 0 < used <= carried == len(c.witnesses)
        assert f"core {c.core_digest()[:12]}" in line
    said = "\n".join(lines[len(CERTIFICATES) :])
    for word in ("(a)", "(c)", "(d)", "rule", "SymPy", "random points", "real inequalities", "distinct"):
        assert word in said


@pytest.mark.parametrize("name", ["causal-rows", "one-head-online"])
def test_the_classes_are_the_kernels(name: str) -> None:
    data = (ROOT / "certs" / f"{name}.json").read_bytes()
    kernel = replay(parse(data), lookup).classes()
    steps = ", ".join(f"{n} {kind}" for kind, n in kernel.items())
    assert f"(steps: {steps}; " in alone.replay(alone.read(data))


def test_the_named_claims_are_the_kernels() -> None:
    own = {name: (spec, tuple(sorted(map(alone.digest, facts)))) for spec, facts, name in alone.CLAIMS}
    assert own == CLAIMS


@pytest.mark.parametrize("given", [[], ["--help"], ["none.json"], ["."], [str(CERTIFICATES[0]), "none.json"]])
def test_usage(given: list[str], elsewhere: Path) -> None:
    done = run(elsewhere, *given)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_path_with_control_characters_is_printed_as_text(elsewhere: Path, tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31mé.json"
    path.write_bytes(b"{}")
    done = run(elsewhere, str(path))
    assert done.returncode == 2
    assert "\\xe9" in done.stdout


@pytest.mark.parametrize(
    ("codes", "first"), [([0, 3, 1], 1), ([4, 1, 2], 4), ([2, 3], 2), ([3, 0], 3), ([0, 0], 0), ([1, 2, 3], 1)]
)
def test_the_worst_code_wins(codes: list[int], first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter(codes)
    monkeypatch.setattr(alone, "check", lambda path: (next(left), "x"))
    assert alone.main(["a"] * len(codes)) == first


# --- the file itself ------------------------------------------------------------------------------------


def test_it_imports_the_standard_library_alone() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    assert not any(node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec", "compile", "__import__", "globals", "getattr", "setattr"}


def test_it_fits_its_limit() -> None:
    folder = SOURCE.parent
    assert sum(code_lines(p.read_text(encoding="utf-8")) for p in folder.glob("*.py")) <= 1200


def test_it_shares_no_text_with_the_kernel() -> None:
    """No three lines in a row, of any length worth the name, stand in both."""

    def runs(path: Path) -> set[tuple[str, ...]]:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if len(line) > 20 and not line.startswith(("from ", "import ", "#", '"'))]
        return set(zip(lines, lines[1:], lines[2:], strict=False))

    others = [ROOT / "moaproof" / f"{f}.py" for f in ("term", "shapes", "operators", "semantics")]
    for other in [*others, *(ROOT / "moaproof" / "kernel").glob("*.py")]:
        assert not runs(SOURCE) & runs(other), other
