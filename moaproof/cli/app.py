"""The commands, and what becomes of an error: one line that names the place, and the exit code of its class."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import MoaproofError
from . import check, derive, doctor, explain, export, fuzz, mutate, rules


class Commands(TyperGroup):
    """Errors of ours end a command with their own exit code; Ctrl-C with 130; a closed pipe ends it in silence."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MoaproofError as e:
            typer.echo(f"moaproof: {type(e).__name__}: {e}", err=True)
            raise typer.Exit(e.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("moaproof: interrupted", err=True)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - Python flushes it when it exits
            raise typer.Exit(0) from None
        except OSError as e:  # a full disk, say: 1 would read as refuted
            typer.echo(f"moaproof: {e.filename or 'the output'}: {e.strerror or e}", err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Attention kernels derived from a plain PyTorch function, with certificates that a small checker re-checks.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"moaproof {__version__}")
        raise typer.Exit


@app.callback()
def moaproof(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Attention kernels derived from a plain PyTorch function, with certificates that a small checker re-checks.

    Exit codes: 0 accepted; 1 refuted; 2 usage or input; 3 incomplete (unknown, or something is missing);
    4 integrity (a digest, law, kernel or re-derived term differs); 5 judges disagree; 130 interrupted.
    """


for command in (
    check.check, derive.derive, explain.explain, export.export, rules.rules, doctor.doctor, fuzz.fuzz, mutate.mutate,
):  # fmt: skip
    app.command()(command)
