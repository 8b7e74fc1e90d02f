"""The laws, one file a family, each to be read as a chapter; ``rulebook()`` collects them.

A law is data and is not trusted: the checker judges the two terms of every step whatever the law says.  Still each
law is proved for all sizes, at each of its sample parameters, by the project's tests.
"""

from __future__ import annotations

import hashlib
from typing import Any

from moaproof.errors import IllFormed, RuleDoesNotApply
from moaproof.kernel.rules import Pair, Rule
from moaproof.term import canonical, dump

from . import indexing, layout, online, operators, padding, sharing, structure

MAX_RANK = 16  # more arguments than any operation takes

FAMILIES = (indexing, structure, operators, layout, sharing, online, padding)


def rules() -> dict[str, Rule]:
    """Every law by its id, in reading order."""
    found: dict[str, Rule] = {}
    for family in FAMILIES:
        for rule in family.RULES:
            if rule.id in found:
                raise ValueError(f"two laws are called {rule.id}")
            found[rule.id] = rule
    return found


_RULES = rules()


def lookup(rule: str, params: tuple[Any, ...]) -> Pair:
    """The patterns of a law at some parameters; ``RuleDoesNotApply`` if there is no such law or they do not fit.

    The parameters are untrusted: a rank that no term has is refused before patterns of that size are built.
    """
    if rule not in _RULES:
        raise RuleDoesNotApply(f"there is no law called {rule!r:.60}; moaproof rules lists them")
    if not _short(params):
        raise RuleDoesNotApply(f"{rule}: the parameters do not fit: a name or list among them is too long")
    if any(abs(x) > MAX_RANK for x in _numbers(params)):
        raise RuleDoesNotApply(f"{rule}: the parameters {params!r:.80} do not fit: a rank is at most {MAX_RANK}")
    try:
        return _RULES[rule].schema(*params)
    except (TypeError, ValueError, IndexError, KeyError, IllFormed) as e:
        raise RuleDoesNotApply(f"{rule}: the parameters {params!r:.80} do not fit: {e}") from None


def _short(data: Any) -> bool:
    """No string of more than 40 characters, no list of more than 16 items."""
    if isinstance(data, tuple):
        return len(data) <= 16 and all(map(_short, data))
    return not isinstance(data, str) or len(data) <= 40


def _numbers(data: Any) -> list[int]:
    """The integers anywhere in a tuple of parameters."""
    if isinstance(data, tuple):
        return [n for x in data for n in _numbers(x)]
    return [data] if isinstance(data, int) else []


def document() -> dict[str, Any]:
    """The rulebook as JSON: every law with its text, source, conditions, and patterns at its sample parameters."""
    rows = []
    for r in _RULES.values():
        pairs = [[_lists(p), dump(r.schema(*p))] for p in r.samples]
        rows.append(
            {"id": r.id, "law": r.law, "source": r.source, "class": r.kind, "when": list(r.when), "samples": pairs}
        )
    return {"schema": "moaproof/rulebook/1", "rules": rows}


def digest() -> str:
    """SHA-256 of the rulebook's canonical JSON: what a certificate names."""
    return hashlib.sha256(canonical(document())).hexdigest()


def _lists(data: Any) -> Any:
    return [_lists(x) for x in data] if isinstance(data, tuple) else data
