"""Batches of a campaign, and worker processes that run them.

A *batch* is a seed and a number of cases, and its outcome depends on nothing else, so that any batch can be run again
alone.  Campaign S owns the seeds S * 2^32 to (S + 1) * 2^32 - 1: batch i has seed S * 2^32 + i.

Workers are fresh interpreters (spawn: a fork would copy threads of PyTorch and of Numba in whatever state they are) and
share the cores: each has cores // jobs threads.  Ctrl-C reaches the parent alone.  A worker that dies loses nothing:
its batch is handed out again, and after three workers died of it it counts as crashed.

Importing this module loads neither torch nor numba: a worker has its number of threads before they look for it.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, resource_tracker
from typing import Any, Final, TypeAlias

from ..errors import MoaproofError
from .report import SCHEMA, Report

SIZE: Final = 100  # cases of a batch
SEEDS: Final = 2**32  # of a campaign
TRIES: Final = 3
THREADS: Final = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a batch needs beside its number: the same on every worker.  ``drawn`` narrows ``strategies.cases``."""

    profile: str
    seed: int
    size: int = SIZE
    drawn: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def seed_of(self, batch: int) -> int:
        return self.seed * SEEDS + batch


@dataclass(frozen=True, slots=True)
class Batch:
    """``number`` counts the batches of a campaign from 0."""

    number: int
    examples: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A stored failure before it is on disk: a name without ending, its JSON file and its arrays (npz)."""

    name: str
    text: bytes
    arrays: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished batch: its line of the ledger, what is to be stored, and where it ran.

    ``identity`` is the digest of the versions and kernels that it ran with; a crashed batch has none.
    """

    batch: Batch
    line: dict[str, Any]
    failures: tuple[Failure, ...] = ()
    identity: str = ""
    worker: str = ""
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    """On the way a batch is ``handed`` to a worker, the worker may be ``lost``, and the batch is kept: ``done``."""

    kind: str
    worker: str
    batch: Batch
    outcome: Outcome | None = None


Watch: TypeAlias = Callable[[Event], None]


def line_of(plan: Plan, batch: Batch, report: Report, errors: list[dict[str, Any]]) -> dict[str, Any]:
    """The line of the ledger for a batch."""
    place = {"batch": batch.number, "seed": plan.seed_of(batch.number), "asked": batch.examples}
    return {"schema": SCHEMA, "kind": "batch", **place, **report.to_json(), "errors": errors}


def crashed(plan: Plan, batch: Batch, how: str, tries: int = TRIES) -> Outcome:
    """A batch that no worker survived: a failure of the campaign, with the seed to run it again."""
    return Outcome(batch, line_of(plan, batch, Report(), [{"kind": "crashed", "reason": how}]), tries=tries)


# --- worker processes -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Worker:
    """A process, this end of its pipe, and the batch it has."""

    process: Any
    pipe: connection.Connection
    batch: Batch | None = None
    tries: int = 0

    @property
    def name(self) -> str:
        return str(self.process.pid)

    def end(self) -> int | None:
        """Its exit code.  It holds nothing that another has not, so it is killed if it lives."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        code: int | None = self.process.exitcode
        return code


@dataclass(slots=True)
class _Pool:
    plan: Plan
    jobs: int
    watch: Watch
    spare: list[_Worker] = field(default_factory=list)
    busy: list[_Worker] = field(default_factory=list)
    again: deque[tuple[Batch, int]] = field(default_factory=deque)

    def run(self, batches: Iterator[Batch]) -> Iterator[Outcome]:
        done: list[Outcome] = []
        while True:
            while len(self.busy) < self.jobs and (task := self._next(batches)):
                self._hand(*task)
            yield from done  # while the next batches are already on their way
            if not self.busy:
                return
            ready = connection.wait([w.pipe for w in self.busy])
            done = [o for w in list(self.busy) if w.pipe in ready and (o := self._collect(w))]

    def close(self) -> None:
        for worker in (*self.spare, *self.busy):
            worker.end()

    def _next(self, batches: Iterator[Batch]) -> tuple[Batch, int] | None:
        if self.again:
            return self.again.popleft()
        batch = next(batches, None)
        return None if batch is None else (batch, 1)

    def _hand(self, batch: Batch, tries: int) -> None:
        worker = self.spare.pop() if self.spare else _started(self.plan, self.jobs)
        worker.batch, worker.tries = batch, tries
        self.busy.append(worker)
        with suppress(OSError):  # it died idle: seen when its answer is awaited
            worker.pipe.send(batch)
        self.watch(Event("handed", worker.name, batch))

    def _collect(self, worker: _Worker) -> Outcome | None:
        self.busy.remove(worker)
        batch = worker.batch
        if batch is None:
            raise AssertionError("a worker without a batch is not busy")
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lost(worker, batch)
        self.spare.append(worker)
        if isinstance(answer, MoaproofError):
            raise answer
        line, failures, identity = answer
        return Outcome(batch, line, failures, identity, worker.name, worker.tries)

    def _lost(self, worker: _Worker, batch: Batch) -> Outcome | None:
        worker.process.join(1)  # its pipe is closed: it has ended, and its own exit code says more than ours
        code = worker.end()
        self.watch(Event("lost", worker.name, batch))
        if worker.tries < TRIES:
            self.again.append((batch, worker.tries + 1))
            return None
        return crashed(self.plan, batch, f"{TRIES} workers died of it, the last with exit code {code}")


def processes(plan: Plan, batches: Iterator[Batch], jobs: int, watch: Watch) -> Iterator[Outcome]:
    """Run the batches on ``jobs`` worker processes; the outcomes come as they are ready.

    Raises what a worker raised if it is a ``MoaproofError``: then something is wrong that no other batch would mend.
    """
    pool = _Pool(plan, jobs, watch)
    try:
        yield from pool.run(batches)
    finally:
        pool.close()


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _started(plan: Plan, jobs: int) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, plan), daemon=True)
    resource_tracker.ensure_running()  # it unblocks signals, so not within
    with _few_threads(max(1, cores() // jobs)), _without_interrupts():
        process.start()
    theirs.close()  # else the end of the worker would not be seen
    return _Worker(process, ours)


@contextmanager
def _few_threads(count: int) -> Iterator[None]:
    """What is started within has that many threads, or fewer if the environment says so."""
    before = {name: os.environ.get(name) for name in THREADS}
    try:
        for name, value in before.items():
            fewer = value is not None and value.isdecimal() and 0 < int(value) < count
            os.environ[name] = str(value) if fewer else str(count)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started within never sees Ctrl-C, which a terminal sends to parent and children alike."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: connection.Connection, plan: Plan) -> None:
    """A worker: a batch in, its outcome (or an error of ours) out, until the pipe is closed."""
    from .campaign import run_batch

    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            batch = pipe.recv()
            try:
                o = run_batch(plan, batch)
            except MoaproofError as e:
                pipe.send(e)
            else:
                pipe.send((o.line, o.failures, o.identity))
