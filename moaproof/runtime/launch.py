"""The launcher: what a certificate assumed is checked at every call.  Trusted beside the loader (claim d).

A kernel is proved for flat row-major arrays of the extents in its certificate, under its hypotheses and tilings,
with an output that overlaps no input, and for integers without bound.  ``launch`` evaluates those very terms on the
sizes of the call, sees that no index leaves 64 bits (``widths``), and refuses with ``NotCovered`` what does not
satisfy them.  It knows nothing of attention.

It does not see that two addresses are one memory (a file mapped twice), nor what another thread does to an array
while the kernel runs.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import NotCovered
from ..kernel.certificate import Tiling, sizes_of
from ..operators import typeof
from ..semantics import Numbers, meaning
from ..term import Term
from .loader import Loaded
from .widths import WORD, exceeds, programme

# A kernel uses all of Numba's threads; and its `workqueue` layer ends the process when two threads enter it at once.
_ONE_AT_A_TIME = threading.Lock()

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a kernel's sizes say of its arrays: the extents of the output and of each input."""

    out: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """All of a certificate that a call is held against; equal for equal certificates, so it is a key of caches."""

    name: str
    dtype: str
    onf: Term
    inputs: tuple[Term, ...]
    hypotheses: tuple[Term, ...]
    tilings: tuple[Tiling, ...]


def frame_of(kernel: Loaded) -> Frame:
    c = kernel.certificate
    return Frame(c.name, kernel.dtype, c.onf, c.inputs, c.hypotheses, c.tilings)


def launch(kernel: Loaded, out: Array, inputs: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Run ``kernel``: ``inputs`` by name, flat arrays and (for rank 0) scalars of the kernel's dtype; write ``out``.

    ``sizes`` has a value for every size of the certificate, tiles and counts included.  Inputs may overlap one
    another, and may be read-only.
    """
    c = kernel.certificate
    given = dict(sizes)
    plan = planned(kernel, given)
    _check_array(c.name, "out", out, kernel.dtype, plan.out)
    if not out.flags.writeable:
        raise NotCovered(f"{c.name}: out is read-only")
    if set(inputs) != {t.data[0] for t in c.inputs}:
        raise NotCovered(f"{c.name}: inputs are {', '.join(str(t.data[0]) for t in c.inputs)}, in any order")
    arguments = []
    for t, extents in zip(c.inputs, plan.inputs, strict=True):
        name, sort = t.data
        dtype = "bool" if sort == "bool" else kernel.dtype
        value = inputs[name]
        if t.args:
            _check_array(c.name, name, value, dtype, extents)
            if np.may_share_memory(out, value):  # exact for contiguous arrays
                raise NotCovered(f"{c.name}: out overlaps {name} in memory; an output of its own is due")
        elif type(value) is not np.dtype(dtype).type:
            raise NotCovered(f"{c.name}: {name} is a {type(value).__name__}; a {dtype} scalar is due")
        arguments.append(value)
    if out.size == 0:  # nothing is to be written
        return
    function = kernel.function
    with _ONE_AT_A_TIME:
        bits, paint = _painted(out)
        try:
            function(out, *arguments, *(given[s] for s in kernel.sizes))
        except (SystemError, MemoryError):
            raise NotCovered(
                f"{c.name}: the kernel could not allocate its scratch; free memory, or take fewer threads"
            ) from None
        if (bits == paint).any():
            raise NotCovered(f"{c.name}: part of the output was not written: a thread could not allocate its scratch")


def _painted(out: Array) -> tuple[Array, Any]:
    """Fill the output with a NaN that nobody computes.

    Numba loses an exception of a worker thread, a failed allocation say: what is still painted was not written.
    """
    quiet = 0x7FF8 << 48 if out.itemsize == 8 else 0x7FC0 << 16
    bits = out.view(f"u{out.itemsize}")
    paint = bits.dtype.type(quiet | secrets.randbits(20) | 1)
    bits.fill(paint)
    return bits, paint


def planned(kernel: Loaded, sizes: Mapping[str, int]) -> Plan:
    """Sizes that the certificate covers and whose indices fit 64 bits: the extents of the arrays.

    Raises ``NotCovered``.  Answers are kept, so that a call with known sizes costs a look-up.
    """
    frame = frame_of(kernel)
    names = names_of(frame)
    for name in names:
        value = sizes.get(name)
        if type(value) is not int or not 0 <= value < WORD:
            long = isinstance(value, int) and abs(value) >= WORD
            shown = "beyond 2**63" if long else repr(value)
            raise NotCovered(f"{frame.name}: size {name} is {shown:.60}; a natural number below 2**63 is due")
    return _planned(frame, tuple(sizes[name] for name in names))


@lru_cache(maxsize=256)
def names_of(frame: Frame) -> tuple[str, ...]:
    """Every size that a term or a tiling names."""
    of_terms = sizes_of([frame.onf, *frame.inputs, *frame.hypotheses])
    return tuple(sorted(of_terms.union(*((t.extent, *t.factors, t.count) for t in frame.tilings))))


@lru_cache(maxsize=4096)
def _planned(frame: Frame, values: tuple[int, ...]) -> Plan:
    """The plan for natural numbers in the order of ``names_of``."""
    sizes = dict(zip(names_of(frame), values, strict=True))
    algebra = Numbers(sizes, {})
    _check_sizes(frame, sizes, algebra)
    shapes = [typeof(frame.onf).shape, *(t.args for t in frame.inputs)]
    out, *inputs = [tuple(meaning(s, (), (), (), algebra) for s in shape) for shape in shapes]
    for name, extents in zip(("out", *(t.data[0] for t in frame.inputs)), (out, *inputs), strict=True):
        if math.prod(max(1, e) for e in extents) >= WORD:
            raise NotCovered(f"{frame.name}: {name} of shape {extents} has offsets beyond 2**63")
    far = exceeds(programme(frame.onf), sizes, frame.dtype)
    if far is not None:
        raise NotCovered(f"{frame.name}: at these sizes {far}")
    return Plan(out, tuple(inputs))


def _check_sizes(frame: Frame, sizes: Mapping[str, int], algebra: Numbers) -> None:
    for number, hypothesis in enumerate(frame.hypotheses):
        if not meaning(hypothesis, (), (), (), algebra):
            raise NotCovered(
                f"{frame.name}: hypothesis {number} of the certificate does not hold for these sizes: {dict(sizes)}"
            )
    for t in frame.tilings:
        extent, count, tile = sizes[t.extent], sizes[t.count], t.length(sizes)
        if min(sizes[f] for f in t.factors) < 1 or count * tile < extent or count * tile >= extent + tile:
            raise NotCovered(f"{frame.name}: {count} tiles of {tile} do not cover {t.extent} = {extent} and no more")


def _check_array(where: str, name: str, x: Any, dtype: str, extents: Sequence[int]) -> None:
    """A flat, contiguous, aligned array of that dtype and byte order, with as many cells as the extents say."""
    if type(x) is not np.ndarray or x.ndim != 1 or not (x.flags.c_contiguous and x.flags.aligned):
        raise NotCovered(f"{where}: {name} must be a flat, contiguous, aligned array")
    if x.dtype != np.dtype(dtype):  # byte order included
        raise NotCovered(f"{where}: {name} is {x.dtype}; {dtype} is due")
    if x.size != math.prod(extents):
        raise NotCovered(f"{where}: {name} has {x.size} elements; shape {tuple(extents)} is due")
