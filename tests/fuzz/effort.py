"""How much is tried: little and always the same by default, more under a profile of moaproof's.

``pytest tests/fuzz --hypothesis-profile moaproof-nightly`` tries twenty thousand of each.
"""

from __future__ import annotations

from hypothesis import settings

from moaproof.testing.profiles import EXAMPLES, profile


def effort(quick: int) -> settings:
    """The settings of a fuzz test that tries ``quick`` cases unless a longer profile is asked for."""
    asked = settings.get_current_profile_name()
    return profile("quick", quick) if asked not in EXAMPLES or asked == "moaproof-quick" else profile(asked)
