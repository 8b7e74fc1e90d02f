"""The reader: what was printed reads back to the same object; what was changed is refused or reads to another term."""

from __future__ import annotations

import io
import random
import tokenize

import pytest

from moaproof.assess.replay import cases_of, exact_replay, replay
from moaproof.codegen import print_kernel
from moaproof.errors import CertificateInvalid, IllFormed, MoaproofError, Refuted
from moaproof.kernel.certificate import Certificate, Tiling
from moaproof.reader import Reading, read_kernel
from moaproof.term import Le, Mul, Size
from tests.codegen.onfs import CASES, CORE, VARIANTS, Kernel


def text_of(k: Kernel, dtype: str = "float64") -> str:
    return print_kernel(k.onf, k.inputs, k.sizes, "cpu", dtype, {"core": CORE, "name": "test"})


def read(k: Kernel, text: str) -> Reading:
    return read_kernel(text.encode(), k.inputs, k.sizes)


ONLINE, CAUSAL, MASKED, ROWS = (VARIANTS[x] for x in ("online", "online-causal", "online-masked", "rows-masked"))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_printed_reads_back(name: str, dtype: str) -> None:
    k = VARIANTS[name]
    reading = read(k, text_of(k, dtype))
    assert reading.term is k.onf
    assert (reading.dtype, reading.core_digest, reading.name) == (dtype, CORE, "kernel")


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_printed_is_the_spec_exactly(name: str) -> None:
    k = VARIANTS[name]
    report = replay(text_of(k).encode(), k.spec, k.inputs, CASES, seed=1)
    assert report.elements > 20


# --- explicit mutants: (kernel, old, new); each is refused, or reads to another term ---------------------

LANES = "                    for r6 in range(lanes5):\n"
SEEN = "                        if not (i4 * tq + r6 < k8) and mask[(i4 * tq + r6) * m + k8]:\n"
LEFT = "                            s9[r6] = s9[r6] + q[((i2 * h + i3) * n + (i4 * tq + r6)) * dk + k10] * "
RIGHT = "k[((i2 * h + i3) * m + k8) * dk + k10]"
GUARDED = f"{LANES}{SEEN}{LEFT}{RIGHT}"
GUARDED_EARLY = f"                    y99 = {RIGHT}\n{LANES}{SEEN}{LEFT}y99"
FACTORS = ("a13[r6] = rescale(m9[r6], t16)", "b14[r6] = rescale(e15, t16)")
BREAK = "\n                    "

MUTANTS = {
    "guard-le": (CAUSAL, "if not (i4 * tq + r6 < k17 * tk + k32)", "if not (i4 * tq + r6 <= k17 * tk + k32)"),
    "guard-off-by-one": (CAUSAL, "r6 < k17 * tk + k32)", "r6 < k17 * tk + k32 + 1)"),
    "guard-swapped": (CAUSAL, "not (i4 * tq + r6 < k17 * tk + k32)", "not (k17 * tk + k32 < i4 * tq + r6)"),
    "block-guard-dropped": (CAUSAL, "if k17 * tk < i4 * tq + tq:", "if True:"),
    "index-swapped": (ONLINE, "x7[k29, r6] * y30", "x7[r6, k29] * y30"),
    "copy-repeated": (ONLINE, "x7[k23, r6] * y27", "x7[k22, r6] * y26"),
    "copy-crossed": (ONLINE, "x7[k23, r6] * y27", "x7[k23, r6] * y26"),
    "copy-misplaced": (ONLINE, "k23 = k21 + 2", "k23 = k21 + 1"),
    "four-overruns": (ONLINE, "range(0, dk - 3, 4)", "range(0, dk, 4)"),
    "four-by-three": (ONLINE, "range(0, dk - 3, 4)", "range(0, dk - 3, 3)"),
    "rest-repeats": (ONLINE, "range(max(0, dk - dk % 4), dk)", "range(0, dk)"),
    "rest-short": (ONLINE, "range(max(0, dk - dk % 4), dk)", "range(max(0, dk - dk % 4), dv)"),
    "rescale-dropped": (ONLINE, "l10[r6] * a13[r6] + ", "l10[r6] + "),
    "rescale-swapped": (ONLINE, "a13[r6] = rescale(m9[r6], t16)", "a13[r6] = rescale(e15, t16)"),
    "old-max": (ONLINE, "rescale(m9[r6], t16)", "rescale(m9[r6], e15)"),
    "max-forgotten": (ONLINE, "m9[r6] = t16", "m9[r6] = e15"),
    "max-before-factors": (
        ONLINE,
        BREAK.join([*FACTORS, "m9[r6] = t16"]),
        BREAK.join(["m9[r6] = t16", *FACTORS]),
    ),
    "missing-init": (ONLINE, "            for r6 in range(lanes5):\n                l10[r6] = ZERO\n", ""),
    "wrong-init": (ONLINE, "l10[r6] = ZERO", "l10[r6] = ONE"),
    "max-from-zero": (ONLINE, "m31[r6] = LOWEST", "m31[r6] = ZERO"),
    "accumulator-last": (ONLINE, "s35[r6] = s35[r6] + x33[k40, r6]", "s35[r6] = x33[k40, r6] + s35[r6]"),
    "another-accumulator": (ONLINE, "s35[r6] = s35[r6] + x33[k40, r6]", "s20[r6] = s35[r6] + x33[k40, r6]"),
    "extra-statement": (ONLINE, "            for c56 in", "            s20[0] = ZERO\n            for c56 in"),
    "fastmath": (ONLINE, "@njit(parallel=True,", "@njit(fastmath=True, parallel=True,"),
    "other-error-model": (ONLINE, 'error_model="numpy"', 'error_model="python"'),
    "shadowed-input": (ONLINE, "for c8 in range(dk):", "for k in range(dk):"),
    "shadowed-import": (ONLINE, "e15", "exp"),
    "bound-twice": (ONLINE, "for c12 in range(dv):", "for c8 in range(dv):"),
    "negative-index": (ONLINE, "s35[r6] + x33[k40, r6]", "s35[r6] + x33[-1, r6]"),
    "wrong-address": (ONLINE, "out[((i2 * h + i3) * n", "out[((i3 * h + i2) * n"),
    "address-of-keys": (ONLINE, "out[((i2 * h + i3) * n", "out[((i2 * h + i3) * m"),
    "second-store": (ONLINE, "quotient(o11[c56, r6], l10[r6])\n", "quotient(o11[c56, r6], l10[r6])\n                    out[0] = ZERO\n"),  # noqa: E501
    "prange-inside": (ONLINE, "for c56 in range(dv)", "for c56 in prange(dv)"),
    "range-outside": (ONLINE, "in prange(", "in range("),
    "unknown-import": (ONLINE, "from moaproof.instructions.cpu_float64", "from moaproof.instructions.cpu_float16"),
    "import-renamed": (ONLINE, "exp, fmax", "exp as fmax, fmax as exp"),
    "more-imported": (ONLINE, "import LOWEST", "import CLOSE, LOWEST"),
    "decoded-wrong": (ONLINE, "w1 // bq % h", "w1 // bq % b"),
    "decoded-short": (ONLINE, "w1 // (h * bq)", "w1 // bq"),
    "prange-short": (ONLINE, "prange(b * h * bq)", "prange(b * bq * h)"),
    "lanes-unchecked": (ONLINE, "if 0 < lanes5:", "if 0 < tq:"),
    "lanes-whole": (ONLINE, "min(tq, n - i4 * tq)", "min(tq, n)"),
    "lanes-overrun": (ONLINE, "for r6 in range(lanes5):\n                    x7", "for r6 in range(tq):\n                    x7"),  # noqa: E501
    "scratch-short": (ONLINE, "x7 = empty((dk, lanes5), real)", "x7 = empty((dv, lanes5), real)"),
    "scratch-below-zero": (ONLINE, "empty((max(0, min(tk, m - k17 * tk))", "empty((min(tk, m - k17 * tk)"),
    "scratch-of-other-type": (ONLINE, "x7 = empty((dk, lanes5), real)", "x7 = empty((dk, lanes5), exp)"),
    "scratch-unused": (ONLINE, "            m9 = empty", "            z9 = empty(lanes5, real)\n            m9 = empty"),  # noqa: E501
    "scratch-outside": (ONLINE, "        lanes5 = min", "        z9 = empty(dk, real)\n        lanes5 = min"),
    "filled-in-part": (ONLINE, "for c8 in range(dk)", "for c8 in range(dv)"),
    "filled-twice": (ONLINE, "s41[c42, r6] = ZERO", "o11[c42, r6] = ZERO"),
    "read-after-its-block": (ONLINE, "quotient(o11[c56, r6], l10[r6])", "quotient(s41[c56, r6], l10[r6])"),
    "quotient-of-two-states": (ONLINE, "quotient(o11[c56, r6], l10[r6])", "quotient(o11[c56, r6], s35[r6])"),
    "early-read-of-a-lane": (ONLINE, "y30 = k[((i2 * h + i3) * m + (k17 * tk + c19)) * dk + k29]", "y30 = k[r6]"),
    "early-read-unused": (ONLINE, "x7[k29, r6] * y30", "x7[k29, r6] * scale"),
    "early-read-of-scratch": (ONLINE, "y30 = k[((i2 * h + i3) * m + (k17 * tk + c19)) * dk + k29]", "y30 = x7[k29, 0]"),
    "early-read-under-guard": (ROWS, GUARDED, GUARDED_EARLY),
    "guard-not-repeated": (MASKED, "if not (i4 * tq + r6 < k17 * tk + k32) and mask", "if mask"),
    "comment": (ONLINE, "    for w1", "    # fine\n    for w1"),
    "coding-cookie": (ONLINE, '"""Kernel', '# coding: utf-7\n"""Kernel'),
    "not-ascii": (ONLINE, "Kernel test", "Kernel t\u00e9st"),
    "two-digests": (ONLINE, f"core: {CORE}", f"core: {CORE}\ncore: {CORE}"),
    "no-digest": (ONLINE, "core: ", "core "),
    "annotation": (ONLINE, "def kernel(out, q", "def kernel(out: exec, q"),
    "default": (ONLINE, "bk, tk):", "bk, tk=1):"),
    "parameters-swapped": (ONLINE, "(out, q, k, v,", "(out, k, q, v,"),
    "power": (ONLINE, "s20[r6] * scale", "s20[r6] ** scale"),
    "float-literal": (ONLINE, "s20[r6] * scale", "s20[r6] * 0.5"),
    "truth-as-integer": (ONLINE, "prange(b * h * bq)", "prange(b * h * True)"),
    "else-branch": (CAUSAL, "            for c", "            else:\n                x = ZERO\n            for c"),
    "code-after-kernel": (ONLINE, "l10[r6])\n", "l10[r6])\nprange = range\n"),
    "attribute": (ONLINE, "s20[r6] * scale", "s20[r6] * scale.real"),
    "chained-assignment": (ONLINE, "s20[r6] = ZERO", "s20[r6] = s35[r6] = ZERO"),
    "augmented": (ONLINE, "s35[r6] = s35[r6] + x33[k40, r6]", "s35[r6] += x33[k40, r6]"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_refused_or_read_to_another_term(name: str) -> None:
    k, old, new = MUTANTS[name]
    text = text_of(k)
    assert old in text, "the mutant must change the text"
    try:
        reading = read(k, text.replace(old, new, 1))
    except (CertificateInvalid, IllFormed):
        return
    assert reading.term is not k.onf


def test_a_refusal_names_the_line() -> None:
    text = text_of(ONLINE).replace("l10[r6] * a13[r6] + ", "l10[r6] + ")
    line = next(i for i, x in enumerate(text.splitlines(), 1) if "l10[r6] + " in x)
    with pytest.raises(CertificateInvalid, match=f"line {line}:"):
        read(ONLINE, text)


def edits(text: str, count: int, seed: int) -> list[str]:
    """Texts with one token replaced: a name or an operator by another, a number by its successor."""
    rng = random.Random(seed)
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type in (1, 2, 54)]
    names = sorted({t.string for t in tokens if t.type == 1})
    operators = ["+", "-", "*", "/", "//", "%", "<", "<=", "==", ",", "(", ")", "[", "]", "="]
    lines = text.splitlines(keepends=True)
    found = []
    for t in rng.sample(tokens, min(count, len(tokens))):
        pool = {1: names, 2: [str(int(t.string) + 1)] if t.type == 2 else [], 54: operators}[t.type]
        new = rng.choice([x for x in pool if x != t.string])
        (row, start), (_, end) = t.start, t.end
        line = lines[row - 1]
        found.append("".join([*lines[: row - 1], line[:start] + new + line[end:], *lines[row:]]))
    return found


@pytest.mark.parametrize("name", ["online-masked", "rows-masked", "online-in-sequence"])
def test_no_edit_of_a_token_reads_to_the_same_kernel(name: str) -> None:
    k = VARIANTS[name]
    refused = 0
    for changed in edits(text_of(k), 250, seed=3):
        try:
            reading = read(k, changed)
        except MoaproofError:
            refused += 1
        else:
            assert reading.term is not k.onf, changed
    assert refused > 150


# --- exact replay, without the reader's help -------------------------------------------------------------

ALGEBRAIC = (
    "guard-off-by-one", "guard-swapped", "copy-repeated", "copy-crossed", "copy-misplaced", "four-overruns", "four-by-three",  # noqa: E501
    "rest-repeats", "rescale-dropped", "rescale-swapped", "old-max", "max-forgotten", "max-before-factors", "missing-init",  # noqa: E501
    "another-accumulator", "negative-index", "wrong-address", "second-store", "decoded-wrong",
    "decoded-short", "lanes-whole", "filled-in-part", "quotient-of-two-states", "early-read-of-a-lane", "index-swapped",
)  # fmt: skip


@pytest.mark.parametrize("name", ALGEBRAIC)
def test_exact_replay_kills(name: str) -> None:
    k, old, new = MUTANTS[name]
    with pytest.raises(Refuted):
        replay(text_of(k).replace(old, new, 1).encode(), k.spec, k.inputs, CASES, seed=1)


def test_exact_replay_runs_nothing_but_arithmetic() -> None:
    for bad in ("scale.real", "(lambda: scale)()", "[scale for z in q]"):
        with pytest.raises(CertificateInvalid, match="is not run here"):
            replay(text_of(ONLINE).replace("* scale", f"* {bad}").encode(), ONLINE.spec, ONLINE.inputs, CASES, seed=1)


def test_exact_replay_is_blind_to_the_sign_of_the_shift_and_the_reader_is_not() -> None:
    """exp(s + M)/exp(s + M) is the same real: the algebra may not care, the digest does."""
    k = VARIANTS["rows"]
    text = text_of(k)
    flipped = text.replace(" - m", " + m")
    assert flipped != text
    assert replay(flipped.encode(), k.spec, k.inputs, CASES, seed=1).elements > 20
    assert read(k, flipped).term is not k.onf


def test_the_sizes_of_a_replay_satisfy_the_hypotheses() -> None:
    k = VARIANTS["online-grouped"]
    h, heads = Size("h"), Mul(Size("g"), Size("r"))
    certificate = Certificate(
        name="grouped",
        trace={},
        spec=k.spec,
        dnf=k.spec,
        onf=k.onf,
        inputs=k.inputs,
        hypotheses=(Le(h, heads), Le(heads, h)),
        tilings=(Tiling("n", "tq", "bq"), Tiling("m", "tk", "bk")),
        witness=dict.fromkeys(("b", "n", "m", "dk", "dv", "bq", "tq", "bk", "tk"), 2) | {"h": 4, "g": 2, "r": 2},
        steps=(),
        rulebook="",
    )
    cases = cases_of(certificate, seed=0)
    assert len(cases) == 6
    for c in cases:
        assert c["h"] == c["g"] * c["r"]
        assert c["bq"] * c["tq"] >= c["n"] > (c["bq"] - 1) * c["tq"]
        assert c["bk"] * c["tk"] >= c["m"]
    assert any(c["g"] > 1 and c["r"] > 1 for c in cases_of(certificate, seed=0) + cases_of(certificate, seed=1))
    assert exact_replay(text_of(k).encode(), certificate) > 6
    with pytest.raises(Refuted):
        exact_replay(text_of(k).replace("i3 // r", "i3 // g").encode(), certificate)
