"""Benchmarks: run by hand or by ``make bench``; they print JSON."""
