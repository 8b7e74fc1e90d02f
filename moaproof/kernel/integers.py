"""Integer obligations: proved by a witness and by Z3, for all sizes.  Trusted; only the reading of Z3's answer is here.

A question is a list of facts and a goal, all truth-valued index terms over sizes and free indices.  Sizes are natural
numbers.  Z3 gets the text of the question.  Only the literal ``unsat`` proves; ``sat`` is checked again on the model by
the evaluator; all else is unknown.  Where the certificate carries a witness, no word of Z3's is needed; where it does
not, the question is counted as resting on the solver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ..errors import BackendMissing, DigestMismatch, IllFormed, JudgesDisagree, Refuted, Unknown
from ..semantics import Numbers, meaning
from ..term import TRUE, Term, subterms
from .question import Question, question
from .witness import closes

MAX_PROVED = 20_000  # for one certificate; those that are committed ask at most 2,000
RLIMIT = 4_000_000  # Z3 resource units for one question: the same on every machine, unlike a time limit


@dataclass
class Tally:
    """How many questions an engine decided: the same tree on both sides, answered before, or decided now."""

    trivial: int = 0
    repeated: int = 0
    substantive: int = 0

    def add(self, other: Tally) -> None:
        self.trivial += other.trivial
        self.repeated += other.repeated
        self.substantive += other.substantive

    def row(self) -> list[int]:
        return [self.trivial, self.repeated, self.substantive]


Answer = tuple[str, dict[str, int]]  # Z3's word, and a model where it says "sat"


@dataclass
class Integers:
    """The decider of integer questions, with what it has answered.

    ``answers``: Z3's, by key; certificates may share them.  ``witnesses``: those that a certificate carries, by the key
    of their question.  ``proved``: the questions that were proved.  ``on_word``: the keys of those for which
    there is no witness, only Z3's word.
    """

    tally: Tally = field(default_factory=Tally)
    answers: dict[str, Answer] = field(default_factory=dict)
    witnesses: Mapping[str, Any] = field(default_factory=dict)
    proved: dict[str, Question] = field(default_factory=dict)
    on_word: set[str] = field(default_factory=set)

    def prove(self, facts: Sequence[Term], goal: Term, what: str) -> None:
        """Return if the goal follows from the facts; else ``Refuted`` with a witness, or ``Unknown``."""
        if goal is TRUE or goal in facts:
            self.tally.trivial += 1
            return
        if sum(self.tally.row()) >= MAX_PROVED:
            raise Unknown(f"{what}: more than {MAX_PROVED} questions for one certificate")
        for reach in (0, 1, None):  # the facts that were left out may matter to what is not proved
            lean_facts, lean_goal = lean(facts, goal, reach)
            q = question(lean_facts, lean_goal)
            if q.key in self.proved:
                self.tally.repeated += 1
                return
            answer, model = self._ask(q, what)
            if answer == "unsat":
                self.tally.substantive += 1
                return
        if answer == "sat":
            raise Refuted(what, confirmed(lean_facts, lean_goal, model, what))
        raise Unknown(f"{what}: Z3 answers {answer!r}")

    def _ask(self, q: Question, what: str) -> Answer:
        if q.key not in self.answers:
            self.answers[q.key] = decide(q)
        answer, model = self.answers[q.key]
        if q.key in self.witnesses:
            if not closes(q, self.witnesses[q.key]):
                raise DigestMismatch(f"{what}: the witness of question {q.key[:12]} does not prove it")
            if answer == "sat":
                raise JudgesDisagree(f"{what}: a witness proves question {q.key[:12]}, and Z3 has a model against it")
        elif answer == "unsat":
            self.on_word.add(q.key)
        else:
            return answer, model
        self.proved[q.key] = q
        return "unsat", {}

    def holds(self, facts: Sequence[Term], goal: Term) -> bool:
        """Is the goal proved?  Refuted and unknown are both no."""
        try:
            self.prove(facts, goal, "")
        except (Refuted, Unknown):
            return False
        return True


def confirmed(facts: Iterable[Term], goal: Term, model: dict[str, int], what: str) -> dict[str, int]:
    """The model, after the evaluator has seen it satisfy the facts and break the goal."""
    if any(_reads(f) for f in (*facts, goal)):
        return model  # it speaks of the contents of a mask, which the evaluator has not got
    algebra = Model(model)
    try:
        good = all(meaning(f, (), (), (), algebra) for f in facts) and not meaning(goal, (), (), (), algebra)
    except IllFormed:
        return model  # it divides by what is not positive, of which the evaluator does not speak
    if not good:
        raise JudgesDisagree(f"{what}: Z3's model {model} is none")
    return model


def lean(facts: Iterable[Term], goal: Term, reach: int | None) -> tuple[frozenset[Term], Term]:
    """The question without unrelated facts, its indices numbered from 0, so that equal questions become one.

    What is in a mask is left out unless the goal speaks of it; then a fact is related if it shares an index with the
    goal or with a related fact, and in ``reach`` more rounds if it shares a size (None: every fact is related).
    Leaving facts out is sound.
    """
    if reach is None:
        kept = set(facts)
        return _numbered(kept, goal, {x for f in (*kept, goal) for x in _leaves(f)})
    pool = {f for f in facts if _reads(goal) or not _reads(f)}
    of_sizes = {f for f in pool if not any(x.op == "x" for x in _leaves(f))}
    seen = set(_leaves(goal))
    kept = set[Term]()
    for turn in range(reach + 1):
        shared = {x for x in seen if x.op == "x" or turn}
        while grown := {f for f in pool - of_sizes - kept if not shared.isdisjoint(_leaves(f))}:
            kept |= grown
            seen = seen.union(*map(_leaves, grown))
            shared |= {x for x in seen if x.op == "x"}
        grown = {f for f in of_sizes if not seen.isdisjoint(_leaves(f))}
        kept |= grown
        seen = seen.union(*map(_leaves, grown))
    return _numbered(kept, goal, seen)


def _numbered(facts: set[Term], goal: Term, leaves: Iterable[Term]) -> tuple[frozenset[Term], Term]:
    names = {x: Term("x", k) for k, x in enumerate(sorted((x for x in leaves if x.op == "x"), key=lambda x: x.data))}
    return frozenset(_rename(f, names) for f in facts), _rename(goal, names)


@lru_cache(maxsize=50_000)
def _reads(t: Term) -> bool:
    return any(u.op == "flat" for u in subterms(t))


@lru_cache(maxsize=50_000)
def _leaves(t: Term) -> frozenset[Term]:
    """The sizes and free indices of a term."""
    return frozenset(u for u in subterms(t) if u.op in ("size", "x"))


def _rename(t: Term, names: dict[Term, Term]) -> Term:
    if t.op == "x":
        return names[t]
    return Term(t.op, t.data, [_rename(a, names) for a in t.args]) if t.args else t


class Model(Numbers):
    """The evaluator at a model; free indices are looked up like sizes."""

    def __init__(self, values: dict[str, int]):
        super().__init__(values, {})

    def size(self, name: str) -> int:
        return self.sizes.get(name, 0)

    def symbol(self, x: Term) -> int:
        return self.sizes.get(f"x{x.data}'", 0)


def decide(q: Question) -> Answer:
    """Z3's answer to a question, and a model if there is one: sizes by name, free index k as ``xk'``."""
    try:
        import z3
    except ImportError:
        raise BackendMissing("the check needs z3-solver: pip install z3-solver") from None
    solver = z3.Solver(ctx=z3.Context())
    solver.set("rlimit", RLIMIT)
    solver.set("random_seed", 0)
    solver.from_string(q.text)
    answer = str(solver.check())
    if answer != "sat":
        return (answer if answer == "unsat" else f"{answer} ({solver.reason_unknown()})"), {}
    model = solver.model()
    values = {str(d.name()): model[d].as_long() for d in model.decls()}
    return answer, {_plain(v): c for v, c in sorted(values.items()) if v[0] in "sx"}


def _plain(variable: str) -> str:
    kind, _, name = variable.partition(".")
    return name if kind == "s" else f"x{name}'"
