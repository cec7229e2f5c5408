"""What several integration tests need."""

import pytest

from fake_worker import without_networks
from modic.models import weights
from modic.run import worker


@pytest.fixture
def no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies are graded without networks in this process; undone after the test."""
    monkeypatch.setattr(worker, "load_models", worker.load_models)
    monkeypatch.setattr(worker, "grade_study", worker.grade_study)
    monkeypatch.setattr(weights.Models, "usable", weights.Models.usable)
    without_networks()
