"""Types and extents at the two endplates, and the level's grade that follows from them."""

from typing import Any

import pytest

from modic.grading.endplate_types import endplate_columns
from modic.grading.marrow import EndplateMarrow, MarrowMeasurements


def endplate(extent: float | None, bright: float | None = None, depth: float = 0.0, **more: Any) -> EndplateMarrow:
    return EndplateMarrow({}, {}, extent=extent, bright=bright, depth_mm=depth, height_mm=28.0, **more)


@pytest.mark.parametrize(
    ("mc", "upper", "lower", "types", "extents"),
    [
        (None, endplate(0.5, 1.0, 8), endplate(0.0), (None, None), (None, None)),
        (0, endplate(0.5, 1.0, 8), endplate(None), ("0", "0"), (None, None)),
        (2, endplate(0.5, 1.0, 8), endplate(0.0), ("2", "0"), ("B", None)),
        (2, endplate(0.5, 0.8, 6.9), endplate(0.3, 0.6, 14.1), ("2", "1/2"), ("A", "C")),
        (1, endplate(0.5, 0.1, 7.0), endplate(0.2, 0.75, 14.0), ("1", "1/2"), ("B", "B")),
        (1, endplate(None), endplate(0.2, 0.0, 3.0), (None, "1"), (None, "A")),
        (2, endplate(0.4, 0.5, 8), endplate(0.2, 0.0, 3.0), ("1/2", "1"), ("B", "A")),
        (2, endplate(0.0), endplate(0.0), (None, None), (None, None)),  # nobody sees where it lies
        (2, endplate(0.5, 0.1, 7.0), endplate(0.0), (None, None), (None, None)),
    ],
)
def test_each_row_of_the_table(mc: Any, upper: Any, lower: Any, types: Any, extents: Any) -> None:
    columns = endplate_columns(mc, MarrowMeasurements("L4/L5", upper, lower))
    assert (columns["mc_upper"], columns["mc_lower"]) == types
    assert (columns["udby_upper"], columns["udby_lower"]) == extents


@pytest.mark.parametrize(("mc", "types"), [(0, "0"), (1, None), (2, None), (None, None)])
def test_without_a_segmenter_only_the_absence_of_change_is_known_of_an_endplate(mc: Any, types: Any) -> None:
    columns = endplate_columns(mc, None)
    assert columns == {"mc_upper": types, "udby_upper": None, "mc_lower": types, "udby_lower": None}


def test_an_extent_needs_the_height_of_the_vertebra() -> None:
    change = EndplateMarrow({}, {}, extent=0.4, bright=1.0, depth_mm=8.0)
    columns = endplate_columns(2, MarrowMeasurements("L4/L5", change, change))
    assert (columns["mc_upper"], columns["udby_upper"]) == ("2", None)
