"""``moaproof derive``: a PyTorch function to a certificate and its kernels."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..derive.pipeline import Derived

DTYPES = ("float64", "float32")


def derive(
    function: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="A function of tensors, in a file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write certs/NAME.json and kernels/*.py in.")],
    schedule: Annotated[
        str, typer.Option(help="online (one pass over blocks), rows (three); cuda-online, cuda-split.")
    ] = "online",
    dtype: Annotated[list[str] | None, typer.Option(help="float64 or float32; repeatable. Default: both.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the certificate. Default: FUNCTION-SCHEDULE.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:  # fmt: skip
    """Derive kernels from a plain PyTorch function: print the chain of steps, write the certificate and the kernels.

    Nothing is written unless every judge has accepted, and then every file or none.
    """
    file, fn_name = _split(function)
    dtypes = _dtypes(dtype)
    title = _title(name or f"{fn_name.replace('_', '-')}-{schedule}")
    from .files import refuse_existing, staging, write_all

    kernels = [f"kernels/{title.replace('-', '_')}_{d}.py" for d in dtypes]
    refuse_existing([out / p for p in (*kernels, f"certs/{title}.json")], force)
    with staging(out) as stage:
        derived = _derive(_load(file, fn_name), schedule, title, dtypes)
        _print(derived)
        contents = {f"kernels/{f}": text for f, text in derived.texts.items()}
        contents[f"certs/{title}.json"] = derived.certificate.to_bytes()
        for path in write_all(out, stage, contents, force):
            typer.echo(f"wrote {path}")


def _derive(fn: Callable[..., Any], schedule: str, title: str, dtypes: tuple[str, ...]) -> Derived:
    from rich.console import Console

    from ..derive.pipeline import derive as run

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        return run(fn, schedule, name=title, dtypes=dtypes)
    steps = 0
    with console.status("tracing") as status:

        def on_step(line: Any) -> None:
            nonlocal steps
            steps += 1
            status.update(f"step {steps}: {line.rule}")

        return run(fn, schedule, name=title, dtypes=dtypes, on_step=on_step)


def _print(d: Derived) -> None:
    from ..show import text
    from .walk import chain_line, steps_of

    c, say = d.certificate, typer.echo
    say(f"{c.trace['file']}:{c.trace['line']}: {c.trace['function']}")
    for x in steps_of(c):
        say(chain_line(x))
        if x.after is c.dnf and x.before is not c.dnf:
            say("     -- the denotational normal form --")
    a = d.agreement
    left_out = f"; {a.raised} shapes left out, where the function has no value" if a.raised else ""
    say(f"agreement with the function: {a.elements} elements at {a.shapes} random shapes in float64,"
        f" greatest error {a.error:.1e}{left_out}")  # fmt: skip
    for sentence in d.deviations:
        say(f"deviation: {sentence}")
    for h in c.hypotheses:
        say(f"hypothesis: {text(h)}")


# --- what the user gave ------------------------------------------------------------------------------


def _split(given: str) -> tuple[Path, str]:
    from ..errors import CertificateInvalid

    file, colon, function = given.rpartition(":")
    if not colon or not function.isidentifier():
        raise typer.BadParameter(f"{given!r}: FILE.py:FUNCTION is due, as in examples/attention.py:attention")
    path = Path(file)
    if not path.is_file():
        raise CertificateInvalid(f"{file}: there is no such file; FILE.py:FUNCTION is due")
    return path, function


def _dtypes(given: list[str] | None) -> tuple[str, ...]:
    for d in given or ():
        if d not in DTYPES:
            raise typer.BadParameter(f"{d!r} is not covered; there are {', '.join(DTYPES)}", param_hint="--dtype")
    return tuple(d for d in DTYPES if not given or d in given)


def _title(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,59}", name):
        raise typer.BadParameter(f"{name!r}: at most 60 letters, digits, - and _ are due", param_hint="--name")
    return name


def _load(path: Path, function: str) -> Callable[..., Any]:
    """The function from the user's file.  Its folder is importable, as when it is run as a script."""
    import importlib.util

    from ..errors import CertificateInvalid

    try:
        import torch  # noqa: F401 - the user's file needs it, and its absence is not that file's error
    except ImportError:
        from ..errors import BackendMissing

        raise BackendMissing("derive: PyTorch is not installed; pip install torch") from None
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise CertificateInvalid(f"{path}: it is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as e:  # whatever it raises is that file's error
        raise CertificateInvalid(f"{_where(e, path)}: importing the file fails: {type(e).__name__}: {e}") from e
    finally:
        sys.path.remove(str(path.resolve().parent))
    found = getattr(module, function, None)
    if not inspect.isfunction(found) or found.__name__ == "<lambda>" or inspect.iscoroutinefunction(found):
        there = ", ".join(
            n
            for n, f in vars(module).items()
            if inspect.isfunction(f) and f.__module__ == spec.name and n == f.__name__
        )
        what = f"it has no function {function}"
        if found is not None:
            what = f"{function} is a {type(found).__name__}, not a plain function written with def"
        raise CertificateInvalid(f"{path}: {what}; it has: {there or 'none'}")
    return found


def _where(e: BaseException, path: Path) -> str:
    """The last line of the user's file that the error went through."""
    if isinstance(e, SyntaxError) and e.lineno:
        return f"{path}:{e.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if Path(f.filename).resolve() == path.resolve()]
    return f"{path}:{lines[-1]}" if lines else str(path)
