"""The paper's own example (arXiv 2606.07713, section 5.2), weights and output, to its printed digits.

Inputs and results are printed to four decimals.  The weights agree to half a unit of the last printed digit; in the
output the rounding of the printed inputs adds to that, so it agrees to one unit.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moaproof import attention
from moaproof.runtime.loader import load
from moaproof.semantics import Numbers, evaluate

UNIT = 1e-4  # of the last printed digit

Q = [[-0.1984, 0.2698, 0.3414, -0.0372], [0.2547, -1.0674, 0.3460, -2.5242], [0.6822, -0.6265, 0.0252, 0.3978]]
K = [[-1.1567, 0.6885, -0.1884, 0.4743], [0.2246, 1.7564, 0.5235, -2.3014], [-1.5899, 0.3730, -0.8257, -1.2069]]
V = [[1.0739, 0.4006, -0.9671, 0.4870], [0.5589, -0.7209, -0.7650, 0.2689], [0.8237, 0.3763, 0.8320, 0.0014]]
WEIGHTS = [[0.3202, 0.3834, 0.2964], [0.0288, 0.7300, 0.2412], [0.4270, 0.2844, 0.2887]]
OUTPUT = [
    [0.8023, -0.0366, -0.3563, 0.2595],
    [0.6376, -0.4240, -0.3857, 0.2107],
    [0.8552, 0.0747, -0.3903, 0.2848],
]


def by_kernel(q: list[list[float]], k: list[list[float]], v: list[list[float]]) -> np.ndarray:
    return attention(*(torch.tensor(x, dtype=torch.float64) for x in (q, k, v))).numpy()


def by_specification(q: list[list[float]], k: list[list[float]], v: list[list[float]]) -> np.ndarray:
    """The meaning of the certificate's Spec in float64; no kernel is involved."""
    flat = {name: [x for row in rows for x in row] for name, rows in (("q", q), ("k", k), ("v", v))}
    sizes = {"b": 1, "h": 1, "n": len(q), "m": len(k), "dk": len(q[0]), "dv": len(v[0])}
    scale = {"scale": [len(q[0]) ** -0.5]}
    shape, cells = evaluate(load("attention-online", "float64").certificate.spec, Numbers(sizes, flat | scale))
    return np.array(cells).reshape(shape)[0, 0]


BOTH = pytest.mark.parametrize("compute", [by_kernel, by_specification])


@BOTH
def test_weights_have_the_printed_digits(compute) -> None:
    weights = compute(Q, K, np.eye(3).tolist())
    assert np.abs(weights - WEIGHTS).max() <= UNIT / 2
    assert np.array_equal(np.round(weights, 4), WEIGHTS)


@BOTH
def test_output_has_the_printed_digits(compute) -> None:
    assert np.abs(compute(Q, K, V) - OUTPUT).max() <= UNIT


@BOTH
def test_a_changed_input_does_not_pass(compute) -> None:
    """The digits decide something: without the scale, with two keys exchanged, with one digit of Q changed."""
    doubled = (np.array(Q) * 2).tolist()
    exchanged = [K[1], K[0], K[2]]
    digit = [[x + 0.01 * (i == 1) * (j == 3) for j, x in enumerate(row)] for i, row in enumerate(Q)]
    for q, k in ((doubled, K), (Q, exchanged), (digit, K)):
        assert np.abs(compute(q, k, V) - OUTPUT).max() > UNIT


def test_kernel_and_specification_agree() -> None:
    assert np.abs(by_kernel(Q, K, V) - by_specification(Q, K, V)).max() <= 1e-15
