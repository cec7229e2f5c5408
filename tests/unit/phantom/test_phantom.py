"""The synthetic patients: physics, truth and repeatability."""

import numpy as np
import pytest

from modic.phantom.anatomy import DISC_OF_LEVEL, make_patient
from modic.phantom.physics import Sequence, signal, stir_null_ti
from modic.phantom.render import Grid, disc_boxes, render_many
from modic.records import LEVELS

T1 = Sequence("t1", 550, 12)
T2 = Sequence("t2", 3500, 100)


def grid_of(patient, pixels=192, slices=1):
    _, y, z = patient.lumbar_centre_mm
    return Grid("sagittal", pixels, pixels, 300 / pixels, slices, 4.4, 2.0, (float(patient.lateral(z)), y, z - 15))


def patient_with(grade, *, least_mm=9.0):
    """A patient and a level with a deep lesion of this grade on the midline."""
    for seed in range(200):
        patient = make_patient(seed, p_mc1=0.3, p_mc2=0.3)
        for level, found in patient.grades.items():
            disc = DISC_OF_LEVEL[level]
            for lesion in patient.lesions:
                wide = (
                    lesion.lateral[0] < -0.2 and lesion.lateral[1] > 0.2 and lesion.ap[0] < -0.1 and lesion.ap[1] > 0.2
                )
                side = (lesion.vertebra, lesion.upper) in ((disc, True), (disc + 1, False))
                alone = sum(other.vertebra == lesion.vertebra for other in patient.lesions) == 1
                if (
                    found == grade
                    and lesion.kind == f"mc{grade}"
                    and side
                    and wide
                    and alone
                    and lesion.depth_mm > least_mm
                ):
                    return patient, lesion
    raise AssertionError("no such patient")


def test_same_seed_same_pixels():
    first, second = (render_many(make_patient(3), grid_of(make_patient(3)), [T2], seed=1)[0] for _ in range(2))
    assert np.array_equal(first.voxels, second.voxels)
    assert not np.array_equal(
        first.voxels, render_many(make_patient(4), grid_of(make_patient(4)), [T2], seed=1)[0].voxels
    )


def test_spin_echo_contrasts_are_those_of_the_textbook():
    assert signal("csf", T1) < 0.5 * signal("fat", T1)
    assert signal("csf", T2) > signal("fat", T2) > signal("muscle", T2)
    assert signal("nucleus", T2) > 2 * signal("nucleus_dry", T2)


@pytest.mark.parametrize("field", [0.3, 1.5, 3.0])
def test_stir_nulls_fat_and_keeps_oedema(field):
    stir = Sequence("stir", 4000, 60, field_t=field)
    stir = Sequence("stir", 4000, 60, stir_null_ti(stir), field_t=field)
    assert signal("fat", stir) < 0.02
    assert signal("oedema", stir) > 10 * signal("fat", stir)


@pytest.mark.parametrize(("grade", "t1_sign", "t2_sign"), [(1, -1, 1), (2, 1, 1)])
def test_modic_lesions_look_as_they_are_defined(grade, t1_sign, t2_sign):
    patient, lesion = patient_with(grade)
    grid = grid_of(patient, 256)
    v = lesion.vertebra
    inside = 5.5
    near = patient.high[v] - inside if lesion.upper else patient.low[v] + inside
    middle = (patient.low[v] + patient.high[v]) / 2 + (-5 if lesion.upper else 5)
    inverse = np.linalg.inv(grid.affine)
    for sequence, sign in ((T1, t1_sign), (T2, t2_sign)):
        image = render_many(patient, grid, [sequence], seed=0, snr=1000, coil=0)[0].voxels[0]
        values = []
        for s in (near, middle):
            a = np.linspace(max(lesion.ap[0], -0.3), min(lesion.ap[1], 0.3), 15) * patient.depth[v] * 0.7
            y, z = patient.point(np.full(15, s), a)
            column, row, _, _ = np.rint(inverse @ np.stack([np.zeros(15), y, z, np.ones(15)])).astype(int)
            values.append(np.median(image[row, column]))
        assert sign * (values[0] - values[1]) > 0.03 * values[1]


def test_boxes_hold_their_discs_in_order():
    for seed in range(12):
        patient = make_patient(seed)
        grid = grid_of(patient)
        boxes = [(name, box) for name, box in disc_boxes(patient, grid, 0) if name]
        assert [name for name, _ in boxes] == list(LEVELS)[-len(boxes) :]
        inverse = np.linalg.inv(grid.affine)
        for name, (x0, y0, x1, y1) in boxes:
            index = DISC_OF_LEVEL[name]
            y, z = patient.point((patient.high[index] + patient.low[index + 1]) / 2, 0)
            u, v, _, _ = inverse @ np.array([0, float(y), float(z), 1])
            assert x0 < u < x1
            assert y0 < v < y1
            assert 30 < (x1 - x0) * grid.pixel_mm < 62


def test_grades_and_lesions_agree():
    for seed in range(60):
        patient = make_patient(seed, p_mc1=0.3, p_mc2=0.3)
        at = {
            (lesion.vertebra, lesion.upper): lesion.kind for lesion in patient.lesions if lesion.kind.startswith("mc")
        }
        for level, grade in patient.grades.items():
            disc = DISC_OF_LEVEL[level]
            kinds = {at.get((disc, True)), at.get((disc + 1, False))} - {None}
            assert kinds == ({f"mc{grade}"} if grade else set())


def test_transitional_spines_have_a_disc_too_many_or_one_too_few():
    patients = [make_patient(seed, p_transitional=1.0) for seed in range(30)]
    below, last = DISC_OF_LEVEL["L5/S1"] - 1, DISC_OF_LEVEL["L5/S1"]
    lumbarized = [p for p in patients if p.disc[below] >= 5]
    sacralized = [p for p in patients if p.disc[last] <= 4 and p.disc[below] < 5]
    assert all(p.transitional for p in patients)
    assert len(lumbarized) + len(sacralized) == len(patients)
    assert lumbarized and sacralized


def test_patients_differ_as_people_do():
    patients = [make_patient(seed) for seed in range(120)]
    lordosis = [np.ptp(np.rad2deg(p.axis[:, 3])) for p in patients]
    assert np.std(lordosis) > 5
    assert 0 < sum(p.transitional for p in patients) < 20
    assert np.std([p.marrow_fat for p in patients]) > 0.05
