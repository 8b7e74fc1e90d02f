"""Terms: what the constructors and the file form refuse, binding, and graphs made to explode."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from moaproof.errors import CertificateInvalid, IllFormed, MoaproofError
from moaproof.term import (
    MAX_DEPTH,
    MAX_NODES,
    OPS,
    PATTERN_ONLY,
    TRUE,
    ZERO,
    Build,
    F,
    Fold,
    In,
    Int,
    Let,
    Lt,
    Mul,
    Psi,
    Real,
    Size,
    Term,
    Var,
    canonical,
    dump,
    instantiate,
    load,
    mentions,
    replace_at,
    subterms,
    up,
)

x, n = In("x"), Size("n")


@pytest.mark.parametrize(
    ("op", "data", "args"),
    [
        ("nothing", None, ()),
        ("var", -1, ()),
        ("var", True, ()),
        ("int", 2**53, ()),
        ("int", 1.0, ()),
        ("int", "1", ()),
        ("size", "a b", ()),
        ("size", "", ()),
        ("size", "é", ()),
        ("size", "x" * 41, ()),
        ("size", "x0'", ()),
        ("true", 0, ()),
        ("iadd", None, (ZERO,)),
        ("iadd", None, (ZERO,) * 3),
        ("real", ("2", "4"), ()),
        ("real", ("1", "-1"), ()),
        ("real", ("1", "0"), ()),
        ("real", ("01", "1"), ()),
        ("real", ("1",), ()),
        ("real", (1, 1), ()),
        ("real", ("-0", "1"), ()),
        ("f", "log", (x,)),
        ("f", "exp", (x, x)),
        ("f", "add", (x,)),
        ("build", "gpu", (n, x)),
        ("build", None, (n, x)),
        ("fold", "min", (n, TRUE, x)),
        ("fold", "add", (n, x)),
        ("transpose", (0, 0), (x,)),
        ("transpose", (1, 2), (x,)),
        ("transpose", (True, False), (In("t", n, n),)),
        ("take", (2,), (x, n)),
        ("take", (1, 1), (x, n)),
        ("omega", (9,), (x, x)),
        ("omega", (0, 0), (x, x)),
        ("reduce", ("softmax", 0), (x,)),
        ("reduce", ("add", "0"), (x,)),
        ("reduce", ("add", 0), (x, x, x)),
        ("inner", ("add", "exp"), (x, x)),
        ("in", ("x", "state"), ()),
        ("in", ("x",), ()),
        ("in", ("1x", "real"), ()),
        ("psi", None, (x,)),
        ("psi", None, (x, *[ZERO] * 16)),
        ("lift", -1, (x, n, n)),
        ("dim", "0", (x,)),
    ],
)
def test_an_ill_formed_node_is_refused(op: str, data: Any, args: tuple[Term, ...]) -> None:
    with pytest.raises(IllFormed):
        Term(op, data, args)


def test_equal_terms_are_one_object_and_cannot_be_changed() -> None:
    assert F("add", x, Real(1, 2)) is F("add", x, Real(2, 4))
    assert Int(1) is not Var(1)
    with pytest.raises(AttributeError):
        x.op = "size"


def test_the_digest_tells_terms_apart() -> None:
    terms = [x, n, Int(1), Var(1), Real(1), Size("x"), In("x", n), In("x", sort="bool"), F("exp", x), F("neg", x)]
    assert len({t.digest for t in terms}) == len(terms)


def random_term(rng: random.Random, depth: int) -> Term:
    if depth == 0:
        return rng.choice([Var(rng.randrange(3)), n, x])
    a, b = (random_term(rng, depth - 1) for _ in range(2))
    return rng.choice([Let(a, b), Build(a, b), Fold("add", a, b), F("mul", a, b), Term("tiles", "seq", (a, a, a, b))])


@pytest.mark.parametrize("seed", range(20))
def test_shifting_and_substitution(seed: int) -> None:
    rng = random.Random(seed)
    t, value = random_term(rng, 4), random_term(rng, 2)
    assert up(up(t, 2), -2) is t
    assert instantiate(up(t), [value]) is t
    assert up(instantiate(t, [value])) is instantiate(up(t, 1, 1), [up(value)])
    assert instantiate(instantiate(t, [up(value)]), [value]) is instantiate(t, [value, value])
    assert mentions(t, 0) == (up(t, 1, 1) is not up(t))
    assert load(dump([t, value])) == [t, value]
    assert t.free == 0 or mentions(t, t.free - 1)


def test_a_variable_may_not_leave_its_binder() -> None:
    with pytest.raises(IllFormed):
        up(Psi(In("A", n), Var(0)), -1)


def test_a_replacement_keeps_the_rest() -> None:
    t = Build(n, F("add", x, Real(1)))
    assert replace_at(t, (1, 1), Real(2)) is Build(n, F("add", x, Real(2)))
    assert replace_at(t, (), x) is x


# --- the file form ---------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"nodes": [["int", 1, []], ["iadd", None, [0, 0]]], "roots": [1]}


def test_a_graph_reads_back() -> None:
    assert load(GOOD) == [Term("iadd", None, (Int(1), Int(1)))]


@pytest.mark.parametrize(
    "graph",
    [
        None,
        [],
        {},
        {"nodes": []},
        {**GOOD, "more": 1},
        {"nodes": {}, "roots": []},
        {"nodes": [], "roots": [0]},
        {**GOOD, "roots": [True]},
        {**GOOD, "roots": [2]},
        {**GOOD, "roots": [-1]},
        {**GOOD, "roots": ["0"]},
        {"nodes": [["int", 1]], "roots": []},
        {"nodes": [["int", 1, [], 0]], "roots": []},
        {"nodes": [[1, 1, []]], "roots": []},
        {"nodes": [["iadd", None, [0, 0]]], "roots": []},
        {"nodes": [["int", 1, []], ["iadd", None, [0, 1]]], "roots": []},
        {"nodes": [["int", 1, []], ["iadd", None, [0, -1]]], "roots": []},
        {"nodes": [["int", True, []]], "roots": []},
        {"nodes": [["int", 1.0, []]], "roots": []},
        {"nodes": [["int", 10**30, []]], "roots": []},
        {"nodes": [["int", {}, []]], "roots": []},
        {"nodes": [["real", [["1"], "1"], []]], "roots": []},
        {"nodes": [["real", ["--1", "1"], []]], "roots": []},
        {"nodes": [["real", ["", "1"], []]], "roots": []},
        {"nodes": [["real", ["1" * 401, "1"], []]], "roots": []},
        {"nodes": [["real", ["²", "1"], []]], "roots": []},
        {"nodes": [["in", [["a"], "real"], []]], "roots": []},
        {"nodes": [["transpose", [[[[0]]]], []]], "roots": []},
        {"nodes": [["size", "\ud800", []]], "roots": []},
        {"nodes": [["\ud800", None, []]], "roots": []},
        {"nodes": [["transpose", [None], []]], "roots": []},
        {"nodes": [["reduce", [["add"], 0], []]], "roots": []},
        {"nodes": [["take", [None], []]], "roots": []},
        {"nodes": [["inner", [["add"], ["mul"]], []]], "roots": []},
    ],
)
def test_a_bad_graph_is_refused(graph: Any) -> None:
    with pytest.raises(CertificateInvalid):
        load(graph)


@pytest.mark.parametrize("op", sorted(PATTERN_ONLY))
def test_symbols_of_rules_and_of_the_judge_are_no_terms_of_a_file(op: str) -> None:
    with pytest.raises(CertificateInvalid, match="belongs to rules"):
        load({"nodes": [["int", 1, []], [op, "A" if op == "meta" else 0, [0] if op == "dim" else []]], "roots": [1]})


@pytest.mark.parametrize("op", sorted(OPS))
def test_data_of_a_wrong_type_is_refused_and_never_crashes(op: str) -> None:
    for data in (
        None,
        0,
        -1,
        "",
        "add",
        [],
        [0],
        ["add", "mul"],
        [None, None],
        [[], []],
        ["add", 0],
        [["a"]],
        "seq",
        ["1", "1"],
    ):
        for args in ([], [0], [0, 0], [0, 0, 0], [0, 0, 0, 0]):
            try:
                load({"nodes": [["int", 1, []], [op, data, args]], "roots": [1]})
            except CertificateInvalid:
                continue


def tower(count: int, node: Callable[[Any], list[Any]]) -> dict[str, Any]:
    return {"nodes": [["size", "n", []], *[node(k) for k in range(count)]], "roots": [count]}


def test_depth_and_number_are_limited() -> None:
    assert load(tower(MAX_DEPTH - 1, lambda k: ["not", None, [k]]))
    with pytest.raises(CertificateInvalid, match="deep"):
        load(tower(MAX_DEPTH, lambda k: ["not", None, [k]]))
    with pytest.raises(CertificateInvalid, match="at most"):
        load({"nodes": [["int", 0, []]] * (MAX_NODES + 1), "roots": []})


def test_a_shared_tower_is_refused_before_anything_walks_it(deadline: Callable[[float], Any]) -> None:
    """A few hundred bytes that write out to 2^60 nodes: printing, typing or evaluating it would not end."""
    with deadline(5), pytest.raises(MoaproofError):
        load(tower(60, lambda k: ["iadd", None, [k, k]]))


def test_writing_shared_roots_takes_no_longer_than_writing_the_graph(deadline: Callable[[float], Any]) -> None:
    level = [F("mul", Real(k), x) for k in range(2000)]
    while len(level) > 1:
        level = [F("add", *pair) for pair in zip(level[::2], level[1::2], strict=False)]
    with deadline(5):
        document = dump(level * 2000)
    assert len(document["nodes"]) == sum(1 for _ in subterms(level[0]))


def test_the_extents_of_an_input_are_closed() -> None:
    for extent in (Var(0), Term("x", 3)):
        with pytest.raises(IllFormed, match="sizes alone"):
            Term("in", ("Z", "real"), (extent,))


def test_canonical_bytes() -> None:
    assert canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(float("nan"))


def test_comparisons_and_products_are_different_terms() -> None:
    assert Lt(n, ZERO) is not Lt(ZERO, n)
    assert Mul(n, ZERO) is not Mul(ZERO, n)
