"""``attention``: what it accepts, what it refuses by name, which certificate it takes, what it copies."""

from __future__ import annotations

import math
import threading
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from moaproof import attention
from moaproof.errors import NotCovered
from moaproof.runtime.attention import LANES, kind_of, prepare, tiles

F64, F32 = torch.float64, torch.float32


def draw(*shape: int, dtype: torch.dtype = F64) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


def qkv(lead: tuple[int, ...] = (2, 3), n: int = 5, m: int = 7, dtype: torch.dtype = F64) -> list[torch.Tensor]:
    return [draw(*lead, rows, width, dtype=dtype) for rows, width in ((n, 4), (m, 4), (m, 3))]


def close(found: torch.Tensor, due: torch.Tensor) -> None:
    """A smoke test of shapes and arguments; the tolerances that decide are in tests/numerics."""
    torch.testing.assert_close(found, due, rtol=0, atol=1e-13 if due.dtype == F64 else 1e-5)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3), (1, 2, 1, 3), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_any_number_of_leading_axes(lead: tuple[int, ...], masked: bool) -> None:
    q, k, v = qkv(lead)
    mask = draw(5, 7) > 0 if masked else None
    found = attention(q, k, v, attn_mask=mask)
    assert found.shape == (*lead, 5, 3)
    assert found.is_contiguous()
    close(found, scaled_dot_product_attention(q, k, v, attn_mask=mask))


@pytest.mark.parametrize("scale", [None, 1, 0.3, 0.0, -0.7, np.float64(0.5)])
def test_scale(scale: Any) -> None:
    q, k, v = qkv()
    due = ((q @ k.mT) * (0.5 if scale is None else float(scale))).softmax(-1) @ v
    close(attention(q, k, v, scale=scale), due)


def test_float32_gives_float32() -> None:
    q, k, v = qkv(dtype=F32)
    found = attention(q, k, v, scale=0.1)
    assert found.dtype == F32
    close(found, scaled_dot_product_attention(q, k, v, scale=0.1))


@pytest.mark.parametrize("g", [1, 2, 3])
def test_grouped_heads_read_head_h_div_r(g: int) -> None:
    q, k, v = draw(2, 6, 5, 4), draw(2, g, 7, 4), draw(2, g, 7, 3)
    mask = draw(2, 1, 5, 7) > 0
    due = scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    close(attention(q, k, v, attn_mask=mask, enable_gqa=True), due)
    assert prepare(q, k, v, enable_gqa=True).sizes["r"] == 6 // g


def test_the_kind_of_a_call() -> None:
    one, grouped = {"h": 4, "g": 4}, {"h": 4, "g": 2}
    assert kind_of(one, masked=False, causal=False) == "attention"
    assert kind_of(one, masked=False, causal=True) == "causal"
    assert kind_of(one, masked=True, causal=False) == "masked"
    assert kind_of(grouped, masked=False, causal=False) == "gqa"
    assert kind_of(grouped, masked=False, causal=True) == "gqa-causal"
    assert kind_of(grouped, masked=True, causal=False) == "gqa-masked"
    assert prepare(*qkv(), is_causal=True).certificate == "causal-online"


# --- masks -----------------------------------------------------------------------------------------

MASKS = [(), (1,), (7,), (5, 1), (5, 7), (1, 7), (3, 1, 1), (3, 5, 7), (2, 1, 1, 1), (2, 3, 5, 7), (1, 3, 1, 7)]


@pytest.mark.parametrize("shape", MASKS)
def test_a_mask_that_broadcasts_is_read_where_it_lies(shape: tuple[int, ...]) -> None:
    q, k, v = qkv()
    mask = draw(*shape) > -0.5
    call = prepare(q, k, v, attn_mask=mask)
    assert np.shares_memory(call.inputs["mask"], mask.numpy())
    assert call.inputs["mask"].size == mask.numel()
    close(attention(q, k, v, attn_mask=mask), scaled_dot_product_attention(q, k, v, attn_mask=mask.expand(2, 3, 5, 7)))


def test_an_expanded_mask_is_not_expanded_in_memory() -> None:
    q, k, v = qkv()
    mask = (draw(3, 1, 7) > 0).expand(2, 3, 5, 7)
    call = prepare(q, k, v, attn_mask=mask)
    assert call.inputs["mask"].size == 21
    assert {s: call.sizes[s] for s in ("sb", "sh", "sn", "sm")} == {"sb": 0, "sh": 1, "sn": 0, "sm": 1}
    close(attention(q, k, v, attn_mask=mask), scaled_dot_product_attention(q, k, v, attn_mask=mask))


@pytest.mark.parametrize("lead", [(1, 2, 3), (2, 1, 3), (2, 1, 1), (1, 1, 1), (2, 2, 1)])
def test_a_mask_over_some_of_many_leading_axes(lead: tuple[int, ...]) -> None:
    q, k, v = qkv((2, 2, 3))
    mask = draw(*lead, 1, 7) > 0
    close(attention(q, k, v, attn_mask=mask), scaled_dot_product_attention(q, k, v, attn_mask=mask))


@pytest.mark.parametrize("shape", [(6,), (2, 7), (4, 5, 7), (1, 2, 3, 5, 7), (0, 7), (5, 0)])
def test_a_mask_that_does_not_broadcast_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(NotCovered, match=r"attn_mask .* does not broadcast to"):
        attention(*qkv(), attn_mask=torch.ones(shape, dtype=torch.bool))


# --- layouts ---------------------------------------------------------------------------------------


def test_contiguous_tensors_are_not_copied() -> None:
    q, k, v = qkv()
    call = prepare(q, k, v)
    assert all(np.shares_memory(call.inputs[name], x.numpy()) for name, x in (("q", q), ("k", k), ("v", v)))


@pytest.mark.parametrize(
    "relayout",
    [
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        lambda x: torch.cat([x, x], -1)[..., : x.shape[-1]],
        lambda x: x[:1].expand(x.shape),
        lambda x: torch.stack([x, x], -1)[..., 1],
        lambda x: torch.imag(torch.complex(x, -x).conj()),  # lazily negated
        lambda x: x.flip(-1).flip(-1),
        torch.nn.Parameter,
    ],
    ids=["transposed", "sliced", "expanded", "strided", "negated", "flipped", "parameter"],
)
def test_every_layout(relayout: Any) -> None:
    x = [relayout(t) for t in qkv()]
    before = [t.detach().clone() for t in x]
    with torch.no_grad():
        close(attention(*x), scaled_dot_product_attention(*before))
    assert all(torch.equal(t, b) for t, b in zip(x, before, strict=True))


# --- what is refused -------------------------------------------------------------------------------

Q, K, V = qkv()
SEEN = torch.ones(5, 7, dtype=torch.bool)
REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "half": ((Q.half(), K.half(), V.half()), {}, "q is torch.float16; float64 and float32 are covered"),
    "bfloat16": ((Q.bfloat16(), K.bfloat16(), V.bfloat16()), {}, "q is torch.bfloat16; float64 and float32"),
    "integers": ((Q.long(), K.long(), V.long()), {}, "q is torch.int64"),
    "complex": ((Q.to(torch.complex128),) * 3, {}, "q is torch.complex128"),
    "mixed": ((Q, K, V.float()), {}, "one dtype for all three is covered"),
    "array": ((Q.numpy(), K, V), {}, "q is a ndarray; a plain torch.Tensor is covered"),
    "meta device": ((Q, K.to("meta"), V), {}, r"k is on meta; CPU and CUDA tensors are covered: use k\.cpu\(\)"),
    "sparse": ((Q, K, V.to_sparse()), {}, "v has layout torch.sparse_coo; strided tensors are covered"),
    "float mask": ((Q, K, V), {"attn_mask": SEEN.double()}, "attn_mask is torch.float64; a boolean mask is covered"),
    "integer mask": ((Q, K, V), {"attn_mask": SEEN.byte()}, "attn_mask is torch.uint8; a boolean mask"),
    "array mask": ((Q, K, V), {"attn_mask": SEEN.numpy()}, "attn_mask is ndarray; a boolean mask"),
    "meta mask": ((Q, K, V), {"attn_mask": SEEN.to("meta")}, "attn_mask is on meta"),
    "mask and causal": ((Q, K, V), {"attn_mask": SEEN, "is_causal": True}, "attn_mask together with is_causal"),
    "grad of q": (
        (Q.clone().requires_grad_(), K, V),
        {},
        r"q requires grad .* torch\.no_grad\(\), or pass q\.detach\(\)",
    ),
    "grad of v": ((Q, K, V.clone().requires_grad_()), {}, "v requires grad"),
    "vector": ((Q[0, 0, 0],) * 3, {}, "three tensors of one rank, 2 or more"),
    "ranks": ((Q, K[0], V[0]), {}, "three tensors of one rank"),
    "batch": ((Q, K[:1], V[:1]), {}, r"leading axes must be equal; expand\(\) those"),
    "dk": ((Q, K[..., :3], V), {}, "q and k must have the same last extent dk"),
    "keys": ((Q, K, V[..., :6, :]), {}, "k and v must have the same number of keys"),
    "heads of v": ((Q, K, V[:, :1]), {}, "k and v must have the same number of heads"),
    "heads": ((Q, K[:, :1], V[:, :1]), {}, "3 query heads and 1 key heads; grouped heads need enable_gqa=True"),
    "multiple": ((Q, K[:, :2], V[:, :2]), {"enable_gqa": True}, "3 query heads are no multiple of 2 key heads"),
    "no key heads": ((Q, K[:, :0], V[:, :0]), {"enable_gqa": True}, "3 query heads are no multiple of 0 key heads"),
    "NaN scale": ((Q, K, V), {"scale": math.nan}, "scale nan is not finite"),
    "infinite scale": ((Q, K, V), {"scale": math.inf}, "scale inf is not finite"),
    "scale of float32": ((Q.float(), K.float(), V.float()), {"scale": 1e39}, "scale 1e.39 is not finite in float32"),
    "tensor scale": ((Q, K, V), {"scale": torch.tensor(1.0)}, "scale is a Tensor; a number or None is covered"),
    "boolean scale": ((Q, K, V), {"scale": True}, "scale is a bool"),
    "no components": ((Q[..., :0], K[..., :0], V), {}, r"scale=None is 1/sqrt\(dk\), and dk is 0; pass a scale"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_covered_is_refused_by_name(case: str) -> None:
    args, options, message = REFUSED[case]
    with pytest.raises(NotCovered, match=f"^attention: .*{message}"):
        attention(*args, **options)


def test_there_is_no_dropout() -> None:
    with pytest.raises(TypeError, match="dropout_p"):
        attention(Q, K, V, dropout_p=0.1)  # type: ignore[call-arg]


def test_inputs_that_require_grad_are_accepted_where_grad_mode_is_off() -> None:
    q = Q.clone().requires_grad_()
    with torch.no_grad():
        found = attention(q, K, V)
    assert not found.requires_grad
    assert torch.equal(found, attention(Q, K, V))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # PyTorch's own use of it
def test_a_forward_mode_tangent_is_refused() -> None:
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        dual = forward_ad.make_dual(Q, torch.ones_like(Q))  # type: ignore[no-untyped-call]
        with pytest.raises(NotCovered, match="q carries a forward-mode tangent"):
            attention(dual, K, V)


def test_a_tensor_without_memory_is_refused() -> None:
    with pytest.raises(NotCovered, match="a tensor without memory of its own"):
        torch.func.vmap(attention)(Q, K, V)


def test_a_tensor_with_less_storage_than_its_shape_is_refused() -> None:
    short = torch.randn(Q.shape, dtype=torch.float64)
    short.untyped_storage().resize_(8)
    with pytest.raises(NotCovered, match="less storage"):
        attention(short, K, V)


def test_a_subclass_is_refused() -> None:
    class Mine(torch.Tensor):
        pass

    with pytest.raises(NotCovered, match=r"k is a Mine; a plain torch\.Tensor"):
        attention(Q, K.as_subclass(Mine), V)


# --- tiles and threads -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 100, 256, 257, 32768])
@pytest.mark.parametrize("heads", [1, 3, 64])
def test_tiles_cover_and_keep_the_threads_busy(n: int, heads: int, dtype: str) -> None:
    found = tiles({"b": 1, "h": heads, "n": n, "m": 5}, dtype)
    assert n == found["bq"] == 0 or found["bq"] * found["tq"] >= n > (found["bq"] - 1) * found["tq"]
    assert 8 <= found["tq"] <= LANES[dtype]
    if n >= 16 * numba.get_num_threads():
        assert heads * found["bq"] >= numba.get_num_threads()
    assert found["tk"] == tiles({"b": 9, "h": 1, "n": 1, "m": 10**6}, dtype)["tk"]  # bits depend on it alone


def test_many_threads_at_once() -> None:
    """Numba's simplest threading layer ends the process when two threads enter it: calls wait for one another."""
    due, found = attention(Q, K, V), {}

    def work(number: int) -> None:
        found[number] = [attention(Q, K, V) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 6
    assert all(torch.equal(x, due) for row in found.values() for x in row)
