"""What a disc of a sample stands for: `validation/samples/<sample_id>.parquet`, which readers must not see.

Within one sample the weights are those of the file. Samples of which readings are given are combined: each makes its
own estimate of the whole cohort, and the estimates are averaged by the number of discs that were drawn at random. A
sample of `modic review --next` left out the discs of earlier ones, so its estimate adds each of these as one disc.

    weight of a disc of sample i = share_i · weight in i + sum of share_j over the samples j that left i out

Samples of whole patients keep their weights, which are of patients, and are not combined. The others are unbiased for
any shares; these sum to 1 (Cochran, Sampling Techniques, 1977, chapters 5 and 12).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from modic.errors import UsageError

Disc = tuple[str, str]  # study_key, level
LEVEL = "level"
"""The unit of a sample of single discs."""
RANDOM = "random"
"""How a disc was drawn; the other values of the column `drawn` are reasons to choose it."""


def disc_of(row: Mapping[str, Any]) -> Disc:
    """Of a row that holds study_key and level."""
    return row["study_key"], row["level"]


def sample_path(cohort_root: Path, sample_id: str) -> Path:
    """The file with the strata and weights of a sample of `modic review`."""
    return cohort_root / "validation" / "samples" / f"{sample_id}.parquet"


def known_sample(cohort_root: Path, sample_id: str, where: str) -> Path:
    """`sample_path` of a sample that was drawn. Raises UsageError, beginning with `where`, if there is none."""
    path = sample_path(cohort_root, sample_id)
    named_so = len(sample_id) < 100 and sample_id.replace("-", "").isalnum()  # else it may be another path
    if not (named_so and path.is_file()):
        raise UsageError(
            f"{where}: {cohort_root} knows no sample {sample_id[:40]!r}; was it drawn from another cohort?"
        )
    return path


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: weight of each disc, how each was drawn, and the samples whose discs could not be drawn."""

    weights: dict[Disc, float]
    drawn: dict[Disc, str]
    after: frozenset[str]
    unit: str  # level, or patient

    @property
    def n_random(self) -> int:
        """Discs that were drawn at random; at least 1."""
        return max(1, sum(how == RANDOM for how in self.drawn.values()))


class Samples:
    """The samples of a cohort, each read when a reading first names it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._samples: dict[str, Sample] = {}

    def named(self, sample_id: str, disc: Disc, where: str) -> Sample:
        """The sample that a reading of a disc names. Raises UsageError, beginning with `where`, if there is none."""
        if sample_id not in self._samples:
            self._samples[sample_id] = _read(known_sample(self._root, sample_id, where))
        sample = self._samples[sample_id]
        if disc not in sample.weights:
            raise UsageError(f"{where}: {disc[1]} of this study is not in sample {sample_id}")
        return sample

    def combined(self, sample_id: str, disc: Disc) -> float:
        """How many discs of the cohort a disc of a sample stands for, among all samples that were named."""
        if self._samples[sample_id].unit != LEVEL:
            return self._samples[sample_id].weights[disc]
        of_discs = {name: sample for name, sample in self._samples.items() if sample.unit == LEVEL}
        total = sum(sample.n_random for sample in of_discs.values())
        shares = {name: sample.n_random / total for name, sample in of_discs.items()}
        later = sum(shares[name] for name, sample in of_discs.items() if sample_id in sample.after)
        return shares[sample_id] * self._samples[sample_id].weights[disc] + later

    def left_out(self) -> list[str]:
        """Samples that a named one left out and that no reading names: of their discs nothing is said."""
        return sorted({name for sample in self._samples.values() for name in sample.after} - set(self._samples))


def _read(path: Path) -> Sample:
    rows = pq.read_table(path, partitioning=None).to_pylist()
    keys = [(row["study_key"], row["level"]) for row in rows]
    return Sample(
        {key: row["weight"] for key, row in zip(keys, rows, strict=True)},
        {key: row.get("drawn") or RANDOM for key, row in zip(keys, rows, strict=True)},
        frozenset(name for row in rows for name in (row.get("after") or "").split(",") if name),
        next((row["unit"] for row in rows if row.get("unit")), LEVEL),
    )
