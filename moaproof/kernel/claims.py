"""The named claims: which Spec, under which hypotheses, may be called attention.  Trusted.

A certificate's name says nothing.  A Spec and a set of hypotheses whose digests stand here have a name; any other pair is
"proved for another specification".  ``tests/kernel/test_claims.py`` re-derives the digests from the examples that they are of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..term import Term

# name: (digest of the Spec, digests of the hypotheses in ascending order)
CLAIMS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {}


def claim_of(spec: Term, hypotheses: Sequence[Term]) -> str | None:
    """The name under which this Spec with exactly these hypotheses is known, if any."""
    key = (spec.digest, tuple(sorted(h.digest for h in hypotheses)))
    return next((name for name, row in CLAIMS.items() if row == key), None)
