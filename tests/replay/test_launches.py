# ruff: noqa: E501  a case is one line
"""Whole texts of the CUDA schedules: one launch, and two with memory between them; what breaks them is refuted.

The texts are hand-written in the form that is printed: shared memory as views of one pool, tiles of registers by
threads, and a grid of one axis.  Their Specs are those of committed certificates, with the tilings of the texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from moaproof.assess.cases import cases_of
from moaproof.assess.ordered import ORDERED_CASES, ORDERED_WORK, ordered_replay
from moaproof.assess.replay import exact_replay, replay
from moaproof.assess.translate import compile_text
from moaproof.errors import CertificateInvalid, NotCovered, Refuted
from moaproof.kernel.certificate import Certificate, Tiling, parse
from moaproof.semantics import Numbers, meaning

HERE = Path(__file__).resolve().parent
TILINGS = {
    "online": (("n", "ri*ty", "bq"), ("m", "rj*tx", "bk"), ("dv", "tx", "rc")),
    "split": (("n", "ri*ty", "bq"), ("m", "bk*rj*tx", "bp"), ("dv", "tx", "rc")),
}
SPECS = {"online": "causal-online", "split": "attention-online"}
TEXTS = {name: (HERE / f"cuda_{name}.txt").read_text() for name in TILINGS}


def certificate(spec: str, text: str) -> Certificate:
    """A committed Spec, with the tilings of a text."""
    c = parse((HERE.parents[1] / "certs" / f"{spec}.json").read_bytes())
    return replace(c, onf=c.spec, tilings=tuple(Tiling(*row) for row in TILINGS[text]))


CERTIFICATES = {name: certificate(SPECS[name], name) for name in TILINGS}


@dataclass(frozen=True)
class Edit:
    """Text that is replaced: everywhere, or where it occurs for the ``at``-th time."""

    old: str
    new: str
    at: int | None = None

    def __call__(self, text: str) -> str:
        parts = text.split(self.old)
        assert len(parts) > 1, self.old
        if self.at is None:
            return self.new.join(parts)
        return self.old.join(parts[: self.at + 1]) + self.new + self.old.join(parts[self.at + 1 :])


def edited(name: str, *edits: Edit) -> bytes:
    text = TEXTS[name]
    for e in edits:
        text = e(text)
    assert text != TEXTS[name]
    return text.encode()


def whole(*edits: tuple[str, str]) -> tuple[Edit, ...]:
    return tuple(Edit(*e) for e in edits)


def barrier(name: str, number: int) -> tuple[Edit, ...]:
    line = next(x for x in TEXTS[name].split("\n") if "syncthreads" in x)
    return (Edit(f"{line}\n", "", number),)


# --- what breaks a text ------------------------------------------------------------------------------------

REST = "min(rj * tx, m - k17 * (rj * tx))"
CHUNK = "min(rj * tx, min(bk * rj * tx, m - i1 * (bk * rj * tx)) - k17 * (rj * tx))"
GUARD = "if r6 < min(ri * ty, n - i4 * (ri * ty)) and c7 < dv:"
OWN = "            if r6 < min(ri * ty, n - i4 * (ri * ty)):\n                o52"
MERGED = "((k68 * b + i61) * h + i62) * n + i63"
ROW = "((i1 * b + i2) * h + i3) * n + (i4 * (ri * ty) + r6)"
RACE = "a race: thread|before it is written"
TWICE = "written twice|is outside"
WRONG = f"{RACE}|{TWICE}|differs|is not written|of the maximum of nothing"

BOTH: dict[str, tuple[tuple[Edit, ...], str]] = {
    "one thread waits": (whole(("    for k17", "    if y < 1:\n        cuda.syncthreads()\n    for k17")), "diverge"),
    "registers dealt by registers": (whole(("e6 * ty + y", "e6 * ri + y")), WRONG),
    "columns dealt by registers": (whole(("e7 * tx + x", "e7 * rj + x")), WRONG),
    "registers dealt in turn at the scores alone": ((Edit("e6 * ty + y", "y * ri + e6", 0),), WRONG),
    "columns dealt in turn at the sums alone": ((Edit("e7 * tx + x", "x * rc + e7", 3),), WRONG),
    "axes of the threads": (whole(("r6 = e6 * ty + y", "r6 = e6 * ty + x")), WRONG),
    "strides of the staging": (whole(("span(y, ri * ty, ty)", "span(y, ri * ty, ri)")), WRONG),
    "columns of the staging": (whole(("span(x, dk, tx)", "span(x, dk, tx + 1)")), "before it is written"),
    "a row of the staging": (whole(("span(y, rj * tx, ty)", "span(y + 1, rj * tx, ty)")), "before it is written"),
    "padding of queries": (whole(("if i4 * (ri * ty) + r6 < n else ZERO", "if 0 < 1 else ZERO")), "is outside"),
    "padding of columns": (whole((" and c < dv else ZERO", " else ZERO")), "is outside"),
    "no rescale of the sum": (whole(("l10[e6] * a13[e6] +", "l10[e6] +")), "differs"),
    "no rescale of the tile's sum": (whole(("s39[e6] * b14[e6]", "s39[e6]")), "differs"),
    "no rescale of the columns": (whole(("o11[e6, e7] * a13[e6] +", "o11[e6, e7] +")), "differs"),
    "the maximum is not kept": (whole(("            m9[e6] = t16\n", "            y9 = t16\n")), "differs|twice|outside"),
    "no shift": (whole((" - m31[e6])", ")")), "differs"),
    "no scale": (whole((" * scale", "")), "differs"),
    "a sum that goes on": (whole(("s39[e6] = ZERO", "s39[e6] = s39[e6] * ONE")), "before it is written"),
    "no sum to begin with": (whole(("l10[e6] = ZERO", "y9 = ZERO")), "before it is written"),
    "heads by blocks": (whole(("// (h * bq)", "// (b * bq)")), WRONG),
    "heads by batches": (whole(("// bq % h", "// bq % b")), WRONG),
    "blocks by heads": (whole(("% bq\n", "% h\n")), WRONG),
    "views that overlap": (whole(("view(pool, p1, p2", "view(pool, 0, p2")), "begins at 0, and the one before it ends"),
    "views with a gap": (whole(("p1 = dk * (ri * ty + 1)", "p1 = dk * (ri * ty + 1) + 1"), ("pool, 0, p1", "pool, 0, p1 - 1")), "begins at"),
    "one view for two arrays": (whole(("x33 = view(pool, p3, p4", "x33 = view(pool, p2, p3")), "begins at"),
    "a view beyond its shape": (whole(("p2 = p1 + dk * (rj * tx + 1)", "p2 = p1 + dk * (rj * tx + 2)")), "has shape"),
    "a view short of its shape": (whole(("p2 = p1 + dk * (rj * tx + 1)", "p2 = p1 + dk * (rj * tx)")), "has shape"),
    "a view of another shape": (whole(("p2, (dk, rj * tx + 1))", "p2, (rj * tx + 1, dk))")), "is outside"),
    "a view for each thread": (whole(("pool, 0, p1", "pool, cuda.threadIdx.x, p1 + cuda.threadIdx.x")), "begins at|in two places"),
    "a second pool": (whole(("    k18 = view(pool, p1, p2", "    q18 = cuda.shared.array(0, real)\n    k18 = view(q18, 0, p2 - p1")), "begins at 0"),
    "a pool that is indexed": (whole(("z5[c8, r6] =", "pool[c8] =")), "indexed is no array"),
    "a slice of what is no pool": (whole(("x33 = view(pool", "x33 = view(z5")), "no pool of shared memory"),
    "a step of none": (whole(("span(y, ri * ty, ty)", "span(y, ri * ty, ty - ty)")), "must not be zero"),
    "a step back": (whole(("span(y, ri * ty, ty)", "span(y, ri * ty, -ty)")), "a span by -"),
    "few registers": (whole(("o11 = cuda.local.array((ri, rc), real)", "o11 = cuda.local.array((ri, 1), real)")), "is outside"),
    "registers of all": (whole(("m9 = cuda.local.array(ri, real)", "m9 = cuda.shared.array(ri, real)")), "a race: thread"),
    "threads in one row": (whole(('block=("tx", "ty", 1)', 'block=("tx", 1, 1)')), WRONG),
    "fewer blocks": (whole(("b*h*bq", "b*bq")), WRONG),
}  # fmt: skip

ONLINE: dict[str, tuple[tuple[Edit, ...], str]] = {
    "the row itself is hidden": (whole(("r6 + 1", "r6")), "differs"),
    "the row after is seen": (whole(("r6 + 1", "r6 + 2")), "differs"),
    "live blocks are skipped": (whole(("+ ri * ty:", "+ ri:")), WRONG),
    "blocks are skipped by the thread": (whole(("+ ri * ty:", "+ y + 1:")), "diverge|differs"),
    "padding of keys": (whole((f"if u < {REST}", "if u < rj * tx")), "is outside"),
    "tiles of registers": (whole(("k17 * (rj * tx) + u", "k17 * rj + u")), "differs"),
    "no guard of columns": (whole((" and c7 < dv", "")), TWICE),
    "no guard of rows": (whole((GUARD, "if c7 < dv:")), TWICE),
    "rows by columns": (whole(("r6)) * dv + c7] = quot", "r6) + c7 * n)] = quot")), WRONG),
    "the last tile's state": (whole(("t16 = fmax(m9[e6], e15)", "t16 = e15")), "maximum of nothing"),
}  # fmt: skip

SPLIT: dict[str, tuple[tuple[Edit, ...], str]] = {
    "padding of keys": (whole((f"if u < {CHUNK}", "if u < rj * tx")), "is outside"),
    "chunks of tiles": (whole(("i1 * (bk * rj * tx) + k17", "i1 * (rj * tx) + k17")), "differs"),
    "the chunk before": (whole(("(i1 * (bk * rj * tx) + k17", "((bp - 1 - i1) * (bk * rj * tx) + k17")), "outside|differs"),
    "chunks that overlap": (whole(("min(bk * rj * tx, m - i1 * (bk * rj * tx))", "m - i1 * (bk * rj * tx)"), ("for k17 in span(bk)", "for k17 in span(bk + 1)")), "differs"),
    "a chunk's last tile": (whole(("for k17 in span(bk)", "for k17 in span(bk - 1)")), WRONG),
    "the maximum of the last tile is stored": (whole(("= m9[e6]\n", "= m31[e6]\n")), "differs|maximum of nothing"),
    "the sum of the last tile is stored": (whole(("= l10[e6]\n", "= s39[e6]\n")), "differs"),
    "the columns of the last tile are stored": (whole(("= o11[e6, e7]\n", "= s37[e6, e7]\n")), "differs"),
    "merged without rescaling": (whole(("l65 * a71 +", "l65 +")), "differs"),
    "merged without rescaling columns": (whole(("] * b72\n    for e75", "]\n    for e75")), "differs"),
    "merged from the second": (whole(("span(bp)", "span(1, bp)")), "differs|not written"),
    "merged but the last": (whole(("span(bp)", "span(bp - 1)")), "differs"),
    "merged in another order of axes": (whole((f"m50[{MERGED}]", "m50[((i61 * bp + k68) * h + i62) * n + i63]")), "differs"),
    "merged with the maximum of one": (whole(("m64 = t70", "m64 = e69")), "differs"),
    "heads of the merge": (whole(("i61 = w60 // (h * n)", "i61 = w60 // (b * n)")), WRONG),
    "rows of the merge": (whole(("i63 = w60 % n", "i63 = w60 % h")), WRONG),
    "no guard of columns": (whole(("        if c76 < dv:\n    ", "        if 0 < 1:\n    ")), TWICE),
    "all threads store the maximum": (whole((" and x < 1:\n            m50", ":\n            m50")), "element .* written twice"),
    "no thread stores the sum": (whole((" and x < 1:\n            l51", " and x < 0:\n            l51")), "before it is written"),
    "no guard of rows": (whole((OWN, OWN.replace("r6 < min(ri * ty, n - i4 * (ri * ty))", "0 < 1"))), TWICE),
    "rows of another length": (whole(('"rc*tx"))', '"dv"))')), "is outside"),
    "too few chunks": (whole(('grid=("bp*b*h*bq"', 'grid=("b*h*bq"')), "before it is written"),
    "what was made is made again": (whole(("    m64 = LOWEST\n", "    m64 = LOWEST\n    m50[w60] = ZERO\n")), "what an earlier launch made is written"),
    "what is made is read": (whole((f"l51[{ROW}] = l10[e6]", f"l51[{ROW}] = m50[{ROW}]")), "the output is read"),
}  # fmt: skip

MUTANTS = {
    **{("online", x): BOTH[x] for x in BOTH}, **{("split", x): BOTH[x] for x in BOTH},
    **{("online", x): ONLINE[x] for x in ONLINE}, **{("split", x): SPLIT[x] for x in SPLIT},
    **{(name, f"no barrier {k}"): (barrier(name, k), RACE) for name in TEXTS for k in range(4)},
}  # fmt: skip

OVERFLOWS: dict[tuple[str, str], tuple[Edit, ...]] = {
    ("online", "the row after is seen by the maxima"): (Edit("r6 + 1:", "r6 + 2:"),),
    ("split", "registers dealt in turn at the maxima"): (Edit("e6 * ty + y", "y * ri + e6", 2),),
    ("split", "the first key of a tile"): (Edit(f"span({CHUNK})", f"span(min(1, {CHUNK}))", 0),),
    ("split", "the latest chunk"): (Edit("t70 = fmax(m64, e69)", "t70 = e69"),),
    ("split", "the first chunk"): (Edit("t70 = fmax(m64, e69)", "t70 = (e69 if k68 < 1 else m64)"),),
}  # fmt: skip

EQUAL: dict[tuple[str, str], tuple[Edit, ...]] = {
    ("online", "rows dealt in turn"): whole(("e6 * ty + y", "y * ri + e6")),
    ("split", "columns dealt in turn"): whole(("e7 * tx + x", "x * rj + e7"), ("in span(rc):\n", "in span(rc):\n"), *()) if False else whole(("e66 * tx + x", "x * rc + e66"), ("e73 * tx + x", "x * rc + e73"), ("e75 * tx + x", "x * rc + e75")),
    ("online", "another order of the grid"): whole(("b*h*bq", "bq*b*h")),
    ("split", "sums over the padding too"): (Edit(f"span({CHUNK})", "span(rj * tx)", 2), Edit(f"span({CHUNK})", "span(rj * tx)", 1)),
    ("split", "the chunk has no end of its own"): whole(("min(bk * rj * tx, m - i1 * (bk * rj * tx))", "m - i1 * (bk * rj * tx)")),
    ("split", "one thread too many looks at what is made"): whole(("m64 = LOWEST", "m64 = (LOWEST if bp < 1 else m50[i63] - m50[i63])"), ("t70 = fmax(m64, e69)", "t70 = (e69 if k68 < 1 else fmax(m64, e69))"), ("a71 = rescale(m64, t70)", "a71 = (ZERO if k68 < 1 else rescale(m64, t70))")),
}  # fmt: skip

KERNEL = TEXTS["split"].index("\n\n@launch", TEXTS["split"].index("def partial"))
MADE = '("m50", "bp", "b", "h", "n")'
REFUSED: dict[str, tuple[str, str, str]] = {
    "no size of the registers": ("online", ', "rc")', ")"),
    "registers for each thread": ("online", "local.array(ri, real)", "local.array(bq, real)"),
    "shared memory of a parameter": ("online", "shared.array(0, real)", "shared.array(bq, real)"),
    "a product that is none": ("online", "b*h*bq", "b*h*"),
    "a sum of sizes": ("online", "b*h*bq", "b+h"),
    "a term of sizes": ("online", '"b*h*bq"', "b * h * bq"),
    "kernel makes an array": ("online", "makes=()", f"makes=({MADE},)"),
    "a launch that makes nothing": ("split", TEXTS["split"].partition("makes=")[2].partition(")\n")[0], "()"),
    "an array without a name": ("split", MADE, "(1, 2)"),
    "an array in an array": ("split", MADE, '("m50", ("bp", "b"))'),
    "an array with a name that is taken": ("split", "m50", "exp"),
    "an array with a product for a name": ("split", MADE, '("m50*n", "bp", "b", "h", "n")'),
    "an array of two launches' names": ("split", "l51", "m50"),
    "what is made in another order": ("split", "partial(m50, l51", "partial(l51, m50"),
    "what was made in another order": ("split", "kernel(out, m50, l51", "kernel(out, l51, m50"),
    "what was made is not a parameter": ("split", "kernel(out, m50, l51", "kernel(out, l51"),
    "another name for kernel": ("split", "def kernel", "def other"),
    "an instruction of the text": ("split", "def partial", "def exp"),
    "a launch with the name of a constant": ("split", "def partial", "def tx"),
    "a launch with the name of a parameter": ("split", "def partial", "def m50"),
    "two launches of one name": ("split", "def partial", "def kernel"),
    "a launch of the CPU": ("split", "@launch(grid=(\"b*h*n\", 1, 1), block=(\"tx\", 1, 1), constants=(\"tx\", \"rc\"), index=\"int64\", makes=())", "@njit"),
    "a launch that calls": ("split", "    m64 = LOWEST\n", "    m64 = partial(m50)\n"),
    "a constant between": ("split", "\n\n@launch(grid=(\"b*h*n\"", "\n\ntx = 1\n\n\n@launch(grid=(\"b*h*n\""),
    "a slice of the pool": ("online", "view(pool, 0, p1, (dk, ri * ty + 1))", "pool[0:p1]"),
    "a view by its meaning": ("online", "view(pool, 0, p1, (dk, ri * ty + 1))", "pool[0:p1].reshape((dk, ri * ty + 1))"),
    "a view of three": ("online", "view(pool, 0, p1, (dk, ri * ty + 1))", "view(pool, 0, (dk, ri * ty + 1))"),
    "a view of a number": ("online", "view(pool, 0, p1, (dk, ri * ty + 1))", "view(pool, 0, p1, dk)"),
    "a view in a sum": ("online", "view(pool, 0, p1, (dk, ri * ty + 1))", "view(pool, 0, p1, (dk, ri * ty + 1)) + 1"),
    "a span of four": ("online", "span(bk)", "span(0, bk, 1, 1)"),
    "a renamed import": ("online", "span, sqrt", "span as range, sqrt"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("seed", range(3))
def test_a_text_is_its_spec_in_both_replays(name: str, seed: int) -> None:
    data, c = TEXTS[name].encode(), CERTIFICATES[name]
    assert exact_replay(data, c, seed) > 60
    assert ordered_replay(data, c, seed) > 20


@pytest.mark.parametrize(("name", "what"), MUTANTS, ids=lambda x: x.replace(" ", "-"))
def test_a_mutant_is_refuted(name: str, what: str) -> None:
    edits, why = MUTANTS[name, what]
    with pytest.raises(Refuted, match=why):
        exact_replay(edited(name, *edits), CERTIFICATES[name])


@pytest.mark.parametrize(("name", "what"), OVERFLOWS, ids=lambda x: x.replace(" ", "-"))
def test_a_shift_that_is_not_the_maximum_dies_in_the_ordered_replay_alone(name: str, what: str) -> None:
    data, c = edited(name, *OVERFLOWS[name, what]), CERTIFICATES[name]
    assert exact_replay(data, c) > 60
    with pytest.raises(Refuted, match=r"argument of exp|shift is not attained|weights is"):
        ordered_replay(data, c)


@pytest.mark.parametrize(("name", "what"), EQUAL, ids=lambda x: x.replace(" ", "-"))
def test_another_way_to_say_it_is_accepted(name: str, what: str) -> None:
    assert exact_replay(edited(name, *EQUAL[name, what]), CERTIFICATES[name]) > 60


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_such_text_is_refused_before_it_runs(what: str) -> None:
    name, old, new = REFUSED[what]
    with pytest.raises(CertificateInvalid):
        compile_text(edited(name, Edit(old, new)))


def test_launches_run_in_the_order_of_the_text() -> None:
    text = TEXTS["split"]
    first, second = text.index("@launch"), KERNEL + 2
    swapped = text[:first] + text[second:] + "\n\n" + text[first:second].rstrip("\n") + "\n"
    with pytest.raises(CertificateInvalid, match="last function is called kernel"):
        compile_text(swapped.encode())
    found = compile_text(text.encode())
    assert [f.name for f in found.functions] == ["partial", "kernel"]
    assert found.arrays() == [3, 4]
    assert [name for name, _ in found.functions[0].makes] == ["m50", "l51", "o52"]
    assert found.functions[0].makes[2][1] == ("bp", "b", "h", "n", "rc*tx")


def test_a_size_of_either_launch_needs_a_value() -> None:
    c = CERTIFICATES["split"]
    sizes = cases_of(c, 0)[-1]
    for name in ("rj", "rc", "bp", "tx"):
        with pytest.raises(NotCovered, match=f"no value for {name}"):
            replay(TEXTS["split"].encode(), c.spec, c.inputs, [{k: v for k, v in sizes.items() if k != name}], 0)


# --- the sizes ---------------------------------------------------------------------------------------------

SHOWN = [
    ("causal-online", "online"), ("attention-online", "split"), ("gqa-causal-online", "online"),
    ("gqa-masked-online", "online"), ("gqa-masked-online", "split"), ("one-head-online", "split"),
]  # fmt: skip


def full(c: Certificate, x: dict[str, int]) -> bool:
    """Several of each factor, several tiles, and a tail on each axis that is tiled."""
    new = {s for t in c.tilings for s in (*t.factors, t.count)}
    return all(x[s] > 1 for s in new) and all(x[t.extent] % product(t, x) for t in c.tilings)


def product(t: Tiling, x: dict[str, int]) -> int:
    found = 1
    for f in t.factors:
        found *= x[f]
    return found


@pytest.mark.parametrize(("spec", "text"), SHOWN)
@pytest.mark.parametrize("seed", range(2))
def test_cases_show_several_of_all_with_tails_and_blocks_of_either_length(spec: str, text: str, seed: int) -> None:
    c = certificate(spec, text)
    for cases in (cases_of(c, seed), cases_of(c, seed, ORDERED_CASES, ORDERED_WORK)):
        for x in cases:
            assert all(meaning(h, (), (), (), Numbers(x, {})) for h in c.hypotheses)
            assert all((x[t.count] - 1) * product(t, x) < x[t.extent] <= x[t.count] * product(t, x) for t in c.tilings)
        assert any(full(c, x) and x["dk"] > 2 for x in cases)
        first, second = c.tilings[:2]
        many = [x for x in cases if x[first.count] > 2 < x[second.count]]
        assert any(product(first, x) > product(second, x) for x in many)
        assert any(product(first, x) < product(second, x) for x in many)
        assert any(0 in (x["n"], x["m"], x["dk"], x["dv"]) for x in cases)
    assert len(cases_of(c, seed)) == 6


def test_keys_beyond_the_first_tile_are_seen_by_some_row() -> None:
    for seed in range(5):
        c = CERTIFICATES["online"]
        assert any(full(c, x) and product(c.tilings[1], x) < x["n"] for x in cases_of(c, seed))
