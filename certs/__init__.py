"""Committed certificates."""
