"""The Modic types: how many, their names, their columns. Everything that counts or names types takes them from here.

A further type is a name in `GRADES`; then a classifier whose card says `classes` and has a `conformal_q` for each; and
the columns of modic/tables/schema.py that name types. Parts of the report and of the exports that describe each type in
words (modic/export/sr.py, modic/templates) follow by hand.
"""

from enum import StrEnum

GRADES = ("MC0", "MC1", "MC2")
"""The names for people. The index is the value in the columns `mc`, `prediction_set` and in labels: MC0 is no Modic
change, MC1 oedema and inflammation, MC2 fatty marrow (Modic 1988)."""

CLASSES = len(GRADES)
"""The number of types, and of a classifier's outputs."""

TYPES = tuple(range(CLASSES))
"""The types as numbers: 0, 1, 2."""

P = [f"p_{name.lower()}" for name in GRADES]
"""The columns of the calibrated probabilities, in the order of the types."""

PARTS = {**{name: (k,) for k, name in enumerate(GRADES)}, "MC1 or MC2": (1, 2)}
"""What a prevalence may be of → the types that count."""


class AbstainedReason(StrEnum):
    """Closed list: why a level that was graded has no sure grade (`levels.abstained_reason`)."""

    NO_TYPE = "set.no_type"  # no type is likely enough for the prediction set
    SEVERAL_TYPES = "set.several_types"  # more than one type cannot be ruled out
    T1_DARK = "marrow.t1_dark"  # the most likely type is 2, but the marrow is dark on T1
    T1_BRIGHT = "marrow.t1_bright"  # the most likely type is 1, but the marrow is bright on T1
    LIKE_TYPE_1 = "marrow.like_type_1"  # the most likely type is 0, but marrow is dark on T1 and bright on T2
    NOT_MEASURED = "marrow.not_measured"  # the most likely type is 1 or 2, but neither endplate could be measured
    STIR_NOT_BRIGHT = "marrow.stir_not_bright"  # a grader that reads STIR says type 1, but no marrow is bright on it
    NO_BAND = "marrow.no_band"  # the most likely type is 1 or 2, not by far, and the marrow is like its vertebra's


class EndplateType(StrEnum):
    """Closed list: the type at one endplate (`levels.mc_upper`, `levels.mc_lower`)."""

    NONE = "0"
    TYPE_1 = "1"
    TYPE_2 = "2"
    MIXED = "1/2"  # parts of the endplate show type 1, other parts type 2


class UdbyExtent(StrEnum):
    """Closed list: how high a change reaches into its vertebra (`levels.udby_upper`, `udby_lower`; Udby 2022)."""

    A = "A"  # under 25 % of the vertebra's height
    B = "B"  # 25 to 50 %
    C = "C"  # over 50 %
