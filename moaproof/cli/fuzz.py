"""``moaproof fuzz``: certified kernels against PyTorch in float64 and against enclosures of the exact value."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import BackendMissing, NotCovered

if TYPE_CHECKING:
    from ..testing.jobs import Event, Watch

UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def fuzz(
    profile: Annotated[str, typer.Option(help="quick, default, nightly or repro.")] = "default",
    max_examples: Annotated[int | None, typer.Option(min=1, help="Cases to draw. Default: the profile's.")] = None,
    time_: Annotated[str | None, typer.Option("--time", help="Begin no batch after this: 90s, 10m, 1h30m.")] = None,
    jobs: Annotated[int, typer.Option(help="Worker processes, which share the cores. 1: this process.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Draw the same cases on every run, whatever --jobs is.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for ledger, report and failures; goes on if begun there.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Run this batch again alone (with --seed or -o).")] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Run this stored failure or case again, and nothing else.")
    ] = None,
    promote: Annotated[Path | None, typer.Option(help="Make this stored failure a regression file.")] = None,
    to: Annotated[Path, typer.Option(help="Folder for --promote.")] = Path("tests/regressions"),
    engine: Annotated[str, typer.Option(help="processes, or dask: an existing cluster.")] = "processes",
    scheduler: Annotated[str | None, typer.Option(help="Address of the Dask scheduler: tcp://HOST:8786.")] = None,
    bits: Annotated[bool, typer.Option("--bits", help="Count bits that are equal to those of other programs.")] = False,
) -> None:
    """Draw attention calls, run the certified kernel of each, and judge every element by its bound and two oracles.

    Exit code: 1 if a case is refuted or a batch crashed; a failure is shrunk, stored, and --replay runs it again.
    After Ctrl-C (130) or a crash the same command with the same -o goes on.
    """
    chosen = [name for name, x in (("--replay", replay), ("--promote", promote), ("--bits", bits or None)) if x]
    if len(chosen) > 1:
        raise NotCovered(f"fuzz: {' and '.join(chosen)}: one of them at a time")
    seconds = None if time_ is None else _seconds(time_)
    if engine not in {"processes", "dask"}:
        raise NotCovered(f"--engine: processes or dask, not {engine}")
    if (engine == "dask") != (scheduler is not None):
        raise NotCovered("--engine dask and --scheduler ADDRESS belong together")
    try:
        from ..testing import campaign, store
    except ImportError as e:
        raise BackendMissing(
            f"fuzz: {e.name or e} is not installed; pip install torch numba numpy hypothesis"
        ) from None
    if promote is not None:
        store.promote(promote, to, typer.echo)
        return
    if bits:
        from ..testing import bits as table

        raise typer.Exit(table.run(out, typer.echo))
    options: dict[str, Any] = {"seconds": seconds, "jobs": jobs, "only": batch, "scheduler": scheduler}
    with _meter(shown=sys.stderr.isatty() and replay is None) as (say, watch):
        code = campaign.run(profile, max_examples, seed, replay, out, say, watch=watch, **options)
    raise typer.Exit(code)


def _seconds(text: str) -> float:
    """90s, 10m, 1h30m; a number alone is seconds."""
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    parts = re.fullmatch(r"(?=.)(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", text)
    if parts is None:
        raise NotCovered(f"--time: {text!r}: such as 90s, 10m or 1h30m is due")
    return float(sum(int(n) * UNITS[unit] for n, unit in zip(parts.groups(), "hms", strict=True) if n))


# --- what a terminal shows --------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """A worker: the batch that it has, and what it has done."""

    batch: int | None = None
    batches: int = 0
    cases: int = 0
    worst: float = 0.0


@dataclass(slots=True)
class Meter:
    """Cases, rate and the worst observed/bound so far, by worker."""

    began: float = field(default_factory=time.monotonic)
    rows: dict[str, _Row] = field(default_factory=dict)

    def see(self, event: Event) -> None:
        row = self.rows.setdefault(event.worker, _Row())
        if event.kind == "handed":
            row.batch = event.batch.number
            return
        row.batch = None
        if event.outcome is not None:
            line = event.outcome.line
            spreads = [s for f in line["families"].values() for s in f["oracles"]]
            row.batches, row.cases = row.batches + 1, row.cases + line["cases"]
            row.worst = max(row.worst, *(float.fromhex(s["worst"]) for s in spreads), 0.0)

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table

        cases = sum(row.cases for row in self.rows.values())
        worst = max((row.worst for row in self.rows.values()), default=0.0)
        spent = time.monotonic() - self.began
        table = Table()
        for head in ("worker", "batch", "batches", "cases", "worst"):
            table.add_column(head, justify="left" if head == "worker" else "right")
        for name, row in sorted(self.rows.items()):
            now = "" if row.batch is None else str(row.batch)
            table.add_row(name, now, str(row.batches), str(row.cases), f"{row.worst:.3f}")
        return Group(f"{cases} cases, {cases / max(spent, 1):.1f} a second, worst observed/bound {worst:.3f}", table)


@contextmanager
def _meter(shown: bool) -> Iterator[tuple[Callable[[str], None], Watch]]:
    """How to say a line and how to watch: a meter on stderr as long as batches run, and nothing where nobody looks."""
    if not shown:
        yield typer.echo, lambda _: None
        return
    from rich.console import Console
    from rich.live import Live

    meter = Meter()
    live = Live(meter, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)

    def say(line: str) -> None:
        live.stop()  # what is said stays, whole lines of it; the meter comes back with the next batch
        typer.echo(line)

    def watch(event: Event) -> None:
        meter.see(event)
        live.start()

    try:
        yield say, watch
    finally:
        live.stop()
