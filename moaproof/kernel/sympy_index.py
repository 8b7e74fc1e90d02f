"""Index equality by SymPy: the second of two deciders.  Both must answer alike, so nothing rests on this one."""

from __future__ import annotations

from typing import Any

from ..errors import BackendMissing
from ..shapes import normal
from ..term import Term


def sympy_equal(a: Term, b: Term) -> bool:
    """Does SymPy expand a - b to 0?  It gets sums and products unevaluated; min and division are opaque symbols."""
    try:
        import sympy
    except ImportError:
        raise BackendMissing("the check needs sympy: pip install sympy") from None
    symbols: dict[Term, Any] = {}

    def go(t: Term) -> Any:
        match t.op:
            case "int":
                return sympy.Integer(t.data)
            case "iadd" | "imul":
                kind = sympy.Add if t.op == "iadd" else sympy.Mul
                return kind(go(t.args[0]), go(t.args[1]), evaluate=False)
        # Min and floor division are opaque, named by our normal form: a whole part may come out of a division.
        if t.op in ("imin", "idiv") and (n := normal(t)) is not t:
            return go(n)
        return symbols.setdefault(t, sympy.Symbol(f"s{len(symbols)}", integer=True))

    difference = sympy.Add(go(a), sympy.Mul(-1, go(b), evaluate=False), evaluate=False)
    return bool(sympy.expand(difference.doit()) == 0)
