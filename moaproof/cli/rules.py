"""``moaproof rules``: the laws, by family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..kernel.rules import Rule


def rules(
    law: Annotated[str | None, typer.Argument(metavar="[ID]", help="Show this law alone, with its patterns.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List the laws with source, side conditions and class; with ID, also the two patterns in MoA notation."""
    from moaproof.rewrite_rules import FAMILIES, digest

    if law:
        _one(law, json)
        return
    if json:
        rows = [_row(r, f.__name__.rpartition(".")[2]) for f in FAMILIES for r in f.RULES]
        _dump({"schema": "moaproof/rules/1", "rulebook": digest(), "rules": rows})
        return
    for family in FAMILIES:
        typer.echo(f"{family.__name__.rpartition('.')[2]}: {(family.__doc__ or '').strip().splitlines()[0]}\n")
        for r in family.RULES:
            _print(r)
        typer.echo("")
    typer.echo(f"rulebook {digest()}")


def _one(law: str, json: bool) -> None:
    from moaproof.rewrite_rules import FAMILIES
    from moaproof.rewrite_rules import rules as all_rules

    from ..errors import RuleDoesNotApply

    found = all_rules()
    if law not in found:
        near = [x for x in found if law in x or x in law]
        e = RuleDoesNotApply(
            f"there is no law called {law!r:.60}; {'near are ' + ', '.join(near) if near else 'see moaproof rules'}"
        )
        e.exit_code = 2  # a wrong word on the command line, not a certificate that differs
        raise e
    family = next(f.__name__.rpartition(".")[2] for f in FAMILIES if any(r.id == law for r in f.RULES))
    if json:
        _dump({"schema": "moaproof/rules/1", "rules": [{**_row(found[law], family), "patterns": patterns(found[law])}]})
        return
    typer.echo(f"{family}\n")
    _print(found[law])
    for p in patterns(found[law]):
        typer.echo(f"\n    at {p['parameters'] or 'its one form'}\n      {p['left']}\n      ==>  {p['right']}")


def patterns(r: Rule) -> list[dict[str, str]]:
    """Both patterns at each sample, in MoA notation."""
    from ..show import text

    found = []
    for sample in r.samples:
        left, right = r.schema(*sample)
        found.append({"parameters": ", ".join(map(str, sample)), "left": text(left), "right": text(right)})
    return found


def _row(r: Rule, family: str) -> dict[str, Any]:
    return {"id": r.id, "family": family, "law": r.law, "source": r.source, "class": r.kind, "when": list(r.when),
            "library": r.library}  # fmt: skip


def _print(r: Rule) -> None:
    typer.echo(f"  {r.id}  [class {r.kind}]{'  (used by no committed derivation)' if r.library else ''}")
    typer.echo(f"    {r.law}")
    if r.when:
        typer.echo(f"    when {'; '.join(r.when)}")
    typer.echo(f"    source: {r.source}")


def _dump(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=1, ensure_ascii=False))
