"""Printed CUDA launches: where values are kept, where barriers stand, and what is no row program of blocks."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from moaproof.codegen import print_kernel
from moaproof.codegen.cuda import contiguous, folded
from moaproof.errors import NotCovered
from moaproof.kernel.certificate import Certificate
from moaproof.reader import read_kernel
from moaproof.term import Add, Build, Flat, Fold, In, Mul, Psi, Size, Term, Var
from tests.codegen.onfs import CORE, VARIANTS


@pytest.fixture(scope="module")
def texts(derivation: Any) -> dict[str, str]:
    """The float64 text of each (function, schedule)."""
    found = {}
    for function in ("sdpa", "sdpa_causal", "sdpa_gqa_masked"):
        for schedule in ("cuda-online", "cuda-split"):
            spec, chain = derivation("attention", function, schedule)
            found[function, schedule] = printed(spec.inputs, chain.term, chain.tilings)
    return found


def printed(inputs: tuple[Term, ...], onf: Term, tilings: Any, dtype: str = "float64") -> str:
    c = Certificate("test", {}, onf, onf, onf, inputs, (), tuple(tilings), {}, (), "")
    return print_kernel(onf, inputs, c.sizes(), "cuda", dtype, {"core": CORE, "name": "test"})


def statements(text: str, launch: int = 0) -> list[str]:
    """The lines of one launch's body, without their indentation."""
    f = [x for x in ast.parse(text).body if isinstance(x, ast.FunctionDef)][launch]
    return [line.strip() for line in text.splitlines()[f.lineno : f.end_lineno]]


def test_each_text_is_python_and_deterministic(texts: dict[str, str], derivation: Any) -> None:
    for (function, schedule), text in texts.items():
        ast.parse(text)
        spec, chain = derivation("attention", function, schedule)
        assert printed(spec.inputs, chain.term, chain.tilings) == text


def test_dtypes_differ_in_the_import_and_the_docstring_alone(derivation: Any, texts: dict[str, str]) -> None:
    spec, chain = derivation("attention", "sdpa", "cuda-split")
    other = printed(spec.inputs, chain.term, chain.tilings, "float32")
    assert other.partition("\n@")[2] == texts["sdpa", "cuda-split"].partition("\n@")[2]
    assert other.replace("float32", "float64") == texts["sdpa", "cuda-split"]


def test_what_folds_run_over_is_shared_and_the_rest_in_registers(texts: dict[str, str]) -> None:
    """Queries, keys, values, scores and weights are shared; the sums of a tile and the states are in registers."""
    lines = statements(texts["sdpa", "cuda-online"])
    assert sum("= view(" in line for line in lines) == 5
    assert sum("= cuda.local.array(" in line for line in lines) == 10
    assert sum(line.startswith("pool = ") for line in lines) == 1


def test_views_lie_side_by_side(texts: dict[str, str]) -> None:
    for text in texts.values():
        ends = [re.search(r"view\(pool, (\w+), (\w+),", line) for line in statements(text)]
        pairs = [m.groups() for m in ends if m]
        assert [start for start, _ in pairs] == ["0", *[stop for _, stop in pairs[:-1]]]


def test_barriers(texts: dict[str, str]) -> None:
    """After staging, after the scores, after the weights, and at the end of a tile; none under a guard of rows."""
    for (_, schedule), text in texts.items():
        assert sum(line == "cuda.syncthreads()" for line in statements(text)) == 4
        if schedule == "cuda-split":
            assert "cuda.syncthreads()" not in statements(text, 1)


def test_threads_next_to_each_other_read_global_memory_next_to_each_other(texts: dict[str, str]) -> None:
    """Each staged read ends in the index that x deals."""
    for text in texts.values():
        lines = text.splitlines()
        for k, line in enumerate(lines):
            staged = re.search(r"= \((?:q|k|v)\[.* \+ (\w+)\] if ", line)
            if staged:
                assert lines[k - 1].strip().startswith(f"for {staged[1]} in span(x, ")


def test_the_merge_of_states_has_no_shared_memory(texts: dict[str, str]) -> None:
    merge = statements(texts["sdpa", "cuda-split"], 1)
    assert not [line for line in merge if "cuda.shared" in line or "cuda.local" in line or "threadIdx.y" in line]


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_programs_of_the_cpu_are_refused(name: str) -> None:
    k = VARIANTS[name]
    with pytest.raises(NotCovered):
        print_kernel(k.onf, k.inputs, k.sizes, "cuda", "float64", {"core": CORE})


def test_folded_sees_the_indices_of_folds_alone() -> None:
    n = Size("n")
    a = In("a", n)
    assert folded(Fold("add", n, Psi(Var(1), Var(0))), 0)
    assert folded(Fold("add", n, Build(n, Psi(Var(2), Var(1)))), 0)
    assert not folded(Build(n, Psi(Var(1), Var(0))), 0)
    assert not folded(Fold("add", n, Psi(a, Var(0))), 0)


def test_contiguous_is_the_last_addend_of_an_offset() -> None:
    a = In("a", Size("n"), Size("d"))
    assert contiguous(Flat(a, Add(Mul(Var(0), Size("d")), Var(1)))) == 1
    assert contiguous(Flat(a, Add(Mul(Var(1), Size("d")), Var(0)))) == 0


def renamed(t: Term, names: dict[str, str]) -> Term:
    if t.op == "in":
        return In(names.get(t.data[0], t.data[0]), *t.args, sort=t.data[1])
    return Term(t.op, t.data, [renamed(a, names) for a in t.args])


@pytest.mark.parametrize("schedule", ["cuda-online", "cuda-split"])
def test_a_tensor_may_be_called_as_the_threads_are(derivation: Any, schedule: str) -> None:
    """It keeps its name; the text reads back to the same ONF."""
    spec, chain = derivation("attention", "sdpa", schedule)
    names = {"q": "x", "k": "y"}
    inputs, onf = tuple(renamed(t, names) for t in spec.inputs), renamed(chain.term, names)
    sizes = Certificate("test", {}, onf, onf, onf, inputs, (), tuple(chain.tilings), {}, (), "").sizes()
    text = printed(inputs, onf, chain.tilings)
    assert "x = cuda.threadIdx.x" not in statements(text)
    assert read_kernel(text.encode(), inputs, sizes).term is onf


@pytest.mark.parametrize("name", ["pool", "p1", "p5"])
def test_a_tensor_that_is_called_as_shared_memory_is_refused(derivation: Any, name: str) -> None:
    spec, chain = derivation("attention", "sdpa", "cuda-online")
    inputs, onf = tuple(renamed(t, {"v": name}) for t in spec.inputs), renamed(chain.term, {"v": name})
    with pytest.raises(NotCovered, match=f"{name} names a part of shared memory"):
        printed(inputs, onf, chain.tilings)
