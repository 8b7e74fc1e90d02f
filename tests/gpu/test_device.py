"""``attention`` on CUDA tensors: what it gives, refuses, leaves alone, and when.  Needs a GPU; nothing is skipped."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from moaproof import attention
from moaproof.errors import NotCovered
from moaproof.instructions import cuda_float32, cuda_float64
from moaproof.runtime import cuda as launcher
from moaproof.runtime import cuda_tiles
from moaproof.runtime.attention import prepare, run, tiled
from moaproof.runtime.loader import load
from moaproof.testing import gpu

F64, F32 = torch.float64, torch.float32
TEXTS = gpu.texts()


def draw(*shape: int, dtype: torch.dtype = F64, device: str = "cuda") -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return torch.randn(shape, dtype=dtype, generator=generator).to(device)


def qkv(*lead: int, n: int = 5, m: int = 7, d: int = 8, dtype: torch.dtype = F64) -> list[torch.Tensor]:
    return [draw(*lead, rows, d, dtype=dtype) for rows in (n, m, m)]


def due(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    options = {"attn_mask": None, "is_causal": False, "scale": None, "enable_gqa": False} | options
    with torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.MATH]):
        return torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), **options)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """A smoke test; the tolerances that decide are the campaign's."""
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-13 if found.dtype == F64 else 1e-5)


def test_every_kind_has_its_texts() -> None:
    online = {"attention", "causal", "masked", "gqa", "gqa-causal", "gqa-masked"}
    assert {t.kind for t in TEXTS if t.schedule == "online"} == online
    assert {t.kind for t in TEXTS if t.schedule == "split"} == cuda_tiles.SPLIT
    assert {t.dtype for t in TEXTS} == {"float64", "float32"}


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: t.label)
def test_every_text_computes_attention(text: gpu.Text) -> None:
    case = gpu.case_of(text, b=2, n=21, m=37, dk=8, dv=8)
    x = gpu.tensors(case, "cuda")
    call = gpu.named(x.prepared(case), text.certificate)
    block = gpu.Block(2, 4, 2, 4)
    found = run(call, call.sizes | gpu.tiles_of(text, call.sizes, block, 2))
    close(found, gpu.reference(x, case, float(call.inputs["scale"])))


@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3), (0, 3), (2, 0, 3)])
def test_any_number_of_leading_axes(lead: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = qkv(*lead, dtype=dtype)
    found = attention(q, k, v)
    assert found.is_cuda
    assert found.shape == q.shape
    close(found, due(q, k, v))


@pytest.mark.parametrize(("n", "m"), [(0, 7), (5, 0), (0, 0), (1, 1), (129, 1), (1, 129)])
def test_empty_and_thin_axes(n: int, m: int) -> None:
    q, k, v = qkv(2, n=n, m=m)
    found = attention(q, k, v)
    close(found, due(q, k, v) if m else torch.zeros_like(q))
    close(attention(q, k, v, is_causal=True), due(q, k, v, is_causal=True) if m else torch.zeros_like(q))


def test_no_columns_and_no_components() -> None:
    q, k, v = qkv(2)
    assert attention(q, k, v[..., :0]).shape == (2, 5, 0)
    close(attention(q[..., :0], k[..., :0], v, scale=1.0), v.mean(-2, keepdim=True).expand(2, 5, 8))


@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize(("dk", "dv"), [(1, 1), (96, 33), (256, 256), (512, 512), (17, 512), (512, 3)])
def test_head_sizes_up_to_512(dk: int, dv: int, dtype: torch.dtype) -> None:
    q, k, v = draw(1, 70, dk, dtype=dtype), draw(1, 71, dk, dtype=dtype), draw(1, 71, dv, dtype=dtype)
    close(attention(q, k, v), due(q, k, v))


def test_a_head_that_no_block_can_hold_is_refused() -> None:
    with pytest.raises(NotCovered, match="head sizes 100000 and 8 need more shared memory"):
        attention(draw(1, 2, 100_000), draw(1, 2, 100_000), draw(1, 2, 8))


def test_many_blocks() -> None:
    q, k, v = qkv(70_001, n=1, m=2, d=1)
    close(attention(q, k, v), due(q, k, v))


def test_few_queries_and_many_keys_are_split() -> None:
    q, k, v = qkv(1, n=3, m=20_000, d=16)
    call, sizes = tiled(prepare(q, k, v))
    assert call.certificate == "attention-cuda-split"
    assert sizes["bp"] > 1
    close(attention(q, k, v), due(q, k, v))


@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "offset"])
def test_other_layouts_are_packed(layout: str) -> None:
    q, k, v = qkv(2, 3)
    k = {
        "transposed": k.transpose(0, 1).contiguous().transpose(0, 1),
        "sliced": torch.cat([k, k], -1)[..., :8],
        "expanded": k[:1].expand(2, 3, 7, 8),
        "offset": torch.cat([k.new_zeros(1), k.reshape(-1)])[1:].view(k.shape),
    }[layout]
    close(attention(q, k, v), due(q, k, v))


@pytest.mark.parametrize("byte", [2, 3, 255])
def test_any_byte_of_a_mask_but_0_is_true(byte: int) -> None:
    q, k, v = qkv(2)
    mask = torch.full((5, 7), byte, dtype=torch.uint8, device="cuda")
    mask[:, 1::2] = 0
    close(attention(q, k, v, attn_mask=mask.view(torch.bool)), due(q, k, v, attn_mask=mask != 0))


def test_shared_memory_of_inputs_is_no_harm() -> None:
    x = draw(2, 9, 8)
    close(attention(x, x, x), due(x, x, x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q.cpu(), k, v), "one device for all of them is covered"),
        (lambda q, k, v: (q.half(), k.half(), v.half()), "float64 and float32 are covered"),
        (lambda q, k, v: (q.float(), k, v), "one dtype for all three is covered"),
        (lambda q, k, v: (q.requires_grad_(), k, v), "requires grad"),
        (lambda q, k, v: (q.to("meta"), k.to("meta"), v.to("meta")), "is on meta; CPU and CUDA tensors are covered"),
        (lambda q, k, v: (q.to_sparse(), k, v), "strided tensors are covered"),
        (lambda q, k, v: (q[..., :4], k, v), "same last extent"),
    ],
)  # fmt: skip
def test_what_is_not_covered_is_refused_by_name(change: Any, message: str) -> None:
    with pytest.raises(NotCovered, match=message):
        attention(*change(*qkv(2)))


def test_a_mask_on_another_device_is_refused() -> None:
    with pytest.raises(NotCovered, match="one device for all of them is covered"):
        attention(*qkv(2), attn_mask=torch.ones(5, 7, dtype=torch.bool))


def test_the_launcher_refuses_what_the_kernel_was_not_proved_for() -> None:
    call, sizes = tiled(prepare(*qkv(2)))
    kernel = load(call.certificate, call.dtype, target="cuda")
    out = torch.empty(2 * 5 * 8, dtype=F64, device="cuda")
    launcher.launch(kernel, out, call.inputs, sizes)
    q = call.inputs["q"]
    wrong: list[tuple[torch.Tensor, dict[str, Any], str]] = [
        (out[:-1], {}, "out has 79 elements"),
        (out.float(), {}, "out is torch.float32"),
        (out.cpu(), {}, "out must be a flat, contiguous, aligned CUDA tensor"),
        (q, {}, "out overlaps q"),
        (out, {"q": q.cpu()}, "q must be a flat, contiguous, aligned CUDA tensor"),
        (out, {"q": q[::2]}, "q must be a flat, contiguous, aligned CUDA tensor"),
        (out, {"q": q.view(2, -1)}, "q must be a flat, contiguous, aligned CUDA tensor"),
        (out, {"scale": 1.0}, "scale is a float; a float64 scalar is due"),
        (out, {"more": q}, "inputs are q, k, v, scale"),
    ]
    for given, changed, message in wrong:
        with pytest.raises(NotCovered, match=message):
            launcher.launch(kernel, given, {**call.inputs, **changed}, sizes)
    with pytest.raises(NotCovered, match="do not cover n = 5"):
        launcher.launch(kernel, out, call.inputs, sizes | {"bq": sizes["bq"] + 1})


# --- streams and memory -----------------------------------------------------------------------------


def test_the_current_stream_is_the_one_that_is_used() -> None:
    """The inputs are written late on a stream of their own; only what runs on it as well sees them."""
    values = qkv(4, n=300, m=300, d=32)
    expected = due(*values)
    attention(*values)  # compiled
    empty = [torch.full_like(x, math.nan) for x in values]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        for x, value in zip(empty, values, strict=True):
            x.copy_(value)
        found = attention(*empty)
        returned_early = not side.query()
    side.synchronize()
    close(found, expected)
    assert returned_early


def in_a_thread(call: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def test_a_thread_that_has_used_no_gpu_can_call() -> None:
    """The kernel and the memory are there already, so that PyTorch has no reason to give the thread a context."""
    for values in (qkv(2), qkv(1, n=3, m=20_000, d=16)):
        expected = attention(*values).clone()
        torch.cuda.synchronize()
        for _ in range(3):
            assert torch.equal(in_a_thread(lambda x=values: attention(*x)), expected)


def test_a_kernel_can_be_compiled_in_a_thread_of_its_own() -> None:
    values = qkv(2, d=19)
    close(in_a_thread(lambda: attention(*values)), due(*values))


def test_threads_on_streams_of_their_own_do_not_disturb_one_another() -> None:
    work = [qkv(2, n=40 + i, m=300 + i, d=16) for i in range(8)]
    expected = [due(*x) for x in work]
    torch.cuda.synchronize()

    def call(x: list[torch.Tensor]) -> torch.Tensor:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(20):
                found = attention(*x)
        stream.synchronize()
        return found

    with ThreadPoolExecutor(8) as pool:
        for found, exact in zip(pool.map(call, work), expected, strict=True):
            close(found, exact)


def test_every_device_runs_what_is_on_it_and_the_current_one_stays() -> None:
    """With one GPU this is about device 0 alone."""
    for device in reversed(range(torch.cuda.device_count())):
        values = [x.to(f"cuda:{device}") for x in qkv(2, d=20)]
        found = attention(*values)
        assert found.device == values[0].device
        assert torch.cuda.current_device() == 0
        close(found, due(*values))
        close(in_a_thread(lambda x=values: attention(*x)), due(*values))


def test_a_call_can_be_captured_in_a_graph() -> None:
    for n, m in ((40, 50), (2, 9000)):  # one launch; two
        q, k, v = qkv(2, n=n, m=m, d=16)
        attention(q, k, v)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = attention(q, k, v)
        q.copy_(draw(3, 2, n, 16)[0])
        graph.replay()
        close(out, due(q, k, v))


def test_memory_grows_with_the_output_alone() -> None:
    q, k, v = qkv(1, n=8192, m=8192, d=64)
    attention(q, k, v)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = attention(q, k, v)
    assert torch.cuda.max_memory_allocated() - before <= out.nbytes + 2**20


# --- instructions -----------------------------------------------------------------------------------


def mapped(function: Any, *arrays: torch.Tensor) -> torch.Tensor:
    """``function`` of each element, by a kernel that calls it."""
    from numba.cuda import types

    from moaproof.instructions.cuda import cuda

    dtype = types.float64 if arrays[0].dtype == F64 else types.float32

    def one(out: Any, x: Any) -> None:
        i = cuda.grid(1)
        if i < x.size:
            out[i] = function(x[i])

    def two(out: Any, x: Any, y: Any) -> None:
        i = cuda.grid(1)
        if i < x.size:
            out[i] = function(x[i], y[i])

    array = types.Array(dtype, 1, "C")
    kernel = cuda.jit([(array,) * (1 + len(arrays))])(one if len(arrays) == 1 else two)
    out = torch.empty_like(arrays[0])
    kernel[-(-out.numel() // 256), 256](out, *arrays)
    torch.cuda.synchronize()
    return out


def ulps(found: np.ndarray[Any, Any], exact: np.ndarray[Any, Any]) -> float:
    """The greatest error in units of the last place of the exact value, where that is normal."""
    kind = found.dtype.type
    unit = np.spacing(np.abs(exact).astype(kind)).astype(exact.dtype)
    normal = np.abs(exact) >= np.finfo(kind).tiny
    return float((np.abs(found.astype(exact.dtype) - exact) / unit)[normal].max())


def test_exp_in_float32_is_within_2_ulp_of_every_number() -> None:
    """All float32 from -104 to 0, and those from 0 to 88: what a kernel may meet."""
    worst = 0.0
    for start, stop in ((0x80000000, 0xC2D00001), (0, 0x42B00000)):
        for first in range(start, stop, 2**26):
            raw = np.arange(first, min(first + 2**26, stop), 5, dtype=np.uint32)  # every fifth
            x = raw.view(np.float32)
            found = mapped(cuda_float32.exp, torch.from_numpy(x).cuda()).cpu().numpy()
            worst = max(worst, ulps(found, np.exp(x.astype(np.float64))))
    print(f"exp float32: {worst:.3f} ulp")
    assert 0.4 < worst <= 2.0


def test_exp_in_float64_is_within_1_ulp() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([-np.exp(rng.uniform(-40, np.log(745), 2**21)), rng.uniform(-745, 709, 2**21)])
    found = mapped(cuda_float64.exp, torch.from_numpy(x).cuda()).cpu().numpy()
    worst = ulps(found, np.exp(x.astype(np.longdouble)))
    print(f"exp float64: {worst:.3f} ulp")
    assert 0.4 < worst <= 1.0


@pytest.mark.parametrize("module", [cuda_float64, cuda_float32])
def test_instructions_do_on_the_device_what_they_say(module: Any) -> None:
    """Edges: NaN, infinities, zeros of both signs, subnormals; the Python text of each says what is due."""
    dtype = F64 if module is cuda_float64 else F32
    info = torch.finfo(dtype)
    edges = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, info.tiny, info.tiny / 2, info.max, 3.0, 1e-3]
    pairs = [(a, b) for a in edges for b in edges]
    first, second = (torch.tensor(column, dtype=dtype, device="cuda") for column in zip(*pairs, strict=True))
    with np.errstate(all="ignore"):
        for name in ("fmax", "quotient"):
            function = getattr(module, name)
            found = mapped(function, first, second).cpu().numpy()
            expected = np.array([function(module.real(a), module.real(b)) for a, b in pairs], dtype=found.dtype)
            np.testing.assert_array_equal(found, expected)
            signs = ~np.isnan(expected)
            assert (np.signbit(found) == np.signbit(expected))[signs].all(), name
    low = torch.tensor([-math.inf, -math.inf, 0.0, -1e9, -3.0], dtype=dtype, device="cuda")
    top = torch.tensor([-math.inf, 2.0, 0.0, 0.0, 1.0], dtype=dtype, device="cuda")
    found = mapped(module.rescale, low, top).cpu()
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 1.0, 0.0, math.exp(-4)], dtype=dtype))
    root = mapped(module.sqrt, first.abs()).cpu()
    np.testing.assert_array_equal(root.numpy(), np.sqrt(first.abs().cpu().numpy()))  # correctly rounded
