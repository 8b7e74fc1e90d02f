"""moaproof: attention kernels derived in the Mathematics of Arrays, with certificates that a small checker re-checks.

``from moaproof import attention`` runs a certified kernel on CPU tensors.  Importing this package loads neither torch
nor numba: the checker must run without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime.attention import attention

__all__ = ["attention"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "attention":
        from .runtime.attention import attention

        return attention
    raise AttributeError(f"module 'moaproof' has no attribute {name!r}")
