"""Exact replay: the shipped bytes of a kernel, run over finite fields and compared with the Spec.  No tolerance.

The text runs on the ``simulator``, which refutes what breaks a rule of memory.  A number is a pair of residues
(``semantics.Fields``), so exp(a + b) = exp(a) exp(b) exactly; ``max`` is an arbitrary but fixed function of its
arguments; minus infinity is Empty.

What it cannot see: the size of an exponent (e^(s+M)/e^(s+M) passes, rightly, for e^(s-M)/e^(s-M)), which ``ordered``
sees, and rounding.  Status of what it concludes: *tested*, at the sizes and the seed of the report.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

from ..errors import IllFormed, NotCovered, Refuted
from ..kernel.certificate import Certificate, sizes_of
from ..operators import typeof
from ..semantics import EMPTY, Concrete, Fields, Numbers, Scalar, evaluate, meaning
from ..term import Term
from .simulator import Given, Machine, Number, Output
from .translate import Launch, Text, compile_text

MAX_ELEMENTS = 100_000  # of inputs, and of folds and results of the Spec
MAX_WORK = 240  # of the product of a case's sizes, so that it is quick
CANDIDATES = 50  # drawn, of which the cases are chosen
REPAIRS = 100  # sizes drawn again before a certificate's witness is taken
LONG, MASKS, AXES, OTHERS = (4, 5, 6, 7), (1, 2, 3, 4, 5, 7), (1, 2, 2, 3), (0, 1, 1, 1, 2, 2, 3)  # to draw from
ATTEMPTS = 3  # points of a case: a sum of exponentials may vanish in a finite field, where it is a divisor
SHOWN = (0.6, 0.6, 0.3, 0.9, 1.0)  # how many keys a mask shows


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What agreed exactly: the sizes of each case, and how many elements of outputs were compared."""

    cases: tuple[Mapping[str, int], ...]
    elements: int
    seed: int


@dataclass(frozen=True, slots=True)
class Method:
    """Over what a text is replayed.

    ``algebras`` makes, of sizes and a seed, the algebra of the Spec and that of the text, which share their values;
    ``draw`` makes the datum of an input, and ``same`` says whether two values, neither of them Empty, are equal.
    """

    algebras: Callable[[Mapping[str, int], int], tuple[Concrete, Concrete]]
    draw: Callable[[random.Random], Scalar]
    same: Callable[[Scalar, Scalar], bool]

    def equal(self, x: Scalar, y: Scalar) -> bool:
        return x is y if x is EMPTY or y is EMPTY else self.same(x, y)


# --- over finite fields ----------------------------------------------------------------------------------


def _fields(sizes: Mapping[str, int], seed: int) -> tuple[Concrete, Concrete]:
    algebra = Fields(sizes, {}, seed)
    return algebra, algebra


def _element(rng: random.Random) -> Scalar:
    x = rng.randrange(Fields.P * Fields.Q)
    return x % Fields.P, x % Fields.Q


FIELDS = Method(_fields, _element, Fields.same)


def exact_replay(data: bytes, c: Certificate, seed: int = 0, launch: Launch | None = None) -> int:
    """Replay a text of a certificate at a few ragged sizes within its hypotheses; the number of cells compared."""
    return replay(data, c.spec, c.inputs, cases_of(c, seed), seed, launch).elements


# --- any method ------------------------------------------------------------------------------------------


def replay(
    data: bytes,
    spec: Term,
    inputs: Sequence[Term],
    cases: Sequence[Mapping[str, int]],
    seed: int,
    launch: Launch | None = None,
    method: Method = FIELDS,
) -> ReplayReport:
    """Run the kernel in each case (sizes by name) on random inputs and compare with the Spec, exactly.

    ``launch`` gives grid and block of a CUDA text that does not name them.  Raises ``Refuted`` with the sizes where
    text and Spec differ or the text breaks a rule, ``CertificateInvalid`` for text that cannot be run here, and
    ``NotCovered`` where text or Spec takes too long or a size has no value.
    """
    text = compile_text(data)
    needed = {*text.parameters[1 + len(inputs) :], *text.constants} | sizes_of([spec, *inputs])
    elements = 0
    for number, sizes in enumerate(cases):
        missing = sorted(needed - set(sizes))
        if missing or len(text.parameters) < 1 + len(inputs):
            raise NotCovered(f"replay, case {number}: no value for {', '.join(missing) or 'the inputs'}")
        elements += _case(text, spec, inputs, sizes, random.Random(f"{seed}/{number}"), launch, method)
    return ReplayReport(tuple(MappingProxyType(dict(c)) for c in cases), elements, seed)


def _case(
    text: Text,
    spec: Term,
    inputs: Sequence[Term],
    sizes: Mapping[str, int],
    rng: random.Random,
    launch: Launch | None,
    method: Method,
) -> int:
    """The elements compared in one case; at another point where text or Spec divided by 0."""
    vanished: Refuted | None = None
    for _ in range(ATTEMPTS):
        over, of_text = method.algebras(sizes, rng.randrange(2**32))
        data = {t.data[0]: _datum(t, sizes, rng, method) for t in inputs}
        over.inputs, over.budget = data, MAX_ELEMENTS
        try:
            shape, due = evaluate(spec, over)
        except ZeroDivisionError:
            continue
        except (IllFormed, RecursionError) as error:
            raise NotCovered(f"replay: the Spec is not evaluated: {error}") from None
        out = Output((len(due),))
        given = [_given(t, data[t.data[0]], of_text) for t in inputs]
        machine = Machine(of_text, rng, method.equal)
        try:
            machine.run(text, [out, *given, *(sizes[p] for p in text.parameters[1 + len(inputs) :])], sizes, launch)
        except Refuted as error:
            if not isinstance(error.__cause__, ZeroDivisionError):
                raise
            vanished = error
            continue
        _compare(out, shape, due, sizes, method)
        return len(due)
    raise vanished or NotCovered("replay: the Spec divides by 0 at every point that was tried")


def _compare(
    out: Output, shape: Sequence[int], due: Sequence[Scalar], sizes: Mapping[str, int], method: Method
) -> None:
    for offset, value in enumerate(due):
        found = out.cells.get((offset,))
        if not isinstance(found, Number) or not method.equal(found.value, value):
            what = "is not written" if found is None else "differs from the Spec"
            raise Refuted(f"replay: element {offset} of shape {shape} {what}", dict(sizes))


def _datum(t: Term, sizes: Mapping[str, int], rng: random.Random, method: Method) -> list[Scalar]:
    """Row-major elements of an input."""
    total = math.prod(meaning(e, (), (), (), Numbers(sizes, {})) for e in t.args)
    if total > MAX_ELEMENTS:
        raise NotCovered(f"replay: {t.data[0]} has {total} elements, too many to run over")
    if t.data[1] == "bool":
        shown = rng.choice(SHOWN)
        return [rng.random() < shown for _ in range(total)]
    return [method.draw(rng) for _ in range(total)]


def _given(t: Term, values: Sequence[Scalar], algebra: Concrete) -> object:
    """The argument for an input: a number if it has rank 0, else its flat cells."""
    wrapped = list(values) if t.data[1] == "bool" else [Number(algebra, v) for v in values]
    return Given(wrapped) if t.args else wrapped[0]


# --- the sizes of the cases ------------------------------------------------------------------------------


def cases_of(c: Certificate, seed: int, count: int = 6, work: int = MAX_WORK) -> list[dict[str, int]]:
    """Small sizes within the hypotheses, chosen of many so that together they show as much as possible.

    Sizes of 1, several and five or more, threes of them above 1, all pairs of axes in either order, tiles that divide
    their axis, that leave a tail, that are longer, and several of them; the last third have an axis without elements.
    ``NotCovered`` if no small sizes are found.
    """
    rng = random.Random(f"sizes/{seed}")
    axes = sorted(sizes_of([t for t in c.inputs if t.data[1] == "real"]))
    drawn = [x for x in (_draw(c, axes, rng, work) for _ in range(CANDIDATES)) if _work(x, axes) <= work]
    empty = [_tiled(c, {**x, rng.choice(axes): 0}, rng) for x in drawn for _ in range(3)] if axes else []
    empty = [x for x in empty if _holds(c, x)]
    if not drawn:
        raise NotCovered(f"replay: no sizes of at most {work} elements were found within the hypotheses")
    drawn += [_tiled(c, x, rng) for x in drawn for _ in range(3)]
    chosen = _choose(c, axes, empty, count // 3)
    return _choose(c, axes, drawn, count - len(chosen)) + chosen


def _work(sizes: Mapping[str, int], axes: Sequence[str]) -> int:
    return math.prod(max(1, sizes[s]) for s in axes)


def _holds(c: Certificate, sizes: Mapping[str, int]) -> bool:
    return all(meaning(h, (), (), (), Numbers(sizes, {})) for h in c.hypotheses)


def _draw(c: Certificate, axes: Sequence[str], rng: random.Random, work: int) -> dict[str, int]:
    """Sizes of little work, then within the hypotheses: one of a broken one is drawn again, or it is the witness."""
    stretched = {*rng.sample([*axes, *(t.extent for t in c.tilings)], min(2, len(axes)))}
    masks = sizes_of(c.inputs) - set(axes)

    def pick(name: str) -> int:
        return rng.choice(LONG if name in stretched else MASKS if name in masks else AXES if name in axes else OTHERS)

    names = sizes_of([c.spec, c.onf, *c.inputs, *c.hypotheses]) - {x for t in c.tilings for x in (t.tile, t.count)}
    sizes = {name: pick(name) for name in sorted(names)}
    while _work(sizes, axes) > work:
        large = [s for s in axes if sizes[s] > 1]
        name = rng.choice([s for s in large if s not in stretched] or large)
        sizes[name] -= 1
    concerned = [sorted(sizes_of([h])) for h in c.hypotheses]
    for _ in range(REPAIRS):
        broken = [k for k, h in enumerate(c.hypotheses) if not meaning(h, (), (), (), Numbers(sizes, {}))]
        if not broken:
            return _tiled(c, sizes, rng)
        name = rng.choice(concerned[rng.choice(broken)] or sorted(sizes))
        sizes[name] = pick(name)
    return _tiled(c, {name: c.witness.get(name, 1) for name in sizes}, rng)


def _tiled(c: Certificate, sizes: Mapping[str, int], rng: random.Random) -> dict[str, int]:
    """With tiles shorter and longer than what they cover, and as many as are needed."""
    found = dict(sizes)
    for t in c.tilings:
        found[t.tile] = rng.randint(1, found[t.extent] + 2)
        found[t.count] = -(-found[t.extent] // found[t.tile])
    return found


Shown = tuple[int | str, ...]  # a weight, and what it is the weight of


def _choose(c: Certificate, axes: Sequence[str], drawn: list[dict[str, int]], count: int) -> list[dict[str, int]]:
    """Greedily what shows most that was not seen, of these with most elements of output."""
    seen: set[Shown] = set()
    left = [(_shown(c, x, axes), _cells(c, x), x) for x in drawn]
    chosen: list[dict[str, int]] = []
    while left and len(chosen) < count:
        best = max(left, key=lambda x: (sum(int(s[0]) for s in x[0] - seen), x[1]))
        seen |= best[0]
        chosen.append(best[2])
        left.remove(best)
    return chosen


def _cells(c: Certificate, sizes: Mapping[str, int]) -> int:
    return math.prod(meaning(e, (), (), (), Numbers(sizes, {})) for e in typeof(c.spec).shape)


def _shown(c: Certificate, sizes: Mapping[str, int], axes: Sequence[str]) -> set[Shown]:
    """What a case shows of its tilings, axes, sizes, pairs and threes of them; of nothing, which axis is empty."""
    none = [s for s in axes if not sizes[s]]
    if none:
        return {(1, none[0])} if len(none) == 1 else set()
    found: set[Shown] = set()
    for t in c.tilings:
        extent, tile, count = sizes[t.extent], sizes[t.tile], sizes[t.count]
        kind = "longer" if tile > extent else "tail" if extent % tile else "divides"
        found |= {
            (200, t.tile, kind, "several" if count > 1 else "one"),
            (20, t.tile, "filled", str(min(tile, extent))),
        }
        found |= {(100, t.tile, u.tile) for u in c.tilings if count > 1 and sizes[u.count] > 1}
    names = sorted(set(sizes) - {x for t in c.tilings for x in (t.tile, t.count)})
    found |= {(2, s, str(min(sizes[s], 2))) for s in names}
    found |= {(60, s, "long") for s in axes if sizes[s] > 4} | {(60, s, "four") for s in axes if sizes[s] > 3}
    tiled = {t.extent for t in c.tilings}
    found |= {(200 if {s, t} <= tiled else 30, s, t) for s in axes for t in axes if 1 < sizes[s] < sizes[t]}
    found |= {(10, *x) for x in combinations([s for s in names if sizes[s] > 1], 2)}
    several = [s for s in axes if sizes[s] > 1]
    found |= {(10, *x) for x in combinations(several, 3)}
    found |= {(2, s, *x) for s in axes if sizes[s] > 4 for x in combinations(several, 3)}
    return found
