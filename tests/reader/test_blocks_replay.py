# ruff: noqa: E501  what is replaced is as long as it is
"""What the reader says of CUDA texts, against their exact runs; and what it leaves to the audit of memory."""

from __future__ import annotations

import pytest

from moaproof.assess.replay import replay
from moaproof.errors import CertificateInvalid, IllFormed, NotCovered, Refuted
from moaproof.kernel.certificate import Tiling
from moaproof.kernel.checker import tiling_facts
from moaproof.kernel.integers import Integers
from moaproof.reader.safety import SafetyReport, check_text
from moaproof.term import Term
from tests.reader.test_blocks import HEAD, SAMPLES, b, dv, h, n, read
from tests.reader.test_blocks_hostile import OTHER, edited, edits

SMALL = (
    {"n": 5, "dk": 3, "dv": 3, "bq": 2, "ri": 2, "ty": 2, "rc": 2, "tx": 2},
    {"n": 3, "dk": 2, "dv": 2, "bq": 3, "ri": 1, "ty": 1, "rc": 1, "tx": 2},
)
KEYS = (
    {"b": 2, "h": 2, "m": 7, "rj": 1, "bk": 4, **SMALL[0]},
    {"b": 1, "h": 1, "m": 5, "rj": 2, "bk": 2, **SMALL[1]},
)
CHUNKS = tuple({**s, "bk": 2, "bp": -(-s["m"] // (2 * s["rj"] * s["tx"]))} for s in KEYS)
CASES = {"causal": KEYS, "split": CHUNKS}
ROWS, COLUMNS = Tiling("n", "ri*ty", "bq"), Tiling("dv", "tx", "rc")
TILINGS = {
    "causal": Tiling("m", "rj*tx", "bk"),
    "split": Tiling("m", "bk*rj*tx", "bp"),
    "small": Tiling("dk", "ri", "bk"),
}


def run(name: str, text: str, term: Term, count: int = 2) -> int:
    """The elements of the text's exact runs, which are the term's; ``Refuted`` if they differ."""
    return replay((HEAD + text).encode(), term, SAMPLES[name].inputs, CASES.get(name, SMALL)[:count], 1).elements


@pytest.mark.parametrize("name", SAMPLES)
def test_a_text_run_exactly_is_its_term(name: str) -> None:
    assert run(name, SAMPLES[name].text, SAMPLES[name].term) > 10


@pytest.mark.parametrize("name", ["score-for-weight", "row-of-the-tile", "states-exchanged", "start-of-a-row"])
def test_a_run_tells_a_text_from_another_term(name: str) -> None:
    sample, *changes = OTHER[name]
    text = edited(sample, *changes)
    assert run(sample, text, read(SAMPLES[sample], text).term, 1)
    with pytest.raises(Refuted, match="differs from the Spec"):
        run(sample, text, SAMPLES[sample].term, 1)


def computes(name: str, text: str) -> bool:
    """Does the text compute what it reads to?  No, if it cannot be run, or what it reads to has no value."""
    try:
        return run(name, text, read(SAMPLES[name], text).term, 1) > 0
    except (CertificateInvalid, IllFormed, NotCovered):
        return False
    except Refuted as e:
        if "differs" in str(e):
            raise
        return False  # a step out of an array, which the audit refuses


@pytest.mark.parametrize("name", SAMPLES)
def test_what_an_edited_text_reads_to_is_what_it_computes(name: str) -> None:
    agreed = [text for text, _, _ in edits(SAMPLES[name].text, 250, seed=8) if computes(name, text)]
    assert len(agreed) > 1


# --- the audit's part ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def integers() -> Integers:
    return Integers()


def audit(name: str, text: str, integers: Integers) -> SafetyReport:
    s = SAMPLES[name]
    tilings = (ROWS, COLUMNS, *([TILINGS[name]] if name in TILINGS else []))
    facts = list(dict.fromkeys(f for t in tilings for f in tiling_facts(t)))
    shape = (b, h, n, dv) if name in CASES else (n, dv)
    return check_text((HEAD + text).encode(), s.inputs, s.sizes, facts, shape, integers)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_audit_proves_these_texts(name: str, integers: Integers) -> None:
    assert audit(name, SAMPLES[name].text, integers).counts()["cover"] > 5


# The reader reads the same term; the audit says why the text does not compute it.
UNSAFE = {
    "first-barrier-dropped": ("causal", "race", ("            cuda.syncthreads()\n", "")),
    "staging-not-awaited": ("small", "race", ("    cuda.syncthreads()\n    for e2", "    for e2")),
    "last-barrier-dropped": ("split", "race", ("            cuda.syncthreads()\n    for e88", "    for e88")),
    "barrier-in-a-nest": ("causal", "barrier", ("+ x47[k70, r72]\n", "+ x47[k70, r72]\n                        cuda.syncthreads()\n")),
    "registers-too-few": ("small", "bounds", ("g1 = cuda.local.array(ri, real)", "g1 = cuda.local.array(rc, real)")),
    "columns-too-few": ("causal", "bounds", ("o10 = cuda.local.array((ri, rc)", "o10 = cuda.local.array((ri, rj)")),
    "rows-too-few": ("small", "bounds", ("p1 = dk * (ri * ty + 1)\n    s1 = view(pool, 0, p1, (dk, ri * ty + 1))", "p1 = dk * (ri * tx)\n    s1 = view(pool, 0, p1, (dk, ri * tx))")),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_what_the_reader_passes_over_the_audit_refuses(name: str, integers: Integers) -> None:
    sample, why, change = UNSAFE[name]
    text = edited(sample, change)
    assert read(SAMPLES[sample], text).term is SAMPLES[sample].term
    with pytest.raises(Refuted, match=why):
        audit(sample, text, integers)
