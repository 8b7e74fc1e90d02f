"""The judge ``cvc5``: z3 and cvc5 both, on every integer question that was proved.

A question is what the other judges met, and its text is printed anew from it; nothing is read from a file, and no hint
is added to it.  Only the literal ``unsat`` of every solver is accepted: ``sat`` of any is a disagreement, and all else
(``unknown``, an error, nothing) leaves the question open.  A solver is bounded by the resources that it counts, which
are the same on every machine, and never by time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import BackendMissing, JudgesDisagree, Unknown
from ..kernel.question import Question

PROVED: Final = "unsat"
REFUTED: Final = "sat"
MAX_WORD: Final = 200  # characters of an answer that are kept
EXPORT: Final = "`moaproof export --smt CERT` writes its text"


@dataclass(frozen=True, slots=True)
class Solver:
    """A solver of SMT-LIB texts.

    ``answer`` gives the word for a text under the options, in the spelling of the solver's own command line, or what
    it complains of.  ``version`` is the solver's own word.  Both raise ``BackendMissing`` where it is not installed.
    """

    name: str
    options: Mapping[str, str]
    answer: Callable[[str, Mapping[str, str]], str]
    version: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a solver said of the question with this key, and after how many seconds."""

    solver: str
    key: str
    word: str
    seconds: float


# --- the two -----------------------------------------------------------------------------------------


def _z3() -> Any:
    try:
        import z3
    except ImportError:
        raise BackendMissing("judge cvc5: it needs z3-solver beside cvc5: pip install z3-solver") from None
    return z3


def z3_answer(text: str, options: Mapping[str, str]) -> str:
    """z3's answer by its solver for QF_NIA, which is its command line's; the replay asks z3's default solver."""
    z3 = _z3()
    solver = z3.SolverFor("QF_NIA", ctx=z3.Context())
    for option, value in options.items():  # of this solver: `set-option` would bind every later one of the process
        solver.set(option, int(value))
    try:
        solver.from_string(text)
        return str(solver.check())
    except z3.Z3Exception as e:
        return f"error: {e}"


def _cvc5() -> Any:
    try:
        import cvc5
    except ImportError:
        raise BackendMissing("judge cvc5: cvc5 is not installed: pip install cvc5") from None
    return cvc5


def cvc5_answer(text: str, options: Mapping[str, str]) -> str:
    """All that cvc5 prints when it runs the text as a script."""
    cvc5 = _cvc5()
    solver = cvc5.Solver(cvc5.TermManager())
    for option, value in options.items():
        solver.setOption(option, value)
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text, "question")
    printed: list[str] = []
    try:
        while not (command := parser.nextCommand()).isNull():
            printed.append(command.invoke(solver, parser.getSymbolManager()))
    except RuntimeError as e:  # the class of all its errors
        return f"error: {e}"
    return "".join(printed)


def _cvc5_version() -> str:
    cvc5 = _cvc5()
    version = cvc5.Solver(cvc5.TermManager()).getVersion()
    return version.decode() if isinstance(version, bytes) else str(version)


# Limits: more than ten times what any question of the committed certificates takes.
SOLVERS: Final = (
    Solver("z3", {"rlimit": "4000000"}, z3_answer, lambda: str(_z3().get_full_version())),
    Solver("cvc5", {"rlimit": "2000000"}, cvc5_answer, _cvc5_version),
)


# --- asking, and what follows -------------------------------------------------------------------------

Answered = dict[tuple[str, str], Reply]  # (solver, key) -> its reply


def ask_all(
    questions: Iterable[Question], solvers: Sequence[Solver] = SOLVERS, known: Answered | None = None
) -> list[Reply]:
    """Every solver's reply to every question; concludes nothing.

    ``known`` holds the replies of this process, so that no question is asked twice.  ``BackendMissing`` before
    anything is asked if a solver is not installed.
    """
    known = {} if known is None else known
    for s in solvers:
        s.version()
    replies = []
    for q in questions:
        for s in solvers:
            if (s.name, q.key) not in known:
                start = time.perf_counter()
                word = s.answer(q.text, s.options).strip()[:MAX_WORD]
                known[s.name, q.key] = Reply(s.name, q.key, word, time.perf_counter() - start)
            replies.append(known[s.name, q.key])
    return replies


def demand_unsat(questions: Iterable[Question], replies: Iterable[Reply], solvers: Sequence[Solver] = SOLVERS) -> None:
    """Return if every solver says ``unsat`` to every question.

    ``JudgesDisagree`` if one says ``sat``, ``Unknown`` if a question is left open; the message names its key and the
    command that exports its text.
    """
    words = {(r.solver, r.key): r.word for r in replies}
    said = [(s.name, q.key, words.get((s.name, q.key), "")) for q in questions for s in solvers]
    for solver, key, word in said:
        if word == REFUTED:
            raise JudgesDisagree(f"question {key}: it was proved, and {solver} answers sat; {EXPORT}")
    left = [x for x in said if x[2] != PROVED]
    if left:
        solver, key, word = left[0]
        more = f" (and {len(left) - 1} more answers are not unsat)" if len(left) > 1 else ""
        raise Unknown(f"question {key}: {solver} answers {word or 'nothing'!r}{more}; {EXPORT}")


def summary(replies: Iterable[Reply], solvers: Sequence[Solver] = SOLVERS) -> list[dict[str, Any]]:
    """A row a solver, for the record of a run: options, and how many questions it answered, and in what time."""
    distinct = list({(r.solver, r.key): r for r in replies}.values())
    rows = []
    for s in solvers:
        own = [r for r in distinct if r.solver == s.name]
        slowest = max(own, key=lambda r: r.seconds, default=None)
        rows.append({
            "solver": s.name,
            "options": dict(s.options),
            "questions": len(own),
            "unsat": sum(r.word == PROVED for r in own),
            "seconds": round(sum(r.seconds for r in own), 3),
            "slowest": {"key": slowest.key, "seconds": round(slowest.seconds, 3)} if slowest else None,
        })  # fmt: skip
    return rows
