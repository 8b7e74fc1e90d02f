"""Declarations in docstrings: what looks like one and cannot be read is refused, not guessed."""

from __future__ import annotations

from typing import Any

import pytest

from moaproof.errors import NotCovered
from moaproof.trace.declare import parameters


def function(q: Any, k: Any) -> Any:
    """Filled in by the test."""
    return q @ k


@pytest.mark.parametrize("text", ["(n, m", "(n,", "bool (n, m", "(n; m)", "(n m)."])
def test_a_malformed_declaration_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "__doc__", f"F.\n\n    q: {text}\n    k: (m, l)\n    ")
    with pytest.raises(NotCovered, match=r"is not understood|is no size"):
        parameters(function, {})


@pytest.mark.parametrize("text", ["(n, m)", "(n, m).", "real", "(optional) the queries", "the queries (n, m)"])
def test_declarations_and_prose_are_told_apart(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "__doc__", f"F.\n\n    q: {text}\n    k: (m, l)\n    ")
    assert parameters(function, {})[0][0].name == "q"
