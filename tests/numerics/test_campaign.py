"""``moaproof fuzz``: what is printed, stored, replayed, and the exit codes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers

from moaproof.errors import CertificateInvalid, NotCovered
from moaproof.runtime.attention import KEYS, Call
from moaproof.runtime.attention import run as run_kernel
from moaproof.testing import campaign, environment, profiles, store
from moaproof.testing.jobs import Batch, Plan
from moaproof.testing.report import Comparison, Family, Report, Spread
from moaproof.testing.strategies import Case, expand
from moaproof.testing.trial import attempt

# One kernel only: each of the others would be compiled.
ONE_KERNEL: dict[str, tuple[Any, ...]] = {
    "kinds": ("plain",), "dtypes": ("float64",), "groups": (1,), "specials": ("none",),
}  # fmt: skip


def wrong(call: Call, sizes: dict[str, int]) -> torch.Tensor:
    """The right output, but one element of a row of more than two keys is off by 1e-9."""
    out = run_kernel(call, sizes)
    if out.numel() and sizes["m"] > 2:
        out.view(-1)[-1] += 1e-9 * max(1.0, float(out.view(-1)[-1].abs()))
    return out


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a campaign of 25 cases, and what it said."""
    folder, said = tmp_path_factory.mktemp("accepted"), list[str]()
    assert campaign.run("quick", max_examples=25, out=folder, drawn=ONE_KERNEL, say=said.append) == 0
    return folder, said


def test_an_accepted_campaign_reports_distributions(accepted: tuple[Path, list[str]]) -> None:
    folder, said = accepted
    assert said[-1].startswith("25 cases, ")
    assert any(line.startswith("attention-online/float64") and "PyTorch float64" in line for line in said)
    report = json.loads((folder / "report.json").read_bytes())
    (name,) = report["families"]
    family = report["families"][name]
    assert name == "attention-online/float64"
    assert family["cases"] == report["cases"] == 25
    assert [s["oracle"] for s in family["oracles"]] == ["PyTorch float64", "python-flint enclosure"]
    for spread in family["oracles"]:
        assert sum(spread["histogram"].values()) == spread["elements"] == report["elements"]
        assert 0.0 < float.fromhex(spread["worst"]) <= 1.0
        assert 0.0 < spread["histogram"].get("0", 0) < spread["elements"]
    assert family["against_pytorch"]["rows"] > 0
    assert float.fromhex(family["against_pytorch"]["ours"]) > 0.0
    assert report["oracles"]["PyTorch float64"] == torch.__version__
    names = {f.name for f in folder.iterdir()}
    assert names == {"ledger.ndjson", "report.json", "worst-attention-online-float64.json"}


def test_the_worst_case_is_run_again_from_its_file(accepted: tuple[Path, list[str]]) -> None:
    folder, _ = accepted
    report = json.loads((folder / "report.json").read_bytes())
    worst = max(float.fromhex(s["worst"]) for s in report["families"]["attention-online/float64"]["oracles"])
    said: list[str] = []
    assert campaign.run(replay=folder / "worst-attention-online-float64.json", say=said.append) == 0
    assert f"observed/bound {worst:.3g}" in said[1]
    assert any(line.endswith(f"worst observed/bound {worst:.3g}") for line in said)
    assert "now: accepted" in said[-1]


def test_without_python_flint_the_first_oracle_judges_alone_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flint", None)
    monkeypatch.setattr(environment, "oracles", lambda: {"PyTorch float64": "2", "python-flint": "missing"})
    said: list[str] = []
    assert campaign.run("quick", max_examples=10, out=tmp_path, drawn=ONE_KERNEL, say=said.append) == 0
    assert "judged by PyTorch float64 2 alone" in said[0]
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert [s["oracle"] for s in report["families"]["attention-online/float64"]["oracles"]] == ["PyTorch float64"]
    assert report["oracles"]["python-flint"] == "missing"


def test_the_same_seed_draws_the_same_cases() -> None:
    said: list[list[str]] = [[], [], []]
    for lines, start in zip(said, (3, 3, 4), strict=True):
        campaign.run("default", max_examples=8, seed=start, drawn=ONE_KERNEL, say=lines.append)
    assert said[0] == said[1]
    assert said[0][1:] != said[2][1:]  # the first line is the seed


def test_no_number_of_a_loaded_module_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a worker, which has other modules, draws other cases from the same seed; Hypothesis itself does."""

    def asked() -> None:
        raise LookupError

    monkeypatch.setattr(providers, "_get_local_constants", asked)
    numbers = settings(max_examples=200, database=None)(given(st.integers(0, 2**32 - 1))(lambda _: None))
    with pytest.raises(LookupError):
        seed(0)(numbers)()
    with campaign._no_constants():
        seed(0)(numbers)()
    assert campaign.run("quick", max_examples=20, seed=0, drawn=ONE_KERNEL, say=lambda _: None) == 0


def test_a_failure_is_shrunk_stored_and_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert campaign.run("quick", out=tmp_path, drawn=ONE_KERNEL, runner=wrong, say=said.append) == 1
    (stored,) = tmp_path.glob("failure-*.json")
    assert any(str(stored) in line for line in said)
    document = json.loads(stored.read_bytes())
    assert Case.from_json(document["case"]) == Case()  # the smallest
    assert document["certificate"] == "attention-online"
    assert len(document["sha256"]) == 64
    assert float.fromhex(document["observed"]) > float.fromhex(document["bound"])
    assert set(document["versions"]) == {"python", "moaproof", "torch", "numba", "numpy", "hypothesis"}
    (error,) = json.loads((tmp_path / "report.json").read_bytes())["errors"]
    assert (error["kind"], error["batch"], error["failure"]) == ("refuted", 0, stored.stem)

    said.clear()
    assert campaign.run("quick", out=tmp_path, drawn=ONE_KERNEL, say=said.append) == 1  # the ledger has it
    assert any(line.startswith("refuted before") and stored.name in line for line in said)

    said.clear()
    with monkeypatch.context() as patch:
        patch.setattr(store, "attempt", lambda x, tq, tk: attempt(x, tq, tk, wrong))
        assert campaign.run(replay=stored, say=said.append) == 1
    assert "now: refuted: element" in said[-1]
    assert campaign.run(replay=stored, say=said.append) == 0  # the kernel itself has no such fault
    assert "now: accepted" in said[-1]


def test_the_cases_of_shrinking_are_not_counted() -> None:
    report = Report()
    judged: list[int] = []

    def counted(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        judged.append(1)
        return wrong(call, sizes)

    with pytest.raises(campaign.Failed):
        campaign.explore(report, profiles.profile("quick"), 0, counted, **ONE_KERNEL)
    assert report.cases < len(judged) // 2  # a case runs twice, and shrinking takes more of them


def test_a_kernel_that_fails_once_is_refuted(tmp_path: Path) -> None:
    """What does not fail again has no smaller case, and is a failure all the same."""
    calls: list[int] = []

    def once(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        calls.append(1)
        return torch.zeros(call.shape, dtype=torch.float64) if len(calls) == 7 else run_kernel(call, sizes)

    said: list[str] = []
    assert campaign.run("quick", out=tmp_path, drawn=ONE_KERNEL, runner=once, say=said.append) == 1
    assert any("two runs gave different bits" in line for line in said)
    assert list(tmp_path.glob("failure-*.json"))


def test_a_kernel_that_raises_fails_its_batch_and_the_next_one_runs(tmp_path: Path) -> None:
    calls: list[int] = []

    def raising(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        calls.append(1)
        if len(calls) < 1000 and sizes["m"] > 2:
            raise ZeroDivisionError("a divisor is 0")
        return run_kernel(call, sizes)

    said: list[str] = []
    plan = Plan("moaproof-quick", 5, 20, tuple(ONE_KERNEL.items()))
    outcome = campaign.run_batch(plan, Batch(3, 20), raising)
    assert outcome.line["errors"] == [{"kind": "raised", "reason": "ZeroDivisionError: a divisor is 0"}]
    assert outcome.line["seed"] == 5 * 2**32 + 3
    c = campaign._Campaign(plan, tmp_path, None, said.append)
    c.take(iter((outcome, campaign.run_batch(plan, Batch(4, 5)))))
    assert campaign._finish(c) == 1
    assert f"batch 3 (seed {5 * 2**32 + 3}) raised: ZeroDivisionError: a divisor is 0" in said
    assert said[-1].startswith("5 cases")


def test_a_batch_remembers_no_failure_of_an_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis would try those first, and the batch would find something else the second time."""
    monkeypatch.chdir(tmp_path)  # where the profile's database would be

    def wrong_on_many(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        return wrong(call, sizes) if sizes["n"] > 3 else run_kernel(call, sizes)

    plan = Plan("moaproof-default", 1, 20, tuple(ONE_KERNEL.items()))
    first, second = (campaign.run_batch(plan, Batch(0, 12), wrong_on_many) for _ in range(2))
    assert first == second
    assert first.line["cases"] > 1
    assert first.line["errors"][0]["kind"] == "refuted"


# --- the report -------------------------------------------------------------------------------------


def test_a_spread_counts_by_powers_of_two_and_adds_up_in_any_order() -> None:
    parts = [np.array([0.0, 0.25, 0.3, 0.5]), np.array([0.75, 1.0, 3.0]), np.array([np.inf]), np.array([0.5])]
    cases = [{"n": i} for i in range(4)]
    found = []
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)):
        s = Spread()
        for i in order:
            one = Spread()
            one.add(parts[i], cases[i], i)
            s.merge(one)
        found.append(s)
    assert found[0].to_json() == found[1].to_json() == found[2].to_json()
    json_ = found[0].to_json()
    assert json_["histogram"] == {"0": 1, "2^-1": 2, "2^0": 3, "2^1": 1, "2^2": 1, "inf": 1}
    assert (json_["elements"], json_["worst"], json_["case"], json_["batch"]) == (9, "inf", {"n": 2}, 2)
    assert Spread.from_json(json.loads(json.dumps(json_))) == found[0]
    assert [found[0].quantile(p) for p in (0.1, 0.3, 0.6, 0.85, 1.0)] == [0.0, 0.5, 1.0, 4.0, np.inf]


def test_of_equal_worst_cases_that_of_the_lowest_batch_is_kept() -> None:
    s = Spread()
    for batch in (4, 2, 9):
        s.add(np.array([0.5]), {"n": batch}, batch)
    assert (s.case, s.batch) == ({"n": 2}, 2)


def test_a_bound_a_hundred_times_too_large_is_called_loose() -> None:
    report = Report()
    for name, worst in (("tight", 0.0101), ("slack", 0.0099)):
        report.families[name] = Family(1, {"PyTorch float64": Spread()})
        report.families[name].oracles["PyTorch float64"].add(np.array([worst]), {}, 0)
    loose = [line for line in report.lines() if "loose" in line]
    assert len(loose) == 1
    assert loose[0].startswith("slack")


@pytest.mark.parametrize(
    ("ours", "plain", "kept"), [(4.0, 0.0, True), (4.01, 0.0, False), (8.0, 2.0, True), (1.0, 7.0, True)]
)
def test_more_than_twice_pytorch_is_said(ours: float, plain: float, kept: bool) -> None:
    report = Report(families={"f": Family(1, {"o": Spread()}, Comparison(1, ours, plain, 3, 2))})
    said = "\n".join(report.lines())
    assert ("more than 2 * PyTorch's + 4" in said) == (not kept)
    assert ("PyTorch's is more than 2 * ours + 4" in said) == (plain > 2 * ours + 4)
    assert "not compared: 3 rows of causal calls with a scale <= 0" in said
    assert "not compared: 2 more rows" in said


def _judged(case: Case, runner: Any = run_kernel) -> Comparison:
    x = expand(case)
    return campaign.compared(x, attempt(x, case.tq, case.tk, runner))


def test_errors_are_compared_in_units_of_the_row() -> None:
    """An output of zeros errs by |o| <= max|v|, so by at most 1/u units, whatever the size of the values."""
    zeros = lambda call, sizes: torch.zeros(call.shape, dtype=torch.float64)  # noqa: E731
    for pool in ("constant", "large"):
        found = _judged(Case(pool=pool, regime="zero", n=5), zeros)
        assert 0.01 < found.ours * 2.0**-53 <= 1.0
        assert found.plain < 16.0
        assert found.rows == 5
        assert not found.kept
    assert _judged(Case(pool="subnormal")).ours <= 2.0  # the unit is never below that of normal numbers


def test_rows_that_pytorch_gets_wrong_are_left_out_by_name() -> None:
    for scale in (-0.5, 0.0):
        case = Case(kind="causal", scale=scale, n=5, m=4)
        assert _judged(case) == Comparison(excluded=5)
        assert bool(torch.isnan(campaign._plain(expand(case))).any())  # that is why
        masked = Case(kind="masked", scale=scale, n=5, m=4)  # with a mask, and without masked keys, it is right
        assert not bool(torch.isnan(campaign._plain(expand(masked))).any())
        assert _judged(Case(scale=scale)).rows == 3


def test_empty_outputs_compare_nothing() -> None:
    assert _judged(Case(n=0)) == Comparison()
    assert _judged(Case(b=0)) == Comparison()


# --- stored failures --------------------------------------------------------------------------------


LAID = Case(kind="masked", pattern="rows", layout="sliced", steps=(0, 1, 1, 0), scale=0.1)


@pytest.fixture
def failure(tmp_path: Path) -> Path:
    result = attempt(expand(LAID), None, None, lambda call, sizes: torch.zeros(call.shape, dtype=torch.float64))
    return store.store(LAID, result, tmp_path)


def test_stored_inputs_are_those_that_failed(failure: Path) -> None:
    x = expand(LAID)
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


# --- cases in files, and promotion ------------------------------------------------------------------


def test_a_failure_is_promoted_to_a_small_file_that_runs(failure: Path, tmp_path: Path) -> None:
    said: list[str] = []
    to = tmp_path / "regressions"
    made = store.promote(failure, to, said.append)
    assert list(to.iterdir()) == [made]
    assert str(made) in said[0]
    document = json.loads(made.read_bytes())
    assert set(document) == {"schema", "case", "why", "of", "inputs"}  # no arrays
    assert made.stat().st_size < 1500
    stored, before = store.read(made), store.read(failure)
    assert (stored.tq, stored.tk, stored.why) == (before.tq, before.tk, before.why)
    assert store.digest_of(stored.inputs) == store.digest_of(before.inputs)
    assert stored.inputs.q.stride() == expand(LAID).q.stride() != before.inputs.q.stride()  # its layout too
    assert campaign.run(replay=made, say=said.append) == 0
    assert "now: accepted" in said[-1]
    again = store.promote(made, to, said.append)  # of a case the same case
    assert again == made


def test_a_case_that_gives_other_tensors_today_is_promoted_with_its_arrays(
    failure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store.read(failure)
    alone = store.promote(failure, tmp_path / "a", lambda _: None)
    monkeypatch.setattr(store, "expand", lambda case: expand(replace(case, seed=case.seed + 1)))
    with pytest.raises(CertificateInvalid, match="gives other tensors than when it was stored"):
        store.read(alone)
    made = store.promote(failure, tmp_path / "b", lambda _: None)
    held = store.read(made)
    assert set(json.loads(made.read_bytes())["arrays"]) == {"q", "k", "v", "mask"}
    assert store.digest_of(held.inputs) == store.digest_of(old.inputs)
    monkeypatch.setattr(store, "MOST_HELD", 100)
    with pytest.raises(NotCovered, match="more than the 100"):
        store.promote(failure, tmp_path / "c", lambda _: None)


def test_a_failure_of_another_version_is_replayed_and_not_promoted(failure: Path, tmp_path: Path) -> None:
    document = json.loads(failure.read_bytes())
    document["case"]["colour"] = "red"
    failure.write_text(json.dumps(document))
    assert store.read(failure).case is None
    with pytest.raises(NotCovered, match="of another version of moaproof"):
        store.promote(failure, tmp_path / "to", lambda _: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"why": 3}, "why: text is due"),
        ({"colour": "red"}, "colour: no field"),
        ({"case": []}, "case: an object is due"),
        ({"case": {"colour": "red"}}, "case: colour: no field of a case"),
        ({"case": {"n": "3"}}, "case: n: int is due"),
        ({"case": {"n": True}}, "case: n: int is due"),
        ({"case": {"n": -1}}, "natural numbers"),
        ({"case": {"n": 10**9}}, "more than"),
        ({"case": {"n": 2**13, "m": 2**13, "kind": "masked"}}, "more than"),
        ({"case": {"tk": 0}}, "tiles positive ones"),
        ({"case": {"scale": "x"}}, "case: scale: float . None is due"),
        ({"case": {"scale": True}}, "case: scale: float . None is due"),
        ({"case": {"steps": [1, 1]}}, "case: steps"),
        ({"case": {"regime": "odd"}}, "case: regime: one of normal"),
        ({"case": {"dtype": "float16"}}, "case: dtype: one of"),
        ({"inputs": "0"}, "other tensors"),
        ({"arrays": {"q": {"shape": [1], "bytes": "00"}}}, "arrays: cannot be read"),
        ({"arrays": {}}, "arrays: cannot be read"),
        ({"arrays": []}, "arrays: cannot be read"),
    ],
)
def test_a_bad_case_file_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text(json.dumps({"schema": store.CASE, "case": {}, "why": "", **change}))
    with pytest.raises(CertificateInvalid, match=message):
        store.read(path)


def test_a_case_file_needs_little() -> None:
    assert store.case_of({}, "here") == Case()
    full = Case(kind="masked", steps=(0, 1, 1, 0), scale=0.1, tq=3, special="masked")
    assert store.case_of(json.loads(json.dumps(full.to_json())), "here") == full


# --- before any work --------------------------------------------------------------------------------


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
