"""Discs counted from C2/C3 on localizers of phantoms; no count where the image does not show it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modic.errors import WeightsError
from modic.imaging.volume import CanonicalVolume, Volume
from modic.levels import count_from_c2 as c2
from modic.levels.count_from_c2 import Count, Step, count_discs, decide, features, with_count
from modic.models.card import SHIPPED
from modic.models.step_classifier import StepClassifier, load_step_classifier
from modic.records import LevelSet, Transitional
from whole_spines import WholeSpine, whole_spine


@pytest.fixture(scope="module")
def classifier() -> StepClassifier:
    return load_step_classifier()


@pytest.fixture(scope="module")
def usual() -> WholeSpine:
    return whole_spine()


@pytest.fixture(scope="module")
def localizer(usual: WholeSpine) -> CanonicalVolume:
    return usual.localizer()


def rows_from(volume: CanonicalVolume, z: float) -> CanonicalVolume:
    """The part of a volume below a height, mm."""
    first = int(volume.to_index(np.array([[0, 0, z]]))[0, 1])
    affine = volume.affine.copy()
    affine[:3, 3] = volume.to_mm(np.array([[0, first, 0]]))[0]
    return Volume(np.ascontiguousarray(volume.voxels[:, first:]), affine).canonical()


@pytest.mark.parametrize(("more", "pixel_mm"), [(-1, 1.4), (0, 1.4), (1, 1.4), (0, 0.9)])
def test_discs_are_counted_whatever_their_number_and_the_pixels(
    more: int, pixel_mm: float, classifier: StepClassifier
) -> None:
    spine = whole_spine(more=more, pixel_mm=pixel_mm)
    count = count_discs(spine.localizer(), spine.named, classifier)
    assert count is not None and count.discs == len(spine.discs) == 23 + more
    assert c2.SURE <= count.probability <= 1


@pytest.mark.parametrize("below", [0, 2, 13])  # C2 itself, the neck, all but the lumbar spine
def test_an_image_that_ends_below_c2_gives_no_count(
    below: int, usual: WholeSpine, localizer: CanonicalVolume, classifier: StepClassifier
) -> None:
    cut = rows_from(localizer, float(usual.discs[-1 - below, 2]) + 6)
    assert count_discs(cut, usual.named, classifier) is None


def test_an_image_of_something_else_gives_no_count(
    usual: WholeSpine, localizer: CanonicalVolume, classifier: StepClassifier
) -> None:
    noise = np.random.default_rng(1).random(localizer.voxels.shape, np.float32)
    for voxels in (noise, localizer.voxels.max() - localizer.voxels, np.zeros_like(noise)):
        assert count_discs(replace(localizer, voxels=voxels), usual.named, classifier) is None


def test_discs_that_were_not_all_named_or_lie_elsewhere_give_no_count(
    usual: WholeSpine, localizer: CanonicalVolume, classifier: StepClassifier
) -> None:
    beside = usual.named + np.array([60.0, 0, 0])
    below = usual.named - np.array([0, 0, 300.0])
    for named in (usual.named[1:], beside, below):
        assert count_discs(localizer, named, classifier) is None


def steps(score: float) -> list[Step]:
    """Of a spine that ends at 23 discs, whose path has that log-likelihood a step."""
    made = []
    for discs in range(c2.NAMED + 1, c2.MOST + 1):
        lower, upper = np.array([[50.0, 130.0]]), np.array([[50.0, 115.0]])
        log_p = np.log([[0.01, 0.04, 0.95] if discs == 23 else [0.01, 0.98, 0.01]])
        made.append(Step(lower, upper, np.zeros((1, 1)), log_p, np.array([score * (discs - 6)]), np.array([0]), discs))
    return made


def test_a_sure_count_on_a_strange_path_is_none() -> None:
    size = np.array([100.0, 300.0])
    count = decide(steps(c2.SCORE_MIN + 0.01), size)
    assert count is not None and count.discs == 23 and count.probability == pytest.approx(0.94, abs=0.02)
    assert decide(steps(c2.SCORE_MIN - 0.01), size) is None
    assert decide(steps(-0.01), np.array([100.0, 70.0])) is None  # C2 lies beyond the image


def test_the_shipped_weights_take_the_features_that_are_made(classifier: StepClassifier) -> None:
    discs = np.array([[20.0, 60.0], [20.0, 30.0]])
    made = features(
        np.random.default_rng(0).random((90, 40)).astype(np.float32), np.ones(2), discs[:1], discs[1:], 30.0
    )
    assert made.shape == (1, len(classifier.weights[0]))
    assert np.exp(classifier.log_p(made)).sum() == pytest.approx(1, abs=1e-2)  # but for the floor


def test_weights_that_do_not_fit_their_card_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "steps.safetensors"
    weights.symlink_to(SHIPPED / "count_from_c2.safetensors")
    card = json.loads((SHIPPED / "count_from_c2.json").read_text())
    card["architecture"]["hidden"] = 47
    weights.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="does not fit its card's architecture"):
        load_step_classifier(str(weights))


SURE = LevelSet((), "ok", 0.97, Transitional(False, 0.1), "sacrum")
SUSPECTED = replace(SURE, transitional=Transitional(True, 0.95, "disc more"))
NO_SACRUM = LevelSet((), "uncertain", 0.4, Transitional(None, None, "sacrum not in view"), "looks of the discs")


@pytest.mark.parametrize(
    ("levels", "discs", "expected"),
    [
        (SURE, 23, replace(SURE, basis="count from C2")),
        (SUSPECTED, 23, replace(SUSPECTED, basis="count from C2")),  # it takes no doubt away
        (NO_SACRUM, 23, replace(NO_SACRUM, basis="count from C2")),
        (SURE, 24, LevelSet((), "uncertain", 0.6, Transitional(True, 0.8, c2.DISAGREES), "sacrum")),
        (SURE, 22, LevelSet((), "uncertain", 0.6, Transitional(True, 0.8, c2.DISAGREES), "sacrum")),
        (SUSPECTED, 24, LevelSet((), "uncertain", 0.6, Transitional(True, 0.95, c2.DISAGREES), "sacrum")),
        (NO_SACRUM, 22, NO_SACRUM),  # the lowest disc named need not be the last one
    ],
)  # fmt: skip
def test_what_a_count_says_of_the_names(levels: LevelSet, discs: int, expected: LevelSet) -> None:
    assert with_count(levels, Count(discs, 0.8), doubted=0.6, suspected_from=0.5) == expected


def test_a_count_that_disagrees_is_suspected_by_a_cautious_configuration_too() -> None:
    counted = with_count(SURE, Count(24, 0.8), doubted=0.6, suspected_from=0.9)
    assert counted.transitional == Transitional(True, 0.9, c2.DISAGREES)
