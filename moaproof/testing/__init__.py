"""Strategies, oracles and profiles for property tests of attention kernels."""
