"""The whole way: a PyTorch function to a certificate and the kernels printed from it.

Everything here is untrusted.  Before anything is returned, the judges that a user would run have accepted it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Any

from moaproof.rewrite_rules import digest as rulebook_digest

from .. import instructions
from ..assess.judges import Texts, Verdict, judge_certificate
from ..codegen.printer import print_kernel
from ..errors import NotCovered, Unknown
from ..kernel.bits import Deciders
from ..kernel.certificate import Certificate, Kernel, sizes_of
from ..kernel.checker import facts_of, rounding_of, tiling_facts
from ..kernel.integers import Integers, decide
from ..kernel.question import question
from ..term import ONE, ZERO, And, Int, Le, Lt, Not, Size, Term
from ..trace.capture import capture
from ..trace.compare import Agreement, agree
from ..trace.table import spec_of
from .chain import Chain, Line
from .schedules import SCHEDULES
from .to_dnf import to_dnf
from .witnesses import witnesses_for

LARGE = 1000  # of a size in a witness


@dataclass
class Derived:
    """A certificate, the texts of its kernels by file name, and how the Spec compared with the function."""

    certificate: Certificate
    texts: Texts
    agreement: Agreement
    verdict: Verdict
    deviations: tuple[str, ...] = ()
    lines: list[Line] = field(default_factory=list)


def derive(
    fn: Callable[..., Any],
    schedule: str = "online",
    *,
    name: str | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
    on_step: Callable[[Line], None] | None = None,
) -> Derived:
    """Trace, compare, reduce, schedule, print, and judge.  Raises what the first failing stage raises."""
    if schedule not in SCHEDULES:
        raise NotCovered(f"schedule {schedule!r}: there are {', '.join(SCHEDULES)}")
    target, apply_schedule = SCHEDULES[schedule]
    graph = capture(fn)
    spec = spec_of(graph)
    agreement = agree(fn, graph)
    chain = Chain(spec.term, spec.hypotheses, on_step)
    dnf = to_dnf(chain)
    apply_schedule(chain)
    title = name or f"{graph['function'].replace('_', '-')}-{schedule}"
    certificate = Certificate(
        name=title,
        trace=graph,
        spec=spec.term,
        dnf=dnf,
        onf=chain.term,
        inputs=spec.inputs,
        hypotheses=spec.hypotheses,
        tilings=tuple(chain.tilings),
        witness=witness(chain, spec.inputs),
        steps=tuple(chain.steps),
        rulebook=rulebook_digest(),
    )
    texts = {}
    kernels = []
    for dtype in dtypes:
        file = f"{title.replace('-', '_')}_{dtype}.py"
        header = {"core": certificate.core_digest(), "name": title}
        text = print_kernel(chain.term, spec.inputs, certificate.sizes(), target, dtype, header)
        texts[file] = text.encode()
        kernels.append(Kernel(file, target, dtype, hashlib.sha256(texts[file]).hexdigest(), instructions.digest()))
    certificate = replace(certificate, kernels=tuple(kernels))
    asked = Deciders()
    bound = rounding_of(certificate, facts_of(certificate), asked)
    certificate = replace(certificate, rounding=bound.document() if bound else None)
    judge_certificate(certificate.to_bytes(), texts, ("replay", "source"), asked)
    found, _ = witnesses_for(asked.integers.proved.values())  # what has none is counted by the judges
    certificate = replace(certificate, witnesses=found)
    again = Deciders(Integers(answers=asked.integers.answers))
    verdict = judge_certificate(certificate.to_bytes(), texts, deciders=again)
    return Derived(certificate, texts, agreement, verdict, spec.deviations, chain.lines)


def witness(chain: Chain, inputs: Sequence[Term]) -> dict[str, int]:
    """Sizes that satisfy all facts, at least 2 and distinct wherever the hypotheses allow it."""
    facts = [*chain.hypotheses, *(f for t in chain.tilings for f in tiling_facts(t))]
    names = sorted(sizes_of([chain.spec, *inputs, *chain.hypotheses]))
    tiles = {s for t in chain.tilings for s in (*t.factors, t.count)}
    wishes = [Lt(ONE, Size(a)) for a in names]
    for k, a in enumerate(names):
        wishes += [Not(And(Le(Size(a), Size(b)), Le(Size(b), Size(a)))) for b in names[:k]]
    granted: list[Term] = []
    found = _model([*facts, *wishes])
    if found is not None:
        granted = wishes
    else:
        for w in wishes:
            if _model([*facts, *granted, w]) is not None:
                granted.append(w)
        found = _model([*facts, *granted])
    if found is None:
        raise Unknown("witness: no sizes satisfy the hypotheses")
    if max(found.values(), default=0) >= LARGE:  # a solver may answer with any number, a certificate holds short ones
        found = _model([*facts, *granted, *(Lt(Size(name), Int(LARGE)) for name in sorted({*names, *tiles}))]) or found
    return {name: found.get(name, 2) for name in sorted({*names, *tiles})}


def _model(facts: Sequence[Term]) -> dict[str, int] | None:
    """Sizes that satisfy the facts, always the same: of several models Z3 takes one by what its process did before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        answer, values = fresh.submit(decide, question(frozenset(facts), Lt(ZERO, Int(0)))).result()
    return values if answer == "sat" else None
