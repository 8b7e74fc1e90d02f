"""What capture refuses, by name, file and line; and how parameters are declared."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from types import ModuleType
from typing import Any

import pytest
import torch

from moaproof.errors import NotCovered
from moaproof.trace import capture, spec_of
from moaproof.trace.declare import Axis, declared

REFUSED = {
    "branch_on_a_constant": ("if q.shape[0] == 4", "a branch on sizes"),
    "branch_on_one_query": ("if q.shape[2] == 1", "a branch on sizes"),
    "same_sizes": ("def same_sizes", "equal extents by one name"),
    "loop_over_a_size": ("for i in range", "becomes a Python number"),
    "fixed_reshape": ("return x.reshape(11, -1)", "a reshape"),
    "branch_on_data": ("return x if x.sum() > 0", "decides a branch"),
    "data_as_number": ("return x * x.sum().item()", "aten.item.default"),
    "branch_on_a_number": ("return x if scale > 0", "decides a branch"),
    "in_place": ("y.add_(1)", "in-place"),
    "in_place_on_the_input": ("x[0] = 1.0", "in-place"),
    "with_dropout": ("functional.dropout", "dropout is random"),
    "sdpa_dropout": ("dropout_p=0.5", "dropout is random"),
    "float_mask": ("attn_mask=bias", "a float mask is not covered"),
    "single_precision": (".float()", "a conversion to float32"),
    "softmax_over_queries": ("softmax(-2)", "softmax along another axis than the last"),
    "constant_tensor": ("WEIGHTS", "a constant tensor"),
    "two_results": ("def two_results", "something else than one tensor"),
    "unknown_operator": ("torch.cumsum", "aten.cumsum.default: the operator is not covered"),
    "scaled_after_masking": ("* scale).softmax", "a masked score"),
    "masked_weights_returned": ("def masked_weights_returned", "a masked weight"),
    "other_maximum": ("scores.amax", "a masked score"),
    "data_mask": ("scores < 0", "a comparison of real values"),
    "extents_differ": ("def extents_differ", "declare the extents"),
}


def refusal(fn: Any, **options: Any) -> str:
    with pytest.raises(NotCovered) as caught:
        spec_of(capture(fn, **options))
    return str(caught.value)


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_function_file_and_line(functions: ModuleType, name: str) -> None:
    fn = getattr(functions, name)
    code, reason = REFUSED[name]
    lines, first = inspect.getsourcelines(fn)
    line = next(first + k for k, text in enumerate(lines) if code in text)
    message = refusal(fn)
    assert f"functions.py:{line}: {name}: " in message
    assert reason in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [("collects", "name each parameter"), ("undeclared", "'w: (n, m)'"), ("wants_a_flag", "fixed={'flag': ...}")],
)
def test_parameters_that_are_not_known_are_refused(functions: ModuleType, name: str, reason: str) -> None:
    assert reason in refusal(getattr(functions, name))


def test_refusals_of_the_table_say_what_is_covered(functions: ModuleType) -> None:
    assert "Covered are: matmul" in refusal(functions.unknown_operator)


def test_fixing_no_parameter_is_refused(attention: ModuleType) -> None:
    assert "no parameter" in refusal(attention.attention, fixed={"scales": 1.0})


def test_flags_are_fixed_and_recorded(functions: ModuleType) -> None:
    graphs = [capture(functions.wants_a_flag, fixed={"flag": flag}) for flag in (False, True)]
    assert [g["inputs"][1] for g in graphs] == [
        {"name": "flag", "kind": "literal", "value": ["bool", flag]} for flag in (False, True)
    ]
    assert [spec_of(g).term.op for g in graphs] == ["in", "pointwise"]


def test_a_fixed_scale_is_an_exact_rational(attention: ModuleType) -> None:
    for fn in (attention.attention, attention.sdpa):
        spec = spec_of(capture(fn, fixed={"scale": 0.1}))
        assert [i.data[0] for i in spec.inputs] == ["q", "k", "v"]
        num, den = (0.1).as_integer_ratio()
        assert f"real[('{num}', '{den}')]" in repr(spec.term)


def test_a_graph_is_plain_json_and_the_same_twice(attention: ModuleType) -> None:
    one, two = (json.dumps(capture(attention.masked_attention), allow_nan=False) for _ in range(2))
    assert one == two
    graph = json.loads(one)
    assert "attention.py" in graph["file"]
    assert not graph["file"].startswith("/")
    assert graph["source"].startswith("def masked_attention(")
    assert spec_of(graph).term is spec_of(json.loads(two)).term
    lines = {node["line"] for node in graph["nodes"]}
    assert lines <= set(range(graph["line"], graph["line"] + graph["source"].count("\n") + 1))


def test_a_broadcast_mask_has_steps(attention: ModuleType) -> None:
    (mask,) = [i for i in capture(attention.sdpa_masked)["inputs"] if i["kind"] == "mask"]
    assert mask["extents"] == ["mb", "mh", "mn", "mm"]
    assert mask["steps"] == ["sb", "sh", "sn", "sm"]
    assert mask["over"] == ["b", "h", "n", "m"]


def test_capture_leaves_torch_and_math_as_they_were(attention: ModuleType, functions: ModuleType) -> None:
    before = (math.sqrt, torch.SymBool.__bool__, torch.SymInt.__index__, attention.math.sqrt)
    refusal(functions.branch_on_data)
    capture(attention.divided_attention)
    assert before == (math.sqrt, torch.SymBool.__bool__, torch.SymInt.__index__, attention.math.sqrt)


def test_capture_prints_nothing(functions: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refusal(functions.branch_on_data)
        capture(functions.layer_norm)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "kind", "axes"),
    [
        ("(n, dk)", "real", (Axis("n"), Axis("dk"))),
        ("(b, h = g*r, n)", "real", (Axis("b"), Axis("h", ("g", "r")), Axis("n"))),
        ("(e = h*4)", "real", (Axis("e", ("h", 4)),)),
        ("bool (#b, n)", "bool", (Axis("b", (), True), Axis("n"))),
        ("real", "scalar", ()),
        ("(n, m).", "real", (Axis("n"), Axis("m"))),
    ],
)
def test_declarations_are_read(text: str, kind: str, axes: tuple[Axis, ...]) -> None:
    assert declared(text) == (kind, axes)


@pytest.mark.parametrize("text", ["", "the queries", "()", "int (n)", "(n", "(n) of them"])
def test_prose_is_no_declaration(text: str) -> None:
    assert declared(text) is None


def test_a_literal_extent_is_refused() -> None:
    with pytest.raises(NotCovered, match="each extent has a name"):
        declared("(n, 3)")


def test_a_string_annotation_declares() -> None:
    def product(x: "(n, m)", y: "(m)"):  # noqa: F821, UP037
        return x @ y

    graph = capture(product)
    assert [i["extents"] for i in graph["inputs"]] == [["n", "m"], ["m"]]
