"""Tolerances: a certificate's bound at a call's data, against exact values and rationals, and where it refuses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from moaproof.errors import DigestMismatch, NotCovered
from moaproof.kernel.bound import Evaluation, Exact
from moaproof.runtime.attention import prepare, run, tiles
from moaproof.runtime.loader import load, package_folder
from moaproof.semantics import Numbers, meaning
from moaproof.testing import errors
from moaproof.testing.errors import (
    arithmetic_of,
    bounds_of,
    judge,
    kernel_tolerance,
    tolerance,
    torch_slack,
    torch_tolerance,
)  # fmt: skip
from moaproof.testing.oracles import enclosures
from moaproof.testing.strategies import REGIMES, Case, expand
from moaproof.testing.trial import tolerances
from moaproof.testing.vector import evaluate

NAMES = sorted(path.stem for path in package_folder("certs").glob("*.json"))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("regime", REGIMES)
def test_kernel_and_pytorch_are_within_their_own_bounds_of_the_exact_value(regime: str, dtype: str) -> None:
    case = Case(n=5, m=21, dk=5, dv=5, regime=regime, dtype=dtype, scale=0.75, seed=11)
    x = expand(case)
    call = prepare(x.q, x.k, x.v, scale=x.scale)
    sizes = call.sizes | tiles(call.sizes, call.dtype) | {"tk": 8, "bk": 3}
    exact, radius = enclosures(x)
    ours, theirs = tolerances(x, call, sizes)
    assert judge(run(call, sizes).numpy(), exact, ours + radius).accepted
    q, k, v = (t.double() for t in (x.q, x.k, x.v))
    for path in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
        with sdpa_kernel([path]):
            found = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=x.scale)
        assert judge(found.numpy(), exact, theirs + radius).accepted


# --- the vectorised evaluator -------------------------------------------------------------------------------


def small(name: str) -> tuple[dict[str, int], dict[str, np.ndarray[Any, Any]]]:
    """Sizes and inputs of a committed certificate, small and ragged."""
    c = load_any(name)
    sizes = {"b": 1, "h": 2, "g": 2, "r": 1, "n": 3, "m": 5, "dk": 2, "dv": 2}
    sizes |= {"mb": 1, "mh": 1, "mn": 3, "mm": 5, "sb": 0, "sh": 0, "sn": 1, "sm": 1}
    if name.startswith("gqa"):
        sizes |= {"h": 2, "g": 1, "r": 2}
    sizes |= {"ri": 1, "ty": 2, "rj": 1, "tx": 2, "rc": 1, "tq": 2, "tk": 2, "bk": 3, "bq": 2, "bp": 1}
    if name.endswith("split"):
        sizes |= {"bk": 2, "bp": 2}
    values = Numbers(sizes, {})
    rng = np.random.default_rng(len(name))
    inputs = {}
    for t in c.inputs:
        count = int(np.prod([meaning(s, (), (), (), values) for s in t.args], dtype=int))
        real = rng.standard_normal(count)
        inputs[t.data[0]] = real > 0 if t.data[1] == "bool" else real
    return sizes, inputs


def load_any(name: str) -> Any:
    target = "cuda" if "cuda" in name else "cpu"
    return load(name, "float64", target=target).certificate


@pytest.mark.parametrize("name", NAMES)
def test_the_arrays_are_the_exact_rationals_cell_by_cell(name: str) -> None:
    """The bound of every cell at once is at least that of exact rationals, and no more than a hair above."""
    target = "cuda" if "cuda" in name else "cpu"
    bound, _ = bounds_of(name, "float64", target) if name != "unshifted-online" else (unshifted(), None)
    sizes, inputs = small(name)
    arithmetic = arithmetic_of(target, "float64")
    found = tolerance(bound, arithmetic, sizes, inputs)
    lists = {k: x.tolist() for k, x in inputs.items()}
    for at in np.ndindex(found.shape):
        values = Numbers(sizes | {f"x{k}'": i for k, i in enumerate(at)}, lists)
        exact = Evaluation(
            arithmetic, sizes, Exact(lambda t, values=values: Fraction(meaning(t, (), (), (), values)))
        ).bound(bound.near)
        assert float(exact) <= found[at] <= float(exact) * (1 + 2.0**-28)


def unshifted() -> Any:
    c = load_any("unshifted-online")
    return errors.rounding_of(c, errors.facts_of(c), errors.Deciders())


def test_a_fold_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    bound, _ = bounds_of("causal-online", "float64")
    sizes, inputs = small("causal-online")
    shape = (1, 2, 3, 2)
    whole = evaluate(bound.near.size, sizes, inputs, shape)
    monkeypatch.setattr("moaproof.testing.vector.PIECE", 1)
    assert np.array_equal(evaluate(bound.near.size, sizes, inputs, shape), whole)
    assert not np.array_equal(whole[:, :, 0], whole[:, :, 2])  # the first row sees one key


# --- what it depends on, and where it refuses ----------------------------------------------------------------


def plain(n: int = 2, m: int = 3, d: int = 1, **given: Any) -> tuple[dict[str, int], dict[str, Any]]:
    sizes = {
        "b": 1,
        "h": 1,
        "g": 1,
        "r": 1,
        "n": n,
        "m": m,
        "dk": d,
        "dv": d,
        "tq": 8,
        "bq": 1,
        "tk": 2,
        "bk": -(-m // 2),
    }
    inputs = {"q": np.ones((n, d)), "k": np.ones((m, d)), "v": np.ones((m, d)), "scale": np.ones(())}
    return sizes, inputs | given


def test_the_bound_grows_with_the_data_and_the_sizes() -> None:
    sizes, inputs = plain()
    least = kernel_tolerance("attention-online", "float64", sizes, inputs)
    for name in inputs:
        assert (kernel_tolerance("attention-online", "float64", sizes, inputs | {name: 2 * inputs[name]}) > least).all()
    for more in ({"tk": 3}, {"bk": 3}):
        assert (kernel_tolerance("attention-online", "float64", sizes | more, inputs) > least).all()
    assert (kernel_tolerance("attention-online", "float32", sizes, inputs) > 1e8 * least).all()
    theirs = torch_tolerance("attention-online", "float64", sizes, inputs)
    longer = torch_tolerance("attention-online", "float64", *plain(m=100))
    assert (longer > theirs).all()
    assert torch_slack(65).exps == 3 > torch_slack(64).exps


def test_a_hidden_row_has_almost_no_bound_and_hidden_keys_do_not_count() -> None:
    sizes, inputs = plain(k=np.array([[1.0], [1e9], [1e9]]), v=np.array([[1.0], [1e9], [1e9]]))
    mask = np.array([[False, False, False], [True, False, False]])
    sizes |= {"mb": 1, "mh": 1, "mn": 2, "mm": 3, "sb": 0, "sh": 0, "sn": 1, "sm": 1}
    found = kernel_tolerance("masked-online", "float64", sizes, inputs | {"mask": mask})
    assert 0 <= found[0, 0, 0, 0] < 1e-300
    assert 0 < found[0, 0, 1, 0] < 1e-14
    causal = kernel_tolerance("causal-online", "float64", *plain(k=np.array([[1.0], [9.0], [1e9]])))
    assert causal[0, 0, 0, 0] < causal[0, 0, 1, 0] < 1e-13


@pytest.mark.parametrize("place", ["q", "k", "v"])
def test_values_that_could_overflow_are_refused(place: str) -> None:
    sizes, inputs = plain()
    kernel_tolerance("attention-online", "float32", sizes, inputs)
    with pytest.raises(NotCovered, match="error bound: a value on the way could overflow in float32"):
        kernel_tolerance("attention-online", "float32", sizes, inputs | {place: 1e39 * inputs[place]})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    sizes, inputs = plain()
    inputs["v"][0, 0] = bad
    with pytest.raises(NotCovered, match="error bound: v holds what is not finite"):
        kernel_tolerance("attention-online", "float64", sizes, inputs)


def test_too_many_keys_for_a_useful_bound_are_refused() -> None:
    sizes, inputs = plain(n=1)
    with pytest.raises(NotCovered, match="are too many"):
        kernel_tolerance("attention-rows", "float32", sizes | {"m": 2**24}, inputs | {"k": np.ones(1), "v": np.ones(1)})


def test_a_bound_that_the_certificate_does_not_state_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = load("attention-rows", "float64")
    other = replace(kernel, certificate=replace(kernel.certificate, rounding=None))
    monkeypatch.setattr(errors, "load", lambda *_, **__: other)
    bounds_of.cache_clear()
    try:
        with pytest.raises(DigestMismatch, match="not the one that the ONF has"):
            bounds_of("attention-rows", "float64")
    finally:
        bounds_of.cache_clear()


# --- the judgement -----------------------------------------------------------------------------------------

ONES = np.ones((2, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_accepted(bad: float) -> None:
    found = ONES.copy()
    found[1, 0] = bad
    assert not judge(found, ONES, 1e300 * ONES).accepted
    assert judge(found, ONES, ONES).index == (1, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reference_or_tolerance_that_is_not_finite_is_refused(bad: float) -> None:
    for due, limit in ((bad * ONES, ONES), (ONES, bad * ONES)):
        with pytest.raises(NotCovered, match="nothing can be compared"):
            judge(ONES, due, limit)


def test_judge_is_exact_at_its_edges() -> None:
    assert judge(ONES, ONES, 0 * ONES).accepted
    assert not judge(ONES, ONES + 1e-15, 0 * ONES).accepted
    assert judge(ONES, ONES + 0.5, 0.5 * ONES).accepted
    assert not judge(ONES, ONES + 0.5, 0.4999 * ONES).accepted
    assert judge(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2))).accepted
    with pytest.raises(NotCovered, match="shapes"):
        judge(ONES, np.ones(4), ONES)
