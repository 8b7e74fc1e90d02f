"""Absurd texts end in an error of moaproof, after bounded work.  What is bounded is counted, never timed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moaproof.assess.ordered import ordered
from moaproof.assess.replay import MAX_ELEMENTS, replay
from moaproof.assess.simulator import MAX_STEPS, Machine
from moaproof.assess.translate import compile_text
from moaproof.errors import CertificateInvalid, MoaproofError, NotCovered, Refuted
from moaproof.reader.text import MAX_BYTES
from moaproof.term import Build, F, Fold, In, Int, Mul, Psi, Real, Size, Term, Var
from tests.replay.texts import BLOCKS, COPY, CPU, SIZES, Q, cpu, cuda, run, run_over

COPIES = "for i in prange(n):\n    out[i] = q[i]"
I = "i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x\n"


def nested(depth: int) -> str:
    return "".join(f"{'    ' * k}for i{k} in range(1):\n" for k in range(depth)) + "    " * depth + "out[0] = q[0]"


TOO_LONG = {
    "prange-of-2-to-50": "for i in prange(1125899906842624):\n    out[0] = q[0]",
    "range-of-2-to-50": "for i in range(1125899906842624):\n    out[0] = q[0]",
    "range-of-2-to-50-under-a-false-guard": "for i in range(1125899906842624):\n    if False:\n        out[0] = q[0]",
    "product-of-sizes": "for i in range(" + " * ".join(["n"] * 20) + "):\n    out[0] = q[0]",
    "backwards": "for i in range(1125899906842624, 0, -1):\n    y = i",
    "loops-in-loops": "for a in range(999):\n    for b in range(999):\n        for c in range(999):\n            y = c",
    "a-body-that-is-long": "for a in range(9999):\n" + "    y = a + 1\n" * 400,
    "huge-scratch": "s = empty((1099511627776, 1099511627776), real)\n" + COPIES,
    "scratch-again-and-again": "for a in range(9999):\n    s = empty(999999, real)",
}
GROWS = {
    "squares": "y = 3\nfor a in range(64):\n    y = y * y\n" + COPIES,
    "squares-in-a-branch": "y = 3\nfor a in range(64):\n    y = (y * y if a < 99 else y)\n" + COPIES,
    "squares-of-negatives": "y = -3\nfor a in range(64):\n    y = -y * y\n" + COPIES,
    "a-bound": "for a in range(" + " * ".join(["n * 9223372036854775807"] * 3) + "):\n    y = a",
    "a-quotient-of-integers": "y = " + " * ".join(["9223372036854775807"] * 40) + " / 3\n" + COPIES,
}
NOT_THE_LANGUAGE = {
    "21-nested-loops": nested(21),
    "100-nested-loops": nested(99),
    "a-huge-integer": "out[1" + "0" * 5000 + "] = q[0]",
    "an-integer-beyond-64-bits": f"y = {2**70}\n{COPIES}",
    "a-tuple-again-and-again": "y = (0,) * 1000000000\n" + COPIES,
    "a-string-again-and-again": "y = 'x' * 1000000000\n" + COPIES,
    "a-power": "y = 9 ** 9 ** 9\n" + COPIES,
    "a-shift": "y = 1 << 1000000000000\n" + COPIES,
    "itself": "kernel(out, q, n)",
    "a-function-in-it": "def kernel(out, q, n):\n    return\nkernel(out, q, n)",
    "a-loop-without-end": "while True:\n    out[0] = q[0]",
    "a-handler": "try:\n    out[0] = q[0]\nfinally:\n    out[1] = q[1]",
    "an-import": "import os\n" + COPIES,
    "globals": "global exp\n" + COPIES,
    "an-attribute": "y = q.cells\n" + COPIES,
    "a-dunder": "y = q.__class__\n" + COPIES,
    "builtins": "y = __builtins__\n" + COPIES,
    "our-own-names": "y = steps\n" + COPIES,
    "a-call-of-a-call": "exp(exp)(q[0])",
    "a-call-of-a-cell": "q[0](1)",
    "a-function-as-value": "y = exp\n" + COPIES,
    "a-yield": "y = yield q\n" + COPIES,
    "a-return": "return\n",
    "a-deletion": "del q\n" + COPIES,
    "an-assertion": "assert q\n" + COPIES,
    "a-comprehension": "y = [z for z in q]\n" + COPIES,
    "a-slice": "out[0:n] = q[0:n]",
    "a-star": "y = min(*q)\n" + COPIES,
    "a-keyword": "y = min(a=1, b=2)\n" + COPIES,
    "a-walrus": "y = (z := 1)\n" + COPIES,
    "a-float": "y = 0.5\n" + COPIES,
    "an-ellipsis": "out[...] = q[0]",
    "a-starred-target": "a, b = 1, 2\n" + COPIES,
    "another-loop": "for i in q:\n    out[0] = i",
    "an-else-of-a-loop": "for i in range(n):\n    out[i] = q[i]\nelse:\n    out[0] = q[0]",
    "a-tuple-of-indices": "for a, b in range(n):\n    out[a] = q[a]",
    "prange-in-prange": "for i in prange(n):\n    for j in prange(1):\n        out[i] = q[i]",
    "prange-from-1": "for i in prange(1, n):\n    out[i] = q[i]",
    "an-instruction-hidden": "exp = 1\n" + COPIES,
    "range-hidden": "for range in range(n):\n    out[range] = q[range]",
    "another-type-of-scratch": "s = empty(1, exp)\n" + COPIES,
    "scratch-in-a-sum": "y = empty(1, real) + 1\n" + COPIES,
    "real-of-two": "y = real(1, 2)\n" + COPIES,
    "min-of-three": "y = min(1, 2, 3)\n" + COPIES,
    "identity": "y = n is n\n" + COPIES,
    "minus-signs": "y = " + "-" * 50_000 + "n\n" + COPIES,
    "parentheses": "y = " + "(" * 3000 + "n" + ")" * 3000 + "\n" + COPIES,
    "a-long-sum": "y = " + " + ".join(["n"] * 5000) + "\n" + COPIES,
    "a-long-product": "y = " + " * ".join(["n"] * 300) + "\n" + COPIES,
    "many-brackets": "y = " + "q[" * 300 + "0" + "]" * 300 + "\n" + COPIES,
}
BYTES = {
    "nothing": b"",
    "a-nul": cpu(COPIES).replace(b"prange(n)", b"prange(n\0)"),
    "not-ascii": cpu(COPIES).replace(b"out[i]", "o\u00fct[i]".encode()),
    "not-python": b"def kernel(",
    "no-function": b"from moaproof.instructions.cpu_float64 import exp\n",
    "two-functions": cpu(COPIES) + b"\n\n" + cpu(COPIES).partition(b"\n\n\n")[2],
    "no-decorator": cpu(COPIES).replace(b'@njit(parallel=True, error_model="numpy")\n', b""),
    "a-class": b"class kernel:\n    pass\n",
    "async": cpu(COPIES).replace(b"def kernel", b"async def kernel"),
    "a-default": cpu(COPIES, "out, q, n=3"),
    "a-star": cpu(COPIES, "out, q, *n"),
    "the-same-name-twice": cpu(COPIES, "out, q, q"),
    "debug": cpu("for i in prange(n):\n    out[i] = __debug__[i]", "out, __debug__, n"),
    "none": cpu(COPIES, "out, None, n"),
    "an-instruction-as-parameter": cpu(COPIES, "out, exp, n"),
    "more-than-a-megabyte": cpu(COPIES) + b"\n" * MAX_BYTES,
    "a-constant-as-parameter": cuda(f"{I}if i < n:\n    out[i] = q[i]").replace(
        b"@cuda.jit", b'@launch(grid=("g",), block=("t",), constants=("n",))'
    ),
    "another-option-of-a-launch": cuda(f"{I}out[i] = q[i]").replace(b"@cuda.jit", b"@launch(streams=(1,))"),
    "a-computed-launch": cuda(f"{I}out[i] = q[i]").replace(b"@cuda.jit", b"@launch(grid=(1 + 1,), block=(1,))"),
}
CUDA_TOO_LONG = {
    "every-thread-for-long": f"{I}for e in range(1125899906842624):\n    y = e",
    "barriers-for-long": f"{I}for e in range(1125899906842624):\n    cuda.syncthreads()",
    "huge-shared-memory": f"{I}s = cuda.shared.array((1099511627776, 1099511627776), real)",
    "huge-local-memory": f"{I}s = cuda.local.array(1125899906842624, real)",
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_what_takes_too_long_is_not_covered(name: str) -> None:
    with pytest.raises(NotCovered, match="more than"):
        run(cpu(TOO_LONG[name]))
    with pytest.raises(NotCovered, match="more than"):
        run_over(ordered(), cpu(TOO_LONG[name]))


@pytest.mark.parametrize("name", CUDA_TOO_LONG)
def test_what_takes_too_long_in_threads_is_not_covered(name: str) -> None:
    with pytest.raises(NotCovered, match="more than"):
        run(cuda(CUDA_TOO_LONG[name]))


@pytest.mark.parametrize("name", GROWS)
def test_integers_that_grow_are_refused(name: str) -> None:
    with pytest.raises((Refuted, NotCovered)):
        run(cpu(GROWS[name]))


@pytest.mark.parametrize("name", NOT_THE_LANGUAGE)
@pytest.mark.parametrize("text", [cpu, cuda], ids=["cpu", "cuda"])
def test_what_is_not_the_language_is_refused_before_it_runs(
    name: str, text: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "a-return" and text is cuda:
        assert compile_text(cuda("return")).target == "cuda"
        return
    monkeypatch.setattr(Machine, "run", None)  # it is not reached
    with pytest.raises(CertificateInvalid):
        run(text(NOT_THE_LANGUAGE[name]))


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_kernel_are_refused(name: str) -> None:
    with pytest.raises((CertificateInvalid, NotCovered)):
        run(BYTES[name])


def test_the_empty_body_is_refused() -> None:
    with pytest.raises(CertificateInvalid):
        run(CPU.format("out, q, n").encode())


def test_an_input_with_a_name_of_pythons_is_no_crash() -> None:
    """A name that Python itself reserves: the text that would use it is refused."""
    odd = In("__debug__", Size("n"))
    spec = Build(Size("n"), Psi(odd, Var(0)))
    with pytest.raises(CertificateInvalid):
        replay(BYTES["debug"], spec, [odd], [SIZES], 0)
    hidden = In("__builtins__", Size("n"))
    text = cpu("for i in prange(n):\n    out[i] = __builtins__[i]", "out, __builtins__, n")
    assert replay(text, Build(Size("n"), Psi(hidden, Var(0))), [hidden], [SIZES], 0).elements == 7


def test_the_budget_counts_what_is_run_and_is_used_up_before_it_is_run() -> None:
    """Loops of a thousand rounds at a time run while there is budget, and the next is not begun."""
    ran = []

    class Counted(Machine):
        def range(self, cost: int, *bounds: int) -> range:
            found = super().range(cost, *bounds)
            ran.append(len(found) * cost)
            return found

    import moaproof.assess.replay as module

    original, module.Machine = module.Machine, Counted
    try:
        with pytest.raises(NotCovered):
            run(cpu("for a in range(100000):\n    for b in range(1000):\n        y = b"))
    finally:
        module.Machine = original
    assert MAX_STEPS / 2 < sum(ran) <= MAX_STEPS


BIG = Size("n")
SPECS: dict[str, Term] = {
    "a-long-fold": Build(BIG, Fold("add", Int(2**50), Real(1))),
    "a-fold-of-folds": Build(BIG, Fold("add", Int(10**4), Fold("add", Int(10**4), Real(1)))),
    "a-huge-result": Build(Mul(BIG, Int(2**50)), Real(1)),
    "no-quotient-anywhere": Build(BIG, F("div", Real(1), Real(0))),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("method", [None, ordered()], ids=["fields", "ordered"])
def test_a_spec_that_cannot_be_evaluated_is_not_covered(name: str, method: object) -> None:
    more = {} if method is None else {"method": method}
    with pytest.raises(NotCovered):
        replay(cpu(COPIES), SPECS[name], [Q], [SIZES], 0, **more)


def test_inputs_too_large_to_be_made_are_not_covered() -> None:
    with pytest.raises(NotCovered, match="too many"):
        replay(cpu(COPIES), COPY, [Q], [{"n": MAX_ELEMENTS + 1}], 0)


def test_sizes_that_have_no_value_are_not_covered() -> None:
    with pytest.raises(NotCovered, match="no value for n"):
        replay(cpu("out[0] = ONE", "out, q"), COPY, [Q], [{"m": 3}], 0, BLOCKS)
    with pytest.raises(MoaproofError):
        replay(cpu(COPIES), COPY, [], [SIZES], 0)
