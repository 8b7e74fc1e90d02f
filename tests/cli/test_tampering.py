"""Truncated, flipped, re-ordered, forged: each is refused with the right code, and the message names the place."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from moaproof import instructions
from moaproof.assess.verify import FIRST_WINS, Job, Known, check_manifest, check_rulebook, folder, judge, stated
from moaproof.kernel.certificate import Kernel
from moaproof.term import canonical

FILE = "attention_rows_float64.py"


def _document(c):
    return json.loads(c.to_bytes())


def _forged(c, text):
    """The certificate, made to name this text as its kernel."""
    sha256 = hashlib.sha256(text).hexdigest()
    return replace(c, kernels=(Kernel(FILE, "cpu", "float64", sha256, instructions.digest()),))


def test_the_untouched_one_is_accepted(judged, certificate):
    out = judged(certificate)
    assert (out.code, out.word(), out.error) == (0, "proved", "")
    assert out.verdict.claim == "attention"
    assert out.accepted == ["replay", "source", "standalone"]


# --- bytes -----------------------------------------------------------------------------------------


def test_every_flipped_bit_is_noticed(judged, certificate):
    """A flip in a witness's key leaves its question without a witness: then it is not proved."""
    data = certificate.to_bytes()
    starts = [data.index(key.encode()) for key in certificate.witnesses]
    keys = {at for start in starts for at in range(start, start + 64)}
    for at in range(0, len(data), len(data) // 60):
        for bit in (0, 5):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            out = judged(bytes(flipped))
            assert out.code in {2, 4} or (out.code == 3 and at in keys), (at, bit, out.error)
            assert out.error
            assert not out.verdict


@pytest.mark.parametrize("part", [0.02, 0.5, 0.999])
def test_truncated(judged, certificate, part):
    data = certificate.to_bytes()
    out = judged(data[: int(len(data) * part)])
    assert out.code == 2
    assert "not JSON of a certificate" in out.error


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        (lambda d: d | {"remark": "trust me"}, 2, "unknown field 'remark'"),
        (lambda d: d | {"schema": "moaproof/certificate/1"}, 2, "schema: 'moaproof/certificate/1'"),
        (lambda d: {k: v for k, v in d.items() if k != "witness"}, 2, "missing witness"),
        (lambda d: d | {"core": "0" * 64}, 4, "core:"),
        (lambda d: d | {"name": "renamed"}, 4, "core:"),
        (lambda d: d | {"steps": [d["steps"][0] | {"note": 1}]}, 2, "step 0: unknown field 'note'"),
    ],
    ids=["field", "version", "missing", "digest", "name", "step-field"],
)
def test_fields(judged, certificate, change, code, place):
    out = judged(canonical(change(_document(certificate))) + b"\n")
    assert out.code == code
    assert place in out.error


def test_the_same_document_in_other_bytes(judged, certificate):
    out = judged(json.dumps(_document(certificate), indent=1).encode())
    assert out.code == 4
    assert "canonical" in out.error


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.mkdir(), "it is a directory"),
        (lambda p: p.touch(), "the file is empty"),
        (lambda p: p.symlink_to(p), "cannot be read"),
        (lambda p: p.write_bytes(b" " * (4 * 2**20 + 1)), "more than"),
    ],
    ids=["missing", "directory", "empty", "loop", "huge"],
)
def test_no_certificate_at_all(tmp_path, make, why):
    make(tmp_path / "x.json")
    out = judge(Job(tmp_path / "x.json", tmp_path))
    assert out.code == 2
    assert why in out.error
    assert str(tmp_path / "x.json") == out.place


# --- derivations whose digests are forged to fit ------------------------------------------------------


def test_deleted_step(judged, certificate):
    out = judged(replace(certificate, steps=certificate.steps[:20] + certificate.steps[21:]))
    assert out.code == 4
    assert out.error.startswith("step 20 ")
    assert (out.judge, out.judged) == ("replay", 20)


def test_last_step_deleted(judged, certificate):
    out = judged(replace(certificate, steps=certificate.steps[:-1]))
    assert out.code == 4
    assert out.error.startswith("onf:")


def test_reordered_steps(judged, certificate):
    s = certificate.steps
    out = judged(replace(certificate, steps=(*s[:30], s[31], s[30], *s[32:])))
    assert out.code == 4
    assert out.error.startswith("step 30 ")


def test_forged_before(judged, certificate):
    s = certificate.steps
    out = judged(replace(certificate, steps=(*s[:10], replace(s[10], before="0" * 64), *s[11:])))
    assert out.code == 4
    assert out.error.startswith("step 10 ")


def test_swapped_law(judged, certificate):
    s = certificate.steps
    at = next(k for k, x in enumerate(s) if x.rule == "psi-transpose")
    out = judged(replace(certificate, steps=(*s[:at], replace(s[at], rule="psi-reverse"), *s[at + 1 :])))
    assert out.code == 4
    assert out.error.startswith(f"step {at} (psi-reverse)")


def test_unknown_law(judged, certificate):
    s = certificate.steps
    out = judged(replace(certificate, steps=(replace(s[0], rule="believe"), *s[1:])))
    assert out.code == 4
    assert "no law called 'believe'" in out.error


def test_a_step_over_the_reals_that_claims_every_bit(judged, tree):
    from moaproof.kernel.certificate import parse

    c = parse((tree / "certs" / "attention-online.json").read_bytes())
    at = next(k for k, x in enumerate(c.steps) if x.kind == "R")
    out = judged(replace(c, steps=(*c.steps[:at], replace(c.steps[at], kind="I"), *c.steps[at + 1 :])))
    assert (out.code, out.word()) == (1, "refuted")
    assert out.error.startswith(f"step {at} ")


def test_other_laws(judged, certificate):
    out = judged(replace(certificate, rulebook="0" * 64))
    assert out.code == 4
    assert out.error.startswith("rulebook:")


def test_another_spec_than_the_graphs(judged, certificate):
    out = judged(replace(certificate, spec=certificate.dnf, steps=certificate.steps[1:]))
    assert out.code == 4
    assert out.error.startswith("trace: the spec")


def test_a_witness_that_satisfies_nothing(judged, tree):
    from moaproof.kernel.certificate import parse

    c = parse((tree / "certs" / "gqa-online.json").read_bytes())
    out = judged(replace(c, witness={**c.witness, "h": 7, "g": 2, "r": 3}))
    assert (out.code, out.word()) == (1, "refuted")
    assert "witness: it does not satisfy the hypothesis" in out.error


# --- kernels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "code", "why"),
    [
        ("attention_rows_float32.py", 4, "its bytes are not those"),
        ("causal_rows_float64.py", 4, "its bytes are not those"),
        (None, 2, "missing"),
    ],
    ids=["swapped", "foreign", "missing"],
)
def test_kernel_files(judged, certificate, tree, other, code, why):
    if other:
        (tree / "kernels" / FILE).write_bytes((tree / "kernels" / other).read_bytes())
    else:
        (tree / "kernels" / FILE).unlink()
    out = judged(certificate)
    assert out.code == code
    assert out.error.startswith(f"kernels/{FILE}: ")
    assert why in out.error
    assert (out.accepted, out.judge) == (["replay"], "source")


def test_every_flipped_bit_of_a_kernel(judged, certificate, tree):
    data = (tree / "kernels" / FILE).read_bytes()
    for at in range(0, len(data), len(data) // 4):
        flipped = bytearray(data)
        flipped[at] ^= 4
        (tree / "kernels" / FILE).write_bytes(bytes(flipped))
        out = judged(certificate)
        assert out.code == 4
        assert out.error.startswith(f"kernels/{FILE}: ")


@pytest.mark.parametrize(
    "other", ["causal_rows_float64.py", "attention_online_float64.py", "attention_rows_float32.py"]
)
def test_a_foreign_kernel_that_the_certificate_is_forged_to_name(judged, certificate, tree, other):
    text = (tree / "kernels" / other).read_bytes()
    (tree / "kernels" / FILE).write_bytes(text)
    out = judged(_forged(certificate, text))
    assert out.code in {2, 4}
    assert out.error.startswith(f"kernels/{FILE}: ")


def test_an_altered_text_that_the_certificate_is_forged_to_name(judged, certificate, tree):
    text = (tree / "kernels" / FILE).read_bytes()
    assert b" - " in text
    altered = text.replace(b" - ", b" + ", 1)
    (tree / "kernels" / FILE).write_bytes(altered)
    out = judged(_forged(certificate, altered))
    assert out.code in {1, 2, 4}
    assert out.error.startswith(f"kernels/{FILE}")


# --- generated files -------------------------------------------------------------------------------------


def _stated(tree: Path):
    return [stated(Job(p, tree / "kernels")) for p in sorted((tree / "certs").glob("*.json"))]


def test_manifest_as_committed(tree):
    assert check_manifest(_stated(tree), tree / "kernels").code == 0
    assert check_manifest(_stated(tree)[:1], tree / "kernels", whole=False).code == 0


def _edit(tree: Path, change) -> None:
    path = tree / "kernels" / "MANIFEST.json"
    document = json.loads(path.read_bytes())
    change(document["kernels"])
    path.write_bytes(canonical(document) + b"\n")


@pytest.mark.parametrize(
    ("act", "code", "why"),
    [
        (lambda t: _edit(t, lambda rows: rows.pop(FILE)), 4, f"{FILE} is missing in it"),
        (lambda t: _edit(t, lambda rows: rows[FILE].update(sha256="0" * 64)), 4, f"{FILE}: it has another row"),
        (lambda t: _edit(t, lambda rows: rows.update({"evil.py": rows[FILE]})), 4, "evil.py is of no certificate"),
        (lambda t: (t / "kernels" / "evil.py").write_text("import os\n"), 4, "evil.py lies beside it"),
        (lambda t: (t / "kernels" / FILE).unlink(), 4, f"{FILE} is listed, but"),
        (lambda t: (t / "kernels" / FILE).write_text("pass\n"), 4, f"{FILE}: its bytes"),
        (lambda t: (t / "kernels" / "MANIFEST.json").write_text("{"), 2, "not JSON"),
        (lambda t: (t / "kernels" / "MANIFEST.json").unlink(), 2, "no such file"),
        (lambda t: (t / "certs" / "attention-rows.json").unlink(), 4, "attention_rows_float32.py is of no certificate"),
        (lambda t: (t / "certs" / "attention-rows.json").write_text("{}"), 4, "a certificate cannot be read"),
    ],
    ids=[
        "row-gone",
        "row-forged",
        "row-new",
        "file-new",
        "file-gone",
        "file-altered",
        "no-json",
        "gone",
        "cert",
        "bad",
    ],
)
def test_manifest_tampered(tree, act, code, why):
    act(tree)
    found = check_manifest(_stated(tree), tree / "kernels")
    assert found.code == code
    assert why in found.error


def test_rulebook(tmp_path):
    assert check_rulebook().code == 0
    data = (folder("rewrite_rules") / "rulebook.json").read_bytes()
    document = json.loads(data)
    document["rules"][3]["law"] += " "
    for text, code, why in (
        (canonical(document) + b"\n", 4, f"law {document['rules'][3]['id']}"),
        (data + b"\n", 4, "laws"),
        (b"[]", 4, "it is no rulebook"),
        (b"", 2, "empty"),
    ):
        (tmp_path / "rulebook.json").write_bytes(text)
        found = check_rulebook(tmp_path)
        assert found.code == code
        assert why in found.error


# --- what else ends a check ----------------------------------------------------------------------------


def test_deciders_that_disagree(tree, monkeypatch):
    monkeypatch.setattr("moaproof.kernel.bits.sympy_equal", lambda a, b: False)
    out = judge(Job(tree / "certs" / "attention-rows.json", tree / "kernels"), Known())
    assert (out.code, out.kind, out.word()) == (5, "JudgesDisagree", "refused")
    assert out.error.startswith("step ")


def test_an_unlisted_assumption(judged, certificate, monkeypatch):
    monkeypatch.setattr("moaproof.assess.verify.ASSUMPTIONS", ("compiler", "python", "solvers", "table"))
    out = judged(certificate)
    assert (out.code, out.word()) == (3, "unknown")
    assert "exp is not on the committed list" in out.error


def test_figures_do_not_depend_on_what_was_judged_before(tree):
    jobs = [
        Job(tree / "certs" / f"{name}.json", tree / "kernels", ("replay",))
        for name in ("causal-rows", "attention-rows")
    ]
    alone = judge(jobs[1], Known())
    shared = Known()
    judge(jobs[0], shared)
    after = judge(jobs[1], shared)
    assert after.counts == alone.counts
    assert after.verdict.steps == alone.verdict.steps
    assert alone.counts["z3"][2] > 0
    assert alone.counts["sympy"][2] > 0


def test_first_wins_is_a_total_order_of_the_codes():
    assert sorted(FIRST_WINS) == [1, 2, 3, 4, 5]


def test_other_instructions_than_the_certificate_names(monkeypatch, judged, certificate):
    """The text alone is not the program: with an edited exp it is another kernel."""
    monkeypatch.setattr(instructions, "digest", lambda: "0" * 64)
    out = judged(certificate)
    assert out.code == 4
    assert "moaproof/instructions" in out.error
