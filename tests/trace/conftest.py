"""The examples and the functions under test, loaded by path: neither folder is an installed package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def load(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def attention() -> ModuleType:
    return load("examples_attention", HERE.parents[1] / "examples" / "attention.py")


@pytest.fixture(scope="session")
def arrays() -> ModuleType:
    return load("examples_arrays", HERE.parents[1] / "examples" / "arrays.py")


@pytest.fixture(scope="session")
def functions() -> ModuleType:
    return load("trace_functions", HERE / "functions.py")
