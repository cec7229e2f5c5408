"""A design by name: it comes with modic, or is found where it was trained."""

from pathlib import Path
from typing import Any

import pytest

from modic.models import card
from modic.models.card import read_card, weights_path
from modic.models.weights import save_weights
from modic.run.prepare import prepare

KINDS = ("detector", "classifier")
CARDS: dict[str, dict[str, Any]] = {
    "detector": {"architecture": {}, "preprocessing": {"image_size": 64, "percentiles": [1, 99]}},
    "classifier": {
        "architecture": {}, "calibration": {"temperature": 1.0, "conformal_q": [0.5] * 3},
        "preprocessing": {"normalization": "standardize", "region_scale": 1.3, "region_size": 8, "slices": 5},
    },
}  # fmt: skip


def write_design(folder: Path, *, own_folders: bool) -> None:
    for kind in KINDS:
        save_weights(
            (folder / kind if own_folders else folder) / f"{kind}.safetensors", {}, CARDS[kind] | {"kind": kind}
        )


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "archive").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "archive"


@pytest.mark.parametrize("where", ["--models", "cohort.toml"])
def test_the_papers_networks_come_with_modic(archive: Path, where: str) -> None:
    Path("cohort.toml").write_text('detector = "paper"\nclassifier = "paper"\n')
    given = {"models": "paper"} if where == "--models" else {"config": "cohort.toml"}
    run = prepare(str(archive), "cohort", **given)
    cards = {kind: read_card("paper", kind)[0] for kind in KINDS}
    assert (run.detector_id, run.classifier_id) == tuple(cards[kind]["sha256"][:12] for kind in KINDS)
    assert cards["detector"]["architecture"]["backbone"] == "resnet50"
    assert cards["classifier"]["architecture"]["backbone"] == "resnet3d"
    assert cards["classifier"]["preprocessing"]["slices"] == 5
    assert cards["classifier"]["preprocessing"]["normalization"] == "standardize"


def test_all_shipped_weights_fit_into_a_wheel() -> None:
    assert sum(path.stat().st_size for path in card.SHIPPED.rglob("*") if path.is_file()) < 120e6


@pytest.mark.parametrize("own_folders", [True, False], ids=["as trained", "side by side"])
def test_an_installed_design_gives_both_networks(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_folders: bool
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    for path in (path for path in card.SHIPPED.iterdir() if path.is_file()):
        (shipped / path.name).symlink_to(path)
    write_design(shipped / "paper", own_folders=own_folders)
    monkeypatch.setattr(card, "SHIPPED", shipped)
    (tmp_path / "paper").mkdir()  # a folder of that name here does not hide what is installed
    run = prepare(str(archive), "cohort", models="paper")
    assert (run.config.detector, run.config.classifier, run.given.models) == ("paper",) * 3
    assert {run.detector_id, run.classifier_id} == {read_card("paper", kind)[0]["sha256"][:12] for kind in KINDS}


def test_what_was_trained_into_a_folder_is_found_by_its_path(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_design(Path("paper"), own_folders=True)
    monkeypatch.setattr("modic.run.prepare.check_networks", lambda *_: None)  # these hold no network
    run = prepare(str(archive), "cohort", models="./paper")
    folder = str(Path("paper").resolve())
    assert (run.config.detector, run.config.classifier, run.given.models) == (folder,) * 3
    assert weights_path(folder, "detector") == Path(folder, "detector", "detector.safetensors")
