"""What a kernel is compared with.

``sdpa``: PyTorch in float64, the named reference.  ``enclosure``: ball arithmetic that encloses the exact value
(python-flint, an extra).  ``plain``: the shipped text run by Python itself, with instructions of the caller's
choice, which is also how the harness plants mutants.  ``rows_bits``: the evaluator of the Spec with the kernel's
own exp, bit for bit what a ``rows`` kernel computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import BackendMissing
from ..instructions import cpu_float32, cpu_float64
from ..kernel.certificate import Certificate
from ..runtime.loader import Loaded
from ..semantics import Numbers, evaluate
from .strategies import Inputs

Array = np.ndarray[Any, Any]
INSTRUCTIONS = {"float64": cpu_float64, "float32": cpu_float32}


def visible(n: int, m: int, mask: Array | None, causal: bool) -> Array:
    """Which keys a query sees, as booleans that broadcast to (b, h, n, m)."""
    if causal:
        found: Array = np.tril(np.ones((n, m), dtype=bool))[None, None]
        return found
    return np.ones((1, 1, n, m), dtype=bool) if mask is None else mask


def sdpa(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool, scale: float | None
) -> Array:
    """PyTorch's scaled_dot_product_attention of the same values in float64; grouped heads where they differ.

    PyTorch multiplies its -inf of masked keys by the scale: NaN if that is 0 or negative.  It is given -q and -scale
    instead, or 0 and 1, which is exact.
    """
    q, k, v = (x.detach().to(torch.float64) for x in (q, k, v))
    if scale is not None and scale <= 0:
        q, scale = (-q, -scale) if scale < 0 else (torch.zeros_like(q), 1.0)
    grouped = q.ndim > 2 and q.shape[-3] != k.shape[-3]
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
    )
    found: Array = out.numpy()
    return found


def enclosure(q: Array, k: Array, v: Array, seen: Array, scale: float, bits: int = 256) -> tuple[Array, Array]:
    """One head, exactly: midpoints rounded to float64, and radii that include that rounding; both (n, dv).

    ``q`` (n, dk), ``k`` (m, dk), ``v`` (m, dv) float64 values, ``seen`` (n, m) boolean, the scale as it is.
    """
    try:
        from flint import arb, ctx
    except ImportError:
        raise BackendMissing("oracle: ball arithmetic needs python-flint: pip install 'moaproof[flint]'") from None
    mid, radius = np.zeros((len(q), v.shape[1])), np.zeros((len(q), v.shape[1]))
    previous, ctx.prec = ctx.prec, bits
    try:
        for i, row in enumerate(q.tolist()):
            scores = {
                j: sum((arb(x) * arb(y) for x, y in zip(row, key, strict=True)), arb(0)) * arb(scale)
                for j, key in enumerate(k.tolist())
                if seen[i, j]
            }
            top = max((float(s.mid()) for s in scores.values()), default=0.0)
            weights = {j: (s - top).exp() for j, s in scores.items()}
            total = sum(weights.values(), arb(0))
            for c in range(v.shape[1] if weights else 0):
                exact = sum((w * arb(float(v[j, c])) for j, w in weights.items()), arb(0)) / total
                mid[i, c] = float(exact.mid())
                radius[i, c] = float(abs(exact - arb(mid[i, c])).upper())
    finally:
        ctx.prec = previous
    return mid, radius


def enclosures(x: Inputs, bits: int = 128) -> tuple[Array, Array]:
    """The exact attention of a case: midpoints and radii, both (b, h, n, dv)."""
    q, k, v = (t.detach().to(torch.float64).numpy() for t in (x.q, x.k, x.v))
    b, h, n, dk = q.shape
    group = h // k.shape[1] if k.shape[1] else 1
    scale = 1 / math.sqrt(dk) if x.scale is None else float(x.scale)
    seen = np.broadcast_to(
        visible(n, k.shape[2], None if x.mask is None else x.mask.numpy(), x.causal), (b, h, n, k.shape[2])
    )
    mid, radius = (np.zeros((b, h, n, v.shape[-1])) for _ in range(2))
    for i in range(b):
        for j in range(h):
            mid[i, j], radius[i, j] = enclosure(q[i, j], k[i, j // group], v[i, j // group], seen[i, j], scale, bits)
    return mid, radius


def plain(kernel: Loaded, **replaced: Any) -> Callable[..., None]:
    """The function of a checked text, run by Python; ``replaced`` stand in for instructions of those names."""
    module = INSTRUCTIONS[kernel.dtype]
    names: dict[str, Any] = {name: _python(getattr(module, name)) for name in module.__all__}
    names |= {"njit": _undecorated, "prange": range} | replaced
    lines = kernel.source.decode("ascii").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("from moaproof.instructions."))
    exec(compile(text, f"<{kernel.file}, plain>", "exec", dont_inherit=True), names)  # noqa: S102  a checked text
    function: Callable[..., None] = names["kernel"]

    def quiet(*args: Any) -> None:
        with np.errstate(all="ignore"):
            function(*args)

    return quiet


def _undecorated(**_: Any) -> Callable[[Any], Any]:
    return _same


def _same(function: Any) -> Any:
    return function


def _python(x: Any) -> Any:
    """The Python function inside a compiled instruction, with the Python functions that it calls."""
    return x.py_func if hasattr(x, "py_func") else x


class _OwnExp(Numbers):
    """Float64 with the kernel's exp and its rule for a maximum."""

    def function(self, name: str, args: Sequence[float]) -> float:
        if name == "exp":
            return float(cpu_float64.exp.py_func(np.float64(args[0])))
        if name == "max":
            return float(cpu_float64.fmax.py_func(*args))
        return super().function(name, args)


def rows_bits(c: Certificate, sizes: Mapping[str, int], inputs: Mapping[str, Array]) -> Array:
    """The Spec of ``c``, cell by cell in its own order, in float64: flat, row-major."""
    lists = {name: np.atleast_1d(x).tolist() for name, x in inputs.items()}
    with np.errstate(all="ignore"):
        shape, cells = evaluate(c.spec, _OwnExp(sizes, lists))
    found: Array = np.array(cells, dtype=np.float64)
    if found.size != math.prod(shape):
        raise AssertionError("the evaluator gave another number of cells than the shape has")
    return found
