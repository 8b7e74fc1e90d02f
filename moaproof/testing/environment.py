"""What a campaign ran with: versions, oracles, and the digests of the kernels that can be drawn."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from typing import Any

from ..errors import CertificateInvalid
from ..runtime.loader import package_folder
from ..term import canonical


def versions() -> dict[str, str]:
    names = ("moaproof", "torch", "numba", "numpy", "hypothesis")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def oracles() -> dict[str, str]:
    """The versions of the two oracles, or what it means that one is missing."""
    try:
        flint = metadata.version("python-flint")
    except metadata.PackageNotFoundError:
        flint = "missing"
    return {"PyTorch float64": metadata.version("torch"), "python-flint": flint}


def kernels() -> dict[str, str]:
    """The SHA-256 of every CPU text of attention, by certificate and dtype, as the manifest has them."""
    path = package_folder("kernels") / "MANIFEST.json"
    try:
        rows = json.loads(path.read_bytes())["kernels"].values()
        found = {f"{row['certificate']}/{row['dtype']}": str(row["sha256"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise CertificateInvalid(f"{path}: not a manifest ({type(e).__name__}); run `moaproof doctor`") from None
    ours = (name for name in sorted(found) if "-online/" in name and "-cuda-" not in name)
    return {name: found[name] for name in ours}


def described() -> dict[str, Any]:
    return {"versions": versions(), "oracles": oracles(), "kernels": kernels()}


def identity() -> str:
    """The digest of all that, as it is now: a worker on another machine must have the same."""
    return hashlib.sha256(canonical(described())).hexdigest()
