"""Series → for every study the sagittal T1 and T2 to grade, or the reason why it has no such pair.

A classifier may ask for further contrasts (such as STIR); then each pair also holds one series for each of them.

A series is usable if modic.series.identify did not refuse it. A T1 (also with fat suppression) is not usable either

- if it was acquired later (by date and time, else by SeriesNumber) than a series of the study that names a contrast
  agent, in its header or only in its description, or up to `AGENT_HOURS` later than one of another study of the
  patient, even if its own header does not name the agent;
- if it was acquired later than a T1 that is alike (place, matrix, TR and TE) and has a word in its description that the
  earlier one lacks, other than one for a repeat: it may name an agent or fat suppression in words that no list knows.

Rows are tried in order:

| row | condition                                                         | outcome                              |
|-----|-------------------------------------------------------------------|--------------------------------------|
| P1  | several PatientID, PatientBirthDate or PatientSex in the study    | excluded, patient_conflict           |
| P2  | neither a usable T1 nor a usable T2                               | excluded, no_sagittal_t1_nor_t2      |
| P3  | no usable T1                                                      | excluded, no_sagittal_t1             |
| P4  | no usable T2                                                      | excluded, no_sagittal_t2             |
| P5  | no combination of a T1 and a T2 names one frame of reference (and | excluded, frames_of_reference_differ |
|     | not two StudyDate), and P9 holds for none                         |                                      |
| P6  | in those that do, under `overlap_reject` of T2's five middle      | excluded, little_overlap             |
|     | slices lie in the T1, or it shows under `height_reject` of one    |                                      |
|     | (each level is asked again: modic/imaging/regions.py)             |                                      |
| P7  | one combination is left                                           | pair                                 |
| P8  | several are left                                                  | pair, the first by the order below   |
| P9  | none names one frame of reference, but T1 and T2 have the same    | pair, the first by the order below,  |
|     | orientation and T1 covers T2 as P6 asks                           | if the images agree (registration)   |
| P10 | modic.pipeline refuses the images of the pair (not lumbar,        | the next by the order below          |
|     | undecodable, …), and the study has others                         |                                      |
| P11 | the classifier asks for a further contrast, and no combination    | excluded, no_other_contrast          |
|     | has a usable series of it in the T2's frame of reference that     |                                      |
|     | covers T2 as P6 asks                                              |                                      |

| P12 | a pair, and a usable STIR in the T2's frame of reference (if none | the same pair; the STIR is kept     |
|     | is, of its orientation) that covers T2 as P6 asks                 | beside it: measured, not graded     |

| P13 | no usable T2, and the classifier reads T1 and STIR, but no T2     | STIR is the T2 of rows P4 to P8;     |
|     |                                                                   | P9 holds for none                    |

| P14 | a pair, and a sagittal series of the whole spine in the T2's      | the same pair; the series is kept    |
|     | frame of reference, whatever its contrast (whole_spine.py)        | beside it: discs are counted on it   |

P11 is tried after P6, on the combinations that P7 to P9 choose from. Of several series of a further contrast, or of
several STIR, the first by the order of P8 is taken. A STIR with or after a contrast agent is not usable: what took up
the agent has a short T1, as fat has, and is dark. A STIR that fits no T2 is said in a warning.

The order of P8 (`preference` in combination.py); the first difference decides:

1. the description agrees with the physics; no contrast agent before the T2;
2. acquired before computed (SyMRI, MAGiC, …), slices as acquired before reformatted ones, ORIGINAL before DERIVED;
3. overlap of `overlap_warn` or more; fewer other warnings;
4. T1 and T2 of one kind of reconstruction (distortion correction and NORM);
5. of series alike in all but a word of the description, the one without it;
6. 2D before 3D (the weights were trained on 2D); finer in-plane pixels (to 0.05 mm), T2's before T1's; more slices;
7. distortion corrected (DIS3D, DIS2D) before not (ND); NORM before without;
8. acquired later (a repeat was made for a reason); TE of T2 nearest `USUAL_TE_MS`; UIDs.

P9 only says that the headers do not speak against the pair; modic.pipeline compares the images before it grades
(modic/imaging/registration.py).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product

from modic.archive.patient_identity import identity_value, identity_values
from modic.config import PairOptions
from modic.errors import Reason, Rejected
from modic.records import Excluded, Pair, Series, WarningKind
from modic.series import whole_spine
from modic.series.acquisition import reconstruction
from modic.series.alike import has_new_word, is_after_agent, is_wordier
from modic.series.combination import Combination, combination_of, in_same_geometry, preference, same_frame
from modic.series.contrast import has_contrast_agent, named_in

STIR = "stir"
SHARED_ID = "PatientID under several PatientBirthDate or PatientSex"
CHANGED_BY_AGENT = ("t1", "t1_fat_suppressed", "stir")
ANOTHER_STUDY = "another study of the patient and day has a {}; give the series of one examination one StudyInstanceUID"
STIR_UNFIT = "STIR: {} in the study; none is in the frame of reference or orientation of T2 and covers it"
NO_T2 = "no T2: discs were found and graded on STIR"
STIR_THERE = "a STIR is there, which this classifier does not grade in the place of T2"
UNLIKE = "T1 and T2 are of different reconstructions (distortion correction or normalization)"
MOST_FRAMES = 2  # of a study in which T1 and T2 were repeated because the patient got up
MANY_FRAMES = (
    "T1 and T2 in {} frames of reference, of which one is graded: if these are several examinations, give each its own"
    " StudyInstanceUID"
)
MAX_OTHERS = 5  # pairs of a study that are tried after the first


def pair(
    series: list[Series], *, contrasts: Sequence[str] = ("t1", "t2"), options: PairOptions
) -> list[Pair | Excluded]:
    """Exactly one result for every StudyInstanceUID in `series`, sorted by it.

    Args:
        series: what modic.series.identify returns for the same `contrasts`.
        contrasts: what the classifier's card asks for; T1 and T2 (or the STIR in its place) are always paired.
        options: limits of the overlap.
    """
    further = [name for name in dict.fromkeys(contrasts) if name not in ("t1", "t2")]
    stir_for_t2 = STIR in contrasts and "t2" not in contrasts
    ordered = sorted(series, key=lambda stack: (stack.study_uid, stack.series_uid, stack.stack, _files(stack)))
    studies = [list(stacks) for _, stacks in groupby(ordered, key=lambda stack: stack.study_uid)]
    with_agent = _with_agent_by_patient(series)
    outcomes = [
        _pair_study(_Study(stacks, with_agent.get(stacks[0].patient_id, [])), further, options, stir_for_t2=stir_for_t2)
        for stacks in studies
    ]
    outcomes = _with_company(outcomes, studies)
    shared = _shared_ids(series)
    return [
        replace(outcome, warnings=(SHARED_ID, *outcome.warnings))
        if isinstance(outcome, Pair) and outcome.patient_id in shared
        else outcome
        for outcome in outcomes
    ]


def _with_company(outcomes: list[Pair | Excluded], studies: list[list[Series]]) -> list[Pair | Excluded]:
    """`outcomes`, those told apart that lack a contrast which another study of the patient and the day has (P3, P4)."""
    days: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for stacks in studies:
        for stack in stacks:
            if stack.contrast in ("t1", "t2") and not stack.rejected and stack.header["StudyDate"]:
                days[stack.patient_id, stack.header["StudyDate"], stack.contrast].add(stack.study_uid)
    result = list(outcomes)
    for index, (outcome, stacks) in enumerate(zip(outcomes, studies, strict=True)):
        missing = {"P3": "t1", "P4": "t2"}.get(outcome.rule)
        if isinstance(outcome, Excluded) and missing:
            others = days.get((outcome.patient_id, stacks[0].header["StudyDate"], missing), set())
            if others - {outcome.study_uid}:
                detail = f"{outcome.rejected.detail}; {ANOTHER_STUDY.format(missing.upper())}"
                result[index] = replace(outcome, rejected=replace(outcome.rejected, detail=detail))
    return result


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


@dataclass(frozen=True, eq=False)
class _Study:
    """The series of a study, and those of all studies of its patient that name a contrast agent."""

    series: list[Series]
    with_agent: list[Series]


def _with_agent_by_patient(series: list[Series]) -> dict[str, list[Series]]:
    """Patient → series that name a contrast agent, in an element or only in the description."""
    found: dict[str, list[Series]] = defaultdict(list)
    for stack in series:
        if has_contrast_agent(stack.header) or "agent" in named_in(stack.header):
            found[stack.patient_id].append(stack)
    return found


def _pair_study(study: _Study, further: Sequence[str], options: PairOptions, *, stir_for_t2: bool) -> Pair | Excluded:
    """P1 to P4, P12 and P13."""
    series = study.series
    if conflict := _patient_conflict(series):
        return _excluded(series, "P1", Reason.STUDY_PATIENT_CONFLICT, conflict)
    t1s, t2s = _usable(study, "t1"), _usable(study, "t2") or (_usable(study, STIR) if stir_for_t2 else [])
    if not t1s or not t2s:
        rule = "P4" if t1s else "P3" if t2s else "P2"
        return _excluded(series, rule, *_missing(study, t1s, t2s))
    wanted = [name for name in further if name != t2s[0].contrast]
    found = _choose(series, t1s, t2s, {name: _usable(study, name) for name in wanted}, options)
    if t2s[0].contrast == STIR:
        return _on_stir(found)
    return found if isinstance(found, Excluded) else _with_stir(found, _usable(study, STIR), options)


def _choose(
    series: list[Series],
    t1s: list[Series],
    t2s: list[Series],
    candidates: dict[str, list[Series]],
    options: PairOptions,
) -> Pair | Excluded:
    """P5 to P11: the best of all combinations of T1 and T2. `candidates`: usable series of each further contrast."""
    reference = t2s[0].contrast.upper()  # T2, or STIR (P13)
    in_frame = [combination_of(t1, t2) for t1, t2 in product(t1s, t2s) if same_frame(t1, t2)]
    near = [combination for combination in in_frame if combination.covers(options)]
    if in_frame and not near:
        best = max(min(combination.middle) for combination in in_frame)
        detail = f"T1 covers {best:.2f} of one of the middle slices of {reference}, {options.height_reject:g} needed"
        return _excluded(series, "P6", Reason.STUDY_LITTLE_OVERLAP, detail)
    elsewhere = () if near or reference == "STIR" else product(t1s, t2s)
    possible = near or [one for t1, t2 in elsewhere if (one := in_same_geometry(t1, t2, options))]
    if not possible:
        return _excluded(series, "P5", Reason.STUDY_FRAMES_DIFFER, f"{len(t1s)} T1, {len(t2s)} {reference}")
    wordier = {id(stack) for stack in (*t1s, *t2s) if is_wordier(stack, series)}
    ordered = sorted(possible, key=lambda combination: preference(combination, wordier, options))
    pairs = [_pair(combination, candidates, options) for combination in ordered]
    complete = [made for made in pairs if len(made.contrasts) == 2 + len(candidates)]
    if not complete:
        detail = ", ".join(f"{name}: {len(stacks)} usable" for name, stacks in candidates.items())
        return _excluded(series, "P11", Reason.STUDY_NO_OTHER_CONTRAST, detail)
    rule = "P9" if not near else "P7" if len(complete) == 1 else "P8"
    first, *others = (replace(made, check_images=not near) for made in complete[: 1 + MAX_OTHERS])
    whole = (whole_spine.WARNING,) if any(map(whole_spine.shows_whole_spine, series)) else ()
    frames = {one.t2.frame_of_reference_uid for one in near}
    many = (MANY_FRAMES.format(len(frames)),) if len(frames) > MOST_FRAMES else ()
    others = [_with_whole_spine(replace(other, rule=f"{rule}, P10"), series) for other in others]
    first = replace(first, rule=rule, others=tuple(others), warnings=(*whole, *many, *_unlike(first)))
    return _with_whole_spine(first, series)


def _with_whole_spine(pair: Pair, series: list[Series]) -> Pair:
    """P14."""
    in_frame = (stack for stack in series if same_frame(stack, pair.t2))
    return replace(pair, whole_spine=whole_spine.best_to_count_on(in_frame))


def _on_stir(outcome: Pair | Excluded) -> Pair | Excluded:
    """P13: says of an outcome that STIR stands in the place of T2."""
    outcome = replace(outcome, rule=f"{outcome.rule}, P13")
    if isinstance(outcome, Excluded):
        return outcome
    others = tuple(replace(other, rule=f"{other.rule}, P13", stir=other.t2) for other in outcome.others)
    return replace(outcome, others=others, stir=outcome.t2, warnings=(*outcome.warnings, NO_T2))


def _with_stir(pair: Pair, stirs: list[Series], options: PairOptions) -> Pair:
    """P12: the pair and its others, each with the STIR that goes with its T2; a warning if none does."""
    others = tuple(_with_stir(other, stirs, options) for other in pair.others)
    if STIR in pair.contrasts or not stirs:
        return replace(pair, others=others, stir=pair.contrasts.get(STIR))
    in_frame = _best_in_frame(stirs, pair.t2, options)
    alike = (one for stack in stirs if (one := in_same_geometry(stack, pair.t2, options)))
    best = in_frame or _best(alike, options)
    if not best:
        warnings = (*pair.warnings, STIR_UNFIT.format(len(stirs)))
        return replace(pair, others=others, warnings=warnings)
    return replace(pair, others=others, stir=best, check_stir=not in_frame)


def _unlike(pair: Pair) -> tuple[str, ...]:
    return () if reconstruction(pair.t1.header).like(reconstruction(pair.t2.header)) else (UNLIKE,)


def _excluded(series: list[Series], rule: str, reason: Reason, detail: str) -> Excluded:
    return Excluded(series[0].study_uid, series[0].patient_id, Rejected(reason, detail), rule)


def _pair(combination: Combination, candidates: dict[str, list[Series]], options: PairOptions) -> Pair:
    """The pair of a combination, with the best candidate of each further contrast that has a suitable one."""
    t2 = combination.t2
    contrasts: dict[str, Series] = {"t1": combination.t1, t2.contrast: t2}
    for name, stacks in candidates.items():
        if best := _best_in_frame(stacks, t2, options):
            contrasts[name] = best
    return Pair(t2.study_uid, t2.patient_id, contrasts, combination.overlap, rule="")


def _best_in_frame(stacks: list[Series], t2: Series, options: PairOptions) -> Series | None:
    """The series that goes best with a T2 of those that cover it in its frame of reference."""
    in_frame = (combination_of(stack, t2) for stack in stacks if same_frame(stack, t2))
    return _best((one for one in in_frame if one.covers(options)), options)


def _best(combinations: Iterable[Combination], options: PairOptions) -> Series | None:
    chosen = min(combinations, key=lambda one: preference(one, set(), options), default=None)
    return chosen.t1 if chosen else None


def _patient_conflict(series: list[Series]) -> str:
    """The keywords that name several patients, with counts; empty if none does."""
    named = identity_values(stack.header for stack in series)
    return ", ".join(f"{len(values)} {keyword}" for keyword, values in named.items() if len(values) > 1)


def _usable(study: _Study, contrast: str) -> list[Series]:
    """The series of a contrast that can be graded or measured."""
    late = _suspect(study, contrast)
    series = (stack for stack in study.series if stack.contrast == contrast and not stack.rejected)
    if contrast == STIR:
        series = (stack for stack in series if not has_contrast_agent(stack.header))
    return [stack for stack in series if id(stack) not in late]


def _suspect(study: _Study, contrast: str) -> dict[int, str]:
    """Of a contrast that an agent would change: id() of the series that may show one → why (module docstring)."""
    if contrast not in CHANGED_BY_AGENT:
        return {}
    found = {}
    for stack in study.series:
        if stack.contrast == contrast:
            if any(is_after_agent(stack, agent) for agent in study.with_agent):
                found[id(stack)] = " after ContrastBolusAgent"
            elif has_new_word(stack, study.series):
                found[id(stack)] = " with a word that an earlier one lacks"
    return found


def _missing(study: _Study, t1s: list[Series], t2s: list[Series]) -> tuple[Reason, str]:
    """The reason, and counts of the study's sagittal series: `stir 1, t1 refused series.missing_slice 1`."""
    counts: Counter[str] = Counter()
    late = _suspect(study, "t1")
    for stack in study.series:
        if stack.plane == "sagittal":
            refused = f" refused {stack.rejected.reason}" if _is_told(stack) and stack.rejected else ""
            counts[f"{stack.contrast}{refused}{late.get(id(stack), '')}"] += 1
            if any(warning.kind is WarningKind.SERIES_OF_ONE_IMAGE for warning in stack.warnings):
                counts["series of one image each"] += 1
    detail = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no sagittal series"
    if not t1s and not t2s:
        return Reason.STUDY_NO_SAGITTAL_T1_NOR_T2, detail
    if not t2s and _usable(study, STIR):
        detail += f"; {STIR_THERE}"
    return (Reason.STUDY_NO_SAGITTAL_T2 if t1s else Reason.STUDY_NO_SAGITTAL_T1), detail


def _is_told(stack: Series) -> bool:
    """Whether the detail of an exclusion says why a series was refused: of a contrast that is asked for."""
    reason = stack.rejected.reason if stack.rejected else None
    return stack.contrast in ("t1", "t2") or (stack.contrast == STIR and reason is not Reason.SERIES_NOT_T1_OR_T2)
