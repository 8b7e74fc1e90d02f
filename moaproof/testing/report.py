"""What a campaign reports: distributions of observed/bound, and the error beside plain PyTorch's.

A *family* is a certificate and a dtype.  For each oracle it has the distribution of observed/bound over all elements,
counted by powers of two, so that reports of batches add up to the report of the campaign, in any order.  A family is
*loose* if its bound is more than 100 times the worst that was observed.

The comparison with plain PyTorch is that of FlashAttention's tests: the greatest error of our kernel and the greatest
of ``scaled_dot_product_attention`` in the same dtype on the same inputs, in units of u max|v| over the visible keys of
the row, and whether ours is at most twice PyTorch's plus 4.  It is a statistic of what was drawn: it refutes nothing,
and only an element beyond its bound does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

SCHEMA: Final = "moaproof/fuzz/2"
LOOSE: Final = 0.01  # of the bound
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)
NOTHING, BEYOND = -5000, 5000  # buckets of 0 and of infinity; float64 has exponents -1073 to 1024
NAMES: Final = {NOTHING: "0", BEYOND: "inf"}
TWICE, UNITS = 2.0, 4.0  # ours <= TWICE * PyTorch's + UNITS, in units of u max|v| of the row


@dataclass(slots=True)
class Spread:
    """How observed/bound is distributed: bucket e counts the elements in [2^(e-1), 2^e)."""

    elements: int = 0
    buckets: dict[int, int] = field(default_factory=dict)
    worst: float = 0.0
    case: dict[str, Any] | None = None  # the one with the worst element, as ``Case.to_json``
    batch: int = 0

    def add(self, ratios: Array, case: dict[str, Any], batch: int) -> None:
        if not ratios.size:
            return
        exponents = np.frexp(ratios)[1].astype(np.int64)
        exponents[ratios == 0] = NOTHING
        exponents[~np.isfinite(ratios)] = BEYOND
        found, counts = np.unique(exponents, return_counts=True)
        some = dict(zip(found.tolist(), counts.tolist(), strict=True))
        finite = float(ratios.max()) if np.isfinite(ratios).all() else math.inf
        self.merge(Spread(int(ratios.size), some, finite, case, batch))

    def merge(self, other: Spread) -> None:
        """In any order the same: of equal worst cases that of the lowest batch is kept, and in a batch the first."""
        self.elements += other.elements
        for e, count in other.buckets.items():
            self.buckets[e] = self.buckets.get(e, 0) + count
        if other.case is not None and (
            self.case is None or (-other.worst, other.batch) < (-self.worst, self.batch)
        ):  # fmt: skip
            self.worst, self.case, self.batch = other.worst, other.case, other.batch

    def quantile(self, p: float) -> float:
        """No more than this for a fraction ``p`` of the elements: the upper end of a bucket, or the worst."""
        due, met = p * self.elements, 0
        for e, count in sorted(self.buckets.items()):
            met += count
            if met >= due:
                return 0.0 if e == NOTHING else self.worst if e == BEYOND else min(math.ldexp(1.0, e), self.worst)
        return 0.0

    def to_json(self) -> dict[str, Any]:
        """Bucket e is called 2^e: below that, and at least half of it."""
        counts = {NAMES.get(e, f"2^{e}"): count for e, count in sorted(self.buckets.items())}
        worst = {"worst": self.worst.hex(), "case": self.case, "batch": self.batch}
        return {"elements": self.elements, "histogram": counts, **worst}

    @classmethod
    def from_json(cls, d: Mapping[str, Any]) -> Spread:
        known = {name: e for e, name in NAMES.items()}
        counts = {known[n] if n in known else int(n.removeprefix("2^")): int(c) for n, c in d["histogram"].items()}
        return cls(int(d["elements"]), counts, float.fromhex(d["worst"]), d["case"], int(d["batch"]))


@dataclass(slots=True)
class Comparison:
    """The greatest errors of our rows and of plain PyTorch's, in units of u max|v|, against the last oracle."""

    rows: int = 0
    ours: float = 0.0
    plain: float = 0.0
    excluded: int = 0  # rows of causal calls with a scale <= 0, by which PyTorch multiplies -inf: NaN, known
    not_finite: int = 0  # other rows where PyTorch's result is not finite

    @property
    def kept(self) -> bool:
        return self.ours <= TWICE * self.plain + UNITS

    def merge(self, other: Comparison) -> None:
        self.rows += other.rows
        self.ours, self.plain = max(self.ours, other.ours), max(self.plain, other.plain)
        self.excluded += other.excluded
        self.not_finite += other.not_finite

    def to_json(self) -> dict[str, Any]:
        counts = {"rows": self.rows, "excluded": self.excluded, "not_finite": self.not_finite}
        return {"ours": self.ours.hex(), "pytorch": self.plain.hex(), **counts}

    @classmethod
    def from_json(cls, d: Mapping[str, Any]) -> Comparison:
        worst = float.fromhex(d["ours"]), float.fromhex(d["pytorch"])
        return cls(int(d["rows"]), *worst, int(d["excluded"]), int(d["not_finite"]))


@dataclass(slots=True)
class Family:
    """A certificate and a dtype: its cases, a spread for each oracle, and the comparison with plain PyTorch."""

    cases: int = 0
    oracles: dict[str, Spread] = field(default_factory=dict)
    against: Comparison = field(default_factory=Comparison)

    @property
    def worst(self) -> float:
        return max((s.worst for s in self.oracles.values()), default=0.0)

    @property
    def judge(self) -> str:
        """The oracle with the narrowest tolerance: the last, which is the enclosure where there is one."""
        return list(self.oracles)[-1] if self.oracles else ""

    @property
    def loose(self) -> bool:
        s = self.oracles.get(self.judge)
        return s is not None and s.elements > 0 and s.worst < LOOSE

    def merge(self, other: Family) -> None:
        self.cases += other.cases
        for oracle, spread in other.oracles.items():
            self.oracles.setdefault(oracle, Spread()).merge(spread)
        self.against.merge(other.against)

    def to_json(self) -> dict[str, Any]:
        """The oracles are a list: their order, PyTorch float64 first, is part of what is said."""
        spreads = [{"oracle": name, **s.to_json()} for name, s in self.oracles.items()]
        return {"cases": self.cases, "oracles": spreads, "against_pytorch": self.against.to_json()}

    @classmethod
    def from_json(cls, d: Mapping[str, Any]) -> Family:
        spreads = {str(s["oracle"]): Spread.from_json(s) for s in d["oracles"]}
        return cls(int(d["cases"]), spreads, Comparison.from_json(d["against_pytorch"]))


@dataclass(slots=True)
class Report:
    """What some cases gave: families, and the worst observed/bound by regime of the scores."""

    cases: int = 0
    elements: int = 0
    outside: int = 0  # drawn, but the bound says nothing there
    families: dict[str, Family] = field(default_factory=dict)
    regimes: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        return max((f.worst for f in self.families.values()), default=0.0)

    def merge(self, other: Report) -> None:
        self.cases += other.cases
        self.elements += other.elements
        self.outside += other.outside
        for name, family in other.families.items():
            self.families.setdefault(name, Family()).merge(family)
        for regime, (count, worst) in other.regimes.items():
            before, most = self.regimes.get(regime, (0, 0.0))
            self.regimes[regime] = before + count, max(most, worst)

    def to_json(self) -> dict[str, Any]:
        regimes = {name: {"cases": n, "worst": worst.hex()} for name, (n, worst) in sorted(self.regimes.items())}
        families = {name: f.to_json() for name, f in sorted(self.families.items())}
        counts = {"cases": self.cases, "elements": self.elements, "outside": self.outside}
        return {**counts, "families": families, "regimes": regimes}

    @classmethod
    def from_json(cls, d: Mapping[str, Any]) -> Report:
        families = {str(name): Family.from_json(f) for name, f in d["families"].items()}
        regimes = {str(name): (int(r["cases"]), float.fromhex(r["worst"])) for name, r in d["regimes"].items()}
        return cls(int(d["cases"]), int(d["elements"]), int(d["outside"]), families, regimes)

    # --- for a reader -----------------------------------------------------------------------------

    def lines(self) -> list[str]:
        return [
            *self._distributions(),
            *self._comparisons(),
            *self._regimes(),
            f"{self.cases} cases, {self.elements} elements compared; {self.outside} outside the domain of the bound",
        ]

    def _distributions(self) -> Iterator[str]:
        heads = "".join(f"{f'{100 * p:g}%':>9}" for p in QUANTILES)
        yield f"{'observed/bound, at most':<58}{'elements':>10}{heads}{'worst':>9}"
        for name, family in sorted(self.families.items()):
            for oracle, s in family.oracles.items():
                cells = "".join(f"{x:>9.2g}" for x in (*map(s.quantile, QUANTILES), s.worst))
                yield f"{name:<34}{oracle:<24}{s.elements:>10}{cells}"
            if family.loose:
                yield f"{name:<34}loose: the bound is more than {1 / LOOSE:.0f} times the worst observed"

    def _comparisons(self) -> Iterator[str]:
        yield f"{'greatest error, in u max|v| of its row, against':<58}{'rows':>10}{'ours':>9}{'PyTorch':>9}"
        for name, family in sorted(self.families.items()):
            c = family.against
            other = (
                f"   PyTorch's is more than {TWICE:g} * ours + {UNITS:g}" if c.plain > TWICE * c.ours + UNITS else ""
            )
            kept = other if c.kept else f"   more than {TWICE:g} * PyTorch's + {UNITS:g}"
            yield f"{name:<34}{family.judge:<24}{c.rows:>10}{c.ours:>9.3g}{c.plain:>9.3g}{kept}"
        yield from _left_out(f.against for f in self.families.values())

    def _regimes(self) -> Iterator[str]:
        yield f"{'regime of the scores':<34}{'cases':>10}{'worst':>9}"
        for name, (count, worst) in sorted(self.regimes.items()):
            yield f"{name:<34}{count:>10}{worst:>9.2g}"


def _left_out(comparisons: Iterable[Comparison]) -> Iterator[str]:
    found = list(comparisons)
    excluded, other = sum(c.excluded for c in found), sum(c.not_finite for c in found)
    if excluded:
        yield f"not compared: {excluded} rows of causal calls with a scale <= 0, where PyTorch gives NaN (-inf * scale)"
    if other:
        yield f"not compared: {other} more rows where PyTorch's result is not finite"
