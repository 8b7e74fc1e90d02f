"""Psi-reduction to the DNF, by a strategy that knows nothing of attention."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from moaproof.derive.chain import Chain
from moaproof.derive.to_dnf import to_dnf
from moaproof.errors import NotCovered
from moaproof.kernel.checker import is_dnf
from moaproof.semantics import Numbers, evaluate
from moaproof.show import text
from moaproof.term import (
    Build,
    F,
    Fold,
    In,
    Int,
    Let,
    Lt,
    Psi,
    Size,
    Term,
    Tiles,
    Var,
    Where,
    tile_extent,
    up,
)  # fmt: skip

a, b, c, d = map(Size, "abcd")
A, B, C = In("A", a, b), In("B", b, c), In("C", c, d)
X = In("X", a, b, c)


def product(x: Term, y: Term) -> Term:
    return Term("inner", ("add", "mul"), (x, y))


CYCLED = Term("transpose", (2, 0, 1), (X,))
COUNTED = Build(a, Term("cast", None, (Psi(Term("iota", None, (a,)), Var(0)),)))
PROGRAMS: dict[str, Term] = {
    "chained products": product(product(A, B), C),
    "products the other way": product(A, product(B, C)),
    "outer product of a product": Term("outer", "sub", (product(A, B), In("y", d))),
    "product of outer products": product(Term("outer", "mul", (In("x", a), In("y", b))), B),
    "take of drop of cat": Term("take", (1,), (Term("drop", (1,), (Term("cat", None, (A, In("D", c, b))), Int(1))), a)),
    "reverse of rotate of cat": Term("reverse", None, (Term("rotate", None, (Term("cat", None, (A, A)), Int(-3))),)),
    "take from the end on two axes": Term("take", (-1, 1), (A, Int(1), Int(1))),
    "a 3-cycle": Term("transpose", (1, 2, 0), (X,)),
    "a 3-cycle of a 3-cycle": Term("transpose", (1, 2, 0), (Term("transpose", (2, 0, 1), (X,)),)),
    "sum along the middle axis of a 3-cycle": Term("reduce", ("add", 1), (Term("transpose", (1, 2, 0), (X,)),)),
    "Omega by rows of a 3-cycle": Term("omega", (1,), (CYCLED, Term("reverse", None, (Var(0),)))),
    "matrix times each slice": Term("omega", (2, 2), (X, In("M", c, d), product(Var(1), Var(0)))),
    "ravel of an outer product": Term("ravel", None, (Term("outer", "mul", (In("x", a), In("y", b))),)),
    "indices as reals": Term("pointwise", "mul", (COUNTED, In("x", a))),
    "extents and ranks": Build(a, F("mul", Psi(In("x", a), Var(0)), Term("cast", None, (Term("tau", None, (A,)),)))),
}  # fmt: skip
FACTS = (Lt(Int(0), a), Lt(Int(0), b), Lt(Int(0), c))


def inputs_of(t: Term, sizes: dict[str, int], rng: random.Random) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    todo = [t]
    while todo:
        u = todo.pop()
        todo += u.args
        if u.op == "in":
            total = 1
            for s in u.args:
                total *= sizes[s.data]
            found.setdefault(u.data[0], [rng.uniform(-2, 2) for _ in range(total)])
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_reduces_by_index_steps_alone_and_keeps_every_bit(name: str) -> None:
    spec = PROGRAMS[name]
    chain = Chain(spec, FACTS)
    dnf = to_dnf(chain)
    assert is_dnf(dnf)
    assert {line.kind for line in chain.lines} <= {"I"}
    rng = random.Random(name)
    for sizes in ({"a": 2, "b": 3, "c": 4, "d": 5}, {"a": 3, "b": 1, "c": 2, "d": 1}, {"a": 1, "b": 2, "c": 1, "d": 3}):
        algebra = Numbers(sizes, inputs_of(spec, sizes, rng))
        assert evaluate(dnf, algebra) == evaluate(spec, algebra)


@pytest.mark.parametrize("v", list(permutations(range(3))))
def test_every_transpose_of_a_non_cubic_array(v: tuple[int, ...]) -> None:
    chain = Chain(Term("transpose", v, (X,)))
    to_dnf(chain)
    read = chain.term
    for _ in range(3):
        read = read.args[1]
    # result axis v[k] is argument axis k: the index of argument axis k is the result's index v[k] (i[v], not i[gu v])
    assert [2 - i.data for i in read.args[1:]] == list(v)


def test_attention_has_the_dnf_of_the_paper(derivation: object) -> None:
    _, chain = derivation("attention", "one_head", None)  # type: ignore[operator]
    one, two, three = ("(Σ_{j<dk} q[i, j]·k[" + k + ", j])·scale" for k in ("kk", "kk'", "kk''"))
    top = "max_{kk'<m | mask[i, kk']} " + two
    inner = "max_{kk''<m | mask[i, kk'']} " + three
    total = "Σ_{kk'<m | mask[i, kk']} exp(" + two + " - " + inner + ")"
    weight = "(exp(" + one + " - " + top + ") / " + total + ")"
    assert text(chain.term) == "[i<n][c<dv] Σ_{kk<m | mask[i, kk]} " + weight + "·v[kk, c]"


@pytest.mark.parametrize(
    "function", ["attention", "causal_attention", "masked_attention", "gqa_attention", "shifted_softmax"]
)
def test_attention_reduces_by_index_steps_alone(derivation: object, function: str) -> None:
    _, chain = derivation("attention", function, None)  # type: ignore[operator]
    assert is_dnf(chain.term)
    assert {line.kind for line in chain.lines} == {"I"}


@pytest.mark.parametrize(
    "t",
    [
        Build(a, Let(Psi(A, Var(0), Int(0)), F("mul", Var(0), Var(0)))),
        Build(a, Fold("add", b, Psi(Build(b, Psi(A, Var(2), Var(0))), Var(0)))),
        Tiles(a, b, c, Build(tile_extent(up(a), up(c), Var(0)), Int(0))),
        Term("transpose", (1, 0), (A,)),
        product(A, B),
    ],
)
def test_what_is_no_dnf(t: Term) -> None:
    assert not is_dnf(t)


def test_what_is_a_dnf() -> None:
    assert is_dnf(
        Build(a, Fold("add", b, Where(Lt(Var(0), Var(1)), Psi(A, Var(1), Var(0)), F("exp", Psi(A, Var(1), Int(0))))))
    )


def test_a_let_in_a_spec_is_refused() -> None:
    with pytest.raises(NotCovered, match="no law reduces"):
        to_dnf(Chain(Build(a, Let(Psi(A, Var(0), Int(0)), Var(0))), FACTS))
