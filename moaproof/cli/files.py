"""Writing several files or none: a staging folder beside them, then renames; what was there comes back if one fails."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import CertificateInvalid


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """An empty folder inside ``out``, which is made if need be; it goes again at the end, as does a new empty ``out``.

    Asked for before the work begins, so that a folder that cannot be written costs nothing.
    """
    made = [p for p in (out, *out.parents) if not p.exists()]  # the deepest first
    try:
        out.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".moaproof-", dir=out))
    except OSError as e:
        _remove_empty(made)
        raise CertificateInvalid(
            f"{out}: the folder cannot be written: {e.strerror or e}; give another with -o"
        ) from None
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    for p in folders:
        try:
            p.rmdir()
        except OSError:
            return  # it holds something, or was never made


def write_all(out: Path, stage: Path, contents: Mapping[str, bytes], force: bool) -> list[Path]:
    """Write every file (path below ``out`` -> bytes) or none; their paths.

    Files that exist are replaced only with ``force``; ``CertificateInvalid`` if one cannot be written.
    """
    targets = {out / name: data for name, data in contents.items()}
    refuse_existing(list(targets), force)
    placed: list[tuple[Path, Path | None]] = []  # file, and where its predecessor waits
    folders: list[Path] = []
    try:
        for number, (target, data) in enumerate(targets.items()):
            (stage / f"new{number}").write_bytes(data)
            if not target.parent.exists():
                target.parent.mkdir()
                folders.append(target.parent)
        for number, target in enumerate(targets):
            old = stage / f"old{number}" if target.exists() else None
            if old:
                target.replace(old)
            placed.append((target, old))
            (stage / f"new{number}").replace(target)
    except BaseException as e:
        for target, old in reversed(placed):  # each by itself: what cannot be undone must not stop the others
            with suppress(OSError):
                target.unlink(missing_ok=True)
            if old:
                with suppress(OSError):
                    old.replace(target)
        _remove_empty(folders)
        if isinstance(e, OSError):
            raise CertificateInvalid(
                f"{e.filename or out}: cannot be written: {e.strerror or e}; nothing was changed"
            ) from None
        raise
    return list(targets)


def refuse_existing(targets: list[Path], force: bool) -> None:
    there = [str(t) for t in targets if t.exists() or t.is_symlink()]
    if there and not force:
        raise CertificateInvalid(f"{there[0]}: the file exists; give --force to replace it, or another -o or --name")
    for t in targets:
        if t.is_dir():
            raise CertificateInvalid(f"{t}: it is a directory; give another -o or --name")
        if t.parent.exists() and not t.parent.is_dir():
            raise CertificateInvalid(f"{t.parent}: a file stands where a folder is due; give another -o")
