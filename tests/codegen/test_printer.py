"""The printed kernels, compiled: against PyTorch, and bit for bit against the evaluator of the term."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moaproof.codegen import print_kernel
from moaproof.errors import IllFormed, NotCovered
from moaproof.instructions import cpu_float32, cpu_float64
from moaproof.reader import is_onf, read_kernel, require_onf
from moaproof.semantics import Numbers, evaluate
from moaproof.term import ZERO, Build, F, Flat, Fold, In, Let, Lt, Psi, Real, Size, Term, Var
from tests.codegen.onfs import CORE, VARIANTS, Kernel, sizes_for


class SameExp(Numbers):
    """Float64 by Python's operations, with the instruction's exp in place of the C library's."""

    def function(self, name: str, args: Any) -> float:
        if name == "exp":
            return float(cpu_float64.exp.py_func(np.float64(args[0])))
        return super().function(name, args)


def text_of(k: Kernel, dtype: str = "float64") -> str:
    return print_kernel(k.onf, k.inputs, k.sizes, "cpu", dtype, {"core": CORE, "name": "test"})


def compiled(k: Kernel, folder: Path, dtype: str = "float64") -> Any:
    path = folder / "kernel.py"
    path.write_text(text_of(k, dtype))
    return runpy.run_path(str(path))["kernel"]


def run(
    kernel: Any, k: Kernel, sizes: dict[str, int], dtype: Any, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)

    def total(t: Term) -> int:
        return int(np.prod([sizes[e.data] for e in t.args]))

    given = {
        t.data[0]: rng.random(total(t)) < 0.6 if t.data[1] == "bool" else rng.standard_normal(total(t)).astype(dtype)
        for t in k.inputs
    }
    lead = [sizes[s] for s in k.sizes[: k.sizes.index("n")] if s not in ("g", "r")]
    out = np.full(int(np.prod([*lead, sizes["n"], sizes["dv"]])), np.nan, dtype)
    kernel(out, *(given[t.data[0]] if t.args else given[t.data[0]][0] for t in k.inputs), *(sizes[s] for s in k.sizes))
    return out, given


def sdpa(k: Kernel, sizes: dict[str, int], given: dict[str, np.ndarray]) -> np.ndarray:
    q, key, v = (
        torch.from_numpy(given[t.data[0]].astype(np.float64)).reshape([sizes[e.data] for e in t.args])
        for t in k.inputs[:3]
    )
    visible = torch.ones(sizes["n"], sizes["m"], dtype=torch.bool)
    if "mask" in given:
        visible &= torch.from_numpy(given["mask"]).reshape(sizes["n"], sizes["m"]) & visible.tril()
    score = (q @ key.transpose(-1, -2) * float(given["scale"][0])).masked_fill(~visible, -torch.inf)
    weight = torch.nan_to_num(torch.softmax(score, -1)) * visible
    return (weight @ v).numpy().ravel()


@pytest.mark.parametrize("name", ["online-masked", "rows-masked", "online-rank-5"])
def test_float64_is_pytorch_and_the_term_bit_for_bit(name: str, tmp_path: Path) -> None:
    k = VARIANTS[name]
    kernel = compiled(k, tmp_path)
    for seed, sizes in enumerate((sizes_for(2, 2, 9, 11, 6, 5, 4, 3), sizes_for(1, 1, 2, 7, 3, 2, 5, 9))):
        out, given = run(kernel, k, sizes, np.float64, seed)
        np.testing.assert_allclose(out, sdpa(k, sizes, given), rtol=1e-12, atol=1e-14)
        _, due = evaluate(k.onf, SameExp(sizes, {n: x.tolist() for n, x in given.items()}))
        assert np.array_equal(out, np.array(due))
    out, given = run(kernel, k, sizes_for(2, 3, 150, 131, 64, 64, 64, 32), np.float64, 9)
    np.testing.assert_allclose(out, sdpa(k, sizes_for(2, 3, 150, 131, 64, 64, 64, 32), given), rtol=1e-11, atol=1e-12)
    sizes = sizes_for(1, 2, 9, 7, 3, 2, 2, 3)
    due, _ = run(kernel, k, sizes, np.float64, 4)
    out, _ = run(kernel, k, {**sizes, "bq": sizes["bq"] + 3, "bk": sizes["bk"] + 3}, np.float64, 4)
    assert np.array_equal(out, due)  # tiles beyond the end are empty
    out, _ = run(kernel, k, sizes_for(1, 2, 4, 0, 3, 2, 2, 2), np.float64, 3)
    assert not out.any()  # no key is visible: 0, and written


def test_float32_computes_in_float32(tmp_path: Path) -> None:
    k = VARIANTS["online"]
    kernel = compiled(k, tmp_path, "float32")
    sizes = sizes_for(2, 2, 70, 65, 64, 33, 32, 16)
    out, given = run(kernel, k, sizes, np.float32, 5)
    assert out.dtype == np.float32
    due = sdpa(k, sizes, given)
    assert np.abs(out - due).max() < 3e-5
    assert np.abs(out - due).max() > 1e-9  # and not in float64
    arrays = [a for types in kernel.nopython_signatures for a in types.args]
    assert "float64" not in str(arrays)


def test_the_two_dtypes_differ_in_one_line() -> None:
    for k in VARIANTS.values():
        one, two = text_of(k).splitlines(), text_of(k, "float32").splitlines()
        assert [x for x in one if "float" not in x] == [x for x in two if "float" not in x]
        assert sum("float" in x for x in one[one.index('"""', 1) :]) == 1
    with pytest.raises(NotCovered, match="float16"):
        text_of(VARIANTS["rows"], "float16")


@pytest.mark.parametrize("module", [cpu_float64, cpu_float32], ids=["float64", "float32"])
def test_instructions_mean_what_they_say(module: Any) -> None:
    real = module.real
    x = np.concatenate([np.linspace(-86, 0, 4001), np.linspace(0, 80, 1001)]).astype(real)
    y = np.array([module.exp(v) for v in x], real)
    due = np.exp(x.astype(np.longdouble))
    assert np.max(np.abs(y - due) / np.spacing(due.astype(real))) < 1.0
    inf, nan = real("inf"), real("nan")
    assert [module.exp(real(v)) for v in (0, -inf, inf)] == [1, 0, np.inf]
    assert np.isnan(module.exp(nan))
    assert np.isnan(module.fmax(nan, real(1)))
    assert np.isnan(module.fmax(real(1), nan))
    assert np.isnan(module.fmax(module.LOWEST, nan))
    assert module.fmax(module.LOWEST, real(-3)) == -3
    assert module.fmax(real(-3), module.LOWEST) == -3
    assert str(module.fmax(real(-0.0), real(0.0))) == "-0.0"  # the first on a tie, as Python's max
    assert module.rescale(module.LOWEST, module.LOWEST) == 0
    assert module.rescale(module.LOWEST, real(2)) == 0
    assert module.rescale(real(2), real(2)) == 1
    assert module.quotient(real(0), real(0)) == 0
    assert module.quotient(real(3), real(2)) == 1.5
    assert module.sqrt(real(2)) == np.sqrt(real(2))


n, m = Size("n"), Size("m")
X = In("x", n, m)


def kernel_of(element: Term) -> Term:
    return Build(n, element, "core")


@pytest.mark.parametrize(
    ("element", "why"),
    [
        (Fold("add", m, Flat(X, Var(0))), "bind the fold by a let"),
        (Psi(X, Var(0), ZERO), "psi indexes a let"),
        (Let(Real(1), Flat(X, Var(1))), "constant 0 or 1"),
        (Let(Fold("add", m, Let(Flat(X, Var(0)), F("exp", Var(0))), Lt(Var(0), n)), Build(m, Var(1), "lane")), "build"),
        (Flat(X, Var(3)), "closed"),
        (Let(Flat(X, Var(0)), Flat(X, Var(0))), "index"),
    ],
)
def test_what_is_no_onf_is_refused_with_its_place(element: Term, why: str) -> None:
    t = kernel_of(element)
    assert not is_onf(t)
    with pytest.raises(IllFormed, match=why):
        require_onf(t)


def test_small_nests_without_attention() -> None:
    """Products, constants, casts, wheres, negations, in plain text: they read back to the same object."""
    product = Fold("mul", m, F("neg", F("add", Flat(X, Var(0)), F("sub", Real(1, 3), Term("cast", None, (Var(0),))))))
    nest = kernel_of(
        Let(product, Let(F("sqrt", Var(0)), F("div", F("mul", Var(0), Var(1)), F("max", Var(0), Real(1)))))
    )
    inner = F("div", Psi(Var(2), Var(1), Var(0)), F("neg", F("neg", Real(-1, 2))))
    table = Let(Build(n, Build(m, Flat(X, Var(0)))), Build(n, Build(m, inner)))
    for t in (nest, table):
        require_onf(t)
        text = print_kernel(t, [X], ["n", "m"], "cpu", "float64", {"core": CORE})
        assert read_kernel(text.encode(), [X], ["n", "m"]).term is t
