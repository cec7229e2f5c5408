"""Lesions taken away: the marrow beside the endplates becomes like its body's core, and nothing else changes."""

import numpy as np

from modic.train.augment.healing import take_away
from modic.train.augment.lesions import disc_frame, paint
from modic.train.augment.regions import Example
from modic.train.data.disc_geometry import DiscGeometry
from modic.train.data.discs import Disc

GEOMETRY = DiscGeometry(width=110.0, thickness=0.2, tilt=0.1)


def region() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T1 and T2 (1, 200, 200) of even marrow beside a dark disc, and which pixels are marrow."""
    u, v = disc_frame(200, GEOMETRY)
    marrow = (np.abs(u) < 0.5) & (np.abs(v) > GEOMETRY.thickness / 2) & (np.abs(v) < 0.65)
    rng = np.random.default_rng(0)
    t1 = (np.where(marrow, 100, 20) + rng.normal(0, 2, u.shape)).astype(np.float32)[None]
    return t1, t1.copy(), marrow


def test_a_painted_fatty_lesion_is_taken_away() -> None:
    t1, t2, marrow = region()
    sick1, sick2 = t1.copy(), t2.copy()
    paint({"t1": sick1, "t2": sick2}, 2, GEOMETRY, np.random.default_rng(4))
    before = np.abs(sick1 - t1)[0][marrow].mean()
    take_away({"t1": sick1, "t2": sick2}, GEOMETRY)
    assert np.abs(sick1 - t1)[0][marrow].mean() < 0.5 * before


def test_the_disc_and_the_core_stay() -> None:
    t1, t2, _ = region()
    before = t1.copy()
    take_away({"t1": t1, "t2": t2}, GEOMETRY)
    _, v = disc_frame(200, GEOMETRY)
    untouched = (np.abs(v) < GEOMETRY.thickness / 2 - 0.05) | (np.abs(v) - GEOMETRY.thickness / 2 > 0.36)
    assert np.array_equal(t1[0][untouched], before[0][untouched])


def test_a_healed_disc_is_of_type_0_and_not_as_it_is() -> None:
    t1, t2, _ = region()
    disc = Disc({"t1": t1, "t2": t2}, 2, "L4/L5", "p", "spider", GEOMETRY, 4)
    assert (Example(disc).label, Example(disc).real) == (2, True)
    healed, mixed = Example(disc, healed=True), Example(disc, painted=1, healed=True)
    assert (healed.label, healed.real, healed.source) == (0, False, "painted")
    assert (mixed.label, mixed.real, mixed.source) == (1, False, "painted")
