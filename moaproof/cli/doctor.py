"""``moaproof doctor``: what is installed, what works, and what is not covered."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

import typer

REQUIRED: Final = ("z3-solver", "sympy", "numpy", "numba", "torch", "hypothesis", "typer", "rich")
OPTIONAL: Final = ("cvc5", "islpy", "python-flint")
IMPORTED_AS: Final = {"z3-solver": "z3", "python-flint": "flint"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``state`` is ok, missing (something required), or note."""

    what: str
    state: str
    detail: str


def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON document, to paste into an issue.")] = False,
) -> None:
    """Look at versions, cores, Numba's threads, the cache, certificates, kernels, and what kernels on a GPU need.

    Exit code: 3 if something required is missing, else 0.  Nothing of a GPU is required.
    """
    from .. import __version__

    found = [
        _python(), Finding("moaproof", "ok", __version__), *map(_package, REQUIRED), *(map(_optional, OPTIONAL)),
        Finding("cores", "ok", str(os.cpu_count())), _threads(), _cache(), *_committed(),
        *_cuda(),
    ]  # fmt: skip
    code = 3 if any(f.state == "missing" for f in found) else 0
    if json:
        import json as json_module

        document = {"schema": "moaproof/doctor/1", "findings": [asdict(f) for f in found], "exit": code}
        typer.echo(json_module.dumps(document, indent=1))
    else:
        for f in found:
            typer.echo(f"{f.state:8} {f.what:14} {f.detail}")
    raise typer.Exit(code)


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    return Finding(
        "python", "ok" if good else "missing", f"{platform.python_version()}{'' if good else '; 3.11 is needed'}"
    )


def _package(name: str) -> Finding:
    """It is installed and can be imported."""
    import importlib

    try:
        version = metadata.version(name)
        importlib.import_module(IMPORTED_AS.get(name, name))
    except metadata.PackageNotFoundError:
        return Finding(name, "missing", f"not installed: pip install {name}")
    except (ImportError, OSError) as e:
        return Finding(name, "missing", f"it is installed but cannot be imported: {e}")
    return Finding(name, "ok", version)


def _optional(name: str) -> Finding:
    found = _package(name)
    return found if found.state == "ok" else Finding(name, "note", f"optional; {found.detail}")


def _threads() -> Finding:
    """Numba's threading layer, as it is chosen when a parallel function first runs."""
    try:
        import numba

        @numba.njit(parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
        def parallel(n: int) -> int:
            total = 0
            for _ in numba.prange(n):
                total += 1
            return total

        parallel(2)
        layer = numba.threading_layer()  # type: ignore[attr-defined, unused-ignore]
        return Finding("threads", "ok", f"{layer}, {numba.get_num_threads()} threads")
    except (ImportError, ValueError, OSError) as e:
        return Finding("threads", "missing", f"Numba runs no parallel function: {e}")


def _cache() -> Finding:
    """The folder of compiled kernels; without it they are compiled in each process."""
    try:
        from ..runtime.loader import cache_folder
    except ImportError as e:
        return Finding("cache", "missing", f"the loader cannot be imported: {e}")
    folder = cache_folder()
    if folder is None:
        return Finding("cache", "note", "off: a kernel is compiled once a process")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Finding("cache", "ok", f"{_short(folder)} can be written")
    except OSError as e:
        return Finding("cache", "note", f"{_short(folder)} cannot be written ({e.strerror}): compiled once a process")


def _short(path: Path) -> str:
    """Without the name of the user: this is pasted into issues."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _committed() -> list[Finding]:
    """The committed certificates parse, and MANIFEST.json and the kernels are those that they name."""
    from ..assess.verify import Job, check_manifest, committed, folder, stated

    outcomes = [stated(Job(p, folder("kernels"))) for p in committed()]
    bad = [o for o in outcomes if o.code]
    if not outcomes or bad:
        why = "; ".join(f"{Path(o.place).name}: {o.error}" for o in bad) or "none is installed"
        return [Finding("certificates", "missing", why)]
    manifest = check_manifest(outcomes, folder("kernels"))
    texts = sum(len(o.kernels) for o in outcomes)
    return [
        Finding("certificates", "ok", f"{len(outcomes)} found; `moaproof check` judges them"),
        Finding("kernels", "missing", f"{manifest.place}: {manifest.error}")
        if manifest.code
        else Finding("kernels", "ok", f"{texts} texts, as MANIFEST.json and the certificates name them"),
    ]


def _cuda() -> list[Finding]:
    """What kernels on an NVIDIA GPU need: a note for the first thing that is missing, with how to get it."""
    from importlib.util import find_spec

    if find_spec("numba_cuda") is None:
        return [Finding("CUDA", "note", "optional; numba-cuda is not installed: pip install 'moaproof[cuda]'")]
    found = [Finding("numba-cuda", "ok", metadata.version("numba-cuda"))]
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        return [*found, Finding("CUDA", "note", "NUMBA_ENABLE_CUDASIM is set: unset it to run kernels on a GPU")]
    return [*found, _cuda_compiler(), _cuda_device()]


def _cuda_compiler() -> Finding:
    try:
        from numba.cuda.cudadrv.nvvm import NVVM

        version = NVVM().get_version()
    except (AttributeError, ImportError, OSError, RuntimeError) as e:  # the first: versions that do not fit together
        why = next(iter(str(e).strip().splitlines()), type(e).__name__)
        return Finding("CUDA compiler", "note", f"no libNVVM ({why}): pip install 'moaproof[cuda]'")
    return Finding("CUDA compiler", "ok", f"libNVVM, NVVM IR {'.'.join(map(str, version))}")


def _cuda_device() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as e:
        return Finding("CUDA device", "note", f"PyTorch cannot be imported: {e}")
    if torch.version.cuda is None:
        return Finding("CUDA device", "note", f"PyTorch {torch.__version__} is built without CUDA: install one with it")
    if not torch.cuda.is_available():
        return Finding("CUDA device", "note", "PyTorch sees no GPU: an NVIDIA GPU and its driver are needed")
    from ..errors import NotCovered
    from ..runtime.cuda import check_fits, device_of

    try:
        devices = [device_of(i) for i in range(torch.cuda.device_count())]
        for device in devices:
            check_fits("CUDA", (), device)
    except (NotCovered, RuntimeError) as e:  # the second: PyTorch cannot use what it sees
        return Finding("CUDA device", "note", str(e))
    shown = (f"{d.name} (compute capability {d.capability[0]}.{d.capability[1]})" for d in devices)
    return Finding("CUDA device", "ok", ", ".join(shown))
