"""Fuzzing campaigns: ``moaproof fuzz``.

Each drawn case runs through the certified kernel that ``attention`` would choose, twice.  It passes if both outputs
have the same bits, no input was changed, and every element is within the error model of PyTorch's float64 result.
A failure is shrunk by Hypothesis and stored as FILE.npz (inputs, found, due, tolerance) with FILE.json (case,
certificate, digest, versions, observed and bound), and ``again`` runs it again.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import hypothesis
import numpy as np
import torch
from hypothesis import assume, given, settings, target

from ..errors import CertificateInvalid, NotCovered
from ..runtime.attention import Call
from ..runtime.attention import run as run_kernel
from ..runtime.loader import load
from ..term import canonical
from . import profiles
from .strategies import Case, Inputs, cases, expand
from .trial import Result, attempt

SCHEMA: Final = "moaproof/failure/1"
Array = np.ndarray[Any, Any]
Say = Callable[[str], None]


class Failed(AssertionError):
    """A case is refuted: the message says which, and how far off it is."""

    def __init__(self, case: Case, result: Result):
        super().__init__(f"{family(result.call)}: {result.reason()}\n{case}")
        self.case, self.result = case, result


@dataclass(slots=True)
class Report:
    """Worst observed/bound by family (certificate and dtype) and by regime of the scores."""

    cases: int = 0
    elements: int = 0
    outside: int = 0  # drawn, but the error model says nothing there
    families: dict[str, tuple[int, float]] = field(default_factory=dict)
    regimes: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, case: Case, result: Result) -> None:
        self.cases += 1
        self.elements += result.found.size
        ratio = result.worst.verdict.ratio
        for table, key in ((self.families, family(result.call)), (self.regimes, case.regime)):
            count, worst = table.get(key, (0, 0.0))
            table[key] = count + 1, max(worst, ratio)

    def lines(self) -> list[str]:
        rows = [f"{'family':<28}{'cases':>7}  worst observed/bound"]
        for table in (self.families, self.regimes):
            rows += [f"{key:<28}{count:>7}  {worst:.3f}" for key, (count, worst) in sorted(table.items())]
        return [*rows, f"{self.cases} cases, {self.elements} elements compared; {self.outside} outside the error model"]

    def to_json(self) -> dict[str, Any]:
        def rows(table: dict[str, tuple[int, float]]) -> dict[str, Any]:
            return {key: {"cases": count, "worst": worst.hex()} for key, (count, worst) in sorted(table.items())}

        return {"schema": "moaproof/fuzz/1", "cases": self.cases, "elements": self.elements, "outside": self.outside,
                "families": rows(self.families), "regimes": rows(self.regimes), "versions": versions()}  # fmt: skip


def family(call: Call) -> str:
    return f"{call.certificate}/{call.dtype}"


def versions() -> dict[str, str]:
    names = ("moaproof", "torch", "numba", "numpy", "hypothesis")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


# --- a campaign ------------------------------------------------------------------------------------


def explore(
    report: Report,
    options: settings,
    start: int | None = None,
    runner: Callable[..., Any] = run_kernel,
    **drawn: Any,
) -> None:
    """Draw cases and judge them; the smallest refuted one is raised as ``Failed``.  ``drawn`` narrows ``cases``."""

    @options
    @given(cases(**drawn))
    def holds(case: Case) -> None:
        try:
            result = attempt(expand(case), case.tq, case.tk, runner)
        except NotCovered as e:
            if not str(e).startswith("error model"):
                raise
            report.outside += 1
            assume(False)
        else:
            report.add(case, result)
            target(min(result.worst.verdict.ratio, 1e6), label="observed/bound")
            if not result.accepted:
                raise Failed(case, result)

    (holds if start is None else hypothesis.seed(start)(holds))()


def run(
    profile: str = "moaproof-default",
    max_examples: int | None = None,
    seed: int | None = None,
    replay: Path | None = None,
    out: Path | None = None,
    say: Say = print,
) -> int:
    """``moaproof fuzz``: exit code 0 if every case was accepted, 1 if one was refuted.

    ``out`` gets report.json and the stored failure (None: the current folder, and only a failure).  With a ``seed``
    the same cases are drawn on every run.  ``replay``: the JSON file of a stored failure, and nothing else is run.
    """
    if replay is not None:
        return again(replay, say)
    options = profiles.profile(profile, max_examples)
    if seed is not None:
        options = settings(options, derandomize=False, database=None)
    folder = out or Path()
    _writable(folder)
    report, code = Report(), 0
    try:
        explore(report, options, seed)
    except Failed as e:
        code = 1
        stored = store(e.case, e.result, folder)
        say(f"refuted: {e}")
        say(f"stored: {stored}; run it again with: moaproof fuzz --replay {stored}")
    for line in report.lines():
        say(line)
    if out is not None:
        (folder / "report.json").write_bytes(canonical(report.to_json()) + b"\n")
    return code


def _writable(folder: Path) -> None:
    """Before hours of work, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return
    except OSError as e:
        raise NotCovered(f"{folder}: cannot be written ({e.strerror or e}); give another folder with -o") from None


# --- failures on disk ------------------------------------------------------------------------------


def store(case: Case, result: Result, folder: Path) -> Path:
    """Write a failure; the path of its JSON file."""
    x = expand(case)
    arrays = {"q": x.q, "k": x.k, "v": x.v} | ({} if x.mask is None else {"mask": x.mask})
    worst = result.worst
    due = {"due": worst.due, "tolerance": worst.tolerance, "found": result.found}
    document = {
        "schema": SCHEMA,
        "case": case.to_json(),
        "certificate": result.call.certificate,
        "dtype": result.call.dtype,
        "sha256": load(result.call.certificate, result.call.dtype).sha256,
        "causal": x.causal,
        "scale": None if x.scale is None else x.scale.hex(),
        "tq": result.sizes["tq"],
        "tk": result.sizes["tk"],
        "reason": result.reason(),
        "oracle": worst.oracle,
        "ratio": worst.verdict.ratio.hex(),
        "observed": abs(worst.verdict.found - worst.verdict.due).hex(),
        "bound": worst.verdict.tolerance.hex(),
        "versions": versions(),
    }
    text = canonical(document) + b"\n"
    path = folder / f"failure-{hashlib.sha256(text).hexdigest()[:12]}.json"
    everything: dict[str, Any] = {name: t.contiguous().numpy() for name, t in arrays.items()} | due
    np.savez_compressed(path.with_suffix(".npz"), **everything)
    path.write_bytes(text)
    return path


def again(path: Path, say: Say = print) -> int:
    """Run a stored failure again on today's kernel: exit code 1 if it still fails, else 0.

    The values are the stored ones, in contiguous tensors; the layout of the case is in the JSON file.
    """
    document = _stored(path)
    inputs = _stored_inputs(path.with_suffix(".npz"), document)
    result = attempt(inputs, document["tq"], document["tk"])
    kernel = load(result.call.certificate, result.call.dtype)
    changed = "" if kernel.sha256 == document["sha256"] else " (another text than the one that failed)"
    say(f"{path.name}: {family(result.call)}{changed}")
    say(f"stored: {document['reason']}")
    say(f"now: {'accepted' if result.accepted else 'refuted'}: {result.reason()}")
    return 0 if result.accepted else 1


def _stored(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as e:
        raise CertificateInvalid(f"{path}: cannot be read ({e.strerror or e})") from None
    except ValueError:
        raise CertificateInvalid(f"{path}: not JSON; give the .json file of a stored failure") from None
    kinds = {"tq": int, "tk": int, "causal": bool, "sha256": str, "reason": str}
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise CertificateInvalid(f"{path}: not a stored failure of schema {SCHEMA}")
    for name, kind in kinds.items():
        if type(document.get(name)) is not kind:
            raise CertificateInvalid(f"{path}: {name}: {kind.__name__} is due")
    if min(document["tq"], document["tk"]) < 1:
        raise CertificateInvalid(f"{path}: tq, tk: positive numbers are due")
    return document


def _stored_inputs(path: Path, document: dict[str, Any]) -> Inputs:
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: np.ascontiguousarray(data[name]) for name in ("q", "k", "v", "mask") if name in data}
        tensors = {name: torch.from_numpy(x) for name, x in arrays.items()}
        scale = document.get("scale")
        number = None if scale is None else float.fromhex(scale)
        return Inputs(tensors["q"], tensors["k"], tensors["v"], tensors.get("mask"), document["causal"], number)
    except (OSError, ValueError, TypeError, KeyError, EOFError) as e:
        raise CertificateInvalid(f"{path}: the stored inputs cannot be read ({e})") from None
