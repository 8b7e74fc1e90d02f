"""What each PyTorch operator means in the calculus: graph to Spec.  Trusted for claim (a); loads no torch.

Conventions, each as PyTorch has it:
- softmax over the last axis means the row-max-shifted form: M = (max red) X, E = exp(X -Omega<1 0> M), Y = E / Z;
- scaled_dot_product_attention is the same term as the plain writing; without a scale the scores are multiplied by
  1/sqrt(dk), and ``is_causal`` is aligned top left (key k <= query i) also where there are more keys than queries;
- with grouped heads, query head h reads key head h div r;
- masked_fill(-inf) and where(mask, x, -inf) on scores are *visibility*: guards of the folds, never -inf in the data.

Not covered, refused by name: dropout, float masks, in-place operators, other dtypes than float64, softmax along other
axes than the last, a masked score or weight used otherwise than in its softmax and the product with the values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final

from ..errors import CertificateInvalid, MoaproofError, NotCovered
from ..operators import tabulate, typeof
from ..shapes import gamma, gamma_inverse, normal, product, same_index
from ..term import (
    ONE, TRUE, ZERO, Add, Div, F, Fold, In, Int, Le, Lt, Mul, Not, Psi, Size, Term, Var, Where, up,
)  # fmt: skip
from .graph import Graph, Input, Node, Param, Ref, parse
from .values import (
    MINUS_INFINITY, Cells, Index, Real, Shape, array_of, axis, both, cells, cellwise, checked, core, either, evident,
    gathered, index, input_value, joined, lookup, mapped, minus, negated, omega, permuted, plus, pointwise, real,
    reduced, refuse, Refusal, without,
)  # fmt: skip

EMPTY_ROW: Final = "a row with no visible key is 0 in the specification, where the function gives NaN"


@dataclass(frozen=True, slots=True)
class Spec:
    """What the function means.  ``inputs`` are ``in`` terms in the order of the parameters; ``hypotheses`` are Bool
    terms over sizes; ``deviations`` are fixed sentences on where the function's own value is another."""

    term: Term
    inputs: tuple[Term, ...]
    hypotheses: tuple[Term, ...]
    deviations: tuple[str, ...]


@dataclass(slots=True)
class Builder:
    """What a translation gathers beside values: equations between sizes, hypotheses and deviations."""

    equations: tuple[tuple[str, Term], ...] = ()
    hypotheses: dict[Term, None] = field(default_factory=dict)
    deviations: dict[str, None] = field(default_factory=dict)

    def assume(self, g: Term) -> None:
        """A hypothesis, unless it is evident for all natural numbers."""
        if not evident(*g.args):
            self.hypotheses[g] = None

    def expand(self, t: Term) -> Term:
        """The index term with each size that has an equation replaced by its product."""
        for size, factors in self.equations:
            if t is Size(size):
                return factors
        return Term(t.op, t.data, [self.expand(a) for a in t.args])

    def same(self, a: Term, b: Term) -> bool:
        return same_index(a, b) or same_index(self.expand(a), self.expand(b))

    def named(self, extent: Term) -> Term:
        """An extent in the words of the inputs: h for g*r where h = g*r."""
        for size, factors in self.equations:
            if same_index(self.expand(extent), factors):
                return Size(size)
        simple = normal(extent)
        return simple if simple.op in ("size", "int") else extent

    def divided(self, a: Term, b: Term) -> Term:
        """floor(a/b); owes b > 0."""
        self.assume(Lt(ZERO, b))
        exact = normal(Div(self.expand(a), self.expand(b)))
        return exact if exact.op in ("size", "int") else Div(a, b)


Handler = Callable[..., Any]
TABLE: Final[dict[str, Handler]] = {}


def op(*names: str) -> Callable[[Handler], Handler]:
    """Register the meaning of operators; the handler's parameters are the operator's own, after the builder."""

    def register(f: Handler) -> Handler:
        TABLE.update(dict.fromkeys(names, f))
        return f

    return register


# --- softmax, attention --------------------------------------------------------------------------


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
        assert x.seen is not None
        arrays.append(array_of(x.seen, x.shape))
        if len(y.shape) > len(x.shape):
            refuse("masked weights are multiplied by an array of higher rank")
    inner = lambda *a: Term("inner", ("add", "mul"), a)  # noqa: E731
    t = omega((kx, ky, kx)[: len(arrays)], arrays, inner) if frame else inner(*arrays)
    return checked(t, (*frame, *x.shape[len(x.shape) - kx : -1], *y.shape[len(y.shape) - ky + 1 :]))


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


def scores_of(x: Any, role: str) -> bool:
    return isinstance(x, Real) and x.role == role


def fold_row(b: Builder, monoid: str, x: Real, keepdim: bool) -> Real:
    """The fold of the last axis, over the visible cells if x is masked."""
    last = len(x.shape) - 1
    if not x.role:
        return reduced(monoid, x, [last], keepdim)
    assert x.seen is not None
    t = Term("reduce", (monoid, len(x.core) - 1), (x.term, array_of(x.seen, x.shape)))
    return checked(t, without(x.shape, [last], keepdim), role="row", origin=(monoid, x))


@op("aten.exp.default")
def exp(b: Builder, x: Any) -> Real:
    if scores_of(x, "score"):
        return replace(mapped("exp", x), seen=x.seen, role="weight")
    return mapped("exp", real(x))


def arithmetic(b: Builder, f: str, x: Any, y: Any) -> Real:
    """x f y; a masked score less its row maximum is a score, a weight over its row sum is a weight."""
    for role, name, monoid in (("score", "sub", "max"), ("weight", "div", "add")):
        if scores_of(x, role) and scores_of(y, "row") and f == name and y.origin == (monoid, x):
            if y.shape != (*x.shape[:-1], ONE):
                refuse("a row's maximum or sum does not stand at its own row; use keepdim=True")
            if not always_visible(x):
                b.deviations[EMPTY_ROW] = None
            plain, row = replace(x, role=""), replace(y, role="")
            return replace(pointwise(f, plain, row), seen=x.seen, role=role)
    return pointwise(f, real(x), real(y))


def always_visible(x: Real) -> bool:
    """Is key 0 visible in each row, as under a causal mask?  (A row of no keys is 0 in PyTorch too.)"""
    assert x.seen is not None
    vs = [Var(k) for k in range(len(x.shape) - 1)]
    g = lookup(x.seen, [*vs, ZERO])
    return g is TRUE or (g.op == "lt" and evident(*g.args))


def masked(x: Any, seen: Cells) -> Real:
    """Scores that are -inf where not seen."""
    if scores_of(x, "score"):
        return replace(x, seen=cellwise("bool", both, x.seen, seen))
    x = real(x)
    if joined(x.shape, seen.shape) != x.shape:
        refuse("a mask has more axes than the scores")
    return replace(x, seen=seen, role="score")


@op("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(b: Builder, x: Any, mask: Any, value: Any) -> Real:
    return where(b, mask, value, x)


@op("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def where(b: Builder, condition: Any, x: Any, y: Any) -> Real:
    c = cells(condition, "bool")
    if x is MINUS_INFINITY:
        return masked(y, cellwise("bool", negated, c))
    if y is MINUS_INFINITY:
        return masked(x, c)
    x, y = real(x), real(y)
    shape = joined(c.shape, x.shape, y.shape)

    def element(i: Index, r: int) -> Term:
        full = iter(i)
        at = [ZERO if e is ONE else next(full) for e in shape]
        read = lambda z: Psi(
            z.term, *[j for j, e in zip(at[len(at) - len(z.shape) :], z.shape, strict=True) if e is not ONE]
        )  # noqa: E731, E501
        return Where(lookup(c, at), read(x), read(y))

    return checked(tabulate(core(shape), element), shape)


@op("aten.scaled_dot_product_attention.default")
def attention(
    b: Builder, q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: Any = 0.0, is_causal: Any = False,
    scale: Any = None, enable_gqa: Any = False,
) -> Real:  # fmt: skip
    """softmax(q k^T * scale) v under the mask; a row with no visible key is 0, as here."""
    if dropout_p != 0:
        refuse("dropout is random; call it with dropout_p=0.0")
    q, k, v = real(q), real(k), real(v)
    if min(len(q.shape), len(k.shape), len(v.shape)) < 2:
        refuse("the query, key and value have at least two axes")
    if flag(enable_gqa) and len(q.shape) >= 3:
        k, v = (x if x.shape[-3] is q.shape[-3] else repeat_heads(b, q.shape[-3], x) for x in (k, v))
    x = matmul(b, q, permuted(k, swapped(len(k.shape), -2, -1)))
    x = arithmetic(b, "mul", x, default_scale(b, q.shape[-1]) if scale is None else scale)
    if flag(is_causal):
        if attn_mask is not None:
            refuse("a mask and is_causal together; PyTorch refuses both")
        x = masked(x, causal(x.shape))
    elif attn_mask is not None:
        x = masked(x, cells(attn_mask, "bool"))
    return matmul(b, shifted_softmax(b, x, deviates=False), v)


def flag(x: Any) -> bool:
    if not isinstance(x, bool):
        refuse("a flag is due as a literal True or False")
    return bool(x)


def default_scale(b: Builder, dk: Term) -> Real:
    """1/sqrt(dk); owes dk > 0."""
    return power(b, cells_of(dk), Fraction(-1, 2))


def cells_of(size: Term) -> Cells:
    return Cells("index", (), lambda i: size)


def causal(shape: Shape, diagonal: Term = ZERO) -> Cells:
    """Key k is visible to query i when k <= i + diagonal: the lower triangle, aligned top left."""
    return Cells("bool", shape, lambda i: Le(i[-1], plus(i[-2], diagonal)))


def repeat_heads(b: Builder, heads: Term, x: Real) -> Real:
    return repeat_interleave(b, x, cells_of(b.divided(heads, x.shape[-3])), -3)


@op("aten.repeat_interleave.self_int")
def repeat_interleave(b: Builder, x: Any, repeats: Any, dim: Any = None, output_size: Any = None) -> Real:
    """Each row r times: row h reads row h div r."""
    x, r = real(x), index(repeats)
    k = axis(dim, len(x.shape))
    if x.shape[k] is ONE:
        refuse("repeat_interleave along a unit axis; use expand")
    shape = (*x.shape[:k], b.named(Mul(x.shape[k], r)), *x.shape[k + 1 :])
    p = len(core(x.shape[:k]))
    return gathered(x, shape, lambda i: [*i[:p], Div(i[p], r), *i[p + 1 :]])


# --- arithmetic ----------------------------------------------------------------------------------


def number(x: Any) -> bool:
    """A Python number or an expression of sizes, not an array."""
    return isinstance(x, (int, Fraction)) or (isinstance(x, Cells) and not x.shape)


def whole(x: Any) -> bool:
    return type(x) is int or (isinstance(x, Cells) and x.sort == "index")


def integers(f: Callable[[Term, Term], Term], x: Any, y: Any) -> Cells:
    return cellwise("index", f, cells(x, "index"), cells(y, "index"))


@op("aten.add.Tensor", "operator.add")
def add(b: Builder, x: Any, y: Any, alpha: Any = 1) -> Any:
    if alpha != 1:
        refuse("alpha other than 1")
    return integers(plus, x, y) if whole(x) and whole(y) else arithmetic(b, "add", x, y)


@op("aten.sub.Tensor", "operator.sub")
def sub(b: Builder, x: Any, y: Any, alpha: Any = 1) -> Any:
    if alpha != 1:
        refuse("alpha other than 1")
    return integers(minus, x, y) if whole(x) and whole(y) else arithmetic(b, "sub", x, y)


@op("aten.rsub.Scalar")
def rsub(b: Builder, x: Any, y: Any, alpha: Any = 1) -> Any:
    return sub(b, y, x, alpha)


@op("aten.mul.Tensor", "operator.mul")
def mul(b: Builder, x: Any, y: Any) -> Any:
    return integers(Mul, x, y) if whole(x) and whole(y) else arithmetic(b, "mul", x, y)


@op("aten.div.Tensor", "operator.truediv")
def div(b: Builder, x: Any, y: Any) -> Real:
    if whole(y) and number(y):
        b.assume(Lt(ZERO, index(y)))
    elif y == 0:
        refuse("a division by 0")
    if whole(x) and not number(x):
        refuse("a division of an array of indices")
    return arithmetic(b, "div", x, y)


@op("operator.floordiv")
def floordiv(b: Builder, x: Any, y: Any) -> Cells:
    return cells_of(b.divided(index(x), index(y)))


@op("aten.reciprocal.default")
def reciprocal(b: Builder, x: Any) -> Real:
    return arithmetic(b, "div", 1, x)


@op("aten.neg.default", "operator.neg")
def neg(b: Builder, x: Any) -> Any:
    return integers(minus, 0, x) if whole(x) else mapped("neg", real(x))


@op("aten.sqrt.default", "sym.sqrt")
def sqrt(b: Builder, x: Any) -> Real:
    return mapped("sqrt", real(x))


@op("aten.rsqrt.default")
def rsqrt(b: Builder, x: Any) -> Real:
    return power(b, x, Fraction(-1, 2))


@op("aten.pow.Tensor_Scalar", "operator.pow")
def power(b: Builder, x: Any, exponent: Any) -> Real:
    """x to the power 2, 1, -1, 1/2 or -1/2."""
    positive = abs(exponent) if isinstance(exponent, (int, Fraction)) else exponent
    y = real(x)
    match positive:
        case 1:
            root = y
        case 2 if exponent == 2:
            root = pointwise("mul", y, y)
        case Fraction(numerator=1, denominator=2):
            root = mapped("sqrt", y)
        case _:
            refuse("a power; covered are 2, 1, -1, 0.5 and -0.5")
    if positive == exponent:
        return root
    if number(x) and whole(x):
        b.assume(Lt(ZERO, index(x)))
    return pointwise("div", real(1), root)


@op("sym.float")
def sym_float(b: Builder, x: Any) -> Real:
    return real(x)


@op("aten.maximum.default")
def maximum(b: Builder, x: Any, y: Any) -> Real:
    return arithmetic(b, "max", x, y)


@op("aten.sum.dim_IntList", "aten.sum.default")
def sum_(b: Builder, x: Any, dim: Any = None, keepdim: Any = False, dtype: Any = None) -> Real:
    no_cast(dtype)
    return fold_axes(b, "add", x, dim, keepdim)


@op("aten.prod.dim_int")
def prod(b: Builder, x: Any, dim: Any, keepdim: Any = False, dtype: Any = None) -> Real:
    no_cast(dtype)
    return fold_axes(b, "mul", x, dim, keepdim)


@op("aten.amax.default")
def amax(b: Builder, x: Any, dim: Any = (), keepdim: Any = False) -> Real:
    return fold_axes(b, "max", x, dim or None, keepdim)


@op("aten.max.dim")
def max_dim(b: Builder, x: Any, dim: Any, keepdim: Any = False) -> tuple[Real, None]:
    return fold_axes(b, "max", x, dim, keepdim), None


@op("operator.getitem")
def getitem(b: Builder, x: Any, k: Any) -> Any:
    if not isinstance(x, tuple) or k != 0:
        refuse("only the values of max(dim) are covered, not where they are")
    return x[0]


@op("aten.mean.dim")
def mean(b: Builder, x: Any, dim: Any, keepdim: Any = False, dtype: Any = None) -> Real:
    no_cast(dtype)
    x = real(x)
    total = fold_axes(b, "add", x, dim, keepdim)
    return div(b, total, cells_of(product([x.shape[k] for k in axes_of(dim, len(x.shape))])))


def axes_of(dim: Any, rank: int) -> list[int]:
    dims = range(rank) if dim is None else dim if isinstance(dim, tuple) else (dim,)
    found = [axis(k, rank) for k in dims]
    if len(set(found)) != len(found):
        refuse("an axis is named twice")
    return found


def fold_axes(b: Builder, monoid: str, x: Any, dim: Any, keepdim: Any) -> Real:
    due = {"max": "score", "add": "weight"}.get(monoid)
    if isinstance(x, Real) and x.role and x.role == due and axes_of(dim, len(x.shape)) == [len(x.shape) - 1]:
        return fold_row(b, monoid, x, flag(keepdim))
    x = real(x)
    return reduced(monoid, x, axes_of(dim, len(x.shape)), flag(keepdim))


# --- masks and indices ---------------------------------------------------------------------------


@op("aten.arange.default", "aten.arange.start")
def arange(b: Builder, *bounds: Any, **options: Any) -> Cells:
    plain_options(options)
    start, end = (ZERO, index(bounds[0])) if len(bounds) == 1 else (index(bounds[0]), index(bounds[1]))
    b.assume(Le(start, end))
    return Cells("index", (b.named(minus(end, start)),), lambda i: plus(i[0], start))


@op("aten.ones.default")
def ones(b: Builder, sizes: Any, **options: Any) -> Cells:
    return constant(sizes, 1, options)


@op("aten.zeros.default")
def zeros(b: Builder, sizes: Any, **options: Any) -> Cells:
    return constant(sizes, 0, options)


@op("aten.full.default")
def full(b: Builder, sizes: Any, fill_value: Any, **options: Any) -> Cells:
    return constant(sizes, fill_value, options)


def constant(sizes: Any, value: Any, options: dict[str, Any]) -> Cells:
    """A mask of one truth value, to be cut to a triangle; of numbers 0 and 1 it is an indicator, to be compared."""
    plain_options(options)
    if value not in (0, 1) or not isinstance(sizes, tuple):
        refuse("a constant array of other values than 0, 1, False and True")
    sort = "bool" if options.get("dtype") == "bool" or isinstance(value, bool) else "indicator"
    return Cells(sort, tuple(map(index, sizes)), lambda i: TRUE if value == 1 else Not(TRUE))


def plain_options(options: dict[str, Any]) -> None:
    """The keywords of a factory: only dtype means anything."""
    if set(options) - {"dtype", "device", "pin_memory", "layout"}:
        refuse("unknown keywords of a factory", CertificateInvalid)


@op("aten.tril.default")
def tril(b: Builder, x: Any, diagonal: Any = 0) -> Any:
    return triangle(x, causal(last_two(x), index(diagonal)))


@op("aten.triu.default")
def triu(b: Builder, x: Any, diagonal: Any = 0) -> Any:
    return triangle(x, cellwise("bool", negated, causal(last_two(x), minus(index(diagonal), ONE))))


def last_two(x: Any) -> Shape:
    shape: Shape = x.shape if isinstance(x, (Real, Cells)) else ()
    if len(shape) < 2 or ONE in shape[-2:]:
        refuse("a triangle of an array with at least two axes, none of them a unit axis")
    return shape[-2:]


def triangle(x: Any, inside: Cells) -> Any:
    if isinstance(x, Cells):
        return cellwise(x.sort, both, x if x.sort == "indicator" else cells(x, "bool"), inside)
    return where(Builder(), inside, real(x), 0)


@op("aten.logical_not.default", "aten.bitwise_not.default")
def not_(b: Builder, x: Any) -> Cells:
    return cellwise("bool", negated, cells(x, "bool"))


@op("aten.logical_and.default", "aten.bitwise_and.Tensor", "aten.__and__.Tensor")
def and_(b: Builder, x: Any, y: Any) -> Cells:
    return cellwise("bool", both, cells(x, "bool"), cells(y, "bool"))


@op("aten.logical_or.default", "aten.bitwise_or.Tensor", "aten.__or__.Tensor")
def or_(b: Builder, x: Any, y: Any) -> Cells:
    return cellwise("bool", either, cells(x, "bool"), cells(y, "bool"))


def comparison(f: Callable[[Term, Term], Term]) -> Handler:
    def compare(b: Builder, x: Any, y: Any) -> Cells:
        if isinstance(x, Cells) and x.sort in ("bool", "indicator") and f in (_eq, _ne) and type(y) in (int, bool, Fraction):
            if y not in (0, 1):
                refuse("a mask is compared with another number than 0 and 1")
            return cellwise("bool", (lambda g: g) if (f is _eq) == (y == 1) else negated, x)
        if isinstance(x, Real) or isinstance(y, Real):
            refuse("a comparison of real values; visibility depends on positions and boolean masks only")
        return cellwise("bool", f, cells(x, "index"), cells(y, "index"))

    return compare


def _eq(x: Term, y: Term) -> Term:
    return both(Le(x, y), Le(y, x))


def _ne(x: Term, y: Term) -> Term:
    return Not(_eq(x, y))


for _name, _compare in {
    "le": Le, "lt": Lt, "ge": lambda x, y: Le(y, x), "gt": lambda x, y: Lt(y, x), "eq": _eq, "ne": _ne,
}.items():  # fmt: skip
    op(f"aten.{_name}.Tensor", f"aten.{_name}.Scalar")(comparison(_compare))


# --- rearrangement -------------------------------------------------------------------------------


@op("aten.sym_size.int")
def sym_size(b: Builder, x: Any, dim: Any) -> Cells:
    shape = shaped(x).shape
    return cells_of(shape[axis(dim, len(shape))])


def shaped(x: Any) -> Real | Cells:
    if isinstance(x, Real) and x.role not in ("", "row"):
        return x
    return x if isinstance(x, Cells) else x if scores_of(x, "row") else real(x)


@op(
    "aten.contiguous.default",
    "aten.clone.default",
    "aten.detach.default",
    "aten.alias.default",
    "aten.lift_fresh_copy.default",
)
def same(b: Builder, x: Any, memory_format: Any = None) -> Any:
    return x


@op("aten.to.dtype", "aten._to_copy.default", "aten.to.dtype_layout")
def to_dtype(b: Builder, x: Any, dtype: Any = None, **options: Any) -> Any:
    kept = {Real: "float64", Cells: "bool" if isinstance(x, Cells) and x.sort == "bool" else "int64"}.get(
        type(x)
    )
    if dtype is not None and dtype != kept:
        refuse(f"a conversion to {dtype}; covered are float64 values, boolean masks and int64 indices")
    return x


def no_cast(dtype: Any) -> None:
    if dtype not in (None, "float64"):
        refuse(f"a conversion to {dtype}; only float64 is covered")


@op("aten.dropout.default")
def dropout(b: Builder, x: Any, p: Any, train: Any) -> Any:
    if p != 0 and flag(train):
        refuse("dropout is random; call it with p=0.0 or training=False")
    return x


def swapped(rank: int, j: Any, k: Any) -> list[int]:
    order = list(range(rank))
    j, k = axis(j, rank), axis(k, rank)
    order[j], order[k] = k, j
    return order


@op("aten.transpose.int", "aten.swapaxes.default")
def transpose(b: Builder, x: Any, j: Any, k: Any) -> Any:
    x = arrays(x)
    return permuted(x, swapped(len(x.shape), j, k))


@op("aten.mT.default", "aten.adjoint.default")
def matrix_transpose(b: Builder, x: Any) -> Any:
    return transpose(b, x, -2, -1)


@op("aten.t.default", "aten.numpy_T.default")
def reversed_axes(b: Builder, x: Any) -> Any:
    x = arrays(x)
    return permuted(x, list(reversed(range(len(x.shape)))))


@op("aten.permute.default")
def permute(b: Builder, x: Any, dims: Any) -> Any:
    x = arrays(x)
    order = axes_of(dims, len(x.shape))
    if len(order) != len(x.shape):
        refuse("a permutation of other axes than the array's", CertificateInvalid)
    return permuted(x, order)


def arrays(x: Any) -> Real | Cells:
    return x if isinstance(x, Cells) else real(x)


@op("aten.unsqueeze.default")
def unsqueeze(b: Builder, x: Any, dim: Any) -> Any:
    x = x if scores_of(x, "row") else arrays(x)
    k = axis(dim, len(x.shape) + 1)
    shape = (*x.shape[:k], ONE, *x.shape[k:])
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda i: x.at([*i[:k], *i[k + 1 :]]))
    return replace(x, shape=shape)


@op("aten.squeeze.dim")
def squeeze(b: Builder, x: Any, dim: Any) -> Any:
    x = arrays(x)
    k = axis(dim, len(x.shape))
    if x.shape[k] is not ONE:
        refuse("squeeze of an axis that is not 1 for all sizes")
    shape = (*x.shape[:k], *x.shape[k + 1 :])
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda i: x.at([*i[:k], ZERO, *i[k:]]))
    return replace(x, shape=shape)


@op("aten.expand.default", "aten.broadcast_to.default")
def expand(b: Builder, x: Any, sizes: Any, implicit: Any = False) -> Any:
    x = arrays(x)
    lead = len(sizes) - len(x.shape)
    if lead < 0:
        refuse("expand to fewer axes", CertificateInvalid)
    own = (ONE,) * lead + x.shape
    shape = joined(
        own,
        tuple(
            e if type(s) is int and s == -1 else b.named(index(s)) for s, e in zip(sizes, own, strict=True)
        ),
    )
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda i: lookup(x, i))
    if core(shape) == x.core:
        return replace(x, shape=shape)
    axes = [k for k, e in zip(range(len(shape)), shape, strict=True) if e is not ONE]
    held = [n for n, k in enumerate(axes) if own[k] is not ONE]
    return gathered(x, shape, lambda i: [i[n] for n in held])


@op("aten.slice.Tensor")
def slice_(b: Builder, x: Any, dim: Any = 0, start: Any = None, end: Any = None, step: Any = 1) -> Any:
    x = (
        x
        if isinstance(x, Real) and x.role in ("row", "score") and start in (None, 0) and end is None
        else arrays(x)
    )
    k = axis(dim, len(x.shape))
    n = x.shape[k]
    first = ZERO if start is None else bound(b, start, n)
    last = n if end is None else bound(b, end, n)
    if step != 1:
        refuse("a slice with a step")
    b.assume(Le(first, last))
    return section(b, x, k, first, minus(last, first) if last is not n or first is not ZERO else n)


def bound(b: Builder, x: Any, extent: Term) -> Term:
    """An end of a slice; a negative literal counts from the back.  Owes that PyTorch does not clamp it."""
    i = index(x)
    if i.op == "int" and i.data < 0:
        b.assume(Le(Int(-i.data), extent))
        return plus(extent, i)
    if i is not extent:
        b.assume(Le(i, extent))
    return i


@op("aten.narrow.default")
def narrow(b: Builder, x: Any, dim: Any, start: Any, length: Any) -> Any:
    x = arrays(x)
    k = axis(dim, len(x.shape))
    first, count = bound(b, start, x.shape[k]), index(length)
    b.assume(Le(plus(first, count), x.shape[k]))
    return section(b, x, k, first, count)


def section(b: Builder, x: Any, k: int, first: Term, count: Term) -> Any:
    """``count`` rows of axis k from ``first`` on: drop, then take."""
    n = x.shape[k]
    if first is ZERO and b.same(count, n):
        return x
    shape = (*x.shape[:k], b.named(count), *x.shape[k + 1 :])
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda i: x.at([*i[:k], plus(i[k], first), *i[k + 1 :]]))
    if n is ONE or count is ONE:
        p = len(core(x.shape[:k]))
        return (
            gathered(x, shape, lambda i: [*i[:p], first, *i[p:]])
            if n is not ONE
            else refuse("a section of a unit axis")
        )
    t, rest = x, minus(n, first)
    if first is not ZERO:
        t = on_axis(x, k, lambda c: Term("drop", (1,), (c, first)), (*x.shape[:k], rest, *x.shape[k + 1 :]))
    if b.same(rest, count):
        return replace(t, shape=t.shape)
    return on_axis(t, k, lambda c: Term("take", (1,), (c, shape[k])), shape)


def on_axis(x: Real, k: int, f: Callable[[Term], Term], shape: Shape) -> Real:
    """A function of the first axis, applied at axis k: on the cells that begin there."""
    before = len(core(x.shape[:k]))
    return checked(omega((len(x.core) - before,), [x.term], f) if before else f(x.term), shape)


@op("aten.select.int")
def select(b: Builder, x: Any, dim: Any, at: Any) -> Any:
    x = arrays(x)
    k = axis(dim, len(x.shape))
    n, i = x.shape[k], index(at)
    b.assume(Le(Int(-i.data), n) if i.op == "int" and i.data < 0 else Lt(i, n))
    where_ = plus(n, i) if i.op == "int" and i.data < 0 else i
    shape = (*x.shape[:k], *x.shape[k + 1 :])
    if isinstance(x, Cells):
        return Cells(x.sort, shape, lambda j: x.at([*j[:k], where_, *j[k:]]))
    if n is ONE:
        return replace(x, shape=shape)
    p = len(core(x.shape[:k]))
    return gathered(x, shape, lambda j: [*j[:p], where_, *j[p:]])


@op("aten.flip.default")
def flip(b: Builder, x: Any, dims: Any) -> Real:
    x = real(x)
    for k in axes_of(dims, len(x.shape)):
        if x.shape[k] is not ONE:
            x = on_axis(x, k, lambda c: Term("reverse", None, (c,)), x.shape)
    return x


@op("aten.roll.default")
def roll(b: Builder, x: Any, shifts: Any, dims: Any = ()) -> Real:
    """Element i is that at (i - shift) mod n: MoA's rotate by -shift."""
    x = real(x)
    shifts, dims = (s if isinstance(s, tuple) else (s,) for s in (shifts, dims))
    if len(shifts) != len(dims):
        refuse("roll without an axis for each shift")
    for s, k in zip(shifts, axes_of(dims, len(x.shape)), strict=True):
        by = minus(ZERO, index(s))
        if x.shape[k] is not ONE:
            x = on_axis(x, k, lambda c, by=by: Term("rotate", None, (c, by)), x.shape)  # type: ignore[misc]
    return x


@op("aten.cat.default", "aten.concat.default")
def cat(b: Builder, tensors: Any, dim: Any = 0) -> Real:
    if not isinstance(tensors, tuple) or not tensors:
        refuse("a list of arrays is due", CertificateInvalid)
    total, *others = map(real, tensors)
    k = axis(dim, len(total.shape))
    for x in others:
        if len(x.shape) != len(total.shape) or ONE in (*x.shape, *total.shape):
            refuse("catenation of arrays of one rank, without unit axes")
        rank = len(x.shape) - k
        shape = (*total.shape[:k], Add(total.shape[k], x.shape[k]), *total.shape[k + 1 :])
        joint = lambda u, v: Term("cat", None, (u, v))  # noqa: E731
        t = omega((rank, rank), (total.term, x.term), joint) if k else joint(total.term, x.term)
        total = checked(t, shape)
    return total


@op("aten.outer.default")
def outer(b: Builder, x: Any, y: Any) -> Real:
    x, y = real(x), real(y)
    return checked(Term("outer", "mul", (x.term, y.term)), (*x.shape, *y.shape))


@op("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default")
def reshape(b: Builder, x: Any, sizes: Any) -> Any:
    x = arrays(x)
    total = product(x.shape)
    known = [index(s) for s in sizes if not (type(s) is int and s == -1)]
    if len(known) < len(sizes) - 1:
        refuse("more than one -1", CertificateInvalid)
    missing = b.named(normal(Div(b.expand(total), b.expand(product(known)))))
    shape = tuple(b.named(index(s)) if not (type(s) is int and s == -1) else missing for s in sizes)
    if not b.same(product(shape), total):
        refuse("a reshape whose extents are not seen to have the same product for all sizes")
    return reshaped(b, x, shape)


@op("aten.flatten.using_ints")
def flatten(b: Builder, x: Any, start_dim: Any = 0, end_dim: Any = -1) -> Any:
    x = arrays(x)
    j, k = axis(start_dim, len(x.shape)), axis(end_dim, len(x.shape))
    return reshaped(b, x, (*x.shape[:j], b.named(product(x.shape[j : k + 1])), *x.shape[k + 1 :]))


def reshaped(b: Builder, x: Real | Cells, shape: Shape) -> Any:
    """Row-major regrouping of axes: each shortest run of old axes with the product of a run of new ones."""
    old, new = core(x.shape), core(shape)
    runs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        options = [
            (p, q)
            for n in range(2, 12)
            for p in range(1, n)
            if (q := n - p) and i + p <= len(old) and j + q <= len(new)
        ]
        found = [(p, q) for p, q in options if b.same(product(old[i : i + p]), product(new[j : j + q]))]
        if not found:
            refuse("a reshape whose axes are not regrouped for all sizes")
        runs.append(found[0])
        i, j = i + found[0][0], j + found[0][1]
    if all(run == (1, 1) for run in runs) and isinstance(x, Real):
        return replace(x, shape=shape)
    if isinstance(x, Cells):
        refuse("a reshape of a mask; use unsqueeze or expand")

    def source(at: Index) -> Index:
        out: list[Term] = []
        i = j = 0
        for p, q in runs:
            offset = gamma(at[j : j + q], new[j : j + q])
            out += gamma_inverse(offset, old[i : i + p])
            i, j = i + p, j + q
        return out

    return gathered(x, shape, source)


@op("aten.einsum.default")
def einsum(b: Builder, equation: Any, operands: Any, path: Any = None) -> Real:
    """Two operands, each letter at most once in each: the sum over the letters that the result lacks."""
    if not isinstance(equation, str) or not isinstance(operands, tuple) or len(operands) != 2:
        refuse("einsum of two operands with an explicit result is covered")
    text = equation.replace(" ", "")
    left, arrow, out = text.partition("->")
    sides = left.split(",")
    if (
        not arrow
        or len(sides) != 2
        or not all(s.isalpha() and len(set(s)) == len(s) for s in (*sides, out or "a"))
    ):
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
        guard = lookup(x.seen, [place[c] for c in sides[0]]) if weight and x.seen else TRUE
        for c in reversed(summed):
            t = Fold("add", extents[c], t, guard)
        return t

    shape = tuple(extents[c] for c in out)
    return checked(tabulate(shape, element), shape)


# --- the whole graph -----------------------------------------------------------------------------

COVERED: Final = (
    "matmul (@, mm, bmm, einsum of two operands), scaled_dot_product_attention, softmax over the last axis, exp, sqrt,"
    " + - * /, powers 2, 1, -1, 0.5, -0.5, sum, prod, mean, amax, max(dim), masked_fill and where with boolean masks, tril,"
    " triu, arange comparisons, logical and/or/not, transpose, permute, mT, unsqueeze, squeeze, expand, reshape and view of"
    " whole axes, repeat_interleave, slices, narrow, select, cat, flip, roll, outer"
)


def spec_of(document: Any) -> Spec:
    """The Spec of a captured graph (a JSON document).

    Raises ``CertificateInvalid`` for a graph that is not well formed and ``NotCovered`` for an operator or a use of one
    that the table does not have; both name function, file, line and operator.
    """
    graph = parse(document)
    b = Builder(graph.equations)
    for size, factors in graph.equations:
        b.hypotheses |= {Le(Size(size), factors): None, Le(factors, Size(size)): None}
    b.hypotheses |= dict.fromkeys(graph.hypotheses)
    inputs = {i.name: _parameter(b, i) for i in graph.inputs}
    done: list[Any] = []
    for node in graph.nodes:
        done.append(_call(graph, b, node, inputs, done))
    try:
        term = _result(_resolve(graph.output, inputs, done))
    except (Refusal, MoaproofError, RecursionError) as e:
        raise _placed(graph, graph.line, "its result", e) from None
    ins = tuple(_in(i) for i in graph.inputs if i.kind != "literal")
    return Spec(term, ins, tuple(b.hypotheses), tuple(b.deviations))


def _in(i: Input) -> Term:
    return In(i.name, *map(Size, i.extents), sort="bool" if i.kind in ("bool", "mask") else "real")


def _parameter(b: Builder, i: Input) -> Any:
    match i.kind:
        case "literal":
            return _literal(i.value)
        case "scalar":
            return Real(_in(i))
        case "mask":
            return _broadcast_mask(b, i)
    return input_value(i.name, i.extents, i.kind)


def _broadcast_mask(b: Builder, i: Input) -> Cells:
    """A mask read at index*step: the step is 0 where its axis is 1 long.  Owes step*size < extent + step."""
    for extent, step, over in zip(i.extents, i.steps, i.over, strict=True):
        if step is not None:
            b.hypotheses[Lt(Mul(Size(step), Size(over)), Add(Size(extent), Size(step)))] = None
    read = lambda at: [v if s is None else Mul(v, Size(s)) for v, s in zip(at, i.steps, strict=True)]  # noqa: E731
    return Cells("bool", tuple(map(Size, i.over)), lambda at: Psi(_in(i), *read(at)))


def _literal(x: Any) -> Any:
    return MINUS_INFINITY if isinstance(x, float) else x


def _resolve(x: Any, inputs: dict[str, Any], done: Sequence[Any]) -> Any:
    match x:
        case Ref():
            return done[x.node]
        case Param():
            return inputs[x.name]
        case tuple():
            return tuple(_resolve(y, inputs, done) for y in x)
    return _literal(x)


def _call(graph: Graph, b: Builder, node: Node, inputs: dict[str, Any], done: Sequence[Any]) -> Any:
    handler = TABLE.get(node.op)
    try:
        if handler is None:
            in_place = node.op.startswith("aten.") and node.op.split(".")[1].endswith("_")
            refuse(
                "an in-place operator; write the result to a new name"
                if in_place
                else "the operator is not covered"
            )
        args = [_resolve(a, inputs, done) for a in node.args]
        kwargs = {k: _resolve(v, inputs, done) for k, v in node.kwargs.items()}
        try:
            inspect.signature(handler).bind(b, *args, **kwargs)
        except TypeError:
            refuse("arguments that are not covered")
        return handler(b, *args, **kwargs)
    except (Refusal, MoaproofError, RecursionError) as e:
        raise _placed(graph, node.line, node.op, e) from None


def _placed(graph: Graph, line: int, what: str, e: Exception) -> MoaproofError:
    place = f"{graph.file}:{line}: {graph.function}: {what}: "
    if isinstance(e, Refusal) and e.kind is NotCovered:
        return NotCovered(f"{place}{e.why}. Covered are: {COVERED}")
    why = "it is nested too deep" if isinstance(e, RecursionError) else str(e)
    return CertificateInvalid(place + why)


def _result(x: Any) -> Term:
    """The term of the function's result; unit axes come back by a reshape."""
    y = real(x)
    if not isinstance(x, Real):
        refuse("the function returns no array of reals")
    if typeof(y.term).sort == "opt":
        refuse(
            "the function returns a maximum, which is Empty over no elements; use it in a larger expression"
        )
    return y.term if y.core == y.shape else Term("reshape", None, (y.term, *y.shape))
