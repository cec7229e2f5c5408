"""`modic evaluate classifier --audit`: which discs are audited, and what a user reads."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from made_discs import GEOMETRY, made_up
from modic.cli.main import main
from modic.errors import UsageError
from modic.models.classifier import build_classifier
from modic.models.weights import save_weights
from modic.statistics import metric_tables
from modic.train.audit import AUDIT_HELP, audited_discs, read_grades, share_on_endplates
from modic.train.augment.regions import Example
from modic.train.data.discs import save_discs

HEADER = "Patient,IVD label,Modic,UP endplate,Disc narrowing,Pfirrman grade\n"


def grades_file(path: Path, rows: str, header: str = HEADER) -> Path:
    path.write_text(header + rows, encoding="utf-8")
    return path


def test_grades_are_counted_from_l5_s1_upwards(tmp_path: Path) -> None:
    grades = read_grades(grades_file(tmp_path / "g.csv", "7,1,0,0,1,3\n7,6,2,1,0,5\n7,7,0,0,0,4\n8,2,0,0,,\n"))
    assert set(grades) == {("7", "L5/S1"), ("7", "T12/L1")}
    assert (grades["7", "L5/S1"].pfirrmann, grades["7", "L5/S1"].narrowing, grades["7", "T12/L1"].modic) == (3, 1, 2)


def test_narrowing_and_type_may_be_missing(tmp_path: Path) -> None:
    grades = read_grades(grades_file(tmp_path / "g.csv", "7,2,4\n", "PATIENT,IVD Label,Pfirrmann\n"))
    assert grades["7", "L4/L5"].narrowing is None and grades["7", "L4/L5"].modic is None


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [("Patient,IVD label\n", "1,2\n", "lacks a column `pfirrman grade`"), (HEADER, "1,2,0,0,0,severe\n", "line 2")],
)
def test_a_wrong_file_is_named(tmp_path: Path, header: str, rows: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_grades(grades_file(tmp_path / "g.csv", rows, header))
    with pytest.raises(UsageError, match="cannot be read"):
        read_grades(tmp_path / "nowhere.csv")


def test_painted_synthetic_and_disagreeing_discs_are_passed_over(tmp_path: Path) -> None:
    discs = [d for d in made_up(8) if d.source == "spider" or d.label == 0]
    examples = [Example(d) for d in discs] + [Example(discs[-2], painted=1)]
    rows = "".join(f"p{i},2,{0 if i < 5 else ''},0,0,3\n" for i in range(8))
    p = np.full((len(examples), 3), 1 / 3)
    audited, kept = audited_discs(examples, p, np.full(3, 0.5), read_grades(grades_file(tmp_path / "g.csv", rows)))
    chosen = [examples[i] for i in kept]
    assert all(e.real for e in chosen)
    assert [(e.disc.patient, e.label) for e in chosen] == [
        ("p1", 0), ("p3", 0), ("p5", 0), ("p5", 2), ("p7", 0), ("p7", 2),
    ]  # fmt: skip
    assert (audited.sure == -1).all()
    with pytest.raises(UsageError, match="no disc of these data"):
        audited_discs(examples, p, np.full(3, 0.5), {})


def test_a_map_on_the_endplates_is_told_from_one_on_the_disc() -> None:
    maps = np.zeros((2, 5, 32, 32), np.float32)
    maps[:, :, 15:17, 12:20] = 1
    assert share_on_endplates(maps, GEOMETRY) < 0.5
    there = np.zeros_like(maps)
    there[:, :, 20:23, 12:20] = 1
    assert share_on_endplates(there, GEOMETRY) == 1
    assert np.isnan(share_on_endplates(np.zeros_like(maps), GEOMETRY))


def test_the_command_audits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metric_tables, "DRAWS", 20)
    torch.manual_seed(0)
    architecture = {"depth": 10, "widths": [4, 4, 8, 8]}
    card = {
        "kind": "classifier", "architecture": architecture,
        "preprocessing": {"normalization": "standardize", "region_scale": 1.35, "region_size": 32, "slices": 5},
        "calibration": {"temperature": 2.0, "conformal_q": [0.7, 0.7, 0.7]},
    }  # fmt: skip
    weights = save_weights(tmp_path / "mine.safetensors", build_classifier(architecture).state_dict(), card)
    out = tmp_path / "out"
    save_discs(out / "cache" / "phantom-40-1.35-32.npz", made_up())
    grades = grades_file(tmp_path / "g.csv", "".join(f"p{i},2,,0,{i % 2},{1 + i % 5}\n" for i in range(40)))
    arguments = ["--data", "phantom=40", "--weights", str(weights), "--part", "all", "--device", "cpu"]
    assert main(["evaluate", "classifier", *arguments, "--audit", str(grades), "--out", str(out)]) == 0
    output = capsys.readouterr().out
    assert "added to degeneration and level, MC0 vs MC2" in output and "Audit: 40 of 40 real discs" in output
    rows = [row for row in pq.read_table(out / "metrics.parquet").to_pylist() if row["group"] == "real, audited"]
    numbers = {(row["metric"], row["which"]): row for row in rows}
    assert numbers["ROC AUC within a grade", "MC0 vs MC2"]["n"] == 40
    assert numbers["mean P(MC2) of MC0", "Pfirrmann 2"]["n"] == 4
    assert numbers["Spearman of P(MC2) and grade", "MC0"]["low"] <= 1


def test_help_says_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "classifier", "--help"])
    assert AUDIT_HELP in capsys.readouterr().out
