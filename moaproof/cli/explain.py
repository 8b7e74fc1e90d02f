"""``moaproof explain``: a certificate, or one of its steps, in the notation of the Mathematics of Arrays."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.certificate import Certificate
    from ..kernel.integers import Tally
    from ..term import Term
    from .walk import Shown

WIDTH = 110


def explain(
    certificate: Annotated[str, typer.Argument(metavar="CERT", help="A path, or the name of a committed one.")],
    step: Annotated[int | None, typer.Option(min=0, help="Show this step: before, after, law, obligations.")] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Terms as LaTeX for math mode.")] = False,
    bound: Annotated[bool, typer.Option("--bound", help="Show the error bound and the lemmas that give it.")] = False,
    at: Annotated[str, typer.Option(metavar="NAME=X..", help="The bound at these sizes, V and S.")] = "",
) -> None:
    """Show a certificate in MoA notation: the claim, inputs, hypotheses, the chain, Spec, DNF and ONF; or one step.

    With --bound: how far a kernel may be from the exact value; say, --at "m=4096 dk=64 tk=64 bk=64 S=8 V=1".
    """
    from ..assess.verify import find, read
    from ..errors import CertificateInvalid, MoaproofError
    from ..kernel.certificate import parse

    path = find(certificate)
    try:
        c = parse(read(path))
        if bound or at:
            from .bound import lines

            for title, told in lines(c, _values(at)):
                _say(title, *told)
            return
        if step is None:
            _whole(c, latex)
            return
        if step >= len(c.steps):
            raise CertificateInvalid(f"--step {step}: the steps are numbered 0 to {len(c.steps) - 1}")
        _step(c, step, latex)
    except MoaproofError as e:
        e.args = (f"{path}: {e.args[0]}", *e.args[1:])
        raise


def _values(at: str) -> dict[str, Fraction]:
    """Names with numbers: ``m=4096 S=1.5``; separated by spaces or commas."""
    from ..errors import CertificateInvalid

    found = {}
    for part in at.replace(",", " ").split():
        name, _, number = part.partition("=")
        try:
            found[name] = Fraction(number)
        except (ValueError, ZeroDivisionError):
            raise CertificateInvalid(f"--at: {part!r:.40}: NAME=NUMBER is due") from None
        if found[name] < 0:
            raise CertificateInvalid(f"--at: {part!r:.40}: it must not be negative")
    return found


def _say(title: str, *lines: str) -> None:
    typer.echo(title)
    for line in lines:
        for part in line.split("\n"):
            typer.echo(f"    {part}")


def _term(t: Term, latex: bool) -> str:
    from .. import show

    return show.latex(t) if latex else show.pretty(t, WIDTH)


def _whole(c: Certificate, latex: bool) -> None:
    from ..kernel.claims import claim_of
    from ..show import index
    from ..trace.table import spec_of
    from .walk import chain_line, steps_of

    claim = claim_of(c.spec, c.hypotheses)
    _say(f"{c.name}, derivation {c.core_digest()}")
    _say("claims", f"the specification is {'the one named ' + claim if claim else 'another one, which has no name'};",
         f"over {len(c.steps)} steps the ONF equals it {_keeps(c)}, for all sizes.",
         "Stated by the certificate, judged by `moaproof check`; nothing is judged here.")  # fmt: skip
    _say("inputs", *(f"{t.data[0]}: {t.data[1]} <{' '.join(map(index, t.args))}>" for t in c.inputs))
    _say("hypotheses", *(in_words(c.hypotheses) or ["none: every size is any natural number"]))
    if c.tilings:
        _say("new sizes", *(f"{t.count} tiles of at most {t.tile} > 0 cover {t.extent}" for t in c.tilings))
    _say("witness of the hypotheses", ", ".join(f"{k} = {v}" for k, v in sorted(c.witness.items())))
    _say("Spec", _term(c.spec, latex))
    typer.echo("chain: number, law, class, path, what then stands there")
    for x in steps_of(c):
        typer.echo(chain_line(x))
        if x.after is c.dnf and x.before is not c.dnf:
            typer.echo("     -- the denotational normal form --")
    _say("DNF", _term(c.dnf, latex))
    _say("ONF", _term(c.onf, latex))
    _say("real inequalities that the ONF owes, and how they are seen to hold", *_owed(c))
    _say("kernels", *([f"{k.file} ({k.target}, {k.dtype}), SHA-256 {k.sha256}" for k in c.kernels] or ["none"]))
    _say("deviations from the function", *(spec_of(c.trace).deviations or ["none"]))


def _owed(c: Certificate) -> list[str]:
    """A line an obligation: its kind, the path of its node, what is owed, and why it holds; or why it does not."""
    from ..errors import MoaproofError
    from ..kernel.checker import facts_of
    from ..kernel.inequalities import check_inequalities

    try:
        found = check_inequalities(c.onf, facts_of(c))
    except MoaproofError as e:
        return [f"not seen: {e}"]
    except RecursionError:
        return ["not seen: the term is nested too deep"]
    return [f"{o.kind} at {'.'.join(map(str, o.path))}: {o.goal}; {o.how}" for o in found.obligations] or ["none"]


def _keeps(c: Certificate) -> str:
    return "over the reals" if any(s.kind == "R" for s in c.steps) else "in every bit"


def in_words(hypotheses: Sequence[Term]) -> list[str]:
    """Each hypothesis as a sentence; a <= b with b <= a is one: a is b."""
    bounds = {x for x in map(_at_most, hypotheses) if x}
    return list(dict.fromkeys(_sentence(h, bounds) for h in hypotheses))


def _sentence(h: Term, bounds: set[tuple[Term, Term]]) -> str:
    """``bounds`` are all the pairs of which one is stated to be at most the other."""
    from ..show import text
    from ..term import Term

    if pair := _at_most(h):
        a, b = map(text, sorted(pair, key=lambda t: (t.depth, text(t))))  # a size before what it is
        return f"{a} is {b}" if pair[::-1] in bounds else f"{text(pair[0])} is at most {text(pair[1])}"
    match h:
        case Term(op="lt", args=(Term(op="imul", args=(s, n)), Term(op="iadd", args=(m, same)))) if same is s:
            return f"k*{text(s)} < {text(m)} for all k < {text(n)}, and {text(m)} or {text(s)} is not 0: {text(h)}"
        case Term(op="lt"):
            return f"{text(h.args[0])} is less than {text(h.args[1])}"
    return text(h)


def _at_most(h: Term) -> tuple[Term, Term] | None:
    """The sides of a <= b, which is written a < b + 1."""
    if h.op == "lt" and h.args[1].op == "iadd" and h.args[1].args[1].op == "int" and h.args[1].args[1].data == 1:
        return h.args[0], h.args[1].args[0]
    return None


# --- one step ----------------------------------------------------------------------------------------


def _step(c: Certificate, number: int, latex: bool) -> None:
    from moaproof.rewrite_rules import rules

    from .. import show
    from .walk import steps_of

    x = next(s for s in steps_of(c) if s.number == number)
    s = x.step
    law = rules().get(s.rule)
    mark = show.latex if latex else partial(show.pretty, width=WIDTH)
    _say(f"{c.name}, step {number} of {len(c.steps)}: {s.rule}{' from right to left' if s.backwards else ''}")
    if law:
        _say("law", law.law, f"source: {law.source}", *(f"when {w}" for w in law.when))
    else:
        _say("law", "none of this name: a restatement, judged by the two terms alone")
    _say("before, what it replaces between marks", mark(x.before, focus=s.path))
    _say(f"the subterm at {'.'.join(map(str, s.path)) or 'the root'}", mark(x.old, ctx=x.here.ctx))
    _say("becomes", mark(x.new, ctx=x.here.ctx))
    _say("after", mark(x.after, focus=s.path))
    if s.params:
        _say("parameters", ", ".join(map(str, s.params)))
    if s.choose:
        _say("chosen metavariables", *(_chosen(x, name, count, body) for name, count, body in s.choose))
    _say("hypotheses", *(in_words(c.hypotheses) or ["none: every size is any natural number"]))
    _judge(c, x)


def _chosen(x: Shown, name: str, count: int, body: Term) -> str:
    """V(x, y) = body: the arguments are new variables under those in scope."""
    from ..kernel.rules import M
    from ..operators import Index
    from ..show import text
    from ..term import Var

    ctx = (*x.here.ctx, *(Index(M("any")) for _ in range(count)))
    arguments = ", ".join(text(Var(k), ctx) for k in reversed(range(count)))
    return f"{name}{f'({arguments})' if count else ''} = {text(body, ctx)}"


def _judge(c: Certificate, x: Shown) -> None:
    """Judge this step alone, with engines that know nothing yet, and say what each decided."""
    from moaproof.rewrite_rules import lookup

    from ..errors import MoaproofError
    from ..kernel.bits import Deciders
    from ..kernel.checker import apply, facts_of
    from ..kernel.step import Checker

    deciders = Deciders()
    try:
        judged = apply(Checker(facts_of(c), deciders), x.step, x.before, lookup)
    except MoaproofError as e:
        e.args = (f"step {x.number} ({x.step.rule}): {e.args[0]}", *e.args[1:])
        raise
    engines = (("Z3", deciders.integers.tally), ("SymPy", deciders.sympy), ("normaliser", deciders.normaliser))
    _say("obligations, all proved; this step judged alone", *(f"{name:10} {_counted(t)}" for name, t in engines))
    keeps = {"R": "the value over the reals"}.get(judged.kind, "every bit")
    _say("class", f"{judged.kind} computed, {x.step.kind} expected; it keeps {keeps}")


def _counted(t: Tally) -> str:
    return f"{t.substantive} substantive, {t.repeated} repeated, {t.trivial} trivial"
