"""Properties: every kernel that ``attention`` can choose is within its bound of both oracles.

Compiled, the families that differ in more than their heads; and all twelve as plain Python, which runs the same text.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from moaproof.runtime.attention import Call
from moaproof.runtime.launch import launch
from moaproof.runtime.loader import load
from moaproof.testing.campaign import explore
from moaproof.testing.oracles import plain
from moaproof.testing.profiles import profile
from moaproof.testing.report import Report
from moaproof.testing.trial import BALLS, TORCH

COMPILED = [
    ("attention-online/float64", {"kinds": ("plain",), "dtypes": ("float64",), "groups": (1,)}),
    ("attention-online/float32", {"kinds": ("plain",), "dtypes": ("float32",), "groups": (1,)}),
    ("causal-online/float64", {"kinds": ("causal",), "dtypes": ("float64",), "groups": (1,)}),
    ("masked-online/float64", {"kinds": ("masked",), "dtypes": ("float64",), "groups": (1,)}),
    ("gqa-masked-online/float64", {"kinds": ("masked",), "dtypes": ("float64",), "groups": (2, 3)}),
]
KINDS = ("plain", "causal", "masked")
SMALL = {"queries": (3, 0, 1, 2, 5), "keys": (3, 0, 1, 4, 7), "heads": (1, 2, 5), "tiles": (None, 1, 2, 3)}


def as_python(call: Call, sizes: dict[str, int]) -> torch.Tensor:
    """The shipped text, run by Python."""
    kernel = load(call.certificate, call.dtype)
    out = torch.full(call.shape, float("nan"), dtype=getattr(torch, call.dtype))
    flat = out.numpy().reshape(-1)
    if flat.size:
        names = [t.data[0] for t in kernel.certificate.inputs]
        plain(kernel)(flat, *(call.inputs[name] for name in names), *(sizes[s] for s in kernel.sizes))
    return out


def worst(report: Report) -> str:
    return "\n".join(report.lines())


@pytest.mark.parametrize(("family", "drawn"), COMPILED, ids=[name for name, _ in COMPILED])
def test_compiled_kernel_is_within_its_bound(family: str, drawn: dict[str, Any]) -> None:
    report = Report()
    explore(report, profile("quick", 40), **drawn)
    assert set(report.families) == {family}
    assert report.cases >= 35, worst(report)
    found = report.families[family]
    assert list(found.oracles) == [TORCH, BALLS]
    assert all(0.0 < s.worst <= 1.0 for s in found.oracles.values()), worst(report)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("groups", [(1,), (2, 3)], ids=["heads", "gqa"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_text_is_within_its_bound(kind: str, groups: tuple[int, ...], dtype: str) -> None:
    report = Report()
    explore(report, profile("quick", 12), runner=as_python, kinds=(kind,), dtypes=(dtype,), groups=groups, **SMALL)
    assert report.cases >= 10, worst(report)
    name = {"plain": "attention" if groups == (1,) else ""}.get(kind, kind)
    assert set(report.families) == {"-".join(filter(None, ["gqa" * (groups != (1,)), name, "online"])) + f"/{dtype}"}


def test_launched_and_plain_write_every_cell() -> None:
    """``launch`` with its own tiles, on an output full of NaN: no cell is left."""
    kernel = load("attention-online", "float64")
    x = torch.ones(2 * 3 * 5 * 2, dtype=torch.float64).numpy()
    sizes = {"b": 2, "h": 3, "n": 5, "m": 5, "dk": 2, "dv": 2, "tq": 2, "bq": 3, "tk": 4, "bk": 2}
    out = torch.full((60,), float("nan"), dtype=torch.float64).numpy()
    launch(kernel, out, {"q": x, "k": x, "v": x, "scale": x[0]}, sizes)
    assert (out == 1.0).all()
