"""The mutation score of ``tests/mutants``: every mutant dies where it was promised.  And the score is not blind."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moaproof.assess import judges, mutate
from moaproof.assess.mutants import (
    CHANGES,
    STAGES,
    Bench,
    Kill,
    Mutant,
    byte_variants,
    certificate_bytes,
    corpus,
    edited,
    equivalents,
    judge,
    kills,
    read_term,
    stage_of,
)
from moaproof.assess.mutate import Result, Score, edited_package, judge_elsewhere, noticed, run
from moaproof.cli import mutate as command
from moaproof.errors import CertificateInvalid, DigestMismatch, NotCovered, Refuted
from moaproof.term import Add, Int, Size

PLACE = Path(__file__).parents[1] / "mutants"
one_run = pytest.mark.xdist_group("mutation score")  # the corpus is judged once, by one worker


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(place=PLACE, ideas=corpus(PLACE))


@pytest.fixture(scope="module")
def score() -> Score:
    return run(PLACE)


# --- the score -----------------------------------------------------------------------------------------------


@one_run
def test_every_mutant_dies_where_it_was_promised(score):
    assert [(r.mutant.id, r.status, r.stage) for r in score.results if r.status != "killed"] == []
    assert score.exit() == 0


@one_run
def test_ideas_are_counted_and_not_instances(score):
    document = score.document()
    assert document["killed"] == document["ideas"] == len(score.ideas) >= 250
    assert document["mutants"] > document["ideas"]
    assert sum(score.stages().values()) == len(score.ideas)


@one_run
def test_an_ordinary_test_misses_many(score):
    assert len(score.missed()) >= 40
    assert {x.area for x in score.missed()} <= {"schedule", "term", "text-cpu", "rule"}


@one_run
def test_every_stage_kills(score):
    assert set(score.mutants_by_stage()) == set(STAGES)


@one_run
def test_what_is_equivalent_is_accepted(score):
    assert [(e.id, k) for e, k in score.refused()] == []
    assert sum(e.mutant is not None for e, _ in score.equal) >= 10


def test_sources_are_reports():
    found = [x.source for x in corpus(PLACE) if x.source]
    assert len(found) >= 60
    assert [
        s for s in found if not re.match(r"https://(github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+|\S+\.\S+)", s)
    ] == []


@one_run
def test_the_second_writing_refuses_what_the_kernel_refuses(score, bench, tmp_path):
    """But for what it says that it does not look at."""
    found = {r.mutant.id: r.stage for r in score.results}
    names = [m.id for x in bench.ideas for m in x.mutants if m.kind in ("derived", "certificate", "json")]
    for k, name in enumerate(names):
        (tmp_path / f"{k}.json").write_bytes(certificate_bytes(bench.mutant(name), bench))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(judges.STANDALONE), *(f"{k}.json" for k in range(len(names)))],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    lines = done.stdout.splitlines()[: len(names)]
    accepted = [n for n, line in zip(names, lines, strict=True) if line.partition(": ")[2].startswith("proved")]
    outside = {
        "trace",
        "rule",
        "inequalities",
        "rounding",
        "claim",
        "reader",
    }  # laws, graphs, texts, real inequalities, error bound, which claim
    assert {n: found[n] for n in accepted if found[n] not in outside} == {
        "laws-of-another-rulebook/certificate": "digest",
        "foreign-kernel/another function": "digest",
        "digests-exchanged/certificate": "digest",
        "other-instructions/certificate": "digest",
        "vacuous/one": "hypotheses",
        "vacuous/equal": "hypotheses",
    }


# --- the runner is not blind -----------------------------------------------------------------------------------

ROW = """
[[idea]]
id = "{id}"
what = "a test"
area = "term"

[[idea.mutant]]
stage = "{stage}"
why = "a test"
{mutant}
"""
RIGHT = 'step = { inputs = { A = "n" }, extents = ["n"], left = "(psi A $0)", right = "(psi A (+ $0 0))" }'
WRONG = 'step = { inputs = { A = "n" }, facts = ["(< 2 n)"], left = "(psi A 0)", right = "(psi A 1)" }'
SAME = '\n[[equivalent]]\nid = "e"\nwhat = "a test"\nproof = "none"\n'


@pytest.mark.parametrize(
    ("stage", "mutant", "code", "word"),
    [
        ("equality", WRONG, 0, "1 of 1 ideas killed"),
        ("equality", RIGHT, 1, "SURVIVED"),
        ("definedness", WRONG, 1, "late, promised definedness"),
        ("witness", WRONG, 0, "early, promised witness"),
        ("equality", WRONG + SAME + RIGHT, 0, "1 equivalent mutations"),
        ("equality", WRONG + SAME + WRONG, 1, "e: REFUSED at equality"),
    ],
)
def test_the_command_tells_them_apart(tmp_path, stage, mutant, code, word):
    (tmp_path / "a.toml").write_text(ROW.format(id="a", stage=stage, mutant=mutant))
    done = _moaproof("--corpus", str(tmp_path))
    assert (done.exit_code, word in done.stdout) == (code, True), done.stdout
    document = json.loads(_moaproof("--corpus", str(tmp_path), "--json").stdout)
    assert document["exit"] == code
    assert document["ideas"] == 1


def test_a_name_that_fits_nothing_is_no_success(tmp_path):
    (tmp_path / "a.toml").write_text(ROW.format(id="a", stage="equality", mutant=WRONG))
    assert _moaproof("nothing", "--corpus", str(tmp_path)).exit_code == 1


def test_only_what_is_asked_for_counts(tmp_path):
    (tmp_path / "a.toml").write_text("".join(ROW.format(id=k, stage="equality", mutant=WRONG) for k in "ab"))
    assert "1 of 1 ideas killed" in _moaproof("b/", "--corpus", str(tmp_path)).stdout


def _moaproof(*args: str):
    import typer

    app = typer.Typer()
    app.command()(command.mutate)
    return CliRunner().invoke(app, args)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[idea",
        ROW.format(id="a", stage="equality", mutant=WRONG) * 2,
        ROW.format(id="a", stage="nowhere", mutant=WRONG),
        ROW.format(id="a", stage="equality", mutant=""),
        ROW.format(id="a", stage="equality", mutant=WRONG + "\n" + 'launch = { change = "alias" }'),
        ROW.format(id="a", stage="equality", mutant='step = { left = "(real 1)" }'),
        ROW.format(id="a", stage="equality", mutant='step = { right = "(real 1)", wrong = 1 }'),
        ROW.format(id="a", stage="equality", mutant=WRONG + "\nskips = ['nowhere']"),
        ROW.format(id="a", stage="equality", mutant=WRONG).replace('"term"', '"nowhere"'),
        ROW.format(id="a", stage="equality", mutant=WRONG).replace("what", "hat"),
    ],
)
def test_a_corpus_that_says_less_is_refused(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(CertificateInvalid):
        corpus(tmp_path)


def test_an_equivalent_without_a_proof_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text('[[equivalent]]\nid = "a"\nwhat = "b"\n')
    with pytest.raises(CertificateInvalid, match="proof"):
        equivalents(tmp_path)


@pytest.mark.parametrize("old", ["c", "a", "2x b", "3x a"])
def test_an_edit_that_no_longer_fits_is_refused(old):
    with pytest.raises(CertificateInvalid, match="occurs"):
        edited("a b a", [[old, "x"]])


def test_an_edit():
    assert edited("a b a", [["2x a", "x"], ["x b", "y"]]) == "y x"


@pytest.mark.parametrize("text", ["", "(", "(real 1) 2", "(nothing 1)"])
def test_a_term_that_is_none_is_refused(text):
    with pytest.raises(Exception, match=r"term|operation"):
        read_term(text, {})


def test_a_term():
    assert read_term("(+ n 1)", {}) is Add(Size("n"), Int(1))


@pytest.mark.parametrize(
    ("kind", "old", "stage", "status"),
    [
        ("step", "equality", "equality", "killed"),
        ("step", "points", "equality", "early"),
        ("step", "rule", "equality", "late"),
    ],
)
def test_status(kind, old, stage, status):
    m = Mutant("a/b", "a", old, "", kind, {})
    assert Result(m, (Kill(stage, ""),)).status == status
    assert Result(m, ()).status == "survived"


def test_the_first_refusal_counts_and_all_are_listed_if_wanted():
    def refuse(error):
        raise error

    trials = [
        ("parse", lambda: None),
        ("reader", lambda: refuse(DigestMismatch("a"))),
        ("safety", lambda: refuse(ZeroDivisionError("b"))),
        ("launcher", lambda: refuse(NotCovered("c"))),
    ]
    assert [k.stage for k in kills(iter(trials))] == ["reader"]
    assert [k.stage for k in kills(iter(trials), everything=True)] == ["reader", "crash", "launcher"]
    assert [k.stage for k in kills(iter(trials), skips=("reader",))] == ["crash"]


@pytest.mark.parametrize(
    ("error", "default", "stage"),
    [
        (DigestMismatch("x"), "parse", "digest"),
        (DigestMismatch("step 1: after: the law gives another term"), "rule", "rule"),
        (DigestMismatch("the witness of question 0 is none"), "rule", "witness"),
        (Refuted("x"), "rule", "equality"),
        (NotCovered("x"), "rule", "rule"),
        (Refuted("x"), "safety", "safety"),
    ],
)
def test_the_stage_of_an_error(error, default, stage):
    assert stage_of(error, default) == stage


def test_the_ordinary_test_sees_what_it_can(bench):
    kernel = "attention_rows_float64.py"
    honest = Mutant("a/b", "a", "reader", "", "text", {"kernel": kernel, "edits": []})
    wrong = Mutant("a/b", "a", "reader", "", "text", {"kernel": kernel, "edits": [["exp(s12 * scale - m6)", "ONE"]]})
    broken = Mutant("a/b", "a", "reader", "", "text", {"kernel": kernel, "edits": [["exp(s12 * scale - m6)", "none"]]})
    assert [noticed(m, bench) for m in (honest, wrong, broken)] == [False, True, True]
    assert judge(honest, bench) == []


@pytest.mark.parametrize(
    "name", ["attention-rows", "attention-online", "attention-cuda-online", "attention-cuda-split"]
)
def test_a_witness_is_made_to_cover(bench, name):
    """Of tiles of one size and of products; the committed witnesses do."""
    c = bench.certificate(name)
    for t in c.tilings:
        row = (t.extent, t.tile, t.count)
        wrong = CHANGES["witness"](c, t.count, 10**6)
        assert CHANGES["cover"](wrong, *row).witness == CHANGES["cover"](c, *row).witness == c.witness
        longer = CHANGES["cover"](CHANGES["witness"](c, t.extent, 1000), *row).witness
        tile = math.prod(longer[f] for f in t.factors)
        assert (longer[t.count] - 1) * tile < 1000 <= longer[t.count] * tile


def test_flips_are_many_and_differ(bench):
    m = bench.mutant("any-byte/derivation and kernels")
    data = bench.base("attention-rows").data
    found = set(byte_variants(m, data))
    assert len(found) > 100
    assert data not in found


# --- the package with one file edited ------------------------------------------------------------------------------


def test_the_package_is_ours_again_afterwards():
    import moaproof.kernel.bits as ours

    with edited_package(
        "moaproof/kernel/bits.py", [["class Deciders", "class Edited:\n    pass\n\n\nclass Deciders"]]
    ) as found:
        import moaproof.kernel.bits as theirs

        assert found.loaded
        assert theirs is not ours
        assert hasattr(theirs, "Edited")
    assert sys.modules["moaproof.kernel.bits"] is ours
    assert not hasattr(ours, "Edited")
    assert all(type(f).__name__ != "_Finder" for f in sys.meta_path)


def _checker(file: str, edits: list[list[str]], lets_pass: list[str]) -> Mutant:
    return Mutant("a/b", "a", "checker tests", "", "checker", {"file": file, "edits": edits, "lets_pass": lets_pass})


@pytest.mark.parametrize(
    ("file", "old"), [("kernel/bits.py", "def in_range("), ("standalone/__main__.py", "class Refusal(")]
)
def test_a_checker_that_is_as_good_as_before_is_not_noticed(bench, file, old):
    m = _checker(f"moaproof/{file}", [[old, f"A_NAME = 1\n\n\n{old}"]], ["stated-digest/core"])
    assert judge_elsewhere(PLACE, m, bench.ideas) == []


def test_a_file_that_nothing_loads_is_refused(bench):
    m = _checker("moaproof/cli/explain.py", [["import", "import"]], ["stated-digest/core"])
    with pytest.raises(CertificateInvalid, match="was not loaded"):
        judge_elsewhere(PLACE, m, bench.ideas)


def test_what_the_second_writing_accepts_does_not_test_it(bench):
    m = _checker("moaproof/standalone/__main__.py", [], ["dtype-relabelled/certificate"])
    with pytest.raises(CertificateInvalid, match="accepted as it is"):
        judge_elsewhere(PLACE, m, bench.ideas)
    assert judges.STANDALONE.name == "standalone"


def test_an_error_in_the_worker_names_its_mutant(tmp_path):
    row = 'checker = { file = "moaproof/kernel/bits.py", edits = [["no such text", ""]], lets_pass = ["a/step"] }'
    text = ROW.format(id="a", stage="equality", mutant=WRONG) + ROW.format(id="b", stage="checker tests", mutant=row)
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(CertificateInvalid, match=r"b/checker: .*occurs 0 times"):
        run(tmp_path)


def test_in_a_wheel_the_corpus_must_be_named(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(CertificateInvalid, match="give --corpus"):
        command._checkout()
    assert mutate.SCHEMA.startswith("moaproof/mutate/")
