"""The machine that a kernel's text runs on, in software: exact numbers, watched memory, iterations and threads.

The very text that ships is executed (``translate`` makes a Python function of it), on stand-ins for what it imports.
A text under ``@njit`` is called once and its ``prange`` goes in random order; a text under ``@cuda.jit`` or ``@launch``
is a generator that stops at each access of shared or global memory and at each barrier, and a block is a set of them,
resumed in random order.  The launches of a text run one after the other.  The steps of all loops are counted against a
budget.

Refuted here, whatever the numbers are: an index below 0 or beyond the extent; a cell read before it is written; an
input that is written; an output that is read, or written twice; a scalar that an iteration of ``prange`` takes from
another; a race (two iterations, or two threads of a block between barriers, touch a cell and one of them writes); a
barrier that some threads of the block do not reach, or not in the same iteration of the loops around it; views of the
block's pool of shared memory that do not follow one another, cell for cell.

Global memory needs no watch between blocks: it is inputs, which nobody writes, and outputs, whose cells are written
once; those that a launch makes for later ones are read by these alone.  Not seen: a stale cell, written for an earlier
tile by the same thread or before a barrier, is a value like any other (what is computed from it differs from the Spec),
warps, atomics and asynchronous copies (outside the language), and the memory model within an epoch without races, where
all orders agree.
"""

from __future__ import annotations

import math
import random
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any, Final, NamedTuple

from ..errors import IllFormed, NotCovered, Refuted
from ..semantics import EMPTY, Concrete, Numbers, Scalar, meaning
from ..term import Term
from .translate import FILE, MAX_INTEGER, Function, Launch, Text

MAX_STEPS: Final = 4_000_000  # nodes of the text that are evaluated, counted a loop at a time before it runs
MAX_THREADS: Final = 4_096  # of a launch
BURSTS: Final = (1, 1, 2, 5, 30, 1000)  # accesses of a thread before another may go on

FAILURES: Final = (
    IllFormed, TypeError, NameError, AttributeError, ValueError, LookupError, ArithmeticError, RecursionError,
    MemoryError,
)  # fmt: skip


# --- numbers and memory ----------------------------------------------------------------------------------


class Number:
    """A value of an algebra with the operators of the text; ``None`` inside is Empty.  It is never compared."""

    __slots__ = ("algebra", "value")

    def __init__(self, algebra: Concrete, value: Scalar):
        self.algebra, self.value = algebra, value

    def _with(self, function: str, other: object) -> Number:
        if not isinstance(other, Number):
            raise IllFormed(f"{function} of a number and what is no number")
        return Number(self.algebra, self.algebra.apply(function, (self.value, other.value)))

    def __add__(self, other: object) -> Number:
        return self._with("add", other)

    def __sub__(self, other: object) -> Number:
        return self._with("sub", other)

    def __mul__(self, other: object) -> Number:
        return self._with("mul", other)

    def __truediv__(self, other: object) -> Number:
        return self._with("div", other)

    def __neg__(self) -> Number:
        return Number(self.algebra, self.algebra.apply("neg", (self.value,)))

    def __bool__(self) -> bool:
        raise IllFormed("a number is no truth value")

    def __eq__(self, other: object) -> bool:
        raise IllFormed("numbers are compared")

    __hash__ = None  # type: ignore[assignment]


class Stale:
    """What a scalar holds at the start of an iteration of ``prange`` and after the loop: nothing that may be used."""

    def __bool__(self) -> bool:
        raise IllFormed("a scalar of another iteration of prange is read")


class Cells:
    """Scratch of one thread or iteration: an array of numbers that begins without any."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self.cells: dict[tuple[int, ...], object] = {}

    def at(self, index: object) -> tuple[int, ...]:
        at = index if isinstance(index, tuple) else (index,)
        if len(at) != len(self.shape):
            raise IllFormed(f"{len(at)} indices for an array of rank {len(self.shape)}")
        for i, extent in zip(at, self.shape, strict=True):
            if type(i) is not int:
                raise IllFormed("an index is no integer")
            if not 0 <= i < extent:
                raise IllFormed(f"index {i} is outside 0..{extent - 1}")
        return at

    def __getitem__(self, index: object) -> object:
        at = self.at(index)
        if at not in self.cells:
            raise IllFormed("a cell is read before it is written")
        return self.cells[at]

    def __setitem__(self, index: object, value: object) -> None:
        at = self.at(index)
        if not isinstance(value, Number):
            raise IllFormed("what is no number is written")
        self.cells[at] = value


class Given(Cells):
    """An input: read only."""

    def __init__(self, values: Sequence[object]):
        super().__init__((len(values),))
        self.cells = {(i,): v for i, v in enumerate(values)}

    def __setitem__(self, index: object, value: object) -> None:
        raise IllFormed("an input is written")


class Output(Cells):
    """An output: each cell is written once, and read by later launches alone, for which it is ``done``."""

    done = False

    def __getitem__(self, index: object) -> object:
        if not self.done:
            raise IllFormed("the output is read")
        return super().__getitem__(index)

    def __setitem__(self, index: object, value: object) -> None:
        if self.done:
            raise IllFormed("what an earlier launch made is written")
        if self.at(index) in self.cells:
            raise IllFormed(f"element {self.at(index)[0]} of the output is written twice")
        super().__setitem__(index, value)


@dataclass(slots=True)
class Turn:
    """Who is running (a thread of the block, an iteration of ``prange``), and since how many barriers."""

    noun: str
    who: int = 0
    epoch: int = 0


class Shared(Cells):
    """Memory that several threads or iterations reach, with its shadow: who touched each cell in this epoch."""

    def __init__(self, shape: tuple[int, ...], turn: Turn):
        super().__init__(shape)
        self.turn, self.epoch = turn, turn.epoch
        self.writer: dict[tuple[int, ...], int] = {}
        self.readers: dict[tuple[int, ...], set[int]] = {}

    def watch(self, at: tuple[int, ...], writes: bool) -> None:
        """Refuse what another did with the cell in this epoch, if that or this is a write."""
        turn, who = self.turn, self.turn.who
        if self.epoch != turn.epoch:
            self.epoch = turn.epoch
            self.writer.clear()
            self.readers.clear()
        clash = {self.writer.get(at, who)} - {who}
        readers = self.readers.setdefault(at, set())
        if writes:
            clash |= readers - {who}
            self.writer[at] = who
        else:
            readers.add(who)
        if clash:
            what = f"{turn.noun} {who} {'writes' if writes else 'reads'}"
            raise IllFormed(f"a race: {what} cell {at}, which {min(clash)} touched with no barrier between")

    def __getitem__(self, index: object) -> object:
        self.watch(self.at(index), writes=False)
        return super().__getitem__(index)

    def __setitem__(self, index: object, value: object) -> None:
        self.watch(self.at(index), writes=True)
        super().__setitem__(index, value)


class Pool:
    """The dynamic shared memory of a block: views that follow one another, by the place in the text."""

    def __init__(self) -> None:
        self.stop = 0
        self.views: dict[str, tuple[int, int, Shared]] = {}

    def view(self, site: str, start: int, stop: int, shape: tuple[int, ...], turn: Turn) -> Shared:
        """The array over cells ``start`` to ``stop``: one for all threads of the block."""
        if site not in self.views:
            if start != self.stop:
                raise IllFormed(f"a view of the pool begins at {start}, and the one before it ends at {self.stop}")
            if stop - start != math.prod(shape):
                raise IllFormed(f"a view of {stop - start} cells of the pool has shape {shape}")
            self.views[site] = start, stop, Shared(shape, turn)
            self.stop = stop
        found = self.views[site]
        if (*found[:2], found[2].shape) != (start, stop, shape):
            raise IllFormed("threads want one view of the pool in two places, or in two shapes")
        return found[2]


# --- running ---------------------------------------------------------------------------------------------


class Barrier(NamedTuple):
    """Where a thread waits: the line, and how often the loops around it have gone round."""

    line: int
    rounds: tuple[int, ...]

    def __str__(self) -> str:
        return f"waits in line {self.line}, round {self.rounds}" if self.rounds else f"waits in line {self.line}"


class Machine:
    """Runs one text once, over one algebra; ``same`` says whether two values of it are equal."""

    def __init__(self, algebra: Concrete, rng: random.Random, same: Callable[[Scalar, Scalar], bool]):
        self.algebra, self.rng, self.same = algebra, rng, same
        self.zero = algebra.rational(Fraction(0))
        self.steps = MAX_STEPS
        self.turn = Turn("iteration")
        self.alone = False  # is memory that is allocated now reached by one thread or iteration only?
        self.memory: dict[str, Shared] = {}  # the shared arrays of the block
        self.dynamic = Pool()  # the pool of the block
        self.thread: Generator[Any, Any, None] | None = None

    def run(
        self,
        text: Text,
        out: Output,
        inputs: Sequence[object],
        sizes: Mapping[str, int],
        launch: Launch | None = None,
    ) -> None:
        """Run the functions of a text in turn; ``launch`` is for those that do not name their grid and block.

        Raises ``Refuted`` where it breaks a rule, ``NotCovered`` where it takes too long.
        """
        made: list[Output] = []
        try:
            for f in text.functions:
                own = [Output((math.prod(_extent(e, sizes, name) for e in extents),)) for name, extents in f.makes]
                arrays = [*(own or [out]), *made, *inputs]
                self.call(f, [*arrays, *(sizes[p] for p in f.parameters[len(arrays) :])], sizes, launch)
                for x in own:
                    x.done = True
                made += own
        except FAILURES as error:
            who = f", {self.turn.noun} {self.turn.who}" if self.turn.epoch or self.thread else ""
            raise Refuted(f"replay, line {self.line_of(error)}{who}: {error}", dict(sizes)) from error

    def call(self, f: Function, args: Sequence[object], sizes: Mapping[str, int], launch: Launch | None) -> None:
        scope = self.names() | {x: sizes[x] for x in f.constants}
        exec(f.code, scope)  # noqa: S102  only the nodes that the translator made, and no builtins
        self.spend(f.nodes)
        if f.target == "cpu":
            scope[":kernel"](*args)
        else:
            self.grid(f, scope[":kernel"], args, sizes, f.launch or launch or {})

    def line_of(self, error: BaseException) -> int:
        """The line of the text that was running."""
        frames = traceback.walk_tb(error.__traceback__)
        found = [line for frame, line in frames if frame.f_code.co_filename == FILE]
        frame = getattr(self.thread, "gi_frame", None)
        return found[-1] if found and found[-1] else frame.f_lineno if frame else 1

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise NotCovered(f"replay: the text takes more than {MAX_STEPS} steps")

    # --- blocks and threads ------------------------------------------------------------------------------

    def grid(self, f: Function, kernel: Any, args: Sequence[object], sizes: Mapping[str, int], launch: Launch) -> None:
        grid, block = extents_of(launch, sizes, "grid"), extents_of(launch, sizes, "block")
        self.alone = True
        if math.prod(grid) * math.prod(block) > MAX_THREADS:
            raise NotCovered(f"replay: a launch of more than {MAX_THREADS} threads")
        blocks, threads = (list(product(*(range(e) for e in reversed(x)))) for x in (grid, block))
        self.rng.shuffle(blocks)
        for b in blocks:
            self.memory, self.dynamic = {}, Pool()
            self.turn = Turn("thread")
            self.spend(f.nodes * len(threads))
            self.block([kernel(*reversed(t), *reversed(b), *block, *grid, *args) for t in threads])

    def block(self, threads: Sequence[Generator[Any, Any, None]]) -> None:
        """Run the threads of a block from barrier to barrier; all of them wait at the same one, or all end."""
        while True:
            ends = self.epoch(threads)
            first = ends[0] if ends else None
            for t, end in enumerate(ends):
                if end != first:
                    raise IllFormed(f"the barriers diverge: thread 0 {first or 'ends'}, thread {t} {end or 'ends'}")
            if first is None:
                return
            self.turn.epoch += 1

    def epoch(self, threads: Sequence[Generator[Any, Any, None]]) -> list[Barrier | None]:
        """Where each thread stops next: at a barrier, or (None) at its end."""
        ends: list[Barrier | None] = [None] * len(threads)
        found: list[object] = [None] * len(threads)  # what each is waiting to be told
        ready = list(range(len(threads)))
        while ready:
            t = self.turn.who = self.rng.choice(ready)
            self.thread = threads[t]
            for _ in range(self.rng.choice(BURSTS)):
                try:
                    request = threads[t].send(found[t])
                except StopIteration:
                    ready.remove(t)
                    break
                if isinstance(request, Barrier):
                    ends[t] = request
                    ready.remove(t)
                    break
                found[t] = self.access(*request)
        return ends

    def access(self, array: object, index: object, *value: object) -> object:
        if not isinstance(array, Cells):
            raise IllFormed("what is indexed is no array")
        if not value:
            return array[index]
        array[index] = value[0]
        return None

    # --- what a text may name ----------------------------------------------------------------------------

    def names(self) -> dict[str, Any]:
        return {
            "ZERO": self.number(self.zero), "ONE": self.constant(1, 1), "LOWEST": self.number(EMPTY),
            ":constant": self.constant, ":real": self.real, ":empty": self.empty, ":shared": self.shared,
            ":pool": lambda: self.dynamic, ":view": self.view, ":range": self.range, ":span": self.span,
            ":prange": self.prange, ":enumerate": enumerate, ":kept": self.kept, ":stale": Stale(), ":min": self.min,
            ":max": self.max, ":exp": self.exp, ":sqrt": self.sqrt, ":fmax": self.fmax, ":rescale": self.rescale,
            ":quotient": self.quotient, ":barrier": lambda line, *rounds: Barrier(line, rounds), "__builtins__": {},
        }  # fmt: skip

    def number(self, value: Scalar) -> Number:
        return Number(self.algebra, value)

    def integers(self, *values: object) -> None:
        if not all(type(x) is int for x in values):
            raise IllFormed("an integer is due")

    def range(self, cost: int, *bounds: int) -> range:
        self.integers(*bounds)
        found = range(*map(self.kept, bounds))
        self.spend(cost * max(0, -((found.start - found.stop) // found.step)))
        return found

    def span(self, cost: int, *bounds: int) -> Sequence[int]:
        found = self.range(cost, *bounds)
        if found.step < 1:
            raise IllFormed(f"a span by {found.step}")
        return found

    def prange(self, cost: int, count: int) -> Iterator[int]:
        order = list(self.range(cost, count))
        self.rng.shuffle(order)
        self.turn.epoch, self.alone = self.turn.epoch + 1, True
        for w in order:
            self.turn.who = w
            yield w
        self.turn.epoch, self.alone = self.turn.epoch + 1, False

    def min(self, a: int, b: int) -> int:
        self.integers(a, b)
        return min(a, b)

    def max(self, a: int, b: int) -> int:
        self.integers(a, b)
        return max(a, b)

    def kept(self, value: Any) -> Any:
        if type(value) is int and abs(value) > MAX_INTEGER:
            raise IllFormed("an integer is beyond 64 bits")
        return value

    def shape(self, extents: tuple[int, ...]) -> tuple[int, ...]:
        self.integers(*extents)
        if any(e < 0 for e in extents):
            raise IllFormed(f"scratch of shape {extents}")
        self.spend(math.prod(extents))
        return extents

    def empty(self, *extents: int) -> Cells:
        shape = self.shape(extents)
        return Cells(shape) if self.alone else Shared(shape, self.turn)

    def shared(self, site: str, *extents: int) -> Shared:
        """The array of the block that this call of the text names: one for all its threads."""
        shape = self.shape(extents)
        array = self.memory.setdefault(site, Shared(shape, self.turn))
        if array.shape != shape:
            raise IllFormed(f"threads want one shared array in two shapes, {array.shape} and {shape}")
        return array

    def view(self, site: str, pool: object, start: int, stop: int, *extents: int) -> Shared:
        self.integers(start, stop)
        if not isinstance(pool, Pool):
            raise IllFormed("what is sliced is no pool of shared memory")
        return pool.view(site, start, stop, self.shape(extents), self.turn)

    def constant(self, p: int, q: int) -> Number:
        return self.number(self.algebra.rational(Fraction(p, q)))

    def real(self, x: object) -> Number:
        self.integers(x)
        return self.number(self.algebra.cast(x))  # type: ignore[arg-type]

    def _apply(self, function: str, *args: object) -> Number:
        if not all(isinstance(x, Number) for x in args):
            raise IllFormed(f"{function} of what is no number")
        return self.number(self.algebra.apply(function, [x.value for x in args if isinstance(x, Number)]))

    def exp(self, x: object) -> Number:
        return self._apply("exp", x)

    def sqrt(self, x: object) -> Number:
        return self._apply("sqrt", x)

    def fmax(self, a: object, b: object) -> Number:
        return self._apply("max", a, b)

    def rescale(self, m: object, t: object) -> Number:
        return (
            self.number(self.zero) if isinstance(m, Number) and m.value is EMPTY else self.exp(self._apply("sub", m, t))
        )

    def quotient(self, o: object, l: object) -> Number:
        if not isinstance(o, Number) or not isinstance(l, Number):
            raise IllFormed("quotient of what is no number")
        state = EMPTY if self.same(l.value, self.zero) else (EMPTY, l.value, o.value)
        return self.number(self.algebra.quotient(state))


def extents_of(launch: Launch, sizes: Mapping[str, int], what: str) -> tuple[int, ...]:
    """Three extents of the grid or of a block, x first."""
    given = launch.get(what)
    if not given or len(given) > 3:
        raise NotCovered(f"replay: one to three extents are due for the {what}")
    found = [*(_extent(e, sizes, what) for e in given), 1, 1][:3]
    return tuple(found)


def _extent(e: int | str | Term, sizes: Mapping[str, int], what: str) -> int:
    if isinstance(e, str):
        missing = [x for x in e.split("*") if x not in sizes]
        if missing:
            raise NotCovered(f"replay: no value for {missing[0]}, an extent of the {what}")
        return math.prod(sizes[x] for x in e.split("*"))
    value = meaning(e, (), (), (), Numbers(sizes, {})) if isinstance(e, Term) else e
    if not isinstance(value, int) or value < 0:
        raise NotCovered(f"replay: {value} is no extent of the {what}")
    return value
