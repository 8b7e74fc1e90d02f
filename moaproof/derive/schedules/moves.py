"""Moves that every target shares: hoist what does not change, name every fold, flatten reads, bind axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...operators import Context
from ...term import Term, mentions, subterms
from ..chain import Chain, Path

ELEMENT = {"build": 1, "tiles": 3, "let": 1, "fold": 2}


def gamma_everywhere(chain: Chain) -> None:
    """Every read of an input by a full index becomes a read at its row-major offset."""

    def read(t: Term, ctx: Context) -> tuple[str, tuple[int]] | None:
        return ("gamma", (len(t.args) - 1,)) if t.op == "psi" and t.args[0].op == "in" else None

    chain.everywhere(read)


def inner_nest(chain: Chain, root: Path = ()) -> list[Path]:
    """The paths of the builds and tiles from ``root`` to the first thing that is neither, outermost first."""
    path = root
    found: list[Path] = []
    while (t := chain.at(path)).op in ("build", "tiles"):
        found.append(path)
        path = (*path, ELEMENT[t.op])
    return found


def walk(t: Term, path: Path = (), depth: int = 0) -> Iterator[tuple[Path, Term, int]]:
    """Every position below, with its path and the number of binders between, innermost last."""
    yield path, t, depth
    for k, (a, n) in enumerate(zip(t.args, t.binds, strict=True)):
        yield from walk(a, (*path, k), depth + n)


def invariant(chain: Chain, root: Path, wanted: Callable[[Term], bool], largest: bool = False) -> Path | None:
    """The smallest or largest wanted subterm under ``root`` that mentions no binder between: it can be named there."""
    found: list[tuple[int, Path]] = []
    for path, t, depth in walk(chain.at(root)):
        if path and wanted(t) and not any(mentions(t, v) for v in range(depth)):
            found.append((sum(1 for _ in subterms(t)), path))
    if not found:
        return None
    return (max(found, key=lambda f: f[0]) if largest else min(found, key=lambda f: f[0]))[1]


def name_folds(chain: Chain) -> None:
    """Every fold becomes the value of a let, at the nearest element that it belongs to."""
    while True:
        found = _loose_fold(chain.term)
        if found is None:
            return
        chain.name(*found)


def _loose_fold(t: Term, root: Path = (), path: Path = (), value: bool = False) -> tuple[Path, Path] | None:
    """(element, fold below it) for the innermost fold that is no let's value; statements stand at elements."""
    for k, (a, n) in enumerate(zip(t.args, t.binds, strict=True)):
        below = (*path, k)
        element = bool(n) and not (t.op == "fold" and k == 1)
        found = _loose_fold(a, below if element else root, below, t.op == "let" and k == 0)
        if found is not None:
            return found
    if t.op == "fold" and not value:
        return root, path[len(root) :]
    return None


def bind_leading(chain: Chain, axis: str = "core", root: Path = ()) -> None:
    """Bind the outer axes to the machine: up to the first tiles, or all that a row stands under, at most 4."""
    nest = inner_nest(chain, root)
    tiled = [p for p in nest if chain.at(p).op == "tiles"]
    if tiled:
        for p in nest[: nest.index(tiled[0])]:
            chain.do("bind-axis", p, axis)
        chain.do("bind-tiles", tiled[0], axis)
        return
    statements = bool(nest) and chain.at((*nest[-1], 1)).op == "let"
    for p in (nest if statements or len(nest) == 1 else nest[:-1])[:4]:
        chain.do("bind-axis", p, axis)
