"""The size of what must be trusted, by role: code lines, without docstrings, comments and blank lines."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

LAYOUT = frozenset({
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
})  # fmt: skip

TRACE = tuple(
    f"trace/{f}.py" for f in ("graph", "values", "builder", "masks", "arithmetic", "products", "rearrange", "table")
)

KERNEL = tuple(
    f"kernel/{f}.py"
    for f in (
        "free",
        "bits",
        "reals",
        "question",
        "witness",
        "integers",
        "defined",
        "inequalities",
        "step",
        "certificate",
        "checker",
        "claims",
    )
)

ROUNDING = ("rounding", "bound", "lemmas")

# Of the kernel's files, rules only proposes terms, and the others can only refuse what ours accepts.
SECOND_LOOKS = ("kernel/rules.py", "kernel/sympy_index.py", "kernel/sympy_ring.py", "kernel/points.py")

# role: (claim, what it does, files)
ROLES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "language": ("b", "terms, shapes, operators, meaning", ("term.py", "shapes.py", "operators.py", "semantics.py")),
    "kernel": ("b", "judging a step, certificates, named claims", ("errors.py", *KERNEL)),
    "rounding": (
        "b",
        "the error bound of the ONF: lemmas, what they come to",
        tuple(f"kernel/{f}.py" for f in ROUNDING),
    ),
    "standalone": ("b", "claim (b) again, in the standard library alone", ("standalone",)),
    "solvers": ("-", "asking Z3 and cvc5 on exported texts", ("assess/solvers.py",)),
    "second looks": ("-", "SymPy as second decider, random points, matching of rules", SECOND_LOOKS),
    "trace table": ("a", "captured operators to Spec", TRACE),
    "reader": ("c", "shipped text to ONF", ("reader",)),
    "instructions": ("d", "exp, rescale and quotient as code", ("instructions",)),
    "loader": ("d", "which bytes may run, and with which arguments", ("runtime",)),
}
LIMIT_B = 3100  # code lines of language and kernel together
LIMIT_STANDALONE = 1200  # code lines of the stand-alone checker


def code_lines(source: str) -> int:
    """Lines that carry code."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            inside.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - inside)


def count(package: Path) -> dict[str, int]:
    """Code lines of each role in the package folder."""
    found = {}
    for role, (_, _, files) in ROLES.items():
        paths = [q for f in files for q in ([package / f] if f.endswith(".py") else sorted((package / f).glob("*.py")))]
        found[role] = sum(code_lines(q.read_text(encoding="utf-8")) for q in paths)
    return found
