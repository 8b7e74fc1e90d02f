"""Named claims: a Spec and exactly its hypotheses have a name, and nothing else has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moaproof.kernel.certificate import Certificate, parse
from moaproof.kernel.claims import CLAIMS, claim_of
from moaproof.term import ONE, Lt, Size

CERTS = Path(__file__).parents[2] / "certs"


def committed(name: str) -> Certificate:
    return parse((CERTS / f"{name}.json").read_bytes())


@pytest.mark.parametrize(
    ("certificate", "claim"),
    [
        ("attention-online", "attention"),
        ("attention-rows", "attention"),
        ("causal-online", "causal attention"),
        ("masked-online", "masked attention"),
        ("gqa-online", "grouped-query attention"),
        ("gqa-causal-online", "causal grouped-query attention"),
        ("gqa-masked-online", "masked grouped-query attention"),
        ("unshifted-online", "attention by an unshifted softmax"),
        ("scaled-online", "attention with scale 1/sqrt(dk)"),
        ("one-head-online", "one masked head"),
    ],
)
def test_committed_certificate_has_its_claim(certificate: str, claim: str) -> None:
    c = committed(certificate)
    assert claim_of(c.spec, c.hypotheses) == claim


def test_every_claim_has_a_committed_certificate() -> None:
    found = {claim_of(c.spec, c.hypotheses) for c in (parse(p.read_bytes()) for p in CERTS.glob("*.json"))}
    assert found == set(CLAIMS)


def test_another_hypothesis_is_another_claim() -> None:
    c = committed("attention-online")
    assert claim_of(c.spec, (Lt(Size("n"), Size("m")),)) is None


def test_a_missing_hypothesis_is_another_claim() -> None:
    c = committed("gqa-online")
    assert claim_of(c.spec, c.hypotheses[1:]) is None


def test_another_spec_under_the_same_name_is_no_claim() -> None:
    c = replace(committed("attention-online"), spec=committed("unshifted-online").dnf)
    assert claim_of(c.spec, c.hypotheses) is None


def test_claims_are_distinct() -> None:
    assert len(set(CLAIMS.values())) == len(CLAIMS)
    assert claim_of(ONE, ()) is None
