"""What both CUDA instruction files share: Numba's ``cuda``, and ``launch``, ``span`` and ``view``.

Nothing is compiled here, and no device is looked for: ``moaproof.runtime`` does both.  With ``NUMBA_ENABLE_CUDASIM=1``
all of it is plain Python, for Numba's simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba import config

SIMULATED = bool(config.ENABLE_CUDASIM)

try:
    if not SIMULATED:  # the simulator is part of Numba
        import numba_cuda  # noqa: F401  the numba.cuda of Numba itself is older, and is not what is tested
    from numba import cuda
except ImportError as e:
    raise ImportError(f"CUDA kernels need numba-cuda: pip install 'moaproof[cuda]' ({e})") from None

__all__ = ["SIMULATED", "Launch", "cuda", "instruction", "launch", "span", "view"]


@dataclass(frozen=True, slots=True)
class Launch:
    """A function of a generated text, and the data of its launch as the text states them.

    ``grid`` and ``block`` are extents of the axes x, y and z: a literal, or a product of names of sizes such as
    ``"b*h*bq"``.  ``constants`` are the sizes that the function finds in its module, not among its parameters.
    ``makes`` are the arrays that it writes for the launches after it: a name and extents each.
    """

    function: Callable[..., None]
    grid: tuple[int | str, ...]
    block: tuple[int | str, ...]
    constants: tuple[str, ...]
    index: str
    makes: tuple[tuple[str, ...], ...]


def launch(
    *,
    grid: tuple[int | str, ...],
    block: tuple[int | str, ...],
    constants: tuple[str, ...],
    index: str,
    makes: tuple[tuple[str, ...], ...] = (),
) -> Callable[[Callable[..., None]], Launch]:
    """The decorator of a launch: it keeps the function as it is, with its launch data."""
    return lambda function: Launch(function, grid, block, constants, index, makes)


def span(*bounds: int) -> Any:
    """Python's ``range``, with a step above 0.  An index is an int64, and so must the last one plus the step be."""
    return range(*bounds)


def view(pool: Any, start: int, stop: int, shape: tuple[int, int]) -> Any:
    """``pool[start:stop].reshape(shape)``, sharing its cells.  A cell has two indices, in range and none negative."""
    return pool[start:stop].reshape(shape)


if SIMULATED:

    def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that a kernel may call."""
        return function
else:
    from .cuda_code import compile_span, compile_view, instruction

    compile_span(span)
    compile_view(view)
