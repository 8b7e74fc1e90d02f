"""The stated policy on NaN, infinity, empty rows and empty axes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn.functional import scaled_dot_product_attention

from moaproof import attention
from moaproof.testing.laws import Kernel, shipped
from moaproof.testing.profiles import profile
from moaproof.testing.strategies import Case, Inputs, cases, due_nan, expand, sanitised, seen, touched

BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


Q, K, V = draw(1, 1, 5, 4), draw(1, 1, 7, 4), draw(1, 1, 7, 3)


# --- the policy, of drawn cases --------------------------------------------------------------------


def violation(kernel: Kernel, x: Inputs) -> str:
    """What of the policy does not hold: "" if all of it does."""
    y = sanitised(x)
    found, due = (kernel(t.q, t.k, t.v, mask=t.mask, causal=t.causal, scale=t.scale).numpy() for t in (x, y))
    free = ~touched(x)
    if found[free].tobytes() != due[free].tobytes():
        return "what has no influence changes bits"
    if not np.isnan(found[due_nan(x)]).all():
        return "a visible NaN is lost"
    return "" if not found[~seen(x).any(-1)].any() else "a row that sees no key is not 0"


@pytest.mark.parametrize(
    ("kind", "special"),
    [("plain", "visible"), ("causal", "visible"), ("causal", "masked"), ("masked", "visible"), ("masked", "masked")],
)
def test_the_policy_holds_for_attention(kind: str, special: str) -> None:
    """Outside what a visible NaN or infinity reaches, the bits are those of the inputs without any."""
    count = Counter[str]()

    @settings(profile("quick", 30))
    @given(cases(kinds=(kind,), dtypes=("float64",), groups=(1,), specials=(special,)))
    def property_of(case: Case) -> None:
        x = expand(case)
        assert violation(shipped, x) == ""
        odd = not all(bool(torch.isfinite(t).all()) for t in (x.q, x.k, x.v))
        count.update(odd=odd, free=odd and bool((~touched(x)).any()), nan=bool(due_nan(x).any()))

    property_of()
    assert count["odd"] >= 8
    assert count["free"] >= 4
    assert (count["nan"] >= 4) == (special == "visible")


def forgets(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    return shipped(*(torch.nan_to_num(t) for t in (q, k, v)), **options)


def multiplies(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None, causal: bool = False, scale: Any = None
) -> torch.Tensor:
    """PyTorch's own: weight 0 times what is hidden."""
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)


def means(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    """A large negative number for what is hidden: a row that sees no key is the mean of the values."""
    out = shipped(q, k, v, **options)
    empty = torch.from_numpy(~seen(Inputs(q, k, v, options["mask"], options["causal"], None)).any(-1))
    return torch.where(empty[..., None], v.mean(2, keepdim=True), out)


@pytest.mark.parametrize(
    ("kernel", "case", "message"),
    [
        (forgets, Case(special="visible", seed=1), "a visible NaN is lost"),
        (multiplies, Case(kind="masked", pattern="keys", special="masked"), "what has no influence changes bits"),
        (multiplies, Case(kind="causal", m=5, special="masked"), "what has no influence changes bits"),
        (means, Case(kind="masked", pattern="rows", steps=(0, 0, 1, 0)), "a row that sees no key is not 0"),
    ],
    ids=["forgets", "multiplies masked", "multiplies causal", "means"],
)
def test_a_kernel_of_another_policy_is_noticed(kernel: Any, case: Case, message: str) -> None:
    assert violation(shipped, expand(case)) == ""
    assert violation(kernel, expand(case)) == message


# --- place by place --------------------------------------------------------------------------------


@BAD
def test_a_masked_key_has_no_influence_whatever_it_holds(bad: float) -> None:
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[:, 2] = mask[:, 6] = False
    due = attention(Q, K, V, attn_mask=mask)
    k, v = K.clone(), V.clone()
    k[0, 0, [2, 6]] = bad
    v[0, 0, [2, 6]] = bad
    assert torch.equal(attention(Q, k, v, attn_mask=mask), due)
    assert due.isfinite().all()


@BAD
def test_a_key_above_the_diagonal_has_no_influence(bad: float) -> None:
    due = attention(Q, K, V, is_causal=True)
    k, v = K.clone(), V.clone()
    k[0, 0, 3] = bad
    v[0, 0, 3] = bad
    found = attention(Q, k, v, is_causal=True)
    assert torch.equal(found[0, 0, :3], due[0, 0, :3])
    assert not found[0, 0, 3:].isfinite().all(-1).any()


def test_nan_in_a_query_or_visible_key_makes_the_row_nan() -> None:
    q, k = Q.clone(), K.clone()
    q[0, 0, 1, 2] = math.nan
    k[0, 0, 4, 0] = math.nan
    assert attention(q, K, V)[0, 0].isnan().all(-1).tolist() == [False, True, False, False, False]
    assert attention(Q, k, V).isnan().all()


def test_nan_in_a_visible_value_makes_its_column_nan() -> None:
    v = V.clone()
    v[0, 0, 4, 1] = math.nan
    found = attention(Q, K, v)
    assert found[..., 1].isnan().all()
    assert torch.equal(found[..., [0, 2]], attention(Q, K, V)[..., [0, 2]])


def test_a_score_that_overflows_gives_nan_or_the_limit_and_other_rows_are_untouched() -> None:
    q = Q.clone()
    q[0, 0, 2] = 1e200
    k = K.clone()
    k[0, 0, 5] = 1e200
    found, due = attention(q, k, V)[0, 0], attention(Q, k, V)[0, 0]
    assert found[2].isnan().all() or torch.equal(found[2], V[0, 0, 5])
    rest = [0, 1, 3, 4]
    assert found[rest].isnan().equal(due[rest].isnan())


def test_great_scores_do_not_overflow_the_exponential() -> None:
    k = torch.zeros(1, 1, 3, 4, dtype=torch.float64)
    k[0, 0, 1] = 1e150
    q = torch.full((1, 1, 2, 4), 1e150, dtype=torch.float64)
    assert torch.equal(attention(q, k, V[:, :, :3]), V[:, :, 1:2].expand(1, 1, 2, 3))


def test_a_row_without_a_visible_key_is_zero() -> None:
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[3] = False
    found = attention(Q, K, V, attn_mask=mask)
    assert (found[0, 0, 3] == 0).all()
    assert (found[0, 0, [0, 1, 2, 4]] != 0).all()
    assert (attention(Q, K, V, attn_mask=torch.zeros(1, 1, dtype=torch.bool)) == 0).all()


@BAD
def test_a_query_without_a_visible_key_has_no_influence_whatever_it_holds(bad: float) -> None:
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[3] = False
    q = Q.clone()
    q[0, 0, 3] = bad
    assert torch.equal(attention(q, K, V, attn_mask=mask), attention(Q, K, V, attn_mask=mask))


@pytest.mark.parametrize("n", [0, 1, 4, 9])
@pytest.mark.parametrize("m", [0, 1, 4, 9])
def test_causal_is_aligned_top_left(n: int, m: int) -> None:
    q, k, v = draw(1, 2, n, 4), draw(1, 2, m, 4), draw(1, 2, m, 3)
    found = attention(q, k, v, is_causal=True)
    assert torch.equal(found[:, :, :1], v[:, :, :1] if m else torch.zeros_like(found[:, :, :1])) or n == 0
    torch.testing.assert_close(found, scaled_dot_product_attention(q, k, v, is_causal=True), rtol=0, atol=1e-14)


@pytest.mark.parametrize("axis", ["b", "h", "n", "m", "dk", "dv"])
def test_any_axis_may_be_empty(axis: str) -> None:
    s = {"b": 2, "h": 2, "n": 3, "m": 5, "dk": 4, "dv": 3} | {axis: 0}
    q = draw(s["b"], s["h"], s["n"], s["dk"])
    k = draw(s["b"], s["h"], s["m"], s["dk"])
    v = draw(s["b"], s["h"], s["m"], s["dv"])
    found = attention(q, k, v, scale=0.5)
    assert found.shape == (s["b"], s["h"], s["n"], s["dv"])
    if axis == "m":
        assert (found == 0).all()
    if axis == "dk":  # no components: every weight is 1/m
        torch.testing.assert_close(found, v.mean(2, keepdim=True).expand(found.shape), rtol=0, atol=1e-15)
