"""The access table: what the closed grammar says of a text, and what it refuses with its line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moaproof.errors import CertificateInvalid, MoaproofError
from moaproof.reader.access import CPU_NAMES, Frame, Row, Table, layers, read_table
from moaproof.shapes import gamma, product, same_index
from moaproof.term import Add, In, Int, Mul, Size, Term, subterms
from tests.reader.cuda_texts import TEXTS, B, H, M, N

TILED = TEXTS["tiled"]


def tables_of(name: str, text: str | None = None) -> tuple[Table, ...]:
    t = TEXTS[name]
    return read_table((text or t.text).encode(), t.inputs, t.sizes, t.out)


def table_of(name: str, text: str | None = None) -> Table:
    """The table of a text of one launch."""
    (table,) = tables_of(name, text)
    return table


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


def test_the_indices_of_a_lifted_grid_axis_are_decoded() -> None:
    table = table_of("online")
    grid, threads = table.frames[:2]
    assert grid.names == ("blockIdx.x.0", "blockIdx.x.1", "blockIdx.x.2")
    assert grid.extents == (B, H, Size("bq"))
    assert threads.names == ("threadIdx.x", "threadIdx.y")
    assert table.grid == (Mul(Mul(B, H), Size("bq")), Int(1), Int(1))
    assert table.block == (Size("tx"), Size("ty"), Int(1))
    (store,) = rows_of(table, "out")
    assert store.index[:2] == grid.indices[:2]
    assert grid.indices[2] in set(subterms(store.index[2]))


def test_a_lifted_grid_axis_that_is_decoded_by_other_factors_stays_divided() -> None:
    table = table_of("online", TEXTS["online"].text.replace("i2 = w1 // (h * bq)", "i2 = w1 // (b * bq)"))
    (store,) = rows_of(table, "out")
    assert store.index[0].op == "idiv"
    assert store.index[1] is table.frames[0].indices[1]


def test_views_lie_side_by_side_in_the_pool() -> None:
    table = table_of("online")
    arrays = {r.array.name: r.array for r in table.rows if r.array.space == "shared"}
    assert list(arrays) == ["z5", "k18", "v18", "x18", "x33"]
    assert all(a.home == table.frames[:1] for a in arrays.values())
    total = Int(0)
    for a in arrays.values():
        total = Add(total, product(a.extents))
    assert same_index(table.pool, total)
    assert table_of("decode").pool.op == "iadd"
    assert tables_of("split")[1].pool is Int(0)


def test_each_launch_has_a_table() -> None:
    partial, kernel = tables_of("split")
    assert (partial.name, kernel.name) == ("partial", "kernel")
    made = {a.name: a.extents for a in partial.outputs}
    lead = (Size("bp"), B, H, N)
    assert made == {"m50": lead, "l51": lead, "o52": (*lead, Mul(Size("rc"), Size("tx")))}
    assert [a.name for a in kernel.outputs] == ["out"]
    assert partial.parameters[:4] == ("m50", "l51", "o52", "q")
    assert kernel.parameters[:5] == ("out", "m50", "l51", "o52", "q")
    assert partial.constants == ("dk", "ri", "ty", "rj", "tx", "rc")
    assert kernel.constants == ("tx",)
    assert "dk" not in partial.parameters
    assert "dk" in kernel.parameters
    (read,) = rows_of(kernel, "o52")
    assert (read.array.space, read.write, len(read.index)) == ("input", False, 5)
    assert {r.array.space for r in rows_of(partial, "o52")} == {"output"}
    assert partial.grid[0] is Mul(Mul(Mul(Size("bp"), B), H), Size("bq"))


def test_the_indices_of_prange_are_decoded() -> None:
    text = _cpu("    for w in prange(b * h):\n        i = w // h\n        j = w % h\n        out[i * h + j] = q[w]\n")
    (table,) = read_table(text, (_q(),), ("b", "h"), (B, H))
    read, store = table.rows
    frame = table.frames[0]
    assert frame.kind == "threads"
    assert store.index == frame.indices
    assert read.index == frame.indices  # w is gamma of them


def test_a_wrong_decoding_is_not_taken_for_one() -> None:
    text = _cpu("    for w in prange(b * h):\n        i = w // b\n        j = w % h\n        out[i * h + j] = q[w]\n")
    (table,) = read_table(text, (_q(),), ("b", "h"), (B, H))
    _, store = table.rows
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
    "break": "for u in span(n): break",
    "return": "return",
    "aug": "l += ONE",
    "annotation": "l: real = ZERO",
    "two-targets": "l = p = ZERO",
    "swap": "l, p = ONE, ZERO",
    "else": "for u in span(n): l = ZERO\n    else: l = ONE",
    "if-else": "if row < n: l = ZERO\n    else: l = ONE",
    "elif": "if row < n: l = ZERO\n    elif n < row: l = ONE",
    "call": "cuda.threadfence()",
    "atomic": "cuda.atomic.add(out, 0, ONE)",
    "shuffle": "l = cuda.shfl_xor_sync(1, ONE, 1)",
    "syncwarp": "cuda.syncwarp()",
    "sync-argument": "cuda.syncthreads(1)",
    "prange": "for u in prange(n): l = ZERO",
    "empty": "l = empty(dk, real)",
    "shared-of-its-own": "z = cuda.shared.array(dk, real)",
    "a-second-pool": "pool = cuda.shared.array(0, real)",
    "another-pool": "z = cuda.shared.array(0, real)",
    "a-cell-of-the-pool": "l = pool[0]",
    "a-store-to-the-pool": "pool[0] = ZERO",
    "the-pool-as-a-value": "l = exp(pool)",
    "the-pool-by-another-name": "z = pool",
    "a-slice-of-the-pool": "z = pool[p2:p2 + dk]",
    "a-view-of-a-view": "z = view(ks, 0, dk, (1, dk))",
    "a-view-under-a-guard": "if row < n:\n        z = view(pool, p2, p2 + dk, (1, dk))",
    "a-view-in-a-loop": "for u in span(n):\n        z = view(pool, p2, p2 + dk, (1, dk))",
    "a-view-from-0": "z = view(pool, 0, dk, (1, dk))",
    "a-view-that-overlaps": "z = view(pool, p1, p1 + dk, (1, dk))",
    "a-view-after-a-gap": "z = view(pool, p2 + 1, p2 + 1 + dk, (1, dk))",
    "a-view-larger-than-its-slice": "z = view(pool, p2, p2 + dk, (2, dk))",
    "a-view-smaller-than-its-slice": "z = view(pool, p2, p2 + dk + 1, (1, dk))",
    "a-view-of-three-arguments": "z = view(pool, p2, (1, dk))",
    "a-view-of-five-arguments": "z = view(pool, p2, p2 + dk, (1, dk), 1)",
    "a-view-by-keywords": "z = view(pool, start=p2, stop=p2 + dk, shape=(1, dk))",
    "a-view-of-no-tuple": "z = view(pool, p2, p2 + dk, dk)",
    "a-view-of-no-axes": "z = view(pool, p2, p2 + 1, ())",
    "a-view-of-one-axis": "z = view(pool, p2, p2 + dk, (dk,))",
    "a-view-of-three-axes": "z = view(pool, p2, p2 + dk, (1, dk, 1))",
    "a-view-by-its-meaning": "z = pool[p2:p2 + dk].reshape((1, dk))",
    "a-view-as-a-value": "l = exp(view(pool, p2, p2 + dk, (1, dk)))",
    "a-view-into-a-cell": "ks[0, 0] = view(pool, p2, p2 + dk, (1, dk))",
    "a-view-twice": "ks = view(pool, p2, p2 + dk, (1, dk))",
    "a-view-of-a-parameter": "z = view(pool, p2, p2 + n, (1, n))",
    "a-view-of-an-index": "z = view(pool, p2, p2 + t, (1, t))",
    "a-view-of-a-minimum": "z = view(pool, p2, p2 + min(dk, dv), (1, min(dk, dv)))",
    "a-view-of-a-quotient": "z = view(pool, p2, p2 + dk // 2, (1, dk // 2))",
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
    "comprehension": "l = [ZERO for u in span(n)]",
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
    "a-loop-over-range": "for u in range(n): l = ZERO",
    "keyword-range": "for u in span(stop=n): l = ZERO",
    "tuple-loop": "for u, z in span(n): l = ZERO",
    "step-of-four": "for u in span(0, n, 1, 1): l = ZERO",
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
    "a-loop-in-its-own": ("for u in span(n):\n        for u in span(n):\n            l = ZERO", "bound already"),
    "array-twice": ("o = cuda.local.array(dv, real)", "name o is bound already"),
    "reserved": ("for cuda in span(n):\n        l = ZERO", "name cuda is taken"),
    "an-input": ("scale = ONE", "name scale is the input"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_do_not_collide(name: str) -> None:
    line, said = NAMES[name]
    with pytest.raises(CertificateInvalid, match=said):
        table_of("tiled", TILED.text.replace("    l = ZERO\n", f"    {line}\n", 1))


HEADS = {
    "no-docstring": ('"""', "x = "),
    "import-more": ("view\n", "view, os\n"),
    "import-as": ("cuda, exp", "cuda, exp as log"),
    "dtype": ("cuda_float32", "cuda_int8"),
    "decorator": ("@launch(", "@cuda.jit("),
    "grid-of-a-blank": ('"bq", "h", "b"', '"bq", "h * b", 1'),
    "grid-of-an-unknown-factor": ('"bq", "h", "b"', '"bq", "h*hh", 1'),
    "grid-of-half-a-product": ('"bq", "h", "b"', '"bq", "h*", "b"'),
    "grid-of-a-literal-factor": ('"bq", "h", "b"', '"bq", "h*2", "b"'),
    "grid-of-a-sum": ('"bq", "h", "b"', '"bq", "h+b", 1'),
    "grid-of-nine-factors": ('"bq", "h", "b"', '"b*b*b*b*b*b*b*b*b", "h", "b"'),
    "grid-of-nothing": ('"bq", "h", "b"', '"", "h", "b"'),
    "grid-of-four": ('"bq", "h", "b"', '"bq", "h", "b", 1'),
    "block-of-a-product": ('("tq", 1, 1)', '("tq*tk", 1, 1)'),
    "no-makes": (", makes=()", ""),
    "kernel-makes": ("makes=()", 'makes=(("z", "n"),)'),
    "makes-of-a-name": ("makes=()", "makes=n"),
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


LAUNCHES = {
    "two-kernels": ("def partial(", "def kernel("),
    "no-kernel": ("def kernel(", "def merge("),
    "one-name-for-both": ("def kernel(", "def partial("),
    "the-name-of-a-size": ("def partial(", "def bq("),
    "the-name-of-a-constant": ("def partial(", "def ri("),
    "the-name-of-an-input": ("def partial(", "def scale("),
    "the-name-of-a-made-array": ("def partial(", "def m50("),
    "the-name-of-the-output": ("def partial(", "def out("),
    "the-name-of-an-instruction": ("def partial(", "def exp("),
    "the-name-of-a-builtin": ("def partial(", "def range("),
    "a-name-with-an-underscore": ("def partial(", "def __builtins__("),
    "made-twice": ('("l51", "bp"', '("m50", "bp"'),
    "made-as-an-input": ('("l51", "bp"', '("q", "bp"'),
    "made-as-a-constant": ('("l51", "bp"', '("ri", "bp"'),
    "made-as-the-output": ('("l51", "bp"', '("out", "bp"'),
    "made-without-a-name": ('("l51", "bp"', '("", "bp"'),
    "made-with-a-keyword": ('("l51", "bp"', '("if", "bp"'),
    "made-with-a-parameter-list": ('("l51", "bp"', '("l51, z", "bp"'),
    "made-without-extents": ('("l51", "bp", "b", "h", "n")', '("l51",)'),
    "made-of-nine-axes": ('("l51", "bp", "b", "h", "n")', '("l51", 1, 1, 1, 1, 1, 1, 1, 1, 1)'),
    "made-of-an-unknown-size": ('("l51", "bp", "b", "h", "n")', '("l51", "bp", "b", "h", "nn")'),
    "made-of-minus-one": ('("l51", "bp", "b", "h", "n")', '("l51", -1)'),
    "nothing-made": (
        'makes=(("m50", "bp", "b", "h", "n"), ("l51", "bp", "b", "h", "n"), ("o52", "bp", "b", "h", "n", "rc*tx"))',
        "makes=()",
    ),
    "not-a-parameter": ("def partial(m50, l51, o52, q", "def partial(m50, l51, q"),
    "made-arrays-in-another-order": ("def kernel(out, m50, l51", "def kernel(out, l51, m50"),
    "a-made-array-that-is-not-taken": ("def kernel(out, m50, l51, o52, q", "def kernel(out, m50, l51, q"),
    "a-made-array-that-is-written": ("        m64 = LOWEST\n", "        m64 = LOWEST\n        m50[x] = ZERO\n"),
    "a-made-array-that-is-read-at-once": ("        e15 = m31[e6]\n", "        e15 = m50[e6]\n"),
    "the-output-in-the-first": ("def partial(m50", "def partial(out, m50"),
    "a-constant-of-another-launch": (
        "def kernel(out, m50, l51, o52, q, k, v, scale, b, h, n, dk, m",
        "def kernel(out, m50, l51, o52, q, k, v, scale, b, h, n, m",
    ),
    "a-statement-between": ('@launch(grid=("b*h*n"', 'x = 1\n\n\n@launch(grid=("b*h*n"'),
    "a-class": ('@launch(grid=("b*h*n"', 'class kernel:\n    pass\n\n\n@launch(grid=("b*h*n"'),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_launches_that_differ_from_those_due_are_refused(name: str) -> None:
    old, new = LAUNCHES[name]
    assert old in TEXTS["split"].text
    with pytest.raises(CertificateInvalid, match="kernel, line"):
        tables_of("split", TEXTS["split"].text.replace(old, new, 1))


def test_eight_launches_and_no_more() -> None:
    head, _, kernel = TEXTS["decode"].text.partition("@launch")

    def text(count: int) -> str:
        made = [f"z{k}" for k in range(count - 1)]
        before = [
            f'@launch(grid=(1, 1, 1), block=(1, 1, 1), constants=(), index="int64", makes=(("{z}", "n"),))\n'
            f"def f{z}({', '.join((z, *made[:k]))}, q, n):\n    {z}[0] = ZERO\n\n\n"
            for k, z in enumerate(made)
        ]
        last = '@launch(grid=(1, 1, 1), block=(1, 1, 1), constants=(), index="int64", makes=())\n'
        return f"{head}{''.join(before)}{last}def kernel({', '.join(('out', *made))}, q, n):\n    out[0] = ONE\n"

    assert kernel
    q = In("q", N)
    assert len(read_table(text(8).encode(), (q,), ("n",), (N,))) == 8
    with pytest.raises(CertificateInvalid, match="at most 8"):
        read_table(text(9).encode(), (q,), ("n",), (N,))


CPU = {
    "cuda": "    out[cuda.threadIdx.x] = ZERO\n",
    "barrier": "    cuda.syncthreads()\n",
    "local": "    x = cuda.local.array(4, real)\n",
    "two-pranges": "    for w in prange(b):\n        out[w] = ZERO\n    for z in prange(b):\n        out[z] = ZERO\n",
    "a-prange-inside": "    for w in range(b):\n        for z in prange(b):\n            out[z] = ZERO\n",
    "beside-prange": "    for w in prange(b):\n        out[w] = ZERO\n    out[0] = ONE\n",
    "prange-of-a-sum": "    for w in prange(b + h):\n        out[w] = ZERO\n",
    "prange-from": "    for w in prange(1, b):\n        out[w] = ZERO\n",
    "prange-of-nine": f"    for w in prange({' * '.join(['b'] * 9)}):\n        out[w] = ZERO\n",
    "pool": "    pool = cuda.shared.array(0, real)\n    out[0] = ZERO\n",
    "view": "    x = view(pool, 0, 4, (2, 2))\n    out[0] = ZERO\n",
    "span": "    for i in span(b):\n        out[i] = ZERO\n",
    "two-functions": "    out[0] = ZERO\n\n\ndef other(out, q, b, h):\n    out[0] = ZERO\n",
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
