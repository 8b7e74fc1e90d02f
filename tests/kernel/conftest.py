"""What the folder shares: one set of engines, a real certificate in two schedules, a judge, and a limit on time."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from moaproof.rewrite_rules import digest

from moaproof.derive.chain import Chain
from moaproof.derive.schedules.cpu import online, rows
from moaproof.derive.to_dnf import to_dnf
from moaproof.errors import MoaproofError
from moaproof.kernel.bits import Deciders
from moaproof.kernel.certificate import Certificate, Step
from moaproof.kernel.checker import facts_of, rounding_of
from moaproof.kernel.defined import Position
from moaproof.kernel.step import Checker
from moaproof.term import In, Size, Term, Var

n, m, dk, dv = map(Size, ("n", "m", "dk", "dv"))
INPUTS = (In("q", n, dk), In("k", m, dk), In("v", m, dv), In("scale"))


@pytest.fixture(scope="session")
def deciders() -> Deciders:
    return Deciders()


@pytest.fixture(scope="session")
def judge(deciders: Deciders) -> Callable[..., str]:
    """The class of a step from one whole term to another, or an error; both are checked to be defined."""

    def act(old: Term, new: Term, facts: Sequence[Term] = ()) -> str:
        checker = Checker(facts, deciders)
        checker.check_defined(old)
        return checker.judge(old, (), old, new, Position((), facts)).kind

    return act


@pytest.fixture(scope="session")
def defined(deciders: Deciders) -> Callable[..., None]:
    def act(t: Term, facts: Sequence[Term] = ()) -> None:
        Checker(facts, deciders).check_defined(t)

    return act


@pytest.fixture
def deadline() -> Callable[[float], Any]:
    """A block that must end: what does not is a hole like any other.

    The limit is of processor time and far above what is needed, so a busy machine changes nothing.
    """

    @contextlib.contextmanager
    def limit(seconds: float) -> Iterator[None]:
        def late(*_: object) -> None:
            pytest.fail(
                f"still running after {6 * seconds} s of processor time", pytrace=False
            )  # what it was at may be too large to print

        old = signal.signal(signal.SIGPROF, late)
        signal.setitimer(signal.ITIMER_PROF, 6 * seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, old)

    return limit


def over(ranks: tuple[int, ...], body: Term, *arrays: Term) -> Term:
    return Term("omega", ranks, (*arrays, body))


def attention_spec() -> Term:
    """softmax(q k' * scale) v for one head, in the operators of the calculus."""
    q, k, v, scale = INPUTS
    product = Term("inner", ("add", "mul"), (q, Term("transpose", (1, 0), (k,))))
    scores = Term("pointwise", "mul", (product, scale))
    top = over((1,), Term("reduce", ("max", 0), (Var(0),)), scores)
    shifted = over((1, 0), Term("pointwise", "sub", (Var(1), Var(0))), scores, top)
    weights = Term("map", "exp", (shifted,))
    total = over((1,), Term("reduce", ("add", 0), (Var(0),)), weights)
    shares = over((1, 0), Term("pointwise", "div", (Var(1), Var(0))), weights, total)
    return Term("inner", ("add", "mul"), (shares, v))


def bounded(c: Certificate) -> Certificate:
    """With the error bound that it has, if it gets so far."""
    try:
        bound = rounding_of(c, facts_of(c), Deciders())
    except MoaproofError:
        return c
    return replace(c, rounding=bound.document() if bound else None)


def derive(schedule: Callable[[Chain], None]) -> Certificate:
    chain = Chain(attention_spec())
    dnf = to_dnf(chain)
    schedule(chain)
    witness = {"n": 2, "m": 3, "dk": 4, "dv": 5}
    for t in chain.tilings:
        witness |= {t.tile: 2, t.count: -(-witness[t.extent] // 2)}
    c = Certificate(
        name="attention",
        trace=None,
        spec=chain.spec,
        dnf=dnf,
        onf=chain.term,
        inputs=INPUTS,
        hypotheses=(),
        tilings=tuple(chain.tilings),
        witness=witness,
        steps=tuple(chain.steps),
        rulebook=digest(),
    )
    return bounded(c)


@pytest.fixture(scope="session")
def by_rows() -> Certificate:
    return derive(rows)


@pytest.fixture(scope="session")
def by_states() -> Certificate:
    return derive(online)


@pytest.fixture(scope="session")
def restated() -> Callable[..., Certificate]:
    """A certificate of one step, by which the Spec is restated as the ONF."""

    def make(spec: Term, onf: Term | None = None, witness: dict[str, int] | None = None, **given: Any) -> Certificate:
        onf = spec if onf is None else onf
        steps = () if onf is spec else (Step((), spec.digest, "R", "restated", onf, restated=True),)
        fields: dict[str, Any] = {
            "name": "test",
            "trace": None,
            "spec": spec,
            "dnf": spec,
            "onf": onf,
            "inputs": (),
            "hypotheses": (),
            "tilings": (),
            "witness": witness or {},
            "steps": steps,
            "rulebook": "0" * 64,
        }
        return bounded(Certificate(**{**fields, **given}))

    return make
