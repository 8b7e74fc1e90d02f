"""Attention in the ways that people write it.  Each function derives as it stands: ``moaproof derive``.

Letters: n queries, m keys, dk and dv head sizes, b batch, h query heads, g key heads, r query heads for each of them.

Without a declaration q, k, v are (b, h, n, dk), (b, h, m, dk), (b, h, m, dv); a ``mask`` is boolean and broadcasts to
(b, h, n, m); a ``scale`` is a number.  A docstring line declares other shapes: a name is a size, ``#n`` is n or 1.
A parameter with a default is fixed at it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(q k^T * scale) v."""
    scores = (q @ k.transpose(-2, -1)) * scale  # (b, h, n, m)
    return scores.softmax(-1) @ v  # (b, h, n, dv)


def scaled_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The usual scale 1/sqrt(dk)."""
    scores = (q @ k.mT) * q.shape[-1] ** -0.5  # (b, h, n, m)
    return scores.softmax(-1) @ v  # (b, h, n, dv)


def divided_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same with a division, as in the first papers: other bits, the same value over the reals."""
    scores = (q @ k.mT) / math.sqrt(q.shape[-1])  # (b, h, n, m)
    return scores.softmax(-1) @ v  # (b, h, n, dv)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Query i sees key j when j <= i."""
    scores = (q @ k.mT) * scale  # (b, h, n, m)
    n, m = scores.shape[-2:]
    seen = torch.arange(m)[None, :] <= torch.arange(n)[:, None]  # (n, m)
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ v  # (b, h, n, dv)


def causal_attention_tril(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The same with a lower triangle: the same Spec."""
    scores = (q @ k.mT) * scale  # (b, h, n, m)
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()  # (n, m)
    return torch.where(seen, scores, -math.inf).softmax(-1) @ v  # (b, h, n, dv)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """True means visible."""
    scores = (q @ k.mT) * scale  # (b, h, n, m)
    return scores.masked_fill(~mask, -math.inf).softmax(-1) @ v  # (b, h, n, dv)


def gqa_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Grouped heads: query head h reads key head h // r.

    q: (b, h = g*r, n, dk)
    k: (b, g, m, dk)
    v: (b, g, m, dv)
    """
    r = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(r, dim=1), v.repeat_interleave(r, dim=1)  # (b, h, m, ..)
    return ((q @ k.mT) * scale).softmax(-1) @ v  # (b, h, n, dv)


def sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """PyTorch's own function: the Spec of ``attention``."""
    return scaled_dot_product_attention(q, k, v, scale=scale)


def sdpa_default(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The Spec of ``scaled_attention``."""
    return scaled_dot_product_attention(q, k, v)


def sdpa_causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The Spec of ``causal_attention``: aligned top left, also for more keys than queries."""
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


def sdpa_masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """The Spec of ``masked_attention``, without its deviation: a row with no visible key is 0."""
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def sdpa_gqa(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The Spec of ``gqa_attention``.

    q: (b, h = g*r, n, dk)
    k: (b, g, m, dk)
    v: (b, g, m, dv)
    """
    return scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=True)


def sdpa_gqa_causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Grouped heads, query i sees key j when j <= i.

    q: (b, h = g*r, n, dk)
    k: (b, g, m, dk)
    v: (b, g, m, dv)
    """
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)


def sdpa_gqa_masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Grouped heads under a mask that broadcasts.

    q: (b, h = g*r, n, dk)
    k: (b, g, m, dk)
    v: (b, g, m, dv)
    """
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)


def one_head(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """One head, the mask read as it stands.

    q: (n, dk)
    k: (m, dk)
    v: (m, dv)
    mask: bool (n, m)
    """
    return ((q @ k.T) * scale).masked_fill(~mask, -math.inf).softmax(-1) @ v  # (n, dv)


def shifted_softmax(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax written by hand, shifted by the row maximum: the Spec of ``attention``."""
    scores = (q @ k.mT) * scale  # (b, h, n, m)
    e = (scores - scores.amax(-1, keepdim=True)).exp()  # (b, h, n, m)
    return (e / e.sum(-1, keepdim=True)) @ v  # (b, h, n, dv)


def unshifted_softmax(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """exp over its sum, unshifted: another Spec with the same value over the reals."""
    e = ((q @ k.mT) * scale).exp()  # (b, h, n, m)
    return (e / e.sum(-1, keepdim=True)) @ v  # (b, h, n, dv)


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int = 128) -> Tensor:
    """Causal, and no further back than a window, which is fixed at its default."""
    scores = (q @ k.mT) * scale  # (b, h, n, m)
    i, j = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])[None, :]
    seen = (j <= i) & (i - j < window)  # (n, m)
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ v  # (b, h, n, dv)
