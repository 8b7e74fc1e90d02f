"""The parsers under a fuzzer that is guided by coverage: outside CI, for as long as one likes.

    pip install atheris
    python tests/fuzz/atheris_parsers.py kernel CORPUS -max_total_time=600

The first argument is a target of ``targets.py``; the others are those of libFuzzer.  CORPUS is a folder for what it
finds on the way; it begins from the committed files.  Half of its changes are the damage of ``damage.py``, which keeps
documents and texts whole enough to get past the first check; a finding is written to ``crash-*`` and its error printed.
"""

from __future__ import annotations

import random
import sys
import tokenize
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["moaproof"]):
    from tests.fuzz.damage import damaged, edited, rewritten, with_its_digest
    from tests.fuzz.targets import TARGETS, outcome, seeds

LONGEST = 200_000  # bytes


def main() -> None:
    target = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if target not in TARGETS:
        sys.exit(f"usage: atheris_parsers.py {'|'.join(TARGETS)} [CORPUS] [options of libFuzzer]")
    begin = seeds("kernel" if target == "run" else target)
    for folder in (Path(a) for a in sys.argv[1:] if not a.startswith("-")):
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(begin):
            (folder / f"seed-{number}").write_bytes(data)

    def mutated(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.randrange(2):
            return bytes(atheris.Mutate(data, longest))
        try:
            if target in ("kernel", "run"):
                found = rewritten(data, rng)
            else:
                found = edited(data, rng, with_its_digest if target == "certificate" else lambda d: d)
        except (ValueError, RecursionError, SyntaxError, IndexError, tokenize.TokenError):  # no document, no text
            found = damaged(data, rng)
        return found[:longest]

    def one(data: bytes) -> None:
        try:
            outcome(target, data)
        except AssertionError:
            if target != "run":  # another program may well compute the Spec
                raise

    warnings.simplefilter("ignore")  # of Python, on texts that look odd
    atheris.Setup([sys.argv[0], f"-max_len={LONGEST}", *sys.argv[1:]], one, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
