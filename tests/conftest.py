"""What all suites share: tests that are marked as one group run on one worker of pytest-xdist."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name the group in the node's id, where ``--dist loadgroup`` reads it.

    pytest-xdist 3.8 does that itself, but in an attribute that pytest 9.2 does not read any more: every worker would
    then judge the whole corpus of mutants.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        groups = [str(mark.args[0]) for mark in item.iter_markers("xdist_group")]
        if groups and item.parent is not None and "@" not in item.nodeid:
            item._id = item.parent.id.child(f"{item.name}@{groups[0]}")
