"""Hypothesis profiles.

Every field is set, so that nothing is inherited from a profile that happens to be active: with ``CI`` set, Hypothesis
loads one that draws the same cases on every run and keeps no database, and says so nowhere.

=================  =========  =================================================================================
moaproof-quick     30 cases   the same ones on every run, no database: what the tests use
moaproof-default   300        new ones on every run; failures are kept in .hypothesis and tried first
moaproof-nightly   20,000     the same, longer
moaproof-repro     300        what moaproof-default draws from the same seed, kept failures first; nothing is shrunk
=================  =========  =================================================================================

``moaproof-repro`` is for a failure that was seen before: it stops at the case as it was drawn, which is there at once,
where shrinking may end at another fault.  Give it the seed (``--hypothesis-seed``, ``--moaproof-seed``): a profile
cannot hold one.

``register`` is an entry point of the group ``hypothesis``: ``pytest --hypothesis-profile moaproof-nightly``.
"""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from ..errors import NotCovered

EXAMPLES: Final = {"moaproof-quick": 30, "moaproof-default": 300, "moaproof-nightly": 20_000, "moaproof-repro": 300}
PHASES: Final = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)  # explain is noise on arrays
LEFT_OUT: Final = {"moaproof-quick": Phase.target, "moaproof-repro": Phase.shrink}  # few cases: rather different ones
SUPPRESSED: Final = (HealthCheck.too_slow, HealthCheck.data_too_large)  # a kernel is compiled within the first case


def full_name(name: str) -> str:
    """With ``moaproof-`` before it.  Raises ``NotCovered`` for a profile that there is not."""
    full = name if name.startswith("moaproof-") else f"moaproof-{name}"
    if full not in EXAMPLES:
        raise NotCovered(f"profile {name!r}: known are {', '.join(EXAMPLES)}")
    return full


def profile(name: str, max_examples: int | None = None) -> settings:
    """The settings of a profile, with or without ``moaproof-`` before its name."""
    full = full_name(name)
    if max_examples is not None and max_examples < 1:
        raise NotCovered(f"profile {name!r}: max_examples: at least 1 is due, not {max_examples}")
    quick = full == "moaproof-quick"
    return settings(
        max_examples=EXAMPLES[full] if max_examples is None else max_examples,
        derandomize=quick,
        database=None if quick else DirectoryBasedExampleDatabase(".hypothesis/examples"),
        deadline=None,
        print_blob=True,
        phases=tuple(p for p in PHASES if p is not LEFT_OUT.get(full)),
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
