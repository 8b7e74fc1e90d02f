"""Integer obligations: decided by Z3, for all sizes.  Trusted: the translation and the reading of the answer.

A question is a list of facts and a goal, all truth-valued index terms over sizes and free indices.  Sizes are natural
numbers.  Floor division becomes a fresh quotient bounded by its divisor; Z3 never sees div, mod or a division.  Only
the literal ``unsat`` proves; ``sat`` is checked again on the witness by the evaluator; all else is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ..errors import BackendMissing, IllFormed, JudgesDisagree, Refuted, Unknown
from ..semantics import Numbers, meaning
from ..shapes import normal
from ..term import TRUE, Term, subterms

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


@dataclass
class Integers:
    """Z3 as a decider, with the questions that it has answered."""

    tally: Tally = field(default_factory=Tally)
    answers: dict[tuple[frozenset[Term], Term], tuple[str, dict[str, int]]] = field(default_factory=dict)

    def prove(self, facts: Sequence[Term], goal: Term, what: str) -> None:
        """Return if the goal follows from the facts; else ``Refuted`` with a witness, or ``Unknown``."""
        if goal is TRUE or goal in facts:
            self.tally.trivial += 1
            return
        asked = len(self.answers)
        for question in (lean(facts, goal, 0), lean(facts, goal, 1), (frozenset(facts), goal)):
            answer, witness = self._ask(*question)  # the facts that were left out may matter to what is not proved
            if answer == "unsat":
                break
        if answer == "unsat":
            if len(self.answers) > asked:
                self.tally.substantive += 1
            else:
                self.tally.repeated += 1
        elif answer == "sat":
            raise Refuted(what, self.confirmed(facts, goal, witness, what))
        else:
            raise Unknown(f"{what}: Z3 answers {answer!r}")

    def _ask(self, facts: frozenset[Term], goal: Term) -> tuple[str, dict[str, int]]:
        if (facts, goal) not in self.answers:
            self.answers[facts, goal] = decide(facts, goal)
        return self.answers[facts, goal]

    def holds(self, facts: Sequence[Term], goal: Term) -> bool:
        """Is the goal proved?  Refuted and unknown are both no."""
        try:
            self.prove(facts, goal, "")
        except (Refuted, Unknown):
            return False
        return True

    def confirmed(self, facts: Sequence[Term], goal: Term, witness: dict[str, int], what: str) -> dict[str, int]:
        """The witness, after the evaluator has seen it satisfy the facts and break the goal."""
        if any(t.op == "flat" for f in (*facts, goal) for t in subterms(f)):
            return witness  # it speaks of the contents of a mask, which the evaluator has not got
        algebra = Witness(witness)
        try:
            good = all(meaning(f, (), (), (), algebra) for f in facts) and not meaning(goal, (), (), (), algebra)
        except IllFormed:
            return witness  # it divides by what is not positive, of which the evaluator does not speak
        if not good:
            raise JudgesDisagree(f"{what}: Z3's witness {witness} is none")
        return witness


def lean(facts: Iterable[Term], goal: Term, reach: int) -> tuple[frozenset[Term], Term]:
    """The question without unrelated facts, its indices numbered from 0, so that equal questions become one.

    What is in a mask is left out unless the goal speaks of it; then a fact is related if it shares an index with the
    goal or with a related fact, and in ``reach`` more rounds if it shares a size.  Leaving facts out is sound.
    """
    pool = {f for f in facts if _reads(goal) or not _reads(f)}
    of_sizes = {f for f in pool if not any(x.op == "x" for x in _leaves(f))}
    seen = set(_leaves(goal))
    kept: set[Term] = set()
    for turn in range(reach + 1):
        shared = {x for x in seen if x.op == "x" or turn}
        while grown := {f for f in pool - of_sizes - kept if not shared.isdisjoint(_leaves(f))}:
            kept |= grown
            seen = seen.union(*map(_leaves, grown))
            shared |= {x for x in seen if x.op == "x"}
        grown = {f for f in of_sizes if not seen.isdisjoint(_leaves(f))}
        kept |= grown
        seen = seen.union(*map(_leaves, grown))
    names = {x: Term("x", k) for k, x in enumerate(sorted((x for x in seen if x.op == "x"), key=lambda x: x.data))}
    return frozenset(_rename(f, names) for f in kept), _rename(goal, names)


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


class Witness(Numbers):
    """The evaluator at a witness; free indices are looked up like sizes."""

    def __init__(self, values: dict[str, int]):
        super().__init__(values, {})

    def size(self, name: str) -> int:
        return self.sizes.get(name, 0)


def decide(facts: Iterable[Term], goal: Term) -> tuple[str, dict[str, int]]:
    """Z3's answer to "facts and not goal", and a witness if there is one."""
    try:
        import z3
    except ImportError:
        raise BackendMissing("the check needs z3-solver: pip install z3-solver") from None
    solver = z3.Solver(ctx=z3.Context())
    solver.set("rlimit", RLIMIT)
    solver.set("random_seed", 0)
    translate = _Translate(z3, solver.ctx)
    claims = [translate(f) for f in sorted(set(facts), key=lambda f: f.digest)]
    claims.append(z3.Not(translate(goal)))
    solver.add(*translate.definitions, *claims)
    answer = str(solver.check())
    if answer != "sat":
        return (answer if answer == "unsat" else f"{answer} ({solver.reason_unknown()})"), {}
    model = solver.model()
    values = {name: model.eval(const, model_completion=True).as_long() for name, const in translate.integers.items()}
    return answer, values


class _Translate:
    """Index and truth-valued terms to Z3, in a context of their own."""

    def __init__(self, z3: Any, ctx: Any):
        self.z3, self.ctx = z3, ctx
        self.integers: dict[str, Any] = {}
        self.reads: dict[Term, Any] = {}
        self.done: dict[Term, Any] = {}
        self.definitions: list[Any] = []
        self.fresh = 0

    def __call__(self, t: Term) -> Any:
        if t not in self.done:
            self.done[t] = self.term(t)
        return self.done[t]

    def integer(self, name: str, natural: bool) -> Any:
        if name not in self.integers:
            self.integers[name] = self.z3.Int(name, self.ctx)
            if natural:
                self.definitions.append(self.integers[name] >= 0)
        return self.integers[name]

    def term(self, t: Term) -> Any:
        z3, a = self.z3, t.args
        match t.op:
            case "int":
                return z3.IntVal(t.data, self.ctx)
            case "size":
                return self.integer(t.data, natural=True)
            case "x":
                return self.integer(f"x{t.data}'", natural=False)
            case "iadd":
                return self(a[0]) + self(a[1])
            case "imul":
                return self(a[0]) * self(a[1])
            case "imin":
                return z3.If(self(a[0]) < self(a[1]), self(a[0]), self(a[1]))
            case "idiv":
                return self.quotient(self(a[0]), self(a[1]))
            case "true":
                return z3.BoolVal(True, self.ctx)
            case "lt":
                return self(a[0]) < self(a[1])
            case "and":
                return z3.And(self(a[0]), self(a[1]))
            case "not":
                return z3.Not(self(a[0]))
            case "flat":  # a mask: one unknown truth value for each offset
                key = Term("flat", None, (a[0], normal(a[1])))
                if key not in self.reads:
                    self.reads[key] = z3.Bool(f"mask{len(self.reads)}'", self.ctx)
                return self.reads[key]
        raise IllFormed(f"{t.op} is no integer question")

    def quotient(self, a: Any, b: Any) -> Any:
        q = self.z3.Int(f"q{self.fresh}'", self.ctx)  # a size has no apostrophe
        self.fresh += 1
        self.definitions.append(self.z3.Implies(b > 0, self.z3.And(b * q <= a, a < b * q + b)))
        return q
