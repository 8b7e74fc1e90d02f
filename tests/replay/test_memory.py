# ruff: noqa: E501, ISC004  a case is one line
"""The simulator's memory on the CPU: what a text may not do with cells, inputs, the output, and other iterations."""

from __future__ import annotations

import random

import pytest

from moaproof.assess.simulator import Machine, Output
from moaproof.assess.translate import compile_text
from moaproof.errors import CertificateInvalid, NotCovered, Refuted
from moaproof.semantics import Numbers
from tests.replay.texts import cpu, run

GOOD = {
    "plain": "for i in prange(n):\n    out[i] = q[i]",
    "in-sequence": "for i in range(n):\n    out[i] = q[i]",
    "through-scratch": "for i in prange(n):\n    s = empty(2, real)\n    s[1] = q[i]\n    out[i] = s[1]",
    "scratch-before-the-loop-is-read": "s = empty(1, real)\ns[0] = ZERO\nfor i in prange(n):\n    out[i] = q[i] + s[0]",
    "scalar-of-the-iteration": "for i in prange(n):\n    y = q[i]\n    out[i] = y",
    "scalar-of-the-sequence": "y = ZERO\nfor i in range(n):\n    out[i] = q[i] + y - y\n    y = q[i]",
    "two-loops": "for i in prange(min(2, n)):\n    out[i] = q[i]\nfor i in prange(max(0, n - 2)):\n    out[i + 2] = q[i + 2]",
    "a-branch": "for i in prange(n):\n    if i < 3:\n        out[i] = q[i]\n    else:\n        out[i] = q[i] * ONE",
    "both-branches-of-an-expression": "for i in prange(n):\n    out[i] = (q[i] if i % 2 == 0 or not i < 0 else ZERO)",
    "a-rational": "for i in prange(n):\n    out[i] = q[i] * real(1 / 3) * real(3) + real(-2 / 4) + real(1 / 2)",
}  # fmt: skip

BAD = {
    "a negative index": ("for i in prange(n):\n    out[i] = q[i - 1]", "index -1 is outside"),
    "an index beyond": ("for i in prange(n):\n    out[i] = q[i + 1]", "is outside 0..6"),
    "a store beyond": ("for i in prange(n + 1):\n    out[i] = q[min(i, n - 1)]", "index 7 is outside"),
    "a second index": ("for i in prange(n):\n    out[i] = q[i, 0]", "2 indices for an array of rank 1"),
    "a truth value as index": ("for i in prange(n):\n    out[i] = q[i == i]", "an index is no integer"),
    "a cell without a value": ("for i in prange(n):\n    s = empty(1, real)\n    out[i] = s[0]", "before it is written"),
    "an input written": ("for i in prange(n):\n    q[i] = ZERO\n    out[i] = q[i]", "an input is written"),
    "the output read": ("for i in prange(n):\n    out[i] = q[i]\n    y = out[i]", "the output is read"),
    "an element twice": ("for i in prange(n):\n    out[i] = q[i]\n    out[i] = q[i]", "written twice"),
    "an element by two iterations": ("for i in prange(n):\n    out[0] = q[0]", "element 0 of the output is written twice"),
    "an element never": ("for i in prange(n - 1):\n    out[i] = q[i]", "element 6 of shape .* is not written"),
    "another value": ("for i in prange(n):\n    out[i] = q[0]", "differs from the Spec"),
    "minus infinity": ("for i in prange(n):\n    out[i] = LOWEST", "differs from the Spec"),
    "an index in the output": ("for i in prange(n):\n    out[i] = i", "no number is written"),
    "scratch of all iterations": (
        "s = empty(1, real)\nfor i in prange(n):\n    s[0] = q[i]\n    out[i] = s[0]", "a race: iteration"),
    "scratch left by another iteration": (
        "s = empty(n, real)\nfor i in prange(n):\n    s[i] = q[i]\n    out[i] = q[i]\n    if 0 < i:\n"
        "        y = s[i - 1]", "a race: iteration|before it is written"),
    "scratch written where others read": (
        "s = empty(1, real)\ns[0] = ZERO\nfor i in prange(n):\n    out[i] = q[i] + s[0]\n    if i == 3:\n"
        "        s[0] = ZERO", "a race: iteration"),
    "a scalar of another iteration": (
        "for i in prange(n):\n    if i == 0:\n        y = ONE\n    out[i] = q[i] * y", "no number"),
    "a reduction over iterations": ("y = ZERO\nfor i in prange(n):\n    y = y + q[i]\n    out[i] = q[i]", "unsupported operand"),
    "a scalar after its loop": ("for i in prange(n):\n    y = q[i]\n    out[i] = q[i]\nif y:\n    y = ZERO", "another iteration"),
    "an index after its loop": ("for i in prange(n):\n    out[i] = q[i]\ny = q[i]", "an index is no integer"),
    "a name before it has a value": ("for i in prange(n):\n    out[i] = q[k]\n    for k in range(1):\n        y = k", "no integer"),
    "numbers compared": ("for i in prange(n):\n    out[i] = (q[i] if q[i] == q[i] else ZERO)", "numbers are compared"),
    "numbers ordered": ("for i in prange(n):\n    out[i] = (q[i] if q[i] < ONE else ONE)", "not supported"),
    "a number as truth": ("for i in prange(n):\n    out[i] = (q[i] if q[i] else ZERO)", "no truth value"),
    "an index in a sum": ("for i in prange(n):\n    out[i] = q[i] + 0", "no number"),
    "min of numbers": ("for i in prange(n):\n    out[i] = min(q[i], q[i])", "an integer is due"),
    "real of a number": ("for i in prange(n):\n    out[i] = real(q[i])", "an integer is due"),
    "real of a rounded quotient": ("for i in prange(n):\n    out[i] = q[i] * real(n / 7)", "an integer is due"),
    "a loop over a number": ("for i in range(q[0]):\n    out[i] = q[i]", "an integer is due"),
    "a loop without a step": ("for i in range(0, n, 0):\n    out[i] = q[i]", "must not be zero"),
    "a remainder of nothing": ("for i in prange(n):\n    out[i] = q[i % (n - 7)]", "by zero"),
    "a divisor 0": ("for i in prange(n):\n    out[i] = q[i] / ZERO", "divisor is 0"),
    "Empty less Empty": ("for i in prange(n):\n    out[i] = q[i] + exp(LOWEST - LOWEST)", "maximum of nothing"),
    "scratch below zero": ("for i in prange(n):\n    s = empty(i - 1, real)\n    out[i] = q[i]", "scratch of shape"),
    "a scalar that is indexed": ("for i in prange(n):\n    y = ONE\n    out[i] = y[0]", "not subscriptable"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_text_that_copies_is_accepted(name: str) -> None:
    assert run(cpu(GOOD[name])) == 7
    assert run(cpu(GOOD[name]), {"n": 0}) == 0


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("seed", range(3))
def test_a_text_that_breaks_a_rule_is_refuted_with_its_sizes(name: str, seed: int) -> None:
    body, why = BAD[name]
    with pytest.raises(Refuted, match=why) as error:
        run(cpu(body), seed=seed)
    assert error.value.witness["n"] == 7


def test_a_refusal_names_the_line_and_the_iteration() -> None:
    with pytest.raises(Refuted, match=r"replay, line 7, iteration \d: the output is read"):
        run(cpu("for i in prange(n):\n    out[i] = out[i]"))


def test_what_a_tile_left_behind_is_seen_by_its_value() -> None:
    """Scratch of one iteration, reused tile by tile: a stale cell has a value, and it is not the Spec's."""
    body = """
for w in prange(1):
    s = empty(1, real)
    for i in range(n):
        if i {} 5:
            s[0] = q[i]
        out[i] = s[0]
"""
    assert run(cpu(body.format("<= n +"))) == 7
    with pytest.raises(Refuted, match=r"element 5 .* differs"):
        run(cpu(body.format("!=")))
    fresh = body.replace("    s = empty(1, real)\n", "").replace("    for i in", "    for i in", 1)
    fresh = fresh.replace("        if i", "        s = empty(1, real)\n        if i")
    with pytest.raises(Refuted, match="before it is written"):
        run(cpu(fresh.format("!=")))


def test_the_iterations_of_prange_are_shuffled_and_those_of_range_are_not() -> None:
    def order(loop: str, seed: int) -> list[object]:
        class Log(Output):
            def __setitem__(self, index: object, value: object) -> None:
                found.append(index)

        found: list[object] = []
        machine = Machine(Numbers({}, {}), random.Random(seed), lambda x, y: bool(x == y))
        machine.run(compile_text(cpu(f"for i in {loop}(n):\n    out[i] = ONE", "out, n")), Log((9,)), [], {"n": 9})
        return found

    assert order("range", 0) == list(range(9))
    assert len({tuple(order("prange", seed)) for seed in range(5)}) == 5
    assert sorted(order("prange", 0), key=str) == list(range(9))


def test_missing_sizes_are_not_covered() -> None:
    with pytest.raises(NotCovered, match="no value for extra"):
        run(cpu("out[0] = ONE", "out, q, extra"))
    with pytest.raises(NotCovered, match="the inputs"):
        run(cpu("out[0] = ONE", "out"))


def test_a_renamed_import_or_another_statement_before_the_kernel_is_refused() -> None:
    text = cpu(GOOD["plain"]).decode()
    for bad in (
        text.replace("exp, fmax", "exp as fmax, fmax as exp"),
        text.replace("import LOWEST", "import system, LOWEST"),
        text.replace("\n\n\n@njit", "\n\nONE = 2\n\n\n@njit"),
        text.replace("def kernel", "def exp"),
        text.replace("@njit(parallel=True", "@jit(parallel=True"),
        text + "\n\nkernel = exp\n",
        text.replace("from moaproof.instructions.cpu_float64 import", "import"),
    ):
        assert bad != text
        with pytest.raises(CertificateInvalid):
            run(bad.encode())
