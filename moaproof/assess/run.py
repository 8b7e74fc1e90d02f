"""The record of a run, ``run.json``: tools, options, limits and times.

What differs from run to run and from machine to machine stands here, and in no certificate.  It is written to be
published: no path, and no name of a host or a user.
"""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from ..kernel.integers import RLIMIT
from .solvers import Reply, summary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .verify import Result

SCHEMA: Final = "moaproof/run/1"
TOOLS: Final = ("z3-solver", "cvc5", "sympy", "numpy", "numba", "torch")


def run_record(result: Result, replies: Iterable[Reply] = ()) -> dict[str, Any]:
    """The record of a check; ``replies`` are those of the judge cvc5, where it was asked."""
    from .. import __version__

    replies = list(replies)
    return {
        "schema": SCHEMA,
        "moaproof": __version__,
        "python": {"implementation": platform.python_implementation(), "version": platform.python_version()},
        "tools": {name: _version(name) for name in TOOLS},
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "replay": {"solver": "z3", "options": {"rlimit": str(RLIMIT), "random_seed": "0"}},
        "solvers": summary(replies) if replies else [],
        "judges": list(result.judges),
        "certificates": [
            {"name": o.name or None, "core": o.core or None, "exit": o.code, "seconds": round(o.seconds, 3)}
            for o in result.certificates
        ],
        "exit": result.code(),
        "interrupted": result.interrupted,
        "seconds": round(result.seconds, 3),
    }


def _version(package: str) -> str | None:
    """As it is installed; None if it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
