"""Calls at the edges of what is covered: masks of every extent, bytes of truth values, names that climb folders."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as reference

from moaproof.errors import MoaproofError
from moaproof.runtime.attention import attention
from moaproof.runtime.loader import load

Shape = tuple[int, ...]


def qkv(*leading: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(7)
    q, k, v = ((*leading, 5, 4), (*leading, 6, 4), (*leading, 6, 3))
    return tuple(torch.randn(s, generator=rng, dtype=torch.float64) for s in (q, k, v))  # type: ignore[return-value]


def agrees(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> None:
    torch.testing.assert_close(
        attention(q, k, v, attn_mask=mask), reference(q, k, v, attn_mask=mask.expand(*q.shape[:-1], 6))
    )


@pytest.mark.parametrize(
    ("leading", "shape"),
    [
        ((2, 3, 2), (2, 1, 1, 5, 6)), ((2, 3, 2), (3, 2, 1, 6)), ((2, 3, 2), (1, 3, 1, 5, 1)),
        ((2, 3, 2), (2, 1, 2, 1, 6)), ((1, 3, 2), (1, 1, 2, 1, 6)), ((2, 2, 2, 2), (2, 1, 2, 1, 5, 6)),
        ((1, 1), (1, 1, 1, 6)), ((3,), (3, 5, 6)), ((), (5, 1)), ((2, 3), (6,)),
    ],
)  # fmt: skip
def test_a_mask_that_broadcasts(leading: Shape, shape: Shape) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.7
    mask[..., 0] = True  # every row sees a key
    agrees(*qkv(*leading), mask)


def test_a_mask_that_its_owner_expanded_in_part() -> None:
    mask = (torch.arange(90).reshape(1, 3, 1, 5, 6) % 3 == 0).expand(2, 3, 2, 5, 6)
    agrees(*qkv(2, 3, 2), mask)


@pytest.mark.parametrize("byte", [2, 3, 255])
def test_any_byte_but_0_is_true(byte: int) -> None:
    mask = torch.full((5, 6), byte, dtype=torch.uint8)
    mask[:, 1::2] = 0
    q, k, v = qkv(1, 2)
    torch.testing.assert_close(
        attention(q, k, v, attn_mask=mask.view(torch.bool)), reference(q, k, v, attn_mask=mask != 0)
    )


@pytest.mark.parametrize("shape", [(0, 6), (5, 0), (0,), (2, 5, 6), (1, 1, 1, 5, 6)])
def test_a_mask_that_does_not_broadcast_is_refused(shape: Shape) -> None:
    q, k, v = qkv(1, 3)
    with pytest.raises(MoaproofError, match="broadcast"):
        attention(q, k, v, attn_mask=torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("columns", [0, 1])
def test_no_keys_at_all_under_a_mask(columns: int) -> None:
    q, k, v = qkv(1, 2)
    found = attention(q, k[:, :, :0], v[:, :, :0], attn_mask=torch.ones(5, columns, dtype=torch.bool))
    assert torch.equal(found, torch.zeros(1, 2, 5, 3, dtype=torch.float64))


def test_heads_of_nothing() -> None:
    q, k, v = qkv(1, 2)
    assert attention(q[:, :0], k, v, enable_gqa=True).shape == (1, 0, 5, 3)
    with pytest.raises(MoaproofError, match="no multiple of 0 key heads"):
        attention(q, k[:, :0], v[:, :0], enable_gqa=True)


def test_inference_mode_and_no_grad() -> None:
    q, k, v = qkv(1, 2)
    due = attention(q, k, v)
    with torch.inference_mode():
        assert torch.equal(attention(q * 1, k * 1, v * 1), due)
    with torch.no_grad():
        assert torch.equal(attention(q.clone().requires_grad_(), k, v), due)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "../certs/attention-online",
        "./attention-online",
        "/etc/passwd",
        "",
        "attention-online/",
        "x" * 5000,
        "a\0b",
        "attention-online\0",
        "\ud800",
        "attention\u2010online",
        "attention-online\n",
        "a b",
        "C:x",
        "x" * 61,
    ],
)
def test_a_name_that_is_no_name_loads_nothing(name: str) -> None:
    with pytest.raises(MoaproofError):
        load(name, "float64")
