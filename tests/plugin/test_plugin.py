"""The pytest plugin: what it adds to a run, and certificates as tests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from moaproof.assess.verify import Outcome, folder
from moaproof.kernel.certificate import Certificate, parse
from moaproof.testing.plugin import places_of, refused_at

pytest_plugins = ["pytester"]

NAME = "one-head-online"
JUDGES = ("replay", "source", "standalone")
TEST = "def test_one():\n    assert 1 + 1 == 2\n"


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return parse((folder("certs") / f"{NAME}.json").read_bytes())


@pytest.fixture
def run(pytester: pytest.Pytester) -> object:
    """pytest in a process of its own, strict, with warnings as errors, as far from this one as can be."""

    def act(*args: object) -> pytest.RunResult:
        strict = (
            "-o",
            "strict=true",
            "-o",
            "filterwarnings=error",
            "--import-mode=importlib",
            "-p",
            "no:cacheprovider",
        )
        return pytester.runpytest_subprocess(*strict, *map(str, args))

    return act


@pytest.fixture
def certs(pytester: pytest.Pytester) -> Path:
    """A folder certs with one certificate, and its kernels beside it."""
    (pytester.path / "certs").mkdir()
    shutil.copy(folder("certs") / f"{NAME}.json", pytester.path / "certs")
    shutil.copytree(folder("kernels"), pytester.path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    return pytester.path / "certs"


def names(result: pytest.RunResult, word: str) -> list[str]:
    return re.findall(rf"::(\S+) {word}", "\n".join(result.outlines))


# --- a run that does not ask for it --------------------------------------------------------------------


def test_the_plugin_and_the_profiles_load_nothing_heavy() -> None:
    heavy = "heavy = {'torch', 'numba', 'sympy', 'z3', 'rich', 'typer', 'numpy'} & set(sys.modules)"
    for start in ("import moaproof.testing.plugin; assert 'hypothesis' not in sys.modules",
                  "import hypothesis; hypothesis.settings.get_profile('moaproof-repro')"):  # fmt: skip
        code = f"import sys; {start}; {heavy}; assert not heavy, heavy"
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_run_that_asks_for_nothing_gets_a_line_of_header(pytester, run, certs):
    pytester.makepyfile(test_one=TEST)
    shutil.copy(certs / f"{NAME}.json", pytester.path / "test_certificate.json")
    result = run()
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines([r"moaproof: [\d.]+; oracles: PyTorch [\d.+a-z]+ float64, python-flint [\d.]+$"])
    result.stdout.no_fnmatch_line("*= moaproof =*")


def test_marks_and_options_are_known(run):
    out = run("--help").stdout.str() + run("--markers").stdout.str()
    for option in ("profile", "seed", "examples", "failures", "certs", "kernels", "judge"):
        assert f"--moaproof-{option}" in out
    assert "@pytest.mark.moaproof_kernel(profile=None, seed=None, max_examples=None): a test that" in out
    assert "@pytest.mark.moaproof_certificate(name): " in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--moaproof-certs", "nowhere"), "nowhere: there is no such file or folder"),
        (("--moaproof-certs", "."), "no .json file in this folder"),
        (("--moaproof-kernels", "nowhere"), "--moaproof-kernels nowhere: there is no such folder"),
        (("--moaproof-seed", "-1"), "a whole number of at least 0 is due, not '-1'"),
    ],
)
def test_bad_options_are_usage_errors(pytester, run, args: Sequence[str], message: str):
    pytester.makepyfile(test_one=TEST)
    result = run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


# --- the fixture -----------------------------------------------------------------------------------------

FAKE = """
import sys
import pytest

class Fake:
    def __init__(self, **options):
        self.options = options
    def line(self):
        return "as asked"

class Check:
    check_attention = staticmethod(lambda kernel, spec, **options: Fake(**options))

@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setitem(sys.modules, "moaproof.testing.check", Check)

def test_plain(moaproof_check):
    o = moaproof_check(1, 2).options
    assert set(o) == {"profile", "failures", "command", *OPTIONS}
    assert OPTIONS.items() <= o.items()
    assert o["failures"].name == FOLDER
    assert o["command"] == "python -m pytest test_it.py::test_plain"

@pytest.mark.moaproof_kernel(profile="nightly", seed=3)
def test_marked(moaproof_check):
    o = moaproof_check(1, 2, max_examples=5).options
    assert o["profile"] == OPTIONS.get("profile", "nightly") if "profile" in GIVEN else "nightly"
    assert o["seed"] == OPTIONS.get("seed", 3)
    assert o["max_examples"] == 5

@pytest.mark.moaproof_kernel(sed=3)
def test_marked_wrongly(moaproof_check):
    pass

def test_other():
    pass
"""


@pytest.mark.parametrize(
    ("args", "options", "failures"),
    [
        ((), {"profile": "moaproof-quick"}, ".moaproof"),
        (
            ("--moaproof-profile=repro", "--moaproof-seed=7", "--moaproof-examples=9", "--moaproof-failures=x"),
            {"profile": "repro", "seed": 7, "max_examples": 9},
            "x",
        ),
    ],
)
def test_the_fixture_takes_options_then_the_mark(pytester, run, args, options, failures):
    given = "{'profile'}" if args else "{}"
    pytester.makepyfile(test_it=f"OPTIONS = {options}\nGIVEN = {given}\nFOLDER = {failures!r}\n{FAKE}")
    result = run("-v", "-m", "moaproof_kernel", *args)
    result.assert_outcomes(passed=2, errors=1, deselected=1)
    result.stdout.fnmatch_lines(["*moaproof_kernel takes profile, seed and max_examples, by name*"])
    result.stdout.fnmatch_lines(["*= moaproof =*", "test_it.py::test_plain: as asked"])


# --- certificates ----------------------------------------------------------------------------------------


def test_a_certificate_has_an_item_a_step_and_each_passes(pytester, run, certs, certificate):
    result = run("-v", certs / f"{NAME}.json", "--junit-xml=junit.xml")
    passed = names(result, "PASSED")
    assert [x for x in passed if x.startswith("step-")] == [
        f"step-{k}-{s.rule}" for k, s in enumerate(certificate.steps)
    ]
    others = [x for x in passed if not x.startswith("step-")]
    kernels = [f"kernel-{Path(k.file).stem}" for k in certificate.kernels]
    start, end = ["trace", "inputs", "hypotheses", "witness", "spec"], ["standalone", "verdict"]
    assert others == [*start, "dnf", "onf", "rounding", "points", *kernels, *end]
    result.assert_outcomes(passed=len(passed))
    result.stdout.fnmatch_lines([f"{NAME} (*): (b) proved by replay and standalone: the claim named one masked head*"])
    junit = (pytester.path / "junit.xml").read_text()
    assert junit.count('name="moaproof_class"') == junit.count('name="moaproof_z3"') == len(certificate.steps)


def tampered(c: Certificate, certs: Path, step: int) -> None:
    """The step's result is that of the one before it: nothing happens, so the law gives another term."""
    steps = list(c.steps)
    steps[step] = replace(steps[step], after=steps[step - 1].after)
    (certs / f"{NAME}.json").write_bytes(replace(c, steps=tuple(steps)).to_bytes())


def test_a_tampered_one_fails_at_that_step_and_after_it(run, certs, certificate):
    """With two workers: all items of a certificate are run by one of them."""
    tampered(certificate, certs, 12)
    result = run("--moaproof-certs", certs, "-n", 2, "--dist", "loadgroup", "-v")
    places = [name for _, name, _ in places_of(certificate, JUDGES)]
    at = places.index(f"step-12-{certificate.steps[12].rule}")
    out = "\n".join(result.outlines)
    workers = re.findall(r"\[(gw\d)\] \[ *\d+%\] (PASSED|FAILED) certs/one-head-online.json::(\S+)@one-head", out)
    assert len({w for w, _, _ in workers}) == 1
    assert [name for _, word, name in workers if word == "PASSED"] == places[:at]
    assert [name for _, word, name in workers if word == "FAILED"] == places[at:]
    refusal = rf"{places[at]}: refused: DigestMismatch: step 12 \({certificate.steps[12].rule}\): after: the law gives"
    assert len(re.findall(rf"^{refusal}", out, re.MULTILINE)) == 1
    later = rf"^not reached: {places[at]} was refused: step 12 \("
    assert len(re.findall(later, out, re.MULTILINE)) == len(places) - at - 1
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_changed_kernel_text_is_refused_and_names_select(run, certs, certificate):
    text = certs.parent / "kernels" / certificate.kernels[0].file
    text.write_bytes(text.read_bytes() + b"\n")
    choice = ("--moaproof-judge", "source", "-k", "kernel", "-m", "moaproof_certificate")
    result = run("-v", certs / f"{NAME}.json", *choice)
    result.assert_outcomes(failed=1, deselected=1)
    assert names(result, "FAILED") == [f"kernel-{text.stem}"]
    result.stdout.fnmatch_lines(
        [f"kernel-{text.stem}: refused: DigestMismatch: kernels/{text.name}: its bytes are not*"]
    )


def test_judges_can_be_chosen(run, certs):
    result = run("-v", "--moaproof-certs", certs / f"{NAME}.json", "--moaproof-judge", "standalone")
    assert names(result, "PASSED") == ["standalone", "verdict"]


def test_what_is_no_certificate_is_a_collection_error(run, certs):
    wrong = {
        "{": "not JSON of a certificate",
        '{"schema":"moaproof/certificate/0"}': "certificate: missing",
        "": "the file is empty",
    }
    (certs / f"{NAME}.json").unlink()
    for k, content in enumerate(wrong):
        (certs / f"{k}.json").write_text(content)
    result = run("--moaproof-certs", certs)
    result.assert_outcomes(errors=3)
    for k, message in enumerate(wrong.values()):
        assert re.search(rf"{k}\.json: {message}", result.stdout.str())


def test_another_json_file_is_left_alone(pytester, run):
    pytester.path.joinpath("data.json").write_text('{"schema": 1}')
    result = run("data.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "not found: " in result.stderr.str()


@pytest.mark.parametrize(
    ("outcome", "place"),
    [
        ({}, None),
        ({"code": 3, "error": "the process that judged it died"}, "trace"),
        ({"code": 4, "judge": "replay", "error": "rulebook: the certificate was made with other laws"}, "trace"),
        ({"code": 2, "judge": "replay", "error": "examples/attention.py:3: one_head: aten.mm: no"}, "trace"),
        ({"code": 2, "judge": "replay", "error": "inputs: distinct inputs are due"}, "inputs"),
        ({"code": 2, "judge": "replay", "error": "hypotheses: x is not a statement"}, "hypotheses"),
        ({"code": 1, "judge": "replay", "error": "witness: n = 1"}, "witness"),
        ({"code": 3, "judge": "replay", "error": "Spec: unknown"}, "spec"),
        ({"code": 1, "judge": "replay", "error": "step 3 (x): no", "judged": 3}, "step-3"),
        ({"code": 1, "judge": "replay", "error": "what nobody expects", "judged": 5}, "step-5"),
        ({"code": 4, "judge": "replay", "error": "dnf: the chain", "judged": 57}, "dnf"),
        ({"code": 4, "judge": "replay", "error": "onf: the chain", "judged": 57}, "onf"),
        ({"code": 3, "judge": "replay", "error": "ONF: a divisor", "judged": 57}, "onf"),
        ({"code": 4, "judge": "replay", "error": "rounding: the error bound", "judged": 57}, "rounding"),
        ({"code": 1, "judge": "replay", "error": "random points: 3", "judged": 57}, "points"),
        ({"code": 4, "judge": "source", "error": "kernels/one_head_online_float64.py: x"}, "kernel"),
        ({"code": 2, "judge": "source", "error": "hypotheses: nobody expects it here"}, "kernel"),
        ({"code": 5, "judge": "standalone", "error": "standalone: no"}, "standalone"),
        ({"code": 2, "accepted": list(JUDGES), "error": "witnesses: 3 of them"}, "verdict"),
        ({"code": 3, "accepted": list(JUDGES), "error": "assumptions: x"}, "verdict"),
    ],
)
def test_each_refusal_has_its_place(certificate, outcome, place):
    places = places_of(certificate, JUDGES)
    at = refused_at(places, Outcome("x.json", **outcome))
    assert (None if at is None else places[at][1]) == place or places[at or 0][1].startswith(f"{place}-")


def test_steps_that_were_judged_never_fail(certificate):
    """However strange the error, what was judged before it is not called refused, and nothing after it passes."""
    places = places_of(certificate, JUDGES)
    for judged in range(len(certificate.steps) + 1):
        at = refused_at(places, Outcome("x", code=1, judge="replay", error="?", judged=judged))
        assert [name for _, name, _ in places[:at]].count("dnf") == 0
        assert sum(name.startswith("step-") for _, name, _ in places[:at]) == judged
