"""``moaproof explain``: a certificate, or one of its steps, in the notation of the Mathematics of Arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..kernel.certificate import Certificate
    from ..kernel.integers import Tally
    from ..term import Term
    from .walk import Shown


def explain(
    certificate: Annotated[str, typer.Argument(metavar="CERT", help="A path, or the name of a committed one.")],
    step: Annotated[int | None, typer.Option(min=0, help="Show this step: before, after, law, obligations.")] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Terms as LaTeX for math mode.")] = False,
) -> None:
    """Show a certificate in MoA notation: the claim, inputs, hypotheses, the chain, Spec, DNF and ONF; or one step."""
    from ..assess.verify import find, read
    from ..errors import CertificateInvalid, MoaproofError
    from ..kernel.certificate import parse

    path = find(certificate)
    try:
        c = parse(read(path))
        if step is None:
            _whole(c, latex)
            return
        if step >= len(c.steps):
            raise CertificateInvalid(f"--step {step}: the steps are numbered 0 to {len(c.steps) - 1}")
        _step(c, step, latex)
    except MoaproofError as e:
        e.args = (f"{path}: {e.args[0]}", *e.args[1:])
        raise


def _say(title: str, *lines: str) -> None:
    typer.echo(title)
    for line in lines:
        for part in line.split("\n"):
            typer.echo(f"    {part}")


def _term(t: Term, latex: bool) -> str:
    from .. import show

    return show.latex(t) if latex else show.pretty(t, 110)


def _whole(c: Certificate, latex: bool) -> None:
    from ..kernel.claims import claim_of
    from ..show import index, text
    from .walk import chain_line, steps_of

    claim = claim_of(c.spec, c.hypotheses)
    _say(f"{c.name}, derivation {c.core_digest()}")
    _say("claims", f"the specification is {'the one named ' + claim if claim else 'another one, which has no name'};",
         f"over {len(c.steps)} steps the ONF equals it {_keeps(c)}, for all sizes.",
         "Stated by the certificate, judged by `moaproof check`; nothing is judged here.")  # fmt: skip
    _say("inputs", *(f"{t.data[0]}: {t.data[1]} <{' '.join(map(index, t.args))}>" for t in c.inputs))
    _say("hypotheses", *([words(h) for h in c.hypotheses] or ["none"]))
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
    _say("kernels", *([f"{k.file} ({k.target}, {k.dtype}), SHA-256 {k.sha256}" for k in c.kernels] or ["none"]))
    deviations(c, text)


def _keeps(c: Certificate) -> str:
    return "over the reals" if any(s.kind == "R" for s in c.steps) else "in every bit"
