"""From the same DNF to launches of a CUDA grid: equal values at every shape of tiles, and what the schedules refuse."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from moaproof.derive.chain import Chain
from moaproof.errors import NotCovered
from moaproof.kernel.points import random_inputs
from moaproof.reader.onf import is_onf
from moaproof.semantics import Fields, evaluate
from moaproof.term import Term, subterms

VARIANTS = ["sdpa", "sdpa_causal", "sdpa_masked", "sdpa_gqa", "attention", "masked_attention", "unshifted_softmax"]
SMALL: dict[str, int] = {
    "b": 1, "h": 2, "g": 1, "r": 2, "n": 3, "m": 5, "dk": 2, "dv": 3,
    "mb": 1, "mh": 2, "mn": 3, "mm": 1, "sb": 0, "sh": 1, "sn": 1, "sm": 0,
}  # fmt: skip
TILES = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 2, 2), (2, 2, 3, 2, 1)]  # ri, ty, rj, tx, bk


def sized(chain: Chain, tiles: tuple[int, ...], bk_is_count: bool) -> dict[str, int]:
    sizes = SMALL | dict(zip(("ri", "ty", "rj", "tx"), tiles, strict=False))
    if not bk_is_count:
        sizes["bk"] = tiles[4]
    for t in chain.tilings:
        sizes[t.count] = -(-sizes[t.extent] // math.prod(sizes[f] for f in t.factors))
    return sizes


@pytest.mark.parametrize("schedule", ["cuda-online", "cuda-split"])
@pytest.mark.parametrize("function", VARIANTS)
def test_the_value_is_kept_whatever_the_tiles(derivation: Any, function: str, schedule: str) -> None:
    spec, chain = derivation("attention", function, schedule)
    assert is_onf(chain.term)
    for tiles in TILES:
        sizes = sized(chain, tiles, schedule == "cuda-online")
        algebra = Fields(sizes, random_inputs(spec.inputs, sizes, random.Random(tiles[0])))
        assert evaluate(chain.term, algebra) == evaluate(spec.term, algebra)


@pytest.mark.parametrize("schedule", ["cuda-online", "cuda-split"])
def test_the_dnf_is_that_of_the_cpu(derivation: Any, schedule: str) -> None:
    """One algebraic description: the chains agree up to the normal form, and part after it."""
    dnf, cpu, cuda = (derivation("attention", "sdpa", s)[1] for s in (None, "online", schedule))
    for chain in (cpu, cuda):
        assert chain.steps[: len(dnf.steps)] == dnf.steps
    assert cpu.term is not cuda.term


def bound(t: Term, axis: str) -> int:
    return sum(u.data == axis for u in subterms(t) if u.op in ("build", "tiles"))


def test_axes_of_the_machine(derivation: Any) -> None:
    _, online = derivation("attention", "sdpa", "cuda-online")
    assert (bound(online.term, "grid"), bound(online.term, "thread")) == (3, 1)
    _, split = derivation("attention", "sdpa", "cuda-split")
    assert split.term.op == "let"  # a launch that leaves states, and one that merges them
    assert (bound(split.term.args[0], "grid"), bound(split.term.args[0], "thread")) == (4, 1)
    assert (bound(split.term.args[1], "grid"), bound(split.term.args[1], "thread")) == (3, 1)


def test_dead_tiles_are_skipped(derivation: Any) -> None:
    _, chain = derivation("attention", "sdpa_causal", "cuda-online")
    assert "skip-tiles" in [line.rule for line in chain.lines]
    tiles = [u for u in subterms(chain.term) if u.op == "fold" and u.data == "softmax"]
    assert [u.args[1].op for u in tiles] == ["lt"]


@pytest.mark.parametrize("schedule", ["cuda-online", "cuda-split"])
@pytest.mark.parametrize("function", ["chain", "standardised"])
def test_what_is_no_attention_is_refused(derivation: Any, function: str, schedule: str) -> None:
    with pytest.raises(NotCovered):
        derivation("arrays", function, schedule)
