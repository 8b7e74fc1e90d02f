"""The launcher of CUDA texts: what a certificate assumed, and what a device can hold, is checked at every call.

Trusted beside ``launch``, which has the checks of sizes, hypotheses and tilings that both targets share (claim d).
What is launched is read from the head of the very text that was checked: grid, block, constants, shared memory, and
the arrays that one launch makes for the next.  The machine code is Numba's, of one text for one set of constants on
one device; it is made when it is first needed, and kept for the process.

A kernel runs on PyTorch's current stream of the arrays' device.  Nothing waits for it, and nothing is copied.  It does
not see that two addresses are one memory, nor what other streams do to an array while it runs.  A CUDA graph may be
captured of a call whose kernel has run before.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ..errors import NotCovered
from ..operators import typeof
from ..reader.access import Table, read_table
from ..semantics import Numbers, meaning
from ..term import Term
from .launch import Frame, frame_of, names_of, planned
from .loader import Loaded
from .widths import exceeds, programme_of

OLDEST: Final = (8, 0)  # compute capability: what every text is compiled for by `make ptx`, and later ones
MOST_BLOCKS: Final = (2**31 - 1, 2**16 - 1, 2**16 - 1)  # of x, y and z, on every device
MOST_THREADS: Final = (1024, 1024, 64)
BLOCK_THREADS: Final = 1024
AXES: Final = ("x", "y", "z")

_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Device:
    """What of a device decides a launch: ``shared`` is the bytes of shared memory that one block may have."""

    index: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared: int


@dataclass(frozen=True, slots=True)
class Shape:
    """One launch at the sizes of a call: extents of its grid and block, bytes of shared memory, arrays it makes."""

    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    makes: tuple[tuple[str, int], ...]  # name and cells
    constants: tuple[tuple[str, int], ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """Machine code of one launch: the driver's function, and what keeps it alive."""

    function: Any
    owner: Any


@lru_cache(maxsize=64)
def device_of(index: int) -> Device:
    """The device that PyTorch calls ``cuda:index``."""
    if torch.version.cuda is None:
        raise NotCovered("CUDA: this PyTorch is built for another kind of GPU; NVIDIA's are covered")
    p = torch.cuda.get_device_properties(index)
    shared: int = p.shared_memory_per_block_optin  # type: ignore[attr-defined, unused-ignore]
    return Device(index, p.name, (p.major, p.minor), p.multi_processor_count, shared)


# --- what the text says, at the sizes of a call -----------------------------------------------------


@lru_cache(maxsize=64)
def _tables(frame: Frame, sizes: tuple[str, ...], source: bytes) -> tuple[Table, ...]:
    tables = read_table(source, frame.inputs, sizes, typeof(frame.onf).shape)
    for t in tables:
        if (t.target, t.dtype, t.width) != ("cuda", frame.dtype, 64):
            raise NotCovered(
                f"{frame.name}: a text for {t.target}, {t.dtype}, int{t.width} is no kernel for {frame.dtype}"
            )
    return tables


def shapes(kernel: Loaded, sizes: Mapping[str, int]) -> tuple[Shape, ...]:
    """The launches at these sizes, in order, after all checks that need no device; ``NotCovered`` if one fails."""
    planned(kernel, sizes)
    frame = frame_of(kernel)
    return _shapes(frame, kernel.sizes, kernel.source, tuple(sizes[name] for name in names_of(frame)))


@lru_cache(maxsize=4096)
def _shapes(frame: Frame, order: tuple[str, ...], source: bytes, values: tuple[int, ...]) -> tuple[Shape, ...]:
    sizes = dict(zip(names_of(frame), values, strict=True))
    algebra = Numbers(sizes, {})
    itemsize = 8 if frame.dtype == "float64" else 4

    def number(t: Term) -> int:
        return int(meaning(t, (), (), (), algebra))

    found = []
    for table in _tables(frame, order, source):
        far = exceeds(programme_of(table), sizes, frame.dtype)
        if far is not None:
            raise NotCovered(f"{frame.name}: at these sizes {far}")
        shape = Shape(
            table.name,
            tuple(map(number, table.grid)),
            tuple(map(number, table.block)),
            number(table.pool) * itemsize,
            tuple((a.name, math.prod(map(number, a.extents))) for a in table.outputs if a.name != "out"),
            tuple((name, sizes[name]) for name in table.constants),
            table.parameters,
        )
        _check_shape(frame.name, shape)
        found.append(shape)
    return tuple(found)


def _check_shape(where: str, s: Shape) -> None:
    """The limits that every device has."""
    at = f"{where}: launch {s.name}"
    for axis, blocks, most in zip(AXES, s.grid, MOST_BLOCKS, strict=True):
        if blocks > most:
            raise NotCovered(f"{at}: {blocks} blocks along {axis}; at most {most} can be launched")
    for axis, threads, most in zip(AXES, s.block, MOST_THREADS, strict=True):
        if not 0 < threads <= most:
            raise NotCovered(f"{at}: {threads} threads along {axis}; 1 to {most} are covered")
    if math.prod(s.block) > BLOCK_THREADS:
        raise NotCovered(f"{at}: {math.prod(s.block)} threads in a block; at most {BLOCK_THREADS} are covered")


def check_fits(where: str, launches: Sequence[Shape], device: Device) -> None:
    """The limits of this device."""
    if device.capability < OLDEST:
        have, due = (".".join(map(str, c)) for c in (device.capability, OLDEST))
        raise NotCovered(f"{where}: {device.name} has compute capability {have}; {due} and later are covered")
    for s in launches:
        if s.shared > device.shared:
            raise NotCovered(
                f"{where}: launch {s.name} takes {s.shared} bytes of shared memory, and a block on {device.name} has "
                f"{device.shared}; smaller tiles or head sizes are due"
            )


# --- compiling --------------------------------------------------------------------------------------


_COMPILED: dict[tuple[Any, ...], Compiled] = {}


def compiled(kernel: Loaded, shape: Shape, device: Device) -> Compiled:
    """The machine code of a launch for its constants; the driver knows how much shared memory it takes.

    The device must be PyTorch's current one, and its context the thread's (``_attach``): it is what is compiled for.
    """
    key = (kernel.sha256, kernel.certificate.name, shape.name, shape.constants, shape.block, device.index)
    with _LOCK:
        if key not in _COMPILED:
            _COMPILED[key] = _compile(kernel, shape, device)
        return _COMPILED[key]


def _compile(kernel: Loaded, shape: Shape, device: Device) -> Compiled:
    function = kernel.launches(dict(shape.constants))[shape.name].function
    from numba import cuda

    try:
        from cuda.bindings import driver

        signature = signature_of(kernel, shape)
        options = {"launch_bounds": bounds_of(shape), "lto": False, "debug": False, "opt": True}  # whatever Numba's are
        (code,) = cuda.jit([signature], **options)(function).overloads.values()
        found = _sure(kernel, driver.cuKernelGetFunction(code.library.get_cufunc().handle))
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _sure(kernel, driver.cuFuncSetAttribute(found, limit, shape.shared))
    except NotCovered:
        raise
    except Exception as e:  # Numba, libNVVM, the linker and the driver have errors of their own, most of no common kind
        raise NotCovered(f"{kernel.file}: it cannot be compiled for {device.name} ({e}); see `moaproof doctor`") from e
    return Compiled(found, code)


def bounds_of(shape: Shape) -> tuple[int, int]:
    """Threads of a block, and the fewest blocks of a multiprocessor: 1, or the compiler may spill to fit in 2."""
    return math.prod(shape.block), 1


def signature_of(kernel: Loaded, shape: Shape) -> tuple[Any, ...]:
    """The types of a launch's parameters, as Numba names them."""
    from numba.cuda import types

    real = getattr(types, kernel.dtype)
    inputs = {t.data[0]: t for t in kernel.certificate.inputs}

    def kind(name: str) -> Any:
        if name in kernel.sizes:
            return types.int64
        if name not in inputs:
            return types.Array(real, 1, "C")
        of = types.boolean if inputs[name].data[1] == "bool" else real
        return types.Array(of, 1, "C") if inputs[name].args else of

    return tuple(kind(name) for name in shape.parameters)


def _sure(kernel: Loaded, answer: tuple[Any, ...]) -> Any:
    """The value of a call of the driver, or its error as ``NotCovered``."""
    code, *values = answer
    if int(code):
        raise NotCovered(f"{kernel.file}: the CUDA driver answered {getattr(code, 'name', code)}")
    return values[0] if values else None


# --- launching --------------------------------------------------------------------------------------


def launch(kernel: Loaded, out: Tensor, inputs: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Run ``kernel``: ``inputs`` by name, flat CUDA tensors and (for rank 0) scalars of its dtype; write ``out``.

    ``sizes`` has a value for every size of the certificate, tiles and counts included.  Inputs may overlap one another.
    """
    c = kernel.certificate
    launches = shapes(kernel, sizes)
    plan = planned(kernel, sizes)
    check_array(c.name, "out", out, kernel.dtype, plan.out, out)
    if set(inputs) != {t.data[0] for t in c.inputs}:
        raise NotCovered(f"{c.name}: inputs are {', '.join(str(t.data[0]) for t in c.inputs)}, in any order")
    for t, extents in zip(c.inputs, plan.inputs, strict=True):
        name, sort = t.data
        if t.args:
            check_array(c.name, name, inputs[name], "bool" if sort == "bool" else kernel.dtype, extents, out)
            if overlap(out, inputs[name]):
                raise NotCovered(f"{c.name}: out overlaps {name} in memory; an output of its own is due")
        elif type(inputs[name]) is not np.dtype(kernel.dtype).type:
            raise NotCovered(f"{c.name}: {name} is a {type(inputs[name]).__name__}; a {kernel.dtype} scalar is due")
    if out.numel() == 0:  # nothing is to be written
        return
    device = device_of(out.device.index)
    check_fits(c.name, launches, device)
    with torch.cuda.device(device.index):
        _attach(kernel, device)
        stream = torch.cuda.current_stream().cuda_stream
        values = {"out": out, **inputs, **sizes}
        for shape in launches:
            values |= {name: torch.empty(cells, dtype=out.dtype, device=out.device) for name, cells in shape.makes}
            if 0 not in shape.grid:
                _start(kernel, shape, compiled(kernel, shape, device), values, stream)


def _attach(kernel: Loaded, device: Device) -> None:
    """Make PyTorch's context of the device current in this thread.

    A thread that has called nothing of the CUDA runtime has no context, PyTorch's guard gives it none for device 0, and
    the driver would refuse every launch.
    """
    try:
        from cuda.bindings import driver
    except ImportError as e:
        raise NotCovered(f"{kernel.file}: CUDA kernels need numba-cuda: pip install 'moaproof[cuda]' ({e})") from None
    if not int(_sure(kernel, driver.cuCtxGetCurrent())):
        place = _sure(kernel, driver.cuDeviceGet(device.index))
        _sure(kernel, driver.cuCtxSetCurrent(_sure(kernel, driver.cuDevicePrimaryCtxRetain(place))))


def _start(kernel: Loaded, shape: Shape, code: Compiled, values: Mapping[str, Any], stream: int) -> None:
    from cuda.bindings import driver

    pairs = [pair for name in shape.parameters for pair in flattened(values[name])]
    arguments = tuple(value for value, _ in pairs), tuple(kind for _, kind in pairs)
    (answer,) = driver.cuLaunchKernel(code.function, *shape.grid, *shape.block, shape.shared, stream, arguments, 0)
    if int(answer):
        raise NotCovered(
            f"{kernel.file}: the CUDA driver refused launch {shape.name} of {shape.grid} blocks of {shape.block} "
            f"threads with {shape.shared} bytes of shared memory: {answer.name}"
        )


def flattened(value: Any) -> list[tuple[Any, Any]]:
    """A parameter as Numba takes it: an array is two owners, length, size of an item, address, extent, stride."""
    if isinstance(value, Tensor):
        cells, itemsize = value.numel(), value.element_size()
        words = (0, 0, cells, itemsize, value.data_ptr(), cells, itemsize)
        return [(word, ctypes.c_int64) for word in words]
    if type(value) is int:
        return [(value, ctypes.c_int64)]
    return [(float(value), ctypes.c_float if value.dtype.itemsize == 4 else ctypes.c_double)]


def check_array(where: str, name: str, x: Any, dtype: str, extents: Sequence[int], beside: Tensor) -> None:
    """A flat, contiguous, aligned CUDA tensor of that dtype on the device of ``beside``, with so many cells."""
    plain = type(x) is Tensor and x.is_cuda and x.layout == torch.strided and not (x.is_neg() or x.is_conj())
    if not plain or x.ndim != 1 or not x.is_contiguous() or x.data_ptr() % x.element_size():
        raise NotCovered(f"{where}: {name} must be a flat, contiguous, aligned CUDA tensor")
    if x.dtype != getattr(torch, dtype):
        raise NotCovered(f"{where}: {name} is {x.dtype}; {dtype} is due")
    if x.device != beside.device:
        raise NotCovered(f"{where}: {name} is on {x.device} and out on {beside.device}; one device is due")
    if x.numel() and x.untyped_storage().nbytes() < (x.storage_offset() + x.numel()) * x.element_size():
        raise NotCovered(f"{where}: {name} has less storage than its shape needs")
    if x.numel() != math.prod(extents):
        raise NotCovered(f"{where}: {name} has {x.numel()} elements; shape {tuple(extents)} is due")


def overlap(a: Tensor, b: Tensor) -> bool:
    """Have two contiguous tensors a byte in common?"""
    first, second = a.data_ptr(), b.data_ptr()
    return min(a.numel(), b.numel()) > 0 and first < second + b.nbytes and second < first + a.nbytes
