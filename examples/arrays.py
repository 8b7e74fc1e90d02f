"""Array programs that are no attention: what is derived is the Mathematics of Arrays, not one function."""

from __future__ import annotations

import torch
from torch import Tensor


def chain(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """A product of three matrices.

    a: (n, k)
    b: (k, l)
    c: (l, m)
    """
    return a @ b @ c  # (n, m)


def outer_sum(x: Tensor, y: Tensor) -> Tensor:
    """The sum of an outer product's columns.

    x: (n)
    y: (m)
    """
    return torch.outer(x, y).sum(-1)  # (n)


def differences(x: Tensor, y: Tensor) -> Tensor:
    """All differences of two vectors, an outer product of minus.

    x: (n)
    y: (m)
    """
    return x[:, None] - y[None, :]  # (n, m)


def middle(x: Tensor) -> Tensor:
    """Drop two rows in front and one at the end, take three columns.

    x: (n, m)
    """
    return x[2:-1, :3]  # (n - 3, 3)


def wrapped(x: Tensor, y: Tensor) -> Tensor:
    """Catenate, reverse, rotate.

    x: (n, d)
    y: (m, d)
    """
    return torch.cat([x, y]).flip(0).roll(1, 0)  # (n + m, d)


def cycle(x: Tensor) -> Tensor:
    """A transpose that is not its own inverse: the result at (i, j, k) is x at (j, k, i).

    x: (n, m, d)
    """
    return x.permute(2, 0, 1)  # (d, n, m)


def cycle_back(x: Tensor) -> Tensor:
    """Twice one cycle is the other.

    x: (n, m, d)
    """
    return x.permute(2, 0, 1).permute(2, 0, 1)  # (m, d, n)


def standardised(x: Tensor) -> Tensor:
    """Each row less its mean.

    x: (n, m)
    """
    return x - x.mean(-1, keepdim=True)  # (n, m)
