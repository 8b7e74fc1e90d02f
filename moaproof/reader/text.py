"""The bytes of a kernel as Python's tree: one front for all that read texts.  Trusted.

Plain ASCII without ``#``, backslash, brace, tab or carriage return: no comment, coding cookie, escape or f-string.
"""

from __future__ import annotations

import ast
import warnings
from copy import copy
from typing import Final

from ..errors import CertificateInvalid

MAX_BYTES: Final = 1_000_000
ALPHABET: Final = frozenset(range(32, 127)) - {ord(c) for c in "#\\{}"} | {10}


def bare(f: ast.FunctionDef) -> ast.FunctionDef:
    """A function's header alone, all of it that the running Python knows: no decorator, and ``pass`` for a body."""
    made = copy(f)
    made.body, made.decorator_list = [ast.Pass()], []
    return made


def tree_of(data: bytes) -> ast.Module:
    """The tree of a text that Python compiles without a complaint, whatever warnings the process has switched off.

    A text that parses need not compile: loops may nest too deep for it, or a name may be one that nobody may bind.
    ``CertificateInvalid`` for any other.
    """
    if len(data) > MAX_BYTES or not ALPHABET.issuperset(data):
        raise CertificateInvalid("kernel: not plain ASCII of at most a megabyte, without comments, escapes and braces")
    text = data.decode("ascii")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            module = ast.parse(text)
            compile(module, "<kernel>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError, Warning) as error:
        raise CertificateInvalid(f"kernel: not Python: {error!s:.200}") from None
    if any(getattr(node, "type_params", None) for node in ast.walk(module)):  # names bound by a header, since 3.12
        raise CertificateInvalid("kernel: type parameters are outside the grammar")
    return module
