"""Every step that the kernel's tests put to the kernel is put to the stand-alone checker: the answers are the same.

Among them are random terms, and the known unsound corners: capture, new indices, tiles that do not cover, sums that
absorb what varies, 1/0, and the maximum of nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BREAKS_THE_KERNEL = "tests/kernel/test_random_terms.py::test_the_campaign_notices_a_broken_kernel"
TESTS = (
    "tests/kernel/test_bits.py",
    "tests/kernel/test_reals.py",
    "tests/kernel/test_defined.py",
    "tests/kernel/test_random_terms.py",
    "tests/rules/test_kernel_holes.py",
    "tests/rules/test_named_negatives.py",
)


def test_the_two_judges_agree_on_every_step_of_the_kernels_tests() -> None:
    options = ("-q", "-p", "no:cacheprovider", "-p", "twin", "--deselect", BREAKS_THE_KERNEL)
    command = [sys.executable, "-m", "pytest", *options, *TESTS]
    folder = str(ROOT / "tests" / "standalone")
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": folder}
    )
    assert done.returncode == 0, done.stdout[-4000:]
    found = re.search(r"twins: (\d+) accepted, (\d+) refused", done.stdout)
    accepted, refused = map(int, found.groups() if found else (0, 0))
    assert accepted > 500
    assert refused > 300
