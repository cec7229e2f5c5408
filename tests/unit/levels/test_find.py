"""Naming: every level at most once, in anatomical order, whatever the detector proposes."""

from dataclasses import astuple

import numpy as np
import pytest

from modic.config import LevelOptions
from modic.errors import Reason, Rejected
from modic.imaging.volume import Volume, slices_around
from modic.levels.certainty import Calibration, Certainty, weigh
from modic.levels.detect import detector_image, iou, merge
from modic.levels.find import find_levels
from modic.levels.midline import find_midline, look_for_midline, spread_slices
from modic.levels.numbering import (
    ANOTHER_DISC,
    COUNTED_AGAIN,
    NO_L5S1,
    NO_SACRUM,
    Candidate,
    count_from_below,
    doubt,
    left_below,
    lower_part,
    name_sequence,
)
from modic.levels.plausibility import check_lumbar
from modic.models.weights import Model, load_detector
from modic.phantom.anatomy import make_patient
from modic.phantom.physics import Sequence
from modic.phantom.render import Grid, disc_boxes, render
from modic.records import LEVELS, LevelBox, LevelSet, Transitional


def spine(n: int = 6, *, score: float = 0.9, first: int = 0) -> list[Candidate]:
    """`n` discs 40 px apart, each sure of its own name, the top one named `first`."""
    discs = []
    for i in range(n):
        scores = np.full(6, 0.01)
        scores[first + i] = score
        discs.append(Candidate(np.array([100.0, 40 * i, 150, 40 * i + 20]), scores))
    return discs


def test_a_clear_spine_is_named_top_to_bottom():
    assert name_sequence(spine()) == [0, 1, 2, 3, 4, 5]


def test_a_missing_disc_does_not_shift_its_neighbours():
    discs = spine()
    del discs[2]
    assert name_sequence(discs) == [0, 1, 3, 4, 5]


def test_one_wrongly_named_disc_is_outvoted():
    discs = spine()
    wrong = np.full(6, 0.01)
    wrong[2] = 0.9  # the fourth disc is called L2/L3 a second time
    discs[3] = Candidate(discs[3].box, wrong)
    assert name_sequence(discs) == [0, 1, 2, 3, 4, 5]


def test_a_disc_above_t12_stays_unnamed():
    extra = Candidate(np.array([100.0, -40, 150, -20]), np.array([0.3, 0.01, 0, 0, 0, 0]))
    assert name_sequence([extra, *spine()]) == [None, 0, 1, 2, 3, 4, 5]


def certainty_of(discs: list[Candidate], *looks: list[Candidate]) -> Certainty:
    return weigh(discs, name_sequence(discs), list(looks))


def test_scores_that_fit_two_names_leave_open_which_disc_is_the_last():
    discs = []
    for i in range(5):
        scores = np.zeros(6)
        scores[i] = scores[i + 1] = 0.45
        discs.append(Candidate(np.array([100.0, 40 * i, 150, 40 * i + 20]), scores))
    assert certainty_of(discs).names_hold < 0.6


def looks_like(*names: int) -> list[Candidate]:
    """Discs 40 px apart, head to foot, each mostly like one name and a little like its neighbours."""
    discs = []
    for i, name in enumerate(names):
        scores = np.full(6, 0.01)
        scores[[max(name - 1, 0), min(name + 1, 5)]] = 0.2
        scores[name] = 0.75
        discs.append(Candidate(np.array([100.0, 40 * i, 150, 40 * i + 20]), scores))
    return discs


def test_a_vertebra_more_or_fewer_is_another_question_than_the_order():
    ordinary = certainty_of(looks_like(0, 1, 2, 3, 4, 5))
    more = certainty_of(looks_like(0, 1, 2, 2, 3, 4, 5))  # one disc more than there are names
    fewer = certainty_of(looks_like(0, 1, 3, 4, 5))  # evenly spaced, so none was overlooked
    assert ordinary.in_order > 0.95
    assert more.in_order < 0.9 and fewer.in_order < 0.9
    assert more.more > 5 * ordinary.more and fewer.fewer > 5 * ordinary.fewer
    assert min(one.names_hold for one in (ordinary, more, fewer)) > 0.8  # counted from below, all are right


def moved(discs: list[Candidate], by: int) -> list[Candidate]:
    """The same discs, each looking like the name `by` levels further down."""
    return [Candidate(disc.box, seen.scores) for disc, seen in zip(discs, spine(len(discs), first=by), strict=True)]


def test_names_are_as_sure_as_all_looks_together() -> None:
    discs = spine(5, first=1)
    names = name_sequence(discs)
    alone = weigh(discs, names, []).names_hold
    assert alone > 0.99
    assert weigh(discs, names, [discs, discs]).names_hold == pytest.approx(alone)
    one_against = weigh(discs, names, [discs, moved(discs, 0)]).names_hold
    assert alone > one_against > 0.5
    assert weigh(discs, names, [moved(discs, 0)] * 3).names_hold < 0.5
    assert weigh(discs, names, [[]]).names_hold < alone  # sees no disc at all
    assert weigh([], [], [discs]).names_hold == 0


def test_what_makes_numbering_uncertain_whatever_the_scores():
    discs, names = spine(), list(range(6))
    assert doubt(discs, names, 240.0) == ""
    assert "sacrum" in doubt(discs, names, 225.0)  # the image ends 15 px below the centre of L5/S1, discs are 40 apart
    assert "L5/S1" in doubt(discs[:-1], names[:-1], 400.0)
    assert "sacrum" in doubt(discs[:-1], names[:-1], 235.0)  # where L5/S1 must be, but not S1 below it
    assert "sacrum" in doubt([], [], 400.0)
    lower = Candidate(np.array([100.0, 240, 150, 260]), np.full(6, 0.1))
    assert "another disc" in doubt([*discs, lower], [*names, None], 400.0)
    beside = Candidate(discs[2].box + 4, np.full(6, 0.1))  # the same disc a second time
    assert doubt([*discs[:3], beside, *discs[3:]], [0, 1, 2, None, 3, 4, 5], 400.0) == ""
    assert "skipped" in doubt([*discs[:2], *discs[3:]], [0, 1, 3, 4, 5], 400.0)
    lower_ones = [Candidate(d.box + 40 * (i > 2), d.scores) for i, d in enumerate(discs)]  # twice the distance
    assert "spacing" in doubt(lower_ones, names, 400.0)


def transitional_of(certainty: Certainty, doubts: str = "") -> Transitional:
    return Calibration().transitional(certainty, doubts, suspected_from=0.5)


def test_a_transitional_vertebra_is_suspected_with_its_reason():
    """The rows of the table in modic/levels/certainty.py."""
    ordinary = Certainty(0.96, 0.01, 0.02, 0.01)
    assert transitional_of(ordinary, NO_SACRUM) == Transitional(None, None, "sacrum not in view")  # T1
    again = transitional_of(ordinary, COUNTED_AGAIN)
    assert (again.suspected, again.reason) == (True, "count from above disagrees")  # T2
    missing = transitional_of(ordinary, NO_L5S1)
    assert (missing.suspected, missing.reason) == (True, "sacralized look")  # T3
    another = transitional_of(ordinary, ANOTHER_DISC)
    assert (another.suspected, another.reason) == (True, "disc more")  # T4
    for reason, certainty in {
        "sacralized look": Certainty(0.2, 0.5, 0.2, 0.1),  # T5
        "disc more": Certainty(0.2, 0.1, 0.6, 0.1),  # T6
        "disc fewer": Certainty(0.2, 0.1, 0.1, 0.6),  # T7
    }.items():
        assert transitional_of(certainty).reason == reason and transitional_of(certainty).suspected
    nothing = transitional_of(ordinary)
    assert (nothing.suspected, nothing.reason) == (False, None)  # T8
    assert nothing.probability == pytest.approx(0.04)


def test_names_that_something_speaks_against_are_no_likelier_than_such_names_were() -> None:
    calibration = Calibration.of({"calibration": {"numbering": {"doubted": 0.7}}})
    assert calibration.p_numbering(Certainty(1.0, 0.0, 0.0, 0.0), "") == 1
    assert calibration.p_numbering(Certainty(1.0, 0.0, 0.0, 0.0), ANOTHER_DISC) == 0.7
    assert calibration.p_numbering(Certainty(0.4, 0.6, 0.0, 0.0), ANOTHER_DISC) == 0.4


STEEP = (0, 1, 2, 3, 4, 5, 5)
"""T11/T12 to L5/S1 above a steep sacrum in a whole image: all but the last look like the name below theirs."""


def test_a_disc_left_below_is_counted_from_where_the_lower_part_alone_says_so() -> None:
    discs = looks_like(*STEEP)
    names = name_sequence(discs)
    assert names == [0, 1, 2, 3, 4, 5, None]
    assert left_below(discs, names) == 6
    assert lower_part(discs, names) == (discs[2].centre[1] + discs[3].centre[1]) / 2  # four discs stay
    below = [Candidate(disc.box, seen.scores) for disc, seen in zip(discs[3:], looks_like(2, 3, 4, 5), strict=True)]
    assert count_from_below(discs, names, below) == [None, 0, 1, 2, 3, 4, 5]


def test_the_count_stays_where_the_lower_part_sees_it_as_the_whole_does_or_otherwise() -> None:
    discs = looks_like(*STEEP)
    names = name_sequence(discs)
    for seen in ((3, 4, 5), (2, 3, 4)):  # as the whole; without L5/S1
        lower = [Candidate(d.box, s.scores) for d, s in zip(discs[3:], looks_like(*seen), strict=False)]
        assert count_from_below(discs, names, lower) is None
    assert count_from_below(discs, names, []) is None
    ordinary = spine()
    assert left_below(ordinary, name_sequence(ordinary)) is None
    assert lower_part(ordinary[:4], [0, 1, 2, 3]) is None


@pytest.mark.parametrize("seed", range(5))
def test_random_detections_never_give_duplicates_or_disorder(seed):
    rng = np.random.default_rng(seed)
    for _ in range(2000):
        n = int(rng.integers(0, 12))
        corner = rng.uniform(0, 300, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(1, 80, (n, 2))], 1)
        candidates = merge([(boxes, rng.uniform(0, 1, n), rng.integers(0, 6, n))], 0.05)
        names = name_sequence(candidates)
        given = [name for name in names if name is not None]
        assert given == sorted(set(given))
        certainty = weigh(candidates, names, [])
        assert sum(astuple(certainty)) == pytest.approx(1)


def test_boxes_of_one_disc_on_three_slices_become_one_candidate():
    box = np.array([[10.0, 10, 60, 30]])
    slices = [(box + shift, np.array([0.8]), np.array([4])) for shift in (-1, 0, 1)]
    (found,) = merge(slices, 0.05)
    assert found.box == pytest.approx([10, 10, 60, 30], abs=0.1)
    assert found.scores[4] == pytest.approx(0.8)


def test_slices_looked_at_span_the_stack_and_slices_around_the_midline_stay_in_it():
    assert spread_slices(11, 4.4) == [0, 2, 4, 6, 8, 10]
    assert spread_slices(1, 1.0) == [0]
    assert spread_slices(76, 1.0)[0] < 8 and len(spread_slices(76, 1.0)) <= 9
    assert slices_around(5, 3, 11, 4.4) == [4, 5, 6]
    assert slices_around(0, 3, 11, 4.4) == [0, 1]
    assert slices_around(40, 3, 76, 1.0) == [36, 40, 44]


@pytest.mark.parametrize("midline", [3, 8])
def test_the_midline_is_where_the_canal_is_not_where_the_stack_has_its_middle(midline):
    voxels = np.full((12, 100, 100), 100, np.float32)
    voxels[midline - 1 : midline + 2, :, 62:75] = 300  # cerebrospinal fluid behind the discs
    boxes = np.array([[30.0, 12 * i + 10, 60, 12 * i + 18] for i in range(6)])
    seen = {i: (boxes, np.full(6, 0.9), np.arange(6)) for i in spread_slices(12, 4.4)}
    assert abs(find_midline(voxels, seen) - midline) <= 1


@pytest.mark.parametrize(
    ("midline", "n", "looks"),
    [(4, 9, 5), (5, 9, 7), (6, 9, 9), (0, 9, 9), (3, 7, 5), (2, 7, 7), (4, 8, 6), (2, 6, 6), (2, 5, 5), (1, 3, 3)],
)
def test_outer_slices_are_looked_at_only_while_the_midline_may_be_among_them(midline, n, looks):
    rng = np.random.default_rng(midline)
    shows = np.exp(-0.3 * np.abs(np.arange(n) - midline)) + rng.uniform(0, 0.02, n)
    voxels = np.broadcast_to(shows[:, None, None].astype(np.float32), (n, 100, 100)) * 300
    boxes = np.array([[30.0, 12 * i + 10, 60, 12 * i + 18] for i in range(6)])
    asked = []

    def look(slices):
        asked.extend(slices)
        return {i: (boxes, np.full(6, 0.9), np.arange(6)) for i in slices}

    found, seen = look_for_midline(voxels, list(range(n)), look)
    assert sorted(asked) == sorted(seen) and len(asked) == looks
    assert found == find_midline(voxels, look(list(range(n))))


def test_detector_image_scales_by_the_longer_side():
    image = np.random.default_rng(0).uniform(0, 1000, (100, 50)).astype(np.float32)
    padded, scale = detector_image(image, {"image_size": 200, "percentiles": [1, 99]})
    assert padded.shape == (200, 200)
    assert scale == 2
    assert padded[:, 100:].max() == 0
    assert 0.95 < padded.max() <= 1


def shown(image):
    """Share of a detector's image that is no margin, and where that part starts, px."""
    rows = np.flatnonzero(image[0].amax(1).numpy() > 0)
    return (rows[-1] + 1 - rows[0]) / len(image[0]), rows[0]


class FixedBoxes:
    """A detector that finds the six discs at fixed places of the 64 px that it is shown."""

    def one(self, image):
        import torch

        share, start = shown(image)
        boxes = torch.tensor([[20.0, 8 * i + 4, 40, 8 * i + 9] for i in range(6)]) * share + start
        return {"boxes": boxes, "scores": torch.full((6,), 0.9), "labels": torch.arange(1, 7)}

    def __call__(self, images):
        return [self.one(image) for image in images]


class SteepSacrum:
    """A detector that calls seven discs by the names below theirs, unless it sees the lower four alone."""

    TOP_OF_FOUR = 26  # row between the third and the fourth disc

    def one(self, image):
        import torch

        share, start = shown(image)
        discs = torch.tensor([[20.0, 8 * i + 4, 40, 8 * i + 9] for i in range(7)])
        labels, scores = torch.tensor([1, 2, 3, 4, 5, 6, 6]), torch.tensor([0.9] * 6 + [0.5])
        if start:  # from afar
            discs = discs * share + start
        elif share < 1:  # the lower part
            discs, labels = discs[3:] - torch.tensor([0, self.TOP_OF_FOUR] * 2), torch.tensor([3, 4, 5, 6])
            scores = torch.full((4,), 0.9)
        return {"boxes": discs, "scores": scores, "labels": labels}

    def __call__(self, images):
        return [self.one(image) for image in images]


class NotFromAfar(FixedBoxes):
    """The same, but for names that move down by one where the spine is shown smaller."""

    def one(self, image):
        found = super().one(image)
        down = 1 if shown(image)[0] < 1 else 0
        return {name: value[: 6 - down] for name, value in found.items()} | {"labels": found["labels"][down:]}


def test_a_steep_sacrum_is_counted_from_below_and_called_uncertain():
    voxels = np.random.default_rng(0).uniform(0.1, 1, size=(5, 64, 64)).astype(np.float32)
    affine = np.array([[0, 0, 4, -12], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)
    card = {"preprocessing": {"image_size": 64, "percentiles": [0, 100]}}
    detector = Model(SteepSacrum(), card, "", "cpu")
    found = find_levels(Volume(voxels, affine).canonical(), detector=detector, options=LevelOptions())
    assert [(b.level, round(b.box[1])) for b in found.boxes] == [(n, 8 * i + 12) for i, n in enumerate(LEVELS)]
    assert found.numbering == "uncertain"
    assert found.p_numbering < 0.05


def test_names_that_do_not_hold_from_afar_are_uncertain():
    voxels = np.random.default_rng(0).uniform(0.1, 1, size=(5, 64, 64)).astype(np.float32)
    affine = np.array([[0, 0, 4, -12], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)
    card = {"preprocessing": {"image_size": 64, "percentiles": [0, 100]}}
    sure, other = (
        find_levels(Volume(voxels, affine).canonical(), detector=Model(net(), card, "", "cpu"), options=LevelOptions())
        for net in (FixedBoxes, NotFromAfar)
    )
    assert [b.box for b in sure.boxes] == [b.box for b in other.boxes]
    assert sure.p_numbering > 0.95
    assert other.p_numbering < 0.5 and other.numbering == "uncertain"


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_come_back_in_the_volumes_own_pixels(flip):
    voxels = np.random.default_rng(0).uniform(size=(7, 128, 128)).astype(np.float32)
    affine = np.array([[0, 0, 4, -12], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)
    if flip:  # the same spine stored feet first, posterior first
        voxels = np.ascontiguousarray(voxels[:, ::-1, ::-1])
        affine = np.array([[0, 0, 4, -12], [-1, 0, 0, 127], [0, 1, 0, -127], [0, 0, 0, 1]], float)
    card = {"preprocessing": {"image_size": 64, "percentiles": [0, 100]}}
    volume = Volume(voxels, affine).canonical()
    found = find_levels(volume, detector=Model(FixedBoxes(), card, "", "cpu"), options=LevelOptions())
    assert [b.level for b in found.boxes] == list(LEVELS)
    top = found.boxes[0]
    corner = volume.native.to_mm(np.array([[top.box[0], top.box[1], 3], [top.box[2], top.box[3], 3]]))
    assert corner[:, 1].min() == pytest.approx(40.5)  # mm, posterior: (20 + 0.5) * 2 - 0.5
    assert corner[:, 2].max() == pytest.approx(-8.5)


def test_iou():
    assert iou(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])) == pytest.approx(1 / 3)
    assert iou(np.array([0, 0, 1, 1]), np.array([2, 2, 3, 3])) == 0


@pytest.mark.parametrize(
    "apart_mm, lumbar", [(17, False), (22, False), (28, True), (36, True), (45, True), (72, False)]
)
@pytest.mark.parametrize("missing", [None, 2])
def test_discs_of_another_region_or_scale_are_refused(apart_mm: float, lumbar: bool, missing: int | None) -> None:
    """Cervical and thoracic discs lie nearer together, and those of an image of twice its true scale further apart."""
    pixel = 0.5
    step = apart_mm / pixel
    boxes = tuple(
        LevelBox(name, (10, i * step, 60, i * step + 20), 3, 0.9) for i, name in enumerate(LEVELS) if i != missing
    )
    volume = Volume(np.zeros((7, 8, 8), np.float32), np.diag([pixel, pixel, 4.0, 1.0])).canonical()
    refused = check_lumbar(LevelSet(boxes, "ok", 1.0), volume, options=LevelOptions())
    assert (refused == ()) == lumbar
    if isinstance(refused, Rejected):
        assert (refused.reason, f"{apart_mm} mm" in refused.detail) == (Reason.STUDY_NOT_LUMBAR, True)
    assert check_lumbar(LevelSet(boxes[:1], "uncertain", 0.3), volume, options=LevelOptions()) == ()


def test_between_the_limits_a_study_is_accepted_with_a_warning() -> None:
    boxes = tuple(LevelBox(name, (10, i * 48.0, 40, i * 48.0 + 20), 3, 0.6) for i, name in enumerate(LEVELS))
    voxels = np.random.default_rng(0).uniform(1, 2, size=(7, 300, 80)).astype(np.float32)
    volume = Volume(voxels, np.array([[0, 0, 4, 0], [0.5, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1.0]])).canonical()
    levels = LevelSet(boxes, "ok", 1.0)
    assert check_lumbar(levels, volume, options=LevelOptions()) == ()  # 24 mm apart, scores of 0.6, 150 mm high
    strict = LevelOptions(apart_low_warn_mm=28.0, lumbar_score_warn=0.62, height_warn_mm=140.0, width_warn_mm=20.0)
    warnings = check_lumbar(levels, volume, options=strict)
    assert warnings[:3] == ("image 150 mm high", "discs score 0.60", "discs 24 mm apart")
    assert warnings[3:] == tuple(f"box of {name} 30.0 px, 15.0 mm wide" for name in LEVELS)
    for limit in ({"apart_low_reject_mm": 28.0}, {"lumbar_score_reject": 0.62}, {"height_reject_mm": 140.0}):
        assert isinstance(check_lumbar(levels, volume, options=LevelOptions(**limit)), Rejected)


@pytest.mark.parametrize(
    "high_mm, padded, lumbar", [(300, 0, True), (450, 500, True), (640, 0, False), (900, 100, False)]
)
@pytest.mark.parametrize("lying", [False, True])
def test_an_image_of_the_whole_spine_is_refused_though_its_discs_are_rightly_apart(
    high_mm: int, padded: int, lumbar: bool, lying: bool
) -> None:
    """Six boxes 36 mm apart, as of a lumbar spine; rows of padding are no field of view."""
    voxels = np.zeros((7, (high_mm + padded) // 2, 40), np.float32)
    voxels[:, : high_mm // 2] = np.random.default_rng(0).uniform(1, 2, size=(7, high_mm // 2, 40))
    affine = np.array([[0, 0, 4, 0], [2, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1]], float)
    boxes = [(10.0, 18.0 * i, 35.0, 18.0 * i + 8) for i in range(6)]
    if lying:  # rows along the back instead of down
        voxels, affine = np.ascontiguousarray(voxels.transpose(0, 2, 1)), affine[:, [1, 0, 2, 3]]
        boxes = [(y0, x0, y1, x1) for x0, y0, x1, y1 in boxes]
    named = tuple(LevelBox(name, box, 3, 0.9) for name, box in zip(LEVELS, boxes, strict=True))
    refused = check_lumbar(LevelSet(named, "ok", 1.0), Volume(voxels, affine).canonical(), options=LevelOptions())
    assert refused == (
        () if lumbar else Rejected(Reason.STUDY_NOT_LUMBAR, f"image {high_mm} mm high, at most 550 expected")
    )


@pytest.mark.parametrize("seed", [1, 2, 5, 6])
@pytest.mark.parametrize(("high_mm", "up_mm", "lumbar"), [(280, 0, 6), (260, 110, 3), (240, 220, 0)])
def test_a_field_of_view_without_sacrum_is_never_sure_and_one_without_lumbar_discs_refused(
    seed: int, high_mm: int, up_mm: int, lumbar: int
) -> None:
    """The shipped detector; the middle of the image lies at L3 or so far above."""
    patient = make_patient(seed, p_transitional=0)
    middle = patient.lumbar_centre_mm[2] + up_mm
    front_to_back = float(patient.point(np.interp(middle, patient.axis[:, 2], patient.axis[:, 0]), 0.0)[0])
    grid = Grid("sagittal", 256, 256, high_mm / 256, 3, 5.0, 4.5, (0.0, front_to_back / 2, middle))
    volume = render(patient, grid, Sequence("t2", 3500, 100), seed=seed).canonical()
    assert abs(sum(bool(name) for name, _ in disc_boxes(patient, grid, 1)) - lumbar) <= 1
    found = find_levels(volume, detector=load_detector("detector"), options=LevelOptions())
    assert found.numbering == ("ok" if lumbar == 6 else "uncertain")
    refused = check_lumbar(found, volume, options=LevelOptions())
    assert (isinstance(refused, Rejected) and refused.detail.startswith("discs score")) == (lumbar == 0)


@pytest.mark.parametrize("axis", [1, 2])
def test_pixels_that_are_not_square_change_no_name(axis: int) -> None:
    """A phantom, and the same with two rows or two columns joined to one: names hold, boxes come back in its pixels."""
    patient = make_patient(3, p_transitional=0)
    x, y, z = patient.lumbar_centre_mm
    grid = Grid("sagittal", 256, 256, 1.17, 3, 5.0, 4.5, (x, y + 5, z - 20))
    square = render(patient, grid, Sequence("t2", 3500, 100), seed=3).canonical()
    pairs = square.voxels.reshape(3, *((128, 2, 256) if axis == 1 else (256, 128, 2)))
    affine = square.affine.copy()
    index = 2 - axis  # of the affine's columns: column, row
    affine[:3, 3] += affine[:3, index] / 2
    affine[:3, index] *= 2
    joined = Volume(pairs.mean(axis + 1), affine).canonical()
    detector = load_detector("detector")
    ours, theirs = (find_levels(one, detector=detector, options=LevelOptions()) for one in (square, joined))
    assert [box.level for box in ours.boxes] == [box.level for box in theirs.boxes] == list(LEVELS)
    assert ours.numbering == theirs.numbering == "ok"
    for a, b in zip(ours.boxes, theirs.boxes, strict=True):
        corners = [np.array([[*one.box[:2], one.slice_index], [*one.box[2:], one.slice_index]]) for one in (a, b)]
        apart = square.to_mm(corners[0]) - joined.to_mm(corners[1])
        assert np.abs(apart).max() < 4
