"""False steps that only one condition of a judge stands against; both judges refuse each, and accept its true twin."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import ModuleType

import pytest

from moaproof.errors import MoaproofError
from moaproof.kernel.defined import Position
from moaproof.kernel.step import Checker
from moaproof.standalone import __main__ as alone
from moaproof.term import (
    AXES,
    ONE,
    TRUE,
    ZERO,
    Add,
    Build,
    Div,
    F,
    Fold,
    In,
    Int,
    Le,
    Let,
    Lt,
    Mul,
    Psi,
    Real,
    Size,
    Sub,
    Term,
    Var,
    tile_extent,
)

n, b, t, c, u = map(Size, "nbtcu")
TILINGS = (
    *(Lt(ZERO, t), Le(n, Mul(b, t)), Lt(Mul(Sub(b, ONE), t), n)),
    *(Lt(ZERO, u), Le(n, Mul(c, u)), Lt(Mul(Sub(c, ONE), u), n)),
)
E, TILE = In("e", n), Var(1)


def tiles(monoid: str, count: Term, tile: Term, element: Term, inner: str | None = None, guard: Term = TRUE) -> Term:
    """A fold over tiles of a fold over rows; the element is of the tile (Var 1) and the row (Var 0)."""
    rows = Fold(inner or monoid, tile_extent(n, tile, Var(0)), element, guard)
    return Fold(monoid, count, rows)


def at(tile: Term) -> Term:
    return Psi(E, Add(Mul(TILE, tile), Var(0)))


def real(t_: Term) -> Term:
    """So that a maximum is a value, and one of nothing owes nothing."""
    return F("max", In("x"), t_)


def cast(i: Term) -> Term:
    return Term("cast", None, (i,))


STEPS: dict[str, tuple[Term, Term, Term | None]] = {  # a term, what it is not, what it is
    "an element that knows its tile": (
        tiles("add", b, t, cast(TILE)),
        tiles("add", c, u, cast(TILE)),
        F("mul", F("add", tiles("add", b, t, cast(TILE)), tiles("add", b, t, cast(TILE))), Term("real", ("1", "2"))),
    ),
    "a maximum that knows its tile": (real(tiles("max", b, t, cast(TILE))), real(tiles("max", c, u, cast(TILE))), None),
    "a guard that knows its tile": (
        tiles("add", b, t, at(t), guard=Lt(ZERO, TILE)),
        tiles("add", c, u, at(u), guard=Lt(ZERO, TILE)),
        None,
    ),
    "one tiling for another": (tiles("add", b, t, at(t)), tiles("add", b, t, at(u)), tiles("add", c, u, at(u))),
    "a product of sums": (tiles("mul", b, t, at(t), "add"), Fold("mul", n, Psi(E, Var(0))), None),
    "a sum of products": (tiles("add", b, t, at(t), "mul"), Fold("add", n, Psi(E, Var(0))), None),
    "a maximum of sums": (
        real(tiles("max", b, t, at(t), "add")),
        real(Fold("max", n, Psi(E, Var(0)))),
        real(Fold("max", b, Fold("add", tile_extent(n, t, Var(0)), F("add", at(t), Term("real", ("0", "1")))))),
    ),
    "products over tiles": (tiles("mul", b, t, at(t)), Fold("mul", n, Psi(E, ZERO)), Fold("mul", n, Psi(E, Var(0)))),
}


def total(element: Term) -> Term:
    return Fold("add", n, element)


def tower() -> Term:
    """e to the e to the element: what varies stands in an exponent of an exponent."""
    return F("exp", F("exp", Psi(E, Var(0))))


W = Psi(In("w", n), Var(0))
ONCE = Term("real", ("1", "1"))
STEPS["what varies two exponents up"] = (
    F("mul", total(ONCE), total(F("mul", tower(), W))),
    F("mul", total(tower()), total(W)),
    F("mul", total(F("mul", W, tower())), total(ONCE)),
)

ROOT = F("sqrt", F("exp", In("x")))
STEPS["a root over itself"] = (F("div", ROOT, ROOT), F("div", ONCE, ROOT), F("mul", F("div", ONCE, ROOT), ROOT))
STEPS["a root that is cancelled"] = (F("div", F("mul", In("x"), ROOT), ROOT), In("x"), None)


def kernel(old: Term, new: Term) -> str:
    try:
        checker = Checker(TILINGS)
        checker.check_defined(old)
        return checker.judge(old, (), old, new, Position((), TILINGS)).kind
    except MoaproofError:
        return "refused"


@pytest.mark.parametrize("name", STEPS)
def test_each_judge_refuses_the_false_step_and_accepts_the_true_one(name: str, twin: ModuleType) -> None:
    old, wrong, right = STEPS[name]
    here = Position((), TILINGS)
    assert twin.of_term(TILINGS, old) == "defined"
    for one, other in ((old, wrong), (wrong, old)):
        assert kernel(one, other) == twin.of_step(one, other, here) == "refused"
    assert kernel(old, old) == twin.of_step(old, old, here) == "I"
    if right is not None:
        assert kernel(old, right) == twin.of_step(old, right, here) == "R"


def test_a_state_whose_maximum_is_of_maxima_of_nothing(twin: ModuleType) -> None:
    """m is the maximum over k of maxima over j < c: of nothing at c = 0, beside a weight that is not 0."""
    m = Fold("max", n, Fold("max", c, Psi(In("a", n, c), Var(1), Var(0))))
    weights = total(F("exp", Psi(E, Var(0))))
    t_ = Term("quotient", None, (Term("state", None, (m, weights, weights)),))
    for facts, found in (((), "refused"), ((Lt(ZERO, c),), "defined")):
        assert twin.of_term(facts, t_) == found
        try:
            Checker(facts).check_defined(t_)
        except MoaproofError:
            assert found == "refused"
        else:
            assert found == "defined"


@pytest.mark.parametrize("code", [alone.REFUTED, alone.UNPROVED, alone.TAMPERED])
def test_a_fault_of_a_witness_is_no_answer_about_a_choice(code: int) -> None:
    """A test that is no integer question is not held, and the two differ; any other refusal stays what it is."""
    x, y = (alone.make("in", (name, "real")) for name in "xy")
    test = alone.less(alone.size("n"), alone.size("c"))

    def refuse(why: int) -> None:
        def holds(*_: object) -> bool:
            raise alone.Refusal(why, "a test")

        alone.Bits(holds).same(x, alone.where(test, x, y), alone.Place(()))

    with pytest.raises(alone.Refusal) as refusal:
        refuse(code)
    assert refusal.value.args == (code, "a test")
    with pytest.raises(alone.Different):
        refuse(alone.MALFORMED)


# --- what an operator's argument owes -----------------------------------------------------------------


def over(index: Term) -> Term:
    """An array that reads ``e`` at an index of its own."""
    return Build(n, Psi(E, index))


OPERATORS = {
    "transpose": lambda a: Term("transpose", (0,), (a,)),
    "reshape": lambda a: Term("reshape", None, (a, n)),
    "ravel": lambda a: Term("ravel", None, (a,)),
    "take": lambda a: Term("take", (1,), (a, n)),
    "drop": lambda a: Term("drop", (1,), (a, ZERO)),
    "cat": lambda a: Term("cat", None, (E, a)),
    "reverse": lambda a: Term("reverse", None, (a,)),
    "rotate": lambda a: Term("rotate", None, (a, ZERO)),
    "lift": lambda a: Term("lift", 0, (a, n, ONE)),
    "broadcast": lambda a: Term("broadcast", None, (a, c, n)),
    "map": lambda a: Term("map", "exp", (a,)),
    "pointwise": lambda a: Term("pointwise", "add", (E, a)),
    "outer": lambda a: Term("outer", "mul", (In("x"), a)),
    "omega": lambda a: Term("omega", (1,), (a, Fold("add", n, Psi(Var(1), Var(0))))),
    "omega of scalars": lambda a: Term("omega", (0,), (a, F("neg", Var(0)))),
    "reduce": lambda a: Term("reduce", ("add", 0), (a,)),
    "inner": lambda a: Term("inner", ("add", "mul"), (E, a)),
    "a let": lambda a: Let(a, In("x")),
    "a build": lambda a: Build(n, Psi(a, Var(0))),
    "a fold": lambda a: Fold("add", n, Psi(a, Var(0))),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operators_argument_owes_what_is_read_of_it(name: str, twin: ModuleType) -> None:
    for index, found in ((Var(0), "defined"), (Sub(Sub(n, ONE), Var(0)), "defined"), (Add(Var(0), ONE), "refused")):
        t_ = OPERATORS[name](over(index))
        assert twin.of_term((Lt(ZERO, n),), t_) == found
        try:
            Checker((Lt(ZERO, n),)).check_defined(t_)
        except MoaproofError:
            assert found == "refused"
        else:
            assert found == "defined"


# --- shapes and counts -------------------------------------------------------------------------------

X = In("x")
BEYOND = Psi(Build(Int(2), ZERO), Int(7))
LOST = Term("tau", None, (Build(Psi(Term("iota", None, (ZERO,)), ONE), X),))
ALONE: dict[str, tuple[tuple[Term, ...], Term, str]] = {  # facts, a term, what it is
    "a ragged array": ((), Build(n, Build(Var(0), X)), "refused"),
    "a ragged array of sums": ((), Build(n, Fold("add", Var(0), X)), "defined"),
    "a reshape to fewer": ((Lt(ZERO, n),), Term("reshape", None, (E, ONE)), "refused"),
    "a lift to fewer": ((Lt(ZERO, n),), Term("lift", 0, (E, ONE, ONE)), "refused"),
    "a count of a quotient by what may be 0": (
        (),
        Fold("add", Term("tau", None, (Build(Div(n, c), X),)), X),
        "refused",
    ),
    "a count of a quotient by 0, times 0": (
        (),
        Fold("add", Add(ONE, Mul(ZERO, Term("tau", None, (Build(Div(ONE, ZERO), X),)))), X),
        "refused",
    ),
    "a count of a quotient": ((Lt(ZERO, c),), Fold("add", Div(n, c), X), "defined"),
    "a count by 1/0": ((), Psi(Term("reshape", None, (X, Let(F("div", Real(1), Real(0)), ONE))), ZERO), "refused"),
    "a count out of range": ((), Term("take", (1,), (E, Psi(Build(ZERO, n), Int(7)))), "refused"),
    "an extent that has no cell": ((), Psi(Term("broadcast", None, (X, LOST)), ZERO), "refused"),
    "an extent under facts that cannot hold": ((), Term("cat", None, (Build(BEYOND, X), Build(Int(2), X))), "refused"),
    "an extent of an axis that is summed": ((), Term("reduce", ("add", 0), (Build(BEYOND, X),)), "refused"),
    "an extent under a sum of nothing": ((), Psi(Fold("add", ZERO, Build(Psi(Build(Int(2), ONE), Int(7)), X)), ZERO),
                                         "refused"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_shapes_and_counts(name: str, twin: ModuleType) -> None:
    facts, t_, found = ALONE[name]
    assert twin.of_term(facts, t_) == found
    try:
        Checker(facts).check_defined(t_)
    except MoaproofError:
        assert found == "refused"
    else:
        assert found == "defined"


STATES = Build(n, Term("state", None, (Psi(E, Var(0)), Real(1), Build(c, Psi(In("A", n, c), Var(1), Var(0))))))
TILED = Build(tile_extent(n, t, Var(0)), Psi(STATES, Add(Mul(Var(1), t), Var(0)), ZERO))


def quotient(state: Term) -> Term:
    return Term("quotient", None, (state,))


ARRAYS_OF_STATES: dict[str, tuple[Term, str]] = {
    "kept and merged": (Let(STATES, Build(c, quotient(Fold("softmax", n, Psi(Var(2), Var(0), Var(1)))))), "defined"),
    "transposed": (quotient(Term("transpose", (1, 0), (STATES,))), "defined"),
    "in tiles": (quotient(Term("tiles", "grid", (n, b, t, TILED))), "defined"),
    "one after the other": (quotient(Term("cat", None, (STATES, STATES))), "defined"),
    "an omega of rows": (Term("omega", (1,), (STATES, quotient(Var(0)))), "defined"),
    "an omega of cells": (Term("omega", (0,), (STATES, quotient(Var(0)))), "defined"),
    "without a column": (quotient(Psi(STATES, ZERO)), "refused"),
    "without a row": (Let(STATES, Build(n, quotient(Psi(Var(1), Var(0))))), "refused"),
    "with an index more": (quotient(Psi(STATES, ZERO, ZERO, ZERO)), "refused"),
    "column by row": (Build(n, Build(c, quotient(Psi(STATES, Var(0), Var(1))))), "refused"),
    "by offset": (quotient(Term("flat", None, (STATES, ZERO))), "refused"),
    "in another shape": (quotient(Term("reshape", None, (STATES, c, n))), "refused"),
    "in full tiles": (quotient(Term("tiles", "grid", (n, b, t, Build(t, Psi(STATES, ZERO, ZERO))))), "refused"),
    "summed": (Fold("add", n, Psi(STATES, Var(0), ZERO)), "refused"),
    "their maximum": (F("max", X, Fold("max", n, Psi(STATES, Var(0), ZERO))), "refused"),
    "under a function": (Term("map", "exp", (STATES,)), "refused"),
    "as the maximum of a state": (quotient(Term("state", None, (Psi(STATES, ZERO, ZERO), X, X))), "refused"),
    "as the value of a state": (quotient(Term("state", None, (X, Real(1), STATES))), "refused"),
    "merged as reals": (quotient(Fold("softmax", n, Psi(quotient(STATES), Var(0), ZERO))), "refused"),
    "beside a real": (Term("where", None, (Lt(n, c), Psi(STATES, ZERO, ZERO), X)), "refused"),
    "as a result": (Psi(STATES, ZERO, ZERO), "defined"),
}


@pytest.mark.parametrize("name", ARRAYS_OF_STATES)
def test_arrays_of_states(name: str, twin: ModuleType) -> None:
    t_, found = ARRAYS_OF_STATES[name]
    facts = (*TILINGS, Lt(ZERO, n), Lt(ZERO, c))
    assert twin.of_term(facts, t_) == found
    if found == "defined":
        Checker(facts).check_defined(t_)
    else:
        with pytest.raises(MoaproofError):
            Checker(facts).check_defined(t_)


def test_an_axis_is_of_the_machine_or_of_none() -> None:
    extent, element = alone.size("n"), alone.make("in", ("x", "real"))
    for axis in AXES:
        assert alone.admit("build", axis, (extent, element)).data == axis
    for other in ("block", "warp", "Grid", "", None, 0, ("grid",)):
        with pytest.raises(alone.Refusal):
            alone.admit("build", other, (extent, element))


def test_an_array_of_states_is_no_specification() -> None:
    with pytest.raises(alone.Refusal, match="an array of reals is due"):
        alone.Judge((), {}).whole(alone.admit("state", None, (alone.make("in", ("x", "real")),) * 3))


def test_what_the_kernel_calls_ill_typed_has_no_kind(twin: ModuleType) -> None:
    """The kernel's own list of what has no sort or shape.  But an extent is a meaning here, so a let may name it."""
    path = Path(__file__).parents[1] / "kernel" / "test_operators.py"
    listed = runpy.run_path(str(path))["ILL_TYPED"]
    assert len(listed) > 60
    accepted = [name for name, t_ in listed.items() if twin.of_term((), t_) != "refused"]
    assert accepted == ["a let whose shape mentions its variable"]


def test_an_extent_is_arithmetic_to_the_second_writing(twin: ModuleType) -> None:
    """What it does not cover it does not prove: the kernel knows that this extent is n."""
    t_ = Fold("add", Term("tau", None, (Build(n, X),)), X)
    Checker(()).check_defined(t_)
    assert twin.of_term((), t_) == "refused"


def test_an_array_may_not_become_one_of_another_shape(twin: ModuleType) -> None:
    for one, other in ((Build(n, X), Build(c, X)), (Build(n, X), X), (Build(n, X), Build(n, Build(ONE, X)))):
        assert kernel(one, other) == kernel(other, one) == "refused"
        for old, new in ((one, other), (other, one)):
            assert twin.of_step(old, new, Position((), TILINGS)) == "refused"
