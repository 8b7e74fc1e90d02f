"""The loader: the one way to a compiled kernel.  Trusted beside the launcher (claim d).

What it runs is what was checked.

A kernel runs only if ``kernels/MANIFEST.json`` lists the SHA-256 of its bytes, and the certificate of that name in
``certs/`` lists the same one.  The very bytes that were hashed are compiled: no file is read a second time.

Numba's cache of machine code is keyed by the digest of those bytes and of the instructions that they import (Numba
itself looks only at a file's time and length, and never at what a kernel calls).  It lies in ``$MOAPROOF_CACHE``,
or else in ``moaproof`` under ``$XDG_CACHE_HOME`` or ``~/.cache``; ``MOAPROOF_CACHE=off``, or a folder that cannot
be written, means no cache: a kernel is then compiled once a process.  Cached machine code is trusted as far as that
folder is; it is made for its owner alone, and one that others could have written is not used.

A CUDA text is for values of its constants: ``launches`` binds them in the module of the text before it runs, and
``cuda.py`` compiles the functions for a device, once a process.
"""

from __future__ import annotations

import hashlib
import json
import os
import string
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from .. import instructions
from ..errors import CertificateInvalid, DigestMismatch, NotCovered
from ..kernel.certificate import Certificate, parse
from ..term import canonical

MANIFEST_SCHEMA: Final = "moaproof/manifest/1"
MAX_NAME: Final = 60
NAME_LETTERS: Final = frozenset(string.ascii_letters + string.digits + "-_")
MAX_FILE: Final = 2**23  # bytes of a certificate, a manifest or a kernel
REMEDY: Final = "reinstall moaproof, or run `make regen` and `moaproof check` in a checkout"

_LOCK = threading.RLock()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A kernel whose bytes match its certificate.  ``source`` are those bytes; nothing is compiled yet.

    ``sizes`` are the names of its sizes, in order: the last parameters of a function, but for its constants.
    """

    certificate: Certificate
    dtype: str
    file: str
    sha256: str
    source: bytes
    sizes: tuple[str, ...]
    target: str = "cpu"

    @property
    def function(self) -> Callable[..., None]:
        """Of a CPU text: the compiled function ``kernel(out, inputs.., sizes..)``, compiled when it is first called."""
        if self.target != "cpu":
            raise NotCovered(f"{self.file}: a {self.target} text is no function of the CPU")
        return _compiled(self)

    def launches(self, constants: Mapping[str, int]) -> Mapping[str, Any]:
        """Of a CUDA text: its launches by name, with these constants in their module; nothing is compiled yet.

        Raises ``NotCovered`` if numba-cuda is missing.
        """
        if self.target != "cuda":
            raise NotCovered(f"{self.file}: a {self.target} text has no launches")
        return _launches(self, constants)


def package_folder(name: str) -> Path:
    """Where the package ``moaproof.certs`` or ``moaproof.kernels`` keeps its files."""
    return Path(str(files(f"moaproof.{name}")))


def load(name: str, dtype: str, certs: Path | None = None, kernels: Path | None = None, target: str = "cpu") -> Loaded:
    """The kernel of certificate ``name`` for ``dtype`` (float64 or float32) and ``target`` (cpu or cuda).

    Raises ``NotCovered`` for what is no name, or if the certificate has no such kernel, ``CertificateInvalid`` for a
    file that is missing or is not what it should be, and ``DigestMismatch`` where manifest, certificate and kernel do
    not agree.
    """
    if len(name) > MAX_NAME or not NAME_LETTERS.issuperset(name):
        raise NotCovered(f"{name!r:.60} is no name of a certificate: letters, digits, - and _ are due")
    with _LOCK:
        return _load(name, dtype, certs or package_folder("certs"), kernels or package_folder("kernels"), target)


@lru_cache(maxsize=64)
def _load(name: str, dtype: str, certs: Path, kernels: Path, target: str) -> Loaded:
    path = certs / f"{name}.json"
    certificate = _certificate(path, name)
    found = [k for k in certificate.kernels if k.dtype == dtype and k.target == target]
    if not found:
        have = ", ".join(f"{k.dtype} ({k.target})" for k in certificate.kernels) or "none"
        raise NotCovered(f"{path.name}: no {target} kernel for {dtype}; it has kernels for: {have}")
    kernel = found[0]
    row = _manifest(kernels / "MANIFEST.json").get(kernel.file)
    due = {"certificate": name, "core": certificate.core_digest(), "dtype": dtype, "sha256": kernel.sha256}
    if row != due:
        what = "is not listed" if row is None else f"is listed with another {_first_difference(row, due)}"
        raise DigestMismatch(f"kernels/MANIFEST.json: {kernel.file} {what} than {path.name} states; {REMEDY}")
    source = _read(kernels / kernel.file)
    digest = hashlib.sha256(source).hexdigest()
    if digest != kernel.sha256:
        raise DigestMismatch(
            f"kernels/{kernel.file}: its SHA-256 is {digest[:12]}.., but {path.name} and MANIFEST.json are about "
            f"{kernel.sha256[:12]}..: the text was changed after it was checked; {REMEDY}"
        )
    if kernel.instructions != instructions.digest():
        raise DigestMismatch(f"moaproof/instructions: not the source that {path.name} names for its kernels; {REMEDY}")
    return Loaded(certificate, dtype, kernel.file, digest, source, certificate.sizes(), target)


def _certificate(path: Path, name: str) -> Certificate:
    certificate = parse(_read(path))
    if certificate.name != name:
        raise DigestMismatch(f"certs/{path.name}: it is the certificate {certificate.name}, renamed; {REMEDY}")
    return certificate


def _first_difference(row: Any, due: dict[str, str]) -> str:
    found = row if isinstance(row, dict) else {}
    return next((field for field, value in due.items() if found.get(field) != value), "field")


def _manifest(path: Path) -> dict[str, Any]:
    data = _read(path)
    try:
        document = json.loads(data)
        plain = canonical(document) == data.removesuffix(b"\n")
    except (ValueError, RecursionError) as e:
        raise CertificateInvalid(f"kernels/MANIFEST.json: not JSON ({e}); {REMEDY}") from None
    rows = document.get("kernels") if isinstance(document, dict) else None
    if not isinstance(rows, dict) or document.get("schema") != MANIFEST_SCHEMA or len(document) != 2 or not plain:
        raise CertificateInvalid(
            f"kernels/MANIFEST.json: schema {MANIFEST_SCHEMA} with kernels, in canonical JSON, is due; {REMEDY}"
        )
    return rows


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as e:
        raise CertificateInvalid(f"{path}: cannot be read ({e.strerror or e}); {REMEDY}") from None
    if len(data) > MAX_FILE:
        raise CertificateInvalid(f"{path}: cannot be read (more than {MAX_FILE} bytes); {REMEDY}")
    return data


# --- compiling -------------------------------------------------------------------------------------


_FUNCTIONS: dict[str, Callable[..., None]] = {}


def _compiled(kernel: Loaded) -> Callable[..., None]:
    with _LOCK:
        if kernel.sha256 not in _FUNCTIONS:
            _FUNCTIONS[kernel.sha256] = _compile(kernel)
        return _FUNCTIONS[kernel.sha256]


def _compile(kernel: Loaded) -> Callable[..., None]:
    """The function of the bytes that were hashed; its machine code is cached where that is possible."""
    from numba import config

    if getattr(config, "DISABLE_JIT", 0):  # njit would leave the text to Python
        raise NotCovered(f"{kernel.file}: NUMBA_DISABLE_JIT is set; kernels are run compiled: unset it")
    file = _cached_source(kernel)
    module = ModuleType(f"moaproof_kernel_{kernel.sha256[:16]}")
    sys.modules[module.__name__] = module  # where Numba looks for the globals of machine code from its cache
    _execute(kernel, module, str(file or f"<{kernel.file}>"))
    function: Callable[..., None] = module.__dict__["kernel"]
    if file is not None:
        _enable_cache(function)
    return function


def _launches(kernel: Loaded, constants: Mapping[str, int]) -> Mapping[str, Any]:
    try:
        from ..instructions.cuda import SIMULATED, Launch
    except ImportError as e:
        raise NotCovered(f"{kernel.file}: {e}") from None
    if SIMULATED:
        raise NotCovered(f"{kernel.file}: NUMBA_ENABLE_CUDASIM is set; kernels are run by a GPU: unset it")
    module = ModuleType(f"moaproof_kernel_{kernel.sha256[:16]}")
    module.__dict__.update(constants)
    _execute(kernel, module, f"<{kernel.file}>")
    return {name: x for name, x in module.__dict__.items() if isinstance(x, Launch)}


def _execute(kernel: Loaded, module: ModuleType, place: str) -> None:
    """Run the bytes that were hashed, which define the functions of the text in ``module``."""
    code = compile(kernel.source, place, "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102  its digest is that of a checked text


def _enable_cache(function: Any) -> None:
    """Numba refuses to cache where it finds no folder that it may write: then there is no cache."""
    try:
        function.enable_caching()
    except RuntimeError:
        return


def _cached_source(kernel: Loaded) -> Path | None:
    """A copy of the text beside which Numba keeps machine code; None where there is no folder for it.

    With NUMBA_CACHE_DIR set Numba would write elsewhere, where others may write: then no cache is used.
    """
    folder = cache_folder()
    if folder is None or os.environ.get("NUMBA_CACHE_DIR"):
        return None
    try:
        place = folder / f"{kernel.sha256}-{instructions.digest()[:16]}"
        _private(folder)
        _private(place)
        file = place / "kernel.py"
        if not file.is_file() or file.read_bytes() != kernel.source:
            _write(file, kernel.source)
    except OSError:
        return None
    return file


def cache_folder() -> Path | None:
    """Where compiled kernels are kept between processes; None if they are not."""
    named = os.environ.get("MOAPROOF_CACHE")
    if named == "off":
        return None
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "moaproof"
    except RuntimeError:  # no home folder
        return None


def _private(folder: Path) -> None:
    """Make a folder of our own; ``PermissionError`` if somebody else could write what we would load from it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
        raise PermissionError(folder)


def _write(file: Path, data: bytes) -> None:
    """All or nothing: another process never sees half a file."""
    handle, name = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
    Path(name).replace(file)
