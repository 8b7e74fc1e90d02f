"""Check a kernel of your own against the function that it is meant to compute: docs/testing.md tells the story.

``attention`` says what is due, in plain PyTorch.  ``blocked`` computes it in NumPy, a block of keys at a time, with a
running maximum, as fast kernels do.  ``blocked_wrong`` is its first draft.

    pytest examples/check_your_kernel.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

BLOCK = 16  # keys


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(q k^T * scale) v.

    q: (b, h, n, dk)
    k: (b, h, m, dk)
    v: (b, h, m, dv)
    """
    return ((q @ k.mT) * scale).softmax(-1) @ v


def blocked_wrong(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    """Right as long as the greatest score of a row is in its first block."""
    top = np.full((*q.shape[:-1], 1), -np.inf, q.dtype)  # (b, h, n, 1)
    total = np.zeros_like(top)
    out = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)  # (b, h, n, dv)
    for at in range(0, k.shape[-2], BLOCK):
        scores = q @ k[..., at : at + BLOCK, :].swapaxes(-1, -2) * scale  # (b, h, n, BLOCK)
        new = np.maximum(top, scores.max(-1, keepdims=True))
        weights = np.exp(scores - new)
        total = total * np.exp(top - new) + weights.sum(-1, keepdims=True)
        out = out + weights @ v[..., at : at + BLOCK, :]
        top = new
    return out / total


def blocked(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    """What was summed up is rescaled when the maximum rises: the numerator as well as the denominator."""
    top = np.full((*q.shape[:-1], 1), -np.inf, q.dtype)
    total = np.zeros_like(top)
    out = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    for at in range(0, k.shape[-2], BLOCK):
        scores = q @ k[..., at : at + BLOCK, :].swapaxes(-1, -2) * scale
        new = np.maximum(top, scores.max(-1, keepdims=True))
        weights, shrink = np.exp(scores - new), np.exp(top - new)
        total = total * shrink + weights.sum(-1, keepdims=True)
        out = out * shrink + weights @ v[..., at : at + BLOCK, :]
        top = new
    return out / total


def test_blocked(moaproof_check: Callable[..., Any]) -> None:
    moaproof_check(blocked, attention, arrays="numpy", block=BLOCK)
