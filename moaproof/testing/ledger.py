"""The ledger of a campaign: ``ledger.ndjson``, one line of canonical JSON for each finished batch.

The first line says what the campaign is: schema, profile, seed, cases of a batch, what is drawn, versions, oracles and
digests of the kernels.  A campaign goes on only where all of it is the same, because its counts are added up.  Each
other line is a batch.  A line is one write, flushed to the disk; one without its end, which a crash may leave as the
last, is dropped and its batch run again.  One process at a time writes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from ..errors import CertificateInvalid, NotCovered
from ..term import canonical
from .report import SCHEMA, Report

NAME: Final = "ledger.ndjson"
Say = Callable[[str], None]


class Ledger:
    """The open ledger of a folder.  ``header`` is None as long as it is empty; ``batches`` are the lines by number."""

    def __init__(self, folder: Path, say: Say = print):
        self.path = folder / NAME
        self.header: dict[str, Any] | None = None
        self.batches: dict[int, dict[str, Any]] = {}
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as e:
            raise NotCovered(f"{self.path}: cannot be written ({e.strerror or e}); give another folder") from None
        try:
            self._read(say)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._file)

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write the first line, or see that the one that is there says the same."""
        due = json.loads(canonical(header))
        if self.header is None:
            self._append(due)
            self.header = due
            return
        for name in sorted({*due, *self.header}):
            was, now = self.header.get(name), due.get(name)
            if was != now:
                raise NotCovered(
                    f"{self.path}: made with {name} {_short(was, now)}, now {_short(now, was)}; "
                    "a campaign goes on only as it began: give the same, or another folder with -o"
                )

    def add(self, line: Mapping[str, Any]) -> None:
        """Append the line of a batch that is not there yet."""
        number = line["batch"]
        if number in self.batches:
            raise AssertionError(f"batch {number} is in the ledger")
        self.batches[number] = json.loads(self._append(line))

    def reread(self, say: Say) -> dict[int, dict[str, Any]]:
        """The batches as the file has them now."""
        self.header, self.batches = None, {}
        self._read(say)
        return self.batches

    def _append(self, line: Mapping[str, Any]) -> bytes:
        text = canonical(line) + b"\n"
        if os.write(self._file, text) != len(text):
            raise NotCovered(f"{self.path}: the disk took part of a line; make room, and start again to go on")
        os.fsync(self._file)
        return text

    def _read(self, say: Say) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotCovered(f"{self.path}: another campaign writes here; give another folder with -o") from None
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            self._take(number, line)
        if whole != text:  # only now: a file that is no ledger is left as it is
            os.ftruncate(self._file, len(whole))
            say(f"{self.path}: the last line is torn and was dropped; its batch is run again")

    def _take(self, number: int, line: bytes) -> None:
        where = f"{self.path}: line {number}"
        try:
            d = json.loads(line)
        except ValueError:
            raise CertificateInvalid(f"{where}: not JSON; restore the file, or give another folder") from None
        kind = "campaign" if number == 1 else "batch"
        if not isinstance(d, dict) or d.get("schema") != SCHEMA or d.get("kind") != kind:
            raise CertificateInvalid(f"{where}: a {kind} of schema {SCHEMA} is due")
        if number == 1:
            self.header = d
            return
        try:
            Report.from_json(d)
            batch, errors = int(d["batch"]), [(e["kind"], e["reason"]) for e in d["errors"]]
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise CertificateInvalid(f"{where}: not a batch ({type(e).__name__}: {e})") from None
        if batch in self.batches or not all(isinstance(x, str) for pair in errors for x in pair):
            raise CertificateInvalid(f"{where}: batch {batch} is there twice, or its errors are no text")
        self.batches[batch] = d


def _short(value: Any, other: Any) -> str:
    """A value in a message; of two objects, the entries in which they differ."""
    if isinstance(value, dict) and isinstance(other, dict):
        value = {k: v for k, v in sorted(value.items()) if other.get(k) != v}
    return f"{json.dumps(value):.200}"
