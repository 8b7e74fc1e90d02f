"""The terms of a derivation, step by step, for a reader.  Nothing is judged here; ``moaproof check`` judges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..kernel.certificate import Certificate, Step
    from ..kernel.defined import Position
    from ..term import Term


@dataclass(frozen=True, slots=True)
class Shown:
    """One step: the whole term before and after, the subterm that it replaces, what stands there then, and where."""

    number: int
    step: Step
    before: Term
    after: Term
    old: Term
    new: Term
    here: Position


def steps_of(c: Certificate) -> Iterator[Shown]:
    """The terms between the steps, as the certificate has them; nothing is judged."""
    from ..errors import MoaproofError
    from ..kernel.step import locate
    from ..term import replace_at

    term = c.spec
    for number, s in enumerate(c.steps):
        try:
            old, here = locate(term, s.path, c.hypotheses)
            after = replace_at(term, s.path, s.after)
        except MoaproofError as e:
            e.args = (f"step {number} ({s.rule}): {e.args[0]}", *e.args[1:])
            raise
        yield Shown(number, s, term, after, old, s.after, here)
        term = after


def chain_line(x: Shown, limit: int = 28) -> str:
    """Number, rule, class, path, and the changed subterm as it is after the step, elided."""
    from ..show import text

    path = ".".join(map(str, x.step.path)) or "root"
    rule = x.step.rule + (" <==" if x.step.backwards else "")
    return f"{x.number:4} {rule:24} {x.step.kind}  {path}  {text(x.new, x.here.ctx, limit=limit)}"
