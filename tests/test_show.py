"""Printing of terms: golden strings, names never captured, elision, marks, and a form for every operation."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from moaproof import show
from moaproof.errors import IllFormed
from moaproof.operators import Index, Value
from moaproof.show import highlight, index, latex, pretty, signature, span, text
from moaproof.term import (
    MAX_DEPTH,
    ONE,
    OPS,
    TRUE,
    Add,
    And,
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
    Min,
    Mul,
    Not,
    Psi,
    Real,
    Size,
    Sub,
    Term,
    Tiles,
    Var,
    Where,
    tile_extent,
)  # fmt: skip

n, m, dk, dv, b, t = map(Size, ("n", "m", "dk", "dv", "b", "t"))
q, k, v, scale = In("q", n, dk), In("k", m, dk), In("v", m, dv), In("scale")
Q, K, V = In("Q", n, dk), In("K", m, dk), In("V", m, dv)
A, B = In("A", n, m), In("B", n, m)


def moa(op: str, data: object, *args: Term) -> Term:
    return Term(op, data, args)


def row_reduce(monoid: str, x: Term) -> Term:
    return moa("omega", (1,), x, moa("reduce", (monoid, 0), Var(0)))


def by_rows(function: str, x: Term, y: Term) -> Term:
    return moa("omega", (1, 0), x, y, moa("pointwise", function, Var(1), Var(0)))


def attention_spec() -> Term:
    scores = moa("pointwise", "mul", scale, moa("inner", ("add", "mul"), q, moa("transpose", (1, 0), k)))
    weights = moa("map", "exp", by_rows("sub", Var(1), Var(0)))
    output = moa("inner", ("add", "mul"), by_rows("div", Var(1), Var(0)), v)
    return Let(scores, Let(row_reduce("max", Var(0)), Let(weights, Let(row_reduce("add", Var(0)), output))))


def attention_dnf(guarded: bool = False, keys: Term = K, queries: Term = Q, values: Term = V) -> Term:
    """calculus 2.1: every score written out.  Variables i, c, k, and k' and k'' of the inner folds."""

    def seen(i: int) -> Term:
        return Le(Var(0), Var(i)) if guarded else TRUE

    def score(i: int) -> Term:
        return F(
            "mul",
            scale,
            Fold("add", dk, F("mul", Psi(queries, Var(i + 1), Var(0)), Psi(keys, Var(1), Var(0)))),
        )

    def weight(i: int) -> Term:
        return F("exp", F("sub", score(i), Fold("max", m, score(i + 1), seen(i + 1))))

    part = F("div", weight(2), Fold("add", m, weight(3), seen(3)))
    return Build(n, Build(dv, Fold("add", m, F("mul", part, Psi(values, Var(0), Var(1))), seen(2))))


# --- golden ----------------------------------------------------------------------------------------


def test_the_spec_reads_as_in_the_paper() -> None:
    assert text(attention_spec()) == (
        "let S = scale × (q +.× ⍉k) in let M = (max red)Ω<1> S in let E = exp(S -Ω<1 0> M) in "
        "let l = (+ red)Ω<1> E in (E ÷Ω<1 0> l) +.× v"
    )


def test_the_spec_in_ascii() -> None:
    assert text(attention_spec(), unicode=False) == (
        "let S = scale * (q +.* transpose k) in let M = (max red)omega<1> S in "
        "let E = exp(S -omega<1 0> M) in let l = (+ red)omega<1> E in (E /omega<1 0> l) +.* v"
    )


def test_the_spec_has_one_let_a_line() -> None:
    assert pretty(attention_spec()).splitlines() == [
        "let S = scale × (q +.× ⍉k) in",
        "let M = (max red)Ω<1> S in",
        "let E = exp(S -Ω<1 0> M) in",
        "let l = (+ red)Ω<1> E in",
        "(E ÷Ω<1 0> l) +.× v",
    ]


def test_the_dnf_reads_as_in_the_paper() -> None:
    assert text(attention_dnf()) == (
        "[i<n][c<dv] Σ_{k<m} (exp(scale·Σ_{j<dk} Q[i, j]·K[k, j] - "
        "max_{k'<m} scale·Σ_{j<dk} Q[i, j]·K[k', j]) / Σ_{k'<m} exp(scale·Σ_{j<dk} Q[i, j]·K[k', j] - "
        "max_{k''<m} scale·Σ_{j<dk} Q[i, j]·K[k'', j]))·V[k, c]"
    )


def test_the_causal_dnf_shows_its_guards_and_breaks_lines() -> None:
    assert pretty(attention_dnf(guarded=True), 80).splitlines() == [
        "[i<n][c<dv]",
        "  Σ_{k<m | k ≤ i}",
        "    (exp(scale·Σ_{j<dk} Q[i, j]·K[k, j]",
        "       - max_{k'<m | k' ≤ i} scale·Σ_{j<dk} Q[i, j]·K[k', j])",
        "     / Σ_{k'<m | k' ≤ i}",
        "       exp(scale·Σ_{j<dk} Q[i, j]·K[k', j]",
        "         - max_{k''<m | k'' ≤ i} scale·Σ_{j<dk} Q[i, j]·K[k'', j]))",
        "    ·V[k, c]",
    ]


def test_the_dnf_in_latex() -> None:
    score = r"\mathit{scale} \cdot \sum_{j<d_k} Q[i, j] \cdot K[%s, j]"
    weight = r"\exp\left(" + score + r" - \max_{%s<m} " + score + r"\right)"
    assert latex(attention_dnf()) == (
        r"[i<n][c<d_v] \sum_{k<m} \frac{" + weight % ("k", "k'", "k'") + r"}{\sum_{k'<m} "
        + weight % ("k'", "k''", "k''") + r"} \cdot V[k, c]"
    )  # fmt: skip


def test_latex_is_ascii_with_balanced_braces() -> None:
    for term in (
        attention_spec(),
        attention_dnf(True),
        Where(Lt(n, m), Real(-1, 8), Real(2)),
        *EXAMPLES.values(),
    ):
        shown = latex(term)
        assert shown.isascii()
        assert shown.count("{") == shown.count("}")
        assert shown.count(r"\left(") == shown.count(r"\right)")


def test_online_softmax_is_a_merge_of_states() -> None:
    leaf = Term("state", None, (Psi(In("s", n, m), Var(1), Var(0)), Real(1), Build(dv, Psi(V, Var(1), Var(0)))))
    term = Build(
        n,
        Let(
            Fold("softmax", m, leaf, Le(Var(0), Var(1))),
            Build(dv, Psi(moa("quotient", None, Var(1)), Var(0))),
        ),
    )
    assert text(term) == "[i<n] let w = ⊕_{k<m | k ≤ i} (s[i, k], 1, [c<dv] V[k, c]) in [c<dv] quot(w)[c]"
    assert pretty(term).splitlines() == [
        "[i<n]",
        "  let w = ⊕_{k<m | k ≤ i} (s[i, k], 1, [c<dv] V[k, c]) in",
        "  [c<dv] quot(w)[c]",
    ]


def test_a_tiled_onf_shows_axes_and_flat_reads() -> None:
    offset = Add(Mul(Add(Mul(Var(2), t), Var(1)), dk), Var(0))
    rows = Build(tile_extent(n, t, Var(0)), Build(dk, Flat(Q, offset)), "lane")
    term = Tiles(n, b, t, rows, "core")
    assert text(term) == "[I<b of t over n: core][r<min(t, n - I*t): lane][j<dk] rav(Q)[(I*t + r)*dk + j]"
    assert latex(term).startswith(r"[I<b \text{ of } t \text{ over } n : \mathrm{core}]")


# --- rules' patterns -------------------------------------------------------------------------------


def test_patterns_show_metavariables_with_their_indices() -> None:
    x = Term("meta", "X", (Var(1), Var(0)))
    assert text(Build(n, Fold("add", m, x))) == "[i<n] Σ_{k<m} X(i, k)"
    assert text(Build(Term("meta", "n"), Term("meta", "Z", (Var(0),)))) == "[i<n] Z(i)"
    assert text(Term("dim", 1, (Term("meta", "A"),))) == "ρ(A)[1]"
    assert text(Fold("add", n, Term("meta", "i", (Var(0),)))) == "Σ_{ii<n} i(ii)"


# --- names -----------------------------------------------------------------------------------------


def test_nested_binders_of_one_extent_get_primes() -> None:
    read = Psi(In("T", n, n, n), Var(2), Var(1), Var(0))
    assert text(Build(n, Build(n, Build(n, read)))) == "[i<n][i'<n][i''<n] T[i, i', i'']"


def test_siblings_share_a_name() -> None:
    total = Fold("add", m, Psi(In("a", m), Var(0)))
    assert text(F("add", total, total)) == "Σ_{k<m} a[k] + Σ_{k<m} a[k]"


def test_an_input_or_size_keeps_its_name_from_indices() -> None:
    assert "Σ_{kk<m}" in text(attention_dnf(keys=k))
    assert text(Build(n, Psi(In("A", n, Size("i")), Var(0), Size("i")))) == "[ii<n] A[ii, i]"
    letters = [Size(x) for x in ("x", "y", "z")]
    assert text(Build(Size("w"), Psi(In("A", Size("w"), *letters), Var(0), *letters))) == "[x'<w] A[x', x, y, z]"


def test_a_name_is_taken_by_a_size_that_occurs_far_away() -> None:
    assert (
        text(F("mul", moa("cast", None, Size("k")), Fold("add", m, moa("cast", None, Var(0)))))
        == "real(k)·Σ_{kk<m} real(kk)"
    )


def test_unknown_extents_take_x_y_z_then_primes() -> None:
    term: Term = Var(0)
    for _ in range(5):
        term = Build(Size("s"), term)
    assert text(term) == "[x<s][y<s][z<s][x'<s][y'<s] y'"


def test_words_of_the_notation_are_quoted() -> None:
    assert text(Add(Size("div"), Size("n"))) == "`div` + n"
    assert latex(Size("a_b")) == r"\mathit{a\_b}"


@pytest.mark.parametrize("extent", ["n", "m", "s", "kk", "x", "i"])
def test_every_binder_of_a_nest_has_another_name(extent: str) -> None:
    """Whatever the sizes and inputs are called, an inner binder never takes a name that is in use."""
    size = Size(extent)
    reads = F("add", Psi(In("i", size), Var(2)), F("add", Psi(In("k", size), Var(1)), Psi(In("x", size), Var(0))))
    shown = text(Build(size, Fold("add", size, Fold("max", size, reads))))
    bound = re.findall(r"[\[{]([^<\]\[{]+)<", shown)
    assert len(bound) == 3 == len(set(bound))
    assert not set(bound) & {extent, "i", "k", "x"}
    assert re.findall(r"[ikx]\[(.+?)\]", shown) == bound


def test_free_variables_are_named_by_context_then_by_wish() -> None:
    ctx = (Index(n), Index(m), Value(Fold("max", m, Var(0))))
    term = F("sub", Psi(A, Var(2), Var(1)), Var(0))
    assert text(term, ctx) == "A[i, k] - M"
    assert text(term, ctx, names=("row",)) == "A[row, k] - M"
    assert text(Psi(A, Var(1), Var(0)), names=("p", "p")) == "A[p, p']"
    assert text(Psi(A, Var(1), Var(0)), names=("A", "n")) == "A[AA, nn]"
    assert text(Psi(A, Var(1), Var(0)), (Index(m),)) == "A[#0, k]"
    assert text(Build(n, Psi(A, Var(0), Var(1))), (Index(n),)) == "[i'<n] A[i', i]"


def test_a_let_is_named_after_its_value() -> None:
    names = {
        "M": Fold("max", m, Psi(A, Var(0), Var(0))), "S": Fold("add", dk, Real(1)),
    "l": Fold("add", m, Real(1)),
        "o": Build(dv, Fold("add", m, Real(1))), "P": F("div", Real(1), Real(2)), "x": Real(1),
    "E": F("exp", Real(1)),
    }  # fmt: skip
    for name, value in names.items():
        assert text(Let(value, Var(0))) == f"let {name} = {text(value)} in {name}"


# --- index expressions -----------------------------------------------------------------------------


@pytest.mark.parametrize(("term", "expected"), [
    (Sub(n, ONE), "n - 1"),
    (Add(n, Int(-3)), "n - 3"),
    (Sub(n, Add(m, ONE)), "n - (m + 1)"),
    (Sub(n, Sub(m, t)), "n - (m - t)"),
    (Add(n, Add(m, t)), "n + m + t"),
    (Mul(n, Mul(m, t)), "n*m*t"),
    (Mul(Add(n, m), t), "(n + m)*t"),
    (Add(Mul(n, m), t), "n*m + t"),
    (Mul(Div(n, t), t), "(n div t)*t"),
    (Div(Mul(n, t), t), "(n*t) div t"),
    (Div(n, Div(m, t)), "n div (m div t)"),
    (Add(n, Mul(Mul(Int(-2), m), t)), "n - 2*m*t"),
    (Mul(Int(-1), n), "-n"),
    (Mul(n, Int(-1)), "n*(-1)"),
    (Add(Mul(Int(-1), n), m), "-n + m"),
    (Add(n, Add(Mul(Int(-1), m), t)), "n + (-m + t)"),
    (Sub(n, Int(-3)), "n - (-3)"),
    (Sub(n, Mul(Mul(Int(-1), m), t)), "n - (-m*t)"),
    (Min(t, Sub(n, Mul(m, t))), "min(t, n - m*t)"),
    (Div(Sub(Add(n, t), ONE), t), "(n + t - 1) div t"),
])  # fmt: skip
def test_index_expressions_have_the_parentheses_that_integers_need(term: Term, expected: str) -> None:
    shown = index(term)
    assert shown == expected
    sizes = {"n": 29, "m": 5, "t": 3}
    value = eval(shown.replace("div", "//"), {"min": min}, dict(sizes))  # noqa: S307  our own text
    assert value == _integer(term, sizes)


def _integer(u: Term, sizes: dict[str, int]) -> int:
    if u.op in ("int", "size"):
        return int(u.data) if u.op == "int" else sizes[u.data]
    x, y = (_integer(a, sizes) for a in u.args)
    return {"iadd": x + y, "imul": x * y, "idiv": x // y, "imin": min(x, y)}[u.op]


def test_index_refuses_what_is_no_index() -> None:
    with pytest.raises(IllFormed, match="index: build is no index expression"):
        index(Build(n, Real(1)))


def test_conditions() -> None:
    assert text(Not(Lt(n, m))) == "¬(n < m)"
    assert text(And(And(Lt(n, m), TRUE), Le(m, n))) == "n < m ∧ true ∧ m ≤ n"
    assert text(And(Lt(n, m), And(TRUE, TRUE)), unicode=False) == "n < m and (true and true)"


# --- reals: the association is always visible --------------------------------------------------------

x, y, z = In("x"), In("y"), In("z")


@pytest.mark.parametrize(("term", "expected"), [
    (F("add", F("add", x, y), z), "x + y + z"),
    (F("add", x, F("add", y, z)), "x + (y + z)"),
    (F("mul", F("mul", x, y), z), "x·y·z"),
    (F("mul", x, F("mul", y, z)), "x·(y·z)"),
    (F("mul", F("div", x, y), z), "(x / y)·z"),
    (F("div", F("mul", x, y), z), "(x·y) / z"),
    (F("sub", x, F("sub", y, z)), "x - (y - z)"),
    (F("neg", F("mul", x, y)), "-(x·y)"),
    (F("mul", F("neg", x), y), "(-x)·y"),
    (F("sub", x, F("neg", y)), "x - (-y)"),
    (F("mul", Fold("add", n, x), y), "(Σ_{i<n} x)·y"),
    (F("mul", F("mul", x, Fold("add", n, y)), z), "(x·Σ_{i<n} y)·z"),
    (F("add", F("mul", x, Fold("add", n, y)), z), "x·Σ_{i<n} y + z"),
    (Fold("add", n, F("add", x, y)), "Σ_{i<n} (x + y)"),
    (Fold("add", n, F("div", x, y)), "Σ_{i<n} (x / y)"),
    (F("div", Fold("add", n, x), y), "(Σ_{i<n} x) / y"),
    (F("mul", Real(1, 8), Real(-2)), "(1/8)·(-2)"),
    (F("max", x, F("exp", F("sqrt", y))), "max(x, exp(sqrt(y)))"),
    (F("mul", Let(x, Var(0)), y), "(let z = x in z)·y"),
])  # fmt: skip
def test_real_expressions_show_their_tree(term: Term, expected: str) -> None:
    assert text(term) == expected


def test_long_rationals_are_cut() -> None:
    assert text(Real(10**100)) == "100000000000…(101 digits)"
    assert text(Real(-(10**100)), unicode=False) == "-10000000000...(101 digits)"


# --- every operation has a form ----------------------------------------------------------------------

a1 = In("a", n)
EXAMPLES: dict[str, Term] = {
    "var": Var(0), "int": Int(7), "size": n, "iadd": Add(n, m), "imul": Mul(n, m), "idiv": Div(n, m),
    "imin": Min(n, m), "true": TRUE, "lt": Lt(n, m), "and": And(TRUE, TRUE), "not": Not(TRUE),
    "real": Real(1, 2),
    "cast": moa("cast", None, n), "f": F("add", x, y), "where": Where(Lt(n, m), x, y), "let": Let(x, Var(0)),
    "psi": Psi(moa("transpose", (1, 0), A), n, Add(m, ONE)), "flat": Flat(A, n), "in": A,
    "build": Build(n, x, "lane"),
    "tiles": Tiles(m, b, t, Build(tile_extent(m, t, Var(0)), x)), "fold": Fold("mul", m, x, Lt(Var(0), n)),
    "state": moa("state", None, x, y, z), "quotient": moa("quotient", None, moa("state", None, x, y, z)),
    "transpose": moa("transpose", (1, 2, 0), In("T", n, m, t)), "reshape": moa("reshape", None, A, Mul(n, m)),
    "ravel": moa("ravel", None, A), "take": moa("take", (1, -1), A, n, Add(n, ONE)),
    "drop": moa("drop", (-1,), A, n),
    "cat": moa("cat", None, A, moa("cat", None, A, B)), "reverse": moa("reverse", None, A),
    "rotate": moa("rotate", None, A, n), "iota": moa("iota", None, n, m), "rho": moa("rho", None, A),
    "delta": moa("delta", None, A), "tau": moa("tau", None, A), "lift": moa("lift", 1, A, b, t),
    "broadcast": moa("broadcast", None, a1, m, n), "map": moa("map", "neg", A),
    "pointwise": moa("pointwise", "div", A, B),
    "omega": moa("omega", (1, 0), A, a1, moa("pointwise", "sub", Var(0), Var(1))),
    "reduce": moa("reduce", ("max", 1), A, In("seen", n, m, sort="bool")), "outer": moa("outer", "mul", A, B),
    "inner": moa("inner", ("max", "add"), A, B, In("seen", n, m, sort="bool")),
    "x": Term("x", 3), "meta": Term("meta", "X", (n, m)), "dim": Term("dim", 0, (Term("meta", "X"),)),
}  # fmt: skip
SHOWN = {
    "var": "#0", "int": "7", "size": "n", "iadd": "n + m", "imul": "n*m", "idiv": "n div m",
    "imin": "min(n, m)",
    "true": "true", "lt": "n < m", "and": "true ∧ true", "not": "¬true", "real": "1/2", "cast": "real(n)",
    "f": "x + y", "where": "where(n < m, x, y)", "let": "let y = x in y", "psi": "<n (m + 1)>ψ⍉A",
    "flat": "rav(A)[n]",
    "in": "A", "build": "[i<n: lane] x", "tiles": "[J<b of t over m][u<min(t, m - J*t)] x",
    "fold": "Π_{k<m | k < n} x", "state": "(x, y, z)", "quotient": "quot((x, y, z))",
    "transpose": "<1 2 0>⍉T",
    "reshape": "<(n*m)> ρ̂ A", "ravel": "rav(A)", "take": "<n -(n + 1)> take A", "drop": "<-n> drop A",
    "cat": "A ++ (A ++ B)", "reverse": "Φ(A)", "rotate": "n Θ A", "iota": "ι<n m>", "rho": "ρ(A)",
    "delta": "δ(A)",
    "tau": "τ(A)", "lift": "lift_1(b, t) A", "broadcast": "<m n> broadcast a", "map": "-A",
    "pointwise": "A ÷ B",
    "omega": "(λx, y. y - x)Ω<1 0>(A, a)", "reduce": "(max red_1) (A | seen)", "outer": "A ×∘ B",
    "inner": "(A | seen) max.+ B", "x": "@3", "meta": "X(n, m)", "dim": "ρ(X)[0]",
}  # fmt: skip


@pytest.mark.parametrize("op", OPS)
def test_every_operation_has_a_form(op: str) -> None:
    assert EXAMPLES[op].op == op, "give the new operation an example here and a form in show.FORMS"
    assert text(EXAMPLES[op]) == SHOWN[op]
    assert text(EXAMPLES[op], unicode=False).isascii()
    assert latex(EXAMPLES[op])


def test_forms_and_styles_cover_the_same_things() -> None:
    assert set(show.FORMS) == set(OPS)
    assert set(show.ASCII) == set(show.LATEX) == set(show.UNICODE)
    assert all(word.isascii() for word in (*show.ASCII.values(), *show.LATEX.values()))


def test_omega_of_an_operator_is_bare_and_of_a_function_is_lambda() -> None:
    assert text(moa("omega", (2,), A, moa("transpose", (1, 0), Var(0)))) == "(⍉)Ω<2> A"
    assert text(moa("omega", (2, 2), A, B, moa("inner", ("add", "mul"), Var(1), Var(0)))) == "A +.×Ω<2 2> B"
    assert text(moa("omega", (1, 1), A, B, moa("pointwise", "max", Var(1), Var(0)))) == "A (max)Ω<1 1> B"
    swapped = moa("omega", (2, 2), A, B, moa("inner", ("add", "mul"), Var(0), Var(1)))
    assert text(swapped) == "(λx, y. y +.× x)Ω<2 2>(A, B)"


# --- marks -----------------------------------------------------------------------------------------


def paths(term: Term, at: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    return [at] + [p for c, a in enumerate(term.args) for p in paths(a, (*at, c))]


def test_highlight_marks_inside_the_parentheses() -> None:
    assert highlight(Mul(Add(n, m), t), (0,)) == "(⟦n + m⟧)*t"
    assert highlight(Mul(Add(n, m), t), (1,), unicode=False) == "(n + m)*{{t}}"
    assert latex(Mul(n, m), focus=(0,)) == r"\boxed{n}\,m"
    assert highlight(Build(n, Build(m, Psi(A, Var(1), Var(0)))), (1,)) == "[i<n]⟦[k<m] A[i, k]⟧"


def test_what_is_usually_left_out_is_shown_when_marked() -> None:
    assert highlight(Fold("add", n, x), (1,)) == "Σ_{i<n | ⟦true⟧} x"
    assert highlight(A, (1,)) == "A:<n ⟦m⟧>"
    assert highlight(Le(n, m), (1,)) == "n < ⟦m + 1⟧"
    assert highlight(Le(n, m), (1, 1)) == "n < m + ⟦1⟧"
    assert highlight(Le(n, m), (1, 0)) == "n ≤ ⟦m⟧"
    assert highlight(Sub(n, m), (1,)) == "n + ⟦(-1)*m⟧"
    assert highlight(Sub(n, m), (1, 0)) == "n + (⟦-1⟧)*m"
    assert highlight(Sub(n, m), (1, 1)) == "n - ⟦m⟧"
    assert highlight(row_reduce("max", A), (1, 0)) == "(λx. (max red) ⟦x⟧)Ω<1> A"


@pytest.mark.parametrize(
    "term", [attention_spec(), attention_dnf(True), *EXAMPLES.values()], ids=["spec", "dnf", *EXAMPLES]
)
@pytest.mark.parametrize("limit", [0, 7, 2000])
def test_every_path_is_marked_once_in_every_style(term: Term, limit: int) -> None:
    for path in paths(term):
        marked = highlight(term, path, limit=limit)
        assert marked.count("⟦") == marked.count("⟧") == 1
        shown, start, stop = span(term, path, limit=limit)
        assert marked == f"{shown[:start]}⟦{shown[start:stop]}⟧{shown[stop:]}"
        assert start < stop
        assert latex(term, focus=path, limit=limit).count(r"\boxed{") == 1


def test_the_marked_text_is_the_subterm() -> None:
    shown, start, stop = span(attention_dnf(True), (1, 1, 1))
    assert shown[start:stop] == "k ≤ i"


def test_a_path_that_leaves_the_term_is_refused() -> None:
    with pytest.raises(IllFormed, match=r"path \(1, 5\): step 1: fold has no argument 5"):
        highlight(Build(n, Fold("add", m, x)), (1, 5))
    with pytest.raises(IllFormed, match="at most"):
        highlight(x, (0,) * (MAX_DEPTH + 1))


# --- size ------------------------------------------------------------------------------------------


def doubled(times: int) -> Term:
    term: Term = x
    for _ in range(times):
        term = F("add", term, term)
    return term


@pytest.mark.parametrize("limit", [0, 1, 10, 100, 1000])
def test_a_shared_term_is_elided(limit: int) -> None:
    """2^17 nodes as a tree, the most that a term may have: within the limit, and quickly."""
    shown = text(doubled(17), limit=limit)
    assert "…" in shown
    assert shown.count("x") <= limit
    assert len(shown) <= 20 * limit + 20
    assert text(Let(doubled(17), Var(0)), limit=10).startswith("let ")


def test_elision_keeps_what_fits() -> None:
    assert text(doubled(1), limit=3) == "x + x"
    assert text(doubled(2), limit=7) == "x + x + (x + x)"
    assert text(doubled(2), limit=6) == "x + x + (x + …)"
    assert text(F("add", doubled(16), y), limit=4) == "… + … + … + y"
    assert text(x, limit=0) == "…"
    assert text(x, limit=0, unicode=False) == "..."
    assert text(x, limit=1) == "x"


def test_the_focus_is_shown_however_large_its_surroundings() -> None:
    term = F("add", doubled(16), F("mul", doubled(16), F("exp", y)))
    assert "⟦exp(y)⟧" in highlight(term, (1, 1), limit=40)


WRAPS: dict[str, Callable[[Term], Term]] = {
    "imin": lambda u: Min(n, u), "iadd": lambda u: Add(u, n), "neg": lambda u: Mul(Int(-1), u),
    "imul": lambda u: Mul(u, n), "build": lambda u: Build(n, u), "psi": lambda u: Psi(u, n, m),
    "inner": lambda u: moa("inner", ("add", "mul"), A, u, A), "let": lambda u: Let(n, u),
    "omega": lambda u: moa("omega", (1,), u, Var(0)),
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_deep_terms_do_not_exhaust_the_stack(wrap: Callable[[Term], Term]) -> None:
    term: Term = n
    for _ in range(5000):
        term = wrap(term)
    assert "…" in text(term, limit=500)
    assert pretty(term, limit=500)
    assert latex(term, limit=500)


def test_a_chain_is_elided_below_a_fixed_depth_whatever_the_limit() -> None:
    term: Term = m
    for _ in range(5000):
        term = Min(n, term)
    shown = text(term, limit=10**6)
    assert shown.endswith("n, min(…, …" + ")" * (show.DEEPEST + 1))


def test_the_deepest_term_of_a_file_can_be_marked() -> None:
    term: Term = m
    for _ in range(MAX_DEPTH - 1):
        term = Min(n, term)
    assert "⟦m⟧" in highlight(term, (1,) * (MAX_DEPTH - 1))


# --- layout ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 1000])
def test_pretty_is_text_with_other_spaces(width: int) -> None:
    for term in (attention_spec(), attention_dnf(True), *EXAMPLES.values()):
        squeezed = pretty(term, width)
        assert re.sub(r"\s", "", squeezed) == re.sub(r"\s", "", text(term))
        assert all(line == line.rstrip() for line in squeezed.splitlines())


@pytest.mark.parametrize("width", [70, 80, 100, 150])
def test_pretty_keeps_to_its_width_where_it_can(width: int) -> None:
    assert max(map(len, pretty(attention_dnf(True), width).splitlines())) <= width


def test_pretty_keeps_small_terms_on_a_line_and_marks_the_focus() -> None:
    assert pretty(F("add", x, y)) == "x + y"
    assert pretty(attention_spec(), focus=(1, 0)).splitlines()[1] == "let M = ⟦(max red)Ω<1> S⟧ in"


def test_signature_lists_the_inputs() -> None:
    masked = Where(Psi(In("mask", n, Add(m, ONE), sort="bool"), n, m), Psi(Q, n, m), scale)
    assert signature(masked) == ["Q: real <n dk>", "mask: bool <n (m + 1)>", "scale: real <>"]
