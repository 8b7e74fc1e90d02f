"""Moves of attention that all targets share: the fold of states, dead tiles, the tile's queries."""

from __future__ import annotations

from ...errors import NotCovered, RuleDoesNotApply
from ...operators import Context, Index
from ...term import Add, Fold, Lt, Mul, Term, Var, mentions
from ..chain import Chain, Path


def to_states(chain: Chain, element: Path) -> None:
    """The weighted sum over the keys as a fold of states; an unshifted softmax is shifted by its maximum first."""
    try:
        chain.do("softmax-online", element)
        return
    except RuleDoesNotApply:
        pass  # it may be unshifted
    try:
        fold = chain.at(element)
        maximum = Fold("max", fold.args[0], _exponent(fold), fold.args[1])
        chain.do("softmax-shift", element, T=(0, maximum))
        chain.do("softmax-online", element)
    except RuleDoesNotApply:
        raise NotCovered("the DNF's element is not a softmax-weighted sum over keys; use --schedule rows") from None


def _exponent(fold: Term) -> Term:
    """S of a weighted sum  fold of (e^S / Z) * W."""
    t = fold
    for op, data, k in (("fold", "add", 2), ("f", "mul", 0), ("f", "div", 0), ("f", "exp", 0)):
        if t.op != op or t.data != data:
            raise RuleDoesNotApply("not a weighted sum of exponentials")
        t = t.args[k]
    return t


def skip_dead_tiles(chain: Chain, state: Path, keys: Term, rows: Term) -> None:
    """Under a causal guard, tiles of keys that start after the last query of the tile have no visible key.

    ``keys`` and ``rows`` are the lengths of the tiles; ``state`` is the fold over tiles, in a row of a tile of rows.
    """
    inner = chain.at((*state, 2))
    if not any(_is_causal(g) for g in _conjuncts(inner.args[1])):
        return
    last_row = Add(Mul(Var(2), rows), rows)  # under q, r, J: the first row after this tile of queries
    chain.do("skip-tiles", state, "softmax", h=(1, Lt(Mul(Var(0), keys), last_row)))


def _conjuncts(g: Term) -> list[Term]:
    return [*_conjuncts(g.args[0]), *_conjuncts(g.args[1])] if g.op == "and" else [g]


def _is_causal(g: Term) -> bool:
    """k <= i, or k < i + c: a comparison of the key (under t) with the query."""
    return g.op == "lt" and mentions(g.args[0], 0) and mentions(g.args[1], 2)


def query(chain: Chain, row: Path) -> Path | None:
    """The path of the read of the row's query: of what is bound below the row it mentions its last index alone."""
    base = len(chain.context(row))

    def is_query(t: Term, ctx: Context) -> bool:
        if t.op != "psi" or t.args[0].op != "in" or t.args[-1].op != "var":
            return False
        own = t.args[-1].data
        between = len(ctx) - base
        return (
            0 <= own < between
            and isinstance(ctx[-1 - own], Index)
            and not any(mentions(x, v) for x in t.args[1:-1] for v in range(between))
        )

    return chain.find(is_query, row)
