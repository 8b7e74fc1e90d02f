"""The command line.  One file a command; every heavy import stands inside the command that needs it."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """The entry point ``moaproof``.  Nothing is loaded before it runs: workers of ``check`` import this module."""
    from .app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where the terminal has no ψ
    app()


__all__ = ["main"]
