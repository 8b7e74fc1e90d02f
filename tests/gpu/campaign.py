"""Every CUDA kernel against PyTorch in float64 on the same GPU, and against itself.

    python tests/gpu/campaign.py FOLDER [--cases 5500] [--repeats 250] [--seed 0] [--device cuda]

Cases: each text with four tilings of ``moaproof.testing.gpu`` (few, because each is compiled) and with those that
``attention`` chooses; extents 0, 1, a tile less one, a tile, a tile and one; masks, groups, layouts, regimes of scores,
pools of values, of ``moaproof.testing.strategies``.  Each output element must be within the certificate's error
bound of PyTorch's, computed twice with the same bits, and no input may have changed.  Repeats: one ragged call of each
text, all of whose outputs must have the same bits.

Writes FOLDER/campaign.json.  Exit code 1 if anything failed; the cases that failed are in the file.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moaproof import attention
from moaproof.errors import NotCovered
from moaproof.runtime.attention import run, tiled
from moaproof.testing import gpu
from moaproof.testing.errors import Verdict, bounds_of, judge
from moaproof.testing.gpu import TILINGS, Tensors, Text
from moaproof.testing.strategies import LAYOUTS, PATTERNS, POOLS, REGIMES, Case

PER_TEXT = 4  # tilings of one text
CHOSEN = ((64, 64), (16, 48))  # head sizes with the tiles that ``attention`` chooses
TILES = ("ri", "ty", "rj", "tx", "rc", "bq", "bk", "bp")


@dataclass(slots=True)
class Found:
    """What was seen: by family (text), by tiling, the worst observed/bound, and what failed."""

    cases: int = 0
    elements: int = 0
    outside: int = 0
    worst: dict[str, float] = field(default_factory=dict)
    count: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, labels: list[str], verdict: Verdict, size: int) -> None:
        self.cases += 1
        self.elements += size
        for label in labels:
            self.count[label] += 1
            self.worst[label] = max(self.worst.get(label, 0.0), verdict.ratio)


def around(tile: int, rng: np.random.Generator) -> int:
    """An extent: small, or next to one, two or three tiles."""
    edges = [0, 1, 2, 3, tile - 1, tile, tile + 1, 2 * tile - 1, 2 * tile, 2 * tile + 1, 3 * tile + 1, 5, 7, 17, 67]
    return int(rng.choice([e for e in edges if 0 <= e <= 200]))


def draw(text: Text, tiling: int | None, rng: np.random.Generator) -> tuple[Case, gpu.Block | None, int]:
    """A case of a text, its block and the tiles in a chunk; no block: what ``attention`` chooses."""
    if tiling is None:
        dk, dv = CHOSEN[int(rng.integers(len(CHOSEN)))]
        block, bk, rows, keys = None, 0, 64, 64
    else:
        dk, dv, block, bk = TILINGS[tiling]
        rows, keys = block.ri * block.ty, block.rj * block.tx
    n, m = around(rows, rng), around(keys if rng.random() < 0.7 else max(1, bk) * keys, rng)
    if tiling is None and rng.random() < 0.5:
        n, m = int(rng.integers(1, 20)), int(rng.integers(300, 900))  # few queries and many keys: split
    scale = rng.choice([math.nan, 1.0, 0.1, -0.5, 0.0])
    case = gpu.case_of(
        text,
        b=int(rng.choice([1, 2, 0], p=[0.5, 0.45, 0.05])),
        g=int(rng.choice([1, 2, 3])),
        n=n,
        m=n if rng.random() < 0.2 else m,
        dk=dk,
        dv=dv,
        pattern=str(rng.choice(PATTERNS)),
        steps=tuple(int(s) for s in rng.integers(0, 2, 4)),
        regime=str(rng.choice(REGIMES)),
        pool=str(rng.choice(POOLS)),
        layout=str(rng.choice(LAYOUTS)),
        scale=None if math.isnan(scale) and dk else 1.0 if math.isnan(scale) else float(scale),
        seed=int(rng.integers(2**32)),
    )
    return case, block, bk


def bits(t: torch.Tensor) -> torch.Tensor:
    return t.contiguous().view(torch.int64 if t.dtype == torch.float64 else torch.int32)


def snapshot(x: Tensors) -> list[torch.Tensor]:
    floats = [bits(t.clone()) for t in (x.q, x.k, x.v)]
    return floats if x.mask is None else [*floats, x.mask.clone()]


def attempt(text: Text, case: Case, block: gpu.Block | None, bk: int, device: str, found: Found) -> Any:
    """Run one case; what is left to judge on the CPU, as a function."""
    x = gpu.tensors(case, device)
    call = x.prepared(case)
    if block is None:
        call, sizes = tiled(call)
        text = Text(text.kind, call.certificate.rpartition("-")[2], text.dtype)
        label = "as chosen"
    else:
        call = gpu.named(call, text.certificate)
        sizes = call.sizes | gpu.tiles_of(text, call.sizes, block, bk)
        label = f"dk={case.dk} dv={case.dv} {block.ri}x{block.ty} rows {block.rj}x{block.tx} keys"
    before = snapshot(x)
    first = attention(x.q, x.k, x.v, **x.options(case)) if block is None else run(call, sizes)
    again = run(call, sizes)
    due = gpu.reference(x, case, float(call.inputs["scale"]))
    same = torch.equal(bits(first), bits(again))
    untouched = all(torch.equal(a, b) for a, b in zip(before, snapshot(x), strict=True))
    arrays = first.cpu().numpy(), due.cpu().numpy()

    def verdict() -> None:
        where = {"text": text.label, "case": case.to_json(), "tiles": {s: v for s, v in sizes.items() if s in TILES}}
        try:
            result = judge(*arrays, gpu.tolerance(x, call, sizes))
        except NotCovered as e:
            if not str(e).startswith("error bound"):
                raise
            found.outside += 1
            result = None
        if result is not None:
            found.add([text.label, case.regime, label], result, arrays[0].size)
            if not result.accepted:
                found.failures.append({**where, "why": f"element {result.index}: {result.found!r} for {result.due!r}",
                                       "ratio": result.ratio})  # fmt: skip
        if not same:
            found.failures.append({**where, "why": "two runs gave different bits"})
        if not untouched:
            found.failures.append({**where, "why": "an input was changed"})

    return verdict


def explore(
    texts: list[Text],
    cases: int,
    seed: int,
    device: str,
    found: Found,
    tilings: int = PER_TEXT,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Draw, run and judge; the judging goes on beside the next runs, and what is done is saved after each text."""
    each = -(-cases // max(1, len(texts)))
    with ThreadPoolExecutor(8) as pool:
        for number, text in enumerate(texts):
            for schedule in ("online", "split") if "causal" not in text.kind else ("online",):
                bounds_of(f"{text.kind}-cuda-{schedule}", text.dtype, "cuda")  # terms are made by one thread
            rng = np.random.default_rng([seed, number])
            tried = [(tilings * number + i) % len(TILINGS) for i in range(tilings)]
            start = time.perf_counter()
            waiting = []
            for i in range(each):
                tiling = None if i % (tilings + 1) == tilings else tried[i % (tilings + 1)]
                waiting.append(pool.submit(attempt(text, *draw(text, tiling, rng), device, found)))
            for w in waiting:
                w.result()
            save()
            took = time.perf_counter() - start
            print(f"{text.label:36} {each} cases in {took:.0f} s, {len(found.failures)} failures so far", flush=True)


def repeat(texts: list[Text], repeats: int, device: str) -> Iterator[dict[str, Any]]:
    """One ragged call of each text, again and again while another stream keeps the device busy."""
    for text in texts:
        case = gpu.case_of(text, b=2, n=131, m=389, dk=64, dv=64, pattern="random", seed=7)
        x = gpu.tensors(case, device)
        call = gpu.named(x.prepared(case), text.certificate)
        sizes = call.sizes | gpu.tiles_of(text, call.sizes, gpu.Block(4, 16, 4, 16), 1)
        first = bits(run(call, sizes))
        other = torch.cuda.Stream()
        noise = torch.randn(1024, 1024, device=device)
        different = 0
        for _ in range(repeats):
            with torch.cuda.stream(other):
                noise = torch.tanh(noise @ noise)
            different += not torch.equal(first, bits(run(call, sizes)))
        yield {"text": text.label, "repeats": repeats, "different": different}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=5500)
    parser.add_argument("--tilings", type=int, default=PER_TEXT, help="of each text; each is compiled")
    parser.add_argument("--repeats", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", help="texts whose label contains this")
    args = parser.parse_args()
    texts = [t for t in gpu.texts() if args.only is None or args.only in t.label]
    found = Found()
    start = time.perf_counter()
    repeats: list[dict[str, Any]] = []

    def save() -> None:
        rows = {label: {"cases": found.count[label], "worst": worst} for label, worst in sorted(found.worst.items())}
        gpu.write(args.folder, "campaign", {
            "seed": args.seed, "seconds": time.perf_counter() - start, "cases": found.cases, "elements": found.elements,
            "outside_the_error_bound": found.outside, "rows": rows, "repeats": repeats, "failures": found.failures,
        })  # fmt: skip

    explore(texts, args.cases, args.seed, args.device, found, args.tilings, save)
    repeats += repeat(texts, args.repeats, args.device)
    save()
    bad = len(found.failures) + sum(r["different"] for r in repeats)
    worst = max(found.worst.values(), default=0.0)
    print(f"{found.cases} cases, {found.elements} elements, worst observed/bound {worst:.3f}; "
          f"{len(repeats)} texts {args.repeats} times; {bad} failures")  # fmt: skip
    for failure in found.failures[:5]:
        print(failure)
    return 1 if bad or found.cases == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
