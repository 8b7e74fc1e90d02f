"""Short texts around one body, for the tests of the replays.  All of them are due to copy: out[i] = q[i], i < n."""

from __future__ import annotations

from collections.abc import Mapping

from moaproof.assess.replay import Method, replay
from moaproof.assess.translate import Launch
from moaproof.term import Build, In, Psi, Size, Var

Q = In("q", Size("n"))
COPY = Build(Size("n"), Psi(Q, Var(0)))
CPU = """from moaproof.instructions.cpu_float64 import LOWEST, ONE, ZERO, empty, exp, fmax, njit, prange, quotient, real, rescale, sqrt


@njit(parallel=True, error_model="numpy")
def kernel({}):
"""  # noqa: E501
CUDA = """from moaproof.instructions.cuda_float32 import LOWEST, ONE, ZERO, exp, fmax, quotient, real, rescale, sqrt
from numba import cuda


@cuda.jit
def kernel({}):
"""
BLOCKS: Launch = {"grid": ("g",), "block": ("t",)}
SIZES = {"n": 7, "g": 3, "t": 3}


def cpu(body: str, parameters: str = "out, q, n") -> bytes:
    return (CPU.format(parameters) + "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))).encode()


def cuda(body: str, parameters: str = "out, q, n") -> bytes:
    return (CUDA.format(parameters) + "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))).encode()


def run(data: bytes, sizes: Mapping[str, int] = SIZES, seed: int = 0, launch: Launch | None = BLOCKS) -> int:
    return replay(data, COPY, [Q], [sizes], seed, launch).elements


def run_over(method: Method, data: bytes, sizes: Mapping[str, int] = SIZES, seed: int = 0) -> int:
    return replay(data, COPY, [Q], [sizes], seed, BLOCKS, method).elements
