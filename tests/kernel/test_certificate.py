"""The parser: a certificate is untrusted input; whatever it holds, the parser raises a MoaproofError or nothing."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from moaproof.rewrite_rules import lookup

from moaproof.errors import CertificateInvalid, DigestMismatch, MoaproofError
from moaproof.kernel.certificate import MAX_BYTES, SCHEMA, Certificate, Kernel, Tiling, parse
from moaproof.kernel.checker import replay
from moaproof.term import Build, F, In, Mul, Real, Size, canonical


@pytest.fixture(scope="module")
def data(by_states: Certificate) -> bytes:
    return dataclasses.replace(by_states, kernels=(Kernel("k.py", "cpu", "float64", "0" * 64, "2" * 64),)).to_bytes()


@pytest.fixture
def document(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data)
    return found


def encoded(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_bytes_read_back_to_the_same_bytes(data: bytes, by_states: Certificate) -> None:
    c = parse(data)
    assert c.to_bytes() == data
    assert c.core_digest() == by_states.core_digest()
    assert c.spec is by_states.spec
    assert c.steps == by_states.steps
    assert c.sizes() == ("n", "dk", "m", "dv", "bq", "tq", "bk", "tk")


def test_the_core_does_not_contain_the_kernels(by_rows: Certificate) -> None:
    kernel = Kernel("k.py", "cpu", "float64", "1" * 64, "2" * 64)
    assert dataclasses.replace(by_rows, kernels=(kernel,)).core_digest() == by_rows.core_digest()
    assert dataclasses.replace(by_rows, name="other").core_digest() != by_rows.core_digest()


# --- bytes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"{" * 2000,
        b"[" * 100_000,
        b'{"a":1,"a":1}',
        b"NaN",
        b"-Infinity",
        b"1.5",
        b'"\\ud800"',
        b"9" * 10_000,
        b"{}" * 3,
        b"\x00",
        b" " * 100,
        b"[" + b"0," * 1000 + b"0]",
    ],
)
def test_what_is_no_certificate(bad: bytes) -> None:
    with pytest.raises(CertificateInvalid):
        parse(bad)


def test_too_many_bytes_are_not_even_read() -> None:
    with pytest.raises(CertificateInvalid, match="at most"):
        parse(b"[" * (MAX_BYTES + 1))


def test_other_spellings_of_the_same_document_are_refused(data: bytes, document: dict[str, Any]) -> None:
    spellings = [
        data[:-1],
        data + b"\n",
        b" " + data,
        json.dumps(document, sort_keys=True).encode(),
        encoded(dict(reversed(document.items()))) + b" ",
        data.replace(b'"attention"', b'"\\u0061ttention"'),
        data.replace(b'"witness":{"bk":2', b'"witness":{"bk":2.0'),
        data.replace(b'"tq":2', b'"tq":+2'),
        data.replace(b'"trace":null', b'"trace":nul'),
    ]
    for spelling in spellings:
        assert spelling != data
        with pytest.raises((CertificateInvalid, DigestMismatch)):
            parse(spelling)


@pytest.mark.parametrize("seed", range(12))
def test_damaged_bytes_are_refused(data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        damaged = bytearray(data)
        match rng.randrange(5):
            case 0:
                damaged = damaged[: rng.randrange(len(data))]
            case 1:
                damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 2:
                damaged[rng.randrange(len(data))] = rng.choice(b'0123456789"[]{},:-.eE\\ \x00\xff')
            case 3:
                at, size = rng.randrange(len(data)), rng.randrange(1, 50)
                damaged[at : at + size] = damaged[at : at + size] * 2
            case 4:
                at, size = rng.randrange(len(data)), rng.randrange(1, 50)
                del damaged[at : at + size]
        if bytes(damaged) != data:
            try:
                found = parse(bytes(damaged))
            except MoaproofError:
                continue
            assert replace(found, rounding=None) == replace(parse(data), rounding=None)  # that tree the checker builds


# --- fields -------------------------------------------------------------------------------------------

STRANGE: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**53,
    10**400,
    "",
    "a",
    "é",
    "\ud800",
    "\x00",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    [0],
    [True],
    ["a"],
    {"a": 1},
    {"\ud800": 1},
    [[[[[]]]]],
    [["n", "t"]],
    [["n", "t", 1]],
    [["n", "t", "b", "c"]],
    [["n", "1", "b"]],
    [[["n"], "t", "b"]],
]


def places(d: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for k, v in d.items() if isinstance(d, dict) else enumerate(d) if isinstance(d, list) else ():
        yield from places(v, (*path, k))


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.copy(document)
    if not path:
        return value
    changed[path[0]] = put(document[path[0]], path[1:], value)
    return changed


def with_its_digest(document: Any) -> Any:
    """What a forger would send: the stated digest is that of the changed core."""
    import hashlib

    if not isinstance(document, dict):
        return document
    core = {k: v for k, v in document.items() if k not in ("core", "kernels", "witnesses", "rounding")}
    try:
        return {**document, "core": hashlib.sha256(canonical(core)).hexdigest()}
    except (ValueError, TypeError, RecursionError):
        return document


@pytest.mark.parametrize("seed", range(12))
def test_any_value_in_any_place(document: dict[str, Any], seed: int) -> None:
    """A value of another type or range anywhere: a refusal, or a certificate that reads back."""
    rng = random.Random(seed)
    everywhere = list(places(document))
    for _ in range(25):
        changed = put(document, rng.choice(everywhere), rng.choice(STRANGE))
        raw = encoded(with_its_digest(changed))
        try:
            c = parse(raw)
        except MoaproofError:
            continue
        assert c.to_bytes() == raw


@pytest.mark.parametrize(
    "field",
    [
        "schema",
        "name",
        "trace",
        "spec",
        "dnf",
        "onf",
        "inputs",
        "hypotheses",
        "tilings",
        "witness",
        "steps",
        "rulebook",
        "terms",
        "core",
        "kernels",
        "witnesses",
    ],
)
def test_each_field_is_read_strictly(document: dict[str, Any], field: str) -> None:
    for value in STRANGE:
        try:
            parse(
                encoded(with_its_digest({**document, field: value}))
                if field != "core"
                else encoded({**document, field: value})
            )
        except MoaproofError:
            continue
        assert field in (
            "name",
            "trace",
            "spec",
            "dnf",
            "onf",
            "inputs",
            "hypotheses",
            "tilings",
            "witness",
            "steps",
            "kernels",
            "witnesses",
        )


def test_fields_are_exact(document: dict[str, Any]) -> None:
    step = document["steps"][0]
    for changed in (
        {**document, "note": "proved"},
        {k: v for k, v in document.items() if k != "tilings"},
        {**document, "schema": SCHEMA[:-1] + "1"},
        put(document, ("steps", 0), {**step, "comment": ""}),
        put(document, ("steps", 0), {k: v for k, v in step.items() if k != "backwards"}),
        put(document, ("steps", 0), {k: v for k, v in step.items() if k != "after"}),
        put(document, ("steps", 0, "after"), -1),
        {**document, "rounding": []},
        {**document, "rounding": {"tree": "x" * 2**16}},
        {**document, "witnesses": {"n": ["sum"]}},
        {**document, "witnesses": {"0" * 64: {}}},
        {**document, "witnesses": {"0" * 64: ["sum", [True, 0]]}},
        {**document, "witnesses": {"0" * 64: ["sum", [2**53, 0]]}},
        put(document, ("kernels", 0), {**document["kernels"][0], "flags": []}),
        put(document, ("terms",), {**document["terms"], "more": []}),
        put(document, ("steps", 0, "class"), "A"),
        put(document, ("steps", 0, "class"), "i"),
        put(document, ("steps", 0, "path"), [20]),
        put(document, ("steps", 0, "path"), [True]),
        put(document, ("steps", 0, "before"), "A" * 64),
        put(document, ("rulebook",), "0" * 63),
        put(document, ("witness", "n"), -1),
        put(document, ("witness", "n"), True),
        put(document, ("witness", "n"), 10**7),
        put(document, ("kernels", 0, "target"), "rocm"),
    ):
        with pytest.raises(MoaproofError):
            parse(encoded(with_its_digest(changed)))


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_kernel_says_its_target(document: dict[str, Any], target: str) -> None:
    assert parse(encoded(put(document, ("kernels", 0, "target"), target))).kernels[0].target == target


@pytest.mark.parametrize(("field", "value"), [("target", "rocm"), ("dtype", "float16")])
def test_a_kernel_of_another_kind_is_told_what_is_due(document: dict[str, Any], field: str, value: str) -> None:
    with pytest.raises(CertificateInvalid, match="target cpu or cuda and dtype float64 or float32 are due"):
        parse(encoded(put(document, ("kernels", 0, field), value)))


TILES: dict[str, tuple[str, ...]] = {
    "t": ("t",),
    "ri*ty": ("ri", "ty"),
    "a*b*c*d": ("a", "b", "c", "d"),
}  # fmt: skip


@pytest.mark.parametrize("tile", TILES)
def test_a_tile_is_a_product_of_names(document: dict[str, Any], tile: str) -> None:
    changed = with_its_digest({**document, "tilings": [["n", tile, "count"], ["m", tile, "other"]]})
    tilings = parse(encoded(changed)).tilings
    assert [t.factors for t in tilings] == [TILES[tile]] * 2
    assert [t.tile for t in tilings] == [tile] * 2


@pytest.mark.parametrize(
    "row",
    [
        ["n", "t*t", "b"],
        ["n", "t*u*t", "b"],
        ["n", "a*b*c*d*e", "z"],
        ["n", "t*b", "b"],
        ["n", "n*t", "b"],
        ["n", "t", "n"],
        ["n", "n", "b"],
        ["n", "t", "t"],
        ["n", "", "b"],
        ["n", "*", "b"],
        ["n", "t*", "b"],
        ["n", "*t", "b"],
        ["n", "t**u", "b"],
        ["n", "t * u", "b"],
        ["n", "t*2", "b"],
        ["n", "t+u", "b"],
        ["n", "(t)", "b"],
        ["n", "t*\u00fc", "b"],
        ["n", "t*" + "u" * 41, "b"],
        ["n*m", "t", "b"],
        ["n", "t", "b*c"],
        ["n", ["t", "u"], "b"],
    ],
)
def test_what_is_no_tiling(document: dict[str, Any], row: list[Any]) -> None:
    with pytest.raises(CertificateInvalid, match="tilings"):
        parse(canonical(with_its_digest({**document, "tilings": [row]})) + b"\n")


def test_sizes_are_counts_and_then_the_factors_of_tiles(by_states: Certificate) -> None:
    """Each once, those alone that the ONF speaks of."""
    onf = Build(Size("bq"), Build(Mul(Size("ri"), Size("ty")), Build(Mul(Size("bk"), Size("ty")), In("scale"))))
    tilings = (Tiling("n", "ri*ty", "bq"), Tiling("m", "rj*ty", "bk"))
    assert dataclasses.replace(by_states, onf=onf, tilings=tilings).sizes() == ("bq", "ri", "ty", "bk")


@pytest.mark.parametrize(
    "file",
    ["../k.py", "/k.py", "a/b.py", "k", ".py", "k.py\n", "k..py", "1.py", "é.py", "k.pyc", "__init__.py", 1, None],
)
def test_a_kernel_is_a_file_of_its_own(document: dict[str, Any], file: Any) -> None:
    with pytest.raises(CertificateInvalid):
        parse(encoded(put(document, ("kernels", 0, "file"), file)))


def test_one_file_is_named_once(document: dict[str, Any]) -> None:
    with pytest.raises(MoaproofError):
        parse(encoded({**document, "kernels": document["kernels"] * 2}))


def test_a_metavariable_is_chosen_once(document: dict[str, Any]) -> None:
    """Of two choices one would be dropped without a word."""
    number, s = next((k, s) for k, s in enumerate(document["steps"]) if s.get("choose"))
    twice = put(document, ("steps", number, "choose"), [*s["choose"], s["choose"][0]])
    with pytest.raises(CertificateInvalid):
        parse(encoded(with_its_digest(twice)))


def test_unused_terms_and_roots_are_refused(document: dict[str, Any]) -> None:
    terms = document["terms"]
    for changed in (
        {**terms, "nodes": [*terms["nodes"], ["size", "unused", []]]},
        {**terms, "roots": [*terms["roots"], 0]},
        {**terms, "nodes": [*terms["nodes"], terms["nodes"][0]]},
        {"nodes": [*terms["nodes"], ["int", 1, []]], "roots": terms["roots"]},
    ):
        with pytest.raises(MoaproofError):
            parse(encoded(with_its_digest({**document, "terms": changed})))


# --- made to crash or to hang -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", [("trace",), ("steps", 0, "params"), ("terms", "nodes", 0, 1), ("witness", "n"), ("name",)]
)
@pytest.mark.parametrize("levels", [30, 300, 500, 700, 900, *range(960, 1000, 3)])
def test_nesting_is_limited(document: dict[str, Any], place: tuple[Any, ...], levels: int) -> None:
    raw = encoded(with_its_digest(put(document, place, "HERE"))).replace(b'"HERE"', b"[" * levels + b"]" * levels)
    with pytest.raises(MoaproofError):
        parse(raw)


@pytest.mark.parametrize(
    "place", [("trace",), ("name",), ("steps", 0, "params"), ("rulebook",), ("kernels", 0, "file")]
)
def test_half_a_surrogate_pair_is_no_crash(document: dict[str, Any], place: tuple[Any, ...]) -> None:
    for value in ("\ud800", ["\udfff"], {"\ud800": 0}):
        with pytest.raises(MoaproofError):
            parse(encoded(put(document, place, value)))
    with pytest.raises(MoaproofError):
        parse(encoded(put(document, ("witness",), {"\ud800": 1})))


def test_many_roots_of_one_graph_take_no_longer_than_the_graph(
    by_rows: Certificate, deadline: Callable[[float], Any]
) -> None:
    level = [F("mul", Real(k), In("x")) for k in range(4000)]
    while len(level) > 1:
        level = [F("add", *pair) for pair in zip(level[::2], level[1::2], strict=False)]
    choose = tuple((f"a{k}", 0, level[0]) for k in range(16))
    steps = tuple(dataclasses.replace(by_rows.steps[0], choose=choose) for _ in range(500))
    with deadline(10):
        raw = dataclasses.replace(by_rows, steps=steps).to_bytes()
        assert len(parse(raw).steps) == 500


@pytest.mark.parametrize("op", ["iadd", "imul"])
def test_a_shared_tower_as_every_term(document: dict[str, Any], op: str, deadline: Callable[[float], Any]) -> None:
    nodes = [["size", "n", []], *[[op, None, [k, k]] for k in range(120)]]
    for field in ("spec", "dnf", "onf"):
        changed = put(document, ("terms",), {"nodes": nodes, "roots": [120] * len(document["terms"]["roots"])})
        with deadline(5), pytest.raises(MoaproofError):
            replay(parse(encoded(with_its_digest({**changed, field: 0}))), lookup)


def test_a_size_that_only_the_witness_knows(document: dict[str, Any]) -> None:
    changed = put(document, ("witness",), {**document["witness"], "zz": 4})
    with pytest.raises(CertificateInvalid, match="witness"):
        replay(parse(encoded(with_its_digest(changed))), lookup)
    assert Size("zz").free == 0
