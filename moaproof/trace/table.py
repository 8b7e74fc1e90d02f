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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import CertificateInvalid, MoaproofError, NotCovered
from ..operators import typeof
from ..term import Add, In, Le, Lt, Mul, Psi, Size, Term
from . import arithmetic, masks, products, rearrange
from .builder import TABLE, Builder
from .graph import Graph, Input, Node, Param, Ref, parse
from .values import MINUS_INFINITY, Cells, Index, Real, Refusal, input_value, real, refuse

FILLED_BY: Final = (products, arithmetic, masks, rearrange)  # importing them fills TABLE


@dataclass(frozen=True, slots=True)
class Spec:
    """What the function means.

    ``inputs`` are ``in`` terms in the order of the parameters; ``hypotheses`` are Bool terms over sizes;
    ``deviations`` are fixed sentences on where the function's own value is another.
    """

    term: Term
    inputs: tuple[Term, ...]
    hypotheses: tuple[Term, ...]
    deviations: tuple[str, ...]


COVERED: Final = (
    "matmul (@, mm, bmm, einsum of two operands), scaled_dot_product_attention, softmax over the last axis, exp,"
    " sqrt, + - * /, maximum, powers 2, 1, -1, 0.5, -0.5, sum, prod, mean, amax, max(dim), masked_fill and where with"
    " boolean masks, tril, triu, arange comparisons, logical and/or/not, transpose, permute, mT, unsqueeze, squeeze,"
    " expand, reshape and view of whole axes, repeat_interleave, slices, narrow, select, cat, flip, roll, outer"
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

    def element(at: Index) -> Term:
        return Psi(_in(i), *[v if s is None else Mul(v, Size(s)) for v, s in zip(at, i.steps, strict=True)])

    return Cells("bool", tuple(map(Size, i.over)), element)


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
                "an in-place operator; write the result to a new name" if in_place else "the operator is not covered"
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
        refuse("the function returns a maximum, which is Empty over no elements; use it in a larger expression")
    return y.term if y.core == y.shape else Term("reshape", None, (y.term, *y.shape))
