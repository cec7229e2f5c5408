"""Numbers that are there and cannot be parsed are not absent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

import dicoms
from adversaries import encoded, enhanced, spine
from modic.archive.crawl import crawl
from modic.archive.numerals import number
from modic.config import IdentifyOptions
from modic.errors import Reason, Rejected
from modic.imaging.load import load_volume
from modic.imaging.volume import Volume
from modic.records import Series
from modic.series.identify import identify

OPTIONS = IdentifyOptions()
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "text, keyword, value",
    [
        ("7,5", "", 7.5),
        ("7.5", "", 7.5),
        (" 3 ", "", 3.0),
        ("-1,5e1", "", -15.0),
        (",5", "", 0.5),
        ("15 ml", "ContrastBolusVolume", 15.0),
        ("7,5ml", "ContrastBolusVolume", 7.5),
        ("147,5 ms", "InversionTime", 147.5),
        ("0,15 s", "InversionTime", 150.0),
        ("0.05 cm", "PixelSpacing", 0.5),
        ("1.5T", "MagneticFieldStrength", 1.5),
    ],
)
def test_a_comma_is_a_point_and_a_unit_is_known(text: str, keyword: str, value: float) -> None:
    assert number(text, keyword) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "x", "1.000,5", "1,000.5", "15 ml", "1 500", "3..5", "nan", "1.8e308", "7.5 7.5", "0x10", "1/2"]
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError):
        number(text, "InversionTime")


def written(slices: list[FileDataset], folder: Path, **texts: str) -> Series:
    """The series of some slices in whose files numbers are these texts, as no writer of ours would write them."""
    folder.mkdir()
    for index, slice_ in enumerate(slices):
        marks = {f"{10**15 + place}.0": text for place, text in enumerate(texts.values())}
        for keyword, mark in zip(texts, marks, strict=True):
            setattr(slice_, keyword, float(mark))
        content = encoded(slice_)
        for mark, text in marks.items():
            assert content.count(mark.encode()) == 1
            content = content.replace(mark.encode(), text.ljust(18).encode())
        (folder / f"{index}").write_bytes(content)
    (found,) = identify(crawl(folder, index=None).headers, options=OPTIONS)
    return found


@pytest.mark.parametrize(
    "values, texts, contrast",
    [
        (dicoms.t1(), {"ContrastBolusVolume": "7,5"}, "t1_post_contrast"),
        (dicoms.t1(), {"ContrastBolusVolume": "15 ml"}, "t1_post_contrast"),
        (dicoms.t1(), {"ContrastBolusTotalDose": "7,5 mmol"}, "t1_post_contrast"),
        (dicoms.t1(), {"ContrastBolusVolume": "0,0"}, "t1"),
        (dicoms.t1(), {"ContrastBolusVolume": "as usual"}, "unknown"),
        (dicoms.t2(), {"InversionTime": "147,5"}, "stir"),
        (dicoms.t2(), {"InversionTime": "147,5 ms"}, "stir"),
        (dicoms.t2(), {"InversionTime": "short"}, "unknown"),
        (dicoms.t2(), {"InversionTime": "1.8e308"}, "t2"),
        (dicoms.t2(), {"EchoTime": "101,5"}, "t2"),
        (dicoms.t2(), {"EchoTime": "long"}, "unknown"),
        (dicoms.t2(), {"FlipAngle": "150 d."}, "unknown"),
    ],
)
def test_the_contrast(values: dict[str, Any], texts: dict[str, str], contrast: str, tmp_path: Path) -> None:
    found = written(dicoms.series(values, n=6), tmp_path / "archive", **texts)
    assert found.contrast == contrast
    assert (found.rejected is None) == (contrast in ("t1", "t2"))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    found = written(dicoms.series(dicoms.t2(), n=6), tmp_path / "archive", InversionTime="short")
    assert "InversionTime cannot be read" in found.contrast_evidence
    assert "short" not in found.contrast_evidence


@pytest.mark.parametrize("slope, factor", [("1,5", 1.5), ("1.5", 1.5), ("2", 2.0)])
def test_a_slope_with_a_comma(slope: str, factor: float, tmp_path: Path) -> None:
    found = written(spine(n=6), tmp_path / "archive", RescaleSlope=slope)
    volume = load_volume(found, options=OPTIONS)
    assert isinstance(volume, Volume)
    assert volume.voxels.max() == factor * (6 * 16 * 12 - 1)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_slope_that_is_no_number_is_refused_once_and_for_all(keyword: str, tmp_path: Path) -> None:
    refused = load_volume(written(spine(n=6), tmp_path / "archive", **{keyword: "steep"}), options=OPTIONS)
    assert isinstance(refused, Rejected)
    assert refused.reason == Reason.STUDY_PIXELS_UNREADABLE


def test_commas_in_spacing_and_places_of_an_enhanced_image(tmp_path: Path) -> None:
    content = encoded(enhanced(spine(n=6, spacing=(0.25, 0.25))))
    assert content.count(b"0.25\\0.25 ") == 6
    (tmp_path / "image").write_bytes(content.replace(b"0.25\\0.25 ", b"0,25\\0,25 "))
    (found,) = identify(crawl(tmp_path, index=None).headers, options=OPTIONS)
    assert found.pixel_spacing_mm == (0.25, 0.25)
    volume = load_volume(found, options=OPTIONS)
    assert isinstance(volume, Volume)
    assert np.allclose(volume.spacing_mm, (0.25, 0.25, 4.5))


def test_a_spacing_that_is_no_number_refuses_the_series(tmp_path: Path) -> None:
    content = encoded(enhanced(spine(n=6, spacing=(0.25, 0.25))))
    (tmp_path / "image").write_bytes(content.replace(b"0.25\\0.25 ", b"fine\\fine "))
    (found,) = identify(crawl(tmp_path, index=None).headers, options=OPTIONS)
    assert found.rejected is not None and found.rejected.reason == Reason.SERIES_NO_SPACING
