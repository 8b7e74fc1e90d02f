"""Texts of tiles on threads and registers, of one launch and of two: what is proved of them, and by which questions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from moaproof.assess.polyhedra import check_polyhedra
from moaproof.assess.replay import replay
from moaproof.derive.witnesses import witnesses_for
from moaproof.errors import MoaproofError, Refuted, Unknown
from moaproof.kernel.integers import Integers
from moaproof.reader.access import read_table
from moaproof.reader.safety import SafetyReport, check_text, limits, pairs_due, require_pairs
from moaproof.term import In, Int, Lt, Size
from tests.reader.cuda_texts import TEXTS, CudaText

TILES = ("online", "split")


@pytest.fixture(scope="module")
def integers() -> Integers:
    return Integers()


def prove(t: CudaText, text: str, integers: Integers) -> SafetyReport:
    return check_text(text.encode(), t.inputs, t.sizes, t.facts, t.out, integers)


def edited(name: str, *edits: tuple[str, str]) -> str:
    text = TEXTS[name].text
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("name", TILES)
def test_every_question_has_a_witness(name: str) -> None:
    """So that a certificate rests on no solver's word; and they are few, because a text repeats itself."""
    t, engine = TEXTS[name], Integers()
    report = prove(t, t.text, engine)
    found, missing = witnesses_for(engine.proved.values())
    assert not missing
    assert len(found) == len(engine.proved) < 50
    assert Counter(o.decided for o in report.obligations)["form"] > 500
    again = Integers(witnesses=found)
    prove(t, t.text, again)
    assert not again.on_word
    assert set(again.proved) == set(found)


def test_launches_owe_what_they_write() -> None:
    t = TEXTS["split"]
    report = prove(t, t.text, Integers())
    partial, kernel = read_table(t.data, t.inputs, t.sizes, t.out)
    assert report.rows == len(partial.rows) + len(kernel.rows)
    assert {p.launch for p in report.pairs} == {"partial"}
    for kind in ("once", "cover"):
        written = {o.what.split(" that ")[0].split(" is ")[0] for o in report.obligations if o.kind == kind}
        assert len(written) == 4, written
    assert not [o for o in report.obligations if o.kind == "initialised" and "m50" in o.what]  # covered when made


def test_a_pair_of_another_launch_is_not_the_pair_due() -> None:
    t = TEXTS["split"]
    report = prove(t, t.text, Integers())
    tables = read_table(t.data, t.inputs, t.sizes, t.out)
    for table in tables:
        require_pairs(report, table)
        assert {(p.first, p.second) for p in report.pairs if p.launch == table.name} == pairs_due(table)
    moved = replace(report, pairs=tuple(replace(p, launch="kernel") for p in report.pairs))
    for table in tables:
        with pytest.raises(Unknown, match="was not judged"):
            require_pairs(moved, table)


ROW, SWAPPED = "r6 = e6 * ty + y\n", "r6 = y * ri + e6\n"
WRONG_BUT_SAFE = {  # each cell is touched by one thread between two barriers, but holds another row's value
    "scores": (
        f"{ROW}                for e7 in span(rj):\n                    c7 = e7 * tx + x\n                    x18",
    ),
    "weights": (
        f"{ROW}                for e7 in span(rj):\n                    c7 = e7 * tx + x\n                    x33",
    ),
    "output": (f"{ROW}        for e7 in span(rc):\n            c7 = e7 * tx + x\n            if",),
    "queries": ("z5[k21, r6] *", "z5[k21, y * ri + e6] *"),
}


@pytest.mark.parametrize("name", WRONG_BUT_SAFE)
def test_rows_that_are_dealt_in_two_ways_are_safe_and_wrong(name: str, integers: Integers) -> None:
    """Which value a cell holds is the reader's question, and that of the replays."""
    t = TEXTS["online"]
    old, *new = WRONG_BUT_SAFE[name]
    text = edited("online", (old, new[0] if new else old.replace(ROW, SWAPPED)))
    assert prove(t, text, integers).counts()["race"] > 0
    fixed = {"dk": 3, "ri": 3, "ty": 2, "rj": 2, "tx": 2, "rc": 2}
    assert check_polyhedra(text.encode(), t.inputs, t.sizes, t.facts, t.out, fixed).decided["race"] > 0
    with pytest.raises(Refuted, match=r"differs from the Spec|of the maximum of nothing"):
        replay(text.encode(), t.spec, t.inputs, [t.example], 0)


HEADERS = {  # base, old, new, kind
    "tiles-of-keys": ("online", '"b*h*bq"', '"b*h*bk"', "divisor|bounds|once|cover"),
    "no-tiles": ("online", '"b*h*bq"', '"b*h"', "divisor|bounds|once|cover"),
    "threads-swapped": ("online", 'block=("tx", "ty", 1)', 'block=("ty", "tx", 1)', "bounds|race|initialised"),
    "a-third-axis": ("online", 'block=("tx", "ty", 1)', 'block=("tx", "ty", 2)', "race|once"),
    "more-blocks": ("split", '"bp*b*h*bq"', '"bp*b*h*bq*ty"', "divisor|bounds|once|cover"),
    "no-rows": ("split", '"b*h*n"', '"b*h"', "divisor|bounds|once|cover"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_launch_of_other_threads_is_refused(name: str, integers: Integers) -> None:
    base, old, new, kind = HEADERS[name]
    with pytest.raises(MoaproofError, match=rf"line.*\b({kind})\b"):
        prove(TEXTS[base], edited(base, (old, new)), integers)


def test_factors_in_another_order_are_not_called_wrong(integers: Integers) -> None:
    """There are as many blocks, so the text is right; but its indices are not those of the launch."""
    t = TEXTS["split"]
    text = edited("split", ('"b*h*n"', '"b*n*h"'))
    with pytest.raises(Unknown, match=r"cover|once"):
        prove(t, text, integers)
    assert replay(text.encode(), t.spec, t.inputs, [t.example], 0).elements > 0


def test_a_cell_that_another_thread_writes_is_not_called_missing(integers: Integers) -> None:
    """The last column stores in place of the first: right, but the witness that is tried is the first."""
    t = TEXTS["split"]
    store = " and x < 1:\n            m50"
    text = edited("split", (store, store.replace("x < 1", "tx < x + 2")))
    with pytest.raises(Unknown, match=r"cover.*another thread"):
        prove(t, text, integers)
    assert replay(text.encode(), t.spec, t.inputs, [t.example], 0).elements > 0


POOL = """    pool = cuda.shared.array(0, real)
    p1 = ta * tb * tc
    z = view(pool, 0, p1, (ta * tb, tc))
    x = cuda.threadIdx.x
    z[0, 0] = ONE
    out[cuda.blockIdx.x] = z[0, 0]
"""


def test_the_pool_has_a_limit_of_cells_where_an_index_is_short(integers: Integers) -> None:
    head = TEXTS["online"].text.partition("@launch")[0]
    launch = 'grid=("n", 1, 1), block=(1, 1, 1), constants=("ta", "tb", "tc"), index="int32", makes=()'
    data = f"{head}@launch({launch})\ndef kernel(out, q, n):\n{POOL}".encode()
    sizes = ("n", "ta", "tb", "tc")
    positive = [Lt(Int(0), Size(s)) for s in sizes]
    rest = (positive, (Size("n"),), integers)
    inputs = (In("q", Size("n")),)
    assert check_text(data, inputs, sizes, *rest).counts()["width"] > 5
    (table,) = read_table(data, inputs, sizes, (Size("n"),))
    assert Lt(table.pool, Int(2**30)) in limits(table, sizes)
    long = data.replace(b"    x = cuda.threadIdx.x\n", b"    p2 = p1 * 4\n")
    with pytest.raises((Refuted, Unknown), match="width"):
        check_text(long, inputs, sizes, *rest)


def test_an_empty_view_is_of_no_use(integers: Integers) -> None:
    """Extents may be 0 (heads of no columns), and no cell of such a view may be touched; below 0 they may not be."""
    head = TEXTS["online"].text.partition("@launch")[0]
    launch = 'grid=("n", 1, 1), block=(1, 1, 1), constants=("ta", "tb"), index="int64", makes=()'
    for extent, kind in (("ta", "bounds: z is written"), ("ta - 1", "bounds: an extent is not negative")):
        body = POOL.replace("p1 = ta * tb * tc", f"p1 = ({extent}) * tb").replace("(ta * tb, tc)", f"({extent}, tb)")
        data = f"{head}@launch({launch})\ndef kernel(out, q, n):\n{body}".encode()
        with pytest.raises(Refuted, match=kind):
            check_text(data, (In("q", Size("n")),), ("n", "ta", "tb"), [], (Size("n"),), integers)
