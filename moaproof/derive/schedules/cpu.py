"""Schedules for CPU cores and vector lanes.

``rows``: one row of the result at a time, in passes over the keys; I and S steps only, so every bit of the DNF is kept.
``online``: blocks of queries by blocks of keys, one fold of softmax states; the score of a pair is computed once.
"""

from __future__ import annotations

from ...errors import NotCovered
from ...term import TRUE, Size, Term, mentions, up
from ..chain import Chain, Path
from . import moves, softmax


def rows(chain: Chain) -> None:
    """One row at a time: what does not depend on the column is hoisted; the columns become the innermost loop.

    The rows are dealt to the cores in tiles of tq.
    """
    nest = moves.inner_nest(chain)
    if nest:
        _row(chain, nest[-1])
        _deal(chain, nest[-2] if len(nest) > 1 else nest[-1])
    moves.name_folds(chain)
    moves.gamma_everywhere(chain)
    moves.bind_leading(chain)


def _row(chain: Chain, row: Path) -> None:
    """``row`` builds the columns: name the folds that they share, then fold over the keys for all columns at once."""
    while (below := moves.invariant(chain, row, lambda t: t.op == "fold")) is not None:
        chain.name(row, below)
        row = (*row, 1)
    fold = chain.at((*row, 1))
    if fold.op != "fold" or fold.data == "softmax" or mentions(fold.args[1], 1) or not _shared_by_columns(fold):
        return
    chain.do("swap-build-fold", row, fold.data)
    shared = moves.invariant(chain, (*row, 2), _computes, largest=True)
    if shared is None:
        raise NotCovered("rows: the columns share nothing that could be named")
    chain.name((*row, 2), shared)
    chain.do("extensionality", row, 1)
    chain.name(row, (1, 0))


def _computes(t: Term) -> bool:
    return t.op in ("f", "fold")


def _shared_by_columns(fold: Term) -> bool:
    """Does the element compute something that does not mention the column (variable 1, inside the fold's own)?"""
    return any(_computes(t) and not mentions(t, depth + 1) for _, t, depth in moves.walk(fold.args[2]))


def _deal(chain: Chain, axis: Path) -> None:
    extent = chain.at(axis).args[0]
    if extent.op == "size":
        chain.tile(extent.data, "tq", "bq")
        chain.do("split-build", axis, b=(0, Size("bq")), t=(0, Size("tq")))


def online(chain: Chain) -> None:
    """Queries in tiles of tq on lanes, keys in tiles of tk, one merge of states a tile.  Attention only."""
    nest = moves.inner_nest(chain)
    if len(nest) < 2:
        raise NotCovered("online: a result with an axis of queries and an axis of columns is due; use --schedule rows")
    queries, columns = nest[-2:]
    softmax.to_states(chain, (*columns, 1))
    chain.do("share-state", columns)
    extent = chain.at(queries).args[0]
    keys = chain.at((*columns, 0)).args[0]
    if extent.op != "size" or keys.op != "size":
        raise NotCovered("online: the numbers of queries and keys are sizes; use --schedule rows")
    n, m = extent.data, keys.data
    chain.tile(n, "tq", "bq")
    chain.tile(m, "tk", "bk")
    chain.do("split-build", queries, b=(0, Size("bq")), t=(0, Size("tq")))
    row = (*queries, 3, 1)
    state = (*row, 0)
    chain.do("split-fold", state, "softmax", b=(0, Size("bk")), t=(0, Size("tk")))
    softmax.skip_dead_tiles(chain, state, Size("tk"), Size("tq"))
    tile = (*state, 2)
    _tile_of_keys(chain, tile)
    chain.do("extensionality", row, 1)
    chain.name(row, (1, 0, 0))
    _stage_queries(chain, row)
    moves.name_folds(chain)
    moves.gamma_everywhere(chain)
    chain.do("bind-axis", (*queries, 3), "lane")
    moves.bind_leading(chain)


def _tile_of_keys(chain: Chain, tile: Path) -> None:
    """One tile: its scores once, its maximum, its weights once, its two sums."""
    fold = chain.at(tile)
    extent = fold.args[0]
    score = (*tile, 2, 0)
    chain.tabulate(score, (0, up(extent)))
    guarded = fold.args[1] is not TRUE
    chain.do("tile-state", tile, guarded)
    chain.name(tile, (0, 2, 0))  # the scores
    tile = (*tile, 1)
    chain.name(tile, (0,))  # the maximum
    tile = (*tile, 1)
    weight = (*tile, 1, 2)
    chain.tabulate(weight, (0, up(extent, 3)))
    chain.tabulate((*tile, 2, 1, 2, 0), (0, up(extent, 4)))
    chain.name(tile, (1, 2, 0))  # the weights
    tile = (*tile, 1)
    chain.do("extensionality", (*tile, 2), 1)
    chain.name(tile, (2, 1, 0))  # the tile's sums, one for each column


def _stage_queries(chain: Chain, row: Path) -> None:
    """The tile's queries, read once: with lanes innermost in scratch, the vector loads become contiguous."""
    path = softmax.query(chain, row)
    if path is None:
        return
    read = chain.at(path)
    chain.tabulate(path, (read.args[-1].data, read.args[0].args[-1]))
    chain.name(row, (*path[len(row) :], 0))


SCHEDULES = {"rows": rows, "online": online}
