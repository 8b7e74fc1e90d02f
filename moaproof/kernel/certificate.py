"""The certificate: its file form, read strictly, and its digests.  Trusted; certificates are untrusted input.

Canonical JSON (RFC 8785).  Exact field sets: an unknown field or version is an error.  Terms are one shared graph
whose roots are named by number.  Nothing in a certificate is ever evaluated as code, and no text in it is shown as a
claim.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CertificateInvalid, DigestMismatch, IllFormed
from ..term import MAX_INT, Size, Term, canonical, dump, load, subterms

SCHEMA = "moaproof/certificate/3"
MAX_BYTES = 4 * 2**20
MAX_NESTING = 60
MAX_ROUNDING = 2**16
CLASSES = ("I", "S", "R")
DTYPES = ("float64", "float32")
CORE_FIELDS = frozenset({
    "schema", "name", "trace", "spec", "dnf", "onf", "inputs", "hypotheses", "tilings", "witness", "steps", "rulebook",
    "terms",
})  # fmt: skip


KERNEL_FIELDS = ("file", "target", "dtype", "sha256", "instructions")


@dataclass(frozen=True, slots=True)
class Tiling:
    """``count`` tiles of ``tile`` cover ``extent``: a definition of new sizes, possible for every extent.

    ``tile`` is the name of a size, or a product of names, ``"ri*ty"``: rows in registers by rows on threads.
    """

    extent: str
    tile: str
    count: str

    @property
    def factors(self) -> tuple[str, ...]:
        """The names in ``tile``."""
        return tuple(self.tile.split("*"))

    def length(self, sizes: Mapping[str, int]) -> int:
        """The rows of a whole tile at these sizes."""
        return math.prod(sizes[f] for f in self.factors)


@dataclass(frozen=True, slots=True)
class Step:
    """The subterm at ``path`` becomes ``after``, by the law ``rule`` or, if ``restated``, by no law.

    ``before`` is the whole term's digest.
    """

    path: tuple[int, ...]
    before: str
    kind: str
    rule: str
    after: Term
    params: tuple[Any, ...] = ()
    backwards: bool = False
    choose: tuple[tuple[str, int, Term], ...] = ()  # metavariable, number of arguments, body under that many binders
    restated: bool = False


@dataclass(frozen=True, slots=True)
class Kernel:
    """A shipped text: its file, target and dtype, and the SHA-256 of its bytes and of the instructions it calls."""

    file: str
    target: str
    dtype: str
    sha256: str
    instructions: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A derivation from a Spec to an ONF, with the kernels printed from it."""

    name: str
    trace: Any  # the captured graph, judged by ``trace.table``
    spec: Term
    dnf: Term
    onf: Term
    inputs: tuple[Term, ...]  # in the kernels' argument order
    hypotheses: tuple[Term, ...]
    tilings: tuple[Tiling, ...]
    witness: Mapping[str, int]
    steps: tuple[Step, ...]
    rulebook: str
    kernels: tuple[Kernel, ...] = ()
    witnesses: Mapping[str, Any] = field(default_factory=dict)  # of integer questions, by their keys
    rounding: Any = (
        None  # the tree of lemmas of the error bound (``rounding.Bound.document``); None: no bound is stated
    )

    def sizes(self) -> tuple[str, ...]:
        """The sizes that the kernels take: as in the inputs' axes, then the others of the ONF, counts before tiles."""
        ordered = dict.fromkeys(u.data for t in self.inputs for s in t.args for u in subterms(s) if u.op == "size")
        used = {u.data for u in subterms(self.onf) if u.op == "size"}
        new = dict.fromkeys(s for t in self.tilings for s in (t.count, *t.factors))
        ordered |= dict.fromkeys(sorted(used - set(new)))
        return tuple(s for s in (*ordered, *new) if s in used)

    def core(self) -> dict[str, Any]:
        """The derivation core, whose digest the kernels' headers name: all but kernels, witnesses and error bound."""
        roots: list[Term] = []

        def root(t: Term) -> int:
            roots.append(t)
            return len(roots) - 1

        document = {
            "schema": SCHEMA,
            "name": self.name,
            "trace": self.trace,
            "spec": root(self.spec),
            "dnf": root(self.dnf),
            "onf": root(self.onf),
            "inputs": [root(t) for t in self.inputs],
            "hypotheses": [root(t) for t in self.hypotheses],
            "tilings": [[t.extent, t.tile, t.count] for t in self.tilings],
            "witness": dict(self.witness),
            "steps": [_step_json(s, root) for s in self.steps],
            "rulebook": self.rulebook,
        }
        return {**document, "terms": dump(roots)}

    def core_digest(self) -> str:
        return hashlib.sha256(canonical(self.core())).hexdigest()

    def to_bytes(self) -> bytes:
        kernels = [{field: getattr(k, field) for field in KERNEL_FIELDS} for k in self.kernels]
        carried = {
            "core": self.core_digest(),
            "kernels": kernels,
            "witnesses": dict(self.witnesses),
            "rounding": self.rounding,
        }
        return canonical({**self.core(), **carried}) + b"\n"


def _step_json(s: Step, root: Any) -> dict[str, Any]:
    start = {"path": list(s.path), "before": s.before, "class": s.kind, "rule": s.rule}
    row: dict[str, Any] = {**start, "after": root(s.after)}
    if s.restated:
        return row
    chosen = [[name, count, root(body)] for name, count, body in s.choose]
    return {**row, "params": _lists(s.params), "backwards": s.backwards, "choose": chosen}


def _lists(data: Any) -> Any:
    return [_lists(x) for x in data] if isinstance(data, tuple) else data


def _tuples(data: Any, where: str) -> Any:
    if isinstance(data, list):
        return tuple(_tuples(x, where) for x in data)
    if data is None or isinstance(data, str | bool) or type(data) is int:
        return data
    raise CertificateInvalid(f"{where}: a parameter is a {type(data).__name__}")


def sizes_of(terms: Sequence[Term]) -> set[str]:
    return {u.data for u in subterms(*terms) if u.op == "size"}


# --- strict reading --------------------------------------------------------------------------------


def parse(data: bytes) -> Certificate:
    """The certificate in these bytes.

    ``CertificateInvalid`` names the place; a digest that is off is ``DigestMismatch``.
    """
    if len(data) > MAX_BYTES:
        raise CertificateInvalid(f"the file has {len(data)} bytes; a certificate has at most {MAX_BYTES}")
    try:
        document = json.loads(
            data.decode("utf-8"), object_pairs_hook=_no_repeats, parse_float=_no_float, parse_constant=_no_float
        )
        canonical(document)  # a lone surrogate has no UTF-8 form
        _shallow(document)
    except (ValueError, RecursionError) as e:
        raise CertificateInvalid(f"not JSON of a certificate: {e}") from None
    fields = {*CORE_FIELDS, "core", "kernels", "witnesses", "rounding"}
    d = _object(document, fields, "certificate")
    if d["schema"] != SCHEMA:
        raise CertificateInvalid(f"schema: {d['schema']!r:.60} is not {SCHEMA}")
    roots = load(d["terms"])

    def root(k: Any, where: str) -> Term:
        if type(k) is not int or not 0 <= k < len(roots):
            raise CertificateInvalid(f"{where}: {k!r:.20} is no root of terms")
        return roots[k]

    c = Certificate(
        name=_name(d["name"], "name"),
        trace=d["trace"],
        spec=root(d["spec"], "spec"),
        dnf=root(d["dnf"], "dnf"),
        onf=root(d["onf"], "onf"),
        inputs=tuple(root(k, "inputs") for k in _list(d["inputs"], "inputs", 16)),
        hypotheses=tuple(root(k, "hypotheses") for k in _list(d["hypotheses"], "hypotheses", 32)),
        tilings=tuple(_tiling(row) for row in _list(d["tilings"], "tilings", 8)),
        witness=_witness(d["witness"]),
        steps=tuple(_step(s, k, root) for k, s in enumerate(_list(d["steps"], "steps", 500))),
        rulebook=_digest(d["rulebook"], "rulebook"),
        kernels=tuple(_kernel(k) for k in _list(d["kernels"], "kernels", 16)),
        witnesses=_witnesses(d["witnesses"]),
        rounding=_rounding(d["rounding"]),
    )
    if len({k.file for k in c.kernels}) != len(c.kernels):
        raise CertificateInvalid("kernels: a file is named twice")
    if c.core_digest() != _digest(d["core"], "core"):
        raise DigestMismatch("core: the derivation is not the one whose digest is stated")
    if c.to_bytes() != data:
        raise DigestMismatch("the bytes are not the canonical form of the certificate that they describe")
    return c


def _shallow(document: Any) -> None:
    """Nothing is nested deeper than ``MAX_NESTING``, so that what walks the document need not fear for its stack."""
    level = [document]
    for _ in range(MAX_NESTING):
        level = [y for x in level if isinstance(x, list | dict) for y in (x.values() if isinstance(x, dict) else x)]
    if level:
        raise ValueError(f"nested more than {MAX_NESTING} deep")


def _no_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a field is given twice")
    return dict(pairs)


def _no_float(text: str) -> Any:
    raise ValueError(f"{text} is no integer")


def _object(d: Any, fields: set[str], where: str) -> dict[str, Any]:
    if not isinstance(d, dict):
        raise CertificateInvalid(f"{where}: an object is due")
    for k in d:
        if k not in fields:
            raise CertificateInvalid(f"{where}: unknown field {k!r:.40}")
    missing = fields - set(d)
    if missing:
        raise CertificateInvalid(f"{where}: missing {', '.join(sorted(missing))}")
    return d


def _list(d: Any, where: str, most: int) -> list[Any]:
    if not isinstance(d, list) or len(d) > most:
        raise CertificateInvalid(f"{where}: a list of at most {most} is due")
    return d


def _name(d: Any, where: str) -> str:
    if not isinstance(d, str) or not d.isascii() or not d.replace("-", "_").isidentifier() or len(d) > 60:
        raise CertificateInvalid(f"{where}: {d!r:.60} is no name")
    return d


def _digest(d: Any, where: str) -> str:
    if not isinstance(d, str) or len(d) != 64 or not set(d) <= set("0123456789abcdef"):
        raise CertificateInvalid(f"{where}: a SHA-256 in hexadecimal is due")
    return d


def _tiling(row: Any) -> Tiling:
    if not isinstance(row, list) or len(row) != 3:
        raise CertificateInvalid("tilings: [extent, tile, count] is due")
    if not all(isinstance(name, str) for name in row):
        raise CertificateInvalid("tilings: names of sizes are due")
    found = Tiling(*row)
    try:
        distinct = {Size(name) for name in (found.extent, *found.factors, found.count)}
    except IllFormed:
        raise CertificateInvalid("tilings: names of sizes are due") from None
    if len(distinct) != 2 + len(found.factors) or len(found.factors) > 4:
        raise CertificateInvalid("tilings: a tile is a product of at most 4 sizes, no two of them the same")
    return found


def _witness(d: Any) -> dict[str, int]:
    if not isinstance(d, dict) or len(d) > 64 or not all(type(v) is int and 0 <= v <= 10**6 for v in d.values()):
        raise CertificateInvalid("witness: sizes as natural numbers are due")
    return d


def _witnesses(d: Any) -> dict[str, Any]:
    """Trees of lists, strings and integers, by key; ``kernel.witness`` reads them."""
    if not isinstance(d, dict) or len(d) > 2000:
        raise CertificateInvalid("witnesses: an object of at most 2000 trees is due")
    level = [d[_digest(k, "witnesses")] for k in d]
    if not all(isinstance(tree, list) for tree in level):
        raise CertificateInvalid("witnesses: a tree is a list")
    while level:
        if not all(isinstance(x, str | list) or (type(x) is int and abs(x) <= MAX_INT) for x in level):
            raise CertificateInvalid("witnesses: lists, strings and integers below 2^53 are due")
        level = [y for x in level if isinstance(x, list) for y in x]
    return d


def _rounding(d: Any) -> Any:
    """A tree of objects, lists and strings, or none; the checker compares it with the one that it builds."""
    if d is not None and (not isinstance(d, dict) or len(canonical(d)) > MAX_ROUNDING):
        raise CertificateInvalid(f"rounding: null, or an object of at most {MAX_ROUNDING} bytes is due")
    return d


def _step(s: Any, number: int, root: Any) -> Step:
    where = f"step {number}"
    restated = not (isinstance(s, dict) and {"params", "backwards", "choose"} & set(s))
    law = set() if restated else {"params", "backwards", "choose"}
    d = _object(s, {"path", "before", "class", "rule", "after"} | law, where)
    path = _list(d["path"], f"{where}: path", 200)
    if not all(type(k) is int and 0 <= k < 20 for k in path):
        raise CertificateInvalid(f"{where}: path: argument numbers are due")
    if d["class"] not in CLASSES:
        raise CertificateInvalid(f"{where}: class: one of {', '.join(CLASSES)} is due")
    before, rule = _digest(d["before"], f"{where}: before"), _name(d["rule"], f"{where}: rule")
    start = (tuple(path), before, d["class"], rule, root(d["after"], where))
    if restated:
        return Step(*start, restated=True)
    if not isinstance(d["backwards"], bool):
        raise CertificateInvalid(f"{where}: backwards: true or false is due")
    chosen: list[tuple[str, int, Term]] = []
    for row in _list(d["choose"], f"{where}: choose", 16):
        if not isinstance(row, list) or len(row) != 3 or type(row[1]) is not int or not 0 <= row[1] <= 16:
            raise CertificateInvalid(f"{where}: choose: [metavariable, arguments, body] is due")
        if row[0] in [name for name, _, _ in chosen]:
            raise CertificateInvalid(f"{where}: choose: {row[0]!r:.40} is chosen twice")
        chosen.append((_name(row[0], where), row[1], root(row[2], where)))
    params = tuple(_tuples(x, where) for x in _list(d["params"], f"{where}: params", 8))
    return Step(*start, params=params, backwards=d["backwards"], choose=tuple(chosen))


def _kernel(k: Any) -> Kernel:
    d = _object(k, set(KERNEL_FIELDS), "kernels")
    file = d["file"]
    stem = file.removesuffix(".py") if isinstance(file, str) else ""
    if stem == file or not stem.isidentifier() or not stem.isascii() or stem.startswith("_") or len(stem) > 80:
        raise CertificateInvalid(f"kernels: {file!r:.60} is no name of a kernel file")
    if d["target"] not in ("cpu", "cuda") or d["dtype"] not in DTYPES:
        raise CertificateInvalid("kernels: target cpu or cuda and dtype float64 or float32 are due")
    digests = (_digest(d[field], f"kernels: {field}") for field in ("sha256", "instructions"))
    return Kernel(file, d["target"], d["dtype"], *digests)
