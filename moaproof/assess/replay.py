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
from types import MappingProxyType

from ..errors import IllFormed, NotCovered, Refuted
from ..kernel.certificate import Certificate, sizes_of
from ..semantics import EMPTY, Concrete, Fields, Numbers, Scalar, evaluate, meaning
from ..term import Term
from .cases import cases_of
from .simulator import Given, Machine, Number, Output
from .translate import Launch, Text, compile_text

MAX_ELEMENTS = 100_000  # of inputs, and of folds and results of the Spec
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
    needed = text.sizes(len(inputs)) | sizes_of([spec, *inputs])
    elements = 0
    for number, sizes in enumerate(cases):
        missing = sorted(needed - set(sizes))
        if missing or any(
            len(f.parameters) < k + len(inputs) for f, k in zip(text.functions, text.arrays(), strict=True)
        ):
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
            machine.run(text, out, given, sizes, launch)
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
