"""Derive again all that is committed: ``python -m moaproof.derive.regen`` (``make regen``).

Writes certs/*.json, kernels/*.py with kernels/MANIFEST.json, rewrite_rules/rulebook.json and CERTIFICATES.md.  The
same code gives the same bytes on every machine; CI demands an empty diff.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

from moaproof.rewrite_rules import document

from ..term import canonical
from .pipeline import Derived, derive

# name, function, schedule, dtypes.  The names that ``runtime.attention`` looks for come first.
BOTH = ("float64", "float32")
COMMITTED: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("attention-online", "sdpa", "online", BOTH),
    ("causal-online", "sdpa_causal", "online", BOTH),
    ("masked-online", "sdpa_masked", "online", BOTH),
    ("gqa-online", "sdpa_gqa", "online", BOTH),
    ("gqa-causal-online", "sdpa_gqa_causal", "online", BOTH),
    ("gqa-masked-online", "sdpa_gqa_masked", "online", BOTH),
    ("attention-cuda-online", "sdpa", "cuda-online", BOTH),
    ("causal-cuda-online", "sdpa_causal", "cuda-online", BOTH),
    ("masked-cuda-online", "sdpa_masked", "cuda-online", BOTH),
    ("gqa-cuda-online", "sdpa_gqa", "cuda-online", BOTH),
    ("gqa-causal-cuda-online", "sdpa_gqa_causal", "cuda-online", BOTH),
    ("gqa-masked-cuda-online", "sdpa_gqa_masked", "cuda-online", BOTH),
    ("attention-cuda-split", "sdpa", "cuda-split", BOTH),
    ("masked-cuda-split", "sdpa_masked", "cuda-split", BOTH),
    ("gqa-cuda-split", "sdpa_gqa", "cuda-split", BOTH),
    ("gqa-masked-cuda-split", "sdpa_gqa_masked", "cuda-split", BOTH),
    ("attention-rows", "attention", "rows", BOTH),
    ("causal-rows", "causal_attention", "rows", ("float64",)),
    ("masked-rows", "sdpa_masked", "rows", ("float64",)),
    ("unshifted-online", "unshifted_softmax", "online", ("float64",)),
    ("scaled-online", "scaled_attention", "online", ("float64",)),
    ("one-head-online", "one_head", "online", ("float64",)),
)
ROOT = Path(__file__).resolve().parents[2]


def examples(root: Path) -> ModuleType:
    """The examples' module, from its file: what a user derives."""
    spec = importlib.util.spec_from_file_location("moaproof_examples_attention", root / "examples" / "attention.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(root / "examples" / "attention.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _one(root: Path, row: tuple[str, str, str, tuple[str, ...]]) -> Derived:
    name, function, schedule, dtypes = row
    return derive(getattr(examples(root), function), schedule, name=name, dtypes=dtypes)


def regenerate(root: Path = ROOT, say: Callable[[str], None] = print, jobs: int | None = None) -> None:
    """Write every generated file of the checkout at ``root``; files that are no longer generated are removed."""
    from ..assess.document import certificates_md
    from ..assess.verify import manifest_of

    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        derived = []
        for d in pool.map(_one, [root] * len(COMMITTED), COMMITTED):
            say(f"{d.certificate.name}: {len(d.certificate.steps)} steps, {len(d.certificate.to_bytes())} bytes")
            derived.append(d)
    certs = {f"{d.certificate.name}.json": d.certificate.to_bytes() for d in derived}
    kernels = {file: text for d in derived for file, text in d.texts.items()}
    kernels["MANIFEST.json"] = canonical(manifest_of(d.certificate for d in derived)) + b"\n"
    _write(root / "certs", certs, ".json")
    _write(root / "kernels", kernels, ".py", ".json")
    (root / "rewrite_rules" / "rulebook.json").write_bytes(canonical(document()) + b"\n")
    document_text = certificates_md(root / "moaproof", [d.verdict for d in derived])
    (root / "CERTIFICATES.md").write_text(document_text, encoding="utf-8")


def _write(folder: Path, files: dict[str, bytes], *suffixes: str) -> None:
    for old in folder.iterdir():
        if old.suffix in suffixes and old.name != "__init__.py" and old.name not in files:
            old.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    regenerate()
