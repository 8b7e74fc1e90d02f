"""``moaproof export --smt``: the integer questions of a certificate as texts that any solver reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    certificate: Annotated[str, typer.Argument(metavar="CERT", help="A path, or the name of a committed certificate.")],
    smt: Annotated[bool, typer.Option("--smt", help="The integer questions, in SMT-LIB 2.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write in. Default: smt/NAME.")] = None,
    kernels: Annotated[
        Path | None,
        typer.Option(help="Folder of the kernel texts. Default: ../kernels of a certificate in a folder certs, "
                          "else the installed ones."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:  # fmt: skip
    """Write each integer question as KEY.smt2, and index.json, which says where it was asked and what about.

    The certificate is judged, and the texts are printed from what the judges asked; a solver that answers `unsat`
    confirms one.  Where a judge refuses, what was asked by then is written, and the exit code is that of its error.
    """
    from ..assess.questions import INDEX, collect, contents
    from ..assess.verify import find, kernels_of, read, texts_of
    from ..errors import MoaproofError
    from ..kernel.certificate import parse
    from .files import staging, write_all

    if not smt:
        raise typer.BadParameter("say what to export: --smt", param_hint="--smt")
    path = find(certificate)
    try:
        data = read(path)
        c = parse(data)
    except MoaproofError as e:
        e.args = (f"{path}: {e.args[0]}", *e.args[1:])
        raise
    target = out or Path("smt") / c.name
    with staging(target) as stage:
        found = collect(c, data, texts_of(c, kernels or kernels_of(path)))
        if found.asked:
            write_all(target, stage, contents(c, found), force)
            typer.echo(f"wrote {len(found.asked)} questions and {INDEX} in {target}")
    if found.error:
        raise found.error
