"""Images that show one anatomy at the same millimetres are told from images that do not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modic.archive.crawl import crawl
from modic.config import IdentifyOptions, PairOptions, RegistrationOptions
from modic.imaging import registration
from modic.imaging.load import load_volume
from modic.imaging.registration import Placement, Registration, register
from modic.imaging.volume import CanonicalVolume, Volume
from modic.phantom.anatomy import make_patient
from modic.phantom.archive import write_archive
from modic.phantom.physics import Sequence
from modic.phantom.render import Grid, render
from modic.records import Pair
from modic.series.identify import identify
from modic.series.pair import pair

Both = tuple[CanonicalVolume, CanonicalVolume]
OPTIONS, LIMITS = IdentifyOptions(), RegistrationOptions()


def both(archive: Path) -> Both:
    """T1 and T2 of the first pair of an archive."""
    found = pair(identify(crawl(archive, index=None).headers, options=OPTIONS), options=PairOptions())
    first = next(one for one in found if isinstance(one, Pair))
    t1, t2 = (load_volume(one, options=OPTIONS) for one in (first.t1, first.t2))
    assert isinstance(t1, Volume) and isinstance(t2, Volume)
    return t1, t2


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("phantom") / "archive"
    write_archive(folder, patients=1, seed=3, broken=False)
    return both(folder)


def moved(volume: CanonicalVolume, *mm: float) -> CanonicalVolume:
    affine = volume.affine.copy()
    affine[:3, 3] += mm
    return replace(volume, affine=affine)


@pytest.mark.parametrize("mm, agrees", [((0, 0, 0), True), ((0, 1, 1), True), ((0, 0, 6), False), ((0, 7, 0), False)])
def test_a_shift_within_the_plane_is_seen(mm: tuple[float, ...], agrees: bool, phantom: Both) -> None:
    t1, t2 = phantom
    found = register(moved(t1, *mm), t2)
    assert found.agrees(LIMITS) == agrees
    assert found.shift_mm == pytest.approx(np.linalg.norm(mm), abs=2.0)


def test_a_shift_by_one_level_does_not_pass_for_the_right_place(
    phantom: Both,
) -> None:
    t1, t2 = phantom
    assert not register(moved(t1, 0, 0, 34), t2).agrees(LIMITS)


@pytest.mark.parametrize("degrees", [0, 3, 4, -5, 7])
def test_a_patient_who_lay_down_anew_is_seen(degrees: float) -> None:
    """The headers of both say that nothing turned. Of this one the shift alone was found to agree at 5 degrees."""
    person = make_patient(4333, p_transitional=0)
    _, y, z = person.lumbar_centre_mm
    grid = Grid("sagittal", 128, 128, 2.27, 9, 4.4, 4.0, (0.0, round(y + 5, 1), round(z - 20, 1)))
    t2 = render(person, grid, Sequence("t2", 3500, 98), seed=2, snr=35)
    t1 = render(person, replace(grid, tilt_deg=degrees), Sequence("t1", 550, 10.5), seed=1, snr=35)
    found = register(Volume(t1.voxels, t2.affine).canonical(), t2.canonical())
    assert found.agrees(LIMITS) == (degrees == 0), found


def test_images_of_nothing_agree_with_nothing(phantom: Both) -> None:
    t1, t2 = phantom
    noise = np.random.default_rng(0).normal(size=t1.voxels.shape).astype(np.float32)
    assert not register(replace(t1, voxels=noise), t2).agrees(LIMITS)
    assert not register(replace(t1, voxels=np.zeros_like(noise)), t2).agrees(LIMITS)


@pytest.mark.parametrize("mm, agrees", [((0, 0, 0), True), ((0, 0, 5), False), ((0, 0, 35), False)])
def test_a_real_study(mm: tuple[float, ...], agrees: bool, shared_data: Path) -> None:
    t1, t2 = both(shared_data / "hitachi-lspine")
    assert register(moved(t1, *mm), t2).agrees(LIMITS) == agrees


@pytest.mark.parametrize(
    "mm, placement",
    [
        ((0, 0, 0), Placement.KEEP),
        ((0, 1, 1), Placement.KEEP),
        ((0, 0, 6), Placement.MOVE),
        ((0, 4, -4), Placement.MOVE),
        ((0, 0, 15), Placement.REFUSE),  # a patient who slid
        ((0, 0, 34), Placement.REFUSE),  # a level
    ],
)
def test_one_frame_of_reference_is_not_trusted(mm: tuple[float, ...], placement: Placement, phantom: Both) -> None:
    t1, t2 = phantom
    found = register(moved(t1, *mm), t2)
    assert found.in_one_frame(LIMITS) is placement, found
    if placement is Placement.MOVE:
        back = registration.moved(moved(t1, *mm), t2, found)
        assert np.abs(back.affine - t1.affine).max() < 1.6
        assert register(back, t2).in_one_frame(LIMITS) is Placement.KEEP
        assert np.allclose(back.native.affine - t1.native.affine, back.affine - moved(t1, *mm).affine)


def test_two_patients_of_one_frame_of_reference_are_refused(phantom: Both) -> None:
    _, t2 = phantom
    other = make_patient(77, p_transitional=0)
    _, y, z = other.lumbar_centre_mm
    grid = Grid("sagittal", 160, 160, 1.9, 11, 4.4, 4.0, (0.0, round(y + 5, 1), round(z - 20, 1)))
    t1 = render(other, grid, Sequence("t1", 550, 10.5), seed=1, snr=35)
    affine = t1.affine.copy()
    middle = np.array([[80.0, 80.0, 5.0]])
    shape = np.array(t2.voxels.shape[::-1])
    affine[:3, 3] += (t2.to_mm((shape - 1)[None] / 2) - t1.to_mm(middle))[0]
    found = register(Volume(t1.voxels, affine).canonical(), t2)
    assert found.in_one_frame(LIMITS) is Placement.REFUSE, found


@pytest.mark.parametrize("axis", [1, 2])
def test_a_t1_upside_down_or_mirrored_against_its_header_is_refused(axis: int, phantom: Both) -> None:
    t1, t2 = phantom
    flipped = replace(t1, voxels=np.ascontiguousarray(np.flip(t1.voxels, axis)))
    assert register(flipped, t2).in_one_frame(LIMITS) is Placement.REFUSE


def test_a_t1_that_holds_only_a_part_of_the_t2_is_compared_there(phantom: Both) -> None:
    t1, t2 = phantom
    rows = t1.voxels.shape[1]
    affine = t1.affine.copy()
    affine[:3, 3] += affine[:3, 1] * (rows // 3)
    part = Volume(t1.voxels[:, rows // 3 : rows // 3 + rows // 2], affine).canonical()
    assert register(part, t2).in_one_frame(LIMITS) is Placement.KEEP
    assert register(moved(part, 0, 0, 6), t2).in_one_frame(LIMITS) is Placement.MOVE


@pytest.mark.parametrize(
    "found, placement",
    [
        (Registration(0.0, 0.01, gain=0.08), Placement.REFUSE),
        (Registration(0.0, 0.0, gain=1.0), Placement.KEEP),  # a pattern without direction
        (Registration(0.0, 0.0, gain=0.0), Placement.KEEP),  # nothing to compare
        (Registration(5.0, 0.07, gain=0.2), Placement.DOUBT),
        (Registration(5.0, 0.2, gain=0.2), Placement.MOVE),
        (Registration(10.0, 0.2, gain=0.2), Placement.REFUSE),
        (Registration(1.5, 0.2, turn_deg=2.0, gain=0.2), Placement.DOUBT),
        (Registration(1.5, 0.2, turn_deg=4.0, gain=0.2), Placement.REFUSE),
    ],
)
def test_the_table_of_one_frame(found: Registration, placement: Placement) -> None:
    assert found.in_one_frame(LIMITS) is placement
