"""The error model: against ball arithmetic that encloses the exact value, and where it must refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moaproof.errors import NotCovered
from moaproof.runtime.attention import prepare, run, tiles
from moaproof.testing.errors import FORMATS, Work, bound, judge, of_online, of_rows, of_torch
from moaproof.testing.oracles import enclosure, sdpa, visible
from moaproof.testing.strategies import REGIMES, Case, expand


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("regime", REGIMES)
def test_kernel_and_pytorch_are_within_their_own_bounds_of_the_exact_value(regime: str, dtype: str) -> None:
    case = Case(n=5, m=21, dk=5, dv=3, regime=regime, dtype=dtype, scale=0.75, seed=11)
    x = expand(case)
    call = prepare(x.q, x.k, x.v, scale=x.scale)
    sizes = call.sizes | tiles(call.sizes, call.dtype) | {"tk": 8, "bk": 3}
    q, k, v = (t.double().numpy()[0] for t in (x.q, x.k, x.v))
    seen = np.broadcast_to(visible(5, 21, None, causal=False)[0], (1, 5, 21))
    exact, radius = enclosure(q[0], k[0], v[0], seen[0], 0.75)
    for found, work, name in (
        (run(call, sizes).numpy(), of_online(21, 5, 8, 0.0), dtype),
        (sdpa(x.q, x.k, x.v, None, False, 0.75), of_torch(21, 5, 0.0), "float64"),
    ):
        verdict = judge(found[0], exact[None], bound(q, k, v, seen, 0.75, work, name) + radius)
        assert verdict.accepted, verdict


def test_the_enclosure_is_of_the_exact_value() -> None:
    """Two keys of scores 0 and log 3: weights 1/4 and 3/4; and a row without a visible key is 0."""
    q, k, v = np.array([[1.0], [1.0]]), np.array([[0.0], [math.log(3)]]), np.array([[0.0], [4.0]])
    mid, radius = enclosure(q, k, v, np.array([[True, True], [False, False]]), 1.0)
    assert abs(mid[0, 0] - 3.0) <= 2.0**-50
    assert radius[0, 0] <= 2.0**-50
    assert (mid[1, 0], radius[1, 0]) == (0.0, 0.0)


def test_first_order_terms() -> None:
    """For zero scores the bound is V (2(1+K)eps + (2(a+K) + p + 1)u + 2u ln n) and terms of second order."""
    n, u = 64, FORMATS["float64"].u
    q, k, v = np.zeros((1, 1, 4)), np.zeros((1, n, 4)), np.full((1, n, 1), 3.0)
    work = Work(d=6, a=40, k=5, p=1, sigma=0.0)
    found = bound(q, k, v, np.ones((1, 1, n), dtype=bool), 0.5, work, "float64")[0, 0, 0]
    first = 3.0 * (2 * (1 + 5) * 2 * u + (2 * (40 + 5) + 1 + 1) * u + 2 * u * math.log(n))
    assert first <= found <= first * 1.001


def test_the_bound_grows_with_each_count() -> None:
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((1, 3, 4)), rng.standard_normal((1, 9, 4)), rng.standard_normal((1, 9, 2))
    seen = np.ones((1, 3, 9), dtype=bool)
    base = {"d": 6, "a": 9, "k": 2, "p": 1, "sigma": 0.0, "eps": 2.0}
    least = bound(q, k, v, seen, 1.0, Work(**base), "float64")
    for name, more in (("d", 7), ("a", 10), ("k", 3), ("p", 2), ("sigma", 1e-15), ("eps", 3.0)):
        assert (bound(q, k, v, seen, 1.0, Work(**(base | {name: more})), "float64") > least).all(), name
    assert (bound(q, k, v, seen, 1.0, Work(**base), "float32") > 1e8 * least).all()


def test_counts_of_the_kernels() -> None:
    assert of_online(m=200, dk=64, tk=96, sigma=0.0) == Work(d=66, a=99, k=3, p=1, sigma=0.0)
    assert of_rows(m=200, dk=64, sigma=0.0) == Work(d=66, a=200, k=0, p=2, sigma=0.0)


def test_a_hidden_row_has_bound_zero_and_hidden_keys_do_not_count() -> None:
    q, k, v = np.ones((1, 2, 1)), np.array([[[1.0], [1e9]]]), np.array([[[1.0], [np.nan]]])
    seen = np.array([[[False, False], [True, False]]])
    found = bound(q, k, v, seen, 1.0, of_online(2, 1, 2, 0.0), "float64")
    assert found[0, 0, 0] == 0.0
    assert 0.0 < found[0, 1, 0] < 1e-14


@pytest.mark.parametrize("place", ["q", "k", "v"])
def test_values_that_could_overflow_are_refused(place: str) -> None:
    x = {"q": np.ones((1, 2, 1)), "k": np.ones((1, 3, 1)), "v": np.ones((1, 3, 1))}
    seen = np.ones((1, 2, 3), dtype=bool)
    bound(**x, visible=seen, scale=1.0, work=of_online(3, 1, 2, 0.0), dtype="float32")
    x[place] = x[place] * 1e39
    with pytest.raises(NotCovered, match="error model: a score or a sum of values could overflow in float32"):
        bound(**x, visible=seen, scale=1.0, work=of_online(3, 1, 2, 0.0), dtype="float32")


def test_too_many_keys_for_a_useful_bound_are_refused() -> None:
    x = {"q": np.ones((1, 1, 1)), "k": np.ones((1, 1, 1)), "v": np.ones((1, 1, 1))}
    with pytest.raises(NotCovered, match="too many for a useful bound"):
        bound(**x, visible=np.ones((1, 1, 1), bool), scale=1.0, work=of_rows(2**24, 1, 0.0), dtype="float32")


ONES = np.ones((2, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_accepted(bad: float) -> None:
    found = ONES.copy()
    found[1, 0] = bad
    assert not judge(found, ONES, 1e300 * ONES).accepted
    assert judge(found, ONES, ONES).index == (1, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reference_or_tolerance_that_is_not_finite_is_refused(bad: float) -> None:
    for due, tolerance in ((bad * ONES, ONES), (ONES, bad * ONES)):
        with pytest.raises(NotCovered, match="nothing can be compared"):
            judge(ONES, due, tolerance)


def test_judge_is_exact_at_its_edges() -> None:
    assert judge(ONES, ONES, 0 * ONES).accepted
    assert not judge(ONES, ONES + 1e-15, 0 * ONES).accepted
    assert judge(ONES, ONES + 0.5, 0.5 * ONES).accepted
    assert not judge(ONES, ONES + 0.5, 0.4999 * ONES).accepted
    assert judge(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2))).accepted
    with pytest.raises(NotCovered, match="shapes"):
        judge(ONES, np.ones(4), ONES)
