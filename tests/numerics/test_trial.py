"""What a trial asks where a case has NaN or infinity, and of a kernel that gives something else than an output."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from moaproof.errors import NotCovered
from moaproof.runtime.attention import Call
from moaproof.runtime.attention import run as run_kernel
from moaproof.testing.strategies import Case, Inputs, expand, touched
from moaproof.testing.trial import attempt


def case(special: str) -> Case:
    return Case(n=5, m=7, dk=2, dv=2, kind="masked", pattern="sparse", special=special, seed=4)


def with_nan(place: str) -> Inputs:
    """A plain case with one visible NaN."""
    x = expand(Case(n=4, m=5, dk=2, dv=2, seed=1))
    getattr(x, place)[0, 0, 2, 1] = torch.nan
    return x


@pytest.mark.parametrize("special", ["none", "masked", "visible"])
def test_the_kernel_keeps_the_policy(special: str) -> None:
    result = attempt(expand(case(special)))
    assert result.accepted, result.reason()
    assert len(result.judged) == 2


@pytest.mark.parametrize("place", ["q", "k", "v"])
def test_a_visible_nan_must_show(place: str) -> None:
    """A kernel that hides it, as a maximum of the hardware may, is refused though all else is right."""
    x = with_nan(place)
    assert attempt(x).accepted
    hides = lambda call, sizes: torch.nan_to_num(run_kernel(call, sizes))  # noqa: E731
    result = attempt(x, runner=hides)
    assert not result.accepted
    assert result.reason() == "a visible NaN did not make its row or column NaN"


def test_what_a_nan_does_not_reach_is_judged_as_ever() -> None:
    x = with_nan("v")
    assert touched(x)[..., 1].all()
    assert not touched(x)[..., 0].any()

    def off(call: Call, sizes: dict[str, int]) -> torch.Tensor:
        out = run_kernel(call, sizes)
        out[..., 0] += 1e-9
        return out

    result = attempt(x, runner=off)
    assert not result.accepted
    assert result.reason().startswith("element (0, 0, ")


@pytest.mark.parametrize(
    "spoil",
    [lambda out: out[..., :1], lambda out: out.float(), lambda out: out.reshape(-1)],
    ids=["short", "float", "flat"],
)
def test_another_shape_or_dtype_is_no_output(spoil: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(NotCovered, match=r"trial: the kernel gave float(32|64) of shape .* is due"):
        attempt(expand(Case()), runner=lambda call, sizes: spoil(run_kernel(call, sizes)))
