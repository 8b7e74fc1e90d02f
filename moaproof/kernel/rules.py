"""Rules as data: patterns, matching, and the next term that a rule proposes.

A rule is not trusted: whatever it proposes, ``kernel.step`` judges the two terms.  A *schema* gives, for its
parameters (a rank, a permutation, an operation), a pair of second-order patterns.  A metavariable ``M("X", Var(1))``
lists the bound variables that it may mention; on the right it may be applied to any index terms.  ``Dim(k, A)`` on
the right is an extent of A, the only computation there.  A law may be used from right to left, or where matching
cannot find a metavariable, when the step states what the metavariables are (``choose``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import IllFormed, RuleDoesNotApply
from ..operators import Context, opened, typeof
from ..term import Term, Var, instantiate, subterms, up

Pair = tuple[Term, Term]
Bindings = dict[str, tuple[int, Term]]  # name -> (number of arguments, body under that many binders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generic:
    """The most general instance of a law: indices 0 <= i < extent, and what each metavariable stands for under them.

    ``metas`` maps a name to (number of arguments, body); the body lives under ``len(extents)`` index binders and then
    its own arguments.  ``conditions`` are the side conditions, over sizes; ``needless`` says why dropping one changes
    nothing.
    """

    extents: tuple[Term, ...] = ()
    metas: Mapping[str, tuple[int, Term]]
    conditions: tuple[Term, ...] = ()
    needless: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A law of the calculus.

    ``law`` is one line ``left ==> right`` as in the source; ``schema(*params)`` the patterns; ``generic(*params)``
    the most general instance, in which the law is proved for all sizes when it is admitted, at each of ``samples``;
    ``when`` its side conditions in words, in the order of the generic instance's ``conditions``; ``kind`` the class
    that it is expected to have.
    """

    id: str
    law: str
    source: str
    kind: str
    schema: Callable[..., Pair]
    generic: Callable[..., Generic]
    samples: tuple[tuple[Any, ...], ...] = ((),)
    when: tuple[str, ...] = ()
    library: bool = False  # offered to derivations, used by none that is committed


def M(name: str, *arguments: Term) -> Term:
    """A metavariable applied to bound variables (left) or to any index terms (right)."""
    return Term("meta", name, arguments)


def Dim(axis: int, array: Term) -> Term:
    """The extent of an axis of an array."""
    return Term("dim", axis, (array,))


def match(pattern: Term, t: Term, found: Bindings, depth: int = 0) -> None:
    """Extend ``found`` so that the pattern is ``t``, or ``RuleDoesNotApply``.

    ``depth``: binders of the pattern so far.
    """
    if pattern.op == "meta":
        if pattern.data in found:
            if fill(pattern, found, depth) is not t:
                raise RuleDoesNotApply(f"{pattern.data} stands for two different terms")
            return
        numbers = [v.data for v in pattern.args if v.op == "var"]
        if len(set(numbers)) != len(pattern.args):
            raise RuleDoesNotApply(f"{pattern.data} cannot be found by matching: the step must choose it")
        found[pattern.data] = (len(numbers), abstract(t, numbers, depth, pattern.data))
        return
    if pattern.op == "dim":
        raise IllFormed("dim stands on the right side of a rule only")
    if pattern.op != t.op or pattern.data != t.data or len(pattern.args) != len(t.args):
        raise RuleDoesNotApply(f"the left side has {_head(pattern)} where the term has {_head(t)}")
    for p, u, n in zip(pattern.args, t.args, pattern.binds, strict=True):
        match(p, u, found, depth + n)


def _head(t: Term) -> str:
    return t.op if t.data is None else f"{t.op}[{t.data}]"


def abstract(t: Term, numbers: list[int], depth: int, name: str, cut: int = 0) -> Term:
    """``t`` under ``depth`` pattern binders, as a body under one binder for each of ``numbers`` (first outermost)."""
    if t.free <= cut:
        return t
    if t.op == "var":
        k = t.data - cut
        if k >= depth:
            return Var(k - depth + len(numbers) + cut)
        if k not in numbers:
            raise RuleDoesNotApply(f"{name} mentions a bound variable that the law does not allow it")
        return Var(len(numbers) - 1 - numbers.index(k) + cut)
    return Term(
        t.op, t.data, [abstract(a, numbers, depth, name, cut + n) for a, n in zip(t.args, t.binds, strict=True)]
    )


def fill(pattern: Term, found: Bindings, depth: int = 0) -> Term:
    """The pattern with its metavariables replaced; it lives under ``depth`` binders of the pattern."""
    if pattern.op == "meta":
        if pattern.data not in found:
            raise RuleDoesNotApply(f"the step must choose {pattern.data}")
        count, body = found[pattern.data]
        if count != len(pattern.args):
            raise RuleDoesNotApply(f"{pattern.data} takes {count} arguments, not {len(pattern.args)}")
        values = [fill(a, found, depth) for a in reversed(pattern.args)]
        return instantiate(up(body, depth, count), values)
    if not pattern.args:
        return pattern
    return Term(
        pattern.op, pattern.data, [fill(a, found, depth + n) for a, n in zip(pattern.args, pattern.binds, strict=True)]
    )


def erase_dims(t: Term, ctx: Context) -> Term:
    """Replace each ``dim`` by the extent that it names."""
    if not any(u.op == "dim" for u in subterms(t)):
        return t
    args: list[Term] = []
    for k, a in enumerate(t.args):
        partial = Term(t.op, t.data, [*args, *t.args[len(args) :]])
        args.append(erase_dims(a, ctx if t.op == "omega" and k == len(t.args) - 1 else (*ctx, *opened(partial, k))))
    if t.op == "dim":
        shape = typeof(args[0], ctx).shape
        if t.data >= len(shape):
            raise RuleDoesNotApply(f"an array of rank {len(shape)} has no axis {t.data}")
        return shape[t.data]
    return Term(t.op, t.data, args)


def rewrite(pair: Pair, t: Term, ctx: Context, choose: Mapping[str, tuple[int, Term]], backwards: bool = False) -> Term:
    """The term that a rule proposes in place of ``t``."""
    left, right = reversed(pair) if backwards else pair
    found: Bindings = dict(choose)
    unknown = set(choose) - {u.data for u in subterms(*pair) if u.op == "meta"}
    if unknown:
        raise RuleDoesNotApply(f"the law has no metavariable {', '.join(sorted(unknown))}")
    if any(u.op == "dim" for u in subterms(left)):
        left = erase_dims(fill(left, found), ctx)
        if left is not t:
            raise RuleDoesNotApply("the side that the step starts from is another term")
    else:
        match(left, t, found)
    return erase_dims(fill(right, found), ctx)
