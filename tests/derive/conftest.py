"""Derivations of the examples, each made once: the Spec's chain, its DNF and its ONF."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from moaproof.derive.chain import Chain
from moaproof.derive.schedules import SCHEDULES
from moaproof.derive.to_dnf import to_dnf
from moaproof.trace.capture import capture
from moaproof.trace.table import Spec, spec_of

EXAMPLES = Path(__file__).parents[2] / "examples"
Derivation = Callable[[str, str, str | None], tuple[Spec, Chain]]


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"derive_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def derivation() -> Derivation:
    """``derivation(module, function, schedule)``: the Spec and the chain at its end; no schedule stops at the DNF."""
    modules: dict[str, ModuleType] = {}
    specs: dict[tuple[str, str], Spec] = {}

    def make(module: str, function: str, schedule: str | None) -> tuple[Spec, Chain]:
        if module not in modules:
            modules[module] = _module(module)
        if (module, function) not in specs:
            specs[module, function] = spec_of(capture(getattr(modules[module], function)))
        spec = specs[module, function]
        chain = Chain(spec.term, spec.hypotheses)
        to_dnf(chain)
        if schedule:
            SCHEDULES[schedule][1](chain)
        return spec, chain

    return make
