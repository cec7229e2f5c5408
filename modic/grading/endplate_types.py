"""A level's sure grade and the marrow beside its endplates → the type and the extent at each of the two endplates.

Readers grade endplates, and a level's grade follows from its two endplates. The columns always agree with this rule
(sql/checks/endplates_agree_with_level.sql):

| endplates                                   | level                            |
|---------------------------------------------|----------------------------------|
| both `0`                                    | 0                                |
| `1` at one or both, the other `0`           | 1                                |
| `2` at one or both, the other `0`           | 2                                |
| types 1 and 2 are both there (`1/2` is both) | 1 or 2, as the classifier grades |

It is read from behind: the classifier grades the level, and the marrow that is unlike its vertebra's own says where
(`bright`, `extent` and `depth_mm` of modic/grading/marrow.py). No endplate was labelled in training.

| level's grade    | unlike marrow beside the endplate                  | the endplate's type |
|------------------|----------------------------------------------------|---------------------|
| none (abstained) | any                                                | null                |
| 0                | any                                                | `0`                 |
| 1 or 2           | neither endplate shows a change of the level's type | null (both)         |
| 1 or 2           | not measured                                       | null                |
| 1 or 2           | none                                               | `0`                 |
| 1 or 2           | at least `mixed` of it dark and `mixed` bright      | `1/2`               |
| 1 or 2           | most of it bright on T1                            | `2`                 |
| 1 or 2           | most of it dark on T1                              | `1`                 |

The extent is graded by the share of the vertebra's height that the change reaches (Udby 2022): `A` under 25 %, `B` 25
to 50 %, `C` over 50 %; none for type `0`. Depth is measured up to 17 mm, over half of a lumbar body (26-30 mm).

On 60 phantoms whose levels are graded by the truth (tests/benchmarks/endplates.py), 194 of 196 endplates with a type
other than `0` have the true one, and none was type 1 for 2 or 2 for 1; but 30 of 175 endplates of type 1 and 13 of 145
of type 2 are called `0`, and 15 and 68 have no type. 134 of 194 have the true extent, all but one within one grade.
No patient's endplates are labelled.
"""

from dataclasses import dataclass, field

from modic.grades import EndplateType, UdbyExtent
from modic.grading.marrow import EndplateMarrow, MarrowMeasurements
from modic.records import SIDES


@dataclass(frozen=True, slots=True)
class EndplateTypeOptions:
    """When a change is of both types, and the limits of its extent."""

    mixed: float = field(default=0.25, metadata={"help": "share of the unlike marrow that each of two types has"})
    extents: tuple[float, float] = field(default=(0.25, 0.5), metadata={"help": "share of the vertebra's height"})


DEFAULT = EndplateTypeOptions()


def endplate_columns(
    mc: int | None, marrow: MarrowMeasurements | None, *, options: EndplateTypeOptions = DEFAULT
) -> dict[str, str | None]:
    """`mc_upper`, `udby_upper`, `mc_lower` and `udby_lower` of the table `levels`.

    Args:
        mc: the level's grade, 0, 1 or 2; None if it abstained.
        marrow: as far as it was measured.
    """
    sides = {side: getattr(marrow, side) if marrow else EndplateMarrow({}, {}) for side in SIDES}
    types = {side: type_beside(endplate, options=options) for side, endplate in sides.items()}
    if mc == 0:
        types = dict.fromkeys(SIDES, EndplateType.NONE)
    elif mc is None or not {EndplateType(str(mc)), EndplateType.MIXED} & set(types.values()):
        types = dict.fromkeys(SIDES)
    columns: dict[str, str | None] = {}
    for side, kind in types.items():
        extent = extent_beside(sides[side], options=options) if kind not in (None, EndplateType.NONE) else None
        columns |= {f"mc_{side}": kind and str(kind), f"udby_{side}": extent and str(extent)}
    return columns


def type_beside(endplate: EndplateMarrow, *, options: EndplateTypeOptions = DEFAULT) -> EndplateType | None:
    """The type that the unlike marrow beside one endplate looks like; None if it was not measured."""
    if endplate.extent is None:
        return None
    if endplate.bright is None:
        return EndplateType.NONE
    if options.mixed <= endplate.bright <= 1 - options.mixed:
        return EndplateType.MIXED
    return EndplateType.TYPE_2 if endplate.bright > 0.5 else EndplateType.TYPE_1


def extent_beside(endplate: EndplateMarrow, *, options: EndplateTypeOptions = DEFAULT) -> UdbyExtent | None:
    """How high the unlike marrow reaches; None if it or the vertebra's height was not measured."""
    if endplate.depth_mm is None or endplate.height_mm is None:
        return None
    share, (a, b) = endplate.depth_mm / endplate.height_mm, options.extents
    return UdbyExtent.A if share < a else UdbyExtent.B if share <= b else UdbyExtent.C
