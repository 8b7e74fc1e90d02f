"""The scalar facts under the lemmas of ``rounding``, for all real numbers; Z3 proves each.  Trusted as data.

A fact is an implication between polynomial inequalities.  The negation is given to Z3, whose literal ``unsat`` is the
proof; anything else is an error.  What joins the facts to the lemmas is elementary and assumed by name: a sum over keys
is linear in its terms, a fold is by induction on its length, e^(a+b) = e^a e^b and e^x is monotone.

Letters as in ``rounding``: I is 1/(1-u) and J is 1/(1-eps), each given by its equation; P, Q are growths; A, B sizes;
y, z lost parts; d, e the rounding errors of one operation; x^ is written xh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ..errors import BackendMissing, Unknown

RLIMIT: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Fact:
    """A scalar fact: what it says in words, and its hypotheses and conclusion in SMT-LIB."""

    says: str
    given: tuple[str, ...]
    then: str

    @property
    def text(self) -> str:
        """The question: hypotheses, and the negation of the conclusion."""
        tokens = " ".join((*self.given, self.then)).replace("(", " ").replace(")", " ").split()
        names = dict.fromkeys(t for t in tokens if t[0].isalpha() and t not in _WORDS)
        lines = [f"(declare-const {n} Real)" for n in names]
        return "\n".join([*lines, *(f"(assert {g})" for g in self.given), f"(assert (not {self.then}))"])


_WORDS = frozenset({"and", "or", "not", "ite", "let"})


def _near(x: str, limit: str) -> str:
    """|x| <= limit."""
    return f"(and (<= {x} {limit}) (<= (- {x}) {limit}))"


_U = ("(<= 0 u)", "(<= u (/ 1 8))", "(= (* I (- 1 u)) 1)")
_EPS = ("(<= 0 eps)", "(<= eps (/ 1 8))", "(= (* J (- 1 eps)) 1)")
_D, _E = _near("d", "u"), _near("e", "u")
_P, _Q = "(>= P 1)", "(>= Q 1)"
_LOST = ("(>= y 0)", "(>= z 0)")


def _off(err: str, growth: str, size: str, lost: str) -> str:
    """|err| <= (growth - 1) size + growth lost."""
    return _near(err, f"(+ (* (- {growth} 1) {size}) (* {growth} {lost}))")


FACTS: Final[Mapping[str, tuple[Fact, ...]]] = {
    "rounding": (
        Fact("1 + d is between 1 - u and 1/(1-u)", (*_U, _D), "(and (<= (- 1 u) (+ 1 d)) (<= (+ 1 d) I))"),
        Fact("|w| <= W gives |w d| <= u W", (*_U, _D, "(>= W 0)", _near("w", "W")), _near("(* w d)", "(* u W)")),
        Fact(
            "(P-1) A + P y + u (P A + P y) + z: rounding once takes P to P/(1-u) and adds what underflows",
            (*_U, _P, *_LOST, "(>= A 0)"),
            "(<= (+ (* (- P 1) A) (* P y) (* u (+ (* P A) (* P y))) z) (+ (* (- (* P I) 1) A) (* P I (+ y z))))",
        ),
    ),
    "add": (
        Fact(
            "sizes and what is lost add; the greater growth serves both",
            (_P, *_LOST, _near("a", "A"), _near("b", "B"), _off("p", "P", "A", "y"), _off("q", "P", "B", "z")),
            _off("(- (+ a p b q) (+ a b))", "P", "(+ A B)", "(+ y z)"),
        ),
    ),
    "product": (
        Fact(
            "sizes and growths multiply; if what one factor lost is at most 1, B y + y + A z + z is lost",
            (
                _P, _Q, *_LOST, "(<= z 1)", _near("a", "A"), _near("b", "B"), "(>= A 0)", "(>= B 0)",
                _off("p", "P", "A", "y"), _off("q", "Q", "B", "z"),
            ),
            _off("(- (* (+ a p) (+ b q)) (* a b))", "(* P Q)", "(* A B)", "(+ (* B y) y (* A z) z)"),
        ),
    ),
    "quotient": (
        Fact(
            "a divisor b off by a factor: with i = 1/b and its computed value i r, r between 1/Q and Q",
            (_P, _Q, "(>= y 0)", "(>= A 0)", "(> i 0)", "(> r 0)", "(<= r Q)", "(>= (* r Q) 1)", _near("a", "A"),
             _off("p", "P", "A", "y")),
            _off("(- (* (+ a p) i r) (* a i))", "(* P Q)", "(* A i)", "(* y i)"),
        ),
    ),
    "maximum": (
        Fact(
            "the greater of two is no further off than the worse of them",
            (_near("p", "m"), _near("q", "m")),
            _near("(- (ite (>= (+ a p) (+ b q)) (+ a p) (+ b q)) (ite (>= a b) a b))", "m"),
        ),
    ),
    "root": (
        Fact(
            "the root of a factor r between 1/P and P is a factor s between them too",
            (_P, "(> s 0)", "(<= (* s s) P)", "(>= (* s s P) 1)"),
            "(and (<= s P) (>= (* s P) 1))",
        ),
    ),
    "exponential": (
        Fact("1 + f is between 1 - eps and 1/(1-eps)", (*_EPS, _near("f", "eps")),
             "(and (<= (- 1 eps) (+ 1 f)) (<= (+ 1 f) J))"),
        Fact(
            "an error that is a factor r between 1/R and R, and eps, are off by (R J - 1) p, and t is lost",
            (*_EPS, "(>= p 0)", "(>= R 1)", "(> r 0)", "(<= r R)", "(>= (* r R) 1)", _near("f", "eps"), "(>= t 0)",
             _near("g", "t")),
            _off("(- (+ (* p r (+ 1 f)) g) p)", "(* R J)", "p", "t"),
        ),
    ),
    "telescoping": (
        Fact(
            "s <= m <= M: the sizes of two differences in a row are that of one",
            ("(<= s m)", "(<= m M)"),
            "(and (>= (- m s) 0) (>= (- M m) 0) (= (+ (- m s) (- M m)) (- M s)))",
        ),
        Fact(
            "scores within S, off by (P-1) S + P y, and u times their greatest difference: three roundings of S",
            (*_U, _P, "(>= S 0)", "(>= y 0)", "(<= 0 D)", "(<= D (* 2 (+ 1 u) (+ (* P S) (* P y))))"),
            "(<= (+ (* (- P 1) S) (* P y) (* u D)) (+ (* (- (* P I I I) 1) S) (* P I I I 2 y)))",
        ),
    ),
    "merge": (
        Fact(
            "a factor between 1/P and P, a product and an addition: a factor between (1-u)^2/P and P/(1-u)^2",
            (*_U, _P, _D, _E, "(> r 0)", "(<= r P)", "(>= (* r P) 1)"),
            "(and (<= (* r (+ 1 d) (+ 1 e)) (* P I I)) (>= (* r (+ 1 d) (+ 1 e) P I I) 1))",
        ),
        Fact(
            "what was lost meets a rescale c, at most J; one that underflows loses t for each unit of l",
            (*_EPS, _P, "(>= t 0)", "(>= N 0)", "(>= k 0)", "(<= (* k t) 1)", _near("y", "(* P k t)"), "(>= c 0)",
             "(<= c J)", "(>= J 1)", _near("g", "t"), "(>= w 0)", "(<= w (* P N))"),
            _near("(+ (* y c) (* (+ w y) g))", "(* P J t (+ k N 1))"),
        ),
        Fact(
            "and then a product, which may underflow, and an addition",
            (*_U, _D, _E, "(>= I 1)", "(>= t 0)", "(>= b 0)", _near("x", "b"), _near("h", "t")),
            _near("(* (+ 1 e) (+ (* (+ 1 d) x) h))", "(* I I (+ b t))"),
        ),
    ),
    "mean": (
        Fact(
            "weights off by factors between 1/r and r move a mean c of what is within V by at most T = 2V (r-1)/(r+1): "
            "above c + T lie values of weight v together, p above it in all; below it q, and p - q = -T W",
            ("(>= V 0)", "(> W 0)", "(>= v 0)", "(<= v W)", "(>= r 1)", "(>= p 0)", "(>= q 0)", _near("b", "V"),
             "(<= p (* (- V b) v))", "(<= q (* (+ V b) (- W v)))", "(= q (+ p (* T W)))",
             "(= (* T (+ r 1)) (* 2 V (- r 1)))"),
            "(<= (* r r p) q)",
        ),
        Fact(
            "o and l with errors of their own: a mean of what is within V, off by factors between 1/P and P",
            (_P, "(> f 0)", "(<= f P)", "(>= (* f P) 1)", _near("v", "V")),
            _near("(- (* f v) v)", "(* (- P 1) V)"),
        ),
        Fact(
            "what l and o lost, y and z, with i the computed 1/l: o/l is off by (z - c y) i",
            ("(= (* i (+ l y)) 1)",),
            "(= (- (* (+ (* c l) z) i) c) (* (- z (* c y)) i))",
        ),
        Fact(
            "which is at most 2 Z + 4 V Y, if the computed l is at least 1/2 and the mean c within 2 V",
            ("(>= V 0)", "(>= i 0)", "(<= i 2)", _near("c", "(* 2 V)"), _near("y", "Y"), _near("z", "Z")),
            _near("(* (- z (* c y)) i)", "(+ (* 2 Z) (* 4 V Y))"),
        ),
    ),
}  # fmt: skip


def prove(name: str, fact: Fact) -> None:
    """Return if Z3 proves the fact; else ``Unknown``."""
    try:
        import z3
    except ImportError:
        raise BackendMissing("the check needs z3-solver: pip install z3-solver") from None
    solver = z3.SolverFor("QF_NRA", ctx=z3.Context())
    solver.set("rlimit", RLIMIT)
    solver.from_string(fact.text)
    answer = str(solver.check())
    if answer != "unsat":
        raise Unknown(f"lemma {name}: Z3 answers {answer!r} to: {fact.says}")


@lru_cache(maxsize=1)
def prove_all() -> int:
    """The number of facts; returns only if Z3 proves them all.  About no certificate: once a process is enough."""
    rows = [(name, fact) for name, facts in FACTS.items() for fact in facts]
    for name, fact in rows:
        prove(name, fact)
    return len(rows)
