"""``moaproof fuzz``: what is printed, stored, replayed, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from moaproof.errors import CertificateInvalid, NotCovered
from moaproof.runtime.attention import KEYS, Call
from moaproof.runtime.attention import run as run_kernel
from moaproof.testing import campaign, profiles
from moaproof.testing.strategies import Case

ONE_KERNEL = {"kinds": ("plain",), "dtypes": ("float64",), "groups": (1,)}


def narrow(patch: pytest.MonkeyPatch, runner: object = run_kernel) -> None:
    """Draw for one kernel only: each of the others would be compiled."""
    explore = campaign.explore

    def narrowed(report: campaign.Report, options: settings, start: int | None) -> None:
        explore(report, options, start, runner=runner, **ONE_KERNEL)  # type: ignore[arg-type]

    patch.setattr(campaign, "explore", narrowed)


def wrong(call: Call, sizes: dict[str, int]) -> torch.Tensor:
    """The right output, but one element of a row of more than two keys is off by 1e-9."""
    out = run_kernel(call, sizes)
    if out.numel() and sizes["m"] > 2:
        out.view(-1)[-1] += 1e-9 * max(1.0, float(out.view(-1)[-1].abs()))
    return out


def test_an_accepted_campaign_reports_its_worst_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)
    said: list[str] = []
    assert campaign.run("quick", max_examples=25, out=tmp_path, say=said.append) == 0
    assert said[-1].startswith("25 cases, ")
    assert any(line.startswith("attention-online/float64") for line in said)
    report = json.loads((tmp_path / "report.json").read_bytes())
    row = report["families"]["attention-online/float64"]
    assert row["cases"] == report["cases"] == 25
    assert 0.0 < float.fromhex(row["worst"]) <= 1.0
    assert [f.name for f in tmp_path.iterdir()] == ["report.json"]


def test_the_same_seed_draws_the_same_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)
    said: list[list[str]] = [[], [], []]
    for lines, seed in zip(said, (3, 3, 4), strict=True):
        campaign.run("default", max_examples=15, seed=seed, say=lines.append)
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_a_failure_is_shrunk_stored_and_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with monkeypatch.context() as patch:
        narrow(patch, wrong)
        assert campaign.run("quick", out=tmp_path, say=said.append) == 1
    (stored,) = tmp_path.glob("failure-*.json")
    assert any(str(stored) in line for line in said)
    document = json.loads(stored.read_bytes())
    case = Case(**(document["case"] | {"scale": None, "steps": tuple(document["case"]["steps"])}))
    assert (case.b, case.g, case.n, case.m, case.regime, case.layout) == (
        1,
        1,
        3,
        3,
        "normal",
        "contiguous",
    )  # smallest
    assert document["certificate"] == "attention-online"
    assert len(document["sha256"]) == 64
    assert float.fromhex(document["observed"]) > float.fromhex(document["bound"])
    assert set(document["versions"]) == {"python", "moaproof", "torch", "numba", "numpy", "hypothesis"}

    said.clear()
    with monkeypatch.context() as patch:
        attempt = campaign.attempt
        patch.setattr(campaign, "attempt", lambda x, tq, tk: attempt(x, tq, tk, wrong))
        assert campaign.run(replay=stored, say=said.append) == 1
    assert "now: refuted: element" in said[-1]
    assert campaign.run(replay=stored, say=said.append) == 0  # the kernel itself has no such fault
    assert "now: accepted" in said[-1]


@pytest.fixture
def failure(tmp_path: Path) -> Path:
    case = Case(kind="masked", pattern="rows", layout="sliced", steps=(0, 1, 1, 0), scale=0.1)
    x = campaign.expand(case)
    result = campaign.attempt(x, None, None, lambda call, sizes: torch.zeros(call.shape, dtype=torch.float64))
    return campaign.store(case, result, tmp_path)


def test_stored_inputs_are_those_that_failed(failure: Path) -> None:
    x = campaign.expand(Case(kind="masked", pattern="rows", layout="sliced", steps=(0, 1, 1, 0), scale=0.1))
    with np.load(failure.with_suffix(".npz"), allow_pickle=False) as data:
        assert np.array_equal(data["q"], x.q.numpy())
        assert np.array_equal(data["mask"], x.mask.numpy())
        assert not data["found"].any()
        assert data["tolerance"].shape == data["due"].shape == (1, 1, 3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.unlink(), "cannot be read"),
        (lambda f: f.write_text("{"), "not JSON"),
        (lambda f: f.write_text("[]"), "not a stored failure"),
        (lambda f: f.write_text('{"schema": "moaproof/failure/2"}'), "not a stored failure"),
        (lambda f: f.write_text(f.read_text().replace('"tq":', '"tr":')), "tq: int is due"),
        (lambda f: f.write_text(f.read_text().replace('"causal":false', '"causal":0')), "causal: bool is due"),
        (lambda f: f.write_text(f.read_text().replace(f'"tk":{KEYS}', '"tk":-1')), "positive numbers are due"),
        (lambda f: f.with_suffix(".npz").unlink(), "stored inputs cannot be read"),
        (lambda f: f.with_suffix(".npz").write_bytes(b"PK"), "stored inputs cannot be read"),
        (
            lambda f: np.savez(f.with_suffix(".npz"), q=np.array([object()]), k=np.ones(1)),
            "stored inputs cannot be read",
        ),
        (lambda f: np.savez(f.with_suffix(".npz"), q=np.ones((1, 1, 1, 1))), "stored inputs cannot be read"),
    ],
    ids=[
        "missing",
        "truncated",
        "list",
        "schema",
        "field",
        "type",
        "range",
        "no arrays",
        "bad arrays",
        "pickle",
        "few",
    ],
)
def test_a_bad_stored_failure_is_refused(failure: Path, change: object, message: str) -> None:
    change(failure)  # type: ignore[operator]
    with pytest.raises(CertificateInvalid, match=message):
        campaign.run(replay=failure, say=lambda _: None)


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotCovered, match="cannot be written"):
        campaign.run("quick", out=tmp_path / "file" / "folder", say=lambda _: None)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(NotCovered, match="known are moaproof-quick, moaproof-default, moaproof-nightly"):
        campaign.run("slow", say=lambda _: None)


def test_every_field_of_a_profile_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever profile is active when they are made, they come out the same: nothing is inherited."""
    fields = [name for name in dir(settings.default) if isinstance(getattr(settings, name, None), property)]
    assert "derandomize" in fields
    before = settings.get_current_profile_name()
    settings.register_profile(
        "strange", max_examples=3, derandomize=True, database=None, deadline=1, print_blob=False, stateful_step_count=2,
        phases=[Phase.reuse], suppress_health_check=list(HealthCheck), report_multiple_bugs=True,
    )  # fmt: skip
    for name in profiles.EXAMPLES:
        due = profiles.profile(name)
        try:
            settings.load_profile("strange")
            found = profiles.profile(name)
        finally:
            settings.load_profile(before)
        for one in (f for f in fields if f != "database"):
            assert getattr(found, one) == getattr(due, one), (name, one)
        assert (found.database is None) == (due.database is None) == (name == "moaproof-quick")


def test_profiles_are_registered_by_name() -> None:
    profiles.register()
    assert settings.get_profile("moaproof-nightly").max_examples == 20_000
    assert settings.get_profile("moaproof-quick").derandomize
    assert not settings.get_profile("moaproof-default").derandomize
