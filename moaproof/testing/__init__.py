"""Strategies, oracles, profiles and a pytest plugin for property tests of attention kernels.

``check_attention`` fuzzes any callable against any traced function; ``replay`` runs a stored failure again.  Importing
this package loads neither torch nor hypothesis: pytest and Hypothesis import it wherever moaproof is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import KernelRefuted, Report, check_attention, replay

__all__ = ["KernelRefuted", "Report", "check_attention", "replay"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import check

        return getattr(check, name)
    raise AttributeError(f"module 'moaproof.testing' has no attribute {name!r}")
