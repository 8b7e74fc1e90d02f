"""The error bound: what it is, that its facts hold, and that an adversary who chooses each rounding stays within it.

The adversary evaluates the ONF with each operation off by a factor 1 + d and each exp by 1 + e, d up to u and e up to
eps in size, so large that float64 is exact beside them, and flips the signs of all d and e, one after the other, as
long as the error grows.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from moaproof.errors import DigestMismatch, NotCovered, Unknown
from moaproof.kernel import lemmas
from moaproof.kernel.bits import Deciders
from moaproof.kernel.bound import Arithmetic, Evaluation, Exact, Slack
from moaproof.kernel.certificate import Certificate, parse
from moaproof.kernel.checker import check_rounding, facts_of, rounding_of
from moaproof.kernel.rounding import UNIT, Bound, bound_of, computed_once, words
from moaproof.semantics import EMPTY, Numbers, evaluate, meaning
from moaproof.term import Add, Build, F, Fold, In, Int, Let, Lt, Min, Mul, Psi, Real, Size, Term, Var, up

CERTS = Path(__file__).parents[2] / "certs"


def certificate(name: str) -> Certificate:
    return parse((CERTS / f"{name}.json").read_bytes())


def bound(name: str) -> Bound:
    c = certificate(name)
    found = rounding_of(c, facts_of(c), Deciders())
    assert found is not None
    return found


# --- the facts under the lemmas -------------------------------------------------------------------------

FACTS = [(name, k, fact) for name, facts in lemmas.FACTS.items() for k, fact in enumerate(facts)]


@pytest.mark.parametrize(("name", "k", "fact"), FACTS, ids=[f"{name}-{k}" for name, k, _ in FACTS])
def test_a_fact_is_proved_and_its_hypotheses_can_hold(name: str, k: int, fact: lemmas.Fact) -> None:
    import z3

    lemmas.prove(name, fact)
    solver = z3.SolverFor("QF_NRA", ctx=z3.Context())
    solver.from_string(fact.text.rpartition("(assert (not ")[0])
    assert str(solver.check()) == "sat"


# What a hasty reader might have written instead: (lemma, number, old, new); none may be proved.
WEAKER = [
    ("rounding", 0, "(<= (+ 1 d) I)", "(<= (+ 1 d) 1)"),
    ("rounding", 1, "(* u W)", "(* u u W)"),
    ("rounding", 2, "(* (- (* P I) 1) A)", "(* (- P 1) A)"),
    ("rounding", 2, "(+ y z)", "y"),
    ("add", 0, "(+ A B)", "A"),
    ("add", 0, "(+ y z)", "y"),
    ("product", 0, "(* P Q)", "P"),
    ("product", 0, "(+ (* B y) y (* A z) z)", "(+ (* B y) (* A z))"),
    ("quotient", 0, "(* P Q)", "P"),
    ("maximum", 0, "(<= q m)", "(<= q (* 2 m))"),
    ("root", 0, "(and (<= s P)", "(and (<= (* s s s) P)"),
    ("exponential", 0, "(<= (+ 1 f) J)", "(<= (+ 1 f) 1)"),
    ("exponential", 1, "(* R J)", "R"),
    ("telescoping", 0, "(<= s m)", "(<= m s)"),
    ("telescoping", 1, "(* P I I I) 1", "(* P I) 1"),
    ("merge", 0, "(* P I I)", "(* P I)"),
    ("merge", 1, "(+ k N 1)", "k"),
    ("merge", 2, "(+ b t)", "b"),
    ("mean", 0, "(* 2 V (- r 1))", "(* V (- r 1))"),
    ("mean", 1, "(- P 1)", "(- 1 1)"),
    ("mean", 2, "(* c y)", "y"),
    ("mean", 3, "(* 4 V Y)", "(* V Y)"),
]


@pytest.mark.parametrize(("name", "k", "old", "new"), WEAKER)
def test_a_broken_fact_is_not_proved(name: str, k: int, old: str, new: str) -> None:
    fact = lemmas.FACTS[name][k]
    broken = lemmas.Fact(fact.says, tuple(g.replace(old, new) for g in fact.given), fact.then.replace(old, new))
    assert broken != fact
    with pytest.raises(Unknown, match=f"lemma {name}: Z3 answers 'sat'"):
        lemmas.prove(name, broken)


def test_every_fact_has_a_broken_one() -> None:
    assert {(name, k) for name, k, _ in FACTS} == {(name, k) for name, k, *_ in WEAKER}


# --- what it is of the committed certificates -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rounds", "exps", "score"),
    [
        ("attention-online", "2 + 2*min(tk, m) + 4*bk", "1 + bk", "5 + dk"),
        ("causal-online", "2 + 2*min(tk, m) + 4*bk", "1 + bk", "5 + dk"),
        ("gqa-masked-online", "2 + 2*min(tk, m) + 4*bk", "1 + bk", "5 + dk"),
        ("scaled-online", "2 + 2*min(tk, m) + 4*bk", "1 + bk", "7 + dk"),
        ("attention-rows", "2*m + 3", "1", "5 + dk"),
        ("attention-cuda-online", "2 + 2*min(m, rj*tx) + 4*bk", "1 + bk", "5 + dk"),
        ("masked-cuda-split", "2 + 2*min(min(m, bk*rj*tx), rj*tx) + 4*bk + 4*bp", "1 + bk + bp", "5 + dk"),
    ],
)
def test_counts(name: str, rounds: str, exps: str, score: str) -> None:
    """l and o: a tile's additions, two roundings a merge; o: a product; a division.  Scores: dot product and scale."""
    growth = bound(name).near.growth
    (mean,) = growth.means
    (shift,) = mean.shifts
    assert (words(growth.rounds), words(mean.exps), words(shift.growth.rounds)) == (rounds, exps, score)
    assert (growth.exps, growth.shifts, mean.rounds) == (Int(0), (), Int(0))


@pytest.mark.parametrize("path", sorted(CERTS.glob("*.json")), ids=lambda p: p.stem)
def test_every_committed_certificate_states_its_bound(path: Path) -> None:
    c = parse(path.read_bytes())
    assert c.rounding is not None
    found = rounding_of(c, facts_of(c), Deciders())
    assert found is not None
    assert found.document() == c.rounding


def _counts(tree: Any) -> list[tuple[dict[str, str], str]]:
    _, counts, parts = tree
    return [(counts, key) for key in counts] + [found for part in parts for found in _counts(part)]


def test_each_coefficient_shrunk_or_inflated_is_refused() -> None:
    """The checker builds the tree itself: nothing that a certificate says of it is taken over."""
    c = certificate("attention-online")
    facts, deciders = facts_of(c), Deciders()
    assert check_rounding(c, facts, deciders) is not None
    number = len(_counts(c.rounding["tree"]))
    assert number > 10
    for k in range(number):
        for change in ("1", "1 + {}", "2*{}"):
            rounding = parse(c.to_bytes()).rounding
            counts, key = _counts(rounding["tree"])[k]
            if change.format(counts[key]) == counts[key]:
                continue
            counts[key] = change.format(counts[key])
            with pytest.raises(DigestMismatch, match="not the one that the ONF has"):
                check_rounding(replace(c, rounding=rounding), facts, deciders)
    for rounding in (None, {}, {**c.rounding, "size": "0" * 64}, {**c.rounding, "peaks": []}):
        with pytest.raises(DigestMismatch, match="not the one that the ONF has"):
            check_rounding(replace(c, rounding=rounding), facts, deciders)


def test_a_specification_that_may_overflow_has_no_bound() -> None:
    c = certificate("unshifted-online")
    with pytest.raises(Unknown, match="a divisor with an error that is not relative"):
        bound_of(c.spec, facts_of(c))


def test_what_a_fused_multiply_add_may_split_is_computed_once() -> None:
    """On CUDA a product may be contracted into one addition and not into another."""
    assert all(computed_once(certificate(p.stem).onf) for p in CERTS.glob("*-cuda-*.json"))
    rows = certificate("attention-rows")
    assert not computed_once(rows.onf)  # it has two exps of one weight
    assert rounding_of(rows, facts_of(rows), Deciders()) is not None
    on_cuda = replace(rows, kernels=tuple(replace(k, target="cuda") for k in rows.kernels))
    assert rounding_of(on_cuda, facts_of(on_cuda), Deciders()) is None


# A softmax mean of n scores x[k] y[k] + y[k], kept as the checker wants it, and broken in several ways.
def softmax_mean(scores_twice: bool = False, top_of: str = "kept", kept: bool = True, plain: bool = False) -> Term:
    n = Size("n")
    x, y = In("x", n), In("y", n)
    score = F("add", F("mul", Psi(x, Var(0)), Psi(y, Var(0))), Psi(y, Var(0)))
    scores = Build(n, score)
    top = Fold("max", n, Psi(Var(1), Var(0)) if top_of == "kept" else score)
    weight = F("exp", F("sub", Psi(Var(2), Var(0)), Var(1)))  # key, M, scores
    weights = Build(n, weight) if kept else None
    if plain:
        weights = Build(n, F("exp", F("sub", score, Var(1))))
    if scores_twice:  # let s, M, s', p: the exponent reads s', M is the maximum of s
        again = Build(n, score)
        p = Build(n, F("exp", F("sub", Psi(Var(1), Var(0)), Var(2))))
        inner = Let(
            p,
            F(
                "div",
                Fold("add", n, F("mul", Psi(Var(1), Var(0)), Psi(y, Var(0)))),
                Fold("add", n, Psi(Var(1), Var(0))),
            ),
        )
        return Let(scores, Let(top, Let(again, inner)))
    if weights is None:
        low = Fold("add", n, weight)
        return Let(scores, Let(top, F("div", Fold("add", n, F("mul", weight, Psi(y, Var(0)))), low)))
    p_k = Psi(Var(1), Var(0))
    mean = F("div", Fold("add", n, F("mul", p_k, Psi(y, Var(0)))), Fold("add", n, p_k))
    return Let(scores, Let(top, Let(weights, mean)))


def test_only_what_is_kept_is_computed_once() -> None:
    assert computed_once(softmax_mean())
    for broken in (
        softmax_mean(scores_twice=True),  # the maximum of other computed scores than the exponent has
        softmax_mean(top_of="anew"),  # M of scores that are computed again
        softmax_mean(kept=False),  # the exp in two places
        softmax_mean(plain=True),  # the exponent computes its score again
    ):
        assert not computed_once(broken)
        assert bound_of(broken, []).near.by.name == "mean"  # on a machine that does not contract it has a bound


def test_the_texts_keep_scores_and_weights_in_shared_memory() -> None:
    """What ``computed_once`` takes for kept is memory between barriers, where no product can be contracted into it."""
    texts = sorted((CERTS.parent / "kernels").glob("*_cuda_*.py"))
    assert len(texts) == 20
    for path in texts:
        text = path.read_text()
        ((weights, scores),) = re.findall(r"(\w+)\[\w+, \w+\] = \(exp\((\w+)\[", text)
        for name in (weights, scores):
            assert f"    {name} = view(pool, " in text


# --- the adversary ----------------------------------------------------------------------------------------


class Adversary(Numbers):
    """Float64 in which each operation is off as the next of ``signs`` says; made longer as needed."""

    def __init__(
        self, sizes: Mapping[str, int], inputs: Mapping[str, Sequence[float]], u: float, eps: float, signs: list[float]
    ):
        super().__init__(sizes, inputs)
        self.u, self.eps, self.signs, self.used = u, eps, signs, 0

    def off(self, by: float) -> float:
        if self.used == len(self.signs):
            self.signs.append(random.Random(self.used).choice((-1.0, 1.0)))
        self.used += 1
        return 1 + by * self.signs[self.used - 1]

    def function(self, name: str, args: Sequence[float]) -> float:
        value = super().function(name, args)
        if name in ("max", "neg") or value == 0:
            return value
        return value * self.off(self.eps if name == "exp" else self.u)

    def merge(self, s: Any, t: Any) -> Any:
        """As the kernels do it: the first merge, with Empty, is no exception."""
        if t is EMPTY:
            return s
        return super().merge((t[0], 0.0, 0.0) if s is EMPTY else s, t)


def worst(c: Certificate, sizes: dict[str, int], inputs: dict[str, list[float]], u: float, eps: float) -> float:
    """The greatest error that flipping signs finds, of a result of one cell."""
    (exact,) = evaluate(c.onf, Numbers(sizes, inputs))[1]
    signs: list[float] = []

    def error() -> float:
        (found,) = evaluate(c.onf, Adversary(sizes, inputs, u, eps, signs))[1]
        return abs(float(found) - float(exact))

    most, before = error(), -1.0
    while most > before:
        before = most
        for k in range(len(signs)):
            signs[k] = -signs[k]
            found = error()
            if found > most:
                most = found
            else:
                signs[k] = -signs[k]
    return most


def stated(b: Bound, sizes: dict[str, int], inputs: dict[str, list[float]], u: float, eps: float) -> float:
    """What the bound of the first cell is, in exact rationals."""
    arithmetic = Arithmetic(
        "float", max(Fraction(u), Fraction(1, 10**200)), Fraction(eps), Fraction(1, 10**300), Fraction(10**300)
    )
    values = Numbers(sizes | {"x0'": 0, "x1'": 0, "x2'": 0, "x3'": 0}, inputs)
    kind = Exact(lambda t: Fraction(meaning(t, (), (), (), values)))
    return float(Evaluation(arithmetic, sizes, kind).bound(b.near))


M = {"b": 1, "h": 1, "n": 1, "m": 4, "dk": 2, "dv": 1, "tq": 1, "bq": 1, "tk": 2, "bk": 2}
CUDA = M | {"ri": 1, "ty": 1, "rc": 1, "tx": 1, "rj": 2, "bp": 1}
SPLIT = CUDA | {"bk": 1, "bp": 2}
RISING = {"q": [1.0, 1.0], "k": [0.1, 0.0, 0.2, 0.1, 0.5, 0.1, 0.7, 0.2], "v": [1.0, 1.0, -1.0, -1.0], "scale": [1.0]}
FLAT = RISING | {"q": [0.0, 0.0]}
HIGH = {"q": [4.0, 4.0], "k": [4.0] * 8, "v": [1.0, -1.0, 1.0, -1.0], "scale": [1.0]}

# certificate, sizes, inputs, u, eps, and how near to the bound the adversary comes at least
CASES = [
    ("attention-online", M | {"m": 1, "bk": 1}, FLAT, 2.0**-10, 0.0, 0.98),  # one key: every rounding of l, o and o/l
    ("attention-online", M | {"tk": 1, "bk": 4}, FLAT, 2.0**-10, 0.0, 0.2),  # a merge for each key
    ("attention-online", M, FLAT, 0.0, 2.0**-10, 0.8),  # exps alone
    ("attention-online", M, HIGH, 2.0**-12, 0.0, 0.45),  # scores, nearly alone
    ("attention-online", M, RISING, 2.0**-10, 2.0**-9, 0.45),
    ("attention-online", M | {"m": 3}, RISING, 2.0**-10, 2.0**-9, 0.45),
    ("attention-rows", M, RISING, 2.0**-10, 2.0**-9, 0.45),
    ("attention-rows", M | {"m": 1}, FLAT, 2.0**-10, 0.0, 0.75),
    ("attention-cuda-online", CUDA, RISING, 2.0**-10, 2.0**-9, 0.45),
    ("attention-cuda-split", SPLIT, RISING, 2.0**-10, 2.0**-9, 0.5),
    ("causal-online", M, RISING, 2.0**-10, 2.0**-9, 0.35),
]


def cut(inputs: dict[str, list[float]], m: int) -> dict[str, list[float]]:
    return inputs | {"k": inputs["k"][: 2 * m], "v": inputs["v"][:m]}


@pytest.mark.parametrize(("name", "sizes", "inputs", "u", "eps", "least"), CASES)
def test_an_adversary_stays_within_the_bound_and_comes_near(
    name: str, sizes: dict[str, int], inputs: dict[str, list[float]], u: float, eps: float, least: float
) -> None:
    c, inputs = certificate(name), cut(inputs, sizes["m"])
    assert least <= worst(c, sizes, inputs, u, eps) / stated(bound(name), sizes, inputs, u, eps) <= 1


def less(count: str, by: int, of: Bound) -> Bound:
    """The bound with one of its counts made smaller."""
    growth = of.near.growth
    (mean,) = growth.means
    (shift,) = mean.shifts
    match count:
        case "rounds":
            growth = replace(growth, rounds=Add(growth.rounds, Int(-by)))
        case "exps":
            growth = replace(growth, means=(replace(mean, exps=Add(mean.exps, Int(-by))),))
        case "score":
            fewer = replace(shift.growth, rounds=Add(shift.growth.rounds, Int(-by)))
            growth = replace(growth, means=(replace(mean, shifts=(replace(shift, growth=fewer),)),))
    return replace(of, near=replace(of.near, growth=growth))


@pytest.mark.parametrize(("count", "by", "case"), [("rounds", 1, 0), ("exps", 1, 2), ("score", 4, 3)])
def test_a_bound_with_a_smaller_count_is_broken_by_the_adversary(count: str, by: int, case: int) -> None:
    name, sizes, inputs, u, eps, _ = CASES[case]
    inputs = cut(inputs, sizes["m"])
    smaller = less(count, by, bound(name))
    assert worst(certificate(name), sizes, inputs, u, eps) > stated(smaller, sizes, inputs, u, eps)


# --- other programs ---------------------------------------------------------------------------------------

n = Size("n")
X, Y = In("x", n), In("y", n)


def term_bound(
    t: Term, inputs: dict[str, list[float]], u: float = 2.0**-10, eps: float = 2.0**-9
) -> tuple[float, float]:
    """The adversary's greatest error and the bound, of a scalar program of vectors x and y of 3."""
    sizes = {"n": 3}
    (exact,) = evaluate(t, Numbers(sizes, inputs))[1]
    most = 0.0
    for seed in range(200):
        signs = [random.Random(seed * 1000 + k).choice((-1.0, 1.0)) for k in range(40)]
        (found,) = evaluate(t, Adversary(sizes, inputs, u, eps, signs))[1]
        most = max(most, abs(found - exact))
    return most, stated(bound_of(t, []), sizes, inputs, u, eps)


def over(element: Term, monoid: str = "add") -> Term:
    return Fold(monoid, n, element)


x_k, y_k = Psi(X, Var(0)), Psi(Y, Var(0))
DATA = {"x": [0.5, -1.25, 2.0], "y": [1.0, 0.25, -0.75]}
PROGRAMS = {
    "a sum": over(x_k),
    "a dot product": over(F("mul", x_k, y_k)),
    "a third": F("mul", Real(1, 3), over(x_k)),
    "a mean": F("div", over(x_k), Term("cast", None, (n,))),
    "a maximum of sums": F("max", over(x_k), F("sub", over(y_k), Real(1, 7))),
    "the greatest product": F("add", Real(0), over(F("mul", x_k, y_k), "max")),
    "the exponential of a difference": F("exp", F("sub", over(F("mul", x_k, y_k)), over(F("mul", x_k, x_k)))),
    "over a root": F("div", over(x_k), F("sqrt", Term("cast", None, (n,)))),
    "one or the other": Term("where", None, (Lt(n, Int(3)), over(x_k), F("neg", over(y_k)))),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_programs_that_are_no_attention(what: str) -> None:
    worst_found, limit = term_bound(PROGRAMS[what], DATA)
    assert 0 < worst_found <= limit < 60 * worst_found


def test_the_exponential_itself_must_not_overflow() -> None:
    """e^89 is infinite in float32; divided by 1024 it is not, and still it was computed."""
    t = F("div", F("exp", over(x_k)), Real(1024))
    near, value = bound_of(t, []).near, Numbers({"n": 1}, {"x": [89.0]})
    single = Arithmetic(
        "float32", Fraction(1, 2**24), Fraction(5, 2**24), Fraction(1, 2**125), Fraction(2) ** 128 - 2**104
    )
    kind = Exact(lambda u: Fraction(meaning(u, (), (), (), value)))
    with pytest.raises(NotCovered, match="could overflow"):
        Evaluation(single, {"n": 1}, kind).bound(near)


def test_a_weight_above_the_others_loses_more() -> None:
    """A score that is none of the sum's: p = e^6, and what l may lose counts as often."""
    scores = over(x_k, "max")
    low = over(F("exp", F("sub", x_k, up(scores))))
    t = F("div", F("exp", F("sub", over(y_k), scores)), low)
    near = bound_of(t, []).near
    assert near.by.name == "softmax"
    inputs = {"x": [0.0, -20.0, -20.0], "y": [2.0, 2.0, 2.0]}
    value = Numbers({"n": 3}, inputs)
    coarse = Arithmetic("coarse", Fraction(1, 2**19), Fraction(0), Fraction(1, 2**20), Fraction(2) ** 23)
    stated_there = Evaluation(coarse, {"n": 3}, Exact(lambda u: Fraction(meaning(u, (), (), (), value)))).bound(near)
    lost = math.exp(6) / (1 + 2 * math.exp(-20)) - math.exp(6) / (1 + 2 * math.exp(-20) + 2 * 2.0**-20)
    assert lost < stated_there


def test_a_product_of_two_minima_is_no_count() -> None:
    """min(n, m - 7) twice: at n = 3, m = 0 that is 49 elements, and min(n, m) squared is none."""
    least = Min(n, Add(Size("m"), Int(-7)))
    with pytest.raises(Unknown, match="a product of what may be negative"):
        bound_of(Fold("add", Mul(least, least), Psi(X, Int(0))), [])
    assert bound_of(Fold("add", least, Psi(X, Int(0))), []).near.by.name == "sum"


def test_an_index_that_may_be_negative_has_a_size() -> None:
    t = Term("cast", None, (Add(n, Int(-5)),))
    near = bound_of(F("sqrt", Term("cast", None, (n,))), []).near
    assert near.positive
    assert not bound_of(t, []).near.positive
    assert meaning(bound_of(t, []).near.size, (), (), (), Numbers({"n": 2}, {})) == 3


@pytest.mark.parametrize(
    ("t", "why"),
    [
        (over(x_k, "mul"), "no lemma for fold mul"),
        (F("sqrt", over(x_k)), "no lemma for f sqrt of such arguments"),
        (F("sqrt", over(F("mul", x_k, x_k))), "no lemma for f sqrt of such arguments"),  # the squares may underflow
        (F("div", Real(1), over(x_k)), "a divisor with an error that is not relative"),
        (F("div", Real(1), F("exp", over(x_k))), "a divisor with an error that is not relative"),
    ],
)
def test_what_no_lemma_covers(t: Term, why: str) -> None:
    with pytest.raises(Unknown, match=why):
        bound_of(t, [])


# --- what it comes to -------------------------------------------------------------------------------------

DOUBLE = Arithmetic("float64", Fraction(1, 2**53), Fraction(2, 2**53), Fraction(1, 2**1021), Fraction(2) ** 1023)


def ones(size: Fraction) -> Exact:
    return Exact(lambda t: size)


def test_first_order_of_attention_online() -> None:
    """V ((2 + 2 tk + 4 bk) u + (1 + bk) eps + (dk + 5) u S), V = S = 1."""
    sizes = M | {"m": 4096, "tk": 64, "bk": 64, "dk": 64}
    found = Evaluation(DOUBLE, sizes, ones(Fraction(1))).bound(bound("attention-online").near)
    first = DOUBLE.u * (2 + 2 * 64 + 4 * 64) + 65 * DOUBLE.eps + 69 * DOUBLE.u
    assert first < found < first * Fraction(1001, 1000)
    slack = Evaluation(DOUBLE, sizes, ones(Fraction(1)), Slack(score=3, rounds=5, exps=7))
    more = slack.bound(bound("attention-online").near) - found
    assert abs(more / (8 * DOUBLE.u + 7 * DOUBLE.eps) - 1) < Fraction(1, 1000)


def test_scores_never_cost_more_than_twice_the_values() -> None:
    def value(t: Term) -> Fraction:
        return Fraction(10**300) if t is S else Fraction(1)

    near = bound("attention-online").near
    S = near.growth.means[0].shifts[0].size
    assert 2 < Evaluation(DOUBLE, M, Exact(value)).bound(near) < 2 + Fraction(1, 2**40)


def test_what_underflows_is_an_additive_term() -> None:
    near = bound("attention-online").near
    found = Evaluation(DOUBLE, M, Exact(lambda t: Fraction(t is UNIT))).bound(near)
    assert 0 < found < 1000 * DOUBLE.tiny


def test_outside_of_the_domain_nothing_is_said() -> None:
    near = bound("attention-online").near
    with pytest.raises(NotCovered, match="could overflow in float64"):
        Evaluation(DOUBLE, M, ones(DOUBLE.largest / 4)).bound(near)
    Evaluation(DOUBLE, M, ones(DOUBLE.largest / 200)).bound(near)
    single = Arithmetic("float32", Fraction(1, 2**24), Fraction(2, 2**24), Fraction(1, 2**125), Fraction(2) ** 127)
    with pytest.raises(NotCovered, match=r"roundings and 0 exps in float32 are too many"):
        Evaluation(single, M | {"m": 2**22, "tk": 2**22}, ones(Fraction(1))).bound(near)
    for coarse in ({"tiny": Fraction(1, 2**120)}, {"u": Fraction(1, 4)}, {"eps": Fraction(1, 4)}):
        with pytest.raises(NotCovered, match="too coarse for the lemmas, or underflows too early"):
            Evaluation(replace(single, **coarse), M, ones(Fraction(1)))
    e = bound_of(PROGRAMS["the exponential of a difference"], []).near
    with pytest.raises(NotCovered, match="the error of an exponent is above 1/2"):
        Evaluation(DOUBLE, {"n": 3}, ones(Fraction(2) ** 60)).bound(e)
