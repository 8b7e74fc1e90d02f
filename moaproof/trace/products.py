"""Products, softmax and attention.  Trusted for claim (a)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ..operators import tabulate
from ..shapes import same_index
from ..term import ONE, TRUE, F, Fold, Psi, Term, Var, up
from .arithmetic import arithmetic, exp, fold_row, power
from .builder import CAUSAL_SCALE, Builder, cells_of, flag, no_cast, op, scores_of, swapped
from .masks import causal, masked
from .rearrange import repeat_interleave
from .values import Index, Real, array_of, axis, cells, checked, joined, lookup, omega, permuted, real, refuse


@op("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default", "aten.dot.default")
def matmul(b: Builder, x: Any, y: Any) -> Real:
    """The inner product of the last axis with the last but one, on cells of rank 2 under equal leading axes."""
    y = real(y)
    weight = isinstance(x, Real) and x.role == "weight"
    x = x if weight else real(x)
    if ONE in (*x.shape, *y.shape) or not x.shape or not y.shape:
        refuse("a product with a unit axis; squeeze it first")
    kx, ky = min(len(x.shape), 2), min(len(y.shape), 2)
    frame = max(x.shape[:-kx], y.shape[:-ky], key=len)
    if not same_index(x.shape[-1], y.shape[-ky]):
        refuse(f"the contracted extents {x.shape[-1]!r} and {y.shape[-ky]!r} differ")
    joined(x.shape[:-kx], y.shape[:-ky])  # leading axes are equal
    arrays = [x.term, y.term]
    if weight:
        arrays.append(array_of(x.visible, x.shape))
        if len(y.shape) > len(x.shape):
            refuse("masked weights are multiplied by an array of higher rank")
    t = omega((kx, ky, kx)[: len(arrays)], arrays, _inner) if frame else _inner(*arrays)
    return checked(t, (*frame, *x.shape[len(x.shape) - kx : -1], *y.shape[len(y.shape) - ky + 1 :]))


def _inner(*arrays: Term) -> Term:
    return Term("inner", ("add", "mul"), arrays)


@op("aten.softmax.int", "aten._softmax.default")
def softmax(b: Builder, x: Any, dim: Any, dtype: Any = None) -> Real:
    no_cast(dtype)
    if axis(dim, len(x.shape) if isinstance(x, Real) else 0) != len(x.shape) - 1:
        refuse("softmax along another axis than the last; transpose first")
    return shifted_softmax(b, x)


def shifted_softmax(b: Builder, x: Any, deviates: bool = True) -> Real:
    """The rows of x, shifted by their maximum, exponentiated, over their sum."""
    if not (isinstance(x, Real) and x.role == "score"):
        x = real(x)
    kept = Builder(b.equations)
    m = fold_row(kept, "max", x, True)
    e = exp(kept, arithmetic(kept, "sub", x, m))
    y: Real = arithmetic(kept, "div", e, fold_row(kept, "add", e, True))
    if deviates:
        b.deviations.update(kept.deviations)
    return y


@op("aten.scaled_dot_product_attention.default")
def attention(
    b: Builder, q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: Any = 0.0, is_causal: Any = False,
    scale: Any = None, enable_gqa: Any = False,
) -> Real:  # fmt: skip
    """softmax(q k^T * scale) v under the mask; a row with no visible key is 0, as here."""
    if dropout_p != 0:
        refuse("dropout is random; call it with dropout_p=0.0")
    q, k, v = map(real, (q, k, v))
    if min(len(q.shape), len(k.shape), len(v.shape)) < 2:
        refuse("the query, key and value have at least two axes")
    if flag(enable_gqa) and min(len(q.shape), len(k.shape), len(v.shape)) >= 3:
        k, v = (x if x.shape[-3] is q.shape[-3] else repeat_heads(b, q.shape[-3], x) for x in (k, v))
    dots = matmul(b, q, permuted(k, swapped(len(k.shape), -2, -1)))
    x = arithmetic(b, "mul", dots, default_scale(b, q.shape[-1]) if scale is None else scale)
    if flag(is_causal):
        if attn_mask is not None:
            refuse("a mask and is_causal together; PyTorch refuses both")
        if scale is not None and not (isinstance(scale, (int, Fraction)) and scale > 0):
            b.deviations[CAUSAL_SCALE] = None
        x = masked(x, causal(x.shape))
    elif attn_mask is not None:
        x = masked(x, cells(attn_mask, "bool"))
    return matmul(b, shifted_softmax(b, x, deviates=False), v)


def default_scale(b: Builder, dk: Term) -> Real:
    """1/sqrt(dk); owes dk > 0."""
    return power(b, cells_of(dk), Fraction(-1, 2))


def repeat_heads(b: Builder, heads: Term, x: Real) -> Real:
    return repeat_interleave(b, x, cells_of(b.divided(heads, x.shape[-3])), -3)


@op("aten.einsum.default")
def einsum(b: Builder, equation: Any, operands: Any, path: Any = None) -> Real:
    """Two operands, each letter at most once in each: the sum over the letters that the result lacks."""
    if not isinstance(equation, str) or not isinstance(operands, tuple) or len(operands) != 2:
        refuse("einsum of two operands with an explicit result is covered")
    text = equation.replace(" ", "")
    left, arrow, out = text.partition("->")
    sides = left.split(",")
    if not arrow or len(sides) != 2 or not all(s.isalpha() and len(set(s)) == len(s) for s in (*sides, out or "a")):
        refuse("einsum with an explicit result, and each letter at most once in an operand")
    weight = scores_of(operands[0], "weight")
    x, y = operands[0] if weight else real(operands[0]), real(operands[1])
    extents: dict[str, Term] = {}
    for letters, array in zip(sides, (x, y), strict=True):
        if len(letters) != len(array.shape) or ONE in array.shape:
            refuse("einsum: a letter for each axis, and no unit axis")
        for c, e in zip(letters, array.shape, strict=True):
            if not same_index(extents.setdefault(c, e), e):
                refuse(f"einsum: two extents of {c} differ")
    summed = [c for c in extents if c not in out]
    if not set(out) <= set(extents) or (weight and (summed != [sides[0][-1]] or summed[0] not in sides[1])):
        refuse("einsum: masked weights are summed over their last axis, and over no other")

    def element(i: Index, r: int) -> Term:
        n = len(summed)
        place = {c: up(v, n) for c, v in zip(out, i, strict=True)}
        place |= {c: Var(n - 1 - k) for k, c in enumerate(summed)}
        t = F("mul", *[Psi(a.term, *[place[c] for c in s]) for s, a in zip(sides, (x, y), strict=True)])
        guard = lookup(x.visible, [place[c] for c in sides[0]]) if weight else TRUE
        for c in reversed(summed):
            t = Fold("add", extents[c], t, guard)
        return t

    shape = tuple(extents[c] for c in out)
    return checked(tabulate(shape, element), shape)
