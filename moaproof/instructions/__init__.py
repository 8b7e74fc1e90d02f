"""Instructions: the leaves that a generated kernel calls, one file a target and dtype.

Two files for one target differ in the dtype only, and so do the kernels that import them: the import line alone.
"""

from __future__ import annotations
