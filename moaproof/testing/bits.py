"""Which float64 attentions agree bit by bit: ``moaproof fuzz --bits``.

*Claimed*, so that a difference is a failure: ``attention-rows``, whose steps are all I or S, has every bit of its Spec
evaluated in its own order with the kernel's exp, and of that order written in NumPy; and both kernels repeat
themselves.

*Measured*, because nothing promises it: our kernels, and twelve ways to evaluate the DNF, against three paths of
PyTorch; these paths against one another; and a row of PyTorch's alone against the same row among others.

Inputs are standard normal, or integers of -3..3, whose dot products are exact in any order.  Counts are integers; they
depend on the seed, on PyTorch, and on the processor that it runs on.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ..errors import NotCovered
from ..instructions import cpu_float64
from ..runtime.attention import tiles
from ..runtime.launch import launch
from ..runtime.loader import load
from ..term import canonical
from .oracles import rows_bits

SCHEMA: Final = "moaproof/bits/1"
SEED: Final = 20261123
ASKED: Final = 512  # products of scores that the evaluator, a slow one, is asked for: the first rows of an array

Array = np.ndarray[Any, Any]
Say = Callable[[str], None]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
Attention = Callable[[Array, Array, Array], Array]  # q (n, d), k (n, d), v (n, d) -> (n, d)
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Size:
    """``arrays`` arrays of n queries, n keys and d components."""

    n: int
    d: int
    arrays: int


SIZES: Final = (Size(2, 2, 100), Size(4, 4, 60), Size(8, 8, 30), Size(16, 16, 10), Size(128, 64, 2))
INPUTS: Final[dict[str, Draw]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "integers": lambda rng, shape: rng.integers(-3, 4, shape).astype(np.float64),
}

ROWS, ONLINE = "attention-rows", "attention-online"
EVALUATOR, SEQUENTIAL, AGAIN = "its Spec, evaluated", "its order in NumPy", "itself, again"
EXPLICIT, MATH, FLASH = "PyTorch explicit", "PyTorch SDPA math", "PyTorch SDPA flash"
ALONE = "its rows alone"
BEST = "best of the DNF's orders"
THEIRS: Final = (EXPLICIT, MATH, FLASH)
CLAIMED: Final[tuple[Pair, ...]] = ((ROWS, EVALUATOR), (ROWS, SEQUENTIAL), (ROWS, AGAIN), (ONLINE, AGAIN))


# --- the ways to compute attention -----------------------------------------------------------------


def kernel(name: str, q: Array, k: Array, v: Array) -> Array:
    """The compiled kernel of a certificate, as ``attention`` launches it; scale 1/sqrt(d)."""
    loaded, sizes = load(name, "float64"), _sizes(q, k)
    out = np.empty(q.size)
    launch(loaded, out, _flat(q, k, v), sizes | tiles(sizes | {"g": 1, "r": 1}, "float64"))
    return out.reshape(q.shape)


def evaluated(q: Array, k: Array, v: Array) -> Array:
    """The Spec of ``attention-rows`` by the evaluator, with the kernel's exp."""
    return rows_bits(load(ROWS, "float64").certificate, _sizes(q, k), _flat(q, k, v)).reshape(q.shape)


def _sizes(q: Array, k: Array) -> dict[str, int]:
    return {"b": 1, "h": 1, "n": len(q), "m": len(k), "dk": q.shape[1], "dv": q.shape[1]}


def _flat(q: Array, k: Array, v: Array) -> dict[str, Any]:
    return {"q": q.ravel(), "k": k.ravel(), "v": v.ravel(), "scale": np.float64(1 / math.sqrt(q.shape[1]))}


def explicit(q: Array, k: Array, v: Array) -> Array:
    """softmax(q k^T * scale) v as a user writes it."""
    Q, K, V = (torch.from_numpy(x) for x in (q, k, v))
    found: Array = (torch.softmax((Q @ K.T) * (1 / math.sqrt(q.shape[1])), dim=-1) @ V).numpy()
    return found


def sdpa_by(backend: SDPBackend, q: Array, k: Array, v: Array) -> Array:
    """PyTorch's scaled_dot_product_attention by one of its paths for the CPU."""
    Q, K, V = (torch.from_numpy(x)[None, None] for x in (q, k, v))
    with sdpa_kernel([backend]):
        found: Array = scaled_dot_product_attention(Q, K, V)[0, 0].numpy()
    return found


def alone(q: Array, k: Array, v: Array) -> Array:
    """``explicit`` of each query by itself."""
    return np.concatenate([explicit(q[i : i + 1], k, v) for i in range(len(q))])


PATHS: Final[dict[str, Attention]] = {
    EXPLICIT: explicit,
    MATH: lambda q, k, v: sdpa_by(SDPBackend.MATH, q, k, v),
    FLASH: lambda q, k, v: sdpa_by(SDPBackend.FLASH_ATTENTION, q, k, v),
}


@dataclass(frozen=True, slots=True)
class Order:
    """One evaluation of the DNF: every sum from left to right, no fused product, and three choices."""

    scale: str  # "after": of the dot product; "before": of q; "divided": the dot product by sqrt(d)
    exp: str
    last: bool  # is the division by the row's sum the last operation, or is each weight divided?

    def __str__(self) -> str:
        return f"scale {self.scale}, exp of {self.exp}, {'divide last' if self.last else 'normalise first'}"

    def __call__(self, q: Array, k: Array, v: Array) -> Array:
        (n, d), m, root = q.shape, len(k), math.sqrt(q.shape[1])
        q = q * (1 / root) if self.scale == "before" else q
        scores = _sum((q[:, x, None] * k[None, :, x] for x in range(d)), (n, m))
        scores = scores * (1 / root) if self.scale == "after" else scores / root if self.scale == "divided" else scores
        weights = EXPS[self.exp](scores - scores.max(axis=1, keepdims=True))  # (n, m)
        total = _sum((weights[:, j] for j in range(m)), (n,))[:, None]
        weights = weights if self.last else weights / total
        values = _sum((weights[:, j, None] * v[j] for j in range(m)), (n, d))
        return values / total if self.last else values


def _sum(terms: Iterable[Array], shape: tuple[int, ...]) -> Array:
    """From zero, in order: element by element what a loop over the terms adds."""
    total = np.zeros(shape)
    for x in terms:
        total = total + x
    return total


def _own_exp(x: Array) -> Array:
    """The kernels' exp, its Python text run cell by cell."""
    with np.errstate(all="ignore"):
        return np.array([cpu_float64.exp.py_func(y) for y in x.ravel()]).reshape(x.shape)


def _c_exp(x: Array) -> Array:
    return np.array([math.exp(y) for y in x.ravel().tolist()]).reshape(x.shape)


def _torch_exp(x: Array) -> Array:
    found: Array = torch.exp(torch.from_numpy(x)).numpy()
    return found


EXPS: Final[dict[str, Callable[[Array], Array]]] = {"C": _c_exp, "PyTorch": _torch_exp}
ORDERS: Final = tuple(Order(*row) for row in product(("after", "before", "divided"), EXPS, (False, True)))
EXPS["moaproof"] = _own_exp
OWN_ORDER: Final = Order("after", "moaproof", last=False)  # that of the Spec


# --- counting --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Count:
    """Elements and whole arrays that have the same bits, and how many were compared."""

    elements: int = 0
    of_elements: int = 0
    arrays: int = 0
    of_arrays: int = 0

    def add(self, a: Array, b: Array) -> None:
        same = a.shape == b.shape and (_as_bits(a) == _as_bits(b))
        self.elements += int(np.sum(same))
        self.of_elements += max(a.size, b.size)
        self.arrays += bool(np.all(same))
        self.of_arrays += 1

    @property
    def whole(self) -> bool:
        return self.elements == self.of_elements and 0 < self.arrays == self.of_arrays

    def __str__(self) -> str:
        """Percent of the elements, rounded down, and whole arrays."""
        per_mille = 1000 * self.elements // max(1, self.of_elements)
        return f"{per_mille // 10}.{per_mille % 10} %, {self.arrays}/{self.of_arrays}"


def _as_bits(x: Array) -> Array:
    return np.ascontiguousarray(x, dtype=np.float64).view(np.uint64)


def measure(sizes: Sequence[Size] = SIZES, seed: int = SEED) -> dict[str, Any]:
    """The document: for each kind of inputs and each size, the counts of each pair, on one thread."""
    with _one_thread():
        tables = [
            {"inputs": inputs, "n": s.n, "d": s.d, "arrays": s.arrays, "pairs": _counted(inputs, s, seed)}
            for inputs in INPUTS
            for s in sizes
        ]
    names = ("moaproof", "torch", "numba", "numpy")
    return {
        "schema": SCHEMA,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
        "processor": {"machine": platform.machine(), "vectors": torch.backends.cpu.get_cpu_capability(), "threads": 1},
        "seed": seed,
        "kernels": {f"{name}/float64": load(name, "float64").sha256 for name in (ROWS, ONLINE)},
        "tables": tables,
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Of PyTorch and of Numba: for arrays this small, threads of both would mostly wait for one another."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def _counted(inputs: str, size: Size, seed: int) -> list[dict[str, Any]]:
    counts: dict[Pair, Count] = {}
    rng = np.random.default_rng((seed, list(INPUTS).index(inputs), size.n, size.d))
    for _ in range(size.arrays):
        q, k, v = (INPUTS[inputs](rng, (size.n, size.d)) for _ in range(3))
        for pair, a, b in _compared(q, k, v):
            counts.setdefault(pair, Count()).add(a, b)
    return [
        {"left": pair[0], "right": pair[1], "claimed": pair in CLAIMED,
         "elements": [c.elements, c.of_elements], "arrays": [c.arrays, c.of_arrays]}
        for pair, c in counts.items()
    ]  # fmt: skip


def _compared(q: Array, k: Array, v: Array) -> Iterator[tuple[Pair, Array, Array]]:
    """Every pair of outputs for one input; of the evaluator the first rows."""
    rows, online = (kernel(name, q, k, v) for name in (ROWS, ONLINE))
    asked = max(1, ASKED // (len(k) * q.shape[1]))
    yield (ROWS, EVALUATOR), rows[:asked], evaluated(q[:asked], k, v)
    yield (ROWS, SEQUENTIAL), rows, OWN_ORDER(q, k, v)
    yield (ROWS, AGAIN), rows, kernel(ROWS, q, k, v)
    yield (ONLINE, AGAIN), online, kernel(ONLINE, q, k, v)
    yield (ROWS, ONLINE), rows, online
    theirs = {name: path(q, k, v) for name, path in PATHS.items()}
    ours = {ROWS: rows, ONLINE: online} | {str(order): order(q, k, v) for order in ORDERS}
    for left, right in product(ours, theirs):
        yield (left, right), ours[left], theirs[right]
    yield (EXPLICIT, MATH), theirs[EXPLICIT], theirs[MATH]
    yield (MATH, FLASH), theirs[MATH], theirs[FLASH]
    yield (EXPLICIT, ALONE), theirs[EXPLICIT], alone(q, k, v)


# --- reading a document ----------------------------------------------------------------------------


def _counts(table: Mapping[str, Any]) -> dict[Pair, Count]:
    """The counts of one table; those of the DNF's orders also as the best of them for each path of PyTorch."""
    found = {(p["left"], p["right"]): Count(*p["elements"], *p["arrays"]) for p in table["pairs"]}
    orders = {str(order) for order in ORDERS}
    for path in THEIRS:
        of_path = [c for (left, right), c in found.items() if left in orders and right == path]
        found[BEST, path] = max(of_path, key=lambda c: (c.arrays, c.elements))
    return found


SHOWN: Final[tuple[Pair, ...]] = (
    *CLAIMED,
    (ROWS, ONLINE),
    *product((ROWS, ONLINE, BEST), THEIRS),
    (EXPLICIT, MATH),
    (MATH, FLASH),
    (EXPLICIT, ALONE),
)


def broken(document: Mapping[str, Any]) -> list[str]:
    """What is claimed and did not hold, or was not compared, one line each."""
    return [
        f"{left} = {right}: {c} ({table['inputs']}, n = {table['n']}, d = {table['d']})"
        for table in document["tables"]
        for left, right in CLAIMED
        if not (c := _counts(table).get((left, right), Count())).whole
    ]


def verdict(document: Mapping[str, Any]) -> str:
    """What the counts say of the press's "bit-exact", with its status."""
    totals: dict[Pair, Count] = {}
    for table in document["tables"]:
        for pair, c in _counts(table).items():
            t = totals.setdefault(pair, Count())
            t.elements, t.of_elements = t.elements + c.elements, t.of_elements + c.of_elements
            t.arrays, t.of_arrays = t.arrays + c.arrays, t.of_arrays + c.of_arrays
    candidates = [ROWS, ONLINE, *map(str, ORDERS)]
    best = max(product(candidates, THEIRS), key=lambda pair: (totals[pair].arrays, totals[pair].elements))
    ours = max(product((ROWS, ONLINE), THEIRS), key=lambda pair: (totals[pair].arrays, totals[pair].elements))
    said = f"of {totals[ours].of_arrays} whole arrays {ours[0]} has the bits of {ours[1]} in {totals[ours].arrays}"
    if totals[ours].whole:
        return f'"Bit-exact" with PyTorch in float64: tested; {said}.'
    if totals[best].whole:
        return (
            f'"Bit-exact" with PyTorch in float64: refuted for our kernels: {said}; the order "{best[0]}" has those of '
            f"{best[1]} in all."
        )
    itself = totals[EXPLICIT, ALONE]
    return (
        f'"Bit-exact" with PyTorch in float64: refuted: {said}; the best of {len(candidates)} ways to evaluate the DNF '
        f"({best[0]}; against {best[1]}) in {totals[best].arrays}.  PyTorch is no such reference: its own explicit and "
        f"SDPA math paths agree in {totals[EXPLICIT, MATH].arrays}, and an array with its rows computed alone in "
        f"{itself.arrays}."
    )


def claims(document: Mapping[str, Any]) -> str:
    """What the counts say of what is claimed."""
    found = broken(document)
    if found:
        return f"Claimed, and refuted: {'; '.join(found)}."
    elements = sum(_counts(t)[ROWS, SEQUENTIAL].elements for t in document["tables"])
    return (
        f"Claimed, and tested: {ROWS} has every bit of the Spec evaluated in its own order with the kernel's exp "
        f"({elements} elements), and both kernels repeat themselves."
    )


def rows_of(document: Mapping[str, Any], inputs: str) -> tuple[list[str], list[list[str]]]:
    """The head of one table, and a row for each pair that is shown."""
    tables = [t for t in document["tables"] if t["inputs"] == inputs]
    head = ["n = d" if t["n"] == t["d"] else f"n = {t['n']}, d" for t in tables]
    counts = [_counts(t) for t in tables]
    return (
        [inputs, *(f"{h} = {t['d']}" for h, t in zip(head, tables, strict=True))],
        [[f"{left} = {right}", *(str(c[left, right]) for c in counts)] for left, right in SHOWN],
    )


def lines(document: Mapping[str, Any]) -> list[str]:
    """The tables for a terminal."""
    said = ["elements with equal bits, whole arrays with equal bits"]
    for inputs in INPUTS:
        head, rows = rows_of(document, inputs)
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        said.append("")
        said += [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in (head, *rows)
        ]
    return [*said, "", claims(document), verdict(document)]


def markdown(document: Mapping[str, Any], committed: Mapping[str, str]) -> str:
    """The section of CERTIFICATES.md; ``committed`` has the SHA-256 of each text, as "attention-rows/float64"."""
    at, torch_version, kernels = document["processor"], document["versions"]["torch"], document["kernels"]
    same = sum(committed.get(label) == digest for label, digest in kernels.items())
    parts = [
        "## Equal bits",
        "",
        "From `evidence/bits.json`, by `moaproof fuzz --bits -o evidence`: float64, one thread,",
        f"PyTorch {torch_version} on {at['machine']} with {at['vectors']};",
        f"{len(kernels)} kernels, {same} of them with the committed bytes.  Each cell: elements with equal bits, and",
        "arrays all of whose elements have them.  The evaluator is asked for the first rows of large arrays.",
        "`normal` inputs are standard normal; `integers` are of -3..3, so that dot products are exact.",
        f"The DNF has {len(ORDERS)} orders here, and each cell is of the best of them: the scale before or after the",
        "dot product, or a division by sqrt(d); C's exp or PyTorch's; each weight divided, or the row's sum at last.",
        "",
        claims(document),
        "",
        verdict(document),
        "",
    ]
    for inputs in INPUTS:
        head, rows = rows_of(document, inputs)
        parts += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join(parts)


def run(out: Path | None = None, say: Say = print) -> int:
    """``moaproof fuzz --bits``: exit code 1 if what is claimed does not hold, else 0; ``out``/bits.json is written."""
    if out is not None:
        _folder(out)
    document = measure()
    for line in lines(document):
        say(line)
    if out is not None:
        (out / "bits.json").write_bytes(canonical(document) + b"\n")
    return 1 if broken(document) else 0


def _folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bits.json").touch()
    except OSError as e:
        raise NotCovered(f"{out}: cannot be written ({e.strerror or e}); give another folder with -o") from None
