"""Bits: what is repeatable, what a row's bits depend on, and what equals the evaluator bit for bit."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch

from moaproof import attention
from moaproof.errors import NotCovered
from moaproof.instructions import cpu_float64
from moaproof.kernel.certificate import Certificate, parse
from moaproof.runtime.attention import KEYS
from moaproof.runtime.launch import launch
from moaproof.runtime.loader import Loaded, load
from moaproof.semantics import Numbers, evaluate
from moaproof.term import F, Real
from moaproof.testing import bits, oracles
from moaproof.testing.oracles import plain, rows_bits


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


Q, K, V = random(2, 3, 37, 8), random(2, 3, 2 * KEYS + 5, 8, seed=1), random(2, 3, 2 * KEYS + 5, 6, seed=2)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def test_again_and_with_one_thread_gives_the_same_bits() -> None:
    first = attention(Q, K, V, is_causal=True)
    assert all(same(first, attention(Q, K, V, is_causal=True)) for _ in range(20))
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert same(first, attention(Q, K, V, is_causal=True))
    finally:
        numba.set_num_threads(threads)


def test_a_row_has_the_same_bits_alone_in_its_head_and_in_its_batch() -> None:
    whole = attention(Q, K, V)
    for b, h, i in ((0, 0, 0), (1, 2, 36), (1, 0, 17)):
        alone = attention(Q[b, h, i : i + 1], K[b, h], V[b, h])
        assert same(alone, whole[b, h, i : i + 1])


def test_a_layout_does_not_change_bits() -> None:
    first = attention(Q, K, V)
    turned = [x.transpose(1, 3).contiguous().transpose(1, 3) for x in (Q, K, V)]
    assert not any(x.is_contiguous() for x in turned)
    assert same(first, attention(*turned))


def test_heads_do_not_depend_on_one_another() -> None:
    order = [2, 0, 1]
    assert same(attention(Q[:, order], K[:, order], V[:, order]), attention(Q, K, V)[:, order])


SIZES = {"b": 1, "h": 2, "n": 4, "m": 7, "dk": 3, "dv": 2, "tq": 3, "bq": 2}


def small(dtype: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {"q": (2, 4, 3), "k": (2, 7, 3), "v": (2, 7, 2)}
    found = {name: rng.standard_normal(shape).ravel().astype(dtype) for name, shape in shapes.items()}
    return found | {"scale": np.dtype(dtype).type(0.3)}


def test_rows_equals_the_evaluator_bit_for_bit() -> None:
    """Class I and S only: the compiled kernel, and the Spec in its own order with the same exp."""
    kernel, x = load("attention-rows", "float64"), small()
    out = np.full(16, np.nan)
    launch(kernel, out, x, SIZES)
    assert out.tobytes() == rows_bits(kernel.certificate, SIZES, x).tobytes()


def test_another_exp_would_be_seen() -> None:
    """With the C library's exp the evaluator differs in some bit at one of a few seeds: the comparison decides."""
    c = load("attention-rows", "float64").certificate
    differ = 0
    for seed in range(5):
        x = small() | {"q": np.random.default_rng(seed).standard_normal(24) * 3}
        cells = evaluate(c.spec, Numbers(SIZES, {k: np.atleast_1d(v).tolist() for k, v in x.items()}))[1]
        differ += np.array(cells).tobytes() != rows_bits(c, SIZES, x).tobytes()
    assert differ > 0


@pytest.mark.parametrize(("name", "dtype"), [("attention-online", "float64"), ("attention-online", "float32")])
def test_compiled_equals_plain_python_bit_for_bit(name: str, dtype: str) -> None:
    """What Numba made of the text does what Python makes of it: nothing reassociated, nothing contracted."""
    kernel, x = load(name, dtype), small(dtype)
    sizes = SIZES | {"tk": 3, "bk": 3}
    out, due = np.full(16, np.nan, dtype), np.full(16, np.nan, dtype)
    launch(kernel, out, x, sizes)
    plain(kernel)(due, *(x[t.data[0]] for t in kernel.certificate.inputs), *(sizes[s] for s in kernel.sizes))
    assert out.tobytes() == due.tobytes()


def test_online_differs_from_the_evaluator_in_bits() -> None:
    """A class R derivation changes bits: that ``rows`` does not is a fact about ``rows``."""
    kernel, x = load("attention-online", "float64"), small()
    out = np.empty(16)
    launch(kernel, out, x, SIZES | {"tk": 3, "bk": 3})
    due = rows_bits(kernel.certificate, SIZES, x)
    assert out.tobytes() != due.tobytes()
    assert np.abs(out - due).max() < 1e-14


# --- every certificate whose steps are I and S alone -----------------------------------------------


@cache
def certificates() -> tuple[Certificate, ...]:
    found = sorted(files("moaproof.certs").iterdir(), key=lambda f: f.name)
    return tuple(parse(f.read_bytes()) for f in found if f.name.endswith(".json"))


KEPT = ("attention-rows", "causal-rows", "masked-rows")
TEXTS = [(name, dtype) for name in KEPT for dtype in ("float64", "float32")
         if any(k.dtype == dtype for c in certificates() if c.name == name for k in c.kernels)]  # fmt: skip


def test_these_certificates_keep_every_bit() -> None:
    assert tuple(c.name for c in certificates() if all(s.kind in "IS" for s in c.steps)) == KEPT
    assert {name for name, _ in TEXTS} == set(KEPT)
    assert ("attention-rows", "float32") in TEXTS


# n, m, dk, dv, tq, steps of the mask along b, h, n, m
RAGGED = ((5, 7, 3, 2, 2, (1, 1, 1, 1)), (1, 4, 2, 5, 8, (0, 0, 1, 1)), (6, 3, 1, 1, 4, (1, 0, 0, 1)),
          (3, 1, 4, 2, 1, (0, 1, 1, 0)), (4, 0, 2, 2, 3, (1, 1, 1, 1)), (3, 5, 0, 2, 2, (1, 1, 1, 1)),
          (9, 11, 8, 3, 9, (0, 0, 0, 0)))  # fmt: skip


def ragged(c: Certificate, shape: tuple[Any, ...], dtype: str) -> tuple[dict[str, int], dict[str, Any]]:
    """Sizes and inputs; the last key is hidden and not finite, and the first query sees none, where a mask says so."""
    n, m, dk, dv, tq, steps = shape
    rng, b, h = np.random.default_rng((n, m, dk)), 2, 3
    sizes = {"b": b, "h": h, "n": n, "m": m, "dk": dk, "dv": dv, "tq": tq, "bq": -(-n // tq)}
    x = {"q": rng.standard_normal((b, h, n, dk)) * 3, "k": rng.standard_normal((b, h, m, dk)),
         "v": rng.standard_normal((b, h, m, dv))}  # fmt: skip
    inputs: dict[str, Any] = {"scale": np.dtype(dtype).type(0.3)}
    if any(t.data[0] == "mask" for t in c.inputs):
        mask = rng.random([e if s else 1 for e, s in zip((b, h, n, m), steps, strict=True)]) < 0.6
        if steps[2]:
            mask[:, :, 0] = False
        if steps[3] and m:
            mask[..., -1] = False
            x["k"][:, :, -1], x["v"][:, :, -1] = math.nan, math.inf
        sizes |= {f"m{a}": e for a, e in zip("bhnm", mask.shape, strict=True)}
        sizes |= {f"s{a}": s for a, s in zip("bhnm", steps, strict=True)}
        inputs["mask"] = mask.ravel()
    return sizes, inputs | {name: a.astype(dtype).ravel() for name, a in x.items()}


@pytest.mark.parametrize(("name", "dtype"), TEXTS)
def test_a_rows_kernel_has_every_bit_of_its_spec(name: str, dtype: str) -> None:
    kernel = load(name, dtype)
    for shape in RAGGED:
        sizes, x = ragged(kernel.certificate, shape, dtype)
        out = np.full(6 * shape[0] * shape[3], np.nan, dtype)
        launch(kernel, out, x, sizes)
        due = rows_bits(kernel.certificate, sizes, x, dtype)
        assert out.dtype == due.dtype == dtype
        assert out.tobytes() == due.tobytes(), shape
        assert np.isfinite(out).all()


def contracted(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The right order, but the products of a score are not rounded before they are added: as fused multiply-adds."""
    wide = [x.astype(np.longdouble) for x in (q, k)]
    scores = np.zeros((len(q), len(k)))
    for x in range(q.shape[1]):
        scores = (scores + wide[0][:, x, None] * wide[1][None, :, x]).astype(np.float64)
    scores = scores * (1 / math.sqrt(q.shape[1]))
    weights = bits.EXPS["moaproof"](scores - scores.max(axis=1, keepdims=True))
    total = bits._sum(weights.T, (len(q),))[:, None]
    return bits._sum((weights[:, j, None] / total * v[j] for j in range(len(k))), (len(q), v.shape[1]))


CHANGED = {
    "divide last": bits.Order("after", "moaproof", last=True),
    "scale before": bits.Order("before", "moaproof", last=False),
    "exp of C": bits.Order("after", "C", last=False),
    "exp of PyTorch": bits.Order("after", "PyTorch", last=False),
    "keys from the last": lambda q, k, v: bits.OWN_ORDER(q, k[::-1], v[::-1]),
    "contracted": contracted,
}


@pytest.mark.parametrize("change", CHANGED)
def test_every_other_order_or_exp_is_seen(change: str) -> None:
    """Of 20 arrays of normal numbers the right order gives all, and each change misses some bit of one."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(20):
        q, k, v = (rng.standard_normal((6, 3)) for _ in range(3))  # sqrt(3) is no power of 2: scaling rounds
        found = bits.kernel("attention-rows", q, k, v)
        assert found.tobytes() == bits.OWN_ORDER(q, k, v).tobytes()
        wrong += found.tobytes() != CHANGED[change](q, k, v).tobytes()
    assert wrong > 0


def test_the_evaluator_in_float32_rounds_to_float32() -> None:
    """In float64 the same Spec has other values: the dtype of the evaluator decides."""
    kernel = load("attention-rows", "float32")
    sizes, x = ragged(kernel.certificate, RAGGED[0], "float32")
    single, double = (rows_bits(kernel.certificate, sizes, x, dtype) for dtype in ("float32", "float64"))
    assert (single != double).any()
    assert np.allclose(single, double, rtol=1e-5, atol=1e-6)


def test_the_evaluator_rounds_constants_and_each_operation_to_the_dtype() -> None:
    """1/3 is rounded first, as the texts have it, and then its square; rounding the exact square gives another."""
    square = replace(load("attention-rows", "float32").certificate, spec=F("mul", Real(1, 3), Real(1, 3)))
    (found,) = rows_bits(square, {}, {}, "float32")
    assert found == np.float32(1 / 3) * np.float32(1 / 3) != np.float32(1 / 9)


# --- the table -------------------------------------------------------------------------------------

FEW = (bits.Size(2, 2, 3), bits.Size(5, 3, 2))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return bits.measure(FEW, seed=3)


def edited(document: dict[str, Any], change: Any) -> dict[str, Any]:
    """A copy of which ``change`` may set the counts: pair, (elements, of elements), (arrays, of arrays)."""
    new = copy.deepcopy(document)
    for table in new["tables"]:
        for pair in table["pairs"]:
            pair["elements"], pair["arrays"] = change((pair["left"], pair["right"]), pair["elements"], pair["arrays"])
    return new


def test_the_counts_are_of_these_arrays_and_what_is_claimed_holds(document: dict[str, Any]) -> None:
    assert document["schema"] == "moaproof/bits/1"
    assert [(t["inputs"], t["n"]) for t in document["tables"]] == [(i, n) for i in bits.INPUTS for n in (2, 5)]
    for table in document["tables"]:
        assert {(p["left"], p["right"]) for p in table["pairs"] if p["claimed"]} == set(bits.CLAIMED)
        assert len(table["pairs"]) == 5 + 14 * 3 + 3
        for p in table["pairs"]:
            assert p["arrays"][1] == table["arrays"]
            assert p["elements"][1] == table["arrays"] * table["n"] * table["d"]
            assert p["elements"][0] == p["elements"][1] or not p["claimed"]
    assert bits.broken(document) == []
    assert document["kernels"]["attention-rows/float64"] == load("attention-rows", "float64").sha256


def test_the_same_seed_gives_the_same_bytes(document: dict[str, Any]) -> None:
    assert json.dumps(bits.measure(FEW, seed=3)) == json.dumps(document)
    assert bits.measure(FEW, seed=4)["tables"] != document["tables"]


def test_threads_are_as_they_were() -> None:
    before, most = (torch.get_num_threads(), numba.get_num_threads()), numba.config.NUMBA_NUM_THREADS
    try:
        torch.set_num_threads(2)
        numba.set_num_threads(most)
        bits.measure((bits.Size(2, 2, 1),))
        assert (torch.get_num_threads(), numba.get_num_threads()) == (2, most)
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def last_bit(name: str, calls: list[str]) -> Any:
    """``launch`` that changes the last element of the named kernel by a unit in the last place, every other time."""

    def launched(kernel: Loaded, out: np.ndarray, inputs: Any, sizes: Any) -> None:
        launch(kernel, out, inputs, sizes)
        calls.append(kernel.certificate.name)
        if kernel.certificate.name == name and calls.count(name) % 2:
            out[-1] = np.nextafter(out[-1], math.inf)

    return launched


@pytest.mark.parametrize(("name", "pair"), [("attention-rows", "itself, again"), ("attention-online", "itself, again"),
                                            ("attention-rows", "its Spec, evaluated"),
                                            ("attention-rows", "its order in NumPy")])  # fmt: skip
def test_one_bit_off_where_bits_are_claimed_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, name: str, pair: str
) -> None:
    monkeypatch.setattr(bits.measure, "__defaults__", (FEW, 3))
    said: list[str] = []
    assert bits.run(None, said.append) == 0
    monkeypatch.setattr(bits, "launch", last_bit(name, []))
    assert bits.run(None, said.append) == 1
    assert said[-2].startswith("Claimed, and refuted: ")
    assert f"{name} = {pair}: " in said[-2]


def test_another_exp_in_the_evaluator_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits.measure, "__defaults__", ((bits.Size(5, 3, 8),), 3))

    class Exp:
        py_func = staticmethod(lambda x: np.float64(math.exp(x)))

    class Other:
        real, fmax, sqrt, exp = cpu_float64.real, cpu_float64.fmax, cpu_float64.sqrt, Exp()

    monkeypatch.setitem(oracles.INSTRUCTIONS, "float64", Other)
    said: list[str] = []
    assert bits.run(None, said.append) == 1
    assert "attention-rows = its Spec, evaluated" in said[-2]
    assert "its order in NumPy" not in said[-2]


def test_the_verdict_follows_the_counts(document: dict[str, Any]) -> None:
    none = edited(document, lambda pair, e, a: ([0, e[1]], [0, a[1]]))
    every = edited(document, lambda pair, e, a: ([e[1], e[1]], [a[1], a[1]]))
    order = (str(bits.ORDERS[0]), bits.MATH)
    one = edited(document, lambda pair, e, a: ([e[1], e[1]], [a[1], a[1]]) if pair == order else ([0, e[1]], [0, a[1]]))
    # all whole but the last array of each table, in one element
    near = edited(document, lambda pair, e, a: ([e[1] - 1, e[1]], [a[1] - 1, a[1]]))
    assert "in float64: refuted: of 10 whole arrays" in bits.verdict(none)
    assert " in 0; the best of 14 ways" in bits.verdict(none)
    assert "in float64: tested; of 10 whole arrays attention-rows has the bits of" in bits.verdict(every)
    assert "in float64: refuted for our kernels: " in bits.verdict(one)
    assert f'the order "{order[0]}" has those of {bits.MATH} in all' in bits.verdict(one)
    assert "in float64: refuted: of 10 whole arrays" in bits.verdict(near)
    assert " in 6; " in bits.verdict(near)
    assert bits.claims(document).startswith("Claimed, and tested")
    assert bits.claims(none).startswith("Claimed, and refuted")
    few = copy.deepcopy(document)
    del few["tables"][1]["pairs"][0]  # what was not compared does not hold
    assert bits.broken(few) == ["attention-rows = its Spec, evaluated: 0.0 %, 0/0 (normal, n = 5, d = 3)"]


def counted(a: np.ndarray, b: np.ndarray) -> bits.Count:
    count = bits.Count()
    count.add(a, b)
    return count


def test_counting_is_of_bits() -> None:
    assert counted(np.array([[0.0, 1.0]]), np.array([[-0.0, 1.0]])) == bits.Count(1, 2, 0, 1)  # equal numbers
    assert counted(np.array([[math.nan, 1.0]]), np.array([[math.nan, 1.0]])) == bits.Count(2, 2, 1, 1)
    assert counted(np.zeros((1, 2)), np.zeros((2, 2))) == bits.Count(0, 4, 0, 1)  # another shape
    assert str(bits.Count(99999, 100000, 0, 1)) == "99.9 %, 0/1"  # never rounded up to all
    assert str(bits.Count(7, 7, 1, 1)) == "100.0 %, 1/1"
    assert not bits.Count(7, 7, 0, 1).whole


def test_the_best_order_of_a_cell_is_the_best(document: dict[str, Any]) -> None:
    for table in document["tables"]:
        counts = bits._counts(table)
        for path in bits.THEIRS:
            of_path = [counts[str(o), path] for o in bits.ORDERS]
            assert counts[bits.BEST, path].arrays == max(c.arrays for c in of_path)


def test_tables_for_a_terminal_and_for_a_document(document: dict[str, Any]) -> None:
    said, text = bits.lines(document), bits.markdown(document, {})
    for left, right in bits.SHOWN:
        assert sum(line.startswith(f"{left} = {right} ") for line in said) == 2
        assert text.count(f"| {left} = {right} | ") == 2
    assert said[-1] == bits.verdict(document)
    assert bits.verdict(document) in text
    assert "2 kernels, 0 of them" in text
    assert "2 kernels, 1 of them" in bits.markdown(document, {"attention-rows/float64": load(*TEXTS[0]).sha256})
    columns = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert columns == {4}


def test_a_file_is_written_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits.measure, "__defaults__", ((bits.Size(2, 2, 1),), 0))
    assert bits.run(tmp_path / "new", lambda _: None) == 0
    written = json.loads((tmp_path / "new" / "bits.json").read_bytes())
    assert bits.lines(written) == bits.lines(bits.measure())
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(bits, "measure", lambda: pytest.fail("work before the folder was seen to be writable"))
    with pytest.raises(NotCovered, match="cannot be written"):
        bits.run(tmp_path / "file" / "folder", lambda _: None)


def test_the_committed_evidence_is_of_this_schema_and_its_claims_hold() -> None:
    found = json.loads((Path(__file__).parents[2] / "evidence" / "bits.json").read_bytes())
    assert found["schema"] == bits.SCHEMA
    assert [(t["n"], t["d"], t["arrays"]) for t in found["tables"]] == [(s.n, s.d, s.arrays) for s in bits.SIZES] * 2
    assert bits.broken(found) == []
    assert "refuted" in bits.verdict(found)
    assert set(found["kernels"]) == {"attention-rows/float64", "attention-online/float64"}
