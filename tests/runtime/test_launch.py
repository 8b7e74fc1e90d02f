"""The launcher refuses every call for which the certificate says nothing; nothing is compiled for that."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from moaproof.errors import NotCovered
from moaproof.kernel.checker import tiling_facts
from moaproof.runtime import launch as launch_module
from moaproof.runtime.launch import launch, planned
from moaproof.runtime.loader import load
from moaproof.semantics import Numbers, meaning

SIZES = {
    "b": 1, "h": 4, "g": 2, "r": 2, "n": 3, "m": 5, "dk": 2, "dv": 3, "tq": 2, "bq": 2, "tk": 4, "bk": 2,
    "mb": 1, "mh": 4, "mn": 1, "mm": 5, "sb": 0, "sh": 1, "sn": 0, "sm": 1,
}  # fmt: skip


class Reached(Exception):
    """The kernel would have run."""


@pytest.fixture(autouse=True)
def _nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(self: object) -> Any:
        raise Reached

    monkeypatch.setattr(launch_module.Loaded, "function", property(function))


def call(sizes: dict[str, int] | None = None, name: str = "gqa-masked-online", **changed: Any) -> None:
    s = SIZES | (sizes or {})
    total = {"q": 4 * 3 * 2, "k": 2 * 5 * 2, "v": 2 * 5 * 3}
    inputs: dict[str, Any] = {x: np.zeros(count) for x, count in total.items()}
    inputs |= {"mask": np.ones(20, bool), "scale": np.float64(1), "out": np.zeros(36)} | changed
    out = inputs.pop("out")
    launch(load(name, "float64"), out, {k: v for k, v in inputs.items() if v is not None}, s)


def test_a_call_within_the_certificate_reaches_the_kernel() -> None:
    with pytest.raises(Reached):
        call()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"g": 3}, "hypothesis . of the certificate does not hold"),
        ({"r": 1}, "hypothesis . of the certificate does not hold"),
        ({"g": 0, "h": 0}, "hypothesis . of the certificate does not hold"),
        ({"mh": 3}, "hypothesis . of the certificate does not hold"),
        ({"sn": 1}, "hypothesis . of the certificate does not hold"),
        ({"sm": 2}, "hypothesis . of the certificate does not hold"),
        ({"sh": 2}, "hypothesis . of the certificate does not hold"),
        ({"bq": 1}, "1 tiles of 2 do not cover n = 3"),
        ({"bq": 3}, "3 tiles of 2 do not cover n = 3 and no more"),
        ({"tk": 0}, "2 tiles of 0 do not cover m = 5"),
        ({"n": -1}, "size n is -1; a natural number below"),
        ({"n": 2**63}, "a natural number below"),
        ({"n": True}, "size n is True"),
        ({"n": np.int64(3)}, "size n is"),
        ({"n": 4, "bq": 2}, "out has 36 elements; shape .1, 4, 4, 3. is due"),
        ({"dk": 3}, "q has 24 elements; shape .1, 4, 3, 3. is due"),
        ({"dk": 2**61}, "q of shape .* has offsets beyond"),
        ({"mb": 2}, "mask has 20 elements"),
    ],
)  # fmt: skip
def test_sizes_outside_the_certificate_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(NotCovered, match=message):
        call(sizes)


BUFFER = np.zeros(64)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"q": np.zeros(24, np.float32)}, "q is float32; float64 is due"),
        ({"q": np.zeros(24, ">f8")}, "q is >f8; float64 is due"),
        ({"q": np.zeros((4, 6))}, "q must be a flat, contiguous, aligned array"),
        ({"q": np.zeros(48)[::2]}, "q must be a flat, contiguous, aligned array"),
        ({"q": np.zeros(193, np.uint8)[1:].view(np.float64)}, "q must be a flat, contiguous, aligned array"),
        ({"q": [0.0] * 24}, "q must be a flat, contiguous, aligned array"),
        ({"mask": np.ones(20, np.uint8)}, "mask is uint8; bool is due"),
        ({"scale": 1.0}, "scale is a float; a float64 scalar is due"),
        ({"scale": np.float32(1)}, "scale is a float32; a float64 scalar is due"),
        ({"out": np.zeros(36, np.float32)}, "out is float32"),
        ({"out": np.zeros(35)}, "out has 35 elements"),
        ({"out": BUFFER[:36], "q": BUFFER[12:36]}, "out overlaps q in memory"),
        ({"mask": None}, "inputs are q, k, v, mask, scale"),
        ({"bias": np.zeros(3)}, "inputs are q, k, v, mask, scale"),
    ],
)  # fmt: skip
def test_arrays_that_the_kernel_was_not_proved_for_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(NotCovered, match=message):
        call(**changed)


def test_the_tiling_that_is_checked_is_the_tiling_that_was_assumed() -> None:
    """``launch`` accepts a tiling exactly where the facts that the checker used hold."""
    kernel = load("attention-online", "float64")
    (over_n, _) = kernel.certificate.tilings
    for n, tile, count in product(range(7), range(5), range(8)):
        sizes = {"b": 1, "h": 1, "n": n, "m": 0, "dk": 1, "dv": 1, "tq": tile, "bq": count, "tk": 1, "bk": 0}
        due = all(meaning(fact, (), (), (), Numbers(sizes, {})) for fact in tiling_facts(over_n))
        try:
            planned(kernel, sizes)
            found = True
        except NotCovered:
            found = False
        assert found == due, sizes


def test_an_empty_output_needs_no_kernel() -> None:
    sizes = {"n": 0, "bq": 0}
    call(sizes, q=np.zeros(0), out=np.zeros(0))


@pytest.mark.parametrize("written", [0, 1, 35])
def test_an_output_that_is_not_all_written_is_refused(written: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker thread of Numba loses its exception: without memory for scratch it returns as if it had worked."""

    def kernel(out: Any, *_: Any) -> None:
        out[:written] = np.nan  # what a kernel may well compute

    monkeypatch.setattr(launch_module.Loaded, "function", property(lambda self: kernel))
    with pytest.raises(NotCovered, match="was not written"):
        call()


def test_an_output_that_is_all_written_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(out: Any, *_: Any) -> None:
        out[:] = np.nan

    out = np.zeros(36)
    monkeypatch.setattr(launch_module.Loaded, "function", property(lambda self: kernel))
    call(out=out)
    assert np.isnan(out).all()


def test_a_kernel_without_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(launch_module.Loaded, "function", property(lambda self: kernel))
    with pytest.raises(NotCovered, match="could not allocate"):
        call()
