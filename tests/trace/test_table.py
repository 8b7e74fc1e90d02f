"""The trusted half on its own: graphs written by hand, hostile graphs, and no torch."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from moaproof.errors import CertificateInvalid, MoaproofError, NotCovered
from moaproof.term import Build, In, Le, Lt, Size, Term, Var
from moaproof.trace import capture, spec_of
from moaproof.trace.table import TABLE
from moaproof.trace.values import MINUS_INFINITY, negated

Json = Any


def graph(nodes: list[tuple[Any, ...]], inputs: Json = None, output: Json = None, **fields: Json) -> Json:
    """A graph by hand: nodes are (op, args[, kwargs]); the default input is x: (n, m)."""
    rows = [
        {"id": k, "op": op, "args": args, "kwargs": more[0] if more else {}, "line": k + 1}
        for k, (op, args, *more) in enumerate(nodes)
    ]
    return {
        "schema": "moaproof-graph-1",
        "function": "f",
        "file": "f.py",
        "line": 1,
        "source": "",
        "inputs": inputs if inputs is not None else [{"name": "x", "kind": "real", "extents": ["n", "m"]}],
        "equations": [],
        "hypotheses": [],
        "nodes": rows,
        "output": output or ["node", len(rows) - 1],
    } | fields


X = ["input", "x"]
MASK = {"name": "mask", "kind": "bool", "extents": ["n", "m"]}
BROADCAST = {"name": "mask", "kind": "mask", "extents": ["mn", "m"], "steps": ["sn", None], "over": ["n", "m"]}
REAL = {"name": "x", "kind": "real", "extents": ["n", "m"]}
INF = ["float", "-inf"]


def node(k: int) -> Json:
    return ["node", k]


def n(k: int) -> Json:
    return ["int", k]


# --- what operators mean -------------------------------------------------------------------------


def test_the_identity_is_its_input() -> None:
    assert spec_of(graph([], output=X)).term is In("x", Size("n"), Size("m"))


def test_a_permutation_is_inverted() -> None:
    x = {"name": "x", "kind": "real", "extents": ["n", "m", "d"]}
    found = spec_of(graph([("aten.permute.default", [X, ["list", [n(2), n(0), n(1)]]])], [x])).term
    assert found is Term("transpose", (1, 2, 0), (In("x", Size("n"), Size("m"), Size("d")),))


def test_a_broadcast_mask_is_read_at_its_steps() -> None:
    rows = [("aten.masked_fill.Scalar", [X, ["input", "mask"], n(0)])]
    spec = spec_of(graph(rows, [REAL, BROADCAST]))
    mask = In("mask", Size("mn"), Size("m"), sort="bool")
    read = Term("psi", None, (mask, Term("imul", None, (Var(1), Size("sn"))), Var(0)))
    assert read in _all(spec.term)
    assert spec.inputs == (In("x", Size("n"), Size("m")), mask)
    bound = Term("iadd", None, (Size("mn"), Size("sn")))
    assert spec.hypotheses == (Lt(Term("imul", None, (Size("sn"), Size("n"))), bound),)


def test_a_mask_of_the_same_shape_is_the_visibility_itself() -> None:
    rows = [
        ("aten.where.ScalarOther", [["input", "mask"], X, INF]),
        ("aten.softmax.int", [node(0), n(-1)]),
        ("aten.mT.default", [X]),
        ("aten.matmul.default", [node(1), node(2)]),
    ]
    term = spec_of(graph(rows, [REAL, MASK])).term
    assert term.op == "inner"
    assert term.args[2] is In("mask", Size("n"), Size("m"), sort="bool")


def test_a_causal_mask_is_a_build_of_comparisons() -> None:
    rows = [
        (
            "aten.scaled_dot_product_attention.default",
            [X, ["input", "y"], ["input", "y"]],
            {"is_causal": ["bool", True]},
        )
    ]
    y = {"name": "y", "kind": "real", "extents": ["p", "m"]}
    term = spec_of(graph(rows, [REAL, y])).term
    assert term.args[2] is Build(Size("n"), Build(Size("p"), Le(Var(0), Var(1))))


def test_rows_are_placed_by_keepdim_only() -> None:
    rows = [
        ("aten.where.ScalarOther", [["input", "mask"], X, INF]),
        ("aten.amax.default", [node(0), ["list", [n(-1)]]]),
        ("aten.sub.Tensor", [node(0), node(1)]),
    ]
    square = {"name": "x", "kind": "real", "extents": ["n", "n"]}
    with pytest.raises(NotCovered, match="use keepdim=True"):
        spec_of(graph(rows, [square, {"name": "mask", "kind": "bool", "extents": ["n", "n"]}]))


@pytest.mark.parametrize("of", [0, 1, 2])
def test_a_row_belongs_to_its_own_scores(of: int) -> None:
    """The maximum of these scores under this mask, not under another one, nor of other scores."""
    doubled = ("aten.add.Tensor", [X, X])
    rows = [
        ("aten.where.ScalarOther", [["input", "mask"], X, INF]),
        ("aten.where.ScalarOther", [["input", "other"], X, INF]),
        doubled,
        ("aten.where.ScalarOther", [["input", "mask"], node(2), INF]),
        ("aten.amax.default", [node((0, 1, 3)[of]), ["list", [n(-1)]], ["bool", True]]),
        ("aten.sub.Tensor", [node(0), node(4)]),
        ("aten.exp.default", [node(5)]),
        ("aten.mT.default", [X]),
        ("aten.matmul.default", [node(6), node(7)]),
    ]
    document = graph(rows, [REAL, MASK, MASK | {"name": "other"}])
    if of == 0:
        assert spec_of(document).term.op == "inner"
    else:
        with pytest.raises(NotCovered, match="a masked score"):
            spec_of(document)


@pytest.mark.parametrize("g", [Lt(Var(0), Var(1)), Le(Var(0), Var(1)), Term("true"), Lt(Size("n"), Var(0))])
def test_negation_is_its_own_inverse(g: Term) -> None:
    assert negated(negated(g)) is g


def test_not_less_or_equal_is_greater() -> None:
    assert negated(Le(Var(0), Var(1))) is Lt(Var(1), Var(0))


def _all(t: Term) -> set[Term]:
    return {t}.union(*map(_all, t.args))


# --- refusals ------------------------------------------------------------------------------------

SUM = ("aten.sum.dim_IntList", [X, ["list", [n(-1)]], ["bool", True]])

NOT_COVERED = {
    "unknown": [("aten.cumsum.default", [X, n(0)])],
    "in place": [("aten.add_.Tensor", [X, X])],
    "extents": [("aten.mT.default", [X]), ("aten.add.Tensor", [X, node(0)])],
    "contracted": [("aten.matmul.default", [X, X])],
    "a mask in arithmetic": [
        ("aten.ones.default", [["list", [n(2), n(3)]]], {"dtype": ["str", "bool"]}),
        ("aten.mul.Tensor", [X, node(0)]),
    ],
    "a float mask": [("aten.masked_fill.Scalar", [X, X, INF])],
    "infinity in arithmetic": [("aten.mul.Tensor", [X, INF])],
    "division by zero": [("aten.div.Tensor", [X, n(0)])],
    "alpha": [("aten.add.Tensor", [X, X], {"alpha": n(2)})],
    "rounding": [("aten.div.Tensor_mode", [X, X], {"rounding_mode": ["str", "floor"]})],
    "keyword": [("aten.add.Tensor", [X, X], {"out": X})],
    "dtype": [("aten.softmax.int", [X, n(-1)], {"dtype": ["str", "float32"]})],
    "a flag": [("aten.sum.dim_IntList", [X, ["list", [n(-1)]], n(1)])],
    "a step": [("aten.slice.Tensor", [X, n(0), ["none"], ["none"], n(2)])],
    "axis": [("aten.softmax.int", [X, n(2)])],
    "axis twice": [("aten.sum.dim_IntList", [X, ["list", [n(0), n(-2)]]])],
    "opt result": [("aten.amax.default", [X, ["list", [n(-1)]]])],
    "power": [("aten.pow.Tensor_Scalar", [X, n(3)])],
    "unit product": [SUM, ("aten.matmul.default", [node(0), X])],
    "reshape": [("aten.reshape.default", [X, ["list", [n(4), n(-1)]]])],
    "argmax": [("aten.max.dim", [X, n(-1)]), ("operator.getitem", [node(0), n(1)])],
    "no array": [("aten.sym_size.int", [X, n(0)])],
    "float arange": [("aten.arange.default", [n(4)], {"dtype": ["str", "float64"]})],
}


@pytest.mark.parametrize("name", NOT_COVERED)
def test_what_is_not_covered_is_refused_with_its_place(name: str) -> None:
    rows = NOT_COVERED[name]
    with pytest.raises(NotCovered) as caught:
        spec_of(graph(rows))
    assert str(caught.value).startswith("f.py:")
    assert "Covered are: matmul" in str(caught.value)


MALFORMED: dict[str, dict[str, Json]] = {
    "schema": {"schema": "moaproof-graph-2"},
    "name": {"function": "f()"},
    "file": {"file": None},
    "line": {"line": True},
    "negative line": {"line": -1},
    "inputs": {"inputs": {}},
    "input kind": {"inputs": [{"name": "x", "kind": "int"}]},
    "input field": {"inputs": [REAL | {"extra": 1}]},
    "scalar with extents": {"inputs": [{"name": "x", "kind": "scalar", "extents": ["n"]}]},
    "rank 0 tensor": {"inputs": [{"name": "x", "kind": "real", "extents": []}]},
    "size name": {"inputs": [{"name": "x", "kind": "real", "extents": ["n-1"]}]},
    "two inputs": {"inputs": [REAL, REAL]},
    "input named as a size": {"inputs": [{"name": "n", "kind": "real", "extents": ["n"]}]},
    "mask with shared names": {"inputs": [REAL, BROADCAST | {"extents": ["n", "m"]}]},
    "mask with one step twice": {"inputs": [REAL, BROADCAST | {"extents": ["mn", "mm"], "steps": ["s", "s"]}]},
    "mask without steps": {"inputs": [REAL, BROADCAST | {"steps": []}]},
    "exact axis of another size": {"inputs": [REAL, BROADCAST | {"extents": ["mn", "mm"]}]},
    "literal reference": {"inputs": [{"name": "x", "kind": "literal", "value": ["node", 0]}]},
    "equation": {"equations": [{"size": "n", "factors": []}]},
    "equation in circles": {"equations": [{"size": "n", "factors": ["m"]}, {"size": "m", "factors": ["n"]}]},
    "equation with itself": {"equations": [{"size": "n", "factors": ["n"]}]},
    "equation over an input": {"equations": [{"size": "n", "factors": ["x"]}]},
    "hypothesis": {"hypotheses": [["eq", ["size", "n"], ["int", 1]]]},
    "hypothesis over no size": {"hypotheses": [["lt", ["size", "z"], ["int", 1]]]},
    "hypothesis with a division": {"hypotheses": [["lt", ["div", ["size", "n"], ["int", 2]], ["int", 1]]]},
    "forward reference": {
        "nodes": [{"id": 0, "op": "aten.neg.default", "args": [["node", 0]], "kwargs": {}, "line": 1}]
    },
    "wrong id": {"nodes": [{"id": 1, "op": "aten.neg.default", "args": [X], "kwargs": {}, "line": 1}]},
    "bool id": {"nodes": [{"id": False, "op": "aten.neg.default", "args": [X], "kwargs": {}, "line": 1}]},
    "node field": {"nodes": [{"id": 0, "op": "aten.neg.default", "args": [X], "kwargs": {}, "line": 1, "x": 0}]},
    "output": {"output": ["node", 7]},
    "output input": {"output": ["input", "y"]},
    "value": {"output": ["size", "n"]},
    "plain value": {"output": 0},
    "too many nodes": {"nodes": [{}] * 600},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_graph_is_invalid(name: str) -> None:
    with pytest.raises(CertificateInvalid):
        spec_of(graph([("aten.neg.default", [X])]) | MALFORMED[name])


@pytest.mark.parametrize("text", ["0.5", "nan", "inf", "0x1p-1", "1e999", "", "-Infinity", "0x1.0p99999999"])
def test_a_float_has_one_form(text: str) -> None:
    with pytest.raises(CertificateInvalid):
        spec_of(graph([("aten.mul.Tensor", [X, ["float", text]])]))


@pytest.mark.parametrize("document", [None, [], {}, "graph", 3, {"schema": "moaproof-graph-1"}])
def test_no_graph_is_invalid(document: Json) -> None:
    with pytest.raises(CertificateInvalid):
        spec_of(document)


def test_hypotheses_and_equations_stand_in_the_spec() -> None:
    g = graph(
        [],
        output=X,
        equations=[{"size": "n", "factors": ["g", "r"]}],
        hypotheses=[["not", ["lt", ["size", "m"], ["int", 2]]]],
    )
    product = Term("imul", None, (Size("g"), Size("r")))
    few = Lt(Size("m"), Term("int", 2))
    assert spec_of(g).hypotheses == (Le(Size("n"), product), Le(product, Size("n")), Term("not", None, (few,)))


# --- hostile graphs ------------------------------------------------------------------------------

WEIRD: list[Json] = [
    None, True, -1, 0, 1, 2**60, 1.5, "", "n", "x", "aten.neg.default", [], {}, [[]], ["int", 5], ["int", True],
    ["node", 0], ["node", 1], ["node", -1], ["input", "q"], ["input", "mask"], ["input", []], ["none"], ["bool", 1],
    ["bool", False], ["float", "-inf"], ["float", "0x1.8000000000000p+1"], ["str", "bool"], ["list", []],
    ["list", [["int", 0]]], ["list", [["int", 1], ["int", -1]]], ["lt", ["size", "n"], ["int", 3]],
]  # fmt: skip


def mutate(document: Json, rng: random.Random) -> Json:
    """One place of the document replaced, removed, doubled or exchanged."""
    changed = copy.deepcopy(document)
    places: list[tuple[Any, Any]] = []

    def walk(x: Json) -> None:
        for k in range(len(x)) if isinstance(x, list) else list(x) if isinstance(x, dict) else ():
            places.append((x, k))
            walk(x[k])

    walk(changed["nodes"] if rng.random() < 0.8 and changed["nodes"] else changed)
    where, k = rng.choice(places)
    match rng.randrange(6):
        case 0 if isinstance(where, dict):
            del where[k]
        case 1 if isinstance(where, dict):
            where[rng.choice(["extra", "dim", "keepdim", "dtype"])] = rng.choice(WEIRD)
        case 2 if isinstance(where, list):
            where.insert(k, copy.deepcopy(rng.choice(where)))
        case 3 if isinstance(where[k], str) and where[k].startswith("aten."):
            where[k] = rng.choice(sorted(TABLE))
        case 4:
            other, j = rng.choice(places)
            where[k] = copy.deepcopy(other[j])
        case _:
            where[k] = rng.choice(WEIRD)
    return changed


@pytest.mark.parametrize(
    "name", ["masked_attention", "gqa_attention", "windowed_attention", "shifted_softmax", "sdpa_causal"]
)
def test_hostile_graphs_raise_only_errors_of_moaproof(attention: ModuleType, name: str) -> None:
    base = capture(getattr(attention, name))
    rng = random.Random(name)
    refused = 0
    for _ in range(250):
        document = mutate(base, rng)
        if rng.random() < 0.3:
            document = mutate(document, rng)
        try:
            spec_of(document)
        except MoaproofError:
            refused += 1
    assert refused > 125


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_operator_refuses_arguments_of_other_kinds(name: str) -> None:
    """Each handler with every kind of value in every place: an error of moaproof or a value, nothing else."""
    rng = random.Random(name)
    inputs = [REAL, MASK, {"name": "s", "kind": "scalar"}]
    values = [
        X, ["input", "mask"], ["input", "s"], node(0), node(1), node(2), node(3), n(0), n(-1), n(7), ["none"], INF,
        ["bool", True], ["float", (0.5).hex()], ["str", "nm,nm->n"], ["list", []], ["list", [n(0)]],
        ["list", [n(1), n(0)]], ["list", [X, X]], ["list", [node(0), n(-1)]],
    ]  # fmt: skip
    before = [
        ("aten.sym_size.int", [X, n(0)]),
        ("aten.arange.default", [node(0)]),
        ("aten.where.ScalarOther", [["input", "mask"], X, INF]),
        SUM,
    ]
    for _ in range(120):
        args = [rng.choice(values) for _ in range(rng.randrange(1, 5))]
        try:
            spec_of(graph([*before, (name, args)], inputs))
        except MoaproofError as e:
            assert "f.py:" in str(e)  # noqa: PT017 - most raise, some do not


def test_a_graph_that_doubles_at_each_node_is_refused() -> None:
    masks = [("aten.logical_not.default", [["input", "mask"]])]
    masks += [("aten.logical_or.default", [node(k), node(k)]) for k in range(400)]
    masks += [("aten.masked_fill.Scalar", [X, node(400), n(0)])]
    squares = [("aten.sym_size.int", [X, n(0)])]
    squares += [("operator.mul", [node(k), node(k)]) for k in range(60)]
    squares += [("aten.arange.default", [node(60)])]
    chain = [("aten.neg.default", [X])] + [("aten.neg.default", [node(k)]) for k in range(500)]
    sums = [("aten.add.Tensor", [X, X])] + [("aten.add.Tensor", [node(k), node(k)]) for k in range(500)]
    for rows in (masks, squares, chain, sums):
        with pytest.raises(MoaproofError):
            spec_of(graph(rows, [REAL, MASK]))


def test_the_table_loads_no_torch(attention: ModuleType) -> None:
    document = json.dumps(capture(attention.sdpa_masked))
    code = (
        "import json, sys; from moaproof.trace import spec_of; s = spec_of(json.loads(sys.stdin.read()));"
        " heavy = {'torch', 'numba', 'sympy', 'z3'} & set(sys.modules); print(s.term.digest, sorted(heavy))"
    )
    run = subprocess.run([sys.executable, "-c", code], input=document, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [spec_of(json.loads(document)).term.digest, "[]"]


def test_minus_infinity_is_no_value() -> None:
    with pytest.raises(NotCovered, match="-inf stands in arithmetic"):
        spec_of(graph([], [{"name": "x", "kind": "literal", "value": INF}], output=X))
    assert MINUS_INFINITY is not None
