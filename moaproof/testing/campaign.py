"""Fuzzing campaigns: ``moaproof fuzz``.

Each drawn case runs through the certified kernel that ``attention`` would choose, twice.  It passes if both outputs
have the same bits, no input was changed, and every element is within its bound of PyTorch's float64 result and of the
enclosure of the exact value.  A failure is shrunk by Hypothesis and stored (``store``); a campaign goes on after it.

A campaign is a sequence of batches (``jobs``), run here, on worker processes or on a Dask cluster; the finished ones
are lines of a ledger (``ledger``), from which it goes on and from which the report (``report``) is made.

The exit code is 1 if an element is beyond its bound, if bits differ between two runs, if an input was changed, or if a
batch crashed or raised.  The comparison with plain PyTorch's error does not decide it: it is a statistic of the cases
that were drawn, where the bound is a theorem about all of them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import hypothesis
import numpy as np
import torch
from hypothesis import assume, given, settings, target
from hypothesis.errors import Flaky
from hypothesis.internal.conjecture.providers import HypothesisProvider

from ..errors import CertificateInvalid, MoaproofError, NotCovered
from ..runtime.attention import Call
from ..runtime.attention import run as run_kernel
from ..term import canonical
from . import profiles
from .environment import described, identity
from .jobs import SIZE, Batch, Event, Failure, Outcome, Plan, Watch, cores, line_of, processes
from .ledger import Ledger
from .report import SCHEMA, Comparison, Family, Report, Spread
from .store import again, case_document, case_of, failure_of, store, writable, write
from .strategies import Case, Inputs, cases, expand, sanitised, seen, touched
from .trial import Result, attempt

__all__ = ["Failed", "Report", "again", "compared", "explore", "run", "run_batch", "store"]

Say = Callable[[str], None]
OUTSIDE: Final = "error bound"  # how the refusal of a case begins of which the bound says nothing
MOST: Final = 10**6  # of observed/bound, as Hypothesis is told: it needs a finite number


class Failed(AssertionError):
    """A case is refuted: the message says which, and how far off it is."""

    def __init__(self, case: Case, result: Result):
        super().__init__(f"{family(result.call)}: {result.reason()}\n{case}")
        self.case, self.result = case, result


def family(call: Call) -> str:
    return f"{call.certificate}/{call.dtype}"


# --- cases ----------------------------------------------------------------------------------------


def explore(
    report: Report,
    options: settings,
    start: int | None = None,
    runner: Callable[..., Any] = run_kernel,
    batch: int = 0,
    **drawn: Any,
) -> None:
    """Draw cases and judge them; the smallest refuted one is raised as ``Failed``.  ``drawn`` narrows ``cases``.

    The report has the cases up to the first refuted one, and not those of the search for a smaller one.
    """
    failed: list[Failed] = []

    @options
    @given(cases(**drawn))
    def holds(case: Case) -> None:
        x = expand(case)
        try:
            result = attempt(x, case.tq, case.tk, runner)
        except NotCovered as e:
            if not str(e).startswith(OUTSIDE):
                raise
            report.outside += not failed
            assume(False)
        else:
            if not failed:
                _count(report, case, x, result, batch)
            target(min(result.worst.verdict.ratio, MOST), label="observed/bound")
            if not result.accepted:
                failed.append(Failed(case, result))
                raise failed[-1]

    with _no_constants():
        try:
            (holds if start is None else hypothesis.seed(start)(holds))()
        except Flaky:  # it failed once and not again: what does not repeat is refuted all the more
            if not failed:
                raise
            raise failed[0] from None


@contextmanager
def _no_constants() -> Iterator[None]:
    """Within, cases are drawn by the seed alone.

    Hypothesis also draws numbers that stand in the source of whatever modules are loaded, and those differ between a
    worker and its parent.  It has no setting for that.
    """
    before = HypothesisProvider._maybe_draw_constant  # noqa: SLF001
    HypothesisProvider._maybe_draw_constant = lambda *_, **__: None  # type: ignore[method-assign]  # noqa: SLF001
    try:
        yield
    finally:
        HypothesisProvider._maybe_draw_constant = before  # type: ignore[method-assign]  # noqa: SLF001


def _count(report: Report, case: Case, x: Inputs, result: Result, batch: int) -> None:
    one = Family(cases=1, against=compared(x, result))
    for judged in result.judged if result.found.size else ():
        one.oracles[judged.oracle] = Spread()
        one.oracles[judged.oracle].add(judged.ratios, case.to_json(), batch)
    regimes = {case.regime: (1, result.worst.verdict.ratio)}
    report.merge(Report(1, result.found.size, 0, {family(result.call): one}, regimes))


# --- beside plain PyTorch ---------------------------------------------------------------------------


def compared(x: Inputs, result: Result) -> Comparison:
    """Our error and that of plain PyTorch in the same dtype, by row, in units of u max|v| over its visible keys.

    Against the last oracle: the midpoint of the enclosure, which is itself rounded to float64 (half a unit of float64),
    or PyTorch float64 where python-flint is missing.  Where the visible |v| are all subnormal the unit is that of the
    smallest normal number.
    """
    due = result.judged[-1].due
    rows = due.shape[0] * due.shape[1] * due.shape[2] if due.size else 0
    if not rows:
        return Comparison()
    see = seen(x)
    if x.causal and x.scale is not None and x.scale <= 0 and not see.all():
        return Comparison(excluded=rows)
    clean = replace(sanitised(x), scale=float(result.call.inputs["scale"]))  # as the kernel gets it, rounded
    plain = _plain(clean).to(torch.float64).numpy()
    group = see.shape[1] // x.k.shape[1]
    v = np.repeat(np.abs(clean.v.to(torch.float64).numpy()).max(axis=-1, initial=0.0), group, axis=1)  # (b, h, m)
    V = np.where(see, v[:, :, None, :], 0.0).max(axis=-1, initial=0.0)  # (b, h, n)
    claimed = np.isfinite(due).all(axis=-1) & ~touched(x).any(axis=-1) & np.isfinite(result.found).all(axis=-1)
    finite = np.isfinite(plain).all(axis=-1)
    info = np.finfo(result.call.dtype)
    keep = claimed & finite
    unit = np.maximum(V, float(info.tiny))[keep]
    u = float(info.eps) / 2
    errors = [(np.abs(y[keep] - due[keep]).max(axis=-1) / unit / u).max(initial=0.0) for y in (result.found, plain)]
    return Comparison(int(keep.sum()), float(errors[0]), float(errors[1]), 0, int((claimed & ~finite).sum()))


def _plain(x: Inputs) -> torch.Tensor:
    """PyTorch's own function, in the dtype of the case."""
    with torch.no_grad():
        return torch.nn.functional.scaled_dot_product_attention(
            x.q, x.k, x.v, attn_mask=x.mask, is_causal=x.causal, scale=x.scale,
            enable_gqa=x.q.shape[1] != x.k.shape[1],
        )  # fmt: skip


# --- batches --------------------------------------------------------------------------------------


def run_batch(plan: Plan, batch: Batch, runner: Callable[..., Any] = run_kernel) -> Outcome:
    """Run a batch: its line of the ledger and its failure, which depend on the plan and the batch alone.

    Raises a ``MoaproofError`` that is no verdict on a case: a kernel that is not what was checked, say.
    """
    report, errors, failures = Report(), list[dict[str, Any]](), list[Failure]()
    options = profiles.profile(plan.profile, batch.examples)  # a seed overrides derandomize, and leaves no database
    try:
        explore(report, options, plan.seed_of(batch.number), runner, batch.number, **dict(plan.drawn))
    except Failed as e:
        failures.append(failure_of(e.case, e.result))
        found = {
            "family": family(e.result.call),
            "failure": failures[0].name,
            "ratio": e.result.worst.verdict.ratio.hex(),
        }
        errors.append({"kind": "refuted", "reason": str(e), **found})
    except MoaproofError:
        raise
    except Exception as e:  # noqa: BLE001 - whatever a kernel or an oracle raises is a finding of this batch
        errors.append({"kind": "raised", "reason": f"{type(e).__name__}: {e}"})
    return Outcome(batch, line_of(plan, batch, report, errors), tuple(failures), identity())


def _here(plan: Plan, batches: Iterator[Batch], watch: Watch, runner: Callable[..., Any]) -> Iterator[Outcome]:
    """One batch after the other, in this process."""
    for batch in batches:
        watch(Event("handed", "here", batch))
        yield replace(run_batch(plan, batch, runner), worker="here")


def _batches(plan: Plan, total: int | None, done: Mapping[int, Any], deadline: float | None) -> Iterator[Batch]:
    """Those that are not done, up to ``total`` cases of the campaign, as long as there is time."""
    for number in count():
        examples = plan.size if total is None else min(plan.size, total - number * plan.size)
        if examples < 1:
            return
        if number in done:
            continue
        if deadline is not None and time.monotonic() >= deadline:
            return
        yield Batch(number, examples)


# --- a campaign -----------------------------------------------------------------------------------


def nobody(_: Event) -> None:
    """Who watches a campaign that shows nothing."""


@dataclass(slots=True)
class _Campaign:
    """Its plan, the lines so far by number of batch, and where they and failures are kept."""

    plan: Plan
    folder: Path
    ledger: Ledger | None
    say: Say
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def take(self, outcomes: Iterator[Outcome], watch: Watch = nobody) -> None:
        for o in outcomes:
            if o.identity not in {identity(), ""}:
                raise NotCovered(
                    f"worker {o.worker}: it has other versions or kernels than this machine; install the same there"
                )
            for failure in o.failures:
                self._keep(failure, o)
            if self.ledger is not None:
                self.ledger.add(o.line)
            self.lines[o.batch.number] = o.line
            watch(Event("done", o.worker, o.batch, o))

    def _keep(self, failure: Failure, o: Outcome) -> None:
        if failure.name in self.said:
            return
        self.said.add(failure.name)
        path = write(failure, self.folder)
        self.say(f"refuted: {o.line['errors'][0]['reason']}")
        self.say(f"stored: {path}; run it again with: moaproof fuzz --replay {path}")

    def report(self) -> Report:
        found = Report()
        for _, line in sorted(self.lines.items()):
            found.merge(Report.from_json(line))
        return found

    def errors(self) -> list[dict[str, Any]]:
        return [
            {"batch": n, "seed": line["seed"], **e} for n, line in sorted(self.lines.items()) for e in line["errors"]
        ]


def run(
    profile: str = "moaproof-default",
    max_examples: int | None = None,
    seed: int | None = None,
    replay: Path | None = None,
    out: Path | None = None,
    say: Say = print,
    *,
    seconds: float | None = None,
    jobs: int = 1,
    only: int | None = None,
    scheduler: str | None = None,
    size: int | None = None,
    drawn: Mapping[str, tuple[Any, ...]] | None = None,
    runner: Callable[..., Any] = run_kernel,
    watch: Watch = nobody,
) -> int:
    """``moaproof fuzz``: exit code 0 if every case was accepted, 1 if one was refuted or a batch crashed.

    ``out`` gets ledger.ndjson, report.json, the worst case of each family and the stored failures, and a campaign that
    was begun there goes on; None: the current folder, and only failures.  With a ``seed`` the same cases are drawn on
    every run, whatever ``jobs`` (worker processes; 1 is this process) or ``scheduler`` (the address of a Dask cluster)
    is.  ``seconds``: no batch begins later; the number of cases is then without limit unless ``max_examples`` gives
    one.  ``size``: cases of a batch.  ``only``: run this batch of the campaign, and nothing else.  ``replay``: the JSON
    file of a stored failure or case, and nothing else is run.  ``drawn`` narrows ``cases``; ``runner`` (for tests of
    the harness, in this process) replaces the kernel.
    """
    if replay is not None:
        return again(replay, say)
    options = profiles.profile(profile, max_examples)
    _check(seconds, jobs, only, scheduler, seed if out is None else 0)
    total = None if seconds is not None and max_examples is None else options.max_examples
    folder = out or Path()
    writable(folder)
    if out is None:
        plan = _plan(profile, seed, size or min(SIZE, total or SIZE), drawn, None)
        return _run(_Campaign(plan, folder, None, say), total, seconds, jobs, only, scheduler, runner, watch)
    with Ledger(folder, say) as ledger:
        plan = _plan(profile, seed, size or min(SIZE, total or SIZE), drawn, ledger)
        ledger.begin(_header(plan))
        campaign = _Campaign(plan, folder, ledger, say, dict(ledger.batches))
        return _run(campaign, total, seconds, jobs, only, scheduler, runner, watch)


def _check(seconds: float | None, jobs: int, only: int | None, scheduler: str | None, seed: int | None) -> None:
    if seconds is not None and not 0 < seconds < float("inf"):
        raise NotCovered(f"--time: a time above 0 is due, not {seconds}")
    if not 1 <= jobs <= 4 * cores():
        raise NotCovered(f"--jobs: 1 to {4 * cores()} on {cores()} cores, not {jobs}")
    if scheduler is not None and jobs != 1:
        raise NotCovered("--jobs: a Dask cluster has its own workers; leave it out with --engine dask")
    if only is not None and only < 0:
        raise NotCovered(f"--batch: batches are counted from 0, not {only}")
    if only is not None and seed is None:
        raise NotCovered("--batch: of which campaign? give its --seed, or its folder with -o")


def _plan(
    profile: str, seed: int | None, size: int, drawn: Mapping[str, tuple[Any, ...]] | None, ledger: Ledger | None
) -> Plan:
    """The plan as given, and where nothing is given, that of the ledger."""
    began = ledger.header if ledger is not None and ledger.header is not None else {}
    name = profile if profile.startswith("moaproof-") else f"moaproof-{profile}"
    chosen = began.get("seed") if seed is None else seed
    if chosen is None:
        chosen = 0 if name == "moaproof-quick" else secrets.randbits(31)
    size = began.get("size", size)
    if type(chosen) is not int or type(size) is not int or size < 1:
        raise CertificateInvalid(f"{ledger.path if ledger else ''}: line 1: no seed, or no size of a batch")
    return Plan(name, chosen, size, tuple(sorted((drawn or {}).items())))


def _header(plan: Plan) -> dict[str, Any]:
    drawn = {name: list(values) for name, values in plan.drawn}
    asked = {"profile": plan.profile, "seed": plan.seed, "size": plan.size, "drawn": drawn}
    return {"schema": SCHEMA, "kind": "campaign", **asked, **described()}


def _run(
    c: _Campaign,
    total: int | None,
    seconds: float | None,
    jobs: int,
    only: int | None,
    scheduler: str | None,
    runner: Callable[..., Any],
    watch: Watch,
) -> int:
    if only is not None:
        return _one(c, only, runner)
    c.say(f"campaign: seed {c.plan.seed}, {c.plan.profile}, batches of {c.plan.size} cases; {_oracles()}")
    if c.lines:
        c.say(f"goes on after {len(c.lines)} batches in {c.ledger.path if c.ledger else c.folder}")
    deadline = None if seconds is None else time.monotonic() + seconds
    batches = _batches(c.plan, total, dict(c.lines), deadline)
    try:
        if scheduler is not None:
            from .cluster import spread

            c.take(spread(c.plan, batches, scheduler, watch), watch)
        elif jobs > 1:
            c.take(processes(c.plan, batches, jobs, watch), watch)
        else:
            c.take(_here(c.plan, batches, watch, runner), watch)
    except KeyboardInterrupt:
        if c.ledger is not None:  # it may have come between a line and its note
            c.lines = dict(c.ledger.reread(c.say))
        c.say(f"interrupted after {len(c.lines)} batches{'' if c.ledger is None else '; the same command goes on'}")
        _finish(c)
        raise
    return _finish(c)


def _oracles() -> str:
    found = described()["oracles"]
    flint = found["python-flint"]
    if flint == "missing":
        return (
            f"judged by PyTorch float64 {found['PyTorch float64']} alone (pip install 'moaproof[flint]' for enclosures)"
        )
    return f"judged by PyTorch float64 {found['PyTorch float64']} and enclosures of python-flint {flint}"


def _one(c: _Campaign, number: int, runner: Callable[..., Any]) -> int:
    """One batch again, alone: is it what the ledger says?"""
    before = c.lines.get(number)
    batch = Batch(number, c.plan.size if before is None else int(before["asked"]))
    again_ = run_batch(c.plan, batch, runner)
    alone = _Campaign(c.plan, c.folder, None, c.say)
    alone.take(iter((again_,)))
    for line in alone.report().lines():
        c.say(line)
    if before is not None:
        same = before == again_.line
        c.say(f"batch {number}: {'the same' if same else 'other'} counts than in the ledger")
        return 0 if same and not again_.line["errors"] else 1
    return 1 if again_.line["errors"] else 0


def _finish(c: _Campaign) -> int:
    """Say what was found, and write it beside the ledger."""
    report, errors = c.report(), c.errors()
    for line in report.lines()[:-1]:
        c.say(line)
    if c.ledger is not None and (files := _worst_cases(c.folder, report)):
        c.say(f"the worst case of each family is kept: moaproof fuzz --replay {files[0]}, and {len(files) - 1} more")
    for e in errors:
        if e["kind"] != "refuted":
            c.say(f"batch {e['batch']} (seed {e['seed']}) {e['kind']}: {e['reason']}")
        elif e["failure"] not in c.said:  # of an earlier start
            c.said.add(e["failure"])
            c.say(f"refuted before: {e['reason']}; moaproof fuzz --replay {c.folder / e['failure']}.json")
    if c.ledger is not None:
        document = {**_header(c.plan), "kind": "report", "batches": len(c.lines), **report.to_json(), "errors": errors}
        (c.folder / "report.json").write_bytes(canonical(document) + b"\n")
    c.say(report.lines()[-1])
    return 1 if errors else 0


def _worst_cases(folder: Path, report: Report) -> list[Path]:
    """The worst case of each family, in a file that --replay runs."""
    files = []
    for name, found in sorted(report.families.items()):
        oracle, spread = max(found.oracles.items(), key=lambda item: item[1].worst)
        if spread.case is None:
            continue
        certificate, _, dtype = name.partition("/")
        why = f"worst of {found.cases} cases: observed/bound {spread.worst:.3g} by {oracle}, batch {spread.batch}"
        document = case_document(case_of(spread.case, "ledger"), why, {"certificate": certificate, "dtype": dtype})
        files.append(folder / f"worst-{certificate}-{dtype}.json")
        files[-1].write_bytes(canonical(document) + b"\n")
    return files
