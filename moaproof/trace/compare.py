"""Does the Spec have the function's values?  A test, not a proof: claim (a) is *tested*.

``agree`` evaluates the Spec in float64 and calls the function, on small random shapes: ragged, with sizes 0 and 1, with
fewer and with more keys than queries, with masks that hide whole rows.  torch is loaded when it is called.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from ..errors import Refuted, Unknown
from ..operators import MOA
from ..semantics import Numbers, evaluate, meaning
from ..term import Let, Term, Var, subterms
from .builder import CAUSAL_SCALE, EMPTY_ROW
from .graph import Graph, Input, parse
from .table import Spec, spec_of

WORK: Final = 2000

Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was compared: shapes, elements, the greatest error relative to 1 + |value|.

    ``raised`` is how many shapes were left out because a size is 0 and the function raises there
    (``amax`` of no keys, say), or because neither side has a finite value.
    """

    shapes: int
    elements: int
    error: float
    raised: int


def holds(hypothesis: Term, sizes: Sizes) -> bool:
    return bool(meaning(hypothesis, (), (), (), Numbers(sizes, {})))


def sample_sizes(graph: Graph, spec: Spec, rng: random.Random, count: int, top: int = 5) -> Iterator[dict[str, int]]:
    """Sizes that satisfy the hypotheses; h = g*r is computed, an axis that broadcasts is whole or 1.

    Shapes of more than ``WORK`` cells in all axes together are left out: the evaluator is written to be read.
    """
    found = 0
    made = {e for i in graph.inputs for e, s in zip(i.extents, i.steps, strict=False) if s} | {
        s for s, _ in graph.equations
    }
    free = [name for name in graph.sizes if name not in made]
    for _ in range(200 * count):
        sizes = {name: rng.choice((0, 1, 1, 2, 3, top - 1, top)) for name in graph.sizes}
        for size, factors in graph.equations:
            sizes[size] = meaning(factors, (), (), (), Numbers(sizes, {}))
        for i in graph.inputs:
            for extent, step, over in zip(i.extents, i.steps, i.over, strict=True) if i.kind == "mask" else ():
                if step is not None:
                    sizes[step] = rng.randrange(2)
                    sizes[extent] = sizes[over] if sizes[step] else 1
        if math.prod(max(1, sizes[name]) for name in free) > WORK:
            continue
        if all(holds(g, sizes) for g in spec.hypotheses):
            found += 1
            yield sizes
            if found == count:
                return


def draw(i: Input, sizes: Sizes, rng: random.Random) -> Any:
    """A value for an input: a flat list for a tensor, a number, or the literal."""
    if i.kind == "literal":
        return float(i.value) if isinstance(i.value, Fraction) else i.value
    if i.kind == "scalar":
        return [rng.uniform(-2.0, 2.0)]
    total = math.prod(sizes[e] for e in i.extents)
    if i.kind == "real":
        return [rng.uniform(-2.0, 2.0) for _ in range(total)]
    density = rng.choice([0.0, 0.3, 0.6, 1.0])
    return [rng.random() < density for _ in range(total)]


def call(fn: Callable[..., Any], graph: Graph, sizes: Sizes, data: Mapping[str, Any]) -> Any:
    """The function's value at flat data."""
    import torch

    args: dict[str, Any] = {}
    for i in graph.inputs:
        x = data[i.name]
        if i.kind == "scalar":
            x = x[0]
        elif i.kind != "literal":
            dtype = torch.float64 if i.kind == "real" else torch.bool
            x = torch.tensor(x, dtype=dtype).reshape([sizes[e] for e in i.extents])
        args[i.name] = x
    return fn(**args)


def shared(t: Term) -> Term:
    """The same meaning, with a ``let`` for each closed array inside: each of its cells is evaluated once."""
    level: dict[Term, int] = {}
    values: list[Term] = []

    def named(u: Term, depth: int, root: bool = False) -> Term:
        if u in level and not root:
            return Var(depth - 1 - level[u])
        parts = zip(u.args, u.binds, strict=True)
        return Term(u.op, u.data, [named(a, depth + n) for a, n in parts])

    for u in subterms(t):
        if u.free == 0 and u is not t and (u.op in MOA or u.op == "build"):
            values.append(named(u, len(values)))
            level[u] = len(values) - 1
    body = named(t, len(values), root=True)
    for value in reversed(values):
        body = Let(value, body)
    return body


def agree(
    fn: Callable[..., Any], document: Any, trials: int = 20, seed: int = 0, tolerance: float = 1e-11, top: int = 5
) -> Agreement:
    """Compare the Spec of a captured graph with the function on ``trials`` random shapes.

    Raises ``Refuted`` with the sizes where they differ by more than ``tolerance`` relative to 1 + |value|, and
    ``Unknown`` if the function could be called at no shape.
    """
    graph, spec = parse(document), spec_of(document)
    rng, quick = random.Random(seed), shared(spec.term)
    shapes = elements = raised = 0
    worst = 0.0
    for sizes in sample_sizes(graph, spec, rng, trials, top):
        data = {i.name: draw(i, sizes, rng) for i in graph.inputs}
        try:
            due = call(fn, graph, sizes, data)
        except (RuntimeError, IndexError, ZeroDivisionError) as e:
            if 0 not in sizes.values():
                raise Refuted(
                    f"{graph.function}: the function raises {type(e).__name__}, the Spec has a value", sizes
                ) from e
            raised += 1
            continue
        try:
            shape, found = evaluate(quick, Numbers(sizes, {k: v for k, v in data.items() if isinstance(v, list)}))
        except (ArithmeticError, ValueError) as e:  # 1/0, the root of a negative number, a value beyond float64
            if due.isfinite().all():
                raise Refuted(f"{graph.function}: the Spec is undefined ({e}), the function has a value", sizes) from e
            raised += 1
            continue
        if shape != tuple(due.shape):
            raise Refuted(f"{graph.function}: the Spec has shape {shape}, the function {tuple(due.shape)}", sizes)
        for x, y in zip(found, due.flatten().tolist(), strict=True):
            error = 0.0 if math.isnan(y) and _deviates(x, graph, spec, data) else _error(x, y)
            worst = max(worst, error)
            if error > tolerance:
                raise Refuted(f"{graph.function}: the Spec has {x}, the function {y}", sizes)
        shapes, elements = shapes + 1, elements + len(found)
    if not shapes:
        raise Unknown(f"{graph.function}: no shape was found at which the function can be called")
    return Agreement(shapes, elements, worst, raised)


def _error(x: float, y: float) -> float:
    """Relative to 1 + |value|; the function's own value is finite."""
    return abs(x - y) / (1 + abs(y)) if math.isfinite(y) else math.inf


def _deviates(x: float, graph: Graph, spec: Spec, data: Mapping[str, Any]) -> bool:
    """Does a stated deviation let the function be NaN where the Spec is ``x``?"""
    scalars = [data[i.name][0] for i in graph.inputs if i.kind == "scalar"]
    not_positive = CAUSAL_SCALE in spec.deviations and (not scalars or min(scalars) <= 0)
    return not_positive or (EMPTY_ROW in spec.deviations and x == 0)
