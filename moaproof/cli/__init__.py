"""The command line.  One file a command; every heavy import stands inside the command that needs it."""

from __future__ import annotations


def main() -> None:
    """The entry point ``moaproof``.  Nothing is loaded before it runs: workers of ``check`` import this module."""
    from .app import app

    app()


__all__ = ["main"]
