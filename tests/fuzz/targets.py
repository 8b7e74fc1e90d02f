"""What is fuzzed: each target takes bytes,
and ends in a ``MoaproofError`` or in a value of which it checks what it can.

Used by the tests (Hypothesis, bombs) and by ``atheris_parsers.py``.  Anything else that comes out, a Python error or a
failed assertion, is a finding.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from moaproof.rewrite_rules import lookup, rules

from moaproof.assess.replay import replay as exact_replay
from moaproof.errors import MoaproofError
from moaproof.kernel.certificate import Certificate, parse
from moaproof.operators import typeof
from moaproof.reader import is_onf, read_kernel
from moaproof.runtime import loader
from moaproof.term import Term, canonical
from moaproof.trace import spec_of


@lru_cache(maxsize=1)
def committed() -> dict[str, bytes]:
    """The committed certificates."""
    folder = Path(str(files("moaproof.certs")))
    return {p.stem: p.read_bytes() for p in sorted(folder.glob("*.json"))}


@lru_cache(maxsize=16)
def certificate_of(name: str) -> Certificate:
    return parse(committed()[name])


@lru_cache(maxsize=1)
def texts() -> dict[str, bytes]:
    """The committed kernel texts, by file."""
    folder = Path(str(files("moaproof.kernels")))
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*_float*.py"))}


READ_AS: Final = "masked-online"  # the certificate whose inputs and sizes a fuzzed text is read with
SMALL: Final = {
    "b": 1, "h": 2, "n": 3, "m": 3, "dk": 2, "dv": 1, "tq": 2, "bq": 2, "tk": 2, "bk": 2,
    "mb": 1, "mh": 2, "mn": 3, "mm": 3, "sb": 0, "sh": 1, "sn": 1, "sm": 1,
}  # fmt: skip


def certificate(data: bytes) -> None:
    """A certificate that is accepted is the canonical form of what it says."""
    found = parse(data)
    assert found.to_bytes() == data
    assert found.core_digest() in data.decode()


def kernel(data: bytes) -> None:
    """A text that is read says an ONF, always the same, over the inputs that were given."""
    c = certificate_of(READ_AS)
    found = read_kernel(data, c.inputs, c.sizes())
    assert is_onf(found.term)
    assert len(found.core_digest) == 64
    assert read_kernel(data, c.inputs, c.sizes()) == found


def run(data: bytes) -> None:
    """A text that runs to the end computes the Spec, whatever the reader says of it."""
    c = certificate_of(READ_AS)
    assert exact_replay(data, c.spec, c.inputs, [SMALL], seed=1).elements == 6


def trace(data: bytes) -> None:
    """A graph that is understood is a closed array of reals."""
    found = spec_of(document(data))
    assert found.term.free == 0
    assert typeof(found.term).sort == "real"
    assert all(typeof(h).sort == "bool" for h in found.hypotheses)


def rulebook(data: bytes) -> None:
    """A law at some parameters is a pair of patterns, as ``kernel.certificate`` hands the parameters over."""
    match document(data):
        case [str(rule), list(params)]:
            pair = lookup(rule, tuple(map(frozen, params)))
            assert all(isinstance(side, Term) for side in pair)


def manifest(data: bytes) -> None:
    """A manifest that is accepted is in canonical form."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "MANIFEST.json"
        path.write_bytes(data)
        rows = loader._manifest(path)
    whole = canonical({"kernels": rows, "schema": loader.MANIFEST_SCHEMA})
    assert data in (whole, whole + b"\n")


def document(data: bytes) -> Any:
    """JSON as the certificate's parser would have handed it over, or nothing."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def frozen(x: Any) -> Any:
    return tuple(map(frozen, x)) if isinstance(x, list) else x


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "certificate": certificate,
    "kernel": kernel,
    "run": run,
    "trace": trace,
    "rulebook": rulebook,
    "manifest": manifest,
}


def outcome(target: str, data: bytes) -> str:
    """``refused`` or ``accepted``; everything else leaves as it is."""
    try:
        TARGETS[target](data)
    except MoaproofError as e:
        why = str(e)
    else:
        return "accepted"
    assert why, "a refusal says why"
    why.encode()  # and can be printed
    return "refused"


def seeds(target: str) -> list[bytes]:
    """Inputs that are accepted, to begin from."""
    match target:
        case "certificate":
            return list(committed().values())
        case "kernel" | "run":
            own = READ_AS.replace("-", "_")
            return [texts()[f"{own}_float64.py"], *(t for name, t in texts().items() if name.startswith("masked"))]
        case "trace":
            return [canonical(certificate_of(name).trace) for name in committed()]
        case "manifest":
            folder = Path(str(files("moaproof.kernels")))
            return [(folder / "MANIFEST.json").read_bytes()]
    return [canonical([r.id, [plain(p) for p in sample]]) for r in rules().values() for sample in r.samples]


def plain(x: Any) -> Any:
    return [plain(y) for y in x] if isinstance(x, tuple) else x
