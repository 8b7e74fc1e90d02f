"""Fuzzing campaigns: ``moaproof fuzz``.

Each drawn case runs through the certified kernel that ``attention`` would choose, twice.  It passes if both outputs
have the same bits, no input was changed, and every element is within the error model of PyTorch's float64 result.
A failure is shrunk by Hypothesis and stored as FILE.npz (inputs, found, due, tolerance) with FILE.json (case,
certificate, digest, versions, observed and bound), and ``again`` runs it again.
"""

from __future__ import annotations

import hashlib
import json
import math
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
from ..runtime.attention import KEYS, Call, prepare, tiles
from ..runtime.attention import run as run_kernel
from ..runtime.loader import load
from ..term import canonical
from . import profiles
from .errors import Verdict, bound, judge, of_online, of_torch
from .oracles import sdpa, visible
from .strategies import Case, Inputs, cases, expand

SCHEMA: Final = "moaproof/failure/1"
Array = np.ndarray[Any, Any]
Say = Callable[[str], None]


class Failed(AssertionError):
    """A case is refuted: the message says which, and how far off it is."""

    def __init__(self, case: Case, result: Result):
        super().__init__(f"{family(result.call)}: {result.reason()}\n{case}")
        self.case, self.result = case, result


@dataclass(frozen=True, slots=True)
class Result:
    """What one case gave, as float64 arrays of shape (b, h, n, dv)."""

    call: Call
    sizes: dict[str, int]
    found: Array
    due: Array
    tolerance: Array
    verdict: Verdict
    repeatable: bool
    untouched: bool

    @property
    def accepted(self) -> bool:
        return self.verdict.accepted and self.repeatable and self.untouched

    def reason(self) -> str:
        v = self.verdict
        if not self.repeatable:
            return "two runs gave different bits"
        if not self.untouched:
            return "an input was changed"
        return f"element {v.index}: {v.found!r} for {v.due!r}, {v.ratio:.3g} times the tolerance {v.tolerance:.3g}"


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
        ratio = result.verdict.ratio
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


# --- one case --------------------------------------------------------------------------------------


def attempt(
    inputs: Inputs, tq: int | None = None, tk: int | None = None, runner: Callable[..., Any] = run_kernel
) -> Result:
    """Run and judge one case; ``runner`` (for tests of the harness) replaces the kernel.

    Raises ``NotCovered`` where the error model says nothing.
    """
    x = inputs
    call = prepare(
        x.q, x.k, x.v, attn_mask=x.mask, is_causal=x.causal, scale=x.scale,
        enable_gqa=x.q.shape[-3] != x.k.shape[-3],
    )  # fmt: skip
    sizes = call.sizes | tiles(call.sizes, call.dtype)
    for tile, count, extent, wanted in (("tq", "bq", "n", tq), ("tk", "bk", "m", tk)):
        if wanted is not None:
            sizes |= {tile: wanted, count: -(-sizes[extent] // wanted)}
    tolerance = tolerance_of(x, call, sizes)
    due = sdpa(x.q, x.k, x.v, x.mask, x.causal, x.scale)
    before = [t.numpy().tobytes() for t in tensors_of(x)]
    found, again = (runner(call, sizes).numpy() for _ in range(2))
    untouched = before == [t.numpy().tobytes() for t in tensors_of(x)]
    repeatable = found.tobytes() == again.tobytes()
    return Result(call, sizes, found, due, tolerance, judge(found, due, tolerance), repeatable, untouched)


def tensors_of(x: Inputs) -> list[torch.Tensor]:
    return [t for t in (x.q, x.k, x.v, x.mask) if t is not None]


def tolerance_of(x: Inputs, call: Call, sizes: dict[str, int]) -> Array:
    """The kernel's own bound and PyTorch's, added: (b, h, n, dv)."""
    n, m, dk = (sizes[s] for s in ("n", "m", "dk"))
    exact = 1 / math.sqrt(dk) if x.scale is None else float(x.scale)
    half = 2.0**-52 if x.scale is None else 0.0  # 1/sqrt(dk) is itself rounded, twice
    sigma = half + (2.0**-24 if call.dtype == "float32" else 0.0)
    ours, theirs = of_online(m, dk, sizes.get("tk", KEYS), sigma), of_torch(m, dk, half)
    q, k, v = (t.detach().to(torch.float64).numpy() for t in (x.q, x.k, x.v))
    group = sizes["r"] if sizes["h"] != sizes["g"] else 1
    seen = visible(n, m, None if x.mask is None else x.mask.numpy(), x.causal)
    seen = np.broadcast_to(seen, (*q.shape[:2], n, m))
    total = np.zeros((*q.shape[:3], v.shape[-1]))
    for batch in range(len(q)):
        kk, vv = (np.repeat(t[batch], group, axis=0) for t in (k, v))
        total[batch] = bound(q[batch], kk, vv, seen[batch], exact, ours, call.dtype)
        total[batch] += bound(q[batch], kk, vv, seen[batch], exact, theirs, "float64")
    return total


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
            target(min(result.verdict.ratio, 1e6), label="observed/bound")
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
    due = {"due": result.due, "tolerance": result.tolerance, "found": result.found}
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
        "ratio": result.verdict.ratio.hex(),
        "observed": abs(result.verdict.found - result.verdict.due).hex(),
        "bound": result.verdict.tolerance.hex(),
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
