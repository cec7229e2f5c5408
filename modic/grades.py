"""The Modic types, once: their names, their columns, their count."""

from enum import StrEnum

CLASSES = 3


GRADES = ("MC0", "MC1", "MC2")
PARTS = {**{grade: (k,) for k, grade in enumerate(GRADES)}, "MC1 or MC2": (1, 2)}
"""What a prevalence is of → the grades that count."""

P = ["p_mc0", "p_mc1", "p_mc2"]


class AbstainedReason(StrEnum):
    """Closed list: why a level that was graded has no sure grade (`levels.abstained_reason`)."""

    NO_TYPE = "set.no_type"  # no type is likely enough for the prediction set
    SEVERAL_TYPES = "set.several_types"  # more than one type cannot be ruled out
    T1_DARK = "marrow.t1_dark"  # the most likely type is 2, but the marrow is dark on T1
    T1_BRIGHT = "marrow.t1_bright"  # the most likely type is 1, but the marrow is bright on T1
    LIKE_TYPE_1 = "marrow.like_type_1"  # the most likely type is 0, but marrow is dark on T1 and bright on T2
    NO_BAND = "marrow.no_band"  # the most likely type is 1 or 2, but the marrow is like its vertebra's
