"""A sure grade that contradicts the measured marrow is taken back: the level abstains, `abstained_reason` says why.

Marrow signal defines the types (Modic 1988): type 1 is dark on T1 and bright on T2, type 2 bright on T1. The
classifier has seen no real type 1 in training. The measurement (modic/grading/marrow.py) uses a segmentation network
trained on anatomy, not on Modic labels. If the two contradict each other, the level abstains. Rows are tried from
above; the first that applies decides.

| grade | marrow beside the endplates                                           | outcome                           |
|-------|-----------------------------------------------------------------------|-----------------------------------|
| 1, 2  | neither endplate could be measured                                    | abstains, `marrow.not_measured`   |
| 2     | T1 dark at an endplate, T1 bright at none                             | abstains, `marrow.t1_dark`        |
| 1     | T1 bright at an endplate, T1 dark at none                             | abstains, `marrow.t1_bright`      |
| 0     | at one endplate T1 dark and T2 bright                                 | abstains, `marrow.like_type_1`    |
| 1, 2  | no band, and the type's probability is under `without_band`           | abstains, `marrow.no_band`        |
| any   | otherwise                                                             | the grade stands                  |

If the classifier reads STIR, a type 1 that stands is asked once more (`agreed_with_stir`):

| grade | STIR beside the endplates                                             | outcome                           |
|-------|-----------------------------------------------------------------------|-----------------------------------|
| 1     | not measured                                                          | abstains, `marrow.not_measured`   |
| 1     | bright at no endplate, over the same vertebra's own marrow            | abstains, `marrow.stir_not_bright`|

*Dark* and *bright*: the signal of the marrow over the same vertebra's own marrow, or over the patient's, is at most
`dark` or at least `bright`; one of the two references is enough, since a change may fill a vertebra. *No band*: the
measured extent is 0 at all endplates that are measured. The limits, exp(±0.2), are slightly nearer to 1 than
`MarrowOptions.unlike` (exp(±0.25), chosen on SPIDER's training patients); they were not tuned on labels themselves;
`without_band` was (the classifier's card has the table). The first row was added after a real type 1 of the test
patients had escaped the others: its endplates were not measured. Without a segmenter no rule applies.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from modic.grades import AbstainedReason
from modic.grading.marrow import EndplateMarrow, MarrowMeasurements
from modic.records import Grade


@dataclass(frozen=True, slots=True)
class AgreementOptions:
    """When marrow contradicts a grade."""

    dark: float = field(default=0.82, metadata={"help": "signal over normal marrow's, at most: exp(-0.2)"})
    bright: float = field(default=1.22, metadata={"help": "signal over normal marrow's, at least: exp(0.2)"})
    without_band: float = field(
        default=0.75, metadata={"help": "probability from which a type stands without a band; 0.6-0.9 tried on SPIDER"}
    )


DEFAULT = AgreementOptions()


def agreed(grade: Grade, marrow: MarrowMeasurements, *, options: AgreementOptions = DEFAULT) -> Grade:
    """The grade, or an abstention if it is sure and contradicts the marrow (`contradiction`)."""
    reason = None if grade.mc is None else contradiction(grade.mc, grade.confidence, marrow, options=options)
    return grade if reason is None else replace(grade, mc=None, abstained=True, abstained_reason=reason)


def agreed_with_stir(grade: Grade, ratios: Iterable[float | None], *, options: AgreementOptions = DEFAULT) -> Grade:
    """The grade of a classifier that reads STIR, or an abstention: type 1 is oedema, which is bright on STIR.

    `ratios`: `stir_ratio_*` of the level, as far as they are known.
    """
    if grade.mc != 1:
        return grade
    known = [ratio for ratio in ratios if ratio is not None]
    if known and max(known) >= options.bright:
        return grade
    reason = AbstainedReason.STIR_NOT_BRIGHT if known else AbstainedReason.NOT_MEASURED
    return replace(grade, mc=None, abstained=True, abstained_reason=reason)


def checked(
    grade: Grade, marrow: MarrowMeasurements | None, stir_ratios: Iterable[float | None] | None = None
) -> Grade:
    """The grade after all rules. `marrow`: None if nothing was measured; `stir_ratios`: of a grader that reads STIR."""
    if marrow is not None:
        grade = agreed(grade, marrow)
    return grade if stir_ratios is None else agreed_with_stir(grade, stir_ratios)


def contradiction(
    mc: int, probability: float, marrow: MarrowMeasurements, *, options: AgreementOptions = DEFAULT
) -> AbstainedReason | None:
    """Why a sure grade, Modic type 0, 1 or 2 of this probability, cannot stand, or None."""
    sides = (marrow.upper, marrow.lower)
    t1, t2 = ([_signal(side, contrast, options) for side in sides] for contrast in ("t1", "t2"))
    if mc == 0:
        return AbstainedReason.LIKE_TYPE_1 if (-1, 1) in zip(t1, t2, strict=True) else None
    if all(value is None for side in sides for value in (*side.ratio.values(), *side.patient_ratio.values())):
        return AbstainedReason.NOT_MEASURED
    other, reason = (-1, AbstainedReason.T1_DARK) if mc == 2 else (1, AbstainedReason.T1_BRIGHT)
    if other in t1 and -other not in t1:
        return reason
    extents = [side.extent for side in sides if side.extent is not None]
    no_band = bool(extents) and not any(extents) and probability < options.without_band
    return AbstainedReason.NO_BAND if no_band else None


def _signal(endplate: EndplateMarrow, contrast: str, options: AgreementOptions) -> int:
    """-1 dark, 1 bright, 0 neither, both or not measured."""
    known = [r for r in (endplate.ratio.get(contrast), endplate.patient_ratio.get(contrast)) if r is not None]
    dark, bright = any(r <= options.dark for r in known), any(r >= options.bright for r in known)
    return int(bright) - int(dark)
