"""Schedules: which laws to apply, in which order, to make a DNF a program.  One file a target; they read like notes."""

from __future__ import annotations

from collections.abc import Callable

from ..chain import Chain
from . import cpu, cuda

SCHEDULES: dict[str, tuple[str, Callable[[Chain], None]]] = {
    **{name: ("cpu", schedule) for name, schedule in cpu.SCHEDULES.items()},
    **{name: ("cuda", schedule) for name, schedule in cuda.SCHEDULES.items()},
}
