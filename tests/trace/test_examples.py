"""Each example's Spec against the function, and the identities between Specs that the docstrings state."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from moaproof.errors import MoaproofError, Refuted
from moaproof.operators import typeof
from moaproof.semantics import Numbers, evaluate
from moaproof.term import In, Le, Lt, Mul, Size, Term
from moaproof.trace import Spec, agree, capture, spec_of
from moaproof.trace.compare import draw, sample_sizes, shared
from moaproof.trace.graph import parse

ATTENTION = [
    "attention", "scaled_attention", "divided_attention", "causal_attention", "causal_attention_tril",
    "masked_attention", "gqa_attention", "sdpa", "sdpa_default", "sdpa_causal", "sdpa_masked", "sdpa_gqa",
    "sdpa_gqa_causal", "sdpa_gqa_masked", "one_head", "shifted_softmax", "unshifted_softmax",
    "windowed_attention",
]  # fmt: skip
ARRAYS = ["chain", "outer_sum", "differences", "middle", "wrapped", "cycle", "cycle_back", "standardised"]
FURTHER = [
    "nano_gpt", "upper_triangle", "bottom_right", "repeated_heads", "einsum_attention", "causal_and_mask",
    "either_mask", "unshifted_masked", "masked_twice", "merged_heads", "split_heads", "layer_norm", "sections",
    "one_row", "triangle_of_reals", "vectors", "fused", "branch_on_order", "branch_on_zero",
]  # fmt: skip
DEVIATE = {
    "masked_attention", "sdpa_causal", "sdpa_gqa_causal", "one_head", "windowed_attention", "bottom_right",
    "einsum_attention", "either_mask", "unshifted_masked", "masked_twice",
}  # fmt: skip
FIXED: dict[str, dict[str, Any]] = {"windowed_attention": {"window": 2}}

GRAPHS: dict[str, tuple[Callable[..., Any], Any]] = {}


def captured(module: ModuleType, name: str) -> tuple[Callable[..., Any], Any]:
    """The function with its fixed parameters, and its graph; captured once in a session."""
    if name not in GRAPHS:
        fn = getattr(module, name)
        GRAPHS[name] = fn, capture(fn, fixed=FIXED.get(name))
    return GRAPHS[name]


def spec(module: ModuleType, name: str) -> Spec:
    return spec_of(captured(module, name)[1])


def test_every_example_is_listed(attention: ModuleType, arrays: ModuleType) -> None:
    for module, names in ((attention, ATTENTION), (arrays, ARRAYS)):
        own = {n for n, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__}
        assert own == set(names)


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_example_agrees_with_its_function(attention: ModuleType, name: str) -> None:
    fn, graph = captured(attention, name)
    found = agree(fn, graph, trials=14)
    assert found.elements > 40
    assert bool(spec_of(graph).deviations) == (name in DEVIATE)


@pytest.mark.parametrize("name", ARRAYS)
def test_array_example_agrees_with_its_function(arrays: ModuleType, name: str) -> None:
    assert agree(*captured(arrays, name)).elements > 20


@pytest.mark.parametrize("name", FURTHER)
def test_further_writing_agrees_with_its_function(functions: ModuleType, name: str) -> None:
    fn, graph = captured(functions, name)
    assert agree(fn, graph, trials=14).elements > 20
    assert bool(spec_of(graph).deviations) == (name in DEVIATE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("attention", "sdpa"),
        ("attention", "shifted_softmax"),
        ("scaled_attention", "sdpa_default"),
        ("causal_attention", "sdpa_causal"),
        ("causal_attention", "causal_attention_tril"),
        ("masked_attention", "sdpa_masked"),
        ("gqa_attention", "sdpa_gqa"),
    ],
)
def test_two_writings_are_one_term(attention: ModuleType, one: str, other: str) -> None:
    a, b = spec(attention, one), spec(attention, other)
    assert a.term is b.term
    assert a.hypotheses == b.hypotheses
    assert a.inputs == b.inputs


@pytest.mark.parametrize("other", ["scaled_attention", "divided_attention", "unshifted_softmax", "causal_attention"])
def test_other_writings_are_other_terms(attention: ModuleType, other: str) -> None:
    assert spec(attention, "attention").term is not spec(attention, other).term


def test_the_upper_triangle_hides_what_the_lower_shows(attention: ModuleType, functions: ModuleType) -> None:
    assert spec(functions, "upper_triangle").term is spec(attention, "causal_attention").term


def test_plain_attention_reads_as_in_the_calculus(attention: ModuleType) -> None:
    b, h, n, m, dk, dv = map(Size, ("b", "h", "n", "m", "dk", "dv"))
    q, k, v, scale = In("q", b, h, n, dk), In("k", b, h, m, dk), In("v", b, h, m, dv), In("scale")
    left, right = Term("var", 1), Term("var", 0)
    inner = Term("inner", ("add", "mul"), (left, right))
    point = lambda f: Term("pointwise", f, (left, right))  # noqa: E731
    dots = Term("omega", (2, 2), (q, Term("transpose", (0, 1, 3, 2), (k,)), inner))
    x = Term("pointwise", "mul", (dots, scale))
    e = Term("map", "exp", (Term("omega", (1, 0), (x, Term("reduce", ("max", 3), (x,)), point("sub"))),))
    y = Term("omega", (1, 0), (e, Term("reduce", ("add", 3), (e,)), point("div")))
    found = spec(attention, "attention")
    assert found.term is Term("omega", (2, 2), (y, v, inner))
    assert found.inputs == (q, k, v, scale)
    assert found.hypotheses == ()
    assert typeof(found.term).shape == (b, h, n, dv)


def test_hypotheses_are_those_that_are_needed(attention: ModuleType, arrays: ModuleType) -> None:
    dk, h, g, r = map(Size, ("dk", "h", "g", "r"))
    zero = Term("int", 0)
    assert spec(attention, "sdpa_default").hypotheses == (Lt(zero, dk),)
    assert spec(attention, "divided_attention").hypotheses == (Lt(zero, dk),)
    assert spec(attention, "gqa_attention").hypotheses == (Le(h, Mul(g, r)), Le(Mul(g, r), h), Lt(zero, g))
    assert len(spec(arrays, "middle").hypotheses) == 2


def test_a_branch_on_an_order_is_a_hypothesis(functions: ModuleType) -> None:
    n, m = Size("n"), Size("m")
    assert spec(functions, "branch_on_order").hypotheses == (Lt(n, m),)
    assert spec(functions, "branch_on_zero").hypotheses == (Lt(Term("int", 0), n), Lt(Term("int", 0), m))


def test_a_masked_row_deviates_only_where_pytorch_gives_nan(attention: ModuleType) -> None:
    assert spec(attention, "sdpa_masked").deviations == ()
    (sentence,) = spec(attention, "masked_attention").deviations
    assert "no visible key" in sentence


def test_a_causal_flash_attention_with_a_negative_scale_is_a_stated_deviation(attention: ModuleType) -> None:
    """Torch's kernel masks with -inf before it multiplies by the scale."""
    fn = attention.sdpa_causal
    for scale, count in ((-0.5, 1), (0.0, 1), (0.5, 0)):
        graph = capture(fn, fixed={"scale": scale})
        assert len(spec_of(graph).deviations) == count
        assert agree(fn, graph).elements > 40
    assert spec(attention, "causal_attention").deviations == ()


def test_agree_refutes_another_function(attention: ModuleType) -> None:
    graph = captured(attention, "attention")[1]
    with pytest.raises(Refuted, match="attention: the Spec has"):
        agree(lambda q, k, v, scale: attention.attention(q, k, v, scale * (1 + 1e-9)), graph)
    with pytest.raises(Refuted, match="shape"):
        agree(lambda q, k, v, scale: attention.attention(q, k, v, scale).mT, graph)


def test_agree_refutes_another_alignment_of_the_causal_mask(attention: ModuleType, functions: ModuleType) -> None:
    top_left = capture(functions.nano_gpt)
    with pytest.raises(Refuted):
        agree(functions.bottom_right, top_left)


# --- theorems of the Specs -----------------------------------------------------------------------

Data = dict[str, list[Any]]


def cases(graph: Any, count: int = 6, seed: int = 1) -> list[tuple[dict[str, int], Data]]:
    rng = random.Random(seed)
    parsed, of = parse(graph), spec_of(graph)
    return [
        (dict(sizes), {i.name: draw(i, sizes, rng) for i in parsed.inputs})
        for sizes in sample_sizes(parsed, of, rng, count, top=3)
    ]


def value(term: Term, sizes: dict[str, int], data: Data) -> list[float]:
    return evaluate(shared(term), Numbers(sizes, data))[1]


@pytest.mark.parametrize(
    "name",
    [
        "sdpa",
        "sdpa_causal",
        "sdpa_masked",
        "sdpa_gqa",
        "sdpa_gqa_causal",
        "sdpa_gqa_masked",
        "one_head",
        "unshifted_softmax",
    ],
)
def test_weights_of_a_row_sum_to_one_or_none_is_visible(attention: ModuleType, name: str) -> None:
    """With values 1 each result is the sum of the weights."""
    graph = captured(attention, name)[1]
    term, seen = spec_of(graph).term, set()
    for sizes, data in cases(graph, 40):
        ones = {**data, "v": [1.0] * len(data["v"])}
        for x in value(term, sizes, ones):
            assert x == 0 or math.isclose(x, 1.0, rel_tol=1e-12)
            seen.add(round(x))
    assert 1 in seen


@pytest.mark.parametrize("name", ["sdpa", "shifted_softmax"])
def test_reversing_the_keys_changes_nothing(attention: ModuleType, name: str) -> None:
    graph = captured(attention, name)[1]
    for sizes, data in cases(graph):
        turned = dict(data)
        for key, d in (("k", "dk"), ("v", "dv")):
            rows = [data[key][x : x + sizes[d]] for x in range(0, len(data[key]), sizes[d])] if sizes[d] else []
            heads = [rows[x : x + sizes["m"]][::-1] for x in range(0, len(rows), sizes["m"])] if sizes["m"] else []
            turned[key] = [x for head in heads for row in head for x in row]
        pairs = zip(value(spec_of(graph).term, sizes, data), value(spec_of(graph).term, sizes, turned), strict=True)
        assert all(math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-12) for x, y in pairs)


def test_hidden_keys_have_no_influence(attention: ModuleType) -> None:
    """Whatever stands in the keys and values that no query sees, infinities and NaN too."""
    graph = captured(attention, "one_head")[1]
    term, hidden_keys = spec_of(graph).term, 0
    for sizes, data in cases(graph, 20, seed=3):
        n, m = sizes["n"], sizes["m"]
        hidden = [k for k in range(m) if not any(data["mask"][i * m + k] for i in range(n))]
        changed = {key: list(data[key]) for key in data}
        for k in hidden:
            for key, d in (("k", sizes["dk"]), ("v", sizes["dv"])):
                changed[key][k * d : (k + 1) * d] = [math.nan] * d
        assert value(term, sizes, data) == value(term, sizes, changed)
        hidden_keys += len(hidden)
    assert hidden_keys > 5


def test_the_graph_of_an_example_needs_no_torch_to_be_read(attention: ModuleType) -> None:
    with pytest.raises(MoaproofError):
        spec_of({**captured(attention, "sdpa")[1], "schema": "another"})
