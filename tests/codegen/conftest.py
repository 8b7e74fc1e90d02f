"""The derivations of the examples, for the tests of the printers."""

from __future__ import annotations

from tests.derive.conftest import derivation

__all__ = ["derivation"]
