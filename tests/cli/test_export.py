"""``moaproof export --smt``: the texts of the questions, for any solver."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moaproof.assess import judges
from moaproof.assess.verify import Job, committed, judge
from moaproof.cli.app import app
from moaproof.kernel import integers
from moaproof.kernel.certificate import parse

NAME = "one-head-online"
CERT = committed()[0].parent / f"{NAME}.json"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "smt"
    done = CliRunner().invoke(app, ["export", "--smt", NAME, "-o", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def index(out):
    return json.loads((out / "index.json").read_text())


def test_every_question_has_a_text_whose_digest_is_its_name(out, index):
    assert (index["schema"], index["certificate"], index["stopped"]) == ("moaproof/smt/1", NAME, None)
    c = parse(CERT.read_bytes())
    assert index["core"] == c.core_digest()
    keys = {row["key"] for row in index["questions"]}
    assert {p.name for p in out.iterdir()} == {f"{k}.smt2" for k in keys} | {"index.json"}
    for row in index["questions"]:
        data = (out / row["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["key"]
        assert data.startswith(b"(set-logic QF_NIA)\n")
        assert data.endswith(b"(check-sat)\n")
        assert (row["expected"], row["status"]) == ("unsat", "proved")
        assert row["witness"] == (row["key"] in c.witnesses)
    assert set(c.witnesses) <= keys


def test_the_index_says_where_and_what(index):
    c = parse(CERT.read_bytes())
    places = {f"step {k} ({s.rule})" for k, s in enumerate(c.steps)} | {"ONF", "source"}
    places.add(f"Spec and step 0 ({c.steps[0].rule})")
    assert {row["at"] for row in index["questions"]} <= places
    assert len({row["at"] for row in index["questions"]}) > 2
    assert any("index is below its extent" in (row["about"] or "") for row in index["questions"])


def test_they_are_the_questions_that_check_counts(index, known):
    from moaproof.assess.verify import folder

    verdict = judge(Job(CERT, folder("kernels")), known).verdict
    assert len(index["questions"]) == verdict.questions


def test_z3_by_hand_says_unsat_to_each(out):
    z3 = Path(sys.executable).with_name("z3")  # z3-solver installs it
    files = sorted(map(str, out.glob("*.smt2")))
    said = [subprocess.run([z3, f], capture_output=True, text=True, check=True).stdout for f in files]
    assert said == ["unsat\n"] * len(files)


def test_nothing_is_overwritten_without_force(out):
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    args = ["export", "--smt", NAME, "-o", str(out)]
    (out / "index.json").write_text("mine")
    refused = CliRunner().invoke(app, args)
    assert refused.exit_code == 2
    assert "exists" in refused.output
    assert (out / "index.json").read_text() == "mine"
    assert CliRunner().invoke(app, [*args, "--force"]).exit_code == 0
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before  # and the texts are the same in every run


def test_an_open_question_is_exported_and_the_exit_code_says_so(tmp_path, monkeypatch):
    """Z3 gives up on long questions, and the certificate has no witnesses."""
    decide = integers.decide
    monkeypatch.setattr(integers, "decide", lambda q: decide(q) if len(q.clauses) < 7 else ("unknown (canceled)", {}))
    bare = tmp_path / "bare.json"
    document = {**json.loads(CERT.read_bytes()), "witnesses": {}}
    bare.write_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    done = CliRunner().invoke(app, ["export", "--smt", str(bare), "-o", str(tmp_path / "smt")])
    assert done.exit_code == 3
    assert "unknown (canceled)" in done.output
    index = json.loads((tmp_path / "smt" / "index.json").read_text())
    assert "unknown (canceled)" in index["stopped"]
    last = index["questions"][-1]
    assert (last["status"], last["expected"], last["witness"]) == ("unknown", "unsat", False)
    assert (tmp_path / "smt" / last["file"]).exists()
    assert {row["status"] for row in index["questions"][:-1]} == {"proved"}


def test_what_is_no_certificate_writes_nothing(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    done = CliRunner().invoke(app, ["export", "--smt", str(tmp_path / "x.json"), "-o", str(tmp_path / "smt")])
    assert done.exit_code == 2
    assert "x.json" in done.output
    assert not (tmp_path / "smt").exists()


def test_a_certificate_that_is_refused_before_any_question_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(judges, "rulebook_digest", lambda: "0" * 64)
    done = CliRunner().invoke(app, ["export", "--smt", NAME, "-o", str(tmp_path / "smt")])
    assert done.exit_code == 4
    assert not (tmp_path / "smt").exists()


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["export", NAME], "say what to export"),
        (["export", "--smt"], "CERT"),
        (["export", "--smt", "nothing-here"], "no committed certificate"),
    ],
)
def test_usage(args, why):
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 2
    assert why in done.output.replace("\n", " ")
