"""All judges on one certificate.

| judge | does |
|---|---|
| replay | the Spec from the captured graph (claim a), every step and what the ONF owes (claim b) |
| source | the shipped texts: read back, safe, replayed exactly (claim c) |
| standalone | claim (b) again by the second writing of the checker, in a Python of its own without any package |
| cvc5 | every integer question that the others met, by Z3 and cvc5 both |

Nothing here decides anything: it calls the trusted parts in order and gathers what they found.  A verdict exists only
if every judge that was asked for accepted.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moaproof.rewrite_rules import digest as rulebook_digest
from moaproof.rewrite_rules import lookup

from .. import instructions
from ..errors import CertificateInvalid, DigestMismatch, JudgesDisagree, MoaproofError, Refuted, Unknown
from ..kernel.bits import Deciders
from ..kernel.certificate import Certificate, parse
from ..kernel.checker import Report, facts_of, replay
from ..kernel.claims import claim_of
from ..kernel.integers import Integers, Tally
from ..kernel.rounding import Bound, words
from ..operators import typeof
from ..reader.reader import read_kernel
from ..reader.safety import SafetyReport, check_text
from ..term import subterms
from ..trace.table import spec_of
from .ordered import ordered_replay
from .replay import exact_replay
from .solvers import Answered, ask_all, demand_unsat

Texts = dict[str, bytes]  # kernel file name -> its bytes

JUDGES = ("replay", "source", "standalone")  # by default
ASSUMPTIONS = ("compiler", "exp", "table", "python")  # by name; CERTIFICATES.md says what each is
STANDALONE = Path(__file__).resolve().parents[1] / "standalone"


@dataclass
class Verdict:
    """What was accepted, by whom, and under which name."""

    name: str
    claim: str | None  # None: proved for another specification
    core: str
    spec: str
    judges: tuple[str, ...]
    classes: dict[str, int]
    z3: Tally
    sympy: Tally
    normaliser: Tally
    steps: list[dict[str, Any]]
    questions: int = 0  # distinct integer questions that were proved, by all judges
    on_word: tuple[str, ...] = ()  # those without a witness, by key
    kernels: list[str] = field(default_factory=list)
    points: int = 0  # cells compared by the exact replay of the shipped texts
    ordered: int = 0  # cells compared by their ordered replay
    memory: int = 0  # obligations of memory that their accesses owed
    deviations: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ASSUMPTIONS
    bound: tuple[str, ...] = ()  # of the error bound: roundings in all, exps on a weight, roundings of a score

    def sentence(self) -> str:
        """The verdict in words, written here and never read from a certificate."""
        said = []
        if "replay" in self.judges:
            what = f"the claim named {self.claim}" if self.claim else "another specification, which has no name"
            bits = "the value over the reals" if self.classes["R"] else "every bit"
            by = " and standalone" if "standalone" in self.judges else ""
            said.append(f"(b) proved by replay{by}: {what}: the ONF keeps {bits} of the Spec, for all sizes")
            said.append("rounding: an error bound, by replay" if self.bound else "rounding: no bound is stated")
        elif "standalone" in self.judges:
            said.append("(b) proved by standalone: the ONF is equal to the Spec over the reals, for all sizes")
        if "cvc5" in self.judges:
            said.append(f"{self.questions} integer questions decided by Z3 and cvc5")
        if "source" in self.judges:
            texts = f"{len(self.kernels)} kernel text{'s' * (len(self.kernels) != 1)}"
            said.append(
                f"(c) proved by source: {texts} read back to the ONF; every access in range, every cell written once"
            )
        return "; ".join(said)

    def row(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "claim": self.claim,
            "verdict": "proved",
            "sentence": self.sentence(),
            "core": self.core,
            "spec": self.spec,
            "judges": list(self.judges),
            "classes": self.classes,
            "obligations": {"z3": self.z3.row(), "sympy": self.sympy.row(), "normaliser": self.normaliser.row()},
            "columns": ["trivial", "repeated", "substantive"],
            "steps": self.steps,
            "questions": self.questions,
            "on_word": list(self.on_word),
            "kernels": self.kernels,
            "cells": self.points,
            "ordered": self.ordered,
            "memory": self.memory,
            "bound": list(self.bound),
            "deviations": list(self.deviations),
            "assumptions": list(self.assumptions),
        }


@dataclass
class Sources:
    """What the source judge found in the texts of a certificate; those that differ in the import line are one."""

    bodies: set[bytes] = field(default_factory=set)
    safety: list[SafetyReport] = field(default_factory=list)
    cells: int = 0  # compared by the exact replay
    ordered: int = 0  # compared by the ordered replay

    def owed(self) -> int:
        """Obligations of memory that were proved."""
        return sum(len(s.obligations) for s in self.safety)


@dataclass
class Findings:
    """What the judges have found so far, on one certificate and its bytes."""

    certificate: Certificate
    data: bytes
    deciders: Deciders
    report: Report | None = None
    deviations: tuple[str, ...] = ()
    sources: Sources = field(default_factory=Sources)
    replies: Answered = field(default_factory=dict)  # of solvers; certificates may share them

    def verdict(self, judges: tuple[str, ...]) -> Verdict:
        """All of it, after every judge that was asked for has accepted."""
        c, integers = self.certificate, self.deciders.integers
        idle = set(c.witnesses) - set(integers.proved)
        if idle and {"replay", "source"} <= set(judges):
            raise CertificateInvalid(f"witnesses: {len(idle)} of them answer no question that was asked")
        found = self.report or Report(c.name, c.core_digest(), c.spec.digest)
        engines = ("z3", "sympy", "normaliser")
        steps = [{"rule": s.rule, "class": s.kind, **{e: getattr(s, e).row() for e in engines}} for s in found.steps]
        claim = claim_of(c.spec, c.hypotheses) if self.report else None
        return Verdict(
            c.name, claim, found.core, found.spec, judges, found.classes(), found.z3, found.sympy, found.normaliser,
            steps, len(integers.proved), tuple(sorted(integers.on_word)), [k.file for k in c.kernels],
            self.sources.cells, self.sources.ordered, self.sources.owed(), self.deviations,
            assumptions_of(c, judges, bool(integers.on_word)), _counts(found.rounding),
        )  # fmt: skip


def _counts(bound: Bound | None) -> tuple[str, ...]:
    """Roundings of the result, and of a mean: exps on each weight, roundings of a score."""
    if bound is None:
        return ()
    growth = bound.near.growth
    shared = [(words(m.exps), words(s.growth.rounds)) for m in growth.means for s in m.shifts]
    return (words(growth.rounds), *(x for pair in shared for x in pair))


def judge_certificate(
    data: bytes, texts: Mapping[str, bytes], judges: tuple[str, ...] = JUDGES, deciders: Deciders | None = None
) -> Verdict:
    """Judge a certificate's bytes with the texts of its kernels; raises what the first judge that refuses raises."""
    f = findings(parse(data), data, deciders)
    for judge in judges:
        ask(judge, f, texts)
    return f.verdict(judges)


def findings(c: Certificate, data: bytes, deciders: Deciders | None = None) -> Findings:
    """Nothing yet; the witnesses that the certificate carries are given to the decider of integers."""
    deciders = deciders or Deciders()
    deciders.integers.witnesses = c.witnesses
    return Findings(c, data, deciders)


def ask(
    judge: str, f: Findings, texts: Mapping[str, bytes] | None = None, progress: Callable[[int], None] | None = None
) -> None:
    """Ask one judge.  Returns if it accepts; ``progress`` is told the number of each step that replay has judged."""
    match judge:
        case "replay":
            f.report, f.deviations = judge_replay(f.certificate, f.deciders, progress)
        case "source":
            f.sources = judge_source(f.certificate, texts or {}, f.deciders.integers)
        case "standalone":
            judge_standalone(f.data, accepted=f.report is not None)
        case "cvc5":
            if f.report is None:
                raise CertificateInvalid("judge cvc5: it asks what replay has proved: add --judge replay")
            questions = list(f.deciders.integers.proved.values())
            demand_unsat(questions, ask_all(questions, known=f.replies))
        case _:
            raise ValueError(f"{judge} is no judge")


def judge_standalone(data: bytes, accepted: bool = False) -> None:
    """Have the stand-alone checker judge these very bytes; ``accepted`` says that replay has accepted them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "certificate.json"
        path.write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(STANDALONE), str(path)], capture_output=True, text=True, check=False
        )
    line = done.stdout.partition("\n")[0]
    said = line.removeprefix(f"{path}: ") if line.startswith(f"{path}: ") else ""  # else it did not come to an answer
    if done.returncode == 0 and said.startswith("proved: "):
        return
    why = f"standalone: {said or 'no answer: it was ended, or failed'}"
    refusals: dict[int, type[MoaproofError]] = {1: Refuted, 2: CertificateInvalid, 4: DigestMismatch}
    if done.returncode not in refusals or not said:
        raise Unknown(why)
    if accepted:
        raise JudgesDisagree(f"{why}; replay accepts it")
    raise refusals[done.returncode](why)


def assumptions_of(c: Certificate, judges: tuple[str, ...], on_word: bool) -> tuple[str, ...]:
    """What a verdict rests on beside what was proved, by name; ``on_word``: a question has no witness."""
    named = {"python", "table"} if "replay" in judges else {"python"}
    if on_word:
        named.add("solvers")
    if "source" in judges:
        named.add("compiler")
        if any(t.op == "f" and t.data == "exp" for t in subterms(c.onf)):
            named.add("exp")
    return tuple(sorted(named))


def judge_replay(
    c: Certificate, deciders: Deciders, progress: Callable[[int], None] | None = None
) -> tuple[Report, tuple[str, ...]]:
    """The Spec from the captured graph, the laws, then every step; the replay's report and the trace's deviations."""
    deviations = judge_trace(c)
    if c.rulebook != rulebook_digest():
        raise DigestMismatch("rulebook: the certificate was made with other laws; make regen derives it again")
    return replay(c, lookup, deciders, progress), deviations


def judge_trace(c: Certificate) -> tuple[str, ...]:
    """Rebuild the Spec from the captured graph; it must be the certificate's, with the same inputs and hypotheses."""
    spec = spec_of(c.trace)
    for what, ours, theirs in (
        ("spec", c.spec, spec.term),
        ("inputs", c.inputs, spec.inputs),
        ("hypotheses", c.hypotheses, spec.hypotheses),
    ):
        if ours != theirs:
            raise DigestMismatch(f"trace: the {what} are not those of the captured graph")
    return spec.deviations


def judge_source(c: Certificate, texts: Mapping[str, bytes], integers: Integers) -> Sources:
    """Every shipped text: read back to the ONF, its memory audited, and replayed exactly and in order."""
    found = Sources()
    facts, shape = facts_of(c), typeof(c.onf).shape
    for k in c.kernels:
        if k.file not in texts:
            raise CertificateInvalid(f"kernels/{k.file}: the file is missing or cannot be read")
        data = texts[k.file]
        if hashlib.sha256(data).hexdigest() != k.sha256:
            raise DigestMismatch(f"kernels/{k.file}: its bytes are not those that the certificate names")
        if k.instructions != instructions.digest():
            raise DigestMismatch(f"kernels/{k.file}: moaproof/instructions is not what the certificate names")
        try:
            reading = read_kernel(data, c.inputs, c.sizes())
            if reading.term is not c.onf:
                raise DigestMismatch("it reads back to another ONF than the certificate's")
            if (reading.core_digest, reading.dtype) != (c.core_digest(), k.dtype):
                raise DigestMismatch("its header names another derivation or dtype")
            body = data.partition(b"\n@")[2]  # texts of several dtypes differ in the import line alone
            if body not in found.bodies:
                found.bodies.add(body)
                found.safety.append(check_text(data, c.inputs, c.sizes(), facts, shape, integers))
                found.cells += exact_replay(data, c)
                found.ordered += ordered_replay(data, c)
        except MoaproofError as e:
            e.args = (f"kernels/{k.file}: {e.args[0]}", *e.args[1:])
            raise
    return found
