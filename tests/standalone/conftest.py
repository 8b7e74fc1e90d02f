"""What the folder shares: a committed certificate as a document, and the stand-alone checker in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from moaproof.kernel.certificate import CORE_FIELDS, Certificate, parse
from moaproof.standalone import __main__ as alone

ROOT = Path(__file__).parents[2]
Answer = Callable[[Any], tuple[int, str]]


@pytest.fixture(scope="session")
def data() -> bytes:
    """A committed certificate with tiles, a mask and steps of every class."""
    return (ROOT / "certs" / "one-head-online.json").read_bytes()


@pytest.fixture(scope="session")
def certificate(data: bytes) -> Certificate:
    return parse(data)


@pytest.fixture
def document(data: bytes) -> Any:
    return json.loads(data)


@pytest.fixture(scope="session")
def twin() -> ModuleType:
    """The plugin of this folder, as a module: both judges on one step."""
    spec = spec_from_file_location("twin", Path(__file__).with_name("twin.py"))
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    """The exit code and the line for bytes, or for a document, whose core digest is then made to fit."""

    def act(given: Any) -> tuple[int, str]:
        if not isinstance(given, bytes):
            core = {k: v for k, v in given.items() if k in CORE_FIELDS}
            given = alone.encoded(given | {"core": alone.sha256(alone.encoded(core))}) + b"\n"
        path = tmp_path / "x.json"
        path.write_bytes(given)
        return alone.check(str(path))

    return act
