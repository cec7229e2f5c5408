"""Series → for every study the sagittal T1 and T2 to grade, or the reason why it has no such pair.

A classifier may ask for further contrasts (such as STIR); then each pair also holds one series for each of them.

A series is usable if modic.series.identify did not refuse it. A T1 (also with fat suppression) is not usable either if
it was acquired later (by time, else by SeriesNumber) than a series of the study that names a contrast agent, even if
its own header does not name the agent. Rows are tried in order:

| row | condition                                                         | outcome                              |
|-----|-------------------------------------------------------------------|--------------------------------------|
| P1  | several PatientID, PatientBirthDate or PatientSex in the study    | excluded, patient_conflict           |
| P2  | neither a usable T1 nor a usable T2                               | excluded, no_sagittal_t1_nor_t2      |
| P3  | no usable T1                                                      | excluded, no_sagittal_t1             |
| P4  | no usable T2                                                      | excluded, no_sagittal_t2             |
| P5  | no combination of a T1 and a T2 names one frame of reference (and | excluded, frames_of_reference_differ |
|     | not two StudyDate), and P9 holds for none                         |                                      |
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

The order of P8; the first difference decides: the description agrees with the physics; no contrast agent before the
T2; overlap of `overlap_warn` or more; fewer other warnings; 2D before 3D (the weights were trained on 2D); finer
in-plane pixels (to 0.05 mm), T2's before T1's; more slices; acquired later (a repeat was made for a reason); UIDs.

P9 only says that the headers do not speak against the pair; modic.pipeline compares the images before it grades
(modic/imaging/registration.py).

Overlap is the share of points on T2's slices that lie inside the T1 stack. The points fill the whole height of the
image, but only the middle half from front to back; the rest is belly and skin.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product

import numpy as np

from modic.archive.patient_identity import dicom_date, identity_value, identity_values
from modic.config import PairOptions
from modic.errors import Reason, Rejected
from modic.imaging.volume import affine_of
from modic.records import Excluded, Pair, Series, WarningKind
from modic.series.contrast import has_contrast_agent

SHARED_ID = "PatientID under several PatientBirthDate or PatientSex"
SAME_ORIENTATION = 0.02  # largest difference of any number of ImageOrientationPatient
HEIGHT_POINTS, DEPTH_POINTS = 65, 9
CHANGED_BY_AGENT = ("t1", "t1_fat_suppressed")
MAX_OTHERS = 5  # pairs of a study that are tried after the first


@dataclass(frozen=True, slots=True)
class Combination:
    """A T1 and a T2 that may be graded together, and the share of the T2's extent that the T1 covers."""

    t1: Series
    t2: Series
    overlap: float


def pair(
    series: list[Series], *, contrasts: Sequence[str] = ("t1", "t2"), options: PairOptions
) -> list[Pair | Excluded]:
    """Exactly one result for every StudyInstanceUID in `series`, sorted by it.

    Args:
        series: what modic.series.identify returns for the same `contrasts`.
        contrasts: what the classifier's card asks for; T1 and T2 are always paired.
        options: limits of the overlap.
    """
    further = [name for name in dict.fromkeys(contrasts) if name not in ("t1", "t2")]
    ordered = sorted(series, key=lambda stack: (stack.study_uid, stack.series_uid, stack.stack, _files(stack)))
    studies = [list(stacks) for _, stacks in groupby(ordered, key=lambda stack: stack.study_uid)]
    outcomes = [_pair_study(stacks, further, options) for stacks in studies]
    shared = _shared_ids(series)
    return [
        replace(outcome, warnings=(SHARED_ID,))
        if isinstance(outcome, Pair) and outcome.patient_id in shared
        else outcome
        for outcome in outcomes
    ]


def _files(series: Series) -> list[tuple[str, str]]:
    return [(image.path, image.member or "") for image in series.images]


def _shared_ids(series: list[Series]) -> set[str]:
    """PatientIDs with several birth dates or sexes, perhaps two patients of two hospitals."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for stack in series:
        for keyword in ("PatientBirthDate", "PatientSex"):
            if value := identity_value(stack.header, keyword):
                values[stack.patient_id, keyword].add(value)
    return {patient_id for (patient_id, _), different in values.items() if len(different) > 1}


def _pair_study(series: list[Series], further: Sequence[str], options: PairOptions) -> Pair | Excluded:
    """P1 to P4."""
    if conflict := _patient_conflict(series):
        return _excluded(series, "P1", Reason.STUDY_PATIENT_CONFLICT, conflict)
    t1s, t2s = _usable(series, "t1"), _usable(series, "t2")
    if not t1s or not t2s:
        rule = "P4" if t1s else "P3" if t2s else "P2"
        return _excluded(series, rule, *_missing(series, t1s, t2s))
    return _choose(series, t1s, t2s, {name: _usable(series, name) for name in further}, options)


def _choose(
    series: list[Series],
    t1s: list[Series],
    t2s: list[Series],
    candidates: dict[str, list[Series]],
    options: PairOptions,
) -> Pair | Excluded:
    """P5 to P11: the best of all combinations of T1 and T2. `candidates`: usable series of each further contrast."""
    every = [Combination(t1, t2, overlap_fraction(t1, t2)) for t1, t2 in product(t1s, t2s)]
    in_frame = [combination for combination in every if _same_frame(combination.t1, combination.t2)]
    near = [combination for combination in in_frame if combination.overlap >= options.overlap_reject]
    if in_frame and not near:
        best = max(combination.overlap for combination in in_frame)
        detail = f"overlap {best:.2f}, {options.overlap_reject:g} needed"
        return _excluded(series, "P6", Reason.STUDY_LITTLE_OVERLAP, detail)
    possible = near or [combination for combination in every if _same_geometry(combination, options)]
    if not possible:
        return _excluded(series, "P5", Reason.STUDY_FRAMES_DIFFER, f"{len(t1s)} T1, {len(t2s)} T2")
    ordered = sorted(possible, key=lambda combination: _preference(combination, options))
    pairs = [_pair(combination, candidates, options) for combination in ordered]
    complete = [made for made in pairs if len(made.contrasts) == 2 + len(candidates)]
    if not complete:
        detail = ", ".join(f"{name}: {len(stacks)} usable" for name, stacks in candidates.items())
        return _excluded(series, "P11", Reason.STUDY_NO_OTHER_CONTRAST, detail)
    rule = "P9" if not near else "P7" if len(complete) == 1 else "P8"
    first, *others = (replace(made, check_images=not near) for made in complete[: 1 + MAX_OTHERS])
    return replace(first, rule=rule, others=tuple(replace(other, rule=f"{rule}, P10") for other in others))


def _excluded(series: list[Series], rule: str, reason: Reason, detail: str) -> Excluded:
    return Excluded(series[0].study_uid, series[0].patient_id, Rejected(reason, detail), rule)


def _pair(combination: Combination, candidates: dict[str, list[Series]], options: PairOptions) -> Pair:
    """The pair of a combination, with the best candidate of each further contrast that has a suitable one."""
    t2 = combination.t2
    contrasts = {"t1": combination.t1, "t2": t2}
    for name, stacks in candidates.items():
        in_frame = [Combination(stack, t2, overlap_fraction(stack, t2)) for stack in stacks if _same_frame(stack, t2)]
        near = [candidate for candidate in in_frame if candidate.overlap >= options.overlap_reject]
        if near:
            contrasts[name] = min(near, key=lambda candidate: _preference(candidate, options)).t1
    return Pair(t2.study_uid, t2.patient_id, contrasts, combination.overlap, rule="")


def _patient_conflict(series: list[Series]) -> str:
    """The keywords that name several patients, with counts; empty if none does."""
    named = identity_values(stack.header for stack in series)
    return ", ".join(f"{len(values)} {keyword}" for keyword, values in named.items() if len(values) > 1)


def _usable(series: list[Series], contrast: str) -> list[Series]:
    """The series of a contrast that can be graded."""
    late = _after_agent(series, contrast)
    return [stack for stack in series if stack.contrast == contrast and not stack.rejected and stack not in late]


def _after_agent(series: list[Series], contrast: str) -> list[Series]:
    """Of a contrast that an agent would change: the series acquired after one of the study that names an agent."""
    if contrast not in CHANGED_BY_AGENT:
        return []
    same = [stack for stack in series if stack.contrast == contrast]
    with_agent = [stack for stack in series if has_contrast_agent(stack.header)]
    return [stack for stack in same if any(_is_later(stack, agent) for agent in with_agent)]


def _is_later(series: Series, other: Series) -> bool:
    """Whether `series` was acquired after the other, by time of day.

    By SeriesNumber if one has no time (de-identified archives); False if that is unknown too.
    """
    measures: tuple[Callable[[Series], float | None], ...] = (_seconds, lambda stack: stack.header["SeriesNumber"])
    for measure in measures:
        own, others = measure(series), measure(other)
        if own and others:
            return bool(own > others)
    return False


def _missing(series: list[Series], t1s: list[Series], t2s: list[Series]) -> tuple[Reason, str]:
    """The reason, and counts of the study's sagittal series: `stir 1, t1 refused series.missing_slice 1`."""
    counts: Counter[str] = Counter()
    late = _after_agent(series, "t1")
    for stack in series:
        if stack.plane == "sagittal":
            is_t1_or_t2 = stack.contrast in ("t1", "t2")
            refused = f" refused {stack.rejected.reason}" if stack.rejected and is_t1_or_t2 else ""
            counts[f"{stack.contrast}{refused}{' after ContrastBolusAgent' if stack in late else ''}"] += 1
    detail = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no sagittal series"
    if not t1s and not t2s:
        return Reason.STUDY_NO_SAGITTAL_T1_NOR_T2, detail
    return (Reason.STUDY_NO_SAGITTAL_T2 if t1s else Reason.STUDY_NO_SAGITTAL_T1), detail


def _same_frame(series: Series, t2: Series) -> bool:
    """Whether the headers name one frame of reference, and not two days, because a patient moves in between."""
    dates = {dicom_date(stack.header["StudyDate"]) for stack in (series, t2)} - {None}
    frame = series.frame_of_reference_uid
    return len(dates) < 2 and frame is not None and frame == t2.frame_of_reference_uid


def _same_geometry(combination: Combination, options: PairOptions) -> bool:
    """Whether T1 and T2 have the same orientation and the T1 covers the T2 (P9)."""
    orientations = [stack.header["ImageOrientationPatient"] for stack in (combination.t1, combination.t2)]
    turn = float(np.abs(np.subtract(*orientations)).max())
    return turn <= SAME_ORIENTATION and combination.overlap >= options.overlap_warn


def _preference(combination: Combination, options: PairOptions) -> tuple:
    """Sorts the best combination first (P8)."""
    both = (combination.t2, combination.t1)
    kinds = [warning.kind for stack in both for warning in stack.warnings]
    disagreeing = kinds.count(WarningKind.DESCRIPTION_DISAGREES)
    return (
        disagreeing,
        has_contrast_agent(combination.t2.header),
        combination.overlap < options.overlap_warn,
        len(kinds) - disagreeing,
        sum(stack.header["MRAcquisitionType"] == "3D" for stack in both),
        *(round(max(stack.pixel_spacing_mm or (9.0,)) / 0.05) for stack in both),
        *(-stack.n_slices for stack in both),
        *(-_seconds(stack) for stack in both),
        *(part for stack in both for part in (stack.series_uid, stack.stack)),
    )


def _seconds(series: Series) -> float:
    """Time of acquisition in seconds since midnight; 0 if it is unknown."""
    digits = str(series.header["AcquisitionTime"] or series.header["SeriesTime"] or "").replace(":", "")  # ACR-NEMA
    try:
        return int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + float(digits[4:] or 0)
    except ValueError:
        return 0.0


def stack_affine(series: Series) -> np.ndarray:
    """(4, 4) float64: (column, row, slice, 1) → LPS mm, of a series that modic.series.identify did not refuse.

    Raises ValueError if the series has no PixelSpacing.
    """
    first, last = (np.array(series.positions_mm[index]) for index in (0, -1))
    spacing = series.pixel_spacing_mm
    if spacing is None:
        raise ValueError("a series without PixelSpacing has no affine")
    return affine_of(first, last, series.n_slices, series.header["ImageOrientationPatient"], spacing)


def overlap_fraction(series: Series, t2: Series) -> float:
    """Share of T2's points (module docstring) that lie within the voxels of `series`, 0-1."""
    rows, columns = t2.header["Rows"], t2.header["Columns"]
    row_runs_up = abs(t2.header["ImageOrientationPatient"][2]) > abs(t2.header["ImageOrientationPatient"][5])
    across, along = (rows, columns) if row_runs_up else (columns, rows)  # front to back, head to foot
    depth = np.linspace(0.25, 0.75, DEPTH_POINTS) * (across - 1)
    height = np.linspace(0.0, 1.0, HEIGHT_POINTS) * (along - 1)
    x, y = (height, depth) if row_runs_up else (depth, height)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(x, y, np.arange(t2.n_slices), indexing="ij")], axis=-1)
    from_t2, from_series = stack_affine(t2), stack_affine(series)
    points = grid @ from_t2[:3, :3].T + from_t2[:3, 3]  # (n, 3) LPS mm
    index = (points - from_series[:3, 3]) @ np.linalg.inv(from_series[:3, :3]).T  # (n, 3) column, row, slice
    size = np.array([series.header["Columns"], series.header["Rows"], series.n_slices])
    return float(((index >= -0.501) & (index <= size - 0.499)).all(axis=1).mean())
