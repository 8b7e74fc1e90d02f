"""The integer questions of a certificate, for export: the text of each, where it was asked, and what about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import MoaproofError, Unknown
from ..kernel.bits import Deciders
from ..kernel.certificate import Certificate
from ..kernel.integers import Integers, lean
from ..kernel.question import Question, question
from ..term import Term
from .judges import ask, findings

SCHEMA: Final = "moaproof/smt/1"
INDEX: Final = "index.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, where it was first asked, what about (empty: a choice of the checker), and whether it is proved."""

    question: Question
    at: str
    about: str
    proved: bool = True


@dataclass
class Collector(Integers):
    """The decider, which notes where each question was first asked."""

    at: str = ""
    asked: dict[str, Asked] = field(default_factory=dict)
    error: MoaproofError | None = None  # of the judge that refused

    def prove(self, facts: Sequence[Term], goal: Term, what: str) -> None:
        before = len(self.proved)
        try:
            super().prove(facts, goal, what)
        except Unknown:
            if what:  # a choice of the checker is free to stay open
                self._note(question(*lean(facts, goal, None)), what, proved=False)
            raise
        for q in list(self.proved.values())[before:]:
            self._note(q, what, proved=True)

    def _note(self, q: Question, what: str, proved: bool) -> None:
        self.asked.setdefault(q.key, Asked(q, self.at, what, proved))


def collect(c: Certificate, data: bytes, texts: Mapping[str, bytes]) -> Collector:
    """Judge a certificate (with its bytes) and its kernels; the questions asked, also where a judge refused."""
    found = Collector()
    f = findings(c, data, Deciders(found))
    places = [*(f"step {k} ({s.rule})" for k, s in enumerate(c.steps)), "ONF"]

    def progress(number: int) -> None:
        found.at = places[number + 1]

    try:
        for judge in ("replay", "source"):
            found.at = f"Spec and {places[0]}" if judge == "replay" else judge
            ask(judge, f, texts, progress)
    except MoaproofError as e:
        found.error = e
    return found


def contents(c: Certificate, found: Collector) -> dict[str, bytes]:
    """File name -> bytes, for every question and the index."""
    files = {f"{key}.smt2": a.question.text.encode() for key, a in found.asked.items()}
    rows: list[dict[str, Any]] = [
        {
            "key": key,
            "file": f"{key}.smt2",
            "at": a.at,
            "about": a.about or None,
            "expected": "unsat",
            "status": "proved" if a.proved else "unknown",
            "witness": key in c.witnesses,
        }
        for key, a in found.asked.items()
    ]
    index = {
        "schema": SCHEMA,
        "certificate": c.name,
        "core": c.core_digest(),
        "stopped": str(found.error) if found.error else None,
        "questions": rows,
    }
    return {**files, INDEX: (json.dumps(index, indent=1, ensure_ascii=False) + "\n").encode()}
