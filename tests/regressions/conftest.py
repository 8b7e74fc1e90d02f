"""Compiled kernels are kept in pytest's own cache, so that a second run and a second worker find them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _compiled_kernels_are_kept(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOAPROOF_CACHE", str(request.config.cache.mkdir("moaproof") / "kernels"))
        yield
