"""The phantom from the sacrum to the clivus."""

import numpy as np
import pytest

from modic.phantom.anatomy import make_patient
from modic.phantom.whole_spine import PRESACRAL_DISCS, disc_centres_mm, with_whole_spine


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_whole_spine_goes_on_from_the_lumbar_one_to_c2(more: int) -> None:
    patient = make_patient(3)
    whole = with_whole_spine(patient, seed=1, more=more)
    discs, lumbar = disc_centres_mm(whole), disc_centres_mm(patient)
    assert len(discs) == PRESACRAL_DISCS + more
    np.testing.assert_allclose(discs[:6], lumbar[:6], atol=0.5)
    apart = np.linalg.norm(np.diff(discs, axis=0), axis=1)
    assert np.all((apart > 13) & (apart < 50))  # a cervical vertebra and a lumbar one, mm
    assert 400 < discs[-1, 2] - discs[0, 2] < 650
