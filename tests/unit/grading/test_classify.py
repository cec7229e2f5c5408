"""Grading with a tiny random network: shapes, calibration, abstention, determinism."""

from typing import Any

import numpy as np
import pytest

from modic.errors import WeightsError
from modic.grading.classify import grade_regions, prediction_set
from modic.models.classifier import build_classifier
from modic.models.weights import Model, load_classifier
from modic.records import LEVELS, Region

TINY = {"depth": 10, "widths": [4, 4, 4, 4], "dropout": 0.1}
CARD: dict[str, Any] = {"preprocessing": {}, "calibration": {"temperature": 1.0, "conformal_q": [0.5, 0.5, 0.5]}}


@pytest.fixture(scope="module")
def classifier() -> Model:
    import torch

    torch.manual_seed(0)
    return Model(build_classifier(TINY).eval(), CARD, "0" * 12, "cpu")


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_classifier()


def regions(n: int = 6) -> list[Region]:
    rng = np.random.default_rng(1)
    images = rng.normal(size=(n, 2, 5, 32, 32)).astype(np.float32)
    return [Region(level, {"t1": t1, "t2": t2}) for level, (t1, t2) in zip(LEVELS, images, strict=False)]


def repeated(region: Region, k: int) -> Region:
    """A region whose five slices all are its slice `k`."""
    return Region(region.level, {name: np.repeat(v[k : k + 1], 5, 0) for name, v in region.contrasts.items()})


def with_calibration(classifier: Model, **values: Any) -> Model:
    return Model(classifier.net, {**CARD, "calibration": {**CARD["calibration"], **values}}, classifier.id, "cpu")


def test_grades_come_in_order_and_sum_to_1(classifier: Model) -> None:
    grades = grade_regions(regions(), classifier=classifier)
    assert [grade.level for grade in grades] == list(LEVELS)
    for grade in grades:
        assert sum(grade.p) == pytest.approx(1)
        assert grade.confidence == max(grade.p)
    assert grades == grade_regions(regions(), classifier=classifier)
    assert grade_regions([], classifier=classifier) == []


def test_a_level_alone_is_graded_as_among_others(classifier: Model) -> None:
    together = grade_regions(regions(), classifier=classifier)[3]
    alone = grade_regions(regions()[3:4], classifier=classifier)[0]
    assert alone.p == pytest.approx(together.p, abs=1e-5)


def test_each_contrast_has_its_own_branch(classifier: Model) -> None:
    plain = regions(1)[0]
    swapped = Region(plain.level, {"t1": plain.contrasts["t2"], "t2": plain.contrasts["t1"]})
    assert grade_regions([plain], classifier=classifier)[0].p != grade_regions([swapped], classifier=classifier)[0].p


@pytest.mark.parametrize("network", ["classifier", "shipped"])
def test_each_slice_is_graded_alone_as_the_network_grades_it(network: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(network)
    for region, grade in zip(regions(2), grade_regions(regions(2), classifier=model), strict=True):
        for k, p in enumerate(grade.alone):
            copies = repeated(region, k)
            assert p == pytest.approx(grade_regions([copies], classifier=model)[0].p, abs=1e-3)
        of_slices = [p[grade.shown] for p in grade.alone]
        assert len(of_slices) == 5 and 0 < grade.slice_disagreement <= 1
        assert grade.slice_disagreement == pytest.approx(np.ptp(of_slices))


def test_slices_that_are_all_alike_agree(classifier: Model) -> None:
    flat = [repeated(region, 0) for region in regions()]
    assert [g.slice_disagreement for g in grade_regions(flat, classifier=classifier)] == pytest.approx([0] * 6)


def test_a_high_temperature_flattens(classifier: Model) -> None:
    sharp = grade_regions(regions(), classifier=with_calibration(classifier, temperature=0.1))
    flat = grade_regions(regions(), classifier=with_calibration(classifier, temperature=100.0))
    assert all(a.confidence > b.confidence for a, b in zip(sharp, flat, strict=True))


def test_it_abstains_unless_one_class_is_clear(classifier: Model) -> None:
    every = grade_regions(regions(), classifier=with_calibration(classifier, conformal_q=[1.0, 1.0, 1.0]))
    none = grade_regions(regions(), classifier=with_calibration(classifier, conformal_q=[0.0, 0.0, 0.0]))
    for grade in (*every, *none):
        assert grade.abstained
        assert grade.mc is None
    assert {grade.prediction_set for grade in every} == {(0, 1, 2)}
    assert {grade.prediction_set for grade in none} == {()}
    clear = grade_regions(regions(), classifier=with_calibration(classifier, temperature=1e-3))
    for grade in clear:
        assert grade.prediction_set == (grade.mc,)
        assert not grade.abstained


def test_the_only_class_admitted_is_never_an_unlikely_one() -> None:
    p = np.array([0.6, 0.1, 0.3])
    assert prediction_set(p, np.array([0.3, 0.95, 0.5])) == (0, 1)
    assert prediction_set(p, np.array([0.5, 0.5, 0.5])) == (0,)


@pytest.mark.parametrize(
    "card",
    [{}, {"calibration": {}}, {"calibration": {"temperature": 0, "conformal_q": [1, 1, 1]}},
     {"calibration": {"temperature": 1, "conformal_q": [1, 1]}},
     {"calibration": {"temperature": "warm", "conformal_q": [1, 1, 1]}}],
)  # fmt: skip
def test_a_card_without_calibration_is_refused(classifier: Model, card: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="card"):
        grade_regions(regions(1), classifier=Model(classifier.net, card, "0" * 12, "cpu"))


@pytest.mark.parametrize("architecture", [{"depth": 11}, {"backbone": "resnet10"}])
def test_an_architecture_from_elsewhere_is_refused(architecture: dict[str, Any]) -> None:
    with pytest.raises(WeightsError):
        build_classifier(architecture)
