"""Inputs that are small to send and large to read.  Run as a program: one JSON line a bomb, then the peak of memory.

The limits are of work: address space, and the processor time of each bomb.  They are set here, in a process of its
own; the parent only reads what comes out.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a program: the tests' own modules are not installed

from moaproof.rewrite_rules import lookup

from moaproof.errors import MoaproofError
from moaproof.kernel.bits import Deciders
from moaproof.kernel.certificate import MAX_BYTES, Certificate, Step, parse, sizes_of
from moaproof.kernel.checker import facts_of, replay, rounding_of
from moaproof.term import load, subterms
from tests.fuzz.damage import encoded, with_its_digest
from tests.fuzz.targets import READ_AS, TARGETS, certificate_of, committed, texts

MEMORY: Final = 3 * 2**30  # address space; a bomb that unfolds needs more than any machine has
SECONDS: Final = 20  # of processor time for one bomb, many times what is needed
PEAK: Final = 700  # megabytes resident in the end

Json = Any


def changed(**fields: Json) -> bytes:
    """A committed certificate with other fields and the digest that goes with them."""
    return encoded(with_its_digest({**json.loads(committed()["one-head-online"]), **fields}))


def terms(rows: list[Json], **fields: Json) -> bytes:
    """A certificate whose every term is the last of these nodes, or the one that a field names."""
    document = json.loads(committed()["one-head-online"])
    count = len(document["terms"]["roots"])
    return changed(terms={"nodes": rows, "roots": [len(rows) - 1] * count}, **fields)


def tower(first: Json, op: str, data: Json, levels: int, uses: int = 2) -> list[Json]:
    """Each node uses the one before it twice: 2^levels nodes when nothing is shared."""
    return [*first, *([op, data, [len(first) + k - 1] * uses] for k in range(levels))]


N: Final[Json] = ["size", "n", []]
X: Final[Json] = [N, ["in", ["x", "real"], [0]]]
MATRIX: Final[Json] = [N, ["in", ["x", "real"], [0, 0]]]
TEXT: Final = texts()["masked_online_float64.py"].decode()
HEAD: Final = TEXT[: TEXT.index("    for w1")]


def text(body: str) -> bytes:
    return (HEAD + body).encode()


def inside(head: str, levels: int, last: str) -> bytes:
    """Blocks in one another, and a statement in the innermost."""
    heads = [f"{'    ' * (k + 1)}{head.format(k)}\n" for k in range(levels)]
    return text("".join(heads) + "    " * (levels + 1) + last + "\n")


def graph(nodes: list[Json], **fields: Json) -> bytes:
    """A captured graph of operator calls over x: (n, n)."""
    rows = [{"id": k, "op": op, "args": args, "kwargs": {}, "line": 1} for k, (op, args) in enumerate(nodes)]
    inputs = [
        {"name": "x", "kind": "real", "extents": ["n", "n"]},
        {"name": "w", "kind": "bool", "extents": ["n", "n"]},
    ]
    whole = {
        "schema": "moaproof-graph-1", "function": "f", "file": "f.py", "line": 1, "source": "", "inputs": inputs,
        "equations": [], "hypotheses": [], "nodes": rows, "output": ["node", len(rows) - 1],
    }  # fmt: skip
    return encoded({**whole, **fields})


def doubling(op: str, count: int, start: str = "x") -> list[Json]:
    return [(op, [["input", start]] * 2), *((op, [["node", k]] * 2) for k in range(count))]


def nested(open_: bytes, close: bytes, times: int) -> bytes:
    return open_ * times + close * times


def hypothesis(levels: int) -> Json:
    found: Json = ["lt", ["size", "n"], ["int", 1]]
    for _ in range(levels):
        found = ["and", found, found]
    return found


DOUBLED: Final = {  # an operation, the nodes that it begins from
    "iadd": [N], "imul": [N], "imin": [N], "idiv": [N], "and": [["true", None, []]], "cat": X, "let": X,
}  # fmt: skip

CERTIFICATES: Final[dict[str, Callable[[], bytes]]] = {
    "brackets": lambda: nested(b"[", b"]", 2_000_000),
    "open brackets": lambda: b"[" * 4_000_000,
    "objects": lambda: nested(b'{"a":', b"}", 600_000),
    "digits": lambda: b"9" * 4_000_000,
    "many long integers": lambda: b"[" + b"9" * 4300 + b",9" * 4300 + b"]" + b" " * 100_000,
    "one long text": lambda: b'"' + b"a" * 4_000_000 + b'"',
    "escapes": lambda: b'"' + b"\\u0061" * 600_000 + b'"',
    "a field many times": lambda: b'{"a":1' + b',"a":1' * 600_000 + b"}",
    "many fields": lambda: json.dumps({f"k{k}": 0 for k in range(100_000)}).encode(),
    "spaces": lambda: b" " * MAX_BYTES,
    "too many bytes": lambda: b" " * (MAX_BYTES + 1),
    "long name": lambda: changed(name="a" * 3_000_000),
    "long trace": lambda: changed(trace=["a" * 1000] * 3000),
    "deep trace": lambda: changed(trace=json.loads(nested(b"[", b"]", 500))),
    "wide trace": lambda: changed(trace=[[]] * 300_000),
    "many nodes": lambda: terms([N] * 60_000),
    "equal nodes": lambda: terms([N] * 50_000),
    "many roots": lambda: changed(terms={"nodes": [N], "roots": [0] * 1_000_000}),
    "deep chain": lambda: terms([N, *(["iadd", None, [k, 0]] for k in range(40_000))]),
    "many arguments": lambda: terms([N, ["in", ["x", "real"], [0] * 200_000]]),
    "long permutation": lambda: terms([*X, ["transpose", list(range(100_000)), [1]]]),
    "long fraction": lambda: terms([["real", ["9" * 400_000, "7" * 400_000], []]]),
    "slow fraction": lambda: terms([["real", [str(7**400), str(5**500)], []] for _ in range(2000)]),
    "huge integer": lambda: terms([["int", 10**4000, []]]),
    "huge axis": lambda: terms([*X, ["reduce", ["add", 10**9], [1]]]),
    "huge lift": lambda: terms([*X, ["lift", 2**53 - 1, [1, 0, 0]]]),
    "many steps": lambda: changed(steps=json.loads(committed()["one-head-online"])["steps"] * 20),
    "huge witness": lambda: changed(witness={"n": 10**4000}),
    **{f"tower of {op}": (lambda op=op, first=first: terms(tower(first, op, None, 60)))
       for op, first in DOUBLED.items()},
    "tower of in": lambda: terms([N, *(["imul", None, [k, k]] for k in range(17)), ["in", ["x", "real"], [17] * 16]]),
    "tower of f": lambda: terms(tower([["in", ["s", "real"], []]], "f", "add", 60)),
    "tower of where": lambda: terms([["true", None, []], ["in", ["s", "real"], []],
                                     *(["where", None, [0, k + 1, k + 1]] for k in range(60))]),
    "tower of inner": lambda: terms(tower(MATRIX, "inner", ["add", "mul"], 60)),
    "tower of outer": lambda: terms(tower(X, "outer", "mul", 60)),
    "tower of pointwise": lambda: terms(tower(X, "pointwise", "add", 60)),
}  # fmt: skip

# Within the limits of the parser: what the checker does with them must stay bounded too.


def spec(rows: list[Json], after: list[Json] | None = None) -> bytes:
    """A certificate whose Spec is the last of the nodes; if there are others it is restated as the last of those."""
    first = load({"nodes": rows, "roots": [len(rows) - 1]})[0]
    last = first if after is None else load({"nodes": after, "roots": [len(after) - 1]})[0]
    inputs = dict.fromkeys(u for u in subterms(first, last) if u.op == "in")
    steps = () if last is first else (Step((), first.digest, "R", "restated", last, restated=True),)
    sizes = sorted(sizes_of([first, last, *inputs]))
    return Certificate(
        name="bomb", trace=None, spec=first, dnf=first, onf=last, inputs=tuple(inputs), hypotheses=(), tilings=(),
        witness={s: 2 + k for k, s in enumerate(sizes)}, steps=steps, rulebook="0" * 64,
    ).to_bytes()  # fmt: skip


S: Final[Json] = [["in", ["s", "real"], []]]
VECTOR: Final[Json] = [*X, ["var", 0, []]]
CHECKED: Final[dict[str, Callable[[], bytes]]] = {
    "a sum of sums": lambda: spec(tower(S, "f", "add", 14)),
    "a sum of sums, restated": lambda: spec(tower(S, "f", "add", 14), tower(S, "f", "mul", 14)),
    "powers of a sum": lambda: spec([*S, ["real", ["1", "1"], []], ["f", "add", [0, 1]],
                                     *(["f", "mul", [k + 2, k + 2]] for k in range(12))],
                                    [*S, ["real", ["1", "2"], []], ["f", "add", [0, 1]],
                                     *(["f", "mul", [k + 2, k + 2]] for k in range(12))]),
    "exponentials of exponentials": lambda: spec([*S, *(["f", "exp", [k]] for k in range(150))],
                                                 [*S, *(["f", "exp", [k]] for k in range(149))]),
    "products of matrices": lambda: spec(tower(MATRIX, "inner", ["add", "mul"], 10)),
    "products of many matrices": lambda: spec(tower(MATRIX, "inner", ["add", "mul"], 14)),
    "outer products": lambda: spec(tower(X, "outer", "mul", 3)),
    "outer products of many axes": lambda: spec(tower(X, "outer", "mul", 6)),
    "cells of cells": lambda: spec([*VECTOR, *(["omega", [1], [k + 2 if k else 1, 2]] for k in range(60))]),
    "reverses": lambda: spec([*X, *(["reverse", None, [k + 1]] for k in range(100))]),
    "rotations": lambda: spec([*X, *(["rotate", None, [k + 1, 0]] for k in range(12))]),
    "catenations": lambda: spec(tower(X, "cat", None, 5)),
    "ravels": lambda: spec([*MATRIX, *(["ravel", None, [k + 1]] for k in range(60))]),
    "lets": lambda: spec([*S, *(["let", None, [k, k]] for k in range(14))]),
    "lets that double": lambda: spec([*S, ["var", 0, []], ["f", "add", [1, 1]], ["let", None, [0, 2]],
                                      *(["let", None, [k + 3, 2]] for k in range(60))]),
    "many axes": lambda: spec([N, ["in", ["x", "real"], [0] * 16], ["transpose", [*range(1, 16), 0], [1]]]),
    "powers of an extent": lambda: spec([*tower([N], "imul", None, 12), ["in", ["x", "real"], [12]]]),
    "powers of a sum of sizes": lambda: spec([N, ["size", "m", []], ["iadd", None, [0, 1]],
                                              *(["imul", None, [k + 2, k + 2]] for k in range(5)),
                                              ["in", ["x", "real"], [7]], ["reverse", None, [8]]]),
    "products of sums of sizes": lambda: spec([*(["size", f"n{k}", []] for k in range(12)),
                                               ["iadd", None, [0, 1]],
                                               *(["iadd", None, [10 + k, k]] for k in range(2, 12)),
                                               *(["imul", None, [22 + k, 22]] for k in range(5)),
                                               ["in", ["x", "real"], [27]], ["reverse", None, [28]]]),
    "minima": lambda: spec([N, ["size", "m", []], ["in", ["x", "real"], [0]], ["imin", None, [0, 1]],
                            *(["imin", None, [k + 3, k % 2]] for k in range(150)),
                            ["in", ["s", "real"], []], ["build", "seq", [153, 154]]]),
    "quotients": lambda: spec([N, ["size", "m", []], *S, ["idiv", None, [0, 1]],
                               *(["idiv", None, [k + 3, 1]] for k in range(40)), ["build", "seq", [43, 2]]]),
    "folds in folds": lambda: spec([N, ["true", None, []], *S, *(["fold", "add", [0, 1, k + 2]] for k in range(60))]),
    "builds in builds": lambda: spec([N, *S, *(["build", "seq", [0, k + 1]] for k in range(16))]),
    "more builds": lambda: spec([N, *S, *(["build", "seq", [0, k + 1]] for k in range(100))]),
}  # fmt: skip

KERNELS: Final[dict[str, Callable[[], bytes]]] = {
    "lets in a row": lambda: text("".join(f"    x{k} = scale\n" for k in range(20_000))),
    "lets that double": lambda: text("    x0 = scale\n" + "".join(f"    x{k + 1} = x{k} * x{k}\n" for k in range(60))
                                     + "    out[0] = x60\n"),
    "scratch in a row": lambda: text("".join(f"    x{k} = empty(n, real)\n" for k in range(20_000))),
    "loops in a row": lambda: text("".join(f"    for c{k} in range(n):\n        x[c{k}] = ONE\n" for k in range(8000))),
    "loops in loops": lambda: inside("for c{} in range(n):", 60, "out[0] = ZERO"),
    "ninety ifs": lambda: inside("if True:", 90, "out[0] = ZERO"),
    "a long sum": lambda: text("    out[0] = scale" + " + scale" * 50_000 + "\n"),
    "a deep sum": lambda: text("    out[0] = " + "(scale + " * 80 + "scale" + ")" * 80 + "\n"),
    "powers of a sum": lambda: text("    out[0] = q[" + " * ".join(["(n + m + dk + dv)"] * 60) + "]\n"),
    "sums of powers": lambda: text("    out[0] = q[" + " * ".join(f"(n + m * {k})" for k in range(60)) + "]\n"),
    "a long integer": lambda: text("    out[0] = q[" + "9" * 900_000 + "]\n"),
    "signs": lambda: text("    out[0] = " + "-" * 900_000 + "scale\n"),
    "parentheses": lambda: text("    out[0] = " + "(" * 400_000 + "scale" + ")" * 400_000 + "\n"),
    "a chain of comparisons": lambda: text("    out[0] = (ONE if 0" + " < 0" * 20_000 + " else ZERO)\n"),
    "a long tuple": lambda: text("    x = empty((" + "n, " * 30_000 + "), real)\n"),
    "a long name": lambda: text("    " + "x" * 900_000 + " = ZERO\n"),
    "a long docstring": lambda: TEXT.replace("core: ", "core: " * 160_000, 1).encode(),
    "formatted text": lambda: text("    out[0] = f'" + "{n}" * 20_000 + "'\n"),
    "a long prange": lambda: text("    for w in prange(" + " * ".join(["n"] * 3000) + "):\n        out[w] = ZERO\n"),
    "loops without end": lambda: text("    for i in range(n * n * 4611686018427387904):\n        out[0] = ZERO\n"),
    "loops of loops": lambda: inside("for c{} in range(99):", 15, "x = ONE"),
    "scratch beyond memory": lambda: text("    x = empty((4611686018427387904, 4611686018427387904), real)\n"
                                          "    out[0] = ZERO\n"),
}  # fmt: skip

SLOW: Final = ("lets in a row", "scratch in a row", "loops in a row")  # tried on the reader alone, to save time

TRACES: Final[dict[str, Callable[[], bytes]]] = {
    **{f"tower of {op}": (lambda op=op: graph(doubling(f"aten.{op}", 60)))
       for op in ("add.Tensor", "mul.Tensor", "matmul.default", "cat.default", "maximum.default", "outer.default")},
    "tower of masks": lambda: graph(doubling("aten.logical_and.default", 500, "w")),
    "tower of choices": lambda: graph([("aten.where.self", [["input", "w"], ["input", "x"], ["input", "x"]]),
                                       *(("aten.where.self", [["input", "w"], ["node", k], ["node", k]])
                                         for k in range(60))]),
    "transpositions": lambda: graph([("aten.mT.default", [["input", "x"]]),
                                     *(("aten.mT.default", [["node", k]]) for k in range(500))]),
    "exponentials": lambda: graph([("aten.exp.default", [["input", "x"]]),
                                   *(("aten.exp.default", [["node", k]]) for k in range(500))]),
    "softmaxes": lambda: graph([("aten.softmax.int", [["input", "x"], ["int", -1]]),
                                *(("aten.softmax.int", [["node", k], ["int", -1]]) for k in range(100))]),
    "many nodes": lambda: graph([("aten.exp.default", [["input", "x"]])] * 20_000),
    "hypotheses": lambda: graph([("aten.exp.default", [["input", "x"]])], hypotheses=[hypothesis(4)] * 64),
    "deep hypotheses": lambda: graph([("aten.exp.default", [["input", "x"]])], hypotheses=[hypothesis(16)]),
    "a long source": lambda: graph([("aten.exp.default", [["input", "x"]])], source="x" * 3_000_000),
    "brackets": lambda: nested(b"[", b"]", 500),
    "factors": lambda: graph([("aten.exp.default", [["input", "x"]])],
                             equations=[{"size": "n", "factors": [2**52] * 8}]),
}  # fmt: skip

DEEP: Final = json.loads(nested(b"[", b"]", 50))
RULES: Final[dict[str, Callable[[], bytes]]] = {
    f"{rule} {name}": (lambda rule=rule, params=params: json.dumps([rule, params]).encode())
    for rule in ("psi-transpose", "psi-reshape", "unfold-omega", "split-fold", "no-such-law")
    for name, params in {
        "of a huge rank": [10**9], "of a rank below zero": [-5], "of many": [1] * 8, "deep": [DEEP], "of true": [True],
        "of long lists": [[16] * 10_000], "of a long name": ["x" * 10**4], "of lists of ranks": [[16] * 16, [16] * 16],
    }.items()
}  # fmt: skip

BOMBS: Final = {
    "certificate": CERTIFICATES, "kernel": KERNELS, "run": {k: KERNELS[k] for k in KERNELS if k not in SLOW},
    "trace": TRACES, "rulebook": RULES,
    "manifest": {k: CERTIFICATES[k] for k in ("brackets", "digits", "many fields", "a field many times", "escapes")},
    "checker": CHECKED,
}  # fmt: skip


class TooLong(Exception):
    """The processor time of a bomb is used up."""


@contextmanager
def limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def checker(data: bytes) -> None:
    """With the error bound that it has, so that what is harmless is accepted."""
    c = parse(data)
    bound = rounding_of(c, facts_of(c), Deciders())
    replay(replace(c, rounding=bound.document() if bound else None), lookup)


def explode(target: str, make: Callable[[], bytes]) -> str:
    """``refused``, ``accepted``, or what went wrong."""
    data = make()
    act = {**TARGETS, "checker": checker}[target]
    try:
        with limited():
            act(data)
    except MoaproofError as e:
        return "refused" if str(e) else "refused without a word"
    except (Exception, TooLong) as e:  # noqa: BLE001  all of them are findings, and are printed
        return f"{type(e).__name__}: {e!s:.200}"
    return "accepted"


def main(names: list[str]) -> None:
    certificate_of(READ_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for target in names or BOMBS:
        for name, make in BOMBS[target].items():
            sys.stdout.write(json.dumps([target, name, explode(target, make)]) + "\n")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) // 1024  # ru_maxrss would remember the process that started this one
    sys.stdout.write(json.dumps(["peak", "megabytes", peak]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
