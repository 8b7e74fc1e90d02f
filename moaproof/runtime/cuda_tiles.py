"""Which CUDA kernel and which tiles a call gets: the one place where speed is chosen, and no claim rests on it.

A block has ty * tx threads.  It keeps ri * ty rows, a thread ri of them, and goes through the keys in tiles of rj * tx;
each thread sums rc of the dv columns.  More registers a thread mean fewer loads for a product; what a block stages in
shared memory must fit, and what a thread holds in registers should.

The bits of a row depend on the kernel and on all its tiles, for which it is compiled: so on all sizes of the call, on
the dtype and on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import NotCovered
from .cuda import Device, Shape

SPLIT: Final = frozenset({"attention", "masked", "gqa", "gqa-masked"})  # kinds that have such a certificate
SHORTEST: Final = 4  # tiles of keys in a chunk, at least: a chunk's state is written and read once more
REGISTERS: Final = 200  # of 255 that a thread may have, for what is kept in arrays; the rest is addresses
FILE: Final = 2**16  # registers of a multiprocessor
STATES: Final = 8  # so many times the states of all chunks are at most as large as the keys and values
BLOCKS: Final = 8  # of a launch for each multiprocessor, when the keys are split


@dataclass(frozen=True, slots=True)
class Block:
    """Rows in registers and on threads, keys in registers and on threads."""

    ri: int
    ty: int
    rj: int
    tx: int


# From the fastest on; the first that fits is taken.  ``benchmarks/gpu.py tune`` measures them.
MANY_ROWS: Final = (
    Block(4, 16, 4, 16),
    Block(4, 16, 2, 16),
    Block(2, 16, 2, 16),
    Block(1, 16, 1, 16),
    Block(1, 8, 1, 16),
    Block(1, 8, 1, 8),
    Block(1, 4, 1, 8),
    Block(1, 4, 1, 4),
    Block(1, 1, 1, 4),
    Block(1, 1, 1, 1),
)
# For more than so many columns: more threads share what is staged.
WIDE: Final = {64: (Block(4, 32, 4, 16),)}
# For at most so many rows: fewer rows a block, and more threads for the keys and columns.
FEW_ROWS: Final = {
    4: (Block(1, 4, 1, 32), Block(1, 4, 1, 16)),
    16: (Block(2, 8, 1, 32), Block(1, 8, 1, 32)),
}

Launches = Callable[[str, Mapping[str, int]], tuple[Shape, ...]]


def choose(
    kind: str, sizes: Mapping[str, int], dtype: str, device: Device, launches: Launches
) -> tuple[str, dict[str, int]]:
    """The certificate's name and the sizes of its tiles.  ``launches`` says what a kernel takes at some sizes."""
    first: tuple[Block, ...] = next((blocks for rows, blocks in FEW_ROWS.items() if sizes["n"] <= rows), ())
    first = first or next((blocks for columns, blocks in WIDE.items() if sizes["dv"] > columns), ())
    fits = []
    for block in (*first, *MANY_ROWS):
        name, tiles = plan(kind, sizes, block, device)
        if all(s.shared <= device.shared for s in launches(name, tiles)):
            fits.append((name, tiles))
            words = 2 if dtype == "float64" else 1
            if registers(block, tiles["rc"]) * words <= min(REGISTERS, FILE // (block.ty * block.tx)):
                return fits[-1]
    if not fits:
        raise NotCovered(
            f"attention: head sizes {sizes['dk']} and {sizes['dv']} need more shared memory than a block on "
            f"{device.name} has; smaller heads are covered"
        )
    return fits[0]  # some of what a thread holds is then in memory


def registers(block: Block, rc: int) -> int:
    """Numbers that a thread holds: two sums a row and column, scores of a tile, and some a row."""
    return block.ri * (2 * rc + block.rj + 5)


def plan(kind: str, sizes: Mapping[str, int], block: Block, device: Device) -> tuple[str, dict[str, int]]:
    """One launch or, where that would leave the device idle, chunks of keys: the certificate's name and the tiles."""
    tiles = online(sizes, block)
    blocks = sizes["b"] * sizes["h"] * tiles["bq"]
    states = STATES * max(1, sizes["n"] * sizes["dv"])
    chunks = min(-(-BLOCKS * device.multiprocessors // max(1, blocks)), tiles["bk"] // SHORTEST)
    chunks = min(chunks, sizes["m"] * (sizes["dk"] + sizes["dv"]) // states)
    if kind not in SPLIT or not 0 < 2 * blocks <= device.multiprocessors or chunks < 2:
        return f"{kind}-cuda-online", tiles
    return f"{kind}-cuda-split", split(sizes, block, -(-tiles["bk"] // chunks))


def online(sizes: Mapping[str, int], block: Block) -> dict[str, int]:
    """The tiles of a call in one launch: bq tiles of rows, bk of keys, columns in rc registers."""
    rows, keys = block.ri * block.ty, block.rj * block.tx
    tiles = {"ri": block.ri, "ty": block.ty, "rj": block.rj, "tx": block.tx}
    return tiles | {"rc": -(-sizes["dv"] // block.tx), "bq": -(-sizes["n"] // rows), "bk": -(-sizes["m"] // keys)}


def split(sizes: Mapping[str, int], block: Block, bk: int) -> dict[str, int]:
    """The tiles of a call in two launches: bp chunks of ``bk`` tiles of keys."""
    return online(sizes, block) | {"bk": bk, "bp": -(-sizes["m"] // (bk * block.rj * block.tx))}
