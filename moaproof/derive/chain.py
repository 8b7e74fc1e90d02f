"""A chain of steps under construction, and the moves that schedules are written in.  Untrusted.

Every move is a rule of the rulebook applied at a path and judged on the spot by the kernel, so a wrong schedule fails
where it is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from moaproof.rewrite_rules import lookup, rules

from ..errors import RuleDoesNotApply
from ..kernel.bits import Deciders
from ..kernel.certificate import Step, Tiling
from ..kernel.checker import apply, tiling_facts
from ..kernel.rules import rewrite
from ..kernel.step import Checker, locate
from ..operators import Context, opened
from ..term import Term, Var, mentions, up

Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """What ``derive`` prints for one step."""

    rule: str
    kind: str
    path: Path


class Chain:
    """The current term and the steps that led to it."""

    def __init__(self, spec: Term, hypotheses: Sequence[Term] = (), on_step: Callable[[Line], None] | None = None):
        self.spec = self.term = spec
        self.deciders = Deciders()
        self.hypotheses = tuple(hypotheses)
        self.tilings: list[Tiling] = []
        self.checker = Checker(self.hypotheses, self.deciders)
        self.checker.check_defined(spec)
        self.steps: list[Step] = []
        self.lines: list[Line] = []
        self.on_step = on_step

    def tile(self, extent: str, tile: str, count: str) -> None:
        """Define two new sizes: ``count`` tiles of ``tile`` that cover ``extent``."""
        self.tilings.append(Tiling(extent, tile, count))
        facts = [f for t in self.tilings for f in tiling_facts(t)]
        self.checker = Checker([*self.hypotheses, *facts], self.deciders)

    def at(self, path: Sequence[int]) -> Term:
        return locate(self.term, path, self.checker.facts)[0]

    def context(self, path: Sequence[int]) -> Context:
        return locate(self.term, path, self.checker.facts)[1].ctx

    def do(
        self, rule: str, path: Sequence[int], *params: Any, backwards: bool = False, **choose: tuple[int, Term]
    ) -> None:
        """Apply one rule at a path; metavariables that matching cannot find are given by name."""
        chosen = tuple((name, count, body) for name, (count, body) in sorted(choose.items()))
        old, here = locate(self.term, path, self.checker.facts)
        after = rewrite(lookup(rule, params), old, here.ctx, choose, backwards)
        step = Step(tuple(path), self.term.digest, rules()[rule].kind, rule, after, params, backwards, chosen)
        judged = apply(self.checker, step, self.term, lookup)
        self.term = judged.after
        self.steps.append(step)
        self.lines.append(Line(rule, judged.kind, tuple(path)))
        if self.on_step:
            self.on_step(self.lines[-1])

    # --- moves -----------------------------------------------------------------------------------

    def name(self, root: Sequence[int], below: Sequence[int]) -> None:
        """Bind the subterm at ``root + below`` by a let at ``root``, and replace all its copies there."""
        whole = self.at(root)
        value = self._moved_out(whole, below)
        self.do("let", root, V=(0, value), X=(1, replace_all(whole, value)))

    def _moved_out(self, whole: Term, below: Sequence[int]) -> Term:
        """The subterm at ``below``, as seen from ``whole``; ``RuleDoesNotApply`` if it mentions a binder between."""
        t, between = whole, 0
        for k in below:
            between += t.binds[k]
            t = t.args[k]
        if any(mentions(t, v) for v in range(between)):
            raise RuleDoesNotApply("let: the value mentions a variable that is bound inside")
        return up(t, -between)

    def tabulate(self, path: Sequence[int], *axes: tuple[int, Term], rest: int = 0) -> None:
        """E(x), x a bound variable of some extent, becomes ([x < extent] E(x))[x]: what staging then names.

        ``axes`` are the variables with their extents, outermost first.  An element that is itself an array at an index
        keeps the last ``rest`` of its indices outside.
        """
        for variable, extent in reversed(axes):
            element = self.at(path)
            body = self._over(element.args[0] if rest else element, variable)
            index = {f"i{at}": (0, i) for at, i in enumerate((Var(variable), *(element.args[1:] if rest else ())))}
            rest += 1
            self.do("psi-build", path, rest, backwards=True, n=(0, extent), X=(1, body), **index)

    @staticmethod
    def _over(t: Term, variable: int) -> Term:
        """``t`` as a function of one bound variable: that variable becomes a new innermost one."""

        def go(u: Term, d: int) -> Term:
            if u.op == "var":
                if u.data < d:
                    return u
                return Var(d) if u.data - d == variable else Var(u.data + 1)
            return Term(u.op, u.data, [go(a, d + n) for a, n in zip(u.args, u.binds, strict=True)]) if u.args else u

        return go(t, 0)

    def find(self, wanted: Callable[[Term, Context], bool], under: Sequence[int] = ()) -> Path | None:
        """The path of the first (outermost, leftmost) subterm that is wanted."""
        start = tuple(under)

        def go(t: Term, ctx: Context, path: Path) -> Path | None:
            if wanted(t, ctx):
                return path
            for k, a in enumerate(t.args):
                if t.op == "omega" and k == len(t.args) - 1:
                    continue
                hit = go(a, (*ctx, *opened(t, k)), (*path, k))
                if hit is not None:
                    return hit
            return None

        return go(self.at(start), self.context(start), start)

    def everywhere(self, wanted: Callable[[Term, Context], tuple[str, tuple[Any, ...]] | None]) -> None:
        """Apply the rule that ``wanted`` names until it names none."""
        while True:
            found: list[tuple[str, tuple[Any, ...]]] = []

            def hit(t: Term, ctx: Context, found: list[Any] = found) -> bool:
                answer = wanted(t, ctx)
                if answer:
                    found.append(answer)
                return bool(answer)

            path = self.find(hit)
            if path is None:
                return
            rule, params = found[0]
            self.do(rule, path, *params)


def replace_all(whole: Term, value: Term) -> Term:
    """``whole`` under one more binder, each copy of ``value`` replaced by the new variable."""
    seen: dict[tuple[Term, int], Term] = {}

    def go(t: Term, d: int) -> Term:
        key = (t, d)
        if key not in seen:
            if t is up(value, d):
                seen[key] = Var(d)
            elif t.op == "var":
                seen[key] = Var(t.data + 1) if t.data >= d else t
            else:
                args = [go(a, d + n) for a, n in zip(t.args, t.binds, strict=True)]
                seen[key] = Term(t.op, t.data, args) if args else t
        return seen[key]

    return go(whole, 0)
