"""One set of engines for the whole folder: what one test has proved, the next does not ask again."""

from __future__ import annotations

import pytest

from moaproof.kernel.bits import Deciders


@pytest.fixture(scope="session")
def deciders() -> Deciders:
    return Deciders()
