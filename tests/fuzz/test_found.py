"""What fuzzing found, each kept as the smallest input that shows it; all of them were Python errors or took minutes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest

from moaproof.errors import CertificateInvalid, MoaproofError
from moaproof.reader import IMPORTS, read_kernel
from moaproof.term import MAX_DEPTH, In, Size, Term
from moaproof.trace import spec_of
from tests.fuzz.targets import certificate_of, texts

FRAME = f'"""Test.\n\ncore: {"0" * 64}\n"""\n\n{IMPORTS["float64"]}\n\n\n@njit(parallel=True, error_model="numpy")\n'
Q = In("q", Size("m"))


def read(body: str, inputs: Sequence[Term] = (Q,), sizes: Sequence[str] = ("n", "m")) -> Term:
    parameters = ", ".join(["out", *(t.data[0] for t in inputs), *sizes])
    return read_kernel((FRAME + f"def kernel({parameters}):\n{body}").encode(), inputs, sizes).term


def loops(levels: int) -> str:
    heads = "".join(f"{'    ' * (k + 1)}for c{k} in range(n):\n" for k in range(levels))
    return heads + "    " * (levels + 1) + "out[" + address(levels) + "] = ZERO\n"


def address(levels: int) -> str:
    """gamma of the loops over n."""
    found = "c0"
    for k in range(1, levels):
        found = f"({found}) * n + c{k}" if k > 1 else f"{found} * n + c{k}"
    return found


def test_loops_that_python_does_not_compile_are_refused() -> None:
    """Twenty blocks nest, as the compiler has it; the parser takes more."""
    assert read(loops(15)).op == "build"
    with pytest.raises(CertificateInvalid, match="too many statically nested blocks"):
        read(loops(21))


@pytest.mark.parametrize("name", ["__debug__", "def", "None", "True", "lambda", "async"])
def test_a_parameter_that_nobody_may_bind_is_refused(name: str) -> None:
    """A certificate may call an input so: it is an identifier."""
    with pytest.raises(CertificateInvalid):
        read("    out[0] = ZERO\n", (In(name),), ("n",))
    with pytest.raises(CertificateInvalid, match=r"no parameter may be called|not Python|parameters differ"):
        read_kernel((FRAME + "def kernel(out, q, n):\n    out[0] = ZERO\n").encode(), (In(name),), ("n",))


def test_names_as_deep_as_a_term_may_be() -> None:
    """Twenty thousand lets took minutes; a certificate's term is at most so deep."""
    body = "".join(f"    x{k} = q[{k}]\n" for k in range(MAX_DEPTH + 1)) + "    out[0] = x0\n"
    with pytest.raises(CertificateInvalid, match=f"more than {MAX_DEPTH} names deep"):
        read(body)
    assert read("".join(f"    x{k} = q[{k}]\n" for k in range(9)) + "    out[0] = x0\n").op == "let"


def test_scratch_without_end_is_refused() -> None:
    with pytest.raises(CertificateInvalid, match="more than 500 arrays of scratch"):
        read("".join(f"    x{k} = empty(n, real)\n" for k in range(501)) + "    out[0] = ZERO\n")


def test_braces_are_outside_the_grammar() -> None:
    """Python 3.11 reads a formatted text in time that grows with the square of its length."""
    with pytest.raises(CertificateInvalid, match="without comments, escapes and braces"):
        read("    out[0] = f'{n}'\n")


@pytest.mark.parametrize("old", ["1is 1", "0in q", "'' is ''", "1(2)"])
def test_a_text_at_which_python_would_warn_is_refused_whatever_is_switched_off(old: str) -> None:
    for action in ("ignore", "error"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)  # type: ignore[arg-type]
            with pytest.raises(CertificateInvalid):
                read(f"    out[0] = (ZERO if {old} else ONE)\n")


def test_a_text_with_any_line_missing() -> None:
    """Without the header of a loop over lanes the last units of a block were looked for before its first statement."""
    lines = texts()["masked_online_float64.py"].decode().split("\n")
    c = certificate_of("masked-online")
    assert sum(line.strip().startswith("for r6") for line in lines) > 10
    for k, line in enumerate(lines[7:], 7):
        try:
            reading = read_kernel("\n".join(lines[:k] + lines[k + 1 :]).encode(), c.inputs, c.sizes())
        except MoaproofError:
            continue
        assert not line or reading.term is not c.onf  # without its guard a fold is another one


# --- graphs --------------------------------------------------------------------------------------------


def graph(**fields: object) -> dict[str, object]:
    whole: dict[str, object] = {
        "schema": "moaproof-graph-1", "function": "f", "file": "f.py", "line": 1, "source": "", "equations": [],
        "inputs": [{"name": "x", "kind": "real", "extents": ["n"]}], "hypotheses": [], "nodes": [],
        "output": ["input", "x"],
    }  # fmt: skip
    return whole | fields


def deep(levels: int) -> object:
    found: object = []
    for _ in range(levels):
        found = [found]
    return found


LONG = pytest.param(["int", [10**5000]], id="a long integer")  # longer than Python prints


@pytest.mark.parametrize("value", [["int", deep(5000)], ["list", deep(5000)], ["\ud800"], ["str", 5, "\ud800"], LONG])
@pytest.mark.parametrize("field", ["output", "hypotheses"])
def test_a_value_of_a_graph_that_cannot_be_shown_is_refused(field: str, value: object) -> None:
    given = [value] if field == "hypotheses" else value
    with pytest.raises(CertificateInvalid) as refused:
        spec_of(graph(**{field: given}))
    str(refused.value).encode()


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\ud800", "\u202e", "a\x00"])
def test_what_is_shown_in_messages_steers_no_terminal(text: str) -> None:
    node = {"id": 0, "op": text, "args": [], "kwargs": {}, "line": 1}
    for fields in ({"file": text}, {"nodes": [node]}):
        with pytest.raises(CertificateInvalid, match="cannot be printed"):
            spec_of(graph(**fields))


def test_the_graph_that_these_are_made_of_is_understood() -> None:
    assert spec_of(graph()).term is In("x", Size("n"))
