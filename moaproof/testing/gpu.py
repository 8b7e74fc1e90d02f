"""CUDA kernels under test: which there are, blocks that are no favourite of theirs, their error bound, the reference.

Needs no GPU to import.  The programs that use it are in ``tests/gpu`` and ``benchmarks/gpu.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from .. import __version__
from ..errors import NotCovered
from ..runtime import cuda_tiles
from ..runtime.attention import Call, prepare
from ..runtime.cuda import Device, device_of
from ..runtime.cuda_tiles import Block
from ..runtime.loader import load, package_folder
from .errors import kernel_tolerance, torch_tolerance
from .strategies import Case, pattern, scores, values

Array = np.ndarray[Any, Any]

# dk, dv, block, tiles of a chunk: every extent of a tile is 1 somewhere, and none is always a power of two.
TILINGS: Final = (
    (1, 1, Block(1, 1, 1, 1), 2),
    (2, 3, Block(3, 5, 2, 7), 1),
    (5, 8, Block(1, 4, 1, 4), 3),
    (13, 16, Block(2, 2, 3, 5), 2),
    (8, 8, Block(2, 8, 2, 8), 1),
    (16, 13, Block(1, 8, 1, 32), 2),
    (0, 4, Block(1, 2, 2, 4), 1),
    (3, 65, Block(2, 4, 2, 8), 3),
    (32, 40, Block(4, 8, 2, 16), 1),
    (64, 64, Block(4, 16, 4, 16), 1),
    (80, 80, Block(2, 16, 2, 16), 2),
    (128, 128, Block(1, 16, 1, 16), 2),
)


@dataclass(frozen=True, slots=True)
class Text:
    """A committed CUDA text: the kind of attention, the schedule (online or split) and the dtype."""

    kind: str
    schedule: str
    dtype: str

    @property
    def certificate(self) -> str:
        return f"{self.kind}-cuda-{self.schedule}"

    @property
    def label(self) -> str:
        return f"{self.certificate}/{self.dtype}"


def texts(certs: Path | None = None) -> list[Text]:
    """All of them, in order of their names."""
    found = []
    for path in sorted((certs or package_folder("certs")).glob("*-cuda-*.json")):
        kind, _, schedule = path.stem.partition("-cuda-")
        targets = {k["dtype"] for k in json.loads(path.read_bytes())["kernels"] if k["target"] == "cuda"}
        found += [Text(kind, schedule, dtype) for dtype in ("float64", "float32") if dtype in targets]
    return found


def case_of(text: Text, **fields: Any) -> Case:
    """A case of that kind and dtype: grouped or not, plain, causal or masked."""
    grouped = text.kind.startswith("gqa")
    kind = next((k for k in ("causal", "masked") if k in text.kind), "plain")
    return Case(**{"g": 2, "r": 2 if grouped else 1, "kind": kind, "dtype": text.dtype} | fields)


def tiles_of(text: Text, sizes: Mapping[str, int], block: Block, bk: int) -> dict[str, int]:
    return cuda_tiles.online(sizes, block) if text.schedule == "online" else cuda_tiles.split(sizes, block, bk)


# --- tensors ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tensors:
    """The inputs of a case on some device, and what they are as NumPy arrays of float64."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None
    exact: tuple[Array, Array, Array]
    seen: Array  # broadcasts to (b, h, n, m)

    def prepared(self, case: Case) -> Call:
        return prepare(self.q, self.k, self.v, **self.options(case))

    def options(self, case: Case) -> dict[str, Any]:
        grouped = self.q.shape[1] != self.k.shape[1]
        options = {"attn_mask": self.mask, "is_causal": case.kind == "causal", "scale": case.scale}
        return options | {"enable_gqa": grouped}


def tensors(case: Case, device: str) -> Tensors:
    """A case, placed on the device as its layout says."""
    rng = np.random.default_rng(case.seed)
    q, k = scores(case, rng)
    Q, K, V = (_placed(x.astype(case.dtype), case.layout, device) for x in (q, k, values(case, rng)))
    exact = _exact(Q), _exact(K), _exact(V)
    mask = None
    seen: Array = np.ones((1, 1, case.n, case.m), dtype=bool)
    if case.kind == "masked":
        seen = pattern(case, rng)
        mask = torch.from_numpy(seen).to(device)
        if case.layout == "transposed":
            mask = mask.transpose(-1, -2).contiguous().transpose(-1, -2)
    elif case.kind == "causal":
        seen = np.tril(seen[0, 0])[None, None]
    return Tensors(Q, K, V, mask, exact, seen)


def _exact(t: torch.Tensor) -> Array:
    found: Array = t.cpu().numpy().astype(np.float64)
    return found


def _placed(x: Array, layout: str, device: str) -> torch.Tensor:
    t = torch.from_numpy(x).to(device)
    match layout:
        case "transposed":
            return t.transpose(1, 2).contiguous().transpose(1, 2)
        case "sliced":
            wide = torch.full(
                (*t.shape[:2], t.shape[2] + 2, 2 * t.shape[3] + 1), math.nan, dtype=t.dtype, device=device
            )
            view = wide[:, :, 1 : t.shape[2] + 1, 1::2]
            view.copy_(t)
            return view
        case "columns":
            return t.transpose(2, 3).contiguous().transpose(2, 3)
        case "offset":
            wide = torch.full((t.numel() + 2,), math.nan, dtype=t.dtype, device=device)
            wide[1:-1] = t.reshape(-1)
            return wide[1:-1].view(t.shape)
        case "expanded":
            return t[:1].expand(t.shape)
    return t


def reference(x: Tensors, case: Case, scale: float) -> torch.Tensor:
    """PyTorch's attention of the same values in float64, on their device, by the path that is plain products.

    ``scale`` is that which the kernel gets.  As ``oracles.sdpa``: PyTorch is given -q and -scale where the scale is not
    positive, which is exact.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (t.to(torch.float64) for t in (x.q, x.k, x.v))
    if scale <= 0:
        q, scale = (-q, -scale) if scale < 0 else (torch.zeros_like(q), 1.0)
    options = x.options(case) | {"scale": scale}
    with sdpa_kernel([SDPBackend.MATH]):
        found: torch.Tensor = torch.nn.functional.scaled_dot_product_attention(q, k, v, **options)
    return found


# --- the error bound --------------------------------------------------------------------------------


def tolerance(x: Tensors, call: Call, sizes: Mapping[str, int]) -> Array:
    """The kernel's own bound and PyTorch's, added: (b, h, n, dv)."""
    q, k, v = x.exact
    values: dict[str, Array] = {"q": q, "k": k, "v": v, "scale": np.asarray(call.inputs["scale"])}
    if x.mask is not None:
        mask = call.inputs["mask"]
        values["mask"] = mask.cpu().numpy() if isinstance(mask, torch.Tensor) else mask
    parts = (call.certificate, call.dtype, sizes, values, "cuda")
    return kernel_tolerance(*parts) + torch_tolerance(*parts)


# --- what a result is of ----------------------------------------------------------------------------


def environment() -> dict[str, Any]:
    """Device, versions, command, and the digests of the kernels."""
    p = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(driver, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        said = []
    names = ("torch", "numba", "numba-cuda", "llvmlite", "numpy", "cuda-bindings")
    return {
        "device": p.name,
        "multiprocessors": p.multi_processor_count,
        "memory": p.total_memory,
        "driver": said[:1],
        "cuda": torch.version.cuda,
        "moaproof": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
        "command": [Path(sys.argv[0]).name, *("FOLDER" if Path(a).is_absolute() else a for a in sys.argv[1:])],
        "kernels": {t.label: load(t.certificate, t.dtype, target="cuda").sha256 for t in texts()},
        "programs": {t.label: program(load(t.certificate, t.dtype, target="cuda").source) for t in texts()},
    }


def program(text: bytes) -> str:
    """The SHA-256 of a kernel's text without its docstring, which names the derivation."""
    return hashlib.sha256(text.partition(b'"""\n\n')[2]).hexdigest()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def write(folder: Path, name: str, document: Mapping[str, Any]) -> None:
    """A result with its environment, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": f"moaproof/gpu-{name}/1", "environment": environment(), **document}, indent=1)
    (folder / f"{name}.json").write_text(text + "\n")


def named(call: Call, certificate: str) -> Call:
    """The call by this very kernel, whatever ``attention`` would choose."""
    if certificate.partition("-cuda-")[0] != call.certificate:
        raise NotCovered(f"{certificate}: the call is for {call.certificate}")
    return replace(call, certificate=certificate)


def device() -> Device:
    return device_of(torch.cuda.current_device())
