"""``moaproof fuzz``: certified kernels against PyTorch in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fuzz(
    profile: Annotated[str, typer.Option(help="quick, default or nightly.")] = "default",
    max_examples: Annotated[int | None, typer.Option(min=1, help="Cases to draw. Default: the profile's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draw the same cases on every run.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Run this stored failure again, and nothing else.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for report.json and a failure.")] = None,
) -> None:
    """Draw attention calls, run the certified kernel of each, and judge every element by the error model.

    Exit code: 1 if a case is refuted; it is shrunk, stored, and --replay runs it again.
    """
    try:
        from ..testing.campaign import run
    except ImportError as e:
        from ..errors import BackendMissing

        raise BackendMissing(
            f"fuzz: {e.name or e} is not installed; pip install torch numba numpy hypothesis"
        ) from None
    raise typer.Exit(run(profile, max_examples, seed, replay, out, typer.echo))
