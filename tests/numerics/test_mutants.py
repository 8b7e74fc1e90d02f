"""Each tolerance rejects kernels that are subtly wrong, and the harness rejects those that are plainly wrong.

A mutant is the shipped text with one instruction or one expression replaced, run by Python on a few small cases and
judged by both oracles.  What is inside the bound is recorded as such: it is another way to round, or harmless.

    python tests/numerics/test_mutants.py      # writes evidence/tolerance-mutants.json anew

The record has, for each mutant, the greatest observed/bound of each oracle over the cases, and whether torch.allclose
with its defaults accepts all of them.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moaproof.errors import NotCovered
from moaproof.instructions import cpu_float32, cpu_float64
from moaproof.runtime.attention import Call
from moaproof.runtime.loader import load
from moaproof.testing.oracles import plain, sdpa
from moaproof.testing.strategies import Case, expand
from moaproof.testing.trial import Result, attempt

RECORD = Path(__file__).parents[2] / "evidence" / "tolerance-mutants.json"
CASES = [
    Case(n=4, m=9, dk=3, dv=3, tq=3, tk=4, regime=regime, kind=kind, seed=seed)
    for seed, (regime, kind) in enumerate(
        [
            ("normal", "plain"),
            ("rising", "plain"),
            ("x30", "causal"),
            ("one-hot", "plain"),
            ("falling", "plain"),
            ("x1000", "plain"),
        ]
    )
]
LOWEST = -np.inf
DTYPES = ("float64", "float32")


# --- what is replaced -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """``names``: instructions, or further names, in place of the text's; ``edit``: a pattern and what stands for it.

    ``caught``: whether the bound must reject it.
    """

    caught: bool
    names: dict[str, Any] = field(default_factory=dict)
    edit: tuple[str, str] | None = None


def bfloat16(x: Any) -> float:
    return float(torch.tensor(float(x)).bfloat16())


def guarded(exp: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """``rescale`` by that exp."""
    return lambda m, t: 0.0 if m == LOWEST else exp(m - t)


def rounded(low: Callable[[Any], Any], exp: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: low(exp(low(x)))


def over(change: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """Another ``quotient``."""
    return {"quotient": lambda o, l: 0.0 if l == 0 else change(o, l)}


SCORE = r"(x\d+\[c\d+, r6\]) = (s\d+\[r6\]) \* scale"
ALPHA = r"(a\d+\[r6\]) = (rescale\(.*\))$"
TOTAL = r"(l\d+\[r6\]) = (l\d+\[r6\]) \* (a\d+\[r6\]) \+ (.*)$"
OUTPUT = r"(o\d+\[c\d+, r6\]) = (o\d+\[c\d+, r6\]) \* (a\d+\[r6\]) \+ (.*)$"
SUM = r"(s\d+\[r6\]) = (s\d+\[r6\] \+ .*)$"
WEIGHT = r"exp\((x\d+\[c\d+, r6\]) - (m\d+\[r6\])\)"
LAST = r"(\3 if k17 < bk - 1 else ONE)"


def in_lower(low: Callable[[Any], Any], exp: Callable[[Any], Any], caught: bool = True) -> dict[str, Mutant]:
    """One value in a lower precision, everything else as it is."""
    lower = rounded(low, exp)
    names: dict[str, Any] = {"low": low}
    return {
        "every exp": Mutant(caught, {"exp": lower, "rescale": guarded(lower)}),
        "exp of the weights": Mutant(caught, {"exp": lower}),
        "exp of the rescaling": Mutant(caught, {"rescale": guarded(lower)}),
        "the weights": Mutant(caught, {"exp": lambda x: low(exp(x))}),
        "the scores": Mutant(caught, names, (SCORE, r"\1 = low(\2 * scale)")),
        "the scale": Mutant(caught, names, (SCORE, r"\1 = \2 * low(scale)")),
        "alpha": Mutant(caught, names, (ALPHA, r"\1 = low(\2)")),
        "the row sum l": Mutant(caught, names, (TOTAL, r"\1 = low(\2 * \3 + \4)")),
        "the output's accumulator": Mutant(caught, names, (OUTPUT, r"\1 = low(\2 * \3 + \4)")),
        "the sums' accumulators": Mutant(caught, names, (SUM, r"\1 = low(\2)")),
        "the reciprocal": Mutant(caught, over(lambda o, l: o * low(1 / l))),
    }


def wrong(exp: Callable[[Any], Any]) -> dict[str, Mutant]:
    """What is wrong, or harmless, in any precision."""
    return {
        "no rescale": Mutant(True, {"rescale": lambda m, t: 0.0 if m == LOWEST else 1.0}),
        "no rescale of l": Mutant(True, edit=(TOTAL, r"\1 = \2 + \4")),
        "no rescale of l at the last tile": Mutant(True, edit=(TOTAL, rf"\1 = \2 * {LAST} + \4")),
        "no rescale of o at the last tile": Mutant(True, edit=(OUTPUT, rf"\1 = \2 * {LAST} + \4")),
        "rescaled to the tile's maximum": Mutant(True, edit=(r"(t\d+) = fmax\(m\d+\[r6\], (e\d+)\)", r"\1 = \2")),
        "smallest for greatest": Mutant(
            True, {"fmax": lambda a, b: b if a == LOWEST else a if b == LOWEST else min(a, b)}
        ),
        "maximum of the first key alone": Mutant(
            True, edit=(r"(m\d+\[r6\]) = fmax\(\1, (x\d+)\[(k\d+), r6\]\)", r"\1 = fmax(\1, \2[0, r6])")
        ),
        "exp(s) exp(-m)": Mutant(True, edit=(WEIGHT, r"exp(\1) * exp(-\2)")),
        "weights without a maximum": Mutant(True, edit=(WEIGHT, r"exp(\1)")),
        "the last key is not read": Mutant(True, edit=(r"min\(tk, m - k17 \* tk\)", "min(tk, m - 1 - k17 * tk)")),
        "causal without the diagonal": Mutant(True, edit=(r"i4 \* tq \+ r6 \+ 1", "i4 * tq + r6")),
        "causal with one key more": Mutant(True, edit=(r"i4 \* tq \+ r6 \+ 1", "i4 * tq + r6 + 2")),
        "small weights dropped, below e^-3": Mutant(True, {"exp": lambda x: exp(x) if x > -3.0 else 0.0}),
        "a stale maximum, never below the true one": Mutant(
            False, edit=(r"^(\s+)(m31\[r6\]) = LOWEST", r"\1\2 = LOWEST if k17 == 0 else \2")
        ),
        "the reciprocal, as precise": Mutant(False, over(lambda o, l: o * (1 / l))),
    }


single, double = cpu_float32.exp.py_func, cpu_float64.exp.py_func
WIDER: dict[str, Any] = {"exp": lambda x: single(np.float32(x)), "rescale": guarded(lambda x: single(np.float32(x)))}
MUTANTS: dict[str, dict[str, Mutant]] = {
    "float64": {
        **{f"{name} in float32": m for name, m in in_lower(lambda x: float(np.float32(x)), double).items()},
        **wrong(double),
        "scratch in float32": Mutant(True, {"empty": lambda shape, _: np.empty(shape, np.float32)}),
        "l + 1e-8": Mutant(True, over(lambda o, l: o / (l + 1e-8))),
        "l + 1e-12": Mutant(True, over(lambda o, l: o / (l + 1e-12))),
        "l + 1e-13": Mutant(True, over(lambda o, l: o / (l + 1e-13))),
        "l + 1e-17": Mutant(False, over(lambda o, l: o / (l + 1e-17))),
        "weights below 1e-9 dropped": Mutant(True, {"exp": lambda x: double(x) if double(x) >= 1e-9 else 0.0}),
        "weights below 1e-15 dropped": Mutant(False, {"exp": lambda x: double(x) if double(x) >= 1e-15 else 0.0}),
    },
    "float32": {
        **{f"{name} in float16": m for name, m in in_lower(lambda x: np.float32(np.float16(x)), single).items()},
        **{f"{name} in bfloat16": m for name, m in in_lower(lambda x: np.float32(bfloat16(x)), single).items()},
        **wrong(single),
        "scratch in float16": Mutant(True, {"empty": lambda shape, _: np.empty(shape, np.float16), **WIDER}),
        "l + 1e-4": Mutant(True, over(lambda o, l: o / (l + np.float32(1e-4)))),
        "l + 1e-9": Mutant(False, over(lambda o, l: o / (l + np.float32(1e-9)))),
        "weights below 1e-3 dropped": Mutant(
            True, {"exp": lambda x: single(x) if single(x) >= 1e-3 else np.float32(0)}
        ),
        "weights below 1e-9 dropped": Mutant(
            False, {"exp": lambda x: single(x) if single(x) >= 1e-9 else np.float32(0)}
        ),
    },
}
ALL = [(dtype, name) for dtype in DTYPES for name in MUTANTS[dtype]]


# --- how it is run ----------------------------------------------------------------------------------


def run_text(call: Call, sizes: dict[str, int], mutant: Mutant = Mutant(False)) -> torch.Tensor:
    kernel = load(call.certificate, call.dtype)
    if mutant.edit:
        text = re.sub(*mutant.edit, kernel.source.decode("ascii"), flags=re.MULTILINE)
        kernel = replace(kernel, source=text.encode("ascii"))
    out = torch.zeros(call.shape, dtype=getattr(torch, call.dtype))
    names = [t.data[0] for t in kernel.certificate.inputs]
    arguments = [call.inputs[name] for name in names] + [sizes[s] for s in kernel.sizes]
    plain(kernel, **mutant.names)(out.numpy().reshape(-1), *arguments)
    return out


def tried(case: Case, runner: Callable[..., torch.Tensor] = run_text) -> Result:
    return attempt(expand(case), case.tq, case.tk, runner)


@lru_cache(maxsize=256)
def results(dtype: str, name: str) -> tuple[Result, ...]:
    runner = partial(run_text, mutant=MUTANTS[dtype][name])
    return tuple(tried(replace(case, dtype=dtype), runner) for case in CASES)


def row(dtype: str, name: str) -> dict[str, Any]:
    """What the record says of a mutant."""
    found = results(dtype, name)
    worst = {j.oracle: max(r.judged[i].verdict.ratio for r in found) for i, j in enumerate(found[0].judged)}
    return {
        "caught": not all(r.accepted for r in found),
        "ratios": {oracle: "inf" if math.isinf(x) else f"{x:.1e}" for oracle, x in worst.items()},
        "allclose": all(
            torch.allclose(torch.from_numpy(r.found).double(), torch.from_numpy(r.judged[0].due)) for r in found
        ),
    }


def record() -> None:
    """Write the record anew."""
    rows = {dtype: {name: row(dtype, name) for name in MUTANTS[dtype]} for dtype in DTYPES}
    cases = [{"regime": c.regime, "kind": c.kind, "seed": c.seed} for c in CASES]
    document = {
        "schema": "moaproof/tolerance-mutants/1",
        "command": "python tests/numerics/test_mutants.py",
        "sizes": {s: getattr(CASES[0], s) for s in ("n", "m", "dk", "dv", "tq", "tk")},
        "cases": cases,
        "mutants": rows,
    }
    RECORD.write_text(json.dumps(document, indent=1) + "\n")


# --- subtle mutants ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernel_itself_is_accepted(dtype: str) -> None:
    assert [
        tried(replace(case, dtype=dtype)).reason() for case in CASES if not tried(replace(case, dtype=dtype)).accepted
    ] == []


@pytest.mark.parametrize(("dtype", "name"), ALL, ids=[f"{dtype}: {name}" for dtype, name in ALL])
def test_a_subtle_mutant_is_caught_or_is_inside_the_bound(dtype: str, name: str) -> None:
    found = results(dtype, name)
    assert any(not r.accepted for r in found) == MUTANTS[dtype][name].caught
    assert all(r.repeatable and r.untouched for r in found)  # so that it is the bound that rejects


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_edit_changes_a_text(dtype: str) -> None:
    texts = [load(name, dtype).source.decode("ascii") for name in ("attention-online", "causal-online")]
    for name, mutant in MUTANTS[dtype].items():
        if mutant.edit:
            assert any(re.search(mutant.edit[0], text, flags=re.MULTILINE) for text in texts), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_caught_is_caught_by_both_oracles(dtype: str) -> None:
    """Neither leans on the other: PyTorch's own bound beside the kernel's is no excuse for a mutant."""
    for name, mutant in MUTANTS[dtype].items():
        if mutant.caught:
            for i in range(len(results(dtype, name)[0].judged)):
                assert not all(r.judged[i].verdict.accepted for r in results(dtype, name)), name


def test_the_record_is_of_these_mutants_and_of_what_is_caught() -> None:
    """The ratios may change with the bound; which mutants are caught, and what allclose says, may not."""
    recorded = json.loads(RECORD.read_text())
    assert list(recorded["mutants"]) == list(DTYPES)
    for dtype in DTYPES:
        rows = recorded["mutants"][dtype]
        assert list(rows) == list(MUTANTS[dtype])
        for name, mutant in MUTANTS[dtype].items():
            found = row(dtype, name)
            assert (rows[name]["caught"], rows[name]["allclose"]) == (mutant.caught, found["allclose"]), name
            assert set(rows[name]["ratios"]) == set(found["ratios"])
            assert (max(float(x) for x in rows[name]["ratios"].values()) > 1) == mutant.caught


def test_usual_tolerances_accept_what_the_bound_rejects() -> None:
    """Why no tolerance here is a bare constant: allclose's defaults pass most of a list that the bound rejects."""
    passed = [name for name, m in MUTANTS["float64"].items() if m.caught and row("float64", name)["allclose"]]
    assert {"l + 1e-8", "the reciprocal in float32", "weights below 1e-9 dropped"} <= set(passed)
    assert len(passed) >= 8


# --- plain mutants: is the harness awake? -----------------------------------------------------------


def permuted(call: Call) -> Any:
    """PyTorch's right result, for the batches in another order."""
    return due_of(call)[::-1].copy()


def due_of(call: Call, *names: str) -> Any:
    """PyTorch's result; ``names`` give the inputs in the place of q, k and v."""
    b, h, n, dv = call.shape
    m = call.sizes["m"]
    shapes = {"q": (b, h, n, -1), "k": (b, h, m, -1), "v": (b, h, m, dv)}
    q, k, v = (torch.from_numpy(call.inputs[name].reshape(shapes[name])) for name in ("q", "k", "v"))
    return sdpa(q, k, v, None, call.certificate.startswith("causal"), float(call.inputs["scale"]))


def one_changed(call: Call, value: float) -> Any:
    found = due_of(call)
    found[1, 0, 2, 1] = value
    return found


stale = np.random.default_rng(0).standard_normal(2 * 4 * 3).reshape(2, 1, 4, 3)  # an output of some call before
PLAIN: dict[str, Callable[[Call], Any]] = {
    "zeros": lambda call: np.zeros(call.shape),
    "NaN": lambda call: np.full(call.shape, np.nan),
    "infinity": lambda call: np.full(call.shape, np.inf),
    "a constant": lambda call: np.full(call.shape, 0.7),
    "q": lambda call: call.inputs["q"].reshape(call.shape).copy(),
    "the first values": lambda call: call.inputs["v"].reshape(2, 1, -1, 3)[:, :, :4].copy(),
    "the mean of the values": lambda call: np.broadcast_to(
        call.inputs["v"].reshape(2, 1, -1, 3).mean(2, keepdims=True), call.shape
    ).copy(),
    "the batches permuted": permuted,
    "the queries reversed": lambda call: due_of(call)[:, :, ::-1].copy(),
    "the components reversed": lambda call: due_of(call)[..., ::-1].copy(),
    "one NaN in a right output": lambda call: one_changed(call, np.nan),
    "one zero in a right output": lambda call: one_changed(call, 0.0),
    "one infinity in a right output": lambda call: one_changed(call, -np.inf),
    "stale memory": lambda call: stale.copy(),
}
OTHER: dict[str, tuple[str, Callable[[Any], Any]]] = {  # of a dtype or shape that is not due: the dtype of the call
    "a row too few": ("float64", lambda due: due[:, :, :-1].copy()),
    "one row": ("float64", lambda due: due[:, :, :1].copy()),
    "without its batch": ("float64", lambda due: due[0].copy()),
    "flat": ("float64", lambda due: due.reshape(-1).copy()),
    "transposed": ("float64", lambda due: due.swapaxes(0, 1).copy()),
    "nothing": ("float64", lambda due: np.zeros((0,))),
    "a number": ("float64", lambda due: np.zeros(())),
    "float32": ("float64", lambda due: due.astype(np.float32)),
    "integers": ("float64", lambda due: due.astype(np.int64)),
    "float64 for float32": ("float32", lambda due: due.astype(np.float64)),
    "float16 for float32": ("float32", lambda due: due.astype(np.float16)),
}
TWO = [replace(case, b=2) for case in CASES if case.regime in {"normal", "rising", "x30"}]


@pytest.mark.parametrize("case", TWO, ids=[case.regime for case in TWO])
@pytest.mark.parametrize("mutant", PLAIN)
def test_a_plain_mutant_is_rejected_everywhere(mutant: str, case: Case) -> None:
    assert not tried(case, lambda call, sizes: torch.from_numpy(PLAIN[mutant](call))).accepted


@pytest.mark.parametrize("mutant", OTHER)
def test_a_result_of_another_dtype_or_shape_is_refused(mutant: str) -> None:
    """Though its numbers may be right."""
    dtype, change = OTHER[mutant]
    with pytest.raises(NotCovered, match=rf"^trial: the kernel gave .*; {dtype} of shape \(2, 1, 4, 3\) is due"):
        tried(replace(TWO[0], dtype=dtype), lambda call, sizes: torch.from_numpy(change(due_of(call))))


@pytest.mark.parametrize("case", TWO, ids=[case.regime for case in TWO])
def test_pytorch_itself_is_accepted(case: Case) -> None:
    """In float64; its own float32 result is not a float64 result, and is one for a float32 call."""
    assert tried(case, lambda call, sizes: torch.from_numpy(due_of(call))).accepted
    assert tried(replace(case, dtype="float32"), lambda call, sizes: torch.from_numpy(due_of(call)).float()).accepted


def test_a_kernel_that_does_not_repeat_itself_is_rejected() -> None:
    """The second run is off by one unit in the last place: within every tolerance, but not the same bits."""
    calls: list[int] = []

    def runner(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        calls.append(1)
        out = run_text(call, sizes)
        return torch.nextafter(out, out + 1) if len(calls) % 2 == 0 else out

    result = tried(CASES[0], runner)
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


if __name__ == "__main__":
    sys.exit(record())
