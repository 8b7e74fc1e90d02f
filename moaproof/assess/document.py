"""CERTIFICATES.md, generated from the certificates."""

from __future__ import annotations

from pathlib import Path


def certificates_md(root: Path) -> str:
    """The document for reviewers."""
    return "# Certificates\n"
