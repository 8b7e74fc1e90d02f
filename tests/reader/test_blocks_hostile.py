# ruff: noqa: E501  what is replaced is as long as it is
"""CUDA texts that are wrong, each in one way: refused for that reason, or read to another term."""

from __future__ import annotations

import io
import random
import re
import tokenize
from collections.abc import Iterator
from typing import Any

import pytest

from moaproof.errors import CertificateInvalid, IllFormed, MoaproofError
from moaproof.reader import read_kernel
from tests.reader.test_blocks import HEAD, SAMPLES, read

Rows = dict[str, tuple[Any, ...]]  # name: the sample, why it is refused, and what is replaced by what

# an array is filled by one let, in registers where it is one for each row
MEMORY: Rows = {
    "filled-twice": ("causal", "x36 is filled already, or is not of registers", ("x47[c51, r49] = ", "x36[c51, r49] = ")),
    "registers-of-another-let": ("causal", "m41 is filled already, or is not of registers", ("s67[e68] = ZERO", "m41[e68] = ZERO")),
    "accumulator-of-another-let": ("causal", "s67 is the accumulator, and stands first", ("s67[e71] = s67[e71]", "m41[e71] = s67[e71]")),
    "state-part-twice": ("causal", "m8 is filled already, or is not of registers", ("l9[e13] = ZERO", "m8[e13] = ZERO")),
    "factor-in-used-registers": ("causal", "s67 is filled already, or is not of registers", ("a73[e77] = rescale", "s67[e77] = rescale")),
    "factors-alike": ("causal", "a73 is filled already, or is not of registers", ("b74[e77] = rescale", "a73[e77] = rescale")),
    "scalar-twice": ("column", "s is bound a second time", ("q = exp(s)", "s = exp(s)")),
    "staged-twice": ("causal", "shared memory, not yet filled, is due", ("x23[c24, c25] = ", "x20[c24, c25] = ")),
    "staged-over-registers": ("causal", "shared memory, not yet filled, is due", ("x23[c24, c25] = ", "s26[c24, c25] = ")),
    "not-allocated": ("causal", "memory that is allocated is due", ("s67[e68] = ZERO", "s99[e68] = ZERO")),
    "scalar-in-a-tile": ("causal", "s67 has another rank", ("s67[e68] = ZERO", "s67 = ZERO")),
    "registers-of-a-column": ("column", "a name is due", ("        s = ZERO", "        s[c] = ZERO")),
    "never-filled": ("small", "memory is allocated that nothing fills", ("    a1 = cuda.local", "    a0 = cuda.local.array(ri, real)\n    a1 = cuda.local")),
    "accumulator-in-shared-memory": ("small", "t1 is filled already, or is not of registers", ("a1[e7, f7] = ZERO", "t1[c7, r7] = ZERO"), ("a1[e8, f8] = a1[e8, f8] +", "t1[c8, r8] = t1[c8, r8] +")),
    "row-in-shared-memory": ("small", "t1[0, r6] has another rank", ("g1[e6] = sqrt", "t1[0, r6] = sqrt")),
    "rank-one-for-two": ("small", "a1[e7] has another rank", ("a1[e7, f7] = ZERO", "a1[e7] = ZERO")),
    "rank-two-for-one": ("small", "a1[e6] has another rank", ("g1[e6] = sqrt", "a1[e6] = sqrt")),
}  # fmt: skip

# a let is read after it, in its own block
ITERATION: Rows = {
    "read-in-its-own-loop": ("causal", "s67[e71] is no value here", ("x47[k70, r72]", "x47[k70, r72] * s67[e71]")),
    "read-before-it-is-filled": ("causal", "x47[k44, r46] is no value here", ("fmax(m41[e45], x36[k44, r46])", "fmax(m41[e45], x47[k44, r46])")),
    "read-after-its-loop": ("causal", "x62[e83, e85] is no value here", ("quotient(o10[e83, e85], l9[e83])", "x62[e83, e85]")),
    "read-outside-of-its-array": ("causal", "s52[e79, e81] is no value here", ("x62[e79, e81] * b74[e79]", "s52[e79, e81] * b74[e79]")),
    "factor-read-later": ("causal", "a73[e83] is no value here", ("quotient(o10[e83, e85], l9[e83])", "a73[e83]")),
    "maximum-read-in-its-loop": ("causal", "m8[e77] is no value here", ("e75 = m41[e77]", "e75 = m8[e77]")),
    "weight-as-a-value": ("causal", "l9[e83] is no value here", ("quotient(o10[e83, e85], l9[e83])", "l9[e83]")),
    "sums-as-a-value": ("causal", "o10[e83, e85] is no value here", ("quotient(o10[e83, e85], l9[e83])", "o10[e83, e85]")),
    "new-maximum-as-a-value": ("causal", "e75 is no value here", ("s67[e77] * b74[e77]", "e75 * b74[e77]")),
    "loop-index-after-its-loop": ("causal", "k57 is no index here", ("= s52[e63, e65]", "= s52[e63, e65] * real(k57)")),
    "nest-index-after-its-nest": ("causal", "c61 is no index here", ("= s52[e63, e65]", "= s52[e63, e65] * real(c61)")),
}  # fmt: skip

# a row sees itself alone
ROW: Rows = {
    "cell-of-a-column-as-row": ("causal", "the row or column at hand is due", ("x5[k31, r33]", "x5[k31, c35]")),
    "cell-of-the-next-row": ("causal", "the row or column at hand is due", ("x5[k31, r33]", "x5[k31, r33 + 1]")),
    "cell-of-row-0": ("causal", "the row or column at hand is due", ("x5[k31, r33]", "x5[k31, 0]")),
    "cell-of-a-register-number": ("causal", "e32 is no index here", ("x5[k31, r33]", "x5[k31, e32]")),
    "cell-of-the-fold": ("causal", "the row or column at hand is due", ("x36[k44, r46]", "x36[k44, k44]")),
    "cell-swapped": ("causal", "the row or column at hand is due", ("x36[k44, r46]", "x36[r46, k44]")),
    "registers-of-a-column-as-row": ("causal", "the row or column at hand is due", ("m41[e48]", "m41[e50]")),
    "registers-of-a-row-number": ("causal", "r49 is no index of such registers here", ("m41[e48]", "m41[r49]")),
    "registers-of-row-0": ("causal", "0 is no index of such registers here", ("m41[e48]", "m41[0]")),
    "registers-swapped": ("causal", "the row or column at hand is due", ("s26[e37, e39]", "s26[e39, e37]")),
    "registers-of-the-row-twice": ("causal", "the row or column at hand is due", ("= s26[e37, e39] * scale", "= s26[e37, e37] * scale")),
    "array-of-the-row-twice": ("causal", "e79 is no index of such registers here", ("x62[e79, e81] * b74", "x62[e79, e79] * b74")),
    "weight-of-a-column": ("causal", "the row or column at hand is due", ("l9[e83])", "l9[e85])")),
    "row-in-an-array-of-no-row": ("causal", "r7 is no index here", ("if c22 < min", "if r7 < min")),
    "row-cells-in-an-array-of-no-row": ("causal", "the row or column at hand is due", ("if c24 < min(rj * tx, m - k19 * (rj * tx)) and c25 < dv else ZERO)", "if c24 < m else x5[0, c24])")),
    "registers-in-an-array-of-no-row": ("causal", "m8[c24] is no value here", ("if c24 < min(rj * tx, m - k19 * (rj * tx)) and c25 < dv else ZERO)", "if c24 < m else m8[c24])")),
    "row-around-nests": ("causal", "r12 is no index here", ("if k19 * (rj * tx) <", "if r12 * (rj * tx) <")),
    "thread-around-nests": ("causal", "y is no index here", ("if k19 * (rj * tx) <", "if y * (rj * tx) <")),
    "thread-in-an-extent": ("causal", "x is no index here", ("for k31 in span(dk)", "for k31 in span(x)")),
    "row-in-an-extent": ("causal", "r28 is no index here", ("for k31 in span(dk)", "for k31 in span(r28)")),
    "thread-in-a-value": ("causal", "x is no index here", ("x36[c40, r38] = s26[e37, e39] * scale", "x36[c40, r38] = s26[e37, e39] * real(x)")),
    "staged-row-first": ("causal", "the last index is that of the row", ("x5[c6, r7] = ", "x5[r7, c6] = ")),
    "staged-one-index-twice": ("causal", "the cell of x20 of this iteration is due", ("x20[c21, c22] = ", "x20[c21, c21] = ")),
    "staged-at-0": ("causal", "the cell of x20 of this iteration is due", ("x20[c21, c22] = ", "x20[c21, 0] = ")),
    "filled-row-first": ("causal", "the row or column at hand is due", ("x36[c40, r38] = ", "x36[r38, c40] = ")),
    "filled-at-another-row": ("causal", "the row or column at hand is due", ("x36[c40, r38] = ", "x36[c40, 0] = ")),
    "filled-at-another-column": ("causal", "the row or column at hand is due", ("x36[c40, r38] = ", "x36[c40 + 1, r38] = ")),
    "filled-registers-swapped": ("causal", "the row or column at hand is due", ("x62[e63, e65] = ", "x62[e65, e63] = ")),
    "cell-of-no-row-by-registers": ("causal", "e34 is no index here", ("x20[k31, c35]", "x20[k31, e34]")),
}  # fmt: skip

# registers of columns are indexed by the column at hand, and only in wide nests
COLUMNS: Rows = {
    "column-in-a-row": ("causal", "c40 is no index here", ("if k19 * (rj * tx) + k44 <", "if k19 * (rj * tx) + c40 <")),
    "registers-of-a-loop": ("causal", "0 is no index of such registers here", ("= s52[e63, e65]", "= s52[e63, 0]")),
    "array-by-its-column": ("causal", "c82 is no index of such registers here", ("x62[e79, e81] * b74", "x62[e79, c82] * b74")),
    "array-in-a-row": ("causal", "e77 is no index of such registers here", ("s67[e77] * b74[e77]", "x62[e77, e77] * b74[e77]")),
    "other-columns": ("causal", "a loop over the registers of a column is due", ("for e65 in span(rc)", "for e65 in span(rj)")),
    "columns-of-an-index": ("causal", "an assignment is due", ("for e55 in span(rc)", "for e55 in span(k19)"), ("for e60 in span(rc)", "for e60 in span(k19)"), ("for e65 in span(rc)", "for e65 in span(k19)")),
}  # fmt: skip

# every row and column is dealt to a thread, once
DEAL: Rows = {
    "row-by-x": ("causal", "the index e32 * ty + y of the row is due", ("r33 = e32 * ty + y", "r33 = e32 * ty + x")),
    "row-by-another-step": ("causal", "the index e32 * ty + y of the row is due", ("r33 = e32 * ty + y", "r33 = e32 * tx + y")),
    "row-blocked": ("causal", "the index e32 * ty + y of the row is due", ("r33 = e32 * ty + y", "r33 = y * ri + e32")),
    "row-undealt": ("causal", "the index e32 * ty + y of the row is due", ("r33 = e32 * ty + y", "r33 = e32")),
    "row-not-named": ("causal", "the index e42 * ty + y of the row is due", ("                r43 = e42 * ty + y\n", "")),
    "row-added-to": ("causal", "an assignment is due", ("r33 = e32 * ty + y", "r33 += e32 * ty + y")),
    "row-annotated": ("causal", "an assignment is due", ("r33 = e32 * ty + y", "r33: real = e32 * ty + y")),
    "column-by-y": ("causal", "the index e34 * tx + x of the column is due", ("c35 = e34 * tx + x", "c35 = e34 * tx + y")),
    "column-blocked": ("causal", "the index e34 * tx + x of the column is due", ("c35 = e34 * tx + x", "c35 = x * rj + e34")),
    "registers-of-another-count": ("causal", "a loop over the registers of a row is due", ("for e42 in span(ri)", "for e42 in span(rj)")),
    "registers-from-1": ("causal", "a loop over the registers of a row is due", ("for e42 in span(ri)", "for e42 in span(1, ri)")),
    "registers-and-one-more": ("causal", "a loop over the registers of a row is due", ("for e42 in span(ri)", "for e42 in span(ri + 1)")),
    "registers-by-range": ("causal", "a loop over the registers of a row is due", ("for e42 in span(ri)", "for e42 in range(ri)")),
    "columns-of-no-size": ("causal", "a loop over the registers of a column is due", ("for e65 in span(rc)", "for e65 in span(rc * 1)")),
    "columns-around-rows": ("causal", "a loop over the registers of a row is due", ("for e53 in span(ri):\n                r54 = e53 * ty + y\n                for e55 in span(rc):\n                    c56 = e55 * tx + x\n", "for e55 in span(rc):\n                c56 = e55 * tx + x\n                for e53 in span(ri):\n                    r54 = e53 * ty + y\n")),
    "staged-rows-by-x": ("causal", "each index to one thread is due", ("span(y, ri * ty, ty)", "span(x, ri * ty, ty)")),
    "staged-rows-from-0": ("causal", "each index to one thread is due", ("span(y, ri * ty, ty)", "span(0, ri * ty, ty)")),
    "staged-rows-one-by-one": ("causal", "each index to one thread is due", ("span(y, ri * ty, ty)", "span(y, ri * ty, 1)")),
    "staged-rows-of-another-step": ("causal", "each index to one thread is due", ("span(y, ri * ty, ty)", "span(y, ri * ty, tx)")),
    "staged-by-all": ("causal", "a loop over the registers of a row is due", ("for r7 in span(y, ri * ty, ty)", "for r7 in span(ri * ty)")),
    "staged-columns-by-all": ("causal", "a loop that is dealt to the threads of x is due", ("for c6 in span(x, dk, tx)", "for c6 in span(dk)")),
    "staged-threads-exchanged": ("causal", "each index to one thread is due", ("for c22 in span(y, rj * tx, ty)", "for c22 in span(x, rj * tx, tx)"), ("for c21 in span(x, dk, tx)", "for c21 in span(y, dk, ty)")),
    "staged-under-a-guard": ("causal", "shared memory, not yet filled, is due", ("            x5[c6, r7] = (", "            if c6 < 3:\n                x5[c6, r7] = (")),
    "staged-in-one-loop": ("causal", "a loop that is dealt to the threads of x is due", ("        for c6 in span(x, dk, tx):\n            x5[c6, r7] = (", "        x5[c6, r7] = (")),
    "staged-two-statements": ("causal", "1 statements are due, not 2", ("        for c6 in span(x, dk, tx):\n", "        for c6 in span(x, dk, tx):\n            x20[c6, r7] = scale\n")),
    "columns-from-0": ("column", "each index to one thread is due", ("span(t, dv, tx)", "span(0, dv, tx)")),
    "columns-one-by-one": ("column", "each index to one thread is due", ("span(t, dv, tx)", "span(t, dv, 1)")),
    "columns-by-all": ("column", "a loop that is dealt to the threads of x is due", ("span(t, dv, tx)", "span(dv)")),
    "columns-to-a-variable": ("column", "i is no index here", ("span(t, dv, tx)", "span(t, i, tx)")),
    "two-statements-of-columns": ("column", "1 statements are due, not 2", ("    for c in", "    z = ONE\n    for c in")),
    "nest-with-else": ("causal", "a loop over the registers of a row is due", ("                m41[e42] = LOWEST\n", "                m41[e42] = LOWEST\n            else:\n                m41[e42] = LOWEST\n")),
    "staged-with-else": ("causal", "a loop that is dealt to the threads of x is due", ("            x5[c6, r7] = (q", "            x5[c6, r7] = ZERO\n        else:\n            x5[c6, r7] = (q")),
    "staged-of-three": ("causal", "the cell of x20 of this iteration is due", ("x20[c21, c22] = ", "x20[c21, c22, c21] = ")),
    "nest-of-a-barrier": ("causal", "the index e42 * ty + y of the row is due", ("                r43 = e42 * ty + y\n                m41[e42] = LOWEST\n", "                cuda.syncthreads()\n")),
    "column-of-a-barrier": ("column", "1 statements are due at the end", ("        s = ZERO\n        for k in span(dk):\n            if seen[k]:\n                s = s + x[i * dk + k] * w[c]\n        q = exp(s)\n        out[i * dv + c] = q * s\n", "        cuda.syncthreads()\n")),
}  # fmt: skip

# the grid and the threads are what the header says
PLACE: Rows = {
    "threads-exchanged": ("causal", "cuda.threadIdx.x is due", ("x = cuda.threadIdx.x\n    y = cuda.threadIdx.y", "x = cuda.threadIdx.y\n    y = cuda.threadIdx.x")),
    "thread-of-z": ("causal", "cuda.threadIdx.y is due", ("y = cuda.threadIdx.y", "y = cuda.threadIdx.z")),
    "no-y": ("causal", "cuda.threadIdx.y is due", ("    y = cuda.threadIdx.y\n", "")),
    "a-y-too-many": ("column", "cuda.blockIdx.x is due", ("    i = cuda", "    y = cuda.threadIdx.y\n    i = cuda")),
    "block-of-y": ("causal", "cuda.blockIdx.x is due", ("w1 = cuda.blockIdx.x", "w1 = cuda.blockIdx.y")),
    "block-by-grid": ("causal", "cuda.blockIdx.x is due", ("w1 = cuda.blockIdx.x", "w1 = cuda.gridDim.x")),
    "decoded-by-another": ("causal", "prange is not over the product of the core extents", ("w1 // bq % h", "w1 // bq % b")),
    "decoded-short": ("causal", "not the product of the extents that follow", ("w1 // (h * bq)", "w1 // bq")),
    "decoded-twice": ("causal", "not the decoding of a core axis", ("i4 = w1 % bq", "i4 = w1 % bq\n    i5 = w1 % bq")),
    "not-decoded": ("split", "each factor of the grid is an axis", ("    i97 = w96 // (h * n)\n    i98 = w96 // n % h\n    i99 = w96 % n\n", "")),
    "decoded-of-a-thread": ("causal", "not the decoding of a core axis", ("i4 = w1 % bq", "i4 = x % bq")),
    "place-named-as-a-size": ("causal", "dk is bound a second time", ("x = cuda.threadIdx.x", "dk = cuda.threadIdx.x")),
    "place-named-as-an-input": ("causal", "q is bound a second time", ("x = cuda.threadIdx.x", "q = cuda.threadIdx.x")),
}  # fmt: skip

# headers and signatures
HEADER: Rows = {
    "grid-in-another-order": ("causal", "prange is not over the product of the core extents", ('"b*h*bq"', '"h*b*bq"')),
    "grid-of-two-axes": ("causal", "the header says another grid, block, index dtype or kind of data", ('("b*h*bq", 1, 1)', '("h*bq", "b", 1)')),
    "grid-short": ("causal", "prange is not over the product of the core extents", ('"b*h*bq"', '"h*bq"')),
    "grid-long": ("causal", "prange is not over the product of the core extents", ('"b*h*bq"', '"b*h*bq*n"')),
    "grid-of-a-number": ("causal", "an extent is 1 or a product of names of sizes", ('"b*h*bq"', "3")),
    "grid-of-no-size": ("causal", "an extent is 1 or a product of names of sizes", ('"b*h*bq"', '"b*h*nq"')),
    "grid-of-a-sum": ("causal", "an extent is 1 or a product of names of sizes", ('"b*h*bq"', '"b*h+bq"')),
    "grid-with-blanks": ("causal", "an extent is 1 or a product of names of sizes", ('"b*h*bq"', '"b * h * bq"')),
    "grid-of-truth": ("causal", "strings, integers and tuples stand in a header", ('("b*h*bq", 1, 1)', '("b*h*bq", True, 1)')),
    "grid-of-two": ("causal", "the header says another grid, block, index dtype or kind of data", ('("b*h*bq", 1, 1)', '("b*h*bq", 1)')),
    "block-exchanged": ("causal", "each index to one thread is due", ('("tx", "ty", 1)', '("ty", "tx", 1)')),
    "block-of-a-row": ("causal", "cuda.blockIdx.x is due", ('("tx", "ty", 1)', '("tx", 1, 1)')),
    "block-deep": ("causal", "the header says another grid, block, index dtype or kind of data", ('("tx", "ty", 1)', '("tx", "ty", 2)')),
    "block-of-numbers": ("causal", "the axes of a block are sizes, and so are constants", ('("tx", "ty", 1)', "(16, 16, 1)")),
    "block-of-products": ("causal", "the axes of a block are sizes, and so are constants", ('("tx", "ty", 1)', '("tx*rc", "ty", 1)')),
    "block-of-an-input": ("causal", "the axes of a block are sizes, and so are constants", ('("tx", "ty", 1)', '("q", "ty", 1)')),
    "index-of-32-bits": ("causal", "the header says another grid, block, index dtype or kind of data", ('"int64"', '"int32"')),
    "constants-of-no-size": ("causal", "the axes of a block are sizes, and so are constants", ('constants=("dk",', 'constants=("q",')),
    "constants-twice": ("causal", "the axes of a block are sizes, and so are constants", ('constants=("dk",', 'constants=("ri",')),
    "constants-as-a-list": ("column", "strings, integers and tuples stand in a header", ('("tx",), index', '["tx"], index')),
    "makes-missing": ("causal", "one decorator, launch(grid=, block=, constants=, index=, makes=), is d", (", makes=()", "")),
    "one-more-keyword": ("causal", "one decorator, launch(grid=, block=, constants=, index=, makes=), is d", (", makes=()", ", makes=(), fastmath=True")),
    "keywords-in-another-order": ("causal", "one decorator, launch(grid=, block=, constants=, index=, makes=), is d", ('index="int64", makes=()', 'makes=(), index="int64"')),
    "positional": ("causal", "one decorator, launch(grid=, block=, constants=, index=, makes=), is d", ('grid=("b*h*bq", 1, 1)', '("b*h*bq", 1, 1)')),
    "another-decorator": ("causal", "one decorator, launch(grid=, block=, constants=, index=, makes=), is d", ("@launch(", "@fmax(")),
    "two-decorators": ("causal", "one decorator, launch(grid=, block=, constants=, index=, makes=), is d", ("def kernel", "@cuda\ndef kernel")),
    "no-decorator": ("column", "one decorator, launch(grid=, block=, constants=, index=, makes=), is d", ('@launch(grid=("n", 1, 1), block=("tx", 1, 1), constants=("tx",), index="int64", makes=())\n', "")),
    "kernel-makes-something": ("column", "a launch makes nothing, or m, l and o of states", ("makes=()", 'makes=(("a", "n"),)')),
    "kernel-makes-states": ("column", "the last launch is kernel, and makes nothing", ("makes=()", 'makes=(("a", "n"), ("a1", "n"), ("a2", "n", "tx"))')),
    "makes-a-number": ("split", "a launch makes nothing, or m, l and o of states", ('("m84", "bp"', '(84, "bp"')),
    "makes-a-name-alone": ("split", "m84 is made with other extents", ('("m84", "bp", "b", "h", "n"), ("l85"', '("m84",), ("l85"')),
    "makes-two": ("split", "a launch makes nothing, or m, l and o of states", ('("m84", "bp", "b", "h", "n"), ("l85"', '("l85"')),
    "makes-no-tuples": ("split", "a launch makes nothing, or m, l and o of states", ('("m84", "bp", "b", "h", "n"), ("l85"', '"m84", ("l85"')),
    "makes-a-keyword": ("split", "not Python", ("m84", "lambda")),
    "makes-no-name": ("split", "a name is not one that can be bound", ('(("m84"', '(("m 84"')),
    "makes-other-extents": ("split", "m84 is made with other extents", ('("m84", "bp", "b", "h", "n")', '("m84", "bp", "b", "h", "m")')),
    "makes-extents-in-another-order": ("split", "l85 is made with other extents", ('("l85", "bp", "b", "h", "n")', '("l85", "b", "bp", "h", "n")')),
    "makes-fewer-columns": ("split", "o86 is made with other extents", ('"n", "rc*tx")', '"n", "dv")')),
    "makes-columns-turned": ("split", "o86 is made with other extents", ('"n", "rc*tx")', '"n", "tx*rc")')),
    "makes-an-input": ("split", "not Python", ("l85", "k")),
    "makes-out": ("split", "not Python", ("m84", "out")),
    "makes-a-known-name": ("split", "a name is not one that can be bound", ("m84", "exp")),
    "parameters-exchanged": ("causal", "the parameters differ from those due", ("(out, q, k,", "(out, k, q,")),
    "a-constant-as-parameter": ("causal", "the parameters differ from those due", ("bq, bk):", "bq, bk, ri):")),
    "a-parameter-missing": ("causal", "the parameters differ from those due", (", bq, bk):", ", bq):")),
    "a-default": ("causal", "the parameters differ from those due", ("bq, bk):", "bq, bk=1):")),
    "an-annotation": ("causal", "the parameters differ from those due", ("(out, q,", "(out: exp, q,")),
    "a-result": ("causal", "the parameters differ", ("bk):", "bk) -> real:")),
    "made-in-another-order": ("split", "the parameters differ from those due", ("def kernel(out, m84, l85,", "def kernel(out, l85, m84,")),
    "made-not-passed": ("split", "the parameters differ from those due", ("def kernel(out, m84, l85, o86,", "def kernel(out,")),
    "kernel-by-another-name": ("causal", "the last launch is kernel, and makes nothing", ("def kernel(", "def kernels(")),
    "launch-called-as-a-size": ("split", "two things have one name", ("def partial87(", "def rj(")),
    "launch-called-as-an-input": ("split", "two things have one name", ("def partial87(", "def q(")),
    "launch-called-as-an-instruction": ("split", "a name is not one that can be bound", ("def partial87(", "def exp(")),
    "launch-called-kernel": ("split", "the last launch is kernel, and makes nothing", ("def partial87(", "def kernel(")),
    "asynchronous": ("causal", "a launch is due", ("def kernel(", "async def kernel(")),
    "block-of-four": ("causal", "the header says another grid, block, index dtype or kind of data", ('("tx", "ty", 1)', '("tx", "ty", 1, 1)')),
    "block-of-two": ("column", "the header says another grid, block, index dtype or kind of data", ('("tx", 1, 1)', '("tx", 1)')),
}  # fmt: skip

# views lie side by side, registers are of sizes
ALLOCATION: Rows = {
    "view-from-0": ("causal", "the view begins at p1", ("view(pool, p1, p2,", "view(pool, 0, p2,")),
    "view-not-from-0": ("causal", "the view begins at 0", ("view(pool, 0, p1,", "view(pool, p1, p1,")),
    "view-of-another-stop": ("causal", "a view of pool up to p2, as long as its two axes, is due", ("view(pool, p1, p2,", "view(pool, p1, p1,")),
    "view-of-another-pool": ("causal", "a view of pool up to p2, as long as its two axes, is due", ("view(pool, p1, p2,", "view(x5, p1, p2,")),
    "view-longer": ("causal", "a view of pool up to p2, as long as its two axes, is due", ("p2 = p1 + dk * (rj * tx + 1)", "p2 = p1 + dk * (rj * tx)")),
    "view-of-another-shape": ("causal", "a view of pool up to p2, as long as its two axes, is due", ("p2, (dk, rj * tx + 1))", "p2, (rj * tx + 1, dk))")),
    "view-subtracted": ("causal", "p1 + its length is due", ("p2 = p1 + dk", "p2 = p1 - dk")),
    "view-over-another": ("causal", "p2 + its length is due", ("p3 = p2 + rj", "p3 = p1 + rj")),
    "view-of-one-axis": ("small", "a view of pool up to p1, as long as its two axes, is due", ("p1 = dk * (ri * ty + 1)\n    s1 = view(pool, 0, p1, (dk, ri * ty + 1))", "p1 = dk * (ri * ty + 1)\n    s1 = view(pool, 0, p1, (dk * (ri * ty + 1),))")),
    "view-of-a-real": ("causal", "scale is no index here", ("p1 = dk * (ri * ty + 1)\n    x5 = view(pool, 0, p1, (dk, ri * ty + 1))", "p1 = scale * (ri * ty + 1)\n    x5 = view(pool, 0, p1, (scale, ri * ty + 1))")),
    "view-with-a-keyword": ("causal", "a view of pool up to p2, as long as its two axes, is due", ("view(pool, p1, p2, (dk, rj * tx + 1))", "view(pool, p1, stop=p2, shape=(dk, rj * tx + 1))")),
    "stop-as-an-index": ("causal", "p1 is no index here", ("for k31 in span(dk)", "for k31 in span(p1)")),
    "pool-as-an-array": ("causal", "pool[k44] is no value here", ("fmax(m41[e45], x36[k44, r46])", "fmax(m41[e45], pool[k44])")),
    "pool-twice": ("causal", "cuda.threadIdx.x is due", ("    p2 = p1 +", "    pool2 = cuda.shared.array(0, real)\n    p2 = p1 +")),
    "pool-of-a-length": ("causal", "cuda.threadIdx.x is due", ("cuda.shared.array(0, real)", "cuda.shared.array(9000, real)")),
    "pool-of-another-type": ("causal", "cuda.threadIdx.x is due", ("cuda.shared.array(0, real)", "cuda.shared.array(0, exp)")),
    "no-pool": ("causal", "cuda.threadIdx.x is due", ("    pool = cuda.shared.array(0, real)\n", "")),
    "registers-of-a-number": ("causal", "the extents of registers are sizes", ("cuda.local.array(ri, real)", "cuda.local.array(4, real)")),
    "registers-of-a-product": ("causal", "the extents of registers are sizes", ("cuda.local.array(ri, real)", "cuda.local.array(ri * 1, real)")),
    "registers-of-three-axes": ("causal", "registers have one or two axes", ("cuda.local.array((ri, rc), real)", "cuda.local.array((ri, rc, rc), real)")),
    "registers-of-no-axis": ("causal", "registers have one or two axes", ("cuda.local.array(ri, real)", "cuda.local.array((), real)")),
    "registers-of-another-type": ("causal", "registers are cuda.local.array(extents, real)", ("cuda.local.array(ri, real)", "cuda.local.array(ri, exp)")),
    "registers-without-type": ("causal", "registers are cuda.local.array(extents, real)", ("cuda.local.array(ri, real)", "cuda.local.array(ri)")),
    "registers-of-nothing": ("causal", "registers are cuda.local.array(extents, real)", ("cuda.local.array(ri, real)", "cuda.local.array()")),
    "registers-in-global-memory": ("causal", "cuda.threadIdx.x is due", ("cuda.local.array(ri, real)", "cuda.device_array(ri, real)")),
    "registers-in-a-loop": ("causal", "a loop over the registers of a row is due", ("        if k19 * (rj", "        z9 = cuda.local.array(ri, real)\n        if k19 * (rj")),
    "registers-after-places": ("causal", "cuda.blockIdx.x is due", ("    w1 = cuda", "    z9 = cuda.local.array(ri, real)\n    w1 = cuda")),
    "array-called-as-a-size": ("causal", "m is bound a second time", ("m41", "m")),
    "array-called-as-another": ("causal", "s67 is bound a second time", ("m41", "s67")),
    "memory-of-a-column": ("column", "a launch over columns writes out, and has no memory of its own", ("    t = cuda", "    z = cuda.local.array(ri, real)\n    t = cuda")),
}  # fmt: skip

# a fold is the fold that it says
FOLD: Rows = {
    "begun-by-another": ("causal", "the accumulator combined by mul with an element is due", ("s67[e68] = ZERO", "s67[e68] = ONE")),
    "not-begun": ("causal", "a loop over the registers of a row is due", ("            for e68 in span(ri):\n                r69 = e68 * ty + y\n                s67[e68] = ZERO\n", "")),
    "maximum-from-zero": ("causal", "the accumulator combined by add with an element is due", ("m41[e42] = LOWEST", "m41[e42] = ZERO")),
    "begun-under-a-guard": ("causal", "an assignment is due", ("                s67[e68] = ZERO", "                if r69 < n:\n                    s67[e68] = ZERO")),
    "let-under-a-guard": ("small", "an assignment is due", ("        g1[e6] = ", "        if r6 < n:\n            g1[e6] = ")),
    "array-under-a-guard": ("causal", "an assignment is due", ("                    x36[c40, r38] = ", "                    if c40 < m:\n                        x36[c40, r38] = ")),
    "two-guards": ("small", "a fold has one guard", ("            for e5 in span(ri):\n                r5 = e5 * ty + row\n                p3[e5] =", "            for e5 in span(ri):\n                r5 = e5 * ty + row\n                if r5 < n:\n                    p3[e5] =")),
    "guard-with-else": ("causal", "a guard without else, around all of its loop, is due", ("s67[e71] = s67[e71] + x47[k70, r72]\n", "s67[e71] = s67[e71] + x47[k70, r72]\n                    else:\n                        s67[e71] = s67[e71] + x47[k70, r72]\n")),
    "loop-with-else": ("column", "a loop over span(extent) is due", ("        q = exp(s)", "        else:\n            s = s\n        q = exp(s)")),
    "accumulator-last": ("causal", "s67 is the accumulator, and stands first", ("s67[e71] + x47[k70, r72]", "x47[k70, r72] + s67[e71]")),
    "combined-by-another": ("causal", "the accumulator combined by add with an element is due", ("s67[e71] + x47[k70, r72]", "s67[e71] - x47[k70, r72]")),
    "maximum-of-three": ("causal", "the accumulator combined by max with an element is due", ("fmax(m41[e45], x36[k44, r46])", "fmax(m41[e45], x36[k44, r46], ZERO)")),
    "maximum-reversed": ("causal", "m41 is the accumulator, and stands first", ("fmax(m41[e45], x36[k44, r46])", "fmax(x36[k44, r46], m41[e45])")),
    "accumulator-replaced": ("causal", "s67 is the accumulator, and stands first", ("s67[e71] + x47[k70, r72]", "m41[e71] + x47[k70, r72]")),
    "accumulator-of-another-row": ("causal", "s67 is the accumulator, and stands first", ("s67[e71] + x47[k70, r72]", "s67[0] + x47[k70, r72]")),
    "statement-in-the-loop": ("column", "1 statements are due, not 2", ("            if seen[k]:", "            z = x[k]\n            if seen[k]:")),
    "statement-before-the-loop": ("column", "the loop of an accumulator is due", ("        for k in", "        z = x[i]\n        for k in")),
    "two-statements-under-the-guard": ("column", "1 statements are due, not 2", ("+ x[i * dk + k] * w[c]\n", "+ x[i * dk + k] * w[c]\n                z = w[c]\n")),
    "loop-from-1": ("column", "a loop over span(extent) is due", ("span(dk)", "span(1, dk)")),
    "loop-downward": ("column", "a loop over span(extent) is due", ("span(dk)", "span(dk, 0, -1)")),
    "loop-by-range": ("column", "a loop over span(extent) is due", ("span(dk)", "range(dk)")),
    "loop-index-used-twice": ("small", "k3 is bound a second time", ("k5", "k3")),
    "loop-to-its-own-index": ("column", "k is no index here", ("span(dk)", "span(k)")),
    "fold-without-a-loop": ("column", "the loop of an accumulator is due", ("        for k in span(dk):\n            if seen[k]:\n                s = s + x[i * dk + k] * w[c]\n", "")),
    "array-without-an-element": ("small", "a2[e10, f10] is no value here", ("    for e9 in span(ri):\n        r9 = e9 * ty + row\n        for f9 in span(rc):\n            c9 = f9 * tx + tid\n            a2[e9, f9] = a1[e9, f9] / g1[e9]\n", "")),
    "another-accumulated": ("causal", "s67 is the accumulator, and stands first", ("s67[e71] = s67[e71] +", "m41[e71] = m41[e71] +")),
    "statement-after-the-guard": ("column", "a guard without else, around all of its loop, is due", ("w[c]\n", "w[c]\n            z = x[k]\n")),
    "maximum-by-another": ("causal", "the accumulator combined by max with an element is due", ("fmax(m41[e45], x36", "rescale(m41[e45], x36")),
}  # fmt: skip

# the merge of states is written out as it is meant
STATE: Rows = {
    "rescale-exchanged": ("causal", "rescale(m8[e77], t76) is due", ("a73[e77] = rescale(m8[e77], t76)", "a73[e77] = rescale(e75, t76)")),
    "rescale-to-another": ("causal", "rescale(m8[e77], t76) is due", ("rescale(m8[e77], t76)", "rescale(m8[e77], e75)")),
    "greatest-of-itself": ("causal", "fmax(m8[e77], e75) is due", ("fmax(m8[e77], e75)", "fmax(m8[e77], m8[e77])")),
    "maximum-forgotten": ("causal", "t76 is due", ("m8[e77] = t76", "m8[e77] = e75")),
    "maximum-of-another-row": ("causal", "0 is no index of such registers here", ("m8[e77] = t76", "m8[0] = t76")),
    "maximum-of-another-state": ("causal", "m8 is due", ("m8[e77] = t76", "m41[e77] = t76")),
    "maximum-before-the-factors": ("causal", "m8 is due", ("                a73[e77] = rescale(m8[e77], t76)\n                b74[e77] = rescale(e75, t76)\n                m8[e77] = t76\n", "                m8[e77] = t76\n                a73[e77] = rescale(m8[e77], t76)\n                b74[e77] = rescale(e75, t76)\n")),
    "weight-not-rescaled": ("causal", "l9 * a73 + E * b74 is due", ("l9[e77] * a73[e77] + ", "l9[e77] + ")),
    "factors-exchanged": ("causal", "other factors", ("o10[e79, e81] * a73[e79] + x62[e79, e81] * b74[e79]", "o10[e79, e81] * b74[e79] + x62[e79, e81] * a73[e79]")),
    "factor-twice": ("causal", "other factors", ("x62[e79, e81] * b74[e79]", "x62[e79, e81] * a73[e79]")),
    "factor-of-a-column": ("causal", "the row or column at hand is due", ("* a73[e79]", "* a73[e81]")),
    "sums-of-another": ("causal", "o10 * a73 + E * b74 is due", ("o10[e79, e81] = o10[e79, e81]", "x62[e79, e81] = o10[e79, e81]")),
    "sums-from-another": ("causal", "o10 * a73 + E * b74 is due", ("o10[e79, e81] * a73", "x62[e79, e81] * a73")),
    "sums-turned": ("causal", "the row or column at hand is due", ("o10[e79, e81] = o10[e79, e81]", "o10[e81, e79] = o10[e81, e79]")),
    "sums-not-merged": ("causal", "the text ends where a statement is due", ("            for e79 in span(ri):\n                r80 = e79 * ty + y\n                for e81 in span(rc):\n                    c82 = e81 * tx + x\n                    o10[e79, e81] = o10[e79, e81] * a73[e79] + x62[e79, e81] * b74[e79]\n", "")),
    "sums-of-fewer-columns": ("causal", "a loop over the registers of a column is due", ("for e81 in span(rc)", "for e81 in span(rj)")),
    "merged-twice": ("causal", "6 statements are due, not 7", ("                l9[e77] = l9[e77] * a73", "                m8[e77] = t76\n                l9[e77] = l9[e77] * a73")),
    "begun-from-one": ("causal", "1 statements are due, not 2", ("l9[e13] = ZERO", "l9[e13] = ONE")),
    "begun-from-lowest": ("causal", "a part of a state begins with ZERO", ("o10[e15, e17] = ZERO", "o10[e15, e17] = LOWEST")),
    "begun-without-columns": ("causal", "a state has all columns, or in scalars one", ("        for e17 in span(rc):\n            c18 = e17 * tx + x\n            o10[e15, e17] = ZERO", "        o10[e15] = ZERO")),
    "new-name-twice": ("causal", "e77 is bound a second time", ("e75", "e77")),
    "quotient-of-another-weight": ("split", "m101 is no weight here", ("quotient(o103, l102)", "quotient(o103, m101)")),
    "quotient-upside-down": ("split", "l102 is no state here", ("quotient(o103, l102)", "quotient(l102, o103)")),
    "quotient-of-a-value": ("column", "q is no state here", ("q * s", "quotient(q, s)")),
    "rescale-as-a-value": ("column", "rescale(q, s) is outside the grammar", ("q * s", "rescale(q, s)")),
    "quotient-of-two-states": ("states", "o and l are of two states", ("= quotient(o1, l1) -", "= quotient(o1, l2) -")),
    "merged-into-two-states": ("states", "other factors", ("l2 = l2 *", "l1 = l1 *")),
    "state-in-a-state": ("states", "m1 is no value here", ("d2 = x[i * dk + j2]", "d2 = m1")),
    "state-as-a-weight": ("states", "l1 is no value here", ("+ ONE * b2", "+ l1 * b2")),
}  # fmt: skip

# the output
STORE: Rows = {
    "address-exchanged": ("causal", "out is due, at gamma of the indices over its extents", ("out[((i2 * h + i3)", "out[((i3 * h + i2)")),
    "address-of-keys": ("causal", "out is due, at gamma of the indices over its extents", ("out[((i2 * h + i3) * n", "out[((i2 * h + i3) * m")),
    "address-of-another-width": ("causal", "out is due, at gamma of the indices over its extents", (") * dv + c86] =", ") * dk + c86] =")),
    "address-of-the-tile": ("causal", "out is due, at gamma of the indices over its extents", ("(i4 * (ri * ty) + r84)) * dv", "(i4 * (rj * tx) + r84)) * dv")),
    "address-without-the-row": ("causal", "out is due, at gamma of the indices over its extents", ("(i4 * (ri * ty) + r84)) * dv", "(i4 * (ri * ty))) * dv")),
    "address-of-a-register": ("causal", "e85 is no index here", ("+ c86] =", "+ e85] =")),
    "address-of-two-indices": ("causal", "out is due, at gamma of the indices over its extents", ("dv + c86] =", "dv, c86] =")),
    "unguarded": ("causal", "a store is guarded by r < min(t, n - i * t)", ("            if r84 < min(ri * ty, n - i4 * (ri * ty)) and c86 < dv:\n                out", "            if True:\n                out")),
    "no-guard": ("causal", "a store is guarded by the row", ("            if r84 < min(ri * ty, n - i4 * (ri * ty)) and c86 < dv:\n                out", "            out")),
    "guard-of-columns-alone": ("causal", "a store is guarded by r < min(t, n - i * t)", ("if r84 < min(ri * ty, n - i4 * (ri * ty)) and c86 < dv", "if c86 < dv")),
    "guard-exchanged": ("causal", "a store is guarded by r < min(t, n - i * t)", ("if r84 < min(ri * ty, n - i4 * (ri * ty)) and c86 < dv", "if c86 < dv and r84 < min(ri * ty, n - i4 * (ri * ty))")),
    "guard-of-all-rows": ("causal", "a store is guarded by r < min(t, n - i * t)", ("r84 < min(ri * ty, n - i4 * (ri * ty))", "r84 < min(ri * ty, n)")),
    "guard-of-another-tile": ("causal", "the rows of a tile are min(t, n - i * t), t = ri * ty, in each store", ("r84 < min(ri * ty, n - i4 * (ri * ty))", "r84 < min(ri * ty, n - i3 * (ri * ty))")),
    "guard-of-another-length": ("causal", "the rows of a tile are min(t, n - i * t), t = ri * ty, in each store", ("r84 < min(ri * ty, n - i4 * (ri * ty))", "r84 < min(rj * tx, n - i4 * (rj * tx))")),
    "guard-of-a-register": ("causal", "e83 is no index here", ("r84 < min(ri * ty, n - i4 * (ri * ty))", "e83 < min(ri * ty, n - i4 * (ri * ty))")),
    "guard-of-rows-at-most": ("causal", "r84 <= min(ri * ty, n - i4 * (ri * ty)) is no guard", ("r84 < min(", "r84 <= min(")),
    "guard-of-a-variable": ("causal", "a store is guarded by r < min(t, n - i * t)", ("r84 < min(ri * ty, n - i4 * (ri * ty))", "r84 < min(ri * ty, i3 - i4 * (ri * ty))")),
    "guard-of-a-column-number": ("causal", "e85 is no index here", ("and c86 < dv", "and e85 < dv")),
    "guard-of-a-width-by-row": ("causal", "r84 is no index here", ("and c86 < dv", "and c86 < r84")),
    "guard-by-or": ("causal", "r84 < min(ri * ty, n - i4 * (ri * ty)) or c86 < dv is no guard", ("and c86 < dv", "or c86 < dv")),
    "guard-of-three": ("causal", "beside the row, a guard says which columns there are, or that the firs", ("and c86 < dv", "and c86 < dv and c86 < m")),
    "guard-with-else-in-a-store": ("causal", "a guard without else, around all of its loop, is due", ("quotient(o10[e83, e85], l9[e83])", "quotient(o10[e83, e85], l9[e83])\n            else:\n                out[0] = ZERO")),
    "stored-by-one-thread": ("causal", "x is no index here", ("and c86 < dv", "and x < 1")),
    "stored-to-an-input": ("causal", "out is due, at gamma of the indices over its extents", ("                out[((i2", "                q[((i2")),
    "stored-twice": ("causal", "1 statements are due, not 2", ("quotient(o10[e83, e85], l9[e83])", "quotient(o10[e83, e85], l9[e83])\n                out[0] = ZERO")),
    "stored-before-the-end": ("column", "a name is due", ("        q = exp(s)", "        out[i * dv + c] = s\n        q = exp(s)")),
    "output-read": ("column", "out[0] is no value here", ("q * s", "q * out[0]")),
    "column-address": ("column", "out is due, at gamma of the indices over its extents", ("out[i * dv + c]", "out[i * dk + c]")),
    "column-address-exchanged": ("column", "out is due, at gamma of the indices over its extents", ("out[i * dv + c]", "out[c * n + i]")),
    "column-guarded": ("column", "out is due, at gamma of the indices over its extents", ("        out[i", "        if c < dv:\n            out[i")),
    "column-to-another": ("column", "out is due, at gamma of the indices over its extents", ("        out[i", "        x[i")),
    "column-not-stored": ("column", "out is due, at gamma of the indices over its extents", ("        out[i * dv + c] = q * s\n", "")),
    "rows-alone-stored": ("small", "the output has columns", ("        for f11 in span(rc):\n            c11 = f11 * tx + tid\n            if r11 < min(ri * ty, n - i * (ri * ty)) and c11 < dv:\n                out[(i * (ri * ty) + r11) * dv + c11] = t1[c11, r11] * a2[e11, f11] - t1[0, r11]", "        if r11 < min(ri * ty, n - i * (ri * ty)) and tid < 1:\n            out[i * (ri * ty) + r11] = g1[e11]")),
    "address-of-one-index-more": ("causal", "out is due, at gamma of the indices over its extents", ("dv + c86] =", "dv + c86, 0] =")),
    "guard-of-no-column": ("causal", "beside the row, a guard says which columns there are, or that the firs", ("and c86 < dv", "and i3 < dv")),
    "guard-of-the-row-as-column": ("causal", "beside the row, a guard says which columns there are, or that the firs", ("and c86 < dv", "and r84 < dv")),
}  # fmt: skip

# the states that a launch leaves
LEFT: Rows = {
    "by-all-threads": ("split", "beside the row, a guard says which columns there are, or that the firs", ("if r89 < min(ri * ty, n - i5 * (ri * ty)) and x < 1", "if r89 < min(ri * ty, n - i5 * (ri * ty))")),
    "by-two-threads": ("split", "beside the row, a guard says which columns there are, or that the firs", ("and x < 1", "and x < 2")),
    "by-a-thread-of-y": ("split", "beside the row, a guard says which columns there are, or that the firs", ("and x < 1", "and y < 1")),
    "columns-by-one-thread": ("split", "x is no index here", ("if r93 < min(ri * ty, n - i5 * (ri * ty))", "if r93 < min(ri * ty, n - i5 * (ri * ty)) and x < 1")),
    "columns-cut": ("split", "o86 is due, at gamma of the indices over its extents", ("if r93 < min(ri * ty, n - i5 * (ri * ty))", "if r93 < min(ri * ty, n - i5 * (ri * ty)) and c95 < dv")),
    "weight-as-maximum": ("split", "l10[e88] is no maximum here", ("= m9[e88]", "= l10[e88]")),
    "maximum-as-weight": ("split", "m9[e90] is no weight here", ("= l10[e90]", "= m9[e90]")),
    "a-value-as-maximum": ("split", "scale is no maximum here", ("= m9[e88]", "= scale")),
    "scaled": ("split", "l10[e90] * scale is no weight here", ("= l10[e90]", "= l10[e90] * scale")),
    "quotients": ("split", "quotient(o11[e92, e94], l10[e92]) is no state here", ("= o11[e92, e94]", "= quotient(o11[e92, e94], l10[e92])")),
    "sums-of-the-row-twice": ("split", "e92 is no index of such registers here", ("= o11[e92, e94]", "= o11[e92, e92]")),
    "in-another-array": ("split", "m84 is due, at gamma of the indices over its extents", ("            m84[((", "            l85[((")),
    "in-another-order": ("split", "m84 is due, at gamma of the indices over its extents", ("= m9[e88]", "= m9[e88] "), ("            m84[((i2", "            zz[((i2"), ("            l85[((i2", "            m84[((i2"), ("            zz[((i2", "            l85[((i2")),
    "at-another-address": ("split", "m84 is due, at gamma of the indices over its extents", ("m84[((i2 * b + i3) * h + i4) * n", "m84[((i3 * b + i2) * h + i4) * n")),
    "of-other-rows": ("split", "the rows of a tile are min(t, n - i * t), t = ri * ty, in each store", ("if r91 < min(ri * ty, n - i5", "if r91 < min(ri * ty, m - i5")),
    "of-the-wrong-tile": ("split", "the rows of a tile are min(t, n - i * t), t = ri * ty, in each store", ("if r91 < min(ri * ty, n - i5", "if r91 < min(ri * ty, n - i4")),
    "one-missing": ("split", "the text ends where a statement is due", ("    for e90 in span(ri):\n        r91 = e90 * ty + y\n        if r91 < min(ri * ty, n - i5 * (ri * ty)) and x < 1:\n            l85[((i2 * b + i3) * h + i4) * n + (i5 * (ri * ty) + r91)] = l10[e90]\n", "")),
    "after-one-more-let": ("split", "the maximum of the last let is due", ("    for e88 in span(ri):", "    for e97 in span(ri):\n        r97 = e97 * ty + y\n        z97[e97] = scale\n    for e88 in span(ri):"), ("    m9 = cuda", "    z97 = cuda.local.array(ri, real)\n    m9 = cuda")),
}  # fmt: skip

# the states that a launch finds
MADE: Rows = {
    "maximum-of-another": ("split", "the three reads are of different states", ("e107 = m84[((k104 * b + i97)", "e107 = m84[((0 * b + i97)")),
    "weight-of-another": ("split", "the three reads are of different states", ("l85[((k104 * b + i97) * h + i98)", "l85[((k104 * b + i98) * h + i97)")),
    "sums-of-another-part": ("split", "the three reads are of different states", ("o86[(((k104 * b + i97)", "o86[(((0 * b + i97)")),
    "sums-of-another-width": ("split", "the offset is not gamma of indices over the extents of o86", ("* (rc * tx) + c100]", "* dv + c100]")),
    "sums-of-no-column": ("split", "the offset is not gamma of indices over the extents of o86", (" * (rc * tx) + c100]", "]")),
    "sums-of-a-sum": ("split", "the offset is not gamma of indices over the extents of o86", ("(rc * tx) + c100]", "(rc * tx) + c100 + 0]")),
    "weight-for-maximum": ("split", "m, l and o of the states of one launch are due", ("e107 = m84[", "e107 = l85[")),
    "maximum-for-weight": ("split", "m, l and o of the states of one launch are due", ("l85[((k104", "m84[((k104")),
    "one-of-the-three": ("split", "m, l and o of the states of one launch are due", ("o86[(((k104 * b + i97) * h + i98) * n + i99) * (rc * tx) + c100]", "scale")),
    "a-maximum-alone": ("split", "o86[(((k104 * b + i97) * h + i98) * n + i99) * (rc * tx) + c is no val", ("e107 = m84[((k104 * b + i97) * h + i98) * n + i99]", "e107 = scale")),
    "two-indices": ("split", "m, l and o of the states of one launch are due", ("e107 = m84[((k104 * b + i97) * h + i98) * n + i99]", "e107 = m84[(k104 * b + i97) * h + i98, i99]")),
    "as-a-value": ("split", "m84[i99] is no value here", ("= quotient(o103, l102)", "= quotient(o103, l102) * m84[i99]")),
    "as-an-input-of-its-launch": ("split", "m84[0] is no value here", ("else ZERO)\n    for e12", "else m84[0])\n    for e12")),
    "product-of-a-weight": ("split", "m, l and o of the states of one launch are due", ("+ l85[((k104 * b + i97) * h + i98) * n + i99] * b106", "+ l85[((k104 * b + i97) * h + i98) * n + i99] * scale * b106")),
}  # fmt: skip

# statements and expressions
TEXT: Rows = {
    "while": ("column", "an assignment to one name is due", ("        q = exp(s)", "        while True:\n            q = exp(s)\n        q = exp(s)")),
    "with": ("column", "an assignment to one name is due", ("        q = exp(s)", "        with s:\n            q = exp(s)")),
    "return": ("column", "an assignment is due", ("    t = cuda", "    return\n    t = cuda")),
    "return-a-value": ("column", "an assignment is due", ("    t = cuda", "    return t\n    t = cuda")),
    "pass": ("column", "an assignment to one name is due", ("        q = exp(s)", "        pass\n        q = exp(s)")),
    "break": ("column", "1 statements are due, not 2", ("                s = s + x", "                break\n                s = s + x")),
    "global": ("column", "an assignment is due", ("    t = cuda", "    global tx\n    t = cuda")),
    "declared": ("column", "an assignment is due", ("    t = cuda", "    z: real\n    t = cuda")),
    "deleted": ("column", "an assignment to one name is due", ("        q = exp(s)", "        q = exp(s)\n        del s")),
    "added-to": ("column", "an assignment is due", ("s = s + x[i * dk + k] * w[c]", "s += x[i * dk + k] * w[c]")),
    "two-targets": ("column", "an assignment to one name is due", ("        q = exp(s)", "        q = z = exp(s)")),
    "two-at-once": ("column", "a name is due", ("        q = exp(s)", "        q, z = exp(s), s")),
    "function-inside": ("column", "an assignment is due", ("    t = cuda", "    def f():\n        pass\n    t = cuda")),
    "barrier-with-an-argument": ("column", "an assignment to one name is due", ("        q = exp(s)", "        cuda.syncthreads(1)\n        q = exp(s)")),
    "barrier-of-a-warp": ("column", "an assignment to one name is due", ("        q = exp(s)", "        cuda.syncwarp()\n        q = exp(s)")),
    "barrier-as-a-value": ("column", "cuda.syncthreads() is outside the grammar", ("q = exp(s)", "q = cuda.syncthreads()")),
    "barrier-counted": ("column", "an assignment to one name is due", ("        q = exp(s)", "        cuda.syncthreads_count(c)\n        q = exp(s)")),
    "atomic": ("column", "an assignment to one name is due", ("        q = exp(s)", "        cuda.atomic.add(out, 0, s)\n        q = exp(s)")),
    "fence": ("column", "an assignment to one name is due", ("        q = exp(s)", "        cuda.threadfence()\n        q = exp(s)")),
    "power": ("column", "q ** s is outside the grammar", ("q * s", "q ** s")),
    "float": ("column", "0.5 is outside the grammar", ("q * s", "q * 0.5")),
    "bare-index": ("column", "c is no value here", ("q * s", "q * c")),
    "modulo": ("column", "c % 3 is no index expression", ("w[c]", "w[c % 3]")),
    "false": ("column", "False is no guard", ("if seen[k]", "if False")),
    "at-most": ("column", "k <= c is no guard", ("if seen[k]", "if k <= c")),
    "chained": ("column", "0 < k < c is no guard", ("if seen[k]", "if 0 < k < c")),
    "or": ("column", "seen[k] or seen[c] is no guard", ("if seen[k]", "if seen[k] or seen[c]")),
    "lambda": ("column", "(lambda: q)() is outside the grammar", ("q * s", "(lambda: q)()")),
    "walrus": ("column", "(z := q) is outside the grammar", ("q * s", "(z := q)")),
    "attribute": ("column", "q.real is outside the grammar", ("q * s", "q.real")),
    "slice": ("column", "c: is no index expression", ("w[c]", "w[c:]")),
    "keyword": ("column", "exp(x=s) is outside the grammar", ("exp(s)", "exp(x=s)")),
    "code-after": ("column", "the last launch is kernel, and makes nothing", ("q * s\n", "q * s\n\n\nspan = range\n")),
    "two-kernels": ("column", "the last launch is kernel, and makes nothing", ("q * s\n", "q * s\n\n\ndef f():\n    pass\n")),
}  # fmt: skip

GROUPS = {
    "memory": MEMORY, "iteration": ITERATION, "row": ROW, "columns": COLUMNS, "deal": DEAL, "place": PLACE, "header": HEADER,
    "allocation": ALLOCATION, "fold": FOLD, "state": STATE, "store": STORE, "left": LEFT, "made": MADE, "text": TEXT,
}  # fmt: skip


def edited(sample: str, *edits: tuple[str, str]) -> str:
    """The sample with the first occurrence of each text replaced; all of them, if it is a name."""
    text = SAMPLES[sample].text
    for old, new in edits:
        assert old in text, old
        text = re.sub(rf"\b{old}\b", new, text) if old.isidentifier() else text.replace(old, new, 1)
    assert text != SAMPLES[sample].text
    return text


@pytest.mark.parametrize(("group", "name"), [(g, name) for g, rows in GROUPS.items() for name in rows])
def test_a_wrong_text_is_refused(group: str, name: str) -> None:
    sample, why, *edits = GROUPS[group][name]
    with pytest.raises(CertificateInvalid, match=re.escape(why)):
        read(SAMPLES[sample], edited(sample, *edits))


# In the grammar, but another term.
OTHER: Rows = {
    "guard-at-most": ("causal", ("+ k44 < i4 * (ri * ty) + r46 + 1", "+ k44 < i4 * (ri * ty) + r46")),
    "guard-dropped": ("causal", ("                    if k19 * (rj * tx) + k70 < i4 * (ri * ty) + r72 + 1:\n                        s67", "                    s67")),
    "guard-around-the-nest": ("small", ("        for e3 in span(ri):\n            r3 = e3 * ty + row\n            if not (k3 < 1) and seen[k3]:\n                m1[e3] = fmax(m1[e3], s1[k3, r3])", "        if not (k3 < 2) and seen[k3]:\n            for e3 in span(ri):\n                r3 = e3 * ty + row\n                m1[e3] = fmax(m1[e3], s1[k3, r3])")),
    "block-guard-dropped": ("causal", ("if k19 * (rj * tx) < i4 * (ri * ty) + ri * ty:", "if True:")),
    "keys-of-a-whole-tile": ("causal", ("k44 in span(min(rj * tx, m - k19 * (rj * tx)))", "k44 in span(rj * tx)")),
    "tiles-one-less": ("causal", ("k19 in span(bk)", "k19 in span(bk - 1)")),
    "padding-of-one": ("causal", ("c22 < min(rj * tx, m - k19 * (rj * tx)) else ZERO", "c22 < min(rj * tx, m - k19 * (rj * tx)) else ONE")),
    "staged-of-another-head": ("causal", ("(k[((i2 * h + i3) * m", "(k[((i3 * h + i2) * m")),
    "staged-turned": ("causal", ("x23[c24, c25] = ", "x23[c25, c24] = ")),
    "staged-read-turned": ("causal", ("x20[k31, c35]", "x20[c35, k31]")),
    "score-for-weight": ("causal", ("x47[k57, r59] * x23", "x36[k57, r59] * x23")),
    "product-exchanged": ("causal", ("x47[k57, r59] * x23[k57, c61]", "x23[k57, c61] * x47[k57, r59]")),
    "fewer-columns": ("causal", ("and c86 < dv", "and c86 < dk"), ("* dv + c86] =", "* dk + c86] =")),
    "all-columns": ("causal", ("            if r84 < min(ri * ty, n - i4 * (ri * ty)) and c86 < dv", "            if r84 < min(ri * ty, n - i4 * (ri * ty))"), ("* dv + c86] =", "* (rc * tx) + c86] =")),
    "of-other-rows": ("causal", ("r84 < min(ri * ty, n - i4", "r84 < min(ri * ty, m - i4"), ("out[((i2 * h + i3) * n", "out[((i2 * h + i3) * m")),
    "chunks-one-less": ("split", ("for k104 in span(bp)", "for k104 in span(bp - 1)")),
    "states-exchanged": ("split", ("e107 = m84[((k104 * b + i97) * h + i98)", "e107 = m84[((k104 * b + i98) * h + i97)"), ("l85[((k104 * b + i97) * h + i98)", "l85[((k104 * b + i98) * h + i97)"), ("o86[(((k104 * b + i97) * h + i98)", "o86[(((k104 * b + i98) * h + i97)")),
    "column-0-of-a-state": ("split", ("(rc * tx) + c100]", "(rc * tx) + 0]")),
    "start-of-a-row": ("small", ("t1[0, r11]", "t1[1, r11]")),
    "row-of-the-tile": ("small", ("real(r6)", "real(i * (ri * ty) + r6)")),
    "rounding": ("small", ("real(-3 / 4)", "real(-3 / 5)")),
    "columns-of-another": ("column", ("span(t, dv, tx)", "span(t, dk, tx)"), ("out[i * dv", "out[i * dk")),
    "grid-of-another": ("column", ('grid=("n"', 'grid=("bq"')),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_another_text_reads_to_another_term(name: str) -> None:
    sample, *edits = OTHER[name]
    assert read(SAMPLES[sample], edited(sample, *edits)).term is not SAMPLES[sample].term


def test_a_launch_over_columns_leaves_no_states() -> None:
    s = SAMPLES["column"]
    made = '(("a", "n"), ("a1", "n"), ("a2", "n", "rc*tx"))'
    first = s.text.replace("makes=()", f"makes={made}").replace("kernel(out,", "first(a, a1, a2,")
    second = s.text.replace("kernel(out,", "kernel(out, a, a1, a2,")
    assert read(s, s.text).term is s.term
    with pytest.raises(CertificateInvalid, match="a launch over columns writes out"):
        read(s, f"{first}\n\n{second}")


def test_a_refusal_names_the_line() -> None:
    text = HEAD + edited("causal", ("m41[e48]", "m41[e50]"))
    line = next(k for k, x in enumerate(text.splitlines(), 1) if "m41[e50]" in x)
    s = SAMPLES["causal"]
    with pytest.raises(CertificateInvalid, match=f"line {line}:"):
        read_kernel(text.encode(), s.inputs, s.sizes)


@pytest.mark.parametrize("name", SAMPLES)
def test_launches_in_another_order_are_refused(name: str) -> None:
    s = SAMPLES[name]
    launches = s.text.split("\n\n\n")
    for wrong in (["", *launches][:-1], [*launches, launches[-1]], [*launches[::-1], launches[0]]):
        with pytest.raises(MoaproofError):
            read(s, "\n\n\n".join(wrong))


@pytest.mark.parametrize(
    "line", ["from moaproof.instructions.cuda_float16 import", "from numba import", "import numba"]
)
def test_another_import_is_refused(line: str) -> None:
    s = SAMPLES["column"]
    text = (HEAD + s.text).replace("from moaproof.instructions.cuda_float64 import", line)
    with pytest.raises(CertificateInvalid):
        read_kernel(text.encode(), s.inputs, s.sizes)


@pytest.mark.parametrize("name", ["lambda", "span", "view", "cuda", "out", "min", "n", "kernel", "t", "__debug__"])
def test_an_input_whose_name_is_taken_is_refused(name: str) -> None:
    s = SAMPLES["column"]
    inputs = [type(t)(t.op, (name, t.data[1]), t.args) if t.data[0] == "x" else t for t in s.inputs]
    with pytest.raises(MoaproofError):
        read_kernel((HEAD + re.sub(r"\bx\b", name, s.text)).encode(), inputs, s.sizes)


# --- any change of one token ---------------------------------------------------------------------------------


def tokens_of(text: str) -> list[tokenize.TokenInfo]:
    kinds = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP)
    return [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type in kinds]


def edits(text: str, count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Texts with one token replaced by another of its kind, a number by its successor; the line and what stood there."""
    rng = random.Random(seed)
    tokens = tokens_of(text)
    pools = {kind: sorted({t.string for t in tokens if t.type == kind}) for kind in {t.type for t in tokens}}
    lines = text.splitlines(keepends=True)
    for t in rng.sample(tokens, min(count, len(tokens))):
        pool = [str(int(t.string) + 1)] if t.type == tokenize.NUMBER else pools[t.type]
        new = rng.choice([x for x in pool if x != t.string])
        (row, start), (_, end) = t.start, t.end
        line = lines[row - 1]
        yield "".join([*lines[: row - 1], line[:start] + new + line[end:], *lines[row:]]), line, t.string


@pytest.mark.parametrize("name", SAMPLES)
def test_no_edit_of_a_token_reads_to_the_same_kernel(name: str) -> None:
    """But of a name that occurs nowhere else, and of the extents of registers, which are the audit's."""
    s = SAMPLES[name]
    strings = [t.string for t in tokens_of(s.text)]
    refused = 0
    for changed, line, old in edits(s.text, 300, seed=5):
        try:
            reading = read(s, changed)
        except (CertificateInvalid, IllFormed):
            refused += 1
        else:
            harmless = strings.count(old) == 1 or "cuda.local.array" in line
            assert reading.term is not s.term or harmless, changed
    assert refused > 0.8 * min(300, len(strings))
