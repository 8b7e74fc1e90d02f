"""Cases on disk: a failure with its arrays, a case alone, and a failure promoted to a case that tests run for ever.

``moaproof/failure/1``: FILE.json (case, certificate, digest, versions, observed and bound) with FILE.npz (inputs,
found, due, tolerance).  ``moaproof/case/1``: one small file with the case, from which its tensors are made again, and
the digest of those tensors; it holds them itself only where the case does not give them any more.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import numpy as np
import torch

from ..errors import CertificateInvalid, NotCovered
from ..runtime.loader import load
from ..term import canonical
from .environment import versions
from .jobs import Failure
from .strategies import KINDS, LAYOUTS, PATTERNS, POOLS, REGIMES, SPECIALS, Case, Inputs, expand
from .trial import Result, attempt

FAILURE: Final = "moaproof/failure/1"
CASE: Final = "moaproof/case/1"
MOST: Final = 2**24  # numbers in the tensors of a case that is read from a file
MOST_HELD: Final = 2**13  # bytes of tensors that a case file may hold itself
NAMES: Final = ("q", "k", "v", "mask")
WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "kind": KINDS, "pattern": PATTERNS, "regime": REGIMES, "pool": POOLS, "layout": LAYOUTS, "special": SPECIALS,
    "dtype": ("float64", "float32"),
}  # fmt: skip
Array = np.ndarray[Any, Any]
Say = Callable[[str], None]


def writable(folder: Path) -> None:
    """Before hours of work, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return
    except OSError as e:
        raise NotCovered(f"{folder}: cannot be written ({e.strerror or e}); give another folder with -o") from None


# --- a failure ------------------------------------------------------------------------------------


def failure_of(case: Case, result: Result) -> Failure:
    """A refuted case, ready to be written; equal failures have equal names."""
    x = expand(case)
    worst = result.worst
    document = {
        "schema": FAILURE,
        "case": case.to_json(),
        "certificate": result.call.certificate,
        "dtype": result.call.dtype,
        "sha256": load(result.call.certificate, result.call.dtype).sha256,
        "causal": x.causal,
        "scale": None if x.scale is None else x.scale.hex(),
        "tq": result.sizes["tq"],
        "tk": result.sizes["tk"],
        "reason": result.reason(),
        "oracle": worst.oracle,
        "ratio": worst.verdict.ratio.hex(),
        "observed": abs(worst.verdict.found - worst.verdict.due).hex(),
        "bound": worst.verdict.tolerance.hex(),
        "versions": versions(),
    }
    text = canonical(document) + b"\n"
    everything: dict[str, Any] = dict(arrays_of(x))
    everything |= {"due": worst.due, "tolerance": worst.tolerance, "found": result.found}
    packed = io.BytesIO()
    np.savez_compressed(packed, **everything)
    return Failure(f"failure-{hashlib.sha256(text).hexdigest()[:12]}", text, packed.getvalue())


def write(failure: Failure, folder: Path) -> Path:
    """The path of its JSON file, which is written last."""
    path = folder / f"{failure.name}.json"
    path.with_suffix(".npz").write_bytes(failure.arrays)
    path.write_bytes(failure.text)
    return path


def store(case: Case, result: Result, folder: Path) -> Path:
    return write(failure_of(case, result), folder)


def arrays_of(x: Inputs) -> dict[str, Array]:
    """The tensors of a case by name, contiguous."""
    tensors = zip(NAMES, (x.q, x.k, x.v, x.mask), strict=True)
    return {name: np.ascontiguousarray(t.numpy()) for name, t in tensors if t is not None}


# --- run it again ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file says is to be run; ``tq`` and ``tk``: the tiles of the kernel, None for those of ``attention``.

    ``case`` is None where only the arrays are left; ``sha256`` is the kernel that it was stored for.
    """

    document: dict[str, Any]
    inputs: Inputs
    case: Case | None
    tq: int | None
    tk: int | None
    sha256: str | None
    why: str


def again(path: Path, say: Say = print) -> int:
    """Run a stored failure, or a case, on today's kernel: exit code 1 if it is refuted, else 0.

    The values of a failure are the stored ones, in contiguous tensors; the layout of the case is in the JSON file.
    """
    stored = read(path)
    result = attempt(stored.inputs, stored.tq, stored.tk)
    today = load(result.call.certificate, result.call.dtype).sha256
    changed = "" if stored.sha256 in {None, today} else " (another text than the one of the file)"
    say(f"{path.name}: {result.call.certificate}/{result.call.dtype}{changed}")
    say(f"stored: {stored.why}")
    for judged in result.judged:
        say(f"{judged.oracle}: worst observed/bound {judged.verdict.ratio:.3g}")
    say(f"now: {'accepted' if result.accepted else 'refuted'}: {result.reason()}")
    return 0 if result.accepted else 1


def read(path: Path) -> Stored:
    """A stored failure or a case.  Raises ``CertificateInvalid`` for anything else."""
    document = _document(path)
    return _failure(path, document) if document["schema"] == FAILURE else _case_file(path, document)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as e:
        raise CertificateInvalid(f"{path}: cannot be read ({e.strerror or e})") from None
    except (ValueError, RecursionError):
        raise CertificateInvalid(f"{path}: not JSON; give the .json file of a stored failure or case") from None
    if not isinstance(document, dict) or document.get("schema") not in {FAILURE, CASE}:
        raise CertificateInvalid(f"{path}: not a stored failure or case of schema {FAILURE} or {CASE}")
    return document


def _failure(path: Path, document: dict[str, Any]) -> Stored:
    kinds = {"tq": int, "tk": int, "causal": bool, "sha256": str, "reason": str}
    for name, kind in kinds.items():
        if type(document.get(name)) is not kind:
            raise CertificateInvalid(f"{path}: {name}: {kind.__name__} is due")
    if min(document["tq"], document["tk"]) < 1:
        raise CertificateInvalid(f"{path}: tq, tk: positive numbers are due")
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as data:
            arrays = {name: data[name] for name in NAMES if name in data}
        inputs = _inputs(arrays, document["causal"], document.get("scale"))
    except (OSError, ValueError, TypeError, KeyError, EOFError) as e:
        raise CertificateInvalid(
            f"{path.with_suffix('.npz')}: the stored inputs cannot be read ({e}); it belongs beside the .json file"
        ) from None
    try:
        case = case_of(document.get("case"), str(path))
    except CertificateInvalid:  # of another version of the strategies: its arrays are what counts
        case = None
    return Stored(
        document, inputs, case, document["tq"], document["tk"], document["sha256"], document["reason"]
    )  # fmt: skip


def _case_file(path: Path, document: dict[str, Any]) -> Stored:
    unknown = set(document) - {"schema", "case", "why", "of", "inputs", "arrays"}
    if unknown:
        raise CertificateInvalid(f"{path}: {min(unknown)}: no field of schema {CASE}")
    why, of = document.get("why"), document.get("of", {})
    if not isinstance(why, str) or not isinstance(of, dict):
        raise CertificateInvalid(f"{path}: why: text is due, and of: an object")
    case = case_of(document.get("case"), str(path))
    if "arrays" in document:
        inputs = _held(path, document["arrays"], case)
    else:
        inputs = expand(case)
        if document.get("inputs", digest_of(inputs)) != digest_of(inputs):
            raise CertificateInvalid(
                f"{path}: its case gives other tensors than when it was stored: the strategies have changed; "
                "promote the failure again from its .json and .npz, or write the case anew without inputs"
            )
    return Stored(document, inputs, case, case.tq, case.tk, of.get("sha256"), why)


def case_of(found: Any, where: str) -> Case:
    """A case from its JSON: every field known and of its type, and not more numbers than ``MOST``."""
    if not isinstance(found, dict):
        raise CertificateInvalid(f"{where}: case: an object is due")
    known = {f.name: str(f.type) for f in fields(Case)}
    given: dict[str, Any] = {}
    for name, value in found.items():
        if name not in known:
            raise CertificateInvalid(f"{where}: case: {name}: no field of a case")
        try:
            given[name] = _field(value, known[name])
        except (TypeError, ValueError):
            raise CertificateInvalid(f"{where}: case: {name}: {known[name]} is due") from None
    case = Case(**given)
    for name, covered in WORDS.items():
        if getattr(case, name) not in covered:
            raise CertificateInvalid(f"{where}: case: {name}: one of {', '.join(covered)} is due")
    sizes = (case.b, case.g, case.r, case.n, case.m, case.dk, case.dv)
    if min(sizes) < 0 or any(t is not None and t < 1 for t in (case.tq, case.tk)) or case.seed < 0:
        raise CertificateInvalid(f"{where}: case: sizes and seed are natural numbers, tiles positive ones")
    rows = max(1, case.b) * max(1, case.g) * max(1, case.r)
    if rows * max(1, case.n, case.m) * max(1, case.dk, case.dv, case.m if case.kind == "masked" else 1) > MOST:
        raise CertificateInvalid(f"{where}: case: more than {MOST} numbers in a tensor")
    return case


def _field(value: Any, kind: str) -> Any:
    """A value of the type that the annotation names; a float may be hexadecimal text, and a tuple is a list."""
    if isinstance(value, str) and "float" in kind:
        return float.fromhex(value)
    if isinstance(value, list) and "tuple" in kind:
        if not all(type(x) is int for x in value) or len(value) != kind.count(",") + 1:
            raise TypeError
        return tuple(value)
    name = "None" if value is None else type(value).__name__
    if name not in kind.split(" | "):
        raise TypeError
    return value


def _inputs(arrays: Mapping[str, Array], causal: bool, scale: Any) -> Inputs:
    tensors = {name: torch.from_numpy(np.array(x, order="C")) for name, x in arrays.items()}
    number = None if scale is None else float.fromhex(scale)
    return Inputs(tensors["q"], tensors["k"], tensors["v"], tensors.get("mask"), causal, number)


def _held(path: Path, found: Any, case: Case) -> Inputs:
    try:
        arrays = {
            name: np.frombuffer(bytes.fromhex(a["bytes"]), _little(name, case)).reshape(a["shape"])
            for name, a in found.items()
        }
        native = {name: x if name == "mask" else x.astype(case.dtype) for name, x in arrays.items()}
        return _inputs(native, case.kind == "causal", None if case.scale is None else case.scale.hex())
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise CertificateInvalid(f"{path}: arrays: cannot be read ({type(e).__name__}: {e})") from None


def _little(name: str, case: Case) -> str:
    return "?" if name == "mask" else {"float64": "<f8", "float32": "<f4"}[case.dtype]


# --- cases alone, and promotion ----------------------------------------------------------------------


def digest_of(x: Inputs) -> str:
    """Of the values, shapes and dtypes of the tensors, and of the keyword arguments."""
    scale = None if x.scale is None else float(x.scale).hex()
    found = hashlib.sha256(canonical([x.causal, scale]))
    for name, a in sorted(arrays_of(x).items()):
        found.update(canonical([name, a.dtype.str, list(a.shape)]) + a.tobytes())
    return found.hexdigest()


def case_document(case: Case, why: str, of: Mapping[str, Any]) -> dict[str, Any]:
    """A case file: its tensors are made again from the case, and their digest says whether they are the same ones."""
    return {"schema": CASE, "case": case.to_json(), "why": why, "of": dict(of), "inputs": digest_of(expand(case))}


def promote(path: Path, to: Path, say: Say = print) -> Path:
    """Write a stored failure as a case file, which ``tests/regressions`` runs; tiles are those that it failed with."""
    writable(to)
    stored = read(path)
    call = {name: stored.document.get(name) for name in ("certificate", "dtype", "sha256")}
    of = stored.document.get("of") or {name: x for name, x in call.items() if isinstance(x, str)}
    if stored.case is None:
        raise NotCovered(f"{path}: its case is of another version of moaproof, which must promote it; --replay runs it")
    case = replace(stored.case, tq=stored.tq, tk=stored.tk)
    document = case_document(case, stored.why, of)
    if document["inputs"] != digest_of(stored.inputs):
        document |= {"inputs": digest_of(stored.inputs), "arrays": _to_hold(path, stored.inputs)}
    name = f"{of.get('certificate', 'case')}-{of.get('dtype', case.dtype)}"
    made = to / f"{name}-{hashlib.sha256(canonical(document)).hexdigest()[:12]}.json"
    made.write_bytes(canonical(document) + b"\n")
    say(f"written: {made}; run it with: moaproof fuzz --replay {made}")
    return made


def _to_hold(path: Path, x: Inputs) -> dict[str, Any]:
    arrays = arrays_of(x)
    if (total := math.fsum(a.nbytes for a in arrays.values())) > MOST_HELD:
        raise NotCovered(
            f"{path}: its case gives other tensors today, and its own have {total:.0f} bytes: more than the {MOST_HELD}"
            " that a case file may hold; keep the failure, --replay runs it"
        )
    little = {name: a if name == "mask" else a.astype(a.dtype.newbyteorder("<")) for name, a in arrays.items()}
    return {name: {"shape": list(a.shape), "bytes": a.tobytes().hex()} for name, a in little.items()}
