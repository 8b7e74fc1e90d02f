"""``check_attention``: right kernels are accepted, wrong ones refuted by a small case, misuse has clear errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moaproof.errors import BackendMissing, CertificateInvalid, JudgesDisagree, NotCovered
from moaproof.testing import KernelRefuted, Report, check, check_attention, replay
from moaproof.testing.drawn import POOLS, REGIMES, choices, expand, laid_out, screen, traced

FEW = 9  # cases: 3 screened, 6 drawn
SMALL = {"b": (1, 2), "h": (1, 2), "n": (1, 3, 5), "m": (1, 2, 5, 9), "dk": (1, 3), "dv": (1, 2)}


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return ((q @ k.mT) * scale).softmax(-1) @ v


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    scores = (q @ k.mT) * scale
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return torch.where(seen, scores, -math.inf).softmax(-1) @ v


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """
    q: (n, dk)
    k: (m, dk)
    v: (m, dv)
    mask: bool (n, m)
    """
    return ((q @ k.T) * scale).masked_fill(~mask, -math.inf).softmax(-1) @ v


def grouped(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """
    x: (h = g*r, n, dk)
    y: (g, m, dk)
    z: (g, m, dv)
    """
    r = x.shape[0] // y.shape[0]
    y, z = y.repeat_interleave(r, dim=0), z.repeat_interleave(r, dim=0)
    return ((x @ y.mT) / math.sqrt(x.shape[-1])).softmax(-1) @ z


def product(a: Tensor, b: Tensor) -> Tensor:
    """
    a: (n, k)
    b: (k, m)
    """
    return a @ b


def online(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    *,
    block: int = 4,
    seen: Tensor | None = None,
    hidden: float = -math.inf,
    exp: Callable[[Tensor], Tensor] = torch.exp,
    rescale: bool = True,
    extra: float = 0.0,
    tail: bool = True,
) -> Tensor:
    """A blocked softmax with faults to choose from."""
    top = torch.full((*q.shape[:-1], 1), -math.inf, dtype=q.dtype)
    total, out = torch.zeros_like(top), torch.zeros((*q.shape[:-1], v.shape[-1]), dtype=q.dtype)
    last = k.shape[-2] if tail or k.shape[-2] < block else k.shape[-2] // block * block
    for at in range(0, last, block):
        here = slice(at, min(at + block, last))
        s = (q @ k[..., here, :].mT) * scale
        s = s if seen is None else s.masked_fill(~seen[..., here], hidden)
        new = torch.maximum(top, s.amax(-1, keepdim=True))
        finite = torch.where(new == -math.inf, 0.0, new)  # a row that has seen nothing yet
        p, shrink = exp(s - finite), torch.exp(top - finite)
        total = total * shrink + p.sum(-1, keepdim=True)
        out = (out * shrink if rescale else out) + p @ v[..., here, :]
        top = new
    return torch.where(total == 0, 0.0, out / (total + extra))


@pytest.fixture(autouse=True)
def _each_function_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "traced", lambda spec, fixed: TRACED(spec) if fixed is None else traced(spec, fixed))


TRACED = lru_cache(maxsize=None)(traced)


# --- right kernels -----------------------------------------------------------------------------------


def test_a_blocked_kernel_is_accepted_and_the_report_has_both_oracles() -> None:
    report = check_attention(online, attention, max_examples=FEW, block=4)
    assert isinstance(report, Report)
    assert report.cases + report.outside == FEW
    rows = report.quantiles()
    assert {dtype for _, dtype in rows} == {"float64", "float32"}
    assert {oracle.split()[0] for oracle, _ in rows} == {"PyTorch", "python-flint"}
    for row in rows.values():
        assert list(row) == sorted(row)
        assert row[-1] <= 1.0
    assert max(row[-1] for row in rows.values()) > 1e-4  # the bound is near enough to see something
    assert f"PyTorch {torch.__version__} float64" in str(report)
    assert "worst observed/bound" in report.line()


@pytest.mark.parametrize(
    ("kernel", "spec"),
    [
        (lambda q, k, v, scale: online(q, k, v, scale, seen=torch.ones(q.shape[-2], k.shape[-2]).tril() > 0), causal),
        (lambda q, k, v, mask, scale: online(q, k, v, scale, seen=mask), masked),  # 0 where the function gives NaN
        (masked, masked),  # NaN there
        (grouped, grouped),
        (product, product),  # no attention at all
    ],
    ids=["causal", "masked", "masked, NaN", "grouped", "product"],
)
def test_other_functions(kernel: Any, spec: Any) -> None:
    report = check_attention(kernel, spec, draw={"n": (1, 3), "m": (2, 5)}, max_examples=FEW - 3)
    assert report.cases > 3


def test_arrays_of_numpy_and_sizes_of_zero() -> None:
    given: list[tuple[int, ...]] = []

    def kernel(q: Any, k: Any, v: Any, scale: float) -> Any:
        assert isinstance(q, np.ndarray)
        assert isinstance(scale, float)
        given.append(v.shape)
        return attention(*map(torch.from_numpy, (q, k, v)), scale).numpy()

    check_attention(kernel, attention, arrays="numpy", draw={**SMALL, "m": (0, 2)}, max_examples=FEW)
    assert {shape[2] for shape in given} == {0, 2}
    check_attention(kernel, attention, arrays="numpy", draw={"dk": (2,)}, max_examples=FEW)
    assert all(0 not in shape for shape in given if shape[2] not in (0, 2))


# --- wrong kernels -----------------------------------------------------------------------------------

WRONG: dict[str, dict[str, Any]] = {
    "no rescale": {"rescale": False},
    "denominator + 1e-8": {"extra": 1e-8},
    "denominator + 1e-12": {"extra": 1e-12},
    "exp in float32": {"exp": lambda x: x.float().exp().to(x.dtype)},
    "small weights dropped": {"exp": lambda x: torch.where(x > -4, x.exp(), 0.0)},
    "tail dropped": {"tail": False},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_is_refuted(name: str, tmp_path: Path) -> None:
    def kernel(*args: Any) -> Tensor:
        return online(*args, **WRONG[name])

    with pytest.raises(KernelRefuted) as e:
        check_attention(kernel, attention, failures=tmp_path, draw=SMALL, max_examples=36)
    assert not e.value.outcome.accepted
    assert math.prod(e.value.witness.values()) <= 9  # small
    assert f"sizes     {', '.join(f'{s} = {x}' for s, x in sorted(e.value.witness.items()))}" in str(e.value)
    assert e.value.path is not None
    assert e.value.path.with_suffix(".npz").is_file()


def test_thirty_cases_reach_the_second_block_of_a_long_one(tmp_path: Path) -> None:
    def kernel(*args: Any) -> Tensor:
        return online(*args, block=128, rescale=False)

    with pytest.raises(KernelRefuted) as e:
        check_attention(kernel, attention, failures=tmp_path, block=128)
    assert e.value.witness["m"] > 128


def test_usual_tolerances_accept_what_is_refuted_here(tmp_path: Path) -> None:
    with pytest.raises(KernelRefuted) as e:
        check_attention(
            lambda *args: online(*args, extra=1e-8), attention, failures=tmp_path, draw=SMALL, max_examples=FEW
        )
    outcome = e.value.outcome
    assert outcome.found is not None
    assert np.allclose(outcome.found, outcome.worst.due)


@pytest.mark.parametrize(
    ("kernel", "spec"),
    [
        (attention, causal),  # no mask
        (lambda q, k, v, scale: attention(q.flip(-2), k.flip(-2), v.flip(-2), scale), causal),
        (lambda q, k, v, mask, scale: online(q, k, v, scale, seen=mask, hidden=-1e4), masked),  # a row that sees none
        (lambda q, k, v, mask, scale: online(q, k, v, scale, seen=~mask), masked),
    ],
    ids=["no mask", "reversed", "finite minus infinity", "mask inverted"],
)
def test_a_wrong_mask_is_refuted(kernel: Any, spec: Any, tmp_path: Path) -> None:
    with pytest.raises(KernelRefuted, match="times its tolerance away"):
        check_attention(kernel, spec, failures=tmp_path, max_examples=FEW)


def _counting() -> Callable[..., Tensor]:
    calls: list[int] = []

    def kernel(*args: Any) -> Tensor:
        calls.append(1)
        out = attention(*args)
        return torch.nextafter(out, out + 1) if len(calls) % 2 else out

    return kernel


def _changing(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    out = attention(q, k, v, scale)
    k.mul_(1.0).add_(1.0)
    return out


def _ignoring_strides(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    size = v.numel()
    flat = torch.as_strided(v, (size,), (1,), v.storage_offset()) if v.stride(-1) == 1 else v.reshape(-1)
    return attention(q, k, flat.reshape(v.shape), scale)


FAULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (lambda *a: a[9], r"it raises IndexError: tuple index out of range"),
    "nothing": (lambda *a: None, r"it returns a NoneType; a tensor or an array of shape \(1, 1, 1, 1\) is due"),
    "shape": (lambda *a: attention(*a)[0], r"it returns the shape \(1, 1, 1\); \(1, 1, 1, 1\) is due"),
    "dtype": (lambda *a: attention(*a).float(), r"it returns float32; float64 is due, as the inputs are"),
    "NaN": (lambda *a: attention(*a) * math.nan, r"element \(0, 0, 0, 0\) is nan, inf times its tolerance away"),
    "zeros": (lambda *a: torch.zeros_like(attention(*a)), r"is 0\.0, .* times its tolerance away"),
    "other bits": (_counting(), "two runs on the same inputs give different bits"),
    "input": (_changing, "it changes an input"),
    "strides": (_ignoring_strides, "(transposed|sliced);"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_words_and_is_shrunk(name: str, tmp_path: Path) -> None:
    kernel, words = FAULTS[name]
    with pytest.raises(KernelRefuted, match=words) as e:
        check_attention(kernel, attention, failures=tmp_path, draw=SMALL, max_examples=12)
    if name == "raises":
        assert isinstance(e.value.__cause__, IndexError)
    if name == "strides":
        assert e.value.witness["dv"] * e.value.witness["m"] > 1
    else:
        assert set(e.value.witness.values()) == {1}


# --- stored failures ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.raises(KernelRefuted) as e:
        check_attention(
            lambda *a: online(*a, extra=1e-8), attention, failures=tmp_path_factory.mktemp("stored"), draw=SMALL,
            max_examples=FEW, seed=5, command="python -m pytest x.py::test",
        )  # fmt: skip
    assert "python -m pytest x.py::test --moaproof-profile=moaproof-quick --moaproof-seed=5" in str(e.value)
    assert e.value.path is not None
    assert f'moaproof.testing.replay("{e.value.path}", <lambda>, attention)' in str(e.value)
    return e.value.path


def test_a_stored_failure_is_run_again(failure: Path) -> None:
    with pytest.raises(KernelRefuted, match="times its tolerance away"):
        replay(failure, lambda *a: online(*a, extra=1e-8), attention)
    report = replay(failure, online, attention)  # mended
    assert (report.cases, report.profile) == (1, "the stored case")


def test_a_stored_failure_names_what_it_needs(failure: Path) -> None:
    document = json.loads(failure.read_bytes())
    assert document["seed"] == 5
    assert {j["oracle"].split()[0] for j in document["judged"]} == {"PyTorch", "python-flint"}
    assert {"python", "moaproof", "torch", "numpy", "hypothesis"} == set(document["versions"])
    with np.load(failure.with_suffix(".npz"), allow_pickle=False) as data:
        assert {"input_q", "input_k", "input_v", "found", "due_torch", "tolerance_enclosure"} <= set(data)


def test_another_function_is_not_judged_by_a_stored_failure(failure: Path) -> None:
    with pytest.raises(NotCovered, match="another function than causal"):
        replay(failure, online, causal)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.unlink(), "cannot be read"),
        (lambda f: f.write_text("{"), "not JSON"),
        (lambda f: f.write_text("[" * 100_000), "not JSON"),
        (lambda f: f.write_text("[]"), "not a stored failure of schema"),
        (lambda f: f.write_text(f.read_text().replace('"b":1', '"b":-1')), "-1 is no size"),
        (lambda f: f.write_text(f.read_text().replace('"arrays":"torch"', '"arrays":"jax"')), "none of the known"),
        (lambda f: f.write_text(f.read_text().replace('"dtype":', '"type":')), "not a stored failure"),
        (lambda f: f.write_text(f.read_text().replace('"m":1', '"m":2')), "has the shape"),
        (lambda f: f.with_suffix(".npz").unlink(), "stored inputs cannot be read"),
        (lambda f: np.savez(f.with_suffix(".npz"), input_q=np.array([object()])), "stored inputs cannot be read"),
    ],
    ids=["missing", "truncated", "deep", "list", "size", "arrays", "field", "shape", "no arrays", "pickle"],
)
def test_a_bad_stored_failure_is_refused(failure: Path, tmp_path: Path, change: Any, message: str) -> None:
    copy = tmp_path / failure.name
    for one, other in ((failure, copy), (failure.with_suffix(".npz"), copy.with_suffix(".npz"))):
        other.write_bytes(one.read_bytes())
    change(copy)
    with pytest.raises(CertificateInvalid, match=message):
        replay(copy, online, attention)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotCovered, match=r"cannot be stored .*it returns a NoneType"):
        check_attention(lambda *a: None, attention, failures=tmp_path / "file" / "x", draw=SMALL, max_examples=3)


# --- oracles -----------------------------------------------------------------------------------------


def test_without_python_flint_the_first_oracle_judges_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(*_: Any) -> Any:
        raise BackendMissing("no balls")

    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(check, "enclosed", missing)
    with monkeypatch.context() as patch:
        patch.setattr(check, "version", version)
        report = check_attention(online, attention, draw=SMALL, max_examples=FEW)
        assert {oracle.split()[0] for oracle, _ in report.quantiles()} == {"PyTorch"}
        assert "python-flint is not installed, so nothing encloses the exact value" in str(report)
    with pytest.raises(KernelRefuted, match="times its tolerance"):
        check_attention(lambda *a: online(*a, extra=1e-8), attention, failures=tmp_path, draw=SMALL, max_examples=FEW)


def test_oracles_that_contradict_each_other_judge_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    enclosed = check.enclosed
    monkeypatch.setattr(check, "enclosed", lambda *a: (enclosed(*a)[0] + 1e-9, enclosed(*a)[1]))
    with pytest.raises(JudgesDisagree, match=r"attention: element .* by PyTorch and .* by the enclosure of its Spec"):
        check_attention(online, attention, draw=SMALL, max_examples=3)


def test_a_tolerance_counts_the_rescales() -> None:
    t = traced(attention)
    (case,) = screen(choices(t, {"m": (64,)}), 1, 0)
    inputs = expand(t, case)
    sizes = dict(case.sizes)
    loose, tight = (check.tolerance(t, sizes, inputs, "float64", block) for block in (1, 32))
    assert (loose >= tight).all()
    assert loose.max() > 1.2 * tight.max()


# --- what is drawn -----------------------------------------------------------------------------------


def test_screened_cases_show_much_together() -> None:
    t = traced(masked)
    found = screen(choices(t, {}), 18, 0)
    assert {c.regime for c in found} == set(REGIMES)
    assert {c.dtype for c in found} == {"float64", "float32"}
    assert {c.layout for c in found} == {"contiguous", "transposed", "sliced"}
    assert len({c.pool for c in found} & set(POOLS)) > 3
    assert all(dict(c.sizes)["m"] >= 33 for c in found)
    assert any(dict(c.sizes)["m"] > 128 for c in found)
    assert found == screen(choices(t, {}), 18, 0)
    assert found != screen(choices(t, {}), 18, 1)


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4), (2, 3, 4, 5), (2, 0, 3)])
def test_a_layout_keeps_the_values(layout: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    view, _ = laid_out(x, layout)
    assert np.array_equal(view.numpy(), x)
    assert view.is_contiguous() == (layout == "contiguous" or x.size < 2 or (layout == "transposed" and x.ndim < 2))


def test_a_seed_gives_the_same_cases_and_none_gives_others() -> None:
    def shapes(**options: Any) -> list[tuple[int, ...]]:
        seen: list[tuple[int, ...]] = []

        def kernel(*args: Any) -> Tensor:
            seen.append((*args[0].shape, *args[2].shape, args[3]))
            return attention(*args)

        check_attention(kernel, attention, draw=SMALL, max_examples=FEW, **options)
        return seen

    assert shapes() == shapes()  # quick
    first = shapes(seed=1)
    assert first == shapes(seed=1)
    assert first != shapes(seed=2)


# --- misuse ------------------------------------------------------------------------------------------


def data_dependent(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q @ k.mT @ v if q.sum() > 0 else v


def sigmoids(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).sigmoid() @ v


def unbounded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.mT).exp()
    return (weights / weights.sum(-1, keepdim=True)) @ v


@pytest.mark.parametrize(
    ("kernel", "spec", "options", "message"),
    [
        (7, attention, {}, "kernel: a callable is due, not a int"),
        (online, 7, {}, "spec: int is no function written with def"),
        (online, lambda q, k, v: q, {}, "spec: <lambda> is no function written with def"),
        (online, torch.nn.functional.scaled_dot_product_attention, {}, "wrap it: def spec"),
        (online, data_dependent, {}, "a value decides a branch"),
        (online, sigmoids, {}, r"test_check\.py:\d+: sigmoids: aten\.sigmoid"),
        (online, unbounded, {}, "unbounded: no error bound of its Spec is known"),
        (online, attention, {"arrays": "jax"}, "arrays: one of torch, numpy is due"),
        (online, attention, {"block": 0}, "block: a number of keys"),
        (online, attention, {"seed": -1}, "seed: a natural number"),
        (online, attention, {"dtypes": ("float16",)}, "dtypes: some of float64, float32 are due"),
        (online, attention, {"layouts": ()}, "layouts: some of"),
        (online, attention, {"draw": {"d": (1,)}}, "d is no size or number of attention that is drawn; there are b, h"),
        (online, attention, {"draw": {"m": ()}}, "draw: m: some natural numbers are due"),
        (online, attention, {"draw": {"m": (1.5,)}}, "draw: m: some natural numbers are due"),
        (online, attention, {"draw": {"scale": (1e39,)}}, "draw: scale: .* is not finite in float64 or float32"),
        (online, attention, {"profile": "slow"}, "known are moaproof-quick"),
        (online, attention, {"max_examples": 0}, "at least 1 is due"),
        (online, attention, {"fixed": {"window": 3}}, "fixed names window, which is no parameter"),
    ],
)
def test_misuse_is_refused(kernel: Any, spec: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(NotCovered, match=message):
        check_attention(kernel, spec, **options)


def test_a_check_that_could_judge_nothing_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def outside(*_: Any) -> Any:
        raise NotCovered("error bound: a value on the way could overflow")

    monkeypatch.setattr(check, "tolerance", outside)
    with pytest.raises(NotCovered, match="attention: no case could be judged: error bound: a value"):
        check_attention(online, attention, draw=SMALL, max_examples=FEW)
