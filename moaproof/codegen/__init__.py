"""ONF to Numba source.  Untrusted: the reader reads every text back."""

from __future__ import annotations

from .printer import print_kernel

__all__ = ["print_kernel"]
