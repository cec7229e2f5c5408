"""Users' own labels: formats people have become samples and discs in the right place, and what is wrong is named."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as itk

import dicoms
from labelled_images import (
    BOXES,
    COLUMNS,
    HEIGHT,
    LEFT,
    MIDLINE,
    ROWS,
    SLICES,
    TOPS,
    WIDTH,
    boxed,
    pictures,
    spine,
    table,
)
from modic.cli.main import main
from modic.errors import UsageError
from modic.labels.level_names import disc_name, disc_rank, shown
from modic.labels.table import read_labels
from modic.labels.tally import Tally
from modic.phantom.render import BOX_MARGIN_MM
from modic.records import LEVELS
from modic.train import classifier, detector, options
from modic.train.data.images import read_volume
from modic.train.data.load import check_discs, check_samples, classifier_discs, detector_samples
from modic.train.data.split import part_of, split_of

PREPROCESSING = {"normalization": "standardize", "region_scale": 1.35, "region_size": 32, "slices": 5}


def mask() -> np.ndarray:
    """As SPIDER's: vertebrae, canal, discs from L5/S1 upwards; the canal lies on MIDLINE and its neighbours."""
    labels = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    labels[MIDLINE - 1 : MIDLINE + 2, :, 80:94] = 100
    for number, top in enumerate(reversed(TOPS), 1):
        labels[MIDLINE - 2 :, top : top + HEIGHT, LEFT : LEFT + WIDTH] = 200 + number
        labels[MIDLINE - 2 :, top - 22 : top - 2, LEFT : LEFT + WIDTH] = number
    return labels


def save(path: Path, voxels: np.ndarray, *, stored: str = "LPS", shift: float = 0.0) -> Path:
    """A canonical array (4 mm slices, 1 mm pixels) as a volume of any storage order, at the same millimetres."""
    image = itk.GetImageFromArray(voxels)
    image.SetSpacing((1.0, 1.0, 4.0))
    image.SetDirection((0, 0, 1, 1, 0, 0, 0, -1, 0))  # columns to posterior, rows to the feet, slices to the left
    image.SetOrigin((-20.0, 5.0, 70.0 + shift))
    path.parent.mkdir(parents=True, exist_ok=True)
    itk.WriteImage(itk.DICOMOrient(image, stored), str(path))
    return path


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["L4/L5", "L4-L5", "L4L5", "l4_l5", " L4 / L5 ", "L4/5", "L4–L5", "L04/L05"])
def test_one_level_has_many_spellings(text: str) -> None:
    assert disc_rank(text) == 4


@pytest.mark.parametrize(
    ("text", "rank"),
    [("T12-L1", 0), ("Th12/L1", 0), ("D12L1", 0), ("L5S1", 5), ("T11/T12", -1), ("T10-11", -2), ("S1/S2", 6)],
)
def test_levels_are_counted_from_t12_l1(text: str, rank: int) -> None:
    assert disc_rank(text) == rank
    assert disc_rank(disc_name(rank)) == rank


@pytest.mark.parametrize("text", ["", "L5", "L3/L5", "L5/L4", "L5/L6", "C7/T1", "sacrum", "45", "L45", "T12/L2"])
def test_what_is_no_level_is_none(text: str) -> None:
    assert disc_rank(text) is None


def test_text_of_files_is_printed_short_and_plain() -> None:
    assert shown("a\x1b[31m\n" + "b" * 100) == "a?[31m?" + "b" * 32 + "…"


# --- labels ----------------------------------------------------------------------------------------------------------


def test_labels_as_spreadsheets_save_them(tmp_path: Path) -> None:
    text = "Patient_ID; Level ;MC;note\n007;L5-S1;2.0;x\n\n007;L4/5;;\n008;L5S1;3;\n008;T11/T12;0;\n"
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8-sig")
    labels, tally = read_labels(path), Tally("volumes")
    assert [(row.line, row.patient, row.level, row.mc) for row in labels.rows] == [
        (2, "007", 5, 2),
        (4, "007", 4, None),
        (5, "008", 5, 3),
    ]
    assert [row.line for row in labels.graded(tally)] == [2]
    assert "2 labels blank or of type 3 (lines 4, 5)" in tally.line("")
    assert "1 labels of discs outside T12/L1 to L5/S1 (lines 6)" in tally.line("")
    with pytest.raises(UsageError, match="no columns x0"):
        labels.boxed(tally)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("level,mc\nL5/S1,0\n", "needs the columns patient_id"),
        ("patient_id,level,mc\n", "holds no label"),
        ("", "needs the columns"),
        ("patient_id,level,mc\n1,L5/S1,0\n1,L6/S1,0\n", "line 3: level 'L6/S1'"),
        ("patient_id,level,mc\n1,L5/S1,4\n", "line 2: mc is 4"),
        ("patient_id,level,mc\n1,L5/S1,-1\n", "line 2: mc is -1"),
        ("patient_id,level,mc\n1,L5/S1,MC1\n", "line 2: mc is 'MC1'"),
        ("patient_id,level,mc\n1,L5/S1,1.5\n", "line 2: mc is '1.5'"),
        ("patient_id,level,mc\n1,L5/S1,inf\n", "line 2: mc is 'inf'"),
        ("patient_id,level,mc\n1,L5/S1,0\n2,L5/S1,0\n1,L5S1,2\n", "lines 2 and 4 are both L5/S1"),
        ("patient_id,level,mc\n,L5/S1,0\n", "line 2: neither patient_id nor study_uid"),
        ("patient_id,level,mc\n1,L5/S1,0,9\n", "line 2 has 4 values for 3 columns"),
        ("patient_id,level,mc,mc\n1,L5/S1,0,9\n", "two columns 'mc'"),
        ("patient_id,level,mc,x0\n1,L5/S1,0,9\n", "of the box columns"),
        ("patient_id,level,x0,y0,x1,y1\n1,L5/S1,1,2,3,\n", "line 2: give all of x0"),
        ("patient_id,level,x0,y0,x1,y1\n1,L5/S1,1,2,a,3\n", "line 2: x1 is 'a'"),
        ("patient_id,level,x0,y0,x1,y1\n1,L5/S1,9,2,3,4\n", "line 2: the box has no size"),
        ("patient_id,level,mc,slice\n1,L5/S1,0,2.5\n", "line 2: slice is '2.5'"),
    ],
)
def test_wrong_labels_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        read_labels(path)
    assert "\n" not in str(error.value)


def test_labels_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("patient_id,level,mc\nM\xfcller,L5/S1,0\n".encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8"):
        read_labels(tmp_path / "labels.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")


# --- volumes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("stored", ["LPS", "RAS", "PIR", "ASL", "IPR"])
def test_a_volume_is_upright_however_it_is_stored(tmp_path: Path, name: str, stored: str) -> None:
    voxels = spine()
    volume = read_volume(save(tmp_path / name, voxels, stored=stored))
    assert np.array_equal(volume.voxels, voxels)
    assert volume.to_mm(np.array([[0, 0, 0], [10, 20, 3]])) == pytest.approx(
        np.array([[-20, 5, 70], [-8, 15, 50]]), abs=1e-4
    )


def test_without_simpleitk_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    for kind, labels in (("volumes", table(tmp_path / "l.csv", boxed("1"))), ("spider-release", None)):
        with pytest.raises(UsageError, match=r"pip install 'modic\[train\]'"):
            detector_samples(kind, str(tmp_path), labels)


def test_volumes_give_regions_of_real_slices_at_the_labelled_boxes(tmp_path: Path) -> None:
    for patient, stored in (("p_1", "LPS"), ("p_2", "RAS")):
        save(tmp_path / "v" / f"{patient}_t1.nii.gz", spine(marrow=240), stored=stored)
        save(tmp_path / "v" / f"{patient}_T2.mha", spine(), stored=stored)
    labels = table(tmp_path / "labels.csv", [*boxed("p_1"), *boxed("p_2")])
    discs = classifier_discs("volumes", str(tmp_path / "v"), labels, PREPROCESSING, detector="", device="cpu")
    assert [(d.patient, d.level, d.label) for d in discs[:6]] == [
        ("p_1", level, mc) for level, mc in zip(LEVELS, (0, 1, 2, 0, 2, 0), strict=True)
    ]
    assert len(discs) == 12
    for first, second in zip(discs[:6], discs[6:], strict=True):
        t2 = first.contrasts["t2"]
        assert first.contrasts["t1"] == pytest.approx(second.contrasts["t1"], abs=1e-2)
        assert first.contrasts["t1"][2].max() > t2[2].max() + 20
        middle = t2[:, 23:25, 20:28].mean((1, 2))  # (slices,): 4 to 8 of the stack; discs are on all of them
        assert middle == pytest.approx(90, abs=15)
        assert not np.array_equal(t2[1], t2[2])
        assert not (first.one_slice or first.source == "phantom")


def test_detector_slices_of_both_contrasts_show_the_same_millimetres(tmp_path: Path) -> None:
    save(tmp_path / "v" / "1_t1.mha", np.roll(spine(), 7, axis=1), shift=7.0, stored="RAS")  # the same place
    save(tmp_path / "v" / "1_t2.mha", spine(), stored="ASL")
    t2, t1 = detector_samples("volumes", str(tmp_path / "v"), table(tmp_path / "l.csv", boxed("1")))
    assert (t2.contrast, t1.contrast, t1.patient) == ("t2", "t1", "1")
    assert t2.boxes == pytest.approx(np.array(BOXES))
    assert t1.boxes == pytest.approx(np.add(BOXES, (0, 7, 0, 7)))
    assert t2.image.dtype == np.uint8
    assert t2.names.tolist() == t1.names.tolist() == [0, 1, 2, 3, 4, 5]
    for top in TOPS:
        assert t2.image[top + 4, 50] < t2.image[top + 14, 50] - 80
        assert t1.image[top + 11, 50] < t1.image[top + 21, 50] - 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1].update(y0=40.0, y1=900.0), "L1/L2 is outside the image"),
        (lambda rows: rows[0].update(level="L5/S1") or rows[5].update(level="T12/L1"), "lies above the disc before it"),
        (lambda rows: rows[2].update(slice=9), "line 4: slice 9 is not one of the T2's 9"),
        (lambda rows: rows[3].update(study_uid="1.2"), "two studies of a patient"),
        (lambda rows: rows[3].update(patient_id="", study_uid="1.2"), "line 5: patient_id is blank"),
    ],
)
def test_boxes_that_cannot_be_right_are_refused(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    for name in ("t1", "t2"):
        save(tmp_path / "v" / f"1_{name}.mha", spine())
    rows = boxed("1", study_uid="")
    change(rows)
    with pytest.raises(UsageError, match=message):
        detector_samples("volumes", str(tmp_path / "v"), table(tmp_path / "l.csv", rows))


def test_what_a_folder_lacks_is_counted_and_nothing_left_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "s", ["1", "2", "3", "unlabelled"])
    cv2.imwrite(str(folder / "2_t1.png"), np.zeros((50, 50), np.uint8))
    (folder / "3_t2.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("")
    few = [row for row in boxed("few") if row["level"] in ("T12/L1", "L5/S1")]
    pictures(folder, ["few"])
    rows = [*boxed("1"), *boxed("2"), *boxed("3"), *boxed("gone"), *few]
    samples = detector_samples("slices", str(folder), table(tmp_path / "l.csv", [{**r, "slice": 0} for r in rows]))
    assert {s.patient for s in samples} == {"1"}
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    for part in (
        "slices: 2 slices of 1 patients",
        "6 labels of patients whose T1 and T2 differ in size; save both on one grid (lines 8, 9, 10, 11, 12, 13)",
        "6 labels whose images cannot be read as a picture (lines 14,",
        "6 labels without images; check the spelling, leading zeros too (lines 20,",
        "2 labels of studies with boxes of fewer than 3 levels (lines 26, 27)",
        "1 patients without labels (unlabelled_t1.png)",
        "1 files of other names (notes.txt)",
    ):
        assert part in line
    with pytest.raises(UsageError, match=r"nothing to train on in slices: 0 slices.*without images"):
        detector_samples("slices", str(folder), table(tmp_path / "m.csv", boxed("gone")))


def test_two_files_of_one_contrast_are_ambiguous(tmp_path: Path) -> None:
    save(tmp_path / "1_t1.mha", spine())
    save(tmp_path / "1_t1.nii.gz", spine())
    with pytest.raises(UsageError, match=r"1_t1\.mha and 1_t1\.nii\.gz are both the T1"):
        detector_samples("volumes", str(tmp_path), table(tmp_path / "l.csv", boxed("1")))


def test_an_axial_stack_is_no_sagittal_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for patient in ("1", "2"):
        for name in ("t1", "t2"):
            save(tmp_path / "v" / f"{patient}_{name}.mha", spine())
    image = itk.GetImageFromArray(np.random.default_rng(0).random((20, 64, 64), np.float32))
    image.SetSpacing((0.5, 0.5, 5.0))
    itk.WriteImage(image, str(tmp_path / "v" / "2_t2.mha"))
    detector_samples("volumes", str(tmp_path / "v"), table(tmp_path / "l.csv", [*boxed("1"), *boxed("2")]))
    assert "6 labels whose images have sagittal pixels coarser" in capsys.readouterr().out


def test_tight_boxes_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = boxed("1", slice=0)
    for row, top in zip(rows, TOPS, strict=True):
        row.update(x0=LEFT, y0=top, x1=LEFT + WIDTH, y1=top + HEIGHT)
    detector_samples("slices", str(pictures(tmp_path / "s", ["1"])), table(tmp_path / "l.csv", rows))
    assert "about 5 mm around it" in capsys.readouterr().out


def test_slices_without_boxes_are_boxed_by_the_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from modic.phantom.anatomy import make_patient
    from modic.phantom.physics import Sequence as Physics
    from modic.phantom.render import Grid, disc_boxes, render_many

    patient = make_patient(6, p_transitional=0)
    centre = (0.0, patient.lumbar_centre_mm[1], patient.lumbar_centre_mm[2] - 15)
    grid = Grid("sagittal", 260, 200, 1.1, 1, 4.4, 2.0, centre)
    volumes = render_many(patient, grid, [Physics("t1", 500, 12), Physics("t2", 3500, 100)], seed=0)
    (tmp_path / "s").mkdir()
    for name, volume in zip(("t1", "t2"), volumes, strict=True):
        high = np.percentile(volume.voxels, 99.8)
        cv2.imwrite(
            str(tmp_path / "s" / f"1_{name}.png"), (volume.voxels[0] / high * 65535).clip(0, 65535).astype("u2")
        )
    rows = [{"patient_id": "1", "level": level, "mc": 0} for level in ("L3/L4", "L5/S1")]
    labels = table(tmp_path / "l.csv", rows)
    discs = classifier_discs("slices", str(tmp_path / "s"), labels, PREPROCESSING, detector="", device="auto")
    assert [d.level for d in discs] == ["L3/L4", "L5/S1"]
    assert all(d.one_slice for d in discs)
    truth = dict(disc_boxes(patient, grid, 0))
    for disc in discs:
        x0, _, x1, _ = truth[disc.level]
        assert disc.geometry.width == pytest.approx(disc.contrasts["t1"].shape[-1] / 1.35 / 1.5, rel=0.3)
        assert x1 - x0 > 20
    noise = np.random.default_rng(0).integers(0, 255, (200, 150)).astype(np.uint8)
    for name in ("t1", "t2"):
        cv2.imwrite(str(tmp_path / "s" / f"1_{name}.png"), noise)
    capsys.readouterr()
    with pytest.raises(UsageError, match="cannot name for certain; give boxes"):
        classifier_discs("slices", str(tmp_path / "s"), labels, PREPROCESSING, detector="", device="cpu")


def test_blank_and_type_3_labels_teach_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = table(tmp_path / "l.csv", boxed("1", (0, "", 2, 3, 1, "NA"), slice=""))
    folder = pictures(tmp_path / "s", ["1"])
    discs = classifier_discs("slices", str(folder), labels, PREPROCESSING, detector="", device="cpu")
    assert [(d.level, d.label) for d in discs] == [("T12/L1", 0), ("L2/L3", 2), ("L4/L5", 1)]
    line = capsys.readouterr().out
    assert "3 discs of 1 patients (MC0 1, MC1 1, MC2 1); left out: 3 labels blank or of type 3 (lines 3, 5, 7)" in line


# --- archive ---------------------------------------------------------------------------------------------------------


def archive(folder: Path, patient: str, *, study: str = "study", **t1: Any) -> None:
    """A T1 and a T2 of ROWS × COLUMNS, 1 mm; `t1` changes the T1's shape."""
    shape = {"rows": ROWS, "columns": COLUMNS, "patient": patient, "study": study}
    slices = dicoms.series(dicoms.t2(), name="t2", **shape) + dicoms.series(
        dicoms.t1(), name="t1", **{**shape, "rows": ROWS + 20, **t1}
    )
    dicoms.write(slices, folder / f"{patient}-{study}")


def test_an_archive_is_read_as_in_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for patient in ("a", "b", "c", "unlabelled"):
        archive(tmp_path / "dicom", patient)
    shape: dict[str, Any] = {"rows": ROWS, "columns": COLUMNS, "patient": "lonely"}
    dicoms.write(dicoms.series(dicoms.t2(), name="t2", **shape), tmp_path / "dicom" / "lonely")
    inner = sorted((tmp_path / "dicom" / "c-study").iterdir())[5]
    inner.write_bytes(inner.read_bytes()[:-1000])  # a slice of the T2 that was cut off on the way
    rows = [row for patient in ("a", "lonely", "c", "gone") for row in boxed(patient)]
    rows += [{**row, "patient_id": "", "study_uid": dicoms.uid("b", "study")} for row in boxed("b")]
    t2, t1, *other = detector_samples("archive", str(tmp_path / "dicom"), table(tmp_path / "l.csv", rows))
    assert {sample.patient for sample in (t2, t1)} | {sample.patient for sample in other} == {"a", "b"}
    assert t2.boxes == pytest.approx(np.array(BOXES))
    assert t1.boxes == pytest.approx(np.add(BOXES, (0, 10, 0, 10)))  # 20 rows more, centred on the same point
    line = capsys.readouterr().out
    assert "archive: 4 slices of 2 patients" in line
    assert "6 labels of studies refused, study.no_sagittal_t1 (t2 1) (lines 8, 9," in line
    assert "6 labels without images in the archive; check the spelling, leading zeros too (lines 20, 21," in line
    assert "1 studies without labels" in line
    assert "study.no_sagittal_t2 (t1 1, t2 refused series.missing_slice 1) (lines 14, 15" in line
    assert "lonely" not in line
    assert "unlabelled" not in line


def test_archive_discs_are_cut_from_the_slices_around_the_box(tmp_path: Path) -> None:
    archive(tmp_path / "dicom", "a")
    labels = table(tmp_path / "l.csv", boxed("a", slice=3))
    discs = classifier_discs("archive", str(tmp_path / "dicom"), labels, PREPROCESSING, detector="", device="cpu")
    assert [d.label for d in discs] == [0, 1, 2, 0, 2, 0]
    for disc, (_, y0, _, y1) in zip(discs, BOXES, strict=True):
        centre = disc.contrasts["t2"][:, 23:25, 23:25].mean((1, 2))
        assert centre == pytest.approx(100 * np.arange(1, 6) + (y0 + y1) / 2, abs=0.6)  # 100 * slice + row


def test_labels_that_fit_several_studies_are_refused(tmp_path: Path) -> None:
    for study in ("first", "second"):
        archive(tmp_path / "dicom", "a", study=study)
    with pytest.raises(UsageError, match=r"line 2: the archive holds 2 studies .* add the column study_uid"):
        detector_samples("archive", str(tmp_path / "dicom"), table(tmp_path / "l.csv", boxed("a")))
    both = [row for name in ("first", "second") for row in boxed("a", study_uid=dicoms.uid("a", name))]
    assert len(detector_samples("archive", str(tmp_path / "dicom"), table(tmp_path / "l.csv", both))) == 4
    wrong = boxed("b", study_uid=dicoms.uid("a", "first"))
    with pytest.raises(UsageError, match="line 2: the study of this study_uid is another patient's"):
        detector_samples("archive", str(tmp_path / "dicom"), table(tmp_path / "l.csv", wrong))


def test_a_study_of_another_part_of_the_body_is_not_meant(tmp_path: Path) -> None:
    archive(tmp_path / "dicom", "a")
    head = dicoms.series(dicoms.t1(), name="ax", study="head", patient="a", orientation=dicoms.AXIAL)
    dicoms.write(head, tmp_path / "dicom" / "head")
    samples = detector_samples("archive", str(tmp_path / "dicom"), table(tmp_path / "l.csv", boxed("a")))
    assert [sample.contrast for sample in samples] == ["t2", "t1"]


# --- COCO ------------------------------------------------------------------------------------------------------------


def coco(path: Path, images: Sequence[dict[str, Any]], names: Sequence[str] = LEVELS) -> dict[str, Any]:
    """A COCO file in which every image has the made spine's boxes; returns its content."""
    content: dict[str, Any] = {
        "images": [{"id": i, **image} for i, image in enumerate(images)],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(names)],
        "annotations": [
            {"id": 10 * i + k, "image_id": i, "category_id": k + 1, "bbox": [x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0]}
            for i in range(len(images))
            for k, (x0, y0, x1, y1) in enumerate(BOXES)
        ],
    }
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    return content


def test_coco_boxes_count_from_the_edge_of_the_first_pixel(tmp_path: Path) -> None:
    image = np.zeros((60, 80), np.uint8)
    boxes = [(10, 10, 20, 8), (10, 24, 20, 8), (10, 40, 20, 8)]
    for x, y, w, h in boxes:
        image[y : y + h, x : x + w] = 200
    cv2.imwrite(str(tmp_path / "p1_t2.png"), image)
    content = coco(
        tmp_path / "c.json", [{"file_name": "p1_t2.png", "width": 80, "height": 60}], ("L3L4", "L4-L5", "L5/S1")
    )
    content["annotations"] = [
        {"id": k, "image_id": 0, "category_id": k + 1, "bbox": list(box)} for k, box in enumerate(boxes)
    ]
    (tmp_path / "c.json").write_text(json.dumps(content))
    (sample,) = detector_samples("coco", str(tmp_path / "c.json"), None)
    assert sample.names.tolist() == [3, 4, 5]
    for x0, y0, x1, y1 in sample.boxes:
        ys, xs = np.nonzero(image[int(y0 + 0.5) : int(y1 + 0.5), int(x0 + 0.5) : int(x1 + 0.5)])
        assert (xs.min() + int(x0 + 0.5) - 0.5, xs.max() + int(x0 + 0.5) + 0.5) == (x0, x1)
        assert (ys.min() + int(y0 + 0.5) - 0.5, ys.max() + int(y0 + 0.5) + 0.5) == (y0, y1)


def test_coco_reads_pictures_dicom_and_volumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    pixels = spine()[MIDLINE]
    cv2.imwrite(str(tmp_path / "images" / "p1_t1_x.tiff"), (pixels * 100).astype(np.uint16))
    slice_ = dicoms.series(n=1)[0]
    dicoms.set_pixels(slice_, (1000 - pixels).clip(0, 60000).astype(np.uint16))
    slice_.PhotometricInterpretation = "MONOCHROME1"
    slice_.save_as(tmp_path / "IM0001", enforce_file_format=True)
    save(tmp_path / "p3_t2.mha", spine(), stored="RAS")
    (tmp_path / "p4_t2.png").write_bytes(b"no")
    images: list[dict[str, Any]] = [
        {"file_name": "p1_t1_x.tiff"},
        {"file_name": "IM0001", "patient_id": 17, "contrast": "t2"},
        {"file_name": "p3_t2.mha", "slice": MIDLINE},
        {"file_name": "p3_t2.mha"},
        {"file_name": "p4_t2.png"},
        {"file_name": "p5_t2.png"},
        {"file_name": "p1_t1_x.tiff", "height": 7},
        {"file_name": "flat.png"},
    ]
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((ROWS, COLUMNS), 9, np.uint8))
    coco(tmp_path / "c.json", images, ("T11/T12", *LEVELS[:5]))
    samples = detector_samples("coco", str(tmp_path / "c.json"), None)
    assert [(s.patient, s.contrast) for s in samples] == [("p1", "t1"), ("17", "t2"), ("p3", "t2"), ("p3", "t2")]
    for sample in samples[:3]:
        assert sample.names.tolist() == [-1, 0, 1, 2, 3, 4]
        assert sample.boxes == pytest.approx(np.array(BOXES))
        assert sample.image[TOPS[2] + 4, 50] < sample.image[TOPS[2] + 14, 50] - 80
    assert not np.array_equal(samples[2].image, samples[3].image)
    line = capsys.readouterr().out
    assert "1 images that cannot be read as a picture (p4_t2.png)" in line
    assert "1 images that have no contrast (flat.png)" in line
    assert "1 images that are missing beside the JSON and in its folder images (p5_t2.png)" in line
    assert "1 images that are of another size than the JSON says (p1_t1_x.tiff)" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"][0].update(name="sacrum"), "annotation 0: category 'sacrum' is no disc"),
        (lambda c: c["annotations"][3].update(category_id=1), "annotation 3: image p1.png has two boxes of T12/L1"),
        (lambda c: c["annotations"][3].update(category_id=9), "category 9, which is not among"),
        (lambda c: c["annotations"][3].update(image_id=9), "annotation 3 is of image 9"),
        (lambda c: c["annotations"][3].update(bbox=[1, 2, 3, 0]), r"annotation 3: bbox is \[1, 2, 3, 0\]"),
        (lambda c: c["annotations"][3].update(bbox=None), "annotation 3: bbox is None"),
        (lambda c: c["annotations"][3].update(bbox=[1, 2, 3]), "annotation 3: bbox"),
        (lambda c: c["annotations"][3].update(bbox=[900, 2, 3, 4]), "L3/L4 is outside the image"),
        (lambda c: c["annotations"][0].update(bbox=[30, 200, 40, 12]), "L1/L2 lies above the disc before it"),
        (lambda c: c["images"][0].update(file_name="../p1.png"), "must be relative"),
        (lambda c: c["images"][0].update(file_name=3), "image 0 has no file_name"),
        (lambda c: c["images"].append(c["images"][0]), "`two`|two images have the id 0"),
        (lambda c: c.update(annotations=[]), "`annotations` must be a list"),
        (lambda c: c.pop("categories"), "`categories` must be a list"),
    ],
)
def test_wrong_coco_is_named_with_its_entry(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    cv2.imwrite(str(tmp_path / "p1.png"), spine()[MIDLINE].clip(0, 255).astype("u1"))
    content = coco(tmp_path / "c.json", [{"file_name": "p1.png"}])
    change(content)
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        detector_samples("coco", str(tmp_path / "c.json"), None)


def test_a_level_left_out_between_others_would_teach_that_it_is_background(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p1.png"), spine()[MIDLINE].clip(0, 255).astype("u1"))
    content = coco(tmp_path / "c.json", [{"file_name": "p1.png"}])
    del content["annotations"][2]
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="1 images with a level between two others without a box"):
        detector_samples("coco", str(tmp_path / "c.json"), None)
    for text, message in (("[]", "give an object"), ("{", "not JSON")):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(UsageError, match=message):
            detector_samples("coco", str(tmp_path / "c.json"), None)
    with pytest.raises(UsageError, match="no Modic types"):
        classifier_discs("coco", "c.json", None, PREPROCESSING, detector="", device="cpu")


# --- the SPIDER release ----------------------------------------------------------------------------------------------


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """1 and 2 whole, 3 without T1, 4 with a T1 of another place, 5 without canal, 89 a doubtful one, 6 ungraded."""
    rows = ["Patient,IVD label,Modic,UP endplate,Pfirrman grade"]
    for n, stored in ((1, "LPS"), (2, "RAS"), (3, "LPS"), (4, "LPS"), (5, "LPS"), (6, "LPS"), (89, "LPS")):
        for name in ("t1", "t2", "t2_SPACE"):
            if (n, name) == (3, "t1") or (name == "t2_SPACE" and n > 1):
                continue
            shift, labels = 30.0 * ((n, name) == (4, "t1")), mask()
            if n == 5:
                labels[labels == 100] = 0
            save(
                tmp_path / "images" / f"{n}_{name}.mha",
                spine(marrow=240 if name == "t1" else 200),
                stored=stored,
                shift=shift,
            )
            save(tmp_path / "masks" / f"{n}_{name}.mha", labels, stored=stored, shift=shift)
        if n != 6:
            rows += [f"{n},{ivd},{(2, 0, 1, 3, 0, 2, 0)[ivd - 1]},0,4" for ivd in range(1, 8)]
    (tmp_path / "radiological_gradings.csv").write_text("\n".join(rows))
    (tmp_path / "overview.csv").write_text("new_file_name,subset\n1_t1,training\n")
    return tmp_path


def test_release_slices_lie_around_the_spinal_canal_and_boxes_keep_the_margin(
    release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [s for s in detector_samples("spider-release", str(release), None) if s.patient == "1"]
    assert [s.contrast for s in samples] == ["t1"] * 3 + ["t2"] * 3 + ["t2_SPACE"] * 3
    voxels = spine()
    for sample, index in zip(samples[3:6], (MIDLINE - 1, MIDLINE, MIDLINE + 1), strict=True):
        assert np.corrcoef(sample.image.ravel(), voxels[index].ravel())[0, 1] > 0.999
        assert sample.names.tolist() == [0, 1, 2, 3, 4, 5]
        across, along = BOX_MARGIN_MM
        for (x0, y0, x1, y1), top in zip(sample.boxes, TOPS, strict=True):
            assert (x0, x1) == (LEFT - 0.5 - across, LEFT + WIDTH - 0.5 + across)
            assert (y0, y1) == (top - 0.5 - along, top + HEIGHT - 0.5 + along)
    line = capsys.readouterr().out
    assert "2 series that have no spinal canal or no discs in their mask (5_t1, 5_t2)" in line
    assert "2 series of a patient with another disc below L5/S1 (89_t1, 89_t2)" in line


def test_release_discs_have_the_grades_counted_from_the_sacrum(
    release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    discs = classifier_discs("spider-release", str(release), None, PREPROCESSING, detector="", device="cpu")
    assert {d.patient for d in discs} == {"1", "2"}
    assert [(d.level, d.label, d.degeneration) for d in discs if d.patient == "2"] == [
        ("T12/L1", 2, 4),
        ("L1/L2", 0, 4),
        ("L4/L5", 0, 4),
        ("L5/S1", 2, 4),
    ]
    assert all(d.real and not d.one_slice for d in discs)
    assert not np.array_equal(*discs[0].contrasts["t2"][1:3])
    line = capsys.readouterr().out
    assert "spider-release: 8 discs of 2 patients (MC0 4, MC1 0, MC2 4)" in line
    assert "discs of type 1 (too few to learn) or 3" in line
    assert "patients whose series are not both there (3, 89)" in line
    assert "1 patients whose series do not line up: their masks put discs of one name in different places (4)" in line
    assert "1 patients without gradings (6)" in line


def test_a_folder_that_is_no_release_and_gradings_that_are_not_spiders_are_named(release: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the SPIDER release"):
        detector_samples("spider-release", str(tmp_path / "none"), None)
    for rows, message in (
        ("Patient,IVD label,Modic\n1,1,0\n1,x,0", "line 3: `IVD label`"),
        ("Patient,IVD label,Modic\n1,1,0\n1,1,0", "line 3 repeats a disc"),
        ("Patient,IVD label,Modic\n1,1,5", "line 2 has Modic type 5"),
        ("Patient,level,Modic\n1,1,5", "line 2: `IVD label` is missing"),
    ):
        (release / "radiological_gradings.csv").write_text(rows)
        with pytest.raises(UsageError, match=message):
            classifier_discs("spider-release", str(release), None, PREPROCESSING, detector="", device="cpu")


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detector", "--data", "volumes=here"], "--data volumes=… needs --labels FILE.csv"),
        (["classifier", "--data", "coco=c.json"], "for the detector"),
        (["classifier", "--data", "phantom=1", "--labels", "l.csv"], "--labels is read only with --data archive=…"),
        (["detector", "--data", "atlas=here"], "--data atlas=here: give coco=FILE.json"),
        (["detector", "--data", "coco=none.json"], "none.json cannot be read"),
        (["detector", "--data", "coco="], "--data coco=: give"),
    ],
)
def test_wrong_sources_are_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def patients_of_every_part() -> list[str]:
    """Patients of all parts of both splits, three of each."""
    names: dict[str, list[str]] = {}
    for i in range(200):
        names.setdefault(part_of(f"secret-{i}"), []).append(f"secret-{i}")
    assert {split_of(name) for part in names.values() for name in part[:3]} == {"train", "validation", "test"}
    return [name for part in names.values() for name in part[:3]]


def test_too_few_patients_and_a_missing_class_are_said_before_training(tmp_path: Path, capsys: Any) -> None:
    patients = patients_of_every_part()
    folder = pictures(tmp_path / "s", patients)
    few = table(tmp_path / "few.csv", boxed(patients[0], slice=0))
    samples = detector_samples("slices", str(folder), few)
    with pytest.raises(UsageError, match="of 1 patient none falls into the part"):
        check_samples(samples)
    rows = [row for patient in patients for row in boxed(patient, (0, 0, 0, 0, 0, 1), slice=0)]
    discs = classifier_discs(
        "slices", str(folder), table(tmp_path / "l.csv", rows), PREPROCESSING, detector="", device="cpu"
    )
    with pytest.raises(UsageError, match="no disc of Modic type 2 in the data; label some, or add phantom=N"):
        check_discs(discs)
    capsys.readouterr()
    check_samples(
        detector_samples("slices", str(folder), table(tmp_path / "l5.csv", [r for r in rows if r["level"] != "T12/L1"]))
    )
    assert "no box of T12/L1" in capsys.readouterr().out


def test_a_users_own_data_train_both_models_and_cards_name_no_one(tmp_path: Path) -> None:
    patients = patients_of_every_part()
    folder = pictures(tmp_path / "hospital", patients)
    labels = table(tmp_path / "readings.csv", [row for patient in patients for row in boxed(patient, slice=0)])
    common = {"data": (f"slices={folder}",), "labels": labels}
    first = detector.train_detector(
        options.DetectorTraining(
            **common,
            out=tmp_path / "out" / "detector",
            backbone="resnet18",
            fpn_channels=16,
            head_features=16,
            image_size=96,
            steps=1,
            batch=2,
        )
    )
    second = classifier.train_classifier(
        options.ClassifierTraining(
            **common,
            out=tmp_path / "out" / "classifier",
            region_size=32,
            widths=(4, 4, 8, 8),
            epochs=1,
            epoch_steps=2,
            batch=6,
            seed=3,
        )
    )
    for path in (first, second):
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert "slices" in card["data"]["sources"]
        for text in (path.with_suffix(".json").read_text(), path.with_suffix(".md").read_text()):
            assert not any(word in text for word in ("secret", "hospital", "readings", str(tmp_path)))
    assert card["results"]["real"]["sensitivity"].keys() == {"mc0", "mc1", "mc2"}
    assert "real modic type 1 in the test: 3 discs" in " ".join(card["limits"]).lower()
    assert not list((tmp_path / "out").rglob("*.npz"))


def test_several_sources_of_one_kind_are_joined(tmp_path: Path) -> None:
    patients = patients_of_every_part()
    for part, names in (("a", patients[::2]), ("b", patients[1::2])):
        pictures(tmp_path / part, names)
        coco(tmp_path / part / "c.json", [{"file_name": f"{name}_t2.png"} for name in names])
    sources = tuple(f"coco={tmp_path / part / 'c.json'}" for part in ("a", "b"))
    samples = detector.load_samples(sources, 0, tmp_path)
    assert {s.patient for s in samples["coco"]} == set(patients)
