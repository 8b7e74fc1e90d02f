"""The programs of ``make ptx`` and ``make test-gpu`` are seen to fail, here where there is neither compiler nor GPU.

The campaign runs on the CPU with a stand-in kernel: PyTorch's attention, right or spoilt.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from moaproof.runtime import cuda_tiles
from moaproof.runtime.attention import Call, prepare
from moaproof.testing import gpu
from moaproof.testing.gpu import Block, Tensors
from moaproof.testing.strategies import Case

TESTS = Path(__file__).parents[1]


def program(name: str) -> ModuleType:
    spec = spec_from_file_location(f"moaproof_{Path(name).stem}", TESTS / name)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# --- PTX --------------------------------------------------------------------------------------------

PLAIN = """\
	.reg .f64 %fd<9>;
	ld.shared.f64 %fd1, [%rd1+133120];
	st.global.f32 [%rd2], %f1;
	ld.param.u64 %rd3, [kernel_param_0];
	@%p3 ld.global.nc.u8 %rs1, [%rd4];
	fma.rn.f64 %fd2, %fd1, %fd1, %fd2;
	div.rn.f32 %f2, %f3, %f4;
	ex2.approx.ftz.f32 %f5, %f6;
	bar.sync 0;
"""
REFUSED = {
    "	.local .align 16 .b8 __local_depot0[480];": "local memory",
    "	ld.local.u64 %rd1, [%rd2];": "local memory",
    "	call.uni (retval0), numba_attempt_nocopy_reshape, (param0);": "a call",
    ".extern .func (.param .b32 x) other": "a call",
    "	ld.f64 %fd1, [%rd1];": "generic address",
    "	@%p1 st.v2.f32 [%rd1], {%f1, %f2};": "generic address",
    "	div.approx.f32 %f1, %f2, %f3;": "not IEEE's",
    "	div.full.f32 %f1, %f2, %f3;": "not IEEE's",
    "	sqrt.approx.f32 %f1, %f2;": "not IEEE's",
    "	mul.rn.ftz.f32 %f1, %f2, %f3;": "subnormal",
    "	@%p1 fma.rn.ftz.f32 %f1, %f2, %f3, %f4;": "subnormal",
}


def test_plain_code_is_accepted() -> None:
    assert program("ptx.py").complaints(PLAIN) == []


@pytest.mark.parametrize("line", REFUSED)
def test_code_that_is_not_what_the_text_says_is_refused(line: str) -> None:
    (complaint,) = program("ptx.py").complaints(PLAIN + line + "\n")
    assert REFUSED[line] in complaint


def test_parameters_of_an_entry_are_counted() -> None:
    head = ".visible .entry kernel(\n\t.param .u64 a,\n\t.param .f64 b\n)\n.maxntid 256\n{\n\t.param .b32 no;\n}"
    assert program("ptx.py").parameters(head) == 2


def test_without_the_compiler_ptx_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "numba_cuda", None)
    monkeypatch.setattr(sys, "argv", ["ptx.py"])
    assert program("ptx.py").main() == 3
    assert "numba-cuda is missing; `make .venv/.cuda` installs it" in capsys.readouterr().out


def test_without_a_gpu_or_its_compiler_the_tests_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start = program("gpu/conftest.py")
    for gpus, package, message in ((False, object(), "PyTorch sees no GPU"), (True, None, "numba-cuda is missing")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=gpus: found)
        monkeypatch.setattr(start, "find_spec", lambda name, found=package: found)
        with pytest.raises(pytest.exit.Exception, match=message) as e:
            start.pytest_sessionstart()
        assert e.value.returncode == 3
    monkeypatch.setattr(start, "find_spec", lambda name: object())
    start.pytest_sessionstart()


# --- the campaign -----------------------------------------------------------------------------------


class Stand:
    """In place of the GPU: what a kernel gives for the tensors of the last prepared call."""

    def __init__(self, patch: pytest.MonkeyPatch, spoil: Callable[[torch.Tensor, Tensors], torch.Tensor]) -> None:
        self.last: tuple[Tensors, Case] | None = None
        self.spoil = spoil
        self.module = program("gpu/campaign.py")
        patch.setattr(Tensors, "prepared", lambda x, case: self.prepared(x, case))  # noqa: PLW0108  a method binds its instance, not x
        patch.setattr(self.module, "run", lambda call, sizes: self.result())
        patch.setattr(self.module, "attention", lambda q, k, v, **_: self.result())
        patch.setattr(self.module, "tiled", self.tiled)

    def prepared(self, x: Tensors, case: Case) -> Call:
        self.last = x, case
        call = prepare(x.q, x.k, x.v, **x.options(case))
        self.scale = float(call.inputs["scale"])
        return replace(call, certificate=call.certificate.removesuffix("-online"))

    def result(self) -> torch.Tensor:
        assert self.last is not None
        x, case = self.last
        return self.spoil(gpu.reference(x, case, self.scale).to(x.q.dtype), x)

    @staticmethod
    def tiled(call: Call) -> tuple[Call, dict[str, int]]:
        tiles = cuda_tiles.online(call.sizes, Block(4, 16, 4, 16))
        return replace(call, certificate=f"{call.certificate}-cuda-online"), call.sizes | tiles

    def explore(self, cases: int) -> Any:
        found = self.module.Found()
        self.module.explore(gpu.texts(), cases, 0, "cpu", found)
        return found


def test_the_campaign_accepts_what_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Stand(monkeypatch, lambda out, x: out).explore(80)
    assert (found.cases, found.failures) == (80 - found.outside, [])
    assert 0 < max(found.worst.values()) < 1
    assert {t.label for t in gpu.texts()} <= set(found.worst)


def off_by_little(out: torch.Tensor, x: Tensors) -> torch.Tensor:
    return out * (1 + (1e-10 if out.dtype == torch.float64 else 1e-2))


def unsteady(out: torch.Tensor, x: Tensors) -> torch.Tensor:
    unsteady.count += 1  # type: ignore[attr-defined]
    if out.numel():
        out.view(-1)[-1] += unsteady.count * torch.finfo(out.dtype).smallest_normal  # type: ignore[attr-defined]
    return out


unsteady.count = 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (off_by_little, "element"),
        (lambda out, x: out * torch.nan, "element"),
        (lambda out, x: torch.zeros_like(out), "element"),
        (unsteady, "two runs gave different bits"),
    ],
    ids=["off", "nan", "zeros", "unsteady"],
)
def test_the_campaign_refuses_what_is_wrong(spoil: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Stand(monkeypatch, spoil).explore(20)
    assert any(f["why"].startswith(why) for f in found.failures)


def test_the_campaign_sees_an_input_that_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def meddling(out: torch.Tensor, x: Tensors) -> torch.Tensor:
        if x.v.numel() and x.v.is_contiguous():
            x.v.view(-1)[-1] = 17.0
        return out

    found = Stand(monkeypatch, meddling).explore(40)
    assert any(f["why"] == "an input was changed" for f in found.failures)
