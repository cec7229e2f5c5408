"""Several reconstructions of one acquisition: one kind for both contrasts, acquired before computed, a fixed rule."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

import dicoms
from adversaries import changed
from modic.archive.crawl import crawl
from modic.config import IdentifyOptions, PairOptions
from modic.records import Pair
from modic.series.identify import identify
from modic.series.pair import UNLIKE, pair

SIEMENS = ("ORIGINAL", "PRIMARY", "M")
FINER = {"spacing": (0.5, 0.5), "rows": 32, "columns": 24}


def chosen(kinds: list[tuple[str, str, tuple[str, ...], dict[str, Any]]], folder: Path) -> tuple[str, str, Pair]:
    """The names of the T1 and T2 of the pair. A kind: name, contrast, ImageType, options of the series or values."""
    slices, names = [], {}
    for name, contrast, image_type, more in kinds:
        options = {key: more[key] for key in more if key in ("spacing", "rows", "columns", "n")}
        values = {key: more[key] for key in more if key not in options}
        made = dicoms.series(getattr(dicoms, contrast)(ImageType=list(image_type), **values), name=name, **options)
        slices += made
        names[made[0].SeriesInstanceUID] = name
    dicoms.write(slices, folder)
    found = identify(crawl(folder, index=None).headers, options=IdentifyOptions())
    (one,) = pair(found, options=PairOptions())
    assert isinstance(one, Pair), one
    return names[one.t1.series_uid], names[one.t2.series_uid], one


CORRECTED = [("nd1", "ND"), ("dis1", "DIS2D"), ("nd2", "ND"), ("dis2", "DIS2D")]


@pytest.mark.parametrize("order", [*permutations(range(4))][::5])
def test_the_corrected_images_of_both_contrasts_whatever_their_uids(order: tuple[int, ...], tmp_path: Path) -> None:
    """UIDs follow the names: `order` makes each of the four the first one once."""
    kinds = []
    for place, (name, kind) in zip(order, CORRECTED, strict=True):
        contrast = "t1" if name.endswith("1") else "t2"
        kinds.append((f"{place} {name}", contrast, (*SIEMENS, kind), {}))
    t1, t2, found = chosen(kinds, tmp_path)
    assert (t1.split()[1], t2.split()[1]) == ("dis1", "dis2")
    assert found.warnings == ()


@pytest.mark.parametrize(
    "kinds, expected",
    [
        # ND alone for one contrast: ND for both, although corrected images would be preferred
        ({"nd1": ("ND",), "dis1": ("DIS2D",), "nd2": ("ND",)}, ("nd1", "nd2")),
        ({"norm1": ("ND", "NORM"), "nd1": ("ND",), "norm2": ("ND", "NORM"), "nd2": ("ND",)}, ("norm1", "norm2")),
        ({"dis1": ("DIS2D", "NORM"), "nd1": ("ND",), "nd2": ("ND",), "x2": ("DIS3D",)}, ("nd1", "nd2")),
    ],
)
def test_one_kind_for_both(kinds: dict[str, tuple[str, ...]], expected: tuple[str, str], tmp_path: Path) -> None:
    made = [(name, f"t{name[-1]}", (*SIEMENS, *kind), {}) for name, kind in kinds.items()]
    t1, t2, found = chosen(made, tmp_path)
    assert (t1, t2, found.warnings) == (*expected, ())


def test_two_kinds_are_said_if_there_is_no_other_choice(tmp_path: Path) -> None:
    kinds = [("a", "t1", (*SIEMENS, "ND"), {}), ("b", "t2", (*SIEMENS, "DIS2D"), {})]
    assert UNLIKE in chosen(kinds, tmp_path)[2].warnings


@pytest.mark.parametrize("made", ["MPR", "REFORMATTED", "CSA MPR", "RESAMPLED"])
def test_a_reformat_of_finer_pixels_does_not_win_over_what_was_acquired(made: str, tmp_path: Path) -> None:
    kinds: list[Any] = [("a", "t1", SIEMENS, {}), ("b", "t2", SIEMENS, {})]
    kinds += [("finer", "t2", ("DERIVED", "SECONDARY", made), FINER)]
    kinds += [("finer t1", "t1", ("DERIVED", "SECONDARY", made), FINER)]
    assert chosen(kinds, tmp_path)[:2] == ("a", "b")


@pytest.mark.parametrize(
    "kind, values",
    [
        (("DERIVED", "PRIMARY", "SYNTHETIC"), {}),
        (("ORIGINAL", "PRIMARY", "OTHER"), {"SeriesDescription": "MAGiC T2W SAG"}),
        (("ORIGINAL", "PRIMARY", "M"), {"ManufacturerModelName": "SyMRI"}),
        (("DERIVED", "SECONDARY", "SYMRI"), {}),
        (("DERIVED", "PRIMARY", "OTHER"), {}),
    ],
)
def test_what_was_acquired_goes_before_what_was_computed(
    kind: tuple[str, ...], values: dict[str, Any], tmp_path: Path
) -> None:
    kinds: list[Any] = [("a", "t1", SIEMENS, {}), ("b", "t2", SIEMENS, {})]
    for contrast in ("t1", "t2"):
        said = {key: value.replace("T2", contrast.upper()) for key, value in values.items()}
        kinds.append((f"computed {contrast}", contrast, kind, {**FINER, **said}))
    assert chosen(kinds, tmp_path)[:2] == ("a", "b")


def test_a_synthetic_contrast_alone_is_graded_with_a_warning(tmp_path: Path) -> None:
    kinds = [("a", "t1", SIEMENS, {}), ("b", "t2", ("DERIVED", "PRIMARY", "SYNTHETIC"), {})]
    t2 = chosen(kinds, tmp_path)[2].t2
    assert [str(warning) for warning in t2.warnings] == ["computed from other images, not acquired"]


def test_original_and_derived_slices_of_one_series_at_the_same_places_are_two_stacks(tmp_path: Path) -> None:
    slices = dicoms.study()
    again = changed(dicoms.series(dicoms.t2(), name="t2", study="study"), ImageType=["DERIVED", "SECONDARY", "M"])
    for slice_ in again:
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = dicoms.uid(slice_.SOPInstanceUID)
        dicoms.set_pixels(slice_, slice_.pixel_array + 7)
    dicoms.write([*slices, *again], tmp_path)
    found = identify(crawl(tmp_path, index=None).headers, options=IdentifyOptions())
    (one,) = pair(found, options=PairOptions())
    assert isinstance(one, Pair)
    assert one.t2.header["ImageType"] == "ORIGINAL\\PRIMARY\\M"
    assert one.t2.n_slices == 11
