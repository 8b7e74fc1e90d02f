"""Any kernel against any traced function: ``check_attention(kernel, spec)``.

``spec`` is a plain PyTorch function, declared as for ``moaproof derive``; ``kernel`` is any callable that takes the
same arguments in the same order, as tensors or as arrays.  Hypothesis draws sizes, scores, values, masks, layouts and
dtypes.  An element is accepted if it is within its tolerance of

- PyTorch's value of the function on the same numbers in float64, and
- the enclosure of the exact value of the function's Spec (python-flint; without it the first judges alone).

A tolerance is no constant: it is what rounding may do to any program of that value on that case, in any order of
summation and with as many rescales as it likes (``tolerance``).  Both runs of a case must have the same bits, and no
input may change.  What is refuted is shrunk, stored as FILE.json with FILE.npz, and ``replay`` runs it again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import hypothesis
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings, target
from hypothesis.errors import FailedHealthCheck, Flaky, Unsatisfiable

from ..assess.arithmetic import arithmetic_of
from ..errors import BackendMissing, CertificateInvalid, IllFormed, JudgesDisagree, NotCovered, Refuted, Unknown
from ..kernel.bound import Slack
from ..kernel.rounding import Bound, bound_of
from ..term import Term, canonical
from ..trace.builder import EMPTY_ROW
from . import profiles
from .drawn import (
    DTYPES,
    LAYOUTS,
    Choices,
    Drawn,
    Traced,
    Values,
    cases,
    choices,
    expand,
    laid_out,
    narrowed,
    screen,
    traced,
)  # fmt: skip
from .errors import OUTWARD, judge, ratios, torch_slack
from .errors import tolerance as tolerance_of
from .oracles import enclose, enclosure, torch_of, visible
from .trial import Judged

Array = np.ndarray[Any, Any]
Kernel = Callable[..., Any]

SCHEMA: Final = "moaproof/check-failure/1"
ARRAYS: Final = ("torch", "numpy")
QUANTILES: Final = (0.0, 0.5, 0.9, 0.99, 1.0)
FAILURES: Final = ".moaproof"
EXP: Final = 8  # relative error of a kernel's exp in units of u, at least: NumPy states 2.5 units in the last place
SCREENED: Final = 12  # cases that are chosen to show much, before Hypothesis draws
NARROWED: Final = 60  # cases that may be drawn to find again, smaller, what a screened one showed


# --- what is reported ------------------------------------------------------------------------------


def oracles() -> tuple[str, str | None]:
    """The names of both oracles with their versions; None: python-flint is not installed."""
    try:
        balls = f"python-flint {version('python-flint')} enclosure"
    except PackageNotFoundError:
        balls = None
    return f"PyTorch {torch.__version__} float64", balls


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case gave; ``fault`` says what is wrong beside numbers, and is empty if nothing is."""

    found: Array | None
    judged: tuple[Judged, ...] = ()
    fault: str = ""
    cause: BaseException | None = None

    @property
    def accepted(self) -> bool:
        return not self.fault and all(j.verdict.accepted for j in self.judged)

    @property
    def worst(self) -> Judged:
        """The oracle that is least content."""
        return max(self.judged, key=lambda j: j.verdict.ratio)

    def reason(self) -> str:
        if self.fault:
            return self.fault
        v = self.worst.verdict
        return f"element {v.index} is {v.found!r}, {v.ratio:.3g} times its tolerance away from {v.due!r}"


@dataclass(slots=True)
class Report:
    """What a check found: observed/bound of every element, by oracle and dtype."""

    kernel: str
    function: str
    profile: str
    seed: int | None  # None: the profile draws the same cases on every run
    cases: int = 0
    elements: int = 0
    outside: int = 0  # drawn, but no tolerance, or no value to compare with, is known there
    ratios: dict[tuple[str, str], list[Array]] = field(default_factory=dict)

    def add(self, case: Drawn, outcome: Outcome) -> None:
        self.cases += 1
        self.elements += 0 if outcome.found is None else outcome.found.size
        for j in outcome.judged:
            self.ratios.setdefault((j.oracle, case.dtype), []).append(j.ratios.ravel().astype(np.float32))

    def quantiles(self) -> dict[tuple[str, str], tuple[float, ...]]:
        """Observed/bound at 0, 50, 90, 99 and 100 % of the elements, by oracle and dtype."""
        joined = {key: np.concatenate(parts) for key, parts in self.ratios.items()}
        return {
            key: tuple(float(x) for x in np.quantile(all_of, QUANTILES, method="higher"))
            for key, all_of in sorted(joined.items())
            if all_of.size
        }

    def line(self) -> str:
        worst: dict[str, float] = {}
        for (oracle, _), row in self.quantiles().items():
            worst[oracle] = max(worst.get(oracle, 0.0), row[-1])
        said = ", ".join(f"{ratio:.3g} of {oracle}" for oracle, ratio in worst.items()) or "no element"
        return f"{self.cases} cases, {self.elements} elements; worst observed/bound {said}"

    def __str__(self) -> str:
        torch_name, balls = oracles()
        percent = "".join(f"{100 * q:>9.3g} %" for q in QUANTILES)
        rows = [
            f"{self.kernel} against {self.function}: accepted",
            f"{self.cases} cases, {self.elements} elements compared; {self.outside} cases outside the error bound",
            f"drawn by {self.profile}" + ("" if self.seed is None else f", seed {self.seed}"),
            f"oracles: {torch_name}; {balls or 'python-flint is not installed, so nothing encloses the exact value'}",
            f"{'observed/bound at':<44}{percent}",
        ]
        for (oracle, dtype), row in self.quantiles().items():
            rows.append(f"{f'{dtype} against {oracle}':<44}" + "".join(f"{x:>11.3g}" for x in row))
        return "\n".join(rows)


class KernelRefuted(Refuted):
    """A kernel is wrong on a case: ``outcome`` says how far, ``path`` is the stored case."""

    def __init__(self, message: str, sizes: Mapping[str, int], outcome: Outcome, path: Path | None):
        super().__init__(message)
        self.witness, self.outcome, self.path = dict(sizes), outcome, path


# --- tolerances ------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _bound(name: str, spec: Term, hypotheses: tuple[Term, ...]) -> Bound:
    try:
        return bound_of(spec, hypotheses)
    except (Unknown, IllFormed) as e:
        raise NotCovered(
            f"{name}: no error bound of its Spec is known, so nothing says what to tolerate: {e}"
        ) from None


def tolerance(t: Traced, sizes: Mapping[str, int], inputs: Mapping[str, Array], dtype: str, block: int | None) -> Array:
    """How far rounding in ``dtype`` may take a program of the Spec's value from it, for each element of the result.

    It is the error bound of the Spec, with slack for another program: any order of summation, a scale that is split or
    folded into an exp2, a rescale after every ``block`` keys, an exp that is off by four units in the last place.
    None: PyTorch's own program.  Raises ``NotCovered`` where the bound says nothing: too many operations, or what might
    overflow.
    """
    keys = max((sizes[i.extents[-2]] for i in t.arguments() if t.part(i) == "k" and len(i.extents) > 1), default=0)
    blocks = -(-keys // (block or 1))
    slack = torch_slack(keys) if block is None else Slack(score=6, rounds=4 * blocks + 4, exps=blocks + 1)
    bound = _bound(t.name, t.spec.term, t.spec.hypotheses)
    machine = arithmetic_of("torch-cpu", dtype)
    if block is not None:
        machine = replace(machine, eps=max(machine.eps, EXP * machine.u))
    return tolerance_of(bound, machine, sizes, inputs, slack)


def enclosed(t: Traced, sizes: Mapping[str, int], inputs: Mapping[str, Array]) -> tuple[Array, Array]:
    """The exact value of the Spec: midpoints and radii.  Of the named attentions a head at a time, which is fast."""
    if t.claim is None:
        return enclose(t.spec.term, sizes, {name: np.ravel(x) for name, x in inputs.items()})
    q, k, v = (_of_rank_4(inputs[name]) for name in ("q", "k", "v"))
    scale = float(inputs["scale"]) if "scale" in inputs else None
    (b, h, n, _), m = q.shape, k.shape[2]
    seen = np.broadcast_to(visible(n, m, inputs.get("mask"), "causal" in t.claim), (b, h, n, m))
    found = np.zeros((2, b, h, n, v.shape[3]))
    for i, j in np.ndindex(b, h):
        key = j * k.shape[1] // h
        found[:, i, j] = enclosure(
            q[i, j], k[i, key], v[i, key], seen[i, j], scale, where=f"oracle: batch {i}, head {j}"
        )
    shape = t.shape(sizes)
    return found[0].reshape(shape), found[1].reshape(shape)


def _of_rank_4(x: Array) -> Array:
    found: Array = x.reshape((1,) * (4 - x.ndim) + x.shape).astype(np.float64)
    return found


# --- one case --------------------------------------------------------------------------------------


def attempt(
    t: Traced, kernel: Kernel, case: Drawn, inputs: Mapping[str, Array], arrays: str = "torch", block: int = 1
) -> Outcome:
    """Run and judge one case.  Raises ``NotCovered`` where nothing can be compared, ``JudgesDisagree`` on us."""
    sizes = dict(case.sizes)
    ours = tolerance(t, sizes, inputs, case.dtype, block)
    theirs = tolerance(t, sizes, inputs, "float64", None)
    due = _of_function(t, sizes, inputs)
    judges = [_Oracle(oracles()[0], due, (ours + theirs) * OUTWARD)]
    try:
        middle, radius = enclosed(t, sizes, inputs)
    except BackendMissing:
        pass
    else:
        judges.append(_Oracle(oracles()[1] or "", middle, (ours + radius) * OUTWARD))
        _agree(t, due, middle, (theirs + radius) * OUTWARD)
    outcome = _runs(t, kernel, case, inputs, arrays)
    if outcome.fault or outcome.found is None:
        return outcome
    empty = np.isnan(due) & np.isnan(outcome.found)  # the function's NaN in a row that sees nothing is accepted
    found = np.where(empty, 0.0, outcome.found)
    return Outcome(outcome.found, tuple(o.judge(found) for o in judges))


@dataclass(frozen=True, slots=True)
class _Oracle:
    name: str
    due: Array
    tolerance: Array

    def judge(self, found: Array) -> Judged:
        due = np.where(np.isnan(self.due), 0.0, self.due)  # only where the Spec has 0
        verdict = judge(found, due, self.tolerance)
        return Judged(self.name, verdict, due, self.tolerance, ratios(found, due, self.tolerance))


def _of_function(t: Traced, sizes: Mapping[str, int], inputs: Mapping[str, Array]) -> Array:
    """PyTorch's float64 value, NaN only where the Spec states that the function deviates from its 0."""
    given = {name: float(x) if x.ndim == 0 else torch.from_numpy(x.copy()) for name, x in inputs.items()}
    try:
        due = torch_of(t.function, given | t.literals())
    except (RuntimeError, IndexError, ZeroDivisionError) as e:
        if 0 not in sizes.values():
            raise
        raise NotCovered(f"oracle: {t.name} raises {type(e).__name__} where a size is 0") from None
    if due.shape != t.shape(sizes):
        raise JudgesDisagree(f"{t.name}: its value has the shape {due.shape}, its Spec {t.shape(sizes)}")
    holes = np.isnan(due) if EMPTY_ROW in t.spec.deviations else np.zeros(due.shape, dtype=bool)
    if not np.isfinite(due[~holes]).all():
        raise NotCovered(f"oracle: {t.name} is not finite there")
    return due


def _agree(t: Traced, due: Array, middle: Array, allowed: Array) -> None:
    """Both oracles are of one function: if they differ by more than they may, neither judges a kernel."""
    verdict = judge(np.where(np.isnan(due), middle, due), middle, allowed)
    if not verdict.accepted:
        raise JudgesDisagree(
            f"{t.name}: element {verdict.index} is {verdict.found!r} by PyTorch and {verdict.due!r} by the enclosure of"
            f" its Spec, {verdict.ratio:.3g} times what rounding may do; the trace is wrong, or the bound is"
        )


def _runs(t: Traced, kernel: Kernel, case: Drawn, inputs: Mapping[str, Array], arrays: str) -> Outcome:
    """The kernel's output, after two runs on the same memory; or what is wrong with it."""
    given, memory = [], []
    for x in inputs.values():
        view, whole = laid_out(x, case.layout)
        given.append(float(x) if x.ndim == 0 else view.numpy() if arrays == "numpy" else view)
        memory.append(whole)
    before = [x.numpy().tobytes() for x in memory]
    found: list[Array] = []
    for _ in range(2):
        try:
            out = kernel(*given)
        except Exception as e:  # noqa: BLE001  it is another's code, and whatever it raises refutes it
            return Outcome(None, fault=f"it raises {type(e).__name__}: {e}", cause=e)
        fault = _misshapen(out, t.shape(dict(case.sizes)), case.dtype)
        if fault:
            return Outcome(None, fault=fault)
        found.append(out.copy() if isinstance(out, np.ndarray) else out.detach().cpu().numpy().copy())
    if before != [x.numpy().tobytes() for x in memory]:
        return Outcome(found[0], fault="it changes an input, or the memory around one")
    if found[0].tobytes() != found[1].tobytes():
        return Outcome(found[0], fault="two runs on the same inputs give different bits")
    return Outcome(found[0])


def _misshapen(out: Any, shape: tuple[int, ...], dtype: str) -> str:
    if not isinstance(out, torch.Tensor | np.ndarray):
        return f"it returns a {type(out).__name__}; a tensor or an array of shape {shape} is due"
    if tuple(out.shape) != shape:
        return f"it returns the shape {tuple(out.shape)}; {shape} is due"
    kind = str(out.dtype).removeprefix("torch.")
    return "" if kind == dtype else f"it returns {kind}; {dtype} is due, as the inputs are"


# --- many cases ------------------------------------------------------------------------------------


def check_attention(
    kernel: Kernel,
    spec: Callable[..., Any],
    *,
    draw: Values | None = None,
    dtypes: Sequence[str] = DTYPES,
    layouts: Sequence[str] = LAYOUTS,
    arrays: str = "torch",
    block: int = 1,
    fixed: Mapping[str, Any] | None = None,
    profile: str = "moaproof-quick",
    max_examples: int | None = None,
    seed: int | None = None,
    failures: Path | str = FAILURES,
    command: str | None = None,
) -> Report:
    """Fuzz ``kernel`` against ``spec``; a report if every case is accepted, else ``KernelRefuted`` with the smallest.

    ``draw``: by the name of a size, or of a number, what to draw it from: ``{"dk": (16, 32), "scale": (0.125,)}``.
    Sizes of 0 are drawn only if they are given there.  ``arrays``: what the kernel takes, "torch" or "numpy" (it may
    return either).  ``block``: the least number of keys between two rescales of the kernel; 1 tolerates most.
    ``fixed``: literal values of parameters, which the kernel does not get.

    ``profile``, ``max_examples``, ``seed``: which cases; without a seed, a profile that draws new ones takes one and
    reports it.  ``failures``: the folder of what is refuted.  ``command``: how this check is run, for the message.

    Raises ``NotCovered`` for what cannot be traced, drawn or judged.
    """
    __tracebackhide__ = True  # of pytest: what is to be read is the message
    if not callable(kernel):
        raise NotCovered(f"kernel: a callable is due, not a {type(kernel).__name__}")
    if arrays not in ARRAYS:
        raise NotCovered(f"arrays: one of {', '.join(ARRAYS)} is due, not {arrays!r:.40}")
    if type(block) is not int or block < 1:
        raise NotCovered(f"block: a number of keys of at least 1 is due, not {block!r:.40}")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**53):
        raise NotCovered(f"seed: a natural number below 2^53 is due, not {seed!r:.40}")
    t = traced(spec, fixed)
    _bound(t.name, t.spec.term, t.spec.hypotheses)  # if there is none, this is the place to say so
    options = profiles.profile(profile, max_examples)
    chosen = seed
    if seed is not None:
        options = settings(options, derandomize=False, database=None)
    elif not options.derandomize:
        chosen = random.SystemRandom().randrange(2**32)
    report = Report(_named(kernel), f"{t.name} ({t.place})", profiles.full_name(profile), chosen)
    search = _Search(choices(t, draw or {}, dtypes, layouts), partial(attempt, t, kernel, arrays=arrays, block=block))
    failed = search.run(options, report)
    if failed is not None:
        case, outcome = failed
        path = _store(t, case, outcome, report, Path(failures), {"arrays": arrays, "block": block})
        again = command and f"{command} --moaproof-profile={report.profile}"
        raise _refuted(t, case, outcome, report, path, again) from outcome.cause
    return report


def _named(kernel: Kernel) -> str:
    return str(getattr(kernel, "__name__", type(kernel).__name__))


class _Wrong(Exception):
    """A case is refuted."""


Failed = tuple[Drawn, Outcome]


class _Search:
    """For a case that is refuted: a third of the cases are screened, Hypothesis draws the others, and shrinks."""

    def __init__(self, drawn_from: Choices, judge_of: Callable[[Drawn, Mapping[str, Array]], Outcome]):
        self.choices, self.judge_of = drawn_from, judge_of
        self.outside: list[str] = []

    def run(self, options: settings, report: Report) -> Failed | None:
        """The smallest refuted case, or None; the report gets those that were accepted before."""
        screened = min(SCREENED, options.max_examples // 3)
        for case in screen(self.choices, screened, report.seed or 0):
            outcome = self.judged(case, report)
            if outcome is not None and not outcome.accepted:
                return self.shrunk(case, options) or (case, outcome)
        rest = settings(options, max_examples=options.max_examples - screened)
        failed = self.explored(self.choices, rest, report)
        if failed is None and not report.cases:
            raise self.nothing("none was drawn")
        return failed

    def judged(self, case: Drawn, report: Report) -> Outcome | None:
        """None: nothing can be compared there."""
        try:
            outcome = self.judge_of(case, expand(self.choices.t, case))
        except NotCovered as e:
            report.outside += 1
            self.outside.append(str(e))
            return None
        if outcome.accepted:
            report.add(case, outcome)
        return outcome

    def explored(self, drawn_from: Choices, options: settings, report: Report) -> Failed | None:
        """What Hypothesis finds."""
        refuted: list[Failed] = []
        ended = report

        def holds(case: Drawn) -> None:
            nonlocal ended
            outcome = self.judged(case, ended)
            assume(outcome is not None)
            if outcome is not None and outcome.judged:
                target(min(outcome.worst.verdict.ratio, 1e6), label="observed/bound")
            if outcome is not None and not outcome.accepted:
                refuted.append((case, outcome))
                ended = Report("", "", "", None)  # what is run to shrink a failure is no part of the report
                raise _Wrong

        holds.__name__ = re.sub(r"\W", "_", f"{self.choices.t.name}_{report.kernel}")  # the key of its database
        checks = (*options.suppress_health_check, HealthCheck.filter_too_much)
        test: Any = settings(options, suppress_health_check=checks)(given(cases(drawn_from))(holds))
        try:
            (test if report.seed is None else hypothesis.seed(report.seed)(test))()
        except (_Wrong, Flaky):  # the smallest is run last; a flaky one need not fail again
            return refuted[-1]
        except (Unsatisfiable, FailedHealthCheck) as e:
            if not report.cases:
                raise self.nothing(str(e)) from None
        return None

    def shrunk(self, case: Drawn, options: settings) -> Failed | None:
        """A smaller refuted case of the same kind, if one is found."""
        if Phase.shrink not in options.phases:
            return None
        fast = settings(profiles.profile("moaproof-quick", NARROWED), database=None)
        return self.explored(narrowed(self.choices, case), fast, Report("", "", "", None))

    def nothing(self, why: str) -> NotCovered:
        said = self.outside[-1] if self.outside else why
        return NotCovered(f"{self.choices.t.name}: no case could be judged: {said}")


def _refuted(
    t: Traced, case: Drawn, outcome: Outcome, report: Report, path: Path | None, command: str | None
) -> KernelRefuted:
    torch_name, balls = oracles()
    lines = [f"{report.kernel}: {outcome.reason()}"]
    rows = [("function", f"{report.function}, Spec {t.spec.term.digest[:12]}")]
    rows += [("sizes", ", ".join(f"{s} = {x}" for s, x in case.sizes))]
    rows += [("inputs", ", ".join((case.words(t), *(f"{s} = {x!r}" for s, x in case.scalars))))]
    for j in outcome.judged:
        at = outcome.worst.verdict.index
        ratio, due, allowed = (float(x[at]) for x in (j.ratios, j.due, j.tolerance))
        rows += [("oracle", f"{j.oracle}: {due!r} is due within {allowed:.3g}; observed/bound {ratio:.3g}")]
    if not outcome.judged:
        rows += [("oracle", f"{torch_name}, not asked")]
    if balls is None:
        rows += [("oracle", "python-flint is not installed, so nothing encloses the exact value")]
    if path is not None:
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        rows += [("stored", f"{shown}, with {path.with_suffix('.npz').name}")]
        rows += [("again", f'moaproof.testing.replay("{shown}", {report.kernel}, {t.name})')]
    seed = "" if report.seed is None else f" --moaproof-seed={report.seed}"
    if command:
        rows += [("again", command + seed)]
    elif report.seed is not None:
        rows += [("again", f"check_attention(.., profile={report.profile!r}, seed={report.seed})")]
    lines += [f"  {name:<9} {text}" for name, text in rows]
    return KernelRefuted("\n".join(lines), dict(case.sizes), outcome, path)


# --- failures on disk ------------------------------------------------------------------------------


def _store(t: Traced, case: Drawn, outcome: Outcome, report: Report, folder: Path, options: Mapping[str, Any]) -> Path:
    """Write a failure; the path of its JSON file."""
    inputs = expand(t, case)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "function": t.name,
        "spec": t.spec.term.digest,
        "kernel": report.kernel,
        **options,
        "sizes": dict(case.sizes),
        "scalars": {name: x.hex() for name, x in case.scalars},
        "case": {name: getattr(case, name) for name in ("dtype", "regime", "pool", "pattern", "layout", "seed")},
        "profile": report.profile,
        "seed": report.seed,
        "reason": outcome.reason(),
        "judged": [
            {"oracle": j.oracle, "element": list(j.verdict.index), "found": j.verdict.found.hex(),
             "due": j.verdict.due.hex(), "tolerance": j.verdict.tolerance.hex(), "ratio": j.verdict.ratio.hex()}
            for j in outcome.judged
        ],
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("moaproof", "torch", "numpy", "hypothesis")},
    }  # fmt: skip
    data = {f"input_{name}": x for name, x in inputs.items() if x.ndim}
    if outcome.found is not None:
        data["found"] = outcome.found
    for j in outcome.judged:
        what = "torch" if j is outcome.judged[0] else "enclosure"
        data |= {f"due_{what}": j.due, f"tolerance_{what}": j.tolerance}
    text = canonical(document) + b"\n"
    path = folder / f"{t.name}-{hashlib.sha256(text).hexdigest()[:12]}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path.with_suffix(".npz"), **data)  # type: ignore[arg-type]
        path.write_bytes(text)
    except OSError as e:
        raise NotCovered(
            f"{folder}: the failing case cannot be stored ({e.strerror or e}); {report.kernel}: {outcome.reason()}"
        ) from None
    return path


def replay(
    path: Path | str, kernel: Kernel, spec: Callable[..., Any], fixed: Mapping[str, Any] | None = None
) -> Report:
    """Run a stored failure again, on today's kernel and function: ``KernelRefuted`` if it still fails, else a report.

    ``CertificateInvalid`` for a file that is none, ``NotCovered`` if the function has another Spec than the stored one.
    """
    __tracebackhide__ = True
    path, t = Path(path), traced(spec, fixed)
    case, document = _stored(path)
    if document["spec"] != t.spec.term.digest:
        raise NotCovered(f"{path}: it was found with another function than {t.name}: its Spec has another digest")
    inputs = _stored_inputs(path.with_suffix(".npz"), t, case)
    outcome = attempt(t, kernel, case, inputs, document["arrays"], document["block"])
    report = Report(_named(kernel), f"{t.name} ({t.place})", "the stored case", None)
    if not outcome.accepted:
        raise _refuted(t, case, outcome, report, path, None) from outcome.cause
    report.add(case, outcome)
    return report


def _stored(path: Path) -> tuple[Drawn, dict[str, Any]]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as e:
        raise CertificateInvalid(f"{path}: cannot be read ({e.strerror or e})") from None
    except (ValueError, RecursionError):
        raise CertificateInvalid(f"{path}: not JSON; give the .json file of a stored failure") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise CertificateInvalid(f"{path}: not a stored failure of schema {SCHEMA}")
    try:
        sizes = tuple((str(s), _natural(x)) for s, x in sorted(document["sizes"].items()))
        scalars = tuple((str(s), float.fromhex(x)) for s, x in sorted(document["scalars"].items()))
        case = Drawn(sizes, scalars, **document["case"])
        known = case.dtype in DTYPES and case.layout in LAYOUTS and document["arrays"] in ARRAYS
        if not known or not isinstance(document["spec"], str) or _natural(document["block"]) < 1:
            raise ValueError("a field is none of the known values")
    except (KeyError, ValueError, TypeError, AttributeError) as e:
        raise CertificateInvalid(f"{path}: not a stored failure: {e}") from None
    return case, document


def _natural(x: Any) -> int:
    if type(x) is not int or x < 0:
        raise ValueError(f"{x!r:.40} is no size")
    return x


def _stored_inputs(path: Path, t: Traced, case: Drawn) -> dict[str, Array]:
    sizes, scalars = dict(case.sizes), dict(case.scalars)
    found: dict[str, Array] = {}
    try:
        with np.load(path, allow_pickle=False) as data:
            for i in t.arguments():
                x = np.array(scalars[i.name]) if i.kind == "scalar" else np.ascontiguousarray(data[f"input_{i.name}"])
                kind = case.dtype if i.kind == "real" else "float64" if i.kind == "scalar" else "bool"
                if x.shape != tuple(sizes[e] for e in i.extents) or x.dtype != kind:
                    raise ValueError(f"{i.name} has the shape {x.shape} and {x.dtype}")
                found[i.name] = x
    except (OSError, ValueError, TypeError, KeyError, EOFError) as e:
        raise CertificateInvalid(f"{path}: the stored inputs cannot be read ({e})") from None
    return found
