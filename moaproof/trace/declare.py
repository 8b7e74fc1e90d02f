"""What a function's parameters are: their kinds and the names of their sizes.  Untrusted.

A parameter is declared by a line of the docstring, or by a string annotation, in one notation:

    q: (b, h, n, dk)             an array of reals with these extents; one name is one size wherever it stands
    q: (b, h = g*r, n, dk)       h query heads, r for each of g key heads
    mask: bool (n, m)            a boolean mask
    mask: bool (#b, #h, n, m)    a boolean mask that broadcasts: an axis with # may have extent 1
    scale: real                  one number

Undeclared, a parameter with a default is fixed at it, a ``float`` and the names ``scale`` and the like are numbers,
``mask`` and ``attn_mask`` are ``bool (#b, #h, #n, #m)``, and what remains are the query, key and value by name
or by position: (b, h = g*r, n, dk), (b, g, m, dk), (b, g, m, dv), or the same with equal heads.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import NotCovered

SCALARS: Final = ("scale", "softmax_scale", "sm_scale", "temperature")
MASKS: Final = ("mask", "attn_mask", "attention_mask")
USUAL: Final = {
    "q": "q", "query": "q", "queries": "q", "k": "k", "key": "k", "keys": "k", "v": "v", "value": "v", "values": "v",
}  # fmt: skip
LAYOUTS: Final = (
    {"q": "(b, h = g*r, n, dk)", "k": "(b, g, m, dk)", "v": "(b, g, m, dv)", "mask": "bool (#b, #h, #n, #m)"},
    {"q": "(b, h, n, dk)", "k": "(b, h, m, dk)", "v": "(b, h, m, dv)", "mask": "bool (#b, #h, #n, #m)"},
)
NOTATION: Final = re.compile(r"(?:(bool)\s*)?\(([^()]*)\)|(real)")


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its size's name, the product that the size is, and whether the extent may be 1 instead."""

    size: str
    factors: tuple[str | int, ...] = ()
    broadcasts: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """kind "real" or "bool" with axes, "scalar", or "literal" with a value."""

    name: str
    kind: str
    axes: tuple[Axis, ...] = ()
    value: Any = None


# What begins like a declaration and holds nothing else: to read it as prose would be to guess another shape.
ATTEMPT: Final = re.compile(r"(bool\s*)?\([^)]*(\)\.?)?")


def declared(text: str) -> tuple[str, tuple[Axis, ...]] | None:
    """The kind and axes that a declaration states, or None where the text is prose."""
    found = NOTATION.fullmatch(text.strip().rstrip("."))
    if found is None:
        return None
    if found[3]:
        return "scalar", ()
    axes = [_axis(token) for token in found[2].split(",") if token.strip()]
    return (found[1] or "real", tuple(axes)) if axes else None


def _axis(token: str) -> Axis:
    name, _, product = (part.strip() for part in token.partition("="))
    if not name.removeprefix("#").isidentifier():
        raise NotCovered(f"declaration: {token.strip()!r} is no size; each extent has a name, as in (n, dk)")
    factors = tuple(int(f) if f.isdigit() else f for f in map(str.strip, product.split("*")) if f)
    return Axis(name.removeprefix("#"), factors, name.startswith("#"))


def parameters(fn: Callable[..., Any], fixed: Mapping[str, Any]) -> list[list[Parameter]]:
    """The readings of a function's parameters, the most general first.

    Raises ``NotCovered`` for a parameter that no reading fits.
    """
    signature = inspect.signature(fn).parameters
    unknown = set(fixed) - set(signature)
    if unknown:
        raise NotCovered(f"{fn.__name__}: fixed names {', '.join(sorted(unknown))}, which is no parameter")
    lines = re.findall(r"^[ \t]*(\w+)[ \t]*:[ \t]*(.+)$", inspect.getdoc(fn) or "", re.MULTILINE)
    stated = {name: found for name, text in lines if name in signature and (found := declared(text))}
    for name, text in lines:
        if name in signature and name not in stated and ATTEMPT.fullmatch(text.strip()):
            why = f"the declaration {name}: {text.strip()!r} is not understood; write '{name}: (n, m)'"
            raise NotCovered(f"{fn.__name__}: {why}")
    readings = [
        [_one(fn, p, at, fixed, stated, layout) for at, p in enumerate(signature.values())] for layout in LAYOUTS
    ]
    return readings if readings[0] != readings[1] else readings[:1]


def _one(
    fn: Callable[..., Any],
    p: inspect.Parameter,
    at: int,
    fixed: Mapping[str, Any],
    stated: Mapping[str, tuple[str, tuple[Axis, ...]]],
    layout: Mapping[str, str],
) -> Parameter:
    if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
        raise NotCovered(f"{fn.__name__}: parameter {p.name} collects others; name each parameter")
    if p.name in fixed:
        return Parameter(p.name, "literal", value=fixed[p.name])
    annotation = _annotation(p)
    found = stated.get(p.name) or declared(annotation)
    if found is None and p.default is p.empty and (annotation == "float" or p.name in SCALARS):
        found = "scalar", ()
    if found is not None:
        return Parameter(p.name, *found)
    if p.default is not p.empty:
        return Parameter(p.name, "literal", value=p.default)
    if annotation in ("bool", "int", "str"):
        raise NotCovered(
            f"{fn.__name__}: {p.name} is a Python {annotation}; fix it: capture(fn, fixed={{{p.name!r}: ...}})"
        )
    role = "mask" if p.name in MASKS else USUAL.get(p.name) or "qkv"[at : at + 1]
    found = declared(layout.get(role, ""))
    if found is None:
        line = f"{p.name}: (n, m)"
        raise NotCovered(
            f"{fn.__name__}: the extents of {p.name} are not known; declare them in the docstring: '{line}'"
        )
    return Parameter(p.name, *found)


def _annotation(p: inspect.Parameter) -> str:
    """An annotation as text; a string that was itself annotated as text is read once more."""
    a = p.annotation
    if not isinstance(a, str):
        return getattr(a, "__name__", "")
    try:
        inner = ast.literal_eval(a)
    except (ValueError, SyntaxError):
        return a
    return inner if isinstance(inner, str) else a
