"""``moaproof check`` from outside: output, exit codes, fresh processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path, PosixPath
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from moaproof.assess.verify import FileOutcome, Job, Outcome, Result, check, check_assumptions, committed, judge
from moaproof.cli.app import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def good(moaproof, tmp_path_factory):
    """Two certificates, accepted: the finished process, the document and the JUnit file."""
    junit = tmp_path_factory.mktemp("check") / "junit.xml"
    done = moaproof("check", "attention-rows", "one-head-online", "--jobs", "2", "--json", "--junit", str(junit))
    return done, json.loads(done.stdout), ET.parse(junit).getroot()  # noqa: S314 - our own output


@pytest.fixture(scope="module")
def bad(moaproof, tmp_path_factory):
    """One accepted, one truncated, one with a forged digest, one missing."""
    tmp = tmp_path_factory.mktemp("bad")
    data = (committed()[0].parent / "one-head-online.json").read_bytes()
    (tmp / "cut.json").write_bytes(data[:1000])
    document = json.loads(data)
    document["core"] = "0" * 64
    (tmp / "forged.json").write_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    names = ["one-head-online", *(str(tmp / f"{x}.json") for x in ("cut", "forged", "gone"))]
    done = moaproof("check", *names, "--judge", "replay", "--json", "--junit", str(tmp / "junit.xml"))
    return done, json.loads(done.stdout), ET.parse(tmp / "junit.xml").getroot()  # noqa: S314 - our own output


# --- the document ----------------------------------------------------------------------------------


def _shape(row, keys):
    """Exactly these keys, each of its kind."""
    assert set(row) == set(keys)
    for key, kind in keys.items():
        assert isinstance(row[key], kind), (key, row[key])


NONE = type(None)
CERTIFICATE = {
    "certificate": str, "name": (str, NONE), "verdict": str, "exit": int, "error": (dict, NONE), "claim": (str, NONE),
    "sentence": (str, NONE), "core": (str, NONE), "spec": (str, NONE), "judges": list, "classes": (dict, NONE),
    "questions": int, "on_word": list, "ordered": int, "memory": int,
    "obligations": dict, "columns": list, "totals": dict, "steps": list, "planned": int, "judged": int,
    "kernels": list, "cells": int, "bound": list, "deviations": list, "assumptions": list,
}  # fmt: skip
DOCUMENT = {
    "schema": str, "judges": list, "certificates": list, "files": list, "totals": dict, "assumptions": list,
    "interrupted": bool, "exit": int, "seconds": float,
}  # fmt: skip
TOTALS = dict.fromkeys(("proved", "refuted", "unknown", "assumed"), int)


def _validate(document):
    _shape(document, DOCUMENT)
    assert document["schema"] == "moaproof/check/1"
    _shape(document["totals"], TOTALS)
    for row in document["certificates"]:
        _shape(row, CERTIFICATE)
        _shape(row["totals"], TOTALS)
        assert row["verdict"] in {"proved", "refuted", "unknown", "refused"}
        assert row["columns"] == ["trivial", "repeated", "substantive"]
        assert (row["exit"] == 0) == (row["error"] is None) == (row["verdict"] == "proved")
        if row["error"]:
            _shape(row["error"], {"kind": str, "judge": (str, NONE), "message": str})
        if row["classes"]:
            _shape(row["classes"], dict.fromkeys("ISRA", int))
        for counts in row["obligations"].values():
            assert [type(n) for n in counts] == [int, int, int]
        for step in row["steps"]:
            _shape(step, {"rule": str, "class": str, "z3": list, "sympy": list, "normaliser": list})
    for row in document["files"]:
        _shape(row, {"file": str, "exit": int, "error": (str, NONE)})


def test_document_of_what_is_accepted(good):
    done, document, _ = good
    _validate(document)
    assert done.returncode == document["exit"] == 0
    rows = document["certificates"]
    assert [r["name"] for r in rows] == ["attention-rows", "one-head-online"]
    assert [r["verdict"] for r in rows] == ["proved", "proved"]
    for r in rows:
        assert sum(r["classes"].values()) == len(r["steps"]) == r["judged"] == r["planned"]
        assert set(r["obligations"]) == {"z3", "sympy", "normaliser"}
        for engine, counts in r["obligations"].items():
            assert counts[2] > 0, engine
            assert sum(s[engine][2] for s in r["steps"]) <= counts[2]
        assert r["cells"] > 0
    assert rows[0]["classes"]["R"] == 0
    assert rows[1]["classes"]["R"] > 0
    assert document["totals"]["proved"] == sum(r["totals"]["proved"] for r in rows) > 0
    assert document["totals"]["assumed"] == len(document["assumptions"]) == 4


def test_text_goes_to_stderr_with_json(good):
    done, document, _ = good
    last = done.stderr.strip().splitlines()[-1]
    t = document["totals"]
    assert last.startswith(f"{t['proved']} proved, 0 refuted, 0 unknown, 4 assumed in ")
    assert document["certificates"][0]["core"][:12] in done.stderr
    assert "every bit" in document["certificates"][0]["sentence"]


def test_junit_of_what_is_accepted(good):
    _, document, root = good
    suites = {s.get("name"): s for s in root}
    for row in document["certificates"]:
        cases = suites[row["name"]].findall("testcase")
        assert len(cases) == len(row["steps"]) + 3 == int(suites[row["name"]].get("tests"))
        assert [c.get("name") for c in cases[-3:]] == ["judge replay", "judge source", "judge standalone"]
        assert not any(len(c) for c in cases)


def test_document_of_what_is_refused(bad):
    done, document, _ = bad
    _validate(document)
    assert done.returncode == document["exit"] == 4
    assert [r["exit"] for r in document["certificates"]] == [0, 2, 4, 2]
    for name in ("cut.json", "forged.json", "gone.json"):
        line = next(x for x in done.stderr.splitlines() if name in x and "What to do" in x)
        assert line.index(name) < line.index("What to do")


def test_junit_of_what_is_refused(bad):
    _, document, root = bad
    found = {s.get("name"): s for s in root}
    assert sum(int(s.get("failures")) + int(s.get("errors")) for s in root) > 0
    for row in document["certificates"]:
        suite = found[row["name"] or row["certificate"]]
        broken = suite.findall("testcase/failure") + suite.findall("testcase/error")
        assert bool(broken) == bool(row["exit"])


# --- exit codes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", [c for n in (1, 2, 3) for c in combinations((0, 1, 2, 3, 4, 5), n)], ids=str)
def test_over_several_the_first_of_5_4_1_2_3_wins(codes):
    result = Result(("replay",), [Outcome(str(k), code=c) for k, c in enumerate(codes)], [])
    assert result.code() == next((c for c in (5, 4, 1, 2, 3) if c in codes), 0)
    alone = Result(("replay",), [Outcome("x", code=codes[0])], [FileOutcome("y", c) for c in codes[1:]])
    assert alone.code() == result.code()


def test_assumptions_must_be_the_committed_list(known):
    path = committed()[0].parent / "attention-rows.json"
    accepted = judge(Job(path, path, ("replay",)), known)
    assert accepted.code == 0
    assert check_assumptions([accepted]).code == 3  # those of the source judge were not met
    assert check_assumptions([Outcome("refused", code=4)]).code == 0  # the certificate's own code says it


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["check", "--judge", "oracle"], "no judge"),
        (["check", "--only", "nothing"], "no committed certificate has this name"),
        (["check", "--kernels", "/nonexistent"], "no such folder"),
        (["check", "a", "--only", "b"], "--only"),
        (["check", "--jobs", "0"], "--jobs"),
        (["check", "--no-such-option"], "--no-such-option"),
        (["explain", "nothing-here"], "no committed certificate"),
        (["audit"], "audit"),
        ([], ""),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, list) else "",
)
def test_usage(args, why):
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 2
    assert why in done.output.replace("\n", " ")


def test_version():
    from moaproof import __version__

    assert CliRunner().invoke(app, ["--version"]).output == f"moaproof {__version__}\n"


def test_a_judge_alone_says_only_its_own_claim(known):
    kernels = committed()[0].parent.parent / "kernels"
    path = committed()[0].parent / "attention-rows.json"
    replay = judge(Job(path, path, ("replay",)), known)  # there are no kernels: nobody asks for them
    source = judge(Job(path, kernels, ("source",)), known)
    assert (replay.code, source.code) == (0, 0)
    assert "(b) proved" in replay.verdict.sentence()
    assert "(c)" not in replay.verdict.sentence()
    assert "(b)" not in source.verdict.sentence()
    assert source.verdict.claim is None


# --- processes ---------------------------------------------------------------------------------------


class Deadly(PosixPath):
    """A path that ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


class Odd(PosixPath):
    """A path that arrives as a number."""

    def __reduce__(self):
        return int, (5,)


def test_a_worker_that_dies_is_no_verdict_and_takes_no_other_with_it():
    fine = committed()[0].parent / "one-head-online.json"
    kernels = committed()[0].parent.parent / "kernels"
    jobs = [Job(Deadly("/deadly"), kernels), Job(Odd("/odd"), kernels), Job(fine, kernels, ("replay",))]
    deadly, odd, good = check(jobs, 1)
    assert (deadly.code, deadly.word()) == (3, "unknown")
    assert "died" in deadly.error
    assert odd.code == 3
    assert "bug of moaproof" in odd.error
    assert good.code == 0


def test_ctrl_c_ends_with_130_and_keeps_what_was_done(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "moaproof", "check", "--json", "--jobs", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
                          start_new_session=True) as process:  # fmt: skip
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(children.read_text().split()) < 2:  # the tracker of multiprocessing, and the worker
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    document = json.loads(out)
    _validate(document)
    assert document["interrupted"]
    assert len(document["certificates"]) < len(committed())
    assert "Traceback" not in err


@pytest.mark.parametrize(("engine", "named"), [("z3", "z3-solver"), ("sympy", "sympy")])
def test_without_an_engine_every_certificate_fails(moaproof, tmp_path, engine, named):
    (tmp_path / f"{engine}.py").write_text(f"raise ImportError('{engine} is taken away')\n")
    done = moaproof("check", "--json", path=tmp_path)
    document = json.loads(done.stdout)
    assert done.returncode == 3
    rows = document["certificates"]
    assert len(rows) == len(committed())
    for r in rows:
        assert (r["exit"], r["verdict"], r["error"]["kind"]) == (3, "unknown", "BackendMissing"), r["name"]
        assert f"pip install {named}" in r["error"]["message"]


# --- as a wheel lays it out, from another folder --------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """site-packages with moaproof and, inside it, certs, kernels and rewrite_rules."""
    site = tmp_path_factory.mktemp("site")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "moaproof", site / "moaproof", ignore=skip)
    for name in ("certs", "kernels", "rewrite_rules"):
        shutil.copytree(ROOT / name, site / "moaproof" / name, ignore=skip)
    for extra in sorted((site / "moaproof" / "certs").glob("*.json")):
        if extra.stem != "one-head-online":
            extra.unlink()
    return site


def test_from_a_wheel_with_an_edited_rulebook_and_foreign_kernels(moaproof, installed, tmp_path):
    book = installed / "moaproof" / "rewrite_rules" / "rulebook.json"
    book.write_bytes(book.read_bytes().replace(b'"class":"I"', b'"class":"S"', 1))
    done = moaproof("check", "--json", path=installed, cwd=tmp_path)
    document = json.loads(done.stdout)
    (row,) = document["certificates"]
    assert row["certificate"] == str(installed / "moaproof" / "certs" / "one-head-online.json")
    assert row["exit"] == 0
    files = {f["file"]: f for f in document["files"]}
    assert files["rewrite_rules/rulebook.json"]["exit"] == 4
    assert "law " in files["rewrite_rules/rulebook.json"]["error"]
    assert files["kernels/MANIFEST.json"]["exit"] == 4  # the other certificates are gone, their kernels are not
    assert files["assumptions"]["exit"] == 0
    assert done.returncode == document["exit"] == 4


# --- quick to start --------------------------------------------------------------------------------------

HEAVY = ("sympy", "z3", "torch", "numba", "numpy", "hypothesis")


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["check", "--help"], ["derive", "--help"], ["fuzz", "--help"]], ids=" ".join
)
def test_help_loads_nothing_heavy(args):
    code = (
        "import sys\nfrom moaproof.cli.app import app\n"
        f"try:\n    app({args!r})\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        f"sys.exit(', '.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
