"""The replay judge on real certificates, and on certificates that lie."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from moaproof.rewrite_rules import lookup

from moaproof.errors import (
    CertificateInvalid,
    DigestMismatch,
    JudgesDisagree,
    MoaproofError,
    Refuted,
    RuleDoesNotApply,
    Unknown,
)
from moaproof.kernel import bits, checker
from moaproof.kernel.bits import Deciders
from moaproof.kernel.certificate import Certificate, Step, Tiling, parse
from moaproof.kernel.checker import apply, facts_of, is_dnf, replay, tiling_facts, vacuous
from moaproof.kernel.points import draw_sizes
from moaproof.kernel.step import Checker, locate
from moaproof.semantics import Fields, Numbers, meaning
from moaproof.term import (
    ONE,
    TRUE,
    ZERO,
    Add,
    Build,
    Div,
    F,
    Flat,
    Fold,
    In,
    Int,
    Le,
    Let,
    Lt,
    Mul,
    Not,
    Psi,
    Real,
    Size,
    Sub,
    Term,
    Var,
    Where,
    replace_at,
    subterms,
)

n, m = Size("n"), Size("m")
x, y, V = In("x"), In("y"), In("V", n)
k = Var(0)
Make = Callable[..., Certificate]


def run(c: Certificate) -> Any:
    """From bytes, as a reviewer does."""
    return replay(parse(c.to_bytes()), lookup)


def test_real_certificates_replay(by_rows: Certificate, by_states: Certificate) -> None:
    rows, states = run(by_rows), run(by_states)
    assert rows.classes()["R"] == 0 < rows.classes()["I"]
    assert states.classes()["R"] > 0
    for report in (rows, states):
        assert report.z3.substantive > 0
        assert report.sympy.substantive > 0
        assert sum(report.classes().values()) == len(report.steps)
    assert rows.spec == by_rows.spec.digest


@pytest.mark.parametrize("engine", ["z3", "sympy"])
def test_no_certificate_passes_without_an_engine(
    engine: str, by_rows: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, engine, None)
    with pytest.raises(MoaproofError, match="pip install"):
        run(by_rows)


# --- the chain -----------------------------------------------------------------------------------------


def test_a_step_left_out_repeated_or_moved_is_noticed(by_rows: Certificate) -> None:
    steps = by_rows.steps
    for at in (0, 9, len(steps) - 1):
        for changed in (
            steps[:at] + steps[at + 1 :],
            (*steps[: at + 1], *steps[at:]),
            (*steps[:at], *reversed(steps[at : at + 2]), *steps[at + 2 :]),
        ):
            if changed != steps:
                with pytest.raises(DigestMismatch):
                    run(dataclasses.replace(by_rows, steps=changed))


def refused(judge: Checker, step: Step, term: Term) -> bool:
    try:
        apply(judge, step, term, lookup)
    except MoaproofError:
        return True
    return False


def test_each_mutated_step_is_refused(by_states: Certificate, deciders: Deciders) -> None:
    """Another path, law, direction, parameter or choice: refused, never a crash."""
    judge = Checker(facts_of(by_states), deciders)
    term = by_states.spec
    for s in by_states.steps:
        restated = {"params": (), "choose": (), "rule": "lie", "backwards": False, "restated": True}
        mutants = [
            dataclasses.replace(s, path=(*s.path, 19)),
            dataclasses.replace(s, rule="let" if s.rule != "let" else "gamma"),
            dataclasses.replace(s, rule="no-such-law"),
            dataclasses.replace(s, params=(*s.params, 3)),
            dataclasses.replace(s, before="0" * 64),
            dataclasses.replace(s, choose=(*s.choose, ("zz", 0, ZERO))),
            dataclasses.replace(s, **restated, after=Var(9)),
            dataclasses.replace(s, **restated, after=In("other")),
            dataclasses.replace(s, **restated, after=Psi(In("q", n, n), ZERO, ZERO)),
        ]
        for number, mutant in enumerate(mutants):
            assert refused(judge, mutant, term), f"{s.rule}: mutant {number} was accepted"
        term = apply(judge, s, term, lookup).after
    assert term is by_states.onf


def test_a_class_that_is_too_strong_is_refused(by_states: Certificate) -> None:
    steps = tuple(dataclasses.replace(s, kind="I") for s in by_states.steps)
    with pytest.raises(Refuted, match="class I is expected, R was found"):
        run(dataclasses.replace(by_states, steps=steps))


OTHER_FUNCTION = {"add": "sub", "sub": "add", "mul": "div", "div": "mul", "exp": "neg", "max": "add"}
OTHER_FOLD = {"add": "mul", "mul": "add", "max": "add"}


def small_changes(t: Term) -> list[Term]:
    match t.op:
        case "var":
            return [Var(t.data + 1), Var(t.data - 1)] if t.data else [Var(1)]
        case "size":
            return [Add(t, ONE), Sub(t, ONE)]
        case "f":
            return [Term("f", OTHER_FUNCTION[t.data], t.args)]
        case "fold":
            return [Term("fold", OTHER_FOLD[t.data], t.args), Fold(t.data, t.args[0], t.args[2], Lt(ZERO, Var(0)))]
        case "iadd" | "imul":
            return [Term("imul" if t.op == "iadd" else "iadd", None, t.args)]
        case "flat":
            return [Flat(t.args[0], ZERO)]
        case "in":
            return [In("other", *t.args)]
    return []


def test_every_small_change_of_the_onf_is_refused(by_rows: Certificate, deciders: Deciders) -> None:
    """The last term with one node changed.  A softmax may be shifted by anything: a changed shift is class R."""
    onf = by_rows.onf
    judge = Checker(facts_of(by_rows), deciders)
    _, here = locate(onf, (), judge.facts)
    shift = next(p for p, t in positions(onf) if t.op == "fold" and t.data == "max")
    refused, tried, rng = 0, set(), random.Random(0)
    for path, old in positions(onf):
        for other in small_changes(old):
            changed = replace_at(onf, path, other)
            if changed in tried or rng.random() < 0.6:
                continue
            tried.add(changed)
            try:
                judge.check_defined(changed)
                kind = judge.judge(onf, (), onf, changed, here).kind
            except MoaproofError:
                refused += 1
            else:
                assert (kind, path[: len(shift)]) == ("R", shift)
    assert refused > 60


def positions(t: Term, path: tuple[int, ...] = ()) -> Any:
    yield path, t
    for number, a in enumerate(t.args):
        yield from positions(a, (*path, number))


def test_the_chain_must_pass_the_dnf_and_end_at_the_onf(by_rows: Certificate) -> None:
    with pytest.raises(MoaproofError, match="before the DNF"):
        run(dataclasses.replace(by_rows, dnf=by_rows.onf))
    with pytest.raises(DigestMismatch, match="does not pass"):
        run(dataclasses.replace(by_rows, dnf=by_rows.spec))
    with pytest.raises(DigestMismatch, match="ends at another"):
        run(dataclasses.replace(by_rows, onf=by_rows.dnf))
    with pytest.raises(DigestMismatch):
        run(dataclasses.replace(by_rows, steps=()))


def test_nothing_but_psi_reduction_comes_before_the_dnf(restated: Make) -> None:
    spec = Build(n, F("add", Psi(V, k), Real(0)))
    dnf = Build(n, Psi(V, k))
    c = restated(spec, dnf, {"n": 2}, inputs=(V,))
    with pytest.raises(Refuted, match="psi-reduction is class I only"):
        run(dataclasses.replace(c, dnf=dnf))
    assert run(c).classes()["R"] == 1
    lets = Build(n, Let(Psi(V, k), Var(0)))
    with pytest.raises(MoaproofError):
        run(dataclasses.replace(restated(dnf, lets, {"n": 2}, inputs=(V,)), dnf=lets))


@pytest.mark.parametrize(
    ("term", "normal"),
    [
        (Build(n, Psi(V, k)), True),
        (Fold("add", n, Psi(V, k)), True),
        (x, True),
        (Build(n, Let(x, Var(0))), False),
        (Psi(Build(n, Psi(V, k)), ZERO), False),
        (Term("reverse", None, (V,)), False),
        (Build(n, Psi(Term("reverse", None, (V,)), k)), False),
    ],
)
def test_what_a_denotational_normal_form_is(term: Term, normal: bool) -> None:
    assert is_dnf(term) is normal


# --- false claims of one step -----------------------------------------------------------------------

FALSE = {
    "another value": (x, y, {}),
    "another constant": (F("mul", x, Real(2)), F("mul", x, Real(3)), {}),
    "an index that is off by one": (Build(n, Psi(V, k)), Build(n, Psi(V, Sub(Sub(n, ONE), k))), {"n": 2}),
    "a guard that is not implied": (Fold("add", n, Psi(V, k), Lt(k, m)), Fold("add", n, Psi(V, k)), {"n": 2, "m": 3}),
    "another shape": (Build(n, x), Build(m, x), {"n": 2, "m": 3}),
    "another rank": (Build(n, x), x, {"n": 2}),
    "another sort": (Fold("max", n, Psi(V, k)), Psi(V, ZERO), {"n": 2}),
    "an undefined dead let": (x, Let(Psi(V, n), x), {"n": 2}),
    "a size that is q0": (
        Fold("add", ONE, x, Lt(Size("q0"), Add(Div(n, m), Int(4)))),
        Fold("add", ONE, x),
        {"n": 3, "m": 4, "q0": 2},
    ),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_false_claim_is_refused(name: str, restated: Make) -> None:
    spec, onf, witness = FALSE[name]
    hypotheses = (Lt(ZERO, m),) if "m" in witness else ()
    with pytest.raises(MoaproofError) as caught:
        run(restated(spec, onf, witness, inputs=(x, y, V), hypotheses=hypotheses))
    assert not isinstance(caught.value, JudgesDisagree)


def test_random_points_are_a_second_look(restated: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a judge that says yes to all, the two ends are still compared."""
    monkeypatch.setattr(bits, "same_bits", lambda *_: None)
    monkeypatch.setattr("moaproof.kernel.reals.same_bits", lambda *_: None)
    with pytest.raises(JudgesDisagree, match="random point"):
        run(restated(F("add", x, y), F("mul", x, y), inputs=(x, y)))


@pytest.mark.parametrize(
    "spec",
    [
        Build(n, Term("cast", None, (Psi(V, k),))),
        Fold("add", n, n),
        Psi(V, ZERO),
        F("div", x, y),
        F("exp", Fold("max", n, x)),
    ],
)
def test_a_spec_that_is_ill_typed_or_undefined_is_refused(spec: Term, restated: Make) -> None:
    with pytest.raises((CertificateInvalid, Refuted, Unknown), match="Spec"):
        run(restated(spec, witness={"n": 2}, inputs=(x, y, V)))


@pytest.mark.parametrize(
    "spec",
    [
        n,
        TRUE,
        Fold("max", Add(n, ONE), x),
        Term("state", None, (x, Real(1), y)),
        Build(n, k),
        In("seen", n, sort="bool"),
    ],
)
def test_a_spec_is_an_array_of_reals(spec: Term, restated: Make) -> None:
    with pytest.raises(MoaproofError):
        run(
            restated(
                spec,
                witness={"n": 2} if any(u is n for u in subterms(spec)) else {},
                inputs=(x, y, In("seen", n, sort="bool"))[:3],
            )
        )


# --- hypotheses, witness, tilings, inputs -----------------------------------------------------------

SPEC = Build(n, Build(m, F("mul", Psi(V, Var(1)), Psi(In("W", m), k))))
INPUTS = (V, In("W", m))


def claim(restated: Make, **given: Any) -> Certificate:
    return restated(SPEC, **{"witness": {"n": 2, "m": 3}, "inputs": INPUTS, **given})


def test_an_honest_claim_is_accepted(restated: Make) -> None:
    assert run(claim(restated, hypotheses=(Lt(n, m),))).classes() == {"I": 0, "S": 0, "R": 0}
    assert run(claim(restated, hypotheses=(Le(n, m), Le(m, n)), witness={"n": 5, "m": 5}))
    assert run(claim(restated, hypotheses=(Lt(n, Int(2)),), witness={"n": 1, "m": 3}))


@pytest.mark.parametrize(
    ("hypotheses", "witness"),
    [
        ((Lt(n, m), Lt(m, n)), {"n": 2, "m": 3}),
        ((Lt(n, ZERO),), {"n": 2, "m": 3}),
        ((Not(TRUE),), {"n": 2, "m": 3}),
        ((Lt(n, m),), {"n": 4, "m": 3}),
        ((), {"n": 1, "m": 3}),
        ((), {"n": 0, "m": 3}),
        ((), {"n": 3, "m": 3}),
        ((), {"n": 2}),
        ((), {"n": 2, "m": 3, "z": 4}),
        ((), {}),
        ((Lt(Var(0), n),), {"n": 2, "m": 3}),
        ((n,), {"n": 2, "m": 3}),
        ((x,), {"n": 2, "m": 3}),
        ((Build(n, TRUE),), {"n": 2, "m": 3}),
        ((Build(Int(0), TRUE),), {"n": 2, "m": 3}),
        ((Psi(In("mask", n, sort="bool"), ZERO),), {"n": 2, "m": 3}),
        ((In("flag", sort="bool"),), {"n": 2, "m": 3}),
        ((Where(Lt(n, m), TRUE, TRUE),), {"n": 2, "m": 3}),
        ((Let(n, Lt(Var(0), m)),), {"n": 2, "m": 3}),
        ((Lt(ZERO, Div(n, Sub(n, n))),), {"n": 2, "m": 3}),
        ((Lt(n, Size("z")),), {"n": 2, "m": 3}),
        ((Lt(Term("tau", None, (Term("iota", None, (n,)),)), m),), {"n": 2, "m": 3}),
    ],
)
def test_hypotheses_that_say_nothing_or_nonsense(
    hypotheses: tuple[Term, ...], witness: dict[str, int], restated: Make
) -> None:
    with pytest.raises(MoaproofError):
        run(claim(restated, hypotheses=hypotheses, witness=witness))


def test_a_tower_of_operators_in_a_hypothesis_is_no_crash(restated: Make, deadline: Callable[[float], Any]) -> None:
    tower = n
    for _ in range(95):
        tower = Term("tau", None, (Term("iota", None, (tower,)),))
    with deadline(10), pytest.raises(MoaproofError):
        run(claim(restated, hypotheses=(Lt(ZERO, tower),)))


def exploding(node: str, place: str, restated: Make) -> None:
    big = n
    for _ in range(40):
        big = Term(node, None, (big, big))
    match place:
        case "hypothesis":
            run(claim(restated, hypotheses=(Lt(ZERO, big),)))
        case "extent":
            run(restated(x, inputs=(x, In("big", big)), witness={"n": 2}))
        case _:
            run(restated(Psi(Build(big, x), ZERO), inputs=(x,), witness={"n": 2}, hypotheses=(Lt(ZERO, n),)))


@pytest.mark.parametrize("node", ["iadd", "imul"])
@pytest.mark.parametrize("place", ["hypothesis", "extent", "spec"])
def test_an_index_that_explodes_is_refused_in_time(
    node: str, place: str, restated: Make, deadline: Callable[[float], Any]
) -> None:
    with deadline(10), pytest.raises(MoaproofError):
        exploding(node, place, restated)


@pytest.mark.parametrize(
    "tiling",
    [
        Tiling("n", "n", "b"),
        Tiling("n", "t", "m"),
        Tiling("n", "t", "t"),
        Tiling("z", "t", "b"),
        Tiling("t", "t", "b"),
        Tiling("n", "m", "b"),
        Tiling("t2", "t", "b"),
        Tiling("n", "t*m", "b"),
        Tiling("n", "n*t", "b"),
        Tiling("n", "t*b", "b"),
        Tiling("n", "t*t", "b"),
        Tiling("n", "a*b*c*d*e", "z"),
    ],
)
def test_a_tiling_only_defines(tiling: Tiling, restated: Make) -> None:
    named = (*tiling.factors, tiling.count, tiling.extent)
    witness = {"n": 2, "m": 3, **{name: 4 for name in named if name not in "nm"}}
    with pytest.raises(CertificateInvalid, match="tilings"):
        run(claim(restated, tilings=(tiling,), witness=witness))


WITNESS = {"n": 2, "m": 3, "t": 2, "b": 1, "u": 2, "c": 2}


def test_two_tilings_do_not_share_what_they_count(restated: Make) -> None:
    good = (Tiling("n", "t", "b"), Tiling("m", "u", "c"))
    assert run(claim(restated, tilings=good, witness=WITNESS))
    for bad in (
        (good[0], Tiling("m", "u", "b")),
        (good[0], Tiling("t", "u", "c")),
        (good[0], Tiling("b", "u", "c")),
        (good[0], Tiling("m", "u", "t")),
        (good[0], Tiling("m", "b*u", "c")),
        (Tiling("m", "b*u", "c"), good[0]),
        (good[0], good[0]),
        (good[0], Tiling("n", "u", "b")),
    ):
        for witness in (WITNESS, {k: v for k, v in WITNESS.items() if k in sizes_named(bad)}):
            with pytest.raises(CertificateInvalid, match="tilings"):
                run(claim(restated, tilings=bad, witness=witness))
    with pytest.raises(Refuted, match="witness"):
        run(claim(restated, tilings=good, witness={**WITNESS, "b": 2}))


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (Tiling("m", "u*n", "c"), r"u\*n and c must be new sizes and m one"),
        (Tiling("m", "u", "n"), "u and n must be new sizes and m one"),
        (Tiling("m", "u", "t"), "u and t must be new sizes and m one"),
        (Tiling("z", "u", "c"), "u and c must be new sizes and z one"),
    ],
)
def test_the_tiling_at_fault_is_named(fault: Tiling, named: str, restated: Make) -> None:
    good = Tiling("n", "t", "b")
    for tilings in ((good, fault), (fault, good)):
        with pytest.raises(CertificateInvalid, match=named):
            run(claim(restated, tilings=tilings, witness=WITNESS))


def sizes_named(tilings: tuple[Tiling, ...]) -> set[str]:
    return {"n", "m", *(name for t in tilings for name in (t.extent, t.count, *t.factors))}


def test_two_tilings_may_share_a_factor(restated: Make) -> None:
    """Threads are as many for the queries as for the keys; the two counts are then what they are."""
    witness = {"n": 5, "m": 7, "t": 2, "u": 3, "v": 1, "b": 1, "c": 4}
    shared = (Tiling("n", "t*u", "b"), Tiling("m", "v*t", "c"))
    assert run(claim(restated, tilings=shared, witness=witness))
    assert run(claim(restated, tilings=(Tiling("n", "t", "b"), Tiling("m", "t", "c")), witness=WITNESS_OF_ONE_TILE))
    facts = facts_of(claim(restated, tilings=shared, witness=witness))
    for wrong in ({"t": 0}, {"u": 0}, {"t": 0, "b": 0, "c": 0}, {"b": 2}, {"c": 3}, {"c": 5}, {"u": 2}, {"v": 2}):
        sizes = witness | wrong
        assert not all(meaning(f, (), (), (), Numbers(sizes, {})) for f in facts)
        with pytest.raises(Refuted, match="witness"):
            run(claim(restated, tilings=shared, witness=sizes))
    for wrong in ({"extra": 1}, {"t*u": 6}):
        with pytest.raises(CertificateInvalid, match="witness"):
            run(claim(restated, tilings=shared, witness=witness | wrong))


WITNESS_OF_ONE_TILE = {"n": 5, "m": 7, "t": 2, "b": 3, "c": 4}


@pytest.mark.parametrize("extent", range(9))
def test_there_is_a_count_for_all_factors(extent: int) -> None:
    """Whatever the launcher chooses for the factors, one count satisfies the facts, and no other."""
    facts = tiling_facts(Tiling("n", "t*u", "b"))
    for t, u in itertools.product(range(1, 4), repeat=2):
        sizes = ({"n": extent, "t": t, "u": u, "b": b} for b in range(12))
        good = [s["b"] for s in sizes if all(meaning(f, (), (), (), Numbers(s, {})) for f in facts)]
        assert good == [-(-extent // (t * u))]


def test_points_are_drawn_that_satisfy_tilings_with_shared_factors(restated: Make) -> None:
    tilings = (Tiling("n", "t*u", "b"), Tiling("m", "v*t", "c"), Tiling("m", "u", "d"))
    witness = {"n": 5, "m": 7, "t": 2, "u": 3, "v": 1, "b": 1, "c": 4, "d": 3}
    c = claim(restated, tilings=tilings, witness=witness)
    facts, rng, ragged = facts_of(c), random.Random(0), set()
    for _ in range(60):
        sizes = draw_sizes(c, rng, (1, 2, 3, 5))
        assert all(meaning(f, (), (), (), Numbers(sizes, {})) for f in facts)
        tile = sizes["t"] * sizes["u"]
        ragged |= {(sizes["n"] > tile, bool(sizes["n"] % tile)), sizes["n"] < tile}
    assert ragged == {(False, False), (False, True), (True, False), (True, True), False, True}


def test_a_hypothesis_about_a_tile_makes_it_no_definition(restated: Make) -> None:
    t = Size("t")
    with pytest.raises(CertificateInvalid, match="tilings"):
        run(
            claim(
                restated,
                tilings=(Tiling("n", "t", "b"),),
                hypotheses=(Lt(t, Int(2)),),
                witness={"n": 2, "m": 3, "t": 1, "b": 2},
            )
        )


def test_sizes_without_a_meaning(restated: Make) -> None:
    with pytest.raises(CertificateInvalid, match="without a meaning"):
        run(restated(Build(n, x), Build(Add(n, Mul(ZERO, Size("z"))), x), {"n": 2}, inputs=(x,)))


@pytest.mark.parametrize(
    "inputs",
    [
        (V,),
        (V, V),
        (V, In("V", m)),
        (V, In("W", n)),
        (V, In("W", m, sort="bool")),
        (V, In("W", m), n),
        (V, In("W", m), In("n")),
        (V, In("W", m), In("Z", In("Y"))),
        (V, In("W", m), In("Z", Div(n, m))),
        (V, In("W", m), In("Z", Psi(V, ZERO))),
        (V, In("W", m), In("Z", x)),
        (V, In("W", m), In("Z", TRUE)),
        (V, In("W", Add(m, ZERO))),
    ],
)
def test_inputs_that_do_not_fit(inputs: tuple[Term, ...], restated: Make) -> None:
    with pytest.raises(MoaproofError):
        run(claim(restated, inputs=inputs))


@pytest.mark.parametrize("extent", [Int(2**53 - 1), Mul(Int(10**8), n), Int(-(10**9))])
def test_huge_extents_do_not_hang(extent: Term, restated: Make, deadline: Callable[[float], Any]) -> None:
    big = In("big", extent)
    for spec in (x, Fold("add", extent, x), Psi(Build(extent, x), ZERO)):
        with deadline(3):
            try:
                run(
                    restated(
                        spec,
                        witness={"n": 2} if extent.op == "imul" else {},
                        inputs=(x, big),
                        hypotheses=(Lt(ZERO, n),) if extent.op == "imul" else (),
                    )
                )
            except MoaproofError:
                continue


@pytest.mark.parametrize("outer", [Fold, Build])
def test_the_work_of_nested_loops_is_limited_as_a_whole(
    outer: Callable[..., Term], restated: Make, deadline: Callable[[float], Any]
) -> None:
    many = Int(10**6)
    inner = Fold("add", many, x)
    spec = Fold("add", many, inner) if outer is Fold else Build(many, inner)
    with deadline(5), pytest.raises(MoaproofError):
        run(restated(spec, inputs=(x,)))


@pytest.mark.parametrize("denominator", [Fields.P, Fields.Q, 7 * Fields.P])
def test_constants_that_the_fields_do_not_have(denominator: int, restated: Make) -> None:
    """A program may divide by 1000003.  Mod p such a constant has no value, so nothing is concluded; it is no crash."""
    falling = F("neg", F("mul", x, x))
    spec = F("mul", Real(1, denominator), F("exp", F("mul", falling, Real(1, 3))))
    c = restated(spec, F("mul", F("exp", F("mul", Real(1, 3), falling)), Real(1, denominator)), inputs=(x,))
    if denominator % Fields.P:
        assert run(c).classes()["R"] == 1
    else:
        with pytest.raises(Unknown, match="no point of the fields"):
            run(c)


def test_fair_witnesses(by_rows: Certificate, deciders: Deciders) -> None:
    assert vacuous(by_rows, deciders) == []
    poor = dataclasses.replace(by_rows, witness={**by_rows.witness, "dk": by_rows.witness["dv"]})
    assert vacuous(poor, deciders) == ["dv = dk"]
    assert checker.sizes_of([by_rows.spec]) == {"n", "m", "dk", "dv"}


def test_a_rule_that_does_not_exist_is_refused(restated: Make) -> None:
    c = restated(x, inputs=(x,))
    with pytest.raises(RuleDoesNotApply, match="step 0"):
        run(dataclasses.replace(c, steps=(Step((), x.digest, "I", "none", x),)))
