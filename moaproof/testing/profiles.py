"""Hypothesis profiles.

Every field is set, so that nothing is inherited from a profile that happens to be active (``ci`` is, under CI=1).

========================  =========  ==========================================================
moaproof-quick            30 cases   the same ones on every run: what the tests use
moaproof-default          300        new ones on every run; failures are kept in .hypothesis
moaproof-nightly          20,000     the same, longer
========================  =========  ==========================================================

``register`` is an entry point of the group ``hypothesis``: ``pytest --hypothesis-profile moaproof-nightly``.
"""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from ..errors import NotCovered

EXAMPLES: Final = {"moaproof-quick": 30, "moaproof-default": 300, "moaproof-nightly": 20_000}
PHASES: Final = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)  # explain is noise on arrays
SUPPRESSED: Final = (HealthCheck.too_slow, HealthCheck.data_too_large)  # a kernel is compiled within the first case


def profile(name: str, max_examples: int | None = None) -> settings:
    """The settings of a profile, with or without ``moaproof-`` before its name."""
    full = name if name.startswith("moaproof-") else f"moaproof-{name}"
    if full not in EXAMPLES:
        raise NotCovered(f"profile {name!r}: known are {', '.join(EXAMPLES)}")
    quick = full == "moaproof-quick"
    return settings(
        max_examples=EXAMPLES[full] if max_examples is None else max_examples,
        derandomize=quick,
        database=None if quick else DirectoryBasedExampleDatabase(".hypothesis/examples"),
        deadline=None,
        print_blob=True,
        phases=tuple(p for p in PHASES if not (quick and p is Phase.target)),  # few cases: rather different ones
        report_multiple_bugs=False,
        stateful_step_count=50,
        suppress_health_check=SUPPRESSED,
        verbosity=Verbosity.normal,
        backend="hypothesis",
    )


def register() -> None:
    """Make the profiles known to Hypothesis by name."""
    for name in EXAMPLES:
        settings.register_profile(name, profile(name))
