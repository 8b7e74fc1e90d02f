"""The sizes at which a text is replayed: small, within the hypotheses, and showing much of what can go wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from types import MappingProxyType

from ..errors import NotCovered
from ..kernel.certificate import Certificate, sizes_of
from ..operators import typeof
from ..semantics import Numbers, meaning
from ..term import subterms

MAX_WORK = 240  # of the product of a case's sizes, so that it is quick
CANDIDATES = 50  # drawn, of which the cases are chosen
REPAIRS = 100  # sizes drawn again before a certificate's witness is taken
LONG, MASKS, AXES, OTHERS = (4, 5, 6, 7), (1, 2, 3, 4, 5, 7), (1, 2, 2, 3), (0, 1, 1, 1, 2, 2, 3)  # to draw from
FACTORS, SEVERAL = (1, 1, 2, 2, 3), (2, 2, 3)  # of a tile that is a product
LONGEST = 11  # axis of a full case: the ordered replay takes its square
FULL, TRIES = 500, 12  # how often the tilings of a full case are drawn, and of how many the other sizes are


def cases_of(c: Certificate, seed: int, count: int = 6, work: int = MAX_WORK) -> list[dict[str, int]]:
    """Small sizes within the hypotheses, chosen of many so that together they show as much as possible.

    Sizes of 1, several and five or more, threes of them above 1, all pairs of axes in either order, tiles that divide
    their axis, that leave a tail, that are longer, and several of them; the last third have an axis without elements.
    Where a tile is a product (of registers by threads), a case has several of each factor, several tiles, and tails.
    ``NotCovered`` if no small sizes are found.
    """
    rng = random.Random(f"sizes/{seed}")
    work = work // 2 if _lifted(c) else work  # each iteration of the CPU's text is a block of threads
    axes = sorted(sizes_of([t for t in c.inputs if t.data[1] == "real"]))
    few = CANDIDATES // 2 if _lifted(c) else CANDIDATES
    drawn = [x for x in (_draw(c, axes, rng, work) for _ in range(few)) if _work(x, axes) <= work]
    empty = [_tiled(c, {**x, rng.choice(axes): 0}, rng) for x in drawn for _ in range(3)] if axes else []
    empty = [x for x in empty if _holds(c, x)]
    if not drawn:
        raise NotCovered(f"replay: no sizes of at most {work} elements were found within the hypotheses")
    drawn += [_tiled(c, x, rng) for x in drawn for _ in range(3)]
    chosen = _choose(c, axes, empty, count // 3)
    if _lifted(c):
        chosen += _full(c, axes, rng)
    return _choose(c, axes, drawn, count - len(chosen)) + chosen


def _work(sizes: Mapping[str, int], axes: Sequence[str]) -> int:
    return math.prod(max(1, sizes[s]) for s in axes)


def _holds(c: Certificate, sizes: Mapping[str, int]) -> bool:
    return all(meaning(h, (), (), (), Numbers(sizes, {})) for h in c.hypotheses)


def _draw(
    c: Certificate, axes: Sequence[str], rng: random.Random, work: int, given: Mapping[str, int] = MappingProxyType({})
) -> dict[str, int]:
    """Sizes of little work, then within the hypotheses: one of a broken one is drawn again, or it is the witness.

    Those that are ``given`` stay.
    """
    stretched = {*rng.sample([*axes, *(t.extent for t in c.tilings)], min(2, len(axes)))}
    masks = sizes_of(c.inputs) - set(axes)

    def pick(name: str) -> int:
        if name in given:
            return given[name]
        return rng.choice(LONG if name in stretched else MASKS if name in masks else AXES if name in axes else OTHERS)

    names = sizes_of([c.spec, c.onf, *c.inputs, *c.hypotheses]) - _new(c)
    sizes = {name: pick(name) for name in sorted(names)}
    while _work(sizes, axes) > work:
        large = [s for s in axes if sizes[s] > 1 and s not in given]
        if not large:
            break
        name = rng.choice([s for s in large if s not in stretched] or large)
        sizes[name] -= 1
    concerned = [sorted(sizes_of([h])) for h in c.hypotheses]
    for _ in range(REPAIRS):
        broken = [k for k, h in enumerate(c.hypotheses) if not meaning(h, (), (), (), Numbers(sizes, {}))]
        if not broken:
            return _tiled(c, sizes, rng, given)
        name = rng.choice(concerned[rng.choice(broken)] or sorted(sizes))
        sizes[name] = pick(name)
    return _tiled(c, {name: c.witness.get(name, 1) for name in sizes}, rng)


def _lifted(c: Certificate) -> bool:
    """Is a tile a product, of registers by threads?"""
    return any(len(t.factors) > 1 for t in c.tilings)


def _new(c: Certificate) -> set[str]:
    """The sizes that the tilings define."""
    return {x for t in c.tilings for x in (*t.factors, t.count)}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of case where tiles are products: what their factors are drawn from, and how many tiles are full.

    ``summed`` is the length of what is summed and not tiled, ``batch`` that of one axis that is neither; ``work`` is
    the most.  The tile of the first axis is longer than that of the last if ``order`` is 1, shorter if it is -1.
    """

    factors: tuple[int, ...]
    tiles: int
    summed: int
    batch: int
    work: int
    order: int = 0

    def wants(self, c: Certificate, axes: Sequence[str], given: Mapping[str, int]) -> bool:
        """Is it such a case, whatever the other sizes are?"""
        first, *_, last = [t.length(given) for t in c.tilings if len(t.factors) > 1] * 2
        ordered = not self.order or self.order * (first - last) > 0
        return ordered and max(given.values()) <= LONGEST and math.prod(given.get(s, 1) for s in axes) <= self.work


KINDS = (  # several of all; many tiles, blocks of rows longer than those of keys and the other way round
    Kind(SEVERAL, 1, 3, 1, 730),
    Kind(FACTORS, 2, 2, 2, 320, 1),
    Kind(FACTORS, 2, 2, 2, 320, -1),
)


def _full(c: Certificate, axes: Sequence[str], rng: random.Random) -> list[dict[str, int]]:
    """A case of each kind, with more than one of as much as can be, and a tail on each axis that is tiled.

    Where indices are compared each axis is longer than every tile, so that keys beyond the first tile are seen.
    """
    coupled = {s for names in (sizes_of([h]) for h in c.hypotheses) if len(names) > 1 for s in names}
    free = set(axes) - coupled - {t.extent for t in c.tilings}
    batch = sorted(free & sizes_of(typeof(c.spec).shape))
    compared = any(t.op == "lt" for t in subterms(c.spec))
    found = []
    for kind in KINDS:
        one = dict.fromkeys(batch[:: kind.order or 1][:1], kind.batch)
        rest = dict.fromkeys(free, kind.summed) | dict.fromkeys(batch, 1) | one
        drawn = (rest | _several(c, rng, kind, compared) for _ in range(FULL))
        wanted = islice((x for x in drawn if kind.wants(c, axes, x)), TRIES)
        for given in sorted(wanted, key=lambda x: -_variety(c, x)):
            sizes = _draw(c, axes, rng, kind.work, given)
            if _work(sizes, axes) <= kind.work:
                found.append(sizes)
                break
    return found


def _variety(c: Certificate, sizes: Mapping[str, int]) -> int:
    """How many sizes are above 1, and of how many tiles not all factors are the same."""
    return sum(v > 1 for v in sizes.values()) + sum(len({sizes[f] for f in t.factors}) > 1 for t in c.tilings)


def _several(c: Certificate, rng: random.Random, kind: Kind, reaching: bool) -> dict[str, int]:
    """Sizes of factors and tiled axes: each axis has so many tiles, and one more that is not full."""
    given = {f: rng.choice(kind.factors) for t in c.tilings for f in t.factors}
    longest = max(t.length(given) for t in c.tilings if len(t.factors) > 1) if reaching else 0
    for t in c.tilings:
        tile = t.length(given)
        least = max(kind.tiles * tile, longest) if len(t.factors) > 1 else tile
        tails = [x for x in range(least + 1, least + 1 + max(3, min(tile, 4))) if x % tile or tile == 1]
        given[t.extent] = rng.choice(tails)
    return given


def _tiled(
    c: Certificate, sizes: Mapping[str, int], rng: random.Random, given: Mapping[str, int] = MappingProxyType({})
) -> dict[str, int]:
    """With tiles shorter and longer than what they cover, and as many as are needed."""
    small = {f for t in c.tilings if len(t.factors) > 1 for f in t.factors}
    new: dict[str, int] = {}
    for t in c.tilings:
        for f in t.factors:
            if f not in new:
                new[f] = given.get(f) or (rng.choice(FACTORS) if f in small else rng.randint(1, sizes[t.extent] + 2))
        new[t.count] = -(-sizes[t.extent] // t.length(new))
    return {**sizes, **new}


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
        extent, tile, count = sizes[t.extent], t.length(sizes), sizes[t.count]
        kind = "longer" if tile > extent else "tail" if extent % tile else "divides"
        found |= {
            (200, t.tile, kind, "several" if count > 1 else "one"),
            (20, t.tile, "filled", str(min(tile, extent))),
        }
        found |= {(100, t.tile, u.tile) for u in c.tilings if count > 1 and sizes[u.count] > 1}
    names = sorted(set(sizes) - _new(c))
    found |= {(2, s, str(min(sizes[s], 2))) for s in names}
    found |= {(60, s, "long") for s in axes if sizes[s] > 4} | {(60, s, "four") for s in axes if sizes[s] > 3}
    tiled = {t.extent for t in c.tilings}
    found |= {(200 if {s, t} <= tiled else 30, s, t) for s in axes for t in axes if 1 < sizes[s] < sizes[t]}
    found |= {(10, *x) for x in combinations([s for s in names if sizes[s] > 1], 2)}
    several = [s for s in axes if sizes[s] > 1]
    found |= {(10, *x) for x in combinations(several, 3)}
    found |= {(2, s, *x) for s in axes if sizes[s] > 4 for x in combinations(several, 3)}
    return found
