"""Texts that a hostile author would try: each is refused by an error of moaproof, none crashes the reader."""

from __future__ import annotations

import pytest

from moaproof.errors import MoaproofError
from moaproof.reader import IMPORTS, read_kernel
from moaproof.term import Build, In, Real, Size

Q = In("q", Size("m"))
HEAD = f'"""Test.\n\ncore: {"0" * 64}\n"""\n\n{IMPORTS["float64"]}\n\n\n@njit(parallel=True, error_model="numpy")\n'
ONE_LOOP = "def kernel(out, q, n, m):\n    for i in prange(n):\n        out[i] = {}\n"

EXPRESSIONS = {
    "minus-signs": "-" * 50_000 + "q[i]",
    "a-long-sum": "q[i]" + " + q[i]" * 20_000,
    "parentheses": "(" * 3000 + "q[i]" + ")" * 3000,
    "nots": "(q[i] if " + "not " * 20_000 + "True else ZERO)",
    "a-long-index": "q[" + " + ".join(["n * m"] * 2000) + "]",
    "attribute": "q.x[i]",
    "lambda": "(lambda: q[i])()",
    "walrus": "(z := q[i])",
    "starred": "exp(*q)",
    "keyword": "exp(x=q[i])",
    "slice": "q[0:i]",
    "f-string": "f'{q}'",
    "complex": "1j",
    "power": "q[i ** 2]",
    "modulo": "q[i % m]",
    "chained": "(q[i] if 0 < i < n else ZERO)",
    "or": "(q[i] if i < n or i < m else ZERO)",
    "three-ands": "(q[i] if i < n and i < m and 0 < i else ZERO)",
    "false": "(q[i] if False else ZERO)",
    "two-signs": "real(--3 / 4)",
    "not-lowest-terms": "real(2 / 4)",
    "negative-denominator": "real(3 / -4)",
    "truth-as-number": "real(True / 2)",
    "size-in-a-constant": "real(n / 4)",
    "beyond-2-to-53": "real(9007199254740993 / 2)",
    "index-beyond-2-to-53": "q[9007199254740993]",
    "the-output": "out[i]",
    "a-bare-index": "i",
    # Numba moves such a read in front of the loop, out of its branch: the program would read where the term does not.
    "a-literal-read-in-a-branch": "(q[1000000000000] if 1000000000000 + i < m else ZERO)",
    "a-read-by-sizes-in-a-branch": "(q[m + 3] if m + 3 < i else ZERO)",
}
FUNCTIONS = {
    "pass": "def kernel(out, q, n, m):\n    pass\n",
    "async": "async def kernel(out, q, n, m):\n    out[0] = ZERO\n",
    "two-targets": "def kernel(out, q, n, m):\n    out[0] = x = ZERO\n",
    "augmented": "def kernel(out, q, n, m):\n    for i in prange(n):\n        out[i] += q[i]\n",
    "annotated": "def kernel(out, q, n, m):\n    for i in prange(n):\n        out[i]: real = q[i]\n",
    "two-on-a-line": "def kernel(out, q, n, m):\n    out[0] = ZERO; out[0] = ONE\n",
    "loop-with-else": (
        "def kernel(out, q, n, m):\n    for i in prange(n):\n        out[i] = ONE\n    else:\n        out[0] = ONE\n"
    ),
    "start-of-prange": "def kernel(out, q, n, m):\n    for i in prange(0, n):\n        out[i] = ZERO\n",
    "inferred-reduction": (
        "def kernel(out, q, n, m):\n    s = ZERO\n    for i in prange(n):\n        s = s + q[i]\n    out[0] = s\n"
    ),
    "default": "def kernel(out, q, n, m=3):\n    out[0] = ZERO\n",
    "decorated-twice": "@njit\ndef kernel(out, q, n, m):\n    out[0] = ZERO\n",
}


def texts() -> dict[str, str]:
    return {name: ONE_LOOP.format(e) for name, e in EXPRESSIONS.items()} | FUNCTIONS


def test_the_frame_of_these_texts_is_read() -> None:
    text = HEAD + ONE_LOOP.format("ZERO")
    assert read_kernel(text.encode(), (Q,), ("n", "m")).term is Build(Size("n"), Real(0), "core")


@pytest.mark.parametrize("name", texts())
def test_a_hostile_text_is_refused(name: str) -> None:
    with pytest.raises(MoaproofError):
        read_kernel((HEAD + texts()[name]).encode(), (Q,), ("n", "m"))


@pytest.mark.parametrize("name", ["lambda", "None", "True", "async", "out", "prange", "min", "n"])
def test_an_input_whose_name_is_taken_is_refused(name: str) -> None:
    text = f"def kernel(out, {name}, n, m):\n    for i in prange(n):\n        out[i] = {name}[i]\n"
    with pytest.raises(MoaproofError):
        read_kernel((HEAD + text).encode(), (In(name, Size("m")),), ("n", "m"))


@pytest.mark.parametrize("data", [b"", b"\0", b"\xef\xbb\xbf", b"\x0c", b"\xff", b"\r\n"])
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    with pytest.raises(MoaproofError):
        read_kernel(data, (Q,), ("n", "m"))
