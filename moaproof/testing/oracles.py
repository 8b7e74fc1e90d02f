"""What a kernel is compared with.

``sdpa`` and ``torch_of``: PyTorch in float64, the named reference.  ``enclosure``, ``enclosures`` (attention, fast) and
``enclose`` (any Spec): balls that contain the exact value, by python-flint, an extra.  ``plain``: the shipped text run
by Python itself, with instructions of the caller's choice, which is also how the harness plants mutants.
``rows_bits``: the evaluator of the Spec with the kernel's own exp, bit for bit what a ``rows`` kernel computes.

A ball is a midpoint in float64 and a radius that includes the rounding of that midpoint; radii are rounded up.  Inputs
are taken as the numbers that they are.  What is visible must be finite; what is hidden is never touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch

from ..errors import BackendMissing, NotCovered
from ..instructions import cpu_float32, cpu_float64
from ..kernel.certificate import Certificate
from ..operators import typeof
from ..runtime.loader import Loaded
from ..semantics import EMPTY, Concrete, Numbers, evaluate, meaning
from ..term import Term, subterms
from .strategies import Inputs

Array = np.ndarray[Any, Any]
INSTRUCTIONS = {"float64": cpu_float64, "float32": cpu_float32}

SHARP: Final = 2.0**-60  # how wide a ball may be, relative to the greatest |v| (of any Spec: to the value itself)
BITS: Final = 128  # of attention's balls, beyond those that the size of its scores takes
BITS_OF_ANY: Final = 2048  # of any Spec's balls: scores of 2^1900, and sums of numbers below 2^900 that cancel
UNSEEN: Final = -1080  # exponent of 2: no float64 shows what is that small
BUDGET: Final = 500_000  # elements of folds and results: some 20 s


# --- PyTorch in float64 ----------------------------------------------------------------------------


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


def torch_of(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Array:
    """A PyTorch function's value on the CPU, its floating-point tensors taken to float64; others are passed as given.

    Raises ``NotCovered`` if it returns anything but one tensor.
    """

    def taken(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        moved = x.detach().cpu()
        return moved.to(torch.float64) if moved.is_floating_point() else moved

    with torch.no_grad():
        out = function(**{name: taken(x) for name, x in arguments.items()})
    if not isinstance(out, torch.Tensor):
        name = getattr(function, "__name__", "the function")
        raise NotCovered(f"oracle: {name} returns a {type(out).__name__}; one tensor is covered")
    found: Array = out.resolve_conj().resolve_neg().numpy()
    return found


# --- balls: attention ------------------------------------------------------------------------------


def enclosure(
    q: Array, k: Array, v: Array, seen: Array, scale: float | None, bits: int = BITS, where: str = "oracle"
) -> tuple[Array, Array]:
    """One head, exactly: midpoints and radii, both (n, dv).  About 0.02 s for n = m = dk = dv = 64.

    ``q`` (n, dk), ``k`` (m, dk), ``v`` (m, dv) in float64, ``seen`` (n, m) boolean; the scale as it is, and None is
    1/sqrt(dk) itself, not its rounding.  A row without a visible key is 0 with radius 0.

    Before their rounding the balls are within 2^-60 of the greatest visible |v| of their row and column, whatever the
    scores are: ``bits`` is added to what the greatest possible score takes.  Raises ``NotCovered`` where what is
    visible is not finite (``where`` begins the message) or the balls are wider, ``BackendMissing`` without
    python-flint.
    """
    flint = _flint()
    mid, radius = np.zeros((len(q), v.shape[1])), np.zeros((len(q), v.shape[1]))
    rows, keys = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return mid, radius
    q, k, v, seen = q[rows], k[keys], v[keys], seen[np.ix_(rows, keys)]
    for name, x, at in (("q", q, rows), ("k", k, keys), ("v", v, keys)):
        _check_finite(f"{where}: {name}", x, at)
    if scale is None and not q.shape[1]:
        raise NotCovered(f"{where}: 1/sqrt(dk) has no value for dk = 0; give a scale")
    if scale is not None and not math.isfinite(scale):
        raise NotCovered(f"{where}: the scale is {scale}; a finite one is covered")
    with flint.ctx.workprec(bits + _score_bits(q, k, 1.0 if scale is None else scale)):
        balls = _attention(flint, q, k, v, seen, flint.arb(q.shape[1]).rsqrt() if scale is None else flint.arb(scale))
        for i, (line, widest) in enumerate(zip(balls, _greatest(v, seen).tolist(), strict=True)):
            if not all(x.is_finite() and x.rad() <= flint.arb(V) * SHARP for x, V in zip(line, widest, strict=True)):
                raise NotCovered(f"{where}: query {rows[i]}: {bits} bits do not enclose its row sharply; take more")
            for c, x in enumerate(line):
                mid[rows[i], c], radius[rows[i], c] = _rounded(x)
    return mid, radius


def enclosures(x: Inputs, bits: int = BITS) -> tuple[Array, Array]:
    """The exact attention of a case: midpoints and radii, both (b, h, n, dv).

    A scale of None is the float64 number 1/sqrt(dk), as ``attention`` gives it to its kernels.  Raises as
    ``enclosure``.
    """
    q, k, v = (t.detach().to(torch.float64).numpy() for t in (x.q, x.k, x.v))
    b, h, n, dk = q.shape
    m, group = k.shape[2], h // k.shape[1] if k.shape[1] else 1
    if x.scale is None and dk == 0:
        raise NotCovered("oracle: 1/sqrt(dk) has no value for dk = 0; give a scale")
    scale = 1 / math.sqrt(dk) if x.scale is None else float(x.scale)
    mask = None if x.mask is None else x.mask.numpy()
    seen = np.broadcast_to(visible(n, m, mask, x.causal), (b, h, n, m))
    mid, radius = (np.zeros((b, h, n, v.shape[-1])) for _ in range(2))
    for i in range(b):
        for j in range(h):
            head, where = (q[i, j], k[i, j // group], v[i, j // group]), f"oracle: batch {i}, head {j}"
            mid[i, j], radius[i, j] = enclosure(*head, seen[i, j], scale, bits, where)
    return mid, radius


def _flint() -> Any:
    try:
        import flint
    except ImportError:
        raise BackendMissing("oracle: ball arithmetic needs python-flint: pip install 'moaproof[flint]'") from None
    return flint


def _check_finite(name: str, x: Array, at: Array) -> None:
    bad = np.argwhere(~np.isfinite(x))
    if bad.size:
        i, c = bad[0]
        raise NotCovered(f"{name}[{at[i]}, {c}] is {x[i, c]}; what is visible must be finite to have an exact value")


def _score_bits(q: Array, k: Array, scale: float) -> int:
    """Bits before the point of the greatest score that could be."""
    factors = (abs(q).max(initial=0.0), abs(k).max(initial=0.0), abs(scale), float(q.shape[1]))
    return max(0, sum(math.frexp(x)[1] for x in factors))


def _attention(flint: Any, q: Array, k: Array, v: Array, seen: Array, scale: Any) -> list[list[Any]]:
    """Balls of the rows, of which each sees a key.  A weight that is not visible is the exact 0."""
    dk, (m, dv) = q.shape[1], v.shape
    left, right = (flint.arb_mat(len(x), dk, x.ravel().tolist()) for x in (q, k))
    scores = (left * right.transpose() * scale).tolist()
    weights = flint.arb_mat([_weights(flint, row, sees) for row, sees in zip(scores, seen.tolist(), strict=True)])
    sums = (weights * flint.arb_mat(m, 1, [1] * m)).tolist()
    values = (weights * flint.arb_mat(m, dv, v.ravel().tolist())).tolist()
    return [[x / l for x in row] for row, (l,) in zip(values, sums, strict=True)]


def _weights(flint: Any, scores: list[Any], sees: list[bool]) -> list[Any]:
    """e^(s - t) of the visible scores, for one number t near their maximum: any t gives the same quotient."""
    top = reduce(lambda x, y: x.max(y), (s for s, yes in zip(scores, sees, strict=True) if yes)).mid()
    hidden = flint.arb(0)
    return [(s - top).exp() if yes else hidden for s, yes in zip(scores, sees, strict=True)]


def _greatest(v: Array, seen: Array) -> Array:
    """The greatest visible |v| of each row and column, (n, dv)."""
    found = np.zeros((len(seen), v.shape[1]))
    for c in range(v.shape[1]):
        found[:, c] = np.where(seen, abs(v[:, c]), 0.0).max(axis=1, initial=0.0)
    return found


def _rounded(ball: Any) -> tuple[float, float]:
    """A float64 and a radius such that the ball lies within: its own radius and the rounding of its midpoint."""
    mid = float(ball.mid())
    far = abs(ball - mid).upper()
    radius = float(far)  # to the nearest
    return mid, radius if far <= radius else math.nextafter(radius, math.inf)


# --- balls: any Spec -------------------------------------------------------------------------------


class Balls(Concrete):
    """The algebra of balls: each result contains the exact value of its arguments' exact values.

    Real inputs are floats, taken exactly when they are read; boolean ones are truth values.  The maximum of balls that
    overlap is a ball around both.  Raises ``NotCovered`` for what is read and not finite, for a divisor that may be 0,
    the root of what may be negative, and a used-up budget.
    """

    def __init__(self, sizes: Mapping[str, int], inputs: Mapping[str, Sequence[Any]], budget: int):
        super().__init__(sizes, inputs)
        self.flint, self.budget, self.most = _flint(), budget, budget

    def spend(self, elements: int) -> None:
        self.budget -= max(elements, 0)
        if self.budget < 0:
            raise NotCovered(f"oracle: more than {self.most} elements to evaluate; take smaller sizes")

    def read(self, name: str, sort: str, offset: int, total: int) -> Any:
        x = super().read(name, sort, offset, total)
        if sort == "bool":
            return x
        if not math.isfinite(x):
            raise NotCovered(f"oracle: {name} is {x} at offset {offset}; what is read must be finite")
        return self.flint.arb(x)

    def rational(self, value: Fraction) -> Any:
        return self.flint.arb(self.flint.fmpq(value.numerator, value.denominator))

    def function(self, name: str, args: Sequence[Any]) -> Any:
        x = args[0]
        match name:
            case "add":
                return x + args[1]
            case "sub":
                return x - args[1]
            case "mul":
                return x * args[1]
            case "neg":
                return -x
            case "max":
                return x.max(args[1])
            case "exp":
                return x.exp()
            case "div":
                if not args[1].is_finite() or args[1].contains(0):
                    raise NotCovered("oracle: a divisor may be 0 there; the exact value is not enclosed")
                return x / args[1]
            case "sqrt":
                if not x.lower() >= 0:
                    raise NotCovered("oracle: the root of a number that may be negative; the value is not enclosed")
                return x.sqrt()
        raise NotCovered(f"oracle: {name} has no balls; covered are add, sub, mul, neg, max, exp, div, sqrt")


def enclose(
    spec: Term, sizes: Mapping[str, int], inputs: Mapping[str, Array], budget: int = BUDGET
) -> tuple[Array, Array]:
    """The exact value of any Spec: midpoints and radii, both of the Spec's shape.

    ``sizes`` has every size of the Spec; ``inputs`` by name, flat and row-major (rank 0: one number), boolean or
    floating point.  Before its rounding a ball is within 2^-60 of its value, or within 2^-1080.  ``budget``: elements
    of folds and results, about 40 microseconds each.

    Raises ``NotCovered`` beyond the budget; for an input that is missing, of another length or kind, or read where it
    is not finite; where a divisor may be 0 or a root that of a negative number; and where a ball is wider, or the value
    no float64.  ``BackendMissing`` without python-flint.
    """
    if typeof(spec).sort not in {"real", "opt"}:
        raise NotCovered(f"oracle: the Spec is a {typeof(spec).sort}; an array of reals is covered")
    given = _given(spec, sizes, inputs)
    with _flint().ctx.workprec(BITS_OF_ANY):
        shape, cells = evaluate(spec, Balls(sizes, given, budget))
        return _sharp(shape, cells)


def _given(spec: Term, sizes: Mapping[str, int], inputs: Mapping[str, Array]) -> dict[str, list[Any]]:
    """The inputs that the Spec reads, as lists; refused if one is missing, or of another kind or length."""
    missing = sorted({t.data for t in subterms(spec) if t.op == "size"} - set(sizes))
    if missing:
        raise NotCovered(f"oracle: no value is given for the sizes {', '.join(missing)}")
    found = {}
    for t in (u for u in subterms(spec) if u.op == "in"):
        name, sort = t.data
        total = math.prod(meaning(s, (), (), (), Numbers(sizes, {})) for s in t.args)
        x = np.atleast_1d(np.asarray(inputs[name])) if name in inputs else None
        if x is None or x.ndim != 1 or x.size != total:
            what = "missing" if x is None else f"of shape {x.shape}"
            raise NotCovered(f"oracle: input {name} is {what}; a flat array of {total} is due")
        if not (x.dtype == np.bool_ if sort == "bool" else x.dtype in (np.float64, np.float32, np.float16)):
            raise NotCovered(f"oracle: input {name} is {x.dtype}; {'bool' if sort == 'bool' else 'a float'} is due")
        found[name] = x.tolist()
    return found


def _sharp(shape: tuple[int, ...], cells: list[Any]) -> tuple[Array, Array]:
    """The cells rounded, if each is a ball that is sharp enough."""
    mid, radius = np.zeros(len(cells)), np.zeros(len(cells))
    for at, x in enumerate(cells):
        if x is EMPTY:
            raise NotCovered(f"oracle: element {at} is the maximum of nothing, which is no number")
        if not x.is_finite() or not x.rad() <= (abs(x.mid()) * SHARP).max(_flint().arb(2) ** UNSEEN):
            raise NotCovered(f"oracle: element {at} is not enclosed sharply by {BITS_OF_ANY} bits")
        mid[at], radius[at] = _rounded(x)
        if not math.isfinite(mid[at]):
            raise NotCovered(f"oracle: element {at} is beyond float64")
    return mid.reshape(shape), radius.reshape(shape)


# --- the text, and the Spec, in the kernel's own arithmetic ----------------------------------------


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


class _Own(Numbers):
    """The scalars of a dtype, with the kernels' own instructions; a division by 0 is as IEEE 754 has it."""

    def __init__(self, sizes: Mapping[str, int], inputs: Mapping[str, Sequence[Any]], module: ModuleType):
        super().__init__(sizes, inputs)
        self.real = module.real
        own = {"exp": module.exp, "max": module.fmax, "sqrt": module.sqrt}
        self.own = {name: _python(function) for name, function in own.items()}

    def rational(self, value: Fraction) -> Any:
        return self.real(value.numerator / value.denominator)  # as the texts have it: real(p / q)

    def function(self, name: str, args: Sequence[Any]) -> Any:
        return self.own[name](*args) if name in self.own else super().function(name, args)


def rows_bits(c: Certificate, sizes: Mapping[str, int], inputs: Mapping[str, Array], dtype: str = "float64") -> Array:
    """The Spec of ``c``, cell by cell in its own order, in the dtype: flat, row-major."""
    scalars = {name: list(np.atleast_1d(x)) for name, x in inputs.items()}
    with np.errstate(all="ignore"):
        shape, cells = evaluate(c.spec, _Own(sizes, scalars, INSTRUCTIONS[dtype]))
    found: Array = np.array(cells, dtype=dtype)
    if found.size != math.prod(shape):
        raise AssertionError("the evaluator gave another number of cells than the shape has")
    return found
