"""The launcher of CUDA texts, as far as it needs no GPU: what is launched and refused, and how tiles are chosen."""

from __future__ import annotations

import ast
import ctypes
import math
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from moaproof.errors import CertificateInvalid, NotCovered
from moaproof.kernel.checker import tiling_facts
from moaproof.runtime import cuda, cuda_tiles, launch, widths
from moaproof.runtime.attention import kind_of, prepare
from moaproof.runtime.cuda import Device, Shape, check_fits, shapes
from moaproof.runtime.cuda_tiles import Block
from moaproof.runtime.loader import Loaded, load
from moaproof.semantics import Numbers, meaning
from moaproof.testing import gpu

H100 = Device(0, "H100", (9, 0), 132, 232448)
A100 = Device(0, "A100", (8, 0), 108, 166912)
RTX = Device(0, "RTX", (8, 9), 46, 101376)
TEXTS = gpu.texts()
SMALL = Block(2, 3, 2, 5)


def kernel_of(text: gpu.Text) -> Loaded:
    return load(text.certificate, text.dtype, target="cuda")


def sizes_of(text: gpu.Text, block: Block = SMALL, bk: int = 2, **fields: Any) -> dict[str, int]:
    case = gpu.case_of(text, **{"b": 2, "n": 17, "m": 23, "dk": 4, "dv": 7} | fields)
    call = gpu.tensors(case, "cpu").prepared(case)
    return call.sizes | gpu.tiles_of(text, call.sizes, block, bk)


ONE = gpu.Text("attention", "online", "float64")
TWO = gpu.Text("attention", "split", "float64")


# --- what is launched -------------------------------------------------------------------------------


def test_every_committed_cuda_text_is_found() -> None:
    kinds = {"attention", "causal", "masked", "gqa", "gqa-causal", "gqa-masked"}
    assert {t.kind for t in TEXTS if t.schedule == "online"} == kinds
    assert {t.kind for t in TEXTS if t.schedule == "split"} == cuda_tiles.SPLIT
    assert len(TEXTS) == 2 * (len(kinds) + len(cuda_tiles.SPLIT))


def test_the_launches_of_a_call() -> None:
    sizes = sizes_of(ONE)
    (one,) = shapes(kernel_of(ONE), sizes)
    assert (one.grid, one.block, one.makes) == ((2 * 2 * 3, 1, 1), (5, 3, 1), ())
    assert one.parameters[0] == "out"
    first, last = shapes(kernel_of(TWO), sizes_of(TWO))
    assert (first.grid, last.grid) == ((2 * 2 * 2 * 3, 1, 1), (2 * 2 * 17, 1, 1))
    assert sorted(cells for _, cells in first.makes) == [2 * 2 * 2 * 17] * 2 + [2 * 2 * 2 * 17 * 10]
    assert (last.name, last.shared, last.makes) == ("kernel", 0, ())


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: t.label)
def test_shared_memory_is_what_the_text_itself_carves(text: gpu.Text) -> None:
    """The lines ``p1 = ..`` of the text, run by Python; the last of them is the number of cells."""
    kernel, sizes = kernel_of(text), sizes_of(text)
    source = kernel.source.decode()
    for shape in shapes(kernel, sizes):
        body = source[source.index(f"def {shape.name}(") :].partition("\n\n\n")[0]
        scope: dict[str, Any] = dict(shape.constants)
        ends = [0]
        for name, value in re.findall(r"^    (p\d+) = (.*)$", body, re.MULTILINE):
            scope[name] = eval(value, {}, scope)  # noqa: S307  a committed text
            ends.append(scope[name])
        assert shape.shared == ends[-1] * (8 if text.dtype == "float64" else 4)
        assert (ends[-1] > 0) == ("cuda.shared" in body)


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: t.label)
def test_every_parameter_has_a_value_or_is_made_before(text: gpu.Text) -> None:
    kernel, sizes = kernel_of(text), sizes_of(text)
    known = {"out", *(t.data[0] for t in kernel.certificate.inputs), *sizes}
    for shape in shapes(kernel, sizes):
        known |= {name for name, _ in shape.makes}
        assert set(shape.parameters) <= known
        assert {name for name, _ in shape.constants}.isdisjoint(shape.parameters)


LIMITS = {
    "blocks": ({"b": 2**15, "h": 2**15, "g": 2**15, "n": 48}, SMALL, r"blocks along x; at most 2147483647"),
    "threads": ({}, Block(1, 33, 1, 32), "1056 threads in a block; at most 1024"),
    "threads of x": ({}, Block(1, 1, 1, 1025), "1025 threads along x; 1 to 1024"),
}


@pytest.mark.parametrize("case", LIMITS)
def test_what_no_device_can_launch_is_refused(case: str) -> None:
    changed, block, message = LIMITS[case]
    sizes = sizes_of(ONE, block)
    sizes |= changed
    sizes |= cuda_tiles.online(sizes, block)
    with pytest.raises(NotCovered, match=message):
        shapes(kernel_of(ONE), sizes)


def test_as_many_blocks_as_can_be_launched_are() -> None:
    sizes = sizes_of(ONE) | {"b": 1, "h": 2**31 - 1, "g": 2**31 - 1, "n": 6}
    (shape,) = shapes(kernel_of(ONE), sizes | cuda_tiles.online(sizes, SMALL))
    assert shape.grid[0] == 2**31 - 1


def test_the_device_decides_about_memory_and_age() -> None:
    launches = shapes(kernel_of(ONE), sizes_of(ONE, Block(4, 16, 4, 16), dk=64, dv=64))
    check_fits("x", launches, H100)
    with pytest.raises(
        NotCovered, match=r"x: launch kernel takes \d+ bytes of shared memory, and a block on RTX has 101376"
    ):
        check_fits("x", launches, RTX)
    check_fits("x", launches, replace(H100, shared=launches[0].shared))
    with pytest.raises(NotCovered, match="bytes of shared memory"):
        check_fits("x", launches, replace(H100, shared=launches[0].shared - 1))
    with pytest.raises(NotCovered, match=r"H100 has compute capability 7\.5; 8\.0 and later are covered"):
        check_fits("x", launches, replace(H100, capability=(7, 5)))


@pytest.mark.parametrize("text", [ONE, TWO], ids=lambda t: t.label)
def test_the_tiling_that_is_checked_is_the_tiling_that_was_assumed(text: gpu.Text) -> None:
    """A product of sizes is a tile: a call is accepted exactly where the facts that the checker used hold."""
    kernel = kernel_of(text)
    base = sizes_of(text, Block(1, 1, 1, 1), 1, m=0, n=1, dv=1)
    seen = set()
    for t in kernel.certificate.tilings:
        for extent, first, second, count in product(range(6), range(3), range(3), range(5)):
            sizes = base | {t.extent: extent, t.count: count} | dict(zip(t.factors, (first, second, 1), strict=False))
            facts = [f for u in kernel.certificate.tilings for f in tiling_facts(u)]
            due = all(meaning(fact, (), (), (), Numbers(sizes, {})) for fact in facts)
            try:
                launch.planned(kernel, sizes)
                found = True
            except NotCovered:
                found = False
            assert found == due, sizes
            seen.add(found)
    assert seen == {True, False}


def spoilt(kernel: Loaded, old: bytes, new: bytes) -> Loaded:
    assert old in kernel.source
    return replace(kernel, source=kernel.source.replace(old, new))


def test_a_text_of_another_dtype_width_or_target_is_refused() -> None:
    """The loader has seen the digest; what the head of the text says is looked at nevertheless."""
    kernel, sizes = kernel_of(ONE), sizes_of(ONE)
    with pytest.raises(NotCovered, match="a text for cuda, float32, int64 is no kernel for float64"):
        shapes(spoilt(kernel, b"cuda_float64", b"cuda_float32"), sizes)
    with pytest.raises(NotCovered, match="a text for cuda, float64, int32 is no kernel for float64"):
        shapes(spoilt(kernel, b'index="int64"', b'index="int32"'), sizes)
    with pytest.raises(NotCovered, match="a text for cpu, float64, int64 is no kernel"):
        shapes(
            replace(load("attention-online", "float64"), target="cuda"),
            sizes_of(ONE) | {"tq": 17, "tk": 23, "bq": 1, "bk": 1},
        )
    with pytest.raises(CertificateInvalid, match="kernel, line"):
        shapes(spoilt(kernel, b"cuda.syncthreads()", b"import os"), sizes)


# --- widths -----------------------------------------------------------------------------------------


class Watched(int):
    """An integer that remembers the farthest that any integer got."""

    farthest = 0

    def _seen(self, value: int) -> Watched:
        Watched.farthest = max(Watched.farthest, value if value >= 0 else -value - 1)
        return Watched(value)

    def __add__(self, other: int) -> Watched:
        return self._seen(int(self) + int(other))

    def __sub__(self, other: int) -> Watched:
        return self._seen(int(self) - int(other))

    def __rsub__(self, other: int) -> Watched:
        return self._seen(int(other) - int(self))

    def __mul__(self, other: int) -> Watched:
        return self._seen(int(self) * int(other))

    def __floordiv__(self, other: int) -> Watched:
        return self._seen(int(self) // int(other))

    def __mod__(self, other: int) -> Watched:
        return self._seen(int(self) % int(other))

    __radd__, __rmul__ = __add__, __mul__


class Cells:
    """Memory of any shape that holds ones."""

    def __getitem__(self, index: object) -> float:
        return 1.0

    def __setitem__(self, index: object, value: object) -> None:
        pass


class Place:
    """blockIdx or threadIdx."""

    def __init__(self, where: tuple[int, ...]) -> None:
        self.x, self.y, self.z = map(Watched, where)


class Cuda:
    """One thread at a time: no index depends on a value, so no other thread is needed."""

    def __init__(self, block: tuple[int, ...], thread: tuple[int, ...]) -> None:
        self.blockIdx, self.threadIdx = Place(block), Place(thread)
        self.shared = self.local = self

    @staticmethod
    def array(shape: object, dtype: object) -> Cells:
        return Cells()

    def syncthreads(self) -> None:
        pass


def watched_span(*bounds: int) -> Iterator[Watched]:
    return (Watched(k) for k in range(*map(int, bounds)))


def farthest(kernel: Loaded, sizes: dict[str, int]) -> int:
    """Run a text, thread by thread, on memory of ones; the farthest integer that it computes."""
    module = ast.parse(kernel.source)
    functions = [f for f in module.body if isinstance(f, ast.FunctionDef)]
    for f in functions:
        f.decorator_list = []
    code = compile(ast.fix_missing_locations(ast.Module(list(functions), [])), "<text>", "exec")
    Watched.farthest = 0
    for shape in shapes(kernel, sizes):
        for block in product(*map(range, shape.grid)):
            for thread in product(*map(range, shape.block)):
                scope: dict[str, Any] = {
                    "LOWEST": -math.inf, "ZERO": 0.0, "ONE": 1.0, "real": float, "fmax": max, "exp": lambda x: 1.0,
                    "sqrt": lambda x: 1.0, "span": watched_span, "view": lambda *_: Cells(),
                    "quotient": lambda o, l: 0.0, "rescale": lambda a, t: 0.0, "cuda": Cuda(block, thread),
                    **{name: Watched(value) for name, value in shape.constants},
                }  # fmt: skip
                exec(code, scope)  # noqa: S102
                given = {s: Watched(v) for s, v in sizes.items()}
                scope[shape.name](*(given.get(p, 0.5 if p == "scale" else Cells()) for p in shape.parameters))
    return Watched.farthest


@pytest.mark.parametrize("text", [t for t in TEXTS if t.dtype == "float64"], ids=lambda t: t.label)
def test_what_a_text_computes_stays_within_what_is_foreseen(text: gpu.Text, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a word as long as the farthest integer of a run the sizes are refused, with one of 4 times that they run."""
    kernel = kernel_of(text)
    sizes = sizes_of(text, Block(1, 2, 2, 2), 1, g=2, n=3, m=7, dk=3, dv=3, steps=(1, 1, 1, 1))
    sizes = {s: sizes[s] for s in (*kernel.sizes, *(x for t in kernel.certificate.tilings for x in t.factors))}
    top = farthest(kernel, sizes)
    assert top >= 2 * 2 * 3 * 3 - 1
    tables = cuda._tables(launch.frame_of(kernel), kernel.sizes, kernel.source)
    monkeypatch.setattr(widths, "NARROW", 0)
    monkeypatch.setattr(widths, "BYTES", 1)
    for word, refused in ((top, True), (4 * top, False)):
        monkeypatch.setattr(widths, "WORD", word)
        found = [widths.exceeds(widths.programme_of(t), sizes, "float64") for t in tables]
        assert any(found) == refused, found


HOSTILE = {
    "a long row of blocks": {"h": 2**62, "g": 2**62, "b": 4},
    "components": {"dk": 2**60},
    "keys": {"m": 2**62},
    "keys of nothing": {"b": 0, "m": 2**61, "h": 4, "g": 4},
    "columns": {"dv": 2**60},
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("text", [ONE, TWO], ids=lambda t: t.label)
def test_no_index_leaves_64_bits(case: str, text: gpu.Text) -> None:
    sizes = sizes_of(text) | HOSTILE[case]
    with pytest.raises(NotCovered, match=r"beyond 2|more than 64 bits hold|or beyond"):
        shapes(kernel_of(text), sizes | gpu.tiles_of(text, sizes, SMALL, 2))


def test_large_calls_that_could_ever_be_are_covered() -> None:
    sizes = sizes_of(ONE) | {"b": 64, "h": 128, "g": 128, "n": 2**20, "m": 2**20, "dk": 256, "dv": 256}
    shapes(kernel_of(ONE), sizes | cuda_tiles.online(sizes, Block(4, 16, 4, 16)))


# --- launching --------------------------------------------------------------------------------------


class Recorder:
    """In place of the driver: what would have been launched."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        patch.setattr(cuda, "check_array", lambda *_: None)
        patch.setattr(cuda, "device_of", lambda _: H100)
        patch.setattr(cuda, "compiled", lambda kernel, shape, device: shape.name)
        patch.setattr(cuda, "_attach", lambda kernel, device: None)
        patch.setattr(cuda, "_start", self.start)
        patch.setattr(torch.cuda, "device", lambda _: nullcontext())
        patch.setattr(torch.cuda, "current_stream", lambda: type("Stream", (), {"cuda_stream": 7}))

    def start(self, kernel: Loaded, shape: Shape, code: Any, values: dict[str, Any], stream: int) -> None:
        assert (code, stream) == (shape.name, 7)
        self.seen.append((shape.name, {p: values[p] for p in shape.parameters}))


def run(text: gpu.Text, **fields: Any) -> torch.Tensor:
    sizes = sizes_of(text, **fields)
    case = gpu.case_of(text, **{"b": 2, "n": 17, "m": 23, "dk": 4, "dv": 7} | fields)
    x = gpu.tensors(case, "cpu")
    inputs = {"q": x.q.view(-1), "k": x.k.view(-1), "v": x.v.view(-1), "scale": np.float64(0.5)}
    out = torch.empty(x.q.shape[0] * x.q.shape[1] * x.q.shape[2] * x.v.shape[3], dtype=torch.float64)
    cuda.launch(kernel_of(text), out, inputs, sizes)
    return out


def test_launches_run_in_order_on_the_current_stream_and_hand_on_what_they_make(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(monkeypatch)
    out = run(TWO)
    (first, given), (second, later) = recorder.seen
    assert (first != "kernel", second) == (True, "kernel")
    assert later["out"] is out
    made = [name for name, x in given.items() if isinstance(x, torch.Tensor) and name in later and name not in "qkv"]
    assert len(made) == 3
    assert all(given[name] is later[name] for name in made)
    assert all(given[name].dtype == torch.float64 for name in made)


def test_a_launch_of_no_blocks_is_left_out_and_an_empty_output_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    run(TWO, m=0)
    assert [name for name, _ in recorder.seen] == ["kernel"]
    recorder.seen.clear()
    run(ONE, n=0)
    run(ONE, dv=0)
    run(TWO, b=0)
    assert recorder.seen == []
    run(ONE, m=0)
    assert len(recorder.seen) == 1


def test_only_cuda_tensors_are_passed() -> None:
    good = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(NotCovered, match="w: q must be a flat, contiguous, aligned CUDA tensor"):
        cuda.check_array("w", "q", good, "float64", (3,), good)
    for x in (None, np.zeros(3), [0.0]):
        with pytest.raises(NotCovered, match="must be a flat"):
            cuda.check_array("w", "q", x, "float64", (3,), good)


def test_overlap_is_of_bytes() -> None:
    x = torch.zeros(10)
    for i, j, k, l in product(range(0, 11, 2), repeat=4):
        a, b = x[min(i, j) : max(i, j)], x[min(k, l) : max(k, l)]
        shared = set(range(min(i, j), max(i, j))) & set(range(min(k, l), max(k, l)))
        assert cuda.overlap(a, b) == bool(shared)


def test_parameters_are_flattened_as_numba_has_them() -> None:
    x = torch.zeros(5, dtype=torch.float32)
    assert [v for v, _ in cuda.flattened(x)] == [0, 0, 5, 4, x.data_ptr(), 5, 4]
    assert {kind for _, kind in cuda.flattened(x)} == {ctypes.c_int64}
    assert cuda.flattened(7) == [(7, ctypes.c_int64)]
    assert cuda.flattened(np.float32(0.5)) == [(0.5, ctypes.c_float)]
    assert cuda.flattened(np.float64(0.5)) == [(0.5, ctypes.c_double)]


def test_an_error_of_the_driver_is_named() -> None:
    kernel = kernel_of(ONE)
    assert cuda._sure(kernel, (0, 5)) == 5
    with pytest.raises(NotCovered, match=r"attention_cuda_online_float64\.py: the CUDA driver answered 701"):
        cuda._sure(kernel, (701,))


def test_a_tensor_whose_storage_was_taken_away_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    x = torch.zeros(8, dtype=torch.float64)
    q = x[5:]
    cuda.check_array("w", "q", q, "float64", (3,), x)
    x.untyped_storage().resize_(7 * 8)
    with pytest.raises(NotCovered, match="w: q has less storage than its shape needs"):
        cuda.check_array("w", "q", q, "float64", (3,), x)


class Context:
    """In place of the driver's functions about contexts; ``fails`` answers with an error."""

    def __init__(self, current: int, fails: str = "") -> None:
        self.current, self.fails, self.called = current, fails, list[tuple[Any, ...]]()

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> tuple[Any, ...]:
            self.called.append((name, *args))
            if name == self.fails:
                return (201,)
            return {
                "cuCtxGetCurrent": (0, self.current), "cuDeviceGet": (0, 10 + sum(args)),
                "cuDevicePrimaryCtxRetain": (0, 100 + sum(args)), "cuCtxSetCurrent": (0,),
            }[name]  # fmt: skip

        return call

    def install(self, patch: pytest.MonkeyPatch) -> Context:
        for name, members in (("cuda", {}), ("cuda.bindings", {"driver": self})):
            module = ModuleType(name)
            module.__dict__.update(members)
            patch.setitem(sys.modules, name, module)
        return self


def test_a_thread_without_a_context_gets_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Context(0).install(monkeypatch)
    cuda._attach(kernel_of(ONE), replace(H100, index=3))
    assert driver.called == [
        ("cuCtxGetCurrent",), ("cuDeviceGet", 3), ("cuDevicePrimaryCtxRetain", 13), ("cuCtxSetCurrent", 113),
    ]  # fmt: skip
    driver = Context(7).install(monkeypatch)
    cuda._attach(kernel_of(ONE), H100)
    assert driver.called == [("cuCtxGetCurrent",)]
    for name in ("cuCtxGetCurrent", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent"):
        Context(0, name).install(monkeypatch)
        with pytest.raises(NotCovered, match="the CUDA driver answered 201"):
            cuda._attach(kernel_of(ONE), H100)


def test_without_the_bindings_of_the_driver_a_call_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(NotCovered, match=r"online_float64\.py: CUDA kernels need numba-cuda: pip install"):
        cuda._attach(kernel_of(ONE), H100)


class BindingError(Exception):
    """Of no kind that anybody would list: libNVVM, nvJitLink and Numba's driver each have such a one."""


@pytest.mark.parametrize("error", [BindingError, OSError, ImportError, AttributeError])
def test_whatever_the_compiler_says_is_not_covered(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def jit(*_: Any, **options: Any) -> Any:
        assert (options["debug"], options["opt"], options["lto"]) == (False, True, False)
        raise error("ptx of the future")

    Context(7).install(monkeypatch)
    monkeypatch.setattr(Loaded, "launches", lambda kernel, constants: {"kernel": SimpleNamespace(function=len)})
    monkeypatch.setattr(cuda, "signature_of", lambda kernel, shape: ())
    monkeypatch.setattr("numba.cuda.jit", jit)
    (shape,) = shapes(kernel_of(ONE), sizes_of(ONE))
    with pytest.raises(NotCovered, match=r"cannot be compiled for H100 \(ptx of the future\); see `moaproof doctor`"):
        cuda.compiled(kernel_of(ONE), shape, H100)


# --- tiles ------------------------------------------------------------------------------------------


def chosen(kind: str, dtype: str, device: Device, **sizes: int) -> tuple[str, dict[str, int]]:
    """What ``attention`` would choose; the launcher's checks of it included."""
    full = {"b": 1, "h": 16, "r": 1, "n": 4096, "m": 4096, "dk": 64, "dv": 64} | sizes
    full |= {"g": full["h"] // 2, "r": 2} if kind.startswith("gqa") else {"g": full["h"]}
    if "masked" in kind:
        full |= {"mb": 1, "mh": 1, "mn": 1, "mm": 1, "sb": 0, "sh": 0, "sn": 0, "sm": 0}
    assert kind_of(full, "masked" in kind, "causal" in kind) == kind

    def launches(name: str, tiles: Any) -> tuple[Shape, ...]:
        return shapes(load(name, dtype, target="cuda"), {**full, **tiles})

    return cuda_tiles.choose(kind, full, dtype, device, launches)


@pytest.mark.parametrize("device", [H100, A100, RTX], ids=lambda d: d.name)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("dk", [0, 1, 64, 128, 256, 512])
@pytest.mark.parametrize("dv", [0, 1, 64, 512])
def test_tiles_fit_every_head_size_up_to_512(device: Device, dtype: str, dk: int, dv: int) -> None:
    for n, m in product((0, 1, 3, 16, 17, 4096), (0, 1, 70, 100_000)):
        name, tiles = chosen("attention", dtype, device, n=n, m=m, dk=dk, dv=dv)
        block = Block(tiles["ri"], tiles["ty"], tiles["rj"], tiles["tx"])
        assert block.ty * block.tx <= 1024
        numbers = cuda_tiles.registers(block, tiles["rc"]) * (2 if dtype == "float64" else 1)
        assert numbers <= cuda_tiles.REGISTERS or (dv == 512 and device is not H100)
        assert name == "attention-cuda-online" or (tiles["bp"] > 1 and n > 0)


@pytest.mark.parametrize("kind", ["attention", "causal", "masked", "gqa", "gqa-causal", "gqa-masked"])
def test_only_few_rows_and_many_keys_are_split(kind: str) -> None:
    name, tiles = chosen(kind, "float64", H100, n=1, m=100_000)
    assert name == (f"{kind}-cuda-split" if kind in cuda_tiles.SPLIT else f"{kind}-cuda-online")
    if kind in cuda_tiles.SPLIT:
        blocks = 16 * tiles["bq"] * tiles["bp"]
        assert 1 < blocks / H100.multiprocessors <= cuda_tiles.BLOCKS + 1
        assert tiles["bk"] >= cuda_tiles.SHORTEST
    for sizes in ({"n": 4096}, {"n": 1, "m": 200}, {"n": 1, "h": 512, "m": 100_000}, {"n": 0}, {"m": 0}, {"b": 0}):
        assert chosen(kind, "float64", H100, **sizes)[0] == f"{kind}-cuda-online"


def test_a_head_that_no_block_can_hold_is_refused() -> None:
    with pytest.raises(NotCovered, match="head sizes 100000 and 64 need more shared memory than a block on H100"):
        chosen("attention", "float64", H100, dk=100_000)
    with pytest.raises(NotCovered, match="smaller heads are covered"):
        chosen("attention", "float64", H100, dv=100_000)


def test_a_call_on_the_cpu_does_not_ask_for_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_: int) -> Device:
        raise AssertionError("asked")

    monkeypatch.setattr(cuda, "device_of", asked)
    q = torch.zeros(2, 3, 4)
    assert prepare(q, q, q).device.type == "cpu"
