"""Instructions: the leaves that a generated kernel calls, one file a target and dtype.

Two files for one target differ in the dtype only, and so do the kernels that import them: the import line alone.
A certificate names the digest of the instructions' source beside that of each kernel's bytes.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def digest() -> str:
    """SHA-256 over the names and bytes of all instruction sources."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        total.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
