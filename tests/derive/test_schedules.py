"""From the DNF to programs: every variant by both schedules, the classes of their steps, and their cost."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from moaproof.derive.chain import Chain
from moaproof.derive.schedules.cpu import online, rows
from moaproof.derive.to_dnf import to_dnf
from moaproof.errors import MoaproofError, NotCovered, Refuted, RuleDoesNotApply
from moaproof.kernel.points import random_inputs
from moaproof.reader.onf import is_onf
from moaproof.semantics import Fields, Numbers, evaluate
from moaproof.term import Build, F, Fold, In, Lt, Mul, Psi, Size, Term, Var, subterms

VARIANTS = [
    "attention",
    "causal_attention",
    "masked_attention",
    "sdpa_gqa",
    "scaled_attention",
    "one_head",
    "unshifted_softmax",
]


def sizes_for(chain: Chain, **sizes: int) -> dict[str, int]:
    for t in chain.tilings:
        sizes[t.count] = -(-sizes[t.extent] // math.prod(sizes[f] for f in t.factors))
    return sizes


SMALL: dict[str, int] = {
    "b": 1, "h": 2, "g": 1, "r": 2, "n": 3, "m": 5, "dk": 2, "dv": 2,
    "mb": 1, "mh": 2, "mn": 3, "mm": 1, "sb": 0, "sh": 1, "sn": 1, "sm": 0,
}  # fmt: skip


@pytest.mark.parametrize("function", VARIANTS)
def test_rows_keeps_every_bit(derivation: Any, function: str) -> None:
    spec, chain = derivation("attention", function, "rows")
    assert is_onf(chain.term)
    assert {line.kind for line in chain.lines} <= {"I", "S"}
    for tq in (1, 2, 4):
        sizes = sizes_for(chain, **SMALL, tq=tq)
        rng = random.Random(tq)
        data = {
            name: [x if isinstance(x, bool) else rng.uniform(-3, 3) for x in row]
            for name, row in random_inputs(spec.inputs, sizes, rng).items()
        }
        algebra = Numbers(sizes, data)
        assert evaluate(chain.term, algebra) == evaluate(spec.term, algebra)


@pytest.mark.parametrize("function", VARIANTS)
def test_online_keeps_the_value_over_the_reals(derivation: Any, function: str) -> None:
    spec, chain = derivation("attention", function, "online")
    assert is_onf(chain.term)
    assert sum(line.kind == "R" for line in chain.lines) in (3, 4)
    for tq, tk in ((1, 1), (2, 2), (4, 7)):
        sizes = sizes_for(chain, **SMALL, tq=tq, tk=tk)
        algebra = Fields(sizes, random_inputs(spec.inputs, sizes, random.Random(tq)))
        assert evaluate(chain.term, algebra) == evaluate(spec.term, algebra)


def test_online_evaluates_each_score_once(derivation: Any) -> None:
    """n*m score evaluations; ``rows`` takes 3*n*m, the literal DNF n*dv*m*(m+1)^2."""

    class Counting(Numbers):
        scores = 0

        def function(self, name: str, args: Any) -> float:
            self.scores += name == "mul" and args[1] == 0.5
            return super().function(name, args)

    counts = {}
    for schedule in ("rows", "online"):
        spec, chain = derivation("attention", "attention", schedule)
        sizes = sizes_for(chain, b=1, h=1, n=2, m=3, dk=2, dv=2, tq=2, tk=2)
        data = {k: [0.25] * len(v) for k, v in random_inputs(spec.inputs, sizes, random.Random(0)).items()} | {
            "scale": [0.5]
        }
        algebra = Counting(sizes, data)
        algebra.cells = None  # no cell is kept but those of a let: the cost of the program
        evaluate(chain.term, algebra)
        counts[schedule] = algebra.scores
    assert counts["online"] == 2 * 3 * 2  # once a score for each of dv columns: the evaluator asks cell by cell
    assert counts["rows"] > counts["online"]


def test_causal_tiles_without_a_visible_key_are_skipped(derivation: Any) -> None:
    _, chain = derivation("attention", "causal_attention", "online")
    assert "skip-tiles" in [line.rule for line in chain.lines]
    guards = [u.args[1] for u in subterms(chain.term) if u.op == "fold" and u.data == "softmax"]
    assert guards[0].op == "lt"


def test_a_guard_that_skips_a_visible_tile_is_refused(derivation: Any) -> None:
    _, chain = derivation("attention", "causal_attention", None)
    nest_columns = (1, 1, 1, 1)
    chain.do("softmax-online", nest_columns)
    chain.do("share-state", nest_columns[:-1])
    chain.tile("n", "tq", "bq")
    chain.tile("m", "tk", "bk")
    state = (*nest_columns[:-1], 0)
    chain.do("split-fold", state, "softmax", b=(0, Size("bk")), t=(0, Size("tk")))
    with pytest.raises(Refuted):  # tile J starts at or before row i, not strictly before it
        chain.do("skip-tiles", state, "softmax", h=(1, Lt(Mul(Var(0), Size("tk")), Var(1))))


def test_online_refuses_what_is_no_attention() -> None:
    n, m, k = map(Size, "nmk")
    spec = Term("inner", ("add", "mul"), (In("A", n, k), In("B", k, m)))
    chain = Chain(spec)
    to_dnf(chain)
    with pytest.raises(NotCovered, match="--schedule rows"):
        online(chain)


@pytest.mark.parametrize(
    "function", ["chain", "outer_sum", "differences", "middle", "wrapped", "cycle", "cycle_back", "standardised"]
)
def test_rows_schedules_any_array_program(derivation: Any, function: str) -> None:
    spec, chain = derivation("arrays", function, "rows")
    assert is_onf(chain.term)
    sizes = sizes_for(chain, n=4, m=5, k=2, l=3, d=2, tq=3)
    algebra = Fields(sizes, random_inputs(spec.inputs, sizes, random.Random(1)))
    assert evaluate(chain.term, algebra) == evaluate(spec.term, algebra)


def test_rows_of_a_vector_and_of_a_scalar_function() -> None:
    n = Size("n")
    chain = Chain(Build(n, F("exp", Psi(In("x", n), Var(0)))))
    to_dnf(chain)
    rows(chain)
    assert is_onf(chain.term)


def test_a_value_is_not_hoisted_over_what_it_mentions() -> None:
    n, m = map(Size, "nm")
    spec = Build(n, Fold("add", m, F("exp", Psi(In("x", n, m), Var(1), Var(0)))))
    chain = Chain(spec)
    with pytest.raises(RuleDoesNotApply, match="bound inside"):
        chain.name((), (1, 2))


def test_a_wrong_move_is_refused_where_it_is_made() -> None:
    n = Size("n")
    chain = Chain(Build(n, F("exp", Psi(In("x", n), Var(0)))))
    with pytest.raises(MoaproofError):
        chain.do("psi-transpose", (), (1, 0))
