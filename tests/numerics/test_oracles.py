"""The oracles against one another, against decimal arithmetic, and against planted errors."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from importlib.resources import files

import flint
import numpy as np
import pytest
import torch

from moaproof.errors import BackendMissing, NotCovered
from moaproof.kernel.certificate import Certificate, parse
from moaproof.kernel.claims import CLAIMS, claim_of
from moaproof.semantics import Numbers, evaluate
from moaproof.term import TRUE, Build, F, Fold, In, Int, Lt, Real, Size, Term, Var
from moaproof.testing import oracles
from moaproof.testing.oracles import enclose, enclosure, enclosures, torch_of
from moaproof.testing.strategies import Inputs

NAMED = {
    "attention": "attention-rows",
    "causal attention": "causal-rows",
    "masked attention": "masked-rows",
    "grouped-query attention": "gqa-online",
    "causal grouped-query attention": "gqa-causal-online",
    "masked grouped-query attention": "gqa-masked-online",
    "attention with scale 1/sqrt(dk)": "scaled-online",
    "attention by an unshifted softmax": "unshifted-online",
    "one masked head": "one-head-online",
}
Balls = tuple[np.ndarray, np.ndarray]


@cache
def certificate(name: str) -> Certificate:
    return parse((files("moaproof.certs") / f"{name}.json").read_bytes())


def overlap(a: Balls, b: Balls) -> np.ndarray:
    """Element by element, in exact arithmetic: could both balls contain one number?"""
    assert a[0].shape == b[0].shape == a[1].shape == b[1].shape
    cells = zip(*(x.ravel().tolist() for x in (*a, *b)), strict=True)
    found = [abs(Fraction(m) - Fraction(n)) <= Fraction(r) + Fraction(s) for m, r, n, s in cells]
    return np.array(found, dtype=bool).reshape(a[0].shape)


# --- attention, against decimal arithmetic ---------------------------------------------------------


def decimal_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, scale: float | None, digits: int = 60
) -> list[list[Decimal]]:
    """The exact value to about 60 digits, by Python's decimal alone."""
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 2 * digits + 700, -(10**15), 10**15
        factor = 1 / Decimal(q.shape[1]).sqrt() if scale is None else Decimal(scale)
        Q, K, V = ([[Decimal(x) for x in row] for row in a.tolist()] for a in (q, k, v))
        out = []
        for i, row in enumerate(Q):
            keys = np.flatnonzero(seen[i]).tolist()
            s = {j: sum((x * y for x, y in zip(row, K[j], strict=True)), Decimal(0)) * factor for j in keys}
            context.prec = digits
            top = max(s.values(), default=Decimal(0))
            w = {j: (x - top).exp() for j, x in s.items()}
            total = sum(w.values(), Decimal(0))
            out.append([sum((w[j] * V[j][c] for j in keys), Decimal(0)) / (total or 1) for c in range(v.shape[1])])
            context.prec = 2 * digits + 700
        return out


def holds(due: list[list[Decimal]], found: Balls, V: float) -> np.ndarray:
    """Are the decimal values in the balls, but for what decimal arithmetic itself may have lost?"""
    slack = Fraction(V) * Fraction(1, 10**50)
    return np.array([
        [abs(Fraction(x) - Fraction(m)) <= Fraction(r) + slack for x, m, r in zip(*rows, strict=True)]
        for rows in zip(due, found[0].tolist(), found[1].tolist(), strict=True)
    ])  # fmt: skip


def drawn(regime: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float | None]:
    rng = np.random.default_rng(seed)
    n, m, dk, dv = 4, 9, 3, 2
    q, k, v = (rng.standard_normal(s) for s in ((n, dk), (m, dk), (m, dv)))
    seen, scale = np.ones((n, m), dtype=bool), 0.3
    match regime:
        case "millions":
            q *= 1e6
        case "close, and in millions":  # the scores differ by less than 1: all digits of them count
            q, k = np.rint(q * 1e3), 1e3 + k * 2.0**-20
        case "enormous":
            q, k = q * 1e200, k * 1e100
        case "subnormal":
            q, k, v = q * 1e-310, k * 1e-5, np.rint(v * 3) * 5e-324
        case "wide":
            v = v * 10.0 ** rng.integers(-300, 300, (m, 1))
        case "cancels":
            q, v = q * 0.0, np.concatenate([v[:4], -v[:4], [[1e-30, -1e-30]]])
        case "zeros":
            v = v * 0.0
        case "masked":
            seen = rng.random((n, m)) < 0.4
            seen[2] = False
        case "root":
            scale = None
        case "negative scale":
            scale = -2.0
    return q, k, v, seen, scale


REGIMES = ("normal", "millions", "close, and in millions", "enormous", "subnormal", "wide", "cancels", "zeros",
           "masked", "root", "negative scale")  # fmt: skip


@pytest.mark.parametrize("regime", REGIMES)
def test_balls_contain_the_value_that_decimal_arithmetic_finds(regime: str) -> None:
    x = drawn(regime)
    found = enclosure(*x)
    assert holds(decimal_attention(*x), found, float(abs(x[2]).max())).all()


@pytest.mark.parametrize("regime", REGIMES)
def test_radii_are_those_of_rounding_the_midpoints(regime: str) -> None:
    """At the default precision what the ball itself is wide is below 2^-60 of the greatest visible |v|."""
    q, k, v, seen, scale = drawn(regime, 1)
    for bits in (oracles.BITS, 4 * oracles.BITS):
        mid, radius = enclosure(q, k, v, seen, scale, bits)
        V = np.where(seen[:, :, None], abs(v), 0.0).max(axis=1)
        assert (radius <= np.spacing(abs(mid)) / 2 + V * 2.0**-59 + 2 * 5e-324).all()
        assert (radius[V == 0] == 0).all()


def test_too_few_bits_are_refused_not_returned() -> None:
    q, k, v, seen, scale = drawn("normal")
    with pytest.raises(NotCovered, match="oracle: query 0: 30 bits do not enclose its row sharply"):
        enclosure(q, k, v, seen, scale, bits=30)


def test_a_hidden_value_does_not_make_wide_balls_sharp() -> None:
    """2^-60 is of what a row sees: the huge value is the second row's alone."""
    q, k, v = np.ones((2, 1)), np.array([[0.0], [0.1], [0.2]]), np.array([[1.0], [2.0], [1e300]])
    seen = np.array([[True, True, False], [False, False, True]])
    with pytest.raises(NotCovered, match="query 0: 30 bits"):
        enclosure(q, k, v, seen, 0.3, bits=30)


def test_float64_itself_is_seen_to_be_inexact() -> None:
    """Scores of a million that are close: float64 without an error bound misses by far more than the radius."""
    q, k, v, seen, scale = drawn("close, and in millions")
    mid, radius = enclosure(q, k, v, seen, scale)
    s = q @ k.T * scale
    w = np.exp(s - s.max(axis=1, keepdims=True))
    assert (abs(w @ v / w.sum(axis=1, keepdims=True) - mid) > 1e3 * radius).any()


def exact(x: flint.arb) -> Fraction:
    mantissa, exponent = (int(part) for part in x.man_exp())
    return Fraction(mantissa) * Fraction(2) ** exponent


@pytest.mark.parametrize("power", [0, 60, -60, 1000, -1000, -1060, -1074, -1090])
def test_a_rounded_ball_lies_within_its_radius_exactly(power: int) -> None:
    rng = np.random.default_rng(power % 2**32)
    with flint.ctx.workprec(200):
        for _ in range(50):
            middle = flint.arb(int(rng.integers(-(2**62), 2**62))) * flint.arb(2) ** (power - 62)
            ball = flint.arb(
                middle, flint.arb(float(rng.random())) * flint.arb(2) ** (power - int(rng.integers(40, 90)))
            )
            mid, radius = oracles._rounded(ball)
            far = abs(exact(ball.mid()) - Fraction(mid)) + exact(ball.rad())
            assert far <= Fraction(radius)
            assert Fraction(radius) <= far * (1 + Fraction(1, 2**28)) + Fraction(5e-324)  # radii have 30 bits
    assert oracles._rounded(flint.arb(0.1)) == (0.1, 0.0)


def small_tail() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """The first key has all weight but about 1e-25, and value 0: the output is what the second contributes."""
    q, k = np.array([[1.0]]), np.array([[0.0], [math.log(1e-25)], [-1000.0]])
    return q, k, np.array([[0.0], [1.0], [1.0]]), np.ones((1, 3), dtype=bool), 1.0


def test_an_error_of_1e_25_is_seen() -> None:
    q, k, v, seen, scale = small_tail()
    due, found = decimal_attention(q, k, v, seen, scale), enclosure(q, k, v, seen, scale)
    assert abs(found[0][0, 0] - 1e-25) < 1e-38
    assert holds(due, found, 1.0).all()
    for changed in (
        enclosure(q, k, v, np.array([[True, False, True]]), scale),  # a key is dropped
        enclosure(q, k, v, seen, math.nextafter(1.0, 2.0)),  # the scale is off by its last bit
        (found[0] * (1 + 2.0**-51), found[1]),
        (found[0] + 1e-25, found[1]),
    ):
        assert not overlap(changed, found).any()
        assert not holds(due, changed, 1.0).any()


def test_the_greatest_and_the_least_numbers_stay_enclosed() -> None:
    """All values are the greatest float64: so is the output, though its sum would overflow."""
    q, k, seen = np.zeros((1, 1)), np.zeros((3, 1)), np.ones((1, 3), dtype=bool)
    top = sys.float_info.max
    mid, radius = enclosure(q, k, np.full((3, 1), top), seen, 1.0)
    assert mid[0, 0] == top
    assert radius[0, 0] <= top * 2.0**-60
    mid, radius = enclosure(q, k, np.full((3, 1), 5e-324), seen, 1.0)
    assert abs(mid[0, 0] - 5e-324) <= radius[0, 0] <= 5e-324


# --- what is hidden, and what is not finite --------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_hidden_is_never_touched(bad: float) -> None:
    q, k, v, seen, scale = drawn("masked")
    seen[:, 5] = False
    due = enclosure(q, k, v, seen, scale)
    k[5], v[5], q[2] = bad, bad, bad  # a key that no query sees, and the query that sees no key
    found = enclosure(q, k, v, seen, scale)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(due, found, strict=True))
    assert (found[0][2] == 0).all()
    assert (found[1][2] == 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["q", "k", "v", "scale"])
def test_what_is_visible_must_be_finite(place: str, bad: float) -> None:
    q, k, v, seen, scale = drawn("masked")
    seen[1, 5] = True
    x = {"q": q, "k": k, "v": v}
    if place == "scale":
        with pytest.raises(NotCovered, match="the scale is"):
            enclosure(q, k, v, seen, bad)
        return
    at = (1, 0) if place == "q" else (5, 1)
    x[place][at] = bad
    with pytest.raises(NotCovered, match=rf"oracle: {place}\[{at[0]}, {at[1]}\] is {bad}; what is visible must be"):
        enclosure(**x, seen=seen, scale=scale)


def case(
    mask: bool = False, causal: bool = False, scale: float | None = 0.3, dtype: torch.dtype = torch.float64
) -> Inputs:
    """Batch 2, 4 heads of 2 groups, 3 queries, 5 keys; the mask is broadcast over heads."""
    g = torch.Generator().manual_seed(7)
    q, k, v = (torch.randn(2, h, n, d, generator=g, dtype=dtype) for h, n, d in ((4, 3, 2), (2, 5, 2), (2, 5, 3)))
    seen = torch.rand(2, 1, 3, 5, generator=g) < 0.6 if mask else None
    return Inputs(q, k, v, seen, causal, scale)


def test_a_case_names_the_place_of_what_is_not_finite() -> None:
    x = case()
    x.v[1, 1, 4, 2] = math.inf
    with pytest.raises(NotCovered, match=r"oracle: batch 1, head 2: v\[4, 2\] is inf"):
        enclosures(x)


def test_no_scale_of_no_components_is_refused() -> None:
    x = Inputs(*(torch.zeros(1, 1, 2, d, dtype=torch.float64) for d in (0, 0, 1)), None, False, None)
    with pytest.raises(NotCovered, match="dk = 0; give a scale"):
        enclosures(x)
    with pytest.raises(NotCovered, match="dk = 0; give a scale"):
        enclosure(np.zeros((1, 0)), np.zeros((1, 0)), np.zeros((1, 1)), np.ones((1, 1), bool), None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["plain", "causal", "masked", "no scale"])
def test_pytorch_is_near_the_enclosure_of_a_case(kind: str, dtype: torch.dtype) -> None:
    x = case(kind == "masked", kind == "causal", None if kind == "no scale" else 0.3, dtype)
    mid, radius = enclosures(x)
    due = oracles.sdpa(x.q, x.k, x.v, x.mask, x.causal, x.scale)
    assert mid.shape == due.shape == (2, 4, 3, 3)
    assert abs(mid - due).max() <= 1e-14
    assert 0 < radius.max() <= 2.0**-52


@pytest.mark.parametrize("axis", range(6))
def test_any_axis_may_be_empty(axis: int) -> None:
    b, h, n, m, dk, dv = (0 if a == axis else 2 for a in range(6))
    shapes = (b, h, n, dk), (b, h, m, dk), (b, h, m, dv)
    x = Inputs(*(torch.ones(s, dtype=torch.float64) for s in shapes), None, False, 0.5)
    mid, _ = enclosures(x)
    assert mid.shape == (b, h, n, dv)
    assert (mid == float(m > 0)).all()


def test_precision_is_as_it_was() -> None:
    before = flint.ctx.prec
    enclosure(*drawn("normal"))
    for refused in (lambda: enclosure(*drawn("normal"), bits=5), lambda: enclose(ROOT_OF_LESS, {}, {})):
        with pytest.raises(NotCovered):
            refused()
    assert flint.ctx.prec == before


def test_without_python_flint_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flint", None)
    for oracle in (lambda: enclosure(*drawn("normal")), lambda: enclose(Real(1, 3), {}, {})):
        with pytest.raises(BackendMissing, match=r"pip install 'moaproof\[flint\]'"):
            oracle()


# --- the fast and the generic enclosure, on every named claim --------------------------------------


def test_every_named_claim_is_compared() -> None:
    assert set(NAMED) == set(CLAIMS)
    for claim, name in NAMED.items():
        c = certificate(name)
        assert claim_of(c.spec, c.hypotheses) == claim


def cases_of(claim: str) -> Iterator[tuple[dict[str, int], dict[str, np.ndarray], Balls]]:
    """Sizes, flat inputs and the fast enclosure: ragged, with hidden rows, and NaN where nothing is visible."""
    for seed, (n, m, dk, dv) in enumerate(((3, 5, 2, 3), (4, 2, 3, 1), (1, 3, 1, 2))):
        rng = np.random.default_rng(seed)
        head = "head" in claim
        b, g, r = (1, 1, 1) if head else (2, 2, 2 if "grouped" in claim else 1)
        h = g * r
        q, k, v = (rng.standard_normal(s) for s in ((b, h, n, dk), (b, g, m, dk), (b, g, m, dv)))
        scale = (0.3, -1.5, 1e6)[seed] if "unshifted" not in claim else 0.3
        sizes = {"b": b, "h": h, "g": g, "r": r, "n": n, "m": m, "dk": dk, "dv": dv}
        inputs = {"q": q, "k": k, "v": v, "scale": np.array([scale])}
        mask = None
        if "masked" in claim:
            steps = (1, 1, 1, 1) if head else ((1, 0, 1, 1), (0, 1, 1, 1), (0, 0, 1, 0))[seed]
            extents = [e if s else 1 for e, s in zip((b, h, n, m), steps, strict=True)]
            mask = rng.random(extents) < 0.6
            mask[..., 0, :] = False
            mask[..., -1] = False
            if steps[3]:
                k[..., -1, :], v[..., -1, :] = math.nan, math.inf
            inputs["mask"] = mask
            sizes |= {f"m{a}": e for a, e in zip("bhnm", extents, strict=True)}
            sizes |= {f"s{a}": s for a, s in zip("bhnm", steps, strict=True)}
        if "sqrt" in claim:
            seen = np.ones((n, m), dtype=bool)
            pairs = [[enclosure(q[i, j], k[i, j], v[i, j], seen, None) for j in range(h)] for i in range(b)]
            fast = tuple(np.array([[p[part] for p in row] for row in pairs]) for part in (0, 1))
        else:
            tensors = (torch.from_numpy(x) for x in (q, k, v))
            seen = None if mask is None else torch.from_numpy(mask)
            fast = enclosures(Inputs(*tensors, seen, "causal" in claim, scale))
        yield sizes, {name: x.ravel() for name, x in inputs.items()}, tuple(x[0, 0] for x in fast) if head else fast


@pytest.mark.parametrize("claim", CLAIMS)
def test_fast_and_generic_enclosures_overlap(claim: str) -> None:
    spec = certificate(NAMED[claim]).spec
    for sizes, inputs, fast in cases_of(claim):
        generic = enclose(spec, sizes, inputs)
        assert overlap(fast, generic).all()
        assert (abs(fast[1] - generic[1]) <= np.spacing(abs(fast[0])) * 2.0**-6).all()


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_planted_error_separates_them(claim: str) -> None:
    """A spacing of the greatest output, or another scale: nothing overlaps where it should not."""
    spec = certificate(NAMED[claim]).spec
    sizes, inputs, fast = next(cases_of(claim))
    top = np.unravel_index(int(abs(fast[0]).argmax()), fast[0].shape)
    off = fast[0].copy()
    off[top] = np.nextafter(off[top], math.inf)
    generic = enclose(spec, sizes, inputs)
    assert not overlap((off, fast[1] * 0.5), generic)[top]
    changed = "q" if "sqrt" in claim else "scale"
    other = enclose(spec, sizes, inputs | {changed: inputs[changed] * (1 + 2.0**-40)})
    visible = (fast[0] != 0) & (fast[1] > 0)
    assert not overlap(fast, other)[visible].all()


@pytest.mark.parametrize("name", ["attention-online", "causal-online", "masked-rows", "attention-cuda-split"])
def test_the_onf_has_the_value_of_the_spec(name: str) -> None:
    """Softmax states, tiles and quotients are enclosed too; a hidden row is exactly 0."""
    c = certificate(name)
    claim = claim_of(c.spec, c.hypotheses)
    sizes, inputs, fast = next(cases_of(claim or ""))
    for t in c.tilings:
        for f in t.factors:
            sizes.setdefault(f, 2)
        sizes[t.count] = -(-sizes[t.extent] // t.length(sizes))
    found = enclose(c.onf, sizes, inputs)
    assert overlap(found, fast).all()
    assert (found[1][fast[1] == 0] == 0).all()


# --- any Spec --------------------------------------------------------------------------------------


def root(x: int) -> Term:
    return F("sqrt", Real(x))


def square(x: Term) -> Term:
    return F("mul", x, x)


ROOT_OF_LESS = F("sqrt", F("sub", square(root(2)), Real(2)))  # of 0, which no ball of it knows


@pytest.mark.parametrize(
    ("term", "value"),
    [
        (Real(1, 3), Fraction(1, 3)),
        (F("neg", Real(1, 10)), Fraction(-1, 10)),
        (square(root(2)), Fraction(2)),
        (F("sub", square(root(3)), Real(3)), Fraction(0)),
        (F("sqrt", Real(0)), Fraction(0)),
        (F("div", root(8), root(2)), Fraction(2)),
        (F("max", square(root(2)), Real(2)), Fraction(2)),  # they overlap
        (F("max", Real(2), square(root(2))), Fraction(2)),
        (F("max", Real(-1), root(2)), None),
        (F("exp", Real(-1000)), None),
        (F("mul", F("exp", Real(700)), F("exp", Real(-700))), Fraction(1)),
        (Fold("mul", Int(3), F("add", Real(1, 3), Real(1))), Fraction(64, 27)),
    ],
)
def test_a_closed_term_is_enclosed(term: Term, value: Fraction | None) -> None:
    mid, radius = enclose(term, {}, {})
    assert mid.shape == radius.shape == ()
    if value is None:
        assert radius <= np.spacing(abs(mid)) * 0.51
        assert mid == pytest.approx(evaluate(term, Numbers({}, {}))[1][0], rel=1e-15)
    else:
        assert abs(Fraction(float(mid)) - value) <= Fraction(float(radius))
        assert radius <= max(np.spacing(abs(mid)) * 0.51, 5e-324)


def test_the_maximum_of_balls_that_overlap_contains_both() -> None:
    """At few bits the balls are wide: a maximum that took either of them would miss the other's part above."""
    with flint.ctx.workprec(20):
        algebra = oracles.Balls({}, {}, 10)
        a, b = flint.arb(1, 0.5), flint.arb(1.2, 0.1)
        for x, y in ((a, b), (b, a)):
            found = algebra.function("max", (x, y))
            assert found.contains(flint.arb(1.5))
            assert found.contains(flint.arb(1.1))
            assert not found.contains(flint.arb(1.75))
        assert algebra.function("max", (a, flint.arb(3))) == flint.arb(3)


X = In("x", Size("n"))


def over_n(element: Term) -> Term:
    return Build(Size("n"), element)


def at(array: Term, i: Term) -> Term:
    return Term("psi", None, (array, i))


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (F("div", Real(1), F("sub", square(root(2)), Real(2))), "a divisor may be 0"),
        (F("div", Real(1), Real(0)), "a divisor may be 0"),
        (ROOT_OF_LESS, "may be negative"),
        (F("sqrt", Real(-1)), "may be negative"),
        (F("exp", Real(1000)), "element 0 is beyond float64"),
        (F("exp", F("exp", root(2_000_000))), "element 0 is not enclosed sharply by 2048 bits"),
        (Fold("max", Int(0), Real(1)), "element 0 is the maximum of nothing"),
        (Lt(Int(0), Int(1)), "the Spec is a bool"),
        (Int(3), "the Spec is a index"),
        (Fold("add", Int(10**6), Real(1)), "more than 500000 elements"),
        (over_n(at(X, Var(0))), "no value is given for the sizes n"),
    ],
)
def test_what_is_not_enclosed_is_refused(term: Term, message: str) -> None:
    with pytest.raises(NotCovered, match=rf"oracle: .*{message}"):
        enclose(term, {}, {})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input x is missing; a flat array of 3 is due"),
        ({"x": np.ones(4)}, r"input x is of shape \(4,\)"),
        ({"x": np.ones((3, 1))}, r"input x is of shape \(3, 1\)"),
        ({"x": np.ones(3, dtype=bool)}, "input x is bool; a float is due"),
        ({"x": np.ones(3, dtype=np.complex128)}, "input x is complex128"),
        ({"x": np.ones(3, dtype=np.longdouble)}, "input x is "),
        ({"x": np.array([1.0, math.nan, 1.0])}, "x is nan at offset 1; what is read must be finite"),
    ],
)
def test_bad_inputs_are_refused(inputs: Mapping[str, np.ndarray], message: str) -> None:
    with pytest.raises(NotCovered, match=message):
        enclose(over_n(at(X, Var(0))), {"n": 3}, inputs)


def test_a_mask_must_be_boolean_and_hides_what_is_not_finite() -> None:
    seen = In("seen", Size("n"), sort="bool")
    total = Fold("add", Size("n"), at(X, Var(0)), at(seen, Var(0)))
    x = np.array([0.1, math.nan, 0.2])
    mid, radius = enclose(total, {"n": 3}, {"x": x, "seen": np.array([True, False, True])})
    assert abs(Fraction(float(mid)) - Fraction(0.1) - Fraction(0.2)) <= Fraction(float(radius))
    assert radius > 0  # the sum of these two is no float64
    for mask in (np.ones(3), np.ones(3, dtype=np.int8)):
        with pytest.raises(NotCovered, match=r"input seen is .*; bool is due"):
            enclose(total, {"n": 3}, {"x": x, "seen": mask})
    with pytest.raises(NotCovered, match="x is nan at offset 1"):
        enclose(Fold("add", Size("n"), at(X, Var(0)), TRUE), {"n": 3}, {"x": x})


def test_the_budget_is_the_callers() -> None:
    total = Fold("add", Size("n"), Real(1))
    assert enclose(total, {"n": 9}, {}, budget=10)[0] == 9
    with pytest.raises(NotCovered, match="more than 9 elements to evaluate; take smaller sizes"):
        enclose(total, {"n": 9}, {}, budget=9)


def test_float32_inputs_are_the_numbers_that_they_are() -> None:
    mid, radius = enclose(over_n(at(X, Var(0))), {"n": 1}, {"x": np.array([0.1], dtype=np.float32)})
    assert mid[0] == float(np.float32(0.1))
    assert radius[0] == 0


# --- PyTorch ---------------------------------------------------------------------------------------


def test_torch_of_computes_in_float64_without_a_graph() -> None:
    def function(q: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
        assert (q.dtype, mask.dtype, scale) == (torch.float64, torch.bool, 0.1)
        return torch.where(mask, q * scale, -q)

    q = torch.tensor([0.1, 0.2], dtype=torch.float32, requires_grad=True)
    found = torch_of(function, {"q": q, "mask": torch.tensor([True, False]), "scale": 0.1})
    assert found.dtype == np.float64
    assert found.tolist() == [float(np.float32(0.1)) * 0.1, -float(np.float32(0.2))]
    with pytest.raises(NotCovered, match="two returns a tuple; one tensor is covered"):
        torch_of(two, {})


def two() -> tuple[int, int]:
    return 1, 2
