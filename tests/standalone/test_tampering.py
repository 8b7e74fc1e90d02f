"""Bytes, fields, steps, terms, hypotheses and witnesses that were changed: each is refused with the right code.

Documents get the core digest that fits them, so that what is refused is the change and not the digest.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moaproof.kernel.certificate import Certificate, Step, Tiling
from moaproof.kernel.checker import facts_of
from moaproof.semantics import Numbers, meaning
from moaproof.standalone import __main__ as alone
from moaproof.term import ONE, TRUE, ZERO, Add, Flat, Fold, In, Lt, Mul, Not, Psi, Size, Term, Var, replace_at

Answer = Callable[[Any], tuple[int, str]]
FREE = ("name", "trace", "rulebook", "kernels", "witnesses", "rounding")  # what it does not rest on as it stands


def test_the_untouched_one_is_proved(data: bytes, document: Any, answer: Answer) -> None:
    assert answer(data)[0] == answer(document)[0] == 0


# --- bytes ------------------------------------------------------------------------------------------------


def test_flipped_bits(data: bytes, answer: Answer) -> None:
    """Every flip is noticed, but in what it does not rest on: kernels, error bound, witnesses not asked for."""
    bound = range(data.index(b'"rounding":'), data.index(b'"rulebook":'))
    kernels = range(data.index(b'"kernels":'), data.index(b'"name":'))
    witnesses = range(data.index(b'"witnesses":'), len(data))
    for at in range(0, len(data), len(data) // 150):
        for bit in (0, 5):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            code, line = answer(bytes(flipped))
            free = at in kernels or at in bound or (at in witnesses and code in (0, 3))
            assert code in (2, 4) or free, (at, bit, line)


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.999])
def test_truncated(part: float, data: bytes, answer: Answer) -> None:
    assert answer(data[: int(len(data) * part)])[0] == 2


def test_other_bytes_of_the_same_document(data: bytes, document: Any, answer: Answer) -> None:
    for other in (data[:-1], data + b"\n", json.dumps(document, indent=1).encode(), b" " + data):
        assert answer(other) == (4, "not intact: the bytes are not canonical JSON")
    twice = data.replace(b'"name":"one-head-online"', b'"name":"one-head-online","name":"one-head-online"')
    assert answer(twice)[0] == 4


# --- fields -----------------------------------------------------------------------------------------------


def test_every_field_is_due_and_no_other(document: Any, answer: Answer) -> None:
    for field in set(document) - {"core"}:
        assert answer({k: v for k, v in document.items() if k != field})[0] == 2
    assert answer(document | {"remark": "trust me"})[0] == 2
    for field in ("path", "before", "class", "rule", "after", "params"):
        step = {k: v for k, v in document["steps"][0].items() if k != field}
        assert answer(document | {"steps": [step, *document["steps"][1:]]})[0] == 2
    step = document["steps"][0] | {"note": 1}
    assert answer(document | {"steps": [step, *document["steps"][1:]]})[0] == 2


KERNEL = {"file": "a.py", "target": "cuda", "dtype": "float64", "sha256": "0" * 64, "instructions": "1" * 64}
FIELDS = {
    "schema": ["moaproof/certificate/2", "moaproof/certificate/4", 3, None],
    "name": ["a b", "", "x" * 61, 1, "é"],
    "spec": [-1, 10**6, "0", 1.0, True, None],
    "dnf": [0],
    "inputs": [[0], 3, [None]],
    "hypotheses": [[0], {}, [[]]],
    "tilings": [
        [["n", "t"]],
        [["n", "t", 1]],
        [["n", "t", "a b"]],
        1,
        [["n", "t*t", "b"]],
        [["n", "t*", "b"]],
        [["n", "t*u*v*w*x", "b"]],
        [["n", ["t"], "b"]],
        [["n", 1, "b"]],
        [["n", None, "b"]],
        [["n*m", "t", "b"]],
    ],
    "witness": [[], {"n": -1}, {"n": 1.5}, {"n": True}, {"n": 10**7}],
    "steps": [{}, [1], [{}]],
    "rulebook": ["0" * 63, "G" * 64, 5],
    "terms": [{}, {"nodes": [], "roots": []}, [], {"nodes": [["size", "n", []]], "roots": [0]}],
    "kernels": [
        {},
        [1],
        [{"file": "a.py"}],
        [KERNEL | {"target": "rocm"}],
        [KERNEL | {"dtype": "float16"}],
        [KERNEL] * 2,
    ],
    "witnesses": [[], {"x": []}, {"0" * 64: {}}, {"0" * 64: ["sum", [1.5, 0]]}, {"0" * 64: [None]}],
}


@pytest.mark.parametrize("field", FIELDS)
def test_fields_of_another_form(field: str, document: Any, answer: Answer) -> None:
    for wrong in FIELDS[field]:
        code, line = answer(document | {field: wrong})
        assert code in (2, 4), (wrong, line)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_kernel_is_for_a_known_target(target: str, document: Any, answer: Answer) -> None:
    assert answer(document | {"kernels": [KERNEL | {"target": target}]})[0] == 0


STEP = {
    "path": [[-1], [20], ["0"], [True], 0, [0] * 201],
    "before": ["0" * 63, 0],
    "class": ["A", "", 1],
    "rule": ["", "a b", 3],
    "after": [-1, 10**6, "x", None],
    "params": [{}, [{}], [0] * 9, [1.5]],
    "backwards": [1, "no"],
    "choose": [[["X", 0]], [["X", 17, 0]], [["X", True, 0]], [[1, 0, 0]]],
}


@pytest.mark.parametrize("field", STEP)
def test_fields_of_a_step_of_another_form(field: str, document: Any, answer: Answer) -> None:
    for wrong in STEP[field]:
        changed = copy.deepcopy(document)
        changed["steps"][0][field] = wrong
        assert answer(changed)[0] == 2, wrong


# --- terms as a graph ---------------------------------------------------------------------------------------


def graph(change: Callable[[list[Any], list[int]], None]) -> Callable[[Any], Any]:
    def act(document: Any) -> Any:
        changed = copy.deepcopy(document)
        change(changed["terms"]["nodes"], changed["terms"]["roots"])
        return changed

    return act


GRAPHS: dict[str, tuple[Callable[[list[Any], list[int]], Any], tuple[int, ...]]] = {
    "an unused node": (lambda nodes, roots: nodes.append(["int", 777, []]), (4,)),
    "an unused root": (lambda nodes, roots: roots.append(0), (4,)),
    "a node twice": (lambda nodes, roots: nodes.insert(0, nodes[0]), (2, 4)),
    "a root that is no node": (lambda nodes, roots: roots.__setitem__(0, len(nodes)), (2,)),
    "a circle": (lambda nodes, roots: nodes[-1].__setitem__(2, [len(nodes) - 1]), (2,)),
    "roots exchanged": (lambda nodes, roots: roots.reverse(), (2, 4)),
    "an operation of no language": (lambda nodes, roots: nodes[0].__setitem__(0, "eval"), (2,)),
    "the checker's own index": (lambda nodes, roots: nodes[0].__setitem__(slice(0, 2), ["x", 0]), (2,)),
    "the checker's own call": (lambda nodes, roots: nodes[0].__setitem__(slice(0, 2), ["call", []]), (2,)),
    "a pattern": (lambda nodes, roots: nodes[0].__setitem__(slice(0, 2), ["meta", "X"]), (2,)),
    "data of another kind": (lambda nodes, roots: nodes[0].__setitem__(1, {"a": 1}), (2,)),
    "true for 1": (lambda nodes, roots: nodes[0].__setitem__(1, True), (2,)),
    "a fraction": (lambda nodes, roots: nodes[0].__setitem__(1, 1.0), (2,)),
    "deep data": (lambda nodes, roots: nodes[0].__setitem__(1, [[[[1]]]]), (2,)),
    "one entry too few": (lambda nodes, roots: nodes[0].pop(), (2,)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_terms(name: str, document: Any, answer: Answer) -> None:
    change, codes = GRAPHS[name]
    assert answer(graph(change)(document))[0] in codes


@pytest.mark.parametrize(
    "node",
    [
        ["int", 2**53, []],
        ["real", ["2", "4"], []],
        ["real", ["1", "0"], []],
        ["real", ["1", "-1"], []],
        ["real", ["--1", "1"], []],
        ["real", ["٣", "1"], []],
        ["real", ["9" * 401, "1"], []],
        ["size", "a b", []],
        ["var", -1, []],
        ["in", ["q", "state"], []],
        ["in", ["q"], []],
        ["fold", "sub", []],
        ["f", "exp", []],
        ["f", "eval", []],
        ["build", "grid", []],
        ["transpose", [0, 0], []],
        ["omega", [9], []],
        ["lift", -1, []],
    ],
    ids=str,
)
def test_nodes_that_the_table_does_not_have(node: list[Any]) -> None:
    def tuples(d: Any) -> Any:
        return tuple(map(tuples, d)) if isinstance(d, list) else d

    with pytest.raises(alone.Refusal) as e:
        alone.admit(node[0], tuples(node[1]), (alone.ONE,) * len(node[2]))
    assert e.value.args[0] == 2


# --- derivations ------------------------------------------------------------------------------------------


def steps(c: Certificate, *rows: Step) -> bytes:
    return dataclasses.replace(c, steps=rows).to_bytes()


def test_steps_left_out_or_in_another_order(certificate: Certificate, answer: Answer) -> None:
    s = certificate.steps
    for k in range(0, len(s), 5):
        code, line = answer(steps(certificate, *s[:k], *s[k + 1 :]))
        assert (code, line.startswith(f"not intact: step {k} (")) == (4, True) or k == len(s) - 1
        if k:
            assert answer(steps(certificate, *s[: k - 1], s[k], s[k - 1], *s[k + 1 :]))[0] == 4
    assert answer(steps(certificate, *s[:-1])) == (4, "not intact: onf: the chain ends at another term")
    assert answer(steps(certificate))[0] == 4
    assert answer(steps(certificate, *s, s[-1]))[0] == 4


def changed(c: Certificate, k: int, **fields: Any) -> bytes:
    s = list(c.steps)
    s[k] = dataclasses.replace(s[k], **fields)
    return steps(c, *s)


def test_a_digest_of_another_term(certificate: Certificate, answer: Answer) -> None:
    for k in range(0, len(certificate.steps), 7):
        code, line = answer(changed(certificate, k, before="0" * 64))
        assert code == 4
        assert f"step {k} (" in line


def test_the_name_of_a_rule_is_a_label_and_its_class_is_not(certificate: Certificate, answer: Answer) -> None:
    for k, s in enumerate(certificate.steps):
        if s.kind == "R":
            for kind in "IS":
                code, line = answer(changed(certificate, k, kind=kind))
                assert code in (1, 3)  # 3 where a question without a witness stood in the way of "every bit"
                assert f"class {kind} is stated, and R was found" in line
    assert answer(changed(certificate, 0, rule="another", params=(), restated=False))[0] == 0


def test_replacements_exchanged(certificate: Certificate, answer: Answer) -> None:
    s = certificate.steps
    for k in range(0, len(s) - 1, 3):
        if s[k].after is not s[k + 1].after:
            code, line = answer(changed(certificate, k, after=s[k + 1].after))
            assert code in (1, 2, 3) or (code == 4 and "another term" in line)


def test_other_paths(certificate: Certificate, answer: Answer) -> None:
    for k in range(0, len(certificate.steps), 5):
        path = certificate.steps[k].path
        for other in ((*path, 0), path[:-1], (*path[:-1], 9), (0,)):
            if other != path:
                assert answer(changed(certificate, k, path=other))[0] in (1, 2, 3)


def small_changes(t: Term) -> list[Term]:
    other = {"add": "sub", "sub": "add", "mul": "div", "div": "mul", "exp": "neg", "max": "add"}
    match t.op:
        case "var":
            return [Var(t.data + 1), *([Var(t.data - 1)] if t.data else [])]
        case "size":
            return [Add(t, ONE)]
        case "f":
            return [Term("f", other[t.data], t.args)] if t.data in other else []
        case "fold":
            return [Fold(t.data, t.args[0], t.args[2], Lt(ZERO, Var(0)))]
        case "iadd" | "imul":
            return [Term("imul" if t.op == "iadd" else "iadd", None, t.args)]
        case "flat":
            return [Flat(t.args[0], ZERO)]
    return []


def positions(t: Term, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Term]]:
    return [(path, t), *(p for k, a in enumerate(t.args) for p in positions(a, (*path, k)))]


def test_small_changes_of_a_replacement_are_refused(certificate: Certificate, answer: Answer) -> None:
    """One node of a step's new term changed.  A softmax may be shifted by anything, so a changed shift stays true."""
    rng, refused = random.Random(0), 0
    for k in rng.sample(range(len(certificate.steps)), 20):
        new = certificate.steps[k].after
        cases = [(p, u) for p, t in positions(new) for u in small_changes(t)]
        for path, other in rng.sample(cases, min(3, len(cases))):
            code, line = answer(changed(certificate, k, after=replace_at(new, path, other)))
            assert code in (1, 2, 3) or (code == 4 and "another term" in line), (k, path)
            refused += code in (1, 2, 3)
    assert refused > 40


def test_spec_dnf_and_onf_are_what_the_chain_says(certificate: Certificate, answer: Answer) -> None:
    spec, dnf, onf = certificate.spec, certificate.dnf, certificate.onf
    for fields in (
        {"dnf": onf},
        {"dnf": spec},
        {"onf": dnf},
        {"spec": dnf},
        {"spec": onf, "dnf": onf, "steps": ()},
    ):
        assert answer(dataclasses.replace(certificate, **fields).to_bytes())[0] in (1, 2, 4)  # type: ignore[arg-type]


def test_another_specification_has_no_name(certificate: Certificate, answer: Answer) -> None:
    x = In("x")
    bare = dataclasses.replace(
        certificate, spec=x, dnf=x, onf=x, inputs=(x,), hypotheses=(), tilings=(), witness={}, steps=(), witnesses={}
    )
    code, line = answer(bare.to_bytes())
    assert (code, line.startswith("proved: another specification: ")) == (0, True)


# --- hypotheses, sizes, tilings, inputs ---------------------------------------------------------------------


def test_a_narrowed_claim_is_another_one(certificate: Certificate, answer: Answer) -> None:
    """One more hypothesis: even one that says nothing takes the name away; others ask for other witnesses."""
    more = dataclasses.replace(certificate, hypotheses=(*certificate.hypotheses, TRUE))
    code, line = answer(more.to_bytes())
    assert (code, line.startswith("proved: another specification: ")) == (0, True)
    more = dataclasses.replace(certificate, hypotheses=(*certificate.hypotheses, Lt(ZERO, Size("n"))))
    assert answer(more.to_bytes())[0] == 3


@pytest.mark.parametrize(
    ("hypothesis", "code"),
    [
        (Lt(Size("n"), ZERO), 1),
        (Not(Lt(ZERO, Size("n"))), 1),
        (Lt(Size("n"), Size("n")), 1),
        (Lt(Var(0), Size("n")), 2),
        (Size("n"), 2),
        (Psi(In("mask", Size("n"), Size("m"), sort="bool"), ZERO, ZERO), 2),
        (Lt(ZERO, Size("unheard")), 2),
        (Lt(ZERO, Term("idiv", None, (Size("n"), ZERO))), 2),
        (Lt(Mul(Size("n"), Size("tq")), Size("n")), 2),
    ],
)
def test_hypotheses_that_cannot_hold_or_are_none(
    hypothesis: Term, code: int, certificate: Certificate, answer: Answer
) -> None:
    given_ = dataclasses.replace(certificate, hypotheses=(*certificate.hypotheses, hypothesis))
    assert answer(given_.to_bytes())[0] == code


def test_sizes(certificate: Certificate, answer: Answer) -> None:
    c, w = certificate, dict(certificate.witness)
    for witness, code in (
        (w | {"extra": 1}, 2),
        ({k: v for k, v in w.items() if k != "n"}, 2),
        (w | {"tq": 0}, 1),
        (w | {"bq": w["bq"] + 1}, 1),
        (w | {"bk": 0}, 1),
    ):
        assert answer(dataclasses.replace(c, witness=witness).to_bytes())[0] == code


def test_tilings_only_define(certificate: Certificate, answer: Answer) -> None:
    good = certificate.tilings
    for tilings in (
        (),
        good[:1],
        (*good, good[0]),
        (dataclasses.replace(good[0], tile="n"), good[1]),
        (dataclasses.replace(good[0], count=good[0].tile), good[1]),
        (dataclasses.replace(good[0], extent="unheard"), good[1]),
        (*good, Tiling("tq", "a", "c")),
        (*good, Tiling("n", "a*n", "c")),
        (*good, Tiling("n", "a*bq", "c")),
        (*good, Tiling("n", "a*tq", "tq")),
        (*good, Tiling("n", "a*tq", "tk")),
        (*good, Tiling("n", "a*tq", "bk")),
    ):
        witness = dict(certificate.witness)
        for named in (witness, {"a": 1, "c": witness["n"]} | witness):
            c = dataclasses.replace(certificate, tilings=tilings, witness=named)
            code, line = answer(c.to_bytes())
            assert (code, "tiling" in line or "meaning" in line) == (2, True), line


PRODUCTS = Tiling("n", "a*b", "c"), Tiling("m", "d*a", "e"), Tiling("n", "d", "f")  # a and d are shared
SIZES = {"n": 7, "m": 5, "a": 2, "b": 3, "c": 2, "d": 2, "e": 2, "f": 4}


def tiled(certificate: Certificate, tilings: Sequence[Tiling], sizes: dict[str, int]) -> Certificate:
    """A claim about an array of n by m that asks nothing: only its tilings can be wrong."""
    t = In("x", Size("n"), Size("m"))
    return dataclasses.replace(
        certificate, spec=t, dnf=t, onf=t, inputs=(t,), hypotheses=(), tilings=tuple(tilings), witness=sizes, steps=(),
        witnesses={},
    )  # fmt: skip


def test_tiles_are_products_of_names_which_may_be_shared(certificate: Certificate, answer: Answer) -> None:
    def code(tilings: Sequence[Tiling] = PRODUCTS, **sizes: int) -> int:
        return answer(tiled(certificate, tilings, SIZES | sizes).to_bytes())[0]

    assert code() == 0
    assert code(a=3, b=1, c=3, e=1) == 0  # the factors are anybody's choice, and the counts follow
    for wrong in ({"a": 0}, {"b": 0}, {"a": 0, "c": 0, "e": 0}, {"c": 1}, {"c": 3}, {"e": 1}, {"e": 3}, {"d": 1}):
        assert code(**wrong) == 1, wrong
    assert code(z=1) == 2
    assert code([*PRODUCTS, PRODUCTS[0]]) == 2


TILINGS: dict[str, tuple[list[Tiling], dict[str, int], str]] = {  # all that they say is true of these sizes
    "four factors": ([Tiling("n", "a*b*d*e", "c")], {"a": 1, "b": 3, "d": 1, "e": 1, "c": 2}, ""),
    "five factors": ([Tiling("n", "a*b*d*e*f", "c")], {"a": 1, "b": 3, "d": 1, "e": 1, "f": 1, "c": 2}, "form"),
    "a square": ([Tiling("n", "a*a", "c")], {"a": 2, "c": 1}, "form"),
    "a factor three times": ([Tiling("n", "a*b*a*a", "c")], {"a": 1, "b": 1, "c": 4}, "form"),
    "no factor": ([Tiling("n", "", "c")], {"c": 4}, "form"),
    "a factor without a name": ([Tiling("n", "a*", "c")], {"a": 1, "c": 4}, "form"),
    "a number": ([Tiling("n", "a*2", "c")], {"a": 1, "c": 2}, "form"),
    "spaces": ([Tiling("n", "a * b", "c")], {"a": 1, "b": 2, "c": 2}, "form"),
    "a product of counts": ([Tiling("n", "a", "c*d")], {"a": 1, "c": 2, "d": 2}, "form"),
    "a product of extents": ([Tiling("n*m", "a", "c")], {"a": 2, "c": 6}, "form"),
    "a factor of the claim": ([Tiling("n", "a*m", "c")], {"a": 1, "c": 2}, "tiling"),
    "its own extent": ([Tiling("n", "a*n", "c")], {"a": 1, "c": 1}, "tiling"),
    "a tile of the claim": ([Tiling("n", "m", "c")], {"c": 2}, "tiling"),
    "a count of the claim": ([Tiling("n", "a", "m")], {"a": 2}, "tiling"),
    "a count that is the extent": ([Tiling("n", "a", "n")], {"a": 1}, "tiling"),
    "a count that is its factor": ([Tiling("n", "a*b", "b")], {"a": 1, "b": 2}, "tiling"),
    "a count that is a later factor": ([Tiling("n", "a", "c"), Tiling("m", "b*c", "d")],
                                       {"a": 2, "c": 2, "b": 1, "d": 2}, "tiling"),
    "a count that is an earlier factor": ([Tiling("m", "b*c", "d"), Tiling("n", "a", "c")],
                                          {"a": 2, "c": 2, "b": 1, "d": 2}, "tiling"),
    "a count of two": ([Tiling("n", "a", "c"), Tiling("m", "b", "c")], {"a": 2, "b": 2, "c": 2}, "tiling"),
    "tiles of a count": ([Tiling("n", "a", "c"), Tiling("c", "b", "d")], {"a": 2, "c": 2, "b": 2, "d": 1}, "tiling"),
    "tiles of a factor": ([Tiling("n", "a*b", "c"), Tiling("b", "d", "e")],
                          {"a": 1, "b": 2, "c": 2, "d": 1, "e": 2}, "tiling"),
    "tiles of an unheard size": ([Tiling("z", "a", "c")], {"z": 2, "a": 2, "c": 1}, "tiling"),
}  # fmt: skip


@pytest.mark.parametrize("name", TILINGS)
def test_a_tiling_narrows_no_claim(name: str, certificate: Certificate, answer: Answer) -> None:
    """Though it be true of the stored sizes."""
    tilings, sizes, fault = TILINGS[name]
    code, line = answer(tiled(certificate, tilings, {"n": 4, "m": 3} | sizes).to_bytes())
    assert (code, fault in line) == (2 if fault else 0, True), line


def test_the_facts_of_a_tiling_are_the_kernels(certificate: Certificate) -> None:
    """The same truths at all sizes, the positive factors one by one."""
    c = tiled(certificate, PRODUCTS, SIZES)
    own = alone.facts_of(alone.read(c.to_bytes()))
    theirs = facts_of(c)
    assert len(own) == len(theirs) == 11
    rng, seen = random.Random(0), set()
    for _ in range(4000):
        sizes = {name: rng.randrange(4) for name in SIZES}
        mine = [bool(alone.at_sizes(f, sizes, {})) for f in own]
        assert mine == [bool(meaning(f, (), (), (), Numbers(sizes, {}))) for f in theirs]
        seen |= set(enumerate(mine))
    assert len(seen) == 22


def test_inputs(certificate: Certificate, answer: Answer) -> None:
    good = certificate.inputs
    for inputs in (
        good[1:],
        (*good, good[0]),
        (In(good[0].data[0], Size("n")), *good[1:]),
        (*good, Size("n")),
        (*good, In("n")),
        (*good, In("more", Term("idiv", None, (Size("n"), ONE)))),
    ):
        assert answer(dataclasses.replace(certificate, inputs=inputs).to_bytes())[0] == 2


# --- witnesses ----------------------------------------------------------------------------------------------


def test_each_witness_is_needed(document: Any, answer: Answer) -> None:
    """But for those of the real inequalities, which this checker does not ask for."""
    said = re.search(r"by (\d+) of (\d+) witnesses", answer(document)[1])
    used, carried = map(int, said.groups() if said else ())
    assert carried == len(document["witnesses"])
    codes = []
    for key in document["witnesses"]:
        left = {k: v for k, v in document["witnesses"].items() if k != key}
        codes.append(answer(document | {"witnesses": left})[0])
    assert (codes.count(3), codes.count(0)) == (used, carried - used)
    assert answer(document | {"witnesses": {}})[0] == 3


def test_witnesses_of_other_questions(document: Any, answer: Answer) -> None:
    keys, trees = list(document["witnesses"]), list(document["witnesses"].values())
    for shift in range(1, len(keys)):
        moved = dict(zip(keys, trees[shift:] + trees[:shift], strict=True))
        code, line = answer(document | {"witnesses": moved})
        assert (code, "does not prove" in line) == (4, True)


def leaves(tree: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if not isinstance(tree, list):
        return [path]
    return [p for k, u in enumerate(tree) for p in leaves(u, (*path, k))]


def test_changed_witnesses(document: Any, answer: Answer) -> None:
    """Another number in a row is another sum, which is seldom a proof; if it is one, it may stay."""
    rng, refused = random.Random(1), 0
    for key, tree in document["witnesses"].items():
        for path in rng.sample(leaves(tree), min(3, len(leaves(tree)))):
            for other in (-1, 0, 99):
                new = copy.deepcopy(tree)
                at = new
                for k in path[:-1]:
                    at = at[k]
                at[path[-1]] = other
                code, _ = answer(document | {"witnesses": document["witnesses"] | {key: new}})
                assert code in (0, 2, 4)
                refused += code == 4
    assert refused > 80


def question() -> alone.Question:
    """Do n < m and m < n + 1 say that m < 0?"""
    n, m = alone.size("n"), alone.size("m")
    facts = frozenset([alone.less(n, m), alone.less(m, alone.add(n, alone.ONE))])
    return alone.Question(facts, alone.less(m, alone.ZERO))


def proves(q: alone.Question, tree: Any) -> bool:
    try:
        alone.Tree(q).close(tree, *alone.assumed(q.clauses), 0)
    except alone.Refusal:
        return False
    return True


def test_trees_that_prove_and_trees_that_do_not() -> None:
    q = question()
    texts = [q.spelled(c) for c in q.clauses]
    low, high = texts.index("(>= (+ (- 1) s.m (* (- 1) s.n)) 0)"), texts.index("(>= (+ (* (- 1) s.m) s.n) 0)")
    good = ["sum", [1, low], [1, high]]
    assert proves(q, good)
    assert proves(q, ["cut", [[1, "s.n"]], good, good])
    for bad in (
        ["sum"],
        ["sum", [1, low]],
        ["sum", [1, low], [2, high]],
        ["sum", [-1, low], [-1, high]],
        ["sum", [0, low], [1, low], [1, high]],
        ["sum", [True, low], [1, high]],
        ["sum", [1.0, low], [1, high]],
        ["sum", [1, low], [1, high, 99]],
        ["sum", [1, low], [1, -1]],
        ["sum", [1, low], [1, "0"]],
        ["sum", []],
        ["or", 0, good],
        ["cut", [[1, "s.n"]], good],
        ["cut", [[1, "s.unheard"]], good, good],
        ["cut", [[1.5, "s.n"]], good, good],
        ["cut", [["s.n"]], good, good],
        ["cut", [[1, "s.n"]], good, ["sum"]],
        ["both", good],
        [],
        good[0],
        None,
        {"sum": 1},
    ):
        assert not proves(q, bad), bad


def test_witnesses_that_are_bombs() -> None:
    q = question()
    deep: Any = ["sum"]
    for _ in range(500):
        deep = ["cut", [[1, "s.n"]], deep, ["sum"]]
    wide = ["sum", [1, *([0, 1, 2] * 2000)]]
    for tree in (deep, wide, ["sum", *([[1, 0, 1, 2, 3]] * 50_000)]):
        assert not proves(q, tree)


# --- fuzz -----------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=200) | JSON.map(lambda d: json.dumps(d).encode()))
def test_garbage_is_no_certificate(garbage: bytes) -> None:
    with pytest.raises(alone.Refusal) as e:
        alone.read(garbage)
    assert e.value.args[0] == 2


def places(d: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = d.items() if isinstance(d, dict) else enumerate(d) if isinstance(d, list) else ()
    return [path, *(p for k, u in inner for p in places(u, (*path, k)))]


@pytest.mark.parametrize("seed", range(3))
def test_structured_garbage(seed: int, document: Any, answer: Answer) -> None:
    """A value somewhere replaced, deleted or repeated, with a core digest that fits: refused, or of no consequence."""
    rng = random.Random(seed)
    chosen = {row[2] for s in document["steps"] for row in s.get("choose", ())}
    everywhere = [p for p in places(document) if p and p[0] != "core"]
    for path in rng.sample(everywhere, 60):
        changed_ = copy.deepcopy(document)
        at: Any = changed_
        for k in path[:-1]:
            at = at[k]
        old = at[path[-1]]
        match rng.randrange(3):
            case 0:
                at[path[-1]] = rng.choice([None, True, 0, 1, -1, 10**30, 1.5, "", "n", [], {}, [old]])
            case 1:
                del at[path[-1]]
            case _ if isinstance(at, list):
                at.insert(path[-1], old)
            case _:
                at[f"{path[-1]}2"] = old
        code, line = answer(changed_)
        label = path[0] in FREE or (path[0] == "steps" and path[2:3] in (("rule",), ("params",), ("class",)))
        label = label or (path[:2] == ("terms", "roots") and path[2] in chosen)
        sizes = path[0] == "witness"  # others may satisfy the hypotheses as well
        assert code in (1, 2, 3, 4) or label or sizes or changed_ == document, (path, line)
