"""Schedules: which laws to apply, in which order, to make a DNF a program.  One file a target; they read like notes."""
