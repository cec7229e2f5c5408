"""The normalization study on made-up discs: folds by patient, errors before training, resuming, tables and report."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from modic.cli.main import main
from modic.errors import UsageError
from modic.experiment import fold, folder, report, results
from modic.experiment.design import Design, Fold, as_plain, design_from
from modic.experiment.report import write_study
from modic.experiment.split import split_patients
from modic.models.weights import save_weights
from modic.records import LEVELS
from modic.tables.described import write_rows
from modic.train.data.disc_geometry import DiscGeometry
from modic.train.data.discs import Disc

SIDE = 24  # of a region of 16 px with its margin
TINY = {
    "data": ("synthetic=30",), "repeats": 1, "folds": 2, "normalizations": ("none", "standardize"), "region_size": 16,
    "slices": 1, "widths": (2, 2, 2, 2), "epochs": 1, "epoch_steps": 2, "batch": 6, "device": "cpu",
}  # fmt: skip


def made_up(patients: int = 24, types: tuple[int, ...] = (0, 1, 2)) -> list[Disc]:
    """Discs of as many levels as types; 1 bright on T2, 2 bright on both."""
    rng, discs = np.random.default_rng(0), []
    for patient in range(patients):
        for level, label in zip(("L3/L4", "L4/L5", "L5/S1"), types, strict=False):
            t1, t2 = rng.normal(1, 0.05, (2, 1, SIDE, SIDE)).astype(np.float32)
            t1[:, 14:18] += label == 2
            t2[:, 14:18] += label > 0
            geometry = DiscGeometry(SIDE / 2, 0.22, 0.0)
            discs.append(Disc({"t1": t1, "t2": t2}, label, level, f"Doe^{patient}", "archive", geometry, 0))
    return discs


@pytest.fixture
def discs(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Disc]], None]:
    """Makes `prepare` read these discs."""

    def use(some: list[Disc]) -> None:
        monkeypatch.setattr(folder, "read_discs", lambda design, say: some)

    use(made_up())
    return use


def tiny(out: Path, **options: Any) -> Design:
    return design_from({**TINY, "out": out, **options})


def test_folds_keep_patients_together_and_hold_every_type() -> None:
    rng = np.random.default_rng(0)
    patients, labels = np.repeat(np.arange(60), 6), rng.choice(3, 360, p=(0.7, 0.1, 0.2))
    split = split_patients(labels, patients, repeats=3, folds=5, seed=0)
    for repeat in range(3):
        for number in range(5):
            parts = split.parts(repeat, number)
            assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(360))
            names = [set(patients[rows].tolist()) for rows in parts.values()]
            assert sum(map(len, names)) == 60, "no patient is in two parts"
            assert all(set(labels[rows]) == {0, 1, 2} for rows in parts.values())
            share = (labels[parts["test"]] == 0).mean()
            assert share == pytest.approx((labels == 0).mean(), abs=0.08), "stratified"
    assert (split.test_fold[0] != split.test_fold[1]).any()
    again = split_patients(labels, patients, repeats=3, folds=5, seed=0)
    assert (again.test_fold == split.test_fold).all() and (again.stop == split.stop).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0] * 60, "one Modic type only"),
        ([1] * 3 + [0] * 57, "MC1: discs of 3 patients only, fewer than the 5 folds; .*--folds 3"),
        ([1] + [0] * 59, "MC1: discs of 1 patients only.*label more MC1"),
    ],
)
def test_what_cannot_be_divided_is_said_with_the_cure(labels: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split_patients(np.array(labels), np.arange(60), repeats=1, folds=5, seed=0)


def test_a_type_too_rare_for_every_part_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modic.experiment.split.TRIES", 1)
    labels = np.array([1] * 5 + [0] * 55)
    with pytest.raises(UsageError, match=r"repeat 1: fold \d holds no disc of MC1 to decide when to stop.*label more"):
        for seed in range(20):  # some divisions succeed by luck, which is why there are several tries
            split_patients(labels, np.arange(60), repeats=1, folds=5, seed=seed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 3}, "unknown key `colour`; known here: batch, data, depth"),
        ({"profile": "fast"}, "no profile of a study is called fast; known: full, quick"),
        ({"folds": 1}, "at least 1 repeat and 2 folds"),
        ({"normalizations": ("none",)}, "at least two"),
        ({"normalizations": ("none", "none")}, "at least two different ones of none, standardize, clahe, gamma"),
        (
            {"normalizations": ("none", "zscore")},
            "options of the study: normalizations: 1: must be 'none', 'standardize', 'clahe' or 'gamma', not 'zscore'",
        ),
        ({"epochs": "many"}, "options of the study: epochs must be int, not str"),
        ({"slices": 4}, "odd number"),
    ],
)
def test_a_design_that_makes_no_study_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny(tmp_path, **options)


def test_the_full_design_is_the_papers_and_a_smaller_one_says_how_far_it_is(tmp_path: Path) -> None:
    full = design_from({"data": ["synthetic=912"], "out": str(tmp_path)})
    assert len(full.every_fold) == 4 * 10 * 5 and full.distance() == []
    assert design_from(json.loads(json.dumps(as_plain(full)))) == full
    quick = design_from({"data": ["synthetic=912"], "out": str(tmp_path), "profile": "quick"})
    assert "repeats: 2 (full: 10)" in quick.distance()
    assert quick.training(Fold("clahe", 1, 3), classes=(0, 2), n_train=100, out=tmp_path).seed == 1003


def test_wrong_data_stop_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert main(["study", "normalization", "--out", str(tmp_path / "study"), *arguments]) == 2
        return capsys.readouterr().err

    assert "synthetic=many: give a number of patients" in refused("--data", "synthetic=many")
    assert "hospital=x" in refused("--data", "hospital=x")
    labels = tmp_path / "labels.csv"
    labels.write_text("patient_id,level,mc\n1,L9/S4,0\n")
    (tmp_path / "slices").mkdir()
    (tmp_path / "slices" / "2_t1.png").write_bytes(b"")
    source = f"slices={tmp_path / 'slices'}"
    assert re.search(r"labels.csv line 2: level 'L9/S4' is none", refused("--data", source, "--labels", str(labels)))
    labels.write_text("patient_id,level,mc\n1,L5/S1,0\n")
    said = refused("--data", source, "--labels", str(labels))
    assert "nothing to train on" in said and "1 labels without images; check the spelling" in said
    assert "cannot be read" in refused("--data", source, "--labels", str(tmp_path / "none.csv"))
    assert not list(tmp_path.glob("study/shards/*"))


def test_a_folder_holds_one_study(tmp_path: Path, discs: Callable[[list[Disc]], None]) -> None:
    out = tmp_path / "study"
    folder.prepare(tiny(out))
    assert folder.prepare(tiny(out, device="auto")).patients == 24, "the device may change"
    with pytest.raises(UsageError, match=r"other options \(seed was 0, now 7"):
        folder.prepare(tiny(out, seed=7))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty and not a study"):
        folder.prepare(tiny(tmp_path / "thesis"))
    with folder.locked(tiny(out)), pytest.raises(UsageError, match="another run"), folder.locked(tiny(out)):
        pass


def test_a_finished_fold_is_never_trained_again_and_patients_are_numbers(
    tmp_path: Path, discs: Callable[[list[Disc]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = folder.prepare(tiny(tmp_path / "study"))
    first = study.design.every_fold[0]
    fold.train_fold(str(study.design.out), first, "cpu")
    path = folder.fold_path(study.design.out, first)
    written = path.stat().st_mtime_ns
    monkeypatch.setattr(fold, "predictions", lambda *_: pytest.fail("trained twice"))
    fold.train_fold(str(study.design.out), first, "cpu")
    assert path.stat().st_mtime_ns == written
    assert folder.unfinished(study.design) == list(study.design.every_fold[1:])
    table = pq.read_table(path)
    assert set(table["fold"].to_pylist()) == {1} and "Doe^" not in str(table.to_pylist())
    assert all(field.metadata[b"description"] for field in table.schema)
    assert not list((study.design.out / "private" / "work").iterdir())
    assert (study.design.out / "private").stat().st_mode & 0o777 == 0o700


def finish(study: folder.Study, quality: dict[str, float], never: int | None = None) -> None:
    """Write the file of every fold, predicted with the given share right, and one type never, instead of trained."""
    for each in study.design.every_fold:
        rng = np.random.default_rng([each.repeat, each.fold, len(each.normalization)])
        rows = study.split.parts(each.repeat, each.fold)["test"]
        logits = rng.normal(0, 0.1, (len(rows), 3))
        right = rng.random(len(rows)) < quality[each.normalization]
        labels = study.labels[rows]
        wrong = rng.choice([k for k in study.classes], len(rows))
        logits[np.arange(len(rows)), np.where(right, labels, wrong)] += 3
        logits[:, [] if never is None else never] = -9
        p = fold.probabilities(logits, study.classes)
        costs = {"epochs": 3, "best_epoch": 2, "minutes": 0.5, "n_train": 9}
        made = {"modic": "0.1", "torch": "2.99", "device": "NVIDIA Z9" if each.fold else "CPU"}
        costs |= {"trained_with": json.dumps(made)}
        table = [fold.prediction_row(study, each, int(i), row) | costs for i, row in zip(rows, p, strict=True)]
        columns = fold.PREDICTIONS | fold.COSTS | fold.VERSIONS
        write_rows(folder.fold_path(study.design.out, each), table, columns)


def test_report_and_tables_say_what_holds(tmp_path: Path, discs: Callable[[list[Disc]], None]) -> None:
    discs(made_up(90))
    names = ("none", "standardize", "clahe", "gamma")
    study = folder.prepare(tiny(tmp_path / "study", repeats=3, folds=5, normalizations=names))
    finish(study, {"none": 0.4, "standardize": 0.9, "clahe": 0.88, "gamma": 0.88})
    outcome = write_study(study.design.out)
    assert "standardization above no normalization" in outcome.answer
    folds, oof, pairs = (
        pq.read_table(study.design.out / f"{name}.parquet") for name in ("folds", "out_of_fold", "comparisons")
    )
    for table in (folds, oof, pairs):
        assert all(field.metadata[b"description"] for field in table.schema)
    keys = [tuple(row[k] for k in ("normalization", "repeat", "fold", "metric", "which")) for row in folds.to_pylist()]
    assert len(keys) == len(set(keys))
    assert len(oof) == 4 * 3 * 270
    each = oof.group_by(["normalization", "repeat", "region"]).aggregate([("fold", "count")])
    assert len(each) == len(oof), "each region is predicted once a repeat"
    rows = {(r["a"], r["b"]): r for r in pairs.to_pylist() if r["metric"] == "balanced accuracy"}
    assert len(rows) == 6
    assert rows["none", "standardize"]["verdict"] == results.SURVIVES
    assert rows["none", "standardize"]["p_worse"] > 0.95
    assert rows["none", "standardize"]["bootstrap_high"] < 0
    assert all(r["p_corrected_holm"] >= r["p_corrected"] >= r["p_t"] for r in pairs.to_pylist())
    page, text = (outcome.page.read_text(), (study.design.out / "report.md").read_text())
    assert "of 90 synthetic patients, by 3 × 5-fold" in text
    for said in ("Not the full design", "0.83", "Table 1", "Confusion matrices", "Methods, to paste", "survives",
                 "PyTorch 2.99 (CPU), and with modic 0.1 and PyTorch 2.99 (NVIDIA Z9)"):  # fmt: skip
        assert said in page and said in text
    assert "<svg" in page and (study.design.out / "figure2.svg").read_text().startswith("<svg")
    assert "Doe^" not in page + text + str(oof.to_pylist()[:50])


def test_a_type_that_is_never_graded_has_no_share_of_right_grades(
    tmp_path: Path, discs: Callable[[list[Disc]], None]
) -> None:
    study = folder.prepare(tiny(tmp_path / "study"))
    finish(study, {"none": 0.7, "standardize": 0.8}, never=2)
    write_study(study.design.out)
    page = (study.design.out / "report.md").read_text()
    (line,) = re.findall(r"^\| MC0 80.0%, .* \| none \|.*$", page, re.MULTILINE)
    assert line.endswith("| 0.0% | " + " | ".join(line.split(" | ")[-3:-1]) + " | – |")
    assert re.search(r"\bnan\b", page) is None


def test_table_1_shows_both_designs_and_the_detector_of_the_study(tmp_path: Path) -> None:
    numbers = {"iou": 0.714, "score": 0.93, "named_right": None}
    results = {"spider, test patients": dict.fromkeys(LEVELS, numbers)}
    card = {"kind": "detector", "architecture": {}, "preprocessing": {"image_size": 64, "percentiles": [1, 99]}}
    mine = save_weights(tmp_path / "mine.safetensors", {}, card | {"results": results})
    shipped = report.table_1().tables[0]
    assert shipped.header[0] == "level" and shipped.header[-2:] == ("paper: IoU", "paper: confidence")
    assert shipped.header[1] == "shipped: spider, test patients: IoU"
    assert report.table_1("detector").tables[0].header == shipped.header, "once, though it boxed the discs too"
    assert report.table_1(str(tmp_path / "gone.safetensors")).tables[0].header == shipped.header
    table = report.table_1(str(mine)).tables[0]
    at = table.header.index("this study's: spider, test patients: IoU")
    assert [row[0] for row in table.rows] == list(LEVELS)
    assert all(row[at : at + 3] == ("0.71", "0.93", "–") for row in table.rows)
    assert [row[-2] for row in table.rows] == ["0.70", "0.80", "0.78", "0.81", "0.82", "0.81"]


def test_a_difference_that_only_uncorrected_tests_find_does_not_survive() -> None:
    row = {"p_t": 0.001, "p_wilcoxon": 0.002, "p_corrected_holm": 0.2}
    assert results.verdict(row) == results.FALLS
    assert results.verdict(row | {"p_corrected_holm": 0.01}) == results.SURVIVES
    assert results.verdict(row | {"p_t": 0.5, "p_wilcoxon": 0.4}) == results.NONE


def test_a_study_without_type_1_says_so_and_a_stopped_one_is_reported(
    tmp_path: Path, discs: Callable[[list[Disc]], None]
) -> None:
    discs(made_up(40, (0, 2)))
    study = folder.prepare(tiny(tmp_path / "study", repeats=2))
    with pytest.raises(UsageError, match="no fold is finished"):
        write_study(study.design.out)
    finish(study, {"none": 0.7, "standardize": 0.8})
    folder.fold_path(study.design.out, study.design.every_fold[-1]).unlink()
    outcome = write_study(study.design.out)
    assert any("no MC1" in one for one in outcome.warnings)
    assert any("7 of 8" in one or "6 of 8" in one for one in outcome.warnings)
    oof = pq.read_table(study.design.out / "out_of_fold.parquet")
    assert oof["p_mc1"].null_count == len(oof)
    assert len(set(zip(oof["repeat"].to_pylist(), oof["fold"].to_pylist(), strict=True))) == 3
    whichs = set(pq.read_table(study.design.out / "folds.parquet")["which"].to_pylist())
    assert not any(which.startswith("MC1") for which in whichs)


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_trains_what_is_missing_and_a_second_run_nothing(
    tmp_path: Path, discs: Callable[[list[Disc]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.study import normalization_study

    design, cluster = as_plain(tiny(tmp_path / "study")), tmp_path / "one.yaml"
    cluster.write_text(json.dumps({"cluster_kwargs": {"n_workers": 1}}))
    study = folder.prepare(tiny(tmp_path / "study"))
    fold.train_fold(str(study.design.out), study.design.every_fold[0], "cpu")
    kept = folder.fold_path(study.design.out, study.design.every_fold[0])
    written = kept.stat().st_mtime_ns
    first = normalization_study(design, cluster=str(cluster))
    assert (first["folds"], first["trained_now"]) == (4, 3)
    assert kept.stat().st_mtime_ns == written
    assert Path(first["report"]).is_file()
    monkeypatch.setattr("flows.clusters.connect", None)  # nothing to train starts no worker
    assert normalization_study(design)["trained_now"] == 0


@pytest.mark.usefixtures("prefect_server")
def test_a_killed_study_goes_on_from_its_finished_folds(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(json.dumps({"cluster_kwargs": {"n_workers": 1}}))
    options = {
        "data": "synthetic=60", "repeats": 3, "folds": 2, "normalizations": "none,standardize", "region-size": 16,
        "slices": 1, "widths": "2,2,2,2", "epochs": 1, "epoch-steps": 2, "batch": 6,
        "cluster": str(tmp_path / "one.yaml"),
    }  # fmt: skip
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def study(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "modic", "study", "normalization", "--out", str(out), *given]
        with (tmp_path / "said.txt").open("a") as said:
            return subprocess.Popen(command, stdout=said, stderr=said, text=True, start_new_session=True, cwd=tmp_path)

    def finished(out: Path) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in out.glob("shards/*.parquet")}

    out, deadline = tmp_path / "killed", time.monotonic() + 300
    run = study(out)
    while not finished(out):
        assert time.monotonic() < deadline and run.poll() is None, (tmp_path / "said.txt").read_text()
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(timeout=60)
    kept = finished(out)
    assert 0 < len(kept) < 12
    assert study(out).wait(timeout=300) == 0, (tmp_path / "said.txt").read_text()
    assert len(finished(out)) == 12
    assert kept.items() <= finished(out).items(), "a finished fold was trained again"
    undisturbed = folder.prepare(design_from({**_plain(options), "out": tmp_path / "undisturbed"}))
    for each in undisturbed.design.every_fold:
        fold.train_fold(str(undisturbed.design.out), each, "cpu")
        ours, theirs = (
            pq.read_table(folder.fold_path(where, each)).drop_columns(["minutes"])
            for where in (out, undisturbed.design.out)
        )
        assert ours.equals(theirs)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Of the command line's options the design's."""
    plain = {name.replace("-", "_"): value for name, value in options.items() if name != "cluster"}
    lists = {"data": ("synthetic=60",), "normalizations": ("none", "standardize"), "widths": (2, 2, 2, 2)}
    return plain | lists


@pytest.mark.parametrize(("study", "types"), [("spider", (0, 2)), ("synthetic", (0, 1, 2))])
def test_the_guide_says_what_the_committed_tables_hold(study: str, types: tuple[int, ...]) -> None:
    root = Path(__file__).parents[3]
    guide = (root / "modic" / "experiment" / "README.md").read_text(encoding="utf-8")
    folds = pq.read_table(root / "tests" / "studies" / study / "folds.parquet").to_pylist()
    assert len({(row["normalization"], row["repeat"], row["fold"]) for row in folds}) == 200

    def mean_sd(name: str, metric: str, which: str) -> tuple[str, str]:
        values = [r["value"] for r in folds if (r["normalization"], r["metric"], r["which"]) == (name, metric, which)]
        return f"{np.mean(values):.3f}", f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"

    for name in ("none", "standardize", "clahe", "gamma"):
        found = [mean_sd(name, "sensitivity", f"MC{k}") for k in types]
        sensitivities = ", ".join(short for short, _ in found) if len(types) == 3 else " | ".join(s for _, s in found)
        rest = (mean_sd(name, "balanced accuracy", "all")[1], mean_sd(name, "F1", "weighted")[1])
        said = rf"\| {name} \| {re.escape(sensitivities)} \| {re.escape(rest[0])} \(0...\) \| {re.escape(rest[1])} \("
        assert re.search(said, guide), said
