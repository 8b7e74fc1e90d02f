"""The source reader (claim c): shipped text back to the ONF that it computes.  Trusted; shares no code with codegen."""

from __future__ import annotations

from .onf import is_onf, require_onf
from .reader import IMPORTS, Reading, read_kernel

__all__ = ["IMPORTS", "Reading", "is_onf", "read_kernel", "require_onf"]
