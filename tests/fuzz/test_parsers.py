"""Garbage for every parser: a refusal or a value, never a Python error, never a value for what is not canonical.

``outcome`` fails on all else.  A case is a number from which the damage is drawn, so a failure prints what repeats it.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moaproof.errors import CertificateInvalid, IllFormed
from moaproof.kernel.certificate import Certificate, parse
from moaproof.operators import typeof
from moaproof.term import OPS, PATTERN_ONLY, dump, load
from tests.fuzz.damage import STRANGE, damaged, edited, rewritten, with_its_digest
from tests.fuzz.effort import effort
from tests.fuzz.targets import TARGETS, outcome, seeds

numbers = st.integers(0, 2**64 - 1)
DOCUMENTS = ("certificate", "trace", "rulebook", "manifest")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(STRANGE),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_damage_begins_from_is_accepted(target: str) -> None:
    assert "accepted" in [outcome(target, data) for data in seeds(target)]


@pytest.mark.parametrize("target", TARGETS)
@effort(20)
@given(data=st.binary(max_size=200))
def test_bytes_of_no_form(target: str, data: bytes) -> None:
    assert outcome(target, data) == "refused" or target == "rulebook"


@pytest.mark.parametrize("target", DOCUMENTS)
@effort(30)
@given(value=json_values)
def test_documents_of_no_form(target: str, value: Any) -> None:
    assert outcome(target, json.dumps(value).encode()) == "refused" or target == "rulebook"


@pytest.mark.parametrize("target", TARGETS)
@effort(60)
@given(number=numbers)
def test_damaged_bytes(target: str, number: int) -> None:
    rng = random.Random(number)
    data = rng.choice(seeds(target))
    found = damaged(data, rng)
    assert outcome(target, found) == "refused" or target != "certificate" or without_bound(found) == without_bound(data)


def without_bound(data: bytes) -> Certificate:
    """The error bound is read as any tree: the checker builds its own."""
    return replace(parse(data), rounding=None)


@pytest.mark.parametrize("target", DOCUMENTS)
@effort(100)
@given(number=numbers)
def test_documents_with_a_strange_value_somewhere(target: str, number: int) -> None:
    """Where a certificate is damaged the forger mends the digest."""
    rng = random.Random(number)
    finish = with_its_digest if target == "certificate" and rng.randrange(4) else lambda d: d
    outcome(target, edited(rng.choice(seeds(target)), rng, finish))


@pytest.mark.parametrize("target", ["kernel", "run"])
@effort(100)
@given(number=numbers)
def test_texts_with_a_token_or_a_line_changed(target: str, number: int) -> None:
    rng = random.Random(number)
    data = rewritten(rng.choice(seeds("kernel")), rng)
    try:
        outcome(target, data)
    except AssertionError:
        assert target == "run", data  # another program may well compute the Spec


# --- graphs of terms -----------------------------------------------------------------------------------

NAMES = ("n", "m", "q", "add", "max", "softmax", "exp", "seq", "core", "lane", "real", "bool", "1", "-1", "2")
data_of_terms = st.recursive(
    st.none() | st.integers(-2, 9) | st.sampled_from(NAMES) | st.sampled_from(STRANGE),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
FITTING = {
    "var": st.integers(0, 3), "int": st.integers(-2, 4), "size": st.sampled_from(("n", "m")),
    "real": st.sampled_from((["0", "1"], ["1", "2"])), "f": st.sampled_from(("add", "exp", "max", "div")),
    "in": st.sampled_from((["q", "real"], ["w", "bool"])), "build": st.sampled_from(("seq", "core")),
    "tiles": st.just("core"), "fold": st.sampled_from(("add", "max", "softmax")),
    "transpose": st.sampled_from(([1, 0], [0])), "take": st.sampled_from(([1], [-1, 1])), "drop": st.just([1]),
    "lift": st.integers(0, 1), "map": st.just("exp"), "pointwise": st.sampled_from(("add", "max")),
    "omega": st.sampled_from(([1], [1, 0], [0, 0], [8])), "reduce": st.sampled_from((["add", 0], ["max", 1])),
    "inner": st.just(["add", "mul"]), "outer": st.just("mul"),
}  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Nodes that fit together more often than not, each made of the last few."""
    rows: list[list[Any]] = [["size", "n", []], ["in", ["q", "real"], [0]], ["int", 1, []]]
    for _ in range(draw(st.integers(1, 25))):
        op = draw(st.sampled_from(sorted(OPS)))
        fitting = FITTING.get(op, st.none())
        data = draw(fitting if draw(st.integers(0, 9)) else data_of_terms)
        count = OPS[op].arity + (draw(st.integers(0, 2)) if OPS[op].open_ended else 0)
        near = st.integers(max(0, len(rows) - 6), len(rows) - 1 if draw(st.integers(0, 19)) else len(rows))
        rows.append([op, data, [draw(near) for _ in range(count)]])
    return {"nodes": rows, "roots": [draw(st.integers(0, len(rows) - 1)) for _ in range(3)]}


@effort(100)
@given(graph=graphs())
def test_graphs_of_terms_are_read_back_and_typed(graph: dict[str, Any]) -> None:
    try:
        roots = load(graph)
    except CertificateInvalid:
        return
    assert load(dump(roots)) == roots
    assert not any(row[0] in PATTERN_ONLY for row in graph["nodes"])
    for t in roots:
        try:
            found = typeof(t)
        except IllFormed:
            continue
        assert t.free == 0
        assert all(typeof(s).sort == "index" for s in found.shape)
