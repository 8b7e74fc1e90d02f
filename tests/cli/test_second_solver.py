"""``check --judge cvc5``: z3 and cvc5 must both say ``unsat`` to every question of a certificate."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from moaproof.assess import judges
from moaproof.assess.solvers import SOLVERS, ask_all
from moaproof.assess.verify import Job, Known, committed, judge
from moaproof.kernel import integers

CERT = committed()[0].parent / "one-head-online.json"
ASKED = Job(CERT, CERT.parent, ("replay", "cvc5"))


def test_accepted(moaproof):
    done = moaproof("check", "one-head-online", "--judge", "replay", "--judge", "cvc5", "--json")
    (row,) = json.loads(done.stdout)["certificates"]
    assert (done.returncode, row["verdict"], row["judges"]) == (0, "proved", ["replay", "cvc5"])
    assert "cvc5" in row["sentence"]


def test_without_cvc5_it_is_incomplete(moaproof, tmp_path):
    (tmp_path / "cvc5.py").write_text("raise ImportError('cvc5 is taken away')\n")
    done = moaproof("check", "one-head-online", "--json", "--judge", "replay", "--judge", "cvc5", path=tmp_path)
    (row,) = json.loads(done.stdout)["certificates"]
    assert (done.returncode, row["verdict"], row["error"]["kind"]) == (3, "unknown", "BackendMissing")
    assert row["error"]["judge"] == "cvc5"
    assert "pip install cvc5" in row["error"]["message"]


def test_it_is_no_judge_by_default(moaproof, tmp_path):
    (tmp_path / "cvc5.py").write_text("raise ImportError('cvc5 is taken away')\n")
    assert moaproof("check", "one-head-online", path=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("word", "code", "kind"),
    [("unknown (RESOURCEOUT)", 3, "Unknown"), ("", 3, "Unknown"), ("error: lost", 3, "Unknown"),
     ("sat", 5, "JudgesDisagree"), ("unsat", 0, "")],
    ids=["unknown", "nothing", "error", "sat", "unsat"],
)  # fmt: skip
def test_the_exit_code_of_what_cvc5_says(monkeypatch, word, code, kind, known):
    solvers = (SOLVERS[0], replace(SOLVERS[1], answer=lambda text, options: word))
    monkeypatch.setattr(judges, "ask_all", lambda questions, known: ask_all(questions, solvers))
    out = judge(ASKED, known)
    assert (out.code, out.kind) == (code, kind)
    assert ("cvc5" in out.accepted) == (code == 0)
    if code:
        assert out.judge == "cvc5"
        assert "question " in out.error
        assert "moaproof export --smt" in out.error


def test_a_z3_that_always_says_unsat_is_caught(monkeypatch, tmp_path):
    """In the replay and in the judge, where there is no witness: the replay accepts, deceived."""
    document = {**json.loads(CERT.read_bytes()), "witnesses": {}}
    bare = tmp_path / "bare.json"
    bare.write_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    monkeypatch.setattr(integers, "decide", lambda q: ("unsat", {}))
    liar = (replace(SOLVERS[0], answer=lambda text, options: "unsat"), SOLVERS[1])
    monkeypatch.setattr(judges, "ask_all", lambda questions, known: ask_all(questions, liar))
    out = judge(replace(ASKED, certificate=bare), Known())
    assert (out.code, out.kind, out.judge, out.accepted) == (5, "JudgesDisagree", "cvc5", ["replay"])
    assert "cvc5 answers sat" in out.error
