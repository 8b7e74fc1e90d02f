"""Replay of shipped texts, and the assembly of all judges."""
