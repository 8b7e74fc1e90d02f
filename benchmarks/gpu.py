"""CUDA kernels on a GPU: times against PyTorch, memory, traffic.  Run by hand; each part writes JSON into a folder.

    python benchmarks/gpu.py time FOLDER     medians of interleaved rounds against each path of PyTorch that runs
    python benchmarks/gpu.py long FOLDER     one head of 131072 rows: memory, and some rows against float64 in chunks
    python benchmarks/gpu.py traffic FOLDER  bytes from DRAM and through L2, by Nsight Compute (``ncu``)
    python benchmarks/gpu.py profile FOLDER  which unit is busy and what warps wait for, by Nsight Compute
    python benchmarks/gpu.py tune FOLDER     other blocks of threads than ``attention`` takes

Times are of CUDA events around one call, after warming up, each with a cold L2; what Python does for the call is hidden
behind a pause of the device, for all alike.  Memory is PyTorch's peak over inputs and output.
"""

from __future__ import annotations

import argparse
import csv
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from moaproof import attention
from moaproof.errors import NotCovered
from moaproof.runtime import cuda_tiles
from moaproof.runtime.attention import prepare, run, tiled
from moaproof.runtime.cuda_tiles import Block
from moaproof.testing import gpu

SHAPES = ((16, 4096, 64), (16, 4096, 128))
DTYPES = {"float64": torch.float64, "float32": torch.float32}
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
ROUNDS = 15
CHUNK = 1024  # queries of a chunk in the fair peer
Maker = Callable[[], torch.Tensor]


def inputs(heads: int, n: int, d: int, dtype: str, m: int | None = None) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, heads, rows, d, dtype=DTYPES[dtype], device="cuda") for rows in (n, m or n, m or n)]


def chunked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    """What a user would write where the score matrix does not fit: chunks of queries, over the keys they can see."""
    out = torch.empty_like(q)
    keys = torch.arange(k.shape[-2], device=q.device)
    for i in range(0, q.shape[-2], CHUNK):
        rows = min(CHUNK, q.shape[-2] - i)
        end = i + rows if causal else k.shape[-2]
        s = q[..., i : i + rows, :] @ k[..., :end, :].transpose(-1, -2) / math.sqrt(q.shape[-1])
        if causal:
            s.masked_fill_(keys[None, :end] > torch.arange(i, i + rows, device=q.device)[:, None], -math.inf)
        out[..., i : i + rows, :] = torch.softmax(s, -1) @ v[..., :end, :]
    return out


def peers(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> dict[str, Maker]:
    """The paths of PyTorch that run for these tensors."""

    def path(backend: SDPBackend) -> Maker:
        def call() -> torch.Tensor:
            with sdpa_kernel([backend]):
                return scaled_dot_product_attention(q, k, v, is_causal=causal)

        return call

    found: dict[str, Maker] = {}
    for name, backend in BACKENDS.items():
        try:
            path(backend)()
            found[name] = path(backend)
        except RuntimeError:  # no such kernel for this dtype, or no memory
            torch.cuda.empty_cache()
    return {**found, "chunked": lambda: chunked(q, k, v, causal)}


class Clock:
    """Times of single calls, in milliseconds, each with a cold L2."""

    def __init__(self) -> None:
        self.flush = torch.empty(2**28, dtype=torch.uint8, device="cuda")

    def __call__(self, f: Maker) -> float:
        self.flush.zero_()
        torch.cuda._sleep(4_000_000)  # noqa: SLF001  about 2 ms: what Python does for the call is done meanwhile
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        f()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end))


def peak(f: Maker) -> int:
    """Bytes over inputs and output."""
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = f()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before - out.nbytes


def spread(times: list[float]) -> dict[str, Any]:
    return {"ms": statistics.median(times), "least": min(times), "most": max(times), "rounds": len(times)}


def flops(heads: int, n: int, m: int, d: int, causal: bool) -> float:
    """Two products; of a causal call the visible pairs alone."""
    return 4.0 * heads * d * (n * (n + 1) / 2 if causal else n * m)


def compare(heads: int, n: int, d: int, dtype: str, causal: bool, clock: Clock, m: int | None = None) -> dict[str, Any]:
    q, k, v = inputs(heads, n, d, dtype, m)
    makers: dict[str, Maker] = {"moaproof": lambda: attention(q, k, v, is_causal=causal)}
    makers |= peers(q, k, v, causal)
    due = chunked(q[:, :1].double(), k[:, :1].double(), v[:, :1].double(), causal)
    rows: dict[str, dict[str, Any]] = {}
    for name, f in makers.items():
        f()  # compiles, and warms up
        error = float((f()[:, :1].double() - due).norm() / due.norm())
        rows[name] = {"relative_error": error, "peak_bytes": peak(f)}
    rounds = [{name: clock(f) for name, f in makers.items()} for _ in range(ROUNDS)]
    work = flops(heads, n, m or n, d, causal)
    for name in makers:
        rows[name] |= spread([r[name] for r in rounds])
        rows[name]["tflops"] = work / rows[name]["ms"] / 1e9
    best = min((name for name in makers if name != "moaproof"), key=lambda name: float(rows[name]["ms"]))
    call, sizes = tiled(prepare(q, k, v, is_causal=causal))
    ratio = statistics.median(r[best] / r["moaproof"] for r in rounds)
    ours, theirs = rows["moaproof"], rows[best]
    print(
        f"{dtype} {heads}x{n}x{m or n}x{d}{' causal' if causal else ''}: {ours['ms']:.3f} ms, {ours['tflops']:.1f} "
        f"TFLOP/s, error {ours['relative_error']:.1e}; {best} {theirs['ms']:.3f} ms, {ratio:.2f} times ours",
        flush=True,
    )
    return {"dtype": dtype, "heads": heads, "n": n, "m": m or n, "d": d, "causal": causal, "rows": rows,
            "certificate": call.certificate, "sizes": sizes, "best": best, "best_over_moaproof": ratio}  # fmt: skip


def time_all(folder: Path) -> None:
    clock = Clock()
    found = []
    for dtype in DTYPES:
        for heads, n, d in SHAPES:
            found += [compare(heads, n, d, dtype, causal, clock) for causal in (False, True)]
        found.append(compare(16, 1, 128, dtype, False, clock, m=131072))  # one query: few rows and many keys
        gpu.write(folder, "time", {"rows": found, "chunk": CHUNK})


def long(folder: Path, n: int = 131072, d: int = 64) -> None:
    """One head whose scores would be 128 GiB; the rows compared are the first, the last, and some between."""
    q, k, v = inputs(1, n, d, "float64")
    attention(q[:, :, :4096], k, v)
    out, over = attention(q, k, v), peak(lambda: attention(q, k, v))
    rows = sorted({0, 1, 63, 64, n // 3, n // 2, n - 65, n - 1})
    exact = torch.softmax(q[0, 0, rows] @ k[0, 0].T / math.sqrt(d), -1) @ v[0, 0]
    error = float((out[0, 0, rows] - exact).abs().max() / v.abs().max())
    clock = Clock()
    times = spread([clock(lambda: attention(q, k, v)) for _ in range(3)])
    whole = sum(t.nbytes for t in (q, k, v, out))
    print(f"n={n}: {times['ms']:.1f} ms, {over / 2**20:.1f} MiB over inputs and output ({whole / 2**20:.0f} MiB), "
          f"error {error:.1e}")  # fmt: skip
    gpu.write(folder, "long", {"n": n, "d": d, "over_bytes": over, "arrays_bytes": whole, "scores_bytes": n * n * 8,
                               "rows_compared": rows, "error_over_largest_value": error, **times})  # fmt: skip


# --- traffic ----------------------------------------------------------------------------------------

METRICS = ("dram__bytes_read.sum", "dram__bytes_write.sum", "lts__t_bytes.sum", "gpu__time_duration.sum")
NCU = ["ncu", "--profile-from-start", "off", "--clock-control", "none", "--csv", "--print-units", "base", "--metrics"]
NCU.append(",".join(METRICS))
LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)
STORED = (1024, 4096, 8192)  # lengths for the path that stores its scores
TRAFFIC = {"heads": 4, "d": 64}


def traffic(folder: Path) -> None:
    """Counters of one call at each length, of ours and of the path that stores its scores: this program under ncu."""
    if shutil.which("ncu") is None:
        sys.exit("benchmarks/gpu.py: ncu (Nsight Compute) is not on the PATH")
    found = []
    for dtype, itemsize in (("float64", 8), ("float32", 4)):
        for whose, lengths in (("moaproof", LENGTHS), ("math", STORED)):
            command = [*NCU, sys.executable, __file__, "traffic-of", whose, dtype]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
            marks = [line.split() for line in done.stdout.splitlines() if line.startswith("launches ")]
            if done.returncode or len(lines) < 2 or len(marks) != len(lengths):
                sys.exit(f"ncu failed: {done.stdout[-2000:]} {done.stderr[-2000:]}")
            kernels: dict[str, dict[str, str]] = {}  # by number, in order
            for row in csv.DictReader(lines):
                kernel = kernels.setdefault(row["ID"], {"name": row["Kernel Name"][:60]})
                kernel[row["Metric Name"]] = row["Metric Value"]
            rows = list(kernels.values())
            counts = [int(count) if whose == "moaproof" else len(rows) // len(lengths) for *_, count in marks]
            for k, length in enumerate(lengths):
                own = rows[sum(counts[:k]) : sum(counts[: k + 1])]
                totals = {m: sum(float(k[m].replace(",", "")) for k in own) for m in METRICS}
                one = TRAFFIC["heads"] * length * TRAFFIC["d"] * itemsize
                totals |= {"read_over_compulsory": totals[METRICS[0]] / (3 * one), "compulsory_read": 3 * one}
                print(whose, dtype, length, {k: round(v, 3) for k, v in totals.items()}, flush=True)
                names = sorted({k["name"] for k in own})
                found.append({"whose": whose, "dtype": dtype, "n": length, **TRAFFIC, **totals, "kernels": names})
        gpu.write(folder, "traffic", {"rows": found})


def traffic_of(whose: str, dtype: str) -> None:
    """One call at each length between the profiler's marks; says how many kernels ours launches."""
    runtime = torch.cuda.cudart()
    for n in LENGTHS if whose == "moaproof" else STORED:
        q, k, v = inputs(TRAFFIC["heads"], n, TRAFFIC["d"], dtype)
        call, _ = tiled(prepare(q, k, v))

        def once(q: torch.Tensor = q, k: torch.Tensor = k, v: torch.Tensor = v) -> torch.Tensor:
            if whose == "moaproof":
                return attention(q, k, v)
            with sdpa_kernel([SDPBackend.MATH]):
                return scaled_dot_product_attention(q, k, v)

        once()
        torch.cuda.synchronize()
        runtime.cudaProfilerStart()
        once()
        torch.cuda.synchronize()
        runtime.cudaProfilerStop()
        print(f"launches {n} {2 if call.certificate.endswith('split') else 1}", flush=True)


# --- where the time goes ----------------------------------------------------------------------------

PROFILE = (
    "gpu__time_duration.sum",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_fp64.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_lsu.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_alu.avg.pct_of_peak_sustained_active",
    "smsp__inst_executed.sum",
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_dfma_pred_on.sum",
    "l1tex__data_bank_conflicts_pipe_lsu.sum",
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_short_scoreboard_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio",
)


def profile(folder: Path) -> None:
    """Counters of one call at each shape of ``time``: which unit is busy, and what warps wait for."""
    command = [*NCU[:-1], ",".join(PROFILE), sys.executable, __file__, "profile-of"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    kernels: dict[str, dict[str, float | str]] = {}
    for row in csv.DictReader(lines):
        kernel = kernels.setdefault(row["ID"], {"name": row["Kernel Name"][:60]})
        value = row["Metric Value"].replace(",", "")
        kernel[row["Metric Name"]] = float(value) if value.replace(".", "", 1).isdigit() else value
    shapes = [
        {"dtype": dtype, "heads": h, "n": n, "d": d, "causal": causal}
        for dtype in DTYPES for h, n, d in SHAPES for causal in (False, True)
    ]  # fmt: skip
    if done.returncode or len(kernels) != len(shapes):
        sys.exit(f"ncu failed: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    found = [shape | kernel for shape, kernel in zip(shapes, kernels.values(), strict=True)]
    for row in found:
        print(row, flush=True)
    gpu.write(folder, "profile", {"rows": found})


def profile_of() -> None:
    runtime = torch.cuda.cudart()
    for dtype in DTYPES:
        for heads, n, d in SHAPES:
            for causal in (False, True):
                q, k, v = inputs(heads, n, d, dtype)
                attention(q, k, v, is_causal=causal)
                torch.cuda.synchronize()
                runtime.cudaProfilerStart()
                attention(q, k, v, is_causal=causal)
                torch.cuda.synchronize()
                runtime.cudaProfilerStop()


# --- tuning -----------------------------------------------------------------------------------------

BLOCKS = (
    *(Block(ri, 16, rj, 16) for ri in (2, 4, 8) for rj in (1, 2, 4, 8)),
    *(Block(4, 32, rj, 16) for rj in (2, 4)),
    *(Block(4, 16, rj, 32) for rj in (1, 2)),
    *(Block(ri, 8, rj, 16) for ri in (4, 8) for rj in (2, 4)),
    *(Block(ri, 8, rj, 8) for ri in (4, 8) for rj in (4, 8)),
)
FEW = (*(Block(1, 1, rj, tx) for rj in (1, 2) for tx in (32, 64, 128)), *(Block(1, 4, 1, tx) for tx in (16, 32, 64)))


def tune(folder: Path) -> None:
    """Each block at each shape: milliseconds, or why it does not run."""
    clock = Clock()
    found = []
    calls = [(16, 4096, 4096, d, dtype, BLOCKS, False) for dtype in DTYPES for d in (64, 128)]
    calls += [(16, 4096, 4096, 64, dtype, BLOCKS[:8], True) for dtype in DTYPES]
    calls += [(16, 1, 131072, 128, dtype, FEW, False) for dtype in DTYPES]
    for heads, n, m, d, dtype, blocks, causal in calls:
        q, k, v = inputs(heads, n, d, dtype, m)
        call = prepare(q, k, v, is_causal=causal)
        device = gpu.device()
        for block in blocks:
            name, tiles = cuda_tiles.plan(call.certificate, call.sizes, block, device)
            row: dict[str, Any] = {"heads": heads, "n": n, "m": m, "d": d, "dtype": dtype, "causal": causal}
            row |= {"certificate": name, "block": [block.ri, block.ty, block.rj, block.tx]}
            try:
                made = gpu.named(call, name)
                run(made, call.sizes | tiles)
                row |= spread([clock(lambda: run(made, call.sizes | tiles)) for _ in range(3)])  # noqa: B023
                row["tflops"] = flops(heads, n, m, d, causal) / row["ms"] / 1e9
            except NotCovered as e:
                row["why"] = str(e)
            print({k: v for k, v in row.items() if k not in {"heads", "rounds", "least", "most"}}, flush=True)
            found.append(row)
        gpu.write(folder, "tune", {"rows": found})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("time", "long", "traffic", "profile", "tune"):
        parts.add_parser(name).add_argument("folder", type=Path)
    parts.add_parser("profile-of")
    one = parts.add_parser("traffic-of")
    one.add_argument("whose")
    one.add_argument("dtype")
    args = parser.parse_args()
    if args.part == "traffic-of":
        traffic_of(args.whose, args.dtype)
    elif args.part == "profile-of":
        profile_of()
    else:
        run_part = {"time": time_all, "long": long, "traffic": traffic, "profile": profile, "tune": tune}
        run_part[args.part](args.folder)


if __name__ == "__main__":
    main()
