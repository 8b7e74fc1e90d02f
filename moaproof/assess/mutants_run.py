"""Mutants that have to run: instructions, fake kernels in the harness, wrong calls of the launcher.  Untrusted.

They need torch and numba, which the rest of the corpus does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import torch

from .. import instructions
from ..runtime.attention import Call
from ..runtime.launch import launch
from ..runtime.loader import load
from ..testing.oracles import plain
from ..testing.strategies import Case, Inputs, expand
from ..testing.trial import attempt
from .mutants import Kill, Mutant, edited, kills

Array = np.ndarray[Any, Any]

# Regimes of scores that an ordinary test does not have, and rows without a visible key.
CASES: Final = tuple(
    Case(n=4, m=9, dk=3, dv=3, tq=3, tk=4, regime=regime, kind=kind, pattern=pattern, dtype=dtype, seed=seed)
    for seed, (regime, kind, pattern, dtype) in enumerate([
        ("normal", "plain", "random", "float64"),
        ("rising", "plain", "random", "float64"),
        ("x30", "causal", "random", "float64"),
        ("negative", "plain", "random", "float64"),
        ("one-hot", "plain", "random", "float64"),
        ("normal", "masked", "rows", "float64"),
    ])
)  # fmt: skip


def judge(m: Mutant) -> list[Kill]:
    """The refusal of a mutant that has to run, if any."""
    match m.kind:
        case "instruction":
            return _by_the_harness("fuzz", lambda inputs: _with_instruction(m.data["edits"]))
        case "harness":
            return _by_the_harness("harness", FAKES[m.data["gives"]])
    return kills(iter([("launcher", lambda: _launch(m.data))]))


# --- the harness ---------------------------------------------------------------------------------------------

Runner = Callable[[Call, dict[str, int]], torch.Tensor]


def _by_the_harness(stage: str, make: Callable[[Inputs], Runner]) -> list[Kill]:
    """A kernel in place of the real one is refused in some case; the real one is accepted in all of them."""
    for case in CASES:
        inputs = expand(case)
        result = attempt(inputs, case.tq, case.tk, make(inputs))
        if not result.accepted:
            return [Kill(stage, f"{case.regime}, {case.kind}: {result.reason()}")]
    return []


def shipped(call: Call, sizes: dict[str, int], **replaced: Any) -> torch.Tensor:
    """The shipped text run by Python, with some of its instructions replaced."""
    kernel = load(call.certificate, call.dtype)
    out = torch.zeros(call.shape, dtype=getattr(torch, call.dtype))
    names = [t.data[0] for t in kernel.certificate.inputs]
    arguments = [call.inputs[name] for name in names] + [sizes[s] for s in kernel.sizes]
    plain(kernel, **replaced)(out.numpy().reshape(-1), *arguments)
    return out


def _with_instruction(edits: Any) -> Runner:
    """The kernel with instructions whose source is edited, run by Python."""
    source = (Path(instructions.__file__).parent / "cpu_float64.py").read_text(encoding="utf-8")
    source = edited(source, [["from numba import njit, prange\n", ""], *edits])
    names: dict[str, Any] = {"njit": lambda **_: lambda f: f, "prange": range}
    exec(compile(source, "<instruction>", "exec", dont_inherit=True), names)  # noqa: S102  our own source, edited
    changed = {name: names[name] for name in ("exp", "fmax", "quotient", "rescale", "sqrt")}
    return lambda call, sizes: shipped(call, sizes, **changed)


def _filled(value: float) -> Callable[[Inputs], Runner]:
    return lambda inputs: lambda call, sizes: torch.full(call.shape, value, dtype=getattr(torch, call.dtype))


def _input(inputs: Inputs) -> Runner:
    def run(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        count = math.prod(call.shape)
        return torch.from_numpy(np.resize(call.inputs["v"], count).reshape(call.shape).copy())

    return run


def _mean(inputs: Inputs) -> Runner:
    def run(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        return inputs.v.mean(2, keepdim=True).expand(call.shape).contiguous()

    return run


def _one_nan(inputs: Inputs) -> Runner:
    def run(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        out = shipped(call, sizes)
        out[0, 0, 2, 1] = math.nan
        return out

    return run


def _first_row_alone(inputs: Inputs) -> Runner:
    def run(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        out = shipped(call, sizes)
        out[:, :, 1:] = out[:, :, :1]
        return out

    return run


def _unsteady(inputs: Inputs) -> Runner:
    """The second call differs from the first in the last bit: within every tolerance."""
    calls: list[int] = []

    def run(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        calls.append(1)
        out = shipped(call, sizes)
        return out if len(calls) % 2 else torch.nextafter(out, out + 1)

    return run


def _writer(inputs: Inputs) -> Runner:
    """Right, but after the second call another number stands in its input."""
    calls: list[int] = []

    def run(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        calls.append(1)
        out = shipped(call, sizes)
        inputs.k[0, 0, 0, 0] += len(calls) - 1
        return out

    return run


def _zeroes_inputs(inputs: Inputs) -> Runner:
    """Zeros, after it has made them the right answer by clearing the values."""

    def run(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        inputs.v.zero_()
        return torch.zeros(call.shape, dtype=getattr(torch, call.dtype))

    return run


def _single(inputs: Inputs) -> Runner:
    """Float32 inside a float64 kernel: 1e-2 does not see it."""

    def run(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        return shipped(call, sizes).to(torch.float32).to(torch.float64)

    return run


FAKES: Final[Mapping[str, Callable[[Inputs], Runner]]] = {
    "zeros": _filled(0.0),
    "NaN": _filled(math.nan),
    "infinity": _filled(math.inf),
    "its input": _input,
    "the mean of the values": _mean,
    "one NaN": _one_nan,
    "the first row for all": _first_row_alone,
    "other bits on the second call": _unsteady,
    "right, and a changed input": _writer,
    "zeros, and cleared inputs": _zeroes_inputs,
    "float32 inside": _single,
}


# --- the launcher ----------------------------------------------------------------------------------------------

SIZES: Final = {
    "b": 1, "h": 4, "g": 2, "r": 2, "n": 3, "m": 5, "dk": 2, "dv": 3, "tq": 2, "bq": 2, "tk": 4, "bk": 2, "mb": 1,
    "mh": 4, "mn": 1, "mm": 5, "sb": 0, "sh": 1, "sn": 0, "sm": 1,
}  # fmt: skip
FORMS: Final[Mapping[str, Callable[[Array], Any]]] = {
    "float32": lambda x: x.astype(np.float32),
    "bytes": lambda x: x.astype(np.uint8),
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "two axes": lambda x: x.reshape(2, -1),
    "every second": lambda x: np.repeat(x, 2)[::2],
    "odd address": lambda x: np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype),
    "list": lambda x: x.tolist(),
    "one less": lambda x: x[:-1],
}


def _arguments(change: Mapping[str, Any]) -> dict[str, Any]:
    arrays: dict[str, Any] = {"q": np.zeros(24), "k": np.zeros(20), "v": np.zeros(30), "mask": np.ones(20, bool)}
    arrays |= {"scale": np.float64(1), "out": np.zeros(36)}
    for name, form in change.get("arrays", {}).items():
        if form == "missing":
            del arrays[name]
        elif form.startswith("as "):
            arrays[name] = arrays[form.removeprefix("as ")]
        else:
            arrays[name] = FORMS[form](np.asarray(arrays[name]))
    if "overlap" in change:
        buffer = np.zeros(64)
        arrays["out"], arrays[change["overlap"]] = buffer[:36], buffer[12 : 12 + arrays[change["overlap"]].size]
    return arrays


def _launch(data: Mapping[str, Any]) -> None:
    """Call the launcher with a kernel that computes nothing: what it lets through has been called wrongly."""
    change = data["change"]
    arrays = _arguments(change)
    honest = load("gqa-masked-online", "float64")
    fill = (lambda out, *_: None) if change.get("kernel") == "writes nothing" else (lambda out, *_: out.fill(0.0))
    names = {name: getattr(honest, name) for name in ("certificate", "dtype", "file", "sha256", "source", "sizes")}
    kernel: Any = SimpleNamespace(**names, function=fill)
    sizes = SIZES | {name: int(x) if isinstance(x, str) else x for name, x in change.get("sizes", {}).items()}
    launch(kernel, arrays.pop("out"), arrays, sizes)
