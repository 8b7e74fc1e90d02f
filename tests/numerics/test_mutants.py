"""Each tolerance rejects kernels that are subtly wrong, and the harness rejects those that are plainly wrong.

A mutant is the shipped text with one instruction replaced, run by Python on three small cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from moaproof.instructions import cpu_float64
from moaproof.runtime.attention import Call
from moaproof.runtime.loader import load
from moaproof.testing.oracles import plain
from moaproof.testing.strategies import Case, expand
from moaproof.testing.trial import attempt

CASES = [
    Case(n=4, m=9, dk=3, dv=3, tq=3, tk=4, regime=regime, kind=kind, seed=seed)
    for seed, (regime, kind) in enumerate(
        [("normal", "plain"), ("rising", "plain"), ("x30", "causal"), ("one-hot", "plain")]
    )
]
exp, rescale, quotient = (getattr(cpu_float64, name).py_func for name in ("exp", "rescale", "quotient"))
LOWEST = -np.inf


def exp32(x: float) -> float:
    return float(np.exp(np.float32(x)))


SUBTLE: dict[str, dict[str, Callable[..., Any]]] = {
    "exp in float32": {"exp": exp32, "rescale": lambda m, t: 0.0 if m == LOWEST else exp32(m - t)},
    "exp of a block in float32": {"exp": exp32},
    "rescale in float32": {"rescale": lambda m, t: 0.0 if m == LOWEST else exp32(m - t)},
    "no rescale": {"rescale": lambda m, t: 0.0 if m == LOWEST else 1.0},
    "denominator + 1e-8": {"quotient": lambda o, l: 0.0 if l == 0 else o / (l + 1e-8)},
    "denominator + 1e-13": {"quotient": lambda o, l: 0.0 if l == 0 else o / (l + 1e-13)},
    "reciprocal in float32": {"quotient": lambda o, l: 0.0 if l == 0 else o * float(np.float32(1 / l))},
    "scratch in float32": {"empty": lambda shape, _: np.empty(shape, np.float32)},
    "small weights dropped": {"exp": lambda x: exp(x) if x > -3.0 else 0.0},
    "smallest for greatest": {"fmax": lambda a, b: b if a == LOWEST else a if b == LOWEST else min(a, b)},
}


def run_text(call: Call, sizes: dict[str, int], **replaced: Any) -> torch.Tensor:
    kernel = load(call.certificate, call.dtype)
    out = torch.zeros(call.shape, dtype=getattr(torch, call.dtype))
    names = [t.data[0] for t in kernel.certificate.inputs]
    arguments = [call.inputs[name] for name in names] + [sizes[s] for s in kernel.sizes]
    plain(kernel, **replaced)(out.numpy().reshape(-1), *arguments)
    return out


def rejected(runner: Callable[..., torch.Tensor]) -> list[bool]:
    return [not attempt(expand(c), c.tq, c.tk, runner).accepted for c in CASES]


def test_the_kernel_itself_is_accepted() -> None:
    assert rejected(run_text) == [False] * len(CASES)


@pytest.mark.parametrize("mutant", SUBTLE)
def test_a_subtle_mutant_is_rejected(mutant: str) -> None:
    assert any(rejected(partial(run_text, **SUBTLE[mutant])))


def test_usual_tolerances_accept_what_the_model_rejects() -> None:
    """Why no tolerance here is a bare constant: allclose's defaults pass a float32 exp and a changed denominator."""
    for mutant in ("exp of a block in float32", "denominator + 1e-8"):
        result = attempt(expand(CASES[0]), 3, 4, partial(run_text, **SUBTLE[mutant]))
        assert np.allclose(result.found, result.worst.due)
        assert not result.accepted


HALF: dict[str, dict[str, Callable[..., Any]]] = {
    "exp in float16": {"exp": lambda x: np.float32(np.exp(np.float16(x)))},
    "denominator + 1e-4": {"quotient": lambda o, l: o / (l + np.float32(1e-4))},
    "no rescale": {"rescale": lambda m, t: np.float32(m != LOWEST)},
    "weights in float16": {"exp": lambda x: np.float32(np.float16(np.exp(x)))},
}


@pytest.mark.parametrize("mutant", [None, *HALF])
def test_the_tolerance_of_float32_rejects_mutants_too(mutant: str | None) -> None:
    found = []
    for case in CASES:
        single = replace(case, dtype="float32")
        runner = partial(run_text, **HALF.get(mutant or "", {}))
        found.append(attempt(expand(single), case.tq, case.tk, runner).accepted)
    assert all(found) == (mutant is None)


PLAIN: dict[str, Callable[[Call], Any]] = {
    "zeros": lambda call: np.zeros(call.shape),
    "NaN": lambda call: np.full(call.shape, np.nan),
    "infinity": lambda call: np.full(call.shape, np.inf),
    "its input": lambda call: call.inputs["v"][: int(np.prod(call.shape))].reshape(call.shape).copy(),
    "the mean of the values": lambda call: np.broadcast_to(
        call.inputs["v"].reshape(1, 1, -1, 3).mean(2), call.shape
    ).copy(),
}


@pytest.mark.parametrize("mutant", PLAIN)
def test_a_plain_mutant_is_rejected_everywhere(mutant: str) -> None:
    assert rejected(lambda call, sizes: torch.from_numpy(PLAIN[mutant](call))) == [True] * len(CASES)


def test_one_nan_in_a_right_output_is_rejected() -> None:
    def runner(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        out = run_text(call, sizes)
        out[0, 0, 2, 1] = float("nan")
        return out

    assert rejected(runner) == [True] * len(CASES)


def test_a_kernel_that_does_not_repeat_itself_is_rejected() -> None:
    """The second run is off by one unit in the last place: within every tolerance, but not the same bits."""
    calls: list[int] = []

    def runner(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        calls.append(1)
        out = run_text(call, sizes)
        return torch.nextafter(out, out + 1) if len(calls) % 2 == 0 else out

    result = attempt(expand(CASES[0]), 3, 4, runner)
    assert result.worst.verdict.accepted
    assert not result.accepted
    assert "different bits" in result.reason()


def test_a_kernel_that_writes_its_input_is_rejected() -> None:
    inputs = expand(CASES[0])

    def runner(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        out = run_text(call, sizes)
        inputs.k[0, 0, 0, 0] += 0.0 if inputs.k[0, 0, 0, 0] == 7.0 else 7.0 - inputs.k[0, 0, 0, 0]
        return out

    result = attempt(inputs, 3, 4, runner)
    assert not result.untouched
    assert not result.accepted
