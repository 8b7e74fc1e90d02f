"""Batches of a campaign on an existing Dask cluster: the extra ``cluster``.

The same batches as worker processes run, with the same outcomes.  A worker takes one batch at a time (ball arithmetic
keeps its precision in one place for all threads).  When a worker dies the scheduler hands its batches to another, and
gives one up that killed as many as it allows (``distributed.scheduler.allowed-failures``, 3 unless it is set).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from ..errors import BackendMissing, MoaproofError
from .jobs import Batch, Event, Outcome, Plan, Watch, crashed

TIMEOUT: Final = 10  # seconds until a scheduler that does not answer is given up
AHEAD: Final = 2  # batches on their way for each thread of the cluster

_ONE_AT_A_TIME = threading.Lock()


def spread(plan: Plan, batches: Iterator[Batch], address: str, watch: Watch) -> Iterator[Outcome]:
    """Connect, then run the batches; the outcomes come as they are ready, each batch once.

    Raises ``BackendMissing`` if Dask, the scheduler, its workers, or moaproof on them are missing.
    """
    client = _connected(address)
    try:
        threads = sum(client.nthreads().values())
        if not threads:
            raise BackendMissing(f"--scheduler {address}: the cluster has no worker; start one with `dask worker`")
    except BaseException:
        client.close()
        raise
    return _spread(client, plan, batches, AHEAD * threads, watch)


def _connected(address: str) -> Any:
    try:
        return _distributed().Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TypeError) as e:
        said = str(e).partition("\n")[0]
        raise BackendMissing(f"--scheduler {address}: no Dask scheduler answers there ({said})") from None


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise BackendMissing("fuzz: --engine dask needs dask.distributed: pip install 'moaproof[cluster]'") from None
    return distributed


def _spread(client: Any, plan: Plan, batches: Iterator[Batch], most: int, watch: Watch) -> Iterator[Outcome]:
    running: dict[Any, Batch] = {}
    finished = _distributed().as_completed(loop=client.loop)

    def submit() -> None:
        batch = next(batches, None)
        if batch is not None:
            future = client.submit(_on_worker, plan, batch, pure=False)
            running[future] = batch
            finished.add(future)
            watch(Event("handed", "the cluster", batch))

    try:
        for _ in range(most):
            submit()
        for future in finished:
            outcome = _outcome(plan, running.pop(future), future)
            submit()
            yield outcome
    finally:
        client.cancel(list(running))
        client.close()


def _outcome(plan: Plan, batch: Batch, future: Any) -> Outcome:
    e = future.exception()
    if e is None:
        outcome: Outcome = future.result()
        return outcome
    if isinstance(e, _distributed().KilledWorker):
        return crashed(plan, batch, f"the workers died of it that the scheduler allows: {e}", tries=0)
    if isinstance(e, MoaproofError):
        raise e
    raise BackendMissing(
        f"a worker of the cluster could not run a batch ({type(e).__name__}: {e}); install the same moaproof there"
    )


def _on_worker(plan: Plan, batch: Batch) -> Outcome:
    """Runs on a worker of the cluster."""
    from .campaign import run_batch

    with _ONE_AT_A_TIME:
        return replace(run_batch(plan, batch), worker=str(_distributed().get_worker().address))
