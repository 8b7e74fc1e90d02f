"""What the handlers of operators share: the register, equations between sizes, hypotheses.  Trusted for claim (a)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, TypeVar

from ..errors import CertificateInvalid
from ..operators import INDEX_SORTED
from ..shapes import normal, polynomial, same_index
from ..term import ZERO, Div, Lt, Size, Term
from .values import Cells, Real, axis, evident, minus, real, refuse

EMPTY_ROW: Final = "a row with no visible key is 0 in the specification, where the function gives NaN"
CAUSAL_SCALE: Final = (
    "for is_causal with a scale that is not positive the specification has a value, where PyTorch's flash attention for"
    " the CPU (torch 2.13) gives NaN"
)


@dataclass(slots=True)
class Builder:
    """What a translation gathers beside values: equations between sizes, hypotheses and deviations."""

    equations: tuple[tuple[str, Term], ...] = ()
    hypotheses: dict[Term, None] = field(default_factory=dict)
    deviations: dict[str, None] = field(default_factory=dict)

    def assume(self, g: Term) -> None:
        """A hypothesis a < b, unless it is evident for all natural numbers, or from another one."""
        a, b = g.args
        if evident(a, b) or any(_follows(g, h) for h in self.hypotheses):
            return
        for h in [h for h in self.hypotheses if _follows(h, g)]:
            del self.hypotheses[h]
        self.hypotheses[g] = None

    def positive(self, t: Term) -> None:
        """A divisor: where it is a size, a size as a real, or the root of one, the size is owed to be positive."""
        while t.op == "cast" or (t.op == "f" and t.data == "sqrt"):
            t = t.args[0]
        if t.op in INDEX_SORTED:
            self.assume(Lt(ZERO, t))

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


def _follows(goal: Term, known: Term) -> bool:
    """Does a < b follow from c < d, because (b - a) - (d - c) has no negative coefficient?"""
    if goal.op != "lt" or known.op != "lt":
        return False
    slack = minus(minus(goal.args[1], goal.args[0]), minus(known.args[1], known.args[0]))
    return all(c > 0 for _, c in polynomial(slack))


Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)
TABLE: Final[dict[str, Handler]] = {}


def op(*names: str) -> Callable[[H], H]:
    """Register the meaning of operators; the handler's parameters are the operator's own, after the builder."""

    def register(f: H) -> H:
        TABLE.update(dict.fromkeys(names, f))
        return f

    return register


def scores_of(x: Any, role: str) -> bool:
    return isinstance(x, Real) and x.role == role


def flag(x: Any) -> bool:
    if not isinstance(x, bool):
        refuse("a flag is due as a literal True or False")
    return bool(x)


def cells_of(size: Term) -> Cells:
    return Cells("index", (), lambda i: size)


def number(x: Any) -> bool:
    """A Python number or an expression of sizes, not an array."""
    return isinstance(x, (int, Fraction)) or (isinstance(x, Cells) and not x.shape)


def whole(x: Any) -> bool:
    return type(x) is int or (isinstance(x, Cells) and x.sort == "index")


def axes_of(dim: Any, rank: int) -> list[int]:
    """Literal axes; None, and no axis at all, mean every axis."""
    dims = range(rank) if dim is None or dim == () else dim if isinstance(dim, tuple) else (dim,)
    found = [axis(k, rank) for k in dims]
    if len(set(found)) != len(found):
        refuse("an axis is named twice")
    return found


def no_cast(dtype: Any) -> None:
    if dtype not in (None, "float64"):
        refuse(f"a conversion to {dtype}; only float64 is covered")


def listed(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else refuse("a list is due", CertificateInvalid)


def arrays(x: Any) -> Real | Cells:
    return x if isinstance(x, Cells) else real(x)


def swapped(rank: int, j: Any, k: Any) -> list[int]:
    order = list(range(rank))
    j, k = axis(j, rank), axis(k, rank)
    order[j], order[k] = k, j
    return order
