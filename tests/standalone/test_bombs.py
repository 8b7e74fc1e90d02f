"""Hostile terms and bytes: refused in bounded time and memory, without a traceback and without a crash."""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moaproof.kernel.certificate import CORE_FIELDS, Certificate, Step
from moaproof.standalone import __main__ as alone
from moaproof.term import ONE, ZERO, Add, Build, F, Fold, In, Let, Lt, Mul, Psi, Real, Size, Term, Var

ROOT = Path(__file__).parents[2]
N, X, V = Size("n"), In("x"), In("v", Size("n"))


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))


def answer(path: Path) -> int:
    """The exit code of a process of its own, whose time and memory are limited."""
    command = [sys.executable, "-I", "-S", "-B", str(ROOT / "moaproof" / "standalone"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limited)
    assert "Traceback" not in done.stderr
    assert f"{path}: " in done.stdout
    return done.returncode


BYTES: dict[str, bytes] = {
    "open brackets": b"[" * (4 * 2**20 - 1),
    "nested lists": b"[" * 50_000 + b"]" * 50_000,
    "nested objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a long integer": b'{"schema":' + b"9" * 4_000_000 + b"}",
    "a long text": b'"' + b"a" * (4 * 2**20) + b'"',
    "no text at all": bytes(range(256)) * 100,
    "a surrogate": b'{"schema":"\\ud800"}',
    "not a number": b'{"schema":NaN}',
    "too long": b" " * (4 * 2**20 + 1),
    "nothing": b"",
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(BYTES[name])
    assert answer(path) == 2


def times(count: int, act: Callable[[Term], Term], t: Term) -> Term:
    for _ in range(count):
        t = act(t)
    return t


def names(count: int) -> Term:
    """let v = x in let v = -(-(.. v)) in .. : a meaning that is deeper than the term."""
    body: Term = Var(0)
    for _ in range(count):
        body = Let(times(90, lambda u: F("neg", u), Var(0)), body)
    return Let(X, body)


def powers(count: int) -> Term:
    t = F("add", X, F("add", In("y"), In("z")))
    return times(count, lambda u: F("mul", u, u), t)


TERMS: dict[str, tuple[Term, Term]] = {
    "a term that is deep": (X, times(189, lambda u: F("neg", u), X)),
    "a term that is too deep": (X, times(250, lambda u: F("neg", u), X)),
    "a sum of sums that are shared": (X, times(17, lambda u: F("add", u, u), X)),
    "an extent that doubles": (X, Let(Build(times(17, lambda u: Add(u, u), N), X), Psi(Var(0), ZERO))),
    "an extent that is squared": (X, Let(Build(times(17, lambda u: Mul(u, u), N), X), Psi(Var(0), ZERO))),
    "an extent of many products": (X, Build(times(12, lambda u: Mul(u, Add(N, Size("m"))), ONE), X)),
    "lets that multiply the depth": (X, names(90)),
    "lets that double the meaning": (X, Let(X, times(60, lambda u: Let(F("add", Var(0), Var(0)), u), Var(0)))),
    "powers of a sum": (powers(6), F("mul", powers(6), Real(1))),  # true, and more work than it is worth
    "sums within sums": (X, times(60, lambda u: Fold("add", N, u), X)),
    "guards within guards": (X, Fold("add", N, X, times(14, lambda u: Term("and", None, (u, u)), Lt(Var(0), N)))),
    "operators within operators": (V, times(95, lambda u: Term("reverse", None, (u,)), V)),
    "extents of extents": (X, Fold("add", times(90, lambda u: Term("tau", None, (Build(u, X),)), N), X)),
}


@pytest.mark.parametrize("name", TERMS)
def test_terms(name: str, certificate: Certificate, tmp_path: Path) -> None:
    spec, onf = TERMS[name]
    inputs = (X, V, In("y"), In("z"))
    step = Step((), spec.digest, "R", "bomb", onf, restated=True)
    c = dataclasses.replace(
        certificate, spec=spec, dnf=spec, onf=onf, steps=(step,), inputs=inputs, hypotheses=(), tilings=(),
        witness={"n": 2}, witnesses={},
    )  # fmt: skip
    path = tmp_path / "x.json"
    path.write_bytes(c.to_bytes())
    assert answer(path) in (1, 2, 3)


@pytest.mark.parametrize("count", [10, 17])
def test_a_hypothesis_of_large_numbers(count: int, certificate: Certificate, tmp_path: Path) -> None:
    h = Lt(ZERO, times(count, lambda u: Mul(u, u), N))
    path = tmp_path / "x.json"
    path.write_bytes(dataclasses.replace(certificate, hypotheses=(h,)).to_bytes())
    assert answer(path) in (2, 3)


def test_a_graph_that_is_small_and_a_term_that_is_not(document: Any, tmp_path: Path) -> None:
    nodes = [["real", ["1", "1"], []], *([["f", "add", [k, k]] for k in range(60)])]
    terms = {"nodes": nodes, "roots": [60, 60, 60]}
    fields = {"inputs": [], "hypotheses": [], "tilings": [], "witness": {}, "steps": [], "witnesses": {}}
    bomb = document | fields | {"spec": 0, "dnf": 1, "onf": 2, "terms": terms}
    core = {k: v for k, v in bomb.items() if k in CORE_FIELDS}
    path = tmp_path / "x.json"
    path.write_bytes(alone.encoded(bomb | {"core": alone.sha256(alone.encoded(core))}) + b"\n")
    assert answer(path) == 2
