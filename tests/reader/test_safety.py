"""Safety of the text: what is safe is proved for all sizes, and by polyhedra; what is broken dies by the right kind."""

from __future__ import annotations

import builtins
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import moaproof.kernels
import pytest

from moaproof.assess.polyhedra import check_polyhedra
from moaproof.assess.replay import replay
from moaproof.errors import BackendMissing, CertificateInvalid, MoaproofError, NotCovered, Refuted, Unknown
from moaproof.kernel.certificate import Certificate, parse
from moaproof.kernel.checker import facts_of
from moaproof.kernel.integers import Integers
from moaproof.operators import typeof
from moaproof.reader.access import Table, read_table
from moaproof.reader.safety import SafetyReport, check_text, pairs_due, put, require_pairs, solve
from moaproof.runtime import attention as shipping
from moaproof.semantics import Numbers, meaning
from moaproof.term import Add, Div, In, Int, Lt, Mul, Size, Sub, Term
from tests.reader.cuda_texts import MUTANTS, TEXTS, CudaText

KERNELS = Path(moaproof.kernels.__file__).parent
CERTS = KERNELS.parent / "certs"
NUMBERS = {"dk": 7, "dv": 9, "tq": 4, "tk": 5, "ts": 4, "tx": 2, "r": 3, "sb": 1, "sh": 0, "sn": 1, "sm": 1}
TILED_TWICE = {"dk": 3, "ri": 3, "ty": 2, "rj": 2, "tx": 2, "rc": 2, "bk": 2}  # rows in registers by rows on threads
CERTIFICATES = {p.stem: parse(p.read_bytes()) for p in sorted(CERTS.glob("*.json"))}
ROWS, ONLINE = "attention_rows_float64.py", "attention_online_float64.py"


@pytest.fixture(scope="module")
def integers() -> Integers:
    """One decider for the module: answers are shared, as they are between the texts of a check."""
    return Integers()


def prove(t: CudaText, data: bytes, integers: Integers) -> SafetyReport:
    return check_text(data, t.inputs, t.sizes, t.facts, t.out, integers)


def decide(t: CudaText, data: bytes) -> dict[str, int]:
    numbers = TILED_TWICE if "ri" in t.sizes else NUMBERS
    fixed = {s: numbers[s] for s in (*t.constants, *(["bk"] if "bp" in t.sizes else []))}
    return check_polyhedra(data, t.inputs, t.sizes, t.facts, t.out, fixed).decided


def of_kernel(file: str) -> tuple[Certificate, str]:
    c = next(c for c in CERTIFICATES.values() if any(k.file == file for k in c.kernels))
    return c, (KERNELS / file).read_text()


def prove_cpu(c: Certificate, data: bytes, integers: Integers) -> SafetyReport:
    return check_text(data, c.inputs, c.sizes(), facts_of(c), typeof(c.onf).shape, integers)


# --- what is safe -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_a_cuda_text_is_safe_for_all_sizes(name: str, integers: Integers) -> None:
    report = prove(TEXTS[name], TEXTS[name].data, integers)
    assert (report.target, report.dtype, report.width) == ("cuda", "float32", 64)
    counts = report.counts()
    assert {"gamma", "bounds", "initialised", "race", "once", "cover", "step"} <= set(counts)
    assert ("barrier" in counts) == (name != "decode")  # its barrier stands outside of loops and guards
    assert len(report.pairs) == {"decode": 13, "plane": 5, "online": 12, "split": 12}.get(name, 4)


@pytest.mark.parametrize("name", TEXTS)
def test_a_cuda_text_is_safe_by_polyhedra(name: str) -> None:
    decided = decide(TEXTS[name], TEXTS[name].data)
    assert {"bounds", "initialised", "race", "once", "cover"} <= set(decided)


@pytest.mark.parametrize("name", CERTIFICATES)
def test_committed_kernels_are_safe(name: str, integers: Integers) -> None:
    c = CERTIFICATES[name]
    shape = typeof(c.onf).shape
    for k in c.kernels:
        data = (KERNELS / k.file).read_bytes()
        report = prove_cpu(c, data, integers)
        assert (report.target, report.dtype) == (k.target, k.dtype)
        assert bool(report.pairs) == (k.target == "cuda")
        for table in read_table(data, c.inputs, c.sizes(), shape):
            written = Counter(r.array for r in table.rows if r.write and r.array.space == "output")
            assert written == dict.fromkeys(table.outputs, 1)
        assert report.counts()["once"] >= len(shape)


def table_of(c: Certificate, data: bytes) -> Table:
    (table,) = read_table(data, c.inputs, c.sizes(), typeof(c.onf).shape)
    return table


@pytest.mark.parametrize("name", sorted(CERTIFICATES))
def test_committed_kernels_are_safe_by_polyhedra(name: str) -> None:
    """At tiles for long inputs, and heads of 64."""
    c = CERTIFICATES[name]
    shipped = {**NUMBERS, "dk": 64, "dv": 64, "tq": shipping.LANES["float64"], "tk": shipping.KEYS}
    if c.kernels[0].target == "cuda":
        shipped |= {"ri": 4, "ty": 16, "rj": 4, "tx": 16, "rc": 4} | ({"bk": 2} if "bp" in c.sizes() else {})
    fixed = {s: v for s, v in shipped.items() if s in c.sizes()}
    data = (KERNELS / c.kernels[0].file).read_bytes()
    report = check_polyhedra(data, c.inputs, c.sizes(), facts_of(c), typeof(c.onf).shape, fixed)
    assert report.decided["initialised"] > 10


def test_texts_that_differ_in_their_import_ask_nothing_new() -> None:
    c = CERTIFICATES["attention-rows"]
    engine = Integers()
    first, second = (prove_cpu(c, (KERNELS / k.file).read_bytes(), engine) for k in c.kernels)
    assert first.obligations == second.obligations
    assert {first.dtype, second.dtype} == {"float64", "float32"}
    asked = len(engine.answers)
    prove_cpu(c, (KERNELS / c.kernels[0].file).read_bytes(), engine)
    assert len(engine.answers) == asked


# --- CUDA mutants ----------------------------------------------------------------------------------------------


UNDECIDED = (
    "columns-shared",  # two writes might initialise the read, and neither does alone
    *("stride-long", "queries-by-another-stride", "made-larger"),  # no witness is found, which is no proof of none
    *("state-by-no-column", "state-by-a-column-that-may-lack", "state-never-stored", "state-but-the-last-row"),
)
UNWRITTEN = ("no-accumulator", "accumulator-not-cleared")  # nothing is written before the read
WITHOUT_POINT = ("name", "view", "gamma")  # kinds that are refused before any point is looked for


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_cuda_mutant_dies_by_its_kind(mutant: Any, integers: Integers) -> None:
    with pytest.raises(MoaproofError, match=rf"line.*\b{mutant.kind}\b") as found:
        prove(TEXTS[mutant.base], mutant.data(), integers)
    if mutant.name in UNDECIDED:
        assert isinstance(found.value, Unknown)
    elif mutant.kind not in WITHOUT_POINT:
        assert isinstance(found.value, Refuted)
        assert bool(found.value.witness) == (mutant.name not in UNWRITTEN)


WITH_POINT = [
    m for m in MUTANTS if m.kind not in WITHOUT_POINT and m.name != "state-by-a-column-that-may-lack"
]  # tx = 1


@pytest.mark.parametrize("mutant", WITH_POINT, ids=lambda m: m.name)
def test_a_cuda_mutant_has_a_point_in_a_polyhedron(mutant: Any) -> None:
    t = TEXTS[mutant.base]
    with pytest.raises(Refuted, match=rf"\b{mutant.kind}\b") as found:
        decide(t, mutant.data())
    values = found.value.witness
    algebra = Numbers({s: values[s] for s in t.sizes}, {})
    assert all(meaning(f, (), (), (), algebra) for f in t.facts)  # the sizes of the point are allowed


def test_the_kinds_of_the_mutants() -> None:
    kinds = {"bounds", "initialised", "race", "barrier", "once", "cover", "gamma", "name", "view"}
    assert set(Counter(m.kind for m in MUTANTS)) == kinds


STORE_ROW = "    if row < n:\n        for c in span(dv):\n            out"
LAST_BARRIER = "        cuda.syncthreads()\n    if row < n:"
LOAD = """    for kb in span(bk):
        for e in span(t, tk * dk, cuda.blockDim.x):
            r = e // dk
            d = e % dk
            if kb * tk + r < m:
"""
FILL = """    for e in span(t, tk * dk, tq):
        r = e // dk
        d = e % dk
        ks[r, d] = ZERO
    cuda.syncthreads()
"""
DOT = "                    s = s + x[c] * ks[u, c]"
PARTIAL = "            os[t, c] = os[t, c] * f"
WEIGHT = "        w = w + ls[u, 0] * rescale(ms[u, 0], all)"

MORE = {  # base, old, new, kind: each breaks another sentence of the memory meaning
    "filled-before": ("tiled", LOAD, FILL + LOAD, None),
    "stale-tail": ("tiled", LOAD, FILL + LOAD.replace("+ r < m", "+ r + 1 < m"), "initialised"),
    "barrier-in-a-thread-guard": (
        "tiled",
        LAST_BARRIER,
        "        if row < n:\n            cuda.syncthreads()\n    if row < n:",
        "barrier",
    ),
    "barrier-in-an-empty-loop": (
        "tiled",
        LAST_BARRIER,
        "        for u in span(kb):\n            cuda.syncthreads()\n    if row < n:",
        "race",
    ),
    "broadcast-store": ("tiled", "n + row) * dv + c] = quotient", "n + row) * dv + 0] = quotient", "once"),
    "half-the-columns": ("tiled", STORE_ROW, STORE_ROW.replace("span(dv)", "span(0, dv, 2)"), "cover"),
    "first-row-only": ("tiled", STORE_ROW, STORE_ROW.replace("row < n", "row < 1"), "cover"),
    "last-row-left-out": ("tiled", STORE_ROW, STORE_ROW.replace("row < n", "row + 1 < n"), "cover"),
    "divisor": ("tiled", "            r = e // dv\n", "            r = e // (dv - 1)\n", "divisor"),
    "step": ("tiled", "span(t, tk * dv, cuda.blockDim.x)", "span(t, tk * dv, tq - 1)", "step"),
    "a-sum-without-its-zero": (
        "tiled",
        f"                s = ZERO\n                for c in span(dk):\n{DOT}",
        DOT[4:],
        "name",
    ),
    "weights-from-another-array": ("decode", WEIGHT, WEIGHT.replace("ls[u, 0]", "os[u, dv - 1]"), "bounds"),
    "partial-of-a-neighbour": ("decode", PARTIAL, PARTIAL.replace("= os[t, c]", "= os[min(t + 1, ts - 1), c]"), "race"),
    "axes-of-the-block": ("plane", 'block=("tx", "tq", 1)', 'block=("tq", "tx", 1)', "bounds"),
}


@pytest.mark.parametrize("name", MORE)
def test_more_cuda_mutants(name: str, integers: Integers) -> None:
    base, old, new, kind = MORE[name]
    t = TEXTS[base]
    assert t.text.count(old) == 1
    data = t.text.replace(old, new).encode()
    if kind is None:  # a fill before the tiles does no harm while each tile still stages what it reads
        assert prove(t, data, integers).counts()["race"] > 0
        return
    with pytest.raises(MoaproofError, match=rf"\b{kind}\b"):
        prove(t, data, integers)


# --- CPU mutants -------------------------------------------------------------------------------------------------

STORE = "out[((i2 * h + i3) * n + (i4 * tq + r5)) * dv + c21]"
FIRST = "    for w1 in prange(b * h * bq):\n"
HEAD = f"""{FIRST}        i2 = w1 // (h * bq)
        i3 = w1 // bq % h
        i4 = w1 % bq
"""
ALLOCATE = "s14 = empty(dv, real)\n"
ZEROS = "            for c15 in range(dv):\n                s14[c15] = ZERO\n"
PUT = f"                {STORE} = s14[c21]\n"
KEYS = "range(min(tk, m - k17 * tk))"
STAGE = f"for c19 in {KEYS}:"
BUFFER = "x33 = empty((max(0, min(tk, m - k17 * tk)), lanes5), real)"
LANES = "for c55 in range(dv):\n                for r6 in range(lanes5):"

CPU = {  # file, old, new, kind
    "shared-accumulator": (ROWS, f"{HEAD}        {ALLOCATE}", f"    {ALLOCATE}{HEAD}", "race"),
    "shared-scalar": (ROWS, FIRST, f"    m6 = LOWEST\n{FIRST}", "race"),
    "no-init": (ROWS, ZEROS, "", "initialised"),
    "init-but-one": (ROWS, ZEROS, ZEROS.replace("range(dv)", "range(1, dv)"), "initialised"),
    "out-twice": (ROWS, PUT, f"{PUT}                {STORE} = ZERO\n", "once"),
    "guard-of-the-tile": (ROWS, "range(min(tq, n - i4 * tq))", "range(tq)", "bounds"),
    "floor-tiles": (ROWS, "range(min(tq, n - i4 * tq))", "range(min(tq - 1, n - i4 * tq))", "cover"),
    "negative": (ROWS, "+ c20]", "+ (c20 - 1)]", "bounds"),
    "gamma-swapped": (ROWS, STORE, STORE.replace("* dv", "* n"), "gamma"),
    "heads-swapped": (ROWS, STORE, STORE.replace("i2 * h + i3", "i3 * h + i2"), "bounds"),
    "decoded-by-another-extent": (ROWS, "i4 = w1 % bq", "i4 = w1 % h", "bounds|cover|once"),
    "decoded-once-more": (ROWS, "i3 = w1 // bq % h", "i3 = w1 // h % h", "bounds|cover|once"),
    "scratch-negative": (ROWS, ALLOCATE, "s14 = empty(dv - n, real)\n", "bounds"),
    "scratch-too-small": (ONLINE, BUFFER, BUFFER.replace("tk))", "tk) - 1)"), "bounds"),
    "four-too-far": (ONLINE, "for k21 in range(0, dk - 3, 4):", "for k21 in range(0, dk - 2, 4):", "bounds"),
    "stage-too-few": (ONLINE, STAGE, STAGE.replace("min(tk,", "min(tk - 1,"), "initialised"),
    "first-tile-only": (ONLINE, STAGE, STAGE.replace("))", ") * min(1, k17))"), "initialised"),
    "one-lane-for-all": (ONLINE, "m9[r6] = t16", "m9[0] = t16", None),
    "lane-past-the-end": (ONLINE, LANES, LANES.replace("lanes5", "tq"), "bounds"),
}
AFFINE = [n for n in CPU if CPU[n][0] == ROWS and CPU[n][3] != "gamma"] + ["four-too-far"]


@pytest.mark.parametrize("name", CPU)
def test_a_cpu_mutant_dies_by_its_kind(name: str, integers: Integers) -> None:
    file, old, new, kind = CPU[name]
    c, text = of_kernel(file)
    assert text.count(old) == 1, old
    data = text.replace(old, new).encode()
    if kind is None:  # wrong, but safe: that is the reader's to refuse
        assert prove_cpu(c, data, integers).rows == len(table_of(c, data).rows)
        return
    with pytest.raises(MoaproofError, match=rf"line.*\b({kind})\b"):
        prove_cpu(c, data, integers)


@pytest.mark.parametrize("name", AFFINE)
def test_a_cpu_mutant_has_a_point_in_a_polyhedron(name: str) -> None:
    file, old, new, kind = CPU[name]
    c, text = of_kernel(file)
    fixed = {**{s: v for s, v in NUMBERS.items() if s in c.sizes()}, "b": 2, "h": 3}
    if "decoded" in name:
        fixed["bq"] = 2
    with pytest.raises(Refuted, match=rf"\b({kind})\b"):
        check_polyhedra(text.replace(old, new).encode(), c.inputs, c.sizes(), facts_of(c), typeof(c.onf).shape, fixed)


# --- random edits ------------------------------------------------------------------------------------------------


def edited(text: str, rng: random.Random) -> str:
    """One line of the body is left out, moved or doubled, or one word becomes another word of the body."""
    head, _, body = text.partition("):\n")
    lines, words = body.splitlines(), list(re.finditer(r"[\w.]+", body))
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[i]
        case 1:
            lines[i], lines[j] = lines[j], lines[i]
        case _:
            old, new = rng.choice(words), rng.choice(words).group()
            new = f"({old.group()} {rng.choice('+-')} 1)" if rng.random() < 0.4 else new
            lines = (body[: old.start()] + new + body[old.end() :]).splitlines()
    return f"{head}):\n" + "\n".join(lines) + "\n"


def test_what_is_proved_safe_touches_memory_safely_when_it_runs(integers: Integers) -> None:
    """Edits that are accepted run on the machine in software, which watches every cell; their values may be wrong."""
    rng = random.Random(7)
    accepted = refused = 0
    faults: list[tuple[str, bytes]] = []
    for _ in range(80):
        t = TEXTS[rng.choice(("decode", "tiled", "plane"))]
        text = edited(t.text, rng).encode()
        try:
            prove(t, text, integers)
        except MoaproofError:
            refused += 1
            continue
        accepted += 1
        try:
            replay(text, t.spec, t.inputs, [t.example], 0)
        except MoaproofError as error:
            if not re.search(ABOUT_VALUES, str(error)):
                faults.append((str(error), text))
    assert not faults
    assert accepted > 3
    assert refused > 40


ABOUT_VALUES = r"differs from the Spec|of the maximum of nothing|a divisor is 0|stands in an exponent"


# --- width ------------------------------------------------------------------------------------------------------


def test_int32_is_proved_under_the_stated_bound(integers: Integers) -> None:
    t = TEXTS["decode"]
    report = prove(t, t.text.replace('"int64"', '"int32"').encode(), integers)
    assert report.width == 32
    assert report.counts()["width"] > 10


def test_int32_that_may_overflow_is_refuted(integers: Integers) -> None:
    t = TEXTS["decode"]
    text = t.text.replace('"int64"', '"int32"').replace("    top = LOWEST\n", "    far = m * m * 4\n    top = LOWEST\n")
    prove(t, text.replace('"int32"', '"int64"').encode(), integers)
    with pytest.raises((Refuted, Unknown), match="width"):
        prove(t, text.encode(), integers)


# --- the list of pairs, the deciders ------------------------------------------------------------------------------


def test_a_pair_that_is_missing_or_too_many_is_an_error(integers: Integers) -> None:
    t = TEXTS["tiled"]
    report = prove(t, t.data, integers)
    (table,) = read_table(t.data, t.inputs, t.sizes, t.out)
    require_pairs(report, table)
    assert {(p.first, p.second) for p in report.pairs} == pairs_due(table)
    for k in range(len(report.pairs)):
        with pytest.raises(Unknown, match="was not judged"):
            require_pairs(replace(report, pairs=report.pairs[:k] + report.pairs[k + 1 :]), table)
    with pytest.raises(Unknown, match="was not judged"):
        require_pairs(replace(report, pairs=(*report.pairs, replace(report.pairs[0], first=0, second=0))), table)


def test_pairs_due_are_those_of_shared_arrays_with_a_write() -> None:
    t = TEXTS["plane"]
    (table,) = read_table(t.data, t.inputs, t.sizes, t.out)
    named = Counter(table.rows[a].array.name for a, _ in pairs_due(table))
    assert named == {"ks": 2, "ps": 3}


class Silent(Integers):
    """A decider that proves nothing that it is asked."""

    def prove(self, facts: Any, goal: Term, what: str) -> None:
        raise Unknown(what)


@pytest.mark.parametrize("name", ["tiled", "decode"])
def test_without_a_decider_nothing_is_proved(name: str) -> None:
    with pytest.raises(Unknown, match="gamma"):
        prove(TEXTS[name], TEXTS[name].data, Silent())


def test_without_facts_the_tiles_do_not_cover(integers: Integers) -> None:
    t = TEXTS["decode"]
    with pytest.raises(Refuted, match=r"step|cover"):
        check_text(t.data, t.inputs, t.sizes, (), t.out, integers)
    t = TEXTS["tiled"]
    positive = (Lt(Int(0), Size("tq")), Lt(Int(0), Size("tk")))
    with pytest.raises(Refuted, match="cover"):
        check_text(t.data, t.inputs, t.sizes, positive, t.out, integers)


def test_another_output_shape_is_refused(integers: Integers) -> None:
    t = TEXTS["tiled"]
    b, h, n, dv = t.out
    with pytest.raises(Unknown, match="gamma"):
        check_text(t.data, t.inputs, t.sizes, t.facts, (b, n, h, dv), integers)
    with pytest.raises(Refuted, match="cover"):
        check_text(t.data, t.inputs, t.sizes, t.facts, (Add(b, Int(1)), h, n, dv), integers)


def test_another_input_shape_is_refused(integers: Integers) -> None:
    t = TEXTS["tiled"]
    q, k, *rest = t.inputs
    short = In("k", *k.args[:2], Sub(k.args[2], Int(1)), k.args[3])
    with pytest.raises((Refuted, Unknown), match="k is read"):
        check_text(t.data, (q, short, *rest), t.sizes, t.facts, t.out, integers)


def test_the_solver_of_witnesses() -> None:
    u, v, e, a, c = (Term("x", k) for k in range(5))
    s, d = Size("s"), Size("d")
    found = solve([(Add(u, Mul(s, v)), a)], {u: [s], v: []})
    assert found == {u: Sub(a, Mul(s, Div(a, s))), v: Div(a, s)} or set(found) == {u, v}
    found = solve([(Div(e, d), a), (Sub(e, Mul(d, Div(e, d))), c)], {e: []})
    values = {"x3'": 4, "x4'": 2, "d": 7, "s": 3}
    assert meaning(found[e], (), (), (), Numbers(values, {})) == 4 * 7 + 2
    assert put(Add(u, v), {u: v, v: u}) is Add(v, u)


def test_polyhedra_want_numbers_for_products() -> None:
    t = TEXTS["tiled"]
    with pytest.raises(NotCovered, match=r"line \d+.*fix more sizes"):
        check_polyhedra(t.data, t.inputs, t.sizes, t.facts, t.out, {"tq": 4})


def test_polyhedra_say_when_islpy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "islpy":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    t = TEXTS["tiled"]
    with pytest.raises(BackendMissing, match="pip install islpy"):
        check_polyhedra(t.data, t.inputs, t.sizes, t.facts, t.out, {})


def test_too_many_pairs_are_not_judged(integers: Integers) -> None:
    t = TEXTS["decode"]
    line = "    ls[t, 0] = l\n"
    with pytest.raises(NotCovered, match="pairs of accesses"):
        prove(t, t.text.replace(line, line * 60).encode(), integers)


def test_text_outside_the_grammar_reaches_no_decider() -> None:
    t = TEXTS["tiled"]
    with pytest.raises(CertificateInvalid):
        prove(t, t.data.replace(b"cuda.syncthreads()", b"cuda.syncwarp()"), Silent())


# --- what a hostile reader found ------------------------------------------------------------------------------

FILL = """    for e in span(t, tk * dk, cuda.blockDim.x):
        ks[e // dk, e % dk] = ZERO
    for e in span(t, tk * dv, cuda.blockDim.x):
        vs[e // dv, e % dv] = ZERO
    cuda.syncthreads()
    y = ZERO
    for kb in span(bk):
"""
WHOLE_TILE = [
    ("    for kb in span(bk):\n", FILL),
    ("for u in span(min(tk, m - kb * tk)):", "for u in span(tk):"),
]
READ_K, READ_V = (f"{x}[((i * h + j) * m + (kb * tk + r)) * d{x} + d]" for x in "kv")
STALE = {
    "plainly": [],
    "through a scalar that is used twice": [
        (f"ks[r, d] = {READ_K}\n", f"y = {READ_K}\n                ks[r, d] = y\n"),
        (f"vs[r, d] = {READ_V}\n", f"y = {READ_V}\n                vs[r, d] = y\n"),
        ("s = s + x[c] * ks[u, c]", "y = ks[u, c]\n                    s = s + x[c] * y"),
        ("o[c] = o[c] * f + p * vs[u, c]", "y = vs[u, c]\n                    o[c] = o[c] * f + p * y"),
    ],
    "by a choice": [
        (
            f"if kb * tk + r < m:\n                ks[r, d] = {READ_K}\n",
            f"ks[r, d] = ({READ_K} if kb * tk + r < m else ks[r, d])\n",
        ),
        (
            f"if kb * tk + r < m:\n                vs[r, d] = {READ_V}\n",
            f"vs[r, d] = ({READ_V} if kb * tk + r < m else vs[r, d])\n",
        ),
    ],
}


@pytest.mark.parametrize("how", STALE)
def test_a_row_that_an_earlier_tile_left_is_not_initialised(how: str) -> None:
    t = TEXTS["tiled"]
    text = t.data.decode()
    for old, new in [*WHOLE_TILE, *STALE[how]]:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    with pytest.raises((Refuted, Unknown), match="initialised"):
        check_text(text.encode(), t.inputs, t.sizes, t.facts, t.out, Integers())


def plain(header: str, parameters: str, body: str) -> bytes:
    return f'"""x"""\n\n{header}\ndef kernel({parameters}):\n{body}'.encode()


FAR = """    for w in prange(n):
        x = empty(4, real)
        for c in range(4):
            x[c] = ZERO
            if 1000000000000 < m:
                x[c] = x[c] * q[1000000000000]
        out[w] = x[0] + x[1] * x[2]
"""
N, M = Size("n"), Size("m")
CPU_HEADER = (
    "from moaproof.instructions.cpu_float64 import LOWEST, ONE, ZERO, empty, exp, fmax, njit, prange, quotient, real,"
    ' rescale, sqrt\n\n\n@njit(parallel=True, error_model="numpy")'
)
INT32_HEADER = (
    "from moaproof.instructions.cuda_float32 import LOWEST, ONE, ZERO, cuda, exp, fmax, launch, quotient, real,"
    ' rescale, span, sqrt, view\n\n\n@launch(grid=("n", 1, 1), block=(1, 1, 1), constants=({constants}), index="int32",'
    " makes=())"
)


def test_a_read_that_may_be_hoisted_is_in_bounds_without_its_guard() -> None:
    """Numba moves a read that no index moves in front of the loop, out of its guard."""
    text = plain(CPU_HEADER, "out, q, n, m", FAR)
    with pytest.raises((Refuted, Unknown), match="bounds"):
        check_text(text, (In("q", M),), ("n", "m"), (), (N,), Integers())


def test_scratch_has_no_limit_of_cells() -> None:
    body = """    x = cuda.local.array((ta, tb, tc), real)
    for i in span(ta):
        for j in span(tb):
            for k in span(tc):
                x[i, j, k] = ONE
                y = (q[cuda.blockIdx.x] if n < (i * tb + j) * tc + k else ZERO)
    out[cuda.blockIdx.x] = q[cuda.blockIdx.x]
"""
    text = plain(INT32_HEADER.format(constants='"ta", "tb", "tc"'), "out, q, n", body)
    with pytest.raises((Refuted, Unknown), match="width"):
        check_text(text, (In("q", N),), ("n", "ta", "tb", "tc"), (), (N,), Integers())


def test_the_integers_of_a_loop_itself_have_a_width() -> None:
    body = """    for e in span(0 - n - n, n + n - 1, n):
        if e < 1 and 0 < e + 1:
            y = ONE
    out[cuda.blockIdx.x] = q[cuda.blockIdx.x]
"""
    text = plain(INT32_HEADER.format(constants=""), "out, q, n", body)
    with pytest.raises((Refuted, Unknown), match="width"):
        check_text(text, (In("q", N),), ("n",), (Lt(Int(0), N),), (N,), Integers())


def test_a_long_chain_of_scalars_ends_in_an_error_of_ours() -> None:
    lines = "".join(f"    a{k + 1} = a{k} + 1\n" for k in range(3000))
    body = f"    a0 = 1\n{lines}    y = ZERO\n    if a3000 < n:\n        y = q[a3000]\n    out[cuda.blockIdx.x] = ONE\n"
    text = plain(INT32_HEADER.format(constants="").replace("int32", "int64"), "out, q, n", body)
    with pytest.raises(MoaproofError):
        check_text(text, (In("q", N),), ("n",), (), (N,), Integers())
