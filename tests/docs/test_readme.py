"""What README shows runs, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "moaproof"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs() -> None:
    (example,) = blocks("python")
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102  it is ours
    q, k, v, out = (names[x] for x in ("q", "k", "v", "out"))
    due = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # type: ignore[arg-type]
    torch.testing.assert_close(out, due, rtol=0, atol=1e-12)


def test_commands_that_it_names_exist() -> None:
    named = set(
        re.findall(
            r"moaproof (check|derive|explain|rules|doctor|fuzz|\w+)\b",
            " ".join(re.findall(r"`moaproof [^`]*`", README)),
        )
    )
    commands = {p.stem for p in (ROOT / "moaproof" / "cli").glob("*.py")}
    assert {"check", "derive", "explain", "rules", "doctor", "fuzz"} <= commands
    assert named <= commands


def test_files_that_it_links_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_folders_of_its_table_exist() -> None:
    rows = re.findall(r"^\| `([^|]+)` \|", README, re.MULTILINE)
    assert rows
    for row in rows:
        for name in row.split("`, `"):
            assert (ROOT / name).exists() or (PACKAGE / name).exists(), name


def test_the_signature_is_the_function_s() -> None:
    import inspect

    from moaproof import attention

    shown = re.search(r"`attention(\(q, k, v[^`]*\))`", README)
    assert shown is not None
    parameters = inspect.signature(attention).parameters
    assert re.findall(r"[a-z_]+(?==|,|\))", shown[1].replace("None", "").replace("False", "")) == list(parameters)


def test_its_table_is_that_of_the_certificates() -> None:
    """Name, steps and digest of each row that README shows stand in CERTIFICATES.md."""
    certified = {}
    for line in (ROOT / "CERTIFICATES.md").read_text(encoding="utf-8").splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) == 14 and cells[0] != "certificate":
            certified[cells[0]] = cells
    shown = re.findall(r"^ (\S+-(?:online|rows)) .* (\d+/\d+/\d+)/0 .* ([0-9a-f]{12})$", README, re.MULTILINE)
    assert len(shown) == 4
    for name, steps, digest in shown:
        assert "/".join(certified[name][2:5]) == steps
        assert certified[name][-1] == f"`{digest}`"


def test_its_judges_rest_on_the_lines_that_are_counted() -> None:
    """The trusted lines of each judge are those of CERTIFICATES.md."""
    certificates = (ROOT / "CERTIFICATES.md").read_text(encoding="utf-8")
    rests = next(line for line in certificates.splitlines() if line.startswith("| **rests on** |"))
    due = dict(zip(("replay", "source", "standalone", "cvc5"), re.findall(r"\b(\d+) lines", rests), strict=True))
    shown = dict(re.findall(r"^\| (replay|source|standalone|cvc5) \|.* (\d+)(?: more)? \|$", README, re.MULTILINE))
    assert shown == due
