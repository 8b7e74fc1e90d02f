"""Sorts, shapes and definitions: what is ill-typed is refused, and each operator is what NumPy says it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from moaproof.errors import IllFormed
from moaproof.operators import Index, Type, Value, typeof
from moaproof.semantics import Numbers, evaluate
from moaproof.term import (
    ONE,
    TRUE,
    ZERO,
    Add,
    Build,
    F,
    Flat,
    Fold,
    In,
    Int,
    Let,
    Lt,
    Mul,
    Psi,
    Real,
    Size,
    Sub,
    Term,
    Tiles,
    Var,
    Where,
    tile_extent,
)

n, m, s, b, t = map(Size, ("n", "m", "s", "b", "t"))
x, A, B, V = In("x"), In("A", n, m), In("B", m, n), In("V", n)
mask = In("mask", n, sort="bool")
k = Var(0)
state = Term("state", None, (x, Real(1), x))
states = Build(n, Term("state", None, (Psi(V, k), Real(1), Build(m, Psi(A, Var(1), k)))))  # n rows of m columns
top = Fold("max", n, Psi(V, k))

ILL_TYPED = {
    "an unbound variable": F("exp", Var(0)),
    "an index as a real": Build(n, F("exp", k)),
    "a real as an index": Psi(V, x),
    "a real as an extent": Build(x, x),
    "a truth value as a real": F("exp", TRUE),
    "a real compared": Lt(x, x),
    "an array under exp": F("exp", V),
    "a guard that is real": Fold("add", n, x, x),
    "a guard that is an array": Fold("add", n, x, mask),
    "a sum of indices": Fold("add", n, k),
    "a sum of states": Fold("add", n, state),
    "a sum of maxima of nothing": Fold("add", n, Fold("max", ZERO, x)),
    "a product of maxima of nothing": Fold("mul", n, Fold("max", ZERO, x)),
    "a softmax of reals": Fold("softmax", n, x),
    "a state of a maximum that is an index": Term("state", None, (ZERO, x, x)),
    "a state whose weight may be empty": Term("state", None, (x, top, x)),
    "a state whose value may be empty": Term("state", None, (x, x, top)),
    "a quotient of a real": Term("quotient", None, (x,)),
    "an element of a state": Psi(state, ZERO),
    "a column of an array of states, of no row": Psi(states, ZERO),
    "a row of an array of states, of no column": Let(states, Build(n, Psi(Var(1), k))),
    "more indices than a state has": Psi(states, ZERO, ZERO, ZERO),
    "an offset into an array of states": Flat(states, ZERO),
    "an array of states in another shape": Term("reshape", None, (states, m, n)),
    "a sum of an array of states": Fold("add", n, Psi(states, k, ZERO)),
    "a maximum of an array of states": Fold("max", n, Psi(states, k, ZERO)),
    "a softmax of an array of quotients": Fold("softmax", n, Psi(Term("quotient", None, (states,)), k, ZERO)),
    "exp of a state in an array": F("exp", Psi(states, ZERO, ZERO)),
    "exp of an array of states": Term("map", "exp", (states,)),
    "a state less a state": Term("pointwise", "sub", (states, states)),
    "a state as a maximum": Term("state", None, (Psi(states, ZERO, ZERO), x, x)),
    "a state as a value": Term("state", None, (x, x, states)),
    "a state or a real": Where(TRUE, Psi(states, ZERO, ZERO), x),
    "branches that are arrays of states": Where(TRUE, states, states),
    "tiles of states, full": Tiles(n, b, t, Build(t, state)),
    "tiles of one state": Tiles(n, b, t, state),
    "an array of states whose columns depend on the row": Build(n, Term("state", None, (x, x, Build(k, x)))),
    "a partial index": Psi(A, ZERO),
    "an offset into a scalar": Flat(x, ZERO),
    "branches of different sorts": Where(TRUE, x, ZERO),
    "branches that are arrays": Where(TRUE, V, V),
    "a shape that mentions its own index": Build(n, Build(k, x)),
    "a fold of arrays whose shape mentions its index": Fold("add", n, Build(k, x)),
    "a let whose shape mentions its variable": Let(n, Build(k, x)),
    "a tile of the wrong extent": Tiles(n, b, t, Build(t, x)),
    "a tile of the extent of another axis": Tiles(n, b, t, Build(tile_extent(m, t, k), x)),
    "a tile that is a scalar": Tiles(n, b, t, x),
    "an extent of an input that is real": In("W", x),
    "a judge's symbol of an array": Psi(Term("x", 0), ZERO),
    "a pattern": Term("meta", "A"),
    "a size of a pattern": Term("dim", 0, (A,)),
    "arrays of other shapes": Term("pointwise", "add", (A, B)),
    "an inner product that does not fit": Term("inner", ("add", "mul"), (A, A)),
    "visibility of another shape": Term("inner", ("add", "mul"), (A, B, mask)),
    "a reduction along no axis": Term("reduce", ("add", 2), (A,)),
    "a reduction along a negative axis": Term("reduce", ("add", -1), (A,)),
    "a visibility of reals": Term("reduce", ("add", 0), (V, V)),
    "a transpose of another rank": Term("transpose", (0, 1, 2), (A,)),
    "a cat of other tails": Term("cat", None, (A, B)),
    "a cat of scalars": Term("cat", None, (x, x)),
    "a reverse of a scalar": Term("reverse", None, (x,)),
    "more counts than axes": Term("take", (1, 1), (V, ONE, ONE)),
    "a broadcast to fewer axes": Term("broadcast", None, (A, n)),
    "a broadcast of an axis that is not 1": Term("broadcast", None, (V, m)),
    "cells of a higher rank than the array": Term("omega", (2,), (V, x)),
    "frames that differ": Term("omega", (1, 1), (A, B, x)),
    "a function of cells with an open variable": Term("omega", (1,), (A, F("exp", Var(3)))),
    "a lift of no axis": Term("lift", 1, (V, b, t)),
    "a map of an index array": Term("map", "exp", (Term("iota", None, (n,)),)),
}


@pytest.mark.parametrize("name", ILL_TYPED)
def test_what_is_ill_typed_is_refused(name: str) -> None:
    with pytest.raises(IllFormed):
        typeof(ILL_TYPED[name])


def test_a_maximum_may_be_empty_until_it_meets_a_real() -> None:
    assert typeof(top) == Type("opt")
    assert typeof(F("max", top, top)) == Type("opt")
    assert typeof(F("max", top, x)) == Type("real")
    assert typeof(Where(TRUE, top, x)) == Type("opt")
    assert typeof(F("sub", x, top)) == Type("real")


def test_an_array_of_states_has_states_for_cells() -> None:
    assert typeof(states) == Type("state", (n, m))
    assert typeof(Psi(states, ZERO, ZERO)) == Type("state")
    assert typeof(Term("quotient", None, (states,))) == Type("real", (n, m))
    assert typeof(Term("transpose", (1, 0), (states,))) == Type("state", (m, n))
    assert typeof(Fold("softmax", s, states)) == Type("state", (n, m))
    rows = Build(tile_extent(n, t, k), Psi(states, Add(Mul(Var(1), t), k), ZERO))
    assert typeof(Tiles(n, b, t, rows)) == Type("state", (n,))
    assert typeof(Where(Lt(n, m), Psi(states, ZERO, ZERO), state)) == Type("state")


def test_a_variable_of_a_let_has_the_type_of_its_definition() -> None:
    inside = (Index(n), Value(Build(Var(0), x)), Index(m))
    assert typeof(Var(1), inside) == Type("real", (Var(2),))
    assert typeof(Let(A, Psi(Var(0), ZERO, ZERO))) == Type("real")


SIZES = {"n": 2, "m": 3, "s": 5, "b": 2, "t": 3}
a_, b_, v_ = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2) - 2.5, np.array([0.5, -1.0])
c_ = np.arange(24.0).reshape(2, 3, 4)
C = In("C", n, m, Int(4))
mask_ = np.array([[True, False, True], [False, False, True]])
seen = In("seen", n, m, sort="bool")

MEANINGS: dict[str, tuple[Term, Callable[[], np.ndarray]]] = {
    "transpose": (Term("transpose", (1, 0), (A,)), lambda: a_.T),
    "transpose of rank 3 (axis k goes to v[k])": (
        Term("transpose", (1, 2, 0), (C,)),
        lambda: np.transpose(c_, (2, 0, 1)),
    ),
    "reshape": (Term("reshape", None, (A, m, n)), lambda: a_.reshape(3, 2)),
    "reshape of a scalar": (Term("reshape", None, (In("x"), ONE, ONE)), lambda: np.full((1, 1), 7.0)),
    "ravel": (Term("ravel", None, (A,)), a_.ravel),
    "ravel of a transpose": (Term("ravel", None, (Term("transpose", (1, 0), (A,)),)), a_.T.ravel),
    "take": (Term("take", (1, -1), (A, ONE, Int(2))), lambda: a_[:1, -2:]),
    "drop": (Term("drop", (-1, 1), (A, ONE, Int(2))), lambda: a_[:-1, 2:]),
    "take all": (Term("take", (1,), (A, n)), lambda: a_),
    "cat": (Term("cat", None, (A, A)), lambda: np.concatenate([a_, a_])),
    "reverse": (Term("reverse", None, (A,)), lambda: a_[::-1]),
    "rotate": (Term("rotate", None, (Term("transpose", (1, 0), (A,)), ONE)), lambda: np.roll(a_.T, -1, axis=0)),
    "rotate backwards": (Term("rotate", None, (B, Int(-4))), lambda: np.roll(b_, 4, axis=0)),
    "iota": (Term("iota", None, (m,)), lambda: np.arange(3)),
    "iota of a vector": (Term("iota", None, (n, m)), lambda: np.stack(np.indices((2, 3)), axis=-1)),
    "rho": (Term("rho", None, (C,)), lambda: np.array([2, 3, 4])),
    "rho of a scalar": (Term("rho", None, (In("x"),)), lambda: np.zeros(0)),
    "delta": (Term("delta", None, (C,)), lambda: np.array(3)),
    "tau": (Term("tau", None, (C,)), lambda: np.array(24)),
    "lift": (Term("lift", 1, (C, Int(3), ONE)), lambda: c_.reshape(2, 3, 1, 4)),
    "broadcast": (Term("broadcast", None, (In("W", ONE, m), n, n, m)), lambda: np.broadcast_to(a_[:1], (2, 2, 3))),
    "map": (Term("map", "neg", (A,)), lambda: -a_),
    "pointwise": (Term("pointwise", "sub", (A, A)), lambda: a_ - a_),
    "pointwise with a scalar": (Term("pointwise", "sub", (In("x"), A)), lambda: 7.0 - a_),
    "omega": (
        Term("omega", (1, 1), (A, A, F("sub", Psi(Var(1), ZERO), Psi(Var(0), ONE)))),
        lambda: a_[:, 0] - a_[:, 1],
    ),
    "omega with a short frame": (
        Term("omega", (0, 0), (A, In("M", m), F("sub", Var(1), Var(0)))),
        lambda: a_ - np.array([1, 2, 4]),
    ),
    "reduce": (Term("reduce", ("add", 1), (A,)), lambda: a_.sum(1)),
    "reduce with visibility": (Term("reduce", ("mul", 0), (A, seen)), lambda: np.where(mask_, a_, 1).prod(0)),
    "outer": (Term("outer", "mul", (V, A)), lambda: np.multiply.outer(v_, a_)),
    "inner": (Term("inner", ("add", "mul"), (A, B)), lambda: a_ @ b_),
    "inner with visibility": (Term("inner", ("add", "mul"), (A, B, seen)), lambda: np.where(mask_, a_, 0) @ b_),
    "inner of max and add": (Term("inner", ("max", "add"), (A, B)), lambda: (a_[:, :, None] + b_[None]).max(1)),
    "tiles": (
        Tiles(s, b, t, Build(tile_extent(s, t, k), Psi(In("S", s), Add(Mul(Var(1), t), k)))),
        lambda: np.arange(5.0),
    ),
    "flat": (Build(Int(6), Flat(Term("transpose", (1, 0), (A,)), k)), a_.T.ravel),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_each_operator_is_numpys(name: str) -> None:
    term, expected = MEANINGS[name]
    arrays = {
        "x": [7.0],
        "A": a_.ravel(),
        "B": b_.ravel(),
        "V": v_,
        "C": c_.ravel(),
        "M": [1.0, 2.0, 4.0],
        "W": a_[0],
        "S": np.arange(5.0),
        "seen": mask_.ravel(),
    }
    shape, cells = evaluate(term, Numbers(SIZES, arrays))
    want = expected()
    if name != "rho of a scalar":
        assert shape == want.shape
    np.testing.assert_array_equal(np.array(cells, dtype=float).reshape(shape), want)


def test_a_section_may_be_empty() -> None:
    none = Term("drop", (1,), (A, n))
    assert evaluate(none, Numbers(SIZES, {"A": a_.ravel()})) == ((0, 3), [])
    assert typeof(none).shape[0] is Sub(n, n)
