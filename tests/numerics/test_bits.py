"""Bits: what is repeatable, what a row's bits depend on, and what equals the evaluator bit for bit."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch

from moaproof import attention
from moaproof.runtime.attention import KEYS
from moaproof.runtime.launch import launch
from moaproof.runtime.loader import load
from moaproof.semantics import Numbers, evaluate
from moaproof.testing.oracles import plain, rows_bits


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


Q, K, V = random(2, 3, 37, 8), random(2, 3, 2 * KEYS + 5, 8, seed=1), random(2, 3, 2 * KEYS + 5, 6, seed=2)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def test_again_and_with_one_thread_gives_the_same_bits() -> None:
    first = attention(Q, K, V, is_causal=True)
    assert all(same(first, attention(Q, K, V, is_causal=True)) for _ in range(20))
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert same(first, attention(Q, K, V, is_causal=True))
    finally:
        numba.set_num_threads(threads)


def test_a_row_has_the_same_bits_alone_in_its_head_and_in_its_batch() -> None:
    whole = attention(Q, K, V)
    for b, h, i in ((0, 0, 0), (1, 2, 36), (1, 0, 17)):
        alone = attention(Q[b, h, i : i + 1], K[b, h], V[b, h])
        assert same(alone, whole[b, h, i : i + 1])


def test_a_layout_does_not_change_bits() -> None:
    first = attention(Q, K, V)
    turned = [x.transpose(1, 3).contiguous().transpose(1, 3) for x in (Q, K, V)]
    assert not any(x.is_contiguous() for x in turned)
    assert same(first, attention(*turned))


def test_heads_do_not_depend_on_one_another() -> None:
    order = [2, 0, 1]
    assert same(attention(Q[:, order], K[:, order], V[:, order]), attention(Q, K, V)[:, order])


SIZES = {"b": 1, "h": 2, "n": 4, "m": 7, "dk": 3, "dv": 2, "tq": 3, "bq": 2}


def small(dtype: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {"q": (2, 4, 3), "k": (2, 7, 3), "v": (2, 7, 2)}
    found = {name: rng.standard_normal(shape).ravel().astype(dtype) for name, shape in shapes.items()}
    return found | {"scale": np.dtype(dtype).type(0.3)}


def test_rows_equals_the_evaluator_bit_for_bit() -> None:
    """Class I and S only: the compiled kernel, and the Spec in its own order with the same exp."""
    kernel, x = load("attention-rows", "float64"), small()
    out = np.full(16, np.nan)
    launch(kernel, out, x, SIZES)
    assert out.tobytes() == rows_bits(kernel.certificate, SIZES, x).tobytes()


def test_another_exp_would_be_seen() -> None:
    """With the C library's exp the evaluator differs in some bit at one of a few seeds: the comparison decides."""
    c = load("attention-rows", "float64").certificate
    differ = 0
    for seed in range(5):
        x = small() | {"q": np.random.default_rng(seed).standard_normal(24) * 3}
        cells = evaluate(c.spec, Numbers(SIZES, {k: np.atleast_1d(v).tolist() for k, v in x.items()}))[1]
        differ += np.array(cells).tobytes() != rows_bits(c, SIZES, x).tobytes()
    assert differ > 0


@pytest.mark.parametrize(("name", "dtype"), [("attention-online", "float64"), ("attention-online", "float32")])
def test_compiled_equals_plain_python_bit_for_bit(name: str, dtype: str) -> None:
    """What Numba made of the text does what Python makes of it: nothing reassociated, nothing contracted."""
    kernel, x = load(name, dtype), small(dtype)
    sizes = SIZES | {"tk": 3, "bk": 3}
    out, due = np.full(16, np.nan, dtype), np.full(16, np.nan, dtype)
    launch(kernel, out, x, sizes)
    plain(kernel)(due, *(x[t.data[0]] for t in kernel.certificate.inputs), *(sizes[s] for s in kernel.sizes))
    assert out.tobytes() == due.tobytes()


def test_online_differs_from_the_evaluator_in_bits() -> None:
    """A class R derivation changes bits: that ``rows`` does not is a fact about ``rows``."""
    kernel, x = load("attention-online", "float64"), small()
    out = np.empty(16)
    launch(kernel, out, x, SIZES | {"tk": 3, "bk": 3})
    due = rows_bits(kernel.certificate, SIZES, x)
    assert out.tobytes() != due.tobytes()
    assert np.abs(out - due).max() < 1e-14
