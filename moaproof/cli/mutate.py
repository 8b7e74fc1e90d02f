"""``moaproof mutate``: every mutant of the corpus must die, where it was promised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ..assess.mutate import Result, Score


def mutate(
    only: Annotated[
        list[str] | None, typer.Argument(help="Mutants, by a part of their names. Default: all of them.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="The folder of the mutants. Default: tests/mutants of the checkout.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Ask every judge, not only until one refuses.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every mutant.")] = False,
) -> None:
    """Judge wrong kernels, derivations, certificates, solvers and checkers; each must die at the promised stage.

    Exit code: 1 if a mutant survives or dies later than promised, or one that is equivalent is refused.
    """
    from rich.console import Console

    from ..assess.mutate import run

    parts = tuple(only or ())
    score = run(corpus or _checkout(), lambda m: not parts or any(p in m.id for p in parts), everything, not parts)
    if as_json:
        import json

        typer.echo(json.dumps(score.document(), indent=1, ensure_ascii=False))
    else:
        _print(score, Console(), verbose)
    raise typer.Exit(score.exit() or int(not score.results))


def _checkout() -> Path:
    """``tests/mutants`` beside the package, as in a checkout; a wheel has no tests."""
    from ..errors import CertificateInvalid

    place = Path(__file__).resolve().parents[2] / "tests" / "mutants"
    if not place.is_dir():
        raise CertificateInvalid("mutate: no mutants are installed; run it in a checkout, or give --corpus FOLDER")
    return place


def _print(score: Score, console: Console, verbose: bool) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    for title in ("ideas", "mutants"):
        table.add_column(title, justify="right")
    ideas, mutants = score.stages(), score.mutants_by_stage()
    for stage, count in mutants.items():
        table.add_row(stage, str(ideas.get(stage, 0)), str(count))
    console.print(table)
    document = score.document()
    ordinary = document["ordinary"]

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say("ideas: counted once, at the last stage that one of their mutants needed")
    say(", ".join(f"{n} {area}" for area, n in document["areas"].items()))
    if verbose:
        for r in score.results:
            say(f"{r.mutant.id}: {_fate(r)}")
    for r in score.results:
        if r.status != "killed" and not verbose:
            say(f"{r.mutant.id}: {_fate(r)}")
    say(
        f"{document['killed']} of {document['ideas']} ideas killed ({document['mutants']} mutants, "
        f"{document['reported']} ideas from public reports) in {score.seconds:.0f} s"
    )
    for e, kill in score.refused():
        say(f"{e.id}: REFUSED at {kill.stage}, and said to be equivalent: {kill.error:.200}")
    if score.equal:
        judged = sum(e.mutant is not None for e, _ in score.equal)
        say(f"not counted: {len(score.equal)} equivalent mutations, each with its proof; the judges accept {judged}")
    say(
        f"an ordinary test (allclose at 1e-2, normal, divisible, unmasked) misses {len(ordinary['missed'])} of the "
        f"{ordinary['runnable']} ideas that have a text"
    )


def _fate(r: Result) -> str:
    if not r.kills:
        return f"SURVIVED; {r.mutant.stage} is to kill it: {r.mutant.why}"
    also = f" (also {', '.join(k.stage for k in r.kills[1:])})" if r.kills[1:] else ""
    promised = "" if r.status == "killed" else f" {r.status}, promised {r.mutant.stage}:"
    return f"{r.stage}{also}:{promised} {r.kills[0].error:.200}"
