"""The declared accuracy of every exp: what it rests on is there, is about the code as it is, and can fail."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import flint
import numpy as np
import pytest
import torch

from moaproof.errors import NotCovered, Unknown
from moaproof.instructions import cpu_float32, cpu_float64
from moaproof.instructions.accuracy import EXPS, Exp, exp_of
from moaproof.instructions.accuracy.measure import HIGH, LOW, OVERFLOW, excess, patterns, points, sample, scan
from moaproof.instructions.accuracy.polynomial import bound_of_polynomial, ln2
from moaproof.testing import gpu

ROOT = Path(__file__).parents[2]
MODULES = {"float64": cpu_float64, "float32": cpu_float32}
DEGREE = {"float64": 13, "float32": 7}
IDS = [f"{e.backend}-{e.dtype}" for e in EXPS]


def program(name: str) -> ModuleType:
    spec = spec_from_file_location(f"moaproof_{Path(name).stem}", ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BENCH = program("benchmarks/exp_accuracy.py")


def bound(module: Any, dtype: str) -> Fraction:
    declared = exp_of("cpu", dtype)
    return bound_of_polynomial(module, declared.low, declared.high).eps


def bits(x: np.float32) -> int:
    return int(x.view(np.uint32))


# --- the table and its evidence ---------------------------------------------------------------------


@pytest.mark.parametrize("declared", EXPS, ids=IDS)
def test_what_was_observed_is_what_is_declared_or_less(declared: Exp) -> None:
    """With a file of evidence its worst is the table's; a file that the table does not name is one too many."""
    made = "exp-cuda.json" if "cuda" in declared.backend else "exp-cpu.json"
    assert declared.evidence == (f"evidence/{made}" if (ROOT / "evidence" / made).exists() else "")
    assert bool(declared.worst) == bool(declared.evidence)
    assert (ROOT / declared.argument).exists()
    if declared.evidence:
        seen = json.loads((ROOT / declared.evidence).read_text())["exps"][declared.backend][declared.dtype]
        assert seen["relative"]["worst"] == declared.worst
        assert (seen["domain"]["from"], seen["domain"]["to"]) == (declared.low, declared.high)
        assert excess({declared.backend: {declared.dtype: seen}}) == []
        worst = Fraction(float.fromhex(declared.worst))
        assert declared.u / 2 < worst <= declared.eps <= 4 * worst
        if declared.kind == "exhaustive":
            between = bits(OVERFLOW) - bits(HIGH)  # above the domain, where e^x is still finite
            assert seen["numbers"] == 2**32 - between
            assert seen["domain"]["numbers"] == 1 + bits(HIGH) + 1 + bits(-LOW)  # with both zeros
        if declared.dtype == "float64":
            assert seen["domain"]["numbers"] > 150_000
    single = declared.dtype == "float32" and declared.worst
    assert declared.kind == ("exhaustive" if single else "argument" if declared.backend == "cpu" else "vendor")


def test_the_evidence_is_about_the_exp_as_it_is() -> None:
    found = json.loads((ROOT / "evidence/exp-cpu.json").read_text())
    assert found["source"] == {dtype: BENCH.source_digest(module) for dtype, module in MODULES.items()}
    assert BENCH.source_digest(cpu_float32) != BENCH.source_digest(cpu_float64)
    assert found["schema"] == "moaproof/exp/1"
    assert {d["float64"]["oracle"].partition(" ")[0] for d in found["exps"].values()} == {"python-flint"}


def test_an_exp_without_a_declaration_is_refused() -> None:
    with pytest.raises(NotCovered, match=r"exp of cpu/float16: no accuracy is declared; there are cpu/float64, "):
        exp_of("cpu", "float16")


def test_an_error_above_the_declared_one_is_named() -> None:
    declared = exp_of("cpu", "float32")
    seen = {
        "relative": {"worst": float(declared.eps).hex(), "at": "-0x1p+0"},
        "absolute": {"worst": float(declared.flushed).hex(), "at": "-0x1p+7"},
    }
    seen |= {"above": {"wrong": 0}, "nan": {"wrong": 0}}
    assert excess({"cpu": {"float32": seen}}) == []
    for kind, value in (("relative", declared.eps), ("absolute", declared.flushed)):
        for worse in (np.nextafter(float(value), 1).hex(), "inf", "nan"):
            (line,) = excess({"cpu": {"float32": seen | {kind: {"worst": worse, "at": "-0x1p+0"}}}})
            assert line.startswith(f"exp of cpu/float32: at -0x1p+0 the {kind} error is {worse}")
    for kind in ("above", "nan"):
        (line,) = excess({"cpu": {"float32": seen | {kind: {"wrong": 3}}}})
        assert line == f"exp of cpu/float32: 3 numbers {kind} are wrong"


def test_nothing_that_runs_is_imported_with_the_table() -> None:
    text = (
        "import sys, moaproof.instructions.accuracy.polynomial\n"
        "print({'numba', 'torch', 'numpy'} & set(sys.modules) or 'none')"
    )
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "none\n"


# --- the argument -----------------------------------------------------------------------------------

LINES = """\
    t = x * _LOG2E + _MAGIC
    k = t - _MAGIC
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _C{degree}
{steps}
    p = (r * r * p + r) + ONE
    y = _bits(real(p).view(_bits) + _bits(real(t).view(_bits) << _SHIFT)).view(real)
    y = ZERO if x < _UNDERFLOW else y
    y = _HIGHEST if x > _OVERFLOW else y
    return y if x == x else x  # noqa: PLR0124  NaN is not itself
"""


@pytest.mark.parametrize("dtype", MODULES)
def test_the_argument_is_about_these_lines(dtype: str) -> None:
    steps = "\n".join(f"    p = p * r + _C{j}" for j in range(DEGREE[dtype] - 1, 1, -1))
    source = inspect.getsource(MODULES[dtype].exp.py_func)
    assert source.partition('NaN of NaN."""\n')[2] == LINES.format(degree=DEGREE[dtype], steps=steps)
    assert source.startswith('@njit(error_model="numpy")\n')  # no fastmath
    declared = exp_of("cpu", dtype)
    assert (MODULES[dtype]._UNDERFLOW, declared.high < MODULES[dtype]._OVERFLOW) == (declared.low, True)


@pytest.mark.parametrize("dtype", MODULES)
def test_the_proved_bound_is_below_the_declared_one_and_above_what_was_observed(dtype: str) -> None:
    declared = exp_of("cpu", dtype)
    proved = bound(MODULES[dtype], dtype)
    assert Fraction(float.fromhex(declared.worst)) <= proved <= declared.eps
    assert proved < Fraction(7, 4) * declared.u


def test_the_reference_of_float32_is_as_near_as_it_is_supposed() -> None:
    from moaproof.instructions.accuracy.measure import REFERENCE

    assert exp_of("cpu", "float64").eps <= Fraction(REFERENCE)


def test_ln2_is_between_its_rationals() -> None:
    low, high = ln2()
    with flint.ctx.workprec(400):
        exact = flint.arb(2).log()
        assert flint.arb(flint.fmpq(low.numerator, low.denominator)) < exact
        assert exact < flint.arb(flint.fmpq(high.numerator, high.denominator))
    assert high - low < Fraction(1, 2**200)


# name of a constant: what it becomes, of its value and dtype; None: it goes, and the degree is one less
CHANGED: dict[str, Callable[[Any, Any], Any]] = {
    "_LOG2E": lambda x, real: x * real(1.001),
    "_MAGIC": lambda x, real: x / real(2),
    "_LN2_HIGH": lambda x, real: real(np.log(2)),
    "_LN2_LOW": lambda x, real: x * real(1.001),
    "_SHIFT": lambda x, real: x - 1,
    "_C2": lambda x, real: x * (1 + 16 * np.finfo(real).eps),
    "_C3": lambda x, real: x * (1 + 64 * np.finfo(real).eps),
    "_C5": lambda x, real: x * real(1.001),
    "ONE": lambda x, real: np.nextafter(x, real(2)),
}


def changed(dtype: str, name: str) -> SimpleNamespace:
    module = MODULES[dtype]
    given = {n: v for n, v in vars(module).items() if isinstance(v, np.number)}
    if name == "the degree":
        del given[f"_C{DEGREE[dtype]}"]
    else:
        given[name] = CHANGED[name](given[name], module.real)
    return SimpleNamespace(**given)


def within(module: Any, dtype: str) -> bool:
    try:
        return bound(module, dtype) <= exp_of("cpu", dtype).eps
    except Unknown:
        return False


@pytest.mark.parametrize("dtype", MODULES)
@pytest.mark.parametrize("name", [*CHANGED, "the degree"])
def test_another_constant_or_degree_is_not_within_the_declared_bound(name: str, dtype: str) -> None:
    assert not within(changed(dtype, name), dtype)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("_MAGIC", "does not leave k in the last bits"),
        ("_SHIFT", "does not leave k in the last bits"),
        ("_LN2_HIGH", "or x minus that, is not exact"),
        ("ONE", "are due, beside ONE"),
    ],
)
def test_a_step_of_the_argument_that_does_not_hold_is_named(name: str, why: str) -> None:
    with pytest.raises(Unknown, match=f"^exp: .*{why}"):
        bound(changed("float64", name), "float64")


@pytest.mark.parametrize(("low", "high"), [(-88, 0), (-87, 89)])
def test_a_domain_that_is_not_normal_is_refused(low: int, high: int) -> None:
    with pytest.raises(Unknown, match="is not normal there, so that"):
        bound_of_polynomial(cpu_float32, low, high)


# --- measured here ----------------------------------------------------------------------------------


def near() -> np.ndarray[Any, Any]:
    """Float32 numbers next to every multiple of (ln 2)/2, where r is greatest, and at the edges."""
    middles = (np.arange(-300, 256) * (np.log(2) / 2)).astype(np.float32)
    edges = np.array([0.0, LOW, HIGH, OVERFLOW, 88.72283, -104, np.inf, 1e-45, 1e-38, 1e-8], np.float32)
    found = np.concatenate([middles, edges, -edges])
    around = found.view(np.int32)[:, None] + np.arange(-8, 9, dtype=np.int32)
    return around.reshape(-1).view(np.float32)


FUNCTIONS = {"cpu": {d: BENCH.ours(m) for d, m in MODULES.items()}, "torch-cpu": dict.fromkeys(MODULES, BENCH.by_torch)}


@pytest.mark.parametrize("backend", FUNCTIONS)
def test_a_part_of_the_exhaustive_measurement(backend: str) -> None:
    """Every 4099th float32 and those that are hard; 50,000 of float64."""
    single = scan(FUNCTIONS[backend]["float32"], [*patterns(4099), near()])
    double = sample(FUNCTIONS[backend]["float64"], points(50_000, seed=1))
    assert single["numbers"] > 2**32 // 4099
    assert excess({backend: {"float32": single, "float64": double}}) == []
    if backend == "cpu":  # its bits are the same on every machine
        whole = float.fromhex(exp_of(backend, "float32").worst)
        assert 0.9 * whole < float.fromhex(single["relative"]["worst"]) <= whole


def rebuilt(name: str, value: str) -> ModuleType:
    """cpu_float32 with one line of its file replaced."""
    source = inspect.getsource(cpu_float32)
    (line,) = (line for line in source.splitlines() if line.startswith(f"{name} = "))
    module = ModuleType("mutant")
    exec(compile(source.replace(line, f"{name} = {value}"), "<mutant>", "exec"), vars(module))  # noqa: S102  our own file
    return module


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_C7", "real(0)"),
        ("_LN2_LOW", "real(0)"),
        ("_LN2_HIGH", "real(float.fromhex('0x1.62e42fefa39efp-1'))"),
        ("_LOG2E", "real(1.47)"),
        ("_UNDERFLOW, _OVERFLOW", "real(-89.0), real(88.72283)"),
        ("_UNDERFLOW, _OVERFLOW", "real(-87.0), real(89.0)"),
    ],
)
def test_a_broken_exp_is_seen_by_the_measurement(name: str, value: str) -> None:
    assert excess({"cpu": {"float32": scan(BENCH.ours(rebuilt(name, value)), [*patterns(65537), near()])}})


@pytest.mark.parametrize(("name", "value"), [("_C7", "real(0)"), ("_C3", "real(0.16667)"), ("_LN2_LOW", "real(0)")])
def test_the_proved_bound_of_a_worse_exp_holds_and_is_near(name: str, value: str) -> None:
    """Thus it follows the constants, and is no number that happens to fit the shipped ones."""
    module = rebuilt(name, value)
    seen = float.fromhex(scan(BENCH.ours(module), [*patterns(65537), near()])["relative"]["worst"])
    assert Fraction(seen) <= bound(module, "float32") <= 2 * Fraction(seen)


@pytest.mark.parametrize(
    ("at", "value"),
    [(-1.0, np.nan), (-1.0, np.inf), (-90.0, np.nan), (-90.0, 1e-30), (100.0, 1e38), (np.nan, 0.0), (-1.0, 0.367)],
)
def test_one_wrong_result_is_seen(at: float, value: float) -> None:
    def spoilt(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        y = FUNCTIONS["cpu"]["float32"](x)
        y[5] = value
        return y

    x = np.linspace(-100, 120, 100, dtype=np.float32)
    x[5] = at
    assert excess({"cpu": {"float32": scan(FUNCTIONS["cpu"]["float32"], [x])}}) == []
    assert excess({"cpu": {"float32": scan(spoilt, [x])}})
    if not np.isnan(at) and at < 88:
        y = np.array([-2.0, at * 8, -3.0])  # as far below the domain of float64
        assert excess({"cpu": {"float64": sample(FUNCTIONS["cpu"]["float64"], y)}}) == []
        assert excess({"cpu": {"float64": sample(lambda x: np.array([np.exp(-2.0), value, np.exp(-3.0)]), y)}})


def test_without_python_flint_the_samples_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points(100)[::97]
    by_balls = sample(FUNCTIONS["cpu"]["float64"], x)
    monkeypatch.setitem(sys.modules, "flint", None)
    found = sample(FUNCTIONS["cpu"]["float64"], x)
    assert found["oracle"].startswith("mpmath ")
    assert found["relative"]["in_u"] == by_balls["relative"]["in_u"]


# --- the program for a GPU --------------------------------------------------------------------------


class Fake:
    """tests/gpu/exp.py where there is no GPU: exps of the CPU in place of the device's, one of them spoilt."""

    def __init__(self, patch: pytest.MonkeyPatch, spoil: Callable[[np.ndarray[Any, Any]], Any]):
        self.module = program("tests/gpu/exp.py")
        patch.setattr(self.module, "ours", lambda dtype: lambda x: spoil(FUNCTIONS["cpu"][dtype](x)))
        patch.setattr(self.module, "by_torch", BENCH.by_torch)
        patch.setattr(gpu, "environment", dict)

    def run(self, patch: pytest.MonkeyPatch, folder: Path) -> tuple[int, dict[str, Any]]:
        patch.setattr(sys, "argv", ["exp.py", str(folder), "--step", "100003", "--samples", "500"])
        return self.module.main(), json.loads((folder / "exp-cuda.json").read_text())


def test_the_program_for_a_gpu_accepts_what_is_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, found = Fake(monkeypatch, lambda y: y).run(monkeypatch, tmp_path)
    assert (code, found["above_declared"]) == (0, [])
    declared = {(e.backend, e.dtype) for e in EXPS if "cuda" in e.backend}
    assert {(b, d) for b, dtypes in found["exps"].items() for d in dtypes} == declared


def test_the_program_for_a_gpu_refuses_what_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spoilt = Fake(monkeypatch, lambda y: y * (1 + 8 * np.finfo(y.dtype).eps))
    code, found = spoilt.run(monkeypatch, tmp_path)
    assert code == 1
    assert [line.partition(":")[0] for line in found["above_declared"]] == [
        "exp of cuda/float64",
        "exp of cuda/float32",
    ]


def test_the_kernel_of_that_program_in_numbas_simulator() -> None:
    text = (
        "import sys, runpy, numpy as np\n"
        "found = runpy.run_path('tests/gpu/exp.py')\n"
        "found['ours'].__globals__['THREADS'] = 8\n"
        "for dtype in ('float64', 'float32'):\n"
        "    x = np.array([0, -1, -80, 3.5, -np.inf], dtype)\n"
        "    y = found['ours'](dtype)(x)\n"
        "    print(y.dtype, np.abs(y - np.exp(x)).max() <= 2e-7 * 34)\n"
    )
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    found = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert found.stdout == "float64 True\nfloat32 True\n", found.stderr


def test_pytorch_on_a_device_is_pytorch() -> None:
    x = np.array([0.0, -1.0, -700.0])
    assert np.array_equal(program("tests/gpu/exp.py").by_torch(x, "cpu"), torch.exp(torch.from_numpy(x)).numpy())
