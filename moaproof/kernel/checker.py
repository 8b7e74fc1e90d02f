"""The replay judge: a certificate's derivation, re-checked from its bytes.  Trusted.

In order: the hypotheses are satisfiable and the tilings are definitions; the Spec is defined; every step is applied
and judged; the chain passes through the DNF and ends at the ONF; the ONF is defined as a whole, and each of its nodes
has the real inequality that it owes; the error bound that the certificate states is the one that the ONF has by the
lemmas; and the two ends agree at random points in finite fields, evaluated as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CertificateInvalid, DigestMismatch, IllFormed, MoaproofError, Refuted, Unknown
from ..operators import MOA, typeof
from ..semantics import Numbers, meaning
from ..shapes import product
from ..term import ONE, PATTERN_ONLY, ZERO, Int, Le, Lt, Mul, Size, Sub, Term, subterms
from .bits import Deciders
from .certificate import Certificate, Step, Tiling, sizes_of
from .inequalities import Inequalities, check_inequalities
from .integers import Tally
from .lemmas import prove_all
from .points import agree_at_points
from .rounding import Bound, bound_of, computed_once
from .rules import Pair, rewrite
from .step import Checker, locate

STATEMENT = frozenset({"true", "lt", "and", "not", "int", "size", "iadd", "imul", "imin", "idiv"})
Rulebook = Callable[[str, tuple[Any, ...]], Pair]  # (id, parameters) -> the two patterns


@dataclass
class StepReport:
    """What judging one step found."""

    rule: str
    kind: str
    z3: Tally
    sympy: Tally
    normaliser: Tally


@dataclass
class Report:
    """What the replay of a derivation found; made only by ``replay``, and only when everything was proved."""

    name: str
    core: str
    spec: str
    steps: list[StepReport] = field(default_factory=list)
    z3: Tally = field(default_factory=Tally)
    sympy: Tally = field(default_factory=Tally)
    normaliser: Tally = field(default_factory=Tally)
    inequalities: Inequalities | None = None  # what the ONF owed
    rounding: Bound | None = None  # the error bound of the ONF, where one is stated
    questions: int = 0  # distinct integer questions that were proved
    on_word: tuple[str, ...] = ()  # those of them that rest on Z3's word alone, by key

    def classes(self) -> dict[str, int]:
        return {c: sum(s.kind == c for s in self.steps) for c in "ISR"}


def tiling_facts(t: Tiling) -> list[Term]:
    """t > 0, which is each factor > 0, and (b-1)*t < s <= b*t."""
    s, count, factors = Size(t.extent), Size(t.count), [Size(f) for f in t.factors]
    tile = product(factors)
    return [*(Lt(ZERO, f) for f in factors), Lt(Mul(Sub(count, ONE), tile), s), Le(s, Mul(count, tile))]


def facts_of(c: Certificate) -> list[Term]:
    """The hypotheses and the tilings, after seeing that the tilings only define and that the hypotheses can hold."""
    own = sizes_of([c.spec, *c.inputs, *c.hypotheses])
    for h in c.hypotheses:
        if any(u.op not in STATEMENT for u in subterms(h)) or typeof(h).sort != "bool":
            raise CertificateInvalid(f"hypotheses: {h!r:.80} is not a statement about sizes")
    new = {f for t in c.tilings for f in t.factors}  # any positive numbers; then each count is determined
    for t in c.tilings:
        if t.extent not in own or t.count in own | new or own & {*t.factors}:
            raise CertificateInvalid(
                f"tilings: {t.tile} and {t.count} must be new sizes and {t.extent} one of the Spec's"
            )
        new.add(t.count)
    stray = sizes_of([c.onf, c.dnf]) - own - new
    if stray:
        raise CertificateInvalid(f"sizes without a meaning: {', '.join(sorted(stray))}")
    facts = [*c.hypotheses, *(f for t in c.tilings for f in tiling_facts(t))]
    _satisfiable(facts, c.witness, own | new)
    return facts


def _satisfiable(facts: Sequence[Term], witness: Any, names: set[str]) -> None:
    if set(witness) != names:
        raise CertificateInvalid("witness: one value for each size is due")
    algebra = Numbers(witness, {})
    for f in facts:
        if not meaning(f, (), (), (), algebra):
            raise Refuted(f"witness: it does not satisfy the hypothesis {f!r:.120}")


def vacuous(c: Certificate, deciders: Deciders) -> list[str]:
    """Sizes that the witness has below 2 or equal although the hypotheses allow more; none if it is fair."""
    facts, poor = facts_of(c), []
    names = sorted(sizes_of([c.spec, *c.inputs]))
    prove = deciders.integers.holds
    for k, a in enumerate(names):
        if c.witness[a] < 2 and not prove(facts, Lt(Size(a), Int(2))):
            poor.append(f"{a} = {c.witness[a]}")
        for b in (b for b in names[:k] if c.witness[a] == c.witness[b]):
            if not (prove(facts, Le(Size(a), Size(b))) and prove(facts, Le(Size(b), Size(a)))):
                poor += [f"{a} = {b}"]
    return poor


def is_dnf(t: Term) -> bool:
    """A nest of builds over one scalar whose only arrays are inputs: no operator of the calculus, no let."""
    while t.op == "build":
        t = t.args[1]
    inner = list(subterms(t))
    arrays = {"build", "tiles", "let", *MOA}
    return not any(u.op in arrays for u in inner) and all(u.args[0].op == "in" for u in inner if u.op == "psi")


def replay(
    c: Certificate, rulebook: Rulebook, deciders: Deciders | None = None, progress: Callable[[int], None] | None = None
) -> Report:
    """Re-check a derivation.  Returns only if everything is proved; the errors name the step."""
    deciders = deciders or Deciders()
    deciders.integers.witnesses = c.witnesses
    _place("inputs", lambda: _consistent_inputs(c))
    facts: list[Term] = _place("hypotheses", lambda: facts_of(c))
    poor = _place("witness", lambda: vacuous(c, deciders))
    if poor:
        raise CertificateInvalid(f"witness: {', '.join(poor)}, though the hypotheses allow more")
    checker = Checker(facts, deciders)
    report = Report(c.name, c.core_digest(), c.spec.digest)
    _place("Spec", lambda: _specification(checker, c.spec))
    term, through = c.spec, c.spec is c.dnf
    for number, s in enumerate(c.steps):
        before = (deciders.integers.tally.row(), deciders.sympy.row(), deciders.normaliser.row())
        judged = _place(f"step {number} ({s.rule})", lambda s=s, term=term: apply(checker, s, term, rulebook))  # type: ignore[misc]
        after = (deciders.integers.tally.row(), deciders.sympy.row(), deciders.normaliser.row())
        spent = [Tally(*(y - x for x, y in zip(a, b, strict=True))) for a, b in zip(before, after, strict=True)]
        report.steps.append(StepReport(s.rule, judged.kind, *spent))
        term = judged.after
        if not through and judged.kind != "I":
            raise Refuted(
                f"step {number} ({s.rule}): class {judged.kind} before the DNF; psi-reduction is class I only"
            )
        through = through or term is c.dnf
        if progress:
            progress(number)
    if not through or not is_dnf(c.dnf):
        raise DigestMismatch("dnf: the chain does not pass through it, or it is no denotational normal form")
    if term is not c.onf:
        raise DigestMismatch("onf: the chain ends at another term")
    _place("ONF", lambda: checker.check_defined(c.onf))
    report.inequalities = _place("ONF", lambda: check_inequalities(c.onf, facts, deciders))
    report.rounding = _place("rounding", lambda: check_rounding(c, facts, deciders))
    _place("random points", lambda: agree_at_points(c))
    integers = deciders.integers
    report.z3, report.sympy, report.normaliser = integers.tally, deciders.sympy, deciders.normaliser
    report.questions, report.on_word = len(integers.proved), tuple(sorted(integers.on_word))
    return report


def rounding_of(c: Certificate, facts: Sequence[Term], deciders: Deciders) -> Bound | None:
    """The error bound of the ONF; None where no lemma covers a node, or a machine could compute one value twice.

    CUDA's compiler may contract a product into an addition in one place and not in another.
    """
    if any(k.target == "cuda" for k in c.kernels) and not computed_once(c.onf):
        return None
    try:
        return bound_of(c.onf, facts, deciders)
    except (Unknown, IllFormed):  # no lemma for a node, or sizes that are too large to be written down
        return None


def check_rounding(c: Certificate, facts: Sequence[Term], deciders: Deciders) -> Bound | None:
    """The bound, after seeing that it is what the certificate states, and that the facts under its lemmas hold."""
    prove_all()
    bound = rounding_of(c, facts, deciders)
    if c.rounding != (bound.document() if bound else None):
        raise DigestMismatch("the error bound that is stated is not the one that the ONF has")
    return bound


def _specification(checker: Checker, spec: Term) -> None:
    if typeof(spec).sort != "real":
        raise IllFormed("a specification is an array of reals")
    checker.check_defined(spec)


def apply(checker: Checker, s: Step, term: Term, rulebook: Rulebook) -> Any:
    """The judged next term of one step."""
    if s.before != term.digest:
        raise DigestMismatch("before: the step starts from another term than the chain has reached")
    old, here = locate(term, s.path, checker.facts)
    new = s.after
    if not s.restated:
        choose = {name: (count, body) for name, count, body in s.choose}
        if rewrite(rulebook(s.rule, s.params), old, here.ctx, choose, s.backwards) is not new:
            raise DigestMismatch("after: the law gives another term")
    if new.free > len(here.ctx) or new.fresh or any(u.op in PATTERN_ONLY for u in subterms(new)):
        raise IllFormed("the new term mentions a variable that is not bound there, or is a pattern")
    judged = checker.judge(term, s.path, old, new, here)
    if judged.kind == "R" and s.kind != "R":
        raise Refuted(f"class {s.kind} is expected, {judged.kind} was found")
    return judged


def _place(where: str, act: Callable[[], Any]) -> Any:
    """Run ``act``; every error names the place."""
    try:
        return act()
    except IllFormed as e:
        raise CertificateInvalid(f"{where}: {e}") from None
    except RecursionError:
        raise CertificateInvalid(f"{where}: nested too deep") from None
    except MoaproofError as e:
        e.args = (f"{where}: {e.args[0]}", *e.args[1:])
        raise


def _consistent_inputs(c: Certificate) -> None:
    """Each input has one sort and shape everywhere, closed, and is in the argument list."""
    listed: dict[str, Term] = {}
    for t in c.inputs:
        if t.op != "in" or t.data[0] in listed:
            raise CertificateInvalid("inputs: distinct inputs are due")
        if any(u.op not in ("size", "int", "iadd", "imul") for u in subterms(*t.args)):
            raise CertificateInvalid(f"inputs: the extents of {t.data[0]} are not sizes")
        listed[t.data[0]] = t
    if set(listed) & sizes_of([c.spec, c.onf]):
        raise CertificateInvalid("inputs: an input and a size have the same name")
    terms = [c.spec, c.dnf, c.onf, *(s.after for s in c.steps)]
    for u in subterms(*terms):
        if u.op == "in" and listed.get(u.data[0]) is not u:
            raise CertificateInvalid(f"inputs: {u.data[0]} is used with another sort or shape, or not listed")
