"""The profile that replays: what moaproof-default draws, without shrinking."""

from __future__ import annotations

import os
import subprocess
import sys

import hypothesis
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from moaproof.errors import NotCovered
from moaproof.testing import profiles


def drawn(name: str, seed: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []

    @hypothesis.seed(seed)
    @settings(profiles.profile(name, 40), database=None)
    @given(st.integers(0, 2**32), st.sampled_from("abcdef"))
    def test(number: int, letter: str) -> None:
        found.append((number, letter))

    test()
    return found


def test_repro_draws_what_default_draws_from_the_same_seed() -> None:
    assert drawn("repro", 3) == drawn("default", 3) != drawn("default", 4)


def test_repro_differs_from_default_in_shrinking_alone() -> None:
    repro, default = profiles.profile("repro"), profiles.profile("default")
    fields = [name for name in dir(settings.default) if isinstance(getattr(settings, name, None), property)]
    differing = [f for f in fields if f != "database" and getattr(repro, f) != getattr(default, f)]
    assert differing == ["phases"]
    assert set(default.phases) - set(repro.phases) == {Phase.shrink}
    assert repro.database is not None
    assert not repro.derandomize


def test_repro_does_not_shrink() -> None:
    failed: list[int] = []

    @hypothesis.seed(1)
    @settings(profiles.profile("repro"), database=None)
    @given(st.integers(0, 2**32))
    def test(number: int) -> None:
        if number > 1000:
            failed.append(number)
            raise ValueError(number)

    with pytest.raises(ValueError, match=r"\d+"):
        test()
    assert len(set(failed)) == 1


def test_ci_changes_nothing() -> None:
    """Under CI Hypothesis loads a profile that draws the same cases on every run, without a database."""
    code = (
        "import hypothesis; from moaproof.testing.profiles import profile; s = hypothesis.settings;"
        "assert s.default.derandomize and s.default.database is None;"
        "d = s.get_profile('moaproof-default');"
        "print(d.derandomize, d.database is not None, d.max_examples, d.print_blob)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "CI": "1"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", "300", "True"]


@pytest.mark.parametrize("cases", [0, -3])
def test_no_cases_is_no_profile(cases: int) -> None:
    with pytest.raises(NotCovered, match="max_examples: at least 1 is due"):
        profiles.profile("quick", cases)
