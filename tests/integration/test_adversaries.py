"""Whatever an archive holds: exactly the right volume or a refusal with the right reason, never a wrong volume."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.pixels import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes, ExplicitVRLittleEndian

import kinds_of_images  # noqa: F401  (registers its kinds)
import kinds_of_places  # noqa: F401
import kinds_of_spacing  # noqa: F401
import kinds_of_syntax  # noqa: F401
from adversaries import KINDS, difference, outcomes, spine, truth_of
from modic.deidentify.pseudonyms import Pseudonyms
from modic.errors import Rejected
from modic.imaging.volume import Volume
from modic.run import rows


@pytest.mark.parametrize("name", KINDS)
def test_the_right_volume_or_a_refusal_by_name(name: str, tmp_path: Path) -> None:
    case = KINDS[name]()
    rejected, stacks, results = outcomes(case.files, tmp_path)
    assert rejected == case.rejected
    refusals = [result for result in results if isinstance(result, Rejected)]
    volumes = [result for result in results if isinstance(result, Volume)]
    assert sorted(refusal.reason for refusal in refusals) == sorted(case.refused), refusals
    accepted = [stack for stack, result in zip(stacks, results, strict=True) if isinstance(result, Volume)]
    assert sorted(stack.contrast for stack in accepted) == sorted(truth.contrast for truth in case.right)
    tolerance = {"within_mm": case.within_mm, "within": case.within}
    wrong = [[difference(volume, truth, **tolerance) for truth in case.right] for volume in volumes]
    for column, _ in enumerate(case.right):
        assert "" in [line[column] for line in wrong], wrong
    for line in wrong:
        assert "" in line, wrong
    warnings = "; ".join(str(warning) for stack in accepted for warning in stack.warnings)
    assert case.warned in warnings
    assert bool(warnings) == bool(case.warned) or not case.right


@pytest.mark.parametrize("name", ["positions rounded to tenths", "gap of one and a half spacings"])
def test_the_row_of_a_series_holds_its_warnings_and_why_it_was_refused(name: str, tmp_path: Path) -> None:
    _, stacks, _ = outcomes(KINDS[name]().files, tmp_path)
    (row,) = rows.series_rows(stacks, set(), Pseudonyms.open(tmp_path / "private"), "run")
    refused = stacks[0].rejected
    assert row["warnings"] == ("; ".join(map(str, stacks[0].warnings)) or None)
    assert (row["reason"], row["detail"]) == (
        (refused.reason, refused.detail) if refused else ("series.not_chosen", None)
    )
    assert row["warnings"] or row["detail"]


def test_every_transfer_syntax_that_the_decoders_claim_is_a_kind() -> None:
    claimed = {uid for uid in AllTransferSyntaxes if _is_decoded(uid)}
    assert claimed - {ExplicitVRLittleEndian} == {name.split()[-1] for name in KINDS if name.startswith("transfer")}


def _is_decoded(uid: UID) -> bool:
    try:
        return get_decoder(uid).is_available
    except NotImplementedError:
        return False


@pytest.mark.parametrize("harm", ["swapped slices", "mirrored", "moved", "stretched", "a voxel", "a slice less"])
def test_the_comparison_sees_every_harm(harm: str) -> None:
    truth = truth_of(spine())
    voxels, affine = truth.voxels.astype(np.float32), truth.affine.copy()
    assert difference(Volume(voxels, affine), truth, within_mm=0.002, within=0) == ""
    assert difference(Volume(voxels, affine).canonical(), truth, within_mm=0.002, within=0) == ""
    if harm == "swapped slices":
        voxels[[3, 4]] = voxels[[4, 3]]
    elif harm == "mirrored":
        voxels = voxels[:, :, ::-1].copy()
    elif harm == "moved":
        affine[0, 3] += 0.1
    elif harm == "stretched":
        affine[:3, 2] *= 1.01
    elif harm == "a voxel":
        voxels[5, 5, 5] += 1
    else:
        voxels = voxels[1:]
    assert difference(Volume(voxels, affine), truth, within_mm=0.002, within=0)
