"""All judges on one certificate: trace (claim a), replay (claim b), source and exact replay (claim c).

Nothing here decides anything: it calls the trusted parts in order and gathers what they found.  A verdict exists only
if every judge that was asked for accepted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moaproof.rewrite_rules import digest as rulebook_digest
from moaproof.rewrite_rules import lookup

from .. import instructions
from ..errors import CertificateInvalid, DigestMismatch, MoaproofError
from ..kernel.bits import Deciders
from ..kernel.certificate import Certificate, parse
from ..kernel.checker import Report, replay
from ..kernel.claims import claim_of
from ..kernel.integers import Tally
from ..reader.reader import read_kernel
from ..term import subterms
from ..trace.table import spec_of
from .replay import exact_replay

Texts = dict[str, bytes]  # kernel file name -> its bytes

JUDGES = ("replay", "source")
ASSUMPTIONS = ("compiler", "exp", "table", "python", "solvers")  # by name; CERTIFICATES.md says what each is


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
    kernels: list[str] = field(default_factory=list)
    points: int = 0  # cells compared by the exact replay of the shipped texts
    deviations: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ASSUMPTIONS

    def sentence(self) -> str:
        """The verdict in words, written here and never read from a certificate."""
        said = []
        if "replay" in self.judges:
            what = f"the claim named {self.claim}" if self.claim else "another specification, which has no name"
            bits = "the value over the reals" if self.classes["R"] else "every bit"
            said.append(f"(b) proved by replay: {what}: the ONF keeps {bits} of the Spec, for all sizes")
        if "source" in self.judges:
            texts = f"{len(self.kernels)} kernel text{'s' * (len(self.kernels) != 1)}"
            said.append(f"(c) proved by source: {texts} read back to the ONF")
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
            "kernels": self.kernels,
            "cells": self.points,
            "deviations": list(self.deviations),
            "assumptions": list(self.assumptions),
        }


def judge_certificate(
    data: bytes,
    texts: Mapping[str, bytes],
    judges: tuple[str, ...] = JUDGES,
    deciders: Deciders | None = None,
    progress: Callable[[int], None] | None = None,
) -> Verdict:
    """Judge a certificate's bytes with the texts of its kernels; raises what the first judge that refuses raises."""
    c = parse(data)
    report, deviations = judge_replay(c, deciders, progress) if "replay" in judges else (None, ())
    cells = judge_source(c, texts) if "source" in judges else 0
    return verdict_of(c, judges, report, cells, deviations)


def verdict_of(
    c: Certificate, judges: tuple[str, ...], report: Report | None, cells: int, deviations: tuple[str, ...]
) -> Verdict:
    """What the judges found, gathered; ``report`` is the replay's, if it was asked for."""
    found = report or Report(c.name, c.core_digest(), c.spec.digest)
    steps = [
        {"rule": s.rule, "class": s.kind, "z3": s.z3.row(), "sympy": s.sympy.row(), "normaliser": s.normaliser.row()}
        for s in found.steps
    ]
    claim = claim_of(c.spec, c.hypotheses) if report else None
    return Verdict(
        c.name, claim, found.core, found.spec, judges, found.classes(), found.z3, found.sympy, found.normaliser, steps,
        [k.file for k in c.kernels], cells, deviations, assumptions_of(c, judges),
    )  # fmt: skip


def assumptions_of(c: Certificate, judges: tuple[str, ...]) -> tuple[str, ...]:
    """What a verdict rests on beside what was proved, by name."""
    named = {"python", "solvers", "table"} if "replay" in judges else {"python", "solvers"}
    if "source" in judges:
        named.add("compiler")
        if any(t.op == "f" and t.data == "exp" for t in subterms(c.onf)):
            named.add("exp")
    return tuple(sorted(named))


def judge_replay(
    c: Certificate, deciders: Deciders | None = None, progress: Callable[[int], None] | None = None
) -> tuple[Report, tuple[str, ...]]:
    """The Spec from the captured graph, the laws, then every step; the replay's report and the trace's deviations."""
    deviations = judge_trace(c)
    if c.rulebook != rulebook_digest():
        raise DigestMismatch("rulebook: the certificate was made with other laws; make regen derives it again")
    return replay(c, lookup, deciders or Deciders(), progress), deviations


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


def judge_source(c: Certificate, texts: Mapping[str, bytes]) -> int:
    """Read every shipped text back to the ONF, and replay it exactly; the number of cells compared."""
    cells = 0
    replayed: set[bytes] = set()
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
        except MoaproofError as e:
            e.args = (f"kernels/{k.file}: {e.args[0]}", *e.args[1:])
            raise
        if reading.term is not c.onf:
            raise DigestMismatch(f"kernels/{k.file}: it reads back to another ONF than the certificate's")
        if (reading.core_digest, reading.dtype) != (c.core_digest(), k.dtype):
            raise DigestMismatch(f"kernels/{k.file}: its header names another derivation or dtype")
        body = data.partition(b"@njit")[2]  # texts of several dtypes differ in the import line alone: one replay is due
        if body not in replayed:
            replayed.add(body)
            cells += exact_replay(data, c)
    return cells
