"""Cases for any traced function: sizes within its hypotheses, numbers, masks, layouts.

A ``Drawn`` is small (sizes and names), so that it shrinks and prints well; its numbers are expanded from a seed.  The
inputs play parts: q and k make scores as the regime says, all others take their values from the pool.
"""

from __future__ import annotations

import inspect
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any, Final

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st

from ..errors import NotCovered
from ..kernel.claims import claim_of
from ..operators import typeof
from ..semantics import Numbers, meaning
from ..trace.builder import CAUSAL_SCALE
from ..trace.capture import capture
from ..trace.compare import holds
from ..trace.declare import USUAL
from ..trace.graph import Graph, Input, parse
from ..trace.table import Spec, spec_of

Array = np.ndarray[Any, Any]
Values = Mapping[str, Sequence[float]]

DTYPES: Final = ("float64", "float32")
REGIMES: Final = ("normal", "rising", "negative", "falling", "one-hot", "x30", "ties", "tiny", "zero")
POOLS: Final = ("normal", "constant", "zeros", "alternating", "large", "subnormal")
PATTERNS: Final = ("random", "all", "none", "first", "last", "rows", "sparse")
LAYOUTS: Final = ("contiguous", "transposed", "sliced")
BATCH: Final = (1, 2, 3)  # of a size that is the extent of no matrix
SHORT: Final = (1, 2, 3, 4, 5, 8)  # of the others
LONG: Final = (2, 5, 9, 16, 17, 32, 33, 63, 64, 65, 127, 128, 129, 192, 257, 300)  # of two of them
WORK: Final = 2**11  # of the product of a case's sizes: an enclosure takes some 100 microseconds for each
WORK_OF_ATTENTION: Final = 2**17  # whose enclosure is fast
MANY: Final = 33, 129  # keys of a case that is screened, in turn, or more
REPAIRS: Final = 50  # draws of sizes that shall satisfy the hypotheses
USUALLY: Final = 4  # times the first regime, and the first pool, come beside all of them
NUMBERS: Final = (1.0, 0.5, 0.125, -0.5, 1.0, 0.5, 0.0)  # of a scale; each is a float32


@dataclass(frozen=True, slots=True)
class Traced:
    """A PyTorch function, the graph of its trace, and its Spec."""

    function: Callable[..., Any]
    graph: Graph
    spec: Spec

    @property
    def name(self) -> str:
        return self.graph.function

    @property
    def place(self) -> str:
        return f"{self.graph.file}:{self.graph.line}"

    @property
    def claim(self) -> str | None:
        """The name of the attention that it is, if any: then its inputs are q, k, v, and maybe mask and scale."""
        return claim_of(self.spec.term, self.spec.hypotheses)

    def arguments(self) -> tuple[Input, ...]:
        """What a kernel is given, in this order: the parameters that are not fixed."""
        return tuple(i for i in self.graph.inputs if i.kind != "literal")

    def literals(self) -> dict[str, Any]:
        fixed = {i.name: i.value for i in self.graph.inputs if i.kind == "literal"}
        return {name: float(x) if isinstance(x, Fraction) else x for name, x in fixed.items()}

    def free(self) -> list[str]:
        """The sizes that are drawn; the others follow from them."""
        made = {s for s, _ in self.graph.equations}
        for i in self.graph.inputs:
            made |= {x for e, s in zip(i.extents, i.steps, strict=False) if s for x in (e, s)}
        return [s for s in self.graph.sizes if s not in made]

    def long(self) -> set[str]:
        """The extents of matrices, and of vectors; the others count batches or heads."""
        return {e for i in self.graph.inputs if i.kind == "real" for e in i.extents[-2:]}

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Of the result."""
        return tuple(meaning(s, (), (), (), Numbers(sizes, {})) for s in typeof(self.spec.term).shape)

    def part(self, i: Input) -> str:
        """q, k or v, by name or by position as in a declaration."""
        at = [x.name for x in self.graph.inputs].index(i.name)
        return USUAL.get(i.name) or "qkv"[at : at + 1]


def traced(function: Callable[..., Any], fixed: Mapping[str, Any] | None = None) -> Traced:
    """Trace a function; ``fixed`` gives parameters a literal value.

    Raises ``NotCovered`` where it cannot be traced.
    """
    name = getattr(function, "__name__", type(function).__name__)
    if not inspect.isfunction(function) or name == "<lambda>":
        raise NotCovered(
            f"spec: {name} is no function written with def, whose source can be traced; wrap it:"
            " def spec(q, k, v): return ..."
        )
    log = logging.getLogger("torch.__trace")  # it is told all of a trace, and pytest would show that
    before, log.disabled = log.disabled, True
    try:
        document = capture(function, fixed=fixed)
    except OSError:
        raise NotCovered(f"spec: the source of {name} cannot be read; define it in a file") from None
    finally:
        log.disabled = before
    return Traced(function, parse(document), spec_of(document))


# --- a case ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawn:
    """One case: every size, the numbers that are no arrays, and the names of how the arrays are made."""

    sizes: tuple[tuple[str, int], ...]
    scalars: tuple[tuple[str, float], ...] = ()
    dtype: str = "float64"
    regime: str = "normal"
    pool: str = "normal"
    pattern: str = "random"
    layout: str = "contiguous"
    seed: int = 0

    def words(self, t: Traced) -> str:
        masked = any(i.kind in ("bool", "mask") for i in t.arguments())
        masks = f", masks {self.pattern}" if masked else ""
        return f"{self.dtype}, {self.layout}; scores {self.regime}, values {self.pool}{masks}; seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Choices:
    """What cases are drawn from, the simplest first; ``own``: the sizes whose options the caller gave."""

    t: Traced
    sizes: Mapping[str, Sequence[int]]
    own: frozenset[str]
    scalars: Mapping[str, Sequence[float]]
    dtypes: tuple[str, ...] = DTYPES
    layouts: tuple[str, ...] = LAYOUTS
    regimes: tuple[str, ...] = REGIMES
    pools: tuple[str, ...] = POOLS
    patterns: tuple[str, ...] = PATTERNS

    def long(self) -> list[str]:
        """The sizes that may be long, that of the keys first."""
        keys = {i.extents[-2] for i in self.t.arguments() if self.t.part(i) == "k" and len(i.extents) > 1}
        return sorted((s for s in self.sizes if s in self.t.long() - self.own), key=lambda s: s not in keys)


def choices(t: Traced, values: Values, dtypes: Sequence[str] = DTYPES, layouts: Sequence[str] = LAYOUTS) -> Choices:
    """For a traced function; ``values`` says, by the name of a size or a number, what to draw it from.

    Raises ``NotCovered`` for a name that is neither, and for what cannot be drawn.
    """
    positive = CAUSAL_SCALE in t.spec.deviations
    usual = tuple(x for x in NUMBERS if x > 0 or not positive)
    scalars: dict[str, Sequence[float]] = {i.name: usual for i in t.arguments() if i.kind == "scalar"}
    sizes: dict[str, Sequence[int]] = {s: SHORT if s in t.long() else BATCH for s in t.free()}
    for name, given in values.items():
        if name not in sizes and name not in scalars:
            known = ", ".join((*sizes, *scalars))
            raise NotCovered(f"draw: {name} is no size or number of {t.name} that is drawn; there are {known}")
        if not given or (name in sizes and not all(type(x) is int and x >= 0 for x in given)):
            what = "natural numbers" if name in sizes else "numbers"
            raise NotCovered(f"draw: {name}: some {what} are due, not {given!r:.60}")
    for what, chosen, known_ones in (("dtypes", dtypes, DTYPES), ("layouts", layouts, LAYOUTS)):
        if not chosen or isinstance(chosen, str) or not set(chosen) <= set(known_ones):
            raise NotCovered(f"{what}: some of {', '.join(known_ones)} are due, not {chosen!r:.60}")
    sizes |= {s: tuple(int(x) for x in values[s]) for s in sizes if s in values}
    scalars |= {s: tuple(float(x) for x in values[s]) for s in scalars if s in values}
    for name, numbers in scalars.items():
        if not all(abs(x) <= float(np.finfo(d).max) for x in numbers for d in dtypes):
            raise NotCovered(f"draw: {name}: a number of {numbers!r:.60} is not finite in {' or '.join(dtypes)}")
    return Choices(t, sizes, frozenset(sizes) & frozenset(values), scalars, tuple(dtypes), tuple(layouts))


def cases(c: Choices) -> st.SearchStrategy[Drawn]:
    """The simplest case has the first of all options."""

    @st.composite
    def drawing(draw: st.DrawFn) -> Drawn:
        def pick(options: Sequence[Any]) -> Any:
            return draw(st.sampled_from(options))

        can = c.long()
        long = pick([(), *combinations(can, 2), *((s,) for s in can)])
        sizes = _sizes(c, pick, long)
        assume(all(holds(h, sizes) for h in c.t.spec.hypotheses))
        return Drawn(
            sizes=tuple(sorted(sizes.items())),
            scalars=tuple((name, pick(given)) for name, given in c.scalars.items()),
            dtype=pick(c.dtypes),
            regime=pick((*c.regimes[:1] * USUALLY, *c.regimes)),
            pool=pick((*c.pools[:1] * USUALLY, *c.pools)),
            pattern=pick(c.patterns),
            layout=pick(c.layouts),
            seed=draw(st.integers(0, 2**32 - 1)),
        )

    return drawing()


def screen(c: Choices, count: int, seed: int) -> list[Drawn]:
    """So many cases that together show much: each regime, pool, mask, layout and dtype in turn, and mostly many keys.

    Hypothesis draws cases that resemble one another, which is good to shrink by; a few of its cases may all miss what
    the second block of a kernel does.
    """
    rng, can = random.Random(f"screen/{seed}"), c.long()
    pairs: list[tuple[str, ...]] = [(s, can[0]) for s in can[1:]] or [tuple(can)]
    found: list[Drawn] = []
    while len(found) < count:
        at = len(found)
        for _ in range(REPAIRS):
            sizes = _sizes(c, rng.choice, pairs[at % len(pairs)], least=MANY[at % 2])
            if all(holds(h, sizes) for h in c.t.spec.hypotheses):
                break
        else:
            return found
        case = Drawn(
            sizes=tuple(sorted(sizes.items())),
            scalars=tuple((name, given[at // 2 % len(given)]) for name, given in c.scalars.items()),
            dtype=c.dtypes[at % len(c.dtypes)],
            regime=c.regimes[at // 2 % len(c.regimes)],
            pool=c.pools[at // 2 % len(c.pools) if at % 4 == 3 else 0],
            pattern=c.patterns[at // 2 % len(c.patterns)],
            layout=c.layouts[at // 2 % len(c.layouts)],
            seed=rng.randrange(2**32),
        )
        found.append(case)
    return found


def narrowed(c: Choices, case: Drawn) -> Choices:
    """Nothing that is larger, or another kind, than in this case: what a failure of it is shrunk by."""
    sizes = dict(case.sizes)
    smaller = {
        s: (*sorted({x for x in (*given, *(() if s in c.own else LONG)) if x < sizes[s]}), sizes[s])
        for s, given in c.sizes.items()
    }

    def simpler(options: Sequence[str], chosen: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((options[0], chosen)))

    return Choices(
        c.t, smaller, frozenset(smaller), {name: (x,) for name, x in case.scalars}, (case.dtype,),
        simpler(c.layouts, case.layout), simpler(c.regimes, case.regime), simpler(c.pools, case.pool),
        simpler(c.patterns, case.pattern),
    )  # fmt: skip


def _sizes(c: Choices, pick: Callable[[Sequence[Any]], Any], long: Sequence[str], least: int = 0) -> dict[str, int]:
    """Every size.  What the caller did not choose keeps the product small; the ``long`` come last, and may be long.

    The last of them has at least ``least``.
    """
    sizes: dict[str, int] = {}
    left = WORK if c.t.claim is None else WORK_OF_ATTENTION
    order = sorted(c.sizes, key=lambda s: (s not in c.own, s in long))
    if least and long:
        order = [long[-1], *(s for s in order if s != long[-1])]
    for name in order:
        wide = [x for x in LONG if x >= least or name != long[-1]] if name in long else c.sizes[name]
        within = wide if name in c.own else [x for x in wide if x <= left] or wide[:1]
        sizes[name] = pick(within)
        left //= max(1, sizes[name])
    for size, factors in c.t.graph.equations:
        sizes[size] = meaning(factors, (), (), (), Numbers(sizes, {}))
    for i in c.t.graph.inputs:
        for extent, step, over in zip(i.extents, i.steps, i.over, strict=True) if i.kind == "mask" else ():
            if step is not None:
                sizes[step] = pick((1, 0))
                sizes[extent] = sizes[over] if sizes[step] else 1
    return sizes


# --- its arrays ------------------------------------------------------------------------------------


def expand(t: Traced, case: Drawn) -> dict[str, Array]:
    """The arguments of a case, contiguous, in the order of the function; a number has rank 0.  The same everywhere."""
    rng, sizes, scalars = np.random.default_rng(case.seed), dict(case.sizes), dict(case.scalars)
    found: dict[str, Array] = {}
    for i in t.arguments():
        shape = tuple(sizes[e] for e in i.extents)
        match i.kind:
            case "scalar":
                found[i.name] = np.array(scalars[i.name])
            case "real":
                found[i.name] = _reals(t.part(i), shape, case, rng).astype(case.dtype)
            case _:
                found[i.name] = _mask(shape, case.pattern, rng)
    return found


def _reals(part: str, shape: tuple[int, ...], case: Drawn, rng: np.random.Generator) -> Array:
    """Float64 numbers; what counts keys runs along the last axis but one."""
    x = rng.standard_normal(shape)
    along = shape[-2] if len(shape) > 1 else math.prod(shape)
    column = (along, 1) if len(shape) > 1 else shape
    if part in ("q", "k"):
        return _of_scores(part, x, np.linspace(0.0, 1.0, along).reshape(column), case.regime)
    return _of_pool(x, (-1.0) ** np.arange(along).reshape(column), case)


def _of_scores(part: str, x: Array, ramp: Array, regime: str) -> Array:
    match part, regime:
        case "q", ("tiny" | "zero" | "x30" | "one-hot"):
            return x * {"tiny": 1e-9, "zero": 0.0, "x30": 30.0, "one-hot": 1e3}[regime]
        case _, "ties":
            return np.rint(x)
        case "q", ("negative" | "rising" | "falling"):
            return np.abs(x) * (20.0 if regime == "negative" else 10.0)
        case "k", "negative":
            return -np.abs(x) - 5.0
        case "k", "rising":
            return 4.0 * ramp + 0.01 * x
        case "k", "falling":
            return 4.0 * (1.0 - ramp) + 0.01 * x
    return x


def _of_pool(x: Array, signs: Array, case: Drawn) -> Array:
    info = np.finfo(case.dtype)
    match case.pool:
        case "zeros":
            return np.where(x < 0, -0.0, 0.0)
        case "constant":
            return np.full(x.shape, 0.7)
        case "subnormal":
            return np.asarray(np.rint(x * 3) * float(info.smallest_subnormal))
        case "large":
            return x * (float(info.max) * 1e-8)
        case "alternating":
            return x + 1e3 * signs
    return x


def _mask(shape: tuple[int, ...], pattern: str, rng: np.random.Generator) -> Array:
    """True is visible; queries along the last axis but one, keys along the last."""
    keys = np.broadcast_to(np.arange(shape[-1]) if shape else np.zeros(()), shape)
    match pattern:
        case "all" | "none":
            return np.full(shape, pattern == "all")
        case "first":
            return np.asarray(keys == 0)
        case "last":
            return np.asarray(keys == keys.max(initial=0))
        case "rows" if len(shape) > 1:
            return np.broadcast_to((np.arange(shape[-2]) % 2 == 0)[:, None], shape).copy()
    found: Array = rng.random(shape) < (0.02 if pattern == "sparse" else 0.5)
    return found


def laid_out(x: Array, layout: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The same values in memory as the layout says, and all the memory that this takes."""
    t = torch.from_numpy(x.copy())
    if layout == "transposed" and t.ndim > 1:
        axes = (1, 2) if t.ndim > 3 else (-1, -2)
        whole = t.transpose(*axes).contiguous()
        return whole.transpose(*axes), whole
    if layout == "sliced" and t.ndim:
        filling = True if t.dtype is torch.bool else math.nan
        whole = torch.full((*t.shape[:-1], 2 * t.shape[-1] + 1), filling, dtype=t.dtype)
        view = whole[..., 1::2]
        view.copy_(t)
        return view, whole
    return t, t
