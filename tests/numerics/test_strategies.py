"""Strategies: what 300 cases see, what they shrink to, and that a case's numbers are what their names say."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, find, given, settings

from moaproof.errors import CertificateInvalid
from moaproof.runtime.attention import KEYS
from moaproof.testing import strategies
from moaproof.testing.profiles import profile
from moaproof.testing.strategies import (
    DIRECTED,
    FITS,
    KINDS,
    LAYOUTS,
    NEEDED,
    PATTERNS,
    POOLS,
    REGIMES,
    RELATIONS,
    SPECIALS,
    Case,
    cases,
    due_nan,
    expand,
    fit,
    pattern,
    sanitised,
    scores,
    seen,
    touched,
    values,
)


def drawn(count: int, **narrowed: Any) -> list[Case]:
    """The same cases on every run."""
    found: list[Case] = []

    @settings(profile("quick", count))
    @given(cases(**{"specials": SPECIALS} | narrowed))
    def keep(case: Case) -> None:
        found.append(case)

    keep()
    return found


# --- what is drawn ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_hundred() -> list[Case]:
    return drawn(300)


@pytest.mark.parametrize(
    ("names", "of"),
    [
        (KINDS, lambda c: c.kind),
        (RELATIONS, lambda c: c.relation),
        (REGIMES, lambda c: c.regime),
        (POOLS, lambda c: c.pool),
        (LAYOUTS, lambda c: c.layout),
        (SPECIALS, lambda c: c.special),
        (PATTERNS, lambda c: c.pattern if c.kind == "masked" else None),
        (FITS, lambda c: fit(c.n, c.tq)),
        (FITS, lambda c: fit(c.m, c.tk)),
        (("float64", "float32"), lambda c: c.dtype),
        ((0, 1), lambda c: int(c.b * c.n * c.m > 0)),
    ],
    ids=["kind", "relation", "regime", "pool", "layout", "special", "pattern", "tq", "tk", "dtype", "not empty"],
)
def test_300_cases_see_every_name(three_hundred: list[Case], names: tuple[Any, ...], of: Any) -> None:
    """And each at least a twelfth as often as if all were equally likely."""
    count = Counter(of(c) for c in three_hundred)
    due = (count.total() - count.pop(None, 0)) / len(names) / 12
    assert set(count) == set(names)
    assert min(count.values()) >= due, count


def test_300_cases_see_interesting_pairs(three_hundred: list[Case]) -> None:
    full = [c for c in three_hundred if c.b * c.n * c.m > 0]
    assert {(c.kind, c.relation) for c in full} == {(k, r) for k in KINDS for r in RELATIONS}
    assert {(c.kind, c.special) for c in full} >= {(k, s) for k in KINDS for s in ("none", "visible")}
    assert len({(c.regime, c.pool) for c in full}) >= len(REGIMES) * len(POOLS) // 2
    some = [seen(expand(c)).any(-1) for c in full if c.kind == "masked"]
    assert any(rows.any() and not rows.all() for rows in some)  # rows that see nothing among others
    for kind in ("causal", "masked"):
        assert any(c.special == "masked" for c in drawn(60, kinds=(kind,), relations=("fewer",)))


def test_what_makes_no_sense_is_not_drawn(three_hundred: list[Case]) -> None:
    for c in three_hundred:
        assert c.special != "masked" or c.kind == "masked" or (c.kind == "causal" and c.n < c.m)
        assert c.special != "visible" or c.n * c.m > 0
        assert c.kind == "masked" or (c.pattern, c.steps) == ("random", (1, 1, 1, 1))
        assert all(c.steps[axis] for axis in NEEDED.get(c.pattern, ()))
        assert c.regime not in DIRECTED or c.scale is None or c.scale > 0


def test_drawing_can_be_narrowed() -> None:
    narrow = {
        "kinds": ("causal",), "dtypes": ("float32",), "groups": (2,), "layouts": ("sliced",), "tiles": (3,),
        "queries": (4, 6), "keys": (6, 9), "heads": (5,), "relations": ("fewer",), "specials": ("none",),
    }  # fmt: skip
    found = drawn(60, **narrow)
    assert {(c.n, c.m) for c in found} == {(4, 6), (4, 9), (6, 9)}
    fixed = {"kind": "causal", "dtype": "float32", "r": 2, "layout": "sliced", "tq": 3, "tk": 3, "dk": 5, "dv": 5,
             "special": "none"}  # fmt: skip
    assert all({name: asdict(c)[name] for name in fixed} == fixed for c in found)
    assert min(Counter(c.m for c in drawn(100, relations=("fewer",), queries=(64,))).values()) >= 8  # 65, 128, 129, 131
    assert {c.relation for c in drawn(40, queries=(0,), keys=(0, 1))} == {"same", "fewer"}


# --- shrinking -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fails", "smallest", "n", "m"),
    [
        (lambda _: True, Case(), 3, 3),
        (lambda c: c.m > KEYS and c.kind == "causal", Case(kind="causal"), 67, 67),
        (lambda c: c.m > KEYS and c.n < 9, Case(), 8, 67),
        (lambda c: c.n > c.m, Case(), 3, 2),
        (lambda c: c.pattern == "banded", Case(kind="masked", pattern="banded"), 3, 3),
        (lambda c: c.regime == "ties" and c.scale == 0.1, Case(regime="ties", scale=0.1), 3, 3),
        (lambda c: c.tk == 7 and c.pool == "huge", Case(tk=7, pool="huge"), 9, 9),
        (lambda c: c.special == "masked" and c.kind == "causal", Case(kind="causal", special="masked"), 3, 5),
        (lambda c: c.dtype == "float32" and c.r > 1, Case(dtype="float32", r=2), 3, 3),
        (lambda c: c.layout == "offset", Case(layout="offset"), 3, 3),
    ],
    ids=["any", "causal", "tile", "more", "banded", "ties", "tk", "special", "dtype", "layout"],
)  # fmt: skip
def test_a_failure_shrinks_to_the_simplest_case(fails: Any, smallest: Case, n: int, m: int) -> None:
    """Every field that does not matter is the default; the extents are at least small."""
    options = settings(max_examples=2000, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink))
    found = find(cases(specials=SPECIALS), fails, settings=options)
    assert replace(found, n=0, m=0) == replace(smallest, n=0, m=0)
    assert found.n <= n, found
    assert found.m <= m, found


# --- cases as JSON ---------------------------------------------------------------------------------


def test_a_case_is_what_its_json_says() -> None:
    for case in drawn(60):
        assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case


def test_a_case_stored_before_a_field_was_there_has_its_default() -> None:
    old = Case(kind="masked", steps=(0, 1, 1, 0), scale=0.1, seed=7)
    document = {name: value for name, value in old.to_json().items() if name != "special"}
    assert Case.from_json(document) == old
    assert Case(**(document | {"scale": 0.1, "steps": (0, 1, 1, 0)})) == old


def test_a_case_of_unknown_fields_is_refused() -> None:
    with pytest.raises(CertificateInvalid, match=r"^case: unknown fields window; was it stored by a newer moaproof\?"):
        Case.from_json({"window": 3})


def test_the_numbers_of_a_case_do_not_depend_on_its_special_values() -> None:
    """Those that are finite and counted are the numbers of the case without special values."""
    for name in ("masked", "visible"):
        case = Case(kind="causal", n=3, m=7, special=name, seed=5)
        x, y = expand(case), expand(Case(kind="causal", n=3, m=7, seed=5))
        kept = [torch.isfinite(t) & (t.abs() < 1e9) for t in (x.q, x.k, x.v)]
        assert sum(int((~t).sum()) for t in kept) > 0
        assert all(torch.equal(a[t], b[t]) for a, b, t in zip((x.q, x.k, x.v), (y.q, y.k, y.v), kept, strict=True))


# --- what the names say ----------------------------------------------------------------------------

BIG = {"b": 2, "g": 2, "r": 2, "n": 9, "m": 2 * KEYS + 3, "dk": 5, "dv": 4}


def scaled_scores(case: Case) -> np.ndarray:
    q, k = scores(case, np.random.default_rng(case.seed))
    return q @ np.repeat(k, case.r, axis=1).swapaxes(-1, -2)  # (b, h, n, m)


REGIME = {
    "normal": lambda s: 0.5 < s.std() < 5,
    "tiny": lambda s: 0 < np.abs(s).max() < 1e-7,
    "zero": lambda s: not s.any(),
    "ties": lambda s: (s == np.rint(s)).all() and len(np.unique(s)) < 40,
    "x30": lambda s: 30 < s.std() < 150,
    "x1000": lambda s: 1000 < s.std() < 5000,
    "one-hot": lambda s: 1000 < s.std() < 5000,
    "spike": lambda s: (np.sort(s)[..., -1] - np.sort(s)[..., -2] > 100).all() and len(np.unique(s.argmax(-1))) == 1,
    "negative": lambda s: (s < 0).all() and s.min() < -300,
    "rising": lambda s: (s[..., KEYS :: KEYS // 2] > s[..., : -KEYS : KEYS // 2]).all(),
    "falling": lambda s: (s[..., KEYS :: KEYS // 2] < s[..., : -KEYS : KEYS // 2]).all(),
}


@pytest.mark.parametrize("regime", REGIMES)
def test_scores_are_as_the_regime_says(regime: str) -> None:
    s = scaled_scores(Case(**BIG, regime=regime, seed=3))
    assert REGIME[regime](s)
    assert regime == "normal" or not REGIME[regime](scaled_scores(Case(**BIG, seed=3)))


def pool_of(name: str, dtype: str) -> np.ndarray:
    case = Case(**BIG, pool=name, dtype=dtype, seed=3)
    with np.errstate(over="raise"):
        return values(case, np.random.default_rng(3)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", POOLS)
def test_values_are_of_the_pool(name: str, dtype: str) -> None:
    v, info = pool_of(name, dtype), np.finfo(dtype)
    assert np.isfinite(v).all()
    size = np.abs(v[v != 0])
    is_so = {
        "normal": lambda: 0.5 < v.std() < 2,
        "zeros": lambda: not v.any() and 0 < np.signbit(v).mean() < 1,
        "subnormal": lambda: size.max() < info.smallest_normal and size.size > 0,
        "large": lambda: size.max() > float(info.max) * 1e-8,
        "huge": lambda: float(info.max) / 8 < float(size.max()) * BIG["m"] < float(info.max),
        "wide": lambda: float(size.max()) / float(size.min()) > float(info.max) ** 0.6,
        "alternating": lambda: (v[:, :, ::2] > 900).all() and (v[:, :, 1::2] < -900).all(),
        "one-sign": lambda: (v > 0).all() and v.std() > 0.3,
        "constant": lambda: set(np.unique(v)) == {v.dtype.type(0.7)},
    }
    assert is_so[name]()


def mask_of(name: str, **fields: Any) -> np.ndarray:
    case = Case(**({"kind": "masked", "pattern": name, "n": 7, "m": 9, "seed": 1} | fields))
    return pattern(case, np.random.default_rng(case.seed))[0, 0].astype(int)


def test_patterns() -> None:
    one = np.ones((7, 9), dtype=int)
    assert (mask_of("all") == one).all()
    assert not mask_of("none").any()
    assert mask_of("first").sum(0).tolist() == [7] + [0] * 8
    assert mask_of("last").sum(0).tolist() == [0] * 8 + [7]
    assert mask_of("rows").sum(1).tolist() == [9, 0] * 3 + [9]
    assert mask_of("keys").any(0).astype(int).tolist() == [0, 1, 0] * 3
    assert (mask_of("lower") == np.tril(one, 2)).all()
    assert (mask_of("upper") == np.triu(one)).all()
    assert (mask_of("tiles", tk=2).any(0).astype(int) == [0, 0, 1, 1, 0, 0, 1, 1, 0]).all()
    assert (mask_of("tiles", m=3 * KEYS).any(0).reshape(3, -1) == [[False], [True], [False]]).all()
    assert (mask_of("block", m=KEYS + 2).sum(0) == [0] * KEYS + [7, 7]).all()
    assert 0 < mask_of("random").sum() < one.size
    assert 0 < mask_of("sparse", n=60, m=60).mean() < 0.04
    assert (mask_of("lower", n=9, m=7).any(1) == [False] * 2 + [True] * 7).all()  # rows without a key


def test_a_window_slides_and_padding_is_of_a_length() -> None:
    widths, lengths = set(), set()
    for seed in range(60):
        window = mask_of("banded", n=12, m=12, seed=seed)
        widths.add(int(window[-1].sum()))
        assert (window == np.tril(np.triu(np.ones((12, 12)), 1 - window[-1].sum()))).all()
        shown = mask_of("padding", n=2, m=4, seed=seed)
        lengths.add(int(shown[0].sum()))
        assert (shown == (np.arange(4) < shown[0].sum())).all()
    assert widths == set(range(1, 9))
    assert lengths == {0, 1, 2, 3, 4}


def test_a_broadcast_axis_of_a_mask_has_extent_1() -> None:
    case = Case(**BIG, kind="masked", steps=(0, 1, 0, 1))
    assert pattern(case, np.random.default_rng(0)).shape == (1, 4, 1, BIG["m"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_changes_how_values_lie_and_not_which_they_are(name: str) -> None:
    x, plain = (expand(Case(b=2, g=2, n=3, m=5, dk=4, dv=3, layout=layout)) for layout in (name, "contiguous"))
    for t, p in ((x.q, plain.q), (x.k, plain.k), (x.v, plain.v)):
        assert torch.equal(t, p[:1].expand(p.shape) if name == "expanded" else p)
        assert t.is_contiguous() == (name in {"contiguous", "offset"})
        assert (t.storage_offset() == 1) == (name == "offset")
    strides = {"expanded": (0, 12, 4, 1), "columns": (24, 12, 1, 3), "transposed": (24, 4, 8, 1)}
    assert name not in strides or x.q.stride() == strides[name]


@pytest.mark.parametrize(
    ("extent", "fits"),
    [
        (12, {None: "chosen", 1: "whole", 12: "whole", 13: "beyond", 5: "ragged", 11: "over"}),
        (7, {2: "short", 8: "beyond", 3: "over", 4: "short", 5: "ragged", 6: "over"}),
        (0, {None: "chosen", 1: "beyond", 8: "beyond"}),
    ],
)
def test_fit(extent: int, fits: dict[int | None, str]) -> None:
    assert {tile: fit(extent, tile) for tile in fits} == fits


# --- NaN and infinity ------------------------------------------------------------------------------


def finite(*tensors: torch.Tensor) -> list[bool]:
    return [bool(torch.isfinite(t).all()) for t in tensors]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masked_specials_stand_where_nothing_is_seen_and_nowhere_else(layout: str) -> None:
    for seed in range(8):
        case = Case(**(BIG | {"m": 9}), kind="masked", pattern="sparse", special="masked", layout=layout, seed=seed)
        x = expand(case)
        see = seen(x)
        if layout == "expanded":
            see = np.broadcast_to(see.any(0, keepdims=True), see.shape)
        rows, keys = strategies.counted(see, case.g)
        for t, counts in ((x.q, rows), (x.k, keys), (x.v, keys)):
            odd = (~torch.isfinite(t) | (t.abs() > 1e30)).numpy()
            assert (odd == ~counts[..., None]).all()
            assert odd.any()
        assert not touched(x).any()
        assert finite(*(getattr(sanitised(x), name) for name in "qkv")) == [True] * 3


def test_visible_specials_are_seen() -> None:
    hit, nan = Counter[str](), 0
    for seed in range(60):
        x = expand(Case(n=5, m=4, kind="causal", special="visible", seed=seed))
        hit.update(name for name in "qkv" if not torch.isfinite(getattr(x, name)).all())
        assert touched(x).any()
        assert (touched(x) >= due_nan(x)).all()
        nan += bool(due_nan(x).any())
    assert set(hit) == {"q", "k", "v"}
    assert hit.total() == 60  # one of the three each time
    assert 30 <= nan < 60


def test_touched_is_the_row_of_a_query_or_key_and_the_column_of_a_value() -> None:
    """Three queries and keys, causal: key 1 is seen by queries 1 and 2."""
    bad = torch.tensor(float("nan"))
    due = {
        "q": [[0, 0], [1, 1], [0, 0]],
        "k": [[0, 0], [1, 1], [1, 1]],
        "v": [[1, 0], [1, 0], [1, 0]],
    }
    for name, at in (("q", 1), ("k", 1), ("v", 0)):
        x = expand(Case(kind="causal"))
        getattr(x, name)[0, 0, at, 0] = bad
        assert touched(x)[0, 0].astype(int).tolist() == due_nan(x)[0, 0].astype(int).tolist() == due[name]
        getattr(x, name)[0, 0, at, 0] = float("-inf")
        assert touched(x)[0, 0].astype(int).tolist() == due[name]
        assert not due_nan(x).any()


def test_a_query_that_sees_no_key_touches_nothing() -> None:
    x = expand(Case(kind="masked", pattern="rows"))
    x.q[0, 0, 1] = float("nan")
    assert not touched(x).any()
    x.q[0, 0, 2] = float("nan")
    assert touched(x)[0, 0].any(-1).tolist() == [False, False, True]


def test_groups_of_heads_share_what_touches_them() -> None:
    x = expand(Case(g=2, r=3))
    x.v[0, 1, 0, 1] = float("inf")
    assert touched(x).any((2, 3))[0].tolist() == [False] * 3 + [True] * 3
    assert touched(x)[0, 3:].any(1).tolist() == [[False, True]] * 3


def test_sanitised_keeps_what_counts() -> None:
    """A number that is finite and counts is kept, in every layout; one that does not count is 0."""
    for case in drawn(80, specials=("masked", "visible", "none")):
        x = expand(case)
        y = sanitised(x)
        rows, keys = strategies.counted(seen(x), case.g)
        for a, b, counts in ((x.q, y.q, rows), (x.k, y.k, keys), (x.v, y.v, keys)):
            kept = torch.from_numpy(np.broadcast_to(counts[..., None], b.shape).copy()) & torch.isfinite(a)
            assert torch.equal(a[kept], b[kept])
            assert not b[~kept].any()
            assert b.is_contiguous()


def test_every_name_stands_in_the_documentation() -> None:
    """The tables of the module docstring, and nothing that is no longer there."""
    text = strategies.__doc__ or ""
    rows = {word.strip() for line in text.splitlines() if "  " in line for word in line.split("  ")[0].split(",")}
    assert rows >= {*KINDS, *RELATIONS, *FITS, *REGIMES, *POOLS, *LAYOUTS, *PATTERNS, *SPECIALS}
