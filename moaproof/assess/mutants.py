"""Mutants: wrong things, written as data, and how each is made and judged.  Untrusted; it tests what is trusted.

An *idea* is one way to be wrong, a table of a TOML file (``tests/mutants``): ``what`` is wrong; its ``area``;
``source``, a public report of the same bug where there is one.  Its ``mutant`` tables are instances: ``stage`` is where
the instance must die, ``why`` says why there, ``skips`` names judges that are left out, so that a later one is put to
the test, and what is changed is the table named after its kind:

| kind | changes | judged by |
|---|---|---|
| text | ``kernel``: a shipped text, by ``edits`` [old, new]; the certificate names the new bytes | the text's judges |
| derived | the same text read back as a term: a last step restates the ONF as that term | all judges |
| step | ``left`` becomes ``right``, two terms as in ``read_term``, under ``facts`` | the kernel, one step |
| cuda | ``base`` of ``tests/reader/cuda_texts.py``, by ``edits``, or a ``mutant`` there, by name | the text's judges |
| certificate | a committed one, by ``change`` (see ``CHANGES``); digests are made to fit | all judges |
| json | the document, by ``patch``: [path, value], or [path] to delete; ``core`` fits unless ``raw`` | all judges |
| bytes | the bytes: ``flip`` so many, ``cut`` to a part, ``append``, ``replace`` | all judges |
| law | a file of ``rewrite_rules``: the law's most general instance, at ``params`` | the kernel, one step |
| checker | a file of the checker: some mutant of ``lets_pass`` must then live, or die elsewhere | the corpus itself |
| solver | what Z3 or another ``engine`` ``answers``, ``of`` a certificate (``change``d) or a mutant | all judges |
| instruction | the source of an instruction | the harness: both oracles and the error bound |
| harness | a fake kernel in place of the real one | the harness |
| launch | a wrong call of a right kernel | the launcher |

An ``equivalent`` table is a mutation that is no bug: its ``proof``, and perhaps an instance, which all judges accept.
"""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from moaproof.rewrite_rules import digest as rulebook_digest
from moaproof.rewrite_rules import lookup, rules

from .. import instructions
from ..derive.witnesses import witnesses_for
from ..errors import CertificateInvalid, DigestMismatch, MoaproofError, NotCovered, Refuted, Unknown
from ..kernel import bits, integers
from ..kernel.bits import Deciders, in_range
from ..kernel.certificate import CORE_FIELDS, Certificate, Kernel, Step, Tiling, parse
from ..kernel.checker import Report, facts_of, replay, rounding_of
from ..kernel.claims import claim_of
from ..kernel.defined import Position
from ..kernel.free import X, conjuncts
from ..kernel.inequalities import check_inequalities
from ..kernel.integers import Integers, lean
from ..kernel.question import question
from ..kernel.rules import erase_dims, fill
from ..kernel.step import Checker
from ..operators import Context, Index, typeof
from ..reader.reader import read_kernel
from ..reader.safety import check_text
from ..term import (
    REAL_FUNCTIONS,
    TRUE,
    Add,
    Div,
    F,
    In,
    Int,
    Le,
    Lt,
    Min,
    Mul,
    Size,
    Sub,
    Term,
    Var,
    canonical,
)  # fmt: skip
from .judges import judge_standalone, judge_trace
from .ordered import ordered_replay
from .replay import exact_replay
from .replay import replay as replay_text
from .solvers import ask_all, demand_unsat
from .verify import Known, folder

STAGES: Final = (
    "parse", "digest", "trace", "hypotheses", "rule", "definedness", "equality", "points", "inequalities", "rounding",
    "claim", "witness", "standalone", "cvc5", "reader", "safety", "exact replay", "ordered replay", "fuzz", "harness",
    "launcher", "checker tests", "crash",
)  # fmt: skip
AREAS: Final = (
    "rule", "schedule", "term", "hypotheses", "certificate", "text-cpu", "text-cuda", "solver", "checker", "harness",
    "launcher", "instruction",
)  # fmt: skip
KINDS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {  # kind: fields that are due, fields that may be
    "text": (frozenset({"kernel", "edits"}), frozenset()),
    "derived": (frozenset(), frozenset({"kernel", "edits"})),  # without them: those of the text before it
    "step": (frozenset({"right"}), frozenset({"left", "inputs", "define", "facts", "extents", "with", "witness"})),
    "cuda": (frozenset(), frozenset({"base", "edits", "mutant"})),
    "certificate": (frozenset({"of", "change"}), frozenset()),
    "json": (frozenset({"of", "patch"}), frozenset({"raw"})),
    "bytes": (frozenset({"of"}), frozenset({"flip", "after", "before", "cut", "append", "replace"})),
    "law": (frozenset({"file", "edits", "rule"}), frozenset({"params"})),
    "checker": (frozenset({"file", "edits", "lets_pass"}), frozenset()),
    "solver": (frozenset({"answers", "of"}), frozenset({"engine", "change"})),
    "instruction": (frozenset({"edits"}), frozenset()),
    "harness": (frozenset({"gives"}), frozenset()),
    "launch": (frozenset({"change"}), frozenset()),
}
OF_IDEA: Final = frozenset({"id", "what", "area", "mutant"})
OF_EQUIVALENT: Final = frozenset({"id", "what", "proof"})
OF_MUTANT: Final = frozenset({"stage", "why", "name", "skips"})
Edits = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One instance of an idea; its ``id`` is the idea's and its own name or kind."""

    id: str
    idea: str
    stage: str
    why: str
    kind: str
    data: Mapping[str, Any]
    skips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Idea:
    """One way to be wrong, and its instances."""

    id: str
    what: str
    area: str
    source: str
    mutants: tuple[Mutant, ...]


@dataclass(frozen=True, slots=True)
class Kill:
    """The stage that refused a mutant, and what it said."""

    stage: str
    error: str


# --- the corpus ------------------------------------------------------------------------------------


def corpus(place: Path) -> list[Idea]:
    """The ideas of the TOML files of a folder, in the order of the files' names."""
    found: list[Idea] = []
    for path in sorted(place.glob("*.toml")):
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise CertificateInvalid(f"{path.name}: {e}") from None
        words = document.get("vocabulary", {})
        found += [_idea(row, f"{path.name}: idea {n}", words) for n, row in enumerate(document.get("idea", []))]
    names = [x.id for x in found] + [m.id for x in found for m in x.mutants]
    twice = {name for name in names if names.count(name) > 1}
    if twice or not found:
        why = f"{', '.join(sorted(twice))} is given twice" if twice else "no ideas; give the folder of their TOML files"
        raise CertificateInvalid(f"{place}: {why}")
    return found


@dataclass(frozen=True, slots=True)
class Equivalent:
    """What a mutation made, and what is as good as before: why, and the instance that every judge must accept."""

    id: str
    what: str
    proof: str
    mutant: Mutant | None


def equivalents(place: Path) -> list[Equivalent]:
    """The ``equivalent`` tables of the folder: a ``proof`` in words, and an instance if there is a way to judge it."""
    found: list[Equivalent] = []
    for path in sorted(place.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", []):
            kinds = [k for k in KINDS if k in row]
            if not {"id", "what", "proof"} <= set(row) or len(kinds) > 1 or set(row) - OF_EQUIVALENT - set(kinds):
                raise CertificateInvalid(f"{path.name}: an equivalent has id, what, proof, and at most one instance")
            m = Mutant(row["id"], row["id"], "", row["proof"], kinds[0], row[kinds[0]]) if kinds else None
            found.append(Equivalent(row["id"], row["what"], row["proof"], m))
    return found


def _idea(row: Mapping[str, Any], where: str, words: Mapping[str, Any]) -> Idea:
    where = f"{where}, {row.get('id')}"
    if OF_IDEA - set(row) or set(row) - OF_IDEA - {"source"} or row["area"] not in AREAS or not row["mutant"]:
        raise CertificateInvalid(f"{where}: {', '.join(sorted(OF_IDEA))} are due, and a known area")
    mutants: list[Mutant] = []
    for instance in row["mutant"]:
        mutants.append(_mutant(instance, row["id"], mutants, where, words))
    return Idea(row["id"], row["what"], row["area"], row.get("source", ""), tuple(mutants))


def _mutant(
    row: Mapping[str, Any], idea: str, before: Sequence[Mutant], where: str, words: Mapping[str, Any]
) -> Mutant:
    kinds = [k for k in KINDS if k in row]
    if len(kinds) != 1 or not {"stage", "why"} <= set(row) or set(row) - OF_MUTANT - set(kinds):
        raise CertificateInvalid(f"{where}: a mutant has stage, why and one of {', '.join(KINDS)}")
    kind, data = kinds[0], row[kinds[0]]
    due, may = KINDS[kind]
    if not due <= set(data) or set(data) - due - may or {row["stage"], *row.get("skips", ())} - set(STAGES):
        raise CertificateInvalid(f"{where}: {kind}: {', '.join(sorted(due))} are due, and a known stage")
    if kind == "derived" and not data:
        data = next(m.data for m in reversed(before) if m.kind == "text")
    if "with" in data:
        shared = words[data["with"]]
        data = {**shared, **data, **{k: {**shared.get(k, {}), **data.get(k, {})} for k in ("inputs", "define")}}
    skips = tuple(row.get("skips", ()))
    return Mutant(f"{idea}/{row.get('name', kind)}", idea, row["stage"], row["why"], kind, data, skips)


def edited(text: str, edits: Edits) -> str:
    """The text with each old part, which occurs once, replaced by the new one; an old part "N: .." occurs N times."""
    for old, new in edits:
        count, wanted = 1, old
        if found := re.match(r"(\d+)x ", old):
            count, wanted = int(found[1]), old[found.end() :]
        if text.count(wanted) != count:
            raise CertificateInvalid(f"edit: {wanted!r:.80} occurs {text.count(wanted)} times, not {count}")
        text = text.replace(wanted, new)
    return text


# --- terms as text ---------------------------------------------------------------------------------

INDEX: Final[dict[str, Callable[[Term, Term], Term]]] = {
    "+": Add, "-": Sub, "*": Mul, "//": Div, "min": Min, "<": Lt, "<=": Le,
}  # fmt: skip
WITH_DATA: Final = frozenset({
    "fold", "build", "tiles", "transpose", "take", "drop", "reduce", "inner", "omega", "lift", "outer", "pointwise",
    "map",
})  # fmt: skip


def read_term(text: str, names: Mapping[str, Term]) -> Term:
    """A term written as in ``(fold add n true (mul (psi E $0) (real 1 2)))``.

    ``$k`` is a bound variable, a number an index, a name one of ``names`` or else a size; index terms are written with
    + - * // min < <=, functions of reals by their names.
    """
    tree, rest = _tree(_tokens(text))
    if rest:
        raise CertificateInvalid(f"term: {' '.join(rest):.60} after the end")
    return _term(tree, names)


def _tokens(text: str) -> list[str]:
    return re.findall(r"[()]|[^\s()]+", text)


def _tree(tokens: list[str]) -> tuple[Any, list[str]]:
    if not tokens:
        raise CertificateInvalid("term: it ends too early")
    head, rest = tokens[0], tokens[1:]
    if head != "(":
        return head, rest
    row = []
    while rest and rest[0] != ")":
        item, rest = _tree(rest)
        row.append(item)
    if not row or not rest:
        raise CertificateInvalid("term: it ends too early")
    return row, rest[1:]


def _term(tree: Any, names: Mapping[str, Term]) -> Term:
    if isinstance(tree, str):
        return _leaf(tree, names)
    head, *rest = tree
    if head == "real":
        return Term("real", (rest[0], rest[1] if len(rest) > 1 else "1"))
    if head in WITH_DATA:
        return Term(head, _data(rest[0]), [_term(x, names) for x in rest[1:]])
    args = [_term(x, names) for x in rest]
    if head in INDEX:
        return INDEX[head](*args)
    if head in REAL_FUNCTIONS:
        return F(head, *args)
    return Term(head, None, args)


def _leaf(word: str, names: Mapping[str, Term]) -> Term:
    if word.startswith("$"):
        return Var(int(word[1:]))
    if re.fullmatch(r"-?\d+", word):
        return Int(int(word))
    if word == "true":
        return TRUE
    return names[word] if word in names else Size(word)


def _data(tree: Any) -> Any:
    if isinstance(tree, list):
        return tuple(map(_data, tree))
    return int(tree) if re.fullmatch(r"-?\d+", tree) else tree


def names_of(data: Mapping[str, Any]) -> dict[str, Term]:
    """The inputs (name: extents, and ``: bool`` for truth values) and the abbreviations of a step."""
    found: dict[str, Term] = {}
    for name, shape in data.get("inputs", {}).items():
        extents, _, sort = shape.partition(":")
        trees, rest = [], _tokens(extents)
        while rest:
            tree, rest = _tree(rest)
            trees.append(tree)
        found[name] = In(name, *[_term(x, {}) for x in trees], sort=sort.strip() or "real")
    for name, text in data.get("define", {}).items():
        found[name] = read_term(text, found)
    return found


# --- stages ----------------------------------------------------------------------------------------

# The part of the kernel in which an error was raised says which stage refused: the first row that applies.
PLACES: Final = (
    ("points.py", "", "points"),
    ("inequalities.py", "", "inequalities"),
    ("defined.py", "", "definedness"),
    ("step.py", "locate", "rule"),
    ("step.py", "judge", "equality"),
    ("rules.py", "", "rule"),
    ("checker.py", "facts_of", "hypotheses"),
    ("checker.py", "vacuous", "hypotheses"),
    ("checker.py", "_consistent_inputs", "hypotheses"),
)


def stage_of(e: BaseException, default: str) -> str:
    """The stage that an error belongs to: by where it was raised, and what it is."""
    frames: list[tuple[str, str]] = []
    seen: BaseException | None = e
    while seen is not None:  # ``raise .. from None`` keeps the context, where the frames are
        trace = seen.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append((Path(code.co_filename).name, code.co_name))
            trace = trace.tb_next
        seen = seen.__context__
    if isinstance(e, DigestMismatch) and "the witness of question" in str(e):
        return "witness"
    if isinstance(e, DigestMismatch) and "the error bound that is stated" in str(e):
        return "rounding"
    if isinstance(e, DigestMismatch) and default in ("parse", "rule"):
        return "rule" if "after: the law" in str(e) else "digest"
    if default != "rule":
        return default
    if str(e).startswith("witness:"):
        return "hypotheses"
    for file, function, stage in PLACES:
        if any(f == file and function in ("", g) for f, g in frames):
            return stage
    return "equality" if isinstance(e, Refuted) else default


Trial = tuple[str, Callable[[], None]]  # the stage that a refusal is put down to unless its place says more; the judge


def kills(trials: Iterator[Trial], everything: bool = False, skips: Sequence[str] = ()) -> list[Kill]:
    """The refusals, first one first; only the first is looked for unless ``everything`` is wanted."""
    found: list[Kill] = []
    for stage, act in trials:
        if stage in skips:
            continue
        try:
            act()
        except MoaproofError as e:
            found.append(Kill(stage_of(e, stage), f"{type(e).__name__}: {e}"))
        except RecursionError:
            found.append(Kill("parse", "RecursionError: nested too deep"))
        except Exception as e:  # noqa: BLE001  the process of a check would end here, with exit code 3
            found.append(Kill("crash", f"{type(e).__name__}: {e}"))
        if found and not everything:
            break
    return found


# --- certificates to mutate --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Base:
    """A committed certificate with its texts, and what an honest replay of it found."""

    certificate: Certificate
    data: bytes
    report: Report
    claim: str | None


@dataclass
class Bench:
    """Where mutants are made: the committed files, and what the engines know of them."""

    certs: Path = field(default_factory=lambda: folder("certs"))
    kernels: Path = field(default_factory=lambda: folder("kernels"))
    place: Path = field(default_factory=lambda: Path("tests/mutants"))
    known: Known = field(default_factory=Known)
    bases: dict[str, Base] = field(default_factory=dict)
    ideas: Sequence[Idea] = ()

    def mutant(self, name: str) -> Mutant:
        found = [m for x in self.ideas for m in x.mutants if m.id == name]
        if not found:
            raise CertificateInvalid(f"{name}: there is no such mutant")
        return found[0]

    @cached_property
    def texts(self) -> dict[str, bytes]:
        """Every committed kernel text by its file name."""
        return {p.name: p.read_bytes() for p in sorted(self.kernels.glob("*.py"))}

    def base(self, name: str) -> Base:
        """A committed certificate; judged when it is first asked for, since mutants of what is wrong say nothing."""
        if name not in self.bases:
            data = (self.certs / f"{name}.json").read_bytes()
            c = parse(data)
            report = replay(c, lookup, self.known.deciders())
            self.bases[name] = Base(c, data, report, claim_of(c.spec, c.hypotheses))
        return self.bases[name]

    def of_kernel(self, file: str) -> tuple[Certificate, bytes]:
        """The certificate that names a kernel file, and the file's bytes."""
        for path in sorted(self.certs.glob("*.json")):
            c = self.certificate(path.stem)
            if any(k.file == file for k in c.kernels):
                return c, self.texts[file]
        raise CertificateInvalid(f"{file}: no committed certificate names it")

    def certificate(self, name: str) -> Certificate:
        if name not in self._parsed:
            self._parsed[name] = parse((self.certs / f"{name}.json").read_bytes())
        return self._parsed[name]

    _parsed: dict[str, Certificate] = field(default_factory=dict)


# --- the judges of a text ------------------------------------------------------------------------------


def judge_text(data: bytes, c: Certificate, dtype: str, integers: Integers) -> Iterator[Trial]:
    """What is asked of a text that the certificate names."""

    def read() -> None:
        reading = read_kernel(data, c.inputs, c.sizes())
        if reading.term is not c.onf:
            raise DigestMismatch("it reads back to another ONF than the certificate's")
        if (reading.core_digest, reading.dtype) != (c.core_digest(), dtype):
            raise DigestMismatch("its header names another derivation or dtype")

    yield "reader", read
    shape = typeof(c.onf).shape
    yield "safety", lambda: _ignore(check_text(data, c.inputs, c.sizes(), facts_of(c), shape, integers))
    yield "exact replay", lambda: _ignore(exact_replay(data, c))
    yield "ordered replay", lambda: _ignore(ordered_replay(data, c))


def judge_cuda(m: Mutant, bench: Bench) -> Iterator[Trial]:
    """What is asked of a CUDA text: that it is safe, and that it computes its Spec in the simulator."""
    d = m.data
    file = runpy.run_path(str(bench.place.parent / "reader" / "cuda_texts.py"))
    row = next(x for x in file["MUTANTS"] if x.name == d["mutant"]) if "mutant" in d else None
    base = file["TEXTS"][row.base if row else d["base"]]
    data = row.data() if row else edited(base.text, d["edits"]).encode()
    integers = bench.known.deciders().integers
    yield "safety", lambda: _ignore(check_text(data, base.inputs, base.sizes, base.facts, base.out, integers))
    yield "exact replay", lambda: _ignore(replay_text(data, base.spec, base.inputs, [base.example], 0))


def _ignore(_: object) -> None:
    return None


def text_of(m: Mutant, bench: Bench) -> tuple[Certificate, Kernel, bytes]:
    """The certificate, its row of the kernel, and the edited bytes."""
    c, data = bench.of_kernel(m.data["kernel"])
    row = next(k for k in c.kernels if k.file == m.data["kernel"])
    return c, row, edited(data.decode(), m.data["edits"]).encode("latin-1")


# --- the judges of a certificate -----------------------------------------------------------------------


def judge_bytes(
    data: bytes, texts: Mapping[str, bytes], base: Base, deciders: Deciders, forger: bool = False
) -> Iterator[Trial]:
    """What is asked of a certificate's bytes and its texts; ``base`` is what it pretends to be.

    A ``forger`` adds the witnesses that a search finds, as ``derive`` does.
    """
    found: list[Certificate] = []
    yield "parse", lambda: found.append(parse(data))
    if not found:
        return
    c = found[0]
    reports: list[Report] = []

    def laws() -> None:
        if c.rulebook != rulebook_digest():
            raise DigestMismatch("rulebook: the certificate was made with other laws")

    yield "digest", laws
    yield "trace", lambda: _ignore(judge_trace(c))
    yield "rule", lambda: reports.append(replay(c, lookup, deciders))
    yield "inequalities", lambda: _ignore(check_inequalities(c.onf, facts_of(c), deciders))
    yield "claim", lambda: _same_claim(c, base)
    yield "witness", lambda: _on_no_word(deciders.integers, base, forger)
    yield "standalone", lambda: judge_standalone(data)
    yield "cvc5", lambda: _second_solver(deciders.integers)
    for k in c.kernels:
        yield "digest", lambda k=k: _same_digests(k, texts)  # type: ignore[misc]
        if k.file in texts:
            yield from judge_text(texts[k.file], c, k.dtype, deciders.integers)
    if c.kernels:
        yield "witness", lambda: _none_idle(c, deciders.integers)


def _same_claim(c: Certificate, base: Base) -> None:
    if claim_of(c.spec, c.hypotheses) != base.claim:
        raise Refuted(f"it proves another specification than {base.claim!r}")


def _on_no_word(integers: Integers, base: Base, forger: bool) -> None:
    """Every question that was proved has a witness, but for those of the honest certificate that have none."""
    alone = [integers.proved[key] for key in sorted(integers.on_word - set(base.report.on_word))]
    if forger:
        _, alone = witnesses_for(alone)
    if alone:
        raise Unknown(f"{len(alone)} integer questions rest on the solver's word alone")


def _second_solver(integers: Integers) -> None:
    """Every question that has no witness of its own is put to both solvers; the others are not in doubt."""
    alone = [integers.proved[key] for key in sorted(integers.on_word)]
    demand_unsat(alone, ask_all(alone))


def _none_idle(c: Certificate, integers: Integers) -> None:
    idle = set(c.witnesses) - set(integers.proved)
    if idle:
        raise CertificateInvalid(f"witnesses: {len(idle)} of them answer no question that was asked")


def _same_digests(k: Kernel, texts: Mapping[str, bytes]) -> None:
    if k.file not in texts:
        raise CertificateInvalid(f"kernels/{k.file}: the file is missing")
    if hashlib.sha256(texts[k.file]).hexdigest() != k.sha256:
        raise DigestMismatch(f"kernels/{k.file}: its bytes are not those that the certificate names")
    if k.instructions != instructions.digest():
        raise DigestMismatch(f"kernels/{k.file}: the instructions are not those that the certificate names")


def with_text(c: Certificate, row: Kernel, data: bytes) -> tuple[Certificate, bytes]:
    """The certificate with this one kernel, whose header names the certificate's core and whose digest is right."""
    text = re.sub(rb"^core: [0-9a-f]{64}$", b"core: " + c.core_digest().encode(), data, flags=re.MULTILINE)
    return replace(c, kernels=(replace(row, sha256=hashlib.sha256(text).hexdigest()),)), text


def derived(m: Mutant, bench: Bench) -> tuple[Certificate, bytes, Base]:
    """A certificate whose last step restates the ONF as the term that the edited text says, with the bound of that."""
    c, row, data = text_of(m, bench)
    term = read_kernel(data, c.inputs, c.sizes()).term
    step = Step(path=(), before=c.onf.digest, kind="R", rule="restated", after=term, restated=True)
    forged, text = with_text(replace(c, onf=term, steps=(*c.steps, step)), row, data)
    return replace(forged, rounding=_bound(forged)), text, bench.base(c.name)


def _bound(c: Certificate) -> Any:
    """The error bound that a forger states: that of the ONF, if it comes to one."""
    try:
        bound = rounding_of(c, facts_of(c), Deciders())
    except MoaproofError:
        return c.rounding
    return bound.document() if bound else None


# --- changes of a certificate ---------------------------------------------------------------------------


def _at(c: Certificate, where: Any) -> int:
    """A step by its number, or the first of a law."""
    if isinstance(where, str):
        return next(k for k, s in enumerate(c.steps) if s.rule == where)
    return int(where) % len(c.steps)


def _with_step(c: Certificate, k: int, *new: Step) -> Certificate:
    return replace(c, steps=(*c.steps[:k], *new, *c.steps[k + 1 :]))


def _set_step(c: Certificate, where: Any, name: str, value: Any) -> Certificate:
    k, fields = _at(c, where), dict[str, Any]({name: tuple(value) if isinstance(value, list) else value})
    return _with_step(c, k, replace(c.steps[k], **fields))


def _swap(c: Certificate, where: Any, other: Any) -> Certificate:
    a, b = _at(c, where), _at(c, other)
    steps = list(c.steps)
    steps[a], steps[b] = steps[b], steps[a]
    return replace(c, steps=tuple(steps))


def _add_hypothesis(c: Certificate, text: str) -> Certificate:
    return replace(c, hypotheses=(*c.hypotheses, read_term(text, {t.data[0]: t for t in c.inputs})))


def _witness(c: Certificate, name: str, value: int) -> Certificate:
    return replace(c, witness={**c.witness, name: value})


def _cover(c: Certificate, *row: str) -> Certificate:
    """The witness has as many tiles as cover the extent."""
    t = Tiling(*row)
    return _witness(c, t.count, -(-c.witness[t.extent] // t.length(c.witness)))


def _kernel(c: Certificate, name: str, value: str) -> Certificate:
    return replace(c, kernels=tuple(replace(k, **{name: value}) for k in c.kernels))


def _step_after(c: Certificate, where: Any, name: str) -> Certificate:
    k = _at(c, where)
    return _with_step(c, k, replace(c.steps[k], after=getattr(c, name)))


def _swap_kernels(c: Certificate) -> Certificate:
    a, b = (k.sha256 for k in c.kernels[:2])
    return replace(c, kernels=(replace(c.kernels[0], sha256=b), replace(c.kernels[1], sha256=a), *c.kernels[2:]))


def _alter_witnesses(c: Certificate, by: int) -> Certificate:
    """Every number that a witness ends in is greater by so much."""
    return replace(c, witnesses={key: _altered(tree, by) for key, tree in c.witnesses.items()})


def _altered(tree: Any, by: int) -> Any:
    if isinstance(tree, list):
        return [*tree[:-1], _altered(tree[-1], by)] if tree else tree
    return tree + by if isinstance(tree, int) else tree


def _scale_witnesses(c: Certificate, by: int) -> Certificate:
    """Every combination that a witness ends in is taken so many times."""
    return replace(c, witnesses={key: _scaled(tree, by) for key, tree in c.witnesses.items()})


def _scaled(tree: Any, by: int) -> Any:
    if tree[0] == "sum":
        return ["sum", *([by * row[0], *row[1:]] for row in tree[1:])]
    return [tree[0], tree[1], *(_scaled(part, by) for part in tree[2:])]


def _swap_witnesses(c: Certificate) -> Certificate:
    """Each question gets the next one's witness."""
    keys = sorted(c.witnesses)
    return replace(c, witnesses=dict(zip(keys, [c.witnesses[k] for k in keys[1:] + keys[:1]], strict=True)))


def _term_field(c: Certificate, name: str, other: str) -> Certificate:
    return replace(c, **{name: getattr(c, other)})


def _substitute(c: Certificate, name: str, old: str, new: str) -> Certificate:
    """Every occurrence of a subterm of one of the certificate's terms is replaced."""
    names = {t.data[0]: t for t in c.inputs}
    fields: dict[str, Any] = {name: swapped(getattr(c, name), read_term(old, names), read_term(new, names))}
    return replace(c, **fields)


def swapped(t: Term, old: Term, new: Term) -> Term:
    """``t`` with ``new`` where ``old`` stands, both closed."""
    if t is old:
        return new
    return Term(t.op, t.data, [swapped(a, old, new) for a in t.args]) if t.args and t.op != "in" else t


def _restate(c: Certificate, where: Any, old: str, new: str) -> Certificate:
    """A step whose result has one subterm replaced, by no law; the later steps go on from there as far as they can."""
    k = _at(c, where)
    names = {t.data[0]: t for t in c.inputs}
    s = c.steps[k]
    after = swapped(s.after, read_term(old, names), read_term(new, names))
    if after is s.after:
        raise CertificateInvalid(f"restate: {old} does not occur in the result of step {k}")
    return _with_step(c, k, replace(s, after=after, restated=True, params=(), choose=(), backwards=False))


CHANGES: Final[dict[str, Callable[..., Certificate]]] = {
    "set": lambda c, name, value: replace(c, **{name: value}),
    "set-step": _set_step,
    "delete-step": lambda c, where: _with_step(c, _at(c, where)),
    "repeat-step": lambda c, where: _with_step(c, _at(c, where), *[c.steps[_at(c, where)]] * 2),
    "swap-steps": _swap,
    "restate": _restate,
    "add-hypothesis": _add_hypothesis,
    "drop-hypothesis": lambda c, k: replace(c, hypotheses=c.hypotheses[:k] + c.hypotheses[k + 1 :]),
    "repeat-hypothesis": lambda c, k: replace(c, hypotheses=(*c.hypotheses, c.hypotheses[k])),
    "tiling": lambda c, k, *row: replace(c, tilings=(*c.tilings[:k], Tiling(*row), *c.tilings[k + 1 :])),
    "drop-tiling": lambda c, k: replace(c, tilings=c.tilings[:k] + c.tilings[k + 1 :]),
    "witness": _witness,
    "drop-witness": lambda c, name: replace(c, witness={k: v for k, v in c.witness.items() if k != name}),
    "cover": _cover,
    "kernel": _kernel,
    "drop-kernels": lambda c: replace(c, kernels=()),
    "term": _term_field,
    "substitute": _substitute,
    "set-step-after": _step_after,
    "swap-kernels": _swap_kernels,
    "alter-witnesses": _alter_witnesses,
    "scale-witnesses": _scale_witnesses,
    "swap-witnesses": _swap_witnesses,
    "swap-inputs": lambda c, a, b: replace(c, inputs=tuple(_exchanged(list(c.inputs), a, b))),
    "trace": lambda c, *patch: replace(c, trace=patched(json.loads(canonical(c.trace)), patch)),
}


def _exchanged(items: list[Term], a: int, b: int) -> list[Term]:
    items[a], items[b] = items[b], items[a]
    return items


def changed(c: Certificate, change: Sequence[Sequence[Any]], bench: Bench) -> Certificate:
    for name, *args in change:
        if name == "steps-of":
            c = replace(c, steps=bench.certificate(args[0]).steps)
        elif name == "all-of":
            c = bench.certificate(args[0])
        elif name == "term-of":
            c = replace(c, **{args[0]: getattr(bench.certificate(args[1]), args[0])})
        else:
            c = CHANGES[name](c, *args)
    return c


def patched(document: Any, patch: Sequence[Any]) -> Any:
    """The JSON document with the value at a path set, or deleted if none is given."""
    path, *value = patch
    here = document
    for key in path[:-1]:
        here = here[key]
    if value:
        here[path[-1]] = value[0]
    else:
        del here[path[-1]]
    return document


def json_bytes(m: Mutant, data: bytes) -> bytes:
    document = json.loads(data)
    for patch in m.data["patch"]:
        document = patched(document, patch)
    if not m.data.get("raw"):
        core = {k: document[k] for k in CORE_FIELDS if k in document}
        document["core"] = hashlib.sha256(canonical(core)).hexdigest()
    return canonical(document) + b"\n"


def byte_variants(m: Mutant, data: bytes) -> Iterator[bytes]:
    """The files that a ``bytes`` mutant stands for; each of them must die at the promised stage or before it."""
    d = m.data
    if "flip" in d:
        start = data.index(d["after"].encode()) if "after" in d else 0
        end = data.index(d["before"].encode()) if "before" in d else len(data)
        for at in range(start, end, max(1, (end - start) // d["flip"])):
            for bit in (0, 5):
                flipped = bytearray(data)
                flipped[at] ^= 1 << bit
                yield bytes(flipped)
    if "cut" in d:
        yield from (data[: int(len(data) * float(part))] for part in d["cut"])
    if "append" in d:
        yield data + d["append"].encode()
    if "replace" in d:
        yield edited(data.decode(), d["replace"]).encode()


# --- one step --------------------------------------------------------------------------------------------


def judge_step(
    left: Term, right: Term, facts: Sequence[Term], extents: Sequence[Term], deciders: Deciders
) -> Iterator[Trial]:
    """A rewriting of ``left``, which is defined, to ``right`` under indices of these extents."""
    ctx: Context = tuple(Index(e) for e in extents)
    inside = [*facts, *(f for k, e in enumerate(extents) for f in in_range(X(k), e))]
    checker, here = Checker(list(facts), deciders), Position(ctx, inside)
    yield "rule", lambda: checker.defined.check(left, here)
    yield "rule", lambda: _ignore(checker.judge(left, (), left, right, here))


def step_trials(m: Mutant, deciders: Deciders) -> Iterator[Trial]:
    names = names_of(m.data)
    left, right = (read_term(m.data[side], names) for side in ("left", "right"))
    facts = [read_term(f, names) for f in m.data.get("facts", [])]
    extents = [read_term(e, names) for e in m.data.get("extents", [])]
    if "witness" in m.data:  # a tree that pretends to prove a goal
        key = question(*lean(facts, read_term(m.data["witness"]["goal"], names), 0)).key
        deciders.integers.witnesses = {key: m.data["witness"]["tree"]}
    return judge_step(left, right, facts, extents, deciders)


def law_trials(m: Mutant, deciders: Deciders) -> Iterator[Trial]:
    """The most general instance of a law, as it is admitted; called where the law's file is the edited one."""
    rule, params = rules()[m.data["rule"]], _tuple(m.data.get("params", []))
    pair, generic = rule.schema(*params), rule.generic(*params)
    ctx = tuple(Index(e) for e in generic.extents)
    left, right = (erase_dims(fill(p, dict(generic.metas)), ctx) for p in pair)
    facts = [c for given in generic.conditions for c in conjuncts(given)]
    return judge_step(left, right, facts, generic.extents, deciders)


def _tuple(x: Any) -> Any:
    return tuple(map(_tuple, x)) if isinstance(x, list) else x


# --- solvers that answer wrongly ---------------------------------------------------------------------------


class SolverDied(Exception):
    """What a crash of a solver's library looks like from Python."""


def answering(word: str) -> Callable[..., Any]:
    """A stand-in for an engine's entry that answers so whatever is asked."""

    def decide(*_: object) -> Any:
        if word == "crash":
            raise SolverDied("the engine's library failed")
        return {"equal": True, "different": False}.get(word, (word, {}))

    return decide


ENTRIES: Final = {"z3": (integers, "decide"), "sympy": (bits, "sympy_equal"), "normaliser": (bits, "same_index")}


@contextmanager
def engine_answers(engine: str, word: str) -> Iterator[None]:
    """Within, an engine answers the same word to everything."""
    module, name = ENTRIES[engine]
    honest = getattr(module, name)
    setattr(module, name, answering(word))
    try:
        yield
    finally:
        setattr(module, name, honest)


def judge_solver(m: Mutant, bench: Bench) -> list[Kill]:
    """All judges with an engine that lies, and that remembers no honest answer."""
    of, fresh = m.data["of"], Bench(bench.certs, bench.kernels, bench.place, bases=bench.bases, ideas=bench.ideas)
    if "/" in of:
        trials = trials_of(bench.mutant(of), fresh)  # what honest engines are needed for is done here
    else:
        base = bench.base(of)
        made = changed(base.certificate, m.data.get("change", []), bench).to_bytes()
        trials = judge_bytes(made, bench.texts, base, fresh.known.deciders())
    with engine_answers(m.data.get("engine", "z3"), m.data["answers"]):
        return kills(trials, skips=m.skips)


# --- every kind ---------------------------------------------------------------------------------------------


def certificate_bytes(m: Mutant, bench: Bench) -> bytes:
    """The certificate that a mutant of one is, or that a text read back as a term makes."""
    match m.kind:
        case "derived":
            return derived(m, bench)[0].to_bytes()
        case "json":
            return json_bytes(m, bench.base(m.data["of"]).data)
        case "certificate":
            return changed(bench.base(m.data["of"]).certificate, m.data["change"], bench).to_bytes()
    raise NotCovered(f"{m.id}: a {m.kind} mutant is no certificate")


def trials_of(m: Mutant, bench: Bench) -> Iterator[Trial]:
    """The judges of a mutant, in order; ``law`` and ``checker`` mutants are judged in a process of their own."""
    d = m.data
    match m.kind:
        case "text":
            c, row, data = text_of(m, bench)
            return judge_text(data, c, row.dtype, bench.known.deciders().integers)
        case "cuda":
            return judge_cuda(m, bench)
        case "derived":
            forged, text, base = derived(m, bench)
            texts = {forged.kernels[0].file: text}
            return judge_bytes(forged.to_bytes(), texts, base, bench.known.deciders(), forger=True)
        case "step":
            return step_trials(m, bench.known.deciders())
        case "law":
            return law_trials(m, bench.known.deciders())
        case "certificate" | "json":
            return judge_bytes(certificate_bytes(m, bench), bench.texts, bench.base(d["of"]), bench.known.deciders())
    raise NotCovered(f"{m.id}: {m.kind} mutants are not judged here")


def _same_but_witnesses(data: bytes, base: Base) -> bool:
    """Equivalent: the same certificate, in which some question has another witness that is one."""
    return replace(parse(data), witnesses={}) == replace(base.certificate, witnesses={})


def judge(m: Mutant, bench: Bench, everything: bool = False) -> list[Kill]:
    """The refusals of a mutant, first one first; none if it survives."""
    if m.kind == "solver":
        return judge_solver(m, bench)
    if m.kind == "bytes":
        base, worst = bench.base(m.data["of"]), Kill(STAGES[0], "")
        for data in byte_variants(m, base.data):
            found = kills(judge_bytes(data, bench.texts, base, bench.known.deciders()))
            if not found and _same_but_witnesses(data, base):
                continue
            if not found:
                return []
            worst = max(worst, found[0], key=lambda k: STAGES.index(k.stage))
        return [worst]
    return kills(trials_of(m, bench), everything, m.skips)
