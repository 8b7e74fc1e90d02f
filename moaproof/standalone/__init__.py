"""A second writing of the checker, in one file and the standard library alone; never merged with the kernel."""

from __future__ import annotations
