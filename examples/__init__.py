"""Functions to derive from: ``attention.py`` and ``arrays.py``."""

from __future__ import annotations
