"""The mutation score: every mutant of the corpus is judged, and must die where it was promised.  Untrusted.

``run`` judges all of them.  A mutant that lives, or dies later than promised, fails the run; one that dies earlier is
named, because then its own judge was not asked.  Mutants of a checker or of a law need the edited file in place of
ours: a spawned process imports the package once for each, with that one file changed in memory.

Beside the score stands what an ordinary test says: each text is run by Python on normal, divisible, unmasked inputs and
compared with the untouched text by ``allclose`` at 1e-2.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, ClassVar, Final

import numpy as np

from ..errors import CertificateInvalid
from ..kernel.certificate import Certificate
from ..semantics import Numbers, meaning
from . import judges
from .mutants import (
    STAGES,
    Bench,
    Edits,
    Equivalent,
    Idea,
    Kill,
    Mutant,
    certificate_bytes,
    corpus,
    edited,
    equivalents,
    judge,
    kills,
    text_of,
)

SCHEMA: Final = "moaproof/mutate/1"
ELSEWHERE: Final = frozenset({"law", "checker"})  # kinds judged in a process of their own
SECOND_WRITING: Final = "moaproof/standalone/__main__.py"
RUNNING: Final = frozenset({"harness", "instruction", "launch"})  # kinds that need torch or numba


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mutant; ``ordinary``: did an ordinary test notice it (None: there is no text to run)."""

    mutant: Mutant
    kills: tuple[Kill, ...]
    ordinary: bool | None = None

    @property
    def stage(self) -> str:
        return self.kills[0].stage if self.kills else ""

    @property
    def status(self) -> str:
        """Killed where promised, earlier, late, or survived."""
        if not self.kills:
            return "survived"
        found, due = STAGES.index(self.stage), STAGES.index(self.mutant.stage)
        return "killed" if found == due else "early" if found < due else "late"

    def row(self) -> dict[str, Any]:
        return {
            "mutant": self.mutant.id,
            "idea": self.mutant.idea,
            "kind": self.mutant.kind,
            "promised": self.mutant.stage,
            "stage": self.stage or None,
            "status": self.status,
            "error": self.kills[0].error if self.kills else None,
            "also": [k.stage for k in self.kills[1:]],
            "ordinary": self.ordinary,
        }


@dataclass
class Score:
    """Every result, and the ideas that they are instances of."""

    ideas: Sequence[Idea]
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    equal: list[tuple[Equivalent, tuple[Kill, ...]]] = field(default_factory=list)  # and what refused them

    def failures(self) -> list[Result]:
        return [r for r in self.results if r.status in ("survived", "late")]

    def refused(self) -> list[tuple[Equivalent, Kill]]:
        """What was said to be equivalent, and is refused: it is to be an idea, or the judge is at fault."""
        return [(e, found[0]) for e, found in self.equal if found]

    def stages(self) -> dict[str, int]:
        """Ideas by the latest stage at which one of their instances died."""
        found = dict.fromkeys(STAGES, 0)
        for idea in self.ideas:
            stages = [STAGES.index(r.stage) for r in self.of(idea) if r.stage]
            if stages:
                found[STAGES[max(stages)]] += 1
        return {s: n for s, n in found.items() if n}

    def mutants_by_stage(self) -> dict[str, int]:
        found = dict.fromkeys(STAGES, 0)
        for r in self.results:
            if r.stage:
                found[r.stage] += 1
        return {s: n for s, n in found.items() if n}

    def of(self, idea: Idea) -> list[Result]:
        return [r for r in self.results if r.mutant.idea == idea.id]

    def killed(self) -> list[Idea]:
        """Ideas all of whose instances died in time."""
        return [x for x in self.ideas if self.of(x) and not any(r in self.failures() for r in self.of(x))]

    def missed(self) -> list[Idea]:
        """Ideas with a text that an ordinary test accepts."""
        return [x for x in self.ideas if any(r.ordinary is False for r in self.of(x))]

    def document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "ideas": len(self.ideas),
            "killed": len(self.killed()),
            "mutants": len(self.results),
            "stages": self.mutants_by_stage(),
            "areas": {a: sum(x.area == a for x in self.ideas) for a in sorted({x.area for x in self.ideas})},
            "ordinary": {"runnable": self.runnable(), "missed": [x.id for x in self.missed()]},
            "reported": sum(bool(x.source) for x in self.ideas),
            "results": [r.row() for r in self.results],
            "equivalent": [
                {"id": e.id, "proof": e.proof, "judged": e.mutant is not None, "refused": [k.stage for k in found]}
                for e, found in self.equal
            ],
            "exit": self.exit(),
        }

    def exit(self) -> int:
        return int(bool(self.failures() or self.refused()))

    def runnable(self) -> int:
        return sum(any(r.ordinary is not None for r in self.of(x)) for x in self.ideas)


def run(
    place: Path, wanted: Callable[[Mutant], bool] = lambda _: True, everything: bool = False, equal: bool = True
) -> Score:
    """Judge the mutants of a folder, and what is equivalent."""
    start = time.perf_counter()
    ideas = corpus(place)
    score = Score([x for x in ideas if any(map(wanted, x.mutants))])
    bench = Bench(place=place, ideas=ideas)
    chosen = [m for x in ideas for m in x.mutants if wanted(m)]
    with _worker(place, [m for m in chosen if m.kind in ELSEWHERE]) as elsewhere:
        here = {m.id: judge_any(m, bench, everything) for m in chosen if m.kind not in ELSEWHERE}
        ordinary = {m.id: noticed(m, bench) for m in chosen if m.kind in ("text", "derived")}
        for m in chosen:
            found = elsewhere(m) if m.kind in ELSEWHERE else here[m.id]
            score.results.append(Result(m, tuple(found), ordinary.get(m.id)))
    score.equal = [(e, tuple(judge(e.mutant, bench)) if e.mutant else ()) for e in equivalents(place) if equal]
    score.seconds = time.perf_counter() - start
    return score


def judge_any(m: Mutant, bench: Bench, everything: bool = False) -> list[Kill]:
    """The refusals of a mutant of any kind that is judged in this process."""
    if m.kind in RUNNING:
        from .mutants_run import judge as judge_running

        return judge_running(m)
    return judge(m, bench, everything)


# --- the ordinary test -----------------------------------------------------------------------------------

# Two batches, four heads over two of K and V, self-attention of 8 by 8, heads of 4, tiles of 4, masks of all true.
SIZES: Final = {
    "b": 2, "h": 4, "g": 2, "r": 2, "n": 8, "m": 8, "dk": 4, "dv": 4, "mb": 2, "mh": 4, "mn": 8, "mm": 8, "sb": 1,
    "sh": 1, "sn": 1, "sm": 1, "tq": 4, "bq": 2, "tk": 4, "bk": 2,
}  # fmt: skip
TOLERANCE: Final = 1e-2


def noticed(m: Mutant, bench: Bench) -> bool:
    """Does ``allclose`` notice the altered text at an ordinary shape?  What cannot be run is taken to be noticed."""
    c, _, data = text_of(m, bench)
    honest = bench.of_kernel(m.data["kernel"])[1]
    arguments = ordinary_inputs(c)
    due, found = (run_plainly(text, c, arguments) for text in (honest, data))
    return due is None or found is None or not np.allclose(found, due, rtol=TOLERANCE, atol=TOLERANCE)


def ordinary_inputs(c: Certificate) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for t in c.inputs:
        count = math.prod(meaning(e, (), (), (), Numbers(SIZES, {})) for e in t.args)
        if t.data[1] == "bool":
            found[t.data[0]] = np.ones(count, dtype=bool)
        else:
            found[t.data[0]] = rng.standard_normal(count) if t.args else 0.5
    return found


def run_plainly(data: bytes, c: Certificate, arguments: Mapping[str, Any]) -> Any:
    """The output of a text run by Python on floats, loops in sequence, scratch full of NaN; None if it fails."""
    names: dict[str, Any] = {
        "ZERO": 0.0, "ONE": 1.0, "LOWEST": -math.inf, "real": float, "sqrt": math.sqrt, "prange": range, "exp": _exp,
        "njit": lambda **_: lambda f: f, "empty": lambda shape, dtype: np.full(shape, np.nan, dtype), "fmax": max,
        "rescale": lambda m, t: 0.0 if m == -math.inf else _exp(m - t), "quotient": lambda o, l: o / l if l else 0.0,
    }  # fmt: skip
    output = np.full(math.prod(SIZES.get(s, 1) for s in ("b", "h", "n", "dv") if s in c.sizes()), np.nan)
    try:
        tree = ast.parse(data.decode("latin-1"))
        tree.body = [
            s for s in tree.body if not (isinstance(s, ast.ImportFrom) and str(s.module).startswith("moaproof."))
        ]
        exec(compile(tree, "<mutant>", "exec", dont_inherit=True), names)  # noqa: S102  a text of our own corpus
        kernel: Any = names["kernel"]
        copies = {name: x.copy() if isinstance(x, np.ndarray) else x for name, x in arguments.items()}
        with np.errstate(all="ignore"):
            kernel(output, *(copies[t.data[0]] for t in c.inputs), *(SIZES[s] for s in c.sizes()))
    except (ArithmeticError, AttributeError, IndexError, NameError, SyntaxError, TypeError, ValueError):
        return None
    return output


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


# --- the package with one file changed --------------------------------------------------------------------


class _Ours(importlib.machinery.SourceFileLoader):
    """One of our modules from its file: compiled once a process, and anew where it is edited, which is in memory."""

    compiled: ClassVar[dict[str, Any]] = {}
    edits: Edits = ()

    def get_code(self, fullname: str) -> Any:
        if not self.edits and self.path in self.compiled:
            return self.compiled[self.path]
        text = edited(self.get_data(self.path).decode(), self.edits)
        code = compile(text, self.path, "exec", dont_inherit=True)
        if not self.edits:
            self.compiled[self.path] = code
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds our modules where the others find them; one of them is loaded edited."""

    def __init__(self, module: str, edits: Edits):
        self.module, self.edits, self.loaded = module, edits, False

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname.partition(".")[0] != "moaproof":
            return None
        others = [f for f in sys.meta_path if f is not self]
        spec = next(s for f in others if (s := f.find_spec(fullname, path, target)) is not None)
        loader = _Ours(fullname, str(spec.origin))
        if fullname == self.module:
            loader.edits, self.loaded = self.edits, True
        spec.loader = loader
        return spec


@contextmanager
def edited_package(file: str, edits: Edits) -> Iterator[_Finder]:
    """Within, ``import moaproof...`` gives fresh modules, of which one is edited; afterwards ours are back."""
    parts = file.removesuffix(".py").removesuffix("/__init__").split("/")
    module = ".".join(parts if parts[0] == "moaproof" else ["moaproof", *parts])
    ours = {name: x for name, x in sys.modules.items() if name.partition(".")[0] == "moaproof"}
    finder = _Finder(module, edits)
    for name in ours:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield finder
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.partition(".")[0] == "moaproof"]:
            del sys.modules[name]
        sys.modules.update(ours)


def judge_elsewhere(place: Path, m: Mutant, ideas: Sequence[Idea]) -> list[Kill]:
    """A mutant of a law or of a checker, in a package with its file edited."""
    if m.data["file"] == SECOND_WRITING:
        return _judge_second_writing(m, _bench(place, ideas))
    with edited_package(m.data["file"], m.data["edits"]) as finder:
        world: Any = importlib.import_module("moaproof.assess.mutate")
        bench = world.Bench(place=place, ideas=ideas)
        if m.kind == "law":
            found = [Kill(k.stage, k.error) for k in world.judge_any(bench.mutant(m.id), bench)]
        else:
            found = _noticed_by(m, [bench.mutant(name) for name in m.data["lets_pass"]], world, bench)
        if not finder.loaded:
            raise CertificateInvalid(f"{m.id}: {m.data['file']} was not loaded, so nothing was tried")
        return found


def _judge_second_writing(m: Mutant, bench: Bench) -> list[Kill]:
    """A mutant of the stand-alone checker: some certificate that the honest one refuses is then accepted."""
    text = edited((judges.STANDALONE / "__main__.py").read_text(encoding="utf-8"), m.data["edits"])
    with TemporaryDirectory() as folder:
        (Path(folder) / "__main__.py").write_text(text, encoding="utf-8")
        for name in m.data["lets_pass"]:
            data = certificate_bytes(bench.mutant(name), bench)
            if _second_writing_accepts(data, judges.STANDALONE):
                raise CertificateInvalid(f"{m.id}: {name} is accepted as it is")
            if _second_writing_accepts(data, Path(folder)):
                return [Kill("checker tests", f"{name} is accepted, and is due to be refused")]
    return []


def _second_writing_accepts(data: bytes, folder: Path) -> bool:
    honest, judges.STANDALONE = judges.STANDALONE, folder
    try:
        return not kills(iter([("standalone", lambda: judges.judge_standalone(data))]))
    finally:
        judges.STANDALONE = honest


def _noticed_by(m: Mutant, twins: Sequence[Any], world: Any, bench: Any) -> list[Kill]:
    """The mutants that die elsewhere, or not at all, under the edited checker: by them it is noticed."""
    for twin in twins:
        found = world.judge_any(twin, bench)
        stage = found[0].stage if found else "nowhere"
        if stage not in (twin.stage, "crash"):
            return [Kill("checker tests", f"{twin.id} dies {stage}, and is due to die at {twin.stage}")]
    return []


_IDEAS: list[Idea] = []  # of a worker
_BENCHES: list[Bench] = []


def _bench(place: Path, ideas: Sequence[Idea]) -> Bench:
    """One for all mutants of the stand-alone checker: what it knows is from the honest package."""
    if not _BENCHES:
        _BENCHES.append(Bench(place=place, ideas=ideas))
    return _BENCHES[0]


def _read(place: Path) -> None:
    _IDEAS.extend(corpus(place))


def _task(place: Path, name: str) -> tuple[list[Kill], str]:
    """What became of a mutant; an error as text, because its class may be of an edited package."""
    m = next(m for x in _IDEAS for m in x.mutants if m.id == name)
    try:
        return judge_elsewhere(place, m, _IDEAS), ""
    except Exception as e:  # noqa: BLE001  it is raised again in the process that asked
        return [], f"{name}: {type(e).__name__}: {e}"


@contextmanager
def _worker(place: Path, mutants: Sequence[Mutant]) -> Iterator[Callable[[Mutant], list[Kill]]]:
    """A process that judges these mutants meanwhile."""
    if not mutants:
        yield lambda m: []
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_read, initargs=(place,)) as pool:
        futures = {m.id: pool.submit(_task, place, m.id) for m in mutants}

        def wait(m: Mutant) -> list[Kill]:
            found, error = futures[m.id].result()
            if error:
                raise CertificateInvalid(error)
            return found

        yield wait
