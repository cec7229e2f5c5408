"""A study and a shard that several tests share."""

from pathlib import Path

import pytest

from dicoms import study, write
from made_studies import GRADER, pairs_of
from modic.cohort import Cohort, create_cohort
from modic.records import Pair
from modic.run.shards import Job


@pytest.fixture
def one_pair(tmp_path: Path) -> Pair:
    write(study(rows=64, columns=48, spacing=(2.0, 2.0)), tmp_path / "archive")
    return pairs_of(tmp_path / "archive")[0]


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    (tmp_path / "archive").mkdir(exist_ok=True)
    return create_cohort(tmp_path / "cohort", archive=tmp_path / "archive")


@pytest.fixture
def job(cohort: Cohort) -> Job:
    return Job(cohort, "20261123T200000Z-1f0c", "cpu", 5.0, GRADER)
