"""SymPy's ring of exponential polynomials: the second of two.

Atoms are symbols, exponentials are SymPy's; it expands sums and products and collects exponents by its own rules.  Both
rings must say equal, so nothing rests on this one alone.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ..errors import BackendMissing
from ..term import Term
from .bits import Different
from .reals import invert, mentions_index, one_over, term_from


class BySympy:
    """The same ring by SymPy: it expands sums and products and collects exponents by its own rules."""

    def __init__(self) -> None:
        try:
            import sympy
        except ImportError:
            raise BackendMissing("the check needs sympy: pip install sympy") from None
        self.sympy = sympy
        self.symbols: dict[Term, Any] = {}
        self.atoms: dict[Any, Term] = {}

    def const(self, c: Fraction) -> Any:
        return self.sympy.Rational(c.numerator, c.denominator)

    def atom(self, t: Term) -> Any:
        if t not in self.symbols:
            s = self.sympy.Symbol(f"a{len(self.symbols)}", real=True)
            self.symbols[t], self.atoms[s] = s, t
        return self.symbols[t]

    def add(self, a: Any, b: Any) -> Any:
        return self._joined(a + b)

    def mul(self, a: Any, b: Any) -> Any:
        return self._joined(a * b)

    def _joined(self, a: Any) -> Any:
        """Expanded, with one exponential in each product: SymPy's expansion leaves e^x * e^y apart."""
        S, rows = self.sympy, []
        for row in S.Add.make_args(S.expand(a, power_exp=False)):
            factors = S.Mul.make_args(row)
            h = S.Add(*[self._exponent(f) for f in factors if self._exponent(f) is not None])
            rest = [f for f in factors if self._exponent(f) is None]
            rows.append(S.Mul(*rest) * S.exp(S.expand(h, power_exp=False)))
        return S.Add(*rows)

    def _exponent(self, f: Any) -> Any:
        """h of a factor e^h, which SymPy writes E where h = 1; None of any other factor."""
        return f.exp if isinstance(f, self.sympy.exp) else self.sympy.Integer(1) if f == self.sympy.E else None

    def exp(self, a: Any) -> Any:
        return self.sympy.exp(self.sympy.expand(a, power_exp=False))

    def inverse(self, a: Any) -> Any:
        """Inverses are new symbols, so that SymPy cannot cancel what might be 0; numbers and e^h are not 0."""
        S = self.sympy
        if a == 0:
            return S.Integer(0)
        if len(S.Add.make_args(a)) > 1:
            return self.atom(one_over(self.term(a)))
        out = S.Integer(1)
        for f in S.Mul.make_args(a):
            if f.is_Rational or self._exponent(f) is not None:
                out = out / f
            else:
                base, power = f.as_base_exp()
                out = out * self.atom(invert(self.atoms[base])) ** power
        return out

    def outside(self, a: Any, x: Term) -> list[tuple[Any, Any]]:
        S = self.sympy
        moved = {s for s, t in self.atoms.items() if mentions_index(t, x)}
        split = []
        for row in S.Add.make_args(a) if a != 0 else ():
            out = inside = S.Integer(1)
            for f in S.Mul.make_args(row):
                if (h := self._exponent(f)) is not None:
                    rows = S.Add.make_args(h)
                    mine = [r for r in rows if r.free_symbols & moved]
                    inside *= S.exp(S.Add(*mine))
                    out *= S.exp(S.Add(*[r for r in rows if not r.free_symbols & moved]))
                elif f.free_symbols & moved:
                    inside *= f
                else:
                    out *= f
            split.append((out, inside))
        return split

    def term(self, a: Any) -> Term:
        S = self.sympy
        rows: list[tuple[Fraction, list[tuple[Term, int]], Term | None]] = []
        for row in S.Add.make_args(a) if a != 0 else ():
            c, atoms, h = Fraction(1), [], None
            for f in S.Mul.make_args(row):
                if f.is_Rational:
                    c *= Fraction(int(f.p), int(f.q))
                elif (e := self._exponent(f)) is not None:
                    if h is not None:
                        raise Different("SymPy left two exponentials apart")
                    h = self.term(e)
                else:
                    base, power = f.as_base_exp()
                    atoms.append((self.atoms[base], int(power)))
            rows.append((c, atoms, h))
        return term_from(rows)
