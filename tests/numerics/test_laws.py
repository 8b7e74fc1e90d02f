"""Metamorphic laws: each holds for every kind of ``attention``, and each is broken by kernels that are wrong.

The wrong kernels are a right one, written with NumPy, with one fault each; that one keeps all the laws.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from moaproof.errors import NotCovered
from moaproof.testing import laws
from moaproof.testing.laws import LAWS, Law, broken, shipped
from moaproof.testing.profiles import profile
from moaproof.testing.strategies import Case, Inputs, cases, expand, seen

BY_NAME = {law.name: law for law in LAWS}
NAMES = [law.name for law in LAWS]
Array = np.ndarray[Any, Any]


def holds(law: Law, case: Case) -> bool:
    """Whether a bound says something of the case; it fails if the law does not hold."""
    try:
        verdict = law(shipped, expand(case), seed=case.seed)
    except NotCovered as e:
        if not str(e).startswith("error bound"):
            raise
        return False
    assert verdict.accepted, (law.name, verdict)
    return True


# --- every law holds -------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
@pytest.mark.parametrize("kind", ["plain", "causal", "masked"])
def test_a_law_holds_for_attention(kind: str, law: Law) -> None:
    judged = []

    @settings(profile("quick", 12))
    @given(cases(kinds=(kind,), dtypes=("float64",), groups=(1,), heads=(2, 1, 5), specials=("none", "masked")))
    def property_of(case: Case) -> None:
        judged.append(holds(law, case))

    property_of()
    assert sum(judged) >= 7


@pytest.mark.parametrize("name", [name for name in NAMES if name != "hidden-keys"])
def test_a_law_holds_in_float32(name: str) -> None:
    """Without a mask: each kernel takes seconds to compile."""
    for seed, regime in enumerate(("x30", "rising")):
        assert holds(BY_NAME[name], Case(b=2, g=2, n=5, m=70, dk=4, regime=regime, dtype="float32", seed=seed))


def test_the_comparison_kernel_keeps_every_law() -> None:
    for case in CASES:
        assert broken(plain(), expand(case)) == {}


# --- every law is broken ---------------------------------------------------------------------------


CASES = (
    Case(b=2, g=2, n=19, m=37, dk=8, dv=4, regime="ties", seed=1),
    Case(b=1, g=2, n=6, m=9, dk=3, dv=4, kind="masked", pool="one-sign", seed=2),
    Case(b=2, g=1, n=7, m=12, dk=3, dv=4, kind="causal", seed=3),
    Case(b=1, g=1, n=9, m=40, dk=3, dv=4, regime="x30", seed=4),
    Case(b=1, g=1, n=5, m=6, dk=3, dv=4, kind="masked", pattern="rows", seed=5),  # rows that see no key
)
count = itertools.count()


def stable(s: Array) -> Array:
    return np.exp(s - np.maximum(s.max(axis=-1, initial=-np.inf, keepdims=True), -1e300))


def divided(w: Array, v: Array) -> Array:
    total = w.sum(axis=-1, keepdims=True)
    return np.divide(w @ v, total, out=np.zeros((*w.shape[:-1], v.shape[-1])), where=total > 0)


def plain(
    *,
    keys: Callable[[Array], Array] = lambda k: k,
    values: Callable[[Array], Array] = lambda v: v,
    weights: Callable[[Array], Array] = stable,
    mean: Callable[[Array, Array], Array] = divided,
    out: Callable[[Array], Array] = lambda o: o,
    hides: Callable[[Array, Array], tuple[Array, Array]] = lambda k, v: (
        np.nan_to_num(k, posinf=0, neginf=0),
        np.nan_to_num(v, posinf=0, neginf=0),
    ),
) -> laws.Kernel:
    """Attention with NumPy in float64, whose parts can be replaced.

    One batch and key head at a time, and one row after the other: a matrix product has other bits in other company.
    """  # fmt: skip

    def kernel(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False,
        scale: float | None = None,
    ) -> torch.Tensor:  # fmt: skip
        see, factor = seen(Inputs(q, k, v, mask, causal, scale)), scale if scale is not None else q.shape[3] ** -0.5
        found = np.zeros((*q.shape[:3], v.shape[3]))
        with np.errstate(all="ignore"):
            for at in np.ndindex(*q.shape[:3]):
                head = at[0], at[1] // (q.shape[1] // k.shape[1])
                kk, vv = hides(keys(k[head].numpy().copy()), values(v[head].numpy().copy()))
                s = np.where(see[at], (q[at].numpy() * kk).sum(axis=1) * factor, -np.inf)
                found[at] = mean(weights(s)[None], vv)[0]
            return torch.from_numpy(out(found))

    return kernel


def by_number(x: Array) -> Array:
    """A row or key that knows its number: 1e-9 more for each."""
    return x + 1e-9 * np.arange(x.shape[-2])[:, None]


def ulp(x: Array, wanted: Any) -> Array:
    return np.where(wanted, np.nextafter(x, np.inf), x)


def writing(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    """The next run has the same products, and so the same bits."""
    out = plain()(q, k, v, **options)
    q.mul_(-1.0)
    k.mul_(-1.0)
    return out


def sdpa(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None, causal: bool = False, scale: Any = None
) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)


def added(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None, causal: bool = False, scale: Any = None
) -> Any:
    """Hidden values are not read, but hidden keys are: NaN and -inf is NaN."""
    see = torch.from_numpy(seen(Inputs(q, k, v, mask, causal, scale)))
    bias = torch.where(see, 0.0, -torch.inf).to(q.dtype)
    return sdpa(q, k, torch.nan_to_num(v, posinf=0.0, neginf=0.0), bias, scale=scale)


def dropped(w: Array) -> Array:
    return np.where(w < 1e-3 * w.max(axis=-1, keepdims=True, initial=0.0), 0.0, w)


FAULTS: dict[str, dict[str, laws.Kernel]] = {
    "key-order": {
        "a key knows its number": plain(keys=by_number),
        "the last key is dropped": plain(values=lambda v: np.where(np.arange(len(v))[:, None] == len(v) - 1, 0, v)),
        "values summed in float32 in groups of four": plain(
            mean=lambda w, v: divided(w, v) + (w[:, :4] @ v[:4]).astype(np.float32) - w[:, :4] @ v[:4]
        ),
    },
    "score-shift": {
        "exp without its maximum": plain(weights=np.exp),
        "scores clipped at 50": plain(weights=lambda s: stable(np.minimum(s, 50.0))),
        "exp of the maximum apart": plain(weights=lambda s: np.exp(s) * np.exp(-s.max(initial=-1e300))),
    },
    "hull": {
        "the mean of the values where no key is seen": plain(
            mean=lambda w, v: divided(w, v) if w.any() else v.mean(axis=0, keepdims=True)
        ),
        "weights that are not normalised": plain(mean=lambda w, v: w @ v),
        "a bias of 1e-9": plain(out=lambda o: o + 1e-9),
        "denominator + 1e-8": plain(mean=lambda w, v: w @ v / (w.sum(-1, keepdims=True) + 1e-8)),
    },
    "linearity": {
        "a bias of 1e-9": plain(out=lambda o: o + 1e-9),
        "the absolute value": plain(values=np.abs),
        "values clipped at 1": plain(values=lambda v: np.clip(v, -1.0, 1.0)),
        "output in float32": plain(out=lambda o: o.astype(np.float32).astype(np.float64)),
    },
    "split-merge": {
        "denominator + 1e-8": plain(mean=lambda w, v: w @ v / (w.sum(-1, keepdims=True) + 1e-8)),
        "the mean of the values": plain(weights=lambda s: np.where(np.isfinite(s), 1.0, 0.0)),
        "exp in float32": plain(weights=lambda s: np.exp((s - max(s.max(initial=-np.inf), -1e300)).astype(np.float32))),
        "small weights dropped": plain(weights=lambda s: dropped(stable(s))),
    },
    "queries": {"a row knows its number": plain(out=by_number), "a head knows its number": plain(
        out=lambda o: o + 1e-9 * np.arange(o.shape[1])[:, None, None])},
    "hidden-keys": {
        "0 times what is hidden": plain(hides=lambda k, v: (k, v)),
        "a hidden key has weight 1e-30": plain(weights=lambda s: np.maximum(stable(s), 1e-30)),
        "PyTorch's own": sdpa,
        "a mask that is added to the scores": added,
    },
    "query-bits": {
        "one unit in the last place, in a batch": plain(out=lambda o: ulp(o, len(o) > 1)),
        "one unit in the last place, in even rows": plain(
            out=lambda o: ulp(o, np.arange(o.shape[2])[:, None] % 2 == 0)
        ),
    },
    "repeatability": {
        "one unit in the last place, every second time": plain(out=lambda o: ulp(o, next(count) % 2 == 0)),
        "it writes its input": writing,
    },
    "threads": {"one unit in the last place, by PyTorch's threads": plain(
        out=lambda o: ulp(o, torch.get_num_threads() > 1))},
}  # fmt: skip


def test_every_law_has_a_name_a_row_in_the_documentation_and_a_fault_planted() -> None:
    rows = {line.split("  ")[0]: line.split()[1] for line in (laws.__doc__ or "").splitlines() if "   " in line}
    for law in LAWS:
        assert rows[law.name] == ("yes" if law.exact else "no")
        assert FAULTS[law.name]
    assert len(FAULTS) == len(BY_NAME) == len(LAWS)


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name in FAULTS for fault in FAULTS[name]])
def test_a_planted_fault_breaks_its_law(name: str, fault: str) -> None:
    verdicts = [BY_NAME[name](FAULTS[name][fault], expand(case), seed=case.seed) for case in CASES]
    assert not all(v.accepted for v in verdicts), verdicts


def test_a_fault_in_rounding_breaks_no_law_that_has_a_tolerance() -> None:
    """One unit in the last place more: the bits are others, and the laws with a tolerance hold.

    In all cases but the last, which has rows without a key: those are 0 and nothing else.
    """
    for name in ("one unit in the last place, in a batch", "one unit in the last place, in even rows"):
        found = [set(broken(FAULTS["query-bits"][name], expand(case), seed=case.seed)) for case in CASES[:-1]]
        assert set().union(*found) == {"query-bits"}


def test_usual_tolerances_accept_what_the_laws_refuse() -> None:
    """allclose's defaults pass a bias of 1e-9 and a changed denominator."""
    x = expand(CASES[2])
    due = plain()(x.q, x.k, x.v, causal=True)
    for law, fault in (("hull", "a bias of 1e-9"), ("split-merge", "denominator + 1e-8")):
        assert torch.allclose(FAULTS[law][fault](x.q, x.k, x.v, causal=True), due)
        assert BY_NAME[law](FAULTS[law][fault], x).ratio > 1e3


# --- what a law refuses, and its own parts ---------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
@pytest.mark.parametrize("gives", [float("nan"), float("inf")])
def test_a_kernel_that_gives_no_numbers_breaks_every_law_with_a_tolerance(law: Law, gives: float) -> None:
    def kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((*q.shape[:3], v.shape[3]), gives, dtype=v.dtype)

    assert law(kernel, expand(CASES[0])).accepted == law.exact  # the same bits everywhere


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
@pytest.mark.parametrize("out", [torch.zeros(1, 1, 3, 1), torch.zeros(1, 1, 3, 2, dtype=torch.int64), 0.0])
def test_an_output_of_another_kind_is_refused(law: Law, out: Any) -> None:
    with pytest.raises(NotCovered, match=r"^law: the kernel returned .*; a floating-point tensor of shape \(1, 1, "):
        law(lambda *_, **__: out, expand(Case()))


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
@pytest.mark.parametrize("axis", ["b", "n", "m", "dv"])
def test_a_law_holds_where_an_axis_is_empty(law: Law, axis: str) -> None:
    assert law(shipped, expand(Case(**{axis: 0}))).accepted


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
def test_a_law_leaves_its_inputs_alone(law: Law) -> None:
    x, y = expand(CASES[1]), expand(CASES[1])
    law(plain(), x, seed=3)
    assert all(torch.equal(a, b) for a, b in zip((x.q, x.k, x.v, x.mask), (y.q, y.k, y.v, y.mask), strict=True))


def test_a_law_draws_what_its_seed_says() -> None:
    def recorded(seed: int) -> list[bytes]:
        keys: list[bytes] = []

        def kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
            keys.append(k.contiguous().numpy().tobytes())
            return plain()(q, k, v, **options)

        BY_NAME["key-order"](kernel, expand(CASES[3]), seed=seed)
        return keys

    assert recorded(1) == recorded(1)
    assert recorded(1)[1] != recorded(2)[1]


def test_the_bounds_of_both_sides_decide() -> None:
    """A law without a bound refuses any change of bits; with a wide one it accepts a wrong kernel."""

    def all_of(x: Inputs, value: float) -> tuple[Array, Array]:
        shape = (*x.q.shape[:3], x.v.shape[3])
        return np.full(shape, value), np.zeros(shape)

    x, bias = expand(CASES[0]), FAULTS["hull"]["a bias of 1e-9"]
    assert not BY_NAME["linearity"](plain(), x, lambda y: all_of(y, 0.0)).accepted
    assert not BY_NAME["linearity"](bias, x).accepted
    assert BY_NAME["linearity"](bias, x, lambda y: all_of(y, 1e-9)).accepted


def test_threads_are_set_back() -> None:
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    seen_by: set[int] = set()

    def kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> torch.Tensor:
        seen_by.add(torch.get_num_threads())
        if len(seen_by) > 1:
            raise KeyboardInterrupt
        return torch.zeros(*q.shape[:3], v.shape[3])

    try:
        with pytest.raises(KeyboardInterrupt):
            BY_NAME["threads"](kernel, expand(Case()))
        assert len(seen_by) == 2
        assert (numba.get_num_threads(), torch.get_num_threads()) == (1, before[1])
    finally:
        numba.set_num_threads(before[0])
