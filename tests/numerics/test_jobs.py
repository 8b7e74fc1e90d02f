"""Campaigns by many: batches, worker processes, the ledger, going on, a Dask cluster."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from moaproof.cli.app import app
from moaproof.cli.fuzz import Meter
from moaproof.errors import BackendMissing, CertificateInvalid, DigestMismatch, NotCovered
from moaproof.testing import campaign, cluster, environment, jobs
from moaproof.testing.jobs import Batch, Event, Outcome, Plan, processes
from moaproof.testing.ledger import Ledger

ONE_KERNEL: dict[str, tuple[Any, ...]] = {
    "kinds": ("plain",), "dtypes": ("float64",), "groups": (1,), "specials": ("none",), "queries": (3, 1, 7, 16),
}  # fmt: skip
PLAN = Plan("moaproof-quick", 11, 6, tuple(sorted(ONE_KERNEL.items())))
SIX = [Batch(i, 6) for i in range(6)]


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def alone() -> dict[int, dict[str, Any]]:
    """The lines of six batches, each run alone in this process."""
    return {b.number: campaign.run_batch(PLAN, b).line for b in SIX}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.ndjson").read_bytes().splitlines()]


# --- worker processes -------------------------------------------------------------------------------


class Killer:
    """Kills a worker that is at work, once, when the first batch is done."""

    def __init__(self) -> None:
        self.busy: dict[int, str] = {}
        self.killed: list[tuple[int, str]] = []
        self.seen: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.seen.append(event)
        if event.kind == "handed":
            self.busy[event.batch.number] = event.worker
        else:
            self.busy.pop(event.batch.number)
        if event.kind == "done" and not self.killed:
            batch, worker = min(self.busy.items())
            self.killed.append((batch, worker))
            os.kill(int(worker), signal.SIGKILL)


def test_two_workers_of_which_one_is_killed_find_what_one_finds(
    tmp_path: Path, alone: dict[int, dict[str, Any]]
) -> None:
    killer = Killer()
    code = campaign.run(
        "quick", 36, 11, out=tmp_path, jobs=2, drawn=ONE_KERNEL, say=quiet, watch=killer, size=6,
    )  # fmt: skip
    assert code == 0
    header, *found = lines(tmp_path)
    assert {line["batch"]: line for line in found} == alone
    assert len(found) == 6  # each batch once
    (lost,) = [e for e in killer.seen if e.kind == "lost"]
    assert (lost.batch.number, lost.worker) == killer.killed[0]
    (done,) = [e.outcome for e in killer.seen if e.kind == "done" and e.batch == lost.batch]
    assert done is not None
    assert done.tries == 2
    assert len({e.worker for e in killer.seen}) == 3  # two, and one in the place of the killed
    assert header["kernels"]["attention-online/float64"] == environment.kernels()["attention-online/float64"]


def test_a_batch_that_kills_its_workers_is_reported_with_its_seed(tmp_path: Path) -> None:
    killed: list[str] = []

    def kill(event: Event) -> None:
        if event.kind == "handed":
            killed.append(event.worker)
            os.kill(int(event.worker), signal.SIGKILL)

    (outcome,) = processes(PLAN, iter(SIX[:1]), 1, kill)
    assert len(set(killed)) == 3
    (error,) = outcome.line["errors"]
    assert error == {"kind": "crashed", "reason": "3 workers died of it, the last with exit code -9"}
    assert outcome.line["seed"] == 11 * 2**32
    assert outcome.line["cases"] == 0
    said: list[str] = []
    with Ledger(tmp_path) as ledger:
        ledger.begin(campaign._header(PLAN))
        c = campaign._Campaign(PLAN, tmp_path, ledger, said.append)
        c.take(iter((outcome,)))
        assert campaign._finish(c) == 1
    assert f"batch 0 (seed {11 * 2**32}) crashed: 3 workers died" in "\n".join(said)


def test_what_is_wrong_with_every_batch_ends_the_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours crosses from the worker with its class: the exit code hangs on it."""
    bad = Plan("moaproof-quick", 0, 1, (("kinds", ("plain",)), ("dtypes", ("float16",))))
    with pytest.raises(NotCovered, match=r"dtype|float16"):
        list(processes(bad, iter(SIX[:1]), 1, campaign.nobody))

    def refuse(*_: Any) -> Outcome:
        raise DigestMismatch("a kernel has changed")

    monkeypatch.setattr(campaign, "run_batch", refuse)
    with pytest.raises(DigestMismatch):
        campaign.run("quick", say=quiet)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with jobs._few_threads(3):
        assert os.environ["NUMBA_NUM_THREADS"] == "3"
        assert os.environ["OMP_NUM_THREADS"] == "1"  # fewer were asked for
    assert dict(os.environ) == before


# --- batches ----------------------------------------------------------------------------------------


def test_campaigns_have_seeds_of_their_own() -> None:
    assert PLAN.seed_of(0) == 11 * 2**32
    assert PLAN.seed_of(2**32 - 1) + 1 == Plan("quick", 12).seed_of(0)


def test_batches_make_up_the_number_of_cases() -> None:
    found = list(campaign._batches(PLAN, 22, {1: {}}, None))
    assert found == [Batch(0, 6), Batch(2, 6), Batch(3, 4)]


def test_no_batch_begins_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(campaign.time, "monotonic", lambda: next(clock))
    assert len(list(campaign._batches(PLAN, None, {}, 3.0))) == 3


def test_a_batch_is_run_again_alone_and_held_against_the_ledger(
    tmp_path: Path, alone: dict[int, dict[str, Any]]
) -> None:
    for i, tamper in ((2, False), (3, True)):
        folder = tmp_path / str(i)
        folder.mkdir()
        with Ledger(folder) as ledger:
            ledger.begin(campaign._header(PLAN))
            line = alone[i] | ({"elements": alone[i]["elements"] + 1} if tamper else {})
            ledger.add(line)
        said: list[str] = []
        code = campaign.run("quick", out=folder, only=i, drawn=ONE_KERNEL, say=said.append)
        assert code == int(tamper)
        assert said[-1] == f"batch {i}: {'other' if tamper else 'the same'} counts than in the ledger"


# --- the ledger -------------------------------------------------------------------------------------


def begun(folder: Path, alone: dict[int, dict[str, Any]], batches: tuple[int, ...] = (0, 1)) -> Path:
    with Ledger(folder) as ledger:
        ledger.begin(campaign._header(PLAN))
        for i in batches:
            ledger.add(alone[i])
    return folder / "ledger.ndjson"


def test_a_campaign_goes_on_where_it_was(tmp_path: Path, alone: dict[int, dict[str, Any]]) -> None:
    begun(tmp_path, alone, (0, 2, 3, 4))
    said: list[str] = []
    handed: list[int] = []

    def watch(event: Event) -> None:
        if event.kind == "handed":
            handed.append(event.batch.number)

    assert campaign.run("quick", 36, out=tmp_path, drawn=ONE_KERNEL, say=said.append, watch=watch) == 0
    assert handed == [1, 5]
    assert {line["batch"]: line for line in lines(tmp_path)[1:]} == alone
    assert any("goes on after 4 batches" in line for line in said)
    assert said[-1].startswith("36 cases")
    handed.clear()
    assert campaign.run("quick", 36, out=tmp_path, drawn=ONE_KERNEL, say=quiet, watch=watch) == 0
    assert handed == []


def test_a_torn_line_is_dropped_and_its_batch_run_again(tmp_path: Path, alone: dict[int, dict[str, Any]]) -> None:
    path = begun(tmp_path, alone)
    whole = path.read_bytes()
    for keep in (len(whole) - 1, len(whole) - 40, whole.rfind(b"\n", 0, -1) + 2):
        path.write_bytes(whole[:keep])
        said: list[str] = []
        with Ledger(tmp_path, said.append) as ledger:
            assert set(ledger.batches) == {0}
        assert "the last line is torn" in said[0]
        assert path.read_bytes() == whole[: whole.rfind(b"\n", 0, -1) + 1]
    path.write_bytes(whole[:20])  # of the first line: the campaign begins anew
    with Ledger(tmp_path, quiet) as ledger:
        assert ledger.header is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ls: [b"{", *ls[1:]], "line 1: not JSON"),
        (lambda ls: [b"[]", *ls[1:]], "line 1: a campaign of schema"),
        (lambda ls: ls[1:], "line 1: a campaign of schema"),
        (lambda ls: [ls[0].replace(b"fuzz/2", b"fuzz/1"), *ls[1:]], "line 1: a campaign of schema moaproof/fuzz/2"),
        (lambda ls: [ls[0], ls[0]], "line 2: a batch of schema"),
        (lambda ls: [*ls, ls[1]], "line 4: batch 0 is there twice"),
        (lambda ls: [ls[0], ls[1].replace(b'"histogram":{', b'"histogram":{"2^x":1,')], "line 2: not a batch"),
        (lambda ls: [ls[0], ls[1].replace(b'"cases"', b'"kases"')], "line 2: not a batch"),
        (lambda ls: [ls[0], b"\xff\xfe", ls[2]], "line 2: not JSON"),
    ],
    ids=["json", "list", "no header", "schema", "two headers", "twice", "histogram", "field", "bytes"],
)
def test_a_bad_ledger_is_refused_and_left_as_it_is(
    tmp_path: Path, alone: dict[int, dict[str, Any]], change: Any, message: str
) -> None:
    path = begun(tmp_path, alone)
    bad = b"\n".join(change(path.read_bytes().splitlines())) + b"\n" + b"torn"
    path.write_bytes(bad)
    with pytest.raises(CertificateInvalid, match=message):
        campaign.run("quick", out=tmp_path, drawn=ONE_KERNEL, say=quiet)
    assert path.read_bytes() == bad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 12}, "made with seed 11, now 12"),
        ({"profile": "moaproof-default"}, 'made with profile "moaproof-quick", now "moaproof-default"'),
        ({"drawn": {}}, "made with drawn"),
    ],
    ids=["seed", "profile", "drawn"],
)
def test_a_campaign_goes_on_only_as_it_began(
    tmp_path: Path, alone: dict[int, dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    path = begun(tmp_path, alone)
    before = path.read_bytes()
    asked = {"profile": "quick", "seed": None, "drawn": ONE_KERNEL} | change
    with pytest.raises(NotCovered, match=message):
        campaign.run(out=tmp_path, say=quiet, **asked)
    assert path.read_bytes() == before


def test_counts_of_two_kernels_are_not_added_up(
    tmp_path: Path, alone: dict[int, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, alone)
    changed = environment.kernels() | {"attention-online/float64": "0" * 64}
    monkeypatch.setattr(environment, "kernels", lambda: changed)
    with pytest.raises(NotCovered, match=r'made with kernels \{"attention-online/float64": "[0-9a-f]{64}"\}, now'):
        campaign.run("quick", out=tmp_path, drawn=ONE_KERNEL, say=quiet)


def test_a_worker_with_other_versions_is_refused(tmp_path: Path) -> None:
    other = campaign.run_batch(PLAN, Batch(0, 1))
    strange = Outcome(other.batch, other.line, (), "another", "tcp://1.2.3.4:5")
    with Ledger(tmp_path) as ledger:
        c = campaign._Campaign(PLAN, tmp_path, ledger, quiet)
        with pytest.raises(NotCovered, match=r"worker tcp://1\.2\.3\.4:5: it has other versions or kernels"):
            c.take(iter((strange,)))
        assert not ledger.batches


def test_two_campaigns_do_not_write_one_ledger(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(NotCovered, match="another campaign writes here"):
        Ledger(tmp_path)
    Ledger(tmp_path).close()


# --- the command ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time", "10"], None),
        (["--time", "ten"], "such as 90s, 10m or 1h30m is due"),
        (["--time", ""], "such as 90s"),
        (["--time", "0s"], "a time above 0 is due"),
        (["--jobs", "0"], "--jobs: 1 to"),
        (["--jobs", "100000"], "--jobs: 1 to"),
        (["--batch", "3"], "of which campaign"),
        (["--batch", "-3", "--seed", "1"], "batches are counted from 0"),
        (["--engine", "slurm"], "processes or dask, not slurm"),
        (["--engine", "dask"], "belong together"),
        (["--scheduler", "tcp://127.0.0.1:1"], "belong together"),
        (["--engine", "dask", "--scheduler", "tcp://127.0.0.1:1", "--jobs", "2"], "has its own workers"),
        (["--replay", "a", "--promote", "b"], "one of them at a time"),
        (["--bits", "--promote", "b"], "one of them at a time"),
    ],
)
def test_bad_options_are_refused_before_any_work(
    arguments: list[str], message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(campaign, "_run", lambda *_: ran.append(1) or 0)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["fuzz", *arguments])
    assert done.exit_code == (0 if message is None else 2)
    assert bool(ran) == (message is None)
    assert (message or "") in " ".join(done.output.split())


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2h5s", 7205), ("7", 7)])
def test_a_time_is_hours_minutes_and_seconds(
    text: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(campaign, "run", lambda *_, **options: given.update(options) or 0)
    assert CliRunner().invoke(app, ["fuzz", "--time", text]).exit_code == 0
    assert given["seconds"] == seconds


def test_the_command_promotes_and_counts_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = tmp_path / "case.json"
    case.write_text('{"schema": "moaproof/case/1", "case": {"n": 1}, "why": "one query"}')
    done = CliRunner().invoke(app, ["fuzz", "--promote", str(case), "--to", str(tmp_path / "to")])
    assert done.exit_code == 0, done.output
    (made,) = (tmp_path / "to").iterdir()
    assert json.loads(made.read_bytes())["case"]["n"] == 1
    done = CliRunner().invoke(app, ["fuzz", "--promote", str(tmp_path / "gone.json"), "--to", str(tmp_path / "to")])
    assert done.exit_code == 2
    given: list[Any] = []
    monkeypatch.setattr("moaproof.testing.bits.run", lambda *args: given.append(args) or 1)
    assert CliRunner().invoke(app, ["fuzz", "--bits", "-o", str(tmp_path)]).exit_code == 1
    assert given[0][0] == tmp_path


PROGRAM = """
import json
import sys
from pathlib import Path
from moaproof.testing import campaign

if __name__ == "__main__":
    def watch(event):
        if event.kind == "done":
            print("done", flush=True)
    drawn = {name: tuple(values) for name, values in json.loads(sys.argv[2]).items()}
    campaign.run("quick", None, 11, out=Path(sys.argv[1]), seconds=600.0, jobs=2, size=6, drawn=drawn, watch=watch)
"""


def test_ctrl_c_keeps_what_was_done(tmp_path: Path, alone: dict[int, dict[str, Any]]) -> None:
    """The interrupt goes to the whole group of processes, as a terminal sends it."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", "out", json.dumps(ONE_KERNEL)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as p:
        assert p.stdout is not None
        said = iter(p.stdout.readline, "")
        while next(said) != "done\n":
            pass
        os.killpg(p.pid, signal.SIGINT)
        rest, errors = p.communicate(timeout=60)
    assert p.returncode == -signal.SIGINT
    assert "the same command goes on" in rest
    assert errors.count("Traceback") == 1, errors  # of this program, which catches nothing; none of a worker
    found = lines(tmp_path / "out")[1:]
    assert found
    assert all(line == alone[line["batch"]] for line in found if line["batch"] in alone)
    assert json.loads((tmp_path / "out" / "report.json").read_bytes())["batches"] == len(found)


def test_the_meter_counts_by_worker() -> None:
    from rich.console import Console

    meter = Meter()
    outcome = campaign.run_batch(PLAN, Batch(0, 5))
    for event in (
        Event("handed", "71", Batch(0, 5)), Event("done", "71", Batch(0, 5), outcome),
        Event("handed", "71", Batch(8, 5)), Event("handed", "72", Batch(1, 5)), Event("lost", "72", Batch(1, 5)),
    ):  # fmt: skip
        meter.see(event)
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(meter)
    said = [line.replace("│", " ").replace("┃", " ").split() for line in console.export_text().splitlines()]
    worst = max(s.worst for f in campaign.Report.from_json(outcome.line).families.values() for s in f.oracles.values())
    assert ["71", "8", "1", "5", f"{worst:.3f}"] in said
    assert ["72", "0", "0", "0.000"] in said
    assert said[0][:2] == ["5", "cases,"]


# --- a Dask cluster ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as c:
        yield c


def test_a_cluster_of_which_a_worker_is_killed_loses_nothing(
    tmp_path: Path, alone: dict[int, dict[str, Any]], local: Any
) -> None:
    killed: list[tuple[int, list[str]]] = []

    def watch(event: Event) -> None:
        if event.kind == "done" and not killed:
            worker = next(w for w in list(local.scheduler.workers.values()) if w.processing)
            pid = local.workers[worker.name].process.process.pid
            killed.append((pid, [str(task.key) for task in worker.processing]))
            os.kill(pid, signal.SIGKILL)

    said: list[str] = []
    code = campaign.run(
        "quick", 36, 11, out=tmp_path, drawn=ONE_KERNEL, size=6, scheduler=local.scheduler_address,
        say=said.append, watch=watch,
    )  # fmt: skip
    assert code == 0
    assert killed[0][1]  # it had batches
    found = lines(tmp_path)[1:]
    assert len(found) == 6
    assert {line["batch"]: line for line in found} == alone
    assert said[-1].startswith("36 cases")


def test_an_error_of_ours_comes_back_from_the_cluster(local: Any) -> None:
    bad = Plan("moaproof-quick", 0, 1, (("kinds", ("plain",)), ("dtypes", ("float16",))))
    with pytest.raises(NotCovered, match=r"dtype|float16"):
        list(cluster.spread(bad, iter(SIX[:1]), local.scheduler_address, campaign.nobody))


def test_a_missing_dask_or_scheduler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT", 0.5)
    for address in ("tcp://127.0.0.1:1", "nowhere", "ftp://127.0.0.1:1"):
        with pytest.raises(BackendMissing, match=f"--scheduler {address}: no Dask scheduler answers there"):
            cluster.spread(PLAN, iter(SIX), address, campaign.nobody)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BackendMissing, match=r"pip install 'moaproof\[cluster\]'"):
        cluster.spread(PLAN, iter(SIX), "tcp://127.0.0.1:1", campaign.nobody)
