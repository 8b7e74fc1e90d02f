"""Memory at the launcher and at ``attention``: overlap, strides, alignment, byte order, ownership, modes of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import as_strided
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention

from moaproof import attention
from moaproof.errors import NotCovered
from moaproof.runtime import launch as launch_module
from moaproof.runtime.attention import prepare
from moaproof.runtime.launch import launch, planned
from moaproof.runtime.loader import load
from moaproof.term import Lt, Size

F64 = torch.float64
SIZES = {"b": 1, "h": 1, "n": 3, "m": 2, "dk": 2, "dv": 2, "tq": 4, "bq": 1, "tk": 4, "bk": 1,
         "mb": 1, "mh": 1, "mn": 3, "mm": 2, "sb": 0, "sh": 0, "sn": 1, "sm": 1}  # fmt: skip


LONG = pytest.param(10**5000, id="long")  # longer than Python prints
NEGATIVE = pytest.param(-(10**5000), id="long and negative")


class Reached(Exception):
    """The kernel would have run."""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A call of 6 elements of out and of q, 4 of k and v, 6 of the mask; the kernel is not run."""

    def function(self: object) -> Any:
        raise Reached

    monkeypatch.setattr(launch_module.Loaded, "function", property(function))

    def act(sizes: Mapping[str, int] = SIZES, **changed: Any) -> None:
        given: dict[str, Any] = {"q": np.zeros(6), "k": np.zeros(4), "v": np.zeros(4), "mask": np.ones(6, bool)}
        given |= {"scale": np.float64(1), "out": np.zeros(6)} | changed
        launch(load("masked-online", "float64"), given.pop("out"), given, sizes)

    return act


# --- the launcher: overlap ---------------------------------------------------------------------------


def overlapping() -> dict[str, tuple[Any, str, Any]]:
    """Cases: out, the name of the input that it overlaps, that input."""
    one, long = np.zeros(6), np.zeros(16)
    tensor = torch.zeros(16, dtype=F64)
    memory = bytearray(8 * 16)
    return {
        "the same array": (one, "q", one),
        "a view of it": (one, "q", one[:]),
        "the same elements": (long[:6], "q", long[:6]),
        "the last of one is the first of the other": (long[:6], "q", long[5:11]),
        "one inside the other": (long[2:8], "k", long[3:7]),
        "read-only, of what out writes": (long[:6], "v", frozen(long[2:6])),
        "a view of a view reversed twice": (long[:6], "q", long[::-1][::-1][4:10]),
        "as other bits": (long[:6], "q", long.view(np.int64)[1:7].view(np.float64)),
        "as truth values": (long[:6], "mask", long.view(bool)[47:53]),
        "through torch": (tensor.numpy()[:6], "q", tensor[3:9].numpy()),
        "of torch, by its storage": (tensor.numpy()[:6], "q", torch.asarray(tensor.numpy())[1:7].numpy()),
        "by the buffer": (np.frombuffer(memory)[:6], "q", np.frombuffer(memory)[5:11]),
        "strides made by hand": (long[:6], "q", as_strided(long[1:], (6,), (8,))),
    }


def frozen(x: Any) -> Any:
    view = x[:]
    view.flags.writeable = False
    return view


@pytest.mark.parametrize("case", overlapping())
def test_an_output_that_overlaps_an_input_is_refused(case: str, call: Callable[..., None]) -> None:
    out, name, value = overlapping()[case]
    with pytest.raises(NotCovered, match=f"out overlaps {name} in memory"):
        call(out=out, **{name: value})


def test_neighbours_do_not_overlap_and_inputs_may(call: Callable[..., None]) -> None:
    long = np.zeros(32)
    with pytest.raises(Reached):
        call(out=long[6:12], q=long[:6], k=long[12:16], v=long[12:16], mask=long.view(bool)[96 + 32 : 96 + 38])
    with pytest.raises(Reached):
        call(q=long[:6], k=long[1:5], v=long[1:5], mask=long.view(bool)[3:9])


# --- the launcher: strides, alignment, byte order, ownership -----------------------------------------

WIDE = np.zeros(64)
LAYOUTS: dict[str, Any] = {
    "reversed": WIDE[:6][::-1],
    "every second": WIDE[:12:2],
    "one element for all": as_strided(WIDE, (6,), (0,)),
    "overlapping itself": as_strided(WIDE, (6,), (4,)),
    "a column": np.zeros((6, 2))[:, 0],
    "a row of two axes": np.zeros((1, 6)),
    "without axes": np.zeros(()),
    "an odd address": np.zeros(49, np.uint8)[1:].view(np.float64),
    "a field of records": np.zeros(6, [("x", "f8"), ("y", "f8")])["y"],
    "a matrix": np.zeros((1, 6)).view(np.matrix),
    "masked": np.ma.zeros(6),
    "a record array": np.zeros(6).view(np.recarray),
    "a memory view": memoryview(np.zeros(6)),
    "a tensor": torch.zeros(6, dtype=F64),
    "nothing": None,
}
DTYPES: dict[str, Any] = {
    "the other byte order": np.zeros(6, ">f8"),
    "float32": np.zeros(6, np.float32),
    "the same bits": np.zeros(6, np.int64),
    "objects": np.array([0.0] * 6, object),
    "complex": np.zeros(6, complex),
    "long double": np.zeros(6, np.longdouble),
    "records": np.zeros(6, [("x", "f8")]),
    "times": np.zeros(6, "m8[s]"),
}


@pytest.mark.parametrize("name", ["q", "out"])
@pytest.mark.parametrize("case", LAYOUTS)
def test_other_layouts_are_refused(case: str, name: str, call: Callable[..., None]) -> None:
    with pytest.raises(NotCovered, match=f"{name} must be a flat, contiguous, aligned array"):
        call(**{name: LAYOUTS[case]})


@pytest.mark.parametrize("name", ["q", "out"])
@pytest.mark.parametrize("case", DTYPES)
def test_other_types_are_refused(case: str, name: str, call: Callable[..., None]) -> None:
    with pytest.raises(NotCovered, match=f"{name} is .*; float64 is due"):
        call(**{name: DTYPES[case]})


def test_an_output_that_is_read_only_is_refused_and_an_input_may_be(call: Callable[..., None]) -> None:
    with pytest.raises(NotCovered, match="out is read-only"):
        call(out=frozen(np.zeros(6)))
    with pytest.raises(NotCovered, match="out is read-only"):
        call(out=np.frombuffer(bytes(48)))
    with pytest.raises(Reached):
        call(q=frozen(np.zeros(6)), mask=np.frombuffer(b"\1" * 6, bool))


@pytest.mark.parametrize("value", [1.0, 1, np.float32(1), np.zeros(()), np.zeros(1), True, None, np.longdouble(1)])
def test_a_scalar_is_of_the_kernels_type(value: Any, call: Callable[..., None]) -> None:
    with pytest.raises(NotCovered, match=r"scale is a .*; a float64 scalar is due"):
        call(scale=value)


class Restless(Mapping[str, int]):
    """Sizes that are other ones whenever they are asked for again."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        self.asked[name] = self.asked.get(name, -1) + 1
        return SIZES[name] + 1000 * self.asked[name]

    def __iter__(self) -> Iterator[str]:
        return iter(SIZES)

    def __len__(self) -> int:
        return len(SIZES)


def test_the_sizes_that_are_checked_are_those_that_are_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def kernel(out: Any, *arguments: Any) -> None:
        seen.append(arguments[-len(kernel_sizes) :])
        out[:] = 0.0

    kernel_sizes = load("masked-online", "float64").sizes
    monkeypatch.setattr(launch_module.Loaded, "function", property(lambda self: kernel))
    given: dict[str, Any] = {"q": np.zeros(6), "k": np.zeros(4), "v": np.zeros(4), "mask": np.ones(6, bool)}
    launch(load("masked-online", "float64"), np.zeros(6), given | {"scale": np.float64(1)}, Restless())
    assert seen == [tuple(SIZES[s] for s in kernel_sizes)]


@pytest.mark.parametrize("value", [None, -1, True, 2.0, np.int64(2), "2", 2**63, LONG, NEGATIVE])
def test_a_size_is_a_natural_number(value: Any, call: Callable[..., None]) -> None:
    for name in ("n", "tk", "sm"):
        with pytest.raises(NotCovered, match=f"size {name} is .* a natural number below"):
            call(SIZES | {name: value})


def test_a_size_that_only_a_hypothesis_names_is_a_natural_number_too() -> None:
    kernel = load("attention-online", "float64")
    about = dataclasses.replace(kernel.certificate, hypotheses=(Lt(Size("n"), Size("zz")),))
    other = dataclasses.replace(kernel, certificate=about)
    assert planned(other, SIZES | {"zz": 4}).out == (1, 1, 3, 2)
    with pytest.raises(NotCovered, match="hypothesis 0"):
        planned(other, SIZES | {"zz": 3})
    for value in (None, 3.5, np.int64(4)):
        with pytest.raises(NotCovered, match=r"size zz is"):
            planned(other, SIZES | {"zz": value})


# --- attention: what is copied, what is shared ---------------------------------------------------------


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(sum(shape)))


def odd(x: torch.Tensor) -> torch.Tensor:
    """The same elements at an odd address."""
    raw = np.zeros(x.numel() * 8 + 1, np.uint8)
    there = raw[1:].view(np.float64).reshape(tuple(x.shape))
    there[...] = x.numpy()
    return torch.from_numpy(there)


RELAID: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], bool]] = {  # and whether it is copied
    "as it is": (lambda x: x, False),
    "a block of a longer one": (lambda x: torch.cat([x, x])[1:], False),
    "out of an array": (lambda x: torch.from_numpy(x.numpy().copy()), False),
    "unit axes of any stride": (lambda x: x.as_strided(x.shape, (1000, 77, 4, 1)), False),
    "transposed": (lambda x: x.mT.contiguous().mT, True),
    "every second": (lambda x: torch.stack([x, x], -1)[..., 0], True),
    "expanded": (lambda x: x[:, :, :1].expand(x.shape), True),
    "at an odd address": (odd, True),
    "lazily negated": (lambda x: torch.imag(torch.complex(x, -x).conj()), True),
}


@pytest.mark.parametrize("case", RELAID)
def test_every_layout_is_passed_or_packed(case: str) -> None:
    relay, copied = RELAID[case]
    q, k, v = x = [relay(draw(1, 1, rows, 4)) for rows in (5, 7, 7)]
    before = [t.clone() for t in x]
    call = prepare(q, k, v)
    for name, t in zip("qkv", x, strict=True):
        assert call.inputs[name].flags.aligned
        assert (call.inputs[name].ctypes.data != t.data_ptr()) == copied
    found = attention(q, k, v)
    torch.testing.assert_close(found, scaled_dot_product_attention(*before), rtol=0, atol=1e-13)
    assert all(torch.equal(t, b) for t, b in zip(x, before, strict=True))


def test_one_memory_for_all_inputs_and_another_for_the_result() -> None:
    x = draw(1, 1, 9, 4)
    mask = x.view(torch.uint8).view(torch.bool)[0, 0, :5, :5]
    q, k, v = x[:, :, :5], x[:, :, 2:7], x[:, :, 2:7]
    before = x.clone()
    found = attention(q, k, v, attn_mask=mask)
    due = scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), attn_mask=mask.clone())
    torch.testing.assert_close(found, due, rtol=0, atol=1e-13)
    assert torch.equal(x, before)
    assert found.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    torch.testing.assert_close(attention(x, x, x), scaled_dot_product_attention(x, x, x), rtol=0, atol=1e-13)


def test_the_default_device_does_not_matter() -> None:
    q, k, v = draw(2, 5, 4), draw(2, 7, 4), draw(2, 7, 3)
    due = attention(q, k, v)
    with torch.device("meta"):
        found = attention(q, k.mT.contiguous().mT, v)
    assert found.device.type == "cpu"
    assert torch.equal(found, due)


def test_a_mode_without_numbers_is_refused() -> None:
    q = draw(2, 5, 4)
    with FakeTensorMode(), pytest.raises(NotCovered, match="a mode is active"):
        attention(q, q, q)


@pytest.mark.parametrize("scale", [10**400, -(10**400), LONG, NEGATIVE, np.longdouble("1e4000"), 2**1024])
def test_a_scale_beyond_every_float_is_refused(scale: Any) -> None:
    q = draw(5, 4)
    with pytest.raises(NotCovered, match="not finite in float64"):
        attention(q, q, q, scale=scale)


def test_the_longest_scale_that_is_covered() -> None:
    q = torch.zeros(5, 4, dtype=F64)
    assert torch.equal(attention(q, q, q, scale=2**1023), q)
    with pytest.raises(NotCovered, match="not finite in float32"):
        attention(q.float(), q.float(), q.float(), scale=2**128)


@pytest.mark.parametrize("option", ["is_causal", "enable_gqa"])
@pytest.mark.parametrize("value", [1, 0, None, "no", np.True_, torch.tensor(True)])
def test_an_option_is_true_or_false(option: str, value: Any) -> None:
    q = draw(5, 4)
    with pytest.raises(NotCovered, match=f"{option} is a .*; True or False is covered"):
        attention(q, q, q, **{option: value})


def test_kernels_run_compiled_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    monkeypatch.setattr("moaproof.runtime.loader._FUNCTIONS", {})
    q = draw(5, 4)
    with pytest.raises(NotCovered, match="NUMBA_DISABLE_JIT is set"):
        attention(q, q, q)
