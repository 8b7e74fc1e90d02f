"""The trusted base is counted, and does not grow unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from moaproof.assess.trusted import LIMIT_B, LIMIT_STANDALONE, ROLES, SECOND_LOOKS, code_lines, count

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "moaproof"


def test_claim_b_rests_on_no_more_than_the_limit() -> None:
    sizes = count(PACKAGE)
    assert all(n > 0 for n in sizes.values())
    assert sizes["language"] + sizes["kernel"] <= LIMIT_B
    assert sizes["standalone"] <= LIMIT_STANDALONE


def test_every_file_of_the_kernel_has_a_role() -> None:
    named = {f for _, _, files in ROLES.values() for f in files}
    untrusted = {"kernel/__init__.py", *SECOND_LOOKS}
    found = {f"kernel/{p.name}" for p in (PACKAGE / "kernel").glob("*.py")}
    assert found - untrusted <= named


def test_the_document_names_the_counts() -> None:
    text = (ROOT / "CERTIFICATES.md").read_text(encoding="utf-8")
    for role, lines in count(PACKAGE).items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {role} |"))
        assert row.endswith(f"| {lines} |")


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("", 0),
        ('"""Only a docstring."""\n', 0),
        ("# only a comment\n\n", 0),
        ("x = 1\n", 1),
        ('def f():\n    """Doc\n    of two lines."""\n    return (\n        1\n    )\n', 4),
        ('x = """text\nthat is data"""\n', 2),
        ("x = 1  # counted once\n\n\ny = 2\n", 2),
    ],
)
def test_code_lines(source: str, lines: int) -> None:
    assert code_lines(source) == lines
