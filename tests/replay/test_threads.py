# ruff: noqa: E501, ISC004  a case is one line
"""The simulator of blocks and threads: interleavings, races, barriers, launches; and whole kernels with their mutants."""

from __future__ import annotations

import random

import pytest

from moaproof.assess.ordered import ordered
from moaproof.assess.replay import replay
from moaproof.assess.simulator import Machine, Output, Shared
from moaproof.assess.translate import Launch, compile_text
from moaproof.errors import CertificateInvalid, MoaproofError, NotCovered, Refuted
from moaproof.semantics import Numbers
from moaproof.term import Add, Int, Size
from tests.reader.cuda_texts import MUTANTS, TEXTS, CudaMutant, CudaText
from tests.reader.test_reader import edits
from tests.replay.texts import BLOCKS, SIZES, cuda, run

# --- one rule at a time: blocks of 3 threads copy 7 elements -----------------------------------------------

I = "i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x\n"
T = "t = cuda.threadIdx.x\n"
STAGED = f"{I}{T}s = cuda.shared.array(t3, real)\n"

GOOD = {
    "one-each": f"{I}if i < n:\n    out[i] = q[i]",
    "early-return-without-barriers": f"{I}if not i < n:\n    return\nout[i] = q[i]",
    "strided": f"{I}for e in range(i, n, cuda.gridDim.x * cuda.blockDim.x):\n    out[e] = q[e]",
    "staged": f"{I}{T}s = cuda.shared.array(3, real)\nif i < n:\n    s[t] = q[i]\ncuda.syncthreads()\nif i < n:\n    out[i] = s[t]",
    "mirrored": (
        f"{I}{T}s = cuda.shared.array((1, 3), real)\nu = cuda.blockDim.x - 1 - t\nj = i - t + u\nif j < n:\n    s[0, u] = q[j]\n"
        "cuda.syncthreads()\nif i < n:\n    out[i] = s[0, t]"
    ),
    "local": f"{I}s = cuda.local.array(1, real)\nif i < n:\n    s[0] = q[i]\n    out[i] = s[0]",
    "in-turns": (
        f"{I}{T}s = cuda.shared.array(1, real)\nfor k in range(cuda.blockDim.x):\n    if k == t and i < n:\n        s[0] = q[i]\n"
        "        out[i] = s[0]\n    cuda.syncthreads()"
    ),
    "read-by-all": (
        f"{I}{T}s = cuda.shared.array(1, real)\nif t == 0:\n    s[0] = ONE\ncuda.syncthreads()\nif i < n:\n    out[i] = q[i] * s[0]"
    ),
    "whole-block-returns": (
        f"{I}{T}s = cuda.shared.array(3, real)\nif cuda.blockIdx.x == 2:\n    if i < n:\n        out[i] = q[i]\n    return\n"
        "s[t] = q[i]\ncuda.syncthreads()\nout[i] = s[t]"
    ),
}  # fmt: skip

BAD = {
    "no barrier": (
        f"{I}{T}s = cuda.shared.array(3, real)\nu = cuda.blockDim.x - 1 - t\nj = i - t + u\nif j < n:\n    s[u] = q[j]\n"
        "if i < n:\n    out[i] = s[t]", "a race: thread|before it is written"),
    "one cell": (f"{I}s = cuda.shared.array(1, real)\nif i < n:\n    s[0] = q[i]\n    out[i] = s[0]", "a race: thread"),
    "no barrier before the next tile": (
        f"{I}{T}s = cuda.shared.array(1, real)\nfor k in range(cuda.blockDim.x):\n    if k == t and i < n:\n        s[0] = q[i]\n"
        "        out[i] = s[0]", "a race: thread"),
    "a write where others read": (
        f"{I}{T}s = cuda.shared.array(1, real)\nif t == 0:\n    s[0] = ONE\ncuda.syncthreads()\nif i < n:\n    out[i] = q[i] * s[0]\n"
        "if t == 1:\n    s[0] = ZERO", "a race: thread"),
    "two threads write the same value": (
        f"{I}s = cuda.shared.array(1, real)\ns[0] = ONE\ncuda.syncthreads()\nif i < n:\n    out[i] = q[i] * s[0]", "a race: thread"),
    "no guard": (f"{I}out[i] = q[i]", "index [78] is outside"),
    "a block left out": (f"{I}if i < n - 1:\n    out[i] = q[i]", "element 6 .* is not written"),
    "two threads store": (f"{I}if i < n:\n    out[i] = q[i]\n    out[min(i + 1, n - 1)] = q[min(i + 1, n - 1)]", "written twice"),
    "blocks store the same": (f"{T}out[t] = q[t]", "written twice"),
    "shared memory of another block": (
        f"{I}{T}s = cuda.shared.array(3, real)\nif cuda.blockIdx.x == 0:\n    s[t] = ONE\ncuda.syncthreads()\nif i < n:\n    out[i] = q[i] * s[t]",
        "before it is written"),
    "shared memory read before it is written": (f"{I}{T}s = cuda.shared.array(3, real)\nif i < n:\n    out[i] = s[t]", "before it is"),
    "shared memory of two shapes": (f"{I}{T}s = cuda.shared.array(t + 1, real)\nif i < n:\n    out[i] = q[i]", "in two shapes"),
    "a barrier under a guard": (f"{I}if i < n:\n    out[i] = q[i]\n    cuda.syncthreads()", "the barriers diverge"),
    "an early return": (f"{I}if not i < n:\n    return\ncuda.syncthreads()\nout[i] = q[i]", "the barriers diverge"),
    "two barriers": (
        f"{I}{T}if t == 0:\n    cuda.syncthreads()\nelse:\n    cuda.syncthreads()\nif i < n:\n    out[i] = q[i]", "the barriers diverge"),
    "one barrier in different rounds": (
        f"{I}{T}for k in range(4):\n    if (k + t) % 2 == 0:\n        cuda.syncthreads()\nif i < n:\n    out[i] = q[i]", "diverge: .* round"),
    "a bound of the thread": (f"{I}{T}for k in range(t):\n    cuda.syncthreads()\nif i < n:\n    out[i] = q[i]", "the barriers diverge"),
    "a number that is indexed": (f"{I}y = ONE\nif i < n:\n    out[i] = q[i] * y[0]", "what is indexed is no array"),
    "a local array of another thread": (f"{I}s = cuda.local.array(1, real)\nif i == 0:\n    s[0] = ONE\nif i < n:\n    out[i] = q[i] * s[0]", "before it is written"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("seed", range(4))
def test_a_launch_that_copies_is_accepted(name: str, seed: int) -> None:
    assert run(cuda(GOOD[name]), seed=seed) == 7


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("seed", range(4))
def test_a_launch_that_breaks_a_rule_is_refuted(name: str, seed: int) -> None:
    body, why = BAD[name]
    with pytest.raises(Refuted, match=why):
        run(cuda(body), seed=seed)


def test_a_race_is_seen_in_every_interleaving() -> None:
    """Whoever comes first, the second of two is told: no luck is needed."""
    for seed in range(30):
        with pytest.raises(Refuted, match="a race: thread"):
            run(cuda(BAD["two threads write the same value"][0]), seed=seed)


def test_without_the_shadow_a_missing_barrier_still_shows_in_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interleaving is random, so that what a barrier would have ordered comes out in another order."""
    monkeypatch.setattr(Shared, "watch", lambda self, at, writes: None)
    refuted = 0
    for seed in range(12):
        try:
            run(cuda(BAD["one cell"][0]), seed=seed)
        except Refuted as error:
            refuted += "differs from the Spec" in str(error)
    assert refuted > 6


def test_threads_and_blocks_are_interleaved_by_the_seed() -> None:
    def order(seed: int) -> tuple[object, ...]:
        class Log(Output):
            def __setitem__(self, index: object, value: object) -> None:
                found.append(index)

        found: list[object] = []
        machine = Machine(Numbers({}, {}), random.Random(seed), lambda x, y: bool(x == y))
        machine.run(compile_text(cuda(f"{I}out[i] = ONE\nout[i + 9] = ONE", "out")), Log((18,)), [], SIZES, BLOCKS)
        return tuple(found)

    orders = {order(seed) for seed in range(6)}
    assert len(orders) == 6
    assert all(sorted(x, key=str) == sorted(range(18), key=str) for x in orders)
    assert any(abs(x.index(0) - x.index(9)) > 1 for x in orders)  # another thread ran between two stores of the first


@pytest.mark.parametrize(
    "launch",
    [
        {"grid": ("g", 1, 1), "block": ("t", 1)},
        {"grid": (3,), "block": (Add(Size("t"), Int(0)),)},
        {"grid": (1, 3), "block": (1, 3)},
    ],
)
def test_extents_are_integers_sizes_and_terms(launch: Launch) -> None:
    body = """
b = cuda.blockIdx.y * cuda.gridDim.x + cuda.blockIdx.x
t = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
i = b * (cuda.blockDim.x * cuda.blockDim.y) + t
if i < n:
    out[i] = q[i]
"""
    assert run(cuda(body), launch=launch) == 7


@pytest.mark.parametrize(
    "launch", [None, {}, {"grid": ("g",)}, {"grid": ("g",), "block": ("w",)}, {"grid": (1, 1, 1, 1), "block": (1,)},
               {"grid": (10**6,), "block": (10**6,)}, {"grid": (-1,), "block": (1,)}],
)  # fmt: skip
def test_a_launch_that_is_not_known_or_too_large_is_not_covered(launch: Launch | None) -> None:
    with pytest.raises(NotCovered):
        run(cuda(GOOD["one-each"]), launch=launch)


def test_nothing_is_launched_for_an_empty_grid() -> None:
    assert run(cuda(GOOD["one-each"]), {"n": 0, "g": 0, "t": 3}) == 0
    with pytest.raises(Refuted, match="is not written"):
        run(cuda(GOOD["one-each"]), {"n": 2, "g": 0, "t": 3})


def test_what_is_of_another_target_is_refused() -> None:
    for bad in ("for i in prange(n):\n    out[i] = q[i]", "s = empty(1, real)", "cuda.threadIdx.w", "x = cuda.warpsize",
                "cuda.syncwarp()", "s = cuda.shared.array(1, exp)", "s = cuda.shared.array(shape=1, dtype=real)",
                "y = cuda.shared", "cuda = 1", "x = cuda.threadIdx", "cuda.atomic.add(out, 0, q[0])"):  # fmt: skip
        with pytest.raises(CertificateInvalid):
            run(cuda(bad))


SAID = {"race": "a race: thread|before it is written", "barrier": "the barriers diverge"}


# --- whole kernels -----------------------------------------------------------------------------------------


def cases(t: CudaText) -> list[dict[str, int]]:
    """The example; wide values; tiles longer than their axes; one of everything; no keys."""
    long = {"tq": 8, "tk": 9, "ty": 4, "rj": 5}
    return [t.example, t.sized(dv=5, dk=2), t.sized(**long), t.sized(**dict.fromkeys(t.example, 1)), t.sized(m=0)]


@pytest.mark.parametrize("name", TEXTS)
def test_a_kernel_is_its_spec_in_both_replays(name: str) -> None:
    t = TEXTS[name]
    assert replay(t.data, t.spec, t.inputs, cases(t), 0).elements > 40
    assert replay(t.data, t.spec, t.inputs, cases(t)[1:], 0, method=ordered()).elements > 40


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.dynamic], ids=lambda m: m.name)
def test_a_mutant_of_a_kernel_is_refuted(mutant: CudaMutant) -> None:
    t = TEXTS[mutant.base]
    with pytest.raises(Refuted):
        replay(mutant.data(), t.spec, t.inputs, cases(t), 0)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.kind in SAID], ids=lambda m: m.name)
def test_races_and_divergence_are_named(mutant: CudaMutant) -> None:
    """A race may also show as a cell that the other thread has not written yet."""
    t = TEXTS[mutant.base]
    for seed in range(3):
        with pytest.raises(Refuted, match=SAID[mutant.kind]):
            replay(mutant.data(), t.spec, t.inputs, [t.example], seed)


def test_a_shift_that_is_not_the_maximum_dies_in_the_ordered_replay_alone() -> None:
    t = TEXTS["tiled"]
    for new in ("(s if kb * tk + u < 1 else top)", "s", "-fmax(-s, -s)"):
        text = t.data.replace(b"new = fmax(top, s)", f"new = {new}".encode())
        assert text != t.data
        assert replay(text, t.spec, t.inputs, [t.example], 0).elements == 40
        with pytest.raises(Refuted, match=r"the argument of exp is .*, above 0"):
            replay(text, t.spec, t.inputs, [t.example], 0, method=ordered())


def test_a_constant_of_a_launch_needs_a_value() -> None:
    t = TEXTS["tiled"]
    with pytest.raises(NotCovered, match="no value for dk"):
        replay(t.data, t.spec, t.inputs, [{k: v for k, v in t.example.items() if k != "dk"}], 0)


def test_a_changed_token_is_refused_or_refuted_and_nothing_else_happens() -> None:
    t = TEXTS["plane"]
    killed = 0
    for changed in edits(t.text.partition("@launch")[2], 40, seed=2):
        try:
            replay((t.text.partition("@launch")[0] + "@launch" + changed).encode(), t.spec, t.inputs, [t.example], 0)
        except MoaproofError:
            killed += 1
    assert killed > 30
