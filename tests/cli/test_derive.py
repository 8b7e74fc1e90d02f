"""``moaproof derive``: what it writes, what it refuses, and that nothing is ever half written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moaproof.assess.verify import Job, Known, judge, kernels_of
from moaproof.cli.app import app
from moaproof.cli.files import staging, write_all
from moaproof.errors import CertificateInvalid

EXAMPLES = Path(__file__).parents[2] / "examples" / "attention.py"


def _run(*args):
    return CliRunner().invoke(app, ["derive", *map(str, args)])


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def derived(tmp_path_factory):
    out = tmp_path_factory.mktemp("derived") / "new" / "deeper"
    done = _run(f"{EXAMPLES}:one_head", "-o", out, "--schedule", "rows", "--dtype", "float64", "--name", "mine")
    assert done.exit_code == 0, done.output
    return out, done.output


def test_derive_writes_what_check_accepts(derived):
    out, output = derived
    assert set(_content(out)) == {"certs/mine.json", "kernels/mine_float64.py"}
    path = out / "certs" / "mine.json"
    assert kernels_of(path) == out / "kernels"
    found = judge(Job(path, kernels_of(path)), Known())
    assert (found.code, found.name, found.verdict.claim) == (0, "mine", "one masked head")
    lines = output.splitlines()
    steps = [x for x in lines if x[:4].strip().isdigit()]
    assert [int(x[:4]) for x in steps] == list(range(len(found.planned)))
    for line, (rule, kind) in zip(steps, found.planned, strict=True):
        assert line.split()[1] == rule
        assert f" {kind}  " in line
    assert any("denotational normal form" in x for x in lines)
    assert any(x.startswith("agreement with the function: ") for x in lines)
    assert any(x.startswith("deviation: ") for x in lines)


def test_existing_files_need_force(derived):
    out, _ = derived
    before = _content(out)
    done = _run(f"{EXAMPLES}:one_head", "-o", out, "--schedule", "rows", "--dtype", "float64", "--name", "mine")
    assert done.exit_code == 2
    assert "mine_float64.py: the file exists; give --force" in done.output.replace("\n", "")
    assert _content(out) == before


def _file(tmp_path, text):
    path = tmp_path / "user_functions.py"
    path.write_text(text)
    return path


UNSUPPORTED = "import torch\n\n\ndef f(q, k, v):\n    s = q @ k.mT\n    return s.cumsum(-1).softmax(-1) @ v\n"


def test_what_is_not_covered_is_named_with_file_and_line(tmp_path):
    path = _file(tmp_path, UNSUPPORTED)
    done = _run(f"{path}:f", "-o", tmp_path / "out")
    text = done.output.replace("\n", " ")
    assert done.exit_code == 2
    assert "NotCovered" in text
    assert "user_functions.py:6: f: aten.cumsum.default" in text
    assert "Covered are: matmul" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "function", "why"),
    [
        ("def f(:\n", "f", "user_functions.py:1: importing the file fails: SyntaxError"),
        ("x = 1\ny = x / 0\n", "f", "user_functions.py:2: importing the file fails: ZeroDivisionError"),
        ("import sys\nsys.exit(0)\n", "f", "user_functions.py:2: importing the file fails: SystemExit"),
        ("def g(q):\n    return q\n", "f", "it has no function f; it has: g"),
    ],
    ids=["syntax", "raises", "exits", "missing"],
)
def test_errors_of_the_users_file_are_shown_as_such(tmp_path, text, function, why):
    done = _run(f"{_file(tmp_path, text)}:{function}", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert why in done.output.replace("\n", "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((f"{EXAMPLES}", "-o", "out"), "FILE.py:FUNCTION is due"),
        (("nowhere.py:f", "-o", "out"), "there is no such file"),
        ((f"{EXAMPLES}:attention", "-o", "out", "--dtype", "float16"), "float16"),
        ((f"{EXAMPLES}:attention", "-o", "out", "--name", "../evil"), "../evil"),
        ((f"{EXAMPLES}:attention", "-o", "out", "--schedule", "magic", "--name", "x"), "schedule 'magic'"),
        ((f"{EXAMPLES}:attention",), "-o"),
    ],
    ids=["no-function", "no-file", "dtype", "name", "schedule", "no-folder"],
)
def test_usage(args, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = _run(*args)
    assert done.exit_code == 2
    assert why in done.output
    assert not _content(tmp_path)


# --- the folder ------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_noticed_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("moaproof.derive.pipeline.derive", lambda *a, **k: pytest.fail("the work began"))
    (tmp_path / "file").write_text("precious")
    done = _run(f"{EXAMPLES}:attention", "-o", tmp_path / "file" / "out")
    assert done.exit_code == 2
    assert "cannot be written" in done.output.replace("\n", " ")
    assert _content(tmp_path) == {"file": b"precious"}


def test_an_interrupted_derivation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        assert list((tmp_path / "a" / "out").iterdir())  # the staging folder is there
        raise KeyboardInterrupt

    monkeypatch.setattr("moaproof.derive.pipeline.derive", interrupted)
    done = _run(f"{EXAMPLES}:attention", "-o", tmp_path / "a" / "out")
    assert done.exit_code == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_all_files_or_none(tmp_path, monkeypatch, fails, error):
    """Three files, one of which exists: four renames.  Whichever fails, what was there is there as it was."""
    old = {"certs/a.json": b"old", "kernels/other.py": b"other"}
    new = {"kernels/a.py": b"1", "kernels/b.py": b"2", "certs/a.json": b"3"}
    for name, data in old.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    calls = []
    rename = Path.replace

    def replace(self, target):
        calls.append(target)
        if len(calls) == fails + 1:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    expected = CertificateInvalid if isinstance(error, OSError) else KeyboardInterrupt
    if fails < 4:
        with pytest.raises(expected), staging(tmp_path) as stage:
            write_all(tmp_path, stage, new, force=True)
        assert _content(tmp_path) == old
    else:
        with staging(tmp_path) as stage:
            write_all(tmp_path, stage, new, force=True)
        assert _content(tmp_path) == {**old, **new}


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "certs" / "a.json").mkdir(parents=True)
    with pytest.raises(CertificateInvalid, match="it is a directory"), staging(tmp_path) as stage:
        write_all(tmp_path, stage, {"certs/a.json": b"x"}, force=True)
    assert _content(tmp_path) == {}
    shutil.rmtree(tmp_path / "certs")


@pytest.mark.parametrize("folder", ["certs", "kernels"])
def test_a_file_where_a_folder_is_due_loses_nothing(tmp_path, folder):
    out = tmp_path / "out"
    out.mkdir()
    other = {"certs": "kernels", "kernels": "certs"}[folder]
    (out / folder).write_text("a file")
    (out / other).mkdir()
    kept = out / other / "something"
    kept.write_text("OLD")
    done = _run(f"{EXAMPLES}:one_head", "-o", out, "--name", "mine", "--force")
    assert done.exit_code == 2
    assert "a file stands where a folder is due" in done.output.replace("\n", "")
    assert kept.read_text() == "OLD"
    assert sorted(p.name for p in out.iterdir()) == ["certs", "kernels"]


@pytest.mark.parametrize(
    "text", ["import torch\nf = torch.nn.Linear(3, 4)\n", "f = lambda q: q\n", "async def f(q): return q\n"]
)
def test_what_is_no_plain_function_is_refused_by_name(tmp_path, text):
    done = _run(f"{_file(tmp_path, text)}:f", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "written with def" in done.output.replace("\n", " ")
