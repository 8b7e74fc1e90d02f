"""``explain``, ``rules``, ``doctor`` and ``fuzz``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from moaproof.assess.verify import committed
from moaproof.cli.app import app
from moaproof.cli.explain import in_words
from moaproof.cli.walk import chain_line, steps_of
from moaproof.kernel.certificate import parse
from moaproof.term import Add, Le, Lt, Mul, Size


def _run(*args):
    return CliRunner().invoke(app, list(map(str, args)))


# --- explain ---------------------------------------------------------------------------------------


def test_the_whole():
    done = _run("explain", "gqa-masked-online")
    assert done.exit_code == 0
    c = parse((committed()[0].parent / "gqa-masked-online.json").read_bytes())
    text = done.output
    for part in ("masked grouped-query attention", "h is g*r",
                 "mask: bool <mb mh mn mm>", "bk tiles of at most tk > 0 cover m",
                 "-- the denotational normal form --", c.core_digest(), c.kernels[0].sha256):  # fmt: skip
        assert part in text
    assert [s in text for s in ("\nSpec\n", "\nDNF\n", "\nONF\n")] == [True] * 3
    assert sum(line[:4].strip().isdigit() and line[4] == " " for line in text.splitlines()) == len(c.steps)


def test_by_path_and_as_latex(tmp_path):
    (tmp_path / "x.json").write_bytes((committed()[0].parent / "attention-rows.json").read_bytes())
    done = _run("explain", tmp_path / "x.json", "--latex")
    assert done.exit_code == 0
    assert r"\sum" in done.output


@pytest.mark.parametrize("path", committed(), ids=lambda p: p.stem)
def test_walking_reaches_the_onf_and_every_step_has_its_line(path):
    c = parse(path.read_bytes())
    shown = list(steps_of(c))
    assert shown[-1].after is c.onf
    assert any(x.after is c.dnf for x in shown)
    for x in shown:
        assert x.before.digest == x.step.before
        line = chain_line(x)
        assert "\n" not in line
        assert len(line) < 400


@pytest.mark.parametrize("form", [[], ["--latex"]], ids=["text", "latex"])
def test_one_step(form):
    c = parse((committed()[0].parent / "attention-online.json").read_bytes())
    at = next(k for k, s in enumerate(c.steps) if s.choose and any(count for _, count, _ in s.choose))
    done = _run("explain", "attention-online", "--step", at, *form)
    assert done.exit_code == 0
    text = done.output
    for title in ("law", "before", "becomes", "after", "chosen metavariables", "obligations", "class"):
        assert f"\n{title}" in text
    assert ("⟦" in text) == (not form)
    assert "source: " in text
    assert f"{c.steps[at].kind} computed" in text
    assert "substantive" in text


def test_a_step_that_is_refuted_says_so(tmp_path):
    c = parse((committed()[0].parent / "attention-online.json").read_bytes())
    at = next(k for k, s in enumerate(c.steps) if s.kind == "R")
    forged = replace(c, steps=(*c.steps[:at], replace(c.steps[at], kind="I"), *c.steps[at + 1 :]))
    (tmp_path / "x.json").write_bytes(forged.to_bytes())
    done = _run("explain", tmp_path / "x.json", "--step", at)
    assert done.exit_code == 1
    assert f"step {at} " in done.output


@pytest.mark.parametrize(
    ("data", "args", "code", "why"),
    [
        (b"", [], 2, "empty"),
        (b"{}", [], 2, "missing"),
        (None, ["--step", "100000"], 2, "numbered 0 to"),
    ],
    ids=["empty", "no-fields", "step"],
)
def test_explain_refuses(tmp_path, data, args, code, why):
    path = tmp_path / "x.json"
    path.write_bytes((committed()[0]).read_bytes() if data is None else data)
    done = _run("explain", path, *args)
    assert done.exit_code == code
    assert why in done.output
    assert "x.json" in done.output.replace("\n", "")


def test_hypotheses_in_words():
    n, m, s = Size("n"), Size("m"), Size("s")
    both = [Le(n, Mul(m, s)), Le(Mul(m, s), n)]
    assert in_words(both) == ["n is m*s"]
    assert in_words(both[::-1]) == ["n is m*s"]
    assert in_words([Le(n, m), Le(m, n)]) == ["m is n"]
    assert in_words([Le(n, m)]) == ["n is at most m"]
    assert in_words([Lt(n, m)]) == ["n is less than m"]
    assert in_words([Lt(Mul(s, n), Add(m, s))]) == ["k*s < m for all k < n, and m or s is not 0: s*n < m + s"]
    assert in_words([Lt(Mul(s, n), Add(m, n))]) == ["s*n is less than m + n"]


# --- rules -----------------------------------------------------------------------------------------


def test_rules_lists_every_law_once():
    from moaproof.rewrite_rules import digest, rules

    text = _run("rules").output
    document = json.loads(_run("rules", "--json").output)
    assert document["schema"] == "moaproof/rules/1"
    assert document["rulebook"] == digest()
    assert [r["id"] for r in document["rules"]] == list(rules())
    for r in rules().values():
        assert text.count(f"\n  {r.id}  [class {r.kind}]") == 1
        assert r.law in text


def test_every_law_can_be_shown_with_its_patterns():
    from moaproof.rewrite_rules import rules

    for name, r in rules().items():
        done = _run("rules", name)
        assert done.exit_code == 0, name
        assert done.output.count("==>") == 1 + len(r.samples)
    document = json.loads(_run("rules", "psi-transpose", "--json").output)
    assert len(document["rules"][0]["patterns"]) == len(rules()["psi-transpose"].samples)


def test_an_unknown_law_is_a_wrong_word():
    done = _run("rules", "psi-trans")
    assert done.exit_code == 2
    assert "psi-transpose" in done.output


# --- doctor ------------------------------------------------------------------------------------------


def test_doctor():
    done = _run("doctor", "--json")
    document = json.loads(done.output)
    assert (done.exit_code, document["exit"], document["schema"]) == (0, 0, "moaproof/doctor/1")
    found = {f["what"]: f for f in document["findings"]}
    assert {"python", "z3-solver", "sympy", "numpy", "numba", "torch", "hypothesis", "python-flint", "cores", "threads",
            "cache", "certificates", "kernels"} <= set(found)  # fmt: skip
    assert found["certificates"]["detail"].startswith(f"{len(committed())} found")
    assert any("CUDA" in what for what in found)
    assert str(Path.home()) not in done.output


def test_doctor_misses_what_is_required(monkeypatch):
    from moaproof.cli import doctor

    monkeypatch.setattr(doctor, "_threads", lambda: doctor.Finding("threads", "ok", ""))
    monkeypatch.setattr(doctor, "REQUIRED", ("sympy", "moaproof-no-such-package"))
    monkeypatch.setattr(doctor, "OPTIONAL", ("moaproof-not-this-either",))
    done = _run("doctor")
    assert done.exit_code == 3
    lines = {x.split()[1]: x for x in done.output.splitlines()}
    assert lines["moaproof-no-such-package"].startswith("missing")
    assert lines["moaproof-not-this-either"].startswith("note")
    assert lines["sympy"].startswith("ok")


def test_doctor_says_what_a_gpu_needs(monkeypatch):
    """The first thing that is missing, and how to get it; nothing of it is required."""
    import importlib.util
    from types import SimpleNamespace

    import torch

    from moaproof.cli import doctor
    from moaproof.runtime import cuda

    def found() -> dict[str, tuple[str, str]]:
        return {f.what: (f.state, f.detail) for f in doctor._cuda()}

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert found() == {"CUDA": ("note", "optional; numba-cuda is not installed: pip install 'moaproof[cuda]'")}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "0.30.4")
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    state, detail = found()["CUDA"]
    assert (state, detail[:27]) == ("note", "NUMBA_ENABLE_CUDASIM is set")
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM")
    monkeypatch.setattr(doctor, "_cuda_compiler", lambda: doctor.Finding("CUDA compiler", "ok", ""))
    assert found()["numba-cuda"] == ("ok", "0.30.4")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in found()["CUDA device"][1]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "sees no GPU" in found()["CUDA device"][1]
    properties = SimpleNamespace(
        name="H", major=7, minor=5, multi_processor_count=1, shared_memory_per_block_optin=65536
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    cuda.device_of.cache_clear()
    assert found()["CUDA device"] == ("note", "CUDA: H has compute capability 7.5; 8.0 and later are covered")
    properties.major, properties.minor = 9, 0
    cuda.device_of.cache_clear()
    assert found()["CUDA device"] == ("ok", "H (compute capability 9.0)")
    cuda.device_of.cache_clear()

    def broken(index):
        raise RuntimeError("CUDA error: no kernel image")

    monkeypatch.setattr(torch.cuda, "get_device_properties", broken)
    assert found()["CUDA device"] == ("note", "CUDA error: no kernel image")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert found()["CUDA device"][1].startswith("PyTorch cannot be imported")
    cuda.device_of.cache_clear()


def test_doctor_says_why_there_is_no_compiler(monkeypatch):
    from moaproof.cli import doctor

    for error in (OSError(), AttributeError("module numpy has no row_stack"), ImportError("no libNVVM\nat all")):
        module = ModuleType("numba.cuda.cudadrv.nvvm")
        module.NVVM = Mock(side_effect=error)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        found = doctor._cuda_compiler()
        assert (found.state, "pip install 'moaproof[cuda]'" in found.detail) == ("note", True)


def test_doctor_sees_a_kernel_that_was_changed(monkeypatch, tree):
    from moaproof.assess import verify
    from moaproof.cli import doctor

    monkeypatch.setattr(verify, "folder", lambda name: tree / name)
    assert [f.state for f in doctor._committed()] == ["ok", "ok"]
    with (tree / "kernels" / "attention_rows_float64.py").open("ab") as f:
        f.write(b"\n")
    assert [f.state for f in doctor._committed()] == ["ok", "missing"]
    (tree / "certs" / "attention-rows.json").write_bytes(b"{")
    assert [f.state for f in doctor._committed()] == ["missing"]


# --- fuzz ----------------------------------------------------------------------------------------------


def test_fuzz_hands_over_what_it_was_given(monkeypatch, tmp_path):
    given = []

    def run(*args, **options):
        given.append(args)
        return 1

    monkeypatch.setattr("moaproof.testing.campaign.run", run)
    done = _run("fuzz", "--profile", "quick", "--max-examples", 7, "--seed", 3, "-o", tmp_path)
    assert done.exit_code == 1
    assert given[0][:5] == ("quick", 7, 3, None, tmp_path)


def test_fuzz_replay_of_nothing(tmp_path):
    done = _run("fuzz", "--replay", tmp_path / "gone.json")
    assert done.exit_code == 2
    assert "gone.json" in done.output.replace("\n", "")
