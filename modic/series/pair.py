"""Series → for every study the sagittal T1 and T2 to grade, or the reason why it has no such pair.

A classifier may ask for further contrasts (such as STIR); then each pair also holds one series for each of them.

A series is usable if modic.series.identify did not refuse it. A T1 acquired later (by time, else by SeriesNumber) than
a series of the study that names a contrast agent is not usable either, even if its own header does not name the agent.
Rows are tried in order:

| row | condition                                                         | outcome                              |
|-----|-------------------------------------------------------------------|--------------------------------------|
| P1  | several PatientID, PatientBirthDate or PatientSex in the study    | excluded, patient_conflict           |
| P2  | neither a usable T1 nor a usable T2                               | excluded, no_sagittal_t1_nor_t2      |
| P3  | no usable T1                                                      | excluded, no_sagittal_t1             |
| P4  | no usable T2                                                      | excluded, no_sagittal_t2             |
| P5  | no combination names one frame of reference (and not two          | excluded, frames_of_reference_differ |
|     | StudyDate), nor is worth P9                                       |                                      |
| P6  | in those that do, T1 covers less than `overlap_reject` of T2      | excluded, little_overlap             |
| P7  | one combination is left                                           | pair                                 |
| P8  | several are left                                                  | pair, the first by the order below   |
| P9  | none names one frame of reference, but T1 and T2 have the same    | pair, the first by the order below,  |
|     | orientation and T1 covers `overlap_warn` of T2                    | if the images agree (registration)   |
| P10 | modic.pipeline refuses the images of the pair (not lumbar,        | the next by the order below          |
|     | undecodable, …), and the study has others                         |                                      |
| P11 | the classifier asks for a further contrast, and no combination    | excluded, no_other_contrast          |
|     | has a usable series of it in the T2's frame of reference that     |                                      |
|     | covers `overlap_reject` of T2                                     |                                      |

P11 is tried after P6, on the combinations that P7 to P9 choose from. Of several series of a further contrast the first
by the order of P8 is taken.

P8, the first difference decides: description agrees with the physics; no contrast agent before the T2; overlap of
`overlap_warn` or more; fewer geometry warnings; 2D before 3D (what the weights were trained on); finer in-plane pixels
(to 0.05 mm), T2's before T1's; more slices; acquired later (a repeat was made for a reason); UIDs.

P9 only says that the headers do not speak against the pair: modic.pipeline asks modic/imaging/registration.py before
it grades.

Overlap is the share of the T2 stack that T1 also covers: of the points on T2's slices, the whole height of the image
but only the middle half from front to back, the share that lies inside T1's stack. The rest is belly and skin.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, product

import numpy as np

from modic.archive.patient_identity import all_said, day, said
from modic.config import PairOptions
from modic.errors import Reason, Rejected
from modic.imaging.volume import affine_of
from modic.records import Excluded, Pair, Series
from modic.series.contrast import has_contrast_agent

DISAGREES = "SeriesDescription disagrees with TR, TE and TI"
SHARED_ID = "PatientID under several PatientBirthDate or PatientSex"
SAME_ORIENTATION = 0.02
HEIGHT_POINTS, DEPTH_POINTS = 65, 9
MOST_OTHERS = 5  # pairs of a study that are tried after the first
Combination = tuple[Series, Series, float]  # T1, T2, overlap


def pair(
    series: list[Series], *, contrasts: Sequence[str] = ("t1", "t2"), options: PairOptions
) -> list[Pair | Excluded]:
    """Exactly one result for every StudyInstanceUID in `series`, sorted by it.

    Args:
        series: what modic.series.identify returns for the same `contrasts`.
        contrasts: what the classifier's card asks for; T1 and T2 are always paired.
        options: limits of the overlap.
    """
    further = tuple(name for name in dict.fromkeys(contrasts) if name not in ("t1", "t2"))
    ordered = sorted(series, key=lambda one: (one.study_uid, one.series_uid, one.stack, one.files))
    studies = [list(group) for _, group in groupby(ordered, key=lambda one: one.study_uid)]
    found = [_pair_study(study, further, options) for study in studies]
    shared = _shared_ids(series)
    return [
        replace(one, warnings=(SHARED_ID,)) if isinstance(one, Pair) and one.patient_id in shared else one
        for one in found
    ]


def _shared_ids(series: list[Series]) -> set[str]:
    """PatientIDs under which several birth dates or sexes are found: maybe two patients of two hospitals."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in series:
        for keyword in ("PatientBirthDate", "PatientSex"):
            if value := said(one.header, keyword):
                seen[one.patient_id, keyword].add(value)
    return {patient_id for (patient_id, _), values in seen.items() if len(values) > 1}


def _pair_study(series: list[Series], further: Sequence[str], options: PairOptions) -> Pair | Excluded:
    if conflict := _patient_conflict(series):
        return _excluded(series, "P1", Reason.STUDY_PATIENT_CONFLICT, conflict)
    usable = [one for one in series if one.rejected is None]
    t2s = [one for one in usable if one.role == "t2"]
    late = _after_contrast(series)
    t1s = [one for one in usable if one.role == "t1" and one not in late]
    if not t1s or not t2s:
        rule = "P4" if t1s else "P3" if t2s else "P2"
        return _excluded(series, rule, *_missing(series, t1s, t2s, late))
    every = [(t1, t2, overlap_fraction(t1, t2)) for t1, t2 in product(t1s, t2s)]
    named = [one for one in every if _same_frame(*one[:2])]
    near = [one for one in named if one[2] >= options.overlap_reject]
    if named and not near:
        best = max(overlap for _, _, overlap in named)
        detail = f"overlap {best:.2f}, {options.overlap_reject:g} needed"
        return _excluded(series, "P6", Reason.STUDY_LITTLE_OVERLAP, detail)
    alike = near or [one for one in every if _same_geometry(*one, options)]
    if not alike:
        return _excluded(series, "P5", Reason.STUDY_FRAMES_DIFFER, f"{len(t1s)} T1, {len(t2s)} T2")
    ordered = sorted(alike, key=lambda one: _preference(one, options))
    candidates = {name: [one for one in usable if one.role == name] for name in further}
    chosen = [_with_further(one, candidates, options) for one in ordered]
    complete = [(contrasts, overlap) for contrasts, overlap in chosen if len(contrasts) == 2 + len(further)]
    if not complete:
        detail = ", ".join(f"{name}: {len(candidates[name])} usable" for name in further)
        return _excluded(series, "P11", Reason.STUDY_NO_OTHER_CONTRAST, detail)
    rule = "P9" if not near else "P7" if len(complete) == 1 else "P8"
    first, *others = [
        Pair(one["t2"].study_uid, one["t2"].patient_id, one, overlap, rule, check_images=not near)
        for one, overlap in complete[: 1 + MOST_OTHERS]
    ]
    return replace(first, others=tuple(replace(one, rule=f"{rule}, P10") for one in others))


def _with_further(
    combination: Combination, candidates: dict[str, list[Series]], options: PairOptions
) -> tuple[dict[str, Series], float]:
    """The series of a combination by contrast, with the best candidate for each further contrast if there is one."""
    t1, t2, overlap = combination
    contrasts = {"t1": t1, "t2": t2}
    for name, series in candidates.items():
        near = [(one, t2, overlap_fraction(one, t2)) for one in series if _same_frame(one, t2)]
        near = [one for one in near if one[2] >= options.overlap_reject]
        if near:
            contrasts[name] = min(near, key=lambda one: _preference(one, options))[0]
    return contrasts, overlap


def _excluded(series: list[Series], rule: str, reason: Reason, detail: str) -> Excluded:
    return Excluded(series[0].study_uid, series[0].patient_id, Rejected(reason, detail), rule)


def _patient_conflict(series: list[Series]) -> str:
    """Which keywords name several patients, with counts; empty where none does."""
    named = all_said(one.header for one in series)
    return ", ".join(f"{len(values)} {keyword}" for keyword, values in named.items() if len(values) > 1)


def _after_contrast(series: list[Series]) -> list[Series]:
    """The T1 without an agent in their headers that were acquired after a series that has one."""
    given = [one for one in series if has_contrast_agent(one.header)]
    return [one for one in series if one.role == "t1" and any(_is_later(one, agent) for agent in given)]


def _is_later(one: Series, other: Series) -> bool:
    """By time of day, or where one of them has none (de-identified archives) by SeriesNumber; False where unknown."""
    for key in (_seconds, lambda series: series.header["SeriesNumber"]):
        mine, theirs = key(one), key(other)
        if mine and theirs:
            return bool(mine > theirs)
    return False


def _missing(series: list[Series], t1s: list[Series], t2s: list[Series], late: list[Series]) -> tuple[Reason, str]:
    """The reason, and what became of the study's sagittal series: `stir 1, t1 refused series.missing_slice 1`."""
    counts: Counter[str] = Counter()
    for one in series:
        if one.plane == "sagittal":
            refused = f" refused {one.rejected.reason}" if one.rejected and one.role in ("t1", "t2") else ""
            counts[f"{one.role}{refused}{' after ContrastBolusAgent' if one in late else ''}"] += 1
    detail = ", ".join(f"{what} {count}" for what, count in sorted(counts.items())) or "no sagittal series"
    if not t1s and not t2s:
        return Reason.STUDY_NO_SAGITTAL_T1_NOR_T2, detail
    return (Reason.STUDY_NO_SAGITTAL_T2 if t1s else Reason.STUDY_NO_SAGITTAL_T1), detail


def _same_frame(t1: Series, t2: Series) -> bool:
    """Whether the headers vouch for one frame of reference: one UID, and no two days, between which a patient moves."""
    if len({when for one in (t1, t2) if (when := day(one.header["StudyDate"]))}) > 1:
        return False
    return t1.frame_of_reference_uid is not None and t1.frame_of_reference_uid == t2.frame_of_reference_uid


def _same_geometry(t1: Series, t2: Series, overlap: float, options: PairOptions) -> bool:
    turn = np.subtract(t1.header["ImageOrientationPatient"], t2.header["ImageOrientationPatient"])
    return bool(np.abs(turn).max() <= SAME_ORIENTATION and overlap >= options.overlap_warn)


def _preference(combination: Combination, options: PairOptions) -> tuple:
    """Sorts the best first (P8)."""
    t1, t2, overlap = combination
    both = (t2, t1)
    return (
        sum(DISAGREES in one.warnings for one in both),
        has_contrast_agent(t2.header),
        overlap < options.overlap_warn,
        sum(warning != DISAGREES for one in both for warning in one.warnings),
        sum(one.header["MRAcquisitionType"] == "3D" for one in both),
        *(round(max(one.pixel_spacing_mm or (9.0,)) / 0.05) for one in both),
        -t2.n_slices,
        -t1.n_slices,
        *(-_seconds(one) for one in both),
        *(part for one in both for part in (one.series_uid, one.stack)),
    )


def _seconds(series: Series) -> float:
    """Time of acquisition since midnight; 0 where unknown."""
    digits = str(series.header["AcquisitionTime"] or series.header["SeriesTime"] or "").replace(":", "")  # ACR-NEMA
    try:
        return int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + float(digits[4:] or 0)
    except ValueError:
        return 0.0


def stack_affine(series: Series) -> np.ndarray:
    """(4, 4): (column, row, slice, 1) → LPS mm, of a series that identify did not refuse."""
    first, last = (np.array(series.positions_mm[index]) for index in (0, -1))
    spacing = series.pixel_spacing_mm
    if spacing is None:
        raise ValueError("a series without PixelSpacing has no affine")
    return affine_of(first, last, series.n_slices, series.header["ImageOrientationPatient"], spacing)


def overlap_fraction(t1: Series, t2: Series) -> float:
    """Share of T2's points (module docstring) that lie within T1's voxels, 0-1."""
    rows, columns = t2.header["Rows"], t2.header["Columns"]
    row_runs_up = abs(t2.header["ImageOrientationPatient"][2]) > abs(t2.header["ImageOrientationPatient"][5])
    across, along = (rows, columns) if row_runs_up else (columns, rows)  # front to back, head to foot
    depth = np.linspace(0.25, 0.75, DEPTH_POINTS) * (across - 1)
    height = np.linspace(0.0, 1.0, HEIGHT_POINTS) * (along - 1)
    x, y = (height, depth) if row_runs_up else (depth, height)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(x, y, np.arange(t2.n_slices), indexing="ij")], axis=-1)
    there, here = stack_affine(t2), stack_affine(t1)
    points = grid @ there[:3, :3].T + there[:3, 3]  # (n, 3) mm
    index = (points - here[:3, 3]) @ np.linalg.inv(here[:3, :3]).T
    size = np.array([t1.header["Columns"], t1.header["Rows"], t1.n_slices])
    return float(((index >= -0.501) & (index <= size - 0.499)).all(axis=1).mean())
