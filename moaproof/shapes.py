"""Index algebra: polynomials in sizes and indices, gamma and its inverse.  Trusted; standard library only.

An index term becomes a polynomial with integer coefficients; ``min`` and floor division are atoms whose arguments are
in normal form.  Two index terms with the same polynomial are equal for all values of their variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from .errors import IllFormed
from .term import ONE, ZERO, Add, Div, Int, Min, Mul, Term

Monomial = tuple[tuple[Term, int], ...]  # atoms by digest, with their powers
Polynomial = dict[Monomial, int]
MAX_DEGREE = 40
MAX_TERMS = 3000  # monomials of one index expression; a certificate's have a dozen


def _sorted(powers: dict[Term, int]) -> Monomial:
    return tuple(sorted(((a, n) for a, n in powers.items() if n), key=lambda p: p[0].digest))


def _plus(a: Polynomial, b: Polynomial) -> Polynomial:
    out = dict(a)
    for m, c in b.items():
        out[m] = out.get(m, 0) + c
    return {m: c for m, c in out.items() if c}


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    out: Polynomial = {}
    for m, c in a.items():
        for k, d in b.items():
            powers = dict(m)
            for atom, n in k:
                powers[atom] = powers.get(atom, 0) + n
            key = _sorted(powers)
            if sum(n for _, n in key) > MAX_DEGREE:
                raise IllFormed(f"an index expression of a degree above {MAX_DEGREE}")
            out[key] = out.get(key, 0) + c * d
        if len(out) > MAX_TERMS:
            raise IllFormed(f"an index expression of more than {MAX_TERMS} terms")
    return {m: c for m, c in out.items() if c}


@lru_cache(maxsize=200_000)
def polynomial(t: Term) -> tuple[tuple[Monomial, int], ...]:
    """The normal form of an index term, as sorted (monomial, coefficient) pairs."""

    def go(u: Term) -> Polynomial:
        match u.op:
            case "int":
                return {(): u.data} if u.data else {}
            case "iadd":
                return _plus(dict(polynomial(u.args[0])), dict(polynomial(u.args[1])))
            case "imul":
                return _times(dict(polynomial(u.args[0])), dict(polynomial(u.args[1])))
            case "imin":
                a, b = sorted((normal(u.args[0]), normal(u.args[1])), key=lambda x: x.digest)
                return dict(polynomial(a)) if a is b else {((Min(a, b), 1),): 1}
            case "idiv":
                return _divide(normal(u.args[0]), normal(u.args[1]))
            case _:
                return {((u, 1),): 1}

    key = lambda p: tuple((a.digest, n) for a, n in p[0])  # noqa: E731
    return tuple(sorted(go(t).items(), key=key))


def _divide(a: Term, b: Term) -> Polynomial:
    """floor(a/b): monomials of ``a`` that ``b`` divides leave the floor, because floor(x + r/b) = x + floor(r/b)."""
    divisor = polynomial(b)
    whole: Polynomial = {}
    rest: Polynomial = dict(polynomial(a))
    if len(divisor) == 1 and divisor[0][1] > 0:
        (atoms, c) = divisor[0]
        for m, d in list(rest.items()):
            powers = dict(m)
            if d % c == 0 and all(powers.get(x, 0) >= n for x, n in atoms):
                for x, n in atoms:
                    powers[x] -= n
                whole = _plus(whole, {_sorted(powers): d // c})
                del rest[m]
    if not rest:
        return whole
    return _plus(whole, {((Div(term_of(tuple(rest.items())), b), 1),): 1})


def term_of(p: Sequence[tuple[Monomial, int]]) -> Term:
    """The canonical term of a polynomial."""
    total: Term | None = None
    for m, c in sorted(p, key=lambda row: tuple((a.digest, n) for a, n in row[0])):
        product: Term | None = None if c == 1 and m else Int(c)
        for atom, n in m:
            for _ in range(n):
                product = atom if product is None else Mul(product, atom)
        product = Int(c) if product is None else product
        total = product if total is None else Add(total, product)
    return total if total is not None else ZERO


def normal(t: Term) -> Term:
    """The canonical index term that equals ``t`` for all values of the variables."""
    return term_of(polynomial(t))


def same_index(a: Term, b: Term) -> bool:
    """Do two index terms have the same polynomial?  True is a proof; False says nothing."""
    return a is b or polynomial(a) == polynomial(b)


def product(extents: Sequence[Term]) -> Term:
    """pi: the product of the extents; 1 of none."""
    total = ONE
    for e in extents:
        total = e if total is ONE else Mul(total, e)
    return total


def gamma(index: Sequence[Term], extents: Sequence[Term]) -> Term:
    """Row-major offset, by Horner's rule: ((i0*s1 + i1)*s2 + i2)...; 0 of the empty index (TR94, SM)."""
    if len(index) != len(extents):
        raise IllFormed(f"gamma: {len(index)} indices for {len(extents)} extents")
    offset = ZERO
    for k, (i, s) in enumerate(zip(index, extents, strict=True)):
        offset = i if k == 0 else Add(Mul(offset, s), i)
    return offset


def gamma_column(index: Sequence[Term], extents: Sequence[Term]) -> Term:
    """Column-major offset: gamma of the reversed index and extents."""
    return gamma(tuple(reversed(index)), tuple(reversed(extents)))


def gamma_inverse(offset: Term, extents: Sequence[Term]) -> tuple[Term, ...]:
    """The full index of a row-major offset: floor divisions from the right (UG)."""
    index: list[Term] = []
    for s in reversed(extents[1:]):
        q = Div(offset, s)
        index.append(Add(offset, Mul(Int(-1), Mul(q, s))))
        offset = q
    if extents:
        index.append(offset)
    return tuple(reversed(index))
