"""Strict reading of a captured graph.  Trusted for claim (a): the graph is untrusted input.

    graph    {schema, function, file, line, source, inputs, equations, hypotheses, nodes, output}
    input    {name, kind: "real" | "bool", extents: [size, ...]}             a tensor
             {name, kind: "mask", extents, steps, over}                      a broadcastable bool tensor: each axis has
                                                                             its own extent, a step size of 0 or 1 (or
                                                                             null) and the size that it is read over
             {name, kind: "scalar"}                                          a Python float
             {name, kind: "literal", value}                                  a parameter fixed at a literal
    equation {size: "h", factors: ["g", "r"]}                                h = g*r
    node     {id, op, args, kwargs, line}                                    ids count from 0
    value    ["node", id] ["input", name] ["int", 5] ["float", "0x1.8p+1"] ["bool", true] ["none"] ["str", "bool"]
             ["list", [value, ...]]

Anything else is ``CertificateInvalid``; nothing is ignored and nothing is evaluated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from ..errors import CertificateInvalid
from ..term import MAX_INT, Add, And, Int, Lt, Mul, Not, Size, Term

SCHEMA: Final = "moaproof-graph-1"
FIELDS: Final = frozenset(
    {"schema", "function", "file", "line", "source", "inputs", "equations", "hypotheses", "nodes", "output"}
)
INPUT_FIELDS: Final = {
    "real": frozenset({"name", "kind", "extents"}),
    "bool": frozenset({"name", "kind", "extents"}),
    "mask": frozenset({"name", "kind", "extents", "steps", "over"}),
    "scalar": frozenset({"name", "kind"}),
    "literal": frozenset({"name", "kind", "value"}),
}
MAX_NODES: Final = 512
MAX_INPUTS: Final = 16
MAX_RANK: Final = 8
MAX_TEXT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of an earlier node."""

    node: int


@dataclass(frozen=True, slots=True)
class Param:
    """The value of an input."""

    name: str


@dataclass(frozen=True, slots=True)
class Input:
    """A parameter of the function; ``extents``, ``steps`` and ``over`` are size names, ``value`` a literal."""

    name: str
    kind: str
    extents: tuple[str, ...] = ()
    steps: tuple[str | None, ...] = ()
    over: tuple[str, ...] = ()
    value: Any = None


@dataclass(frozen=True, slots=True)
class Node:
    """One operator call: ``args`` and ``kwargs`` hold Ref, Param, literals, Fraction for floats, and tuples."""

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    line: int


@dataclass(frozen=True, slots=True)
class Graph:
    """A parsed graph.  ``equations`` are (size, product of sizes); ``hypotheses`` are Bool terms over sizes."""

    function: str
    file: str
    line: int
    source: str
    inputs: tuple[Input, ...]
    equations: tuple[tuple[str, Term], ...]
    hypotheses: tuple[Term, ...]
    nodes: tuple[Node, ...]
    output: Any

    @property
    def sizes(self) -> tuple[str, ...]:
        """Every size name, in order of first appearance."""
        names: dict[str, None] = {}
        for i in self.inputs:
            names.update(dict.fromkeys((*i.extents, *i.over, *(s for s in i.steps if s))))
        for size, factors in self.equations:
            names.update(dict.fromkeys((size, *_size_names(factors))))
        return tuple(names)


def _size_names(t: Term) -> tuple[str, ...]:
    return (t.data,) if t.op == "size" else tuple(name for a in t.args for name in _size_names(a))


def need(condition: bool, why: str) -> None:
    if not condition:
        raise CertificateInvalid(f"graph: {why}")


def _name(x: Any, what: str) -> str:
    need(isinstance(x, str) and x.isascii() and x.isidentifier() and len(x) <= 40, f"{what} is no plain name")
    return str(x)


def _text(x: Any, what: str, limit: int) -> str:
    need(isinstance(x, str) and len(x) <= limit, f"{what} is no text of at most {limit} characters")
    return str(x)


def _line(x: Any, what: str, limit: int) -> str:
    """Text that is shown in messages: nothing in it steers a terminal."""
    need(_text(x, what, limit).isprintable(), f"{what} holds what cannot be printed")
    return str(x)


def _int(x: Any, what: str, low: int = -MAX_INT, high: int = MAX_INT) -> int:
    need(type(x) is int and low <= x <= high, f"{what} is no integer in range")
    return int(x)


def _list(x: Any, what: str, limit: int) -> list[Any]:
    need(isinstance(x, list) and len(x) <= limit, f"{what} is no list of at most {limit} entries")
    return list(x)


def _record(x: Any, what: str, fields: frozenset[str]) -> dict[str, Any]:
    need(isinstance(x, dict) and set(x) == fields, f"{what} has exactly the fields {', '.join(sorted(fields))}")
    return dict(x)


def _float(text: Any) -> Fraction | float:
    """A finite float exactly, as a rational; minus infinity as itself."""
    need(isinstance(text, str) and len(text) <= 40, "a float is a hexadecimal string")
    try:
        value = float.fromhex(text)
    except (ValueError, OverflowError):
        raise CertificateInvalid("graph: a float is a hexadecimal string") from None
    need(value.hex() == text, "a float is not in canonical form")
    if value == -math.inf:
        return value
    need(math.isfinite(value), "a float is neither finite nor minus infinity")
    return Fraction(*value.as_integer_ratio())


def _shown(x: Any) -> str:
    """The tag of what is not understood: the whole may be too deep or too long to be shown."""
    tag = x[0] if isinstance(x, list) and x and isinstance(x[0], str) else type(x).__name__
    return f"{tag!r:.60}"


def _value(x: Any, before: int, names: frozenset[str], level: int = 0) -> Any:
    need(isinstance(x, list) and bool(x) and isinstance(x[0], str), "a value is a tagged list")
    match x:
        case ["node", k]:
            return Ref(_int(k, "a reference to a node", 0, before - 1))
        case ["input", name]:
            need(isinstance(name, str) and name in names, "a reference to no input")
            return Param(name)
        case ["int", k]:
            return _int(k, "an integer")
        case ["float", text]:
            return _float(text)
        case ["bool", True | False as b] if type(b) is bool:
            return b
        case ["none"]:
            return None
        case ["str", text]:
            return _text(text, "a string", 200)
        case ["list", items] if level < 3:
            return tuple(_value(i, before, names, level + 1) for i in _list(items, "a list of values", 32))
    raise CertificateInvalid(f"graph: unknown value {_shown(x)}")


def _input(x: Any) -> Input:
    need(isinstance(x, dict) and isinstance(x.get("kind"), str), "an input has a kind")
    fields = INPUT_FIELDS.get(x["kind"])
    if fields is None:
        raise CertificateInvalid(f"graph: unknown kind of input {x['kind'][:40]!r}")
    x = _record(x, f"an input of kind {x['kind']}", fields)
    name, kind = _name(x["name"], "an input's name"), x["kind"]
    if kind == "literal":
        return Input(name, kind, value=_value(x["value"], 0, frozenset()))
    axes = {key: tuple(_list(x.get(key, []), f"{name}: {key}", MAX_RANK)) for key in ("extents", "steps", "over")}
    for key in ("extents", "over"):
        for size in axes[key]:
            _name(size, f"{name}: a size")
    need(kind == "scalar" or bool(axes["extents"]), f"{name}: a tensor has at least one axis")
    if kind == "mask":
        need(
            len({len(a) for a in axes.values()}) == 1,
            f"{name}: extents, steps and over have one entry an axis",
        )
        for extent, step, over in zip(axes["extents"], axes["steps"], axes["over"], strict=True):
            need(
                step is not None or extent == over,
                f"{name}: an axis without a step has the extent that it is read over",
            )
            if step is not None:
                _name(step, f"{name}: a step")
    return Input(name, kind, axes["extents"], axes["steps"], axes["over"])


def _fresh_names(inputs: tuple[Input, ...]) -> None:
    """Input names are distinct, no input has the name of a size, and a mask's own extents and steps are its own."""
    names = [i.name for i in inputs]
    need(len(set(names)) == len(names), "two inputs have one name")
    own = [s for i in inputs if i.kind == "mask" for e, s in zip(i.extents, i.steps, strict=True) if s for s in (e, s)]
    shared = {s for i in inputs for s in (i.over if i.kind == "mask" else i.extents)}
    need(
        len(set(own)) == len(own) and not shared & set(own),
        "a mask's own extents and steps have names of their own",
    )
    clash = set(names) & (shared | set(own))
    need(not clash, f"{', '.join(sorted(clash))} names both a parameter and a size")


def _equation(x: Any) -> tuple[str, Term]:
    x = _record(x, "an equation", frozenset({"size", "factors"}))
    size = _name(x["size"], "an equation's size")
    factors = _list(x["factors"], "factors", MAX_RANK)
    need(bool(factors), "an equation has factors")
    terms = [Size(_name(f, "a factor")) if isinstance(f, str) else Int(_int(f, "a factor", 0)) for f in factors]
    product = terms[0]
    for t in terms[1:]:
        product = Mul(product, t)
    return size, product


def _index(x: Any, sizes: frozenset[str], level: int = 0) -> Term:
    need(level <= 12, "a hypothesis is nested too deep")
    match x:
        case ["size", name] if isinstance(name, str) and name in sizes:
            return Size(name)
        case ["int", k]:
            return Int(_int(k, "an integer"))
        case ["add", a, b]:
            return Add(_index(a, sizes, level + 1), _index(b, sizes, level + 1))
        case ["mul", a, b]:
            return Mul(_index(a, sizes, level + 1), _index(b, sizes, level + 1))
    raise CertificateInvalid(f"graph: {_shown(x)} is no polynomial over the sizes of the inputs")


def _hypothesis(x: Any, sizes: frozenset[str], level: int = 0) -> Term:
    need(level <= 4, "a hypothesis is nested too deep")
    match x:
        case ["lt", a, b]:
            return Lt(_index(a, sizes), _index(b, sizes))
        case ["and", a, b]:
            return And(_hypothesis(a, sizes, level + 1), _hypothesis(b, sizes, level + 1))
        case ["not", a]:
            return Not(_hypothesis(a, sizes, level + 1))
    raise CertificateInvalid(f"graph: {_shown(x)} is no hypothesis")


def _node(x: Any, at: int, names: frozenset[str]) -> Node:
    x = _record(x, f"node {at}", frozenset({"id", "op", "args", "kwargs", "line"}))
    need(_int(x["id"], f"the id of node {at}") == at, f"node {at} has another id")
    need(isinstance(x["kwargs"], dict) and len(x["kwargs"]) <= 16, f"node {at}: kwargs is a small record")
    args = tuple(_value(a, at, names) for a in _list(x["args"], f"node {at}: args", 16))
    kwargs = {_name(k, "a keyword"): _value(v, at, names) for k, v in x["kwargs"].items()}
    return Node(_line(x["op"], f"node {at}: op", 100), args, kwargs, _int(x["line"], f"node {at}: line", 0))


def parse(document: Any) -> Graph:
    """The graph of a JSON document.  Raises ``CertificateInvalid``."""
    x = _record(document, "it", FIELDS)
    need(x["schema"] == SCHEMA, f"another schema than {SCHEMA}")
    inputs = tuple(map(_input, _list(x["inputs"], "inputs", MAX_INPUTS)))
    _fresh_names(inputs)
    names = frozenset(i.name for i in inputs)
    equations = tuple(map(_equation, _list(x["equations"], "equations", MAX_INPUTS)))
    need(len({s for s, _ in equations}) == len(equations), "two equations for one size")
    sides = {name for _, product in equations for name in _size_names(product)}
    need(not sides & {s for s, _ in equations}, "a size with an equation stands in an equation")
    need(not names & (sides | {s for s, _ in equations}), "an equation names a parameter")
    rows = _list(x["nodes"], "nodes", MAX_NODES)
    graph = Graph(
        function=_name(x["function"], "the function's name"),
        file=_line(x["file"], "file", 400),
        line=_int(x["line"], "line", 0),
        source=_text(x["source"], "source", MAX_TEXT),
        inputs=inputs,
        equations=equations,
        hypotheses=(),
        nodes=tuple(_node(row, at, names) for at, row in enumerate(rows)),
        output=_value(x["output"], len(rows), names),
    )
    sizes = frozenset(graph.sizes)
    held = tuple(_hypothesis(h, sizes) for h in _list(x["hypotheses"], "hypotheses", 64))
    return replace(graph, hypotheses=held)
