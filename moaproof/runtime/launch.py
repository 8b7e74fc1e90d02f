"""The launcher: what a certificate assumed is checked at every call.  Trusted beside the loader (claim d).

A kernel is proved for flat row-major arrays of the extents in its certificate, under its hypotheses and tilings,
with an output that overlaps no input.  ``launch`` evaluates those very terms on the sizes of the call, and refuses
with ``NotCovered`` what does not satisfy them.  It knows nothing of attention.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..errors import NotCovered
from ..operators import typeof
from ..semantics import Numbers, meaning
from ..term import Term
from .loader import Loaded

LIMIT: Final = 2**63

# A kernel uses all of Numba's threads; and its `workqueue` layer ends the process when two threads enter it at once.
_ONE_AT_A_TIME = threading.Lock()

Array = np.ndarray[Any, Any]


def launch(kernel: Loaded, out: Array, inputs: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Run ``kernel``: ``inputs`` by name, flat arrays and (for rank 0) scalars of the kernel's dtype; write ``out``.

    ``sizes`` has a value for every size of the certificate, tiles and counts included.
    """
    c = kernel.certificate
    algebra = Numbers(sizes, {})
    _check_sizes(kernel, sizes, algebra)
    _check_array(c.name, "out", out, kernel.dtype, _extents(typeof(c.onf).shape, algebra))
    if set(inputs) != {t.data[0] for t in c.inputs}:
        raise NotCovered(f"{c.name}: inputs are {', '.join(str(t.data[0]) for t in c.inputs)}, in any order")
    arguments = []
    for t in c.inputs:
        name, sort = t.data
        dtype = "bool" if sort == "bool" else kernel.dtype
        value = inputs[name]
        if t.args:
            _check_array(c.name, name, value, dtype, _extents(t.args, algebra))
            if np.may_share_memory(out, value):
                raise NotCovered(f"{c.name}: out overlaps {name} in memory; an output of its own is due")
        elif type(value) is not np.dtype(dtype).type:
            raise NotCovered(f"{c.name}: {name} is a {type(value).__name__}; a {dtype} scalar is due")
        arguments.append(value)
    if out.size == 0:  # nothing is to be written
        return
    with _ONE_AT_A_TIME:
        bits, paint = _painted(out)
        try:
            kernel.function(out, *arguments, *(int(sizes[s]) for s in kernel.sizes))
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


def _extents(shape: Sequence[Term], algebra: Numbers) -> list[int]:
    return [meaning(s, (), (), (), algebra) for s in shape]


def _check_sizes(kernel: Loaded, sizes: Mapping[str, int], algebra: Numbers) -> None:
    c = kernel.certificate
    for name in kernel.sizes:
        value = sizes.get(name)
        if type(value) is not int or not 0 <= value < LIMIT:
            raise NotCovered(f"{c.name}: size {name} is {value!r}; a natural number below 2**63 is due")
    for number, hypothesis in enumerate(c.hypotheses):
        if not meaning(hypothesis, (), (), (), algebra):
            raise NotCovered(
                f"{c.name}: hypothesis {number} of the certificate does not hold for these sizes: {dict(sizes)}"
            )
    for t in c.tilings:
        extent, tile, count = sizes[t.extent], sizes[t.tile], sizes[t.count]
        if tile < 1 or count * tile < extent or count * tile >= extent + tile:
            raise NotCovered(f"{c.name}: {count} tiles of {tile} do not cover {t.extent} = {extent} and no more")


def _check_array(where: str, name: str, x: Any, dtype: str, extents: Sequence[int]) -> None:
    """A flat, contiguous, aligned array of that dtype and as many cells as the extents say, all offsets below 2**63."""
    if math.prod(max(1, e) for e in extents) >= LIMIT:
        raise NotCovered(f"{where}: {name} of shape {tuple(extents)} has offsets beyond 2**63")
    if not isinstance(x, np.ndarray) or x.ndim != 1 or not (x.flags.c_contiguous and x.flags.aligned):
        raise NotCovered(f"{where}: {name} must be a flat, contiguous, aligned array")
    if x.dtype != np.dtype(dtype):  # byte order included
        raise NotCovered(f"{where}: {name} is {x.dtype}; {dtype} is due")
    if x.size != math.prod(extents):
        raise NotCovered(f"{where}: {name} has {x.size} elements; shape {tuple(extents)} is due")
