"""Both replays over every committed kernel, and the sizes at which they run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from moaproof.assess.cases import MAX_WORK, cases_of
from moaproof.assess.ordered import ordered_replay
from moaproof.assess.replay import exact_replay
from moaproof.errors import MoaproofError, NotCovered
from moaproof.kernel.certificate import Certificate, Tiling, parse
from moaproof.semantics import Numbers, meaning
from moaproof.term import Int, Le, Size
from tests.reader.test_reader import edits

ROOT = Path(__file__).resolve().parents[2]
CERTIFICATES = {p.stem: parse(p.read_bytes()) for p in sorted((ROOT / "certs").glob("*.json"))}
TEXTS = {
    (k.file, name): (ROOT / "kernels" / k.file).read_bytes() for name, c in CERTIFICATES.items() for k in c.kernels
}
BODIES = {data.partition(b"\n@")[2]: (name, data) for (_, name), data in TEXTS.items()}
ONE_FACTOR = [name for name, c in CERTIFICATES.items() if all(len(t.factors) == 1 for t in c.tilings)]
PRODUCTS = [name for name in CERTIFICATES if name not in ONE_FACTOR]


def tile(t: Tiling, sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[f] for f in t.factors)


def test_every_kernel_is_replayed_exactly_once() -> None:
    assert {file for file, _ in TEXTS} == {p.name for p in (ROOT / "kernels").glob("*_float*.py")}
    assert len(BODIES) < len(TEXTS)


@pytest.mark.parametrize(("name", "data"), BODIES.values(), ids=[name for name, _ in BODIES.values()])
def test_a_committed_kernel_is_its_spec_in_both_replays(name: str, data: bytes) -> None:
    assert exact_replay(data, CERTIFICATES[name]) > 60
    assert ordered_replay(data, CERTIFICATES[name]) > 20


@pytest.mark.parametrize("name", ["causal-online", "gqa-masked-online", *PRODUCTS[:1], *PRODUCTS[-1:]])
def test_a_changed_token_is_refused_or_refuted_and_nothing_else_happens(name: str) -> None:
    c = CERTIFICATES[name]
    text = next(data for (_, of), data in TEXTS.items() if of == name).decode()
    head, at, body = text.partition("\n@")
    killed = 0
    for changed in edits(body, 14, seed=4):
        try:
            exact_replay((head + at + changed).encode(), c)
        except MoaproofError:
            killed += 1
    assert killed >= 12


@pytest.mark.parametrize("name", CERTIFICATES)
@pytest.mark.parametrize("seed", [0, 1])
def test_cases_are_within_the_hypotheses_with_empty_axes_and_tiles_longer_than_theirs(name: str, seed: int) -> None:
    c = CERTIFICATES[name]
    cases = cases_of(c, seed)
    assert len(cases) == 6
    for x in cases:
        assert all(meaning(h, (), (), (), Numbers(x, {})) for h in c.hypotheses)
        for t in c.tilings:
            assert (x[t.count] - 1) * tile(t, x) < x[t.extent] <= x[t.count] * tile(t, x)
    full = [x for x in cases if all(x[s] for s in ("n", "m", "dk", "dv"))]
    assert any(x["m"] == 0 < x["n"] for x in cases)
    for t in c.tilings if name in ONE_FACTOR else ():
        assert any(tile(t, x) > x[t.extent] for x in full)


@pytest.mark.parametrize("name", CERTIFICATES)
def test_cases_of_few_seeds_show_long_axes_tails_and_groups(name: str) -> None:
    cases = [x for seed in range(3) for x in cases_of(CERTIFICATES[name], seed)]
    full = [x for x in cases if all(x[s] for s in ("n", "m", "dk", "dv"))]
    for t in CERTIFICATES[name].tilings:
        assert any(x[t.extent] % tile(t, x) and x[t.count] > 1 for x in full)
    assert any(1 < x["n"] < x["m"] for x in full)
    assert any(1 < x["m"] < x["n"] for x in full)
    if name in PRODUCTS:  # their work is in the tiles
        return
    for s in ("n", "m", "dk", "dv"):
        assert any(x[s] > 4 for x in full)
    if "g" in cases[0]:
        assert any(x["g"] > 1 and x["r"] > 1 for x in full)


def narrowed(name: str, *hypotheses: object) -> Certificate:
    c = CERTIFICATES[name]
    return replace(c, hypotheses=(*c.hypotheses, *hypotheses), witness={**c.witness, "n": 10**6, "m": 10**6})


def test_sizes_that_are_never_small_are_not_covered() -> None:
    """A certificate whose hypotheses ask for large sizes ends soon, with a refusal."""
    c = narrowed("attention-online", Le(Int(10**6), Size("n")))
    with pytest.raises(NotCovered, match="no sizes of at most"):
        cases_of(c, 0)
    with pytest.raises(NotCovered):
        exact_replay(next(iter(TEXTS.values())), c)


def test_hypotheses_that_contradict_each_other_end() -> None:
    c = narrowed("attention-online", Le(Size("n"), Int(2)), Le(Int(3), Size("n")))
    with pytest.raises(NotCovered):
        cases_of(c, 0)


def test_the_cases_and_the_count_are_the_same_each_time() -> None:
    c = CERTIFICATES["gqa-masked-online"]
    data = next(data for (_, of), data in TEXTS.items() if of == "gqa-masked-online")
    assert cases_of(c, 3) == cases_of(c, 3) != cases_of(c, 4)
    assert ordered_replay(data, c, seed=3) == ordered_replay(data, c, seed=3)
    axes = {s for t in c.inputs if t.data[1] == "real" for u in t.args for s in [u.data]}
    for x in cases_of(c, 3):
        work = 1
        for s in axes:
            work *= max(1, x[s])
        assert work <= MAX_WORK
