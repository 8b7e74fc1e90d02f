"""The rulebook: one digest for all laws, and parameters that are never trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from moaproof.rewrite_rules import digest, document, lookup, rules

from moaproof import rewrite_rules
from moaproof.errors import RuleDoesNotApply
from moaproof.kernel.rules import Rule
from moaproof.term import ONE, Add, canonical


def test_the_rulebook_is_stable_and_json() -> None:
    assert digest() == digest()
    assert len(digest()) == 64
    assert json.loads(canonical(document())) == document()
    listed = [row["id"] for row in document()["rules"]]
    assert listed == list(rules())
    assert len(set(listed)) == len(listed) == sum(len(family.RULES) for family in rewrite_rules.FAMILIES)


def _other_pair(rule: Rule) -> Rule:
    def schema(*params: Any) -> Any:
        left, right = rule.schema(*params)
        return left, Add(right, ONE)

    return replace(rule, schema=schema)


CHANGES: dict[str, Callable[[Rule], Rule]] = {
    "law": lambda r: replace(r, law=r.law + " "),
    "source": lambda r: replace(r, source=r.source + "?"),
    "class": lambda r: replace(r, kind="R" if r.kind != "R" else "I"),
    "condition": lambda r: replace(r, when=(*r.when, "n is even")),
    "pattern": _other_pair,
    "samples": lambda r: replace(r, samples=r.samples * 2),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_digest_changes_with_any_law(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each law is left out, and changed in one of the ways: by turns, so that all laws and all ways come up."""
    book, before = rules(), digest()
    turn = list(book)[list(CHANGES).index(what) :: len(CHANGES)]
    seen = {before}
    for name in turn:
        monkeypatch.setattr(rewrite_rules, "_RULES", {**book, name: CHANGES[what](book[name])})
        seen.add(digest())
        monkeypatch.setattr(rewrite_rules, "_RULES", {k: r for k, r in book.items() if k != name})
        seen.add(digest())
    monkeypatch.setattr(rewrite_rules, "_RULES", book)
    assert len(seen) == 1 + 2 * len(turn)
    assert digest() == before


def test_two_laws_of_one_name_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite_rules, "FAMILIES", (*rewrite_rules.FAMILIES, rewrite_rules.online))
    with pytest.raises(ValueError, match="two laws are called"):
        rules()


@pytest.mark.parametrize(
    ("rule", "params"),
    [
        ("no-such-law", ()),
        ("", ()),
        ("psi-transpose ", ((1, 0),)),
        ("psi-iota", (1,)),
        ("psi-transpose", ()),
        ("psi-transpose", (5,)),
        ("psi-transpose", (None,)),
        ("psi-transpose", ((0, 0),)),
        ("psi-transpose", ((1, 2),)),
        ("psi-transpose", (("a",),)),
        ("psi-map", ("tanh", 1)),
        ("psi-map", ("exp", "x")),
        ("psi-take", ((3,), 1)),
        ("psi-take", ((1, 1, 1), 1)),
        ("psi-cat", (0,)),
        ("psi-lift", (7, 2)),
        ("psi-rho", (1, 2**60)),
        ("split-fold", ("min",)),
        ("split-fold", (None,)),
        ("split-fold", ("softmax", 3)),
        ("bind-axis", ("gpu",)),
        ("gamma", (10**9,)),
        ("gamma", (-(10**9),)),
        ("tau", (17,)),
        ("psi-inner", ("add", "mul", 1, 10**12, False)),
        ("psi-broadcast", ((0,), 10**10)),
        ("psi-transpose", ((0, (1, 10**10)),)),
    ],
)
def test_parameters_that_do_not_fit_are_refused(rule: str, params: tuple[Any, ...]) -> None:
    with pytest.raises(RuleDoesNotApply):
        lookup(rule, params)


@pytest.mark.parametrize("more", [3, None, True, "add", (), (1, 0)])
def test_no_law_has_a_parameter_that_its_samples_do_not_show(more: Any) -> None:
    for rule in rules().values():
        for params in rule.samples:
            with pytest.raises(RuleDoesNotApply):
                lookup(rule.id, (*params, more))


def test_every_sample_is_found() -> None:
    for rule in rules().values():
        for params in rule.samples:
            assert lookup(rule.id, params) == rule.schema(*params)
