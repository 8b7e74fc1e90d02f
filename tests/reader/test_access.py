"""The access table: what the closed grammar says of a text, and what it refuses with its line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moaproof.errors import CertificateInvalid, MoaproofError
from moaproof.reader.access import CPU_NAMES, Frame, Row, Table, layers, read_table
from moaproof.shapes import gamma, same_index
from moaproof.term import Add, In, Int, Mul, Size, Term
from tests.reader.cuda_texts import TEXTS, B, H, M, N

TILED = TEXTS["tiled"]


def table_of(name: str, text: str | None = None) -> Table:
    t = TEXTS[name]
    return read_table((text or t.text).encode(), t.inputs, t.sizes, t.out)


def rows_of(table: Table, array: str) -> list[Row]:
    return [r for r in table.rows if r.array.name == array]


def test_a_staged_tile() -> None:
    table = table_of("tiled")
    write, read = rows_of(table, "ks")
    assert (table.target, table.dtype, table.width) == ("cuda", "float32", 64)
    assert (write.write, read.write) == (True, False)
    assert (write.epoch, read.epoch) == (0, 1)
    assert write.array.space == "shared"
    assert [f.kind for f in write.array.home] == ["grid"]
    assert [f.kind for f in write.path] == ["grid", "threads", "loop", "loop", "guard"]
    assert write.array.extents == (Size("tk"), Size("dk"))
    assert TILED.text.splitlines()[write.line - 1].strip().startswith("ks[r, d] =")


def test_spaces_and_homes() -> None:
    table = table_of("tiled")
    spaces = {r.array.name: (r.array.space, len(r.array.home)) for r in table.rows}
    assert spaces["q"] == ("input", 0)
    assert spaces["out"] == ("output", 0)
    assert spaces["o"] == ("scratch", 2)  # of the thread
    assert spaces["s"] == ("scratch", 5)  # of the iteration that first assigns it


def test_global_offsets_are_read_level_by_level() -> None:
    table = table_of("tiled")
    (store,) = rows_of(table, "out")
    assert not store.flat
    assert len(store.index) == 4
    assert same_index(gamma(store.index, (B, H, N, Size("dv"))), Add(Mul(_row(store), Size("dv")), store.index[3]))


def _row(store: Row) -> Term:
    return Add(Mul(Add(Mul(store.index[0], H), store.index[1]), N), store.index[2])


def test_a_loop_with_a_step_counts_its_iterations() -> None:
    loop = next(f for f in table_of("tiled").frames if f.kind == "loop" and len(f.indices) == 2)
    assert loop.names == ("e", "e.count")
    assert loop.decides[2] is Size("tq")  # cuda.blockDim.x


def test_the_grid_axis_of_one_has_no_index() -> None:
    grid = next(f for f in table_of("decode").frames if f.kind == "grid")
    assert grid.names == ("blockIdx.x", "blockIdx.y")


def test_the_indices_of_prange_are_decoded() -> None:
    text = _cpu("    for w in prange(b * h):\n        i = w // h\n        j = w % h\n        out[i * h + j] = q[w]\n")
    table = read_table(text, (_q(),), ("b", "h"), (B, H))
    read, store = table.rows
    frame = table.frames[0]
    assert frame.kind == "threads"
    assert store.index == frame.indices
    assert read.index == frame.indices  # w is gamma of them


def test_a_wrong_decoding_is_not_taken_for_one() -> None:
    text = _cpu("    for w in prange(b * h):\n        i = w // b\n        j = w % h\n        out[i * h + j] = q[w]\n")
    _, store = read_table(text, (_q(),), ("b", "h"), (B, H)).rows
    assert store.index[0].op == "idiv"


def _q() -> Term:
    return In("q", B, H)


def _cpu(body: str, sizes: str = "b, h") -> bytes:
    names = ", ".join(CPU_NAMES)
    head = f'"""Test."""\n\nfrom moaproof.instructions.cpu_float64 import {names}\n\n\n'
    return f'{head}@njit(parallel=True, error_model="numpy")\ndef kernel(out, q, {sizes}):\n{body}'.encode()


def test_layers() -> None:
    i, j = Int(3), Int(4)
    assert layers(gamma((i, j), (M, N)), (M, N)) == (i, j)
    assert layers(gamma((i, j), (N, M)), (M, N)) is None
    assert layers(Add(i, j), (M, N)) is None
    assert layers(i, (M,)) == (i,)


# --- what is outside the grammar ----------------------------------------------------------------------------

LINES = {  # a statement that replaces "l = ZERO"
    "while": "while True: l = ZERO",
    "break": "for u in range(n): break",
    "return": "return",
    "aug": "l += ONE",
    "annotation": "l: real = ZERO",
    "two-targets": "l = p = ZERO",
    "swap": "l, p = ONE, ZERO",
    "else": "for u in range(n): l = ZERO\n    else: l = ONE",
    "if-else": "if row < n: l = ZERO\n    else: l = ONE",
    "elif": "if row < n: l = ZERO\n    elif n < row: l = ONE",
    "call": "cuda.threadfence()",
    "atomic": "cuda.atomic.add(out, 0, ONE)",
    "shuffle": "l = cuda.shfl_xor_sync(1, ONE, 1)",
    "syncwarp": "cuda.syncwarp()",
    "sync-argument": "cuda.syncthreads(1)",
    "prange": "for u in prange(n): l = ZERO",
    "empty": "l = empty(dk, real)",
    "shared-under-a-guard": "if row < n:\n        z = cuda.shared.array(dk, real)",
    "shape-of-a-parameter": "z = cuda.local.array(n, real)",
    "shape-of-a-sum": "z = cuda.local.array(dk + 1, real)",
    "shape-of-an-index": "z = cuda.local.array(t, real)",
    "other-dtype": "z = cuda.local.array(dk, fmax)",
    "alias": "z = ks",
    "slice": "l = x[0:1]",
    "whole-array": "l = exp(x)",
    "index-of-a-read": "l = x[x[0]]",
    "guard-of-a-read": "if x[0] < l: l = ZERO",
    "le": "if row <= n: l = ZERO",
    "or": "if row < n or n < row: l = ZERO",
    "chain": "if 0 < row < n: l = ZERO",
    "float": "l = 1.0",
    "string": "l = 'a'",
    "lambda": "l = (lambda: ZERO)()",
    "walrus": "l = (z := ZERO)",
    "comprehension": "l = [ZERO for u in range(n)]",
    "power": "l = x[t ** 2]",
    "negative-literal": "l = x[-1]",
    "true-as-index": "l = x[True]",
    "rank": "l = x[0, 0]",
    "rank-of-two": "l = ks[0]",
    "input-in-axes": "l = q[0, 0]",
    "global": "l = math",
    "attribute": "l = q.size",
    "other-place": "l = real(cuda.laneid)",
    "write-to-an-input": "q[0] = ZERO",
    "write-to-a-size": "n = ZERO",
    "write-to-an-index": "row = row + 1",
    "read-of-the-output": "l = out[0]",
    "nothing": "pass",
    "import": "import os",
    "def": "def f(): return ZERO",
    "delete": "del l",
    "loop-over-names": "for u in x: l = ZERO",
    "keyword-range": "for u in range(stop=n): l = ZERO",
    "tuple-loop": "for u, z in range(n): l = ZERO",
    "step-of-four": "for u in range(0, n, 1, 1): l = ZERO",
}


@pytest.mark.parametrize("name", LINES)
def test_a_statement_outside_the_grammar_is_refused(name: str) -> None:
    text = TILED.text.replace("    l = ZERO\n", f"    {LINES[name]}\n", 1)
    with pytest.raises(CertificateInvalid, match=r"kernel, line \d+|not Python"):
        table_of("tiled", text)


NAMES = {  # the statement, and what is said
    "out-of-its-block": ("if row < n:\n        z = ZERO\n    l = z", "name z is not bound"),
    "not-bound": ("l = z", "name z is not bound"),
    "index-as-scalar": ("l = fmax(row, ONE)", "name row is the index"),
    "two-kinds": ("if row < n:\n        row2 = 1\n    if row < n:\n        row2 = ONE", "name row2 is the index"),
    "bound-twice": ("t = 1", "name t is bound already"),
    "a-loop-in-its-own": ("for u in range(n):\n        for u in range(n):\n            l = ZERO", "bound already"),
    "array-twice": ("o = cuda.local.array(dv, real)", "name o is bound already"),
    "reserved": ("for cuda in range(n):\n        l = ZERO", "name cuda is taken"),
    "an-input": ("scale = ONE", "name scale is the input"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_do_not_collide(name: str) -> None:
    line, said = NAMES[name]
    with pytest.raises(CertificateInvalid, match=said):
        table_of("tiled", TILED.text.replace("    l = ZERO\n", f"    {line}\n", 1))


HEADS = {
    "no-docstring": ('"""', "x = "),
    "import-more": ("sqrt\n", "sqrt, os\n"),
    "import-as": ("cuda, exp", "cuda, exp as log"),
    "dtype": ("cuda_float32", "cuda_int8"),
    "decorator": ("@launch(", "@cuda.jit("),
    "grid-of-a-product": ('"bq", "h", "b"', '"bq", "h*b", 1'),
    "grid-of-two": ('"bq", "h", "b"', '"bq", "h"'),
    "block-of-none": ('("tq", 1, 1)', '("tq", 0, 1)'),
    "block-of-a-truth": ('("tq", 1, 1)', '("tq", True, 1)'),
    "a-new-size": ('("tq", 1, 1)', '("tz", 1, 1)'),
    "constants-twice": ('"dk", "dv", "tq", "tk"', '"dk", "dk", "tq", "tk"'),
    "constants-missing": ('"dk", "dv", "tq", "tk"', '"dk", "tq", "tk"'),
    "a-constant-as-parameter": ("n, m, bq, bk)", "n, m, dk, bq, bk)"),
    "index": ('"int64"', '"int16"'),
    "no-index": (', index="int64"', ""),
    "order": ("out, q, k, v", "out, k, q, v"),
    "default": ("bq, bk)", "bq, bk=1)"),
    "star": ("bq, bk)", "bq, *bk)"),
    "name": ("def kernel(", "def other("),
    "returns": ("bq, bk):", "bq, bk) -> None:"),
    "comment": ("    l = ZERO\n", "    l = ZERO  # none\n"),
    "tab": ("    l = ZERO\n", "\tl = ZERO\n"),
    "not-ascii": ("    l = ZERO\n", "    \u2113 = ZERO\n"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_differs_is_refused(name: str) -> None:
    old, new = HEADS[name]
    assert old in TILED.text
    with pytest.raises(CertificateInvalid):
        table_of("tiled", TILED.text.replace(old, new, 1))


CPU = {
    "cuda": "    out[cuda.threadIdx.x] = ZERO\n",
    "barrier": "    cuda.syncthreads()\n",
    "local": "    x = cuda.local.array(4, real)\n",
    "two-pranges": "    for w in prange(b):\n        out[w] = ZERO\n    for z in prange(b):\n        out[z] = ZERO\n",
    "a-prange-inside": "    for w in range(b):\n        for z in prange(b):\n            out[z] = ZERO\n",
    "beside-prange": "    for w in prange(b):\n        out[w] = ZERO\n    out[0] = ONE\n",
    "prange-of-a-sum": "    for w in prange(b + h):\n        out[w] = ZERO\n",
    "prange-from": "    for w in prange(1, b):\n        out[w] = ZERO\n",
}


@pytest.mark.parametrize("name", CPU)
def test_a_cpu_text_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(CertificateInvalid, match=r"kernel, line \d+"):
        read_table(_cpu(CPU[name]), (_q(),), ("b", "h"), (B, H))


BOMBS = {
    "nested-parentheses": "    l = " + "(" * 4000 + "ONE" + ")" * 4000 + "\n",
    "a-long-sum": "    l = ONE" + " + ONE" * 30_000 + "\n",
    "doubling": "    i0 = t + t\n" + "".join(f"    i{k + 1} = i{k} + i{k}\n" for k in range(60)) + "    l = x[i60]\n",
    "squaring": "    i0 = t * n\n" + "".join(f"    i{k + 1} = i{k} * i{k}\n" for k in range(60)) + "    l = q[i60]\n",
    "many-rows": "    l = ONE\n" * 5000,
    "a-huge-integer": "    l = x[" + "9" * 5000 + "]\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name: str) -> None:
    with pytest.raises(MoaproofError):
        table_of("tiled", TILED.text.replace("    l = ZERO\n", BOMBS[name], 1))


TOKENS = sorted(set(re.findall(r"\w+|[^\w\s]", TILED.text)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 400), st.sampled_from(TOKENS), st.sampled_from(TOKENS))
def test_an_edited_text_is_read_or_refused(place: int, new: str, other: str) -> None:
    """One token is replaced: a table or an error of moaproof, never another exception."""
    found = list(re.finditer(r"\w+|[^\w\s]", TILED.text))[place % 400]
    text = f"{TILED.text[: found.start()]}{new} {other if place % 3 == 0 else ''}{TILED.text[found.end() :]}"
    try:
        table = table_of("tiled", text)
    except MoaproofError:
        return
    assert all(isinstance(f, Frame) for r in table.rows for f in r.path)
