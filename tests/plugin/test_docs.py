"""docs/testing.md: its code is that of the example, its output is what comes out, and what it lists exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from moaproof.testing import KernelRefuted, check_attention, replay
from moaproof.testing.profiles import EXAMPLES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "check_your_kernel.py"


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return [text for word, text in found if word == language]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_your_kernel", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain(text: str) -> list[str]:
    """Lines without what another machine, version or rounding may change."""
    text = re.sub(r"\b[0-9a-f]{12}\b", "DIGEST", text)
    text = re.sub(r"\S*\.moaproof/|\S*/(?=attention-DIGEST)", "", text)
    text = re.sub(r"\S*check_your_kernel\.py:\d+", "PLACE", text)
    text = re.sub(r"\d+(\.\d+)+(\+\w+)?(?= float64| enclosure)", "VERSION", text)
    text = re.sub(r"-?\d+\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+", "NUMBER", text)
    return [re.sub(r" +", " ", line.replace('"DIGEST', "")).strip() for line in text.strip().splitlines()]


def test_the_bug_is_found_as_shown_and_the_fix_is_accepted(example: ModuleType, tmp_path: Path) -> None:
    shown_failure, shown_report = blocks("")[:2]
    command = "python -m pytest test_blocked.py::test_blocked"
    with pytest.raises(KernelRefuted) as e:
        check_attention(
            example.blocked_wrong, example.attention, arrays="numpy", block=example.BLOCK, failures=tmp_path,
            command=command,
        )  # fmt: skip
    assert plain(str(e.value)) == plain(shown_failure)
    assert e.value.path is not None
    with pytest.raises(KernelRefuted):
        replay(e.value.path, example.blocked_wrong, example.attention)
    replay(e.value.path, example.blocked, example.attention)
    report = check_attention(example.blocked, example.attention, arrays="numpy", block=example.BLOCK)
    shown = plain(shown_report.replace("...", ""))
    found = plain(str(report))
    assert found[:5] == shown[:5]
    assert [line.split(" ")[:5] for line in found[5:6]] == [line.split(" ")[:5] for line in shown[5:6]]


def test_the_code_is_that_of_the_example() -> None:
    code = EXAMPLE.read_text(encoding="utf-8")
    first, test, fix, _, laws = blocks("python")
    for part in (*first.split("\n\n\n"), fix):
        assert part.rstrip("\n") in code
    shown, own = (re.sub(r"_wrong|: Callable\[..., Any\]| -> None", "", x).strip() for x in (test, code))
    assert shown in own
    compile(laws, "laws", "exec")
    for module, name in (("strategies", "Case"), ("strategies", "cases"), ("strategies", "expand"), ("laws", "broken")):
        assert name in laws
        assert hasattr(importlib.import_module(f"moaproof.testing.{module}"), name)


def test_its_options_marks_and_profiles_are_those_that_there_are() -> None:
    plugin = (ROOT / "moaproof" / "testing" / "plugin.py").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(--moaproof-[a-z]+)", TEXT, re.MULTILINE)
    assert sorted(listed) == sorted(re.findall(r"add\(\s*\"(--moaproof-[a-z]+)", plugin))
    assert set(re.findall(r"^\| `(moaproof_[a-z]+)\(", TEXT, re.MULTILINE)) == {
        "moaproof_kernel",
        "moaproof_certificate",
    }
    rows = re.findall(r"^\| `(moaproof-[a-z]+)` \| ([\d,]+) \|", TEXT, re.MULTILINE)
    assert {name: int(count.replace(",", "")) for name, count in rows} == EXAMPLES


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)
