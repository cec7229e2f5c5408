"""How many readings a wanted interval needs, before anything is read: `modic review COHORT --plan --by level,grade`.

The variance that the difference estimator will have (modic.statistics.difference) is that of the residuals within each
stratum. It is guessed twice from the model's own probabilities, brought to this cohort's prevalence:

| number | the model is taken                                                                                    |
|--------|-------------------------------------------------------------------------------------------------------|
| least  | at its word: a residual varies by p (1 - p) of its own unit                                           |
| most   | as no help within a stratum: it varies by the stratum's mean share s, s (1 - s)                       |

Both rest on probabilities that nobody has checked here. In the cohort of tests/benchmarks/made_up_cohort.py, 25 samples
each, intervals were as wide as planned: where ± 2 % was wanted, MC2 (11 %) had ± 1.9 and 1.8 % (613 and 705 discs), MC1
(2 %) ± 2.1 % (265). Discs of one patient are taken for independent: with few hundred discs of many patients they nearly
are.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from modic.errors import UsageError
from modic.grades import P
from modic.reader_study.sample import allocate, graded_discs, readable_units, strata_of, unit_of
from modic.statistics.metric_tables import Table
from modic.statistics.patient_shares import OUTCOMES, patients_of
from modic.statistics.prevalence import own_prevalence

WIDTHS = (0.01, 0.02, 0.03, 0.05)
"""Distances of the interval's ends from the share, which are planned if none is wanted."""


@dataclass(frozen=True, slots=True)
class ReadingsNeeded:
    """For each outcome its guessed share; and for each width the fewest units, least and most; None: all do not do."""

    unit: str
    n_units: int
    n_strata: int
    discs_a_unit: float
    widths: tuple[float, ...]
    shares: dict[str, float]
    needs: dict[tuple[str, float], tuple[int | None, int | None]]

    def table(self) -> Table:
        """For people: one row an outcome."""
        header = (f"{self.unit}s to read for", "share, guessed", *(f"± {100 * w:g} %" for w in self.widths))
        body = [
            (name, f"{100 * share:.1f} %", *(_span(self.needs[name, width]) for width in self.widths))
            for name, share in self.shares.items()
        ]
        title = (
            f"{self.n_units:,} {self.unit}s with images in {self.n_strata} strata; {self.discs_a_unit:.1f} discs each"
        )
        return Table(title, header, body)


def _span(need: tuple[int | None, int | None]) -> str:
    least, most = ("all are too few" if n is None else f"{n:,}" for n in need)
    return least if least == most else f"{least} to {most}"


def readings_needed(
    cohort_root: Path, *, by: list[str], width: float | None = None, visits: str = "first"
) -> ReadingsNeeded:
    """The plan for a sample of `modic review` by these columns.

    `width`: of the interval, from the share to each end (0.02 is ± 2 %); None plans WIDTHS. Raises UsageError for a
    width that is not between 0 and 0.5, and as `modic.reader_study.sample.review`.
    """
    if width is not None and not 0 < width < 0.5:
        raise UsageError("--width is the distance from the share to the end of its interval: 0.02 is ± 2 %")
    units = readable_units(graded_discs(cohort_root), by, visits)
    if len(units) < 2:
        raise UsageError(
            f"{cohort_root} has no graded discs with images to read; grade with `pictures = true` in [run]"
        )
    strata = strata_of(units, by)
    order = [unit for name in sorted(strata) for unit in strata[name]]
    p = _probabilities(pd.DataFrame([disc for unit in order for disc in unit]), unit_of(by))
    of = np.repeat(np.arange(len(strata)), [len(strata[name]) for name in sorted(strata)])
    widths = WIDTHS if width is None else (width,)
    needs = {
        (name, wide): tuple(_fewest(of, residuals, p[:, i], wide) for residuals in _guessed(p[:, i], of))
        for i, name in enumerate(OUTCOMES)
        for wide in widths
    }
    shares = {name: float(p[:, i].mean()) for i, name in enumerate(OUTCOMES)}
    discs = sum(map(len, order)) / len(order)
    return ReadingsNeeded(
        unit_of(by), len(order), len(strata), discs, widths, shares, {k: (a, b) for k, (a, b) in needs.items()}
    )


def _probabilities(discs: pd.DataFrame, unit: str) -> np.ndarray:
    """What the model says of OUTCOMES (units, outcomes), in the order in which units first come."""
    if unit == "patient":
        first = discs.drop_duplicates(["patient_key", "level"])
        patients = patients_of(first)
        return patients.p[np.searchsorted(patients.keys, first["patient_key"].drop_duplicates().to_numpy(str))]
    p = own_prevalence(discs[P].to_numpy(float))
    return np.column_stack([p[:, list(types)].sum(1) for types in OUTCOMES.values()])


@dataclass(frozen=True, slots=True)
class _Residuals:
    """Of each stratum the mean square (strata,) of what readers will add to the model, and the mean fourth power."""

    square: np.ndarray
    fourth: np.ndarray

    @classmethod
    def of_shares(cls, p: np.ndarray) -> "_Residuals":
        """Of outcomes 0 and 1 with the probabilities `p` (any shape), each about its own."""
        square = p * (1 - p)
        return cls(square, square * ((1 - p) ** 3 + p**3))


def _guessed(p: np.ndarray, of: np.ndarray) -> tuple[_Residuals, _Residuals]:
    """Least and most."""
    n, units = np.bincount(of), _Residuals.of_shares(p)
    least = _Residuals(np.bincount(of, units.square) / n, np.bincount(of, units.fourth) / n)
    return least, _Residuals.of_shares(np.bincount(of, p) / n)


def _fewest(of: np.ndarray, residuals: _Residuals, p: np.ndarray, width: float) -> int | None:
    """Fewest units of which the interval is as narrow as wanted; None if reading all does not suffice.

    The interval is Student's, with the degrees of freedom that modic.statistics.difference will find
    (`Estimate.spread`): few if the model misses a rare type in few units.
    """
    sizes = np.bincount(of)
    names = [f"{i:09d}" for i in range(len(sizes))]
    of_cohort = p.mean() * (1 - p.mean()) / len(p)

    def half(n: int) -> float:
        drawn = allocate(dict(zip(names, sizes.tolist(), strict=True)), n)
        counts = np.array([drawn[name] for name in names])
        weight = sizes / counts / len(p)
        variance = (counts * weight**2 * (1 - counts / sizes) * residuals.square).sum() + of_cohort
        fourth = (counts * weight**4 * (1 - counts / sizes) ** 2 * residuals.fourth).sum()
        relative = fourth / variance**2 - 1 / n
        freedom = np.clip(2 / max(relative, 1e-12), 1, max(n - 1, 1))
        return float(stdtrit(freedom, 0.975) * np.sqrt(variance))

    few, many = len(sizes), len(p)
    if half(many) > width:
        return None
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if half(middle) <= width else (middle + 1, many)
    return few
