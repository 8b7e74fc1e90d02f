"""Refuse a wheel that lacks a file of the packages, or has one more.

Usage: git ls-files -z FOLDERS | compare_wheel.py WHEEL
"""

from __future__ import annotations

import sys
import zipfile


def _installed_name(path: str) -> str:
    return path if path.startswith("moaproof/") else f"moaproof/{path}"


def main() -> int:
    """Print each difference; 1 if there is one."""
    kept = {_installed_name(path) for path in sys.stdin.read().split("\0") if path}
    packed = {n for n in zipfile.ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in n}
    for name in sorted(kept - packed):
        print(f"not in the wheel: {name} (see packages and package-data in pyproject.toml)")
    for name in sorted(packed - kept):
        print(f"in the wheel only: {name}")
    return int(kept != packed)


if __name__ == "__main__":
    sys.exit(main())
