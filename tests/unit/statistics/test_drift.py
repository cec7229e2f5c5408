"""A cohort that still looks like what was read, and one that does not."""

import numpy as np

from modic.adapt.drift import Drift, drift
from modic.adapt.site_data import Group, field_name
from modic.adapt.update import Discs


def group(
    n: int, *, scanner: str, year: int, field: str, offset: float = 0.0, seed: int = 0, patients: int = 60
) -> Group:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 12)) * np.linspace(3, 0.5, 12)
    features[:, 0] += offset
    names = np.array([f"{scanner} {year} {i % patients}" for i in range(n)])
    discs = Discs(np.zeros((n, 3)), features.astype(np.float16), np.zeros(n, int), names, np.ones(n))
    one = np.array([""] * n)
    return Group(discs, one, np.array([scanner] * n), np.array([field] * n), np.full(n, year), (None,) * n)


def together(*groups: Group) -> Group:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in groups])

    parts = (np.concatenate([getattr(one.discs, name) for one in groups]) for name in Discs.__dataclass_fields__)
    return Group(Discs(*parts), joined("levels"), joined("scanners"), joined("fields"), joined("years"),
                 sum((one.marrow for one in groups), ()))  # fmt: skip


def by_name(found: list[Drift]) -> dict[str, Drift]:
    return {one.which: one for one in found}


READ = group(180, scanner="A", year=2020, field="0.9–2 T")


def test_a_scanner_whose_images_look_otherwise_drifts_and_is_to_be_read() -> None:
    other = group(100, scanner="B", year=2021, field="under 0.9 T", offset=6.0, seed=2)
    found = by_name(drift(READ, together(group(300, scanner="A", year=2020, field="0.9–2 T", seed=1), other)))
    assert not found["A"].drifts and not found["A"].to_read and found["A"].read == 180
    for name in ("B", "2021", "under 0.9 T"):
        assert found[name].drifts and found[name].to_read and (found[name].distance or 0) > 1.5
        assert found[name].share == 0.25 and found[name].read == 0


def test_few_discs_cannot_tell_and_chance_is_no_drift() -> None:
    few = group(20, scanner="B", year=2020, field="0.9–2 T", offset=9.0, seed=3, patients=4)
    same = [group(40, scanner=f"S{k}", year=2020, field="0.9–2 T", seed=10 + k, patients=10) for k in range(12)]
    found = by_name(drift(READ, together(*same, few)))
    assert found["B"].distance is None and not found["B"].drifts
    assert sum(found[f"S{k}"].drifts for k in range(12)) <= 1


def test_a_tenth_of_the_cohort_that_nobody_read_is_to_be_read_though_it_looks_alike() -> None:
    alike = group(100, scanner="C", year=2022, field="over 2 T", seed=4)
    found = by_name(drift(READ, together(group(500, scanner="A", year=2020, field="0.9–2 T", seed=5), alike)))
    assert found["over 2 T"].to_read and not found["over 2 T"].drifts


def test_field_strengths_fall_into_strata() -> None:
    assert [field_name(value) for value in (0.3, 1.5, 3.0, None)] == [
        "under 0.9 T", "0.9–2 T", "over 2 T", "unknown field",
    ]  # fmt: skip
