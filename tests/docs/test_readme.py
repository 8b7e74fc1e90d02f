"""What README shows runs, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
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
    for row in rows:
        first = row.split("`, `")[0]
        assert (ROOT / first).exists(), first


def test_the_signature_is_the_function_s() -> None:
    import inspect

    from moaproof import attention

    shown = re.search(r"`attention(\(q, k, v[^`]*\))`", README)
    assert shown is not None
    parameters = inspect.signature(attention).parameters
    assert re.findall(r"[a-z_]+(?==|,|\))", shown[1].replace("None", "").replace("False", "")) == list(parameters)
