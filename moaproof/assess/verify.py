"""``check`` without its printing: certificates judged in fresh processes, and the generated files compared.

A worker is a spawned Python that has loaded nothing from its parent.  It reads the bytes itself and may judge several
certificates; what an engine proved for one is then known for the next, but is counted for each as if it stood alone, so
that the figures do not depend on the number of processes.

Nothing here decides: it calls the judges in order and keeps what they found, also where one of them refuses.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from moaproof.rewrite_rules import document as rulebook_document

from ..errors import CertificateInvalid, DigestMismatch, MoaproofError
from ..kernel.bits import Deciders
from ..kernel.certificate import MAX_BYTES, Certificate, parse
from ..kernel.integers import Answer, Integers, Tally
from ..term import canonical
from .judges import ASSUMPTIONS, JUDGES, Verdict, ask, findings
from .solvers import Answered, Reply

SCHEMA: Final = "moaproof/check/1"
MANIFEST_SCHEMA: Final = "moaproof/manifest/1"
FIRST_WINS: Final = (5, 4, 1, 2, 3)  # over several certificates
INTERRUPTED: Final = 130
MAX_KERNEL: Final = 2**20  # bytes of one kernel text
ENGINES: Final = ("z3", "sympy", "normaliser")
REMEDIES: Final = {
    1: "the derivation is wrong there; `moaproof explain CERT --step K` shows the step",
    2: "give a certificate that `moaproof derive` wrote, or restore the file",
    3: "nothing is concluded; install what is missing (`moaproof doctor` looks) or report the question",
    4: "restore the file, or derive it again (`make regen` in a checkout) and read the difference",
    5: "one of two deciders is wrong; report it with the certificate",
}
Counts = dict[str, list[int]]  # engine -> [trivial, repeated, substantive]


@dataclass(frozen=True, slots=True)
class Job:
    """One certificate to judge: its file, the folder of its kernels, and the judges that are asked."""

    certificate: Path
    kernels: Path
    judges: tuple[str, ...] = JUDGES


@dataclass
class Outcome:
    """What came of one certificate: a verdict, or the first error with what had been done by then."""

    place: str
    name: str = ""
    core: str = ""
    code: int = 0
    error: str = ""  # begins with the place inside the certificate
    kind: str = ""  # the class of the error
    judge: str = ""  # the judge that refused; empty before any was asked
    accepted: list[str] = field(default_factory=list)  # judges
    planned: list[tuple[str, str]] = field(default_factory=list)  # (rule, class) of each step as the certificate has it
    judged: int = 0  # steps
    counts: Counts = field(default_factory=dict)
    kernels: dict[str, dict[str, str]] = field(default_factory=dict)  # rows of the manifest
    verdict: Verdict | None = None
    replies: list[Reply] = field(default_factory=list)  # of the judge cvc5, for the record of the run
    seconds: float = 0.0

    def word(self) -> str:
        """Proved, refuted, unknown; or refused, where there was nothing to judge or nothing may be concluded."""
        return {0: "proved", 1: "refuted", 3: "unknown"}.get(self.code, "refused")

    def proved(self) -> int:
        """Questions decided, each counted once: those of Z3, and the equalities that normaliser and SymPy both hold."""
        return sum(self.counts[e][2] for e in ("z3", "sympy") if e in self.counts)

    def totals(self) -> dict[str, int]:
        """Of this certificate's obligations."""
        assumed = len(self.verdict.assumptions) if self.verdict else 0
        return {
            "proved": self.proved(), "refuted": int(self.code == 1), "unknown": int(self.code == 3), "assumed": assumed,
        }  # fmt: skip

    def row(self) -> dict[str, Any]:
        """As JSON: the same keys whatever came of it."""
        v = self.verdict
        return {
            "certificate": self.place,
            "name": self.name or None,
            "verdict": self.word(),
            "exit": self.code,
            "error": {"kind": self.kind, "judge": self.judge or None, "message": self.error} if self.code else None,
            "claim": v.claim if v else None,
            "sentence": v.sentence() if v else None,
            "core": self.core or None,
            "spec": v.spec if v else None,
            "judges": self.accepted,
            "classes": {"I": 0, "S": 0, "R": 0, "A": 0, **v.classes} if v else None,
            "obligations": self.counts,
            "columns": ["trivial", "repeated", "substantive"],
            "totals": self.totals(),
            "steps": v.steps if v else [],
            "questions": v.questions if v else 0,
            "on_word": list(v.on_word) if v else [],
            "planned": len(self.planned),
            "judged": self.judged,
            "kernels": v.kernels if v else [],
            "cells": v.points if v else 0,
            "ordered": v.ordered if v else 0,
            "memory": v.memory if v else 0,
            "bound": list(v.bound) if v else [],
            "deviations": list(v.deviations) if v else [],
            "assumptions": list(v.assumptions) if v else [],
        }


# --- where things lie ------------------------------------------------------------------------------


def folder(name: str) -> Path:
    """The folder of the installed package ``moaproof.certs``, ``moaproof.kernels`` or ``moaproof.rewrite_rules``."""
    return Path(str(files(f"moaproof.{name}")))


def committed() -> list[Path]:
    """The committed certificates, by name."""
    return sorted(folder("certs").glob("*.json"))


def kernels_of(certificate: Path) -> Path:
    """The folder of a certificate's kernels: ``../kernels`` as ``derive`` writes it, else the installed one."""
    beside = certificate.resolve().parent.parent / "kernels"
    return beside if certificate.resolve().parent.name == "certs" and beside.is_dir() else folder("kernels")


def find(given: str) -> Path:
    """A certificate by the name of a committed one, or by its path; ``CertificateInvalid`` if there is neither."""
    path = Path(given)
    if path.exists():
        return path
    named = {p.stem: p for p in committed()}
    if given in named:
        return named[given]
    have = ", ".join(named) or "none"
    raise CertificateInvalid(f"{given}: no file, and no committed certificate; there are: {have}")


def read(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file; ``CertificateInvalid`` where it is missing, no file, unreadable, empty or too long."""
    try:
        if path.is_dir():
            raise CertificateInvalid("it is a directory; the path of a file is due")
        with path.open("rb") as f:
            data = f.read(limit + 1)
    except FileNotFoundError:
        raise CertificateInvalid("there is no such file") from None
    except OSError as e:
        raise CertificateInvalid(f"it cannot be read: {e.strerror or e}") from None
    if not data:
        raise CertificateInvalid("the file is empty")
    if len(data) > limit:
        raise CertificateInvalid(f"the file has more than {limit} bytes")
    return data


def texts_of(c: Certificate, kernels: Path) -> dict[str, bytes]:
    """The kernel texts that a certificate names and that can be read; the source judge misses the others."""
    texts = {}
    for k in c.kernels:
        try:
            texts[k.file] = read(kernels / k.file, MAX_KERNEL)
        except CertificateInvalid:
            continue
    return texts


# --- one certificate, in this process ----------------------------------------------------------------


class Seen(set[Any]):
    """Equalities that were decided; the first use of one of an earlier certificate counts as substantive here."""

    def __init__(self, earlier: set[Any], tallies: Sequence[Tally]):
        super().__init__()
        self.earlier, self.tallies = earlier, tallies

    def __contains__(self, key: object) -> bool:
        if not super().__contains__(key) and key in self.earlier:
            super().add(key)
            for t in self.tallies:  # the caller is about to count a repetition
                t.repeated -= 1
                t.substantive += 1
        return super().__contains__(key)

    def add(self, key: Any) -> None:
        super().add(key)
        self.earlier.add(key)


@dataclass
class Known:
    """What the engines have answered for the certificates of one process so far."""

    answers: dict[str, Answer] = field(default_factory=dict)
    replies: Answered = field(default_factory=dict)
    compared: set[Any] = field(default_factory=set)

    def deciders(self) -> Deciders:
        """Fresh tallies over what is known."""
        found = Deciders(Integers(answers=self.answers))
        found.compared = Seen(self.compared, [found.normaliser, found.sympy])
        return found


def judge(job: Job, known: Known | None = None) -> Outcome:
    """Judge one certificate in this process.  An error of ours becomes part of the outcome; any other is a bug."""
    start = time.perf_counter()
    out = Outcome(str(job.certificate))
    known = known or Known()
    deciders = known.deciders()
    try:
        _judge(job, out, deciders, known)
    except MoaproofError as e:
        _fail(out, e)
    except RecursionError:
        _fail(out, CertificateInvalid("nested too deep"))
    if "replay" in job.judges:
        tallies = zip(ENGINES, (deciders.integers.tally, deciders.sympy, deciders.normaliser), strict=True)
        out.counts = {engine: tally.row() for engine, tally in tallies}
    if "cvc5" in job.judges:
        out.replies = [r for r in known.replies.values() if r.key in deciders.integers.proved]
    out.seconds = time.perf_counter() - start
    return out


def _fail(out: Outcome, e: MoaproofError) -> None:
    out.code, out.kind, out.error = e.exit_code, type(e).__name__, str(e)


def stated(job: Job) -> Outcome:
    """What a certificate says of itself; nothing is judged."""
    out = Outcome(str(job.certificate))
    try:
        _read(job, out)
    except MoaproofError as e:
        _fail(out, e)
    return out


def _read(job: Job, out: Outcome) -> tuple[Certificate, bytes]:
    data = read(job.certificate)
    c = parse(data)
    out.name, out.core = c.name, c.core_digest()
    out.planned = [(s.rule, s.kind) for s in c.steps]
    out.kernels = manifest_of([c])["kernels"]
    return c, data


def _judge(job: Job, out: Outcome, deciders: Deciders, known: Known) -> None:
    c, data = _read(job, out)

    def progress(number: int) -> None:
        out.judged = number + 1

    f = findings(c, data, deciders)
    f.replies = known.replies
    for judge in job.judges:
        out.judge = judge
        ask(judge, f, texts_of(c, job.kernels) if judge == "source" else None, progress)
        out.accepted.append(judge)
    out.judge = ""
    out.verdict = f.verdict(job.judges)
    unlisted = sorted(set(out.verdict.assumptions) - set(ASSUMPTIONS))
    if unlisted:
        out.code, out.kind = 3, "Unknown"
        out.error = f"assumptions: {', '.join(unlisted)} is not on the committed list"


# --- many, in fresh processes ------------------------------------------------------------------------

_KNOWN = Known()  # of a worker


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker at once and in silence


def _work(job: Job) -> Outcome:
    return judge(job, _KNOWN)


def check(jobs: Sequence[Job], workers: int, done: Callable[[Outcome], None] | None = None) -> list[Outcome]:
    """Judge each certificate in a fresh process, at most ``workers`` of them; the outcomes in the order of the jobs.

    ``done`` is told each outcome as it comes; after Ctrl-C the workers are ended and ``KeyboardInterrupt`` goes on.
    """
    found: dict[Job, Outcome] = {}
    for job, outcome in _outcomes(jobs, workers):
        found[job] = outcome
        if done:
            done(outcome)
    return [found[j] for j in jobs]


def _outcomes(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    waiting = set(jobs)
    with _pool(min(workers, len(waiting))) as pool:
        for job, future in _longest_first(pool, waiting):
            if isinstance(future.exception(), BrokenProcessPool):
                continue
            waiting.discard(job)
            yield job, _outcome(job, future)
    for job in [j for j in jobs if j in waiting]:  # a worker died: each that is left has a process of its own
        waiting.discard(job)
        with _pool(1) as pool:
            future = pool.submit(_work, job)
            future.exception()
            yield job, _outcome(job, future)


def _longest_first(pool: ProcessPoolExecutor, jobs: Iterable[Job]) -> Iterator[tuple[Job, Future[Outcome]]]:
    """Submit all, the largest first, so that no long one is left for the end; each as it ends."""

    def size(job: Job) -> tuple[int, str]:
        return -job.certificate.stat().st_size if job.certificate.is_file() else 0, str(job.certificate)

    submitted = {pool.submit(_work, job): job for job in sorted(jobs, key=size)}
    for future in as_completed(submitted):
        yield submitted[future], future


def _outcome(job: Job, future: Future[Outcome]) -> Outcome:
    error = future.exception()
    if error is None:
        return future.result()
    why = (
        "the process that judged it died"
        if isinstance(error, BrokenProcessPool)
        else f"the checker failed ({type(error).__name__}: {error}); this is a bug of moaproof, please report it"
    )
    return Outcome(str(job.certificate), code=3, kind="Unknown", error=why)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(max(1, workers), mp_context=multiprocessing.get_context("spawn"), initializer=_start)
    others = set(multiprocessing.active_children())
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


# --- generated files -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """A generated file against what it is generated from."""

    place: str
    code: int
    error: str = ""

    def row(self) -> dict[str, Any]:
        return {"file": self.place, "exit": self.code, "error": self.error or None}


def manifest_of(certificates: Iterable[Certificate]) -> dict[str, Any]:
    """Which kernel file belongs to which certificate: what the loader may run."""
    rows = {
        k.file: {"certificate": c.name, "core": c.core_digest(), "dtype": k.dtype, "sha256": k.sha256}
        for c in certificates
        for k in c.kernels
    }
    return {"schema": MANIFEST_SCHEMA, "kernels": rows}


def check_manifest(outcomes: Sequence[Outcome], kernels: Path, whole: bool = True) -> FileOutcome:
    """MANIFEST.json and the kernel files are as these certificates name them; ``whole``: and nothing else is there."""
    place = f"{kernels.name}/MANIFEST.json"
    if any(not o.core for o in outcomes):
        return FileOutcome(place, 4, "not compared: a certificate cannot be read")
    rows = {file: row for o in outcomes for file, row in o.kernels.items()}
    try:
        _same_manifest({"schema": MANIFEST_SCHEMA, "kernels": rows}, read(kernels / "MANIFEST.json"), whole)
        _same_files(rows, kernels, whole)
    except MoaproofError as e:
        return FileOutcome(place, e.exit_code, str(e))
    return FileOutcome(place, 0)


def _same_manifest(due: dict[str, Any], data: bytes, whole: bool) -> None:
    if data == canonical(due) + b"\n":
        return
    try:
        found = json.loads(data)
        rows = dict(found["kernels"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CertificateInvalid("not JSON of a manifest") from None
    for file in sorted({*rows, *due["kernels"]} if whole else due["kernels"]):
        ours, theirs = due["kernels"].get(file), rows.get(file)
        if theirs is None:
            raise DigestMismatch(f"{file} is missing in it")
        if ours is None:
            raise DigestMismatch(f"{file} is of no certificate")
        if ours != theirs:
            raise DigestMismatch(f"{file}: it has another row than the certificates give")
    if whole:
        raise DigestMismatch("its bytes are not the canonical form of its rows")


def _same_files(rows: dict[str, Any], kernels: Path, whole: bool) -> None:
    have = {p.name for p in kernels.glob("*.py")} - {"__init__.py"}
    for file in sorted(have - set(rows)) if whole else ():
        raise DigestMismatch(f"{file} lies beside it, but no certificate names it")
    for file in sorted(set(rows) - have):
        raise DigestMismatch(f"{file} is listed, but there is no such file")
    for file in sorted(rows):
        if hashlib.sha256(read(kernels / file, MAX_KERNEL)).hexdigest() != rows[file]["sha256"]:
            raise DigestMismatch(f"{file}: its bytes are not those that {rows[file]['certificate']} names")


def check_rulebook(rules: Path | None = None) -> FileOutcome:
    """rulebook.json is what the laws give."""
    place = "rewrite_rules/rulebook.json"
    try:
        data = read((rules or folder("rewrite_rules")) / "rulebook.json", 2**24)
        if data != _rulebook_bytes():
            raise DigestMismatch(f"{_first_law(data)}; the laws in rewrite_rules/*.py give another")
    except MoaproofError as e:
        return FileOutcome(place, e.exit_code, str(e))
    return FileOutcome(place, 0)


@lru_cache(maxsize=1)
def _rulebook_bytes() -> bytes:
    return canonical(rulebook_document()) + b"\n"


def _first_law(data: bytes) -> str:
    """Where a rulebook first differs."""
    try:
        rows = list(json.loads(data)["rules"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "it is no rulebook"
    for row, due in zip(rows, json.loads(_rulebook_bytes())["rules"], strict=False):
        if row != due:
            return f"law {due['id']}"
    return f"{len(rows)} laws"


def check_assumptions(outcomes: Sequence[Outcome]) -> FileOutcome:
    """All that was accepted rests on the committed list of assumptions, no more and no fewer."""
    resting = {a for o in outcomes if o.verdict for a in o.verdict.assumptions}
    if all(o.verdict for o in outcomes) and resting != set(ASSUMPTIONS):
        missing = ", ".join(sorted(set(ASSUMPTIONS) - resting)) or "an unlisted one is used"
        return FileOutcome("assumptions", 3, f"they are not the committed list: {missing}")
    return FileOutcome("assumptions", 0)


# --- the whole ---------------------------------------------------------------------------------------


@dataclass
class Result:
    """Everything that a check found."""

    judges: tuple[str, ...]
    certificates: list[Outcome]
    files: list[FileOutcome]
    seconds: float = 0.0
    interrupted: bool = False

    def code(self) -> int:
        """Of all: the first of 5, 4, 1, 2, 3 that occurs; 0 only if everything was accepted."""
        if self.interrupted:
            return INTERRUPTED
        codes = {o.code for o in self.certificates} | {f.code for f in self.files}
        return next((c for c in FIRST_WINS if c in codes), 0)

    def totals(self) -> dict[str, int]:
        found = dict.fromkeys(("proved", "refuted", "unknown", "assumed"), 0)
        for o in self.certificates:
            for word, n in o.totals().items():
                found[word] += n
        found["assumed"] = len({a for o in self.certificates if o.verdict for a in o.verdict.assumptions})
        return found

    def document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "judges": list(self.judges),
            "certificates": [o.row() for o in self.certificates],
            "files": [f.row() for f in self.files],
            "totals": self.totals(),
            "assumptions": list(ASSUMPTIONS),
            "interrupted": self.interrupted,
            "exit": self.code(),
            "seconds": round(self.seconds, 3),
        }
