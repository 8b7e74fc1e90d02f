"""A pytest plugin: whatever the kernel judges in a test, the stand-alone checker judges too, and must answer alike.

Both may ask Z3: here it is the two *judgements* that are compared, not who carries which witness.  A class must be the
same class; a refusal must be a refusal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from moaproof.errors import JudgesDisagree, MoaproofError
from moaproof.kernel import integers
from moaproof.kernel.defined import Position
from moaproof.kernel.step import Checker
from moaproof.operators import Index
from moaproof.standalone import __main__ as alone
from moaproof.term import Term

compared = {"accepted": 0, "refused": 0}
_answers: dict[str, bool] = {}


class ByZ3(alone.Witnessed):
    """In place of witnesses: Z3's answer to the question's text."""

    def holds(self, place: alone.Place, goal: alone.Term) -> bool:
        if goal is alone.TRUE or goal in place.known:
            return True
        for turn in range(3):
            q = place.question(goal, turn)
            if q.key not in _answers:
                _answers[q.key] = integers.decide(q)[0] == "unsat"  # type: ignore[arg-type]
            if _answers[q.key]:
                return True
        self.open += 1
        return False


def translated(t: Term) -> alone.Term:
    """A term of moaproof as one of the stand-alone checker, as a certificate would bring it; free indices beside."""
    args = tuple(map(translated, t.args))
    return alone.make("x", t.data) if t.op == "x" else alone.admit(t.op, t.data, args)


def judge(facts: Sequence[Term]) -> alone.Judge:
    alone._left[:] = alone.BUDGET  # as for a certificate of its own
    found = alone.Judge(tuple(map(translated, facts)), {})
    found.witnessed = ByZ3({})
    found.defined, found.bits = alone.Defined(found.witnessed), alone.Bits(found.witnessed.holds)
    found.reals = alone.Reals(found.bits)
    return found


def place_of(here: Position) -> tuple[alone.Env, alone.Place]:
    """The environment and the place that the kernel's position describes."""
    env: alone.Env = ()
    sight: alone.Index = ()
    for k, entry in enumerate(here.ctx):
        if isinstance(entry, Index):
            env, sight = (*env, alone.index(k)), (alone.index(k), *sight)
        else:
            env = alone.named(translated(entry.term), env)
    return env, alone.Place(tuple(map(translated, here.facts)), sight)


def of_step(old: Term, new: Term, here: Position) -> str:
    """The stand-alone checker's class of a step, or "refused"."""
    try:
        env, place = place_of(here)
        return judge(()).judge(translated(old), translated(new), env, place)
    except (alone.Refusal, RecursionError):
        return "refused"


def of_term(facts: Sequence[Term], t: Term) -> str:
    """Is a whole term defined?"""
    try:
        mine = judge(facts)
        alone.kind(translated(t), ())
        mine.defined.check(translated(t), (), alone.Place(tuple(map(translated, facts))))
    except (alone.Refusal, RecursionError):
        return "refused"
    return "defined"


def both(kernel: Callable[[], Any], own: Callable[[], str], read: Callable[[Any], str]) -> Any:
    """The kernel's result, or its error, after the other checker has answered alike."""
    try:
        result = kernel()
    except JudgesDisagree:
        raise  # by a test that breaks one of the kernel's engines
    except MoaproofError as e:
        found = own()
        if found != "refused":
            pytest.fail(f"the kernel refuses ({e}), the stand-alone checker says {found}")
        compared["refused"] += 1
        raise
    found = own()
    assert found == read(result), f"the kernel says {read(result)}, the stand-alone checker {found}"
    compared["accepted"] += 1
    return result


@pytest.fixture(autouse=True)
def twins(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_judge, plain_defined = Checker.judge, Checker.check_defined

    def both_judge(self: Checker, whole: Term, path: Sequence[int], old: Term, new: Term, here: Position) -> Any:
        return both(
            lambda: plain_judge(self, whole, path, old, new, here),
            lambda: of_step(old, new, here),
            lambda judged: str(judged.kind),
        )

    def both_defined(self: Checker, t: Term) -> None:
        both(lambda: plain_defined(self, t), lambda: of_term(self.facts, t), lambda _: "defined")

    monkeypatch.setattr(Checker, "judge", both_judge)
    monkeypatch.setattr(Checker, "check_defined", both_defined)


def pytest_sessionfinish() -> None:
    sys.stdout.write(f"\ntwins: {compared['accepted']} accepted, {compared['refused']} refused\n")
