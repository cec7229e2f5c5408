"""A cohort that still looks like what was read, and one that does not."""

from dataclasses import asdict, dataclass
from json import dumps

import numpy as np
import pytest

from modic.decode import decode_json
from modic.statistics.drift import Baseline, Drift, baseline, drift


@dataclass(frozen=True, eq=False)
class Made:
    """Features, patients and groups of made-up discs."""

    features: np.ndarray
    patients: np.ndarray
    groups: dict[str, np.ndarray]


def group(
    n: int, *, scanner: str, year: str, field: str, offset: float = 0.0, seed: int = 0, patients: int = 60
) -> Made:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 12)) * np.linspace(3, 0.5, 12)
    features[:, 0] += offset
    names = np.array([f"{scanner} {year} {i % patients}" for i in range(n)])
    of = {"scanner": scanner, "field strength": field, "year": year}
    return Made(features.astype(np.float16), names, {what: np.array([name] * n) for what, name in of.items()})


def together(*parts: Made) -> Made:
    return Made(
        np.concatenate([one.features for one in parts]),
        np.concatenate([one.patients for one in parts]),
        {what: np.concatenate([one.groups[what] for one in parts]) for what in parts[0].groups},
    )


def read_baseline(read: Made, shares: float = 1.0) -> Baseline:
    n = len(read.features)
    found = baseline(read.features, read.patients, np.ones(n), np.full(n, shares), read.groups)
    assert found is not None
    return found


def by_name(of: Baseline, cohort: Made) -> dict[str, Drift]:
    return {one.which: one for one in drift(of, cohort.features, cohort.patients, cohort.groups)}


READ = group(180, scanner="A", year="2020", field="0.9–2 T")


def test_a_scanner_whose_images_look_otherwise_drifts_and_is_to_be_read() -> None:
    other = group(100, scanner="B", year="2021", field="under 0.9 T", offset=6.0, seed=2)
    same = group(300, scanner="A", year="2020", field="0.9–2 T", seed=1)
    found = by_name(read_baseline(READ), together(same, other))
    assert not found["A"].far and not found["A"].to_read and found["A"].read == 180
    for name in ("B", "2021", "under 0.9 T"):
        assert found[name].far and found[name].to_read and (found[name].distance or 0) > 1.5
        assert found[name].share == 0.25 and found[name].read == 0


def test_few_discs_cannot_tell_and_chance_is_no_drift() -> None:
    few = group(20, scanner="B", year="2020", field="0.9–2 T", offset=9.0, seed=3, patients=4)
    same = [group(40, scanner=f"S{k}", year="2020", field="0.9–2 T", seed=10 + k, patients=10) for k in range(12)]
    found = by_name(read_baseline(READ), together(*same, few))
    assert found["B"].distance is None and not found["B"].far
    assert sum(found[f"S{k}"].far for k in range(12)) <= 1


def test_a_tenth_of_the_cohort_that_nobody_read_is_to_be_read_though_it_looks_alike() -> None:
    alike = group(100, scanner="C", year="2022", field="over 2 T", seed=4)
    found = by_name(read_baseline(READ), together(group(500, scanner="A", year="2020", field="0.9–2 T", seed=5), alike))
    assert found["over 2 T"].to_read and not found["over 2 T"].far


def test_a_disc_that_two_readers_share_is_one_disc_read() -> None:
    twice = together(READ, READ)
    found = by_name(read_baseline(twice, 0.5), READ)
    once = by_name(read_baseline(READ), READ)
    assert found["A"].read == once["A"].read == 180
    assert found["A"].distance == pytest.approx(once["A"].distance, abs=1e-3)


def test_a_baseline_is_kept_as_numbers_and_read_again() -> None:
    of = read_baseline(READ)
    assert decode_json(Baseline, dumps(asdict(of)), "drift.json") == of
    nothing = np.zeros((5, 0))
    assert baseline(nothing, READ.patients[:5], np.ones(5), np.ones(5), {}) is None
    assert drift(of, np.zeros((0, 12)), np.array([]), {"scanner": np.array([])}) == []
