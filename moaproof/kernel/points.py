"""A second look at a chain: its ends, evaluated as they stand at random points of finite fields.

It shares no normal form with the judgement, and can only refuse: nothing rests on it alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ..errors import IllFormed, JudgesDisagree, Unknown
from ..semantics import MAX_CELLS, Fields, Numbers, evaluate, meaning
from ..term import Term
from .certificate import Certificate, sizes_of


def agree_at_points(c: Certificate) -> None:
    """Spec and ONF give equal elements at random points of the fields: a look that shares no normal form."""
    rng = random.Random(int(c.spec.digest[:8], 16))
    compared = 0
    for _ in range(8):
        sizes = draw_sizes(c, rng, (1, 2, 2, 3))
        algebra = Fields(sizes, random_inputs(c.inputs, sizes, rng))
        algebra.budget = MAX_CELLS
        try:
            found = [evaluate(t, algebra) for t in (c.spec, c.onf)]
        except ZeroDivisionError:
            continue  # a sum of exponentials may vanish in a finite field: take another point
        if not _agree(*found):
            raise JudgesDisagree("the ends of the chain differ at a random point although every step was proved")
        compared += 1
        if compared == 2:
            return
    raise Unknown("no point of the fields was found at which Spec and ONF could be compared")


def _agree(a: tuple[Any, list[Any]], b: tuple[Any, list[Any]]) -> bool:
    """Equal shapes and equal elements."""
    return a[0] == b[0] and all(map(Fields.same, a[1], b[1]))


def draw_sizes(c: Certificate, rng: random.Random, values: Sequence[int]) -> dict[str, int]:
    """Small sizes that satisfy the hypotheses, with tiles shorter and longer than what they cover.

    Random values, one size of a broken hypothesis drawn again until all hold; the witness if that takes too long.
    """
    names = sorted(sizes_of([c.spec, *c.inputs, *c.hypotheses]))
    sizes = {name: rng.choice(values) for name in names}
    for _ in range(2000):
        broken = [h for h in c.hypotheses if not meaning(h, (), (), (), Numbers(sizes, {}))]
        if not broken:
            break
        sizes[rng.choice(sorted(sizes_of([rng.choice(broken)])))] = rng.choice(values)
    else:
        sizes = {name: c.witness[name] for name in names}
    for t in c.tilings:
        longest = sizes[t.extent] + 2 if len(t.factors) == 1 else 2
        for f in t.factors:
            sizes.setdefault(f, rng.randint(1, longest))
        sizes[t.count] = -(-sizes[t.extent] // t.length(sizes))
    return sizes


def random_inputs(inputs: Sequence[Term], sizes: dict[str, int], rng: random.Random) -> dict[str, list[Any]]:
    """Field elements for real inputs, truth values for masks, row-major."""
    made: dict[str, list[Any]] = {}
    for t in inputs:
        total = 1
        for s in t.args:
            total *= meaning(s, (), (), (), Numbers(sizes, {}))
        if total > MAX_CELLS:
            raise IllFormed(f"{t.data[0]}: too many elements to evaluate")
        if t.data[1] == "bool":
            made[t.data[0]] = [rng.random() < 0.6 for _ in range(total)]
        else:
            made[t.data[0]] = [(x % Fields.P, x % Fields.Q) for x in (rng.randrange(10**12) for _ in range(total))]
    return made
