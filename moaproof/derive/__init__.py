"""Untrusted search: from a Spec to its DNF, and from the DNF to programs for a machine.

Whatever is found here is re-checked.
"""
