"""Functions that are refused, or that become a hypothesis: capture reads their source."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

WEIGHTS = torch.ones(3, 3, dtype=torch.float64)


def branch_on_a_constant(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.shape[0] == 4:
        return v
    return (q @ k.mT).softmax(-1) @ v


def branch_on_one_query(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.shape[2] == 1:
        return v
    return (q @ k.mT).softmax(-1) @ v


def branch_on_order(x: Tensor) -> Tensor:
    """A hypothesis: n < m.

    x: (n, m)
    """
    assert x.shape[0] < x.shape[1]
    return x + x


def branch_on_zero(x: Tensor) -> Tensor:
    """Hypotheses: no size is 0.

    x: (n, m)
    """
    assert x.shape[0] > 0
    return x + x


def same_sizes(x: Tensor, y: Tensor) -> Tensor:
    """n and m become one size.

    x: (n)
    y: (m)
    """
    assert x.shape[0] == y.shape[0]
    return x


def loop_over_a_size(x: Tensor) -> Tensor:
    """x: (n, m)."""
    total = x[0]
    for i in range(1, x.shape[0]):
        total = total + x[i]
    return total


def fixed_reshape(x: Tensor) -> Tensor:
    """x: (n, m)."""
    return x.reshape(11, -1)


def branch_on_data(x: Tensor) -> Tensor:
    """x: (n, m)."""
    return x if x.sum() > 0 else -x


def data_as_number(x: Tensor) -> Tensor:
    """x: (n, m)."""
    return x * x.sum().item()


def branch_on_a_number(x: Tensor, scale: float) -> Tensor:
    """x: (n, m)."""
    return x if scale > 0 else -x


def in_place(x: Tensor) -> Tensor:
    """x: (n, m)."""
    y = x * 2
    y.add_(1)
    return y


def in_place_on_the_input(x: Tensor) -> Tensor:
    """x: (n, m)."""
    x[0] = 1.0
    return x * 2


def with_dropout(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.dropout((q @ k.mT).softmax(-1), 0.1) @ v


def sdpa_dropout(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, dropout_p=0.5)


def float_mask(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """bias: (b, h, n, m)."""
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def single_precision(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).float().softmax(-1).double() @ v


def softmax_over_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-2) @ v


def constant_tensor(x: Tensor) -> Tensor:
    """x: (n, m)."""
    return x.sum() * WEIGHTS


def two_results(x: Tensor) -> tuple[Tensor, Tensor]:
    """x: (n, m)."""
    return x, -x


def unknown_operator(x: Tensor) -> Tensor:
    """x: (n, m)."""
    return torch.cumsum(x, 0)


def scaled_after_masking(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    return ((q @ k.mT).masked_fill(~mask, -math.inf) * scale).softmax(-1) @ v


def masked_weights_returned(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    return (q @ k.mT).masked_fill(~mask, -math.inf).softmax(-1)


def other_maximum(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.mT
    hidden = scores.masked_fill(~mask, -math.inf)
    e = (hidden - scores.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True) @ v


def data_mask(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT
    return scores.masked_fill(scores < 0, -math.inf).softmax(-1) @ v


def extents_differ(x: Tensor, y: Tensor) -> Tensor:
    """x: (n, m).

    y: (m, n)
    """
    return x + y


def collects(*tensors: Tensor) -> Tensor:
    return tensors[0]


def undeclared(x: Tensor, y: Tensor, z: Tensor, w: Tensor) -> Tensor:
    return x + y + z + w


def wants_a_flag(x: Tensor, flag: bool) -> Tensor:
    """x: (n, m)."""
    return x + x if flag else x


# --- further writings that are covered ---


def nano_gpt(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    n, m = q.shape[-2], k.shape[-2]
    scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
    scores = scores.masked_fill(torch.tril(torch.ones(n, m))[:n, :m] == 0, float("-inf"))
    return functional.softmax(scores, dim=-1) @ v


def upper_triangle(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    hidden = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    return ((q @ k.mT) * scale).masked_fill(hidden, -math.inf).softmax(-1) @ v


def bottom_right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    n, m = q.shape[-2], k.shape[-2]
    seen = torch.arange(m)[None, :] <= torch.arange(n)[:, None] + (m - n)
    return torch.where(seen, q @ k.mT, torch.tensor(-math.inf)).softmax(-1) @ v


def repeated_heads(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Grouped heads by expand and reshape.

    q: (b, h = g*r, n, dk)
    k: (b, g, m, dk)
    v: (b, g, m, dv)
    """
    b, g, m, dk = k.shape
    r = q.shape[1] // g
    k = k[:, :, None].expand(b, g, r, m, dk).reshape(b, g * r, m, dk)
    v = v[:, :, None].expand(b, g, r, m, v.shape[-1]).reshape(b, g * r, m, v.shape[-1])
    return ((q @ k.mT) * scale).softmax(-1) @ v


def einsum_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    scores = torch.einsum("bhnd,bhmd->bhnm", q, k) * scale
    weights = scores.masked_fill(mask.logical_not(), -math.inf).softmax(-1)
    return torch.einsum("bhnm,bhmd->bhnd", weights, v)


def causal_and_mask(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q: (g, n, dk).

    k: (g, m, dk)
    v: (g, m, dv)
    mask: bool (#g, n, m)
    """
    seen = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril() & mask
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def either_mask(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q: (n, dk).

    k: (m, dk)
    v: (m, dv)
    mask: bool (m)
    """
    seen = (torch.arange(k.shape[0])[None, :] == torch.arange(q.shape[0])[:, None]) | mask
    hidden = (q @ k.T).masked_fill(~seen, -math.inf)
    e = torch.exp(hidden - hidden.max(dim=-1, keepdim=True).values)
    return (e / e.sum(-1)[:, None]) @ v


def unshifted_masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    e = (q @ k.mT).masked_fill(~mask, -math.inf).exp()
    return (e / e.sum(-1, keepdim=True)) @ v


def masked_twice(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q: (n, dk).

    k: (m, dk)
    v: (m, dv)
    mask: bool (n, m)
    """
    scores = (q @ k.T).masked_fill(~mask, -math.inf)
    hidden = torch.ones(q.shape[0], k.shape[0], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -math.inf).softmax(-1) @ v


def merged_heads(x: Tensor, w: Tensor) -> Tensor:
    """Heads side by side, times a matrix.

    x: (b, h, n, d)
    w: (e = h*d, f)
    """
    b, h, n, d = x.shape
    return x.transpose(1, 2).reshape(b, n, h * d) @ w


def split_heads(x: Tensor) -> Tensor:
    """x: (b, n, e = h*4)."""
    b, n, e = x.shape
    return x.view(b, n, e // 4, 4).transpose(1, 2)


def layer_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """x: (n, m)."""
    centred = x - x.mean(-1, keepdim=True)
    return centred * (centred.pow(2).mean(-1, keepdim=True) + eps).rsqrt()


def sections(x: Tensor, y: Tensor) -> Tensor:
    """x: (n, m, d).

    y: (n, l, d)
    """
    return torch.cat([x.narrow(1, 0, 2), y[:, 1:], x[:, -2:]], dim=1).flip([0, 2]).roll((1, -2), (1, 2))


def one_row(x: Tensor) -> Tensor:
    """x: (n, m)."""
    return x[-1:] * x[0] + x[:, 1:2] - x[:, 0, None]


def triangle_of_reals(x: Tensor) -> Tensor:
    """x: (n, m)."""
    return x.tril(-1) + torch.where(torch.ones(x.shape, dtype=torch.bool).triu(), 2 - x, 0.5)


def vectors(a: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """a: (b, n, m).

    x: (m)
    y: (n)
    """
    return (a @ x) @ y + x.dot(x) / 3 - (y @ y).sqrt()


def fused(a: Tensor, b: Tensor) -> Tensor:
    """Leading axes repeat.

    a: (p, n, k)
    b: (k, m)
    """
    return torch.maximum(a @ b, (a.sum(0) @ b).neg().exp().reciprocal()).permute(1, 2, 0).mT.contiguous().clone()
