"""Schedules for CUDA: blocks of threads, tiles of keys and values in shared memory, accumulators in registers.

The axis of queries is lifted onto (grid, registers, threads): bq blocks of ri*ty rows.  Keys go in tiles of rj*tx, the
columns in registers by threads, dv <= rc*tx.  A tile is filled whole, with zeros beyond the end, so that every thread
does the same work; rows beyond the last query are computed and thrown away.

``online``: a block keeps the softmax states of its rows, over all keys.
``split``: for few queries and many keys.  The keys are split into bp chunks of bk tiles: a first launch leaves the
state of each row over each chunk, a second merges them.
"""

from __future__ import annotations

from ...errors import NotCovered
from ...operators import Context
from ...shapes import product
from ...term import TRUE, Add, Lt, Mul, Real, Size, Term, Var, mentions, subterms, up
from ..chain import Chain, Path
from . import moves, softmax

ROWS, KEYS, CHUNK = "ri*ty", "rj*tx", "bk*rj*tx"
PAD = (0, Real(0))


def _of(tile: str) -> Term:
    return product([Size(f) for f in tile.split("*")])


COLUMNS = _of("rc*tx")


def online(chain: Chain) -> None:
    """One launch: a block of rows by all keys."""
    queries, m = _states(chain)
    chain.tile(m, KEYS, "bk")
    row = _rows(chain, queries)
    chain.name(row, (1, 0, 0))
    chain.do("split-fold", (*row, 0), "softmax", b=(0, Size("bk")), t=(0, _of(KEYS)))
    softmax.skip_dead_tiles(chain, (*row, 0), _of(KEYS), _of(ROWS))
    _tile(chain, row, (*row, 0, 2))
    _finish(chain, row)
    moves.bind_leading(chain, "grid")


def split(chain: Chain) -> None:
    """Two launches: the states of chunks of keys, and their merge, a column a thread."""
    queries, m = _states(chain)
    chain.tile(m, CHUNK, "bp")
    column = (*queries, 1, 1)
    chain.do("split-fold", (*column, 0, 0), "softmax", b=(0, Size("bp")), t=(0, _of(CHUNK)))
    chain.do("psi-quotient", column)
    state = (*column, 0, 2)  # of a chunk, at a column
    outer = [chain.at(queries[:k]).args[0] for k in range(len(queries) + 1)]
    inmost = len(outer) + 1  # below: the column and the chunk
    chain.tabulate(state, (0, Size("bp")), *((inmost - k, e) for k, e in enumerate(outer)), rest=1)
    chain.name((), (*state, 0))
    row = _rows(chain, (0, 1, *queries))
    chain.do("split-fold-more", row, "softmax", b=(0, Size("bk")), t=(0, _of(KEYS)))
    _tile(chain, row, (*row, 2))
    _finish(chain, row)
    moves.bind_leading(chain, "grid", (0,))
    for k in range(len(queries) + 1):
        chain.do("bind-axis", (1, *queries[:k]), "grid")
    chain.do("bind-axis", (1, *queries, 1), "thread")


def _states(chain: Chain) -> tuple[Path, str]:
    """[.. i < n] [c < dv] <c> psi quotient of a fold of states, padded to whole columns; the path of i, and m."""
    nest = moves.inner_nest(chain)
    if len(nest) < 2:
        raise NotCovered("cuda: a result with an axis of queries and an axis of columns is due")
    queries, columns = nest[-2:]
    softmax.to_states(chain, (*columns, 1))
    width = chain.at(columns).args[0]
    chain.do("share-state", columns)
    rows, keys = chain.at(queries).args[0], chain.at((*columns, 0)).args[0]
    if not rows.op == keys.op == width.op == "size":
        raise NotCovered("cuda: the numbers of queries, keys and columns are sizes")
    chain.tile(rows.data, ROWS, "bq")
    chain.tile(width.data, "tx", "rc")
    chain.do("extensionality", columns, 1)
    chain.do("pad-state", (*columns, 1), e=(0, COLUMNS))
    return queries, keys.data


def _rows(chain: Chain, queries: Path) -> Path:
    """Queries in blocks; the path of a row's element."""
    chain.do("split-build", queries, b=(0, Size("bq")), t=(0, _of(ROWS)))
    return (*queries, 3, 1)


def _in_sight(chain: Chain, row: Path, below: Path) -> Term:
    """The row is one of the array's, as seen from a path below."""
    tiles = chain.at(row[:-2])
    there = len(chain.context(below)) - len(chain.context(row))
    block, r = Var(there + 1), Var(there)
    return Lt(Add(Mul(block, tiles.args[2]), r), up(tiles.args[0], there + 2))


def _tile(chain: Chain, row: Path, tile: Path) -> None:
    """One tile of keys: keys and values staged, its scores once, their maximum, its weights once, two sums."""
    keys, guard = chain.at(tile).args[:2]
    if any(t.op == "psi" for t in subterms(guard)):  # a mask is read for rows that are there alone
        chain.do("narrow-guard", tile, "softmax", h=(1, _in_sight(chain, row, (*tile, 1))))
    tile = _stage_keys(chain, tile, keys)
    tile = _stage_values(chain, tile)
    chain.tabulate((*tile, 2, 0), (0, _of(KEYS)))
    chain.do("tile-state", tile, guard is not TRUE)
    chain.name(tile, (0, 2, 0))  # the scores
    tile = (*tile, 1)
    chain.name(tile, (0,))  # the maximum
    tile = (*tile, 1)
    for weight in ((*tile, 1, 2), (*tile, 2, 1, 2, 0)):
        _pad_weight(chain, weight)
    chain.name(tile, (1, 2, 0))  # the weights
    tile = (*tile, 1)
    chain.do("extensionality", (*tile, 2), 1)
    chain.name(tile, (2, 1, 0))  # the tile's sums, one for each column


def _stage_keys(chain: Chain, tile: Path, keys: Term) -> Path:
    """The read of the score that the key decides, for all keys of the tile."""
    base = len(chain.context(tile))

    def read(t: Term, ctx: Context) -> bool:
        key = len(ctx) - base - 1
        return t.op == "psi" and t.args[0].op == "in" and any(mentions(i, key) for i in t.args[1:])

    path = chain.find(read, (*tile, 2, 0))
    if path is None:
        raise NotCovered("cuda: a score that reads no key")
    last = chain.at(path).args[-1]
    depth = len(chain.context(path)) - base
    if last.op != "var" or last.data >= depth - 1:
        raise NotCovered("cuda: the last index of the keys is not one that the score sums over")
    width = chain.at(path).args[0].args[-1]
    chain.do("pad", path, h=(0, Lt(Var(depth - 1), up(keys, depth))), Z=PAD)
    chain.tabulate(path, (last.data, width), (depth - 1, _of(KEYS)))
    chain.name(tile, (*path[len(tile) :], 0))
    return (*tile, 1)


def _stage_values(chain: Chain, tile: Path) -> Path:
    """The columns of the state, for all keys of the tile."""
    path = (*tile, 2, 2, 1)
    keys = chain.at(tile).args[0]
    chain.do("pad-more", path, h=(0, Lt(Var(1), up(keys, 2))))
    chain.tabulate(path, (1, _of(KEYS)), (0, COLUMNS))
    chain.name(tile, (2, 2, 1, 0))
    return (*tile, 1)


def _pad_weight(chain: Chain, weight: Path) -> None:
    """e^(S - M) for every key of the tile: 0 of those that are beyond the end or out of sight."""
    fold = next(weight[:k] for k in range(len(weight), 0, -1) if chain.at(weight[:k]).op == "fold")
    seen = Lt(Var(0), up(chain.at(fold).args[0]))
    if chain.at(weight).op == "where":
        chain.do("pad-more", weight, h=(0, seen))
    else:
        chain.do("pad", weight, h=(0, seen), Z=PAD)
    chain.tabulate(weight, (0, _of(KEYS)))


def _finish(chain: Chain, row: Path) -> None:
    """Stage the queries, name what is left, read flat, and give the rows to the threads."""
    path = softmax.query(chain, row)
    if path is not None:
        read = chain.at(path)
        chain.do("pad", path, h=(0, _in_sight(chain, row, path)), Z=PAD)
        chain.tabulate(path, (read.args[-1].data, read.args[0].args[-1]))
        chain.name(row, (*path[len(row) :], 0))
    moves.name_folds(chain)
    moves.gamma_everywhere(chain)
    chain.do("bind-axis", row[:-1], "thread")


SCHEDULES = {"cuda-online": online, "cuda-split": split}
