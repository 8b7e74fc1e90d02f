"""``attention``: PyTorch tensors in, a certified kernel, PyTorch tensors out.

What it may be called with is checked here by name, and what the certificate assumed is checked again in ``launch``.
Nothing falls back to another implementation: what is not covered raises ``NotCovered``.

Letters: n queries, m keys, dk and dv head sizes, b batch, h query heads, g key heads; tq queries and tk keys a tile
of a CPU kernel (those of a CUDA kernel are in ``cuda_tiles``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..errors import NotCovered
from . import cuda, cuda_tiles
from .launch import launch
from .loader import load

DTYPES: Final = {torch.float64: "float64", torch.float32: "float32"}
# The tiles that were fastest for (8 heads, 2048, 2048, 64), by benchmarks/attention.py: 2 KiB of queries in one loop.
LANES: Final = {"float64": 256, "float32": 512}
KEYS: Final = 64
FEWEST_LANES: Final = 8  # one vector of float64

Scale = np.float64 | np.float32


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q k^T * scale) v by a kernel whose derivation ``moaproof check`` re-checks.

    Shapes: ``q`` (.., h, n, dk), ``k`` (.., h, m, dk), ``v`` (.., h, m, dv); the result is (.., h, n, dv), contiguous.
    Any number of leading axes, or none: (n, dk) with (m, dk) and (m, dv) is one head.  They are not broadcast.  All
    tensors are float64 or all float32, and all on the CPU or on one CUDA device; so is the result.

    ``attn_mask``: boolean, True is visible, broadcastable to (.., h, n, m); it is read where it lies.
    ``is_causal``: query i sees key j when j <= i, aligned top left for any n and m, as in PyTorch; not together
    with ``attn_mask``. ``scale``: a finite number; None is 1/sqrt(dk).  ``enable_gqa``: k and v may have g heads
    where h is a multiple of g; query head i reads key head i // (h/g).

    A row with no visible key, and every row when m = 0, is 0.  Any other size may be 0 as well.

    Contiguous, aligned tensors are passed without a copy; others (transposed, sliced, expanded, lazily negated, at an
    odd address) are packed first.  q, k, v and the mask may share memory; the result shares none with them.  In float32
    the scale is rounded to float32.

    NaN and infinity.  What stands in a masked key's row of k and v, or above the diagonal, has no influence; nor has
    a query that sees no key, whose row is 0.  A NaN in a query, in a visible key or in ``scale`` times their product
    makes the whole output row NaN; in a visible value, its column.  If a visible score overflows or comes from an
    infinity the row holds NaN or the limit, and nothing is claimed of it.  The error bound of the certificate
    (``moaproof explain --bound``) supposes finite inputs, and finite scores and sums.

    Bits: the same inputs give the same bits on every call, and a row's bits depend neither on what is in other rows nor
    on the number of threads.  On a GPU they depend on all sizes and on the device, which decide the tiles
    (``cuda_tiles``); on the CPU not even on the number of rows.  They differ from PyTorch's, and a GPU's from a CPU's.

    On a GPU the kernel runs on PyTorch's current stream, and nothing waits for it.  The first call for some head sizes,
    dtype and tiles compiles it: seconds.

    Raises ``NotCovered`` for anything else: a float mask, inputs that require grad while grad mode is on (there is no
    backward yet: use ``torch.no_grad()`` or ``detach()``), other dtypes, devices and layouts, mixed dtypes, shapes that
    do not fit.  There is no dropout.  Raises ``DigestMismatch`` if a kernel is not the one that was checked.
    """
    call = prepare(q, k, v, attn_mask=attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa)
    if call.device.type == "cuda":
        return run(*tiled(call))
    return run(call, call.sizes | tiles(call.sizes, call.dtype))


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is covered: the certificate's name, the kernel's dtype, its inputs and sizes (tiles apart).

    On a GPU the certificate is that of the kind of attention, until ``tiled`` has chosen the kernel.
    """

    certificate: str
    dtype: str
    inputs: dict[str, Any]
    sizes: dict[str, int]
    shape: tuple[int, ...]
    device: torch.device


def prepare(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Call:
    """Everything that ``attention`` checks by name, and its arguments as a kernel takes them."""
    if type(torch.empty(0, device="cpu")) is not Tensor:
        raise NotCovered("attention: a mode is active in which tensors hold no numbers (FakeTensorMode, say); leave it")
    for option, given in (("is_causal", is_causal), ("enable_gqa", enable_gqa)):
        if type(given) is not bool:
            raise NotCovered(f"attention: {option} is a {type(given).__name__}; True or False is covered")
    tensors = {"q": q, "k": k, "v": v}
    for name, x in tensors.items():
        _check_tensor(name, x)
    _check_devices(tensors)
    if not q.dtype == k.dtype == v.dtype:
        raise NotCovered(f"attention: q, k, v are {q.dtype}, {k.dtype}, {v.dtype}; one dtype for all three is covered")
    if q.dtype not in DTYPES:
        raise NotCovered(f"attention: q is {q.dtype}; float64 and float32 are covered")
    if attn_mask is not None and is_causal:
        raise NotCovered("attention: attn_mask together with is_causal; combine them into one boolean attn_mask")
    dtype = DTYPES[q.dtype]
    sizes = _sizes(q, k, v, enable_gqa)
    inputs: dict[str, Any] = {name: _flat(x) for name, x in tensors.items()}
    inputs["scale"] = _scale(scale, sizes["dk"], dtype)
    if attn_mask is not None:
        mask = _mask(attn_mask, q, sizes)
        inputs["mask"] = _flat(mask)
        sizes |= _steps(mask.shape)
    kind = kind_of(sizes, attn_mask is not None, is_causal)
    name = f"{kind}-online" if q.device.type == "cpu" else kind
    return Call(name, dtype, inputs, sizes, (*q.shape[:-1], sizes["dv"]), q.device)


def run(call: Call, sizes: dict[str, int]) -> Tensor:
    """The kernel's output; ``sizes`` are the call's and those of some tiling."""
    out = torch.empty(call.shape, dtype=getattr(torch, call.dtype), device=call.device)  # whatever the default is
    if call.device.type == "cpu":
        launch(load(call.certificate, call.dtype), _flat(out), call.inputs, sizes)
    else:
        kernel = load(call.certificate, call.dtype, target="cuda")
        cuda.launch(kernel, out.view(-1), call.inputs, sizes)
    return out


def tiled(call: Call) -> tuple[Call, dict[str, int]]:
    """A call on a GPU with the kernel that is chosen for it, and its sizes with those of its tiles."""
    device = cuda.device_of(call.device.index)

    def launches(name: str, tiles: Mapping[str, int]) -> tuple[cuda.Shape, ...]:
        return cuda.shapes(load(name, call.dtype, target="cuda"), {**call.sizes, **tiles})

    name, chosen = cuda_tiles.choose(call.certificate, call.sizes, call.dtype, device, launches)
    return replace(call, certificate=name), call.sizes | chosen


def kind_of(sizes: dict[str, int], masked: bool, causal: bool) -> str:
    """Which kind of attention a call is, as the certificates name it."""
    kind = "masked" if masked else "causal" if causal else ""
    if sizes["h"] != sizes["g"]:
        return f"gqa-{kind}" if kind else "gqa"
    return kind or "attention"


# --- what is covered -------------------------------------------------------------------------------


def _check_tensor(name: str, x: Any) -> None:
    where = f"attention: {name}"
    if not isinstance(x, Tensor) or type(x) not in {Tensor, torch.nn.Parameter}:
        raise NotCovered(f"{where} is a {type(x).__name__}; a plain torch.Tensor is covered")
    if x.device.type not in {"cpu", "cuda"}:
        raise NotCovered(f"{where} is on {x.device}; CPU and CUDA tensors are covered: use {name}.cpu()")
    if x.layout != torch.strided or x.is_quantized:
        raise NotCovered(f"{where} has layout {x.layout}; strided tensors are covered: use {name}.to_dense()")
    if x.is_nested:
        raise NotCovered(f"{where} is nested; a plain torch.Tensor is covered")
    last = x.storage_offset() + 1 + sum((s - 1) * t for s, t in zip(x.shape, x.stride(), strict=True))
    try:
        stored = x.untyped_storage().nbytes()
    except (NotImplementedError, RuntimeError):
        raise NotCovered(f"{where} is a tensor without memory of its own (vmap, say); a plain one is covered") from None
    if x.numel() and stored < last * x.element_size():
        raise NotCovered(f"{where} has less storage than its shape and strides need")
    if torch.is_grad_enabled() and x.requires_grad:
        raise NotCovered(
            f"{where} requires grad and there is no backward yet; call under torch.no_grad(), or pass {name}.detach()"
        )
    if forward_ad.unpack_dual(x).tangent is not None:  # type: ignore[no-untyped-call]
        raise NotCovered(f"{where} carries a forward-mode tangent and there is no derivative yet; pass its primal")


def _check_devices(tensors: Mapping[str, Tensor]) -> None:
    if len({x.device for x in tensors.values()}) > 1:
        found = ", ".join(f"{name} on {x.device}" for name, x in tensors.items())
        raise NotCovered(f"attention: {found}; one device for all of them is covered")


def _sizes(q: Tensor, k: Tensor, v: Tensor, enable_gqa: bool) -> dict[str, int]:
    """The certificate's sizes of three tensors; ranks and extents that do not fit are refused."""
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.ndim == k.ndim == v.ndim or q.ndim < 2:
        raise NotCovered(f"attention: {shapes}: three tensors of one rank, 2 or more, are covered")
    if k.shape[-1] != q.shape[-1]:
        raise NotCovered(f"attention: {shapes}: q and k must have the same last extent dk")
    if k.shape[-2] != v.shape[-2]:
        raise NotCovered(f"attention: {shapes}: k and v must have the same number of keys")
    if not q.shape[:-3] == k.shape[:-3] == v.shape[:-3]:
        raise NotCovered(f"attention: {shapes}: leading axes must be equal; expand() those that are to be broadcast")
    h, g = (x.shape[-3] if x.ndim > 2 else 1 for x in (q, k))
    if v.ndim > 2 and v.shape[-3] != g:
        raise NotCovered(f"attention: {shapes}: k and v must have the same number of heads")
    if h != g and not enable_gqa:
        raise NotCovered(f"attention: {shapes}: {h} query heads and {g} key heads; grouped heads need enable_gqa=True")
    if h != g and (g == 0 or h % g):
        raise NotCovered(f"attention: {shapes}: {h} query heads are no multiple of {g} key heads")
    b = math.prod(q.shape[:-3])
    n, dk, m, dv = q.shape[-2], q.shape[-1], k.shape[-2], v.shape[-1]
    return {"b": b, "h": h, "g": g, "r": h // g if g else 1, "n": n, "m": m, "dk": dk, "dv": dv}


def _scale(scale: Any, dk: int, dtype: str) -> Scale:
    """The scale as a scalar of the kernel's dtype."""
    if scale is None:
        if dk == 0:
            raise NotCovered("attention: scale=None is 1/sqrt(dk), and dk is 0; pass a scale")
        scale = 1 / math.sqrt(dk)
    if isinstance(scale, bool) or not isinstance(scale, int | float | np.floating):
        raise NotCovered(f"attention: scale is a {type(scale).__name__}; a number or None is covered")
    if isinstance(scale, int) and scale.bit_length() > 1024:
        raise NotCovered(f"attention: scale is an integer of {scale.bit_length()} bits, not finite in {dtype}")
    with np.errstate(over="ignore"):
        rounded: Scale = np.float64(scale) if dtype == "float64" else np.float32(scale)
    if not np.isfinite(rounded):
        raise NotCovered(f"attention: scale {scale} is not finite in {dtype}")
    return rounded


def _mask(mask: Any, q: Tensor, sizes: dict[str, int]) -> Tensor:
    """The mask as a tensor of rank 4 whose axes have extent 1 or that of (b, h, n, m)."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise NotCovered(f"attention: attn_mask is {kind}; a boolean mask is covered (True is visible)")
    _check_tensor("attn_mask", mask)
    _check_devices({"q, k, v": q, "attn_mask": mask})
    full = (*q.shape[:-1], sizes["m"])
    if mask.ndim > len(full) or any(s not in {1, e} for s, e in zip(mask.shape[::-1], full[::-1], strict=False)):
        raise NotCovered(f"attention: attn_mask {tuple(mask.shape)} does not broadcast to {full}")
    found: Tensor = mask[(None,) * (max(4, len(full)) - mask.ndim)]
    for axis, stride in enumerate(found.stride()):
        if stride == 0 and found.shape[axis] > 1:  # broadcast by its owner: one row is enough
            found = found.narrow(axis, 0, 1)
    leading, last = found.shape[:-3], found.shape[-3:]
    if 1 < math.prod(leading) < sizes["b"]:  # some leading axes only: no one step size says that
        found = found.expand(*full[:-3], *last)
    return found.reshape(math.prod(found.shape[:-3]), *last)


def _steps(shape: Sequence[int]) -> dict[str, int]:
    """Extents of the mask, and its step sizes: 0 along an axis that is broadcast, else 1."""
    found = {}
    for axis, extent in zip("bhnm", shape, strict=True):
        found[f"m{axis}"] = extent
        found[f"s{axis}"] = int(extent != 1)
    return found


def tiles(sizes: dict[str, int], dtype: str) -> dict[str, int]:
    """Tiles of at most LANES queries, shorter when there would be fewer than two for each thread; of KEYS keys.

    A row's bits depend on KEYS alone, which is the same for every call.
    """
    heads, n, m = max(1, sizes["b"] * sizes["h"]), sizes["n"], sizes["m"]
    blocks = max(-(-n // LANES[dtype]), -(-2 * numba.get_num_threads() // heads))
    lanes = -(-n // blocks)
    tq = max(FEWEST_LANES, -(-lanes // FEWEST_LANES) * FEWEST_LANES)
    return {"tq": tq, "bq": -(-n // tq), "tk": KEYS, "bk": -(-m // KEYS)}


# --- layouts ---------------------------------------------------------------------------------------


def _flat(x: Tensor) -> Any:
    """The row-major elements as a flat array: a view of a contiguous and aligned tensor, else of a packed copy.

    A NumPy array of a CPU tensor, a tensor of another.
    """
    x = x.detach()
    try:
        plain = x.is_contiguous() and not x.is_neg() and x.data_ptr() % x.element_size() == 0
        flat = (x if plain else _packed(x)).view(-1)
        return flat.numpy() if x.device.type == "cpu" else flat
    except RuntimeError as e:  # inside vmap and the like a tensor has no memory of its own
        raise NotCovered(f"attention: a tensor without memory of its own cannot be passed to a kernel ({e})") from None


def _packed(x: Tensor) -> Tensor:
    """A row-major copy, for a tensor that is transposed, sliced, expanded, lazily negated or at an odd address."""
    return x.resolve_neg().clone(memory_format=torch.contiguous_format)
